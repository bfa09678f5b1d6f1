//! Agents: a run is one, and so is each member of a group that a run is split into. The newest [`AGENTS_KEPT_MAX`] are kept, with
//! totals of all that ever were, in memory and in `<workspace>/agents.jsonl`, so that they are found again after a restart.
//!
//! The session logs are the truth. The file is written behind (no sync, never in the way of a run): one short line where an
//! agent begins, waits for a person, or ends. What an earlier process left unended counts as failed until the gateway has
//! looked into its session.

mod file;

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::base::cancel::Canceller;
use crate::base::ids::{AgentId, MessageId, OwnerId, SeedId, SessionId};
use crate::base::limits::AGENTS_KEPT_MAX;
use crate::base::time::Timestamp;
use crate::rooms::agents::file::{Book, Line};
use crate::store::home::Seams;

/// One agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// Its id.
    pub id: AgentId,
    /// Whose it is.
    pub owner: OwnerId,
    /// Where it works.
    pub session_id: SessionId,
    /// Which message it works on.
    pub message_id: MessageId,
    /// What kind of run, in a word of ours: never the message.
    pub name: String,
    /// How it is.
    pub status: Status,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// The specification that it works on.
    pub seed_id: Option<SeedId>,
    /// The agent whose group it is a member of.
    pub parent_id: Option<AgentId>,
}

/// How an agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "AgentStatus"))]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Accepted; it waits for its turn.
    Starting,
    /// It works.
    Running,
    /// It waits for a person.
    Idle,
    /// It failed, or was interrupted.
    Failed,
    /// It came to its end, or was stopped on purpose.
    Stopped,
}

impl Status {
    /// Nothing more comes of it.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Failed | Self::Stopped)
    }
}

/// All agents of this home since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Begun.
    pub forked: u64,
    /// Stopped.
    pub completed: u64,
    /// Failed.
    pub failed: u64,
}

/// All agents of this home.
pub struct Agents {
    /// Who there is and what is to be written. Taken shortly by runs, the gateway and the API; never held during disk work.
    kept: Mutex<Kept>,
    /// The file. Held by the one task that writes it, and by whoever waits for it to have written.
    book: Mutex<Book>,
    /// Changes with every status: who waits for an agent's end waits on it.
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Kept {
    agents: HashMap<AgentId, Entry>,
    /// Oldest first.
    order: VecDeque<AgentId>,
    totals: Totals,
    /// Lines that are not in the file yet.
    pending: Vec<Line>,
    /// A task writes; it takes what comes meanwhile.
    writing: bool,
    /// What an earlier process left unended, until somebody has looked into it.
    left: Vec<Agent>,
}

struct Entry {
    agent: Agent,
    /// Its number in the file: short lines name it by that.
    n: u64,
    /// Stops a member of a group; other agents are stopped by the gateway.
    stop: Option<Canceller>,
}

impl Agents {
    /// Those in this workspace.
    pub fn open(workspace: PathBuf, seams: Seams) -> Arc<Self> {
        let (book, found) = Book::open(workspace.join("agents.jsonl"), seams);
        let mut kept = Kept { totals: found.totals, ..Kept::default() };
        for (n, mut agent) in found.agents {
            if !agent.status.is_over() {
                kept.left.push(agent.clone());
                if agent.status != Status::Idle {
                    kept.totals.tally(agent.status, Status::Failed);
                    agent.status = Status::Failed;
                    // In the file, too: else it would be unended, and counted, again at the next start, and forgotten before that.
                    kept.pending.push(Line::became(n, Status::Failed, agent.seed_id));
                }
            }
            kept.order.push_back(agent.id);
            kept.agents.insert(agent.id, Entry { agent, n, stop: None });
        }
        // The file has some more than are kept. Who waits for a person is none of those that go.
        kept.forget_oldest();
        Arc::new(Self { kept: Mutex::new(kept), book: Mutex::new(book), changed: watch::Sender::new(()) })
    }

    /// An agent begins. One that is known already (an earlier process left it) goes on and is not counted again.
    pub fn begin(self: &Arc<Self>, agent: Agent, stop: Option<Canceller>) {
        let mut kept = self.kept();
        if kept.agents.contains_key(&agent.id) {
            drop(kept);
            return self.set(agent.id, agent.status);
        }
        kept.totals.forked += 1;
        let n = kept.totals.forked;
        kept.pending.push(Line::begun(n, &agent));
        kept.order.push_back(agent.id);
        kept.agents.insert(agent.id, Entry { agent, n, stop });
        kept.forget_oldest();
        self.write_soon(kept);
    }

    /// How an agent is from now on. An unknown one is none of ours.
    pub fn set(self: &Arc<Self>, id: AgentId, status: Status) {
        let mut kept = self.kept();
        let Some(entry) = kept.agents.get_mut(&id) else { return };
        let before = std::mem::replace(&mut entry.agent.status, status);
        if status.is_over() {
            entry.stop = None;
        }
        let line = Line::became(entry.n, status, entry.agent.seed_id);
        kept.totals.tally(before, status);
        // That one starts or runs is not worth a line: the next process finds both unended.
        let told =
            before != status && !matches!((before, status), (Status::Starting | Status::Running, Status::Starting | Status::Running));
        if told {
            kept.pending.push(line);
        }
        self.write_soon(kept);
        self.changed.send_replace(());
    }

    /// The specification that an agent works on; from now on it is a task.
    pub fn seeded(self: &Arc<Self>, id: AgentId, seed: SeedId) {
        let mut kept = self.kept();
        let Some(entry) = kept.agents.get_mut(&id) else { return };
        entry.agent.seed_id = Some(seed);
        "task".clone_into(&mut entry.agent.name);
        // Written now, so that one whose process is killed is still found as what it was.
        let line = Line::became(entry.n, entry.agent.status, Some(seed));
        kept.pending.push(line);
        self.write_soon(kept);
    }

    /// One of this owner's.
    pub fn find(&self, owner: OwnerId, id: AgentId) -> Option<Agent> {
        self.kept().agents.get(&id).filter(|entry| entry.agent.owner == owner).map(|entry| entry.agent.clone())
    }

    /// This owner's, newest first: those of one page, and how many there are in all.
    pub fn list(&self, owner: OwnerId, skip: usize, limit: usize) -> (Vec<Agent>, usize) {
        let kept = self.kept();
        let all = || kept.order.iter().rev().filter_map(|id| kept.agents.get(id)).filter(|entry| entry.agent.owner == owner);
        (all().skip(skip).take(limit).map(|entry| entry.agent.clone()).collect(), all().count())
    }

    /// How many work now, members of groups among them.
    pub fn working(&self) -> usize {
        self.kept().agents.values().filter(|entry| entry.agent.status == Status::Running).count()
    }

    /// Counts of all there ever were.
    pub fn totals(&self) -> Totals {
        self.kept().totals
    }

    /// Stops a member of a group; `None` for an agent that is none, or is over.
    pub fn stopper(&self, owner: OwnerId, id: AgentId) -> Option<Canceller> {
        self.kept().agents.get(&id).filter(|entry| entry.agent.owner == owner).and_then(|entry| entry.stop.clone())
    }

    /// Waits until an agent is over; at once where it is, or is unknown.
    pub async fn over(&self, id: AgentId) {
        let mut changed = self.changed.subscribe();
        while self.kept().agents.get(&id).is_some_and(|entry| !entry.agent.status.is_over()) {
            // The sender is in `self`.
            let _ = changed.changed().await;
        }
    }

    /// What an earlier process left unended, once: whoever takes it looks into the sessions and says what is true.
    pub fn take_left(&self) -> Vec<Agent> {
        std::mem::take(&mut self.kept().left)
    }

    /// Writes what is not written. Blocks.
    pub fn flush(&self) {
        let mut book = self.book.lock().unwrap_or_else(|e| e.into_inner());
        loop {
            let (lines, whole) = {
                let mut kept = self.kept();
                let lines = std::mem::take(&mut kept.pending);
                if lines.is_empty() {
                    kept.writing = false;
                    return;
                }
                let whole = book.wants_whole(lines.len()).then(|| kept.whole());
                (lines, whole)
            };
            book.write(lines, whole);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Every change under the lock is whole before the next call that could panic.
        self.kept.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Starts the writing task where there is something to write and none works. It ends when nothing is left.
    fn write_soon(self: &Arc<Self>, mut kept: MutexGuard<'_, Kept>) {
        if kept.pending.is_empty() || std::mem::replace(&mut kept.writing, true) {
            return;
        }
        drop(kept);
        let agents = self.clone();
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || agents.flush())),
            Err(_) => agents.flush(),
        }
    }
}

impl Kept {
    /// The oldest that are over go, until few enough are left.
    fn forget_oldest(&mut self) {
        let Self { agents, order, .. } = self;
        while order.len() > AGENTS_KEPT_MAX {
            let over = |id: &AgentId| agents.get(id).is_none_or(|entry| entry.agent.status.is_over());
            let Some(oldest) = order.iter().position(over).and_then(|at| order.remove(at)) else { return };
            agents.remove(&oldest);
        }
    }

    /// Everything, as the lines of a new file.
    fn whole(&self) -> Vec<Line> {
        let all = self.order.iter().filter_map(|id| self.agents.get(id)).map(|entry| Line::begun(entry.n, &entry.agent));
        std::iter::once(Line::Totals(self.totals)).chain(all).collect()
    }
}

impl Totals {
    /// An agent was so and is so now.
    fn tally(&mut self, before: Status, now: Status) {
        match before {
            Status::Stopped => self.completed = self.completed.saturating_sub(1),
            Status::Failed => self.failed = self.failed.saturating_sub(1),
            _ => {}
        }
        match now {
            Status::Stopped => self.completed += 1,
            Status::Failed => self.failed += 1,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::test_seams;

    fn agent(n: u16, owner: u8) -> Agent {
        let mut seed = [0; 32];
        seed[..2].copy_from_slice(&n.to_be_bytes());
        Agent {
            id: AgentId::derived(&seed),
            owner: OwnerId::derived(&[owner; 32]),
            session_id: SessionId::derived(&seed),
            message_id: MessageId::derived(&seed),
            name: "chat".into(),
            status: Status::Starting,
            created_at: Timestamp::from_millis(u64::from(n)),
            seed_id: None,
            parent_id: None,
        }
    }

    #[test]
    fn they_are_found_again_and_counted_once() {
        use Status::{Failed, Idle, Stopped};
        let (dir, seams) = test_seams("agents");
        let agents = Agents::open(dir.clone(), seams.clone());
        let all: Vec<Agent> = (0..5).map(|n| agent(n, u8::from(n == 4))).collect();
        all.iter().for_each(|agent| agents.begin(agent.clone(), None));
        let seed = SeedId::derived(&[7; 32]);
        agents.set(all[0].id, Status::Running);
        agents.seeded(all[0].id, seed);
        agents.set(all[0].id, Stopped);
        agents.set(all[1].id, Failed);
        agents.set(all[2].id, Status::Running);
        agents.set(all[2].id, Idle);
        agents.set(all[3].id, Status::Running);
        assert_eq!(agents.totals(), Totals { forked: 5, completed: 1, failed: 1 });
        // The process is killed.
        let agents = Agents::open(dir.clone(), seams.clone());
        let is = |agents: &Arc<Agents>| all.iter().map(|a| agents.find(a.owner, a.id).unwrap().status).collect::<Vec<_>>();
        assert_eq!(is(&agents), [Stopped, Failed, Idle, Failed, Failed]);
        assert_eq!(agents.totals(), Totals { forked: 5, completed: 1, failed: 3 });
        let (list, total) = agents.list(all[0].owner, 1, 2);
        assert_eq!((list.iter().map(|a| a.id).collect::<Vec<_>>(), total), (vec![all[2].id, all[1].id], 4));
        let first = agents.find(all[0].owner, all[0].id).unwrap();
        assert_eq!((first.name.as_str(), first.seed_id), ("task", Some(seed)));
        assert_eq!(agents.find(all[4].owner, all[0].id), None);
        assert_eq!(agents.take_left().iter().map(|a| a.id).collect::<Vec<_>>(), [all[2].id, all[3].id, all[4].id]);
        // One of them goes on and ends well.
        agents.begin(all[3].clone(), None);
        agents.set(all[3].id, Stopped);
        assert_eq!(agents.totals(), Totals { forked: 5, completed: 2, failed: 2 });
        let again = Agents::open(dir, seams);
        assert_eq!(again.find(all[3].owner, all[3].id).unwrap().status, Stopped);
    }

    #[test]
    fn a_bound_holds_in_memory_and_in_the_file() {
        let (dir, seams) = test_seams("agents-bound");
        let agents = Agents::open(dir.clone(), seams.clone());
        let waits = agent(0, 0);
        agents.begin(waits.clone(), None);
        agents.set(waits.id, Status::Idle);
        for n in 1..5000 {
            let one = agent(n, 0);
            agents.begin(one.clone(), None);
            agents.set(one.id, Status::Stopped);
        }
        assert_eq!(agents.list(waits.owner, 0, 1).1, AGENTS_KEPT_MAX);
        assert!(agents.find(waits.owner, waits.id).is_some(), "who is not over is not forgotten");
        let bytes = std::fs::metadata(dir.join("agents.jsonl")).unwrap().len();
        assert!(bytes < 1024 * 1024, "{bytes}");
        let again = Agents::open(dir, seams);
        assert_eq!(
            (again.list(waits.owner, 0, 1).1, again.totals()),
            (AGENTS_KEPT_MAX, Totals { forked: 5000, completed: 4999, failed: 0 })
        );
    }

    #[test]
    fn whom_a_killed_process_left_is_counted_once_and_who_waits_is_found_behind_any_number() {
        let (dir, seams) = test_seams("agents-left");
        let agents = Agents::open(dir.clone(), seams.clone());
        let (cut, waits) = (agent(0, 0), agent(1, 0));
        for one in [&cut, &waits] {
            agents.begin(one.clone(), None);
            agents.set(one.id, Status::Running);
        }
        agents.set(waits.id, Status::Idle);
        // The process is killed, and others come after it, one by one killed or stopped.
        let (mut next, many) = (2, u16::try_from(AGENTS_KEPT_MAX).unwrap() + 1);
        for round in 0..3 {
            let agents = Agents::open(dir.clone(), seams.clone());
            let left = agents.take_left();
            assert!(left.iter().any(|agent| agent.id == waits.id), "round {round}");
            // The gateway looks into the sessions: one was interrupted, the other waits.
            for agent in left {
                agents.begin(Agent { status: Status::Idle, ..agent.clone() }, None);
                agents.set(agent.id, if agent.id == waits.id { Status::Idle } else { Status::Failed });
            }
            for _ in 0..many {
                let one = agent(next, 0);
                agents.begin(one.clone(), None);
                agents.set(one.id, Status::Stopped);
                next += 1;
            }
            agents.flush();
            let done = u64::from(next) - 2;
            assert_eq!(agents.totals(), Totals { forked: done + 2, completed: done, failed: 1 }, "round {round}");
            let again = Agents::open(dir.clone(), seams.clone());
            assert_eq!(again.totals(), Totals { forked: done + 2, completed: done, failed: 1 }, "round {round}");
            assert_eq!(again.list(waits.owner, 0, 1).1, AGENTS_KEPT_MAX);
            assert_eq!(again.find(waits.owner, waits.id).map(|a| (a.status, a.created_at)), Some((Status::Idle, waits.created_at)));
        }
    }

    #[test]
    fn a_torn_or_rotten_line_costs_one_agent() {
        let (dir, seams) = test_seams("agents-torn");
        let agents = Agents::open(dir.clone(), seams.clone());
        (0..3).for_each(|n| agents.begin(agent(n, 0), None));
        let path = dir.join("agents.jsonl");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.get(..text.len() - 20).unwrap()).unwrap();
        let agents = Agents::open(dir.clone(), seams.clone());
        assert_eq!(agents.list(agent(0, 0).owner, 0, 9).1, 2);
        agents.begin(agent(9, 0), None);
        assert_eq!(Agents::open(dir, seams).list(agent(0, 0).owner, 0, 9).1, 3);
    }
}
