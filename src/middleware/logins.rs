//! Logged-in browsers: a cookie that stands for a key (API B, login).
//!
//! The cookie is one more credential in the one `admit`; it has its key's owner and scopes, and dies with it. Logins live in memory:
//! after a restart of the server a browser logs in again, and a stolen home opens no browser's session.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use crate::base::digest::{hex, sha256};
use crate::base::ids::KeyId;
use crate::base::limits::{LOGINS_MAX, LOGINS_PER_KEY_MAX};
use crate::base::random::Random;
use crate::base::secret::Secret;
use crate::middleware::tickets::Tickets;

/// The cookie's name.
pub const COOKIE: &str = "oxios";
/// How long a login lasts.
pub const LOGIN_TTL: Duration = Duration::from_secs(7 * 24 * 3600);

/// All logins of the process, and the codes for further ones.
pub struct Logins {
    /// One-time codes, as in a printed link.
    pub codes: Tickets,
    /// By the digest of the cookie: looking one up tells nothing by its duration. Taken at login, logout and for each cookie.
    open: Mutex<HashMap<[u8; 32], Login>>,
}

struct Login {
    key: KeyId,
    /// Monotonic.
    expires: Duration,
}

impl Logins {
    /// None yet.
    pub fn new() -> Self {
        Self { codes: Tickets::codes(), open: Mutex::default() }
    }

    /// A new cookie for this key; none where too many are logged in. `now` is monotonic.
    pub fn begin(&self, key: KeyId, lasts: Duration, random: &dyn Random, now: Duration) -> Option<Secret> {
        let mut bytes = [0; 32];
        random.fill(&mut bytes);
        let text = hex(&bytes);
        let mut open = self.open.lock().unwrap_or_else(|e| e.into_inner());
        open.retain(|_, login| login.expires > now);
        let own = open.iter().filter(|(_, login)| login.key == key);
        if own.clone().count() >= LOGINS_PER_KEY_MAX
            && let Some(oldest) = own.min_by_key(|(_, login)| login.expires).map(|(digest, _)| *digest)
        {
            open.remove(&oldest);
        }
        if open.len() >= LOGINS_MAX {
            return None;
        }
        open.insert(sha256(text.as_bytes()), Login { key, expires: now + lasts });
        Some(Secret::new(text))
    }

    /// The key that a cookie stands for.
    pub(super) fn find(&self, cookie: &str, now: Duration) -> Option<KeyId> {
        let open = self.open.lock().unwrap_or_else(|e| e.into_inner());
        open.get(&sha256(cookie.as_bytes())).filter(|login| login.expires > now).map(|login| login.key)
    }

    /// Logs out.
    pub fn end(&self, cookie: &str) {
        self.open.lock().unwrap_or_else(|e| e.into_inner()).remove(&sha256(cookie.as_bytes()));
    }
}

impl Default for Logins {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::SystemRandom;

    #[test]
    fn a_login_lasts_until_its_end_or_logout() {
        let (logins, random) = (Logins::new(), SystemRandom::new());
        let (key, now) = (KeyId::derived(&[1; 32]), Duration::from_secs(5));
        let cookie = logins.begin(key, Duration::from_secs(60), &random, now).unwrap();
        assert_eq!(logins.find(cookie.reveal(), Duration::from_secs(64)), Some(key));
        assert_eq!(logins.find(cookie.reveal(), Duration::from_secs(65)), None);
        assert_eq!(logins.find("guess", now), None);
        logins.end(cookie.reveal());
        assert_eq!(logins.find(cookie.reveal(), now), None);
    }

    #[test]
    fn one_key_keeps_a_bounded_number_and_the_oldest_goes() {
        let (logins, random) = (Logins::new(), SystemRandom::new());
        let key = KeyId::derived(&[1; 32]);
        let begin = |secs| logins.begin(key, LOGIN_TTL, &random, Duration::from_secs(secs)).unwrap();
        let (first, second) = (begin(1), begin(2));
        (0..LOGINS_PER_KEY_MAX as u64 - 1).for_each(|n| drop(begin(3 + n)));
        let now = Duration::from_secs(1000);
        assert_eq!((logins.find(first.reveal(), now), logins.find(second.reveal(), now)), (None, Some(key)));
    }
}
