//! The engine: which models answer, with which addresses, keys and times.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use hyper::header::{self, HeaderName, HeaderValue};

use crate::base::cancel::Cancel;
use crate::base::limits::{ANSWER_BYTES_MAX, MODEL_NAME_BYTES_MAX};
use crate::base::random::Random;
use crate::base::secret::Secret;
use crate::base::time::Clock;
use crate::http::client::{Client, Incoming, Outgoing, Target};
use crate::llm::anthropic;
use crate::llm::call::Call;
use crate::llm::error::{Kind, LlmError};
use crate::llm::offers::Offers;
use crate::llm::openai::Dialect;
use crate::llm::request::{Request, bytes_of};
use crate::wire::url::Url;

/// OpenAI's own address.
pub const OPENAI_URL: &str = "https://api.openai.com/v1";
/// Anthropic's own address.
pub const ANTHROPIC_URL: &str = "https://api.anthropic.com/v1";
/// What `openai/auto` is at OpenAI itself, whose list of models is long and in no order.
pub const OPENAI_MODEL: &str = "gpt-4.1-mini";
/// The model in this program.
const OFFLINE: &str = "offline";
/// The first model that a server lists.
const AUTO: &str = "auto";
/// What the offline model's context is said to be: it reads everything that a request can hold.
const OFFLINE_CONTEXT_TOKENS: u32 = 1_000_000;
/// The offline model looks through so much of what was said before. More would make each turn of a long conversation dearer.
const OFFLINE_HISTORY_BYTES: usize = 64 * 1024;

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
    /// Tokens that the model may write in one call (`engine.max_tokens`); a request may ask for fewer.
    pub max_tokens: u32,
    /// Time to connect.
    pub connect: Duration,
    /// Time from the request to the answer's head; reading a long prompt on a small board takes long.
    pub first_byte: Duration,
    /// Time between two pieces of the answer.
    pub between: Duration,
    /// The first pause before a failed call is tried again; the next one is twice as long.
    pub retry_pause: Duration,
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
            max_tokens: 2048,
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(120),
            between: Duration::from_secs(60),
            retry_pause: Duration::from_secs(1),
        }
    }
}

/// The models that answer. Cheap to make; swapped whole when settings change (calls under way keep the old one).
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
    /// What it was made of, for models that a client names.
    settings: Arc<Settings>,
    offers: Arc<Offers>,
}

/// What the calls of an engine have in common.
pub(crate) struct Shared {
    /// The default model, then the fallbacks. Never empty.
    pub(crate) models: Vec<Model>,
    context_tokens: u32,
    max_tokens: u32,
    connect: Duration,
    first_byte: Duration,
    between: Duration,
    pub(crate) retry_pause: Duration,
    client: Client,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
}

/// One model that may answer.
pub(crate) struct Model {
    /// `provider/model` as configured, or as a client named it.
    pub(crate) name: String,
    /// What errors and the log call it, where a client chose the name: that is content.
    told_as: Option<&'static str>,
    pub(crate) place: Place,
}

/// Where a model is.
pub(crate) enum Place {
    /// In this program.
    Offline,
    /// At a server.
    Server(Server),
}

/// A model at a server.
pub(crate) struct Server {
    pub(crate) protocol: Protocol,
    pub(crate) base: Url,
    key: Secret,
    /// The model as the server calls it; `auto` until it is known.
    wanted: String,
    /// What `auto` turned out to be, and its `provider/model`. Set once, by the first call that asks.
    found: OnceLock<(String, String)>,
    /// What the server has accepted so far, so that only the first call pays for finding out. Held for a copy only.
    dialect: Mutex<Dialect>,
}

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    OpenAi,
    Anthropic,
}

impl Engine {
    /// Checks the settings (model names, addresses, key characters); opens nothing.
    pub fn new(settings: Settings, client: Client, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Result<Self, LlmError> {
        let own = provider(&settings.default_model).map(|(protocol, _)| protocol);
        let names = std::iter::once(&settings.default_model).chain(&settings.fallback_models);
        let models = names.map(|name| model(name, &settings, own)).collect::<Result<_, _>>()?;
        let offers = Offers::of([Protocol::OpenAi, Protocol::Anthropic].map(|protocol| {
            // An address that is none shows where a model of this provider is configured.
            settings.reach(protocol).then(|| model(&format!("{}/auto", protocol.word()), &settings, own)).and_then(Result::ok)
        }));
        let Settings { context_tokens, max_tokens, connect, first_byte, between, retry_pause, .. } = settings;
        let shared = Shared { models, context_tokens, max_tokens, connect, first_byte, between, retry_pause, client, clock, random };
        Ok(Self { shared: Arc::new(shared), settings: Arc::new(settings), offers: Arc::new(offers) })
    }

    /// The engine for the model that a client names: the default model, with its fallbacks, by its name with or without the
    /// provider; else this model alone, at the provider that stands before it or at the default model's. None where that provider
    /// is not configured, or where this is no name of a model. Whether the provider has it shows when it is called.
    pub fn named(&self, asked: &str) -> Option<Self> {
        let own = self.model_name();
        let own_provider = own.split_once('/');
        if asked == own || own_provider.is_some_and(|(_, bare)| asked == bare) {
            return Some(self.clone());
        }
        let name = match (asked.split_once('/'), own_provider) {
            _ if asked == OFFLINE => asked.to_owned(),
            (Some(("openai" | "anthropic", _)), _) => asked.to_owned(),
            (Some((OFFLINE | "", _)), _) | (_, None) => return None,
            (_, Some((provider, _))) => format!("{provider}/{asked}"),
        };
        if provider(&name).is_some_and(|(protocol, wanted)| !self.settings.reach(protocol) || wanted == AUTO) {
            return None;
        }
        let own = provider(own).map(|(protocol, _)| protocol);
        let mut model = model(&name, &self.settings, own).ok()?;
        model.told_as = match &model.place {
            Place::Server(server) => Some(server.protocol.told_as()),
            Place::Offline => None,
        };
        let shared = Shared { models: vec![model], ..self.shared.like() };
        Some(Self { shared: Arc::new(shared), ..self.clone() })
    }

    /// The field of a plain call that the model cannot do, and without which the answer would be another one.
    pub fn beyond(&self, request: &Request) -> Option<&'static str> {
        self.shared.models.first().and_then(|model| request.beyond(&model.place))
    }

    /// What errors and the log call its model, where a client chose the name.
    pub fn told_as(&self) -> Option<&'static str> {
        self.shared.models.first().and_then(|model| model.told_as)
    }

    /// What its calls are counted as: a name that a client chose only where its provider offers it.
    pub fn counted_as(&self) -> &str {
        match self.shared.models.first() {
            Some(Model { name, told_as: Some(_), .. }) if !self.offers.known(name) => "other",
            _ => self.model_name(),
        }
    }

    pub(crate) fn offers(&self) -> &Offers {
        &self.offers
    }

    /// Begins a model call. Nothing is sent before the first [`Call::next`].
    pub fn call(&self, mut request: Request, cancel: &Cancel) -> Call {
        request.max_tokens = self.written_at_most(&request);
        Call::new(self.shared.clone(), request, cancel.clone())
    }

    /// Tokens that a call of this request may use: what there is to read, estimated, and what may be written.
    pub fn tokens_at_most(&self, request: &Request) -> u64 {
        request.tokens().saturating_add(self.written_at_most(request).into())
    }

    fn written_at_most(&self, request: &Request) -> u32 {
        let most = self.max_tokens();
        if request.max_tokens == 0 { most } else { request.max_tokens.min(most) }
    }

    /// Tokens that one call may write at most, and writes at most where its request has no wish (`engine.max_tokens`).
    pub fn max_tokens(&self) -> u32 {
        self.shared.max_tokens
    }

    /// `provider/model` of the default model, as configured.
    pub fn model_name(&self) -> &str {
        self.shared.models.first().map_or("offline", |m| &m.name)
    }

    /// Tokens of context that a request and its answer may use together: `engine.context_tokens` (default 8,192, what a small
    /// local server has), for the offline model a million.
    pub fn context_tokens(&self) -> u32 {
        if self.is_offline() { OFFLINE_CONTEXT_TOKENS } else { self.shared.context_tokens }
    }

    /// Bytes of earlier turns that a request can use, the newest: what fits the context, or the part that the offline model looks
    /// through. What is older need not be read.
    pub fn history_bytes(&self) -> usize {
        if self.is_offline() {
            return OFFLINE_HISTORY_BYTES;
        }
        bytes_of(self.context_tokens()).min(ANSWER_BYTES_MAX)
    }

    /// The default model is the built-in one.
    pub fn is_offline(&self) -> bool {
        matches!(self.shared.models.first(), Some(Model { place: Place::Offline, .. }) | None)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Settings {
    /// The addresses of all servers that an engine of these settings may ask, also for a model that a client names.
    pub fn addresses(&self) -> Vec<Url> {
        let own = provider(&self.default_model).map(|(protocol, _)| protocol);
        let reached = [Protocol::OpenAi, Protocol::Anthropic].into_iter().filter(|protocol| self.reach(*protocol));
        // One that is none shows where an engine is made.
        reached.filter_map(|protocol| Url::parse(&self.address(protocol, own)).ok()).collect()
    }

    /// The address of the default model's server; none where it is in this program.
    pub fn address_of_default(&self) -> Option<Url> {
        let (protocol, _) = provider(&self.default_model)?;
        Url::parse(&self.address(protocol, Some(protocol))).ok()
    }

    /// The address of a provider's server, where the default model is of the provider `own`.
    fn address(&self, protocol: Protocol, own: Option<Protocol>) -> String {
        let (access, default) = match protocol {
            Protocol::OpenAi => (&self.openai, OPENAI_URL),
            Protocol::Anthropic => (&self.anthropic, ANTHROPIC_URL),
        };
        let set = [self.base_url.as_str(), &access.base_url, default];
        let first = usize::from(own != Some(protocol));
        set.into_iter().skip(first).find(|address| !address.is_empty()).unwrap_or(default).to_owned()
    }

    /// This provider can be asked: the default model or a fallback is one of its, or it has a key or an address of its own.
    fn reach(&self, protocol: Protocol) -> bool {
        let access = match protocol {
            Protocol::OpenAi => &self.openai,
            Protocol::Anthropic => &self.anthropic,
        };
        let mut named = std::iter::once(&self.default_model).chain(&self.fallback_models);
        named.any(|name| provider(name).is_some_and(|(of, _)| of == protocol))
            || !access.base_url.is_empty()
            || !access.api_key.reveal().is_empty()
    }
}

impl Shared {
    /// The same without models.
    fn like(&self) -> Self {
        Self { models: Vec::new(), client: self.client.clone(), clock: self.clock.clone(), random: self.random.clone(), ..*self }
    }

    /// Sends a request to a model's server; any status but a redirect is an answer.
    pub(crate) async fn send(&self, name: &str, server: &Server, method: Method, path: &str, body: Vec<u8>) -> Result<Incoming, LlmError> {
        let outgoing = Outgoing {
            target: Target::Url(server.base.clone()),
            method,
            path_and_query: server.base.beneath(path),
            headers: server.headers(!body.is_empty())?,
            body: Bytes::from(body),
            connect: self.connect,
            first_byte: self.first_byte,
            between: self.between,
        };
        self.client.send(outgoing).await.map_err(|e| LlmError::from_client(name, &e))
    }
}

impl Model {
    /// `provider/model` that answers, with `auto` replaced once it is known.
    pub(crate) fn known_as(&self) -> &str {
        match &self.place {
            Place::Server(server) => server.found.get().map_or(&self.name, |(_, name)| name),
            Place::Offline => &self.name,
        }
    }

    /// The same in errors and in the log.
    pub(crate) fn told_as(&self) -> &str {
        self.told_as.unwrap_or_else(|| self.known_as())
    }
}

impl Server {
    /// The model as the server calls it, unless it must be asked first.
    pub(crate) fn model(&self) -> Option<&str> {
        match self.found.get() {
            Some((id, _)) => Some(id),
            None if self.wanted != AUTO => Some(&self.wanted),
            // SECURITY: no question needed, and none sent, where the answer is known.
            None if self.is_openai() => Some(OPENAI_MODEL),
            None => None,
        }
    }

    /// Remembers what `auto` is.
    pub(crate) fn found(&self, id: &str) {
        let _ = self.found.set((id.to_owned(), format!("{}/{id}", self.protocol.word())));
    }

    /// What the server takes, as far as it is known.
    pub(crate) fn dialect(&self) -> Dialect {
        *self.dialect.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Remembers a dialect that the server has accepted.
    pub(crate) fn learn(&self, dialect: Dialect) {
        *self.dialect.lock().unwrap_or_else(|e| e.into_inner()) = dialect;
    }

    fn is_openai(&self) -> bool {
        is_openai(&self.base)
    }

    fn headers(&self, has_body: bool) -> Result<Vec<(HeaderName, HeaderValue)>, LlmError> {
        let secret = |text: String| {
            let mut value = HeaderValue::from_str(&text)
                .map_err(|_| LlmError::new(Kind::BadRequest, "the API key has characters that no header can carry", "bad key"))?;
            value.set_sensitive(true);
            Ok(value)
        };
        let mut headers = Vec::with_capacity(3);
        if has_body {
            headers.push((header::CONTENT_TYPE, HeaderValue::from_static("application/json")));
        }
        let key = self.key.reveal();
        match self.protocol {
            Protocol::OpenAi if !key.is_empty() => headers.push((header::AUTHORIZATION, secret(format!("Bearer {key}"))?)),
            Protocol::OpenAi => {}
            Protocol::Anthropic => {
                headers.push((HeaderName::from_static("anthropic-version"), HeaderValue::from_static(anthropic::VERSION)));
                if !key.is_empty() {
                    headers.push((HeaderName::from_static("x-api-key"), secret(key.to_owned())?));
                }
            }
        }
        Ok(headers)
    }
}

impl Protocol {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
        }
    }
    /// A model of it whose name a client chose.
    fn told_as(self) -> &'static str {
        match self {
            Self::OpenAi => "openai/(as asked)",
            Self::Anthropic => "anthropic/(as asked)",
        }
    }
}

fn is_openai(base: &Url) -> bool {
    base.host() == "api.openai.com"
}

/// The protocol and model of `provider/model`; the model may have slashes of its own.
fn provider(name: &str) -> Option<(Protocol, &str)> {
    match name.split_once('/')? {
        (_, "") => None,
        ("openai", model) => Some((Protocol::OpenAi, model)),
        ("anthropic", model) => Some((Protocol::Anthropic, model)),
        _ => None,
    }
}

fn model(name: &str, settings: &Settings, own: Option<Protocol>) -> Result<Model, LlmError> {
    let wrong = |text: String| LlmError::new(Kind::BadRequest, text.clone(), text);
    if name == OFFLINE {
        return Ok(Model { name: name.to_owned(), told_as: None, place: Place::Offline });
    }
    let usable = name.len() <= MODEL_NAME_BYTES_MAX && !name.chars().any(|c| c.is_control());
    let Some((protocol, wanted)) = provider(name).filter(|_| usable) else {
        return Err(wrong(format!("model `{}`: expected offline, openai/<model> or anthropic/<model>", name.escape_default())));
    };
    let access = match protocol {
        Protocol::OpenAi => &settings.openai,
        Protocol::Anthropic => &settings.anthropic,
    };
    // SECURITY: engine.base_url and engine.api_key belong to the default model's provider; another provider's server never gets that key.
    let key = match own == Some(protocol) && !settings.api_key.reveal().is_empty() {
        true => settings.api_key.reveal(),
        false => access.api_key.reveal(),
    };
    let base = Url::parse(&settings.address(protocol, own)).map_err(|e| wrong(format!("engine.base_url: {e}")))?;
    let dialect = Mutex::new(Dialect { completion_tokens: is_openai(&base), ..Dialect::default() });
    let server = Server { protocol, base, key: Secret::new(key.trim()), wanted: wanted.to_owned(), found: OnceLock::new(), dialect };
    server.headers(false)?;
    Ok(Model { name: name.to_owned(), told_as: None, place: Place::Server(server) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::SystemRandom;
    use crate::base::time::SystemClock;
    use crate::http::client::ClientSettings;

    fn engine(settings: Settings) -> Result<Engine, LlmError> {
        let client = Client::new(ClientSettings::default());
        Engine::new(settings, client, Arc::new(SystemClock::new()), Arc::new(SystemRandom::new()))
    }

    fn server(engine: &Engine, at: usize) -> &Server {
        match &engine.shared.models[at].place {
            Place::Server(server) => server,
            Place::Offline => panic!("offline"),
        }
    }

    #[test]
    fn a_key_goes_to_its_own_provider_only() {
        let engine = engine(Settings {
            default_model: "openai/org/model".into(),
            base_url: "http://127.0.0.1:8080/v1".into(),
            api_key: Secret::new("local"),
            fallback_models: vec!["anthropic/claude".into(), "openai/other".into(), "offline".into()],
            openai: Access { base_url: String::new(), api_key: Secret::new("env-openai") },
            anthropic: Access { base_url: String::new(), api_key: Secret::new("env-anthropic") },
            ..Settings::default()
        })
        .unwrap();
        let (local, claude, other) = (server(&engine, 0), server(&engine, 1), server(&engine, 2));
        assert_eq!((local.model(), local.key.reveal(), local.base.host()), (Some("org/model"), "local", "127.0.0.1"));
        assert_eq!((claude.key.reveal(), claude.base.to_string().as_str()), ("env-anthropic", ANTHROPIC_URL));
        assert_eq!((other.key.reveal(), other.base.host()), ("local", "127.0.0.1"));
        assert!(!engine.is_offline());
        assert_eq!((engine.context_tokens(), engine.model_name()), (8192, "openai/org/model"));
    }

    #[test]
    fn wrong_settings_are_named() {
        for (name, url, key, word) in [
            ("gpt-4", "", "", "openai/<model>"),
            ("openai/", "", "", "openai/<model>"),
            ("mistral/x", "", "", "openai/<model>"),
            ("openai/x", "localhost:8080", "", "engine.base_url"),
            ("openai/x", "", "a\nb", "API key"),
        ] {
            let settings = Settings { default_model: name.into(), base_url: url.into(), api_key: Secret::new(key), ..Settings::default() };
            let e = engine(settings).err().unwrap();
            assert!(e.public.contains(word), "{}", e.public);
            assert!(key.is_empty() || !e.public.contains(key));
        }
        let offline = engine(Settings::default()).unwrap();
        assert!(offline.is_offline() && offline.context_tokens() == OFFLINE_CONTEXT_TOKENS);
        assert_eq!(offline.history_bytes(), 65_536, "a long conversation costs no more than this at each turn");
        let history = |context_tokens| {
            let settings =
                Settings { default_model: "openai/x".into(), base_url: "http://h/v1".into(), context_tokens, ..Settings::default() };
            engine(settings).unwrap().history_bytes()
        };
        assert_eq!((history(8192), history(10_000_000)), (24_576, ANSWER_BYTES_MAX));
    }
}
