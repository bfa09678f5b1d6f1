//! Authentication: one function for every transport and every kind of credential (THREATS 4).
//!
//! In order: switched off → the first owner; `Authorization: Bearer`; on routes that browsers open without headers a
//! one-time `?ticket=`; on the WebSocket `?token=`, where `security.query_token` allows it. The first that is present
//! counts, others are ignored; unknown credential fields are ignored. Loopback is no credential.

use std::borrow::Cow;
use std::sync::Mutex;
use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::{self, HeaderValue};

use crate::base::digest::sha256;
use crate::base::ids::{KeyId, OwnerId};
use crate::base::limits::{RATE_ENTRIES_MAX, WRONG_CREDENTIALS_PER_MINUTE};
use crate::base::time::Timestamp;
use crate::http::error::{ErrorStatus, HttpError};
use crate::http::peer::PeerKey;
use crate::middleware::logins::{COOKIE, LoginId, Logins};
use crate::middleware::rate;
use crate::middleware::recent::Recent;
use crate::middleware::tickets::Tickets;
use crate::store::keys::{Bounds, Budget, KeyRecord, Keys, Scopes};
use crate::wire::credentials::{self, Bearer, Cookie};
use crate::wire::query::Query;

pub use crate::middleware::ends::{End, Ending, Ends, Holder};
pub use crate::store::keys::Scope;

/// Evidence that a credential was checked. Only this module makes one.
#[derive(Debug, Clone)]
pub struct Caller {
    holder: Holder,
    owner: OwnerId,
    scopes: Scopes,
    bounds: Bounds,
    budget: Option<Budget>,
    /// It was let in because authentication is off; no key stands behind it.
    open: bool,
}

impl Caller {
    /// The key that was shown; one that no key has, where authentication is off.
    pub fn key_id(&self) -> KeyId {
        self.holder.key
    }
    /// With whom what it opens ends.
    pub(crate) fn holder(&self) -> Holder {
        self.holder
    }
    /// What the key may do.
    pub fn scopes(&self) -> Scopes {
        self.scopes
    }
    /// Whom it belongs to.
    pub fn owner(&self) -> OwnerId {
        self.owner
    }
    /// The key may do this. Scopes come from the key's record only (THREATS 5).
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.has(scope)
    }
    /// The key's own rate, where it has one.
    pub fn rate_limit_per_minute(&self) -> Option<u32> {
        self.bounds.rate_limit_per_minute
    }
    /// What the keys that it makes have at most.
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }
    /// The token budget that its model calls use, where it has one.
    pub fn budget(&self) -> Option<Budget> {
        self.budget
    }
    /// The key that was shown; none where authentication is off.
    pub(crate) fn shown(&self) -> Option<KeyId> {
        (!self.open).then_some(self.holder.key)
    }
    #[cfg(test)]
    pub(crate) fn for_tests(n: u8) -> Self {
        let holder = Holder { key: KeyId::derived(&[n; 32]), login: None };
        Self { holder, owner: OwnerId::derived(&[n; 32]), scopes: Scopes::ALL, bounds: Bounds::default(), budget: None, open: false }
    }
}

/// Where keys are looked up.
pub trait KeyTable {
    /// The record of a presented key, good or not; compares in constant time.
    fn find(&self, presented: &str) -> Option<KeyRecord>;
    /// The record of a key.
    fn by_id(&self, id: KeyId) -> Option<KeyRecord>;
    /// The owner where authentication is off.
    fn first_owner(&self) -> OwnerId;
}

impl KeyTable for Keys {
    fn find(&self, presented: &str) -> Option<KeyRecord> {
        Keys::find(self, presented)
    }
    fn by_id(&self, id: KeyId) -> Option<KeyRecord> {
        Keys::by_id(self, id)
    }
    fn first_owner(&self) -> OwnerId {
        Keys::first_owner(self)
    }
}

/// What is looked at.
pub struct Presented<'a> {
    /// The header fields.
    pub headers: &'a HeaderMap,
    /// The query; where it is not well formed, an empty one.
    pub query: &'a Query,
    /// `?ticket=` counts.
    pub ticket: bool,
    /// `?token=` counts.
    pub token: bool,
    /// The cookie counts (see `origin::takes_cookies`); asked only where there is one.
    pub cookie: &'a dyn Fn() -> bool,
    /// Who presents it, as limits count.
    pub peer: PeerKey,
    /// Monotonic time.
    pub now: Duration,
    /// Wall time, for a key's expiry.
    pub time: Timestamp,
}

/// Checks credentials; remembers who showed wrong ones.
pub struct Doorkeeper {
    /// By peer: times of the last wrong credentials. Taken only when one was wrong.
    wrong: Mutex<Recent<PeerKey, Wrong>>,
}

/// What a browser logs in with.
#[derive(Clone, Copy)]
pub enum Login<'a> {
    /// A key.
    Key(&'a str),
    /// A one-time code.
    Code(&'a str),
}

/// A ring of the last wrong ones, monotonic.
#[derive(Debug, Default)]
struct Wrong {
    times: [Option<Duration>; WRONG_CREDENTIALS_PER_MINUTE as usize],
    next: usize,
}

const MINUTE: Duration = Duration::from_secs(60);

impl Doorkeeper {
    /// Nobody has shown a wrong one.
    pub fn new() -> Self {
        Self { wrong: Mutex::new(Recent::new(RATE_ENTRIES_MAX)) }
    }

    /// The one check of credentials. A valid one always passes, whatever its peer did before.
    ///
    /// # Errors
    /// 401 (RFC 6750 §3: with a reason where a credential was shown); 429 from this peer's 11th wrong one within a minute.
    pub fn admit(
        &self,
        keys: &impl KeyTable,
        (tickets, logins): (&Tickets, &Logins),
        required: bool,
        shown: &Presented<'_>,
    ) -> Result<Caller, HttpError> {
        if !required {
            return Ok(Caller {
                holder: Holder { key: nobody(), login: None },
                owner: keys.first_owner(),
                scopes: Scopes::ALL,
                bounds: Bounds::default(),
                budget: None,
                open: true,
            });
        }
        let of_key = |key: KeyRecord| (key, None);
        let found = match credential(shown) {
            Credential::None => return Err(missing(None)),
            Credential::NotHere(why) => return Err(missing(Some(why))),
            Credential::Malformed => Err("malformed credential"),
            Credential::Key(key) => keys.find(key).map(of_key).ok_or("unknown key"),
            Credential::Ticket(ticket) => {
                let holder = tickets.redeem(ticket, shown.now);
                holder.and_then(|holder| held(keys, logins, holder, shown.time)).ok_or("unknown, used or expired ticket")
            }
            Credential::Cookie(cookie) => {
                let login = LoginId::of(cookie);
                let key = logins.key(login, shown.time).and_then(|id| keys.by_id(id));
                key.map(|key| (key, Some(login))).ok_or("log in again")
            }
        };
        match found.and_then(|(key, login)| Ok((good(key, shown.time)?, login))) {
            Ok((key, login)) => Ok(Caller {
                holder: Holder { key: key.id, login },
                owner: key.owner,
                scopes: key.scopes,
                bounds: Bounds { expires_at: key.expires_at, rate_limit_per_minute: key.rate_limit_per_minute },
                budget: key.budget,
                open: false,
            }),
            Err(why) => Err(self.wrong(shown.peer, why, shown.now)),
        }
    }

    /// The key that a browser logs in with: itself, or by a one-time code. Wrong ones count as everywhere.
    ///
    /// # Errors
    /// 401, 429.
    pub fn log_in(
        &self,
        keys: &impl KeyTable,
        logins: &Logins,
        with: Login<'_>,
        peer: PeerKey,
        (now, time): (Duration, Timestamp),
    ) -> Result<KeyRecord, HttpError> {
        let found = match with {
            Login::Key(key) => keys.find(key).ok_or("unknown key"),
            Login::Code(code) => {
                let holder = logins.codes.redeem(code, now);
                holder.and_then(|holder| held(keys, logins, holder, time)).map(|(key, _)| key).ok_or("unknown, used or expired code")
            }
        };
        found.and_then(|key| good(key, time)).map_err(|why| self.wrong(peer, why, now))
    }

    fn wrong(&self, peer: PeerKey, why: &'static str, now: Duration) -> HttpError {
        let mut wrong = self.wrong.lock().unwrap_or_else(|e| e.into_inner());
        let peer = wrong.at(peer, now);
        let Some(oldest) = peer.times.get_mut(peer.next) else { return refused("invalid_token", why) };
        let before = oldest.replace(now);
        peer.next = (peer.next + 1) % (WRONG_CREDENTIALS_PER_MINUTE as usize);
        match before.map(|before| now.saturating_sub(before)) {
            Some(ago) if ago < MINUTE => {
                rate::too_many("wrong_credentials", (MINUTE - ago).as_secs() + 1, "wrong-credentials", WRONG_CREDENTIALS_PER_MINUTE)
            }
            _ => refused("invalid_token", why),
        }
    }
}

impl Default for Doorkeeper {
    fn default() -> Self {
        Self::new()
    }
}

/// What this holder ([`Caller::holder`]) has open may go on: the key was not revoked and has not lapsed, the browser is logged in; who
/// came in without a key while none was needed may stay as long as none is `required`.
pub fn may_go_on(keys: &impl KeyTable, logins: &Logins, required: bool, holder: Holder, time: Timestamp) -> bool {
    if holder.key == nobody() { !required } else { held(keys, logins, holder, time).is_some_and(|(key, _)| good(key, time).is_ok()) }
}

/// The key of a holder, whose browser, if there is one, is logged in: what became of them since counts.
fn held(keys: &impl KeyTable, logins: &Logins, holder: Holder, time: Timestamp) -> Option<(KeyRecord, Option<LoginId>)> {
    let logged_in = holder.login.is_none_or(|login| logins.key(login, time).is_some());
    keys.by_id(holder.key).filter(|_| logged_in).map(|key| (key, holder.login))
}

/// Stands for a key where authentication is off; no key has this id.
fn nobody() -> KeyId {
    KeyId::derived(&sha256(b"authentication is off"))
}

/// What is told to whoever still waits for an answer when its stream has to end: 401, or 503 where the server stops.
pub fn ended(end: End) -> HttpError {
    match end {
        End::Revoked => refused("invalid_token", "the key was revoked or has expired, or the browser was logged out"),
        End::Shutdown => HttpError::new(ErrorStatus::Unavailable, "draining", "the server is shutting down").retry_after(1),
    }
}

/// 403 for a key without the scope (RFC 6750 §3.1).
pub fn require(caller: &Caller, scope: Scope) -> Result<(), HttpError> {
    if caller.may(scope) {
        return Ok(());
    }
    let name = scope.name();
    let challenge = challenge(&format!(", error=\"insufficient_scope\", scope=\"{name}\""));
    Err(HttpError::new(ErrorStatus::Forbidden, "scope", format!("this needs a key with the scope `{name}`"))
        .header(header::WWW_AUTHENTICATE, challenge))
}

enum Credential<'a> {
    None,
    /// Something that counts elsewhere, and why not here.
    NotHere(&'static str),
    Malformed,
    Key(&'a str),
    Ticket(&'a str),
    Cookie(&'a str),
}

fn credential<'a>(shown: &Presented<'a>) -> Credential<'a> {
    let mut fields = shown.headers.get_all(header::AUTHORIZATION).iter();
    match (fields.next().map(|f| credentials::bearer(f.as_bytes())), fields.next()) {
        (_, Some(_)) | (Some(Bearer::Malformed), None) => return Credential::Malformed,
        (Some(Bearer::Token(token)), None) => return Credential::Key(token),
        (Some(Bearer::Other) | None, None) => {}
    }
    if let Some(ticket) = shown.query.get("ticket").filter(|_| shown.ticket) {
        return credentials::token(ticket.as_bytes()).map_or(Credential::Malformed, Credential::Ticket);
    }
    match shown.query.get("token") {
        Some(token) if shown.token => credentials::token(token.as_bytes()).map_or(Credential::Malformed, Credential::Key),
        Some(_) => Credential::NotHere("a token in the query works on the WebSocket from loopback peers only"),
        None => cookie(shown),
    }
}

fn cookie<'a>(shown: &Presented<'a>) -> Credential<'a> {
    let fields = shown.headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
    match credentials::cookie(fields, COOKIE) {
        Cookie::None => Credential::None,
        _ if !(shown.cookie)() => Credential::NotHere("a cookie counts only with what its own page asks, which Origin tells"),
        Cookie::Malformed => Credential::Malformed,
        Cookie::Token(token) => Credential::Cookie(token),
    }
}

fn good(key: KeyRecord, time: Timestamp) -> Result<KeyRecord, &'static str> {
    match key {
        key if key.revoked => Err("the key was revoked"),
        key if has_lapsed(&key, time) => Err("the key has expired"),
        key => Ok(key),
    }
}

fn has_lapsed(key: &KeyRecord, time: Timestamp) -> bool {
    key.expires_at.is_some_and(|expires| time >= expires)
}

/// RFC 6750 §3.1: without a credential there is no error code.
fn missing(why: Option<&'static str>) -> HttpError {
    let rest = why.map_or(String::new(), |why| format!(", error=\"invalid_request\", error_description=\"{why}\""));
    unauthorized("missing_credential", challenge(&rest))
}

fn refused(error: &str, why: &'static str) -> HttpError {
    unauthorized("wrong_credential", challenge(&format!(", error=\"{error}\", error_description=\"{why}\"")))
}

fn unauthorized(code: &'static str, challenge: HeaderValue) -> HttpError {
    HttpError::new(ErrorStatus::Unauthorized, code, Cow::Borrowed("authentication needed"))
        .header(header::WWW_AUTHENTICATE, challenge)
        .empty()
}

fn challenge(rest: &str) -> HeaderValue {
    HeaderValue::try_from(format!("Bearer realm=\"oxios-edge\"{rest}")).unwrap_or(HeaderValue::from_static("Bearer"))
}

#[cfg(test)]
mod tests;
