//! The configuration as JSON, for the API: shown with secrets as `***`, and read back.

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json, json};

use crate::wire::json::whole;

use super::keys::{self, Key};
use super::{Config, Provider, Value};

/// What stands for a secret.
pub(super) const HIDDEN: &str = "***";

impl Config {
    /// What is in force, section by section; secrets as `***`, what is not set as `null`, where nothing stands in for it.
    pub(super) fn json(&self) -> Map<String, Json> {
        let mut all = Map::new();
        for entry in &self.entries {
            put(&mut all, &entry.path, self.shown(&entry.path, &entry.value));
        }
        let key = self.api_key(Provider::of(&self.model().model));
        put(&mut all, "engine.api_key_set", Json::Bool(key.is_some()));
        if !all.contains_key("mcp") {
            all.insert("mcp".to_owned(), json!({ "servers": {} }));
        }
        all
    }

    /// One key as it is shown.
    pub(super) fn shown(&self, path: &str, value: &Value) -> Json {
        let provider = || Provider::of(&self.model().model);
        match (path, value) {
            ("kernel.workspace", Value::Unset) => json!(self.workspace().display().to_string()),
            ("engine.default_model", Value::Unset) => json!(self.model().model),
            ("engine.base_url", Value::Unset) => json!(self.base_url(provider())),
            ("engine.api_key", Value::Unset) => json!(self.api_key(provider()).map(|_| HIDDEN)),
            ("gateway.base_path", Value::Unset) => json!(""),
            (_, Value::Unset) => Json::Null,
            (_, Value::Text(text)) => json!(text),
            (_, Value::Whole(n)) => json!(n),
            (_, Value::Decimal(n)) => json!(n),
            (_, Value::Bool(yes)) => json!(yes),
            (_, Value::List(items)) => json!(items),
            (_, Value::Hidden(_)) => json!(HIDDEN),
            (_, Value::Secrets(table)) => table.keys().map(|name| (name.clone(), json!(HIDDEN))).collect::<Map<_, _>>().into(),
        }
    }

    /// The keys whose value in force is something: neither nothing nor empty, 0 or false. What stands in for a key that is not set
    /// (a provider's variable, a default) counts. A tool server that is in use is one, too: `mcp.servers.<name>`.
    pub(super) fn set_keys(&self) -> BTreeSet<String> {
        let is_something = |value: Json| match value {
            Json::Null => false,
            Json::Bool(yes) => yes,
            Json::Number(n) => n.as_f64() != Some(0.0),
            Json::String(text) => !text.is_empty(),
            Json::Array(items) => !items.is_empty(),
            Json::Object(fields) => !fields.is_empty(),
        };
        let set = self.entries.iter().filter(|entry| is_something(self.shown(&entry.path, &entry.value)));
        let servers = self.servers().into_iter().map(|name| format!("mcp.servers.{name}"));
        set.map(|entry| entry.path.to_string()).chain(servers.filter(|path| self.yes(&format!("{path}.enabled")))).collect()
    }

    /// The value of a key here, by its full path; not set where there is none.
    pub(super) fn value_at(&self, path: &str) -> &Value {
        self.entries.iter().find(|entry| entry.path == path).map_or(&Value::Unset, |entry| &entry.value)
    }
}

/// Puts a value at a dotted path.
fn put(all: &mut Map<String, Json>, path: &str, value: Json) {
    match path.split_once('.') {
        None => drop(all.insert(path.to_owned(), value)),
        Some((first, rest)) => {
            if let Json::Object(inner) = all.entry(first.to_owned()).or_insert_with(|| json!({})) {
                put(inner, rest, value);
            }
        }
    }
}

/// One thing that a change asks for.
pub(super) enum Wish<'a> {
    /// A key gets a value; `null` takes it out of the file.
    Key(&'static Key, String, &'a Json),
    /// A tool server goes.
    NoServer(String),
}

/// What a change asks for, key by key; what is no key goes to `problems`.
pub(super) fn wishes<'a>(wanted: &'a Map<String, Json>, problems: &mut Vec<String>) -> Vec<Wish<'a>> {
    let mut all = Vec::new();
    let object = |path: &str, value: &'a Json, problems: &mut Vec<String>| match value {
        Json::Object(inner) => Some(inner),
        _ => {
            problems.push(format!("{}: expected an object", keys::printable(path)));
            None
        }
    };
    for (section, value) in wanted {
        // Told by GET, so it may come back.
        if section == "restart_required" {
            continue;
        }
        if !keys::KEYS.iter().any(|key| key.section() == section) {
            problems.push(format!("unknown section {}", keys::printable(section)));
            continue;
        }
        let Some(inner) = object(section, value, problems) else { continue };
        for (name, value) in inner {
            let path = format!("{section}.{name}");
            if path != "mcp.servers" {
                wish(path, value, &mut all, problems);
                continue;
            }
            let Some(servers) = object(&path, value, problems) else { continue };
            for (name, value) in servers {
                let path = format!("mcp.servers.{name}");
                if keys::server(&format!("{path}.")).is_none() {
                    problems.push(format!("{}: a name has 1 to 32 letters, digits, - or _", keys::printable(&path)));
                } else if value.is_null() {
                    all.push(Wish::NoServer(name.clone()));
                } else if let Some(server) = object(&path, value, problems) {
                    for (name, value) in server {
                        wish(format!("{path}.{name}"), value, &mut all, problems);
                    }
                }
            }
        }
    }
    all
}

fn wish<'a>(path: String, value: &'a Json, all: &mut Vec<Wish<'a>>, problems: &mut Vec<String>) {
    match keys::find(&path) {
        Some(key) => all.push(Wish::Key(key, path, value)),
        None if path == "engine.api_key_set" => {}
        None => problems.push(keys::unknown(&path)),
    }
}

/// A JSON value as TOML; none for what no key can hold.
pub(super) fn toml(value: &Json) -> Option<toml_edit::Value> {
    Some(match value {
        Json::String(text) => text.as_str().into(),
        Json::Bool(yes) => (*yes).into(),
        Json::Number(n) => match n.as_i64().or_else(|| whole(n.as_f64()?)) {
            Some(n) => n.into(),
            None => n.as_f64()?.into(),
        },
        Json::Array(items) => items.iter().map(toml).collect::<Option<toml_edit::Array>>()?.into(),
        Json::Object(inner) => {
            let mut table = toml_edit::InlineTable::new();
            for (name, value) in inner {
                table.insert(name, toml(value)?);
            }
            table.into()
        }
        Json::Null => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn keys_that_are_set_to_something_are_told_apart_from_the_others() {
        let text = "[memory]\nembedding_model = \"openai/e\"\nenabled = false\n[session]\nttl_hours = 0\nmax_sessions = 5\n\
                    [security]\nallowed_hosts = []\n[orchestrator]\nmin_evaluation_score = 0.0\n\
                    [mcp.servers.on]\ncommand = \"x\"\nenv = { A = \"b\" }\n[mcp.servers.off]\ncommand = \"x\"\nenabled = false\n";
        let env = [("OPENAI_API_KEY".to_owned(), "canary".to_owned())].into();
        let set = Config::from_text(Path::new("/h"), text, &env, &[]).unwrap().set_keys();
        for (path, is) in [
            ("memory.embedding_model", true),
            ("memory.embedding_base_url", false),
            ("memory.enabled", false),
            ("session.ttl_hours", false),
            ("session.max_sessions", true),
            ("security.allowed_hosts", false),
            ("security.auth_enabled", true),
            ("orchestrator.min_evaluation_score", false),
            ("engine.default_model", true),
            ("engine.api_key", true),
            ("kernel.workspace", true),
            ("mcp.servers.on", true),
            ("mcp.servers.on.env", true),
            ("mcp.servers.on.args", false),
            ("mcp.servers.off", false),
            ("mcp.servers.none", false),
            ("memory", false),
            ("channels.x", false),
        ] {
            assert_eq!(set.contains(path), is, "{path}");
        }
        assert!(!set.iter().any(|path| path.contains("canary")));
    }
}
