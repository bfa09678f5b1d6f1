//! What clients know of the server's promises, and whether the server kept them.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde_json::Value;

use crate::client;
use crate::model::{conversation, marks};
use crate::world::World;

/// Terminal records.
const ENDS: [&str; 4] = ["done", "failed", "cancelled", "interrupted"];
/// How often a record is asked for while the server is coming up.
const TRIES: usize = 5;

/// All conversations.
#[derive(Default)]
pub struct Ledger {
    sessions: Mutex<BTreeMap<String, Known>>,
    counts: Mutex<BTreeMap<&'static str, u64>>,
    wrong: Mutex<Vec<String>>,
}

/// One conversation.
#[derive(Default, Clone)]
struct Known {
    client: u64,
    /// In the order in which they were sent.
    sent: Vec<Sent>,
    /// What stood for a number that somebody saw: kind and message.
    seqs: BTreeMap<u64, String>,
    /// Its deletion was asked for; and confirmed.
    deleted: (bool, bool),
}

/// One message.
#[derive(Default, Clone)]
struct Sent {
    mark: String,
    /// Its id, once the server has acknowledged it.
    id: Option<String>,
    /// The beginning of the answer, as it was seen.
    seen: String,
    /// The whole answer, where its end was seen.
    ended: Option<String>,
}

impl Ledger {
    /// Counts something for the table.
    pub fn count(&self, what: &'static str) {
        *self.counts.lock().unwrap().entry(what).or_default() += 1;
    }
    /// The table.
    pub fn counts(&self) -> Vec<(String, u64)> {
        let mut counts: Vec<_> = self.counts.lock().unwrap().iter().map(|(what, n)| ((*what).to_owned(), *n)).collect();
        counts.push(("sessions".to_owned(), self.sessions.lock().unwrap().len() as u64));
        counts
    }
    /// A message is about to be sent.
    pub fn sends(&self, client: u64, session: &str, mark: &str) {
        let mut sessions = self.sessions.lock().unwrap();
        let known = sessions.entry(session.to_owned()).or_default();
        known.client = client;
        known.sent.push(Sent { mark: mark.to_owned(), ..Sent::default() });
        drop(sessions);
        self.count("messages sent");
    }
    /// The server says that the message is this one.
    pub fn acknowledged(&self, session: &str, mark: &str, id: &str) {
        self.with(session, mark, |sent| match &sent.id {
            Some(known) if known != id => Some(format!("{mark} is {known} and then {id}")),
            Some(_) => None,
            None => {
                sent.id = Some(id.to_owned());
                None
            }
        });
        self.count("acknowledgements");
    }
    /// A piece of the answer was seen.
    pub fn saw(&self, session: &str, mark: &str, piece: &str) {
        self.with(session, mark, |sent| {
            sent.seen.push_str(piece);
            None
        });
    }
    /// The end was seen, with this text.
    pub fn saw_end(&self, session: &str, mark: &str, text: &str) {
        self.with(session, mark, |sent| match &sent.ended {
            Some(before) if before != text => Some(format!("{mark} ended with {before:?} and then with {text:?}")),
            _ => {
                sent.ended = Some(text.to_owned());
                None
            }
        });
        self.count("ends seen");
    }
    /// A record or frame with this number was seen.
    pub fn saw_seq(&self, session: &str, seq: u64, kind: &str, message: &str) {
        let name = format!("{kind} of {message}");
        let mut sessions = self.sessions.lock().unwrap();
        let Some(known) = sessions.get_mut(session) else { return };
        if let Some(before) = known.seqs.insert(seq, name.clone())
            && before != name
        {
            self.wrong.lock().unwrap().push(format!("{session}: seq {seq} was {before} and then {name}"));
        }
    }
    /// Its deletion is asked for, or confirmed.
    pub fn deletes(&self, session: &str, confirmed: bool) {
        if let Some(known) = self.sessions.lock().unwrap().get_mut(session) {
            known.deleted.0 = true;
            known.deleted.1 |= confirmed;
        }
    }

    fn with(&self, session: &str, mark: &str, change: impl FnOnce(&mut Sent) -> Option<String>) {
        let mut sessions = self.sessions.lock().unwrap();
        let sent = sessions.get_mut(session).and_then(|known| known.sent.iter_mut().rev().find(|sent| sent.mark == mark));
        if let Some(wrong) = sent.and_then(change) {
            self.wrong.lock().unwrap().push(wrong);
        }
    }

    /// Compares all of it with what the server has.
    pub async fn check(&self, world: &World) -> Vec<String> {
        let sessions = self.sessions.lock().unwrap().clone();
        let mut wrong = std::mem::take(&mut *self.wrong.lock().unwrap());
        for (session, known) in &sessions {
            let mut found = None;
            for _ in 0..TRIES {
                found = client::events(&world.address().await, &world.key(known.client), session, 0).await;
                if found.is_some() {
                    break;
                }
            }
            match found {
                None => wrong.push(format!("{session} cannot be read")),
                Some((200, _)) if known.deleted.1 => wrong.push(format!("{session} was deleted and is there")),
                Some((200, records)) => known.compare(session, &records, &mut wrong),
                Some((404, _)) if known.deleted.0 || known.sent.iter().all(|sent| sent.id.is_none()) => {}
                Some((status, _)) => wrong.push(format!("{session} answers {status}")),
            }
        }
        wrong
    }
}

impl Known {
    fn compare(&self, session: &str, records: &[Value], wrong: &mut Vec<String>) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let own = self.sent.first().map(|sent| conversation(&sent.mark).to_owned()).unwrap_or_default();
        let mut last = 0;
        for record in records {
            let seq = record["seq"].as_u64().unwrap_or_default();
            if seq <= last {
                wrong.push(format!("{session}: seq {seq} comes after {last}"));
            }
            last = seq;
            let name = format!("{} of {}", text(&record["kind"]), text(&record["message_id"]));
            match self.seqs.get(&seq) {
                Some(seen) if *seen != name => wrong.push(format!("{session}: seq {seq} was {seen} and is {name}")),
                _ => {}
            }
            if let Some(foreign) = marks(&record.to_string()).find(|mark| conversation(mark) != own) {
                wrong.push(format!("{session}: {foreign} belongs to another conversation"));
            }
        }
        let messages: Vec<&Value> = records.iter().filter(|r| r["kind"] == "message").collect();
        let mut at = 0;
        for sent in &self.sent {
            let places: Vec<usize> = (0..messages.len())
                .filter(|n| messages[*n]["content"].as_str().is_some_and(|c| marks(c).any(|m| m == sent.mark)))
                .collect();
            if places.len() > 1 {
                wrong.push(format!("{session}: {} is there {} times", sent.mark, places.len()));
            }
            let Some(place) = places.first() else {
                if sent.id.is_some() {
                    wrong.push(format!("{session}: {} was acknowledged and is lost", sent.mark));
                }
                continue;
            };
            // Who does not wait for the acknowledgement does not know which of two connections is read first.
            if sent.id.is_some() {
                if *place < at {
                    wrong.push(format!("{session}: {} is out of order", sent.mark));
                }
                at = *place;
            }
            let id = text(&messages[*place]["message_id"]);
            if sent.id.as_ref().is_some_and(|known| *known != id) {
                wrong.push(format!("{session}: {} has another id", sent.mark));
            }
            let ends: Vec<&Value> =
                records.iter().filter(|r| r["message_id"] == id.as_str() && ENDS.iter().any(|end| r["kind"] == *end)).collect();
            let asked = |kind: &str| records.iter().filter(|r| r["message_id"] == id.as_str() && r["kind"] == kind).count();
            let parked = asked("approval_requested") > asked("approval_resolved");
            match ends[..] {
                [end] => {
                    let kept = text(&end["text"]);
                    if !kept.starts_with(&sent.seen) {
                        wrong.push(format!("{session}: {} said {:?} and kept {kept:?}", sent.mark, sent.seen));
                    }
                    if sent.ended.as_ref().is_some_and(|seen| *seen != kept) {
                        wrong.push(format!("{session}: {} ended with {:?} and kept {kept:?}", sent.mark, sent.ended));
                    }
                }
                [] if parked && sent.ended.is_none() => {}
                _ => wrong.push(format!("{session}: {} has {} ends", sent.mark, ends.len())),
            }
        }
    }
}
