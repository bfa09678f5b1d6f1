//! Which tool servers there are and how they are reached.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::base::limits::MCP_SERVERS_MAX;
use crate::base::secret::Secret;
use crate::wire::url::Url;

/// Every configured server by its name (`[mcp.servers.<name>]`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    /// By name; a name has 1 to 32 letters, digits, `-` or `_`, does not end with `_` and has no two in a row.
    pub servers: BTreeMap<String, ServerSettings>,
}

impl Settings {
    /// Those that are used at all, by name.
    pub(super) fn enabled(&self) -> impl Iterator<Item = (&String, &ServerSettings)> {
        self.servers.iter().take(MCP_SERVERS_MAX).filter(|(_, server)| server.enabled)
    }
}

/// One server.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerSettings {
    /// How it is reached.
    pub transport: Transport,
    /// It is used at all.
    pub enabled: bool,
    /// How long it may take to start, and to answer one request.
    pub timeout: Duration,
    /// What it says about its own tools (`readOnlyHint`) is believed.
    pub trust: bool,
}

/// How a server is reached.
#[derive(Clone, PartialEq)]
pub enum Transport {
    /// A program of this machine that speaks over its standard input and output; its working directory is its owner's files.
    Stdio {
        /// The program: a path, or a name that is looked for on `PATH`.
        command: String,
        /// Its arguments, as they are; no shell reads them.
        args: Vec<String>,
        /// Its environment besides `PATH`, `HOME` and `LANG`.
        env: BTreeMap<String, Secret>,
    },
    /// A server of the streamable HTTP transport.
    Http {
        /// Its address.
        url: Url,
        /// Header fields of every request, for example `Authorization`.
        headers: BTreeMap<String, Secret>,
    },
}

impl Transport {
    /// Its name in a word: `stdio` or `http`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Stdio { .. } => "stdio",
            Self::Http { .. } => "http",
        }
    }
}

/// Arguments, addresses and header values may hold secrets.
impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
