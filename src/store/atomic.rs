//! Replacing a whole file so that a crash leaves the old one or the new one, never a mixture; removing one, and making
//! directories, so that it lasts.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use crate::sys::disk::{Disk, DiskFile, Open};

/// Whether the new content must survive a power cut when the call returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durable {
    /// Content and name are synced.
    Yes,
    /// The system writes them when it likes; for files that can be made again.
    No,
}

/// Replaces (or makes) the file at `path`: writes `<path>.new`, syncs it, renames it, syncs the directory.
///
/// After a crash of the process or the machine:
/// - before the rename: the old file; a `<path>.new` may lie beside it and is overwritten by the next call;
/// - after the rename, before the directory is synced: the old or the new file, each whole;
/// - after the call returned with [`Durable::Yes`]: the new file.
///
/// With [`Durable::No`] a killed process leaves the same, but a power cut may also leave an empty or partial new file: only for
/// files whose readers check them. One writer per path.
pub fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8], durable: Durable) -> io::Result<()> {
    renamed(disk, path, bytes, durable)?;
    match (durable, path.parent()) {
        (Durable::Yes, Some(dir)) => disk.sync_dir(dir),
        _ => Ok(()),
    }
}

/// The first half of a durable [`replace`]: the content is, the name is not until whoever keeps the directory syncs it. Gives the
/// file.
pub(crate) fn put(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<Box<dyn DiskFile>> {
    renamed(disk, path, bytes, Durable::Yes)
}

/// [`put`] for many files of one directory, with one sync of everything instead of one for each. After an error any of them may be
/// there.
pub(crate) fn put_all(disk: &dyn Disk, dir: &Path, files: &[PathBuf], bytes: &[u8]) -> io::Result<()> {
    let written = || {
        for path in files {
            let file = disk.open(&beside(path), Open::Append)?;
            file.set_len(0)?;
            file.write_at(bytes, 0)?;
        }
        disk.sync_all(dir)?;
        files.iter().try_for_each(|path| disk.rename(&beside(path), path))
    };
    written().inspect_err(|_| files.iter().for_each(|path| drop(disk.remove_file(&beside(path)))))
}

fn renamed(disk: &dyn Disk, path: &Path, bytes: &[u8], durable: Durable) -> io::Result<Box<dyn DiskFile>> {
    let beside = beside(path);
    let written = || {
        let file = disk.open(&beside, Open::Append)?;
        file.set_len(0)?;
        file.write_at(bytes, 0)?;
        if durable == Durable::Yes {
            file.sync()?;
        }
        disk.rename(&beside, path)?;
        Ok(file)
    };
    // What is left there only takes space, and space may be what is missing.
    written().inspect_err(|_| drop(disk.remove_file(&beside)))
}

/// Removes a file; it stays removed over a power cut when this returns. None is fine.
pub fn remove(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
        Ok(()) => path.parent().map_or(Ok(()), |dir| disk.sync_dir(dir)),
    }
}

/// Makes a directory and those above it (0700) where they are missing; the names of those it made are durable when it returns.
pub fn make_dir(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    if disk.stat(path)?.is_some() {
        return Ok(());
    }
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    if let Some(above) = above {
        make_dir(disk, above)?;
    }
    match disk.create_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        done => done?,
    }
    above.map_or(Ok(()), |above| disk.sync_dir(above))
}

fn beside(path: &Path) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::Bench;

    #[test]
    fn stopped_at_any_call_the_file_is_the_old_or_the_new_one() {
        for torn in [0, 2] {
            for k in 0.. {
                let bench = Bench::new();
                std::fs::create_dir_all(&bench.dir).unwrap();
                let path = bench.dir.join("file");
                replace(&bench.disk, &path, b"old content", Durable::Yes).unwrap();
                bench.disk.tear(torn);
                bench.disk.stop_after(Some(k));
                let done = replace(&bench.disk, &path, b"new", Durable::Yes).is_ok();
                bench.disk.stop_after(None);
                let now = std::fs::read(&path).unwrap();
                assert!(now == b"new" || (!done && now == b"old content"), "stopped after {k}: {now:?}");
                replace(&bench.disk, &path, b"newest", Durable::No).unwrap();
                assert_eq!(std::fs::read(&path).unwrap(), b"newest");
                if done {
                    break;
                }
            }
        }
    }

    #[test]
    fn a_full_disk_leaves_the_old_file_and_nothing_beside_it() {
        let bench = Bench::new();
        std::fs::create_dir_all(&bench.dir).unwrap();
        let path = bench.dir.join("file");
        replace(&bench.disk, &path, b"old", Durable::Yes).unwrap();
        bench.disk.set_budget(Some(1));
        assert!(replace(&bench.disk, &path, b"new", Durable::Yes).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(&bench.dir).unwrap().count(), 1);
    }
}
