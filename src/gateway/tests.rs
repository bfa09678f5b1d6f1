//! The gateway over a real store with a scripted runner. Nothing sleeps: a test waits for records.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::sync::Notify;

use super::*;
use crate::base::cancel::{Cancel, Why};
use crate::base::ids::{ApprovalId, SessionId};
use crate::base::limits::{LANE_MESSAGES_MAX, WAITING_ROOM_MAX};
use crate::base::random::SystemRandom;
use crate::base::time::{Clock, ManualClock, Timestamp};
use crate::orchestrator::{EndKind, Outcome, Start};
use crate::rooms::approvals::{Approval, Status};
use crate::rooms::personas::Personas;
use crate::rooms::seeds::Seeds;
use crate::rooms::spaces::Spaces;
use crate::store::StoreError;
use crate::store::home::Seams;
use crate::store::keys::Books;
use crate::store::record::{Body, Decision, Ending, Problem};
use crate::store::session::Session;
use crate::store::sessions;
use crate::store::tail::Step;
use crate::sys::disk::{Disk, RealDisk};
use crate::sys::fault_disk::FaultDisk;

mod restarts;

/// A runner that does what the message says: `say X`, `hang` (until told to stop), `stuck` (whatever it is told), `gate`
/// (until the test opens it), `ask` (parks), `ask-late` (the same, with the question's file when the test opens the gate), `ask-held`
/// (ends only when the test opens the gate), `ask-twice` (two questions, and ends when the test opens the gate), `panic`.
struct Script {
    approvals: Arc<Approvals>,
    random: Arc<SystemRandom>,
    clock: Arc<ManualClock>,
    gate: Notify,
    /// What was begun, in order.
    begun: Mutex<Vec<String>>,
}

impl Runner for Script {
    fn run(self: Arc<Self>, job: RunnerJob, cancel: Cancel) -> Pin<Box<dyn Future<Output = Outcome> + Send>> {
        Box::pin(async move { self.act(job, cancel).await.unwrap_or_else(Outcome::Broken) })
    }
}

impl Script {
    async fn act(&self, job: RunnerJob, cancel: Cancel) -> Result<Outcome, StoreError> {
        let content = job.message.content.clone();
        self.begun.lock().unwrap().push(content.clone());
        let text = |text: &str| Ending { text: text.to_owned(), ..Ending::default() };
        match content.split(' ').next().unwrap_or_default() {
            "ask-held" if job.start == Start::Resume => {
                self.gate.notified().await;
                end(&job, cancelled(&cancel, "kept")).await
            }
            _ if cancel.why().is_some() => end(&job, cancelled(&cancel, "kept")).await,
            "say" => {
                job.session.append(job.message_id, vec![Body::Token { text: content.clone() }]).await?;
                end(&job, Body::Done(text(&content))).await
            }
            "hang" => {
                job.session.append(job.message_id, vec![Body::Token { text: "so far".into() }]).await?;
                cancel.cancelled().await;
                end(&job, cancelled(&cancel, "so far")).await
            }
            "stuck" => {
                job.session.append(job.message_id, vec![Body::Token { text: "so far".into() }]).await?;
                std::future::pending().await
            }
            "gate" => {
                job.session.append(job.message_id, vec![Body::Token { text: "g".into() }]).await?;
                self.gate.notified().await;
                end(&job, Body::Done(text("g"))).await
            }
            "ask" | "ask-late" | "ask-held" | "ask-twice" if job.start == Start::Fresh => self.ask(&job).await,
            "ask" | "ask-late" => {
                let decided = decisions(&job.session, job.message_id).await?.into_iter().next();
                end(&job, Body::Done(text(&format!("{decided:?}")))).await
            }
            "ask-twice" if decisions(&job.session, job.message_id).await?.len() == 1 => self.ask(&job).await,
            "ask-twice" => {
                self.gate.notified().await;
                end(&job, Body::Done(text(&format!("{:?}", decisions(&job.session, job.message_id).await?)))).await
            }
            "panic" => panic!("as the test wants it"),
            other => panic!("the script does not know {other:?}"),
        }
    }

    async fn ask(&self, job: &RunnerJob) -> Result<Outcome, StoreError> {
        let id = ApprovalId::random(&*self.random);
        let expires_at = self.clock.now().plus(Duration::from_secs(3600));
        let approval = Approval {
            id,
            owner: job.owner,
            session_id: job.session.id(),
            message_id: job.message_id,
            call_id: "c".into(),
            subject: "agent".into(),
            action: "write_file".into(),
            resource: "a".into(),
            reason: "r".into(),
            shown: json!({"path": "a"}),
            digest: "d".into(),
            created_at: self.clock.now(),
            expires_at,
            status: Status::Pending,
        };
        let bodies = vec![
            Body::Checkpoint { calls: 1, tokens: 1, seed_id: None, state: Some(json!({"at": "ask"})) },
            Body::ApprovalRequested {
                approval_id: id,
                call_id: "c".into(),
                action: "write_file".into(),
                resource: "a".into(),
                reason: "r".into(),
                shown: approval.shown.clone(),
                digest: "d".into(),
                expires_at,
            },
        ];
        job.session.append(job.message_id, bodies).await?;
        if job.message.content == "ask-late" {
            self.gate.notified().await;
        }
        self.approvals.create(&approval).unwrap();
        Ok(Outcome::Parked(id))
    }
}

/// Every decision that the log has, in order.
async fn decisions(session: &Arc<Session>, message: MessageId) -> Result<Vec<Decision>, StoreError> {
    let records = session.records_of(message).await?.into_iter();
    Ok(records.filter_map(|record| if let Body::ApprovalResolved { decision, .. } = record.body { Some(decision) } else { None }).collect())
}

fn cancelled(cancel: &Cancel, text: &str) -> Body {
    let (code, shutdown) = match cancel.why() {
        Some(Why::Deadline) => ("deadline", false),
        Some(Why::Shutdown) => ("interrupted", true),
        _ => ("cancelled", false),
    };
    let error = Some(Problem { code: code.into(), message: "m".into() });
    let ending = Ending { text: text.into(), error, ..Ending::default() };
    match (code, shutdown) {
        (_, true) => Body::Interrupted(ending),
        ("deadline", _) => Body::Failed(ending),
        _ => Body::Cancelled(ending),
    }
}

async fn end(job: &RunnerJob, body: Body) -> Result<Outcome, StoreError> {
    let kind = match &body {
        Body::Done(_) => EndKind::Done,
        Body::Cancelled(_) => EndKind::Cancelled,
        Body::Interrupted(_) => EndKind::Interrupted,
        _ => EndKind::Failed,
    };
    job.session.append(job.message_id, vec![body]).await?;
    Ok(Outcome::Ended(kind))
}

/// A home with a gateway in it.
struct House {
    home: Arc<Home>,
    sessions: Arc<Sessions>,
    approvals: Arc<Approvals>,
    script: Arc<Script>,
    clock: Arc<ManualClock>,
    gateway: Arc<Gateway>,
    owner: OwnerId,
}

impl House {
    fn open(dir: &Path, settings: Settings) -> Self {
        Self::on(Arc::new(RealDisk), dir, settings)
    }

    fn on(disk: Arc<dyn Disk>, dir: &Path, settings: Settings) -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_800_000_000_000)));
        let random = Arc::new(SystemRandom::new());
        let seams = Seams { disk, clock: clock.clone(), random: random.clone() };
        let home = Home::open(dir, None, seams.clone()).unwrap();
        let owner = OwnerId::derived(&[7; 32]);
        let sessions = Sessions::open(&home, owner, sessions::Settings::default());
        let approvals = Arc::new(Approvals::open(home.workspace().join("approvals"), seams.clone()));
        let script = Arc::new(Script {
            approvals: approvals.clone(),
            random: random.clone(),
            clock: clock.clone(),
            gate: Notify::new(),
            begun: Mutex::default(),
        });
        let agents = Agents::open(home.workspace().to_owned(), seams.clone());
        let gateway = Gateway::new(GatewayParts {
            agents,
            home: home.clone(),
            sessions: sessions.clone(),
            approvals: approvals.clone(),
            seeds: Arc::new(Seeds::open(home.workspace(), seams.clone())),
            personas: Arc::new(Personas::open(home.workspace().join("personas"), seams.clone())),
            spaces: Arc::new(Spaces::open(home.workspace().join("spaces"), seams.clone())),
            events: Events::new(clock.clone(), random.clone()),
            books: Books::for_tests(&home),
            audit: Audit::open(&home, Arc::default(), crate::base::metrics::Metrics::new(0)).unwrap(),
            runner: script.clone(),
            clock: clock.clone(),
            random,
            settings: Arc::new(Live::new(settings)),
        });
        gateway.has_looked();
        Self { home, sessions, approvals, script, clock, gateway, owner }
    }

    /// As if the process had been killed now and started again: another house over a copy of the files.
    fn again(&self) -> Self {
        self.again_on(Arc::new(RealDisk))
    }

    fn again_on(&self, disk: Arc<dyn Disk>) -> Self {
        let to = dir();
        copy(self.home.path(), &to);
        Self::on(disk, &to, Settings::default())
    }

    fn log(&self, session: SessionId) -> PathBuf {
        self.home.workspace().join("sessions").join(format!("{session}.log"))
    }

    fn file(&self, approval: ApprovalId) -> PathBuf {
        self.home.workspace().join("approvals").join(format!("{approval}.json"))
    }

    fn status(&self, approval: ApprovalId) -> Status {
        self.approvals.find(self.owner, approval).unwrap().status
    }

    fn message(&self, content: &str, session: Option<SessionId>) -> IncomingMessage {
        IncomingMessage {
            id: None,
            channel: "rest",
            user_id: "u".into(),
            content: content.into(),
            session_id: session,
            space_id: None,
            key: None,
            budget: None,
            attachments: Vec::new(),
            idempotency_key: None,
            history: Default::default(),
            owner: self.owner,
        }
    }

    async fn send(&self, content: &str, session: Option<SessionId>) -> Submitted {
        self.gateway.submit(self.message(content, session)).await.unwrap_or_else(|e| panic!("{content}: {e}"))
    }

    async fn send_with_key(&self, content: &str, key: &str) -> Result<Submitted, GatewayError> {
        self.gateway.submit(IncomingMessage { idempotency_key: Some(key.into()), ..self.message(content, None) }).await
    }

    fn begun(&self) -> Vec<String> {
        self.script.begun.lock().unwrap().clone()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.home.path());
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for item in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(item.file_name());
        match item.file_type().unwrap().is_dir() {
            true => copy(&item.path(), &target),
            false => drop(std::fs::copy(item.path(), target).unwrap()),
        }
    }
}

fn dir() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let dir = std::env::temp_dir().join(format!("oxios-gateway-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    let _ = std::fs::remove_dir_all(&dir);
    dir
}

fn house() -> House {
    House::open(&dir(), Settings::default())
}

/// How a message ended, read from its log.
async fn ended(session: &Arc<Session>, message: MessageId) -> (&'static str, Ending) {
    until(session, message, |body| body.ending().map(|ending| (body.kind(), ending.clone()))).await
}

async fn asked(sent: &Submitted) -> ApprovalId {
    until(&sent.session, sent.id, |body| if let Body::ApprovalRequested { approval_id, .. } = body { Some(*approval_id) } else { None })
        .await
}

/// It has begun to speak.
async fn speaks(sent: &Submitted) {
    until(&sent.session, sent.id, |body| matches!(body, Body::Token { .. }).then_some(())).await;
}

async fn until<T>(session: &Arc<Session>, message: MessageId, wanted: impl Fn(&Body) -> Option<T>) -> T {
    let mut tail = session.tail(0);
    let read = async {
        loop {
            match tail.next().await.unwrap() {
                Step::Record(entry) if entry.message_id == Some(message) => {
                    if let Some(found) = wanted(&entry.record.body) {
                        return found;
                    }
                }
                Step::Deleted => panic!("the session is gone"),
                _ => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), read).await.expect("the record comes")
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_one_session_run_in_order_and_two_sessions_do_not_mix() {
    let house = house();
    let first = house.send("say a0", None).await;
    let other = house.send("say b0", None).await;
    let (a, b) = (first.session.clone(), other.session.clone());
    assert_ne!(a.id(), b.id());
    let mut sent = vec![first, other];
    for n in 1..5 {
        sent.push(house.send(&format!("say a{n}"), Some(a.id())).await);
        sent.push(house.send(&format!("say b{n}"), Some(b.id())).await);
    }
    for sent in &sent {
        assert_eq!(ended(&sent.session, sent.id).await.0, "done");
    }
    for (session, letter) in [(&a, 'a'), (&b, 'b')] {
        let mut tail = session.tail(0);
        let mut texts = Vec::new();
        while !tail.caught_up() {
            if let Step::Record(entry) = tail.next().await.unwrap()
                && let Body::Done(ending) = &entry.record.body
            {
                texts.push(ending.text.clone());
            }
        }
        assert_eq!(texts, (0..5).map(|n| format!("say {letter}{n}")).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_attaches_to_the_first_run_also_after_a_restart() {
    let house = house();
    let first = house.send_with_key("say x", "k").await.unwrap();
    assert!(first.fresh);
    ended(&first.session, first.id).await;
    let again = house.send_with_key("say x", "k").await.unwrap();
    assert!(!again.fresh);
    assert_eq!((again.id, again.session.id(), again.seq), (first.id, first.session.id(), first.seq));
    assert!(matches!(house.send_with_key("say y", "k").await, Err(GatewayError::Conflict)));
    let (id, session) = (first.id, first.session.id());
    let house = house.again();
    let again = house.send_with_key("say x", "k").await.unwrap();
    assert_eq!((again.id, again.session.id(), again.fresh), (id, session, false));
    assert_eq!(ended(&again.session, id).await.1.text, "say x");
    assert!(house.begun().is_empty(), "it did not run twice");
    assert!(matches!(house.send_with_key("say y", "k").await, Err(GatewayError::Conflict)));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_retries_at_once_run_once() {
    let house = Arc::new(house());
    let tries: Vec<_> = (0..16)
        .map(|_| {
            let house = house.clone();
            tokio::spawn(async move { house.send_with_key("say x", "k").await.map(|sent| (sent.id, sent.session, sent.fresh)) })
        })
        .collect();
    let mut fresh = 0;
    for tried in tries {
        let (id, session, first) = tried.await.unwrap().unwrap();
        fresh += u32::from(first);
        assert_eq!(ended(&session, id).await.0, "done");
    }
    assert_eq!((fresh, house.begun().len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_another_owner_is_not_found() {
    let house = house();
    let sent = house.send("say x", None).await;
    ended(&sent.session, sent.id).await;
    let stranger = OwnerId::derived(&[8; 32]);
    let theirs = IncomingMessage { owner: stranger, ..house.message("say y", Some(sent.session.id())) };
    assert!(matches!(house.gateway.submit(theirs).await, Err(GatewayError::NotFound)));
    assert_eq!(house.gateway.cancel(stranger, sent.id).await, Err(CancelError::NotFound));
    assert_eq!(house.gateway.cancel(house.owner, sent.id).await, Err(CancelError::Over));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_lane_and_a_full_house_refuse_and_take_again() {
    let house = House::open(&dir(), Settings { max_concurrent: 1, ..Settings::default() });
    let running = house.send("gate", None).await;
    speaks(&running).await;
    let lane = running.session.id();
    for _ in 0..LANE_MESSAGES_MAX {
        house.send("say x", Some(lane)).await;
    }
    assert!(matches!(house.gateway.submit(house.message("say y", Some(lane))).await, Err(GatewayError::LaneFull)));
    for _ in LANE_MESSAGES_MAX..WAITING_ROOM_MAX {
        house.send("say z", None).await;
    }
    assert!(matches!(house.gateway.submit(house.message("say y", None)).await, Err(GatewayError::WaitingRoomFull { .. })));
    let counts = house.gateway.counts();
    assert_eq!((counts.active, counts.waiting, counts.forked), (1, WAITING_ROOM_MAX, 1 + WAITING_ROOM_MAX as u64));
    house.script.gate.notify_one();
    house.gateway.emptied().await;
    let last = house.send("say y", Some(lane)).await;
    assert_eq!(ended(&last.session, last.id).await.0, "done");
    house.gateway.emptied().await;
    let counts = house.gateway.counts();
    assert_eq!((counts.active, counts.waiting, counts.completed, counts.failed), (0, 0, counts.forked, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_does_not_queue_behind_the_run_it_stops() {
    let house = house();
    let running = house.send("hang", None).await;
    let queued = house.send("say x", Some(running.session.id())).await;
    speaks(&running).await;
    house.gateway.cancel(house.owner, queued.id).await.unwrap();
    let (kind, ending) = ended(&queued.session, queued.id).await;
    assert_eq!((kind, ending.text.as_str(), ending.error.unwrap().code.as_str()), ("cancelled", "", "cancelled"));
    house.gateway.cancel(house.owner, running.id).await.unwrap();
    let (kind, ending) = ended(&running.session, running.id).await;
    assert_eq!((kind, ending.text.as_str()), ("cancelled", "so far"));
    assert_eq!(house.begun(), ["hang"]);
    assert_eq!(house.gateway.cancel(house.owner, running.id).await, Err(CancelError::Over));
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_reject_and_interrupt() {
    let house = House::open(&dir(), Settings { lane_policy: LanePolicy::Reject, ..Settings::default() });
    let running = house.send("gate", None).await;
    let second = house.gateway.submit(house.message("say x", Some(running.session.id()))).await;
    assert!(matches!(second, Err(GatewayError::LaneFull)));
    house.script.gate.notify_one();
    ended(&running.session, running.id).await;

    let house = House::open(&dir(), Settings { lane_policy: LanePolicy::Interrupt, ..Settings::default() });
    let running = house.send("hang", None).await;
    let newer = house.send("say x", Some(running.session.id())).await;
    assert_eq!(ended(&running.session, running.id).await.0, "cancelled");
    assert_eq!(ended(&newer.session, newer.id).await.0, "done");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_panics_ends_as_failed_and_gives_its_permit_back() {
    let house = House::open(&dir(), Settings { max_concurrent: 1, ..Settings::default() });
    let panics = house.send("panic", None).await;
    let (kind, ending) = ended(&panics.session, panics.id).await;
    assert_eq!((kind, ending.error.unwrap().code.as_str()), ("failed", "internal"));
    let next = house.send("say x", Some(panics.session.id())).await;
    assert_eq!(ended(&next.session, next.id).await.0, "done");
    house.gateway.emptied().await;
    assert_eq!(house.gateway.counts().failed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watchdog_takes_the_permit_of_a_run_that_does_not_stop() {
    let short = Duration::from_millis(20);
    let settings = Settings { max_concurrent: 1, max_execution: short, watchdog_grace: short, ..Settings::default() };
    let house = House::open(&dir(), settings);
    let stuck = house.send("stuck", None).await;
    let (kind, ending) = ended(&stuck.session, stuck.id).await;
    assert_eq!((kind, ending.text.as_str(), ending.error.unwrap().code.as_str()), ("failed", "so far", "deadline"));
    let next = house.send("stuck", None).await;
    speaks(&next).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_lets_a_parked_run_go_on() {
    let house = House::open(&dir(), Settings { max_concurrent: 1, ..Settings::default() });
    let parked = house.send("ask", None).await;
    let approval = asked(&parked).await;
    // It holds no permit: another session runs meanwhile.
    let other = house.send("say x", None).await;
    assert_eq!(ended(&other.session, other.id).await.0, "done");
    let stranger = OwnerId::derived(&[8; 32]);
    assert!(matches!(house.gateway.decide(stranger, None, approval, Decision::Approved).await, Err(DecideError::NotFound)));
    house.gateway.decide(house.owner, None, approval, Decision::Approved).await.unwrap();
    assert_eq!(ended(&parked.session, parked.id).await.1.text, "Some(Approved)");
    house.gateway.decide(house.owner, None, approval, Decision::Approved).await.unwrap();
    let other = house.gateway.decide(house.owner, None, approval, Decision::Rejected).await;
    assert!(matches!(other, Err(DecideError::Decided(Status::Approved))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_that_comes_before_the_file_waits_for_it_whatever_else_happens() {
    let house = Arc::new(house());
    let parked = house.send("ask-late", None).await;
    let approval = asked(&parked).await;
    let deciding = tokio::spawn({
        let house = house.clone();
        async move { house.gateway.decide(house.owner, None, approval, Decision::Approved).await }
    });
    // Others come and go; none of it is what it waits for.
    for _ in 0..3 {
        let other = house.send("say x", None).await;
        ended(&other.session, other.id).await;
    }
    house.script.gate.notify_one();
    deciding.await.unwrap().unwrap();
    assert_eq!(ended(&parked.session, parked.id).await.1.text, "Some(Approved)");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_in_a_session_that_cannot_be_opened_stays_open() {
    let house = house();
    let parked = house.send("ask", None).await;
    let (approval, id, session) = (asked(&parked).await, parked.id, parked.session.id());
    house.gateway.parked(id).await;
    let house = house.again();
    let log = house.home.workspace().join("sessions").join(format!("{session}.log"));
    let aside = log.with_extension("aside");
    std::fs::rename(&log, &aside).unwrap();
    std::fs::create_dir(&log).unwrap();
    house.gateway.resume_parked().await;
    assert_eq!(house.approvals.find(house.owner, approval).unwrap().status, Status::Pending);
    std::fs::remove_dir(&log).unwrap();
    std::fs::rename(&aside, &log).unwrap();
    house.gateway.decide(house.owner, None, approval, Decision::Approved).await.unwrap();
    let session = house.sessions.load(session, house.owner).await.unwrap();
    assert_eq!(ended(&session, id).await.1.text, "Some(Approved)");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_question_of_a_session_that_is_gone_is_closed() {
    let house = house();
    let parked = house.send("ask", None).await;
    let approval = asked(&parked).await;
    house.gateway.parked(parked.id).await;
    let session = parked.session.id();
    let house = house.again();
    std::fs::remove_file(house.home.workspace().join("sessions").join(format!("{session}.log"))).unwrap();
    for ending in ["json", "run"] {
        let _ = std::fs::remove_file(house.home.workspace().join("sessions").join(format!("{session}.{ending}")));
    }
    house.gateway.resume_parked().await;
    assert_eq!(house.approvals.find(house.owner, approval).unwrap().status, Status::Rejected);
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_waits_for_a_message_that_is_being_written_down() {
    let house = house();
    let place = submit::Promise::of(&house.gateway, SessionId::derived(&[1; 32])).unwrap();
    assert!(futures_util::future::poll_immediate(house.gateway.emptied()).await.is_none());
    drop(place);
    house.gateway.emptied().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_message_rejects_the_question_and_runs() {
    let house = house();
    let parked = house.send("ask", None).await;
    let approval = asked(&parked).await;
    let next = house.send("say x", Some(parked.session.id())).await;
    assert_eq!(ended(&next.session, next.id).await.0, "done");
    assert_eq!(ended(&parked.session, parked.id).await.0, "cancelled");
    let decision = until(&parked.session, parked.id, |body| match body {
        Body::ApprovalResolved { decision, .. } => Some(*decision),
        _ => None,
    });
    assert_eq!(decision.await, Decision::Rejected);
    assert_eq!(house.approvals.find(house.owner, approval).unwrap().status, Status::Rejected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_run_is_cancelled_and_an_unanswered_question_lapses() {
    let house = house();
    let parked = house.send("ask", None).await;
    asked(&parked).await;
    house.gateway.cancel(house.owner, parked.id).await.unwrap();
    assert_eq!(ended(&parked.session, parked.id).await.0, "cancelled");

    let parked = house.send("ask", None).await;
    let approval = asked(&parked).await;
    house.gateway.parked(parked.id).await;
    assert_eq!(house.gateway.expire_due().await, Some(Duration::from_secs(3600)));
    house.clock.advance(Duration::from_secs(3600));
    house.gateway.expire_due().await;
    assert_eq!(ended(&parked.session, parked.id).await.1.text, "Some(Expired)");
    assert_eq!(house.approvals.find(house.owner, approval).unwrap().status, Status::Expired);
}

/// THREATS 22: a decision expires, however late the timer is that says so.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_lapsed_is_not_approved_any_more() {
    let house = house();
    for decision in [Decision::Approved, Decision::Rejected] {
        let parked = house.send("ask", None).await;
        let approval = asked(&parked).await;
        house.gateway.parked(parked.id).await;
        house.clock.advance(Duration::from_secs(3600));
        let decided = house.gateway.decide(house.owner, None, approval, decision).await;
        assert!(matches!(decided, Err(DecideError::Decided(Status::Expired))), "{decided:?}");
        assert_eq!(ended(&parked.session, parked.id).await.1.text, "Some(Expired)");
    }
}

/// THREATS 29: a lapse is a duration, whatever the wall clock says meanwhile; and a machine that sleeps does not stretch it.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_moves_no_lapse_and_sleep_counts() {
    let (house, hour) = (house(), Duration::from_secs(3600));
    for (years, open) in [(1, true), (-1, true), (0, false)] {
        let parked = house.send("ask", None).await;
        let approval = asked(&parked).await;
        house.gateway.parked(parked.id).await;
        let now = house.clock.now();
        house.clock.set_wall(Timestamp::from_millis(now.millis().saturating_add_signed(years * 365 * 86_400_000)));
        house.clock.suspend(if open { hour / 2 } else { hour });
        let left = house.gateway.expire_due().await;
        assert_eq!(left, open.then_some(hour / 2), "{years}");
        let decided = house.gateway.decide(house.owner, None, approval, Decision::Approved).await;
        assert_eq!(decided.is_ok(), open, "{years}: {decided:?}");
        let text = if open { "Some(Approved)" } else { "Some(Expired)" };
        assert_eq!(ended(&parked.session, parked.id).await.1.text, text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_is_known_before_it_is_sent() {
    let house = house();
    let keyed =
        |content: &str, key: Option<&str>| IncomingMessage { idempotency_key: key.map(str::to_owned), ..house.message(content, None) };
    assert_eq!(house.gateway.known(&keyed("say x", Some("k"))).await.unwrap(), Known::Nothing);
    let sent = house.send_with_key("say x", "k").await.unwrap();
    assert_eq!(house.gateway.known(&keyed("say x", Some("k"))).await.unwrap(), Known::Retry);
    assert_eq!(house.gateway.known(&keyed("say y", Some("k"))).await.unwrap(), Known::Retry, "what it says is looked at where it is sent");
    assert_eq!(house.gateway.known(&keyed("say x", None)).await.unwrap(), Known::Nothing);
    assert_eq!(house.gateway.known(&keyed("say x", Some("l"))).await.unwrap(), Known::Nothing);
    ended(&sent.session, sent.id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_cancels_first() {
    let house = house();
    let running = house.send("hang", None).await;
    speaks(&running).await;
    let queued = house.send("say x", Some(running.session.id())).await;
    let mut tail = running.session.tail(running.seq);
    house.gateway.delete_session(house.owner, running.session.id()).await.unwrap();
    loop {
        if let Step::Deleted = tail.next().await.unwrap() {
            break;
        }
    }
    assert_eq!(house.begun(), ["hang"]);
    assert!(!house.gateway.is_live(running.id) && !house.gateway.is_live(queued.id));
    let again = house.gateway.submit(house.message("say y", Some(running.session.id()))).await;
    assert!(matches!(again, Err(GatewayError::NotFound)));
    assert!(matches!(house.gateway.delete_session(house.owner, running.session.id()).await, Err(StoreError::NotFound)));
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_waits_then_interrupts_and_leaves_what_is_parked() {
    let house = house();
    let parked = house.send("ask", None).await;
    asked(&parked).await;
    house.gateway.parked(parked.id).await;
    let running = house.send("hang", None).await;
    speaks(&running).await;
    let queued = house.send("say x", Some(running.session.id())).await;
    house.gateway.drain(Duration::from_millis(10)).await;
    for (sent, text) in [(&running, "so far"), (&queued, "")] {
        let (kind, ending) = ended(&sent.session, sent.id).await;
        assert_eq!((kind, ending.text.as_str()), ("interrupted", text));
    }
    assert!(house.gateway.is_live(parked.id));
    assert!(matches!(house.gateway.submit(house.message("say y", None)).await, Err(GatewayError::Draining)));
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_waits_for_the_end_of_a_parked_run_that_was_cancelled() {
    let house = house();
    let parked = house.send("ask-held", None).await;
    asked(&parked).await;
    house.gateway.parked(parked.id).await;
    house.gateway.stop(house.owner, parked.id).await.unwrap();
    while house.begun().len() < 2 {
        tokio::task::yield_now().await;
    }
    let mut drain = std::pin::pin!(house.gateway.drain(Duration::from_secs(60)));
    let waits = std::future::poll_fn(|cx| std::task::Poll::Ready(drain.as_mut().poll(cx).is_pending())).await;
    assert!(waits, "its question is answered, its end is not written");
    house.script.gate.notify_one();
    drain.await;
    assert!(!house.gateway.is_live(parked.id));
    assert_eq!(ended(&parked.session, parked.id).await.0, "cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_lanes_that_are_done() {
    let house = house();
    for _ in 0..20 {
        let sent = house.send("say x", None).await;
        ended(&sent.session, sent.id).await;
    }
    house.gateway.emptied().await;
    // The last lane's task ends a moment after its message.
    while !house.gateway.state().lanes.is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(house.gateway.state().runs.is_empty());
}
