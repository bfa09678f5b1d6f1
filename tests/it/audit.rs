//! The audit log: every change leaves a record, the chain is whole after restarts and kills, and edits are found (DESIGN §6).

use std::path::Path;

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::server::{Setup, command};
use crate::support::small_disk::{SmallDisk, make_room};

/// The exit code and what it printed.
fn verify(home: &Path, more: &[&str]) -> (Option<i32>, String) {
    let output = command(home).arg("audit").arg("verify").args(more).output().unwrap();
    if output.stdout.is_empty() {
        println!("audit verify said nothing but: {} ({})", String::from_utf8_lossy(&output.stderr), output.status);
    }
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

async fn entries(client: &Client, filter: &str) -> Vec<Value> {
    client.get(&format!("/api/audit/entries?limit=500{filter}")).await.expect(200).json()["items"].as_array().unwrap().clone()
}

fn says(entry: &Value, what: &str, outcome: &str) -> bool {
    entry["what"] == what && entry["outcome"] == outcome
}

#[tokio::test]
async fn every_change_is_recorded_and_the_chain_is_whole_after_kill_and_restart() {
    let mut server = Setup::new().start();
    let client = server.client();
    let asked = client.post("/api/chat", &json!({"content": "write salaries.md: text"})).await.expect(202).json();
    let approval = asked["approval"]["id"].as_str().unwrap().to_owned();
    client.post_empty(&format!("/api/approvals/{approval}/approve")).await.expect(200);
    let session = asked["session_id"].as_str().unwrap().to_owned();
    client.get(&format!("/api/sessions/{session}/events?until=idle")).await.expect(200);
    client.post("/api/memory/search", &json!({"query": "x"})).await.expect(200);
    client.delete("/api/sessions/67e55044-10b1-426f-9247-bb680e5fe0c8").await.expect(404);

    let all = entries(&client, "").await;
    let at = |what: &str, outcome: &str| {
        all.iter().position(|e| says(e, what, outcome)).unwrap_or_else(|| panic!("{what} {outcome} in {all:#?}"))
    };
    // Newest first, so what came earlier has the larger place.
    assert!(at("tool write_file", "done") < at("tool write_file", "begun"));
    assert!(at("tool write_file", "begun") < at("approval decided", "approved"));
    assert!(at("POST /api/approvals/{id}/approve", "200") < at("POST /api/approvals/{id}/approve", "begun"));
    assert!(at("approval decided", "approved") < at("approval asked", "done"));
    assert!(at("POST /api/chat", "202") < at("message", "done"));
    assert_eq!(all[at("message", "done")]["on"], session.as_str());
    assert!(all[at("message", "done")]["key"].is_string(), "who said it");
    assert_eq!(all[at("approval asked", "done")]["on"], approval.as_str());
    at("DELETE /api/sessions/{id}", "404");
    assert!(all.iter().all(|e| e["what"] != "POST /api/memory/search"), "what only reads is not recorded");
    assert!(all.iter().filter(|e| e["what"].as_str().unwrap().starts_with("POST")).all(|e| e["key"].is_string()));
    assert_eq!(entries(&client, "&what=message").await.len(), 1);
    assert_eq!(entries(&client, &format!("&on={approval}")).await.len(), 4);
    // What stands there finds it, and so does how it begins.
    for what in ["approval", "approval%20as", "approval%20asked"] {
        assert!(entries(&client, &format!("&what={what}")).await.iter().any(|e| says(e, "approval asked", "done")), "{what}");
    }
    assert_eq!(entries(&client, &format!("&on={}", &approval[..13])).await.len(), 4);
    assert!(entries(&client, "&what=sked").await.is_empty());
    let put = crate::support::client::Ask::new("PUT", "/api/workspace/file/raises.md").body(b"text".to_vec());
    client.send(put).await.expect(200);
    let named = entries(&client, "&on=raises.md").await;
    assert!(!named.is_empty(), "a name is found by itself");
    assert_eq!(entries(&client, &format!("&on={}", named[0]["on"].as_str().unwrap())).await, named, "and as it is shown");

    let told = client.get("/api/audit/verify").await.expect(200).json();
    assert_eq!(told["valid"], true, "{told}");
    let head = told["head"].as_str().unwrap().to_owned();
    server.kill9();
    server.restart();
    let client = server.client();
    let told = client.get(&format!("/api/audit/verify?head={head}")).await.expect(200).json();
    assert_eq!(told["valid"], true, "{told}");
    let after = entries(&client, "").await;
    assert!(all.iter().all(|e| after.contains(e)), "a killed process loses no record");
    let exported = client.post_empty("/api/audit/export").await.expect(200).text();
    assert_eq!(exported.lines().count(), after.len());
    client.get("/api/audit/verify?head=nonsense").await.expect(400).error();
    server.stop().await;

    let key = command(server.home()).args(["audit", "key"]).output().unwrap();
    assert_eq!(key.stdout.trim_ascii().len(), 64);
    let key_file = server.home().join("audit.pub");
    std::fs::write(&key_file, &key.stdout).unwrap();
    let key_file = key_file.to_str().unwrap();
    let (code, text) = verify(server.home(), &["--public-key", key_file, "--head", &head]);
    assert_eq!(code, Some(0), "{text}");
    let last_head = text.lines().find_map(|l| l.strip_prefix("head ")).unwrap().to_owned();

    let file = server.home().join("workspace/audit/1.log");
    let whole = std::fs::read_to_string(&file).unwrap();
    assert!(!whole.contains("salaries"), "names are HMACs");
    std::fs::write(&file, whole.replacen("approved", "rejected", 1)).unwrap();
    let (code, text) = verify(server.home(), &["--public-key", key_file]);
    assert!(code == Some(1) && text.contains("was edited"), "{text}");
    let lines: Vec<&str> = whole.lines().collect();
    std::fs::write(&file, lines[..lines.len() - 2].join("\n") + "\n").unwrap();
    let (code, text) = verify(server.home(), &["--public-key", key_file, "--head", &last_head]);
    assert!(code == Some(1) && text.contains("tail was cut"), "{text}");
}

/// What others than the server changed in its home is in its log, too: keys from the command line, the configuration's file.
#[tokio::test]
async fn what_is_changed_beside_the_server_is_recorded() {
    let mut server = Setup::new().start();
    let client = server.client();
    let run = |args: &[&str]| {
        let output = command(server.home()).args(args).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    run(&["key", "create", "beside"]);
    let keys: Vec<Value> = serde_json::from_str(&run(&["key", "list", "--json"])).unwrap();
    let beside = keys.iter().find(|key| key["name"] == "beside").unwrap()["id"].as_str().unwrap().to_owned();
    let file = server.home().join("config.toml");
    let before = std::fs::read_to_string(&file).unwrap_or_default();
    std::fs::write(&file, before + "\n[session]\nttl_hours = 77\n").unwrap();
    server.signal(rustix::process::Signal::HUP);
    while client.get("/api/config").await.expect(200).json()["session"]["ttl_hours"] != 77 {}
    run(&["key", "revoke", &beside]);
    assert!(server.stop().await.success());
    let output = command(server.home()).args(["audit", "export"]).output().unwrap();
    let lines: Vec<Value> = String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |what: &str| lines.iter().filter(|line| line["what"] == what).map(|line| line["on"].clone()).collect::<Vec<_>>();
    assert_eq!(of("configuration").len(), 1, "{lines:#?}");
    let keys = of("key");
    assert!(!keys.is_empty() && keys.iter().all(|on| on == beside.as_str()), "{keys:?}");
}

/// Whoever can write the file can silence the log, but not unseen.
#[tokio::test]
async fn that_it_is_switched_off_is_its_last_record() {
    let (on, off) = ("[audit]\nenabled = true\n", "[audit]\nenabled = false\n");
    let mut server = Setup::new().config(on).start();
    let client = server.client();
    std::fs::write(server.home().join("config.toml"), off).unwrap();
    server.signal(rustix::process::Signal::HUP);
    while client.get("/api/config").await.expect(200).json()["audit"]["enabled"] != false {}
    client.post("/api/memory", &json!({"content": "x"})).await.expect(200);
    let whats = |home: &Path| -> Vec<String> {
        let output = command(home).args(["audit", "export"]).output().unwrap();
        let lines = String::from_utf8(output.stdout).unwrap();
        let all = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["what"].as_str().unwrap().to_owned());
        all.filter(|what| !matches!(&**what, "segment" | "checkpoint")).collect()
    };
    assert!(server.stop().await.success());
    assert_eq!(whats(server.home()), ["server started", "audit off"]);
    server.restart();
    assert!(server.stop().await.success());
    assert_eq!(whats(server.home()), ["server started", "audit off", "audit off"]);
    assert_eq!(verify(server.home(), &[]).0, Some(0));
}

#[tokio::test]
async fn another_owners_records_are_not_shown() {
    let server = Setup::new().start();
    let client = server.client();
    let made = client.post("/api/keys", &json!({"name": "other", "scopes": ["admin", "read"], "owner": "new"})).await.expect(201).json();
    let other = client.with_key(None);
    let key = made["key"].as_str().unwrap();
    let ask = crate::support::client::Ask::new("GET", "/api/audit/entries").header("authorization", format!("Bearer {key}"));
    let theirs = other.send(ask).await.expect(200).json();
    assert_eq!(theirs["total"], 0, "{theirs}");
    assert!(entries(&client, "").await.iter().any(|e| says(e, "POST /api/keys", "begun")));
    let text = std::fs::read_to_string(server.home().join("workspace/audit/1.log")).unwrap();
    assert!(!text.contains(key));
}

#[tokio::test]
async fn a_name_is_explained_on_the_machine_itself() {
    let mut server = Setup::new().start();
    let client = server.client();
    client.post("/api/skills/no-such-skill/enable", &json!({})).await;
    server.stop().await;
    let output = command(server.home()).args(["audit", "explain", "--name", "no-such-skill"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("/enable") && text.contains("2 records"), "{text}");
}

/// Whose doing it was: a run acts for the key that began it, a decision is that of the key that decided.
#[tokio::test]
async fn tools_and_decisions_name_the_key_that_began_or_decided_also_after_a_restart() {
    let mut server = Setup::new().start();
    let admin = server.client();
    let make = async |scopes: &[&str]| {
        let made = admin.post("/api/keys", &json!({"name": "x", "scopes": scopes})).await.expect(201).json();
        (made["id"].clone(), made["key"].as_str().unwrap().to_owned())
    };
    let ((teller, teller_key), (decider, decider_key)) = (make(&["chat", "read", "write"]).await, make(&["approve"]).await);
    let asked = admin.with_key(Some(&teller_key)).post("/api/chat", &json!({"content": "write a.md: text"})).await.expect(202).json();
    let session = asked["session_id"].as_str().unwrap().to_owned();
    server.restart();
    let admin = server.client();
    let approve = format!("/api/approvals/{}/approve", asked["approval"]["id"].as_str().unwrap());
    admin.with_key(Some(&decider_key)).post_empty(&approve).await.expect(200);
    admin.get(&format!("/api/sessions/{session}/events?until=idle")).await.expect(200);
    // A message in the place of an open question has said no to it.
    let other = admin.with_key(Some(&teller_key)).post("/api/chat", &json!({"content": "write b.md: text"})).await.expect(202).json();
    admin.post("/api/chat", &json!({"content": "hello", "session_id": other["session_id"]})).await.expect(200);
    let job = json!({"name": "j", "schedule": "0 0 1 1 *", "content": "list files"});
    let job = admin.with_key(Some(&teller_key)).post("/api/cron-jobs", &job).await.expect(201).json();
    let run = admin.with_key(Some(&teller_key)).post_empty(&format!("/api/cron-jobs/{}/trigger", job["id"].as_str().unwrap())).await;
    let run = run.expect(200).json()["run"].clone();
    admin.get(&format!("/api/sessions/{}/events?until=idle", run["session_id"].as_str().unwrap())).await.expect(200);

    let all = entries(&admin, "").await;
    let by = |what: &str, outcome: &str| -> Vec<Value> {
        all.iter().filter(|entry| says(entry, what, outcome)).map(|entry| entry["key"].clone()).collect()
    };
    let first = by("POST /api/keys", "201")[0].clone();
    assert_eq!(by("tool write_file", "begun"), std::slice::from_ref(&teller));
    assert_eq!(by("tool write_file", "done"), std::slice::from_ref(&teller));
    assert_eq!(by("approval asked", "done"), [teller.clone(), teller.clone()]);
    assert_eq!(by("approval decided", "approved"), [decider]);
    assert_eq!(by("approval decided", "rejected"), [first]);
    assert_eq!(by("tool list_files", "done"), std::slice::from_ref(&teller), "a task that somebody set off");
    for entry in all.iter().filter(|entry| ["tool", "approval", "message"].iter().any(|w| entry["what"].as_str().unwrap().starts_with(w))) {
        assert!(entry["key"].is_string(), "{entry}");
    }
}

/// Many clients at once, over all transports, and the command line beside them: one chain, and for every answer its record.
#[tokio::test(flavor = "multi_thread")]
async fn many_clients_at_once_make_one_whole_chain_and_no_record_is_missing() {
    const CLIENTS: usize = 16;
    const ROUNDS: usize = 12;
    let mut server = Setup::new().env("OXIOS_SECURITY__RATE_LIMIT_PER_MINUTE", "0").start();
    let client = server.client();
    let clients = (0..CLIENTS).map(|n| {
        let client = client.clone();
        tokio::spawn(async move {
            let mut socket = crate::support::ws::Ws::chat(&client).await;
            for round in 0..ROUNDS {
                client.post("/api/memory", &json!({"content": format!("{n} {round}")})).await.expect(200);
                client.delete("/api/memory/67e55044-10b1-426f-9247-bb680e5fe0c8").await.expect(404);
                client.post("/api/keys", &json!({"name": "x", "scopes": ["read"]})).await.expect(201);
                socket.say("hello", None).await;
                socket.until("done").await;
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    let home = server.home().to_owned();
    let beside = tokio::task::spawn_blocking(move || {
        for _ in 0..5 {
            // A reader of a log that grows meanwhile sees a whole chain, too.
            let (code, text) = verify(&home, &[]);
            assert!(code == Some(0) || text.contains("this is no record") && text.matches("WRONG").count() == 1, "{text}");
        }
    });
    for one in clients {
        one.await.unwrap();
    }
    beside.await.unwrap();
    let head = client.get("/api/audit/verify").await.expect(200).json()["head"].as_str().unwrap().to_owned();
    server.stop().await;
    let (code, text) = verify(server.home(), &["--head", &head]);
    assert_eq!(code, Some(0), "{text}");
    let log = std::fs::read_to_string(server.home().join("workspace/audit/1.log")).unwrap();
    let count = |what: &str, outcome: &str| {
        log.lines()
            .filter(|line| line.contains(&format!("\"what\":\"{what}\"")) && line.contains(&format!("\"outcome\":\"{outcome}\"")))
            .count()
    };
    let all = CLIENTS * ROUNDS;
    for (what, outcomes) in [
        ("POST /api/memory", &["200"][..]),
        ("DELETE /api/memory/{name}", &["begun", "404"]),
        ("POST /api/keys", &["begun", "201"]),
        ("message", &["done"]),
    ] {
        for outcome in outcomes {
            assert_eq!(count(what, outcome), all, "{what} {outcome}");
        }
    }
}

/// A full disk never yields an action without a record: by default it is refused; where it was set to go on, the log says how many
/// records are missing.
#[tokio::test]
async fn a_full_disk_yields_no_unaudited_action_refusing_or_counting_it() {
    for on_failure in ["refuse", "continue"] {
        let home = std::sync::Arc::new(crate::support::server::TempDir::new());
        let Some(_small) = SmallDisk::mount(home.path(), "4m") else {
            println!("SKIPPED a_full_disk_yields_no_unaudited_action: no file system can be mounted here");
            return;
        };
        let setup = Setup::new().env("OXIOS_SECURITY__RATE_LIMIT_PER_MINUTE", "0").env("OXIOS_AUDIT__ON_FAILURE", on_failure);
        let server = setup.start_in(home.clone());
        let client = server.client();
        let filler = home.path().join("filler");
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&filler).unwrap();
        let mut fill = || {
            while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
        };
        // Needs no disk itself, so that only its record may fail. The reserve pays for the first ones, until it is full, too.
        let act = async || client.post_empty("/api/logout").await;
        let (mut done, mut refused) = (0, None);
        for _ in 0..200 {
            fill();
            match act().await {
                answer if answer.status == 200 => done += 1,
                answer => {
                    refused = Some(answer);
                    break;
                }
            }
        }
        // What is recorded before it is done: nothing of it is done, and nothing else was lost meanwhile.
        fill();
        let grave = client.delete("/api/sessions/67e55044-10b1-426f-9247-bb680e5fe0c8").await;
        let metric = client.get("/metrics").await.expect(200).text();
        let lost: usize = metric.lines().find_map(|line| line.strip_prefix("oxios_audit_lost_total ")).unwrap().parse().unwrap();
        if on_failure == "refuse" {
            let refused = refused.expect("a full disk is met within 200 records");
            assert_eq!(refused.status, 507, "{}", refused.text());
            assert!(refused.error().contains("nothing was done"), "{}", refused.error());
            assert_eq!((grave.status, lost), (507, 0), "{}", grave.text());
        } else {
            assert!(refused.is_none() && lost > 0, "{lost}: {refused:?}");
            assert_eq!(grave.status, 404, "{}", grave.text());
        }
        client.get("/api/sessions").await.expect(200);
        make_room(&filler);
        drop(file);
        act().await.expect(200);
        done += 1;
        let all = entries(&client, "").await;
        let count = |what: &str, outcome: &str| all.iter().filter(|entry| says(entry, what, outcome)).count();
        let log = std::fs::read_to_string(home.path().join("workspace/audit/1.log")).unwrap();
        let told: usize = log
            .lines()
            .filter(|line| line.contains("\"what\":\"records lost\""))
            .map(|line| line.split("\"outcome\":\"").nth(1).unwrap().split('"').next().unwrap().parse::<usize>().unwrap())
            .sum();
        assert_eq!(told, lost, "the log tells how many are missing");
        if on_failure == "refuse" {
            assert_eq!(count("POST /api/logout", "200"), done, "every one that was done is recorded");
            assert_eq!(
                count("DELETE /api/sessions/{id}", "begun") + count("DELETE /api/sessions/{id}", "404"),
                0,
                "what was refused was not done"
            );
        } else {
            let begun = count("DELETE /api/sessions/{id}", "begun") + count("DELETE /api/sessions/{id}", "404");
            assert_eq!(count("POST /api/logout", "200") + begun + told, done + 2, "every one is recorded or counted");
        }
        let told = client.get("/api/audit/verify").await.expect(200).json();
        assert_eq!(told["valid"], true, "{told}");
    }
}

/// "Every record" is not said of some of them, nor of none.
#[tokio::test]
async fn an_export_that_leaves_something_out_says_so() {
    let mut server = Setup::new().start();
    server.client().post_empty("/api/chat/67e55044-10b1-426f-9247-bb680e5fe0c8/cancel").await;
    server.stop().await;
    let export = |more: &[&str]| {
        let output = command(server.home()).args(["audit", "export"]).args(more).output().unwrap();
        let lines = String::from_utf8(output.stdout).unwrap().lines().count();
        (output.status.code(), lines, String::from_utf8(output.stderr).unwrap())
    };
    let log = server.home().join("workspace/audit/1.log");
    let whole = std::fs::read_to_string(&log).unwrap();
    let count = whole.lines().count();
    let half = "{\"n\":999,\"ti";
    for text in [whole.clone(), format!("{whole}{half}")] {
        std::fs::write(&log, text).unwrap();
        assert_eq!(export(&[]), (Some(0), count, String::new()), "what is being written is no record yet");
    }
    std::fs::write(&log, whole.replacen("\"what\"", "\"who\"", 2)).unwrap();
    let (code, lines, said) = export(&[]);
    assert!(code == Some(1) && lines == count - 2 && said.contains("left out: 2"), "{code:?} {lines} {said}");
    std::fs::write(&log, format!("{whole}{}", half.repeat(1000))).unwrap();
    assert_eq!((export(&[]).0, export(&[]).1), (Some(1), count));
    let (code, lines, said) = export(&["/nowhere"]);
    assert!(code == Some(1) && lines == 0 && said.contains("no audit log in /nowhere"), "{code:?} {lines} {said}");
}
