//! Lines of a session log: `crc32 SP json LF`, the checksum as eight lower-case hexadecimal digits over the JSON bytes.
//!
//! JSON never contains a raw line feed, so a line ends at the next one. What a reader can meet:
//! - *whole*: the checksum holds;
//! - *rotten*: it ends, and the checksum does not hold (a byte changed, two lines run together);
//! - *torn*: it does not end: the write was cut by a crash, or is still under way.
//!
//! CRC-32 finds every change within 32 neighbouring bits of a line, thus every single flipped byte; it is no protection
//! against someone who means it (who can write to the home owns it anyway).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::ids::{OwnerId, SessionId};
use crate::base::time::Timestamp;

/// Bytes of a line besides its JSON.
pub const OVERHEAD_BYTES: usize = 10;

/// The format that this program writes, and the newest it reads.
pub const FORMAT: u64 = 1;

/// The beginning of a byte sequence, read as a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'a> {
    /// Its JSON.
    Whole {
        /// The bytes that the checksum covers.
        json: &'a [u8],
        /// Bytes of the whole line, line feed included.
        len: usize,
    },
    /// A line whose checksum does not hold.
    Rotten {
        /// Bytes of the whole line, line feed included.
        len: usize,
    },
    /// No line feed: more bytes are needed, or will never come.
    Torn,
}

/// Adds a line with this JSON.
pub fn write(out: &mut Vec<u8>, json: &[u8]) {
    debug_assert!(!json.contains(&b'\n'), "JSON on one line");
    let crc = crc32fast::hash(json);
    out.reserve(json.len() + OVERHEAD_BYTES);
    out.extend((0..8).map(|digit| hex_digit((crc >> (28 - 4 * digit)) as u8 & 15)));
    out.push(b' ');
    out.extend_from_slice(json);
    out.push(b'\n');
}

/// Reads the first line of `bytes`.
pub fn read(bytes: &[u8]) -> Line<'_> {
    let Some(end) = bytes.iter().position(|b| *b == b'\n') else { return Line::Torn };
    match bytes.get(..end).and_then(json_of) {
        Some(json) => Line::Whole { json, len: end + 1 },
        None => Line::Rotten { len: end + 1 },
    }
}

/// The JSON of a line without its line feed, if the checksum holds.
pub fn json_of(line: &[u8]) -> Option<&[u8]> {
    let (crc, rest) = line.split_first_chunk::<8>()?;
    let (b' ', json) = rest.split_first()? else { return None };
    let crc = crc.iter().try_fold(0u32, |sum, digit| Some(sum << 4 | u32::from(hex_value(*digit)?)))?;
    (crc32fast::hash(json) == crc).then_some(json)
}

/// The first line of a log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Format version; see [`FORMAT`].
    #[serde(rename = "oxios_log")]
    pub format: u64,
    /// The session.
    pub id: SessionId,
    /// Whose it is.
    pub owner: OwnerId,
    /// When it was made.
    pub created: Timestamp,
    /// Where it was imported: what the file said besides messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// What an imported session file said besides its messages; goes into later projections unchanged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// SHA-256 of the imported file, in hexadecimal: tells it from one that was edited later.
    pub sha256: String,
    /// Its `active_persona_id`.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub active_persona_id: Value,
    /// Its `metadata`.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub metadata: serde_json::Map<String, Value>,
}

impl Origin {
    /// Its title, where it had one.
    pub fn title(&self) -> Option<String> {
        self.metadata.get("title")?.as_str().filter(|title| !title.is_empty()).map(str::to_owned)
    }
}

/// What the first line of a log is.
#[derive(Debug, Clone, PartialEq)]
pub enum Opening {
    /// A header that this program understands.
    Header(Box<Header>),
    /// A log of a newer format.
    Newer(u64),
    /// No header.
    Unreadable,
}

/// Reads the JSON of the first line.
pub fn opening(json: &[u8]) -> Opening {
    #[derive(Deserialize)]
    struct Format {
        oxios_log: u64,
    }
    match serde_json::from_slice::<Format>(json) {
        Ok(Format { oxios_log }) if oxios_log > FORMAT => Opening::Newer(oxios_log),
        Ok(_) => serde_json::from_slice(json).map_or(Opening::Unreadable, |header| Opening::Header(Box::new(header))),
        Err(_) => Opening::Unreadable,
    }
}

fn hex_digit(value: u8) -> u8 {
    if value < 10 { b'0' + value } else { b'a' + value - 10 }
}

/// Lower case only: upper case would let a flipped bit pass.
fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(json: &str) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, json.as_bytes());
        out
    }

    #[test]
    fn what_was_written_is_read() {
        for json in ["{}", "", r#"{"text":"ä \n 漢"}"#, &"x".repeat(100_000)] {
            let mut bytes = line(json);
            let len = bytes.len();
            assert_eq!(read(&bytes), Line::Whole { json: json.as_bytes(), len });
            bytes.extend(b"next");
            assert_eq!(read(&bytes), Line::Whole { json: json.as_bytes(), len });
        }
        assert_eq!(line("123456789"), b"cbf43926 123456789\n"); // the check value of CRC-32/ISO-HDLC
    }

    #[test]
    fn every_cut_is_torn() {
        let bytes = line(r#"{"seq":1,"kind":"message"}"#);
        for cut in 0..bytes.len() {
            assert_eq!(read(&bytes[..cut]), Line::Torn, "{cut}");
        }
    }

    #[test]
    fn every_changed_byte_is_found() {
        let bytes = line(r#"{"seq":1,"kind":"message"}"#);
        for at in 0..bytes.len() {
            for flip in 1..=255u8 {
                let mut changed = bytes.clone();
                changed[at] ^= flip;
                assert!(!matches!(read(&changed), Line::Whole { .. }), "byte {at} ^ {flip}");
            }
        }
    }

    #[test]
    fn a_newer_format_is_told_from_damage() {
        assert_eq!(opening(br#"{"oxios_log":2,"anything":true}"#), Opening::Newer(2));
        assert_eq!(opening(br#"{"oxios_log":1}"#), Opening::Unreadable);
        assert_eq!(opening(b"[]"), Opening::Unreadable);
    }
}
