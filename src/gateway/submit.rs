//! A message comes in: its ids, its place, its record on disk, its turn.

use std::sync::Arc;
use std::time::Duration;

use crate::base::blocking;
use crate::base::cancel::Why;
use crate::base::ids::{AgentId, OwnerId, SessionId, SpaceId};
use crate::base::limits::LANE_MESSAGES_MAX;
use crate::events::Kind;
use crate::gateway::ids::{self, Ids};
use crate::gateway::lane::fields;
use crate::gateway::state::{Run, State, Waiting};
use crate::gateway::{Gateway, GatewayError, IncomingMessage, LanePolicy, Submitted, detached};
use crate::orchestrator::Start;
use crate::rooms::agents;
use crate::rooms::spaces::SpaceError;
use crate::store::StoreError;
use crate::store::audit::{Event, On, Outcome, What, Who};
use crate::store::home::Space;
use crate::store::record::{About, Change, UserMessage};
use crate::store::session::Session;

/// When a full waiting room is worth another try: about the time of a short answer.
const RETRY_AFTER: Duration = Duration::from_secs(2);

impl Gateway {
    /// Accepts a message: when this returns it is on disk and will be run, whether or not anyone waits. The same idempotency
    /// key and body answer with the first message instead.
    ///
    /// # Errors
    /// [`GatewayError`]; nothing is kept then.
    pub async fn submit(self: &Arc<Self>, incoming: IncomingMessage) -> Result<Submitted, GatewayError> {
        let gateway = self.clone();
        detached(async move { gateway.accept(incoming).await }).await
    }

    /// What is known of a message before anything is made of what it names.
    ///
    /// # Errors
    /// `Elsewhere`: its session is held in another space than it names.
    pub async fn known(&self, incoming: &IncomingMessage) -> Result<Known, GatewayError> {
        if incoming.idempotency_key.is_none() && (incoming.session_id.is_none() || incoming.space_id.is_none()) {
            return Ok(Known::Nothing);
        }
        let ids = ids::of(incoming, self.home.keyed(), &*self.random);
        let Ok(session) = self.sessions.load(ids.session, incoming.owner).await else { return Ok(Known::Nothing) };
        if session.find(ids.message).is_some() {
            return Ok(Known::Retry);
        }
        if session.is_elsewhere(incoming.space_id) && !self.is_one_space(incoming.owner, incoming.space_id, &session).await {
            return Err(GatewayError::Elsewhere);
        }
        Ok(if session.about().space_id.is_some() { Known::Held } else { Known::Nothing })
    }

    /// The named space and the session's own are the same since one was merged into the other.
    async fn is_one_space(&self, owner: OwnerId, named: Option<SpaceId>, session: &Session) -> bool {
        let (Some(named), Some(own), spaces) = (named, session.about().space_id, self.spaces.clone()) else { return false };
        let same = move || Ok::<_, SpaceError>(spaces.resolve(owner, named)?.id == spaces.resolve(owner, own)?.id);
        blocking::spawn(same).await.is_ok_and(|same| same.unwrap_or(false))
    }

    async fn accept(self: Arc<Self>, incoming: IncomingMessage) -> Result<Submitted, GatewayError> {
        let ids = ids::of(&incoming, self.home.keyed(), &*self.random);
        let user = UserMessage {
            agent_id: AgentId::random(&*self.random),
            content: incoming.content,
            user_id: incoming.user_id,
            channel: incoming.channel.to_owned(),
            space_id: incoming.space_id,
            budget_id: incoming.budget,
            key_id: incoming.key,
            idempotent: incoming.idempotency_key.is_some(),
            history: incoming.history.digest(),
            attachments: incoming.attachments,
        };
        let begins = self.begins(incoming.owner, incoming.space_id).await;
        let session = self.session(ids, &incoming.owner, user.idempotent, begins).await?;
        let _door = self.enter(&session).await?;
        if self.state().lanes.get(&ids.session).is_none_or(|lane| lane.closed) || session.is_deleted() {
            return Err(GatewayError::NotFound);
        }
        if session.find(ids.message).is_some() {
            // A retry takes no place: it attaches to the first one, or is told that the body differs.
            let accepted = session.accept(ids.message, user).await?;
            self.heal(&session, ids.message).await?;
            return Ok(Submitted { id: ids.message, session, seq: accepted.seq, fresh: false });
        }
        self.said_in(incoming.owner, user.space_id.or(session.about().space_id)).await?;
        self.books.purse(incoming.budget).admit().map_err(GatewayError::Budget)?;
        if let Space::Full { why } = self.home.space() {
            return Err(GatewayError::DiskFull(why));
        }
        self.audit.admit().map_err(|_| {
            GatewayError::DiskFull("the audit log cannot be written, so no message is taken; the server's log says why".to_owned())
        })?;
        let place = Promise::of(&self, ids.session)?;
        if session.is_elsewhere(user.space_id) && self.is_one_space(incoming.owner, user.space_id, &session).await {
            session.set_about(Change { space_id: Some(user.space_id), ..Change::default() }).await?;
        }
        let accepted = session.accept_behind(incoming.history, ids.message, user.clone()).await?;
        if accepted.fresh {
            self.audit.note(Event {
                who: Who { owner: Some(incoming.owner), key: incoming.key },
                what: What::Message,
                on: Some(On::id(ids.session.as_bytes())),
                outcome: Outcome::Done,
            });
            place.keep(&self, session.clone(), ids, user);
        }
        Ok(Submitted { id: ids.message, session, seq: accepted.seq, fresh: accepted.fresh })
    }

    /// The session it goes to. Where no new message can be taken, one that exists may still know the message of a retry.
    async fn session(&self, ids: Ids, owner: &OwnerId, retry: bool, begins: About) -> Result<Arc<Session>, GatewayError> {
        let refusal = match self.home.space() {
            _ if self.state().draining => GatewayError::Draining,
            Space::Full { why } => GatewayError::DiskFull(why),
            Space::Enough => return Ok(self.sessions.load_or_begin(ids.session, *owner, begins).await?),
        };
        if !retry {
            return Err(refusal);
        }
        let known = self.sessions.load(ids.session, *owner).await.ok().filter(|session| session.find(ids.message).is_some());
        known.ok_or(refusal)
    }
}

/// What is known of a message before it is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Nothing: what it names must be there, or is made.
    Nothing,
    /// Its session is held in the space that it names, which need not be there any more.
    Held,
    /// It is here: [`Gateway::submit`] attaches to it, or says that the body differs.
    Retry,
}

/// A place that is promised to a message while it is written down; dropping it gives it back.
pub(super) struct Promise {
    gateway: Arc<Gateway>,
    kept: bool,
}

impl Promise {
    /// A place in the house and in the lane, if both have one.
    pub(super) fn of(gateway: &Arc<Gateway>, session: SessionId) -> Result<Self, GatewayError> {
        let policy = gateway.settings.load().lane_policy;
        let mut state = gateway.state();
        if state.draining {
            return Err(GatewayError::Draining);
        }
        if let Some(lane) = state.lanes.get(&session) {
            let full = match policy {
                // A parked run does not count as busy: a new message takes its place.
                LanePolicy::Reject => lane.current.is_some() || !lane.queue.is_empty(),
                LanePolicy::Enqueue | LanePolicy::Interrupt => lane.queue.len() >= LANE_MESSAGES_MAX,
            };
            if full {
                return Err(GatewayError::LaneFull);
            }
        }
        if state.in_house() >= gateway.places {
            return Err(GatewayError::WaitingRoomFull { retry_after: RETRY_AFTER });
        }
        // Drain waits for this one, too.
        state.take_place();
        Ok(Self { gateway: gateway.clone(), kept: false })
    }

    /// The message is on disk: it gets its turn.
    fn keep(mut self, gateway: &Arc<Gateway>, session: Arc<Session>, ids: Ids, user: UserMessage) {
        self.kept = true;
        let owner = session.owner();
        let (agent, space) = (user.agent_id, user.space_id);
        let channel = user.channel.clone();
        let mut state = gateway.state();
        if gateway.settings.load().lane_policy == LanePolicy::Interrupt {
            interrupt(&mut state, ids.session);
        }
        gateway.begin_agent(agent, owner, ids, agents::Status::Starting);
        state.runs.insert(ids.message, Run::new(owner, ids.session, agent, true));
        if let Some(lane) = state.lanes.get_mut(&ids.session) {
            lane.queue.push_back(Waiting { session, message: ids.message, user, start: Start::Fresh });
        }
        drop(state);
        let who: [(&str, &dyn std::fmt::Display); 3] = [("agent_id", &agent), ("session_id", &ids.session), ("message_id", &ids.message)];
        let space = space.map_or(serde_json::Value::Null, |space| space.to_string().into());
        gateway.events.publish(owner, Kind::MessageReceived, fields(&who, [("channel", channel.into()), ("space_id", space)]));
        gateway.events.publish(owner, Kind::AgentCreated, fields(&who, []));
        gateway.wake(ids.session);
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if !self.kept {
            self.gateway.state().give_place_back();
        }
    }
}

/// Stops what runs and what waits in this lane; what is parked gives way by itself.
fn interrupt(state: &mut State, session: SessionId) {
    let State { lanes, runs, .. } = state;
    let Some(lane) = lanes.get(&session) else { return };
    for message in lane.current.iter().chain(lane.queue.iter().map(|waiting| &waiting.message)) {
        if let Some(run) = runs.get(message) {
            run.canceller.cancel(Why::Replaced);
        }
    }
}

impl From<StoreError> for GatewayError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound => Self::NotFound,
            StoreError::Conflict => Self::Conflict,
            StoreError::Elsewhere => Self::Elsewhere,
            StoreError::DiskFull(why) => Self::DiskFull(why),
            error => Self::Store(error),
        }
    }
}
