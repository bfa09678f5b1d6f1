//! Waking everyone who waits for the same thing, where each has other things to wait for as well.
//!
//! With `tokio::sync::watch` each of them keeps a future of 100 to 200 bytes, and each of its polls takes a lock. A thousand readers of
//! events are polled with every event, twice. Here one that waits is 48 bytes, and a poll that finds nothing takes no lock.

use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::Context;

use futures_util::task::AtomicWaker;

/// Rung when something has changed; what it was is looked up where it is kept.
#[derive(Debug, Default)]
pub struct Bell {
    /// Those that are gone are taken out when it rings, and before there is no room for another one.
    ears: Mutex<Vec<Weak<AtomicWaker>>>,
}

/// Hears one bell, for one task at a time. Dropping it is all it takes to leave.
#[derive(Debug)]
pub struct Ear(Arc<AtomicWaker>);

impl Bell {
    /// Somebody who listens from the first [`Ear::listen`] on.
    pub fn ear(&self) -> Ear {
        let ear = Arc::new(AtomicWaker::new());
        let mut ears = self.ears();
        if ears.len() == ears.capacity() {
            ears.retain(|ear| ear.strong_count() > 0);
            // Doubled, so that a long list is not searched at each turn.
            let all = ears.len();
            ears.reserve(all.max(1));
        }
        ears.push(Arc::downgrade(&ear));
        Ear(ear)
    }

    /// Wakes the tasks that listen. Call it when the change can be seen, holding no lock that they need.
    pub fn ring(&self) {
        self.ears().retain(|ear| ear.upgrade().inspect(|ear| ear.wake()).is_some());
    }

    /// Somebody has an ear for it.
    pub fn is_heard(&self) -> bool {
        self.ears().iter().any(|ear| ear.strong_count() > 0)
    }

    fn ears(&self) -> MutexGuard<'_, Vec<Weak<AtomicWaker>>> {
        self.ears.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Ear {
    /// The task of `cx` is woken when it rings next. Look for the change behind this call: what comes before it does not wake.
    pub fn listen(&self, cx: &Context<'_>) {
        self.0.register(cx.waker());
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::task::Poll;

    use futures_util::future::poll_immediate;
    use futures_util::task::noop_waker;

    use super::*;

    #[tokio::test]
    async fn who_listens_is_woken_by_the_next_ring_and_by_no_earlier_one() {
        let bell = Bell::default();
        bell.ring();
        let (a, b) = (bell.ear(), bell.ear());
        let mut polls = [0, 0];
        let [of_a, of_b] = &mut polls;
        let second = |count: &mut u32, ear: &Ear, cx: &Context<'_>| {
            ear.listen(cx);
            *count += 1;
            if *count < 2 { Poll::Pending } else { Poll::Ready(()) }
        };
        let mut both = Box::pin(futures_util::future::join(poll_fn(|cx| second(of_a, &a, cx)), poll_fn(|cx| second(of_b, &b, cx))));
        assert!(poll_immediate(&mut both).await.is_none());
        bell.ring();
        both.await;
        assert_eq!(polls, [2, 2]);
    }

    #[test]
    fn who_has_left_is_forgotten_however_many_come_and_go() {
        let bell = Bell::default();
        let stay: Vec<_> = (0..10).map(|_| bell.ear()).collect();
        for _ in 0..10_000 {
            let ear = bell.ear();
            ear.listen(&Context::from_waker(&noop_waker()));
        }
        assert!(bell.ears().capacity() <= 64);
        bell.ring();
        assert_eq!(bell.ears().len(), stay.len());
        assert!(bell.is_heard());
        drop(stay);
        assert!(!bell.is_heard());
    }

    /// Threads that look and wait against one that changes and rings: none is left behind.
    #[test]
    fn no_change_is_slept_through() {
        const CHANGES: u64 = 2000;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).build().unwrap();
        let shared = Arc::new((Bell::default(), AtomicU64::new(0)));
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let shared = shared.clone();
                runtime.spawn(async move {
                    let ear = shared.0.ear();
                    let mut seen = 0;
                    while seen < CHANGES {
                        seen = poll_fn(|cx| {
                            ear.listen(cx);
                            let now = shared.1.load(Ordering::SeqCst);
                            if now > seen { Poll::Ready(now) } else { Poll::Pending }
                        })
                        .await;
                    }
                })
            })
            .collect();
        for _ in 0..CHANGES {
            shared.1.fetch_add(1, Ordering::SeqCst);
            shared.0.ring();
        }
        runtime.block_on(async {
            for reader in readers {
                reader.await.unwrap();
            }
        });
    }
}
