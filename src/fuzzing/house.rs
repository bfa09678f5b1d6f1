//! The whole house in this process: the real server over pipes in memory, a directory of its own, and time that moves on by itself
//! when nothing else does (an hour passes in a moment). What it starts from is the same each time: somebody else's session,
//! memory and file, and keys for those who come.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::app::{self, AppError, Setup};
use crate::base::cancel::{self, Canceller, Why};
use crate::base::log::{self, Format, Level};
use crate::base::random::Random;
use crate::base::time::{Clock, Timestamp};
use crate::config::Config;
use crate::fuzzing::exchange::{find, text};
use crate::http::listener::{Dial, Listener};
use crate::http::peer::Peer;
use crate::store::home::Seams;
use crate::store::keys::{Keys, NewKey, NewOwner, Scope, Scopes};
use crate::sys::fault_disk::FaultDisk;

/// In everything that belongs to somebody else; no answer may contain it.
pub(super) const CANARY: &str = "canary-7f3a";
/// Stands in an input for the key of one who may do all but administrate: nothing that a fuzzer makes up starts a program.
const WRITER: &[u8] = b"$KEY";
/// Stands for a key with the scope `read` only.
const READER: &[u8] = b"$READ";
/// Longer than any of the server's own limits on time.
const LONG: Duration = Duration::from_secs(600);
/// Nothing more comes when nothing came for so long: time only passes when nobody has anything to do.
const QUIET: Duration = Duration::from_secs(2);
/// 2027-01-15T08:00:00Z; later than the program.
const START_MILLIS: u64 = 1_800_000_000_000;

/// What every house starts from.
struct Template {
    files: Vec<(PathBuf, Vec<u8>)>,
    writer: String,
    reader: String,
}

/// Files by their names in the workspace.
pub(super) type Kept = BTreeMap<PathBuf, Vec<u8>>;

/// A house that stands; its directory goes with it.
pub(super) struct House {
    /// The server runs only while something here waits for it.
    runtime: Runtime,
    dial: Dial,
    stop: Canceller,
    task: Option<JoinHandle<Result<(), AppError>>>,
    dir: PathBuf,
    /// What was kept before anybody came.
    pub(super) before: Kept,
}

/// What a client does next.
pub(super) enum Step {
    /// It sends bytes.
    Send(Vec<u8>),
    /// It lets time pass.
    Wait(Duration),
}

/// What a client does when it has sent everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// It goes when nothing more comes.
    Go,
    /// It closes its side and listens.
    HangUp,
    /// It waits for the server to close.
    Wait,
}

/// What was heard.
pub(super) struct Heard {
    pub(super) bytes: Vec<u8>,
    pub(super) end: End,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The server closed it.
    Closed,
    /// Nothing more came.
    Quiet,
    /// It was still open after [`LONG`].
    Open,
}

impl House {
    /// A house as every input finds it.
    pub(super) fn new() -> Self {
        let dir = directory();
        for (name, bytes) in &template().files {
            put(&dir.join(name), bytes);
        }
        Self::stand(dir, 3600)
    }

    /// Builds it in this directory; `age` is how many seconds later than the first one.
    fn stand(dir: PathBuf, age: u64) -> Self {
        // The property's own words are for whoever runs it, the server's are not.
        log::configure(Format::Pretty, Level::Error);
        let runtime = Builder::new_current_thread().enable_all().start_paused(true).max_blocking_threads(1).build();
        let runtime = runtime.unwrap_or_else(|e| panic!("{e}"));
        let config = Config::from_text(&dir, "[logging]\nlevel = \"error\"\n", &BTreeMap::new(), &[]);
        let mut setup = Setup::new(&config.unwrap_or_else(|e| panic!("{e}")));
        setup.seams = seams(&runtime, age);
        let (listener, dial) = Listener::memory();
        let (stop, shutdown) = cancel::pair();
        let (tell, told) = tokio::sync::oneshot::channel();
        let task = runtime.spawn(app::serve(setup, listener, shutdown, move |_| tell.send(()).unwrap_or_default()));
        if runtime.block_on(told).is_err() {
            panic!("the house does not stand: {:?}", runtime.block_on(task));
        }
        let mut house = Self { runtime, dial, stop, task: Some(task), dir, before: Kept::new() };
        house.before = house.kept();
        house
    }

    pub(super) fn workspace(&self) -> PathBuf {
        self.dir.join("workspace")
    }

    /// Stops the server as SIGTERM does.
    fn end(&mut self) {
        self.stop.cancel(Why::Shutdown);
        if let Some(task) = self.task.take() {
            let ended = self.runtime.block_on(task);
            assert!(matches!(ended, Ok(Ok(()))), "the house did not end well: {ended:?}");
        }
    }

    /// The bytes with keys in place of the words that stand for them.
    pub(super) fn with_keys(&self, bytes: &[u8]) -> Vec<u8> {
        let keys = [(WRITER, &template().writer), (READER, &template().reader)];
        let mut out = Vec::with_capacity(bytes.len());
        let mut rest = bytes;
        while let Some((first, behind)) = rest.split_first() {
            match keys.iter().find(|(word, _)| rest.starts_with(word)) {
                Some((word, key)) => {
                    out.extend_from_slice(key.as_bytes());
                    rest = &rest[word.len()..];
                }
                None => {
                    out.push(*first);
                    rest = behind;
                }
            }
        }
        out
    }

    /// One connection: what is answered to these steps. Then the client goes, and what goes on by itself comes to its end.
    pub(super) fn converse(&self, steps: &[Step], then: Then) -> Heard {
        self.runtime.block_on(async {
            let (ours, theirs) = duplex(16 * 1024);
            self.dial.send(Ok((theirs, peer()))).await.unwrap_or_else(|_| panic!("nobody listens any more"));
            let (mut from, mut to) = tokio::io::split(ours);
            let (mut heard, mut page, sent) = (Vec::new(), vec![0; 16 * 1024], Cell::new(false));
            let write = async {
                for step in steps {
                    match step {
                        Step::Send(bytes) if to.write_all(bytes).await.is_err() => break,
                        Step::Send(_) => tokio::task::yield_now().await,
                        Step::Wait(time) => sleep(*time).await,
                    }
                }
                if then == Then::HangUp {
                    let _ = to.shutdown().await;
                }
                sent.set(true);
                std::future::pending::<End>().await
            };
            let read = async {
                loop {
                    match timeout(QUIET, from.read(&mut page)).await {
                        Ok(Ok(0) | Err(_)) => return End::Closed,
                        Ok(Ok(n)) => heard.extend_from_slice(&page[..n]),
                        Err(_) if sent.get() && then != Then::Wait => return End::Quiet,
                        Err(_) => {}
                    }
                }
            };
            let end = tokio::select! {
                end = read => end,
                end = write => end,
                () = sleep(LONG) => End::Open,
            };
            drop((from, to));
            sleep(QUIET).await;
            Heard { bytes: heard, end }
        })
    }

    /// All that is kept for people, by name: what nobody may have changed can be compared.
    pub(super) fn kept(&self) -> Kept {
        let mut all = Vec::new();
        for room in ["sessions", "memory", "files", "files-of", "skills", "personas", "spaces", "seeds", "approvals", "cron"] {
            collect(&self.workspace(), Path::new(room), &mut all);
        }
        // A cache.
        all.into_iter().filter(|(name, _)| !name.ends_with("index.cache")).collect()
    }

    /// What was somebody else's is as it was; the rest of what is kept now.
    pub(super) fn nothing_of_anothers_changed(&self) -> Kept {
        let mut now = self.kept();
        for (name, bytes) in self.before.iter().filter(|(_, bytes)| find(bytes, CANARY.as_bytes()).is_some()) {
            assert!(now.remove(name).as_ref() == Some(bytes), "{} is somebody else's and was changed", name.display());
        }
        now
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.end();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn template() -> &'static Template {
    static TEMPLATE: OnceLock<Template> = OnceLock::new();
    TEMPLATE.get_or_init(make_template)
}

fn make_template() -> Template {
    let dir = directory();
    let mut house = House::stand(dir.clone(), 0);
    let token = fs::read_to_string(dir.join("token")).unwrap_or_else(|e| panic!("{e}"));
    let token = token.trim();
    for (line, body) in [
        ("POST /api/chat", format!("{{\"content\":\"remember {CANARY} of a conversation\"}}")),
        ("POST /api/memory", format!("{{\"content\":\"{CANARY} of a memory\"}}")),
        ("PUT /api/workspace/file/secret.txt", format!("{CANARY} of a file")),
    ] {
        let head = format!("{line} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n");
        let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
        let heard = house.converse(&[Step::Send(request.into_bytes())], Then::Go);
        assert!(heard.bytes.starts_with(b"HTTP/1.1 200 "), "{line}: {}", text(&heard.bytes));
    }
    let kept = house.kept();
    assert!(kept.values().filter(|bytes| find(bytes, CANARY.as_bytes()).is_some()).count() >= 3, "{:?}", kept.keys());
    let keys = Keys::beside(&dir, seams(&house.runtime, 0)).unwrap_or_else(|e| panic!("{e}"));
    let key = |owner, scopes: &[Scope]| {
        let wanted = NewKey {
            name: "fuzz".to_owned(),
            owner,
            scopes: Scopes::of(scopes),
            expires_at: None,
            rate_limit_per_minute: None,
            budget: None,
        };
        let (record, secret) = keys.create(wanted).unwrap_or_else(|e| panic!("{e}"));
        (record.owner, secret.reveal().to_owned())
    };
    let (owner, writer) = key(NewOwner::New, &[Scope::Read, Scope::Chat, Scope::Write, Scope::Approve]);
    let (_, reader) = key(NewOwner::Of(owner), &[Scope::Read]);
    house.end();
    let mut files = Vec::new();
    collect(&dir, Path::new(""), &mut files);
    // Large, and made anew.
    files.retain(|(name, _)| !name.ends_with("reserve"));
    Template { files, writer, reader }
}

/// Every connection comes from another address, so that none pays for what the others did.
fn peer() -> Peer {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    let [_, b, c, d] = COUNT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    Peer::Tcp { from: ([127, b, c, d], 9).into(), at: ([127, 0, 0, 1], 4200).into() }
}

/// A directory of its own, which does not exist yet.
pub(super) fn directory() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let dir = std::env::temp_dir().join(format!("oxios-fuzz-{process}-{count}"));
    let _ = fs::remove_dir_all(&dir);
    dir
}

/// Writes a file that is closed to others, as the server's own.
fn put(path: &Path, bytes: &[u8]) {
    let made = || {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path.parent().unwrap_or(path))?;
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        io::Write::write_all(&mut file, bytes)
    };
    made().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

/// Adds all files below `dir/name`, by their names in `dir`.
fn collect(dir: &Path, name: &Path, all: &mut Vec<(PathBuf, Vec<u8>)>) {
    let Ok(entries) = fs::read_dir(dir.join(name)) else { return };
    for entry in entries.flatten() {
        let name = name.join(entry.file_name());
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => collect(dir, &name, all),
            Ok(kind) if kind.is_file() => all.extend(fs::read(dir.join(&name)).map(|bytes| (name, bytes))),
            _ => {}
        }
    }
}

/// The disk's syncs are counted and not done, time is the runtime's, and chance is the same each time.
pub(super) fn seams(runtime: &Runtime, age: u64) -> Seams {
    let disk = FaultDisk::new();
    disk.set_free(Some(1 << 40));
    let start = runtime.block_on(async { Instant::now() });
    let wall = START_MILLIS + 1000 * age;
    Seams { disk: Arc::new(disk), clock: Arc::new(Paced { start, wall }), random: Arc::new(Counted(Mutex::new(age))) }
}

/// The runtime's time.
struct Paced {
    start: Instant,
    /// Milliseconds of wall time at `start`.
    wall: u64,
}

impl Clock for Paced {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.wall).plus(self.monotonic())
    }
    fn monotonic(&self) -> Duration {
        Instant::now().saturating_duration_since(self.start)
    }
}

/// SplitMix64: the same bytes in every run.
struct Counted(Mutex<u64>);

impl Random for Counted {
    fn fill(&self, out: &mut [u8]) {
        let mut state = self.0.lock().unwrap_or_else(|e| e.into_inner());
        for piece in out.chunks_mut(8) {
            *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = *state;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            piece.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes()[..piece.len()]);
        }
    }
}
