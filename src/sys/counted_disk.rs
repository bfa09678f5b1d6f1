//! A disk that counts what is written and synced; everything else goes through.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::base::metrics::Metrics;
use crate::sys::disk::{DirItem, Disk, DiskFile, FileStat, Open};

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
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
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
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.disk.free_bytes(path)
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
