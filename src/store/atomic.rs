//! Replacing a whole file so that a crash leaves the old one or the new one, never a mixture.

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
    put(disk, path, bytes, durable)?;
    match (durable, path.parent()) {
        (Durable::Yes, Some(dir)) => disk.sync_dir(dir),
        _ => Ok(()),
    }
}

/// Makes the file at `path` whole and durable, and keeps it open. After an error there is none, as far as the disk lets us.
pub fn make(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<Box<dyn DiskFile>> {
    let file = put(disk, path, bytes, Durable::Yes)?;
    if let Some(Err(e)) = path.parent().map(|dir| disk.sync_dir(dir)) {
        let _ = disk.remove_file(path);
        return Err(e);
    }
    Ok(file)
}

/// Writes beside and renames.
fn put(disk: &dyn Disk, path: &Path, bytes: &[u8], durable: Durable) -> io::Result<Box<dyn DiskFile>> {
    let beside = beside(path);
    let written = (|| {
        let file = disk.open(&beside, Open::Append)?;
        file.set_len(0)?;
        file.write_at(bytes, 0)?;
        if durable == Durable::Yes {
            file.sync()?;
        }
        disk.rename(&beside, path)?;
        Ok(file)
    })();
    // What is left there only takes space, and space may be what is missing.
    written.inspect_err(|_| drop(disk.remove_file(&beside)))
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
