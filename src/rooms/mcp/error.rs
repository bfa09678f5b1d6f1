//! Why a tool server did not do what it was asked.

use std::io::ErrorKind;
use std::time::Duration;

use crate::base::limits::MCP_KEPT_MAX;

/// Why a server did not do what it was asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum McpError {
    /// Its program cannot be started.
    Spawn(ErrorKind),
    /// One of its header fields cannot be sent.
    Field,
    /// There is no connection to its address; in public words.
    Unreachable(String),
    /// It answers with this HTTP status.
    Status(u16),
    /// It speaks no version of the protocol that we speak.
    Version,
    /// It ended before it answered; it may have done what it was asked.
    Ended,
    /// It does not know the session any more, and has done nothing.
    Forgotten,
    /// It did not answer in time.
    Slow,
    /// Too much is asked of it at once.
    Busy,
    /// Too many servers are in use at once.
    Full,
    /// It ended too often; it is started again after this.
    Waits(Duration),
    /// What it sent is too large or no message.
    Nonsense,
    /// It answered with an error: its code and words.
    Refused(i64, String),
}

impl McpError {
    /// In words that hold nothing a server or a model said.
    pub(super) fn public(&self) -> String {
        match self {
            Self::Spawn(ErrorKind::NotFound) => "its command cannot be started: there is no such program".into(),
            Self::Spawn(ErrorKind::PermissionDenied) => "its command cannot be started: this user may not execute it".into(),
            Self::Spawn(kind) => format!("its command cannot be started ({kind})"),
            Self::Field => "one of its `headers` is no header field".into(),
            Self::Unreachable(what) => what.clone(),
            Self::Status(status) => format!("it answers with HTTP {status}"),
            Self::Version => "it speaks another version of the protocol".into(),
            Self::Ended => "it ended before it answered".into(),
            Self::Forgotten => "it does not know the session that it began".into(),
            Self::Slow => "it did not answer in time".into(),
            Self::Busy => "too much is asked of it at once; try again".into(),
            Self::Full => format!("{MCP_KEPT_MAX} tool servers are in use at once; try again"),
            Self::Waits(wait) => format!("it ended too often and is started again in {} s", wait.as_secs().max(1)),
            Self::Nonsense => "it sent what is too large or no message".into(),
            Self::Refused(code, _) => format!("it answered with the error {code}"),
        }
    }

    /// What its owner can do about it.
    pub(super) fn advice(&self) -> &'static str {
        match self {
            Self::Spawn(ErrorKind::NotFound) => "install the program, or write its whole path in `command`",
            Self::Spawn(ErrorKind::PermissionDenied) => "let this user execute the program (chmod +x), or correct `command`",
            Self::Spawn(_) | Self::Ended | Self::Nonsense => "run `command` with its `args` by hand and read what it prints",
            Self::Field => "correct `headers`",
            Self::Unreachable(_) => "start the server, or correct `url`",
            Self::Status(401 | 403) => "correct the credentials in `headers`",
            Self::Status(404 | 405) => "correct the path of `url`; many servers answer under /mcp",
            Self::Version => "another release of the server may speak 2025-06-18",
            Self::Slow => "raise `timeout_secs` if it is only slow to start (some install themselves first); else look at its own log",
            Self::Busy | Self::Full | Self::Waits(_) => "try again later",
            Self::Status(_) | Self::Forgotten | Self::Refused(..) => "look at the server's own log",
        }
    }
}
