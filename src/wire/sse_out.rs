//! Encoding server-sent events (WHATWG HTML §9.2). Values come from models and users, so what could forge a frame is refused.

use std::fmt::Display;

use bytes::Bytes;

/// A field held CR, LF or NUL, with which it would end early and begin another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadField;

/// A comment that keeps the connection alive; readers ignore it.
pub const KEEP_ALIVE: &[u8] = b":\n\n";

/// One event: `id:` and `event:` where given, `data:`, an empty line. `data` is one line (compact JSON is).
pub fn encode(id: Option<&dyn Display>, event: Option<&str>, data: &[u8]) -> Result<Bytes, BadField> {
    use std::io::Write;
    let mut out = Vec::with_capacity(data.len() + 64);
    if let Some(id) = id {
        out.extend_from_slice(b"id: ");
        let start = out.len();
        let _ = write!(out, "{id}");
        // An id with NUL is ignored by readers (§9.2.6), which would lose their place.
        check(out.get(start..).unwrap_or_default())?;
        out.push(b'\n');
    }
    if let Some(event) = event {
        out.extend_from_slice(b"event: ");
        check(event.as_bytes())?;
        out.extend_from_slice(event.as_bytes());
        out.push(b'\n');
    }
    check(data)?;
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\n\n");
    Ok(out.into())
}

fn check(field: &[u8]) -> Result<(), BadField> {
    if field.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)) { Err(BadField) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(id: Option<&dyn Display>, event: Option<&str>, data: &str) -> Result<String, BadField> {
        encode(id, event, data.as_bytes()).map(|b| String::from_utf8(b.to_vec()).unwrap())
    }

    #[test]
    fn fields_are_written_in_order() {
        assert_eq!(text(Some(&7), Some("resync"), "{}").unwrap(), "id: 7\nevent: resync\ndata: {}\n\n");
        assert_eq!(text(None, None, "{\"a\":1}").unwrap(), "data: {\"a\":1}\n\n");
    }

    #[test]
    fn what_would_forge_a_frame_is_refused() {
        assert_eq!(text(Some(&"1\ndata: x"), None, "{}"), Err(BadField));
        assert_eq!(text(Some(&"1\0"), None, "{}"), Err(BadField));
        assert_eq!(text(None, Some("a\rb"), "{}"), Err(BadField));
        assert_eq!(text(None, None, "{}\n\ndata: {}"), Err(BadField));
    }
}
