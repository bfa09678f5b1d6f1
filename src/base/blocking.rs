//! Work that blocks (files, long sums), on a thread where it may.

use std::fmt;
use std::sync::{Arc, Mutex};

use tokio::task::JoinHandle;

/// The work ended in a panic, which is in the log, or the runtime is going down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost;

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("work on a thread of its own did not come to its end")
    }
}

impl std::error::Error for Lost {}

/// Begins at once, whether or not the future is polled; dropping it does not stop the work.
///
/// # Errors
/// [`Lost`].
///
/// # Panics
/// Outside of a runtime.
pub fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> impl Future<Output = Result<T, Lost>> + Send {
    let slot = Arc::new(Mutex::new(None));
    let fill = slot.clone();
    // Boxed, so that the runtime's code for a task is in the binary once, not once for every kind of work.
    let handle = begin(Box::new(move || {
        let done = work();
        *fill.lock().unwrap_or_else(|e| e.into_inner()) = Some(done);
    }));
    async move {
        handle.await.map_err(|_| Lost)?;
        let done = slot.lock().unwrap_or_else(|e| e.into_inner()).take();
        done.ok_or(Lost)
    }
}

fn begin(work: Box<dyn FnOnce() + Send>) -> JoinHandle<()> {
    tokio::task::spawn_blocking(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn its_result_comes_back_and_a_panic_is_told() {
        assert_eq!(spawn(|| 7).await, Ok(7));
        assert_eq!(spawn(|| -> u8 { panic!("on purpose") }).await, Err(Lost));
    }
}
