//! What the store's tests stand on: a home in a directory of its own, a clock that stands still, seeded randomness, a disk with faults.

pub(crate) mod conversation;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::base::ids::{AgentId, MessageId, OwnerId, SessionId};
use crate::base::random::Random;
use crate::base::time::{ManualClock, Timestamp};
use crate::store::home::{Home, Seams};
use crate::store::record::{Body, Ending, UserMessage};
use crate::store::sessions::{Sessions, Settings};
use crate::sys::fault_disk::FaultDisk;
use crate::sys::memory_disk::{Dice, MemoryDisk};

/// A small generator (xorshift): the same bytes in every run.
pub(crate) struct Seeded(Mutex<u64>);

impl Seeded {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Mutex::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1))
    }
}

impl Random for Seeded {
    fn fill(&self, out: &mut [u8]) {
        let mut state = self.0.lock().unwrap();
        for byte in out {
            *state ^= *state << 13;
            *state ^= *state >> 7;
            *state ^= *state << 17;
            *byte = (*state >> 32) as u8;
        }
    }
}

/// A place for one test; its directory goes with it.
pub(crate) struct Bench {
    pub(crate) dir: PathBuf,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) random: Arc<Seeded>,
    pub(crate) disk: FaultDisk,
    /// What is behind the faults, where that is memory.
    memory: Option<MemoryDisk>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("oxios-store-{}-{n}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_800_000_000_000)));
        Self { dir, clock, random: Arc::new(Seeded::new(1)), disk: FaultDisk::new(), memory: None }
    }
    /// The same in memory, so that the power can be cut.
    pub(crate) fn in_memory() -> Self {
        let bench = Self::new();
        bench.on(MemoryDisk::default())
    }
    /// As after a kill: all that was written is there. The clock and the random source go on.
    pub(crate) fn killed(&self) -> Self {
        self.on(self.memory().killed())
    }
    /// As after a power cut: only what was durable is there.
    pub(crate) fn power_cut(&self) -> Self {
        self.on(self.memory().power_cut())
    }
    /// As after a power cut that kept some of what was not durable.
    pub(crate) fn power_cut_by(&self, dice: Dice<'_>) -> Self {
        self.on(self.memory().power_cut_by(dice))
    }
    pub(crate) fn memory(&self) -> &MemoryDisk {
        self.memory.as_ref().expect("a bench in memory")
    }
    fn on(&self, memory: MemoryDisk) -> Self {
        let (clock, random, disk) = (self.clock.clone(), self.random.clone(), FaultDisk::before(Arc::new(memory.clone())));
        Self { dir: PathBuf::from("/home"), clock, random, disk, memory: Some(memory) }
    }
    pub(crate) fn seams(&self) -> Seams {
        Seams { disk: Arc::new(self.disk.clone()), clock: self.clock.clone(), random: self.random.clone() }
    }
    pub(crate) fn home(&self) -> Arc<Home> {
        Home::open(&self.dir, None, self.seams()).unwrap()
    }
    pub(crate) fn owner(&self) -> OwnerId {
        OwnerId::derived(&[7; 32])
    }
    pub(crate) fn sessions(&self) -> Arc<Sessions> {
        Sessions::open(&self.home(), self.owner(), Settings::default())
    }
    pub(crate) fn session_id(&self) -> SessionId {
        SessionId::random(self.random.as_ref())
    }
    pub(crate) fn message_id(&self) -> MessageId {
        MessageId::random(self.random.as_ref())
    }
    pub(crate) fn files(&self) -> PathBuf {
        self.dir.join("workspace/sessions")
    }
    pub(crate) fn file(&self, id: SessionId, ending: &str) -> PathBuf {
        self.files().join(format!("{id}.{ending}"))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if self.memory.is_some() {
            return;
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A small generator of test choices: numbers below the given one, the same for the same seed.
pub(crate) fn dice(mut seed: u64) -> impl FnMut(u64) -> u64 {
    move |n| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % n
    }
}

/// A seed for [`dice`]: a fresh one, or that of `OXIOS_TEST_SEED`; says it, so that a failure can be repeated.
#[expect(clippy::print_stdout, reason = "a test's output")]
pub(crate) fn test_seed(what: &str) -> u64 {
    let fresh = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos().into();
    let seed = std::env::var("OXIOS_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(fresh);
    println!("{what}: OXIOS_TEST_SEED={seed}");
    seed
}

/// A message that says this.
pub(crate) fn say(content: &str) -> UserMessage {
    UserMessage {
        content: content.to_owned(),
        user_id: "default".to_owned(),
        channel: "rest".to_owned(),
        agent_id: AgentId::derived(&[1; 32]),
        space_id: None,
        budget_id: None,
        key_id: None,
        idempotent: false,
        history: None,
        attachments: Vec::new(),
    }
}

/// A piece of the answer.
pub(crate) fn token(text: &str) -> Body {
    Body::Token { text: text.to_owned() }
}

/// The answer.
pub(crate) fn done(text: &str) -> Body {
    Body::Done(Ending { text: text.to_owned(), ..Ending::default() })
}

/// A reader's view of the rest of a session, up to what is visible now: the JSON of every record.
pub(crate) async fn read_on(tail: &mut crate::store::tail::Tail) -> Vec<String> {
    let mut out = Vec::new();
    while !tail.caught_up() {
        match tail.next().await.unwrap() {
            crate::store::tail::Step::Record(entry) => out.push(String::from_utf8(entry.json.to_vec()).unwrap()),
            crate::store::tail::Step::Resync { last_seq } => out.push(format!("resync {last_seq}")),
            crate::store::tail::Step::Deleted => {
                out.push("deleted".to_owned());
                break;
            }
        }
    }
    out
}

/// Seq and kind of each.
pub(crate) fn kinds(records: &[String]) -> Vec<String> {
    records
        .iter()
        .map(|json| match serde_json::from_str::<serde_json::Value>(json) {
            Ok(value) => format!("{} {}", value["seq"], value["kind"].as_str().unwrap()),
            Err(_) => json.clone(),
        })
        .collect()
}
