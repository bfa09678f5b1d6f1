//! What is due, what becomes of it, and waiting for the next.

use std::sync::Arc;
use std::time::Duration;

use crate::base::blocking;
use crate::base::cancel::Cancel;
use crate::base::ids::{BudgetId, CronJobId, KeyId, OwnerId};
use crate::base::limits::CRON_RUNS_KEPT;
use crate::base::log;
use crate::base::time::Timestamp;
use crate::cron::{Cron, CronError, CronRun, Job, Missed, RunCause, RunStatus, plan};
use crate::gateway::{GatewayError, IncomingMessage, Submitted};
use crate::store::StoreError;
use crate::store::home::CLOCK_EVERY;
use crate::store::record::Body;
use crate::store::tail::Step;

/// A run that is later than this was missed: the machine was asleep. Longer than any wait between two looks.
const LATE: Duration = Duration::from_secs(90);
/// Wall clocks are set while we wait: look at them at least this often. A run that was refused is tried again then, too.
const LOOK_EVERY: Duration = Duration::from_secs(20);

impl Cron {
    /// Runs what is due until `cancel`; begins with what an earlier process left.
    pub async fn keep_running(self: Arc<Self>, cancel: Cancel) {
        self.take_up().await;
        loop {
            let wait = self.tick().await;
            let next = async {
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = self.changed.notified() => {}
                }
            };
            if cancel.guard(next).await.is_err() {
                return;
            }
        }
    }

    /// Sends every job that is due, and tells how long until the next look. While the wall clock is known to be wrong nothing is
    /// due (THREATS 29).
    pub(super) async fn tick(self: &Arc<Self>) -> Duration {
        let now = self.seams.clock.now();
        if self.seams.clock.corrected() {
            return LOOK_EVERY;
        }
        let jobs = match self.planned().await {
            Ok(jobs) => jobs,
            Err(error) => {
                log::warn("cron", format_args!("the jobs cannot be read: {error}"));
                return LOOK_EVERY;
            }
        };
        // What was due before the start was missed, however short the time.
        let late = LATE.min(self.seams.clock.boottime().saturating_sub(self.opened));
        let mut wait = LOOK_EVERY;
        for job in jobs {
            let Some(due) = job.next_run_at else { continue };
            // The clock was ahead for a moment and is right now: what it was planned for may lie years ahead. A clock that was put
            // back by no more than it may be unnoticed runs through times whose runs there were.
            let wrong = job.planned_at.is_some_and(|at| at > now.plus(CLOCK_EVERY + LATE));
            if due > now && !wrong {
                wait = wait.min(due.since(now));
                continue;
            }
            // First the plan, then the run: a process that dies between the two has missed one, and never sends it twice.
            let job = match self.take_due(&job, now).await {
                Ok(Some(job)) => job,
                // Its owner was faster.
                Ok(None) | Err(CronError::NotFound) => continue,
                Err(error) => {
                    log::warn("cron", format_args!("job {}: {error}", job.id));
                    continue;
                }
            };
            let missed = now.since(due) > late;
            if due > now || (missed && job.missed == Missed::Skip) {
                continue;
            }
            let cause = if missed { RunCause::Missed } else { RunCause::Schedule };
            let Err(error) = self.send(job.owner, (None, job.budget_id), job.id, cause).await else { continue };
            log::warn("cron", format_args!("job {}: not run: {error}", job.id));
            if let CronError::Gateway(GatewayError::Draining | GatewayError::WaitingRoomFull { .. } | GatewayError::DiskFull(_)) = error {
                self.give_back(&job, due).await;
            }
        }
        wait.max(Duration::from_millis(1))
    }

    /// Plans what follows the run that this job has planned, and gives the job as it is now; none where that run is planned no longer:
    /// the job was switched off or moved meanwhile.
    pub(super) async fn take_due(self: &Arc<Self>, seen: &Job, now: Timestamp) -> Result<Option<Job>, CronError> {
        let due = seen.next_run_at;
        let take = move |job: &mut Job| {
            (job.enabled && job.next_run_at == due).then(|| {
                plan(job, now);
                job.clone()
            })
        };
        self.change(seen.owner, seen.id, take).await
    }

    /// A run that nobody could take now is due as before: it is tried again at the next look, or made up for after the restart, if
    /// its job wants that.
    pub(super) async fn give_back(self: &Arc<Self>, taken: &Job, due: Timestamp) {
        let planned = taken.next_run_at;
        let back = move |job: &mut Job| {
            if job.enabled && job.next_run_at == planned {
                job.next_run_at = Some(due);
            }
        };
        match self.change(taken.owner, taken.id, back).await {
            Ok(()) | Err(CronError::NotFound) => {}
            Err(error) => log::warn("cron", format_args!("job {}: its run is lost: {error}", taken.id)),
        }
    }

    /// Runs a job now, whatever its schedule says, also while it is off. This run acts for the key of whoever asks, and is paid from
    /// its budget.
    ///
    /// # Errors
    /// `NotFound`, `Busy` while its last run is not over, `Gateway` where the message is not taken, `Io`.
    pub async fn trigger(
        self: &Arc<Self>,
        owner: OwnerId,
        (key, budget): (Option<KeyId>, Option<BudgetId>),
        id: CronJobId,
    ) -> Result<CronRun, CronError> {
        // A client that goes away must not leave a run that the job does not know of.
        let cron = self.clone();
        let sent = tokio::spawn(async move { cron.send(owner, (key, budget), id, RunCause::Trigger).await }).await;
        sent.unwrap_or_else(|error| Err(CronError::Io(std::io::Error::other(error))))
    }

    async fn send(
        self: &Arc<Self>,
        owner: OwnerId,
        (key, budget): (Option<KeyId>, Option<BudgetId>),
        id: CronJobId,
        cause: RunCause,
    ) -> Result<CronRun, CronError> {
        let _one_at_a_time = self.sending.lock().await;
        let cron = self.clone();
        let job = blocking(move || cron.find(owner, id)).await?;
        if let Some(run) = job.running() {
            // As the gateway knows it: an end that the disk did not take must not keep the job from running for ever.
            self.gateway.adopt_session(run.session_id, owner).await;
            if self.gateway.is_live(run.message_id) {
                return Err(CronError::Busy);
            }
        }
        let cron = self.clone();
        blocking(move || cron.takes(owner, job.space_id)).await?;
        let incoming = IncomingMessage {
            key,
            budget,
            id: None,
            channel: "cron",
            user_id: "cron".to_owned(),
            content: job.content,
            session_id: None,
            space_id: job.space_id,
            attachments: Vec::new(),
            idempotency_key: None,
            history: Default::default(),
            owner: job.owner,
        };
        let submitted = self.gateway.submit(incoming).await.map_err(CronError::Gateway)?;
        let run = CronRun {
            message_id: submitted.id,
            session_id: submitted.session.id(),
            started_at: self.seams.clock.now(),
            ended_at: None,
            cause,
            status: RunStatus::Running,
        };
        let kept = run.clone();
        self.change(job.owner, job.id, move |job| {
            for lost in job.runs.iter_mut().filter(|run| run.status == RunStatus::Running) {
                lost.status = RunStatus::Unknown;
            }
            job.runs.push(kept);
            let over = job.runs.len().saturating_sub(CRON_RUNS_KEPT);
            job.runs.drain(..over);
        })
        .await?;
        // Ends with the run, or with the process.
        tokio::spawn(self.clone().watch(job.owner, job.id, submitted));
        Ok(run)
    }

    /// Reads the run's log to its end and notes what came of it.
    async fn watch(self: Arc<Self>, owner: OwnerId, id: CronJobId, submitted: Submitted) {
        let mut tail = submitted.session.tail(submitted.seq);
        let over = self.gateway.over(submitted.id);
        tokio::pin!(over);
        // The gateway has closed its books: what the log does not show by now never comes (its disk failed).
        let mut closed = false;
        let status = loop {
            if closed && tail.caught_up() {
                break RunStatus::Unknown;
            }
            let step = tokio::select! {
                biased;
                step = tail.next() => step,
                () = &mut over, if !closed => {
                    closed = true;
                    continue;
                }
            };
            match step {
                Ok(Step::Record(entry)) if entry.message_id == Some(submitted.id) => match &entry.record.body {
                    Body::Done(_) => break RunStatus::Done,
                    Body::Failed(_) => break RunStatus::Failed,
                    Body::Cancelled(_) => break RunStatus::Cancelled,
                    Body::Interrupted(_) => break RunStatus::Interrupted,
                    _ => {}
                },
                Ok(Step::Deleted) | Err(_) => break RunStatus::Unknown,
                Ok(_) => {}
            }
        };
        let now = self.seams.clock.now();
        let message = submitted.id;
        let noted = self.change(owner, id, move |job| {
            if let Some(run) = job.runs.iter_mut().find(|run| run.message_id == message) {
                run.status = status;
                run.ended_at = Some(now);
            }
        });
        match noted.await {
            // It was deleted meanwhile.
            Ok(()) | Err(CronError::NotFound) => {}
            Err(error) => log::warn("cron", format_args!("job {id}: the end of a run could not be noted: {error}")),
        }
    }

    /// Follows the runs that an earlier process left open: some wait for a person, the others are over.
    async fn take_up(self: &Arc<Self>) {
        let open = match self.planned().await {
            Ok(jobs) => jobs.into_iter().filter_map(|job| Some((job.owner, job.id, job.running()?.clone()))),
            Err(error) => return log::warn("cron", format_args!("the jobs cannot be read: {error}")),
        };
        for (owner, id, run) in open {
            let session = match self.sessions.load(run.session_id, owner).await {
                Ok(session) => Some(session),
                Err(StoreError::NotFound) => None,
                Err(error) => {
                    log::warn("cron", format_args!("job {id}: session {}: {error}", run.session_id));
                    None
                }
            };
            let found = session.and_then(|session| session.find(run.message_id).map(|found| (session, found.seq)));
            if let Some((session, seq)) = found {
                // From then on the gateway knows the run where it waits for a person.
                self.gateway.adopt_session(run.session_id, owner).await;
                tokio::spawn(self.clone().watch(owner, id, Submitted { id: run.message_id, session, seq, fresh: false }));
                continue;
            }
            let gone = move |job: &mut Job| {
                if let Some(run) = job.runs.iter_mut().find(|known| known.message_id == run.message_id) {
                    run.status = RunStatus::Unknown;
                }
            };
            if let Err(error) = self.change(owner, id, gone).await {
                log::warn("cron", format_args!("job {id}: {error}"));
            }
        }
    }

    /// Every owner's jobs.
    async fn planned(self: &Arc<Self>) -> Result<Vec<Job>, CronError> {
        let cron = self.clone();
        blocking(move || Ok(cron.shelf.hold()?.all()?)).await
    }

    async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        owner: OwnerId,
        id: CronJobId,
        change: impl FnOnce(&mut Job) -> T + Send + 'static,
    ) -> Result<T, CronError> {
        let cron = self.clone();
        blocking(move || {
            let mut shelf = cron.shelf.hold()?;
            let mut job = shelf.find(owner, id)?.ok_or(CronError::NotFound)?;
            let changed = change(&mut job);
            shelf.put(&job)?;
            Ok(changed)
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, CronError> + Send + 'static) -> Result<T, CronError> {
    blocking::spawn(work).await.unwrap_or_else(|error| Err(CronError::Io(std::io::Error::other(error))))
}
