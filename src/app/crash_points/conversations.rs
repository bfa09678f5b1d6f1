//! Conversations with everything in them, copies, imports, deletions.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::house::{HOME, House};
use super::ledger::Ledger;
use super::rooms;
use super::talk::Talk;
use crate::base::ids::{ApprovalId, MessageId, SessionId};
use crate::base::limits::{PROJECTION_EAGER_BYTES_MAX, SEQ_RESERVATION};
use crate::rooms::approvals::{Approval, Status};
use crate::rooms::seeds::Seed;
use crate::store::import;
use crate::store::record::{About, Body, Change, Decision, Ending, Phase, PhaseState, ToolOutcome};
use crate::store::testing::{done, token};
use crate::sys::disk::{Disk, Open};

fn phase(state: PhaseState) -> Body {
    Body::Phase { phase: Phase::Execute, state, verdict: None, score: None, seed_id: None }
}
fn call(risky: bool) -> Body {
    Body::ToolCall { call_id: "c".into(), name: "write_file".into(), arguments: json!({"path": "a"}), risky, agent_id: None }
}

/// All of them; those that another process goes on with.
pub(super) async fn all(house: &House, ledger: &Ledger) -> Vec<SessionId> {
    let turns = turns(house, ledger).await;
    let mut ids = vec![turns, parked(house, ledger).await];
    copies(house, ledger, turns).await;
    for n in 0..3 {
        ids.push(to_delete(house, ledger, n).await);
    }
    let deleted = ids.pop().unwrap();
    let from = ledger.now();
    house.app.gateway.delete_session(house.owner, deleted).await.unwrap();
    ledger.of_session(deleted, |now, talked| talked.deleted = Some((from, now)));
    // Last, since each start behind it has to end it.
    ids.push(open(house, ledger).await);
    ids
}

/// Turns with everything in them.
async fn turns(house: &House, ledger: &Ledger) -> SessionId {
    let (app, owner) = (&house.app, house.owner);
    let persona = app.personas.active(owner).unwrap().map(|persona| persona.id);
    let mut talk = Talk::begin(house, ledger, About { persona_id: persona, ..About::default() }).await;
    let message = talk.say(house, "first \u{e4} \"question\"").await;
    talk.add(message, vec![phase(PhaseState::Started)]).await;
    talk.add(message, vec![token("The "), token("first ")]).await;
    talk.add(message, vec![call(true)]).await;
    let large = "large result ".repeat(2000).into_bytes();
    let blob = talk.session.put_blob(large).await.unwrap();
    ledger.of_session(talk.id(), |now, talked| talked.keeps(now, &blob));
    let result = Body::ToolResult { call_id: "c".into(), outcome: ToolOutcome::Ok, content: "large".into(), blob: Some(blob) };
    talk.add(message, vec![result]).await;
    let usage = Body::Usage { model: "m".into(), input_tokens: 1, output_tokens: 2, millis: 3 };
    talk.add(message, vec![token("answer."), usage, phase(PhaseState::Ended)]).await;
    talk.add(message, vec![done("The first answer.")]).await;
    talk.session.set_about(Change { title: Some(Some("Named".into())), ..Change::default() }).await.unwrap();
    talk.read().await;
    let message = talk.say(house, "second").await;
    talk.add(message, vec![Body::Draft { text: "draft".into(), attempt: 0 }, token("so far")]).await;
    talk.add(message, vec![Body::Cancelled(Ending { text: "so far".into(), ..Ending::default() })]).await;
    talk.id()
}

/// One that parks, is approved, and goes on.
async fn parked(house: &House, ledger: &Ledger) -> SessionId {
    let app = &house.app;
    let mut talk = Talk::begin(house, ledger, About::default()).await;
    let message = talk.say(house, "write it").await;
    talk.add(message, vec![token("Shall I?")]).await;
    let approval_id = ApprovalId::random(&*app.random);
    let state = Body::Checkpoint { calls: 1, tokens: 2, seed_id: None, state: Some(json!({"plan": ["write"]})) };
    let asked = Body::ApprovalRequested {
        approval_id,
        call_id: "c".into(),
        action: "write_file".into(),
        resource: "a".into(),
        reason: "r".into(),
        shown: json!({"path": "a"}),
        digest: "d".into(),
        expires_at: app.clock.now().plus(Duration::from_secs(3600)),
    };
    talk.add(message, vec![state, asked]).await;
    let from = ledger.now();
    app.approvals.create(&approval(house, approval_id, talk.id(), message)).unwrap();
    ledger.set(from, format!("approval/{approval_id}"), Some("Pending"));
    talk.session.append(message, vec![Body::ApprovalResolved { approval_id, decision: Decision::Approved }]).await.unwrap();
    ledger.of_session(talk.id(), |now, talked| talked.approved(now, approval_id));
    talk.read().await;
    let from = ledger.now();
    app.approvals.mark(approval_id, Decision::Approved).unwrap();
    ledger.set(from, format!("approval/{approval_id}"), Some("Approved"));
    talk.add(message, vec![phase(PhaseState::Started), call(true)]).await;
    talk.add(message, vec![Body::Failed(Ending { text: "Shall I?".into(), ..Ending::default() })]).await;
    talk.id()
}

/// One that is open at each of the next stops.
async fn open(house: &House, ledger: &Ledger) -> SessionId {
    let mut talk = Talk::begin(house, ledger, About::default()).await;
    let message = talk.say(house, "open").await;
    talk.add(message, vec![token("never ended")]).await;
    talk.id()
}

/// One that is copied, one that is imported, and one whose file somebody put there.
async fn copies(house: &House, ledger: &Ledger, of: SessionId) {
    let (app, owner) = (&house.app, house.owner);
    let whole = |made: (SessionId, usize), texts: &[&str]| {
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        ledger.of_session(made.0, |now, talked| talked.whole = Some((made.1, now, texts)));
    };
    let from = ledger.now();
    let fork = app.gateway.fork(owner, of, None).await.unwrap().unwrap();
    whole((fork, from), &["first \u{e4} \"question\"", "The first answer.", "second", "so far"]);
    let file = json!({"user_messages": [{"content": "q1"}, {"content": "q2"}], "agent_responses": [{"content": "a1"}, {"content": "a2"}]});
    let from = ledger.now();
    let old = import::parse(file.to_string().as_bytes()).unwrap();
    let brought = app.gateway.bring_in(owner, old, import::Source::of(b"1"), None, None).await.unwrap().unwrap();
    whole((brought, from), &["q1", "a1", "q2", "a2"]);
    // A file that somebody put there; its name is durable with whatever syncs the directory next.
    let by_hand = SessionId::random(&*app.random);
    let from = ledger.now();
    let at = Path::new(HOME).join(format!("workspace/sessions/{by_hand}.json"));
    let beside = at.with_file_name("by-hand");
    let put = house.disk.open(&beside, Open::CreateNew).unwrap();
    put.append(file.to_string().as_bytes()).unwrap();
    put.sync().unwrap();
    house.disk.rename(&beside, &at).unwrap();
    house.disk.sync_dir(at.parent().unwrap()).unwrap();
    whole((by_hand, from), &["q1", "a1", "q2", "a2"]);
    let mut talk = Talk::with(ledger, app.sessions.load(by_hand, owner).await.unwrap());
    let message = talk.say(house, "q3").await;
    talk.add(message, vec![done("a3")]).await;
}

async fn to_delete(house: &House, ledger: &Ledger, n: u8) -> SessionId {
    let mut talk = Talk::begin(house, ledger, About::default()).await;
    let message = talk.say(house, &format!("to be deleted {n}")).await;
    talk.session.put_blob(vec![n; 100]).await.unwrap();
    talk.add(message, vec![token("a"), done("ab")]).await;
    house.app.seeds.save(&Seed { session_id: talk.id(), ..rooms::seed(house) }).unwrap();
    talk.id()
}

/// One whose answers are too large for a small projection, and whose numbers run out.
pub(super) async fn large(house: &House, ledger: &Ledger) {
    let mut talk = Talk::begin(house, ledger, About::default()).await;
    let message = talk.say(house, "long").await;
    let text = "long ".repeat(PROJECTION_EAGER_BYTES_MAX as usize / 5 + 1);
    talk.add(message, vec![token(&text), done(&text)]).await;
    let message = talk.say(house, "many").await;
    let half = SEQ_RESERVATION as usize / 2 + 10;
    for _ in 0..2 {
        talk.add(message, vec![token("x"); half]).await;
    }
    talk.add(message, vec![done(&"x".repeat(2 * half))]).await;
}

fn approval(house: &House, id: ApprovalId, session_id: SessionId, message_id: MessageId) -> Approval {
    Approval {
        id,
        owner: house.owner,
        session_id,
        message_id,
        call_id: "c".into(),
        subject: "agent".into(),
        action: "write_file".into(),
        resource: "a".into(),
        reason: "r".into(),
        shown: json!({"path": "a"}),
        digest: "d".into(),
        created_at: house.app.clock.now(),
        expires_at: house.app.clock.now().plus(Duration::from_secs(3600)),
        status: Status::Pending,
    }
}
