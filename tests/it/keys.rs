//! Keys over the wire: made, listed, revoked, rotated. What each may do is in `access.rs`.

use serde_json::{Value, json};

use crate::support::client::{Ask, Client};
use crate::support::server::{Setup, command};
use crate::support::ws::Ws;

const SCOPES: [&str; 5] = ["read", "chat", "write", "approve", "admin"];

async fn make(client: &Client, body: Value) -> (String, String) {
    let made = client.post("/api/keys", &body).await.expect(201).json();
    (made["id"].as_str().unwrap().to_owned(), made["key"].as_str().unwrap().to_owned())
}

/// The ids in the list.
async fn listed(client: &Client) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let page = client.get("/api/keys?limit=500").await.expect(200).json();
    page["items"].as_array().unwrap().iter().map(|key| (text(&key["id"]), text(&key["status"]))).collect()
}

#[tokio::test]
async fn the_key_of_the_environment_is_accepted_beside_the_others_and_kept_nowhere() {
    let key = "environment-key-canary-8d1f0a7c";
    let mut server = Setup::new().env("OXIOS_API_KEY", key).start();
    server.canary(key);
    let by_environment = server.stranger().with_key(Some(key));
    let session = server.client().post("/api/chat", &json!({"content": "hello"})).await.expect(200).json()["session_id"].clone();
    by_environment.get(&format!("/api/sessions/{}", session.as_str().unwrap())).await.expect(200);
    make(&by_environment, json!({"name": "one more", "scopes": ["read", "admin"]})).await;
    assert_eq!(listed(&by_environment).await, listed(&server.client()).await, "it is no key of the table");
    assert!(!std::fs::read_to_string(server.home().join("keys.json")).unwrap().contains(key));
    server.restart_as(Setup::new());
    server.stranger().with_key(Some(key)).get("/api/sessions").await.expect(401);
}

#[tokio::test]
async fn a_key_is_made_listed_and_revoked_also_over_a_restart() {
    let mut server = Setup::new().start();
    let admin = server.client();
    let (id, key) = make(&admin, json!({"name": "reader", "scopes": ["read"], "expires_in_secs": 3600, "rate_limit_per_minute": 2})).await;
    server.canary(&key);
    server.restart();
    let (admin, reader) = (server.client(), server.stranger().with_key(Some(&key)));
    let page = admin.get("/api/keys").await.expect(200);
    assert!(!page.text().contains(&key), "a key is shown once");
    let item = page.json()["items"].as_array().unwrap().iter().find(|item| item["id"] == id.as_str()).unwrap().clone();
    assert_eq!((&item["name"], &item["scopes"], &item["status"]), (&json!("reader"), &json!(["read"]), &json!("active")));
    assert!(item["expires_at"].is_string());
    reader.get("/api/sessions").await.expect(200);
    reader.get("/api/keys").await.expect(403);
    reader.get("/api/sessions").await.expect(200);
    let limited = reader.get("/api/sessions").await.expect(429);
    assert_eq!(limited.header("ratelimit-policy"), Some("\"default\";q=2;w=60"), "the key's own rate");
    let gone = admin.delete(&format!("/api/keys/{id}")).await.expect(200).json();
    assert_eq!(gone, json!({"status": "revoked", "id": id}));
    reader.get("/api/sessions").await.expect(401);
    server.restart();
    server.stranger().with_key(Some(&key)).get("/api/sessions").await.expect(401);
    assert!(listed(&server.client()).await.contains(&(id, "revoked".into())));
}

#[tokio::test]
async fn what_makes_no_key_is_refused_with_what_to_do() {
    let server = Setup::new().start();
    let admin = server.client();
    for (body, status) in [
        (json!({"scopes": ["read"]}), 422),
        (json!({"name": "x"}), 422),
        (json!({"name": "x", "scopes": ["root"]}), 422),
        (json!({"name": "x", "scopes": ["read"], "owner": "somebody"}), 422),
        (json!({"name": "x", "scopes": ["read"], "unknown": 1}), 422),
        (json!({"name": "x", "scopes": []}), 400),
        (json!({"name": " ", "scopes": ["read"]}), 400),
        (json!({"name": "a\nb", "scopes": ["read"]}), 400),
        (json!({"name": "x".repeat(65), "scopes": ["read"]}), 400),
        (json!({"name": "x", "scopes": ["read"], "expires_in_secs": 0}), 400),
        (json!({"name": "x", "scopes": ["read"], "expires_in_secs": u64::MAX}), 400),
        (json!({"name": "x", "scopes": ["read"], "rate_limit_per_minute": 0}), 400),
    ] {
        admin.post("/api/keys", &body).await.expect(status).error();
    }
    let nobody = "67e55044-10b1-426f-9247-bb680e5fe0c8";
    admin.delete(&format!("/api/keys/{nobody}")).await.expect(404);
    admin.delete("/api/keys/x").await.expect(400);
    admin.post_empty(&format!("/api/keys/{nobody}/rotate")).await.expect(404);
}

/// THREATS 5: scopes come from the key's record, and nobody gives what he has not.
#[tokio::test]
async fn a_key_makes_and_rotates_only_keys_with_scopes_it_has() {
    let server = Setup::new().start();
    let first = listed(&server.client()).await[0].0.clone();
    let (_, key) = make(&server.client(), json!({"name": "keys only", "scopes": ["admin"]})).await;
    let lesser = server.stranger().with_key(None).with_key(Some(&key));
    lesser.post("/api/keys", &json!({"name": "x", "scopes": ["admin", "read"]})).await.expect(403).error();
    lesser.post("/api/keys", &json!({"name": "x", "scopes": ["read"], "owner": "new"})).await.expect(403);
    lesser.post_empty(&format!("/api/keys/{first}/rotate")).await.expect(403);
    make(&lesser, json!({"name": "x", "scopes": ["admin"]})).await;
}

/// Whoever lost the first answer asks again: the second key died with the first one's overlap. What is in its overlap itself makes
/// none that lives longer.
#[tokio::test]
async fn a_key_that_is_rotated_again_makes_one_with_its_own_life() {
    let server = Setup::new().start();
    let admin = server.client();
    let (id, key) = make(&admin, json!({"name": "turning", "scopes": SCOPES})).await;
    let overlap = json!({"overlap_secs": 3600});
    for _ in 0..2 {
        let made = admin.post(&format!("/api/keys/{id}/rotate"), &overlap).await.expect(201).json();
        assert_eq!(made["expires_at"], Value::Null);
    }
    let old = server.stranger().with_key(Some(&key));
    let error = old.post(&format!("/api/keys/{id}/rotate"), &overlap).await.expect(403).error();
    assert!(error.contains("rotated already"), "{error}");
    let output = command(server.home()).args(["key", "rotate", &id]).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && told.contains("has no end"), "{told}");
    old.get("/api/keys").await.expect(401);
    let output = command(server.home()).args(["key", "create", "--expires-in", "1h", "x"]).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("ends at 20"), "{told}");
}

/// The new key was cut to the caller's limits without a word, and lay in the token file, where it died.
#[tokio::test]
async fn a_key_rotates_none_that_lives_longer_or_is_faster_than_itself() {
    let server = Setup::new().start();
    let admin = server.client();
    let first = listed(&admin).await[0].0.clone();
    for limits in [json!({"expires_in_secs": 60}), json!({"rate_limit_per_minute": 20})] {
        let mut body = json!({"name": "limited", "scopes": SCOPES});
        body.as_object_mut().unwrap().extend(limits.as_object().unwrap().clone());
        let (id, key) = make(&admin, body).await;
        let limited = server.stranger().with_key(Some(&key));
        let error = limited.post_empty(&format!("/api/keys/{first}/rotate")).await.expect(403).error();
        assert!(error.contains("end no later"), "{error}");
        let renewed = limited.post_empty(&format!("/api/keys/{id}/rotate")).await.expect(201).json();
        assert_eq!(renewed["rate_limit_per_minute"], limits["rate_limit_per_minute"]);
        assert_eq!(renewed["expires_at"].is_null(), limits["expires_in_secs"].is_null());
    }
    assert_eq!(std::fs::read_to_string(server.home().join("token")).unwrap().trim(), server.key());
    admin.get("/api/keys").await.expect(200);
}

/// THREATS 5: whatever a client says of its scopes, in whatever place, they are those of the key's record; and a record that says
/// nothing of them opens nothing.
#[tokio::test]
async fn scopes_come_from_the_keys_record_whatever_a_client_says_and_are_never_missing() {
    let mut server = Setup::new().start();
    let (_, key) = make(&server.client(), json!({"name": "reader", "scopes": ["read"]})).await;
    let reader = server.stranger().with_key(Some(&key));
    let claims = json!({"scopes": ["admin"], "scope": "admin"});
    let ticket = reader.post("/api/chat/ticket", &claims).await;
    assert!(matches!(ticket.status, 200 | 400 | 422), "{}", ticket.status);
    for target in ["/api/keys", "/api/keys?scope=admin&scopes=admin", "/api/config?scopes[]=admin"] {
        for header in ["x-scopes", "x-oauth-scopes", "x-forwarded-scopes", "scope"] {
            reader.send(Ask::new("GET", target).header(header, "admin read write").header("cookie", "scopes=admin")).await.expect(403);
        }
    }
    let login = reader.post("/api/login", &json!({"key": key, "scopes": ["admin"]})).await;
    assert_eq!(login.status, 422, "a login says nothing of scopes");
    server.stop().await;
    let file = server.home().join("keys.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let mut keys: Value = serde_json::from_str(&text).unwrap();
    let records = keys.as_object_mut().map(|all| all.values_mut().find(|v| v.is_array()).unwrap()).unwrap().as_array_mut().unwrap();
    let reader = records.iter_mut().find(|record| record["name"] == "reader").unwrap().as_object_mut().unwrap();
    assert!(reader.remove("scopes").is_some());
    std::fs::write(&file, keys.to_string()).unwrap();
    let output = command(server.home()).args(["serve", "--listen", "127.0.0.1:0"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("keys.json is damaged"), "{said}");
}

#[tokio::test]
async fn another_owner_sees_none_of_the_keys() {
    let server = Setup::new().start();
    let admin = server.client();
    let first = listed(&admin).await[0].0.clone();
    let (id, key) = make(&admin, json!({"name": "other", "scopes": SCOPES, "owner": "new"})).await;
    let other = server.stranger().with_key(Some(&key));
    assert_eq!(listed(&other).await, [(id.clone(), "active".to_owned())]);
    assert!(!listed(&admin).await.iter().any(|(listed, _)| *listed == id), "admin does not widen what is seen");
    other.delete(&format!("/api/keys/{first}")).await.expect(404);
    other.post_empty(&format!("/api/keys/{first}/rotate")).await.expect(404);
    admin.delete(&format!("/api/keys/{id}")).await.expect(404);
    other.get("/api/keys").await.expect(200);
}

/// THREATS 6: revoking ends what is open, too.
#[tokio::test]
async fn a_rotated_key_goes_on_for_its_overlap_and_a_revoked_ones_streams_end() {
    let mut server = Setup::new().start();
    let (id, key) = make(&server.client(), json!({"name": "turning", "scopes": ["read"], "rate_limit_per_minute": 77})).await;
    let made = server.client().post(&format!("/api/keys/{id}/rotate"), &json!({"overlap_secs": 3600})).await.expect(201).json();
    let new = made["key"].as_str().unwrap().to_owned();
    assert_eq!((&made["scopes"], &made["rate_limit_per_minute"], &made["name"]), (&json!(["read"]), &json!(77), &json!("turning")));
    server.restart();
    for key in [&key, &new] {
        server.stranger().with_key(Some(key)).get("/api/sessions").await.expect(200);
    }
    let mut stream = server.stranger().with_key(Some(&new)).sse("/api/events").await;
    let new_id = made["id"].as_str().unwrap();
    let began = std::time::Instant::now();
    let third = server.client().post_empty(&format!("/api/keys/{new_id}/rotate")).await.expect(201).json();
    while stream.next().await.is_some() {}
    assert!(began.elapsed().as_secs() < 5, "ends within a second, not {:?}", began.elapsed());
    server.stranger().with_key(Some(&new)).get("/api/sessions").await.expect(401);
    let error = server.client().post_empty(&format!("/api/keys/{new_id}/rotate")).await.expect(409).error();
    assert!(error.contains("make a new one"), "{error}");
    // The command line does the same beside the server.
    let third_id = third["id"].as_str().unwrap();
    let output = command(server.home()).args(["key", "rotate", third_id, "--overlap", "1h"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let fourth = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    for key in [third["key"].as_str().unwrap(), &fourth] {
        server.stranger().with_key(Some(key)).get("/api/sessions").await.expect(200);
    }
}

/// THREATS 4: what HTTP refuses the WebSocket refuses, too.
#[tokio::test]
async fn messages_on_a_socket_count_against_the_keys_rate() {
    let server = Setup::new().start();
    let (_, key) = make(&server.client(), json!({"name": "x", "scopes": ["read", "chat"], "rate_limit_per_minute": 3})).await;
    let client = server.stranger().with_key(Some(&key));
    let mut socket = Ws::chat(&client).await;
    for _ in 0..2 {
        socket.say("hello", None).await;
        socket.until("done").await;
    }
    socket.send(&json!({"type": "message", "content": "hello"})).await;
    let refused = socket.json().await;
    assert_eq!((&refused["type"], &refused["code"]), (&json!("error"), &json!("rate")), "{refused}");
    assert!(refused["message"].as_str().unwrap().contains("too many requests"), "{refused}");
    socket.send(&json!({"type": "ping"})).await;
    assert_eq!(socket.json().await["type"], "pong", "stopping and living on are not counted");
    client.get("/api/sessions").await.expect(429);
    server.client().get("/api/sessions").await.expect(200);
}

#[test]
fn the_command_line_gives_every_limit() {
    let server = Setup::new().start();
    let run = |args: &[&str]| command(server.home()).arg("key").args(args).output().unwrap();
    let output = run(&["create", "guest", "--scopes", "read", "--rate", "2", "--expires-in", "12h", "--owner", "new"]);
    assert!(output.status.success(), "{output:?}");
    let key = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        server.client().post("/api/chat", &json!({"content": "hello"})).await.expect(200);
        let guest = server.stranger().with_key(Some(&key));
        assert_eq!(guest.get("/api/sessions").await.expect(200).json()["total"], 0, "another owner");
        guest.post("/api/chat", &json!({"content": "hello"})).await.expect(403);
        guest.get("/api/sessions").await.expect(200);
        guest.get("/api/sessions").await.expect(429);
    });
    let list = String::from_utf8(run(&["list"]).stdout).unwrap();
    let line = list.lines().find(|line| line.ends_with("guest")).unwrap();
    assert!(line.contains("  until 20") && line.contains("  read  ") && !list.contains(&key), "{list}");
    let json: Value = serde_json::from_slice(&run(&["list", "--json"]).stdout).unwrap();
    let made = json.as_array().unwrap().iter().find(|key| key["name"] == "guest").unwrap();
    assert_eq!((&made["rate_limit_per_minute"], &made["scopes"]), (&json!(2), &json!(["read"])));
    let id = made["id"].as_str().unwrap();
    assert!(run(&["revoke", id]).status.success());
    let line = String::from_utf8(run(&["list"]).stdout).unwrap().lines().find(|line| line.ends_with("guest")).unwrap().to_owned();
    assert!(line.contains("revoked"), "{line}");
    for args in [
        &["revoke"][..],
        &["revoke", "x"],
        &["create", "--scopes", "root"],
        &["create", "--rate", "0"],
        &["create", "--expires-in", "soon"],
    ] {
        assert_eq!(run(args).status.code(), Some(2), "{args:?}");
    }
    assert_eq!(run(&["revoke", "67e55044-10b1-426f-9247-bb680e5fe0c8"]).status.code(), Some(1));
}
