//! Floor 6: scheduled tasks. Each is a file in `<workspace>/cron/`; its runs are ordinary messages of its owner, each in a new
//! session (channel `cron`). What is due, and what becomes of a run, is in `clockwork`.

mod clockwork;
mod job;
#[cfg(test)]
mod tests;
mod zone;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::base::ids::{BudgetId, CronJobId, OwnerId, SpaceId};
use crate::base::limits::{CRON_CONTENT_BYTES_MAX, CRON_JOBS_MAX, LABEL_BYTES_MAX};
use crate::base::time::Timestamp;
use crate::gateway::{Gateway, GatewayError};
use crate::rooms::spaces::{SpaceError, Spaces};
use crate::store::home::Seams;
use crate::store::sessions::Sessions;
use crate::store::shelf::Shelf;
use crate::wire::cron::Schedule;

pub use job::{CronRun, Job, Missed, RunCause, RunStatus};

/// What a job is made of.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// One line of at most [`LABEL_BYTES_MAX`].
    pub name: String,
    /// Five fields, or `@daily` and its like.
    pub schedule: String,
    /// As in `Europe/Berlin`, or `UTC`.
    pub time_zone: String,
    /// What is sent; at most [`CRON_CONTENT_BYTES_MAX`].
    pub content: String,
    /// It runs by itself.
    pub enabled: bool,
    /// What becomes of missed runs.
    pub missed: Missed,
    /// The space of its runs' sessions.
    pub space_id: Option<SpaceId>,
}

/// What is to be different of a job; what is `None` stays.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// As in a new one; so are all.
    pub name: Option<String>,
    /// When.
    pub schedule: Option<String>,
    /// Where.
    pub time_zone: Option<String>,
    /// What.
    pub content: Option<String>,
    /// On or off.
    pub enabled: Option<bool>,
    /// What becomes of missed runs.
    pub missed: Option<Missed>,
    /// `Some(None)` takes it out of its space.
    pub space_id: Option<Option<SpaceId>>,
}

/// Why nothing was changed, found or sent.
#[derive(Debug)]
pub enum CronError {
    /// There is none of this id, or it is another owner's.
    NotFound,
    /// A field is out of its limits; the text says which.
    Unfit(String),
    /// This owner has [`CRON_JOBS_MAX`].
    Full,
    /// Its last run is not over.
    Busy,
    /// Its space takes no messages.
    Space(SpaceError),
    /// The message was not taken.
    Gateway(GatewayError),
    /// The disk refused; private.
    Io(io::Error),
}

impl fmt::Display for CronError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("no such cron job"),
            Self::Unfit(what) => f.write_str(what),
            Self::Full => write!(f, "there are {CRON_JOBS_MAX} cron jobs; delete some first"),
            Self::Busy => f.write_str("its last run is not over"),
            Self::Space(error) => write!(f, "`space_id`: {error}"),
            Self::Gateway(error) => error.fmt(f),
            Self::Io(error) => write!(f, "cron: {error}"),
        }
    }
}

impl std::error::Error for CronError {}

impl From<io::Error> for CronError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// All scheduled tasks of this home.
pub struct Cron {
    shelf: Shelf<Job>,
    seams: Seams,
    gateway: Arc<Gateway>,
    sessions: Arc<Sessions>,
    spaces: Arc<Spaces>,
    /// The time of the start, as [`Clock::boottime`](crate::base::time::Clock::boottime) tells it: what was due before was missed.
    /// Wall time may have been wrong then.
    opened: Duration,
    /// Told after every change by an owner: what runs next may be another one now. The clockwork waits for it.
    changed: Notify,
    /// Held while a job is looked at and sent, so that no job is sent twice at once.
    sending: tokio::sync::Mutex<()>,
}

impl Cron {
    /// The jobs in this directory; nothing is read or run yet.
    pub fn open(dir: PathBuf, seams: Seams, gateway: Arc<Gateway>, sessions: Arc<Sessions>, spaces: Arc<Spaces>) -> Self {
        Self {
            shelf: Shelf::open(dir, seams.clone()),
            opened: seams.clock.boottime(),
            seams,
            gateway,
            sessions,
            spaces,
            changed: Notify::new(),
            sending: tokio::sync::Mutex::default(),
        }
    }

    /// This owner's, oldest first. Blocks, as all that follows.
    pub fn list(&self, owner: OwnerId) -> Result<Vec<Job>, CronError> {
        Ok(self.shelf.hold()?.list(owner)?)
    }

    /// One of this owner's.
    pub fn find(&self, owner: OwnerId, id: CronJobId) -> Result<Job, CronError> {
        self.shelf.hold()?.find(owner, id)?.ok_or(CronError::NotFound)
    }

    /// Makes one, paid from this budget where there is one; durable when this returns.
    pub fn create(&self, owner: OwnerId, budget: Option<BudgetId>, new: NewJob) -> Result<Job, CronError> {
        let now = self.seams.clock.now();
        let NewJob { name, schedule, time_zone, content, enabled, missed, space_id } = new;
        let mut job = Job {
            id: CronJobId::random(&*self.seams.random),
            owner,
            name,
            schedule,
            time_zone,
            content,
            enabled,
            missed,
            space_id,
            budget_id: budget,
            created_at: now,
            updated_at: now,
            next_run_at: None,
            planned_at: None,
            runs: Vec::new(),
        };
        check(&job)?;
        self.takes(owner, job.space_id)?;
        plan(&mut job, now);
        let mut shelf = self.shelf.hold()?;
        if shelf.count(owner) >= CRON_JOBS_MAX {
            return Err(CronError::Full);
        }
        shelf.put(&job)?;
        self.changed.notify_one();
        Ok(job)
    }

    /// Changes what is named, and from then on it is paid from this budget: whoever changes it answers for it. Durable when this
    /// returns. The next run is worked out anew.
    pub fn update(&self, owner: OwnerId, budget: Option<BudgetId>, id: CronJobId, change: Change) -> Result<Job, CronError> {
        let mut shelf = self.shelf.hold()?;
        let old = shelf.find(owner, id)?.ok_or(CronError::NotFound)?;
        let now = self.seams.clock.now();
        let mut job = Job {
            name: change.name.unwrap_or(old.name),
            schedule: change.schedule.unwrap_or(old.schedule),
            time_zone: change.time_zone.unwrap_or(old.time_zone),
            content: change.content.unwrap_or(old.content),
            enabled: change.enabled.unwrap_or(old.enabled),
            missed: change.missed.unwrap_or(old.missed),
            space_id: change.space_id.unwrap_or(old.space_id),
            budget_id: budget,
            updated_at: now,
            ..old
        };
        check(&job)?;
        self.takes(owner, job.space_id)?;
        plan(&mut job, now);
        shelf.put(&job)?;
        self.changed.notify_one();
        Ok(job)
    }

    /// Lets one go. A run of it goes on; its sessions stay.
    pub fn delete(&self, owner: OwnerId, id: CronJobId) -> Result<(), CronError> {
        let mut shelf = self.shelf.hold()?;
        shelf.find(owner, id)?.ok_or(CronError::NotFound)?;
        Ok(shelf.remove(id)?)
    }

    /// The space is there, is this owner's, and takes messages.
    fn takes(&self, owner: OwnerId, space: Option<SpaceId>) -> Result<(), CronError> {
        let Some(id) = space else { return Ok(()) };
        self.spaces.open_to(owner, id).map(drop).map_err(CronError::Space)
    }
}

/// When it runs next, seen from `now`.
fn plan(job: &mut Job, now: Timestamp) {
    job.planned_at = Some(now);
    job.next_run_at = match (job.enabled, Schedule::parse(&job.schedule), zone::find(&job.time_zone)) {
        (true, Ok(schedule), Some(zone)) => zone::next(&schedule, &zone, now),
        // Off, or a file that was edited by hand, or a zone that this system has no longer.
        _ => None,
    };
}

fn check(job: &Job) -> Result<(), CronError> {
    let unfit = |what: String| Err(CronError::Unfit(what));
    if job.name.trim().is_empty() || job.name.len() > LABEL_BYTES_MAX || job.name.chars().any(char::is_control) {
        return unfit(format!("`name` must be one line of at most {LABEL_BYTES_MAX} bytes, and not empty"));
    }
    if job.content.trim().is_empty() || job.content.len() > CRON_CONTENT_BYTES_MAX {
        return unfit(format!("`content` must have at most {CRON_CONTENT_BYTES_MAX} bytes, and not be empty"));
    }
    if let Err(bad) = Schedule::parse(&job.schedule) {
        return unfit(format!("`schedule`: {bad}"));
    }
    if zone::find(&job.time_zone).is_none() {
        return unfit("`time_zone` is no zone that this system knows; write it as in Europe/Berlin, or UTC".into());
    }
    Ok(())
}
