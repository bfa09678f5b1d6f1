//! Personas (API B): list, make, change, delete, and which one new sessions get.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::api::{self, App, Call, Listed, blocking};
use crate::base::ids::PersonaId;
#[cfg(test)]
use crate::base::limits::{DESCRIPTION_BYTES_MAX, LABEL_BYTES_MAX, PERSONA_PROMPT_BYTES_MAX};
use crate::base::time::Timestamp;
use crate::http::Response;
use crate::http::error::HttpError;
use crate::rooms::personas::{NewPersona, Persona};

/// What a persona is made of.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct PersonaText {
    /// One line of at most 256 bytes.
    #[cfg_attr(test, schemars(length(max = LABEL_BYTES_MAX), regex(pattern = api::shapes::LINE)))]
    name: String,
    /// What it is for; at most 1 KiB.
    #[serde(default)]
    #[cfg_attr(test, schemars(length(max = DESCRIPTION_BYTES_MAX)))]
    description: String,
    /// What stands among the model's instructions; at most 8 KiB.
    #[cfg_attr(test, schemars(length(max = PERSONA_PROMPT_BYTES_MAX), regex(pattern = api::shapes::SAID)))]
    prompt: String,
}

/// Which persona new sessions get.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(extend("required" = ["id"])))]
#[serde(deny_unknown_fields)]
pub(crate) struct PersonaChoice {
    /// A persona's id, or null for none.
    #[serde(deserialize_with = "Option::deserialize")]
    id: Option<PersonaId>,
}

/// One persona.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PersonaDetail {
    /// Its id.
    id: PersonaId,
    /// Its name.
    name: String,
    /// What it is for.
    description: String,
    /// What stands among the model's instructions.
    prompt: String,
    /// New sessions get it.
    active: bool,
    /// When it was made.
    created_at: Timestamp,
    /// When it was last changed.
    updated_at: Timestamp,
}

/// Personas, oldest first.
pub(crate) type PersonaPage = Listed<PersonaDetail>;

/// The persona of new sessions.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ActivePersona {
    /// Its id; null where new sessions get none.
    id: Option<PersonaId>,
    /// All of it.
    persona: Option<PersonaDetail>,
}

/// A persona is gone.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PersonaDeleted {
    /// `deleted`.
    status: &'static str,
    /// Its id.
    id: PersonaId,
}

#[cfg(test)]
pub(super) fn shapes(all: &mut api::shapes::Shapes) {
    all.takes::<PersonaText>("PersonaText");
    all.takes::<PersonaChoice>("PersonaChoice");
    all.answers::<PersonaPage>("PersonaPage");
    all.answers::<PersonaDetail>("PersonaDetail");
    all.answers::<ActivePersona>("ActivePersona");
    all.answers::<PersonaDeleted>("PersonaDeleted");
}

/// `GET /api/personas`: oldest first.
pub(crate) async fn list(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (room, owner, page) = (app.personas.clone(), call.caller()?.owner(), call.page()?);
    let (all, active) = blocking(move || Ok::<_, HttpError>((room.list(owner)?, room.active(owner)?))).await?;
    let shown: PersonaPage = page.of(all.into_iter().map(|persona| show(persona, active.as_ref())).collect());
    api::json(&shown)
}

/// `POST /api/personas`.
pub(crate) async fn create(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (room, owner, new) = (app.personas.clone(), call.caller()?.owner(), call.json::<PersonaText>()?);
    let persona = blocking(move || room.create(owner, new.into())).await?;
    api::created(&show(persona, None))
}

/// `GET /api/personas/{id}`.
pub(crate) async fn detail(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (room, owner, id) = (app.personas.clone(), call.caller()?.owner(), id(&call)?);
    let (persona, active) = blocking(move || Ok::<_, HttpError>((room.find(owner, id)?, room.active(owner)?))).await?;
    api::json(&show(persona, active.as_ref()))
}

/// `PUT /api/personas/{id}`: all of its texts.
pub(crate) async fn update(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (room, owner, id) = (app.personas.clone(), call.caller()?.owner(), id(&call)?);
    let new = call.json::<PersonaText>()?;
    let (persona, active) = blocking(move || Ok::<_, HttpError>((room.update(owner, id, new.into())?, room.active(owner)?))).await?;
    api::json(&show(persona, active.as_ref()))
}

/// `DELETE /api/personas/{id}`.
pub(crate) async fn delete(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (room, owner, id) = (app.personas.clone(), call.caller()?.owner(), id(&call)?);
    blocking(move || room.delete(owner, id)).await?;
    api::json(&PersonaDeleted { status: "deleted", id })
}

/// `GET /api/personas/active`.
pub(crate) async fn active(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (room, owner) = (app.personas.clone(), call.caller()?.owner());
    let active = blocking(move || room.active(owner)).await?;
    api::json(&show_active(active))
}

/// `PUT /api/personas/active`.
pub(crate) async fn set_active(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (room, owner, choice) = (app.personas.clone(), call.caller()?.owner(), call.json::<PersonaChoice>()?);
    let active = blocking(move || room.set_active(owner, choice.id)).await?;
    api::json(&show_active(active))
}

impl From<PersonaText> for NewPersona {
    fn from(text: PersonaText) -> Self {
        let PersonaText { name, description, prompt } = text;
        Self { name, description, prompt }
    }
}

fn show(persona: Persona, active: Option<&Persona>) -> PersonaDetail {
    let Persona { id, owner: _, name, description, prompt, created_at, updated_at } = persona;
    PersonaDetail { id, name, description, prompt, active: active.is_some_and(|active| active.id == id), created_at, updated_at }
}

fn show_active(active: Option<Persona>) -> ActivePersona {
    ActivePersona { id: active.as_ref().map(|persona| persona.id), persona: active.map(|persona| show(persona.clone(), Some(&persona))) }
}

fn id(call: &Call) -> Result<PersonaId, HttpError> {
    PersonaId::parse(call.param("id")).map_err(|_| HttpError::bad_request("id: expected a UUID in lower case"))
}
