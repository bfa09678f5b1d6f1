//! The door of a lane: one at a time writes a message down, decides an approval, or closes the session.

use std::sync::Arc;

use tokio::sync::OwnedMutexGuard;

use crate::base::cancel::Why;
use crate::base::ids::{MessageId, SessionId};
use crate::base::log;
use crate::gateway::Gateway;
use crate::gateway::ending::{self, Cut};
use crate::gateway::ids::Ids;
use crate::gateway::state::{Next, Parked, Run};
use crate::rooms::agents::Status;
use crate::store::StoreError;
use crate::store::session::Session;

/// Held while something is changed in one session's lane. Dropping it lets the next one in.
pub(super) struct Door {
    /// Before `_place`, so that the door is open before the lane is forgotten.
    _held: OwnedMutexGuard<()>,
    _place: Place,
}

impl Door {
    /// Lets the next one in but keeps the lane: for a deletion, which is long.
    pub(super) fn ajar(self) -> Place {
        self._place
    }
}

/// Keeps the lane in the map while somebody holds its door or waits for it.
pub(super) struct Place {
    gateway: Arc<Gateway>,
    session: SessionId,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.gateway.state();
        if let Some(lane) = state.lanes.get_mut(&self.session) {
            lane.users = lane.users.saturating_sub(1);
        }
        state.tidy(self.session);
    }
}

impl Gateway {
    /// Waits for the session's door. The first one through looks for what an earlier process left parked there.
    ///
    /// # Errors
    /// That cannot be read now, and nobody knows whether a run waits in there: the next one looks again.
    pub(super) async fn enter(self: &Arc<Self>, session: &Arc<Session>) -> Result<Door, StoreError> {
        let door = self.door(session.id()).await;
        self.look_around(session).await?;
        Ok(door)
    }

    /// Waits for the session's door, for one who need not know what else is in there.
    pub(super) async fn door(self: &Arc<Self>, id: SessionId) -> Door {
        let (place, door) = {
            let mut state = self.state();
            let lane = state.lanes.entry(id).or_default();
            lane.users += 1;
            (Place { gateway: self.clone(), session: id }, lane.door.clone())
        };
        Door { _held: door.lock_owned().await, _place: place }
    }

    /// Looks for what an earlier process left parked, where nobody has yet. The session's door is held.
    pub(super) async fn look_around(self: &Arc<Self>, session: &Arc<Session>) -> Result<(), StoreError> {
        if self.state().lanes.get(&session.id()).is_none_or(|lane| lane.adopted) {
            return Ok(());
        }
        self.adopt(session).await?;
        self.adopted(session.id(), true);
        Ok(())
    }

    /// Whether it was looked for what an earlier process left parked in this session.
    pub(super) fn adopted(&self, session: SessionId, adopted: bool) {
        if let Some(lane) = self.state().lanes.get_mut(&session) {
            lane.adopted = adopted;
        }
    }

    /// Takes over the messages that an earlier process left unended in this session.
    async fn adopt(self: &Arc<Self>, session: &Arc<Session>) -> Result<(), StoreError> {
        let waiting = session.waiting();
        for message in session.open_messages() {
            if self.is_live(message) {
                continue;
            }
            let user = match ending::user_message(session, message).await {
                Ok(user) => user,
                Err(error) => {
                    log::error("gateway", format_args!("session {}: message {message} cannot be taken up: {error}", session.id()));
                    if !matches!(error, StoreError::Damaged(_)) {
                        return Err(error);
                    }
                    // Nothing will make it readable: whoever waits for it hears so.
                    if let Err(error) = ending::write(session, message, Cut::Internal).await {
                        log::error("gateway", format_args!("the end of message {message} was not written down: {error}"));
                    }
                    continue;
                }
            };
            let found = waiting.iter().find(|found| found.message_id == message);
            let run = Run::new(session.owner(), session.id(), user.agent_id, false);
            {
                let mut state = self.state();
                // One that waited for a person never looks as if it did anything else meanwhile.
                let status = if found.is_some() { Status::Idle } else { Status::Starting };
                self.begin_agent(user.agent_id, session.owner(), Ids { message, session: session.id() }, status);
                state.runs.insert(message, run);
            }
            let Some(found) = found else {
                // The store ends such messages when it opens a session; where it could not, it is done here.
                self.end(session, message, Cut::Shutdown).await;
                continue;
            };
            let mut next = Next::Wait;
            if let Some(decision) = found.decision {
                next = Next::Go;
                self.mark(found.approval_id, decision).await;
            } else if let Err(error) = self.restore(session, message, found.approval_id).await {
                log::warn("gateway", format_args!("session {}: approval {}: {error}", session.id(), found.approval_id));
            }
            let older = {
                let mut state = self.state();
                if let (Next::Go, Some(run)) = (next, state.runs.get_mut(&message)) {
                    run.decided = Some(found.approval_id);
                }
                let parked = Parked { message, approval: found.approval_id, next };
                state.lanes.get_mut(&session.id()).and_then(|lane| lane.parked.replace(parked))
            };
            if let Some(older) = older {
                // Two can wait only where the end of the older one could not be written when the newer one took its place.
                self.end(session, older.message, Cut::by(Why::Replaced)).await;
            }
            if next == Next::Go {
                self.wake(session.id());
            } else {
                self.expiry.notify_one();
            }
        }
        Ok(())
    }

    /// Heals a message that this process lost: it is on disk, unended, and nothing runs it (its end could not be written).
    pub(super) async fn heal(self: &Arc<Self>, session: &Arc<Session>, message: MessageId) -> Result<(), StoreError> {
        let open = session.find(message).is_some_and(|found| found.terminal.is_none());
        if open && !self.is_live(message) {
            // It was counted when the gateway gave it up.
            ending::write(session, message, Cut::Internal).await?;
        }
        Ok(())
    }
}
