//! Deleting a session so that it ends deleted, whatever call a crash comes at.
//!
//! First the tombstone `<id>.gone` becomes durable: from then on the id is refused. Then the files go; what a crash leaves of them is
//! removed by the sweep, or when the id is next asked for. The tombstone stays for 24 h, so that a late retry of an
//! idempotent message does not bring the session back.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::base::ids::SessionId;
use crate::base::limits::TOMBSTONE_HOURS;
use crate::base::log;
use crate::base::time::Timestamp;
use crate::store::StoreError;
use crate::store::atomic;
use crate::store::core::Core;
use crate::store::files::split;
use crate::sys::disk::{DirItem, read_whole, refusal};

/// Makes the tombstone. After an error it may be there: see [`is_buried`]. Blocking.
pub(crate) fn bury(core: &Core, id: SessionId) -> Result<(), StoreError> {
    let text = format!("{}\n", core.now());
    let write = || core.durability.put(&core.files.gone(id), text.as_bytes()).map(drop);
    let mut result = write();
    if let Some(why) = result.as_ref().err().and_then(refusal) {
        // Deleting is what makes room.
        core.home.give_up_reserve(why);
        result = write();
    }
    result.map_err(StoreError::of("deleting session", id))
}

/// Buries many sessions that nobody has open with a few syncs, and removes their files. After an error some of them are buried;
/// the listing knows which. Blocking.
pub(crate) fn bury_all(core: &Core, ids: &[SessionId], names: &Names) -> Result<(), StoreError> {
    let text = format!("{}\n", core.now());
    let tombstones: Vec<(PathBuf, &str)> = ids.iter().map(|id| (core.files.gone(*id), text.as_str())).collect();
    let write = || atomic::put_all(core.disk(), core.files.dir(), &tombstones);
    let mut written = write();
    if let Some(why) = written.as_ref().err().and_then(refusal) {
        core.home.give_up_reserve(why);
        written = write();
    }
    let written = written.and_then(|()| core.durability.sync_names());
    for id in ids {
        if written.is_ok() || is_buried(core, *id) {
            core.index.remove(*id);
            core.behind(*id, false);
        }
    }
    written.map_err(StoreError::io("deleting sessions"))?;
    let all = ids.iter().try_for_each(|id| names.of(core, *id).and_then(|names| unlink(core, &names)));
    if let Err(e) = all.and_then(|()| core.durability.sync_names()) {
        // The tombstones hold; the next sweep goes on.
        log::warn("store", format_args!("the files of {} deleted sessions are not all gone yet: {e}", ids.len()));
    }
    Ok(())
}

/// There is a tombstone, or it cannot be seen that there is none. Blocking.
pub(crate) fn is_buried(core: &Core, id: SessionId) -> bool {
    !matches!(core.disk().stat(&core.files.gone(id)), Ok(None))
}

/// The id is refused. A tombstone that is old enough goes, after what was left of the files; but not before those above have heard of
/// it, in the first moments of a process. Blocking.
pub(crate) fn is_gone(core: &Core, id: SessionId, names: &Names) -> Result<bool, StoreError> {
    let doing = || StoreError::of("looking for session", id);
    let path = core.files.gone(id);
    if core.disk().stat(&path).map_err(doing())?.is_none() {
        return Ok(false);
    }
    let text = read_whole(core.disk(), &path, 64).map_err(doing())?;
    let since = std::str::from_utf8(&text).ok().and_then(|text| Timestamp::parse(text.trim()));
    // One that cannot be read refuses for ever rather than not at all.
    let over = core.graves_told.load(Ordering::Acquire)
        && since.is_some_and(|since| core.now().since(since) >= Duration::from_secs(TOMBSTONE_HOURS * 3600));
    if !over {
        return Ok(true);
    }
    names.of(core, id).and_then(|names| remove_files(core, &names)).map_err(doing())?;
    // Without it, nothing that a power cut brings back may be left.
    core.durability.sure_of_names().map_err(doing())?;
    core.disk().remove_file(&path).map_err(doing())?;
    Ok(false)
}

/// Removes what is left of a buried session; its tombstone, too, when it is old enough. Blocking.
pub(crate) fn finish(core: &Core, id: SessionId, names: &Names) -> Result<(), StoreError> {
    if is_gone(core, id, names)? {
        names.of(core, id).and_then(|names| remove_files(core, &names)).map_err(StoreError::of("deleting session", id))?;
    }
    Ok(())
}

/// The files of many sessions by one reading of the directory: removing each by a reading of its own would cost the square of
/// their number. The default has read nothing and looks for each.
#[derive(Default)]
pub(crate) struct Names(Option<HashMap<SessionId, Vec<DirItem>>>);

impl Names {
    /// Reads the directory; where that fails, each session is looked for by itself. Blocking.
    pub(crate) fn read(core: &Core) -> Self {
        let Ok(items) = core.disk().list(core.files.dir()) else { return Self::default() };
        let mut names: HashMap<SessionId, Vec<DirItem>> = HashMap::new();
        for item in items {
            if let Some((id, _)) = split(&item.name) {
                names.entry(id).or_default().push(item);
            }
        }
        Self(Some(names))
    }
    /// Sessions with a tombstone.
    pub(crate) fn buried(&self) -> Vec<SessionId> {
        let is = |items: &[DirItem]| items.iter().any(|item| split(&item.name).is_some_and(|(_, ending)| ending == "gone"));
        self.0.iter().flatten().filter(|(_, items)| is(items)).map(|(id, _)| *id).collect()
    }
    /// Files that were being written beside those they were to replace.
    pub(crate) fn beside(&self) -> Vec<(SessionId, String)> {
        let names = self.0.iter().flatten().flat_map(|(id, items)| items.iter().map(|item| (*id, item.name.clone())));
        names.filter(|(_, name)| name.ends_with(".new")).collect()
    }
    /// What lies there of one session, its tombstone aside. Blocking.
    pub(crate) fn of(&self, core: &Core, id: SessionId) -> io::Result<Vec<DirItem>> {
        let wanted = |item: &DirItem| matches!(split(&item.name), Some((of, ending)) if of == id && ending != "gone");
        match &self.0 {
            Some(names) => Ok(names.get(&id).map(|items| items.iter().filter(|item| wanted(item)).cloned().collect()).unwrap_or_default()),
            None => Ok(core.disk().list(core.files.dir())?.into_iter().filter(wanted).collect()),
        }
    }
}

/// Removes these files of a buried session. One that came later is removed by the next sweep: the tombstone says so. Blocking.
pub(crate) fn remove_files(core: &Core, names: &[DirItem]) -> io::Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    unlink(core, names)?;
    core.durability.sync_names()
}

fn unlink(core: &Core, names: &[DirItem]) -> io::Result<()> {
    let disk = core.disk();
    let dir = core.files.dir();
    for item in names {
        let path = dir.join(&item.name);
        if item.is_dir {
            for inner in disk.list(&path)? {
                gone(disk.remove_file(&path.join(&inner.name)))?;
            }
            gone(disk.remove_dir(&path))?;
        } else {
            gone(disk.remove_file(&path))?;
        }
    }
    Ok(())
}

/// Already gone is gone.
fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
