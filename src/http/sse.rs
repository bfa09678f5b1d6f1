//! Server-sent events (WHATWG HTML §9.2): a response made from a stream of encoded frames (`wire::sse_out` encodes).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::unfold;
use hyper::header::{self, HeaderValue};
use tokio::time::{Instant, Sleep};

use crate::http::{Body, Response};
use crate::wire::sse_out::KEEP_ALIVE;

/// A comment is sent after this much silence: proxies cut quiet connections, and a reader that is gone shows itself.
const QUIET: Duration = Duration::from_secs(10);

/// Where frames come from, where making one takes several steps.
pub trait Source: Send + 'static {
    /// The next frame or frames, encoded by `wire::sse_out`; none ends the response. Polled only while the client reads.
    /// It need not be cancel-safe: it is never dropped half way and called again.
    fn next(&mut self) -> impl Future<Output = Option<Bytes>> + Send;
}

/// The frames of a source, one after the other.
pub fn frames(source: impl Source) -> impl Stream<Item = Bytes> + Send + Unpin + 'static {
    Box::pin(unfold(source, async |mut source| source.next().await.map(|frame| (frame, source))))
}

/// Says when a stream has to end although its source would go on (shutdown, revoked key).
pub trait Limit: Send + Unpin + 'static {
    /// Ready once it has to. Polled by one task, often.
    fn poll_over(&mut self, cx: &Context<'_>) -> Poll<()>;
}

/// The limit of frames that look for the end themselves, since they say why it comes.
pub struct OwnEnd;

impl Limit for OwnEnd {
    fn poll_over(&mut self, _: &Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

/// A `text/event-stream` response: the frames, a comment every 10 s of silence; ends when the frames or `limit` do.
pub fn response(frames: impl Stream<Item = Bytes> + Send + Unpin + 'static, limit: impl Limit) -> Response {
    let events = Events { frames, limit, quiet: Box::pin(tokio::time::sleep(QUIET)), quiet_until: Instant::now() + QUIET };
    let mut response = Response::new(Body::stream(events));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx would keep the events back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

struct Events<F, L> {
    frames: F,
    limit: L,
    /// Wakes us when it may be time for a comment; frames move only `quiet_until`, which costs nothing.
    quiet: Pin<Box<Sleep>>,
    quiet_until: Instant,
}

impl<F: Stream<Item = Bytes> + Unpin, L: Limit> Stream for Events<F, L> {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.limit.poll_over(cx).is_ready() {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.frames).poll_next(cx) {
            self.quiet_until = Instant::now() + QUIET;
            return Poll::Ready(frame.map(Ok));
        }
        while self.quiet.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if now >= self.quiet_until {
                self.quiet_until = now + QUIET;
                let until = self.quiet_until;
                self.quiet.as_mut().reset(until);
                return Poll::Ready(Some(Ok(Bytes::from_static(KEEP_ALIVE))));
            }
            let until = self.quiet_until;
            self.quiet.as_mut().reset(until);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use http_body_util::BodyExt;

    struct Three(u8);
    impl Source for Three {
        async fn next(&mut self) -> Option<Bytes> {
            self.0 += 1;
            (self.0 <= 3).then(|| format!("data: {}\n\n", self.0).into())
        }
    }

    /// Over when it is told so.
    #[derive(Clone, Default)]
    struct Cut(Arc<AtomicBool>);
    impl Limit for Cut {
        fn poll_over(&mut self, _: &Context<'_>) -> Poll<()> {
            if self.0.load(Ordering::Relaxed) { Poll::Ready(()) } else { Poll::Pending }
        }
    }

    struct Silent;
    impl Source for Silent {
        async fn next(&mut self) -> Option<Bytes> {
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn frames_come_in_order_and_end_with_their_source() {
        let body = response(frames(Three(0)), Cut::default()).into_body();
        assert_eq!(body.collect().await.unwrap().to_bytes(), "data: 1\n\ndata: 2\n\ndata: 3\n\n");
    }

    #[tokio::test]
    async fn the_end_comes_from_outside_too() {
        let cut = Cut::default();
        let mut body = response(frames(Silent), cut.clone()).into_body();
        assert!(futures_util::future::poll_immediate(body.frame()).await.is_none());
        cut.0.store(true, Ordering::Relaxed);
        assert!(body.frame().await.is_none());
    }
}
