//! Telling a run to stop, with the reason.

use std::sync::Arc;

use crate::base::latch::{Latch, Waiter};

/// Why a run is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// A person or client asked for it.
    Asked,
    /// A newer message took its place.
    Replaced,
    /// It ran past its deadline.
    Deadline,
    /// The server is shutting down.
    Shutdown,
    /// Its session was deleted.
    Deleted,
}

/// The side that stops. The first reason stays.
#[derive(Debug, Clone)]
pub struct Canceller(Arc<Latch<Why>>);

/// The side that is stopped; cheap to clone.
#[derive(Debug, Clone)]
pub struct Cancel(Arc<Latch<Why>>);

/// A connected pair.
pub fn pair() -> (Canceller, Cancel) {
    let latch = Arc::default();
    (Canceller(Arc::clone(&latch)), Cancel(latch))
}

impl Canceller {
    /// Stops; a second call changes nothing.
    pub fn cancel(&self, why: Why) {
        self.0.set(why);
    }
    /// Another handle to the stopped side.
    pub fn token(&self) -> Cancel {
        Cancel(self.0.clone())
    }
}

impl Cancel {
    /// The reason, once there is one.
    pub fn why(&self) -> Option<Why> {
        self.0.get()
    }
    /// Waits until stopped. Never returns if the other side is gone without having stopped it.
    pub async fn cancelled(&self) -> Why {
        self.waiter().wait().await
    }
    /// For a task that asks again and again.
    pub fn waiter(&self) -> Waiter<Why> {
        self.0.waiter()
    }
    /// The future's value, or the reason if that comes first.
    pub async fn guard<T>(&self, future: impl Future<Output = T>) -> Result<T, Why> {
        tokio::select! {
            biased;
            why = self.cancelled() => Err(why),
            value = future => Ok(value),
        }
    }
}
