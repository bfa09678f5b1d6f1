//! The files of a home that may be in use, opened beneath its directory and beneath its workspace's: no link leads out of them.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::BackupError;
use super::place::{HOME, Layout, OUTSIDE, Place, beneath};
use crate::sys::disk::{Disk, DiskDir, DiskFile, FileStat, Kind, Lock, Open, refusal};

/// Where a home lies.
pub struct Source {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) layout: Layout,
    at: PathBuf,
    home: PathBuf,
    workspace: PathBuf,
    home_dir: Box<dyn DiskDir>,
    workspace_dir: Option<Box<dyn DiskDir>>,
}

impl Source {
    /// A home and its workspace, both without links in their paths; the home is opened by `at`, since those above it may be closed to us.
    ///
    /// # Errors
    /// `Refused` where the home lies in the workspace, or there is nothing in it; `Io`.
    pub fn open(disk: Arc<dyn Disk>, at: &Path, home: &Path, workspace: &Path) -> Result<Self, BackupError> {
        let opened = |dir: &Path| disk.open_dir(dir).map_err(BackupError::io("the home", format_args!("opening {}", dir.display())));
        if home.starts_with(workspace) && home != workspace {
            let why =
                format!("the workspace {} holds the home itself; set kernel.workspace to a directory of its own", workspace.display());
            return Err(BackupError::Refused(why));
        }
        let layout = match workspace.strip_prefix(home).ok().map(Path::to_str) {
            Some(Some("")) => Layout::of(HOME),
            Some(Some(inside)) => Layout::of(&format!("{HOME}/{inside}")),
            Some(None) => None,
            None => Layout::of(OUTSIDE),
        };
        let layout = layout.ok_or_else(|| BackupError::Refused(format!("{} is no UTF-8", workspace.display())))?;
        let home_dir = opened(at)?;
        let workspace_dir = if layout.is_outside() { Some(opened(workspace)?) } else { None };
        Ok(Self { disk, layout, at: at.to_owned(), home: home.to_owned(), workspace: workspace.to_owned(), home_dir, workspace_dir })
    }

    /// What lies in a directory, by name, and how many names there are no UTF-8. Listed twice: a name that is renamed over during one
    /// listing is in the other.
    pub(super) fn list(&self, path: &str) -> io::Result<(BTreeMap<String, FileStat>, u64)> {
        let (mut names, mut others) = (BTreeMap::new(), 0);
        for _ in 0..2 {
            let dir = match self.dir(path) {
                Ok(dir) => dir,
                Err(e) if is_gone(&e) => break,
                Err(e) => return Err(e),
            };
            others = dir.list(&mut |name, stat| {
                names.insert(name.to_owned(), stat);
                ControlFlow::Continue(())
            })?;
        }
        Ok((names, others))
    }

    /// What a path is; `None` where there is nothing, or a link is on the way.
    pub(super) fn stat(&self, path: &str) -> io::Result<Option<FileStat>> {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        match self.dir(above).and_then(|dir| dir.stat(name)) {
            Err(e) if is_gone(&e) => Ok(None),
            other => other,
        }
    }

    /// What a directory is; `None` where there is none.
    pub(super) fn stat_of_dir(&self, path: &str) -> io::Result<Option<FileStat>> {
        match self.dir(path).and_then(|dir| dir.stat(".")) {
            Err(e) if is_gone(&e) => Ok(None),
            other => other,
        }
    }

    /// Opens a regular file; `None` where there is none (any more). Of the home's own files a link is followed, as the server does:
    /// somebody may keep a configuration elsewhere.
    pub(super) fn file(&self, path: &str) -> io::Result<Option<(Box<dyn DiskFile>, FileStat)>> {
        if let Some(Place::Together(_)) = self.layout.place(path) {
            let Some(stat) = self.stat(path)?.filter(|stat| stat.kind == Kind::Link) else { return self.beneath(path) };
            let file = self.disk.open(&self.path(&self.at, path), Open::Read)?;
            let stat = FileStat { kind: Kind::File, size: file.len()?, mode: 0o600, ..stat };
            return Ok(Some((file, stat)));
        }
        self.beneath(path)
    }

    fn beneath(&self, path: &str) -> io::Result<Option<(Box<dyn DiskFile>, FileStat)>> {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        match self.dir(above).and_then(|dir| dir.open_file(name)) {
            Ok((file, stat)) if stat.kind == Kind::File => Ok(Some((file, stat))),
            Ok(_) => Ok(None),
            Err(e) if is_gone(&e) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Takes a lock of the home or its workspace; nothing where it is not there, since nobody has ever taken it (and what root made for
    /// it, a server of another user could not open), or where the disk can only be read: then nobody changes what it guards.
    pub(super) fn lock(&self, path: &str) -> io::Result<Option<Lock>> {
        let path = self.path(&self.at, path);
        if self.disk.stat(&path)?.is_none() {
            return Ok(None);
        }
        match self.disk.lock(&path) {
            Ok(lock) => Ok(Some(lock)),
            Err(e) if refusal(&e).is_some() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Where it really lies, for messages.
    pub(super) fn real(&self, path: &str) -> PathBuf {
        self.path(&self.home, path)
    }

    fn path(&self, home: &Path, path: &str) -> PathBuf {
        if let (true, Some(inside)) = (self.layout.is_outside(), beneath(path, OUTSIDE)) {
            return self.workspace.join(inside);
        }
        beneath(path, HOME).map_or_else(|| home.to_owned(), |inside| home.join(inside))
    }

    fn dir(&self, path: &str) -> io::Result<Box<dyn DiskDir>> {
        let beneath_or_top = |top: &str| if path == top { Some(".") } else { beneath(path, top) };
        if let (Some(dir), Some(inside)) = (&self.workspace_dir, beneath_or_top(OUTSIDE)) {
            return dir.open_dir(inside);
        }
        self.home_dir.open_dir(beneath_or_top(HOME).ok_or(io::ErrorKind::NotFound)?)
    }
}

/// It is not there, or not what it was: a directory that became something else, or a link, which is never followed.
fn is_gone(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let gone = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP, Errno::NXIO, Errno::XDEV];
    error.kind() == io::ErrorKind::NotFound || gone.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
