//! Signals that ask the process to stop.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM, SIGINT and SIGHUP (its terminal is gone), caught from the moment this exists.
pub struct Stops {
    term: Signal,
    int: Signal,
    /// None where it is ignored: whoever started us through `nohup` wants us to go on.
    hang_up: Option<Signal>,
}

impl Stops {
    /// Starts to catch them. Needs a running tokio runtime.
    pub fn catch() -> io::Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let hang_up = SignalKind::hangup();
        let hang_up = if is_ignored(&status, hang_up) { None } else { Some(signal(hang_up)?) };
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())?, hang_up })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        let hang_up = async {
            match &mut self.hang_up {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
            _ = hang_up => {}
        }
    }
}

/// proc_pid_status(5): a mask in hexadecimal, the lowest bit for signal 1.
fn is_ignored(status: &str, kind: SignalKind) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask.checked_shr(kind.as_raw_value().unsigned_abs() - 1).is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_stands_in_the_status() {
        for (mask, hang_up, terminate) in [("0000000000001000", false, false), ("0000000000001001", true, false), ("4001", true, true)] {
            let status = format!("Name:\tx\nSigIgn:\t{mask}\nSigCgt:\tffffffffffffffff\n");
            assert_eq!((is_ignored(&status, SignalKind::hangup()), is_ignored(&status, SignalKind::terminate())), (hang_up, terminate));
        }
        assert!(!is_ignored("", SignalKind::hangup()));
    }
}
