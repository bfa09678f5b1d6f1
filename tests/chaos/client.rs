//! HTTP and WebSocket towards a server that may be gone at any moment: every call may fail, and then it says nothing.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

/// Longer than any deadline of the server: what takes longer hangs.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// One request on a connection of its own; `None` where the answer did not come whole.
pub async fn ask(address: &str, key: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Option<(u16, String)> {
    // HTTP/1.0: the answer ends with the connection, so that nothing has to be unframed here.
    let mut head = format!("{method} {path} HTTP/1.0\r\nhost: {address}\r\nauthorization: Bearer {key}\r\n");
    if !body.is_empty() {
        head += &format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        stream.write_all(format!("{head}\r\n{body}").as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok()?;
        let answer = String::from_utf8(answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok());
        // A cut answer is none.
        length.is_none_or(|length| length == body.len()).then(|| (status, body.to_owned()))
    };
    tokio::time::timeout(PATIENCE, exchange).await.unwrap_or_else(|_| panic!("{method} {path} hangs"))
}

/// The records of an event stream that has come to its end; `None` where it broke off.
pub async fn events(address: &str, key: &str, session: &str, after: u64) -> Option<(u16, Vec<Value>)> {
    let path = format!("/api/sessions/{session}/events?after={after}&until=idle");
    let (status, body) = ask(address, key, "GET", &path, &[], "").await?;
    let records = body.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect();
    Some((status, records))
}

/// A WebSocket to the chat.
pub struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    /// Connects.
    pub async fn open(address: &str, key: &str) -> Option<Self> {
        let head = format!(
            "GET /api/chat/stream HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let upgrade = async {
            let mut stream = TcpStream::connect(address).await.ok()?;
            stream.write_all(head.as_bytes()).await.ok()?;
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\n") {
                answer.push(stream.read_u8().await.ok()?);
            }
            answer.starts_with(b"HTTP/1.1 101 ").then_some(stream)
        };
        let stream = tokio::time::timeout(PATIENCE, upgrade).await.expect("the upgrade hangs")?;
        Some(Self(WebSocketStream::from_raw_socket(stream, Role::Client, None).await))
    }
    /// Sends one frame.
    pub async fn send(&mut self, frame: &Value) -> Option<()> {
        self.0.send(Message::text(frame.to_string())).await.ok()
    }
    /// The next frame.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            match tokio::time::timeout(PATIENCE, self.0.next()).await.expect("a socket hangs")?.ok()? {
                Message::Text(text) => return serde_json::from_str(&text).ok(),
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }
}
