//! Trying a tool server for the person who configured it.

use std::path::Path;
use std::sync::Arc;

use super::server::{Ground, Server};
use super::{CANCEL_GRACE, Mcp, ServerSettings};
use crate::base::time::Clock;
use crate::http::client::Client;

/// Why a server that was tried does not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What happened, in public words.
    pub what: String,
    /// What to do about it.
    pub advice: &'static str,
}

impl Mcp {
    /// Really starts a server that works in `files`, asks for its tools, and ends it; tells how many there are. Takes no longer
    /// than its settings allow, and a farewell.
    ///
    /// # Errors
    /// What went wrong and what to do.
    pub async fn probe(
        name: &str,
        settings: ServerSettings,
        files: &Path,
        client: Client,
        clock: Arc<dyn Clock>,
    ) -> Result<usize, Problem> {
        let server = Server::new(name, settings, files.to_owned());
        let found = server.tools(&Ground { client, clock, grace: CANCEL_GRACE }).await;
        server.close().await;
        found.map(|tools| tools.len()).map_err(|error| Problem { what: error.public(), advice: error.advice() })
    }
}
