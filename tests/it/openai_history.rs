//! A history that comes with the first message of model `oxios`: it becomes the session's own.

use serde_json::{Value, json};

use crate::openai::{PATH, complete, refused};
use crate::support::client::{Ask, Client};
use crate::support::scripted::{Gate, Reply, Scripted};
use crate::support::server::Setup;
use crate::support::sse::Sse;

/// A conversation of `role: text` lines.
fn talk(lines: &[&str]) -> Value {
    let message = |line: &&str| {
        let (role, content) = line.split_once(": ").unwrap();
        json!({"role": role, "content": content})
    };
    json!({"model": "oxios", "messages": lines.iter().map(message).collect::<Vec<_>>()})
}

async fn with_key(client: &Client, key: &str, body: &Value, status: u16) -> Value {
    client.send(Ask::new("POST", PATH).header("idempotency-key", key).json(body)).await.expect(status).json()
}

/// What the model was told, as `role: text` lines; its own instructions apart.
fn told(body: &Value) -> Vec<String> {
    let messages = body["messages"].as_array().unwrap().iter().filter(|message| message["role"] != "system");
    messages.map(|message| format!("{}: {}", message["role"].as_str().unwrap(), message["content"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn the_history_is_the_sessions_own_before_and_after_a_restart() {
    let model = Scripted::start();
    model.next(Reply::text(&["Tea."])).next(Reply::text(&["Green."]));
    let mut server = Setup::new().openai(&model).start();
    server.canary("canary-instruction");
    let client = server.client();
    let body = talk(&[
        "system: Speak like a canary-instruction.",
        "assistant: How can I help?",
        "user: My name is Ada.",
        "user: I like tea.",
        "assistant: Noted.",
        "developer: Never rhyme.",
        "user: What do I like?",
    ]);
    let first = complete(&client, &body).await;
    assert_eq!(first["choices"][0]["message"]["content"], "Tea.");
    let session = first["metadata"]["session_id"].as_str().unwrap().to_owned();
    let seen = &model.seen()[0].body;
    let lines = told(seen);
    let past = ["assistant: How can I help?", "user: My name is Ada.\n\nI like tea.", "assistant: Noted.", "user: What do I like?"];
    assert_eq!(lines[lines.len() - past.len()..], past, "{lines:?}");
    let system = seen["messages"][0]["content"].as_str().unwrap();
    assert!(system.contains("Speak like a canary-instruction.\n\nNever rhyme."), "{system}");

    server.restart();
    let client = server.client();
    let again = json!({"model": "oxios", "metadata": {"session_id": session}, "messages": [{"role": "user", "content": "Which?"}]});
    assert_eq!(complete(&client, &again).await["choices"][0]["message"]["content"], "Green.");
    let seen = &model.seen()[1].body;
    let lines = told(seen);
    assert_eq!(lines[lines.len() - 6..lines.len() - 2], past, "{lines:?}");
    assert_eq!(lines[lines.len() - 2..], ["assistant: Tea.", "user: Which?"]);
    assert!(seen["messages"][0]["content"].as_str().unwrap().contains("Never rhyme."), "they hold for the whole session");

    let detail = client.get(&format!("/api/sessions/{session}")).await.expect(200).json();
    let texts = |list: &Value| list.as_array().unwrap().iter().map(|said| said["content"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(texts(&detail["user_messages"]), ["My name is Ada.\n\nI like tea.", "What do I like?", "Which?"]);
    assert_eq!(texts(&detail["agent_responses"]), ["How can I help?", "Noted.", "Tea.", "Green."]);
    assert_eq!(detail["metadata"]["instructions"], "Speak like a canary-instruction.\n\nNever rhyme.");
    assert_eq!(detail["metadata"]["title"], "My name is Ada. I like tea.");
    let found = client.get("/api/sessions?q=Ada").await.expect(200).json();
    assert_eq!(found["items"][0]["id"], session.as_str(), "{found}");

    // A copy goes on as this one did; what someone sends as a file speaks with no authority.
    let fork = client.post(&format!("/api/sessions/{session}/fork"), &json!({})).await.expect(201).json();
    let copy = client.get(&format!("/api/sessions/{}", fork["id"].as_str().unwrap())).await.expect(200).json();
    assert_eq!(copy["metadata"]["instructions"], detail["metadata"]["instructions"]);
    let imported = client.post("/api/sessions/import", &detail).await.expect(201).json();
    let imported = client.get(&format!("/api/sessions/{}", imported["id"].as_str().unwrap())).await.expect(200).json();
    assert_eq!(imported["metadata"].get("instructions"), None);
}

#[tokio::test]
async fn a_retry_finds_the_same_session_and_run_also_after_a_restart_and_another_history_is_409() {
    let model = Scripted::start();
    model.next(Reply::text(&["Once."]));
    let mut server = Setup::new().openai(&model).start();
    let lines = ["system: s", "user: a", "assistant: b", "user: c"];
    let first = with_key(&server.client(), "k1", &talk(&lines), 200).await;
    for restart in [false, true] {
        if restart {
            server.kill9();
            server.restart();
        }
        let client = server.client();
        let again = with_key(&client, "k1", &talk(&lines), 200).await;
        for field in ["id", "metadata"] {
            assert_eq!(again[field], first[field], "{restart}");
        }
        assert_eq!(again["choices"][0]["message"]["content"], "Once.");
        for other in [
            &["user: a", "assistant: b", "user: c"][..],
            &["system: s", "user: a", "assistant: B", "user: c"],
            &["system: s", "user: c"],
            &["user: c"],
            &["system: s", "user: a", "assistant: b", "user: d"],
        ] {
            let error = with_key(&client, "k1", &talk(other), 409).await;
            assert_eq!(error["error"]["code"], "conflict", "{other:?}: {error}");
        }
        let page = client.get("/api/sessions").await.expect(200).json();
        assert_eq!(page["total"], 1, "{page}");
    }
    assert_eq!(model.seen().len(), 1, "the model was asked once");
}

#[tokio::test]
async fn the_key_of_a_retry_may_be_in_the_body() {
    let model = Scripted::start();
    model.next(Reply::text(&["Once."]));
    let server = Setup::new().openai(&model).start();
    let client = server.client();
    let mut body = talk(&["user: a"]);
    body["idempotency_key"] = json!("k");
    let first = client.post(PATH, &body).await.expect(200).json();
    assert_eq!(client.post(PATH, &body).await.expect(200).json()["id"], first["id"]);
    client.send(Ask::new("POST", PATH).header("idempotency-key", "another").json(&body)).await.expect(400);
    assert_eq!(model.seen().len(), 1, "the model was asked once");
}

/// It did nothing, and the model was asked again.
#[tokio::test]
async fn a_plain_model_keeps_nothing_that_a_key_could_find_and_says_so() {
    let model = Scripted::start();
    model.always(Reply::text(&["ok"]));
    let server = Setup::new().openai(&model).start();
    let client = server.client();
    let body = json!({"model": "scripted", "messages": [{"role": "user", "content": "a"}]});
    let mut named = body.clone();
    named["idempotency_key"] = json!("k");
    let asks = [Ask::new("POST", PATH).header("idempotency-key", "k").json(&body), Ask::new("POST", PATH).json(&named)];
    for ask in asks {
        let error = client.send(ask).await.expect(400).json();
        assert_eq!((&error["error"]["param"], &error["error"]["code"]), (&json!("idempotency_key"), &json!("bad_request")), "{error}");
        assert!(error["error"]["message"].as_str().unwrap().contains("oxios"), "{error}");
    }
    assert!(model.seen().is_empty(), "the model was not asked");
    // The agent's is as long as any label.
    for (bytes, status) in [(0, 400), (257, 400), (256, 200)] {
        client.send(Ask::new("POST", PATH).header("idempotency-key", "k".repeat(bytes)).json(&talk(&["user: a"]))).await.expect(status);
    }
}

#[tokio::test]
async fn a_process_that_dies_during_the_answer_leaves_the_history_with_its_message() {
    let model = Scripted::start();
    let gate = Gate::new();
    model.next(Reply::text(&["Half"]).wait(&gate).say("way")).next(Reply::text(&["Whole."]));
    let mut server = Setup::new().openai(&model).start();
    let mut body = talk(&["user: a", "assistant: b", "user: c"]);
    body["stream"] = json!(true);
    let ask = || Ask::new("POST", PATH).header("idempotency-key", "k").json(&body);
    let mut events = Sse::new(server.client().open(ask()).await);
    gate.reached(1).await;
    let session = events.next().await.unwrap().json()["metadata"]["session_id"].as_str().unwrap().to_owned();
    server.kill9();
    gate.open_for_good();
    server.restart();
    let client = server.client();
    let mut last = Value::Null;
    let mut events = Sse::new(client.open(ask()).await);
    while let Some(event) = events.next().await {
        last = event.json();
    }
    assert_eq!(last["error"]["code"], "interrupted", "the retry finds what became of the first attempt: {last}");
    let next = json!({"model": "oxios", "metadata": {"session_id": session}, "messages": [{"role": "user", "content": "d"}]});
    assert_eq!(complete(&client, &next).await["choices"][0]["message"]["content"], "Whole.");
    let lines = told(&model.seen()[1].body);
    assert_eq!(lines[..3], ["user: a", "assistant: b", "user: c"], "{lines:?}");
}

#[tokio::test]
async fn what_a_history_may_not_hold_is_refused_by_name_and_leaves_nothing() {
    let server = Setup::new().start();
    let client = server.client();
    let call = json!([{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]);
    let mut calls = talk(&["user: a", "assistant: b", "user: c"]);
    calls["messages"][1] = json!({"role": "assistant", "content": null, "tool_calls": call});
    let mut image = talk(&["user: a", "assistant: b", "user: c"]);
    image["messages"][0]["content"] = json!([{"type": "image_url", "image_url": {"url": "x"}}]);
    let many: Vec<&str> = std::iter::repeat_n("user: a", 2049).collect();
    let long = format!("user: {}", "x".repeat(40 * 1024));
    let system = format!("system: {}", "x".repeat(8 * 1024 + 1));
    for (body, status, place) in [
        (calls, 400, "messages[1]"),
        (image, 400, "messages[0].content[0]"),
        (talk(&["user: a", "tool: b", "user: c"]), 400, "messages[1]"),
        (talk(&["user: a", "robot: b", "user: c"]), 400, "messages[1].role"),
        (talk(&["user: a", "assistant: b"]), 400, "messages[1].role"),
        (talk(&["user: a", "assistant: b", "user:  "]), 400, "messages[2].content"),
        (talk(&["system: s"]), 400, "messages[0].role"),
        (talk(&many), 400, "messages"),
        (talk(&[&long, &long]), 413, "messages[1].content"),
        (talk(&[&system, "user: a"]), 413, "messages"),
    ] {
        assert_eq!(refused(&client, &body, status).await["param"], place);
    }
    assert_eq!(client.get("/api/sessions").await.expect(200).json()["total"], 0);
    // A long conversation within the limits is taken whole.
    let text = format!("user: {}", "x".repeat(3000));
    let answer = format!("assistant: {}", "y".repeat(3000));
    let lines: Vec<&str> = (0..1000).map(|n| if n % 2 == 0 { text.as_str() } else { answer.as_str() }).chain(["user: hello"]).collect();
    let session = complete(&client, &talk(&lines)).await["metadata"]["session_id"].as_str().unwrap().to_owned();
    let detail = client.get(&format!("/api/sessions/{session}")).await.expect(200).json();
    assert_eq!(detail["agent_responses"].as_array().unwrap().len(), 501);
}
