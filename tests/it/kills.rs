//! kill −9 at random moments of everything beside an answer that changes something: approvals, keys, configuration, memory, files,
//! deletions. What was acknowledged is there afterwards; what was under way happened or did not, whole.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::Dice;
use crate::support::client::{Ask, Client};
use crate::support::server::Setup;

/// Requests of a round that come to their end, less than this; then one under which the server is killed.
const CALM: u64 = 5;
/// Microseconds of that one, at most.
const LAST_MICROS: u64 = 30_000;
/// Looking at everything would repair by looking; so mostly the next request is the first to meet what the kill left.
const LOOK_EVERY: usize = 5;

/// What the client knows: things with a name and a value; what is absent has none.
#[derive(Default)]
struct Ledger {
    things: BTreeMap<String, Option<String>>,
    /// What was asked for and not acknowledged: it may have happened.
    maybe: BTreeMap<String, BTreeSet<Option<String>>>,
    /// Every value that was acknowledged of anything.
    values: BTreeSet<String>,
    /// How to get at the thing: an id that the server gave.
    ids: BTreeMap<String, String>,
}

impl Ledger {
    fn asked(&mut self, thing: &str, value: Option<&str>) {
        self.maybe.entry(thing.to_owned()).or_default().insert(value.map(str::to_owned));
    }
    fn acknowledged(&mut self, thing: &str, value: Option<&str>) {
        self.maybe.remove(thing);
        self.values.extend(value.map(str::to_owned));
        self.things.insert(thing.to_owned(), value.map(str::to_owned));
    }
    /// Names of things of this kind that have this value for certain.
    fn with(&self, kind: &str, value: &str) -> Vec<String> {
        let certain = |name: &&String| name.starts_with(kind) && !self.maybe.contains_key(*name);
        let these = self.things.iter().filter(|(_, is)| is.as_deref() == Some(value));
        these.map(|(name, _)| name).filter(certain).cloned().collect()
    }
    /// Everything that is there may be so, and what must be there is; from now on it is certain.
    fn check(&mut self, found: &BTreeMap<String, String>) {
        let names: BTreeSet<String> = self.things.keys().chain(self.maybe.keys()).chain(found.keys()).cloned().collect();
        for name in names {
            let mut may_be = self.maybe.remove(&name).unwrap_or_default();
            may_be.insert(self.things.get(&name).cloned().flatten());
            let is = found.get(&name).cloned();
            assert!(may_be.contains(&is), "{name} is {is:?} and may be {may_be:?}");
            self.things.insert(name, is);
        }
    }
}

#[tokio::test]
async fn whatever_is_under_way_when_the_server_is_killed_is_done_or_not_and_what_was_acknowledged_stays() {
    let rounds: usize = std::env::var("OXIOS_TEST_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(50);
    let mut dice = Dice::new("kills of everything");
    let mut server = Setup::new().env("OXIOS_SECURITY__RATE_LIMIT_PER_MINUTE", "0").start();
    let mut ledger = Ledger::default();
    ledger.acknowledged("config", Some("10"));
    let (mut done, mut cut, mut head) = (0, 0, None::<String>);
    for round in 0..rounds {
        let client = server.client();
        for step in 0..dice.below(CALM) {
            let what = dice.below(9);
            act(&client, &mut ledger, what, &format!("{round}-{step}"), &mut dice).await;
            done += 1;
        }
        let (what, until) = (dice.below(9), Duration::from_micros(dice.below(LAST_MICROS)));
        let _ = tokio::time::timeout(until, act(&client, &mut ledger, what, &format!("{round}-last"), &mut dice)).await;
        server.kill9();
        cut += 1;
        server.restart();
        if round % LOOK_EVERY == LOOK_EVERY - 1 || round + 1 == rounds {
            let client = server.client();
            ledger.check(&found(&client, &ledger).await);
            // The chain holds, and has what was its end when it was last looked at.
            let since = head.map(|head| format!("?head={head}")).unwrap_or_default();
            let told = client.get(&format!("/api/audit/verify{since}")).await.expect(200).json();
            assert_eq!(told["valid"], true, "{told}");
            head = Some(told["head"].as_str().unwrap().to_owned());
        }
    }
    println!("measured kills of everything: {cut} kills, {done} things acknowledged before them");
    assert!(done > rounds, "{done} things were done in {rounds} rounds");
    for value in ["there", "active", "revoked", "pending", "approved", "rejected"] {
        assert!(ledger.values.contains(value), "nothing was {value} in {rounds} rounds");
    }
}

/// Asks for one change, and notes what came of it. Dropped where the server is killed meanwhile.
async fn act(client: &Client, ledger: &mut Ledger, what: u64, mark: &str, dice: &mut Dice) {
    let mut one_of =
        |names: Vec<String>| if names.is_empty() { None } else { Some(names[dice.below(names.len() as u64) as usize].clone()) };
    match what {
        0 => {
            let name = format!("memory {mark}");
            ledger.asked(&name, Some("there"));
            let made = client.post("/api/memory", &json!({"content": name})).await.expect(200).json();
            ledger.ids.insert(name.clone(), made["id"].as_str().unwrap().to_owned());
            ledger.acknowledged(&name, Some("there"));
        }
        1 => {
            let Some(name) = one_of(ledger.with("memory", "there")) else { return };
            let Some(id) = ledger.ids.get(&name).cloned() else { return };
            ledger.asked(&name, None);
            client.delete(&format!("/api/memory/{id}")).await.expect(200);
            ledger.acknowledged(&name, None);
        }
        2 => {
            let name = format!("key {mark}");
            ledger.asked(&name, Some("active"));
            let made = client.post("/api/keys", &json!({"name": name, "scopes": ["read"]})).await.expect(201).json();
            ledger.ids.insert(name.clone(), made["id"].as_str().unwrap().to_owned());
            ledger.acknowledged(&name, Some("active"));
        }
        3 => {
            let Some(name) = one_of(ledger.with("key", "active")) else { return };
            let Some(id) = ledger.ids.get(&name).cloned() else { return };
            ledger.asked(&name, Some("revoked"));
            client.delete(&format!("/api/keys/{id}")).await.expect(200);
            ledger.acknowledged(&name, Some("revoked"));
        }
        4 => {
            let recall = (dice.below(20) + 1).to_string();
            ledger.asked("config", Some(&recall));
            let wanted = json!({"memory": {"max_recall": recall.parse::<u64>().unwrap()}});
            client.send(Ask::new("PUT", "/api/config").json(&wanted)).await.expect(200);
            ledger.acknowledged("config", Some(&recall));
        }
        5 => {
            let (name, text) = (format!("file {}.txt", dice.below(4)), format!("{mark} ").repeat(500));
            ledger.asked(&name, Some(&text));
            let path = format!("/api/workspace/file/{}", name.trim_start_matches("file "));
            client.send(Ask::new("PUT", path).body(text.clone().into_bytes())).await.expect(200);
            ledger.acknowledged(&name, Some(&text));
        }
        6 => {
            let asked = client.post("/api/chat", &json!({"content": format!("write by-agent/{mark}.txt: text")})).await.expect(202).json();
            let id = asked["approval"]["id"].as_str().unwrap();
            ledger.acknowledged(&format!("approval {id}"), Some("pending"));
        }
        7 => {
            let Some(name) = one_of(ledger.with("approval", "pending")) else { return };
            let (verb, value) =
                if !ledger.values.contains("approved") || dice.below(2) == 0 { ("approve", "approved") } else { ("reject", "rejected") };
            ledger.asked(&name, Some(value));
            client.post_empty(&format!("/api/approvals/{}/{verb}", name.trim_start_matches("approval "))).await.expect(200);
            ledger.acknowledged(&name, Some(value));
        }
        _ => {
            let said = client.post("/api/chat", &json!({"content": "hello"})).await.expect(200).json();
            let id = said["session_id"].as_str().unwrap();
            let name = format!("session {id}");
            ledger.acknowledged(&name, Some("there"));
            ledger.asked(&name, None);
            client.delete(&format!("/api/sessions/{id}")).await.expect(200);
            ledger.acknowledged(&name, None);
        }
    }
}

/// What the server has of it.
async fn found(client: &Client, ledger: &Ledger) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    for item in client.get("/api/memory?limit=500").await.expect(200).json()["items"].as_array().unwrap() {
        let entry = client.get(&format!("/api/memory/{}", text(&item["name"]))).await.expect(200).json();
        found.insert(text(&entry["content"]), "there".to_owned());
    }
    for key in client.get("/api/keys?limit=500").await.expect(200).json()["items"].as_array().unwrap() {
        if text(&key["name"]).starts_with("key ") {
            found.insert(text(&key["name"]), text(&key["status"]));
        }
    }
    let config = client.get("/api/config").await.expect(200).json();
    found.insert("config".to_owned(), config["memory"]["max_recall"].to_string());
    for n in 0..4 {
        let answer = client.get(&format!("/api/workspace/file/{n}.txt")).await;
        if answer.status == 200 {
            found.insert(format!("file {n}.txt"), answer.text());
        }
    }
    for approval in client.get("/api/approvals").await.expect(200).json().as_array().unwrap() {
        let name = format!("approval {}", text(&approval["id"]));
        // One whose question was not answered to us is not ours.
        if ledger.things.contains_key(&name) {
            found.insert(name, text(&approval["status"]));
        }
    }
    for name in ledger.things.keys().filter(|name| name.starts_with("session ")) {
        let answer = client.get(&format!("/api/sessions/{}", name.trim_start_matches("session "))).await;
        if answer.status == 200 {
            found.insert(name.clone(), "there".to_owned());
        }
    }
    found
}
