//! A tool server behind HTTP (MCP, streamable HTTP) that keeps sessions, forgets them when a test says so, and notes every
//! request. It runs on a thread of its own, so that a test may block.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::client::PATIENCE;
use super::scripted::{listen, read_request};

/// A request that reached the server.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// The JSON-RPC method; for a request without a message the HTTP method.
    pub what: String,
    /// The session that it named.
    pub session: Option<String>,
    /// The status of the answer.
    pub status: u16,
    /// `MCP-Protocol-Version`.
    pub version: Option<String>,
    /// Header names in lower case.
    pub headers: Vec<(String, String)>,
}

#[derive(Default)]
struct State {
    sessions: BTreeSet<String>,
    made: usize,
    /// Tool calls are answered as if their session were unknown.
    forgetful: bool,
    /// Tool calls are answered by a stream that ends before it says anything.
    breaks_off: bool,
    /// What is answered to an unknown session.
    unknown: u16,
    /// Is in everything that it says: names, descriptions, results, errors.
    word: Option<String>,
    told: Vec<Told>,
}

/// The server: one tool `echo`, which only reads and answers in a stream of events that says first that the tools have changed.
/// Ends with this value.
pub struct ToolServer {
    address: String,
    state: Arc<Mutex<State>>,
    count: watch::Sender<usize>,
    stop: watch::Sender<bool>,
}

impl ToolServer {
    /// Starts on a free port.
    pub fn start() -> Self {
        let state = Arc::new(Mutex::new(State { unknown: 404, ..State::default() }));
        let count = watch::channel(0).0;
        let (shared, counter) = (state.clone(), count.clone());
        let (address, stop) = listen(move |stream| serve(stream, shared.clone(), counter.clone()));
        Self { address, state, count, stop }
    }
    /// Lines of `config.toml` that name it.
    pub fn config(&self, name: &str) -> String {
        format!("[mcp.servers.{name}]\nurl = \"http://{}/mcp\"\ntrust = true\n", self.address)
    }
    /// Forgets every session.
    pub fn forget(&self) {
        self.state.lock().unwrap().sessions.clear();
    }
    /// Knows no session any more as soon as a tool is called in it.
    pub fn be_forgetful(&self) {
        self.state.lock().unwrap().forgetful = true;
    }
    /// Breaks off its answers to tool calls.
    pub fn break_off(&self) {
        self.state.lock().unwrap().breaks_off = true;
    }
    /// An unknown session gets this status instead of 404.
    pub fn answer_unknown_with(&self, status: u16) {
        self.state.lock().unwrap().unknown = status;
    }
    /// Puts this word into everything that it says, and offers a second tool of that name, which fails.
    pub fn say(&self, word: &str) {
        self.state.lock().unwrap().word = Some(word.to_owned());
    }
    /// What it was told since this was last asked.
    pub fn told(&self) -> Vec<Told> {
        std::mem::take(&mut self.state.lock().unwrap().told)
    }
    /// The same in few words: what, and the answer's status.
    pub fn heard(&self) -> Vec<(String, u16)> {
        self.told().into_iter().map(|told| (told.what, told.status)).collect()
    }
    /// Waits until it was told this, and says with what.
    pub async fn until_told(&self, what: &str) -> Told {
        let found = || self.state.lock().unwrap().told.iter().find(|told| told.what == what).cloned();
        let mut count = self.count.subscribe();
        let wait = count.wait_for(|_| found().is_some());
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("the tool server was never told {what}")).unwrap();
        found().unwrap()
    }
}

impl Drop for ToolServer {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>, count: watch::Sender<usize>) {
    let mut bytes = Vec::new();
    while let Some((method, _, headers, body)) = read_request(&mut stream, &mut bytes).await {
        let message: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let header = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        let what = message["method"].as_str().unwrap_or(&method).to_owned();
        let session = header("mcp-session-id");
        let (status, fields, text) = {
            let mut state = state.lock().unwrap();
            let answer = answer(&mut state, &what, session.as_deref(), &message);
            let version = header("mcp-protocol-version");
            state.told.push(Told { what, session, status: answer.0, version, headers: headers.clone() });
            answer
        };
        count.send_modify(|n| *n += 1);
        let head = format!("HTTP/1.1 {status} x\r\n{fields}content-length: {}\r\n\r\n", text.len());
        if stream.write_all((head + &text).as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Status, header fields, body.
fn answer(state: &mut State, what: &str, session: Option<&str>, message: &Value) -> (u16, String, String) {
    let json = "content-type: application/json\r\n";
    let result = |result: Value| json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string();
    if what == "initialize" {
        state.made += 1;
        let session = format!("session-{}", state.made);
        state.sessions.insert(session.clone());
        let mut hello = json!({"protocolVersion": "2025-06-18", "capabilities": {"tools": {"listChanged": true}}});
        if let Some(word) = &state.word {
            hello["serverInfo"] = json!({"name": word, "title": word, "version": word});
            hello["instructions"] = json!(word);
        }
        return (200, format!("{json}mcp-session-id: {session}\r\n"), result(hello));
    }
    let known = session.is_some_and(|session| state.sessions.contains(session));
    if !known || (what == "tools/call" && state.forgetful) {
        return (state.unknown, String::new(), String::new());
    }
    match what {
        "DELETE" => {
            state.sessions.remove(session.unwrap_or_default());
            (204, String::new(), String::new())
        }
        "tools/list" => {
            let tool = json!({"name": "echo", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": true}});
            let mut tools = vec![tool];
            if let Some(word) = &state.word {
                let schema = json!({"type": "object", "title": word, "properties": {word: {"type": "string", "description": word}}});
                let hints = json!({"readOnlyHint": true, "title": word});
                tools.push(json!({"name": word, "title": word, "description": word, "inputSchema": schema, "annotations": hints}));
            }
            (200, json.to_owned(), result(json!({"tools": tools})))
        }
        "tools/call" if state.breaks_off => (200, "content-type: text/event-stream\r\n".into(), ": working\n\n".into()),
        "tools/call" if state.word.is_some() => {
            let word = state.word.clone().unwrap_or_default();
            let said = if message["params"]["name"] == "echo" {
                result(
                    json!({"content": [{"type": "text", "text": word}, {"type": word, "data": word}], "structuredContent": {word.clone(): word}}),
                )
            } else {
                json!({"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32000, "message": word, "data": word}}).to_string()
            };
            let noted =
                json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": word, "logger": word, "data": word}});
            (200, "content-type: text/event-stream\r\n".into(), format!("event: {word}\ndata: {noted}\n\ndata: {said}\n\n"))
        }
        "tools/call" => {
            let changed = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"});
            let said = result(json!({"content": [{"type": "text", "text": format!("echoed in {}", session.unwrap_or_default())}]}));
            (200, "content-type: text/event-stream\r\n".into(), format!("data: {changed}\n\ndata: {said}\n\n"))
        }
        _ => (202, String::new(), String::new()),
    }
}
