//! Token budgets of keys (THREATS 25): reserved before, settled after, closed where in doubt, the same after a restart.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::{Answer, Ask, Client};
use crate::support::scripted::{Do, Gate, Reply, Scripted};
use crate::support::server::{Setup, command};
use crate::support::sse::Sse;
use crate::support::ws::Ws;

const SESSION: &str = "0f3ae2a4-9c1b-4f6e-8d57-1f2e3d4c5b90";

/// A key with this budget, and its id.
async fn make(admin: &Client, scopes: &[&str], budget: Value) -> (Client, String) {
    let body = json!({"name": "counted", "scopes": scopes, "token_budget": budget});
    let made = admin.post("/api/keys", &body).await.expect(201).json();
    (admin.with_key(made["key"].as_str()), made["id"].as_str().unwrap().to_owned())
}

fn a_day(tokens: u64) -> Value {
    json!({"tokens": tokens, "per": "day"})
}

/// What the list says of this key's budget.
async fn budget(admin: &Client, id: &str) -> Value {
    let page = admin.get("/api/keys?limit=500").await.expect(200).json();
    page["items"].as_array().unwrap().iter().find(|key| key["id"] == id).unwrap()["token_budget"].clone()
}

async fn used(admin: &Client, id: &str) -> u64 {
    budget(admin, id).await["used"].as_u64().unwrap()
}

async fn say(client: &Client, content: &str) -> Answer {
    client.post("/api/chat", &json!({"content": content})).await
}

/// The reply, and its model says that it read all of these tokens.
fn using(reply: Reply, tokens: u64) -> Reply {
    let calls = reply.script.iter().any(|step| matches!(step, Do::Call(..)));
    let finish = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": if calls { "tool_calls" } else { "stop" }}]});
    let usage = json!({"choices": [], "usage": {"prompt_tokens": tokens, "completion_tokens": 0, "total_tokens": tokens}});
    reply.then(Do::Raw(format!("data: {finish}\n\ndata: {usage}\n\ndata: [DONE]\n\n").into_bytes()))
}

#[tokio::test]
async fn a_key_is_answered_until_its_budget_is_used_up_also_over_a_restart() {
    let model = Scripted::start();
    model.next(using(Reply::text(&["one"]), 60_000)).next(using(Reply::text(&["two"]), 39_500));
    let mut server = Setup::new().openai(&model).start();
    let admin = server.client();
    let (client, id) = make(&admin, &["chat", "read"], a_day(100_000)).await;
    let fresh = budget(&admin, &id).await;
    assert_eq!((&fresh["tokens"], &fresh["per"], &fresh["used"]), (&json!(100_000), &json!("day"), &json!(0)));
    assert!(fresh["renews_at"].as_str().unwrap().ends_with("T00:00:00.000Z"), "{fresh}");
    say(&client, "hello").await.expect(200);
    assert_eq!(used(&admin, &id).await, 60_000);
    server.stop().await;
    server.restart();
    let (admin, client) = (server.client(), server.stranger().with_key(Some(client.key())));
    assert_eq!(used(&admin, &id).await, 60_000, "an orderly end keeps what was used");
    assert_eq!(say(&client, "hello again").await.expect(200).json()["reply"], "two");
    assert_eq!(used(&admin, &id).await, 99_500);
    // Something is left, but no call fits into it: the run ends and says why, and nothing was asked of the model.
    let short = say(&client, "once more").await.expect(429);
    let wait: u64 = short.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=24 * 3600 + 1).contains(&wait), "{wait}");
    assert!(short.error().contains("100000 tokens a day has 500 left") && short.error().contains("begins anew at"), "{}", short.error());
    let sessions = client.get("/api/sessions").await.expect(200).json();
    let log = client.sse(&format!("/api/sessions/{}/events?until=idle", sessions["items"][0]["id"].as_str().unwrap())).await.rest().await;
    let end = log.last().unwrap();
    assert_eq!((&end["kind"], &end["error"]["code"]), (&json!("failed"), &json!("token_budget")));
    assert_eq!(model.seen().len(), 2);
    // Other keys do not notice.
    model.next(Reply::text(&["three"]));
    say(&admin, "hello").await.expect(200);
    let numbers = admin.get("/metrics").await.expect(200).text();
    assert!(numbers.contains("oxios_budget_refusals_total{reason=\"used_up\"} 1") && !numbers.contains(&id), "{numbers}");
}

#[tokio::test]
async fn a_used_up_budget_refuses_before_anything_is_kept_on_every_way_in() {
    let model = Scripted::start();
    model.next(using(Reply::text(&["one"]), 7_000));
    let server = Setup::new().openai(&model).start();
    let admin = server.client();
    let (client, id) = make(&admin, &["chat", "read", "write"], a_day(6_000)).await;
    let asked = |key: &str| Ask::new("POST", "/api/chat").header("idempotency-key", key).json(&json!({"content": "hello"}));
    let first = client.send(asked("first")).await.expect(200).json();
    assert_eq!(used(&admin, &id).await, 7_000, "what a model really used is booked, more than was thought, too");
    let refused = client.send(asked("second")).await.expect(429);
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=24 * 3600 + 1).contains(&wait) && refused.error().contains("is used up"), "{wait} {}", refused.error());
    assert_eq!(client.send(asked("first")).await.expect(200).json(), first, "a retry of what is answered costs nothing");
    for body in [
        json!({"model": "oxios", "messages": [{"role": "user", "content": "hi"}]}),
        json!({"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}),
    ] {
        let refused = client.post("/v1/chat/completions", &body).await.expect(429);
        let error = refused.json()["error"].clone();
        assert_eq!((&error["type"], &error["code"]), (&json!("rate_limit_error"), &json!("token_budget")), "{error}");
        assert!(refused.header("retry-after").is_some());
    }
    let mut socket = Ws::chat(&client).await;
    socket.send(&json!({"type": "message", "content": "hello"})).await;
    assert_eq!(socket.json().await["code"], "token_budget");
    let tool = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "ask", "arguments": {"content": "hello"}}});
    let told = client.post("/mcp", &tool).await.expect(200).json();
    assert_eq!(told["result"]["isError"], true);
    assert!(told["result"]["content"][0]["text"].as_str().unwrap().contains("is used up"), "{told}");
    assert_eq!(client.get("/api/sessions").await.expect(200).json()["total"], 1, "nothing of the refused ones is kept");
    assert_eq!(model.seen().len(), 1);
    // A total never comes back, so there is no use in saying when.
    model.next(using(Reply::text(&["one"]), 6_000));
    let (client, id) = make(&admin, &["chat"], json!({"tokens": 6_000, "per": "total"})).await;
    say(&client, "hello").await.expect(200);
    let refused = say(&client, "hello").await.expect(429);
    assert!(refused.header("retry-after").is_none() && budget(&admin, &id).await["renews_at"].is_null());
}

/// Reserve before: what a call may use is nobody else's while it runs.
#[tokio::test]
async fn calls_side_by_side_never_hold_more_than_there_is() {
    let model = Scripted::start();
    let gate = Gate::new();
    model.always(Reply::new().wait(&gate).say("ok"));
    let server = Setup::new().openai(&model).start();
    let admin = server.client();
    // A call may write 2,048 tokens (the default) and reads a few hundred at least: two fit, four do not.
    let (client, id) = make(&admin, &["chat", "read"], a_day(8_000)).await;
    let posts: Vec<_> = (0..6)
        .map(|n| {
            let client = client.clone();
            tokio::spawn(async move { say(&client, &format!("m{n}")).await })
        })
        .collect();
    gate.reached(1).await;
    while client.get("/api/status").await.expect(200).json()["components"]["agents"]["active_count"] != 6 {}
    let at_once = model.seen().len();
    assert!((1..=3).contains(&at_once), "{at_once} at once");
    gate.open_for_good();
    for post in posts {
        post.await.unwrap().expect(200);
    }
    assert_eq!(used(&admin, &id).await, 6 * 18, "each says that it used 18, and what it gave back let the next one in");
}

/// Judges, repairs and the members of a group are paid for, too: what is booked is what the log says was used.
#[tokio::test]
async fn every_model_call_of_a_task_is_booked() {
    let server = Setup::new().start();
    let admin = server.client();
    let (client, id) = make(&admin, &["chat", "read"], a_day(1_000_000)).await;
    let tasks =
        ["task in parallel: say left; say right criteria: says left; says right", "task say hi criteria: names the kettle; says hi"];
    for content in tasks {
        client.post("/api/chat", &json!({"content": content, "session_id": SESSION})).await.expect(200);
    }
    let log = client.sse(&format!("/api/sessions/{SESSION}/events?until=idle")).await.rest().await;
    let calls: Vec<u64> = log
        .iter()
        .filter(|record| record["kind"] == "usage")
        .map(|record| record["input_tokens"].as_u64().unwrap() + record["output_tokens"].as_u64().unwrap())
        .collect();
    assert!(calls.len() > 8, "two members, two tasks, their judges and a repair: {calls:?}");
    assert_eq!(used(&admin, &id).await, calls.iter().sum::<u64>());
}

/// Durable: a process that is killed in the middle of a call has set aside what the call may use.
#[tokio::test]
async fn a_crash_keeps_what_was_set_aside_as_used() {
    let model = Scripted::start();
    let gate = Gate::new();
    model.next(Reply::text(&["half"]).wait(&gate));
    let mut server = Setup::new().openai(&model).start();
    let (client, id) = make(&server.client(), &["chat"], a_day(20_000)).await;
    let post = tokio::spawn(async move { client.open(Ask::new("POST", "/api/chat").json(&json!({"content": "hello"}))).await.status });
    gate.reached(1).await;
    server.kill9();
    let _ = post.await;
    server.restart();
    let kept = used(&server.client(), &id).await;
    assert!((2_048..=20_000).contains(&kept), "{kept}");
}

/// Nothing was under way: a crash forgets nothing and takes nothing.
#[tokio::test]
async fn a_crash_of_an_idle_server_costs_no_tokens() {
    let model = Scripted::start();
    model.next(using(Reply::text(&["one"]), 300));
    let mut server = Setup::new().openai(&model).start();
    let (client, id) = make(&server.client(), &["chat"], json!({"tokens": 20_000, "per": "total"})).await;
    say(&client, "hello").await.expect(200);
    let books = server.home().join("budgets.json");
    let written = || serde_json::from_slice::<Value>(&std::fs::read(&books).unwrap()).unwrap()["budgets"][0]["tokens"].clone();
    let exact = async {
        while written() != 300 {
            server.client().get("/health").await.expect(200);
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), exact).await.is_ok(), "{}", written());
    server.kill9();
    server.restart();
    assert_eq!(used(&server.client(), &id).await, 300);
}

#[tokio::test]
async fn a_plain_call_counts_also_where_its_client_goes_away() {
    let model = Scripted::start();
    let gate = Gate::new();
    model
        .next(using(Reply::text(&["one"]), 1_234))
        .next(Reply::text(&["some words of an answer"]).wait(&gate))
        .next(Reply::status(400, "{}"));
    let server = Setup::new().openai(&model).start();
    let admin = server.client();
    let (client, id) = make(&admin, &["chat"], a_day(50_000)).await;
    let body = |stream: bool| json!({"model": "scripted", "stream": stream, "messages": [{"role": "user", "content": "hi"}]});
    client.post("/v1/chat/completions", &body(false)).await.expect(200);
    assert_eq!(used(&admin, &id).await, 1_234);
    let mut events = Sse::new(client.open(Ask::new("POST", "/v1/chat/completions").json(&body(true))).await);
    gate.reached(1).await;
    while events.json().await["choices"][0]["delta"]["content"].is_null() {}
    drop(events);
    model.seen()[1].cut().await;
    while used(&admin, &id).await == 1_234 {}
    let now = used(&admin, &id).await;
    assert!((1_240..1_400).contains(&now), "what it read and wrote until then, not all that it might have: {now}");
    client.post("/v1/chat/completions", &body(false)).await.expect(400);
    assert_eq!(used(&admin, &id).await, now, "a call that its server refused costs nothing");
}

/// A budget that ends on the way: the run says so, and shows what there is.
#[tokio::test]
async fn a_task_whose_budget_ends_on_the_way_fails_or_shows_its_result() {
    let model = Scripted::start();
    let task = || Reply::tool("start_task", &json!({"goal": "g", "constraints": [], "acceptance_criteria": ["a"]}));
    model
        .phase("interview", using(task(), 9_500))
        .phase("interview", using(task(), 20))
        .phase("execute", using(Reply::text(&["the result"]), 9_900));
    let server = Setup::new().openai(&model).start();
    let admin = server.client();
    for (answer, outcome) in [(429, "failed"), (200, "done")] {
        let (client, id) = make(&admin, &["chat", "read"], a_day(10_000)).await;
        let said = client.post("/api/chat", &json!({"content": "do it", "session_id": SESSION})).await.expect(answer);
        let detail = client.get(&format!("/api/sessions/{SESSION}")).await.expect(200).json();
        let last = detail["agent_responses"].as_array().unwrap().last().unwrap().clone();
        assert_eq!(last["outcome"].as_str().unwrap_or("done"), outcome, "{last}");
        if outcome == "done" {
            assert_eq!(
                (&said.json()["reply"], &last["evaluation_passed"]),
                (&json!("the result"), &Value::Null),
                "nobody was paid to judge it"
            );
        }
        assert!(used(&admin, &id).await <= 10_000);
    }
}

/// The key travels with the message, also through a restart and a person's decision.
#[tokio::test]
async fn a_run_that_waited_for_a_person_goes_on_at_its_keys_cost() {
    let model = Scripted::start();
    model.phase("interview", Reply::tool("start_task", &json!({"goal": "g", "constraints": [], "acceptance_criteria": []})));
    model.phase("execute", Reply::tool("write_file", &json!({"path": "a.md", "content": "x"})));
    let mut server = Setup::new().openai(&model).start();
    let (client, id) = make(&server.client(), &["chat", "read"], a_day(50_000)).await;
    let asked = client.post("/api/chat", &json!({"content": "write it", "session_id": SESSION})).await.expect(202).json();
    server.stop().await;
    server.restart();
    let admin = server.client();
    let before = used(&admin, &id).await;
    assert_eq!(before, 36);
    model
        .phase("execute", using(Reply::text(&["written"]), 700))
        .phase("evaluate", using(Reply::json(&json!({"passed": true, "score": 1.0, "notes": "", "criteria": []})), 50));
    admin.post_empty(&format!("/api/approvals/{}/approve", asked["approval"]["id"].as_str().unwrap())).await.expect(200);
    let log = admin.sse(&format!("/api/sessions/{SESSION}/events?until=idle")).await.rest().await;
    assert_eq!(log.last().unwrap()["kind"], "done", "{log:?}");
    assert_eq!(used(&admin, &id).await, before + 750, "further work and its judge, at the cost of the key that asked for it");
}

/// A scheduled task is paid by the key that made it, a run that somebody asks for by the key that asks.
#[tokio::test]
async fn scheduled_tasks_are_paid_by_who_made_or_started_them() {
    let model = Scripted::start();
    model.always(using(Reply::text(&["done"]), 5_000));
    let server = Setup::new().openai(&model).start();
    let admin = server.client();
    let (client, id) = make(&admin, &["chat", "read", "write"], a_day(5_000)).await;
    let new = json!({"name": "n", "schedule": "@daily", "content": "hello"});
    let job = admin.post("/api/cron-jobs", &new).await.expect(201).json();
    let trigger = format!("/api/cron-jobs/{}/trigger", job["id"].as_str().unwrap());
    let run = client.post_empty(&trigger).await.expect(200).json()["run"].clone();
    client.sse(&format!("/api/sessions/{}/events?until=done", run["session_id"].as_str().unwrap())).await.rest().await;
    while used(&admin, &id).await != 5_000 {}
    while client.get(&format!("/api/cron-jobs/{}", job["id"].as_str().unwrap())).await.expect(200).json()["last_run"]["status"] == "running"
    {
    }
    let refused = client.post_empty(&trigger).await.expect(429);
    assert!(refused.error().contains("is used up"), "not a way round a budget: {}", refused.error());
    admin.post_empty(&trigger).await.expect(200);
    // What the clock starts is paid by who made the task: it is refused, and the log says so.
    let own = json!({"name": "n", "schedule": "* * * * *", "content": "hello"});
    client.post("/api/cron-jobs", &own).await.expect(201);
    let file =
        std::fs::read_dir(server.home().join("workspace/cron")).unwrap().map(|f| std::fs::read_to_string(f.unwrap().path()).unwrap());
    assert_eq!(file.filter(|text| text.contains("budget_id")).count(), 1, "kept with the task of the key that has one");
}

/// Nobody gets round a budget by making a key, and rotation keeps what was used.
#[tokio::test]
async fn keys_that_a_key_with_a_budget_makes_share_it() {
    let model = Scripted::start();
    model.always(using(Reply::text(&["ok"]), 1_000));
    let server = Setup::new().openai(&model).start();
    let admin = server.client();
    let (boss, id) = make(&admin, &["chat", "admin"], json!({"tokens": 20_000, "per": "month"})).await;
    boss.post("/api/keys", &json!({"name": "x", "scopes": ["chat"], "token_budget": a_day(1_000_000)})).await.expect(403).error();
    let first = admin.get("/api/keys").await.expect(200).json()["items"][0]["id"].as_str().unwrap().to_owned();
    boss.post_empty(&format!("/api/keys/{first}/rotate")).await.expect(403);
    let made = boss.post("/api/keys", &json!({"name": "x", "scopes": ["chat"]})).await.expect(201).json();
    assert_eq!(made["token_budget"]["tokens"], 20_000);
    let child = boss.with_key(made["key"].as_str());
    say(&child, "hello").await.expect(200);
    say(&boss, "hello").await.expect(200);
    assert_eq!(used(&admin, &id).await, 2_000);
    let rotated = admin.post_empty(&format!("/api/keys/{id}/rotate")).await.expect(201).json();
    assert_eq!((&rotated["token_budget"]["used"], &rotated["token_budget"]["per"]), (&json!(2_000), &json!("month")));
    say(&boss.with_key(rotated["key"].as_str()), "hello").await.expect(200);
    assert_eq!(used(&admin, made["id"].as_str().unwrap()).await, 3_000);
}

/// Fail closed: what cannot be written down is not asked of a model; and it heals by itself.
#[tokio::test]
async fn books_that_cannot_be_written_refuse_and_heal() {
    let model = Scripted::start();
    let server = Setup::new().openai(&model).start();
    let admin = server.client();
    let (client, _) = make(&admin, &["chat"], a_day(50_000)).await;
    // A directory stands where the new file would be written.
    let blocked = server.home().join("budgets.json.new");
    std::fs::create_dir(&blocked).unwrap();
    let refused = say(&client, "hello").await.expect(503);
    assert!(refused.error().contains("cannot be written down") && refused.header("retry-after").is_some(), "{}", refused.error());
    client.post("/v1/chat/completions", &json!({"model": "scripted", "messages": [{"role": "user", "content": "hi"}]})).await.expect(503);
    assert!(model.seen().is_empty() && server.log().contains("budgets.json"), "{}", server.log());
    model.next(Reply::text(&["ok"])).next(Reply::text(&["ok"]));
    say(&admin, "hello").await.expect(200);
    std::fs::remove_dir(&blocked).unwrap();
    say(&client, "hello").await.expect(200);
}

#[tokio::test]
async fn a_budget_has_a_shape() {
    let server = Setup::new().start();
    let admin = server.client();
    for (budget, status) in [
        (json!(5), 422),
        (json!({"tokens": 5}), 422),
        (json!({"per": "day"}), 422),
        (json!({"tokens": 5, "per": "week"}), 422),
        (json!({"tokens": -5, "per": "day"}), 422),
        (json!({"tokens": 1.5, "per": "day"}), 422),
        (json!({"tokens": 5, "per": "day", "more": 1}), 422),
        (json!({"tokens": 0, "per": "day"}), 400),
        (json!({"tokens": 1_000_000_000_001_u64, "per": "day"}), 400),
        (Value::Null, 201),
    ] {
        let body = json!({"name": "x", "scopes": ["chat"], "token_budget": budget});
        admin.post("/api/keys", &body).await.expect(status);
    }
}

#[tokio::test]
async fn the_command_line_makes_and_shows_budgets() {
    let model = Scripted::start();
    model.next(using(Reply::text(&["ok"]), 3_000));
    let mut server = Setup::new().openai(&model).start();
    let home = server.home().to_owned();
    let run = |args: &[&str]| command(&home).arg("key").args(args).output().unwrap();
    for (args, wrong) in [
        (&["--tokens-per-day", "0"][..], "--tokens-per-day"),
        (&["--tokens-total", "many"], "--tokens-total"),
        (&["--tokens-per-day", "5", "--tokens-per-month", "5"], "one budget"),
    ] {
        let output = run(&[&["create"], args].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains(wrong), "{said}");
    }
    let output = run(&["create", "phone", "--tokens-per-day", "50000"]);
    let key = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    say(&server.stranger().with_key(Some(&key)), "hello").await.expect(200);
    let list = || String::from_utf8(run(&["list"]).stdout).unwrap();
    let line = list().lines().find(|line| line.contains("phone")).unwrap().to_owned();
    assert!(line.contains(" of 50000 a day"), "{line}");
    server.stop().await;
    let line = list().lines().find(|line| line.contains("phone")).unwrap().to_owned();
    assert!(line.contains("3000 of 50000 a day"), "after an orderly end it is exact: {line}");
}
