//! Floor 5: messages in, one lane for each session, permits, cancel, approvals, drain.
//!
//! Nothing of an answer passes through here: a run writes to its session's log and readers tail that. The gateway decides who
//! runs when, and keeps the promise that every accepted message gets exactly one terminal record.
//!
//! Work that must not stop half way (a message that is on disk and not yet queued, a decision that is in the log and not yet
//! carried out) runs on tasks of its own: a client that goes away drops its request, not the work.

mod agents;
mod approvals;
mod begins;
mod copies;
mod door;
mod ending;
mod ids;
mod lane;
mod message;
mod runner;
mod state;
mod stop;
mod submit;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{Notify, Semaphore};

use crate::base::ids::{MessageId, OwnerId};
use crate::base::live::Live;
use crate::base::random::Random;
use crate::base::time::Clock;
use crate::events::Events;
use crate::rooms::agents::Agents;
use crate::rooms::approvals::Approvals;
use crate::rooms::personas::Personas;
use crate::rooms::seeds::Seeds;
use crate::rooms::spaces::Spaces;
use crate::store::audit::Audit;
use crate::store::home::Home;
use crate::store::keys::Books;
use crate::store::sessions::Sessions;

pub use approvals::DecideError;
pub use message::{CancelError, Counts, GatewayError, IncomingMessage, LanePolicy, Settings, Submitted};
pub(crate) use runner::Job as RunnerJob;
pub use runner::Runner;
pub use submit::Known;

/// What the gateway stands on.
pub struct GatewayParts {
    /// The home: room on disk, keyed ids.
    pub home: Arc<Home>,
    /// All sessions.
    pub sessions: Arc<Sessions>,
    /// Open questions to people.
    pub approvals: Arc<Approvals>,
    /// Specifications of tasks; those of a deleted session go with it.
    pub seeds: Arc<Seeds>,
    /// Manners of speaking, one of which new sessions get.
    pub personas: Arc<Personas>,
    /// Spaces, one of which new sessions belong to.
    pub spaces: Arc<Spaces>,
    /// Runs as agents: how each is.
    pub agents: Arc<Agents>,
    /// The event bus.
    pub events: Arc<Events>,
    /// What runs a message: the orchestrator.
    pub runner: Arc<dyn Runner>,
    /// The audit log: messages and decisions.
    pub audit: Arc<Audit>,
    /// Token budgets of keys.
    pub books: Arc<Books>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// What is set; `max_concurrent` is read once.
    pub settings: Arc<Live<Settings>>,
}

/// Takes messages in and answers for their runs.
pub struct Gateway {
    home: Arc<Home>,
    sessions: Arc<Sessions>,
    approvals: Arc<Approvals>,
    seeds: Arc<Seeds>,
    personas: Arc<Personas>,
    spaces: Arc<Spaces>,
    agents: Arc<Agents>,
    events: Arc<Events>,
    audit: Arc<Audit>,
    books: Arc<Books>,
    runner: Arc<dyn Runner>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    settings: Arc<Live<Settings>>,
    /// One permit for each run at once; waiting for one is first come, first served.
    permits: Arc<Semaphore>,
    /// Places for messages: permits and waiting room together.
    places: usize,
    /// Lanes and runs. Everyone takes it shortly; nobody waits while holding it.
    state: Mutex<State>,
    /// Says that there is a new open question: the expiry task waits on it.
    expiry: Notify,
}

use state::State;

impl Gateway {
    /// A gateway with nothing in it.
    pub fn new(parts: GatewayParts) -> Arc<Self> {
        let permits = parts.settings.load().max_concurrent.clamp(1, Semaphore::MAX_PERMITS);
        let waiting = parts.settings.load().max_waiting;
        Arc::new(Self {
            home: parts.home,
            sessions: parts.sessions,
            approvals: parts.approvals,
            seeds: parts.seeds,
            personas: parts.personas,
            spaces: parts.spaces,
            agents: parts.agents,
            events: parts.events,
            audit: parts.audit,
            books: parts.books,
            runner: parts.runner,
            clock: parts.clock,
            random: parts.random,
            settings: parts.settings,
            permits: Arc::new(Semaphore::new(permits)),
            places: permits.saturating_add(waiting),
            state: Mutex::default(),
            expiry: Notify::new(),
        })
    }

    /// Numbers for status pages.
    pub fn counts(&self) -> Counts {
        let (state, totals) = (self.state(), self.agents.totals());
        Counts {
            active: state.active,
            waiting: state.in_house().saturating_sub(state.active),
            parked: state.lanes.values().filter(|lane| lane.parked.is_some()).count(),
            forked: totals.forked,
            completed: totals.completed,
            failed: totals.failed,
        }
    }

    /// The message is not over as far as this process knows: it waits, runs or is parked. A reader that has seen everything
    /// of a message that is not live waits in vain.
    pub fn is_live(&self, message: MessageId) -> bool {
        self.state().runs.contains_key(&message)
    }

    /// The message is this owner's and this process knows it.
    pub fn knows(&self, owner: OwnerId, message: MessageId) -> bool {
        let state = self.state();
        state.runs.get(&message).is_some_and(|run| run.owner == owner) || state.ended.has(message, owner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is whole before the next call that could panic.
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Starts the lane's task where there is something to do and none lives.
    fn wake(self: &Arc<Self>, session: crate::base::ids::SessionId) {
        let mut state = self.state();
        if let Some(lane) = state.lanes.get_mut(&session).filter(|lane| !lane.task) {
            lane.task = true;
            drop(state);
            tokio::spawn(self.clone().lane(session));
        }
    }
}

/// Runs the future to its end even when the caller is dropped meanwhile; a panic in it is the caller's.
async fn detached<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    match tokio::spawn(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that shuts down drops a task of ours.
            Err(_) => std::future::pending().await,
        },
    }
}
