//! The configuration over HTTP (API A8): shown without secrets, changed and in force at once.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::api::error::disk_full;
use crate::api::{self, App, Call};
use crate::http::Response;
use crate::http::error::{ErrorStatus, HttpError};
use crate::llm::Engine;

/// The configuration of the running server, as the routes need it; `config` furnishes it. Every method may block.
pub trait Configuration: Send + Sync {
    /// What file, environment and command line say, section by section; secrets as `***`. All of it is in force but what
    /// `restart_required` names.
    fn show(&self) -> Map<String, Value>;
    /// Merges, checks, writes to the file, puts in force; all or nothing. Changes take turns.
    ///
    /// # Errors
    /// See [`Refused`]; nothing is changed then.
    fn change(&self, wanted: &Map<String, Value>) -> Result<Changed, Refused>;
    /// Every key: what it means, what it takes, and where its value comes from.
    fn keys(&self) -> Vec<ConfigKey>;
    /// The engine that a change would make; nothing is written.
    ///
    /// # Errors
    /// As [`Configuration::change`], and where the environment would keep the change from having an effect.
    fn engine_with(&self, wanted: &Map<String, Value>) -> Result<Engine, Refused>;
    /// An engine for this provider, with its configured address and, unless one is given, its configured key.
    ///
    /// # Errors
    /// The name is no provider, the key is none that a header can carry, or the process is shut in without that provider.
    fn provider_engine(&self, provider: &str, api_key: Option<&str>) -> Result<Engine, Refused>;
    /// The engine's section as it is in force; secrets as `***`.
    fn engine(&self) -> Map<String, Value>;
    /// Every provider, as they are in force.
    fn providers(&self) -> Vec<EngineProvider>;
}

/// A key of the configuration. Its value is in `GET /api/config`.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ConfigKey {
    /// `section.key`; in `mcp.servers.<name>.…` the name is free.
    pub path: &'static str,
    /// What it means, with its unit.
    pub meaning: &'static str,
    /// `text`, `whole`, `decimal`, `bool`, `word`, `list` or `secrets` (a table of secret texts).
    pub kind: &'static str,
    /// The words of a `word`.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub words: &'static [&'static str],
    /// Least and greatest value of a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bounds: Option<[f64; 2]>,
    /// Its default as one writes it in the environment; empty: not set.
    pub default: &'static str,
    /// Shown as `***`.
    pub secret: bool,
    /// A change is felt without a restart.
    pub live: bool,
    /// The environment variable or flag that sets it and goes before the file; none where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set_by: Option<String>,
}

/// Every key.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ConfigKeys {
    /// By section, in the order of the documents.
    keys: Vec<ConfigKey>,
}

/// What a change did.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Changed {
    /// Always `updated`.
    pub status: &'static str,
    /// Keys whose value in the file is felt only after a restart.
    pub restart_required: Vec<String>,
    /// Keys that stay as they are because the environment or a flag sets them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overridden_by_env: Vec<String>,
}

/// Why a change was refused. The texts are for whoever asked; none of them has a secret in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// The wish is wrong; each key of it that is.
    Bad(String),
    /// What is there stands against it.
    Conflict(String),
    /// The disk takes nothing, for this reason; nothing was changed.
    DiskFull(&'static str),
    /// The disk failed; for the log.
    Failed(String),
}

/// A provider of models.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EngineProvider {
    /// `offline`, `openai` or `anthropic`.
    pub name: &'static str,
    /// It has what it needs: a key or an address of its own.
    pub configured: bool,
    /// The default model is one of its.
    pub active: bool,
    /// It has a key.
    pub api_key_set: bool,
    /// Where it is asked.
    pub base_url: Option<String>,
}

impl From<Refused> for HttpError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Bad(text) => Self::bad_request(text).code("config"),
            Refused::Conflict(text) => Self::conflict(text).code("config"),
            Refused::DiskFull(why) => disk_full(format!("config.toml is as it was: {why}")),
            Refused::Failed(text) => Self::internal(text).code("config"),
        }
    }
}

/// The sections of the configuration, each an object of its keys.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(transparent)]
struct Config(Map<String, Value>);

/// Names for the route table.
#[cfg(test)]
pub(super) fn shapes(to: &mut api::shapes::Shapes) {
    to.answers::<Config>("Config");
    to.takes::<Map<String, Value>>("ConfigChange");
    to.answers::<Changed>("ConfigChanged");
    to.answers::<ConfigKeys>("ConfigKeys");
}

/// `GET /api/config`.
pub(crate) async fn show(app: Arc<App>, _call: Call) -> Result<Response, HttpError> {
    let configuration = app.configuration.clone();
    let shown = api::blocking(move || Ok::<_, HttpError>(configuration.show())).await?;
    api::json(&Config(shown))
}

/// `GET /api/config/keys`.
pub(crate) async fn keys(app: Arc<App>, _call: Call) -> Result<Response, HttpError> {
    let configuration = app.configuration.clone();
    let keys = api::blocking(move || Ok::<_, HttpError>(configuration.keys())).await?;
    api::json(&ConfigKeys { keys })
}

/// `PUT /api/config`.
pub(crate) async fn change(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let wanted: Value = call.json()?;
    let Value::Object(wanted) = wanted else {
        return Err(HttpError::new(ErrorStatus::BadRequest, "config", "write the sections as an object: {\"session\":{\"ttl_hours\":72}}"));
    };
    let configuration = app.configuration.clone();
    let changed = api::blocking(move || configuration.change(&wanted)).await?;
    api::json(&changed)
}
