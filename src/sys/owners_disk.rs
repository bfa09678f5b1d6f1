//! The real disk for commands beside a server: what root makes in another user's home belongs to that user, whose server could not
//! read it otherwise.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};

use crate::sys::disk::{DirItem, Disk, DiskDir, DiskFile, FileStat, Lock, Locked, Open, RealDisk, RealFile};

/// The real disk; new files and directories belong to one user.
///
/// Only what it made itself is given away, through the descriptor it was made with, and nothing is written through a link: what this user
/// put there beforehand moves root's hand nowhere else.
#[derive(Debug, Clone, Copy)]
pub struct OwnersDisk {
    /// Nobody, where what this process makes is that user's anyway.
    owner: Option<Owner>,
}

#[derive(Debug, Clone, Copy)]
struct Owner {
    user: u32,
    group: u32,
}

impl OwnersDisk {
    /// For what lies in this directory, as its owner, or where it is not there, that of the nearest one above. The real disk as it is,
    /// where this process is not root's, or the directory is root's.
    pub fn of(dir: &Path) -> Self {
        let there = dir.ancestors().find_map(|dir| fs::metadata(dir).ok()).filter(|_| rustix::process::geteuid().is_root());
        let other = |meta: fs::Metadata| (meta.uid() != 0).then(|| Owner { user: meta.uid(), group: meta.gid() });
        Self { owner: there.and_then(other) }
    }

    /// A file that was not there before, of its owner.
    fn made(path: &Path, owner: Owner) -> io::Result<File> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        given(&file, owner).inspect_err(|_| drop(fs::remove_file(path)))?;
        Ok(file)
    }

    /// Makes a file that is to be locked, where it is not there.
    fn make_lock(&self, path: &Path) -> io::Result<()> {
        match self.owner.map(|owner| Self::made(path, owner)) {
            Some(Err(e)) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
            _ => Ok(()),
        }
    }
}

fn given(made: impl AsFd, owner: Owner) -> io::Result<()> {
    fchown(made, Some(owner.user), Some(owner.group))
}

impl Disk for OwnersDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        let (Some(owner), Open::Append | Open::CreateNew) = (self.owner, how) else { return RealDisk.open(path, how) };
        match Self::made(path, owner) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && how == Open::Append => {
                let found = open(path, OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
                Ok(Box::new(RealFile(found.into())))
            }
            made => Ok(Box::new(RealFile(made?))),
        }
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        RealDisk.exchange(one, other)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_file(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_dir(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let Some(owner) = self.owner else { return RealDisk.create_dir(path) };
        DirBuilder::new().mode(0o700).create(path)?;
        let made = open(path, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        given(made, owner)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<DirItem>> {
        RealDisk.list(path)
    }
    fn stat(&self, path: &Path) -> io::Result<Option<FileStat>> {
        RealDisk.stat(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync_dir(path)
    }
    fn sync_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync_all(path)
    }
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        RealDisk.free_bytes(path)
    }
    /// What is made through it is this process's own: commands only read and remove there.
    fn open_dir(&self, path: &Path) -> io::Result<Box<dyn DiskDir>> {
        RealDisk.open_dir(path)
    }
    fn try_lock(&self, path: &Path) -> io::Result<Locked> {
        self.make_lock(path)?;
        RealDisk.try_lock(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Lock> {
        self.make_lock(path)?;
        RealDisk.lock(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::disk::read_whole;

    struct Dir(std::path::PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("oxios-owners-{name}-{}", std::process::id()));
            fs::create_dir(&dir).unwrap();
            Self(dir)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// The owner's own hand, were this root's: no test needs to be root to see where bytes go.
    fn disk() -> OwnersDisk {
        OwnersDisk { owner: Some(Owner { user: rustix::process::geteuid().as_raw(), group: rustix::process::getegid().as_raw() }) }
    }

    #[test]
    fn what_is_there_is_opened_and_what_is_not_is_made_for_its_owner_alone() {
        let dir = Dir::new("made");
        let (disk, path) = (disk(), dir.0.join("file"));
        disk.open(&path, Open::Append).unwrap().append(b"one").unwrap();
        disk.open(&path, Open::Append).unwrap().append(b" two").unwrap();
        assert_eq!(read_whole(&disk, &path, 100).unwrap(), b"one two");
        assert_eq!(disk.open(&path, Open::CreateNew).err().unwrap().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let beneath = dir.0.join("beneath");
        disk.create_dir(&beneath).unwrap();
        assert_eq!(fs::metadata(&beneath).unwrap().mode() & 0o777, 0o700);
        let lock = dir.0.join("lock");
        drop(disk.lock(&lock).unwrap());
        assert!(matches!(disk.try_lock(&lock).unwrap(), Locked::Ours(_)));
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let dir = Dir::new("links");
        let (target, link) = (dir.0.join("elsewhere"), dir.0.join("keys.json.new"));
        std::os::unix::fs::symlink(&target, &link).unwrap();
        for how in [Open::Append, Open::CreateNew] {
            assert!(disk().open(&link, how).is_err(), "to nothing");
            assert!(!target.exists());
        }
        fs::write(&target, "kept").unwrap();
        assert!(disk().open(&link, Open::Append).is_err(), "to a file");
        assert_eq!(fs::read(&target).unwrap(), b"kept");
    }
}
