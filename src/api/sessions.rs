//! Sessions (API A5): list, detail, delete, prune.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde::Serialize;

use crate::api::{self, App, Call};
use crate::base::ids::SessionId;
use crate::base::log;
use crate::http::error::HttpError;
use crate::http::{Body, Response};
use crate::store::session::Detail;

/// What became of a session.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct SessionDeleted {
    /// `deleted`.
    status: &'static str,
    /// The session.
    id: SessionId,
}

/// What a pruning did.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct SessionsPruned {
    /// `pruned`.
    status: &'static str,
    /// Sessions that were deleted.
    count: usize,
    /// The limits that it went by.
    config: PruneLimits,
}

/// When sessions are deleted; 0 is never.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct PruneLimits {
    /// All but this many newest ones.
    max_sessions: u64,
    /// Older than this many hours.
    ttl_hours: u64,
}

/// What [`detail`] streams; `store::projection` writes it.
#[cfg(test)]
#[derive(Serialize, schemars::JsonSchema)]
struct SessionDetail {
    /// Its id.
    id: SessionId,
    /// The label that came with its first message.
    user_id: String,
    /// Where it is held.
    space_id: Option<crate::base::ids::SpaceId>,
    /// What the user said, oldest first.
    user_messages: Vec<UserMessage>,
    /// What was answered, oldest first.
    agent_responses: Vec<AgentResponse>,
    /// The specification last worked on.
    active_seed_id: Option<crate::base::ids::SeedId>,
    /// Who answers.
    active_persona_id: Option<String>,
    /// When it began.
    created_at: crate::base::time::Timestamp,
    /// When it last changed.
    updated_at: crate::base::time::Timestamp,
    /// More: owner, space, the state of the log.
    metadata: serde_json::Map<String, serde_json::Value>,
}

/// One message of the user.
#[cfg(test)]
#[derive(Serialize, schemars::JsonSchema)]
struct UserMessage {
    /// What was said.
    content: String,
    /// When.
    timestamp: crate::base::time::Timestamp,
}

/// One answer.
#[cfg(test)]
#[derive(Serialize, schemars::JsonSchema)]
struct AgentResponse {
    /// The text.
    content: String,
    /// Where.
    session_id: Option<SessionId>,
    /// The specification that it was made by.
    seed_id: Option<crate::base::ids::SeedId>,
    /// How far the run came.
    phase_reached: Option<crate::store::record::Phase>,
    /// What the evaluation said, where there was one.
    evaluation_passed: Option<bool>,
    /// When.
    timestamp: crate::base::time::Timestamp,
}

#[cfg(test)]
pub(super) fn shapes(all: &mut api::shapes::Shapes) {
    all.answers::<crate::store::sessions::Page<crate::store::sessions::SessionItem>>("SessionPage");
    all.answers::<SessionDetail>("SessionDetail");
    all.answers::<SessionDeleted>("SessionDeleted");
    all.answers::<SessionsPruned>("SessionsPruned");
}

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
    api::json(&SessionDeleted { status: "deleted", id })
}

/// `POST /api/sessions/prune`: at once, by the settings.
pub(crate) async fn prune(app: Arc<App>, _call: Call) -> Result<Response, HttpError> {
    let settings = app.settings.load();
    let count = app.gateway.prune().await?;
    let config = PruneLimits { max_sessions: settings.max_sessions, ttl_hours: settings.ttl_hours };
    api::json(&SessionsPruned { status: "pruned", count, config })
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
