//! Login of browsers (API B): a key or a one-time code in, a cookie out.
//!
//! SECURITY: the cookie is HttpOnly (no script reads it), SameSite=Strict, without a Domain, and Secure where the browser came by
//! HTTPS through a trusted proxy. It counts only with what our own page asks (`middleware::origin::takes_cookies`).

use std::sync::Arc;

use hyper::header::{self, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::api::{self, App, Call};
use crate::base::blocking;
use crate::base::time::Timestamp;
use crate::http::Response;
use crate::http::error::{ErrorStatus, HttpError};
use crate::middleware::auth::{Login, Presented, Scope};
use crate::middleware::logins::{COOKIE, LOGIN_TTL};
use crate::middleware::tickets::CODE_TTL;
use crate::store::StoreError;
use crate::wire::credentials::{self, Cookie};
use crate::wire::query::Query;

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
    /// When to log in again.
    expires_at: Timestamp,
}

/// Whether this browser need not log in, and what it may do.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct LoginState {
    /// Its cookie counts, or no key is asked for.
    logged_in: bool,
    /// What it may do.
    scopes: Vec<Scope>,
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
    all.answers::<LoginState>("LoginState");
    all.answers::<LoggedOut>("LoggedOut");
    all.answers::<LoginCode<'static>>("LoginCode");
}

/// `GET /api/login`: never 401, so that a page can ask on its first visit without an error.
pub(crate) async fn state(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let no_query = Query::default();
    let shown = Presented {
        headers: &call.headers,
        query: &no_query,
        ticket: false,
        token: false,
        // It only reads, and no page of another origin can read the answer.
        cookie: &|| true,
        peer: call.peer,
        now: app.clock.monotonic(),
        time: app.clock.now(),
    };
    let needed = app.settings.load().auth_enabled;
    let caller = app.doorkeeper.admit(&*app.keys, (&app.tickets, &app.logins), needed, &shown).ok();
    let all = [Scope::Read, Scope::Chat, Scope::Write, Scope::Approve, Scope::Admin];
    let scopes = caller.iter().flat_map(|caller| all.into_iter().filter(|scope| caller.may(*scope))).collect();
    api::json(&LoginState { logged_in: caller.is_some(), scopes })
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
    let (logins, random, id) = (app.logins.clone(), app.random.clone(), key.id);
    let begun = blocking::spawn(move || logins.begin(id, LOGIN_TTL, &*random, time)).await;
    let begun = begun.map_err(|e| HttpError::internal(e.to_string()))?;
    let cookie = begun.ok_or_else(|| {
        let text = "too many browsers are logged in; log one of them out";
        HttpError::new(ErrorStatus::Unavailable, "too_many_logins", text).retry_after(60)
    })?;
    let mut response = api::json(&LoggedIn { expires_at })?;
    set_cookie(&mut response, &app, &call, (cookie.reveal(), LOGIN_TTL.as_secs()))?;
    Ok(response)
}

/// `POST /api/logout`: the cookie that came along, if any, is worth nothing from now on.
pub(crate) async fn logout(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let fields = call.headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
    if let Cookie::Token(cookie) = credentials::cookie(fields, COOKIE) {
        let (logins, cookie) = (app.logins.clone(), cookie.to_owned());
        let ended = blocking::spawn(move || logins.end(&cookie)).await.map_err(|e| HttpError::internal(e.to_string()))?;
        ended.map_err(StoreError::io("logging out"))?;
    }
    let mut response = api::json(&LoggedOut { status: "logged_out" })?;
    set_cookie(&mut response, &app, &call, ("", 0))?;
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

fn set_cookie(response: &mut Response, app: &App, call: &Call, (value, max_age): (&str, u64)) -> Result<(), HttpError> {
    let by_https = call.proxied
        && (call.headers.get("x-forwarded-proto").is_some_and(|proto| proto.as_bytes().eq_ignore_ascii_case(b"https"))
            || call.headers.get(header::ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https:")));
    // Beneath a path of its own, so that other programs behind the same proxy do not get it.
    let path = &app.base_path;
    let secure = if by_https { "; Secure" } else { "" };
    let mut field = HeaderValue::try_from(format!("{COOKIE}={value}; Path={path}/; Max-Age={max_age}; HttpOnly; SameSite=Strict{secure}"))
        .map_err(|_| HttpError::internal("a cookie would not be a header field"))?;
    field.set_sensitive(true);
    response.headers_mut().insert(header::SET_COOKIE, field);
    Ok(())
}
