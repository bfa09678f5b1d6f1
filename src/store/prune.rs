//! Which sessions go when there are too many or too old ones, and how.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::SessionId;
use crate::base::log;
use crate::base::time::Timestamp;
use crate::store::session::blocking;
use crate::store::sessions::{Remove, Sessions, Settings, group};
use crate::store::{StoreError, remove};

/// Sessions that pruning deletes with one sync: the ids of a group wait for it.
const PRUNE_AT_ONCE: usize = 256;

/// A session as pruning sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) id: SessionId,
    pub(crate) updated: Timestamp,
    /// Something uses it, or a message in it is not over: it stays.
    pub(crate) in_use: bool,
}

/// Those above, who record deletions and have what belongs to a session and lies elsewhere.
pub trait Above: Sync {
    /// These are about to be pruned, which is recorded first. False where it cannot be: then they stay.
    fn begins(&self, ids: &[SessionId]) -> impl Future<Output = bool> + Send;
    /// What became of them: they are gone, or stay.
    fn pruned(&self, ids: &[SessionId], gone: bool) -> impl Future<Output = ()> + Send;
    /// These are gone, perhaps longer than this process lives: a crash may have left what belongs to them. Told again and again.
    fn buried(&self, ids: &[SessionId]) -> impl Future<Output = ()> + Send;
}

impl Sessions {
    /// Prunes by the settings now; tells which went.
    ///
    /// # Errors
    /// The disk refused; `above` was told what went before.
    pub async fn prune(&self, above: &impl Above) -> Result<Vec<SessionId>, StoreError> {
        let chosen = self.chosen().await?;
        let pruned = self.prune_these(chosen, above).await?;
        if !pruned.is_empty() {
            log::info("store", format_args!("{} sessions pruned", pruned.len()));
        }
        Ok(pruned)
    }

    /// What is to go by the settings now.
    pub(crate) async fn chosen(&self) -> Result<Vec<Candidate>, StoreError> {
        self.ensure_built(|| false).await?;
        let core = self.core.clone();
        let mut candidates = blocking(move || {
            core.index.settle(&core);
            Ok(core.index.candidates())
        })
        .await?;
        let used: HashSet<SessionId> = self.used();
        for candidate in &mut candidates {
            candidate.in_use |= used.contains(&candidate.id);
        }
        let clock = &self.core.home.seams().clock;
        Ok(plan(candidates, &self.core.settings.load(), clock.now(), !clock.corrected()))
    }

    /// Deletes these, unless they are in use or were used since they were chosen.
    pub(crate) async fn prune_these(&self, chosen: Vec<Candidate>, above: &impl Above) -> Result<Vec<SessionId>, StoreError> {
        let mut pruned = Vec::new();
        if chosen.is_empty() {
            return Ok(pruned);
        }
        let core = self.core.clone();
        let names = Arc::new(blocking(move || Ok(remove::Names::read(&core))).await?);
        let mut groups: BTreeMap<usize, Vec<Candidate>> = BTreeMap::new();
        for candidate in chosen {
            groups.entry(group(candidate.id)).or_default().push(candidate);
        }
        for some in groups.values().flat_map(|group| group.chunks(PRUNE_AT_ONCE)) {
            let Some(first) = some.first() else { continue };
            let turn = self.turn(first.id).await;
            let (held, free): (Vec<Candidate>, Vec<Candidate>) = some.iter().partition(|c| self.in_hand(c.id).is_some());
            let core = self.core.clone();
            // Nobody has these, and nobody gets them while the turn is held; so they need not be opened.
            let (free, turn) = blocking(move || {
                core.durability.settle();
                let unused = free.iter().filter(|c| core.index.candidate(c.id) == Some(**c));
                Ok((unused.map(|c| c.id).collect::<Vec<_>>(), turn))
            })
            .await?;
            if !free.is_empty() {
                if !above.begins(&free).await {
                    return Ok(pruned);
                }
                let (core, names) = (self.core.clone(), names.clone());
                let (gone, stay, done) = blocking(move || {
                    let _turn = turn;
                    let done = remove::bury_all(&core, &free, &names);
                    let is_gone = |id: &SessionId| done.is_ok() || remove::is_buried(&core, *id);
                    let (gone, stay): (Vec<SessionId>, Vec<SessionId>) = free.into_iter().partition(is_gone);
                    Ok((gone, stay, done))
                })
                .await?;
                above.pruned(&gone, true).await;
                above.pruned(&stay, false).await;
                pruned.extend(gone);
                done?;
            } else {
                drop(turn);
            }
            for candidate in held {
                let Some(session) = self.in_hand(candidate.id) else { continue };
                let unused = self.core.index.candidate(candidate.id) == Some(candidate) && !self.is_used(&session);
                if !unused {
                    continue;
                }
                let ids = [candidate.id];
                if !above.begins(&ids).await {
                    return Ok(pruned);
                }
                let removed = self.remove(session, Remove::Idle(names.clone())).await;
                let gone = match &removed {
                    Ok(gone) => *gone,
                    Err(_) => {
                        let core = self.core.clone();
                        blocking(move || Ok(remove::is_buried(&core, candidate.id))).await.unwrap_or(false)
                    }
                };
                above.pruned(&ids, gone).await;
                pruned.extend(gone.then_some(candidate.id));
                removed?;
            }
        }
        Ok(pruned)
    }
}

/// What goes: first what is older than the time to live, then all but the newest `max_sessions`. Sessions in use count, and stay.
/// `trusted` is false while the wall clock is known to be wrong: then nothing goes for its age.
pub(crate) fn plan(mut all: Vec<Candidate>, settings: &Settings, now: Timestamp, trusted: bool) -> Vec<Candidate> {
    // Newest first; equal times in a fixed order, so that two runs agree.
    all.sort_by(|a, b| b.updated.cmp(&a.updated).then(a.id.cmp(&b.id)));
    let ttl = Duration::from_secs(settings.ttl_hours.saturating_mul(3600));
    let old = |c: &Candidate| trusted && settings.ttl_hours > 0 && now.since(c.updated) > ttl;
    let mut kept = 0;
    let mut gone = Vec::new();
    for candidate in all {
        let surplus = settings.max_sessions > 0 && kept >= settings.max_sessions;
        if !candidate.in_use && (old(&candidate) || surplus) {
            gone.push(candidate);
        } else {
            kept += 1;
        }
    }
    gone
}

/// Nobody is above.
#[cfg(test)]
impl Above for () {
    async fn begins(&self, _: &[SessionId]) -> bool {
        true
    }
    async fn pruned(&self, _: &[SessionId], _: bool) {}
    async fn buried(&self, _: &[SessionId]) {}
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
        let gone_now = plan(all.to_vec(), &settings, at(0, 100, false).updated, trusted);
        let mut got: Vec<_> = gone_now.iter().map(|candidate| candidate.id).collect();
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
