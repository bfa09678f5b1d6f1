//! Whether a server is shut in: one that starts now, and the one that runs.

use hyper::{Method, StatusCode};
use serde_json::Value;

use super::{Found, PATIENCE};
use crate::cli::reach::Reach;
use crate::cli::sandbox::{is_required, listed, possible};
use crate::config::{Config, Env, sandbox};

/// What a start would come to, and what came of the last one.
pub(super) async fn look(config: &Config, env: &Env) -> Found {
    let next = match possible(config) {
        Ok(version) => {
            let ports = sandbox::rules(config, env, None, None).ports;
            let ports = match version {
                4.. if ports.is_empty() => "TCP to its own port".to_owned(),
                4.. => format!("TCP to its own port and to {}", listed(&ports)),
                _ => "any port, since only Linux 6.7 and newer hold ports".to_owned(),
            };
            format!("a server is shut in (Landlock {version}): files beneath {}; {ports}", config.home().display())
        }
        Err(why) if is_required(config) => {
            return Found::Fail(
                format!("security.landlock is required, but there is no sandbox: {why}"),
                "correct that, or set security.landlock to auto".to_owned(),
            );
        }
        Err(why) => format!("off: {why}"),
    };
    Found::Ok(match running(config, env).await {
        Some(now) => format!("{next}\nthe gateway of this home: {now}"),
        None => next,
    })
}

/// What the gateway of this home says; nothing where none runs, or where it is not ours to ask.
async fn running(config: &Config, env: &Env) -> Option<String> {
    let reach = Reach::find(config.home(), env).ok()?;
    let (status, body) = reach.call(Method::GET, "/api/status", None, PATIENCE).await.ok()?;
    if status != StatusCode::OK {
        return None;
    }
    let status: Value = serde_json::from_slice(&body).ok()?;
    let landlock = status.get("landlock")?;
    let ports = landlock.get("ports").and_then(Value::as_array);
    let state = landlock.get("state").and_then(Value::as_str)?;
    let more = match (landlock.get("because").and_then(Value::as_str), ports) {
        (Some(because), _) => format!(": {because}"),
        (None, Some(ports)) => {
            let ports: Vec<String> = ports.iter().map(Value::to_string).collect();
            format!(", ports {}", ports.join(", "))
        }
        (None, None) => String::new(),
    };
    Some(format!("{state}{more}"))
}
