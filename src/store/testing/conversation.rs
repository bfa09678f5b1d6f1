//! What is known of one session from outside: what was said and acknowledged, what readers saw. A plain model to compare with.

use std::collections::BTreeMap;

use crate::base::ids::{ApprovalId, MessageId, Seq};
use crate::store::record::{Body, Decision, Record};

/// Where a process was stopped: so many calls on the disk had ended, and so many had begun.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stop {
    pub(crate) ended: usize,
    pub(crate) begun: usize,
    /// What was not durable may be gone.
    pub(crate) power_cut: bool,
}

/// What is known of a session. The first number of each is the call behind which it is so.
#[derive(Debug, Clone, Default)]
pub(crate) struct Conversation {
    /// Messages that were acknowledged, in order.
    said: Vec<(usize, MessageId, String)>,
    /// Records that a reader saw.
    seen: Vec<(usize, Seen)>,
    /// Large results that were kept, by their names.
    kept: Vec<(usize, String)>,
    /// Questions that were answered with yes.
    approved: Vec<(usize, ApprovalId)>,
    /// It was made as a whole: when that was asked for and answered, and its texts.
    pub(crate) whole: Option<(usize, usize, Vec<String>)>,
    /// When its deletion was asked for and answered.
    pub(crate) deleted: Option<(usize, usize)>,
}

/// A record as it was seen.
#[derive(Debug, Clone)]
struct Seen {
    seq: Seq,
    json: String,
    is_piece: bool,
    is_promised: bool,
    /// Of a token: its message and its text.
    token: Option<(MessageId, String)>,
    /// A power cut has taken it; its number still means nothing else.
    is_lost: bool,
}

/// A reader that saw it relies on it, whatever fails then: written down here once more, so that the store cannot forget it.
fn is_promised(body: &Body) -> bool {
    use Body::{About, ApprovalRequested, ApprovalResolved, Cancelled, Done, Failed, Interrupted, Message, ToolCall};
    match body {
        ToolCall { risky, .. } => *risky,
        Message(_) | About(_) | ApprovalRequested { .. } | ApprovalResolved { .. } => true,
        Done(_) | Failed(_) | Cancelled(_) | Interrupted(_) => true,
        _ => false,
    }
}

impl Conversation {
    /// A message was acknowledged.
    pub(crate) fn said(&mut self, call: usize, id: MessageId, content: &str) {
        self.said.push((call, id, content.to_owned()));
    }
    /// A reader saw these.
    pub(crate) fn saw(&mut self, call: usize, records: impl IntoIterator<Item = String>) {
        for json in records {
            let Record { seq, message_id, body, .. } = serde_json::from_str(&json).unwrap();
            let (is_piece, is_promised) = (matches!(body, Body::Token { .. } | Body::Draft { .. }), is_promised(&body));
            let token = match (message_id, body) {
                (Some(id), Body::Token { text }) => Some((id, text)),
                _ => None,
            };
            self.seen.push((call, Seen { seq, json, is_piece, is_promised, token, is_lost: false }));
        }
    }

    /// A large result is kept.
    pub(crate) fn keeps(&mut self, call: usize, blob: &str) {
        self.kept.push((call, blob.to_owned()));
    }
    /// A question was answered with yes.
    pub(crate) fn approved(&mut self, call: usize, id: ApprovalId) {
        self.approved.push((call, id));
    }
    /// The large results that must be there.
    pub(crate) fn kept(&self, at: Stop) -> impl Iterator<Item = &String> {
        self.kept.iter().filter(move |(call, _)| *call <= at.ended).map(|(_, blob)| blob)
    }

    /// A power cut has left these records of it.
    pub(crate) fn lost_all_but(&mut self, now: &[String]) {
        for (_, seen) in &mut self.seen {
            seen.is_lost |= !now.contains(&seen.json);
        }
    }
    /// So many answers were given, and so many things asked for: what may differ between two stops.
    pub(crate) fn facts(&self, at: Stop) -> usize {
        let (whole, deleted) = (self.whole.as_ref().map(|(from, to, _)| (*from, *to)), self.deleted);
        let spans = [whole, deleted].into_iter().flatten();
        self.said.iter().filter(|(call, ..)| *call <= at.ended).count()
            + self.seen(at).count()
            + self.kept(at).count()
            + self.approved.iter().filter(|(call, _)| *call <= at.ended).count()
            + spans.map(|(from, to)| usize::from(at.begun > from) + usize::from(at.ended >= to)).sum::<usize>()
    }
    /// Something of it had been acknowledged.
    pub(crate) fn is_begun(&self, at: Stop) -> bool {
        self.said.iter().any(|(call, ..)| *call <= at.ended) || self.whole.as_ref().is_some_and(|(_, to, _)| *to <= at.ended)
    }
    /// It may be gone; it must be gone.
    pub(crate) fn is_gone(&self, at: Stop) -> (bool, bool) {
        self.deleted.map_or((false, false), |(from, to)| (at.begun > from, at.ended >= to))
    }
    /// The largest seq that a reader saw.
    pub(crate) fn last_seen(&self, at: Stop) -> Seq {
        self.seen(at).map(|seen| seen.seq).max().unwrap_or(0)
    }
    fn seen(&self, at: Stop) -> impl Iterator<Item = &Seen> {
        self.seen.iter().filter(move |(call, _)| *call <= at.ended).map(|(_, seen)| seen)
    }

    /// Compares with what is read now; `open`: the messages that wait for a person, or still run.
    pub(crate) fn check(&self, at: Stop, now: &[String], open: &[MessageId]) -> Result<(), String> {
        let records: Vec<Record> = now.iter().map(|json| serde_json::from_str(json).unwrap()).collect();
        if !records.is_sorted_by(|a, b| a.seq < b.seq) {
            return Err(format!("out of order: {:?}", records.iter().map(|r| r.seq).collect::<Vec<_>>()));
        }
        self.check_said(at, &records)?;
        for (_, id) in self.approved.iter().filter(|(call, _)| *call <= at.ended) {
            let answers = records.iter().filter_map(|r| match &r.body {
                Body::ApprovalResolved { approval_id, decision } if approval_id == id => Some(decision),
                _ => None,
            });
            if answers.collect::<Vec<_>>() != [&Decision::Approved] {
                return Err(format!("question {id} was answered once, with yes, and is not"));
            }
        }
        let mut counts: BTreeMap<MessageId, (usize, usize)> = BTreeMap::new();
        for (id, record) in records.iter().filter_map(|r| Some((r.message_id?, r))) {
            let (messages, ends) = counts.entry(id).or_default();
            *messages += usize::from(matches!(record.body, Body::Message(_)));
            *ends += usize::from(record.body.ending().is_some());
        }
        for (id, (messages, ends)) in counts {
            if messages != 1 || ends + usize::from(open.contains(&id)) != 1 {
                return Err(format!("{id} is there {messages} times and ends {ends} times"));
            }
        }
        let places: BTreeMap<Seq, &String> = records.iter().map(|r| r.seq).zip(now).collect();
        for seen in self.seen(at) {
            match places.get(&seen.seq) {
                Some(json) if **json == seen.json => {}
                Some(other) => return Err(format!("seq {} was {} and is {other}", seen.seq, seen.json)),
                // A piece goes with the end of its message; what was not synced, with the power.
                None if seen.is_lost || seen.is_piece || (at.power_cut && !seen.is_promised) => {}
                None => return Err(format!("{} was seen and is gone", seen.json)),
            }
        }
        if at.power_cut { Ok(()) } else { self.check_cut_answers(at, &records) }
    }

    fn check_said(&self, at: Stop, records: &[Record]) -> Result<(), String> {
        let mut last = None;
        for (_, id, content) in self.said.iter().filter(|(call, ..)| *call <= at.ended) {
            let of_it = |r: &Record| matches!(&r.body, Body::Message(said) if r.message_id == Some(*id) && said.content == *content);
            let Some(found) = records.iter().position(of_it) else { return Err(format!("{content:?} was acknowledged and is lost")) };
            if last.is_some_and(|last| last >= found) {
                return Err(format!("{content:?} is out of order"));
            }
            last = Some(found);
        }
        Ok(())
    }

    /// The text of an answer that was cut has what readers saw of it, in order.
    fn check_cut_answers(&self, at: Stop, records: &[Record]) -> Result<(), String> {
        let mut pieces: BTreeMap<MessageId, BTreeMap<Seq, &str>> = BTreeMap::new();
        for seen in self.seen(at).filter(|seen| !seen.is_lost) {
            if let Some((id, text)) = &seen.token {
                pieces.entry(*id).or_default().insert(seen.seq, text);
            }
        }
        for record in records {
            let (Body::Interrupted(ending), Some(id)) = (&record.body, record.message_id) else { continue };
            let mut rest = ending.text.as_str();
            for piece in pieces.get(&id).into_iter().flat_map(|pieces| pieces.values()) {
                let Some(at) = rest.find(piece) else { return Err(format!("{piece:?} was seen, {:?} is kept", ending.text)) };
                rest = rest.get(at + piece.len()..).unwrap_or_default();
            }
        }
        Ok(())
    }
}
