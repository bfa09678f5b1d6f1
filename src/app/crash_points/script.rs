//! One process after the other on one disk: everything that writes, once or twice. The ledger notes what was answered.

use std::sync::Arc;
use std::time::Duration;

use super::house::House;
use super::ledger::Ledger;
use super::talk::Talk;
use super::{conversations, rooms, runs};
use crate::base::cancel;
use crate::base::ids::SessionId;
use crate::base::time::ManualClock;
use crate::store::audit::{Event, Outcome, What, Who};
use crate::store::record::About;
use crate::store::sessions::Settings;
use crate::store::testing::{done, token};
use crate::sys::memory_disk::MemoryDisk;

/// Runs all of it.
pub(super) async fn run(disk: &MemoryDisk, clock: &Arc<ManualClock>) -> Ledger {
    let ledger = Ledger::of(disk);
    let from = ledger.now();
    let house = House::start(disk, clock, 1).unwrap();
    let key = house.token_record().unwrap().id.to_string();
    ledger.set(from, "token", Some(&key));
    ledger.set(from, "first owner", Some(&house.owner.to_string()));
    ledger.set(from, format!("key/{key}"), Some("good"));
    ledger.set(from, "memory.max_recall", Some("10"));
    rooms::all(&house, &ledger);
    let first = conversations::all(&house, &ledger).await;
    runs::all(&house, &ledger).await;
    house.close().await;

    let house = House::start(disk, clock, 2).unwrap();
    again(&house, &ledger, clock, &first).await;
    house.close().await;
    ledger
}

/// What a second process does to what a first one left.
async fn again(house: &House, ledger: &Ledger, clock: &ManualClock, ids: &[SessionId]) {
    let (app, owner) = (&house.app, house.owner);
    app.audit.note(Event { who: Who::default(), what: What::Started, on: None, outcome: Outcome::Done });
    ledger.audited(house.audit_n(), false);
    for id in ids {
        let mut talk = Talk::with(ledger, app.sessions.load(*id, owner).await.unwrap());
        let message = talk.say(house, "and again").await;
        talk.add(message, vec![token("again"), done("again")]).await;
    }
    let files = app.workspaces.of(owner).unwrap();
    let from = ledger.now();
    files.write("deep/er/b.txt", b"twenty").unwrap();
    ledger.set(from, "file/deep/er/b.txt", Some("twenty"));

    // All but the newest go; sessions that were talked in a moment ago are the newest.
    clock.advance(Duration::from_secs(10));
    let mut talk = Talk::begin(house, ledger, About::default()).await;
    let message = talk.say(house, "the newest").await;
    talk.add(message, vec![done("yes")]).await;
    let newest = talk.id();
    drop(talk);
    app.sessions.give_back();
    app.sessions.set(Settings { max_sessions: 5, ..Settings::default() });
    let from = ledger.now();
    let pruned = app.sessions.prune(&*app.gateway).await.unwrap();
    assert!(!pruned.contains(&newest) && pruned.len() >= 4, "{pruned:?}");
    for id in pruned {
        ledger.of_session(id, |now, talked| talked.deleted = Some((from, now)));
        ledger.pruned(id);
    }
    app.sessions.set(Settings::default());

    // A day later.
    clock.advance(Duration::from_secs(25 * 3600));
    app.sessions.tend_graves(&*app.gateway, &cancel::pair().1).await;
    let mut talk = Talk::begin(house, ledger, About::default()).await;
    let message = talk.say(house, "the next day").await;
    talk.add(message, vec![token("a"), done("ab")]).await;
    conversations::large(house, ledger).await;
}
