//! Literal bytes over a real socket, and everything the server says to them.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::client::{Address, PATIENCE, Stream, parse_head};
use super::server::Server;
use super::sse::find;

/// What came back on one connection.
#[derive(Debug)]
pub struct Said {
    /// Status codes of the responses, in order.
    pub statuses: Vec<u16>,
    /// All bytes as text.
    pub text: String,
    /// The server closed the connection (else the wait for it ran out of what it was given).
    pub closed: bool,
}

/// A raw connection.
pub async fn connect(server: &Server) -> Box<dyn Stream> {
    Address::connect(&server.address).await
}

/// Sends `bytes` on a new connection and reads until the server closes it. `$HOST` and `$KEY` in the bytes are filled in.
pub async fn say(server: &Server, bytes: &[u8]) -> Said {
    let mut socket = connect(server).await;
    let bytes = fill(bytes, "$HOST", &server.address.host());
    let bytes = fill(&bytes, "$KEY", server.key());
    let _ = socket.write_all(&bytes).await;
    hear(&mut socket).await
}

/// Reads until the server closes the connection.
pub async fn hear(socket: &mut Box<dyn Stream>) -> Said {
    let mut all = Vec::new();
    let read = async {
        let mut buffer = [0; 8192];
        while let Ok(read @ 1..) = socket.read(&mut buffer).await {
            all.extend_from_slice(&buffer[..read]);
        }
    };
    let closed = tokio::time::timeout(PATIENCE, read).await.is_ok();
    let text = String::from_utf8_lossy(&all).into_owned();
    Said { statuses: statuses(&all), text, closed }
}

/// Status codes of a sequence of responses.
fn statuses(mut bytes: &[u8]) -> Vec<u16> {
    let mut found = Vec::new();
    while let Some(end) = find(bytes, b"\r\n\r\n") {
        let (status, headers) = parse_head(&String::from_utf8_lossy(&bytes[..end]));
        found.push(status);
        let value = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        bytes = &bytes[end + 4..];
        let length: usize = value("content-length").map_or(0, |v| v.parse().unwrap());
        if value("transfer-encoding").is_some() {
            break;
        }
        bytes = bytes.get(length..).unwrap_or_default();
    }
    found
}

fn fill(bytes: &[u8], name: &str, value: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some(at) = find(rest, name.as_bytes()) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(value.as_bytes());
        rest = &rest[at + name.len()..];
    }
    out.extend_from_slice(rest);
    out
}
