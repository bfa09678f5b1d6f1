//! Floor 0: what every other floor speaks of. No I/O but the clock and the random source, both injected.

pub mod bell;
pub mod blocking;
pub mod cancel;
pub mod digest;
pub mod ids;
pub mod latch;
pub mod limits;
pub mod live;
pub mod log;
pub mod metrics;
pub mod random;
pub mod secret;
pub(crate) mod text;
pub mod time;
