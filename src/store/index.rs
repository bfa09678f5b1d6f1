//! The listing: one small item per session in memory, newest first for each owner. Built in the background from a cache file that is
//! checked by name, size and time of change; only logs that changed are read, and only their new part. The cache may be
//! deleted at any time.

mod build;
mod cache;
mod labels;
mod ranked;
mod read;
mod table;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};

use serde::{Deserialize, Serialize};

use crate::base::ids::{OwnerId, SeedId, SessionId, SpaceId};
use crate::base::log;
use crate::base::time::Timestamp;
use crate::store::core::Core;
use crate::store::prune::Candidate;
use crate::store::sessions::{Page, SessionItem};
use crate::store::state::Overview;

use table::Table;

/// All items. Locked for moments: an update, or one page.
#[derive(Default)]
pub(crate) struct Index {
    inner: Mutex<Inner>,
    /// Held while what did not fit is read again: who comes meanwhile waits, and does not take it for settled. Taken before `inner`.
    settling: Mutex<()>,
}

#[derive(Default)]
struct Inner {
    items: Table,
    /// Sessions whose item does not fit what was appended: read again before the next page.
    recheck: HashSet<SessionId>,
    /// How many read files just now.
    readers: usize,
    /// Deleted meanwhile: they must not bring them back. (Who begins later finds a tombstone, or no mark to read it again.)
    deleted: HashSet<SessionId>,
}

/// Somebody reads files, to put in what they say.
struct Reading<'a>(&'a Index);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.readers = inner.readers.saturating_sub(1);
        if inner.readers == 0 {
            inner.deleted = HashSet::new();
        }
    }
}

impl Inner {
    fn put(&mut self, id: SessionId, item: Item) {
        self.deleted.remove(&id);
        self.items.put(id, item);
    }
}

/// What the listing knows of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Item {
    owner: OwnerId,
    user: Arc<str>,
    title: Box<str>,
    space: Option<SpaceId>,
    seed: Option<SeedId>,
    created: Timestamp,
    /// Time of the last message or terminal record.
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
    fn show(self, id: SessionId) -> SessionItem {
        SessionItem {
            id,
            user_id: self.user.to_string(),
            title: self.title.into(),
            space_id: self.space,
            message_count: u64::from(self.messages),
            active_seed_id: self.seed,
            created_at: self.created,
            updated_at: self.updated,
        }
    }
}

/// What is not finished after a build: work for the sweep.
#[derive(Debug, Default)]
pub(crate) struct Unfinished {
    /// Sessions with open messages.
    pub(crate) open: Vec<SessionId>,
    /// How many the cache did not know.
    pub(crate) read: usize,
}

impl Index {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn reading(&self) -> Reading<'_> {
        self.lock().readers += 1;
        Reading(self)
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
        let counted = match inner.items.get(id) {
            Some(item) if item.len == before && !item.lone => item.messages,
            None if before == 0 => 0,
            _ => {
                inner.recheck.insert(id);
                return;
            }
        };
        inner.put(
            id,
            Item {
                owner,
                user: overview.user_id.as_deref().unwrap_or("default").into(),
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
        inner.items.take(id);
        inner.recheck.remove(&id);
        if inner.readers > 0 {
            inner.deleted.insert(id);
        }
    }

    /// Every item fits its log.
    pub(crate) fn is_settled(&self) -> bool {
        self.lock().recheck.is_empty()
    }
    /// Reads again what did not fit. Blocking.
    pub(crate) fn settle(&self, core: &Core) {
        let _alone = self.settling.lock().unwrap_or_else(|e| e.into_inner());
        let _reading = self.reading();
        let ids = std::mem::take(&mut self.lock().recheck);
        for id in ids {
            match read::log(core, id, None) {
                Ok(Some(item)) => {
                    let mut inner = self.lock();
                    if !inner.deleted.contains(&id) {
                        inner.items.put(id, item);
                    }
                }
                Ok(None) => {}
                Err(e) => log::warn("store", format_args!("session {id} not listed: {e}")),
            }
        }
    }

    /// One page of an owner's sessions, newest first.
    pub(crate) fn page(&self, owner: OwnerId, page: usize, limit: usize) -> Page<SessionItem> {
        let inner = self.lock();
        let from = (page - 1).saturating_mul(limit);
        let items = inner.items.newest(owner, from).take(limit).map(|(id, item)| item.show(id)).collect();
        Page { items, total: inner.items.count(owner), page, limit }
    }

    /// One session of an owner.
    pub(crate) fn item(&self, owner: OwnerId, id: SessionId) -> Option<SessionItem> {
        let inner = self.lock();
        inner.items.get(id).filter(|item| item.owner == owner).map(|item| item.show(id))
    }

    /// All sessions of an owner, newest first; those of one space where one is named.
    pub(crate) fn ids(&self, owner: OwnerId, space: Option<SpaceId>) -> Vec<SessionId> {
        self.lock().items.ids(owner, space)
    }

    /// A session whose log was made as a whole.
    pub(crate) fn appeared(&self, id: SessionId) {
        let mut inner = self.lock();
        inner.deleted.remove(&id);
        inner.recheck.insert(id);
    }

    /// All sessions as pruning sees them.
    pub(crate) fn candidates(&self) -> Vec<Candidate> {
        self.lock().items.after(None).map(|(id, item)| item.candidate(id)).collect()
    }
    /// One of them; `None` where it is gone, or is to be read again.
    pub(crate) fn candidate(&self, id: SessionId) -> Option<Candidate> {
        let inner = self.lock();
        inner.items.get(id).filter(|_| !inner.recheck.contains(&id)).map(|item| item.candidate(id))
    }
}
