//! Floor 4: the five phases, tools, and the budget of a run.

mod backdrop;
mod begin;
mod budget;
mod evaluate;
mod evolve;
mod foreign;
mod group;
mod history;
pub(crate) mod hold;
mod interview;
mod join;
mod model_call;
mod park;
mod prompt;
mod recorded;
mod run;
pub(crate) mod schema;
mod seed;
mod state;
mod step;
pub(crate) mod structured;
mod tool_call;
mod tools;

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::base::cancel::Cancel;
use crate::base::ids::{AgentId, ApprovalId, MessageId, OwnerId};
use crate::base::live::Live;
use crate::base::log;
use crate::base::random::Random;
use crate::base::time::Clock;
use crate::events::Events;
use crate::llm::Engine;
use crate::orchestrator::run::{Gone, Run};
use crate::rooms::agents::Agents;
use crate::rooms::approvals::Approvals;
use crate::rooms::mcp::Mcp;
use crate::rooms::memory::Memory;
use crate::rooms::personas::Personas;
use crate::rooms::seeds::Seeds;
use crate::rooms::skills::Skills;
use crate::rooms::spaces::Spaces;
use crate::rooms::workspace::owners::Workspaces;
use crate::store::StoreError;
use crate::store::audit::Audit;
use crate::store::keys::Purse;
use crate::store::record::{Problem, UserMessage};
use crate::store::session::Session;

/// What can be set; may change while running, a run keeps what it began with.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Repairs of one task (`orchestrator.max_evolution_iterations`).
    pub max_evolution_iterations: u32,
    /// Score from which an evaluation counts as passed, 0 to 1 (`orchestrator.min_evaluation_score`).
    pub min_evaluation_score: f64,
    /// Model calls of one run (`orchestrator.max_model_calls`).
    pub max_model_calls: u32,
    /// Tokens of one run, read and written (`orchestrator.max_tokens_per_run`).
    pub max_tokens: u64,
    /// Agents that one task may be split into; 0 and 1 switch it off (`orchestrator.max_group_size`).
    pub max_group_size: usize,
    /// Longest time of one run, time parked on a person apart (`security.max_execution_time_secs`).
    pub max_execution: Duration,
    /// After this long a question to a person lapses (`security.approval_ttl_hours`).
    pub approval_ttl: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_evolution_iterations: 3,
            min_evaluation_score: 0.8,
            max_model_calls: 40,
            max_tokens: 400_000,
            max_group_size: 4,
            max_execution: Duration::from_secs(300),
            approval_ttl: Duration::from_secs(24 * 3600),
        }
    }
}

/// What the orchestrator is made of.
pub struct Parts {
    /// The model.
    pub engine: Arc<Live<Engine>>,
    /// Further judges of a result (`orchestrator.judges`), each an engine with that model as its default; usually none.
    pub judges: Arc<Live<Vec<Engine>>>,
    /// Files of every owner.
    pub workspaces: Arc<Workspaces>,
    /// What is remembered.
    pub memory: Arc<Memory>,
    /// Manners of speaking.
    pub personas: Arc<Personas>,
    /// What sessions belong to.
    pub spaces: Arc<Spaces>,
    /// What the agent was taught.
    pub skills: Arc<Skills>,
    /// Tools of other servers.
    pub mcp: Arc<Mcp>,
    /// Runs as agents.
    pub agents: Arc<Agents>,
    /// Questions to a person.
    pub approvals: Arc<Approvals>,
    /// Specifications.
    pub seeds: Arc<Seeds>,
    /// The event bus.
    pub events: Arc<Events>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The audit log: tools and questions.
    pub audit: Arc<Audit>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// What can be set.
    pub settings: Arc<Live<Settings>>,
}

/// One message to be answered. Its `message` record is in the log.
pub struct Job {
    /// Where.
    pub session: Arc<Session>,
    /// Whose.
    pub owner: OwnerId,
    /// Which message.
    pub message_id: MessageId,
    /// The run's id.
    pub agent_id: AgentId,
    /// What was said.
    pub message: UserMessage,
    /// What its model calls are paid from.
    pub purse: Purse,
    /// From its beginning or from where it was parked.
    pub start: Start,
    /// Permits of the whole process, of which this run holds one; members of a group take theirs from here, too.
    pub permits: Arc<Semaphore>,
}

/// Where a run begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At its beginning.
    Fresh,
    /// At its last checkpoint, whose question is decided in the log.
    Resume,
}

/// How a run left.
#[derive(Debug)]
pub enum Outcome {
    /// Its terminal record is in the log.
    Ended(EndKind),
    /// It waits for this question; no terminal record. Run it again with [`Start::Resume`] after the decision is in the log.
    Parked(ApprovalId),
    /// The log could not be written; there may be no terminal record.
    Broken(StoreError),
}

/// Which terminal record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndKind {
    /// `done`
    Done,
    /// `failed`
    Failed,
    /// `cancelled`
    Cancelled,
    /// `interrupted`
    Interrupted,
}

impl EndKind {
    /// Its word, as in `outcome`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Answers messages.
pub struct Orchestrator {
    parts: Parts,
}

impl Orchestrator {
    /// From its parts.
    pub fn new(parts: Parts) -> Self {
        Self { parts }
    }

    /// Answers one message: appends every record of the run to the session's log, with exactly one terminal record at its end,
    /// whatever happens (a panic inside becomes `failed`). `Asked`, `Replaced` and `Deleted` end it as `cancelled`, `Deadline`
    /// as `failed`, `Shutdown` as `interrupted`. Dropping the future leaves the log without a terminal record.
    pub async fn run(&self, job: Job, cancel: Cancel) -> Outcome {
        let workspace = match self.parts.workspaces.of(job.owner) {
            Ok(workspace) => workspace,
            Err(e) => return Outcome::Broken(StoreError::Io { doing: "open the files".into(), source: std::io::Error::other(e) }),
        };
        let mut run = Run::new(&self.parts, &job, workspace, cancel);
        let broken = match unharmed(whole(&mut run)).await {
            Some(Ok(outcome)) => return outcome,
            // Somebody else wrote the end: a deletion, or the gateway's guard.
            Some(Err(StoreError::Ended)) => return Outcome::Ended(EndKind::Interrupted),
            Some(Err(StoreError::NotFound)) => return Outcome::Ended(EndKind::Cancelled),
            Some(Err(error)) => {
                log::error("run", format_args!("message {}: {error}", job.message_id));
                Some(error)
            }
            None => {
                log::error("run", format_args!("message {}: the run panicked", job.message_id));
                None
            }
        };
        let problem = match &broken {
            Some(StoreError::DiskFull(why)) => Problem { code: "disk_full".into(), message: format!("the answer was cut: {why}") },
            _ => Problem::internal("something failed inside the server; its log says what"),
        };
        match unharmed(run.end_broken(problem)).await {
            Some(Ok(outcome)) => outcome,
            Some(Err(StoreError::Ended)) => Outcome::Ended(EndKind::Failed),
            Some(Err(error)) => Outcome::Broken(broken.unwrap_or(error)),
            None => Outcome::Broken(broken.unwrap_or_else(|| StoreError::Damaged("the run panicked at its end".into()))),
        }
    }
}

async fn whole(run: &mut Run<'_>) -> Result<Outcome, StoreError> {
    let first = match run.job.start {
        Start::Fresh => Box::pin(run.begin()).await?,
        Start::Resume => {
            Box::pin(run.read_history()).await?;
            Box::pin(run.resume()).await?
        }
    };
    match Box::pin(run.go(first)).await? {
        Gone::Ended(kind, ending) => run.end(kind, ending).await,
        Gone::Left(outcome) => Ok(outcome),
    }
}

/// The future's value; `None` if it panicked. What it worked on is only read for its plain texts afterwards.
async fn unharmed<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(Poll::Ready(value)) => Poll::Ready(Some(value)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(_) => Poll::Ready(None),
    })
    .await
}

#[cfg(test)]
mod tests;
