//! Files, as an argument: the store and the rooms touch the disk through [`Disk`] only, so that a test can refuse space,
//! tear a write, or stop after any call. Every call blocks.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;

use crate::base::time::Timestamp;
use crate::sys::real_dir::RealDir;

/// How often a lock that is held is tried again, and how much later: who only looks at it (see [`holder`]) is gone by then.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(1);

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// It exists and is only read.
    Read,
    /// It exists or is made (0600); it is read and written.
    Append,
    /// It must not exist; it is made (0600), read and written.
    CreateNew,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirItem {
    /// Its name; entries whose names are not UTF-8 are left out.
    pub name: String,
    /// It is a directory.
    pub is_dir: bool,
    /// Bytes.
    pub size: u64,
    /// Last change of its content.
    pub modified: Timestamp,
}

/// What lies under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Link,
    /// A pipe, a socket, a device.
    Other,
}

/// What is known of a path. A symbolic link is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStat {
    /// File, directory, or what else.
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
    /// Last change of its content.
    pub modified: Timestamp,
    /// Of that, the nanoseconds beyond its millisecond.
    pub modified_nanos: u32,
    /// Permission bits (`0o777` mask).
    pub mode: u32,
    /// The user that it belongs to.
    pub owner: u32,
    /// Inode number: changes when a file is replaced by a rename.
    pub inode: u64,
}

impl FileStat {
    /// It is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == Kind::Dir
    }
}

/// The file system.
pub trait Disk: Send + Sync + 'static {
    /// Opens a file.
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>>;
    /// Moves a file over another one, atomically within one file system.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Exchanges two files or directories, atomically within one file system; not every file system can.
    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes a directory (0700) in one that is there.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// What is in a directory, in no order; what is there but cannot be looked at has no size.
    fn list(&self, path: &Path) -> io::Result<Vec<DirItem>>;
    /// What is known of a path; `None` where there is nothing.
    fn stat(&self, path: &Path) -> io::Result<Option<FileStat>>;
    /// Makes names in this directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes everything durable that any process has written to the file system of `path`.
    fn sync_all(&self, path: &Path) -> io::Result<()>;
    /// Bytes that this process could still write on the file system of `path`; `ReadOnlyFilesystem` where it can only be read.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
    /// Holds a directory open, so that strangers' names are resolved beneath it.
    fn open_dir(&self, path: &Path) -> io::Result<Box<dyn DiskDir>>;
    /// Takes the exclusive lock at `path` without waiting, and leaves our process id there. The file is made where it is missing.
    fn try_lock(&self, path: &Path) -> io::Result<Locked>;
    /// Waits for the lock at `path`. Only for locks that are held for moments.
    fn lock(&self, path: &Path) -> io::Result<Lock>;
}

/// A directory that is held open. What it is asked for lies beneath it, whatever is renamed or linked meanwhile: whoever keeps the
/// files resolves the names (the kernel on a real disk) and refuses a link with `ELOOP`, a way out with `EXDEV`.
pub trait DiskDir: Send + Sync {
    /// Opens a directory beneath this one: segments parted by `/`, or `.` for this one.
    fn open_dir(&self, path: &str) -> io::Result<Box<dyn DiskDir>>;
    /// Opens what has this name for reading and tells what was opened; does not wait for the other end of a pipe.
    fn open_file(&self, name: &str) -> io::Result<(Box<dyn DiskFile>, FileStat)>;
    /// Makes a file with these permissions; it must not exist.
    fn create_file(&self, name: &str, mode: u32) -> io::Result<Box<dyn DiskFile>>;
    /// Makes a directory (0700).
    fn create_dir(&self, name: &str) -> io::Result<()>;
    /// Moves a file over another one in this directory, atomically.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes what is no directory; of a link, the link.
    fn remove_file(&self, name: &str) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, name: &str) -> io::Result<()>;
    /// What has this name; `None` where there is nothing. A link is not followed.
    fn stat(&self, name: &str) -> io::Result<Option<FileStat>>;
    /// Shows every entry whose name is UTF-8, in no order, until told to stop; tells how many others there were.
    fn list(&self, each: &mut dyn FnMut(&str, FileStat) -> ControlFlow<()>) -> io::Result<u64>;
    /// Makes names in this directory durable.
    fn sync(&self) -> io::Result<()>;
}

/// An open file. All offsets are from its start; the object has no position of its own, so any thread may use it.
pub trait DiskFile: Send + Sync {
    /// Reads at most `buffer.len()` bytes; 0 at the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all bytes at `offset`. After an error any part of them may be there.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes content and length durable (`fdatasync`).
    fn sync(&self) -> io::Result<()>;
    /// Cuts or extends.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Bytes.
    fn len(&self) -> io::Result<u64>;
    /// Says when it was last changed, in seconds since 1970; a disk that does not care does nothing.
    fn set_modified(&self, _secs: u64) -> io::Result<()> {
        Ok(())
    }
    /// It has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Writes all bytes behind the last one. Only for a file with one writer.
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.write_at(bytes, self.len()?)
    }
}

/// Reads a whole file of at most `max` bytes; a longer one is an error of kind `FileTooLarge`.
pub fn read_whole(disk: &dyn Disk, path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(path, Open::Read)?;
    let len = file.len()?;
    if len > max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("{len} bytes, at most {max} are read")));
    }
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    let read = read_full(file.as_ref(), &mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Fills `buffer` from `offset` as far as the file goes; tells how far that was.
pub fn read_full(file: &dyn DiskFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while let Some(rest) = buffer.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + read as u64) {
            Ok(0) => break,
            Ok(n) => read += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(read)
}

/// Removes a file, or a directory with all that lies in it, at most `depth` directories deep; nothing there is fine. A link is
/// removed, never followed.
pub fn remove_all(disk: &dyn Disk, path: &Path, depth: usize) -> io::Result<()> {
    match disk.stat(path)? {
        None => return Ok(()),
        Some(stat) if !stat.is_dir() => return disk.remove_file(path),
        Some(_) if depth == 0 => return Err(io::Error::other("directories lie too deep in one another")),
        Some(_) => {}
    }
    for item in disk.list(path)? {
        remove_all(disk, &path.join(item.name), depth - 1)?;
    }
    disk.remove_dir(path)
}

/// [`remove_all`] beneath a directory that is held open: no link that comes on the way meanwhile leads out of it.
pub fn remove_beneath(dir: &dyn DiskDir, path: &str, depth: usize) -> io::Result<()> {
    let (above, name) = path.rsplit_once('/').unwrap_or((".", path));
    // Opened for each: one that is held for every directory on the way down is more than a process may hold.
    match dir.open_dir(above)?.stat(name)? {
        None => return Ok(()),
        Some(stat) if !stat.is_dir() => return dir.open_dir(above)?.remove_file(name),
        Some(_) if depth == 0 => return Err(io::Error::other("directories lie too deep in one another")),
        Some(_) => {}
    }
    for inner in names(dir.open_dir(path)?.as_ref())? {
        remove_beneath(dir, &format!("{path}/{inner}"), depth - 1)?;
    }
    dir.open_dir(above)?.remove_dir(name)
}

/// The names in a directory that is held open.
pub fn names(dir: &dyn DiskDir) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    dir.list(&mut |name, _| {
        names.push(name.to_owned());
        ControlFlow::Continue(())
    })?;
    Ok(names)
}

/// The error says that there is no space (or quota) left.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Why the disk of the home takes nothing for now, in words for readers outside; `None` for every other error. Somebody who makes
/// room heals it.
pub fn refusal(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        _ if is_full(error) => Some("no space is left on the disk of the home; free some, nothing else is needed"),
        // A card that fails is often turned so by the system itself.
        io::ErrorKind::ReadOnlyFilesystem => {
            Some("the disk of the home can only be read, and the system's log may say why; mount it for writing, nothing else is needed")
        }
        _ => None,
    }
}

/// The device fails, or what lies between: nothing about the one file, and no permission of it, says so.
pub fn is_failure(error: &io::Error) -> bool {
    let device = [Errno::IO, Errno::NXIO, Errno::NODEV, Errno::UCLEAN, Errno::REMOTEIO, Errno::TIMEDOUT, Errno::STALE];
    // Without a number it is our own: less was written or read than there must be.
    Errno::from_io_error(error).is_none_or(|errno| device.contains(&errno))
}

/// An exclusive lock, held until dropped or the process ends.
pub struct Lock(#[expect(dead_code, reason = "what is held is let go by being dropped")] Box<dyn Send + Sync>);

impl Lock {
    /// The lock that this value holds for as long as it lives.
    pub fn by(held: impl Send + Sync + 'static) -> Self {
        Self(Box::new(held))
    }
}

/// What came of trying to lock.
pub enum Locked {
    /// It is ours.
    Ours(Lock),
    /// Another process has it; this is what it wrote into the file (its process id).
    Held(String),
}

/// The operating system's files.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).mode(0o600);
        match how {
            Open::Read => {}
            Open::Append => {
                options.write(true).create(true);
            }
            Open::CreateNew => {
                options.write(true).create_new(true);
            }
        }
        Ok(Box::new(RealFile(options.open(path)?)))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }
    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().mode(0o700).create(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<DirItem>> {
        let mut items = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            items.push(match entry.metadata() {
                Ok(meta) => DirItem { name, is_dir: meta.is_dir(), size: meta.len(), modified: modified(&meta) },
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue, // removed meanwhile
                // One that is damaged must not take the others with it; its own opening will fail.
                Err(_) => {
                    let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
                    DirItem { name, is_dir, size: 0, modified: Timestamp::default() }
                }
            });
        }
        Ok(items)
    }
    fn stat(&self, path: &Path) -> io::Result<Option<FileStat>> {
        match fs::symlink_metadata(path) {
            Ok(meta) => Ok(Some(about(&meta))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
    fn sync_all(&self, path: &Path) -> io::Result<()> {
        Ok(rustix::fs::syncfs(File::open(path)?)?)
    }
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        if stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
    fn open_dir(&self, path: &Path) -> io::Result<Box<dyn DiskDir>> {
        Ok(Box::new(RealDir::open(path)?))
    }
    fn try_lock(&self, path: &Path) -> io::Result<Locked> {
        let file = lock_file(path)?;
        match patiently(|| flock(&file, FlockOperation::NonBlockingLockExclusive), || std::thread::sleep(LOCK_PAUSE)) {
            Ok(()) => {
                let pid = format!("{}\n", std::process::id());
                // The process id is a courtesy; a full disk must not keep the server from starting.
                let _ = file.set_len(0).and_then(|()| file.write_all_at(pid.as_bytes(), 0));
                Ok(Locked::Ours(Lock::by(Flocked(file))))
            }
            Err(Errno::WOULDBLOCK) => Ok(Locked::Held(left_in(&file))),
            Err(e) => Err(e.into()),
        }
    }
    fn lock(&self, path: &Path) -> io::Result<Lock> {
        let file = lock_file(path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(Lock::by(Flocked(file)))
    }
}

/// A file that is locked.
struct Flocked(File);

impl Drop for Flocked {
    /// Closing is not enough: a child that is just being started has the descriptor, too, until it is another program (flock(2)).
    fn drop(&mut self) {
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// Who holds the real lock at `path`: what it left there, its process id; `None`: nobody. Nothing is made or written.
pub fn holder(path: &Path) -> io::Result<Option<String>> {
    let file = match open(path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        opened => File::from(opened?),
    };
    // Two who look do not keep each other away, and what is ours by this is let go at once.
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => {
            drop(Flocked(file));
            Ok(None)
        }
        Err(Errno::WOULDBLOCK) => Ok(Some(left_in(&file))),
        Err(e) => Err(e.into()),
    }
}

/// SECURITY: whoever may write in the directory could have a link there, and what it leads to would be cut.
fn lock_file(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(open(path, flags, Mode::RUSR | Mode::WUSR)?))
}

fn patiently(mut lock: impl FnMut() -> Result<(), Errno>, mut pause: impl FnMut()) -> Result<(), Errno> {
    for _ in 0..LOCK_TRIES {
        match lock() {
            Err(Errno::WOULDBLOCK) => pause(),
            other => return other,
        }
    }
    lock()
}

/// What whoever holds a lock wrote into its file.
fn left_in(file: &File) -> String {
    let mut text = [0; 32];
    let read = file.read_at(&mut text, 0).unwrap_or(0);
    String::from_utf8_lossy(text.get(..read).unwrap_or_default()).trim().to_owned()
}

/// A file of the operating system.
pub(super) struct RealFile(pub(super) File);

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
    fn set_modified(&self, secs: u64) -> io::Result<()> {
        let time = std::time::UNIX_EPOCH.checked_add(Duration::from_secs(secs));
        self.0.set_modified(time.ok_or(io::ErrorKind::InvalidInput)?)
    }
}

const NANOS_PER_MILLI: i64 = 1_000_000;

/// What an open file, or a path, is.
pub(super) fn about(meta: &fs::Metadata) -> FileStat {
    let of = meta.file_type();
    let kind = match () {
        () if of.is_file() => Kind::File,
        () if of.is_dir() => Kind::Dir,
        () if of.is_symlink() => Kind::Link,
        () => Kind::Other,
    };
    let modified_nanos = u32::try_from(meta.mtime_nsec() % NANOS_PER_MILLI).unwrap_or(0);
    let (modified, mode) = (modified(meta), meta.mode() & 0o777);
    FileStat { kind, size: meta.len(), modified, modified_nanos, mode, owner: meta.uid(), inode: meta.ino() }
}

fn modified(meta: &fs::Metadata) -> Timestamp {
    let secs = u64::try_from(meta.mtime()).unwrap_or(0);
    let millis = u64::try_from(meta.mtime_nsec() / NANOS_PER_MILLI).unwrap_or(0);
    Timestamp::from_millis(secs.saturating_mul(1000).saturating_add(millis))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    /// As a child has it from its start until it is another program.
    #[test]
    fn a_lock_that_is_let_go_is_free_though_somebody_has_the_descriptor_too() {
        let file = File::from(rustix::fs::memfd_create("lock", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
        let (anew, childs) =
            (File::options().write(true).open(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap(), file.try_clone().unwrap());
        flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
        assert_eq!(flock(&anew, FlockOperation::NonBlockingLockExclusive), Err(Errno::WOULDBLOCK));
        drop(Flocked(file));
        assert_eq!(flock(&anew, FlockOperation::NonBlockingLockExclusive), Ok(()));
        drop(childs);
    }

    /// Who asks whether a server runs keeps none from starting; another server does.
    #[test]
    fn a_lock_that_is_held_for_a_moment_is_waited_for() {
        for (held, got) in [(0, Ok(())), (3, Ok(())), (u32::MAX, Err(Errno::WOULDBLOCK))] {
            let (mut tried, mut paused) = (0, 0);
            let lock = || {
                tried += 1;
                if tried > held { Ok(()) } else { Err(Errno::WOULDBLOCK) }
            };
            assert_eq!(patiently(lock, || paused += 1), got);
            assert_eq!(paused, held.min(LOCK_TRIES));
        }
    }
}
