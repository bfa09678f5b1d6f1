//! Personas over HTTP (API B).

use serde_json::{Value, json};

use crate::support::client::{Ask, Client};
use crate::support::scripted::{Reply, Scripted};
use crate::support::server::Setup;

async fn put(client: &Client, path: &str, body: &Value) -> crate::support::client::Answer {
    client.send(Ask::new("PUT", path).json(body)).await
}

#[tokio::test]
async fn personas_are_made_changed_chosen_deleted_and_found_again_after_a_restart() {
    let mut server = Setup::new().start();
    server.canary("canary-persona");
    let client = server.client();
    assert_eq!(client.get("/api/personas/active").await.expect(200).json(), json!({"id": null, "persona": null}));
    let made =
        client.post("/api/personas", &json!({"name": "canary-persona", "prompt": "Speak like canary-persona."})).await.expect(201).json();
    let id = made["id"].as_str().unwrap().to_owned();
    put(&client, "/api/personas/active", &json!({"id": id})).await.expect(200);
    let changed = put(&client, &format!("/api/personas/{id}"), &json!({"name": "poet", "prompt": "Rhyme."})).await.expect(200).json();
    assert_eq!((&changed["name"], &changed["description"], &changed["active"]), (&json!("poet"), &json!(""), &json!(true)));

    server.restart();
    let client = server.client();
    assert_eq!(client.get(&format!("/api/personas/{id}")).await.expect(200).json(), changed);
    assert_eq!(client.get("/api/personas").await.expect(200).json()["items"], json!([changed]));
    assert_eq!(client.get("/api/personas/active").await.expect(200).json(), json!({"id": id, "persona": changed}));
    assert_eq!(client.delete(&format!("/api/personas/{id}")).await.expect(200).json(), json!({"status": "deleted", "id": id}));
    client.delete(&format!("/api/personas/{id}")).await.expect(404);
    assert_eq!(client.get("/api/personas/active").await.expect(200).json()["id"], Value::Null);

    server.restart();
    let client = server.client();
    assert_eq!(client.get("/api/personas").await.expect(200).json()["total"], 0);
}

#[tokio::test]
async fn fields_of_personas_have_limits() {
    let server = Setup::new().start();
    let client = server.client();
    for (body, status) in [
        (json!({"name": "x", "prompt": "y", "description": "z"}), 201),
        (json!({"name": "x", "prompt": "\u{1}".repeat(8 * 1024)}), 201),
        (json!({"name": "x", "prompt": "y".repeat(8 * 1024 + 1)}), 413),
        (json!({"name": "x", "prompt": " "}), 400),
        (json!({"name": "a\u{7}b", "prompt": "y"}), 400),
        (json!({"name": "x".repeat(257), "prompt": "y"}), 400),
        (json!({"name": "x", "prompt": "y", "unknown": 1}), 422),
        (json!({"name": "x"}), 422),
    ] {
        assert_eq!(client.post("/api/personas", &body).await.status, status, "{}", body.to_string().chars().take(60).collect::<String>());
    }
    put(&client, "/api/personas/active", &json!({"id": "67e55044-10b1-426f-9247-bb680e5fe0c8"})).await.expect(404);
    put(&client, "/api/personas/active", &json!({})).await.expect(422);
    put(&client, "/api/personas/active", &json!({"id": null})).await.expect(200);
    client.get("/api/personas/nothing").await.expect(400);
}

#[tokio::test]
async fn a_session_keeps_the_persona_that_it_began_with_and_the_model_reads_it() {
    let model = Scripted::start();
    model.always(Reply::text(&["Aye."]));
    let mut server = Setup::new().openai(&model).start();
    let client = server.client();
    let make = async |name: &str| {
        let body = json!({"name": name, "prompt": format!("Speak like a {name}.")});
        client.post("/api/personas", &body).await.expect(201).json()["id"].as_str().unwrap().to_owned()
    };
    let (pirate, poet) = (make("pirate").await, make("poet").await);
    put(&client, "/api/personas/active", &json!({"id": pirate})).await.expect(200);
    let answer = client.post("/api/chat", &json!({"content": "hello"})).await.expect(200).json();
    let session = answer["session_id"].as_str().unwrap().to_owned();
    assert!(model.request(1).await.told().contains("Speak like a pirate."));
    put(&client, "/api/personas/active", &json!({"id": poet})).await.expect(200);

    server.restart();
    let client = server.client();
    client.post("/api/chat", &json!({"content": "again", "session_id": session})).await.expect(200);
    assert!(model.request(2).await.told().contains("Speak like a pirate."), "it keeps its own");
    client.post("/api/chat", &json!({"content": "hello"})).await.expect(200);
    assert!(model.request(3).await.told().contains("Speak like a poet."), "a new one gets the new one");
    let detail = client.get(&format!("/api/sessions/{session}")).await.expect(200).json();
    assert_eq!(detail["active_persona_id"], pirate, "{detail}");

    client.delete(&format!("/api/personas/{pirate}")).await.expect(200);
    client.post("/api/chat", &json!({"content": "still there?", "session_id": session})).await.expect(200);
    assert!(!model.request(4).await.told().contains("Speak like"), "a deleted one is none");
}

#[tokio::test]
async fn the_longest_persona_leaves_a_small_model_the_question_and_is_kept_as_far_as_there_is_room() {
    let model = Scripted::start();
    model.always(Reply::text(&["Four."]));
    let server = Setup::new().openai(&model).start();
    let client = server.client();
    let persona = json!({"name": "long", "prompt": "Speak like a canary. ".repeat(390)});
    let id = client.post("/api/personas", &persona).await.expect(201).json()["id"].clone();
    put(&client, "/api/personas/active", &json!({"id": id})).await.expect(200);
    // What the model is told at each size: the persona, tools.
    for (context, manner, tools) in [(1024, true, false), (1400, true, false), (4096, true, true), (16_384, true, true)] {
        put(&client, "/api/config", &json!({"engine": {"context_tokens": context}})).await.expect(200);
        client.post("/api/chat", &json!({"content": "What is two plus two?"})).await.expect(200);
        let asked = model.seen().last().unwrap().body.clone();
        let messages = asked["messages"].as_array().unwrap();
        assert_eq!(messages.last().unwrap()["content"], "What is two plus two?", "{context}");
        assert_eq!(messages[0].to_string().contains("Speak like a canary"), manner, "{context}: {}", messages[0]);
        assert_eq!(asked["tools"].as_array().is_some_and(|tools| !tools.is_empty()), tools, "{context}");
    }
    assert!(model.seen().last().unwrap().told().contains(&"Speak like a canary. ".repeat(390)), "whole where there is room");
}
