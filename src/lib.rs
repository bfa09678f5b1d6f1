//! oxios-edge: one small binary that puts an AI agent behind HTTP.
//!
//! The map (imports point down only; neighbours on a floor do not import each other; `tests/it/tidy.rs` checks it):
//!
//! ```text
//! 10  cli           serve, ask, key, skill, web, audit, backup, openapi, routes, healthcheck, unit, config, doctor   (main.rs is its door)
//!  9  app           builds the house floor by floor; runs and drains it
//!  8  pipeline      the whole path of one request        config   file ← environment ← flags
//!  7  api           one file an area; routes.rs is the one table
//!  6  cron          scheduled tasks: when they are due, what came of them
//!  5  gateway       submit, lanes, permits, cancel, drain, agents
//!  4  orchestrator  phases, tools, budget of a run       middleware   host, origin, rate, auth, access log
//!  3  rooms         memory, skills, approvals, seeds, workspace, personas, spaces, agents, mcp, site: independent of each other
//!  2  store         home, session logs, keys, audit, backup   llm   models      events   the kernel event bus
//!  1  http          HTTP toolbox without product nouns, and the one outgoing client
//!     wire          bytes ⇄ values: no I/O, no async, no clock       sys   system calls and nothing else
//!  0  base          ids, limits, clock, secrets, digests, cancel, log, texts
//! ```
//!
//! Above the house stands `fuzzing` (feature of the same name): the properties that `fuzz/` drives.
//!
//! The one idea: the session log is the only way out. A run appends numbered records to its session's log; every reader
//! (REST, WebSocket, SSE, after a restart too) tails that log. Nothing else connects them.

pub mod api;
pub mod app;
pub mod base;
pub mod cli;
pub mod config;
pub mod cron;
pub mod events;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod gateway;
pub mod http;
pub mod llm;
pub mod middleware;
pub mod orchestrator;
pub mod pipeline;
pub mod rooms;
pub mod store;
pub mod sys;
pub mod wire;
