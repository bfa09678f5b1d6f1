//! What a key has open when it is revoked or runs out (THREATS 6).

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::client::{Answer, Ask, Client};
use crate::support::raw::{connect, hear};
use crate::support::scripted::{Gate, Reply, Scripted};
use crate::support::server::{Setup, command};
use crate::support::sse::Sse;
use crate::support::ws::Ws;

/// Everything that a key may have open, each in a session of its own.
struct Open {
    key: Client,
    events: Sse,
    log: Sse,
    socket: Ws,
    streamed: Sse,
    /// Answers that are waited for: `POST /api/chat`, the agent and the plain model at `/v1`, the tool `ask`.
    waiting: Vec<(&'static str, tokio::task::JoinHandle<Answer>)>,
}

const SESSION: &str = "0f3ae2a4-9c1b-4f6e-8d57-1f2e3d4c5bd0";

impl Open {
    async fn all(key: Client, gate: &Gate) -> Self {
        let ask = |target: &str, body: Value| Ask::new("POST", target).json(&body);
        let message =
            |model: &str, stream: bool| json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "hi"}]});
        let tool = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "ask", "arguments": {"content": "hi"}}});
        let waiting = [
            ("chat", ask("/api/chat", json!({"content": "hi", "session_id": SESSION}))),
            ("agent", ask("/v1/chat/completions", message("oxios", false))),
            ("plain", ask("/v1/chat/completions", message("scripted", false))),
            ("tool", ask("/mcp", tool)),
        ];
        let waiting = waiting.map(|(name, ask)| {
            let key = key.clone();
            (name, tokio::spawn(async move { key.send(ask).await }))
        });
        gate.reached(4).await;
        let streamed = Sse::new(key.open(ask("/v1/chat/completions", message("oxios", true))).await);
        gate.reached(5).await;
        let (events, log) = (key.sse("/api/events").await, key.sse(&format!("/api/sessions/{SESSION}/events")).await);
        let socket = Ws::chat(&key).await;
        Self { events, log, socket, streamed, waiting: waiting.into(), key }
    }

    /// All of it ends.
    async fn ends(mut self) {
        for stream in [&mut self.events, &mut self.log, &mut self.streamed] {
            while stream.next().await.is_some() {}
        }
        assert_eq!(u16::from(self.socket.closed().await.unwrap().code), 1008);
        for (name, answer) in self.waiting {
            let answer = answer.await.unwrap();
            assert_eq!(answer.status, 401, "{name}: {}", answer.text());
            assert!(answer.header("www-authenticate").unwrap().contains("invalid_token"));
            assert!(!answer.text().contains("secret answer"), "{name}");
        }
        self.key.get("/api/sessions").await.expect(401);
    }
}

/// THREATS 6: within a second everything that is open with a key ends with it, however it ends. What was asked with it goes on for its
/// owner: a run does not know whether anyone reads.
#[tokio::test]
async fn what_is_open_ends_with_its_key_revoked_or_expired() {
    for way in ["revoked", "revoked beside the server", "rotated with an overlap"] {
        let model = Scripted::start();
        let gate = Gate::new();
        model.always(Reply::new().wait(&gate).say("secret answer"));
        let server = Setup::new().openai(&model).start();
        let admin = server.client();
        let made = admin.post("/api/keys", &json!({"name": "x", "scopes": ["read", "chat"]})).await.expect(201).json();
        let id = made["id"].as_str().unwrap();
        let open = Open::all(server.stranger().with_key(made["key"].as_str()), &gate).await;
        let began = std::time::Instant::now();
        match way {
            "revoked" => drop(admin.delete(&format!("/api/keys/{id}")).await.expect(200)),
            "revoked beside the server" => {
                assert!(command(server.home()).args(["key", "revoke", id]).output().unwrap().status.success());
            }
            _ => drop(admin.post(&format!("/api/keys/{id}/rotate"), &json!({"overlap_secs": 1})).await.expect(201)),
        }
        // A stream that goes on is kept alive by comments for ever.
        tokio::time::timeout(std::time::Duration::from_secs(20), open.ends()).await.expect("what is open ends with its key");
        assert!(began.elapsed().as_secs() < 6, "{way}: {:?}", began.elapsed());
        gate.open_for_good();
        let log = admin.sse(&format!("/api/sessions/{SESSION}/events?until=done")).await.rest().await;
        assert_eq!(log.last().unwrap()["text"], "secret answer", "{way}");
    }
}

/// An OpenAI client takes a stream that simply ends for a whole answer.
#[tokio::test]
async fn a_stream_that_an_openai_client_reads_says_that_it_was_cut() {
    for (name, revoked) in [("oxios", true), ("scripted", true), ("scripted", false)] {
        let (model, gate) = (Scripted::start(), Gate::new());
        model.always(Reply::new().say("one ").wait(&gate).say("two"));
        let mut server = Setup::new().openai(&model).start();
        let admin = server.client();
        let made = admin.post("/api/keys", &json!({"name": "x", "scopes": ["read", "chat"]})).await.expect(201).json();
        let key = server.stranger().with_key(made["key"].as_str());
        let body = json!({"model": name, "stream": true, "messages": [{"role": "user", "content": "hi"}]});
        let mut stream = Sse::new(key.open(Ask::new("POST", "/v1/chat/completions").json(&body)).await);
        stream.until(|chunk| chunk["choices"][0]["delta"]["content"] == "one ").await;
        if revoked {
            admin.delete(&format!("/api/keys/{}", made["id"].as_str().unwrap())).await.expect(200);
        } else {
            server.signal(Signal::TERM);
        }
        let [last] = &stream.rest().await[..] else { panic!("{name}: one error, and no [DONE]") };
        let kind = if revoked { "authentication_error" } else { "server_error" };
        assert_eq!(last["error"]["type"], kind, "{name}: {last}");
        gate.open_for_good();
        if !revoked {
            assert!(server.wait().await.success());
        }
    }
}

/// A key that was to end kept requests half sent, and made its successors with them afterwards.
#[tokio::test]
async fn a_request_whose_body_comes_after_its_key_was_revoked_does_nothing() {
    let server = Setup::new().start();
    let admin = server.client();
    let made = admin.post("/api/keys", &json!({"name": "x", "scopes": ["admin"]})).await.expect(201).json();
    let (host, key) = (server.address.host(), made["key"].as_str().unwrap());
    let body = json!({"name": "successor", "scopes": ["admin"]}).to_string();
    let mut socket = connect(&server).await;
    let head = format!(
        "POST /api/keys HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
         expect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    // It is waited for, so the key was looked at.
    let mut go_on = [0; 25];
    socket.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    admin.delete(&format!("/api/keys/{}", made["id"].as_str().unwrap())).await.expect(200);
    socket.write_all(body.as_bytes()).await.unwrap();
    let said = hear(&mut socket).await;
    assert!(said.statuses == [401] && said.closed && said.text.contains("invalid_token"), "{said:?}");
    let keys = admin.get("/api/keys").await.expect(200);
    assert!(!keys.text().contains("successor"), "{}", keys.text());
}
