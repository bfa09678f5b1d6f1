//! Opening a session from its files, and repairing what a crash or a bad disk left.
//!
//! - A torn tail is cut; its bytes are kept in `<id>.d/torn-<time>`.
//! - Rotten lines stay where they are (the log is never rewritten), are passed over by every reader, and are reported.
//! - A file without a readable header is set aside as `<id>.log.bad-<time>`, its projection with it: that conversation is not found.
//! - A message without a terminal record gets `interrupted` with the text of its pieces, unless its run is parked on an approval,
//!   or was decided on and had not gone on yet.
//!
//! **No resume loops.** A resumed run that dies has left a record behind the decision (a phase, a tool call …): it is interrupted,
//! not resumed again. One that dies before its first record is counted: each opening writes one `reserve` record behind the
//! decision, and the fourth opening interrupts the run.
//!
//! **Numbers.** With nothing left open, numbering goes on behind the last record. Otherwise pieces may have been shown that no longer
//! exist, so it goes on behind the reservation; a rotten line behind the last readable reservation may have been one, and counts as one.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::base::ids::{ApprovalId, MessageId, SeedId, Seq, SessionId};
use crate::base::limits::{ANSWER_BYTES_MAX, MESSAGE_IDS_KEPT, SEQ_RESERVATION};
use crate::base::log;
use crate::store::StoreError;
use crate::store::core::Core;
use crate::store::lines::{Backward, Forward, Glance, end_of_lines};
use crate::store::log_file::LogFile;
use crate::store::projection::Shown;
use crate::store::record::{Body, Decision, Ending, Phase, Problem, Record};
use crate::store::session::{MessageState, Session, Waiting};
use crate::store::state::{self, About, State};
use crate::store::writer::Writer;
use crate::sys::disk::{Disk, DiskFile, Open, read_full};
use crate::wire::log_line::{Header, Opening, opening};

/// A header is one short line; an imported one carries the old metadata.
const HEADER_BYTES_MAX: u64 = 1024 * 1024;
/// Openings after a decision whose run left no record; then it is interrupted.
const RESUMES_MAX: u32 = 3;

/// Opens the session's log; `Ok(None)` where there is none. Blocking.
pub(crate) fn open(core: &Arc<Core>, id: SessionId) -> Result<Option<Arc<Session>>, StoreError> {
    let doing = || StoreError::of("opening session", id);
    let disk = core.disk();
    let path = core.files.log(id);
    if disk.stat(&path).map_err(doing())?.is_none() {
        return Ok(None);
    }
    let file: Arc<dyn DiskFile> = Arc::from(open_file(disk, &path).map_err(doing())?);
    let len = file.len().map_err(doing())?;
    if len == 0 {
        // Killed as it was made: nothing in it was ever acknowledged.
        disk.remove_file(&path).map_err(doing())?;
        return Ok(None);
    }
    let Some((header, start)) = read_header(core, id, file.as_ref(), len).map_err(|e| match e {
        HeaderError::Store(e) => e,
        HeaderError::Io(e) => doing()(e),
    })?
    else {
        return Ok(None);
    };
    let end = end_of_lines(file.as_ref(), len).map_err(doing())?;
    // Where the disk does not let us cut, the session is still read.
    let ragged = end < len && cut_torn_tail(core, id, file.as_ref(), end, len).is_err();
    let mut past = look_back(file.as_ref(), start, end).map_err(doing())?;
    // It may have been a whole line whose line feed rotted.
    past.rotten_since_reservation += u64::from(end < len);
    if past.rotten > 0 {
        log::warn("store", format_args!("session {id}: {} damaged lines are passed over", past.rotten));
    }
    let run = read_run(core, id, &past).map_err(doing())?;

    let mut about = past.about.clone();
    about.user_id = first_user(file.as_ref(), start, end).map_err(doing())?;
    // Readers wait for what is visible, so it must exist: pieces that stand for nothing any more do not.
    let visible = if run.file.is_some() { past.last.max(run.last) } else { past.last };
    let mut state = State::new(visible, Some(file.clone()), start, end, about);
    let mut repairs = Vec::new();
    let mut unclean = past.rotten_since_reservation > 0;
    let mut resumed = Vec::new();
    for (message, known, trace) in past.messages.into_iter().rev() {
        state.remember(message, known);
        let Some(trace) = trace else { continue };
        unclean = true;
        let (text, last_piece) = run.texts.get(&message).cloned().unwrap_or_default();
        match trace.fate(message, last_piece) {
            Fate::Waits(waiting) => state.wait_for(waiting),
            Fate::Resumes(waiting) => {
                state.wait_for(waiting);
                resumed.push(message);
            }
            Fate::Interrupted => repairs.push((message, interrupted(text, &trace))),
        }
    }
    repairs.reverse();
    let mut reserved = past.reserved;
    let mut next = past.last.max(run.last) + 1;
    if unclean {
        let hidden = SEQ_RESERVATION.saturating_add(1).saturating_mul(past.rotten_since_reservation);
        next = next.max(past.reserved.saturating_add(hidden).saturating_add(1));
        reserved = reserved.max(next - 1);
    }
    let writer = Writer {
        log: Some(if ragged { LogFile::ragged(file, end) } else { LogFile::new(file, end) }),
        run: run.file,
        run_messages: run.texts.into_keys().collect(),
        next,
        reserved,
        repairs,
        header,
        shown: Shown::unknown(),
        deleted: false,
    };
    let session = Session::new(core.clone(), writer, state);
    repair(&session, &resumed);
    Ok(Some(session))
}

/// Writes what the crash left out. Where the disk does not let us, the session is still read, and the next append tries again.
fn repair(session: &Arc<Session>, resumed: &[MessageId]) {
    let Ok(mut writer) = session.writer.clone().try_lock_owned() else { return };
    let interrupted = writer.repairs.len();
    let mended = session.mend(&mut writer).and_then(|()| {
        resumed.iter().try_for_each(|message| {
            let until = writer.next + SEQ_RESERVATION;
            session.write(&mut writer, *message, vec![Body::Reserve { until }])?;
            writer.reserved = writer.reserved.max(until);
            Ok(())
        })
    });
    match mended {
        Ok(()) if interrupted > 0 => {
            log::info("store", format_args!("session {}: {interrupted} unfinished messages closed as interrupted", session.id()));
        }
        Ok(()) => {}
        Err(e) => log::warn("store", format_args!("session {} not repaired yet: {e}", session.id())),
    }
    session.check_projection(&mut writer);
}

/// To read and write; where the disk has become read-only, to read.
fn open_file(disk: &dyn Disk, path: &Path) -> std::io::Result<Box<dyn DiskFile>> {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    match disk.open(path, Open::Append) {
        Err(e) if matches!(e.kind(), PermissionDenied | ReadOnlyFilesystem) => disk.open(path, Open::Read),
        other => other,
    }
}

enum HeaderError {
    Store(StoreError),
    Io(std::io::Error),
}

/// The header and where the first record begins; `None` where the file was set aside.
fn read_header(core: &Core, id: SessionId, file: &dyn DiskFile, len: u64) -> Result<Option<(Header, u64)>, HeaderError> {
    let mut lines = Forward::new(file, 0, len.min(HEADER_BYTES_MAX));
    let why = match lines.next().map_err(HeaderError::Io)? {
        Some(found) => match found.json.map(opening) {
            Some(Opening::Header(header)) if header.id == id => return Ok(Some((*header, found.end))),
            Some(Opening::Header(_)) => "its header names another session",
            Some(Opening::Newer(version)) => return Err(HeaderError::Store(StoreError::Newer { found: version })),
            Some(Opening::Unreadable) | None => "its header cannot be read",
        },
        None => "it ends within its header",
    };
    set_aside(core, id, why).map_err(HeaderError::Io)?;
    Ok(None)
}

/// Keeps the files of a session that cannot be read, under names that nothing opens.
fn set_aside(core: &Core, id: SessionId, why: &str) -> std::io::Result<()> {
    let time = core.now().millis();
    let aside = core.files.named(id, &format!("log.bad-{time}"));
    core.disk().rename(&core.files.log(id), &aside)?;
    let json = core.files.json(id);
    if core.disk().stat(&json)?.is_some() {
        // Importing it would give numbers away a second time.
        core.disk().rename(&json, &core.files.named(id, &format!("json.kept-{time}")))?;
    }
    core.disk().sync_dir(core.files.dir())?;
    log::error("store", format_args!("session {id} is set aside as {}: {why}", aside.display()));
    Ok(())
}

fn cut_torn_tail(core: &Core, id: SessionId, file: &dyn DiskFile, end: u64, len: u64) -> std::io::Result<()> {
    let torn = len - end;
    // Keeping it helps a curious person; on a full disk the repair itself matters more.
    let kept = keep_torn(core, id, file, end, torn.min(ANSWER_BYTES_MAX as u64));
    file.set_len(end)?;
    log::warn("store", format_args!("session {id}: {torn} bytes of an unfinished write are cut off (kept: {kept})"));
    Ok(())
}

fn keep_torn(core: &Core, id: SessionId, file: &dyn DiskFile, at: u64, len: u64) -> bool {
    let keep = || -> std::io::Result<()> {
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        let read = read_full(file, &mut bytes, at)?;
        let dir = core.files.blobs(id);
        core.disk().create_dir_all(&dir)?;
        let aside = core.disk().open(&dir.join(format!("torn-{}", core.now().millis())), Open::Append)?;
        aside.write_at(bytes.get(..read).unwrap_or_default(), 0)
    };
    keep().is_ok()
}

/// What the log says, read from its end as far back as it matters.
struct Past {
    last: Seq,
    reserved: Seq,
    rotten: u64,
    /// Rotten lines behind the last reservation that can be read.
    rotten_since_reservation: u64,
    about: About,
    /// Newest first; with what is known of the run where there is no terminal record.
    messages: Vec<(MessageId, MessageState, Option<Trace>)>,
}

/// What was seen of one message, on the way back.
#[derive(Default)]
struct Trace {
    terminal: Option<Seq>,
    /// Records met so far, that is, later ones; `reserve` counts on its own.
    later: u32,
    reserves: u32,
    /// The last question or answer.
    approval: Option<Asked>,
    has_state: bool,
    phase: Option<Phase>,
    seed: Option<SeedId>,
}

/// The newest record of an approval.
#[derive(Clone, Copy)]
struct Asked {
    id: ApprovalId,
    decision: Option<Decision>,
    seq: Seq,
    /// Records of the message behind it, `reserve` aside, and these.
    later: u32,
    reserves: u32,
}

enum Fate {
    Waits(Waiting),
    Resumes(Waiting),
    Interrupted,
}

impl Trace {
    /// `last_piece` is the seq of the newest piece of this message.
    fn fate(&self, message_id: MessageId, last_piece: Seq) -> Fate {
        let Some(asked) = self.approval.filter(|_| self.has_state) else { return Fate::Interrupted };
        let waiting = Waiting { message_id, approval_id: asked.id, decision: asked.decision };
        match asked.decision {
            None => Fate::Waits(waiting),
            Some(_) if asked.later == 0 && last_piece < asked.seq && asked.reserves < RESUMES_MAX => Fate::Resumes(waiting),
            Some(_) => Fate::Interrupted,
        }
    }
}

fn look_back(file: &dyn DiskFile, start: u64, end: u64) -> std::io::Result<Past> {
    let mut past = Past { last: 0, reserved: 0, rotten: 0, rotten_since_reservation: 0, about: About::default(), messages: Vec::new() };
    let mut traces: HashMap<MessageId, Trace> = HashMap::new();
    let mut reservation_seen = false;
    let mut lines = Backward::new(file, start, end);
    while past.messages.len() < MESSAGE_IDS_KEPT {
        let Some(back) = lines.next()? else { break };
        let Some(glance) = back.json.as_deref().and_then(Glance::of) else {
            past.rotten += 1;
            past.rotten_since_reservation += u64::from(!reservation_seen);
            continue;
        };
        past.last = past.last.max(glance.seq);
        let about = &mut past.about;
        about.active_seed_id = about.active_seed_id.or(glance.seed_id);
        let message = glance.message_id;
        if glance.kind == "message" {
            reservation_seen = true;
            past.reserved = past.reserved.max(glance.seq.saturating_add(SEQ_RESERVATION));
            about.space_id = about.space_id.or(glance.space_id);
            about.updated_at = about.updated_at.max(glance.time);
            let trace = traces.remove(&message).unwrap_or_default();
            let digest = match back.json.as_deref().and_then(|json| serde_json::from_slice::<Record>(json).ok()) {
                Some(Record { body: Body::Message(said), .. }) => state::digest(&said),
                _ => {
                    past.rotten += 1;
                    continue;
                }
            };
            let known = MessageState { seq: glance.seq, digest, terminal: trace.terminal };
            past.messages.push((message, known, trace.terminal.is_none().then_some(trace)));
            continue;
        }
        let trace = traces.entry(message).or_default();
        match glance.kind.as_ref() {
            "reserve" => {
                reservation_seen = true;
                past.reserved = past.reserved.max(glance.until.unwrap_or(0));
                trace.reserves += 1;
                continue;
            }
            "approval_requested" | "approval_resolved" => {
                if let (None, Some(id)) = (trace.approval, glance.approval_id) {
                    let (later, reserves) = (trace.later, trace.reserves);
                    trace.approval = Some(Asked { id, decision: glance.decision, seq: glance.seq, later, reserves });
                }
            }
            "checkpoint" => trace.has_state |= glance.state.is_some(),
            _ if glance.is_terminal() => {
                trace.terminal = trace.terminal.or(Some(glance.seq));
                about.updated_at = about.updated_at.max(glance.time);
            }
            _ => {}
        }
        trace.later += 1;
        trace.phase = trace.phase.or(glance.phase);
        trace.seed = trace.seed.or(glance.seed_id);
    }
    Ok(past)
}

/// The label of the first message. It lies right behind the header, unless something there is damaged.
fn first_user(file: &dyn DiskFile, start: u64, end: u64) -> std::io::Result<Option<String>> {
    let mut lines = Forward::new(file, start, end);
    for _ in 0..8 {
        let Some(found) = lines.next()? else { break };
        let glance = found.json.and_then(Glance::of);
        if let Some(user) = glance.and_then(|glance| glance.user_id) {
            return Ok(Some(user.into_owned()));
        }
    }
    Ok(None)
}

/// The pieces of unended messages.
struct Run {
    file: Option<LogFile>,
    last: Seq,
    /// The visible text so far of each open message that has pieces, and the seq of its newest one.
    texts: HashMap<MessageId, (String, Seq)>,
}

fn read_run(core: &Core, id: SessionId, past: &Past) -> std::io::Result<Run> {
    let path = core.files.run(id);
    let mut run = Run { file: None, last: 0, texts: HashMap::new() };
    let disk: &dyn Disk = core.disk();
    if disk.stat(&path)?.is_none() {
        return Ok(run);
    }
    let open: Vec<MessageId> = past.messages.iter().filter(|(_, _, trace)| trace.is_some()).map(|(id, ..)| *id).collect();
    let file: Arc<dyn DiskFile> = Arc::from(open_file(disk, &path)?);
    let len = file.len()?;
    let mut lines = Forward::new(file.as_ref(), 0, len);
    while let Some(found) = lines.next()? {
        let Some(record) = found.json.and_then(|json| serde_json::from_slice::<Record>(json).ok()) else { continue };
        run.last = run.last.max(record.seq);
        if !open.contains(&record.message_id) {
            continue;
        }
        let (text, last) = run.texts.entry(record.message_id).or_default();
        *last = record.seq;
        if let Body::Token { text: piece } = record.body {
            if text.len() + piece.len() <= ANSWER_BYTES_MAX {
                text.push_str(&piece);
            }
        }
    }
    let end = lines.offset();
    if run.texts.is_empty() {
        // Terminal records stand for all of it; only the removal was left out.
        remove(disk, &path);
        return Ok(run);
    }
    // What is torn is cut before the next piece.
    run.file = Some(if end < len { LogFile::ragged(file, end) } else { LogFile::new(file, end) });
    Ok(run)
}

fn remove(disk: &dyn Disk, path: &Path) {
    // What stays is removed at the next opening.
    let _ = disk.remove_file(path);
}

fn interrupted(text: String, trace: &Trace) -> Body {
    Body::Interrupted(Ending {
        text,
        phase: trace.phase.unwrap_or_default(),
        evaluation_passed: None,
        seed_id: trace.seed,
        error: Some(Problem {
            code: "interrupted".to_owned(),
            message: "the server stopped during this answer; what there was is kept, send the message again for a new one".to_owned(),
        }),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::base::random::Random;
    use crate::store::record::ToolOutcome;
    use crate::store::session::Session;
    use crate::store::testing::{Bench, done, kinds, read_on, say, token};

    async fn all(session: &Arc<Session>) -> Vec<String> {
        kinds(&read_on(&mut session.tail(0)).await)
    }
    fn asked(bench: &Bench) -> (ApprovalId, Vec<Body>) {
        let approval_id = ApprovalId::random(bench.random.as_ref());
        let requested = Body::ApprovalRequested {
            approval_id,
            call_id: "c1".into(),
            action: "write_file".into(),
            resource: "a.txt".into(),
            reason: "asked".into(),
            shown: json!({"path": "a.txt"}),
            digest: "0".repeat(64),
            expires_at: bench.seams().clock.now(),
        };
        let checkpoint = Body::Checkpoint { calls: 1, tokens: 2, seed_id: None, state: Some(json!({"secret plan": 1})) };
        (approval_id, vec![checkpoint, requested])
    }
    fn resolved(approval_id: ApprovalId) -> Body {
        Body::ApprovalResolved { approval_id, decision: Decision::Approved }
    }
    fn phase() -> Body {
        Body::Phase { phase: Phase::Execute, state: crate::store::record::PhaseState::Started, verdict: None, score: None, seed_id: None }
    }

    /// A log with two finished turns and one that runs, and what was acknowledged of it by which length.
    async fn small_log(bench: &Bench) -> (SessionId, Vec<u8>, Vec<(u64, &'static str)>) {
        let sid = bench.session_id();
        let sessions = bench.sessions();
        let session = sessions.load_or_create(sid, bench.owner()).await.unwrap();
        let path = bench.file(sid, "log");
        let len = || std::fs::metadata(&path).unwrap().len();
        let mut acknowledged = Vec::new();
        for (said, answer) in [("first question", "first answer"), ("second question", "second answer")] {
            let id = bench.message_id();
            session.accept(id, say(said)).await.unwrap();
            acknowledged.push((len(), said));
            session.append(id, vec![phase()]).await.unwrap();
            session.append(id, vec![done(answer)]).await.unwrap();
            acknowledged.push((len(), answer));
        }
        let id = bench.message_id();
        session.accept(id, say("third question")).await.unwrap();
        acknowledged.push((len(), "third question"));
        session.append(id, vec![token("so "), token("far")]).await.unwrap();
        let bytes = std::fs::read(&path).unwrap();
        (sid, bytes, acknowledged)
    }

    #[tokio::test]
    async fn cut_at_every_byte_what_was_acknowledged_is_there_in_order_and_once() {
        let bench = Bench::new();
        let (sid, bytes, acknowledged) = small_log(&bench).await;
        let run = std::fs::read(bench.file(sid, "run")).unwrap();
        let header = bytes.iter().position(|b| *b == b'\n').unwrap() + 1;
        for cut in header..=bytes.len() {
            std::fs::write(bench.file(sid, "log"), &bytes[..cut]).unwrap();
            std::fs::write(bench.file(sid, "run"), &run).unwrap();
            let _ = std::fs::remove_file(bench.file(sid, "json"));
            let sessions = bench.sessions();
            let session = sessions.load(sid, bench.owner()).await.unwrap();
            let records = read_on(&mut session.tail(0)).await;
            let text = records.concat();
            let places: Vec<usize> = acknowledged
                .iter()
                .filter(|(len, _)| *len <= cut as u64)
                .map(|(_, said)| {
                    assert_eq!(text.matches(&format!("\"{said}\"")).count(), 1, "cut at {cut}: {said}");
                    text.find(said).unwrap()
                })
                .collect();
            assert!(places.is_sorted(), "cut at {cut}");
            let seqs: Vec<u64> = records.iter().map(|r| serde_json::from_str::<Record>(r).unwrap().seq).collect();
            assert!(seqs.is_sorted_by(|a, b| a < b), "cut at {cut}: {seqs:?}");
            assert!(session.open_messages().is_empty(), "everything left open is closed");
            if cut == bytes.len() {
                assert!(text.contains(r#""kind":"interrupted","text":"so far""#), "{text}");
                assert!(session.last_seq() > 4096, "numbers that pieces may have had are not given again");
            }
            // It goes on, and the next opening finds nothing to repair.
            let id = bench.message_id();
            session.accept(id, say("more")).await.unwrap();
            session.append(id, vec![done("yes")]).await.unwrap();
            let before = all(&session).await;
            drop((session, sessions));
            let sessions = bench.sessions();
            let session = sessions.load(sid, bench.owner()).await.unwrap();
            assert_eq!(all(&session).await, before, "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn a_changed_byte_costs_at_most_the_lines_it_touches() {
        let bench = Bench::new();
        let (sid, bytes, acknowledged) = small_log(&bench).await;
        let header = bytes.iter().position(|b| *b == b'\n').unwrap() + 1;
        for at in (header..bytes.len()).step_by(7) {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            std::fs::write(bench.file(sid, "log"), &changed).unwrap();
            let _ = std::fs::remove_file(bench.file(sid, "run"));
            let sessions = bench.sessions();
            let session = sessions.load(sid, bench.owner()).await.unwrap();
            let text = read_on(&mut session.tail(0)).await.concat();
            let lost = acknowledged.iter().filter(|(_, said)| !text.contains(&format!("\"{said}\""))).count();
            assert!(lost <= 2, "byte {at}: {lost} lost");
            let next = session.accept(bench.message_id(), say("more")).await.unwrap();
            assert!(next.seq > 4096, "byte {at}: pieces may have had numbers up to there");
        }
    }

    #[tokio::test]
    async fn an_unreadable_header_sets_the_conversation_aside_and_touches_no_other() {
        let bench = Bench::new();
        let (sid, bytes, _) = small_log(&bench).await;
        let (other, _, _) = small_log(&bench).await;
        let mut changed = bytes.clone();
        changed[20] ^= 1;
        std::fs::write(bench.file(sid, "log"), &changed).unwrap();
        let sessions = bench.sessions();
        for _ in 0..2 {
            assert!(matches!(sessions.load(sid, bench.owner()).await, Err(StoreError::NotFound)));
        }
        let names: Vec<String> = std::fs::read_dir(bench.files()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        assert!(names.iter().any(|name| name.starts_with(&format!("{sid}.log.bad-"))), "{names:?}");
        assert!(names.iter().any(|name| name.starts_with(&format!("{sid}.json.kept-"))), "{names:?}");
        sessions.load(other, bench.owner()).await.unwrap();
    }

    #[tokio::test]
    async fn a_newer_format_is_left_alone() {
        let bench = Bench::new();
        let sid = bench.session_id();
        bench.home();
        let mut line = Vec::new();
        crate::wire::log_line::write(&mut line, br#"{"oxios_log":2,"new":"things"}"#);
        std::fs::write(bench.file(sid, "log"), &line).unwrap();
        let sessions = bench.sessions();
        assert!(matches!(sessions.load(sid, bench.owner()).await, Err(StoreError::Newer { found: 2 })));
        assert_eq!(std::fs::read(bench.file(sid, "log")).unwrap(), line);
    }

    #[tokio::test]
    async fn a_parked_run_stays_open_over_restarts_and_a_decided_one_is_resumed_at_most_three_times() {
        let bench = Bench::new();
        let (sid, id) = (bench.session_id(), bench.message_id());
        let (approval_id, parked) = asked(&bench);
        {
            let sessions = bench.sessions();
            let session = sessions.load_or_create(sid, bench.owner()).await.unwrap();
            session.accept(id, say("write it")).await.unwrap();
            session.append(id, vec![token("Shall I?")]).await.unwrap();
            session.append(id, parked).await.unwrap();
            assert!(!read_on(&mut session.tail(0)).await.concat().contains("secret plan"), "the state is not for readers");
        }
        for _ in 0..5 {
            let sessions = bench.sessions();
            let session = sessions.load(sid, bench.owner()).await.unwrap();
            assert_eq!(session.waiting(), [Waiting { message_id: id, approval_id, decision: None }]);
            assert_eq!(all(&session).await, ["1 message", "2 token", "3 checkpoint", "4 approval_requested"]);
            assert_eq!(session.last_checkpoint(id).await.unwrap(), Some(json!({"secret plan": 1})));
            assert!(!read_on(&mut session.tail(0)).await.concat().contains("secret plan"), "nor from disk");
        }
        {
            let sessions = bench.sessions();
            let session = sessions.load(sid, bench.owner()).await.unwrap();
            let seq = session.append(id, vec![resolved(approval_id)]).await.unwrap();
            assert!(seq > 4096, "pieces may have been shown up to there");
        }
        for _ in 0..3 {
            let sessions = bench.sessions();
            let session = sessions.load(sid, bench.owner()).await.unwrap();
            assert_eq!(session.waiting(), [Waiting { message_id: id, approval_id, decision: Some(Decision::Approved) }]);
            // The process dies before the resumed run leaves a record.
        }
        let sessions = bench.sessions();
        let session = sessions.load(sid, bench.owner()).await.unwrap();
        assert!(session.open_messages().is_empty());
        assert!(read_on(&mut session.tail(0)).await.concat().contains(r#""text":"Shall I?""#));
    }

    #[tokio::test]
    async fn a_resumed_run_that_left_a_record_or_a_piece_is_interrupted_not_resumed_again() {
        for sign in [phase(), token("on we go")] {
            let bench = Bench::new();
            let (sid, id) = (bench.session_id(), bench.message_id());
            let (approval_id, parked) = asked(&bench);
            {
                let sessions = bench.sessions();
                let session = sessions.load_or_create(sid, bench.owner()).await.unwrap();
                session.accept(id, say("write it")).await.unwrap();
                session.append(id, parked).await.unwrap();
                session.append(id, vec![resolved(approval_id)]).await.unwrap();
                assert_eq!(session.waiting().len(), 1);
                session.append(id, vec![sign]).await.unwrap();
                assert_eq!(session.waiting(), []);
            }
            let sessions = bench.sessions();
            let session = sessions.load(sid, bench.owner()).await.unwrap();
            assert!(session.open_messages().is_empty());
        }
    }

    /// Kills the process at every call of a conversation, reopens, and compares with what was acknowledged.
    #[tokio::test]
    async fn stopped_at_every_call_nothing_acknowledged_is_lost_and_no_number_is_given_twice() {
        for torn in [0, 30] {
            for k in 0.. {
                let bench = Bench::new();
                let (sid, ids) = (bench.session_id(), [bench.message_id(), bench.message_id()]);
                let home = bench.home();
                bench.disk.tear(torn);
                bench.disk.stop_after(Some(k));
                let sessions = crate::store::sessions::Sessions::open(&home, bench.owner(), Default::default());
                drop(home);
                let mut seen: Vec<String> = Vec::new();
                let mut stopped = false;
                let session = sessions.load_or_create(sid, bench.owner()).await.unwrap();
                let mut reader = session.tail(0);
                'talk: for id in ids {
                    let bodies = [
                        vec![token("a"), token("b")],
                        vec![Body::ToolCall { call_id: "1".into(), name: "w".into(), arguments: json!({}), risky: true }],
                        vec![Body::ToolResult { call_id: "1".into(), outcome: ToolOutcome::Ok, content: "r".into(), blob: None }],
                        vec![token("c"), done("abc")],
                    ];
                    stopped = session.accept(id, say("hello")).await.is_err();
                    if !stopped {
                        for bodies in bodies {
                            stopped = session.append(id, bodies).await.is_err();
                            if stopped {
                                break;
                            }
                        }
                    }
                    seen.extend(read_on(&mut reader).await);
                    if stopped {
                        break 'talk;
                    }
                }
                drop((session, sessions, reader));
                bench.disk.stop_after(None);
                let sessions = bench.sessions();
                let after = match sessions.load(sid, bench.owner()).await {
                    Ok(session) => read_on(&mut session.tail(0)).await,
                    Err(StoreError::NotFound) => Vec::new(),
                    Err(e) => panic!("{e}"),
                };
                let number = |json: &String| serde_json::from_str::<Record>(json).unwrap().seq;
                for record in &seen {
                    let same = after.iter().find(|other| number(other) == number(record));
                    match same {
                        Some(other) => assert_eq!(other, record, "torn {torn}, stopped after {k}"),
                        None => assert!(record.contains("\"token\""), "torn {torn}, stopped after {k}: {record} is lost"),
                    }
                }
                for id in ids {
                    let of = |kind: &str| after.iter().filter(|r| r.contains(&id.to_string()) && r.contains(kind)).count();
                    let ends = of(r#""kind":"done""#) + of(r#""kind":"interrupted""#);
                    assert_eq!(ends, of(r#""kind":"message""#), "torn {torn}, stopped after {k}: exactly one end");
                }
                if !stopped {
                    assert!(k > 15, "the loop went through all calls");
                    break;
                }
            }
        }
    }

    #[tokio::test]
    async fn a_full_disk_refuses_messages_and_still_ends_what_runs() {
        let bench = Bench::new();
        let sessions = bench.sessions();
        let session = sessions.load_or_create(bench.session_id(), bench.owner()).await.unwrap();
        let id = bench.message_id();
        session.accept(id, say("hello")).await.unwrap();
        session.append(id, vec![token("so far")]).await.unwrap();
        bench.disk.set_budget(Some(5));
        assert!(matches!(session.append(id, vec![token("more")]).await, Err(StoreError::DiskFull(_))));
        assert!(matches!(session.accept(bench.message_id(), say("another")).await, Err(StoreError::DiskFull(_))));
        assert!(!bench.dir.join("reserve").exists(), "the reserve is given up");
        bench.disk.set_budget(None); // the megabyte that the reserve gave
        bench.disk.set_free(Some(900_000));
        assert!(matches!(session.accept(bench.message_id(), say("another")).await, Err(StoreError::DiskFull(_))), "still full");
        session.append(id, vec![done("so far")]).await.unwrap();
        assert_eq!(all(&session).await, ["1 message", "3 done"].map(str::to_owned));
        bench.disk.set_free(None);
        bench.clock.advance(std::time::Duration::from_secs(5));
        let again = bench.message_id();
        session.accept(again, say("another")).await.unwrap();
        session.append(again, vec![done("yes")]).await.unwrap();
        assert!(bench.dir.join("reserve").exists());
        assert_eq!(all(&session).await, ["1 message", "3 done", "4 message", "5 done"].map(str::to_owned));
    }

    #[tokio::test]
    async fn a_failed_sync_acknowledges_nothing_and_the_log_goes_on() {
        let bench = Bench::new();
        let sessions = bench.sessions();
        let session = sessions.load_or_create(bench.session_id(), bench.owner()).await.unwrap();
        let id = bench.message_id();
        session.accept(id, say("hello")).await.unwrap();
        bench.disk.fail_syncs(1);
        assert!(session.append(id, vec![done("lost?")]).await.is_err());
        assert_eq!(session.last_seq(), 1, "nobody saw it");
        session.append(id, vec![done("kept")]).await.unwrap();
        assert!(matches!(session.append(id, vec![token("late")]).await, Err(StoreError::Ended)));
        let (sid, want) = (session.id(), all(&session).await);
        drop((session, sessions));
        let sessions = bench.sessions();
        let session = sessions.load(sid, bench.owner()).await.unwrap();
        assert_eq!(
            (all(&session).await, want),
            (vec!["1 message".to_owned(), "2 done".to_owned()], vec!["1 message".into(), "2 done".into()])
        );
    }

    #[tokio::test]
    async fn beyond_the_reservation_more_is_reserved_before_anything_is_shown() {
        let bench = Bench::new();
        let sessions = bench.sessions();
        let (sid, id) = (bench.session_id(), bench.message_id());
        let session = sessions.load_or_create(sid, bench.owner()).await.unwrap();
        session.accept(id, say("hello")).await.unwrap();
        let mut live = session.tail(0);
        for _ in 0..450 {
            session.append(id, vec![token("x"); 10]).await.unwrap();
        }
        let shown = session.last_seq();
        let records = kinds(&read_on(&mut live).await);
        assert_eq!(records.len() as u64, shown, "no holes");
        assert_eq!(records.iter().filter(|r| r.ends_with("reserve")).count(), 1);
        drop((session, live, sessions));
        std::fs::remove_file(bench.file(sid, "run")).unwrap(); // a power cut took the pieces
        let sessions = bench.sessions();
        let session = sessions.load(sid, bench.owner()).await.unwrap();
        assert!(session.last_seq() > shown + 1000, "{} {shown}", session.last_seq());
    }

    #[tokio::test]
    async fn a_message_is_accepted_once_and_its_id_means_one_content_also_after_a_restart() {
        let bench = Bench::new();
        let (sid, id) = (bench.session_id(), bench.message_id());
        for round in 0..2 {
            let sessions = bench.sessions();
            let session = sessions.load_or_create(sid, bench.owner()).await.unwrap();
            let accepted = session.accept(id, say("hello")).await.unwrap();
            assert_eq!((accepted.seq, accepted.fresh), (1, round == 0));
            assert!(matches!(session.accept(id, say("other")).await, Err(StoreError::Conflict)));
            let mut other = say("hello");
            other.user_id = "someone".into();
            assert!(matches!(session.accept(id, other).await, Err(StoreError::Conflict)));
            if round == 0 {
                session.append(id, vec![done("hi")]).await.unwrap();
            }
            let other_owner = crate::base::ids::OwnerId::derived(&[9; 32]);
            assert!(matches!(sessions.load(sid, other_owner).await, Err(StoreError::NotFound)));
            assert!(matches!(sessions.load_or_create(sid, other_owner).await, Err(StoreError::NotFound)));
        }
    }

    #[test]
    fn seeded_randomness_is_the_same_in_every_run() {
        let mut bytes = [0; 4];
        Bench::new().random.fill(&mut bytes);
        let mut again = [0; 4];
        Bench::new().random.fill(&mut again);
        assert_eq!(bytes, again);
    }
}
