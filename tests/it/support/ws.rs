//! A WebSocket client: the handshake by hand over the checked HTTP client, the frames by tungstenite's client role.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::{Sink, Stream as _};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

use super::client::{Answer, Ask, Client, PATIENCE};

/// The example of RFC 6455 §1.3, so that the expected accept value is known without SHA-1.
pub const WS_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// Its answer.
pub const WS_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The two halves of an upgraded connection as one.
struct Joined {
    reader: Box<dyn AsyncRead + Send + Unpin>,
    writer: tokio::io::WriteHalf<Box<dyn super::client::Stream>>,
}

impl AsyncRead for Joined {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(cx, buf)
    }
}

impl AsyncWrite for Joined {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(cx)
    }
}

/// An open WebSocket.
pub struct Ws {
    socket: WebSocketStream<Joined>,
    client: Client,
}

/// The handshake request for `target`.
pub fn handshake(target: &str) -> Ask {
    Ask::new("GET", target)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", WS_KEY)
}

impl Ws {
    /// Opens `/api/chat/stream` with the client's key.
    pub async fn chat(client: &Client) -> Self {
        Self::open(client, handshake("/api/chat/stream")).await.unwrap_or_else(|a| panic!("refused: {} {}", a.status, a.text()))
    }

    /// Sends a handshake; a refusal is the whole HTTP answer.
    pub async fn open(client: &Client, ask: Ask) -> Result<Self, Answer> {
        let mut response = client.open(ask).await;
        if response.status != 101 {
            let mut body = Vec::new();
            while let Some(bytes) = response.chunk().await {
                body.extend_from_slice(&bytes);
            }
            return Err(Answer { status: response.status, headers: response.headers.clone(), body });
        }
        assert_eq!(response.header("sec-websocket-accept"), Some(WS_ACCEPT), "RFC 6455 §4.2.2");
        assert!(response.header("upgrade").is_some_and(|v| v.eq_ignore_ascii_case("websocket")));
        let (reader, writer, left) = response.into_socket().await;
        let socket = WebSocketStream::from_partially_read(Joined { reader, writer }, left, Role::Client, None).await;
        Ok(Self { socket, client: client.clone() })
    }

    /// Sends a JSON text frame.
    pub async fn send(&mut self, frame: &Value) {
        self.send_raw(Message::text(frame.to_string())).await;
    }

    /// Sends any frame.
    pub async fn send_raw(&mut self, message: Message) {
        std::future::poll_fn(|cx| Pin::new(&mut self.socket).poll_ready(cx)).await.expect("socket takes frames");
        Pin::new(&mut self.socket).start_send(message).expect("socket takes frames");
        std::future::poll_fn(|cx| Pin::new(&mut self.socket).poll_flush(cx)).await.expect("socket takes frames");
    }

    /// The next frame of any kind; `None` when the connection is over.
    pub async fn next_raw(&mut self) -> Option<Result<Message, String>> {
        let next = std::future::poll_fn(|cx| Pin::new(&mut self.socket).poll_next(cx));
        let frame = tokio::time::timeout(PATIENCE, next).await.unwrap_or_else(|_| panic!("no frame in {PATIENCE:?}"));
        frame.map(|r| r.map_err(|e| e.to_string()))
    }

    /// The next JSON frame. Control frames are passed over; a close fails the test.
    pub async fn json(&mut self) -> Value {
        self.try_json().await.unwrap_or_else(|e| panic!("a frame, not the end of the socket: {e}"))
    }

    /// The next JSON frame, or how the socket ended.
    pub async fn try_json(&mut self) -> Result<Value, String> {
        loop {
            match self.next_raw().await {
                Some(Ok(Message::Text(text))) => {
                    let text = text.as_str();
                    if let Some(key) = self.client.key_if_any() {
                        assert!(!text.contains(key), "the key is in a frame");
                    }
                    let json: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("frame is no JSON ({e}): {text}"));
                    assert!(json["type"].is_string(), "a frame has a type: {json}");
                    return Ok(json);
                }
                Some(Ok(Message::Close(frame))) => return Err(format!("close {frame:?}")),
                Some(Ok(Message::Binary(bytes))) => panic!("the server sends no binary frames: {bytes:?}"),
                Some(Ok(_)) => {}
                Some(Err(e)) => return Err(e),
                None => return Err("end".to_owned()),
            }
        }
    }

    /// Reads until a frame of this type; returns all that were read, that one last.
    pub async fn until(&mut self, kind: &str) -> Vec<Value> {
        let mut all = Vec::new();
        loop {
            let frame = self.try_json().await.unwrap_or_else(|e| panic!("{e} before {kind}; got {all:?}"));
            let found = frame["type"] == kind;
            all.push(frame);
            if found {
                return all;
            }
        }
    }

    /// Sends a message without a session and returns what `accepted` says.
    pub async fn say(&mut self, content: &str, session: Option<&str>) -> Value {
        let mut frame = serde_json::json!({"type": "message", "content": content});
        if let Some(session) = session {
            frame["session_id"] = session.into();
        }
        self.send(&frame).await;
        self.until("accepted").await.pop().unwrap()
    }

    /// Reads to the close frame; its code and reason.
    pub async fn closed(&mut self) -> Option<CloseFrame> {
        loop {
            match self.next_raw().await {
                Some(Ok(Message::Close(frame))) => return frame,
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }
}
