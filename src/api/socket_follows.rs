//! The sessions that one WebSocket follows: a tail each, and what of it concerns this socket.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use crate::api::socket_frames::{self, About, Told};
use crate::base::ids::{MessageId, Seq, SessionId, SpaceId};
use crate::base::log;
use crate::gateway::Submitted;
use crate::store::record::Body;
use crate::store::session::{Entry, Session};
use crate::store::tail::{Step, Tail};

/// All of them; at most `WS_SESSIONS_MAX`, kept by the socket.
#[derive(Default)]
pub(super) struct Follows {
    list: Vec<Follow>,
    /// Whose turn it is: one busy session must not keep the others waiting.
    turn: usize,
}

/// The next step of a tail, on its way; it gives the tail back.
type Coming = Pin<Box<dyn Future<Output = (Tail, Told)> + Send>>;

struct Follow {
    session: Arc<Session>,
    coming: Coming,
    /// Every record is sent (after `resume`), not only those of the socket's own messages.
    all: bool,
    messages: HashMap<MessageId, Known>,
    /// The seq before which nothing is missing.
    cursor: Seq,
    /// The newest place at which seqs were missing: pieces that are gone.
    gap: Seq,
}

/// A message that was seen or sent here.
struct Known {
    /// Where it begins; before that nothing of it can be missing.
    start: Seq,
    space: Option<SpaceId>,
    /// This socket sent it and has its `accepted`.
    own: bool,
}

impl Follows {
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// Leaves what is followed for nothing more than its deletion, where a place is needed.
    pub(super) fn make_room(&mut self) {
        self.list.retain(|follow| follow.all || !follow.messages.is_empty());
    }

    /// This session is followed.
    pub(super) fn has(&self, session: SessionId) -> bool {
        self.list.iter().any(|follow| follow.session.id() == session)
    }

    /// Follows a message that this socket sent.
    pub(super) fn message(&mut self, sent: Submitted, space: Option<SpaceId>) {
        // A retry while its answer is on the way: it goes on, and no word of it comes twice.
        if self.list.iter().any(|follow| follow.messages.contains_key(&sent.id)) {
            return;
        }
        let known = Known { start: sent.seq, space, own: true };
        // A message that attached to an earlier one may lie behind what was sent already: it is read again from there.
        let same = self.list.iter_mut().find(|follow| follow.session.id() == sent.session.id() && follow.cursor <= sent.seq);
        let follow = match same {
            Some(follow) => follow,
            None => {
                self.list.push(Follow::new(&sent.session, sent.seq, false));
                match self.list.last_mut() {
                    Some(follow) => follow,
                    None => return,
                }
            }
        };
        follow.messages.insert(sent.id, known);
    }

    /// Follows a whole session behind `after`.
    pub(super) fn session(&mut self, session: &Arc<Session>, after: Seq) {
        self.list.push(Follow::new(session, after, true));
    }

    /// Follows this session no longer.
    pub(super) fn leave(&mut self, session: SessionId) {
        self.list.retain(|follow| follow.session.id() != session);
    }

    /// The next step of any of them; never, where there are none. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> (usize, Told) {
        let Self { list, turn } = self;
        let (at, (tail, told)) = poll_fn(|cx| {
            let count = list.len();
            for at in (0..count).map(|i| (*turn + i) % count) {
                if let Some(Poll::Ready(found)) = list.get_mut(at).map(|follow| follow.coming.as_mut().poll(cx)) {
                    *turn = at + 1;
                    return Poll::Ready((at, found));
                }
            }
            Poll::Pending
        })
        .await;
        if let Some(follow) = list.get_mut(at) {
            follow.coming = coming(tail);
        }
        (at, told)
    }

    /// The frames that a step stands for, in order. Leaves what is over.
    pub(super) fn frames(&mut self, at: usize, told: Told) -> Vec<String> {
        let Some(follow) = self.list.get_mut(at) else { return Vec::new() };
        let session = follow.session.id();
        let (frames, stays) = match told {
            Ok(Step::Record(entry)) => follow.record(&entry),
            Ok(Step::Resync { last_seq }) => {
                follow.cursor = 0;
                follow.gap = 0;
                (vec![socket_frames::resync(session, last_seq)], true)
            }
            Ok(Step::Deleted) => (vec![socket_frames::deleted(session)], false),
            Err(error) => {
                log::error("socket", format_args!("session {session} cannot be followed: {error}"));
                let text = "the session cannot be read; the server's log says why";
                (vec![socket_frames::error("internal", text, &[("session_id", session.to_string().into())])], false)
            }
        };
        if !stays {
            self.list.remove(at);
        }
        frames
    }
}

impl Follow {
    fn new(session: &Arc<Session>, after: Seq, all: bool) -> Self {
        Self { session: session.clone(), coming: coming(session.tail(after)), all, messages: HashMap::new(), cursor: after, gap: 0 }
    }

    /// The frames of a record, and whether anything more may come.
    fn record(&mut self, entry: &Entry) -> (Vec<String>, bool) {
        if entry.seq != self.cursor + 1 {
            self.gap = entry.seq;
        }
        self.cursor = entry.seq;
        let Some(id) = entry.message_id else {
            let about = About { session: self.session.id(), space: self.session.about().space_id, replaces: false };
            return (if self.all { socket_frames::of(entry, &about) } else { Vec::new() }, true);
        };
        if self.all && !self.messages.contains_key(&id) {
            let known = find(&self.session, entry);
            self.messages.insert(id, known);
        }
        let Some(known) = self.messages.get(&id) else { return (Vec::new(), true) };
        let about = About { session: self.session.id(), space: known.space, replaces: self.gap > known.start };
        let frames = if known.own && matches!(entry.record.body, Body::Message(_)) {
            // `accepted` stands for it.
            Vec::new()
        } else {
            socket_frames::of(entry, &about)
        };
        if entry.terminal {
            self.messages.remove(&id);
        }
        // What is cancelled may be about to be deleted, and that is told too.
        (frames, self.all || !self.messages.is_empty() || entry.kind == "cancelled")
    }
}

/// What is known of a message that this socket did not send.
fn find(session: &Session, entry: &Entry) -> Known {
    // 0: the socket resumed in its middle.
    let start = if matches!(entry.record.body, Body::Message(_)) { entry.seq } else { 0 };
    Known { start, space: session.about().space_id, own: false }
}

fn coming(mut tail: Tail) -> Coming {
    Box::pin(async move {
        let step = tail.next().await;
        (tail, step)
    })
}
