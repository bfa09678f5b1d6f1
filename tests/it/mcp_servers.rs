//! Tool servers that nobody here wrote, and what the configuration and the API say of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use oxios_edge::base::cancel;
use oxios_edge::base::live::Live;
use oxios_edge::base::time::SystemClock;
use oxios_edge::http::client::{Client, ClientSettings};
use oxios_edge::rooms::mcp::{Mcp, ServerSettings, Settings, State, Transport};
use oxios_edge::wire::url::Url;
use serde_json::{Map, Value, json};

use crate::support::client::PATIENCE;
use crate::support::model::{cache, python, skip};
use crate::support::server::{Setup, TempDir, command};

fn room(transport: Transport, trust: bool, files: &TempDir) -> Mcp {
    let server = ServerSettings { transport, enabled: true, timeout: Duration::from_secs(40), trust };
    let settings = Settings { servers: [("s".to_owned(), server)].into() };
    let client = Client::new(ClientSettings::default());
    Mcp::new(Arc::new(Live::new(settings)), client, Arc::new(SystemClock::new()), files.path().to_owned())
}

fn stdio(command: impl Into<PathBuf>, args: &[&str]) -> Transport {
    let command = command.into().to_str().unwrap().to_owned();
    Transport::Stdio { command, args: args.iter().map(|arg| (*arg).to_owned()).collect(), env: BTreeMap::new() }
}

fn arguments(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn npm(package: &str) -> Option<String> {
    let path = cache().join(format!("node/node_modules/@modelcontextprotocol/{package}/dist/index.js"));
    path.exists().then(|| path.to_str().unwrap().to_owned())
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server on a free port; ready once the port answers.
async fn listening(mut command: Command, port: u16) -> Running {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let up = async {
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::task::yield_now().await
        }
    };
    tokio::time::timeout(PATIENCE, up).await.expect("the server listens");
    Running(child)
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn http(port: u16) -> Transport {
    Transport::Http { url: Url::parse(&format!("http://127.0.0.1:{port}/mcp")).unwrap(), headers: BTreeMap::new() }
}

async fn everything(mcp: &Mcp) {
    let (_stop, cancel) = cancel::pair();
    let offered = mcp.offered(&cancel).await;
    assert!(offered.iter().any(|tool| tool.name == "s__echo") && offered.len() > 5, "{:?}", mcp.status());
    let said = mcp.call("s__echo", arguments(json!({"message": "$(id) `id`"})), &cancel).await.unwrap();
    assert!(said.contains("$(id) `id`"), "{said}");
    assert!(mcp.call("s__echo", arguments(json!({"message": 5})), &cancel).await.is_err());
    assert_eq!(mcp.status()[0].state, State::Running);
    mcp.close().await;
}

#[tokio::test]
async fn the_everything_server_over_stdio_and_http() {
    let Some(script) = npm("server-everything") else { return skip("the_everything_server", "npm's server-everything") };
    let files = TempDir::new();
    everything(&room(stdio("node", &[&script, "stdio"]), false, &files)).await;
    let port = free_port();
    let mut command = Command::new("node");
    command.args([&script, "streamableHttp"]).env("PORT", port.to_string());
    let _server = listening(command, port).await;
    everything(&room(http(port), false, &files)).await;
}

#[tokio::test]
async fn the_filesystem_server_and_its_risks() {
    let Some(script) = npm("server-filesystem") else { return skip("the_filesystem_server", "npm's server-filesystem") };
    let files = TempDir::new();
    std::fs::write(files.path().join("a.txt"), "inside").unwrap();
    let (_stop, cancel) = cancel::pair();
    for trust in [false, true] {
        let mcp = room(stdio("node", &[&script, files.path().to_str().unwrap()]), trust, &files);
        let offered = mcp.offered(&cancel).await;
        let risky = |name: &str| offered.iter().find(|tool| tool.name == name).unwrap_or_else(|| panic!("{offered:?}")).risky;
        assert_eq!(risky("s__read_text_file"), !trust, "a read-only tool is safe where its server is trusted");
        assert!(risky("s__write_file"));
        let path = files.path().join("a.txt");
        assert!(mcp.call("s__read_text_file", arguments(json!({"path": path})), &cancel).await.unwrap().contains("inside"));
        mcp.close().await;
    }
}

#[tokio::test]
async fn servers_of_the_python_sdk() {
    let Some(python) = python() else { return skip("servers_of_the_python_sdk", "PyPI's mcp") };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/mcp_server.py");
    let files = TempDir::new();
    let port = free_port();
    let mut command = Command::new(&python);
    command.args([script, &port.to_string()]);
    let _server = listening(command, port).await;
    let (_stop, cancel) = cancel::pair();
    for transport in [stdio(&python, &[script, "stdio"]), http(port)] {
        let mcp = room(transport, false, &files);
        let names: Vec<_> = mcp.offered(&cancel).await.into_iter().map(|tool| tool.name).collect();
        assert_eq!(names, ["s__add"], "{:?}", mcp.status());
        let said = mcp.call("s__add", arguments(json!({"a": 2, "b": 3})), &cancel).await.unwrap();
        assert_eq!(said, "5");
        mcp.close().await;
    }
}

#[tokio::test]
async fn the_configuration_names_servers_and_the_api_shows_them() {
    let config = "[mcp.servers.files]\ncommand = \"/nowhere\"\nenv = { TOKEN = \"canary-mcp-77\" }\n\
                  [mcp.servers.far]\nurl = \"http://127.0.0.1:9/mcp\"\nenabled = false\n";
    let mut server = Setup::new().config(config).start();
    server.canary("canary-mcp-77");
    for _ in 0..2 {
        let shown = server.client().get("/api/mcp/servers").await.expect(200).json();
        assert_eq!(shown["total"], 2);
        assert_eq!((&shown["items"][0]["name"], &shown["items"][0]["state"]), (&json!("far"), &json!("disabled")));
        assert_eq!((&shown["items"][1]["name"], &shown["items"][1]["transport"]), (&json!("files"), &json!("stdio")));
        assert!(!shown.to_string().contains("canary"));
        server.stranger().get("/api/mcp/servers").await.expect(401);
        server.restart();
    }
}

#[tokio::test]
async fn a_wrong_server_keeps_the_start_back_and_is_named() {
    let home = TempDir::new();
    std::fs::write(home.path().join("config.toml"), "[mcp.servers.x]\ncommand = \"a\"\nurl = \"http://secret-canary\"\n").unwrap();
    let output = command(home.path()).args(["serve", "--listen", "127.0.0.1:0"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("mcp.servers.x: expected either command or url") && !said.contains("canary"), "{said}");
}
