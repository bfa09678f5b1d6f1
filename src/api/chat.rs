//! `POST /api/chat` and cancel: one message in, its answer out.
//!
//! The answer is read from the session's log like every other reader's: from the message's record to its terminal one.
//! A client that goes away ends the reading, not the run.

use std::sync::Arc;

use hyper::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::api::error::disk_full;
use crate::api::{self, App, Call, attachments, spaces};
use crate::base::ids::{MessageId, SessionId, SpaceId};
use crate::base::limits::{ATTACHMENTS_MAX, CONTENT_BYTES_MAX, LABEL_BYTES_MAX, PATH_BYTES_MAX};
use crate::gateway::{IncomingMessage, Known, Submitted};
use crate::http::Response;
use crate::http::error::{ErrorStatus, HttpError};
use crate::middleware::auth::{self, Caller, Ends};
use crate::store::history::History;
use crate::store::home::Space;
use crate::store::keys::{Books, Budget};
use crate::store::record::{Body, Ending, Phase, Record};
use crate::store::tail::Step;

/// What a client sends, here and as a `message` of the WebSocket. Unknown fields are ignored (API, conventions).
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "ChatRequest", extend("anyOf" = one_content())))]
pub(super) struct Said {
    /// The message: 1 byte to 64 KiB, not blank.
    #[cfg_attr(test, schemars(length(max = CONTENT_BYTES_MAX), regex(pattern = api::shapes::SAID)))]
    content: Option<String>,
    /// The older name of `content`.
    #[cfg_attr(test, schemars(length(max = CONTENT_BYTES_MAX), regex(pattern = api::shapes::SAID)))]
    message: Option<String>,
    /// A label of whoever speaks; `default`.
    #[cfg_attr(test, schemars(length(max = LABEL_BYTES_MAX)))]
    user_id: Option<String>,
    /// The session to go on with; a new one where it is absent, null or empty.
    #[cfg_attr(test, schemars(regex(pattern = api::shapes::id_or_nothing())))]
    session_id: Option<String>,
    /// The space that this is said in, which must not be archived; an unknown id makes one, as with sessions. The first message of a
    /// session says where it is held; a later one names the same space, or none.
    #[cfg_attr(test, schemars(regex(pattern = api::shapes::id_or_nothing())))]
    space_id: Option<String>,
    /// Paths of files in the workspace, at most 8; each must be there.
    #[cfg_attr(test, schemars(length(max = ATTACHMENTS_MAX), inner(length(max = PATH_BYTES_MAX), regex(pattern = api::shapes::PATH))))]
    attachments: Option<Vec<String>>,
    /// The same key and body find the first run instead of making another one.
    #[cfg_attr(test, schemars(length(min = 1, max = LABEL_BYTES_MAX)))]
    idempotency_key: Option<String>,
    /// Another place for `session_id`.
    metadata: Option<Metadata>,
}

/// What clients may say besides.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "ChatMetadata"))]
struct Metadata {
    /// As the field of this name.
    #[cfg_attr(test, schemars(regex(pattern = api::shapes::id_or_nothing())))]
    session_id: Option<String>,
}

/// The answer to a message.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ChatReply {
    /// The message's id.
    id: MessageId,
    /// What was said.
    echo: String,
    /// What is answered.
    reply: String,
    /// Where.
    session_id: SessionId,
    /// The space that was named.
    space_id: Option<SpaceId>,
    /// How far the run came.
    phase: Phase,
}

/// The run waits for a person; its session's events tell the rest.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ChatWaits {
    /// The message's id.
    id: MessageId,
    /// Where.
    session_id: SessionId,
    /// The space that was named.
    space_id: Option<SpaceId>,
    /// `approval_required`.
    status: &'static str,
    /// The question.
    approval: Value,
}

/// The two answers of 202.
#[cfg(test)]
#[derive(Serialize, schemars::JsonSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "for its schema only")]
enum ChatPending {
    Waits(ChatWaits),
    Accepted(ChatAccepted),
}

/// The message is accepted; its session's events tell the answer.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ChatAccepted {
    /// The message's id.
    id: MessageId,
    /// Where.
    session_id: SessionId,
    /// The space that was named.
    space_id: Option<SpaceId>,
    /// `accepted`.
    status: &'static str,
}

/// A run that was stopped.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Cancelled {
    /// `cancelled`.
    status: &'static str,
    /// The message.
    id: MessageId,
}

/// `content` or its alias, not both.
#[cfg(test)]
fn one_content() -> Value {
    let one = |name: &str, other: &str| json!({"required": [name], "properties": {name: {"type": "string"}, other: {"type": "null"}}});
    json!([one("content", "message"), one("message", "content")])
}

#[cfg(test)]
pub(super) fn shapes(all: &mut api::shapes::Shapes) {
    all.takes::<Said>("ChatRequest");
    all.answers::<ChatReply>("ChatReply");
    all.answers::<ChatPending>("ChatPending");
    all.answers::<Cancelled>("Cancelled");
}

/// `POST /api/chat`.
pub(crate) async fn chat(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let caller = call.caller()?;
    let mut said: Said = call.json()?;
    said.take_key(&call.headers)?;
    let user = said.user_id.take().filter(|user| !user.is_empty()).unwrap_or_else(|| "default".to_owned());
    let incoming = said.check(caller, "rest", user)?;
    let echo = incoming.content.clone();
    let submitted = submit(&app, incoming).await?;
    let (id, session_id, space_id) = (submitted.id, submitted.session.id(), submitted.session.about().space_id);
    if call.headers.get_all("prefer").iter().any(asks_not_to_wait) {
        let mut response = api::json(&ChatAccepted { id, session_id, space_id, status: "accepted" })?;
        *response.status_mut() = StatusCode::ACCEPTED;
        return Ok(response);
    }
    match wait(&app, &submitted, &call.ends).await? {
        End::Done(ending) => api::json(&ChatReply { id, echo, reply: ending.text, session_id, space_id, phase: ending.phase }),
        End::Asked(record) => {
            // Whoever is told of the question can find and decide it.
            app.gateway.parked(submitted.id).await;
            let approval = question(&record);
            let mut response = api::json(&ChatWaits { id, session_id, space_id, status: "approval_required", approval })?;
            *response.status_mut() = StatusCode::ACCEPTED;
            Ok(response)
        }
        End::Cut(ending) => Err(cut(&app.books, caller.budget(), &ending)),
    }
}

/// Hands a message to the gateway. What it names must be there, but for a retry: that finds its first run whatever became of it.
pub(super) async fn submit(app: &App, incoming: IncomingMessage) -> Result<Submitted, HttpError> {
    let known = app.gateway.known(&incoming).await?;
    if known != Known::Retry {
        attachments::check(app, &incoming).await?;
    }
    // A space that was deleted is not made again by a session that was held in it.
    if known == Known::Nothing {
        spaces::enter(app, incoming.owner, incoming.space_id).await?;
    }
    Ok(app.gateway.submit(incoming).await?)
}

/// `POST /api/chat/{id}/cancel`.
pub(crate) async fn cancel(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let owner = call.caller()?.owner();
    let id = MessageId::parse(call.param("id")).map_err(|_| HttpError::bad_request("id: expected a UUID in lower case"))?;
    app.gateway.cancel(owner, id).await?;
    api::json(&Cancelled { status: "cancelled", id })
}

impl Said {
    /// The idempotency key of the header, which must not differ from the body's.
    pub(super) fn take_key(&mut self, headers: &HeaderMap) -> Result<(), HttpError> {
        for value in headers.get_all("idempotency-key") {
            let key = value.to_str().map_err(|_| HttpError::bad_request("Idempotency-Key: expected visible ASCII"))?;
            if self.idempotency_key.as_deref().is_some_and(|other| other != key) {
                return Err(HttpError::bad_request("Idempotency-Key differs from `idempotency_key`"));
            }
            self.idempotency_key = Some(key.to_owned());
        }
        Ok(())
    }

    /// A message within its limits, of this caller.
    pub(super) fn check(self, caller: &Caller, channel: &'static str, user_id: String) -> Result<IncomingMessage, HttpError> {
        let content = match (self.content, self.message) {
            (Some(_), Some(_)) => return Err(HttpError::unprocessable("`content` and its alias `message` are both given; send one")),
            (Some(content), None) | (None, Some(content)) => content,
            (None, None) => return Err(HttpError::unprocessable("field `content` is missing")),
        };
        if content.len() > CONTENT_BYTES_MAX {
            let text = format!("content has {} bytes; at most {CONTENT_BYTES_MAX} are taken", content.len());
            return Err(HttpError::new(ErrorStatus::PayloadTooLarge, "payload_too_large", text));
        }
        if content.trim().is_empty() {
            return Err(HttpError::bad_request("content is empty"));
        }
        label("user_id", &user_id)?;
        let session = none_if_empty(self.session_id).or(none_if_empty(self.metadata.and_then(|m| m.session_id)));
        let session_id = session.map(|id| SessionId::parse(&id).map_err(|_| bad_id("session_id"))).transpose()?;
        let space = none_if_empty(self.space_id);
        let space_id = space.map(|id| SpaceId::parse(&id).map_err(|_| bad_id("space_id"))).transpose()?;
        let attachments = self.attachments.unwrap_or_default();
        if attachments.len() > ATTACHMENTS_MAX {
            return Err(HttpError::bad_request(format!("attachments: at most {ATTACHMENTS_MAX} are taken")));
        }
        if attachments.iter().any(|path| path.is_empty() || path.len() > PATH_BYTES_MAX || path.contains('\0')) {
            return Err(HttpError::bad_request("attachments: expected paths in the workspace"));
        }
        if let Some(key) = &self.idempotency_key {
            label("idempotency_key", key)?;
            if key.is_empty() {
                return Err(HttpError::bad_request("idempotency_key is empty"));
            }
        }
        Ok(IncomingMessage {
            id: None,
            channel,
            user_id,
            content,
            session_id,
            space_id,
            attachments,
            idempotency_key: self.idempotency_key,
            owner: caller.owner(),
            key: caller.shown(),
            budget: caller.budget().map(|budget| budget.id),
            history: History::default(),
        })
    }
}

/// An `approval_requested` record in the shape of an approval.
pub(super) fn question(record: &Record) -> Value {
    let mut fields = match serde_json::to_value(&record.body) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    fields.remove("kind");
    if let Some(id) = fields.remove("approval_id") {
        fields.insert("id".into(), id);
    }
    fields.insert("created_at".into(), json!(record.time));
    fields.insert("status".into(), "pending".into());
    Value::Object(fields)
}

/// What the log said in the end.
pub(super) enum End {
    Done(Ending),
    /// A person is asked.
    Asked(Record),
    /// Failed, cancelled or interrupted.
    Cut(Ending),
}

/// Reads the log behind the message's record until it is over or waits for a person, or until nobody may read it any more.
pub(super) async fn wait(app: &App, submitted: &Submitted, ends: &Ends) -> Result<End, HttpError> {
    let mut tail = submitted.session.tail(submitted.seq);
    let over = app.gateway.over(submitted.id);
    tokio::pin!(over);
    let mut ending = ends.watch();
    // The gateway has closed its books: what the log does not show by now never comes.
    let mut closed = false;
    let mut asked = None;
    loop {
        let step = tokio::select! {
            biased;
            step = tail.next() => step?,
            () = &mut over, if !closed => {
                closed = true;
                if !tail.caught_up() {
                    continue;
                }
                return Err(unwritten(app));
            }
            // The run goes on (it does not know whether anyone reads); its answer is no longer for this key (THREATS 6).
            end = ending.ended() => return Err(auth::ended(end)),
        };
        let entry = match step {
            Step::Record(entry) => entry,
            Step::Resync { .. } => continue,
            Step::Deleted => return Err(HttpError::conflict("the session was deleted").code("deleted")),
        };
        if entry.message_id == Some(submitted.id) {
            match &entry.record.body {
                Body::Done(ending) => return Ok(End::Done(ending.clone())),
                Body::Failed(ending) | Body::Cancelled(ending) | Body::Interrupted(ending) => return Ok(End::Cut(ending.clone())),
                Body::ApprovalRequested { .. } => asked = Some(entry.record.clone()),
                Body::ApprovalResolved { .. } => asked = None,
                _ => {}
            }
        }
        if tail.caught_up() {
            if let Some(record) = asked.take() {
                return Ok(End::Asked(record));
            }
            if closed {
                return Err(unwritten(app));
            }
        }
    }
}

/// The message is over, and its log could not be told.
pub(super) fn unwritten(app: &App) -> HttpError {
    let what = "the message is over but its end could not be written";
    match app.home.space() {
        Space::Full { why } => disk_full(format!("{what}: {why}")),
        Space::Enough => HttpError::internal(what),
    }
}

/// A run of this caller that did not end as `done`, in terms of HTTP.
pub(super) fn cut(books: &Books, budget: Option<Budget>, ending: &Ending) -> HttpError {
    let Some(problem) = &ending.error else { return HttpError::internal("a cut run does not say why") };
    let (status, code) = match problem.code.as_str() {
        "model" => (ErrorStatus::BadGateway, "model"),
        "exhausted" => (ErrorStatus::BadGateway, "exhausted"),
        "deadline" => (ErrorStatus::GatewayTimeout, "deadline"),
        "cancelled" => (ErrorStatus::Conflict, "cancelled"),
        "interrupted" => (ErrorStatus::Unavailable, "interrupted"),
        "token_budget" => (ErrorStatus::TooManyRequests, "token_budget"),
        "disk_full" => (ErrorStatus::InsufficientStorage, "disk_full"),
        "budget_unwritten" => (ErrorStatus::Unavailable, "budget_unwritten"),
        _ => (ErrorStatus::Internal, "internal"),
    };
    // A total never begins anew: coming back is of no use.
    let again = match status {
        ErrorStatus::Unavailable => Some(1),
        ErrorStatus::TooManyRequests => budget.and_then(|budget| books.anew(&budget)).map(|(_, secs)| secs),
        _ => None,
    };
    let error = HttpError::new(status, code, problem.message.clone());
    if let Some(secs) = again { error.retry_after(secs) } else { error }
}

/// `Prefer: respond-async` (RFC 7240 §4.1): whoever follows the session's events need not hold another connection for the answer.
fn asks_not_to_wait(prefer: &hyper::header::HeaderValue) -> bool {
    prefer
        .to_str()
        .unwrap_or_default()
        .split(',')
        .any(|one| one.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("respond-async"))
}

fn none_if_empty(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn bad_id(field: &str) -> HttpError {
    HttpError::bad_request(format!("{field}: expected a UUID in lower case"))
}

/// A text that a client chose to go by: it is kept with each message.
pub(super) fn label(field: &str, text: &str) -> Result<(), HttpError> {
    if text.len() > LABEL_BYTES_MAX {
        return Err(HttpError::bad_request(format!("{field} has more than {LABEL_BYTES_MAX} bytes")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: Value) -> Result<IncomingMessage, (u16, String)> {
        let said: Said = serde_json::from_value(body).map_err(|e| (422, e.to_string()))?;
        said.check(&Caller::for_tests(1), "rest", "default".into()).map_err(|e| (e.status.code().as_u16(), e.public.into_owned()))
    }

    #[test]
    fn a_message_is_within_its_limits() {
        let session = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        let status = |body: Value| check(body).map(|_| 200).unwrap_or_else(|(status, _)| status);
        assert_eq!(check(json!({"content": "hi"})).unwrap().session_id, None);
        assert_eq!(check(json!({"message": "hi"})).unwrap().content, "hi");
        for named in
            [json!({"content": "x", "session_id": session}), json!({"content": "x", "session_id": "", "metadata": {"session_id": session}})]
        {
            assert_eq!(check(named).unwrap().session_id.map(|id| id.to_string()).as_deref(), Some(session));
        }
        for (body, expected) in [
            (json!({}), 422),
            (json!({"content": "a", "message": "a"}), 422),
            (json!({"content": 1}), 422),
            (json!({"content": ""}), 400),
            (json!({"content": " \n\t"}), 400),
            (json!({"content": "x".repeat(CONTENT_BYTES_MAX)}), 200),
            (json!({"content": "x".repeat(CONTENT_BYTES_MAX + 1)}), 413),
            (json!({"content": "x", "session_id": null, "space_id": "", "unknown": 1}), 200),
            (json!({"content": "x", "session_id": "../../etc"}), 400),
            (json!({"content": "x", "session_id": session.to_uppercase()}), 400),
            (json!({"content": "x", "space_id": "work"}), 400),
            (json!({"content": "x", "attachments": vec!["a"; 8]}), 200),
            (json!({"content": "x", "attachments": vec!["a"; 9]}), 400),
            (json!({"content": "x", "idempotency_key": ""}), 400),
            (json!({"content": "x", "idempotency_key": "k".repeat(LABEL_BYTES_MAX + 1)}), 400),
        ] {
            assert_eq!(status(body.clone()), expected, "{}", body.to_string().chars().take(80).collect::<String>());
        }
    }

    #[test]
    fn the_header_key_and_the_body_key_must_agree() {
        let mut headers = HeaderMap::new();
        headers.insert("idempotency-key", "k".parse().unwrap());
        let key = |body: Option<&str>| {
            let mut said = Said { idempotency_key: body.map(str::to_owned), ..Said::default() };
            said.take_key(&headers).map(|()| said.idempotency_key).map_err(|e| e.status.code().as_u16())
        };
        assert_eq!(key(None), Ok(Some("k".into())));
        assert_eq!(key(Some("k")), Ok(Some("k".into())));
        assert_eq!(key(Some("l")), Err(400));
    }
}
