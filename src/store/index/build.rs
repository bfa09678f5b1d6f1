//! The listing is built from what lies in the directory.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;

use crate::base::ids::SessionId;
use crate::base::log;
use crate::base::time::Timestamp;
use crate::store::core::Core;
use crate::store::files::split;
use crate::store::index::{Index, Item, Unfinished, cache, read};

/// What lies in the directory.
#[derive(Default)]
struct Listed {
    /// In order, so that a test that stops at the nth call of the disk stops at the same one again.
    files: BTreeMap<SessionId, File>,
    /// Sessions with pieces of an answer that was not finished.
    runs: HashSet<SessionId>,
}

/// The file that says what a session is: its log, or where it has none its `.json`.
struct File {
    size: u64,
    modified: Timestamp,
    lone: bool,
}

impl Index {
    /// Reads the directory, the cache, and the logs that the cache does not know. Sessions that changed meanwhile keep what
    /// they have. Blocking.
    pub(crate) fn build(&self, core: &Core, cancelled: &dyn Fn() -> bool) -> io::Result<Unfinished> {
        core.durability.settle();
        let _reading = self.reading();
        let Listed { mut files, runs } = listed(core)?;
        let mut unfinished = Unfinished::default();
        // Logs that grew since the cache was written.
        let mut grown = HashMap::new();
        let cached = cache::read(core, |id, item, modified| {
            let Some(file) = files.get(&id).filter(|file| file.lone == item.lone) else { return };
            if item.open || item.len != file.size || modified != file.modified {
                grown.insert(id, item);
                return;
            }
            files.remove(&id);
            let pieces = runs.contains(&id) && !item.lone;
            if self.found(id, item) && pieces {
                unfinished.open.push(id);
            }
        });
        if let Err(e) = cached.or_else(none_is_well) {
            log::warn("store", format_args!("the cache of the listing could not be read: {e}"));
        }
        for (id, File { size, lone, .. }) in files {
            if cancelled() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            if self.lock().items.contains(id) {
                continue;
            }
            unfinished.read += 1;
            let read = if lone { read::lone(core, id, size) } else { read::log(core, id, grown.remove(&id)) };
            match read {
                Ok(Some(item)) => {
                    let open = (item.open || runs.contains(&id)) && !lone;
                    self.found(id, item);
                    if open {
                        unfinished.open.push(id);
                    }
                }
                // It is set aside when it is opened; until then it is not listed.
                Ok(None) => unfinished.open.push(id),
                Err(e) => log::warn("store", format_args!("session {id} not listed: {e}")),
            }
        }
        Ok(unfinished)
    }

    /// Whether it was not known.
    fn found(&self, id: SessionId, item: Item) -> bool {
        let mut inner = self.lock();
        let new = !inner.items.contains(id) && !inner.deleted.contains(&id);
        if new {
            inner.items.put(id, item);
        }
        new
    }
}

/// A session whose grave is there is none.
fn listed(core: &Core) -> io::Result<Listed> {
    let mut listed = Listed::default();
    let mut buried = Vec::new();
    for entry in core.disk().list(core.files.dir())? {
        let (size, modified) = (entry.size, entry.modified);
        match split(&entry.name) {
            Some((id, "log")) => {
                listed.files.insert(id, File { size, modified, lone: false });
            }
            Some((id, "json")) => {
                listed.files.entry(id).or_insert(File { size, modified, lone: true });
            }
            Some((id, "run")) => {
                listed.runs.insert(id);
            }
            Some((id, "gone")) => buried.push(id),
            _ => {}
        }
    }
    for id in buried {
        listed.files.remove(&id);
    }
    Ok(listed)
}

/// The first start has no cache.
fn none_is_well(e: io::Error) -> io::Result<()> {
    if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) }
}
