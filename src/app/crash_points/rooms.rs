//! Everything beside the conversations: memory, personas, spaces, jobs, files, keys, configuration, audit.

use std::time::Duration;

use serde_json::Value;

use super::house::{House, of_space};
use super::ledger::Ledger;
use super::skills;
use crate::base::ids::{AgentId, MessageId, SeedId, SessionId, SpaceId};
use crate::cron::{self, Missed, NewJob};
use crate::rooms::agents::{Agent, Status as AgentStatus};
use crate::rooms::memory::{Category, Change as MemoryChange, NewEntry};
use crate::rooms::personas::NewPersona;
use crate::rooms::seeds::Seed;
use crate::rooms::spaces::{Change as SpaceChange, NewSpace, Space};
use crate::store::audit::{Event, Outcome, What, Who};
use crate::store::keys::{NewKey, NewOwner, Scope, Scopes};

/// One room after the other.
pub(super) fn all(house: &House, ledger: &Ledger) {
    memory(house, ledger);
    personas(house, ledger);
    spaces(house, ledger);
    jobs(house, ledger);
    files(house, ledger);
    skills::all(house, ledger);
    keys(house, ledger);
    configuration(house, ledger);
    agents(house);
    house.app.seeds.save(&seed(house)).unwrap();
    audit(house, ledger);
}

fn memory(house: &House, ledger: &Ledger) {
    let (app, owner) = (&house.app, house.owner);
    let fact =
        |content: &str| NewEntry { category: Category::Facts, content: content.into(), tags: vec![], importance: 0.5, pinned: false };
    let mut memories = Vec::new();
    for content in ["to be forgotten", "the cat is black"] {
        let from = ledger.now();
        let entry = app.memory.add(owner, fact(content)).unwrap();
        ledger.set(from, format!("memory/{}", entry.id), Some(content));
        memories.push(entry.id);
    }
    let from = ledger.now();
    app.memory.remove(owner, memories[0]).unwrap();
    ledger.set(from, format!("memory/{}", memories[0]), None);
    let from = ledger.now();
    let change = MemoryChange { category: Some(Category::Knowledge), content: Some("the cat was black".into()), ..MemoryChange::default() };
    app.memory.change(owner, memories[1], change).unwrap();
    ledger.set(from, format!("memory/{}", memories[1]), Some("the cat was black"));
}

fn personas(house: &House, ledger: &Ledger) {
    let (app, owner) = (&house.app, house.owner);
    let persona = |name: &str| NewPersona { name: name.into(), description: String::new(), prompt: format!("Speak like a {name}.") };
    let from = ledger.now();
    let pirate = app.personas.create(owner, persona("pirate")).unwrap().id;
    ledger.set(from, format!("persona/{pirate}"), Some("pirate"));
    let from = ledger.now();
    let poet = app.personas.create(owner, persona("poet")).unwrap().id;
    ledger.set(from, format!("persona/{poet}"), Some("poet"));
    let from = ledger.now();
    app.personas.set_active(owner, Some(poet)).unwrap();
    ledger.set(from, "persona", Some(&poet.to_string()));
    let from = ledger.now();
    app.personas.update(owner, pirate, persona("sailor")).unwrap();
    ledger.set(from, format!("persona/{pirate}"), Some("sailor"));
}

fn spaces(house: &House, ledger: &Ledger) {
    let (app, owner) = (&house.app, house.owner);
    let space = |name: &str| NewSpace { name: name.into(), ..NewSpace::default() };
    let note = |from: usize, space: &Space| ledger.set(from, format!("space/{}", space.id), Some(&of_space(space)));
    let from = ledger.now();
    let home = app.spaces.create(owner, space("home")).unwrap();
    note(from, &home);
    let from = ledger.now();
    let work = app.spaces.create(owner, space("work")).unwrap();
    note(from, &work);
    let from = ledger.now();
    app.spaces.activate(owner, home.id).unwrap();
    ledger.set(from, "space", Some(&home.id.to_string()));
    let from = ledger.now();
    let changed = app.spaces.change(owner, home.id, SpaceChange { context: Some("a house".into()), ..SpaceChange::default() }).unwrap();
    note(from, &changed);
    let from = ledger.now();
    app.spaces.merge(owner, work.id, home.id).unwrap();
    note(from, &app.spaces.find(owner, work.id).unwrap());
}

fn jobs(house: &House, ledger: &Ledger) {
    let (app, owner) = (&house.app, house.owner);
    let job = |name: &str| NewJob {
        name: name.into(),
        schedule: "0 6 * * *".into(),
        time_zone: "UTC".into(),
        content: "c".into(),
        enabled: true,
        missed: Missed::Skip,
        space_id: None::<SpaceId>,
    };
    let from = ledger.now();
    let daily = app.cron.create(owner, None, job("daily")).unwrap().id;
    ledger.set(from, format!("cron/{daily}"), Some("daily true"));
    let from = ledger.now();
    let gone = app.cron.create(owner, None, job("gone")).unwrap().id;
    ledger.set(from, format!("cron/{gone}"), Some("gone true"));
    let from = ledger.now();
    app.cron.update(owner, None, daily, cron::Change { enabled: Some(false), ..cron::Change::default() }).unwrap();
    ledger.set(from, format!("cron/{daily}"), Some("daily false"));
    let from = ledger.now();
    app.cron.delete(owner, gone).unwrap();
    ledger.set(from, format!("cron/{gone}"), None);
}

fn files(house: &House, ledger: &Ledger) {
    let files = house.app.workspaces.of(house.owner).unwrap();
    for (path, text) in [("a.txt", "one"), ("deep/er/b.txt", "two"), ("a.txt", "three"), ("gone.txt", "four")] {
        let from = ledger.now();
        files.write(path, text.as_bytes()).unwrap();
        ledger.set(from, format!("file/{path}"), Some(text));
    }
    files.make_dir("empty/dir").unwrap();
    let from = ledger.now();
    files.remove("gone.txt").unwrap();
    ledger.set(from, "file/gone.txt", None);
}

fn keys(house: &House, ledger: &Ledger) {
    let (app, owner) = (&house.app, house.owner);
    let new = NewKey {
        name: "second".into(),
        owner: NewOwner::Of(owner),
        scopes: Scopes::of(&[Scope::Read]),
        expires_at: None,
        rate_limit_per_minute: None,
        budget: None,
    };
    let from = ledger.now();
    let (second, _) = app.keys.create(new).unwrap();
    ledger.set(from, format!("key/{}", second.id), Some("good"));
    let from = ledger.now();
    app.keys.revoke(owner, second.id).unwrap();
    ledger.set(from, format!("key/{}", second.id), Some("revoked"));
    let (from, first) = (ledger.now(), house.token_record().unwrap().id);
    let (third, _) = app.keys.rotate(owner, first, Duration::from_secs(3600)).unwrap();
    ledger.set(from, format!("key/{}", third.id), Some("good"));
    ledger.set(from, "token", Some(&third.id.to_string()));
}

fn configuration(house: &House, ledger: &Ledger) {
    for recall in ["7", "3"] {
        let wanted: Value = serde_json::from_str(&format!("{{\"memory\": {{\"max_recall\": {recall}}}}}")).unwrap();
        let from = ledger.now();
        house.app.configuration.change(wanted.as_object().unwrap()).unwrap();
        ledger.set(from, "memory.max_recall", Some(recall));
    }
}

/// Only a memory: nothing is promised of these but that they stand in nobody's way.
fn agents(house: &House) {
    let (app, owner) = (&house.app, house.owner);
    let agent = |status| Agent {
        id: AgentId::random(&*app.random),
        owner,
        session_id: SessionId::random(&*app.random),
        message_id: MessageId::random(&*app.random),
        name: "chat".into(),
        status,
        created_at: app.clock.now(),
        seed_id: None,
        parent_id: None,
    };
    for _ in 0..3 {
        let one = agent(AgentStatus::Starting);
        app.agents.begin(one.clone(), None);
        app.agents.set(one.id, AgentStatus::Stopped);
    }
}

fn audit(house: &House, ledger: &Ledger) {
    for n in 0..6 {
        let event = Event { who: Who::default(), what: What::Pruned, on: None, outcome: Outcome::Count(n) };
        house.app.audit.note(event);
        ledger.audited(house.audit_n(), false);
    }
}

pub(super) fn seed(house: &House) -> Seed {
    Seed {
        id: SeedId::random(&*house.app.random),
        owner: house.owner,
        session_id: SessionId::random(&*house.app.random),
        forks: Vec::new(),
        message_id: MessageId::random(&*house.app.random),
        goal: "g".into(),
        constraints: vec![],
        acceptance_criteria: vec![],
        ontology: vec![],
        created_at: house.app.clock.now(),
        generation: 0,
        parent_seed_id: None,
        original_request: None,
        output_schema: None,
        repair: None,
    }
}
