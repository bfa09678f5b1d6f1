//! Soak and chaos: clients, a model that misbehaves, kills, a disk that fills up and a clock that jumps, all at once, for as
//! long as one likes; then the books are compared. `cargo test --test chaos -- --seconds 120 [--seed N]`.
//!
//! What must hold at the end: what was acknowledged is there, once, in order, with exactly one end that holds what was seen;
//! no number of a log means two things; nothing of one conversation is in another, nor reached the model with it; the audit
//! log is whole; memory and descriptors are back where they were. The disk fills up only where a file system can be mounted
//! (root), the clock jumps only where Debian's `libfaketime` is installed; what is left out is said.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test program: it ends where something is not as it must be, and says so"
)]

mod client;
mod ledger;
mod model;
mod work;
mod world;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ledger::Ledger;
use world::World;

/// A small generator for choices (xorshift64*).
pub struct Dice(u64);

impl Dice {
    /// Another one for the same seed and another number.
    pub fn new(seed: u64, n: u64) -> Self {
        let mut dice = Self((seed ^ n.wrapping_mul(0x9E37_79B9_7F4A_7C15)) | 1);
        dice.below(2);
        dice
    }
    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n
    }
}

/// Conversing clients.
const CLIENTS: u64 = 8;
/// The part of the time without kills, after which memory and descriptors are looked at: one in so many.
const CALM_SHARE: u32 = 4;

fn main() -> ExitCode {
    let number = |name: &str| {
        let mut args = std::env::args().skip_while(|arg| arg != name);
        args.nth(1).map(|n| n.parse::<u64>().unwrap_or_else(|_| panic!("{name} takes a whole number")))
    };
    // A test runner that only asks what there is.
    if std::env::args().any(|arg| arg == "--list") {
        return ExitCode::SUCCESS;
    }
    let seconds = number("--seconds").unwrap_or(15).max(8);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = number("--seed").unwrap_or(u64::from(now.subsec_nanos()));
    println!("chaos for {seconds} s, --seed {seed}");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let wrong = runtime.block_on(run(Duration::from_secs(seconds), seed));
    for line in wrong.iter().take(40) {
        println!("WRONG  {line}");
    }
    println!(
        "test result: {}. {} passed; {} failed; seed {seed}",
        if wrong.is_empty() { "ok" } else { "FAILED" },
        u8::from(wrong.is_empty()),
        wrong.len()
    );
    if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Those who converse now.
struct Clients {
    stop: tokio::sync::watch::Sender<bool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Clients {
    fn begin(mut dice: Dice, world: &Arc<World>, ledger: &Arc<Ledger>) -> Self {
        let stop = tokio::sync::watch::Sender::new(false);
        let tasks = (0..CLIENTS).map(|client| {
            let dice = Dice::new(dice.below(u64::from(u32::MAX)), client);
            tokio::spawn(work::converse(client, dice, world.clone(), ledger.clone(), stop.subscribe()))
        });
        Self { tasks: tasks.collect(), stop }
    }
    async fn end(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

async fn run(length: Duration, seed: u64) -> Vec<String> {
    let began = Instant::now();
    let model = model::start(seed);
    let world = Arc::new(World::start(&model.address).await);
    let ledger = Arc::new(Ledger::default());
    work::make_keys(&world, CLIENTS).await;
    let mut dice = Dice::new(seed, 1000);
    let mut faults = BTreeMap::<&str, u32>::new();
    let clients = Clients::begin(Dice::new(seed, 0), &world, &ledger);
    let calm_from = began + length - length / CALM_SHARE;
    while Instant::now() < calm_from {
        tokio::time::sleep(Duration::from_millis(300 + dice.below(1700))).await;
        *faults.entry(world.disturb(&mut dice).await).or_default() += 1;
    }
    clients.end().await;
    world.settle().await;
    // Two loads of one kind: what the second needs beyond the first was not given back.
    let calm = length / CALM_SHARE / 2;
    let first = Clients::begin(Dice::new(seed, 1), &world, &ledger);
    tokio::time::sleep(calm).await;
    first.end().await;
    let before = world.usage_at_rest().await;
    let second = Clients::begin(Dice::new(seed, 2), &world, &ledger);
    tokio::time::sleep(calm).await;
    second.end().await;
    let mut wrong = world.back_to(before).await;

    // The books are compared twice: as they are, and after one more power cut.
    wrong.extend(ledger.check(&world).await);
    world.kill().await;
    wrong.extend(ledger.check(&world).await);
    wrong.extend(world.audit());
    wrong.extend(model.leaks());
    wrong.extend(world.panics());
    println!("{:<44}{:>8}", "time", format!("{} s", began.elapsed().as_secs()));
    for (fault, times) in &faults {
        println!("{fault:<44}{times:>8}");
    }
    for (what, times) in ledger.counts().into_iter().chain(model.counts()) {
        println!("{what:<44}{times:>8}");
    }
    wrong
}
