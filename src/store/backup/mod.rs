//! A home in one file: written while a server works in it, verified whole, restored elsewhere.
//!
//! **The file** is a tar that any tar reads (`wire::tar`): `manifest/begin`, then the home's files beneath `home/` (and the workspace's
//! beneath `workspace/`, where that lies elsewhere), each list of them (`manifest/1`, `manifest/2` …) right behind what it lists, and
//! `manifest/end` (`wire::backup_manifest`). What is read must be what would have been written, to the byte: header, list, order, zeros
//! between and behind. So every truncation and every flipped byte is found, and the damaged file named.
//!
//! **A state that a crash could have left.** The server is not stopped and not asked; it goes on writing. What makes the copy good
//! is that every single file is read in one consistent state, and the order in which they are read.
//! - What is replaced by a rename (keys, configuration, approvals, memory, files of the workspace …) is read from one open file: the
//!   old or the new one, whole.
//! - What is only appended to (session logs and their pieces, audit segments, the list of agents) is read up to the end of its last
//!   whole line, as a killed process leaves it. One that is cut meanwhile (a failed write is taken back) begins the backup anew.
//! - What may lag behind the logs is read before them, so that it never speaks of what they do not have: approvals and agents; a
//!   log's pieces (`.run`) and projection (`.json`) before the log itself. A piece that a reader saw is in the pieces, or its
//!   message's end is in the log; the numbers of pieces lie within a reservation that is in the log.
//! - What the logs refer to is made before their records and is read behind them: large results (`<id>.d/`), specifications,
//!   spaces, personas, files. Scheduled tasks, too: they plan before they run, so a copy may miss a run and never repeats one.
//! - A session that is deleted meanwhile may be there in part: its tombstone is made first and lasts a day, and tombstones are read
//!   (once more) behind the sessions. Of one that has a tombstone from the start nothing else is read: what is left of it is rubbish.
//! - Skills and which of them are on change under `skills/.lock`, which is held while they are read: a skill is on only where that very
//!   version was on. Installing one waits meanwhile.
//! - `keys.json` and `token` are read under `keys.lock`, so that the token is a good key; behind the sessions, so that every owner
//!   is there; then `budgets.json`, which is written ahead and so says at least what was used.
//! - A directory that is exchanged as a whole while it is read (a new page) begins the backup anew.
//! - The audit log comes last: whatever was recorded before it was done and is in the copy is in the copied audit log. It may tell
//!   of a few things more. Its segments are read in their order, so that the chain ends somewhere and has no gap.
//! - Directories are listed twice, since some file systems show a name that is renamed over during a listing not at all.
//!
//! What was acknowledged before a backup began is in it; what is acknowledged meanwhile may be, each session for itself.
//!
//! **Restoring** reads the file twice: once to verify it, once to write it, with the same checks, into a directory beside the new home
//! that takes its name when all of it is durable.
//!
//! Left out: locks, `address`, `reserve`, the cache of the listing, what is half written; links, devices, sockets, and names that the
//! server refuses itself (told; of those that are no UTF-8, how many). Modes are kept in the file; what is
//! restored is open to its owner only.

mod check;
mod place;
mod read;
mod restore;
mod source;
#[cfg(test)]
mod tests;
mod write;

use std::fmt;
use std::io;

pub use check::{Report, verify};
pub use place::Layout;
pub use restore::{Target, Whither, restore};
pub use source::Source;
pub use write::{Written, write};

use crate::sys::disk::is_full;

/// How far it is. Asked again and again; tells whether to go on.
pub type Watch<'a> = &'a mut dyn FnMut(Progress) -> bool;

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub doing: Doing,
    /// Bytes of the backup so far.
    pub bytes: u64,
}

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// Writing the backup.
    Writing,
    /// Reading it and comparing digests.
    Verifying,
    /// Writing the home.
    Restoring,
}

/// Why there is no backup, or no home. The text is for whoever asked.
#[derive(Debug)]
pub enum BackupError {
    /// The file is no backup of ours.
    NoBackup,
    /// A newer version wrote it.
    Newer(u64),
    /// It is not as it was written; where, and how that shows.
    Damaged(String),
    /// Something in it is refused although it is as it was written.
    Refused(String),
    /// A file or directory changed in a way that only time helps with; its path.
    Changed(String),
    /// No space; of which of the two disks.
    Full(&'static str),
    /// It was told to stop.
    Stopped,
    /// The operating system refused.
    Io {
        /// What was being done.
        doing: String,
        /// What it said.
        source: io::Error,
    },
}

impl BackupError {
    /// An error of the system; where no space is left, the disk of `what` is full.
    fn io(what: &'static str, doing: impl fmt::Display) -> impl FnOnce(io::Error) -> Self {
        move |source| if is_full(&source) { Self::Full(what) } else { Self::Io { doing: doing.to_string(), source } }
    }
}

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBackup => f.write_str("this is no backup of oxios-edge"),
            Self::Newer(found) => write!(f, "it was written by a newer version of oxios-edge (format {found}); use that version"),
            Self::Damaged(how) => write!(f, "the backup is damaged: {how}"),
            Self::Refused(what) => write!(f, "the backup is refused: {what}"),
            Self::Changed(path) => write!(f, "{path} was cut or exchanged while it was read, again and again; try once more"),
            Self::Full(what) => write!(f, "no space is left on the disk of {what}"),
            Self::Stopped => f.write_str("it was stopped"),
            Self::Io { doing, source } => write!(f, "{doing}: {source}"),
        }
    }
}

impl std::error::Error for BackupError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
