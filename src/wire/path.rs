//! Paths: percent-decoding, once and segment by segment, and the one type for a path beneath a root.

use std::fmt;

/// A segment or path that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadPath {
    /// A bad percent escape, bytes that are no UTF-8, a separator, a backslash or a control character inside a segment; empty; too long.
    Malformed,
    /// `..`: it wants to leave its root.
    Leaves,
}

/// Longest path; the kernel's own limit is twice that.
const PATH_BYTES_MAX: usize = 2048;
/// Longest segment, as in every common file system.
const SEGMENT_BYTES_MAX: usize = 255;

/// The path of a request target is well formed: every `%` starts an escape, and what is decoded is UTF-8 without NUL.
/// Overlong forms and lone surrogates are no UTF-8 (RFC 3629 §3).
pub fn is_well_formed(path: &str) -> bool {
    !path.contains('%') || decode(path).is_ok_and(|text| !text.contains('\0'))
}

/// Decodes one segment of a request path once. `%2F`, backslash and control characters are refused: file systems and
/// routers would read them as something else than one name.
pub fn decode_segment(segment: &str) -> Result<String, BadPath> {
    let text = decode(segment)?;
    if text.chars().any(|c| c == '/' || c == '\\' || c.is_control()) { Err(BadPath::Malformed) } else { Ok(text) }
}

/// Decodes the rest of a request path once, as one text: slashes, encoded or not, belong to it. Control characters are refused.
/// For names that only look like paths (`openai/gpt`); it is never used as one.
pub fn decode_rest(rest: &str) -> Result<String, BadPath> {
    let text = decode(rest)?;
    if text.chars().any(char::is_control) { Err(BadPath::Malformed) } else { Ok(text) }
}

/// A relative path of plain names: it cannot leave the directory it is used in (symbolic links are the kernel's part,
/// see `sys::root`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelPath(String);

impl RelPath {
    /// From the rest of a request path: split first, then each segment decoded once.
    pub fn from_request(raw: &str) -> Result<Self, BadPath> {
        let names = raw.split('/').map(decode_segment).collect::<Result<Vec<_>, _>>()?;
        Self::of(names.iter().map(String::as_str))
    }

    /// From text that is not encoded (a tool's argument).
    pub fn parse(text: &str) -> Result<Self, BadPath> {
        Self::of(text.split('/'))
    }

    /// With `/` between its names.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn of<'a>(names: impl Iterator<Item = &'a str>) -> Result<Self, BadPath> {
        let mut path = String::new();
        for name in names {
            match name {
                ".." => return Err(BadPath::Leaves),
                "" | "." => return Err(BadPath::Malformed),
                _ if name.len() > SEGMENT_BYTES_MAX => return Err(BadPath::Malformed),
                _ if name.chars().any(|c| c == '\\' || c.is_control()) => return Err(BadPath::Malformed),
                _ => {}
            }
            if !path.is_empty() {
                path.push('/');
            }
            path.push_str(name);
            if path.len() > PATH_BYTES_MAX {
                return Err(BadPath::Malformed);
            }
        }
        Ok(Self(path))
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn decode(text: &str) -> Result<String, BadPath> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(if byte == b'%' { super::hex_pair(&mut bytes).ok_or(BadPath::Malformed)? } else { byte });
    }
    String::from_utf8(out).map_err(|_| BadPath::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_names_is_taken_as_it_is() {
        for (raw, is) in [("a", "a"), ("a/b.txt", "a/b.txt"), ("a%20b/%C3%A4", "a b/ä"), ("..a/b..", "..a/b.."), ("%252e%252e", "%2e%2e")]
        {
            assert_eq!(RelPath::from_request(raw).unwrap().as_str(), is, "{raw}");
        }
    }

    #[test]
    fn no_path_leaves_its_root() {
        for raw in ["..", "a/..", "../a", "%2e%2e", "a/%2E./b", ".%2e"] {
            assert_eq!(RelPath::from_request(raw), Err(BadPath::Leaves), "{raw}");
        }
        for raw in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "a/./b",
            "a%2fb",
            "a%5cb",
            "a\\b",
            "%00",
            "a%",
            "a%2",
            "a%zz",
            "%c0%ae%c0%ae",
            "%ed%a0%80",
            "a%0a",
        ] {
            assert_eq!(RelPath::from_request(raw), Err(BadPath::Malformed), "{raw}");
        }
    }

    #[test]
    fn every_pair_of_bytes_stays_beneath() {
        // All two-byte names, raw and encoded: whatever parses has no separator, no dot-dot and no control character.
        for a in 0..=255u8 {
            for b in 0..=255u8 {
                if let Ok(path) = RelPath::from_request(&format!("%{a:02x}%{b:02X}")) {
                    let text = path.as_str();
                    assert!(text != ".." && text != "." && !text.contains(['/', '\\', '\0']), "{text:?}");
                    assert_eq!(RelPath::parse(text).as_ref(), Ok(&path));
                }
            }
        }
    }

    #[test]
    fn overlong_forms_are_not_well_formed() {
        for (path, is) in [("/a", true), ("/%c3%a4", true), ("/%c0%af", false), ("/%", false), ("/%00", false), ("/%ff", false)] {
            assert_eq!(is_well_formed(path), is, "{path}");
        }
    }
}
