//! The file of the agents: one JSON object a line. An agent's first line has all that is known of it and a number; what
//! becomes of it is a short line with that number. When there are many lines the file is made anew.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::base::ids::{AgentId, MessageId, OwnerId, SeedId, SessionId};
use crate::base::limits::{AGENT_FILE_BYTES_MAX, AGENT_LINES_MAX};
use crate::base::log;
use crate::base::time::Timestamp;
use crate::rooms::agents::{Agent, Status, Totals};
use crate::store::atomic::{self, Durable};
use crate::store::home::Seams;
use crate::sys::disk::{Open, read_whole};

/// One line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    /// All that ever were, up to here; the first line of a file that was made anew.
    Totals(Totals),
    /// An agent as it is.
    Begun(Begun),
    /// What became of one.
    Became {
        /// Its number.
        n: u64,
        /// How it is now.
        is: Status,
        /// What it works on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seed: Option<SeedId>,
    },
}

/// An agent with its number; the fields of [`Agent`] in short.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Begun {
    n: u64,
    id: AgentId,
    owner: OwnerId,
    session: SessionId,
    message: MessageId,
    name: String,
    is: Status,
    at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seed: Option<SeedId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<AgentId>,
}

impl Line {
    pub(super) fn begun(n: u64, agent: &Agent) -> Self {
        Self::Begun(Begun {
            n,
            id: agent.id,
            owner: agent.owner,
            session: agent.session_id,
            message: agent.message_id,
            name: agent.name.clone(),
            is: agent.status,
            at: agent.created_at,
            seed: agent.seed_id,
            parent: agent.parent_id,
        })
    }

    pub(super) fn became(n: u64, is: Status, seed: Option<SeedId>) -> Self {
        Self::Became { n, is, seed }
    }
}

/// What was in the file.
#[derive(Default)]
pub(super) struct Found {
    pub(super) totals: Totals,
    /// By number, which is their order.
    pub(super) agents: BTreeMap<u64, Agent>,
}

/// The file, for its one writer.
pub(super) struct Book {
    path: PathBuf,
    seams: Seams,
    /// Lines in it, about.
    lines: usize,
    /// Its end is not sure (a torn line, a write that failed): it is made anew at the next write.
    unsure: bool,
}

impl Book {
    /// The file and what is in it. One that cannot be read is begun anew: it is no truth, only a memory.
    pub(super) fn open(path: PathBuf, seams: Seams) -> (Self, Found) {
        let (text, readable) = match read_whole(&*seams.disk, &path, AGENT_FILE_BYTES_MAX) {
            Ok(bytes) => (String::from_utf8_lossy(&bytes).into_owned(), true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => (String::new(), true),
            Err(e) => {
                log::warn("agents", format_args!("the list of earlier agents cannot be read: {e}"));
                (String::new(), false)
            }
        };
        let mut found = Found::default();
        let mut lines = 0;
        for line in text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok()) {
            lines += 1;
            found.take(line);
        }
        let unsure = !readable || !(text.is_empty() || text.ends_with('\n'));
        (Self { path, seams, lines, unsure }, found)
    }

    /// The next write of so many lines wants to make the file anew.
    pub(super) fn wants_whole(&self, more: usize) -> bool {
        self.unsure || self.lines + more > AGENT_LINES_MAX
    }

    /// Writes the lines, or the whole in their place. What cannot be written is said once and made good by the next write.
    pub(super) fn write(&mut self, lines: Vec<Line>, whole: Option<Vec<Line>>) {
        let anew = whole.is_some();
        let lines = whole.unwrap_or(lines);
        let mut bytes = Vec::with_capacity(lines.len() * 256);
        for line in &lines {
            // A line is made of ids, numbers and words of ours: it serialises.
            if serde_json::to_writer(&mut bytes, line).is_ok() {
                bytes.push(b'\n');
            }
        }
        let disk = &*self.seams.disk;
        let written = if anew {
            atomic::replace(disk, &self.path, &bytes, Durable::No)
        } else {
            disk.open(&self.path, Open::Append).and_then(|file| file.append(&bytes))
        };
        match written {
            Ok(()) => {
                self.lines = if anew { lines.len() } else { self.lines + lines.len() };
                self.unsure = false;
            }
            Err(e) => {
                if !std::mem::replace(&mut self.unsure, true) {
                    log::warn("agents", format_args!("the list of agents was not written: {e}"));
                }
            }
        }
    }
}

impl Found {
    fn take(&mut self, line: Line) {
        match line {
            Line::Totals(totals) => self.totals = totals,
            Line::Begun(b) => {
                // In a file that was made anew the totals have counted it.
                if b.n > self.totals.forked {
                    self.totals.forked = b.n;
                    self.totals.tally(Status::Starting, b.is);
                }
                let agent = Agent {
                    id: b.id,
                    owner: b.owner,
                    session_id: b.session,
                    message_id: b.message,
                    name: b.name,
                    status: b.is,
                    created_at: b.at,
                    seed_id: b.seed,
                    parent_id: b.parent,
                };
                self.agents.insert(b.n, agent);
            }
            Line::Became { n, is, seed } => {
                if let Some(agent) = self.agents.get_mut(&n) {
                    self.totals.tally(agent.status, is);
                    agent.status = is;
                    if let Some(seed) = seed {
                        agent.seed_id = Some(seed);
                        if agent.parent_id.is_none() {
                            "task".clone_into(&mut agent.name);
                        }
                    }
                }
            }
        }
    }
}
