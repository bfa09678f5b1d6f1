//! All sessions of a home: the one place where a session is opened, listed, deleted and pruned.

use std::sync::Arc;

use serde::Serialize;

use crate::base::cancel::Cancel;
use crate::base::ids::{MessageId, OwnerId, SeedId, SessionId, SpaceId};
use crate::base::time::Timestamp;
use crate::store::StoreError;
use crate::store::home::Home;
use crate::store::session::Session;

/// When the `.json` of a session is written (`session.projection`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Projection {
    /// Before `done` is visible while it is small, then when the log has doubled, and at shutdown.
    #[default]
    Eager,
    /// Only at shutdown.
    Lazy,
}

/// What can be set; may change while running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// When the `.json` is written.
    pub projection: Projection,
    /// Prune by itself, at most once an hour.
    pub auto_prune: bool,
    /// Keep at most this many; 0 = no limit.
    pub max_sessions: usize,
    /// Keep at most this old, in hours; 0 = no limit.
    pub ttl_hours: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { projection: Projection::Eager, auto_prune: true, max_sessions: 0, ttl_hours: 0 }
    }
}

/// One line of the listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionItem {
    /// Its id.
    pub id: SessionId,
    /// The label that came with its first message.
    pub user_id: String,
    /// Where it was held.
    pub space_id: Option<SpaceId>,
    /// User messages in it.
    pub message_count: u64,
    /// The specification last worked on.
    pub active_seed_id: Option<SeedId>,
    /// When it began.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// How many there are on all pages.
    pub total: usize,
    /// Which page, from 1.
    pub page: usize,
    /// Most items on a page.
    pub limit: usize,
}

/// A message that the sweep found decided but not acted on: the gateway resumes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decided {
    /// Whose.
    pub owner: OwnerId,
    /// Where.
    pub session_id: SessionId,
    /// Which.
    pub message_id: MessageId,
}

/// All sessions.
pub struct Sessions {}

impl Sessions {
    /// Cheap: reads nothing.
    pub fn open(_home: &Arc<Home>, _first_owner: OwnerId, _settings: Settings) -> Arc<Self> {
        todo!()
    }
    /// New settings, from now on.
    pub fn set(&self, _settings: Settings) {
        todo!()
    }
    /// The one loader: `NotFound` where there is none, where it is another owner's, or deleted less than 24 h ago.
    pub async fn load(&self, _id: SessionId, _owner: OwnerId) -> Result<Arc<Session>, StoreError> {
        todo!()
    }
    /// The session, made where there is none. Its file appears with its first message.
    pub async fn load_or_create(&self, _id: SessionId, _owner: OwnerId) -> Result<Arc<Session>, StoreError> {
        todo!()
    }
    /// One page, newest `updated_at` first; waits for the background index. `page` from 1, `limit` at most 500.
    pub async fn list(&self, _owner: OwnerId, _page: usize, _limit: usize) -> Result<Page<SessionItem>, StoreError> {
        todo!()
    }
    /// Deletes: its readers get `Deleted`, the id is refused for 24 h.
    pub async fn delete(&self, _id: SessionId, _owner: OwnerId) -> Result<(), StoreError> {
        todo!()
    }
    /// Prunes by the settings now; tells how many went.
    pub async fn prune(&self) -> Result<usize, StoreError> {
        todo!()
    }
    /// The background work: builds the index, then repairs what was left open, then gives idle sessions back and prunes until
    /// cancelled. Run it once, after listening.
    pub async fn sweep(&self, _decided: impl FnMut(Decided) + Send, _cancel: &Cancel) {
        todo!()
    }
    /// Sessions in memory (for tests and metrics).
    pub fn in_memory(&self) -> usize {
        todo!()
    }
    /// Writes what is lazy: projections, the index cache, the clock. Call it after the runs have ended.
    pub async fn close(&self) {
        todo!()
    }
}
