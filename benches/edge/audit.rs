//! The audit log at length: how fast records are appended and verified, and what memory verifying takes, against bare hashing and writing
//! of the same bytes.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use oxios_edge::base::digest::Sha256;
use oxios_edge::base::ids::{KeyId, OwnerId};
use oxios_edge::base::live::Live;
use oxios_edge::base::log;
use oxios_edge::base::metrics::Metrics;
use oxios_edge::base::random::SystemRandom;
use oxios_edge::base::time::SystemClock;
use oxios_edge::store::audit::{Audit, Event, On, Outcome, Settings, What, Who};
use oxios_edge::store::home::{Home, Seams};
use oxios_edge::sys::disk::RealDisk;

use crate::Size;
use crate::process::{binary, scratch};
use crate::table::print;

/// Starts this program as a bare reader of a directory's lines.
pub(crate) const ARGUMENT: &str = "--bare-hash";

/// How often the table's maker says that it is still at work.
const SAID_EVERY: u64 = 100_000;

/// Prints the table.
pub(crate) fn run(size: Size) {
    // Each checkpoint says its head.
    log::configure(log::Format::Pretty, log::Level::Error);
    let records: u64 = size.pick(2_000, 1_000_000);
    let home = scratch("audit");
    let (appended, dir) = append(&home, records);
    let (bytes, written) = bare_write(&dir, &home.join("bare"));
    eprintln!("verifying …");
    // Alternated, and the best of each: what else the machine does only ever adds.
    let (mut verified, mut hashed) = (Run::default(), Run::default());
    for _ in 0..size.pick(1, 3) {
        let mut verify = Command::new(binary());
        verify.args(["audit", "verify", "--home"]).arg(&home).env_clear();
        verified = verified.best(Run::of(verify));
        let mut bare = Command::new(std::env::current_exe().unwrap());
        bare.arg(ARGUMENT).arg(&dir);
        hashed = hashed.best(Run::of(bare));
    }
    let segments = std::fs::read_dir(&dir).unwrap().count();
    let per = |secs: f64| format!("{:.2}", secs * 1e6 / records as f64);
    let row = |what: &str, secs: f64, bare: f64, memory: String| {
        vec![what.to_owned(), format!("{secs:.2}"), per(secs), format!("{:.1}", secs / bare), memory]
    };
    println!("{records} records, {} MB in {segments} segments\n", bytes / 1_000_000);
    print(
        &["", "s", "µs/record", "against bare", "resident at most, MiB"],
        &[
            row("append, each with the system when it returns", appended, written, "–".into()),
            row("bare: the same lines hashed, a write each", written, written, "–".into()),
            row("oxios-edge audit verify", verified.secs, hashed.secs, format!("{:.1}", verified.mib)),
            row("bare: the same lines read and hashed", hashed.secs, hashed.secs, format!("{:.1}", hashed.mib)),
        ],
    );
    let _ = std::fs::remove_dir_all(&home);
}

/// A whole process: its time from exec to end, and its memory.
#[derive(Clone, Copy)]
struct Run {
    secs: f64,
    mib: f64,
}

impl Default for Run {
    fn default() -> Self {
        Self { secs: f64::INFINITY, mib: f64::INFINITY }
    }
}

impl Run {
    fn of(mut command: Command) -> Self {
        let begin = Instant::now();
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let path = format!("/proc/{}/status", child.id());
        let mut kb = 0_u64;
        // The peak is asked for while it runs: there is nobody to ask afterwards.
        while child.try_wait().unwrap().is_none() {
            let status = std::fs::read_to_string(&path).unwrap_or_default();
            let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
            kb = peak.unwrap_or(kb).max(kb);
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let secs = begin.elapsed().as_secs_f64();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}");
        Self { secs, mib: kb as f64 / 1024.0 }
    }

    fn best(self, other: Self) -> Self {
        if other.secs < self.secs { other } else { self }
    }
}

/// Seconds that the log takes them in, durable at the end; where it lies.
fn append(home: &Path, records: u64) -> (f64, std::path::PathBuf) {
    let ledger = Ledger::open(home);
    let began = Instant::now();
    for n in 1..=records {
        ledger.note();
        if n % SAID_EVERY == 0 {
            eprintln!("{n} records appended in {:.1} s", began.elapsed().as_secs_f64());
        }
    }
    let dir = ledger.close();
    (began.elapsed().as_secs_f64(), dir)
}

/// An audit log in this process, and the record that it is filled with.
pub(crate) struct Ledger {
    audit: Arc<Audit>,
    who: Who,
    on: Option<On>,
}

impl Ledger {
    /// That of this home.
    pub(crate) fn open(home: &Path) -> Self {
        let seams = Seams { disk: Arc::new(RealDisk), clock: Arc::new(SystemClock::new()), random: Arc::new(SystemRandom::new()) };
        let home = Home::open(home, None, seams).unwrap();
        let audit = Audit::open(&home, Arc::new(Live::new(Settings::default())), Metrics::new(0)).unwrap();
        let who = Who { owner: Some(OwnerId::derived(&[1; 32])), key: Some(KeyId::derived(&[2; 32])) };
        Self { audit, who, on: Some(On::id(&[3; 16])) }
    }

    /// Appends one; it is with the system when this returns.
    pub(crate) fn note(&self) {
        let what = What::Request("POST", "/api/chat");
        self.audit.note(Event { who: self.who, what, on: self.on.clone(), outcome: Outcome::Status(200) });
    }

    /// Makes all durable; where they lie.
    pub(crate) fn close(self) -> std::path::PathBuf {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(self.audit.close());
        self.audit.dir()
    }
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

fn hash(prev: &mut [u8; 32], line: &[u8]) {
    let mut sha = Sha256::new();
    sha.update(prev);
    sha.update(line);
    *prev = sha.finish();
}

/// Reads and hashes every line of a directory: what verifying cannot do without.
pub(crate) fn serve(args: &[String]) {
    let mut prev = [0; 32];
    lines(Path::new(&args[0]), |line| hash(&mut prev, line));
    println!("{}", prev[0]);
}

/// Bytes in all; seconds to hash and write every line, with one sync.
fn bare_write(dir: &Path, copy: &Path) -> (u64, f64) {
    let mut all = Vec::new();
    lines(dir, |line| all.push(line.to_vec()));
    let (mut bytes, mut prev) = (0, [0; 32]);
    let mut file = File::create(copy).unwrap();
    let began = Instant::now();
    for line in &all {
        bytes += line.len() as u64;
        hash(&mut prev, line);
        file.write_all(line).unwrap();
    }
    file.sync_data().unwrap();
    (bytes, began.elapsed().as_secs_f64())
}
