//! `GET /api/events`: the kernel bus as server-sent events.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use serde_json::json;

use crate::api::{App, Call};
use crate::base::ids::EventId;
use crate::base::limits::SSE_BATCH_BYTES_MAX;
use crate::events::{Item, Reader};
use crate::http::Response;
use crate::http::error::HttpError;
use crate::http::sse;
use crate::wire::sse_out;

/// `GET /api/events`: the caller's events, from now on or behind `Last-Event-ID`.
pub(crate) async fn events(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let owner = call.caller()?.owner();
    // What is no id of ours is answered as one that is no longer known.
    let after = call.headers.get("last-event-id").map(|value| value.to_str().unwrap_or_default().to_owned());
    let reader = app.events.subscribe(owner, after.as_deref().filter(|id| !id.is_empty()));
    Ok(sse::response(Stream { app, reader }, call.ends.watch()))
}

struct Stream {
    app: Arc<App>,
    reader: Reader,
}

/// By hand, not an `async fn`: a reader that waits is nothing but this. It never ends.
impl futures_util::Stream for Stream {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let first = ready!(self.reader.poll_next(cx));
        let first = self.frame(first);
        let Some(second) = self.reader.try_next() else {
            // The usual case: the very bytes that every other reader gets.
            return Poll::Ready(Some(first));
        };
        let mut batch = BytesMut::from(&first[..]);
        batch.extend_from_slice(&self.frame(second));
        while batch.len() < SSE_BATCH_BYTES_MAX {
            let Some(item) = self.reader.try_next() else { break };
            batch.extend_from_slice(&self.frame(item));
        }
        Poll::Ready(Some(batch.freeze()))
    }
}

impl Stream {
    fn frame(&self, item: Item) -> Bytes {
        match item {
            Item::Event(event) => event.frame.clone(),
            Item::Resync => {
                let id = EventId::random(&*self.app.random);
                let data = json!({"type": "resync", "id": id, "timestamp": self.app.clock.now()}).to_string();
                // No `id:` line: it is no place on the bus. One line of JSON cannot be refused.
                sse_out::encode(None, Some("resync"), data.as_bytes()).unwrap_or_default()
            }
        }
    }
}
