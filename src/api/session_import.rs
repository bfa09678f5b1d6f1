//! `POST /api/sessions/import` (API B): an exported session becomes one of the caller's.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::api::{self, App, Call, blocking};
use crate::base::digest::sha256;
use crate::base::limits::{IMPORT_MESSAGES_MAX, IMPORT_VALUES_MAX};
use crate::http::Response;
use crate::http::error::{ErrorStatus, HttpError};
use crate::rooms::personas::PersonaError;
use crate::rooms::spaces::{SpaceError, Status};
use crate::store::import::Old;

/// What [`import`] takes, at most 4 MiB: what `GET /api/sessions/{id}` and the export answer, and no other fields. A file on the disk may
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
    created_at: Value,
    /// When it last changed.
    #[serde(default)]
    updated_at: Value,
    /// More, of any name; `title` is what it is called.
    #[serde(default)]
    metadata: Map<String, Value>,
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
    timestamp: Value,
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
    /// When.
    #[serde(default)]
    timestamp: Value,
    /// `failed`, `cancelled` or `interrupted` where it was cut.
    #[serde(default)]
    outcome: Value,
}

#[cfg(test)]
pub(super) fn shapes(all: &mut api::shapes::Shapes) {
    all.takes::<SessionImport>("SessionImport");
}

/// `POST /api/sessions/import`.
pub(crate) async fn import(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let owner = call.caller()?.owner();
    call.json_within::<SessionImport>(IMPORT_VALUES_MAX)?;
    let old: Old = call.json_within(IMPORT_VALUES_MAX)?;
    if !old.texts().any(|text| !text.is_empty()) {
        return Err(HttpError::bad_request("there is no message in it; send what the export of a session answers"));
    }
    let messages = old.texts().count();
    if messages > IMPORT_MESSAGES_MAX {
        let text = format!("it has {messages} messages and answers; at most {IMPORT_MESSAGES_MAX} are taken");
        return Err(HttpError::new(ErrorStatus::PayloadTooLarge, "payload_too_large", text));
    }
    let digest = sha256(call.body.bytes());
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
    let id = app.sessions.bring_in(owner, old, digest, space, persona).await?.map_err(HttpError::bad_request)?;
    api::created(&app.sessions.item(owner, id).await?)
}
