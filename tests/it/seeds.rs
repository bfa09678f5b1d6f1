//! Specifications (API A6): list, detail, and the scores of each repair, also after a restart.

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::scripted::{Reply, Scripted};
use crate::support::server::Setup;

#[tokio::test]
async fn a_task_that_was_repaired_shows_its_lineage_with_scores_after_a_restart() {
    let model = Scripted::start();
    let judged = |passed: bool, score: f64| {
        Reply::json(&json!({"passed": passed, "score": score, "notes": "dry", "criteria": [{"criterion": "mentions rain", "met": passed}]}))
    };
    let goal = "Write a haiku about rain";
    let criteria = json!(["mentions rain"]);
    model.phase("interview", Reply::tool("start_task", &json!({"goal": goal, "constraints": [], "acceptance_criteria": criteria})));
    model.phase("execute", Reply::text(&["Sun."])).phase("execute", Reply::text(&["Rain."]));
    model.phase("evaluate", judged(false, 0.25)).phase("evaluate", judged(true, 0.95));
    let ontology = json!([{"name": "rain", "entity_type": "weather", "description": "water that falls"}]);
    let evolved = json!({"goal": goal, "constraints": ["short"], "acceptance_criteria": criteria, "ontology": ontology, "repair": "rain"});
    model.phase("evolve", Reply::json(&evolved));
    let mut server = Setup::new().openai(&model).start();
    server.client().post("/api/chat", &json!({"content": "A haiku about rain, please"})).await.expect(200);

    server.restart();
    let client = server.client();
    let list = client.get("/api/seeds").await.expect(200).json();
    assert_eq!((&list["total"], &list["page"], &list["limit"]), (&json!(2), &json!(1), &json!(50)));
    let [child, root] = [&list["items"][0], &list["items"][1]];
    assert_eq!((&child["goal"], &child["constraints_count"], &root["constraints_count"]), (&json!(goal), &json!(1), &json!(0)));
    assert_eq!(child.as_object().unwrap().len(), 4);
    let (root, child) = (root["id"].as_str().unwrap(), child["id"].as_str().unwrap());

    let detail = client.get(&format!("/api/seeds/{child}")).await.expect(200).json();
    assert_eq!(
        (&detail["generation"], &detail["parent_seed_id"], &detail["constraints"], &detail["acceptance_criteria"], &detail["ontology"]),
        (&json!(1), &json!(root), &json!(["short"]), &criteria, &ontology)
    );
    assert_eq!(detail["original_request"], "A haiku about rain, please");
    assert_eq!(client.get(&format!("/api/seeds/{root}")).await.expect(200).json()["parent_seed_id"], Value::Null);

    let lineage = json!([
        {"id": root, "generation": 0, "goal": goal, "score": 0.25, "passed": false},
        {"id": child, "generation": 1, "goal": goal, "parent_id": root, "score": 0.95, "passed": true},
    ]);
    for id in [root, child] {
        assert_eq!(client.get(&format!("/api/seeds/{id}/evolution")).await.expect(200).json(), lineage);
    }
    let nobody = "00000000-0000-4000-8000-000000000000";
    for path in [format!("/api/seeds/{nobody}"), format!("/api/seeds/{nobody}/evolution")] {
        client.get(&path).await.expect(404);
    }
    client.get("/api/seeds/x").await.expect(400);
    assert_eq!(client.get("/api/seeds?limit=1&page=2").await.expect(200).json()["items"][0]["id"], root);
}

#[tokio::test]
async fn a_task_is_in_the_listing_while_it_waits_and_its_words_go_with_its_session() {
    let mut server = Setup::new().start();
    let client = server.client();
    let asked = client.post("/api/chat", &json!({"content": "task write a.md: hi criteria: names a.md"})).await.expect(202).json();
    let session = asked["session_id"].as_str().unwrap();
    let listed = async |client: &Client| client.get("/api/sessions").await.expect(200).json()["items"][0]["active_seed_id"].clone();
    let seed = listed(&client).await;
    assert_eq!(seed, client.get(&format!("/api/sessions/{session}")).await.expect(200).json()["active_seed_id"]);
    assert_eq!(seed, client.get("/api/agents").await.expect(200).json()["items"][0]["seed_id"]);
    server.kill9();
    server.restart();
    let client = server.client();
    assert_eq!(seed, listed(&client).await);
    let path = format!("/api/seeds/{}", seed.as_str().unwrap());
    client.get(&path).await.expect(200);
    client.delete(&format!("/api/sessions/{session}")).await.expect(200);
    client.get(&path).await.expect(404);
    server.restart();
    assert_eq!(server.client().get("/api/seeds").await.expect(200).json()["total"], 0);
}

/// The page's edit and retry are forks, and the old conversation is then deleted.
#[tokio::test]
async fn the_specifications_of_a_copy_stay_when_the_conversation_goes_that_it_was_copied_from() {
    let mut server = Setup::new().start();
    let client = server.client();
    let said = client.post("/api/chat", &json!({"content": "task echo tea criteria: says tea"})).await.expect(200).json();
    let session = format!("/api/sessions/{}", said["session_id"].as_str().unwrap());
    let fork = client.post(&format!("{session}/fork"), &json!({})).await.expect(201).json();
    let exported = client.get(&format!("{session}/export?format=json")).await.expect(200).json();
    let import = client.post("/api/sessions/import", &exported).await.expect(201).json();
    client.delete(&session).await.expect(200);
    let copies = [&fork, &import].map(|copy| format!("/api/sessions/{}", copy["id"].as_str().unwrap()));
    let seeds = async |client: &Client, copy: &str| {
        let detail = client.get(copy).await.expect(200).json();
        assert_eq!(detail["agent_responses"][0]["seed_id"], detail["active_seed_id"]);
        format!("/api/seeds/{}", detail["active_seed_id"].as_str().unwrap())
    };
    let mut last = String::new();
    for copy in &copies {
        server.restart();
        let client = server.client();
        let seed = seeds(&client, copy).await;
        assert_eq!(client.get(&seed).await.expect(200).json()["goal"], "echo tea");
        assert!(client.get(&format!("{seed}/evolution")).await.expect(200).json()[0]["score"].is_number());
        client.delete(copy).await.expect(200);
        last = seed;
    }
    server.client().get(&last).await.expect(404);
    assert_eq!(server.client().get("/api/seeds").await.expect(200).json()["total"], 0);
}

/// kill -9 between the tombstone of a session and what belonged to it.
#[tokio::test]
async fn what_a_kill_left_of_a_deleted_session_is_gone_after_the_next_start() {
    let mut server = Setup::new().start();
    let client = server.client();
    let asked = client.post("/api/chat", &json!({"content": "task write a.md: hi criteria: names a.md"})).await.expect(202).json();
    let seed = client.get("/api/seeds").await.expect(200).json()["items"][0]["id"].as_str().unwrap().to_owned();
    let approval = asked["approval"]["id"].as_str().unwrap();
    let workspace = server.home().join("workspace");
    let files = [workspace.join(format!("seeds/{seed}.json")), workspace.join(format!("approvals/{approval}.json"))];
    let before = files.clone().map(|file| std::fs::read(file).unwrap());
    client.delete(&format!("/api/sessions/{}", asked["session_id"].as_str().unwrap())).await.expect(200);
    server.kill9();
    for (file, bytes) in files.iter().zip(before) {
        assert!(!file.exists());
        std::fs::write(file, bytes).unwrap();
    }
    server.restart();
    let client = server.client();
    let path = format!("/api/seeds/{seed}");
    while client.get(&path).await.status != 404 || files.iter().any(|file| file.exists()) {
        tokio::task::yield_now().await;
    }
    assert_eq!(client.get("/api/seeds").await.expect(200).json()["total"], 0);
}
