//! One open session: its log, and everything that is known of it without reading the log again.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use crate::base::ids::{ApprovalId, MessageId, OwnerId, Seq, SessionId};
use crate::base::time::Timestamp;
use crate::store::StoreError;
use crate::store::record::{Body, Decision, Record, UserMessage};
use crate::store::tail::Tail;
use crate::store::turns::Turn;

/// A record as readers get it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its number.
    pub seq: Seq,
    /// The word in `kind`.
    pub kind: &'static str,
    /// Its message.
    pub message_id: MessageId,
    /// The record itself (a checkpoint's state included: never send this one outside).
    pub record: Record,
    /// The public JSON object, serialised once; every reader gets these bytes.
    pub json: Bytes,
    /// It is the last of its message.
    pub terminal: bool,
}

/// What is remembered of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageState {
    /// The seq of its `message` record.
    pub seq: Seq,
    /// SHA-256 over content, space and user; what idempotency compares.
    pub digest: [u8; 32],
    /// The seq of its terminal record.
    pub terminal: Option<Seq>,
}

/// An accepted message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// The seq of its `message` record.
    pub seq: Seq,
    /// It was new; false where the same message had been accepted before.
    pub fresh: bool,
}

/// An unended message whose run waits for a decision, or whose decision came and nothing was recorded after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// The message.
    pub message_id: MessageId,
    /// The question.
    pub approval_id: ApprovalId,
    /// The answer, once there is one.
    pub decision: Option<Decision>,
}

/// One open session. The one of an id is shared by all who use it.
pub struct Session {}

/// The documented JSON of a session (API A5) in pieces of at most about 64 KiB.
pub struct Detail {}

impl Detail {
    /// The next piece; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        todo!()
    }
}

impl Session {
    /// Its id.
    pub fn id(&self) -> SessionId {
        todo!()
    }
    /// Whose it is.
    pub fn owner(&self) -> OwnerId {
        todo!()
    }
    /// When it was made.
    pub fn created_at(&self) -> Timestamp {
        todo!()
    }
    /// The newest seq that readers can see; 0 where there is none.
    pub fn last_seq(&self) -> Seq {
        todo!()
    }
    /// It was deleted; every other call answers `NotFound`.
    pub fn is_deleted(&self) -> bool {
        todo!()
    }
    /// Accepts a user message: on disk when this returns. The same id with the same content, space and user is the same message.
    pub async fn accept(&self, _id: MessageId, _message: UserMessage) -> Result<Accepted, StoreError> {
        todo!()
    }
    /// Appends records of an accepted message in one write; visible (and durable, where a kind asks for it) when this returns.
    /// Answers the seq of the last one.
    pub async fn append(&self, _message: MessageId, _bodies: Vec<Body>) -> Result<Seq, StoreError> {
        todo!()
    }
    /// What is remembered of a message (the last 1,024).
    pub fn find(&self, _message: MessageId) -> Option<MessageState> {
        todo!()
    }
    /// Messages without a terminal record, oldest first.
    pub fn open_messages(&self) -> Vec<MessageId> {
        todo!()
    }
    /// Unended messages that wait for a decision or have one that was not acted on.
    pub fn waiting(&self) -> Vec<Waiting> {
        todo!()
    }
    /// A reader of everything behind `after`.
    pub fn tail(self: &Arc<Self>, _after: Seq) -> Tail {
        todo!()
    }
    /// Ended turns, oldest first: whole turns, as many of the newest as fit into `max_bytes` of text.
    pub async fn recent_turns(&self, _max_bytes: usize) -> Result<Vec<Turn>, StoreError> {
        todo!()
    }
    /// The state of the message's last checkpoint that has one.
    pub async fn last_checkpoint(&self, _message: MessageId) -> Result<Option<Value>, StoreError> {
        todo!()
    }
    /// The records of a message without pieces, oldest first; at most 8 MiB of them.
    pub async fn records_of(&self, _message: MessageId) -> Result<Vec<Record>, StoreError> {
        todo!()
    }
    /// Keeps bytes in `<id>.d/`, durable when this returns; answers their SHA-256 in hexadecimal.
    pub async fn put_blob(&self, _bytes: Vec<u8>) -> Result<String, StoreError> {
        todo!()
    }
    /// Kept bytes.
    pub async fn read_blob(&self, _sha256: &str) -> Result<Vec<u8>, StoreError> {
        todo!()
    }
    /// The documented JSON (API A5), streamed from the log.
    pub fn detail(self: &Arc<Self>) -> Detail {
        todo!()
    }
}
