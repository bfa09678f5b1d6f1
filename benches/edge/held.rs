//! Connections that are opened and then held.

use std::net::TcpStream;

use crate::load::{Connection, request};
use crate::paths::{EVENTS, SOCKET};
use crate::process::Server;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Requests, one of which was answered.
    KeepAlive,
    /// A stream of events, of which none has come.
    Reader,
    /// A WebSocket on which nothing was said.
    Socket,
}

/// Opens one and holds it: what is open stays so until the socket is dropped. Each shows the key, where there is one: strangers of one
/// peer are capped.
pub(crate) fn open(server: &Server, kind: Kind) -> TcpStream {
    let connection = Connection::open(&server.address);
    let get = |path| request("GET", path, server.token(), "");
    match kind {
        Kind::KeepAlive => {
            let mut connection = connection;
            connection.exchange(&get("/api/sessions"));
            connection.into_socket()
        }
        Kind::Reader => connection.begin(&get(EVENTS), "200"),
        Kind::Socket => connection.begin(&upgrade(server.token()), "101"),
    }
}

/// Opens this many.
pub(crate) fn open_all(server: &Server, kind: Kind, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| open(server, kind)).collect()
}

/// Opens this many and says how many kB (1,000 bytes) of the server's own memory each takes; pages of its code are nobody's.
pub(crate) fn weighed(server: &Server, kind: Kind, count: usize) -> (Vec<TcpStream>, f64) {
    // The first connections pay for what all share.
    let mut held = open_all(server, kind, 8);
    let before = server.status_kb("RssAnon");
    held.extend(open_all(server, kind, count));
    (held, server.status_kb("RssAnon").saturating_sub(before) as f64 * 1.024 / count as f64)
}

/// The opening handshake of a WebSocket (RFC 6455 §1.3; the key is its example).
fn upgrade(token: Option<&str>) -> Vec<u8> {
    let mut text = request("GET", SOCKET, token, "");
    text.truncate(text.len() - 2);
    text.extend(
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    text
}
