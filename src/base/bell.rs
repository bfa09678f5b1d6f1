//! Waking everyone who waits for the same thing, where each has other things to wait for as well.
//!
//! With `tokio::sync::watch` each of them keeps a future of 100 to 200 bytes, and each of its polls takes a lock. A thousand readers of
//! events are polled with every event, twice. Here one that waits is 72 bytes, and a poll that finds nothing takes no lock.

use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Waker};

use futures_util::task::AtomicWaker;

/// Rung when something has changed; what it was is looked up where it is kept.
#[derive(Debug, Default)]
pub struct Bell(Arc<Mutex<Ears>>);

#[derive(Debug, Default)]
struct Ears {
    all: Vec<Option<Arc<AtomicWaker>>>,
    /// Places in `all` that nobody has.
    free: Vec<usize>,
}

/// Hears one bell, for one task at a time. Dropping it is all it takes to leave, and nothing of it stays.
#[derive(Debug)]
pub struct Ear {
    bell: Arc<Mutex<Ears>>,
    place: usize,
    waker: Arc<AtomicWaker>,
}

impl Bell {
    /// Somebody who listens from the first [`Ear::listen`] on.
    pub fn ear(&self) -> Ear {
        let waker = Arc::new(AtomicWaker::new());
        let mut ears = lock(&self.0);
        let place = ears.free.pop().unwrap_or(ears.all.len());
        match ears.all.get_mut(place) {
            Some(free) => *free = Some(waker.clone()),
            None => ears.all.push(Some(waker.clone())),
        }
        Ear { bell: self.0.clone(), place, waker }
    }

    /// Wakes the tasks that listen. Call it when the change can be seen.
    pub fn ring(&self) {
        // Woken outside the lock: what a waker does, and drops, is not ours.
        let wakers: Vec<Waker> = lock(&self.0).all.iter().flatten().filter_map(|ear| ear.take()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Somebody has an ear for it.
    pub fn is_heard(&self) -> bool {
        let ears = lock(&self.0);
        ears.all.len() > ears.free.len()
    }
}

fn lock(ears: &Mutex<Ears>) -> MutexGuard<'_, Ears> {
    ears.lock().unwrap_or_else(|e| e.into_inner())
}

impl Drop for Ear {
    fn drop(&mut self) {
        let mut ears = lock(&self.bell);
        if let Some(place) = ears.all.get_mut(self.place) {
            *place = None;
        }
        ears.free.push(self.place);
        if ears.free.len() == ears.all.len() {
            *ears = Ears::default();
        }
    }
}

impl Ear {
    /// The task of `cx` is woken when it rings next. Look for the change behind this call: what comes before it does not wake.
    pub fn listen(&self, cx: &Context<'_>) {
        self.waker.register(cx.waker());
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
        assert_eq!(lock(&bell.0).all.len(), stay.len() + 1);
        assert!(bell.is_heard());
        drop(stay);
        assert!(!bell.is_heard());
        assert_eq!(lock(&bell.0).all.capacity(), 0);
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
