//! What the tests stand on: the real binary, a client that checks every response, model servers that do as they are told.

pub mod client;
pub mod model;
pub mod raw;
pub mod scripted;
pub mod server;
pub mod small_disk;
pub mod sse;
pub mod supervisor;
pub mod tool_server;
pub mod ws;

/// A small generator for test choices (xorshift64*); the seed is printed by whoever makes one, `OXIOS_TEST_SEED` repeats a run.
pub struct Dice(u64);

impl Dice {
    /// With a fresh seed, or the one of `OXIOS_TEST_SEED`; says it, so that a failure can be repeated.
    pub fn new(what: &str) -> Self {
        let fresh = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos().into();
        let seed: u64 = std::env::var("OXIOS_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(fresh);
        println!("{what}: OXIOS_TEST_SEED={seed}");
        Self(seed | 1)
    }
    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n
    }
}
