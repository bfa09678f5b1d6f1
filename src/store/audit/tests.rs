//! Crash, damage, full disk, many writers.

use std::path::{Path, PathBuf};

use super::verify::{Given, Verdict, Wrong, verify};
use super::*;
use crate::store::testing::Bench;
use crate::sys::disk::RealDisk;
use crate::wire::audit_line::hex_bytes;

fn open(bench: &Bench) -> Arc<Audit> {
    Audit::open(&bench.home(), Arc::new(Live::new(Settings::default())), Metrics::new(0)).unwrap()
}

fn event(n: u64) -> Event {
    Event { who: Who::default(), what: What::Pruned, on: Some(On::Name(format!("{n}"))), outcome: Outcome::Count(n) }
}

fn dir(bench: &Bench) -> PathBuf {
    bench.dir.join("workspace/audit")
}

fn look(dir: &Path, given: &Given) -> Verdict {
    verify(&RealDisk, dir, given).unwrap()
}

/// A chain of a few hundred records with checkpoints, in one segment; its public key and head.
fn chain(bench: &Bench, records: u64) -> Given {
    let audit = open(bench);
    for n in 0..records {
        audit.note(event(n));
    }
    futures(audit.close());
    let head = verify::parse_head(&audit.head());
    Given { public_key: hex_bytes(&audit.public_key()), head }
}

fn futures<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn a_chain_verifies_also_over_restarts() {
    let bench = Bench::new();
    for _ in 0..3 {
        let given = chain(&bench, 300);
        let verdict = look(&dir(&bench), &given);
        assert!(verdict.is_good(), "{:?}", verdict.findings);
    }
}

#[test]
fn segments_follow_each_other() {
    let bench = Bench::new();
    let given = chain(&bench, 60_000);
    assert!(std::fs::read_dir(dir(&bench)).unwrap().count() >= 2);
    let verdict = look(&dir(&bench), &given);
    assert!(verdict.is_good(), "{:?}", verdict.findings);
    let segments = read::segments(&RealDisk, &dir(&bench)).unwrap();
    std::fs::remove_file(dir(&bench).join("1.log")).unwrap();
    let verdict = look(&dir(&bench), &given);
    assert_eq!(verdict.findings[0].what, Wrong::Missing(1, segments[1] - 1));
}

#[test]
fn every_mutation_is_found() {
    let bench = Bench::new();
    let given = chain(&bench, 20);
    let file = dir(&bench).join("1.log");
    let whole = std::fs::read(&file).unwrap();
    let found = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        !look(&dir(&bench), &given).is_good()
    };
    assert!(!found(&whole));
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        assert!(found(&bytes), "byte {at} flipped");
        bytes = whole.clone();
        bytes.remove(at);
        assert!(found(&bytes), "byte {at} removed");
    }
    let lines: Vec<&[u8]> = whole.split_inclusive(|b| *b == b'\n').collect();
    for i in 0..lines.len() {
        let mut fewer = lines.clone();
        fewer.remove(i);
        assert!(found(&fewer.concat()), "line {i} removed");
        let mut twice = lines.clone();
        twice.insert(i, lines[i]);
        assert!(found(&twice.concat()), "line {i} doubled");
        assert!(found(&lines[..i].concat()), "cut before line {i}");
        for j in 0..i {
            let mut swapped = lines.clone();
            swapped.swap(i, j);
            assert!(found(&swapped.concat()), "lines {i} and {j} swapped");
        }
    }
}

#[test]
fn an_edit_is_located() {
    let bench = Bench::new();
    let given = chain(&bench, 20);
    let file = dir(&bench).join("1.log");
    let whole = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, whole.replace("\"outcome\":\"7\"", "\"outcome\":\"8\"")).unwrap();
    let verdict = look(&dir(&bench), &given);
    // Record 1 begins the segment, so the count 7 is record 9.
    assert_eq!(verdict.findings, [verify::Finding { segment: 1, line: 9, what: Wrong::Edited(9) }]);
    let without: String = whole.lines().filter(|l| !l.contains("\"outcome\":\"7\"")).map(|l| format!("{l}\n")).collect();
    std::fs::write(&file, without).unwrap();
    assert_eq!(look(&dir(&bench), &given).findings[0].what, Wrong::Missing(9, 9));
}

#[test]
fn an_edit_with_all_hashes_made_again_is_found_by_the_signature() {
    let bench = Bench::new();
    let given = chain(&bench, 20);
    let file = dir(&bench).join("1.log");
    let (mut prev, mut out) = ([0; 32], String::new());
    for line in std::fs::read_to_string(&file).unwrap().lines() {
        let body = line.split(",\"hash\"").next().unwrap().replace("\"outcome\":\"7\"", "\"outcome\":\"8\"");
        let mut body = body;
        prev = chain::link(&prev, body.as_bytes());
        crate::wire::audit_line::close(&mut body, &hex(&prev));
        out.push_str(&body);
    }
    std::fs::write(&file, out).unwrap();
    let without_head = Given { head: None, ..given };
    let verdict = look(&dir(&bench), &without_head);
    assert!(matches!(verdict.findings[0].what, Wrong::BadSignature { after: 0, .. }), "{:?}", verdict.findings);
}

#[test]
fn stopped_at_any_call_every_record_that_was_acknowledged_is_there() {
    for torn in [0, 40] {
        for k in 0..60 {
            let bench = Bench::new();
            drop(open(&bench));
            let audit = open(&bench);
            bench.disk.tear(torn);
            bench.disk.stop_after(Some(k));
            let mut acknowledged = 0;
            futures(async {
                for n in 0..12 {
                    if n % 3 == 0 {
                        if audit.append(event(n)).await.is_err() {
                            break;
                        }
                    } else {
                        audit.note(event(n));
                        if audit.admit().is_err() {
                            break;
                        }
                    }
                    acknowledged = n + 1;
                }
            });
            bench.disk.stop_after(None);
            drop(audit);
            let given = chain(&bench, 1);
            let verdict = look(&dir(&bench), &given);
            assert!(verdict.is_good(), "stopped after {k}, torn {torn}: {:?}", verdict.findings);
            let text = std::fs::read_to_string(dir(&bench).join("1.log")).unwrap();
            for n in 0..acknowledged {
                assert_eq!(text.matches(&format!("\"on\":\"hmac:{n}\"")).count(), 1 + usize::from(n == 0), "stopped after {k}: {n}");
            }
        }
    }
}

#[test]
fn a_torn_tail_is_cut_and_noted() {
    let bench = Bench::new();
    chain(&bench, 5);
    let file = dir(&bench).join("1.log");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes.extend_from_slice(b"{\"n\":8,\"time\":\"20");
    std::fs::write(&file, bytes).unwrap();
    let given = chain(&bench, 1);
    assert!(look(&dir(&bench), &given).is_good());
    assert!(std::fs::read_to_string(&file).unwrap().contains("\"what\":\"tail cut\",\"outcome\":\"17\""));
}

#[test]
fn a_full_disk_lets_nothing_pass_unrecorded() {
    let bench = Bench::new();
    let audit = open(&bench);
    futures(audit.append(event(1))).unwrap();
    bench.disk.set_budget(Some(0));
    assert_eq!(futures(audit.append(event(2))), Err(AuditError::DiskFull));
    assert!(audit.admit().is_ok(), "nothing waits: what was refused was not done");
    audit.note(event(3));
    assert_eq!(audit.admit(), Err(AuditError::DiskFull));
    bench.disk.set_budget(None);
    assert_eq!(audit.admit(), Ok(()));
    futures(audit.close());
    let text = std::fs::read_to_string(dir(&bench).join("1.log")).unwrap();
    assert_eq!([1, 2, 3].map(|n| text.matches(&format!("\"hmac:{n}\"")).count()), [1, 0, 1]);
}

#[test]
fn going_on_without_records_is_recorded() {
    let bench = Bench::new();
    let settings = Settings { go_on: true, ..Settings::default() };
    let audit = Audit::open(&bench.home(), Arc::new(Live::new(settings)), Metrics::new(0)).unwrap();
    audit.note(event(1));
    bench.disk.set_budget(Some(0));
    assert_eq!(futures(audit.append(event(2))), Ok(()));
    audit.note(event(3));
    bench.disk.set_budget(None);
    futures(audit.close());
    let text = std::fs::read_to_string(dir(&bench).join("1.log")).unwrap();
    assert!(text.contains("\"what\":\"records lost\",\"outcome\":\"2\""), "{text}");
}

#[test]
fn many_writers_make_one_chain() {
    let bench = Bench::new();
    let audit = open(&bench);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(async {
        let writers: Vec<_> = (0..8_u64)
            .map(|w| {
                let audit = audit.clone();
                tokio::spawn(async move {
                    for n in 0..100 {
                        match n % 10 {
                            0 => audit.append(event(w * 100 + n)).await.unwrap(),
                            _ => audit.note(event(w * 100 + n)),
                        }
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        audit.close().await;
    });
    assert!(bench.disk.syncs() < 80, "syncs are shared or at least not more than asked for");
    let given = Given { public_key: hex_bytes(&audit.public_key()), head: verify::parse_head(&audit.head()) };
    let verdict = look(&dir(&bench), &given);
    assert!(verdict.is_good() && verdict.records >= 800, "{:?}", verdict.findings);
}

#[test]
fn names_are_macs_and_ids_are_ids() {
    let bench = Bench::new();
    let home = bench.home();
    let id = "67e55044-10b1-426f-9247-bb680e5fe0c8";
    assert_eq!(On::name(home.keyed(), id).to_string(), id);
    let name = On::name(home.keyed(), "salary.md").to_string();
    assert!(name.starts_with("hmac:") && name.len() == 37 && !name.contains("salary"));
}

/// A power cut may keep the length of a file and not what was written there.
#[test]
fn a_long_end_of_zeros_costs_no_record_before_it() {
    let bench = Bench::new();
    chain(&bench, 300);
    let path = dir(&bench).join("1.log");
    let before = std::fs::read(&path).unwrap();
    for zeros in [100, 64 * 1024, 300 * 1024] {
        std::fs::write(&path, [before.as_slice(), &vec![0; zeros]].concat()).unwrap();
        let given = chain(&bench, 10);
        let after = std::fs::read(&path).unwrap();
        assert!(after.starts_with(&before), "{zeros} zeros behind the records");
        assert!(look(&dir(&bench), &given).is_good());
        std::fs::write(&path, &before).unwrap();
    }
}

/// A record and the checkpoint behind it are one write.
#[test]
fn a_record_whose_checkpoint_finds_no_space_is_there_once() {
    for budget in (0..1200).step_by(60) {
        let bench = Bench::new();
        let audit = open(&bench);
        for n in 1..250 {
            audit.note(event(n));
        }
        for n in 250..260 {
            bench.disk.set_budget(Some(budget));
            audit.note(event(n));
            bench.disk.set_budget(None);
        }
        futures(audit.close());
        let given = Given { public_key: hex_bytes(&audit.public_key()), head: verify::parse_head(&audit.head()) };
        let verdict = look(&dir(&bench), &given);
        assert!(verdict.is_good(), "{budget}: {:?}", verdict.findings);
        let text = std::fs::read_to_string(dir(&bench).join("1.log")).unwrap();
        assert!((1..260).all(|n| text.matches(&format!("\"hmac:{n}\"")).count() == 1), "{budget}");
    }
}
