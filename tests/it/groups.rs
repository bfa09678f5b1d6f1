//! Groups of agents (API A6, A4): a task whose criteria do not depend on one another is worked on by several agents at once,
//! under the process's permits; the joined answer is judged as a whole.

use serde_json::{Value, json};

use crate::support::client::{Ask, Client};
use crate::support::scripted::{Do, Gate, Reply, Scripted};
use crate::support::server::{Server, Setup};

const SESSION: &str = "0f3ae2a4-9c1b-4f6e-8d57-1f2e3d4c5a01";

fn task() -> Reply {
    let criteria = ["names a river", "names a hill"];
    Reply::tool("start_task", &json!({"goal": "Describe the place", "constraints": [], "acceptance_criteria": criteria}))
}

fn split() -> Reply {
    let parts = json!([{"goal": "find-the-river", "acceptance_criteria": ["names a river"]}, {"goal": "find-the-hill"}]);
    Reply::new().call("go", "split_task", &json!({"parts": parts}))
}

fn judged() -> Reply {
    Reply::json(&json!({"passed": true, "score": 1, "notes": "", "criteria": []}))
}

async fn say(client: &Client, content: &str) -> crate::support::client::Answer {
    client.post("/api/chat", &json!({"content": content, "session_id": SESSION})).await
}

async fn records(server: &Server) -> Vec<Value> {
    server.client().sse(&format!("/api/sessions/{SESSION}/events?after=0&until=idle")).await.rest().await
}

async fn agents(client: &Client) -> Vec<Value> {
    client.get("/api/agents").await.expect(200).json()["items"].as_array().unwrap().clone()
}

async fn become_so(client: &Client, wanted: &[&str]) {
    let words = |all: &[Value]| -> Vec<String> {
        let mut words: Vec<_> = all.iter().map(|a| format!("{}:{}", a["name"].as_str().unwrap(), a["status"].as_str().unwrap())).collect();
        words.sort();
        words
    };
    let so = async {
        while words(&agents(client).await) != wanted {
            tokio::task::yield_now().await;
        }
    };
    let in_time = tokio::time::timeout(std::time::Duration::from_secs(20), so).await;
    assert!(in_time.is_ok(), "{:?}, not {wanted:?}", words(&agents(client).await));
}

async fn status(client: &Client) -> Value {
    client.get("/api/status").await.expect(200).json()["components"]["agents"].clone()
}

#[tokio::test]
async fn members_work_at_the_same_time_and_their_joined_answer_is_judged_as_a_whole() {
    let (model, gate) = (Scripted::start(), Gate::new());
    model.phase("interview", task());
    model.next(split());
    // Both members are at the gate before either goes on: they work at the same time.
    model.on("Goal: find-the-river", Reply::tool("recall", &json!({"query": "river"})));
    model.on("Goal: find-the-river", Reply::new().wait(&gate).say("The river is the Aller."));
    model.on("Goal: find-the-hill", Reply::new().wait(&gate).say("The hill is the Brocken."));
    model.on("Part 2: find-the-hill", Reply::text(&["The Aller flows below the Brocken."]));
    model.phase("evaluate", judged());
    let server = Setup::new().openai(&model).start();
    let client = server.client();
    let mut events = client.sse("/api/events").await;
    let other = client.clone();
    let answer = tokio::spawn(async move { say(&other, "Describe the place").await });
    gate.reached(2).await;
    become_so(&client, &["member:running", "member:running", "task:running"]).await;
    assert_eq!(status(&client).await, json!({"active_count": 3, "total_forked": 3, "total_completed": 0, "total_failed": 0}));
    let all = agents(&client).await;
    let parent = all.iter().find(|a| a["name"] == "task").unwrap();
    for member in all.iter().filter(|a| a["name"] == "member") {
        assert_eq!((&member["parent_id"], &member["seed_id"]), (&parent["id"], &parent["seed_id"]));
    }
    gate.open_for_good();
    assert_eq!(answer.await.unwrap().expect(200).json()["reply"], "The Aller flows below the Brocken.");
    become_so(&client, &["member:stopped", "member:stopped", "task:stopped"]).await;
    assert_eq!(status(&client).await, json!({"active_count": 0, "total_forked": 3, "total_completed": 3, "total_failed": 0}));

    // The member's own request holds its part only, and what it may use: nothing that a person would be asked about.
    let seen = model.seen();
    let member = seen.iter().find(|s| s.told().contains("Goal: find-the-river")).unwrap();
    assert!(member.told().contains("names a river") && !member.told().contains("names a hill"), "{}", member.told());
    assert!(!member.tools().iter().any(|t| t == "write_file" || t == "split_task"), "{:?}", member.tools());
    // The log says who called what; ids of calls are one for each.
    let records = records(&server).await;
    let calls: Vec<_> = records.iter().filter(|r| r["kind"] == "tool_call").collect();
    assert_eq!(calls.len(), 2, "{calls:?}");
    assert_eq!((&calls[0]["call_id"], &calls[0]["name"], &calls[0]["agent_id"]), (&json!("go"), &json!("split_task"), &Value::Null));
    assert_eq!((&calls[1]["call_id"], &calls[1]["name"]), (&json!("go_1_1"), &json!("recall")));
    assert!(all.iter().any(|a| a["name"] == "member" && a["id"] == calls[1]["agent_id"]), "{calls:?}");
    let result = records.iter().find(|r| r["kind"] == "tool_result" && r["call_id"] == "go").unwrap();
    let text = result["content"].as_str().unwrap();
    assert!(text.contains("Part 1: find-the-river\nThe river is the Aller.") && text.contains("The hill is the Brocken."), "{text}");
    assert_eq!(records.iter().filter(|r| r["kind"] == "usage").count(), 7, "every model call is in the log");
    // A second split is neither offered nor made.
    assert!(!seen.iter().rev().nth(1).unwrap().tools().iter().any(|t| t == "split_task"));
    let group = events.until(|e| e["type"] == "agent_group_created").await.pop().unwrap();
    assert_eq!((&group["members"], &group["agent_id"]), (&json!(2), &parent["id"]));
    for _ in 0..2 {
        let completed = events.until(|e| e["type"] == "agent_group_member_completed").await.pop().unwrap();
        assert_eq!((&completed["outcome"], &completed["parent_id"]), (&json!("done"), &parent["id"]));
    }
}

#[tokio::test]
async fn one_permit_is_enough_for_a_group() {
    let server = Setup::new().env("OXIOS_GATEWAY__MAX_CONCURRENT", "1").start();
    let client = server.client();
    let answer = say(&client, "task in parallel: say good day; say good night criteria: says day; says night").await.expect(200).json();
    assert_eq!(answer["reply"], "Part 1: say good day\ngood day\n\nPart 2: say good night\ngood night");
    assert_eq!(answer["phase"], "Evaluate");
    become_so(&client, &["member:stopped", "member:stopped", "task:stopped"]).await;
}

#[tokio::test]
async fn killing_a_member_stops_its_model_and_the_others_go_on() {
    let (model, gate) = (Scripted::start(), Gate::new());
    model.phase("interview", task());
    model.next(split());
    model.on("Goal: find-the-river", Reply::new().say("The river").wait(&gate).then(Do::Stall));
    model.on("Goal: find-the-hill", Reply::new().wait(&gate).say("The hill is the Brocken."));
    model.on("Part 2: find-the-hill", Reply::text(&["Only the Brocken is known."]));
    model.phase("evaluate", judged());
    let server = Setup::new().openai(&model).start();
    let client = server.client();
    let other = client.clone();
    let answer = tokio::spawn(async move { say(&other, "Describe the place").await });
    gate.reached(2).await;
    let river = model.seen().into_iter().find(|s| s.told().contains("Goal: find-the-river")).unwrap();
    // Members are listed in the order of their parts, newest first.
    let members: Vec<_> = agents(&client).await.into_iter().filter(|a| a["name"] == "member").collect();
    let first = members[1]["id"].as_str().unwrap();
    client.post_empty(&format!("/api/agents/{first}/kill")).await.expect(200);
    river.cut().await;
    client.post_empty(&format!("/api/agents/{first}/kill")).await.expect(404);
    gate.open_for_good();
    assert_eq!(answer.await.unwrap().expect(200).json()["reply"], "Only the Brocken is known.");
    let told = model.seen().iter().rev().nth(1).unwrap().told();
    assert!(told.contains("[this part was not finished: it was cancelled]") && told.contains("The hill is the Brocken."), "{told}");
}

#[tokio::test]
async fn cancelling_the_task_stops_every_member() {
    let (model, gate) = (Scripted::start(), Gate::new());
    model.phase("interview", task());
    model.next(split());
    model.on("Goal: find-the-river", Reply::new().wait(&gate).then(Do::Stall));
    model.on("Goal: find-the-hill", Reply::new().wait(&gate).then(Do::Stall));
    let server = Setup::new().openai(&model).start();
    let client = server.client();
    let other = client.clone();
    let answer = tokio::spawn(async move { say(&other, "Describe the place").await });
    gate.reached(2).await;
    let task = agents(&client).await.into_iter().find(|a| a["name"] == "task").unwrap();
    client.post_empty(&format!("/api/agents/{}/kill", task["id"].as_str().unwrap())).await.expect(200);
    for seen in model.seen().iter().filter(|s| s.told().contains("Goal: find-")) {
        seen.cut().await;
    }
    answer.await.unwrap().expect(409);
    become_so(&client, &["member:stopped", "member:stopped", "task:stopped"]).await;
    gate.open_for_good();
}

#[tokio::test]
async fn a_member_changes_nothing_that_a_person_is_asked_about() {
    let model = Scripted::start();
    model.phase("interview", task());
    model.next(split());
    model.on("Goal: find-the-river", Reply::tool("write_file", &json!({"path": "a.md", "content": "x"})));
    model.on("Goal: find-the-river", Reply::tool("split_task", &json!({"parts": [{"goal": "a"}, {"goal": "b"}]})));
    model.on("Goal: find-the-river", Reply::text(&["It should be written down."]));
    model.on("Goal: find-the-hill", Reply::text(&["Hill."]));
    model.on("Part 2: find-the-hill", Reply::text(&["Done."]));
    model.phase("evaluate", judged());
    let server = Setup::new().openai(&model).start();
    say(&server.client(), "Describe the place").await.expect(200);
    let records = records(&server).await;
    let results: Vec<_> = records.iter().filter(|r| r["kind"] == "tool_result").map(|r| r["content"].as_str().unwrap()).collect();
    assert!(results[0].contains("`write_file` is not for a member of a group"), "{results:?}");
    assert!(results[1].contains("there is no tool `split_task`"), "{results:?}");
    assert_eq!(server.client().get("/api/approvals").await.expect(200).json(), json!([]));
    assert!(!server.home().join("workspace/files/a.md").exists());
}

#[tokio::test]
async fn a_group_needs_budget_room_and_criteria() {
    let model = Scripted::start();
    // Two calls of six are gone when it wants to split: what is left is less than two for each member and two for the rest.
    model.phase("interview", task());
    model.phase("execute", split());
    model.on("too little of what this message may use is left", Reply::text(&["Alone: river and hill."]));
    model.phase("evaluate", judged());
    let server = Setup::new().openai(&model).env("OXIOS_ORCHESTRATOR__MAX_MODEL_CALLS", "6").start();
    let client = server.client();
    assert_eq!(say(&client, "Describe the place").await.expect(200).json()["reply"], "Alone: river and hill.");
    assert_eq!(agents(&client).await.len(), 1);
    // Switched off at once, and with a single criterion, it is not offered.
    client.send(Ask::new("PUT", "/api/config").json(&json!({"orchestrator": {"max_group_size": 0}}))).await.expect(200);
    model.phase("interview", task());
    model.phase("execute", Reply::text(&["River and hill."])).phase("evaluate", judged());
    say(&client, "Describe the place").await.expect(200);
    client.send(Ask::new("PUT", "/api/config").json(&json!({"orchestrator": {"max_group_size": 4}}))).await.expect(200);
    model.phase("interview", Reply::tool("start_task", &json!({"goal": "g", "acceptance_criteria": ["one"]})));
    model.phase("execute", Reply::text(&["one"])).phase("evaluate", judged());
    say(&client, "Describe the place").await.expect(200);
    let offered: Vec<bool> =
        model.seen().iter().filter(|s| s.phase() == "execute").map(|s| s.tools().iter().any(|t| t == "split_task")).collect();
    assert_eq!(offered, [true, true, false, false]);
}

#[tokio::test]
async fn a_group_whose_process_was_killed_has_failed_and_is_counted_once() {
    let (model, gate) = (Scripted::start(), Gate::new());
    model.phase("interview", task());
    model.next(split());
    model.on("Goal: find-the-river", Reply::new().wait(&gate).then(Do::Stall));
    model.on("Goal: find-the-hill", Reply::new().wait(&gate).then(Do::Stall));
    let mut server = Setup::new().openai(&model).env("OXIOS_SECURITY__RATE_LIMIT_PER_MINUTE", "0").start();
    let other = server.client();
    let lost = tokio::spawn(async move {
        other.open(Ask::new("POST", "/api/chat").json(&json!({"content": "Describe the place", "session_id": SESSION}))).await
    });
    gate.reached(2).await;
    // The list of agents is written behind: three that began, and the specification of one.
    let file = server.home().join("workspace/agents.jsonl");
    let written = async {
        while std::fs::read_to_string(&file).is_ok_and(|text| text.lines().count() < 4) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), written).await.expect("the list is written");
    server.kill9();
    lost.abort();
    server.restart();
    let client = server.client();
    become_so(&client, &["member:failed", "member:failed", "task:failed"]).await;
    assert_eq!(status(&client).await, json!({"active_count": 0, "total_forked": 3, "total_completed": 0, "total_failed": 3}));
    assert_eq!(records(&server).await.last().unwrap()["kind"], "interrupted");
    let again = agents(&client).await;
    let parent = again.iter().find(|a| a["name"] == "task").unwrap();
    assert_eq!(again.iter().filter(|a| a["parent_id"] == parent["id"]).count(), 2);
    gate.open_for_good();
}
