//! What a run leaves in the audit log and the counters: tools that ran, questions that it asked. Never arguments or results.

use std::sync::Arc;

use crate::base::ids::ApprovalId;
use crate::llm::CountedCall;
use crate::orchestrator::run::Run;
use crate::store::audit::{Audit, AuditError, Event, On, Outcome, What, Who};

/// What the model is told where a tool may not run because nobody could prove later that it did.
pub(crate) const UNRECORDED: &str = "the audit log cannot be written, so this was not done; tell the user that the disk needs attention";

/// What the counters call tools of other servers: a server's names are its owner's words.
const FOREIGN: &str = "mcp";

/// A tool under way; its end is recorded when it is told, or when the run is stopped meanwhile.
pub(crate) struct RecordedTool {
    audit: Arc<Audit>,
    event: Event,
    /// It was allowed to run.
    ran: bool,
}

impl Run<'_> {
    /// A tool of this run is about to start.
    pub(crate) fn records(&self, tool: What) -> RecordedTool {
        let event = Event { what: tool, ..self.event(self.job.message_id.as_bytes()) };
        RecordedTool { audit: self.parts.audit.clone(), event, ran: true }
    }

    /// A person was asked.
    pub(crate) fn record_question(&self, approval: ApprovalId) {
        self.parts.audit.metrics().approvals.one("asked");
        self.parts.audit.note(Event { what: What::ApprovalAsked, outcome: Outcome::Done, ..self.event(approval.as_bytes()) });
    }

    /// A model is about to be called.
    pub(crate) fn counts_call(&self, model: &str) -> CountedCall {
        CountedCall::begin(self.parts.audit.metrics(), model, self.parts.clock.monotonic())
    }

    fn event(&self, on: &[u8; 16]) -> Event {
        // A run acts for the key that began it.
        let who = Who { owner: Some(self.job.owner), key: self.job.message.key_id };
        Event { who, what: What::Message, on: Some(On::id(on)), outcome: Outcome::Gone }
    }
}

impl RecordedTool {
    /// Writes that it is about to run, on the disk. It must not run after an error.
    pub(crate) async fn begun(&mut self) -> Result<(), AuditError> {
        self.ran = false;
        self.audit.append(Event { outcome: Outcome::Begun, ..self.event.clone() }).await?;
        self.ran = true;
        Ok(())
    }
    /// It has ended.
    pub(crate) fn done(&mut self, good: bool) {
        self.event.outcome = if good { Outcome::Done } else { Outcome::Failed };
    }
}

impl Drop for RecordedTool {
    fn drop(&mut self) {
        if self.ran {
            self.audit.metrics().tool(match self.event.what {
                What::Tool(name) => name,
                _ => FOREIGN,
            });
            self.audit.note(self.event.clone());
        }
    }
}
