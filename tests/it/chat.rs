//! `POST /api/chat` (API A3) and what goes with it: idempotency, cancel, lanes, permits, deadline, drain.

use serde_json::{Value, json};

use crate::support::client::{Answer, Ask, Client};
use crate::support::scripted::{Do, Gate, Reply, Scripted};
use crate::support::server::{Server, Setup};
use crate::support::ws::Ws;

/// The documented keys of an answer.
#[track_caller]
fn check_reply(answer: &Value, echo: &str) {
    assert!(uuid::Uuid::try_parse(answer["id"].as_str().unwrap()).is_ok(), "{answer}");
    assert!(uuid::Uuid::try_parse(answer["session_id"].as_str().unwrap()).is_ok(), "{answer}");
    assert_eq!(answer["echo"], echo);
    assert!(answer["reply"].is_string() && answer["space_id"].is_null(), "{answer}");
    assert!(["Interview", "Seed", "Execute", "Evaluate", "Evolve"].contains(&answer["phase"].as_str().unwrap()), "{answer}");
}

async fn say(client: &Client, body: Value) -> Value {
    client.post("/api/chat", &body).await.expect(200).json()
}

/// Sends a message in the background.
fn saying(client: &Client, ask: Ask) -> tokio::task::JoinHandle<Answer> {
    let client = client.clone();
    tokio::spawn(async move { client.send(ask).await })
}

fn chat(body: Value) -> Ask {
    Ask::new("POST", "/api/chat").json(&body)
}

#[tokio::test]
async fn a_message_is_answered_offline_out_of_the_box() {
    let server = Setup::new().start();
    let answer = say(&server.client(), json!({"content": "Hello there"})).await;
    check_reply(&answer, "Hello there");
    assert!(!answer["reply"].as_str().unwrap().trim().is_empty());
    assert_eq!(answer["phase"], "Interview");
    // The alias, and keys nobody knows.
    let answer = say(&server.client(), json!({"message": "Hello again", "user_id": "bob", "whatever": {"a": 1}})).await;
    check_reply(&answer, "Hello again");
}

#[tokio::test]
async fn a_conversation_goes_on_and_the_model_remembers_it() {
    let model = Scripted::start();
    model.next(Reply::text(&["The capital", " is Paris."])).next(Reply::text(&["About two million."]));
    let server = Setup::new().openai(&model).start();
    let client = server.client();
    let first = say(&client, json!({"content": "What is the capital of France?"})).await;
    assert_eq!(first["reply"], "The capital is Paris.");
    let second = say(&client, json!({"content": "How many people?", "session_id": first["session_id"]})).await;
    assert_eq!(second["reply"], "About two million.");
    assert_eq!(second["session_id"], first["session_id"]);
    assert_ne!(second["id"], first["id"]);
    // A conversational answer needs one model call.
    let seen = model.seen();
    assert_eq!(seen.len(), 2);
    let told = seen[1].told();
    for part in ["What is the capital of France?", "The capital is Paris.", "How many people?"] {
        assert_eq!(told.matches(part).count(), 1, "{part:?} once in {told}");
    }
    assert!(told.find("capital of France").unwrap() < told.find("The capital is Paris.").unwrap());
    assert_eq!(seen[0].header("authorization"), Some(format!("Bearer {}", crate::support::server::MODEL_KEY).as_str()));
}

#[tokio::test]
async fn the_same_conversation_works_with_the_anthropic_format() {
    let model = Scripted::start();
    model.next(Reply::text(&["Hel", "lo."])).next(Reply::text(&["Again."]));
    let server = Setup::new().anthropic(&model).start();
    let first = say(&server.client(), json!({"content": "Good morning"})).await;
    assert_eq!(first["reply"], "Hello.");
    let second = say(&server.client(), json!({"content": "And again", "session_id": first["session_id"]})).await;
    assert_eq!(second["reply"], "Again.");
    let seen = model.seen();
    assert_eq!(seen[1].path, "/v1/messages");
    assert_eq!(seen[1].header("x-api-key"), Some(crate::support::server::MODEL_KEY));
    assert!(seen[1].header("anthropic-version").is_some());
    assert!(seen[1].told().contains("Good morning") && seen[1].told().contains("Hello."));
}

#[tokio::test]
async fn an_unknown_session_id_is_created_as_it_is() {
    let server = Setup::new().start();
    let id = "0f3ae2a4-9c1b-4f6e-8d57-1f2e3d4c5b6a";
    let answer = say(&server.client(), json!({"content": "hello", "session_id": id})).await;
    assert_eq!(answer["session_id"], id);
    let fresh = say(&server.client(), json!({"content": "hello", "session_id": ""})).await;
    assert_ne!(fresh["session_id"], id);
    let other = say(&server.client(), json!({"content": "hello", "session_id": null})).await;
    assert_ne!(other["session_id"], fresh["session_id"]);
    let named = say(&server.client(), json!({"content": "hello", "metadata": {"session_id": id}})).await;
    assert_eq!(named["session_id"], id);
}

#[tokio::test]
async fn the_first_token_is_seen_while_the_model_is_still_at_work() {
    let model = Scripted::start();
    let gate = Gate::new();
    model.next(Reply::text(&["Hel"]).wait(&gate).say("lo"));
    let server = Setup::new().openai(&model).start();
    let client = server.client();
    let id = "0f3ae2a4-9c1b-4f6e-8d57-1f2e3d4c5b6b";
    let post = saying(&client, chat(json!({"content": "hi", "session_id": id})));
    gate.reached(1).await;
    let mut events = client.sse(&format!("/api/sessions/{id}/events")).await;
    let upto = events.until(|r| r["kind"] == "token").await;
    assert_eq!(upto.last().unwrap()["text"], "Hel");
    gate.open();
    let rest = events.until(|r| r["kind"] == "done").await;
    assert_eq!(rest.last().unwrap()["text"], "Hello");
    assert_eq!(post.await.unwrap().expect(200).json()["reply"], "Hello");
}

#[tokio::test]
async fn the_same_idempotency_key_is_the_same_message() {
    let model = Scripted::start();
    model.next(Reply::text(&["Once."]));
    let mut server = Setup::new().openai(&model).start();
    let client = server.client();
    let ask = |body: Value| chat(body).header("idempotency-key", "order-66");
    let first = client.send(ask(json!({"content": "do it"}))).await.expect(200).json();
    let again = client.send(ask(json!({"content": "do it"}))).await.expect(200).json();
    assert_eq!(first, again);
    client.send(ask(json!({"content": "do something else"}))).await.expect(409);
    client.send(ask(json!({"content": "do it", "user_id": "another"}))).await.expect(409);
    // The key in the body is the same key; two that differ are one too many.
    let body = client.post("/api/chat", &json!({"content": "do it", "idempotency_key": "order-66"})).await.expect(200).json();
    assert_eq!(body, first);
    client.send(ask(json!({"content": "do it", "idempotency_key": "order-67"}))).await.expect(400);
    // Also after a restart, kill −9 included.
    server.kill9();
    server.restart();
    let after = server.client().send(ask(json!({"content": "do it"}))).await.expect(200).json();
    assert_eq!(after, first);
    assert_eq!(model.seen().len(), 1, "the model was asked once");
    server.client().delete(&format!("/api/sessions/{}", first["session_id"].as_str().unwrap())).await.expect(200);
    server.client().send(ask(json!({"content": "do it"}))).await.expect(404);
}

/// What a message named may be gone when it is sent again: its answer is not.
#[tokio::test]
async fn a_retry_finds_its_answer_whatever_became_of_what_it_named() {
    let server = Setup::new().start();
    let client = server.client();
    let space = client.post("/api/spaces", &json!({"name": "work"})).await.expect(201).json()["id"].clone();
    client.send(Ask::new("PUT", "/api/workspace/file/a.txt").body(b"text".to_vec())).await.expect(200);
    let ask = || chat(json!({"content": "hello", "space_id": space, "attachments": ["a.txt"]})).header("idempotency-key", "k");
    let first = client.send(ask()).await.expect(200).json();
    client.delete("/api/workspace/file/a.txt").await.expect(200);
    client.post_empty(&format!("/api/spaces/{}/archive", space.as_str().unwrap())).await.expect(200);
    assert_eq!(client.send(ask()).await.expect(200).json(), first);
    client.send(ask().header("idempotency-key", "k")).await.expect(200);
    client.send(chat(json!({"content": "hello", "attachments": ["a.txt"]}))).await.expect(400);
    client.send(chat(json!({"content": "hello", "space_id": space}))).await.expect(409);
}

#[tokio::test]
async fn a_retry_attaches_to_the_run_that_is_under_way() {
    let model = Scripted::start();
    let gate = Gate::new();
    model.next(Reply::text(&["Wait"]).wait(&gate).say(" for it."));
    let server = Setup::new().openai(&model).start();
    let client = server.client();
    let ask = || chat(json!({"content": "slow one"})).header("idempotency-key", "k");
    let first = saying(&client, ask());
    gate.reached(1).await;
    let second = saying(&client, ask());
    // The second one has been accepted when a third, other one on the same connection path is refused for its body.
    client.send(chat(json!({"content": "other"})).header("idempotency-key", "k")).await.expect(409);
    gate.open();
    let (first, second) = (first.await.unwrap().expect(200).json(), second.await.unwrap().expect(200).json());
    assert_eq!(first, second);
    assert_eq!(first["reply"], "Wait for it.");
    assert_eq!(model.seen().len(), 1);
}

#[tokio::test]
async fn cancel_stops_the_model_and_keeps_the_partial_text() {
    let model = Scripted::start();
    let gate = Gate::new();
    model.next(Reply::text(&["Partial", " text"]).wait(&gate).say(" never sent"));
    let server = Setup::new().openai(&model).start();
    let client = server.client();
    let session = "0f3ae2a4-9c1b-4f6e-8d57-1f2e3d4c5b6c";
    let post = saying(&client, chat(json!({"content": "go on", "session_id": session})));
    gate.reached(1).await;
    let mut events = client.sse(&format!("/api/sessions/{session}/events")).await;
    let mut text = String::new();
    let mut id = String::new();
    while text != "Partial text" {
        let record = events.json().await;
        id = record["message_id"].as_str().unwrap().to_owned();
        if record["kind"] == "token" {
            text += record["text"].as_str().unwrap();
        }
    }
    let answer = client.post_empty(&format!("/api/chat/{id}/cancel")).await.expect(200).json();
    assert_eq!(answer, json!({"status": "cancelled", "id": id}));
    model.request(1).await.cut().await;
    let end = events.until(|r| r["kind"] == "cancelled").await.pop().unwrap();
    assert_eq!(end["text"], "Partial text");
    post.await.unwrap().expect(409).error();
    client.post_empty(&format!("/api/chat/{id}/cancel")).await.expect(409);
    client.post_empty("/api/chat/67e55044-10b1-426f-9247-bb680e5fe0c8/cancel").await.expect(404);
    let detail = client.get(&format!("/api/sessions/{session}")).await.expect(200).json();
    assert_eq!(detail["agent_responses"][0]["content"], "Partial text");
    assert_eq!(detail["agent_responses"][0]["outcome"], "cancelled");
}

/// DESIGN §2: a run does not know whether anyone reads.
#[tokio::test]
async fn a_client_that_goes_away_cancels_nothing() {
    let model = Scripted::start();
    let gate = Gate::new();
    model.next(Reply::text(&["still"]).wait(&gate).say(" here"));
    let server = Setup::new().openai(&model).start();
    let client = server.client();
    let session = "0f3ae2a4-9c1b-4f6e-8d57-1f2e3d4c5b6d";
    let post = saying(&client, chat(json!({"content": "go on", "session_id": session})));
    gate.reached(1).await;
    post.abort();
    let _ = post.await;
    let mut events = client.sse(&format!("/api/sessions/{session}/events")).await;
    gate.open();
    let end = events.until(|r| r["kind"] == "done").await.pop().unwrap();
    assert_eq!(end["text"], "still here");
}

#[tokio::test]
async fn messages_of_one_session_are_answered_one_after_the_other() {
    let model = Scripted::start();
    let gate = Gate::new();
    model.next(Reply::text(&["one"]).wait(&gate)).next(Reply::text(&["two"]));
    let server = Setup::new().openai(&model).start();
    let client = server.client();
    let session = "0f3ae2a4-9c1b-4f6e-8d57-1f2e3d4c5b6e";
    let first = saying(&client, chat(json!({"content": "first", "session_id": session})));
    gate.reached(1).await;
    let second = saying(&client, chat(json!({"content": "second", "session_id": session})));
    let mut events = client.sse(&format!("/api/sessions/{session}/events")).await;
    // The second is accepted (it is on disk) while the first still runs.
    events.until(|r| r["kind"] == "message" && r["content"] == "second").await;
    assert_eq!(model.seen().len(), 1, "the second waits");
    gate.open();
    assert_eq!(first.await.unwrap().expect(200).json()["reply"], "one");
    assert_eq!(second.await.unwrap().expect(200).json()["reply"], "two");
    assert!(model.seen()[1].told().contains("one"), "the second call knows the first answer");
}

#[tokio::test]
async fn a_full_lane_is_429_and_loses_nothing() {
    let model = Scripted::start();
    let gate = Gate::new();
    model.always(Reply::new().wait(&gate).say("ok"));
    let server = Setup::new().openai(&model).start();
    let client = server.client();
    let session = "0f3ae2a4-9c1b-4f6e-8d57-1f2e3d4c5b6f";
    let mut posts: Vec<_> = (0..24).map(|n| saying(&client, chat(json!({"content": format!("m{n}"), "session_id": session})))).collect();
    let mut refused = 0;
    while refused < 7 {
        let (first, _, rest) = futures(posts).await;
        first.expect(429).error();
        refused += 1;
        posts = rest;
    }
    gate.open_for_good();
    for post in posts {
        let answer = post.await.unwrap();
        assert!(matches!(answer.status, 200 | 429), "{} {}", answer.status, answer.text());
        refused += usize::from(answer.status == 429);
    }
    assert!((7..=8).contains(&refused), "16 wait beside the one that runs; refused {refused} of 24");
    let detail = client.get(&format!("/api/sessions/{session}")).await.expect(200).json();
    assert_eq!(detail["user_messages"].as_array().unwrap().len(), 24 - refused);
}

/// The first of these to end, its place, and the others.
async fn futures(mut tasks: Vec<tokio::task::JoinHandle<Answer>>) -> (Answer, usize, Vec<tokio::task::JoinHandle<Answer>>) {
    let (answer, at) = std::future::poll_fn(|cx| {
        for (at, task) in tasks.iter_mut().enumerate() {
            if let std::task::Poll::Ready(answer) = std::pin::Pin::new(task).poll(cx) {
                return std::task::Poll::Ready((answer.unwrap(), at));
            }
        }
        std::task::Poll::Pending
    })
    .await;
    drop(tasks.remove(at));
    (answer, at, tasks)
}

#[tokio::test]
async fn the_lane_policy_reject_refuses_and_interrupt_takes_over() {
    let model = Scripted::start();
    let gate = Gate::new();
    model.next(Reply::text(&["one"]).wait(&gate));
    let server = Setup::new().openai(&model).env("OXIOS_GATEWAY__LANE_POLICY", "reject").start();
    let session = "0f3ae2a4-9c1b-4f6e-8d57-1f2e3d4c5b70";
    let first = saying(&server.client(), chat(json!({"content": "first", "session_id": session})));
    gate.reached(1).await;
    server.client().post("/api/chat", &json!({"content": "second", "session_id": session})).await.expect(429).error();
    gate.open();
    first.await.unwrap().expect(200);

    let gate = Gate::new();
    model.next(Reply::text(&["one"]).wait(&gate)).next(Reply::text(&["two"]));
    let server = Setup::new().openai(&model).env("OXIOS_GATEWAY__LANE_POLICY", "interrupt").start();
    let first = saying(&server.client(), chat(json!({"content": "first", "session_id": session})));
    gate.reached(1).await;
    let second = server.client().post("/api/chat", &json!({"content": "second", "session_id": session})).await.expect(200).json();
    assert_eq!(second["reply"], "two");
    first.await.unwrap().expect(409);
    model.request(2).await.cut().await;
}

#[tokio::test]
async fn runs_of_the_whole_process_are_bounded_and_so_is_waiting() {
    let model = Scripted::start();
    let gate = Gate::new();
    model.next(Reply::text(&["one"]).wait(&gate)).next(Reply::text(&["two"]));
    let server = Setup::new().openai(&model).env("OXIOS_GATEWAY__MAX_CONCURRENT", "1").env("OXIOS_GATEWAY__MAX_WAITING", "1").start();
    let client = server.client();
    let first = saying(&client, chat(json!({"content": "first"})));
    gate.reached(1).await;
    let waiting = "0f3ae2a4-9c1b-4f6e-8d57-1f2e3d4c5b71";
    let second = saying(&client, chat(json!({"content": "second", "session_id": waiting})));
    // The session exists as soon as the message is on disk; a reader waits for that without polling.
    loop {
        let answer = client.get(&format!("/api/sessions/{waiting}")).await;
        if answer.status == 200 {
            break;
        }
    }
    let refused = client.post("/api/chat", &json!({"content": "third"})).await.expect(503);
    assert!(refused.header("retry-after").is_some());
    refused.error();
    gate.open();
    first.await.unwrap().expect(200);
    assert_eq!(second.await.unwrap().expect(200).json()["reply"], "two");
}

#[tokio::test]
async fn a_run_over_its_deadline_is_504_and_keeps_what_it_has() {
    let model = Scripted::start();
    model.next(Reply::text(&["so far"]).then(Do::Stall)).next(Reply::text(&["fine"]));
    let server = Setup::new().openai(&model).env("OXIOS_SECURITY__MAX_EXECUTION_TIME_SECS", "1").start();
    let client = server.client();
    let session = "0f3ae2a4-9c1b-4f6e-8d57-1f2e3d4c5b72";
    client.post("/api/chat", &json!({"content": "think", "session_id": session})).await.expect(504).error();
    let detail = client.get(&format!("/api/sessions/{session}")).await.expect(200).json();
    assert_eq!(detail["agent_responses"][0]["content"], "so far");
    assert_eq!(detail["agent_responses"][0]["outcome"], "failed");
    say(&client, json!({"content": "and now?", "session_id": session})).await;
}

#[tokio::test]
async fn a_ticket_is_good_once_and_for_streams_only() {
    let server = Setup::new().start();
    let client = server.client();
    let session = say(&client, json!({"content": "hello"})).await["session_id"].as_str().unwrap().to_owned();
    let answer = client.post_empty("/api/chat/ticket").await.expect(200).json();
    assert_eq!(answer["expires_in"], 30);
    let ticket = answer["ticket"].as_str().unwrap();
    let stranger = server.stranger();
    stranger.get(&format!("/api/status?ticket={ticket}")).await.expect(401);
    let records = stranger.sse(&format!("/api/sessions/{session}/events?until=idle&ticket={ticket}")).await.rest().await;
    assert_eq!(records.last().unwrap()["kind"], "done");
    stranger.get(&format!("/api/sessions/{session}/events?until=idle&ticket={ticket}")).await.expect(401);
    server.canary(ticket);
}

#[tokio::test]
async fn sigterm_lets_a_running_answer_finish() {
    let model = Scripted::start();
    let gate = Gate::new();
    model.next(Reply::text(&["before"]).wait(&gate).say(" and after"));
    let mut server = Setup::new().openai(&model).start();
    let client = server.client();
    let post = saying(&client, chat(json!({"content": "go"})));
    gate.reached(1).await;
    server.signal(rustix::process::Signal::TERM);
    gate.open();
    assert_eq!(post.await.unwrap().expect(200).json()["reply"], "before and after");
    assert!(server.wait().await.success());
    assert!(!server.home().join("address").exists(), "the address goes with the server");
}

/// API A1: whoever comes while the server drains hears so, and may still look.
#[tokio::test]
async fn while_the_server_drains_new_work_is_refused_with_503_and_looking_goes_on() {
    let model = Scripted::start();
    let gate = Gate::new();
    model.next(Reply::text(&["before"]).wait(&gate).say(" and after"));
    model.always(Reply::text(&["quick"]));
    let mut server = Setup::new().openai(&model).start();
    let client = server.client();
    let session = "0f3ae2a4-9c1b-4f6e-8d57-1f2e3d4c5b75";
    let post = saying(&client, chat(json!({"content": "go", "session_id": session})));
    gate.reached(1).await;
    server.signal(rustix::process::Signal::TERM);
    let refused = async {
        loop {
            // The signal may still be on its way.
            let answer = server.stranger().with_key(Some(server.key())).post("/api/chat", &json!({"content": "hello"})).await;
            if answer.status != 200 {
                return answer;
            }
        }
    };
    let refused = tokio::time::timeout(std::time::Duration::from_secs(20), refused).await.unwrap();
    assert_eq!((refused.status, &refused.json()["error"]), (503, &json!("the server is shutting down")));
    assert!(refused.header("retry-after").is_some() && refused.header("connection") == Some("close"));
    let detail = server.stranger().with_key(Some(server.key())).get(&format!("/api/sessions/{session}")).await.expect(200).json();
    assert_eq!(detail["user_messages"][0]["content"], "go");
    gate.open();
    assert_eq!(post.await.unwrap().expect(200).json()["reply"], "before and after");
    assert!(server.wait().await.success());
}

#[tokio::test]
async fn a_run_that_does_not_finish_in_time_is_interrupted_with_its_text() {
    let model = Scripted::start();
    let gate = Gate::new();
    model.next(Reply::text(&["so far"]).wait(&gate));
    let mut server = Setup::new().openai(&model).env("OXIOS_GATEWAY__DRAIN_SECS", "2").start();
    let client = server.client();
    let session = "0f3ae2a4-9c1b-4f6e-8d57-1f2e3d4c5b73";
    let post = saying(&client, chat(json!({"content": "go", "session_id": session})));
    gate.reached(1).await;
    let mut events = client.sse(&format!("/api/sessions/{session}/events")).await;
    events.until(|r| r["kind"] == "token").await;
    assert!(server.stop().await.success());
    let answer = post.await.unwrap();
    assert_eq!(answer.status, 503, "{}", answer.text());
    server.restart();
    let detail = server.client().get(&format!("/api/sessions/{session}")).await.expect(200).json();
    assert_eq!(detail["agent_responses"][0]["content"], "so far");
    assert_eq!(detail["agent_responses"][0]["outcome"], "interrupted");
}

#[tokio::test]
async fn a_second_signal_ends_at_once_and_nothing_is_lost() {
    let model = Scripted::start();
    let gate = Gate::new();
    model.next(Reply::text(&["so far"]).wait(&gate));
    let mut server = Setup::new().openai(&model).start();
    let session = "0f3ae2a4-9c1b-4f6e-8d57-1f2e3d4c5b74";
    let client = server.client();
    let mut socket = Ws::chat(&client).await;
    socket.say("go", Some(session)).await;
    let upto = socket.until("token").await;
    assert_eq!(upto.last().unwrap()["content"], "so far");
    server.signal(rustix::process::Signal::INT);
    // The drain has begun when the socket is told so or new work is refused; the second signal may come at any time.
    server.signal(rustix::process::Signal::TERM);
    server.wait().await;
    server.restart();
    let detail = server.client().get(&format!("/api/sessions/{session}")).await.expect(200).json();
    assert_eq!(detail["user_messages"][0]["content"], "go");
    assert_eq!(detail["agent_responses"][0]["content"], "so far");
    assert_eq!(detail["agent_responses"][0]["outcome"], "interrupted");
}

#[tokio::test]
async fn one_home_has_one_owner_process() {
    let server = Setup::new().start();
    let output = crate::support::server::command(server.home()).args(["serve", "--listen", "127.0.0.1:0"]).output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains(&server.pid().to_string()), "it says who holds the home: {text}");
    server.client().get("/health").await.expect(200);
}

/// CONVENTIONS: `unix:/path`.
#[tokio::test]
async fn a_unix_socket_serves_the_same() {
    let home = std::sync::Arc::new(crate::support::server::TempDir::new());
    let path = home.path().join("sock");
    let mut server: Server = Setup::new().listen(&format!("unix:{}", path.display())).start_in(home.clone());
    let answer = say(&server.client(), json!({"content": "hello"})).await;
    check_reply(&answer, "hello");
    for args in [&["healthcheck"][..], &["ask", "hello"]] {
        let output = crate::support::server::command(server.home()).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?} finds the socket: {output:?}");
    }
    assert!(server.stop().await.success());
    assert!(!path.exists(), "the socket file goes with the server");
    server.restart();
    server.client().get("/health").await.expect(200);
}

/// THREATS 9: canaries in every input, looked for in every log line when the server ends.
#[tokio::test]
async fn no_content_and_no_secret_is_in_the_log() {
    let model = Scripted::start();
    model.next(Reply::text(&["answer-canary-77aa"])).next(Reply::status(400, r#"{"error":{"message":"prompt-canary-91bc leaked"}}"#));
    let server = Setup::new().openai(&model).env("OXIOS_LOGGING__FORMAT", "json").start();
    for canary in
        ["content-canary-1f2e", "answer-canary-77aa", "user-canary-0c3d", "query-canary-8d8d", "idem-canary-5e5e", "prompt-canary-91bc"]
    {
        server.canary(canary);
    }
    let client = server.client();
    let ask =
        || chat(json!({"content": "content-canary-1f2e", "user_id": "user-canary-0c3d"})).header("idempotency-key", "idem-canary-5e5e");
    client.send(ask()).await.expect(200);
    client.post("/api/chat", &json!({"content": "again content-canary-1f2e"})).await.expect(502);
    client.get("/api/status?x=query-canary-8d8d").await;
    client.get("/api/query-canary-8d8d").await.expect(404);
    client.post("/api/chat", &json!({"content": ["content-canary-1f2e"]})).await.expect(422);
    client.post("/api/chat", &json!(["content-canary-1f2e"])).await.expect(422);
    let mut server = server;
    assert!(server.stop().await.success());
    let log = server.log();
    assert!(log.lines().count() >= 5, "there is an access log: {log}");
    for line in log.lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|e| panic!("a JSON log line: {e}: {line}"));
    }
}

#[tokio::test]
async fn health_status_and_readiness_have_the_documented_shape() {
    let server = Setup::new().start();
    let health = server.stranger().get("/health").await.expect(200).json();
    assert_eq!(health, json!({"status": "ok", "version": env!("CARGO_PKG_VERSION")}));
    let ready = server.stranger().get("/health/ready").await.expect(200).json();
    assert_eq!(ready["status"], "healthy");
    assert!(ready["uptime_secs"].is_u64() && ready["version"].is_string());
    let parts = &ready["components"];
    assert_eq!(parts["state_store"]["healthy"], true);
    assert_eq!(parts["git"]["healthy"], true);
    assert!(parts["memory"]["healthy"] == true && parts["memory"]["index_size"].is_u64() && parts["memory"]["total_entries"].is_u64());
    say(&server.client(), json!({"content": "hello"})).await;
    // The answer leaves with the terminal record; the books are closed right behind it.
    let until = std::time::Instant::now() + crate::support::client::PATIENCE;
    let status = loop {
        let status = server.client().get("/api/status").await.expect(200).json();
        if status["components"]["agents"]["total_completed"] == 1 {
            break status;
        }
        assert!(std::time::Instant::now() < until, "the run is counted: {status}");
    };
    assert_eq!(status["service"], "oxios");
    assert_eq!(status["status"], "running");
    assert_eq!(status["channels"], json!(["web"]));
    assert!(status["uptime"].is_string() && status["version"].is_string());
    let parts = &status["components"];
    assert_eq!(parts["state_store"], json!({"healthy": true, "detail": null}));
    assert_eq!(parts["event_bus"], json!({"healthy": true, "detail": null}));
    assert!(parts["memory"]["enabled"].is_boolean());
    for count in ["active_count", "total_forked", "total_completed", "total_failed"] {
        assert!(parts["agents"][count].is_u64(), "{count} in {status}");
    }
    assert!(parts["spaces_active"].is_u64());
}

/// Nobody is told of a file that is not there: not the model, and not the log.
#[tokio::test]
async fn attachments_are_files_of_the_workspace_or_the_message_is_refused() {
    let model = Scripted::start();
    model.next(Reply::text(&["read"]));
    let server = Setup::new().openai(&model).start();
    let client = server.client();
    for path in ["notes/a.md", "b.md"] {
        client.send(Ask::new("PUT", format!("/api/workspace/file/{path}")).body(b"x".to_vec())).await.expect(200);
    }
    for (paths, at) in [
        (json!(["b.md", "missing.md"]), 1),
        (json!(["../x"]), 0),
        (json!(["/etc/passwd"]), 0),
        (json!(["notes"]), 0),
        (json!(["b.md", "notes/a.md", "notes/../../x"]), 2),
    ] {
        let error = client.post("/api/chat", &json!({"content": "see", "attachments": paths})).await.expect(400).error();
        assert!(error.contains(&format!("attachments[{at}]")) && !error.contains("missing") && !error.contains("passwd"), "{error}");
        let mut socket = Ws::chat(&client).await;
        socket.send(&json!({"type": "message", "content": "see", "attachments": paths})).await;
        assert_eq!(socket.json().await["type"], "error");
    }
    assert_eq!(client.get("/api/sessions").await.expect(200).json()["total"], 0);
    client.post("/api/chat", &json!({"content": "see", "attachments": ["notes/a.md", "b.md"]})).await.expect(200);
    assert!(model.seen()[0].told().contains("notes/a.md, b.md"));
}

/// RFC 7240 §4.1: a page that follows the session's events need not hold a second connection for the answer.
#[tokio::test]
async fn who_prefers_not_to_wait_is_told_at_once_that_it_is_accepted() {
    let server = Setup::new().start();
    let session = "67e55044-10b1-426f-9247-bb680e5fe0c8";
    let ask = Ask::new("POST", "/api/chat")
        .header("prefer", "respond-async, wait=1")
        .json(&json!({"content": "count to 3", "session_id": session}));
    let told = server.client().send(ask).await.expect(202).json();
    assert_eq!((&told["status"], &told["session_id"]), (&json!("accepted"), &json!(session)));
    let events = server.client().get(&format!("/api/sessions/{session}/events?until=done")).await.expect(200);
    assert!(events.text().contains("\"kind\":\"done\"") && events.text().contains(told["id"].as_str().unwrap()), "{}", events.text());
}
