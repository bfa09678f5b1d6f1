//! The server's side of the WebSocket opening handshake (RFC 6455 §4.2), without extensions and subprotocols.

use hyper::HeaderMap;
use hyper::header::{self, HeaderName};
use ring::digest;

/// Why a request is no good handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadHandshake {
    /// It does not ask for an upgrade to `websocket`.
    NoUpgrade,
    /// `Sec-WebSocket-Version` is missing or not 13 (§4.2.2, item 4: answer 426 and name 13).
    Version,
    /// `Sec-WebSocket-Key` is missing, doubled, or not 16 bytes in base64.
    Key,
}

/// §1.3: appended to the key before it is hashed.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Checks the fields of the handshake and gives the value of `Sec-WebSocket-Accept`.
pub fn accept(headers: &HeaderMap) -> Result<String, BadHandshake> {
    // §4.2.1, items 3 and 4: tokens without regard to case, in a list.
    if !has_token(headers, &header::UPGRADE, "websocket") || !has_token(headers, &header::CONNECTION, "upgrade") {
        return Err(BadHandshake::NoUpgrade);
    }
    // Item 6.
    if single(headers, &header::SEC_WEBSOCKET_VERSION) != Some(b"13") {
        return Err(BadHandshake::Version);
    }
    // Item 5.
    let key = single(headers, &header::SEC_WEBSOCKET_KEY).filter(|key| is_key(key)).ok_or(BadHandshake::Key)?;
    Ok(accept_value(key))
}

/// A request that wants to become a WebSocket, well formed or not.
pub fn is_asked_for(headers: &HeaderMap) -> bool {
    has_token(headers, &header::UPGRADE, "websocket")
}

/// §4.2.2, item 5.4: base64 of the SHA-1 of key and GUID.
fn accept_value(key: &[u8]) -> String {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key);
    context.update(GUID);
    base64(context.finish().as_ref())
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut all = headers.get_all(name).iter();
    match (all.next(), all.next()) {
        (Some(value), None) => Some(value.as_bytes()),
        _ => None,
    }
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// 16 bytes in base64 are 22 characters and two pads; the last character holds only two bits of them.
fn is_key(key: &[u8]) -> bool {
    let good = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    match key.split_last_chunk::<3>() {
        Some((first, [last, b'=', b'='])) => first.len() == 21 && first.iter().all(good) && matches!(last, b'A' | b'Q' | b'g' | b'w'),
        _ => false,
    }
}

/// RFC 4648 §4, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, b| bits << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = DIGITS.get((bits >> (18 - 6 * place) & 63) as usize).copied().unwrap_or(b'=');
            out.push(if place <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    const KEY: (&str, &str) = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    const VERSION: (&str, &str) = ("sec-websocket-version", "13");
    const UPGRADE: (&str, &str) = ("upgrade", "WebSocket");
    const CONNECTION: (&str, &str) = ("connection", "keep-alive, Upgrade");

    #[test]
    fn the_example_of_the_rfc() {
        assert_eq!(accept(&headers(&[UPGRADE, CONNECTION, VERSION, KEY])).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn what_is_refused() {
        for (fields, why) in [
            (vec![CONNECTION, VERSION, KEY], BadHandshake::NoUpgrade),
            (vec![UPGRADE, VERSION, KEY], BadHandshake::NoUpgrade),
            (vec![UPGRADE, CONNECTION, KEY], BadHandshake::Version),
            (vec![UPGRADE, CONNECTION, ("sec-websocket-version", "8"), KEY], BadHandshake::Version),
            (vec![UPGRADE, CONNECTION, VERSION], BadHandshake::Key),
            (vec![UPGRADE, CONNECTION, VERSION, KEY, KEY], BadHandshake::Key),
            (vec![UPGRADE, CONNECTION, VERSION, ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=")], BadHandshake::Key),
            (vec![UPGRADE, CONNECTION, VERSION, ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZR==")], BadHandshake::Key),
            (vec![UPGRADE, CONNECTION, VERSION, ("sec-websocket-key", "")], BadHandshake::Key),
        ] {
            assert_eq!(accept(&headers(&fields)), Err(why), "{fields:?}");
        }
    }

    #[test]
    fn base64_pads() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
