//! Request ids: random, and cheap enough for every request.

use std::sync::{Arc, Mutex};

use crate::base::ids::RequestId;
use crate::base::random::Random;

/// Bytes fetched from the random source at once; a system call for each request would cost more than the rest of its id.
const FETCH_BYTES: usize = 1024;

/// Makes ids. They are no capability: nothing is opened with one.
pub struct RequestIds {
    random: Arc<dyn Random>,
    /// Random bytes that are left; taken for one copy by every request.
    left: Mutex<Vec<u8>>,
}

impl RequestIds {
    /// From this source.
    pub fn new(random: Arc<dyn Random>) -> Self {
        Self { random, left: Mutex::default() }
    }

    /// A new one.
    pub fn next(&self) -> RequestId {
        RequestId::random(self)
    }
}

impl Random for RequestIds {
    fn fill(&self, out: &mut [u8]) {
        let mut left = self.left.lock().unwrap_or_else(|e| e.into_inner());
        if left.len() < out.len() {
            left.resize(FETCH_BYTES.max(out.len()), 0);
            self.random.fill(&mut left);
        }
        let rest = left.len().saturating_sub(out.len());
        for (to, from) in out.iter_mut().zip(left.drain(rest..)) {
            *to = from;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_id_comes_twice() {
        let ids = RequestIds::new(Arc::new(crate::base::random::SystemRandom::new()));
        let mut all: Vec<_> = (0..10_000).map(|_| ids.next()).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 10_000);
    }
}
