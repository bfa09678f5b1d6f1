//! Which model answers: the rule for `engine.default_model` when nobody set it, and whose key and address go with it.

use super::{Config, Origin, Value};
use crate::base::secret::Secret;

/// The family of a model's server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// The built-in model.
    Offline,
    /// Any server that speaks OpenAI's chat completions.
    OpenAi,
    /// Anthropic messages.
    Anthropic,
}

impl Provider {
    /// The provider of a model's full name.
    pub fn of(model: &str) -> Self {
        match model.split_once('/') {
            Some(("openai", _)) => Self::OpenAi,
            Some(("anthropic", _)) => Self::Anthropic,
            _ => Self::Offline,
        }
    }
}

/// The model that will answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// `offline`, `openai/<model>` or `anthropic/<model>`.
    pub model: String,
    /// Why, in words, for example `OPENAI_API_KEY is set`.
    pub because: String,
}

/// What the providers' own variables and credentials say.
#[derive(Debug, Clone, Default)]
pub(super) struct EnvKeys {
    pub(super) openai_key: Option<OwnKey>,
    pub(super) openai_base_url: Option<String>,
    pub(super) anthropic_key: Option<OwnKey>,
}

/// A provider's key from outside the configuration.
#[derive(Debug, Clone)]
pub(super) struct OwnKey {
    pub(super) key: Secret,
    /// Whence, for people: `OPENAI_API_KEY`, or `credential openai_api_key`.
    pub(super) from: &'static str,
}

/// Asked for where only `OPENAI_API_KEY` tells what to use.
const OPENAI_DEFAULT: &str = "openai/gpt-4o-mini";
/// Asked for where the server is not OpenAI's own: the first model that it lists.
const OPENAI_AUTO: &str = "openai/auto";
/// Asked for where only `ANTHROPIC_API_KEY` tells what to use.
const ANTHROPIC_DEFAULT: &str = "anthropic/claude-sonnet-4-5";

impl Config {
    /// The model, by the rule: `engine.default_model`; else OpenAI where `OPENAI_API_KEY` or `OPENAI_BASE_URL` is set; else
    /// Anthropic where `ANTHROPIC_API_KEY` is set; else offline.
    pub fn model(&self) -> Choice {
        let (model, because) = if let Some(model) = self.text("engine.default_model") {
            (model, format!("engine.default_model, {}", self.origin("engine.default_model")))
        } else if self.env_keys.openai_base_url.is_some() {
            (OPENAI_AUTO, "OPENAI_BASE_URL is set".to_owned())
        } else if let Some(key) = &self.env_keys.openai_key {
            let own = self.text("engine.base_url").is_none();
            (if own { OPENAI_DEFAULT } else { OPENAI_AUTO }, format!("{} is set", key.from))
        } else if let Some(key) = &self.env_keys.anthropic_key {
            (ANTHROPIC_DEFAULT, format!("{} is set", key.from))
        } else {
            ("offline", "no model is configured".to_owned())
        };
        Choice { model: model.to_owned(), because }
    }

    /// Where a provider's own key comes from, for people; none where there is none.
    pub(super) fn own_key_from(&self, provider: Provider) -> Option<&'static str> {
        self.own_key(provider).map(|own| own.from)
    }

    fn own_key(&self, provider: Provider) -> Option<&OwnKey> {
        match provider {
            Provider::Offline => None,
            Provider::OpenAi => self.env_keys.openai_key.as_ref(),
            Provider::Anthropic => self.env_keys.anthropic_key.as_ref(),
        }
    }

    /// The key for a provider: `engine.api_key` goes to the default model's provider only, the providers' variables and credentials
    /// to their own. The environment wins over the file, as everywhere.
    pub fn api_key(&self, provider: Provider) -> Option<Secret> {
        if provider == Provider::Offline {
            return None;
        }
        let own = self.own_key(provider).map(|own| &own.key);
        let set = match self.value("engine.api_key") {
            Value::Hidden(secret) if provider == Provider::of(&self.model().model) => Some(secret),
            _ => None,
        };
        let first = if matches!(self.origin("engine.api_key"), Origin::File(_)) { own.or(set) } else { set.or(own) };
        first.cloned()
    }

    /// The address for a provider where one is set; by the same rule.
    pub fn base_url(&self, provider: Provider) -> Option<String> {
        let own = self.env_keys.openai_base_url.as_deref().filter(|_| provider == Provider::OpenAi);
        let set = self.text("engine.base_url").filter(|_| provider == Provider::of(&self.model().model));
        let first = if matches!(self.origin("engine.base_url"), Origin::File(_)) { own.or(set) } else { set.or(own) };
        first.map(str::to_owned)
    }
}

impl Config {
    /// What goes before a value of the file: a provider's own variable or credential, where it says something else.
    pub(super) fn outdone(&self, path: &str) -> Option<&'static str> {
        let provider = Provider::of(&self.model().model);
        match (path, self.value_at(path)) {
            ("engine.api_key", Value::Hidden(set)) => {
                self.api_key(provider).filter(|used| used != set).and_then(|_| self.own_key_from(provider))
            }
            ("engine.base_url", Value::Text(set)) => self.base_url(provider).filter(|used| used != set).map(|_| "OPENAI_BASE_URL"),
            _ => None,
        }
    }
}

/// Notes on settings that have no effect, or none together.
pub(super) fn look(config: &mut Config) {
    let choice = config.model();
    let provider = Provider::of(&choice.model);
    if config.text("engine.base_url").is_some() && provider == Provider::Offline {
        config.notes.push(format!(
            "engine.base_url is set but the offline model answers ({}); set engine.default_model = \"openai/<model>\"",
            choice.because
        ));
    }
    if provider == Provider::Anthropic && config.api_key(provider).is_none() {
        config.notes.push(format!("{} needs a key: set ANTHROPIC_API_KEY or engine.api_key", choice.model));
    }
    if provider == Provider::OpenAi && config.api_key(provider).is_none() && config.base_url(provider).is_none() {
        config.notes.push(format!("{} needs OPENAI_API_KEY, or engine.base_url for a server of your own", choice.model));
    }
    for path in ["engine.api_key", "engine.base_url"] {
        if let Some(name) = config.outdone(path) {
            config.notes.push(format!("{name} goes before {path} ({}), which is not in force", config.origin(path)));
        }
    }
    if !config.yes("security.auth_enabled") {
        config.notes.push("security.auth_enabled is false: everyone who reaches the address may do everything".to_owned());
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(line) => write!(f, "config.toml line {line}"),
            Self::Env(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// File, environment, what is expected.
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);
    use std::path::Path;

    fn config(text: &str, pairs: &[(&str, &str)]) -> Config {
        let env = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Config::from_text(Path::new("/h"), text, &env, &[]).unwrap()
    }

    #[test]
    fn the_model_is_chosen_by_the_rule() {
        let cases: &[Case<'_>] = &[
            ("", &[], "offline"),
            ("", &[("OPENAI_API_KEY", "k")], OPENAI_DEFAULT),
            ("", &[("OPENAI_BASE_URL", "http://x/v1")], OPENAI_AUTO),
            ("", &[("OPENAI_BASE_URL", "http://x/v1"), ("OPENAI_API_KEY", "k")], OPENAI_AUTO),
            ("[engine]\nbase_url = \"http://x/v1\"\n", &[("OPENAI_API_KEY", "k")], OPENAI_AUTO),
            ("", &[("ANTHROPIC_API_KEY", "k")], ANTHROPIC_DEFAULT),
            ("", &[("OPENAI_API_KEY", "k"), ("ANTHROPIC_API_KEY", "k")], OPENAI_DEFAULT),
            ("", &[("OPENAI_API_KEY", "")], "offline"),
            ("[engine]\ndefault_model = \"offline\"\n", &[("OPENAI_API_KEY", "k")], "offline"),
            ("[engine]\ndefault_model = \"openai/a\"\n", &[("OXIOS_ENGINE__DEFAULT_MODEL", "anthropic/b")], "anthropic/b"),
        ];
        for (text, pairs, expected) in cases {
            assert_eq!(config(text, pairs).model().model, *expected, "{text} {pairs:?}");
        }
    }

    #[test]
    fn a_key_goes_to_its_own_provider_only() {
        let c = config("[engine]\napi_key = \"file\"\ndefault_model = \"openai/a\"\n", &[("ANTHROPIC_API_KEY", "anth")]);
        assert_eq!(c.api_key(Provider::OpenAi).unwrap().reveal(), "file");
        assert_eq!(c.api_key(Provider::Anthropic).unwrap().reveal(), "anth");
        let c = config("[engine]\napi_key = \"file\"\ndefault_model = \"openai/a\"\n", &[("OPENAI_API_KEY", "env")]);
        assert_eq!(c.api_key(Provider::OpenAi).unwrap().reveal(), "env");
        let c = config("", &[("OXIOS_ENGINE__API_KEY", "ours"), ("OPENAI_API_KEY", "theirs")]);
        assert_eq!(c.api_key(Provider::OpenAi).unwrap().reveal(), "ours");
        let c = config("[engine]\nbase_url = \"http://a/v1\"\ndefault_model = \"anthropic/a\"\n", &[("OPENAI_BASE_URL", "http://b/v1")]);
        assert_eq!(c.base_url(Provider::Anthropic).as_deref(), Some("http://a/v1"));
        assert_eq!(c.base_url(Provider::OpenAi).as_deref(), Some("http://b/v1"));
    }

    #[test]
    fn settings_without_effect_are_noted() {
        assert!(config("[engine]\nbase_url = \"http://a/v1\"\n", &[]).notes()[0].contains("engine.default_model"));
        assert!(config("[engine]\ndefault_model = \"anthropic/x\"\n", &[]).notes()[0].contains("ANTHROPIC_API_KEY"));
        assert!(config("", &[]).notes().is_empty());
        let local = "[engine]\nbase_url = \"http://a/v1\"\napi_key = \"a\"\n";
        let both = config(local, &[("OPENAI_BASE_URL", "http://b/v1"), ("OPENAI_API_KEY", "b")]);
        assert!(both.notes()[0].contains("OPENAI_API_KEY goes before engine.api_key"), "{:?}", both.notes());
        assert!(both.notes()[1].contains("OPENAI_BASE_URL goes before engine.base_url (config.toml line 2)"), "{:?}", both.notes());
        assert!(both.show().contains("line 2; OPENAI_BASE_URL goes before it"), "{}", both.show());
        assert!(config(local, &[("OPENAI_BASE_URL", "http://a/v1"), ("OPENAI_API_KEY", "a")]).notes().is_empty(), "they say the same");
    }
}
