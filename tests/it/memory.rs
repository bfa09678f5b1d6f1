//! Memory over HTTP (API A7, B), and what of it reaches the model.

use serde_json::{Value, json};

use crate::support::client::{Ask, Client};
use crate::support::scripted::{Reply, Scripted};
use crate::support::server::Setup;

async fn keep(client: &Client, body: Value) -> String {
    let made = client.post("/api/memory", &body).await.expect(200).json();
    assert_eq!(made["status"], "created", "{made}");
    made["id"].as_str().unwrap().to_owned()
}

async fn found(client: &Client, query: &str) -> Value {
    client.post("/api/memory/search", &json!({"query": query})).await.expect(200).json()
}

#[tokio::test]
async fn what_is_kept_is_listed_found_changed_and_forgotten_also_after_a_restart() {
    let mut server = Setup::new().start();
    server.canary("canary-memory");
    let client = server.client();
    let mut events = client.sse("/api/events").await;
    let router = keep(&client, json!({"content": "the router canary-memory is in the attic", "tags": ["home"], "importance": 0.7})).await;
    let tea = keep(&client, json!({"content": "我喜欢喝茶", "memory_type": "knowledge", "unknown": true})).await;
    let seen = events.until(|e| e["type"] == "memory_stored").await;
    assert!(!format!("{seen:?}").contains("canary"), "{seen:?}");

    server.restart();
    let client = server.client();
    let list = client.get("/api/memory?limit=1").await.expect(200).json();
    assert_eq!((&list["total"], &list["page"], &list["limit"]), (&json!(2), &json!(1), &json!(1)), "{list}");
    let all = client.get("/api/memory").await.expect(200).json();
    let names: Vec<_> = all["items"].as_array().unwrap().iter().map(|item| (item["name"].clone(), item["category"].clone())).collect();
    assert!(names.contains(&(json!(router), json!("facts"))) && names.contains(&(json!(tea), json!("knowledge"))), "{all}");

    let hits = found(&client, "where is the router?").await;
    assert_eq!(hits["count"], 1, "{hits}");
    let entry = &hits["entries"][0];
    for key in ["id", "type", "content", "tags", "importance", "created_at"] {
        assert!(entry.get(key).is_some(), "{key} in {entry}");
    }
    assert_eq!((&entry["id"], &entry["type"], &entry["importance"]), (&json!(router), &json!("fact"), &json!(0.7)));
    assert_eq!(found(&client, "喝茶").await["entries"][0]["id"], tea);
    let other = json!({"query": "router", "memory_type": "episode", "limit": 3});
    assert_eq!(client.post("/api/memory/search", &other).await.expect(200).json(), json!({"count": 0, "entries": []}));

    let detail = client.get(&format!("/api/memory/{router}")).await.expect(200).json();
    for key in ["id", "name", "category", "content", "tags", "importance", "created_at"] {
        assert!(detail.get(key).is_some(), "{key} in {detail}");
    }
    let change = json!({"content": "the router is in the cellar", "memory_type": "episode", "pinned": true});
    let patch = Ask::new("PATCH", format!("/api/memory/{router}")).json(&change);
    let changed = client.send(patch).await.expect(200).json();
    assert_eq!((&changed["category"], &changed["tags"], &changed["pinned"]), (&json!("episodes"), &json!(["home"]), &json!(true)));
    assert_eq!(found(&client, "attic").await["count"], 0);
    let gone = client.delete(&format!("/api/memory/{tea}")).await.expect(200).json();
    assert_eq!(gone, json!({"status": "deleted", "name": tea}));

    server.restart();
    let client = server.client();
    assert_eq!(client.get(&format!("/api/memory/{router}")).await.expect(200).json(), changed);
    client.get(&format!("/api/memory/{tea}")).await.expect(404);
    assert_eq!(found(&client, "cellar").await["entries"][0]["id"], router);
    assert_eq!(found(&client, "喝茶").await["count"], 0);
    let status = client.get("/api/status").await.expect(200).json();
    assert_eq!(status["components"]["memory"], json!({"enabled": true, "index_size": 1, "total_entries": 1}));
}

#[tokio::test]
async fn a_memory_that_was_edited_in_place_is_found_by_its_new_words_once_it_was_shown() {
    let server = Setup::new().start();
    let client = server.client();
    let id = keep(&client, json!({"content": "the router is in the attic", "tags": ["home"]})).await;
    let path = server.home().join(format!("workspace/memory/facts/{id}.json"));
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("attic", "cellar").replace("home", "net")).unwrap();
    assert_eq!(client.get(&format!("/api/memory/{id}")).await.expect(200).json()["content"], "the router is in the cellar");
    for (query, count) in [("cellar", 1), ("net", 1), ("attic", 0), ("home", 0)] {
        assert_eq!(found(&client, query).await["count"], count, "{query}");
    }
    // As it is, too, where it is changed before it was shown.
    std::fs::write(&path, text.replace("attic", "kitchen, now")).unwrap();
    let patch = Ask::new("PATCH", format!("/api/memory/{id}")).json(&json!({"importance": 0.9}));
    assert_eq!(client.send(patch).await.expect(200).json()["content"], "the router is in the kitchen, now");
    assert_eq!(found(&client, "kitchen").await["count"], 1);
}

#[tokio::test]
async fn nothing_is_asked_for_with_a_limit_of_nothing() {
    let server = Setup::new().start();
    let client = server.client();
    keep(&client, json!({"content": "the router is in the attic"})).await;
    for path in ["/api/memory/search", "/api/memory/semantic"] {
        for (limit, count) in [(json!(0), 0), (json!(1), 1), (Value::Null, 1)] {
            let answer = client.post(path, &json!({"query": "router", "limit": limit})).await.expect(200).json();
            assert_eq!((&answer["count"], answer["entries"].as_array().unwrap().len()), (&json!(count), count), "{path} {limit}: {answer}");
        }
    }
    client.post("/api/chat", &json!({"content": "hello"})).await.expect(200);
    for path in ["/api/memory?", "/api/sessions?", "/api/sessions?q=hello&", "/api/skills?", "/api/keys?", "/api/audit/entries?"] {
        let none = client.get(&format!("{path}limit=0")).await.expect(200).json();
        assert!(none["items"] == json!([]) && none["limit"] == 0 && none["total"].as_u64() > Some(0), "{path}: {none}");
    }
}

#[tokio::test]
async fn greek_is_found_in_capitals_and_in_small_letters() {
    let server = Setup::new().start();
    let client = server.client();
    keep(&client, json!({"content": "Ο φαρος της πολης"})).await;
    keep(&client, json!({"content": "Ο ΚΩΔΙΚΟΣ ΤΟΥ ΘΥΡΩΡΟΥ"})).await;
    for query in ["φαρος", "ΦΑΡΟΣ", "φαροσ", "κωδικος", "ΚΩΔΙΚΟΣ"] {
        assert_eq!(found(&client, query).await["count"], 1, "{query}");
    }
}

#[tokio::test]
async fn fields_have_limits_and_documented_refusals() {
    let server = Setup::new().start();
    let client = server.client();
    for (body, status) in [
        (json!({"content": "x".repeat(32 * 1024)}), 200),
        (json!({"content": "x".repeat(32 * 1024 + 1)}), 413),
        (json!({"content": "\u{1}".repeat(32 * 1024)}), 200),
        (json!({"content": " "}), 400),
        (json!({"content": "x", "memory_type": "dream"}), 400),
        (json!({"content": "x", "importance": 1.1}), 400),
        (json!({"content": "x", "importance": -0.1}), 400),
        (json!({"content": "x", "importance": 1e39}), 422),
        (json!({"content": "x", "importance": "high"}), 422),
        (json!({"content": "x", "tags": vec!["t"; 17]}), 400),
        (json!({"content": "x", "tags": [("t".repeat(65))]}), 400),
        (json!({"content": "x", "tags": [""]}), 400),
        (json!({"content": "x", "memory_type": null, "tags": null, "importance": null}), 200),
        (json!({"content": 1}), 422),
        (json!({}), 422),
    ] {
        let answer = client.post("/api/memory", &body).await;
        assert_eq!(answer.status, status, "{}: {}", body.to_string().chars().take(80).collect::<String>(), answer.text());
    }
    for (body, status) in [
        (json!({"query": ""}), 400),
        (json!({"query": "x".repeat(5000)}), 400),
        (json!({"query": "x", "memory_type": "dream"}), 400),
        (json!({"query": "x", "limit": -1}), 422),
        (json!({"query": "x", "limit": 1_000_000}), 200),
    ] {
        assert_eq!(client.post("/api/memory/search", &body).await.status, status, "{body}");
    }
    let id = keep(&client, json!({"content": "kept"})).await;
    for (body, status) in [
        (json!({"unknown": 1}), 422),
        (json!({"content": ""}), 400),
        (json!({"memory_type": "dream"}), 400),
        (json!({"importance": 2}), 400),
        (json!({"content": "x".repeat(32 * 1024 + 1)}), 413),
        (json!({}), 200),
    ] {
        let answer = client.send(Ask::new("PATCH", format!("/api/memory/{id}")).json(&body)).await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    assert_eq!(client.get(&format!("/api/memory/{id}")).await.expect(200).json()["content"], "kept");
    for name in ["nothing", "..keys", "67e55044-10b1-426f-9247-bb680e5fe0c8"] {
        client.get(&format!("/api/memory/{name}")).await.expect(404);
        client.delete(&format!("/api/memory/{name}")).await.expect(404);
    }
}

#[tokio::test]
async fn many_write_at_once_and_nothing_is_lost() {
    let server = Setup::new().start();
    let client = server.client();
    let writers = (0..20).map(|n| {
        let client = client.clone();
        tokio::spawn(async move { keep(&client, json!({"content": format!("shared word{n}")})).await })
    });
    let mut ids = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        ids.push(writer.await.unwrap());
    }
    assert_eq!(client.get("/api/memory").await.expect(200).json()["total"], 20);
    let all = client.post("/api/memory/search", &json!({"query": "shared", "limit": 50})).await.expect(200).json();
    assert_eq!(all["count"], 20);
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(found(&client, &format!("word{n}")).await["entries"][0]["id"], *id);
    }
}

#[tokio::test]
async fn what_is_kept_here_reaches_the_model_and_what_the_model_keeps_is_found_here() {
    let model = Scripted::start();
    model.always(Reply::text(&["Fine."]));
    let server = Setup::new().openai(&model).start();
    let client = server.client();
    keep(&client, json!({"content": "the router password is swordfish"})).await;
    keep(&client, json!({"content": "call me Captain in every answer", "pinned": true})).await;
    keep(&client, json!({"content": "the cat is called Miez"})).await;
    let mut events = client.sse("/api/events").await;
    client.post("/api/chat", &json!({"content": "what is the router password?"})).await.expect(200);
    events.until(|e| e["type"] == "memory_recalled").await;
    let told = model.request(1).await.told();
    assert!(told.contains("swordfish"), "{told}");
    assert!(told.contains("Captain"), "a pinned memory stands before every run: {told}");
    assert!(!told.contains("Miez"), "{told}");
}

/// A long one does not keep the others out, and is not kept out itself.
#[tokio::test]
async fn long_memories_share_the_room_before_the_model() {
    let model = Scripted::start();
    model.always(Reply::text(&["Fine."]));
    let server = Setup::new().openai(&model).start();
    let client = server.client();
    for n in 0..4 {
        let content = format!("boiler manual {n}: {}", "turn the valve slowly. ".repeat(200));
        keep(&client, json!({"content": content})).await;
    }
    keep(&client, json!({"content": "the boiler manual is in the kitchen"})).await;
    keep(&client, json!({"content": format!("house rules: {}", "be kind. ".repeat(1000)), "pinned": true})).await;
    client.post("/api/chat", &json!({"content": "where is the boiler manual?"})).await.expect(200);
    let told = model.request(1).await.told();
    for word in ["manual 0", "manual 1", "manual 2", "manual 3", "in the kitchen", "house rules", "[…]"] {
        assert!(told.contains(word), "{word}: {told}");
    }
    assert!(told.len() < 12 * 1024, "{}", told.len());
}

#[tokio::test]
async fn the_tool_and_the_route_share_one_memory() {
    let server = Setup::new().start();
    let client = server.client();
    client.post("/api/chat", &json!({"content": "remember the boat is called Nimbus"})).await.expect(200);
    assert_eq!(found(&client, "boat").await["count"], 1);
    keep(&client, json!({"content": "the bicycle is called Thunder"})).await;
    let answer = client.post("/api/chat", &json!({"content": "recall bicycle"})).await.expect(200).json();
    assert!(answer["reply"].as_str().unwrap().contains("Thunder"), "{answer}");
}

async fn near(client: &Client, query: &str) -> Value {
    client.post("/api/memory/semantic", &json!({"query": query})).await.expect(200).json()
}

#[tokio::test]
async fn without_an_embedding_model_words_rank_and_the_answer_says_so() {
    let server = Setup::new().start();
    let client = server.client();
    keep(&client, json!({"content": "the router is grey"})).await;
    keep(&client, json!({"content": "the cat is grey and the router is not, and this text is much longer"})).await;
    let ranked = near(&client, "router").await;
    assert_eq!((&ranked["engine"], &ranked["degraded"], &ranked["count"]), (&json!("bm25"), &json!(false), &json!(2)), "{ranked}");
    let similarity = |n: usize| ranked["entries"][n]["similarity"].as_f64().unwrap();
    assert!(similarity(0) > similarity(1) && similarity(1) > 0.0 && similarity(0) <= 1.0, "{ranked}");
    assert!((ranked["entries"][0]["distance"].as_f64().unwrap() + similarity(0) - 1.0).abs() < 1e-9);
}

#[tokio::test]
async fn an_embedding_model_ranks_by_meaning_and_its_vectors_outlive_a_restart() {
    let model = Scripted::start();
    model.always(Reply::text(&["Fine."]));
    let mut server = Setup::new()
        .openai(&model)
        .config(&format!("[memory]\nembedding_model = \"openai/nearby\"\nembedding_base_url = \"http://{}/v1\"", model.address()))
        .start();
    let client = server.client();
    let router = keep(&client, json!({"content": "the router is in the attic"})).await;
    let cat = keep(&client, json!({"content": "Miez likes fish"})).await;
    let ranked = near(&client, "why is there no internet?").await;
    assert_eq!(ranked["engine"], "bm25+embeddings:nearby", "{ranked}");
    assert_eq!(ranked["entries"][0]["id"], router, "no word in common: {ranked}");
    assert!(ranked["entries"][0]["similarity"].as_f64().unwrap() > 0.99, "{ranked}");
    let asked = model.vectors();
    assert_eq!(asked.iter().map(|seen| seen.body["input"].as_array().unwrap().len()).sum::<usize>(), 3, "the query and two texts");
    assert!(asked.iter().all(|seen| seen.header("authorization").is_none()), "another address's key is never sent");

    server.restart();
    let client = server.client();
    assert_eq!(near(&client, "what does my pet eat?").await["entries"][0]["id"], cat);
    assert_eq!(model.vectors().len(), asked.len() + 1, "only the query");
    client.send(Ask::new("PATCH", format!("/api/memory/{cat}")).json(&json!({"content": "the boat is red"}))).await.expect(200);
    assert_eq!(near(&client, "when do we sail?").await["entries"][0]["id"], cat, "a changed text gets a new vector");
    client.post("/api/chat", &json!({"content": "why is there no wlan?"})).await.expect(200);
    assert!(model.request(1).await.told().contains("attic"), "what is near reaches the model");
    model.next(Reply::tool("recall", &json!({"query": "wifi, I mean wlan", "limit": 1})));
    client.post("/api/chat", &json!({"content": "look it up"})).await.expect(200);
    let told = model.request(3).await.told();
    let said = told.split("[recall returned this data]\\n").nth(1).unwrap().split('"').next().unwrap();
    assert!(said.starts_with("- [fact ") && said.ends_with("] the router is in the attic"), "the tool ranks by meaning, too: {said}");

    model.refuse_vectors(Some(500));
    let ranked = near(&client, "router").await;
    assert_eq!((&ranked["engine"], &ranked["degraded"]), (&json!("bm25"), &json!(true)), "{ranked}");
    assert_eq!(ranked["entries"][0]["id"], router);
    let before = model.vectors().len();
    near(&client, "router").await;
    assert_eq!(model.vectors().len(), before, "a model that failed is left alone for a while");
}

#[tokio::test]
async fn what_is_not_near_does_not_reach_the_model_but_is_seen_by_who_searches() {
    let model = Scripted::start();
    model.always(Reply::text(&["Fine."]));
    let server = Setup::new()
        .openai(&model)
        .config(&format!("[memory]\nembedding_model = \"openai/nearby\"\nembedding_base_url = \"http://{}/v1\"", model.address()))
        .start();
    let client = server.client();
    keep(&client, json!({"content": "tea is in the cupboard"})).await;
    assert_eq!(near(&client, "who sails?").await["count"], 1);
    client.post("/api/chat", &json!({"content": "who sails?"})).await.expect(200);
    assert!(!model.request(1).await.told().contains("cupboard"), "where nothing is near, the nearest one is not either");
    for content in [
        "the router is in the attic",
        "wlan for the boat",
        // A third of its meaning: too little beside one that is all about it.
        "the wlan of cat, pet and miez",
        // Another meaning, but a word of the question.
        "the cellar is damp",
    ] {
        keep(&client, json!({"content": content})).await;
    }
    let question = "why has the cellar no internet?";
    let searched = near(&client, question).await;
    assert_eq!(searched["count"], 5, "{searched}");
    client.post("/api/chat", &json!({"content": question})).await.expect(200);
    let told = model.request(2).await.told();
    for (text, is_told) in [("attic", true), ("damp", true), ("miez", false), ("cupboard", false)] {
        assert_eq!(told.contains(text), is_told, "{text}: {told}");
    }
    // The tool tells no more.
    model.next(Reply::tool("recall", &json!({"query": "when do we sail to the drink of the cat?", "limit": 9})));
    client.post("/api/chat", &json!({"content": "look it up"})).await.expect(200);
    let told = model.request(4).await.told();
    let said = told.split("[recall returned this data]\\n").nth(1).unwrap().split('"').next().unwrap();
    for (text, is_told) in [("wlan for", true), ("miez", true), ("cupboard", true), ("attic", false), ("damp", false)] {
        assert_eq!(said.contains(text), is_told, "{text}: {said}");
    }
}

#[tokio::test]
async fn what_is_forgotten_leaves_no_vector_behind_even_where_no_model_makes_them_now() {
    let model = Scripted::start();
    let mut server = Setup::new()
        .config(&format!("[memory]\nembedding_model = \"openai/nearby\"\nembedding_base_url = \"http://{}/v1\"", model.address()))
        .start();
    let client = server.client();
    let router = keep(&client, json!({"content": "the router"})).await;
    let cat = keep(&client, json!({"content": "the cat"})).await;
    let boat = keep(&client, json!({"content": "the boat"})).await;
    near(&client, "anything").await;
    let dir = server.home().join("workspace/memory/vectors");
    let kept = |id: &str| {
        let files = std::fs::read_dir(&dir).unwrap().map(|file| std::fs::read(file.unwrap().path()).unwrap());
        files.flatten().collect::<Vec<u8>>().windows(id.len()).any(|some| some == id.as_bytes())
    };
    assert!(kept(&router) && kept(&cat) && kept(&boat));
    client.delete(&format!("/api/memory/{router}")).await.expect(200);
    assert!(!kept(&router) && kept(&cat));
    client.send(Ask::new("PUT", "/api/config").json(&json!({"memory": {"embedding_model": ""}}))).await.expect(200);
    server.restart();
    server.client().delete(&format!("/api/memory/{cat}")).await.expect(200);
    assert!(!kept(&cat) && kept(&boat));
}

#[tokio::test]
async fn a_lost_vector_file_is_made_again() {
    let model = Scripted::start();
    let mut server = Setup::new()
        .config(&format!("[memory]\nembedding_model = \"openai/nearby\"\nembedding_base_url = \"http://{}/v1\"", model.address()))
        .start();
    let client = server.client();
    let tea = keep(&client, json!({"content": "tea is in the cupboard"})).await;
    near(&client, "drink").await;
    let dir = server.home().join("workspace/memory/vectors");
    for file in std::fs::read_dir(&dir).unwrap() {
        std::fs::write(file.unwrap().path(), "rotten").unwrap();
    }
    server.restart();
    let client = server.client();
    assert_eq!(near(&client, "drink").await["entries"][0]["id"], tea);
}

#[tokio::test]
async fn another_owners_memories_personas_and_spaces_do_not_exist() {
    let server = Setup::new().start();
    let client = server.client();
    let body = json!({"name": "guest", "scopes": ["read", "chat", "write"], "owner": "new"});
    let key = client.post("/api/keys", &body).await.expect(201).json()["key"].as_str().unwrap().to_owned();
    let guest = server.stranger().with_key(Some(&key));
    let memory = keep(&client, json!({"content": "the safe is behind the picture"})).await;
    let persona = client.post("/api/personas", &json!({"name": "p", "prompt": "q"})).await.expect(201).json()["id"].clone();
    let space = client.post("/api/spaces", &json!({"name": "s"})).await.expect(201).json()["id"].clone();
    let mine = keep(&guest, json!({"content": "the safe is mine"})).await;

    assert_eq!(found(&guest, "safe").await["entries"][0]["id"], mine);
    assert_eq!((&found(&guest, "safe").await["count"], &near(&guest, "safe").await["count"]), (&json!(1), &json!(1)));
    for (list, total) in [("memory", 1), ("personas", 0), ("spaces", 0)] {
        assert_eq!(guest.get(&format!("/api/{list}")).await.expect(200).json()["total"], total, "{list}");
    }
    let (persona, space) = (persona.as_str().unwrap(), space.as_str().unwrap());
    for path in [format!("memory/{memory}"), format!("personas/{persona}"), format!("spaces/{space}")] {
        guest.get(&format!("/api/{path}")).await.expect(404);
    }
    guest.delete(&format!("/api/memory/{memory}")).await.expect(404);
    guest.send(Ask::new("PATCH", format!("/api/memory/{memory}")).json(&json!({"pinned": true}))).await.expect(404);
    guest.delete(&format!("/api/personas/{persona}")).await.expect(404);
    guest.send(Ask::new("PUT", "/api/personas/active").json(&json!({"id": persona}))).await.expect(404);
    for what in ["activate", "archive", "restore"] {
        guest.post_empty(&format!("/api/spaces/{space}/{what}")).await.expect(404);
    }
    guest.post("/api/chat", &json!({"content": "hello", "space_id": space})).await.expect(404);
    client.get(&format!("/api/memory/{memory}")).await.expect(200);
    assert_eq!(client.get(&format!("/api/spaces/{space}")).await.expect(200).json()["status"], "active");
}
