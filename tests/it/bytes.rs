//! Literal bytes that strangers and confused clients send (THREATS 2, 3, 10 to 18).

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;

use crate::support::client::{Ask, PATIENCE};
use crate::support::raw::{connect, hear, say};
use crate::support::server::Setup;
use crate::support::ws::{Ws, handshake};

/// Each is answered with one refusal (or none) and the end of the connection: nothing that follows is taken for a request.
#[tokio::test]
async fn ambiguous_framing_is_refused_and_closes_the_connection() {
    let server = Setup::new().start();
    let auth = "host: $HOST\r\nauthorization: Bearer $KEY\r\ncontent-type: application/json\r\n";
    let next = "GET /health?smuggled HTTP/1.1\r\nhost: $HOST\r\n\r\n";
    for (what, head, body) in [
        ("two lengths", "content-length: 5\r\ncontent-length: 6\r\n", "hello"),
        ("a list of unequal lengths", "content-length: 5, 6\r\n", "hello"),
        ("a signed length", "content-length: +5\r\n", "hello"),
        ("a negative length", "content-length: -1\r\n", "hello"),
        ("a hexadecimal length", "content-length: 0x5\r\n", "hello"),
        ("an empty length", "content-length: \r\n", "hello"),
        ("a length beyond all numbers", "content-length: 99999999999999999999999\r\n", "hello"),
        ("an unknown coding", "transfer-encoding: xchunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("chunked not last", "transfer-encoding: chunked, identity\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("chunked twice", "transfer-encoding: chunked, chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("chunked twice, in two fields", "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("another coding below chunked", "transfer-encoding: gzip, chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("a coding without a name", "transfer-encoding: ,chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("a space before the colon", "transfer-encoding : chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("a folded header", "x-fold: a\r\n b\r\ncontent-length: 5\r\n", "hello"),
        ("a NUL in a header", "x-nul: a\0b\r\ncontent-length: 5\r\n", "hello"),
        ("a bare CR in a header", "x-cr: a\rb\r\ncontent-length: 5\r\n", "hello"),
        ("a header without a colon", "nonsense\r\ncontent-length: 5\r\n", "hello"),
        ("a chunk size with 0x", "transfer-encoding: chunked\r\n", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("a negative chunk size", "transfer-encoding: chunked\r\n", "-5\r\nhello\r\n0\r\n\r\n"),
        ("a chunk size beyond all numbers", "transfer-encoding: chunked\r\n", "fffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
        ("a chunk longer than it says", "transfer-encoding: chunked\r\n", "3\r\nhello\r\n0\r\n\r\n"),
        ("a bare LF behind the last chunk", "transfer-encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\n"),
        ("a trailer", "transfer-encoding: chunked\r\n", "5\r\nhello\r\n0\r\nx: y\r\n\r\n"),
        ("a bare LF behind a trailer", "transfer-encoding: chunked\r\n", "5\r\nhello\r\n0\r\nx: y\n\r\n"),
    ] {
        let bytes = format!("POST /api/chat HTTP/1.1\r\n{auth}{head}\r\n{body}{next}");
        let said = say(&server, bytes.as_bytes()).await;
        assert!(said.closed, "{what}: the connection closes; {said:?}");
        assert!(said.statuses.len() <= 1, "{what}: one answer at most: {said:?}");
        assert!(said.statuses.iter().all(|s| (400..=501).contains(s)), "{what}: refused: {said:?}");
        assert!(!said.text.contains(r#""status":"ok""#), "{what}: the smuggled request was answered: {said:?}");
    }
}

/// RFC 9112 §6.1 lets chunked win over a length; then nothing more is read from the connection.
#[tokio::test]
async fn both_framings_at_once_never_leave_a_second_request() {
    let server = Setup::new().start();
    let smuggled = "GET /health?smuggled HTTP/1.1\r\nhost: $HOST\r\n\r\n";
    let bytes = format!(
        "POST /api/chat HTTP/1.1\r\nhost: $HOST\r\nauthorization: Bearer $KEY\r\ncontent-type: application/json\r\n\
         content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"
    );
    let said = say(&server, bytes.as_bytes()).await;
    assert!(said.closed && said.statuses.len() <= 1 && !said.text.contains(r#""status":"ok""#), "{said:?}");
}

/// The gate's own rows of THREATS 14: a bare hyper answers 200 to them.
#[tokio::test]
async fn a_request_without_one_clear_target_and_host_is_400() {
    let server = Setup::new().start();
    for (what, bytes) in [
        ("no Host", "GET /health HTTP/1.1\r\n\r\n".to_owned()),
        ("an empty Host", "GET /health HTTP/1.1\r\nhost: \r\n\r\n".to_owned()),
        ("two Hosts", "GET /health HTTP/1.1\r\nhost: $HOST\r\nhost: $HOST\r\n\r\n".to_owned()),
        ("a list of Hosts", "GET /health HTTP/1.1\r\nhost: $HOST,$HOST\r\n\r\n".to_owned()),
        ("a user in Host", "GET /health HTTP/1.1\r\nhost: user@$HOST\r\n\r\n".to_owned()),
        ("a path in Host", "GET /health HTTP/1.1\r\nhost: $HOST/x\r\n\r\n".to_owned()),
        ("a space in Host", "GET /health HTTP/1.1\r\nhost: 127.0.0.1 evil\r\n\r\n".to_owned()),
        ("a port that is no number", "GET /health HTTP/1.1\r\nhost: 127.0.0.1:80a\r\n\r\n".to_owned()),
        ("asterisk form with GET", "GET * HTTP/1.1\r\nhost: $HOST\r\n\r\n".to_owned()),
        ("absolute form with another host", "GET http://evil.example/health HTTP/1.1\r\nhost: $HOST\r\n\r\n".to_owned()),
        ("raw bytes above ASCII", "GET /h\u{e9}alth HTTP/1.1\r\nhost: $HOST\r\n\r\n".to_owned()),
        ("no version", "GET /health\r\nhost: $HOST\r\n\r\n".to_owned()),
        ("HTTP/2's preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
    ] {
        let said = say(&server, bytes.as_bytes()).await;
        assert!(said.closed, "{what}: the connection closes: {said:?}");
        assert!(matches!(said.statuses[..], [400] | [] | [505]), "{what}: 400: {said:?}");
    }
    let said = say(&server, b"CONNECT evil.example:443 HTTP/1.1\r\nhost: evil.example:443\r\n\r\n").await;
    assert!(said.closed && matches!(said.statuses[..], [400] | [405] | [421] | [501]), "CONNECT: {said:?}");
    // Overlong UTF-8 and an encoded NUL are no names of anything.
    let client = server.client();
    for target in ["/api/%c0%ae%c0%ae/x", "/api/sessions/%00", "/api/sessions/%ff", "/api/sessions/%zz", "/api/sessions/%"] {
        let status = client.get(target).await.status;
        assert!(matches!(status, 400 | 404), "{target}: {status}");
    }
}

#[tokio::test]
async fn heads_over_the_limits_are_431_and_414() {
    let server = Setup::new().start();
    let long = |n: usize| "a".repeat(n);
    let many: String = (0..70).map(|n| format!("x-{n}: 1\r\n")).collect();
    for (what, expected, bytes) in [
        ("one field of 20 KiB", 431, format!("GET /health HTTP/1.1\r\nhost: $HOST\r\nx: {}\r\n\r\n", long(20 * 1024))),
        ("70 fields", 431, format!("GET /health HTTP/1.1\r\nhost: $HOST\r\n{many}\r\n")),
        ("a target of 10 KiB", 414, format!("GET /{} HTTP/1.1\r\nhost: $HOST\r\n\r\n", long(10 * 1024))),
    ] {
        let said = say(&server, bytes.as_bytes()).await;
        assert!(said.closed, "{what}: closes: {said:?}");
        assert_eq!(said.statuses, [expected], "{what}: {said:?}");
    }
    for bytes in [8 * 1024, 16 * 1024 - 200] {
        let head = format!("GET /health HTTP/1.1\r\nhost: $HOST\r\nconnection: close\r\nx: {}\r\n\r\n", long(bytes));
        assert_eq!(say(&server, head.as_bytes()).await.statuses, [200], "{bytes} bytes of headers pass");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = Setup::new().start();
    let said = say(
        &server,
        b"GET /health HTTP/1.1\r\nhost: $HOST\r\n\r\nGET /api/nothing HTTP/1.1\r\nhost: $HOST\r\n\r\nGET /health HTTP/1.1\r\nhost: $HOST\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert_eq!(said.statuses, [200, 401, 200], "{said:?}");
}

#[tokio::test]
async fn slow_headers_are_cut_off() {
    let server = Setup::new().start();
    let mut socket = connect(&server).await;
    socket.write_all(b"GET /health HTTP/1.1\r\nhost: ").await.unwrap();
    let started = std::time::Instant::now();
    let said = hear(&mut socket).await;
    assert!(said.closed, "{said:?}");
    assert!(matches!(said.statuses[..], [408] | []), "{said:?}");
    assert!(started.elapsed().as_secs() < 25, "the header has 10 seconds, not {:?}", started.elapsed());
}

#[tokio::test]
async fn a_body_that_does_not_come_is_cut_off() {
    let server = Setup::new().start();
    let mut socket = connect(&server).await;
    let head = format!(
        "POST /api/chat HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{",
        server.address.host(),
        server.key()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let said = hear(&mut socket).await;
    assert!(said.closed, "{said:?}");
    assert!(matches!(said.statuses[..], [408] | []), "{said:?}");
}

/// THREATS 12: the refusal comes before the body, and nothing waits for it.
#[tokio::test]
async fn a_stranger_is_refused_before_the_body_is_read() {
    let server = Setup::new().start();
    let mut socket = connect(&server).await;
    let head = format!(
        "POST /api/chat HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: 500000\r\nexpect: 100-continue\r\n\r\n",
        server.address.host()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut buffer = [0; 4096];
    let read = tokio::time::timeout(PATIENCE, socket.read(&mut buffer)).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
    assert!(text.starts_with("HTTP/1.1 401"), "not even 100 Continue: {text}");
}

/// THREATS 13: silent strangers cannot keep others out; the oldest goes first.
#[tokio::test]
async fn silent_strangers_make_room_for_those_who_speak() {
    let server = Setup::new().start();
    let mut idle = Vec::new();
    for _ in 0..80 {
        idle.push(connect(&server).await);
    }
    server.client().get("/api/status").await.expect(200);
    let oldest = &mut idle[0];
    let mut byte = [0; 1];
    let end = tokio::time::timeout(PATIENCE, oldest.read(&mut byte)).await.expect("the oldest stranger is shown out");
    assert!(matches!(end, Ok(0) | Err(_)));
}

/// THREATS 2: DNS rebinding, on every transport, before everything else.
#[tokio::test]
async fn a_foreign_host_is_421_on_every_transport() {
    let server = Setup::new().start();
    let client = server.client();
    for host in ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "10.0.0.1", "localhost.evil.example", "[::2]"] {
        for target in ["/health", "/api/status", "/api/chat", "/api/events", "/nothing"] {
            client.send(Ask::new("GET", target).header("host", host)).await.expect(421);
            client.send(Ask::new("GET", target).header("host", host).stranger()).await.expect(421);
        }
        let refused = Ws::open(&client, handshake("/api/chat/stream").header("host", host)).await.err().expect("refused");
        assert_eq!(refused.status, 421, "{host}");
    }
    let port = server.address.host().rsplit(':').next().unwrap().to_owned();
    for host in ["localhost", "127.0.0.1", "[::1]", &format!("localhost:{port}"), &format!("LOCALHOST:{port}")] {
        client.send(Ask::new("GET", "/api/status").header("host", host)).await.expect(200);
    }
}

/// THREATS 1 and 3.
#[tokio::test]
async fn a_foreign_origin_is_403_on_upgrades_and_on_changes() {
    let server = Setup::new().start();
    let client = server.client();
    let own = format!("http://{}", server.address.host());
    for origin in ["http://evil.example", "null", "https://127.0.0.1", "http://localhost.evil.example", "file://", "garbage"] {
        let answer = client.send(Ask::new("POST", "/api/chat").header("origin", origin).json(&json!({"content": "hello"}))).await;
        assert_eq!(answer.status, 403, "{origin}: {}", answer.text());
        let refused = Ws::open(&client, handshake("/api/chat/stream").header("origin", origin)).await.err().expect("refused");
        assert_eq!(refused.status, 403, "{origin}");
        client.send(Ask::new("POST", "/api/sessions/prune").header("origin", origin)).await.expect(403);
    }
    client.send(Ask::new("POST", "/api/chat").header("origin", &own).json(&json!({"content": "hello"}))).await.expect(200);
    let _socket = Ws::open(&client, handshake("/api/chat/stream").header("origin", &own))
        .await
        .unwrap_or_else(|refused| panic!("our own page may: {}", refused.status));
    let listed = Setup::new().env("OXIOS_SECURITY__CORS_ORIGINS", "https://app.example").start();
    let ask = Ask::new("POST", "/api/chat").header("origin", "https://app.example").json(&json!({"content": "hello"}));
    let answer = listed.client().send(ask).await.expect(200);
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"));
    let answer = listed.client().send(Ask::new("GET", "/api/status").header("origin", "https://other.example")).await;
    assert_ne!(answer.header("access-control-allow-origin"), Some("*"));
    assert_ne!(answer.header("access-control-allow-origin"), Some("https://other.example"));
}

/// THREATS 10 and 11: API, "Order of refusals".
#[tokio::test]
async fn wrong_keys_are_limited_and_a_right_one_always_passes() {
    let server = Setup::new().start();
    let wrong = server.stranger().with_key(Some("oxk_0000000000000000000000000000000000000000000000"));
    for n in 1..=10 {
        assert_eq!(wrong.get("/api/status").await.status, 401, "wrong key number {n}");
    }
    let limited = wrong.get("/api/status").await.expect(429);
    assert!(limited.header("retry-after").is_some(), "{:?}", limited.headers);
    assert!(limited.body.is_empty());
    server.client().get("/api/status").await.expect(200);
    // A missing key is 401 and does not count.
    for _ in 0..15 {
        server.stranger().get("/api/status").await.expect(401);
    }
}

#[tokio::test]
async fn other_credential_headers_and_forms_are_not_looked_at() {
    let server = Setup::new().start();
    let stranger = server.stranger();
    let key = server.key().to_owned();
    for (name, value) in [
        ("x-api-key", key.clone()),
        ("authorization", format!("Basic {key}")),
        ("authorization", key.clone()),
        ("proxy-authorization", format!("Bearer {key}")),
        ("x-forwarded-user", "admin".to_owned()),
        ("x-scopes", "admin".to_owned()),
    ] {
        let answer = stranger.send(Ask::new("GET", "/api/status").header(name, value)).await;
        assert_eq!(answer.status, 401, "{name}");
    }
    stranger.get(&format!("/api/status?token={key}")).await.expect(401);
    stranger.get(&format!("/api/status?ticket={key}")).await.expect(401);
    // The scheme's name has no case (RFC 9110 §11.1).
    stranger.send(Ask::new("GET", "/api/status").header("authorization", format!("bearer {key}"))).await.expect(200);
    // Two credentials at once are none.
    let two = Ask::new("GET", "/api/status").header("authorization", format!("Bearer {key}")).header("authorization", "Bearer x");
    let status = stranger.send(two).await.status;
    assert!(matches!(status, 400 | 401), "{status}");
}

#[tokio::test]
async fn the_rate_of_a_key_is_limited_and_says_when_to_come_back() {
    let server = Setup::new().env("OXIOS_SECURITY__RATE_LIMIT_PER_MINUTE", "5").start();
    let client = server.client();
    let mut refused = None;
    for _ in 0..20 {
        let answer = client.get("/api/status").await;
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
        answer.expect(200);
    }
    let refused = refused.expect("20 requests are more than 5 a minute");
    assert!(refused.body.is_empty());
    for name in ["retry-after", "ratelimit", "ratelimit-policy"] {
        assert!(refused.header(name).is_some(), "{name} in {:?}", refused.headers);
    }
    // Nobody's requests use up another's budget (THREATS 11), and health is free.
    server.stranger().get("/health").await.expect(200);
    server.stranger().get("/api/status").await.expect(401);
}

/// THREATS 16 and API A1.
#[tokio::test]
async fn json_of_every_bad_kind_gets_the_documented_status() {
    let server = Setup::new().start();
    let client = server.client();
    let deep = format!("{}1{}", r#"{"a":"#.repeat(100), "}".repeat(100));
    let arrays = "[".repeat(50_000);
    for (what, expected, body) in [
        ("no JSON", 400, b"{".to_vec()),
        ("nothing", 400, Vec::new()),
        ("two values", 400, b"{} {}".to_vec()),
        ("too deep", 400, format!(r#"{{"content":"a","x":{deep}}}"#).into_bytes()),
        ("too many values", 400, format!(r#"{{"content":"a","x":[{}]}}"#, vec!["0"; 66_000].join(",")).into_bytes()),
        ("50,000 open arrays", 400, arrays.into_bytes()),
        ("bad UTF-8", 400, b"{\"content\":\"\xff\xfe\"}".to_vec()),
        ("overlong UTF-8", 400, b"{\"content\":\"\xc0\x80\"}".to_vec()),
        ("bad UTF-8 in a field that is ignored", 400, b"{\"content\":\"a\",\"unknown\":\"\xff\"}".to_vec()),
        ("a lone surrogate", 400, br#"{"content":"\ud800"}"#.to_vec()),
        ("an array", 422, b"[]".to_vec()),
        ("a text", 422, br#""hello""#.to_vec()),
        ("no content", 422, b"{}".to_vec()),
        ("content of another type", 422, br#"{"content":1}"#.to_vec()),
        ("content null", 422, br#"{"content":null}"#.to_vec()),
        ("content and message", 422, br#"{"content":"a","message":"b"}"#.to_vec()),
        ("content twice", 422, br#"{"content":"a","content":"b"}"#.to_vec()),
        ("empty content", 400, br#"{"content":""}"#.to_vec()),
        ("blank content", 400, br#"{"content":" \n\t "}"#.to_vec()),
        ("content over 64 KiB", 413, json!({"content": "a".repeat(64 * 1024 + 1)}).to_string().into_bytes()),
        ("a session that is no id", 400, br#"{"content":"a","session_id":"../../etc/passwd"}"#.to_vec()),
        ("an id in upper case", 400, br#"{"content":"a","session_id":"67E55044-10B1-426F-9247-BB680E5FE0C8"}"#.to_vec()),
        ("a huge number", 422, br#"{"content":1e999}"#.to_vec()),
    ] {
        let answer = client.send(Ask::new("POST", "/api/chat").header("content-type", "application/json").body(body)).await;
        // A number that no JSON number type holds is not JSON for some parsers; both words are fine.
        let good = answer.status == expected || (what == "a huge number" && answer.status == 400);
        assert!(good, "{what}: expected {expected}, got {}: {}", answer.status, answer.text());
        answer.error();
    }
    for media in ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""] {
        let ask = Ask::new("POST", "/api/chat").header("content-type", media).body(br#"{"content":"hello"}"#.to_vec());
        client.send(ask).await.expect(415);
    }
    client.send(Ask::new("POST", "/api/chat").body(br#"{"content":"hello"}"#.to_vec())).await.expect(415);
    for media in ["application/json; charset=utf-8", "Application/JSON"] {
        let ask = Ask::new("POST", "/api/chat").header("content-type", media).body(br#"{"content":"hello","unknown":[1]}"#.to_vec());
        client.send(ask).await.expect(200);
    }
    // Exactly the limit passes, escaped to six times its size; so does a NUL.
    let full = format!(r#"{{"content":"{}"}}"#, "\\u0061".repeat(64 * 1024));
    client.send(Ask::new("POST", "/api/chat").header("content-type", "application/json").body(full.into_bytes())).await.expect(200);
    client
        .send(Ask::new("POST", "/api/chat").header("content-type", "application/json").body(br#"{"content":"a\u0000b"}"#.to_vec()))
        .await
        .expect(200);
}

/// A field that names its place (EXAMPLES 19).
#[tokio::test]
async fn a_wrong_shape_names_the_field() {
    let server = Setup::new().start();
    let error = server.client().post("/api/chat", &json!({"content": 7})).await.expect(422).error();
    assert!(error.contains("content"), "{error}");
}

/// THREATS 13: an idle socket is asked every 30 s whether it is still there; one that answers stays.
#[tokio::test]
async fn a_quiet_socket_that_answers_pings_stays_open() {
    let server = Setup::new().start();
    let mut socket = Ws::chat(&server.client()).await;
    for _ in 0..2 {
        // tungstenite answers a ping with the next read.
        match socket.next_raw().await {
            Some(Ok(Message::Ping(_))) => {}
            other => panic!("a ping, not {other:?}"),
        }
    }
    socket.send(&json!({"type": "ping"})).await;
    socket.until("pong").await;
}
