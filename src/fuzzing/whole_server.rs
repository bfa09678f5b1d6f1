//! Any bytes on a connection to the real server: requests one behind the other, halves of requests, things that are none.
//!
//! The first byte says how they are sent. `$KEY` and `$READ` in the rest stand for keys (see [`house`](super::house)).

use std::cell::RefCell;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::read::GzDecoder;
use serde_json::Value;

use crate::fuzzing::exchange::{self, Answer, Question, find, text};
use crate::fuzzing::frames;
use crate::fuzzing::house::{CANARY, End, Heard, House, Step, Then};
use crate::rooms::site::embedded;
use crate::wire::log_line::{self, Line};
use crate::wire::path::RelPath;

/// The largest answer is the OpenAPI document; what one request can draw is bounded.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

thread_local! {
    /// Stands as long as nobody with a key was in it, who might have left something. It is built by the initialiser, before the
    /// variable is there: the runtime's own thread-locals are then older, and still there when the house goes at the thread's end.
    static HOUSE: RefCell<Option<House>> = RefCell::new(Some(House::new()));
}

/// Whatever comes: no panic, an end in bounded time, only whole and well-formed answers, each with what every answer has, no 5xx,
/// nothing of anybody else's, nothing without a key but what is public, and what was acknowledged lies on the disk.
pub(super) fn whole_server(data: &[u8]) {
    let Some((how, rest)) = data.split_first().filter(|_| find(data, CANARY.as_bytes()).is_none()) else { return };
    HOUSE.with_borrow_mut(|held| {
        let house = held.take().unwrap_or_else(House::new);
        let sent = house.with_keys(rest);
        let (steps, then) = plan(*how, &sent);
        let heard = house.converse(&steps, then);
        let writes = find(rest, b"$KEY").is_some();
        look(&house, then == Then::HangUp, &sent, &heard, sent.len() != rest.len());
        let after = house.nothing_of_anothers_changed();
        if !writes {
            let changed = after.iter().find(|(name, bytes)| house.before.get(*name) != Some(bytes));
            assert!(changed.is_none(), "changed without a key that may: {changed:?}");
            *held = Some(house);
        }
    });
}

/// The low bits of the first byte (`p` to `|` set them): the pieces, and what the client does behind the last one.
fn plan(how: u8, bytes: &[u8]) -> (Vec<Step>, Then) {
    let (piece, pause) = match how & 3 {
        0 => (bytes.len().max(1), Duration::ZERO),
        1 => (1, Duration::ZERO),
        2 => (17, Duration::ZERO),
        // Slower than a head may be.
        _ => (13, Duration::from_millis(700)),
    };
    let steps = bytes.chunks(piece).flat_map(|piece| [Step::Send(piece.to_vec()), Step::Wait(pause)]).collect();
    let then = match how & 12 {
        4 => Then::HangUp,
        8 => Then::Wait,
        _ => Then::Go,
    };
    (steps, then)
}

fn look(house: &House, hung_up: bool, sent: &[u8], heard: &Heard, keyed: bool) {
    let (questions, doubtful) = exchange::questions(sent);
    let methods: Vec<&str> = questions.iter().map(|question| question.method).collect();
    let (answers, behind) = exchange::answers(&heard.bytes, &methods);
    assert!(heard.bytes.len() <= ANSWER_BYTES_MAX * (answers.len() + 1), "{} bytes for {} answers", heard.bytes.len(), answers.len());
    assert!(find(&heard.bytes, CANARY.as_bytes()).is_none(), "somebody else's content came out");

    let last = answers.last();
    let endless = last.is_some_and(Answer::is_endless);
    // Whoever waits is not kept for ever, but by what has no end.
    assert!(heard.end != End::Open || endless, "still open: {:?}", text(&heard.bytes));
    let mut ids = std::collections::BTreeSet::new();
    for (n, answer) in answers.iter().enumerate() {
        // A client that hung up gets what was under way by then.
        assert!(answer.whole || answer.is_endless() || hung_up, "answer {n} is cut: {:?}", text(&heard.bytes));
        every_answer_has(answer);
        assert!(ids.insert(answer.field("x-request-id")), "one id for two answers");
        let question = questions.get(n);
        if !keyed || question.is_some_and(Question::is_strangers) {
            strangers_get_nothing(question, answer);
        }
        if question.is_none_or(|question| question.method != "HEAD") {
            what_was_acknowledged_is_kept(house, sent, answer);
        }
    }
    if last.is_some_and(|last| last.status == 101) {
        frames::from_server(behind);
    }
    // Every question that leaves no doubt has its answer, unless the connection was to end before.
    let ended = endless || last.is_some_and(Answer::closes) || hung_up;
    let due = questions.len();
    assert!(ended || answers.len() >= due, "{} answers to {due} questions: {:?}", answers.len(), text(&heard.bytes));
    assert!(!doubtful.is_empty() || answers.len() <= due, "{} answers to {due} questions: {:?}", answers.len(), text(&heard.bytes));
    // Whoever hangs up does not hear of everything that was done.
    if !hung_up && doubtful.is_empty() {
        files_are_what_was_put(house, &questions, &answers);
    }
}

fn every_answer_has(answer: &Answer<'_>) {
    let status = answer.status;
    assert!(answer.field("x-request-id").is_some_and(|id| id.len() == 36), "{status} without an id");
    assert_eq!(answer.field("x-content-type-options"), Some("nosniff"), "{status}");
    assert!(answer.field("cache-control").is_some(), "{status}");
    // A file is its owner's, whatever its name promises.
    let file = answer.field("content-security-policy") == Some("sandbox");
    let json = !file && answer.field("content-type").is_some_and(|kind| kind.starts_with("application/json"));
    if json && answer.whole && !answer.body.is_empty() {
        let value: Value = serde_json::from_slice(&answer.body).unwrap_or_else(|e| panic!("{status} with {e}: {}", text(&answer.body)));
        // JSON-RPC has its errors in answers with status 200.
        assert!((status >= 400) == value.get("error").is_some() || value.get("jsonrpc").is_some(), "{status}: {value}");
    }
    match status {
        401 => assert!(answer.field("www-authenticate").is_some()),
        405 => assert!(answer.field("allow").is_some()),
        429 => {}
        // The model is the built-in one, the disk has room and nobody else is here.
        500.. => panic!("{status}: {}", text(&answer.body)),
        _ => {}
    }
}

/// Public: health, a login that fails, that nobody is logged in, and the page.
fn strangers_get_nothing(question: Option<&Question<'_>>, answer: &Answer<'_>) {
    let refused = matches!(answer.status, 400 | 401 | 403 | 404 | 405 | 408 | 413..=415 | 421 | 422 | 429 | 431);
    let health = answer.status == 200 && answer.field("content-type") == Some("application/json");
    let health = health && (answer.body.is_empty() || find(&answer.body, b"\"version\"").is_some());
    let nobody = answer.status == 200 && answer.body == br#"{"logged_in":false,"scopes":[]}"#;
    assert!(refused || health || nobody || is_of_the_page(answer), "a stranger got {}: {}", answer.status, text(&answer.body));
    let beneath = |start: &&str, path: &str| path.strip_prefix(*start).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let closed = |path: &str| path != "/api/login" && ["/api", "/v1", "/mcp", "/metrics"].iter().any(|start| beneath(start, path));
    if question.is_some_and(|question| closed(question.path())) {
        // Which paths exist, which methods they take and how large a body may be is told to nobody.
        assert!(matches!(answer.status, 400 | 401 | 403 | 408 | 414 | 421), "a stranger got {}", answer.status);
    }
}

/// A file of the binary's own page as it is, compressed, with its way to its files told, or not sent because the client has it.
fn is_of_the_page(answer: &Answer<'_>) -> bool {
    let plain = |bytes: &[u8]| embedded::FILES.iter().any(|(_, file)| *file == bytes);
    let placed = |bytes: &[u8]| {
        let (before, rest) = std::str::from_utf8(bytes).ok()?.split_once("<base href=\"")?;
        let (way, behind) = rest.split_once("\">")?;
        (way.replace("../", "").is_empty() && plain(format!("{before}<base href=\"./\">{behind}").as_bytes())).then_some(())
    };
    let mut unpacked = Vec::new();
    let packed = answer.field("content-encoding") == Some("gzip") && GzDecoder::new(&answer.body[..]).read_to_end(&mut unpacked).is_ok();
    let guarded = answer.field("content-security-policy").is_some_and(|policy| policy.contains("frame-ancestors 'none'"));
    let there = answer.body.is_empty() || plain(&answer.body) || placed(&answer.body).is_some() || (packed && plain(&unpacked));
    matches!(answer.status, 200 | 304) && guarded && answer.field("etag").is_some() && there
}

/// Conversations, memories and imported sessions that an answer names lie on the disk as it says.
fn what_was_acknowledged_is_kept(house: &House, sent: &[u8], answer: &Answer<'_>) {
    // Whoever deletes finds less afterwards; with other words for it in the bytes, nobody knows when.
    if !(200..300).contains(&answer.status) || find(sent, b"DELETE").is_some() || find(sent, b"prune").is_some() {
        return;
    }
    let Ok(Value::Object(fields)) = serde_json::from_slice(&answer.body) else { return };
    let named = |name: &str| fields.get(name).and_then(Value::as_str);
    if let (Some(session), Some(id), Some(echo), Some(reply)) = (named("session_id"), named("id"), named("echo"), named("reply")) {
        let records = records(&house.workspace(), session);
        let of = |kind: &str| records.iter().filter(move |record| record["message_id"] == id && record["kind"] == kind).collect::<Vec<_>>();
        let (said, done) = (of("message"), of("done"));
        assert!(said.len() == 1 && said[0]["content"] == echo, "what was said is not in the log: {fields:?}");
        assert!(done.len() == 1 && done[0]["text"] == reply, "what was answered is not in the log: {fields:?}");
    }
    if let (Some(session), Some("approval_required"), Some(id)) = (named("session_id"), named("status"), named("id")) {
        let records = records(&house.workspace(), session);
        assert!(records.iter().any(|record| record["message_id"] == id && record["kind"] == "approval_requested"), "{fields:?}");
    }
    if let (Some(id), Some("created"), 2) = (named("id"), named("status"), fields.len()) {
        let kept = ["facts", "episodes", "knowledge"]
            .iter()
            .any(|kind| house.workspace().join("memory").join(kind).join(format!("{id}.json")).exists());
        assert!(kept, "the memory is not there: {fields:?}");
    }
    if let (Some(id), true) = (named("id"), fields.contains_key("message_count")) {
        assert!(!records(&house.workspace(), id).is_empty(), "the session is not there: {fields:?}");
    }
}

/// The records of a session's log, as they lie on the disk.
pub(super) fn records(workspace: &Path, session: &str) -> Vec<Value> {
    let bytes = std::fs::read(workspace.join("sessions").join(format!("{session}.log"))).unwrap_or_default();
    let (mut all, mut rest) = (Vec::new(), &bytes[..]);
    while let Line::Whole { json, len } = log_line::read(rest) {
        all.extend(serde_json::from_slice(json));
        rest = &rest[len..];
    }
    assert!(rest.is_empty(), "the log of {session} is damaged: {:?}", text(rest));
    all
}

/// The last change of a file is the one that is found.
fn files_are_what_was_put(house: &House, questions: &[Question<'_>], answers: &[Answer<'_>]) {
    const FILES: &str = "/api/workspace/file/";
    let agent_may_write = questions.iter().any(|question| question.path().contains("approve"));
    let mut changes = questions
        .iter()
        .zip(answers)
        .filter(|(question, _)| question.path().starts_with(FILES) && !matches!(question.method, "GET" | "HEAD"));
    let Some((question, answer)) = changes.next_back() else { return };
    if agent_may_write || question.method != "PUT" || answer.status != 200 {
        return;
    }
    let raw = question.path().strip_prefix(FILES).unwrap_or_default();
    let path = RelPath::from_request(raw).unwrap_or_else(|e| panic!("{raw:?} was taken: {e:?}"));
    let all = house.kept();
    let put = |name: &&PathBuf| name.strip_prefix("files-of").is_ok_and(|name| name.iter().skip(1).eq(Path::new(path.as_str()).iter()));
    let name = all.keys().find(put).unwrap_or_else(|| panic!("{:?} is not there: {:?}", path.as_str(), all.keys()));
    assert_eq!(text(&all[name]), text(question.body), "{:?}", path.as_str());
}
