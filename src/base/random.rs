//! Randomness as an argument.

use ring::rand::SecureRandom;

/// A source of bytes nobody can guess.
pub trait Random: Send + Sync + 'static {
    /// Fills all of `out`.
    fn fill(&self, out: &mut [u8]);
}

/// The operating system's source.
pub struct SystemRandom(ring::rand::SystemRandom);

impl SystemRandom {
    /// The source; opening it cannot fail.
    pub fn new() -> Self {
        Self(ring::rand::SystemRandom::new())
    }
}

impl Default for SystemRandom {
    fn default() -> Self {
        Self::new()
    }
}

impl Random for SystemRandom {
    #[expect(clippy::expect_used, reason = "without randomness no key and no id is safe; there is nothing to go on with")]
    fn fill(&self, out: &mut [u8]) {
        self.0.fill(out).expect("the operating system gives random bytes");
    }
}
