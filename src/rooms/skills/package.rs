//! What is to be installed: a SKILL.md alone, or an archive of one skill. From its bytes to the files of a skill; nothing is
//! written here.

use super::{ORIGIN, SkillError, is_name, manifest};
use crate::base::limits::SKILL_FILE_BYTES_MAX;
use crate::wire::bundle::{self, Files};
use crate::wire::path::RelPath;

/// The file that makes a skill.
const SKILL_FILE: &str = "SKILL.md";
/// RFC 1952 §2.3.1.
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// A zip's first entry.
const ZIP: &[u8] = b"PK\x03\x04";

/// A skill that is not there yet.
pub(super) struct Package {
    /// What its SKILL.md calls it.
    pub(super) name: String,
    /// All its files, SKILL.md among them.
    pub(super) files: Vec<(RelPath, Vec<u8>)>,
}

/// Reads one, in whatever form it is.
///
/// # Errors
/// Why it cannot be installed.
pub(super) fn read(bytes: Vec<u8>) -> Result<Package, SkillError> {
    let refused = |why: &str| Err(SkillError::Refused(why.to_owned()));
    let files = match () {
        () if bytes.starts_with(&GZIP) => within(unpacked(&bytes)?)?,
        () if bytes.starts_with(ZIP) => return refused("this is a zip; unpack it and pack it again as .tar.gz"),
        () if bytes.get(257..262) == Some(b"ustar") => return refused("this is a tar without gzip; compress it first"),
        () => vec![(path(SKILL_FILE)?, bytes)],
    };
    let find = |name: &str| files.iter().find(|(path, _)| path.as_str() == name).map(|(_, bytes)| bytes);
    if files.iter().any(|(path, _)| path.as_str().eq_ignore_ascii_case(ORIGIN)) {
        return Err(SkillError::Refused(format!("the archive has a file {ORIGIN}, which is where the digest is kept")));
    }
    let text = find(SKILL_FILE).ok_or(SkillError::Unfit)?;
    if text.len() > SKILL_FILE_BYTES_MAX {
        return Err(SkillError::TooLarge);
    }
    let text = std::str::from_utf8(text).map_err(|_| SkillError::Unfit)?;
    let manifest = manifest::read(text, find(".clawhub/origin.json").is_some());
    if let Some(problem) = manifest.problem {
        return Err(SkillError::Refused(problem));
    }
    let name = manifest.name.filter(|name| is_name(name)).ok_or(SkillError::BadName)?;
    Ok(Package { name, files })
}

/// The files of the one skill of an archive: SKILL.md lies at its top, or in the one directory that all of it lies in.
fn within(files: Files) -> Result<Files, SkillError> {
    bundle::around(files, SKILL_FILE)
        .ok_or_else(|| SkillError::Refused(format!("the archive has no {SKILL_FILE} at its top or in its one directory")))
}

/// A name that was checked as a whole before.
fn path(name: &str) -> Result<RelPath, SkillError> {
    RelPath::parse(name).map_err(|_| SkillError::Unfit)
}

#[cfg(feature = "archives")]
fn unpacked(bytes: &[u8]) -> Result<Vec<(RelPath, Vec<u8>)>, SkillError> {
    let files = crate::wire::archive::unpack(bytes).map_err(|e| SkillError::Refused(e.to_string()))?;
    Ok(files.into_iter().map(|file| (file.path, file.bytes)).collect())
}

#[cfg(not(feature = "archives"))]
fn unpacked(_: &[u8]) -> Result<Vec<(RelPath, Vec<u8>)>, SkillError> {
    let why = "this build reads no archives; one that was made with `cargo build --release --features archives` does. \
               Or unpack it and install its SKILL.md";
    Err(SkillError::Refused(why.to_owned()))
}
