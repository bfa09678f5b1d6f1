//! POST /api/chat/ticket: one-time tickets for browsers.

use std::sync::Arc;

use crate::api::{App, Call};
use crate::http::Response;
use crate::http::error::HttpError;

/// `POST /api/chat/ticket`.
#[expect(clippy::todo, reason = "signature first")]
pub(crate) async fn issue(_app: Arc<App>, _call: Call) -> Result<Response, HttpError> {
    todo!()
}
