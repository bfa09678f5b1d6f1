//! The conversation so far, for the model, and the records of one run: read from the log, as far as it fits.

use std::collections::{HashMap, VecDeque};

use serde_json::Value;

use crate::base::ids::{ApprovalId, MessageId, Seq};
use crate::base::limits::RUN_RECORDS_BYTES_MAX;
use crate::store::StoreError;
use crate::store::lines::{Backward, Forward, Glance, seek};
use crate::store::record::{Body, Decision, Ending, Record, UserMessage};
use crate::store::session::Session;

/// One ended exchange.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// Its message.
    pub message_id: MessageId,
    /// The seq of the `message` record.
    pub seq: Seq,
    /// What was said.
    pub message: UserMessage,
    /// What came of it.
    pub ending: Ending,
    /// `done`, `failed`, `cancelled` or `interrupted`.
    pub kind: &'static str,
}

/// Bytes of a turn beside its text: so that a conversation of empty turns is bounded, too.
const TURN_BYTES: usize = 64;

/// The newest ended turns that fit, oldest first. Reads backwards from the end. Blocking.
pub(crate) fn recent(session: &Session, max_bytes: usize) -> Result<Vec<Turn>, StoreError> {
    let doing = || StoreError::of("reading session", session.id());
    let (log, start, end) = range(session)?;
    let Some(log) = log else { return Ok(Vec::new()) };
    let mut lines = Backward::new(log.as_ref(), start, end);
    let mut endings: HashMap<MessageId, (Ending, &'static str)> = HashMap::new();
    let mut turns = Vec::new();
    let mut bytes = 0;
    while let Some(back) = lines.next().map_err(doing())? {
        let Some(json) = back.json else { continue };
        let wanted = Glance::of(&json).is_some_and(|glance| glance.kind == "message" || glance.is_terminal());
        if !wanted {
            continue;
        }
        let Ok(record) = serde_json::from_slice::<Record>(&json) else { continue };
        let kind = record.body.kind();
        match record.body {
            Body::Message(message) => {
                let Some(message_id) = record.message_id else { continue };
                let Some((ending, kind)) = endings.remove(&message_id) else { continue };
                bytes += message.content.len() + ending.text.len() + TURN_BYTES;
                if bytes > max_bytes {
                    break;
                }
                turns.push(Turn { message_id, seq: record.seq, message, ending, kind });
            }
            Body::Done(ending) | Body::Failed(ending) | Body::Cancelled(ending) | Body::Interrupted(ending) => {
                if let Some(message_id) = record.message_id {
                    endings.insert(message_id, (ending, kind));
                }
            }
            _ => {}
        }
    }
    turns.reverse();
    Ok(turns)
}

/// The newest state that the message's run left. Blocking.
pub(crate) fn last_checkpoint(session: &Session, message: MessageId) -> Result<Option<Value>, StoreError> {
    let doing = || StoreError::of("reading session", session.id());
    let (log, start, end) = range(session)?;
    let Some(log) = log else { return Ok(None) };
    let since = session.find(message).ok_or(StoreError::NotFound)?.seq;
    let mut lines = Backward::new(log.as_ref(), start, end);
    while let Some(back) = lines.next().map_err(doing())? {
        let Some(json) = back.json else { continue };
        let Some(glance) = Glance::of(&json) else { continue };
        if glance.seq <= since {
            break;
        }
        if glance.message_id != Some(message) || glance.kind != "checkpoint" || glance.state.is_none() {
            continue;
        }
        if let Ok(Record { body: Body::Checkpoint { state: Some(state), .. }, .. }) = serde_json::from_slice(&json) {
            return Ok(Some(state));
        }
    }
    Ok(None)
}

/// The message's records in the log, oldest first, without its checkpoints: what a run goes on from is [`last_checkpoint`], and the
/// states before it are many times what was said. Where the rest takes too much its oldest go, but never the message itself. Blocking.
pub(crate) fn records_of(session: &Session, message: MessageId) -> Result<Vec<Record>, StoreError> {
    let doing = || StoreError::of("reading session", session.id());
    let (log, start, end) = range(session)?;
    let known = session.find(message).ok_or(StoreError::NotFound)?;
    let Some(log) = log else { return Ok(Vec::new()) };
    let from = seek(log.as_ref(), start, end, known.seq.saturating_sub(1)).map_err(doing())?;
    let mut lines = Forward::new(log.as_ref(), from, end);
    let mut first = None;
    let mut newest: VecDeque<(usize, Record)> = VecDeque::new();
    let mut bytes = 0;
    while let Some(found) = lines.next().map_err(doing())? {
        let Some(json) = found.json else { continue };
        if Glance::of(json).is_none_or(|glance| glance.message_id != Some(message) || glance.kind == "checkpoint") {
            continue;
        }
        let Ok(record) = serde_json::from_slice::<Record>(json) else { continue };
        let over = record.body.ending().is_some();
        if first.is_none() {
            first = Some(record);
        } else {
            bytes += json.len();
            newest.push_back((json.len(), record));
        }
        while bytes > RUN_RECORDS_BYTES_MAX {
            let Some((len, _)) = newest.pop_front() else { break };
            bytes -= len;
        }
        if over {
            break;
        }
    }
    Ok(first.into_iter().chain(newest.into_iter().map(|(_, record)| record)).collect())
}

/// How the question of this message was decided, by the log; the first decision counts. Blocking.
pub(crate) fn decision(session: &Session, message: MessageId, approval: ApprovalId) -> Result<Option<Decision>, StoreError> {
    let doing = || StoreError::of("reading session", session.id());
    let (log, start, end) = range(session)?;
    let Some(log) = log else { return Ok(None) };
    // A message so old that it is not remembered is looked for from the beginning.
    let since = session.find(message).map_or(0, |known| known.seq);
    let from = seek(log.as_ref(), start, end, since).map_err(doing())?;
    let mut lines = Forward::new(log.as_ref(), from, end);
    while let Some(found) = lines.next().map_err(doing())? {
        let Some(glance) = found.json.and_then(Glance::of) else { continue };
        if glance.message_id != Some(message) {
            continue;
        }
        if glance.kind == "approval_resolved" && glance.approval_id == Some(approval) {
            return Ok(glance.decision);
        }
        if glance.is_terminal() {
            break;
        }
    }
    Ok(None)
}

type Range = (Option<std::sync::Arc<dyn crate::sys::disk::DiskFile>>, u64, u64);

/// The visible log.
fn range(session: &Session) -> Result<Range, StoreError> {
    let state = session.state();
    if state.deleted {
        return Err(StoreError::NotFound);
    }
    Ok((state.log.clone(), state.log_start, state.log_len))
}
