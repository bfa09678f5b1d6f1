//! Files that somebody restored, edited or damaged, opened by the real store: what it makes of a session's log, of an old session
//! file, of an audit log.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

use crate::base::ids::{AgentId, MessageId, OwnerId, SessionId};
use crate::base::live::Live;
use crate::base::log::{self, Format, Level};
use crate::base::metrics::Metrics;
use crate::fuzzing::exchange::{find, text};
use crate::fuzzing::house::{directory, seams};
use crate::store::StoreError;
use crate::store::audit::verify::{Given, parse_head, verify};
use crate::store::audit::{self, Audit, Event, Outcome, What, Who};
use crate::store::home::Home;
use crate::store::import::{self, Old};
use crate::store::record::{Body, Ending, UserMessage};
use crate::store::session::Session;
use crate::store::sessions::{Sessions, Settings};
use crate::store::tail::Step;
use crate::sys::disk::RealDisk;
use crate::wire::audit_line::hex_bytes;
use crate::wire::log_line;

/// A home that lasts as long as its thread; every input uses names of its own.
struct Place {
    runtime: Runtime,
    home: Arc<Home>,
    dir: PathBuf,
    count: u64,
    /// A whole audit log, and what it is verified against.
    audit: Vec<u8>,
    given: Given,
}

thread_local! {
    static PLACE: RefCell<Place> = RefCell::new(Place::new());
}

const OWNER: [u8; 32] = [7; 32];

impl Place {
    fn new() -> Self {
        log::configure(Format::Pretty, Level::Error);
        let runtime = Builder::new_current_thread().enable_all().start_paused(true).max_blocking_threads(1).build();
        let runtime = runtime.unwrap_or_else(|e| panic!("{e}"));
        let dir = directory();
        let home = Home::open(&dir, None, seams(&runtime, 0)).unwrap_or_else(|e| panic!("{e}"));
        let (audit, given) = runtime.block_on(async {
            let audit =
                Audit::open(&home, Arc::new(Live::new(audit::Settings::default())), Metrics::new(0)).unwrap_or_else(|e| panic!("{e}"));
            for n in 0..6 {
                audit.note(Event { who: Who::default(), what: What::Pruned, on: None, outcome: Outcome::Count(n) });
            }
            audit.close().await;
            let given = Given { public_key: hex_bytes(&audit.public_key()), head: parse_head(&audit.head()) };
            (fs::read(home.workspace().join("audit/1.log")).unwrap_or_else(|e| panic!("{e}")), given)
        });
        Self { runtime, home, dir, count: 0, audit, given }
    }

    /// A session that nobody had before.
    fn session(&mut self) -> SessionId {
        self.count += 1;
        SessionId::derived(&crate::base::digest::sha256(&self.count.to_be_bytes()))
    }
    fn file(&self, id: SessionId, ending: &str) -> PathBuf {
        self.home.workspace().join("sessions").join(format!("{id}.{ending}"))
    }
    /// As after a restart.
    fn sessions(&self) -> Arc<Sessions> {
        Sessions::open(&self.home, OwnerId::derived(&OWNER), Settings::default())
    }
    /// The bytes lie under some name of this session still.
    fn still_has(&self, id: SessionId, bytes: &[u8]) -> bool {
        self.files(id).iter().any(|path| fs::read(path).is_ok_and(|kept| kept == bytes))
    }
    /// Some file of this session still begins so.
    fn still_begins(&self, id: SessionId, bytes: &[u8]) -> bool {
        self.files(id).iter().any(|path| fs::read(path).is_ok_and(|kept| kept.starts_with(bytes)))
    }
    fn files(&self, id: SessionId) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.home.workspace().join("sessions")).unwrap_or_else(|e| panic!("{e}"));
        entries
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(&id.to_string()))
            .map(|entry| entry.path())
            .collect()
    }
    fn forget(&self, id: SessionId) {
        for path in self.files(id) {
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// An old or exported session file: every text of it is in the session, in order and once, also after a restart and through another
/// export and import; a file that is none is kept as it is.
pub(super) fn session_file(data: &[u8]) {
    PLACE.with_borrow_mut(|place| {
        let id = place.session();
        fs::write(place.file(id, "json"), data).unwrap_or_else(|e| panic!("{e}"));
        let old = import::parse(data);
        let owner = old.as_ref().ok().and_then(Old::owner).unwrap_or(OwnerId::derived(&OWNER));
        place.runtime.block_on(async {
            let session = match place.sessions().load(id, owner).await {
                Ok(session) => session,
                Err(why) => return kept(place, id, data, &why),
            };
            let old = old.unwrap_or_else(|e| panic!("imported though {e}"));
            let said = said(&old);
            let shown = detail(&session).await;
            assert_eq!(lists(&shown), said);
            assert!(session.open_messages().is_empty());
            drop(session);
            let again = place.sessions().load(id, owner).await.unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(text(&detail(&again).await), text(&shown), "after a restart");
            assert!(place.still_has(id, data), "the file stays until the next turn");
            let exported = import::parse(&shown).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(self::said(&exported), said, "exported and read again");
        });
        place.forget(id);
    });
}

/// It does not open, and the bytes lie there still; an opening that panicked is none.
fn kept(place: &Place, id: SessionId, bytes: &[u8], why: &StoreError) {
    assert!(!matches!(why, StoreError::Damaged(_)), "{why}");
    assert!(bytes.is_empty() || place.still_has(id, bytes), "{:?} is lost", text(bytes));
}

/// Without the unfinished write at its end.
fn whole_lines(log: &[u8]) -> &[u8] {
    log.iter().rposition(|byte| *byte == b'\n').map_or(&[], |at| &log[..=at])
}

/// What was said and answered, without what stands for nothing: an empty message, an answer that never came.
fn said(old: &Old) -> [Vec<String>; 2] {
    let value = |text: &str| text.to_owned();
    let users = old.user_messages.iter().map(|message| value(&message.content)).filter(|text| !text.is_empty()).collect();
    let answers = old.agent_responses.iter().filter(|answer| !(answer.content.is_empty() && answer.outcome == "interrupted"));
    [users, answers.map(|answer| value(&answer.content)).collect()]
}

fn lists(detail: &[u8]) -> [Vec<String>; 2] {
    let value: Value = serde_json::from_slice(detail).unwrap_or_else(|e| panic!("{e}: {}", text(detail)));
    let of = |name: &str| {
        let items = value[name].as_array().into_iter().flatten();
        items.map(|item| item["content"].as_str().unwrap_or_default().to_owned()).collect()
    };
    [of("user_messages"), of("agent_responses")]
}

async fn detail(session: &Arc<Session>) -> Vec<u8> {
    let (mut detail, mut bytes) = (session.detail(), Vec::new());
    while let Some(piece) = detail.next().await.unwrap_or_else(|e| panic!("{e}")) {
        bytes.extend_from_slice(&piece);
    }
    bytes
}

/// A session's log, and behind a line `=run=` its pieces. A line gets its checksum here, so that what is in it is reached; one that
/// begins with `~` is taken as it is. `$ID` and `$OWNER` stand for the session's.
///
/// It opens or is kept; what can be read is read again after a restart; a new message goes behind it and is found once.
pub(super) fn session_open(data: &[u8]) {
    PLACE.with_borrow_mut(|place| {
        let id = place.session();
        let owner = OwnerId::derived(&OWNER);
        let words = [("$ID", id.to_string()), ("$OWNER", owner.to_string())];
        let data = words.iter().fold(data.to_vec(), |data, (word, value)| replace(&data, word.as_bytes(), value.as_bytes()));
        let at = find(&data, b"\n=run=\n");
        let (log, run) = at.map_or((&data[..], None), |at| (&data[..at], Some(&data[at + 7..])));
        let log = framed(log);
        fs::write(place.file(id, "log"), &log).unwrap_or_else(|e| panic!("{e}"));
        if let Some(run) = run {
            fs::write(place.file(id, "run"), framed(run)).unwrap_or_else(|e| panic!("{e}"));
        }
        place.runtime.block_on(async {
            let session = match place.sessions().load(id, owner).await {
                Ok(session) => session,
                // Somebody else's is opened, and mended, before it is known whose it is: its whole lines stay.
                Err(StoreError::NotFound) => {
                    let lines = whole_lines(&log);
                    return assert!(lines.is_empty() || place.still_begins(id, lines), "{:?} is lost", text(&log));
                }
                Err(why) => return kept(place, id, &log, &why),
            };
            let before = lasting(&read(&session).await);
            detail_is_json(&session).await;
            let message = MessageId::derived(&[3; 32]);
            let user = UserMessage {
                content: "behind all that".to_owned(),
                user_id: "u".to_owned(),
                channel: "rest".to_owned(),
                agent_id: AgentId::derived(&[4; 32]),
                space_id: None,
                idempotent: false,
                budget_id: None,
                key_id: None,
                history: None,
                attachments: Vec::new(),
            };
            // The log may have this very message; then it is the same one or another.
            let taken = session.accept(message, user).await.is_ok_and(|accepted| accepted.fresh);
            let ending = Ending { text: "the end".to_owned(), ..Ending::default() };
            let ended = taken && session.append(message, vec![Body::Done(ending)]).await.is_ok();
            assert_eq!(ended, taken, "accepted and cannot be ended");
            drop(session);
            let session = place.sessions().load(id, owner).await.unwrap_or_else(|e| panic!("found once and then not: {e}"));
            let after = lasting(&read(&session).await);
            assert!(after.starts_with(&before), "{after:?} does not begin with {before:?}");
            let mine = after.iter().skip(before.len()).filter(|record| record["message_id"] == message.to_string());
            let kinds: Vec<&str> = mine.filter_map(|record| record["kind"].as_str()).collect();
            assert!(!taken || kinds == ["message", "done"], "{kinds:?}");
            if taken {
                let seqs = after.iter().skip(before.len()).map(|record| record["seq"].as_u64().unwrap_or(0));
                let highest = before.iter().filter_map(|record| record["seq"].as_u64()).max().unwrap_or(0);
                assert!(seqs.collect::<Vec<_>>().iter().all(|seq| *seq > highest), "a number was given twice");
            }
            detail_is_json(&session).await;
        });
        place.forget(id);
    });
}

fn framed(lines: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in lines.split_inclusive(|b| *b == b'\n') {
        match line.strip_prefix(b"~") {
            // Torn where it is the last one and has no line feed.
            Some(raw) => out.extend_from_slice(raw),
            None => log_line::write(&mut out, line.strip_suffix(b"\n").unwrap_or(line)),
        }
    }
    out
}

fn replace(bytes: &[u8], word: &[u8], value: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), bytes);
    while let Some(at) = find(rest, word) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(value);
        rest = &rest[at + word.len()..];
    }
    out.extend_from_slice(rest);
    out
}

/// All that a reader gets.
async fn read(session: &Arc<Session>) -> VecDeque<Value> {
    let (mut tail, mut all) = (session.tail(0), VecDeque::new());
    while !tail.caught_up() {
        match tail.next().await.unwrap_or_else(|e| panic!("{e}")) {
            Step::Record(entry) => all.push_back(serde_json::from_slice(&entry.json).unwrap_or_else(|e| panic!("{e}"))),
            Step::Resync { .. } | Step::Deleted => panic!("a reader from the start needs none"),
        }
        assert!(all.len() < 100_000, "a reader does not come to an end");
    }
    all
}

/// Without pieces, which go with the end of their message, and the store's own notes.
fn lasting(records: &VecDeque<Value>) -> Vec<Value> {
    let passing = ["token", "draft", "reserve"];
    records.iter().filter(|record| !passing.iter().any(|kind| record["kind"] == *kind)).cloned().collect()
}

async fn detail_is_json(session: &Arc<Session>) {
    lists(&detail(session).await);
}

/// An audit log with changed bytes: three bytes are one change (where, and what goes there). Verification finds every one.
pub(super) fn audit_verify(data: &[u8]) {
    PLACE.with_borrow_mut(|place| {
        place.count += 1;
        let mut bytes = place.audit.clone();
        for change in data.chunks_exact(4) {
            let at = (usize::from(change[0]) << 8 | usize::from(change[1])) % bytes.len().max(1);
            match change[2] % 4 {
                0 if !bytes.is_empty() => bytes[at] = change[3],
                1 => bytes.insert(at, change[3]),
                2 => drop(bytes.drain(at..(at + usize::from(change[3])).min(bytes.len()))),
                // A line goes somewhere else.
                _ => {
                    let mut lines: Vec<Vec<u8>> = bytes.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
                    let (from, to) = (at % lines.len().max(1), usize::from(change[3]) % lines.len().max(1));
                    if from < lines.len() {
                        let line = lines.remove(from);
                        lines.insert(to.min(lines.len()), line);
                    }
                    bytes = lines.concat();
                }
            }
        }
        let dir = place.dir.join(format!("audit-{}", place.count));
        let look = |bytes: &[u8], given: &Given| {
            fs::create_dir_all(&dir).and_then(|()| fs::write(dir.join("1.log"), bytes)).unwrap_or_else(|e| panic!("{e}"));
            verify(&RealDisk, &dir, given).unwrap_or_else(|e| panic!("{e}"))
        };
        let verdict = look(&bytes, &place.given);
        assert_eq!(verdict.is_good(), bytes == place.audit, "{:?} of {:?}", verdict.findings, String::from_utf8_lossy(&bytes));
        assert!(verdict.is_good() || verdict.findings.iter().all(|found| found.segment <= 1));
        // Without a head that was noted elsewhere a cut tail cannot be told from none, and nothing else passes.
        let without = look(&bytes, &Given { head: None, ..place.given.clone() });
        let is_head = place.audit.starts_with(&bytes) && bytes.last() == Some(&b'\n');
        assert_eq!(without.is_good(), is_head, "{:?} of {:?}", without.findings, String::from_utf8_lossy(&bytes));
        // Whatever the bytes are, reading comes to an end.
        look(data, &Given::default());
        let _ = fs::remove_dir_all(&dir);
    });
}
