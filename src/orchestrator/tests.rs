//! Whole runs over a real store, with a model server that answers from a list.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::base::cancel::{Why, pair};
use crate::base::ids::SessionId;
use crate::base::time::Timestamp;
use crate::http::client::{Client, ClientSettings};
use crate::rooms::agents::Agents;
use crate::rooms::test_seams;
use crate::store::home::{Home, Seams};
use crate::store::record::{Body, Decision, Ending, Record, ToolOutcome};
use crate::store::sessions::{self, Sessions};
use crate::sys::fault_disk::FaultDisk;

/// A model server: one answer a request, then connection closed. What was asked is kept.
#[derive(Clone, Default)]
struct Model {
    answers: Arc<Mutex<VecDeque<String>>>,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Model {
    async fn start() -> (Self, String) {
        let model = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let serving = model.clone();
        // Ends with the test's runtime.
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut bytes = Vec::new();
                let body = loop {
                    let mut part = [0; 4096];
                    let n = socket.read(&mut part).await.unwrap_or(0);
                    bytes.extend_from_slice(&part[..n]);
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    let Some((head, body)) = text.split_once("\r\n\r\n") else { if n == 0 { break String::new() } else { continue } };
                    let length =
                        head.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
                    if body.len() >= length || n == 0 {
                        break body.to_owned();
                    }
                };
                serving.asked.lock().unwrap().push(serde_json::from_str(&body).unwrap_or_default());
                let next = serving.answers.lock().unwrap().pop_front();
                let answer = next.unwrap_or_else(|| "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".into());
                let _ = socket.write_all(answer.as_bytes()).await;
                if answer.ends_with("HANG") {
                    std::future::pending::<()>().await;
                }
            }
        });
        (model, url)
    }

    fn add(&self, deltas: &[Value], end: &str) -> &Self {
        let mut body = String::from("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n");
        for delta in deltas {
            body.push_str(&format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": delta}]})));
        }
        body.push_str(end);
        self.answers.lock().unwrap().push_back(body);
        self
    }
    fn says(&self, pieces: &[&str]) -> &Self {
        let deltas: Vec<Value> = pieces.iter().map(|piece| json!({"content": piece})).collect();
        self.add(&deltas, "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n")
    }
    fn calls(&self, name: &str, arguments: &Value) -> &Self {
        let call = json!({"index": 0, "id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments.to_string()}});
        self.add(
            &[json!({"tool_calls": [call]})],
            "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\ndata: [DONE]\n\n",
        )
    }
    fn task(&self) -> &Self {
        self.calls("start_task", &json!({"goal": "write it down", "acceptance_criteria": ["it is there"]}))
    }
    fn judges(&self, passed: bool) -> &Self {
        self.says(&[&json!({"passed": passed, "score": if passed { 1.0 } else { 0.1 }, "notes": "", "criteria": []}).to_string()])
    }
    fn told(&self, n: usize) -> String {
        self.asked.lock().unwrap()[n].to_string()
    }
}

/// One house up to this floor.
struct Place {
    dir: PathBuf,
    orchestrator: Orchestrator,
    model: Model,
    sessions: Arc<Sessions>,
    session: Arc<Session>,
    owner: OwnerId,
    permits: Arc<Semaphore>,
}

impl Place {
    async fn new(name: &str, settings: Settings) -> Self {
        let (dir, seams) = test_seams(name);
        let random = seams.random.clone();
        Self::with(dir, seams, settings, random).await
    }

    async fn with(dir: PathBuf, seams: Seams, settings: Settings, random: Arc<dyn Random>) -> Self {
        let home = Home::open(&dir, None, seams.clone()).unwrap();
        let owner = OwnerId::derived(&[1; 32]);
        let sessions = Sessions::open(&home, owner, sessions::Settings::default());
        let session = sessions.load_or_create(SessionId::derived(&[1; 32]), owner).await.unwrap();
        let (model, url) = Model::start().await;
        let engine = crate::llm::Settings { default_model: "openai/m".into(), base_url: url, ..Default::default() };
        let engine = Engine::new(engine, Client::new(ClientSettings::default()), seams.clock.clone(), seams.random.clone()).unwrap();
        let workspace = home.workspace();
        let parts = Parts {
            agents: Agents::open(workspace.to_owned(), seams.clone()),
            mcp: Arc::new(Mcp::new(Arc::default(), Client::new(ClientSettings::default()), seams.clock.clone())),
            engine: Arc::new(Live::new(engine)),
            judges: Arc::new(Live::new(Vec::new())),
            workspaces: Arc::new(Workspaces::open(workspace, owner, seams.clone()).unwrap()),
            memory: Arc::new(Memory::open(workspace.join("memory"), seams.clone(), Arc::default(), Client::new(Default::default()))),
            personas: Arc::new(Personas::open(workspace.join("personas"), seams.clone())),
            spaces: Arc::new(Spaces::open(workspace.join("spaces"), seams.clone())),
            skills: Arc::new(Skills::open(workspace.join("skills"), seams.disk.clone(), Arc::default())),
            approvals: Arc::new(Approvals::open(workspace.join("approvals"), seams.clone())),
            seeds: Arc::new(Seeds::open(workspace, seams.clone())),
            events: Events::new(seams.clock.clone(), seams.random.clone()),
            clock: seams.clock.clone(),
            random,
            audit: Audit::open(&home, Arc::default(), crate::base::metrics::Metrics::new(0)).unwrap(),
            settings: Arc::new(Live::new(settings)),
        };
        Self { dir, orchestrator: Orchestrator::new(parts), model, sessions, session, owner, permits: Arc::new(Semaphore::new(8)) }
    }

    fn files(&self) -> Arc<crate::rooms::workspace::Workspace> {
        self.parts().workspaces.of(self.owner).unwrap()
    }

    fn parts(&self) -> &Parts {
        &self.orchestrator.parts
    }

    async fn accept(&self, n: u8, content: &str) -> MessageId {
        let id = MessageId::derived(&[n; 32]);
        self.session.accept(id, self.message(content)).await.unwrap();
        id
    }

    fn message(&self, content: &str) -> UserMessage {
        UserMessage {
            content: content.into(),
            user_id: "default".into(),
            channel: "rest".into(),
            agent_id: AgentId::derived(&[1; 32]),
            space_id: None,
            budget_id: None,
            key_id: None,
            idempotent: false,
            history: None,
            attachments: Vec::new(),
        }
    }

    fn job(&self, message_id: MessageId, content: &str, start: Start) -> Job {
        let (session, owner) = (self.session.clone(), self.owner);
        Job {
            session,
            owner,
            message_id,
            agent_id: AgentId::derived(&[1; 32]),
            message: self.message(content),
            purse: Purse::default(),
            start,
            permits: self.permits.clone(),
        }
    }

    async fn run(&self, id: MessageId, content: &str, start: Start) -> Outcome {
        let (_canceller, cancel) = pair();
        self.orchestrator.run(self.job(id, content, start), cancel).await
    }

    async fn say(&self, n: u8, content: &str) -> Outcome {
        let id = self.accept(n, content).await;
        self.run(id, content, Start::Fresh).await
    }

    async fn records(&self, n: u8) -> Vec<Record> {
        self.session.records_of(MessageId::derived(&[n; 32])).await.unwrap()
    }

    async fn kinds(&self, n: u8) -> Vec<&'static str> {
        self.records(n).await.iter().map(|r| r.body.kind()).collect()
    }

    async fn ending(&self, n: u8) -> (&'static str, Ending) {
        let records = self.records(n).await;
        assert_eq!(records.iter().filter(|r| r.body.ending().is_some()).count(), 1, "exactly one terminal record");
        let last = records.last().unwrap();
        (last.body.kind(), last.body.ending().unwrap().clone())
    }

    /// A task that wants to write, parked on its question.
    async fn parked(name: &str) -> (Self, ApprovalId) {
        let place = Self::new(name, Settings::default()).await;
        place.model.task().calls("write_file", &json!({"path": "n.md", "content": "new"}));
        let Outcome::Parked(id) = place.say(1, "write it down").await else { panic!("not parked") };
        (place, id)
    }

    async fn decide(&self, id: ApprovalId, decision: Decision) {
        let body = Body::ApprovalResolved { approval_id: id, decision };
        self.session.append(MessageId::derived(&[1; 32]), vec![body]).await.unwrap();
    }

    async fn resume(&self) -> Outcome {
        self.run(MessageId::derived(&[1; 32]), "write it down", Start::Resume).await
    }

    fn written(&self) -> Option<String> {
        std::fs::read_to_string(self.dir.join("workspace/files/n.md")).ok()
    }

    async fn result(&self) -> (ToolOutcome, String) {
        let records = self.records(1).await;
        let mut results = records.iter().filter_map(|r| match &r.body {
            Body::ToolResult { outcome, content, .. } => Some((*outcome, content.clone())),
            _ => None,
        });
        let first = results.next().expect("a result");
        assert!(results.next().is_none(), "one result");
        first
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[tokio::test]
async fn a_conversation_is_one_call_and_its_records_are_in_order() {
    let place = Place::new("run-talk", Settings::default()).await;
    place.model.says(&["Hel", "lo ", "there"]);
    assert!(matches!(place.say(1, "hi").await, Outcome::Ended(EndKind::Done)));
    assert_eq!(place.kinds(1).await, ["message", "phase", "usage", "phase", "done"]);
    assert_eq!(place.ending(1).await.1.text, "Hello there");
    // The next turn carries it.
    place.model.says(&["Fine."]);
    place.say(2, "how are you?").await;
    let told = place.model.told(1);
    assert!(told.contains("Hello there") && told.contains("how are you?"), "{told}");
}

#[tokio::test]
async fn a_parked_run_shows_what_it_would_do_and_does_it_when_approved() {
    let (place, id) = Place::parked("run-approved").await;
    let kinds = place.kinds(1).await;
    assert_eq!(kinds[kinds.len() - 2..], ["usage", "approval_requested"]);
    assert_eq!(place.written(), None);
    let asked = place.parts().approvals.find(place.owner, id).unwrap();
    assert_eq!(asked.shown, json!({"path": "n.md", "content": "new", "size": 3, "exists": false}));
    // Without a decision it stays where it is.
    assert!(matches!(place.resume().await, Outcome::Parked(same) if same == id));
    assert_eq!(place.kinds(1).await.len(), kinds.len());
    place.decide(id, Decision::Approved).await;
    place.model.says(&["Written."]).judges(true);
    assert!(matches!(place.resume().await, Outcome::Ended(EndKind::Done)));
    assert_eq!(place.written().as_deref(), Some("new"));
    assert_eq!(place.result().await.0, ToolOutcome::Ok);
    let (kind, ending) = place.ending(1).await;
    assert_eq!((kind, ending.text.as_str(), ending.evaluation_passed), ("done", "Written.", Some(true)));
    let evaluation = place.parts().seeds.evaluation(place.owner, ending.seed_id.unwrap()).unwrap();
    assert_eq!((evaluation.passed, evaluation.score), (Some(true), Some(1.0)));
}

#[tokio::test]
async fn what_was_approved_and_then_cancelled_is_not_done() {
    let (place, id) = Place::parked("run-late-cancel").await;
    place.decide(id, Decision::Approved).await;
    let (canceller, cancel) = pair();
    canceller.cancel(Why::Asked);
    let outcome = place.orchestrator.run(place.job(MessageId::derived(&[1; 32]), "write it down", Start::Resume), cancel).await;
    assert!(matches!(outcome, Outcome::Ended(EndKind::Cancelled)));
    assert_eq!(place.written(), None);
    assert_eq!(place.ending(1).await.0, "cancelled");
}

#[tokio::test]
async fn what_changed_after_it_was_shown_is_not_done() {
    let (place, id) = Place::parked("run-changed").await;
    place.files().write("n.md", b"somebody else's").unwrap();
    place.decide(id, Decision::Approved).await;
    place.model.says(&["It changed."]).judges(true);
    place.resume().await;
    assert_eq!(place.written().as_deref(), Some("somebody else's"));
    let (outcome, content) = place.result().await;
    assert!(outcome == ToolOutcome::Error && content.contains("changed"), "{content}");
}

/// Time stands still, and at one look at it somebody else writes the file.
struct Meddler {
    file: PathBuf,
    looks: AtomicUsize,
    at: AtomicUsize,
}

impl Clock for Meddler {
    fn now(&self) -> Timestamp {
        self.monotonic();
        Timestamp::from_millis(1_800_000_000_000)
    }
    fn monotonic(&self) -> Duration {
        if self.looks.fetch_add(1, Ordering::Relaxed) == self.at.load(Ordering::Relaxed) {
            std::fs::write(&self.file, "somebody else's").unwrap();
        }
        Duration::ZERO
    }
}

/// THREATS 22: whenever somebody else writes while an approved write is carried out, that is not written over unseen.
#[tokio::test]
async fn a_change_at_any_moment_of_an_approved_write_stays() {
    let (mut at_last, mut n) = (0, 0);
    let mut meddled = true;
    while meddled {
        let (dir, seams) = test_seams("run-meddled");
        let file = dir.join("workspace/files/n.md");
        let clock = Arc::new(Meddler { file, looks: 0.into(), at: usize::MAX.into() });
        let random = seams.random.clone();
        let seams = Seams { clock: clock.clone(), disk: Arc::new(FaultDisk::new()), ..seams };
        let place = Place::with(dir, seams, Settings::default(), random).await;
        place.model.task().calls("write_file", &json!({"path": "n.md", "content": "new"}));
        let Outcome::Parked(id) = place.say(1, "write it down").await else { panic!("not parked") };
        place.decide(id, Decision::Approved).await;
        place.model.says(&["Fine."]).judges(true);
        clock.at.store(clock.looks.load(Ordering::Relaxed) + n, Ordering::Relaxed);
        place.resume().await;
        meddled = clock.looks.load(Ordering::Relaxed) > clock.at.load(Ordering::Relaxed);
        if meddled {
            assert_eq!(place.written().as_deref(), Some("somebody else's"), "look {n}");
        }
        let begun = place.records(1).await.iter().any(|record| matches!(record.body, Body::ToolCall { risky: true, .. }));
        at_last += usize::from(begun && place.result().await == (ToolOutcome::Error, tools::CHANGED.to_owned()));
        n += 1;
    }
    assert!(at_last > 0, "also when it had begun");
}

/// Neither the question nor what was approved keeps a run that is to stop.
#[tokio::test]
async fn a_run_that_looks_at_a_file_stops_when_it_is_told() {
    for approved in [false, true] {
        let (dir, seams) = test_seams("run-looks");
        let (disk, random) = (FaultDisk::new(), seams.random.clone());
        let place = Place::with(dir, Seams { disk: Arc::new(disk.clone()), ..seams }, Settings::default(), random).await;
        place.files().write("n.md", b"old").unwrap();
        place.model.task().calls("write_file", &json!({"path": "n.md", "content": "new"}));
        let message = place.accept(1, "write it down").await;
        let mut start = Start::Fresh;
        if approved {
            let Outcome::Parked(id) = place.run(message, "write it down", start).await else { panic!("not parked") };
            place.decide(id, Decision::Approved).await;
            start = Start::Resume;
        }
        let barrier = Arc::new(Barrier::new(2));
        disk.hold_reader_of(std::path::Path::new("n.md"), barrier.clone());
        let meet = || {
            let barrier = barrier.clone();
            crate::base::blocking::spawn(move || barrier.wait().is_leader())
        };
        let (canceller, cancel) = pair();
        let stop = async {
            meet().await.unwrap();
            canceller.cancel(Why::Asked);
        };
        let run = place.orchestrator.run(place.job(message, "write it down", start), cancel);
        let ended = tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(run, stop).0 }).await;
        meet().await.unwrap();
        assert!(matches!(ended, Ok(Outcome::Ended(EndKind::Cancelled))), "approved: {approved}, {ended:?}");
        assert_eq!(place.written().as_deref(), Some("old"));
    }
}

#[tokio::test]
async fn a_refusal_or_a_lapse_is_told_to_the_model() {
    for (decision, word) in [(Decision::Rejected, "said no"), (Decision::Expired, "in time")] {
        let (place, id) = Place::parked(&format!("run-{decision:?}")).await;
        place.decide(id, decision).await;
        place.model.says(&["Then not."]).judges(false);
        assert!(matches!(place.resume().await, Outcome::Ended(EndKind::Done)));
        assert_eq!(place.written(), None);
        let (outcome, content) = place.result().await;
        assert!(outcome == ToolOutcome::Refused && content.contains(word), "{content}");
        // A person's no is not evolved around.
        assert_eq!(place.ending(1).await.1.phase, crate::store::record::Phase::Evaluate);
    }
}

#[tokio::test]
async fn a_write_that_was_started_and_has_no_result_is_never_run_again() {
    let (place, id) = Place::parked("run-unknown").await;
    place.decide(id, Decision::Approved).await;
    let started = Body::ToolCall { call_id: "call_1".into(), name: "write_file".into(), arguments: json!({}), risky: true, agent_id: None };
    place.session.append(MessageId::derived(&[1; 32]), vec![started]).await.unwrap();
    place.model.says(&["I do not know."]).judges(true);
    place.resume().await;
    assert_eq!(place.written(), None);
    assert_eq!(place.result().await.0, ToolOutcome::Unknown);
    assert!(place.model.told(2).contains("may or may not have happened"));
}

#[tokio::test]
async fn a_run_that_never_gets_further_is_given_up() {
    let (place, id) = Place::parked("run-loop").await;
    place.decide(id, Decision::Approved).await;
    // As after a process that ended right behind the checkpoint, four times.
    let id = MessageId::derived(&[1; 32]);
    let mut state = place.session.last_checkpoint(id).await.unwrap().unwrap();
    state["resumes"] = 3.into();
    let checkpoint = Body::Checkpoint { calls: 2, tokens: 0, seed_id: None, state: Some(state) };
    place.session.append(id, vec![checkpoint]).await.unwrap();
    assert!(matches!(place.resume().await, Outcome::Ended(EndKind::Failed)));
    assert_eq!(place.written(), None);
}

#[tokio::test]
async fn every_reason_to_stop_has_its_end() {
    for (why, kind, code) in [
        (Why::Asked, "cancelled", "cancelled"),
        (Why::Replaced, "cancelled", "cancelled"),
        (Why::Deadline, "failed", "deadline"),
        (Why::Shutdown, "interrupted", "interrupted"),
    ] {
        let place = Place::new(&format!("run-stop-{why:?}"), Settings::default()).await;
        place.model.add(&[json!({"content": "half an "}), json!({"content": "answer"})], ": HANG");
        let id = place.accept(1, "go").await;
        let (canceller, cancel) = pair();
        let mut tail = place.session.tail(0);
        let run = place.orchestrator.run(place.job(id, "go", Start::Fresh), cancel);
        let stop = async {
            let mut seen = String::new();
            while seen != "half an answer" {
                if let Ok(crate::store::tail::Step::Record(entry)) = tail.next().await
                    && let Body::Token { text } = &entry.record.body
                {
                    seen.push_str(text);
                }
            }
            canceller.cancel(why);
        };
        tokio::join!(run, stop);
        let (ended, ending) = place.ending(1).await;
        assert_eq!((ended, ending.text.as_str(), ending.error.unwrap().code.as_str()), (kind, "half an answer", code));
    }
}

#[tokio::test]
async fn the_deadline_ends_a_run() {
    let place = Place::new("run-deadline", Settings { max_execution: Duration::ZERO, ..Settings::default() }).await;
    assert!(matches!(place.say(1, "hi").await, Outcome::Ended(EndKind::Failed)));
    assert_eq!(place.ending(1).await.1.error.unwrap().code, "deadline");
}

#[tokio::test]
async fn a_failing_model_is_a_failed_turn() {
    let place = Place::new("run-model-fails", Settings::default()).await;
    assert!(matches!(place.say(1, "hi").await, Outcome::Ended(EndKind::Failed)));
    assert_eq!(place.ending(1).await.1.error.unwrap().code, "model");
}

#[tokio::test]
async fn answers_to_questions_continue_the_original_request() {
    let place = Place::new("run-unclear", Settings::default()).await;
    place.model.calls("ask_user", &json!({"questions": ["About what?"]}));
    place.say(1, "write me something").await;
    assert_eq!(place.ending(1).await.1.text, "About what?");
    place.model.task().says(&["Rain."]).judges(true);
    place.say(2, "about rain").await;
    let seed = place.parts().seeds.find(place.owner, place.ending(2).await.1.seed_id.unwrap()).unwrap();
    let request = seed.original_request.unwrap();
    assert!(request.starts_with("write me something") && request.contains("About what?") && request.ends_with("about rain"), "{request}");
    // After that task the next message stands for itself.
    place.model.says(&["Hello."]);
    place.say(3, "hello").await;
    assert!(!place.model.told(4).contains("answering your questions"));
}

#[tokio::test]
async fn a_large_result_lies_in_a_file_of_its_own() {
    let place = Place::new("run-blob", Settings::default()).await;
    let text = "x".repeat(40_000);
    place.files().write("big.txt", text.as_bytes()).unwrap();
    place.model.calls("read_file", &json!({"path": "big.txt"})).says(&["Big."]);
    place.say(1, "read it").await;
    let records = place.records(1).await;
    let (content, blob) = records
        .iter()
        .find_map(|r| match &r.body {
            Body::ToolResult { content, blob, .. } => Some((content.clone(), blob.clone())),
            _ => None,
        })
        .unwrap();
    assert_eq!(content.len(), crate::base::limits::RESULT_INLINE_BYTES_MAX);
    assert_eq!(place.session.read_blob(&blob.unwrap()).await.unwrap(), text.as_bytes());
}

/// The room of randomness is where a test can make a run panic.
struct Trap;
impl Random for Trap {
    fn fill(&self, _: &mut [u8]) {
        panic!("a trap of the test");
    }
}

#[tokio::test]
async fn a_panic_in_a_run_is_a_failed_turn() {
    let (dir, seams) = test_seams("run-panic");
    let place = Place::with(dir, seams, Settings::default(), Arc::new(Trap)).await;
    place.model.task();
    assert!(matches!(place.say(1, "go").await, Outcome::Ended(EndKind::Failed)));
    let (kind, ending) = place.ending(1).await;
    assert_eq!((kind, ending.error.unwrap().code.as_str()), ("failed", "internal"));
}

/// THREATS 27: whichever write of a run fails, what is told is the disk's state.
#[tokio::test]
async fn a_run_whose_disk_fails_says_so() {
    let mut failed = 0;
    for calls in 0..12 {
        let (dir, seams) = test_seams("run-disk");
        let disk = FaultDisk::new();
        let random = seams.random.clone();
        let place = Place::with(dir, Seams { disk: Arc::new(disk.clone()), ..seams }, Settings::default(), random).await;
        place.model.says(&["Hello."]);
        let id = place.accept(1, "hello").await;
        disk.fail_after(Some(calls));
        let outcome = place.run(id, "hello", Start::Fresh).await;
        if matches!(outcome, Outcome::Ended(EndKind::Failed)) {
            let error = place.ending(1).await.1.error.unwrap();
            assert_eq!(error.code, "disk_full", "call {calls}: {}", error.message);
            failed += 1;
        }
    }
    assert!(failed > 0);
}

#[tokio::test]
async fn a_deleted_session_ends_its_run() {
    let place = Place::new("run-deleted", Settings::default()).await;
    let id = place.accept(1, "go").await;
    place.sessions.delete(place.session.id(), place.owner).await.unwrap();
    assert!(matches!(place.run(id, "go", Start::Fresh).await, Outcome::Ended(EndKind::Cancelled)));
}

#[tokio::test]
async fn what_is_remembered_is_put_before_the_model_as_data() {
    let place = Place::new("run-recall", Settings::default()).await;
    place.model.calls("remember", &json!({"content": "the router is grey"})).says(&["Noted."]).says(&["Grey."]);
    place.say(1, "remember that the router is grey").await;
    place.say(2, "what colour has the router?").await;
    assert!(place.model.told(2).contains("- [fact 2027-01-15] the router is grey"), "{}", place.model.told(2));
}

/// A tool server with one tool, which does not answer to `hang`.
const SHOUTS: &str = r#"
import sys, json
for line in sys.stdin:
    m = json.loads(line)
    if m.get("method") == "initialize": r = {"protocolVersion": "2025-06-18", "capabilities": {}}
    elif m.get("method") == "tools/list": r = {"tools": [{"name": "shout", "inputSchema": {"type": "object"}}]}
    elif m.get("method") == "tools/call":
        if m["params"]["arguments"]["text"] == "hang": continue
        r = {"content": [{"type": "text", "text": m["params"]["arguments"]["text"].upper()}]}
    else: continue
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": m["id"], "result": r}) + "\n"); sys.stdout.flush()
"#;

/// With that server.
async fn place_that_shouts(name: &str) -> Place {
    use crate::rooms::mcp::{ServerSettings, Settings as McpSettings, Transport};
    let mut place = Place::new(name, Settings::default()).await;
    let transport = Transport::Stdio { command: "python3".into(), args: vec!["-c".into(), SHOUTS.into()], env: Default::default() };
    let server = ServerSettings { transport, enabled: true, timeout: Duration::from_secs(20), trust: false };
    let settings = Arc::new(Live::new(McpSettings { servers: [("s".to_owned(), server)].into() }));
    let client = Client::new(ClientSettings::default());
    place.orchestrator.parts.mcp = Arc::new(Mcp::new(settings, client, place.parts().clock.clone()));
    place
}

/// Whatever stops a risky call, nobody knows what it did, and the model is told so with the next message.
#[tokio::test]
async fn a_risky_call_that_was_cut_is_told_as_unknown() {
    for why in [Why::Asked, Why::Deadline] {
        let place = place_that_shouts("run-cut").await;
        place.model.task().calls("s__shout", &json!({"text": "hang"}));
        let Outcome::Parked(id) = place.say(1, "shout").await else { panic!("not parked") };
        place.decide(id, Decision::Approved).await;
        let (canceller, cancel) = pair();
        let mut tail = place.session.tail(place.session.last_seq());
        let stop = async {
            loop {
                if let Ok(crate::store::tail::Step::Record(entry)) = tail.next().await
                    && matches!(entry.record.body, Body::ToolCall { risky: true, .. })
                {
                    return canceller.cancel(why);
                }
            }
        };
        let run = place.orchestrator.run(place.job(MessageId::derived(&[1; 32]), "shout", Start::Resume), cancel);
        let (ended, ()) = tokio::join!(run, stop);
        assert!(matches!(ended, Outcome::Ended(EndKind::Cancelled | EndKind::Failed)), "{ended:?}");
        place.model.says(&["I do not know."]);
        place.say(2, "and?").await;
        let told = place.model.told(2);
        assert!(told.contains("[s__shout was started and its outcome is unknown"), "{why:?}: {told}");
        place.parts().mcp.close().await;
    }
}

#[tokio::test]
async fn a_tool_of_another_server_is_asked_for_shown_exactly_and_its_result_is_data() {
    let place = place_that_shouts("run-foreign").await;
    place.model.task().calls("s__shout", &json!({"text": "hi"}));
    let Outcome::Parked(id) = place.say(1, "shout").await else { panic!("not parked") };
    let asked = place.parts().approvals.find(place.owner, id).unwrap();
    assert_eq!((asked.action.as_str(), asked.resource.as_str()), ("s__shout", "s"));
    assert_eq!(asked.shown, json!({"server": "s", "tool": "shout", "arguments": {"text": "hi"}}));
    // Only within a task.
    assert!(!place.model.told(0).contains("s__shout") && place.model.told(1).contains("s__shout"));
    place.decide(id, Decision::Approved).await;
    place.model.says(&["Done."]).judges(true);
    assert!(matches!(place.resume().await, Outcome::Ended(EndKind::Done)));
    assert_eq!(place.result().await, (ToolOutcome::Ok, "HI".to_owned()));
    assert!(place.model.told(2).contains("[s__shout returned this data]\\nHI"), "{}", place.model.told(2));
    place.parts().mcp.close().await;
}
