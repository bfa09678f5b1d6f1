//! What comes in, from whichever channel, and what can be said about it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{BudgetId, KeyId, MessageId, OwnerId, Seq, SessionId, SpaceId};
use crate::base::limits::WAITING_ROOM_MAX;
use crate::store::StoreError;
use crate::store::history::History;
use crate::store::keys::Refused;
use crate::store::session::Session;

/// A message as a channel hands it over. Its texts are within their limits (the channel checked them).
#[derive(Debug, Clone)]
pub struct IncomingMessage {
    /// Its id where the channel gives one; otherwise it is made here.
    pub id: Option<MessageId>,
    /// Where it came in: `rest`, `ws`, `v1` …
    pub channel: &'static str,
    /// The client's label for the user; no identity.
    pub user_id: String,
    /// The text.
    pub content: String,
    /// The conversation it continues; `None` begins a new one.
    pub session_id: Option<SessionId>,
    /// The space it is said in.
    pub space_id: Option<SpaceId>,
    /// Workspace paths.
    pub attachments: Vec<String>,
    /// The same key and body attach to the first run, another body is a conflict.
    pub idempotency_key: Option<String>,
    /// What was said before, where it begins a session; one that exists has its own.
    pub history: History,
    /// Whose it is; from the caller's key, never from the message.
    pub owner: OwnerId,
    /// The API key that it came with; none where the server itself speaks.
    pub key: Option<KeyId>,
    /// The token budget that its model calls use: that key's, where it has one.
    pub budget: Option<BudgetId>,
}

/// A message that is on disk.
pub struct Submitted {
    /// Its id.
    pub id: MessageId,
    /// Where it is answered.
    pub session: Arc<Session>,
    /// The seq of its `message` record.
    pub seq: Seq,
    /// It is new; false where it attached to an earlier one.
    pub fresh: bool,
}

/// Why a message was not accepted. Nothing of it is kept then.
#[derive(Debug)]
pub enum GatewayError {
    /// The session's lane has no place, or its policy is `reject` and something runs.
    LaneFull,
    /// The process has no place.
    WaitingRoomFull {
        /// When it is worth another try.
        retry_after: Duration,
    },
    /// The server is shutting down.
    Draining,
    /// The same idempotency key came with another body.
    Conflict,
    /// The session is someone else's, or was deleted a moment ago.
    NotFound,
    /// The space that it would be said in is archived.
    Archived,
    /// It names another space than the one that its session is held in.
    Elsewhere,
    /// Its key's token budget is used up.
    Budget(Refused),
    /// The disk is full; the reason in public words.
    DiskFull(String),
    /// The store failed otherwise.
    Store(StoreError),
}

impl fmt::Display for GatewayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LaneFull => f.write_str("this session has too many waiting messages; wait for an answer first"),
            Self::WaitingRoomFull { .. } => f.write_str("too many messages are waiting; try again in a moment"),
            Self::Draining => f.write_str("the server is shutting down"),
            Self::Conflict => f.write_str("this idempotency key was used with another message"),
            Self::NotFound => f.write_str("no such session"),
            Self::Archived => f.write_str("the space of this session is archived; restore it, or move the session"),
            Self::Elsewhere => {
                f.write_str("space_id: the session is not held in this space; leave it out, or move the session (PATCH /api/sessions/{id})")
            }
            Self::Budget(refused) => refused.fmt(f),
            Self::DiskFull(why) => f.write_str(why),
            // What the store says is for the log.
            Self::Store(_) => f.write_str("the message could not be kept"),
        }
    }
}

/// Why a message could not be cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelError {
    /// No such message, or not yours, or it ended too long ago to be remembered.
    NotFound,
    /// It is over already.
    Over,
}

/// Numbers for status pages; each is true at the moment of the call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Runs that hold a permit.
    pub active: usize,
    /// Messages that wait for their lane or a permit.
    pub waiting: usize,
    /// Runs that wait for a person.
    pub parked: usize,
    /// Agents that this home has ever begun.
    pub forked: u64,
    /// Of these, ended as done or cancelled.
    pub completed: u64,
    /// Of these, failed or interrupted.
    pub failed: u64,
}

/// What a new message does in a session where something runs already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LanePolicy {
    /// It waits.
    #[default]
    Enqueue,
    /// It is refused.
    Reject,
    /// It stops what runs and what waits, and is next.
    Interrupt,
}

/// What can be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Runs at once in the whole process (`gateway.max_concurrent`); read at start.
    pub max_concurrent: usize,
    /// Messages that wait for a free run in the whole process (`gateway.max_waiting`); read at start.
    pub max_waiting: usize,
    /// What a new message does in a busy session.
    pub lane_policy: LanePolicy,
    /// Longest time of a run, parked time apart (`security.max_execution_time_secs`). The orchestrator keeps it; the watchdog
    /// here acts on a run that did not.
    pub max_execution: Duration,
    /// What the watchdog leaves a run beyond that, and again between asking it to stop and taking its permit.
    pub watchdog_grace: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_concurrent: 32,
            max_waiting: WAITING_ROOM_MAX,
            lane_policy: LanePolicy::Enqueue,
            max_execution: Duration::from_secs(300),
            watchdog_grace: Duration::from_secs(10),
        }
    }
}
