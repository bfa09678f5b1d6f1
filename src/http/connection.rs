//! One connection, driven by hyper with every option spelled out.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::FutureExt;
use hyper::StatusCode;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWrite;

use crate::base::cancel::Cancel;
use crate::base::limits::HEADER_BYTES_MAX;
use crate::http::error::HttpError;
use crate::http::line::{Guarded, Line, Turn};
use crate::http::socket::Socket;
use crate::http::{Body, Response};

/// A request as it comes in.
pub type Request = hyper::Request<Incoming>;

/// What answers requests.
pub trait Service: Send + Sync + 'static {
    /// Answers one request. Dropped half way when the client is gone.
    fn call(self: Arc<Self>, request: Request, line: Arc<Line>) -> Pin<Box<dyn Future<Output = Response> + Send>>;
    /// The answer to bytes that are no request (400, 408, 414, 431); its body is whole.
    fn refuse(&self, line: &Line, error: HttpError) -> Response;
}

/// How a server ends, in two steps.
#[derive(Clone)]
pub struct Stop {
    /// Every connection gets the answer that it waits for; one without a request so far gets one answer: that nothing more is taken on.
    pub draining: Cancel,
    /// What runs is done: nobody is let in any more, and who has asked for nothing yet gets no answer.
    pub drained: Cancel,
}

/// Serves one connection to its end. While it drains, the request that runs, or is on its way, is answered, and the connection closes.
pub(super) async fn run(socket: Socket, line: Arc<Line>, service: Arc<dyn Service>, stop: Stop) {
    let io = TokioIo::new(Guarded::new(socket, line.clone(), service.clone()));
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Header and idle time are kept below hyper, see `http::line`: its timer knows one of them and cannot answer 408.
        .header_read_timeout(None)
        // `max_headers` is left alone: with any number hyper makes room for the fields on the heap for each request, and fills it. It
        // takes 100 by itself; the limit of ours is kept in `http::gate`.
        .max_header_size(HEADER_BYTES_MAX)
        // No more than a head, though bodies come through the same buffer: every stranger may fill it.
        .max_buf_size(HEADER_BYTES_MAX)
        .keep_alive(true)
        // A client that closes its side has gone: its request is dropped, what it asked for goes on by itself.
        .half_close(false)
        // Pipelined requests are answered one after the other, each answer flushed.
        .pipeline_flush(false)
        .writev(true)
        .auto_date_header(true)
        .ignore_invalid_headers(false)
        .allow_multiple_spaces_in_request_line_delimiters(false)
        .title_case_headers(false)
        .preserve_header_case(false)
        .serve_connection(io, OneLine { line: line.clone(), service, draining: stop.draining.clone() })
        .with_upgrades();
    let mut visitor = line.visitor();
    let mut waiter = stop.draining.waiter();
    let mut draining = false;
    let stopped = poll_fn(|cx| {
        if visitor.poll_turn(line.needs_pass(), cx).is_ready() {
            line.begun();
            // How a connection ended is the access log's affair, request by request.
            if Pin::new(&mut connection).poll(cx).is_ready() {
                return Poll::Ready(false);
            }
        }
        if !draining {
            ready!(waiter.poll(cx));
            (draining, waiter) = (true, stop.drained.waiter());
        }
        // hyper would close on a head that is on its way, and where none has come yet.
        if line.awaits_request() { waiter.poll(cx).map(|_| true) } else { Poll::Ready(true) }
    });
    if stopped.await {
        Pin::new(&mut connection).graceful_shutdown();
        let _ = (&mut connection).await;
    }
    // Where a request asked for another protocol, as Java's client does with its first one, hyper leaves the socket to whoever answers
    // that and does not close it, whatever the answer was; behind bytes that are no request it keeps it, and does not close it either.
    let Some(left_at) = line.left_at() else { return };
    let left = match left_at.now_or_never() {
        Some(Ok(upgraded)) => Guarded::handed_over(upgraded).map(|(io, _)| io),
        _ => connection.into_parts().map(|parts| parts.io.into_inner()),
    };
    // Boxed: few connections come here, and each would keep room for it.
    if let Some(mut io) = left.map(Box::new) {
        let closed = poll_fn(|cx| {
            ready!(visitor.poll_turn(line.needs_pass(), cx));
            Pin::new(&mut *io).poll_shutdown(cx)
        });
        let _ = closed.await;
    }
}

/// The bytes of a response whose body is whole.
pub(super) fn encode(response: Response) -> Vec<u8> {
    let (head, body) = response.into_parts();
    let body = body.whole();
    let reason = head.status.canonical_reason().unwrap_or_default();
    let mut out = format!("HTTP/1.1 {} {reason}\r\n", head.status.as_str()).into_bytes();
    for (name, value) in &head.headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    let date = httpdate::fmt_http_date(SystemTime::now());
    out.extend_from_slice(format!("content-length: {}\r\ndate: {date}\r\n\r\n", body.len()).as_bytes());
    out.extend_from_slice(&body);
    out
}

/// The service as one connection sees it.
struct OneLine {
    line: Arc<Line>,
    service: Arc<dyn Service>,
    draining: Cancel,
}

impl hyper::service::Service<Request> for OneLine {
    type Response = hyper::Response<Answer>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request) -> Answering {
        self.line.busy();
        let upgrade = request.extensions().get().cloned();
        let first = match self.line.turn() {
            Turn::Now => First::Nothing,
            Turn::AfterOthers => First::Others,
            Turn::At(time) => First::Time(Box::pin(tokio::time::sleep_until(time))),
        };
        // Boxed by the service: a connection that waits does not keep room for a request.
        let inner = self.service.clone().call(request, self.line.clone());
        Answering { line: self.line.clone(), draining: self.draining.clone(), begun: self.line.now(), first, upgrade, inner }
    }
}

/// What an answer waits for, see [`Turn`].
enum First {
    Nothing,
    Others,
    Time(Pin<Box<tokio::time::Sleep>>),
}

struct Answering {
    line: Arc<Line>,
    draining: Cancel,
    /// When the request came, as the line counts.
    begun: u64,
    first: First,
    /// The request asks for another protocol.
    upgrade: Option<OnUpgrade>,
    inner: Pin<Box<dyn Future<Output = Response> + Send>>,
}

impl Future for Answering {
    type Output = Result<hyper::Response<Answer>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.first {
            First::Nothing => {}
            First::Others => {
                self.first = First::Nothing;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            First::Time(time) => {
                ready!(time.as_mut().poll(cx));
                self.first = First::Nothing;
            }
        }
        let mut response = ready!(self.inner.as_mut().poll(cx));
        let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        // RFC 9112 §9.6: who hears it sends no further request here.
        if (self.draining.why().is_some() || self.line.is_known_no_more(self.begun)) && !switches {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        // What is on its way already is still taken in.
        if headers.get(header::CONNECTION).is_some_and(|said| said == "close") {
            self.line.linger();
        }
        if let Some(upgrade) = self.upgrade.take().filter(|_| !switches) {
            self.line.declined(upgrade);
        }
        let line = self.line.clone();
        Poll::Ready(Ok(response.map(|body| Answer { body, line })))
    }
}

/// A body that tells its connection when it has been handed over.
struct Answer {
    body: Body,
    line: Arc<Line>,
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.line.answered();
    }
}

#[cfg(test)]
mod tests;
