//! A reader of a session: everything behind its cursor, from memory or disk, then live.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use crate::base::bell::Ear;
use crate::base::ids::Seq;
use crate::store::StoreError;
use crate::store::lines::{Forward, PAGE_BYTES, seek};
use crate::store::record::Record;
use crate::store::session::{Entry, Session, blocking};
use crate::sys::disk::{DiskFile, Open};

/// Entries that a reader takes from memory at once; they are shared, so this bounds only how often the lock is taken.
const TAKE_MAX: usize = 64;

/// What a reader gets next.
#[derive(Debug, Clone)]
pub enum Step {
    /// A record.
    Record(Arc<Entry>),
    /// The cursor was beyond the end; the log follows from its start.
    Resync {
        /// The newest seq there is.
        last_seq: Seq,
    },
    /// The session was deleted; nothing follows.
    Deleted,
}

/// A reader. Dropping it ends it.
///
/// Pieces of a message that had ended when the reader began are passed over: its terminal record stands for them. A reader that
/// was there before gets them all, or, where it fell so far behind that some are gone, none behind those: a hole is followed by
/// the terminal record.
pub struct Tail {
    session: Arc<Session>,
    ear: Ear,
    /// Everything up to here was returned, lies in `ready`, or was passed over.
    position: Seq,
    /// The newest seq when the reader began, or last fell behind what is kept in memory.
    born: Seq,
    /// What was read and not yet returned.
    ready: VecDeque<Arc<Entry>>,
    /// The cursor was beyond the end, and the reader has not been told yet.
    lost: bool,
    /// Where the last page from disk ended.
    place: Option<Place>,
}

/// Where to go on reading on disk.
#[derive(Debug, Clone, Copy)]
struct Place {
    log: u64,
    run: u64,
    /// `run` counts in the file of this generation.
    generation: u64,
}

impl Tail {
    pub(crate) fn new(session: Arc<Session>, after: Seq) -> Self {
        let ear = session.bell.ear();
        let born = session.last_seq();
        let lost = after > born;
        let position = if lost { 0 } else { after };
        Self { session, ear, position, born, ready: VecDeque::new(), lost, place: None }
    }

    /// The next step; waits for it. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Step, StoreError> {
        loop {
            let look = poll_fn(|cx| {
                self.ear.listen(cx);
                self.look()
            });
            match look.await {
                Look::Step(step) => return Ok(step),
                Look::Disk(visible, generation) => {
                    let (session, after, place, born) = (self.session.clone(), self.position, self.place, self.born);
                    let page = blocking(move || read_page(&session, after, visible, place, born)).await?;
                    self.take(page, generation);
                }
            }
        }
    }

    /// Takes a page, unless pieces went while it was read: it may have a hole with pieces behind it, and is read again without any.
    fn take(&mut self, page: Page, generation: u64) {
        if self.session.state().run_generation != generation {
            return;
        }
        self.ready.extend(page.entries);
        self.position = page.covered.max(self.position);
        self.place = Some(page.place);
    }

    /// Everything visible has been returned.
    pub fn caught_up(&self) -> bool {
        self.ready.is_empty() && !self.lost && self.position >= self.session.last_seq()
    }

    /// Pending where nothing is there yet.
    fn look(&mut self) -> Poll<Look> {
        let state = self.session.state();
        if state.deleted {
            return Poll::Ready(Look::Step(Step::Deleted));
        }
        if self.lost {
            self.lost = false;
            return Poll::Ready(Look::Step(Step::Resync { last_seq: state.visible }));
        }
        if let Some(entry) = self.ready.pop_front() {
            return Poll::Ready(Look::Step(Step::Record(entry)));
        }
        loop {
            if self.position >= state.visible {
                return Poll::Pending;
            }
            let Some(recent) = state.recent(self.position, TAKE_MAX) else {
                self.born = state.visible;
                return Poll::Ready(Look::Disk(state.visible, state.run_generation));
            };
            // What was read from disk before is behind us now.
            self.place = None;
            self.position = recent.last().map_or(state.visible, |last| last.seq);
            self.ready.extend(recent.into_iter().filter(|entry| {
                let over =
                    || entry.message_id.and_then(|id| state.find(id)).is_some_and(|m| m.terminal.is_some_and(|seq| seq <= self.born));
                !(entry.record.body.is_piece() && over())
            }));
            if let Some(entry) = self.ready.pop_front() {
                return Poll::Ready(Look::Step(Step::Record(entry)));
            }
        }
    }
}

enum Look {
    Step(Step),
    /// The next records are not in memory; read up to this seq, while the pieces are of this generation.
    Disk(Seq, u64),
}

struct Page {
    entries: Vec<Arc<Entry>>,
    /// Everything visible up to here is in `entries` or does not exist (any more).
    covered: Seq,
    place: Place,
}

/// Reads about a page of records above `after` and up to `visible`, log and pieces merged by seq. Blocking.
fn read_page(session: &Session, after: Seq, visible: Seq, place: Option<Place>, born: Seq) -> Result<Page, StoreError> {
    let doing = || StoreError::of("reading session", session.id());
    let (log, start, end, generation) = {
        let state = session.state();
        (state.log.clone(), state.log_start, state.log_len, state.run_generation)
    };
    let Some(log) = log else {
        // A session without a first message, or one that was just deleted: the next look tells.
        return Ok(Page { entries: Vec::new(), covered: after, place: Place { log: 0, run: 0, generation } });
    };
    let run = match session.core.disk().open(&session.core.files.run(session.id()), Open::Read) {
        Ok(file) => Some(file),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(doing()(e)),
    };
    let log_at = match place {
        Some(place) => place.log,
        None => seek(log.as_ref(), start, end, after).map_err(doing())?,
    };
    let mut from_log = Source::new(log.as_ref(), log_at, end, after, visible);
    let mut from_run = match &run {
        Some(file) => {
            let len = file.len().map_err(doing())?;
            let at = match place {
                Some(place) if place.generation == generation => place.run.min(len),
                _ => seek(file.as_ref(), 0, len, after).map_err(doing())?,
            };
            Some(Source::new(file.as_ref(), at, len, after, visible))
        }
        None => None,
    };
    let (mut entries, mut bytes, mut covered) = (Vec::new(), 0, after);
    let done = loop {
        if bytes >= PAGE_BYTES {
            break false;
        }
        let log_seq = from_log.peek().map_err(doing())?;
        let run_seq = match &mut from_run {
            Some(source) => source.peek().map_err(doing())?,
            None => None,
        };
        let entry = match (log_seq, run_seq) {
            (None, None) => break true,
            (Some(seq), other) if other.is_none_or(|other| seq < other) => from_log.take(),
            _ => from_run.as_mut().and_then(Source::take),
        };
        let Some(entry) = entry else { break true };
        covered = entry.seq;
        let over = || entry.message_id.and_then(|id| session.find(id)).is_some_and(|m| m.terminal.is_some_and(|seq| seq <= born));
        if entry.record.body.is_piece() && over() {
            continue;
        }
        bytes += entry.json.len();
        entries.push(entry);
    };
    let place = Place { log: from_log.offset(), run: from_run.as_ref().map_or(0, Source::offset), generation };
    Ok(Page { entries, covered: if done { visible } else { covered }, place })
}

/// One of the two files, as records above a cursor.
struct Source<'a> {
    lines: Forward<'a>,
    after: Seq,
    visible: Seq,
    next: Option<Arc<Entry>>,
    /// Where the line that was read last begins.
    at: u64,
    /// That line is not visible yet.
    stopped: bool,
}

impl<'a> Source<'a> {
    fn new(file: &'a dyn DiskFile, at: u64, end: u64, after: Seq, visible: Seq) -> Self {
        Self { lines: Forward::new(file, at, end), after, visible, next: None, at, stopped: false }
    }
    /// The seq of the next record; `None` at the end.
    fn peek(&mut self) -> std::io::Result<Option<Seq>> {
        while self.next.is_none() && !self.stopped {
            let Some(found) = self.lines.next()? else { return Ok(None) };
            self.at = found.at;
            let Some(json) = found.json else { continue };
            let Ok(record) = serde_json::from_slice::<Record>(json) else { continue };
            if record.seq > self.visible {
                // Not shown yet: the next page begins with it.
                self.stopped = true;
                return Ok(None);
            }
            if record.seq > self.after {
                let stored = bytes::Bytes::copy_from_slice(json);
                self.next = Some(Arc::new(Entry::new(record, stored)));
            }
        }
        Ok(self.next.as_ref().map(|entry| entry.seq))
    }
    fn take(&mut self) -> Option<Arc<Entry>> {
        self.next.take()
    }
    /// Where the next page begins.
    fn offset(&self) -> u64 {
        if self.next.is_some() || self.stopped { self.at } else { self.lines.offset() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::record::Body;
    use crate::store::testing::{Bench, done, kinds, read_on, say, token};

    /// Large tokens, so that a few hundred records leave the ring and several pages lie on disk.
    fn long(n: usize) -> String {
        format!("{n} {}", "x".repeat(700))
    }

    #[tokio::test]
    async fn a_live_reader_gets_every_record_without_a_hole_and_a_later_one_no_pieces() {
        let bench = Bench::new();
        let sessions = bench.sessions();
        let session = sessions.load_or_create(bench.session_id(), bench.owner()).await.unwrap();
        let id = bench.message_id();
        let mut live = session.tail(0);
        assert!(live.caught_up());
        session.accept(id, say("hello")).await.unwrap();
        session.append(id, vec![token("a")]).await.unwrap();
        session.append(id, vec![token("b"), token("c")]).await.unwrap();
        let mut middle = session.tail(3);
        session.append(id, vec![done("abc")]).await.unwrap();
        assert_eq!(kinds(&read_on(&mut live).await), ["1 message", "2 token", "3 token", "4 token", "5 done"]);
        assert_eq!(kinds(&read_on(&mut middle).await), ["4 token", "5 done"]);
        for after in 0..=5 {
            let want: Vec<_> = ["1 message", "5 done"].iter().filter(|k| k[..1].parse::<u64>().unwrap() > after).collect();
            assert_eq!(kinds(&read_on(&mut session.tail(after)).await), want.into_iter().copied().collect::<Vec<_>>(), "after {after}");
        }
        assert!(!bench.file(session.id(), "run").exists(), "the pieces are gone with the terminal record");
    }

    #[tokio::test]
    async fn from_every_cursor_the_same_records_come_from_memory_and_disk_while_the_run_lives_and_after_it() {
        let bench = Bench::new();
        let sessions = bench.sessions();
        let (sid, id) = (bench.session_id(), bench.message_id());
        let session = sessions.load_or_create(sid, bench.owner()).await.unwrap();
        let mut live = session.tail(0);
        session.accept(id, say("hello")).await.unwrap();
        let mut all = read_on(&mut live).await;
        for n in 0..400 {
            let usage = Body::Usage { model: "m".to_owned(), input_tokens: n as u64, output_tokens: 0, millis: 0 };
            let bodies = if n % 7 == 0 { vec![token(&long(n)), usage] } else { vec![token(&long(n))] };
            session.append(id, bodies).await.unwrap();
            if n % 50 == 0 {
                all.extend(read_on(&mut live).await);
            }
        }
        all.extend(read_on(&mut live).await);
        assert_eq!(all.len() as u64, session.last_seq());
        for after in [0, 1, 2, 3, 200, 201, 202, 300, 457, 458] {
            let got = read_on(&mut session.tail(after)).await;
            assert_eq!(got, all[after as usize..], "after {after}");
        }
        session.append(id, vec![done("all of it")]).await.unwrap();
        let terminal = read_on(&mut live).await;
        let kept: Vec<String> = all.iter().filter(|json| !json.contains("\"token\"")).chain(&terminal).cloned().collect();
        let seq = |json: &String| serde_json::from_str::<Record>(json).unwrap().seq;
        for after in [0, 1, 2, 3, 200, 201, 202, 300, 458, 459] {
            let want: Vec<String> = kept.iter().filter(|json| seq(json) > after).cloned().collect();
            assert_eq!(read_on(&mut session.tail(after)).await, want, "after {after}");
        }
        drop((session, live, sessions));
        let sessions = bench.sessions();
        let session = sessions.load(sid, bench.owner()).await.unwrap();
        assert_eq!(read_on(&mut session.tail(0)).await, kept, "and after a restart, byte for byte");
    }

    #[tokio::test]
    async fn a_waiting_reader_is_woken_by_the_next_record_and_by_the_deletion() {
        let bench = Bench::new();
        let sessions = bench.sessions();
        let (sid, id) = (bench.session_id(), bench.message_id());
        let session = sessions.load_or_create(sid, bench.owner()).await.unwrap();
        session.accept(id, say("hello")).await.unwrap();
        let mut tail = session.tail(1);
        let waiting = tokio::spawn(async move {
            let first = tail.next().await.unwrap();
            let second = tail.next().await.unwrap();
            (first, second, tail.next().await.unwrap())
        });
        tokio::task::yield_now().await;
        session.append(id, vec![done("hi")]).await.unwrap();
        sessions.delete(sid, bench.owner()).await.unwrap();
        // Whether the record was read before the deletion is a race that both may win.
        match waiting.await.unwrap() {
            (Step::Record(entry), Step::Deleted, Step::Deleted) => assert!(entry.terminal),
            (Step::Deleted, Step::Deleted, Step::Deleted) => {}
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_cursor_beyond_the_end_is_told_and_starts_again() {
        let bench = Bench::new();
        let sessions = bench.sessions();
        let session = sessions.load_or_create(bench.session_id(), bench.owner()).await.unwrap();
        session.accept(bench.message_id(), say("hello")).await.unwrap();
        assert_eq!(kinds(&read_on(&mut session.tail(9)).await), ["resync 1", "1 message"]);
    }

    #[tokio::test]
    async fn a_reader_that_fell_behind_a_run_that_ended_gets_no_piece_behind_the_hole() {
        let bench = Bench::new();
        let sessions = bench.sessions();
        let session = sessions.load_or_create(bench.session_id(), bench.owner()).await.unwrap();
        let id = bench.message_id();
        session.accept(id, say("hello")).await.unwrap();
        session.append(id, vec![token("a")]).await.unwrap();
        let mut behind = session.tail(0);
        assert_eq!(kinds(&read_on(&mut behind).await), ["1 message", "2 token"]);
        let mut within = session.tail(2);
        for n in 0..200 {
            session.append(id, vec![token(&long(n))]).await.unwrap();
        }
        // This one looks while the run lives; by the time it reads, the pieces are gone.
        let Poll::Ready(Look::Disk(visible, generation)) = within.look() else { panic!("202 pieces do not fit into memory") };
        session.append(id, vec![done("all of it")]).await.unwrap();
        let page = read_page(&session, within.position, visible, within.place, within.born).unwrap();
        within.take(page, generation);
        assert_eq!(kinds(&read_on(&mut within).await), ["203 done"]);
        assert_eq!(kinds(&read_on(&mut behind).await), ["203 done"]);
    }

    /// Readers beside the writer, some of which come back again and again: nobody gets another session's record, a record twice,
    /// or a hole; pieces are missing only where the answer was there when the reader came back.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn readers_that_come_back_at_any_time_miss_nothing_while_two_sessions_stream() {
        let bench = Bench::new();
        let sessions = bench.sessions();
        let mut readers = Vec::new();
        let mut writers = Vec::new();
        for _ in 0..2 {
            let (id, owner) = (bench.message_id(), bench.owner());
            let session = sessions.load_or_create(bench.session_id(), owner).await.unwrap();
            session.accept(id, say("hello")).await.unwrap();
            for every in [1_000_000, 50, 7] {
                let session = session.clone();
                readers.push(tokio::spawn(async move {
                    let (mut cursor, mut text, mut pieces_over) = (0, String::new(), false);
                    loop {
                        let mut tail = session.tail(cursor);
                        for _ in 0..every {
                            let Step::Record(entry) = tail.next().await.unwrap() else { panic!() };
                            assert_eq!(entry.message_id, Some(id), "no other session's");
                            assert!(entry.seq > cursor);
                            let hole = entry.seq != cursor + 1;
                            cursor = entry.seq;
                            if let Body::Token { text: piece } = &entry.record.body {
                                assert!(!hole && !pieces_over, "a hole before seq {cursor}");
                                text.push_str(piece);
                            }
                            pieces_over |= hole;
                            if let Some(ending) = entry.record.body.ending() {
                                assert!(ending.text.starts_with(&text) && (pieces_over || ending.text == text));
                                return pieces_over;
                            }
                        }
                    }
                }));
            }
            writers.push(tokio::spawn(async move {
                let mut text = String::new();
                for n in 0..1500 {
                    let piece = long(n);
                    text.push_str(&piece);
                    session.append(id, vec![token(&piece)]).await.unwrap();
                    if n % 100 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                text.truncate(crate::base::limits::ANSWER_BYTES_MAX * 2);
                session.append(id, vec![done(&text)]).await.unwrap();
            }));
        }
        for writer in writers {
            writer.await.unwrap();
        }
        for reader in readers {
            reader.await.unwrap();
        }
    }
}
