//! `POST /api/chat/ticket`: one-time tickets for browsers, which cannot set a header on a WebSocket or an EventSource.

use std::sync::Arc;

use serde::Serialize;

use crate::api::{self, App, Call};
use crate::http::Response;
use crate::http::error::{ErrorStatus, HttpError};
use crate::middleware::tickets::TICKET_TTL;

/// A one-time ticket.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Ticket<'a> {
    /// For `?ticket=`; shown this once.
    ticket: &'a str,
    /// Seconds that it lives.
    expires_in: u64,
}

#[cfg(test)]
pub(super) fn shapes(all: &mut api::shapes::Shapes) {
    all.answers::<Ticket<'static>>("Ticket");
}

/// `POST /api/chat/ticket`.
pub(crate) async fn issue(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let ticket = app.tickets.issue(call.caller()?, &*app.random, app.clock.monotonic()).ok_or_else(|| {
        let text = "too many tickets are open; use one of them, or wait until they lapse";
        HttpError::new(ErrorStatus::Unavailable, "too_many_tickets", text).retry_after(TICKET_TTL.as_secs())
    })?;
    // The one place where it is shown.
    api::json(&Ticket { ticket: ticket.reveal(), expires_in: TICKET_TTL.as_secs() })
}
