//! Work that takes long: a line that tells how far it is, on a terminal, and a signal that ends it in order.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::output::Failure;
use super::small_runtime;
use crate::store::backup::{Doing, Progress};
use crate::sys::signals::Stops;

/// The line is written anew this often at most.
const EVERY: Duration = Duration::from_millis(200);

/// Does it on a thread of its own; SIGINT, SIGTERM and SIGHUP make what it asks say "stop", and it is waited for.
pub(super) fn with<T: Send + 'static>(
    work: impl FnOnce(&mut dyn FnMut(Progress) -> bool) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    small_runtime()?.block_on(async {
        let mut stops = Stops::catch().map_err(|e| Failure::failed(format!("signals cannot be caught: {e}")))?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let mut work = tokio::task::spawn_blocking(move || {
            let mut line = Line::new();
            let done = work(&mut |progress| {
                line.show(progress);
                !told.load(Ordering::Relaxed)
            });
            line.clear();
            done
        });
        let done = tokio::select! {
            done = &mut work => done,
            () = stops.next() => {
                stop.store(true, Ordering::Relaxed);
                work.await
            }
        };
        done.unwrap_or_else(|error| Err(Failure::failed(error.to_string())))
    })
}

/// The line, where standard error is a terminal.
struct Line {
    on: bool,
    last: Option<Instant>,
}

impl Line {
    fn new() -> Self {
        Self { on: std::io::stderr().is_terminal(), last: None }
    }

    fn show(&mut self, progress: Progress) {
        if !self.on || self.last.is_some_and(|last| last.elapsed() < EVERY) {
            return;
        }
        self.last = Some(Instant::now());
        let doing = match progress.doing {
            Doing::Writing => "writing",
            Doing::Verifying => "verifying",
            Doing::Restoring => "restoring",
        };
        // Nobody can be told that standard error is gone.
        let _ = write!(std::io::stderr(), "\r{doing}: {}\x1b[K", size(progress.bytes));
    }

    fn clear(&self) {
        if self.last.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

/// A number of bytes for people.
pub(super) fn size(bytes: u64) -> String {
    const KIB: u64 = 1024;
    match bytes {
        0..KIB => format!("{bytes} bytes"),
        KIB..0x10_0000 => format!("{} KiB", bytes / KIB),
        _ => format!("{} MiB", bytes / KIB / KIB),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Half a backup holds as many secrets as a whole one.
    #[test]
    fn who_loses_the_terminal_stops_in_order() {
        use rustix::process::{Signal, getpid, kill_process};
        let done = with(|go_on| {
            kill_process(getpid(), Signal::HUP).unwrap();
            while go_on(Progress { doing: Doing::Writing, bytes: 0 }) {
                std::thread::yield_now();
            }
            Ok("cleaned up")
        });
        assert_eq!(done, Ok("cleaned up"));
    }
}
