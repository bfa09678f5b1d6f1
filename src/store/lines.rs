//! Reading a file of log lines: forwards a page at a time, backwards from the end, or from the first line behind a seq, found by
//! bisection (seqs only grow within a file). Memory is bounded by a page, or by the longest line.

use std::borrow::Cow;
use std::io;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::base::ids::{ApprovalId, MessageId, SeedId, Seq, SpaceId};
use crate::base::limits::LOG_LINE_BYTES_MAX;
use crate::base::time::Timestamp;
use crate::store::record::{self, Body, Decision, Phase, Record};
use crate::sys::disk::{DiskFile, read_full};
use crate::wire::log_line;

/// What is read from disk at once.
pub(crate) const PAGE_BYTES: usize = 64 * 1024;
/// A range this small is read through, not bisected further.
const BISECT_BYTES_MIN: u64 = PAGE_BYTES as u64;
/// Bytes read to find one line while bisecting.
const PROBE_BYTES: usize = 4 * 1024;

/// What most readers want to know of a record: found without building the rest of it.
#[derive(Debug, Deserialize)]
pub(crate) struct Glance<'a> {
    #[serde(deserialize_with = "record::seq")]
    pub(crate) seq: Seq,
    pub(crate) time: Timestamp,
    /// None where it is true of the whole session.
    #[serde(default)]
    pub(crate) message_id: Option<MessageId>,
    #[serde(borrow)]
    pub(crate) kind: Cow<'a, str>,
    /// Of a `reserve`.
    #[serde(default, deserialize_with = "record::seq_if_any")]
    pub(crate) until: Option<Seq>,
    /// Of approvals.
    #[serde(default)]
    pub(crate) approval_id: Option<ApprovalId>,
    #[serde(default)]
    pub(crate) decision: Option<Decision>,
    #[serde(default)]
    pub(crate) seed_id: Option<SeedId>,
    #[serde(default)]
    pub(crate) phase: Option<Phase>,
    #[serde(default)]
    pub(crate) space_id: Option<SpaceId>,
    /// A checkpoint's state is there.
    #[serde(default)]
    pub(crate) state: Option<IgnoredAny>,
    /// Of a `message`.
    #[serde(borrow, default)]
    pub(crate) user_id: Option<Cow<'a, str>>,
}

impl<'a> Glance<'a> {
    /// `None` for what is no record of this or a later version. Every line that is a [`Record`] has a glance, so that no reader is shown
    /// what the opening passed over: where a name that its kind does not know stands twice or holds something else, the record tells.
    pub(crate) fn of(json: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(json).ok().or_else(|| serde_json::from_slice(json).ok().map(Self::of_record))
    }

    fn of_record(record: Record) -> Self {
        let mut glance = Self {
            seq: record.seq,
            time: record.time,
            message_id: record.message_id,
            kind: Cow::Borrowed(record.body.kind()),
            until: None,
            approval_id: None,
            decision: None,
            seed_id: None,
            phase: None,
            space_id: None,
            state: None,
            user_id: None,
        };
        match record.body {
            Body::Message(message) => {
                glance.space_id = message.space_id;
                glance.user_id = Some(Cow::Owned(message.user_id));
            }
            Body::About(about) => glance.space_id = about.space_id,
            Body::Reserve { until } => glance.until = Some(until),
            Body::Phase { phase, seed_id, .. } => (glance.phase, glance.seed_id) = (Some(phase), seed_id),
            Body::Checkpoint { seed_id, state, .. } => (glance.seed_id, glance.state) = (seed_id, state.map(|_| IgnoredAny)),
            Body::ApprovalRequested { approval_id, .. } => glance.approval_id = Some(approval_id),
            Body::ApprovalResolved { approval_id, decision } => {
                (glance.approval_id, glance.decision) = (Some(approval_id), Some(decision));
            }
            Body::Done(end) | Body::Failed(end) | Body::Cancelled(end) | Body::Interrupted(end) => {
                (glance.phase, glance.seed_id) = (Some(end.phase), end.seed_id);
            }
            Body::Token { .. } | Body::Draft { .. } | Body::ToolCall { .. } | Body::ToolResult { .. } | Body::Usage { .. } => {}
        }
        glance
    }
    pub(crate) fn is_terminal(&self) -> bool {
        matches!(self.kind.as_ref(), "done" | "failed" | "cancelled" | "interrupted")
    }
}

/// A line of a file.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    /// Where it begins.
    pub(crate) at: u64,
    /// Where the next one begins.
    pub(crate) end: u64,
    /// Its JSON; `None` where it is rotten.
    pub(crate) json: Option<&'a [u8]>,
}

/// Reads lines from an offset up to an end.
pub(crate) struct Forward<'a> {
    file: &'a dyn DiskFile,
    /// Nothing is read from here on.
    end: u64,
    page: usize,
    /// The file's bytes from `at`; those before `used` are consumed.
    buffer: Vec<u8>,
    at: u64,
    used: usize,
}

impl<'a> Forward<'a> {
    /// From `at`, which is the start of a line.
    pub(crate) fn new(file: &'a dyn DiskFile, at: u64, end: u64) -> Self {
        Self { file, end, page: PAGE_BYTES, buffer: Vec::new(), at, used: 0 }
    }

    /// Where the next line begins; behind the last whole one, this is where a torn one begins.
    pub(crate) fn offset(&self) -> u64 {
        self.at + self.used as u64
    }

    /// The next line; `None` at the end or where the rest is torn.
    pub(crate) fn next(&mut self) -> io::Result<Option<Found<'_>>> {
        let mut searched = 0;
        // Bytes of the line that were dropped because it is longer than any of ours.
        let mut dropped = 0u64;
        let len = loop {
            let rest = self.buffer.get(self.used..).unwrap_or_default();
            if let Some(found) = rest.get(searched..).and_then(|new| new.iter().position(|b| *b == b'\n')) {
                break searched + found;
            }
            searched = rest.len();
            if searched > LOG_LINE_BYTES_MAX {
                dropped += searched as u64;
                self.used += searched;
                searched = 0;
            }
            if !self.fill()? {
                // Torn: give back what was dropped, so that `offset` tells where it begins.
                self.at -= dropped;
                if dropped > 0 {
                    self.buffer.clear();
                    self.used = 0;
                }
                return Ok(None);
            }
        };
        let start = self.used;
        let at = self.offset() - dropped;
        self.used += len + 1;
        let line = self.buffer.get(start..start + len).unwrap_or_default();
        let json = if dropped > 0 { None } else { log_line::json_of(line) };
        Ok(Some(Found { at, end: self.at + self.used as u64, json }))
    }

    /// Drops what is consumed and reads one more page.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.drain(..self.used);
        self.at += self.used as u64;
        self.used = 0;
        let have = self.buffer.len();
        let from = self.at + have as u64;
        // A long line is read in growing steps.
        let want = self.page.max(have).min(usize::try_from(self.end.saturating_sub(from)).unwrap_or(usize::MAX));
        self.buffer.resize(have + want, 0);
        let read = read_full(self.file, self.buffer.get_mut(have..).unwrap_or_default(), from)?;
        self.buffer.truncate(have + read);
        Ok(read > 0)
    }
}

/// Where to read from to find every line of `start..end` whose seq is above `after` (some before it may come, too).
/// `start` is the start of a line.
pub(crate) fn seek(file: &dyn DiskFile, start: u64, end: u64, after: Seq) -> io::Result<u64> {
    let (mut low, mut high) = (start, end);
    while high - low > BISECT_BYTES_MIN {
        let middle = low + (high - low) / 2;
        match first_from(file, middle, high)? {
            Some((seq, next)) if seq <= after => low = next,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// The seq of the first good line that begins behind `from` and before `end`, and where the line after it begins.
fn first_from(file: &dyn DiskFile, from: u64, end: u64) -> io::Result<Option<(Seq, u64)>> {
    let mut lines = Forward::new(file, from, end);
    lines.page = PROBE_BYTES;
    // `from` is anywhere in a line; what is left of that one is no line.
    if lines.next()?.is_none() {
        return Ok(None);
    }
    while let Some(found) = lines.next()? {
        if let Some(glance) = found.json.and_then(Glance::of) {
            return Ok(Some((glance.seq, found.end)));
        }
    }
    Ok(None)
}

/// A line met on the way back.
#[derive(Debug)]
pub(crate) struct Back {
    /// Its JSON; `None` where it is rotten.
    pub(crate) json: Option<Vec<u8>>,
}

/// Reads lines from the end of a range to its start.
pub(crate) struct Backward<'a> {
    file: &'a dyn DiskFile,
    start: u64,
    /// The file's bytes from `at` that were not yet given out; ends with a line feed.
    buffer: Vec<u8>,
    at: u64,
    /// The line at the end of `buffer` was too long to be kept.
    too_long: bool,
}

impl<'a> Backward<'a> {
    /// From `end` back to `start`, both at the start of a line.
    pub(crate) fn new(file: &'a dyn DiskFile, start: u64, end: u64) -> Self {
        Self { file, start, buffer: Vec::new(), at: end, too_long: false }
    }

    pub(crate) fn next(&mut self) -> io::Result<Option<Back>> {
        loop {
            let inner = self.buffer.len().saturating_sub(1);
            let feed = self.buffer.get(..inner).unwrap_or_default().iter().rposition(|b| *b == b'\n');
            let from = match feed {
                Some(feed) => feed + 1,
                None if self.at <= self.start => {
                    if self.buffer.is_empty() {
                        return Ok(None);
                    }
                    0
                }
                None => {
                    self.fill()?;
                    continue;
                }
            };
            let line = self.buffer.get(from..inner).unwrap_or_default();
            let json = if self.too_long { None } else { log_line::json_of(line).map(<[u8]>::to_vec) };
            self.buffer.truncate(from);
            self.too_long = false;
            return Ok(Some(Back { json }));
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.buffer.len() > LOG_LINE_BYTES_MAX {
            self.buffer = vec![b'\n'];
            self.too_long = true;
        }
        let want = (PAGE_BYTES.max(self.buffer.len()) as u64).min(self.at - self.start);
        let from = self.at - want;
        let mut page = vec![0; usize::try_from(want).unwrap_or(0)];
        let read = read_full(self.file, &mut page, from)?;
        if read < page.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        page.append(&mut self.buffer);
        self.buffer = page;
        self.at = from;
        Ok(())
    }
}

/// Where the last whole line of a file of `len` bytes ends (0 where there is none).
pub(crate) fn end_of_lines(file: &dyn DiskFile, len: u64) -> io::Result<u64> {
    let mut end = len;
    let mut page = vec![0; PAGE_BYTES];
    while end > 0 {
        let from = end.saturating_sub(PAGE_BYTES as u64);
        let want = usize::try_from(end - from).unwrap_or(0);
        let bytes = page.get_mut(..want).unwrap_or_default();
        let read = read_full(file, bytes, from)?;
        if let Some(feed) = bytes.get(..read).unwrap_or_default().iter().rposition(|b| *b == b'\n') {
            return Ok(from + feed as u64 + 1);
        }
        end = from;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::Bench;
    use crate::sys::disk::{Disk, Open};

    /// A file of lines with these seqs, each `pad` bytes long; answers where each begins.
    fn file(bench: &Bench, seqs: &[u64], pad: usize) -> (Box<dyn DiskFile>, Vec<u64>, u64) {
        std::fs::create_dir_all(&bench.dir).unwrap();
        let file = bench.disk.open(&bench.dir.join("lines"), Open::Append).unwrap();
        let (mut bytes, mut starts) = (Vec::new(), Vec::new());
        for seq in seqs {
            starts.push(bytes.len() as u64);
            let id = bench.message_id();
            let json =
                format!(r#"{{"seq":{seq},"time":"2026-11-23T00:00:00Z","message_id":"{id}","kind":"token","text":"{}"}}"#, "x".repeat(pad));
            log_line::write(&mut bytes, json.as_bytes());
        }
        file.set_len(0).unwrap();
        file.write_at(&bytes, 0).unwrap();
        (file, starts, bytes.len() as u64)
    }

    /// Found by fuzzing: an `about` with a `phase` that is none was shown to readers, but not seen when the log was opened, so that
    /// what was written next was shown without it.
    #[test]
    fn every_line_that_is_a_record_has_a_glance() {
        let head = r#""seq":7,"time":"2026-11-23T00:00:00Z""#;
        for (kind, rest) in [
            ("about", r#""title":"t","phase":"Exe","space_id":"67e55044-10b1-426f-9247-bb680e5fe0c8""#),
            ("usage", r#""model":"m","input_tokens":1,"output_tokens":1,"millis":1,"decision":3,"seed_id":[],"until":-1"#),
            ("reserve", r#""until":9,"phase":"a","phase":"b""#),
            ("message", r#""content":"c","user_id":"u","channel":"c","agent_id":"67e55044-10b1-426f-9247-bb680e5fe0c8","seed_id":1"#),
        ] {
            let json = format!(r#"{{{head},"kind":"{kind}",{rest}}}"#);
            let record: Record = serde_json::from_str(&json).unwrap();
            let glance = Glance::of(json.as_bytes()).unwrap_or_else(|| panic!("{json}"));
            assert_eq!((glance.seq, glance.kind.as_ref()), (record.seq, kind));
            match record.body {
                Body::About(about) => assert_eq!(glance.space_id, about.space_id),
                Body::Reserve { until } => assert_eq!(glance.until, Some(until)),
                Body::Message(message) => assert_eq!(glance.user_id.as_deref(), Some(message.user_id.as_str())),
                _ => {}
            }
        }
    }

    #[test]
    fn forwards_and_backwards_meet_every_line_at_its_place() {
        for pad in [1, 700, 70_000] {
            let bench = Bench::new();
            let (file, starts, end) = file(&bench, &(1..60).collect::<Vec<_>>(), pad);
            let mut forward = Forward::new(file.as_ref(), 0, end);
            let mut met = Vec::new();
            while let Some(found) = forward.next().unwrap() {
                met.push((found.at, found.json.unwrap().to_vec()));
            }
            assert_eq!(met.iter().map(|(at, _)| *at).collect::<Vec<_>>(), starts);
            assert_eq!(forward.offset(), end);
            let mut backward = Backward::new(file.as_ref(), 0, end);
            let mut back = Vec::new();
            while let Some(line) = backward.next().unwrap() {
                back.push(line.json.unwrap());
            }
            back.reverse();
            assert!(met.into_iter().map(|(_, json)| json).eq(back));
        }
    }

    #[test]
    fn a_seek_loses_no_line_behind_the_cursor_and_reads_little() {
        let bench = Bench::new();
        let seqs: Vec<u64> = (1..3000).map(|n| n * 3).collect();
        let (file, _, end) = file(&bench, &seqs, 500);
        for after in [0, 1, 2, 3, 4, 4500, 4501, 4502, 8996, 8997, 8998, 99_999] {
            let before = bench.disk.bytes_read();
            let from = seek(file.as_ref(), 0, end, after).unwrap();
            assert!(bench.disk.bytes_read() - before < 200_000, "bisection, not a scan");
            let mut lines = Forward::new(file.as_ref(), from, end);
            let mut got = Vec::new();
            while let Some(found) = lines.next().unwrap() {
                got.extend(Glance::of(found.json.unwrap()).map(|g| g.seq).filter(|seq| *seq > after));
            }
            assert_eq!(got, seqs.iter().copied().filter(|seq| *seq > after).collect::<Vec<_>>(), "after {after}");
        }
    }

    #[test]
    fn the_end_of_the_last_whole_line_is_found() {
        let bench = Bench::new();
        let (file, _, end) = file(&bench, &[1, 2], 100_000);
        assert_eq!(end_of_lines(file.as_ref(), end).unwrap(), end);
        file.write_at(&vec![b'x'; 200_000], end).unwrap();
        assert_eq!(end_of_lines(file.as_ref(), end + 200_000).unwrap(), end);
        assert_eq!(end_of_lines(file.as_ref(), 5).unwrap(), 0);
    }
}
