//! One-time tickets for browsers, which cannot set a header on a WebSocket or an EventSource (API B).

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use crate::base::digest::{hex, sha256};
use crate::base::limits::TICKETS_MAX;
use crate::base::random::Random;
use crate::base::secret::Secret;
use crate::middleware::auth::{Caller, Holder};

/// How long a ticket lives.
pub const TICKET_TTL: Duration = Duration::from_secs(30);
/// How long a login code lives: somebody walks with it from a terminal to a browser.
pub const CODE_TTL: Duration = Duration::from_secs(300);
/// Open tickets of one key; one key cannot take every place.
const PER_KEY_MAX: usize = 256;

/// The open tickets of the process; they do not survive a restart.
pub struct Tickets {
    ttl: Duration,
    /// By the digest of the ticket: looking one up tells nothing by its duration. Taken to issue and to redeem.
    open: Mutex<HashMap<[u8; 32], Ticket>>,
}

struct Ticket {
    holder: Holder,
    expires: Duration,
}

impl Tickets {
    /// For `?ticket=`; none yet.
    pub fn new() -> Self {
        Self { ttl: TICKET_TTL, open: Mutex::default() }
    }
    /// For `{"code"}` of a login; none yet.
    pub(super) fn codes() -> Self {
        Self { ttl: CODE_TTL, open: Mutex::default() }
    }

    /// A new ticket for this caller; none where too many of its key's are open. `now` is monotonic.
    pub fn issue(&self, caller: &Caller, random: &dyn Random, now: Duration) -> Option<Secret> {
        let mut bytes = [0; 32];
        random.fill(&mut bytes);
        let text = hex(&bytes);
        let mut open = self.open.lock().unwrap_or_else(|e| e.into_inner());
        open.retain(|_, ticket| ticket.expires > now);
        let own = open.values().filter(|ticket| ticket.holder.key == caller.key_id()).count();
        if open.len() >= TICKETS_MAX || own >= PER_KEY_MAX {
            return None;
        }
        open.insert(sha256(text.as_bytes()), Ticket { holder: caller.holder(), expires: now + self.ttl });
        Some(Secret::new(text))
    }

    /// Takes a ticket: whom it stands for, once.
    pub(super) fn redeem(&self, ticket: &str, now: Duration) -> Option<Holder> {
        let ticket = self.open.lock().unwrap_or_else(|e| e.into_inner()).remove(&sha256(ticket.as_bytes()))?;
        (ticket.expires > now).then_some(ticket.holder)
    }
}

impl Default for Tickets {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::SystemRandom;

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_ticket_works_once_and_for_30_seconds() {
        let (tickets, caller, random) = (Tickets::new(), Caller::for_tests(1), SystemRandom::new());
        let ticket = tickets.issue(&caller, &random, secs(100)).unwrap();
        assert_eq!(tickets.redeem(ticket.reveal(), secs(129)), Some(caller.holder()));
        assert_eq!(tickets.redeem(ticket.reveal(), secs(129)), None);
        let late = tickets.issue(&caller, &random, secs(100)).unwrap();
        assert_eq!(tickets.redeem(late.reveal(), secs(130)), None);
        assert_eq!(tickets.redeem("guess", secs(0)), None);
    }

    #[test]
    fn one_key_cannot_take_every_place() {
        let (tickets, random) = (Tickets::new(), SystemRandom::new());
        while tickets.issue(&Caller::for_tests(1), &random, secs(1)).is_some() {}
        assert!(tickets.issue(&Caller::for_tests(2), &random, secs(1)).is_some());
        assert!(tickets.issue(&Caller::for_tests(1), &random, secs(32)).is_some(), "old ones have lapsed");
    }
}
