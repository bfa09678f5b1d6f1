//! A page of somebody's own from an archive: digest first, then read whole, then put in its place all at once (THREATS 19).

use std::fmt;
use std::io;
use std::path::Path;

use super::INDEX;
use crate::base::digest::{hex, sha256};
use crate::store::atomic::{make_dir, replace_dir};
use crate::sys::disk::Disk;
use crate::wire::bundle::{Files, around};

/// Why nothing was installed. The text is for whoever asked.
#[derive(Debug)]
pub enum InstallError {
    /// What was given is not what was asked for, or no page.
    Refused(String),
    /// The disk refused.
    Io(io::Error),
}

/// What a build without the feature `archives` says.
pub(super) const NO_ARCHIVES: &str = "this build reads no archives; one that was made with `cargo build --release --features archives` \
     does. Or unpack it into the directory yourself";

impl fmt::Display for InstallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => f.write_str(why),
            Self::Io(e) => write!(f, "the page was not written: {e}"),
        }
    }
}

impl std::error::Error for InstallError {}

impl From<io::Error> for InstallError {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// Replaces the page of a directory by that of an archive whose SHA-256 is this (hexadecimal), all at once; tells how many files it
/// has. Stopped at any point, the old one is there whole, or the new one.
pub fn install(disk: &dyn Disk, dir: &Path, archive: &[u8], digest: &str) -> Result<usize, InstallError> {
    let found = hex(&sha256(archive));
    if !found.eq_ignore_ascii_case(digest.trim()) {
        return Err(InstallError::Refused(format!("the archive's SHA-256 is {found}, not the given one; nothing was changed")));
    }
    let files = around(unpacked(archive)?, INDEX);
    let files = files.ok_or_else(|| InstallError::Refused(format!("the archive has no {INDEX} at its top or in its one directory")))?;
    if let Some(above) = dir.parent() {
        make_dir(disk, above)?;
    }
    replace_dir(disk, dir, &files)?;
    Ok(files.len())
}

#[cfg(feature = "archives")]
fn unpacked(bytes: &[u8]) -> Result<Files, InstallError> {
    let files = crate::wire::archive::unpack(bytes).map_err(|e| InstallError::Refused(e.to_string()))?;
    Ok(files.into_iter().map(|file| (file.path, file.bytes)).collect())
}

#[cfg(not(feature = "archives"))]
fn unpacked(_: &[u8]) -> Result<Files, InstallError> {
    Err(InstallError::Refused(NO_ARCHIVES.to_owned()))
}

#[cfg(test)]
#[cfg(feature = "archives")]
mod tests {
    use super::*;
    use crate::sys::disk::RealDisk;
    use std::io::Write;

    fn packed(files: &[(&str, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            // As it is: the writer would refuse a name that leads out.
            header.as_old_mut().name.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
            header.set_cksum();
            tar.append(&header, text.as_bytes()).unwrap();
        }
        let mut zip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        zip.write_all(&tar.into_inner().unwrap()).unwrap();
        zip.finish().unwrap()
    }

    #[test]
    fn a_page_is_replaced_as_a_whole_and_only_by_what_was_asked_for() {
        let (dir, _) = crate::rooms::test_seams("site-install");
        let page = dir.join("web/dist");
        let put = |files: &[(&str, &str)], digest: Option<&str>| {
            let bytes = packed(files);
            let own = hex(&sha256(&bytes));
            install(&RealDisk, &page, &bytes, digest.unwrap_or(&own)).map_err(|e| e.to_string())
        };
        let read = |name: &str| std::fs::read_to_string(page.join(name)).ok();
        assert_eq!(put(&[("dist/index.html", "one"), ("dist/assets/a.js", "a")], None), Ok(2));
        assert_eq!((read("index.html").as_deref(), read("assets/a.js").as_deref()), (Some("one"), Some("a")));
        for (files, digest, why) in [
            (&[("index.html", "two")][..], Some("00"), "SHA-256"),
            (&[("page.html", "two")], None, "no index.html"),
            (&[("index.html", "two"), ("../token", "x")], None, "refused"),
            (&[("index.html", "two"), ("/etc/x", "x")], None, "refused"),
        ] {
            let refused = put(files, digest).unwrap_err();
            assert!(refused.contains(why), "{refused}");
            assert_eq!(read("index.html").as_deref(), Some("one"), "nothing was changed");
        }
        assert_eq!(put(&[("index.html", "two")], None), Ok(1));
        assert_eq!((read("index.html").as_deref(), read("assets/a.js")), (Some("two"), None), "nothing of the old one is left");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
