//! Records of a session's log as frames of the WebSocket (API A3 and B): what each is called there.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::base::ids::{MessageId, Seq, SessionId, SpaceId};
use crate::store::StoreError;
use crate::store::record::{Body, Ending, Phase, Problem};
use crate::store::session::Entry;
use crate::store::tail::Step;

/// What a log tells its reader.
pub(super) type Told = Result<Step, StoreError>;

/// What a record does not say itself.
pub(super) struct About {
    pub(super) session: SessionId,
    pub(super) space: Option<SpaceId>,
    /// Pieces are missing: the terminal record's text stands for all that the reader has.
    pub(super) replaces: bool,
}

/// The most frequent frame.
#[derive(Serialize)]
struct Token<'a> {
    r#type: &'static str,
    content: &'a str,
    session_id: SessionId,
    space_id: Option<SpaceId>,
    id: Option<MessageId>,
    seq: Seq,
}

/// The last frame of a message.
#[derive(Serialize)]
struct Done<'a> {
    r#type: &'static str,
    session_id: SessionId,
    space_id: Option<SpaceId>,
    phase: Phase,
    /// A text, as existing clients expect it.
    evaluation_passed: &'static str,
    outcome: &'static str,
    text: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    replaces: bool,
    id: Option<MessageId>,
    seq: Seq,
}

/// The frames of a record: none for those that only the log needs, `error` and `done` for one that failed.
pub(super) fn of(entry: &Entry, about: &About) -> Vec<String> {
    let name = match &entry.record.body {
        Body::Reserve { .. } | Body::Checkpoint { .. } => return Vec::new(),
        Body::Token { text } => {
            return vec![write(&Token {
                r#type: "token",
                content: text,
                session_id: about.session,
                space_id: about.space,
                id: entry.message_id,
                seq: entry.seq,
            })];
        }
        Body::Done(ending) => return vec![done(entry, about, ending)],
        Body::Cancelled(ending) | Body::Interrupted(ending) => return vec![done(entry, about, ending)],
        Body::Failed(ending) => return vec![failed(entry, about, ending.error.as_ref()), done(entry, about, ending)],
        Body::ToolCall { .. } => "tool_start",
        Body::ToolResult { .. } => "tool_end",
        body => body.kind(),
    };
    let mut fields = match serde_json::to_value(&entry.record.body) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    fields.remove("kind");
    // A piece of text is `content` in every frame.
    if let Some(text) = fields.remove("text") {
        fields.insert("content".into(), text);
    }
    vec![framed(name, entry, about, fields)]
}

/// `error` that stands for no record.
pub(super) fn error(code: &str, message: &str, more: &[(&str, Value)]) -> String {
    let mut fields = Map::from_iter([("type", "error"), ("code", code), ("message", message)].map(|(n, v)| (n.to_owned(), v.into())));
    fields.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    Value::Object(fields).to_string()
}

/// The reader's place was beyond the end; the log follows from its start.
pub(super) fn resync(session: SessionId, last_seq: Seq) -> String {
    json!({"type": "resync", "session_id": session, "last_seq": last_seq}).to_string()
}

/// The session is gone.
pub(super) fn deleted(session: SessionId) -> String {
    json!({"type": "deleted", "session_id": session}).to_string()
}

fn done(entry: &Entry, about: &About, ending: &Ending) -> String {
    let fine = entry.kind == "done" && ending.evaluation_passed != Some(false);
    write(&Done {
        r#type: "done",
        session_id: about.session,
        space_id: about.space,
        phase: ending.phase,
        evaluation_passed: if fine { "true" } else { "false" },
        outcome: entry.kind,
        text: &ending.text,
        replaces: about.replaces,
        id: entry.message_id,
        seq: entry.seq,
    })
}

fn failed(entry: &Entry, about: &About, problem: Option<&Problem>) -> String {
    let (code, message) = problem.map_or(("internal", "internal error"), |p| (&p.code, &p.message));
    let fields = Map::from_iter([("code".to_owned(), code.into()), ("message".to_owned(), message.into())]);
    framed("error", entry, about, fields)
}

/// A frame that stands for a record.
fn framed(name: &str, entry: &Entry, about: &About, mut fields: Map<String, Value>) -> String {
    fields.insert("type".into(), name.into());
    fields.insert("session_id".into(), json!(about.session));
    fields.insert("space_id".into(), json!(about.space));
    if let Some(id) = entry.message_id {
        fields.insert("id".into(), json!(id));
    }
    fields.insert("seq".into(), entry.seq.into());
    Value::Object(fields).to_string()
}

/// Strings, numbers and ids always serialise.
fn write(frame: &impl Serialize) -> String {
    serde_json::to_string(frame).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{ApprovalId, SeedId};
    use crate::base::time::Timestamp;
    use crate::store::record::{Decision, PhaseState, Record, ToolOutcome};

    fn frames(body: Body, replaces: bool) -> Vec<Value> {
        let (kind, terminal, message_id) = (body.kind(), body.ending().is_some(), Some(MessageId::derived(&[1; 32])));
        let record = Record { seq: 7, time: Timestamp::default(), message_id, body };
        let entry = Entry { seq: 7, kind, message_id, record, json: Default::default(), terminal };
        let about = About { session: SessionId::derived(&[2; 32]), space: None, replaces };
        of(&entry, &about).iter().map(|frame| serde_json::from_str(frame).unwrap()).collect()
    }

    #[test]
    fn every_frame_of_a_record_has_type_ids_and_seq() {
        let call = || "c1".to_owned();
        let bodies = [
            (
                Body::Phase {
                    phase: Phase::Seed,
                    state: PhaseState::Started,
                    verdict: None,
                    score: None,
                    seed_id: Some(SeedId::derived(&[3; 32])),
                },
                "phase",
            ),
            (Body::Token { text: "a".into() }, "token"),
            (Body::Draft { text: "a".into(), attempt: 1 }, "draft"),
            (Body::ToolCall { call_id: call(), name: "recall".into(), arguments: json!({}), risky: false, agent_id: None }, "tool_start"),
            (Body::ToolResult { call_id: call(), outcome: ToolOutcome::Ok, content: "x".into(), blob: None }, "tool_end"),
            (Body::ApprovalResolved { approval_id: ApprovalId::derived(&[4; 32]), decision: Decision::Approved }, "approval_resolved"),
            (Body::Usage { model: "offline".into(), input_tokens: 1, output_tokens: 2, millis: 3 }, "usage"),
            (Body::Done(Ending::default()), "done"),
        ];
        for (body, name) in bodies {
            let [frame] = &frames(body, false)[..] else { panic!("{name}: one frame") };
            assert_eq!(frame["type"], name);
            assert_eq!(frame["seq"], 7, "{name}");
            for id in ["id", "session_id"] {
                assert!(frame[id].is_string(), "{name} {id}");
            }
            assert!(frame.get("space_id").is_some() && frame.get("kind").is_none(), "{name}");
        }
        assert!(frames(Body::Checkpoint { calls: 1, tokens: 1, seed_id: None, state: Some(json!("secret")) }, false).is_empty());
    }

    #[test]
    fn done_says_how_it_ended() {
        let ending = |passed| Ending { text: "t".into(), evaluation_passed: passed, ..Ending::default() };
        let cases = [
            (Body::Done(ending(None)), "done", "true"),
            (Body::Done(ending(Some(true))), "done", "true"),
            (Body::Done(ending(Some(false))), "done", "false"),
            (Body::Cancelled(ending(None)), "cancelled", "false"),
            (Body::Interrupted(ending(Some(true))), "interrupted", "false"),
        ];
        for (body, outcome, passed) in cases {
            let frame = frames(body, false).remove(0);
            assert_eq!((&frame["outcome"], &frame["evaluation_passed"], &frame["text"]), (&json!(outcome), &json!(passed), &json!("t")));
            assert!(frame.get("replaces").is_none());
        }
        assert_eq!(frames(Body::Done(ending(None)), true)[0]["replaces"], true);
        let error = Some(Problem { code: "model".into(), message: "it broke".into() });
        let both = frames(Body::Failed(Ending { error, ..ending(None) }), false);
        assert_eq!((&both[0]["type"], &both[0]["code"], &both[0]["message"]), (&json!("error"), &json!("model"), &json!("it broke")));
        assert_eq!((&both[1]["type"], &both[1]["outcome"]), (&json!("done"), &json!("failed")));
    }
}
