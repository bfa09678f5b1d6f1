//! What was said elsewhere, before a session or its log began: turns that are over become records like any other turn's.

use crate::base::digest::{Sha256, hex};
use crate::base::ids::{AgentId, MessageId, Seq, SessionId, SpaceId};
use crate::base::time::Timestamp;
use crate::store::core::Core;
use crate::store::record::{Body, Ending, Record, UserMessage};

/// A conversation that a client held elsewhere and goes on with here. Its texts are within their limits (the channel checked them).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// What the client tells the agent for the whole conversation.
    pub instructions: Option<String>,
    /// What was said and what was answered, oldest first. An answer that opens the conversation has an empty question.
    pub turns: Vec<(String, String)>,
}

impl History {
    /// Nothing was said before.
    pub fn is_empty(&self) -> bool {
        self.instructions.is_none() && self.turns.is_empty()
    }

    /// SHA-256 in hexadecimal, by which a retry is compared; `None` where it is empty.
    pub(crate) fn digest(&self) -> Option<String> {
        if self.is_empty() {
            return None;
        }
        let mut hash = Sha256::new();
        let instructions = self.instructions.as_deref().unwrap_or_default();
        // Each text goes in with its length, so that no two conversations are the same bytes.
        for text in std::iter::once(instructions).chain(self.turns.iter().flat_map(|(said, answer)| [said.as_str(), answer.as_str()])) {
            hash.update(&(text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        }
        Some(hex(&hash.finish()))
    }

    /// Its turns as records from `first` on, before the message that came with it.
    pub(crate) fn records(self, core: &Core, session: SessionId, first: Seq, time: Timestamp, message: &UserMessage) -> Vec<Record> {
        let mut past = Past::new(core, session, first, &message.channel, &message.user_id, message.space_id);
        for (said, text) in self.turns {
            let id = past.message(time, said);
            past.end(time, id, Body::Done(Ending { text, ..Ending::default() }));
        }
        past.records
    }
}

/// Makes the records of ended turns: seqs in a row, ids derived from the session and the position in it.
pub(crate) struct Past<'a> {
    core: &'a Core,
    session: SessionId,
    /// The seq of the next record.
    pub(crate) next: Seq,
    position: u64,
    channel: &'a str,
    user_id: &'a str,
    space_id: Option<SpaceId>,
    /// So far, where nobody took them.
    pub(crate) records: Vec<Record>,
}

impl<'a> Past<'a> {
    /// None yet; the first one gets this seq.
    pub(crate) fn new(
        core: &'a Core,
        session: SessionId,
        first: Seq,
        channel: &'a str,
        user_id: &'a str,
        space_id: Option<SpaceId>,
    ) -> Self {
        Self { core, session, next: first, position: 0, channel, user_id, space_id, records: Vec::new() }
    }

    /// Something that was said.
    pub(crate) fn message(&mut self, time: Timestamp, content: String) -> MessageId {
        let message_id = MessageId::derived(&self.derived("imported message"));
        let agent_id = AgentId::derived(&self.derived("imported agent"));
        self.position += 1;
        let (user_id, channel) = (self.user_id.to_owned(), self.channel.to_owned());
        let (space_id, attachments) = (self.space_id, Vec::new());
        let (budget_id, key_id, idempotent, history) = (None, None, false, None);
        let said = UserMessage { content, user_id, channel, agent_id, space_id, budget_id, key_id, idempotent, history, attachments };
        self.push(time, message_id, Body::Message(said));
        message_id
    }

    /// What became of it: a terminal record.
    pub(crate) fn end(&mut self, time: Timestamp, message_id: MessageId, body: Body) {
        self.push(time, message_id, body);
    }

    fn push(&mut self, time: Timestamp, message_id: MessageId, body: Body) {
        self.records.push(Record { seq: self.next, time, message_id: Some(message_id), body });
        self.next += 1;
    }

    fn derived(&self, purpose: &str) -> [u8; 32] {
        self.core.home.keyed().mac(purpose, &[self.session.as_bytes(), &self.position.to_be_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreError;
    use crate::store::testing::{Bench, kinds, read_on, say};

    fn history(instructions: Option<&str>, turns: &[(&str, &str)]) -> History {
        History {
            instructions: instructions.map(str::to_owned),
            turns: turns.iter().map(|(said, answer)| ((*said).to_owned(), (*answer).to_owned())).collect(),
        }
    }

    #[tokio::test]
    async fn stopped_at_any_call_the_history_is_there_with_its_message_or_not_at_all_and_a_retry_finds_or_makes_both() {
        let past = history(Some("Be brief."), &[("", "How can I help?"), ("q1", "a1")]);
        let all = ["1 about", "2 message", "3 done", "4 message", "5 done", "6 message"];
        for torn in [0, 40, 700] {
            for k in 0.. {
                let bench = Bench::new();
                let (sid, id) = (bench.session_id(), bench.message_id());
                let said = || UserMessage { history: past.digest(), ..say("q2") };
                let sessions = bench.sessions();
                let session = sessions.load_or_create(sid, bench.owner()).await.unwrap();
                bench.disk.tear(torn);
                bench.disk.stop_after(Some(k));
                let done = session.accept_behind(past.clone(), id, said()).await.is_ok();
                bench.disk.stop_after(None);
                drop((session, sessions));
                let sessions = bench.sessions();
                let session = match sessions.load(sid, bench.owner()).await {
                    Ok(session) => session,
                    Err(StoreError::NotFound) if !done => sessions.load_or_create(sid, bench.owner()).await.unwrap(),
                    Err(e) => panic!("stopped after {k}: {e}"),
                };
                let again = session.accept_behind(past.clone(), id, said()).await.unwrap();
                assert!(!(done && again.fresh), "stopped after {k}");
                let records = read_on(&mut session.tail(0)).await;
                assert_eq!(kinds(&records)[..6], all, "stopped after {k}");
                assert!(records[1].contains(r#""content":"""#) && records[4].contains(r#""text":"a1""#), "{records:?}");
                assert_eq!(session.about().instructions.as_deref(), Some("Be brief."));
                assert_eq!((session.title().as_deref(), session.open_messages().len()), (Some("q1"), usize::from(again.fresh)));
                let other = UserMessage { history: history(None, &[("q1", "a1")]).digest(), ..say("q2") };
                assert!(matches!(session.accept(id, other).await, Err(StoreError::Conflict)), "another conversation came with it");
                if done {
                    break;
                }
            }
        }
    }

    #[tokio::test]
    async fn a_session_that_exists_keeps_its_own_past() {
        let bench = Bench::new();
        let sessions = bench.sessions();
        let session = sessions.load_or_create(bench.session_id(), bench.owner()).await.unwrap();
        session.accept(bench.message_id(), say("first")).await.unwrap();
        session.accept_behind(history(Some("x"), &[("y", "z")]), bench.message_id(), say("second")).await.unwrap();
        assert_eq!(kinds(&read_on(&mut session.tail(0)).await), ["1 message", "2 message"]);
        assert_eq!(session.about().instructions, None);
    }

    #[test]
    fn two_conversations_never_compare_as_one() {
        assert_eq!(history(None, &[]).digest(), None);
        let all = [
            history(Some("ab"), &[]),
            history(None, &[("a", "b")]),
            history(None, &[("ab", "")]),
            history(None, &[("", "ab")]),
            history(Some("a"), &[("b", "")]),
            history(None, &[("a", "b"), ("", "")]),
        ];
        let digests: std::collections::HashSet<_> = all.iter().map(|history| history.digest().unwrap()).collect();
        assert_eq!(digests.len(), all.len());
        assert_eq!(all[0].digest(), all[0].clone().digest());
    }
}
