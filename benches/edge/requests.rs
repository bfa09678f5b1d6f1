//! Requests with the whole pipeline on (limits, authentication, audit, access log), against bare hyper and axum.

use crate::Size;
use crate::compare::{CONNECTIONS, Three};
use crate::load;

/// One line of the table.
struct Request {
    name: &'static str,
    bytes: Vec<u8>,
    /// DESIGN §8, where it names one.
    goal: &'static str,
    /// Per connection and round.
    count: u64,
}

/// Prints the table.
pub(crate) fn run(size: Size) {
    let rounds = size.pick(1, 7);
    let servers = Three::start(&[]);
    let token = servers.product.token();
    let many = size.pick(50, 6000);
    let requests = [
        Request { name: "GET /health", bytes: load::request("GET", "/health", None, ""), goal: "1.15", count: many },
        Request { name: "GET /api/sessions, key", bytes: load::request("GET", "/api/sessions", token, ""), goal: "1.30", count: many },
        Request { name: "GET / (page), not modified", bytes: not_modified(&servers), goal: "–", count: many },
        Request {
            name: "POST /api/chat, offline model",
            bytes: load::request("POST", "/api/chat", token, r#"{"content":"hello"}"#),
            goal: "–",
            count: size.pick(3, 60),
        },
    ];
    let cases: Vec<_> = requests
        .iter()
        .map(|request| {
            let ask = |server: &crate::process::Server, count| load::run(&server.address, &request.bytes, CONNECTIONS, count);
            servers.measure(request.name, request.goal, rounds, (request.count, many / 2), ask)
        })
        .collect();
    servers.print("request", &cases, rounds);
    println!("A message is three commits of the file system at least (its session is new): its CPU and time are mostly those.");
}

/// A request of somebody who has the page.
fn not_modified(servers: &Three) -> Vec<u8> {
    let page = load::Connection::open(&servers.product.address).head(&load::request("GET", "/", None, ""));
    let tag = page.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
    let mut bytes = load::request("GET", "/", None, "");
    bytes.truncate(bytes.len() - 2);
    bytes.extend(format!("If-None-Match: {tag}\r\n\r\n").into_bytes());
    bytes
}
