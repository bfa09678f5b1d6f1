//! Strangers pay first (THREATS 10 to 13): what they may hold before anybody knows them, from many addresses of loopback.

use std::net::{Ipv4Addr, SocketAddr};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::client::{Address, Ask, PATIENCE};
use crate::support::server::{Server, Setup};

/// A connection from 127.0.0.`from`.
async fn connect(server: &Server, from: u8) -> TcpStream {
    let Address::Tcp(address) = &server.address else { panic!("a server on TCP") };
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(Ipv4Addr::new(127, 0, 0, from).into(), 0)).unwrap();
    socket.connect(address.parse().unwrap()).await.unwrap()
}

/// Asks on an open connection that stays open; the answer's status.
async fn status(socket: &mut TcpStream, target: &str, fields: &str) -> u16 {
    socket.write_all(format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n{fields}\r\n").as_bytes()).await.unwrap();
    let (status, headers, mut left) = crate::support::client::read_head(socket, target).await;
    let length: usize = headers.iter().find(|(name, _)| name == "content-length").unwrap().1.parse().unwrap();
    while left.len() < length {
        assert!(tokio::time::timeout(PATIENCE, socket.read_buf(&mut left)).await.unwrap().unwrap() > 0);
    }
    status
}

fn bearer(server: &Server) -> String {
    format!("authorization: Bearer {}\r\n", server.key())
}

/// Waits until the server ends the connection.
async fn shown_out(socket: &mut TcpStream) {
    let end = tokio::time::timeout(PATIENCE, socket.read(&mut [0; 1])).await.expect("the connection ends");
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}

fn descriptors(server: &Server) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count()
}

fn limit_descriptors(server: &Server, most: u64) {
    let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap());
    let hard = prlimit(pid, Resource::Nofile, Rlimit { current: Some(most), maximum: Some(100_000) });
    // Whoever may not raise a hard limit leaves it where it is.
    hard.or_else(|_| prlimit(pid, Resource::Nofile, Rlimit { current: Some(most), maximum: Some(4096) })).unwrap();
}

/// Asks until the log of the server has this text.
async fn logged(server: &Server, asker: &mut TcpStream, text: &str) {
    for _ in 0..20_000 {
        if server.log().contains(text) {
            return;
        }
        assert_eq!(status(asker, "/health", "").await, 200);
    }
    panic!("{text} never came into the log:\n{}", server.log());
}

#[tokio::test]
async fn one_peer_holds_64_places_and_pushes_out_nobody_but_itself() {
    let server = Setup::new().start();
    let mut other = connect(&server, 2).await;
    let mut crowd = Vec::new();
    for _ in 0..80 {
        crowd.push(connect(&server, 3).await);
    }
    for place in &mut crowd[..16] {
        shown_out(place).await;
    }
    assert_eq!(status(&mut other, "/health", "").await, 200);
    assert_eq!(status(&mut crowd[16], "/health", "").await, 200);
}

#[tokio::test]
async fn of_512_strangers_the_oldest_goes_first_and_a_client_never() {
    let server = Setup::new().start();
    let idle = descriptors(&server);
    let mut client = connect(&server, 1).await;
    assert_eq!(status(&mut client, "/api/status", &bearer(&server)).await, 200);
    let mut crowd = Vec::new();
    for n in 0..1000_usize {
        crowd.push(connect(&server, u8::try_from(2 + n / 50).unwrap()).await);
    }
    for place in &mut crowd[..488] {
        shown_out(place).await;
    }
    assert_eq!(status(&mut crowd[999], "/health", "").await, 200);
    assert_eq!(status(&mut client, "/api/status", &bearer(&server)).await, 200);
    let held = descriptors(&server) - idle;
    assert!((400..=520).contains(&held), "{held} descriptors for 1,000 strangers and a client");
}

#[tokio::test]
async fn connections_leave_descriptors_to_the_store_and_the_limit_is_used_whole() {
    let server = Setup::new().descriptors(64, 300).start();
    let mut crowd = Vec::new();
    for n in 0..400_usize {
        crowd.push(connect(&server, u8::try_from(2 + n / 20).unwrap()).await);
    }
    // More than the soft limit: it was raised to the hard one. Every one of them shows a stranger out.
    let mut clients = Vec::new();
    for _ in 0..100 {
        let mut client = connect(&server, 1).await;
        assert_eq!(status(&mut client, "/api/status", &bearer(&server)).await, 200);
        clients.push(client);
    }
    // Files are still opened: each message makes a session.
    for _ in 0..5 {
        let answer = server.client().post("/api/chat", &json!({"content": "hello"})).await.expect(200).json();
        assert!(server.session_file(&format!("{}.log", answer["session_id"].as_str().unwrap())).exists());
    }
    assert!(descriptors(&server) <= 172 + 40, "{}", descriptors(&server));
    let log = server.log();
    assert!(log.contains("300 descriptors allow 172 connections, not 4096"), "{log}");
    assert!(!log.contains("accept failed"), "{log}");
}

#[tokio::test]
async fn without_descriptors_the_server_waits_says_so_once_and_serves_again() {
    let server = Setup::new().start();
    let mut client = connect(&server, 1).await;
    assert_eq!(status(&mut client, "/api/status", &bearer(&server)).await, 200);
    limit_descriptors(&server, descriptors(&server) as u64);
    let mut waiting = Vec::new();
    for _ in 0..20 {
        waiting.push(connect(&server, 2).await);
    }
    logged(&server, &mut client, "accept failed").await;
    // Who is in is served.
    for _ in 0..100 {
        assert_eq!(status(&mut client, "/api/status", &bearer(&server)).await, 200);
    }
    limit_descriptors(&server, 4096);
    let mut next = connect(&server, 3).await;
    assert_eq!(status(&mut next, "/health", "").await, 200);
    let log = server.log();
    assert!(log.matches("accept failed").count() <= 2, "{log}");
}

/// THREATS 12: a login is the one body that is read before anybody knows whose it is.
#[tokio::test]
async fn the_one_body_that_a_stranger_may_send_is_small() {
    let server = Setup::new().start();
    let body = json!({"key": "a".repeat(5000)}).to_string();
    let ask = Ask::new("POST", "/api/login").header("content-type", "application/json").body(body.into_bytes());
    server.stranger().send(ask).await.expect(413);
    for route in oxios_edge::api::routes::ROUTES.iter().filter(|route| route.access == oxios_edge::api::routes::Access::Public) {
        assert!(route.body_max <= 4096, "{} takes {} bytes of anybody", route.path, route.body_max);
    }
}

/// THREATS 10.
#[tokio::test]
async fn a_key_has_256_bits_and_lies_on_the_disk_as_a_hash() {
    let server = Setup::new().start();
    let made = server.client().post("/api/keys", &json!({"name": "phone", "scopes": ["read"]})).await.expect(201).json();
    let keys = [server.key().to_owned(), made["key"].as_str().unwrap().to_owned()];
    for key in &keys {
        let random = key.strip_prefix("oxk_").unwrap();
        assert_eq!(random.len(), 43, "32 bytes in base64url");
        let different: std::collections::BTreeSet<char> = random.chars().collect();
        assert!(different.len() > 10, "{different:?}");
    }
    let mut left = vec![server.home().to_owned()];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.is_file() && path.file_name().unwrap() != "token" {
            let bytes = std::fs::read(&path).unwrap();
            for key in &keys {
                assert!(crate::support::sse::find(&bytes, key.as_bytes()).is_none(), "a key lies in {path:?}");
            }
        }
    }
}

/// THREATS 10 and 11.
#[tokio::test]
async fn wrong_keys_of_one_peer_are_its_own_affair_on_loopback_too() {
    let server = Setup::new().start();
    let wrong = "authorization: Bearer oxk_0000000000000000000000000000000000000000000\r\n";
    let (mut guesser, mut other) = (connect(&server, 2).await, connect(&server, 3).await);
    for n in 0..12 {
        assert_eq!(status(&mut guesser, "/api/status", wrong).await, if n < 10 { 401 } else { 429 }, "guess {n}");
    }
    assert_eq!(status(&mut other, "/api/status", wrong).await, 401);
    assert_eq!(status(&mut guesser, "/api/status", &bearer(&server)).await, 200, "a right key always passes");
}

/// THREATS 11: what is no request to anything costs nobody's budget.
#[tokio::test]
async fn wrong_methods_unknown_paths_and_wrong_keys_use_up_nobodys_budget() {
    let server = Setup::new().env("OXIOS_SECURITY__RATE_LIMIT_PER_MINUTE", "5").start();
    let client = server.client();
    for _ in 0..10 {
        client.send(Ask::new("DELETE", "/api/status")).await.expect(405);
        client.get("/api/nothing").await.expect(404);
        client.with_key(Some("oxk_0000000000000000000000000000000000000000000")).get("/api/status").await.expect(401);
    }
    let made = client.post("/api/keys", &json!({"name": "other", "scopes": ["read"]})).await.expect(201).json();
    for _ in 0..4 {
        client.get("/api/status").await.expect(200);
    }
    client.get("/api/status").await.expect(429);
    client.with_key(made["key"].as_str()).get("/api/status").await.expect(200);
}

const PROXY: &str = "[gateway]\ntrusted_proxies = [\"127.0.0.0/28\", \"10.0.0.1\"]\n";

#[tokio::test]
async fn behind_a_trusted_proxy_wrong_keys_count_for_the_client_it_names() {
    let server = Setup::new().config(PROXY).start();
    let client = server.client();
    let guess = |fields: Vec<(&'static str, String)>| {
        let wrong = client.with_key(Some("oxk_0000000000000000000000000000000000000000000"));
        let ask = fields.into_iter().fold(Ask::new("GET", "/api/status"), |ask, (name, value)| ask.header(name, value));
        async move { wrong.send(ask).await.status }
    };
    // The guesser writes what it likes; the proxies write behind it whom they saw.
    for n in 0..12 {
        let fields = match n % 3 {
            0 => vec![("x-forwarded-for", format!("198.51.100.{n}, 203.0.113.5"))],
            1 => vec![("x-forwarded-for", format!("198.51.100.{n}, 203.0.113.5:4711, 10.0.0.1"))],
            _ => vec![("forwarded", format!("for=198.51.100.{n}")), ("forwarded", "for=\"203.0.113.5:4711\";proto=https".to_owned())],
        };
        assert_eq!(guess(fields).await, if n < 10 { 401 } else { 429 }, "guess {n}");
    }
    assert_eq!(guess(vec![("x-forwarded-for", "203.0.113.6".to_owned())]).await, 401, "another client");
    assert_eq!(guess(vec![]).await, 401, "the proxy itself");
    // A login counts for the same client, and a right key passes whatever it did before.
    let login = |key: &str| Ask::new("POST", "/api/login").header("x-forwarded-for", "203.0.113.5").json(&json!({"key": key}));
    server.stranger().send(login("oxk_guess")).await.expect(429);
    server.stranger().send(login(server.key())).await.expect(200);
    client.send(Ask::new("GET", "/api/status").header("x-forwarded-for", "203.0.113.5")).await.expect(200);
    let mut asker = connect(&server, 1).await;
    logged(&server, &mut asker, "peer=203.0.113.6").await;
    let log = server.log();
    assert!(log.contains("peer=203.0.113.5") && !log.contains("198.51.100"), "{log}");
}

#[tokio::test]
async fn what_an_untrusted_peer_says_of_its_address_is_not_looked_at() {
    let server = Setup::new().config("[gateway]\ntrusted_proxies = [\"127.0.0.9\"]\n").start();
    let wrong = server.client().with_key(Some("oxk_0000000000000000000000000000000000000000000"));
    for n in 0..12 {
        let ask = Ask::new("GET", "/api/status")
            .header("x-forwarded-for", format!("203.0.113.{n}"))
            .header("forwarded", format!("for=203.0.113.{n}"))
            .header("x-real-ip", format!("203.0.113.{n}"));
        assert_eq!(wrong.send(ask).await.status, if n < 10 { 401 } else { 429 }, "guess {n}");
    }
    let mut asker = connect(&server, 1).await;
    logged(&server, &mut asker, " 429 GET").await;
    assert!(!server.log().contains("203.0.113"), "{}", server.log());
}

#[tokio::test]
async fn a_trusted_proxy_holds_more_places_than_one_peer() {
    let server = Setup::new().config(PROXY).start();
    let mut places = Vec::new();
    for _ in 0..100 {
        places.push(connect(&server, 9).await);
    }
    for place in &mut places {
        assert_eq!(status(place, "/health", "x-forwarded-for: 203.0.113.5\r\n").await, 200);
    }
}

#[tokio::test]
async fn behind_a_trusted_socket_file_wrong_keys_count_for_the_client_too() {
    let home = std::sync::Arc::new(crate::support::server::TempDir::new());
    let socket = home.path().join("s");
    let server =
        Setup::new().listen(&format!("unix:{}", socket.display())).config("[gateway]\ntrusted_proxies = [\"unix\"]\n").start_in(home);
    let wrong = server.client().with_key(Some("oxk_0000000000000000000000000000000000000000000"));
    for n in 0..12 {
        let ask = Ask::new("GET", "/api/status").header("x-forwarded-for", "203.0.113.5");
        assert_eq!(wrong.send(ask).await.status, if n < 10 { 401 } else { 429 }, "guess {n}");
    }
    wrong.send(Ask::new("GET", "/api/status").header("x-forwarded-for", "203.0.113.6")).await.expect(401);
}
