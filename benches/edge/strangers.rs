//! What 10,000 strangers that send slow, huge, malformed or no bytes cost an authorised client, and how much memory they take: the same
//! requests with and without them, in turns; each kind alone, and all together; all together against a bare hyper server, too.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::Size;
use crate::attackers::{Attack, KINDS, Kind, Tries};
use crate::load::{Connection, request};
use crate::process::{Ahead, Parts, Server};
use crate::table::{print, quantile};

/// Between two requests: a busy client, not one that takes every moment of the machine.
const PAUSE: Duration = Duration::from_millis(2);
/// MiB that strangers may make the server grow by.
const GROWTH_MAX: f64 = 16.0;
/// Milliseconds.
const P99_MAX: f64 = 50.0;
/// Of the p99 alone.
const RATIO_MAX: f64 = 5.0;

/// How much.
struct Much {
    /// Strangers at a time.
    places: usize,
    /// Attacks of all kinds.
    rounds: usize,
    /// Requests before each attack, and at least as many while it lasts.
    requests: usize,
    /// An attack lasts at least this long.
    hold: Duration,
}

/// Milliseconds of each request.
#[derive(Default)]
struct Times {
    kept: Vec<f64>,
    new: Vec<f64>,
    chat: Vec<f64>,
    /// New connections that did not come about, or were shown out before they had spoken; they were tried again.
    again: usize,
    /// Times that the server ended the connection that is kept. It must not.
    lost: usize,
}

/// What one kind of attack did to one server.
struct Outcome {
    alone: Times,
    beside: Times,
    /// Resident before it and at its height, kB.
    before: u64,
    peak: u64,
    tries: Tries,
    descriptors: usize,
    /// Of one core, while it lasted.
    cpu: f64,
}

/// Prints the tables.
pub(crate) fn run(size: Size) {
    let much = Much {
        places: size.pick(100, 10_000),
        rounds: size.pick(1, 3),
        requests: size.pick(5, 200),
        hold: Duration::from_millis(size.pick(100, 6_000)),
    };
    let parts = Parts::divide();
    let ahead = Ahead::of_others();
    let server = parts.server(|| Server::product(&[]));
    let token = server.token().unwrap().to_owned();
    let mut client = Client::new(&server.address, &token);
    // What all share is paid for before anything is measured.
    client.ask(&mut Times::default(), much.requests, || true);
    let kinds = if size == Size::Quick { &[Kind::SlowLogin][..] } else { &KINDS };
    let mut outcomes: Vec<(&str, Outcome)> = Vec::new();
    for kind in kinds {
        outcomes.push((kind.words(), attack(&server, &mut client, &much, Some(*kind), 1)));
        said(&outcomes);
    }
    outcomes.push(("all kinds together", attack(&server, &mut client, &much, None, much.rounds)));
    said(&outcomes);
    drop(server);
    let bare = parts.server(Server::baseline);
    let mut client = Client::new(&bare.address, "none");
    client.ask(&mut Times::default(), much.requests, || true);
    outcomes.push(("bare hyper, all kinds together", attack(&bare, &mut client, &much, None, 1)));

    said(&outcomes);

    let ratio = |alone: &[f64], beside: &[f64]| {
        let (a, b) = (quantile(alone, 0.99), quantile(beside, 0.99));
        format!("{a:.1} → {b:.1} ({:.1})", b / a)
    };
    let rows: Vec<_> = outcomes
        .iter()
        .map(|(name, Outcome { alone, beside, .. })| {
            vec![
                (*name).to_owned(),
                ratio(&alone.kept, &beside.kept),
                ratio(&alone.chat, &beside.chat),
                ratio(&alone.new, &beside.new),
                format!("{} of {}", beside.again, beside.new.len()),
                beside.lost.to_string(),
            ]
        })
        .collect();
    print(
        &[
            &format!("p99 of a client, ms: alone → beside {} strangers (ratio)", much.places),
            "GET /api/sessions",
            "POST /api/chat",
            "GET, new connection",
            "new ones tried again",
            "kept ones lost",
        ],
        &rows,
    );
    println!("\nGoal: p99 < {P99_MAX} ms and a ratio of at most {RATIO_MAX} on the connection that is kept, which is never lost.\n");
    let mib = |kb: u64| format!("{:.1}", kb as f64 / 1024.0);
    let rows: Vec<_> = outcomes
        .iter()
        .map(|(name, o)| {
            vec![
                (*name).to_owned(),
                mib(o.before),
                mib(o.peak),
                format!("+ {}", mib(o.peak - o.before)),
                o.descriptors.to_string(),
                o.tries.tried.to_string(),
                o.tries.ended.to_string(),
                format!("{:.0} %", o.cpu * 100.0),
            ]
        })
        .collect();
    print(
        &["memory, MiB", "before", "at most", &format!("goal + {GROWTH_MAX}"), "descriptors", "connections tried", "ended", "server's CPU"],
        &rows,
    );
    println!("\nAll kinds: {} rounds; {}; strangers at nice 19, {}.", much.rounds, parts.told(), ahead.told());
}

/// The table comes at the end; this tells whoever waits for it how far it is.
fn said(outcomes: &[(&str, Outcome)]) {
    let Some((name, o)) = outcomes.last() else { return };
    let p99 = |times: &[f64]| format!("{:.1}", quantile(times, 0.99));
    let (a, b) = (&o.alone, &o.beside);
    eprintln!(
        "{name}: p99 {} → {} ms, chat {} → {} ms, new {} → {} ms, {} asked, {} lost, + {} kB, {} tried",
        p99(&a.kept),
        p99(&b.kept),
        p99(&a.chat),
        p99(&b.chat),
        p99(&a.new),
        p99(&b.new),
        b.kept.len(),
        b.lost,
        o.peak - o.before,
        o.tries.tried
    );
}

/// Attacks so many times, with the client alone before each.
fn attack(server: &Server, client: &mut Client<'_>, much: &Much, kind: Option<Kind>, rounds: usize) -> Outcome {
    let mut all = Outcome {
        alone: Times::default(),
        beside: Times::default(),
        before: 0,
        peak: 0,
        tries: Tries::default(),
        descriptors: 0,
        cpu: 0.0,
    };
    for _ in 0..rounds {
        client.ask(&mut all.alone, much.requests, || true);
        server.forget_peak();
        let (before, cpu, begin) = (server.status_kb("VmRSS"), server.cpu(), Instant::now());
        let mut attack = Attack::begin(&server.address, much.places, kind);
        // While they come, and when all were there.
        std::thread::scope(|scope| {
            let come = scope.spawn(|| attack.all_tried());
            client.ask(&mut all.beside, much.requests, || begin.elapsed() > much.hold && come.is_finished());
        });
        all.descriptors = all.descriptors.max(server.descriptors());
        let peak = server.status_kb("VmHWM").max(before);
        all.cpu = all.cpu.max((server.cpu() - cpu).as_secs_f64() / begin.elapsed().as_secs_f64());
        // Whichever grew more.
        if peak - before >= all.peak - all.before {
            (all.before, all.peak) = (before, peak);
        }
        let came = attack.end();
        all.tries.tried += came.tried;
        all.tries.ended += came.ended;
    }
    all
}

/// A client with a key, which keeps one connection open.
struct Client<'a> {
    address: &'a str,
    list: Vec<u8>,
    chat: Vec<u8>,
    kept: Connection,
}

impl<'a> Client<'a> {
    fn new(address: &'a str, token: &str) -> Self {
        Self {
            address,
            list: request("GET", "/api/sessions", Some(token), ""),
            chat: request("POST", "/api/chat", Some(token), r#"{"content":"hello"}"#),
            kept: Connection::open(address),
        }
    }

    /// At least this many requests of each kind over the connection that is kept, until it is time; as many over new ones as that
    /// leaves time for.
    fn ask(&mut self, times: &mut Times, count: usize, is_time: impl Fn() -> bool) {
        let Times { kept, chat: chats, new, again, lost } = times;
        let done = AtomicBool::new(false);
        let (address, list) = (self.address, &self.list);
        let mut ask = |request: &[u8]| {
            millis(|| {
                while self.kept.try_exchange(request).is_err() {
                    *lost += 1;
                    self.kept = once_open(address, list, lost);
                }
            })
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    new.push(millis(|| drop(once_open(address, list, again))));
                }
            });
            let mut n = 0;
            while n < count || !is_time() {
                kept.push(ask(list));
                chats.push(ask(&self.chat));
                n += 1;
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}

/// A new connection on which this was asked and answered; counts how often it had to be tried again.
fn once_open(address: &str, request: &[u8], again: &mut usize) -> Connection {
    loop {
        let answered = Connection::try_open(address).and_then(|mut new| new.try_exchange(request).map(|_| new));
        if let Ok(new) = answered {
            return new;
        }
        *again += 1;
    }
}

fn millis(work: impl FnOnce()) -> f64 {
    std::thread::sleep(PAUSE);
    let begin = Instant::now();
    work();
    begin.elapsed().as_secs_f64() * 1e3
}
