//! Whoever changes a chain is found, and the place is told: every class of mutation on a small chain of several segments, and
//! random ones on top.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::verify::{Finding, Given, Verdict, Wrong, verify};
use super::*;
use crate::base::digest::Sha256;
use crate::store::testing::Bench;
use crate::sys::disk::RealDisk;
use crate::wire::audit_line::{self, hex_bytes};

/// Segment number → its bytes.
type Files = BTreeMap<u64, Vec<u8>>;

/// A chain as it was written.
struct Written {
    dir: PathBuf,
    files: Files,
    given: Given,
    _bench: Bench,
}

impl Written {
    /// So many records in segments of about so many bytes; signed at the end.
    fn new(records: u64, segment_bytes: u64) -> Self {
        let bench = Bench::new();
        let audit = Audit::in_segments(&bench.home(), Arc::new(Live::new(Settings::default())), Metrics::new(0), segment_bytes).unwrap();
        for n in 0..records {
            let on = Some(On::Name(format!("{n}")));
            audit.note(Event { who: Who::default(), what: What::Pruned, on, outcome: Outcome::Count(n) });
        }
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(audit.close());
        let given = Given { public_key: hex_bytes(&audit.public_key()), head: verify::parse_head(&audit.head()) };
        let dir = bench.dir.join("workspace/audit");
        let segments = read::segments(&RealDisk, &dir).unwrap();
        let files = segments.into_iter().map(|n| (n, std::fs::read(dir.join(format!("{n}.log"))).unwrap())).collect();
        Self { dir, files, given, _bench: bench }
    }

    /// What verification says of these files.
    fn look(&self, files: &Files) -> Verdict {
        for segment in read::segments(&RealDisk, &self.dir).unwrap() {
            std::fs::remove_file(self.dir.join(format!("{segment}.log"))).unwrap();
        }
        for (segment, bytes) in files {
            std::fs::write(self.dir.join(format!("{segment}.log")), bytes).unwrap();
        }
        verify(&RealDisk, &self.dir, &self.given).unwrap()
    }

    /// These files are not what was written, and the first finding is the first place that is another one.
    fn is_located(&self, files: &Files, what: &str) {
        let verdict = self.look(files);
        let (before, after) = (lines(&self.files), lines(files));
        let at = before.iter().zip(&after).take_while(|(before, after)| before == after).count();
        let wanted = after.get(at).map(|(segment, line, _)| (*segment, *line));
        let told: Vec<_> = verdict.findings.iter().map(|finding| (finding.segment, finding.line)).collect();
        match (wanted, verdict.findings.first()) {
            (Some(wanted), Some(_)) => assert_eq!(told[0], wanted, "{what}: {:?}", verdict.findings),
            (None, Some(Finding { what: Wrong::Cut { last, .. }, .. })) => {
                let kept = before[..at].iter().rev().find_map(|(_, _, line)| Some(audit_line::read(line)?.line.n)).unwrap_or(0);
                assert_eq!(*last, kept, "{what}: {:?}", verdict.findings);
            }
            (wanted, found) => panic!("{what}: {found:?}, but the first change is at {wanted:?}"),
        }
    }
}

/// Every line with its segment and its number; a segment without one is a line 0.
fn lines(files: &Files) -> Vec<(u64, u64, Vec<u8>)> {
    let mut all = Vec::new();
    for (segment, bytes) in files {
        let feed = |b: &u8| *b == b'\n';
        for (n, line) in bytes.split_inclusive(feed).enumerate() {
            // A missing line feed is a change of its line.
            all.push((*segment, n as u64 + 1, line.strip_suffix(b"\n").map_or([line, b"\xff"].concat(), <[u8]>::to_vec)));
        }
        if bytes.is_empty() {
            all.push((*segment, 0, Vec::new()));
        }
    }
    all
}

fn with(files: &Files, segment: u64, bytes: Vec<u8>) -> Files {
    let mut files = files.clone();
    files.insert(segment, bytes);
    files
}

#[test]
fn every_mutation_of_a_byte_is_found_and_located() {
    let written = Written::new(6, 900);
    assert!(written.files.len() >= 2, "{}", written.files.len());
    assert!(written.look(&written.files).is_good());
    for (segment, bytes) in &written.files {
        for at in 0..bytes.len() {
            let what = |class: &str| format!("{segment}.log, byte {at} {class}");
            let mut other = bytes.clone();
            other[at] ^= 1 << (at % 8);
            written.is_located(&with(&written.files, *segment, other), &what("flipped"));
            let mut fewer = bytes.clone();
            let gone = fewer.remove(at);
            if bytes.get(at + 1) != Some(&gone) {
                written.is_located(&with(&written.files, *segment, fewer), &what("removed"));
            }
            let mut more = bytes.clone();
            more.insert(at, [b'\n', b'0', b' ', 0, b'"'][at % 5]);
            written.is_located(&with(&written.files, *segment, more), &what("inserted before"));
            if at > 0 {
                let kept: Files = written.files.range(..*segment).map(|(n, bytes)| (*n, bytes.clone())).collect();
                written.is_located(&with(&kept, *segment, bytes[..at].to_vec()), &what("and all behind it cut"));
            }
        }
    }
}

#[test]
fn every_mutation_of_lines_is_found_and_located() {
    let written = Written::new(24, 2500);
    for (segment, bytes) in &written.files {
        let lines: Vec<&[u8]> = bytes.split_inclusive(|b| *b == b'\n').collect();
        let check = |lines: &[&[u8]], what: String| written.is_located(&with(&written.files, *segment, lines.concat()), &what);
        for i in 0..lines.len() {
            let mut fewer = lines.clone();
            fewer.remove(i);
            check(&fewer, format!("{segment}.log, line {} removed", i + 1));
            check(&lines[..i], format!("{segment}.log, cut before line {}", i + 1));
            check(&lines[i + 1..], format!("{segment}.log, cut up to line {}", i + 1));
            for j in 0..lines.len() {
                let mut more = lines.clone();
                more.insert(j, lines[i]);
                check(&more, format!("{segment}.log, line {} copied before line {}", i + 1, j + 1));
                if i == j {
                    continue;
                }
                let mut swapped = lines.clone();
                swapped.swap(i, j);
                check(&swapped, format!("{segment}.log, lines {} and {} swapped", i + 1, j + 1));
                let mut replaced = lines.clone();
                replaced[i] = lines[j];
                check(&replaced, format!("{segment}.log, line {} replaced by line {}", i + 1, j + 1));
            }
        }
        check(&lines.iter().rev().copied().collect::<Vec<_>>(), format!("{segment}.log, turned round"));
    }
}

#[test]
fn every_mutation_of_segments_is_found_and_located() {
    let written = Written::new(24, 1500);
    let files = &written.files;
    let numbers: Vec<u64> = files.keys().copied().collect();
    for (i, a) in numbers.iter().enumerate() {
        let mut fewer = files.clone();
        let gone = fewer.remove(a).unwrap();
        written.is_located(&fewer, &format!("segment {a} removed"));
        written.is_located(&with(files, *a, Vec::new()), &format!("segment {a} emptied"));
        written.is_located(&with(&fewer, a + 1, gone.clone()), &format!("segment {a} renamed"));
        let unused = 1_000_000 + a;
        written.is_located(&with(files, unused, gone.clone()), &format!("segment {a} copied behind the end"));
        for b in &numbers[i + 1..] {
            let swapped = with(&with(files, *a, files[b].clone()), *b, gone.clone());
            written.is_located(&swapped, &format!("segments {a} and {b} swapped"));
            let joined = [gone.clone(), files[b].clone()].concat();
            let mut fewer = with(files, *a, joined);
            fewer.remove(b);
            written.is_located(&fewer, &format!("segment {b} moved to the end of {a}"));
        }
        // The last line of one becomes the first of the next.
        if let Some(next) = numbers.get(i + 1) {
            let cut = gone[..gone.len() - 1].iter().rposition(|b| *b == b'\n').unwrap() + 1;
            let moved = with(&with(files, *a, gone[..cut].to_vec()), *next, [&gone[cut..], &files[next]].concat());
            written.is_located(&moved, &format!("the last line of segment {a} moved to the next"));
        }
    }
    written.is_located(&Files::new(), "everything removed");
}

/// xorshift64*; the seed is printed, `OXIOS_TEST_SEED` repeats a run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from((self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n.max(1) as u64).unwrap()
    }
}

#[test]
fn random_mutations_of_random_chains_are_found_and_located() {
    let fresh = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos().into();
    let seed: u64 = std::env::var("OXIOS_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(fresh);
    eprintln!("random mutations: OXIOS_TEST_SEED={seed}");
    let mut dice = Dice(seed | 1);
    for _ in 0..8 {
        let written = Written::new(1 + dice.below(600) as u64, 1000 + dice.below(60_000) as u64);
        let numbers: Vec<u64> = written.files.keys().copied().collect();
        for _ in 0..40 {
            let mut files = written.files.clone();
            for _ in 0..=dice.below(3) {
                let segment = numbers[dice.below(numbers.len())];
                let Some(bytes) = files.get_mut(&segment) else { continue };
                let mut lines: Vec<Vec<u8>> = bytes.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
                if lines.is_empty() {
                    continue;
                }
                let (at, to) = (dice.below(lines.len()), dice.below(lines.len()));
                let line = lines[at].clone();
                match dice.below(7) {
                    0 => {
                        let byte = dice.below(line.len());
                        lines[at][byte] = u8::try_from(dice.below(256)).unwrap();
                    }
                    1 => drop(lines.remove(at)),
                    2 => lines.insert(to, line),
                    3 => lines.swap(at, to),
                    4 => lines.truncate(at),
                    5 => {
                        let line = lines.remove(at);
                        lines.insert(to.min(lines.len()), line);
                    }
                    _ => {
                        files.remove(&segment);
                        continue;
                    }
                }
                *files.get_mut(&segment).unwrap() = lines.concat();
            }
            if files == written.files {
                assert!(written.look(&files).is_good());
            } else {
                written.is_located(&files, &format!("seed {seed}"));
            }
        }
    }
}

/// All hashes from this record on made anew, as anybody can who can write the file.
fn rehashed(files: &Files, change: impl Fn(&mut Vec<String>)) -> Files {
    let whole: Vec<u8> = files.values().flatten().copied().collect();
    let mut lines: Vec<String> = String::from_utf8(whole).unwrap().lines().map(str::to_owned).collect();
    change(&mut lines);
    let (mut prev, mut out) = ([0; 32], String::new());
    for line in lines {
        let mut body = line.split(",\"hash\"").next().unwrap().to_owned();
        let mut sha = Sha256::new();
        sha.update(&prev);
        sha.update(body.as_bytes());
        prev = sha.finish();
        audit_line::close(&mut body, &hex(&prev));
        out.push_str(&body);
    }
    Files::from([(1, out.into_bytes())])
}

/// Without the key nobody makes a chain that passes: not without a noted head where a checkpoint stands behind the change, and never
/// with one.
#[test]
fn a_chain_that_was_made_anew_without_the_key_is_found_between_two_checkpoints() {
    let written = Written::new(600, 8 * 1024 * 1024);
    let whole = String::from_utf8(written.files[&1].clone()).unwrap();
    let signed: Vec<usize> = whole.lines().enumerate().filter(|(_, line)| line.contains("\"checkpoint\"")).map(|(i, _)| i + 1).collect();
    assert!(signed.len() >= 3 && signed.last() == Some(&whole.lines().count()));
    let renumbered = |lines: &mut Vec<String>| {
        for (i, line) in lines.iter_mut().enumerate() {
            let rest = line[line.find(',').unwrap()..].to_owned();
            *line = format!("{{\"n\":{}{rest}", i + 1);
        }
    };
    for at in [2, 100, signed[0] + 1, 400, signed[1] + 5, signed[2] - 1] {
        if signed.contains(&at) {
            continue;
        }
        let edited = rehashed(&written.files, |lines| lines[at - 1] = lines[at - 1].replace("\"outcome\":\"", "\"outcome\":\"1"));
        let removed = rehashed(&written.files, |lines| {
            lines.remove(at - 1);
            renumbered(lines);
        });
        let added = rehashed(&written.files, |lines| {
            lines.insert(at - 1, lines[at - 1].clone());
            renumbered(lines);
        });
        let unsigned = rehashed(&written.files, |lines| {
            lines[at - 1] = lines[at - 1].replace("\"outcome\":\"", "\"outcome\":\"1");
            lines.retain(|line| !line.contains("\"checkpoint\""));
            renumbered(lines);
        });
        for (what, files) in [("edited", edited), ("removed", removed), ("added", added), ("unsigned", unsigned)] {
            let with_head = written.look(&files);
            assert!(!with_head.is_good(), "record {at} {what}");
            std::fs::write(written.dir.join("1.log"), &files[&1]).unwrap();
            let without = verify(&RealDisk, &written.dir, &Given { head: None, ..written.given }).unwrap();
            let found = without.findings.first().unwrap_or_else(|| panic!("record {at} {what} is not found without a head"));
            match found.what {
                // The change lies between the last good checkpoint and this one.
                Wrong::BadSignature { n, after } => assert!((after..=n + 1).contains(&(at as u64)), "record {at} {what}: {found}"),
                Wrong::Unsigned(from, _) => assert!(what == "unsigned" && from == 1, "record {at} {what}: {found}"),
                _ => panic!("record {at} {what}: {found}"),
            }
        }
    }
    // Another key than the one that was given signs it all.
    let other_key = Given { public_key: Some([7; 32]), head: None };
    std::fs::write(written.dir.join("1.log"), &written.files[&1]).unwrap();
    let found = verify(&RealDisk, &written.dir, &other_key).unwrap().findings;
    assert_eq!(found[0], Finding { segment: 1, line: 1, what: Wrong::OtherKey(1) });
}

/// What no checkpoint stands behind yet can be made anew by anybody who can write the file; a head that was noted elsewhere tells.
#[test]
fn an_unsigned_end_that_was_made_anew_is_found_against_a_noted_head() {
    let written = Written::new(20, 8 * 1024 * 1024);
    let unsigned = rehashed(&written.files, |lines| drop(lines.pop()));
    let last = unsigned[&1].split(|b| *b == b'\n').rev().find_map(audit_line::read).unwrap();
    let noted = Given { head: Some((last.line.n, last.hash)), ..written.given };
    let edited = rehashed(&unsigned, |lines| lines[8] = lines[8].replace("\"outcome\":\"", "\"outcome\":\"1"));
    for (files, whole) in [(&unsigned, true), (&edited, false)] {
        std::fs::write(written.dir.join("1.log"), &files[&1]).unwrap();
        assert!(verify(&RealDisk, &written.dir, &Given { head: None, ..noted }).unwrap().is_good(), "nothing is signed");
        let found = verify(&RealDisk, &written.dir, &noted).unwrap().findings;
        assert_eq!(found.is_empty(), whole, "{found:?}");
        assert!(whole || found[0] == Finding { segment: 1, line: last.line.n, what: Wrong::OtherHead(last.line.n) }, "{found:?}");
    }
}
