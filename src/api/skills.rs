//! Skills (API A7): list, show, make, delete, switch on and off. They are the whole home's: a change is seen by every owner.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::api::{self, App, Call, Listed, blocking};
#[cfg(test)]
use crate::base::limits::{DESCRIPTION_BYTES_MAX, SKILL_BYTES_MAX, SKILL_NAME_CHARS_MAX};
use crate::http::Response;
use crate::http::error::HttpError;
use crate::rooms::skills::{Skill, SkillError};

/// A skill to be made.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct NewSkill {
    /// 1 to 64 letters, digits, `-` and `_`; not taken.
    #[cfg_attr(test, schemars(length(max = SKILL_NAME_CHARS_MAX), regex(pattern = "^[A-Za-z0-9_-]+$")))]
    name: String,
    /// What it is for and when to use it: all that the model sees before it reads the skill. At most 1 KiB.
    #[cfg_attr(test, schemars(length(max = DESCRIPTION_BYTES_MAX), regex(pattern = api::shapes::SAID)))]
    description: String,
    /// Markdown, at most 64 KiB; where it begins with front matter it is the whole SKILL.md.
    #[cfg_attr(test, schemars(length(max = SKILL_BYTES_MAX)))]
    content: Option<String>,
}

/// A skill was made.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct SkillCreated {
    /// `created`.
    status: &'static str,
    /// Its name.
    name: String,
}

/// A skill was deleted.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct SkillDeleted {
    /// `deleted`.
    status: &'static str,
    /// Its name.
    name: String,
}

/// A skill was switched on or off.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct SkillSwitched {
    /// `enabled` or `disabled`.
    status: &'static str,
    /// Its name.
    name: String,
}

/// The text of a skill.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct SkillContent {
    /// Its name.
    name: String,
    /// Its SKILL.md without front matter.
    content: String,
}

/// Skills by name.
pub(crate) type SkillPage = Listed<Skill>;

/// What rows of this area take and answer.
#[cfg(test)]
pub(super) fn shapes(all: &mut api::shapes::Shapes) {
    all.takes::<NewSkill>("NewSkill");
    all.answers::<SkillPage>("SkillPage");
    all.answers::<Skill>("Skill");
    all.answers::<SkillCreated>("SkillCreated");
    all.answers::<SkillDeleted>("SkillDeleted");
    all.answers::<SkillSwitched>("SkillSwitched");
    all.answers::<SkillContent>("SkillContent");
}

/// `GET /api/skills`: broken ones too, each with its problem.
pub(crate) async fn list(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (room, page) = (app.skills.clone(), call.page()?);
    let all = blocking(move || Ok::<_, SkillError>(room.list())).await?;
    let shown: SkillPage = page.of(all);
    api::json(&shown)
}

/// `POST /api/skills`: enabled at once, since its owner wrote it.
pub(crate) async fn create(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (room, new) = (app.skills.clone(), call.json::<NewSkill>()?);
    let name = new.name.clone();
    blocking(move || room.create(&new.name, &new.description, new.content.as_deref().unwrap_or_default())).await?;
    api::json(&SkillCreated { status: "created", name })
}

/// `GET /api/skills/{name}`.
pub(crate) async fn detail(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (room, name) = (app.skills.clone(), call.param("name").to_owned());
    api::json(&blocking(move || room.find(&name)).await?)
}

/// `GET /api/skills/{name}/content`: also of one that is switched off, so that a person can read it before enabling it.
pub(crate) async fn content(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (room, name) = (app.skills.clone(), call.param("name").to_owned());
    let wanted = name.clone();
    let content = blocking(move || room.content(&wanted)).await?;
    api::json(&SkillContent { name, content })
}

/// `DELETE /api/skills/{name}`: with all its files. What it hid (of an install or the binary) is seen again.
pub(crate) async fn delete(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (room, name) = (app.skills.clone(), call.param("name").to_owned());
    let wanted = name.clone();
    blocking(move || room.remove(&wanted)).await?;
    api::json(&SkillDeleted { status: "deleted", name })
}

/// `POST /api/skills/{name}/enable`.
pub(crate) async fn enable(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    switch(app, call, true).await
}

/// `POST /api/skills/{name}/disable`.
pub(crate) async fn disable(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    switch(app, call, false).await
}

async fn switch(app: Arc<App>, call: Call, on: bool) -> Result<Response, HttpError> {
    let (room, name) = (app.skills.clone(), call.param("name").to_owned());
    let wanted = name.clone();
    blocking(move || room.enable(&wanted, on)).await?;
    api::json(&SkillSwitched { status: if on { "enabled" } else { "disabled" }, name })
}
