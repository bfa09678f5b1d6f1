//! A real directory held open: the kernel resolves every name beneath it.
//!
//! Every open is `openat2(2)` with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS`: a link anywhere on the way, also
//! one that is put there between two calls, is refused and not followed. A kernel without openat2 (before Linux 5.6), or a sandbox
//! that does not know it, opens one segment after the other beneath the descriptor of the one before (`O_NOFOLLOW`), with the same
//! outcome: no name ever goes through a link or upwards.
//! `O_NONBLOCK` and `O_NOCTTY` keep a FIFO or a device from blocking or capturing us. What makes, renames and removes acts on
//! (descriptor of the directory, one name), which never follows a link.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::base::time::Timestamp;
use crate::sys::disk::{DiskDir, DiskFile, FileStat, Kind, RealFile, about};

/// An open directory.
pub(super) struct RealDir(OwnedFd);

impl RealDir {
    /// Opens a directory that we choose; links to it are followed.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(path, flags, Mode::empty())?))
    }
}

impl DiskDir for RealDir {
    fn open_dir(&self, path: &str) -> io::Result<Box<dyn DiskDir>> {
        Ok(Box::new(Self(open_in(&self.0, path, OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty())?)))
    }
    fn open_file(&self, name: &str) -> io::Result<(Box<dyn DiskFile>, FileStat)> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(open_in(&self.0, name, flags, Mode::empty())?);
        let stat = about(&file.metadata()?);
        Ok((Box::new(RealFile(file)), stat))
    }
    fn create_file(&self, name: &str, mode: u32) -> io::Result<Box<dyn DiskFile>> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let file = File::from(open_in(&self.0, name, flags, Mode::RUSR | Mode::WUSR)?);
        // Said again, because the process's mask takes bits away.
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        Ok(Box::new(RealFile(file)))
    }
    fn create_dir(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::mkdirat(&self.0, name, Mode::RWXU)?)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.0, from, &self.0, to)?)
    }
    fn remove_file(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.0, name, AtFlags::empty())?)
    }
    fn remove_dir(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.0, name, AtFlags::REMOVEDIR)?)
    }
    fn stat(&self, name: &str) -> io::Result<Option<FileStat>> {
        match rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(of(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
    fn list(&self, each: &mut dyn FnMut(&str, FileStat) -> ControlFlow<()>) -> io::Result<u64> {
        let mut others = 0;
        for entry in Dir::read_from(&self.0)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else {
                others += 1;
                continue;
            };
            if matches!(name, "." | "..") {
                continue;
            }
            let stat = match self.stat(name) {
                Ok(Some(stat)) => stat,
                Ok(None) => continue,
                // One that is damaged must not take the others with it; its own opening will fail.
                Err(_) => FileStat {
                    kind: kind(entry.file_type()),
                    size: 0,
                    modified: Timestamp::default(),
                    modified_nanos: 0,
                    mode: 0,
                    owner: u32::MAX,
                    inode: entry.ino(),
                },
            };
            if each(name, stat).is_break() {
                break;
            }
        }
        Ok(others)
    }
    fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.0)?)
    }
}

fn open_in(dir: impl AsFd, path: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    // openat2(2): EAGAIN where a rename raced with the resolution; the caller of a system call asks again.
    for _ in 0..8 {
        match rustix::fs::openat2(&dir, OsStr::from_bytes(path.as_bytes()), flags | OFlags::CLOEXEC, mode, resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            // EPERM: sandboxes older than the call.
            Err(Errno::NOSYS | Errno::PERM) => return walk(dir.as_fd(), path, flags, mode),
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// The same without openat2: one segment at a time.
fn walk(dir: BorrowedFd<'_>, path: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    if path.split('/').any(|segment| segment.is_empty() || segment == "..") {
        return Err(if path.is_empty() { Errno::NOENT } else { Errno::XDEV });
    }
    let step = |at: BorrowedFd<'_>, name: &str, flags: OFlags| {
        let opened = rustix::fs::openat(at, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, mode);
        // Where a directory is wanted, a link is told as a thing that is none.
        let link = || rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| of(&stat).kind == Kind::Link);
        opened.map_err(|e| if e == Errno::NOTDIR && link() { Errno::LOOP } else { e })
    };
    let Some((above, name)) = path.rsplit_once('/') else { return step(dir, path, flags) };
    let mut held: Option<OwnedFd> = None;
    for segment in above.split('/') {
        let at = held.as_ref().map_or(dir, AsFd::as_fd);
        held = Some(step(at, segment, OFlags::PATH | OFlags::DIRECTORY)?);
    }
    step(held.as_ref().map_or(dir, AsFd::as_fd), name, flags)
}

fn kind(of: FileType) -> Kind {
    match of {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Dir,
        FileType::Symlink => Kind::Link,
        _ => Kind::Other,
    }
}

#[allow(clippy::unnecessary_fallible_conversions, clippy::useless_conversion, reason = "the fields' widths differ between targets")]
fn of(stat: &rustix::fs::Stat) -> FileStat {
    let kind = kind(FileType::from_raw_mode(stat.st_mode));
    let secs = u64::try_from(stat.st_mtime).unwrap_or(0);
    let nanos = u64::try_from(stat.st_mtime_nsec).unwrap_or(0);
    FileStat {
        kind,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        modified: Timestamp::from_millis(secs.saturating_mul(1000) + nanos / 1_000_000),
        modified_nanos: u32::try_from(nanos % 1_000_000).unwrap_or(0),
        mode: stat.st_mode & 0o777,
        owner: stat.st_uid,
        inode: stat.st_ino,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// THREATS 18, asked of both ways.
    #[test]
    fn an_older_kernel_refuses_what_a_newer_one_refuses() {
        let base = std::env::temp_dir().join(format!("oxios-walk-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&base);
        let root = base.join("root");
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::create_dir_all(base.join("outside/b")).unwrap();
        for file in ["root/a/b/file", "root/file", "outside/b/file", "outside/file"] {
            std::fs::write(base.join(file), file).unwrap();
        }
        symlink("../outside", root.join("out")).unwrap();
        symlink("a", root.join("in")).unwrap();
        symlink(base.join("outside/file"), root.join("a/link")).unwrap();
        symlink("nowhere", root.join("a/dangling")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, root.join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        let dir = RealDir::open(&root).unwrap().0;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let (file, folder) = (OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, OFlags::RDONLY | OFlags::DIRECTORY);
        let mut opened = 0;
        for path in [
            ".",
            "file",
            "a",
            "a/b",
            "a/b/file",
            "a/./b/file",
            "fifo",
            "none",
            "a/none",
            "none/file",
            "file/x",
            "out",
            "out/file",
            "out/b/file",
            "in",
            "in/b/file",
            "a/link",
            "a/link/x",
            "a/dangling",
            "..",
            "../outside/file",
            "a/../../outside/file",
            "/etc/passwd",
            "",
        ] {
            for flags in [file, folder] {
                let new = rustix::fs::openat2(&dir, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve);
                let old = walk(dir.as_fd(), path, flags, Mode::empty());
                let same = |fd: OwnedFd| (rustix::fs::fstat(&fd).unwrap().st_ino, rustix::fs::fcntl_getfl(&fd).unwrap() - OFlags::NOFOLLOW);
                let (new, old) = (new.map(same), old.map(same));
                opened += usize::from(new.is_ok());
                assert_eq!(old, new, "{path} with {flags:?}");
            }
        }
        assert_eq!(opened, 10, "what is there and lies beneath");
        std::fs::remove_dir_all(base).unwrap();
    }
}
