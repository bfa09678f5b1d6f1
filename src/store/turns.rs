//! The conversation so far, for the model: read backwards from the end, as far as it fits.

use crate::base::ids::{MessageId, Seq};
use crate::store::record::{Ending, UserMessage};

/// One ended exchange.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// Its message.
    pub message_id: MessageId,
    /// The seq of the `message` record.
    pub seq: Seq,
    /// What was said.
    pub message: UserMessage,
    /// What came of it.
    pub ending: Ending,
    /// `done`, `failed`, `cancelled` or `interrupted`.
    pub kind: &'static str,
}
