//! Server-sent events as they come in (WHATWG HTML §9.2.6): bytes in any pieces, events out.

/// One dispatched event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SseEvent {
    /// The `event` field; empty means `message`.
    pub name: String,
    /// The `data` lines, joined by LF.
    pub data: String,
    /// The last `id` that was seen, of this or an earlier event; empty where there was none.
    pub id: String,
}

/// An event or a line grew past the limit. The stream cannot be read further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

/// An incremental reader of one stream. However the bytes are cut into pieces, the events are the same.
#[derive(Debug)]
pub struct SseDecoder {
    max: usize,
}

impl SseDecoder {
    /// Events (and lines) have at most `max` bytes.
    pub fn new(max: usize) -> Self {
        Self { max }
    }
    /// Takes the next bytes and appends the events they complete to `out`. What is incomplete waits for more; at the end of the stream it is dropped, as the standard says.
    pub fn push(&mut self, _bytes: &[u8], _out: &mut Vec<SseEvent>) -> Result<(), TooLong> {
        let _ = self.max;
        todo!()
    }
}
