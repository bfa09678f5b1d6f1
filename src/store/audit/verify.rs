//! Verification: needs the segments and a public key, neither server nor network nor secret. Every edit, reordering and gap is
//! found and located; a cut tail is found against a head that was noted elsewhere.

use std::fmt;
use std::io;
use std::path::Path;

use crate::base::digest::hex;
use crate::store::audit::chain::{CHECKPOINT_EVERY, link};
use crate::store::audit::key::is_signed;
use crate::store::audit::read;
use crate::sys::disk::{Disk, DiskFile, Open};
use crate::wire::audit_line::{Read, hex_bytes};

/// Findings that are told one by one; more are only counted.
const FINDINGS_MAX: usize = 100;

/// What verification is given.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// The public key that checkpoints must be signed with. Without it the first segment's own is taken, which only shows that
    /// the log agrees with itself.
    pub public_key: Option<[u8; 32]>,
    /// A record and its hash that were noted elsewhere.
    pub head: Option<(u64, [u8; 32])>,
}

/// Something that is not as it was written, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The segment's number: its file is `<n>.log`.
    pub segment: u64,
    /// The line in it, from 1; 0: the segment as a whole.
    pub line: u64,
    /// What is wrong.
    pub what: Wrong,
}

/// What can be wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// The record's bytes do not have the hash that it states.
    Edited(u64),
    /// The line is no record.
    Unreadable,
    /// Records are missing, from and to.
    Missing(u64, u64),
    /// The record stands at another place than its number says.
    Misplaced(u64),
    /// The checkpoint's signature does not fit: since the last good one something was rewritten together with its hashes.
    BadSignature {
        /// The checkpoint.
        n: u64,
        /// The last record that a good checkpoint stands behind.
        after: u64,
    },
    /// From this record on another key signs.
    OtherKey(u64),
    /// More records without a checkpoint than the server ever writes.
    Unsigned(u64, u64),
    /// The first record of the segment does not go on where the one before ended.
    BadStart(u64),
    /// The log does not reach the head that was noted.
    Cut {
        /// The last record that is there.
        last: u64,
        /// The one that was noted.
        head: u64,
    },
    /// The record that was noted has another hash.
    OtherHead(u64),
}

/// What verification found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// Records that were read.
    pub records: u64,
    /// The last record.
    pub last: u64,
    /// Its hash as it states it.
    pub head: [u8; 32],
    /// Everything up to this record is signed.
    pub signed: u64,
    /// What is wrong, at most the first hundred.
    pub findings: Vec<Finding>,
    /// How many there are.
    pub wrong: u64,
}

impl Verdict {
    /// Nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.wrong == 0
    }
    /// The head as `--head` takes it.
    pub fn head(&self) -> String {
        format!("{}:{}", self.last, hex(&self.head))
    }
}

/// Reads a head as it is printed.
pub fn parse_head(text: &str) -> Option<(u64, [u8; 32])> {
    let (n, hash) = text.split_once(':')?;
    Some((n.parse().ok()?, hex_bytes(hash)?))
}

/// Verifies all segments of a directory.
///
/// # Errors
/// A file cannot be read.
pub fn verify(disk: &dyn Disk, dir: &Path, given: &Given) -> io::Result<Verdict> {
    let mut check = Check::new(given.clone());
    for segment in read::segments(disk, dir)? {
        let file = disk.open(&dir.join(format!("{segment}.log")), Open::Read)?;
        check.segment(segment, file.as_ref())?;
    }
    Ok(check.end())
}

/// Verification of segments that come one after the other, wherever they lie.
pub(crate) struct Check {
    given: Given,
    verdict: Verdict,
    /// The key that signs here.
    key: Option<[u8; 32]>,
    /// The last record was edited, and this is the hash that its bytes have: where only its hash was edited the next one fits it.
    other_hash: Option<[u8; 32]>,
    /// The record before is not there, so the next one's hash cannot be checked.
    gap: bool,
    head_seen: bool,
}

impl Check {
    pub(crate) fn new(given: Given) -> Self {
        let key = given.public_key;
        Self { given, verdict: Verdict::default(), key, other_hash: None, gap: false, head_seen: false }
    }

    /// The next segment.
    pub(crate) fn segment(&mut self, segment: u64, file: &dyn DiskFile) -> io::Result<()> {
        let mut any = false;
        read::lines_of(file, |number, _, record, torn| {
            any = true;
            match record.filter(|_| !torn) {
                Some(record) => self.record(segment, number, &record),
                None => self.unreadable(segment, number),
            }
        })?;
        if !any {
            self.found(segment, 0, Wrong::Unreadable);
        }
        Ok(())
    }

    fn record(&mut self, segment: u64, number: u64, record: &Read<'_>) {
        self.verdict.records += 1;
        let n = record.line.n;
        let expected = self.verdict.last + 1;
        if n < expected {
            return self.found(segment, number, Wrong::Misplaced(n));
        }
        if n > expected {
            self.found(segment, number, Wrong::Missing(expected, n - 1));
            self.gap = true;
        }
        if number == 1 {
            self.start(segment, record);
        } else if record.line.what == "segment" {
            self.found(segment, number, Wrong::BadStart(n));
        }
        let other = self.other_hash.take();
        let stated = self.verdict.head;
        let hash = link(&stated, record.body);
        let good = self.gap || hash == record.hash || other.is_some_and(|other| link(&other, record.body) == record.hash);
        if !good {
            self.found(segment, number, Wrong::Edited(n));
            self.other_hash = Some(hash);
        }
        if record.line.what == "checkpoint" {
            self.checkpoint(segment, number, record, &stated);
        } else if n - self.verdict.signed > CHECKPOINT_EVERY + 1 && self.key.is_some() {
            self.found(segment, number, Wrong::Unsigned(self.verdict.signed + 1, n));
            self.verdict.signed = n;
        }
        if let Some((_, hash)) = self.given.head.filter(|(head, _)| *head == n) {
            self.head_seen = true;
            if hash != record.hash {
                self.found(segment, number, Wrong::OtherHead(n));
            }
        }
        self.gap = false;
        (self.verdict.last, self.verdict.head) = (n, record.hash);
    }

    /// The first record of a segment states the hash before it and the key that signs.
    fn start(&mut self, segment: u64, record: &Read<'_>) {
        let line = &record.line;
        let prev = hex_bytes::<32>(line.prev);
        if line.what != "segment" || line.n != segment || prev.is_none() || (!self.gap && prev != Some(self.verdict.head)) {
            self.found(segment, 1, Wrong::BadStart(line.n));
        }
        if let (true, Some(prev)) = (self.gap, prev) {
            // What was before is gone, but the segment says what it had to end with.
            self.verdict.head = prev;
            self.gap = false;
        }
        let key = hex_bytes::<32>(line.public_key);
        match self.key {
            None => self.key = key,
            Some(_) if key == self.key => {}
            Some(_) => self.found(segment, 1, Wrong::OtherKey(line.n)),
        }
    }

    fn checkpoint(&mut self, segment: u64, number: u64, record: &Read<'_>, stated: &[u8; 32]) {
        let n = record.line.n;
        let signature = hex_bytes::<64>(record.line.signature);
        let good = match (self.key, signature) {
            (Some(key), Some(signature)) => is_signed(&key, n - 1, stated, &signature),
            _ => false,
        };
        if !good && !self.gap {
            let after = self.verdict.signed;
            self.found(segment, number, Wrong::BadSignature { n, after });
        }
        self.verdict.signed = n;
    }

    fn unreadable(&mut self, segment: u64, number: u64) {
        self.found(segment, number, Wrong::Unreadable);
        // It stood for one record, as far as one can tell; its number is missed with the next one.
    }

    fn found(&mut self, segment: u64, line: u64, what: Wrong) {
        self.verdict.wrong += 1;
        if self.verdict.findings.len() < FINDINGS_MAX {
            self.verdict.findings.push(Finding { segment, line, what });
        }
    }

    /// There are no more.
    pub(crate) fn end(mut self) -> Verdict {
        let last = self.verdict.last;
        if let Some((head, _)) = self.given.head.filter(|_| !self.head_seen) {
            self.found(0, 0, Wrong::Cut { last, head });
        }
        self.verdict
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.segment > 0 {
            write!(f, "{}.log", self.segment)?;
            if self.line > 0 {
                write!(f, " line {}", self.line)?;
            }
            f.write_str(": ")?;
        }
        match &self.what {
            Wrong::Edited(n) => write!(f, "record {n} was edited: its bytes do not have its hash"),
            Wrong::Unreadable => f.write_str("this is no record"),
            Wrong::Missing(from, to) if from == to => write!(f, "record {from} is missing before this place"),
            Wrong::Missing(from, to) => write!(f, "records {from} to {to} are missing before this place"),
            Wrong::Misplaced(n) => write!(f, "record {n} stands at the wrong place, or twice"),
            Wrong::BadSignature { n, after } => write!(
                f,
                "checkpoint {n} is not signed by the key: between record {after} and this one something was rewritten with its hashes"
            ),
            Wrong::OtherKey(n) => write!(f, "from record {n} on another key signs"),
            Wrong::Unsigned(from, to) => write!(f, "records {from} to {to} have no checkpoint"),
            Wrong::BadStart(n) => write!(f, "a segment begins at record {n} in a way that does not fit the one before"),
            Wrong::Cut { last, head } => write!(f, "the log ends at record {last}, but record {head} was noted: its tail was cut"),
            Wrong::OtherHead(n) => write!(f, "record {n} has another hash than the one that was noted"),
        }
    }
}
