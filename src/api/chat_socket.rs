//! GET /api/chat/stream: the WebSocket.

use std::sync::Arc;

use crate::api::{App, Call};
use crate::http::Response;
use crate::http::error::HttpError;

/// `GET /api/chat/stream`.
#[expect(clippy::todo, reason = "signature first")]
pub(crate) async fn stream(_app: Arc<App>, _call: Call) -> Result<Response, HttpError> {
    todo!()
}
