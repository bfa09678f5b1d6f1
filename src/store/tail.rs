//! A reader of a session: everything behind its cursor, from memory or disk, then live.

use std::sync::Arc;

use crate::base::ids::Seq;
use crate::store::StoreError;
use crate::store::session::Entry;

/// What a reader gets next.
#[derive(Debug, Clone)]
pub enum Step {
    /// A record.
    Record(Arc<Entry>),
    /// The cursor was beyond the end; the log follows from its start.
    Resync {
        /// The newest seq there is.
        last_seq: Seq,
    },
    /// The session was deleted; nothing follows.
    Deleted,
}

/// A reader. Dropping it ends it.
pub struct Tail {}

impl Tail {
    /// The next step; waits for it. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Step, StoreError> {
        todo!()
    }
    /// Everything visible has been returned.
    pub fn caught_up(&self) -> bool {
        todo!()
    }
}
