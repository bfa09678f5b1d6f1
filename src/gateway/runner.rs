//! What runs a message. The orchestrator in the product, a script in tests.

use std::pin::Pin;
use std::sync::Arc;

use crate::base::cancel::Cancel;
use crate::orchestrator::{Orchestrator, Outcome};

pub(crate) use crate::orchestrator::Job;

/// Runs one message until it ends or parks. It writes everything to the session's log itself, the terminal record included.
pub trait Runner: Send + Sync + 'static {
    /// Runs it; stops soon after `cancel`.
    fn run(self: Arc<Self>, job: Job, cancel: Cancel) -> Pin<Box<dyn Future<Output = Outcome> + Send>>;
}

impl Runner for Orchestrator {
    fn run(self: Arc<Self>, job: Job, cancel: Cancel) -> Pin<Box<dyn Future<Output = Outcome> + Send>> {
        Box::pin(async move { Orchestrator::run(&self, job, cancel).await })
    }
}
