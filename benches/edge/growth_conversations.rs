//! What one more turn costs in conversations of every length: its time by the product's binary, its bytes over a disk that counts.

use std::time::{Duration, Instant};

use crate::Size;
use crate::counted::Counted;
use crate::fit::Series;
use crate::load::{Connection, request};
use crate::model::{Model, Speech};
use crate::plot::Plot;
use crate::process::Server;
use crate::stored::{SAID, Stored};
use crate::table::median;

/// Time and bytes.
pub(crate) fn run(size: Size) -> Vec<Plot> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let model = runtime.block_on(Model::start(Speech { streams: 1, pieces: 1, every: Duration::from_millis(1) }));
    model.answer_at_once(10_000);
    let mut cpu = [
        Series::new("a further turn, CPU, offline model (reads back up to 64 KiB)", 0.0),
        Series::new("a further turn, CPU, a model with 8,192 tokens of context", 0.0),
    ];
    let mut times = [
        Series::new("a further turn", 0.0),
        Series::new("the first turn after a start", 1.0),
        Series::new("the same, the projection is missing", 1.0),
        Series::new("stopping, the projection is behind", 1.0),
    ];
    let mut bytes = [Series::new("a further turn, written", 0.0), Series::new("the first one after a start, written", 0.0)];
    for turns in size.pick(vec![10, 100], vec![10, 100, 1_000, 10_000, 100_000]) {
        // A home of its own: nothing of another length is in it.
        let stored = Stored::new("growth-turns");
        let id = stored.conversation(turns);
        // It leaves a projection: making one takes long in a build for tests, and the server that counts is in one.
        let (timed, offline) = timed(&stored, &id, size.pick(3, 40));
        let scripted = with_model(&stored, &model, &id, size.pick(3, 40));
        let written = written(&stored, &id, size.pick(3, 40));
        let series = times.iter_mut().chain(&mut bytes).chain(&mut cpu);
        series
            .zip(timed.iter().chain(&written).chain(&[offline, scripted]))
            .for_each(|(series, cost)| series.points.push((turns as f64, *cost)));
    }
    let plot = |name, title, unit, series| Plot { name, title, axes: ["turns in the conversation", unit], series };
    vec![
        plot("turn-cpu", "CPU of a turn", "CPU ms", cpu.into()),
        plot("turn-time", "Time of a turn", "ms", times.into()),
        plot("turn-bytes", "Bytes written for a turn, pieces aside", "bytes", bytes.into()),
    ]
}

/// Milliseconds, in the order of the series; CPU milliseconds of a further turn.
fn timed(stored: &Stored, id: &str, more: usize) -> ([f64; 4], f64) {
    let server = stored.server();
    let mut talk = Talk::with(&server, id);
    let missing = talk.turn();
    let (further, cpu) = further(&server, &mut talk, more);
    let begin = Instant::now();
    server.stop();
    let stopping = millis(begin);
    let server = stored.server();
    let first = Talk::with(&server, id).turn();
    server.stop();
    ([median(&further), first, missing, stopping], cpu)
}

/// CPU milliseconds of a further turn with this model.
fn with_model(stored: &Stored, model: &Model, id: &str, more: usize) -> f64 {
    let server = Server::product_at(&stored.home, &Model::settings(&model.base));
    let mut talk = Talk::with(&server, id);
    talk.turn();
    let (_, cpu) = further(&server, &mut talk, more);
    server.stop();
    cpu
}

/// Milliseconds of each further turn, and the server's CPU milliseconds of one.
fn further(server: &Server, talk: &mut Talk, count: usize) -> (Vec<f64>, f64) {
    let before = server.cpu();
    let times = (0..count).map(|_| talk.turn()).collect();
    (times, (server.cpu() - before).as_secs_f64() * 1e3 / count as f64)
}

/// A client of one session.
struct Talk {
    connection: Connection,
    message: Vec<u8>,
}

impl Talk {
    fn with(server: &Server, id: &str) -> Self {
        let body = serde_json::json!({ "content": SAID, "session_id": id }).to_string();
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
        (0..count).for_each(|_| drop(server.turn(id, SAID)));
        (server.written().bytes - before) as f64 / count as f64
    };
    let first = turns(1);
    let further = turns(more);
    server.stop();
    [further, first]
}
