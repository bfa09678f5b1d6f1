//! The writing side of a session: numbers, files, and the order in which things become true.
//!
//! For every batch: pieces are written to `<id>.run`, the rest to the log; the log is synced where a kind asks for it; after a
//! terminal record the projection is refreshed; then, and only then, readers see it; last, the pieces go.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::base::ids::{MessageId, Seq};
use crate::base::limits::{LOG_DEPTH_MAX, LOG_LINE_BYTES_MAX, SEQ_RESERVATION};
use crate::base::log;
use crate::store::StoreError;
use crate::store::atomic;
use crate::store::history::History;
use crate::store::home::Space;
use crate::store::log_file::LogFile;
use crate::store::projection::Shown;
use crate::store::record::{About, Body, Change, Record, UserMessage};
use crate::store::session::{Accepted, Entry, Session};
use crate::store::state;
use crate::sys::disk::{DiskFile, Open, is_failure, refusal};
use crate::wire::json;
use crate::wire::log_line::{self, Header};

/// What readers outside are told where the disk fails (EIO), not for want of space.
const WRITE_FAILED: &str = "a write to the disk of the home failed, and the server's log says how; it is tried anew every few seconds";

/// Held by one append at a time; lives as long as the session is open.
pub(crate) struct Writer {
    /// `None` until the first message of a new session.
    pub(crate) log: Option<LogFile>,
    pub(crate) run: Option<LogFile>,
    /// Unended messages with pieces in `run`.
    pub(crate) run_messages: Vec<MessageId>,
    /// The seq of the next record.
    pub(crate) next: Seq,
    /// Seqs up to this one may be shown before they are durable.
    pub(crate) reserved: Seq,
    /// Terminal records that a crash left out and that could not be written yet.
    pub(crate) repairs: Vec<(MessageId, Body)>,
    pub(crate) header: Header,
    pub(crate) shown: Shown,
    pub(crate) deleted: bool,
}

impl Writer {
    /// An append of these would only be a small write: no sync, nothing to mend.
    pub(crate) fn is_quick(&self, bodies: &[Body]) -> bool {
        let calm = self.repairs.is_empty()
            && !self.log.as_ref().is_none_or(LogFile::needs_mending)
            && !self.run.as_ref().is_some_and(LogFile::needs_mending);
        calm && self.next + bodies.len() as u64 <= self.reserved && !bodies.iter().any(Body::needs_sync)
    }
}

/// A batch ready to be written.
#[derive(Default)]
struct Batch {
    log: Vec<u8>,
    run: Vec<u8>,
    entries: Vec<Arc<Entry>>,
}

impl Batch {
    fn add(&mut self, record: Record) -> Result<(), StoreError> {
        let json = serde_json::to_vec(&record).map_err(|e| StoreError::Damaged(format!("a record cannot be written as JSON: {e}")))?;
        if json.len() + log_line::OVERHEAD_BYTES > LOG_LINE_BYTES_MAX {
            return Err(StoreError::TooLarge(format!("a {} record of {} bytes", record.body.kind(), json.len())));
        }
        if !json::depth_ok(&json, LOG_DEPTH_MAX) {
            return Err(StoreError::TooLarge(format!("a {} record that is nested too deeply to be read again", record.body.kind())));
        }
        let piece = record.body.is_piece();
        log_line::write(if piece { &mut self.run } else { &mut self.log }, &json);
        self.entries.push(Arc::new(Entry::new(record, json.into())));
        Ok(())
    }
}

impl Session {
    /// Blocking part of `accept_behind`.
    pub(crate) fn write_message(
        self: &Arc<Self>,
        w: &mut Writer,
        history: History,
        id: MessageId,
        message: UserMessage,
    ) -> Result<Accepted, StoreError> {
        if w.deleted {
            return Err(StoreError::NotFound);
        }
        let digest = state::digest(&message);
        if let Some(known) = self.state().find(id) {
            return if known.digest == digest { Ok(Accepted { seq: known.seq, fresh: false }) } else { Err(StoreError::Conflict) };
        }
        // With the writer in hand nobody moves the session meanwhile.
        if self.is_elsewhere(message.space_id) {
            return Err(StoreError::Elsewhere);
        }
        if let Space::Full { why } = self.core.home.space_now() {
            return Err(StoreError::DiskFull(why));
        }
        self.mend(w)?;
        let now = self.core.now();
        let mut batch = Batch::default();
        let mut seq = w.next;
        if self.is_blank() {
            // What a new session begins with stands before its first message, in the same write.
            let mut history = history;
            let about = About { instructions: history.instructions.take(), ..self.about() };
            if about != About::default() {
                batch.add(Record { seq, time: now, message_id: None, body: Body::About(about) })?;
                seq += 1;
            }
            for record in history.records(&self.core, self.id(), seq, now, &message) {
                batch.add(record)?;
                seq += 1;
            }
        }
        batch.add(Record { seq, time: now, message_id: Some(id), body: Body::Message(message) })?;
        match w.log {
            None => self.make_log(w, &batch.log)?,
            Some(_) => self.write_log(w, &batch.log, true, false)?,
        }
        w.next = seq + 1;
        w.reserved = w.reserved.max(seq + SEQ_RESERVATION);
        self.core.home.keep_time(now);
        self.core.pin(self);
        self.show(w, batch.entries, false);
        Ok(Accepted { seq, fresh: true })
    }

    /// Blocking part of `set_about`.
    pub(crate) fn write_about(self: &Arc<Self>, w: &mut Writer, change: Change) -> Result<About, StoreError> {
        if w.deleted {
            return Err(StoreError::NotFound);
        }
        let about = self.about().with(change);
        if w.log.is_none() {
            self.state().overview.about = about.clone();
            return Ok(about);
        }
        if about == self.about() {
            return Ok(about);
        }
        if let Space::Full { why } = self.core.home.space_now() {
            return Err(StoreError::DiskFull(why));
        }
        self.mend(w)?;
        let (now, seq) = (self.core.now(), w.next);
        let mut batch = Batch::default();
        batch.add(Record { seq, time: now, message_id: None, body: Body::About(about.clone()) })?;
        self.write_log(w, &batch.log, true, false)?;
        w.next = seq + 1;
        self.show(w, batch.entries, false);
        self.show_about(w);
        Ok(about)
    }

    /// Blocking part of `append`.
    pub(crate) fn write(self: &Arc<Self>, w: &mut Writer, message: MessageId, bodies: Vec<Body>) -> Result<Seq, StoreError> {
        if w.deleted {
            return Err(StoreError::NotFound);
        }
        self.mend(w)?;
        self.write_now(w, message, bodies)
    }

    /// Takes away for good what failed writes left, and writes the terminal records that a crash left out.
    pub(crate) fn mend(self: &Arc<Self>, w: &mut Writer) -> Result<(), StoreError> {
        // Log and pieces share their numbers: what was refused in one file may not come back under one that the other was given since.
        self.open_for_writing(w)?;
        for file in [&mut w.log, &mut w.run].into_iter().flatten().filter(|file| file.needs_mending()) {
            let mut mended = file.mend();
            if let Some(why) = mended.as_ref().err().and_then(refusal) {
                // As where a record does not fit: what ends, cancels or approves must come through.
                self.core.home.give_up_reserve(why);
                mended = file.mend();
            }
            mended.map_err(self.unwritten("mending the log of session"))?;
            if self.state().open_messages().is_empty() {
                self.core.unpin(self.id());
            }
        }
        while let Some((message, body)) = w.repairs.pop() {
            match self.write_now(w, message, vec![body.clone()]) {
                Ok(_) | Err(StoreError::Ended) => {}
                Err(e) => {
                    w.repairs.push((message, body));
                    return Err(e);
                }
            }
        }
        Ok(())
    }

    fn write_now(self: &Arc<Self>, w: &mut Writer, message: MessageId, bodies: Vec<Body>) -> Result<Seq, StoreError> {
        match self.state().find(message) {
            None => return Err(StoreError::NotFound),
            Some(known) if known.terminal.is_some() => return Err(StoreError::Ended),
            Some(_) => {}
        }
        let count = bodies.len();
        let odd = bodies
            .iter()
            .enumerate()
            .any(|(i, body)| matches!(body, Body::Message(_) | Body::About(_)) || (body.ending().is_some() && i + 1 < count));
        if odd || count == 0 {
            return Err(StoreError::Damaged("an append needs records, a terminal one only as the last, and no message".to_owned()));
        }
        let ends = bodies.last().is_some_and(|body| body.ending().is_some());
        let pieces = bodies.iter().any(Body::is_piece);
        let synced = bodies.iter().any(Body::needs_sync);
        let count = count as u64;
        // What is durable before it is shown needs no reservation.
        let reserve = (pieces || !synced) && w.next + count - 1 > w.reserved;
        let reserved = if reserve { w.next + count + SEQ_RESERVATION } else { w.reserved };

        let now = self.core.now();
        let mut batch = Batch::default();
        let mut seq = w.next;
        for body in reserve.then_some(Body::Reserve { until: reserved }).into_iter().chain(bodies) {
            batch.add(Record { seq, time: now, message_id: Some(message), body })?;
            seq += 1;
        }
        let run_before = w.run.as_ref().map(LogFile::len);
        if pieces {
            self.write_run(w, &batch.run)?;
        }
        let written = if batch.log.is_empty() { Ok(()) } else { self.write_log(w, &batch.log, synced || reserve, true) };
        if let Err(e) = written {
            if let (true, Some(run)) = (pieces, &mut w.run) {
                run.take_back(run_before.unwrap_or(0));
            }
            return Err(e);
        }
        w.next = seq;
        w.reserved = reserved;
        if pieces && !w.run_messages.contains(&message) {
            w.run_messages.push(message);
        }
        if ends {
            w.run_messages.retain(|id| *id != message);
            self.refresh_projection(w, &batch.entries);
        }
        let gone = if ends && w.run_messages.is_empty() { w.run.take() } else { None };
        self.show(w, batch.entries, gone.is_some());
        if gone.is_some() {
            self.remove_run();
        }
        if ends && self.state().open_messages().is_empty() {
            self.core.unpin(self.id());
        }
        Ok(seq - 1)
    }

    /// There is no record yet.
    pub(crate) fn is_blank(&self) -> bool {
        let state = self.state();
        state.log_len == state.log_start
    }

    /// Makes it visible; where the pieces are about to go, in the same moment in which their terminal record is seen.
    fn show(&self, w: &Writer, entries: Vec<Arc<Entry>>, pieces_go: bool) {
        let log_len = w.log.as_ref().map_or(0, LogFile::len);
        let messages = entries.iter().filter(|e| matches!(e.record.body, Body::Message(_))).count() as u64;
        let change = {
            let mut state = self.state();
            let before = if state.log_len == state.log_start { 0 } else { state.log_len };
            // Pieces are not in the log, and the listing knows nothing of them.
            let logged = log_len != state.log_len;
            state.publish(entries, log_len);
            state.run_generation += u64::from(pieces_go);
            logged.then(|| (before, state.overview.clone(), !state.open_messages().is_empty()))
        };
        self.bell.ring();
        if let Some((before, about, open)) = change {
            self.core.index.changed(self.id(), self.owner(), self.created_at(), &about, messages, open, before, log_len);
        }
    }

    fn write_log(self: &Arc<Self>, w: &mut Writer, lines: &[u8], sync: bool, may_use_reserve: bool) -> Result<(), StoreError> {
        let doing = || self.unwritten("writing the log of session");
        if sync {
            // A synced line in a file whose name is lost is lost.
            self.core.durability.sure_of_names().map_err(doing())?;
        }
        self.open_for_writing(w)?;
        let Some(file) = &mut w.log else { return Err(StoreError::NotFound) };
        let mut result = file.append(lines, sync);
        if let Some(why) = result.as_ref().err().and_then(refusal) {
            // From now on new messages are refused; what ends, cancels or approves goes through.
            self.core.home.give_up_reserve(why);
            if may_use_reserve {
                result = file.append(lines, sync);
            }
        }
        self.stay_until_mended(w);
        result.map_err(doing())
    }

    /// A log that could only be read when the session was opened is opened once more: the disk may take something by now.
    fn open_for_writing(&self, w: &mut Writer) -> Result<(), StoreError> {
        let Some(log) = w.log.as_mut().filter(|log| log.is_read_only()) else { return Ok(()) };
        let file =
            self.core.disk().open(&self.core.files.log(self.id()), Open::Append).map_err(self.unwritten("opening the log of session"))?;
        log.reopen(Arc::from(file));
        Ok(())
    }

    /// What was refused may still lie in the file, and only this writer knows: whoever opened it anew would show it.
    fn stay_until_mended(self: &Arc<Self>, w: &Writer) {
        if w.log.as_ref().is_some_and(LogFile::needs_mending) {
            self.core.pin(self);
        }
    }

    fn write_run(&self, w: &mut Writer, lines: &[u8]) -> Result<(), StoreError> {
        let doing = || self.unwritten("writing pieces of session");
        let run = match &mut w.run {
            Some(run) => run,
            none => {
                let file = self.core.disk().open(&self.core.files.run(self.id()), Open::Append).map_err(doing())?;
                file.set_len(0).map_err(doing())?;
                none.insert(LogFile::new(Arc::from(file), 0))
            }
        };
        run.append(lines, false).map_err(doing())
    }

    /// What a failed write of this session is called: a state of the disk, which readiness tells from then on, too (THREATS 27).
    fn unwritten(&self, doing: &'static str) -> impl FnOnce(io::Error) -> StoreError {
        let (home, id) = (self.core.home.clone(), self.id());
        move |error| {
            if let Some(why) = refusal(&error) {
                home.give_up_reserve(why);
            } else if is_failure(&error) {
                log::error("store", format_args!("{doing} {id}: {error}"));
                home.doubt_disk(WRITE_FAILED);
                return StoreError::DiskFull(WRITE_FAILED.to_owned());
            }
            StoreError::of(doing, id)(error)
        }
    }

    /// Removes the pieces: their terminal records stand for them.
    fn remove_run(&self) {
        if let Err(e) = self.core.disk().remove_file(&self.core.files.run(self.id())) {
            // Found and removed when the session is next opened; `write_run` empties it first.
            log::warn("store", format_args!("pieces of session {} not removed: {e}", self.id()));
        }
    }

    /// Makes the log of a new session with its first lines: under its name it is whole, or not there.
    fn make_log(self: &Arc<Self>, w: &mut Writer, lines: &[u8]) -> Result<(), StoreError> {
        let doing = || self.unwritten("making the log of session");
        let (path, disk) = (self.core.files.log(self.id()), self.core.disk());
        if disk.stat(&path).map_err(doing())?.is_some() {
            return Err(StoreError::of("making the log of session", self.id())(io::ErrorKind::AlreadyExists.into()));
        }
        let mut bytes = Vec::new();
        let json = serde_json::to_vec(&w.header).map_err(|e| StoreError::Damaged(e.to_string()))?;
        log_line::write(&mut bytes, &json);
        let start = bytes.len() as u64;
        bytes.extend_from_slice(lines);
        let file: Arc<dyn DiskFile> = match atomic::put(disk, &path, &bytes) {
            Ok(file) => Arc::from(file),
            Err(e) => return Err(doing()(e)),
        };
        let mut log = LogFile::new(file.clone(), bytes.len() as u64);
        let named = self.core.durability.sync_names();
        if named.is_err() {
            // The header stays; what comes next is added to it.
            log.take_back(start);
        }
        let mut state = self.state();
        (state.log, state.log_start, state.log_len) = (Some(file), start, start);
        drop(state);
        w.log = Some(log);
        self.stay_until_mended(w);
        named.map_err(doing())
    }
}

impl Entry {
    /// The entry of a record whose stored JSON this is.
    pub(crate) fn new(record: Record, stored: Bytes) -> Self {
        let json = match &record.body {
            Body::Checkpoint { calls, tokens, seed_id, state: Some(_) } => {
                let body = Body::Checkpoint { calls: *calls, tokens: *tokens, seed_id: *seed_id, state: None };
                let public = Record { seq: record.seq, time: record.time, message_id: record.message_id, body };
                serde_json::to_vec(&public).map(Bytes::from).unwrap_or_default()
            }
            _ => stored,
        };
        let (seq, message_id, kind) = (record.seq, record.message_id, record.body.kind());
        let terminal = record.body.ending().is_some();
        Self { seq, kind, message_id, record, json, terminal }
    }
}
