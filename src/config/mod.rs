//! Floor 8: configuration. File ← environment ← flags, each checked against the one table in [`keys`].
//!
//! This is the only place that reads a configuration file or interprets environment variables; everything below gets plain
//! `Settings` structs (see `settings.rs`). The environment comes in as a map, so that a test owns it.

mod credentials;
mod edit;
mod engine;
mod environment;
mod error;
mod file;
mod json;
pub mod keys;
mod lives;
mod needs;
mod running;
pub mod sandbox;
pub mod settings;
#[cfg(test)]
mod shape;
mod show;
pub mod suggest;
mod tool_servers;
mod value;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use engine::{Choice, Provider};
pub use error::{ConfigError, Problem};
pub use keys::{KEYS, Key};
pub use lives::{Lives, Maker};
pub use running::Running;
pub use settings::{Settings, settings};
pub use show::{default_file, table};
pub use value::{Kind, Value};

use crate::base::secret::Secret;

/// The environment: names and values.
pub type Env = BTreeMap<String, String>;

/// A key that the command line sets: its path, the value as text, and the flag's name for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// For example `gateway.port`.
    pub path: String,
    /// The value, written as in the environment.
    pub text: String,
    /// What the user typed, for example `--listen`.
    pub name: String,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// `config.toml`, at this line (from 1).
    File(usize),
    /// This environment variable.
    Env(String),
    /// This flag.
    Flag(String),
}

/// The effective configuration: one value and its origin for every key of the table, all checked.
#[derive(Debug, Clone)]
pub struct Config {
    home: PathBuf,
    /// In the order of [`KEYS`].
    entries: Vec<Entry>,
    /// What is not wrong but deserves a word.
    notes: Vec<String>,
    extra_key: Option<Secret>,
    env_keys: engine::EnvKeys,
    sources: Arc<Sources>,
}

/// What a configuration is read from besides the file; nothing prints it, since it holds secrets.
struct Sources {
    env: Env,
    flags: Vec<Flag>,
    credentials: credentials::Credentials,
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sources")
    }
}

/// One key's value.
#[derive(Debug, Clone)]
struct Entry {
    key: &'static Key,
    /// The key's path with names for `<name>`.
    path: Cow<'static, str>,
    value: Value,
    origin: Origin,
}

/// The name of the configuration file in the home.
pub const FILE_NAME: &str = "config.toml";

impl Config {
    /// Reads `<home>/config.toml` (where there is one), then the environment, then the flags.
    ///
    /// # Errors
    /// All problems at once, each with its place.
    pub fn load(home: &Path, env: &Env, flags: &[Flag]) -> Result<Self, ConfigError> {
        let path = home.join(FILE_NAME);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(ConfigError::one(path.display().to_string(), format!("cannot be read: {e}"))),
        };
        Self::from_text(home, &text, env, flags)
    }

    /// The same with the file's text given.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_text(home: &Path, text: &str, env: &Env, flags: &[Flag]) -> Result<Self, ConfigError> {
        let wanted = |name: &String| ["OXIOS_", "OPENAI_", "ANTHROPIC_"].iter().any(|start| name.starts_with(start));
        let mut problems = Vec::new();
        let credentials = credentials::Credentials::read(env, &mut problems);
        let env: Env = env.iter().filter(|(name, _)| wanted(name)).map(|(name, value)| (name.clone(), value.clone())).collect();
        Self::from_sources(home, text, Arc::new(Sources { env, flags: flags.to_vec(), credentials }), problems)
    }

    /// What a file with this text would mean here, with the same environment, credentials and flags.
    ///
    /// # Errors
    /// As [`Config::load`].
    fn reread(&self, text: &str) -> Result<Self, ConfigError> {
        Self::from_sources(&self.home, text, self.sources.clone(), Vec::new())
    }

    fn from_sources(home: &Path, text: &str, sources: Arc<Sources>, mut problems: Vec<Problem>) -> Result<Self, ConfigError> {
        let mut entries: Vec<Entry> = Vec::with_capacity(KEYS.len());
        for key in KEYS.iter().filter(|key| !key.is_free()) {
            let value = key.default_value().unwrap_or_else(|text| {
                problems.push(Problem::new(key.path, text));
                Value::Unset
            });
            entries.push(Entry { key, path: Cow::Borrowed(key.path), value, origin: Origin::Default });
        }
        Self::read(home, text, sources, entries, problems)
    }

    fn read(home: &Path, text: &str, sources: Arc<Sources>, entries: Vec<Entry>, mut problems: Vec<Problem>) -> Result<Self, ConfigError> {
        let Sources { env, flags, credentials } = &*sources;
        let mut config = Self {
            home: home.to_owned(),
            entries,
            notes: Vec::new(),
            extra_key: None,
            env_keys: engine::EnvKeys::default(),
            sources: sources.clone(),
        };
        file::apply(&mut config, text, &mut problems);
        environment::apply(&mut config, env, credentials, &mut problems);
        for flag in flags {
            match keys::find(&flag.path) {
                Some(key) => match Value::parse(key, &flag.text) {
                    Ok(value) => config.set(key, &flag.path, value, Origin::Flag(flag.name.clone())),
                    Err(text) => problems.push(Problem::new(&flag.name, format!("{}: {text}", key.path))),
                },
                None => problems.push(Problem::new(&flag.name, keys::unknown(&flag.path))),
            }
        }
        config.complete(&mut problems);
        engine::look(&mut config);
        tool_servers::look(&mut config);
        if problems.is_empty() { Ok(config) } else { Err(ConfigError { problems }) }
    }

    /// The directory of everything.
    pub fn home(&self) -> &Path {
        &self.home
    }
    /// Where sessions, files and memory lie: `kernel.workspace`, else `<home>/workspace`. A relative path starts at the home.
    pub fn workspace(&self) -> PathBuf {
        match self.value("kernel.workspace") {
            Value::Text(path) => self.home.join(path),
            _ => self.home.join("workspace"),
        }
    }
    /// `OXIOS_API_KEY`: a key that is accepted besides those in `keys.json`.
    pub fn extra_key(&self) -> Option<&Secret> {
        self.extra_key.as_ref()
    }
    /// What is not wrong but deserves a word, for the log and `config check`.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
    /// Where the value of a key comes from.
    pub fn origin(&self, path: &str) -> &Origin {
        self.entry(path).map_or(&Origin::Default, |entry| &entry.origin)
    }
    /// A whole number; 0 where the key holds something else.
    pub fn whole(&self, path: &str) -> u64 {
        if let Value::Whole(n) = self.value(path) { *n } else { 0 }
    }
    /// A decimal number; 0 where the key holds something else.
    pub fn decimal(&self, path: &str) -> f64 {
        if let Value::Decimal(n) = self.value(path) { *n } else { 0.0 }
    }
    /// Yes or no; no where the key holds something else.
    pub fn yes(&self, path: &str) -> bool {
        matches!(self.value(path), Value::Bool(true))
    }
    /// A text; nothing where the key is not set.
    pub fn text(&self, path: &str) -> Option<&str> {
        if let Value::Text(text) = self.value(path) { Some(text) } else { None }
    }
    /// A secret; nothing where the key is not set.
    pub fn secret(&self, path: &str) -> Option<&Secret> {
        if let Value::Hidden(secret) = self.value(path) { Some(secret) } else { None }
    }
    /// Secret texts by name; empty where the key holds something else.
    pub fn secrets(&self, path: &str) -> BTreeMap<String, Secret> {
        if let Value::Secrets(table) = self.value(path) { table.clone() } else { BTreeMap::new() }
    }
    /// A list; empty where the key holds something else.
    pub fn list(&self, path: &str) -> &[String] {
        if let Value::List(items) = self.value(path) { items } else { &[] }
    }

    /// Where a value comes from, by its full path.
    fn origin_at(&self, path: &str) -> Option<&Origin> {
        self.entries.iter().find(|entry| entry.path == path).map(|entry| &entry.origin)
    }

    fn value(&self, path: &str) -> &Value {
        self.entry(path).map_or(&Value::Unset, |entry| &entry.value)
    }

    fn entry(&self, path: &str) -> Option<&Entry> {
        let found = self.entries.iter().find(|entry| entry.path == path);
        debug_assert!(found.is_some(), "{path} is not in the table");
        found
    }

    fn set(&mut self, key: &'static Key, path: &str, value: Value, origin: Origin) {
        match self.entries.iter_mut().find(|entry| entry.path == path) {
            Some(entry) => (entry.value, entry.origin) = (value, origin),
            None if key.is_free() => self.entries.push(Entry { key, path: Cow::Owned(path.to_owned()), value, origin }),
            None => {}
        }
    }
}

/// The home: the flag, else `OXIOS_HOME`, else `~/.oxios`; always absolute.
///
/// # Errors
/// Neither is given and `HOME` is not set, or the working directory is gone.
pub fn home(flag: Option<&str>, env: &Env) -> Result<PathBuf, ConfigError> {
    let set = |name: &str| env.get(name).filter(|value| !value.is_empty());
    let path = match (flag, set("OXIOS_HOME"), set("HOME")) {
        (Some(""), _, _) => return Err(ConfigError::one("--home", "is empty; name a directory")),
        (Some(path), _, _) => PathBuf::from(path),
        (None, Some(path), _) => PathBuf::from(path),
        (None, None, Some(home)) => Path::new(home).join(".oxios"),
        (None, None, None) => return Err(ConfigError::one("OXIOS_HOME", "set it, or give --home DIR: HOME is not set either")),
    };
    std::path::absolute(&path).map_err(|e| ConfigError::one(path.display().to_string(), format!("is no usable path: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// File, environment, what is expected.
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);

    fn env(pairs: &[(&str, &str)]) -> Env {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }
    fn load(text: &str, pairs: &[(&str, &str)]) -> Result<Config, String> {
        Config::from_text(Path::new("/h"), text, &env(pairs), &[]).map_err(|e| e.to_string())
    }

    #[test]
    fn defaults_are_valid_and_documented() {
        let config = load("", &[]).unwrap();
        assert_eq!(config.entries.len(), KEYS.iter().filter(|key| !key.is_free()).count());
        assert_eq!(config.whole("gateway.port"), 4200);
        assert_eq!(config.text("gateway.host"), Some("127.0.0.1"));
        assert_eq!(config.workspace(), Path::new("/h/workspace"));
        assert!(config.yes("security.auth_enabled"));
    }

    #[test]
    fn the_order_is_file_then_environment_then_flags() {
        let text = "[gateway]\nport = 1\nhost = \"10.0.0.1\"\nmax_concurrent = 7\n";
        let flags = [Flag { path: "gateway.port".into(), text: "3".into(), name: "--listen".into() }];
        let config =
            Config::from_text(Path::new("/h"), text, &env(&[("OXIOS_GATEWAY__PORT", "2"), ("OXIOS_GATEWAY__HOST", "::1")]), &flags);
        let config = config.unwrap();
        assert_eq!((config.whole("gateway.port"), config.origin("gateway.port")), (3, &Origin::Flag("--listen".into())));
        assert_eq!(config.text("gateway.host"), Some("::1"));
        assert_eq!(config.origin("gateway.max_concurrent"), &Origin::File(4));
    }

    #[test]
    fn every_problem_is_named_with_its_place() {
        let cases: &[Case<'_>] = &[
            ("[gateway]\nprot = 1\n", &[], "/h/config.toml:2: unknown key gateway.prot; did you mean gateway.port?"),
            ("[gatway]\nport = 1\n", &[], "/h/config.toml:1: unknown section gatway; did you mean gateway?"),
            ("[gateway]\nport = \"x\"\n", &[], "/h/config.toml:2: gateway.port: expected a whole number from 0 to 65535, found a text"),
            ("[gateway]\nport = 70000\n", &[], "/h/config.toml:2: gateway.port: expected a whole number from 0 to 65535"),
            ("[logging]\nformat = \"xml\"\n", &[], "/h/config.toml:2: logging.format: expected one of pretty, json"),
            ("gateway = 3\n", &[], "/h/config.toml:1: gateway is a section: write [gateway], then its keys"),
            ("", &[("OXIOS_GATEWAY__PRT", "1")], "OXIOS_GATEWAY__PRT: unknown key gateway.prt; did you mean gateway.port?"),
            ("", &[("OXIOS_GATEWAY__PORT", "no")], "OXIOS_GATEWAY__PORT: expected a whole number from 0 to 65535"),
            (
                "",
                &[("OXIOS_ENGINE__DEFAULT_MODEL", "gpt")],
                "OXIOS_ENGINE__DEFAULT_MODEL: expected offline, openai/<model> or anthropic/<model>",
            ),
        ];
        for (text, pairs, expected) in cases {
            assert_eq!(load(text, pairs).unwrap_err(), *expected);
        }
        assert!(load("[gateway\n", &[]).unwrap_err().starts_with("/h/config.toml:1: "));
        let two = load("[gateway]\nprot = 1\nhots = 2\n", &[]).unwrap_err();
        assert_eq!(two.lines().count(), 2);
    }

    #[test]
    fn a_secret_is_in_no_message() {
        for (text, pairs) in [("[engine]\napi_key = 123456789\n", &[][..]), ("[engine]\napi_key = [\"canary\"]\n", &[])] {
            let message = load(text, pairs).unwrap_err();
            assert!(!message.contains("123456789") && !message.contains("canary"), "{message}");
        }
        let config = load("[engine]\napi_key = \"canary\"\n", &[("OXIOS_API_KEY", "canary-two")]).unwrap();
        assert!(!format!("{config:?}").contains("canary"));
        assert!(!config.show().contains("canary"));
        assert!(config.show().contains("engine.api_key = \"***\""));
    }

    #[test]
    fn lists_come_as_json_or_separated_by_commas() {
        for text in [r#"["a.example", "b.example:8080"]"#, "a.example, b.example:8080", "a.example,b.example:8080,"] {
            let config = load("", &[("OXIOS_SECURITY__ALLOWED_HOSTS", text)]).unwrap();
            assert_eq!(config.list("security.allowed_hosts"), ["a.example", "b.example:8080"]);
        }
        let file = "[security]\nallowed_hosts = [\"x\"]\n[gateway]\nport = 9\n";
        let config = load(file, &[("OXIOS_SECURITY__ALLOWED_HOSTS", ""), ("OXIOS_GATEWAY__PORT", "")]).unwrap();
        assert!(config.list("security.allowed_hosts").is_empty());
        assert_eq!(config.whole("gateway.port"), 9);
    }

    #[test]
    fn the_home_is_found() {
        let e = env(&[("HOME", "/root"), ("OXIOS_HOME", "/srv/ox")]);
        assert_eq!(home(Some("/x"), &e).unwrap(), Path::new("/x"));
        assert_eq!(home(None, &e).unwrap(), Path::new("/srv/ox"));
        assert_eq!(home(None, &env(&[("HOME", "/root")])).unwrap(), Path::new("/root/.oxios"));
        assert!(home(None, &Env::new()).is_err());
    }

    /// A document that is shown is a document that loads, and means the same.
    #[test]
    fn what_is_shown_can_be_loaded() {
        let config = load("[gateway]\nport = 9\n[security]\nallowed_hosts = [\"x\"]\n", &[]).unwrap();
        let again = load(&config.show(), &[]).unwrap();
        for (a, b) in config.entries.iter().zip(&again.entries) {
            assert_eq!(a.value, b.value, "{}", a.key.path);
        }
    }
}
