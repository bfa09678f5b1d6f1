//! The plain model: what was said to be done, and by which call on the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use crate::base::ids::SessionId;
use crate::store::testing::conversation::{Conversation, Stop};
use crate::sys::memory_disk::MemoryDisk;

/// What was asked for and answered, in order.
pub(super) struct Ledger {
    disk: MemoryDisk,
    /// Things with a name and a value; what is absent has none.
    things: Mutex<BTreeMap<String, Vec<Change>>>,
    sessions: Mutex<BTreeMap<SessionId, Arc<Conversation>>>,
    /// Records of the audit log: the calls when it had them, its last one, and whether the disk had it.
    audited: Mutex<Vec<(usize, u64, bool)>>,
    /// Sessions that the server deleted by itself.
    pruned: Mutex<BTreeSet<SessionId>>,
}

/// A thing got another value.
struct Change {
    /// Calls before it was asked for, and when it was answered.
    from: usize,
    to: usize,
    /// What it may be in between.
    via: Vec<Option<String>>,
    value: Option<String>,
}

impl Ledger {
    pub(super) fn of(disk: &MemoryDisk) -> Self {
        Self {
            disk: disk.clone(),
            things: Mutex::default(),
            sessions: Mutex::default(),
            audited: Mutex::default(),
            pruned: Mutex::default(),
        }
    }
    /// Calls so far.
    pub(super) fn now(&self) -> usize {
        self.disk.calls()
    }
    /// A thing that was asked for at `from` has this value now.
    pub(super) fn set(&self, from: usize, thing: impl Into<String>, value: Option<&str>) {
        self.set_via(from, thing, &[], value);
    }
    /// The same, with values that it may have had in between.
    pub(super) fn set_via(&self, from: usize, thing: impl Into<String>, via: &[Option<&str>], value: Option<&str>) {
        let owned = |value: &Option<&str>| value.map(str::to_owned);
        let change = Change { from, to: self.now(), via: via.iter().map(owned).collect(), value: owned(&value) };
        self.things.lock().unwrap().entry(thing.into()).or_default().push(change);
    }
    /// So many answers were given about things, and so many asked for: what may differ between two stops.
    pub(super) fn thing_facts(&self, at: Stop) -> usize {
        let things = self.things.lock().unwrap();
        things.values().flatten().map(|change| usize::from(at.ended >= change.to) + usize::from(at.begun > change.from)).sum()
    }
    /// The same of everything.
    pub(super) fn facts(&self, at: Stop) -> usize {
        self.thing_facts(at)
            + self.sessions.lock().unwrap().values().map(|talked| talked.facts(at)).sum::<usize>()
            + self.audited.lock().unwrap().iter().filter(|(call, ..)| *call <= at.ended).count()
    }
    /// Something is to be noted of a session.
    pub(super) fn of_session(&self, id: SessionId, note: impl FnOnce(usize, &mut Conversation)) {
        let now = self.now();
        note(now, Arc::make_mut(self.sessions.lock().unwrap().entry(id).or_default()));
    }
    /// The audit log has this many records; `durable`: the disk, too.
    pub(super) fn audited(&self, n: u64, durable: bool) {
        self.audited.lock().unwrap().push((self.now(), n, durable));
    }

    pub(super) fn pruned(&self, id: SessionId) {
        self.pruned.lock().unwrap().insert(id);
    }
    /// The server deleted it by itself; from then on the audit log names it, whatever happened to the process.
    pub(super) fn is_pruned(&self, id: SessionId) -> bool {
        self.pruned.lock().unwrap().contains(&id)
    }

    /// Somebody asked for a thing of this name.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.things.lock().unwrap().contains_key(name)
    }
    /// The first start had ended.
    pub(super) fn began_by(&self, at: Stop) -> bool {
        self.things.lock().unwrap().get("token").and_then(|all| all.first()).is_some_and(|first| at.ended >= first.to)
    }

    /// Everything that is there is as it may be at this stop, and what must be there is.
    pub(super) fn check_things(&self, at: Stop, found: &BTreeMap<String, String>) -> Result<(), String> {
        let things = self.things.lock().unwrap();
        for name in things.keys().chain(found.keys()).collect::<BTreeSet<_>>() {
            let changes = things.get(name).ok_or_else(|| format!("{name} is there and was never asked for"))?;
            let mut may_be = BTreeSet::from([None]);
            for change in changes {
                if at.ended >= change.to {
                    may_be = BTreeSet::from([change.value.clone()]);
                } else if at.begun > change.from {
                    may_be.extend(change.via.iter().cloned().chain([change.value.clone()]));
                }
            }
            let is = found.get(name).cloned();
            if !may_be.contains(&is) {
                return Err(format!("{name} is {is:?} and may be {may_be:?}"));
            }
        }
        Ok(())
    }

    /// What is known of each session.
    pub(super) fn sessions(&self) -> BTreeMap<SessionId, Arc<Conversation>> {
        self.sessions.lock().unwrap().clone()
    }

    /// Records that the audit log must have at this stop.
    pub(super) fn audited_by(&self, at: Stop) -> u64 {
        let audited = self.audited.lock().unwrap();
        let there = audited.iter().filter(|(call, _, durable)| *call <= at.ended && (*durable || !at.power_cut));
        there.map(|(_, n, _)| *n).max().unwrap_or(0)
    }
}
