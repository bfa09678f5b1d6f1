//! API keys (API B): list, make, revoke, rotate. A key's text is shown once, where it is made.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::api::{self, App, Call};
use crate::base::ids::{KeyId, OwnerId};
use crate::base::limits::BUDGET_TOKENS_MAX;
use crate::base::time::Timestamp;
use crate::http::Response;
use crate::http::error::{ErrorStatus, HttpError};
use crate::store::StoreError;
use crate::store::keys::{self, Budget, KeyRecord, Period, Scope, Scopes};
use crate::store::sessions::Page;

/// A key's name, in characters.
const NAME_CHARS_MAX: usize = 64;
/// A hundred years: more is "never", which is said by leaving it out.
const EXPIRES_IN_SECS_MAX: u64 = 3_155_760_000;
/// A rotated key goes on for a month at most: what takes longer wants two keys.
const OVERLAP_SECS_MAX: u64 = 31 * 24 * 3600;

/// A key to make.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct NewKey {
    /// What people know it by.
    #[cfg_attr(test, schemars(length(max = NAME_CHARS_MAX), regex(pattern = api::shapes::LINE)))]
    name: String,
    /// What it may do: at least one, and only what the calling key may do.
    #[cfg_attr(test, schemars(length(min = 1)))]
    scopes: Vec<Scope>,
    /// `new` makes a new owner, who sees nothing of the others; without it the key is of the calling key's owner.
    #[serde(default)]
    owner: Option<Owner>,
    /// Seconds that it lives; without it for ever, or as long as the calling key, which it never outlives.
    #[serde(default)]
    #[cfg_attr(test, schemars(range(min = 1, max = EXPIRES_IN_SECS_MAX)))]
    expires_in_secs: Option<u64>,
    /// Its own rate; without it the calling key's own, which it never exceeds, or `security.rate_limit_per_minute`. Each key has its
    /// rate to itself: that of the calling key bounds each key that it makes, not all of them together.
    #[serde(default)]
    #[cfg_attr(test, schemars(range(min = 1)))]
    rate_limit_per_minute: Option<u32>,
    /// Tokens that it may use; without it as many as it likes. A key that has a budget makes only keys that share it, and names
    /// none here.
    #[serde(default)]
    token_budget: Option<TokenBudget>,
}

/// How many tokens the models may read and write for a key: answers, tasks with their judges and repairs, plain model calls, and
/// the scheduled tasks that it makes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct TokenBudget {
    /// So many.
    #[cfg_attr(test, schemars(range(min = 1, max = 1_000_000_000_000_u64)))]
    tokens: u64,
    /// In which time.
    per: Period,
}

/// Whose key to make.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
enum Owner {
    /// A new owner's.
    New,
}

/// How to rotate.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Rotation {
    /// Seconds that the old key goes on; 0 ends it at once. Within them it can be rotated again, where the answer was lost: by
    /// another key or the command line, not by itself.
    #[cfg_attr(test, schemars(range(max = OVERLAP_SECS_MAX)))]
    overlap_secs: u64,
}

/// A key without its text.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Key {
    /// Its id; no secret.
    id: KeyId,
    /// What people know it by.
    name: String,
    /// Whose it is.
    owner: OwnerId,
    /// What it may do.
    scopes: Scopes,
    /// Whether it works.
    status: Status,
    /// When it was made.
    created_at: Timestamp,
    /// When it ends or ended; never where it is null.
    expires_at: Option<Timestamp>,
    /// Its own rate, where it has one.
    rate_limit_per_minute: Option<u32>,
    /// Its token budget, where it has one.
    token_budget: Option<TokenBudgetUse>,
}

/// A token budget and what is used of it. A rotated key goes on with it, keys made by a key with a budget share it.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct TokenBudgetUse {
    /// Tokens in all.
    tokens: u64,
    /// In which time.
    per: Period,
    /// Used by now: calls that are over. After a crash it counts what was set aside before.
    used: u64,
    /// When it begins anew; a total never does.
    renews_at: Option<Timestamp>,
}

/// Whether a key works.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "KeyStatus"))]
enum Status {
    /// It does.
    Active,
    /// Its time is over.
    Expired,
    /// Somebody ended it.
    Revoked,
}

/// A new key.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct KeyMade {
    /// Its text: for `Authorization: Bearer`. Shown this once.
    key: String,
    /// What is known of it from now on.
    #[serde(flatten)]
    record: Key,
}

/// What became of a key.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct KeyRevoked {
    /// `revoked`.
    status: &'static str,
    /// The key.
    id: KeyId,
}

#[cfg(test)]
pub(super) fn shapes(all: &mut api::shapes::Shapes) {
    all.takes::<NewKey>("NewKey");
    all.takes::<Rotation>("Rotation");
    all.answers::<Page<Key>>("KeyPage");
    all.answers::<KeyMade>("KeyMade");
    all.answers::<KeyRevoked>("KeyRevoked");
}

/// `GET /api/keys`: the caller's owner's, oldest first.
pub(crate) async fn list(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (owner, page, now) = (call.caller()?.owner(), call.page()?, app.clock.now());
    let keys = app.keys.list(owner);
    let from = (page.page - 1).saturating_mul(page.limit);
    let items = keys.iter().skip(from).take(page.limit).map(|record| shown(&app, record, now)).collect();
    api::json(&Page { items, total: keys.len(), page: page.page, limit: page.limit })
}

/// `POST /api/keys`.
pub(crate) async fn create(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let caller = call.caller()?;
    let new: NewKey = call.json()?;
    if new.name.trim().is_empty() || new.name.chars().count() > NAME_CHARS_MAX || new.name.chars().any(char::is_control) {
        return Err(HttpError::bad_request(format!("name: expected 1 to {NAME_CHARS_MAX} characters, none of them a control character")));
    }
    let scopes = Scopes::of(&new.scopes);
    if scopes == Scopes::NONE {
        return Err(HttpError::bad_request("scopes: name at least one of read, chat, write, approve, admin"));
    }
    holds(caller.scopes(), scopes)?;
    if new.expires_in_secs.is_some_and(|secs| !(1..=EXPIRES_IN_SECS_MAX).contains(&secs)) {
        return Err(HttpError::bad_request(format!("expires_in_secs: expected 1 to {EXPIRES_IN_SECS_MAX}")));
    }
    if new.rate_limit_per_minute == Some(0) {
        return Err(HttpError::bad_request("rate_limit_per_minute: expected a whole number from 1"));
    }
    let budget = match (caller.budget(), new.token_budget) {
        (own, None) => own,
        (None, Some(TokenBudget { tokens, per })) => Some(
            Budget::new(tokens, per, &*app.random)
                .ok_or_else(|| HttpError::bad_request(format!("token_budget.tokens: expected 1 to {BUDGET_TOKENS_MAX}")))?,
        ),
        (Some(_), Some(_)) => return Err(shares()),
    };
    // A key for a day must not leave one for ever.
    let bounds = caller.bounds();
    let key = keys::NewKey {
        name: new.name,
        owner: if new.owner.is_some() { keys::NewOwner::New } else { keys::NewOwner::Of(caller.owner()) },
        scopes,
        expires_at: bounds.end(new.expires_in_secs.map(|secs| app.clock.now().plus(Duration::from_secs(secs)))),
        rate_limit_per_minute: bounds.rate(new.rate_limit_per_minute),
        budget,
    };
    let (table, now) = (app.keys.clone(), app.clock.now());
    let (record, secret) = api::blocking(move || table.create(key).map_err(full)).await?;
    api::created(&KeyMade { key: secret.reveal().to_owned(), record: shown(&app, &record, now) })
}

/// `DELETE /api/keys/{id}`: its open streams end within a second. The keys that it made go on.
pub(crate) async fn revoke(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (owner, id, table) = (call.caller()?.owner(), id(&call)?, app.keys.clone());
    api::blocking(move || table.revoke(owner, id)).await?;
    api::json(&KeyRevoked { status: "revoked", id })
}

/// `POST /api/keys/{id}/rotate`: a new key with the same owner, name, scopes and limits; none that the calling key could not make.
/// Rotated again before its overlap is over, it makes another one of the same life.
pub(crate) async fn rotate(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let caller = call.caller()?;
    let rotation: Rotation = call.json_if_any()?;
    let (owner, id, table, now) = (caller.owner(), id(&call)?, app.keys.clone(), app.clock.now());
    if rotation.overlap_secs > OVERLAP_SECS_MAX {
        return Err(HttpError::bad_request(format!("overlap_secs: expected 0 to {OVERLAP_SECS_MAX}")));
    }
    let old = app.keys.by_id(id).filter(|record| record.owner == owner).ok_or_else(|| HttpError::not_found("no such key"))?;
    holds(caller.scopes(), old.scopes)?;
    if caller.budget().is_some() && caller.budget() != old.budget {
        return Err(shares());
    }
    // Made shorter or slower, it would take the place of one that was not, in the token file, too.
    let bounds = caller.bounds();
    let (own_end, rate) = (old.own_end(), old.rate_limit_per_minute);
    if (bounds.end(own_end), bounds.rate(rate)) != (own_end, rate) {
        let text = match caller.key_id() == id {
            // Whoever else has it is to be rid of it with its overlap.
            true => {
                "this key was rotated already and makes none that outlives it; rotate it with another key or by `oxios-edge key rotate`"
            }
            false => "a key rotates only keys that end no later and are no faster than itself",
        };
        return Err(HttpError::new(ErrorStatus::Forbidden, "bounds", text));
    }
    let overlap = Duration::from_secs(rotation.overlap_secs);
    let (record, secret) = api::blocking(move || table.rotate(owner, id, overlap).map_err(full)).await?;
    api::created(&KeyMade { key: secret.reveal().to_owned(), record: shown(&app, &record, now) })
}

fn id(call: &Call) -> Result<KeyId, HttpError> {
    KeyId::parse(call.param("id")).map_err(|_| HttpError::bad_request("id: expected a UUID in lower case"))
}

/// Nobody gives what he has not (THREATS 5).
fn holds(own: Scopes, wanted: Scopes) -> Result<(), HttpError> {
    if own.holds(wanted) {
        return Ok(());
    }
    let text = "a key makes and rotates keys only with scopes that it has itself";
    Err(HttpError::new(ErrorStatus::Forbidden, "scope", text))
}

/// Nobody gets round its budget by a key without one.
fn shares() -> HttpError {
    let text = "a key with a token budget makes and rotates only keys that share it";
    HttpError::new(ErrorStatus::Forbidden, "token_budget", text)
}

fn full(error: StoreError) -> HttpError {
    match error {
        StoreError::TooLarge(text) => HttpError::conflict(text).code("keys_full"),
        StoreError::NotFound => HttpError::not_found("no such key"),
        StoreError::Conflict => HttpError::conflict("the key was revoked or has expired; make a new one"),
        error => error.into(),
    }
}

fn shown(app: &App, record: &KeyRecord, now: Timestamp) -> Key {
    let status = match record {
        record if record.revoked => Status::Revoked,
        record if !record.is_valid(now) => Status::Expired,
        _ => Status::Active,
    };
    Key {
        id: record.id,
        name: record.name.clone(),
        owner: record.owner,
        scopes: record.scopes,
        status,
        created_at: record.created_at,
        expires_at: record.expires_at,
        rate_limit_per_minute: record.rate_limit_per_minute,
        token_budget: record.budget.map(|budget| TokenBudgetUse {
            tokens: budget.tokens,
            per: budget.per,
            used: app.books.used(&budget),
            renews_at: budget.per.end(now),
        }),
    }
}
