//! The listing as a file, so that a start need not read every log. It may be deleted at any time, and a line that does not read is
//! one log more to read.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use crate::base::ids::SessionId;
use crate::base::time::Timestamp;
use crate::store::core::Core;
use crate::store::files::split;
use crate::store::index::{Index, Item};
use crate::store::lines::{Forward, PAGE_BYTES};
use crate::sys::disk::Open;
use crate::wire::log_line;

/// First line of the cache; another one is not read.
const CACHE_HEADER: &[u8] = b"{\"oxios_index\":3}";
/// Items that are copied out at a time, so that the lock is never held for long.
const SLICE_ITEMS: usize = 256;

/// A line: the session, its item, and when its file was last changed when it had the length that the item says.
type Line = (SessionId, Item, Timestamp);

/// Hands every line that can be read to `each`.
pub(super) fn read(core: &Core, mut each: impl FnMut(SessionId, Item, Timestamp)) -> io::Result<()> {
    let file = core.disk().open(&core.files.index(), Open::Read)?;
    let mut lines = Forward::new(file.as_ref(), 0, file.len()?);
    if lines.next()?.and_then(|found| found.json) != Some(CACHE_HEADER) {
        return Ok(());
    }
    while let Some(found) = lines.next()? {
        if let Some((id, item, modified)) = found.json.and_then(|json| serde_json::from_slice::<Line>(json).ok()) {
            each(id, item, modified);
        }
    }
    Ok(())
}

impl Index {
    /// Writes the cache. Where that fails nothing of it is left, least of all on a full disk. Blocking.
    pub(crate) fn save(&self, core: &Core) -> io::Result<()> {
        let beside = core.files.dir().join("index.cache.new");
        let saved = self.write(core, &beside).and_then(|()| core.disk().rename(&beside, &core.files.index()));
        if saved.is_err() {
            let _ = core.disk().remove_file(&beside);
        }
        saved
    }

    fn write(&self, core: &Core, beside: &Path) -> io::Result<()> {
        let disk = core.disk();
        let mut changed: HashMap<SessionId, (u64, Timestamp)> = HashMap::new();
        for entry in disk.list(core.files.dir())? {
            if let Some((id, "log" | "json")) = split(&entry.name) {
                let log = entry.name.ends_with(".log");
                if log || !changed.contains_key(&id) {
                    changed.insert(id, (entry.size, entry.modified));
                }
            }
        }
        let file = disk.open(beside, Open::Append)?;
        file.set_len(0)?;
        let (mut page, mut at) = (Vec::new(), 0);
        log_line::write(&mut page, CACHE_HEADER);
        let mut after = None;
        loop {
            let slice: Vec<(SessionId, Item)> = self.lock().items.after(after).take(SLICE_ITEMS).collect();
            let Some((last, _)) = slice.last() else { break };
            after = Some(*last);
            for (id, item) in slice {
                let Some((size, modified)) = changed.get(&id) else { continue };
                let modified = if *size == item.len { *modified } else { Timestamp::default() };
                let line: Line = (id, item, modified);
                log_line::write(&mut page, &serde_json::to_vec(&line)?);
            }
            if page.len() >= PAGE_BYTES {
                file.write_at(&page, at)?;
                at += page.len() as u64;
                page.clear();
            }
        }
        file.write_at(&page, at)
    }
}
