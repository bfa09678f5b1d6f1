//! One line of the audit log: a flat JSON object of words without escapes, in a fixed order, closed by the hash of what stands
//! before it. Reading is strict, so that there is exactly one way to write a record.

/// A line without its hash is at most this long; ours have about 400 bytes.
pub const LINE_BYTES_MAX: usize = 1024;

/// What a line says. Absent fields are empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AuditLine<'a> {
    /// Its place in the chain: 1, 2, 3 …
    pub n: u64,
    /// When, in RFC 3339.
    pub time: &'a str,
    /// What happened: a word of ours.
    pub what: &'a str,
    /// Whose doing: an owner's id.
    pub owner: &'a str,
    /// The key that was shown: its id.
    pub key: &'a str,
    /// On what: an id as it is, or `hmac:…` of a name that somebody chose.
    pub on: &'a str,
    /// What came of it: a word of ours or a status code.
    pub outcome: &'a str,
    /// Of the first record of a segment: the hash of the record before.
    pub prev: &'a str,
    /// Of the first record of a segment: the public key that signs from here on.
    pub public_key: &'a str,
    /// Of a checkpoint: the signature over the record before.
    pub signature: &'a str,
}

/// A line that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read<'a> {
    /// What it says.
    pub line: AuditLine<'a>,
    /// The bytes that its hash is over (behind the hash of the record before).
    pub body: &'a [u8],
    /// The hash that it states.
    pub hash: [u8; 32],
}

/// The bytes before the hash: `{"n":1,"time":"…",…`, without an end. `None` where a field holds what no field may hold.
pub fn write_body(line: &AuditLine<'_>) -> Option<String> {
    let mut out = format!("{{\"n\":{},\"time\":\"{}\",\"what\":\"{}\"", line.n, line.time, line.what);
    let good = is_word(line.time) && is_word(line.what) && !line.time.is_empty() && !line.what.is_empty();
    for (name, value) in line.optional() {
        if !is_word(value) {
            return None;
        }
        if !value.is_empty() {
            out.push_str(",\"");
            out.push_str(name);
            out.push_str("\":\"");
            out.push_str(value);
            out.push('"');
        }
    }
    (good && out.len() <= LINE_BYTES_MAX).then_some(out)
}

/// What closes a body: its hash in hexadecimal, and the line's end.
pub fn close(body: &mut String, hash_hex: &str) {
    body.push_str(HASH);
    body.push_str(hash_hex);
    body.push_str("\"}\n");
}

/// Reads one line (without its line feed). `None`: it is no line of ours.
pub fn read(bytes: &[u8]) -> Option<Read<'_>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let at = text.len().checked_sub(HASH.len() + 64 + 2)?;
    let (body, rest) = (text.get(..at)?, text.get(at..)?);
    let hash = hash(rest.strip_prefix(HASH)?.strip_suffix("\"}")?)?;
    if body.len() > LINE_BYTES_MAX {
        return None;
    }
    let rest = body.strip_prefix("{\"n\":")?;
    let comma = rest.find(',')?;
    let (digits, mut rest) = rest.split_at(comma);
    // One spelling for each number.
    if digits.is_empty() || digits.starts_with('0') || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let mut line = AuditLine { n: digits.parse().ok()?, ..AuditLine::default() };
    line.time = field(&mut rest, "time")?;
    line.what = field(&mut rest, "what")?;
    line.owner = field(&mut rest, "owner").unwrap_or_default();
    line.key = field(&mut rest, "key").unwrap_or_default();
    line.on = field(&mut rest, "on").unwrap_or_default();
    line.outcome = field(&mut rest, "outcome").unwrap_or_default();
    line.prev = field(&mut rest, "prev").unwrap_or_default();
    line.public_key = field(&mut rest, "public_key").unwrap_or_default();
    line.signature = field(&mut rest, "signature").unwrap_or_default();
    rest.is_empty().then_some(Read { line, body: body.as_bytes(), hash })
}

/// Reads bytes in lower-case hexadecimal.
pub fn hex_bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut out = [0; N];
    if text.len() != 2 * N || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let mut digits = text.bytes();
    for byte in &mut out {
        *byte = super::hex_pair(&mut digits)?;
    }
    Some(out)
}

const HASH: &str = ",\"hash\":\"";

impl<'a> AuditLine<'a> {
    fn optional(&self) -> [(&'static str, &'a str); 7] {
        [
            ("owner", self.owner),
            ("key", self.key),
            ("on", self.on),
            ("outcome", self.outcome),
            ("prev", self.prev),
            ("public_key", self.public_key),
            ("signature", self.signature),
        ]
    }
}

fn hash(text: &str) -> Option<[u8; 32]> {
    hex_bytes(text)
}

/// The value of `,"name":"value"` at the beginning of `rest`, which moves behind it.
fn field<'a>(rest: &mut &'a str, name: &str) -> Option<&'a str> {
    let value = rest.strip_prefix(",\"")?.strip_prefix(name)?.strip_prefix("\":\"")?;
    let end = value.find('"')?;
    let (value, behind) = value.split_at(end);
    if value.is_empty() || !is_word(value) {
        return None;
    }
    *rest = behind.strip_prefix('"')?;
    Some(value)
}

/// Printable ASCII that JSON does not escape.
fn is_word(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let line = AuditLine {
            n: 12,
            time: "2026-11-23T06:43:55.123Z",
            what: "POST /api/chat",
            owner: "67e55044-10b1-426f-9247-bb680e5fe0c8",
            outcome: "200",
            ..AuditLine::default()
        };
        let mut text = write_body(&line).unwrap();
        close(&mut text, &"ab".repeat(32));
        let read_back = read(text.trim_end().as_bytes()).unwrap();
        assert_eq!((read_back.line, read_back.hash), (line, [0xab; 32]));
        assert!(serde_json::from_str::<serde_json::Value>(&text).unwrap()["what"] == "POST /api/chat");
    }

    #[test]
    fn nothing_that_needs_an_escape_is_written_or_read() {
        for bad in ["a\"b", "a\\b", "a\nb", "ü", "\0"] {
            assert!(write_body(&AuditLine { n: 1, time: "t", what: bad, ..AuditLine::default() }).is_none(), "{bad:?}");
        }
        for bad in [
            "",
            "{}",
            "{\"n\":01,\"time\":\"t\",\"what\":\"w\"",
            "{\"n\":1,\"what\":\"w\",\"time\":\"t\"",
            "{\"n\":1,\"time\":\"t\",\"what\":\"\"",
        ] {
            let mut text = bad.to_owned();
            close(&mut text, &"ab".repeat(32));
            assert!(read(text.trim_end().as_bytes()).is_none(), "{bad:?}");
        }
    }
}
