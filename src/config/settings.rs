//! From the checked configuration to the plain settings of each room.

use std::path::PathBuf;
use std::time::Duration;

use super::{Config, Provider};
use crate::base::log;
use crate::base::secret::Secret;
use crate::http::listener;
use crate::http::proxies::TrustedProxies;
use crate::middleware::settings::QueryToken;
use crate::rooms::mcp;
use crate::wire::url::Url;
use crate::{api, gateway, llm, middleware, orchestrator, rooms, store};

/// Everything that is set, room by room.
#[derive(Clone)]
pub struct Settings {
    /// Where sessions, files and memory lie.
    pub workspace: PathBuf,
    /// Projections and pruning.
    pub sessions: store::sessions::Settings,
    /// The audit log.
    pub audit: store::audit::Settings,
    /// The models.
    pub engine: llm::Settings,
    /// Further judges of a result (`orchestrator.judges`), each with its model as the default one; usually none.
    pub judges: Vec<llm::Settings>,
    /// What is remembered.
    pub memory: rooms::memory::Settings,
    /// What skills may require of the configuration.
    pub skills: rooms::skills::Settings,
    /// The web page.
    pub site: rooms::site::Settings,
    /// Tool servers.
    pub mcp: mcp::Settings,
    /// Budgets of a run.
    pub orchestrator: orchestrator::Settings,
    /// Lanes, permits, deadlines.
    pub gateway: gateway::Settings,
    /// What the routes need to know.
    pub api: api::Settings,
    /// What every request is checked against.
    pub checks: middleware::settings::Settings,
    /// Limits on connections.
    pub connections: listener::Settings,
    /// How long runs may go on after the server was told to stop.
    pub drain: Duration,
    /// Form and level of the log.
    pub log: (log::Format, log::Level),
}

/// The settings of a checked configuration.
pub fn settings(config: &Config) -> Settings {
    Settings {
        workspace: config.workspace(),
        sessions: store::sessions::Settings {
            projection: match config.text("session.projection") {
                Some("lazy") => store::sessions::Projection::Lazy,
                _ => store::sessions::Projection::Eager,
            },
            auto_prune: config.yes("session.auto_prune"),
            max_sessions: size(config.whole("session.max_sessions")),
            ttl_hours: config.whole("session.ttl_hours"),
            sync_secs: config.whole("session.sync_secs"),
        },
        audit: store::audit::Settings { enabled: config.yes("audit.enabled"), go_on: config.text("audit.on_failure") == Some("continue") },
        engine: engine(config),
        judges: config.list("orchestrator.judges").iter().map(|model| judge(config, model)).collect(),
        memory: rooms::memory::Settings {
            enabled: config.yes("memory.enabled"),
            max_recall: size(config.whole("memory.max_recall")),
            embedding: embedding(config),
        },
        skills: rooms::skills::Settings { set: config.set_keys() },
        site: rooms::site::Settings {
            dist: config.text("web.dist").map(|path| config.home().join(path)),
            auto_update: config.text("web.auto_update").and_then(rooms::site::fetch::Source::parse),
        },
        mcp: mcp(config),
        orchestrator: orchestrator::Settings {
            max_evolution_iterations: small(config.whole("orchestrator.max_evolution_iterations")),
            min_evaluation_score: config.decimal("orchestrator.min_evaluation_score"),
            max_model_calls: small(config.whole("orchestrator.max_model_calls")),
            max_tokens: config.whole("orchestrator.max_tokens_per_run"),
            max_group_size: size(config.whole("orchestrator.max_group_size")),
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
            auth_enabled: config.yes("security.auth_enabled"),
            base_path: config.text("gateway.base_path").unwrap_or_default().to_owned(),
        },
        checks: middleware::settings::Settings {
            allowed_hosts: config.list("security.allowed_hosts").to_vec(),
            cors_origins: config.list("security.cors_origins").to_vec(),
            rate_limit_per_minute: small(config.whole("security.rate_limit_per_minute")),
            auth_enabled: config.yes("security.auth_enabled"),
            query_token: match config.text("security.query_token") {
                Some("always") => QueryToken::Always,
                Some("never") => QueryToken::Never,
                _ => QueryToken::Loopback,
            },
            metrics_public: config.yes("metrics.public"),
            extra_key: config.extra_key().cloned(),
        },
        connections: listener::Settings {
            connections_max: size(config.whole("gateway.max_connections")),
            trusted_proxies: TrustedProxies::parse(config.list("gateway.trusted_proxies").iter().map(String::as_str)).unwrap_or_default(),
            drain: seconds(config, "gateway.drain_secs"),
            ..listener::Settings::default()
        },
        drain: seconds(config, "gateway.drain_secs"),
        log: log(config),
    }
}

/// The models.
pub fn engine(config: &Config) -> llm::Settings {
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

/// The tool servers; one whose address does not hold (the check has seen it) is left out.
fn mcp(config: &Config) -> mcp::Settings {
    let server = |name: &String| {
        let path = |key: &str| format!("mcp.servers.{name}.{key}");
        let transport = match config.text(&path("command")) {
            Some(command) => mcp::Transport::Stdio {
                command: command.to_owned(),
                args: config.list(&path("args")).to_vec(),
                env: config.secrets(&path("env")),
            },
            None => mcp::Transport::Http { url: Url::parse(config.text(&path("url"))?).ok()?, headers: config.secrets(&path("headers")) },
        };
        let timeout = seconds(config, &path("timeout_secs"));
        Some((
            name.clone(),
            mcp::ServerSettings { transport, enabled: config.yes(&path("enabled")), timeout, trust: config.yes(&path("trust")) },
        ))
    };
    mcp::Settings { servers: config.servers().iter().filter_map(server).collect() }
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

fn log(config: &Config) -> (log::Format, log::Level) {
    let format = if config.text("logging.format") == Some("json") { log::Format::Json } else { log::Format::Pretty };
    let level = match config.text("logging.level") {
        Some("error") => log::Level::Error,
        Some("warn") => log::Level::Warn,
        _ => log::Level::Info,
    };
    (format, level)
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
    use crate::config::Env;
    use std::path::Path;

    fn config(text: &str) -> Config {
        Config::from_text(Path::new("/h"), text, &Env::new(), &[]).unwrap()
    }

    /// The rooms' own defaults and the table's must not drift apart.
    #[test]
    fn the_tables_defaults_are_the_rooms_defaults() {
        let setup = settings(&config(""));
        assert_eq!(setup.gateway, gateway::Settings::default());
        assert_eq!(setup.sessions, store::sessions::Settings::default());
        assert_eq!(setup.orchestrator, orchestrator::Settings::default());
        assert_eq!(format!("{:?}", setup.memory), format!("{:?}", rooms::memory::Settings::default()));
        assert!(setup.judges.is_empty());
        let (ours, theirs) = (listener::Settings::default(), &setup.connections);
        assert_eq!((ours.connections_max, ours.drain), (theirs.connections_max, theirs.drain));
        let (ours, theirs) = (middleware::settings::Settings::default(), &setup.checks);
        assert_eq!(
            (ours.rate_limit_per_minute, ours.auth_enabled, ours.query_token),
            (theirs.rate_limit_per_minute, theirs.auth_enabled, theirs.query_token)
        );
        assert_eq!(format!("{:?}", llm::Settings::default()), format!("{:?}", setup.engine));
    }
}
