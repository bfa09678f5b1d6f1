//! Who may hold a connection: caps on all, on strangers, and on strangers of one peer; the oldest stranger goes first.
//!
//! Whoever showed a good key once is known as long as the connection lasts, so the known leave some places to newcomers, and where
//! they are too many, the one that has rested longest goes: one key's connections keep nobody else out, an idle one stays while
//! there is room.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::base::limits::{CONNECTIONS_UNSEEN_MAX, STRANGERS_CROWDED_SHARE};
use crate::http::peer::PeerKey;
use crate::http::turnstile::{Turnstile, Visitor};

/// One place in so many is kept free among the strangers': the time in which one of them leaves is then nobody's waiting time. So
/// many places the known leave to them, too.
const VACANT_SHARE: usize = 16;

/// How many may be here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caps {
    pub(super) all: usize,
    pub(super) strangers: usize,
    pub(super) strangers_per_peer: usize,
}

impl Caps {
    /// Of all, those that are known. A house of one place has no second one to keep.
    fn known(&self) -> usize {
        // Two at least: whoever sits in the last place goes for the next one before having said a word.
        let left = (self.strangers.min(self.all) / VACANT_SHARE).max(2);
        self.all.saturating_sub(left).max(1)
    }
}

/// Everybody who holds a connection.
pub(super) struct Crowd {
    caps: Caps,
    /// Taken for a few map operations by the listener (admission) and by each connection (first credential, end).
    state: Mutex<State>,
    /// Woken whenever somebody leaves: the listener may wait for room, a drain for the last one.
    left: Notify,
    /// Woken whenever somebody who came in is served for the first time.
    seen: Notify,
    /// Many strangers are here; read at every step of one.
    crowded: AtomicBool,
    turnstile: Arc<Turnstile>,
    begun: Instant,
}

#[derive(Default)]
struct State {
    /// Whoever has a socket of ours: strangers, the known, and those that were sent away and still leave.
    all: usize,
    next: u64,
    /// In order of arrival.
    strangers: BTreeMap<u64, Stranger>,
    known: HashMap<u64, Known>,
    /// Sent away; their tasks have not ended yet, so that what they hold is still held.
    leaving: usize,
    /// Let in, and their tasks have not run yet.
    unseen: usize,
    per_peer: HashMap<PeerKey, usize>,
}

struct Stranger {
    /// None for a peer that the cap per peer does not count.
    peer: Option<PeerKey>,
    /// Ends its task; known shortly after admission.
    task: Option<AbortHandle>,
}

struct Known {
    rests: Rests,
    /// As with a stranger.
    task: Option<AbortHandle>,
}

/// Since when a connection rests, in ms since the crowd began; [`BUSY`] while it is answered, or speaks another protocol. Written by
/// the connection at each request, read when somebody has to go.
type Rests = Arc<AtomicU64>;
const BUSY: u64 = u64::MAX;

/// A place in the crowd, held as long as its socket is open; a stranger's until [`Seat::known`].
pub(super) struct Seat {
    crowd: Arc<Crowd>,
    id: u64,
    rests: Rests,
    /// Somebody was looked for who goes for it, as one who is known.
    asked: AtomicBool,
    known: AtomicBool,
    seen: AtomicBool,
}

impl Crowd {
    pub(super) fn new(caps: Caps) -> Arc<Self> {
        Arc::new(Self {
            caps,
            state: Mutex::default(),
            left: Notify::new(),
            seen: Notify::new(),
            crowded: AtomicBool::new(false),
            turnstile: Arc::default(),
            begun: Instant::now(),
        })
    }

    /// Waits until one more can be let in, if need be by sending a stranger away. Whoever was sent away counts until it is gone: a
    /// flood never holds more than the caps say, however fast it comes. And those who came before are looked at first: a queue of
    /// newcomers in here would stand before the requests of everybody who is known, one with the kernel stands before newcomers only.
    pub(super) async fn room(&self) {
        loop {
            let (left, seen) = (self.left.notified(), self.seen.notified());
            let too_fast = self.state().unseen >= CONNECTIONS_UNSEEN_MAX;
            if too_fast {
                tokio::select! {
                    () = left => {}
                    () = seen => {}
                }
                continue;
            }
            {
                let mut state = self.state();
                if state.all < self.caps.all && state.strangers.len() + state.leaving < self.caps.strangers {
                    return;
                }
                if state.leaving == 0 {
                    state.send_away(None);
                }
            }
            left.await;
        }
    }

    /// Waits until somebody leaves, from this call on.
    pub(super) fn left(&self) -> impl Future<Output = ()> {
        self.left.notified()
    }

    /// Waits until nobody is left.
    pub(super) async fn empty(&self) {
        loop {
            let left = self.left.notified();
            if self.state().all == 0 {
                return;
            }
            left.await;
        }
    }

    /// Lets one in, where there is [`Self::room`]. `peer` is none where the cap per peer does not apply. Whoever has to go for it goes.
    pub(super) fn admit(self: &Arc<Self>, peer: Option<PeerKey>) -> Seat {
        let mut state = self.state();
        let too_many = |peer: &PeerKey| state.per_peer.get(peer).is_some_and(|n| *n >= self.caps.strangers_per_peer);
        if let Some(peer) = peer.filter(too_many) {
            state.send_away(Some(peer));
        }
        // Some places are kept free ahead of time, so that the next one need not wait until somebody has left.
        if state.strangers.len() >= self.caps.strangers - self.caps.strangers / VACANT_SHARE {
            state.send_away(None);
        }
        let id = state.next;
        state.next += 1;
        state.all += 1;
        state.unseen += 1;
        state.strangers.insert(id, Stranger { peer, task: None });
        self.count(&state);
        if let Some(peer) = peer {
            *state.per_peer.entry(peer).or_default() += 1;
        }
        Seat {
            crowd: self.clone(),
            id,
            rests: Arc::new(AtomicU64::new(BUSY)),
            asked: AtomicBool::new(false),
            known: AtomicBool::new(false),
            seen: AtomicBool::new(false),
        }
    }

    /// Sends the oldest stranger away, if there is one (no descriptor is left for the next one).
    pub(super) fn make_room(&self) {
        self.state().send_away(None);
    }

    /// Strangers take passes here while it is crowded.
    pub(super) fn turnstile(&self) -> &Arc<Turnstile> {
        &self.turnstile
    }

    fn count(&self, state: &State) {
        self.crowded.store(state.strangers.len() * STRANGERS_CROWDED_SHARE > self.caps.strangers, Ordering::Relaxed);
    }

    /// The task that serves a seat from now on, so that it can be ended; at once where the seat was sent away meanwhile.
    pub(super) fn served_by(&self, id: u64, task: AbortHandle) {
        let mut state = self.state();
        if let Some(stranger) = state.strangers.get_mut(&id) {
            stranger.task = Some(task);
        } else if let Some(known) = state.known.get_mut(&id) {
            known.task = Some(task);
        } else {
            task.abort();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl State {
    /// The oldest stranger (of this peer) goes, if there is one.
    fn send_away(&mut self, peer: Option<PeerKey>) {
        let oldest = self.strangers.iter().find(|(_, s)| peer.is_none() || s.peer == peer).map(|(id, _)| *id);
        let Some(gone) = oldest.and_then(|id| self.forget(id)) else { return };
        self.leaving += 1;
        if let Some(task) = gone.task {
            task.abort();
        }
    }

    /// Whoever is known and has rested longest goes; false where nobody rests.
    fn send_rested_away(&mut self) -> bool {
        let rests = |known: &Known| known.task.as_ref().map(|_| known.rests.load(Ordering::Relaxed)).filter(|since| *since != BUSY);
        let longest = self.known.iter().filter_map(|(id, known)| Some((rests(known)?, *id))).min();
        let Some(task) = longest.and_then(|(_, id)| self.known.remove(&id)).and_then(|known| known.task) else { return false };
        self.leaving += 1;
        task.abort();
        true
    }

    fn forget(&mut self, id: u64) -> Option<Stranger> {
        let stranger = self.strangers.remove(&id)?;
        let Some(peer) = stranger.peer else { return Some(stranger) };
        if let Some(n) = self.per_peer.get_mut(&peer) {
            *n = n.saturating_sub(1);
            if *n == 0 {
                self.per_peer.remove(&peer);
            }
        }
        Some(stranger)
    }
}

impl Seat {
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// A request on this connection was authenticated: it is no stranger from now on. Where all who are known are busy, it stays
    /// one, and is answered as one.
    pub(super) fn known(&self) {
        // Said with each of its requests; the first one counts.
        if self.known.load(Ordering::Relaxed) {
            return;
        }
        let mut state = self.crowd.state();
        if !state.strangers.contains_key(&self.id) {
            return;
        }
        // Looking at all of them is done once for each.
        let full = state.known.len() >= self.crowd.caps.known();
        if full && (self.asked.swap(true, Ordering::Relaxed) || !state.send_rested_away()) {
            return;
        }
        if let Some(stranger) = state.forget(self.id) {
            state.known.insert(self.id, Known { rests: self.rests.clone(), task: stranger.task });
            self.known.store(true, Ordering::Relaxed);
            self.crowd.count(&state);
        }
    }

    /// A request has come.
    pub(super) fn busy(&self) {
        self.rests.store(BUSY, Ordering::Relaxed);
    }

    /// Another protocol is spoken, by a task of its own: that of the connection has ended.
    pub(super) fn opened(&self, task: AbortHandle) {
        self.busy();
        self.crowd.served_by(self.id, task);
    }

    /// It was answered.
    pub(super) fn rests(&self, now: Instant) {
        let since = now.saturating_duration_since(self.crowd.begun).as_millis();
        self.rests.store(u64::try_from(since).unwrap_or(BUSY - 1), Ordering::Relaxed);
    }

    /// A stranger's, so far.
    pub(super) fn is_stranger(&self) -> bool {
        !self.known.load(Ordering::Relaxed)
    }

    /// Strangers have to wait for one another.
    pub(super) fn is_crowded(&self) -> bool {
        self.crowd.crowded.load(Ordering::Relaxed)
    }

    /// Its task may have to wait here.
    pub(super) fn visitor(&self) -> Visitor {
        Visitor::new(self.crowd.turnstile.clone())
    }

    /// Its task runs.
    pub(super) fn seen(&self) {
        // Said at each of its steps; the first one counts.
        if !self.seen.load(Ordering::Relaxed) && !self.seen.swap(true, Ordering::Relaxed) {
            let mut state = self.crowd.state();
            state.unseen = state.unseen.saturating_sub(1);
            drop(state);
            self.crowd.seen.notify_waiters();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        {
            let mut state = self.crowd.state();
            if state.known.remove(&self.id).is_none() && state.forget(self.id).is_none() {
                state.leaving = state.leaving.saturating_sub(1);
            }
            if !self.seen.load(Ordering::Relaxed) {
                state.unseen = state.unseen.saturating_sub(1);
            }
            state.all = state.all.saturating_sub(1);
            self.crowd.count(&state);
        }
        self.crowd.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Option<PeerKey> = Some(PeerKey::V4([10, 0, 0, 1]));
    const B: Option<PeerKey> = Some(PeerKey::V4([10, 0, 0, 2]));

    fn crowd(all: usize, strangers: usize, strangers_per_peer: usize) -> Arc<Crowd> {
        Crowd::new(Caps { all, strangers, strangers_per_peer })
    }

    fn here(crowd: &Crowd) -> Vec<u64> {
        crowd.state().strangers.keys().copied().collect()
    }

    fn all_and_leaving(crowd: &Crowd) -> (usize, usize) {
        let state = crowd.state();
        (state.all, state.leaving)
    }

    #[test]
    fn one_peer_cannot_take_every_place() {
        let crowd = crowd(100, 10, 2);
        let _seats = [crowd.admit(B), crowd.admit(A), crowd.admit(A), crowd.admit(A)];
        assert_eq!(here(&crowd), [0, 2, 3], "the oldest of the same peer went");
        let _proxied = [crowd.admit(None), crowd.admit(None), crowd.admit(None)];
        assert_eq!(here(&crowd), [0, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn the_oldest_stranger_goes_first_and_the_known_stay() {
        let crowd = crowd(4, 3, 9);
        let seats = [crowd.admit(A), crowd.admit(A), crowd.admit(A)];
        seats[0].known();
        let _d = crowd.admit(B);
        assert_eq!(here(&crowd), [1, 2, 3]);
        let _e = crowd.admit(B);
        assert_eq!(here(&crowd), [2, 3, 4]);
        assert_eq!(all_and_leaving(&crowd), (5, 1), "the one sent away leaves when its task ends");
    }

    #[tokio::test]
    async fn whoever_is_sent_away_counts_until_it_is_gone() {
        let crowd = crowd(9, 2, 9);
        let (oldest, _other) = (crowd.admit(A), crowd.admit(B));
        let mut room = Box::pin(crowd.room());
        assert!(futures_util::future::poll_immediate(&mut room).await.is_none(), "its socket is still open");
        assert_eq!(here(&crowd), [1], "but it was sent away");
        drop(oldest);
        room.await;
        assert_eq!(crowd.state().leaving, 0);
        // The same where one peer's cap sends it away.
        let _mine: Vec<Seat> = (0..2).map(|_| crowd.admit(B)).collect();
        assert!(futures_util::future::poll_immediate(Box::pin(crowd.room())).await.is_none());
    }

    #[tokio::test]
    async fn those_who_came_before_are_looked_at_first() {
        let crowd = crowd(1000, 1000, 1000);
        let mut seats: Vec<Seat> = (0..CONNECTIONS_UNSEEN_MAX).map(|_| crowd.admit(A)).collect();
        let mut room = Box::pin(crowd.room());
        assert!(futures_util::future::poll_immediate(&mut room).await.is_none(), "none of them has been served yet");
        seats[0].seen();
        seats[0].seen();
        room.await;
        seats.push(crowd.admit(A));
        let mut room = Box::pin(crowd.room());
        assert!(futures_util::future::poll_immediate(&mut room).await.is_none());
        seats.pop();
        room.await;
        drop(seats);
        assert_eq!(crowd.state().unseen, 0);
    }

    #[test]
    fn strangers_of_one_peer_are_no_crowd_and_the_known_are_none_either() {
        let crowd = crowd(1000, 8, 1000);
        let seats = [crowd.admit(A), crowd.admit(A)];
        assert!(!seats[0].is_crowded());
        let third = crowd.admit(A);
        assert!(seats[0].is_crowded());
        third.known();
        assert!(!seats[0].is_crowded());
        let fourth = crowd.admit(A);
        assert!(seats[0].is_crowded());
        drop(fourth);
        assert!(!seats[0].is_crowded());
    }

    #[tokio::test]
    async fn some_places_are_free_ahead_of_time() {
        let crowd = crowd(1000, 32, 1000);
        let seats: Vec<Seat> = (0..31).map(|_| crowd.admit(A)).inspect(Seat::seen).collect();
        assert_eq!((here(&crowd).len(), all_and_leaving(&crowd)), (30, (31, 1)));
        crowd.room().await;
        drop(seats);
        assert_eq!(all_and_leaving(&crowd), (0, 0));
    }

    #[test]
    fn whoever_leaves_is_forgotten() {
        let crowd = crowd(4, 3, 9);
        let (a, b) = (crowd.admit(A), crowd.admit(A));
        a.known();
        drop((a, b));
        let state = crowd.state();
        assert!(state.all == 0 && state.strangers.is_empty() && state.per_peer.is_empty());
    }

    /// A seat with a task, known or not.
    fn sit(crowd: &Arc<Crowd>) -> (Seat, tokio::task::JoinHandle<()>) {
        let seat = crowd.admit(A);
        let task = tokio::spawn(std::future::pending());
        crowd.served_by(seat.id(), task.abort_handle());
        seat.seen();
        (seat, task)
    }

    #[tokio::test]
    async fn who_has_rested_longest_goes_where_the_known_are_too_many() {
        let crowd = crowd(7, 4, 9);
        let mut known: Vec<_> = (0..5).map(|_| sit(&crowd)).inspect(|(seat, _)| seat.known()).collect();
        for (n, after) in [(0, 50), (2, 10), (3, 5), (4, 30)] {
            known[n].0.rests(crowd.begun + std::time::Duration::from_secs(after));
        }
        known[3].0.busy();
        let (newcomer, _task) = sit(&crowd);
        assert!(known.iter().all(|(_, task)| !task.is_finished()), "there is room for all of them, and for a newcomer");
        newcomer.known();
        let (gone, task) = known.remove(2);
        assert!(task.await.is_err_and(|error| error.is_cancelled()), "not one that is answered just now, or talks");
        assert_eq!((newcomer.is_stranger(), all_and_leaving(&crowd)), (false, (6, 1)));
        drop(gone);
        assert_eq!(all_and_leaving(&crowd), (5, 0));
        crowd.room().await;
        drop((known, newcomer));
        assert!(crowd.state().known.is_empty() && all_and_leaving(&crowd) == (0, 0));
    }

    #[tokio::test]
    async fn the_known_never_take_the_last_places() {
        let crowd = crowd(7, 4, 9);
        let known: Vec<_> = (0..5).map(|_| sit(&crowd)).inspect(|(seat, _)| seat.known()).collect();
        let (one_more, task) = sit(&crowd);
        one_more.known();
        assert!(one_more.is_stranger(), "all the others are busy: it is served, and goes when the next one comes");
        let (_next, _their_task) = sit(&crowd);
        let mut room = Box::pin(crowd.room());
        assert!(futures_util::future::poll_immediate(&mut room).await.is_none());
        assert!(task.await.is_err());
        drop(one_more);
        room.await;
        // Where somebody has left, a later request makes it known.
        let (newcomer, _task) = sit(&crowd);
        newcomer.known();
        drop(known);
        newcomer.known();
        assert!(!newcomer.is_stranger());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_was_sent_away_on_the_way_to_another_protocol_goes_with_the_task_that_speaks_it() {
        let crowd = crowd(9, 9, 9);
        let seat = crowd.admit(A);
        crowd.make_room();
        let task = tokio::spawn(std::future::pending::<()>());
        seat.opened(task.abort_handle());
        let ended = tokio::time::timeout(std::time::Duration::from_secs(1), task).await;
        assert!(ended.is_ok_and(|ended| ended.is_err_and(|error| error.is_cancelled())));
    }

    #[tokio::test]
    async fn a_full_house_of_known_people_waits() {
        let crowd = crowd(1, 1, 1);
        let seat = crowd.admit(A);
        seat.known();
        let mut room = Box::pin(crowd.room());
        assert!(futures_util::future::poll_immediate(&mut room).await.is_none());
        drop(seat);
        room.await;
    }
}
