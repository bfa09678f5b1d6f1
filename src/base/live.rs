//! A value that can be replaced while others read it.

use std::sync::{Arc, RwLock};

use tokio::sync::Notify;

/// One snapshot, swapped whole: a reader keeps the one it took, the next reader sees the new one.
#[derive(Default)]
pub struct Live<T>(RwLock<Arc<T>>, Notify);

impl<T> Live<T> {
    /// Starts with this value.
    pub fn new(value: T) -> Self {
        Self(RwLock::new(Arc::new(value)), Notify::new())
    }
    /// The snapshot of now.
    pub fn load(&self) -> Arc<T> {
        // The lock is held for one reference count only; a poisoned one still holds a whole value.
        self.0.read().unwrap_or_else(|e| e.into_inner()).clone()
    }
    /// Replaces the snapshot.
    pub fn store(&self, value: T) {
        *self.0.write().unwrap_or_else(|e| e.into_inner()) = Arc::new(value);
        self.1.notify_one();
    }
    /// Waits until it was replaced since this was last waited for; for one who waits.
    pub async fn changed(&self) {
        self.1.notified().await;
    }
}
