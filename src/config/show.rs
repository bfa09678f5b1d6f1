//! The configuration for people: the effective one as TOML, and the table of all keys as Markdown.

use std::fmt::Write;

use super::keys::{KEYS, Key};
use super::{Config, Value};

impl Config {
    /// The effective configuration as TOML that could be saved: each value with where it comes from, secrets as `***`.
    pub fn show(&self) -> String {
        let mut out = String::new();
        let mut section = "";
        for entry in &self.entries {
            if entry.key.section() != section && !out.is_empty() {
                out.push('\n');
            }
            section = entry.key.section();
            // Dotted keys: every line stands for itself, for grep and for --set.
            let name = entry.key.path;
            let line = if entry.value == Value::Unset {
                format!("# {name} = {}", self.stand_in(entry.key))
            } else {
                format!("{name} = {}", entry.value.toml())
            };
            let origin = if entry.value == Value::Unset { String::new() } else { format!("# {}", entry.origin) };
            let _ = writeln!(out, "{}", format!("{line:<48} {origin}").trim_end());
        }
        out
    }

    /// What takes the place of a key that is not set.
    fn stand_in(&self, key: &Key) -> String {
        use crate::config::Provider;
        let choice = self.model();
        let provider = Provider::of(&choice.model);
        match key.path {
            "kernel.workspace" => format!("not set: {}", self.workspace().display()),
            "engine.default_model" => format!("not set: {} ({})", choice.model, choice.because),
            "engine.api_key" => match (self.api_key(provider), provider) {
                (Some(_), Provider::Anthropic) => "not set: *** from ANTHROPIC_API_KEY".to_owned(),
                (Some(_), _) => "not set: *** from OPENAI_API_KEY".to_owned(),
                (None, _) => "not set".to_owned(),
            },
            "engine.base_url" => match self.base_url(provider) {
                Some(url) => format!("not set: {url} from OPENAI_BASE_URL"),
                None if provider == Provider::Offline => "not set".to_owned(),
                None => "not set: the provider's own".to_owned(),
            },
            _ => "not set".to_owned(),
        }
    }
}

/// Every key as a Markdown table, for the README.
pub fn table() -> String {
    let mut out = String::from("| Key | Default | Meaning |\n|---|---|---|\n");
    for key in KEYS {
        let default = match key.default_value() {
            Ok(Value::Unset) | Err(_) => "not set".to_owned(),
            Ok(value) => format!("`{}`", value.toml()),
        };
        let kind = match key.kind {
            super::Kind::OneOf(words) => format!(" ({})", words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")),
            _ => String::new(),
        };
        let _ = writeln!(out, "| `{}` | {default} | {}{kind} |", key.path, key.meaning);
    }
    out
}
