//! Deleting a session so that it ends deleted, whatever call a crash comes at.
//!
//! First the tombstone `<id>.gone` becomes durable: from then on the id is refused. Then the files go; what a crash leaves of them is
//! removed by the next sweep, or when the id is next asked for. The tombstone stays for 24 h, so that a late retry of an
//! idempotent message does not bring the session back.

use std::io;
use std::time::Duration;

use crate::base::ids::SessionId;
use crate::base::limits::TOMBSTONE_HOURS;
use crate::base::time::Timestamp;
use crate::store::StoreError;
use crate::store::atomic::{self, Durable};
use crate::store::core::Core;
use crate::store::files::split;
use crate::sys::disk::{is_full, read_whole};

/// Makes the tombstone. Blocking.
pub(crate) fn bury(core: &Core, id: SessionId) -> Result<(), StoreError> {
    let text = format!("{}\n", core.now());
    let write = || atomic::replace(core.disk(), &core.files.gone(id), text.as_bytes(), Durable::Yes);
    let mut result = write();
    if result.as_ref().is_err_and(is_full) {
        // Deleting is what makes room.
        core.home.give_up_reserve();
        result = write();
    }
    result.map_err(StoreError::of("deleting session", id))
}

/// The id is refused. A tombstone that is old enough goes, after what was left of the files. Blocking.
pub(crate) fn is_gone(core: &Core, id: SessionId) -> Result<bool, StoreError> {
    let doing = || StoreError::of("looking for session", id);
    let path = core.files.gone(id);
    if core.disk().stat(&path).map_err(doing())?.is_none() {
        return Ok(false);
    }
    let text = read_whole(core.disk(), &path, 64).map_err(doing())?;
    let since = std::str::from_utf8(&text).ok().and_then(|text| Timestamp::parse(text.trim()));
    // One that cannot be read refuses for ever rather than not at all.
    let over = since.is_some_and(|since| core.now().since(since) >= Duration::from_secs(TOMBSTONE_HOURS * 3600));
    if !over {
        return Ok(true);
    }
    remove_files(core, id).map_err(doing())?;
    core.disk().remove_file(&path).map_err(doing())?;
    Ok(false)
}

/// Removes all files of a buried session but its tombstone. Blocking.
pub(crate) fn remove_files(core: &Core, id: SessionId) -> io::Result<()> {
    let disk = core.disk();
    let dir = core.files.dir();
    for item in disk.list(dir)? {
        match split(&item.name) {
            Some((of, ending)) if of == id && ending != "gone" => {}
            _ => continue,
        }
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
    disk.sync_dir(dir)
}

/// Already gone is gone.
fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
