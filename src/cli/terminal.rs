//! Lines that a person types, read from the terminal itself: standard input may be a pipe.

use std::fs::File;
use std::io::{BufRead, BufReader};

use tokio::sync::mpsc;

/// Reads lines on a thread of its own, which ends with the process: a read of a terminal cannot be called off.
pub(super) struct Typed(mpsc::Receiver<String>);

impl Typed {
    /// Nothing where this process has no terminal.
    pub(super) fn open() -> Option<Self> {
        let terminal = File::open("/dev/tty").ok()?;
        let (send, receive) = mpsc::channel(8);
        std::thread::spawn(move || {
            for line in BufReader::new(terminal).lines().map_while(Result::ok) {
                if send.blocking_send(line).is_err() {
                    break;
                }
            }
        });
        Some(Self(receive))
    }

    /// Forgets what was typed before the question.
    pub(super) fn forget(&mut self) {
        while self.0.try_recv().is_ok() {}
    }

    /// The next line; `None` when the terminal is closed (Ctrl-D). Cancel-safe.
    pub(super) async fn line(&mut self) -> Option<String> {
        self.0.recv().await
    }
}
