//! A value that is set once, and those who wait for it.

use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use crate::base::bell::{Bell, Ear};

/// Empty until somebody sets it; what was set stays.
#[derive(Debug)]
pub struct Latch<T> {
    value: OnceLock<T>,
    bell: Bell,
}

/// Waits for one latch, in one task at a time.
#[derive(Debug)]
pub struct Waiter<T> {
    latch: Arc<Latch<T>>,
    ear: Ear,
}

impl<T> Default for Latch<T> {
    fn default() -> Self {
        Self { value: OnceLock::new(), bell: Bell::default() }
    }
}

impl<T: Copy> Latch<T> {
    /// Sets it and wakes who waits; a second call changes nothing.
    pub fn set(&self, value: T) {
        if self.value.set(value).is_ok() {
            self.bell.ring();
        }
    }

    /// What it was set to.
    pub fn get(&self) -> Option<T> {
        self.value.get().copied()
    }

    /// Somebody waits for it.
    pub fn is_awaited(&self) -> bool {
        self.bell.is_heard()
    }

    /// Somebody who waits for it.
    pub fn waiter(self: &Arc<Self>) -> Waiter<T> {
        Waiter { latch: self.clone(), ear: self.bell.ear() }
    }
}

impl<T: Copy> Waiter<T> {
    /// Ready as soon as it is set.
    pub fn poll(&mut self, cx: &Context<'_>) -> Poll<T> {
        self.ear.listen(cx);
        self.latch.get().map_or(Poll::Pending, Poll::Ready)
    }

    /// Waits until it is set; may be dropped and called again.
    pub async fn wait(&mut self) -> T {
        poll_fn(|cx| self.poll(cx)).await
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::poll_immediate;

    use super::*;

    #[tokio::test]
    async fn the_first_value_stays_and_reaches_everyone() {
        let latch = Arc::new(Latch::default());
        let (mut early, mut given_up) = (latch.waiter(), latch.waiter());
        let mut waits = Box::pin(early.wait());
        assert!(poll_immediate(&mut waits).await.is_none());
        assert!(poll_immediate(Box::pin(given_up.wait())).await.is_none());
        latch.set(1);
        latch.set(2);
        assert_eq!((waits.await, given_up.wait().await, latch.waiter().wait().await, latch.get()), (1, 1, 1, Some(1)));
    }
}
