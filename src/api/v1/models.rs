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
    /// The agent, the configured model, what the configured providers list, and the offline model. Read from a provider at most once
    /// a minute; one that does not answer is left out.
    data: Vec<ModelEntry>,
}

/// One model.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ModelEntry {
    /// What stands in `model`: `oxios`, or `provider/model`.
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
    let offered = app.engine.load().models_offered().await;
    let data = std::iter::once(AGENT).chain(offered.iter().map(String::as_str)).map(entry).collect();
    api::json(&ModelList { object: "list", data })
}

/// `GET /v1/models/{model}`: of the list, also without the default model's provider.
pub(crate) async fn detail(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (engine, asked) = (app.engine.load(), call.param("model"));
    if asked == AGENT {
        return api::json(&entry(AGENT));
    }
    let named = choose(&engine, asked)?;
    let name = named.model_name();
    if name != engine.model_name() && !engine.models_offered().await.iter().any(|offered| offered == name) {
        return Err(unknown());
    }
    api::json(&entry(name))
}

fn entry(id: &str) -> ModelEntry {
    let provider = id.split_once('/').map_or("oxios-edge", |(provider, _)| provider);
    ModelEntry { id: id.to_owned(), object: "model", created: 0, owned_by: provider.to_owned() }
}

/// The plain model of this name.
pub(super) fn choose(engine: &Engine, asked: &str) -> Result<Engine, HttpError> {
    engine.named(asked).ok_or_else(unknown)
}

/// 404 as OpenAI words it.
pub(super) fn unknown() -> HttpError {
    let public = "there is no such model here; GET /v1/models names those there are";
    HttpError::new(ErrorStatus::NotFound, "model_not_found", public).param("model")
}

#[cfg(test)]
pub(super) fn shapes(all: &mut api::shapes::Shapes) {
    all.answers::<ModelList>("ModelList");
    all.answers::<ModelEntry>("ModelEntry");
}
