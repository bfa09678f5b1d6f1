//! What the disk may do (THREATS 27): a full one is a state, not an accident. On a small file system of its own, which only
//! root can mount; elsewhere the store's own tests stand for it (they refuse space through the `Disk` seam).

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use oxios_edge::sys::disk::{Disk, RealDisk};
use serde_json::json;

use crate::support::client::{Ask, Client};
use crate::support::scripted::{Gate, Reply, Scripted};
use crate::support::server::{Server, Setup, TempDir};
use crate::support::small_disk::{SmallDisk, make_room};

/// It is looked at this often; a loaded machine takes a moment more.
const LOOKED_AT: Duration = Duration::from_secs(5 + 2);

/// Takes all that is left, and makes sure that the server has noticed.
async fn fill(server: &Server, filler: &Path) {
    let mut file = std::fs::File::options().create(true).append(true).open(filler).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    let full = Instant::now();
    while server.stranger().get("/health/ready").await.status != 503 {
        assert!(full.elapsed() < LOOKED_AT, "a full disk is noticed");
    }
    // What it gave up for its records is taken, too.
    while file.write_all(&[0; 4096]).is_ok() {}
}

/// Waits until it heals by itself.
async fn healed(server: &Server) {
    let freed = Instant::now();
    while server.stranger().get("/health/ready").await.status != 200 {
        assert!(freed.elapsed() < LOOKED_AT, "it heals within 5 s of space coming back");
    }
}

/// 4 MiB, two of which the server keeps back for itself, filled to the last page and freed, twice; then it is killed.
#[tokio::test]
async fn a_disk_of_four_mebibytes_that_fills_up_loses_nothing_and_does_nothing_unrecorded() {
    let home = Arc::new(TempDir::new());
    let Some(_small) = SmallDisk::mount(home.path(), "4m") else {
        println!("SKIPPED a_disk_of_four_mebibytes: no file system can be mounted here");
        return;
    };
    let mut server = Setup::new().env("OXIOS_SECURITY__RATE_LIMIT_PER_MINUTE", "0").start_in(home.clone());
    let (client, filler) = (server.client(), home.path().join("filler"));
    let put = |recall: u64| Ask::new("PUT", "/api/config").json(&json!({"memory": {"max_recall": recall}}));
    client.send(put(7)).await.expect(200);
    let key = client.post("/api/keys", &json!({"name": "other", "scopes": ["read"]})).await.expect(201).json();
    let session = client.post("/api/chat", &json!({"content": "before"})).await.expect(200).json()["session_id"].clone();
    let (mut recall, mut revoked, mut approvals, mut said) = (7, false, Vec::new(), vec!["before".to_owned()]);
    for round in 0..2 {
        let asked = client.post("/api/chat", &json!({"content": format!("write {round}.md: text")})).await.expect(202).json();
        let id = asked["approval"]["id"].as_str().unwrap().to_owned();
        fill(&server, &filler).await;

        // Each of them is done and recorded, or refused with a reason.
        let refused = client.post("/api/chat", &json!({"content": "too much", "session_id": session})).await.expect(507);
        assert!(!refused.error().is_empty());
        let changed = client.send(put(20 + round)).await;
        assert!([200, 507].contains(&changed.status), "{} {}", changed.status, changed.text());
        recall = if changed.status == 200 { 20 + round } else { recall };
        let gone = client.delete(&format!("/api/keys/{}", key["id"].as_str().unwrap())).await;
        revoked |= gone.status == 200;
        assert!(revoked || gone.status == 507, "{} {}", gone.status, gone.text());
        let decided = client.post_empty(&format!("/api/approvals/{id}/reject")).await;
        assert!([200, 507].contains(&decided.status), "{} {}", decided.status, decided.text());
        approvals.push((id, decided.status == 200));
        let shown = client.get("/api/config").await.expect(200).json();
        assert_eq!(shown["memory"]["max_recall"], recall);
        client.get(&format!("/api/sessions/{}", session.as_str().unwrap())).await.expect(200);
        client.get("/api/audit/entries").await.expect(200);

        make_room(&filler);
        healed(&server).await;
        let again = format!("again {round}");
        client.post("/api/chat", &json!({"content": again, "session_id": session})).await.expect(200);
        said.push(again);
    }
    // In a full disk it dies, and starts, and is read.
    fill(&server, &filler).await;
    server.kill9();
    server.restart();
    let client = server.client();
    let detail = client.get(&format!("/api/sessions/{}", session.as_str().unwrap())).await.expect(200).json();
    let kept: Vec<&str> = detail["user_messages"].as_array().unwrap().iter().map(|m| m["content"].as_str().unwrap()).collect();
    assert_eq!(kept, said);
    make_room(&filler);
    healed(&server).await;
    assert_eq!(client.get("/api/config").await.expect(200).json()["memory"]["max_recall"], recall);
    let keys = client.get("/api/keys").await.expect(200).json();
    let other = keys["items"].as_array().unwrap().iter().find(|k| k["id"] == key["id"]).unwrap();
    assert_eq!(other["status"] == "revoked", revoked);
    let list = client.get("/api/approvals").await.expect(200).json();
    for (id, rejected) in approvals {
        let one = list.as_array().unwrap().iter().find(|a| a["id"] == id.as_str()).unwrap_or_else(|| panic!("{id} in {list}"));
        assert!(!rejected || one["status"] == "rejected", "{one}");
    }
    let told = client.get("/api/audit/verify").await.expect(200).json();
    assert_eq!(told["valid"], true, "{told}");
}

#[tokio::test]
async fn a_full_disk_refuses_messages_and_nothing_else_and_heals() {
    let home = Arc::new(TempDir::new());
    let Some(_small) = SmallDisk::mount(home.path(), "8m") else {
        println!("SKIPPED a_full_disk: no file system can be mounted here");
        return;
    };
    let model = Scripted::start();
    let gate = Gate::new();
    model.on("during", Reply::text(&["partial"]).wait(&gate));
    model.always(Reply::text(&["kept"]));
    let server = Setup::new().openai(&model).env("OXIOS_SECURITY__RATE_LIMIT_PER_MINUTE", "0").start_in(home.clone());
    let client = server.client();
    let first = client.post("/api/chat", &json!({"content": "before"})).await.expect(200).json();
    let session = first["session_id"].as_str().unwrap().to_owned();
    // One run is under way while the disk fills up.
    let mut socket = crate::support::ws::Ws::chat(&client).await;
    let running = socket.say("during", None).await;
    socket.until("token").await;
    let filler = home.path().join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    while file.write_all(&[0; 16 * 1024]).is_ok() {}
    drop(file);

    // It is looked at every few seconds; until then a message that still fits is taken.
    let full = Instant::now();
    let refused = loop {
        let answer = client.post("/api/chat", &json!({"content": "too much", "session_id": session})).await;
        if answer.status == 507 {
            break answer;
        }
        assert!(full.elapsed().as_secs() < 10, "a message on a full disk: {} {}", answer.status, answer.text());
    };
    assert!(!refused.error().is_empty());
    let ready = server.stranger().get("/health/ready").await.expect(503).json();
    assert_eq!(ready["components"]["state_store"]["healthy"], false);
    assert!(ready["components"]["state_store"]["detail"].is_string(), "it says why: {ready}");
    server.stranger().get("/health").await.expect(200);
    // Reading and cancelling go on.
    let detail = client.get(&format!("/api/sessions/{session}")).await.expect(200).json();
    assert_eq!(detail["agent_responses"][0]["content"], "kept");
    client.get("/api/sessions").await.expect(200);
    client.post_empty(&format!("/api/chat/{}/cancel", running["id"].as_str().unwrap())).await.expect(200);
    let done = socket.until("done").await.pop().unwrap();
    assert_eq!((&done["outcome"], &done["text"]), (&json!("cancelled"), &json!("partial")));

    // It heals by itself within 5 s of space coming back.
    make_room(&filler);
    healed(&server).await;
    let answer = client.post("/api/chat", &json!({"content": "again", "session_id": session})).await.expect(200).json();
    assert_eq!(answer["reply"], "kept");
}

/// `session.sync_secs`: turns of a conversation cost no sync each, and a killed process loses none of them.
#[tokio::test]
async fn a_card_is_spared_the_syncs_and_a_kill_takes_nothing_back() {
    let syncs = async |client: &Client| -> u64 {
        let metrics = client.get("/metrics").await.expect(200).text();
        metrics.lines().find_map(|line| line.strip_prefix("oxios_disk_syncs_total ")).unwrap().parse().unwrap()
    };
    for (secs, each) in [("0", 2), ("60", 0)] {
        let mut server = Setup::new().env("OXIOS_SESSION__SYNC_SECS", secs).start();
        let client = server.client();
        let first = client.post("/api/chat", &json!({"content": "echo first"})).await.expect(200).json();
        let before = syncs(&client).await;
        for n in 0..10 {
            client.post("/api/chat", &json!({"content": format!("echo turn {n}"), "session_id": first["session_id"]})).await.expect(200);
        }
        let made = syncs(&client).await - before;
        assert!(made >= 10 * each && made <= 10 * each + 5, "every {secs} s: {made} syncs for 10 turns");
        server.kill9();
        server.restart();
        let path = format!("/api/sessions/{}", first["session_id"].as_str().unwrap());
        let kept = server.client().get(&path).await.expect(200).text();
        assert!((0..10).all(|n| kept.matches(&format!("\"echo turn {n}\"")).count() == 1), "{kept}");
    }
}

/// THREATS 27: one that fills up under an answer is a full disk, not a fault of ours.
#[tokio::test]
async fn a_disk_that_fills_up_under_an_answer_is_said_to_be_full() {
    let home = Arc::new(TempDir::new());
    let Some(_small) = SmallDisk::mount(home.path(), "8m") else {
        println!("SKIPPED a_disk_that_fills_up: no file system can be mounted here");
        return;
    };
    let (model, gate) = (Scripted::start(), Gate::new());
    model.always(Reply::text(&["partial"]).wait(&gate).say(&"x".repeat(64 * 1024)));
    let server = Setup::new().openai(&model).start_in(home.clone());
    let client = server.client();
    let post = tokio::spawn({
        let client = client.clone();
        async move { client.post("/api/chat", &json!({"content": "hello"})).await }
    });
    gate.reached(1).await;
    let filler = home.path().join("filler");
    fill(&server, &filler).await;
    gate.open();
    let answer = post.await.unwrap().expect(507);
    assert!(!answer.error().is_empty());
    make_room(&filler);
    healed(&server).await;
}

/// THREATS 27: what the room on a file system is taken from when its kernel has made it read-only. (With open files nobody else can.)
#[test]
fn a_disk_that_can_only_be_read_is_seen_to_be() {
    let home = TempDir::new();
    let Some(small) = SmallDisk::mount(home.path(), "1m") else {
        println!("SKIPPED a_disk_that_can_only_be_read: no file system can be mounted here");
        return;
    };
    assert!(RealDisk.free_bytes(home.path()).unwrap() > 0);
    small.make_read_only();
    assert_eq!(RealDisk.free_bytes(home.path()).unwrap_err().kind(), std::io::ErrorKind::ReadOnlyFilesystem);
}
