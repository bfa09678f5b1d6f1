//! What goes wrong between us and a model, in words that help and never repeat a prompt or a key.

use std::fmt;

use crate::base::cancel::Why;

/// What kind of failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// No connection.
    Unreachable,
    /// The key is missing, wrong, or not allowed to do this (401, 403).
    Refused,
    /// Too much asked in too short a time, or the quota is used up (429).
    RateLimited,
    /// The server does not understand the request (400, 422 …).
    BadRequest,
    /// The conversation is longer than the model's context.
    ContextTooLong,
    /// The server does not know this model, or there is nothing at this address (404).
    NotFound(String),
    /// The server failed (5xx).
    Server,
    /// No first byte, or no further byte, in time.
    Stalled,
    /// The stream ended without its end marker.
    Broken,
    /// The answer is larger than allowed in one piece.
    TooLarge,
    /// What came is not what the protocol says.
    Garbage,
    /// Stopped by us.
    Cancelled(Why),
}

/// A failed model call.
#[derive(Debug, Clone)]
pub struct LlmError {
    /// What kind.
    pub kind: Kind,
    /// A sentence for the user that says what to do.
    pub public: String,
    /// The cause, for the log; no content.
    pub private: String,
}

impl fmt::Display for LlmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.public)
    }
}

impl std::error::Error for LlmError {}
