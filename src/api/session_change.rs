//! `PATCH /api/sessions/{id}` (API B): what a session is called, where it is held, in which manner it is answered.

use std::sync::Arc;

use serde::{Deserialize, Deserializer};

use crate::api::{self, App, Call, blocking, sessions};
use crate::base::ids::{PersonaId, SpaceId};
use crate::base::limits::LABEL_BYTES_MAX;
use crate::http::Response;
use crate::http::error::HttpError;
use crate::rooms::spaces::Status;
use crate::store::record::Change;

/// What is to be changed; what is absent stays.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct SessionChange {
    /// One line of at most 256 bytes; null or empty: the title that its first message gives.
    #[cfg_attr(test, schemars(length(max = LABEL_BYTES_MAX), regex(pattern = api::shapes::LINE_OR_NOTHING)))]
    #[serde(default, deserialize_with = "named")]
    title: Option<Option<String>>,
    /// Where it is held from now on, which must not be archived; null: in no space.
    #[serde(default, deserialize_with = "named")]
    space_id: Option<Option<SpaceId>>,
    /// The persona that answers from now on; null: none.
    #[serde(default, deserialize_with = "named")]
    persona_id: Option<Option<PersonaId>>,
}

#[cfg(test)]
pub(super) fn shapes(all: &mut api::shapes::Shapes) {
    all.takes::<SessionChange>("SessionChange");
    all.answers::<crate::store::sessions::SessionItem>("SessionItem");
}

/// `PATCH /api/sessions/{id}`.
pub(crate) async fn change(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (owner, id) = (call.caller()?.owner(), sessions::id(&call)?);
    let SessionChange { title, space_id, persona_id } = call.json()?;
    if title.iter().flatten().any(|title| title.len() > LABEL_BYTES_MAX || title.chars().any(char::is_control)) {
        return Err(HttpError::bad_request(format!("`title` must be one line of at most {LABEL_BYTES_MAX} bytes")));
    }
    let title = title.map(|title| title.map(|title| title.trim().to_owned()).filter(|title| !title.is_empty()));
    // Asked before the rooms are: nobody learns from another owner's session what is wrong with a request.
    let session = app.sessions.load(id, owner).await?;
    let (spaces, personas) = (app.spaces.clone(), app.personas.clone());
    let change = blocking(move || -> Result<Change, HttpError> {
        let mut space_id = space_id;
        if let Some(Some(space)) = &mut space_id {
            let found = spaces.resolve(owner, *space)?;
            if found.status == Status::Archived {
                return Err(HttpError::conflict("the space is archived; restore it first"));
            }
            *space = found.id;
        }
        if let Some(Some(persona)) = persona_id {
            personas.find(owner, persona)?;
        }
        Ok(Change { title, space_id, persona_id })
    })
    .await?;
    session.set_about(change).await?;
    api::json(&app.sessions.item(owner, id).await?)
}

/// A field that is there, be it null.
fn named<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}
