//! Files beneath one directory, so that no name can lead out of it (THREATS 18).
//!
//! Layers, in this order:
//! 1. Names: NUL, empty segments, `.`, `..`, absolute and overlong paths never reach the disk.
//! 2. Resolution: the disk holds the directory open and resolves names beneath it ([`DiskDir`]; on a real disk the kernel does,
//!    see `sys::real_dir`): a link anywhere on the way is refused and not followed. There is no fallback by comparing strings.
//! 3. Kinds: only regular files are read and only directories listed, judged on what was opened.
//! 4. Last segments: creating, renaming and removing act on (open parent, one name), which never follow a link.
//! 5. Sizes: every read and listing has a cap.

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Mutex;

use rustix::io::Errno;

use crate::base::limits::{NAME_BYTES_MAX, PATH_BYTES_MAX};
use crate::base::time::Timestamp;
use crate::sys::disk::{Disk, DiskDir, DiskFile, FileStat, Kind, read_full};

/// The name of the file being written; it becomes the wanted name by rename. Hidden from listings.
pub(crate) const TEMP: &str = ".oxios-write.tmp";

/// A directory and everything beneath it. All methods block; the cheapest way to share it is an `Arc`.
pub struct Root {
    dir: Box<dyn DiskDir>,
    /// Held while one file is written: there is one temporary name a directory, so a crash leaves at most one file behind,
    /// which the next write there removes.
    writing: Mutex<()>,
}

/// What lies beneath a root: a file or a directory; links and devices are not shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its last segment.
    pub name: String,
    /// A directory.
    pub is_dir: bool,
    /// Bytes; 0 for a directory.
    pub size: u64,
    /// When its content last changed.
    pub modified: Timestamp,
    /// Of that, the nanoseconds beyond its millisecond.
    pub modified_nanos: u32,
    /// Another one for each file that is there; a file that is written anew is another one.
    pub inode: u64,
}

/// Why it was not done.
#[derive(Debug)]
pub enum RootError {
    /// The path leads out of the directory or over a link.
    Escapes,
    /// The path has a NUL or an empty segment, or is too long.
    BadName,
    /// There is nothing.
    NotFound,
    /// It is no regular file.
    NotAFile,
    /// It is no directory, or a segment on the way is none.
    NotADirectory,
    /// It is there already.
    Exists,
    /// The directory has content.
    NotEmpty,
    /// The file is larger than the caller takes.
    TooLarge {
        /// Its bytes.
        size: u64,
        /// The caller's cap, bytes.
        limit: u64,
    },
    /// Something else of the system.
    Io(io::Error),
}

impl fmt::Display for RootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Escapes => f.write_str("the path leads out of its directory"),
            Self::BadName => f.write_str("the path is malformed or too long"),
            Self::NotFound => f.write_str("no such file or directory"),
            Self::NotAFile => f.write_str("not a regular file"),
            Self::NotADirectory => f.write_str("not a directory"),
            Self::Exists => f.write_str("it exists already"),
            Self::NotEmpty => f.write_str("the directory is not empty"),
            Self::TooLarge { size, limit } => write!(f, "{size} bytes are more than the limit of {limit}"),
            Self::Io(e) => write!(f, "{e}"),
        }
    }
}

impl std::error::Error for RootError {}

impl From<Errno> for RootError {
    fn from(errno: Errno) -> Self {
        match errno {
            // openat2(2): EXDEV leaves the directory, ELOOP met a link.
            Errno::XDEV | Errno::LOOP => Self::Escapes,
            Errno::NOENT => Self::NotFound,
            Errno::NOTDIR => Self::NotADirectory,
            Errno::ISDIR => Self::NotAFile,
            Errno::EXIST => Self::Exists,
            Errno::NOTEMPTY => Self::NotEmpty,
            Errno::NAMETOOLONG | Errno::INVAL | Errno::ILSEQ => Self::BadName,
            // A socket, or a device that is not there.
            Errno::NXIO | Errno::NODEV => Self::NotAFile,
            other => Self::Io(other.into()),
        }
    }
}

impl From<io::Error> for RootError {
    fn from(e: io::Error) -> Self {
        e.raw_os_error().map_or_else(|| Self::Io(io::Error::other("short")), |n| Errno::from_raw_os_error(n).into())
    }
}

impl Root {
    /// Opens an existing directory.
    pub fn open(disk: &dyn Disk, dir: &Path) -> Result<Self, RootError> {
        Ok(Self { dir: disk.open_dir(dir)?, writing: Mutex::new(()) })
    }

    /// A whole file of at most `max` bytes.
    pub fn read(&self, path: &str, max: usize) -> Result<Vec<u8>, RootError> {
        let (bytes, size) = self.read_start(path, max)?;
        if size > bytes.len() as u64 {
            return Err(RootError::TooLarge { size, limit: max as u64 });
        }
        Ok(bytes)
    }

    /// The first `max` bytes of a file, and the size of all of it.
    pub fn read_start(&self, path: &str, max: usize) -> Result<(Vec<u8>, u64), RootError> {
        let (file, item) = self.open_file(path)?;
        // One byte more than its size, or than is asked for, tells a file that grows meanwhile.
        let want = usize::try_from(item.size).unwrap_or(max).min(max).saturating_add(1);
        let mut bytes = vec![0; want];
        let read = read_full(file.as_ref(), &mut bytes, 0)?;
        bytes.truncate(read.min(max));
        Ok((bytes, item.size.max(read as u64)))
    }

    /// A regular file, opened for reading, and what it is.
    pub fn open_file(&self, path: &str) -> Result<(Box<dyn DiskFile>, Item), RootError> {
        let segments = segments(path)?;
        let (parent, name) = self.parent_of(&segments)?;
        let (file, stat) = parent.open_file(name)?;
        match item(name, &stat) {
            Some(item) if !item.is_dir => Ok((file, item)),
            _ => Err(RootError::NotAFile),
        }
    }

    /// Writes a file whole, making its directories: temporary file, sync, rename, sync of the directory. After a crash at any
    /// point the name holds the old content or the new. The mode of an existing file is kept, a new one has 0600.
    pub fn write_atomic(&self, path: &str, bytes: &[u8]) -> Result<(), RootError> {
        self.write(path, bytes, false)
    }

    /// Makes an empty file, and the directories above it; where there is something already, that stays as it is and the answer is
    /// [`RootError::Exists`].
    pub fn create(&self, path: &str) -> Result<(), RootError> {
        self.write(path, b"", true)
    }

    fn write(&self, path: &str, bytes: &[u8], new: bool) -> Result<(), RootError> {
        let segments = segments(path)?;
        let Some((name, above)) = segments.split_last() else { return Err(RootError::NotAFile) };
        self.make_segments(above)?;
        let parent = self.dir_at(above)?;
        // Before the look: what is written meanwhile is not written over by somebody who saw that nothing was there.
        let _one_at_a_time = self.writing.lock().unwrap_or_else(|e| e.into_inner());
        let mode = match parent.stat(name)? {
            Some(_) if new => return Err(RootError::Exists),
            Some(stat) => match stat.kind {
                Kind::File => stat.mode,
                Kind::Link => return Err(RootError::Escapes),
                _ => return Err(RootError::NotAFile),
            },
            None => 0o600,
        };
        match parent.remove_file(TEMP) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e.into()),
            _ => {}
        }
        let written = (|| -> io::Result<()> {
            let file = parent.create_file(TEMP, mode)?;
            file.write_at(bytes, 0)?;
            file.sync()?;
            parent.rename(TEMP, name)
        })();
        if written.is_err() {
            // The next write here would remove it too; a full disk should have its bytes back now.
            let _ = parent.remove_file(TEMP);
        }
        written?;
        Ok(parent.sync()?)
    }

    /// Files and directories in a directory (`""` is the root), directories first, then by name; at most `max`, and whether
    /// there are more.
    pub fn list(&self, dir: &str, max: usize) -> Result<(Vec<Item>, bool), RootError> {
        let dir = self.dir_at(&segments(dir)?)?;
        let mut items = Vec::new();
        let mut more = false;
        dir.list(&mut |name, stat| {
            let Some(item) = item(name, &stat).filter(|item| item.name != TEMP) else { return ControlFlow::Continue(()) };
            if items.len() == max {
                more = true;
                return ControlFlow::Break(());
            }
            items.push(item);
            ControlFlow::Continue(())
        })?;
        items.sort_by(|a, b| b.is_dir.cmp(&a.is_dir).then_with(|| a.name.cmp(&b.name)));
        Ok((items, more))
    }

    /// What a path is; `None` where there is nothing. A link or a device is an error.
    pub fn stat(&self, path: &str) -> Result<Option<Item>, RootError> {
        let segments = segments(path)?;
        let (parent, name) = match self.parent_of(&segments) {
            Err(RootError::NotFound) => return Ok(None),
            other => other?,
        };
        let Some(stat) = parent.stat(name)? else { return Ok(None) };
        match stat.kind {
            Kind::Link => Err(RootError::Escapes),
            _ => item(name, &stat).map(Some).ok_or(RootError::NotAFile),
        }
    }

    /// Removes a file or an empty directory; durable when this returns.
    pub fn remove(&self, path: &str) -> Result<(), RootError> {
        let segments = segments(path)?;
        if segments.is_empty() {
            return Err(RootError::Escapes);
        }
        let (parent, name) = self.parent_of(&segments)?;
        let stat = parent.stat(name)?.ok_or(RootError::NotFound)?;
        if stat.is_dir() {
            parent.remove_dir(name)?
        } else {
            parent.remove_file(name)?
        }
        Ok(parent.sync()?)
    }

    /// Makes a directory and those above it (0700); one that is there is fine.
    pub fn make_dir(&self, path: &str) -> Result<(), RootError> {
        self.make_segments(&segments(path)?)
    }

    fn make_segments(&self, segments: &[&str]) -> Result<(), RootError> {
        for end in 1..=segments.len() {
            let Some((name, above)) = segments.get(..end).and_then(|s| s.split_last()) else { break };
            let parent = self.dir_at(above)?;
            match parent.create_dir(name) {
                Ok(()) => parent.sync()?,
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e.into()),
            }
        }
        self.dir_at(segments).map(drop)
    }

    /// The directory that holds the last segment, and that segment (`.` for the root itself).
    fn parent_of<'a>(&self, segments: &[&'a str]) -> Result<(Box<dyn DiskDir>, &'a str), RootError> {
        match segments.split_last() {
            Some((name, above)) => Ok((self.dir_at(above)?, name)),
            None => Ok((self.dir_at(&[])?, ".")),
        }
    }

    fn dir_at(&self, segments: &[&str]) -> Result<Box<dyn DiskDir>, RootError> {
        Ok(if segments.is_empty() { self.dir.open_dir(".") } else { self.dir.open_dir(&segments.join("/")) }?)
    }
}

fn item(name: &str, stat: &FileStat) -> Option<Item> {
    let size = match stat.kind {
        Kind::File => stat.size,
        Kind::Dir => 0,
        Kind::Link | Kind::Other => return None,
    };
    let FileStat { modified, modified_nanos, inode, .. } = *stat;
    Some(Item { name: name.to_owned(), is_dir: stat.is_dir(), size, modified, modified_nanos, inode })
}

/// The path's segments; `""`, `.` and `/`-less relative paths only. A leading `./` and one closing `/` are taken as said.
fn segments(path: &str) -> Result<Vec<&str>, RootError> {
    if path.len() > PATH_BYTES_MAX || path.contains('\0') {
        return Err(RootError::BadName);
    }
    if path.starts_with('/') {
        return Err(RootError::Escapes);
    }
    let path = path.strip_suffix('/').unwrap_or(path);
    let path = path.strip_prefix("./").unwrap_or(path);
    if matches!(path, "" | ".") {
        return Ok(Vec::new());
    }
    path.split('/')
        .map(|segment| match segment {
            ".." => Err(RootError::Escapes),
            "" | "." => Err(RootError::BadName),
            TEMP => Err(RootError::BadName),
            long if long.len() > NAME_BYTES_MAX => Err(RootError::BadName),
            fine => Ok(fine),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use rustix::fs::{FileType, Mode};

    use super::*;
    use crate::sys::disk::RealDisk;
    use crate::sys::fault_disk::FaultDisk;
    use crate::sys::memory_disk::MemoryDisk;

    struct Place(PathBuf);
    impl Place {
        fn new(name: &str) -> (Self, Root) {
            let dir = std::env::temp_dir().join(format!("oxios-root-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&dir);
            std::fs::create_dir_all(dir.join("in/sub")).unwrap();
            std::fs::write(dir.join("secret"), "outside").unwrap();
            std::fs::write(dir.join("in/a.txt"), "hello").unwrap();
            let root = Root::open(&RealDisk, &dir.join("in")).unwrap();
            (Self(dir), root)
        }
    }
    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn reads_writes_lists_and_removes_beneath() {
        let (place, root) = Place::new("plain");
        assert_eq!(root.read("a.txt", 5).unwrap(), b"hello");
        assert_eq!(root.read("./a.txt", 99).unwrap(), b"hello");
        assert!(matches!(root.read("a.txt", 4), Err(RootError::TooLarge { size: 5, limit: 4 })));
        assert_eq!(root.read_start("a.txt", 2).unwrap(), (b"he".to_vec(), 5));
        root.write_atomic("x/y/z.txt", b"new").unwrap();
        root.write_atomic("x/y/z.txt", b"newer").unwrap();
        assert_eq!(std::fs::read(place.0.join("in/x/y/z.txt")).unwrap(), b"newer");
        let (items, more) = root.list("", 100).unwrap();
        let names: Vec<_> = items.iter().map(|i| (i.name.as_str(), i.is_dir, i.size)).collect();
        assert_eq!(names, [("sub", true, 0), ("x", true, 0), ("a.txt", false, 5)]);
        assert!(!more);
        assert!(root.list("", 1).unwrap().1);
        assert!(matches!(root.remove("x"), Err(RootError::NotEmpty)));
        root.remove("x/y/z.txt").unwrap();
        root.remove("x/y").unwrap();
        assert_eq!(root.stat("x/y").unwrap(), None);
        assert_eq!(root.stat("no/such/place").unwrap(), None);
        assert!(root.stat("").unwrap().unwrap().is_dir);
        assert!(matches!(root.remove(""), Err(RootError::Escapes)));
    }

    #[test]
    fn no_name_leads_out() {
        let (_place, root) = Place::new("names");
        let deep = "d/".repeat(3000);
        let long = "n".repeat(300);
        for bad in ["..", "../secret", "sub/../../secret", "/etc/passwd", "a\0b", "sub//x", "sub/./x", &deep, &long, TEMP] {
            assert!(matches!(root.read(bad, 99), Err(RootError::Escapes | RootError::BadName)), "read {bad:.20}");
            assert!(matches!(root.write_atomic(bad, b"x"), Err(RootError::Escapes | RootError::BadName)), "write {bad:.20}");
            assert!(matches!(root.list(bad, 9), Err(RootError::Escapes | RootError::BadName)), "list {bad:.20}");
            assert!(matches!(root.remove(bad), Err(RootError::Escapes | RootError::BadName)), "remove {bad:.20}");
            assert!(matches!(root.make_dir(bad), Err(RootError::Escapes | RootError::BadName)), "make {bad:.20}");
            assert!(matches!(root.stat(bad), Err(RootError::Escapes | RootError::BadName)), "stat {bad:.20}");
        }
    }

    #[test]
    fn links_are_refused_wherever_they_point() {
        let (place, root) = Place::new("links");
        let inside = place.0.join("in");
        std::os::unix::fs::symlink(place.0.join("secret"), inside.join("out")).unwrap();
        std::os::unix::fs::symlink("../secret", inside.join("up")).unwrap();
        std::os::unix::fs::symlink("a.txt", inside.join("near")).unwrap();
        std::os::unix::fs::symlink(&place.0, inside.join("dir")).unwrap();
        std::os::unix::fs::symlink("/proc/self/root", inside.join("magic")).unwrap();
        for name in ["out", "up", "near", "dir/secret", "magic/etc/passwd"] {
            assert!(matches!(root.read(name, 99), Err(RootError::Escapes)), "{name}");
            assert!(matches!(root.write_atomic(name, b"x"), Err(RootError::Escapes)), "{name}");
            assert!(matches!(root.stat(name), Err(RootError::Escapes)), "{name}");
        }
        assert!(matches!(root.list("dir", 9), Err(RootError::Escapes)));
        assert!(matches!(root.make_dir("dir/new"), Err(RootError::Escapes)));
        assert!(matches!(root.remove("dir/secret"), Err(RootError::Escapes)));
        assert_eq!(std::fs::read(place.0.join("secret")).unwrap(), b"outside");
        assert!(!root.list("", 99).unwrap().0.iter().any(|i| i.name == "out"));
        // A link itself may be removed; what it points to stays.
        root.remove("out").unwrap();
        assert!(place.0.join("secret").exists());
    }

    #[test]
    fn devices_and_pipes_do_not_block() {
        let (place, root) = Place::new("kinds");
        let fifo = place.0.join("in/pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert!(matches!(root.read("pipe", 9), Err(RootError::NotAFile)));
        assert!(matches!(root.write_atomic("pipe", b"x"), Err(RootError::NotAFile)));
        assert!(matches!(root.stat("pipe"), Err(RootError::NotAFile)));
        assert!(matches!(root.read("sub", 9), Err(RootError::NotAFile)));
        assert!(matches!(root.read("a.txt/b", 9), Err(RootError::NotADirectory)));
        assert!(matches!(root.write_atomic("sub", b"x"), Err(RootError::NotAFile)));
    }

    #[test]
    fn a_leftover_temporary_file_is_replaced() {
        let (place, root) = Place::new("temp");
        std::os::unix::fs::symlink(place.0.join("secret"), place.0.join("in").join(TEMP)).unwrap();
        root.write_atomic("b.txt", b"fine").unwrap();
        assert_eq!(std::fs::read(place.0.join("secret")).unwrap(), b"outside");
        assert_eq!(root.read("b.txt", 9).unwrap(), b"fine");
    }

    #[test]
    fn stopped_at_any_call_a_file_is_the_old_or_the_new_one_and_a_written_one_survives_a_power_cut() {
        for torn in [0, 2] {
            for k in 0.. {
                let memory = MemoryDisk::default();
                memory.create_dir(Path::new("/w")).unwrap();
                memory.sync_dir(Path::new("/")).unwrap();
                let disk = FaultDisk::before(Arc::new(memory.clone()));
                let root = Root::open(&disk, Path::new("/w")).unwrap();
                root.write_atomic("d/old.txt", b"old").unwrap();
                disk.tear(torn);
                disk.stop_after(Some(k));
                let changed = root.write_atomic("d/old.txt", b"newer").is_ok();
                let made = root.write_atomic("e/f/new.txt", b"new").is_ok();
                let removed = root.remove("d/old.txt").is_ok();
                for (left, how) in [(memory.killed(), "killed"), (memory.power_cut(), "power cut")] {
                    let root = Root::open(&left, Path::new("/w")).unwrap();
                    let read = |path| root.read(path, 9).map(|bytes| String::from_utf8(bytes).unwrap()).unwrap_or_default();
                    let (old, new) = (read("d/old.txt"), read("e/f/new.txt"));
                    match (changed, made, removed) {
                        (false, ..) => assert!(old == "old" || old == "newer", "{how} after {k}: {old:?}"),
                        (_, false, _) => assert_eq!(old, "newer", "{how} after {k}"),
                        (.., false) => assert!(old.is_empty() || old == "newer", "{how} after {k}: {old:?}"),
                        (.., true) => assert_eq!(old, "", "{how} after {k}"),
                    }
                    assert!(new == "new" || (!made && new.is_empty()), "{how} after {k}: {new:?}");
                    root.write_atomic("d/old.txt", b"newest").unwrap();
                    assert_eq!(root.list("d", 9).unwrap().0.len(), 1, "{how} after {k}: what was begun is gone");
                }
                if removed {
                    break;
                }
            }
        }
    }

    #[test]
    fn making_a_file_never_takes_what_somebody_else_has_written() {
        let memory = MemoryDisk::default();
        memory.create_dir(Path::new("/w")).unwrap();
        let root = Root::open(&memory, Path::new("/w")).unwrap();
        root.create("a/b.txt").unwrap();
        assert!(matches!(root.create("a/b.txt"), Err(RootError::Exists)) && matches!(root.create("a"), Err(RootError::Exists)));
        for n in 0..300 {
            let path = format!("{n}.txt");
            let made = std::thread::scope(|scope| {
                scope.spawn(|| root.write_atomic(&path, b"kept").unwrap());
                let makers = [scope.spawn(|| root.create(&path).is_ok()), scope.spawn(|| root.create(&path).is_ok())];
                makers.map(|maker| usize::from(maker.join().unwrap())).iter().sum::<usize>()
            });
            assert_eq!(root.read(&path, 9).unwrap(), b"kept");
            assert!(made <= 1, "{made} are told that they made it");
        }
    }
}
