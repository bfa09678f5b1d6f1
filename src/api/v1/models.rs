//! `GET /v1/models` and `…/{model}`: what may stand in `model`.

use std::sync::Arc;

use serde::Serialize;

use crate::api::{self, App, Call};
use crate::http::Response;
use crate::http::error::{ErrorStatus, HttpError};
use crate::llm::Engine;

/// The agent's name.
pub(super) const AGENT: &str = "oxios";

/// All models.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ModelList {
    /// `list`.
    object: &'static str,
    /// The agent, then the configured model.
    data: Vec<ModelEntry>,
}

/// One model.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ModelEntry {
    /// What stands in `model`: `oxios`, or the name of the configured model.
    id: String,
    /// `model`.
    object: &'static str,
    /// When this server learnt of it, in Unix seconds: 0, it does not keep that.
    created: u64,
    /// `oxios-edge`, or the provider.
    owned_by: String,
}

/// `GET /v1/models`.
pub(crate) async fn list(app: Arc<App>, _: Call) -> Result<Response, HttpError> {
    let engine = app.engine.load();
    api::json(&ModelList { object: "list", data: vec![entry(AGENT), entry(engine.model_name())] })
}

/// `GET /v1/models/{model}`.
pub(crate) async fn detail(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (engine, asked) = (app.engine.load(), call.param("model"));
    if asked == AGENT {
        return api::json(&entry(AGENT));
    }
    check(&engine, asked)?;
    api::json(&entry(engine.model_name()))
}

fn entry(id: &str) -> ModelEntry {
    let provider = id.split_once('/').map_or("oxios-edge", |(provider, _)| provider);
    ModelEntry { id: id.to_owned(), object: "model", created: 0, owned_by: provider.to_owned() }
}

/// The plain model is the configured one, with or without its provider.
pub(super) fn check(engine: &Engine, asked: &str) -> Result<(), HttpError> {
    let name = engine.model_name();
    if asked == name || name.split_once('/').is_some_and(|(_, bare)| asked == bare) {
        return Ok(());
    }
    let public = "there is no such model here; GET /v1/models names those there are";
    Err(HttpError::new(ErrorStatus::NotFound, "model_not_found", public).param("model"))
}

#[cfg(test)]
pub(super) fn shapes(all: &mut api::shapes::Shapes) {
    all.answers::<ModelList>("ModelList");
    all.answers::<ModelEntry>("ModelEntry");
}
