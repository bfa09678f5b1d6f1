//! The one table of configuration keys. Parsing, checking, the environment's names, `config show` and the README's table all
//! come from it. A key is here only if the program uses it.

use std::borrow::Cow;

use super::suggest::nearest;
use super::tool_servers;
use super::value::{Kind, Value};
use crate::base::limits::{GROUP_MAX, MODEL_NAME_BYTES_MAX};
use crate::http::proxies::TrustedProxies;
use crate::rooms::site::fetch::Source;

/// One key.
#[derive(Debug)]
pub struct Key {
    /// `section.key`.
    pub path: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Its default as one would write it in the environment; empty: not set.
    pub default: &'static str,
    /// What it means, in a sentence or two, with its unit.
    pub meaning: &'static str,
    /// Shown as `***`.
    pub secret: bool,
    /// A change is felt without a restart.
    pub live: bool,
    /// What its type cannot say; an error is what was expected.
    pub(super) check: fn(&Value) -> Result<(), Expected>,
}

/// What a key expects, in words; never a value that was found.
pub(super) type Expected = Cow<'static, str>;

use Kind::{Bool, Decimal, List, OneOf, Secrets, Text, Whole};

const fn key(path: &'static str, kind: Kind, default: &'static str, meaning: &'static str) -> Key {
    Key { path, kind, default, meaning, secret: false, live: true, check: anything }
}

/// Read once, at the start.
const fn restart(key: Key) -> Key {
    Key { live: false, ..key }
}

const fn checked(key: Key, check: fn(&Value) -> Result<(), Expected>) -> Key {
    Key { check, ..key }
}

/// A day in seconds: nothing here should wait longer.
const DAY: u64 = 86_400;
/// Room for counts that have no natural bound.
const MANY: u64 = 1_000_000;

/// Every key, by section.
pub const KEYS: &[Key] = &[
    restart(key(
        "kernel.workspace",
        Text,
        "",
        "Directory of sessions, files, memory and skills; relative paths start at the home. Not set: `<home>/workspace`.",
    )),
    checked(
        restart(key("gateway.host", Text, "127.0.0.1", "Address to listen on. Anything but a loopback address is reachable by others.")),
        host,
    ),
    restart(key("gateway.port", Whole(0, 65535), "4200", "Port to listen on; 0 picks a free one.")),
    restart(key("gateway.max_concurrent", Whole(1, 10_000), "32", "Runs of the agent at the same time, in the whole process.")),
    restart(key(
        "gateway.max_waiting",
        Whole(0, MANY),
        "128",
        "Messages that wait for a free run, in the whole process; more are refused with 503.",
    )),
    restart(key(
        "gateway.max_connections",
        Whole(1, MANY),
        "4096",
        "Open connections; lowered to what the system's limit on descriptors allows.",
    )),
    checked(
        restart(key(
            "gateway.trusted_proxies",
            List,
            "",
            "IP addresses or networks (`10.0.0.0/8`) of proxies in front (`unix`: whoever opens the socket file). What they say in `Forwarded` or `X-Forwarded-For` counts as the peer; they are exempt from the cap on connections of one peer.",
        )),
        proxies,
    ),
    checked(
        restart(key(
            "gateway.base_path",
            Text,
            "",
            "What stands before every path, for example `/oxios`, where a reverse proxy serves this beneath a path of its own; paths without it are answered, too.",
        )),
        base_path,
    ),
    key(
        "gateway.lane_policy",
        OneOf(&["enqueue", "reject", "interrupt"]),
        "enqueue",
        "A message for a session that is still answering: it waits, is refused with 429, or cancels the answer.",
    ),
    restart(key(
        "gateway.drain_secs",
        Whole(0, 3600),
        "30",
        "Seconds that running answers get to finish at shutdown; then they are interrupted.",
    )),
    checked(
        key(
            "engine.default_model",
            Text,
            "",
            "`offline`, `openai/<model>` (any OpenAI-compatible server; `openai/auto` takes the first model that it lists) or `anthropic/<model>`. Not set: chosen by which provider variables are set, else `offline`.",
        ),
        model,
    ),
    Key {
        secret: true,
        check: api_key,
        ..key(
            "engine.api_key",
            Text,
            "",
            "Key for the default model's provider. `OPENAI_API_KEY` or `ANTHROPIC_API_KEY`, where it is set, goes before one in the file.",
        )
    },
    checked(
        key(
            "engine.base_url",
            Text,
            "",
            "Address of the default model's server with its version segment, for example `http://127.0.0.1:8080/v1`. `OPENAI_BASE_URL`, where it is set, goes before one in the file. Not set: the provider's own.",
        ),
        url,
    ),
    checked(key("engine.fallback_models", List, "", "Models asked in turn when the default one cannot answer."), models),
    key(
        "engine.context_tokens",
        Whole(512, 10_000_000),
        "8192",
        "The model's context; older turns are left out to fit it. With less than about 2,500 there may be no room for tools, and the model only talks.",
    ),
    key("engine.max_tokens", Whole(16, 1_000_000), "2048", "Most tokens that the model writes in one call."),
    key("engine.connect_timeout_secs", Whole(1, DAY), "10", "Seconds to connect to the model's server."),
    key(
        "engine.first_byte_timeout_secs",
        Whole(1, DAY),
        "120",
        "Seconds from the request to the first byte of the answer; small boards read long prompts slowly.",
    ),
    key("engine.stall_timeout_secs", Whole(1, DAY), "60", "Seconds between two pieces of an answer."),
    key("security.auth_enabled", Bool, "true", "Ask for a key. Without it everyone who reaches the port is the owner."),
    checked(
        key(
            "security.allowed_hosts",
            List,
            "",
            "Names under which the server may be addressed, besides loopback names and the address a connection came in at; `name` or `name:port`.",
        ),
        hosts,
    ),
    key("security.query_token", OneOf(&["loopback", "always", "never"]), "loopback", "From whom the WebSocket takes `?token=`."),
    checked(key("security.cors_origins", List, "", "Web origins that may call the API, for example `https://app.example`."), origins),
    key(
        "security.rate_limit_per_minute",
        Whole(0, MANY),
        "600",
        "Requests of one key in a minute, messages on its WebSockets included; 0 is off.",
    ),
    restart(key(
        "security.landlock",
        OneOf(&["auto", "off", "required"]),
        "auto",
        "Keep the server to the files beneath its home and to the TCP ports that its configuration names, by the kernel (Landlock): where that is possible, never, or else do not start. Keys that lead to another port then need a restart, and so does a first tool server that is a program, for which the sandbox is off.",
    )),
    key("security.max_execution_time_secs", Whole(1, DAY), "300", "Seconds one run may take; waiting for an approval does not count."),
    key("security.approval_ttl_hours", Whole(1, 8760), "24", "Hours after which an unanswered approval lapses."),
    key("session.auto_prune", Bool, "true", "Delete sessions by the two limits below, at most once an hour."),
    key("session.max_sessions", Whole(0, 100_000_000), "0", "Sessions to keep, the newest; 0 is off."),
    key("session.ttl_hours", Whole(0, MANY), "0", "Hours after which an untouched session is deleted; 0 is off."),
    key(
        "session.projection",
        OneOf(&["eager", "lazy"]),
        "eager",
        "When `<id>.json` is written beside a session's log: after each turn while small, or at shutdown only.",
    ),
    restart(key(
        "session.sync_secs",
        Whole(0, 60),
        "0",
        "For flash that wears out. 0: each message, answer and audit record is durable before it is acknowledged. Else this is done for all of them together, every so many seconds, and a power cut takes back what came since; a killed process loses nothing.",
    )),
    key(
        "orchestrator.max_evolution_iterations",
        Whole(0, 10),
        "3",
        "How often a task that fails its evaluation is repaired and run again.",
    ),
    key("orchestrator.min_evaluation_score", Decimal(0.0, 1.0), "0.8", "Score from which an evaluation counts as passed."),
    checked(key("orchestrator.judges", List, "", "Further models that must agree with an evaluation (majority)."), models),
    key("orchestrator.max_model_calls", Whole(1, 10_000), "40", "Model calls of one run."),
    key(
        "orchestrator.max_group_size",
        Whole(0, GROUP_MAX as u64),
        "4",
        "Agents that one task with several acceptance criteria may be split into; 0 is off.",
    ),
    key("orchestrator.max_tokens_per_run", Whole(1, 1_000_000_000), "400000", "Tokens of one run, read and written."),
    key("memory.enabled", Bool, "true", "Offer the memory tools and recall before answering."),
    key(
        "memory.max_recall",
        Whole(1, 100),
        "10",
        "Memories that one recall gives at most, by the tool or before an answer; there the longest are cut to fit.",
    ),
    checked(
        key(
            "memory.embedding_model",
            Text,
            "",
            "`openai/<model>`: memories are ranked by meaning, too, with vectors of this model. Not set: by their words.",
        ),
        embedding_model,
    ),
    checked(
        key(
            "memory.embedding_base_url",
            Text,
            "",
            "Address of the embedding model's server with its version segment. Not set: that of the openai provider, with its key.",
        ),
        url,
    ),
    Key {
        secret: true,
        check: api_key,
        ..key("memory.embedding_api_key", Text, "", "Key for `memory.embedding_base_url`; another address's key is never sent there.")
    },
    key("audit.enabled", Bool, "true", "Record every change in the audit log."),
    key(
        "audit.on_failure",
        OneOf(&["refuse", "continue"]),
        "refuse",
        "Where the audit log cannot be written: changes are refused, or go on and are counted as lost in the log.",
    ),
    key("metrics.public", Bool, "false", "Let everyone who reaches the port read `/metrics`, without a key."),
    key(
        "web.dist",
        Text,
        "",
        "Directory of a page of your own, with an `index.html`; relative paths start at the home. Not set, or without one: `<home>/web/dist`, `<workspace>/web/dist`, else the page that the binary carries.",
    ),
    checked(
        key(
            "web.auto_update",
            Text,
            "",
            "A page that is fetched by itself into `web.dist`, else `<home>/web/dist`, whenever this names another one: an address, a space, `sha256:` and the archive's digest. Not set: nothing is ever downloaded by itself. Needs the feature `archives`.",
        ),
        page_source,
    ),
    key("logging.format", OneOf(&["pretty", "json"]), "pretty", "Form of the log on standard error."),
    key("logging.level", OneOf(&["error", "warn", "info"]), "info", "How much the log says."),
    key("mcp.servers.<name>.command", Text, "", "Tool server that is a program: a path, or a name on `PATH`. Either this or `url`."),
    key("mcp.servers.<name>.args", List, "", "Arguments of the program, as they are; no shell reads them."),
    Key {
        secret: true,
        check: tool_servers::variables,
        ..key("mcp.servers.<name>.env", Secrets, "", "Environment of the program besides `PATH`, `HOME` and `LANG`; values are secret.")
    },
    checked(key("mcp.servers.<name>.url", Text, "", "Tool server of the streamable HTTP transport: its address."), url),
    Key {
        secret: true,
        check: tool_servers::headers,
        ..key("mcp.servers.<name>.headers", Secrets, "", "Header fields of every request to the server; values are secret.")
    },
    key("mcp.servers.<name>.enabled", Bool, "true", "Use the server at all."),
    key("mcp.servers.<name>.timeout_secs", Whole(1, 3600), "30", "Seconds that the server may take to start, and to answer."),
    key(
        "mcp.servers.<name>.trust",
        Bool,
        "false",
        "Believe the server's word that a tool only reads; without it a person is asked before each tool runs.",
    ),
];

/// The key with this path.
pub fn find(path: &str) -> Option<&'static Key> {
    if let Some(name) = server(path) {
        return KEYS.iter().find(|key| key.is_free() && key.named(name) == path);
    }
    KEYS.iter().find(|key| key.path == path && !key.is_free())
}

/// The name in `mcp.servers.<name>.…`, where it is one: 1 to 32 letters, digits, `-` or `_`.
pub(super) fn server(path: &str) -> Option<&str> {
    let (name, _) = path.strip_prefix("mcp.servers.")?.split_once('.')?;
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    // Two `_` divide a server's name from its tool's.
    let plain = !name.is_empty() && name.len() <= 32 && name.chars().all(good);
    (plain && !name.contains("__") && !name.ends_with('_')).then_some(name)
}

impl Key {
    /// The part before the dot.
    pub fn section(&self) -> &'static str {
        self.path.split_once('.').map_or(self.path, |(section, _)| section)
    }
    /// The part after the last dot.
    pub fn name(&self) -> &'static str {
        self.path.rsplit_once('.').map_or(self.path, |(_, name)| name)
    }
    /// Its path has a name that the user chooses.
    pub fn is_free(&self) -> bool {
        self.path.contains("<name>")
    }
    /// Its path with this name.
    pub(super) fn named(&self, name: &str) -> String {
        self.path.replace("<name>", name)
    }
    /// Its environment variable.
    pub fn variable(&self) -> String {
        format!("OXIOS_{}", self.path.replace('.', "__").to_ascii_uppercase())
    }
    /// Its type in words.
    pub fn type_name(&self) -> String {
        match self.kind {
            Text => "a text".to_owned(),
            Whole(min, max) => format!("a whole number from {min} to {max}"),
            Decimal(min, max) => format!("a number from {min} to {max}"),
            Bool => "true or false".to_owned(),
            OneOf(words) => format!("one of {}", words.join(", ")),
            List => "a list of texts".to_owned(),
            Secrets => "a table of texts".to_owned(),
        }
    }

    /// When a change is felt, in two words.
    pub(super) fn felt(&self) -> &'static str {
        if self.live { "at once" } else { "restart" }
    }
    pub(super) fn default_value(&self) -> Result<Value, String> {
        if self.kind == Secrets {
            Ok(Value::Secrets(Default::default()))
        } else if self.default.is_empty() && self.kind != List {
            Ok(Value::Unset)
        } else {
            Value::parse(self, self.default)
        }
    }
    /// What it takes. SECURITY: what was found is never quoted: anything may stand there by mistake, and this goes to the log.
    pub(super) fn expected(&self) -> String {
        format!("expected {}", self.type_name())
    }
}

/// What to say about a path that is not in the table.
pub(super) fn unknown(path: &str) -> String {
    let name = path.split_once('.').map_or(path, |(_, name)| name);
    // A slip in the path, else the right name in the wrong section.
    let hint = nearest(path, KEYS.iter().map(|key| key.path))
        .or_else(|| KEYS.iter().find(|key| key.name() == name).map(|key| key.path))
        .map(|path| format!("; did you mean {path}?"))
        .unwrap_or_else(|| "; `oxios-edge config show` lists all".to_owned());
    format!("unknown key {}{hint}", printable(path))
}

/// A foreign name for a message: short, without control characters.
pub(super) fn printable(name: &str) -> String {
    name.chars().take(80).map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn anything(_: &Value) -> Result<(), Expected> {
    Ok(())
}

fn all(value: &Value, expected: &'static str, good: fn(&str) -> bool) -> Result<(), Expected> {
    let good = match value {
        Value::Text(text) => good(text),
        Value::List(items) => items.iter().all(|item| good(item)),
        _ => true,
    };
    if good { Ok(()) } else { Err(expected.into()) }
}

fn is_model(text: &str) -> bool {
    let fits = |c: char| !c.is_whitespace() && !c.is_control();
    let named = |prefix| text.strip_prefix(prefix).is_some_and(|name: &str| !name.is_empty() && name.chars().all(fits));
    text == "offline" || text.len() <= MODEL_NAME_BYTES_MAX && (named("openai/") || named("anthropic/"))
}

fn model(value: &Value) -> Result<(), Expected> {
    all(value, "offline, openai/<model> or anthropic/<model>", is_model)
}

fn api_key(value: &Value) -> Result<(), Expected> {
    let carried = |text: &str| text.trim().bytes().all(|b| (b' '..=b'~').contains(&b));
    match value {
        Value::Hidden(secret) if !carried(secret.reveal()) => Err("ASCII characters, as a header field has them".into()),
        _ => Ok(()),
    }
}

fn embedding_model(value: &Value) -> Result<(), Expected> {
    all(value, "openai/<model>", |text| text.starts_with("openai/") && is_model(text))
}

fn models(value: &Value) -> Result<(), Expected> {
    all(value, "a list of offline, openai/<model> or anthropic/<model>", is_model)
}

fn url(value: &Value) -> Result<(), Expected> {
    all(value, "an address such as http://127.0.0.1:8080/v1, without user, query or fragment", |text| {
        crate::wire::url::Url::parse(text).is_ok() && !text.contains('?')
    })
}

fn page_source(value: &Value) -> Result<(), Expected> {
    all(value, "an address, a space, and sha256: with 64 hexadecimal digits", |text| Source::parse(text).is_some())
}

fn host(value: &Value) -> Result<(), Expected> {
    all(value, "an IP address (without port) or localhost", |text| text == "localhost" || text.parse::<std::net::IpAddr>().is_ok())
}

fn base_path(value: &Value) -> Result<(), Expected> {
    // Beneath one of these, paths of ours that came without it would be taken for others.
    const OURS: [&str; 6] = ["api", "v1", "mcp", "metrics", "health", "assets"];
    all(
        value,
        "a path such as /oxios: a slash and a name, without one at its end, and not below /api, /v1, /mcp, /metrics, /health, /assets",
        |text| {
            let first = text.split('/').nth(1);
            first.is_none_or(|first| !OURS.contains(&first))
                && text.split('/').skip(1).all(|name| {
                    !name.is_empty() && name != "." && name != ".." && name.chars().all(|c| c.is_ascii_alphanumeric() || "-._~".contains(c))
                })
                && text.starts_with('/')
        },
    )
}

fn proxies(value: &Value) -> Result<(), Expected> {
    all(value, "a list of IP addresses, networks such as 10.0.0.0/8 (nothing behind the prefix), or unix", |text| {
        TrustedProxies::parse([text]).is_some()
    })
}

fn hosts(value: &Value) -> Result<(), Expected> {
    all(value, "a list of host names, each with or without a port", |text| !text.contains(['/', '@', ' ', '*']) && text.is_ascii())
}

fn origins(value: &Value) -> Result<(), Expected> {
    all(value, "a list of origins such as https://app.example", |text| {
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['/', '@', ' ', '*', '?', '#']))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_whole() {
        for (i, key) in KEYS.iter().enumerate() {
            assert_eq!(key.path.matches('.').count(), if key.is_free() { 3 } else { 1 }, "{}", key.path);
            assert!(KEYS[i + 1..].iter().all(|other| other.path != key.path), "{} twice", key.path);
            assert!(key.default_value().is_ok(), "{}: {:?}", key.path, key.default_value());
            assert!(key.meaning.ends_with('.') && !key.meaning.contains('|'), "{}", key.path);
        }
        // Sections stand together, so that what is shown is valid TOML.
        let mut sections: Vec<_> = KEYS.iter().map(Key::section).collect();
        sections.dedup();
        let count = sections.len();
        sections.sort_unstable();
        sections.dedup();
        assert_eq!(sections.len(), count);
    }

    #[test]
    fn unknown_names_get_a_hint() {
        assert_eq!(unknown("engine.port"), "unknown key engine.port; did you mean gateway.port?");
        assert_eq!(unknown("engine.default_modle"), "unknown key engine.default_modle; did you mean engine.default_model?");
        assert!(unknown("a.b").contains("config show"));
    }

    #[test]
    fn checks_know_good_from_bad() {
        let cases: &[(&str, &str, bool)] = &[
            ("engine.default_model", "offline", true),
            ("engine.default_model", "openai/org/model:tag", true),
            ("engine.default_model", "openai/", false),
            ("engine.base_url", "http://[::1]:8080/v1", true),
            ("engine.base_url", "ftp://x", false),
            ("engine.base_url", "http://user:pw@x/v1", false),
            ("gateway.trusted_proxies", "10.0.0.1,::1,unix", true),
            ("gateway.trusted_proxies", "172.16.0.0/12", true),
            ("gateway.trusted_proxies", "172.16.0.1/12", false),
            ("gateway.trusted_proxies", "proxy", false),
            ("security.cors_origins", "https://a.example", true),
            ("security.cors_origins", "*", false),
            ("orchestrator.min_evaluation_score", "1.5", false),
            ("orchestrator.min_evaluation_score", "nan", false),
            ("gateway.base_path", "/a", true),
            ("gateway.base_path", "/a/b-c", true),
            ("gateway.base_path", "/", false),
            ("gateway.base_path", "a", false),
            ("gateway.base_path", "/a/", false),
            ("gateway.base_path", "/a/../b", false),
            ("gateway.base_path", "/a%2fb", false),
            ("gateway.base_path", "/api", false),
            ("gateway.base_path", "/v1/x", false),
            ("gateway.base_path", "/x/v1", true),
            ("gateway.base_path", "/apis", true),
            ("gateway.host", "0.0.0.0", true),
            ("gateway.host", "a:80", false),
        ];
        for (path, text, good) in cases {
            let found = Value::parse(find(path).unwrap(), text);
            assert_eq!(found.is_ok(), *good, "{path} = {text}");
            // Of several refusals each is told at its field: they are parted there.
            assert!(found.is_ok() || !found.unwrap_err().contains("; "), "{path} = {text}");
        }
    }
}
