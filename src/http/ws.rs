//! WebSocket connections (RFC 6455): upgrade, limits, pings, close codes. Framing is tungstenite's.

use std::time::Duration;

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::upgrade::OnUpgrade;

use crate::http::Response;
use crate::http::error::HttpError;

/// A text that is known to be UTF-8; cheap to clone.
pub type Text = tokio_tungstenite::tungstenite::Utf8Bytes;

/// Limits of one socket.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Largest message and frame, in bytes; a larger one closes with 1009.
    pub message_bytes_max: usize,
    /// A ping is sent this often; a peer that shows no sign of life until the next one is dropped.
    pub ping_every: Duration,
    /// A peer that takes longer to take a frame is dropped.
    pub send_within: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            message_bytes_max: crate::base::limits::WS_MESSAGE_BYTES_MAX,
            ping_every: Duration::from_secs(30),
            send_within: Duration::from_secs(30),
        }
    }
}

/// What a client sent. Control frames are answered below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A text message.
    Text(Text),
    /// A binary message.
    Binary(Bytes),
}

/// Why we end a connection (RFC 6455 §7.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// 1000: done.
    Normal,
    /// 1001: the server stops.
    GoingAway,
    /// 1008: the key was revoked or ran out.
    Policy,
    /// 1011: our fault.
    Internal,
}

/// The other side is gone, or broke the protocol and was told so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// One open connection. Drive it by polling [`Socket::recv`]: pings and closes are handled there.
pub struct Socket(());

impl Socket {
    /// The next message. Cancel-safe: use it in `select!`. It must be polled again soon, or pings stop.
    pub async fn recv(&mut self) -> Result<Message, Gone> {
        todo!()
    }
    /// Sends and flushes a text message; gives up after `send_within`.
    pub async fn send(&mut self, _text: impl Into<Text>) -> Result<(), Gone> {
        todo!()
    }
    /// Sends and flushes a binary message; gives up after `send_within`.
    pub async fn send_binary(&mut self, _bytes: Bytes) -> Result<(), Gone> {
        todo!()
    }
    /// Closes with this code and reason (at most 123 bytes) and waits shortly for the answer.
    pub async fn close(self, _code: Close, _reason: &'static str) {
        todo!()
    }
}

/// Answers the handshake (RFC 6455 §4.2.2) and runs `run` on a task of its own once the connection is ours.
/// 400 for a bad handshake, 426 for another version.
pub fn upgrade<F, Fut>(_headers: &HeaderMap, _on: Option<OnUpgrade>, _options: Options, _run: F) -> Result<Response, HttpError>
where
    F: FnOnce(Socket) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    todo!()
}
