//! Sessions in spaces and with personas: defaults, changes, search, fork, export and import (API B), each found again after a restart.

use serde_json::{Value, json};

use crate::support::client::{Answer, Ask, Client};
use crate::support::scripted::{Reply, Scripted};
use crate::support::server::Setup;

const UNKNOWN: &str = "67e55044-10b1-426f-9247-bb680e5fe0c8";

async fn say(client: &Client, content: &str, session: Option<&str>) -> String {
    let answer = client.post("/api/chat", &json!({"content": content, "session_id": session})).await.expect(200).json();
    answer["session_id"].as_str().unwrap().to_owned()
}

async fn patch(client: &Client, session: &str, body: &Value) -> Answer {
    client.send(Ask::new("PATCH", format!("/api/sessions/{session}")).json(body)).await
}

async fn space(client: &Client, name: &str) -> String {
    client.post("/api/spaces", &json!({"name": name})).await.expect(201).json()["id"].as_str().unwrap().to_owned()
}

async fn persona(client: &Client, name: &str) -> String {
    client.post("/api/personas", &json!({"name": name, "prompt": "Be kind."})).await.expect(201).json()["id"].as_str().unwrap().to_owned()
}

async fn detail(client: &Client, session: &str) -> Value {
    client.get(&format!("/api/sessions/{session}")).await.expect(200).json()
}

#[tokio::test]
async fn a_new_session_takes_its_owners_defaults_and_keeps_its_own() {
    let mut server = Setup::new().start();
    let client = server.client();
    let before = say(&client, "hello", None).await;
    let (home, poet) = (space(&client, "home").await, persona(&client, "poet").await);
    client.post_empty(&format!("/api/spaces/{home}/activate")).await.expect(200);
    client.send(Ask::new("PUT", "/api/personas/active").json(&json!({"id": poet}))).await.expect(200);
    let after = say(&client, "hello", None).await;
    let named = say(&client, "hello", Some(UNKNOWN)).await;
    say(&client, "hello again", Some(&before)).await;
    client.send(Ask::new("PUT", "/api/personas/active").json(&json!({"id": null}))).await.expect(200);
    client.post_empty(&format!("/api/spaces/{home}/archive")).await.expect(200);
    // It stays its space, and takes nothing more in it.
    client.post("/api/chat", &json!({"content": "hello again", "session_id": after})).await.expect(409);
    for restarted in [false, true] {
        if restarted {
            server.restart();
        }
        let client = server.client();
        for (session, space, persona) in
            [(&before, Value::Null, Value::Null), (&after, json!(home), json!(poet)), (&named, json!(home), json!(poet))]
        {
            let shown = detail(&client, session).await;
            assert_eq!((&shown["space_id"], &shown["active_persona_id"]), (&space, &persona), "{shown}");
        }
    }
}

#[tokio::test]
async fn title_space_and_persona_are_changed_and_found_again_after_a_restart() {
    let mut server = Setup::new().start();
    server.canary("canary-title");
    let client = server.client();
    let session = say(&client, "Plan a trip to Rome", None).await;
    let (home, poet) = (space(&client, "home").await, persona(&client, "poet").await);
    let body = json!({"title": "canary-title", "space_id": home, "persona_id": poet});
    let item = patch(&client, &session, &body).await.expect(200).json();
    assert_eq!((&item["id"], &item["title"], &item["space_id"]), (&json!(session), &json!("canary-title"), &json!(home)), "{item}");
    server.restart();
    let client = server.client();
    assert_eq!(client.get("/api/sessions").await.expect(200).json()["items"], json!([item]));
    let shown = detail(&client, &session).await;
    assert_eq!(
        (&shown["space_id"], &shown["active_persona_id"], &shown["metadata"]["title"]),
        (&json!(home), &json!(poet), &item["title"])
    );
    let back = patch(&client, &session, &json!({"title": null, "space_id": null})).await.expect(200).json();
    assert_eq!((&back["title"], &back["space_id"]), (&json!("Plan a trip to Rome"), &Value::Null));
    assert_eq!(detail(&client, &session).await["active_persona_id"], poet, "what is not named stays");
    client.post_empty(&format!("/api/spaces/{home}/archive")).await.expect(200);
    for (body, status) in [
        (json!({}), 200),
        (json!({"space_id": UNKNOWN}), 404),
        (json!({"persona_id": UNKNOWN}), 404),
        (json!({"space_id": home}), 409),
        (json!({"title": "a\nb"}), 400),
        (json!({"title": "x".repeat(257)}), 400),
        (json!({"name": "x"}), 422),
        (json!({"space_id": 7}), 422),
    ] {
        assert_eq!(patch(&client, &session, &body).await.status, status, "{body}");
    }
    patch(&client, UNKNOWN, &json!({})).await.expect(404);
    let other = client.post("/api/keys", &json!({"name": "other", "scopes": ["read", "write"], "owner": "new"})).await.expect(201).json();
    patch(&client.with_key(other["key"].as_str()), &session, &json!({"title": "mine"})).await.expect(404);
}

fn ids(page: &Value) -> Vec<String> {
    page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn sessions_are_found_by_their_words_and_their_space() {
    let mut server = Setup::new().start();
    let client = server.client();
    let rome = say(&client, "Plan a trip to Rome in spring", None).await;
    let paris = say(&client, "Plan a trip to Paris", None).await;
    let home = space(&client, "home").await;
    patch(&client, &paris, &json!({"title": "Städtereise", "space_id": home})).await.expect(200);
    for restarted in [false, true] {
        if restarted {
            server.restart();
        }
        let client = server.client();
        for (query, found) in [
            ("q=trip", vec![&paris, &rome]),
            ("q=TRIP+Rome", vec![&rome]),
            ("q=spri", vec![&rome]),
            ("q=st%C3%A4dtereise+paris", vec![&paris]),
            ("q=rome+paris", vec![]),
            ("q=trip&limit=1&page=2", vec![&rome]),
            (&format!("space_id={home}"), vec![&paris]),
            (&format!("space_id={home}&q=rome"), vec![]),
            ("q=+", vec![&paris, &rome]),
        ] {
            let page = client.get(&format!("/api/sessions?{query}")).await.expect(200).json();
            assert_eq!(ids(&page).iter().collect::<Vec<_>>(), found, "{query}: {page}");
            assert!(page.get("cut").is_none(), "{page}");
        }
        let page = client.get("/api/sessions?q=spring&limit=1").await.expect(200).json();
        assert_eq!((&page["total"], &page["limit"]), (&json!(1), &json!(1)));
        assert!(page["items"][0]["snippet"].as_str().unwrap().contains("Rome in spring"), "{page}");
    }
    let client = server.client();
    client.get("/api/sessions?q=%3F%3F").await.expect(400);
    client.get("/api/sessions?space_id=x").await.expect(400);
    let other = client.post("/api/keys", &json!({"name": "other", "scopes": ["read", "write"], "owner": "new"})).await.expect(201).json();
    let stranger = client.with_key(other["key"].as_str());
    assert_eq!(stranger.get("/api/sessions?q=trip").await.expect(200).json()["total"], 0);
    stranger.post_empty(&format!("/api/sessions/{rome}/fork")).await.expect(404);
    stranger.get(&format!("/api/sessions/{rome}/export")).await.expect(404);
}

#[tokio::test]
async fn a_fork_has_the_turns_up_to_its_message_and_goes_its_own_way() {
    let mut server = Setup::new().start();
    let client = server.client();
    let first = client.post("/api/chat", &json!({"content": "one", "idempotency_key": "k"})).await.expect(200).json();
    let session = first["session_id"].as_str().unwrap();
    say(&client, "two", Some(session)).await;
    let poet = persona(&client, "poet").await;
    patch(&client, session, &json!({"title": "Numbers", "persona_id": poet})).await.expect(200);
    let path = format!("/api/sessions/{session}/fork");
    let at = detail(&client, session).await["user_messages"][0]["message_id"].clone();
    assert_eq!(at, first["id"], "whoever reads a session knows where to fork it");
    let part = client.post(&path, &json!({"message_id": at})).await.expect(201).json();
    let whole = client.post_empty(&path).await.expect(201).json();
    assert_eq!((&part["message_count"], &whole["message_count"], &part["title"]), (&json!(1), &json!(2), &json!("Numbers")));
    for fork in [&part, &whole] {
        assert_eq!(fork["updated_at"], detail(&client, fork["id"].as_str().unwrap()).await["updated_at"]);
    }
    let part = part["id"].as_str().unwrap();
    say(&client, "three", Some(part)).await;
    let source = detail(&client, session).await;
    for restarted in [false, true] {
        if restarted {
            server.restart();
        }
        let client = server.client();
        let forked = detail(&client, part).await;
        assert_eq!(said(&forked)[..1], said(&source)[..1]);
        assert_eq!(forked["agent_responses"][0]["content"], source["agent_responses"][0]["content"]);
        assert_eq!((&forked["user_messages"][1]["content"], &forked["active_persona_id"]), (&json!("three"), &json!(poet)));
        assert_eq!(detail(&client, session).await, source, "the source stays as it is");
        assert_eq!(client.get("/api/sessions").await.expect(200).json()["total"], 3);
        let copied = detail(&client, whole["id"].as_str().unwrap()).await;
        assert_eq!(said(&copied), said(&source));
    }
    let client = server.client();
    client.post(&path, &json!({"message_id": UNKNOWN})).await.expect(404);
    client.post(&path, &json!({"message": 1})).await.expect(422);
    client.post_empty(&format!("/api/sessions/{UNKNOWN}/fork")).await.expect(404);
}

/// What the user said and when. A copy's messages have ids of their own.
fn said(detail: &Value) -> Vec<(Value, Value)> {
    detail["user_messages"].as_array().unwrap().iter().map(|said| (said["content"].clone(), said["timestamp"].clone())).collect()
}

/// 76 turns of 60 kB were exported and could not be imported.
#[tokio::test]
async fn a_long_session_can_be_exported_and_imported() {
    let server = Setup::new().start();
    let client = server.client();
    let text = "word ".repeat(13_000);
    let users: Vec<_> = (0..40)
        .map(|n| json!({"content": format!("{n} {text}"), "timestamp": format!("2026-01-01T00:{:02}:{:02}Z", n / 60, n % 60)}))
        .collect();
    let answers: Vec<_> = users.iter().map(|said| json!({"content": said["content"], "timestamp": said["timestamp"]})).collect();
    let made = client.post("/api/sessions/import", &json!({"user_messages": users, "agent_responses": answers})).await.expect(201).json();
    let exported = client.get(&format!("/api/sessions/{}/export", made["id"].as_str().unwrap())).await.expect(200);
    assert!(exported.body.len() > 5_000_000, "{}", exported.body.len());
    let again = client.post("/api/sessions/import", &exported.json()).await.expect(201).json();
    assert_eq!(again["message_count"], 40);
    let shown = detail(&client, again["id"].as_str().unwrap()).await;
    assert_eq!(said(&shown), said(&exported.json()));
}

/// They were taken, and meant something else afterwards or could not have been said here.
#[tokio::test]
async fn an_import_names_the_field_that_is_wrong() {
    let server = Setup::new().start();
    let client = server.client();
    let one = |more: Value| {
        let mut body = json!({"user_messages": [{"content": "x", "timestamp": "2025-05-01T10:00:00.123456+02:00"}], "agent_responses": []});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    for (body, status, names) in [
        (one(json!({"created_at": "garbage"})), 422, "created_at"),
        (one(json!({"created_at": "1969-13-01T00:00:00Z"})), 422, "created_at"),
        (one(json!({"updated_at": 7})), 422, "updated_at"),
        (one(json!({"user_messages": [{"content": "x", "timestamp": "yesterday"}]})), 422, "user_messages[0].timestamp"),
        (one(json!({"agent_responses": [{"content": "x"}, {"content": "y", "timestamp": ""}]})), 422, "agent_responses[1].timestamp"),
    ] {
        let error = client.post("/api/sessions/import", &body).await.expect(status).error();
        assert!(error.contains(names), "{error}");
    }
    assert_eq!(client.get("/api/sessions").await.expect(200).json()["total"], 0, "nothing is made");
    // A history that came by /v1 has messages longer than one can be said.
    let long = json!({"user_messages": [{"content": "x".repeat(200_000), "timestamp": null}], "agent_responses": [{"content": "y".repeat(65_537)}]});
    let old = one(json!({"created_at": "0702-12-18T21:20:27.59-21:06", "updated_at": "9999-12-31T23:59:59-23:59"}));
    for body in [one(json!({"created_at": null})), one(json!({"updated_at": "1970-01-01T00:00:00+01:00"})), old, long] {
        client.post("/api/sessions/import", &body).await.expect(201);
    }
}

/// Who waits for its turn holds all that it sent, so nobody does.
#[tokio::test]
async fn imports_at_the_same_time_are_told_to_come_again() {
    let server = Setup::new().start();
    let client = server.client();
    let bodies: Vec<Value> =
        (0..8).map(|n| json!({"user_messages": [{"content": format!("{n}{}", "x".repeat(500_000))}], "agent_responses": []})).collect();
    let made = futures_util::future::join_all(bodies.iter().map(|body| client.post("/api/sessions/import", body))).await;
    let mut brought = 0;
    for (answer, body) in made.into_iter().zip(&bodies) {
        if answer.status == 429 {
            assert!(answer.header("retry-after").is_some() && answer.error().contains("in a moment"), "{}", answer.text());
            client.post("/api/sessions/import", body).await.expect(201);
        } else {
            answer.expect(201);
            brought += 1;
        }
    }
    assert!(brought > 0);
    assert_eq!(client.get("/api/sessions").await.expect(200).json()["total"], 8);
}

/// There was an empty answer, and nothing said why.
#[tokio::test]
async fn an_exported_text_says_why_an_answer_failed() {
    let model = Scripted::start();
    model.always(Reply::status(401, "{}"));
    let mut server = Setup::new().openai(&model).start();
    let made = server.client().post("/api/chat", &json!({"content": "hello", "session_id": UNKNOWN})).await.expect(502);
    for restarted in [false, true] {
        if restarted {
            server.restart();
        }
        let text = server.client().get(&format!("/api/sessions/{UNKNOWN}/export?format=markdown")).await.expect(200).text();
        let (_, answer) = text.split_once("## Answer (failed), ").unwrap_or_else(|| panic!("{text}"));
        assert!(answer.contains(&format!("\n\n({})\n", made.error())) && answer.contains("refused the API key"), "{text} {}", made.error());
    }
}

#[tokio::test]
async fn what_was_exported_is_imported_again() {
    let mut server = Setup::new().start();
    let client = server.client();
    let session = say(&client, "Plan a trip to Rome", None).await;
    let (home, poet) = (space(&client, "home").await, persona(&client, "poet").await);
    patch(&client, &session, &json!({"title": "Italy", "space_id": home, "persona_id": poet})).await.expect(200);
    let exported = client.get(&format!("/api/sessions/{session}/export?format=json")).await.expect(200);
    assert_eq!(exported.header("content-disposition"), Some(format!("attachment; filename=\"session-{session}.json\"").as_str()));
    let exported = exported.json();
    let markdown = client.get(&format!("/api/sessions/{session}/export?format=markdown")).await.expect(200).text();
    assert!(
        markdown.starts_with("# Italy\n") && markdown.contains("## User, ") && markdown.contains("\n\nPlan a trip to Rome\n"),
        "{markdown}"
    );
    client.get(&format!("/api/sessions/{session}/export?format=pdf")).await.expect(400);

    let again = client.post("/api/sessions/import", &exported).await.expect(201).json();
    assert_ne!(again["id"], json!(session), "the id is taken");
    let mut free = exported.clone();
    free["id"] = json!(UNKNOWN);
    free["space_id"] = json!(UNKNOWN);
    free["metadata"]["owner"] = json!(UNKNOWN);
    let kept = client.post("/api/sessions/import", &free).await.expect(201).json();
    assert_eq!((&kept["id"], &kept["title"], &kept["space_id"]), (&json!(UNKNOWN), &json!("Italy"), &Value::Null), "{kept}");
    for restarted in [false, true] {
        if restarted {
            server.restart();
        }
        let client = server.client();
        let shown = detail(&client, again["id"].as_str().unwrap()).await;
        for field in ["space_id", "active_persona_id", "created_at", "user_id"] {
            assert_eq!(shown[field], exported[field], "{field}");
        }
        assert_eq!(said(&shown), said(&exported));
        assert_eq!(shown["agent_responses"][0]["content"], exported["agent_responses"][0]["content"]);
        assert_eq!(shown["metadata"]["title"], "Italy");
        assert_eq!(client.get("/api/sessions").await.expect(200).json()["total"], 3);
    }
    let client = server.client();
    say(&client, "and then?", Some(UNKNOWN)).await;
    for (body, status) in [(json!({}), 400), (json!([]), 422), (json!({"user_messages": 7}), 422)] {
        assert_eq!(client.post("/api/sessions/import", &body).await.status, status, "{body}");
    }
}

/// What one request reads again is not missing for another one meanwhile.
#[tokio::test]
async fn copies_made_at_the_same_time_are_all_found() {
    let server = Setup::new().env("OXIOS_SECURITY__RATE_LIMIT_PER_MINUTE", "0").start();
    let client = server.client();
    let said = client.post("/api/chat", &json!({"content": "hello"})).await.expect(200).json();
    let path = format!("/api/sessions/{}/fork", said["session_id"].as_str().unwrap());
    let body = json!({});
    for _ in 0..8 {
        let made = futures_util::future::join_all((0..16).map(|_| client.post(&path, &body))).await;
        for answer in made {
            answer.expect(201);
        }
    }
}

/// Each message costs far more than the bytes that it may have there.
#[tokio::test]
async fn an_import_has_a_bounded_number_of_messages() {
    let server = Setup::new().start();
    let client = server.client();
    let of = |messages: usize| json!({"user_messages": vec![json!({"content": "x"}); messages], "agent_responses": []});
    let refused = client.post("/api/sessions/import", &of(32_769)).await.expect(413);
    assert!(refused.error().contains("32768"), "{}", refused.error());
    assert_eq!(client.get("/api/sessions").await.expect(200).json()["total"], 0, "nothing is made");
    // More values than other bodies may have.
    let made = client.post("/api/sessions/import", &of(32_768)).await.expect(201).json();
    assert_eq!(made["message_count"], 32_768, "{made}");
}

/// It is in the record of each message: a body of 0.9 MB became a log of 270 MB.
#[tokio::test]
async fn an_imported_session_says_who_spoke_as_briefly_as_a_message_does() {
    let server = Setup::new().start();
    let client = server.client();
    let of = |bytes: usize| json!({"user_id": "u".repeat(bytes), "user_messages": vec![json!({"content": "x"}); 300]});
    let error = client.post("/api/sessions/import", &of(257)).await.expect(400).error();
    assert!(error.contains("user_id"), "{error}");
    assert_eq!(client.get("/api/sessions").await.expect(200).json()["total"], 0, "nothing is made");
    client.post("/api/sessions/import", &of(256)).await.expect(201);
}
