//! Runs as agents (API A6): how each is, over a restart too; killing one really stops its model; the counts are true.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::scripted::{Do, Gate, Reply, Scripted};
use crate::support::server::Setup;

const SESSION: &str = "0f3ae2a4-9c1b-4f6e-8d57-1f2e3d4c5a01";
const NOBODY: &str = "00000000-0000-4000-8000-000000000000";

/// `name:status` of every agent, newest first.
async fn agents(client: &Client) -> Vec<String> {
    let list = client.get("/api/agents").await.expect(200).json();
    let items = list["items"].as_array().unwrap();
    assert_eq!(list["total"], items.len());
    items.iter().map(|a| format!("{}:{}", a["name"].as_str().unwrap(), a["status"].as_str().unwrap())).collect()
}

async fn newest(client: &Client) -> Value {
    client.get("/api/agents?limit=1").await.expect(200).json()["items"][0].clone()
}

async fn counts(client: &Client) -> [u64; 3] {
    let status = client.get("/api/status").await.expect(200).json();
    ["total_forked", "total_completed", "total_failed"].map(|name| status["components"]["agents"][name].as_u64().unwrap())
}

/// Waits for the agents to be so: the end of a run is told a moment before its agent is over.
async fn become_so(client: &Client, wanted: &[&str]) {
    let so = async {
        while agents(client).await != wanted {
            tokio::task::yield_now().await;
        }
    };
    let in_time = tokio::time::timeout(std::time::Duration::from_secs(20), so).await;
    assert!(in_time.is_ok(), "{:?}, not {wanted:?}", agents(client).await);
}

#[tokio::test]
async fn the_life_of_an_agent_is_kept_over_a_restart_and_its_counts_are_true() {
    let mut server = Setup::new().start();
    let client = server.client();
    assert_eq!(agents(&client).await, [""; 0]);
    client.post("/api/chat", &json!({"content": "hello"})).await.expect(200);
    let asked = client.post("/api/chat", &json!({"content": "write a.md: text", "session_id": SESSION})).await.expect(202).json();
    become_so(&client, &["task:idle", "chat:stopped"]).await;
    let idle = newest(&client).await;
    assert_eq!((&idle["session_id"], &idle["message_id"]), (&json!(SESSION), &asked["id"]));
    client.get(&format!("/api/seeds/{}", idle["seed_id"].as_str().unwrap())).await.expect(200);
    assert_eq!(counts(&client).await, [2, 1, 0]);

    server.restart();
    let client = server.client();
    become_so(&client, &["task:idle", "chat:stopped"]).await;
    assert_eq!((newest(&client).await, counts(&client).await), (idle, [2, 1, 0]));
    let approval = asked["approval"]["id"].as_str().unwrap();
    client.post_empty(&format!("/api/approvals/{approval}/approve")).await.expect(200);
    become_so(&client, &["task:stopped", "chat:stopped"]).await;
    assert_eq!(counts(&client).await, [2, 2, 0]);

    server.signal(Signal::KILL);
    server.restart();
    become_so(&server.client(), &["task:stopped", "chat:stopped"]).await;
    assert_eq!(counts(&server.client()).await, [2, 2, 0]);
}

#[tokio::test]
async fn who_was_running_when_the_process_was_killed_has_failed() {
    let (model, gate) = (Scripted::start(), Gate::new());
    model.next(Reply::new().say("half ").wait(&gate).say("never"));
    let mut server = Setup::new().openai(&model).start();
    let client = server.client();
    let other = client.clone();
    let lost = tokio::spawn(async move {
        other.open(crate::support::client::Ask::new("POST", "/api/chat").json(&json!({"content": "hi", "session_id": SESSION}))).await
    });
    gate.reached(1).await;
    become_so(&client, &["chat:running"]).await;
    server.kill9();
    lost.abort();
    server.restart();
    let client = server.client();
    become_so(&client, &["chat:failed"]).await;
    assert_eq!(counts(&client).await, [1, 0, 1]);
    // The session's own end is the same one: nobody counts it again.
    client.sse(&format!("/api/sessions/{SESSION}/events?after=0&until=idle")).await.rest().await;
    assert_eq!((agents(&client).await, counts(&client).await), (vec!["chat:failed".to_owned()], [1, 0, 1]));
    gate.open_for_good();
}

#[tokio::test]
async fn kill_closes_the_connection_to_the_model_and_nothing_else() {
    let (model, gate) = (Scripted::start(), Gate::new());
    model.next(Reply::new().say("half ").wait(&gate).then(Do::Stall));
    let server = Setup::new().openai(&model).start();
    let client = server.client();
    let other = client.clone();
    let answer = tokio::spawn(async move { other.post("/api/chat", &json!({"content": "hi", "session_id": SESSION})).await });
    gate.reached(1).await;
    gate.open_for_good();
    let agent = newest(&client).await["id"].as_str().unwrap().to_owned();
    for (id, status) in [(NOBODY, 404), ("x", 400)] {
        client.post_empty(&format!("/api/agents/{id}/kill")).await.expect(status);
    }
    let killed = client.post_empty(&format!("/api/agents/{agent}/kill")).await.expect(200);
    assert_eq!(killed.text(), "");
    model.request(1).await.cut().await;
    answer.await.unwrap().expect(409);
    become_so(&client, &["chat:stopped"]).await;
    client.post_empty(&format!("/api/agents/{agent}/kill")).await.expect(404);
    let detail = client.get(&format!("/api/sessions/{SESSION}")).await.expect(200).json();
    assert_eq!(
        (&detail["agent_responses"][0]["content"], &detail["agent_responses"][0]["outcome"]),
        (&json!("half "), &json!("cancelled"))
    );
}
