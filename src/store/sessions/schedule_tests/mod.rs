//! Random schedules: several conversations, readers, copies and deletions, on a disk that fails, fills up, and loses what is not
//! durable, over many processes. `OXIOS_TEST_SEED` repeats a run, `OXIOS_TEST_SCHEDULES` sets how many there are.

mod deeds;

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::base::ids::{ApprovalId, MessageId};
use crate::store::space::Space;
use crate::store::tail::{Step, Tail};
use crate::store::testing::conversation::{Conversation, Stop};
use crate::store::testing::{Bench, dice, test_seed};
use crate::sys::memory_disk::is_stale;

/// Steps of one schedule.
const STEPS: usize = 120;

struct World {
    bench: Bench,
    sessions: Arc<Sessions>,
    roll: Box<dyn FnMut(u64) -> u64>,
    known: BTreeMap<SessionId, Known>,
    /// Errors are to be expected: faults are under way.
    faulty: bool,
    /// What was done, for messages.
    trace: Vec<String>,
}

#[derive(Default)]
struct Known {
    talk: Conversation,
    /// Its messages that were not ended for certain, with the text so far and the question that waits.
    open: Vec<(MessageId, String, Option<ApprovalId>)>,
    /// Ended for certain, with the text.
    ended: Vec<(MessageId, String)>,
    reader: Option<Tail>,
    /// A deletion was asked for; `true`: and answered.
    deleted: Option<bool>,
}

/// Everything that was noted holds now.
const NOW: Stop = Stop { ended: usize::MAX, begun: usize::MAX, power_cut: false };

impl World {
    fn new(seed: u64) -> Self {
        let bench = Bench::in_memory();
        let sessions = bench.sessions();
        let roll = Box::new(dice(seed));
        Self { bench, sessions, roll, known: BTreeMap::new(), faulty: false, trace: Vec::new() }
    }
    fn roll(&mut self, n: u64) -> u64 {
        (self.roll)(n)
    }
    fn did(&mut self, what: impl std::fmt::Display) {
        self.trace.push(what.to_string());
    }
    fn any(&mut self) -> Option<SessionId> {
        let ids: Vec<SessionId> = self.known.iter().filter(|(_, known)| known.deleted.is_none()).map(|(id, _)| *id).collect();
        if ids.is_empty() { None } else { ids.get(self.roll(ids.len() as u64) as usize).copied() }
    }
    /// An error is one only where there are faults; a full disk and a failed call look alike here.
    fn met<T>(&mut self, what: &str, result: Result<T, StoreError>) -> Result<Option<T>, String> {
        match result {
            Ok(value) => {
                self.did(format_args!("{what}: ok"));
                Ok(Some(value))
            }
            Err(e) if self.faulty => {
                self.did(format_args!("{what}: {e}"));
                Ok(None)
            }
            Err(e) => Err(format!("{what}: {e}")),
        }
    }

    async fn step(&mut self) -> Result<(), String> {
        match self.roll(100) {
            0..20 => self.talk().await,
            20..55 => self.go_on().await,
            55..70 => self.read().await,
            70..74 => self.about().await,
            74..77 => self.fork().await,
            77..79 => self.delete().await,
            79..82 => {
                self.bench.clock.advance(Duration::from_secs(10));
                self.sessions.give_back();
                self.did("idle");
                Ok(())
            }
            82..85 => self.list().await,
            85..91 => {
                self.arm();
                Ok(())
            }
            91..94 => {
                self.calm();
                Ok(())
            }
            94..98 => self.end(false).await,
            _ => self.end(true).await,
        }
    }

    /// The disk begins to fail in some way.
    fn arm(&mut self) {
        self.faulty = true;
        let torn = self.roll(400) as usize;
        self.bench.disk.tear(torn);
        match self.roll(4) {
            0 => {
                let calls = self.roll(10);
                self.bench.disk.fail_after(Some(calls));
                self.did(format_args!("a call will fail after {calls}"));
            }
            1 => {
                self.bench.disk.fail_syncs(1);
                self.did("a sync will fail");
            }
            2 => {
                let bytes = self.roll(2000);
                self.bench.disk.set_budget(Some(bytes));
                self.did(format_args!("{bytes} bytes are left"));
            }
            _ => {
                let calls = self.roll(12);
                self.bench.disk.stop_after(Some(calls));
                self.did(format_args!("the disk will stop after {calls}"));
            }
        }
    }
    fn calm(&mut self) {
        self.bench.disk.fail_after(None);
        self.bench.disk.fail_syncs(0);
        self.bench.disk.set_budget(None);
        self.bench.disk.stop_after(None);
        self.bench.disk.tear(0);
        // A full disk heals when it is next looked at. A look that was begun before, on a thread, found it full, and ends in its own time.
        let healed = (0..100_000).any(|_| {
            self.bench.clock.advance(Duration::from_secs(5));
            std::thread::yield_now();
            self.sessions.core.home.space_now() == Space::Enough
        });
        assert!(healed, "there is room, and nobody sees it");
        self.faulty = false;
        self.did("calm");
    }

    /// The process is killed, or the power fails; the next one has all that it must have.
    async fn end(&mut self, power_cut: bool) -> Result<(), String> {
        for known in self.known.values_mut() {
            known.reader = None;
        }
        self.bench = match (power_cut, self.roll(3)) {
            (false, _) => self.bench.killed(),
            (true, 0) => self.bench.power_cut(),
            (true, _) => self.bench.power_cut_by(&mut *self.roll),
        };
        self.faulty = false;
        self.did(if power_cut { "power cut" } else { "killed" });
        self.sessions = self.bench.sessions();
        let at = Stop { power_cut, ..NOW };
        let ids: Vec<SessionId> = self.known.keys().copied().collect();
        for id in ids {
            let session = match self.sessions.load(id, self.bench.owner()).await {
                Ok(_) if self.known[&id].deleted == Some(true) => return Err(format!("{id} was deleted and is there")),
                Ok(session) => session,
                Err(StoreError::NotFound) if self.known[&id].deleted.is_some() => continue,
                Err(e) => return Err(format!("{id}: {e}")),
            };
            let mut reader = session.tail(0);
            let mut now = Vec::new();
            while !reader.caught_up() {
                let Step::Record(entry) = reader.next().await.map_err(|e| e.to_string())? else { return Err("lost".to_owned()) };
                now.push(String::from_utf8(entry.json.to_vec()).unwrap());
            }
            let waiting: Vec<MessageId> = session.waiting().iter().map(|waiting| waiting.message_id).collect();
            let known = self.known.get_mut(&id).unwrap();
            known.talk.check(at, &now, &waiting).map_err(|e| format!("{id}: {e}"))?;
            for (message, text) in &known.ended {
                let end = format!("\"kind\":\"done\",\"text\":{}", json!(text));
                if !now.iter().any(|json| json.contains(&message.to_string()) && json.contains(&end)) {
                    return Err(format!("{id}: the end of {message} is gone"));
                }
            }
            if now.is_empty() {
                return Err(format!("{id} is empty"));
            }
            known.open.retain(|(message, ..)| waiting.contains(message));
            for open in &mut known.open {
                open.2 = session.waiting().iter().find(|w| w.message_id == open.0 && w.decision.is_none()).map(|w| w.approval_id);
            }
            if power_cut {
                // What is gone is gone; its numbers are not given again, which the next check sees by their records.
                known.talk.lost_all_but(&now);
            }
            known.talk.saw(0, now);
        }
        // A projection with text of another file in it looks like one that somebody edited, and is kept.
        let odd = |path: &str, bytes: &[u8]| path.contains(".bad") || (path.contains(".kept") && !is_stale(bytes));
        let odd = self.bench.memory().contents().into_iter().find(|(path, bytes)| odd(path, bytes));
        odd.map_or(Ok(()), |(path, _)| Err(format!("{path} is left for somebody to look at")))
    }
}

#[test]
fn whatever_fails_and_ends_nothing_acknowledged_is_lost_and_no_number_gets_a_second_meaning() {
    let first = test_seed("schedules");
    let schedules: u64 = std::env::var("OXIOS_TEST_SCHEDULES").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for seed in first..first + schedules {
        let wrong = runtime.block_on(async {
            let mut world = World::new(seed);
            for _ in 0..STEPS {
                if let Err(what) = world.step().await {
                    return Some((what, world.trace));
                }
            }
            world.calm();
            world.end(seed % 2 == 0).await.err().map(|what| (what, world.trace))
        });
        if let Some((what, trace)) = wrong {
            panic!("OXIOS_TEST_SEED={seed} OXIOS_TEST_SCHEDULES=1: {what}\n{}", trace.join("\n"));
        }
    }
}
