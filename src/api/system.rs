//! How the server is: /health, /health/ready, /api/status (API A2). Constant cost.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{self, HeaderValue};
use serde::Serialize;

use crate::api::{App, Call, json};
use crate::http::error::HttpError;
use crate::http::{Body, Response};
use crate::store::home::Space;

/// `GET /health`.
pub(crate) async fn health(_app: Arc<App>, _call: Call) -> Result<Response, HttpError> {
    const ANSWER: &str = concat!("{\"status\":\"ok\",\"version\":\"", env!("CARGO_PKG_VERSION"), "\"}");
    let mut response = Response::new(Body::full(ANSWER));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

#[derive(Serialize)]
struct Ready {
    status: &'static str,
    version: &'static str,
    uptime_secs: u64,
    components: ReadyComponents,
}

#[derive(Serialize)]
struct ReadyComponents {
    state_store: Part,
    git: Part,
    memory: MemoryPart,
}

#[derive(Serialize)]
struct Part {
    healthy: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

#[derive(Serialize)]
struct MemoryPart {
    healthy: bool,
    index_size: usize,
    total_entries: usize,
}

/// `GET /health/ready`.
pub(crate) async fn ready(app: Arc<App>, _call: Call) -> Result<Response, HttpError> {
    let store = state_store(&app);
    let stopping = app.shutdown.why().is_some();
    let healthy = store.healthy && !stopping;
    let memory = app.memory.counts();
    let mut response = json(&Ready {
        status: if healthy { "healthy" } else { "degraded" },
        version: env!("CARGO_PKG_VERSION"),
        uptime_secs: uptime(&app).as_secs(),
        components: ReadyComponents {
            state_store: store,
            // Versioning of the workspace is off.
            git: Part { healthy: true, detail: None },
            memory: MemoryPart { healthy: true, index_size: memory.index_size, total_entries: memory.total_entries },
        },
    })?;
    if !healthy {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    Ok(response)
}

#[derive(Serialize)]
struct Status {
    service: &'static str,
    status: &'static str,
    version: &'static str,
    channels: [&'static str; 1],
    uptime: String,
    components: StatusComponents,
}

#[derive(Serialize)]
struct StatusComponents {
    state_store: Detailed,
    event_bus: Detailed,
    memory: MemoryStatus,
    agents: Agents,
    spaces_active: usize,
}

#[derive(Serialize)]
struct Detailed {
    healthy: bool,
    detail: Option<String>,
}

#[derive(Serialize)]
struct MemoryStatus {
    enabled: bool,
    index_size: usize,
    total_entries: usize,
}

#[derive(Serialize)]
struct Agents {
    active_count: usize,
    total_forked: u64,
    total_completed: u64,
    total_failed: u64,
}

/// `GET /api/status`.
pub(crate) async fn status(app: Arc<App>, _call: Call) -> Result<Response, HttpError> {
    let (store, memory, runs) = (state_store(&app), app.memory.counts(), app.gateway.counts());
    json(&Status {
        service: "oxios",
        status: "running",
        version: env!("CARGO_PKG_VERSION"),
        channels: ["web"],
        uptime: in_words(uptime(&app)),
        components: StatusComponents {
            state_store: Detailed { healthy: store.healthy, detail: store.detail },
            event_bus: Detailed { healthy: true, detail: None },
            memory: MemoryStatus {
                enabled: app.settings.load().memory_enabled,
                index_size: memory.index_size,
                total_entries: memory.total_entries,
            },
            agents: Agents {
                active_count: runs.active,
                total_forked: runs.forked,
                total_completed: runs.completed,
                total_failed: runs.failed,
            },
            // There are no spaces yet, so none is active.
            spaces_active: 0,
        },
    })
}

fn state_store(app: &App) -> Part {
    match app.home.space() {
        Space::Full { why } => Part { healthy: false, detail: Some(why) },
        // A corrected clock harms nobody's data; it is said, not counted as ill.
        Space::Enough if app.clock.corrected() => {
            Part { healthy: true, detail: Some("the wall clock is behind; pruning by age pauses".to_owned()) }
        }
        Space::Enough => Part { healthy: true, detail: None },
    }
}

fn uptime(app: &App) -> Duration {
    app.clock.monotonic().saturating_sub(app.started)
}

/// `1h 23m 45s`.
fn in_words(time: Duration) -> String {
    let secs = time.as_secs();
    format!("{}h {}m {}s", secs / 3600, secs / 60 % 60, secs % 60)
}

#[cfg(test)]
mod tests {
    #[test]
    fn time_in_words() {
        assert_eq!(super::in_words(std::time::Duration::from_secs(5025)), "1h 23m 45s");
    }
}
