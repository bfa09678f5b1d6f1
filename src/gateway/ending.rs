//! Terminal records that the gateway writes: for runs that never began, or that could not end themselves.

use std::sync::Arc;

use crate::base::cancel::Why;
use crate::base::ids::MessageId;
use crate::orchestrator::EndKind;
use crate::store::StoreError;
use crate::store::record::{Body, Ending, Problem, UserMessage};
use crate::store::session::Session;
use crate::store::tail::Step;

/// How a run was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// Somebody wanted it, or a newer message came.
    Cancelled(Why),
    /// It took too long.
    Deadline,
    /// The process ends.
    Shutdown,
    /// Our fault.
    Internal,
}

impl Cut {
    /// The cut that a reason to stop makes.
    pub(super) fn by(why: Why) -> Self {
        match why {
            Why::Asked | Why::Replaced | Why::Deleted => Self::Cancelled(why),
            Why::Deadline => Self::Deadline,
            Why::Shutdown => Self::Shutdown,
        }
    }

    /// The kind of its terminal record.
    pub(super) fn kind(self) -> EndKind {
        match self {
            Self::Cancelled(_) => EndKind::Cancelled,
            Self::Deadline | Self::Internal => EndKind::Failed,
            Self::Shutdown => EndKind::Interrupted,
        }
    }

    fn problem(self) -> Problem {
        let (code, message) = match self {
            Self::Cancelled(Why::Replaced) => ("cancelled", "a newer message took its place"),
            Self::Cancelled(Why::Deleted) => ("cancelled", "its session was deleted"),
            Self::Cancelled(_) => ("cancelled", "it was cancelled"),
            Self::Deadline => ("deadline", "it took longer than security.max_execution_time_secs allows"),
            Self::Shutdown => ("interrupted", "the server stopped before it was done; send the message again"),
            Self::Internal => ("internal", "internal error; send the message again, and look into the server's log if it stays"),
        };
        Problem { code: code.to_owned(), message: message.to_owned() }
    }
}

/// Writes the terminal record with what the run had said and how far it was. A run that ended meanwhile stays as it ended.
pub(super) async fn write(session: &Arc<Session>, message: MessageId, cut: Cut) -> Result<(), StoreError> {
    // What it said is nice to keep; that it is over must be said in any case.
    let mut ending = so_far(session, message).await.unwrap_or_default();
    ending.error = Some(cut.problem());
    let body = match cut.kind() {
        EndKind::Done => Body::Done(ending),
        EndKind::Failed => Body::Failed(ending),
        EndKind::Cancelled => Body::Cancelled(ending),
        EndKind::Interrupted => Body::Interrupted(ending),
    };
    match session.append(message, vec![body]).await {
        Ok(_) | Err(StoreError::Ended) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The visible text and the phase that the session's log shows now.
async fn so_far(session: &Arc<Session>, message: MessageId) -> Result<Ending, StoreError> {
    let mut ending = Ending::default();
    let Some(found) = session.find(message) else { return Ok(ending) };
    let mut tail = session.tail(found.seq.saturating_sub(1));
    while !tail.caught_up() {
        let Step::Record(entry) = tail.next().await? else { break };
        if entry.message_id != Some(message) {
            continue;
        }
        match &entry.record.body {
            Body::Token { text } => ending.text.push_str(text),
            Body::Phase { phase, seed_id, .. } => {
                ending.phase = *phase;
                ending.seed_id = seed_id.or(ending.seed_id);
            }
            _ => {}
        }
    }
    Ok(ending)
}

/// The words that a message was accepted with.
pub(super) async fn user_message(session: &Arc<Session>, message: MessageId) -> Result<UserMessage, StoreError> {
    let records = session.records_of(message).await?;
    records
        .into_iter()
        .find_map(|record| if let Body::Message(user) = record.body { Some(user) } else { None })
        .ok_or_else(|| StoreError::Damaged(format!("message {message} has no message record")))
}
