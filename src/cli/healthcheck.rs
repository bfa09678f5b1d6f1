//! `healthcheck`: whether the gateway of this home answers.

use std::time::Duration;

use hyper::{Method, StatusCode};

use super::args::Parsed;
use super::output::Failure;
use super::reach::{Reach, refused};
use super::{home, small_runtime};
use crate::config::Env;

/// Supervisors ask every few seconds; a server that takes longer is not well.
const PATIENCE: Duration = Duration::from_secs(3);

/// Silent and 0 when it answers; a line and 1 when not.
pub(super) fn run(parsed: &Parsed, env: &Env) -> Result<(), Failure> {
    let mut reach = Reach::find(&home(parsed, env)?, env)?;
    // Both routes are public; a key that is not needed is not sent.
    reach.token = None;
    let path = if parsed.has("ready") { "/health/ready" } else { "/health" };
    let (status, body) = small_runtime()?.block_on(reach.call(Method::GET, path, None, PATIENCE))?;
    match status {
        StatusCode::OK => Ok(()),
        StatusCode::SERVICE_UNAVAILABLE if parsed.has("ready") => Err(Failure::failed(format!("not ready: {}", why(&body)))),
        status => Err(refused(status, &body)),
    }
}

/// The details of the components that are not healthy.
fn why(body: &[u8]) -> String {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let components = value.get("components").and_then(|c| c.as_object());
    let sick: Vec<String> = components
        .into_iter()
        .flatten()
        .filter(|(_, component)| component.get("healthy").and_then(serde_json::Value::as_bool) == Some(false))
        .map(|(name, component)| match component.get("detail").and_then(serde_json::Value::as_str) {
            Some(detail) => format!("{name}: {}", super::output::harmless(detail)),
            None => name.clone(),
        })
        .collect();
    if sick.is_empty() { "it does not say why".to_owned() } else { sick.join("; ") }
}
