//! How the server is: /health, /health/ready, /api/status (API A2). Constant cost.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{self, HeaderValue};
use serde::Serialize;

use crate::api::{App, Call, blocking, json};
use crate::http::error::HttpError;
use crate::http::{Body, Response};
use crate::store::home::Space;
use crate::sys::landlock::State;

/// The process answers.
#[cfg(test)]
#[derive(Serialize, schemars::JsonSchema)]
struct Health {
    /// `ok`.
    status: &'static str,
    /// Of the server.
    version: &'static str,
}

#[cfg(test)]
pub(super) fn shapes(all: &mut crate::api::shapes::Shapes) {
    all.answers::<Health>("Health");
    all.answers::<Ready>("Ready");
    all.answers::<Status>("Status");
}

/// `GET /health`.
pub(crate) async fn health(_app: Arc<App>, _call: Call) -> Result<Response, HttpError> {
    const ANSWER: &str = concat!("{\"status\":\"ok\",\"version\":\"", env!("CARGO_PKG_VERSION"), "\"}");
    let mut response = Response::new(Body::full(ANSWER));
    response.headers_mut().insert(header::CONTENT_TYPE, const { HeaderValue::from_static("application/json") });
    Ok(response)
}

/// How ready the server is.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Ready {
    /// `healthy` or `degraded`.
    status: &'static str,
    /// Of the server.
    version: &'static str,
    /// Seconds since the start.
    uptime_secs: u64,
    /// Part by part.
    components: ReadyComponents,
}

/// The parts that have to work.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ReadyComponents {
    /// Sessions can be written.
    state_store: Part,
    /// Versioning of the workspace; good where it is off.
    git: Part,
    /// What is remembered can be found.
    memory: MemoryPart,
}

/// Whether one part works.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Part {
    /// It works.
    healthy: bool,
    /// Why it does not, or what is odd.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// Whether memory works, and how much there is.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct MemoryPart {
    /// It works.
    healthy: bool,
    /// Memories in the index.
    index_size: usize,
    /// Memories on disk.
    total_entries: usize,
}

/// `GET /health/ready`.
pub(crate) async fn ready(app: Arc<App>, _call: Call) -> Result<Response, HttpError> {
    if app.audit.is_behind() {
        // What can be written now is: nobody else may come by, where this says that nobody should.
        let audit = app.audit.clone();
        let _ = blocking::spawn(move || audit.admit()).await;
    }
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

/// What runs.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Status {
    /// The name of the service.
    service: &'static str,
    /// `running`.
    status: &'static str,
    /// Of the server.
    version: &'static str,
    /// Ways in.
    channels: [&'static str; 1],
    /// Hours, minutes, seconds since the start.
    uptime: String,
    /// Part by part.
    components: StatusComponents,
    /// The sandbox of the process.
    landlock: Landlock,
}

/// What the kernel keeps the process from (`security.landlock`).
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Landlock {
    /// `on` or `off`.
    state: &'static str,
    /// Why it is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    because: Option<String>,
    /// The version of the kernel's interface that is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    abi: Option<u32>,
    /// Files outside the home are out of reach, but for those that the system's libraries read.
    files: bool,
    /// The only TCP ports within reach, at any address; none where every port is.
    #[serde(skip_serializing_if = "Option::is_none")]
    ports: Option<Vec<u16>>,
}

impl Landlock {
    fn of(state: &State) -> Self {
        match state {
            State::On { version, ports } => Self {
                state: "on",
                because: None,
                abi: Some(*version),
                files: true,
                ports: ports.as_ref().map(|ports| ports.iter().copied().collect()),
            },
            State::Off(why) => Self { state: "off", because: Some(why.clone()), abi: None, files: false, ports: None },
        }
    }
}

/// How its parts are.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct StatusComponents {
    /// Sessions on disk.
    state_store: Detailed,
    /// Events of the kernel.
    event_bus: Detailed,
    /// What is remembered.
    memory: MemoryStatus,
    /// Runs of the agent.
    agents: Agents,
    /// Spaces that are active.
    spaces_active: usize,
}

/// One part.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Detailed {
    /// It works.
    healthy: bool,
    /// Why it does not, or what is odd.
    detail: Option<String>,
}

/// Memory.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct MemoryStatus {
    /// `memory.enabled`.
    enabled: bool,
    /// Memories in the index.
    index_size: usize,
    /// Memories on disk.
    total_entries: usize,
}

/// Runs of the agent.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Agents {
    /// Now.
    active_count: usize,
    /// Begun since this home was made, restarts included.
    total_forked: u64,
    /// Of these, stopped: at their end, or because somebody stopped them.
    total_completed: u64,
    /// Of these, failed.
    total_failed: u64,
}

/// `GET /api/status`.
pub(crate) async fn status(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (spaces, owner) = (app.spaces.clone(), call.caller()?.owner());
    let spaces_active = blocking(move || spaces.active(owner)).await?;
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
                active_count: app.agents.working(),
                total_forked: runs.forked,
                total_completed: runs.completed,
                total_failed: runs.failed,
            },
            spaces_active,
        },
        landlock: Landlock::of(&app.sandbox),
    })
}

fn state_store(app: &App) -> Part {
    match app.home.space() {
        Space::Full { why } => Part { healthy: false, detail: Some(why) },
        Space::Enough if app.audit.is_behind() => {
            let why = "the audit log cannot be written, so nothing is done that must be in it; the server's log says why";
            Part { healthy: false, detail: Some(why.to_owned()) }
        }
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
