//! Floor 5: submit, lanes, permits, cancel, drain.

mod message;

pub use message::{CancelError, Counts, GatewayError, IncomingMessage, LanePolicy, Settings};

/// Takes messages in and answers for their runs.
pub struct Gateway(());

impl Gateway {
    /// Numbers for status pages.
    #[expect(clippy::todo, reason = "signature first")]
    pub fn counts(&self) -> Counts {
        todo!()
    }
}
