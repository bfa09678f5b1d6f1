//! What the gateway knows of its lanes and runs. One lock guards it; it is held for a look-up, never across a wait.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::base::cancel::{Canceller, Why};
use crate::base::ids::{AgentId, ApprovalId, MessageId, OwnerId, SessionId};
use crate::base::limits::ENDED_MESSAGES_KEPT;
use crate::orchestrator::{EndKind, Start};
use crate::store::record::UserMessage;
use crate::store::session::Session;

#[derive(Default)]
pub(super) struct State {
    /// Sessions in which something runs, waits or is parked, or whose door is in use.
    pub(super) lanes: HashMap<SessionId, Lane>,
    /// Messages that are not over.
    pub(super) runs: HashMap<MessageId, Run>,
    /// Messages that are.
    pub(super) ended: Ended,
    /// Messages that wait or run, and places promised to messages that are being written down. Parked ones do not count. It is
    /// changed under this lock alone, and drain and others wait on it: none of them sees a number that is not true any more.
    house: watch::Sender<usize>,
    /// The start has found every run that an earlier process left.
    pub(super) looked: bool,
    /// No new message is taken.
    pub(super) draining: bool,
    /// Runs that hold a permit.
    pub(super) active: usize,
}

/// One session's messages, in order.
#[derive(Default)]
pub(super) struct Lane {
    /// Held while a message is written down or an approval is decided: one at a time in one session. Never held during a run.
    pub(super) door: Arc<tokio::sync::Mutex<()>>,
    /// Holders of the door and those who wait for it; the lane stays while there are any.
    pub(super) users: usize,
    /// What an earlier process left parked was looked for.
    pub(super) adopted: bool,
    /// The session is being deleted: nothing more enters.
    pub(super) closed: bool,
    /// Its task lives. The task ends when there is nothing to do; whoever adds something starts it again.
    pub(super) task: bool,
    pub(super) queue: VecDeque<Waiting>,
    /// What runs, or is being ended.
    pub(super) current: Option<MessageId>,
    pub(super) parked: Option<Parked>,
}

/// A message that is on disk and waits for its turn.
pub(super) struct Waiting {
    pub(super) session: Arc<Session>,
    pub(super) message: MessageId,
    pub(super) user: UserMessage,
    pub(super) start: Start,
}

/// A run that waits for a person. It holds no session and no permit.
pub(super) struct Parked {
    pub(super) message: MessageId,
    pub(super) approval: ApprovalId,
    pub(super) next: Next,
}

/// What becomes of a parked run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It waits on.
    Wait,
    /// The decision is in its log: it goes on.
    Go,
    /// It is ended for this reason.
    Stop(Why),
}

/// A message that is not over.
pub(super) struct Run {
    pub(super) owner: OwnerId,
    pub(super) session: SessionId,
    pub(super) agent: AgentId,
    pub(super) canceller: Canceller,
    /// Says how it ended to those who wait for that (cancel, delete).
    pub(super) over: watch::Sender<Option<EndKind>>,
    /// The question that it asked last in this process, and the time of that by [`Clock::boottime`](crate::base::time::Clock::boottime).
    pub(super) asked: Option<(ApprovalId, Duration)>,
    /// The approval whose decision is in the log already; the run may not have heard of it yet.
    pub(super) decided: Option<ApprovalId>,
    /// It counts as in the house.
    pub(super) counted: bool,
}

impl Run {
    pub(super) fn new(owner: OwnerId, session: SessionId, agent: AgentId, counted: bool) -> Self {
        let (canceller, _) = crate::base::cancel::pair();
        Self { owner, session, agent, canceller, over: watch::Sender::new(None), asked: None, decided: None, counted }
    }
}

/// What a lane does next.
pub(super) enum Step {
    /// Runs this message.
    Run(Waiting),
    /// Goes on with a parked run.
    Resume(Parked),
    /// Ends a parked run.
    Settle(Parked, Why),
    /// Nothing; its task ends.
    Rest,
}

impl State {
    /// How many are in the house.
    pub(super) fn in_house(&self) -> usize {
        *self.house.borrow()
    }

    /// Tells of every change of that number.
    pub(super) fn house(&self) -> watch::Receiver<usize> {
        self.house.subscribe()
    }

    /// The start has looked for runs everywhere; whoever waits for one looks again.
    pub(super) fn has_looked(&mut self) {
        self.looked = true;
        self.house.send_modify(|_| {});
    }

    /// A place in the house is taken.
    pub(super) fn take_place(&mut self) {
        self.house.send_modify(|in_house| *in_house += 1);
    }

    /// A place in the house is given back.
    pub(super) fn give_place_back(&mut self) {
        self.house.send_modify(|in_house| *in_house = in_house.saturating_sub(1));
    }

    /// What the lane does next; taken out of it.
    pub(super) fn next_step(&mut self, session: SessionId) -> Step {
        let draining = self.draining;
        let Some(lane) = self.lanes.get_mut(&session) else { return Step::Rest };
        lane.current = None;
        let urgent = match lane.parked.as_ref().map(|parked| parked.next) {
            // A decision that comes while the server stops is carried out after the restart.
            Some(Next::Go) => !draining,
            Some(Next::Stop(_)) => true,
            // A new message takes the place of a question nobody has answered.
            Some(Next::Wait) => !lane.queue.is_empty(),
            None => false,
        };
        if let Some(parked) = lane.parked.take_if(|_| urgent) {
            lane.current = Some(parked.message);
            // It takes a place again, and is never refused one: in the same breath, so that drain waits for it. Half of a run, its
            // question answered and its end not written, would be one that goes on.
            if let Some(run) = self.runs.get_mut(&parked.message) {
                run.counted = true;
                self.take_place();
            }
            return match parked.next {
                Next::Go => Step::Resume(parked),
                Next::Stop(why) => Step::Settle(parked, why),
                Next::Wait => Step::Settle(parked, Why::Replaced),
            };
        }
        if let Some(waiting) = lane.queue.pop_front() {
            lane.current = Some(waiting.message);
            return Step::Run(waiting);
        }
        lane.task = false;
        self.tidy(session);
        Step::Rest
    }

    /// Forgets a lane in which nothing is left.
    pub(super) fn tidy(&mut self, session: SessionId) {
        let idle = |lane: &Lane| lane.users == 0 && !lane.task && lane.queue.is_empty() && lane.current.is_none() && lane.parked.is_none();
        if self.lanes.get(&session).is_some_and(idle) {
            self.lanes.remove(&session);
        }
    }

    /// A message is over: tells those who wait for it, remembers its id.
    pub(super) fn finish(&mut self, message: MessageId, kind: EndKind) -> Option<Run> {
        let run = self.runs.remove(&message)?;
        if run.counted {
            self.give_place_back();
        }
        self.ended.add(message, run.owner);
        run.over.send_replace(Some(kind));
        Some(run)
    }
}

/// The newest ended messages of this process, so that cancelling one of them is told apart from an unknown id.
#[derive(Default)]
pub(super) struct Ended {
    owners: HashMap<MessageId, OwnerId>,
    order: VecDeque<MessageId>,
}

impl Ended {
    fn add(&mut self, message: MessageId, owner: OwnerId) {
        if self.owners.insert(message, owner).is_none() {
            self.order.push_back(message);
        }
        while self.order.len() > ENDED_MESSAGES_KEPT {
            let Some(old) = self.order.pop_front() else { break };
            self.owners.remove(&old);
        }
    }

    /// It ended, and was this owner's.
    pub(super) fn has(&self, message: MessageId, owner: OwnerId) -> bool {
        self.owners.get(&message) == Some(&owner)
    }
}
