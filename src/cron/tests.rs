//! The clockwork over a real gateway whose runs end at once. The clock is moved by hand; nothing sleeps.

use std::pin::Pin;
use std::time::Duration;

use super::*;
use crate::base::cancel::Cancel;
use crate::base::live::Live;
use crate::base::random::SystemRandom;
use crate::base::time::{Clock, ManualClock};
use crate::events::Events;
use crate::gateway::{self, GatewayParts, Runner, RunnerJob};
use crate::orchestrator::{EndKind, Outcome};
use crate::rooms::agents::Agents;
use crate::rooms::approvals::Approvals;
use crate::rooms::personas::Personas;
use crate::rooms::seeds::Seeds;
use crate::rooms::spaces::NewSpace;
use crate::store::audit::Audit;
use crate::store::home::Home;
use crate::store::keys::Books;
use crate::store::record::{Body, Ending};
use crate::store::{StoreError, sessions};
use crate::sys::disk::{Disk, RealDisk};
use crate::sys::fault_disk::FaultDisk;

struct Echo;

impl Runner for Echo {
    fn run(self: Arc<Self>, job: RunnerJob, _cancel: Cancel) -> Pin<Box<dyn Future<Output = Outcome> + Send>> {
        Box::pin(async move {
            match job.session.append(job.message_id, vec![Body::Done(Ending::default())]).await {
                Ok(_) => Outcome::Ended(EndKind::Done),
                Err(error) => Outcome::Broken(error),
            }
        })
    }
}

const OWNER: [u8; 32] = [7; 32];

/// 15 January 2027, 08:00 UTC.
fn house(name: &str) -> (Arc<Cron>, Arc<ManualClock>) {
    house_with(Arc::new(RealDisk), Arc::new(Echo), name)
}

fn house_with(disk: Arc<dyn Disk>, runner: Arc<dyn Runner>, name: &str) -> (Arc<Cron>, Arc<ManualClock>) {
    let dir = std::env::temp_dir().join(format!("oxios-cron-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_800_000_000_000)));
    let random = Arc::new(SystemRandom::new());
    let seams = Seams { disk, clock: clock.clone(), random: random.clone() };
    let home = Home::open(&dir, None, seams.clone()).unwrap();
    let at = home.workspace().to_owned();
    let sessions = Sessions::open(&home, OwnerId::derived(&OWNER), sessions::Settings::default());
    let spaces = Arc::new(Spaces::open(at.join("spaces"), seams.clone()));
    let gateway = Gateway::new(GatewayParts {
        agents: Agents::open(at.clone(), seams.clone()),
        home: home.clone(),
        sessions: sessions.clone(),
        approvals: Arc::new(Approvals::open(at.join("approvals"), seams.clone())),
        seeds: Arc::new(Seeds::open(&at, seams.clone())),
        personas: Arc::new(Personas::open(at.join("personas"), seams.clone())),
        spaces: spaces.clone(),
        events: Events::new(clock.clone(), random.clone()),
        books: Books::for_tests(&home),
        audit: Audit::open(&home, Arc::default(), crate::base::metrics::Metrics::new(0)).unwrap(),
        runner,
        clock: clock.clone(),
        random,
        settings: Arc::new(Live::new(gateway::Settings::default())),
    });
    (Arc::new(Cron::open(at.join("cron"), seams, gateway, sessions, spaces)), clock)
}

fn job(schedule: &str, missed: Missed) -> NewJob {
    let (name, schedule, time_zone, content) = ("n".into(), schedule.into(), "UTC".into(), "c".into());
    NewJob { name, schedule, time_zone, content, enabled: true, missed, space_id: None }
}

/// Waits for the end of the job's runs.
async fn settled(cron: &Arc<Cron>, id: CronJobId) -> Job {
    loop {
        let job = cron.find(OwnerId::derived(&OWNER), id).unwrap();
        if job.running().is_none() {
            return job;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_when_its_minute_comes_and_not_before() {
    let (cron, clock) = house("due");
    let owner = OwnerId::derived(&OWNER);
    let id = cron.create(owner, None, job("10 * * * *", Missed::Skip)).unwrap().id;
    cron.tick().await;
    assert!(settled(&cron, id).await.runs.is_empty());
    clock.advance(Duration::from_secs(599));
    assert_eq!(cron.tick().await, Duration::from_secs(1));
    clock.advance(Duration::from_secs(1));
    cron.tick().await;
    let run = settled(&cron, id).await;
    assert_eq!((run.runs.len(), run.runs[0].cause, run.runs[0].status), (1, RunCause::Schedule, RunStatus::Done));
    assert_eq!(run.next_run_at.unwrap().to_string(), "2027-01-15T09:10:00.000Z");
    cron.tick().await;
    assert_eq!(settled(&cron, id).await.runs.len(), 1, "once for one minute");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_is_skipped_or_made_up_for_once() {
    let (cron, clock) = house("missed");
    let owner = OwnerId::derived(&OWNER);
    let skip = cron.create(owner, None, job("*/5 * * * *", Missed::Skip)).unwrap().id;
    let once = cron.create(owner, None, job("*/5 * * * *", Missed::Once)).unwrap().id;
    clock.advance(Duration::from_secs(3 * 3600 + 150));
    cron.tick().await;
    assert!(settled(&cron, skip).await.runs.is_empty());
    let made_up = settled(&cron, once).await;
    assert_eq!((made_up.runs.len(), made_up.runs[0].cause), (1, RunCause::Missed));
    for id in [skip, once] {
        assert_eq!(cron.find(owner, id).unwrap().next_run_at.unwrap().to_string(), "2027-01-15T11:05:00.000Z");
    }
}

/// Down for a minute is down: the wait between two looks is no excuse.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_due_before_the_start_was_missed_however_short_the_time() {
    let (mut cron, clock) = house("start");
    let owner = OwnerId::derived(&OWNER);
    let skip = cron.create(owner, None, job("*/5 * * * *", Missed::Skip)).unwrap().id;
    let once = cron.create(owner, None, job("*/5 * * * *", Missed::Once)).unwrap().id;
    clock.advance(Duration::from_secs(301));
    Arc::get_mut(&mut cron).unwrap().opened = clock.boottime();
    cron.tick().await;
    assert!(settled(&cron, skip).await.runs.is_empty());
    let made_up = settled(&cron, once).await;
    assert_eq!((made_up.runs.len(), made_up.runs[0].cause), (1, RunCause::Missed));
    clock.advance(Duration::from_secs(300));
    cron.tick().await;
    assert_eq!(settled(&cron, skip).await.runs[0].cause, RunCause::Schedule);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_sleep_of_the_machine_misses_nothing() {
    let (cron, clock) = house("asleep");
    let owner = OwnerId::derived(&OWNER);
    let id = cron.create(owner, None, job("* * * * *", Missed::Skip)).unwrap().id;
    clock.suspend(Duration::from_secs(80));
    cron.tick().await;
    assert_eq!(settled(&cron, id).await.runs[0].cause, RunCause::Schedule);
}

/// A bad battery: the network says later what time it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_the_clock_ahead_silences_no_job() {
    let (cron, clock) = house("ahead");
    let owner = OwnerId::derived(&OWNER);
    clock.set_wall(Timestamp::from_millis(1_700_000_100_000));
    let id = cron.create(owner, None, job("*/5 * * * *", Missed::Skip)).unwrap().id;
    clock.advance(Duration::from_secs(300));
    cron.tick().await;
    let run = settled(&cron, id).await;
    assert_eq!(run.runs.iter().map(|run| run.cause).collect::<Vec<_>>(), [RunCause::Schedule]);
}

/// `<home>/clock` keeps no later time than that of the last hour.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_put_back_by_up_to_an_hour_repeats_no_run() {
    for secs in [91, 1800, 3600] {
        let (cron, clock) = house("back");
        let owner = OwnerId::derived(&OWNER);
        let id = cron.create(owner, None, job("0 * * * *", Missed::Once)).unwrap().id;
        clock.advance(Duration::from_secs(3600));
        cron.tick().await;
        assert_eq!(settled(&cron, id).await.runs.len(), 1);
        let ran_at = clock.now();
        clock.set_wall(Timestamp::from_millis(ran_at.millis() - secs * 1000));
        while clock.now() <= ran_at {
            clock.advance(cron.tick().await);
        }
        assert_eq!(settled(&cron, id).await.runs.len(), 1, "put back by {secs} s");
        clock.advance(Duration::from_secs(3600));
        cron.tick().await;
        assert_eq!(settled(&cron, id).await.runs.len(), 2, "and then it goes on");
    }
}

/// Nothing was written while the clock was ahead, so that no floor keeps it there.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_planned_by_a_clock_years_ahead_is_planned_anew_and_not_run() {
    let (cron, clock) = house("years");
    let owner = OwnerId::derived(&OWNER);
    let right = clock.now();
    clock.set_wall(Timestamp::from_millis(1_900_000_000_000));
    let id = cron.create(owner, None, job("*/5 * * * *", Missed::Once)).unwrap().id;
    clock.set_wall(right);
    cron.tick().await;
    let planned = settled(&cron, id).await;
    assert_eq!((planned.runs.len(), planned.next_run_at), (0, Some(right.plus(Duration::from_secs(300)))));
    clock.advance(Duration::from_secs(300));
    cron.tick().await;
    assert_eq!(settled(&cron, id).await.runs[0].cause, RunCause::Schedule);
}

#[tokio::test]
async fn a_run_that_its_owner_moved_meanwhile_is_not_taken() {
    let (cron, clock) = house("moved");
    let owner = OwnerId::derived(&OWNER);
    let seen = cron.create(owner, None, job("*/5 * * * *", Missed::Once)).unwrap();
    clock.advance(Duration::from_secs(300));
    let change = |schedule: &str| Change { schedule: Some(schedule.into()), ..Change::default() };
    let moved = cron.update(owner, None, seen.id, change("@daily")).unwrap();
    assert_eq!(cron.take_due(&seen, clock.now()).await.unwrap(), None);
    assert_eq!(cron.find(owner, seen.id).unwrap().next_run_at, moved.next_run_at, "the new plan stands");
    let off = cron.update(owner, None, seen.id, Change { enabled: Some(false), ..Change::default() }).unwrap();
    assert_eq!(cron.take_due(&off, clock.now()).await.unwrap(), None);
}

/// The gateway drains, say: its owner is not to lose the run, nor a plan of their own.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_nobody_could_take_is_due_again() {
    let (cron, clock) = house("given-back");
    let owner = OwnerId::derived(&OWNER);
    let id = cron.create(owner, None, job("*/5 * * * *", Missed::Skip)).unwrap().id;
    clock.advance(Duration::from_secs(300));
    cron.gateway.drain(Duration::ZERO).await;
    cron.tick().await;
    let job = settled(&cron, id).await;
    assert_eq!((job.runs.len(), job.next_run_at), (0, Some(clock.now())));
    let taken = cron.take_due(&job, clock.now()).await.unwrap().unwrap();
    let moved = cron.update(owner, None, id, Change { schedule: Some("@daily".into()), ..Change::default() }).unwrap();
    cron.give_back(&taken, clock.now()).await;
    assert_eq!(cron.find(owner, id).unwrap().next_run_at, moved.next_run_at);
}

#[tokio::test]
async fn a_job_speaks_only_where_its_owner_may() {
    let (cron, _) = house("spaces");
    let (owner, other) = (OwnerId::derived(&OWNER), OwnerId::derived(&[8; 32]));
    let space = |owner| cron.spaces.create(owner, NewSpace { name: "s".into(), ..NewSpace::default() }).unwrap().id;
    let (own, anothers, unknown) = (space(owner), space(other), SpaceId::random(&*cron.seams.random));
    let within = |id| NewJob { space_id: Some(id), ..job("@daily", Missed::Skip) };
    for nowhere in [anothers, unknown] {
        assert!(matches!(cron.create(owner, None, within(nowhere)), Err(CronError::Space(SpaceError::NotFound))));
    }
    let id = cron.create(owner, None, within(own)).unwrap().id;
    cron.spaces.archive(owner, own).unwrap();
    assert!(matches!(cron.trigger(owner, (None, None), id).await, Err(CronError::Space(SpaceError::Conflict(_)))));
    let change = |id| Change { space_id: Some(Some(id)), ..Change::default() };
    assert!(matches!(cron.update(owner, None, id, change(own)), Err(CronError::Space(SpaceError::Conflict(_)))));
    assert!(matches!(cron.update(owner, None, id, change(anothers)), Err(CronError::Space(SpaceError::NotFound))));
    cron.spaces.restore(owner, own).unwrap();
    cron.trigger(owner, (None, None), id).await.unwrap();
    assert_eq!(settled(&cron, id).await.runs.len(), 1);
}

#[tokio::test]
async fn jobs_are_their_owners_and_have_a_limit() {
    let (cron, _) = house("limits");
    let (owner, other) = (OwnerId::derived(&OWNER), OwnerId::derived(&[8; 32]));
    let id = cron.create(owner, None, job("@daily", Missed::Skip)).unwrap().id;
    assert!(cron.list(other).unwrap().is_empty());
    assert!(matches!(cron.find(other, id), Err(CronError::NotFound)));
    assert!(matches!(cron.delete(other, id), Err(CronError::NotFound)));
    assert!(matches!(cron.update(other, None, id, Change::default()), Err(CronError::NotFound)));
    assert!(matches!(cron.trigger(other, (None, None), id).await, Err(CronError::NotFound)));
    for _ in 1..CRON_JOBS_MAX {
        cron.create(owner, None, job("@daily", Missed::Skip)).unwrap();
    }
    assert!(matches!(cron.create(owner, None, job("@daily", Missed::Skip)), Err(CronError::Full)));
}

/// Takes the disk's room away when it is told to go on: nothing that anybody says of its end is written.
struct Fills(FaultDisk, Notify);

impl Runner for Fills {
    fn run(self: Arc<Self>, _job: RunnerJob, _cancel: Cancel) -> Pin<Box<dyn Future<Output = Outcome> + Send>> {
        Box::pin(async move {
            self.1.notified().await;
            self.0.set_budget(Some(0));
            Outcome::Broken(StoreError::DiskFull("as the test wants it".into()))
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_end_no_disk_took_does_not_keep_the_job_from_the_next_one() {
    let disk = FaultDisk::new();
    let runner = Arc::new(Fills(disk.clone(), Notify::new()));
    let (cron, clock) = house_with(Arc::new(disk.clone()), runner.clone(), "unwritten");
    let owner = OwnerId::derived(&OWNER);
    let id = cron.create(owner, None, job("0 0 1 1 *", Missed::Skip)).unwrap().id;
    let first = cron.trigger(owner, (None, None), id).await.unwrap();
    assert!(matches!(cron.trigger(owner, (None, None), id).await, Err(CronError::Busy)));
    runner.1.notify_one();
    while cron.gateway.is_live(first.message_id) {
        tokio::task::yield_now().await;
    }
    disk.set_budget(None);
    clock.advance(Duration::from_secs(5));
    // The reserve is written first, on a thread.
    while matches!(cron.trigger(owner, (None, None), id).await, Err(CronError::Gateway(GatewayError::DiskFull(_)))) {
        tokio::task::yield_now().await;
    }
    let runs = cron.find(owner, id).unwrap().runs;
    assert_eq!(runs.iter().map(|run| run.status).collect::<Vec<_>>(), [RunStatus::Unknown, RunStatus::Running]);
}
