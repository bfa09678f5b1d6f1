//! The servers that are kept: one for each owner and name, so that nobody's server ever works for somebody else (THREATS 7).
//! Bounded in number; one that nobody uses for a while is ended.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::server::{Server, Shown, WAIT_MAX};
use super::{McpError, ServerSettings, Settings, Whose};
use crate::base::ids::OwnerId;
use crate::base::limits::{MCP_KEPT_MAX, MCP_SERVERS_MAX};

/// A server that nobody has used for this long is ended.
const IDLE: Duration = Duration::from_secs(600);

// One that ends too often must not be forgotten, and started at once, before its wait is over.
const _: () = assert!(WAIT_MAX.as_secs() < IDLE.as_secs());
// One owner's servers fit, twice.
const _: () = assert!(2 * MCP_SERVERS_MAX <= MCP_KEPT_MAX);

/// The servers. A clone of one that leaves here means that it is in use: clones are made under the lock or from other clones, so
/// one that has none but ours has no user.
#[derive(Default)]
pub(super) struct Pool {
    /// Held for moments.
    kept: Mutex<BTreeMap<(OwnerId, String), Kept>>,
}

struct Kept {
    server: Arc<Server>,
    /// Monotonic time at which it was last seen in use.
    used: Duration,
}

impl Kept {
    fn is_used(&self) -> bool {
        Arc::strong_count(&self.server) > 1
    }
}

impl Pool {
    /// The owner's server of this name with these settings, in use until it is dropped. Where there are too many, the one that
    /// was not used for longest goes.
    ///
    /// # Errors
    /// [`McpError::Full`]: all of them are in use.
    pub(super) fn take(&self, whose: Whose<'_>, name: &str, settings: &ServerSettings, now: Duration) -> Result<Arc<Server>, McpError> {
        let mut kept = self.kept();
        let key = (whose.owner, name.to_owned());
        if let Some(known) = kept.get_mut(&key).filter(|known| known.server.settings == *settings) {
            known.used = now;
            return Ok(known.server.clone());
        }
        // One with other settings ends with the last call that uses it.
        let mut gone = kept.remove(&key);
        if kept.len() >= MCP_KEPT_MAX {
            let idle = kept.iter().filter(|(_, kept)| !kept.is_used()).min_by_key(|(_, kept)| kept.used).map(|(key, _)| key.clone());
            gone = kept.remove(&idle.ok_or(McpError::Full)?);
        }
        let server = Arc::new(Server::new(name, settings.clone(), whose.files.to_owned()));
        kept.insert(key, Kept { server: server.clone(), used: now });
        // Its end is a system call and a task; nobody waits for it under the lock.
        drop(kept);
        drop(gone);
        Ok(server)
    }

    /// How the owner's server of this name does; none where there is none with these settings.
    pub(super) fn shown(&self, owner: OwnerId, name: &str, settings: &ServerSettings) -> Option<Shown> {
        let kept = self.kept();
        let known = kept.get(&(owner, name.to_owned())).filter(|kept| kept.server.settings == *settings)?;
        Some(known.server.shown())
    }

    /// Lets go of every server that nobody has used for a while, and of those that are not configured like that any more; both
    /// end when this returns, or with the last call that uses them.
    pub(super) fn tidy(&self, settings: &Settings, now: Duration) {
        let mut gone = Vec::new();
        self.kept().retain(|(_, name), kept| {
            if kept.is_used() {
                kept.used = now;
            }
            let configured = settings.servers.get(name) == Some(&kept.server.settings);
            let stays = configured && now.saturating_sub(kept.used) < IDLE;
            if !stays {
                gone.push(kept.server.clone());
            }
            stays
        });
    }

    /// Takes all of them out.
    pub(super) fn empty(&self) -> Vec<Arc<Server>> {
        std::mem::take(&mut *self.kept()).into_values().map(|kept| kept.server).collect()
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<(OwnerId, String), Kept>> {
        // Every change is whole before the lock is given back.
        self.kept.lock().unwrap_or_else(|e| e.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn settings() -> ServerSettings {
        let transport = super::super::Transport::Stdio { command: "x".into(), args: vec![], env: BTreeMap::new() };
        ServerSettings { transport, enabled: true, timeout: Duration::from_secs(1), trust: false }
    }

    fn whose(owner: u8) -> Whose<'static> {
        Whose { owner: OwnerId::derived(&[owner; 32]), files: Path::new("/") }
    }

    fn second(n: usize) -> Duration {
        Duration::from_secs(n as u64)
    }

    #[test]
    fn where_there_are_too_many_the_one_that_was_unused_for_longest_goes() {
        let (pool, settings) = (Pool::default(), settings());
        let take = |owner: usize| pool.take(whose(owner as u8), "s", &settings, second(owner));
        let held = take(0).unwrap();
        (1..MCP_KEPT_MAX).for_each(|owner| drop(take(owner).unwrap()));
        take(MCP_KEPT_MAX).unwrap();
        let shown = |owner: u8| pool.shown(whose(owner).owner, "s", &settings).is_some();
        assert!(shown(0) && !shown(1) && shown(2), "the first is older and in use");
        drop(held);
        take(MCP_KEPT_MAX + 1).unwrap();
        assert!(!shown(0) && shown(2));
    }

    #[test]
    fn where_all_are_in_use_another_one_has_to_wait() {
        let (pool, settings) = (Pool::default(), settings());
        let mut held: Vec<_> = (0..MCP_KEPT_MAX).map(|n| pool.take(whose(n as u8), "s", &settings, second(0)).unwrap()).collect();
        assert_eq!(pool.take(whose(200), "s", &settings, second(1)).err(), Some(McpError::Full));
        assert!(Arc::ptr_eq(&held[0], &pool.take(whose(0), "s", &settings, second(1)).unwrap()), "one that is there is shared");
        held.pop();
        assert!(pool.take(whose(200), "s", &settings, second(1)).is_ok());
    }

    #[test]
    fn one_that_is_in_use_is_never_idle_and_new_settings_make_a_new_one() {
        let pool = Pool::default();
        let all = Settings { servers: [("s".to_owned(), settings())].into() };
        let held = pool.take(whose(1), "s", &settings(), second(0)).unwrap();
        pool.tidy(&all, 3 * IDLE);
        assert!(pool.shown(whose(1).owner, "s", &settings()).is_some());
        let changed = ServerSettings { trust: true, ..settings() };
        assert!(pool.shown(whose(1).owner, "s", &changed).is_none());
        assert!(!Arc::ptr_eq(&held, &pool.take(whose(1), "s", &changed, second(0)).unwrap()));
        pool.tidy(&all, second(0));
        assert!(pool.empty().is_empty());
    }
}
