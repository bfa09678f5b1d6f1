//! `GET /api/sessions/{id}/export` (API B): a session as a file.

use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{CONTENT_DISPOSITION, HeaderValue};

use crate::api::sessions::{self, Pieces};
use crate::api::{App, Call};
use crate::http::Response;
use crate::http::error::HttpError;
use crate::store::StoreError;
use crate::store::export::Markdown;

impl Pieces for Markdown {
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        Markdown::next(self).await
    }
}

/// `GET /api/sessions/{id}/export?format=json|markdown`: streamed.
pub(crate) async fn export(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (owner, id) = (call.caller()?.owner(), sessions::id(&call)?);
    let markdown = match call.query.get("format").unwrap_or("json") {
        "json" => false,
        "markdown" => true,
        _ => return Err(HttpError::bad_request("query `format`: expected json or markdown")),
    };
    let session = app.sessions.load(id, owner).await?;
    let (mut response, ending) = if markdown {
        (sessions::pieces(session.markdown(), "text/markdown; charset=utf-8").await?, "md")
    } else {
        (sessions::pieces(session.detail(), "application/json").await?, "json")
    };
    let name = HeaderValue::try_from(format!("attachment; filename=\"session-{id}.{ending}\""));
    response.headers_mut().insert(CONTENT_DISPOSITION, name.map_err(|e| HttpError::internal(e.to_string()))?);
    Ok(response)
}
