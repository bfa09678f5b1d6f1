//! A disk for cards that wear out: what is appended to logs becomes durable together, every few seconds, instead of one record after
//! the other when the store asks for it. What it gives away is said at `session.sync_secs`: a power cut takes back what was appended
//! since the last time. A process that is killed loses nothing, what it wrote is with the system.
//!
//! A log begins durably all the same, and so do all other files and names: whatever is found after a power cut, its beginning is there.
//!
//! Where making durable fails in the background, the next who asks waits for a real sync and gets its error, as without this disk.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sys::disk::{DirItem, Disk, DiskDir, DiskFile, FileStat, Lock, Locked, Open};

/// Before another disk.
pub struct DelayedDisk {
    disk: Arc<dyn Disk>,
    /// Only logs that lie directly in one of these wait.
    dirs: Vec<PathBuf>,
    owed: Arc<Owed>,
}

/// What is not durable yet.
#[derive(Default)]
struct Owed {
    something: AtomicBool,
    /// The last attempt failed.
    failing: AtomicBool,
}

impl DelayedDisk {
    /// Before `disk`, for `*.log` directly in `dirs`, which are on one file system.
    pub fn new(disk: Arc<dyn Disk>, dirs: Vec<PathBuf>) -> Self {
        Self { disk, dirs, owed: Arc::default() }
    }

    /// Makes durable what waits. Blocks; costs nothing where nothing waits.
    ///
    /// # Errors
    /// What the system says; it is tried again the next time.
    pub fn settle(&self) -> io::Result<()> {
        if !self.owed.something.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let settled = self.dirs.first().map_or(Ok(()), |dir| self.disk.sync_all(dir));
        self.owed.failing.store(settled.is_err(), Ordering::Release);
        if settled.is_err() {
            self.owed.something.store(true, Ordering::Release);
        }
        settled
    }
}

impl Disk for DelayedDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        let file = self.disk.open(path, how)?;
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_new = name.ends_with(".log.new");
        if !(is_new || name.ends_with(".log")) || !self.dirs.iter().any(|dir| path.parent() == Some(dir)) {
            return Ok(file);
        }
        Ok(Box::new(DelayedFile { file, owed: self.owed.clone(), is_new: AtomicBool::new(is_new) }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        self.disk.exchange(one, other)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<DirItem>> {
        self.disk.list(path)
    }
    fn stat(&self, path: &Path) -> io::Result<Option<FileStat>> {
        self.disk.stat(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path)
    }
    fn sync_all(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_all(path)
    }
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.disk.free_bytes(path)
    }
    fn open_dir(&self, path: &Path) -> io::Result<Box<dyn DiskDir>> {
        self.disk.open_dir(path)
    }
    fn try_lock(&self, path: &Path) -> io::Result<Locked> {
        self.disk.try_lock(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Lock> {
        self.disk.lock(path)
    }
}

struct DelayedFile {
    file: Box<dyn DiskFile>,
    owed: Arc<Owed>,
    /// It has not got its name yet, and gets it when its content is durable.
    is_new: AtomicBool,
}

impl DiskFile for DelayedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(bytes, offset)
    }
    fn sync(&self) -> io::Result<()> {
        if self.is_new.swap(false, Ordering::AcqRel) || self.owed.failing.load(Ordering::Acquire) {
            return self.file.sync();
        }
        self.owed.something.store(true, Ordering::Release);
        Ok(())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::memory_disk::MemoryDisk;

    const DIR: &str = "/home/logs";

    fn on(disk: Arc<dyn Disk>) -> DelayedDisk {
        let disk = DelayedDisk::new(disk, vec![DIR.into()]);
        for dir in ["/home", DIR, "/home/logs/deeper"] {
            disk.create_dir(Path::new(dir)).unwrap();
        }
        disk.sync_all(Path::new(DIR)).unwrap();
        disk
    }

    #[test]
    fn what_is_appended_to_a_log_is_durable_when_it_was_settled_and_the_rest_at_once() {
        let memory = MemoryDisk::default();
        let disk = on(Arc::new(memory.clone()));
        let paths = ["/home/logs/a.log", "/home/b.log", "/home/logs/c.json", "/home/logs/deeper/d.log"];
        let files = paths.map(|path| {
            let file = disk.open(Path::new(path), Open::Append).unwrap();
            file.write_at(b"x", 0).unwrap();
            file.sync().unwrap();
            disk.sync_dir(Path::new(path).parent().unwrap()).unwrap();
            file
        });
        let lengths = |memory: &MemoryDisk| paths.map(|path| memory.open(Path::new(path), Open::Read).unwrap().len().unwrap());
        assert_eq!(lengths(&memory.power_cut()), [0, 1, 1, 1]);
        assert_eq!(lengths(&memory.killed()), [1, 1, 1, 1], "with the system it is at once");
        disk.settle().unwrap();
        assert_eq!(lengths(&memory.power_cut()), [1, 1, 1, 1]);
        drop(files);
    }

    #[test]
    fn a_log_has_its_beginning_before_its_name() {
        let memory = MemoryDisk::default();
        let disk = on(Arc::new(memory.clone()));
        let file = disk.open(Path::new("/home/logs/a.log.new"), Open::Append).unwrap();
        file.write_at(b"x", 0).unwrap();
        file.sync().unwrap();
        disk.rename(Path::new("/home/logs/a.log.new"), Path::new("/home/logs/a.log")).unwrap();
        disk.sync_dir(Path::new(DIR)).unwrap();
        file.write_at(b"y", 1).unwrap();
        file.sync().unwrap();
        let left = memory.power_cut().open(Path::new("/home/logs/a.log"), Open::Read).unwrap().len().unwrap();
        assert_eq!(left, 1);
    }

    #[test]
    fn where_settling_fails_whoever_asks_next_gets_the_error() {
        let faults = crate::sys::fault_disk::FaultDisk::before(Arc::new(MemoryDisk::default()));
        let disk = on(Arc::new(faults.clone()));
        let file = disk.open(Path::new("/home/logs/a.log"), Open::Append).unwrap();
        file.sync().unwrap();
        faults.fail_syncs(2);
        disk.settle().unwrap_err();
        file.sync().unwrap_err();
        // Good again: what was owed is paid, and the next ones wait as before.
        let before = faults.syncs();
        disk.settle().unwrap();
        assert_eq!(faults.syncs(), before + 1);
        file.sync().unwrap();
        file.sync().unwrap();
        assert_eq!(faults.syncs(), before + 1);
        disk.settle().unwrap();
        disk.settle().unwrap();
        assert_eq!(faults.syncs(), before + 2, "nothing is owed, nothing is synced");
    }
}
