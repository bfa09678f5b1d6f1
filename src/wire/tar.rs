//! Headers of a tar file (POSIX.1-2001 "pax Interchange Format"), the small part of it that a backup needs: regular files and
//! directories, each with one header that any tar reads. Nothing here touches a disk.
//!
//! There is one way to write an entry, and only that is read: what was taken from a header is written again and must give the same
//! bytes. So links, devices, owners, other dialects, numbers in another spelling and checksums that do not hold need no cases of
//! their own, and no two readers see different files in one header.
//!
//! `path` and `size` stand in a pax header where they do not fit into the plain one (above 100 bytes, from 8 GiB on).

use std::fmt;

use crate::base::limits::BACKUP_PAX_BYTES_MAX;
use crate::wire::path::RelPath;

/// Headers and contents begin at multiples of this.
pub const BLOCK_BYTES: usize = 512;
/// The longest header: a pax header, what it says, and the plain one.
pub const HEADER_BYTES_MAX: usize = 2 * BLOCK_BYTES + BACKUP_PAX_BYTES_MAX;
/// What closes a tar file: two blocks of zeros.
pub const END: [u8; 2 * BLOCK_BYTES] = [0; 2 * BLOCK_BYTES];

/// Longest path in a plain header.
const NAME_BYTES_MAX: usize = 100;
/// First number that eleven octal digits cannot say.
const SIZE_TOO_LARGE: u64 = 1 << 33;
/// The latest time that a header can say, in seconds since 1970 (the year 2242).
pub const MODIFIED_MAX: u64 = SIZE_TOO_LARGE - 1;

/// A file or directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name with its directories.
    pub path: RelPath,
    /// It is a directory.
    pub is_dir: bool,
    /// Bytes of its content, which follows the header; 0 for a directory.
    pub size: u64,
    /// Permission bits (`0o777` mask).
    pub mode: u32,
    /// Seconds since 1970 of its last change, at most [`MODIFIED_MAX`].
    pub modified: u64,
}

/// Why bytes are no header of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadTar {
    /// They end within it.
    Cut,
    /// It is damaged, or nothing that this program writes.
    Header,
    /// The name leads out, or is too long.
    Name,
}

impl fmt::Display for BadTar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cut => "it ends within a header",
            Self::Header => "a header is damaged, or was written by something else",
            Self::Name => "a name in it is refused",
        })
    }
}

/// The bytes behind a content of this size, up to the next block.
pub fn padding(size: u64) -> usize {
    let over = usize::try_from(size % BLOCK_BYTES as u64).unwrap_or(0);
    if over == 0 { 0 } else { BLOCK_BYTES - over }
}

/// The header of an entry.
pub fn header(entry: &Entry) -> Vec<u8> {
    let path = entry.path.as_str();
    let mut said = String::new();
    if path.len() > NAME_BYTES_MAX {
        pax(&mut said, "path", path);
    }
    if entry.size >= SIZE_TOO_LARGE {
        pax(&mut said, "size", &entry.size.to_string());
    }
    let mut out = Vec::with_capacity(BLOCK_BYTES);
    if !said.is_empty() {
        out.extend_from_slice(&block(b"pax", b'x', said.len() as u64, 0o600, 0));
        out.extend_from_slice(said.as_bytes());
        out.resize(out.len() + padding(said.len() as u64), 0);
    }
    // For a reader that does not know pax: the beginning.
    let name = path.as_bytes().get(..path.len().min(NAME_BYTES_MAX)).unwrap_or_default();
    let size = if entry.size < SIZE_TOO_LARGE { entry.size } else { 0 };
    out.extend_from_slice(&block(name, if entry.is_dir { b'5' } else { b'0' }, size, entry.mode & 0o777, entry.modified));
    out
}

/// Reads the header at the beginning of `bytes` (as many as there are, [`HEADER_BYTES_MAX`] are enough), and tells how long it is.
/// `None`: here is the end of the entries.
///
/// # Errors
/// [`BadTar`].
pub fn read(bytes: &[u8]) -> Result<Option<(Entry, usize)>, BadTar> {
    let first = bytes.get(..BLOCK_BYTES).ok_or(BadTar::Cut)?;
    if first.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let (mut said, mut at) = (Said::default(), 0);
    if first.get(156) == Some(&b'x') {
        let size = octal(first.get(124..135)).and_then(|size| usize::try_from(size).ok()).ok_or(BadTar::Header)?;
        if size > BACKUP_PAX_BYTES_MAX {
            return Err(BadTar::Header);
        }
        let body = bytes.get(BLOCK_BYTES..BLOCK_BYTES + size).ok_or(BadTar::Cut)?;
        said = Said::read(body).ok_or(BadTar::Header)?;
        at = BLOCK_BYTES + size + padding(size as u64);
    }
    let plain = bytes.get(at..at + BLOCK_BYTES).ok_or(BadTar::Cut)?;
    let name = plain.get(..NAME_BYTES_MAX).unwrap_or_default();
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    let path = match said.path {
        Some(path) => path,
        None => std::str::from_utf8(name).map_err(|_| BadTar::Name)?,
    };
    let entry = Entry {
        path: RelPath::parse(path).map_err(|_| BadTar::Name)?,
        is_dir: plain.get(156) == Some(&b'5'),
        size: said.size.or_else(|| octal(plain.get(124..135))).ok_or(BadTar::Header)?,
        mode: octal(plain.get(100..107)).and_then(|mode| u32::try_from(mode).ok()).ok_or(BadTar::Header)?,
        modified: octal(plain.get(136..147)).ok_or(BadTar::Header)?,
    };
    let len = at + BLOCK_BYTES;
    // The one way to write it, or it is not read.
    let same = bytes.get(..len) == Some(&header(&entry)) && !(entry.is_dir && entry.size > 0);
    if same { Ok(Some((entry, len))) } else { Err(BadTar::Header) }
}

/// One plain header.
fn block(name: &[u8], kind: u8, size: u64, mode: u32, modified: u64) -> [u8; BLOCK_BYTES] {
    let mut block = [0; BLOCK_BYTES];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = block.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    put(0, name);
    put(100, format!("{mode:07o}").as_bytes());
    // Nobody's: what is restored belongs to whoever restores it.
    put(108, b"0000000\x000000000");
    put(124, format!("{size:011o}").as_bytes());
    put(136, format!("{:011o}", modified.min(MODIFIED_MAX)).as_bytes());
    put(148, b"        ");
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    if let Some(place) = block.get_mut(148..155) {
        place.copy_from_slice(format!("{sum:06o}\0").as_bytes());
    }
    block
}

/// `LEN key=value LF`, where LEN counts itself.
fn pax(out: &mut String, key: &str, value: &str) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest;
    while rest + len.to_string().len() != len {
        len = rest + len.to_string().len();
    }
    out.push_str(&format!("{len} {key}={value}\n"));
}

/// What a pax header says.
#[derive(Default)]
struct Said<'a> {
    path: Option<&'a str>,
    size: Option<u64>,
}

impl<'a> Said<'a> {
    fn read(body: &'a [u8]) -> Option<Self> {
        let (mut rest, mut said) = (std::str::from_utf8(body).ok()?, Self::default());
        while !rest.is_empty() {
            let (len, _) = rest.split_once(' ')?;
            let record = rest.get(..len.parse().ok()?)?;
            // A length of nothing would go on for ever.
            let (key, value) = record.strip_prefix(len)?.strip_prefix(' ')?.strip_suffix('\n')?.split_once('=')?;
            match key {
                "path" => said.path = Some(value),
                "size" => said.size = Some(value.parse().ok()?),
                _ => return None,
            }
            rest = rest.get(record.len()..)?;
        }
        Some(said)
    }
}

/// Octal digits and nothing else.
fn octal(field: Option<&[u8]>) -> Option<u64> {
    field?.iter().try_fold(0_u64, |sum, digit| match digit {
        b'0'..=b'7' => Some(sum << 3 | u64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, size: u64) -> Entry {
        Entry { path: RelPath::parse(path).unwrap(), is_dir: false, size, mode: 0o600, modified: 1_793_491_200 }
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = Entry { is_dir: true, mode: 0o700, ..entry("home", 0) };
        let deep = format!("home/{}", ["d".repeat(200).as_str(); 10].join("/"));
        let mut all = vec![dir, entry("a", 0), entry("home/\u{e4}\u{6f22} b", 513), entry(&"n".repeat(100), 1), entry(&deep, 7)];
        for len in 90..115 {
            // Around the lengths where a pax record's own length grows.
            all.push(entry(&"n".repeat(len), SIZE_TOO_LARGE - 1));
            all.push(entry(&"n".repeat(len), SIZE_TOO_LARGE));
        }
        all.push(entry("big", u64::MAX));
        for entry in all {
            let bytes = header(&entry);
            assert!(bytes.len() % BLOCK_BYTES == 0 && bytes.len() <= HEADER_BYTES_MAX);
            assert_eq!(read(&bytes), Ok(Some((entry.clone(), bytes.len()))));
            for cut in 0..bytes.len() {
                assert_eq!(read(&bytes[..cut]), Err(BadTar::Cut), "{entry:?} cut at {cut}");
            }
            let more = [&bytes[..], &[7; 600]].concat();
            assert_eq!(read(&more), Ok(Some((entry, bytes.len()))));
        }
        assert_eq!(read(&END), Ok(None));
    }

    #[test]
    fn every_flipped_bit_is_found_or_says_something_else() {
        for entry in [entry("home/keys.json", 1234), entry(&["p"; 80].join("/"), 5)] {
            let bytes = header(&entry);
            for at in 0..bytes.len() {
                for bit in 0..8 {
                    let mut changed = bytes.clone();
                    changed[at] ^= 1 << bit;
                    assert!(!matches!(read(&changed), Ok(Some((read, _))) if read == entry), "byte {at} bit {bit}");
                }
            }
        }
    }

    #[test]
    fn names_lead_downwards_and_nothing_but_files_and_directories_is_read() {
        let forged = |path: &str, kind: u8| {
            let mut said = String::new();
            pax(&mut said, "path", path);
            let mut all = block(b"pax", b'x', said.len() as u64, 0o600, 0).to_vec();
            all.extend_from_slice(said.as_bytes());
            all.resize(all.len() + padding(said.len() as u64), 0);
            all.extend_from_slice(&block(b"short", kind, 0, 0o600, 0));
            [block(path.as_bytes().get(..path.len().min(100)).unwrap(), kind, 0, 0o600, 0).to_vec(), all]
        };
        for bad in ["..", "../x", "/etc/passwd", "a/../x", "a//x", "a/./x", "", "a\\b", "a\nb"] {
            for bytes in forged(bad, b'0') {
                assert!(matches!(read(&bytes), Err(BadTar::Name | BadTar::Header)), "{bad:?}");
            }
        }
        for kind in *b"123467gLKSxXV\0" {
            assert!(forged("a", kind).iter().all(|bytes| read(bytes).is_err()), "{}", kind as char);
        }
        // What does not need pax must not use it, and a directory has no content.
        assert_eq!(read(&forged("a", b'0')[1]), Err(BadTar::Header));
        assert_eq!(read(&block(b"a", b'5', 1, 0o700, 0)), Err(BadTar::Header));
        for endless in ["", "0 ", "5 path", "18446744073709551616 path=a\n", "7 a=\u{e4}b\n"] {
            assert!(Said::read(endless.as_bytes()).is_none_or(|said| said.path.is_none()), "{endless:?}");
        }
        let huge = block(b"pax", b'x', BACKUP_PAX_BYTES_MAX as u64 + 1, 0o600, 0);
        assert_eq!(read(&huge.repeat(20)), Err(BadTar::Header));
    }
}
