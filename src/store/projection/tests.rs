//! The `.json` beside the log.

use super::*;
use crate::base::ids::MessageId;
use crate::store::record::{Ending, Phase, Problem};
use crate::store::sessions::{Sessions, Settings};
use crate::store::testing::{Bench, done, say};

async fn turn(bench: &Bench, session: &Arc<Session>, said: &str, end: Body) -> MessageId {
    let id = bench.message_id();
    session.accept(id, say(said)).await.unwrap();
    session.append(id, vec![end]).await.unwrap();
    id
}
fn file(bench: &Bench, session: &Session) -> Value {
    serde_json::from_slice(&std::fs::read(bench.file(session.id(), "json")).unwrap()).unwrap()
}
async fn detail(session: &Arc<Session>) -> Value {
    let (mut detail, mut bytes) = (session.detail(), Vec::new());
    while let Some(piece) = detail.next().await.unwrap() {
        assert!(piece.len() < 2 * PAGE_BYTES);
        bytes.extend_from_slice(&piece);
    }
    serde_json::from_slice(&bytes).unwrap()
}

#[tokio::test]
async fn the_file_is_current_when_the_answer_is_visible_and_has_the_documented_shape() {
    let bench = Bench::new();
    let sessions = bench.sessions();
    let session = sessions.load_or_create(bench.session_id(), bench.owner()).await.unwrap();
    let first = turn(&bench, &session, "hello \"you\"", done("hi\n")).await;
    let problem = Problem { code: "model".into(), message: "gone".into() };
    let failed =
        Ending { text: "par".into(), phase: Phase::Execute, evaluation_passed: Some(false), error: Some(problem), ..Default::default() };
    let second = turn(&bench, &session, "again", Body::Failed(failed)).await;
    let at = "2027-01-15T08:00:00.000Z";
    let want = json!({
        "id": session.id(), "user_id": "default",
        "user_messages": [{"content": "hello \"you\"", "timestamp": at, "message_id": first}, {"content": "again", "timestamp": at, "message_id": second}],
        "agent_responses": [
            {"content": "hi\n", "session_id": session.id(), "seed_id": null, "phase_reached": "Interview", "evaluation_passed": null, "timestamp": at},
            {"content": "par", "session_id": session.id(), "seed_id": null, "phase_reached": "Execute", "evaluation_passed": false, "timestamp": at, "outcome": "failed"}],
        "active_seed_id": null, "active_persona_id": null, "created_at": at, "updated_at": at,
        "metadata": {"title": "hello \"you\"", "owner": bench.owner(), "log": {"seq": 4}},
    });
    let mut got = file(&bench, &session);
    let digest = got["metadata"]["log"].as_object_mut().unwrap().remove("digest").unwrap();
    assert_eq!(digest.as_str().unwrap().len(), 64);
    assert_eq!(got, want);
    let mut api = detail(&session).await;
    assert_eq!(api.as_object_mut().unwrap().remove("space_id"), Some(Value::Null));
    assert_eq!(api, want);
}

#[tokio::test]
async fn an_edited_file_is_kept_a_torn_one_is_replaced_and_one_behind_is_rewritten_when_opened() {
    let bench = Bench::new();
    let sid = bench.session_id();
    {
        let sessions = bench.sessions();
        let session = sessions.load_or_create(sid, bench.owner()).await.unwrap();
        turn(&bench, &session, "one", done("1")).await;
    }
    let path = bench.file(sid, "json");
    let current = std::fs::read(&path).unwrap();
    let open = async || {
        let sessions = bench.sessions();
        sessions.load(sid, bench.owner()).await.unwrap();
    };
    let kept = || {
        std::fs::read_dir(bench.files())
            .unwrap()
            .filter(|e| e.as_ref().unwrap().file_name().to_str().unwrap().contains(".json.kept-"))
            .count()
    };
    std::fs::write(&path, &current[..50]).unwrap();
    open().await;
    assert_eq!((std::fs::read(&path).unwrap(), kept()), (current.clone(), 0), "a torn one");
    std::fs::remove_file(&path).unwrap();
    open().await;
    assert_eq!(std::fs::read(&path).unwrap(), current, "a missing one");
    let edited = String::from_utf8(current.clone()).unwrap().replace("\"1\"", "\"one!\"");
    std::fs::write(&path, &edited).unwrap();
    open().await;
    assert_eq!((std::fs::read(&path).unwrap(), kept()), (current.clone(), 1), "an edited one");
    {
        let sessions = bench.sessions();
        let session = sessions.load(sid, bench.owner()).await.unwrap();
        turn(&bench, &session, "two", done("2")).await;
    }
    std::fs::write(&path, &current).unwrap();
    open().await;
    assert!(String::from_utf8(std::fs::read(&path).unwrap()).unwrap().contains("two"), "one behind");
    assert_eq!(kept(), 1);
}

#[tokio::test]
async fn a_large_one_is_written_when_the_log_has_doubled_and_at_shutdown_and_reads_as_the_log() {
    let bench = Bench::new();
    let sessions = bench.sessions();
    let session = sessions.load_or_create(bench.session_id(), bench.owner()).await.unwrap();
    let long = "x".repeat(5000);
    let mut writes = 0;
    let mut last = None;
    for n in 0..100 {
        turn(&bench, &session, &format!("{n}"), done(&long)).await;
        let now = std::fs::read(bench.file(session.id(), "json")).unwrap();
        writes += u32::from(n >= 20 && last.as_ref() != Some(&now));
        last = Some(now);
    }
    assert!((1..=4).contains(&writes), "{writes} rewrites for 80 large turns");
    sessions.close().await;
    let shown = file(&bench, &session);
    assert_eq!(shown["user_messages"].as_array().unwrap().len(), 100);
    assert_eq!(shown["metadata"]["log"]["seq"], 200);
    let api = detail(&session).await;
    assert_eq!((&api["agent_responses"], &api["user_messages"]), (&shown["agent_responses"], &shown["user_messages"]));
    let whose = whose(&bench.disk, &bench.file(session.id(), "json"), None).unwrap();
    assert!(matches!(whose, Whose::Ours(200)), "its seal holds");
}

#[tokio::test]
async fn lazy_means_at_shutdown_only_also_for_sessions_that_left_memory() {
    let bench = Bench::new();
    let sessions = Sessions::open(&bench.home(), bench.owner(), Settings { projection: Projection::Lazy, ..Settings::default() });
    let sid = bench.session_id();
    let session = sessions.load_or_create(sid, bench.owner()).await.unwrap();
    turn(&bench, &session, "one", done("1")).await;
    assert!(!bench.file(sid, "json").exists());
    drop(session);
    bench.clock.advance(std::time::Duration::from_secs(6));
    assert!(!sessions.give_back());
    assert_eq!(sessions.in_memory(), 0, "nobody uses it");
    sessions.close().await;
    assert!(bench.file(sid, "json").exists());
}
