//! Who may hold a connection: caps on all, on strangers, and on strangers of one peer; the oldest stranger goes first.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::http::peer::PeerKey;

/// How many may be here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caps {
    pub(super) all: usize,
    pub(super) strangers: usize,
    pub(super) strangers_per_peer: usize,
}

/// Everybody who holds a connection.
pub(super) struct Crowd {
    caps: Caps,
    /// Taken for a few map operations by the listener (admission) and by each connection (first credential, end).
    state: Mutex<State>,
    /// Woken whenever somebody leaves: the listener may wait for room, a drain for the last one.
    left: Notify,
}

#[derive(Default)]
struct State {
    all: usize,
    next: u64,
    /// In order of arrival. One that was sent away is taken out at once and leaves `all` when its task has ended.
    strangers: BTreeMap<u64, Stranger>,
    per_peer: HashMap<PeerKey, usize>,
}

struct Stranger {
    /// None for a peer that the cap per peer does not count.
    peer: Option<PeerKey>,
    /// Ends its task; known shortly after admission.
    task: Option<AbortHandle>,
}

/// A place in the crowd, held as long as its socket is open; a stranger's until [`Seat::known`].
pub(super) struct Seat {
    crowd: Arc<Crowd>,
    id: u64,
}

impl Crowd {
    pub(super) fn new(caps: Caps) -> Arc<Self> {
        Arc::new(Self { caps, state: Mutex::default(), left: Notify::new() })
    }

    /// Waits until one more can be let in, if need be by sending a stranger away.
    pub(super) async fn room(&self) {
        loop {
            let left = self.left.notified();
            {
                let state = self.state();
                if state.all < self.caps.all || !state.strangers.is_empty() {
                    return;
                }
            }
            left.await;
        }
    }

    /// Waits until somebody leaves.
    pub(super) async fn left(&self) {
        self.left.notified().await;
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

    /// Lets one in. `peer` is none where the cap per peer does not apply. Whoever has to go for it goes.
    pub(super) fn admit(self: &Arc<Self>, peer: Option<PeerKey>) -> Seat {
        let mut state = self.state();
        if let Some(peer) = peer
            && state.per_peer.get(&peer).is_some_and(|n| *n >= self.caps.strangers_per_peer)
        {
            state.send_away(Some(peer));
        }
        if state.strangers.len() >= self.caps.strangers || state.all >= self.caps.all {
            state.send_away(None);
        }
        let id = state.next;
        state.next += 1;
        state.all += 1;
        state.strangers.insert(id, Stranger { peer, task: None });
        if let Some(peer) = peer {
            *state.per_peer.entry(peer).or_default() += 1;
        }
        Seat { crowd: self.clone(), id }
    }

    /// Sends the oldest stranger away (no descriptor is left for the next one). False if there is none.
    pub(super) fn make_room(&self) -> bool {
        self.state().send_away(None)
    }

    /// The task that serves a seat, so that it can be ended.
    pub(super) fn served_by(&self, id: u64, task: AbortHandle) {
        if let Some(stranger) = self.state().strangers.get_mut(&id) {
            stranger.task = Some(task);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl State {
    fn send_away(&mut self, peer: Option<PeerKey>) -> bool {
        let oldest = self.strangers.iter().find(|(_, s)| peer.is_none() || s.peer == peer).map(|(id, _)| *id);
        let gone = oldest.and_then(|id| self.forget(id));
        if let Some(task) = gone.as_ref().and_then(|s| s.task.as_ref()) {
            task.abort();
        }
        gone.is_some()
    }

    fn forget(&mut self, id: u64) -> Option<Stranger> {
        let stranger = self.strangers.remove(&id)?;
        if let Some(peer) = stranger.peer
            && let Some(n) = self.per_peer.get_mut(&peer)
        {
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

    /// A request on this connection was authenticated: it is no stranger from now on.
    pub(super) fn known(&self) {
        self.crowd.state().forget(self.id);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        {
            let mut state = self.crowd.state();
            state.forget(self.id);
            state.all = state.all.saturating_sub(1);
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
        assert_eq!(crowd.state().all, 5, "the one sent away leaves when its task ends");
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

    #[tokio::test]
    async fn a_full_house_of_known_people_waits() {
        let crowd = crowd(1, 1, 1);
        let seat = crowd.admit(A);
        crowd.room().await; // a stranger can be sent away
        seat.known();
        let mut room = Box::pin(crowd.room());
        assert!(futures_util::future::poll_immediate(&mut room).await.is_none());
        drop(seat);
        room.await;
    }
}
