//! What start, listing, search and the audit log cost with few and with very many of what they look after.

use std::time::Instant;

use oxios_edge::base::log;

use crate::Size;
use crate::audit::Ledger;
use crate::fit::Series;
use crate::footprint::{first_answer, listed};
use crate::load::{Connection, request};
use crate::plot::Plot;
use crate::process::{Meter, Server, scratch};
use crate::stored::Stored;
use crate::table::median;

/// Sizes up to a hundred thousand.
fn sizes(size: Size) -> Vec<usize> {
    size.pick(vec![10, 100], vec![10, 100, 1_000, 10_000, 100_000])
}

/// Sessions on a page: as many as the smallest of the sizes has.
const PAGE: usize = 10;

/// Starting and listing.
pub(crate) fn sessions(size: Size) -> Vec<Plot> {
    let rounds = size.pick(1, 5);
    let mut start = Series::new("start to the first answer", 0.0);
    let mut cold = Series::new("start to the first list, from the logs", 1.0);
    let mut warm = Series::new("start to the first list, from the cache", 1.0);
    let mut first = Series::new("first page of the list", 0.0);
    let mut last = Series::new("last page of the list", 0.0);
    let mut stored = Stored::new("growth-sessions");
    for total in sizes(size) {
        stored.sessions(total);
        stored.forget_listing();
        let at = total as f64;
        let server = started_and_listed(&stored, &mut cold, at);
        // It writes down what it has read.
        server.rest();
        let page = |page: usize| {
            millis(&server, &request("GET", &format!("/api/sessions?limit={PAGE}&page={page}"), server.token(), ""), rounds * 20)
        };
        first.points.push((at, page(1)));
        last.points.push((at, page(total.div_ceil(PAGE))));
        server.stop();
        drop(started_and_listed(&stored, &mut warm, at));
        let times: Vec<f64> = (0..rounds).map(|_| first_answer(|| stored.server())).collect();
        start.points.push((at, median(&times)));
    }
    let plot = |name, title, unit, series| Plot { name, title, axes: ["stored sessions", unit], series };
    vec![
        plot("start", "From exec to an answer", "ms", vec![start, cold, warm]),
        plot("list", "A page of ten of the list", "CPU ms", vec![first, last]),
    ]
}

/// A server that has just answered with its list, which took from its start on so long.
fn started_and_listed(stored: &Stored, series: &mut Series, at: f64) -> Server {
    let begin = Instant::now();
    let server = stored.server();
    listed(&server);
    series.points.push((at, begin.elapsed().as_secs_f64() * 1e3));
    server
}

/// Searching in memories. More than an owner may keep are put there by hand: they are read all the same.
pub(crate) fn memories(size: Size) -> Vec<Plot> {
    let rounds = size.pick(3, 50);
    let mut first = Series::new("the first search after a start (reads all)", 1.0);
    let mut common = Series::new("a word that a tenth of them hold", 1.0);
    let mut rare = Series::new("a word that ten of them hold", 0.0);
    let mut stored = Stored::new("growth-memories");
    for total in sizes(size) {
        stored.memories(total);
        let begin = Instant::now();
        let server = stored.server();
        let search = |word: &str| request("POST", "/api/memory/search", server.token(), &format!(r#"{{"query":"{word}"}}"#));
        let at = total as f64;
        millis(&server, &search("nothing"), 1);
        first.points.push((at, begin.elapsed().as_secs_f64() * 1e3));
        common.points.push((at, millis(&server, &search("router"), rounds)));
        rare.points.push((at, millis(&server, &search("zebra"), rounds)));
    }
    let plot = |name, title, unit, series| Plot { name, title, axes: ["memories", unit], series };
    vec![
        plot("memory-start", "From exec to the first search", "ms", vec![first]),
        plot("memory-search", "Search in memories", "CPU ms", vec![common, rare]),
    ]
}

/// Appending to the audit log: what a record cost in the half before each size.
pub(crate) fn audit(size: Size) -> Vec<Plot> {
    log::configure(log::Format::Pretty, log::Level::Error);
    let mut series = Series::new("a record appended", 0.0);
    let home = scratch("growth-audit");
    let ledger = Ledger::open(&home);
    let meter = Meter::of(std::process::id());
    let mut there = 0;
    for total in size.pick(vec![100, 1_000], vec![1_000, 10_000, 100_000, 1_000_000]) {
        while there < total / 2 {
            ledger.note();
            there += 1;
        }
        let begin = meter.read();
        let measured = total - there;
        while there < total {
            ledger.note();
            there += 1;
        }
        series.points.push((f64::from(total), (meter.read() - begin).as_secs_f64() * 1e6 / f64::from(measured)));
    }
    ledger.close();
    let _ = std::fs::remove_dir_all(&home);
    vec![Plot { name: "audit", title: "Appending to the audit log", axes: ["records", "CPU µs"], series: vec![series] }]
}

/// The server's CPU time for this request, in milliseconds, asked so many times on one connection.
fn millis(server: &Server, bytes: &[u8], count: usize) -> f64 {
    let mut connection = Connection::open(&server.address);
    let before = server.cpu();
    (0..count).for_each(|_| drop(connection.exchange(bytes)));
    (server.cpu() - before).as_secs_f64() * 1e3 / count as f64
}
