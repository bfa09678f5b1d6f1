//! Sessions (API A5): list, detail, delete, prune.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde_json::json;

use crate::api::{self, App, Call};
use crate::base::ids::SessionId;
use crate::base::log;
use crate::http::error::HttpError;
use crate::http::{Body, Response};
use crate::store::session::Detail;

/// `GET /api/sessions`.
pub(crate) async fn list(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (owner, page) = (call.caller()?.owner(), call.page()?);
    let page = app.sessions.list(owner, page.page, page.limit).await?;
    api::json(&page)
}

/// `GET /api/sessions/{id}`: streamed from the log; a small one is sent whole.
pub(crate) async fn detail(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let owner = call.caller()?.owner();
    let id = SessionId::parse(call.param("id")).map_err(|_| HttpError::bad_request("id: expected a UUID in lower case"))?;
    let mut detail = app.sessions.load(id, owner).await?.detail();
    let first = detail.next().await?.unwrap_or_default();
    let body = match detail.next().await? {
        None => Body::full(first),
        Some(second) => Body::stream(futures_util::stream::unfold(Rest { ready: [Some(second), Some(first)], detail: Some(detail) }, rest)),
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// `DELETE /api/sessions/{id}`: what runs in it is cancelled first. Errors have no body (API A1).
pub(crate) async fn delete(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let owner = call.caller()?.owner();
    let id = SessionId::parse(call.param("id")).map_err(|_| HttpError::bad_request("bad id").empty())?;
    app.gateway.delete_session(owner, id).await.map_err(|error| HttpError::from(error).empty())?;
    api::json(&json!({"status": "deleted", "id": id}))
}

/// `POST /api/sessions/prune`: at once, by the settings.
pub(crate) async fn prune(app: Arc<App>, _call: Call) -> Result<Response, HttpError> {
    let settings = app.settings.load();
    let count = app.gateway.prune().await?;
    let config = json!({"max_sessions": settings.max_sessions, "ttl_hours": settings.ttl_hours});
    api::json(&json!({"status": "pruned", "count": count, "config": config}))
}

/// What is left of a detail: pieces already made (in reverse), then the log.
struct Rest {
    ready: [Option<Bytes>; 2],
    detail: Option<Detail>,
}

async fn rest(mut rest: Rest) -> Option<(io::Result<Bytes>, Rest)> {
    if let Some(piece) = rest.ready.iter_mut().rev().find_map(Option::take) {
        return Some((Ok(piece), rest));
    }
    let mut detail = rest.detail.take()?;
    match detail.next().await {
        Ok(Some(piece)) => Some((Ok(piece), Rest { detail: Some(detail), ..rest })),
        Ok(None) => None,
        Err(error) => {
            log::error("sessions", format_args!("a detail broke off: {error}"));
            // Breaks the connection: half a document must not look like a whole one.
            Some((Err(io::Error::other("the session could not be read to its end")), rest))
        }
    }
}
