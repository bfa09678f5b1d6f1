//! Floor 9: builds the house floor by floor, runs it until it is told to stop, and drains it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::base::cancel::Cancel;
use crate::http::listener::{self, Listener};
use crate::{api, gateway, llm, orchestrator, pipeline, rooms, store};

/// Everything that is set, room by room; `config` makes the parts, tests write them down.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The directory of everything.
    pub home: PathBuf,
    /// Where sessions, files and memory lie; `None` is `<home>/workspace`.
    pub workspace: Option<PathBuf>,
    /// When sessions are projected and pruned.
    pub sessions: store::sessions::Settings,
    /// The models.
    pub engine: llm::engine::Settings,
    /// Further judges of a result (`orchestrator.judges`), each with its model as the default one; usually none.
    pub judges: Vec<llm::engine::Settings>,
    /// The memory.
    pub memory: rooms::memory::Settings,
    /// Phases and budgets of a run.
    pub orchestrator: orchestrator::Settings,
    /// Lanes, permits, deadlines.
    pub gateway: gateway::Settings,
    /// What the routes need to know.
    pub api: api::Settings,
    /// What each request passes.
    pub pipeline: pipeline::Settings,
    /// Limits on connections.
    pub connections: listener::Settings,
    /// How long runs may go on after the server was told to stop.
    pub drain: Duration,
}

/// Why the house did not stand. The text says what to do.
#[derive(Debug)]
pub struct AppError(String);

impl fmt::Display for AppError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AppError {}

/// Builds the house, calls `ready` with the address once it is open, serves until `shutdown`, drains, and writes down what
/// only memory knew.
///
/// # Errors
/// The home, its keys or the engine's settings cannot be used.
#[expect(clippy::todo, reason = "signature first")]
pub async fn serve(_setup: Setup, _listener: Listener, _shutdown: Cancel, _ready: impl FnOnce(&str)) -> Result<(), AppError> {
    todo!()
}
