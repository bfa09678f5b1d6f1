//! The task of one session's lane: runs its messages one after the other, ends what is to be ended, and goes when nothing is left.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::base::cancel::{Cancel, Canceller, Why};
use crate::base::ids::{ApprovalId, MessageId, SessionId};
use crate::base::log;
use crate::events::Kind;
use crate::gateway::ending::{self, Cut};
use crate::gateway::state::{Next, Parked, Step, Waiting};
use crate::gateway::{Gateway, RunnerJob};
use crate::orchestrator::{EndKind, Outcome, Start};
use crate::rooms::agents::Status;
use crate::store::StoreError;
use crate::store::record::{Decision, UserMessage};
use crate::store::session::Session;

/// How long a run that was told to go away may take to be gone, before its lane goes on without it.
const ABORT_WITHIN: Duration = Duration::from_secs(1);

/// What is left of a run whose task is over.
enum Left {
    /// It ended in its own words.
    Ended(EndKind),
    /// It waits for a person.
    Parked(ApprovalId),
    /// It could not end itself.
    Lost(Cut),
}

impl Gateway {
    /// Runs a lane until nothing is left to do in it.
    pub(super) async fn lane(self: Arc<Self>, session: SessionId) {
        loop {
            // Bound to a name, so that the lock is given back before the step is taken.
            let step = self.state().next_step(session);
            match step {
                Step::Run(waiting) => self.run(waiting).await,
                Step::Resume(parked) => self.resume(session, parked).await,
                Step::Settle(parked, why) => self.settle(session, parked, why).await,
                Step::Rest => return,
            }
        }
    }

    /// Runs one message: waits for a permit, hands it to the orchestrator, keeps the books.
    async fn run(self: &Arc<Self>, waiting: Waiting) {
        let Some(canceller) = self.state().runs.get(&waiting.message).map(|run| run.canceller.clone()) else { return };
        let cancel = canceller.token();
        let permit = tokio::select! {
            biased;
            why = cancel.cancelled() => match waiting.start {
                // It never began; there is nothing of it but the question.
                Start::Fresh => return self.end(&waiting.session, waiting.message, Cut::by(why)).await,
                // What it had said is in its checkpoint: the orchestrator ends it, and needs no permit for that.
                Start::Resume => None,
            },
            // The semaphore is never closed.
            permit = self.permits.clone().acquire_owned() => permit.ok(),
        };
        {
            let mut state = self.state();
            state.active += 1;
            self.agent_is(&state, waiting.message, Status::Running);
        }
        self.tell(waiting.message, Kind::AgentStarted, []);
        let (session, message) = (waiting.session.clone(), waiting.message);
        let began = self.clock.monotonic();
        let left = self.supervise(waiting, canceller, cancel).await;
        let metrics = self.audit.metrics();
        metrics.run_took.took(self.clock.monotonic().saturating_sub(began));
        metrics.runs.one(match &left {
            Left::Ended(kind) => kind.word(),
            Left::Parked(_) => "parked",
            Left::Lost(_) => "lost",
        });
        self.state().active -= 1;
        drop(permit);
        match left {
            Left::Ended(kind) => self.close_books(message, kind),
            Left::Parked(approval) => self.park(session.id(), message, approval),
            Left::Lost(cut) => self.end(&session, message, cut).await,
        }
    }

    /// Runs the orchestrator on a task of its own, so that neither a panic nor a run that hangs takes the lane with it.
    async fn supervise(&self, waiting: Waiting, canceller: Canceller, cancel: Cancel) -> Left {
        let Some((owner, agent_id)) = self.state().runs.get(&waiting.message).map(|run| (run.owner, run.agent)) else {
            return Left::Lost(Cut::Internal);
        };
        let settings = self.settings.load();
        let message = waiting.message;
        let job = RunnerJob {
            session: waiting.session,
            owner,
            message_id: message,
            agent_id,
            purse: self.books.purse(waiting.user.budget_id),
            message: waiting.user,
            start: waiting.start,
            permits: self.permits.clone(),
        };
        let mut task = tokio::spawn(self.runner.clone().run(job, cancel.clone()));
        // The watchdog: the run keeps its own deadline; this acts on one that did not, or does not stop when told.
        let finished = tokio::select! {
            finished = &mut task => Some(finished),
            () = tokio::time::sleep(settings.max_execution + settings.watchdog_grace) => {
                canceller.cancel(Why::Deadline);
                tokio::time::timeout(settings.watchdog_grace, &mut task).await.ok()
            }
            () = told(&cancel, settings.watchdog_grace) => None,
        };
        let Some(finished) = finished else {
            log::error("gateway", format_args!("the run of message {message} does not stop; it is abandoned"));
            task.abort();
            let _ = tokio::time::timeout(ABORT_WITHIN, &mut task).await;
            return Left::Lost(cancel.why().map_or(Cut::Internal, Cut::by));
        };
        match finished {
            Ok(Outcome::Ended(kind)) => Left::Ended(kind),
            Ok(Outcome::Parked(approval)) => Left::Parked(approval),
            Ok(Outcome::Broken(StoreError::NotFound)) => Left::Lost(Cut::by(Why::Deleted)),
            Ok(Outcome::Broken(error)) => {
                log::error("gateway", format_args!("the run of message {message} could not be written down: {error}"));
                Left::Lost(Cut::Internal)
            }
            Err(error) => {
                let what = if error.is_panic() { "panicked" } else { "was dropped" };
                log::error("gateway", format_args!("the run of message {message} {what}"));
                Left::Lost(Cut::Internal)
            }
        }
    }

    /// A run waits for a person: it keeps its lane and gives back everything else.
    fn park(&self, session: SessionId, message: MessageId, approval: ApprovalId) {
        let mut state = self.state();
        let Some(run) = state.runs.get_mut(&message) else { return };
        let next = if run.decided == Some(approval) {
            // The decision came between the question and here.
            Next::Go
        } else {
            match run.canceller.token().why() {
                // Over a restart it stays what it is.
                None | Some(Why::Shutdown) => Next::Wait,
                Some(why) => Next::Stop(why),
            }
        };
        run.asked = Some((approval, self.clock.boottime()));
        let counted = std::mem::take(&mut run.counted);
        let agent = run.agent;
        self.agents.set(agent, Status::Idle);
        if let Some(lane) = state.lanes.get_mut(&session) {
            lane.parked = Some(Parked { message, approval, next });
        }
        if counted {
            state.give_place_back();
        }
        drop(state);
        self.expiry.notify_one();
    }

    /// Goes on with a parked run whose decision is in the log.
    async fn resume(self: &Arc<Self>, session: SessionId, parked: Parked) {
        if let Some((session, user)) = self.reopen(session, parked.message).await {
            self.run(Waiting { session, message: parked.message, user, start: Start::Resume }).await;
        }
    }

    /// Ends a parked run: its question is answered with no, then it ends for this reason with what it had said.
    async fn settle(self: &Arc<Self>, session: SessionId, parked: Parked, why: Why) {
        let Some((session, user)) = self.reopen(session, parked.message).await else { return };
        {
            let _door = self.door(session.id()).await;
            let (decided, by) = {
                let state = self.state();
                // Where a new message takes the run's place, its key has said no.
                let next = state.lanes.get(&session.id()).and_then(|lane| lane.queue.front()).filter(|_| why == Why::Replaced);
                let decided = state.runs.get(&parked.message).is_some_and(|run| run.decided == Some(parked.approval));
                (decided, next.and_then(|next| next.user.key_id))
            };
            let approval = (parked.approval, by);
            if !decided {
                if let Err(error) = self.resolve(&session, parked.message, approval, Decision::Rejected).await {
                    log::warn("gateway", format_args!("approval {}: its rejection was not written down: {error}", parked.approval));
                }
            }
        }
        let Some(canceller) = self.state().runs.get(&parked.message).map(|run| run.canceller.clone()) else { return };
        canceller.cancel(why);
        let cancel = canceller.token();
        let waiting = Waiting { session: session.clone(), message: parked.message, user, start: Start::Resume };
        match self.supervise(waiting, canceller, cancel).await {
            Left::Ended(kind) => self.close_books(parked.message, kind),
            Left::Parked(_) | Left::Lost(_) => self.end(&session, parked.message, Cut::by(why)).await,
        }
    }

    /// The session and the user's words of a parked run; none where it cannot go on, which is said, and then it is over here. Where
    /// its session cannot be read now it is left as it lies on disk.
    async fn reopen(self: &Arc<Self>, id: SessionId, message: MessageId) -> Option<(Arc<Session>, UserMessage)> {
        let lost = |error| log::error("gateway", format_args!("session {id}: the run that waits there cannot go on: {error}"));
        let owner = self.state().runs.get(&message).map(|run| run.owner)?;
        let error = match self.sessions.load(id, owner).await {
            Ok(session) => match ending::user_message(&session, message).await {
                Ok(user) => return Some((session, user)),
                Err(error @ StoreError::Damaged(_)) => {
                    lost(error);
                    // Nothing will make it readable: whoever waits for it hears so.
                    self.end(&session, message, Cut::Internal).await;
                    return None;
                }
                Err(error) => error,
            },
            Err(error) => error,
        };
        lost(error);
        // It is not over: the next one through the door looks for it again.
        let _door = self.door(id).await;
        self.close_books(message, EndKind::Failed);
        self.adopted(id, false);
        None
    }

    /// Writes the terminal record of a run that cannot do it itself, and closes the books on it.
    pub(super) async fn end(&self, session: &Arc<Session>, message: MessageId, cut: Cut) {
        if let Err(error) = ending::write(session, message, cut).await {
            // A reader that waits for it learns from `Gateway::is_live` that nothing comes.
            log::error("gateway", format_args!("the end of message {message} was not written down: {error}"));
        }
        self.close_books(message, cut.kind());
    }

    /// Closes the books on a message.
    pub(super) fn close_books(&self, message: MessageId, kind: EndKind) {
        let event = if matches!(kind, EndKind::Failed | EndKind::Interrupted) { Kind::AgentFailed } else { Kind::AgentStopped };
        self.tell(message, event, [("outcome", kind.word().into())]);
        let gone = {
            let mut state = self.state();
            let status = if event == Kind::AgentFailed { Status::Failed } else { Status::Stopped };
            self.agent_is(&state, message, status);
            state.finish(message, kind)
        };
        drop(gone);
    }

    /// Publishes an event of a run that is not over.
    pub(super) fn tell<const N: usize>(&self, message: MessageId, kind: Kind, more: [(&str, Value); N]) {
        let Some((owner, agent, session)) = self.state().runs.get(&message).map(|run| (run.owner, run.agent, run.session)) else {
            return;
        };
        self.events.publish(owner, kind, fields(&[("agent_id", &agent), ("session_id", &session), ("message_id", &message)], more));
    }
}

/// Fields of an event: ids first.
pub(super) fn fields<const N: usize>(ids: &[(&str, &dyn fmt::Display)], more: [(&str, Value); N]) -> Map<String, Value> {
    let mut map = Map::with_capacity(ids.len() + N);
    map.extend(ids.iter().map(|(name, id)| ((*name).to_owned(), Value::String(id.to_string()))));
    map.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
    map
}

/// Waits until a run was told to stop, and the grace after that.
async fn told(cancel: &Cancel, grace: Duration) {
    cancel.cancelled().await;
    tokio::time::sleep(grace).await;
}
