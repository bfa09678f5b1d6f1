//! Replacing a whole file or directory so that a crash leaves the old one or the new one, never a mixture; removing one, and making
//! directories, so that it lasts.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use crate::sys::disk::{Disk, DiskFile, Open, remove_all};
use crate::wire::path::RelPath;

/// The name beside a directory under which its successor is made; hidden, and fit for nothing else.
const SUCCESSOR: &str = ".new";
/// Directories within a directory that is replaced.
const DEPTH_MAX: usize = 64;

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
pub(crate) fn put_all<B: AsRef<[u8]>>(disk: &dyn Disk, dir: &Path, files: &[(PathBuf, B)]) -> io::Result<()> {
    let written = || {
        for (path, bytes) in files {
            let file = disk.open(&beside(path), Open::Append)?;
            file.set_len(0)?;
            file.write_at(bytes.as_ref(), 0)?;
        }
        disk.sync_all(dir)?;
        files.iter().try_for_each(|(path, _)| disk.rename(&beside(path), path))
    };
    written().inspect_err(|_| files.iter().for_each(|(path, _)| drop(disk.remove_file(&beside(path)))))
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

/// Replaces (or makes) the directory at `path` by one that holds these files: writes and syncs all of them in a directory beside
/// it, exchanges the two, syncs the directory above, removes what was replaced.
///
/// After a crash of the process or the machine at any point `path` is the old directory or the new one, each whole, and the new
/// one after the call has returned; `.new` may lie beside it and is removed by the next call there. One writer per directory
/// above.
///
/// # Errors
/// Kind `InvalidInput`, `Unsupported` or `CrossesDevices` where the file system cannot exchange directories; where there is no
/// old one, nothing is exchanged.
pub fn replace_dir(disk: &dyn Disk, path: &Path, files: &[(RelPath, Vec<u8>)]) -> io::Result<()> {
    let new = path.with_file_name(SUCCESSOR);
    remove_all(disk, &new, DEPTH_MAX)?;
    let swapped = write_dir(disk, &new, files).and_then(|()| match disk.stat(path)? {
        None => disk.rename(&new, path),
        Some(_) => disk.exchange(&new, path),
    });
    if let Err(e) = swapped {
        // What is left there only takes space, and space may be what is missing.
        let _ = remove_all(disk, &new, DEPTH_MAX);
        return Err(e);
    }
    if let Some(above) = path.parent() {
        disk.sync_dir(above)?;
    }
    // Only now: until the exchange is durable, a power cut may bring back what was replaced.
    let _ = remove_all(disk, &new, DEPTH_MAX);
    Ok(())
}

/// Makes a directory that holds these files, all of it durable but its own name.
fn write_dir(disk: &dyn Disk, dir: &Path, files: &[(RelPath, Vec<u8>)]) -> io::Result<()> {
    make_dir(disk, dir)?;
    let mut dirs = BTreeSet::from([dir.to_owned()]);
    for (name, bytes) in files {
        let path = dir.join(name.as_str());
        let within = path.ancestors().skip(1).take_while(|above| *above != dir);
        dirs.extend(within.map(Path::to_owned));
        if let Some(above) = path.parent() {
            make_dir(disk, above)?;
        }
        let file = disk.open(&path, Open::CreateNew)?;
        file.write_at(bytes, 0)?;
        file.sync()?;
    }
    // What lies deeper comes behind what it lies in.
    dirs.iter().rev().try_for_each(|dir| disk.sync_dir(dir))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::Bench;

    fn files(files: &[(&str, &str)]) -> Vec<(RelPath, Vec<u8>)> {
        files.iter().map(|(name, text)| (RelPath::parse(name).unwrap(), text.as_bytes().to_vec())).collect()
    }

    /// Every file beneath a directory, with its content.
    fn held(dir: &Path) -> Vec<(String, String)> {
        let mut all = Vec::new();
        let mut open = vec![dir.to_owned()];
        while let Some(next) = open.pop() {
            for entry in std::fs::read_dir(next).unwrap().flatten() {
                match entry.path() {
                    path if path.is_dir() => open.push(path),
                    path => all.push((path.strip_prefix(dir).unwrap().display().to_string(), std::fs::read_to_string(&path).unwrap())),
                }
            }
        }
        all.sort();
        all
    }

    #[test]
    fn stopped_at_any_call_a_directory_is_the_old_or_the_new_one() {
        let (old, new, newest) = (files(&[("a", "old"), ("sub/b", "old")]), files(&[("a", "new"), ("c/d/e", "new")]), files(&[("z", "z")]));
        let shown = |files: &[(RelPath, Vec<u8>)]| -> Vec<_> {
            files.iter().map(|(name, bytes)| (name.to_string(), String::from_utf8(bytes.clone()).unwrap())).collect()
        };
        for first in [true, false] {
            for k in 0.. {
                let bench = Bench::new();
                std::fs::create_dir_all(&bench.dir).unwrap();
                let path = bench.dir.join("dir");
                if !first {
                    replace_dir(&bench.disk, &path, &old).unwrap();
                }
                bench.disk.tear(1);
                bench.disk.stop_after(Some(k));
                let calls = bench.disk.calls();
                let done = replace_dir(&bench.disk, &path, &new).is_ok();
                let calls = bench.disk.calls() - calls;
                bench.disk.stop_after(None);
                let now = path.exists().then(|| held(&path));
                let before = if first { None } else { Some(shown(&old)) };
                assert!(now == Some(shown(&new)) || (!done && now == before), "stopped after {k}: {now:?}");
                replace_dir(&bench.disk, &path, &newest).unwrap();
                assert_eq!(held(&bench.dir), [("dir/z".to_owned(), "z".to_owned())], "nothing is left beside it");
                // It is done before what was replaced is gone: go on until no call was stopped.
                if calls <= k {
                    assert!(done && k > 10);
                    break;
                }
            }
        }
    }

    #[test]
    fn a_full_disk_or_one_that_cannot_exchange_leaves_the_old_directory_and_nothing_beside_it() {
        let bench = Bench::new();
        std::fs::create_dir_all(&bench.dir).unwrap();
        let path = bench.dir.join("dir");
        replace_dir(&bench.disk, &path, &files(&[("a", "old")])).unwrap();
        bench.disk.set_budget(Some(4));
        assert!(replace_dir(&bench.disk, &path, &files(&[("a", "new"), ("b", "new")])).is_err());
        bench.disk.set_budget(None);
        bench.disk.refuse_exchange();
        let refused = replace_dir(&bench.disk, &path, &files(&[("a", "new")])).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(held(&bench.dir), [("dir/a".to_owned(), "old".to_owned())]);
        assert_eq!(std::fs::read_dir(&bench.dir).unwrap().count(), 1);
        replace_dir(&bench.disk, &bench.dir.join("other"), &files(&[("a", "new")])).unwrap();
    }

    #[test]
    fn links_beneath_what_is_replaced_are_removed_and_not_followed() {
        let bench = Bench::new();
        std::fs::create_dir_all(bench.dir.join("dir")).unwrap();
        std::fs::create_dir_all(bench.dir.join("far")).unwrap();
        std::fs::write(bench.dir.join("far/kept"), "kept").unwrap();
        std::os::unix::fs::symlink(bench.dir.join("far"), bench.dir.join("dir/link")).unwrap();
        std::os::unix::fs::symlink(bench.dir.join("far"), bench.dir.join(SUCCESSOR)).unwrap();
        replace_dir(&bench.disk, &bench.dir.join("dir"), &files(&[("a", "a")])).unwrap();
        assert_eq!(held(&bench.dir), [("dir/a".to_owned(), "a".to_owned()), ("far/kept".to_owned(), "kept".to_owned())]);
    }

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
