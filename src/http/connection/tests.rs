//! One connection over a pipe in memory: what it answers, when it closes, who waits for whom.

use std::time::Duration;

use bytes::BufMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, timeout};

use super::*;
use crate::base::cancel::{self, Canceller, Why};
use crate::http::crowd::{Caps, Crowd};
use crate::http::peer::Peer;
use crate::http::ws;

/// Answers `/`, knows whoever asks for `/known`, echoes at `/ws`, speaks without end at `/talk`, takes 5 s for `/wait`, streams without
/// end at `/flood`, reads no body at `/closed`.
struct Stub;

impl Service for Stub {
    fn call(self: Arc<Self>, request: Request, line: Arc<Line>) -> Pin<Box<dyn Future<Output = Response> + Send>> {
        let path = request.uri().path().to_owned();
        Box::pin(async move {
            match &*path {
                "/known" => line.known(),
                "/ws" | "/talk" => {
                    let (mut head, _) = request.into_parts();
                    let (options, on) = (ws::Options { message_bytes_max: 100, ..ws::Options::default() }, head.extensions.remove());
                    let opened = if path == "/ws" {
                        ws::upgrade(&head.headers, on, options, echo)
                    } else {
                        ws::upgrade(&head.headers, on, options, talk)
                    };
                    return opened.unwrap();
                }
                "/closed" => return HttpError::bad_request("closed").closing().into_response(),
                "/wait" => tokio::time::sleep(Duration::from_secs(5)).await,
                "/flood" => {
                    let chunk = || Some((Ok(Bytes::from_static(&[b'x'; 1024])), ()));
                    return Response::new(Body::stream(futures_util::stream::unfold((), move |()| async move { chunk() })));
                }
                _ => {}
            }
            Response::new(Body::full(path))
        })
    }
    fn refuse(&self, _line: &Line, error: HttpError) -> Response {
        let mut response = error.into_response();
        response.headers_mut().insert("x-request-id", HeaderValue::from_static("7"));
        response
    }
}

async fn echo(mut socket: ws::Socket) {
    while let Ok(ws::Message::Text(text)) = socket.recv().await {
        if text.as_str() == "close" {
            return socket.close(ws::Close::GoingAway, "bye").await;
        }
        if socket.send(text).await.is_err() {
            break;
        }
    }
    socket.end().await;
}

/// Always has something to say, and listens first.
async fn talk(mut socket: ws::Socket) {
    loop {
        tokio::select! {
            biased;
            heard = socket.recv() => if heard.is_err() { break },
            () = std::future::ready(()) => if socket.send("words").await.is_err() { break },
        }
    }
    socket.end().await;
}

/// The handshake for a WebSocket at this path.
fn handshake(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// A WebSocket at `/ws`.
async fn open() -> (DuplexStream, Canceller) {
    let (mut client, canceller) = connect();
    client.write_all(handshake("/ws").as_bytes()).await.unwrap();
    let head = hear(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    (client, canceller)
}

/// A WebSocket that has said this (frames as they are) until the server closes, as what it heard.
async fn frames(sent: &[u8]) -> Vec<u8> {
    let (mut client, _canceller) = open().await;
    client.write_all(sent).await.unwrap();
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).await.unwrap();
    heard
}

/// A frame with a mask of zeros, which leaves its payload readable.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

#[tokio::test(start_paused = true)]
async fn a_broken_rule_of_websockets_closes_with_its_code() {
    for (sent, code) in [
        (vec![0x81, 1, b'a'], 1002),                 // no mask
        (frame(0xc1, b"a"), 1002),                   // a reserved bit
        (frame(0x83, b"a"), 1002),                   // a reserved opcode
        (frame(0x09, b"a"), 1002),                   // a control frame in pieces
        (frame(0x80, b"a"), 1002),                   // goes on with nothing
        (frame(0x81, b"\xff"), 1007),                // no UTF-8
        (frame(0x81, &[b'a'; 101]), 1009),           // over the limit
        (frame(0x81, b"close"), 1001),               // our own wish
        (frame(0x88, &1000u16.to_be_bytes()), 1000), // the peer's
    ] {
        let heard = frames(&sent).await;
        let close = &heard[heard.iter().position(|b| *b == 0x88).unwrap()..];
        assert_eq!(u16::from_be_bytes([close[2], close[3]]), code, "{sent:?}: {heard:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn messages_are_echoed_and_pings_answered() {
    let sent = [frame(0x01, b"he"), frame(0x89, b"p"), frame(0x80, b"y"), frame(0x88, &[])].concat();
    assert_eq!(frames(&sent).await, b"\x8a\x01p\x81\x03hey\x88\x00");
}

#[tokio::test(start_paused = true)]
async fn a_websocket_without_a_sign_of_life_is_dropped() {
    let started = Instant::now();
    // One ping after 30 s, and the end when it is unanswered 30 s later.
    assert_eq!(frames(b"").await, b"\x89\x00");
    assert_eq!(started.elapsed().as_secs(), 60);
}

/// One client sent pings and read nothing: each pong waited in memory.
#[tokio::test(start_paused = true)]
async fn who_takes_no_pongs_is_not_read_from_and_then_dropped() {
    let (mut client, _canceller) = open().await;
    let started = Instant::now();
    let mut taken = 0;
    while taken < 10_000 && client.write_all(&frame(0x89, &[b'p'; 90])).await.is_ok() {
        taken += 1;
    }
    assert!(taken < 500, "{taken} pings were taken");
    assert_eq!(started.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_close_code_is_said_whole_though_there_is_more_to_say() {
    let (mut client, _canceller) = connect_with_room_for(16);
    client.write_all(handshake("/talk").as_bytes()).await.unwrap();
    let (mut from, mut to) = tokio::io::split(client);
    tokio::spawn(async move {
        to.write_all(&[0x81, 1, b'a']).await.unwrap();
        std::future::pending::<()>().await;
    });
    let mut heard = Vec::new();
    from.read_to_end(&mut heard).await.unwrap();
    assert!(heard.ends_with(b"\x88\x10\x03\xeaprotocol error"), "{:?}", String::from_utf8_lossy(&heard));
}

#[tokio::test(start_paused = true)]
async fn a_close_of_the_peer_is_answered_though_there_is_more_to_say() {
    let (mut client, _canceller) = connect_with_room_for(16);
    client.write_all(handshake("/talk").as_bytes()).await.unwrap();
    client.write_all(&frame(0x88, &1000u16.to_be_bytes())).await.unwrap();
    let mut heard = Vec::new();
    // Slowly, so that the answer has to wait for room.
    while client.read_buf(&mut (&mut heard).limit(1)).await.unwrap() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(heard.ends_with(b"\x88\x02\x03\xe8"), "{:?}", String::from_utf8_lossy(&heard));
}

#[tokio::test(start_paused = true)]
async fn a_long_frame_on_a_slow_line_is_a_sign_of_life() {
    let (mut client, _canceller) = open().await;
    for byte in frame(0x81, &[b'a'; 50]) {
        tokio::time::sleep(Duration::from_secs(10)).await;
        client.write_all(&[byte]).await.unwrap();
    }
    let said = hear(&mut client).await;
    assert!(said.ends_with(&"a".repeat(50)), "{said}");
}

#[tokio::test(start_paused = true)]
async fn closing_is_in_stages_also_where_another_protocol_was_asked_for() {
    for upgrade in ["", "connection: upgrade\r\nupgrade: h2c\r\n", "connection: upgrade\r\nupgrade: websocket\r\n"] {
        for last in ["POST /closed HTTP/1.1\r\nhost: a\r\ncontent-length: 60000\r\n\r\n", "nonsense\r\n\r\n"] {
            let (mut client, _canceller) = connect();
            // The first request of Java's client asks, later ones do not.
            client.write_all(format!("GET /a HTTP/1.1\r\nhost: a\r\n{upgrade}\r\n").as_bytes()).await.unwrap();
            assert!(hear(&mut client).await.ends_with("/a"));
            client.write_all(last.as_bytes()).await.unwrap();
            let mut said = String::new();
            client.read_to_string(&mut said).await.unwrap();
            assert!(said.starts_with("HTTP/1.1 400 "), "{said}");
            closes_in_stages(&mut client, &format!("{upgrade:?} {last:?}")).await;
        }
    }
}

/// What is sent after the server's last word is taken in for a second.
async fn closes_in_stages(client: &mut DuplexStream, what: &str) {
    let started = Instant::now();
    client.write_all(&[b'x'; 40_000]).await.unwrap_or_else(|error| panic!("{what}: the rest is not taken in: {error}"));
    while client.write_all(b"x").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(started.elapsed().as_secs(), 1, "but not for ever");
}

/// Nothing has to be waited for once it drains.
fn at_once(stop: Cancel) -> Stop {
    Stop { draining: stop.clone(), drained: stop }
}

/// A connection, what makes it drain, and what says that all is drained.
fn connect_to_drain() -> (DuplexStream, Canceller, Canceller) {
    let (ours, theirs) = duplex(8 * 1024);
    let crowd = Crowd::new(Caps { all: 9, strangers: 9, strangers_per_peer: 9 });
    let ((drain, draining), (end, drained)) = (cancel::pair(), cancel::pair());
    tokio::spawn(run(Socket::Memory(theirs), Line::new(Peer::Unix, crowd.admit(None)), Arc::new(Stub), Stop { draining, drained }));
    (ours, drain, end)
}

fn connect() -> (DuplexStream, Canceller) {
    connect_with_room_for(8 * 1024)
}

/// A connection whose peer has room for so many bytes that it has not read yet.
fn connect_with_room_for(bytes: usize) -> (DuplexStream, Canceller) {
    let (ours, theirs) = duplex(bytes);
    let crowd = Crowd::new(Caps { all: 9, strangers: 9, strangers_per_peer: 9 });
    let (canceller, stop) = cancel::pair();
    tokio::spawn(run(Socket::Memory(theirs), Line::new(Peer::Unix, crowd.admit(None)), Arc::new(Stub), at_once(stop)));
    (ours, canceller)
}

/// What the server says to these bytes until it closes.
async fn say(bytes: impl AsRef<[u8]>) -> String {
    say_to(connect(), bytes).await
}

async fn say_to((client, _canceller): (DuplexStream, Canceller), bytes: impl AsRef<[u8]>) -> String {
    let (mut from, mut to) = tokio::io::split(client);
    let bytes = bytes.as_ref().to_vec();
    tokio::spawn(async move {
        let _ = to.write_all(&bytes).await;
        // Keeps its side open.
        std::future::pending::<()>().await;
    });
    let mut said = String::new();
    from.read_to_string(&mut said).await.unwrap();
    said
}

/// Reads what is there until nothing comes for a moment.
async fn hear(client: &mut DuplexStream) -> String {
    let (mut said, mut buf) = (Vec::new(), [0; 4096]);
    while let Ok(Ok(n)) = timeout(Duration::from_millis(1), client.read(&mut buf)).await {
        if n == 0 {
            break;
        }
        said.extend_from_slice(&buf[..n]);
    }
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test(start_paused = true)]
async fn what_is_no_request_is_refused_with_our_own_answer() {
    let long = |name: &str, n: usize| format!("{name}{}", "a".repeat(n));
    for (bytes, status) in [
        ("nonsense\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nhost: a\r\n folded: b\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nhost : a\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/9.9\r\n\r\n".to_owned(), 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n".to_owned(), 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n".to_owned(), 400),
        ("GET /\u{ff}\u{0}x HTTP/1.1\r\n\r\n".to_owned(), 400),
        (long("GET / HTTP/1.1\r\nx: ", 20_000), 431),
        (format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(101)), 431),
        (long("GET /", 20_000), 414),
    ] {
        let said = say(&bytes).await;
        let head = bytes.chars().take(40).collect::<String>();
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{head:?}: {said}");
        assert!(said.contains("\r\nx-request-id: 7\r\n") && said.contains("\r\nconnection: close\r\n"), "{said}");
        assert!(said.contains("\r\n\r\n{\"error\":\""), "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn slow_headers_are_cut_off_with_408() {
    let started = Instant::now();
    let said = say("GET / HTTP/1.1\r\nhost:").await;
    assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
    assert_eq!(started.elapsed().as_secs(), 10);
}

/// Found by the fuzzer: a refusal behind a long answer came by half.
#[tokio::test(start_paused = true)]
async fn a_refusal_comes_whole_or_not_at_all_however_little_room_there_is() {
    for bytes in [
        "nonsense\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: a\r\n\r\nnonsense\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\nnonsense\r\n\r\n",
        "GET / HTTP/1.1\r\nhost:",
    ] {
        let said = say_to(connect_with_room_for(7), bytes).await;
        assert!(said.contains("\r\nconnection: close\r\n") && said.ends_with('}'), "{said}");
    }
    // Whoever does not take it is not waited for without end.
    let (mut client, _canceller) = connect_with_room_for(16);
    client.write_all(b"nonsense\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_secs(31)).await;
    let mut said = Vec::new();
    client.read_to_end(&mut said).await.unwrap();
    assert!(said.len() <= 16);
}

#[tokio::test(start_paused = true)]
async fn bytes_that_trickle_do_not_move_the_deadline() {
    let (mut client, _canceller) = connect();
    let started = Instant::now();
    client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let mut said = String::new();
    while said.is_empty() && client.write_all(b"a: b\r\n").await.is_ok() {
        tokio::time::sleep(Duration::from_secs(1)).await;
        said = hear(&mut client).await;
    }
    assert!(said.starts_with("HTTP/1.1 408 ") && started.elapsed().as_secs() <= 11, "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_closed_without_a_word() {
    let started = Instant::now();
    assert_eq!(say("").await, "");
    assert_eq!(started.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_has_75_seconds_and_a_new_head_10() {
    let (mut client, _canceller) = connect();
    for _ in 0..3 {
        client.write_all(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        assert!(hear(&mut client).await.ends_with("/a"));
        tokio::time::sleep(Duration::from_secs(74)).await;
    }
    let started = Instant::now();
    client.write_all(b"GET ").await.unwrap();
    let mut said = String::new();
    client.read_to_string(&mut said).await.unwrap();
    assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
    assert_eq!(started.elapsed().as_secs(), 10);
    // And without a word after 75 s of nothing.
    let (mut client, _canceller) = connect();
    client.write_all(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    hear(&mut client).await;
    let started = Instant::now();
    assert_eq!(client.read(&mut [0; 9]).await.unwrap(), 0);
    assert!((74..=75).contains(&started.elapsed().as_secs()));
}

/// A revoked key's connections stayed known as long as they asked for what needs no key.
#[tokio::test(start_paused = true)]
async fn whoever_is_known_shows_it_now_and_then_or_goes_after_an_answer() {
    let ask = async |client: &mut DuplexStream, path: &str| {
        client.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await.unwrap();
        let said = hear(client).await;
        tokio::time::sleep(Duration::from_secs(50)).await;
        assert!(said.contains(path), "{said}");
        said.contains("connection: close")
    };
    let (mut client, _canceller) = connect();
    for path in ["/a", "/a", "/a", "/known", "/a", "/known", "/a"] {
        assert!(!ask(&mut client, path).await, "{path}");
    }
    assert!(ask(&mut client, "/a").await, "100 s after it was known");
    assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
    let (mut client, _canceller) = connect();
    for path in ["/known", "/a", "/known"] {
        assert!(!ask(&mut client, path).await, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_later_request_that_is_none_is_refused_in_our_words_too() {
    let (mut client, _canceller) = connect();
    client.write_all(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert!(hear(&mut client).await.ends_with("/a"));
    client.write_all(b"nonsense\r\n\r\n").await.unwrap();
    let said = hear(&mut client).await;
    assert!(said.starts_with("HTTP/1.1 400 ") && said.contains("x-request-id: 7"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn pipelined_requests_are_answered_in_their_order() {
    let (mut client, _canceller) = connect();
    client
        .write_all(b"GET /1 HTTP/1.1\r\nhost: a\r\n\r\nGET /2 HTTP/1.1\r\nhost: a\r\n\r\nGET /3 HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    let said = hear(&mut client).await;
    let places: Vec<_> = ["/1", "/2", "/3"].iter().map(|path| said.find(path).unwrap()).collect();
    assert!(places.is_sorted() && said.matches("200 OK").count() == 3, "{said}");
}

/// Seconds that these many requests take, sent in one go, after a first one, while so many of eight places are taken.
async fn seconds(taken: usize, first: &str, count: usize) -> f32 {
    let (client, theirs) = duplex(64 * 1024);
    let crowd = Crowd::new(Caps { all: 9, strangers: 8, strangers_per_peer: 9 });
    let _others: Vec<_> = (1..taken).map(|_| crowd.admit(None)).collect();
    let turnstile = crowd.turnstile().clone();
    tokio::spawn(async move { turnstile.turn().await });
    let (_canceller, stop) = cancel::pair();
    tokio::spawn(run(Socket::Memory(theirs), Line::new(Peer::Unix, crowd.admit(None)), Arc::new(Stub), at_once(stop)));
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
    let begun = Instant::now();
    let all = request(first) + &request("/a").repeat(count) + "GET /b HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let (mut from, mut to) = tokio::io::split(client);
    to.write_all(all.as_bytes()).await.unwrap();
    let mut said = String::new();
    from.read_to_string(&mut said).await.unwrap();
    assert_eq!(said.matches("200 OK").count(), count + 2);
    begun.elapsed().as_secs_f32()
}

#[tokio::test(start_paused = true)]
async fn in_a_crowd_a_stranger_has_16_requests_at_once_and_ten_a_second() {
    assert_eq!(seconds(3, "/a", 14).await, 0.0);
    assert!((1.9..2.1).contains(&seconds(3, "/a", 34).await));
    assert_eq!(seconds(2, "/a", 34).await, 0.0, "no crowd");
    assert_eq!(seconds(3, "/known", 34).await, 0.0, "no stranger");
}

#[tokio::test]
async fn between_two_requests_of_a_stranger_in_one_go_others_have_their_turn() {
    let (mut client, theirs) = duplex(8 * 1024);
    let crowd = Crowd::new(Caps { all: 9, strangers: 9, strangers_per_peer: 9 });
    let (_canceller, stop) = cancel::pair();
    let mut task = Box::pin(run(Socket::Memory(theirs), Line::new(Peer::Unix, crowd.admit(None)), Arc::new(Stub), at_once(stop)));
    client.write_all(&b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n".repeat(20)).await.unwrap();
    let mut said = Vec::new();
    for turns in 1..=20 {
        assert!(futures_util::future::poll_immediate(&mut task).await.is_none());
        let _ = futures_util::future::poll_immediate(Box::pin(client.read_buf(&mut said))).await;
        assert!(String::from_utf8_lossy(&said).matches("200 OK").count() <= turns, "after {turns}");
    }
}

#[tokio::test]
async fn what_a_refused_client_goes_on_sending_is_taken_in_by_parts() {
    const PIPE: usize = 256 * 1024;
    let (mut client, theirs) = duplex(PIPE);
    let crowd = Crowd::new(Caps { all: 9, strangers: 9, strangers_per_peer: 9 });
    let (_canceller, stop) = cancel::pair();
    let mut task = Box::pin(run(Socket::Memory(theirs), Line::new(Peer::Unix, crowd.admit(None)), Arc::new(Stub), at_once(stop)));
    client.write_all(&b"nonsense\r\n\r\n".repeat(PIPE / 12)).await.unwrap();
    let mut taken = Vec::new();
    while futures_util::future::poll_immediate(&mut task).await.is_none() {
        // What fits in again was taken out.
        taken.push(futures_util::future::poll_immediate(Box::pin(client.write(&[0; PIPE]))).await.map_or(0, |sent| sent.unwrap_or(0)));
    }
    // A head and a part.
    assert!(taken.len() >= 3 && taken.iter().all(|bytes| *bytes <= 80 * 1024), "{taken:?}");
}

#[tokio::test(start_paused = true)]
async fn conflicting_framing_ends_the_connection_after_the_answer() {
    let said = say(
        "POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /b HTTP/1.1\r\nhost: a\r\n\r\n",
    )
    .await;
    assert!(said.contains("connection: close") && said.ends_with("/a"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_is_cut_off() {
    let (mut client, _canceller) = connect();
    client.write_all(b"GET /flood HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_secs(31)).await;
    let mut said = Vec::new();
    client.read_to_end(&mut said).await.unwrap();
    assert!(said.len() <= 8 * 1024);
}

const TWO_REQUESTS: &str = "GET /a HTTP/1.1\r\nhost: a\r\n\r\nGET /b HTTP/1.1\r\nhost: a\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn a_connection_that_begins_while_it_drains_has_one_request() {
    let (client, drain, _end) = connect_to_drain();
    drain.cancel(Why::Shutdown);
    let said = say_to((client, drain), TWO_REQUESTS).await;
    assert!(said.contains("connection: close") && said.ends_with("/a"), "{said}");
}

/// Requests that came behind the last one reset its answer away.
#[tokio::test(start_paused = true)]
async fn the_last_answer_of_a_drain_is_not_lost_to_what_is_sent_behind_it() {
    let (mut client, drain, _end) = connect_to_drain();
    drain.cancel(Why::Shutdown);
    client.write_all(TWO_REQUESTS.as_bytes()).await.unwrap();
    let mut said = String::new();
    client.read_to_string(&mut said).await.unwrap();
    assert!(said.contains("connection: close") && said.ends_with("/a"), "{said}");
    closes_in_stages(&mut client, "drained").await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_on_its_way_when_it_began_to_drain_is_answered() {
    for there in [0, 1, 20] {
        let (mut client, drain, _end) = connect_to_drain();
        let (before, after) = TWO_REQUESTS.split_at(there);
        client.write_all(before.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        drain.cancel(Why::Shutdown);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let said = say_to((client, drain), after).await;
        assert!(said.contains("connection: close") && said.ends_with("/a"), "{there}: {said}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_waits_for_a_request_that_does_not_come_or_between_two() {
    let begun = Instant::now();
    let (mut client, drain, end) = connect_to_drain();
    tokio::time::sleep(Duration::from_secs(1)).await;
    drain.cancel(Why::Shutdown);
    tokio::time::sleep(Duration::from_secs(1)).await;
    end.cancel(Why::Shutdown);
    let mut said = String::new();
    client.read_to_string(&mut said).await.unwrap();
    assert_eq!((&*said, begun.elapsed().as_secs()), ("", 2));

    let (mut client, drain, _end) = connect_to_drain();
    client.write_all(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert!(hear(&mut client).await.ends_with("/a"));
    let begun = Instant::now();
    drain.cancel(Why::Shutdown);
    client.read_to_string(&mut said).await.unwrap();
    assert_eq!((&*said, begun.elapsed()), ("", Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_the_answer_that_is_due() {
    let (mut client, canceller) = connect();
    client.write_all(b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    canceller.cancel(Why::Shutdown);
    let mut said = String::new();
    client.read_to_string(&mut said).await.unwrap();
    assert!(said.contains("200 OK") && said.ends_with("/wait"), "{said}");
}
