//! Messages over WebSockets, against an echo by the same framing on bare hyper and on axum.

use std::net::TcpStream;

use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, WebSocket};

use crate::Size;
use crate::compare::{CONNECTIONS, Three};
use crate::held::{self, Kind};
use crate::load;
use crate::process::Server;

/// Prints the table.
pub(crate) fn run(size: Size) {
    let rounds = size.pick(1, 5);
    let servers = Three::start(&[]);
    let many = size.pick(50, 6000);
    let cases = [
        (r#"{"type":"ping"}"#, "ping, answered with pong", r#""type":"pong""#, many),
        (r#"{"type":"message","content":"hello"}"#, "message to the offline model, until done", r#""type":"done""#, size.pick(3, 60)),
    ];
    let cases = cases.map(|(text, name, last, count)| {
        let ask = |server: &Server, count| {
            // An echo has one frame for each.
            let last = if server.token().is_some() { last } else { "" };
            load::run_with(CONNECTIONS, count, || {
                let mut socket = open(server);
                move || exchange(&mut socket, text, last)
            })
        };
        servers.measure(name, "–", rounds, (count, many / 2), ask)
    });
    servers.print("WebSocket", &cases, rounds);
    println!("A message is answered with some eight frames, and written down; the baselines send it back.");
}

fn open(server: &Server) -> WebSocket<TcpStream> {
    let socket = held::open(server, Kind::Socket);
    WebSocket::from_raw_socket(socket, Role::Client, Some(WebSocketConfig::default().write_buffer_size(0)))
}

/// Sends a text and reads until a frame that holds `last`.
fn exchange(socket: &mut WebSocket<TcpStream>, text: &'static str, last: &str) {
    socket.send(Message::text(text)).unwrap();
    while !matches!(socket.read().unwrap(), Message::Text(text) if text.contains(last)) {}
}
