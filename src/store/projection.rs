//! The session in its documented shape (API A5): a projection of the log, streamed to readers and kept as `<id>.json`.
//!
//! The file ends with `"log":{"seq":N,"digest":"…"}}}`: it shows the log up to seq N, and the digest is SHA-256 over all bytes before
//! it. So three kinds of files can be told apart before one is replaced: ours, the one this session was imported from, and one
//! that someone edited or restored; that one is kept as `<id>.json.kept-<time>`. A file that is no JSON at all (a power cut; it is
//! never synced) is just replaced.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::base::digest::{Sha256, hex};
use crate::base::ids::{Seq, SessionId};
use crate::base::limits::{IMPORT_BYTES_MAX, PROJECTION_EAGER_BYTES_MAX};
use crate::base::log;
use crate::store::StoreError;
use crate::store::atomic::{self, Durable};
use crate::store::lines::{Forward, Glance, PAGE_BYTES, seek};
use crate::store::record::{Body, Record};
use crate::store::session::{Entry, Session, blocking};
use crate::store::sessions::Projection;
use crate::store::state::Overview;
use crate::store::writer::Writer;
use crate::sys::disk::{Disk, DiskFile, FileStat, Open, read_full, read_whole};
use crate::wire::log_line::{Header, Origin};

/// What is known of a session's `.json`.
pub(crate) struct Shown {
    /// The two lists as JSON, while they are small: so that a turn adds to them instead of reading the log again.
    small: Option<Lists>,
    /// It is too large to be written at every turn.
    large: bool,
    /// The file as we left it; `None`: look at it before replacing it.
    known: Option<FileStat>,
    /// How long the log was when it was written.
    log_len: u64,
    /// The log has turns that it does not show.
    behind: bool,
}

impl Shown {
    pub(crate) fn unknown() -> Self {
        Self { small: None, large: false, known: None, log_len: 0, behind: false }
    }
}

/// The documented JSON of a session in pieces of about 64 KiB, as far as the log was visible when it was asked for.
pub struct Detail {
    /// Moved into a blocking task for each piece; `None` after an error.
    stream: Option<Stream>,
}

impl Detail {
    pub(crate) fn new(session: Arc<Session>) -> Self {
        let state = session.state();
        let (log, start, end, seq, mut about) = (state.log.clone(), state.log_start, state.log_len, state.visible, state.overview.clone());
        drop(state);
        // What a fork copies is older than it.
        about.updated_at = about.updated_at.max(session.created_at());
        let facts = Facts { id: session.id(), owner: session.owner().to_string(), created: session.created_at().to_string(), about, seq };
        // The header's origin is with the writer, which may be busy; it is read from the log again.
        Self { stream: Some(Stream { facts, origin: None, log, start, at: start, end, part: Part::Head, first: true, of_file: false }) }
    }
    /// The next piece; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        let Some(mut stream) = self.stream.take() else { return Ok(None) };
        let (piece, stream) = blocking(move || {
            let id = stream.facts.id;
            let piece = stream.next().map_err(StoreError::of("reading session", id))?;
            Ok((piece, stream))
        })
        .await?;
        self.stream = Some(stream);
        Ok(piece.map(Bytes::from))
    }
}

impl Session {
    /// Brings the `.json` up to the log behind a terminal record that is durable and not yet visible. Its failure fails no turn.
    pub(crate) fn refresh_projection(&self, w: &mut Writer, fresh: &[Arc<Entry>]) {
        w.shown.behind = true;
        let mut about = self.state().overview.clone();
        for entry in fresh {
            if let Some(ending) = entry.record.body.ending() {
                about.updated_at = entry.record.time;
                about.active_seed_id = ending.seed_id.or(about.active_seed_id);
            }
        }
        let seq = fresh.last().map_or(0, |entry| entry.seq);
        let done = if self.core.settings.load().projection == Projection::Lazy { Ok(()) } else { self.project(w, &about, seq, false) };
        self.after_projection(w, done);
    }

    /// Looks at the `.json` when the session is opened: a small one that is behind, missing or edited is written (and the edited one
    /// kept); of a large one it is only seen how far it goes.
    pub(crate) fn check_projection(&self, w: &mut Writer) {
        let disk = self.core.disk();
        let path = self.core.files.json(self.id());
        let (about, seq, last_end) = self.newest();
        let Ok(stat) = disk.stat(&path) else { return };
        let shown = match stat {
            None => Some(0),
            Some(stat) if stat.size > PROJECTION_EAGER_BYTES_MAX => {
                w.shown.large = true;
                let shown = shown_by(disk, &path, stat.size).unwrap_or(0);
                let (log, start, end) = (w.log.as_ref(), self.state().log_start, Self::log_end(w));
                w.shown.log_len = log.and_then(|log| seek(log.file().as_ref(), start, end, shown).ok()).unwrap_or(end);
                Some(shown)
            }
            Some(stat) => match whose(disk, &path, w.header.origin.as_ref()) {
                Ok(Whose::Ours(shown)) => {
                    w.shown.known = Some(stat);
                    Some(shown)
                }
                // It stays as it is until the session's next turn.
                Ok(Whose::Imported) => Some(last_end),
                Ok(Whose::Edited | Whose::Garbage) => None,
                Err(_) => return,
            },
        };
        if shown.is_some_and(|shown| shown >= last_end) {
            return;
        }
        w.shown.behind = true;
        let eager = self.core.settings.load().projection == Projection::Eager && !w.shown.large;
        let done = if eager { self.project(w, &about, seq, false) } else { Ok(()) };
        self.after_projection(w, done);
    }

    /// Brings the `.json` up to an `about` record. Its failure fails nothing.
    pub(crate) fn show_about(&self, w: &mut Writer) {
        w.shown.behind = true;
        let (about, seq, _) = self.newest();
        let lazy = self.core.settings.load().projection == Projection::Lazy;
        let done = if lazy { Ok(()) } else { self.project(w, &about, seq, false) };
        self.after_projection(w, done);
    }

    /// Writes the `.json` where it is behind; for the shutdown.
    pub(crate) fn finish_projection(&self, w: &mut Writer) {
        if !w.shown.behind || w.deleted {
            return;
        }
        let (about, seq, _) = self.newest();
        let done = self.project(w, &about, seq, true);
        self.after_projection(w, done);
    }

    /// What there is to show, its seq, and the seq of the last record that a projection shows.
    fn newest(&self) -> (Overview, Seq, Seq) {
        let state = self.state();
        (state.overview.clone(), state.visible, state.last_end().max(state.overview.about_seq))
    }

    fn after_projection(&self, w: &Writer, done: io::Result<()>) {
        if let Err(e) = done {
            log::warn("store", format_args!("the projection of session {} is not written: {e}", self.id()));
        }
        self.core.behind(self.id(), w.shown.behind);
    }

    /// Writes the file if it is small, if the log has doubled since it was last written, or if it must be.
    fn project(&self, w: &mut Writer, about: &Overview, seq: Seq, must: bool) -> io::Result<()> {
        let Some(log) = w.log.as_ref().map(|log| log.file().clone()) else { return Ok(()) };
        let (start, end) = (self.state().log_start, Self::log_end(w));
        let facts = Facts::of(self, about, seq);
        let origin = w.header.origin.clone();
        let path = self.core.files.json(self.id());
        if !w.shown.large {
            // Taken out, so that lists that were half read are not used again.
            let mut lists = w.shown.small.take().unwrap_or_else(|| Lists::from(start));
            if lists.read_on(self.id(), log.as_ref(), end)? {
                let mut bytes = facts.head(false);
                bytes.extend_from_slice(&lists.users);
                bytes.extend_from_slice(BETWEEN);
                bytes.extend_from_slice(&lists.answers);
                bytes.extend_from_slice(&facts.foot(origin.as_ref(), true));
                let mut hash = Sha256::new();
                hash.update(&bytes);
                bytes.extend_from_slice(&seal(hash));
                w.shown.small = Some(lists);
                self.make_way(w, &path)?;
                atomic::replace(self.core.disk(), &path, &bytes, Durable::No)?;
                return self.shown(w, end);
            }
            w.shown.large = true;
        }
        if must || end >= w.shown.log_len.saturating_mul(2) {
            self.make_way(w, &path)?;
            let stream = Stream { facts, origin, log: Some(log), start, at: start, end, part: Part::Head, first: true, of_file: true };
            self.write_stream(stream)?;
            return self.shown(w, end);
        }
        Ok(())
    }

    fn shown(&self, w: &mut Writer, log_len: u64) -> io::Result<()> {
        w.shown.known = self.core.disk().stat(&self.core.files.json(self.id()))?;
        w.shown.log_len = log_len;
        w.shown.behind = false;
        Ok(())
    }

    /// Keeps a file that is not ours before it is replaced.
    fn make_way(&self, w: &Writer, path: &std::path::Path) -> io::Result<()> {
        let disk = self.core.disk();
        let stat = disk.stat(path)?;
        if stat.is_none() || stat == w.shown.known {
            return Ok(());
        }
        if matches!(whose(disk, path, w.header.origin.as_ref())?, Whose::Edited) {
            let aside = self.core.files.named(self.id(), &format!("json.kept-{}", self.core.now().millis()));
            disk.rename(path, &aside)?;
            log::warn("store", format_args!("session {}: its .json was changed by hand; kept as {}", self.id(), aside.display()));
        }
        Ok(())
    }

    fn write_stream(&self, mut stream: Stream) -> io::Result<()> {
        let disk = self.core.disk();
        let (path, beside) = (self.core.files.json(self.id()), self.core.files.named(self.id(), "json.new"));
        let mut write = || -> io::Result<()> {
            let file = disk.open(&beside, Open::Append)?;
            file.set_len(0)?;
            let (mut hash, mut at) = (Sha256::new(), 0);
            while let Some(piece) = stream.next()? {
                hash.update(&piece);
                file.write_at(&piece, at)?;
                at += piece.len() as u64;
            }
            file.write_at(&seal(hash), at)?;
            disk.rename(&beside, &path)
        };
        write().inspect_err(|_| drop(disk.remove_file(&beside)))
    }
}

/// What stands between the two lists.
const BETWEEN: &[u8] = b"],\"agent_responses\":[";
/// What stands behind the digest.
const SEAL_END: &[u8] = b"\"}}}";
const SEAL_BYTES: usize = 64 + SEAL_END.len();

fn seal(hash: Sha256) -> Vec<u8> {
    let mut out = hex(&hash.finish()).into_bytes();
    out.extend_from_slice(SEAL_END);
    out
}

/// Everything but the two lists.
struct Facts {
    id: SessionId,
    owner: String,
    created: String,
    about: Overview,
    seq: Seq,
}

impl Facts {
    fn of(session: &Session, about: &Overview, seq: Seq) -> Self {
        let (owner, created) = (session.owner().to_string(), session.created_at().to_string());
        Self { id: session.id(), owner, created, about: about.clone(), seq }
    }
    /// Up to the first list's bracket. The file has no top-level `space_id`.
    fn head(&self, with_space: bool) -> Vec<u8> {
        let user = json!(self.about.user_id.as_deref().unwrap_or("default"));
        let space = if with_space { format!(",\"space_id\":{}", json!(self.about.about.space_id)) } else { String::new() };
        format!("{{\"id\":\"{}\",\"user_id\":{user}{space},\"user_messages\":[", self.id).into_bytes()
    }
    /// From the second list's bracket; in a file, up to the digest.
    fn foot(&self, origin: Option<&Origin>, of_file: bool) -> Vec<u8> {
        let mut metadata = origin.map(|origin| origin.metadata.clone()).unwrap_or_default();
        metadata.remove("log");
        metadata.insert("owner".to_owned(), Value::from(self.owner.as_str()));
        match self.about.about.space_id {
            Some(space) => metadata.insert("space_id".to_owned(), json!(space)),
            None => metadata.remove("space_id"),
        };
        if let Some(title) = self.about.title() {
            metadata.insert("title".to_owned(), title.into());
        }
        if let Some(instructions) = &self.about.about.instructions {
            metadata.insert("instructions".to_owned(), instructions.as_str().into());
        }
        // What a file said that was imported holds until someone says otherwise.
        let persona = match self.about.about_seq {
            0 => origin.map_or(Value::Null, |origin| origin.active_persona_id.clone()),
            _ => json!(self.about.about.persona_id),
        };
        let mut out = format!(
            "],\"active_seed_id\":{},\"active_persona_id\":{persona},\"created_at\":\"{}\",\"updated_at\":\"{}\",\"metadata\":{}",
            json!(self.about.active_seed_id),
            self.created,
            self.about.updated_at,
            Value::Object(metadata),
        );
        out.pop(); // the brace of `metadata`, which has at least its owner
        let end = if of_file { ",\"digest\":\"" } else { "}}}" };
        out.push_str(&format!(",\"log\":{{\"seq\":{}{end}", self.seq));
        out.into_bytes()
    }
}

/// The two lists as JSON without their brackets.
struct Lists {
    users: Vec<u8>,
    answers: Vec<u8>,
    /// The log is read up to here.
    through: u64,
}

impl Lists {
    fn from(start: u64) -> Self {
        Self { users: Vec::new(), answers: Vec::new(), through: start }
    }
    /// Adds what the log has up to `end`; false where that is more than small.
    fn read_on(&mut self, id: SessionId, log: &dyn DiskFile, end: u64) -> io::Result<bool> {
        let mut lines = Forward::new(log, self.through, end);
        while let Some(found) = lines.next()? {
            let Some(json) = found.json else { continue };
            if let Some(item) = item(id, json, Part::Users) {
                add(&mut self.users, &item);
            } else if let Some(item) = item(id, json, Part::Answers) {
                add(&mut self.answers, &item);
            }
            if (self.users.len() + self.answers.len()) as u64 > PROJECTION_EAGER_BYTES_MAX {
                return Ok(false);
            }
        }
        self.through = lines.offset();
        Ok(true)
    }
}

fn add(list: &mut Vec<u8>, item: &[u8]) {
    if !list.is_empty() {
        list.push(b',');
    }
    list.extend_from_slice(item);
}

/// One item of a list, if this record makes one.
fn item(id: SessionId, json: &[u8], part: Part) -> Option<Vec<u8>> {
    let glance = Glance::of(json)?;
    let wanted = match part {
        Part::Users => glance.kind == "message",
        _ => glance.is_terminal(),
    };
    if !wanted {
        return None;
    }
    let record: Record = serde_json::from_slice(json).ok()?;
    let (kind, timestamp, message_id) = (record.body.kind(), record.time, record.message_id);
    let value = match record.body {
        // An imported answer without a question has an empty message; an imported question without an answer has no error.
        Body::Message(message) if message.content.is_empty() => return None,
        Body::Interrupted(ending) if ending.text.is_empty() && ending.error.is_none() => return None,
        Body::Message(message) => json!({"content": message.content, "timestamp": timestamp, "message_id": message_id}),
        Body::Done(e) | Body::Failed(e) | Body::Cancelled(e) | Body::Interrupted(e) => {
            let mut value = json!({
                "content": e.text,
                "session_id": id,
                "seed_id": e.seed_id,
                "phase_reached": e.phase,
                "evaluation_passed": e.evaluation_passed,
                "timestamp": timestamp,
            });
            if let (true, Some(map)) = (e.asks, value.as_object_mut()) {
                map.insert("asks".to_owned(), true.into());
            }
            if let (true, Some(map)) = (kind != "done", value.as_object_mut()) {
                map.insert("outcome".to_owned(), Value::from(kind));
            }
            value
        }
        _ => return None,
    };
    serde_json::to_vec(&value).ok()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Head,
    Users,
    Answers,
    Foot,
    Over,
}

/// The document, a page at a time: the log is read once for each list.
struct Stream {
    facts: Facts,
    origin: Option<Origin>,
    log: Option<Arc<dyn DiskFile>>,
    start: u64,
    at: u64,
    end: u64,
    part: Part,
    /// No item of this list was written yet.
    first: bool,
    of_file: bool,
}

impl Stream {
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        match self.part {
            Part::Head => {
                if let (None, Some(log)) = (&self.origin, &self.log) {
                    let mut lines = Forward::new(log.as_ref(), 0, self.start);
                    let header = lines.next()?.and_then(|found| serde_json::from_slice::<Header>(found.json?).ok());
                    self.origin = header.and_then(|header| header.origin);
                }
                self.part = Part::Users;
                Ok(Some(self.facts.head(!self.of_file)))
            }
            Part::Users | Part::Answers => {
                let out = self.list()?;
                if self.at >= self.end {
                    (self.at, self.first) = (self.start, true);
                    self.part = if self.part == Part::Users { Part::Answers } else { Part::Foot };
                    let mut out = out;
                    if self.part == Part::Answers {
                        out.extend_from_slice(BETWEEN);
                    }
                    return Ok(Some(out));
                }
                Ok(Some(out))
            }
            Part::Foot => {
                self.part = Part::Over;
                Ok(Some(self.facts.foot(self.origin.as_ref(), self.of_file)))
            }
            Part::Over => Ok(None),
        }
    }

    fn list(&mut self) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        let Some(log) = self.log.clone() else {
            self.at = self.end;
            return Ok(out);
        };
        let mut lines = Forward::new(log.as_ref(), self.at, self.end);
        while out.len() < PAGE_BYTES {
            let Some(found) = lines.next()? else {
                self.at = self.end;
                return Ok(out);
            };
            if let Some(item) = found.json.and_then(|json| item(self.facts.id, json, self.part)) {
                if !self.first {
                    out.push(b',');
                }
                self.first = false;
                out.extend_from_slice(&item);
            }
        }
        self.at = lines.offset();
        Ok(out)
    }
}

/// What a `.json` is to us.
enum Whose {
    /// We wrote it; it shows the log up to this seq.
    Ours(Seq),
    /// The session was imported from it.
    Imported,
    /// Someone else's JSON.
    Edited,
    /// No JSON.
    Garbage,
}

fn whose(disk: &dyn Disk, path: &std::path::Path, origin: Option<&Origin>) -> io::Result<Whose> {
    let file = disk.open(path, Open::Read)?;
    let len = file.len()?;
    let sealed = len.saturating_sub(SEAL_BYTES as u64);
    let (mut inner, mut whole) = (Sha256::new(), Sha256::new());
    let mut page = vec![0; PAGE_BYTES];
    let mut at = 0;
    while at < len {
        let read = read_full(file.as_ref(), &mut page, at)?;
        let bytes = page.get(..read).unwrap_or_default();
        if bytes.is_empty() {
            break;
        }
        whole.update(bytes);
        let of_inner = usize::try_from(sealed.saturating_sub(at)).unwrap_or(read).min(read);
        inner.update(bytes.get(..of_inner).unwrap_or_default());
        at += read as u64;
    }
    let (inner, whole) = (seal(inner), hex(&whole.finish()));
    let tail = tail_of(file.as_ref(), len)?;
    if tail.ends_with(&inner) {
        return Ok(Whose::Ours(shown_seq(&tail).unwrap_or(0)));
    }
    if origin.is_some_and(|origin| origin.sha256 == whole) {
        return Ok(Whose::Imported);
    }
    let readable = len <= IMPORT_BYTES_MAX && serde_json::from_slice::<IgnoredAny>(&read_whole(disk, path, len)?).is_ok();
    Ok(if readable { Whose::Edited } else { Whose::Garbage })
}

/// How far a file of ours goes, as it says itself.
fn shown_by(disk: &dyn Disk, path: &std::path::Path, len: u64) -> Option<Seq> {
    let file = disk.open(path, Open::Read).ok()?;
    shown_seq(&tail_of(file.as_ref(), len).ok()?)
}

fn tail_of(file: &dyn DiskFile, len: u64) -> io::Result<Vec<u8>> {
    let mut tail = vec![0; 128.min(usize::try_from(len).unwrap_or(128))];
    let read = read_full(file, &mut tail, len - 128.min(len))?;
    tail.truncate(read);
    Ok(tail)
}

/// N of `"log":{"seq":N,"digest":"` at the end.
fn shown_seq(tail: &[u8]) -> Option<Seq> {
    let text = String::from_utf8_lossy(tail);
    let (_, rest) = text.rsplit_once("\"log\":{\"seq\":")?;
    rest.split_once(',')?.0.parse().ok()
}

#[cfg(test)]
mod tests;
