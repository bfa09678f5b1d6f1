//! A reader of `text/event-stream` (WHATWG HTML §9.2.6), written for the tests alone: the product's own decoder is under test.

use std::collections::VecDeque;

use serde_json::Value;

use super::client::Streaming;

/// One event as a browser would dispatch it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SseEvent {
    /// The `id:` of this event, where it had one.
    pub id: Option<String>,
    /// The `event:` field; empty means `message`.
    pub event: String,
    /// The `data:` lines, joined by line feeds.
    pub data: String,
}

impl SseEvent {
    /// The data as JSON; every event of ours is one object.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|e| panic!("SSE data is no JSON ({e}): {}", self.data))
    }
}

/// Reads events off a streaming response.
pub struct Sse {
    stream: Streaming,
    buffer: Vec<u8>,
    ready: VecDeque<SseEvent>,
    /// Comment lines seen (keep-alives).
    pub comments: usize,
    ended: bool,
}

impl Sse {
    /// Takes a response that must be an event stream.
    pub fn new(stream: Streaming) -> Self {
        assert_eq!(stream.status, 200, "an event stream answers 200, not {}: {:?}", stream.status, stream.headers);
        let media = stream.header("content-type").unwrap_or_default().to_owned();
        assert!(media.starts_with("text/event-stream"), "content-type is {media:?}");
        Self { stream, buffer: Vec::new(), ready: VecDeque::new(), comments: 0, ended: false }
    }

    /// The next event; `None` when the server has ended the stream properly. Fails the test after the client's patience.
    pub async fn next(&mut self) -> Option<SseEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            match self.stream.chunk().await {
                Some(bytes) => self.push(&bytes),
                None => self.ended = true,
            }
        }
    }

    /// The next event's JSON; fails the test where the stream ends instead.
    pub async fn json(&mut self) -> Value {
        self.next().await.expect("an event, not the end of the stream").json()
    }

    /// All events up to the end of the stream, as JSON.
    pub async fn rest(mut self) -> Vec<Value> {
        let mut all = Vec::new();
        while let Some(event) = self.next().await {
            all.push(event.json());
        }
        all
    }

    /// Reads until an event's JSON satisfies `wanted`; returns all that were read, the wanted one last.
    pub async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut all = Vec::new();
        loop {
            let Some(event) = self.next().await else { panic!("the stream ended before the wanted event; got {all:?}") };
            let json = event.json();
            let found = wanted(&json);
            all.push(json);
            if found {
                return all;
            }
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        while let Some(end) = find(&self.buffer, b"\n\n") {
            let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
            let text = std::str::from_utf8(&block).expect("an event stream is UTF-8");
            let (mut id, mut event, mut data, mut seen) = (None, String::new(), Vec::new(), false);
            for line in text.lines() {
                if line.starts_with(':') {
                    self.comments += 1;
                } else if let Some((field, value)) = line.split_once(':') {
                    let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
                    seen = true;
                    match field {
                        "id" => id = Some(value),
                        "event" => event = value,
                        "data" => data.push(value),
                        "retry" => seen = false,
                        other => panic!("unknown SSE field {other:?}"),
                    }
                }
            }
            if seen {
                self.ready.push_back(SseEvent { id, event, data: data.join("\n") });
            }
        }
    }
}

/// Where `needle` begins.
pub fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|window| window == needle)
}
