//! Opening a session from its files, and repairing what a crash or a bad disk left.
//!
//! - A torn tail is cut; its bytes are kept in `<id>.d/torn-<time>`.
//! - Rotten lines stay where they are (the log is never rewritten), are passed over by every reader, and are reported.
//! - A file without a readable header is set aside as `<id>.log.bad` (an earlier one there gets a time behind its name), its
//!   projection with it. That conversation is not found, and its id refused while the file lies there: another one under it would
//!   give its numbers a second meaning.
//! - A message without a terminal record gets `interrupted` with the text of its pieces, unless its run is parked on an approval,
//!   or was decided on and had not gone on yet.
//!
//! **No resume loops.** A resumed run that dies has left a record behind the decision (a phase, a tool call …): it is interrupted,
//! not resumed again. One that dies before its first record is counted: each opening writes one `reserve` record behind the
//! decision, and the fourth opening interrupts the run.
//!
//! **Numbers.** With nothing left open, numbering goes on behind the last record. Otherwise pieces may have been shown that no longer
//! exist, so it goes on behind the reservation; a rotten line behind the last readable reservation may have been one, and counts as one.
//! Where syncs are put off (`session.sync_secs`), records that were shown may be gone, and it always goes on behind the reservation.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::base::ids::{ApprovalId, MessageId, SeedId, Seq, SessionId};
use crate::base::limits::{ANSWER_BYTES_MAX, MESSAGE_IDS_KEPT, SEQ_RESERVATION};
use crate::base::log;
use crate::store::StoreError;
use crate::store::atomic;
use crate::store::core::Core;
use crate::store::lines::{Backward, Forward, Glance, end_of_lines};
use crate::store::log_file::LogFile;
use crate::store::projection::Shown;
use crate::store::record::{About, Body, Decision, Ending, Phase, Problem, Record, UserMessage};
use crate::store::session::{MessageState, Session, Waiting};
use crate::store::state::{self, Overview, State};
use crate::store::writer::Writer;
use crate::sys::disk::{Disk, DiskFile, Open, read_full};
use crate::wire::log_line::{Header, Opening, opening};
use crate::wire::title;

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
    let (file, read_only) = open_file(disk, &path).map_err(doing())?;
    let len = file.len().map_err(doing())?;
    if len == 0 {
        // A log appears whole, so this is none of ours; there is nothing in it to be kept.
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

    let mut overview = past.overview.clone();
    if let Some(first) = first_message(file.as_ref(), start, end).map_err(doing())? {
        overview.opening = title::of(&first.content);
        overview.user_id = Some(first.user_id);
    }
    if overview.about_seq == 0 {
        overview.about.title = header.origin.as_ref().and_then(|origin| origin.title());
    }
    // Readers wait for what is visible, so it must exist: pieces that stand for nothing any more do not.
    let visible = if run.file.is_some() { past.shown.max(run.last) } else { past.shown };
    let mut state = State::new(visible, Some(file.clone()), start, end, overview);
    let mut repairs = Vec::new();
    // Records may be gone that readers saw.
    let mut unclean = past.rotten_since_reservation > 0 || core.settings.load().sync_secs > 0;
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
    let log = if ragged { LogFile::ragged(file, end) } else { LogFile::new(file, end) };
    let writer = Writer {
        log: Some(if read_only { log.read_only() } else { log }),
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

/// To read and write; where that is not allowed now, to read, which is said.
fn open_file(disk: &dyn Disk, path: &Path) -> std::io::Result<(Arc<dyn DiskFile>, bool)> {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    match disk.open(path, Open::Append) {
        Err(e) if matches!(e.kind(), PermissionDenied | ReadOnlyFilesystem) => Ok((Arc::from(disk.open(path, Open::Read)?), true)),
        other => Ok((Arc::from(other?), false)),
    }
}

enum HeaderError {
    Store(StoreError),
    Io(std::io::Error),
}

/// The header and where the first record begins; `None` where the file was set aside.
fn read_header(core: &Core, id: SessionId, file: &dyn DiskFile, len: u64) -> Result<Option<(Header, u64)>, HeaderError> {
    match first_line(file, id, len).map_err(HeaderError::Io)? {
        First::Header(header, end) => Ok(Some((*header, end))),
        First::Newer(found) => Err(HeaderError::Store(StoreError::Newer { found })),
        First::Bad(why) => {
            set_aside(core, id, why).map_err(HeaderError::Io)?;
            Ok(None)
        }
    }
}

/// What stands first in a log.
enum First {
    /// Its header, and where the first record begins.
    Header(Box<Header>, u64),
    Newer(u64),
    Bad(&'static str),
}

fn first_line(file: &dyn DiskFile, id: SessionId, len: u64) -> std::io::Result<First> {
    let mut lines = Forward::new(file, 0, len.min(HEADER_BYTES_MAX));
    Ok(match lines.next()? {
        Some(found) => match found.json.map(opening) {
            Some(Opening::Header(header)) if header.id == id => First::Header(header, found.end),
            Some(Opening::Header(_)) => First::Bad("its header names another session"),
            Some(Opening::Newer(version)) => First::Newer(version),
            Some(Opening::Unreadable) | None => First::Bad("its header cannot be read"),
        },
        None => First::Bad("it ends within its header"),
    })
}

/// What opening a log would make of it, without touching it.
pub(crate) enum Health {
    /// It is read; so many of its lines are passed over.
    Good { rotten: u64 },
    /// A newer version wrote it.
    Newer(u64),
    /// It would be set aside, with all that belongs to it.
    SetAside(&'static str),
}

/// Reads a log as [`open`] and its readers do.
pub(crate) fn examine(file: &dyn DiskFile, id: SessionId) -> std::io::Result<Health> {
    let len = file.len()?;
    let start = match first_line(file, id, len)? {
        First::Header(_, end) => end,
        First::Newer(version) => return Ok(Health::Newer(version)),
        First::Bad(why) => return Ok(Health::SetAside(why)),
    };
    look_back(file, start, end_of_lines(file, len)?)?;
    let (mut lines, mut rotten) = (Forward::new(file, start, len), 0);
    while let Some(line) = lines.next()? {
        rotten += u64::from(line.json.and_then(Glance::of).is_none());
    }
    Ok(Health::Good { rotten })
}

/// Keeps the files of a session that cannot be read, under names that nothing opens.
fn set_aside(core: &Core, id: SessionId, why: &str) -> std::io::Result<()> {
    let time = core.now().millis();
    let json = core.files.json(id);
    if core.disk().stat(&json)?.is_some() {
        // First, because without its log it would be imported, and numbers given away a second time.
        core.disk().rename(&json, &core.files.named(id, &format!("json.kept-{time}")))?;
        core.durability.sync_names()?;
    }
    let aside = core.files.bad(id);
    if core.disk().stat(&aside)?.is_some() {
        core.disk().rename(&aside, &core.files.named(id, &format!("log.bad-{time}")))?;
    }
    core.disk().rename(&core.files.log(id), &aside)?;
    core.durability.sync_names()?;
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
        atomic::make_dir(core.disk(), &dir)?;
        let aside = core.disk().open(&dir.join(format!("torn-{}", core.now().millis())), Open::Append)?;
        aside.write_at(bytes.get(..read).unwrap_or_default(), 0)
    };
    keep().is_ok()
}

/// What the log says, read from its end as far back as it matters.
struct Past {
    /// The highest number that was given.
    last: Seq,
    /// The same without lines at the end that no reader is shown: a later version of the program may have written them.
    shown: Seq,
    reserved: Seq,
    rotten: u64,
    /// Rotten lines behind the last reservation that can be read.
    rotten_since_reservation: u64,
    overview: Overview,
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
    let mut past = Past {
        last: 0,
        shown: 0,
        reserved: 0,
        rotten: 0,
        rotten_since_reservation: 0,
        overview: Overview::default(),
        messages: Vec::new(),
    };
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
        if past.shown > 0 || back.json.as_deref().is_some_and(|json| serde_json::from_slice::<Record>(json).is_ok()) {
            past.shown = past.shown.max(glance.seq);
        }
        let overview = &mut past.overview;
        overview.active_seed_id = overview.active_seed_id.or(glance.seed_id);
        let Some(message) = glance.message_id else {
            take_about(overview, back.json.as_deref().unwrap_or_default());
            continue;
        };
        if glance.kind == "message" {
            reservation_seen = true;
            past.reserved = past.reserved.max(glance.seq.saturating_add(SEQ_RESERVATION));
            if overview.about_seq == 0 {
                overview.about.space_id = overview.about.space_id.or(glance.space_id);
            }
            overview.updated_at = overview.updated_at.max(glance.time);
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
                overview.updated_at = overview.updated_at.max(glance.time);
            }
            _ => {}
        }
        trace.later += 1;
        trace.phase = trace.phase.or(glance.phase);
        trace.seed = trace.seed.or(glance.seed_id);
    }
    // Of a very long session the messages further back are not wanted, what is true of all of it is.
    while past.overview.about_seq == 0 {
        let Some(back) = lines.next()? else { break };
        let json = back.json.unwrap_or_default();
        if Glance::of(&json).is_some_and(|glance| glance.message_id.is_none()) {
            take_about(&mut past.overview, &json);
        }
    }
    Ok(past)
}

/// Takes over an `about` record, if it is the newest one. A message behind it that named a space has moved the session on.
fn take_about(overview: &mut Overview, json: &[u8]) {
    if overview.about_seq > 0 {
        return;
    }
    if let Ok(Record { seq, body: Body::About(about), .. }) = serde_json::from_slice(json) {
        overview.about = About { space_id: overview.about.space_id.or(about.space_id), ..about };
        overview.about_seq = seq;
    }
}

/// The first message that says something a title can be made of, else the first one (that of an imported conversation may be empty).
/// It lies right behind the header, unless something there is damaged.
pub(crate) fn first_message(file: &dyn DiskFile, start: u64, end: u64) -> std::io::Result<Option<UserMessage>> {
    let mut lines = Forward::new(file, start, end);
    let mut first = None;
    for _ in 0..8 {
        let Some(found) = lines.next()? else { break };
        let record = found.json.and_then(|json| serde_json::from_slice::<Record>(json).ok());
        if let Some(Record { body: Body::Message(message), .. }) = record {
            if title::of(&message.content).is_some() {
                return Ok(Some(message));
            }
            first.get_or_insert(message);
        }
    }
    Ok(first)
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
    // Pieces of a run that is over are only read; a run that goes on begins them anew.
    let (file, _) = open_file(disk, &path)?;
    let len = file.len()?;
    let mut lines = Forward::new(file.as_ref(), 0, len);
    while let Some(found) = lines.next()? {
        let Some(record) = found.json.and_then(|json| serde_json::from_slice::<Record>(json).ok()) else { continue };
        run.last = run.last.max(record.seq);
        let Some(message) = record.message_id.filter(|id| open.contains(id)) else { continue };
        let (text, last) = run.texts.entry(message).or_default();
        *last = record.seq;
        match record.body {
            Body::Token { text: piece } if text.len() + piece.len() <= ANSWER_BYTES_MAX => text.push_str(&piece),
            _ => {}
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
        asks: false,
        error: Some(Problem {
            code: "interrupted".to_owned(),
            message: "the server stopped during this answer; what there was is kept, send the message again for a new one".to_owned(),
        }),
    })
}

#[cfg(test)]
mod tests;
