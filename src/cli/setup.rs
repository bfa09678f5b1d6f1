//! From the checked configuration to the plain settings of each room.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::args::Parsed;
use super::output::Failure;
use crate::app::Setup;
use crate::base::log;
use crate::base::secret::Secret;
use crate::config::{Config, Provider};
use crate::http::listener::{self, Listen};
use crate::pipeline::QueryToken;
use crate::{api, gateway, llm, orchestrator, pipeline, rooms, store};

/// Requests and streams last this much longer than the runs that they wait for, so that an answer cut at the end of the drain
/// is still told.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Where to listen: `--listen`, else `gateway.host` and `gateway.port`.
pub(super) fn listen(parsed: &Parsed, config: &Config) -> Result<Listen, Failure> {
    if let Some(text) = parsed.value("listen") {
        let text = text.replacen("localhost:", "127.0.0.1:", 1);
        let listen = Listen::parse(&text)
            .ok_or_else(|| Failure::usage(format!("--listen {text}: write ADDR:PORT, for example 127.0.0.1:4200, or unix:/path")))?;
        // `<home>/address` is read from other working directories.
        return Ok(match listen {
            Listen::Unix(path) => Listen::Unix(std::path::absolute(&path).unwrap_or(path)),
            tcp => tcp,
        });
    }
    let ip = match config.text("gateway.host").unwrap_or("127.0.0.1") {
        "localhost" => IpAddr::from(Ipv4Addr::LOCALHOST),
        text => text.parse().map_err(|_| Failure::usage(format!("gateway.host: {text:?} is no IP address")))?,
    };
    Ok(Listen::Tcp(SocketAddr::new(ip, small(config.whole("gateway.port")))))
}

/// Everything that `app::serve` needs.
pub(super) fn house(config: &Config) -> Setup {
    Setup {
        workspace: Some(config.workspace()),
        sessions: store::sessions::Settings {
            projection: match config.text("session.projection") {
                Some("lazy") => store::sessions::Projection::Lazy,
                _ => store::sessions::Projection::Eager,
            },
            auto_prune: config.yes("session.auto_prune"),
            max_sessions: size(config.whole("session.max_sessions")),
            ttl_hours: config.whole("session.ttl_hours"),
        },
        engine: engine(config),
        judges: config.list("orchestrator.judges").iter().map(|model| judge(config, model)).collect(),
        memory: rooms::memory::Settings {
            enabled: config.yes("memory.enabled"),
            max_recall: size(config.whole("memory.max_recall")),
            embedding: embedding(config),
        },
        orchestrator: orchestrator::Settings {
            max_evolution_iterations: small(config.whole("orchestrator.max_evolution_iterations")),
            min_evaluation_score: config.decimal("orchestrator.min_evaluation_score"),
            max_model_calls: small(config.whole("orchestrator.max_model_calls")),
            max_tokens: config.whole("orchestrator.max_tokens_per_run"),
            max_execution: seconds(config, "security.max_execution_time_secs"),
            approval_ttl: Duration::from_secs(config.whole("security.approval_ttl_hours") * 3600),
        },
        gateway: gateway::Settings {
            max_concurrent: size(config.whole("gateway.max_concurrent")),
            max_waiting: size(config.whole("gateway.max_waiting")),
            lane_policy: match config.text("gateway.lane_policy") {
                Some("reject") => gateway::LanePolicy::Reject,
                Some("interrupt") => gateway::LanePolicy::Interrupt,
                _ => gateway::LanePolicy::Enqueue,
            },
            max_execution: seconds(config, "security.max_execution_time_secs"),
            ..gateway::Settings::default()
        },
        api: api::Settings {
            max_sessions: config.whole("session.max_sessions"),
            ttl_hours: config.whole("session.ttl_hours"),
            max_execution: seconds(config, "security.max_execution_time_secs"),
            memory_enabled: config.yes("memory.enabled"),
        },
        pipeline: pipeline::Settings {
            allowed_hosts: config.list("security.allowed_hosts").to_vec(),
            cors_origins: config.list("security.cors_origins").to_vec(),
            rate_limit_per_minute: small(config.whole("security.rate_limit_per_minute")),
            auth_enabled: config.yes("security.auth_enabled"),
            query_token: match config.text("security.query_token") {
                Some("always") => QueryToken::Always,
                Some("never") => QueryToken::Never,
                _ => QueryToken::Loopback,
            },
            extra_key: config.extra_key().cloned(),
        },
        connections: listener::Settings {
            connections_max: size(config.whole("gateway.max_connections")),
            trusted_proxies: config.list("gateway.trusted_proxies").iter().filter_map(|text| text.parse().ok()).collect(),
            drain: seconds(config, "gateway.drain_secs") + LAST_WORDS,
            ..listener::Settings::default()
        },
        drain: seconds(config, "gateway.drain_secs"),
        // The seams are the system's own.
        ..Setup::new(config.home().to_owned())
    }
}

/// The models.
pub(super) fn engine(config: &Config) -> llm::Settings {
    let model = config.model().model;
    let provider = Provider::of(&model);
    let access = |provider| llm::engine::Access {
        base_url: config.base_url(provider).unwrap_or_default(),
        api_key: config.api_key(provider).unwrap_or_default(),
    };
    llm::Settings {
        // What goes with the default model is worked out in `config`, where the environment comes before the file.
        base_url: config.base_url(provider).unwrap_or_default(),
        api_key: config.api_key(provider).unwrap_or_default(),
        default_model: model,
        fallback_models: config.list("engine.fallback_models").to_vec(),
        openai: access(Provider::OpenAi),
        anthropic: access(Provider::Anthropic),
        context_tokens: small(config.whole("engine.context_tokens")),
        max_tokens: small(config.whole("engine.max_tokens")),
        connect: seconds(config, "engine.connect_timeout_secs"),
        first_byte: seconds(config, "engine.first_byte_timeout_secs"),
        between: seconds(config, "engine.stall_timeout_secs"),
        ..llm::Settings::default()
    }
}

/// What makes vectors of memories, where a model is set.
fn embedding(config: &Config) -> Option<llm::embeddings::Settings> {
    let model = config.text("memory.embedding_model")?.to_owned();
    let own_key = config.secret("memory.embedding_api_key").cloned();
    // SECURITY: an address of its own gets the key that was set for it, never the provider's.
    let (base_url, api_key) = match config.text("memory.embedding_base_url") {
        Some(own) => (own.to_owned(), own_key),
        None => (config.base_url(Provider::OpenAi).unwrap_or_default(), own_key.or_else(|| config.api_key(Provider::OpenAi))),
    };
    let (connect, wait) = (seconds(config, "engine.connect_timeout_secs"), seconds(config, "engine.stall_timeout_secs"));
    Some(llm::embeddings::Settings { model, base_url, api_key: api_key.unwrap_or_default(), connect, wait })
}

/// A further judge: its own model, with the address and key that its provider has.
fn judge(config: &Config, model: &str) -> llm::Settings {
    llm::Settings {
        default_model: model.to_owned(),
        base_url: String::new(),
        api_key: Secret::default(),
        fallback_models: Vec::new(),
        ..engine(config)
    }
}

/// Form and level of the log.
pub(super) fn log(config: &Config) {
    let format = if config.text("logging.format") == Some("json") { log::Format::Json } else { log::Format::Pretty };
    let level = match config.text("logging.level") {
        Some("error") => log::Level::Error,
        Some("warn") => log::Level::Warn,
        _ => log::Level::Info,
    };
    log::configure(format, level);
}

fn seconds(config: &Config, path: &str) -> Duration {
    Duration::from_secs(config.whole(path))
}

/// A number whose bounds in the table fit the type.
fn small<T: TryFrom<u64> + Default>(n: u64) -> T {
    debug_assert!(T::try_from(n).is_ok(), "the table lets {n} through");
    T::try_from(n).unwrap_or_default()
}

fn size(n: u64) -> usize {
    small(n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Invocation, parse};
    use crate::config::Env;
    use std::path::Path;

    fn config(text: &str) -> Config {
        Config::from_text(Path::new("/h"), text, &Env::new(), &[]).unwrap()
    }
    fn where_to(args: &[&str], text: &str) -> Result<Listen, Failure> {
        let args: Vec<String> = args.iter().map(|s| (*s).to_owned()).collect();
        let Ok(Invocation::Run(parsed)) = parse(&args) else { panic!("{args:?}") };
        listen(&parsed, &config(text))
    }

    /// The rooms' own defaults and the table's must not drift apart.
    #[test]
    fn the_tables_defaults_are_the_rooms_defaults() {
        let setup = house(&config(""));
        assert_eq!(setup.gateway, gateway::Settings::default());
        assert_eq!(setup.sessions, store::sessions::Settings::default());
        assert_eq!(setup.orchestrator, orchestrator::Settings::default());
        assert_eq!(format!("{:?}", setup.memory), format!("{:?}", rooms::memory::Settings::default()));
        assert!(setup.judges.is_empty());
        let (ours, theirs) = (listener::Settings::default(), &setup.connections);
        assert_eq!((ours.connections_max, ours.drain), (theirs.connections_max, theirs.drain - LAST_WORDS));
        let (ours, theirs) = (pipeline::Settings::default(), &setup.pipeline);
        assert_eq!(
            (ours.rate_limit_per_minute, ours.auth_enabled, ours.query_token),
            (theirs.rate_limit_per_minute, theirs.auth_enabled, theirs.query_token)
        );
        assert_eq!(format!("{:?}", llm::Settings::default()), format!("{:?}", setup.engine));
    }

    #[test]
    fn the_place_to_listen() {
        let tcp = |text: &str| Listen::Tcp(text.parse().unwrap());
        assert_eq!(where_to(&[], "").unwrap(), tcp("127.0.0.1:4200"));
        assert_eq!(where_to(&[], "[gateway]\nhost = \"::1\"\nport = 0\n").unwrap(), tcp("[::1]:0"));
        assert_eq!(where_to(&["--listen", "localhost:80"], "").unwrap(), tcp("127.0.0.1:80"));
        assert_eq!(where_to(&["--listen", "unix:/run/x"], "").unwrap(), Listen::Unix("/run/x".into()));
        assert_eq!(where_to(&["--listen", "4200"], "").unwrap_err().code, 2);
    }
}
