//! The listing: one small item per session in memory, newest first for each owner. Built in the background from a cache file that is
//! checked by name, size and time of change; only logs that changed are read, and only their new part. The cache may be
//! deleted at any time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use serde::{Deserialize, Serialize};

use crate::base::ids::{MessageId, OwnerId, SeedId, SessionId, SpaceId};
use crate::base::limits::IMPORT_BYTES_MAX;
use crate::base::log;
use crate::base::time::Timestamp;
use crate::store::core::Core;
use crate::store::files::split;
use crate::store::import;
use crate::store::lines::{Forward, Glance, PAGE_BYTES};
use crate::store::open::first_message;
use crate::store::prune::Candidate;
use crate::store::record::{Body, Record};
use crate::store::sessions::{Page, SessionItem};
use crate::store::state::Overview;
use crate::sys::disk::{DiskFile, Open, read_whole};
use crate::wire::log_line::{self, Header, Opening, opening};
use crate::wire::title;

/// First line of the cache; another one is not read.
const CACHE_HEADER: &[u8] = b"{\"oxios_index\":2}";

/// All items. Locked for moments: an update, or one page.
#[derive(Default)]
pub(crate) struct Index {
    inner: Mutex<Inner>,
    /// Held while what did not fit is read again: who comes meanwhile waits, and does not take it for settled. Taken before `inner`.
    settling: Mutex<()>,
}

#[derive(Default)]
struct Inner {
    /// B-trees: they grow without doubling, which keeps the bytes per session down.
    items: BTreeMap<SessionId, Item>,
    order: HashMap<OwnerId, BTreeSet<(Reverse<Timestamp>, SessionId)>>,
    /// Labels are few; each is kept once.
    labels: HashSet<Arc<str>>,
    /// Sessions whose item does not fit what was appended: read again before the next page.
    recheck: HashSet<SessionId>,
    /// Deleted here; the build must not bring them back.
    deleted: HashSet<SessionId>,
}

/// About 120 bytes, and the title.
#[derive(Debug, Clone)]
struct Item {
    owner: OwnerId,
    user: Arc<str>,
    title: Box<str>,
    space: Option<SpaceId>,
    seed: Option<SeedId>,
    created: Timestamp,
    updated: Timestamp,
    /// The log is counted up to here (the `.json`, where there is no log).
    len: u64,
    messages: u32,
    /// It has a message without a terminal record.
    open: bool,
    /// There is only a `.json`.
    lone: bool,
}

impl Item {
    fn candidate(&self, id: SessionId) -> Candidate {
        Candidate { id, updated: self.updated, in_use: self.open }
    }
    fn show(&self, id: SessionId) -> SessionItem {
        SessionItem {
            id,
            user_id: self.user.to_string(),
            title: self.title.to_string(),
            space_id: self.space,
            message_count: u64::from(self.messages),
            active_seed_id: self.seed,
            created_at: self.created,
            updated_at: self.updated,
        }
    }
}

// B-tree nodes are at least half full, in practice two thirds: 256 bytes a session (DESIGN §8) leave 160 for keys and values.
const _: () = assert!(size_of::<(SessionId, Item)>() + size_of::<(Reverse<Timestamp>, SessionId)>() <= 160);

/// What is not finished after a build: work for the sweep.
#[derive(Debug, Default)]
pub(crate) struct Unfinished {
    /// Sessions with open messages.
    pub(crate) open: Vec<SessionId>,
}

impl Index {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// A session was appended to: `messages` new ones, the log grew from `before` (0: it is new) to `after`.
    #[expect(clippy::too_many_arguments, reason = "one caller; a struct would only name them twice")]
    pub(crate) fn changed(
        &self,
        id: SessionId,
        owner: OwnerId,
        created: Timestamp,
        overview: &Overview,
        messages: u64,
        open: bool,
        before: u64,
        after: u64,
    ) {
        let mut inner = self.lock();
        let messages = u32::try_from(messages).unwrap_or(u32::MAX);
        let counted = match inner.items.get(&id) {
            Some(item) if item.len == before && !item.lone => item.messages,
            None if before == 0 => 0,
            _ => {
                inner.recheck.insert(id);
                return;
            }
        };
        let user = inner.label(overview.user_id.as_deref().unwrap_or("default"));
        inner.put(
            id,
            Item {
                owner,
                user,
                title: overview.title().unwrap_or_default().into(),
                space: overview.about.space_id,
                seed: overview.active_seed_id,
                created,
                updated: overview.updated_at,
                len: after,
                messages: counted.saturating_add(messages),
                open,
                lone: false,
            },
        );
    }

    /// A session is gone.
    pub(crate) fn remove(&self, id: SessionId) {
        let mut inner = self.lock();
        inner.take(id);
        inner.recheck.remove(&id);
        inner.deleted.insert(id);
    }

    /// Every item fits its log.
    pub(crate) fn is_settled(&self) -> bool {
        self.lock().recheck.is_empty()
    }
    /// Reads again what did not fit. Blocking.
    pub(crate) fn settle(&self, core: &Core) {
        let _alone = self.settling.lock().unwrap_or_else(|e| e.into_inner());
        let ids = std::mem::take(&mut self.lock().recheck);
        for id in ids {
            match read_item(core, id, None) {
                Ok(Some(read)) => {
                    let mut inner = self.lock();
                    if inner.deleted.contains(&id) {
                        continue;
                    }
                    let item = read.into_item(&mut inner);
                    inner.put(id, item);
                }
                Ok(None) => {}
                Err(e) => log::warn("store", format_args!("session {id} not listed: {e}")),
            }
        }
    }

    /// One page of an owner's sessions, newest first.
    pub(crate) fn page(&self, owner: OwnerId, page: usize, limit: usize) -> Page<SessionItem> {
        let inner = self.lock();
        let none = BTreeSet::new();
        let order = inner.order.get(&owner).unwrap_or(&none);
        let items = order
            .iter()
            .skip((page - 1).saturating_mul(limit))
            .take(limit)
            .filter_map(|(_, id)| Some(inner.items.get(id)?.show(*id)))
            .collect();
        Page { items, total: order.len(), page, limit }
    }

    /// One session of an owner.
    pub(crate) fn item(&self, owner: OwnerId, id: SessionId) -> Option<SessionItem> {
        let inner = self.lock();
        inner.items.get(&id).filter(|item| item.owner == owner).map(|item| item.show(id))
    }

    /// All sessions of an owner, newest first; those of one space where one is named.
    pub(crate) fn ids(&self, owner: OwnerId, space: Option<SpaceId>) -> Vec<SessionId> {
        let inner = self.lock();
        let held = |id: &SessionId| space.is_none() || inner.items.get(id).is_some_and(|item| item.space == space);
        inner.order.get(&owner).into_iter().flatten().map(|(_, id)| *id).filter(held).collect()
    }

    /// A session whose log was made as a whole.
    pub(crate) fn appeared(&self, id: SessionId) {
        let mut inner = self.lock();
        inner.deleted.remove(&id);
        inner.recheck.insert(id);
    }

    /// All sessions as pruning sees them.
    pub(crate) fn candidates(&self) -> Vec<Candidate> {
        self.lock().items.iter().map(|(id, item)| item.candidate(*id)).collect()
    }
    /// One of them; `None` where it is gone, or is to be read again.
    pub(crate) fn candidate(&self, id: SessionId) -> Option<Candidate> {
        let inner = self.lock();
        inner.items.get(&id).filter(|_| !inner.recheck.contains(&id)).map(|item| item.candidate(id))
    }

    /// Reads the directory, the cache, and the logs that the cache does not know. Sessions that changed meanwhile keep what
    /// they have. Blocking.
    pub(crate) fn build(&self, core: &Core, cancelled: &dyn Fn() -> bool) -> io::Result<Unfinished> {
        core.durability.settle();
        let mut cache = read_cache(core).unwrap_or_default();
        let listed = core.disk().list(core.files.dir())?;
        let mut unfinished = Unfinished::default();
        let mut logs = Vec::new();
        let mut jsons = HashMap::new();
        let mut runs = HashSet::new();
        let mut buried = HashSet::new();
        for entry in &listed {
            match split(&entry.name) {
                Some((id, "log")) => logs.push((id, entry.size, entry.modified)),
                Some((id, "json")) => {
                    jsons.insert(id, (entry.size, entry.modified));
                }
                Some((id, "run")) => {
                    runs.insert(id);
                }
                Some((id, "gone")) => {
                    buried.insert(id);
                }
                _ => {}
            }
        }
        for (id, ..) in &logs {
            jsons.remove(id);
        }
        let files = logs.into_iter().map(|(id, size, time)| (id, size, time, false));
        let lone = jsons.into_iter().map(|(id, (size, time))| (id, size, time, true));
        for (id, size, modified, lone) in files.chain(lone) {
            if cancelled() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            if buried.contains(&id) || self.lock().items.contains_key(&id) {
                continue;
            }
            let cached = cache.remove(&id).filter(|item| item.lone == lone);
            let read = match cached {
                Some(item) if item.len == size && item.modified == modified && !item.open => Ok(Some(item)),
                cached if !lone => read_item(core, id, cached),
                _ => read_lone(core, id, size),
            };
            match read {
                Ok(Some(mut read)) => {
                    if read.len == size {
                        read.modified = modified;
                    }
                    if (read.open || runs.contains(&id)) && !lone {
                        unfinished.open.push(id);
                    }
                    let mut inner = self.lock();
                    if !inner.items.contains_key(&id) && !inner.deleted.contains(&id) {
                        let item = read.into_item(&mut inner);
                        inner.put(id, item);
                    }
                }
                // It is set aside when it is opened; until then it is not listed.
                Ok(None) => unfinished.open.push(id),
                Err(e) => log::warn("store", format_args!("session {id} not listed: {e}")),
            }
        }
        Ok(unfinished)
    }

    /// Writes the cache. Blocking.
    pub(crate) fn save(&self, core: &Core) -> io::Result<()> {
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
        let (path, beside) = (core.files.index(), core.files.dir().join("index.cache.new"));
        let file = disk.open(&beside, Open::Append)?;
        file.set_len(0)?;
        let (mut page, mut at) = (Vec::new(), 0);
        log_line::write(&mut page, CACHE_HEADER);
        let mut after = None;
        loop {
            // A slice at a time, so that the lock is never held for long.
            let slice: Vec<(SessionId, Item)> = {
                let inner = self.lock();
                let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
                inner.items.range((from, std::ops::Bound::Unbounded)).take(256).map(|(id, item)| (*id, item.clone())).collect()
            };
            let Some((last, _)) = slice.last() else { break };
            after = Some(*last);
            for (id, item) in &slice {
                let Some((size, modified)) = changed.get(id) else { continue };
                let modified = if *size == item.len { *modified } else { Timestamp::default() };
                let line = Cached {
                    id: *id,
                    owner: item.owner,
                    user: item.user.to_string(),
                    title: item.title.to_string(),
                    space: item.space,
                    seed: item.seed,
                    created: item.created.millis(),
                    updated: item.updated.millis(),
                    modified: modified.millis(),
                    len: item.len,
                    messages: item.messages,
                    open: item.open,
                    lone: item.lone,
                };
                log_line::write(&mut page, &serde_json::to_vec(&line)?);
            }
            if page.len() >= PAGE_BYTES {
                file.write_at(&page, at)?;
                at += page.len() as u64;
                page.clear();
            }
        }
        file.write_at(&page, at)?;
        disk.rename(&beside, &path)
    }
}

impl Inner {
    fn label(&mut self, text: &str) -> Arc<str> {
        shared(&mut self.labels, text)
    }
    fn put(&mut self, id: SessionId, item: Item) {
        self.take(id);
        self.deleted.remove(&id);
        self.order.entry(item.owner).or_default().insert((Reverse(item.updated), id));
        self.items.insert(id, item);
    }
    fn take(&mut self, id: SessionId) {
        let Some(old) = self.items.remove(&id) else { return };
        if let Some(order) = self.order.get_mut(&old.owner) {
            order.remove(&(Reverse(old.updated), id));
        }
    }
}

/// The one copy of a label.
fn shared(labels: &mut HashSet<Arc<str>>, text: &str) -> Arc<str> {
    if let Some(known) = labels.get(text) {
        return known.clone();
    }
    let label: Arc<str> = Arc::from(text);
    labels.insert(label.clone());
    label
}

/// An item as it was read; its label is not the index's yet.
#[derive(Debug, Clone)]
struct ReadItem {
    owner: OwnerId,
    user: Arc<str>,
    title: Box<str>,
    space: Option<SpaceId>,
    seed: Option<SeedId>,
    created: Timestamp,
    updated: Timestamp,
    /// The file's time of change when it had `len` bytes.
    modified: Timestamp,
    len: u64,
    messages: u32,
    open: bool,
    lone: bool,
}

impl ReadItem {
    fn into_item(self, inner: &mut Inner) -> Item {
        let Self { owner, user, title, space, seed, created, updated, len, messages, open, lone, .. } = self;
        Item { owner, user: inner.label(&user), title, space, seed, created, updated, len, messages, open, lone }
    }
}

/// A line of the cache. Fields in this order, as an array would be, but named: the file is small beside the logs.
#[derive(Serialize, Deserialize)]
struct Cached {
    id: SessionId,
    owner: OwnerId,
    user: String,
    title: String,
    space: Option<SpaceId>,
    seed: Option<SeedId>,
    created: u64,
    updated: u64,
    modified: u64,
    len: u64,
    messages: u32,
    open: bool,
    lone: bool,
}

fn read_cache(core: &Core) -> io::Result<HashMap<SessionId, ReadItem>> {
    let file = core.disk().open(&core.files.index(), Open::Read)?;
    let mut lines = Forward::new(file.as_ref(), 0, file.len()?);
    let (mut items, mut labels) = (HashMap::new(), HashSet::new());
    if lines.next()?.and_then(|found| found.json) != Some(CACHE_HEADER) {
        return Ok(items);
    }
    while let Some(found) = lines.next()? {
        let Some(c) = found.json.and_then(|json| serde_json::from_slice::<Cached>(json).ok()) else { continue };
        let read = ReadItem {
            owner: c.owner,
            user: shared(&mut labels, &c.user),
            title: c.title.into(),
            space: c.space,
            seed: c.seed,
            created: Timestamp::from_millis(c.created),
            updated: Timestamp::from_millis(c.updated),
            modified: Timestamp::from_millis(c.modified),
            len: c.len,
            messages: c.messages,
            open: c.open,
            lone: c.lone,
        };
        items.insert(c.id, read);
    }
    Ok(items)
}

/// Counts a log; on from where the cache ends, if that fits. `None` where it has no readable header.
fn read_item(core: &Core, id: SessionId, cached: Option<ReadItem>) -> io::Result<Option<ReadItem>> {
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
            let item = ReadItem {
                owner,
                user: Arc::from(""),
                title: title.into(),
                space: None,
                seed: None,
                created,
                updated: created,
                modified: Timestamp::default(),
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
fn read_lone(core: &Core, id: SessionId, size: u64) -> io::Result<Option<ReadItem>> {
    if size > IMPORT_BYTES_MAX {
        return Ok(None);
    }
    let bytes = read_whole(core.disk(), &core.files.json(id), IMPORT_BYTES_MAX)?;
    let Ok(old) = import::parse(&bytes) else { return Ok(None) };
    Ok(Some(ReadItem {
        owner: old.owner().unwrap_or(core.first_owner),
        space: old.space(),
        seed: old.seed(),
        title: old.title().into(),
        created: old.created(),
        updated: old.updated(),
        modified: Timestamp::default(),
        len: size,
        messages: u32::try_from(old.user_messages.len()).unwrap_or(u32::MAX),
        open: false,
        lone: true,
        user: Arc::from(old.user_id.as_deref().unwrap_or("default")),
    }))
}
