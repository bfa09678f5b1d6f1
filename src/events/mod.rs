//! Floor 2: the kernel event bus: what happened, to whom it belongs, never what was said.
//!
//! Each event is serialised once and shared by all its readers. A bounded ring keeps the newest ones for readers that come
//! back with `Last-Event-ID`; a reader that was overtaken by the ring's end gets one `Resync`, never silence.

mod kind;
mod ring;

use std::sync::{Arc, RwLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::base::bell::{Bell, Ear};
use crate::base::ids::{EventId, OwnerId};
use crate::base::random::Random;
use crate::base::time::Clock;

pub use kind::Kind;
use ring::Ring;

/// The bus. One for the process; cheap to publish to, silent where nobody reads.
pub struct Events {
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    /// The newest events. Writers hold it to push one, readers to copy pointers; nobody waits while holding it.
    ring: RwLock<Ring>,
    /// Rung after each event, for readers.
    bell: Bell,
}

/// One event, serialised.
#[derive(Debug)]
pub struct Event {
    /// Its place on the bus: 1, 2, 3 … since the start of the process.
    pub number: u64,
    /// Its id, also in the text; what `Last-Event-ID` names.
    pub id: EventId,
    /// Only this owner's readers see it.
    pub owner: OwnerId,
    /// `{"type","id","timestamp",…}` in one line.
    pub json: Bytes,
    /// The same as a whole SSE event with its `id:` line (WHATWG HTML §9.2.5).
    pub frame: Bytes,
}

/// What a reader gets.
#[derive(Debug, Clone)]
pub enum Item {
    /// The next event that it may see.
    Event(Arc<Event>),
    /// Events were missed: ask for the state anew. What the ring still holds follows.
    Resync,
}

/// One reader's place on the bus. Owns no part of the bus; dropping it is all it takes to leave.
pub struct Reader {
    events: Arc<Events>,
    owner: OwnerId,
    /// The number of the last event that was looked at.
    at: u64,
    /// A `Resync` is owed.
    missed: bool,
    ear: Ear,
    /// Events already copied from the ring, so that its lock is taken once for many.
    ready: std::collections::VecDeque<Arc<Event>>,
}

impl Events {
    /// An empty bus.
    pub fn new(clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Arc<Self> {
        Arc::new(Self { clock, random, ring: RwLock::new(Ring::default()), bell: Bell::default() })
    }

    /// Tells `owner`'s readers. `fields` are ids, labels of ours and numbers: never content, goals or error texts.
    pub fn publish(&self, owner: OwnerId, kind: Kind, fields: Map<String, Value>) {
        let id = EventId::random(&*self.random);
        let mut object = Map::with_capacity(fields.len() + 3);
        object.extend(fields);
        // Last, so that no field of a caller can stand in their place.
        object.insert("type".into(), kind.name().into());
        object.insert("id".into(), id.to_string().into());
        object.insert("timestamp".into(), self.clock.now().to_string().into());
        let frame = format!("id: {id}\ndata: {}\n\n", Value::Object(object));
        let start = "id: \ndata: ".len() + 36;
        // As long as it is: a thousand of them are kept.
        let frame = Bytes::from(frame.into_boxed_str().into_boxed_bytes());
        // serde_json escapes control characters, so the JSON is one line and the frame one event.
        let json = frame.slice(start..frame.len() - 2);
        {
            let mut ring = self.ring.write().unwrap_or_else(|e| e.into_inner());
            let number = ring.next_number();
            ring.push(Arc::new(Event { number, id, owner, json, frame }));
        }
        self.bell.ring();
    }

    /// A reader of what `owner` may see: from now on, or behind the event that `after` names. Where that event is not
    /// (or no longer) known, the reader gets a `Resync` and what the ring holds.
    pub fn subscribe(self: &Arc<Self>, owner: OwnerId, after: Option<&str>) -> Reader {
        let ring = self.ring.read().unwrap_or_else(|e| e.into_inner());
        let (at, missed) = match after {
            None => (ring.newest_number(), false),
            Some(text) => match EventId::parse(text).ok().and_then(|id| ring.find(id, owner)) {
                Some(number) => (number, false),
                None => (ring.oldest_number().saturating_sub(1), true),
            },
        };
        drop(ring);
        Reader { events: self.clone(), owner, at, missed, ear: self.bell.ear(), ready: Default::default() }
    }

    /// How many events there were since the start.
    pub fn published(&self) -> u64 {
        self.ring.read().unwrap_or_else(|e| e.into_inner()).newest_number()
    }
}

impl Reader {
    /// The next event that the reader may see; waits for it. One task at a time, which is woken.
    pub fn poll_next(&mut self, cx: &Context<'_>) -> Poll<Item> {
        self.ear.listen(cx);
        self.try_next().map_or(Poll::Pending, Poll::Ready)
    }

    /// The next event if there is one already.
    pub fn try_next(&mut self) -> Option<Item> {
        if std::mem::take(&mut self.missed) {
            return Some(Item::Resync);
        }
        if self.ready.is_empty() {
            let ring = self.events.ring.read().unwrap_or_else(|e| e.into_inner());
            if ring.oldest_number() > self.at + 1 {
                self.at = ring.oldest_number() - 1;
                drop(ring);
                return Some(Item::Resync);
            }
            self.at = ring.copy_behind(self.at, self.owner, &mut self.ready);
        }
        self.ready.pop_front().map(Item::Event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::EVENTS_KEPT_MAX;
    use crate::base::random::SystemRandom;
    use crate::base::time::ManualClock;

    fn bus() -> (Arc<Events>, OwnerId, OwnerId) {
        let random = Arc::new(SystemRandom::new());
        let (a, b) = (OwnerId::random(&*random), OwnerId::random(&*random));
        (Events::new(Arc::new(ManualClock::default()), random), a, b)
    }

    fn numbered(n: u64) -> Map<String, Value> {
        Map::from_iter([("n".to_owned(), n.into())])
    }

    fn event(item: Option<Item>) -> Arc<Event> {
        match item {
            Some(Item::Event(event)) => event,
            other => panic!("expected an event, not {other:?}"),
        }
    }

    #[test]
    fn an_event_is_one_line_with_type_id_and_timestamp() {
        let (events, owner, _) = bus();
        let mut reader = events.subscribe(owner, None);
        let mut fields = numbered(7);
        fields.insert("label".into(), "a\nb".into());
        fields.insert("type".into(), "forged".into());
        events.publish(owner, Kind::AgentStarted, fields);
        let event = event(reader.try_next());
        let json: Value = serde_json::from_slice(&event.json).unwrap();
        assert_eq!(json["type"], "agent_started");
        assert_eq!(json["id"], event.id.to_string());
        assert_eq!(json["timestamp"], "1970-01-01T00:00:00.000Z");
        let text = std::str::from_utf8(&event.frame).unwrap();
        assert_eq!(text, format!("id: {}\ndata: {}\n\n", event.id, std::str::from_utf8(&event.json).unwrap()));
        assert_eq!(text.lines().count(), 3);
    }

    #[test]
    fn a_reader_sees_only_what_its_owner_may_see() {
        let (events, a, b) = bus();
        let mut reader = events.subscribe(a, None);
        events.publish(b, Kind::AgentStarted, Map::new());
        events.publish(a, Kind::AgentStopped, Map::new());
        assert_eq!(event(reader.try_next()).number, 2);
        assert!(reader.try_next().is_none());
        // Not even by naming another owner's event.
        let foreign = events.ring.read().unwrap().id_at(1).unwrap();
        assert!(matches!(events.subscribe(a, Some(&foreign.to_string())).try_next(), Some(Item::Resync)));
    }

    #[test]
    fn a_reader_comes_back_where_it_was() {
        let (events, a, _) = bus();
        let mut reader = events.subscribe(a, None);
        for n in 0..3 {
            events.publish(a, Kind::PhaseStarted, numbered(n));
        }
        let first = event(reader.try_next());
        let mut again = events.subscribe(a, Some(&first.id.to_string()));
        assert_eq!(event(again.try_next()).number, 2);
        assert_eq!(event(again.try_next()).number, 3);
        assert!(again.try_next().is_none());
    }

    #[test]
    fn a_reader_that_was_overtaken_is_told_once() {
        let (events, a, _) = bus();
        let mut reader = events.subscribe(a, None);
        for n in 0..EVENTS_KEPT_MAX as u64 + 10 {
            events.publish(a, Kind::PhaseStarted, numbered(n));
        }
        assert!(matches!(reader.try_next(), Some(Item::Resync)));
        assert_eq!(event(reader.try_next()).number, 11);
        let mut rest = 1;
        while let Some(item) = reader.try_next() {
            event(Some(item));
            rest += 1;
        }
        assert_eq!(rest, EVENTS_KEPT_MAX);
    }

    #[tokio::test]
    async fn a_waiting_reader_wakes() {
        let (events, a, _) = bus();
        let mut reader = events.subscribe(a, None);
        let waiting = tokio::spawn(async move { std::future::poll_fn(|cx| reader.poll_next(cx)).await });
        tokio::task::yield_now().await;
        events.publish(a, Kind::MessageReceived, Map::new());
        assert!(matches!(waiting.await, Ok(Item::Event(_))));
    }
}
