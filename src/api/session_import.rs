//! `POST /api/sessions/import` (API B): an exported session becomes one of the caller's.

use std::sync::Arc;

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use tokio::sync::Semaphore;

use crate::api::{self, App, Call, blocking, chat};
use crate::base::ids::OwnerId;
#[cfg(test)]
use crate::base::limits::LABEL_BYTES_MAX;
use crate::base::limits::{IMPORT_MESSAGES_MAX, IMPORT_VALUES_MAX};
use crate::base::time::Timestamp;
use crate::http::Response;
use crate::http::error::{ErrorStatus, HttpError};
use crate::rooms::personas::PersonaError;
use crate::rooms::spaces::{SpaceError, Status};
use crate::store::import::{Old, Source};

/// What [`import`] takes, at most 8 MiB: what `GET /api/sessions/{id}` and the export answer, and no other fields. A file on the disk may
/// have more: `store::import` reads both.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(extend("anyOf" = some_text())))]
#[expect(dead_code, reason = "only its shape is wanted; `store::import` reads what is in it")]
pub(super) struct SessionImport {
    /// Is kept where it is free; else the session gets a new one. What is odd here and below is left out.
    #[serde(default)]
    id: Value,
    /// A label of whoever spoke.
    #[cfg_attr(test, schemars(length(max = LABEL_BYTES_MAX)))]
    user_id: Option<String>,
    /// Is kept where it is a space of yours that is not archived.
    #[serde(default)]
    space_id: Value,
    /// What the user said.
    #[serde(default)]
    user_messages: Vec<ImportedMessage>,
    /// What was answered. One of the texts, here or there, is not empty.
    #[serde(default)]
    agent_responses: Vec<ImportedAnswer>,
    /// The specification last worked on.
    #[serde(default)]
    active_seed_id: Value,
    /// Is kept where it is a persona of yours.
    #[serde(default)]
    active_persona_id: Value,
    /// When it began.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "Option<Timestamp>"))]
    created_at: Option<Moment>,
    /// When it last changed.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "Option<Timestamp>"))]
    updated_at: Option<Moment>,
    /// More, of any name; `title` is what it is called.
    #[serde(default)]
    metadata: Map<String, Value>,
}

/// Evidence of a time as RFC 3339 writes it. One that is well written and that no clock here shows (before 1970, after 9999) is left out.
struct Moment;

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // Only in these years an offset or the year itself can lead out of what is shown; 2000 had all days that a year can have.
        let beyond = |year: &str, rest: &str| (year <= "1970" || year == "9999") && Timestamp::parse(&format!("2000{rest}")).is_some();
        let digits = |year: &str| year.bytes().all(|b| b.is_ascii_digit());
        let odd = || text.split_at_checked(4).is_some_and(|(year, rest)| digits(year) && beyond(year, rest));
        if Timestamp::parse(&text).is_some() || odd() { Ok(Self) } else { Err(D::Error::custom("expected a time as in RFC 3339")) }
    }
}

#[cfg(test)]
fn some_text() -> Value {
    let said = |list: &str| {
        let text = serde_json::json!({"contains": {"required": ["content"], "properties": {"content": {"minLength": 1}}}});
        serde_json::json!({"required": [list], "properties": {list: text}})
    };
    serde_json::json!([said("user_messages"), said("agent_responses")])
}

/// One message of the user.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[expect(dead_code, reason = "only its shape is wanted")]
struct ImportedMessage {
    /// What was said.
    content: String,
    /// When.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "Option<Timestamp>"))]
    timestamp: Option<Moment>,
    /// The id that it had; it gets a new one.
    #[serde(default)]
    message_id: Value,
}

/// One answer.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[expect(dead_code, reason = "only its shape is wanted")]
struct ImportedAnswer {
    /// The text.
    content: String,
    /// Where; the answers are of the new session.
    #[serde(default)]
    session_id: Value,
    /// The specification that it was made by.
    #[serde(default)]
    seed_id: Value,
    /// How far the run came.
    #[serde(default)]
    phase_reached: Value,
    /// What the evaluation said.
    #[serde(default)]
    evaluation_passed: Value,
    /// It is questions about a task that was not clear; the next message answers them.
    #[serde(default)]
    asks: Value,
    /// When.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "Option<Timestamp>"))]
    timestamp: Option<Moment>,
    /// `failed`, `cancelled` or `interrupted` where it was cut.
    #[serde(default)]
    outcome: Value,
}

#[cfg(test)]
pub(super) fn shapes(all: &mut api::shapes::Shapes) {
    all.takes::<SessionImport>("SessionImport");
}

/// What was sent.
fn read(call: &Call) -> Result<(Old, Source), HttpError> {
    let too_large = |text| Err(HttpError::new(ErrorStatus::PayloadTooLarge, "payload_too_large", text));
    let _: SessionImport = call.json_within(IMPORT_VALUES_MAX)?;
    let old: Old = call.json_within(IMPORT_VALUES_MAX)?;
    // It goes into the record of each message.
    old.user_id.iter().try_for_each(|user| chat::label("user_id", user))?;
    if !old.texts().any(|text| !text.is_empty()) {
        return Err(HttpError::bad_request("there is no message in it; send what the export of a session answers"));
    }
    let messages = old.texts().count();
    if messages > IMPORT_MESSAGES_MAX {
        return too_large(format!("it has {messages} messages and answers; at most {IMPORT_MESSAGES_MAX} are taken"));
    }
    Ok((old, Source::of(call.body.bytes())))
}

/// One session is brought in at a time: as texts and as a log it takes twice and more what came, and small machines have no room for
/// several. Others are told to come again: who waits holds what came.
static TURN: Semaphore = Semaphore::const_new(1);
/// About what one takes.
const RETRY_SECS: u64 = 2;

/// `POST /api/sessions/import`.
pub(crate) async fn import(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let owner = call.caller()?.owner();
    let turn = TURN.try_acquire().map_err(|_| {
        HttpError::new(ErrorStatus::TooManyRequests, "importing", "another session is being imported; send it again in a moment")
            .retry_after(RETRY_SECS)
    })?;
    // Its own task: whoever sends and goes leaves the turn to the work that is still done.
    let work = tokio::spawn(async move {
        let _turn = turn;
        bring_in(app, owner, call).await
    });
    work.await.map_err(|e| HttpError::internal(e.to_string()))?
}

async fn bring_in(app: Arc<App>, owner: OwnerId, call: Call) -> Result<Response, HttpError> {
    // Beside others' requests: so many bytes take a while. What came is given back with its call.
    let (old, source) = blocking(move || read(&call)).await?;
    let (spaces, personas) = (app.spaces.clone(), app.personas.clone());
    let (space, persona) = (old.held_in(), old.answered_by());
    let (space, persona) = blocking(move || -> Result<_, HttpError> {
        let space = match space.map(|id| spaces.resolve(owner, id)).transpose() {
            Err(SpaceError::NotFound) => None,
            found => found?.filter(|space| space.status == Status::Active).map(|space| space.id),
        };
        let persona = match persona.map(|id| personas.find(owner, id)).transpose() {
            Err(PersonaError::NotFound) => None,
            found => found?.map(|persona| persona.id),
        };
        Ok((space, persona))
    })
    .await?;
    let id = app.gateway.bring_in(owner, old, source, space, persona).await?.map_err(HttpError::bad_request)?;
    api::created(&app.sessions.item(owner, id).await?)
}
