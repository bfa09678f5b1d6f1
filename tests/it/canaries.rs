//! Nothing that a client, a model or a tool says turns up where operators look: logs, metrics, events, audit records, error
//! texts (DESIGN §6, THREATS 9).

use serde_json::{Value, json};

use crate::support::client::Ask;
use crate::support::server::Setup;
use crate::support::ws::Ws;

/// In every field; each with a number behind it, so that a failure names the field.
const CANARY: &str = "canary7f3a";

#[tokio::test]
async fn no_canary_leaves_by_log_metric_event_audit_record_or_error() {
    let mut server = Setup::new().start();
    server.canary(CANARY);
    let client = server.client();
    let canary = |n: u32| format!("{CANARY}x{n}");
    let mut events = client.sse("/api/events").await;

    // Every field of a message, in words, in a refused form, and behind tools and approvals.
    let chat =
        |content: String| json!({"content": content, "user_id": canary(1), "idempotency_key": canary(2), "attachments": [canary(3)]});
    client.post("/api/chat", &chat(canary(4))).await.expect(400);
    client.send(Ask::new("PUT", format!("/api/workspace/file/{}", canary(3))).body(b"x".to_vec())).await.expect(200);
    client.post("/api/chat", &chat(canary(4))).await.expect(200);
    client.post("/v1/chat/completions", &json!({"model": canary(33), "messages": [{"role": "user", "content": "x"}]})).await.expect(404);
    let asked = client.post("/api/chat", &json!({"content": format!("write {}.md: {}", canary(5), canary(6))})).await.expect(202).json();
    let approval = asked["approval"]["id"].as_str().unwrap().to_owned();
    client.post_empty(&format!("/api/approvals/{approval}/approve")).await.expect(200);
    let session = asked["session_id"].as_str().unwrap().to_owned();
    client.get(&format!("/api/sessions/{session}/events?until=idle")).await.expect(200);
    for content in ["remember", "recall", "read", "task"] {
        client.post("/api/chat", &json!({"content": format!("{content} {}", canary(7))})).await;
    }
    let mut ws = Ws::chat(&client).await;
    ws.say(&canary(8), None).await;
    ws.until("done").await;

    // Everything else that takes a text; what of it is refused is refused without quoting it.
    let bodies = [
        ("POST", "/api/memory".to_owned(), json!({"content": canary(10), "tags": [canary(11)]})),
        ("POST", "/api/memory/search".to_owned(), json!({"query": canary(12)})),
        ("POST", "/api/memory".to_owned(), json!({"content": "x", "memory_type": canary(13)})),
        ("POST", "/api/personas".to_owned(), json!({"name": canary(14), "description": canary(15), "prompt": canary(16)})),
        ("POST", "/api/spaces".to_owned(), json!({"name": canary(17), "description": canary(18), "context": canary(19)})),
        ("POST", "/api/keys".to_owned(), json!({"name": canary(20), "scopes": ["read"]})),
        ("POST", "/api/skills".to_owned(), json!({"name": canary(21), "description": canary(22), "content": canary(23)})),
        ("POST", format!("/api/skills/{}/enable", canary(24)), json!({})),
        ("POST", "/api/cron-jobs".to_owned(), json!({"name": canary(25), "schedule": "0 0 1 1 *", "content": canary(26)})),
        ("DELETE", format!("/api/memory/{}", canary(27)), json!({})),
        ("POST", format!("/api/chat/{}/cancel", canary(28)), json!({})),
        ("POST", format!("/api/{}", canary(29)), json!({})),
        ("POST", "/api/login".to_owned(), json!({"key": canary(30)})),
    ];
    let mut errors = Vec::new();
    for (method, path, body) in bodies {
        let answer =
            client.send(Ask::new(method, path.clone()).header("x-canary", canary(31)).header("user-agent", canary(32)).json(&body)).await;
        if answer.status >= 400 {
            errors.push((path, answer.text()));
        }
    }
    let wrong = Ask::new("GET", format!("/api/sessions?q={}&page={}", canary(33), canary(34))).header("referer", canary(35));
    let answer = client.send(wrong).await;
    errors.push(("query".to_owned(), answer.expect(400).text()));
    let wrong =
        Ask::new("GET", "/api/sessions").stranger().header("authorization", format!("Bearer {}", canary(36))).header("cookie", canary(37));
    client.send(wrong).await.expect(401);
    for (path, text) in &errors {
        assert!(!text.contains(CANARY), "the error of {path} quotes what was sent: {text}");
    }

    let metrics = client.get("/metrics").await.expect(200).text() + &client.get("/api/metrics").await.expect(200).text();
    assert!(!metrics.contains(CANARY), "{metrics}");
    let audit = client.post_empty("/api/audit/export").await.expect(200).text();
    assert!(!audit.contains(CANARY) && audit.contains("hmac:"), "{audit}");
    client.delete(&format!("/api/sessions/{session}")).await.expect(200);
    let more = client.post("/api/chat", &json!({"content": "the last one"})).await.expect(200).json();
    let last = more["session_id"].as_str().unwrap().to_owned();
    let seen = events.until(|e: &Value| e["session_id"] == last.as_str() && e["type"] == "agent_stopped").await;
    for event in &seen {
        assert!(!event.to_string().contains(CANARY), "{event}");
    }
    assert!(seen.len() > 20, "{}", seen.len());
    server.stop().await;
    for segment in std::fs::read_dir(server.home().join("workspace/audit")).unwrap() {
        assert!(!std::fs::read_to_string(segment.unwrap().path()).unwrap().contains(CANARY));
    }
    assert!(!server.log().contains(CANARY), "{}", server.log());
}
