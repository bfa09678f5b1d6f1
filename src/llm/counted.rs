//! A model call as it is counted in the metrics: how it ended, its tokens, how long its first piece took.

use std::sync::Arc;
use std::time::Duration;

use crate::base::metrics::{Metrics, ModelCounts};

/// A model call under way; counted when dropped, as cancelled unless something else came of it.
pub struct CountedCall {
    counts: Arc<ModelCounts>,
    /// Until its first piece.
    began: Option<Duration>,
    outcome: &'static str,
}

impl CountedCall {
    /// A model is about to be called; `now` is monotonic.
    pub fn begin(metrics: &Metrics, model: &str, now: Duration) -> Self {
        Self { counts: metrics.model(model), began: Some(now), outcome: "cancelled" }
    }
    /// Something came; the first one counts.
    pub fn piece(&mut self, now: Duration) {
        if let Some(began) = self.began.take() {
            self.counts.first_piece.took(now.saturating_sub(began));
        }
    }
    /// It failed.
    pub fn failed(&mut self) {
        self.outcome = "failed";
    }
    /// It ended as it should.
    pub fn done(&mut self, tokens_in: u64, tokens_out: u64) {
        self.outcome = "done";
        self.counts.tokens_in.add(tokens_in);
        self.counts.tokens_out.add(tokens_out);
    }
}

impl Drop for CountedCall {
    fn drop(&mut self) {
        self.counts.calls.one(self.outcome);
    }
}
