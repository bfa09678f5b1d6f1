//! Files, as an argument: the store and the rooms touch the disk through [`Disk`] only, so that a test can refuse space,
//! tear a write, or stop after any call. Every call blocks.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::base::time::Timestamp;

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

/// What is known of a path. A symbolic link is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStat {
    /// It is a directory.
    pub is_dir: bool,
    /// Bytes.
    pub size: u64,
    /// Last change of its content.
    pub modified: Timestamp,
    /// Permission bits (`0o777` mask).
    pub mode: u32,
    /// Inode number: changes when a file is replaced by a rename.
    pub inode: u64,
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
    /// Makes a directory and its parents (0700) where they are missing.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// What is in a directory, in no order.
    fn list(&self, path: &Path) -> io::Result<Vec<DirItem>>;
    /// What is known of a path; `None` where there is nothing.
    fn stat(&self, path: &Path) -> io::Result<Option<FileStat>>;
    /// Makes names in this directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Bytes that this process could still write on the file system of `path`.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
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
        Some(stat) if !stat.is_dir => return disk.remove_file(path),
        Some(_) if depth == 0 => return Err(io::Error::other("directories lie too deep in one another")),
        Some(_) => {}
    }
    for item in disk.list(path)? {
        remove_all(disk, &path.join(item.name), depth - 1)?;
    }
    disk.remove_dir(path)
}

/// The error says that there is no space (or quota) left.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// An exclusive lock on a file, held until dropped or the process ends.
pub struct Lock(#[expect(dead_code, reason = "the lock is held for as long as the file is open")] File);

/// What came of trying to lock.
pub enum Locked {
    /// It is ours.
    Ours(Lock),
    /// Another process has it; this is what it wrote into the file (its process id).
    Held(String),
}

/// Takes the lock at `path` without waiting and writes our process id into it.
pub fn try_lock(path: &Path) -> io::Result<Locked> {
    use rustix::fs::{FlockOperation, flock};
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {
            let pid = format!("{}\n", std::process::id());
            // The process id is a courtesy; a full disk must not keep the server from starting.
            let _ = file.set_len(0).and_then(|()| file.write_all_at(pid.as_bytes(), 0));
            Ok(Locked::Ours(Lock(file)))
        }
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = [0; 32];
            let read = file.read_at(&mut text, 0).unwrap_or(0);
            let text = String::from_utf8_lossy(text.get(..read).unwrap_or_default());
            Ok(Locked::Held(text.trim().to_owned()))
        }
        Err(e) => Err(e.into()),
    }
}

/// Waits for the lock at `path`. Only for locks that are held for moments.
pub fn lock(path: &Path) -> io::Result<Lock> {
    use rustix::fs::{FlockOperation, flock};
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    flock(&file, FlockOperation::LockExclusive)?;
    Ok(Lock(file))
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
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<DirItem>> {
        let mut items = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let meta = match entry.metadata() {
                Ok(meta) => meta,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue, // removed meanwhile
                Err(e) => return Err(e),
            };
            items.push(DirItem { name, is_dir: meta.is_dir(), size: meta.len(), modified: modified(&meta) });
        }
        Ok(items)
    }
    fn stat(&self, path: &Path) -> io::Result<Option<FileStat>> {
        match fs::symlink_metadata(path) {
            Ok(meta) => Ok(Some(FileStat {
                is_dir: meta.is_dir(),
                size: meta.len(),
                modified: modified(&meta),
                mode: meta.mode() & 0o777,
                inode: meta.ino(),
            })),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

struct RealFile(File);

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
}

fn modified(meta: &fs::Metadata) -> Timestamp {
    let secs = u64::try_from(meta.mtime()).unwrap_or(0);
    let millis = u64::try_from(meta.mtime_nsec() / 1_000_000).unwrap_or(0);
    Timestamp::from_millis(secs.saturating_mul(1000).saturating_add(millis))
}
