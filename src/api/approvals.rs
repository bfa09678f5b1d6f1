//! Approvals: list, approve, reject.

use std::sync::Arc;

use crate::api::{App, Call};
use crate::http::Response;
use crate::http::error::HttpError;

/// The list.
#[expect(clippy::todo, reason = "signature first")]
pub(crate) async fn list(_app: Arc<App>, _call: Call) -> Result<Response, HttpError> {
    todo!()
}

/// `POST /api/approvals/{id}/approve`.
#[expect(clippy::todo, reason = "signature first")]
pub(crate) async fn approve(_app: Arc<App>, _call: Call) -> Result<Response, HttpError> {
    todo!()
}

/// `POST /api/approvals/{id}/reject`.
#[expect(clippy::todo, reason = "signature first")]
pub(crate) async fn reject(_app: Arc<App>, _call: Call) -> Result<Response, HttpError> {
    todo!()
}
