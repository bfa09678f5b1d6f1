//! What all sessions of a home share.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use crate::base::ids::{OwnerId, SessionId};
use crate::base::live::Live;
use crate::base::time::Timestamp;
use crate::store::durability::Durability;
use crate::store::files::Files;
use crate::store::home::Home;
use crate::store::index::Index;
use crate::store::session::Session;
use crate::store::sessions::Settings;
use crate::sys::disk::Disk;

/// The shared part.
pub(crate) struct Core {
    pub(crate) home: Arc<Home>,
    pub(crate) files: Files,
    pub(crate) settings: Live<Settings>,
    pub(crate) first_owner: OwnerId,
    pub(crate) index: Index,
    /// Asked before anything is shown, and before anything is acknowledged.
    pub(crate) durability: Durability,
    /// Sessions that stay in memory whoever lets go of them. With a message that was accepted here and is not over: opening one again
    /// would take its run for dead; inserted when it is accepted, removed when the last one ends. With something refused in the log
    /// that could not be cut off: opening one again would show it; inserted when that fails, removed when it was mended.
    pub(crate) pinned: Mutex<HashMap<SessionId, Arc<Session>>>,
    /// Sessions whose `.json` is behind their log; written at shutdown.
    pub(crate) behind: Mutex<HashSet<SessionId>>,
    /// Those above have heard of every tombstone that there was at the start; until then none goes.
    pub(crate) graves_told: AtomicBool,
}

impl Core {
    pub(crate) fn disk(&self) -> &dyn Disk {
        self.home.seams().disk.as_ref()
    }
    pub(crate) fn now(&self) -> Timestamp {
        self.home.seams().clock.now()
    }
    pub(crate) fn behind(&self, id: SessionId, is: bool) {
        let mut behind = self.behind.lock().unwrap_or_else(|e| e.into_inner());
        if is {
            behind.insert(id);
        } else {
            behind.remove(&id);
        }
    }
    pub(crate) fn pin(&self, session: &Arc<Session>) {
        self.pinned.lock().unwrap_or_else(|e| e.into_inner()).insert(session.id(), session.clone());
    }
    pub(crate) fn unpin(&self, id: SessionId) {
        let unpinned = self.pinned.lock().unwrap_or_else(|e| e.into_inner()).remove(&id);
        // Dropped after the lock: it may be the last one.
        drop(unpinned);
    }
}
