//! What the disk may do (THREATS 27): a full one is a state, not an accident. On a small file system of its own, which only
//! root can mount; elsewhere the store's own tests stand for it (they refuse space through the `Disk` seam).

use std::sync::Arc;

use serde_json::json;

use crate::support::scripted::{Gate, Reply, Scripted};
use crate::support::server::{Setup, TempDir};
use crate::support::small_disk::SmallDisk;

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
    while std::io::Write::write_all(&mut file, &[0; 16 * 1024]).is_ok() {}
    drop(file);

    // It is looked at every few seconds; until then a message that still fits is taken.
    let full = std::time::Instant::now();
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
    std::fs::remove_file(&filler).unwrap();
    let freed = std::time::Instant::now();
    while server.stranger().get("/health/ready").await.status != 200 {
        assert!(freed.elapsed().as_secs() < 10, "it heals within 5 s");
    }
    let answer = client.post("/api/chat", &json!({"content": "again", "session_id": session})).await.expect(200).json();
    assert_eq!(answer["reply"], "kept");
}
