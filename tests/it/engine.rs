//! Models over the wire: listed, tried before they are kept, the same after a restart.

use serde_json::{Value, json};

use crate::support::client::{Answer, Ask, Client};
use crate::support::scripted::{Reply, Scripted};
use crate::support::server::Setup;

async fn put(client: &Client, path: &str, body: Value) -> Answer {
    client.send(Ask::new("PUT", path).json(&body)).await
}

#[tokio::test]
async fn a_model_is_tried_then_kept_over_a_restart() {
    let model = Scripted::start();
    let mut server = Setup::new()
        .env("OPENAI_BASE_URL", format!("http://{}/v1", model.address()))
        .config("[engine]\ndefault_model = \"offline\"")
        .start();
    let client = server.client();
    let providers = client.get("/api/engine/providers").await.expect(200).json()["providers"].clone();
    assert_eq!(
        (&providers[0]["active"], &providers[1]["configured"], &providers[2]["configured"]),
        (&json!(true), &json!(true), &json!(false))
    );
    assert_eq!(client.get("/api/engine/models").await.expect(200).json(), json!({"provider": "offline", "models": ["offline"]}));
    let list = || Reply::status(200, r#"{"data":[{"id":"scripted"}]}"#);
    model.next(list());
    let listed = client.get("/api/engine/models?provider=openai").await.expect(200).json();
    assert_eq!(listed, json!({"provider": "openai", "models": ["openai/scripted"]}));

    model.next(Reply::status(401, "no"));
    let refused = put(&client, "/api/engine/model", json!({"model": "openai/scripted"})).await.expect(502).error();
    assert!(refused.contains("scripted"), "{refused}");
    assert_eq!(client.get("/api/engine/config").await.expect(200).json()["default_model"], "offline");
    put(&client, "/api/engine/model", json!({"model": "gpt"})).await.expect(400);
    put(&client, "/api/engine/api-key", json!({"api_key": "sk-new-canary"})).await.expect(400);

    model.always(Reply::text(&["here"]));
    let changed = put(&client, "/api/engine/model", json!({"model": "openai/scripted"})).await.expect(200).json();
    assert_eq!(changed, json!({"status": "updated", "model": "openai/scripted"}));
    let set = put(&client, "/api/engine/api-key", json!({"api_key": "sk-new-canary"})).await.expect(200);
    assert!(!set.text().contains("canary"));
    server.canary("sk-new-canary");
    server.restart();
    let client = server.client();
    assert_eq!(client.post("/api/chat", &json!({"content": "hello"})).await.expect(200).json()["reply"], "here");
    assert_eq!(model.seen().last().unwrap().header("authorization"), Some("Bearer sk-new-canary"));
    let engine = client.get("/api/engine/config").await.expect(200).json();
    assert_eq!(
        (&engine["default_model"], &engine["api_key"], &engine["api_key_set"]),
        (&json!("openai/scripted"), &json!("***"), &json!(true))
    );
    model.next(list());
    let tried = client.post("/api/engine/validate-key", &json!({"provider": "openai"})).await.expect(200).json();
    assert_eq!(tried, json!({"valid": true, "provider": "openai"}));
    model.next(Reply::status(401, "canary-body"));
    let tried = client.post("/api/engine/validate-key", &json!({"provider": "openai", "api_key": "sk-wrong"})).await.expect(200);
    assert!(tried.json()["valid"] == false && tried.json()["error"].is_string() && !tried.text().contains("sk-wrong"));
    client.post("/api/engine/validate-key", &json!({"provider": "else"})).await.expect(400);
    model.stop();
    client.get("/api/engine/models").await.expect(502);
}

/// What is typed for one provider never reaches another, and what answers stays as it is until the new model has answered.
#[tokio::test]
async fn a_model_comes_with_its_address_and_its_key_or_not_at_all() {
    let (old, new) = (Scripted::start(), Scripted::start());
    let at = |model: &Scripted| format!("http://{}/v1", model.address());
    // The sandbox would let it reach none but the model that it began with.
    let config = format!(
        "[security]\nlandlock = \"off\"\n[engine]\ndefault_model = \"openai/scripted\"\nbase_url = \"{}\"\napi_key = \"sk-old-canary\"",
        at(&old)
    );
    let server = Setup::new().config(&config).start();
    let client = server.client();
    server.canary("sk-old-canary");
    server.canary("sk-new-canary");
    let now = async || client.get("/api/engine/config").await.expect(200).json();
    let before = now().await;

    let wanted = json!({"model": "anthropic/scripted", "base_url": at(&new), "api_key": "sk-new-canary"});
    new.next(Reply::status(401, "no"));
    put(&client, "/api/engine/model", wanted).await.expect(502).error();
    assert_eq!(now().await, before);
    assert!(old.seen().is_empty());
    assert_eq!(new.seen().last().unwrap().header("x-api-key"), Some("sk-new-canary"));

    // Without a key of its own it gets none, above all not the old one.
    new.always(Reply::text(&["here"]));
    let wanted = json!({"model": "openai/scripted", "base_url": at(&new), "api_key": null});
    put(&client, "/api/engine/model", wanted).await.expect(200);
    assert_eq!(new.seen().last().unwrap().header("authorization"), None);
    assert_eq!((&now().await["base_url"], &now().await["api_key_set"]), (&json!(at(&new)), &json!(false)));
    put(&client, "/api/engine/model", json!({"model": "openai/scripted", "api_key": "***"})).await.expect(400).error();
    put(&client, "/api/engine/model", json!({"model": "offline", "base_url": null})).await.expect(200);
    assert_eq!(now().await["base_url"], Value::Null);
    assert!(old.seen().is_empty());
}
