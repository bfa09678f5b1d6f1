//! Large results in `<id>.d/`, named by their SHA-256: durable before the record that names them.

use std::io;

use crate::base::digest::{hex, sha256};
use crate::base::limits::RESULT_BYTES_MAX;
use crate::store::StoreError;
use crate::store::atomic::{self, Durable};
use crate::store::session::Session;
use crate::sys::disk::read_whole;

/// Keeps bytes; the same ones twice are one file. Blocking.
pub(crate) fn put(session: &Session, bytes: &[u8]) -> Result<String, StoreError> {
    let doing = || StoreError::of("keeping a result of session", session.id());
    if session.is_deleted() {
        return Err(StoreError::NotFound);
    }
    if bytes.len() > RESULT_BYTES_MAX {
        return Err(StoreError::TooLarge(format!("a result of {} bytes, at most {RESULT_BYTES_MAX} are kept", bytes.len())));
    }
    let name = hex(&sha256(bytes));
    let disk = session.core.disk();
    let dir = session.core.files.blobs(session.id());
    match disk.create_dir(&dir) {
        Ok(()) => session.core.durability.sync_names().map_err(doing())?,
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(doing()(e)),
    }
    let path = dir.join(&name);
    if disk.stat(&path).map_err(doing())?.is_some_and(|stat| stat.size == bytes.len() as u64) {
        // It may be there because the sync of its name failed.
        disk.sync_dir(&dir).map_err(doing())?;
    } else {
        atomic::replace(disk, &path, bytes, Durable::Yes).map_err(doing())?;
    }
    Ok(name)
}

/// Reads kept bytes and checks them. Blocking.
pub(crate) fn read(session: &Session, name: &str) -> Result<Vec<u8>, StoreError> {
    let named = name.len() == 64 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if !named || session.is_deleted() {
        return Err(StoreError::NotFound);
    }
    let path = session.core.files.blobs(session.id()).join(name);
    let bytes = match read_whole(session.core.disk(), &path, RESULT_BYTES_MAX as u64) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(StoreError::NotFound),
        Err(e) => return Err(StoreError::of("reading a result of session", session.id())(e)),
    };
    if hex(&sha256(&bytes)) != name {
        return Err(StoreError::Damaged(format!("a kept result of session {} has changed on disk", session.id())));
    }
    Ok(bytes)
}
