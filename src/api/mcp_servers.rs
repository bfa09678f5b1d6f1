//! `GET /api/mcp/servers`: the configured tool servers and how the caller's own do.

use std::sync::Arc;

use serde::Serialize;

use crate::api::{self, App, Call};
use crate::http::Response;
use crate::http::error::HttpError;
use crate::rooms::mcp::Status;

/// The configured tool servers, by name.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct McpServers {
    /// Each of them.
    items: Vec<Status>,
    /// How many there are.
    total: usize,
}

/// `GET /api/mcp/servers`. Nothing is started by looking.
pub(crate) async fn list(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let items = app.mcp.status(call.caller()?.owner());
    let total = items.len();
    api::json(&McpServers { items, total })
}

/// What this route answers.
#[cfg(test)]
pub(super) fn shapes(all: &mut api::shapes::Shapes) {
    all.answers::<McpServers>("McpServers");
}
