//! The body of a response: whole, or made as it leaves.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use hyper::body::{Frame, SizeHint};

/// A stream of chunks; an error breaks the connection, so that a client never takes a half answer for a whole one.
type Chunks = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// The body of a response.
#[derive(Default)]
pub struct Body(Inner);

#[derive(Default)]
enum Inner {
    /// Nothing (more) to send.
    #[default]
    Empty,
    /// Sent in one piece with a `Content-Length`.
    Full(Bytes),
    /// Sent in chunks as they are made.
    Stream(Chunks),
}

impl Body {
    /// No bytes.
    pub fn empty() -> Self {
        Self(Inner::Empty)
    }

    /// These bytes.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self(if bytes.is_empty() { Inner::Empty } else { Inner::Full(bytes) })
    }

    /// Chunks as the stream gives them; it is polled only while the client reads, and dropped when the client is gone.
    /// An error breaks the connection.
    pub fn stream(chunks: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Self {
        Self(Inner::Stream(Box::pin(chunks)))
    }

    /// Its length, where that is known before it is sent.
    pub fn len(&self) -> Option<u64> {
        match &self.0 {
            Inner::Empty => Some(0),
            Inner::Full(bytes) => Some(bytes.len() as u64),
            Inner::Stream(_) => None,
        }
    }

    /// All its bytes; none of a stream's, which are not known yet.
    pub(crate) fn whole(self) -> Bytes {
        match self.0 {
            Inner::Full(bytes) => bytes,
            Inner::Empty | Inner::Stream(_) => Bytes::new(),
        }
    }

    /// It is known to have no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut self.0 {
            Inner::Empty => Poll::Ready(None),
            Inner::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Inner::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Inner::Stream(chunks) => {
                let item = ready!(chunks.as_mut().poll_next(cx));
                if !matches!(item, Some(Ok(_))) {
                    self.0 = Inner::Empty;
                }
                Poll::Ready(item.map(|chunk| chunk.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, Inner::Empty)
    }

    fn size_hint(&self) -> SizeHint {
        self.len().map(SizeHint::with_exact).unwrap_or_default()
    }
}
