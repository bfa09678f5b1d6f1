//! Writing the home of a backup: whole, or not at all.
//!
//! Everything is put into a directory beside the home (`.oxios-restore-<name>`), made durable, and gets the home's name by one
//! rename. Stopped at any point there is no home, or the whole one; what was begun is removed by the next restore there. A
//! workspace that lies elsewhere gets its name right before the home.
//!
//! Nothing is written but new files beneath that directory, which is held open and nobody else's: the kernel resolves every name
//! beneath it and follows no link. Nothing else is removed: what somebody else put under its name is left alone, and so is the home.

use std::cell::Cell;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use super::place::{HOME, Layout, OUTSIDE, Place, beneath};
use super::read::{Content, Visitor, read};
use super::{BackupError, Doing, Watch};
use crate::store::atomic::make_dir;
use crate::sys::disk::{Disk, DiskDir, DiskFile, FileStat, Lock, Locked, names, remove_beneath};
use crate::sys::owner;
use crate::wire::path::RelPath;
use crate::wire::tar::Entry;

/// What a directory begins with in which a home is made.
const BESIDE: &str = ".oxios-restore-";
/// Directories in one another: a path has at most so many segments.
const DEPTH_MAX: usize = 1100;

/// Where a home goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The home, which does not exist or is empty. Its path has no links.
    pub home: PathBuf,
    /// Where a workspace goes that lay outside of its home.
    pub workspace: Whither,
}

/// Where a workspace goes that lay outside of its home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whither {
    /// Into the home, by this path beneath it.
    Inside(RelPath),
    /// There; like the home, it does not exist or is empty, and its path has no links.
    Outside(PathBuf),
}

impl Target {
    fn outside(&self) -> Option<&PathBuf> {
        match &self.workspace {
            Whither::Inside(_) => None,
            Whither::Outside(dir) => Some(dir),
        }
    }

    /// Why it cannot be written; `None` where it can.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn obstacle(&self, disk: &dyn Disk) -> io::Result<Option<String>> {
        for dir in std::iter::once(&self.home).chain(self.outside()) {
            match disk.stat(dir)? {
                None => {}
                Some(stat) if !stat.is_dir() => return Ok(Some(format!("{} is no directory", dir.display()))),
                Some(_) if disk.list(dir)?.is_empty() => {}
                Some(_) => return Ok(Some(format!("{} is not empty", dir.display()))),
            }
        }
        Ok(None)
    }
}

/// Writes the home of a backup that was verified; it is verified once more meanwhile. Durable when it returns.
///
/// # Errors
/// `Refused` where the target is not free, `Full`, `Stopped`, `Io`, and what is wrong with the file. Nothing is there then.
pub fn restore(disk: &dyn Disk, file: &dyn DiskFile, target: &Target, watch: Watch<'_>) -> Result<(), BackupError> {
    if let Some(why) = target.obstacle(disk).map_err(failed("looking at the home"))? {
        return Err(BackupError::Refused(why));
    }
    let home = Made::begin(disk, &target.home)?;
    let workspace = target.outside().map(|dir| Made::begin(disk, dir)).transpose().inspect_err(|_| home.forget())?;
    let done = fill(disk, file, (&home, workspace.as_ref()), &target.workspace, watch).and_then(|()| {
        if let Some(workspace) = &workspace {
            // It is a home's.
            workspace.dir.remove_file("lock").map_err(failed("making the workspace"))?;
            workspace.name()?;
        }
        home.name()
    });
    done.inspect_err(|_| std::iter::once(&home).chain(&workspace).for_each(Made::forget))
}

fn fill(
    disk: &dyn Disk,
    file: &dyn DiskFile,
    (home, outside): (&Made<'_>, Option<&Made<'_>>),
    whither: &Whither,
    watch: Watch<'_>,
) -> Result<(), BackupError> {
    let opened = |made: &Made<'_>| made.dir.open_dir(".").map_err(failed("opening the new home"));
    let workspace = match (whither, outside) {
        (Whither::Inside(inside), _) => Workspace::Inside(inside.as_str().to_owned()),
        (_, Some(made)) => Workspace::Outside(opened(made)?),
        (Whither::Outside(_), None) => return Err(BackupError::Stopped),
    };
    let mut putter = Putter { home: opened(home)?, workspace, above: None, file: None };
    read(file, Doing::Restoring, &mut putter, watch)?;
    // One sync for all files: one for each would take hours on a card.
    for made in std::iter::once(home).chain(outside) {
        disk.sync_all(&made.becomes.with_file_name(&made.beside)).map_err(failed("making the new home durable"))?;
    }
    Ok(())
}

/// A directory in the making, beside the one that it will be.
struct Made<'a> {
    becomes: &'a Path,
    /// The directory that both lie in, held open.
    above: Box<dyn DiskDir>,
    /// The names there: of the one in the making, and the one that it gets.
    beside: String,
    name: &'a str,
    /// It has got its name.
    named: Cell<bool>,
    /// The one in the making, whatever its name.
    dir: Box<dyn DiskDir>,
    /// Keeps another restore away; it is the lock of the home that this becomes, so it keeps a server away, too, until all is done.
    _lock: Lock,
}

impl<'a> Made<'a> {
    /// Makes it, and removes what an earlier restore left there.
    fn begin(disk: &dyn Disk, becomes: &'a Path) -> Result<Self, BackupError> {
        let (Some(name), Some(parent)) = (becomes.file_name().and_then(OsStr::to_str), becomes.parent()) else {
            return Err(BackupError::Refused(format!("{} is no place for a home", becomes.display())));
        };
        let beside = format!("{BESIDE}{name}");
        let path = becomes.with_file_name(&beside);
        let doing = || format!("making {}", path.display());
        make_dir(disk, parent).map_err(failed(doing()))?;
        let above = disk.open_dir(parent).map_err(failed(doing()))?;
        let made = above.create_dir(&beside);
        let new = match &made {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => false,
            _ => made.map(|()| true).map_err(failed(doing()))?,
        };
        // SECURITY: it may be a link that was planted there, or a directory that others read and write. A new one may be open to others
        // where the file system knows no modes.
        let refuse = |found: Option<FileStat>| match found {
            Some(stat) if stat.is_dir() && stat.owner == owner::me() && (new || stat.mode & 0o077 == 0) => Ok(()),
            _ => Err(BackupError::Refused(format!(
                "{} is there, and is no directory of ours alone; look at it and remove it",
                path.display()
            ))),
        };
        refuse(above.stat(&beside).map_err(failed(doing()))?)?;
        let dir = above.open_dir(&beside).map_err(failed(doing()))?;
        refuse(dir.stat(".").map_err(failed(doing()))?)?;
        let lock = match disk.try_lock(&path.join("lock")).map_err(failed(doing()))? {
            Locked::Ours(lock) => lock,
            Locked::Held(by) => {
                let why = format!("process {by} is restoring to {} already", becomes.display());
                return Err(BackupError::Refused(why));
            }
        };
        let this = Self { becomes, above, beside, name, named: Cell::new(false), dir, _lock: lock };
        this.clear().map_err(failed(doing()))?;
        Ok(this)
    }

    /// Gives it its name, durably.
    fn name(&self) -> Result<(), BackupError> {
        let doing = || format!("naming {}", self.becomes.display());
        self.above.rename(&self.beside, self.name).map_err(|source| match source.kind() {
            io::ErrorKind::ResourceBusy | io::ErrorKind::CrossesDevices => {
                let at = self.becomes.display();
                BackupError::Refused(format!("{at} is a mount point, which cannot be replaced at once; restore to a directory in it"))
            }
            _ => failed(doing())(source),
        })?;
        self.named.set(true);
        self.above.sync().map_err(failed(doing()))
    }

    /// It will not be, although it may have its name: the other of the two could not get its own. What cannot be removed is removed by
    /// the next restore here.
    fn forget(&self) {
        if self.named.get() && self.above.rename(self.name, &self.beside).is_err() {
            return;
        }
        let _ = self.clear();
        let _ = self.dir.remove_file("lock");
        let _ = self.above.remove_dir(&self.beside);
    }

    /// Removes what is in it, but not the lock.
    fn clear(&self) -> io::Result<()> {
        let mut names = names(self.dir.as_ref())?;
        names.retain(|name| name != "lock");
        names.iter().try_for_each(|name| remove_beneath(self.dir.as_ref(), name, DEPTH_MAX))
    }
}

/// Where a workspace goes that lay outside of its home.
enum Workspace {
    Inside(String),
    Outside(Box<dyn DiskDir>),
}

/// Puts files where they belong.
struct Putter {
    home: Box<dyn DiskDir>,
    workspace: Workspace,
    /// The directory that was used last, by its path in the backup: the next file mostly lies there, too.
    above: Option<(String, Box<dyn DiskDir>)>,
    /// The file that is being written, and how far.
    file: Option<(Box<dyn DiskFile>, u64)>,
}

impl Putter {
    /// Opens a directory, made with those above it where they are missing.
    fn dir(&mut self, path: &str) -> io::Result<&dyn DiskDir> {
        if self.above.as_ref().is_none_or(|(at, _)| at != path) {
            let (mut dir, inside) = match (&self.workspace, beneath_or_top(path, OUTSIDE), beneath_or_top(path, HOME)) {
                (_, None, Some(inside)) => (self.home.open_dir(".")?, inside.to_owned()),
                (Workspace::Inside(within), Some(inside), _) => (self.home.open_dir(".")?, format!("{within}/{inside}")),
                (Workspace::Outside(workspace), Some(inside), _) => (workspace.open_dir(".")?, inside.to_owned()),
                _ => return Err(io::ErrorKind::NotFound.into()),
            };
            for name in inside.split('/').filter(|name| !name.is_empty()) {
                match dir.create_dir(name) {
                    Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                    made => made?,
                }
                dir = dir.open_dir(name)?;
            }
            self.above = Some((path.to_owned(), dir));
        }
        self.above.as_ref().map(|(_, dir)| &**dir).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Visitor for Putter {
    fn begin(&mut self, _: &Layout, entry: &Entry, _: Place<'_>) -> Result<(), BackupError> {
        let path = entry.path.as_str();
        let doing = failed(format!("writing {path}"));
        if entry.is_dir {
            return self.dir(path).map(drop).map_err(doing);
        }
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        // Open to its owner only, whatever it was.
        let made = self.dir(above).and_then(|dir| dir.create_file(name, 0o600 | (entry.mode & 0o100)));
        self.file = Some((made.map_err(doing)?, 0));
        Ok(())
    }

    fn piece(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        let Some((file, at)) = &mut self.file else { return Ok(()) };
        file.write_at(bytes, *at).map_err(failed("writing the new home"))?;
        *at += bytes.len() as u64;
        Ok(())
    }

    fn end(&mut self, entry: &Entry, _: Place<'_>, _: &Content<'_>) -> Result<(), BackupError> {
        if let Some((file, _)) = self.file.take() {
            // Lists of files show it; nothing depends on it.
            let _ = file.set_modified(entry.modified);
        }
        Ok(())
    }
}

fn beneath_or_top<'a>(path: &'a str, top: &str) -> Option<&'a str> {
    if path == top { Some("") } else { beneath(path, top) }
}

fn failed(doing: impl std::fmt::Display) -> impl FnOnce(io::Error) -> BackupError {
    BackupError::io("the new home", doing)
}
