//! The files of the memories, `<workspace>/memory/<category>/<id>.json`: written, read, removed, and looked through for what
//! somebody else has changed.

use std::io;
use std::path::PathBuf;

use crate::base::ids::MemoryId;
use crate::base::limits::MEMORY_FILE_BYTES_MAX;
use crate::base::time::Timestamp;
use crate::rooms::memory::entry::{Category, Entry};
use crate::store::atomic::{self, Durable};
use crate::store::error::damaged;
use crate::store::home::Seams;
use crate::sys::disk::read_whole;

/// The directory of all memories.
pub(super) struct Files {
    pub(super) dir: PathBuf,
    pub(super) seams: Seams,
}

/// By what a file is known to be the one that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: Timestamp,
    size: u64,
}

/// When the directory of each category last changed; `None` where it does not exist.
pub(super) type Times = [Option<Timestamp>; Category::ALL.len()];

impl Files {
    /// Writes a memory; durable when this returns.
    pub(super) fn write(&self, entry: &Entry) -> io::Result<Option<Stamp>> {
        atomic::make_dir(&*self.seams.disk, &self.dir.join(entry.category.name()))?;
        let path = self.path(entry.category, entry.id);
        atomic::replace(&*self.seams.disk, &path, &serde_json::to_vec(entry)?, Durable::Yes)?;
        self.stamp(entry.category, entry.id)
    }

    /// By what the file that is there now is known; `None` where there is none.
    pub(super) fn stamp(&self, category: Category, id: MemoryId) -> io::Result<Option<Stamp>> {
        let stat = self.seams.disk.stat(&self.path(category, id))?;
        Ok(stat.map(|stat| Stamp { modified: stat.modified, size: stat.size }))
    }

    /// Reads a memory. Its kind is that of its directory, so that a file may be moved by hand.
    pub(super) fn read(&self, category: Category, id: MemoryId) -> io::Result<Entry> {
        let bytes = read_whole(&*self.seams.disk, &self.path(category, id), MEMORY_FILE_BYTES_MAX)?;
        let entry: Entry = serde_json::from_slice(&bytes).map_err(|e| damaged(&e))?;
        if entry.id != id {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the file has another id than its name"));
        }
        Ok(Entry { category, ..entry })
    }

    /// Removes a memory's file, durably; none is fine.
    pub(super) fn remove(&self, category: Category, id: MemoryId) -> io::Result<()> {
        atomic::remove(&*self.seams.disk, &self.path(category, id))
    }

    /// When the directories last changed.
    pub(super) fn times(&self) -> io::Result<Times> {
        let mut times = Times::default();
        for (category, time) in Category::ALL.iter().zip(&mut times) {
            *time = self.seams.disk.stat(&self.dir.join(category.name()))?.map(|stat| stat.modified);
        }
        Ok(times)
    }

    /// The files of one category.
    pub(super) fn list(&self, category: Category) -> io::Result<Vec<(MemoryId, Stamp)>> {
        let items = match self.seams.disk.list(&self.dir.join(category.name())) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let id = |name: &str| MemoryId::parse(name.strip_suffix(".json")?).ok();
        Ok(items.into_iter().filter_map(|item| Some((id(&item.name)?, Stamp { modified: item.modified, size: item.size }))).collect())
    }

    fn path(&self, category: Category, id: MemoryId) -> PathBuf {
        self.dir.join(category.name()).join(format!("{id}.json"))
    }
}
