//! Which skills were switched on or off: `<workspace>/skills/.choices.json`, for the whole home. Without a choice, an installed
//! skill is off and every other one is on. Where the file cannot be read all are off until one is chosen again. The command line
//! writes it beside a running gateway, which reads it again when it was replaced.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::skill::Source;
use crate::base::limits::SKILL_CHOICES_BYTES_MAX;
use crate::base::time::Timestamp;
use crate::store::atomic::{self, Durable};
use crate::sys::disk::{self, Disk};

/// The choices of this home.
pub(super) struct Choices {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    /// What the file said when it was last read. Held while it is read or written.
    known: Mutex<Option<Known>>,
}

/// The file is damaged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unreadable;

struct Known {
    /// Inode, time and size of the file; `None`: there was none.
    stamp: Option<(u64, Timestamp, u64)>,
    /// `source/name` to on or off.
    choices: Result<BTreeMap<String, bool>, Unreadable>,
}

impl Choices {
    pub(super) fn open(path: PathBuf, disk: Arc<dyn Disk>) -> Self {
        Self { path, disk, known: Mutex::new(None) }
    }

    /// The skill is on.
    pub(super) fn is_on(&self, source: Source, name: &str) -> Result<bool, Unreadable> {
        let stat = self.disk.stat(&self.path).map_err(|_| Unreadable)?;
        let stamp = stat.map(|stat| (stat.inode, stat.modified, stat.size));
        let mut known = self.known.lock().unwrap_or_else(|e| e.into_inner());
        let known = match &mut *known {
            Some(known) if known.stamp == stamp => known,
            stale => stale.insert(Known { stamp, choices: self.load() }),
        };
        let choices = known.choices.as_ref().map_err(|e| *e)?;
        Ok(choices.get(&key(source, name)).copied().unwrap_or(source != Source::Managed))
    }

    /// Switches it on or off (`None`: as if nobody had chosen), durably. One caller at a time, of all processes.
    pub(super) fn set(&self, source: Source, name: &str, on: Option<bool>) -> io::Result<()> {
        let mut known = self.known.lock().unwrap_or_else(|e| e.into_inner());
        let mut choices = self.load().unwrap_or_default();
        match on {
            Some(on) => choices.insert(key(source, name), on),
            None => choices.remove(&key(source, name)),
        };
        let bytes = serde_json::to_vec(&choices)?;
        *known = None;
        atomic::replace(&*self.disk, &self.path, &bytes, Durable::Yes)
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
