//! Sessions: list, detail, delete, prune.

use std::sync::Arc;

use crate::api::{App, Call};
use crate::http::Response;
use crate::http::error::HttpError;

/// The list.
#[expect(clippy::todo, reason = "signature first")]
pub(crate) async fn list(_app: Arc<App>, _call: Call) -> Result<Response, HttpError> {
    todo!()
}

/// `GET /api/sessions/{id}`.
#[expect(clippy::todo, reason = "signature first")]
pub(crate) async fn detail(_app: Arc<App>, _call: Call) -> Result<Response, HttpError> {
    todo!()
}

/// `DELETE /api/sessions/{id}`.
#[expect(clippy::todo, reason = "signature first")]
pub(crate) async fn delete(_app: Arc<App>, _call: Call) -> Result<Response, HttpError> {
    todo!()
}

/// `POST /api/sessions/prune`.
#[expect(clippy::todo, reason = "signature first")]
pub(crate) async fn prune(_app: Arc<App>, _call: Call) -> Result<Response, HttpError> {
    todo!()
}
