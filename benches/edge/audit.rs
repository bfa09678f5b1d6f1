//! The audit log at length: how fast records are appended and verified, against bare hashing and writing of the same bytes.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use oxios_edge::base::digest::Sha256;
use oxios_edge::base::ids::{KeyId, OwnerId};
use oxios_edge::base::live::Live;
use oxios_edge::base::log;
use oxios_edge::base::metrics::Metrics;
use oxios_edge::base::random::SystemRandom;
use oxios_edge::base::time::SystemClock;
use oxios_edge::store::audit::verify::{Given, verify};
use oxios_edge::store::audit::{Audit, Event, On, Outcome, Settings, What, Who};
use oxios_edge::store::home::{Home, Seams};
use oxios_edge::sys::disk::RealDisk;

use crate::Size;
use crate::process::scratch;
use crate::table::print;

/// Prints the table.
pub(crate) fn run(size: Size) {
    // Each checkpoint says its head.
    log::configure(log::Format::Pretty, log::Level::Error);
    let records: u64 = size.pick(2_000, 1_000_000);
    let home = scratch("audit");
    let (append, dir) = append(&home, records);
    let began = Instant::now();
    let verdict = verify(&RealDisk, &dir, &Given::default()).unwrap();
    let verified = began.elapsed().as_secs_f64();
    assert!(verdict.is_good() && verdict.records > records, "{:?}", verdict.findings);
    let (bytes, hashed, written) = bare(&dir, &home.join("bare"));
    let segments = std::fs::read_dir(&dir).unwrap().count();
    let per = |secs: f64| format!("{:.2}", secs * 1e6 / records as f64);
    let row = |what: &str, secs: f64, bare: f64| vec![what.to_owned(), format!("{secs:.2}"), per(secs), format!("{:.1}", secs / bare)];
    println!("{records} records, {} MB in {segments} segments, {} signed checkpoints\n", bytes / 1_000_000, verdict.records - records);
    print(
        &["", "s", "µs/record", "against bare"],
        &[
            row("append", append, written),
            row("the same lines hashed and written, bare", written, written),
            row("verify", verified, hashed),
            row("the same lines read and hashed, bare", hashed, hashed),
        ],
    );
    let _ = std::fs::remove_dir_all(&home);
}

/// Seconds that the log takes them in, durable at the end; where it lies.
fn append(home: &Path, records: u64) -> (f64, std::path::PathBuf) {
    let seams = Seams { disk: Arc::new(RealDisk), clock: Arc::new(SystemClock::new()), random: Arc::new(SystemRandom::new()) };
    let home = Home::open(home, None, seams).unwrap();
    let audit = Audit::open(&home, Arc::new(Live::new(Settings::default())), Metrics::new(0)).unwrap();
    let who = Who { owner: Some(OwnerId::derived(&[1; 32])), key: Some(KeyId::derived(&[2; 32])) };
    let on = Some(On::id(&[3; 16]));
    let began = Instant::now();
    for _ in 0..records {
        audit.note(Event { who, what: What::Request("POST", "/api/chat"), on: on.clone(), outcome: Outcome::Status(200) });
    }
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(audit.close());
    (began.elapsed().as_secs_f64(), audit.dir())
}

/// Every line of every file, with its line feed.
fn lines(dir: &Path, mut each: impl FnMut(&[u8])) {
    for file in std::fs::read_dir(dir).unwrap() {
        let mut reader = BufReader::with_capacity(256 * 1024, File::open(file.unwrap().path()).unwrap());
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).unwrap() > 0 {
            each(&line);
            line.clear();
        }
    }
}

/// Bytes in all; seconds to read and hash every line; seconds to hash and write them, with one sync.
fn bare(dir: &Path, copy: &Path) -> (u64, f64, f64) {
    let hash = |prev: &mut [u8; 32], line: &[u8]| {
        let mut sha = Sha256::new();
        sha.update(prev);
        sha.update(line);
        *prev = sha.finish();
    };
    let (mut bytes, mut prev) = (0, [0; 32]);
    let began = Instant::now();
    lines(dir, |line| {
        bytes += line.len() as u64;
        hash(&mut prev, line);
    });
    let hashed = began.elapsed().as_secs_f64();
    let mut all = Vec::new();
    lines(dir, |line| all.push(line.to_vec()));
    let mut file = File::create(copy).unwrap();
    let began = Instant::now();
    for line in &all {
        hash(&mut prev, line);
        file.write_all(line).unwrap();
    }
    file.sync_data().unwrap();
    (bytes, hashed, began.elapsed().as_secs_f64())
}
