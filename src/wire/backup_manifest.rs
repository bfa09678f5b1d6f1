//! The manifest of a backup: what its first entry, its lists and its last entry say. JSON, one object a line.
//!
//! `begin` names the format and where the workspace stands among the entries. A list has a line for each file and directory since
//! the list before: so neither who writes nor who reads keeps more than one. `end` counts all of them and closes with a digest over
//! `begin`, every line and itself; through the lines it covers every byte. There is one way to write each of them.

use serde::{Deserialize, Serialize};

use crate::base::digest::{Sha256, hex};
use crate::wire::tar::Entry;

/// The format that this program writes, and the newest it reads.
pub const FORMAT: u64 = 1;
/// The name of the first entry.
pub const BEGIN: &str = "manifest/begin";
/// The name of the last entry.
pub const END: &str = "manifest/end";

/// The name of a list, from 1.
pub fn list_name(number: u64) -> String {
    format!("manifest/{number}")
}

/// What stands first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// Format version; see [`FORMAT`].
    #[serde(rename = "oxios_backup")]
    pub format: u64,
    /// Beneath which path the workspace's entries are: within `home/`, or `workspace`.
    pub workspace: String,
}

/// What is wrong with the first entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadBegin {
    /// It is of a newer format.
    Newer(u64),
    /// It is none.
    Unreadable,
}

impl Begin {
    /// Its bytes.
    pub fn write(&self) -> Vec<u8> {
        line(self)
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`BadBegin`].
    pub fn read(bytes: &[u8]) -> Result<Self, BadBegin> {
        #[derive(Deserialize)]
        struct Format {
            oxios_backup: u64,
        }
        let Format { oxios_backup } = serde_json::from_slice(bytes).map_err(|_| BadBegin::Unreadable)?;
        if oxios_backup > FORMAT {
            return Err(BadBegin::Newer(oxios_backup));
        }
        let begin: Self = serde_json::from_slice(bytes).map_err(|_| BadBegin::Unreadable)?;
        let good = begin.format == FORMAT && begin.write() == bytes;
        if good { Ok(begin) } else { Err(BadBegin::Unreadable) }
    }
}

/// The line of an entry; of a file with the digest of its content.
pub fn of(entry: &Entry, sha256: &[u8; 32]) -> Vec<u8> {
    #[derive(Serialize)]
    struct Line<'a> {
        path: &'a str,
        kind: &'a str,
        size: u64,
        mode: String,
        modified: u64,
        #[serde(skip_serializing_if = "str::is_empty")]
        sha256: &'a str,
    }
    let sha256 = if entry.is_dir { String::new() } else { hex(sha256) };
    line(&Line {
        path: entry.path.as_str(),
        kind: if entry.is_dir { "directory" } else { "file" },
        size: entry.size,
        mode: format!("{:04o}", entry.mode),
        modified: entry.modified,
        sha256: &sha256,
    })
}

/// What stands last, but for its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The version of the program that wrote it.
    pub program: String,
    /// When, RFC 3339.
    pub created: String,
    /// Files, without the manifest's own.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Bytes of all contents.
    pub bytes: u64,
}

impl End {
    /// Its bytes; `before` is over `begin` and every line. And the digest in them.
    pub fn write(&self, mut before: Sha256) -> (Vec<u8>, [u8; 32]) {
        let mut bytes = line(self);
        bytes.truncate(bytes.len().saturating_sub(2));
        before.update(&bytes);
        let digest = before.finish();
        bytes.extend_from_slice(format!(",\"digest\":\"{}\"}}\n", hex(&digest)).as_bytes());
        (bytes, digest)
    }

    /// Reads it, and the digest in it; none where it is not what comes behind `before`.
    pub fn read(bytes: &[u8], before: Sha256) -> Option<(Self, [u8; 32])> {
        let end: Self = serde_json::from_slice(bytes).ok()?;
        let (again, digest) = end.write(before);
        (again == bytes).then_some((end, digest))
    }
}

fn line(value: &impl Serialize) -> Vec<u8> {
    // Structures of texts and numbers: nothing in them can fail.
    let mut bytes = serde_json::to_vec(value).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::path::RelPath;

    #[test]
    fn what_is_written_is_read_and_every_changed_byte_is_found() {
        let begin = Begin { format: FORMAT, workspace: "home/workspace".to_owned() };
        let bytes = begin.write();
        assert_eq!(Begin::read(&bytes), Ok(begin));
        assert_eq!(Begin::read(b"{\"oxios_backup\":2,\"anything\":[]}"), Err(BadBegin::Newer(2)));
        assert_eq!(Begin::read(b"{\"oxios_backup\":0,\"workspace\":\"w\"}\n"), Err(BadBegin::Unreadable));
        assert_eq!(Begin::read(b""), Err(BadBegin::Unreadable));

        let end = End { program: "0.1.0".to_owned(), created: "2026-11-28T00:00:00.000Z".to_owned(), files: 3, directories: 2, bytes: 99 };
        let sha = || {
            let mut sha = Sha256::new();
            sha.update(b"lines");
            sha
        };
        let (bytes, digest) = end.write(sha());
        assert_eq!(End::read(&bytes, sha()), Some((end, digest)));
        assert_eq!(End::read(&bytes, Sha256::new()), None);
        for at in 0..bytes.len() {
            for flip in 1..=255_u8 {
                let mut changed = bytes.clone();
                changed[at] ^= flip;
                assert_eq!(End::read(&changed, sha()), None, "byte {at} ^ {flip}");
            }
        }
    }

    #[test]
    fn a_line_says_all_of_an_entry() {
        let entry = Entry { path: RelPath::parse("home/a \"b\"").unwrap(), is_dir: false, size: 3, mode: 0o600, modified: 9 };
        let text = String::from_utf8(of(&entry, &[0xab; 32])).unwrap();
        assert_eq!(
            text,
            format!(
                "{{\"path\":\"home/a \\\"b\\\"\",\"kind\":\"file\",\"size\":3,\"mode\":\"0600\",\"modified\":9,\"sha256\":\"{}\"}}\n",
                "ab".repeat(32)
            )
        );
        let dir = Entry { is_dir: true, size: 0, ..entry };
        assert!(!String::from_utf8(of(&dir, &[0; 32])).unwrap().contains("sha256"));
    }
}
