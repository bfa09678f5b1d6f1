//! Spaces over HTTP (API B).

use serde_json::{Value, json};

use crate::support::client::{Ask, Client};
use crate::support::scripted::{Reply, Scripted};
use crate::support::server::{Server, Setup};
use crate::support::ws::Ws;

async fn make(client: &Client, name: &str) -> String {
    let space = client.post("/api/spaces", &json!({"name": name, "context": format!("This is {name}.")})).await.expect(201).json();
    assert_eq!((&space["status"], &space["current"], &space["merged_into"]), (&json!("active"), &json!(false), &Value::Null), "{space}");
    space["id"].as_str().unwrap().to_owned()
}

async fn post(client: &Client, id: &str, what: &str) -> Value {
    client.post_empty(&format!("/api/spaces/{id}/{what}")).await.expect(200).json()
}

#[tokio::test]
async fn spaces_are_made_chosen_put_away_merged_and_found_again_after_a_restart() {
    let mut server = Setup::new().start();
    server.canary("canary-space");
    let client = server.client();
    let mut events = client.sse("/api/events").await;
    assert_eq!(client.get("/api/spaces/current").await.expect(200).json(), json!({"id": null, "space": null}));
    let [a, b] = [make(&client, "canary-space a").await, make(&client, "b").await];
    assert_eq!(post(&client, &a, "activate").await["current"], true);
    assert_eq!(client.get("/api/status").await.expect(200).json()["components"]["spaces_active"], 2);

    server.restart();
    let client = server.client();
    drop(events);
    events = client.sse("/api/events").await;
    assert_eq!(client.get("/api/spaces/current").await.expect(200).json()["id"], a);
    let merged = client.post("/api/spaces/merge", &json!({"from": a, "into": b})).await.expect(200).json();
    assert_eq!(merged, json!({"status": "merged", "from": a, "into": b}));
    assert_eq!(client.get("/api/spaces/current").await.expect(200).json()["id"], b);
    let gone = client.get(&format!("/api/spaces/{a}")).await.expect(200).json();
    assert_eq!((&gone["status"], &gone["merged_into"]), (&json!("archived"), &json!(b)));
    client.post("/api/spaces/merge", &json!({"from": b, "into": a})).await.expect(409);
    client.post("/api/spaces/merge", &json!({"from": b, "into": b})).await.expect(409);
    client.post_empty(&format!("/api/spaces/{a}/activate")).await.expect(409);
    let seen = events.until(|e| e["type"] == "spaces_merged").await;
    assert!(!format!("{seen:?}").contains("canary"), "{seen:?}");

    let patch = Ask::new("PATCH", format!("/api/spaces/{b}")).json(&json!({"context": "changed"}));
    assert_eq!(client.send(patch).await.expect(200).json()["context"], "changed");
    post(&client, &b, "archive").await;
    events.until(|e| e["type"] == "space_archived" && e["space_id"] == b).await;
    assert_eq!(client.get("/api/spaces/current").await.expect(200).json()["id"], Value::Null);
    let restored = post(&client, &a, "restore").await;
    assert_eq!((&restored["status"], &restored["merged_into"]), (&json!("active"), &Value::Null));

    server.restart();
    let client = server.client();
    let list = client.get("/api/spaces").await.expect(200).json();
    let states: Vec<_> = list["items"].as_array().unwrap().iter().map(|s| (s["id"].clone(), s["status"].clone())).collect();
    assert_eq!(states, [(json!(a), json!("active")), (json!(b), json!("archived"))], "{list}");
    assert_eq!(client.get("/api/status").await.expect(200).json()["components"]["spaces_active"], 1);
}

/// Writes into the file, as an editor does that keeps it: neither its name nor its directory changes.
fn edit(server: &Server, file: &str, from: &str, to: &str) {
    let path = server.home().join("workspace").join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(path, text.replace(from, to)).unwrap();
}

#[tokio::test]
async fn a_file_that_was_edited_in_place_is_seen_and_what_is_changed_next_keeps_the_edit() {
    let server = Setup::new().start();
    let client = server.client();
    let id = make(&client, "home").await;
    edit(&server, &format!("spaces/{id}.json"), "This is home.", "Written by hand.");
    let patch = Ask::new("PATCH", format!("/api/spaces/{id}")).json(&json!({"name": "house"}));
    let changed = client.send(patch).await.expect(200).json();
    assert_eq!((&changed["name"], &changed["context"]), (&json!("house"), &json!("Written by hand.")), "{changed}");
    edit(&server, &format!("spaces/{id}.json"), "Written by hand.", "And again.");
    assert_eq!(client.get("/api/spaces").await.expect(200).json()["items"][0]["context"], "And again.");
    assert_eq!(client.get(&format!("/api/spaces/{id}")).await.expect(200).json()["context"], "And again.");

    let persona = client.post("/api/personas", &json!({"name": "p", "prompt": "Be short."})).await.expect(201).json()["id"].clone();
    let persona = persona.as_str().unwrap();
    client.send(Ask::new("PUT", "/api/personas/active").json(&json!({"id": persona}))).await.expect(200);
    edit(&server, &format!("personas/{persona}.json"), "Be short.", "Be very short.");
    assert_eq!(client.get("/api/personas/active").await.expect(200).json()["persona"]["prompt"], "Be very short.");
    edit(&server, "personas/current.json", persona, &id);
    assert_eq!(client.get("/api/personas/active").await.expect(200).json()["id"], Value::Null, "there is none of that id");

    // Half an edit is no space, and nothing is written over it.
    edit(&server, &format!("spaces/{id}.json"), "}", "");
    client.get(&format!("/api/spaces/{id}")).await.expect(404);
    let refused = client.post("/api/chat", &json!({"content": "hello", "space_id": id})).await.expect(409);
    assert!(refused.error().contains("cannot be read"), "{}", refused.text());
    let kept = std::fs::read_to_string(server.home().join(format!("workspace/spaces/{id}.json"))).unwrap();
    assert!(kept.contains("And again."), "{kept}");
    std::fs::write(server.home().join(format!("workspace/spaces/{id}.json")), kept + "}").unwrap();
    client.post("/api/chat", &json!({"content": "hello", "space_id": id})).await.expect(200);
}

#[tokio::test]
async fn a_message_makes_its_space_and_none_is_said_in_an_archived_one() {
    let server = Setup::new().start();
    let client = server.client();
    let id = "67e55044-10b1-426f-9247-bb680e5fe0c8";
    let say = json!({"content": "hello", "space_id": id});
    let mut events = client.sse("/api/events").await;
    assert_eq!(client.post("/api/chat", &say).await.expect(200).json()["space_id"], id);
    events.until(|e| e["type"] == "space_created" && e["space_id"] == id).await;
    assert_eq!(client.get(&format!("/api/spaces/{id}")).await.expect(200).json()["status"], "active");
    post(&client, id, "archive").await;
    let refused = client.post("/api/chat", &say).await.expect(409);
    assert!(refused.error().contains("restore"), "{}", refused.text());
    post(&client, id, "restore").await;
    let session = client.post("/api/chat", &say).await.expect(200).json()["session_id"].clone();
    // Its session is in it, whether or not the message says so again.
    let further = json!({"content": "further", "session_id": session});
    client.post("/api/chat", &further).await.expect(200);
    post(&client, id, "archive").await;
    let refused = client.post("/api/chat", &further).await.expect(409);
    assert!(refused.error().contains("restore"), "{}", refused.text());
    let other = make(&client, "other").await;
    client.post("/api/spaces/merge", &json!({"from": id, "into": other})).await.expect(409);
    post(&client, id, "restore").await;
    client.post("/api/spaces/merge", &json!({"from": id, "into": other})).await.expect(200);
    client.post("/api/chat", &further).await.expect(200);
    assert!(client.post("/api/chat", &json!({"content": "hello"})).await.expect(200).json()["space_id"].is_null());
}

#[tokio::test]
async fn an_archived_space_is_deleted_and_its_sessions_are_read_and_go_on_without_it() {
    let model = Scripted::start();
    model.always(Reply::text(&["Fine."]));
    let mut server = Setup::new().openai(&model).start();
    let client = server.client();
    let [garden, house, town] = [make(&client, "garden").await, make(&client, "house").await, make(&client, "town").await];
    let mut sessions = Vec::new();
    for space in [&garden, &house] {
        let answer = client.post("/api/chat", &json!({"content": "hello", "space_id": space})).await.expect(200).json();
        sessions.push(answer["session_id"].as_str().unwrap().to_owned());
    }
    let refused = client.delete(&format!("/api/spaces/{house}")).await.expect(409);
    assert!(refused.error().contains("archive it first"), "{}", refused.text());
    for (from, into) in [(&garden, &house), (&house, &town)] {
        client.post("/api/spaces/merge", &json!({"from": from, "into": into})).await.expect(200);
    }
    let refused = client.delete(&format!("/api/spaces/{house}")).await.expect(409);
    assert!(refused.error().contains("restore it first"), "what was said in it is said in town: {}", refused.text());
    for what in ["restore", "archive"] {
        client.post_empty(&format!("/api/spaces/{house}/{what}")).await.expect(200);
    }
    let body = client.send(Ask::new("DELETE", format!("/api/spaces/{house}")).json(&json!({"x": 1}))).await;
    body.expect(422);
    let gone = client.delete(&format!("/api/spaces/{house}")).await.expect(200).json();
    assert_eq!(gone, json!({"status": "deleted", "id": house}));
    client.delete(&format!("/api/spaces/{house}")).await.expect(404);
    client.post_empty(&format!("/api/spaces/{house}/restore")).await.expect(404);
    let audited = client.get("/api/audit/entries").await.expect(200).json()["items"].to_string();
    assert!(audited.contains(&house), "{audited}");

    server.restart();
    let client = server.client();
    assert_eq!(client.get("/api/spaces").await.expect(200).json()["total"], 2);
    assert!(client.get(&format!("/api/spaces/{garden}")).await.expect(200).json()["merged_into"].is_null(), "it leads nowhere");
    client.post("/api/chat", &json!({"content": "again", "session_id": sessions[0]})).await.expect(409);
    client.get(&format!("/api/sessions/{}", sessions[1])).await.expect(200);
    // Whoever echoes what was told makes no space of it.
    for space in [Value::Null, json!(house)] {
        client.post("/api/chat", &json!({"content": "again", "session_id": sessions[1], "space_id": space})).await.expect(200);
    }
    for n in [3, 4] {
        let told = model.request(n).await.told();
        assert!(["house", "town"].iter().all(|space| !told.contains(&format!("This is {space}."))), "{told}");
    }
    assert_eq!(client.get("/api/spaces").await.expect(200).json()["total"], 2);
    let listed = client.get(&format!("/api/sessions?space_id={house}")).await.expect(200).json();
    assert_eq!(listed["items"][0]["id"], sessions[1], "where it was said: {listed}");
}

#[tokio::test]
async fn fields_of_spaces_have_limits() {
    let server = Setup::new().start();
    let client = server.client();
    for (body, status) in [
        (json!({"name": "x"}), 201),
        (json!({"name": ""}), 400),
        (json!({"name": "a\nb"}), 400),
        (json!({"name": "x".repeat(257)}), 400),
        (json!({"name": "x", "description": "x".repeat(1025)}), 400),
        (json!({"name": "x", "context": "x".repeat(8 * 1024 + 1)}), 413),
        (json!({"name": "x", "unknown": 1}), 422),
        (json!({}), 422),
    ] {
        assert_eq!(client.post("/api/spaces", &body).await.status, status, "{}", body.to_string().chars().take(60).collect::<String>());
    }
    client.get("/api/spaces/nothing").await.expect(400);
    client.get("/api/spaces/67e55044-10b1-426f-9247-bb680e5fe0c8").await.expect(404);
    client.post_empty("/api/spaces/67e55044-10b1-426f-9247-bb680e5fe0c8/activate").await.expect(404);
}

#[tokio::test]
async fn a_sessions_space_tells_the_model_its_context_also_after_a_merge_and_a_restart() {
    let model = Scripted::start();
    model.always(Reply::text(&["Fine."]));
    let mut server = Setup::new().openai(&model).start();
    let client = server.client();
    let [garden, house] = [make(&client, "garden").await, make(&client, "house").await];
    post(&client, &garden, "activate").await;
    let answer = client.post("/api/chat", &json!({"content": "hello"})).await.expect(200).json();
    assert_eq!(answer["space_id"], garden, "the current one, and it is said: {answer}");
    let session = answer["session_id"].as_str().unwrap().to_owned();
    assert!(model.request(1).await.told().contains("This is garden."));
    let answer = client.post("/api/chat", &json!({"content": "hello", "space_id": house})).await.expect(200).json();
    assert_eq!(answer["space_id"], house);
    let told = model.request(2).await.told();
    assert!(told.contains("This is house.") && !told.contains("garden"), "{told}");
    client.post("/api/spaces/merge", &json!({"from": garden, "into": house})).await.expect(200);

    server.restart();
    let client = server.client();
    client.post("/api/chat", &json!({"content": "again", "session_id": session})).await.expect(200);
    let told = model.request(3).await.told();
    assert!(told.contains("This is house.") && !told.contains("garden"), "{told}");
    let list = client.get("/api/sessions").await.expect(200).json();
    let item = list["items"].as_array().unwrap().iter().find(|item| item["id"] == session).unwrap().clone();
    assert_eq!(item["space_id"], garden, "where it was said: {item}");
}

/// A key that may only chat moved sessions about: what a message named was the session's space from then on.
#[tokio::test]
async fn a_message_says_where_a_session_is_held_only_as_its_first_one() {
    let mut server = Setup::new().start();
    let admin = server.client();
    let [garden, house] = [make(&admin, "garden").await, make(&admin, "house").await];
    let key = admin.post("/api/keys", &json!({"name": "x", "scopes": ["chat", "read"]})).await.expect(201).json()["key"].clone();
    let client = server.stranger().with_key(key.as_str());
    let say = |session: &Value, space: &Value| json!({"type": "message", "content": "hello", "session_id": session, "space_id": space});
    let first = client.post("/api/chat", &say(&Value::Null, &json!(garden))).await.expect(200).json()["session_id"].clone();
    let free = client.post("/api/chat", &say(&Value::Null, &Value::Null)).await.expect(200).json()["session_id"].clone();
    assert_eq!(
        client.post("/api/chat", &say(&free, &json!(garden))).await.expect(200).json()["space_id"],
        garden,
        "the first that is named"
    );
    let elsewhere = [(&first, json!(house)), (&free, json!(house)), (&first, json!("67e55044-10b1-426f-9247-bb680e5fe0c8"))];
    let mut socket = Ws::chat(&client).await;
    for (session, space) in &elsewhere {
        let error = client.post("/api/chat", &say(session, space)).await.expect(409).error();
        assert!(error.contains("PATCH"), "{error}");
        socket.send(&say(session, space)).await;
        let refused = socket.json().await;
        assert_eq!((&refused["type"], &refused["code"]), (&json!("error"), &json!("space")), "{refused}");
    }
    assert_eq!(admin.get("/api/spaces").await.expect(200).json()["total"], 2, "and no space is made by it");
    for space in [json!(garden), Value::Null, json!("")] {
        let answer = client.post("/api/chat", &say(&first, &space)).await.expect(200).json();
        assert_eq!(answer["space_id"], garden, "its own, by name or not");
    }
    // A retry finds its first run, also where the session was moved meanwhile.
    let named = || Ask::new("POST", "/api/chat").json(&say(&first, &json!(garden))).header("idempotency-key", "k");
    let said = client.send(named()).await.expect(200).json();
    admin.send(Ask::new("PATCH", format!("/api/sessions/{}", first.as_str().unwrap())).json(&json!({"space_id": house}))).await.expect(200);
    server.restart();
    let client = server.stranger().with_key(key.as_str());
    assert_eq!(client.send(named()).await.expect(200).json()["id"], said["id"]);
    client.post("/api/chat", &say(&first, &json!(garden))).await.expect(409);
    let answer = client.post("/api/chat", &say(&first, &json!(house))).await.expect(200).json();
    assert_eq!(answer["space_id"], house);
    // What its space was merged into is no other place, and a retry finds its first run, whatever became of either since.
    let admin = server.client();
    let attic = make(&admin, "attic").await;
    admin.post("/api/spaces/merge", &json!({"from": house, "into": attic})).await.expect(200);
    assert_eq!(client.send(named()).await.expect(200).json()["id"], said["id"]);
    let later = || Ask::new("POST", "/api/chat").json(&say(&first, &json!(attic))).header("idempotency-key", "l");
    let moved = client.send(later()).await.expect(200).json();
    assert_eq!(moved["space_id"], attic);
    admin.post_empty(&format!("/api/spaces/{house}/restore")).await.expect(200);
    assert_eq!(client.send(later()).await.expect(200).json()["id"], moved["id"]);
    client.post("/api/chat", &say(&first, &json!(garden))).await.expect(409);
}
