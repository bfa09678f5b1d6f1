//! The item of a session, read from its files.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use crate::base::ids::{MessageId, SessionId};
use crate::base::limits::IMPORT_BYTES_MAX;
use crate::store::core::Core;
use crate::store::import;
use crate::store::index::Item;
use crate::store::lines::{Forward, Glance};
use crate::store::open::first_message;
use crate::store::record::{Body, Record};
use crate::sys::disk::{DiskFile, Open, read_whole};
use crate::wire::log_line::{Header, Opening, opening};
use crate::wire::title;

/// Counts a log; on from where the cache ends, if that fits. `None` where it has no readable header.
pub(super) fn log(core: &Core, id: SessionId, cached: Option<Item>) -> io::Result<Option<Item>> {
    let file = core.disk().open(&core.files.log(id), Open::Read)?;
    let len = file.len()?;
    let known = cached.filter(|item| !item.open && item.len > 0 && item.len <= len);
    let (mut item, from) = match known {
        Some(item) => {
            let from = item.len;
            (item, from)
        }
        None => {
            let mut lines = Forward::new(file.as_ref(), 0, len);
            let Some(found) = lines.next()? else { return Ok(None) };
            let Some(Opening::Header(header)) = found.json.map(opening) else { return Ok(None) };
            let Header { owner, created, ref origin, .. } = *header;
            let title = origin.as_ref().and_then(|origin| origin.title()).unwrap_or_default();
            let from = found.end;
            let item = Item {
                owner,
                user: Arc::from(""),
                title: title.into(),
                space: None,
                seed: None,
                created,
                updated: created,
                len: from,
                messages: 0,
                open: false,
                lone: false,
            };
            (item, from)
        }
    };
    let mut open: HashSet<MessageId> = HashSet::new();
    // The title that the first message gives, once it is asked for.
    let mut first: Option<String> = None;
    let mut lines = Forward::new(file.as_ref(), from, len);
    while let Some(found) = lines.next()? {
        let Some(glance) = found.json.and_then(Glance::of) else { continue };
        item.seed = glance.seed_id.or(item.seed);
        let Some(message) = glance.message_id else {
            if let Some(Record { body: Body::About(about), .. }) = found.json.and_then(|json| serde_json::from_slice(json).ok()) {
                item.space = about.space_id;
                let given = about.title.or(first.clone());
                item.title = given.map_or_else(|| first_title(file.as_ref(), len), Ok)?.into();
            }
            continue;
        };
        if glance.kind == "message" {
            open.insert(message);
            item.messages = item.messages.saturating_add(1);
            item.space = glance.space_id.or(item.space);
            if item.user.is_empty() {
                item.user = Arc::from(glance.user_id.as_deref().unwrap_or("default"));
            }
            let json = found.json.filter(|_| item.title.is_empty());
            if let Some(Record { body: Body::Message(said), .. }) = json.and_then(|json| serde_json::from_slice(json).ok()) {
                first = title::of(&said.content);
                item.title = first.clone().unwrap_or_default().into();
            }
            item.updated = item.updated.max(glance.time);
        } else if glance.is_terminal() {
            open.remove(&message);
            item.updated = item.updated.max(glance.time);
        }
    }
    item.len = lines.offset();
    item.open = !open.is_empty();
    Ok(Some(item))
}

/// The title that the first message gives.
fn first_title(file: &dyn DiskFile, len: u64) -> io::Result<String> {
    Ok(first_message(file, 0, len)?.and_then(|said| title::of(&said.content)).unwrap_or_default())
}

/// An item of a session that has only a `.json`.
pub(super) fn lone(core: &Core, id: SessionId, size: u64) -> io::Result<Option<Item>> {
    if size > IMPORT_BYTES_MAX {
        return Ok(None);
    }
    let bytes = read_whole(core.disk(), &core.files.json(id), IMPORT_BYTES_MAX)?;
    let Ok(old) = import::parse(&bytes) else { return Ok(None) };
    Ok(Some(Item {
        owner: old.owner().unwrap_or(core.first_owner),
        space: old.space(),
        seed: old.seed(),
        title: old.title().into(),
        created: old.created(),
        updated: old.updated(),
        len: size,
        messages: u32::try_from(old.user_messages.len()).unwrap_or(u32::MAX),
        open: false,
        lone: true,
        user: Arc::from(old.user()),
    }))
}
