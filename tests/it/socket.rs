//! `GET /api/chat/stream`: the WebSocket (API A3 and B).

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;

use crate::support::client::{Ask, Client};
use crate::support::scripted::{Gate, Reply, Scripted};
use crate::support::server::Setup;
use crate::support::ws::{WS_KEY, Ws, handshake};

#[tokio::test]
async fn a_message_is_accepted_streamed_and_done() {
    let model = Scripted::start();
    let gate = Gate::new();
    model.next(Reply::text(&["Hel", "lo, "]).wait(&gate).say("world."));
    let server = Setup::new().openai(&model).start();
    let mut socket = Ws::chat(&server.client()).await;
    socket.send(&json!({"type": "message", "content": "hi"})).await;
    let accepted = socket.json().await;
    assert_eq!(accepted["type"], "accepted", "the first frame: {accepted}");
    let (id, session) = (accepted["id"].clone(), accepted["session_id"].clone());
    assert!(id.is_string() && session.is_string() && accepted["seq"].is_u64(), "{accepted}");
    let mut frames = socket.until("token").await;
    assert!(frames.last().unwrap()["content"].as_str().unwrap().starts_with("Hel"), "before the model goes on");
    gate.open();
    frames.extend(socket.until("done").await);
    let mut text = String::new();
    let mut last = accepted["seq"].as_u64().unwrap();
    for frame in &frames {
        assert_eq!(frame["id"], id, "every frame names its message: {frame}");
        let seq = frame["seq"].as_u64().unwrap_or_else(|| panic!("every frame that stands for a record has its seq: {frame}"));
        assert!(seq > last, "in order: {frame}");
        last = seq;
        if frame["type"] == "token" {
            assert_eq!(frame["session_id"], session);
            assert!(frame["space_id"].is_null());
            text += frame["content"].as_str().unwrap();
        }
    }
    let done = frames.last().unwrap();
    assert_eq!(text, "Hello, world.");
    assert_eq!(done["text"], "Hello, world.");
    assert_eq!(done["session_id"], session);
    assert_eq!(done["phase"], "Interview");
    assert_eq!(done["evaluation_passed"], "true", "a text, as documented");
    assert_eq!(done["outcome"], "done");
    let detail = server.client().get(&format!("/api/sessions/{}", session.as_str().unwrap())).await.expect(200).json();
    assert_eq!(detail["user_id"], "web-user");
}

#[tokio::test]
async fn what_is_done_is_on_disk() {
    let model = Scripted::start();
    model.next(Reply::text(&["kept"]));
    let mut server = Setup::new().openai(&model).start();
    let mut socket = Ws::chat(&server.client()).await;
    let session = socket.say("keep this", None).await["session_id"].as_str().unwrap().to_owned();
    socket.until("done").await;
    server.kill9();
    let json = std::fs::read_to_string(server.session_file(&format!("{session}.json"))).expect("a small projection is current before done");
    assert!(json.contains("keep this") && json.contains("kept"), "{json}");
    server.restart();
    let detail = server.client().get(&format!("/api/sessions/{session}")).await.expect(200).json();
    assert_eq!(detail["agent_responses"][0]["content"], "kept");
}

#[tokio::test]
async fn the_run_goes_on_without_its_socket_and_resume_shows_it() {
    let model = Scripted::start();
    let gate = Gate::new();
    model.next(Reply::text(&["one "]).wait(&gate).say("two"));
    let server = Setup::new().openai(&model).start();
    let client = server.client();
    let mut socket = Ws::chat(&client).await;
    let accepted = socket.say("go", None).await;
    let token = socket.until("token").await.pop().unwrap();
    drop(socket);
    let mut socket = Ws::chat(&client).await;
    socket.send(&json!({"type": "resume", "session_id": accepted["session_id"], "after": token["seq"]})).await;
    gate.open();
    let frames = socket.until("done").await;
    let text: String = frames.iter().filter(|f| f["type"] == "token").map(|f| f["content"].as_str().unwrap()).collect();
    assert_eq!(text, "two", "exactly what was missed: {frames:?}");
    assert_eq!(frames.last().unwrap()["text"], "one two");
    assert!(frames.last().unwrap()["replaces"].is_null(), "nothing was skipped: {frames:?}");
    // After the end its pieces are gone, and the terminal record says so.
    let mut socket = Ws::chat(&client).await;
    socket.send(&json!({"type": "resume", "session_id": accepted["session_id"], "after": token["seq"]})).await;
    let done = socket.until("done").await.pop().unwrap();
    assert_eq!(done["text"], "one two");
    assert_eq!(done["replaces"], true, "{done}");
}

#[tokio::test]
async fn bad_frames_get_an_error_and_the_socket_stays_open() {
    let server = Setup::new().start();
    let mut socket = Ws::chat(&server.client()).await;
    for bad in [
        "",
        "{",
        "[]",
        "null",
        "7",
        r#"{"type":"nothing"}"#,
        r#"{"type":7}"#,
        r#"{"content":"no type"}"#,
        r#"{"type":"message"}"#,
        r#"{"type":"message","content":7}"#,
        r#"{"type":"message","content":""}"#,
        r#"{"type":"message","content":"x","session_id":"../x"}"#,
        r#"{"type":"resume"}"#,
        r#"{"type":"resume","session_id":"67e55044-10b1-426f-9247-bb680e5fe0c8","after":0}"#,
        r#"{"type":"cancel","id":"67e55044-10b1-426f-9247-bb680e5fe0c8"}"#,
        r#"{"type":"cancel"}"#,
        &format!(r#"{{"type":"message","content":"a","x":{}1{}}}"#, r#"{"a":"#.repeat(100), "}".repeat(100)),
    ] {
        socket.send_raw(Message::text(bad)).await;
        let frame = socket.json().await;
        assert_eq!(frame["type"], "error", "{bad}: {frame}");
        assert!(frame["code"].is_string() && frame["message"].is_string(), "{bad}: {frame}");
    }
    let too_long = json!({"type": "message", "content": "a".repeat(64 * 1024 + 1)});
    socket.send(&too_long).await;
    assert_eq!(socket.json().await["type"], "error");
    socket.send(&json!({"type": "ping"})).await;
    assert_eq!(socket.json().await["type"], "pong");
    socket.say("hello", None).await;
    socket.until("done").await;
}

#[tokio::test]
async fn cancel_by_socket_ends_in_done_with_its_outcome() {
    let model = Scripted::start();
    let gate = Gate::new();
    model.next(Reply::text(&["partial"]).wait(&gate));
    let server = Setup::new().openai(&model).start();
    let mut socket = Ws::chat(&server.client()).await;
    let accepted = socket.say("go", None).await;
    socket.until("token").await;
    socket.send(&json!({"type": "cancel", "id": accepted["id"]})).await;
    let done = socket.until("done").await.pop().unwrap();
    assert_eq!(done["outcome"], "cancelled");
    assert_eq!(done["evaluation_passed"], "false");
    assert_eq!(done["text"], "partial");
    model.request(1).await.cut().await;
}

#[tokio::test]
async fn a_failed_run_says_error_and_then_done() {
    let model = Scripted::start();
    model.next(Reply::status(400, r#"{"error":{"message":"no"}}"#));
    let server = Setup::new().openai(&model).start();
    let mut socket = Ws::chat(&server.client()).await;
    socket.say("go", None).await;
    let error = socket.until("error").await.pop().unwrap();
    assert!(error["code"].is_string() && error["message"].is_string(), "{error}");
    let done = socket.until("done").await.pop().unwrap();
    assert_eq!(done["outcome"], "failed");
    assert_eq!(done["evaluation_passed"], "false");
}

#[tokio::test]
async fn many_messages_over_one_socket_keep_their_names() {
    let model = Scripted::start();
    let gate = Gate::new();
    model.on("apples", Reply::text(&["red"]).wait(&gate).say(" fruit"));
    model.on("bananas", Reply::text(&["yellow"]).wait(&gate).say(" fruit"));
    let server = Setup::new().openai(&model).start();
    let mut socket = Ws::chat(&server.client()).await;
    socket.send(&json!({"type": "message", "content": "apples", "session_id": "0f3ae2a4-9c1b-4f6e-8d57-1f2e3d4c5b01"})).await;
    socket.send(&json!({"type": "message", "content": "bananas", "session_id": "0f3ae2a4-9c1b-4f6e-8d57-1f2e3d4c5b02"})).await;
    gate.reached(2).await;
    gate.open_for_good();
    let (mut texts, mut done) = (std::collections::BTreeMap::<String, String>::new(), 0);
    while done < 2 {
        let frame = socket.json().await;
        let session = frame["session_id"].as_str().unwrap_or_default().to_owned();
        if frame["type"] == "token" {
            *texts.entry(session).or_default() += frame["content"].as_str().unwrap();
        } else if frame["type"] == "done" {
            done += 1;
            assert_eq!(frame["text"].as_str(), texts.get(&session).map(String::as_str));
        }
    }
    assert_eq!(texts["0f3ae2a4-9c1b-4f6e-8d57-1f2e3d4c5b01"], "red fruit");
    assert_eq!(texts["0f3ae2a4-9c1b-4f6e-8d57-1f2e3d4c5b02"], "yellow fruit");
}

#[tokio::test]
async fn the_handshake_takes_every_documented_credential_and_no_other() {
    let server = Setup::new().start();
    let stranger: Client = server.stranger();
    let refused = Ws::open(&stranger, handshake("/api/chat/stream")).await.err().expect("no key, no socket");
    assert_eq!((refused.status, refused.body.len()), (401, 0));
    let refused = Ws::open(&stranger, handshake("/api/chat/stream?token=wrong")).await.err().expect("a wrong key");
    assert_eq!((refused.status, refused.body.len()), (401, 0));
    // From a loopback peer `?token=` is in the documented contract.
    Ws::open(&stranger, handshake(&format!("/api/chat/stream?token={}", server.key())))
        .await
        .unwrap_or_else(|refused| panic!("token from loopback: {}", refused.status));
    let ticket = server.client().post_empty("/api/chat/ticket").await.expect(200).json()["ticket"].as_str().unwrap().to_owned();
    let mut socket = Ws::open(&stranger, handshake(&format!("/api/chat/stream?ticket={ticket}")))
        .await
        .unwrap_or_else(|refused| panic!("a ticket: {}", refused.status));
    socket.say("hello", None).await;
    socket.until("done").await;
    let refused = Ws::open(&stranger, handshake(&format!("/api/chat/stream?ticket={ticket}"))).await.err().expect("used up");
    assert_eq!(refused.status, 401);
    let never = Setup::new().env("OXIOS_SECURITY__QUERY_TOKEN", "never").start();
    let refused = Ws::open(&never.stranger(), handshake(&format!("/api/chat/stream?token={}", never.key()))).await.err().expect("never");
    assert_eq!(refused.status, 401);
}

#[tokio::test]
async fn a_handshake_that_is_none_is_refused() {
    let server = Setup::new().start();
    let client = server.client();
    let full = [("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13"), ("sec-websocket-key", WS_KEY)];
    for (left_out, _) in full {
        let mut ask = Ask::new("GET", "/api/chat/stream");
        for (name, value) in full.iter().filter(|(name, _)| *name != left_out) {
            ask = ask.header(name, *value);
        }
        let refused = Ws::open(&client, ask).await.err().unwrap_or_else(|| panic!("without {left_out} it is no handshake"));
        assert!(matches!(refused.status, 400 | 426), "without {left_out}: {}", refused.status);
    }
    for (name, value) in [("sec-websocket-version", "12"), ("sec-websocket-key", "short")] {
        let mut ask = Ask::new("GET", "/api/chat/stream");
        for (n, v) in full {
            ask = ask.header(n, if n == name { value } else { v });
        }
        let refused = Ws::open(&client, ask).await.err().unwrap_or_else(|| panic!("{name}: {value} is refused"));
        assert!(matches!(refused.status, 400 | 426), "{name}: {value}: {}", refused.status);
    }
}

/// RFC 6455 §7.4.1, THREATS 17: each violation has its close code.
#[tokio::test]
async fn protocol_errors_close_with_the_codes_of_the_rfc() {
    let server = Setup::new().start();
    let head = format!(
        "GET /api/chat/stream HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: {WS_KEY}\r\n\r\n",
        server.address.host(),
        server.key()
    );
    // A mask of zeros leaves the payload as it is.
    let big: u64 = 600 * 1024;
    let mut over = vec![0x81, 0xff];
    over.extend(big.to_be_bytes());
    over.extend([0, 0, 0, 0]);
    over.extend(vec![b'a'; 1024]);
    // 600 frames of 1 KiB that want to be one message.
    let fragments: Vec<u8> = (0..600).flat_map(|n| [&[u8::from(n == 0), 0xfe, 4, 0, 0, 0, 0, 0][..], &[b'a'; 1024]].concat()).collect();
    for (what, code, frame) in [
        ("an unmasked frame", 1002_u16, vec![0x81, 0x02, b'h', b'i']),
        ("a reserved bit", 1002, vec![0xc1, 0x82, 0, 0, 0, 0, b'h', b'i']),
        ("an unknown opcode", 1002, vec![0x83, 0x82, 0, 0, 0, 0, b'h', b'i']),
        ("a fragmented ping", 1002, vec![0x09, 0x80, 0, 0, 0, 0]),
        ("a continuation of nothing", 1002, vec![0x80, 0x80, 0, 0, 0, 0]),
        ("bad UTF-8", 1007, vec![0x81, 0x82, 0, 0, 0, 0, 0xff, 0xfe]),
        ("a frame over the limit", 1009, over),
        ("fragments over the limit", 1009, fragments),
    ] {
        let mut socket = server.address.connect().await;
        socket.write_all(head.as_bytes()).await.unwrap();
        let (status, _, mut left) = crate::support::client::read_head(&mut socket, what).await;
        assert_eq!(status, 101, "{what}");
        socket.write_all(&frame).await.unwrap();
        let rest = tokio::time::timeout(crate::support::client::PATIENCE, socket.read_to_end(&mut left)).await;
        assert!(rest.is_ok(), "{what}: the server ends the connection");
        assert!(left.len() >= 4 && left[0] == 0x88, "{what}: a close frame, not {left:?}");
        assert_eq!(u16::from_be_bytes([left[2], left[3]]), code, "{what}");
    }
}

/// THREATS 17: what is compressed grows when it is unpacked, so nothing is.
#[tokio::test]
async fn compression_is_not_agreed_on_however_often_it_is_offered() {
    let server = Setup::new().start();
    let client = server.client();
    for offer in ["permessage-deflate", "permessage-deflate; client_max_window_bits, x-webkit-deflate-frame", "deflate-stream"] {
        let answer = client.open(handshake("/api/chat/stream").header("sec-websocket-extensions", offer)).await;
        assert_eq!((answer.status, answer.header("sec-websocket-extensions")), (101, None), "{offer}");
    }
    for accepted in ["gzip", "deflate, gzip, br, zstd", "*"] {
        let answer = client.send(Ask::new("GET", "/api/sessions").header("accept-encoding", accepted)).await.expect(200);
        assert_eq!(answer.header("content-encoding"), None, "{accepted}");
    }
    // Nor is anything unpacked: these are the bytes of no JSON.
    let packed = Ask::new("POST", "/api/chat").header("content-type", "application/json").header("content-encoding", "gzip");
    client.send(packed.body(b"\x1f\x8b\x08\0\0\0\0\0\x02\x03".to_vec())).await.expect(400);
}

/// THREATS 17: line ends in what a client chose end no field of a stream and no header.
#[tokio::test]
async fn line_ends_in_what_a_client_says_forge_no_event_and_no_header() {
    let server = Setup::new().start();
    let client = server.client();
    let forged = "a\r\n\r\nevent: done\ndata: {\"type\":\"forged\"}\n\nid: 99\r\rdata: forged\u{2028}\u{85}b";
    let answer = client.post("/api/chat", &json!({"content": forged})).await.expect(200).json();
    let session = answer["session_id"].as_str().unwrap();
    let events = client.sse(&format!("/api/sessions/{session}/events?after=0&until=idle")).await.rest().await;
    assert!(events.iter().any(|event| event["content"] == forged), "{events:?}");
    assert!(events.iter().all(|event| event["type"] != "forged" && event["seq"].as_u64().is_some_and(|seq| seq < 99)), "{events:?}");
    for target in [
        "/api/sessions/x%0d%0aset-cookie:%20forged=1",
        "/api/%0d%0aset-cookie:%20forged=1",
        "/api/sessions?page=1%0d%0aset-cookie:%20forged=1",
    ] {
        for (name, value) in [("accept", "text/event-stream"), ("origin", "http://a\u{85}b")] {
            let answer = client.send(Ask::new("GET", target).header(name, value)).await;
            assert_eq!(answer.header("set-cookie"), None, "{target}: {:?}", answer.headers);
        }
    }
    let kept = client.post("/api/chat", &json!({"content": "hello", "user_id": "a\r\nset-cookie: forged=1"})).await;
    assert_eq!(kept.header("set-cookie"), None, "{:?}", kept.headers);
}

#[tokio::test]
async fn shutdown_closes_idle_sockets_with_1001() {
    let mut server = Setup::new().start();
    let mut socket = Ws::chat(&server.client()).await;
    socket.send(&json!({"type": "ping"})).await;
    socket.json().await;
    server.signal(rustix::process::Signal::TERM);
    let frame = socket.closed().await.expect("a close frame");
    assert_eq!(u16::from(frame.code), 1001);
    assert!(server.wait().await.success());
}

#[tokio::test]
async fn pings_are_answered_and_close_is_returned() {
    let server = Setup::new().start();
    let mut socket = Ws::chat(&server.client()).await;
    socket.send_raw(Message::Ping("are you there".into())).await;
    match socket.next_raw().await {
        Some(Ok(Message::Pong(bytes))) => assert_eq!(&bytes[..], b"are you there"),
        other => panic!("a pong, not {other:?}"),
    }
    socket.send_raw(Message::Close(None)).await;
    assert!(matches!(socket.next_raw().await, Some(Ok(Message::Close(_))) | None));
}

#[tokio::test]
async fn a_deleted_session_says_so_to_its_readers() {
    let model = Scripted::start();
    let gate = Gate::new();
    model.next(Reply::text(&["partial"]).wait(&gate));
    let server = Setup::new().openai(&model).start();
    let client = server.client();
    let mut socket = Ws::chat(&client).await;
    let session = socket.say("go", None).await["session_id"].as_str().unwrap().to_owned();
    let token = socket.until("token").await.pop().unwrap();
    // A reader of the whole session, not only of its own message.
    socket.send(&json!({"type": "resume", "session_id": session, "after": token["seq"]})).await;
    socket.send(&json!({"type": "ping"})).await;
    socket.until("pong").await;
    client.delete(&format!("/api/sessions/{session}")).await.expect(200);
    let deleted = socket.until("deleted").await.pop().unwrap();
    assert_eq!(deleted["session_id"].as_str().unwrap_or(&session), session);
    model.request(1).await.cut().await;
    socket.send(&json!({"type": "message", "content": "again", "session_id": session})).await;
    assert_eq!(socket.until("error").await.pop().unwrap()["type"], "error");
}

#[tokio::test]
async fn who_sends_again_while_the_answer_comes_gets_no_word_twice() {
    let (model, gate) = (Scripted::start(), Gate::new());
    model.next(Reply::new().say("one ").wait(&gate).say("two"));
    let server = Setup::new().openai(&model).start();
    let mut socket = Ws::chat(&server.client()).await;
    let message = json!({"type": "message", "content": "hi", "idempotency_key": "again"});
    socket.send(&message).await;
    let first = socket.until("token").await;
    assert_eq!((&first[0]["type"], &first.last().unwrap()["content"]), (&json!("accepted"), &json!("one ")));
    socket.send(&message).await;
    let again = socket.until("accepted").await.pop().unwrap();
    assert_eq!(again["id"], first[0]["id"]);
    gate.open();
    let rest = socket.until("done").await;
    let words: Vec<_> = rest.iter().filter(|f| f["type"] == "token").map(|f| f["content"].as_str().unwrap()).collect();
    assert_eq!((words, rest.last().unwrap()["text"].as_str()), (vec!["two"], Some("one two")));
    // After the end it is told again, whole.
    socket.send(&message).await;
    assert_eq!(socket.until("done").await.pop().unwrap()["text"], "one two");
}

#[tokio::test]
async fn a_message_is_in_the_same_space_for_whoever_follows_it_later() {
    let server = Setup::new().start();
    let client = server.client();
    let space = client.post("/api/spaces", &json!({"name": "work"})).await.expect(201).json()["id"].clone();
    client.post_empty(&format!("/api/spaces/{}/activate", space.as_str().unwrap())).await.expect(200);
    let mut socket = Ws::chat(&client).await;
    let accepted = socket.say("hello", None).await;
    let done = socket.until("done").await.pop().unwrap();
    assert_eq!((&accepted["space_id"], &done["space_id"]), (&space, &space));
    let mut later = Ws::chat(&client).await;
    later.send(&json!({"type": "resume", "session_id": accepted["session_id"], "after": 0})).await;
    for frame in later.until("done").await.iter().filter(|frame| frame.get("space_id").is_some()) {
        assert_eq!(frame["space_id"], space, "{frame}");
    }
}
