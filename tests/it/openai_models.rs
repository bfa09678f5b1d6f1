//! Which models may stand in `model` on `/v1`, and which are listed.

use serde_json::{Value, json};

use crate::openai::{PATH, complete, refused};
use crate::support::client::Client;
use crate::support::scripted::{Reply, Scripted};
use crate::support::server::Setup;

fn asked(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "hi"}]})
}

async fn ids(client: &Client) -> Vec<String> {
    let list = client.get("/v1/models").await.expect(200).json();
    list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn any_model_of_a_configured_provider_answers_under_the_keys_budget() {
    let model = Scripted::start();
    model.offer(&["scripted", "org/large"]);
    model.always(Reply::text(&["here"]));
    let server = Setup::new().openai(&model).start();
    server.canary("canary-model");
    let admin = server.client();
    for (name, wire) in [("scripted", "scripted"), ("openai/scripted", "scripted"), ("org/large", "org/large"), ("openai/other", "other")] {
        let said = complete(&admin, &asked(name)).await;
        assert_eq!((&said["choices"][0]["message"]["content"], &said["model"]), (&json!("here"), &json!(format!("openai/{wire}"))));
        assert_eq!(model.seen().last().unwrap().body["model"], *wire, "as its provider calls it");
    }
    let new = json!({"name": "n", "scopes": ["chat"], "token_budget": {"tokens": 2_500, "per": "total"}});
    let made = admin.post("/api/keys", &new).await.expect(201).json();
    let client = admin.with_key(made["key"].as_str());
    complete(&client, &asked("org/large")).await;
    let keys = admin.get("/api/keys?limit=500").await.expect(200).json();
    let key = keys["items"].as_array().unwrap().iter().find(|key| key["id"] == made["id"]).unwrap().clone();
    assert_eq!(key["token_budget"]["used"], 18, "{key}");

    // The provider's own word for "no such model", and providers that nobody set up. The name is the client's: it is not in the log.
    model.next(Reply::status(404, r#"{"error":{"message":"The model does not exist","code":"model_not_found"}}"#));
    model.next(Reply::status(503, "busy")).next(Reply::status(400, r#"{"error":{"message":"invalid model name"}}"#));
    let before = model.seen().len();
    for name in ["canary-model", "openai/canary-model2", "anthropic/claude", "offline/x", "openai/", "openai/auto", "/"] {
        let error = refused(&admin, &asked(name), 404).await;
        assert_eq!((&error["code"], &error["param"]), (&json!("model_not_found"), &json!("model")), "{name}");
    }
    assert_eq!(model.seen().len(), before + 3, "no fallback, and nobody is asked for what is not configured");
    let numbers = admin.get("/metrics").await.expect(200).text();
    assert!(numbers.contains("\"other\"") && !numbers.contains("canary-model"), "{numbers}");
    complete(&admin, &asked("offline")).await;
}

#[tokio::test]
async fn the_list_is_what_the_providers_offer_and_survives_one_that_is_silent() {
    let model = Scripted::start();
    model.offer(&["a", "org/b", "scripted"]);
    let server = Setup::new().openai(&model).start();
    let client = server.client();
    let all = ["oxios", "openai/scripted", "openai/a", "openai/org/b", "offline"];
    assert_eq!(ids(&client).await, all);
    for id in all.iter().chain(&["org/b"]) {
        let entry = client.get(&format!("/v1/models/{id}")).await.expect(200).json();
        assert!(entry["id"].as_str().unwrap().ends_with(id), "{entry}");
    }
    for id in ["c", "openai/c", "anthropic/a", "org"] {
        assert_eq!(client.get(&format!("/v1/models/{id}")).await.expect(404).json()["error"]["code"], "model_not_found", "{id}");
    }
    assert_eq!(model.listed(), 1, "the list is kept for a while");
    model.stop();
    let silent = Setup::new().openai(&model).start();
    assert_eq!(ids(&silent.client()).await, ["oxios", "openai/scripted", "offline"]);
    silent.client().get("/v1/models/scripted").await.expect(200);
    silent.client().get("/v1/models/a").await.expect(404);
    silent.client().post(PATH, &asked("scripted")).await.expect(502);
}
