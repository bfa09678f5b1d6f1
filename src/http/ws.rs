//! WebSocket connections (RFC 6455): upgrade, limits, pings, close codes. Framing is tungstenite's.
//!
//! In order: handshake (`wire::ws_handshake`), frame and message limits, masks, UTF-8, control frames (tungstenite),
//! time for a sign of life and for sending (here and in `http::line`), close codes (here). No compression.
//!
//! What a peer does not take never piles up: a pong leaves before more is read, a message before the next is made.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use hyper::header::{self, HeaderValue};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{HeaderMap, StatusCode};
use tokio::io::AsyncWriteExt;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Error};

use crate::base::limits::{WS_MESSAGE_BYTES_MAX, WS_READ_BUFFER_BYTES};
use crate::base::log;
use crate::http::error::{ErrorStatus, HttpError};
use crate::http::line::Guarded;
use crate::http::{Body, Response};
use crate::wire::ws_handshake::{self, BadHandshake};

/// A text that is known to be UTF-8; cheap to clone.
pub type Text = tungstenite::Utf8Bytes;

/// How long we wait for the peer's close frame after ours.
const CLOSE_TIME: Duration = Duration::from_secs(2);

/// Limits of one socket.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Largest message and frame, in bytes; a larger one closes with 1009.
    pub message_bytes_max: usize,
    /// A ping is sent this often; a peer from which no byte comes until the next one is dropped.
    pub ping_every: Duration,
    /// A peer that takes longer to take a frame is dropped.
    pub send_within: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { message_bytes_max: WS_MESSAGE_BYTES_MAX, ping_every: Duration::from_secs(30), send_within: Duration::from_secs(30) }
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

/// The other side is gone, or broke the protocol: [`Socket::end`] is what is left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// How far a connection has come.
#[derive(Clone, Copy)]
enum State {
    /// Both sides may speak.
    Open,
    /// Nothing more is read. A peer that broke a rule is told which (RFC 6455 §7.4.1).
    Over(Option<(CloseCode, &'static str)>),
    /// Nothing can be said, either.
    Lost,
}

/// One open connection. Drive it by polling [`Socket::recv`]: pings are handled there; then [`Socket::close`] or [`Socket::end`] it.
pub struct Socket {
    frames: WebSocketStream<Guarded>,
    options: Options,
    /// When the next ping leaves.
    ping_at: Instant,
    /// A ping has left, so that something has to come.
    pinged: bool,
    /// Something of ours may still lie in the write buffer.
    unflushed: bool,
    state: State,
}

impl Socket {
    async fn new(io: Guarded, already_read: Bytes, options: Options) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(WS_READ_BUFFER_BYTES)
            // Every message and pong leaves before the next thing is done, so the buffer never holds more than one of each.
            .write_buffer_size(0)
            .max_write_buffer_size(usize::MAX)
            .max_message_size(Some(options.message_bytes_max))
            .max_frame_size(Some(options.message_bytes_max))
            // RFC 6455 §5.1: a client's frames are masked.
            .accept_unmasked_frames(false);
        let frames = WebSocketStream::from_partially_read(io, already_read.into(), Role::Server, Some(config)).await;
        Self { frames, options, ping_at: Instant::now() + options.ping_every, pinged: false, unflushed: false, state: State::Open }
    }

    /// The next message. Cancel-safe: use it in `select!`. It must be polled again soon, or pings stop.
    pub async fn recv(&mut self) -> Result<Message, Gone> {
        while matches!(self.state, State::Open) {
            if self.unflushed {
                self.flush().await?;
            }
            tokio::select! {
                biased;
                item = self.frames.next() => match item {
                    Some(Ok(tungstenite::Message::Text(text))) => return Ok(Message::Text(text)),
                    Some(Ok(tungstenite::Message::Binary(bytes))) => return Ok(Message::Binary(bytes)),
                    // The answer leaves in `end`: nothing of ours may come between.
                    Some(Ok(tungstenite::Message::Close(_))) => self.state = State::Over(None),
                    // A pong waits to leave: who sends pings and reads nothing is not read from, either.
                    Some(Ok(_)) => self.unflushed = true,
                    // Told in `end`: this future may be dropped before the peer has taken it.
                    Some(Err(error)) => self.state = State::Over(broken_rule(&error)),
                    None => self.state = State::Over(None),
                },
                () = tokio::time::sleep_until(self.ping_at) => {
                    self.ping_at = Instant::now() + self.options.ping_every;
                    // Any byte is a sign of life: the pong stands behind what the peer is still sending.
                    let silent = !self.frames.get_ref().has_heard();
                    if (self.pinged && silent) || self.feed(tungstenite::Message::Ping(Bytes::new())).await.is_err() {
                        self.state = State::Lost;
                    }
                    self.pinged = true;
                }
            }
        }
        Err(Gone)
    }

    /// Sends and flushes a text message; gives up after `send_within`.
    pub async fn send(&mut self, text: impl Into<Text>) -> Result<(), Gone> {
        self.feed(tungstenite::Message::Text(text.into())).await?;
        self.flush().await
    }

    /// Sends and flushes a binary message; gives up after `send_within`.
    pub async fn send_binary(&mut self, bytes: Bytes) -> Result<(), Gone> {
        self.feed(tungstenite::Message::Binary(bytes)).await?;
        self.flush().await
    }

    /// Closes with this code and reason (at most 123 bytes, RFC 6455 §5.5) and waits shortly for the answer.
    pub async fn close(mut self, code: Close, reason: &'static str) {
        let code = match code {
            Close::Normal => CloseCode::Normal,
            Close::GoingAway => CloseCode::Away,
            Close::Policy => CloseCode::Policy,
            Close::Internal => CloseCode::Error,
        };
        if matches!(self.state, State::Open) {
            self.state = State::Over(None);
            if self.say_close(code, reason).await.is_ok() {
                // What the peer sends until its close frame is dropped.
                let _ = timeout(CLOSE_TIME, async { while let Some(Ok(_)) = self.frames.next().await {} }).await;
            }
        }
        self.end().await;
    }

    /// Ends a connection that is over ([`Gone`]): a peer that broke a rule is told which, one that closed gets its answer, then the
    /// server closes (RFC 6455 §7.1.1); unread input must not reset our last frame away.
    pub async fn end(mut self) {
        let _ = match self.state {
            State::Over(Some((code, reason))) => self.say_close(code, reason).await,
            State::Over(None) => timeout(CLOSE_TIME, self.frames.flush()).await.map_or(Err(Gone), |flushed| flushed.map_err(|_| Gone)),
            State::Open | State::Lost => Ok(()),
        };
        if !matches!(self.state, State::Lost) {
            let io = self.frames.get_mut();
            io.linger();
            let _ = timeout(CLOSE_TIME, io.shutdown()).await;
        }
    }

    /// Puts a frame into the write buffer, as far as the peer takes it.
    async fn feed(&mut self, message: tungstenite::Message) -> Result<(), Gone> {
        if !matches!(self.state, State::Open) {
            return Err(Gone);
        }
        self.unflushed = true;
        match timeout(self.options.send_within, self.frames.feed(message)).await {
            Ok(Ok(())) => Ok(()),
            _ => self.lost(),
        }
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        match timeout(self.options.send_within, self.frames.flush()).await {
            Ok(Ok(())) => {
                self.unflushed = false;
                Ok(())
            }
            _ => self.lost(),
        }
    }

    fn lost(&mut self) -> Result<(), Gone> {
        self.state = State::Lost;
        Err(Gone)
    }

    async fn say_close(&mut self, code: CloseCode, reason: &'static str) -> Result<(), Gone> {
        let frame = CloseFrame { code, reason: Text::from_static(reason) };
        match timeout(CLOSE_TIME, self.frames.send(tungstenite::Message::Close(Some(frame)))).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Gone),
        }
    }
}

/// The rule that the peer broke (RFC 6455 §7.4.1); none where the connection broke, or was closing anyway.
fn broken_rule(error: &Error) -> Option<(CloseCode, &'static str)> {
    match error {
        Error::Capacity(_) => Some((CloseCode::Size, "message too big")),
        Error::Utf8(_) => Some((CloseCode::Invalid, "text is not UTF-8")),
        Error::Protocol(
            ProtocolError::ResetWithoutClosingHandshake | ProtocolError::ReceivedAfterClosing | ProtocolError::SendAfterClosing,
        ) => None,
        Error::Protocol(_) => Some((CloseCode::Protocol, "protocol error")),
        _ => None,
    }
}

/// Answers the handshake (RFC 6455 §4.2.2) and runs `run` on a task of its own once the connection is ours.
/// 400 for a bad handshake, 426 for another version. `on` is what the request brought for an upgrade.
pub fn upgrade<F, Fut>(headers: &HeaderMap, on: Option<OnUpgrade>, options: Options, run: F) -> Result<Response, HttpError>
where
    F: FnOnce(Socket) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let version = HeaderValue::from_static("13");
    let accept = ws_handshake::accept(headers).map_err(|bad| match bad {
        BadHandshake::NoUpgrade => HttpError::new(ErrorStatus::UpgradeRequired, "no_upgrade", "this is a WebSocket: an upgrade is needed")
            .header(header::UPGRADE, HeaderValue::from_static("websocket"))
            .header(header::CONNECTION, HeaderValue::from_static("upgrade")),
        BadHandshake::Version => HttpError::new(ErrorStatus::UpgradeRequired, "ws_version", "Sec-WebSocket-Version must be 13")
            .header(header::SEC_WEBSOCKET_VERSION, version),
        BadHandshake::Key => HttpError::bad_request("Sec-WebSocket-Key must be 16 bytes in base64"),
    })?;
    let accept = HeaderValue::try_from(accept).map_err(|_| HttpError::internal("base64 is not a header value"))?;
    let on = on.ok_or_else(|| HttpError::bad_request("an upgrade needs HTTP/1.1"))?;
    let (itself, task) = oneshot::channel();
    // Ends with its socket: `run` returns when the peer, the key or the server is gone; or when its place is needed.
    let spawned = tokio::spawn(async move {
        let Ok(task) = task.await else { return };
        match on.await.map(|upgraded| open(upgraded, task)) {
            Ok(Some((io, already_read))) => run(Socket::new(io, already_read, options).await).await,
            Ok(None) => log::error("http", format_args!("an upgraded connection is not ours")),
            // The client left between handshake and upgrade.
            Err(_) => {}
        }
    });
    let _ = itself.send(spawned.abort_handle());
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

fn open(upgraded: Upgraded, task: AbortHandle) -> Option<(Guarded, Bytes)> {
    let (mut io, already_read) = Guarded::handed_over(upgraded)?;
    io.opened(task);
    Some((io, already_read))
}
