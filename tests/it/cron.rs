//! Scheduled tasks (API B).

use serde_json::{Value, json};

use crate::support::client::{Ask, Client};
use crate::support::scripted::{Gate, Reply, Scripted};
use crate::support::server::Setup;

async fn make(client: &Client, more: Value) -> Value {
    let mut body = json!({"name": "report", "schedule": "30 7 * * mon-fri", "content": "hello from the clock"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    client.post("/api/cron-jobs", &body).await.expect(201).json()
}

async fn patch(client: &Client, id: &Value, body: Value) -> crate::support::client::Answer {
    client.send(Ask::new("PATCH", format!("/api/cron-jobs/{}", id.as_str().unwrap())).json(&body)).await
}

fn path(job: &Value, more: &str) -> String {
    format!("/api/cron-jobs/{}{more}", job["id"].as_str().unwrap())
}

/// Waits for the end of the job's newest run by reading its session to the end.
async fn ended(client: &Client, job: &Value) -> Value {
    loop {
        let now = client.get(&path(job, "")).await.expect(200).json();
        let last = &now["last_run"];
        assert!(!last.is_null(), "it ran: {now}");
        if last["status"] != "running" {
            return now;
        }
        let session = last["session_id"].as_str().unwrap();
        client.sse(&format!("/api/sessions/{session}/events?until=idle")).await.rest().await;
    }
}

#[tokio::test]
async fn a_job_is_made_changed_kept_over_a_restart_and_deleted() {
    let mut server = Setup::new().start();
    let client = server.client();
    assert_eq!(client.get("/api/cron-jobs").await.expect(200).json()["items"], json!([]));
    let job = make(&client, json!({})).await;
    assert_eq!((&job["time_zone"], &job["enabled"], &job["missed"]), (&json!("UTC"), &json!(true), &json!("skip")));
    assert!(job["next_run_at"].as_str().unwrap().ends_with("T07:30:00.000Z") && job["last_run"].is_null());
    server.kill9();
    server.restart();
    let client = server.client();
    assert_eq!(client.get(&path(&job, "")).await.expect(200).json(), job);
    let list = client.get("/api/cron-jobs").await.expect(200).json();
    assert_eq!((&list["items"][0], &list["total"]), (&job, &json!(1)));
    let changed = patch(&client, &job["id"], json!({"schedule": "@daily", "missed": "once"})).await.expect(200).json();
    assert_eq!((&changed["name"], &changed["schedule"], &changed["missed"]), (&job["name"], &json!("@daily"), &json!("once")));
    assert!(changed["next_run_at"].as_str().unwrap().ends_with("T00:00:00.000Z"));
    let off = patch(&client, &job["id"], json!({"enabled": false})).await.expect(200).json();
    assert_eq!((&off["enabled"], &off["next_run_at"]), (&json!(false), &Value::Null));
    assert_eq!(client.delete(&path(&job, "")).await.expect(200).json(), json!({"status": "deleted", "id": job["id"]}));
    client.get(&path(&job, "")).await.expect(404).error();
    client.delete(&path(&job, "")).await.expect(404);
    server.restart();
    assert_eq!(server.client().get("/api/cron-jobs").await.expect(200).json()["total"], 0);
}

#[tokio::test]
async fn a_triggered_run_is_an_ordinary_session_and_is_remembered() {
    let mut server = Setup::new().start();
    let client = server.client();
    let job = make(&client, json!({"enabled": false})).await;
    let sent = client.post_empty(&path(&job, "/trigger")).await.expect(200).json();
    assert_eq!((&sent["status"], &sent["id"], &sent["run"]["cause"]), (&json!("triggered"), &job["id"], &json!("trigger")));
    let now = ended(&client, &job).await;
    assert_eq!(now["last_run"]["status"], "done");
    let session = now["last_run"]["session_id"].as_str().unwrap().to_owned();
    let detail = client.get(&format!("/api/sessions/{session}")).await.expect(200).json();
    assert_eq!(detail["user_messages"][0]["content"], "hello from the clock");
    assert!(!detail["agent_responses"][0]["content"].as_str().unwrap().is_empty());
    server.kill9();
    server.restart();
    assert_eq!(server.client().get(&path(&job, "")).await.expect(200).json(), now);
}

/// A run that is not over keeps the next one from beginning; a crash under it is seen after the start.
#[tokio::test]
async fn never_two_runs_at_once_and_a_crash_is_noticed() {
    let (model, gate) = (Scripted::start(), Gate::new());
    model.next(Reply::text(&["begun"]).wait(&gate)).always(Reply::text(&["fine"]));
    let mut server = Setup::new().openai(&model).start();
    let job = make(&server.client(), json!({})).await;
    server.client().post_empty(&path(&job, "/trigger")).await.expect(200);
    gate.reached(1).await;
    server.client().post_empty(&path(&job, "/trigger")).await.expect(409).error();
    server.kill9();
    gate.open_for_good();
    server.restart();
    let now = ended(&server.client(), &job).await;
    assert_eq!(now["last_run"]["status"], "interrupted");
    server.client().post_empty(&path(&job, "/trigger")).await.expect(200);
    assert_eq!(ended(&server.client(), &job).await["runs"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn what_does_not_fit_is_refused() {
    let server = Setup::new().start();
    let client = server.client();
    let good = json!({"name": "n", "schedule": "* * * * *", "content": "c"});
    for (field, value, status) in [
        ("schedule", json!("0 0 30 2 *"), 400),
        ("schedule", json!("every day"), 400),
        ("time_zone", json!("Nowhere/Town"), 400),
        ("time_zone", json!("../../../etc/passwd"), 400),
        ("name", json!(""), 400),
        ("content", json!(" "), 400),
        ("content", json!("x".repeat(8 * 1024 + 1)), 400),
        ("missed", json!("always"), 422),
        ("unknown", json!(1), 422),
        ("space_id", json!("x"), 422),
    ] {
        let mut body = good.clone();
        body[field] = value;
        let error = client.post("/api/cron-jobs", &body).await.expect(status).error();
        assert!(!error.is_empty(), "{field}");
    }
    client.post("/api/cron-jobs", &json!({"name": "n"})).await.expect(422);
    client.get("/api/cron-jobs/nothing").await.expect(400).error();
    client.get("/api/cron-jobs/67e55044-10b1-426f-9247-bb680e5fe0c8").await.expect(404).error();
}

/// 429 says that waiting helps.
#[tokio::test]
async fn one_job_too_many_is_a_conflict() {
    let server = Setup::new().start();
    let client = server.client();
    let mut jobs = Vec::new();
    for n in 0..100 {
        jobs.push(make(&client, json!({"name": format!("job {n}")})).await);
    }
    let body = json!({"name": "report", "schedule": "@daily", "content": "x"});
    let refused = client.post("/api/cron-jobs", &body).await.expect(409);
    assert!(refused.error().contains("100") && refused.header("retry-after").is_none(), "{}", refused.error());
    client.delete(&path(&jobs[7], "")).await.expect(200);
    client.post("/api/cron-jobs", &body).await.expect(201);
}
