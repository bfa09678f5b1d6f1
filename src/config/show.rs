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
            let name = &*entry.path;
            let line = if entry.value == Value::Unset {
                format!("# {name} = {}", self.stand_in(entry.key))
            } else {
                format!("{name} = {}", entry.value.toml())
            };
            let restart = if entry.key.live { "" } else { ", a change needs a restart" };
            let before = self.outdone(name).map(|name| format!("; {name} goes before it")).unwrap_or_default();
            let origin = if entry.value == Value::Unset { String::new() } else { format!("# {}{before}{restart}", entry.origin) };
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
            "engine.api_key" => match self.own_key_from(provider) {
                Some(from) => format!("not set: *** from {from}"),
                None => "not set".to_owned(),
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

/// A file with every key commented out, each with its meaning, type and default: it means the same as no file.
pub fn default_file() -> String {
    let mut out = String::from(
        "# config.toml of oxios-edge. Take the # from a line to set its key; what is not set has the default shown.\n\
         # The environment (OXIOS_SECTION__KEY) goes before this file. Changes are felt at once unless a key says \"restart\".\n",
    );
    let mut section = String::new();
    for key in KEYS {
        let here = key.path.rsplit_once('.').map_or(key.path, |(section, _)| section);
        if here != section {
            // A section with a free name is commented out, too: without a key in it, it would be wrong.
            let _ = writeln!(out, "\n{}[{here}]", if key.is_free() { "# " } else { "" });
            section = here.to_owned();
        }
        let restart = if key.live { "" } else { "; restart" };
        let _ = writeln!(out, "# {} ({}{restart})", key.meaning, key.type_name());
        let default = match key.default_value() {
            Ok(Value::Unset) | Err(_) => "\"\"".to_owned(),
            Ok(value) => value.toml(),
        };
        let _ = writeln!(out, "# {} = {default}", key.name());
    }
    out
}

/// Every key as a Markdown table, for the README.
pub fn table() -> String {
    let mut out = String::from("| Key | Default | Meaning | A change |\n|---|---|---|---|\n");
    for key in KEYS {
        let default = match key.default_value() {
            Ok(Value::Unset) | Err(_) => "not set".to_owned(),
            Ok(value) => format!("`{}`", value.toml()),
        };
        let kind = match key.kind {
            super::Kind::OneOf(words) => format!(" ({})", words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")),
            _ => String::new(),
        };
        let _ = writeln!(out, "| `{}` | {default} | {}{kind} | {} |", key.path, key.meaning, key.felt());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_default_file_means_what_no_file_means() {
        let load = |text: &str| Config::from_text(Path::new("/h"), text, &Default::default(), &[]).unwrap();
        let text = default_file();
        assert_eq!(load(&text).show(), load("").show());
        for key in KEYS {
            assert!(text.contains(&format!("\n# {} = ", key.name())), "{}", key.path);
        }
        // With the signs taken off, every key is right as it stands, and means the same. (A tool server has no name to be set with.)
        let named = text.split("# [mcp.").next().unwrap();
        let keys = named.lines().map(|line| line.strip_prefix("# ").filter(|rest| rest.contains(" = ") && !rest.ends_with(')')));
        let without: Vec<&str> =
            keys.zip(named.lines()).map(|(key, line)| key.unwrap_or(line)).filter(|line| !line.starts_with('#')).collect();
        assert!(without.iter().filter(|line| line.ends_with(" = \"\"")).count() > 5);
        let values = |config: Config| config.entries.into_iter().map(|entry| (entry.path, entry.value)).collect::<Vec<_>>();
        assert_eq!(values(load(&without.join("\n"))), values(load("")));
    }
}
