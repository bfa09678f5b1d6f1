//! A session that has only a `.json` of the documented shape becomes a log: seqs from 1, ids derived from session and position.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::base::digest::{hex, sha256};
use crate::base::ids::{MessageId, OwnerId, SeedId, Seq, SessionId, SpaceId};
use crate::base::limits::{IMPORT_BYTES_MAX, IMPORT_LOG_BYTES_MIN, IMPORT_LOG_TIMES_MAX, LABEL_BYTES_MAX, LOG_LINE_BYTES_MAX};
use crate::base::log;
use crate::base::text;
use crate::base::time::Timestamp;
use crate::store::StoreError;
use crate::store::core::Core;
use crate::store::history::Past;
use crate::store::record::{About, Body, Ending, Phase, Record};
use crate::sys::disk::read_whole;
use crate::wire::log_line::{self, FORMAT, Header, Origin};
use crate::wire::title;

/// The old metadata go into the header of the log, which is read at every opening.
const METADATA_BYTES_MAX: usize = 256 * 1024;

/// A session file. What is missing or odd in a field is left out; what is no JSON of this shape is refused.
#[derive(Deserialize)]
pub(crate) struct Old {
    #[serde(default)]
    pub(crate) id: Value,
    #[serde(default)]
    pub(crate) user_id: Option<String>,
    #[serde(default)]
    pub(crate) user_messages: Vec<OldMessage>,
    #[serde(default)]
    pub(crate) agent_responses: Vec<OldAnswer>,
    #[serde(default)]
    pub(crate) space_id: Value,
    #[serde(default)]
    pub(crate) active_seed_id: Value,
    #[serde(default)]
    pub(crate) active_persona_id: Value,
    #[serde(default)]
    pub(crate) created_at: Value,
    #[serde(default)]
    pub(crate) updated_at: Value,
    #[serde(default)]
    pub(crate) metadata: Map<String, Value>,
}

/// A user message.
#[derive(Deserialize)]
pub(crate) struct OldMessage {
    pub(crate) content: String,
    #[serde(default)]
    timestamp: Value,
}

/// An answer.
#[derive(Deserialize)]
pub(crate) struct OldAnswer {
    pub(crate) content: String,
    #[serde(default)]
    seed_id: Value,
    #[serde(default)]
    phase_reached: Value,
    #[serde(default)]
    evaluation_passed: Value,
    #[serde(default)]
    asks: Value,
    #[serde(default)]
    timestamp: Value,
    #[serde(default)]
    pub(crate) outcome: Value,
}

/// What a session is made of, as it came.
pub(crate) struct Source {
    sha256: [u8; 32],
    bytes: usize,
}

impl Source {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self { sha256: sha256(bytes), bytes: bytes.len() }
    }
}

impl Old {
    pub(crate) fn owner(&self) -> Option<OwnerId> {
        OwnerId::parse(self.metadata.get("owner")?.as_str()?).ok()
    }
    pub(crate) fn space(&self) -> Option<SpaceId> {
        SpaceId::parse(self.metadata.get("space_id")?.as_str()?).ok()
    }
    /// Whoever spoke. Each message's record has it, so that of a file may not be longer than a client's.
    pub(crate) fn user(&self) -> &str {
        text::beginning(self.user_id.as_deref().unwrap_or("default"), LABEL_BYTES_MAX)
    }
    /// Its own, else one made of the first message.
    pub(crate) fn title(&self) -> String {
        let given = self.metadata.get("title").and_then(Value::as_str).filter(|title| !title.is_empty());
        let first = || self.user_messages.first().and_then(|message| title::of(&message.content));
        given.map(str::to_owned).or_else(first).unwrap_or_default()
    }
    /// All that was said.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        self.user_messages.iter().map(|said| said.content.as_str()).chain(self.agent_responses.iter().map(|said| said.content.as_str()))
    }
    pub(crate) fn seed(&self) -> Option<SeedId> {
        SeedId::parse(self.active_seed_id.as_str()?).ok()
    }
    /// Those that its answers name, and the last one.
    pub(crate) fn seeds(&self) -> BTreeSet<SeedId> {
        let named = self.agent_responses.iter().filter_map(|answer| SeedId::parse(answer.seed_id.as_str()?).ok());
        named.chain(self.seed()).collect()
    }
    pub(crate) fn created(&self) -> Timestamp {
        time(&self.created_at).or_else(|| self.user_messages.first().and_then(|m| time(&m.timestamp))).unwrap_or_default()
    }
    pub(crate) fn updated(&self) -> Timestamp {
        time(&self.updated_at).unwrap_or_else(|| self.created())
    }
}

/// Makes a log of `<id>.json`; false where there is none, or where it cannot be read and was set aside. Blocking.
///
/// The log appears whole (written beside, synced, renamed), so a crash leaves the `.json` alone or both; the `.json` itself stays as
/// it is until the session's next turn.
pub(crate) fn import(core: &Core, id: SessionId) -> Result<bool, StoreError> {
    let doing = || StoreError::of("importing session", id);
    let path = core.files.json(id);
    let disk = core.disk();
    let Some(stat) = disk.stat(&path).map_err(doing())? else { return Ok(false) };
    let made = if stat.size > IMPORT_BYTES_MAX {
        Err(format!("it has {} bytes, at most {IMPORT_BYTES_MAX} are imported", stat.size))
    } else {
        let bytes = read_whole(disk, &path, IMPORT_BYTES_MAX).map_err(doing())?;
        parse(&bytes).and_then(|old| lines(core, id, old, &Source::of(&bytes), None))
    };
    match made {
        Ok(lines) => {
            core.durability.put(&core.files.log(id), &lines).map_err(doing())?;
            log::info("store", format_args!("session {id} imported from its .json"));
            Ok(true)
        }
        Err(why) => {
            let aside = core.files.named(id, &format!("json.kept-{}", core.now().millis()));
            disk.rename(&path, &aside).map_err(doing())?;
            log::error("store", format_args!("session {id} cannot be imported and is set aside as {}: {why}", aside.display()));
            Ok(false)
        }
    }
}

/// Reads a session file.
pub(crate) fn parse(bytes: &[u8]) -> Result<Old, String> {
    serde_json::from_slice(bytes).map_err(|e| format!("it is no session file: {:?} error at line {}", e.classify(), e.line()))
}

/// The log of a session file. `about` is written behind its messages.
pub(crate) fn lines(core: &Core, id: SessionId, old: Old, source: &Source, about: Option<About>) -> Result<Vec<u8>, String> {
    let created = if old.created() == Timestamp::default() { core.now() } else { old.created() };
    let origin = Origin { sha256: hex(&source.sha256), active_persona_id: old.active_persona_id.clone(), metadata: old.metadata.clone() };
    if serde_json::to_vec(&origin).map_err(|e| e.to_string())?.len() > METADATA_BYTES_MAX {
        return Err(format!("its metadata take more than {METADATA_BYTES_MAX} bytes"));
    }
    let owner = old.owner().unwrap_or(core.first_owner);
    let header = Header { format: FORMAT, id, owner, created, origin: Some(origin) };
    let mut lines =
        Lines { bytes: Vec::new(), max: IMPORT_LOG_BYTES_MIN.saturating_add(IMPORT_LOG_TIMES_MAX.saturating_mul(source.bytes)) };
    log_line::write(&mut lines.bytes, &serde_json::to_vec(&header).map_err(|e| e.to_string())?);
    let (seq, time) = write_turns(core, id, old, created, &mut lines)?;
    if let Some(about) = about {
        lines.write(&Record { seq, time, message_id: None, body: Body::About(about) })?;
    }
    Ok(lines.bytes)
}

/// A log in the making. It is looked at record by record: what came is small beside what some of it could become.
struct Lines {
    bytes: Vec<u8>,
    max: usize,
}

impl Lines {
    fn write(&mut self, record: &Record) -> Result<(), String> {
        let json = serde_json::to_vec(record).map_err(|e| e.to_string())?;
        if json.len() + log_line::OVERHEAD_BYTES > LOG_LINE_BYTES_MAX {
            return Err(format!("a message of {} bytes is too long", json.len()));
        }
        log_line::write(&mut self.bytes, &json);
        if self.bytes.len() > self.max {
            return Err(format!("its log would take more than {} bytes, far more than what it is made of", self.max));
        }
        Ok(())
    }
}

/// Messages and answers by time, as records. Where both counts agree, answers belong to messages in order; else an answer
/// belongs to the newest message, and the ones before that have none. Answers the next seq, and the time of the last record.
fn write_turns(core: &Core, id: SessionId, old: Old, created: Timestamp, lines: &mut Lines) -> Result<(Seq, Timestamp), String> {
    let (space, user) = (old.space(), old.user().to_owned());
    let in_order = old.user_messages.len() == old.agent_responses.len();
    let mut past = Past::new(core, id, 1, "import", &user, space);
    let mut unanswered: std::collections::VecDeque<MessageId> = std::collections::VecDeque::new();
    let (mut messages, mut answers) = (old.user_messages.into_iter().peekable(), old.agent_responses.into_iter().peekable());
    let mut now = created;
    loop {
        let at = |value: Option<&Value>| value.and_then(time);
        let said = at(messages.peek().map(|m| &m.timestamp));
        let answered = at(answers.peek().map(|a| &a.timestamp));
        // Equal or unknown times: a question comes before its answer.
        let question = match (messages.peek(), answers.peek()) {
            (None, None) => break,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(_), Some(_)) => match (said, answered) {
                (Some(said), Some(answered)) => said <= answered,
                _ => unanswered.is_empty(),
            },
        };
        if question {
            let Some(old) = messages.next() else { break };
            now = said.unwrap_or(now);
            unanswered.push_back(past.message(now, old.content));
        } else {
            let Some(old) = answers.next() else { break };
            now = answered.unwrap_or(now);
            if !in_order {
                while unanswered.len() > 1 {
                    let Some(silent) = unanswered.pop_front() else { break };
                    past.end(now, silent, Body::Interrupted(Ending::default()));
                }
            }
            // An answer without a question gets an empty one, which no projection shows.
            let message_id = match unanswered.pop_front() {
                Some(message_id) => message_id,
                None => past.message(now, String::new()),
            };
            past.end(now, message_id, ending(old));
        }
        past.records.drain(..).try_for_each(|record| lines.write(&record))?;
    }
    for silent in unanswered {
        past.end(now, silent, Body::Interrupted(Ending::default()));
        past.records.drain(..).try_for_each(|record| lines.write(&record))?;
    }
    Ok((past.next, now))
}

fn ending(old: OldAnswer) -> Body {
    let ending = Ending {
        text: old.content,
        phase: serde_json::from_value::<Phase>(old.phase_reached).unwrap_or_default(),
        evaluation_passed: old.evaluation_passed.as_bool(),
        seed_id: old.seed_id.as_str().and_then(|id| SeedId::parse(id).ok()),
        asks: old.asks.as_bool().unwrap_or(false),
        error: None,
    };
    match old.outcome.as_str() {
        Some("failed") => Body::Failed(ending),
        Some("cancelled") => Body::Cancelled(ending),
        Some("interrupted") => Body::Interrupted(ending),
        _ => Body::Done(ending),
    }
}

fn time(value: &Value) -> Option<Timestamp> {
    Timestamp::parse(value.as_str()?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::testing::{Bench, done, kinds, read_on, say};

    fn old(user: &[(&str, u32)], agent: &[(&str, u32)]) -> Value {
        let at = |minute: &u32| format!("2025-05-01T10:{minute:02}:00Z");
        json!({
            "id": "ignored", "user_id": "ann", "active_seed_id": null, "active_persona_id": "p-1",
            "user_messages": user.iter().map(|(c, m)| json!({"content": c, "timestamp": at(m)})).collect::<Vec<_>>(),
            "agent_responses": agent.iter().map(|(c, m)| json!({"content": c, "session_id": null, "seed_id": null,
                "phase_reached": "Execute", "evaluation_passed": true, "timestamp": at(m)})).collect::<Vec<_>>(),
            "created_at": at(&0), "updated_at": at(&30), "metadata": {"title": "Old days"},
        })
    }

    #[tokio::test]
    async fn an_old_file_opens_unchanged_and_goes_on_after_its_next_turn() {
        let bench = Bench::new();
        let sid = bench.session_id();
        let file = old(&[("q1", 1), ("q2", 3)], &[("a1", 2), ("a2", 4)]);
        let bytes = serde_json::to_vec_pretty(&file).unwrap();
        bench.home();
        std::fs::write(bench.file(sid, "json"), &bytes).unwrap();
        let mut first = Vec::new();
        for round in 0..2 {
            let sessions = bench.sessions();
            let session = sessions.load(sid, bench.owner()).await.unwrap();
            let records = read_on(&mut session.tail(0)).await;
            assert_eq!(kinds(&records), ["1 message", "2 done", "3 message", "4 done"]);
            if round == 0 {
                first = records;
            } else {
                assert_eq!(records, first, "ids are derived, so they stay");
            }
            assert_eq!(std::fs::read(bench.file(sid, "json")).unwrap(), bytes, "the file stays as it is");
            let turns = session.recent_turns(1000).await.unwrap();
            assert_eq!(
                turns.iter().map(|t| (t.message.content.as_str(), t.ending.text.as_str())).collect::<Vec<_>>(),
                [("q1", "a1"), ("q2", "a2")]
            );
        }
        let sessions = bench.sessions();
        let session = sessions.load(sid, bench.owner()).await.unwrap();
        let id = bench.message_id();
        session.accept(id, say("q3")).await.unwrap();
        session.append(id, vec![done("a3")]).await.unwrap();
        let new: Value = serde_json::from_slice(&std::fs::read(bench.file(sid, "json")).unwrap()).unwrap();
        assert_eq!(new["user_messages"].as_array().unwrap().len(), 3);
        assert_eq!(
            (&new["user_id"], &new["active_persona_id"], &new["metadata"]["title"]),
            (&json!("ann"), &json!("p-1"), &json!("Old days"))
        );
        let kept = std::fs::read_dir(bench.files())
            .unwrap()
            .filter(|e| e.as_ref().unwrap().file_name().to_str().unwrap().contains("kept"))
            .count();
        assert_eq!(kept, 0, "the imported file is in the log now");
    }

    #[tokio::test]
    async fn odd_files_keep_every_text_and_what_is_no_session_is_set_aside() {
        for (user, agent) in [
            (vec![("q1", 1), ("q2", 2)], vec![("a2", 3)]),
            (vec![("q1", 5)], vec![("a0", 1), ("a1", 6), ("a2", 7)]),
            (vec![("q1", 1)], vec![]),
            (vec![], vec![]),
        ] {
            let bench = Bench::new();
            let sid = bench.session_id();
            bench.home();
            std::fs::write(bench.file(sid, "json"), old(&user, &agent).to_string()).unwrap();
            let sessions = bench.sessions();
            let session = sessions.load(sid, bench.owner()).await.unwrap();
            assert!(session.open_messages().is_empty());
            let (mut detail, mut bytes) = (session.detail(), Vec::new());
            while let Some(piece) = detail.next().await.unwrap() {
                bytes.extend_from_slice(&piece);
            }
            let shown: Value = serde_json::from_slice(&bytes).unwrap();
            let texts =
                |list: &Value| list.as_array().unwrap().iter().map(|m| m["content"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
            assert_eq!(texts(&shown["user_messages"]), user.iter().map(|u| u.0).collect::<Vec<_>>());
            assert_eq!(texts(&shown["agent_responses"]), agent.iter().map(|a| a.0).collect::<Vec<_>>());
        }
        let bench = Bench::new();
        let sid = bench.session_id();
        bench.home();
        std::fs::write(bench.file(sid, "json"), "{\"user_messages\": 7}").unwrap();
        let sessions = bench.sessions();
        assert!(matches!(sessions.load(sid, bench.owner()).await, Err(StoreError::NotFound)));
        assert!(!bench.file(sid, "json").exists());
    }

    #[tokio::test]
    async fn a_label_of_a_file_is_cut_before_each_record_gets_it() {
        let bench = Bench::new();
        let sid = bench.session_id();
        bench.home();
        let mut file = old(&[("q1", 1)], &[("a1", 2)]);
        file["user_id"] = format!("x{}", "é".repeat(LABEL_BYTES_MAX)).into();
        std::fs::write(bench.file(sid, "json"), file.to_string()).unwrap();
        let sessions = bench.sessions();
        let listed = sessions.list(bench.owner(), 1, 10).await.unwrap().items.pop().unwrap();
        assert_eq!(listed.user_id.len(), LABEL_BYTES_MAX - 1, "and no letter of two bytes is cut in two");
        let session = sessions.load(sid, bench.owner()).await.unwrap();
        let records = read_on(&mut session.tail(0)).await;
        assert!(records[0].len() < 2 * LABEL_BYTES_MAX + 300, "{}", records[0].len());
    }

    #[tokio::test]
    async fn a_log_is_not_made_that_is_far_larger_than_what_it_is_made_of() {
        let bench = Bench::new();
        let sessions = bench.sessions();
        // Of each byte of the label six are made, in each record.
        let all = |messages: usize| {
            json!({"user_id": "\u{1}".repeat(LABEL_BYTES_MAX), "user_messages": vec![json!({"content": "x"}); messages]}).to_string()
        };
        let made = |text: &str| {
            let (old, source) = (parse(text.as_bytes()).unwrap(), Source::of(text.as_bytes()));
            lines(&sessions.core, bench.session_id(), old, &source, None)
        };
        assert!(made(&all(10_000)).is_ok());
        assert!(made(&all(30_000)).unwrap_err().contains("far more"));
    }
}
