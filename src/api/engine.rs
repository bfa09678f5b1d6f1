//! Models over HTTP: which there are, which one answers; a new one is tried before it is kept.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use crate::api::config::EngineProvider;
use crate::api::{self, App, Call};
use crate::base::secret::Secret;
use crate::http::Response;
use crate::http::error::{ErrorStatus, HttpError};
use crate::llm::{Engine, Kind, LlmError};

/// A list of models or a verdict on a key takes no longer.
const ASKED_MAX: Duration = Duration::from_secs(15);
/// A first word of a model that a small board has to load may take a while.
const TRIED_MAX: Duration = Duration::from_secs(120);

/// A model's name.
#[cfg(test)]
const MODEL: &str = r"^(offline|(openai|anthropic)/\S+)$";

/// Every provider.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct EngineProviders {
    /// Offline first.
    providers: Vec<EngineProvider>,
}

/// What a provider offers now.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct EngineModels {
    /// Who was asked.
    provider: String,
    /// `provider/model`, as `engine.default_model` takes it.
    models: Vec<String>,
}

/// The engine's settings as they are in force; secrets as `***`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(transparent)]
struct EngineConfig(Map<String, Value>);

/// Another default model, and what goes with it; what is absent stays.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct NewModel {
    /// `offline`, `openai/<model>` or `anthropic/<model>`.
    #[cfg_attr(test, schemars(regex(pattern = MODEL)))]
    model: String,
    /// Where it is asked, with the version segment; null: at its provider's own address.
    #[serde(default, deserialize_with = "named")]
    base_url: Option<Option<String>>,
    /// Its key; null: none, but for the one in the provider's own variable.
    #[serde(default, deserialize_with = "named")]
    #[cfg_attr(test, schemars(with = "Option<String>", regex(pattern = api::shapes::SAID)))]
    api_key: Option<Option<Secret>>,
}

/// Another key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct NewEngineKey {
    /// The key for the default model's provider.
    #[cfg_attr(test, schemars(with = "String", regex(pattern = api::shapes::SAID)))]
    api_key: Secret,
    /// Makes this the default model too; needed while the offline model answers, which has no key.
    #[serde(default)]
    #[cfg_attr(test, schemars(regex(pattern = MODEL)))]
    model: Option<String>,
}

/// A key to try.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct KeyToTry {
    /// `openai` or `anthropic`.
    #[cfg_attr(test, schemars(regex(pattern = "^(openai|anthropic)$")))]
    provider: String,
    /// The key; the configured one without it.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    api_key: Option<Secret>,
}

/// What the provider said of a key.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct KeyTried {
    /// The provider takes it.
    valid: bool,
    /// Who was asked.
    provider: String,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// The engine after a change.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct EngineChanged {
    /// Always `updated`.
    status: &'static str,
    /// The model that answers from now on.
    model: String,
}

/// Names for the route table.
#[cfg(test)]
pub(super) fn shapes(to: &mut api::shapes::Shapes) {
    to.answers::<EngineProviders>("EngineProviders");
    to.answers::<EngineModels>("EngineModels");
    to.answers::<EngineConfig>("EngineConfig");
    to.takes::<NewModel>("NewModel");
    to.takes::<NewEngineKey>("NewEngineKey");
    to.takes::<KeyToTry>("KeyToTry");
    to.answers::<KeyTried>("KeyTried");
    to.answers::<EngineChanged>("EngineChanged");
}

/// `GET /api/engine/providers`.
pub(crate) async fn providers(app: Arc<App>, _call: Call) -> Result<Response, HttpError> {
    let configuration = app.configuration.clone();
    let providers = api::blocking(move || Ok::<_, HttpError>(configuration.providers())).await?;
    api::json(&EngineProviders { providers })
}

/// `GET /api/engine/models`: of the default model's provider, or of `?provider=`.
pub(crate) async fn models(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let provider = match call.query.get("provider") {
        Some(name) => name.to_owned(),
        None => app.engine.load().model_name().split('/').next().unwrap_or_default().to_owned(),
    };
    let engine = asked(&app, &provider, None).await?;
    let listed = timeout(ASKED_MAX, engine.models(&app.shutdown)).await.map_err(|_| late())?.map_err(failed)?;
    let full = |id: String| if provider == "offline" { id } else { format!("{provider}/{id}") };
    api::json(&EngineModels { models: listed.into_iter().map(full).collect(), provider })
}

/// `GET /api/engine/config`.
pub(crate) async fn config(app: Arc<App>, _call: Call) -> Result<Response, HttpError> {
    let configuration = app.configuration.clone();
    let engine = api::blocking(move || Ok::<_, HttpError>(configuration.engine())).await?;
    api::json(&EngineConfig(engine))
}

/// `PUT /api/engine/model`.
pub(crate) async fn set_model(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let wanted: NewModel = call.json()?;
    let mut engine = Map::from_iter([("default_model".to_owned(), json!(wanted.model))]);
    // In one change: an address that is in force without its key, or a key without its address, goes to the wrong server.
    if let Some(address) = wanted.base_url {
        engine.insert("base_url".to_owned(), json!(address));
    }
    if let Some(key) = wanted.api_key {
        engine.insert("api_key".to_owned(), json!(key.as_ref().map(itself).transpose()?));
    }
    change(&app, json!({ "engine": engine })).await
}

/// `PUT /api/engine/api-key`.
pub(crate) async fn set_key(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let wanted: NewEngineKey = call.json()?;
    let mut engine = Map::from_iter([("api_key".to_owned(), json!(itself(&wanted.api_key)?))]);
    match wanted.model {
        Some(model) => drop(engine.insert("default_model".to_owned(), json!(model))),
        None if app.engine.load().is_offline() => {
            return Err(HttpError::bad_request("the offline model has no key; name the model that the key is for: \"model\":\"openai/…\""));
        }
        None => {}
    }
    change(&app, json!({ "engine": engine })).await
}

/// `POST /api/engine/validate-key`.
pub(crate) async fn validate_key(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let wanted: KeyToTry = call.json()?;
    let provider = wanted.provider;
    if provider == "offline" {
        return Err(HttpError::bad_request("provider: expected openai or anthropic; the offline model has no key"));
    }
    let engine = asked(&app, &provider, wanted.api_key).await?;
    let error = match timeout(ASKED_MAX, engine.models(&app.shutdown)).await.map_err(|_| late())? {
        Ok(_) => None,
        Err(error) if error.kind == Kind::Refused => Some(error.public),
        Err(error) => return Err(failed(error)),
    };
    api::json(&KeyTried { valid: error.is_none(), provider, error })
}

/// A key, and not what stands for one.
fn itself(key: &Secret) -> Result<&str, HttpError> {
    match key.reveal() {
        text if text.trim().is_empty() || text == "***" => Err(HttpError::bad_request("api_key: write the key itself")),
        text => Ok(text),
    }
}

/// A field that is there, be it null.
fn named<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Tries what a change would make with a real call, then makes it.
async fn change(app: &Arc<App>, wanted: Value) -> Result<Response, HttpError> {
    let Value::Object(wanted) = wanted else { return Err(HttpError::internal("a change is an object")) };
    let (configuration, copy) = (app.configuration.clone(), wanted.clone());
    let engine = api::blocking(move || configuration.engine_with(&copy)).await?;
    timeout(TRIED_MAX, engine.prove(&app.shutdown)).await.map_err(|_| late())?.map_err(failed)?;
    let configuration = app.configuration.clone();
    api::blocking(move || configuration.change(&wanted)).await?;
    api::json(&EngineChanged { status: "updated", model: app.engine.load().model_name().to_owned() })
}

async fn asked(app: &Arc<App>, provider: &str, key: Option<Secret>) -> Result<Engine, HttpError> {
    let (configuration, provider) = (app.configuration.clone(), provider.to_owned());
    api::blocking(move || configuration.provider_engine(&provider, key.as_ref().map(Secret::reveal))).await
}

fn late() -> HttpError {
    HttpError::new(ErrorStatus::BadGateway, "model", "the model's server did not answer in time; nothing was changed")
}

fn failed(error: LlmError) -> HttpError {
    HttpError::new(ErrorStatus::BadGateway, "model", error.public)
}
