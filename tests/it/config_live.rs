//! The configuration while it runs: every key marked "at once" is changed and seen, every key marked "restart" is named, and what a
//! change does is felt by the next request (README, "Configuration").

use std::sync::Arc;

use oxios_edge::config::{KEYS, Key, Kind};
use serde_json::{Map, Value, json};

use crate::support::client::{Answer, Ask, Client};
use crate::support::scripted::{Do, Gate, Reply, Scripted};
use crate::support::server::{Server, Setup, TempDir};
use crate::support::small_disk::{SmallDisk, make_room};
use crate::support::ws::{Ws, handshake};

const SESSION: &str = "0f3ae2a4-9c1b-4f6e-8d57-1f2e3d4c5bc0";

/// Puts one key by its dotted path.
async fn put(client: &Client, path: &str, value: Value) -> Value {
    let whole = path.rsplit('.').fold(value, |value, name| Value::Object(Map::from_iter([(name.to_owned(), value)])));
    client.send(Ask::new("PUT", "/api/config").json(&whole)).await.expect(200).json()
}

async fn shown(client: &Client) -> Value {
    client.get("/api/config").await.expect(200).json()
}

fn at<'a>(config: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(config, |value, name| &value[name])
}

async fn say(client: &Client, content: &str) -> Answer {
    client.post("/api/chat", &json!({"content": content})).await
}

/// A value that the key takes and that is not its default.
fn another(key: &Key) -> Value {
    match (key.path, key.kind) {
        ("engine.default_model" | "memory.embedding_model", _) => json!("openai/other"),
        ("engine.base_url" | "memory.embedding_base_url" | "mcp.servers.<name>.url", _) => json!("http://127.0.0.1:9/v1"),
        ("engine.fallback_models" | "orchestrator.judges", _) => json!(["offline"]),
        ("security.cors_origins", _) => json!(["https://a.example"]),
        ("gateway.trusted_proxies", _) => json!(["10.0.0.1"]),
        ("gateway.host", _) => json!("localhost"),
        // Nobody listens there.
        ("web.auto_update", _) => json!(format!("http://127.0.0.1:1/page.tgz sha256:{}", "0".repeat(64))),
        ("gateway.base_path", _) => json!("/other"),
        (_, Kind::Text) => json!("other"),
        (_, Kind::Whole(..)) => json!(key.default.parse::<u64>().unwrap() + 1),
        (_, Kind::Decimal(..)) => json!(0.25),
        (_, Kind::Bool) => json!(key.default != "true"),
        (_, Kind::OneOf(words)) => json!(words.iter().find(|word| **word != key.default)),
        (_, Kind::List) => json!(["a.example"]),
        (_, Kind::Secrets) => json!({"NAME": "sk-walk-canary"}),
    }
}

/// As GET shows it.
fn told(key: &Key, value: &Value) -> Value {
    match (key.secret, value) {
        (true, Value::Object(table)) => table.keys().map(|name| (name.clone(), json!("***"))).collect::<Map<_, _>>().into(),
        (true, _) => json!("***"),
        (false, value) => value.clone(),
    }
}

/// On a Unix socket, so that no flag goes before `gateway.host` and `gateway.port`.
#[tokio::test]
async fn every_key_is_changed_and_seen_and_those_that_need_a_restart_are_named() {
    let home = Arc::new(TempDir::new());
    // The variable goes before what is put there; tests of the sandbox change it.
    let fixed = |key: &&Key| !key.is_free() && key.path != "security.landlock";
    let mut server = Setup::new().in_the_open().listen(&format!("unix:{}/s", home.path().display())).start_in(home);
    let client = server.client();
    let before = shown(&client).await;
    let mut waiting: Vec<&str> = Vec::new();
    for key in KEYS.iter().filter(fixed) {
        let value = another(key);
        assert_ne!(at(&before, key.path), &told(key, &value), "{}", key.path);
        let answer = put(&client, key.path, value.clone()).await;
        waiting.extend((!key.live).then_some(key.path));
        assert_eq!(answer, json!({"status": "updated", "restart_required": waiting}), "{}", key.path);
        let now = shown(&client).await;
        assert_eq!((at(&now, key.path), &now["restart_required"]), (&told(key, &value), &json!(waiting)), "{}", key.path);
    }
    // A program and an address: no tool server is both.
    for (name, of, not) in [("prog", "command", ["url", "headers"]), ("addr", "url", ["command", "args"])] {
        let first = KEYS.iter().find(|key| key.is_free() && key.name() == of).unwrap();
        let others = KEYS.iter().filter(|key| key.is_free() && key.name() != of && !not.contains(&key.name()));
        for key in std::iter::once(first).chain(others) {
            let (path, value) = (key.path.replace("<name>", name), another(key));
            assert_eq!(put(&client, &path, value.clone()).await["restart_required"], json!(waiting), "{path}");
            assert_eq!(at(&shown(&client).await, &path), &told(key, &value), "{path}");
        }
        let servers = client.get("/api/mcp/servers").await.expect(200).text();
        assert!(servers.contains(name) && servers.contains("disabled"), "{servers}");
    }
    server.canary("sk-walk-canary");
    let all = shown(&client).await;
    server.restart();
    let client = server.client();
    let again = shown(&client).await;
    assert_eq!(again["restart_required"], json!([]));
    for section in all.as_object().unwrap().keys().filter(|section| *section != "restart_required") {
        assert_eq!(again[section], all[section], "{section}");
    }
    // What is taken out is as it was in the beginning, at once or after the next restart.
    for key in KEYS.iter().filter(fixed) {
        put(&client, key.path, Value::Null).await;
        assert_eq!(at(&shown(&client).await, key.path), at(&before, key.path), "{}", key.path);
    }
    assert_eq!(shown(&client).await["restart_required"], json!(waiting));
}

#[tokio::test]
async fn models_and_their_limits_are_felt_by_the_next_message() {
    let model = Scripted::start();
    let server = Setup::new().openai(&model).start();
    let client = server.client();
    model.next(Reply::status(401, "{}"));
    say(&client, "hello").await.expect(502);
    put(&client, "engine.fallback_models", json!(["openai/second"])).await;
    model.next(Reply::status(401, "{}")).next(Reply::text(&["from the second"]));
    assert_eq!(say(&client, "hello").await.expect(200).json()["reply"], "from the second");
    assert_eq!(model.seen().last().unwrap().body["model"], "second");
    put(&client, "engine.fallback_models", json!([])).await;
    model.always(Reply::text(&["ok"]));
    let asked = async |path: &str, value: Value| {
        put(&client, path, value).await;
        say(&client, "hello").await.expect(200);
        model.seen().last().unwrap().body["max_tokens"].clone()
    };
    assert_eq!(asked("engine.max_tokens", json!(77)).await, 77);
    assert_eq!(asked("engine.max_tokens", json!(5000)).await, 2048, "a quarter of the context");
    assert_eq!(asked("engine.context_tokens", json!(12_000)).await, 3000);
    // Times: a model that says nothing, and one that stops in the middle.
    put(&client, "engine.first_byte_timeout_secs", json!(1)).await;
    put(&client, "engine.stall_timeout_secs", json!(1)).await;
    model.next(Reply::text(&["half"]).then(Do::Stall));
    let error = say(&client, "hello").await.expect(502).error();
    assert!(error.contains("stopped in the middle"), "{error}");
    put(&client, "engine.stall_timeout_secs", json!(60)).await;
    put(&client, "security.max_execution_time_secs", json!(1)).await;
    model.next(Reply::text(&["half"]).then(Do::Stall));
    say(&client, "hello").await.expect(504);
}

#[tokio::test]
async fn budgets_and_judges_are_felt_by_the_next_task() {
    let model = Scripted::start();
    let server = Setup::new().openai(&model).start();
    let client = server.client();
    let judged = |passed: bool, score: f64| Reply::json(&json!({"passed": passed, "score": score, "notes": "n", "criteria": []}));
    let begun = || {
        let task = json!({"goal": "g", "constraints": [], "acceptance_criteria": ["a"]});
        model.phase("interview", Reply::tool("start_task", &task)).phase("execute", Reply::text(&["result"]));
    };
    let passed = async || {
        let answer = client.post("/api/chat", &json!({"content": "do it", "session_id": SESSION})).await.expect(200).json();
        assert_eq!(answer["reply"], "result");
        let detail = client.get(&format!("/api/sessions/{SESSION}")).await.expect(200).json();
        detail["agent_responses"].as_array().unwrap().last().unwrap()["evaluation_passed"].clone()
    };
    put(&client, "orchestrator.max_evolution_iterations", json!(0)).await;
    begun();
    model.phase("evaluate", judged(false, 0.2));
    assert_eq!(passed().await, false, "and it is not tried again");
    begun();
    model.phase("evaluate", judged(true, 0.5));
    assert_eq!(passed().await, false, "0.8 is needed");
    put(&client, "orchestrator.min_evaluation_score", json!(0.5)).await;
    begun();
    model.phase("evaluate", judged(true, 0.5));
    assert_eq!(passed().await, true);
    put(&client, "orchestrator.judges", json!(["openai/second-judge", "openai/third-judge"])).await;
    begun();
    model.phase("evaluate", judged(true, 1.0)).phase("evaluate", judged(false, 0.1)).phase("evaluate", judged(false, 0.1));
    assert_eq!(passed().await, false, "two of three say no");
    let asked: Vec<_> = model.seen().iter().rev().take(2).map(|seen| seen.body["model"].clone()).collect();
    assert_eq!(asked, ["third-judge", "second-judge"]);

    let tools = || model.seen().last().unwrap().tools().len();
    model.next(Reply::text(&["ok"]));
    say(&client, "hello").await.expect(200);
    assert!(tools() > 3);
    put(&client, "orchestrator.max_model_calls", json!(1)).await;
    model.next(Reply::text(&["ok"]));
    say(&client, "hello").await.expect(200);
    assert_eq!(tools(), 0, "the last call that is allowed must be the answer");
    put(&client, "orchestrator.max_model_calls", json!(40)).await;
    put(&client, "orchestrator.max_tokens_per_run", json!(10)).await;
    model.next(Reply::tool("list_files", &json!({})));
    let answer = say(&client, "hello").await.expect(502).json();
    assert!(answer["error"].as_str().unwrap().contains("max_tokens_per_run"), "18 were used: {answer}");
}

#[tokio::test]
async fn gates_are_felt_by_the_next_request() {
    let model = Scripted::start();
    let server = Setup::new().openai(&model).start();
    let (client, stranger) = (server.client(), server.stranger());
    let by_token = async || {
        let opened = Ws::open(&stranger, handshake(&format!("/api/chat/stream?token={}", server.key()))).await;
        opened.map_or_else(|refused| refused.status, |_| 101)
    };
    assert_eq!(by_token().await, 101);
    put(&client, "security.query_token", json!("never")).await;
    assert_eq!(by_token().await, 401);
    put(&client, "security.query_token", json!("always")).await;
    assert_eq!(by_token().await, 101);

    stranger.get("/metrics").await.expect(401);
    put(&client, "metrics.public", json!(true)).await;
    stranger.get("/metrics").await.expect(200);

    let gate = Gate::new();
    let busy = |content: &str| json!({"content": content, "session_id": SESSION});
    model.next(Reply::text(&["one"]).wait(&gate)).next(Reply::text(&["two"]));
    let first = tokio::spawn({
        let (client, body) = (client.clone(), busy("first"));
        async move { client.post("/api/chat", &body).await }
    });
    gate.reached(1).await;
    put(&client, "gateway.lane_policy", json!("reject")).await;
    client.post("/api/chat", &busy("second")).await.expect(429).error();
    put(&client, "gateway.lane_policy", json!("interrupt")).await;
    assert_eq!(client.post("/api/chat", &busy("third")).await.expect(200).json()["reply"], "two");
    first.await.unwrap().expect(409);

    let named = || Ask::new("GET", "/api/status").header("host", "edge.example").header("origin", "https://app.example");
    put(&client, "security.allowed_hosts", json!(["edge.example"])).await;
    assert_eq!(client.send(named()).await.expect(200).header("access-control-allow-origin"), None);
    put(&client, "security.cors_origins", json!(["https://app.example"])).await;
    assert_eq!(client.send(named()).await.expect(200).header("access-control-allow-origin"), Some("https://app.example"));
    put(&client, "security.allowed_hosts", json!([])).await;
    client.send(named()).await.expect(421);

    put(&client, "security.rate_limit_per_minute", json!(1)).await;
    client.get("/api/status").await;
    client.get("/api/status").await.expect(429);
}

/// Who came in while no key was needed has none: with a key needed again, what is open to nobody in particular ends.
#[tokio::test]
async fn what_strangers_opened_ends_when_a_key_is_needed_again() {
    let model = Scripted::start();
    let gate = Gate::new();
    model.next(Reply::text(&["one"]).wait(&gate));
    let server = Setup::new().openai(&model).start();
    let (client, stranger) = (server.client(), server.stranger());
    put(&client, "security.auth_enabled", json!(false)).await;
    let (mut socket, mut events) = (Ws::chat(&stranger).await, stranger.sse("/api/events").await);
    let (mut own, mut own_events) = (Ws::chat(&client.with_key(None)).await, client.sse("/api/events").await);
    let post = tokio::spawn({
        let stranger = stranger.clone();
        async move { say(&stranger, "hello").await }
    });
    gate.reached(1).await;
    put(&client, "security.auth_enabled", json!(true)).await;
    for socket in [&mut socket, &mut own] {
        assert_eq!(u16::from(socket.closed().await.unwrap().code), 1008);
    }
    for events in [&mut events, &mut own_events] {
        while events.next().await.is_some() {}
    }
    post.await.unwrap().expect(401);
    gate.open();
    client.get("/api/status").await.expect(200);
}

#[tokio::test]
async fn memory_approvals_and_sessions_feel_a_change() {
    let embedder = Scripted::start();
    let server = Setup::new().in_the_open().start();
    let client = server.client();
    for n in 0..3 {
        client.post("/api/memory", &json!({"content": format!("tea number {n} is green")})).await.expect(200);
    }
    let recalled = async || say(&client, "recall tea").await.expect(200).json()["reply"].as_str().unwrap().matches("tea number").count();
    assert_eq!(recalled().await, 3);
    put(&client, "memory.max_recall", json!(1)).await;
    assert_eq!(recalled().await, 1);
    put(&client, "memory.enabled", json!(false)).await;
    assert_eq!(recalled().await, 0, "the tool is not offered any more");
    assert_eq!(client.get("/api/status").await.expect(200).json()["components"]["memory"]["enabled"], false);
    put(&client, "memory.enabled", json!(true)).await;
    let engine = async || {
        let ranked = client.post("/api/memory/semantic", &json!({"query": "drink"})).await.expect(200).json();
        ranked["engine"].as_str().unwrap().to_owned()
    };
    assert_eq!(engine().await, "bm25");
    put(&client, "memory.embedding_base_url", json!(format!("http://{}/v1", embedder.address()))).await;
    put(&client, "memory.embedding_api_key", json!("sk-vectors")).await;
    put(&client, "memory.embedding_model", json!("openai/nearby")).await;
    assert_eq!(engine().await, "bm25+embeddings:nearby");
    assert_eq!(embedder.vectors()[0].header("authorization"), Some("Bearer sk-vectors"));

    put(&client, "security.approval_ttl_hours", json!(1)).await;
    let asked = say(&client, "write a.md: text").await.expect(202).json()["approval"].clone();
    let hour = |time: &Value| time.as_str().unwrap()[11..13].parse::<u32>().unwrap();
    assert_eq!((hour(&asked["created_at"]) + 1) % 24, hour(&asked["expires_at"]), "{asked}");

    let projected = async || {
        let session = say(&client, "hello").await.expect(200).json()["session_id"].as_str().unwrap().to_owned();
        server.session_file(&format!("{session}.json")).exists()
    };
    assert!(projected().await);
    put(&client, "session.projection", json!("lazy")).await;
    assert!(!projected().await);
    put(&client, "session.max_sessions", json!(2)).await;
    let pruned = client.post_empty("/api/sessions/prune").await.expect(200).json();
    assert!(pruned["count"].as_u64().unwrap() >= 3 && pruned["config"]["max_sessions"] == 2, "{pruned}");
}

/// Asks until the log of the server has this text.
async fn logged(server: &Server, client: &Client, text: &str) -> String {
    for _ in 0..4000 {
        let log = server.log();
        if log.contains(text) {
            return log;
        }
        client.get("/health").await;
    }
    panic!("{text} never came into the log:\n{}", server.log());
}

/// Two edits in one tick of the file system's clock, of one length: time and size say that nothing happened.
#[tokio::test]
async fn an_edit_that_leaves_time_and_size_as_they_were_is_read() {
    let server = Setup::new().start();
    let client = server.client();
    let path = server.home().join("config.toml");
    let edit = |level: &str| std::fs::write(&path, format!("[logging]\nlevel = \"{level}\"\n")).unwrap();
    edit("info");
    logged(&server, &client, "in force").await;
    let time = std::fs::metadata(&path).unwrap().modified().unwrap();
    edit("warn");
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    server.signal(rustix::process::Signal::HUP);
    let seen = async { while at(&shown(&client).await, "logging.level") != "warn" {} };
    tokio::time::timeout(std::time::Duration::from_secs(30), seen).await.expect("the second edit is in force");
}

#[tokio::test]
async fn the_log_changes_its_form_and_level() {
    let server = Setup::new().start();
    let client = server.client();
    client.get("/api/seeds").await.expect(200);
    let log = logged(&server, &client, "/api/seeds").await;
    assert!(!log.contains("\"route\""), "{log}");
    put(&client, "logging.format", json!("json")).await;
    client.get("/api/skills").await.expect(200);
    logged(&server, &client, "\"route\":\"/api/skills\"").await;
    put(&client, "logging.level", json!("error")).await;
    client.get("/api/personas").await.expect(200);
    put(&client, "logging.level", json!("info")).await;
    client.get("/api/spaces").await.expect(200);
    let log = logged(&server, &client, "\"route\":\"/api/spaces\"").await;
    assert!(!log.contains("/api/personas"), "{log}");
}

#[tokio::test]
async fn the_audit_log_is_switched_and_told_what_to_do_when_it_fails() {
    let home = Arc::new(TempDir::new());
    let audit = home.path().join("workspace/audit");
    std::fs::create_dir_all(&audit).unwrap();
    for dir in [home.path().join("workspace"), audit.clone()] {
        std::fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    }
    let small = SmallDisk::mount(&audit, "64k");
    let server = Setup::new().env("OXIOS_SECURITY__RATE_LIMIT_PER_MINUTE", "0").start_in(home);
    let client = server.client();
    let count = async || client.get("/api/audit/entries").await.expect(200).json()["total"].as_u64().unwrap();
    let keep = async || client.post("/api/memory", &json!({"content": "x"})).await.status;
    let before = count().await;
    keep().await;
    assert_eq!(count().await, before + 1);
    put(&client, "audit.enabled", json!(false)).await;
    let before = count().await;
    keep().await;
    assert_eq!(count().await, before);
    put(&client, "audit.enabled", json!(true)).await;
    if small.is_none() {
        println!("SKIPPED what is done when it fails: no file system can be mounted here");
        return;
    }
    put(&client, "audit.on_failure", json!("continue")).await;
    let mut filler = std::fs::File::create(audit.join("filler")).unwrap();
    while std::io::Write::write_all(&mut filler, &[0; 512]).is_ok() {}
    // Some records still fit into the log's last page.
    for _ in 0..40 {
        assert_eq!(keep().await, 200);
    }
    put(&client, "audit.on_failure", json!("refuse")).await;
    let mut refused = 200;
    for _ in 0..40 {
        refused = keep().await;
    }
    assert!(matches!(refused, 503 | 507), "{refused}");
    drop(filler);
    make_room(&audit.join("filler"));
    let freed = std::time::Instant::now();
    while keep().await != 200 {
        assert!(freed.elapsed().as_secs() < 10, "it heals within 5 s");
    }
}
