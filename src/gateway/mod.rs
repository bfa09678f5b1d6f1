//! Floor 5: submit, lanes, permits, cancel, drain.

mod message;

pub use message::{CancelError, Counts, GatewayError, IncomingMessage, LanePolicy, Settings};
