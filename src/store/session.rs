//! One open session: its log, and everything that is known of it without reading the log again.

use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use serde_json::Value;

use crate::base::bell::Bell;
use crate::base::blocking;
use crate::base::ids::{ApprovalId, MessageId, OwnerId, Seq, SessionId, SpaceId};
use crate::base::time::Timestamp;
use crate::store::core::Core;
use crate::store::history::History;
use crate::store::log_file::LogFile;
pub use crate::store::projection::Detail;
use crate::store::record::{About, Body, Change, Decision, Record, UserMessage};
use crate::store::state::State;
use crate::store::tail::Tail;
use crate::store::turns::{self, Turn};
use crate::store::writer::Writer;
use crate::store::{StoreError, blobs};

/// A record as readers get it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its number.
    pub seq: Seq,
    /// The word in `kind`.
    pub kind: &'static str,
    /// Its message; none where it is true of the whole session.
    pub message_id: Option<MessageId>,
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
    /// SHA-256 over content, space, user and history; what idempotency compares.
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
pub struct Session {
    id: SessionId,
    owner: OwnerId,
    created_at: Timestamp,
    pub(crate) core: Arc<Core>,
    /// One append at a time, in order. Moved into a blocking task where a sync is needed, so that a caller that goes away
    /// leaves no half-told change behind.
    pub(crate) writer: Arc<tokio::sync::Mutex<Writer>>,
    /// What readers see. Held for moments, never across a disk call or an await.
    state: Mutex<State>,
    /// Rung after every change of `state`, for readers.
    pub(crate) bell: Bell,
}

impl Session {
    pub(crate) fn new(core: Arc<Core>, writer: Writer, state: State) -> Arc<Self> {
        let header = &writer.header;
        Arc::new(Self {
            id: header.id,
            owner: header.owner,
            created_at: header.created,
            core,
            writer: Arc::new(tokio::sync::Mutex::new(writer)),
            state: Mutex::new(state),
            bell: Bell::default(),
        })
    }
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Its id.
    pub fn id(&self) -> SessionId {
        self.id
    }
    /// Whose it is.
    pub fn owner(&self) -> OwnerId {
        self.owner
    }
    /// When it was made.
    pub fn created_at(&self) -> Timestamp {
        self.created_at
    }
    /// The newest seq that readers can see; 0 where there is none.
    pub fn last_seq(&self) -> Seq {
        self.state().visible
    }
    /// It was deleted; every other call answers `NotFound`.
    pub fn is_deleted(&self) -> bool {
        self.state().deleted
    }

    /// What is true of the whole session; `title` is `None` where nobody gave one.
    pub fn about(&self) -> About {
        self.state().overview.about.clone()
    }
    /// A message cannot name this space: the session has messages and is held in another one, from which it moves only by
    /// [`Self::set_about`]. One that is held in none takes the first that is named.
    pub fn is_elsewhere(&self, named: Option<SpaceId>) -> bool {
        let own = self.about().space_id.filter(|_| !self.is_blank());
        named.zip(own).is_some_and(|(named, own)| named != own)
    }
    /// The title that someone gave, else one made of the first message; `None` before that.
    pub fn title(&self) -> Option<String> {
        self.state().overview.title().map(str::to_owned)
    }
    /// Changes what is true of the whole session: on disk when this returns. Before the first message it is written with that one.
    ///
    /// # Errors
    /// `DiskFull`, `NotFound` after a deletion, `Io`.
    pub async fn set_about(self: &Arc<Self>, change: Change) -> Result<About, StoreError> {
        let mut writer = self.writer.clone().lock_owned().await;
        let session = self.clone();
        blocking(move || session.write_about(&mut writer, change)).await
    }

    /// Accepts a user message: on disk when this returns. The same id with the same content, space, user and history is the same
    /// message.
    ///
    /// # Errors
    /// `Conflict` where the id belongs to another message, `Elsewhere` where it names another space than the session's, `DiskFull`,
    /// `NotFound` after a deletion, `Io`.
    pub async fn accept(self: &Arc<Self>, id: MessageId, message: UserMessage) -> Result<Accepted, StoreError> {
        self.accept_behind(History::default(), id, message).await
    }

    /// The same; where the message is the session's first one, this history becomes its first turns. On disk are then both or none.
    ///
    /// # Errors
    /// Those of [`Self::accept`].
    pub async fn accept_behind(self: &Arc<Self>, history: History, id: MessageId, message: UserMessage) -> Result<Accepted, StoreError> {
        let mut writer = self.writer.clone().lock_owned().await;
        let session = self.clone();
        blocking(move || session.write_message(&mut writer, history, id, message)).await
    }

    /// Appends records of an accepted message in one write; visible (and durable, where a kind asks for it) when this returns.
    /// Answers the seq of the last one. A terminal record comes last, and after it nothing more.
    ///
    /// # Errors
    /// `Ended` after the message's terminal record, `NotFound` where the message is unknown or the session deleted, `DiskFull`
    /// (records that end, cancel or approve still go through), `Io`. After an error nothing of it is there.
    pub async fn append(self: &Arc<Self>, message: MessageId, bodies: Vec<Body>) -> Result<Seq, StoreError> {
        let mut writer = self.writer.clone().lock_owned().await;
        if writer.is_quick(&bodies) {
            // One small write into the page cache: cheaper than a trip to another thread.
            return self.write(&mut writer, message, bodies);
        }
        let session = self.clone();
        blocking(move || session.write(&mut writer, message, bodies)).await
    }

    /// What is remembered of a message (the last 1,024).
    pub fn find(&self, message: MessageId) -> Option<MessageState> {
        self.state().find(message)
    }
    /// Messages without a terminal record, oldest first.
    pub fn open_messages(&self) -> Vec<MessageId> {
        self.state().open_messages().to_vec()
    }
    /// Unended messages that wait for a decision or have one that was not acted on.
    pub fn waiting(&self) -> Vec<Waiting> {
        self.state().waiting().to_vec()
    }
    /// A reader of everything behind `after`.
    pub fn tail(self: &Arc<Self>, after: Seq) -> Tail {
        Tail::new(self.clone(), after)
    }

    /// Ended turns, oldest first: whole turns, as many of the newest as fit into `max_bytes` of text.
    pub async fn recent_turns(self: &Arc<Self>, max_bytes: usize) -> Result<Vec<Turn>, StoreError> {
        let session = self.clone();
        blocking(move || turns::recent(&session, max_bytes)).await
    }
    /// The state of the message's last checkpoint that has one.
    pub async fn last_checkpoint(self: &Arc<Self>, message: MessageId) -> Result<Option<Value>, StoreError> {
        let session = self.clone();
        blocking(move || turns::last_checkpoint(&session, message)).await
    }
    /// The records of a message without pieces and checkpoints, oldest first; the message itself and the newest of the others where
    /// they take more than 16 MiB.
    pub async fn records_of(self: &Arc<Self>, message: MessageId) -> Result<Vec<Record>, StoreError> {
        let session = self.clone();
        blocking(move || turns::records_of(&session, message)).await
    }
    /// How a question of the message was decided; none where its run never got an answer.
    pub async fn decision(self: &Arc<Self>, message: MessageId, approval: ApprovalId) -> Result<Option<Decision>, StoreError> {
        let session = self.clone();
        blocking(move || turns::decision(&session, message, approval)).await
    }
    /// Keeps bytes in `<id>.d/`, durable when this returns; answers their SHA-256 in hexadecimal.
    pub async fn put_blob(self: &Arc<Self>, bytes: Vec<u8>) -> Result<String, StoreError> {
        // With the writer in hand the session cannot be deleted meanwhile, which would leave the bytes behind.
        let writer = self.writer.clone().lock_owned().await;
        let session = self.clone();
        blocking(move || {
            let _writer = writer;
            blobs::put(&session, &bytes)
        })
        .await
    }
    /// Kept bytes.
    pub async fn read_blob(self: &Arc<Self>, sha256: &str) -> Result<Vec<u8>, StoreError> {
        let (session, sha256) = (self.clone(), sha256.to_owned());
        blocking(move || blobs::read(&session, &sha256)).await
    }
    /// The documented JSON (API A5), streamed from the log.
    pub fn detail(self: &Arc<Self>) -> Detail {
        Detail::new(self.clone())
    }

    /// Nothing more is written, readers are told. The caller removes the files.
    pub(crate) fn mark_deleted(&self, w: &mut Writer) {
        w.deleted = true;
        w.log = None;
        w.run = None;
        let mut state = self.state();
        state.deleted = true;
        state.log = None;
        drop(state);
        self.bell.ring();
    }
    /// Where the log ends that a writer is about to show.
    pub(crate) fn log_end(w: &Writer) -> u64 {
        w.log.as_ref().map_or(0, LogFile::len)
    }
}

/// Runs what blocks on a thread for it. It runs to its end, also when the caller goes away.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, StoreError> + Send + 'static) -> Result<T, StoreError> {
    match blocking::spawn(work).await {
        Ok(result) => result,
        Err(e) => Err(StoreError::Damaged(format!("a task of the store did not finish: {e}"))),
    }
}
