//! A disk for tests: the real one, which can be told to refuse space, to tear a write, to fail syncs, or to stop after any call
//! as a killed process would. It also counts.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::sys::disk::{DirItem, Disk, DiskFile, FileStat, Open, RealDisk};

/// The double. Clones share their state.
#[derive(Clone, Default)]
pub struct FaultDisk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Changing calls so far.
    calls: u64,
    /// Changing calls that still succeed; `None`: all.
    left: Option<u64>,
    /// Bytes of the call that stops which are still written.
    torn: usize,
    /// Bytes that may still be written; `None`: no limit.
    budget: Option<u64>,
    /// What `free_bytes` says; `None`: the truth.
    free: Option<u64>,
    /// Syncs that fail from now on.
    bad_syncs: u64,
    /// It is a file system that cannot exchange.
    no_exchange: bool,
    /// Syncs that were asked for.
    syncs: u64,
    /// Directories that were read.
    lists: u64,
    /// How often each file was opened, by name.
    opened: HashMap<PathBuf, u64>,
    /// Bytes read, bytes written.
    read: u64,
    written: u64,
}

impl FaultDisk {
    /// The real disk, so far.
    pub fn new() -> Self {
        Self::default()
    }
    /// Lets `calls` more changing calls through; all later ones fail and change nothing, as after a kill. `None` takes it back.
    pub fn stop_after(&self, calls: Option<u64>) {
        self.state().left = calls;
    }
    /// The call that stops still writes this many bytes.
    pub fn tear(&self, bytes: usize) {
        self.state().torn = bytes;
    }
    /// Bytes that may still be written before `ENOSPC`. `None` takes it back.
    pub fn set_budget(&self, bytes: Option<u64>) {
        self.state().budget = bytes;
    }
    /// What the disk says is free. `None`: the truth.
    pub fn set_free(&self, bytes: Option<u64>) {
        self.state().free = bytes;
    }
    /// The next `count` syncs fail.
    pub fn fail_syncs(&self, count: u64) {
        self.state().bad_syncs = count;
    }
    /// From now on it cannot exchange files, as some file systems.
    pub fn refuse_exchange(&self) {
        self.state().no_exchange = true;
    }
    /// Changing calls so far.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }
    /// Syncs so far.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }
    /// Directories read so far.
    pub fn lists(&self) -> u64 {
        self.state().lists
    }
    /// Bytes read so far.
    pub fn bytes_read(&self) -> u64 {
        self.state().read
    }
    /// Bytes written so far.
    pub fn bytes_written(&self) -> u64 {
        self.state().written
    }
    /// How often a file was opened.
    pub fn times_opened(&self, path: &Path) -> u64 {
        self.state().opened.get(path).copied().unwrap_or(0)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
    /// One changing call.
    fn change(&self) -> io::Result<()> {
        let mut state = self.state();
        state.calls += 1;
        match &mut state.left {
            Some(0) => Err(stopped()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

fn stopped() -> io::Error {
    io::Error::other("the test disk has stopped")
}

impl Disk for FaultDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        let makes = how == Open::CreateNew || (how == Open::Append && RealDisk.stat(path)?.is_none());
        if makes {
            self.change()?;
        }
        *self.state().opened.entry(path.to_owned()).or_default() += 1;
        Ok(Box::new(FaultFile { file: RealDisk.open(path, how)?, disk: self.clone() }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change()?;
        RealDisk.rename(from, to)
    }
    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        self.change()?;
        if self.state().no_exchange {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        RealDisk.exchange(one, other)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.change()?;
        RealDisk.remove_file(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.change()?;
        RealDisk.remove_dir(path)
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.change()?;
        RealDisk.create_dir_all(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<DirItem>> {
        self.state().lists += 1;
        RealDisk.list(path)
    }
    fn stat(&self, path: &Path) -> io::Result<Option<FileStat>> {
        RealDisk.stat(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.change()?;
        // As with files: counted, not done.
        RealDisk.stat(path).map(|_| ())
    }
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let free = self.state().free;
        free.map_or_else(|| RealDisk.free_bytes(path), Ok)
    }
}

struct FaultFile {
    file: Box<dyn DiskFile>,
    disk: FaultDisk,
}

impl DiskFile for FaultFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let read = self.file.read_at(buffer, offset)?;
        self.disk.state().read += read as u64;
        Ok(read)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Err(e) = self.disk.change() {
            let torn = std::mem::take(&mut self.disk.state().torn).min(bytes.len());
            let _ = self.file.write_at(bytes.get(..torn).unwrap_or_default(), offset);
            return Err(e);
        }
        let fits = {
            let mut state = self.disk.state();
            let fits = state.budget.unwrap_or(u64::MAX).min(bytes.len() as u64);
            state.budget = state.budget.map(|budget| budget - fits);
            state.written += fits;
            usize::try_from(fits).unwrap_or(bytes.len())
        };
        self.file.write_at(bytes.get(..fits).unwrap_or_default(), offset)?;
        if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
    fn sync(&self) -> io::Result<()> {
        self.disk.change()?;
        {
            let mut state = self.disk.state();
            state.syncs += 1;
            if state.bad_syncs > 0 {
                state.bad_syncs -= 1;
                return Err(io::Error::other("the test disk fails this sync"));
            }
        }
        // The page cache survives what these tests do; a real sync would only make them slow.
        Ok(())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.change()?;
        self.file.set_len(len)
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}
