//! What of the directory of sessions is durable, beside the content of its logs: what an earlier process left, and the names.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Acquire};
use std::sync::{Arc, Mutex};

use crate::base::log;
use crate::store::atomic;
use crate::sys::disk::{Disk, DiskFile};

/// Watches over one directory.
pub(crate) struct Durability {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// What an earlier process wrote and did not sync is durable. Held while that is made so: everybody who would show some of it
    /// waits.
    settled: Mutex<bool>,
    /// Reasons to doubt that the names are durable, so far: the first is that an earlier process may have made some.
    doubts: AtomicU64,
    /// As many of these are out of the way.
    sure: AtomicU64,
}

impl Durability {
    pub(crate) fn of(disk: Arc<dyn Disk>, dir: PathBuf) -> Self {
        Self { disk, dir, settled: Mutex::new(false), doubts: AtomicU64::new(1), sure: AtomicU64::new(0) }
    }

    /// Called before anything is shown: a killed process leaves records that a reader would see now, and that a power cut would
    /// take back. Once, everything on the file system is made durable; a sync of each log when it is opened would cost more.
    /// Where the disk does not do it, what is there is still read, and the next call tries again. Blocking.
    pub(crate) fn settle(&self) {
        let mut settled = self.settled.lock().unwrap_or_else(|e| e.into_inner());
        if *settled {
            return;
        }
        let doubts = self.doubts.load(Acquire);
        match self.disk.sync_all(&self.dir) {
            Ok(()) => {
                *settled = true;
                self.sure.fetch_max(doubts, AcqRel);
            }
            Err(e) => log::warn("store", format_args!("what an earlier process wrote may not be on the disk: {e}")),
        }
    }

    /// Makes the names durable. Where that fails, nothing is acknowledged in any session until it was done. Blocking.
    pub(crate) fn sync_names(&self) -> io::Result<()> {
        let doubts = self.doubts.load(Acquire);
        match self.disk.sync_dir(&self.dir) {
            Ok(()) => {
                self.sure.fetch_max(doubts, AcqRel);
                Ok(())
            }
            Err(e) => {
                self.doubts.fetch_add(1, AcqRel);
                Err(e)
            }
        }
    }

    /// Called before anything is acknowledged: the names are durable. Blocking where they are in doubt.
    pub(crate) fn sure_of_names(&self) -> io::Result<()> {
        if self.sure.load(Acquire) >= self.doubts.load(Acquire) { Ok(()) } else { self.sync_names() }
    }

    /// Puts a file in the directory, whole; content and name are durable when this returns. After an error it may be there. Blocking.
    pub(crate) fn put(&self, path: &Path, bytes: &[u8]) -> io::Result<Box<dyn DiskFile>> {
        let file = atomic::put(&*self.disk, path, bytes)?;
        self.sync_names().map(|()| file)
    }
}
