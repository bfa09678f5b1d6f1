//! One-time tickets for browsers, which cannot set a header on a WebSocket or an EventSource (API B).

use std::time::Duration;

use crate::base::random::Random;
use crate::base::secret::Secret;
use crate::middleware::auth::Caller;

/// How long a ticket lives.
pub const TICKET_TTL: Duration = Duration::from_secs(30);

/// The open tickets of the process; they do not survive a restart.
pub struct Tickets(());

impl Tickets {
    /// None yet.
    pub fn new() -> Self {
        Self(())
    }
    /// A new ticket for this caller's key; none where too many are open. `now` is monotonic.
    pub fn issue(&self, _caller: &Caller, _random: &dyn Random, _now: Duration) -> Option<Secret> {
        todo!()
    }
}

impl Default for Tickets {
    fn default() -> Self {
        Self::new()
    }
}
