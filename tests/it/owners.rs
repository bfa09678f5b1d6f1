//! What is another owner's is as if it did not exist: byte for byte the same answer as for an id that nobody has, on every row of
//! the table that names something, and in what bodies, queries, frames and tools name (THREATS 7, 8).

use std::collections::BTreeMap;

use oxios_edge::api::routes::{ROUTES, Route};
use serde_json::{Value, json};

use crate::support::client::{Answer, Ask, Client};
use crate::support::server::Setup;
use crate::support::ws::Ws;

/// Ids that nobody has, one for each kind, so that two answers differ in nothing but the id.
const NOBODYS: &str = "3b241101-e2bb-4255-8caf-4136c566a962";
const NOBODYS_FILE: &str = "plans/trosor.txt";
const FILE: &str = "plans/secret.txt";

/// One of everything, by the area of the path that names it.
async fn one_of_everything(client: &Client) -> BTreeMap<&'static str, String> {
    let made = async |path: &str, body: Value| {
        let answer = client.post(path, &body).await;
        assert!(matches!(answer.status, 200 | 201), "{path}: {}", answer.text());
        answer.json()["id"].as_str().unwrap().to_owned()
    };
    let asked = client.post("/api/chat", &json!({"content": "write a.md: text"})).await.expect(202).json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let agents = client.get("/api/agents").await.expect(200).json();
    client.send(Ask::new("PUT", format!("/api/workspace/file/{FILE}")).body(b"theirs".to_vec())).await.expect(200);
    BTreeMap::from([
        ("sessions", text(&asked["session_id"])),
        ("chat", text(&asked["id"])),
        ("approvals", text(&asked["approval"]["id"])),
        ("agents", text(&agents["items"][0]["id"])),
        ("seeds", text(&agents["items"][0]["seed_id"])),
        ("memory", made("/api/memory", json!({"content": "the safe is behind the picture"})).await),
        ("personas", made("/api/personas", json!({"name": "p", "prompt": "q"})).await),
        ("spaces", made("/api/spaces", json!({"name": "s", "context": "c"})).await),
        ("cron-jobs", made("/api/cron-jobs", json!({"name": "j", "schedule": "0 0 1 1 *", "content": "c"})).await),
        ("keys", text(&client.get("/api/keys").await.expect(200).json()["items"][0]["id"])),
        ("workspace", FILE.to_owned()),
    ])
}

/// A body that the row takes.
fn body(row: &Route) -> Option<Value> {
    Some(match row.takes {
        "" | "*/*" => return None,
        "SessionChange" => json!({"title": "mine"}),
        "Empty" | "SessionFork" | "NewFile" | "Rotation" => json!({}),
        "MemoryChange" => json!({"content": "mine"}),
        "PersonaText" => json!({"name": "mine", "prompt": "mine"}),
        "SpaceChange" | "CronJobChange" => json!({"name": "mine"}),
        other => panic!("write here what a good {other} looks like"),
    })
}

/// An answer without what differs between any two: request id, date, and the id itself.
fn bytes(answer: &Answer, id: &str) -> String {
    let heads = answer.headers.iter().filter(|(name, _)| name != "x-request-id" && name != "date");
    let heads: Vec<_> = heads.map(|(name, value)| format!("{name}: {value}")).collect();
    format!("{}\n{}\n\n{}", answer.status, heads.join("\n"), answer.text()).replace(id, "ID")
}

struct House {
    _server: crate::support::server::Server,
    owner: Client,
    guest: Client,
    theirs: BTreeMap<&'static str, String>,
}

impl House {
    async fn new() -> Self {
        let server = Setup::new().env("OXIOS_SECURITY__RATE_LIMIT_PER_MINUTE", "0").start();
        let owner = server.client();
        let scopes = ["read", "chat", "write", "approve", "admin"];
        let key = owner.post("/api/keys", &json!({"name": "guest", "scopes": scopes, "owner": "new"})).await.expect(201).json();
        let guest = server.stranger().with_key(key["key"].as_str());
        let theirs = one_of_everything(&owner).await;
        Self { _server: server, owner, guest, theirs }
    }

    /// Everything that the owner sees of what is theirs.
    async fn seen(&self) -> Vec<String> {
        let mut seen = Vec::new();
        for (area, id) in &self.theirs {
            let target = match *area {
                // Not shown one by one.
                "chat" | "approvals" | "agents" | "keys" => format!("/api/{}", if *area == "chat" { "sessions" } else { area }),
                "workspace" => format!("/api/workspace/file/{id}"),
                _ => format!("/api/{area}/{id}"),
            };
            seen.push(bytes(&self.owner.get(&target).await.expect(200), id));
        }
        seen
    }

    /// The guest gets the same for what is theirs as for what nobody has.
    async fn same(&self, what: &str, (theirs, nobodys): (&str, &str), ask: impl Fn(&str) -> Ask) {
        let (of_theirs, of_nobodys) = (self.guest.send(ask(theirs)).await, self.guest.send(ask(nobodys)).await);
        assert_eq!(bytes(&of_theirs, theirs), bytes(&of_nobodys, nobodys), "{what}");
    }
}

#[tokio::test]
async fn another_owners_things_answer_byte_for_byte_as_if_they_did_not_exist_on_every_row() {
    let house = House::new().await;
    let before = house.seen().await;
    let mut walked = 0;
    for row in ROUTES.iter().filter(|row| row.path.contains('{')) {
        // Models and skills are the whole home's.
        if row.path.starts_with("/v1/models/") || row.path.starts_with("/api/skills/") {
            continue;
        }
        let area = row.path.split('/').nth(2).unwrap();
        let theirs = house.theirs.get(area).unwrap_or_else(|| panic!("make one of {area} in `one_of_everything`"));
        let nobodys = if area == "workspace" { NOBODYS_FILE } else { NOBODYS };
        let named = row.path.split('/').find(|part| part.starts_with('{')).unwrap();
        let ask = |id: &str| {
            let ask = Ask::new(row.method.as_str(), row.path.replace(named, id));
            match (row.takes, body(row)) {
                ("*/*", _) => ask.body(b"mine".to_vec()),
                (_, Some(body)) => ask.json(&body),
                (_, None) => ask,
            }
        };
        house.same(&format!("{} {}", row.method, row.path), (theirs, nobodys), ask).await;
        walked += 1;
    }
    assert!(walked > 30, "{walked}");
    assert_eq!(house.seen().await, before, "nothing of theirs has changed");
}

/// What a body or a query names. A new session or space of a given id is made where nobody has it, so there its being taken shows
/// (API A3): what a message names is refused as not found.
#[tokio::test]
async fn what_a_body_or_a_query_names_of_another_owner_is_not_found_either() {
    let house = House::new().await;
    let before = house.seen().await;
    let own = house.guest.post("/api/chat", &json!({"content": "hello"})).await.expect(200).json();
    let own = own["session_id"].as_str().unwrap().to_owned();
    let space = house.guest.post("/api/spaces", &json!({"name": "s"})).await.expect(201).json()["id"].clone();
    let session = |method: &str, more: &str, body: Value| Ask::new(method, format!("/api/sessions/{own}{more}")).json(&body);
    let area = |area: &str| (house.theirs[area].as_str(), NOBODYS);
    house.same("persona of a session", area("personas"), |id| session("PATCH", "", json!({"persona_id": id}))).await;
    house.same("space of a session", area("spaces"), |id| session("PATCH", "", json!({"space_id": id}))).await;
    house.same("fork at a message", area("chat"), |id| session("POST", "/fork", json!({"message_id": id}))).await;
    house.same("active persona", area("personas"), |id| Ask::new("PUT", "/api/personas/active").json(&json!({"id": id}))).await;
    let merge = |from: &Value, into: &Value| Ask::new("POST", "/api/spaces/merge").json(&json!({"from": from, "into": into}));
    house.same("merge from", area("spaces"), |id| merge(&json!(id), &space)).await;
    house.same("merge into", area("spaces"), |id| merge(&space, &json!(id))).await;
    let job = |id: &str| json!({"name": "j", "schedule": "0 0 1 1 *", "content": "c", "space_id": id});
    house.same("space of a job", area("spaces"), |id| Ask::new("POST", "/api/cron-jobs").json(&job(id))).await;
    house.same("sessions of a space", area("spaces"), |id| Ask::new("GET", format!("/api/sessions?space_id={id}"))).await;
    house.same("tree", ("plans", "trosor"), |id| Ask::new("GET", format!("/api/workspace/tree?dir={id}"))).await;
    for (what, id) in &house.theirs {
        house.same(&format!("audit on {what}"), (id, NOBODYS), |id| Ask::new("GET", format!("/api/audit/entries?on={id}"))).await;
    }
    let chat = |body: Value| Ask::new("POST", "/api/chat").json(&body);
    let asks = [
        chat(json!({"content": "x", "session_id": house.theirs["sessions"]})),
        chat(json!({"content": "x", "metadata": {"session_id": house.theirs["sessions"]}})),
        chat(json!({"content": "x", "space_id": house.theirs["spaces"]})),
        Ask::new("POST", "/v1/chat/completions").json(&json!({"model": "oxios", "messages": [{"role": "user", "content": "x"}],
            "metadata": {"session_id": house.theirs["sessions"]}})),
    ];
    for ask in asks {
        let answer = house.guest.send(ask.clone()).await.expect(404);
        assert!(!answer.text().contains(&house.theirs["sessions"]), "{}", answer.text());
    }
    // The file of another owner is no attachment.
    let attach = |file: &str| chat(json!({"content": "x", "attachments": [file]}));
    house.same("attachment", (FILE, NOBODYS_FILE), |file| attach(file).header("idempotency-key", "k")).await;
    let ask = json!({"name": "ask", "arguments": {"content": "x", "session_id": house.theirs["sessions"]}});
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": ask});
    let told = house.guest.post("/mcp", &call).await.expect(200).json();
    assert_eq!(told["result"]["isError"], true, "{told}");
    assert_eq!(house.seen().await, before, "nothing of theirs has changed");
}

#[tokio::test]
async fn a_socket_shows_and_stops_nothing_of_another_owner() {
    let house = House::new().await;
    let before = house.seen().await;
    let mut socket = Ws::chat(&house.guest).await;
    for (what, frame) in [
        ("sessions", (|id| json!({"type": "resume", "session_id": id})) as fn(&str) -> Value),
        ("sessions", |id| json!({"type": "resume", "session_id": id, "after": 2})),
        ("chat", |id| json!({"type": "cancel", "id": id})),
    ] {
        let mut told = Vec::new();
        for id in [house.theirs[what].as_str(), NOBODYS] {
            socket.send(&frame(id)).await;
            told.push(socket.json().await.to_string().replace(id, "ID"));
        }
        assert!(told[0] == told[1] && told[0].contains("not_found"), "{told:?}");
    }
    socket.send(&json!({"type": "message", "content": "x", "session_id": house.theirs["sessions"]})).await;
    assert_eq!(socket.json().await["code"], "not_found");
    assert_eq!(house.seen().await, before, "nothing of theirs has changed");
}

/// THREATS 8: what two owners choose alike (idempotency keys, JSON-RPC ids, names) never meets; ids are 128 random bits.
#[tokio::test]
async fn what_a_client_chose_is_its_owners_alone_and_ids_are_random() {
    let house = House::new().await;
    let mut ids = std::collections::BTreeSet::new();
    let ask = async |client: &Client, content: &str| {
        let body = json!({"content": content, "idempotency_key": "the same", "user_id": "the same"});
        let answer = client.post("/api/chat", &body).await.expect(200).json();
        assert_eq!(answer["echo"], content);
        (answer["id"].as_str().unwrap().to_owned(), answer["session_id"].as_str().unwrap().to_owned())
    };
    let (mine, theirs) = (ask(&house.guest, "mine").await, ask(&house.owner, "theirs").await);
    assert!(mine.0 != theirs.0 && mine.1 != theirs.1, "the same key of two owners");
    assert_eq!((ask(&house.guest, "mine").await, ask(&house.owner, "theirs").await), (mine, theirs));
    let call = |content: &str| json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "ask", "arguments": {"content": content}}});
    for _ in 0..8 {
        let (words, paths) = (call("remember mine"), call("remember theirs"));
        let (mine, theirs) = tokio::join!(house.guest.post("/mcp", &words), house.owner.post("/mcp", &paths));
        for (answer, other) in [(mine, "theirs"), (theirs, "mine")] {
            let told = answer.expect(200).json();
            assert!(!told.to_string().contains(other), "a reply went to the wrong client: {told}");
            assert!(ids.insert(told["result"]["structuredContent"]["session_id"].as_str().unwrap().to_owned()));
        }
    }
    ids.extend(house.theirs.iter().filter(|(area, _)| **area != "workspace").map(|(_, id)| id.clone()));
    for id in &ids {
        let id = uuid::Uuid::try_parse(id).unwrap();
        assert!(matches!(id.get_version_num(), 4 | 8), "{id}");
    }
    // Of random ones each bit is set in some and not in others: no counter, no time.
    let random: Vec<u128> =
        ids.iter().map(|id| uuid::Uuid::try_parse(id).unwrap()).filter(|id| id.get_version_num() == 4).map(|id| id.as_u128()).collect();
    let (all, any) = random.iter().fold((u128::MAX, 0), |(all, any), id| (all & id, any | id));
    assert!(random.len() >= 16 && (all ^ any).count_ones() >= 121, "{random:x?}");
}

/// Lists, numbers, events: nothing that a guest can read names anything of theirs, whatever is done meanwhile.
#[tokio::test]
async fn no_list_or_stream_names_anything_of_another_owner() {
    let house = House::new().await;
    let mut events = house.guest.sse_after("/api/events", "1").await;
    house.owner.post_empty(&format!("/api/approvals/{}/reject", house.theirs["approvals"])).await.expect(200);
    let session = house.owner.post("/api/chat", &json!({"content": "hello"})).await.expect(200).json();
    let ids: Vec<&str> = house.theirs.values().map(String::as_str).chain(session["session_id"].as_str()).collect();
    for row in ROUTES.iter().filter(|row| row.method == "GET" && !row.path.contains('{') && !row.path.ends_with("/stream")) {
        if row.answers.1 == "text/event-stream" {
            continue;
        }
        let answer = house.guest.get(row.path).await;
        assert!(!ids.iter().any(|id| answer.text().contains(id)), "{}: {}", row.path, answer.text());
    }
    for (path, query) in [("search", "safe picture"), ("semantic", "safe picture")] {
        let found = house.guest.post(&format!("/api/memory/{path}"), &json!({"query": query})).await.expect(200).json();
        assert_eq!(found["count"], 0, "{found}");
    }
    assert_eq!(house.guest.get("/api/sessions?q=hello").await.expect(200).json()["total"], 0);
    assert_eq!(house.guest.post_empty("/api/audit/export").await.expect(200).text().matches(ids[0]).count(), 0);
    let mine = house.guest.post("/api/chat", &json!({"content": "hello"})).await.expect(200).json();
    let seen = events.until(|e| e["session_id"] == mine["session_id"] && e["type"] == "agent_stopped").await;
    for event in &seen {
        assert!(!ids.iter().any(|id| event.to_string().contains(id)), "{event}");
    }
}
