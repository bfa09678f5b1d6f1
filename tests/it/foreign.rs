//! Clients nobody here wrote: `curl -N`, Python `websockets`, npm `eventsource`.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::model::{cache, python, skip};
use crate::support::scripted::{Gate, Reply, Scripted};
use crate::support::server::{Server, Setup};

const SESSION: &str = "0f3ae2a4-9c1b-4f6e-8d57-1f2e3d4c5f01";

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

/// Runs a client to its end with the gate opened as soon as it has printed `first piece`; returns all it printed.
async fn drive(mut command: std::process::Command, server: &Server, gate: &Gate) -> String {
    command.env("OXIOS_URL", format!("http://{}", server.address.host())).env("OXIOS_KEY", server.key()).env("OXIOS_SESSION", SESSION);
    let what = format!("{command:?}");
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let out = child.stdout.take().unwrap();
    let gate = gate.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let mut all = String::new();
        for line in std::io::BufRead::lines(std::io::BufReader::new(out)).map_while(Result::ok) {
            all += &line;
            all += "\n";
            // Only now may the model go on: the client has seen the first piece while the answer was being made.
            if line.contains("first piece") {
                gate.open();
            }
        }
        all
    });
    let all = tokio::time::timeout(crate::support::client::PATIENCE, reading).await.unwrap_or_else(|_| panic!("{what} hangs")).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{what}: {}\nprinted {all}", String::from_utf8_lossy(&output.stderr));
    all
}

fn scripted(gate: &Gate) -> (Scripted, Server) {
    let model = Scripted::start();
    model.next(Reply::text(&["first piece, "]).wait(gate).say("last piece"));
    let server = Setup::new().openai(&model).start();
    (model, server)
}

/// Starts the turn whose records the client will read.
fn ask(server: &Server) -> tokio::task::JoinHandle<Value> {
    let client = server.client();
    tokio::spawn(async move { client.post("/api/chat", &json!({"content": "go", "session_id": SESSION})).await.expect(200).json() })
}

#[tokio::test]
async fn curl_reads_a_stream_as_it_is_made() {
    let gate = Gate::new();
    let (_model, server) = scripted(&gate);
    let turn = ask(&server);
    gate.reached(1).await;
    let mut curl = std::process::Command::new("curl");
    curl.args(["-sS", "-N", "--fail", "-H", &format!("Authorization: Bearer {}", server.key())]);
    curl.arg(format!("http://{}/api/sessions/{SESSION}/events?until=done", server.address.host()));
    let said = drive(curl, &server, &gate).await;
    assert!(said.contains("\"kind\":\"done\"") && said.contains("first piece, last piece"), "{said}");
    turn.await.unwrap();
}

#[tokio::test]
async fn curl_posts_a_message() {
    let server = Setup::new().start();
    let output = std::process::Command::new("curl")
        .args(["-sS", "--fail", "-H", &format!("Authorization: Bearer {}", server.key()), "-H", "Content-Type: application/json"])
        .args(["-d", r#"{"content":"Hello there"}"#, &format!("http://{}/api/chat", server.address.host())])
        .output()
        .unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    assert_eq!(answer["echo"], "Hello there");
}

#[tokio::test]
async fn python_websockets_talks_to_the_socket() {
    let Some(python) = python() else { return skip("python_websockets", "Python's websockets") };
    let gate = Gate::new();
    let (_model, server) = scripted(&gate);
    let mut command = std::process::Command::new(python);
    command.arg(script("websockets_client.py"));
    let said = drive(command, &server, &gate).await;
    assert!(said.ends_with("done first piece, last piece\n"), "{said}");
}

#[tokio::test]
async fn npm_eventsource_reads_and_resumes() {
    if !cache().join("node/node_modules/eventsource").exists() {
        return skip("npm_eventsource", "npm's eventsource");
    }
    let gate = Gate::new();
    let (_model, server) = scripted(&gate);
    let turn = ask(&server);
    gate.reached(1).await;
    let mut command = std::process::Command::new("node");
    command.arg(script("eventsource_client.mjs")).env("OXIOS_NODE_MODULES", cache().join("node/node_modules"));
    let said = drive(command, &server, &gate).await;
    assert!(said.ends_with("done first piece, last piece\n"), "{said}");
    turn.await.unwrap();
}
