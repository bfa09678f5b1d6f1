//! What can go wrong in the store, in its own words.

use std::fmt;
use std::io;

use crate::sys::disk::refusal;

/// Why the store could not do it.
#[derive(Debug)]
pub enum StoreError {
    /// There is no such thing, or it is someone else's, or it was deleted.
    NotFound,
    /// The message id is taken by a message with another content, space or user.
    Conflict,
    /// The message names another space than the one that its session is held in.
    Elsewhere,
    /// The message has its terminal record; nothing more is added to it.
    Ended,
    /// The disk takes nothing: no space, or it can only be read, or it fails. The text says which and is fit for readers outside.
    DiskFull(String),
    /// Written by a newer version of the program; left alone.
    Newer {
        /// The format version found.
        found: u64,
    },
    /// Another process owns the home.
    Held {
        /// Its process id, where it is known.
        by: String,
    },
    /// A file is open to others; the text says which and what to run.
    Exposed(String),
    /// Something on disk is not what it should be; the text (private) says what.
    Damaged(String),
    /// More than the store takes in one piece; the text (private) says what.
    TooLarge(String),
    /// The operating system refused.
    Io {
        /// What was being done (private: may hold a path).
        doing: String,
        /// What it said.
        source: io::Error,
    },
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("not found"),
            Self::Conflict => f.write_str("the id is taken by another message"),
            Self::Elsewhere => f.write_str("the session is held in another space"),
            Self::Ended => f.write_str("the message is over"),
            Self::DiskFull(why) => write!(f, "the disk takes nothing: {why}"),
            Self::Newer { found } => write!(f, "written by a newer version of oxios-edge (format {found}); left as it is"),
            Self::Held { by } if by.is_empty() => f.write_str("another process uses this home"),
            Self::Held { by } => write!(f, "process {by} uses this home; stop it first, or choose another one with --home"),
            Self::Exposed(what) | Self::Damaged(what) | Self::TooLarge(what) => f.write_str(what),
            Self::Io { doing, source } => write!(f, "{doing}: {source}"),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// A file of ours that is not the JSON it should be: where it is wrong, never what is there, which serde's own words quote.
pub fn damaged(error: &serde_json::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{:?} error at line {}", error.classify(), error.line()))
}

impl StoreError {
    /// The same for something with an id; the text is made only where there is an error.
    pub(crate) fn of(doing: &'static str, id: impl fmt::Display) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::io(format_args!("{doing} {id}"))(source)
    }
    /// Turns an error of the system into ours; no space left is its own case.
    pub(crate) fn io(doing: impl fmt::Display) -> impl FnOnce(io::Error) -> Self {
        move |source| match refusal(&source) {
            Some(why) => Self::DiskFull(why.to_owned()),
            None => Self::Io { doing: doing.to_string(), source },
        }
    }
}
