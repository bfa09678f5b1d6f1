//! When a stream has to end although both sides would go on: its key was revoked or ran out, its browser logged out, or the server
//! stops.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::Notify;

use crate::base::cancel::Cancel;
use crate::base::ids::KeyId;
use crate::base::latch::{Latch, Waiter};
use crate::http::sse::Limit;
use crate::middleware::logins::LoginId;

/// How often the holders of open streams are looked at; a revoked key's streams end within a second (THREATS 6).
const LOOK_EVERY: Duration = Duration::from_millis(400);

/// Why a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The key was revoked or ran out, or the browser is logged in no more.
    Revoked,
    /// The server stops.
    Shutdown,
}

/// Whose streams end together: those of a key, or of one browser that is logged in with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Holder {
    /// The key.
    pub key: KeyId,
    /// The browser, where its cookie was shown, or a ticket that it had asked for.
    pub login: Option<LoginId>,
}

/// Who may still use what is open: one end for each holder that has a stream, and one for streams of nobody.
pub struct Watches {
    state: Mutex<State>,
    /// Wakes the look when the first stream begins.
    begun: Notify,
    shutdown: Cancel,
}

#[derive(Default)]
struct State {
    /// The server stops: what begins now has ended.
    stopped: bool,
    /// Without those that were revoked; taken when a stream begins and at each look.
    by_holder: HashMap<Option<Holder>, Arc<Latch<End>>>,
}

/// For one request: what it may do ends with its holder or the server. Cheap to clone.
#[derive(Clone)]
pub struct Ends {
    /// None on public routes.
    holder: Option<Holder>,
    watches: Arc<Watches>,
}

impl Ends {
    pub(crate) fn new(holder: Option<Holder>, watches: Arc<Watches>) -> Self {
        Self { holder, watches }
    }

    /// From now on the end is watched for.
    pub fn watch(&self) -> Ending {
        let ending = {
            let mut state = self.watches.state();
            let stopped = state.stopped;
            let end = state.by_holder.entry(self.holder).or_default();
            if stopped {
                end.set(End::Shutdown);
            }
            Ending(end.waiter())
        };
        self.watches.begun.notify_one();
        ending
    }
}

/// Waits for the end of one stream, in one task.
pub struct Ending(Waiter<End>);

impl Ending {
    /// Waits for the end; may be dropped and called again.
    pub async fn ended(&mut self) -> End {
        self.0.wait().await
    }
}

impl Limit for Ending {
    fn poll_over(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.0.poll(cx).map(drop)
    }
}

impl Watches {
    pub(crate) fn new(shutdown: Cancel) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), begun: Notify::new(), shutdown })
    }

    /// Looks at the holders of open streams, and for the server's end, for ever; `is_good` says whether one still may. Costs nothing
    /// while there is no stream.
    pub async fn look(&self, is_good: impl Fn(Holder) -> bool) {
        let looks = async {
            loop {
                let begun = self.begun.notified();
                if self.look_once(&is_good) {
                    tokio::time::sleep(LOOK_EVERY).await;
                } else {
                    begun.await;
                }
            }
        };
        if self.shutdown.guard(looks).await.is_err() {
            let mut state = self.state();
            state.stopped = true;
            state.by_holder.values().for_each(|end| end.set(End::Shutdown));
        }
        std::future::pending().await
    }

    /// True while there are streams.
    fn look_once(&self, is_good: impl Fn(Holder) -> bool) -> bool {
        let mut state = self.state();
        state.by_holder.retain(|holder, end| {
            if !end.is_awaited() {
                return false;
            }
            let good = holder.is_none_or(&is_good);
            if !good {
                end.set(End::Revoked);
            }
            good
        });
        !state.by_holder.is_empty()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::base::cancel::{self, Why};
    use futures_util::future::poll_immediate;

    fn key(n: u8) -> Holder {
        Holder { key: KeyId::derived(&[n; 32]), login: None }
    }

    #[tokio::test]
    async fn a_revoked_key_ends_its_streams_only() {
        let (_canceller, shutdown) = cancel::pair();
        let watches = Watches::new(shutdown);
        let [mut a, mut b, mut nobodys] = [Some(key(1)), Some(key(2)), None].map(|key| Ends::new(key, watches.clone()).watch());
        let mut told = Box::pin(a.ended());
        assert!(poll_immediate(&mut told).await.is_none());
        assert!(watches.look_once(|k| k != key(1)));
        assert_eq!(told.await, End::Revoked);
        assert!(poll_immediate(Box::pin(b.ended())).await.is_none());
        assert!(poll_immediate(Box::pin(nobodys.ended())).await.is_none());
        drop((b, nobodys));
        assert!(!watches.look_once(|_| true), "nobody is watched for without a stream");
    }

    #[tokio::test]
    async fn shutdown_ends_every_stream_and_those_that_begin_behind_it() {
        let (canceller, shutdown) = cancel::pair();
        let watches = Watches::new(shutdown);
        let looks = tokio::spawn({
            let watches = watches.clone();
            async move { watches.look(|_| true).await }
        });
        let ends = [Some(key(1)), None].map(|key| Ends::new(key, watches.clone()));
        let before = ends.clone().map(|ends| ends.watch());
        canceller.cancel(Why::Shutdown);
        for mut ending in before {
            assert_eq!(ending.ended().await, End::Shutdown);
        }
        for ends in ends {
            assert_eq!(ends.watch().ended().await, End::Shutdown);
        }
        looks.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_comes_within_half_a_second_of_a_key_gone_bad() {
        let (_canceller, shutdown) = cancel::pair();
        let watches = Watches::new(shutdown);
        let good = Arc::new(AtomicBool::new(true));
        let looks = tokio::spawn({
            let (watches, good) = (watches.clone(), good.clone());
            async move { watches.look(|_| good.load(Ordering::Relaxed)).await }
        });
        let mut ending = Ends::new(Some(key(1)), watches).watch();
        tokio::time::sleep(10 * LOOK_EVERY).await;
        good.store(false, Ordering::Relaxed);
        assert_eq!(tokio::time::timeout(LOOK_EVERY, ending.ended()).await, Ok(End::Revoked));
        looks.abort();
    }
}
