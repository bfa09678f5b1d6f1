//! GET /api/sessions/{id}/events: a session's log as server-sent events.

use std::sync::Arc;

use crate::api::{App, Call};
use crate::http::Response;
use crate::http::error::HttpError;

/// The stream.
#[expect(clippy::todo, reason = "signature first")]
pub(crate) async fn events(_app: Arc<App>, _call: Call) -> Result<Response, HttpError> {
    todo!()
}
