//! `login-code`: a code that logs a browser in, once.

use std::time::Duration;

use hyper::{Method, StatusCode};

use super::args::Parsed;
use super::output::{Failure, print, tell};
use super::reach::{Place, Reach, refused};
use super::{home, load, small_runtime};
use crate::config::{Config, Env};

const PATIENCE: Duration = Duration::from_secs(10);

/// Asks the running gateway for a code and prints it.
pub(super) fn run(parsed: &Parsed, env: &Env) -> Result<(), Failure> {
    let reach = Reach::find(&home(parsed, env)?, env)?;
    let config = load(parsed, env)?;
    let code = small_runtime()?.block_on(ask(&reach))?;
    print(format_args!("{code}\n"));
    tell(format_args!("It logs a browser in, once, within five minutes:"));
    match link(&reach, base_path(&config), &code) {
        Some(link) => tell(format_args!("  {link}")),
        None => tell(format_args!("  open the page and give it the code; or `POST /api/login` with {{\"code\":\"…\"}}")),
    }
    Ok(())
}

/// A link that logs a browser in, for the start of a server that this process is. None where no browser reaches it, or none is to.
pub(super) async fn first_link(config: &Config, env: &Env) -> Option<String> {
    let reach = Reach::find(config.home(), env).ok()?;
    let code = ask(&reach).await.ok()?;
    link(&reach, base_path(config), &code)
}

async fn ask(reach: &Reach) -> Result<String, Failure> {
    let (status, body) = reach.call(Method::POST, "/api/login/code", None, PATIENCE).await?;
    if status != StatusCode::OK {
        return Err(refused(status, &body));
    }
    let answer: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    match answer.get("code").and_then(serde_json::Value::as_str) {
        Some(code) => Ok(code.to_owned()),
        None => Err(Failure::failed("the gateway answered without a code")),
    }
}

/// SECURITY: the code stands behind `#`, which no browser sends to a server, so that it is in no log and no `Referer`.
fn link(reach: &Reach, base: &str, code: &str) -> Option<String> {
    match &reach.place {
        Place::Tcp(address) => Some(format!("http://{address}{base}/#code={code}")),
        Place::Unix(_) => None,
    }
}

fn base_path(config: &Config) -> &str {
    config.text("gateway.base_path").unwrap_or_default()
}
