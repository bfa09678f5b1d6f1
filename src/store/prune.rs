//! Which sessions go when there are too many or too old ones. Pure; `sessions` deletes what is listed.

use std::time::Duration;

use crate::base::ids::SessionId;
use crate::base::time::Timestamp;
use crate::store::sessions::Settings;

/// A session as pruning sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) id: SessionId,
    pub(crate) updated: Timestamp,
    /// Something uses it, or a message in it is not over: it stays.
    pub(crate) in_use: bool,
}

/// What goes: first what is older than the time to live, then all but the newest `max_sessions`. Sessions in use count, and stay.
/// `trusted` is false while the wall clock is known to be wrong: then nothing goes for its age.
pub(crate) fn plan(mut all: Vec<Candidate>, settings: &Settings, now: Timestamp, trusted: bool) -> Vec<SessionId> {
    // Newest first; equal times in a fixed order, so that two runs agree.
    all.sort_by(|a, b| b.updated.cmp(&a.updated).then(a.id.cmp(&b.id)));
    let ttl = Duration::from_secs(settings.ttl_hours.saturating_mul(3600));
    let old = |c: &Candidate| trusted && settings.ttl_hours > 0 && now.since(c.updated) > ttl;
    let mut kept = 0;
    let mut gone = Vec::new();
    for candidate in all {
        let surplus = settings.max_sessions > 0 && kept >= settings.max_sessions;
        if !candidate.in_use && (old(&candidate) || surplus) {
            gone.push(candidate.id);
        } else {
            kept += 1;
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: u8, hours: u64, in_use: bool) -> Candidate {
        let updated = Timestamp::from_millis(1_800_000_000_000 + hours * 3_600_000);
        Candidate { id: SessionId::derived(&[n; 32]), updated, in_use }
    }
    fn check(all: &[Candidate], ttl_hours: u64, max_sessions: usize, trusted: bool, gone: &[u8]) {
        let settings = Settings { ttl_hours, max_sessions, ..Settings::default() };
        let mut got = plan(all.to_vec(), &settings, at(0, 100, false).updated, trusted);
        let mut want: Vec<_> = gone.iter().map(|n| at(*n, 0, false).id).collect();
        got.sort();
        want.sort();
        assert_eq!(got, want, "ttl {ttl_hours}, max {max_sessions}");
    }

    #[test]
    fn old_ones_go_then_all_but_the_newest_and_never_one_in_use() {
        let all = [at(1, 10, false), at(2, 50, true), at(3, 60, false), at(4, 90, false), at(5, 99, false)];
        check(&all, 0, 0, true, &[]);
        check(&all, 45, 0, true, &[1]);
        check(&all, 24, 0, true, &[1, 3]);
        check(&all, 24, 0, false, &[]);
        check(&all, 0, 2, true, &[1, 3]);
        check(&all, 0, 1, true, &[1, 3, 4]);
        check(&all, 5, 1, true, &[1, 3, 4]);
        check(&all, 45, 2, false, &[1, 3]);
    }
}
