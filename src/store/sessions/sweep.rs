//! What is done for sessions in the background: what a crash left is finished, idle ones leave memory, old ones are pruned.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::base::cancel::Cancel;
use crate::base::ids::{MessageId, OwnerId, SessionId};
use crate::base::log;
use crate::store::index::Unfinished;
use crate::store::prune::Above;
use crate::store::session::blocking;
use crate::store::sessions::{Sessions, group};
use crate::store::{StoreError, remove};

/// A session that nobody asked for in this time leaves memory.
const IDLE: Duration = Duration::from_secs(5);
/// Pruning by itself happens this often at most (API A5).
const PRUNE_EVERY: Duration = Duration::from_secs(3600);
/// Whoever had to read so many sessions to build the listing writes its cache at once: a box that is only ever switched off would read
/// them again at each start.
pub(super) const READ_TO_SAVE: usize = 256;

/// What the sweep tells those above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A message that waits for a person, or whose decision nobody has acted on. The question's file may be missing.
    Waiting {
        /// Whose.
        owner: OwnerId,
        /// Where.
        session_id: SessionId,
        /// Which.
        message_id: MessageId,
    },
    /// All that was left open was looked at: no more of them wait.
    Through,
}

impl Sessions {
    /// The background work: builds the index, repairs what was left open, finishes deletions; then gives idle sessions back and
    /// prunes by itself until cancelled. Run it once, after listening. `tell` hears what waits.
    pub async fn sweep(&self, mut tell: impl FnMut(Found) + Send, above: &impl Above, cancel: &Cancel) {
        let stop = cancel.clone();
        let unfinished = match self.ensure_built(move || stop.why().is_some()).await {
            Ok(()) => self.built.lock().await.take().unwrap_or_default(),
            Err(e) => {
                log::warn("store", format_args!("the listing is not built: {e}"));
                Unfinished::default()
            }
        };
        for id in unfinished.open {
            if cancel.why().is_some() {
                return;
            }
            match self.find(id, true).await {
                Ok(Some(session)) => {
                    for waiting in session.waiting() {
                        tell(Found::Waiting { session_id: id, owner: session.owner(), message_id: waiting.message_id });
                    }
                }
                Ok(None) => {}
                Err(e) => log::warn("store", format_args!("session {id} not repaired: {e}")),
            }
        }
        tell(Found::Through);
        // After the repairs: what is open is read again at each start.
        if unfinished.read >= READ_TO_SAVE {
            self.save_listing().await;
        }
        let mut pruned: Option<Duration> = None;
        loop {
            let now = self.core.home.seams().clock.monotonic();
            if pruned.is_none_or(|at| now.saturating_sub(at) >= PRUNE_EVERY) {
                pruned = Some(now);
                self.tend_graves(above, cancel).await;
                let settings = self.core.settings.load();
                if settings.auto_prune && (settings.max_sessions > 0 || settings.ttl_hours > 0) {
                    if let Err(e) = self.prune(above).await {
                        log::warn("store", format_args!("not pruned: {e}"));
                    }
                }
            }
            let wait = if self.give_back() { IDLE } else { PRUNE_EVERY };
            tokio::select! {
                biased;
                _ = cancel.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
                () = self.touched.notified(), if wait > IDLE => {}
            }
        }
    }

    /// Removes what a crash left of deleted sessions and of files that were being written, and tombstones that are old enough: else a
    /// box that runs for a year and prunes every day has as many as it ever had sessions.
    pub(crate) async fn tend_graves(&self, above: &impl Above, cancel: &Cancel) {
        let core = self.core.clone();
        let names = Arc::new(blocking(move || Ok(remove::Names::read(&core))).await.unwrap_or_default());
        let buried = names.buried();
        let mut groups: BTreeMap<usize, Vec<SessionId>> = BTreeMap::new();
        for id in &buried {
            groups.entry(group(*id)).or_default().push(*id);
        }
        for some in groups.into_values() {
            let Some(first) = some.first() else { continue };
            // With the turn in hand: none of them begins anew meanwhile. While their tombstones are there: nothing else knows of them.
            let (core, _turn) = (self.core.clone(), self.turn(*first).await);
            let still = blocking(move || Ok(some.into_iter().filter(|id| remove::is_buried(&core, *id)).collect::<Vec<_>>())).await;
            above.buried(&still.unwrap_or_default()).await;
        }
        self.core.graves_told.store(true, Ordering::Release);
        for id in buried {
            if cancel.why().is_some() {
                return;
            }
            let (core, turn, names) = (self.core.clone(), self.turn(id).await, names.clone());
            let finished = blocking(move || {
                core.durability.settle();
                let _turn = turn;
                remove::finish(&core, id, &names)
            });
            if let Err(e) = finished.await {
                log::warn("store", format_args!("session {id} not deleted to the end: {e}"));
            }
        }
        for (id, name) in names.beside() {
            let turn = self.turn(id).await;
            // Whoever writes beside a file has the session in hand, or the turn.
            if self.in_hand(id).is_none() {
                let path = self.core.files.dir().join(name);
                let core = self.core.clone();
                let _ = blocking(move || {
                    let _turn = turn;
                    core.disk().remove_file(&path).map_err(StoreError::of("tidying up behind session", id))
                })
                .await;
            }
        }
    }

    /// Lets go of sessions that nobody asked for in 5 s; true while some are left.
    pub fn give_back(&self) -> bool {
        let now = self.core.home.seams().clock.monotonic();
        let mut idle = Vec::new();
        let mut held = self.held();
        while held.recent.front().is_some_and(|(_, at)| now.saturating_sub(*at) >= IDLE) {
            idle.extend(held.recent.pop_front());
        }
        let left = !held.recent.is_empty();
        drop(held);
        // Outside the lock: where these are the last handles, files are closed.
        drop(idle);
        self.held().sessions.retain(|_, weak| weak.strong_count() > 0);
        left
    }
}
