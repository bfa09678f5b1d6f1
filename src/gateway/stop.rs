//! Stopping: one message, a session, or everything. None of it waits behind a run.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::base::blocking;
use crate::base::cancel::Why;
use crate::base::ids::{MessageId, OwnerId, SessionId};
use crate::base::log;
use crate::gateway::ending::Cut;
use crate::gateway::state::{Next, Waiting};
use crate::gateway::{CancelError, Gateway, detached};
use crate::orchestrator::EndKind;
use crate::store::StoreError;
use crate::store::audit::{Event, On, Outcome, What};
use crate::store::prune::Above;

/// How long a cancel waits to say how it ended; a run that needs longer ends in its own time, or by the watchdog.
pub(super) const CANCEL_WITHIN: Duration = Duration::from_secs(2);
/// How long a deletion waits for the session's runs to end; the store shuts out what is late.
const DELETE_WITHIN: Duration = Duration::from_secs(5);
/// How long runs may take to write down that they were interrupted.
const INTERRUPT_WITHIN: Duration = Duration::from_secs(5);

/// What a cancel finds.
enum Found {
    /// It waited: it is out of the queue, its end is to be written.
    Queued(Box<Waiting>),
    /// It runs or is parked, and was told.
    Told,
}

impl Gateway {
    /// Cancels a message: one that waits never begins, a parked one is ended with its question answered no, a running one is
    /// told to stop. The text so far is kept. Waits a moment for the end, so that the answer is true.
    ///
    /// # Errors
    /// It is over, or unknown, or another owner's.
    pub async fn cancel(self: &Arc<Self>, owner: OwnerId, message: MessageId) -> Result<(), CancelError> {
        let over = self.stop(owner, message).await?;
        match ended(over, CANCEL_WITHIN).await {
            // It was faster.
            Some(EndKind::Done | EndKind::Failed) => Err(CancelError::Over),
            Some(EndKind::Cancelled | EndKind::Interrupted) | None => Ok(()),
        }
    }

    /// The same without waiting for a run to end; what is received is how it ended.
    ///
    /// # Errors
    /// As [`Gateway::cancel`].
    pub async fn stop(self: &Arc<Self>, owner: OwnerId, message: MessageId) -> Result<watch::Receiver<Option<EndKind>>, CancelError> {
        if !self.knows(owner, message) {
            self.adopt_parked(owner, message).await;
        }
        let over = match self.state().runs.get(&message).filter(|run| run.owner == owner) {
            Some(run) => Ok(run.over.subscribe()),
            None => Err(()),
        };
        let Ok(over) = over else {
            let over = self.state().ended.has(message, owner);
            return Err(if over { CancelError::Over } else { CancelError::NotFound });
        };
        if let Some(Found::Queued(waiting)) = self.tell_to_stop(message, Why::Asked) {
            let gateway = self.clone();
            detached(async move { gateway.end(&waiting.session, message, Cut::by(Why::Asked)).await }).await;
        }
        Ok(over)
    }

    /// Deletes a session: what runs, waits or is parked in it is cancelled first.
    ///
    /// # Errors
    /// Unknown, another owner's, or the store cannot.
    pub async fn delete_session(self: &Arc<Self>, owner: OwnerId, id: SessionId) -> Result<(), StoreError> {
        let gateway = self.clone();
        detached(async move { gateway.delete(owner, id).await }).await
    }

    async fn delete(self: Arc<Self>, owner: OwnerId, id: SessionId) -> Result<(), StoreError> {
        let session = self.sessions.load(id, owner).await?;
        // Nothing new enters once this is through the door.
        let door = self.door(id).await;
        // What cannot be read goes like the rest.
        let _ = self.look_around(&session).await;
        if let Some(lane) = self.state().lanes.get_mut(&id) {
            lane.closed = true;
        }
        let _place = door.ajar();
        let runs: Vec<(MessageId, watch::Receiver<Option<EndKind>>)> = {
            let state = self.state();
            state.runs.iter().filter(|(_, run)| run.session == id).map(|(message, run)| (*message, run.over.subscribe())).collect()
        };
        for (message, _) in &runs {
            if let Some(Found::Queued(waiting)) = self.tell_to_stop(*message, Why::Deleted) {
                self.end(&waiting.session, *message, Cut::by(Why::Deleted)).await;
            }
        }
        let all = async {
            for (_, over) in runs {
                ended(over, DELETE_WITHIN).await;
            }
        };
        let _ = tokio::time::timeout(DELETE_WITHIN, all).await;
        let deleted = self.sessions.delete(id, owner).await;
        if deleted.is_ok() {
            self.forget_sessions(&[id]).await;
        }
        if let Some(lane) = self.state().lanes.get_mut(&id) {
            lane.closed = false;
        }
        deleted
    }

    /// Prunes by the settings now; tells how many sessions went.
    ///
    /// # Errors
    /// The store cannot.
    pub async fn prune(self: &Arc<Self>) -> Result<usize, StoreError> {
        let gateway = self.clone();
        detached(async move { Ok(gateway.sessions.prune(&*gateway).await?.len()) }).await
    }

    /// Sessions are gone: what was shown of them in questions, and the specifications of their tasks, are part of the conversation and
    /// go with it.
    pub(super) async fn forget_sessions(&self, ids: &[SessionId]) {
        let gone: Arc<HashSet<SessionId>> = Arc::new(ids.iter().copied().collect());
        let (seeds, these) = (self.seeds.clone(), gone.clone());
        let removed = blocking::spawn(move || seeds.forget(&these).map_err(|e| e.to_string())).await;
        if let Err(error) = removed.map_err(|e| e.to_string()).and_then(|done| done) {
            log::warn("gateway", format_args!("specifications of deleted sessions were not removed: {error}"));
        }
        if let Err(error) = self.approvals(move |room| room.forget(&gone)).await {
            log::warn("gateway", format_args!("approvals of deleted sessions were not removed: {error}"));
        }
    }

    /// Waits until the message is over as far as this process knows; at once where it is, or is unknown.
    pub async fn over(&self, message: MessageId) {
        let over = self.state().runs.get(&message).map(|run| run.over.subscribe());
        if let Some(mut over) = over {
            // A dropped sender means the same.
            let _ = over.wait_for(Option::is_some).await;
        }
    }

    /// Waits until the message's run has given back its permit for a person, or is over: from then on its question can be
    /// found and decided. The log shows the question a moment earlier. Gives up after a second.
    pub async fn parked(&self, message: MessageId) {
        let mut house = self.state().house();
        let parked = async {
            loop {
                let counted = self.state().runs.get(&message).is_some_and(|run| run.counted);
                if !counted || house.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), parked).await;
    }

    /// Stops taking messages, lets what is in the house end, and interrupts what is left after `within`. Parked runs stay parked.
    pub async fn drain(self: &Arc<Self>, within: Duration) {
        self.state().draining = true;
        if tokio::time::timeout(within, self.emptied()).await.is_ok() {
            return;
        }
        let left: Vec<_> = self.state().runs.values().filter(|run| run.counted).map(|run| run.canceller.clone()).collect();
        for canceller in left {
            canceller.cancel(Why::Shutdown);
        }
        let _ = tokio::time::timeout(INTERRUPT_WITHIN, self.emptied()).await;
    }

    /// Waits until nothing waits and nothing runs.
    pub(super) async fn emptied(&self) {
        let mut house = self.state().house();
        // The sender is in `self`: an error cannot happen while this runs.
        let _ = house.wait_for(|in_house| *in_house == 0).await;
    }

    /// Tells a message to stop, wherever it is.
    fn tell_to_stop(self: &Arc<Self>, message: MessageId, why: Why) -> Option<Found> {
        let mut state = self.state();
        let run = state.runs.get(&message)?;
        let (canceller, session) = (run.canceller.clone(), run.session);
        let lane = state.lanes.get_mut(&session)?;
        canceller.cancel(why);
        if let Some(at) = lane.queue.iter().position(|waiting| waiting.message == message) {
            return lane.queue.remove(at).map(|waiting| Found::Queued(Box::new(waiting)));
        }
        if let Some(parked) = lane.parked.as_mut().filter(|parked| parked.message == message) {
            parked.next = Next::Stop(why);
            drop(state);
            self.wake(session);
        }
        Some(Found::Told)
    }
}

/// By the server: whoever asked for it may not know the sessions of others that go.
fn prune_event(id: &SessionId, outcome: Outcome) -> Event {
    Event { on: Some(On::id(id.as_bytes())), outcome, ..Event::of_server(What::Pruned) }
}

impl Above for Gateway {
    async fn begins(&self, ids: &[SessionId]) -> bool {
        let Some((last, others)) = ids.split_last() else { return true };
        others.iter().for_each(|id| self.audit.note(prune_event(id, Outcome::Begun)));
        // The disk has those before it, too, then.
        let recorded = self.audit.append(prune_event(last, Outcome::Begun)).await;
        if recorded.is_err() {
            log::warn("gateway", format_args!("sessions are not pruned: the audit log cannot be written"));
            self.pruned(ids, false).await;
        }
        recorded.is_ok()
    }
    async fn pruned(&self, ids: &[SessionId], gone: bool) {
        let outcome = if gone { Outcome::Done } else { Outcome::Failed };
        ids.iter().for_each(|id| self.audit.note(prune_event(id, outcome)));
        if gone {
            self.forget_sessions(ids).await;
        }
    }
    async fn buried(&self, ids: &[SessionId]) {
        self.forget_sessions(ids).await;
    }
}

/// How it ended, if it does in time.
async fn ended(mut over: watch::Receiver<Option<EndKind>>, within: Duration) -> Option<EndKind> {
    let ended = async { over.wait_for(Option::is_some).await.ok().and_then(|kind| *kind) };
    tokio::time::timeout(within, ended).await.ok().flatten()
}
