//! The newest events, bounded in number and bytes.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::base::ids::{EventId, OwnerId};
use crate::base::limits::{EVENTS_KEPT_BYTES_MAX, EVENTS_KEPT_MAX};
use crate::events::Event;

/// Events that a reader takes at a time: few enough that a thousand idle readers hold next to nothing.
const BATCH: usize = 32;

/// Numbers in it are consecutive, so a place is found by subtraction.
#[derive(Default)]
pub(super) struct Ring {
    kept: VecDeque<Arc<Event>>,
    bytes: usize,
    /// Number of the newest event, kept or not.
    newest: u64,
}

impl Ring {
    pub(super) fn next_number(&self) -> u64 {
        self.newest + 1
    }

    pub(super) fn newest_number(&self) -> u64 {
        self.newest
    }

    /// Number of the oldest kept event; one past the newest where none is kept.
    pub(super) fn oldest_number(&self) -> u64 {
        self.newest + 1 - self.kept.len() as u64
    }

    /// Adds the event that has [`Ring::next_number`]; what no longer fits goes.
    pub(super) fn push(&mut self, event: Arc<Event>) {
        debug_assert_eq!(event.number, self.next_number());
        self.newest = event.number;
        self.bytes += event.frame.len();
        self.kept.push_back(event);
        while self.kept.len() > EVENTS_KEPT_MAX || (self.bytes > EVENTS_KEPT_BYTES_MAX && self.kept.len() > 1) {
            self.bytes -= self.kept.pop_front().map_or(0, |old| old.frame.len());
        }
    }

    /// The number of this event, where it is kept and the owner may see it. A client asks once per connection, so a scan will do.
    pub(super) fn find(&self, id: EventId, owner: OwnerId) -> Option<u64> {
        self.kept.iter().rev().find(|event| event.id == id && event.owner == owner).map(|event| event.number)
    }

    /// Copies a handful of the owner's events behind number `at` into `out`; the number of the last one that was looked at.
    pub(super) fn copy_behind(&self, at: u64, owner: OwnerId, out: &mut VecDeque<Arc<Event>>) -> u64 {
        let skip = usize::try_from((at + 1).saturating_sub(self.oldest_number())).unwrap_or(usize::MAX);
        for event in self.kept.iter().skip(skip) {
            if event.owner == owner {
                out.push_back(event.clone());
                if out.len() >= BATCH {
                    return event.number;
                }
            }
        }
        self.newest
    }

    #[cfg(test)]
    pub(super) fn id_at(&self, number: u64) -> Option<EventId> {
        self.kept.iter().find(|event| event.number == number).map(|event| event.id)
    }
}
