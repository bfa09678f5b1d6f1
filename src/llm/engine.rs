//! The engine: which models answer, with which keys and times; makes calls and probes.

use std::sync::Arc;
use std::time::Duration;

use crate::base::cancel::Cancel;
use crate::base::random::Random;
use crate::base::secret::Secret;
use crate::base::time::Clock;
use crate::http::client::Client;
use crate::llm::error::LlmError;
use crate::llm::request::{Event, Request};

/// Address and key of one provider.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// The address with its version segment; empty: the provider's own.
    pub base_url: String,
    /// The key; empty: none is sent.
    pub api_key: Secret,
}

/// Settings of the engine (`engine.*`).
#[derive(Debug, Clone)]
pub struct Settings {
    /// `offline`, `openai/<model>` or `anthropic/<model>`; the model `auto` takes the first that the server lists.
    pub default_model: String,
    /// Address with version segment for the provider of `default_model`; empty: `openai` or `anthropic` below, then the provider's own.
    pub base_url: String,
    /// Key for the provider of `default_model`; empty: `openai` or `anthropic` below.
    pub api_key: Secret,
    /// Tried in turn when the default model fails before its first visible token.
    pub fallback_models: Vec<String>,
    /// From `OPENAI_BASE_URL` and `OPENAI_API_KEY`.
    pub openai: Access,
    /// From `ANTHROPIC_API_KEY`.
    pub anthropic: Access,
    /// Tokens that the model can read and write in all.
    pub context_tokens: u32,
    /// Time to connect.
    pub connect: Duration,
    /// Time from the request to the answer's head.
    pub first_byte: Duration,
    /// Time between two pieces of the answer.
    pub between: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            default_model: "offline".to_owned(),
            base_url: String::new(),
            api_key: Secret::default(),
            fallback_models: Vec::new(),
            openai: Access::default(),
            anthropic: Access::default(),
            context_tokens: 8192,
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(120),
            between: Duration::from_secs(60),
        }
    }
}

/// The models that answer. Cheap to make; swapped whole when settings change.
pub struct Engine {
    settings: Settings,
}

/// What a provider said when it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// `provider/model` that was asked for (with `auto` resolved).
    pub model: String,
    /// Scheme, host and port; empty for offline.
    pub address: String,
    /// The server lists the model.
    pub listed: bool,
    /// The model wrote a token (asked where the list does not settle it).
    pub answered: bool,
    /// The models that the server lists, at most 100.
    pub models: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

impl Engine {
    /// Checks the settings (model names, URLs, key characters); opens nothing.
    pub fn new(settings: Settings, _client: Client, _clock: Arc<dyn Clock>, _random: Arc<dyn Random>) -> Result<Self, LlmError> {
        Ok(Self { settings })
    }
    /// Begins a model call. Nothing is sent before the first [`Call::next`].
    pub fn call(&self, _request: Request, _cancel: &Cancel) -> Call {
        todo!()
    }
    /// `provider/model` of the default model.
    pub fn model_name(&self) -> &str {
        &self.settings.default_model
    }
    /// Tokens of context that a request and its answer may use together.
    pub fn context_tokens(&self) -> u32 {
        todo!()
    }
    /// The default model is the built-in one.
    pub fn is_offline(&self) -> bool {
        todo!()
    }
    /// Really asks the default model's provider: its list of models, else for one token.
    pub async fn probe(&self, _cancel: &Cancel) -> Result<Probe, LlmError> {
        todo!()
    }
}

/// One model call under way. Dropping it closes the connection.
pub struct Call {}

impl Call {
    /// The next event; `None` after `Finish`. May be dropped and called again (in a `select!`) without losing anything. After an error only `None` follows.
    pub async fn next(&mut self) -> Result<Option<Event>, LlmError> {
        todo!()
    }
    /// `provider/model` that is answering (the default one until a fallback took over).
    pub fn model(&self) -> &str {
        todo!()
    }
}
