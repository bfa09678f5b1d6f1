//! POST /api/chat and cancel: one message in, its answer out.

use std::sync::Arc;

use crate::api::{App, Call};
use crate::http::Response;
use crate::http::error::HttpError;

/// `POST /api/chat`.
#[expect(clippy::todo, reason = "signature first")]
pub(crate) async fn chat(_app: Arc<App>, _call: Call) -> Result<Response, HttpError> {
    todo!()
}

/// `POST /api/chat/{id}/cancel`.
#[expect(clippy::todo, reason = "signature first")]
pub(crate) async fn cancel(_app: Arc<App>, _call: Call) -> Result<Response, HttpError> {
    todo!()
}
