//! When a stream has to end although both sides would go on: its key was revoked or ran out, or the server stops.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::base::cancel::Cancel;
use crate::base::ids::KeyId;

/// How often the keys of open streams are looked at; a revoked key's streams end within a second (THREATS 6).
const LOOK_EVERY: Duration = Duration::from_millis(400);

/// Why a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The key was revoked or ran out.
    Revoked,
    /// The server stops.
    Shutdown,
}

/// The keys that open streams belong to.
#[derive(Default)]
pub struct Watches {
    /// One channel a key, `true` once the key is bad; taken when a stream begins and at each look.
    by_key: Mutex<HashMap<KeyId, watch::Sender<bool>>>,
    /// Wakes the look when the first stream begins.
    begun: Notify,
}

/// For one request: waits for the end of what it may do. Cheap to clone.
#[derive(Clone)]
pub struct Ends {
    /// None on public routes.
    key: Option<KeyId>,
    watches: Arc<Watches>,
    shutdown: Cancel,
}

impl Ends {
    pub(crate) fn new(key: Option<KeyId>, watches: Arc<Watches>, shutdown: Cancel) -> Self {
        Self { key, watches, shutdown }
    }

    /// Waits for the end; cancel-safe. Begins to watch when it is first polled.
    pub async fn ended(&self) -> End {
        let revoked = async {
            match self.key {
                Some(key) => self.watches.revoked(key).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = self.shutdown.cancelled() => End::Shutdown,
            () = revoked => End::Revoked,
        }
    }
}

impl Watches {
    /// Looks at the keys of open streams for ever; `is_good` says whether a key still is. Costs nothing while there is no stream.
    pub async fn look(&self, is_good: impl Fn(KeyId) -> bool) {
        loop {
            let begun = self.begun.notified();
            if self.look_once(&is_good) {
                tokio::time::sleep(LOOK_EVERY).await;
            } else {
                begun.await;
            }
        }
    }

    /// True while there are streams.
    fn look_once(&self, is_good: impl Fn(KeyId) -> bool) -> bool {
        let mut by_key = self.by_key.lock().unwrap_or_else(|e| e.into_inner());
        by_key.retain(|key, sender| {
            if sender.receiver_count() > 0 && !is_good(*key) {
                sender.send_replace(true);
                return false;
            }
            sender.receiver_count() > 0
        });
        !by_key.is_empty()
    }

    async fn revoked(&self, key: KeyId) {
        let mut receiver = {
            let mut by_key = self.by_key.lock().unwrap_or_else(|e| e.into_inner());
            by_key.entry(key).or_insert_with(|| watch::channel(false).0).subscribe()
        };
        self.begun.notify_one();
        if receiver.wait_for(|bad| *bad).await.is_err() {
            // The sender goes only after it has said so.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::cancel::{self, Why};
    use futures_util::future::poll_immediate;

    fn key(n: u8) -> KeyId {
        KeyId::derived(&[n; 32])
    }

    #[tokio::test]
    async fn a_revoked_key_ends_its_streams_only() {
        let (_canceller, shutdown) = cancel::pair();
        let watches = Arc::new(Watches::default());
        let [a, b] = [1, 2].map(|n| Ends::new(Some(key(n)), watches.clone(), shutdown.clone()));
        let (mut a, mut b) = (Box::pin(a.ended()), Box::pin(b.ended()));
        assert!(poll_immediate(&mut a).await.is_none() && poll_immediate(&mut b).await.is_none());
        assert!(watches.look_once(|k| k != key(1)));
        assert_eq!(a.await, End::Revoked);
        assert!(poll_immediate(&mut b).await.is_none());
        drop(b);
        assert!(!watches.look_once(|_| true), "nobody is watched for without a stream");
    }

    #[tokio::test]
    async fn shutdown_ends_every_stream() {
        let (canceller, shutdown) = cancel::pair();
        let ends = Ends::new(None, Arc::default(), shutdown);
        assert!(poll_immediate(Box::pin(ends.ended())).await.is_none());
        canceller.cancel(Why::Shutdown);
        assert_eq!(ends.ended().await, End::Shutdown);
    }
}
