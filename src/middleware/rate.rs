//! Rates: a token bucket per key, else per peer. Nobody's requests use up another's budget.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};

use crate::base::ids::KeyId;
use crate::base::limits::RATE_ENTRIES_MAX;
use crate::base::live::Live;
use crate::base::time::Clock;
use crate::http::error::{ErrorStatus, HttpError};
use crate::http::peer::PeerKey;
use crate::middleware::recent::Recent;
use crate::middleware::settings::Settings;

/// Whose budget a request uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Payer {
    /// The key it came with.
    Key(KeyId),
    /// Its peer, on routes without a key.
    Peer(PeerKey),
}

/// All budgets.
pub struct Rates {
    /// Taken for one lookup by every counted request.
    buckets: Mutex<Recent<Payer, Bucket>>,
}

/// What has been spent of a budget; it flows back at `per_minute` a minute.
#[derive(Debug, Default)]
struct Bucket {
    /// In requests, at `at`.
    spent: f64,
    at: Duration,
}

impl Rates {
    /// Everybody's budget is whole.
    pub fn new() -> Self {
        Self { buckets: Mutex::new(Recent::new(RATE_ENTRIES_MAX)) }
    }

    /// One request. `per_minute` is both the rate and the burst; 0 is no limit. `now` is monotonic.
    ///
    /// # Errors
    /// 429, empty, with `Retry-After`, `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers).
    pub fn take(&self, payer: Payer, per_minute: u32, now: Duration) -> Result<(), HttpError> {
        if per_minute == 0 {
            return Ok(());
        }
        let (limit, per_second) = (f64::from(per_minute), f64::from(per_minute) / 60.0);
        let wait = {
            let mut buckets = self.buckets.lock().unwrap_or_else(|e| e.into_inner());
            let bucket = buckets.at(payer, now);
            bucket.spent = (bucket.spent - now.saturating_sub(bucket.at).as_secs_f64() * per_second).max(0.0);
            bucket.at = now;
            let over = bucket.spent + 1.0 - limit;
            if over <= 0.0 {
                bucket.spent += 1.0;
                return Ok(());
            }
            over / per_second
        };
        // Whole seconds, rounded up: an earlier try would be refused again.
        let secs = wait.ceil().clamp(1.0, 60.0) as u64;
        Err(too_many("rate", secs, "default", per_minute))
    }
}

impl Default for Rates {
    fn default() -> Self {
        Self::new()
    }
}

/// One caller's rate, for what it sends on a connection after its request was counted.
pub struct Pace {
    rates: Arc<Rates>,
    settings: Arc<Live<Settings>>,
    clock: Arc<dyn Clock>,
    payer: Payer,
    /// The key's own rate, where it has one.
    own: Option<u32>,
}

impl Pace {
    pub(crate) fn new(rates: Arc<Rates>, settings: Arc<Live<Settings>>, clock: Arc<dyn Clock>, payer: Payer, own: Option<u32>) -> Self {
        Self { rates, settings, clock, payer, own }
    }

    /// One message, as one request.
    ///
    /// # Errors
    /// 429, as [`Rates::take`].
    pub fn take(&self) -> Result<(), HttpError> {
        let per_minute = self.own.unwrap_or_else(|| self.settings.load().rate_limit_per_minute);
        self.rates.take(self.payer, per_minute, self.clock.monotonic())
    }
}

/// 429 without a body; `policy` names the limit of `quota` a minute that was met.
pub(super) fn too_many(code: &'static str, retry_secs: u64, policy: &str, quota: u32) -> HttpError {
    let field = |text: String| HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""));
    HttpError::new(ErrorStatus::TooManyRequests, code, "too many requests")
        .retry_after(retry_secs)
        .header(HeaderName::from_static("ratelimit"), field(format!("\"{policy}\";r=0;t={retry_secs}")))
        .header(HeaderName::from_static("ratelimit-policy"), field(format!("\"{policy}\";q={quota};w=60")))
        .empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Payer = Payer::Peer(PeerKey::Unix);
    const B: Payer = Payer::Peer(PeerKey::V4([10, 0, 0, 1]));

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_budget_is_a_minutes_worth_and_flows_back() {
        let rates = Rates::new();
        let passed = (0..100).filter(|_| rates.take(A, 60, secs(5)).is_ok()).count();
        assert_eq!(passed, 60);
        assert!(rates.take(A, 60, secs(6)).is_ok());
        assert!(rates.take(A, 60, secs(6)).is_err());
        assert_eq!((0..100).filter(|_| rates.take(A, 60, secs(1000)).is_ok()).count(), 60);
    }

    #[test]
    fn nobody_pays_for_another() {
        let rates = Rates::new();
        while rates.take(A, 5, secs(1)).is_ok() {}
        assert!(rates.take(B, 5, secs(1)).is_ok());
    }

    #[test]
    fn no_limit_is_no_limit() {
        let rates = Rates::new();
        assert!((0..10_000).all(|_| rates.take(A, 0, secs(1)).is_ok()));
    }

    #[test]
    fn the_answer_says_when_to_come_back() {
        let rates = Rates::new();
        for _ in 0..6 {
            assert!(rates.take(A, 6, secs(1)).is_ok());
        }
        let response = rates.take(A, 6, secs(1)).unwrap_err().into_response();
        let field = |name: &str| response.headers().get(name).unwrap().to_str().unwrap().to_owned();
        assert_eq!(response.status(), 429);
        assert_eq!(field("retry-after"), "10");
        assert_eq!(field("ratelimit"), "\"default\";r=0;t=10");
        assert_eq!(field("ratelimit-policy"), "\"default\";q=6;w=60");
        assert!(response.body().is_empty());
    }
}
