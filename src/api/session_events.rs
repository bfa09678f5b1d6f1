//! `GET /api/sessions/{id}/events`: a session's log as server-sent events, `id:` = seq.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use serde_json::json;

use crate::api::{App, Call};
use crate::base::ids::{Seq, SessionId};
use crate::base::limits::SSE_BATCH_BYTES_MAX;
use crate::base::log;
use crate::http::Response;
use crate::http::error::HttpError;
use crate::http::sse;
use crate::store::StoreError;
use crate::store::session::Session;
use crate::store::tail::{Step, Tail};
use crate::wire::sse_out;

/// When a stream ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// Never.
    Gone,
    /// After the first terminal record behind the cursor.
    Done,
    /// When nothing runs and all is sent. A run that waits for a person does not run.
    Idle,
}

/// `GET /api/sessions/{id}/events[?after=seq][&until=done|idle]`.
pub(crate) async fn events(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let owner = call.caller()?.owner();
    let id = SessionId::parse(call.param("id")).map_err(|_| HttpError::bad_request("id: expected a UUID in lower case"))?;
    let until = match call.query.get("until") {
        None => Until::Gone,
        Some("done") => Until::Done,
        Some("idle") => Until::Idle,
        Some(_) => return Err(HttpError::bad_request("query `until`: expected done or idle")),
    };
    // A browser that reconnects sends the old query again and its place in the header, so the header counts.
    let header = call.headers.get("last-event-id").map(|value| value.to_str().unwrap_or("?"));
    let after = match header.filter(|value| !value.is_empty()).or(call.query.get("after")) {
        None => 0,
        Some(text) => text.parse::<Seq>().map_err(|_| HttpError::bad_request("`after` and `Last-Event-ID`: expected a seq"))?,
    };
    let session = app.sessions.load(id, owner).await?;
    let tail = session.tail(after);
    Ok(sse::response(sse::frames(Stream { app, session, tail, until, over: false }), call.ends.watch()))
}

struct Stream {
    app: Arc<App>,
    session: Arc<Session>,
    tail: Tail,
    until: Until,
    /// Nothing more is sent.
    over: bool,
}

impl sse::Source for Stream {
    async fn next(&mut self) -> Option<Bytes> {
        if self.over || self.idle() {
            return None;
        }
        let first = self.one().await?;
        if self.over || self.tail.caught_up() {
            return Some(first);
        }
        let mut batch = BytesMut::from(&first[..]);
        while !self.over && !self.tail.caught_up() && batch.len() < SSE_BATCH_BYTES_MAX {
            match self.one().await {
                Some(frame) => batch.extend_from_slice(&frame),
                // What was read before is sent; the next call ends the stream.
                None => self.over = true,
            }
        }
        Some(batch.freeze())
    }
}

impl Stream {
    /// The next step as a frame.
    async fn one(&mut self) -> Option<Bytes> {
        let frame = match self.step().await? {
            Ok(Step::Record(entry)) => {
                self.over = entry.terminal && self.until == Until::Done;
                sse_out::encode(Some(&entry.seq), None, &entry.json)
            }
            Ok(Step::Resync { last_seq }) => control("resync", &json!({"kind": "resync", "last_seq": last_seq})),
            Ok(Step::Deleted) => {
                self.over = true;
                control("deleted", &json!({"kind": "deleted", "session_id": self.session.id()}))
            }
            Err(error) => {
                log::error("sessions", format_args!("the events of session {} broke off: {error}", self.session.id()));
                return None;
            }
        };
        // Compact JSON is one line, so nothing is ever refused here.
        frame.ok()
    }

    /// The next step. One that waits for idleness does not wait for a run whose end could not be written: none, when it is over.
    async fn step(&mut self) -> Option<Result<Step, StoreError>> {
        loop {
            let live = || self.session.open_messages().into_iter().find(|message| self.app.gateway.is_live(*message));
            let message = (self.until == Until::Idle).then(live).flatten();
            // Looked at behind that: one whose books were closed between the two is not waited for.
            if self.idle() {
                return None;
            }
            let Some(message) = message else { return Some(self.tail.next().await) };
            tokio::select! {
                biased;
                step = self.tail.next() => return Some(step),
                () = self.app.gateway.over(message) => {}
            }
        }
    }

    fn idle(&self) -> bool {
        if self.until != Until::Idle || !self.tail.caught_up() {
            return false;
        }
        let waiting = self.session.waiting();
        let asks = |message| waiting.iter().any(|waiting| waiting.message_id == message && waiting.decision.is_none());
        // One that this process lost (its end could not be written) is waited for in vain, decided or not.
        let idle = self.session.open_messages().into_iter().all(|message| asks(message) || !self.app.gateway.is_live(message));
        // What was written before the look is sent before the end.
        idle && self.tail.caught_up()
    }
}

/// A frame that stands for no record has no `id:`, so that a reader's place stays where it was.
fn control(name: &str, data: &serde_json::Value) -> Result<Bytes, sse_out::BadField> {
    sse_out::encode(None, Some(name), data.to_string().as_bytes())
}
