//! Login of browsers (API B): a key or a one-time code in, a cookie out.
//!
//! SECURITY: the cookie is HttpOnly (no script reads it), SameSite=Strict, without a Domain, and Secure where the browser came by
//! HTTPS through a trusted proxy. It counts only with what our own page asks (`middleware::origin::takes_cookies`).

use std::sync::Arc;

use hyper::header::{self, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::api::{self, App, Call};
use crate::base::time::Timestamp;
use crate::http::Response;
use crate::http::error::{ErrorStatus, HttpError};
use crate::middleware::auth::Login;
use crate::middleware::logins::{COOKIE, LOGIN_TTL};
use crate::middleware::tickets::CODE_TTL;
use crate::wire::credentials::{self, Cookie};

/// One of the two.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(extend("anyOf" = one_credential())))]
pub(super) struct LoginRequest {
    /// An API key.
    #[serde(default)]
    key: Option<String>,
    /// A one-time code, as `oxios-edge login-code` prints it.
    #[serde(default)]
    code: Option<String>,
}

/// The cookie is in `Set-Cookie`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct LoggedIn {
    /// When to log in again; earlier where the server is restarted.
    expires_at: Timestamp,
}

/// The browser's cookie is gone.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct LoggedOut {
    /// `logged_out`.
    status: &'static str,
}

/// A code for one login with the calling key's rights.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct LoginCode<'a> {
    /// For `POST /api/login`; works once.
    code: &'a str,
    /// Seconds that it lives.
    expires_in: u64,
}

#[cfg(test)]
fn one_credential() -> serde_json::Value {
    let one = |name: &str, other: &str| serde_json::json!({"required": [name], "properties": {name: {"type": "string"}, other: {"type": "null"}}});
    serde_json::json!([one("key", "code"), one("code", "key")])
}

#[cfg(test)]
pub(super) fn shapes(all: &mut api::shapes::Shapes) {
    all.takes::<LoginRequest>("LoginRequest");
    all.answers::<LoggedIn>("LoggedIn");
    all.answers::<LoggedOut>("LoggedOut");
    all.answers::<LoginCode<'static>>("LoginCode");
}

/// `POST /api/login`.
pub(crate) async fn login(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let request: LoginRequest = call.json()?;
    let with = match (&request.key, &request.code) {
        (Some(key), None) => Login::Key(key),
        (None, Some(code)) => Login::Code(code),
        _ => return Err(HttpError::unprocessable("send either `key` or `code`")),
    };
    let (now, time) = (app.clock.monotonic(), app.clock.now());
    let key = app.doorkeeper.log_in(&*app.keys, &app.logins, with, call.peer, (now, time))?;
    let ends = time.plus(LOGIN_TTL);
    let expires_at = key.expires_at.map_or(ends, |expires| expires.min(ends));
    let cookie = app.logins.begin(key.id, LOGIN_TTL, &*app.random, now).ok_or_else(|| {
        let text = "too many browsers are logged in; log one of them out";
        HttpError::new(ErrorStatus::Unavailable, "too_many_logins", text).retry_after(60)
    })?;
    let mut response = api::json(&LoggedIn { expires_at })?;
    set_cookie(&mut response, &call, cookie.reveal(), LOGIN_TTL.as_secs())?;
    Ok(response)
}

/// `POST /api/logout`: the cookie that came along, if any, is worth nothing from now on.
pub(crate) async fn logout(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let fields = call.headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
    if let Cookie::Token(cookie) = credentials::cookie(fields, COOKIE) {
        app.logins.end(cookie);
    }
    let mut response = api::json(&LoggedOut { status: "logged_out" })?;
    set_cookie(&mut response, &call, "", 0)?;
    Ok(response)
}

/// `POST /api/login/code`.
pub(crate) async fn code(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let code = app.logins.codes.issue(call.caller()?, &*app.random, app.clock.monotonic()).ok_or_else(|| {
        let text = "too many codes are open; use one of them, or wait until they lapse";
        HttpError::new(ErrorStatus::Unavailable, "too_many_codes", text).retry_after(CODE_TTL.as_secs())
    })?;
    api::json(&LoginCode { code: code.reveal(), expires_in: CODE_TTL.as_secs() })
}

fn set_cookie(response: &mut Response, call: &Call, value: &str, max_age: u64) -> Result<(), HttpError> {
    let by_https = call.proxied
        && (call.headers.get("x-forwarded-proto").is_some_and(|proto| proto.as_bytes().eq_ignore_ascii_case(b"https"))
            || call.headers.get(header::ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https:")));
    let secure = if by_https { "; Secure" } else { "" };
    let mut field = HeaderValue::try_from(format!("{COOKIE}={value}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Strict{secure}"))
        .map_err(|_| HttpError::internal("a cookie would not be a header field"))?;
    field.set_sensitive(true);
    response.headers_mut().insert(header::SET_COOKIE, field);
    Ok(())
}
