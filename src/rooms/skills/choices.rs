//! Which skills were switched on or off: `<workspace>/skills/.choices.json`, for the whole home. Without a choice, an installed
//! skill is off and every other one is on. Where the file cannot be read all are off until one is chosen again.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::skill::Source;
use crate::base::limits::SKILL_CHOICES_BYTES_MAX;
use crate::store::atomic::{self, Durable};
use crate::sys::disk::{self, Disk};

/// The choices of this home.
pub(super) struct Choices {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    /// `source/name` to on or off; read at first use. Held while the file is read or written.
    known: Mutex<Option<Result<BTreeMap<String, bool>, Unreadable>>>,
}

/// The file is damaged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unreadable;

impl Choices {
    pub(super) fn open(path: PathBuf, disk: Arc<dyn Disk>) -> Self {
        Self { path, disk, known: Mutex::new(None) }
    }

    /// The skill is on.
    pub(super) fn is_on(&self, source: Source, name: &str) -> Result<bool, Unreadable> {
        let mut known = self.known.lock().unwrap_or_else(|e| e.into_inner());
        let known = known.get_or_insert_with(|| self.load()).as_ref().map_err(|e| *e)?;
        Ok(known.get(&key(source, name)).copied().unwrap_or(source != Source::Managed))
    }

    /// Switches it on or off (`None`: as if nobody had chosen), durably.
    pub(super) fn set(&self, source: Source, name: &str, on: Option<bool>) -> io::Result<()> {
        let mut known = self.known.lock().unwrap_or_else(|e| e.into_inner());
        let mut next = match known.take() {
            Some(Ok(known)) => known,
            _ => self.load().unwrap_or_default(),
        };
        match on {
            Some(on) => next.insert(key(source, name), on),
            None => next.remove(&key(source, name)),
        };
        let bytes = serde_json::to_vec(&next)?;
        // What is in memory is what the file says: where writing fails it is read again.
        atomic::replace(&*self.disk, &self.path, &bytes, Durable::Yes)?;
        *known = Some(Ok(next));
        Ok(())
    }

    fn load(&self) -> Result<BTreeMap<String, bool>, Unreadable> {
        match disk::read_whole(&*self.disk, &self.path, SKILL_CHOICES_BYTES_MAX) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|_| Unreadable),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(_) => Err(Unreadable),
        }
    }
}

fn key(source: Source, name: &str) -> String {
    let source = match source {
        Source::Bundled => "bundled",
        Source::Managed => "managed",
        Source::Workspace => "workspace",
    };
    format!("{source}/{name}")
}
