//! The server in this process, over a disk that counts.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use oxios_edge::app::{self, Setup};
use oxios_edge::base::cancel::{self, Canceller, Why};
use oxios_edge::base::log;
use oxios_edge::config::Config;
use oxios_edge::http::listener::{Listen, Listener};
use oxios_edge::sys::disk::{DirItem, Disk, DiskDir, DiskFile, FileStat, Lock, Locked, Open, RealDisk};

use crate::load::{Connection, request};

/// What was written and made durable.
#[derive(Default)]
struct Counts {
    bytes: AtomicU64,
    /// Of these, into files that hold pieces.
    pieces: AtomicU64,
    /// Pages that were touched since their file was made durable.
    pages: AtomicU64,
    syncs: AtomicU64,
    /// How often all files were made durable together.
    rounds: AtomicU64,
}

/// A server, and one connection to it.
pub(crate) struct Counted {
    counts: Arc<Counts>,
    stop: Canceller,
    server: JoinHandle<()>,
    connection: Connection,
    token: String,
}

/// What was written and made durable so far.
#[derive(Clone, Copy)]
pub(crate) struct Written {
    /// Bytes, those of pieces aside.
    pub(crate) bytes: u64,
    /// Bytes of pieces.
    pub(crate) pieces: u64,
    /// Pages of [`PAGE_BYTES`] that were touched since their file was last made durable.
    pub(crate) pages: u64,
    pub(crate) syncs: u64,
}

impl std::ops::Sub for Written {
    type Output = Self;
    fn sub(self, less: Self) -> Self {
        Self {
            bytes: self.bytes - less.bytes,
            pieces: self.pieces - less.pieces,
            pages: self.pages - less.pages,
            syncs: self.syncs - less.syncs,
        }
    }
}

/// What a file system writes at the least.
const PAGE_BYTES: u64 = 4096;

/// What came of one turn.
pub(crate) struct Turn {
    /// The session.
    pub(crate) session: String,
    /// Of message and answer.
    pub(crate) text: usize,
}

impl Counted {
    /// Serves this home, with what a configuration file would say.
    pub(crate) fn start(home: &Path, config: &str) -> Self {
        // Its log would stand between the tables.
        log::configure(log::Format::Pretty, log::Level::Error);
        let counts = Arc::new(Counts::default());
        let mut setup = Setup::new(&Config::from_text(home, config, &Default::default(), &[]).unwrap());
        setup.seams.disk = Arc::new(CountingDisk(RealDisk, counts.clone()));
        setup.settings.checks.rate_limit_per_minute = 1_000_000;
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
        let connection = Connection::open(address.trim_start_matches("http://"));
        let token = std::fs::read_to_string(home.join("token")).unwrap().trim().to_owned();
        Self { counts, stop, server, connection, token }
    }

    /// One message, in this session or (where that is empty) in a new one, and its answer.
    pub(crate) fn turn(&mut self, session: &str, content: &str) -> Turn {
        let body = serde_json::json!({ "content": content, "session_id": session }).to_string();
        let answer = self.connection.exchange(&request("POST", "/api/chat", Some(&self.token), &body));
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        let text = answer["reply"].as_str().unwrap().len() + content.len();
        Turn { session: answer["session_id"].as_str().unwrap().to_owned(), text }
    }

    /// Bytes written so far, pieces aside, and syncs.
    pub(crate) fn written(&self) -> Written {
        self.counts.read()
    }

    /// Stops it as a signal would; what was written in all.
    pub(crate) fn stop(self) -> Written {
        let Self { counts, stop, server, .. } = self;
        stop.cancel(Why::Shutdown);
        server.join().unwrap();
        counts.read()
    }
}

impl Counts {
    fn read(&self) -> Written {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let pieces = of(&self.pieces);
        Written { bytes: of(&self.bytes) - pieces, pieces, pages: of(&self.pages), syncs: of(&self.syncs) }
    }
}

/// The system's disk, counted.
struct CountingDisk(RealDisk, Arc<Counts>);

struct CountingFile {
    file: Box<dyn DiskFile>,
    holds_pieces: bool,
    /// Pages touched since it was durable, and in which round that was.
    touched: Mutex<(u64, HashSet<u64>)>,
    counts: Arc<Counts>,
}

impl Disk for CountingDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        let holds_pieces = path.extension().is_some_and(|ext| ext == "run");
        let file = self.0.open(path, how)?;
        Ok(Box::new(CountingFile { file, holds_pieces, touched: Mutex::default(), counts: self.1.clone() }))
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
        self.1.rounds.fetch_add(1, Ordering::Relaxed);
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
        if !bytes.is_empty() {
            let mut touched = self.touched.lock().unwrap();
            let round = self.counts.rounds.load(Ordering::Relaxed);
            if touched.0 != round {
                *touched = (round, HashSet::new());
            }
            let new = (offset / PAGE_BYTES..=(offset + bytes.len() as u64 - 1) / PAGE_BYTES).filter(|page| touched.1.insert(*page)).count();
            self.counts.pages.fetch_add(new as u64, Ordering::Relaxed);
        }
        self.file.write_at(bytes, offset)
    }
    fn sync(&self) -> io::Result<()> {
        self.counts.syncs.fetch_add(1, Ordering::Relaxed);
        self.touched.lock().unwrap().1.clear();
        self.file.sync()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}
