//! What one more turn costs in conversations of every length: its time by the product's binary, its bytes over a disk that counts.

use std::time::Instant;

use crate::Size;
use crate::counted::Counted;
use crate::fit::Series;
use crate::load::{Connection, request};
use crate::plot::Plot;
use crate::process::Server;
use crate::stored::Stored;
use crate::table::median;

/// What is said in each of them.
const CONTENT: &str = "What does a router do all day, and what does it keep of it?";

/// Time and bytes.
pub(crate) fn run(size: Size) -> Vec<Plot> {
    let mut times = [
        Series::new("a further turn", 0.0),
        Series::new("the first turn after a start", 1.0),
        Series::new("the same, the projection is missing", 1.0),
        Series::new("stopping, the projection is behind", 1.0),
    ];
    let mut bytes = [Series::new("a further turn, written", 0.0), Series::new("the first one, the projection is missing, written", 1.0)];
    for turns in size.pick(vec![10, 100], vec![10, 100, 1_000, 10_000, 100_000]) {
        // A home of its own: nothing of another length is in it.
        let stored = Stored::new("growth-turns");
        let id = stored.conversation(turns);
        let written = written(&stored, &id, size.pick(3, 40));
        stored.forget_projection(&id);
        let timed = timed(&stored, &id, size.pick(3, 40));
        let series = times.iter_mut().chain(&mut bytes);
        series.zip(timed.iter().chain(&written)).for_each(|(series, cost)| series.points.push((turns as f64, *cost)));
    }
    let plot = |name, title, unit, series| Plot { name, title, axes: ["turns in the conversation", unit], series };
    vec![
        plot("turn-time", "Time of a turn", "ms", times.into()),
        plot("turn-bytes", "Bytes written for a turn, pieces aside", "bytes", bytes.into()),
    ]
}

/// Milliseconds, in the order of the series.
fn timed(stored: &Stored, id: &str, more: usize) -> [f64; 4] {
    let server = stored.server();
    let mut talk = Talk::with(&server, id);
    let missing = talk.turn();
    let further: Vec<f64> = (0..more).map(|_| talk.turn()).collect();
    let begin = Instant::now();
    server.stop();
    let stopping = millis(begin);
    let server = stored.server();
    let first = Talk::with(&server, id).turn();
    server.stop();
    [median(&further), first, missing, stopping]
}

/// A client of one session.
struct Talk {
    connection: Connection,
    message: Vec<u8>,
}

impl Talk {
    fn with(server: &Server, id: &str) -> Self {
        let body = serde_json::json!({ "content": CONTENT, "session_id": id }).to_string();
        Self { connection: Connection::open(&server.address), message: request("POST", "/api/chat", server.token(), &body) }
    }

    /// Milliseconds from a message to its answer.
    fn turn(&mut self) -> f64 {
        let begin = Instant::now();
        self.connection.exchange(&self.message);
        millis(begin)
    }
}

fn millis(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1e3
}

/// Bytes, in the order of the series. Of the further ones the mean: what is written now and then is a part of each.
fn written(stored: &Stored, id: &str, more: usize) -> [f64; 2] {
    let mut server = Counted::start(&stored.home, "");
    let mut turns = |count: usize| {
        let before = server.written().bytes;
        (0..count).for_each(|_| drop(server.turn(id, CONTENT)));
        (server.written().bytes - before) as f64 / count as f64
    };
    let missing = turns(1);
    let further = turns(more);
    server.stop();
    [further, missing]
}
