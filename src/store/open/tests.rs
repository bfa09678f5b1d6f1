//! What a user notices after crashes, damage and full disks.

use serde_json::json;

use super::*;
use crate::base::random::Random;
use crate::store::record::ToolOutcome;
use crate::store::session::Session;
use crate::store::testing::{Bench, done, kinds, read_on, say, token};

async fn all(session: &Arc<Session>) -> Vec<String> {
    kinds(&read_on(&mut session.tail(0)).await)
}
fn asked(bench: &Bench) -> (ApprovalId, Vec<Body>) {
    let approval_id = ApprovalId::random(bench.random.as_ref());
    let requested = Body::ApprovalRequested {
        approval_id,
        call_id: "c1".into(),
        action: "write_file".into(),
        resource: "a.txt".into(),
        reason: "asked".into(),
        shown: json!({"path": "a.txt"}),
        digest: "0".repeat(64),
        expires_at: bench.seams().clock.now(),
    };
    let checkpoint = Body::Checkpoint { calls: 1, tokens: 2, seed_id: None, state: Some(json!({"secret plan": 1})) };
    (approval_id, vec![checkpoint, requested])
}
fn resolved(approval_id: ApprovalId) -> Body {
    Body::ApprovalResolved { approval_id, decision: Decision::Approved }
}
fn phase() -> Body {
    Body::Phase { phase: Phase::Execute, state: crate::store::record::PhaseState::Started, verdict: None, score: None, seed_id: None }
}

/// A log with two finished turns and one that runs, and what was acknowledged of it by which length.
async fn small_log(bench: &Bench) -> (SessionId, Vec<u8>, Vec<(u64, &'static str)>) {
    let sid = bench.session_id();
    let sessions = bench.sessions();
    let session = sessions.load_or_create(sid, bench.owner()).await.unwrap();
    let path = bench.file(sid, "log");
    let len = || std::fs::metadata(&path).unwrap().len();
    let mut acknowledged = Vec::new();
    for (said, answer) in [("first question", "first answer"), ("second question", "second answer")] {
        let id = bench.message_id();
        session.accept(id, say(said)).await.unwrap();
        acknowledged.push((len(), said));
        session.append(id, vec![phase()]).await.unwrap();
        session.append(id, vec![done(answer)]).await.unwrap();
        acknowledged.push((len(), answer));
    }
    let id = bench.message_id();
    session.accept(id, say("third question")).await.unwrap();
    acknowledged.push((len(), "third question"));
    session.append(id, vec![token("so "), token("far")]).await.unwrap();
    let bytes = std::fs::read(&path).unwrap();
    (sid, bytes, acknowledged)
}

#[tokio::test]
async fn cut_at_every_byte_what_was_acknowledged_is_there_in_order_and_once() {
    let bench = Bench::new();
    let (sid, bytes, acknowledged) = small_log(&bench).await;
    let run = std::fs::read(bench.file(sid, "run")).unwrap();
    let header = bytes.iter().position(|b| *b == b'\n').unwrap() + 1;
    for cut in header..=bytes.len() {
        std::fs::write(bench.file(sid, "log"), &bytes[..cut]).unwrap();
        std::fs::write(bench.file(sid, "run"), &run).unwrap();
        let _ = std::fs::remove_file(bench.file(sid, "json"));
        let sessions = bench.sessions();
        let session = sessions.load(sid, bench.owner()).await.unwrap();
        let records = read_on(&mut session.tail(0)).await;
        let text = records.concat();
        let places: Vec<usize> = acknowledged
            .iter()
            .filter(|(len, _)| *len <= cut as u64)
            .map(|(_, said)| {
                assert_eq!(text.matches(&format!("\"{said}\"")).count(), 1, "cut at {cut}: {said}");
                text.find(said).unwrap()
            })
            .collect();
        assert!(places.is_sorted(), "cut at {cut}");
        let seqs: Vec<u64> = records.iter().map(|r| serde_json::from_str::<Record>(r).unwrap().seq).collect();
        assert!(seqs.is_sorted_by(|a, b| a < b), "cut at {cut}: {seqs:?}");
        assert!(session.open_messages().is_empty(), "everything left open is closed");
        if cut == bytes.len() {
            assert!(text.contains(r#""kind":"interrupted","text":"so far""#), "{text}");
            assert!(session.last_seq() > 4096, "numbers that pieces may have had are not given again");
        }
        // It goes on, and the next opening finds nothing to repair.
        let id = bench.message_id();
        session.accept(id, say("more")).await.unwrap();
        session.append(id, vec![done("yes")]).await.unwrap();
        let before = all(&session).await;
        drop((session, sessions));
        if cut % 4 > 0 {
            continue;
        }
        let sessions = bench.sessions();
        let session = sessions.load(sid, bench.owner()).await.unwrap();
        assert_eq!(all(&session).await, before, "cut at {cut}");
    }
}

#[tokio::test]
async fn a_changed_byte_costs_at_most_the_lines_it_touches() {
    let bench = Bench::new();
    let (sid, bytes, acknowledged) = small_log(&bench).await;
    let header = bytes.iter().position(|b| *b == b'\n').unwrap() + 1;
    for at in (header..bytes.len()).step_by(7) {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        std::fs::write(bench.file(sid, "log"), &changed).unwrap();
        let _ = std::fs::remove_file(bench.file(sid, "run"));
        let sessions = bench.sessions();
        let session = sessions.load(sid, bench.owner()).await.unwrap();
        let text = read_on(&mut session.tail(0)).await.concat();
        let lost = acknowledged.iter().filter(|(_, said)| !text.contains(&format!("\"{said}\""))).count();
        assert!(lost <= 2, "byte {at}: {lost} lost");
        let next = session.accept(bench.message_id(), say("more")).await.unwrap();
        assert!(next.seq > 4096, "byte {at}: pieces may have had numbers up to there");
    }
}

#[tokio::test]
async fn an_unreadable_header_sets_the_conversation_aside_and_touches_no_other() {
    let bench = Bench::new();
    let (sid, bytes, _) = small_log(&bench).await;
    let (other, _, _) = small_log(&bench).await;
    let mut changed = bytes.clone();
    changed[20] ^= 1;
    std::fs::write(bench.file(sid, "log"), &changed).unwrap();
    let sessions = bench.sessions();
    for _ in 0..2 {
        assert!(matches!(sessions.load(sid, bench.owner()).await, Err(StoreError::NotFound)));
    }
    let names: Vec<String> = std::fs::read_dir(bench.files()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().any(|name| name.starts_with(&format!("{sid}.log.bad"))), "{names:?}");
    assert!(names.iter().any(|name| name.starts_with(&format!("{sid}.json.kept-"))), "{names:?}");
    sessions.load(other, bench.owner()).await.unwrap();
}

#[tokio::test]
async fn a_newer_format_is_left_alone() {
    let bench = Bench::new();
    let sid = bench.session_id();
    bench.home();
    let mut line = Vec::new();
    crate::wire::log_line::write(&mut line, br#"{"oxios_log":2,"new":"things"}"#);
    std::fs::write(bench.file(sid, "log"), &line).unwrap();
    let sessions = bench.sessions();
    assert!(matches!(sessions.load(sid, bench.owner()).await, Err(StoreError::Newer { found: 2 })));
    assert_eq!(std::fs::read(bench.file(sid, "log")).unwrap(), line);
}

#[tokio::test]
async fn a_parked_run_stays_open_over_restarts_and_a_decided_one_is_resumed_at_most_three_times() {
    let bench = Bench::new();
    let (sid, id) = (bench.session_id(), bench.message_id());
    let (approval_id, parked) = asked(&bench);
    {
        let sessions = bench.sessions();
        let session = sessions.load_or_create(sid, bench.owner()).await.unwrap();
        session.accept(id, say("write it")).await.unwrap();
        session.append(id, vec![token("Shall I?")]).await.unwrap();
        session.append(id, parked).await.unwrap();
        assert!(!read_on(&mut session.tail(0)).await.concat().contains("secret plan"), "the state is not for readers");
    }
    for _ in 0..5 {
        let sessions = bench.sessions();
        let session = sessions.load(sid, bench.owner()).await.unwrap();
        assert_eq!(session.waiting(), [Waiting { message_id: id, approval_id, decision: None }]);
        assert_eq!(all(&session).await, ["1 message", "2 token", "3 checkpoint", "4 approval_requested"]);
        assert_eq!(session.last_checkpoint(id).await.unwrap(), Some(json!({"secret plan": 1})));
        assert!(!read_on(&mut session.tail(0)).await.concat().contains("secret plan"), "nor from disk");
    }
    {
        let sessions = bench.sessions();
        let session = sessions.load(sid, bench.owner()).await.unwrap();
        let seq = session.append(id, vec![resolved(approval_id)]).await.unwrap();
        assert!(seq > 4096, "pieces may have been shown up to there");
    }
    for _ in 0..3 {
        let sessions = bench.sessions();
        let session = sessions.load(sid, bench.owner()).await.unwrap();
        assert_eq!(session.waiting(), [Waiting { message_id: id, approval_id, decision: Some(Decision::Approved) }]);
        // The process dies before the resumed run leaves a record.
    }
    let sessions = bench.sessions();
    let session = sessions.load(sid, bench.owner()).await.unwrap();
    assert!(session.open_messages().is_empty());
    assert!(read_on(&mut session.tail(0)).await.concat().contains(r#""text":"Shall I?""#));
}

#[tokio::test]
async fn a_resumed_run_that_left_a_record_or_a_piece_is_interrupted_not_resumed_again() {
    for sign in [phase(), token("on we go")] {
        let bench = Bench::new();
        let (sid, id) = (bench.session_id(), bench.message_id());
        let (approval_id, parked) = asked(&bench);
        {
            let sessions = bench.sessions();
            let session = sessions.load_or_create(sid, bench.owner()).await.unwrap();
            session.accept(id, say("write it")).await.unwrap();
            session.append(id, parked).await.unwrap();
            session.append(id, vec![resolved(approval_id)]).await.unwrap();
            assert_eq!(session.waiting().len(), 1);
            session.append(id, vec![sign]).await.unwrap();
            assert_eq!(session.waiting(), []);
        }
        let sessions = bench.sessions();
        let session = sessions.load(sid, bench.owner()).await.unwrap();
        assert!(session.open_messages().is_empty());
    }
}

/// Kills the process at every call of a conversation, reopens, and compares with what was acknowledged.
#[tokio::test]
async fn stopped_at_every_call_nothing_acknowledged_is_lost_and_no_number_is_given_twice() {
    for torn in [0, 30] {
        for k in 0.. {
            let bench = Bench::new();
            let (sid, ids) = (bench.session_id(), [bench.message_id(), bench.message_id()]);
            let home = bench.home();
            bench.disk.tear(torn);
            bench.disk.stop_after(Some(k));
            let sessions = crate::store::sessions::Sessions::open(&home, bench.owner(), Default::default());
            drop(home);
            let mut seen: Vec<String> = Vec::new();
            let mut stopped = false;
            let session = sessions.load_or_create(sid, bench.owner()).await.unwrap();
            let mut reader = session.tail(0);
            'talk: for id in ids {
                let bodies = [
                    vec![token("a"), token("b")],
                    vec![Body::ToolCall { call_id: "1".into(), name: "w".into(), arguments: json!({}), risky: true, agent_id: None }],
                    vec![Body::ToolResult { call_id: "1".into(), outcome: ToolOutcome::Ok, content: "r".into(), blob: None }],
                    vec![token("c"), done("abc")],
                ];
                stopped = session.accept(id, say("hello")).await.is_err();
                if !stopped {
                    for bodies in bodies {
                        stopped = session.append(id, bodies).await.is_err();
                        if stopped {
                            break;
                        }
                    }
                }
                seen.extend(read_on(&mut reader).await);
                if stopped {
                    break 'talk;
                }
            }
            drop((session, sessions, reader));
            bench.disk.stop_after(None);
            let sessions = bench.sessions();
            let after = match sessions.load(sid, bench.owner()).await {
                Ok(session) => read_on(&mut session.tail(0)).await,
                Err(StoreError::NotFound) => Vec::new(),
                Err(e) => panic!("{e}"),
            };
            let number = |json: &String| serde_json::from_str::<Record>(json).unwrap().seq;
            for record in &seen {
                let same = after.iter().find(|other| number(other) == number(record));
                match same {
                    Some(other) => assert_eq!(other, record, "torn {torn}, stopped after {k}"),
                    None => assert!(record.contains("\"token\""), "torn {torn}, stopped after {k}: {record} is lost"),
                }
            }
            for id in ids {
                let of = |kind: &str| after.iter().filter(|r| r.contains(&id.to_string()) && r.contains(kind)).count();
                let ends = of(r#""kind":"done""#) + of(r#""kind":"interrupted""#);
                assert_eq!(ends, of(r#""kind":"message""#), "torn {torn}, stopped after {k}: exactly one end");
            }
            if !stopped {
                assert!(k > 15, "the loop went through all calls");
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_full_disk_refuses_messages_and_still_ends_what_runs() {
    let bench = Bench::new();
    let sessions = bench.sessions();
    let session = sessions.load_or_create(bench.session_id(), bench.owner()).await.unwrap();
    let id = bench.message_id();
    session.accept(id, say("hello")).await.unwrap();
    session.append(id, vec![token("so far")]).await.unwrap();
    bench.disk.set_budget(Some(5));
    assert!(matches!(session.append(id, vec![token("more")]).await, Err(StoreError::DiskFull(_))));
    assert!(matches!(session.accept(bench.message_id(), say("another")).await, Err(StoreError::DiskFull(_))));
    assert!(!bench.dir.join("reserve").exists(), "the reserve is given up");
    bench.disk.set_budget(None); // the megabyte that the reserve gave
    bench.disk.set_free(Some(900_000));
    assert!(matches!(session.accept(bench.message_id(), say("another")).await, Err(StoreError::DiskFull(_))), "still full");
    session.append(id, vec![done("so far")]).await.unwrap();
    assert_eq!(all(&session).await, ["1 message", "3 done"].map(str::to_owned));
    bench.disk.set_free(None);
    bench.clock.advance(std::time::Duration::from_secs(5));
    let again = bench.message_id();
    session.accept(again, say("another")).await.unwrap();
    session.append(again, vec![done("yes")]).await.unwrap();
    assert!(bench.dir.join("reserve").exists());
    assert_eq!(all(&session).await, ["1 message", "3 done", "4 message", "5 done"].map(str::to_owned));
}

#[tokio::test]
async fn a_failed_sync_acknowledges_nothing_and_the_log_goes_on() {
    let bench = Bench::new();
    let sessions = bench.sessions();
    let session = sessions.load_or_create(bench.session_id(), bench.owner()).await.unwrap();
    let id = bench.message_id();
    session.accept(id, say("hello")).await.unwrap();
    bench.disk.fail_syncs(1);
    assert!(session.append(id, vec![done("lost?")]).await.is_err());
    assert_eq!(session.last_seq(), 1, "nobody saw it");
    session.append(id, vec![done("kept")]).await.unwrap();
    assert!(matches!(session.append(id, vec![token("late")]).await, Err(StoreError::Ended)));
    let (sid, want) = (session.id(), all(&session).await);
    drop((session, sessions));
    let sessions = bench.sessions();
    let session = sessions.load(sid, bench.owner()).await.unwrap();
    assert_eq!((all(&session).await, want), (vec!["1 message".to_owned(), "2 done".to_owned()], vec!["1 message".into(), "2 done".into()]));
}

#[tokio::test]
async fn beyond_the_reservation_more_is_reserved_before_anything_is_shown() {
    let bench = Bench::new();
    let sessions = bench.sessions();
    let (sid, id) = (bench.session_id(), bench.message_id());
    let session = sessions.load_or_create(sid, bench.owner()).await.unwrap();
    session.accept(id, say("hello")).await.unwrap();
    let mut live = session.tail(0);
    for _ in 0..450 {
        session.append(id, vec![token("x"); 10]).await.unwrap();
    }
    let shown = session.last_seq();
    let records = kinds(&read_on(&mut live).await);
    assert_eq!(records.len() as u64, shown, "no holes");
    assert_eq!(records.iter().filter(|r| r.ends_with("reserve")).count(), 1);
    drop((session, live, sessions));
    std::fs::remove_file(bench.file(sid, "run")).unwrap(); // a power cut took the pieces
    let sessions = bench.sessions();
    let session = sessions.load(sid, bench.owner()).await.unwrap();
    assert!(session.last_seq() > shown + 1000, "{} {shown}", session.last_seq());
}

#[tokio::test]
async fn a_message_is_accepted_once_and_its_id_means_one_content_also_after_a_restart() {
    let bench = Bench::new();
    let (sid, id) = (bench.session_id(), bench.message_id());
    for round in 0..2 {
        let sessions = bench.sessions();
        let session = sessions.load_or_create(sid, bench.owner()).await.unwrap();
        let accepted = session.accept(id, say("hello")).await.unwrap();
        assert_eq!((accepted.seq, accepted.fresh), (1, round == 0));
        assert!(matches!(session.accept(id, say("other")).await, Err(StoreError::Conflict)));
        let mut other = say("hello");
        other.user_id = "someone".into();
        assert!(matches!(session.accept(id, other).await, Err(StoreError::Conflict)));
        if round == 0 {
            session.append(id, vec![done("hi")]).await.unwrap();
        }
        let other_owner = crate::base::ids::OwnerId::derived(&[9; 32]);
        assert!(matches!(sessions.load(sid, other_owner).await, Err(StoreError::NotFound)));
        assert!(matches!(sessions.load_or_create(sid, other_owner).await, Err(StoreError::NotFound)));
    }
}

/// A later version may know more kinds; and a number that is none makes no number of ours run over.
#[tokio::test]
async fn lines_that_no_reader_is_shown_keep_nobody_waiting() {
    let bench = Bench::new();
    let (sid, id) = (bench.session_id(), bench.message_id());
    let session = bench.sessions().load_or_create(sid, bench.owner()).await.unwrap();
    session.accept(id, say("hello")).await.unwrap();
    session.append(id, vec![done("hi")]).await.unwrap();
    drop(session);
    let mut log = std::fs::read(bench.file(sid, "log")).unwrap();
    for (seq, kind) in [("3", "novelty"), ("18446744073709551615", "done"), ("4", "reserve\",\"until\":9007199254740992,\"x\":\"")] {
        let json = format!(r#"{{"seq":{seq},"time":"2027-01-01T00:00:00.000Z","message_id":"{id}","kind":"{kind}"}}"#);
        crate::wire::log_line::write(&mut log, json.as_bytes());
    }
    std::fs::write(bench.file(sid, "log"), &log).unwrap();
    let session = bench.sessions().load(sid, bench.owner()).await.unwrap();
    assert!(session.last_seq() == 2 && session.tail(2).caught_up(), "last {}", session.last_seq());
    let id = bench.message_id();
    assert!(session.accept(id, say("again")).await.unwrap().seq > 3, "a number that was given stays given");
    session.append(id, vec![done("yes")]).await.unwrap();
    drop(session);
    let session = bench.sessions().load(sid, bench.owner()).await.unwrap();
    let seen: Vec<String> = all(&session).await.iter().map(|seen| seen.split_once(' ').unwrap().1.to_owned()).collect();
    assert_eq!(seen, ["message", "done", "message", "done"]);
}

#[test]
fn seeded_randomness_is_the_same_in_every_run() {
    let mut bytes = [0; 4];
    Bench::new().random.fill(&mut bytes);
    let mut again = [0; 4];
    Bench::new().random.fill(&mut again);
    assert_eq!(bytes, again);
}

/// A run that asked often lost its own message behind the states that it left: what was approved was never done.
#[tokio::test]
async fn the_message_of_a_long_run_is_there_whatever_came_behind_it() {
    let bench = Bench::new();
    let (sid, id) = (bench.session_id(), bench.message_id());
    let session = bench.sessions().load_or_create(sid, bench.owner()).await.unwrap();
    session.accept(id, say("hello")).await.unwrap();
    let mega = "x".repeat(1024 * 1024);
    let call = |n: usize| Body::ToolCall { call_id: n.to_string(), name: "a".into(), arguments: json!(mega), risky: true, agent_id: None };
    for n in 0..20 {
        let state = Body::Checkpoint { calls: 1, tokens: 1, seed_id: None, state: Some(json!(mega)) };
        session.append(id, vec![state, call(n)]).await.unwrap();
    }
    let records = session.records_of(id).await.unwrap();
    let kind = |record: &Record| serde_json::to_value(record).unwrap()["kind"].as_str().unwrap().to_owned();
    assert_eq!(kind(&records[0]), "message");
    assert_eq!(records.len(), 1 + 15, "the newest of the others, within 16 MiB");
    assert!(records[1..].iter().all(|record| kind(record) == "tool_call"));
    assert!(matches!(&records[15].body, Body::ToolCall { call_id, .. } if call_id == "19"));
}

/// What a reader sees while the run lives it must also see afterwards, from disk.
#[tokio::test]
async fn a_record_that_could_not_be_read_again_is_not_written() {
    let bench = Bench::new();
    let (sid, id) = (bench.session_id(), bench.message_id());
    let sessions = bench.sessions();
    let session = sessions.load_or_create(sid, bench.owner()).await.unwrap();
    session.accept(id, say("hello")).await.unwrap();
    let mut kept = 0;
    for depth in [1, 50, 60, 80, 100, 120, 126, 127] {
        let deep = (1..depth).fold(json!({}), |inner, _| json!({ "a": inner }));
        let bodies = vec![
            Body::ToolCall { call_id: depth.to_string(), name: "write_file".into(), arguments: deep.clone(), risky: true, agent_id: None },
            Body::Checkpoint { calls: 1, tokens: 1, seed_id: None, state: Some(deep) },
        ];
        kept += usize::from(session.append(id, bodies).await.is_ok());
    }
    assert!(kept >= 3, "what a client or model may send is kept");
    let records = session.records_of(id).await.unwrap();
    assert_eq!(records.len(), 1 + kept, "each that was taken is read");
    assert!(session.last_checkpoint(id).await.unwrap().is_some());
}
