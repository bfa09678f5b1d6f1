//! Backups of real homes, of homes that change meanwhile, and files that no backup is.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::*;
use crate::base::digest::{Sha256, sha256};
use crate::base::live::Live;
use crate::base::metrics::Metrics;
use crate::base::time::Timestamp;
use crate::store::atomic::make_dir;
use crate::store::audit::{Audit, Event, Outcome, What, Who};
use crate::store::keys::Keys;
use crate::store::testing::{Bench, done, say, token};
use crate::sys::disk::{Disk, DiskFile, Open, RealDisk, read_whole};
use crate::wire::backup_manifest::{self as manifest, Begin};
use crate::wire::path::RelPath;
use crate::wire::tar::{self, Entry};

/// A file in memory.
#[derive(Default)]
struct Bytes(Mutex<Vec<u8>>);

impl DiskFile for Bytes {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = self.0.lock().unwrap();
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        let n = rest.len().min(buffer.len());
        buffer[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
    fn write_at(&self, new: &[u8], offset: u64) -> io::Result<()> {
        let mut bytes = self.0.lock().unwrap();
        let end = offset as usize + new.len();
        let len = bytes.len().max(end);
        bytes.resize(len, 0);
        bytes[offset as usize..end].copy_from_slice(new);
        Ok(())
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.lock().unwrap().resize(len as usize, 0);
        Ok(())
    }
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().len() as u64)
    }
}

fn on(_: Progress) -> bool {
    true
}

fn source(bench: &Bench) -> Result<Source, BackupError> {
    Source::open(Arc::new(bench.disk.clone()), &bench.dir, &bench.dir, &bench.dir.join("workspace"))
}

fn backed_up(bench: &Bench) -> (Vec<u8>, Written) {
    let file = Bytes::default();
    let written = write(&source(bench).unwrap(), &file, Timestamp::from_millis(1_800_000_000_000), &mut on).unwrap();
    let bytes = file.0.into_inner().unwrap();
    assert_eq!(bytes.len() as u64, written.bytes);
    (bytes, written)
}

fn verified(bytes: &[u8]) -> Result<Report, BackupError> {
    verify(&Bytes(Mutex::new(bytes.to_vec())), &mut on)
}

fn target(home: &Path) -> Target {
    Target { home: home.to_owned(), workspace: Whither::Inside(RelPath::parse("workspace").unwrap()) }
}

fn restored(bytes: &[u8], disk: &dyn Disk, home: &Path) -> Result<(), BackupError> {
    restore(disk, &Bytes(Mutex::new(bytes.to_vec())), &target(home), &mut on)
}

fn put(bench: &Bench, path: &str, bytes: &[u8]) {
    let path = bench.dir.join(path);
    make_dir(&bench.disk, path.parent().unwrap()).unwrap();
    let file = bench.disk.open(&path, Open::Append).unwrap();
    file.set_len(0).unwrap();
    file.write_at(bytes, 0).unwrap();
}

/// A home as a server leaves it that was killed within an answer.
async fn furnish(bench: &Bench) {
    let home = bench.home();
    let sessions = crate::store::sessions::Sessions::open(&home, bench.owner(), Default::default());
    Keys::open(&home).unwrap();
    for n in 0..3 {
        let session = sessions.load_or_create(bench.session_id(), bench.owner()).await.unwrap();
        let message = bench.message_id();
        session.accept(message, say(&format!("question {n}"))).await.unwrap();
        session.append(message, vec![token("a piece")]).await.unwrap();
        session.put_blob(vec![b'r'; 20_000]).await.unwrap();
        if n > 0 {
            session.append(message, vec![done("an answer")]).await.unwrap();
        }
    }
    let audit = Audit::open(&home, Arc::new(Live::new(Default::default())), Metrics::new(0)).unwrap();
    for n in 0..300 {
        audit.note(Event { who: Who::default(), what: What::Pruned, on: None, outcome: Outcome::Count(n) });
    }
    put(bench, "config.toml", b"[gateway]\nport = 0\n");
    put(bench, &format!("workspace/files/{}/x.new", "deep/".repeat(60).trim_end_matches('/')), b"mine");
    put(bench, "workspace/memory/facts/1.json", b"{}");
}

/// Path and content of every file, but for what belongs to a process.
fn held(disk: &dyn Disk, dir: &Path) -> Vec<(String, Vec<u8>)> {
    let (mut all, mut open) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(at) = open.pop() {
        for item in disk.list(&at).unwrap() {
            let path = at.join(&item.name);
            let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
            if item.is_dir {
                open.push(path);
            } else if !["lock", "keys.lock", "reserve"].contains(&name.as_str()) {
                all.push((name, read_whole(disk, &path, u64::MAX).unwrap()));
            }
        }
    }
    all.sort();
    all
}

#[tokio::test]
async fn a_home_comes_back_as_it_was() {
    let bench = Bench::new();
    furnish(&bench).await;
    let (bytes, written) = backed_up(&bench);
    assert_eq!(written.left_out_count, 0, "{written:?}");
    let report = verified(&bytes).unwrap();
    assert_eq!((report.sessions, report.keys, &report.doubts, &report.notes), (3, 1, &vec![], &vec![]));
    assert_eq!(report.config, b"[gateway]\nport = 0\n");
    // 300 records, the beginning of the segment, and a checkpoint.
    assert_eq!(report.audit_records, 302);
    assert!(report.audit_head.unwrap().starts_with("302:"));
    let other = Bench::new();
    let home = other.dir.join("new/home");
    restored(&bytes, &RealDisk, &home).unwrap();
    assert_eq!(held(&RealDisk, &home), held(&RealDisk, &bench.dir));
    assert_eq!(RealDisk.list(home.parent().unwrap()).unwrap().len(), 1, "nothing is left beside it");
    for (name, _) in held(&RealDisk, &home) {
        let (was, is) = (RealDisk.stat(&bench.dir.join(&name)).unwrap().unwrap(), RealDisk.stat(&home.join(&name)).unwrap().unwrap());
        assert_eq!((is.mode, is.modified.millis() / 1000), (0o600, was.modified.millis() / 1000), "{name}");
    }
    assert!(matches!(restored(&bytes, &RealDisk, &home), Err(BackupError::Refused(why)) if why.contains("not empty")));
}

#[test]
fn a_file_from_a_far_future_is_backed_up() {
    let bench = Bench::new();
    put(&bench, "secret", &[7; 32]);
    put(&bench, "workspace/files/a", b"text");
    let path = bench.dir.join("workspace/files/a");
    let far = std::time::UNIX_EPOCH + std::time::Duration::from_secs(tar::MODIFIED_MAX + 9);
    std::fs::File::open(&path).unwrap().set_modified(far).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), far, "this file system can say it");
    assert_eq!(verified(&backed_up(&bench).0).unwrap().files, 2);
}

#[tokio::test]
async fn any_tar_reads_it() {
    let bench = Bench::new();
    furnish(&bench).await;
    let (bytes, _) = backed_up(&bench);
    let other = Bench::new();
    std::fs::create_dir_all(&other.dir).unwrap();
    std::fs::write(other.dir.join("b.tar"), &bytes).unwrap();
    let done = std::process::Command::new("tar").args(["-xf", "b.tar"]).current_dir(&other.dir).output().unwrap();
    assert!(done.status.success() && done.stderr.is_empty(), "{done:?}");
    assert_eq!(held(&RealDisk, &other.dir.join("home")), held(&RealDisk, &bench.dir));
}

/// A backup of one file.
fn small() -> Vec<u8> {
    let bench = Bench::new();
    put(&bench, "secret", &[7; 32]);
    put(&bench, "workspace/files/a", b"text");
    backed_up(&bench).0
}

#[test]
fn every_truncation_and_every_flipped_byte_is_found() {
    let whole = small();
    assert!(verified(&whole).is_ok());
    for end in 0..whole.len() {
        assert!(verified(&whole[..end]).is_err(), "cut at {end}");
    }
    for at in 0..whole.len() {
        for flip in [1 << (at % 8), 0xff] {
            let mut changed = whole.clone();
            changed[at] ^= flip;
            assert!(verified(&changed).is_err(), "byte {at} ^ {flip}");
        }
    }
    assert!(verified(&[&whole[..], &[0; 512]].concat()).is_err(), "something behind it");
    assert!(verified(&[&whole[..], &whole].concat()).is_err());
    let at = whole.windows(4).position(|bytes| bytes == b"text").unwrap();
    let mut changed = whole.clone();
    changed[at] = b'T';
    let told = verified(&changed).unwrap_err().to_string();
    assert!(told.contains("home/workspace/files/a"), "the damaged file is named: {told}");
}

/// A backup with these entries, whatever they are, and a manifest that fits them.
fn forged(entries: &[(Entry, &[u8])]) -> Vec<u8> {
    let begin = Begin { format: manifest::FORMAT, workspace: "home/workspace".to_owned() }.write();
    let (mut digest, mut list, mut out) = (Sha256::new(), Vec::new(), Vec::new());
    digest.update(&begin);
    let own = |out: &mut Vec<u8>, path: &str, bytes: &[u8]| {
        let path = RelPath::parse(path).unwrap();
        out.extend(tar::header(&Entry { path, is_dir: false, size: bytes.len() as u64, mode: 0o600, modified: 0 }));
        out.extend(bytes);
        out.resize(out.len().next_multiple_of(512), 0);
    };
    own(&mut out, manifest::BEGIN, &begin);
    let mut end = manifest::End { program: "x".to_owned(), created: "y".to_owned(), files: 0, directories: 0, bytes: 0 };
    for (entry, bytes) in entries {
        out.extend(tar::header(entry));
        out.extend(*bytes);
        out.resize(out.len().next_multiple_of(512), 0);
        let line = manifest::of(entry, &sha256(bytes));
        digest.update(&line);
        list.extend(line);
        end.bytes += entry.size;
        *(if entry.is_dir { &mut end.directories } else { &mut end.files }) += 1;
    }
    if !list.is_empty() {
        own(&mut out, "manifest/1", &list);
    }
    own(&mut out, manifest::END, &end.write(digest).0);
    out.extend(tar::END);
    out
}

fn file<'a>(path: &str, bytes: &'a [u8]) -> (Entry, &'a [u8]) {
    (Entry { path: RelPath::parse(path).unwrap(), is_dir: false, size: bytes.len() as u64, mode: 0o600, modified: 1 }, bytes)
}

fn dir(path: &str) -> (Entry, &'static [u8]) {
    (Entry { path: RelPath::parse(path).unwrap(), is_dir: true, size: 0, mode: 0o700, modified: 1 }, b"")
}

#[test]
fn what_no_backup_has_is_refused_although_its_digests_hold() {
    assert!(verified(&forged(&[file("home/a", b"1"), file("home/b", b"2")])).is_ok());
    assert!(verified(&forged(&[])).is_ok(), "whole, and of no use");
    let huge = Entry { size: u64::MAX, ..file("home/a", b"").0 };
    for (name, entries) in [
        ("twice", vec![file("home/a", b"1"), file("home/a", b"2")]),
        ("out of order", vec![file("home/b", b"1"), file("home/a", b"2")]),
        ("keys before sessions", vec![file("home/keys.json", b"1"), file("home/workspace/sessions/x", b"2")]),
        ("a file in a file", vec![file("home/a", b"1"), file("home/a/b", b"2")]),
        ("elsewhere", vec![file("etc/passwd", b"1")]),
        ("a lock", vec![file("home/lock", b"1")]),
        ("half written", vec![file("home/keys.json.new", b"1")]),
        ("a file as the home", vec![file("home", b"1")]),
        ("a file as the workspace", vec![file("home/workspace", b"1")]),
        ("a directory as keys", vec![dir("home/keys.json")]),
        ("a file as a room", vec![file("home/workspace/sessions", b"1")]),
        ("in the secret", vec![file("home/secret/x", b"1")]),
        ("in a segment", vec![file("home/workspace/audit/1.log/x", b"1")]),
        ("in a log", vec![file("home/workspace/sessions/67e55044-10b1-426f-9247-bb680e5fe0c8.log/x", b"1")]),
        ("in the agents", vec![file("home/workspace/agents.jsonl/x", b"1")]),
        ("the other workspace", vec![file("workspace/a", b"1")]),
        ("more than is there", vec![(huge, b"")]),
    ] {
        let told = verified(&forged(&entries)).unwrap_err();
        assert!(matches!(told, BackupError::Refused(_) | BackupError::Damaged(_)), "{name}: {told}");
        let bench = Bench::new();
        std::fs::create_dir_all(&bench.dir).unwrap();
        assert!(restored(&forged(&entries), &RealDisk, &bench.dir.join("home")).is_err(), "{name}");
        assert_eq!(std::fs::read_dir(&bench.dir).unwrap().count(), 0, "{name}: nothing is left");
    }
    // Names that no path type lets through, links, and headers without end.
    let good = forged(&[file("home/a", b"1")]);
    let at = good.windows(7).position(|bytes| bytes == b"home/a\0").unwrap();
    for bad in ["../../x", "/etc/xx", "home/..", "home//a", "home/./"] {
        let mut changed = good.clone();
        changed[at..at + bad.len()].copy_from_slice(bad.as_bytes());
        resum(&mut changed[at..at + 512]);
        assert!(matches!(verified(&changed), Err(BackupError::Refused(_) | BackupError::Damaged(_))), "{bad}");
    }
    for kind in *b"123467xgLKSV" {
        let mut changed = good.clone();
        changed[at + 156] = kind;
        resum(&mut changed[at..at + 512]);
        assert!(matches!(verified(&changed), Err(BackupError::Damaged(_))), "{}", kind as char);
    }
    let begin = &good[..1024];
    for endless in [good[1024..1536].repeat(1000), vec![0; 100_000], b"x".repeat(5000)] {
        assert!(verified(&[begin, &endless].concat()).is_err());
    }
}

fn resum(header: &mut [u8]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
}

#[test]
fn other_files_and_newer_ones_are_told_from_damage() {
    assert!(matches!(verified(b""), Err(BackupError::NoBackup)));
    assert!(matches!(verified(&[0; 2048]), Err(BackupError::NoBackup)));
    assert!(matches!(verified(b"PK\x03\x04".repeat(400).as_slice()), Err(BackupError::NoBackup)));
    let whole = small();
    assert!(matches!(verified(&whole[512..]), Err(BackupError::NoBackup)));
    let mut newer = whole.clone();
    let at = newer.windows(4).position(|bytes| bytes == b"\":1,").unwrap();
    newer[at + 2] = b'2';
    assert!(matches!(verified(&newer), Err(BackupError::Newer(2))));
}

#[test]
fn what_belongs_to_a_process_or_leads_elsewhere_is_left_out() {
    let bench = Bench::new();
    assert!(matches!(source(&bench), Err(BackupError::Io { .. })));
    std::fs::create_dir_all(&bench.dir).unwrap();
    let nothing = write(&source(&bench).unwrap(), &Bytes::default(), Timestamp::from_millis(0), &mut on);
    assert!(matches!(nothing, Err(BackupError::Refused(why)) if why.contains("no server")));
    put(&bench, "secret", &[7; 32]);
    for left_out in ["lock", "address", "reserve", "keys.lock", "keys.json.new", "workspace/sessions/index.cache", "workspace/skills/.lock"]
    {
        put(&bench, left_out, b"x");
    }
    put(&bench, "workspace/audit/1.log", b"");
    put(&bench, "workspace/files/back\\slash", b"x");
    let files = bench.dir.join("workspace/files");
    std::os::unix::fs::symlink("/etc/passwd", files.join("link")).unwrap();
    std::os::unix::fs::symlink("/etc", files.join("far")).unwrap();
    for name in [&b"caf\xe9"[..], b"na\xefve"] {
        std::fs::write(files.join(std::ffi::OsStr::from_bytes(name)), "no UTF-8").unwrap();
    }
    std::fs::write(bench.dir.with_extension("toml"), "# elsewhere").unwrap();
    std::os::unix::fs::symlink(bench.dir.with_extension("toml"), bench.dir.join("config.toml")).unwrap();
    let (bytes, written) = backed_up(&bench);
    std::fs::remove_file(bench.dir.with_extension("toml")).unwrap();
    assert_eq!((written.left_out.len(), written.left_out_count), (4, 4), "{written:?}");
    assert!(written.left_out.iter().any(|left| left.contains("workspace/files") && left.ends_with("no UTF-8: 2)")), "{written:?}");
    let report = verified(&bytes).unwrap();
    assert_eq!((report.files, report.config.as_slice()), (2, &b"# elsewhere"[..]), "the secret, and what the link leads to");
    assert_eq!(report.doubts.len(), 1, "no keys: {:?}", report.doubts);

    std::fs::rename(bench.dir.join("workspace/audit"), bench.dir.join("other")).unwrap();
    std::os::unix::fs::symlink("../other", bench.dir.join("workspace/audit")).unwrap();
    let linked = write(&source(&bench).unwrap(), &Bytes::default(), Timestamp::from_millis(0), &mut on);
    assert!(matches!(linked, Err(BackupError::Refused(why)) if why.contains("is a link")));
    let around = Source::open(Arc::new(RealDisk), &bench.dir, &bench.dir, bench.dir.parent().unwrap());
    assert!(matches!(around, Err(BackupError::Refused(_))));
}

#[tokio::test]
async fn a_line_that_is_being_written_is_left_out_and_a_deleted_session_stays_deleted() {
    let bench = Bench::new();
    furnish(&bench).await;
    let before = backed_up(&bench).0;
    let logs: Vec<_> = std::fs::read_dir(bench.files()).unwrap().flatten().map(|item| item.path()).collect();
    let log = logs.iter().find(|path| path.extension().is_some_and(|e| e == "log")).unwrap();
    for (path, half) in [(log.clone(), "0badc0de {\"seq\":"), (bench.dir.join("workspace/audit/1.log"), "{\"n\":303,\"ti")] {
        use std::io::Write;
        std::fs::OpenOptions::new().append(true).open(path).unwrap().write_all(half.as_bytes()).unwrap();
    }
    let report = verified(&backed_up(&bench).0).unwrap();
    assert_eq!((&report.doubts, &report.notes, report.bytes), (&vec![], &vec![], verified(&before).unwrap().bytes));
    // Its tombstone is there, and some of its files are, too.
    std::fs::write(log.with_extension("gone"), "2027-01-15T08:00:00.000Z\n").unwrap();
    let report = verified(&backed_up(&bench).0).unwrap();
    assert_eq!(report.sessions, 2);
}

#[test]
fn what_is_cut_or_exchanged_meanwhile_begins_the_backup_anew() {
    let bench = Bench::new();
    put(&bench, "secret", &[7; 32]);
    put(&bench, "workspace/files/big", &vec![1; 3 * 1024 * 1024]);
    let (path, file) = (bench.dir.join("workspace/files/big"), Bytes::default());
    let mut calls = 0;
    let mut cut_once = |_: Progress| {
        calls += 1;
        if calls == 2 {
            std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1024 * 1024).unwrap();
        }
        true
    };
    write(&source(&bench).unwrap(), &file, Timestamp::from_millis(0), &mut cut_once).unwrap();
    assert_eq!(verify(&file, &mut on).unwrap().bytes, 32 + 1024 * 1024);

    let mut len = 1024 * 1024;
    let mut cut_always = |_: Progress| {
        len -= 1;
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(len).unwrap();
        true
    };
    let given_up = write(&source(&bench).unwrap(), &Bytes::default(), Timestamp::from_millis(0), &mut cut_always);
    assert!(matches!(given_up, Err(BackupError::Changed(path)) if path.ends_with("files/big")));

    put(&bench, "web/dist/a.js", &vec![2; 600 * 1024]);
    put(&bench, "web/other/a.js", b"new");
    let mut exchanged = false;
    let mut exchange = |_: Progress| {
        if !std::mem::replace(&mut exchanged, true) {
            RealDisk.exchange(&bench.dir.join("web/dist"), &bench.dir.join("web/other")).unwrap();
        }
        true
    };
    write(&source(&bench).unwrap(), &file, Timestamp::from_millis(0), &mut exchange).unwrap();
    let other = Bench::new();
    restore(&RealDisk, &file, &target(&other.dir), &mut on).unwrap();
    assert_eq!(std::fs::read(other.dir.join("web/dist/a.js")).unwrap(), b"new");

    let stopped = write(&source(&bench).unwrap(), &Bytes::default(), Timestamp::from_millis(0), &mut |_| false);
    assert!(matches!(stopped, Err(BackupError::Stopped)));
}

#[test]
fn many_files_have_many_lists_and_memory_for_one() {
    let bench = Bench::new();
    put(&bench, "secret", &[7; 32]);
    for n in 0..4000 {
        put(&bench, &format!("workspace/files/{n:0>200}"), b"");
    }
    let (bytes, _) = backed_up(&bench);
    assert_eq!(verified(&bytes).unwrap().files, 4001);
    let lists = (1..).take_while(|n| bytes.windows(11).any(|part| part == format!("manifest/{n}\0").as_bytes())).count();
    assert!(lists >= 4, "{lists}");
}

#[tokio::test]
async fn stopped_at_any_call_there_is_no_home_or_the_whole_one() {
    let bench = Bench::new();
    put(&bench, "secret", &[7; 32]);
    put(&bench, "workspace/files/a", b"text");
    put(&bench, "workspace/sessions/notes", b"more");
    let (bytes, _) = backed_up(&bench);
    let whole = held(&RealDisk, &bench.dir);
    for k in 0.. {
        let place = Bench::in_memory();
        let home = Path::new("/new/home");
        place.disk.tear(1);
        place.disk.stop_after(Some(k));
        let done = restored(&bytes, &place.disk, home).is_ok();
        for left in [place.killed(), place.power_cut()] {
            let there = left.disk.stat(home).unwrap().is_some();
            assert!(there || !done, "stopped after {k}");
            if there {
                assert_eq!(held(&left.disk, home), whole, "stopped after {k}");
            } else {
                restored(&bytes, &left.disk, home).unwrap();
                assert_eq!(held(&left.disk, home), whole, "again after {k}");
            }
            assert_eq!(left.disk.list(Path::new("/new")).unwrap().len(), 1, "after {k}: what was begun is gone");
        }
        if done {
            assert!(k > 10);
            break;
        }
    }
}

#[tokio::test]
async fn a_full_disk_leaves_nothing_behind() {
    let bench = Bench::new();
    furnish(&bench).await;
    let (bytes, _) = backed_up(&bench);
    let place = Bench::new();
    std::fs::create_dir_all(&place.dir).unwrap();
    place.disk.set_budget(Some(5000));
    assert!(matches!(restored(&bytes, &place.disk, &place.dir.join("home")), Err(BackupError::Full("the new home"))));
    assert_eq!(std::fs::read_dir(&place.dir).unwrap().count(), 0);
    let into = place.disk.open(&place.dir.join("file"), Open::CreateNew).unwrap();
    let full = write(&source(&bench).unwrap(), into.as_ref(), Timestamp::from_millis(0), &mut on);
    assert!(matches!(full, Err(BackupError::Full("the backup"))));
}

#[test]
fn a_workspace_elsewhere_goes_elsewhere_or_into_the_home() {
    let bench = Bench::new();
    put(&bench, "home/secret", &[7; 32]);
    put(&bench, "ws/files/a", b"text");
    put(&bench, "ws/audit/1.log", b"no record\n");
    let source = Source::open(Arc::new(RealDisk), &bench.dir.join("home"), &bench.dir.join("home"), &bench.dir.join("ws")).unwrap();
    let file = Bytes::default();
    write(&source, &file, Timestamp::from_millis(0), &mut on).unwrap();
    let report = verify(&file, &mut on).unwrap();
    assert!(report.layout.is_outside() && report.doubts.iter().any(|doubt| doubt.contains("audit log")), "{report:?}");
    let new = bench.dir.join("new");
    let outside = Target { home: new.join("home"), workspace: Whither::Outside(new.join("ws")) };
    restore(&RealDisk, &file, &outside, &mut on).unwrap();
    assert_eq!(held(&RealDisk, &new.join("ws")), held(&RealDisk, &bench.dir.join("ws")));
    assert_eq!(RealDisk.list(&new).unwrap().len(), 2);
    let inside = Target { home: new.join("other"), workspace: Whither::Inside(RelPath::parse("data/ws").unwrap()) };
    restore(&RealDisk, &file, &inside, &mut on).unwrap();
    assert_eq!(std::fs::read(new.join("other/data/ws/files/a")).unwrap(), b"text");
}

#[test]
fn a_workspace_that_has_its_name_loses_it_where_the_home_gets_none() {
    let bench = Bench::new();
    put(&bench, "home/secret", &[7; 32]);
    put(&bench, "ws/files/a", b"text");
    let source = Source::open(Arc::new(RealDisk), &bench.dir.join("home"), &bench.dir.join("home"), &bench.dir.join("ws")).unwrap();
    let file = Bytes::default();
    write(&source, &file, Timestamp::from_millis(0), &mut on).unwrap();
    let new = bench.dir.join("new");
    std::fs::create_dir_all(new.join("home")).unwrap();
    let outside = Target { home: new.join("home"), workspace: Whither::Outside(new.join("deep/ws")) };
    let mut taken = |_: Progress| {
        std::fs::write(outside.home.join("mine"), "somebody else's").unwrap();
        true
    };
    assert!(restore(&RealDisk, &file, &outside, &mut taken).is_err());
    assert_eq!(held(&RealDisk, &new), [("home/mine".to_owned(), b"somebody else's".to_vec())]);
    assert_eq!((RealDisk.list(&new).unwrap().len(), RealDisk.list(&new.join("deep")).unwrap().len()), (2, 0), "nothing is left");
}

/// Whoever may write where the home goes puts there what it is made in.
#[test]
fn what_was_planted_where_a_home_is_made_is_refused_and_left_as_it_is() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let (bytes, bench) = (small(), Bench::new());
    let (far, planted) = (bench.dir.join("far"), bench.dir.join(".oxios-restore-home"));
    std::fs::create_dir_all(&far).unwrap();
    std::fs::set_permissions(&far, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::write(far.join("kept"), "kept").unwrap();
    let refused = || {
        let told = restored(&bytes, &RealDisk, &bench.dir.join("home")).unwrap_err().to_string();
        assert!(told.contains("is no directory of ours alone"), "{told}");
        assert_eq!(held(&RealDisk, &far), [("kept".to_owned(), b"kept".to_vec())]);
        assert!(!bench.dir.join("home").exists());
    };
    symlink(&far, &planted).unwrap();
    refused();
    std::fs::remove_file(&planted).unwrap();
    std::fs::write(&planted, "").unwrap();
    refused();
    std::fs::remove_file(&planted).unwrap();
    std::fs::create_dir_all(planted.join("deep/er")).unwrap();
    std::fs::set_permissions(&planted, std::fs::Permissions::from_mode(0o770)).unwrap();
    refused();
    // An earlier restore's own is taken up, and a link in it is not followed.
    std::fs::set_permissions(&planted, std::fs::Permissions::from_mode(0o700)).unwrap();
    symlink(&far, planted.join("deep/er/link")).unwrap();
    restored(&bytes, &RealDisk, &bench.dir.join("home")).unwrap();
    assert_eq!(held(&RealDisk, &far).len(), 1);
    assert_eq!(RealDisk.list(&bench.dir).unwrap().len(), 2);
}
