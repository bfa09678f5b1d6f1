//! Sessions (API A5): list, detail, delete, prune.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde::Serialize;

use crate::api::{self, App, Call};
use crate::base::ids::{SessionId, SpaceId};
use crate::base::limits::{QUERY_WORDS_MAX, SEARCH_CHARS_MAX};
use crate::base::log;
use crate::http::error::HttpError;
use crate::http::{Body, Response};
use crate::store::StoreError;
use crate::store::search::{Found, Wanted};
use crate::store::session::Detail;
use crate::store::sessions as store;
use crate::wire::words;

/// Sessions, newest first.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct SessionPage {
    /// What is on the page.
    items: Vec<Found>,
    /// How many there are on all pages.
    total: usize,
    /// Which page, from 1.
    page: usize,
    /// Most items on a page.
    limit: usize,
    /// The search was ended by its limits of bytes and time; older sessions were not looked into.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cut: bool,
}

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
    space_id: Option<SpaceId>,
    /// What the user said, oldest first.
    user_messages: Vec<UserMessage>,
    /// What was answered, oldest first.
    agent_responses: Vec<AgentResponse>,
    /// The specification of the last task: the one that is worked on, then the one that the answer is a result of.
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
    /// Its id, by which a fork may end and a run be stopped.
    message_id: crate::base::ids::MessageId,
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
    /// Only where the text is questions about a task that was not clear: the next message answers them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    asks: bool,
    /// When.
    timestamp: crate::base::time::Timestamp,
}

#[cfg(test)]
pub(super) fn shapes(all: &mut api::shapes::Shapes) {
    all.answers::<SessionPage>("SessionPage");
    all.answers::<SessionDetail>("SessionDetail");
    all.answers::<SessionDeleted>("SessionDeleted");
    all.answers::<SessionsPruned>("SessionsPruned");
}

/// `GET /api/sessions`: all, those of a space, or those with these words.
pub(crate) async fn list(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (owner, page) = (call.caller()?.owner(), call.page()?);
    let space = call.query.get("space_id").map(SpaceId::parse).transpose();
    let space_id = space.map_err(|_| HttpError::bad_request("query `space_id`: expected a UUID in lower case"))?;
    let long = call.query.get("q").is_some_and(|q| q.chars().count() > SEARCH_CHARS_MAX);
    let q = call.query.get("q").map(str::trim).filter(|q| !q.is_empty());
    if q.is_none() && space_id.is_none() && !long {
        return api::json(&app.sessions.list(owner, page.page, page.limit).await?);
    }
    let words = q.map(|q| words::query(q, QUERY_WORDS_MAX)).unwrap_or_default();
    if long || q.is_some() && words.is_empty() {
        return Err(HttpError::bad_request(format!("query `q`: expected words, at most {SEARCH_CHARS_MAX} characters")));
    }
    let (found, cut) = app.sessions.search(owner, Wanted { words, space_id }, page.page, page.limit).await?;
    let store::Page { items, total, page, limit } = found;
    api::json(&SessionPage { items, total, page, limit, cut })
}

/// `GET /api/sessions/{id}`: streamed from the log; a small one is sent whole.
pub(crate) async fn detail(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (owner, id) = (call.caller()?.owner(), id(&call)?);
    pieces(app.sessions.load(id, owner).await?.detail(), "application/json").await
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

/// The session of the path.
pub(super) fn id(call: &Call) -> Result<SessionId, HttpError> {
    SessionId::parse(call.param("id")).map_err(|_| HttpError::bad_request("id: expected a UUID in lower case"))
}

/// A document that the store makes piece by piece.
pub(super) trait Pieces: Send + 'static {
    /// The next piece; `None` after the last.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, StoreError>> + Send;
}

impl Pieces for Detail {
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        Detail::next(self).await
    }
}

/// 200 with this document: streamed; a small one is sent whole.
pub(super) async fn pieces(mut document: impl Pieces, media: &'static str) -> Result<Response, HttpError> {
    let first = document.next().await?.unwrap_or_default();
    let body = match document.next().await? {
        None => Body::full(first),
        Some(second) => {
            Body::stream(futures_util::stream::unfold(Rest { ready: [Some(second), Some(first)], document: Some(document) }, rest))
        }
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    Ok(response)
}

/// What is left of a document: pieces already made (in reverse), then the log.
struct Rest<P> {
    ready: [Option<Bytes>; 2],
    document: Option<P>,
}

async fn rest<P: Pieces>(mut rest: Rest<P>) -> Option<(io::Result<Bytes>, Rest<P>)> {
    if let Some(piece) = rest.ready.iter_mut().rev().find_map(Option::take) {
        return Some((Ok(piece), rest));
    }
    let mut document = rest.document.take()?;
    match document.next().await {
        Ok(Some(piece)) => Some((Ok(piece), Rest { document: Some(document), ..rest })),
        Ok(None) => None,
        Err(error) => {
            log::error("sessions", format_args!("a document broke off: {error}"));
            // Breaks the connection: half a document must not look like a whole one.
            Some((Err(io::Error::other("the session could not be read to its end")), rest))
        }
    }
}
