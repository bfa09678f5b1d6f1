//! Sessions: list, detail, events, delete, prune, import, restart (API A5 and B).

use serde_json::{Value, json};

use crate::support::client::{Ask, Client};
use crate::support::scripted::{Do, Gate, Reply, Scripted};
use crate::support::server::{Setup, command};

async fn say(client: &Client, content: &str, session: Option<&str>) -> Value {
    client.post("/api/chat", &json!({"content": content, "session_id": session})).await.expect(200).json()
}

fn id(answer: &Value) -> String {
    answer["session_id"].as_str().unwrap().to_owned()
}

#[track_caller]
fn check_time(value: &Value) {
    assert!(oxios_edge::base::time::Timestamp::parse(value.as_str().unwrap()).is_some(), "a time: {value}");
}

#[tokio::test]
async fn the_list_is_newest_first_and_by_page() {
    let server = Setup::new().start();
    let client = server.client();
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(id(&say(&client, &format!("hello {n}"), None).await));
    }
    say(&client, "again", Some(&ids[1])).await;
    let expected = [&ids[1], &ids[4], &ids[3], &ids[2], &ids[0]];
    let list = client.get("/api/sessions").await.expect(200).json();
    let got: Vec<_> = list["items"].as_array().unwrap().iter().map(|i| i["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(got.iter().collect::<Vec<_>>(), expected, "newest updated_at first");
    assert_eq!((&list["total"], &list["page"], &list["limit"]), (&json!(5), &json!(1), &json!(50)));
    for item in list["items"].as_array().unwrap() {
        let keys: Vec<_> = item.as_object().unwrap().keys().map(String::as_str).collect();
        for key in ["id", "user_id", "space_id", "message_count", "active_seed_id", "created_at", "updated_at"] {
            assert!(keys.contains(&key), "{key} in {item}");
        }
        check_time(&item["created_at"]);
        check_time(&item["updated_at"]);
        assert_eq!(item["user_id"], "default");
    }
    assert!(list["items"][0]["message_count"].as_u64() > list["items"][1]["message_count"].as_u64());
    let page = client.get("/api/sessions?page=2&limit=2").await.expect(200).json();
    assert_eq!(page["items"][0]["id"].as_str(), Some(expected[2].as_str()));
    assert_eq!(
        (page["items"].as_array().unwrap().len(), &page["total"], &page["page"], &page["limit"]),
        (2, &json!(5), &json!(2), &json!(2))
    );
    assert_eq!(client.get("/api/sessions?limit=9999").await.expect(200).json()["limit"], 500);
    assert_eq!(client.get("/api/sessions?page=0").await.expect(200).json()["page"], 1);
    assert_eq!(client.get("/api/sessions?page=99").await.expect(200).json()["items"], json!([]));
    for bad in ["page=x", "limit=x", "page=-1", "limit=1.5", "page="] {
        client.get(&format!("/api/sessions?{bad}")).await.expect(400).error();
    }
}

#[tokio::test]
async fn the_detail_has_the_documented_shape_and_the_file_too() {
    let model = Scripted::start();
    model.next(Reply::text(&["first answer"])).next(Reply::text(&["second answer \u{1f980}"]));
    let server = Setup::new().openai(&model).start();
    let client = server.client();
    let session = id(&say(&client, "first question", None).await);
    say(&client, "second question", Some(&session)).await;
    let detail = client.get(&format!("/api/sessions/{session}")).await.expect(200).json();
    assert_eq!(detail["id"], session.as_str());
    assert_eq!(detail["user_messages"][0]["content"], "first question");
    assert_eq!(detail["user_messages"][1]["content"], "second question");
    check_time(&detail["user_messages"][0]["timestamp"]);
    let answer = &detail["agent_responses"][1];
    assert_eq!(answer["content"], "second answer \u{1f980}");
    assert_eq!(answer["session_id"], session.as_str());
    assert_eq!(answer["phase_reached"], "Interview");
    assert!(answer["evaluation_passed"].is_null() || answer["evaluation_passed"].is_boolean());
    assert!(answer.as_object().unwrap().contains_key("seed_id"));
    check_time(&answer["timestamp"]);
    for key in ["user_id", "space_id", "active_seed_id", "active_persona_id", "created_at", "updated_at", "metadata"] {
        assert!(detail.as_object().unwrap().contains_key(key), "{key} in {detail}");
    }
    assert!(detail["metadata"].is_object());
    let file: Value = serde_json::from_slice(&std::fs::read(server.session_file(&format!("{session}.json"))).unwrap()).unwrap();
    assert_eq!(file["user_messages"], detail["user_messages"]);
    assert_eq!(file["agent_responses"], detail["agent_responses"]);
    assert_eq!((&file["id"], &file["user_id"]), (&detail["id"], &detail["user_id"]));
    assert!(!file.as_object().unwrap().contains_key("space_id"), "that is in metadata");
    client.get("/api/sessions/67e55044-10b1-426f-9247-bb680e5fe0c8").await.expect(404).error();
    for bad in ["nothing", "67E55044-10B1-426F-9247-BB680E5FE0C8", "..%2f..%2ftoken"] {
        let status = client.get(&format!("/api/sessions/{bad}")).await.status;
        assert!(matches!(status, 400 | 404), "{bad}: {status}");
    }
}

#[tokio::test]
async fn everything_is_found_again_after_a_crash() {
    let model = Scripted::start();
    model.next(Reply::text(&["one"])).next(Reply::text(&["two"])).next(Reply::text(&["three"]));
    let mut server = Setup::new().openai(&model).start();
    let session = id(&say(&server.client(), "first", None).await);
    say(&server.client(), "second", Some(&session)).await;
    let before = server.client().get(&format!("/api/sessions/{session}")).await.expect(200).json();
    let target = format!("/api/sessions/{session}/events?after=0&until=idle");
    let records = server.client().sse(&target).await.rest().await;
    server.kill9();
    server.restart();
    let after = server.client().get(&format!("/api/sessions/{session}")).await.expect(200).json();
    assert_eq!(before["user_messages"], after["user_messages"]);
    assert_eq!(before["agent_responses"], after["agent_responses"]);
    assert_eq!(server.client().sse(&target).await.rest().await, records, "the same records, from disk");
    say(&server.client(), "third", Some(&session)).await;
    let told = model.seen()[2].told();
    for part in ["first", "one", "second", "two", "third"] {
        assert!(told.contains(part), "{part:?} is remembered: {told}");
    }
}

/// API B: SSE of the session log.
#[tokio::test]
async fn the_events_of_a_session_are_its_log() {
    let model = Scripted::start();
    let gate = Gate::new();
    model.next(Reply::text(&["a"]).wait(&gate).say("b")).next(Reply::text(&["c"]));
    let server = Setup::new().openai(&model).start();
    let client = server.client();
    let session = "0f3ae2a4-9c1b-4f6e-8d57-1f2e3d4c5c01";
    let posting = tokio::spawn({
        let client = client.clone();
        async move { say(&client, "go", Some(session)).await }
    });
    gate.reached(1).await;
    let mut live = client.sse(&format!("/api/sessions/{session}/events?until=done")).await;
    let mut records = live.until(|r| r["kind"] == "token").await;
    gate.open();
    records.extend(live.rest().await);
    posting.await.unwrap();
    // Live, seq has no holes.
    for pair in records.windows(2) {
        assert_eq!(pair[0]["seq"].as_u64().unwrap() + 1, pair[1]["seq"].as_u64().unwrap(), "{records:#?}");
    }
    assert_eq!(records[0]["kind"], "message");
    assert_eq!(records[0]["content"], "go");
    assert_eq!(records.last().unwrap()["kind"], "done");
    for record in &records {
        check_time(&record["time"]);
        assert_eq!(record["message_id"], records[0]["message_id"]);
    }
    // Afterwards the same without the pieces.
    let stored = client.sse(&format!("/api/sessions/{session}/events?after=0&until=idle")).await.rest().await;
    let expected: Vec<_> = records.iter().filter(|r| r["kind"] != "token" && r["kind"] != "draft").cloned().collect();
    assert_eq!(stored, expected);
    // A cursor by header, by query, and the id: lines that make them.
    let after = stored[0]["seq"].to_string();
    let mut tail = client.sse_after(&format!("/api/sessions/{session}/events?until=idle"), &after).await;
    let event = tail.next().await.unwrap();
    assert_eq!(event.json(), stored[1]);
    assert_eq!(event.id, Some(stored[1]["seq"].to_string()));
    assert_eq!(client.sse(&format!("/api/sessions/{session}/events?until=idle&after={after}")).await.rest().await, stored[1..]);
    // `until=done` ends after the first terminal record behind the cursor.
    say(&client, "more", Some(session)).await;
    let first = client.sse(&format!("/api/sessions/{session}/events?after=0&until=done")).await.rest().await;
    assert_eq!(first.last(), stored.last());
    for bad in ["after=x", "after=-1", "until=never"] {
        client.get(&format!("/api/sessions/{session}/events?{bad}")).await.expect(400).error();
    }
    client.get("/api/sessions/67e55044-10b1-426f-9247-bb680e5fe0c8/events").await.expect(404).error();
}

#[tokio::test]
async fn a_cursor_beyond_the_end_is_told_so_and_gets_the_log() {
    let server = Setup::new().start();
    let client = server.client();
    let session = id(&say(&client, "hello", None).await);
    let all = client.sse(&format!("/api/sessions/{session}/events?after=0&until=idle")).await.rest().await;
    let lost = client.sse(&format!("/api/sessions/{session}/events?after=99999999&until=idle")).await.rest().await;
    let last = all.last().unwrap()["seq"].clone();
    assert!(lost[0]["kind"] == "resync" || lost[0]["type"] == "resync", "{:?}", lost[0]);
    assert_eq!(lost[0]["last_seq"], last);
    assert_eq!(lost[1..], all[..]);
}

/// DESIGN §2: a seq that a reader may have seen is never given to another record.
#[tokio::test]
async fn numbers_are_never_given_twice_across_a_kill() {
    numbers_after(false).await;
}

/// What was not synced may be gone after a power cut: the pieces, and everything in the log behind the message's record.
#[tokio::test]
async fn numbers_are_never_given_twice_across_a_power_cut() {
    numbers_after(true).await;
}

async fn numbers_after(power_cut: bool) {
    let model = Scripted::start();
    let gate = Gate::new();
    model.next(Reply::text(&["a", "b", "c"]).wait(&gate)).next(Reply::text(&["d"]));
    let mut server = Setup::new().openai(&model).start();
    let session = "0f3ae2a4-9c1b-4f6e-8d57-1f2e3d4c5c02";
    let client = server.client();
    let posting = tokio::spawn(async move { client.post("/api/chat", &json!({"content": "go", "session_id": session})).await });
    gate.reached(1).await;
    let mut events = server.client().sse(&format!("/api/sessions/{session}/events")).await;
    let mut text = String::new();
    let mut seen = Vec::new();
    while text != "abc" {
        let record = events.json().await;
        if record["kind"] == "token" {
            text += record["text"].as_str().unwrap();
        }
        seen.push(record);
    }
    posting.abort();
    server.kill9();
    if power_cut {
        std::fs::remove_file(server.session_file(&format!("{session}.run"))).unwrap();
        let path = server.session_file(&format!("{session}.log"));
        let bytes = std::fs::read(&path).unwrap();
        let message = bytes.windows(16).position(|w| w == b"\"kind\":\"message\"").expect("the message is in the log");
        let end = message + bytes[message..].iter().position(|b| *b == b'\n').unwrap() + 1;
        assert!(end < bytes.len(), "there is something to lose");
        std::fs::write(&path, &bytes[..end]).unwrap();
    }
    server.restart();
    say(&server.client(), "next", Some(session)).await;
    let stored = server.client().sse(&format!("/api/sessions/{session}/events?after=0&until=idle")).await.rest().await;
    for record in &seen {
        let twin = stored.iter().find(|r| r["seq"] == record["seq"]);
        match record["kind"].as_str().unwrap() {
            "token" | "draft" => assert_eq!(twin, None, "the number of a piece stands for nothing else"),
            "message" => assert_eq!(twin, Some(record)),
            // Lost with the power, or there; never another one.
            _ => assert!(twin == Some(record) || (power_cut && twin.is_none()), "{record} became {twin:?}"),
        }
    }
    let cut = stored.iter().find(|r| r["kind"] == "interrupted").expect("the cut run ends as interrupted");
    assert_eq!(cut["text"], if power_cut { "" } else { "abc" });
    assert!(cut["seq"].as_u64() > seen.last().unwrap()["seq"].as_u64());
}

#[tokio::test]
async fn a_deleted_session_is_gone_and_its_id_is_refused() {
    let model = Scripted::start();
    let gate = Gate::new();
    model.next(Reply::text(&["x"]).wait(&gate)).next(Reply::text(&["other"]));
    let mut server = Setup::new().openai(&model).start();
    let client = server.client();
    let session = "0f3ae2a4-9c1b-4f6e-8d57-1f2e3d4c5c03";
    let running = client.clone();
    let post = tokio::spawn(async move { running.post("/api/chat", &json!({"content": "go", "session_id": session})).await });
    gate.reached(1).await;
    let mut events = client.sse(&format!("/api/sessions/{session}/events")).await;
    let answer = client.delete(&format!("/api/sessions/{session}")).await.expect(200).json();
    assert_eq!(answer, json!({"status": "deleted", "id": session}));
    model.request(1).await.cut().await;
    let status = post.await.unwrap().status;
    assert!(matches!(status, 404 | 409), "{status}");
    let seen = events.until(|r| r["kind"] == "deleted" || r["type"] == "deleted").await;
    assert!(!seen.is_empty());
    assert!(events.next().await.is_none(), "readers are told and ended");
    for n in 0..2 {
        let client = server.client();
        let answer = client.delete(&format!("/api/sessions/{session}")).await.expect(404);
        assert!(answer.body.is_empty(), "API A1: empty");
        client.get(&format!("/api/sessions/{session}")).await.expect(404);
        client.get(&format!("/api/sessions/{session}/events")).await.expect(404);
        client.post("/api/chat", &json!({"content": "again", "session_id": session})).await.expect(404);
        assert_eq!(client.get("/api/sessions").await.expect(200).json()["total"], 0);
        if n == 0 {
            server.kill9();
            server.restart();
        }
    }
    let left: Vec<_> = std::fs::read_dir(server.session_file(""))
        .unwrap()
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with(session))
        .collect();
    for file in left {
        let text = std::fs::read_to_string(file.path()).unwrap_or_default();
        assert!(!text.contains("\"go\""), "nothing of the conversation is left in {file:?}");
    }
    let bad = server.client().delete("/api/sessions/nonsense").await.expect(400);
    assert!(bad.body.is_empty());
    say(&server.client(), "another session works", None).await;
}

#[tokio::test]
async fn pruning_keeps_the_newest_and_what_is_in_use() {
    let model = Scripted::start();
    let gate = Gate::new();
    model.on("oldest", Reply::text(&["x"]).wait(&gate));
    model.always(Reply::text(&["ok"]));
    let server = Setup::new().openai(&model).env("OXIOS_SESSION__MAX_SESSIONS", "2").env("OXIOS_SESSION__AUTO_PRUNE", "false").start();
    let client = server.client();
    let busy = "0f3ae2a4-9c1b-4f6e-8d57-1f2e3d4c5c04";
    let running = client.clone();
    let post = tokio::spawn(async move { running.post("/api/chat", &json!({"content": "oldest", "session_id": busy})).await });
    gate.reached(1).await;
    let mut ids = Vec::new();
    for n in 0..4 {
        ids.push(id(&say(&client, &format!("m{n}"), None).await));
    }
    let answer = client.post_empty("/api/sessions/prune").await.expect(200).json();
    assert_eq!(answer["status"], "pruned");
    assert_eq!(answer["config"], json!({"max_sessions": 2, "ttl_hours": 0}));
    assert_eq!(answer["count"], 2, "{answer}");
    let audit = std::fs::read_to_string(server.home().join("workspace/audit/1.log")).unwrap();
    let pruned: Vec<&str> = audit.lines().filter(|line| line.contains("\"what\":\"session pruned\"")).collect();
    for outcome in ["begun", "done"] {
        let said = format!("\"outcome\":\"{outcome}\"");
        assert_eq!(pruned.iter().filter(|line| line.contains(&said)).count(), 2, "each deletion is in the audit log: {pruned:?}");
    }
    for (n, session) in ids.iter().enumerate() {
        let expected = if n < 2 { 404 } else { 200 };
        client.get(&format!("/api/sessions/{session}")).await.expect(expected);
    }
    gate.open();
    post.await.unwrap().expect(200);
    client.get(&format!("/api/sessions/{busy}")).await.expect(200);
}

/// API A5: existing files of this shape open unchanged.
#[tokio::test]
async fn a_session_file_from_elsewhere_is_imported() {
    let model = Scripted::start();
    model.next(Reply::text(&["welcome back"]));
    let home = std::sync::Arc::new(crate::support::server::TempDir::new());
    let folder = home.path().join("workspace/sessions");
    std::fs::create_dir_all(&folder).unwrap();
    let old = "b0e5c7f2-1f8e-4f4d-9c42-3f6f6d2b7a10";
    let text = json!({
        "id": old, "user_id": "alice",
        "user_messages": [{"content": "remember the milk", "timestamp": "2025-05-01T10:00:00Z"}, {"content": "and eggs", "timestamp": "2025-05-01T10:02:00.5+02:00"}],
        "agent_responses": [
            {"content": "noted milk", "session_id": old, "seed_id": null, "phase_reached": "Interview", "evaluation_passed": null, "timestamp": "2025-05-01T10:00:05Z"},
            {"content": "noted eggs", "session_id": old, "seed_id": "1c9d4f9e-6a5b-4f0e-9a38-0f2f7d1c2b3a", "phase_reached": "Evaluate", "evaluation_passed": true, "timestamp": "2025-05-01T10:02:09Z"}],
        "active_seed_id": null, "active_persona_id": null,
        "created_at": "2025-05-01T10:00:00Z", "updated_at": "2025-05-01T10:02:09Z", "metadata": {"title": "shopping"}
    })
    .to_string();
    std::fs::write(folder.join(format!("{old}.json")), &text).unwrap();
    // Beside it: one that is damaged, one that is something else; neither disturbs the others nor the start.
    std::fs::write(folder.join("c1e5c7f2-1f8e-4f4d-9c42-3f6f6d2b7a11.json"), "{\"id\": tru").unwrap();
    std::fs::write(folder.join("notes.txt"), "hello").unwrap();
    let server = Setup::new().openai(&model).start_in(home);
    let client = server.client();
    let list = client.get("/api/sessions").await.expect(200).json();
    assert_eq!(list["items"][0]["id"], old, "{list}");
    assert_eq!(list["items"][0]["user_id"], "alice");
    let detail = client.get(&format!("/api/sessions/{old}")).await.expect(200).json();
    assert_eq!(detail["user_messages"][1]["content"], "and eggs");
    assert_eq!(detail["agent_responses"][1]["content"], "noted eggs");
    assert_eq!(detail["agent_responses"][1]["phase_reached"], "Evaluate");
    assert_eq!(detail["agent_responses"][1]["evaluation_passed"], true);
    assert_eq!(detail["metadata"]["title"], "shopping");
    assert_eq!(std::fs::read_to_string(server.session_file(&format!("{old}.json"))).unwrap(), text, "unchanged until its next turn");
    let records = client.sse(&format!("/api/sessions/{old}/events?after=0&until=idle")).await.rest().await;
    assert_eq!(records[0]["seq"], 1);
    assert_eq!(records[0]["content"], "remember the milk");
    assert_eq!(say(&client, "what was on the list?", Some(old)).await["reply"], "welcome back");
    let told = model.seen()[0].told();
    for part in ["remember the milk", "noted milk", "and eggs", "noted eggs", "what was on the list?"] {
        assert!(told.contains(part), "{part:?} in {told}");
    }
    let file: Value = serde_json::from_slice(&std::fs::read(server.session_file(&format!("{old}.json"))).unwrap()).unwrap();
    assert_eq!(file["user_messages"].as_array().unwrap().len(), 3);
    assert_eq!(file["metadata"]["title"], "shopping");
}

/// THREATS 28: damage stays in one conversation.
#[tokio::test]
async fn a_torn_tail_is_repaired_and_a_rotten_log_harms_no_other() {
    let mut server = Setup::new().start();
    let client = server.client();
    let torn = id(&say(&client, "torn", None).await);
    let rotten = id(&say(&client, "rotten", None).await);
    let whole = id(&say(&client, "whole", None).await);
    let before = client.get(&format!("/api/sessions/{torn}")).await.expect(200).json();
    server.kill9();
    let path = server.session_file(&format!("{torn}.log"));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend_from_slice(b"half a line without its e");
    std::fs::write(&path, bytes).unwrap();
    let path = server.session_file(&format!("{rotten}.log"));
    let length = std::fs::metadata(&path).unwrap().len();
    std::fs::write(&path, vec![0xA5; usize::try_from(length).unwrap()]).unwrap();
    server.restart();
    let client = server.client();
    let after = client.get(&format!("/api/sessions/{torn}")).await.expect(200).json();
    assert_eq!(after["user_messages"], before["user_messages"]);
    assert_eq!(after["agent_responses"], before["agent_responses"]);
    say(&client, "it goes on", Some(&torn)).await;
    client.get(&format!("/api/sessions/{whole}")).await.expect(200);
    client.get("/api/sessions").await.expect(200);
    let status = client.get(&format!("/api/sessions/{rotten}")).await.status;
    assert!(matches!(status, 200 | 404 | 500), "a clear answer, whatever is left: {status}");
    client.get("/health").await.expect(200);
}

#[tokio::test]
async fn long_answers_and_many_turns_keep_their_order() {
    let model = Scripted::start();
    let long: String = (0..2000).map(|n| format!("word{n} ")).collect();
    let pieces: Vec<&str> = long.split_inclusive(' ').collect();
    model.next(Reply::text(&pieces));
    for n in 0..20 {
        model.next(Reply::text(&[&format!("answer {n}")]));
    }
    let server = Setup::new().openai(&model).start();
    let client = server.client();
    let first = say(&client, "long one", None).await;
    assert_eq!(first["reply"], long.as_str());
    for n in 0..20 {
        let answer = say(&client, &format!("question {n}"), Some(&id(&first))).await;
        assert_eq!(answer["reply"], format!("answer {n}"));
    }
    let detail = client.get(&format!("/api/sessions/{}", id(&first))).await.expect(200).json();
    for n in 0..20 {
        assert_eq!(detail["user_messages"][n + 1]["content"], format!("question {n}"));
        assert_eq!(detail["agent_responses"][n + 1]["content"], format!("answer {n}"));
    }
}

#[tokio::test]
async fn files_of_the_home_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let server = Setup::new().start();
    say(&server.client(), "hello", None).await;
    let mut folders = vec![server.home().to_owned()];
    let mut count = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().flatten() {
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            let expected = if entry.path().is_dir() { 0o700 } else { 0o600 };
            assert_eq!(mode, expected, "{:?} has mode {mode:o}", entry.path());
            count += 1;
            if entry.path().is_dir() {
                folders.push(entry.path());
            }
        }
    }
    assert!(count >= 5);
    let keys = std::fs::read_to_string(server.home().join("keys.json")).unwrap();
    assert!(!keys.contains(server.key()), "keys are hashed at rest");
}

#[tokio::test]
async fn a_key_file_that_others_can_read_is_not_taken_silently() {
    use std::os::unix::fs::PermissionsExt;
    let mut server = Setup::new().start();
    assert!(server.stop().await.success());
    std::fs::set_permissions(server.home().join("token"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let output = command(server.home()).args(["doctor"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("0600") || text.contains("chmod 600") || text.contains("readable"), "{text}");
}

/// A reader that does not read stops nobody, and costs a bounded amount (DESIGN §2).
#[tokio::test]
async fn a_reader_that_does_not_read_stops_nobody() {
    let model = Scripted::start();
    let gate = Gate::new();
    let piece = "x".repeat(4096);
    let mut reply = Reply::new().wait(&gate);
    for _ in 0..200 {
        reply = reply.then(Do::Say(piece.clone()));
    }
    model.next(reply);
    let server = Setup::new().openai(&model).start();
    let client = server.client();
    let session = "0f3ae2a4-9c1b-4f6e-8d57-1f2e3d4c5c05";
    let running = client.clone();
    let post = tokio::spawn(async move { running.post("/api/chat", &json!({"content": "go", "session_id": session})).await });
    gate.reached(1).await;
    let stuck = client.open(Ask::new("GET", format!("/api/sessions/{session}/events"))).await;
    gate.open();
    let answer = post.await.unwrap().expect(200).json();
    assert_eq!(answer["reply"].as_str().unwrap().len(), 200 * 4096);
    // When it reads at last it gets the end of the story.
    let mut late = crate::support::sse::Sse::new(stuck);
    let end = late.until(|r| r["kind"] == "done").await.pop().unwrap();
    assert_eq!(end["text"], answer["reply"]);
}
