//! What a client of the plain model asks reaches an OpenAI-compatible server as it came, or is refused.

use serde_json::{Value, json};

use crate::openai::{PATH, complete, refused};
use crate::support::client::Ask;
use crate::support::scripted::{Do, Reply, Scripted};
use crate::support::server::Setup;
use crate::support::sse::Sse;

fn asked(model: &str, fields: Value) -> Value {
    let mut body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

#[tokio::test]
async fn what_a_server_of_openais_language_reads_reaches_it_as_it_came() {
    let model = Scripted::start();
    model.always(Reply::text(&["ok"]));
    let server = Setup::new().openai(&model).start();
    let client = server.client();
    let schema =
        json!({"type": "json_schema", "json_schema": {"name": "a-b", "description": "d", "strict": true, "schema": {"type": "object"}}});
    let tools = json!([{"type": "function", "function": {"name": "f", "strict": true, "parameters": {"type": "object"}}},
        {"type": "function", "function": {"name": "g", "description": "d"}}]);
    let fields = json!({"seed": -7, "logit_bias": {"50256": -100.0}, "presence_penalty": 0.5, "frequency_penalty": -2.0, "logprobs": true,
        "top_logprobs": 3, "parallel_tool_calls": false, "reasoning_effort": "low", "tools": tools, "tool_choice": "none",
        "response_format": schema, "max_tokens": 2048});
    complete(&client, &asked("scripted", fields.clone())).await;
    let told = model.seen()[0].body.clone();
    for (name, value) in fields.as_object().unwrap() {
        assert_eq!(&told[name], value, "{name}");
    }
    for format in [json!({"type": "json_object"}), json!({"type": "text"})] {
        complete(&client, &asked("scripted", json!({"response_format": format, "unknown": 1}))).await;
        let told = model.seen().last().unwrap().body.clone();
        assert_eq!(told["response_format"], format);
        assert!(told.get("unknown").is_none() && told.get("seed").is_none() && told.get("tools").is_none(), "{told}");
    }
    let parts = json!([{"type": "text", "text": "one,"}, {"type": "text", "text": " two"}]);
    complete(&client, &json!({"model": "scripted", "messages": [{"role": "user", "content": parts}]})).await;
    assert_eq!(model.seen().last().unwrap().body["messages"][0]["content"], "one, two");
}

#[tokio::test]
async fn how_likely_the_words_were_is_answered_where_it_was_asked() {
    let model = Scripted::start();
    let chunk = |text: &str| {
        let likely = json!({"content": [{"token": text, "logprob": -0.5, "top_logprobs": []}]});
        let chunk = json!({"choices": [{"index": 0, "delta": {"content": text}, "logprobs": likely}]});
        Do::Raw(format!("data: {chunk}\n\n").into_bytes())
    };
    let reply = || Reply::new().then(chunk("a")).then(chunk("b"));
    model.next(reply()).next(reply()).next(reply());
    let server = Setup::new().openai(&model).start();
    let client = server.client();
    let whole = complete(&client, &asked("scripted", json!({"logprobs": true}))).await;
    let tokens = |value: &Value| -> Vec<String> {
        value["content"].as_array().into_iter().flatten().map(|one| one["token"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(tokens(&whole["choices"][0]["logprobs"]), ["a", "b"], "{whole}");
    let body = asked("scripted", json!({"logprobs": true, "stream": true}));
    let mut events = Sse::new(client.open(Ask::new("POST", PATH).json(&body)).await);
    let mut seen = Vec::new();
    while let Some(event) = events.next().await.filter(|event| event.data != "[DONE]") {
        seen.extend(tokens(&event.json()["choices"][0]["logprobs"]));
    }
    assert_eq!(seen, ["a", "b"]);
    let without = complete(&client, &asked("scripted", json!({}))).await;
    assert!(without["choices"][0].get("logprobs").is_none(), "{without}");
}

#[tokio::test]
async fn what_is_out_of_its_bounds_or_beyond_a_provider_is_refused() {
    let model = Scripted::start();
    model.always(Reply::text(&["ok"]));
    let server = Setup::new().openai(&model).start();
    let client = server.client();
    let many: serde_json::Map<String, Value> = (0..301).map(|n| (n.to_string(), json!(1))).collect();
    for (field, value) in [
        ("seed", json!(1.5)),
        ("logit_bias", json!({"1": 101})),
        ("logit_bias", json!(many)),
        ("presence_penalty", json!(2.1)),
        ("frequency_penalty", json!(-2.1)),
        ("logprobs", json!("yes")),
        ("top_logprobs", json!(2)),
        ("parallel_tool_calls", json!(1)),
        ("reasoning_effort", json!("LOW")),
        ("functions", json!([])),
        ("max_tokens", json!(0)),
        ("max_completion_tokens", json!(0)),
        ("max_tokens", json!(2049)),
        ("max_completion_tokens", json!(100_000)),
        ("response_format", json!({"type": "json_schema", "json_schema": {"schema": {}, "strict": "yes"}})),
    ] {
        let error = refused(&client, &asked("scripted", json!({field: value})), 400).await;
        assert_eq!(error["param"], field, "{error}");
    }
    assert!(model.seen().is_empty());
    // What only nudges a model may go unheard; what makes another answer may not.
    let anthropic = Scripted::start();
    anthropic.always(Reply::text(&["ok"]));
    let other = Setup::new()
        .env("OXIOS_ENGINE__DEFAULT_MODEL", "anthropic/claude")
        .env("OXIOS_ENGINE__BASE_URL", format!("http://{}/v1", anthropic.address()))
        .env("ANTHROPIC_API_KEY", "k")
        .start();
    let offline = Setup::new().start();
    let hints = json!({"seed": 1, "presence_penalty": 1, "logprobs": false, "logit_bias": {}, "response_format": {"type": "text"},
        "tools": [{"type": "function", "function": {"name": "f", "strict": true}}], "parallel_tool_calls": false});
    for (client, name) in [(other.client(), "claude"), (offline.client(), "offline")] {
        for (field, value) in
            [("logprobs", json!(true)), ("logit_bias", json!({"1": 1})), ("response_format", json!({"type": "json_object"}))]
        {
            assert_eq!(refused(&client, &asked(name, json!({field: value})), 400).await["param"], field);
        }
        complete(&client, &asked(name, hints.clone())).await;
    }
    let told = anthropic.seen()[0].body.clone();
    assert_eq!(told["tool_choice"], json!({"type": "auto", "disable_parallel_tool_use": true}), "{told}");
    let schema = json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}});
    refused(&offline.client(), &asked("offline", schema), 400).await;
}

/// Messages were put into an order of our own, and names left out; fields of the servers that most people run did not arrive.
#[tokio::test]
async fn a_conversation_and_the_fields_of_other_servers_reach_it_as_they_stand() {
    let model = Scripted::start();
    model.always(Reply::text(&["ok"]));
    let server = Setup::new().openai(&model).start();
    let client = server.client();
    let call = |arguments: &str| json!([{"id": "c1", "type": "function", "function": {"name": "a.b", "arguments": arguments}}]);
    let messages = json!([
        {"role": "assistant", "content": "Welcome.", "reasoning_content": "a greeting"},
        {"role": "system", "content": "S1"},
        {"role": "user", "content": "one", "name": "ann"},
        {"role": "user", "content": "two", "name": "bob"},
        {"role": "developer", "content": "S2"},
        {"role": "assistant", "content": null, "tool_calls": call("{\"z\": 1, \"a\": 2}")},
        {"role": "tool", "tool_call_id": "c1", "content": "-5"},
        {"role": "system", "content": "S3"},
        {"role": "user", "content": "three"}]);
    let fields = json!({"top_k": 40, "min_p": 0.05, "repeat_penalty": 1.1, "chat_template_kwargs": {"enable_thinking": false}, "verbosity": "low",
        "grammar": "root ::= \"a\"", "stop_token_ids": [1, 2]});
    let mut body = asked("scripted", fields.clone());
    body["messages"] = messages.clone();
    complete(&client, &body).await;
    let told = model.seen()[0].body.clone();
    assert_eq!(told["messages"], messages);
    for (name, value) in fields.as_object().unwrap() {
        assert_eq!(&told[name], value, "{name}");
    }
    assert_eq!(told["max_tokens"], 2048, "the limit that is configured, where the client has none");

    // What could make it longer, dearer, another model's or kept elsewhere stays here, and so does what nobody here has heard of.
    let kept = json!({"n_predict": 100_000, "best_of": 9, "n": 1, "service_tier": "priority", "store": true, "models": ["other"], "user": "ann",
        "metadata": {"a": "b"}, "prediction": {"type": "content", "content": "x"}, "web_search_options": {}, "unknown": 1, "top_k": null,
        "max_completion_tokens": 7});
    complete(&client, &asked("scripted", kept.clone())).await;
    let told = model.seen()[1].body.clone();
    for name in kept.as_object().unwrap().keys() {
        assert!(told.get(name).is_none(), "{name}: {told}");
    }
    assert_eq!(
        (&told["max_tokens"], &told["stream_options"]),
        (&json!(7), &json!({"include_usage": true})),
        "the name that all servers know"
    );

    // Arguments that were cut off are none: some servers answer 500 to them.
    body["messages"][5]["tool_calls"] = call("{\"z\": 1, \"a");
    complete(&client, &body).await;
    assert_eq!(model.seen()[2].body["messages"][5]["tool_calls"], call("{}"));

    // Another kind of server has one place for what stands before the conversation, and none for most of these fields.
    let anthropic = Scripted::start();
    anthropic.always(Reply::text(&["ok"]));
    let other = Setup::new()
        .env("OXIOS_ENGINE__DEFAULT_MODEL", "anthropic/claude")
        .env("OXIOS_ENGINE__BASE_URL", format!("http://{}/v1", anthropic.address()))
        .env("ANTHROPIC_API_KEY", "k")
        .start();
    for (client, name) in [(other.client(), "claude"), (client, "offline")] {
        let mut body = body.clone();
        body["model"] = json!(name);
        for needed in ["grammar", "stop_token_ids"] {
            assert_eq!(refused(&client, &body, 400).await["param"], needed, "without it the answer would be another one");
            body.as_object_mut().unwrap().remove(needed);
        }
        complete(&client, &body).await;
    }
    let told = anthropic.seen()[0].body.clone();
    assert_eq!(told["system"], "S1\n\nS2\n\nS3");
    assert!(told.get("top_k").is_none(), "{told}");
}

/// A server that cannot do it says so; nothing is asked again without what the client wrote.
#[tokio::test]
async fn nothing_that_a_client_wrote_is_left_out_to_please_a_server() {
    let model = Scripted::start();
    model.next(Reply::status(400, r#"{"error":{"message":"m does not support tools"}}"#));
    model.next(Reply::status(400, r#"{"error":{"message":"response_format is not known"}}"#));
    let server = Setup::new().openai(&model).start();
    let client = server.client();
    let tools = json!({"tools": [{"type": "function", "function": {"name": "f"}}]});
    let schema = json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}});
    for fields in [tools, schema] {
        refused(&client, &asked("scripted", fields), 400).await;
    }
    assert_eq!(model.seen().len(), 2);
}
