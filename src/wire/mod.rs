//! Floor 1: bytes ⇄ values. No I/O, no async, no clock; every function is total and bounded.

#[cfg(feature = "archives")]
pub mod archive;
pub mod audit_line;
pub mod backup_manifest;
pub mod bundle;
pub mod credentials;
pub mod cron;
pub mod encodings;
pub mod field;
pub mod forwarded;
pub mod front_matter;
pub mod host;
pub mod json;
mod json_place;
pub mod json_rpc;
pub mod log_line;
pub mod media;
pub mod origin;
pub mod path;
pub mod query;
pub mod sse_in;
pub mod sse_out;
pub mod tar;
pub mod title;
pub mod url;
pub mod vectors;
pub mod words;
pub mod ws_handshake;
pub mod yaml;

/// The byte that two hexadecimal digits stand for; none where they are no such digits or are missing.
fn hex_pair(bytes: &mut impl Iterator<Item = u8>) -> Option<u8> {
    let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16));
    let (high, low) = (digit()?, digit()?);
    u8::try_from(high * 16 + low).ok()
}
