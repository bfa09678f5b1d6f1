//! One audited request: exactly one record tells its end, also where the client vanishes before there is an answer.

use std::sync::Arc;

use crate::store::audit::{Audit, AuditError, Event, On, Outcome, What, Who};

/// When a request is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recording {
    /// Not at all: it changes nothing.
    No,
    /// When its outcome is known; it is let in only while records can be written.
    After,
    /// Also before, on the disk: it cannot be taken back, or changes who may do what.
    Both,
}

/// A request under way; its end is recorded when it is told, or when this is dropped.
pub struct Recorded {
    audit: Arc<Audit>,
    event: Event,
}

impl Recorded {
    /// Before the handler runs. `name` is what the path names, if anything.
    ///
    /// # Errors
    /// The record cannot be written: the request must not be carried out.
    pub async fn begin(
        audit: &Arc<Audit>,
        recording: Recording,
        who: Who,
        what: What,
        name: Option<&str>,
    ) -> Result<Option<Self>, AuditError> {
        if recording == Recording::No {
            return Ok(None);
        }
        let on = name.map(|name| On::name(audit.keyed(), name));
        let event = Event { who, what, on, outcome: Outcome::Gone };
        if recording == Recording::Both {
            audit.append(Event { outcome: Outcome::Begun, ..event.clone() }).await?;
        } else {
            audit.admit()?;
        }
        Ok(Some(Self { audit: audit.clone(), event }))
    }

    /// What it was answered with.
    pub fn end(mut self, status: u16) {
        self.event.outcome = Outcome::Status(status);
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        self.audit.note(self.event.clone());
    }
}
