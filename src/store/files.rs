//! The names of a session's files.

use std::path::{Path, PathBuf};

use crate::base::ids::SessionId;

/// Where sessions lie, and what their files are called.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    dir: PathBuf,
}

impl Files {
    pub(crate) fn new(workspace: &Path) -> Self {
        Self { dir: workspace.join("sessions") }
    }
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
    /// The log.
    pub(crate) fn log(&self, id: SessionId) -> PathBuf {
        self.named(id, "log")
    }
    /// Pieces of the unfinished run.
    pub(crate) fn run(&self, id: SessionId) -> PathBuf {
        self.named(id, "run")
    }
    /// The projection.
    pub(crate) fn json(&self, id: SessionId) -> PathBuf {
        self.named(id, "json")
    }
    /// The tombstone.
    pub(crate) fn gone(&self, id: SessionId) -> PathBuf {
        self.named(id, "gone")
    }
    /// The log that was set aside.
    pub(crate) fn bad(&self, id: SessionId) -> PathBuf {
        self.named(id, "log.bad")
    }
    /// Large results.
    pub(crate) fn blobs(&self, id: SessionId) -> PathBuf {
        self.named(id, "d")
    }
    /// Any other of its files.
    pub(crate) fn named(&self, id: SessionId, ending: &str) -> PathBuf {
        self.dir.join(format!("{id}.{ending}"))
    }
    /// The cache of the listing.
    pub(crate) fn index(&self) -> PathBuf {
        self.dir.join("index.cache")
    }
}

/// The session and the ending in a file's name.
pub(crate) fn split(name: &str) -> Option<(SessionId, &str)> {
    let (id, ending) = name.split_at_checked(36)?;
    Some((SessionId::parse(id).ok()?, ending.strip_prefix('.')?))
}
