//! A disk for cards that wear out: what is appended to logs becomes durable together, every few seconds, instead of one record after
//! the other when the store asks for it. What it gives away is said at `session.sync_secs`: a power cut takes back what was appended
//! since the last time. A process that is killed loses nothing, what it wrote is with the system.
//!
//! A log begins durably all the same, and so do all other files and names: whatever is found after a power cut, its beginning is there.
//!
//! Where making durable fails in the background, the next who asks waits for it and gets its error. What the system could not write it
//! may call written all the same (see `store::log_file`): so all that was appended since it last succeeded is written once more before
//! it is tried again.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use crate::sys::disk::{DirItem, Disk, DiskDir, DiskFile, FileStat, Lock, Locked, Open, read_full};

/// Read and written in pieces of this size, bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// Before another disk.
pub struct DelayedDisk(Arc<Behind>);

/// The disk behind, and what it is owed.
struct Behind {
    disk: Arc<dyn Disk>,
    /// Only logs that lie directly in one of these wait.
    dirs: Vec<PathBuf>,
    /// Somebody asked for a sync since the last attempt.
    owing: AtomicBool,
    /// The last attempt failed.
    failing: AtomicBool,
    /// What was written to since the last attempt began, and what that one failed to make durable.
    written: Mutex<Vec<Arc<Log>>>,
    /// One attempt at a time.
    settling: Mutex<()>,
    /// By path, without the ending of a name that it has not got yet.
    places: Mutex<HashMap<PathBuf, Weak<Mutex<()>>>>,
}

/// A log; it stays open for as long as it owes something.
struct Log {
    file: Box<dyn DiskFile>,
    /// Held by whoever changes the file, through whichever handle: what is put back is not what somebody else has changed since.
    place: Arc<Mutex<()>>,
    /// From here on it may not be durable.
    from: Mutex<Option<u64>>,
}

impl DelayedDisk {
    /// Before `disk`, for `*.log` directly in `dirs`, which are on one file system.
    pub fn new(disk: Arc<dyn Disk>, dirs: Vec<PathBuf>) -> Self {
        let (owing, failing) = (AtomicBool::new(false), AtomicBool::new(false));
        Self(Arc::new(Behind {
            disk,
            dirs,
            owing,
            failing,
            written: Mutex::default(),
            settling: Mutex::default(),
            places: Mutex::default(),
        }))
    }

    /// Makes durable what waits. Blocks; costs nothing where nothing waits.
    ///
    /// # Errors
    /// What the system says; it is tried again the next time.
    pub fn settle(&self) -> io::Result<()> {
        if self.0.owing.swap(false, Ordering::AcqRel) { self.0.settle() } else { Ok(()) }
    }
}

impl Behind {
    /// Makes durable all that was written before.
    fn settle(&self) -> io::Result<()> {
        let _one_at_a_time = self.settling.lock().unwrap_or_else(|e| e.into_inner());
        let logs = std::mem::take(&mut *self.written());
        // Whoever is writing has done so when this is through: the sync below is behind it.
        let logs: Vec<(Arc<Log>, u64)> = logs.into_iter().filter_map(|log| log.from().take().map(|from| (log.clone(), from))).collect();
        let again = || match self.failing.load(Ordering::Acquire) {
            true => logs.iter().try_for_each(|(log, from)| log.write_again(*from)),
            false => Ok(()),
        };
        let all = || self.dirs.first().map_or(Ok(()), |dir| self.disk.sync_all(dir));
        // Each of them, too, which costs nothing behind that: the system tells of pages that it could not write once for the file
        // system, perhaps to somebody else, and once for each open file.
        let each = || logs.iter().try_for_each(|(log, _)| log.file.sync());
        let settled = again().and_then(|()| all()).and_then(|()| each());
        self.failing.store(settled.is_err(), Ordering::Release);
        if settled.is_err() {
            self.owing.store(true, Ordering::Release);
            logs.iter().for_each(|(log, from)| self.note(log, &mut log.from(), *from));
        }
        settled
    }

    /// The lock of whoever changes the file of this path.
    fn place(&self, path: &Path) -> Arc<Mutex<()>> {
        let mut places = self.places.lock().unwrap_or_else(|e| e.into_inner());
        places.retain(|_, place| place.strong_count() > 0);
        let path = if path.extension().is_some_and(|end| end == "new") { path.with_extension("") } else { path.to_owned() };
        if let Some(place) = places.get(&path).and_then(Weak::upgrade) {
            return place;
        }
        let place = Arc::default();
        places.insert(path, Arc::downgrade(&place));
        place
    }

    /// From this offset on the log is not known to be durable.
    fn note(&self, log: &Arc<Log>, held: &mut Option<u64>, offset: u64) {
        match held {
            Some(from) => *from = offset.min(*from),
            None => {
                *held = Some(offset);
                self.written().push(log.clone());
            }
        }
    }

    fn written(&self) -> MutexGuard<'_, Vec<Arc<Log>>> {
        self.written.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Log {
    fn place(&self) -> MutexGuard<'_, ()> {
        self.place.lock().unwrap_or_else(|e| e.into_inner())
    }
    fn from(&self) -> MutexGuard<'_, Option<u64>> {
        self.from.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Writes once more what can still be read and may be lost all the same.
    fn write_again(&self, from: u64) -> io::Result<()> {
        let _nobody_else = self.place();
        let (mut at, len, mut piece) = (from, self.file.len()?, vec![0; PIECE_BYTES]);
        while at < len {
            let read = read_full(self.file.as_ref(), &mut piece, at)?;
            self.file.write_at(piece.get(..read).unwrap_or_default(), at)?;
            at += read.max(1) as u64;
        }
        Ok(())
    }
}

impl Disk for DelayedDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        let file = self.0.disk.open(path, how)?;
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_new = name.ends_with(".log.new");
        if !(is_new || name.ends_with(".log")) || !self.0.dirs.iter().any(|dir| path.parent() == Some(dir)) {
            return Ok(file);
        }
        let log = Arc::new(Log { file, place: self.0.place(path), from: Mutex::default() });
        Ok(Box::new(DelayedFile { log, behind: self.0.clone(), is_new: AtomicBool::new(is_new) }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.disk.rename(from, to)
    }
    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        self.0.disk.exchange(one, other)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.disk.remove_file(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.0.disk.remove_dir(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.0.disk.create_dir(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<DirItem>> {
        self.0.disk.list(path)
    }
    fn stat(&self, path: &Path) -> io::Result<Option<FileStat>> {
        self.0.disk.stat(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.0.disk.sync_dir(path)
    }
    fn sync_all(&self, path: &Path) -> io::Result<()> {
        // Whoever is told that something could not be written is the only one who is.
        self.0.disk.sync_all(path).inspect_err(|_| {
            self.0.failing.store(true, Ordering::Release);
            self.0.owing.store(true, Ordering::Release);
        })
    }
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.0.disk.free_bytes(path)
    }
    fn open_dir(&self, path: &Path) -> io::Result<Box<dyn DiskDir>> {
        self.0.disk.open_dir(path)
    }
    fn try_lock(&self, path: &Path) -> io::Result<Locked> {
        self.0.disk.try_lock(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Lock> {
        self.0.disk.lock(path)
    }
}

struct DelayedFile {
    log: Arc<Log>,
    behind: Arc<Behind>,
    /// It has not got its name yet, and gets it when its content is durable.
    is_new: AtomicBool,
}

impl DelayedFile {
    fn change(&self, offset: u64, change: impl FnOnce(&dyn DiskFile) -> io::Result<()>) -> io::Result<()> {
        let _nobody_else = self.log.place();
        // Its own sync makes all of it durable, before it has a name.
        if self.is_new.load(Ordering::Acquire) {
            return change(self.log.file.as_ref());
        }
        // Held within: an attempt to settle is behind this, or this is behind it and noted for the next one.
        let mut from = self.log.from();
        let changed = change(self.log.file.as_ref());
        self.behind.note(&self.log, &mut from, offset);
        changed
    }
}

impl DiskFile for DelayedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.log.file.read_at(buffer, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.change(offset, |file| file.write_at(bytes, offset))
    }
    fn sync(&self) -> io::Result<()> {
        if self.is_new.swap(false, Ordering::AcqRel) {
            return self.log.file.sync();
        }
        if self.behind.failing.load(Ordering::Acquire) {
            return self.behind.settle();
        }
        self.behind.owing.store(true, Ordering::Release);
        Ok(())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(len, |file| file.set_len(len))
    }
    fn len(&self) -> io::Result<u64> {
        self.log.file.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::disk::read_whole;
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

    #[test]
    fn what_a_failed_attempt_may_have_lost_is_written_once_more() {
        let memory = MemoryDisk::default();
        let faults = crate::sys::fault_disk::FaultDisk::before(Arc::new(memory.clone()));
        let disk = on(Arc::new(faults.clone()));
        let append = |name: &str, bytes: &[u8]| {
            let file = disk.open(&Path::new(DIR).join(name), Open::Append).unwrap();
            disk.sync_dir(Path::new(DIR)).unwrap();
            file.append(bytes).unwrap();
            file.sync().unwrap();
            file
        };
        append("a.log", b"settled");
        disk.settle().unwrap();
        let a = append("a.log", b"0123456789");
        // Closed since: nobody else would write it again.
        drop(append("b.log", b"abcde"));
        faults.fail_syncs(1);
        disk.settle().unwrap_err();
        let before = faults.bytes_written();
        a.append(b"xyz").unwrap();
        a.sync().unwrap();
        assert_eq!(faults.bytes_written() - before, 3 + (10 + 3) + 5, "all that was not durable, and nothing else");
        let left = memory.power_cut();
        let content = |name: &str| read_whole(&left, &Path::new(DIR).join(name), 100).unwrap();
        assert_eq!((content("a.log").as_slice(), content("b.log").as_slice()), (&b"settled0123456789xyz"[..], &b"abcde"[..]));
        let before = faults.bytes_written();
        disk.settle().unwrap();
        a.sync().unwrap();
        disk.settle().unwrap();
        assert_eq!(faults.bytes_written(), before, "good again");
    }

    #[test]
    fn a_log_that_is_synced_before_it_has_its_name_owes_nothing() {
        let disk = on(Arc::new(MemoryDisk::default()));
        for n in 0..100 {
            let path = format!("/home/logs/{n}.log");
            let file = disk.open(Path::new(&format!("{path}.new")), Open::Append).unwrap();
            file.append(b"header").unwrap();
            file.sync().unwrap();
            disk.rename(Path::new(&format!("{path}.new")), Path::new(&path)).unwrap();
        }
        assert!(disk.0.written().is_empty(), "a descriptor each");
        drop(disk.open(Path::new("/home/logs/7.log"), Open::Append).unwrap());
        assert_eq!(disk.0.places.lock().unwrap().len(), 1);
    }

    #[test]
    fn an_error_that_somebody_else_was_told_is_not_missed() {
        let faults = crate::sys::fault_disk::FaultDisk::before(Arc::new(MemoryDisk::default()));
        let disk = on(Arc::new(faults.clone()));
        let file = disk.open(Path::new("/home/logs/a.log"), Open::Append).unwrap();
        file.append(b"owed").unwrap();
        faults.fail_syncs(1);
        disk.sync_all(Path::new(DIR)).unwrap_err();
        let before = faults.bytes_written();
        disk.settle().unwrap();
        assert_eq!(faults.bytes_written() - before, 4, "written once more");
    }

    #[test]
    fn what_is_written_again_is_not_what_another_handle_has_cut() {
        let memory = MemoryDisk::default();
        let faults = crate::sys::fault_disk::FaultDisk::before(Arc::new(memory.clone()));
        let disk = on(Arc::new(faults.clone()));
        let path = Path::new("/home/logs/a.log");
        let file = disk.open(path, Open::Append).unwrap();
        file.append(b"refused").unwrap();
        file.sync().unwrap();
        faults.fail_syncs(1);
        disk.settle().unwrap_err();
        let (other, barrier) = (disk.open(path, Open::Append).unwrap(), Arc::new(std::sync::Barrier::new(2)));
        faults.hold_reader(barrier.clone());
        std::thread::scope(|scope| {
            let settling = scope.spawn(|| disk.settle());
            barrier.wait();
            // It has read what it is about to write.
            let cutting = scope.spawn(|| other.set_len(0));
            let waits = !(0..1000).any(|_| {
                std::thread::yield_now();
                cutting.is_finished()
            });
            barrier.wait();
            settling.join().unwrap().unwrap();
            cutting.join().unwrap().unwrap();
            assert!(waits, "it cuts behind what is written again");
        });
        assert_eq!(memory.open(path, Open::Read).unwrap().len().unwrap(), 0);
    }
}
