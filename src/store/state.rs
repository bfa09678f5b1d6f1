//! What readers can see of a session: how far it goes, its newest records, its messages. All in memory, behind one short lock.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::base::ids::{MessageId, SeedId, Seq};
use crate::base::limits::{MESSAGE_IDS_KEPT, SESSION_RING_BYTES_MAX};
use crate::base::time::Timestamp;
use crate::store::record::{About, Body, UserMessage};
use crate::store::session::{Entry, MessageState, Waiting};
use crate::sys::disk::DiskFile;
use crate::wire::title;

/// What the listing and the projection say of a session besides its messages.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overview {
    /// The label of the first message.
    pub(crate) user_id: Option<String>,
    /// Made from the first message.
    pub(crate) opening: Option<String>,
    /// What the newest `about` record says, moved on by messages that named a space.
    pub(crate) about: About,
    /// The seq of that record; 0 where there is none.
    pub(crate) about_seq: Seq,
    /// The specification last worked on.
    pub(crate) active_seed_id: Option<SeedId>,
    /// Time of the last message or terminal record.
    pub(crate) updated_at: Timestamp,
}

impl Overview {
    /// The title that someone gave, else the one of the first message.
    pub(crate) fn title(&self) -> Option<&str> {
        self.about.title.as_deref().or(self.opening.as_deref())
    }
}

/// The visible side of a session. The writer changes it when the rules of durability hold, readers only look.
pub(crate) struct State {
    /// The newest visible seq; 0 where there is none.
    pub(crate) visible: Seq,
    /// The log as readers read it; `None` until the first message of a new session.
    pub(crate) log: Option<Arc<dyn DiskFile>>,
    /// Where the first record begins.
    pub(crate) log_start: u64,
    /// Up to here the log is visible.
    pub(crate) log_len: u64,
    /// Grows when the file of pieces goes, so that no reader takes an offset into the next one.
    pub(crate) run_generation: u64,
    pub(crate) overview: Overview,
    pub(crate) deleted: bool,
    /// The newest records, in order; all visible ones above `ring_floor`.
    ring: VecDeque<Arc<Entry>>,
    ring_bytes: usize,
    ring_floor: Seq,
    messages: HashMap<MessageId, MessageState>,
    /// The keys of `messages`, oldest first.
    order: VecDeque<MessageId>,
    /// Those without a terminal record, oldest first.
    open: Vec<MessageId>,
    waiting: Vec<Waiting>,
}

impl State {
    /// A session that ends at `visible`.
    pub(crate) fn new(visible: Seq, log: Option<Arc<dyn DiskFile>>, log_start: u64, log_len: u64, overview: Overview) -> Self {
        Self {
            visible,
            log,
            log_start,
            log_len,
            run_generation: 0,
            overview,
            deleted: false,
            ring: VecDeque::new(),
            ring_bytes: 0,
            ring_floor: visible,
            messages: HashMap::new(),
            order: VecDeque::new(),
            open: Vec::new(),
            waiting: Vec::new(),
        }
    }

    pub(crate) fn find(&self, id: MessageId) -> Option<MessageState> {
        self.messages.get(&id).copied()
    }
    pub(crate) fn open_messages(&self) -> &[MessageId] {
        &self.open
    }
    /// The seq of the newest terminal record among the remembered messages.
    pub(crate) fn last_end(&self) -> Seq {
        self.messages.values().filter_map(|message| message.terminal).max().unwrap_or(0)
    }
    pub(crate) fn waiting(&self) -> &[Waiting] {
        &self.waiting
    }

    /// Remembers a message, newest last.
    pub(crate) fn remember(&mut self, id: MessageId, message: MessageState) {
        if self.messages.insert(id, message).is_none() {
            self.order.push_back(id);
        }
        if message.terminal.is_none() {
            self.open.push(id);
        }
        while self.order.len() > MESSAGE_IDS_KEPT {
            // The oldest is over: a lane holds fewer open messages than are remembered.
            let Some(oldest) = self.order.pop_front() else { break };
            self.messages.remove(&oldest);
        }
    }
    /// Remembers that a message waits for a person.
    pub(crate) fn wait_for(&mut self, waiting: Waiting) {
        self.waiting.push(waiting);
    }

    /// Makes records visible, in the order of their seqs; `log_len` is where the log now ends.
    pub(crate) fn publish(&mut self, entries: Vec<Arc<Entry>>, log_len: u64) {
        for entry in entries {
            debug_assert!(entry.seq > self.visible, "seqs only grow");
            self.visible = entry.seq;
            self.take_note(&entry);
            self.ring_bytes += weight(&entry);
            self.ring.push_back(entry);
        }
        while self.ring_bytes > SESSION_RING_BYTES_MAX {
            let Some(oldest) = self.ring.pop_front() else { break };
            self.ring_bytes -= weight(&oldest);
            self.ring_floor = oldest.seq;
        }
        self.log_len = log_len;
    }

    /// The visible records above `after`, if all of them are still in memory; at most `max`.
    pub(crate) fn recent(&self, after: Seq, max: usize) -> Option<Vec<Arc<Entry>>> {
        if after < self.ring_floor {
            return None;
        }
        let from = self.ring.partition_point(|entry| entry.seq <= after);
        Some(self.ring.range(from..).take(max).cloned().collect())
    }

    fn take_note(&mut self, entry: &Entry) {
        if let Body::About(about) = &entry.record.body {
            self.overview.about = about.clone();
            self.overview.about_seq = entry.seq;
        }
        let Some(id) = entry.message_id else { return };
        match &entry.record.body {
            Body::Message(message) => {
                let overview = &mut self.overview;
                overview.user_id.get_or_insert_with(|| message.user_id.clone());
                if overview.opening.is_none() {
                    overview.opening = title::of(&message.content);
                }
                overview.about.space_id = message.space_id.or(overview.about.space_id);
                overview.updated_at = entry.record.time;
                self.remember(id, MessageState { seq: entry.seq, digest: digest(message), terminal: None });
            }
            Body::ApprovalRequested { approval_id, .. } => {
                self.waiting.retain(|w| w.message_id != id);
                self.waiting.push(Waiting { message_id: id, approval_id: *approval_id, decision: None });
            }
            Body::ApprovalResolved { approval_id, decision } => {
                for waiting in self.waiting.iter_mut().filter(|w| w.approval_id == *approval_id) {
                    waiting.decision = Some(*decision);
                }
            }
            Body::Reserve { .. } | Body::About(_) => {}
            body => {
                // Whatever follows a decision shows that the run goes on.
                self.waiting.retain(|w| w.message_id != id || w.decision.is_none());
                if let Body::Phase { seed_id: Some(seed), .. } | Body::Checkpoint { seed_id: Some(seed), .. } = body {
                    self.overview.active_seed_id = Some(*seed);
                }
                if let Some(ending) = body.ending() {
                    self.overview.active_seed_id = ending.seed_id.or(self.overview.active_seed_id);
                    self.overview.updated_at = entry.record.time;
                    self.open.retain(|open| *open != id);
                    self.waiting.retain(|w| w.message_id != id);
                    if let Some(message) = self.messages.get_mut(&id) {
                        message.terminal = Some(entry.seq);
                    }
                }
            }
        }
    }
}

/// What makes two messages with one id the same: content, space, user, and the conversation that came with it (DESIGN §2).
pub(crate) fn digest(message: &UserMessage) -> [u8; 32] {
    let space = message.space_id.map(|id| id.to_string()).unwrap_or_default();
    let mut bytes = Vec::with_capacity(message.content.len() + message.user_id.len() + 64);
    for part in [message.content.as_str(), &space, &message.user_id, message.history.as_deref().unwrap_or_default()] {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    crate::base::digest::sha256(&bytes)
}

/// What an entry takes in memory, about: its JSON, the record, the private state.
fn weight(entry: &Entry) -> usize {
    let private = match &entry.record.body {
        // Only where a run parks, so measuring it costs nothing that counts.
        Body::Checkpoint { state: Some(state), .. } => 2 * state.to_string().len(),
        _ => 0,
    };
    256 + 2 * entry.json.len() + private
}
