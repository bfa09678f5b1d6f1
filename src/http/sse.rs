//! Server-sent events: a response made from an async source of encoded frames (`wire::sse_out` encodes).

use bytes::Bytes;

use crate::http::Response;

/// Where frames come from.
pub trait Source: Send + 'static {
    /// The next frame or frames, encoded by `wire::sse_out`; none ends the response. Polled only while the client reads.
    /// It need not be cancel-safe: it is never dropped half way and called again.
    fn next(&mut self) -> impl Future<Output = Option<Bytes>> + Send;
}

/// A `text/event-stream` response: frames of the source, a comment every 10 s of silence; ends when the source or
/// `ends` does (shutdown, revoked key).
pub fn response(_source: impl Source, _ends: impl Future<Output = ()> + Send + 'static) -> Response {
    todo!()
}
