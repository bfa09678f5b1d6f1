//! Tool servers that speak the Model Context Protocol (2025-06-18): started when a run first needs them, asked for their tools,
//! called within limits, ended when nobody uses them. A server is a stranger: what it sends is bounded and its tools are risky
//! unless its owner trusts it.
//!
//! Every owner has servers of its own (THREATS 7): a program runs once for each owner that uses it and works in that owner's
//! files, a server behind HTTP has a session for each. Their settings are the home's: what `args`, `env`, `url` and `headers`
//! name is the same for every owner.

mod error;
mod pool;
mod probe;
mod process;
mod server;
mod settings;
mod streamable;
mod tool;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use crate::base::cancel::Cancel;
use crate::base::ids::OwnerId;
use crate::base::limits::MCP_SERVERS_MAX;
use crate::base::live::Live;
use crate::base::log;
use crate::base::time::Clock;
use crate::http::client::Client;
use crate::wire::json_rpc::{self, Id};

use error::McpError;
use pool::Pool;
pub use probe::Problem;
use server::Ground;
pub use settings::{ServerSettings, Settings, Transport};

/// A tool as a model is offered it.
#[derive(Debug, Clone, PartialEq)]
pub struct Offered {
    /// `server__tool`: letters, digits, `-` and `_`, at most 64 bytes, unique.
    pub name: String,
    /// What its server calls it.
    pub theirs: String,
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

/// Whose servers are meant.
#[derive(Clone, Copy)]
pub struct Whose<'a> {
    /// Each owner has servers of its own.
    pub owner: OwnerId,
    /// The owner's files: the working directory of those that are programs.
    pub files: &'a Path,
}

/// A program whose call was stopped shows in this time that it does something else again; otherwise it is ended.
const CANCEL_GRACE: Duration = Duration::from_secs(2);
/// How often it is looked for servers that nobody uses.
const TIDY_EVERY: Duration = Duration::from_secs(60);

/// All configured servers, each once for every owner that uses it.
pub struct Mcp {
    settings: Arc<Live<Settings>>,
    ground: Arc<Ground>,
    pool: Pool,
}

impl Mcp {
    /// The servers of these settings. Nothing is started.
    pub fn new(settings: Arc<Live<Settings>>, client: Client, clock: Arc<dyn Clock>) -> Self {
        Self { settings, ground: Arc::new(Ground { client, clock, grace: CANCEL_GRACE }), pool: Pool::default() }
    }

    /// The tools of every server of this owner that can be reached within this time; those that do not run are started. One that
    /// fails offers nothing; one that takes longer goes on, and is there for whoever asks later.
    pub async fn offered(&self, whose: Whose<'_>, within: Duration, cancel: &Cancel) -> Vec<Offered> {
        // As many places as there are servers: nobody waits to tell what nobody may hear any more.
        let (tell, mut told) = mpsc::channel(MCP_SERVERS_MAX);
        for (place, (name, settings)) in self.settings.load().enabled().enumerate() {
            match self.pool.take(whose, name, settings, self.ground.clock.monotonic()) {
                Ok(server) => {
                    let (ground, tell) = (self.ground.clone(), tell.clone());
                    // Ends with the start, which the server's own time limit bounds.
                    tokio::spawn(async move {
                        let tools = server.tools(&ground).await;
                        let _ = tell.send((place, tools)).await;
                    });
                }
                Err(error) => log::warn("mcp", format_args!("server {name}: {}", error.public())),
            }
        }
        drop(tell);
        let mut found = BTreeMap::new();
        let all = async {
            while let Some((place, tools)) = told.recv().await {
                found.insert(place, tools.unwrap_or_default());
            }
        };
        // What was found until then is still true.
        let _ = cancel.guard(tokio::time::timeout(within, all)).await;
        found.into_values().flat_map(|tools| tools.iter().cloned().collect::<Vec<_>>()).collect()
    }

    /// Calls a tool of this owner's servers by its offered name, if that still stands for the one that its server calls so. Both
    /// answers are for the model.
    ///
    /// # Errors
    /// What went wrong, in public words or the server's own.
    pub async fn call(
        &self,
        whose: Whose<'_>,
        (name, theirs): (&str, &str),
        arguments: Map<String, Value>,
        cancel: &Cancel,
    ) -> Result<String, String> {
        let settings = self.settings.load();
        // No name of a server ends with `_` or holds `__`, so only one can fit.
        let called = settings.enabled().find(|(server, _)| name.strip_prefix(*server).is_some_and(|rest| rest.starts_with("__")));
        let Some((server, settings)) = called else { return Err(format!("there is no tool `{name}`")) };
        let taken = self.pool.take(whose, server, settings, self.ground.clock.monotonic());
        let taken = taken.map_err(|error| format!("the server `{server}`: {}", error.public()))?;
        // On the heap: a run is deep enough without all that a start may need.
        let done = cancel.guard(Box::pin(taken.call(&self.ground, (name, theirs), arguments))).await;
        let done = done.unwrap_or_else(|_| Err("it was stopped".to_owned()));
        log::info("mcp", format_args!("server {server}: a call {}", if done.is_ok() { "ended well" } else { "failed" }));
        done
    }

    /// Every configured server, by name, and how this owner's does. Starts nothing.
    pub fn status(&self, owner: OwnerId) -> Vec<Status> {
        let settings = self.settings.load();
        let status = |(name, settings): (&String, &ServerSettings)| {
            let shown = self.pool.shown(owner, name, settings).unwrap_or_default();
            let state = if settings.enabled { shown.state } else { State::Disabled };
            Status { name: name.clone(), transport: settings.transport.word(), state, tools: shown.tools, problem: shown.problem }
        };
        settings.servers.iter().take(MCP_SERVERS_MAX).map(status).collect()
    }

    /// Ends servers that nobody has used for a while or whose settings have changed, until it is stopped.
    pub async fn keep_tidy(self: Arc<Self>, stop: Cancel) {
        let look = || async {
            tokio::select! {
                () = tokio::time::sleep(TIDY_EVERY) => {}
                () = self.settings.changed() => {}
            }
        };
        while stop.guard(look()).await.is_ok() {
            self.tidy();
        }
    }

    /// Ends them now.
    fn tidy(&self) {
        self.pool.tidy(&self.settings.load(), self.ground.clock.monotonic());
    }

    /// Ends every server: sessions are ended, programs are killed with their process groups.
    pub async fn close(&self) {
        let mut ended = tokio::task::JoinSet::new();
        for server in self.pool.empty() {
            ended.spawn(async move { server.close().await });
        }
        ended.join_all().await;
    }
}

/// What we answer to what a server asks: it may know that we live, and nothing else.
fn reply(id: &Id, method: &str) -> Vec<u8> {
    match method {
        "ping" => json_rpc::success(id, &json!({})),
        _ => json_rpc::refusal(id, json_rpc::METHOD_NOT_FOUND, "this client does not offer that"),
    }
}

#[cfg(test)]
mod tests;
