//! Scheduled tasks (API B): list, make, read, change, delete, run now. Making one is sending messages later: it needs `write`
//! and `chat`. A job belongs to its owner; it goes on when the key that made it is revoked.

use std::sync::Arc;

use hyper::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};

use crate::api::{self, App, Call};
use crate::base::blocking;
use crate::base::ids::{BudgetId, CronJobId, OwnerId, SpaceId};
#[cfg(test)]
use crate::base::limits::{CRON_CONTENT_BYTES_MAX, LABEL_BYTES_MAX};
use crate::base::time::Timestamp;
use crate::cron::{Change, Cron, CronError, CronRun, Job, Missed, NewJob};
use crate::http::Response;
use crate::http::error::HttpError;
#[cfg(test)]
use crate::wire::cron::SCHEDULE_BYTES_MAX;

/// A new job.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct NewCronJob {
    /// What people call it: one line of at most 256 bytes.
    #[cfg_attr(test, schemars(length(max = LABEL_BYTES_MAX), regex(pattern = api::shapes::LINE)))]
    name: String,
    /// `minute hour day month weekday` as in crontab(5), or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.
    #[cfg_attr(test, schemars(length(max = SCHEDULE_BYTES_MAX), extend("format" = "cron")))]
    schedule: String,
    /// The zone that the schedule is meant in, as in `Europe/Berlin`; `UTC` where none is named.
    #[cfg_attr(test, schemars(extend("format" = "time-zone")))]
    time_zone: Option<String>,
    /// What is sent to the agent; at most 8 KiB.
    #[cfg_attr(test, schemars(length(max = CRON_CONTENT_BYTES_MAX), regex(pattern = api::shapes::SAID)))]
    content: String,
    /// It runs by itself; true where nothing is said.
    enabled: Option<bool>,
    /// What becomes of runs whose time went by while the server was down, or the machine asleep for over 90 s; `skip` where nothing is said.
    missed: Option<Missed>,
    /// The space of its runs' sessions; it must be there and not archived, also when it runs.
    space_id: Option<SpaceId>,
}

/// What is to be different of a job; what is not named stays.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct CronJobChange {
    /// As in a new job.
    #[cfg_attr(test, schemars(length(max = LABEL_BYTES_MAX), regex(pattern = api::shapes::LINE)))]
    name: Option<String>,
    /// As in a new job.
    #[cfg_attr(test, schemars(length(max = SCHEDULE_BYTES_MAX), extend("format" = "cron")))]
    schedule: Option<String>,
    /// As in a new job.
    #[cfg_attr(test, schemars(extend("format" = "time-zone")))]
    time_zone: Option<String>,
    /// As in a new job.
    #[cfg_attr(test, schemars(length(max = CRON_CONTENT_BYTES_MAX), regex(pattern = api::shapes::SAID)))]
    content: Option<String>,
    /// As in a new job.
    enabled: Option<bool>,
    /// As in a new job.
    missed: Option<Missed>,
    /// As in a new job; null takes it out of its space.
    #[serde(default, deserialize_with = "named")]
    #[cfg_attr(test, schemars(with = "Option<SpaceId>"))]
    space_id: Option<Option<SpaceId>>,
}

/// A job.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct CronJob {
    /// Its id.
    id: CronJobId,
    /// What people call it.
    name: String,
    /// When it runs.
    schedule: String,
    /// The zone that the schedule is meant in.
    time_zone: String,
    /// What is sent to the agent.
    content: String,
    /// It runs by itself.
    enabled: bool,
    /// What becomes of runs whose time went by while the server was down, or the machine asleep for over 90 s.
    missed: Missed,
    /// The space of its runs' sessions; it must be there and not archived, also when it runs.
    space_id: Option<SpaceId>,
    /// When it was made.
    created_at: Timestamp,
    /// When it was last changed by its owner.
    updated_at: Timestamp,
    /// When it runs next; null while it is off.
    next_run_at: Option<Timestamp>,
    /// Its newest run.
    last_run: Option<CronRun>,
    /// Its last 20 runs, newest first.
    runs: Vec<CronRun>,
}

/// A page of jobs, oldest first.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct CronJobPage {
    /// The jobs of this page.
    items: Vec<CronJob>,
    /// How many there are in all.
    total: usize,
    /// Which page this is, from 1.
    page: usize,
    /// Most jobs of a page.
    limit: usize,
}

/// A job was deleted.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct CronJobDeleted {
    /// `deleted`.
    status: &'static str,
    /// The job.
    id: CronJobId,
}

/// A job runs.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct CronJobTriggered {
    /// `triggered`.
    status: &'static str,
    /// The job.
    id: CronJobId,
    /// The run that began.
    run: CronRun,
}

/// `GET /api/cron-jobs`.
pub(crate) async fn list(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (owner, page) = (call.caller()?.owner(), call.page()?);
    let jobs = blocking(&app, move |cron| cron.list(owner)).await?;
    let total = jobs.len();
    let items = jobs.into_iter().skip((page.page - 1).saturating_mul(page.limit)).take(page.limit).map(shown).collect();
    api::json(&CronJobPage { items, total, page: page.page, limit: page.limit })
}

/// `POST /api/cron-jobs`.
pub(crate) async fn create(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (owner, budget) = payer(&call)?;
    let NewCronJob { name, schedule, time_zone, content, enabled, missed, space_id } = call.json()?;
    let new = NewJob {
        name,
        schedule,
        time_zone: time_zone.unwrap_or_else(|| "UTC".to_owned()),
        content,
        enabled: enabled.unwrap_or(true),
        missed: missed.unwrap_or_default(),
        space_id,
    };
    let job = blocking(&app, move |cron| cron.create(owner, budget, new)).await?;
    let mut response = api::json(&shown(job))?;
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

/// `GET /api/cron-jobs/{id}`.
pub(crate) async fn detail(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (owner, id) = (call.caller()?.owner(), id(&call)?);
    api::json(&shown(blocking(&app, move |cron| cron.find(owner, id)).await?))
}

/// `PATCH /api/cron-jobs/{id}`.
pub(crate) async fn change(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let ((owner, budget), id) = (payer(&call)?, id(&call)?);
    let CronJobChange { name, schedule, time_zone, content, enabled, missed, space_id } = call.json()?;
    let change = Change { name, schedule, time_zone, content, enabled, missed, space_id };
    api::json(&shown(blocking(&app, move |cron| cron.update(owner, budget, id, change)).await?))
}

/// `DELETE /api/cron-jobs/{id}`.
pub(crate) async fn delete(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (owner, id) = (call.caller()?.owner(), id(&call)?);
    blocking(&app, move |cron| cron.delete(owner, id)).await?;
    api::json(&CronJobDeleted { status: "deleted", id })
}

/// `POST /api/cron-jobs/{id}/trigger`.
pub(crate) async fn trigger(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let ((owner, budget), id) = (payer(&call)?, id(&call)?);
    let run = app.cron.trigger(owner, (call.caller()?.shown(), budget), id).await?;
    api::json(&CronJobTriggered { status: "triggered", id, run })
}

/// What these routes take and answer.
#[cfg(test)]
pub(super) fn shapes(all: &mut api::shapes::Shapes) {
    all.takes::<NewCronJob>("NewCronJob");
    all.takes::<CronJobChange>("CronJobChange");
    all.answers::<CronJob>("CronJob");
    all.answers::<CronJobPage>("CronJobPage");
    all.answers::<CronJobDeleted>("CronJobDeleted");
    all.answers::<CronJobTriggered>("CronJobTriggered");
}

/// Whose it is, and the token budget that it uses.
fn payer(call: &Call) -> Result<(OwnerId, Option<BudgetId>), HttpError> {
    let caller = call.caller()?;
    Ok((caller.owner(), caller.budget().map(|budget| budget.id)))
}

fn id(call: &Call) -> Result<CronJobId, HttpError> {
    CronJobId::parse(call.param("id")).map_err(|_| HttpError::bad_request("id: expected a UUID in lower case"))
}

async fn blocking<T: Send + 'static>(app: &App, work: impl FnOnce(&Cron) -> Result<T, CronError> + Send + 'static) -> Result<T, HttpError> {
    let cron = app.cron.clone();
    let done = blocking::spawn(move || work(&cron)).await.map_err(|e| HttpError::internal(e.to_string()))?;
    Ok(done?)
}

fn shown(job: Job) -> CronJob {
    let Job { id, name, schedule, time_zone, content, enabled, missed, space_id, created_at, updated_at, next_run_at, mut runs, .. } = job;
    runs.reverse();
    let last_run = runs.first().cloned();
    CronJob { id, name, schedule, time_zone, content, enabled, missed, space_id, created_at, updated_at, next_run_at, last_run, runs }
}

/// A field that is named, be it null.
fn named<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<SpaceId>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}
