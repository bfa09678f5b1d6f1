//! Tool servers that nobody here wrote, and what the configuration and the API say of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use oxios_edge::base::cancel;
use oxios_edge::base::ids::OwnerId;
use oxios_edge::base::live::Live;
use oxios_edge::base::time::SystemClock;
use oxios_edge::http::client::{self, ClientSettings};
use oxios_edge::rooms::mcp::{Mcp, ServerSettings, Settings, State, Transport, Whose};
use oxios_edge::wire::url::Url;
use serde_json::{Map, Value, json};

use crate::support::client::{Ask, Client, PATIENCE};
use crate::support::model::{cache, python, skip};
use crate::support::scripted::{Reply, Scripted};
use crate::support::server::{Setup, TempDir, command};
use crate::support::tool_server::ToolServer;

fn room(transport: Transport, trust: bool) -> Mcp {
    let server = ServerSettings { transport, enabled: true, timeout: Duration::from_secs(40), trust };
    let settings = Settings { servers: [("s".to_owned(), server)].into() };
    let client = client::Client::new(ClientSettings::default());
    Mcp::new(Arc::new(Live::new(settings)), client, Arc::new(SystemClock::new()))
}

fn somebody(files: &TempDir) -> Whose<'_> {
    Whose { owner: OwnerId::derived(&[1; 32]), files: files.path() }
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
    let files = TempDir::new();
    let whose = somebody(&files);
    let (_stop, cancel) = cancel::pair();
    let offered = mcp.offered(whose, PATIENCE, &cancel).await;
    assert!(offered.iter().any(|tool| tool.name == "s__echo") && offered.len() > 5, "{:?}", mcp.status(whose.owner));
    let said = mcp.call(whose, ("s__echo", "echo"), arguments(json!({"message": "$(id) `id`"})), &cancel).await.unwrap();
    assert!(said.contains("$(id) `id`"), "{said}");
    assert!(mcp.call(whose, ("s__echo", "echo"), arguments(json!({"message": 5})), &cancel).await.is_err());
    assert_eq!(mcp.status(whose.owner)[0].state, State::Running);
    mcp.close().await;
}

#[tokio::test]
async fn the_everything_server_over_stdio_and_http() {
    let Some(script) = npm("server-everything") else { return skip("the_everything_server", "npm's server-everything") };
    everything(&room(stdio("node", &[&script, "stdio"]), false)).await;
    let port = free_port();
    let mut command = Command::new("node");
    command.args([&script, "streamableHttp"]).env("PORT", port.to_string());
    let _server = listening(command, port).await;
    everything(&room(http(port), false)).await;
}

#[tokio::test]
async fn the_filesystem_server_and_its_risks() {
    let Some(script) = npm("server-filesystem") else { return skip("the_filesystem_server", "npm's server-filesystem") };
    let files = TempDir::new();
    let whose = somebody(&files);
    std::fs::write(files.path().join("a.txt"), "inside").unwrap();
    let (_stop, cancel) = cancel::pair();
    for trust in [false, true] {
        let mcp = room(stdio("node", &[&script, "."]), trust);
        let offered = mcp.offered(whose, PATIENCE, &cancel).await;
        let risky = |name: &str| offered.iter().find(|tool| tool.name == name).unwrap_or_else(|| panic!("{offered:?}")).risky;
        assert_eq!(risky("s__read_text_file"), !trust, "a read-only tool is safe where its server is trusted");
        assert!(risky("s__write_file"));
        let path = files.path().join("a.txt");
        assert!(
            mcp.call(whose, ("s__read_text_file", "read_text_file"), arguments(json!({"path": path})), &cancel)
                .await
                .unwrap()
                .contains("inside")
        );
        mcp.close().await;
    }
}

#[tokio::test]
async fn servers_of_the_python_sdk() {
    let Some(python) = python() else { return skip("servers_of_the_python_sdk", "PyPI's mcp") };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/mcp_server.py");
    let files = TempDir::new();
    let whose = somebody(&files);
    let port = free_port();
    let mut command = Command::new(&python);
    command.args([script, &port.to_string()]);
    let _server = listening(command, port).await;
    let (_stop, cancel) = cancel::pair();
    for transport in [stdio(&python, &[script, "stdio"]), http(port)] {
        let mcp = room(transport, false);
        let names: Vec<_> = mcp.offered(whose, PATIENCE, &cancel).await.into_iter().map(|tool| tool.name).collect();
        assert_eq!(names, ["s__add"], "{:?}", mcp.status(whose.owner));
        let said = mcp.call(whose, ("s__add", "add"), arguments(json!({"a": 2, "b": 3})), &cancel).await.unwrap();
        assert_eq!(said, "5");
        mcp.close().await;
    }
}

/// One conversation in which the model calls `far__echo`; what the tool said.
async fn echo(client: &Client, model: &Scripted) -> String {
    model.next(Reply::tool("far__echo", &json!({})));
    model.next(Reply::text(&["Fine."]));
    client.post("/api/chat", &json!({"content": "go"})).await.expect(200);
    let told = model.seen().last().unwrap().told();
    let said = told.split("[far__echo returned this data]\\n").nth(1).unwrap_or_else(|| panic!("{told}"));
    said.split('"').next().unwrap().to_owned()
}

fn heard(what: &[(&str, u16)]) -> Vec<(String, u16)> {
    what.iter().map(|(what, status)| ((*what).to_owned(), *status)).collect()
}

const BEGINNING: [(&str, u16); 3] = [("initialize", 200), ("notifications/initialized", 202), ("tools/list", 200)];

#[tokio::test]
async fn a_session_that_the_server_has_forgotten_is_begun_anew_once() {
    let (model, far) = (Scripted::start(), ToolServer::start());
    let server = Setup::new().openai(&model).config(&far.config("far")).start();
    let client = server.client();
    assert_eq!(echo(&client, &model).await, "echoed in session-1");
    let told = far.told();
    assert_eq!(told.iter().map(|told| told.session.as_deref()).collect::<Vec<_>>()[..2], [None, Some("session-1")]);
    assert!(told[1..].iter().all(|told| told.version.as_deref() == Some("2025-06-18")), "{told:?}");

    // It said that its tools have changed, so they are asked for again; the session is gone, a new one has no old id.
    far.forget();
    assert_eq!(echo(&client, &model).await, "echoed in session-2");
    let told = far.told();
    assert_eq!((told[0].what.as_str(), told[0].status, told[1].session.as_ref()), ("tools/list", 404, None), "{told:?}");
    let listed = [("tools/list", 200)];
    assert_eq!(echo(&client, &model).await, "echoed in session-2");
    assert_eq!(far.heard(), heard(&[&listed[..], &[("tools/call", 200)]].concat()));

    far.be_forgetful();
    let said = echo(&client, &model).await;
    assert!(said.contains("it does not know the session that it began"), "{said}");
    let once = [&listed[..], &[("tools/call", 404)], &BEGINNING, &[("tools/call", 404)]].concat();
    assert_eq!(far.heard(), heard(&once), "tried twice, no more");
}

#[tokio::test]
async fn a_server_that_says_400_to_a_forgotten_session_is_not_lost() {
    let (model, far) = (Scripted::start(), ToolServer::start());
    let server = Setup::new().openai(&model).config(&far.config("far")).start();
    let client = server.client();
    far.answer_unknown_with(400);
    far.be_forgetful();
    let said = echo(&client, &model).await;
    assert!(said.contains("it answers with HTTP 400"), "{said}");
    assert_eq!(far.heard(), heard(&[&BEGINNING[..], &[("tools/call", 400)]].concat()), "it may mean something else: not repeated");
    let said = echo(&client, &model).await;
    assert!(said.contains("it answers with HTTP 400"), "{said}");
    assert_eq!(far.heard(), heard(&[&BEGINNING[..], &[("tools/call", 400)]].concat()));
}

#[tokio::test]
async fn a_call_that_may_have_been_carried_out_is_not_made_again() {
    let (model, far) = (Scripted::start(), ToolServer::start());
    let server = Setup::new().openai(&model).config(&far.config("far")).start();
    far.break_off();
    let said = echo(&server.client(), &model).await;
    assert!(said.contains("it ended before it answered"), "{said}");
    assert_eq!(far.heard(), heard(&[&BEGINNING[..], &[("tools/call", 200)]].concat()));
}

#[tokio::test]
async fn every_owner_has_its_own_session_and_each_is_ended() {
    let (model, far) = (Scripted::start(), ToolServer::start());
    let config = format!("{}headers = {{ X-Token = \"canary-mcp-91\" }}\n", far.config("far"));
    let mut server = Setup::new().openai(&model).config(&config).start();
    server.canary("canary-mcp-91");
    let client = server.client();
    let guest = json!({"name": "guest", "scopes": ["read", "chat"], "owner": "new"});
    let guest = client.post("/api/keys", &guest).await.expect(201).json()["key"].as_str().unwrap().to_owned();
    let guest = server.stranger().with_key(Some(&guest));
    let state = async |client: &Client| client.get("/api/mcp/servers").await.expect(200).json()["items"][0]["state"].clone();
    assert_eq!(echo(&client, &model).await, "echoed in session-1");
    assert_eq!((state(&client).await, state(&guest).await), (json!("running"), json!("not_started")));
    assert_eq!(echo(&guest, &model).await, "echoed in session-2");
    assert_eq!(echo(&client, &model).await, "echoed in session-1");
    assert!(far.told().iter().all(|told| told.headers.contains(&("x-token".into(), "canary-mcp-91".into()))));
    assert!(server.stop().await.success());
    let ended: Vec<_> = far.told().into_iter().filter(|told| told.what == "DELETE").map(|told| (told.session, told.status)).collect();
    assert_eq!(ended.len(), 2, "{ended:?}");
    assert!(ended.contains(&(Some("session-1".into()), 204)) && ended.contains(&(Some("session-2".into()), 204)), "{ended:?}");
}

#[tokio::test]
async fn a_session_ends_with_its_settings() {
    let (model, far) = (Scripted::start(), ToolServer::start());
    let server = Setup::new().openai(&model).config(&far.config("far")).start();
    let client = server.client();
    echo(&client, &model).await;
    let change = json!({"mcp": {"servers": {"far": {"timeout_secs": 20}}}});
    client.send(Ask::new("PUT", "/api/config").json(&change)).await.expect(200);
    assert_eq!(echo(&client, &model).await, "echoed in session-2");
    assert_eq!(far.until_told("DELETE").await.session.as_deref(), Some("session-1"));
}

/// Says where it works and what lies there.
const LOOKS: &str = r#"
import sys, json, os
for line in sys.stdin:
    m = json.loads(line)
    if m.get("method") == "initialize": r = {"protocolVersion": "2025-06-18", "capabilities": {}}
    elif m.get("method") == "tools/list":
        r = {"tools": [{"name": "look", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}}]}
    elif m.get("method") == "tools/call": r = {"content": [{"type": "text", "text": "here: " + " ".join(os.listdir("."))}]}
    else: continue
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": m["id"], "result": r}) + "\n"); sys.stdout.flush()
"#;

#[tokio::test]
async fn a_program_works_in_the_files_of_the_owner_who_uses_it() {
    let model = Scripted::start();
    let scripts = TempDir::new();
    let script = scripts.path().join("looks.py");
    std::fs::write(&script, LOOKS).unwrap();
    let config = format!("[mcp.servers.files]\ncommand = \"python3\"\nargs = [{script:?}]\ntrust = true\n");
    let server = Setup::new().openai(&model).config(&config).start();
    let client = server.client();
    let guest = json!({"name": "guest", "scopes": ["read", "chat", "write"], "owner": "new"});
    let guest = client.post("/api/keys", &guest).await.expect(201).json()["key"].as_str().unwrap().to_owned();
    let guest = server.stranger().with_key(Some(&guest));
    for (client, name) in [(&client, "mine.txt"), (&guest, "yours.txt")] {
        client.send(Ask::new("PUT", format!("/api/workspace/file/{name}")).body(b"x".to_vec())).await.expect(200);
    }
    for (client, sees) in [(&client, "here: mine.txt"), (&guest, "here: yours.txt"), (&client, "here: mine.txt")] {
        model.next(Reply::tool("files__look", &json!({})));
        model.next(Reply::text(&["Fine."]));
        client.post("/api/chat", &json!({"content": "look"})).await.expect(200);
        let told = model.seen().last().unwrap().told();
        assert!(told.contains(sees) && !told.replace(sees, "").contains("here: "), "{told}");
    }
}

/// Says what it was started with and called with.
const REPEATS: &str = r#"
import sys, json, os
for line in sys.stdin:
    m = json.loads(line)
    if m.get("method") == "initialize": r = {"protocolVersion": "2025-06-18", "capabilities": {}}
    elif m.get("method") == "tools/list":
        r = {"tools": [{"name": "repeat", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}}]}
    elif m.get("method") == "tools/call":
        r = {"content": [{"type": "text", "text": "started " + repr(sys.argv[1:]) + " called " + repr(m["params"]["arguments"]["text"])}]}
    else: continue
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": m["id"], "result": r}) + "\n"); sys.stdout.flush()
"#;

/// THREATS 20: there is no shell that reads what a configuration, a model or a client says.
#[tokio::test]
async fn a_program_gets_its_arguments_as_they_are_and_no_shell_reads_them() {
    let (model, scripts) = (Scripted::start(), TempDir::new());
    let script = scripts.path().join("repeats.py");
    std::fs::write(&script, REPEATS).unwrap();
    let trap = scripts.path().join("trap");
    let evil = format!("$(touch {0}); `touch {0}` | touch {0} && touch {0} > {0} *", trap.display());
    let config = format!("[mcp.servers.r]\ncommand = \"python3\"\nargs = [{script:?}, {evil:?}, \"$HOME\", \"a b\"]\ntrust = true\n");
    let server = Setup::new().openai(&model).config(&config).start();
    model.next(Reply::tool("r__repeat", &json!({"text": evil})));
    model.next(Reply::text(&["Fine."]));
    server.client().post("/api/chat", &json!({"content": evil})).await.expect(200);
    // Which tool it was is in the audit log for who knows its name, and for nobody else.
    let explained = command(server.home()).args(["audit", "explain", "--name", "r__repeat"]).output().unwrap();
    let explained = String::from_utf8(explained.stdout).unwrap();
    let listed = server.client().get("/api/audit/entries?on=r__repeat").await.expect(200).json();
    assert_eq!(listed["total"], 1, "{listed}");
    assert!(explained.contains("\"what\":\"tool mcp hmac:") && explained.ends_with("1 records\n"), "{explained}");
    let told = model.seen().last().unwrap().told();
    let repeated = |text: &str| told.contains(&text.replace('"', "\\\""));
    assert!(repeated(&format!("started ['{evil}', '$HOME', 'a b'] called '{evil}'")), "{told}");
    assert!(!trap.exists(), "a shell has read it");
    // What no program has is no program, whatever a shell would make of it.
    let change = json!({"mcp": {"servers": {"r": {"command": format!("python3 -c 1; touch {}", trap.display())}}}});
    server.client().send(Ask::new("PUT", "/api/config").json(&change)).await.expect(200);
    model.always(Reply::text(&["Fine."]));
    server.client().post("/api/chat", &json!({"content": "again"})).await.expect(200);
    assert!(!trap.exists(), "a shell has read it");
}

#[tokio::test]
async fn a_server_of_the_python_sdk_that_was_started_anew_is_found_again() {
    let Some(python) = python() else { return skip("a_server_of_the_python_sdk_anew", "PyPI's mcp") };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/mcp_server.py");
    let files = TempDir::new();
    let (whose, port) = (somebody(&files), free_port());
    let start = async || {
        let mut command = Command::new(&python);
        command.args([script, &port.to_string()]);
        listening(command, port).await
    };
    let (_stop, cancel) = cancel::pair();
    let mcp = room(http(port), false);
    let sum = async |a: i64| mcp.call(whose, ("s__add", "add"), arguments(json!({"a": a, "b": 3})), &cancel).await;
    let first = start().await;
    assert_eq!(sum(2).await, Ok("5".to_owned()));
    drop(first);
    assert!(sum(2).await.is_err());
    let _second = start().await;
    assert_eq!(sum(4).await, Ok("7".to_owned()), "{:?}", mcp.status(whose.owner));
    mcp.close().await;
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

#[tokio::test]
async fn fields_and_variables_that_could_harm_are_refused_by_the_api_and_nothing_is_changed() {
    let server = Setup::new().config("[mcp.servers.far]\nurl = \"http://127.0.0.1:9/mcp\"\nenabled = false\n").start();
    let client = server.client();
    client.forbid("canary-mcp-33");
    server.canary("canary-mcp-33");
    let before = std::fs::read(server.home().join("config.toml")).unwrap();
    for (key, value, said) in [
        ("headers", json!({"Host": "canary-mcp-33"}), "mcp.servers.far.headers: expected header fields that are yours to set; `Host` is"),
        ("headers", json!({"X-A": "canary-mcp-33\r\nHost: x"}), "that of `X-A` is none"),
        ("headers", json!({"X-A\r\nHost: canary-mcp-33": ""}), "`X-A…` is none"),
        ("headers", json!({"Mcp-Session-Id": "canary-mcp-33"}), "`Mcp-Session-Id` is set by"),
        (
            "env",
            json!({"A-B": "canary-mcp-33"}),
            "mcp.servers.far.env: expected names of letters, digits and _, no digit first; `A-B` is none",
        ),
        ("env", json!({"A=canary-mcp-33": ""}), "`A…` is none"),
    ] {
        let change = json!({"mcp": {"servers": {"far": {key: value}}}});
        let error = client.send(Ask::new("PUT", "/api/config").json(&change)).await.expect(400).error();
        assert!(error.contains(said), "{error}");
        assert_eq!(std::fs::read(server.home().join("config.toml")).unwrap(), before);
    }
    let change = json!({"mcp": {"servers": {"far": {"headers": {"X-A": "canary-mcp-33"}}}}});
    client.send(Ask::new("PUT", "/api/config").json(&change)).await.expect(200);
}

#[tokio::test]
async fn doctor_tries_every_tool_server_and_says_what_to_do() {
    let far = ToolServer::start();
    let home = TempDir::new();
    let config = format!(
        "{}[mcp.servers.off]\ncommand = \"x\"\nenabled = false\n\
         [mcp.servers.gone]\ncommand = \"/nowhere/canary-mcp-44\"\n\
         [mcp.servers.mute]\ncommand = \"tail\"\nargs = [\"-f\", \"/dev/null\"]\ntimeout_secs = 1\n\
         [mcp.servers.ends]\ncommand = \"true\"\n\
         [mcp.servers.closed]\nurl = \"http://127.0.0.1:9/mcp\"\n",
        far.config("far")
    );
    std::fs::write(home.path().join("config.toml"), &config).unwrap();
    let run = || {
        let output = command(home.path()).args(["doctor", "--listen", "127.0.0.1:0"]).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, said) = run();
    assert_eq!(code, Some(1), "{said}");
    for line in [
        "ok    tools      far answers with 1 tool",
        "ok    tools      off is switched off",
        "FAIL  tools      gone: its command cannot be started",
        "-> install the program, or write its whole path in `command`",
        "FAIL  tools      mute: it did not answer in time",
        "-> raise `timeout_secs`",
        "FAIL  tools      ends: it ended before it answered",
        "-> run `command` with its `args` by hand",
        "FAIL  tools      closed: ",
        "-> start the server, or correct `url`",
    ] {
        assert!(said.contains(line), "{line} in {said}");
    }
    assert!(!said.contains("canary"), "{said}");
    assert_eq!(far.heard().last(), Some(&("DELETE".to_owned(), 204)), "nothing is left behind");
    std::fs::write(home.path().join("config.toml"), far.config("far")).unwrap();
    assert_eq!(run().0, Some(0));
}
