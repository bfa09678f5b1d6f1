//! A home with very much in it: what takes long to come about is written into place, in the product's own formats, after what it has
//! written itself.

use std::fs;
use std::path::{Path, PathBuf};

use oxios_edge::wire::log_line;

use crate::load::{Connection, request};
use crate::process::{Server, scratch};

/// Where a session's first and second turn and its other files are taken from.
const MESSAGE: &str = "What does a router do all day, and what does it keep of it?";
/// The model writes it on the first line of its answer.
const SAID: &str = "hello";

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
    /// Sessions so far.
    sessions: usize,
}

impl Stored {
    /// A home with one conversation of two turns.
    pub(crate) fn new(name: &str) -> Self {
        let home = scratch(name);
        let server = Server::product_at(&home, &[]);
        let mut connection = Connection::open(&server.address);
        let mut id = String::new();
        for content in [SAID, MESSAGE] {
            let body = serde_json::json!({"content": content, "session_id": id}).to_string();
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
        Self { home, id, header, turns, shown, sessions: 1 }
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
