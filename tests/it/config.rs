//! The configuration over the wire: shown, changed, felt at once, the same after a restart; and the file changed by hand.

use serde_json::{Value, json};

use crate::support::client::{Answer, Ask, Client};
use crate::support::scripted::{Reply, Scripted};
use crate::support::server::{Server, Setup};

async fn put(client: &Client, path: &str, body: Value) -> Answer {
    client.send(Ask::new("PUT", path).json(&body)).await
}

async fn set(client: &Client, body: Value) -> Value {
    put(client, "/api/config", body).await.expect(200).json()
}

fn file(server: &Server) -> String {
    std::fs::read_to_string(server.home().join("config.toml")).unwrap()
}

/// Asks until what is asked for is so; the test's own time limit ends it otherwise.
async fn until(client: &Client, pointer: &str, wanted: Value) {
    for _ in 0..4000 {
        if client.get("/api/config").await.expect(200).json().pointer(pointer) == Some(&wanted) {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("{pointer} never became {wanted}");
}

#[tokio::test]
async fn comments_line_ends_and_the_mark_before_the_text_stay_as_their_owner_wrote_them() {
    let server = Setup::new().start();
    let client = server.client();
    let lines = |lines: &[&str]| format!("\u{feff}{}\r\n", lines.join("\r\n"));
    let [a, b, c] = ["  \"https://a.example\", # why a", "  \"https://b.example\", # why b", "  \"https://c.example\","];
    let text = lines(&["[security]", "cors_origins = [", a, b, "]", "", "[session]", "# keep", "ttl_hours = 5"]);
    std::fs::write(server.home().join("config.toml"), &text).unwrap();
    set(&client, json!({"session": {"ttl_hours": 5}})).await;
    assert_eq!(file(&server), text);
    set(&client, json!({"session": {"ttl_hours": null}})).await;
    set(&client, json!({"logging": {"level": "warn"}})).await;
    set(&client, json!({"security": {"cors_origins": ["https://a.example", "https://c.example"]}})).await;
    let list = ["[security]", "cors_origins = [", a, c, "  # why b", "]", ""];
    assert_eq!(file(&server), lines(&[&list[..], &["[session]", "# keep", "", "[logging]", "level = \"warn\""]].concat()));
}

#[tokio::test]
async fn a_change_is_kept_with_the_owners_comments_and_found_after_a_restart() {
    let text = "# my server\n[session] # kept short\nttl_hours = 5 # five\n\n[gateway]\nport = 0\n";
    let mut server = Setup::new().config(text).start();
    let client = server.client();
    let shown = client.get("/api/config").await.expect(200).json();
    assert_eq!((&shown["session"]["ttl_hours"], &shown["memory"]["max_recall"]), (&json!(5), &json!(10)));
    assert_eq!((&shown["engine"]["api_key"], &shown["engine"]["api_key_set"]), (&json!(null), &json!(false)));
    assert_eq!(shown["engine"]["default_model"], "offline");

    let changed =
        set(&client, json!({"session": {"ttl_hours": 72}, "engine": {"api_key": "sk-canary-77"}, "gateway": {"drain_secs": 7}})).await;
    assert_eq!(changed, json!({"status": "updated", "restart_required": ["gateway.drain_secs"]}));
    server.canary("sk-canary-77");
    let now = file(&server);
    assert!(now.starts_with("# my server\n[session] # kept short\nttl_hours = 72 # five\n"), "{now}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(server.home().join("config.toml")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    // What GET tells can be put back, and changes nothing.
    let whole = client.get("/api/config").await.expect(200);
    assert!(!whole.text().contains("canary") && whole.json()["engine"]["api_key"] == "***");
    set(&client, whole.json()).await;
    assert_eq!(file(&server), now);

    server.restart();
    let client = server.client();
    let again = client.get("/api/config").await.expect(200).json();
    assert_eq!((&again["session"]["ttl_hours"], &again["engine"]["api_key"]), (&json!(72), &json!("***")));
    assert_eq!((&again["gateway"]["drain_secs"], &again["restart_required"]), (&json!(7), &json!([])));
    set(&client, json!({"session": {"ttl_hours": null}, "engine": {"api_key": null}})).await;
    assert!(!file(&server).contains("ttl_hours") && !file(&server).contains("canary"));
}

#[tokio::test]
async fn every_wrong_key_is_named_and_nothing_is_changed() {
    let server = Setup::new().start();
    let client = server.client();
    let before = client.get("/api/config").await.expect(200).json();
    let wrong = json!({"session": {"ttl_hours": -1, "auto_prune": false}, "gateway": {"prot": 1}, "nothing": {}, "memory": 3,
        "engine": {"default_model": "gpt", "api_key": 7}, "mcp": {"servers": {"a b": {}, "x": {"comand": "y"}}}});
    let error = put(&client, "/api/config", wrong).await.expect(400).error();
    for part in ["session.ttl_hours", "gateway.prot", "nothing", "memory", "engine.default_model", "engine.api_key", "a b", "comand"] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    put(&client, "/api/config", json!({"mcp": {"servers": {"x": {"enabled": true}}}})).await.expect(400);
    put(&client, "/api/config", json!([1])).await.expect(400);
    assert_eq!(client.get("/api/config").await.expect(200).json(), before);
    assert!(!server.home().join("config.toml").exists());
}

#[tokio::test]
async fn what_the_environment_sets_stays_and_is_named() {
    let server = Setup::new().env("OXIOS_SESSION__TTL_HOURS", "9").env("OPENAI_API_KEY", "sk-from-env").start();
    let client = server.client();
    let changed = set(&client, json!({"session": {"ttl_hours": 1, "max_sessions": 4}, "engine": {"api_key": "sk-other"}})).await;
    assert_eq!(changed["overridden_by_env"], json!(["session.ttl_hours", "engine.api_key"]));
    let shown = client.get("/api/config").await.expect(200).json();
    assert_eq!((&shown["session"]["ttl_hours"], &shown["session"]["max_sessions"]), (&json!(9), &json!(4)));
    assert!(!file(&server).contains("ttl_hours") && !file(&server).contains("sk-"));
}

#[tokio::test]
async fn changes_are_felt_without_a_restart() {
    let model = Scripted::start();
    let server = Setup::new().in_the_open().start();
    let client = server.client();
    let answer = |content: &str| json!({"content": content});
    // The model.
    let engine = json!({"default_model": "openai/scripted", "base_url": format!("http://{}/v1", model.address()), "api_key": "sk-live"});
    assert_eq!(set(&client, json!({"engine": engine})).await["restart_required"], json!([]));
    model.always(Reply::text(&["from the new model"]));
    assert_eq!(client.post("/api/chat", &answer("hello")).await.expect(200).json()["reply"], "from the new model");
    assert!(model.seen().iter().any(|seen| seen.header("authorization") == Some("Bearer sk-live")));
    // Hosts and origins.
    let named = || Ask::new("GET", "/api/status").header("host", "edge.example");
    client.send(named()).await.expect(421);
    let foreign = || Ask::new("GET", "/api/status").header("origin", "https://app.example");
    assert_eq!(client.send(foreign()).await.header("access-control-allow-origin"), None);
    set(&client, json!({"security": {"allowed_hosts": ["edge.example"], "cors_origins": ["https://app.example"]}})).await;
    client.send(named()).await.expect(200);
    assert_eq!(client.send(foreign()).await.expect(200).header("access-control-allow-origin"), Some("https://app.example"));
    // Memory and pruning, as the routes tell.
    set(&client, json!({"memory": {"enabled": false}, "session": {"max_sessions": 3}})).await;
    assert_eq!(client.get("/api/status").await.expect(200).json()["components"]["memory"]["enabled"], false);
    assert_eq!(client.post("/api/sessions/prune", &json!({})).await.expect(200).json()["config"]["max_sessions"], 3);
    // The log.
    set(&client, json!({"logging": {"format": "json"}})).await;
    client.get("/api/status").await.expect(200);
    // Authentication, and last the rate.
    set(&client, json!({"security": {"auth_enabled": false}})).await;
    server.stranger().get("/api/status").await.expect(200);
    set(&client, json!({"security": {"auth_enabled": true, "rate_limit_per_minute": 1}})).await;
    server.stranger().get("/api/status").await.expect(401);
    client.get("/api/status").await;
    client.get("/api/status").await.expect(429);
}

#[tokio::test]
async fn changes_at_the_same_time_all_arrive() {
    let server = Setup::new().start();
    let client = server.client();
    let bodies = [
        json!({"session": {"ttl_hours": 11}}),
        json!({"session": {"max_sessions": 12}}),
        json!({"memory": {"max_recall": 13}}),
        json!({"engine": {"max_tokens": 1400}}),
    ];
    let all = bodies.map(|body| set(&client, body));
    let [a, b, c, d] = all;
    tokio::join!(a, b, c, d);
    let text = file(&server);
    for part in ["ttl_hours = 11", "max_sessions = 12", "max_recall = 13", "max_tokens = 1400"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[tokio::test]
async fn a_file_changed_by_hand_is_taken_over_or_refused_with_its_place() {
    let server = Setup::new().start();
    let client = server.client();
    let path = server.home().join("config.toml");
    std::fs::write(&path, "[session]\nttl_hours = 31\n").unwrap();
    server.signal(rustix::process::Signal::HUP);
    until(&client, "/session/ttl_hours", json!(31)).await;
    std::fs::write(&path, "[session]\nttl_hours = \"canary-1\"\n\n[engine]\napi_key = 5\n").unwrap();
    server.signal(rustix::process::Signal::HUP);
    put(&client, "/api/config", json!({"session": {"max_sessions": 2}})).await.expect(409);
    assert_eq!(client.get("/api/config").await.expect(200).json()["session"]["ttl_hours"], 31);
    client.get("/health/ready").await.expect(200);
    std::fs::write(&path, "[memory]\nmax_recall = 3\n").unwrap();
    server.signal(rustix::process::Signal::HUP);
    until(&client, "/memory/max_recall", json!(3)).await;
}

#[tokio::test]
async fn a_tool_server_is_configured_with_its_secrets_hidden() {
    let mut server = Setup::new().start();
    let client = server.client();
    let files = json!({"command": "/bin/true", "args": ["-x"], "env": {"TOKEN": "canary-mcp"}, "trust": true, "enabled": false});
    set(&client, json!({"mcp": {"servers": {"files": files}}})).await;
    server.canary("canary-mcp");
    server.restart();
    let client = server.client();
    let shown = client.get("/api/config").await.expect(200).json()["mcp"]["servers"]["files"].clone();
    assert_eq!((&shown["env"], &shown["args"], &shown["timeout_secs"]), (&json!({"TOKEN": "***"}), &json!(["-x"]), &json!(30)));
    set(&client, json!({"mcp": {"servers": {"files": {"env": {"TOKEN": "***", "MORE": "x"}}}}})).await;
    assert!(file(&server).contains("canary-mcp") && file(&server).contains("MORE"));
    set(&client, json!({"mcp": {"servers": {"files": null}}})).await;
    assert_eq!(client.get("/api/config").await.expect(200).json()["mcp"], json!({"servers": {}}));
}

/// A form is made from this: every key of `GET /api/config` is described, and who sets it is named.
#[tokio::test]
async fn every_key_is_described_for_whoever_may_change_it() {
    let server = Setup::new().env("OXIOS_MEMORY__MAX_RECALL", "7").start();
    let client = server.client();
    let described = client.get("/api/config/keys").await.expect(200).json();
    let keys = described["keys"].as_array().unwrap();
    let of = |path: &str| keys.iter().find(|key| key["path"] == path).unwrap_or_else(|| panic!("{path} is described"));
    let config = client.get("/api/config").await.expect(200).json();
    for (section, values) in config.as_object().unwrap().iter().filter(|(section, _)| *section != "restart_required" && *section != "mcp") {
        for name in values.as_object().unwrap().keys().filter(|name| *name != "api_key_set") {
            assert!(!of(&format!("{section}.{name}"))["meaning"].as_str().unwrap().is_empty());
        }
    }
    assert_eq!(
        (&of("memory.max_recall")["set_by"], &of("memory.max_recall")["bounds"]),
        (&json!("OXIOS_MEMORY__MAX_RECALL"), &json!([1.0, 100.0]))
    );
    assert_eq!((&of("gateway.port")["live"], &of("gateway.port")["kind"]), (&json!(false), &json!("whole")));
    assert_eq!((&of("engine.api_key")["secret"], of("engine.api_key").get("set_by")), (&json!(true), None));
    assert_eq!(of("logging.level")["words"], json!(["error", "warn", "info"]));
}
