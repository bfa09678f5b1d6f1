//! Reading the chain record by record, in bounded memory.

use std::io;
use std::path::Path;

use serde::Serialize;

use crate::store::audit::chain::segment_number;
use crate::sys::disk::{Disk, DiskFile, Open, read_full};
use crate::wire::audit_line::{self, AuditLine, Read};

/// Bytes that are read at once.
const PAGE_BYTES: usize = 256 * 1024;

/// One record as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AuditEntry {
    /// Its place in the chain.
    pub n: u64,
    /// When, RFC 3339 UTC.
    pub time: String,
    /// What happened.
    pub what: String,
    /// The key that was shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// On what: an id, or `hmac:…` of a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    /// What came of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
}

impl AuditEntry {
    /// What a line says.
    pub fn of(line: &AuditLine<'_>) -> Self {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Self {
            n: line.n,
            time: line.time.to_owned(),
            what: line.what.to_owned(),
            key: some(line.key),
            on: some(line.on),
            outcome: some(line.outcome),
        }
    }
}

/// The segments of a directory, by number.
pub fn segments(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<u64>> {
    let mut all: Vec<u64> = match disk.list(dir) {
        Ok(items) => items.iter().filter_map(|item| segment_number(&item.name)).collect(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(e),
    };
    all.sort_unstable();
    Ok(all)
}

/// Calls `each` with every line of a segment: its number from 1, its bytes, and what it says (`None`: it is no record).
/// The last argument tells that its line feed is missing.
pub fn lines(disk: &dyn Disk, dir: &Path, segment: u64, each: impl FnMut(u64, &[u8], Option<Read<'_>>, bool)) -> io::Result<()> {
    let file = disk.open(&dir.join(format!("{segment}.log")), Open::Read)?;
    lines_of(file.as_ref(), each)
}

/// The same of a segment that is open.
pub(crate) fn lines_of(file: &dyn DiskFile, mut each: impl FnMut(u64, &[u8], Option<Read<'_>>, bool)) -> io::Result<()> {
    let (mut buffer, mut offset, mut number) = (Vec::new(), 0_u64, 0);
    let mut page = vec![0; PAGE_BYTES];
    loop {
        let read = read_full(file, &mut page, offset)?;
        offset += read as u64;
        buffer.extend_from_slice(page.get(..read).unwrap_or_default());
        let mut start = 0;
        while let Some(rest) = buffer.get(start..) {
            let Some(len) = rest.iter().position(|b| *b == b'\n') else { break };
            let line = rest.get(..len).unwrap_or_default();
            number += 1;
            each(number, line, audit_line::read(line), false);
            start += len + 1;
        }
        buffer.drain(..start);
        // Longer than any line: it is none, whatever follows.
        if read < page.len() || buffer.len() > 16 * PAGE_BYTES {
            if !buffer.is_empty() {
                each(number + 1, &buffer, None, true);
            }
            return Ok(());
        }
    }
}
