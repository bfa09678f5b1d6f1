//! A scheduled task and what came of its runs.

use serde::{Deserialize, Serialize};

use crate::base::ids::{BudgetId, CronJobId, MessageId, OwnerId, SessionId, SpaceId};
use crate::base::time::Timestamp;
use crate::store::shelf::Thing;

/// A message that is sent to the agent by the clock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: CronJobId,
    /// Whose it is; its runs are this owner's too, whichever key made it.
    pub owner: OwnerId,
    /// What people call it.
    pub name: String,
    /// When, as it was written (`wire::cron`).
    pub schedule: String,
    /// The zone that the schedule is meant in.
    pub time_zone: String,
    /// What is sent.
    pub content: String,
    /// It runs by itself.
    pub enabled: bool,
    /// What becomes of runs whose time went by while the server was down, or the machine asleep for over 90 s.
    pub missed: Missed,
    /// The space of its runs' sessions.
    #[serde(default)]
    pub space_id: Option<SpaceId>,
    /// The token budget that its runs by the clock use: that of the key that made it or changed it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_id: Option<BudgetId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed by its owner.
    pub updated_at: Timestamp,
    /// When it runs next; none while it is off.
    pub next_run_at: Option<Timestamp>,
    /// The time from which that was worked out: where it lies ahead, the clock was wrong.
    #[serde(default)]
    pub planned_at: Option<Timestamp>,
    /// Its last [`crate::base::limits::CRON_RUNS_KEPT`] runs, oldest first.
    #[serde(default)]
    pub runs: Vec<CronRun>,
}

/// What becomes of runs whose time went by while the server was down, or the machine asleep for over 90 s.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Missed {
    /// Nothing; the next one is on time.
    #[default]
    Skip,
    /// However many there were, one run makes up for them.
    Once,
}

/// One run: a message in a session of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CronRun {
    /// The message.
    pub message_id: MessageId,
    /// The session with its log.
    pub session_id: SessionId,
    /// When it was sent.
    pub started_at: Timestamp,
    /// When that was seen to be over.
    pub ended_at: Option<Timestamp>,
    /// Why it ran.
    pub cause: RunCause,
    /// What came of it.
    pub status: RunStatus,
}

/// Why a job ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum RunCause {
    /// Its time had come.
    Schedule,
    /// It made up for runs that were missed.
    Missed,
    /// Somebody asked.
    Trigger,
}

/// What came of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum RunStatus {
    /// It is not over; it may wait for a person.
    Running,
    /// It has an answer.
    Done,
    /// It failed.
    Failed,
    /// It was stopped.
    Cancelled,
    /// The server ended under it.
    Interrupted,
    /// Its session was deleted before anyone saw the end.
    Unknown,
}

impl Thing for Job {
    type Id = CronJobId;
    fn id(&self) -> CronJobId {
        self.id
    }
    fn owner(&self) -> OwnerId {
        self.owner
    }
    fn created_at(&self) -> Timestamp {
        self.created_at
    }
}

impl Job {
    /// The run that is not over, where there is one.
    pub fn running(&self) -> Option<&CronRun> {
        self.runs.iter().rev().find(|run| run.status == RunStatus::Running)
    }
}
