//! Spaces (API B): list, make, change, put away, merge, delete, and which one new sessions get.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Map;

use crate::api::{self, App, Call, Listed, blocking};
use crate::base::ids::{OwnerId, SpaceId};
#[cfg(test)]
use crate::base::limits::{DESCRIPTION_BYTES_MAX, LABEL_BYTES_MAX, SPACE_CONTEXT_BYTES_MAX};
use crate::base::time::Timestamp;
use crate::events::Kind;
use crate::http::Response;
use crate::http::error::HttpError;
use crate::rooms::spaces::{Change, NewSpace, Space, SpaceError, Spaces, Status};

/// What a space is made of.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct SpaceText {
    /// One line of at most 256 bytes.
    #[cfg_attr(test, schemars(length(max = LABEL_BYTES_MAX), regex(pattern = api::shapes::LINE)))]
    name: String,
    /// What it is for; at most 1 KiB.
    #[serde(default)]
    #[cfg_attr(test, schemars(length(max = DESCRIPTION_BYTES_MAX)))]
    description: String,
    /// What is put before the model in its sessions; at most 8 KiB.
    #[serde(default)]
    #[cfg_attr(test, schemars(length(max = SPACE_CONTEXT_BYTES_MAX)))]
    context: String,
}

/// What is to be changed; what is absent or null stays.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct SpaceChange {
    /// One line of at most 256 bytes.
    #[cfg_attr(test, schemars(length(max = LABEL_BYTES_MAX), regex(pattern = api::shapes::LINE)))]
    name: Option<String>,
    /// At most 1 KiB.
    #[cfg_attr(test, schemars(length(max = DESCRIPTION_BYTES_MAX)))]
    description: Option<String>,
    /// At most 8 KiB.
    #[cfg_attr(test, schemars(length(max = SPACE_CONTEXT_BYTES_MAX)))]
    context: Option<String>,
}

/// Which space becomes a part of which.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct SpaceMerge {
    /// Is archived; what is said in it is said in `into` from now on. Restoring it parts them again.
    from: SpaceId,
    /// Stays as it is.
    into: SpaceId,
}

/// One space.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct SpaceDetail {
    /// Its id.
    id: SpaceId,
    /// Its name.
    name: String,
    /// What it is for.
    description: String,
    /// What is put before the model in its sessions.
    context: String,
    /// `active` or `archived`.
    status: Status,
    /// New sessions belong to it.
    current: bool,
    /// The space that it became part of.
    merged_into: Option<SpaceId>,
    /// When it was made.
    created_at: Timestamp,
    /// When it was last changed.
    updated_at: Timestamp,
}

/// Spaces, oldest first.
pub(crate) type SpacePage = Listed<SpaceDetail>;

/// The space of new sessions.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct CurrentSpace {
    /// Its id; null where new sessions belong to none.
    id: Option<SpaceId>,
    /// All of it.
    space: Option<SpaceDetail>,
}

/// One space is a part of another.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct SpacesMerged {
    /// `merged`.
    status: &'static str,
    /// The archived one.
    from: SpaceId,
    /// The one that stays.
    into: SpaceId,
}

/// A space was deleted.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct SpaceDeleted {
    /// `deleted`.
    status: &'static str,
    /// Its id.
    id: SpaceId,
}

#[cfg(test)]
pub(super) fn shapes(all: &mut api::shapes::Shapes) {
    all.takes::<SpaceText>("SpaceText");
    all.takes::<SpaceChange>("SpaceChange");
    all.takes::<SpaceMerge>("SpaceMerge");
    all.answers::<SpacePage>("SpacePage");
    all.answers::<SpaceDetail>("SpaceDetail");
    all.answers::<CurrentSpace>("CurrentSpace");
    all.answers::<SpacesMerged>("SpacesMerged");
    all.answers::<SpaceDeleted>("SpaceDeleted");
}

/// `GET /api/spaces`: oldest first, archived ones too.
pub(crate) async fn list(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (room, owner, page) = (app.spaces.clone(), call.caller()?.owner(), call.page()?);
    let (all, current) = blocking(move || Ok::<_, HttpError>((room.list(owner)?, room.current(owner)?))).await?;
    let shown: SpacePage = page.of(all.into_iter().map(|space| show(space, current.as_ref())).collect());
    api::json(&shown)
}

/// `POST /api/spaces`.
pub(crate) async fn create(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (room, owner, new) = (app.spaces.clone(), call.caller()?.owner(), call.json::<SpaceText>()?);
    let SpaceText { name, description, context } = new;
    let space = blocking(move || room.create(owner, NewSpace { name, description, context })).await?;
    publish(&app, owner, Kind::SpaceCreated, &[("space_id", space.id)]);
    api::created(&show(space, None))
}

/// `GET /api/spaces/current`.
pub(crate) async fn current(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (room, owner) = (app.spaces.clone(), call.caller()?.owner());
    let current = blocking(move || room.current(owner)).await?;
    let id = current.as_ref().map(|space| space.id);
    api::json(&CurrentSpace { id, space: current.map(|space| show(space.clone(), Some(&space))) })
}

/// `GET /api/spaces/{id}`.
pub(crate) async fn detail(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    act(&app, &call, Spaces::find).await
}

/// `PATCH /api/spaces/{id}`.
pub(crate) async fn change(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let SpaceChange { name, description, context } = call.json()?;
    act(&app, &call, move |room, owner, id| room.change(owner, id, Change { name, description, context })).await
}

/// `POST /api/spaces/{id}/activate`.
pub(crate) async fn activate(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let answer = act(&app, &call, Spaces::activate).await?;
    publish(&app, call.caller()?.owner(), Kind::SpaceActivated, &[("space_id", id(&call)?)]);
    Ok(answer)
}

/// `POST /api/spaces/{id}/archive`.
pub(crate) async fn archive(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (room, owner, id) = (app.spaces.clone(), call.caller()?.owner(), id(&call)?);
    let (space, fresh) = blocking(move || room.archive(owner, id)).await?;
    if fresh {
        publish(&app, owner, Kind::SpaceArchived, &[("space_id", id)]);
    }
    api::json(&show(space, None))
}

/// `POST /api/spaces/{id}/restore`.
pub(crate) async fn restore(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    act(&app, &call, Spaces::restore).await
}

/// `DELETE /api/spaces/{id}`: an archived one. Its sessions stay and go on without a space.
pub(crate) async fn delete(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (room, owner, id) = (app.spaces.clone(), call.caller()?.owner(), id(&call)?);
    blocking(move || room.delete(owner, id)).await?;
    api::json(&SpaceDeleted { status: "deleted", id })
}

/// `POST /api/spaces/merge`.
pub(crate) async fn merge(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (room, owner, SpaceMerge { from, into }) = (app.spaces.clone(), call.caller()?.owner(), call.json()?);
    blocking(move || room.merge(owner, from, into)).await?;
    publish(&app, owner, Kind::SpacesMerged, &[("from", from), ("into", into)]);
    api::json(&SpacesMerged { status: "merged", from, into })
}

/// A message is said in this space: it is there and not archived, or it is made, as a session with an unknown id is.
pub(super) async fn enter(app: &App, owner: OwnerId, id: Option<SpaceId>) -> Result<(), HttpError> {
    let (Some(id), room) = (id, app.spaces.clone()) else { return Ok(()) };
    let (_, fresh) = blocking(move || room.enter(owner, id)).await?;
    if fresh {
        publish(app, owner, Kind::SpaceCreated, &[("space_id", id)]);
    }
    Ok(())
}

/// Does this with the space of the path, and shows it as it then is.
async fn act(
    app: &App,
    call: &Call,
    what: impl FnOnce(&Spaces, OwnerId, SpaceId) -> Result<Space, SpaceError> + Send + 'static,
) -> Result<Response, HttpError> {
    let (room, owner, id) = (app.spaces.clone(), call.caller()?.owner(), id(call)?);
    let (space, current) = blocking(move || Ok::<_, SpaceError>((what(&room, owner, id)?, room.current(owner)?))).await?;
    api::json(&show(space, current.as_ref()))
}

fn show(space: Space, current: Option<&Space>) -> SpaceDetail {
    let Space { id, owner: _, name, description, context, status, merged_into, created_at, updated_at } = space;
    let current = current.is_some_and(|current| current.id == id);
    SpaceDetail { id, name, description, context, status, current, merged_into, created_at, updated_at }
}

fn publish(app: &App, owner: OwnerId, kind: Kind, ids: &[(&str, SpaceId)]) {
    let fields: Map<_, _> = ids.iter().map(|(name, id)| ((*name).to_owned(), id.to_string().into())).collect();
    app.events.publish(owner, kind, fields);
}

fn id(call: &Call) -> Result<SpaceId, HttpError> {
    SpaceId::parse(call.param("id")).map_err(|_| HttpError::bad_request("id: expected a UUID in lower case"))
}
