//! The audit log: every change leaves a record, the chain is whole after restarts and kills, and edits are found (DESIGN §6).

use std::path::Path;

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::server::{Setup, command};

/// The exit code and what it printed.
fn verify(home: &Path, more: &[&str]) -> (Option<i32>, String) {
    let output = command(home).arg("audit").arg("verify").args(more).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

async fn entries(client: &Client, filter: &str) -> Vec<Value> {
    client.get(&format!("/api/audit/entries?limit=500{filter}")).await.expect(200).json()["items"].as_array().unwrap().clone()
}

fn says(entry: &Value, what: &str, outcome: &str) -> bool {
    entry["what"] == what && entry["outcome"] == outcome
}

#[tokio::test]
async fn every_change_is_recorded_and_the_chain_is_whole_after_kill_and_restart() {
    let mut server = Setup::new().start();
    let client = server.client();
    let asked = client.post("/api/chat", &json!({"content": "write salaries.md: text"})).await.expect(202).json();
    let approval = asked["approval"]["id"].as_str().unwrap().to_owned();
    client.post_empty(&format!("/api/approvals/{approval}/approve")).await.expect(200);
    let session = asked["session_id"].as_str().unwrap().to_owned();
    client.get(&format!("/api/sessions/{session}/events?until=idle")).await.expect(200);
    client.post("/api/memory/search", &json!({"query": "x"})).await.expect(200);
    client.delete("/api/sessions/67e55044-10b1-426f-9247-bb680e5fe0c8").await.expect(404);

    let all = entries(&client, "").await;
    let at = |what: &str, outcome: &str| {
        all.iter().position(|e| says(e, what, outcome)).unwrap_or_else(|| panic!("{what} {outcome} in {all:#?}"))
    };
    // Newest first, so what came earlier has the larger place.
    assert!(at("tool write_file", "done") < at("tool write_file", "begun"));
    assert!(at("tool write_file", "begun") < at("approval decided", "approved"));
    assert!(at("POST /api/approvals/{id}/approve", "200") < at("POST /api/approvals/{id}/approve", "begun"));
    assert!(at("approval decided", "approved") < at("approval asked", "done"));
    assert!(at("POST /api/chat", "202") < at("message", "done"));
    assert_eq!(all[at("message", "done")]["on"], session.as_str());
    assert!(all[at("message", "done")]["key"].is_string(), "who said it");
    assert_eq!(all[at("approval asked", "done")]["on"], approval.as_str());
    at("DELETE /api/sessions/{id}", "404");
    assert!(all.iter().all(|e| e["what"] != "POST /api/memory/search"), "what only reads is not recorded");
    assert!(all.iter().filter(|e| e["what"].as_str().unwrap().starts_with("POST")).all(|e| e["key"].is_string()));
    assert_eq!(entries(&client, "&what=message").await.len(), 1);
    assert_eq!(entries(&client, &format!("&on={approval}")).await.len(), 4);

    let told = client.get("/api/audit/verify").await.expect(200).json();
    assert_eq!(told["valid"], true, "{told}");
    let head = told["head"].as_str().unwrap().to_owned();
    server.kill9();
    server.restart();
    let client = server.client();
    let told = client.get(&format!("/api/audit/verify?head={head}")).await.expect(200).json();
    assert_eq!(told["valid"], true, "{told}");
    let after = entries(&client, "").await;
    assert!(all.iter().all(|e| after.contains(e)), "a killed process loses no record");
    let exported = client.post_empty("/api/audit/export").await.expect(200).text();
    assert_eq!(exported.lines().count(), after.len());
    client.get("/api/audit/verify?head=nonsense").await.expect(400).error();
    server.stop().await;

    let key = command(server.home()).args(["audit", "key"]).output().unwrap();
    assert_eq!(key.stdout.trim_ascii().len(), 64);
    let key_file = server.home().join("audit.pub");
    std::fs::write(&key_file, &key.stdout).unwrap();
    let key_file = key_file.to_str().unwrap();
    let (code, text) = verify(server.home(), &["--public-key", key_file, "--head", &head]);
    assert_eq!(code, Some(0), "{text}");
    let last_head = text.lines().find_map(|l| l.strip_prefix("head ")).unwrap().to_owned();

    let file = server.home().join("workspace/audit/1.log");
    let whole = std::fs::read_to_string(&file).unwrap();
    assert!(!whole.contains("salaries"), "names are HMACs");
    std::fs::write(&file, whole.replacen("approved", "rejected", 1)).unwrap();
    let (code, text) = verify(server.home(), &["--public-key", key_file]);
    assert!(code == Some(1) && text.contains("was edited"), "{text}");
    let lines: Vec<&str> = whole.lines().collect();
    std::fs::write(&file, lines[..lines.len() - 2].join("\n") + "\n").unwrap();
    let (code, text) = verify(server.home(), &["--public-key", key_file, "--head", &last_head]);
    assert!(code == Some(1) && text.contains("tail was cut"), "{text}");
}

#[tokio::test]
async fn another_owners_records_are_not_shown() {
    let server = Setup::new().start();
    let client = server.client();
    let made = client.post("/api/keys", &json!({"name": "other", "scopes": ["admin", "read"], "owner": "new"})).await.expect(201).json();
    let other = client.with_key(None);
    let key = made["key"].as_str().unwrap();
    let ask = crate::support::client::Ask::new("GET", "/api/audit/entries").header("authorization", format!("Bearer {key}"));
    let theirs = other.send(ask).await.expect(200).json();
    assert_eq!(theirs["total"], 0, "{theirs}");
    assert!(entries(&client, "").await.iter().any(|e| says(e, "POST /api/keys", "begun")));
    let text = std::fs::read_to_string(server.home().join("workspace/audit/1.log")).unwrap();
    assert!(!text.contains(key));
}

#[tokio::test]
async fn a_name_is_explained_on_the_machine_itself() {
    let mut server = Setup::new().start();
    let client = server.client();
    client.post("/api/skills/no-such-skill/enable", &json!({})).await;
    server.stop().await;
    let output = command(server.home()).args(["audit", "explain", "--name", "no-such-skill"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("/enable") && text.contains("2 records"), "{text}");
}
