//! `/v1`: what OpenAI's clients send and get.

use serde_json::{Value, json};

use crate::support::client::{Answer, Ask, Client};
use crate::support::scripted::{Gate, Reply, Scripted};
use crate::support::server::Setup;
use crate::support::sse::Sse;

/// Where completions are made.
pub const PATH: &str = "/v1/chat/completions";

fn user(model: &str, text: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": text}]})
}

/// A whole answer.
pub async fn complete(client: &Client, body: &Value) -> Value {
    client.post(PATH, body).await.expect(200).json()
}

/// A refusal in OpenAI's shape.
pub async fn refused(client: &Client, body: &Value, status: u16) -> Value {
    let error = client.post(PATH, body).await.expect(status).json()["error"].clone();
    assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{error}");
    error
}

/// All chunks of a stream, which ends with `[DONE]`.
async fn chunks(client: &Client, body: &Value) -> Vec<Value> {
    let mut events = Sse::new(client.open(Ask::new("POST", PATH).json(body)).await);
    let mut chunks = Vec::new();
    while let Some(event) = events.next().await {
        if event.data == "[DONE]" {
            assert!(events.next().await.is_none(), "nothing follows [DONE]");
            return chunks;
        }
        chunks.push(event.json());
    }
    panic!("no [DONE] after {chunks:?}");
}

fn text(chunks: &[Value]) -> String {
    chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect()
}

fn streamed(mut body: Value) -> Value {
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    body
}

#[tokio::test]
async fn the_agent_goes_on_with_its_session_also_after_a_restart() {
    let model = Scripted::start();
    model.next(Reply::text(&["It is ", "Paris."])).next(Reply::text(&["Two million."])).next(Reply::text(&["Lyon."]));
    let mut server = Setup::new().openai(&model).start();
    let client = server.client();
    let first = complete(&client, &user("oxios", "What is the capital of France?")).await;
    assert_eq!((&first["object"], &first["model"]), (&json!("chat.completion"), &json!("oxios")), "{first}");
    let choice = &first["choices"][0];
    assert_eq!((&choice["message"]["content"], &choice["finish_reason"]), (&json!("It is Paris."), &json!("stop")), "{first}");
    assert_eq!(choice["message"]["role"], "assistant");
    assert!(first["usage"]["total_tokens"].as_u64().is_some_and(|n| n > 0), "{first}");
    let session = first["metadata"]["session_id"].clone();

    server.restart();
    let client = server.client();
    let mut again = json!({"model": "oxios", "metadata": {"session_id": session}, "messages": [
        {"role": "system", "content": "ignored"}, {"role": "user", "content": "old"}, {"role": "assistant", "content": "older"},
        {"role": "user", "content": [{"type": "text", "text": "How many"}, {"type": "text", "text": "people?"}]}]});
    let second = complete(&client, &again).await;
    assert_eq!(second["choices"][0]["message"]["content"], "Two million.");
    assert_eq!(second["metadata"]["session_id"], session);
    let told = model.seen()[1].told();
    assert!(told.contains("capital of France") && told.contains("How manypeople?") && !told.contains("older"), "{told}");

    again = streamed(again);
    let all = chunks(&client, &again).await;
    assert_eq!((text(&all), &all[0]["choices"][0]["delta"]["role"]), ("Lyon.".to_owned(), &json!("assistant")));
    assert!(all.iter().all(|chunk| chunk["object"] == "chat.completion.chunk" && chunk["metadata"]["session_id"] == session));
    let last = &all[all.len() - 1];
    assert!(last["choices"].as_array().unwrap().is_empty() && last["usage"]["prompt_tokens"].is_u64(), "{last}");
    assert_eq!(all[all.len() - 2]["choices"][0]["finish_reason"], "stop");
    let detail = client.get(&format!("/api/sessions/{}", session.as_str().unwrap())).await.expect(200).json();
    assert_eq!(detail["agent_responses"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn the_agent_says_what_it_does_not_take_and_whom_it_waits_for() {
    let server = Setup::new().start();
    let client = server.client();
    let mut tools = user("oxios", "hi");
    tools["tools"] = json!([{"type": "function", "function": {"name": "f"}}]);
    assert_eq!(refused(&client, &tools, 400).await["param"], "tools");
    let mut session = user("oxios", "hi");
    session["metadata"] = json!({"session_id": "../etc"});
    refused(&client, &session, 400).await;

    for body in [user("oxios", "write a.md: text"), streamed(user("oxios", "write b.md: text"))] {
        let said = if body["stream"] == true {
            text(&chunks(&client, &body).await)
        } else {
            complete(&client, &body).await["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
        };
        assert!(said.contains("/api/approvals/") && said.contains("write_file"), "{said}");
    }
    assert_eq!(client.get("/api/approvals").await.expect(200).json().as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_client_that_goes_away_stops_a_plain_call_but_not_the_agent() {
    let model = Scripted::start();
    let gate = Gate::new();
    model.next(Reply::text(&["Hel"]).wait(&gate).say("lo"));
    let server = Setup::new().openai(&model).start();
    let client = server.client();
    let mut body = streamed(user("scripted", "hi"));
    let mut events = Sse::new(client.open(Ask::new("POST", PATH).json(&body)).await);
    gate.reached(1).await;
    events.next().await.unwrap();
    drop(events);
    model.seen()[0].cut().await;

    model.next(Reply::text(&["Hel"]).wait(&gate).say("lo"));
    let session = "0f3ae2a4-9c1b-4f6e-8d57-1f2e3d4c5b77";
    body = streamed(user("oxios", "hi"));
    body["metadata"] = json!({"session_id": session});
    let mut events = Sse::new(client.open(Ask::new("POST", PATH).json(&body)).await);
    gate.reached(2).await;
    events.next().await.unwrap();
    drop(events);
    gate.open_for_good();
    let mut log = client.sse(&format!("/api/sessions/{session}/events")).await;
    let done = log.until(|record| record["kind"] == "done").await;
    assert_eq!(done.last().unwrap()["text"], "Hello");
}

#[tokio::test]
async fn the_plain_model_gets_tools_and_answers_with_calls() {
    let model = Scripted::start();
    let weather = Reply::tool("weather", &json!({"city": "Oslo"}));
    model.next(weather.clone()).next(Reply::text(&["Cold."])).next(weather);
    let server = Setup::new().openai(&model).start();
    let client = server.client();
    let weather = json!([{"type": "function", "function": {"name": "weather", "description": "w", "parameters": {"type": "object"}}}]);
    let mut body = json!({"model": "openai/scripted", "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Oslo?"}],
        "tools": weather, "tool_choice": "required", "temperature": 0.5, "stop": "END", "max_tokens": 77});
    let first = complete(&client, &body).await;
    let choice = &first["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls", "{first}");
    let call = &choice["message"]["tool_calls"][0];
    assert_eq!((&call["type"], &call["function"]["name"]), (&json!("function"), &json!("weather")), "{first}");
    assert_eq!(serde_json::from_str::<Value>(call["function"]["arguments"].as_str().unwrap()).unwrap(), json!({"city": "Oslo"}));
    assert_eq!(choice["message"].get("content"), Some(&Value::Null), "strict clients want the key: {first}");
    assert!(call.get("index").is_none(), "only a stream has it: {first}");
    let told = &model.seen()[0].body;
    assert_eq!((&told["tool_choice"], &told["temperature"], &told["stop"]), (&json!("required"), &json!(0.5), &json!(["END"])), "{told}");
    assert_eq!((&told["max_tokens"], &told["messages"][0]["content"]), (&json!(77), &json!("Be brief.")), "{told}");

    body["tool_choice"] = json!("auto");
    let asked = body.clone();
    let messages = body["messages"].as_array_mut().unwrap();
    messages.push(choice["message"].clone());
    messages.push(json!({"role": "tool", "tool_call_id": call["id"], "content": "-5"}));
    let all = chunks(&client, &streamed(body)).await;
    assert_eq!(text(&all), "Cold.");
    assert!(all[0].get("metadata").is_none(), "nothing is kept");
    let told = model.seen()[1].told();
    assert!(told.contains("\"role\":\"tool\"") && told.contains("-5") && told.contains(call["id"].as_str().unwrap()), "{told}");
    let page = client.get("/api/sessions").await.expect(200).json();
    assert_eq!(page["total"], 0);
    let all = chunks(&client, &streamed(asked)).await;
    let calls: Vec<_> = all.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].get(0)).collect();
    assert_eq!((calls.len(), &calls[0]["index"]), (1, &json!(0)), "{all:?}");
}

#[tokio::test]
async fn offline_answers_by_its_name_and_the_list_names_it() {
    let server = Setup::new().start();
    let client = server.client();
    let list = client.get("/v1/models").await.expect(200).json();
    let ids: Vec<_> = list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["oxios", "offline"]);
    let whole = complete(&client, &user("offline", "Hello there")).await;
    let said = whole["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(!said.is_empty());
    assert_eq!(text(&chunks(&client, &streamed(user("offline", "Hello there"))).await), said);
}

#[tokio::test]
async fn a_model_is_found_by_its_name_with_slashes_or_without() {
    let model = Scripted::start();
    model.offer(&["org/tiny", "org/large"]);
    let server = Setup::new().openai(&model).env("OXIOS_ENGINE__DEFAULT_MODEL", "openai/org/tiny").start();
    let client = server.client();
    let listed = client.get("/v1/models").await.expect(200).json()["data"].clone();
    for (path, at) in
        [("oxios", 0), ("openai/org/tiny", 1), ("openai%2Forg%2Ftiny", 1), ("org/tiny", 1), ("org/large", 2), ("openai/org/large", 2)]
    {
        assert_eq!(client.get(&format!("/v1/models/{path}")).await.expect(200).json(), listed[at], "{path}");
    }
    for path in ["gpt-9", "openai/org", "tiny", "oxios/", "../v1/models", "openai%2Forg%2Ftiny%00", "%zz"] {
        let answer = client.get(&format!("/v1/models/{path}")).await;
        assert!(matches!(answer.status, 400 | 404) && answer.is_openai(), "{path}: {} {}", answer.status, answer.text());
    }
    assert_eq!(client.get("/v1/models/gpt-9").await.expect(404).json()["error"]["code"], "model_not_found");
    server.stranger().get("/v1/models/oxios").await.expect(401);
}

/// The text said `openai/(as asked)`, which helps nobody who asked.
#[tokio::test]
async fn an_error_names_the_model_as_its_client_did() {
    let model = Scripted::start();
    model.always(Reply::status(401, "{}"));
    let server = Setup::new().openai(&model).start();
    for name in ["another", "openai/another"] {
        let mut body = user(name, "hi");
        for stream in [false, true] {
            body["stream"] = json!(stream);
            let error = refused(&server.client(), &body, 502).await;
            assert!(error["message"].as_str().unwrap().starts_with(&format!("model `{name}`: ")), "{error}");
        }
    }
}

#[tokio::test]
async fn every_refusal_has_openais_shape() {
    let model = Scripted::start();
    model.always(Reply::status(401, "{}"));
    let server = Setup::new().openai(&model).start();
    let client = server.client();
    let shape = |answer: &Answer| {
        let error = answer.json()["error"].clone();
        for key in ["message", "type", "param", "code"] {
            assert!(error.get(key).is_some(), "{key} in {error}");
        }
        error
    };
    let unknown = client.post(PATH, &user("anthropic/gpt-9", "hi")).await.expect(404);
    assert_eq!((&shape(&unknown)["code"], &shape(&unknown)["param"]), (&json!("model_not_found"), &json!("model")));
    let stranger = server.stranger().post(PATH, &user("oxios", "hi")).await.expect(401);
    assert_eq!(shape(&stranger)["type"], "authentication_error");
    shape(&client.get("/v1/nothing").await.expect(404));
    shape(&client.get(PATH).await.expect(405));
    shape(&client.send(Ask::new("POST", PATH).body(b"{}".to_vec())).await.expect(415));
    shape(&client.send(Ask::new("POST", PATH).header("content-type", "application/json").body(b"{".to_vec())).await.expect(400));
    let image = json!([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "x"}}]);
    let said = |content: Value| json!({"model": "scripted", "messages": [{"role": "user", "content": content}]});
    assert_eq!(refused(&client, &said(image), 400).await["param"], "messages[0].content[1]");
    assert!(refused(&client, &said(json!(5)), 400).await["param"].as_str().unwrap().starts_with("messages[0].content"));
    assert_eq!(refused(&client, &json!({"model": "scripted", "messages": []}), 400).await["param"], "messages");
    refused(&client, &json!({"messages": []}), 400).await;
    for model in ["oxios", "scripted"] {
        refused(&client, &user(model, &"x".repeat(64 * 1024 + 1)), 413).await;
        refused(&client, &user(model, "hi"), 502).await;
    }
    refused(&client, &streamed(user("scripted", "hi")), 502).await;
    // The agent's head is out before its model is asked: the stream tells.
    let mut events = Sse::new(client.open(Ask::new("POST", PATH).json(&streamed(user("oxios", "hi")))).await);
    let mut last = Value::Null;
    while let Some(event) = events.next().await {
        last = event.json();
    }
    assert_eq!(last["error"]["code"], "model", "{last}");
}
