//! An archive of a skill (.tar.gz): from its bytes to its files, in memory. Nothing here touches a disk (THREATS 19).
//!
//! Layers, in this order:
//! 1. Size: one gzip member with nothing behind it, that unpacks to a bounded size and to a bounded multiple of its own.
//! 2. Number: a bounded number of entries.
//! 3. Kind: regular files and directories. Links, devices and whatever else tar knows are refused, also where they would be of no
//!    use to anybody.
//! 4. Name: UTF-8 that leads downwards only (`RelPath`), of bounded length and depth.
//! 5. Once: no name twice, also where a file system takes upper and lower case for the same, and no file where a directory is.
//!
//! Owners, modes, times and extended attributes are not looked at.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;

use flate2::bufread::GzDecoder;
use tar::EntryType;

use crate::base::limits::{
    SKILL_ENTRIES_MAX, SKILL_ENTRY_DEPTH_MAX, SKILL_ENTRY_NAME_BYTES_MAX, SKILL_UNPACKED_BYTES_MAX, SKILL_UNPACKED_RATIO_MAX,
    SKILL_UNPACKED_SMALL_BYTES,
};
use crate::wire::path::RelPath;

/// How much of a bad name is told.
const NAME_TOLD_CHARS: usize = 80;

/// A file that was in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its name with its directories.
    pub path: RelPath,
    /// All of it.
    pub bytes: Vec<u8>,
}

/// Why an archive is refused. The text is public: names in it are cut and escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadArchive {
    /// It is no gzip, its checksum is wrong, or it breaks off.
    Gzip,
    /// Something follows its gzip member.
    Trailing,
    /// It unpacks to more than this many bytes.
    TooLarge(usize),
    /// What is packed is no tar, or it breaks off.
    Tar,
    /// More than [`SKILL_ENTRIES_MAX`] entries.
    TooMany,
    /// A name that leads out, is no UTF-8, or is too long or too deep.
    Name(String),
    /// A name that is there already.
    Twice(String),
    /// Neither a file nor a directory.
    Kind(String),
}

impl fmt::Display for BadArchive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gzip => f.write_str("the archive is damaged: it is no whole gzip file"),
            Self::Trailing => f.write_str("the archive has something behind its gzip data"),
            Self::TooLarge(max) => write!(f, "the archive unpacks to more than {max} bytes"),
            Self::Tar => f.write_str("the archive is damaged: what is packed is no whole tar file"),
            Self::TooMany => write!(f, "the archive has more than {SKILL_ENTRIES_MAX} entries"),
            Self::Name(name) => write!(f, "the archive has an entry whose name is refused: {name}"),
            Self::Twice(name) => write!(f, "the archive has two entries of one name: {name}"),
            Self::Kind(name) => write!(f, "the archive has an entry that is neither a file nor a directory: {name}"),
        }
    }
}

impl std::error::Error for BadArchive {}

/// Every file of a .tar.gz, in the archive's order.
pub fn unpack(packed: &[u8]) -> Result<Vec<File>, BadArchive> {
    untar(&gunzip(packed)?)
}

/// What one gzip member holds (RFC 1952).
pub fn gunzip(packed: &[u8]) -> Result<Vec<u8>, BadArchive> {
    let ratio = packed.len().saturating_mul(SKILL_UNPACKED_RATIO_MAX).max(SKILL_UNPACKED_SMALL_BYTES);
    let max = ratio.min(SKILL_UNPACKED_BYTES_MAX);
    let mut decoder = GzDecoder::new(packed);
    let mut plain = Vec::new();
    // One byte more tells what is too large; up to there the end is reached, where checksum and length are compared (§2.3.1).
    decoder.by_ref().take(max as u64 + 1).read_to_end(&mut plain).map_err(|_| BadArchive::Gzip)?;
    if plain.len() > max {
        return Err(BadArchive::TooLarge(max));
    }
    // §2.2 lets further members follow; then a reader of the first one and a reader of all see different archives.
    if decoder.into_inner().is_empty() { Ok(plain) } else { Err(BadArchive::Trailing) }
}

/// Every file of a tar, in its order.
pub fn untar(plain: &[u8]) -> Result<Vec<File>, BadArchive> {
    let mut archive = tar::Archive::new(plain);
    let (mut files, mut names) = (Vec::new(), Names::default());
    for (n, entry) in archive.entries().map_err(|_| BadArchive::Tar)?.enumerate() {
        if n == SKILL_ENTRIES_MAX {
            return Err(BadArchive::TooMany);
        }
        let mut entry = entry.map_err(|_| BadArchive::Tar)?;
        let raw = entry.path_bytes().into_owned();
        match entry.header().entry_type() {
            // What holds for all entries behind it; `git archive` puts a comment there. Nothing in it is used.
            EntryType::XGlobalHeader => {}
            EntryType::Directory => {
                if let Some(path) = name(&raw)? {
                    names.directory(&path)?;
                }
            }
            EntryType::Regular => {
                let path = name(&raw)?.filter(|_| !raw.ends_with(b"/")).ok_or_else(|| BadArchive::Name(told(&raw)))?;
                names.file(&path)?;
                let mut bytes = Vec::new();
                let size = entry.size();
                entry.read_to_end(&mut bytes).map_err(|_| BadArchive::Tar)?;
                if bytes.len() as u64 != size {
                    return Err(BadArchive::Tar);
                }
                files.push(File { path, bytes });
            }
            _ => return Err(BadArchive::Kind(told(&raw))),
        }
    }
    Ok(files)
}

/// A name as a path; none for the top itself, which `tar -C dir .` writes as `./`.
fn name(raw: &[u8]) -> Result<Option<RelPath>, BadArchive> {
    let refused = || BadArchive::Name(told(raw));
    let text = std::str::from_utf8(raw).map_err(|_| refused())?;
    let inside = text.strip_prefix("./").unwrap_or(text);
    let inside = inside.strip_suffix('/').unwrap_or(inside);
    if matches!(text, "." | "./") {
        return Ok(None);
    }
    let path = RelPath::parse(inside).map_err(|_| refused())?;
    let depth = path.as_str().split('/').count();
    if path.as_str().len() > SKILL_ENTRY_NAME_BYTES_MAX || depth > SKILL_ENTRY_DEPTH_MAX {
        return Err(refused());
    }
    Ok(Some(path))
}

/// A stranger's name for a message.
fn told(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(raw);
    let cut: String = text.chars().take(NAME_TOLD_CHARS).collect();
    format!("{cut:?}")
}

/// The names so far, in lower case.
#[derive(Default)]
struct Names(BTreeMap<String, Kind>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    /// It has an entry of its own.
    Directory,
    /// Something lies in it.
    Above,
}

impl Names {
    fn file(&mut self, path: &RelPath) -> Result<(), BadArchive> {
        self.take(path, Kind::File, |_| false)
    }

    /// One may come behind what lies in it.
    fn directory(&mut self, path: &RelPath) -> Result<(), BadArchive> {
        self.take(path, Kind::Directory, |before| before == Kind::Above)
    }

    fn take(&mut self, path: &RelPath, kind: Kind, may_follow: fn(Kind) -> bool) -> Result<(), BadArchive> {
        let twice = || BadArchive::Twice(told(path.as_str().as_bytes()));
        let lower = path.as_str().to_lowercase();
        for (end, _) in lower.match_indices('/') {
            let above = lower.get(..end).unwrap_or_default();
            if *self.0.entry(above.to_owned()).or_insert(Kind::Above) == Kind::File {
                return Err(twice());
            }
        }
        match self.0.insert(lower, kind) {
            Some(before) if !may_follow(before) => Err(twice()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::io::Write;

    use flate2::Compression;

    /// An entry as a hostile tool would write it: the name goes into the header as it is.
    pub(crate) fn entry(name: &[u8], kind: u8, bytes: &[u8]) -> Vec<u8> {
        let mut block = [0_u8; 512];
        block[..name.len()].copy_from_slice(name);
        block[100..108].copy_from_slice(b"0000777\0");
        block[124..136].copy_from_slice(format!("{:011o}\0", bytes.len()).as_bytes());
        block[136..148].copy_from_slice(b"00000000000\0");
        block[156] = kind;
        block[157..161].copy_from_slice(b"/etc");
        block[257..265].copy_from_slice(b"ustar\x0000");
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let mut all = block.to_vec();
        all.extend_from_slice(bytes);
        all.resize(all.len().next_multiple_of(512), 0);
        all
    }

    /// Entries and their end.
    pub(crate) fn tar(entries: &[Vec<u8>]) -> Vec<u8> {
        let mut all = entries.concat();
        all.resize(all.len() + 1024, 0);
        all
    }

    pub(crate) fn gzip(plain: &[u8]) -> Vec<u8> {
        gzip_at(plain, Compression::default())
    }

    fn gzip_at(plain: &[u8], level: Compression) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn names(entries: &[Vec<u8>]) -> Result<Vec<String>, BadArchive> {
        untar(&tar(entries)).map(|files| files.into_iter().map(|file| file.path.as_str().to_owned()).collect())
    }

    fn file(name: &str) -> Vec<u8> {
        entry(name.as_bytes(), b'0', b"x")
    }

    #[test]
    fn files_come_out_as_they_went_in() {
        let files =
            unpack(&gzip(&tar(&[entry(b"./", b'5', b""), entry(b"./SKILL.md", b'0', b"text"), entry(b"./empty", 0, b"")]))).unwrap();
        let shown: Vec<_> = files.iter().map(|file| (file.path.as_str(), file.bytes.as_slice())).collect();
        assert_eq!(shown, [("SKILL.md", &b"text"[..]), ("empty", b"")]);
        // Directories before or behind what lies in them, and what `git archive` begins with.
        let all =
            [entry(b"pax_global_header", b'g', b"11 a=bcdef\n"), entry(b"a", b'5', b""), file("a/b"), file("c/d"), entry(b"c/", b'5', b"")];
        assert_eq!(names(&all).unwrap(), ["a/b", "c/d"]);
    }

    #[test]
    fn long_names_of_gnu_and_pax_are_read_and_checked_like_any_other() {
        let long = format!("{}/{}", "d".repeat(120), "f".repeat(120));
        let pax = |path: &str| {
            let len = (1..).find(|len| format!("{len} path={path}\n").len() == *len).unwrap();
            entry(b"x", b'x', format!("{len} path={path}\n").as_bytes())
        };
        assert_eq!(names(&[entry(b"L", b'L', format!("{long}\0").as_bytes()), file("short")]).unwrap(), std::slice::from_ref(&long));
        assert_eq!(names(&[pax(&long), file("short")]).unwrap(), [long]);
        for bad in ["../out", "/etc/passwd", "a/../../b", "a\0b"] {
            assert!(matches!(names(&[pax(bad), file("short")]), Err(BadArchive::Name(_))), "{bad:?}");
        }
        assert!(matches!(names(&[entry(b"L", b'L', b"../../out\0"), file("short")]), Err(BadArchive::Name(_))));
        assert_eq!(names(&[pax("a")]), Err(BadArchive::Tar), "a name of nothing");
    }

    #[test]
    fn no_name_leads_out_or_is_something_else_than_it_looks() {
        let deep = "d/".repeat(SKILL_ENTRY_DEPTH_MAX) + "f";
        for bad in
            ["..", "../x", "/x", "a/../x", "a//x", "a/./x", "././x", "", "/", "a\\b", "..\\x", "a\nb", "a\x1b[2J", "C:\\x", "x/", &deep]
        {
            assert!(matches!(names(&[file(bad)]), Err(BadArchive::Name(_))), "{bad:?}");
        }
        assert!(matches!(names(&[entry(b"\xff\xfe", b'0', b"")]), Err(BadArchive::Name(_))));
        assert_eq!(names(&[file("..a"), file("b.."), file(".hidden/x")]).unwrap().len(), 3);
        let Err(BadArchive::Name(told)) = names(&[file("\x1b[2J\u{202e}../x")]) else { panic!() };
        assert!(!told.contains(['\x1b', '\u{202e}']), "{told}");
    }

    #[test]
    fn only_files_and_directories_are_taken() {
        for kind in *b"123467SVMD?" {
            assert!(matches!(names(&[entry(b"x", kind, b"")]), Err(BadArchive::Kind(_) | BadArchive::Tar)), "{}", kind as char);
        }
    }

    #[test]
    fn no_name_is_there_twice() {
        for twice in [
            [file("a"), file("a")],
            [file("a"), file("./a")],
            [file("SKILL.md"), file("skill.MD")],
            [file("\u{c4}"), file("\u{e4}")],
            [file("a"), file("a/b")],
            [file("a/b"), file("a")],
            [file("A/b"), file("a")],
            [entry(b"a", b'5', b""), file("a")],
            [file("a"), entry(b"a/", b'5', b"")],
            [entry(b"a", b'5', b""), entry(b"a/", b'5', b"")],
        ] {
            assert!(matches!(names(&twice), Err(BadArchive::Twice(_))), "{:?}", String::from_utf8_lossy(&twice.concat()));
        }
    }

    #[test]
    fn bombs_are_small() {
        let zeros = |n: usize| gzip(&vec![0; n]);
        assert_eq!(gunzip(&zeros(SKILL_UNPACKED_SMALL_BYTES)).unwrap().len(), SKILL_UNPACKED_SMALL_BYTES);
        let bomb = zeros(1024 * 1024);
        assert!(bomb.len() * SKILL_UNPACKED_RATIO_MAX < 1024 * 1024);
        assert_eq!(gunzip(&bomb), Err(BadArchive::TooLarge(bomb.len() * SKILL_UNPACKED_RATIO_MAX)));
        let large = gzip_at(&vec![0; SKILL_UNPACKED_BYTES_MAX + 1], Compression::none());
        assert_eq!(gunzip(&large), Err(BadArchive::TooLarge(SKILL_UNPACKED_BYTES_MAX)));
        assert_eq!(names(&vec![entry(b"pax_global_header", b'g', b""); SKILL_ENTRIES_MAX + 1]), Err(BadArchive::TooMany));
        let many: Vec<_> = (0..=SKILL_ENTRIES_MAX).map(|n| file(&n.to_string())).collect();
        assert_eq!(names(&many), Err(BadArchive::TooMany));
        assert_eq!(names(&many[1..]).unwrap().len(), SKILL_ENTRIES_MAX);
    }

    #[test]
    fn what_is_damaged_is_told() {
        let whole = gzip(&tar(&[file("a")]));
        assert!(unpack(&whole).is_ok());
        for end in 0..whole.len() {
            assert_eq!(unpack(&whole[..end]), Err(BadArchive::Gzip), "cut at {end}");
        }
        let mut flipped = whole.clone();
        let crc = flipped.len() - 6;
        flipped[crc] ^= 1;
        assert_eq!(unpack(&flipped), Err(BadArchive::Gzip));
        assert_eq!(unpack(&[&whole[..], &whole].concat()), Err(BadArchive::Trailing));
        assert_eq!(unpack(&[&whole[..], b"\0"].concat()), Err(BadArchive::Trailing));
        assert_eq!(
            unpack(&gzip(b"no tar at all, but more than the five hundred and twelve bytes of a header ".repeat(9).as_slice())),
            Err(BadArchive::Tar)
        );
        let plain = tar(&[entry(b"a", b'0', &[1; 2000])]);
        for end in [100, 512, 600, 2511] {
            assert_eq!(untar(&plain[..end]), Err(BadArchive::Tar), "cut at {end}");
        }
        // A size beyond all bytes, written in base 256.
        let mut huge = entry(b"a", b'0', b"");
        huge[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        huge[148..156].fill(b' ');
        let sum: u32 = huge.iter().map(|b| u32::from(*b)).sum();
        huge[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        assert_eq!(untar(&huge), Err(BadArchive::Tar));
        assert_eq!(untar(b""), Ok(Vec::new()));
    }
}
