//! `login-code`: a code that logs a browser in, once.

use std::time::Duration;

use hyper::{Method, StatusCode};

use super::args::Parsed;
use super::output::{Failure, print, tell};
use super::reach::{Reach, refused};
use super::{home, small_runtime};
use crate::config::Env;

const PATIENCE: Duration = Duration::from_secs(10);

/// Asks the running gateway for a code and prints it.
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
    print(format_args!("{code}\n"));
    tell(format_args!("`POST /api/login` with {{\"code\":\"…\"}} takes it, once, within five minutes."));
    Ok(())
}
