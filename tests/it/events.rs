//! `GET /api/events`: the kernel's bus over SSE (API A4).

use serde_json::{Value, json};

use crate::support::client::Ask;
use crate::support::scripted::{Reply, Scripted};
use crate::support::server::{Setup, command};

const KINDS: &[&str] = &[
    "agent_created",
    "agent_started",
    "agent_stopped",
    "agent_failed",
    "message_received",
    "seed_created",
    "evaluation_complete",
    "phase_started",
    "phase_completed",
    "agent_output",
    "approval_requested",
    "approval_resolved",
    "memory_stored",
    "memory_recalled",
    "agent_group_created",
    "agent_group_member_completed",
    "space_created",
    "space_activated",
    "space_archived",
    "spaces_merged",
    "evolution_started",
    "evolution_max_reached",
    "resync",
];

#[track_caller]
fn check(event: &Value) {
    let kind = event["type"].as_str().unwrap_or_else(|| panic!("an event has a type: {event}"));
    assert!(KINDS.contains(&kind), "{kind} is a documented kind");
    assert!(event["id"].is_string() || event["id"].is_u64(), "{event}");
    assert!(oxios_edge::base::time::Timestamp::parse(event["timestamp"].as_str().unwrap()).is_some(), "{event}");
}

#[tokio::test]
async fn a_turn_is_seen_without_its_content() {
    let model = Scripted::start();
    model.next(Reply::text(&["secret-answer"])).next(Reply::status(400, r#"{"error":{"message":"secret-error"}}"#));
    let server = Setup::new().openai(&model).start();
    let client = server.client();
    let mut events = client.sse("/api/events").await;
    client.post("/api/chat", &json!({"content": "secret-question", "user_id": "secret-user"})).await.expect(200);
    client.post("/api/chat", &json!({"content": "secret-question"})).await.expect(502);
    let seen = events.until(|e| e["type"] == "agent_failed").await;
    let kinds: Vec<_> = seen.iter().map(|e| e["type"].as_str().unwrap()).collect();
    for kind in ["message_received", "agent_created", "agent_started", "phase_started", "phase_completed", "agent_stopped", "agent_failed"]
    {
        assert!(kinds.contains(&kind), "{kind} in {kinds:?}");
    }
    for event in &seen {
        check(event);
        assert!(!event.to_string().contains("secret"), "{event}");
    }
}

#[tokio::test]
async fn a_reader_resumes_by_last_event_id_and_hears_of_what_it_missed() {
    let server = Setup::new().start();
    let client = server.client();
    let mut events = client.sse("/api/events").await;
    client.post("/api/chat", &json!({"content": "one"})).await.expect(200);
    let first = events.next().await.unwrap();
    let id = first.id.clone().expect("every event has an id: line");
    let mut rest = vec![events.next().await.unwrap()];
    while rest.last().unwrap().json()["type"] != "agent_stopped" {
        rest.push(events.next().await.unwrap());
    }
    drop(events);
    let mut again = client.sse_after("/api/events", &id).await;
    for expected in &rest {
        assert_eq!(again.next().await.as_ref(), Some(expected), "exactly what came behind the id");
    }
    for unknown in ["99999999999", "nonsense", "67e55044-10b1-426f-9247-bb680e5fe0c8"] {
        let mut lost = client.sse_after("/api/events", unknown).await;
        assert_eq!(lost.json().await["type"], "resync", "never silence after {unknown}");
    }
}

#[tokio::test]
async fn the_stream_is_kept_alive_by_comments() {
    let server = Setup::new().start();
    let mut stream = server.client().open(Ask::new("GET", "/api/events")).await;
    let started = std::time::Instant::now();
    let mut text = String::new();
    while !text.lines().any(|line| line.starts_with(':')) {
        text += &String::from_utf8(stream.chunk().await.expect("the stream stays open")).unwrap();
    }
    assert!(started.elapsed().as_secs() < 30, "a comment at least every 30 s");
}

#[tokio::test]
async fn events_of_one_owner_are_not_shown_to_another() {
    let server = Setup::new().start();
    let output = command(server.home()).args(["key", "create", "--owner", "new", "--scopes", "read,chat,write", "other"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    let key =
        text.split_whitespace().find(|word| word.len() >= 40).unwrap_or_else(|| panic!("the new key is shown once: {text}")).to_owned();
    server.canary(&key);
    let other = server.stranger().with_key(Some(&key));
    other.get("/api/status").await.expect(200);
    let mut theirs = other.sse("/api/events").await;
    let mine = server.client().post("/api/chat", &json!({"content": "mine"})).await.expect(200).json();
    let session = mine["session_id"].as_str().unwrap();
    // What the other does comes after; it must be the first that they see.
    let own = other.post("/api/chat", &json!({"content": "theirs"})).await.expect(200).json();
    let seen = theirs.until(|e| e["type"] == "agent_stopped").await;
    for event in &seen {
        assert!(!event.to_string().contains(session), "another owner's event: {event}");
    }
    assert!(seen.iter().any(|e| e.to_string().contains(own["session_id"].as_str().unwrap())), "{seen:?}");
    // THREATS 7: not yours is not found, on every route that takes an id.
    other.get(&format!("/api/sessions/{session}")).await.expect(404);
    other.get(&format!("/api/sessions/{session}/events")).await.expect(404);
    other.delete(&format!("/api/sessions/{session}")).await.expect(404);
    other.post("/api/chat", &json!({"content": "hello", "session_id": session})).await.expect(404);
    other.post_empty(&format!("/api/chat/{}/cancel", mine["id"].as_str().unwrap())).await.expect(404);
    let list = other.get("/api/sessions").await.expect(200).json();
    assert_eq!(list["total"], 1);
    let mut socket = crate::support::ws::Ws::chat(&other).await;
    socket.send(&json!({"type": "resume", "session_id": session, "after": 0})).await;
    assert_eq!(socket.json().await["type"], "error");
    socket.send(&json!({"type": "message", "content": "hello", "session_id": session})).await;
    assert_eq!(socket.json().await["type"], "error");
    // Scopes come from the key's record: this one may not approve.
    other.post_empty("/api/approvals/67e55044-10b1-426f-9247-bb680e5fe0c8/approve").await.expect(403);
    // THREATS 6: a revoked key is dead at once, and its streams end within a second.
    let list = command(server.home()).args(["key", "list"]).output().unwrap();
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(!list.contains(&key), "keys are shown once");
    let line = list.lines().find(|l| l.contains("other")).unwrap_or_else(|| panic!("the key in {list}"));
    let id = line.split_whitespace().find(|w| uuid::Uuid::try_parse(w).is_ok()).unwrap_or_else(|| panic!("its id in {line}"));
    let revoked = std::time::Instant::now();
    let output = command(server.home()).args(["key", "revoke", id]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    while theirs.next().await.is_some() {}
    let frame = loop {
        match socket.next_raw().await {
            Some(Ok(tokio_tungstenite::tungstenite::Message::Close(frame))) => break frame,
            Some(Ok(_)) => {}
            other => panic!("a close frame, not {other:?}"),
        }
    };
    assert_eq!(frame.map(|f| u16::from(f.code)), Some(1008));
    assert!(revoked.elapsed().as_secs() < 5, "streams of a revoked key end within a second, not {:?}", revoked.elapsed());
    other.get("/api/status").await.expect(401);
}
