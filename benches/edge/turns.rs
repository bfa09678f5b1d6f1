//! What one turn writes, in short and long conversations: the server in this process, over a disk that counts.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use oxios_edge::app::{self, Setup};
use oxios_edge::base::cancel::{self, Why};
use oxios_edge::base::log;
use oxios_edge::config::Config;
use oxios_edge::http::listener::{Listen, Listener};
use oxios_edge::sys::disk::{DirItem, Disk, DiskDir, DiskFile, FileStat, Lock, Locked, Open, RealDisk};

use crate::Size;
use crate::load::{Connection, request};
use crate::process::scratch;
use crate::table::print;

/// What was written and made durable.
#[derive(Default)]
struct Counts {
    bytes: AtomicU64,
    /// Of these, into files that hold pieces.
    pieces: AtomicU64,
    syncs: AtomicU64,
}

/// The system's disk, counted.
struct CountingDisk(RealDisk, Arc<Counts>);

struct CountingFile {
    file: Box<dyn DiskFile>,
    holds_pieces: bool,
    counts: Arc<Counts>,
}

/// Prints the table.
pub(crate) fn run(size: Size) {
    // The server runs in this process; its log would stand between the tables.
    log::configure(log::Format::Pretty, log::Level::Error);
    let content = "What does a router do all day, and what does it keep of it? ".repeat(8);
    let lengths = size.pick([2, 10], [10, 10_000]);
    let mut rows = Vec::new();
    let mut first = None;
    for turns in lengths {
        let (bytes, syncs, text) = conversation(turns, &content);
        let per_turn = bytes / turns as f64;
        let first = *first.get_or_insert(per_turn);
        rows.push(vec![
            turns.to_string(),
            format!("{per_turn:.0}"),
            format!("{text:.0}"),
            format!("{:.2}", per_turn / text),
            format!("{:.2}", syncs / turns as f64),
            format!("{:.2}", per_turn / first),
        ]);
    }
    print(&["turns", "bytes/turn", "text/turn", "ratio", "syncs/turn", "against the first row"], &rows);
    println!(
        "\nPieces aside (they lie in a file that goes when the turn ends). Goal: at most 6 × the text + 1 KiB a record, + 64 KiB while the"
    );
    println!("projection is small; the long conversation at most 1.2 × the short one. Amortised, the shutdown's writes included.");
}

/// Bytes and syncs of a whole conversation, and the text of one turn.
fn conversation(turns: u64, content: &str) -> (f64, f64, f64) {
    let home = scratch("turns");
    let counts = Arc::new(Counts::default());
    #[allow(clippy::expect_used, reason = "a bench may stop")]
    let mut setup = Setup::new(&Config::from_text(&home, "", &Default::default(), &[]).expect("the defaults are valid"));
    setup.seams.disk = Arc::new(CountingDisk(RealDisk, counts.clone()));
    setup.settings.checks.rate_limit_per_minute = 0;
    let (stop, shutdown) = cancel::pair();
    let (ready, address) = std::sync::mpsc::channel();
    let server = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = Listener::bind(&Listen::parse("127.0.0.1:0").unwrap()).unwrap();
            app::serve(setup, listener, shutdown, |address| ready.send(address.to_owned()).unwrap()).await.unwrap();
        });
    });
    let address = address.recv().unwrap();
    let token = std::fs::read_to_string(home.join("token")).unwrap();
    let mut connection = Connection::open(address.trim_start_matches("http://"));
    let start = (counts.bytes.load(Ordering::Relaxed), counts.syncs.load(Ordering::Relaxed));
    let mut session = String::new();
    let mut text = 0;
    for _ in 0..turns {
        let body = serde_json::json!({ "content": format!("echo {content}"), "session_id": session }).to_string();
        let answer = connection.exchange(&request("POST", "/api/chat", Some(token.trim()), &body));
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        session = answer["session_id"].as_str().unwrap().to_owned();
        text = answer["reply"].as_str().unwrap().len() + content.len() + 5;
    }
    stop.cancel(Why::Shutdown);
    server.join().unwrap();
    let _ = std::fs::remove_dir_all(&home);
    let bytes = counts.bytes.load(Ordering::Relaxed) - counts.pieces.load(Ordering::Relaxed) - start.0;
    ((bytes) as f64, (counts.syncs.load(Ordering::Relaxed) - start.1) as f64, text as f64)
}

impl Disk for CountingDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        let holds_pieces = path.extension().is_some_and(|ext| ext == "run");
        Ok(Box::new(CountingFile { file: self.0.open(path, how)?, holds_pieces, counts: self.1.clone() }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        self.0.exchange(one, other)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.remove_file(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.0.remove_dir(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.0.create_dir(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<DirItem>> {
        self.0.list(path)
    }
    fn stat(&self, path: &Path) -> io::Result<Option<FileStat>> {
        self.0.stat(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.1.syncs.fetch_add(1, Ordering::Relaxed);
        self.0.sync_dir(path)
    }
    fn sync_all(&self, path: &Path) -> io::Result<()> {
        self.1.syncs.fetch_add(1, Ordering::Relaxed);
        self.0.sync_all(path)
    }
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.0.free_bytes(path)
    }
    fn open_dir(&self, path: &Path) -> io::Result<Box<dyn DiskDir>> {
        // These conversations write no workspace files.
        self.0.open_dir(path)
    }
    fn try_lock(&self, path: &Path) -> io::Result<Locked> {
        self.0.try_lock(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Lock> {
        self.0.lock(path)
    }
}

impl DiskFile for CountingFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.counts.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if self.holds_pieces {
            self.counts.pieces.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        self.file.write_at(bytes, offset)
    }
    fn sync(&self) -> io::Result<()> {
        self.counts.syncs.fetch_add(1, Ordering::Relaxed);
        self.file.sync()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}
