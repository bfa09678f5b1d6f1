//! Tool servers that speak the Model Context Protocol (2025-06-18): started when a run first needs them, asked for their tools,
//! called within limits. A server is a stranger: what it sends is bounded and its tools are risky unless its owner trusts it.

mod process;
mod server;
mod settings;
mod streamable;
#[cfg(test)]
mod tests;
mod tool;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::base::cancel::Cancel;
use crate::base::limits::MCP_SERVERS_MAX;
use crate::base::live::Live;
use crate::base::log;
use crate::base::time::Clock;
use crate::http::client::Client;
use crate::wire::json_rpc::{self, Id};

use server::{Ground, Server};
pub use settings::{ServerSettings, Settings, Transport};

/// A tool as a model is offered it.
#[derive(Debug, Clone, PartialEq)]
pub struct Offered {
    /// `server__tool`: letters, digits, `-` and `_`, at most 64 bytes, unique.
    pub name: String,
    /// What the server says it does.
    pub description: String,
    /// JSON schema of its arguments, as the server gave it.
    pub parameters: Value,
    /// A person is asked before it runs.
    pub risky: bool,
}

/// How a server does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum State {
    /// Nobody has needed it yet.
    #[default]
    NotStarted,
    /// It answers.
    Running,
    /// It does not; it is tried again when it is needed.
    Failed,
    /// It is switched off in the configuration.
    Disabled,
}

/// A server as a person sees it.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "McpStatus"))]
pub struct Status {
    /// Its name in the configuration.
    pub name: String,
    /// `stdio` or `http`.
    pub transport: &'static str,
    /// How it does.
    pub state: State,
    /// Its tools as they are offered, once it was started.
    pub tools: Vec<String>,
    /// What went wrong last.
    pub problem: Option<String>,
}

/// Why a server did not do what it was asked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum McpError {
    /// It cannot be started or reached; in public words.
    Start(String),
    /// It ended, or has forgotten us, before it answered.
    Ended,
    /// It did not answer in time.
    Slow,
    /// Too much is asked of it at once.
    Busy,
    /// It ended too often; it is started again after this.
    Waits(Duration),
    /// What it sent is too large or no message.
    Nonsense,
    /// It answered with an error: its code and words.
    Refused(i64, String),
}

impl McpError {
    /// In words that hold nothing a server or a model said.
    fn public(&self) -> String {
        match self {
            Self::Start(what) => what.clone(),
            Self::Ended => "it ended before it answered".into(),
            Self::Slow => "it did not answer in time".into(),
            Self::Busy => "too much is asked of it at once; try again".into(),
            Self::Waits(wait) => format!("it ended too often and is started again in {} s", wait.as_secs().max(1)),
            Self::Nonsense => "it sent what is too large or no message".into(),
            Self::Refused(code, _) => format!("it answered with the error {code}"),
        }
    }
}

/// All configured servers.
pub struct Mcp {
    settings: Arc<Live<Settings>>,
    ground: Arc<Ground>,
    /// The servers as they were last configured; one whose settings have changed is replaced. Held for moments.
    servers: Mutex<BTreeMap<String, Arc<Server>>>,
}

impl Mcp {
    /// The servers of these settings; `files` is the working directory of those that are programs. Nothing is started.
    pub fn new(settings: Arc<Live<Settings>>, client: Client, clock: Arc<dyn Clock>, files: PathBuf) -> Self {
        Self { settings, ground: Arc::new(Ground { client, clock, files }), servers: Mutex::default() }
    }

    /// The tools of every server that can be reached; servers that do not run are started. One that fails offers nothing.
    pub async fn offered(&self, cancel: &Cancel) -> Vec<Offered> {
        let mut started = tokio::task::JoinSet::new();
        for (place, server) in self.enabled().into_iter().enumerate() {
            let ground = self.ground.clone();
            started.spawn(async move { (place, server.tools(&ground).await.ok()) });
        }
        let mut found = BTreeMap::new();
        let all = async {
            while let Some(server) = started.join_next().await {
                if let Ok((place, Some(tools))) = server {
                    found.insert(place, tools);
                }
            }
        };
        // What was found until then is still true.
        let _ = cancel.guard(all).await;
        found.into_values().flat_map(|tools| tools.iter().map(|tool| tool.offered.clone()).collect::<Vec<_>>()).collect()
    }

    /// Calls a tool by its offered name. Both answers are for the model.
    ///
    /// # Errors
    /// What went wrong, in public words or the server's own.
    pub async fn call(&self, name: &str, arguments: Map<String, Value>, cancel: &Cancel) -> Result<String, String> {
        // No name of a server ends with `_` or holds `__`, so only one can fit.
        let server = self.enabled().into_iter().find(|server| {
            let tool = name.strip_prefix(server.name.as_str()).and_then(|rest| rest.strip_prefix("__"));
            tool.is_some()
        });
        let Some(server) = server else { return Err(format!("there is no tool `{name}`")) };
        let done = cancel.guard(server.call(&self.ground, name, arguments)).await;
        let done = done.unwrap_or_else(|_| Err("it was stopped".to_owned()));
        log::info("mcp", format_args!("server {}: a call {}", server.name, if done.is_ok() { "ended well" } else { "failed" }));
        done
    }

    /// Every configured server, by name. Starts nothing.
    pub fn status(&self) -> Vec<Status> {
        let servers = self.current();
        let status = |server: Arc<Server>| {
            let shown = server.shown();
            let state = if server.settings.enabled { shown.state } else { State::Disabled };
            let transport = server.settings.transport.word();
            Status { name: server.name.clone(), transport, state, tools: shown.tools, problem: shown.problem }
        };
        servers.into_iter().map(status).collect()
    }

    /// Ends every server: the programs are killed with their process groups.
    pub async fn close(&self) {
        let servers = std::mem::take(&mut *self.servers.lock().unwrap_or_else(|e| e.into_inner()));
        for server in servers.into_values() {
            server.close().await;
        }
    }

    fn enabled(&self) -> Vec<Arc<Server>> {
        self.current().into_iter().filter(|server| server.settings.enabled).collect()
    }

    /// The servers as they are configured now.
    fn current(&self) -> Vec<Arc<Server>> {
        let settings = self.settings.load();
        let mut servers = self.servers.lock().unwrap_or_else(|e| e.into_inner());
        // One that is dropped here ends with the last call that uses it.
        servers.retain(|name, server| settings.servers.get(name) == Some(&server.settings));
        for (name, settings) in settings.servers.iter().take(MCP_SERVERS_MAX) {
            servers.entry(name.clone()).or_insert_with(|| Arc::new(Server::new(name, settings.clone())));
        }
        servers.values().cloned().collect()
    }
}

/// What we answer to what a server asks: it may know that we live, and nothing else.
fn reply(id: &Id, method: &str) -> Vec<u8> {
    match method {
        "ping" => json_rpc::success(id, &json!({})),
        _ => json_rpc::refusal(id, json_rpc::METHOD_NOT_FOUND, "this client does not offer that"),
    }
}
