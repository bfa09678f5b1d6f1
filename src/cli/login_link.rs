//! `login-link`: a link that logs a browser in, once.

use std::time::Duration;

use hyper::{Method, StatusCode};

use super::args::Parsed;
use super::output::{Failure, print, tell};
use super::reach::{Place, Reach, refused};
use super::{home, small_runtime};
use crate::config::Env;

const PATIENCE: Duration = Duration::from_secs(10);

/// Asks the running gateway for a code and prints the link. The code stands behind `#`, which browsers do not send.
pub(super) fn run(parsed: &Parsed, env: &Env) -> Result<(), Failure> {
    let reach = Reach::find(&home(parsed, env)?, env)?;
    let (status, body) = small_runtime()?.block_on(reach.call(Method::POST, "/api/login/code", None, PATIENCE))?;
    if status != StatusCode::OK {
        return Err(refused(status, &body));
    }
    let answer: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let Some(code) = answer.get("code").and_then(serde_json::Value::as_str) else {
        return Err(Failure::failed("the gateway answered without a code"));
    };
    match &reach.place {
        Place::Tcp(address) => print(format_args!("http://{address}/#code={code}\n")),
        Place::Unix(_) => print(format_args!("/#code={code}\n")),
    }
    tell(format_args!("It works once, within five minutes."));
    Ok(())
}
