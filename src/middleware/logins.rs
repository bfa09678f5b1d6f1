//! Logged-in browsers: a cookie that stands for a key (API B, login).
//!
//! The cookie is one more credential in the one `admit`; it has its key's owner and scopes, and dies with it. Logins outlive a
//! restart, so that an open page goes on by itself: `<home>/logins.json` keeps their digests. A stolen home opens no browser's session.
//! What a browser has open ends with its login.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::digest::{hex, sha256};
use crate::base::ids::KeyId;
use crate::base::limits::{LOGINS_FILE_BYTES_MAX, LOGINS_MAX, LOGINS_PER_KEY_MAX};
use crate::base::log;
use crate::base::random::Random;
use crate::base::secret::Secret;
use crate::base::time::Timestamp;
use crate::middleware::tickets::Tickets;
use crate::store::atomic::{self, Durable};
use crate::sys::disk::{Disk, read_whole};

/// The cookie's name.
pub const COOKIE: &str = "oxios";
/// How long a login lasts.
pub const LOGIN_TTL: Duration = Duration::from_secs(7 * 24 * 3600);

/// All logins, and the codes for further ones.
pub struct Logins {
    /// One-time codes, as in a printed link.
    pub codes: Tickets,
    /// By the digest of the cookie: looking one up tells nothing by its duration. Taken for each cookie, so never held over disk work.
    open: Mutex<HashMap<String, Login>>,
    /// Held by the one login or logout that changes them; taken before `open`.
    changing: Mutex<()>,
    /// Where they are kept; none in tests of other things.
    file: Option<(PathBuf, Arc<dyn Disk>)>,
}

/// One logged-in browser: the digest of its cookie, which tells nothing of the cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LoginId([u8; 32]);

impl LoginId {
    pub(super) fn of(cookie: &str) -> Self {
        Self(sha256(cookie.as_bytes()))
    }

    /// As the file has it.
    fn name(self) -> String {
        hex(&self.0)
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Login {
    key: KeyId,
    expires: Timestamp,
}

impl Logins {
    /// None yet, and none is kept.
    pub fn new() -> Self {
        Self { codes: Tickets::codes(), open: Mutex::default(), changing: Mutex::default(), file: None }
    }

    /// Those that this file holds; changes are written to it. One that cannot be read is as good as none: browsers log in again.
    pub fn open(path: PathBuf, disk: Arc<dyn Disk>) -> Self {
        let read = read_whole(&*disk, &path, LOGINS_FILE_BYTES_MAX);
        let open = read.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Self { codes: Tickets::codes(), open: Mutex::new(open), changing: Mutex::default(), file: Some((path, disk)) }
    }

    /// A new cookie for this key; none where too many are logged in. Writes a small file.
    pub fn begin(&self, key: KeyId, lasts: Duration, random: &dyn Random, now: Timestamp) -> Option<Secret> {
        let mut bytes = [0; 32];
        random.fill(&mut bytes);
        let text = hex(&bytes);
        let _alone = self.changing.lock().unwrap_or_else(|e| e.into_inner());
        let mut open = self.all().clone();
        open.retain(|_, login| login.expires > now);
        let own = open.iter().filter(|(_, login)| login.key == key);
        let many = own.clone().count() >= LOGINS_PER_KEY_MAX;
        let oldest = own.min_by_key(|(_, login)| login.expires).map(|(digest, _)| digest.clone());
        if let Some(oldest) = oldest.filter(|_| many) {
            open.remove(&oldest);
        }
        if open.len() >= LOGINS_MAX {
            return None;
        }
        open.insert(LoginId::of(&text).name(), Login { key, expires: now.plus(lasts) });
        if let Err(error) = self.keep(&open) {
            // Whoever has to mend the disk must come in; after a restart they do it again.
            log::warn("logins", format_args!("a logged-in browser is not kept: {error}"));
        }
        *self.all() = open;
        Some(Secret::new(text))
    }

    /// The key that a logged-in browser's cookie stands for; none once it has logged out or its time is up.
    pub(super) fn key(&self, login: LoginId, now: Timestamp) -> Option<KeyId> {
        self.all().get(&login.name()).filter(|login| login.expires > now).map(|login| login.key)
    }

    /// Logs out. Writes a small file.
    ///
    /// # Errors
    /// It could not be written: then the login is as it was, since a restart would bring it back.
    pub fn end(&self, cookie: &str) -> io::Result<()> {
        let _alone = self.changing.lock().unwrap_or_else(|e| e.into_inner());
        let mut open = self.all().clone();
        if open.remove(&LoginId::of(cookie).name()).is_some() {
            self.keep(&open)?;
            *self.all() = open;
        }
        Ok(())
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Login>> {
        // A change is one assignment.
        self.open.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn keep(&self, open: &HashMap<String, Login>) -> io::Result<()> {
        let Some((path, disk)) = &self.file else { return Ok(()) };
        atomic::replace(&**disk, path, &serde_json::to_vec(open)?, Durable::Yes)
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
        let (key, now) = (KeyId::derived(&[1; 32]), Timestamp::from_millis(5000));
        let cookie = logins.begin(key, Duration::from_secs(60), &random, now).unwrap();
        assert_eq!(logins.key(LoginId::of(cookie.reveal()), Timestamp::from_millis(64_000)), Some(key));
        assert_eq!(logins.key(LoginId::of(cookie.reveal()), Timestamp::from_millis(65_000)), None);
        assert_eq!(logins.key(LoginId::of("guess"), now), None);
        logins.end(cookie.reveal()).unwrap();
        assert_eq!(logins.key(LoginId::of(cookie.reveal()), now), None);
    }

    #[test]
    fn one_key_keeps_a_bounded_number_and_the_oldest_goes() {
        let (logins, random) = (Logins::new(), SystemRandom::new());
        let key = KeyId::derived(&[1; 32]);
        let begin = |secs| logins.begin(key, LOGIN_TTL, &random, Timestamp::from_millis(secs * 1000)).unwrap();
        let (first, second) = (begin(1), begin(2));
        (0..LOGINS_PER_KEY_MAX as u64 - 1).for_each(|n| drop(begin(3 + n)));
        let now = Timestamp::from_millis(1_000_000);
        assert_eq!((logins.key(LoginId::of(first.reveal()), now), logins.key(LoginId::of(second.reveal()), now)), (None, Some(key)));
    }

    #[test]
    fn a_logout_that_is_not_written_is_none() {
        use crate::sys::fault_disk::FaultDisk;
        let path = std::env::temp_dir().join(format!("oxios-logout-{}.json", std::process::id()));
        let (random, key, now) = (SystemRandom::new(), KeyId::derived(&[1; 32]), Timestamp::from_millis(5000));
        let disk = FaultDisk::new();
        let logins = Logins::open(path.clone(), Arc::new(disk.clone()));
        let cookie = logins.begin(key, LOGIN_TTL, &random, now).unwrap();
        disk.stop_after(Some(0));
        assert!(logins.end(cookie.reveal()).is_err());
        assert_eq!(logins.key(LoginId::of(cookie.reveal()), now), Some(key), "a restart would bring it back");
        disk.stop_after(None);
        logins.end(cookie.reveal()).unwrap();
        assert_eq!(Logins::open(path.clone(), Arc::new(disk)).key(LoginId::of(cookie.reveal()), now), None);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn logins_outlive_a_restart_and_no_cookie_is_in_the_file() {
        use crate::sys::disk::RealDisk;
        let path = std::env::temp_dir().join(format!("oxios-logins-{}.json", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let (random, key, now) = (SystemRandom::new(), KeyId::derived(&[1; 32]), Timestamp::from_millis(5000));
        let logins = Logins::open(path.clone(), Arc::new(RealDisk));
        let (stays, goes) = (logins.begin(key, LOGIN_TTL, &random, now).unwrap(), logins.begin(key, LOGIN_TTL, &random, now).unwrap());
        logins.end(goes.reveal()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(stays.reveal()), "{text}");
        let logins = Logins::open(path.clone(), Arc::new(RealDisk));
        assert_eq!((logins.key(LoginId::of(stays.reveal()), now), logins.key(LoginId::of(goes.reveal()), now)), (Some(key), None));
        std::fs::write(&path, "{").unwrap();
        assert_eq!(Logins::open(path.clone(), Arc::new(RealDisk)).key(LoginId::of(stays.reveal()), now), None);
        std::fs::remove_file(path).unwrap();
    }
}
