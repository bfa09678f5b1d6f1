//! A disk that counts what is written and synced; everything else goes through.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use crate::base::metrics::Metrics;
use crate::sys::disk::{DirItem, Disk, DiskDir, DiskFile, FileStat, Lock, Locked, Open};

/// Counts for the metrics.
pub struct CountedDisk {
    disk: Arc<dyn Disk>,
    metrics: Arc<Metrics>,
}

impl CountedDisk {
    /// Before this disk.
    pub fn new(disk: Arc<dyn Disk>, metrics: Arc<Metrics>) -> Self {
        Self { disk, metrics }
    }
}

impl Disk for CountedDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(CountedFile { file: self.disk.open(path, how)?, metrics: self.metrics.clone() }))
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
        self.metrics.syncs.one();
        self.disk.sync_dir(path)
    }
    fn sync_all(&self, path: &Path) -> io::Result<()> {
        self.metrics.syncs.one();
        self.disk.sync_all(path)
    }
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.disk.free_bytes(path)
    }
    fn open_dir(&self, path: &Path) -> io::Result<Box<dyn DiskDir>> {
        Ok(Box::new(CountedDir { dir: self.disk.open_dir(path)?, metrics: self.metrics.clone() }))
    }
    fn try_lock(&self, path: &Path) -> io::Result<Locked> {
        self.disk.try_lock(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Lock> {
        self.disk.lock(path)
    }
}

struct CountedDir {
    dir: Box<dyn DiskDir>,
    metrics: Arc<Metrics>,
}

impl DiskDir for CountedDir {
    fn open_dir(&self, path: &str) -> io::Result<Box<dyn DiskDir>> {
        Ok(Box::new(Self { dir: self.dir.open_dir(path)?, metrics: self.metrics.clone() }))
    }
    fn open_file(&self, name: &str) -> io::Result<(Box<dyn DiskFile>, FileStat)> {
        self.dir.open_file(name)
    }
    fn create_file(&self, name: &str, mode: u32) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(CountedFile { file: self.dir.create_file(name, mode)?, metrics: self.metrics.clone() }))
    }
    fn create_dir(&self, name: &str) -> io::Result<()> {
        self.dir.create_dir(name)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.dir.rename(from, to)
    }
    fn remove_file(&self, name: &str) -> io::Result<()> {
        self.dir.remove_file(name)
    }
    fn remove_dir(&self, name: &str) -> io::Result<()> {
        self.dir.remove_dir(name)
    }
    fn stat(&self, name: &str) -> io::Result<Option<FileStat>> {
        self.dir.stat(name)
    }
    fn list(&self, each: &mut dyn FnMut(&str, FileStat) -> ControlFlow<()>) -> io::Result<u64> {
        self.dir.list(each)
    }
    fn sync(&self) -> io::Result<()> {
        self.metrics.syncs.one();
        self.dir.sync()
    }
}

struct CountedFile {
    file: Box<dyn DiskFile>,
    metrics: Arc<Metrics>,
}

impl DiskFile for CountedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.metrics.bytes_written.add(bytes.len() as u64);
        self.file.write_at(bytes, offset)
    }
    fn sync(&self) -> io::Result<()> {
        self.metrics.syncs.one();
        self.file.sync()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}
