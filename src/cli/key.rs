//! `key create`, `key list`, `key revoke`, `key rotate`: on `keys.json` itself, also while a gateway runs on it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::args::Parsed;
use super::output::{Failure, print, tell};
use super::reach::home_option;
use super::{as_owner, home};
use crate::base::ids::KeyId;
use crate::base::limits::BUDGET_TOKENS_MAX;
use crate::base::metrics::Metrics;
use crate::base::random::SystemRandom;
use crate::base::time::{Clock, SystemClock, Timestamp};
use crate::config::Env;
use crate::store::StoreError;
use crate::store::atomic::make_dir;
use crate::store::home::Seams;
use crate::store::keys::{Books, Budget, KeyRecord, Keys, NewKey, NewOwner, Period, Scope, Scopes};
use crate::sys::disk::RealDisk;

/// Makes a key and shows it once.
pub(super) fn create(parsed: &Parsed, env: &Env) -> Result<(), Failure> {
    let name = if parsed.words.is_empty() { "unnamed".to_owned() } else { parsed.words.join(" ") };
    if name.trim().is_empty() || name.chars().count() > 64 || name.chars().any(char::is_control) {
        return Err(Failure::usage("key create: a name has 1 to 64 characters"));
    }
    let scopes = scopes(parsed.value("scopes").unwrap_or("read,chat"))?;
    let lifetime = parsed.value("expires-in").map(|text| duration("--expires-in", text)).transpose()?;
    let rate = parsed.value("rate").map(|text| match text.parse::<u32>() {
        Ok(rate) if rate > 0 => Ok(rate),
        _ => Err(Failure::usage("--rate: a whole number from 1")),
    });
    let rate = rate.transpose()?;
    let budget = budget(parsed)?;
    let home = home(parsed, env)?;
    // A key may be made before the first start.
    make_dir(&RealDisk, &home).map_err(|e| Failure::failed(format!("{}: {e}", home.display())))?;
    let (keys, clock) = open(&as_owner(&home)?)?;
    let owner = match parsed.value("owner") {
        None | Some("first") => NewOwner::Of(keys.first_owner()),
        Some("new") => NewOwner::New,
        Some(_) => return Err(Failure::usage("--owner is `first` or `new`")),
    };
    let expires_at = lifetime.map(|lifetime| clock.now().plus(lifetime));
    let new = NewKey { name, owner, scopes, expires_at, rate_limit_per_minute: rate, budget };
    let (record, secret) = keys.create(new).map_err(|e| Failure::failed(e.to_string()))?;
    introduce(&record);
    // The one place where a key is printed: the person asked for it, and it is kept nowhere.
    print(format_args!("{}\n", secret.reveal()));
    Ok(())
}

/// Lists the keys, never their values.
pub(super) fn list(parsed: &Parsed, env: &Env) -> Result<(), Failure> {
    let home = as_owner(&home(parsed, env)?)?;
    let (keys, clock) = open_made(&home)?;
    let keys = Arc::new(keys);
    let books = Books::open(&home, seams(&clock), keys.clone(), Metrics::new(0)).map_err(|e| Failure::failed(e.to_string()))?;
    let records = keys.list_all();
    if parsed.has("json") {
        let text = serde_json::to_string(&records).map_err(|e| Failure::failed(e.to_string()))?;
        print(format_args!("{text}\n"));
        return Ok(());
    }
    print(format_args!("{:<36}  {:<16}  {:<8}  {:<29}  {:<10}  {:<24}  NAME\n", "ID", "STATE", "OWNER", "SCOPES", "MADE", "TOKENS"));
    for record in records {
        let used = record.budget.map(|budget| books.used(&budget));
        print(format_args!("{}\n", line(&record, &keys, used, clock.now())));
    }
    Ok(())
}

/// Revokes a key.
pub(super) fn revoke(parsed: &Parsed, env: &Env) -> Result<(), Failure> {
    let [id] = parsed.words.as_slice() else { return Err(Failure::usage("key revoke: name one id; `oxios-edge key list` shows them")) };
    let id = KeyId::parse(id).map_err(|e| Failure::usage(format!("{id}: {e}; `oxios-edge key list` shows the ids")))?;
    let home = home(parsed, env)?;
    let (keys, _) = open_made(&as_owner(&home)?)?;
    let Some(record) = keys.by_id(id) else {
        return Err(Failure::failed(format!("there is no key {id}; see oxios-edge key list{}", home_option(&home))));
    };
    keys.revoke(record.owner, id).map_err(|e| Failure::failed(e.to_string()))?;
    print(format_args!("revoked {id} ({})\n", record.name));
    Ok(())
}

/// Makes a key with the rights of another one, which ends.
pub(super) fn rotate(parsed: &Parsed, env: &Env) -> Result<(), Failure> {
    let [id] = parsed.words.as_slice() else { return Err(Failure::usage("key rotate: name one id; `oxios-edge key list` shows them")) };
    let id = KeyId::parse(id).map_err(|e| Failure::usage(format!("{id}: {e}; `oxios-edge key list` shows the ids")))?;
    let overlap = parsed.value("overlap").map(|text| duration("--overlap", text)).transpose()?.unwrap_or_default();
    let home = home(parsed, env)?;
    let (keys, _) = open_made(&as_owner(&home)?)?;
    let Some(old) = keys.by_id(id) else {
        return Err(Failure::failed(format!("there is no key {id}; see oxios-edge key list{}", home_option(&home))));
    };
    let (record, secret) = keys.rotate(old.owner, id, overlap).map_err(|error| match error {
        StoreError::Conflict => Failure::failed("the key was revoked or has expired; make a new one"),
        error => Failure::failed(error.to_string()),
    })?;
    if let Some(end) = keys.by_id(id).and_then(|old| old.expires_at) {
        tell(format_args!("the old key ends at {end}"));
    }
    introduce(&record);
    print(format_args!("{}\n", secret.reveal()));
    Ok(())
}

/// What a new key is, before its text.
fn introduce(record: &KeyRecord) {
    let end = record.expires_at.map_or("has no end".to_owned(), |end| format!("ends at {end}"));
    tell(format_args!("key {} ({}), scopes {}; it {end}. It is shown this once:", record.id, record.name, words(record.scopes)));
}

/// Those of a home that has some: who only looks, or mistypes a path, makes none.
fn open_made(home: &Path) -> Result<(Keys, Arc<dyn Clock>), Failure> {
    let failed = |e: std::io::Error| Failure::failed(format!("keys.json: {e}"));
    if !home.join("keys.json").try_exists().map_err(failed)? {
        return Err(Failure::failed("there are no keys in that home yet; `oxios-edge serve` and `oxios-edge key create` make them"));
    }
    open(home)
}

fn open(home: &Path) -> Result<(Keys, Arc<dyn Clock>), Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let keys = Keys::beside(home, seams(&clock)).map_err(|e| Failure::failed(e.to_string()))?;
    Ok((keys, clock))
}

fn seams(clock: &Arc<dyn Clock>) -> Seams {
    Seams { disk: Arc::new(RealDisk), clock: clock.clone(), random: Arc::new(SystemRandom::new()) }
}

fn line(record: &KeyRecord, keys: &Keys, used: Option<u64>, now: Timestamp) -> String {
    let day = |time: Timestamp| time.to_string().chars().take(10).collect::<String>();
    let state = match record.expires_at {
        _ if record.revoked => "revoked".to_owned(),
        Some(at) if at <= now => "expired".to_owned(),
        Some(at) => format!("until {}", day(at)),
        None => "active".to_owned(),
    };
    let owner = if record.owner == keys.first_owner() { "first".to_owned() } else { record.owner.to_string().chars().take(8).collect() };
    let tokens = match (record.budget, used) {
        (Some(Budget { tokens, per, .. }), Some(used)) => format!("{used} of {tokens} {}", per.words()),
        _ => "-".to_owned(),
    };
    format!(
        "{}  {state:<16}  {owner:<8}  {:<29}  {:<10}  {tokens:<24}  {}",
        record.id,
        words(record.scopes),
        day(record.created_at),
        super::output::harmless(&record.name)
    )
}

fn scopes(text: &str) -> Result<Scopes, Failure> {
    let mut chosen = Vec::new();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let scope = Scope::parse(word);
        chosen.push(scope.ok_or_else(|| Failure::usage(format!("--scopes: {word:?} is none of read, chat, write, approve, admin")))?);
    }
    if chosen.is_empty() { Err(Failure::usage("--scopes: name at least one")) } else { Ok(Scopes::of(&chosen)) }
}

/// The budget of `--tokens-per-day` and its like.
fn budget(parsed: &Parsed) -> Result<Option<Budget>, Failure> {
    let options = [("tokens-per-day", Period::Day), ("tokens-per-month", Period::Month), ("tokens-total", Period::Total)];
    let mut given = options.iter().filter_map(|(option, per)| Some((*option, parsed.value(option)?, *per)));
    let Some((option, text, per)) = given.next() else { return Ok(None) };
    if let Some((other, ..)) = given.next() {
        return Err(Failure::usage(format!("--{option} and --{other}: a key has one budget")));
    }
    let budget = text.parse().ok().and_then(|tokens| Budget::new(tokens, per, &SystemRandom::new()));
    budget.map(Some).ok_or_else(|| Failure::usage(format!("--{option}: a whole number from 1 to {BUDGET_TOKENS_MAX}")))
}

fn words(scopes: Scopes) -> String {
    scopes.iter().map(Scope::name).collect::<Vec<_>>().join(",")
}

/// `90d`, `12h`, `30m`, `45s`.
fn duration(option: &str, text: &str) -> Result<Duration, Failure> {
    let wrong = || Failure::usage(format!("{option} {text}: write a number and d, h, m or s, for example 90d"));
    let split = text.len().checked_sub(1).filter(|at| text.is_char_boundary(*at)).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "d" => 86_400,
        "h" => 3600,
        "m" => 60,
        "s" => 1,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    // A hundred years: more is "never", which is said by leaving it out.
    match number.checked_mul(seconds) {
        Some(total) if (1..=3_155_760_000).contains(&total) => Ok(Duration::from_secs(total)),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_read() {
        assert_eq!(duration("--x", "90d").unwrap(), Duration::from_secs(90 * 86_400));
        assert_eq!(duration("--x", "30m").unwrap(), Duration::from_secs(1800));
        for bad in ["", "d", "90", "0d", "1y", "-1d", "99999999999999999999d", "9ü"] {
            assert_eq!(duration("--x", bad).unwrap_err().code, 2, "{bad}");
        }
    }

    #[test]
    fn scopes_are_read_and_written() {
        assert_eq!(words(scopes("chat, read").unwrap()), "read,chat");
        assert_eq!(words(Scopes::ALL), "read,chat,write,approve,admin");
        assert!(scopes("root").unwrap_err().text.contains("root"));
        assert!(scopes("").is_err());
    }
}
