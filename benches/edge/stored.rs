//! A home with very much in it: what takes long to come about is written into place, in the product's own formats, after what it has
//! written itself.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use oxios_edge::wire::log_line;

use crate::load::{Connection, request};
use crate::process::{Server, scratch};

/// What is said in every conversation: the offline model answers it in one call, without a tool.
pub(crate) const SAID: &str = "hello";

/// A home; gone when dropped.
pub(crate) struct Stored {
    /// Where it lies.
    pub(crate) home: PathBuf,
    /// The session that everything is copied from.
    id: String,
    /// Its log: the header, and the records of its two turns.
    header: String,
    turns: [Vec<String>; 2],
    /// Its projection.
    shown: String,
    /// Session and memory files so far.
    sessions: usize,
    memories: usize,
}

impl Stored {
    /// A home with one conversation of two turns.
    pub(crate) fn new(name: &str) -> Self {
        let home = scratch(name);
        let server = Server::product_at(&home, &[]);
        let mut connection = Connection::open(&server.address);
        let mut id = String::new();
        for _ in 0..2 {
            let body = serde_json::json!({"content": SAID, "session_id": id}).to_string();
            let answer = connection.exchange(&request("POST", "/api/chat", server.token(), &body));
            let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
            id = answer["session_id"].as_str().unwrap().to_owned();
        }
        server.stop();
        let text = fs::read_to_string(home.join("workspace/sessions").join(format!("{id}.log"))).unwrap();
        // The checksums are made anew.
        let mut lines = text.lines().map(|line| line[9..].to_owned());
        let header = lines.next().unwrap();
        let records: Vec<String> = lines.collect();
        let second = records.iter().rposition(|record| record.contains(r#""kind":"message""#)).unwrap();
        let turns = [records[..second].to_vec(), records[second..].to_vec()];
        let shown = fs::read_to_string(home.join("workspace/sessions").join(format!("{id}.json"))).unwrap();
        Self { home, id, header, turns, shown, sessions: 1, memories: 0 }
    }

    /// The product on it.
    pub(crate) fn server(&self) -> Server {
        Server::product_at(&self.home, &[])
    }

    /// Adds sessions until there are this many, each with its log and its projection.
    pub(crate) fn sessions(&mut self, total: usize) {
        let dir = self.home.join("workspace/sessions");
        let first = turn_of(&self.turns[0]);
        for n in self.sessions..total {
            let id = uuid(1, n);
            let mut log = Vec::new();
            log_line::write(&mut log, self.header.replace(&self.id, &id).as_bytes());
            write_turn(&mut log, &self.turns[0], first, &uuid(2, n), 0);
            fs::write(dir.join(format!("{id}.log")), log).unwrap();
            fs::write(dir.join(format!("{id}.json")), self.shown.replace(&self.id, &id)).unwrap();
        }
        self.sessions = self.sessions.max(total);
    }

    /// The cache of the listing is gone, as after a loss of power.
    pub(crate) fn forget_listing(&self) {
        let _ = fs::remove_file(self.home.join("workspace/sessions/index.cache"));
    }

    /// One conversation with this many turns; its id.
    pub(crate) fn conversation(&self, turns: usize) -> String {
        let id = uuid(3, turns);
        let mut log = Vec::new();
        log_line::write(&mut log, self.header.replace(&self.id, &id).as_bytes());
        let (first, second) = (turn_of(&self.turns[0]), turn_of(&self.turns[1]));
        let stride = second.seq - first.seq;
        write_turn(&mut log, &self.turns[0], first, &uuid(4, 0), 0);
        for n in 1..turns {
            write_turn(&mut log, &self.turns[1], second, &uuid(4, n), (n as u64 - 1) * stride);
        }
        fs::write(self.home.join("workspace/sessions").join(format!("{id}.log")), log).unwrap();
        id
    }

    /// Adds memories until there are this many: of twelve words each, one in ten with `router`, the first ten with `zebra`.
    pub(crate) fn memories(&mut self, total: usize) {
        let dir = self.home.join("workspace/memory/facts");
        fs::create_dir_all(&dir).unwrap();
        let owner: serde_json::Value = serde_json::from_str(&self.header).unwrap();
        // xorshift: words as if drawn, the same in every run.
        let mut drawn = 0x9e37_79b9_7f4a_7c15_u64;
        for n in self.memories..total {
            let mut content = String::new();
            for _ in 0..12 {
                drawn ^= drawn << 13;
                drawn ^= drawn >> 7;
                drawn ^= drawn << 17;
                // Small numbers are frequent, as few words are in any language.
                let word = (drawn % 5_000) * (drawn >> 32 & 0xff) / 256;
                write!(content, "word{word} ").unwrap();
            }
            content += if n % 10 == 0 { "router " } else { "" };
            content += if n < 10 { "zebra " } else { "" };
            let id = uuid(5, n);
            let entry = serde_json::json!({
                "id": id, "owner": owner["owner"], "category": "facts", "content": content, "tags": ["bench"],
                "importance": 0.5, "created_at": owner["created"],
            });
            fs::write(dir.join(format!("{id}.json")), entry.to_string()).unwrap();
        }
        self.memories = self.memories.max(total);
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(Path::new(&self.home));
    }
}

/// What tells a turn from the one that it is copied from.
#[derive(Clone, Copy)]
struct Turn<'a> {
    seq: u64,
    message: &'a str,
}

fn turn_of(records: &[String]) -> Turn<'_> {
    let (seq, _) = numbered(&records[0]);
    let message = records[0].split_once(r#""message_id":""#).unwrap().1;
    Turn { seq, message: &message[..36] }
}

/// The number of a record, and what stands behind it.
fn numbered(record: &str) -> (u64, &str) {
    let rest = record.strip_prefix(r#"{"seq":"#).unwrap();
    let end = rest.find(',').unwrap();
    (rest[..end].parse().unwrap(), &rest[end..])
}

/// The same turn under another message's id, its numbers so much higher.
fn write_turn(log: &mut Vec<u8>, records: &[String], turn: Turn<'_>, message: &str, higher: u64) {
    for record in records {
        let (seq, rest) = numbered(record);
        let rest = rest.replacen(turn.message, message, 1);
        log_line::write(log, format!(r#"{{"seq":{}{rest}"#, seq + higher).as_bytes());
    }
}

/// An id of ours: `kind` tells what for.
fn uuid(kind: u16, n: usize) -> String {
    // Spread, as random ones are, so that no tree or directory is filled in order.
    let spread = (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{:08x}-{kind:04x}-4000-8000-{n:012x}", spread >> 32)
}
