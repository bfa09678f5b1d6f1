//! Nothing that a client, a model, a tool or a file says turns up where operators look: logs, metrics, events, audit records, error
//! texts (DESIGN §6, THREATS 9). A canary is in every field that somebody else can fill; the tests do everything once with them, at
//! each level and in each form of the log.
//!
//! Not content, and therefore without a canary: the names that the configuration gives to its models and tool servers, and the
//! names of keys in it, which errors name (API A8). What a client itself said comes back to it where the contract says so, in the
//! bodies of good answers; errors have none of it.

use serde_json::{Value, json};

use crate::support::client::{Answer, Ask, Client};
use crate::support::raw;
use crate::support::scripted::{Do, Reply, Scripted};
use crate::support::server::{Server, Setup};
use crate::support::tool_server::ToolServer;
use crate::support::ws::{Ws, handshake};

/// In every field; the field's name is behind it, so that a failure names it.
const CANARY: &str = "canary7f3a";
/// The session of the last message.
const LAST: &str = "0f3ae2a4-9c1b-4f6e-8d57-1f2e3d4c5aff";

fn c(field: &str) -> String {
    format!("{CANARY}-{field}")
}

/// Looks for a canary and says which one and where.
#[track_caller]
fn clean(place: &str, text: &str) {
    if let Some(at) = text.find(CANARY) {
        let from = text[..at].char_indices().rev().nth(200).map_or(0, |(i, _)| i);
        panic!("{place} has what somebody said: …{}", text[from..].chars().take(400).collect::<String>());
    }
}

/// A client whose every error is looked through.
struct Teller(Client);

impl Teller {
    async fn tell(&self, ask: Ask) -> Answer {
        let answer = self.0.send(ask).await;
        for (name, value) in &answer.headers {
            clean(&format!("header {name} of a {}", answer.status), value);
        }
        if answer.status >= 400 {
            clean(&format!("the error {}", answer.status), &answer.text());
        }
        answer
    }
    async fn json(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.tell(Ask::new(method, path).json(body)).await
    }
}

/// Everything that a configuration may hold besides the names of things.
fn config(far: &ToolServer) -> String {
    let far = far.config("far");
    format!(
        "{far}headers = {{ X-Token = \"{}\" }}\n\
         [mcp.servers.near]\ncommand = \"sh\"\nargs = [\"-c\", \"echo {} >&2; echo {}; read x; exit 3\", \"{}\"]\n\
         env = {{ A_NAME = \"{}\" }}\n\
         [mcp.servers.gone]\ncommand = \"/nowhere/{}\"\n\
         [security]\nallowed_hosts = [\"{}.example\"]\ncors_origins = [\"https://{}.example\"]\n\
         [memory]\nembedding_model = \"openai/vectors\"\nembedding_base_url = \"http://127.0.0.1:9/{}/v1\"\nembedding_api_key = \"{}\"\n",
        c("mcp-header"),
        c("mcp-stderr"),
        c("mcp-stdout"),
        c("mcp-argument"),
        c("mcp-env"),
        c("mcp-command"),
        c("allowed-host"),
        c("cors-origin"),
        c("embedding-url"),
        c("embedding-key"),
    )
}

/// What the model answers to the message with this canary, one call after the other.
fn script(model: &Scripted) -> Vec<&'static str> {
    let end = || Reply::text(&[&c("answer")]);
    let error = |status: u16| {
        let body =
            json!({"error": {"message": c("model-error"), "type": c("model-error-type"), "code": c("model-error-code"), "param": c("p")}});
        Reply::status(status, &body.to_string()).header("x-canary", &c("model-header"))
    };
    let raw = |text: String| Reply::text(&["so far"]).then(Do::Raw(text.into_bytes()));
    let task = || {
        Reply::tool("start_task", &json!({"goal": c("goal"), "constraints": [c("constraint")], "acceptance_criteria": [c("criterion")]}))
    };
    let free = || Reply::tool("start_task", &json!({"goal": c("goal"), "constraints": [], "acceptance_criteria": []}));
    let judged = |passed: bool| {
        Reply::json(&json!({"passed": passed, "score": if passed { 0.9 } else { 0.1 }, "notes": c("notes"),
            "criteria": [{"criterion": c("criterion"), "met": passed, c("verdict-key"): c("verdict-value")}]}))
    };
    let evolved =
        Reply::json(&json!({"goal": c("evolved-goal"), "constraints": [c("constraint")], "acceptance_criteria": [c("criterion")],
        "ontology": [{"name": c("ontology"), "entity_type": c("entity-type"), "description": c("entity")}], "repair": c("repair")}));
    let talks: Vec<(&str, Vec<Reply>)> = vec![
        ("say-plain", vec![end()]),
        ("say-unknown-tool", vec![Reply::tool(&c("tool-name"), &json!({c("argument-name"): c("argument")})), end()]),
        ("say-broken-arguments", vec![Reply::new().then(Do::Call(c("call-id"), "read_file".into(), vec![c("{\"broken")])), end()]),
        ("say-wrong-shape", vec![Reply::tool("read_file", &json!({"path": [c("shape")], c("extra"): 1})), end()]),
        ("say-read", vec![Reply::tool("read_file", &json!({"path": c("read-path")})), end()]),
        ("say-leaves", vec![Reply::tool("read_file", &json!({"path": format!("../{}", c("outside"))})), end()]),
        ("say-search", vec![Reply::tool("search_files", &json!({"query": c("file-query")})), end()]),
        ("say-recall", vec![Reply::tool("recall", &json!({"query": c("recalled")})), end()]),
        ("say-remember", vec![Reply::tool("remember", &json!({"content": c("remembered"), "tags": [c("tag")]})), end()]),
        ("say-read-skill", vec![Reply::tool("read_skill", &json!({"name": c("skill-wanted")})), end()]),
        ("say-far", vec![Reply::tool("far__echo", &json!({"text": c("far-argument")})), end()]),
        ("say-far-fails", vec![Reply::tool(&format!("far__{}", c("foreign")), &json!({c("foreign"): c("far-argument")})), end()]),
        ("say-near", vec![Reply::tool(&format!("near__{}", c("near")), &json!({})), end()]),
        ("say-bad-request", vec![error(400)]),
        ("say-refused", vec![error(401)]),
        ("say-unknown", vec![error(404)]),
        ("say-failed", vec![error(500), error(503), error(500)]),
        ("say-redirected", vec![Reply::status(302, "").header("location", &format!("http://{}.example/{}", c("location"), c("location")))]),
        ("say-page", vec![Reply::status(502, &c("<html>"))]),
        ("say-no-stream", vec![raw(format!("data: {{{}\n\n", c("garbage")))]),
        (
            "say-said-error",
            vec![raw(format!("data: {}\n\n", json!({"error": {"message": c("stream-error"), "code": c("stream-code"), "type": c("t")}})))],
        ),
        ("say-event-name", vec![raw(format!("event: {}\nid: {}\ndata: {}\n\n", c("event-name"), c("event-id"), c("event-data")))]),
        ("say-finish", vec![Reply::text(&["so"]).then(Do::Finish("canary7f3a-finish"))]),
        ("say-cut", vec![Reply::text(&["so"]).then(Do::Break)]),
        ("say-task", vec![task(), end()]),
        ("say-no-verdict", vec![task(), end()]),
        ("say-ask", vec![Reply::tool("ask_user", &json!({"questions": [c("question")]}))]),
        (
            "say-writes",
            vec![free(), Reply::tool("write_file", &json!({"path": format!("{}.md", c("written-path")), "content": c("written")})), end()],
        ),
        ("say-keeps", vec![free(), Reply::tool("write_file", &json!({"path": c("unwritten-path"), "content": c("unwritten")})), end()]),
        ("say-structured", vec![Reply::json(&json!({"tool": "start_task", "goal": c("text-goal"), c("key"): c("value")})), end()]),
    ];
    let mut names = Vec::new();
    for (name, replies) in talks {
        for reply in replies {
            model.on(&format!("{}.", c(name)), reply);
        }
        names.push(name);
    }
    // The judge and the one who repairs are not told the message.
    model.phase("evaluate", judged(false)).phase("evaluate", judged(true)).phase("evolve", evolved);
    model.phase("evaluate", Reply::text(&[&c("{no verdict")])).phase("evaluate", Reply::text(&[&c("{no verdict")]));
    model.always(end());
    names
}

async fn talk(teller: &Teller, names: &[&'static str]) {
    let attached = Ask::new("PUT", format!("/api/workspace/file/{}", c("attachment"))).body(b"x".to_vec());
    teller.0.send(attached).await.expect(200);
    for name in names {
        let body = json!({"content": format!("{}.", c(name)), "user_id": c("user-id"), "idempotency_key": c(name), "attachments": [c("attachment")],
            "metadata": {c("metadata-key"): c("metadata-value")}, c("unknown-field"): c("unknown-value")});
        let answer = teller.json("POST", "/api/chat", &body).await;
        if answer.status == 202 {
            let asked = answer.json();
            let what = if *name == "say-keeps" { "reject" } else { "approve" };
            let path = format!("/api/approvals/{}/{what}", asked["approval"]["id"].as_str().unwrap());
            teller.0.post_empty(&path).await.expect(200);
            let session = asked["session_id"].as_str().unwrap();
            teller.0.sse(&format!("/api/sessions/{session}/events?until=idle")).await.rest().await;
        }
    }
}

/// Every body of ours with canaries in all fields, and the same refused.
async fn fill_every_field(teller: &Teller, server: &Server) {
    let id = |answer: &Answer| answer.json()["id"].as_str().unwrap_or_default().to_owned();
    let memory = id(&teller.json("POST", "/api/memory", &json!({"content": c("memory"), "tags": [c("tag")]})).await.expect(200));
    let persona = json!({"name": c("persona"), "description": c("persona-description"), "prompt": c("persona-prompt")});
    let persona_id = id(&teller.json("POST", "/api/personas", &persona).await.expect(201));
    let space = json!({"name": c("space"), "description": c("space-description"), "context": c("space-context")});
    let space_id = id(&teller.json("POST", "/api/spaces", &space).await.expect(201));
    let skill = json!({"name": c("skill"), "description": c("skill-description"),
        "content": format!("---\nname: {}\ndescription: {}\nversion: {}\n{}: {}\n---\n{}", c("skill"), c("fm-description"), c("fm-version"), c("fm-key"), c("fm-value"), c("skill-text"))});
    teller.json("POST", "/api/skills", &skill).await.expect(200);
    let job = json!({"name": c("job"), "schedule": "0 0 1 1 *", "content": c("job-content")});
    let job = id(&teller.json("POST", "/api/cron-jobs", &job).await.expect(201));
    teller.json("POST", &format!("/api/cron-jobs/{job}/trigger"), &json!({})).await.expect(200);
    let key = id(&teller.json("POST", "/api/keys", &json!({"name": c("key-name"), "scopes": ["read"]})).await.expect(201));
    let file = format!("/api/workspace/file/{}/{}.txt", c("directory"), c("file"));
    teller.tell(Ask::new("PUT", &file).body(c("file-content").into_bytes())).await.expect(200);
    teller.tell(Ask::new("PUT", format!("{file}/below")).body(c("file-content").into_bytes())).await;
    let session =
        teller.json("POST", "/api/chat", &json!({"content": c("say-plain-again"), "space_id": space_id})).await.expect(200).json();
    let session = session["session_id"].as_str().unwrap().to_owned();
    let import = json!({"user_id": c("imported-user"), "user_messages": [{"content": c("imported")}], "agent_responses": [{"content": c("imported-answer")}],
        "metadata": {"title": c("imported-title"), c("imported-key"): c("imported-value")}, "created_at": c("imported-time"), "id": c("imported-id")});
    let plain = json!({"model": "scripted", "user": c("v1-user"), "stop": [c("stop")], "messages": [
            {"role": "system", "content": c("v1-system")}, {"role": "user", "name": c("v1-name"), "content": c("v1-content")}],
        "tools": [{"type": "function", "function": {"name": c("v1-tool"), "description": c("v1-description"), "parameters": {"type": "object", "title": c("v1-title")}}}]});
    let with = |base: &Value, field: &str, value: Value| {
        let mut body = base.clone();
        body[field] = value;
        body
    };
    let rpc = |method: String, params: Value| json!({"jsonrpc": "2.0", "id": c("rpc-id"), "method": method, "params": params});
    for (method, path, body) in [
        ("PATCH", format!("/api/memory/{memory}"), json!({"content": c("memory-changed"), "tags": [c("tag-changed")]})),
        ("PATCH", format!("/api/sessions/{session}"), json!({"title": c("title"), "persona_id": persona_id})),
        ("PATCH", format!("/api/spaces/{space_id}"), json!({"name": c("space-changed")})),
        ("PUT", format!("/api/personas/{persona_id}"), persona.clone()),
        ("PUT", "/api/personas/active".into(), json!({"id": persona_id})),
        ("POST", format!("/api/spaces/{space_id}/activate"), json!({})),
        ("POST", format!("/api/skills/{}/enable", c("skill")), json!({})),
        ("PATCH", format!("/api/cron-jobs/{job}"), json!({"name": c("job-changed"), "content": c("job-content-changed")})),
        ("POST", format!("/api/keys/{key}/rotate"), json!({})),
        ("POST", format!("/api/sessions/{session}/fork"), json!({})),
        ("POST", "/api/sessions/import".into(), import),
        ("POST", "/api/memory/search".into(), json!({"query": c("search")})),
        ("POST", "/api/memory/semantic".into(), json!({"query": c("semantic")})),
        ("POST", "/v1/chat/completions".into(), plain.clone()),
        ("POST", "/v1/chat/completions".into(), with(&plain, "stream", json!(true))),
        (
            "POST",
            "/v1/chat/completions".into(),
            json!({"model": "oxios", "user": c("v1-user"), "messages": [
            {"role": "system", "content": c("v1-instructions")}, {"role": "user", "content": c("v1-agent")}]}),
        ),
        ("POST", "/mcp".into(), rpc("tools/call".into(), json!({"name": "ask", "arguments": {"content": c("mcp-ask")}}))),
        ("POST", "/mcp".into(), rpc("tools/call".into(), json!({"name": "search_memory", "arguments": {"query": c("mcp-query")}}))),
        (
            "POST",
            "/mcp".into(),
            rpc("initialize".into(), json!({"protocolVersion": c("mcp-version"), "clientInfo": {"name": c("mcp-client")}})),
        ),
        ("POST", "/mcp".into(), rpc(c("mcp-method"), json!({"name": c("mcp-tool")}))),
        // Refused, for what stands in them or for what they name.
        ("POST", "/api/chat".into(), json!({"content": [c("chat-shape")]})),
        ("POST", "/api/chat".into(), json!({"content": "x", "session_id": c("session-id")})),
        ("POST", "/api/chat".into(), json!({"content": "x", "space_id": c("space-id")})),
        ("POST", "/api/chat".into(), json!({"content": "x", "user_id": c("long").repeat(100)})),
        ("POST", "/api/chat".into(), json!({"content": c("another body"), "idempotency_key": c("say-plain")})),
        ("POST", "/api/memory".into(), json!({"content": "x", "memory_type": c("memory-type")})),
        ("POST", "/api/memory".into(), json!({"content": "x", "importance": c("importance")})),
        ("POST", "/api/memory/search".into(), json!({"query": "x", "limit": c("limit")})),
        ("POST", "/api/personas".into(), json!({"name": format!("a\n{}", c("persona")), "prompt": "x"})),
        ("POST", "/api/spaces".into(), json!({"name": c("space").repeat(40)})),
        ("POST", "/api/spaces/merge".into(), json!({"from": c("from"), "into": c("into")})),
        ("POST", "/api/keys".into(), json!({"name": c("key"), "scopes": [c("scope")]})),
        ("POST", "/api/keys".into(), json!({"name": c("key"), "scopes": ["read"], "owner": c("owner")})),
        ("POST", "/api/skills".into(), json!({"name": format!("{}/..", c("skill")), "description": c("d")})),
        (
            "POST",
            "/api/skills".into(),
            json!({"name": c("taken"), "description": c("d"), "content": format!("---\n{}: [\n---\n", c("bad-yaml"))}),
        ),
        ("POST", "/api/skills".into(), skill.clone()),
        ("POST", format!("/api/skills/{}/enable", c("no-skill")), json!({})),
        ("POST", "/api/cron-jobs".into(), json!({"name": c("job"), "schedule": c("schedule"), "content": c("job-content")})),
        (
            "POST",
            "/api/cron-jobs".into(),
            json!({"name": c("job"), "schedule": "@daily", "time_zone": c("zone"), "content": c("job-content")}),
        ),
        ("POST", "/api/login".into(), json!({"key": c("login-key")})),
        ("POST", "/api/login".into(), json!({"code": c("login-code")})),
        ("POST", "/v1/chat/completions".into(), with(&plain, "model", json!(c("v1-model")))),
        ("POST", "/v1/chat/completions".into(), with(&plain, "stop", json!({"x": c("v1-stop")}))),
        ("POST", "/v1/chat/completions".into(), with(&plain, "messages", json!([{"role": c("v1-role"), "content": c("v1")}]))),
        ("POST", "/v1/chat/completions".into(), with(&plain, "tool_choice", json!(c("v1-choice")))),
        ("POST", "/v1/chat/completions".into(), with(&plain, "response_format", json!({"type": c("v1-format")}))),
        ("POST", "/mcp".into(), json!({"jsonrpc": c("rpc-version"), "id": 1, "method": "ping"})),
        ("PUT", "/api/config".into(), json!({"engine": {"api_key": format!("{}\n", c("api-key"))}})),
        ("PUT", "/api/config".into(), json!({"logging": {"level": c("level")}, "security": {"cors_origins": [c("origin")]}})),
        ("PUT", "/api/config".into(), json!({"gateway": {"trusted_proxies": [c("proxy")], "port": c("port")}})),
        ("PUT", "/api/config".into(), json!({"mcp": {"servers": {"far": {"url": c("url"), "headers": {"Host": c("host-value")}}}}})),
        ("PUT", "/api/config".into(), json!({"mcp": {"servers": {"far": {"headers": {"X-Token": c("mcp-header-changed")}}}}})),
        ("PUT", "/api/engine/model".into(), json!({"model": [c("model-shape")]})),
        ("PUT", "/api/engine/api-key".into(), json!({"api_key": c("engine-key"), "key": c("engine-key")})),
        ("POST", "/api/engine/validate-key".into(), json!({"provider": c("provider"), "api_key": c("engine-key")})),
        ("DELETE", format!("/api/memory/{}", c("memory-name")), json!({})),
        ("DELETE", format!("/api/keys/{}", c("key-id")), json!({})),
        ("POST", format!("/api/chat/{}/cancel", c("message-id")), json!({})),
        ("POST", format!("/api/approvals/{}/approve", c("approval-id")), json!({})),
        ("DELETE", file.clone(), json!({})),
        ("DELETE", file, json!({})),
        ("DELETE", format!("/api/workspace/file/..%2f{}", c("up")), json!({})),
        ("POST", format!("/api/{}", c("path")), json!({})),
        (c("METHOD").as_str(), "/api/chat".into(), json!({})),
    ] {
        let ask = Ask::new(method, path).json(&body).header("x-canary", c("header")).header("user-agent", c("user-agent"));
        teller.tell(ask.header("referer", c("referer")).header("x-forwarded-for", c("forwarded"))).await;
    }
    for body in [c("{\"no json"), format!("{{\"content\": \"{}\\uD800\"}}", c("surrogate")), format!("[\"{}\"]", c("list"))] {
        teller.tell(Ask::new("POST", "/api/chat").header("content-type", "application/json").body(body.into_bytes())).await;
    }
    teller.tell(Ask::new("POST", "/api/chat").header("content-type", c("media/type")).body(c("body").into_bytes())).await;
    queries_and_fields(teller, server).await;
}

/// What stands in targets and header fields, well formed and not.
async fn queries_and_fields(teller: &Teller, server: &Server) {
    for target in [
        format!("/api/sessions?q={}&page={}", c("q"), c("page")),
        format!("/api/sessions?q={}", c("q")),
        format!("/api/sessions?space_id={}", c("space")),
        format!("/api/sessions?{}={}", c("name"), c("value")),
        format!("/api/sessions?%zz{}", c("malformed")),
        format!("/api/sessions/{}", c("session")),
        format!("/api/workspace/tree?dir={}", c("dir")),
        format!("/api/audit/entries?what={0}&key={0}&outcome={0}&on={0}", c("filter")),
        format!("/api/audit/verify?head={}", c("head")),
        format!("/api/engine/models?provider={}", c("provider")),
        format!("/v1/models/{}", c("model")),
        format!("/{}", c("page")),
        format!("/api/events?ticket={}", c("ticket")),
    ] {
        let ask = Ask::new("GET", target.as_str()).header("if-none-match", c("etag")).header("cookie", format!("a={}", c("cookie")));
        // A stream would never end; what is wrong with the ticket is told to a stranger.
        teller.tell(if target.contains("ticket") { ask.stranger() } else { ask }).await;
    }
    let fields = [
        ("host", format!("{}.elsewhere", c("host"))),
        ("authorization", format!("Bearer {}", c("bearer"))),
        ("authorization", format!("Basic {}", c("basic"))),
        ("cookie", format!("oxios={}", c("cookie"))),
        ("origin", format!("https://{}.elsewhere", c("origin"))),
        ("x-request-id", c("request-id")),
        ("last-event-id", c("last-event-id")),
        ("idempotency-key", c("idempotency-key")),
        ("mcp-protocol-version", c("protocol-version")),
        ("accept", c("accept")),
        ("expect", c("expect")),
        ("transfer-encoding", c("coding")),
        ("content-length", c("length")),
    ];
    for (name, value) in fields {
        let mut ask = Ask::new("POST", "/mcp").header(name, value);
        if name == "cookie" {
            ask = ask.stranger();
        }
        teller.tell(ask).await;
    }
    for target in [format!("/api/chat/stream?token={}", c("token")), format!("/api/chat/stream?ticket={}", c("ticket"))] {
        let refused = Ws::open(&teller.0, handshake(&target).stranger().header("sec-websocket-protocol", c("subprotocol"))).await;
        clean("a refused upgrade", &refused.err().unwrap().text());
    }
    for bytes in [
        format!("GET /{} HTTP/9.9\r\n\r\n", c("version")),
        format!("GET /health HTTP/1.1\r\nHost: $HOST\r\n{}\u{e9}: x\r\n\r\n", c("field-name")),
        format!("GET /health HTTP/1.1\r\nHost: $HOST\r\nHost: {}\r\n\r\n", c("second-host")),
        format!("GET http://{}@$HOST/ HTTP/1.1\r\nHost: $HOST\r\n\r\n", c("user")),
        format!("GET /\u{e9}{} HTTP/1.1\r\nHost: $HOST\r\n\r\n", c("target")),
        format!("CONNECT {}:1 HTTP/1.1\r\nHost: $HOST\r\n\r\n", c("connect")),
        format!(
            "POST /api/chat HTTP/1.1\r\nHost: $HOST\r\nAuthorization: Bearer $KEY\r\nTransfer-Encoding: chunked\r\n\r\n{}\r\n",
            c("chunk")
        ),
        format!("{}\r\n\r\n", c("no-http")),
    ] {
        clean("an answer to odd bytes", &raw::say(server, bytes.as_bytes()).await.text);
    }
}

async fn speak_on_a_socket(teller: &Teller) {
    let mut socket = Ws::chat(&teller.0).await;
    socket.say(&c("say-socket"), None).await;
    socket.until("done").await;
    for frame in [
        c("{no json"),
        json!({"type": c("frame-type")}).to_string(),
        json!({"type": "message", "content": [c("frame-shape")]}).to_string(),
        json!({"type": "message", "content": "x", "session_id": c("frame-session")}).to_string(),
        json!({"type": "resume", "session_id": c("frame-resume"), "after": c("after")}).to_string(),
        json!({"type": "cancel", "id": c("frame-cancel")}).to_string(),
    ] {
        socket.send_raw(frame.into()).await;
        let told = socket.json().await;
        assert_eq!(told["type"], "error", "{told}");
        clean("an error frame", &told.to_string());
    }
    socket.send_raw(c("binary").into_bytes().into()).await;
    clean("an error frame", &socket.json().await.to_string());
}

/// What lies in the home, damaged and with names that nobody here gave.
fn spoil(server: &Server) {
    let workspace = server.home().join("workspace");
    let id = "67e55044-10b1-426f-9247-bb680e5fe0c8";
    let keys: Value = serde_json::from_slice(&std::fs::read(server.home().join("keys.json")).unwrap()).unwrap();
    let owner = &keys["first_owner"];
    for (dir, ending) in [
        ("sessions", "json"),
        ("sessions", "log"),
        ("sessions", "run"),
        ("approvals", "json"),
        ("personas", "json"),
        ("spaces", "json"),
        ("seeds", "json"),
        ("evals", "json"),
        ("cron", "json"),
        ("memory/facts", "json"),
        ("audit", "txt"),
    ] {
        let dir = workspace.join(dir);
        std::fs::create_dir_all(&dir).unwrap();
        for (name, text) in [
            (c("file-name"), c("rubbish")),
            (id.to_owned(), format!("{{\"id\": \"{}\", \"{}\": [\"{}\"", c("value"), c("key"), c("cut"))),
            // Right up to a value that is of another type.
            (
                id.replace("67e5", "67e6"),
                json!({"id": id.replace("67e5", "67e6"), "owner": owner, "goal": c("w1"), "generation": c("w2"), "importance": c("w3"),
                    "score": c("w4"), "user_messages": c("w5")})
                .to_string(),
            ),
        ] {
            std::fs::write(dir.join(format!("{name}.{ending}")), text).unwrap();
        }
    }
    let skills = workspace.join("skills");
    for (name, text) in [(c("odd skill"), c("text")), (c("bad-skill"), format!("---\n{}: [\n---\n{}", c("yaml"), c("text")))] {
        std::fs::create_dir_all(skills.join(&name)).unwrap();
        std::fs::write(skills.join(&name).join("SKILL.md"), text).unwrap();
    }
    // A line in the middle of a real session's log.
    let log = std::fs::read_dir(workspace.join("sessions"))
        .unwrap()
        .flatten()
        .map(|f| f.path())
        .find(|path| path.extension().is_some_and(|e| e == "log") && std::fs::read(path).unwrap().len() > 1000);
    let path = log.unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.insert(2, c("rotten line"));
    lines.push(c("torn end"));
    std::fs::write(path, lines.join("\n")).unwrap();
}

async fn read_everything(teller: &Teller) -> String {
    let mut sessions = Vec::new();
    for path in [
        "sessions",
        "approvals",
        "personas",
        "spaces",
        "seeds",
        "cron-jobs",
        "memory",
        "skills",
        "agents",
        "mcp/servers",
        "keys",
        "config",
        "status",
    ] {
        let answer = teller.tell(Ask::new("GET", format!("/api/{path}?limit=500"))).await;
        if path == "sessions" {
            sessions = answer.json()["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect();
        }
    }
    for id in ["67e55044-10b1-426f-9247-bb680e5fe0c8", "67e65044-10b1-426f-9247-bb680e5fe0c8"] {
        for area in ["sessions", "personas", "spaces", "seeds", "cron-jobs", "memory"] {
            teller.tell(Ask::new("GET", format!("/api/{area}/{id}"))).await;
        }
        teller.tell(Ask::new("GET", format!("/api/seeds/{id}/evolution"))).await;
    }
    for id in sessions {
        teller.tell(Ask::new("GET", format!("/api/sessions/{id}"))).await;
    }
    let ready = teller.0.with_key(None).get("/health/ready").await.text();
    let metrics = teller.0.get("/metrics").await.expect(200).text() + &teller.0.get("/api/metrics").await.expect(200).text();
    ready + &metrics
}

/// Everything once, at this level and in this form of the log.
async fn nothing_said_leaves(format: &str, level: &str, provider: fn(Setup, &Scripted) -> Setup) {
    let (model, far) = (Scripted::start(), ToolServer::start());
    far.say(&c("foreign"));
    let names = script(&model);
    let setup = provider(Setup::new().config(&config(&far)), &model)
        .env("OXIOS_SECURITY__RATE_LIMIT_PER_MINUTE", "0")
        .env("OXIOS_LOGGING__FORMAT", format)
        .env("OXIOS_LOGGING__LEVEL", level);
    let mut server = setup.start();
    server.canary(CANARY);
    let teller = Teller(server.client());
    let mut events = teller.0.sse("/api/events").await;
    let heard = tokio::spawn(async move { events.until(|e: &Value| e["session_id"] == LAST && e["type"] == "agent_stopped").await });
    talk(&teller, &names).await;
    fill_every_field(&teller, &server).await;
    speak_on_a_socket(&teller).await;
    clean("a list or a number", &read_everything(&teller).await);

    teller.0.post("/api/chat", &json!({"content": "the last one", "session_id": LAST})).await.expect(200);
    let seen = heard.await.unwrap();
    assert!(seen.iter().all(|event| event["type"] != "resync"), "every event was looked through");
    assert!(seen.len() > 100, "{}", seen.len());
    for event in &seen {
        clean("an event", &event.to_string());
    }
    let audit = teller.0.post_empty("/api/audit/export").await.expect(200).text();
    clean("the audit log", &audit);
    assert!(audit.contains("hmac:") && audit.contains("tool mcp") && audit.contains("tool write_file"), "{audit}");

    // A file that cannot be used, while it runs.
    let path = server.home().join("config.toml");
    let good = std::fs::read_to_string(&path).unwrap();
    for bad in [
        format!("x = \"{}", c("toml")),
        format!("[logging]\nlevel = \"{}\"\n", c("toml-level")),
        format!("[engine]\nbase_url = \"{}\"\n", c("toml-url")),
    ] {
        let before = server.log().matches("the old configuration stays").count();
        std::fs::write(&path, bad).unwrap();
        server.signal(rustix::process::Signal::HUP);
        let told = async {
            while server.log().matches("the old configuration stays").count() == before && level != "off" {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), told).await.expect("it says that the file cannot be used");
    }
    std::fs::write(&path, good).unwrap();

    server.stop().await;
    spoil(&server);
    server.restart();
    let teller = Teller(server.client());
    clean("a list or a number", &read_everything(&teller).await);
    server.stop().await;
    for segment in std::fs::read_dir(server.home().join("workspace/audit"))
        .unwrap()
        .flatten()
        .filter(|f| f.path().extension().is_some_and(|e| e == "log"))
    {
        clean("the audit log", &std::fs::read_to_string(segment.path()).unwrap());
    }
    let log = server.log();
    clean("the log", &log);
    assert_eq!(log.contains("/api/sessions/{id}"), level == "info", "the access log was looked through, too: {log}");
}

#[tokio::test]
async fn nothing_said_leaves_by_log_metric_event_audit_record_or_error() {
    nothing_said_leaves("pretty", "info", Setup::openai).await;
}

#[tokio::test]
async fn nothing_said_leaves_where_the_log_is_json_and_the_model_anthropics() {
    nothing_said_leaves("json", "info", Setup::anthropic).await;
}

#[tokio::test]
async fn nothing_said_leaves_where_the_log_has_errors_only() {
    nothing_said_leaves("json", "error", Setup::openai).await;
}
