//! The end of the chain in memory, and the file it is written to.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::base::digest::{Sha256, hex};
use crate::base::limits::AUDIT_TAIL_BYTES;
use crate::store::StoreError;
use crate::store::atomic;
use crate::store::audit::key::Signer;
use crate::store::home::Seams;
use crate::store::log_file::LogFile;
use crate::sys::disk::{DiskFile, Open, read_full};
use crate::wire::audit_line::{self, AuditLine};

/// Records between two checkpoints at most; verification takes a longer stretch without one for a removed one.
pub(crate) const CHECKPOINT_EVERY: u64 = 256;

/// The writing end of the chain.
pub(crate) struct Chain {
    dir: PathBuf,
    seams: Seams,
    signer: Signer,
    /// A segment that has so many bytes is followed by another one.
    segment_bytes: u64,
    /// The last record that was written; 0: none yet.
    pub(crate) n: u64,
    /// Its hash.
    pub(crate) hash: [u8; 32],
    /// The last record that a checkpoint stands behind.
    pub(crate) signed: u64,
    /// The open segment; none before the first record of this process where there is none on disk.
    file: Option<LogFile>,
}

/// The hash of a record.
pub(crate) fn link(prev: &[u8; 32], body: &[u8]) -> [u8; 32] {
    let mut sha = Sha256::new();
    sha.update(prev);
    sha.update(body);
    sha.finish()
}

/// The number in a segment's name.
pub(crate) fn segment_number(name: &str) -> Option<u64> {
    name.strip_suffix(".log")?.parse().ok().filter(|n: &u64| format!("{n}.log") == name)
}

/// The last record of a segment, its hash, and where it ends: backwards to the last line that is one. What a power cut left
/// behind it was never acknowledged.
fn last_record(file: &dyn DiskFile, len: u64) -> io::Result<Option<(u64, [u8; 32], u64)>> {
    let mut to = len;
    loop {
        let from = to.saturating_sub(AUDIT_TAIL_BYTES);
        let mut tail = vec![0; usize::try_from(to - from).unwrap_or(0)];
        let read = read_full(file, &mut tail, from)?;
        tail.truncate(read);
        let mut end = tail.len();
        while let Some(feed) = tail.get(..end).and_then(|head| head.iter().rposition(|b| *b == b'\n')) {
            let start = tail.get(..feed).and_then(|head| head.iter().rposition(|b| *b == b'\n')).map_or(0, |at| at + 1);
            if let Some(read) = tail.get(start..feed).and_then(audit_line::read) {
                return Ok(Some((read.line.n, read.hash, from + feed as u64 + 1)));
            }
            end = feed;
        }
        if from == 0 {
            return Ok(None);
        }
        // Whole in the next piece: a line that begins before this one.
        to = from + 2 * audit_line::LINE_BYTES_MAX as u64;
    }
}

impl Chain {
    /// Finds the end of the chain; tells how many bytes of a torn end were cut.
    pub(crate) fn open(dir: PathBuf, seams: Seams, signer: Signer, segment_bytes: u64) -> Result<(Self, u64), StoreError> {
        let disk = seams.disk.clone();
        atomic::make_dir(&*disk, &dir).map_err(StoreError::io("making the audit directory"))?;
        let items = disk.list(&dir).map_err(StoreError::io("reading the audit directory"))?;
        let mut segments: Vec<u64> = items.iter().filter_map(|item| segment_number(&item.name)).collect();
        segments.sort_unstable();
        let mut chain = Self { dir, seams, signer, segment_bytes, n: 0, hash: [0; 32], signed: 0, file: None };
        let mut cut = 0;
        // The newest one may have been made and never written.
        while let Some(segment) = segments.pop() {
            let path = chain.path(segment);
            let file = disk.open(&path, Open::Append).map_err(StoreError::io("opening the audit log"))?;
            let len = file.len().map_err(StoreError::io("reading the audit log"))?;
            let found = last_record(file.as_ref(), len).map_err(StoreError::io("reading the audit log"))?;
            let Some((n, hash, good)) = found else {
                cut += len;
                disk.remove_file(&path).map_err(StoreError::io("removing an empty audit segment"))?;
                continue;
            };
            cut += len - good;
            (chain.n, chain.hash) = (n, hash);
            let file: Arc<dyn DiskFile> = Arc::from(file);
            chain.file = Some(if good < len { LogFile::ragged(file, good) } else { LogFile::new(file, good) });
            break;
        }
        // Whatever is unsigned from an earlier process is signed with the next checkpoint.
        chain.signed = chain.n.saturating_sub(CHECKPOINT_EVERY - 1);
        Ok((chain, cut))
    }

    /// The open file, for a sync outside the lock.
    pub(crate) fn file(&self) -> Option<Arc<dyn DiskFile>> {
        self.file.as_ref().map(|log| log.file().clone())
    }
    /// A sync outside failed: what was written since the last good one is written again.
    pub(crate) fn doubt(&mut self) {
        if let Some(file) = &mut self.file {
            file.doubt();
        }
    }
    /// Everything is on the disk.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), |file| file.append(&[], true))
    }
    /// The public key in hexadecimal.
    pub(crate) fn public(&self) -> String {
        self.signer.public()
    }

    /// Writes one record, and a checkpoint with it where it is due. After an error nothing of them is there.
    pub(crate) fn write(&mut self, line: AuditLine<'_>) -> Result<(), StoreError> {
        if self.file.as_ref().is_none_or(|file| file.len() >= self.segment_bytes) {
            self.next_segment()?;
        }
        self.add(Some(line), self.n + 1 - self.signed >= CHECKPOINT_EVERY - 1)
    }

    /// Signs the last record, unless it is a checkpoint itself.
    pub(crate) fn checkpoint(&mut self) -> Result<(), StoreError> {
        if self.signed >= self.n { Ok(()) } else { self.add(None, true) }
    }

    fn next_segment(&mut self) -> Result<(), StoreError> {
        if self.file.is_some() {
            self.checkpoint()?;
            self.sync().map_err(StoreError::io("syncing the audit log"))?;
        }
        let path = self.path(self.n + 1);
        let file = self.seams.disk.open(&path, Open::Append).map_err(StoreError::io("making an audit segment"))?;
        self.seams.disk.sync_dir(&self.dir).map_err(StoreError::io("making an audit segment"))?;
        let before = self.file.replace(LogFile::ragged(Arc::from(file), 0));
        let (prev, public_key) = (hex(&self.hash), self.signer.public());
        let first = AuditLine { what: "segment", prev: &prev, public_key: &public_key, ..AuditLine::default() };
        self.add(Some(first), false).inspect_err(|_| self.file = before)
    }

    /// Adds a line, and a signature of it or of the last one, in one write: a record whose checkpoint failed would be written again.
    fn add(&mut self, line: Option<AuditLine<'_>>, sign: bool) -> Result<(), StoreError> {
        let time = self.seams.clock.now().to_string();
        let mut bytes = String::new();
        let mut put = |line: AuditLine<'_>, n: u64, hash: &[u8; 32]| {
            let mut body = audit_line::write_body(&AuditLine { n, time: &time, ..line })
                .ok_or_else(|| StoreError::Damaged("an audit record would not fit its form".to_owned()))?;
            let hash = link(hash, body.as_bytes());
            audit_line::close(&mut body, &hex(&hash));
            bytes.push_str(&body);
            Ok::<_, StoreError>((n, hash))
        };
        let (mut n, mut hash) = (self.n, self.hash);
        if let Some(line) = line {
            (n, hash) = put(line, n + 1, &hash)?;
        }
        if sign {
            let signature = self.signer.sign(n, &hash);
            (n, hash) = put(AuditLine { what: "checkpoint", signature: &signature, ..AuditLine::default() }, n + 1, &hash)?;
        }
        let file = self.file.as_mut().ok_or(StoreError::NotFound)?;
        file.append(bytes.as_bytes(), false).map_err(StoreError::io("writing the audit log"))?;
        (self.n, self.hash) = (n, hash);
        if sign {
            self.signed = n;
            crate::base::log::info("audit", format_args!("head {n}:{}", hex(&hash)));
        }
        Ok(())
    }

    fn path(&self, segment: u64) -> PathBuf {
        self.dir.join(format!("{segment}.log"))
    }
}
