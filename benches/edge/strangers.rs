//! What 10,000 strangers that send slow, huge, malformed or no bytes cost an authorised client, and how much memory they take: the same
//! requests with and without them, in turns.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::Size;
use crate::attackers::{Attack, Kind, Tries};
use crate::load::{Connection, request};
use crate::process::Server;
use crate::table::{print, quantile};

/// Between two requests: a busy client, not one that takes every moment of the machine.
const PAUSE: Duration = Duration::from_millis(2);

/// Milliseconds of each request.
#[derive(Default)]
struct Times {
    kept: Vec<f64>,
    new: Vec<f64>,
    chat: Vec<f64>,
    /// New connections that did not come about, or were shown out before they had spoken; they were tried again.
    again: usize,
}

/// Prints the table.
pub(crate) fn run(size: Size) {
    let (places, rounds, requests) = (size.pick(100, 10_000), size.pick(1, 3), size.pick(5, 200));
    let server = Server::product(&[]);
    let token = server.token().unwrap();
    let mut client = Client { address: &server.address, token: &token, kept: Connection::open(&server.address) };
    // What all share is paid for before anything is measured.
    client.ask(requests, &mut Times::default());

    let (mut alone, mut beside) = (Times::default(), Times::default());
    let (mut memory, mut tries, mut open) = (Memory::default(), Tries::default(), 0);
    for _ in 0..rounds {
        client.ask(requests, &mut alone);
        let before = Memory::before(&server);
        let mut attack = Attack::begin(&server.address, places, None);
        // While they come …
        client.ask(requests / 2, &mut beside);
        attack.all_tried();
        // … and when all were there.
        client.ask(requests / 2, &mut beside);
        open = open.max(server.descriptors());
        memory = memory.most(before.after(&server));
        let came = attack.end();
        tries.tried += came.tried;
        tries.ended += came.ended;
    }
    // All of one kind: those that make the server keep most.
    let worst = [Kind::FullHead, Kind::SlowLogin, Kind::Deaf].map(|kind| {
        let before = Memory::before(&server);
        let mut attack = Attack::begin(&server.address, places, Some(kind));
        attack.all_tried();
        client.ask(requests / 2, &mut Times::default());
        let memory = before.after(&server);
        attack.end();
        (format!("resident, MiB; all of them {kind:?}"), memory)
    });

    let mut rows = Vec::new();
    for (name, alone, beside) in [
        ("GET /api/sessions", &alone.kept, &beside.kept),
        ("the same, each on a new connection", &alone.new, &beside.new),
        ("POST /api/chat, offline model", &alone.chat, &beside.chat),
    ] {
        let (a, b) = (quantile(alone, 0.99), quantile(beside, 0.99));
        rows.push(vec![
            name.to_owned(),
            format!("{:.2} / {a:.2}", quantile(alone, 0.5)),
            format!("{:.2} / {b:.2}", quantile(beside, 0.5)),
            format!("{:.1}", b / a),
            "p99 < 50, ≤ 5".into(),
        ]);
    }
    for (name, Memory { before, peak }) in [("resident, MiB".to_owned(), memory)].into_iter().chain(worst) {
        let mib = |kb: u64| format!("{:.1}", kb as f64 / 1024.0);
        rows.push(vec![name, mib(before), mib(peak), format!("+ {}", mib(peak - before)), "+ 16".into()]);
    }
    print(&["p50 / p99, ms", "alone", &format!("beside {places} strangers"), "ratio", "goal"], &rows);
    println!(
        "\n{rounds} rounds in turns; {} connections tried in all, {} ended by the server; at most {open} descriptors open; {} of {} new",
        tries.tried,
        tries.ended,
        beside.again,
        beside.new.len()
    );
    println!("connections of the client did not come about or were shown out before they had spoken, and were tried again.");
}

/// The server's resident memory, kB.
#[derive(Clone, Copy, Default)]
struct Memory {
    before: u64,
    peak: u64,
}

impl Memory {
    fn before(server: &Server) -> Self {
        server.forget_peak();
        Self { before: server.status_kb("VmRSS"), peak: 0 }
    }

    fn after(self, server: &Server) -> Self {
        Self { peak: server.status_kb("VmHWM").max(self.before), ..self }
    }

    /// Whichever grew more.
    fn most(self, other: Self) -> Self {
        if other.peak - other.before > self.peak - self.before { other } else { self }
    }
}

/// A client with a key, which keeps one connection open.
struct Client<'a> {
    address: &'a str,
    token: &'a str,
    kept: Connection,
}

impl Client<'_> {
    /// This many requests of each kind over the connection that is kept, and as many over new ones as that leaves time for.
    fn ask(&mut self, count: usize, times: &mut Times) {
        let list = request("GET", "/api/sessions", Some(self.token), "");
        let chat = request("POST", "/api/chat", Some(self.token), r#"{"content":"hello"}"#);
        let Times { kept, chat: chats, new, again } = times;
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    new.push(millis(|| {
                        while Connection::try_open(self.address).and_then(|mut new| new.try_exchange(&list)).is_err() {
                            *again += 1;
                        }
                    }));
                }
            });
            for _ in 0..count {
                kept.push(millis(|| drop(self.kept.exchange(&list))));
                chats.push(millis(|| drop(self.kept.exchange(&chat))));
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}

fn millis(work: impl FnOnce()) -> f64 {
    std::thread::sleep(PAUSE);
    let begin = Instant::now();
    work();
    begin.elapsed().as_secs_f64() * 1e3
}
