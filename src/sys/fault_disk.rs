//! Faults, for tests: a disk before another one that can be told to refuse space, to tear a write, to fail calls, or to stop after
//! any call as a killed process would. It also counts.

use std::collections::HashMap;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier, Mutex, MutexGuard};

use crate::sys::disk::{DirItem, Disk, DiskDir, DiskFile, FileStat, Lock, Locked, Open, RealDisk};

/// The double. Clones share their state.
#[derive(Clone)]
pub struct FaultDisk {
    disk: Arc<dyn Disk>,
    /// Syncs reach the disk behind.
    syncs_through: bool,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Changing calls so far.
    calls: u64,
    /// Changing calls that still succeed; `None`: all.
    left: Option<u64>,
    /// Changing calls that succeed before one fails.
    until_failure: Option<u64>,
    /// Bytes of the call that stops or fails which are still written.
    torn: usize,
    /// Bytes that may still be written; `None`: no limit.
    budget: Option<u64>,
    /// What `free_bytes` says; `None`: the truth.
    free: Option<u64>,
    /// It can only be read.
    read_only: bool,
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
    /// A file that may be read and not written.
    shut: Option<PathBuf>,
    /// A file that cannot be read.
    unreadable: Option<PathBuf>,
    /// The next reader, of this file or of any, waits here twice: when it has read, and before it goes on.
    held: Option<(Option<PathBuf>, Arc<Barrier>)>,
    /// What somebody else does before each changing call.
    meanwhile: Option<Arc<dyn Fn() + Send + Sync>>,
    /// The next look at a file of this name panics.
    panics_at: Option<String>,
    /// Bytes read, bytes written.
    read: u64,
    written: u64,
}

impl Default for FaultDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl FaultDisk {
    /// The next look ([`Disk::stat`]) at a file of this name panics, once: for tests of who survives that.
    pub fn panic_at(&self, name: &str) {
        self.state().panics_at = Some(name.to_owned());
    }

    /// Before the real disk. Its syncs are counted, not made: the page cache survives what these tests do, and a real sync would
    /// only make them slow.
    pub fn new() -> Self {
        Self { disk: Arc::new(RealDisk), syncs_through: false, state: Arc::default() }
    }
    /// Before another one.
    pub fn before(disk: Arc<dyn Disk>) -> Self {
        Self { disk, syncs_through: true, state: Arc::default() }
    }
    /// Lets `calls` more changing calls through; all later ones fail and change nothing, as after a kill. `None` takes it back.
    pub fn stop_after(&self, calls: Option<u64>) {
        self.state().left = calls;
    }
    /// Lets `calls` more changing calls through; the next one fails, and those behind it succeed again.
    pub fn fail_after(&self, calls: Option<u64>) {
        self.state().until_failure = calls;
    }
    /// The call that stops or fails still writes this many bytes.
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
    /// It can only be read, as a system makes a disk that fails; or can be written to again.
    pub fn set_read_only(&self, yes: bool) {
        self.state().read_only = yes;
    }
    /// The next who reads meets the test at this barrier twice: when it has read, and before it goes on.
    pub fn hold_reader(&self, at: Arc<Barrier>) {
        self.state().held = Some((None, at));
    }
    /// The same of this file alone; beneath an open directory it goes by its last name.
    pub fn hold_reader_of(&self, path: &Path, at: Arc<Barrier>) {
        self.state().held = Some((Some(path.to_owned()), at));
    }
    /// Somebody else does this before each changing call; `None` takes it back.
    pub fn meanwhile(&self, does: Option<Arc<dyn Fn() + Send + Sync>>) {
        self.state().meanwhile = does;
    }
    /// This file cannot be read, also by who has it open; `None` takes it back.
    pub fn refuse_reading(&self, path: Option<&Path>) {
        self.state().unreadable = path.map(Path::to_owned);
    }
    /// This file may be read and not written; `None` takes it back.
    pub fn refuse_writing(&self, path: Option<&Path>) {
        self.state().shut = path.map(Path::to_owned);
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
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
    /// One changing call.
    fn change(&self) -> io::Result<()> {
        let meanwhile = self.state().meanwhile.clone();
        if let Some(does) = meanwhile {
            does();
        }
        let mut state = self.state();
        state.calls += 1;
        if state.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        match &mut state.left {
            Some(0) => return Err(io::Error::other("the test disk has stopped")),
            Some(left) => *left -= 1,
            None => {}
        }
        match &mut state.until_failure {
            Some(0) => {
                state.until_failure = None;
                Err(io::Error::other("the test disk fails this call"))
            }
            Some(until) => {
                *until -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
    /// One sync; whether it is to reach the disk behind.
    fn sync(&self) -> io::Result<bool> {
        self.change()?;
        let mut state = self.state();
        state.syncs += 1;
        if state.bad_syncs > 0 {
            state.bad_syncs -= 1;
            return Err(io::Error::other("the test disk fails this sync"));
        }
        Ok(self.syncs_through)
    }
    fn before_file(&self, file: Box<dyn DiskFile>, path: &Path) -> Box<dyn DiskFile> {
        Box::new(FaultFile { file, disk: self.clone(), path: path.to_owned() })
    }
    fn is_unreadable(&self, path: &Path) -> bool {
        self.state().unreadable.as_deref() == Some(path)
    }
}

impl Disk for FaultDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        if how != Open::Read && self.state().read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        if how == Open::Read && self.is_unreadable(path) {
            return Err(io::Error::from_raw_os_error(5));
        }
        if how != Open::Read && self.state().shut.as_deref() == Some(path) {
            return Err(io::Error::from_raw_os_error(13));
        }
        let makes = how == Open::CreateNew || (how == Open::Append && self.disk.stat(path)?.is_none());
        if makes {
            self.change()?;
        }
        *self.state().opened.entry(path.to_owned()).or_default() += 1;
        Ok(self.before_file(self.disk.open(path, how)?, path))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change()?;
        self.disk.rename(from, to)
    }
    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        self.change()?;
        if self.state().no_exchange {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.disk.exchange(one, other)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.change()?;
        self.disk.remove_file(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.change()?;
        self.disk.remove_dir(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.change()?;
        self.disk.create_dir(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<DirItem>> {
        self.state().lists += 1;
        self.disk.list(path)
    }
    fn stat(&self, path: &Path) -> io::Result<Option<FileStat>> {
        let name = path.file_name().and_then(|name| name.to_str());
        let panics = self.state().panics_at.take_if(|at| Some(at.as_str()) == name).is_some();
        assert!(!panics, "the test wants a panic here");
        self.disk.stat(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        if self.sync()? { self.disk.sync_dir(path) } else { self.disk.stat(path).map(|_| ()) }
    }
    fn sync_all(&self, path: &Path) -> io::Result<()> {
        if self.sync()? { self.disk.sync_all(path) } else { Ok(()) }
    }
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let (free, read_only) = {
            let state = self.state();
            (state.free, state.read_only)
        };
        if read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        free.map_or_else(|| self.disk.free_bytes(path), Ok)
    }
    fn open_dir(&self, path: &Path) -> io::Result<Box<dyn DiskDir>> {
        Ok(Box::new(FaultDir { dir: self.disk.open_dir(path)?, disk: self.clone() }))
    }
    fn try_lock(&self, path: &Path) -> io::Result<Locked> {
        self.disk.try_lock(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Lock> {
        self.disk.lock(path)
    }
}

struct FaultFile {
    file: Box<dyn DiskFile>,
    disk: FaultDisk,
    /// As it was opened; beneath an open directory only its name.
    path: PathBuf,
}

impl DiskFile for FaultFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.disk.is_unreadable(&self.path) {
            return Err(io::Error::from_raw_os_error(5));
        }
        let read = self.file.read_at(buffer, offset)?;
        self.disk.state().read += read as u64;
        let held = self.disk.state().held.take_if(|(path, _)| path.as_ref().is_none_or(|path| *path == self.path));
        if let Some((_, barrier)) = held {
            barrier.wait();
            barrier.wait();
        }
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
        if self.disk.sync()? { self.file.sync() } else { Ok(()) }
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.change()?;
        self.file.set_len(len)
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}

struct FaultDir {
    dir: Box<dyn DiskDir>,
    disk: FaultDisk,
}

impl DiskDir for FaultDir {
    fn open_dir(&self, path: &str) -> io::Result<Box<dyn DiskDir>> {
        Ok(Box::new(Self { dir: self.dir.open_dir(path)?, disk: self.disk.clone() }))
    }
    fn open_file(&self, name: &str) -> io::Result<(Box<dyn DiskFile>, FileStat)> {
        let (file, stat) = self.dir.open_file(name)?;
        Ok((self.disk.before_file(file, Path::new(name)), stat))
    }
    fn create_file(&self, name: &str, mode: u32) -> io::Result<Box<dyn DiskFile>> {
        self.disk.change()?;
        Ok(self.disk.before_file(self.dir.create_file(name, mode)?, Path::new(name)))
    }
    fn create_dir(&self, name: &str) -> io::Result<()> {
        self.disk.change()?;
        self.dir.create_dir(name)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.change()?;
        self.dir.rename(from, to)
    }
    fn remove_file(&self, name: &str) -> io::Result<()> {
        self.disk.change()?;
        self.dir.remove_file(name)
    }
    fn remove_dir(&self, name: &str) -> io::Result<()> {
        self.disk.change()?;
        self.dir.remove_dir(name)
    }
    fn stat(&self, name: &str) -> io::Result<Option<FileStat>> {
        self.dir.stat(name)
    }
    fn list(&self, each: &mut dyn FnMut(&str, FileStat) -> ControlFlow<()>) -> io::Result<u64> {
        self.disk.state().lists += 1;
        self.dir.list(each)
    }
    fn sync(&self) -> io::Result<()> {
        if self.disk.sync()? { self.dir.sync() } else { Ok(()) }
    }
}
