//! A disk in memory, for tests: what is written, and apart from it what is durable. So a test can look at the files as a killed
//! process leaves them, or as a power cut does, after any call.
//!
//! It promises no more than POSIX does: the content and length of a file are durable after its `sync`, names after the `sync` of
//! their directory, a rename and a removal too. What is not durable may be lost or kept, each file and each name for itself.

mod image;

use std::collections::HashSet;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use rustix::io::Errno;

use crate::sys::disk::{DirItem, Disk, DiskDir, DiskFile, FileStat, Lock, Locked, Open};
use image::Image;
pub use image::is_stale;

/// Chooses a number below the given one.
pub type Dice<'a> = &'a mut dyn FnMut(u64) -> u64;

/// The disk. Clones share their state.
#[derive(Clone)]
pub struct MemoryDisk(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Told when a lock is let go.
    unlocked: Condvar,
}

struct State {
    image: Image,
    locks: HashSet<PathBuf>,
    /// Changing calls so far.
    calls: usize,
    moments: Option<Vec<Moment>>,
}

/// The disk as it was after a changing call.
#[derive(Clone)]
pub struct Moment {
    /// The call, for messages.
    pub what: String,
    /// Of a write: the file, where, and what.
    write: Option<(u64, usize, Arc<[u8]>)>,
    image: Image,
}

impl Default for MemoryDisk {
    fn default() -> Self {
        Self::of(Image::new())
    }
}

impl MemoryDisk {
    fn of(image: Image) -> Self {
        let state = State { image, locks: HashSet::new(), calls: 0, moments: None };
        Self(Arc::new(Shared { state: Mutex::new(state), unlocked: Condvar::new() }))
    }
    /// From now on every changing call leaves a moment.
    pub fn record(&self) {
        self.state().moments.get_or_insert_default();
    }
    /// Changing calls so far; the moment of the n-th is number n-1, where all were recorded.
    pub fn calls(&self) -> usize {
        self.state().calls
    }
    /// What was recorded.
    pub fn take_moments(&self) -> Vec<Moment> {
        self.state().moments.take().unwrap_or_default()
    }
    /// The process ends now: all that it wrote is there, and nobody holds a lock.
    pub fn killed(&self) -> Self {
        Self::of(self.state().image.clone())
    }
    /// The power fails now: nothing is there that was not durable.
    pub fn power_cut(&self) -> Self {
        Self::of(self.state().image.after_power_cut(None))
    }
    /// The power fails now: of what was not durable some is there.
    pub fn power_cut_by(&self, dice: Dice<'_>) -> Self {
        Self::of(self.state().image.after_power_cut(Some(dice)))
    }
    /// The paths of all files.
    pub fn files(&self) -> Vec<String> {
        self.state().image.files().into_iter().map(|(path, ..)| path).collect()
    }
    /// Path and content of all files, sorted.
    pub fn contents(&self) -> Vec<(String, Arc<Vec<u8>>)> {
        self.state().image.files()
    }
    /// The same files with the same content.
    pub fn same_files(&self, other: &Self) -> bool {
        same_contents(&self.contents(), &other.contents())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// The same paths with the same content.
pub fn same_contents(a: &[(String, Arc<Vec<u8>>)], b: &[(String, Arc<Vec<u8>>)]) -> bool {
    let same = |a: &Arc<Vec<u8>>, b: &Arc<Vec<u8>>| Arc::ptr_eq(a, b) || a == b;
    a.len() == b.len() && a.iter().zip(b).all(|((a, x), (b, y))| a == b && same(x, y))
}

impl Moment {
    /// The process was killed behind this call.
    pub fn killed(&self) -> MemoryDisk {
        MemoryDisk::of(self.image.clone())
    }
    /// The process was killed within this call: `bytes` of its write are there. `None` where it is no write of more. `before` is
    /// the moment before this one.
    pub fn killed_within(&self, before: &Self, bytes: usize) -> Option<MemoryDisk> {
        let (file, at, whole) = self.write.as_ref()?;
        let part = whole.get(..bytes).filter(|part| part.len() < whole.len())?;
        let mut image = before.image.clone();
        image.write(*file, *at, part.into());
        Some(MemoryDisk::of(image))
    }
    /// Bytes that this call wrote.
    pub fn written(&self) -> usize {
        self.write.as_ref().map_or(0, |(.., bytes)| bytes.len())
    }
    /// The power failed behind this call: nothing is there that was not durable.
    pub fn power_cut(&self) -> MemoryDisk {
        MemoryDisk::of(self.image.after_power_cut(None))
    }
    /// The power failed behind this call: of what was not durable some is there.
    pub fn power_cut_by(&self, dice: Dice<'_>) -> MemoryDisk {
        MemoryDisk::of(self.image.after_power_cut(Some(dice)))
    }
}

impl State {
    /// Notes a changing call that was just made.
    fn made(&mut self, what: impl FnOnce() -> String, write: Option<(u64, usize, Arc<[u8]>)>) {
        self.calls += 1;
        if let Some(moments) = &mut self.moments {
            moments.push(Moment { what: what(), write, image: self.image.clone() });
        }
    }
}

impl MemoryDisk {
    fn handle(&self, id: u64, writes: bool) -> Box<dyn DiskFile> {
        Box::new(MemoryFile { disk: self.clone(), id, writes })
    }
    /// A change of names, noted as a call.
    fn named<T>(&self, what: impl FnOnce() -> String, change: impl FnOnce(&mut Image) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state();
        let done = change(&mut state.image)?;
        state.made(what, None);
        Ok(done)
    }
    fn sync_node(&self, id: u64, what: impl FnOnce() -> String) {
        let mut state = self.state();
        state.image.sync(id);
        state.made(what, None);
    }
}

impl Disk for MemoryDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        let (parent, name) = state.image.place(path)?;
        let id = match (state.image.child(parent, name), how) {
            (Ok(_), Open::CreateNew) => return Err(Errno::EXIST.into()),
            (Ok(id), _) => state.image.content(id).map(|_| id)?,
            (Err(e), Open::Read) => return Err(e),
            (Err(_), Open::Append | Open::CreateNew) => {
                let id = state.image.add_file(parent, name, 0o600)?;
                state.made(|| format!("make {}", path.display()), None);
                id
            }
        };
        drop(state);
        Ok(self.handle(id, how != Open::Read))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let what = || format!("rename {} to {}", from.display(), to.display());
        self.named(what, |image| image.rename(image.place(from)?, image.place(to)?))
    }
    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        let what = || format!("exchange {} and {}", one.display(), other.display());
        self.named(what, |image| image.exchange(image.place(one)?, image.place(other)?))
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let what = || format!("remove {}", path.display());
        self.named(what, |image| image.place(path).and_then(|(parent, name)| image.take(parent, name, false)))
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let what = || format!("remove {}/", path.display());
        self.named(what, |image| image.place(path).and_then(|(parent, name)| image.take(parent, name, true)))
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let what = || format!("make {}/", path.display());
        self.named(what, |image| image.place(path).and_then(|(parent, name)| image.add_dir(parent, name)).map(drop))
    }
    fn list(&self, path: &Path) -> io::Result<Vec<DirItem>> {
        let state = self.state();
        let names = state.image.names(state.image.find(path)?)?;
        let item = |(name, id): (&String, &u64)| {
            let stat = state.image.stat(*id)?;
            Ok(DirItem { name: name.clone(), is_dir: stat.is_dir(), size: stat.size, modified: stat.modified })
        };
        names.iter().map(item).collect()
    }
    fn stat(&self, path: &Path) -> io::Result<Option<FileStat>> {
        let state = self.state();
        match state.image.find(path) {
            Ok(id) => state.image.stat(id).map(Some),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let id = self.state().image.find(path)?;
        self.sync_node(id, || format!("sync {}/", path.display()));
        Ok(())
    }
    fn sync_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.image.sync_all();
        state.made(|| format!("sync all of {}", path.display()), None);
        Ok(())
    }
    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        Ok(1 << 40)
    }
    fn open_dir(&self, path: &Path) -> io::Result<Box<dyn DiskDir>> {
        let id = self.state().image.find(path)?;
        self.state().image.names(id)?;
        Ok(Box::new(MemoryDir { disk: self.clone(), id }))
    }
    fn try_lock(&self, path: &Path) -> io::Result<Locked> {
        self.open(path, Open::Append)?;
        let ours = self.state().locks.insert(path.to_owned());
        Ok(if ours { Locked::Ours(self.held(path)) } else { Locked::Held(std::process::id().to_string()) })
    }
    fn lock(&self, path: &Path) -> io::Result<Lock> {
        self.open(path, Open::Append)?;
        let mut state = self.state();
        while !state.locks.insert(path.to_owned()) {
            state = self.0.unlocked.wait(state).unwrap_or_else(|e| e.into_inner());
        }
        drop(state);
        Ok(self.held(path))
    }
}

impl MemoryDisk {
    fn held(&self, path: &Path) -> Lock {
        Lock::by(HeldLock { disk: self.clone(), path: path.to_owned() })
    }
}

struct HeldLock {
    disk: MemoryDisk,
    path: PathBuf,
}

impl Drop for HeldLock {
    fn drop(&mut self) {
        self.disk.state().locks.remove(&self.path);
        self.disk.0.unlocked.notify_all();
    }
}

struct MemoryFile {
    disk: MemoryDisk,
    id: u64,
    writes: bool,
}

impl MemoryFile {
    fn may_write(&self) -> io::Result<()> {
        if self.writes { Ok(()) } else { Err(Errno::BADF.into()) }
    }
}

impl DiskFile for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = self.disk.state().image.content(self.id)?.clone();
        let rest = usize::try_from(offset).ok().and_then(|at| content.get(at..)).unwrap_or_default();
        let read = rest.len().min(buffer.len());
        if let (Some(into), Some(from)) = (buffer.get_mut(..read), rest.get(..read)) {
            into.copy_from_slice(from);
        }
        Ok(read)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.may_write()?;
        if bytes.is_empty() {
            return Ok(());
        }
        let (at, bytes) = (usize::try_from(offset).map_err(|_| Errno::FBIG)?, Arc::<[u8]>::from(bytes));
        let mut state = self.disk.state();
        state.image.write(self.id, at, bytes.clone());
        let (id, len) = (self.id, bytes.len());
        state.made(|| format!("write {len} bytes of file {id} at {at}"), Some((id, at, bytes)));
        Ok(())
    }
    fn sync(&self) -> io::Result<()> {
        self.disk.sync_node(self.id, || format!("sync file {}", self.id));
        Ok(())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.may_write()?;
        let mut state = self.disk.state();
        if state.image.content(self.id)?.len() as u64 == len {
            return Ok(());
        }
        state.image.set_len(self.id, usize::try_from(len).map_err(|_| Errno::FBIG)?);
        let id = self.id;
        state.made(|| format!("set length of file {id} to {len}"), None);
        Ok(())
    }
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state().image.content(self.id)?.len() as u64)
    }
}

struct MemoryDir {
    disk: MemoryDisk,
    id: u64,
}

impl DiskDir for MemoryDir {
    fn open_dir(&self, path: &str) -> io::Result<Box<dyn DiskDir>> {
        let state = self.disk.state();
        let id = path.split('/').filter(|part| *part != ".").try_fold(self.id, |at, part| state.image.child(at, part))?;
        state.image.names(id)?;
        drop(state);
        Ok(Box::new(Self { disk: self.disk.clone(), id }))
    }
    fn open_file(&self, name: &str) -> io::Result<(Box<dyn DiskFile>, FileStat)> {
        let state = self.disk.state();
        let id = if name == "." { self.id } else { state.image.child(self.id, name)? };
        let stat = state.image.stat(id)?;
        drop(state);
        Ok((self.disk.handle(id, false), stat))
    }
    fn create_file(&self, name: &str, mode: u32) -> io::Result<Box<dyn DiskFile>> {
        let id = self.disk.named(|| format!("make {name}"), |image| image.add_file(self.id, name, mode))?;
        Ok(self.disk.handle(id, true))
    }
    fn create_dir(&self, name: &str) -> io::Result<()> {
        self.disk.named(|| format!("make {name}/"), |image| image.add_dir(self.id, name).map(drop))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.named(|| format!("rename {from} to {to}"), |image| image.rename((self.id, from), (self.id, to)))
    }
    fn remove_file(&self, name: &str) -> io::Result<()> {
        self.disk.named(|| format!("remove {name}"), |image| image.take(self.id, name, false))
    }
    fn remove_dir(&self, name: &str) -> io::Result<()> {
        self.disk.named(|| format!("remove {name}/"), |image| image.take(self.id, name, true))
    }
    fn stat(&self, name: &str) -> io::Result<Option<FileStat>> {
        let state = self.disk.state();
        match if name == "." { Ok(self.id) } else { state.image.child(self.id, name) } {
            Ok(id) => state.image.stat(id).map(Some),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }
    fn list(&self, each: &mut dyn FnMut(&str, FileStat) -> ControlFlow<()>) -> io::Result<u64> {
        let image = self.disk.state().image.clone();
        for (name, id) in image.names(self.id)? {
            if each(name, image.stat(*id)?).is_break() {
                break;
            }
        }
        Ok(0)
    }
    fn sync(&self) -> io::Result<()> {
        self.disk.sync_node(self.id, || format!("sync directory {}", self.id));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::image::SECTOR_BYTES;
    use super::*;
    use crate::sys::disk::read_whole;

    fn content(disk: &MemoryDisk, path: &str) -> Option<String> {
        read_whole(disk, Path::new(path), 1 << 20).ok().map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn a_power_cut_leaves_what_was_synced_and_a_kill_leaves_all() {
        let disk = MemoryDisk::default();
        disk.create_dir(Path::new("/d")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        let file = disk.open(Path::new("/d/a.new"), Open::CreateNew).unwrap();
        file.append(b"one").unwrap();
        file.sync().unwrap();
        assert_eq!(content(&disk.power_cut(), "/d/a.new"), None, "its name is not synced");
        disk.sync_dir(Path::new("/d")).unwrap();
        file.append(b" two").unwrap();
        disk.rename(Path::new("/d/a.new"), Path::new("/d/a")).unwrap();
        assert_eq!(content(&disk.killed(), "/d/a").as_deref(), Some("one two"));
        let cut = disk.power_cut();
        assert_eq!((content(&cut, "/d/a"), content(&cut, "/d/a.new").as_deref()), (None, Some("one")));
        disk.sync_dir(Path::new("/d")).unwrap();
        assert_eq!(content(&disk.power_cut(), "/d/a").as_deref(), Some("one"));
        disk.remove_file(Path::new("/d/a")).unwrap();
        assert_eq!(content(&disk.power_cut(), "/d/a").as_deref(), Some("one"), "the removal is not durable");
        disk.sync_dir(Path::new("/d")).unwrap();
        assert_eq!(disk.power_cut().files(), [""; 0]);
    }

    #[test]
    fn of_what_is_not_durable_a_power_cut_keeps_any_part() {
        let disk = MemoryDisk::default();
        let file = disk.open(Path::new("/a"), Open::CreateNew).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        file.append(&[b'x'; 3 * SECTOR_BYTES]).unwrap();
        let (mut seed, mut seen) = (1_u64, HashSet::new());
        for _ in 0..2000 {
            let mut dice = |n| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (seed >> 33) % n
            };
            seen.insert(content(&disk.power_cut_by(&mut dice), "/a").unwrap().replace(&"x".repeat(SECTOR_BYTES), "S"));
        }
        let zeros = "\0".repeat(SECTOR_BYTES);
        for some in ["", "S", "SSS", &format!("{zeros}S"), &format!("{zeros}{zeros}{zeros}")] {
            assert!(seen.contains(some), "{:?} of {} forms", some.len(), seen.len());
        }
    }

    #[test]
    fn a_moment_is_kept_of_every_changing_call_and_a_write_can_be_torn() {
        let disk = MemoryDisk::default();
        disk.record();
        let file = disk.open(Path::new("/a"), Open::CreateNew).unwrap();
        file.append(b"abc").unwrap();
        file.set_len(1).unwrap();
        file.sync().unwrap();
        assert_eq!(disk.calls(), 4);
        let moments = disk.take_moments();
        assert_eq!(content(&moments[0].killed(), "/a").as_deref(), Some(""));
        assert_eq!(content(&moments[1].killed_within(&moments[0], 2).unwrap(), "/a").as_deref(), Some("ab"));
        assert!(moments[1].killed_within(&moments[0], 3).is_none() && moments[2].killed_within(&moments[1], 0).is_none());
        assert_eq!(content(&moments[2].killed(), "/a").as_deref(), Some("a"));
    }

    #[test]
    fn one_holds_a_lock_at_a_time() {
        let disk = MemoryDisk::default();
        let Locked::Ours(lock) = disk.try_lock(Path::new("/l")).unwrap() else { panic!("nobody has it") };
        assert!(matches!(disk.try_lock(Path::new("/l")).unwrap(), Locked::Held(_)));
        assert!(matches!(disk.killed().try_lock(Path::new("/l")).unwrap(), Locked::Ours(_)), "a killed process holds none");
        drop(lock);
        disk.lock(Path::new("/l")).unwrap();
    }
}
