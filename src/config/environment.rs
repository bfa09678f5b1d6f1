//! Environment variables: `OXIOS_<SECTION>__<KEY>` for every key, and the well-known names of model providers, for which a
//! credential may stand.

use super::credentials::Credentials;
use super::engine::OwnKey;
use super::error::Problem;
use super::value::{Kind, Value};
use super::{Config, Env, Origin, keys};
use crate::base::secret::Secret;

/// Takes over what the environment sets; what is wrong goes to `problems`.
pub(super) fn apply(config: &mut Config, env: &Env, credentials: &Credentials, problems: &mut Vec<Problem>) {
    for (name, text) in env {
        // Names without the double underscore (OXIOS_HOME, OXIOS_API_KEY, and those of wrappers around us) are no keys.
        let Some((section, rest)) = name.strip_prefix("OXIOS_").and_then(|name| name.split_once("__")) else {
            continue;
        };
        let path = format!("{}.{}", section.to_ascii_lowercase(), rest.to_ascii_lowercase().replace("__", "."));
        let Some(key) = keys::find(&path) else {
            problems.push(Problem::new(name, keys::unknown(&path)));
            continue;
        };
        // Compose files pass what is not set as nothing; for a list, nothing is a value.
        if text.trim().is_empty() && key.kind != Kind::List {
            continue;
        }
        match Value::parse(key, text) {
            Ok(value) => config.set(key, &path, value, Origin::Env(name.clone())),
            Err(text) => problems.push(Problem::new(name, text)),
        }
    }
    let secret = |name: &str| env.get(name).map(|text| text.trim()).filter(|text| !text.is_empty()).map(Secret::new);
    config.extra_key = secret("OXIOS_API_KEY");
    let own = |variable: &'static str, credential: &Option<Secret>, from: &'static str| {
        let typed = secret(variable).map(|key| OwnKey { key, from: variable });
        typed.or_else(|| credential.clone().map(|key| OwnKey { key, from }))
    };
    config.env_keys.openai_key = own("OPENAI_API_KEY", &credentials.openai_key, "credential openai_api_key");
    config.env_keys.anthropic_key = own("ANTHROPIC_API_KEY", &credentials.anthropic_key, "credential anthropic_api_key");
    if let Some(text) = env.get("OPENAI_BASE_URL").filter(|text| !text.trim().is_empty()) {
        match keys::find("engine.base_url").map(|key| Value::parse(key, text)) {
            Some(Ok(Value::Text(url))) => config.env_keys.openai_base_url = Some(url),
            Some(Err(text)) => problems.push(Problem::new("OPENAI_BASE_URL", text)),
            _ => {}
        }
    }
}
