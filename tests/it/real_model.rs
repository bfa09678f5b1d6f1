//! A real model: llama.cpp's own server with SmolLM2-135M. Asserts what must hold for any model, never what it says.

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::model::{RealModel, skip};
use crate::support::server::{Server, Setup};
use crate::support::ws::Ws;

fn openai(model: &RealModel) -> Setup {
    Setup::new()
        .env("OXIOS_ENGINE__DEFAULT_MODEL", "openai/smollm2")
        .env("OPENAI_BASE_URL", format!("http://{}/v1", model.address))
        .env("OXIOS_ENGINE__MAX_TOKENS", "120")
        .env("OXIOS_ENGINE__CONTEXT_TOKENS", "4096")
}

async fn records(client: &Client, session: &str) -> Vec<Value> {
    client.sse(&format!("/api/sessions/{session}/events?after=0&until=idle")).await.rest().await
}

/// One turn by socket: tokens arrive one by one, and joined they are the final text.
async fn turn(socket: &mut Ws, content: &str, session: Option<&str>) -> Value {
    socket.say(content, session).await;
    let frames = socket.until("done").await;
    let tokens: Vec<&str> = frames.iter().filter(|f| f["type"] == "token").map(|f| f["content"].as_str().unwrap()).collect();
    let done = frames.last().unwrap().clone();
    assert_eq!(done["outcome"], "done", "{frames:#?}");
    assert_eq!(done["text"], tokens.concat());
    assert!(!tokens.is_empty(), "{frames:#?}");
    done
}

async fn conversation(server: &Server, what: &str) {
    let client = server.client();
    let mut socket = Ws::chat(&client).await;
    let first = turn(&mut socket, "Write a short story about a lighthouse keeper and the sea.", None).await;
    let session = first["session_id"].as_str().unwrap();
    let second = turn(&mut socket, "And how does it end?", Some(session)).await;
    assert_eq!(second["session_id"], first["session_id"]);
    let records = records(&client, session).await;
    let usage: Vec<_> = records.iter().filter(|r| r["kind"] == "usage").collect();
    assert!(usage.len() >= 2, "{what}: usage of each call: {records:#?}");
    for used in &usage {
        assert!(used["input_tokens"].as_u64().unwrap() > 0 && used["output_tokens"].as_u64().unwrap() > 0, "{what}: {used}");
    }
    assert!(usage[1]["input_tokens"].as_u64() > usage[0]["input_tokens"].as_u64(), "{what}: the second call carries the first turn");
    let detail = client.get(&format!("/api/sessions/{session}")).await.expect(200).json();
    assert_eq!(detail["agent_responses"][1]["content"], second["text"]);
}

#[tokio::test]
async fn a_real_model_streams_and_remembers_in_both_wire_formats() {
    let Some(model) = RealModel::shared() else { return skip("a_real_model_streams", "llama.cpp") };
    conversation(&openai(model).start(), "openai").await;
    let anthropic = Setup::new()
        .env("OXIOS_ENGINE__DEFAULT_MODEL", "anthropic/smollm2")
        .env("OXIOS_ENGINE__BASE_URL", format!("http://{}/v1", model.address))
        .env("ANTHROPIC_API_KEY", "none")
        .env("OXIOS_ENGINE__MAX_TOKENS", "120");
    conversation(&anthropic.start(), "anthropic").await;
}

#[tokio::test]
async fn tokens_of_a_real_model_come_one_by_one() {
    let Some(model) = RealModel::shared() else { return skip("tokens_of_a_real_model", "llama.cpp") };
    let server = openai(model).start();
    let mut socket = Ws::chat(&server.client()).await;
    socket.say("Tell me a long story about a dragon and a mountain village.", None).await;
    let frames = socket.until("done").await;
    let tokens: Vec<_> = frames.iter().filter(|f| f["type"] == "token").collect();
    let words = frames.last().unwrap()["text"].as_str().unwrap().split_whitespace().count();
    // Joined for up to 20 ms at 60 to 130 tokens a second, there are still many.
    assert!(words < 20 || tokens.len() >= 10, "{} pieces for {words} words", tokens.len());
}

#[tokio::test]
async fn cancel_stops_the_generation_in_the_real_server() {
    // Its own server: slots of the shared one may be busy with other tests.
    let Some(model) = RealModel::start() else { return skip("cancel_stops_the_generation", "llama.cpp") };
    let server = openai(&model).env("OXIOS_ENGINE__MAX_TOKENS", "3000").start();
    let client = server.client();
    let mut socket = Ws::chat(&client).await;
    let accepted = socket.say("Count from one to one thousand in words, and never stop before.", None).await;
    socket.until("token").await;
    let busy = model.busy().await;
    client.post_empty(&format!("/api/chat/{}/cancel", accepted["id"].as_str().unwrap())).await.expect(200);
    let done = socket.until("done").await.pop().unwrap();
    assert_eq!(done["outcome"], "cancelled");
    assert_eq!(busy, 1, "it was generating");
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while model.busy().await > 0 {
        assert!(std::time::Instant::now() < until, "the model goes on generating after the cancel");
    }
}

#[tokio::test]
async fn killing_the_model_server_mid_answer_fails_with_the_partial_text() {
    let Some(mut model) = RealModel::start() else { return skip("killing_the_model_server", "llama.cpp") };
    let server = openai(&model).env("OXIOS_ENGINE__MAX_TOKENS", "3000").start();
    let client = server.client();
    let mut socket = Ws::chat(&client).await;
    socket.say("Write a very long poem about rivers, with many verses.", None).await;
    let seen = socket.until("token").await;
    model.kill();
    let frames = socket.until("done").await;
    let done = frames.last().unwrap();
    assert_eq!(done["outcome"], "failed");
    let text: String = seen.iter().chain(&frames).filter(|f| f["type"] == "token").map(|f| f["content"].as_str().unwrap()).collect();
    assert_eq!(done["text"], text, "the partial text is kept");
    assert!(!text.is_empty());
    // And with the server gone the next message is a clear error.
    let error = client.post("/api/chat", &json!({"content": "hello?"})).await.expect(502).error();
    assert!(!error.is_empty());
}

#[tokio::test]
async fn a_bad_model_name_is_a_clear_error() {
    let Some(model) = RealModel::shared() else { return skip("a_bad_model_name", "llama.cpp") };
    // llama.cpp takes any name for its one model; the path below is what it does not have.
    let server = openai(model).env("OPENAI_BASE_URL", format!("http://{}/nothing/v1", model.address)).start();
    let answer = server.client().post("/api/chat", &json!({"content": "hello"})).await.expect(502);
    assert!(answer.error().contains("model"), "{}", answer.text());
}

/// A 135M model answers nonsense to structured prompts: everything degrades to an answer, nothing to a crash.
#[tokio::test]
async fn nonsense_of_a_tiny_model_degrades_to_an_answer() {
    let Some(model) = RealModel::shared() else { return skip("nonsense_of_a_tiny_model", "llama.cpp") };
    let server = openai(model).start();
    let client = server.client();
    for content in ["Write a file notes.txt with three facts about bees.", "{}", "Make a plan, do it, and check it."] {
        let answer = client.post("/api/chat", &json!({"content": content})).await;
        assert!(matches!(answer.status, 200 | 202), "{content}: {} {}", answer.status, answer.text());
    }
    client.get("/health").await.expect(200);
}
