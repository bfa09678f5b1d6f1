//! Files that somebody gives for a backup: read to their end whatever they are, and what is restored lies beneath the home.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::base::digest::{Sha256, sha256};
use crate::fuzzing::house::directory;
use crate::store::backup::{Progress, Target, Whither, restore, verify};
use crate::sys::disk::{DiskFile, RealDisk};
use crate::wire::backup_manifest::{self as manifest, Begin};
use crate::wire::path::RelPath;
use crate::wire::tar::{self, Entry};

thread_local! {
    static PLACE: RefCell<Place> = RefCell::new(Place(directory()));
}

/// A directory that lasts as long as its thread.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// First as it is. Then as lines `path=content` (`path/` is a directory) of which a backup is made whose digests hold, whatever
/// the names are, so that what lies behind the digests is reached.
pub(super) fn backup_file(data: &[u8]) {
    look(data);
    look(&made_of(data));
}

/// It is refused, or it is restored: every file once, beneath the home, and nothing else anywhere.
fn look(bytes: &[u8]) {
    let file = Bytes(bytes);
    let Ok(report) = verify(&file, &mut on) else { return };
    assert!(report.bytes <= bytes.len() as u64);
    PLACE.with_borrow(|Place(dir)| {
        let (home, workspace) = (dir.join("new/home"), dir.join("new/workspace"));
        let goes = if report.layout.is_outside() {
            Whither::Outside(workspace)
        } else {
            Whither::Inside(RelPath::parse("workspace").unwrap_or_else(|e| panic!("{e:?}")))
        };
        restore(&RealDisk, &file, &Target { home, workspace: goes }, &mut on).unwrap_or_else(|e| panic!("verified, and then: {e}"));
        let (mut files, mut size) = (0, 0);
        count(&dir.join("new"), &mut files, &mut size);
        // And the lock of the new home.
        assert_eq!((files, size), (report.files + 1, report.bytes + lock(dir)));
        let names: Vec<_> = fs::read_dir(dir).unwrap_or_else(|e| panic!("{e}")).flatten().map(|item| item.file_name()).collect();
        assert_eq!(names, ["new"], "beneath the home");
        fs::remove_dir_all(dir.join("new")).unwrap_or_else(|e| panic!("{e}"));
    });
}

fn on(_: Progress) -> bool {
    true
}

fn lock(dir: &Path) -> u64 {
    fs::metadata(dir.join("new/home/lock")).map_or(0, |meta| meta.len())
}

fn count(dir: &Path, files: &mut u64, size: &mut u64) {
    for item in fs::read_dir(dir).unwrap_or_else(|e| panic!("{e}")).flatten() {
        let meta = fs::symlink_metadata(item.path()).unwrap_or_else(|e| panic!("{e}"));
        assert!(meta.is_file() || meta.is_dir(), "{:?}", item.path());
        if meta.is_dir() {
            count(&item.path(), files, size);
        } else {
            (*files, *size) = (*files + 1, *size + meta.len());
        }
    }
}

fn made_of(data: &[u8]) -> Vec<u8> {
    let begin = Begin { format: manifest::FORMAT, workspace: "home/workspace".to_owned() }.write();
    let (mut out, mut list, mut digest) = (Vec::new(), Vec::new(), Sha256::new());
    digest.update(&begin);
    add(&mut out, manifest::BEGIN, 0, &begin);
    let mut end = manifest::End { program: String::new(), created: String::new(), files: 0, directories: 0, bytes: 0 };
    for line in data.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let line = String::from_utf8_lossy(line);
        let (path, content) = line.split_once('=').unwrap_or((&line, ""));
        let (path, is_dir) = path.strip_suffix('/').map_or((path, false), |path| (path, true));
        let content = if is_dir { b"" } else { content.as_bytes() };
        let Some(entry) = add(&mut out, path, if is_dir { 0o700 } else { 0o644 }, content) else { continue };
        let line = manifest::of(&entry, &sha256(content));
        digest.update(&line);
        list.extend_from_slice(&line);
        end.bytes += entry.size;
        *(if is_dir { &mut end.directories } else { &mut end.files }) += 1;
    }
    if !list.is_empty() {
        add(&mut out, "manifest/1", 0, &list);
    }
    add(&mut out, manifest::END, 0, &end.write(digest).0);
    out.extend_from_slice(&tar::END);
    out
}

/// Adds an entry; of the manifest where its mode is 0. One whose name is no path is put there all the same, and none is given.
fn add(out: &mut Vec<u8>, path: &str, mode: u32, content: &[u8]) -> Option<Entry> {
    let own = mode == 0;
    let (mode, modified) = if own { (0o600, 0) } else { (mode, 1) };
    let parsed = RelPath::parse(path).or_else(|_| RelPath::parse("x")).ok()?;
    let entry = Entry { path: parsed, is_dir: mode == 0o700, size: content.len() as u64, mode, modified };
    let mut header = tar::header(&entry);
    let good = entry.path.as_str() == path;
    if !good {
        let name = path.as_bytes().get(..path.len().min(100)).unwrap_or_default();
        header[..100].fill(0);
        header[..name.len()].copy_from_slice(name);
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    }
    out.extend_from_slice(&header);
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(tar::BLOCK_BYTES), 0);
    good.then_some(entry)
}

/// A file that is these bytes.
struct Bytes<'a>(&'a [u8]);

impl DiskFile for Bytes<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.0.get(offset..)).unwrap_or_default();
        let n = rest.len().min(buffer.len());
        buffer[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn sync(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }
}
