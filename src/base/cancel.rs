//! Telling a run to stop, with the reason.

use tokio::sync::watch;

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
pub struct Canceller(watch::Sender<Option<Why>>);

/// The side that is stopped; cheap to clone.
#[derive(Debug, Clone)]
pub struct Cancel(watch::Receiver<Option<Why>>);

/// A connected pair.
pub fn pair() -> (Canceller, Cancel) {
    let (tx, rx) = watch::channel(None);
    (Canceller(tx), Cancel(rx))
}

impl Canceller {
    /// Stops; a second call changes nothing.
    pub fn cancel(&self, why: Why) {
        self.0.send_if_modified(|now| {
            let first = now.is_none();
            if first {
                *now = Some(why);
            }
            first
        });
    }
    /// Another handle to the stopped side.
    pub fn token(&self) -> Cancel {
        Cancel(self.0.subscribe())
    }
}

impl Cancel {
    /// The reason, once there is one.
    pub fn why(&self) -> Option<Why> {
        *self.0.borrow()
    }
    /// Waits until stopped. Never returns if the other side is gone without having stopped it.
    pub async fn cancelled(&self) -> Why {
        let mut rx = self.0.clone();
        match rx.wait_for(Option::is_some).await.map(|why| *why) {
            Ok(Some(why)) => why,
            _ => std::future::pending().await,
        }
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
