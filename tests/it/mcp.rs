//! The agent as a server of the Model Context Protocol, and as a client of others.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::client::{Ask, Client};
use crate::support::model::{cache, python, skip};
use crate::support::scripted::{Reply, Scripted};
use crate::support::server::{Server, Setup};

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

async fn rpc(client: &Client, method: &str, params: Value) -> Value {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    let answer = client.post("/mcp", &body).await.expect(200).json();
    assert_eq!((&answer["jsonrpc"], &answer["id"]), (&json!("2.0"), &json!(1)));
    answer
}

async fn run(mut command: std::process::Command, server: &Server) -> String {
    command.env("OXIOS_URL", format!("http://{}", server.address.host())).env("OXIOS_KEY", server.key());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}\nprinted {said}", String::from_utf8_lossy(&output.stderr));
    said
}

const SAID: &str = "server oxios-edge\ntools ask search_memory list_sessions\nsame session ";

#[track_caller]
fn check_said(said: &str) {
    assert!(said.starts_with(SAID), "{said}");
    let rest = said[SAID.len()..].to_lowercase();
    assert_eq!(rest, "true true\nmemory 1 - the router is grey\nsessions 1\nrefused true\n");
}

#[tokio::test]
async fn the_javascript_sdk_talks_to_our_server() {
    if !cache().join("node/node_modules/@modelcontextprotocol/sdk").exists() {
        return skip("the_javascript_sdk", "npm's @modelcontextprotocol/sdk");
    }
    let server = Setup::new().start();
    let mut command = std::process::Command::new("node");
    command.arg(script("mcp_client.mjs")).env("OXIOS_NODE_MODULES", cache().join("node/node_modules"));
    check_said(&run(command, &server).await);
}

#[tokio::test]
async fn the_python_sdk_talks_to_our_server() {
    let Some(python) = python() else { return skip("the_python_sdk", "PyPI's mcp") };
    let server = Setup::new().start();
    let mut command = std::process::Command::new(python);
    command.arg(script("mcp_client.py"));
    check_said(&run(command, &server).await);
}

#[tokio::test]
async fn what_the_protocol_says_of_bad_messages() {
    let server = Setup::new().start();
    let client = server.client();
    assert_eq!(rpc(&client, "nothing", json!({})).await["error"]["code"], -32601);
    assert_eq!(rpc(&client, "tools/call", json!({"name": "nothing"})).await["error"]["code"], -32602);
    assert_eq!(rpc(&client, "tools/call", json!({"name": "ask", "arguments": 5})).await["error"]["code"], -32602);
    assert_eq!(rpc(&client, "ping", json!({})).await["result"], json!({}));
    // That of March 2025 has batches, which are refused here.
    for (asked, spoken) in [("1999-01-01", "2025-06-18"), ("2025-03-26", "2025-06-18"), ("2025-11-25", "2025-11-25")] {
        let hello = rpc(&client, "initialize", json!({"protocolVersion": asked, "capabilities": {}})).await;
        assert_eq!(hello["result"]["protocolVersion"], spoken);
    }
    for body in ["{", "[]", "{\"id\":1}", "5"] {
        let ask = Ask::new("POST", "/mcp").header("content-type", "application/json").body(body.into());
        client.send(ask).await.expect(400).error();
    }
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
    client.post("/mcp", &json!([ping, ping])).await.expect(400).error();
    client.post("/mcp", &json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await.expect(202);
    client.send(Ask::new("POST", "/mcp").header("mcp-protocol-version", "1999-01-01").json(&ping)).await.expect(400).error();
    client.get("/mcp").await.expect(405);
    client.delete("/mcp").await.expect(405);
    server.stranger().post("/mcp", &ping).await.expect(401);
}

/// What a tool's schema does not allow was left out unsaid; a failed question did not say where it can be read on.
#[tokio::test]
async fn arguments_are_what_the_schema_says() {
    let model = Scripted::start();
    model.always(Reply::status(401, "{}"));
    let server = Setup::new().openai(&model).start();
    let client = server.client();
    let tools = rpc(&client, "tools/list", json!({})).await["result"]["tools"].clone();
    assert!(tools.as_array().unwrap().iter().all(|tool| tool["inputSchema"]["additionalProperties"] == false), "{tools}");
    for (name, arguments) in [
        ("list_sessions", json!({"limit": "a"})),
        ("list_sessions", json!({"limit": 501})),
        ("list_sessions", json!({"limit": 1, "page": 2})),
        ("search_memory", json!({"query": "x", "limit": 0})),
        ("search_memory", json!({"query": "x", "limit": 1.5})),
        ("search_memory", json!({"query": "x", "memory_type": "fact"})),
        ("search_memory", json!({"query": ""})),
        ("ask", json!({"content": "x", "user_id": "u"})),
        ("ask", json!({"content": ""})),
    ] {
        let answer = rpc(&client, "tools/call", json!({"name": name, "arguments": arguments})).await;
        assert_eq!(answer["result"]["isError"], true, "{name} {arguments}: {answer}");
    }
    assert_eq!(client.get("/api/sessions").await.expect(200).json()["total"], 0, "nothing was asked");
    for (name, arguments) in [("list_sessions", json!({"limit": 500.0})), ("search_memory", json!({"query": "x", "limit": 1}))] {
        let answer = rpc(&client, "tools/call", json!({"name": name, "arguments": arguments})).await;
        assert_eq!(answer["result"]["isError"], false, "{name} {arguments}: {answer}");
    }
    let failed =
        rpc(&client, "tools/call", json!({"name": "ask", "arguments": {"content": "where is the router?"}})).await["result"].clone();
    assert_eq!((&failed["isError"], &failed["structuredContent"]["status"]), (&json!(true), &json!("failed")), "{failed}");
    assert!(failed["content"][0]["text"].as_str().unwrap().contains("refused the API key"), "{failed}");
    let session = failed["structuredContent"]["session_id"].as_str().unwrap();
    client.get(&format!("/api/sessions/{session}")).await.expect(200);
    let listed = rpc(&client, "tools/call", json!({"name": "list_sessions", "arguments": {}})).await["result"].clone();
    let text = listed["content"][0]["text"].as_str().unwrap();
    assert!(text.contains(session) && text.contains("where is the router?"), "{text}");
}

/// THREATS 1 and 2 (CVE-2025-66414, -66416): a page of another origin, and a name that was rebound.
#[tokio::test]
async fn other_origins_and_hosts_are_refused() {
    let server = Setup::new().start();
    let client = server.client();
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
    client.send(Ask::new("POST", "/mcp").header("origin", "https://evil.example").json(&ping)).await.expect(403);
    let rebound = client.send(Ask::new("POST", "/mcp").header("host", "evil.example").json(&ping)).await;
    assert!(matches!(rebound.status, 400 | 403 | 421), "{}", rebound.status);
}
