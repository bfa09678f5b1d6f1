//! The client's end of the gateway's WebSocket (RFC 6455 §4.1), over TCP or a Unix socket.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use hyper::StatusCode;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::output::Failure;
use super::reach::{Place, Reach, refused};
use crate::base::random::{Random, SystemRandom};

/// The handshake's answer is a few lines.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// A frame holds at most a whole answer in JSON.
const FRAME_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Connecting and the handshake; the gateway is on this machine or near.
const PATIENCE: Duration = Duration::from_secs(10);

/// An open WebSocket.
pub(super) struct Socket(WebSocketStream<Wire>);

/// What came.
pub(super) enum Came {
    /// A text frame.
    Text(String),
    /// The other side closed, with its reason where it gave one.
    Closed(String),
}

impl Socket {
    /// Connects and shakes hands.
    pub(super) async fn open(reach: &Reach, path: &str) -> Result<Self, Failure> {
        tokio::time::timeout(PATIENCE, Self::shake(reach, path))
            .await
            .unwrap_or_else(|_| Err(reach.gone("it does not answer within 10 seconds")))
    }

    async fn shake(reach: &Reach, path: &str) -> Result<Self, Failure> {
        let connected = match &reach.place {
            Place::Tcp(address) => TcpStream::connect(address).await.map(Wire::Tcp),
            Place::Unix(path) => UnixStream::connect(path).await.map(Wire::Unix),
        };
        let mut wire = connected.map_err(|e| reach.gone(&e.to_string()))?;
        let auth = match reach.authorization()? {
            Some(value) => format!("Authorization: {}\r\n", value.to_str().unwrap_or_default()),
            None => String::new(),
        };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\n{auth}Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\n\r\n",
            reach.place.host(),
            key()
        );
        let broken = |e: std::io::Error| reach.gone(&e.to_string());
        wire.write_all(request.as_bytes()).await.map_err(broken)?;
        let mut came = Vec::new();
        let end = loop {
            if let Some(at) = came.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if came.len() > HEAD_BYTES_MAX || wire.read_buf(&mut came).await.map_err(broken)? == 0 {
                return Err(Failure::failed(format!("{} speaks no HTTP that can be understood", reach.place)));
            }
        };
        let rest = came.split_off(end);
        let head = String::from_utf8_lossy(&came);
        let status = head.split(' ').nth(1).and_then(|code| StatusCode::from_bytes(code.as_bytes()).ok());
        match status {
            Some(StatusCode::SWITCHING_PROTOCOLS) => {}
            // The reason is in the body; its beginning has mostly come with the head, and a missing one is no harm.
            Some(status) => return Err(refused(status, &rest)),
            None => return Err(Failure::failed(format!("{} speaks no HTTP that can be understood", reach.place))),
        }
        let config = WebSocketConfig::default().max_message_size(Some(FRAME_BYTES_MAX)).max_frame_size(Some(FRAME_BYTES_MAX));
        Ok(Self(WebSocketStream::from_partially_read(wire, rest, Role::Client, Some(config)).await))
    }

    /// Sends a text frame.
    pub(super) async fn send(&mut self, text: String) -> Result<(), Failure> {
        self.0.send(Message::text(text)).await.map_err(|e| Failure::failed(format!("the connection to the gateway broke: {e}")))
    }

    /// The next text frame; pings are answered below. Cancel-safe.
    pub(super) async fn next(&mut self) -> Came {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => return Came::Text(text.as_str().to_owned()),
                Some(Ok(Message::Close(frame))) => {
                    return Came::Closed(frame.map_or_else(String::new, |frame| super::output::harmless(frame.reason.as_str())));
                }
                Some(Ok(_)) => {}
                // A killed process says nothing; the library's words for that would explain nothing.
                Some(Err(_)) | None => return Came::Closed(String::new()),
            }
        }
    }
}

/// 16 random bytes in base64 (RFC 6455 §4.1, item 7): 21 free digits, one that holds two bits, two pads.
fn key() -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = [0; 21];
    SystemRandom::new().fill(&mut bytes);
    let digits: String = bytes.iter().filter_map(|byte| DIGITS.get(usize::from(byte % 64)).map(|digit| char::from(*digit))).collect();
    format!("{digits}A==")
}

/// One connection of either kind.
enum Wire {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_form_of_the_rfc_and_differ() {
        let (a, b) = (key(), key());
        assert!(a.len() == 24 && a.ends_with("A==") && a != b);
    }
}
