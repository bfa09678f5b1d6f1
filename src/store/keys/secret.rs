//! The text of a key: `oxk_` and 256 random bits.

use crate::base::secret::Secret;
use crate::store::home::Seams;

/// What every key begins with: a leaked one is found by scanners.
const PREFIX: &str = "oxk_";
/// 32 bytes in base64url without padding.
const BODY_CHARS: usize = 43;

pub(super) fn make(seams: &Seams) -> Secret {
    let mut bytes = [0; 32];
    seams.random.fill(&mut bytes);
    Secret::new(format!("{PREFIX}{}", base64url(&bytes)))
}

pub(super) fn is_key(text: &str) -> bool {
    text.strip_prefix(PREFIX)
        .is_some_and(|body| body.len() == BODY_CHARS && body.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')))
}

/// RFC 4648 §5 without padding.
fn base64url(bytes: &[u8]) -> String {
    let digit = |six: u32| match u8::try_from(six & 63).unwrap_or(0) {
        n @ 0..=25 => b'A' + n,
        n @ 26..=51 => b'a' + n - 26,
        n @ 52..=61 => b'0' + n - 52,
        62 => b'-',
        _ => b'_',
    };
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let value = chunk.iter().fold(0u32, |value, byte| value << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        out.extend((0..=chunk.len()).map(|i| char::from(digit(value >> (18 - 6 * i)))));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64url_as_in_rfc_4648() {
        for (bytes, text) in [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg"), ("\u{3ff}\u{3ff}", "z7_Pvw")] {
            assert_eq!(base64url(bytes.as_bytes()), text);
        }
    }
}
