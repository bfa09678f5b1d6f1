//! A page of the listing with few and with very many sessions.

use std::time::Instant;

use crate::Size;
use crate::compare::CONNECTIONS;
use crate::footprint::listed;
use crate::load::{self, request};
use crate::process::{Parts, Server};
use crate::stored::Stored;
use crate::table::{median, print, quantile};

/// Sessions on a page when nothing is said.
const PAGE: usize = 50;

/// Prints the table.
pub(crate) fn run(size: Size) {
    let (few, many) = size.pick((100, 300), (100, 100_000));
    let (rounds, count) = size.pick((1, 20), (7, 500));
    let parts = Parts::divide();
    let mut homes = [(few, Stored::new("few")), (many, Stored::new("many"))];
    let servers = homes.each_mut().map(|(sessions, home)| {
        home.sessions(*sessions);
        let server = parts.server(|| home.server());
        let begin = Instant::now();
        listed(&server);
        (*sessions, server, begin.elapsed().as_secs_f64())
    });
    let mut rows = Vec::new();
    for (name, page_of) in [("first", (|_| 1) as fn(usize) -> usize), ("last", |sessions| sessions / PAGE)] {
        let (mut cpu, mut rate, mut micros) = ([vec![], vec![]], [vec![], vec![]], [vec![], vec![]]);
        for _ in 0..rounds {
            for (at, (sessions, server, _)) in servers.iter().enumerate() {
                let (spent, load) = ask(server, page_of(*sessions), count);
                cpu[at].push(spent);
                rate[at].push(load.requests as f64 / load.wall.as_secs_f64());
                micros[at].extend(load.micros);
            }
        }
        let ratio: Vec<f64> = cpu[1].iter().zip(&cpu[0]).map(|(many, few)| many / few).collect();
        for (at, (sessions, _, built)) in servers.iter().enumerate() {
            rows.push(vec![
                format!("{name} page of {PAGE}, {sessions} sessions"),
                format!("{:.1}", median(&cpu[at])),
                if at == 0 { "1".into() } else { format!("{:.2}", median(&ratio)) },
                if at == 0 { "–".into() } else { "2".into() },
                format!("{:.0}", median(&rate[at])),
                format!("{:.0}", median(&micros[at])),
                format!("{:.0}", quantile(&micros[at], 0.99)),
                format!("{:.0}", built * 1e3),
            ]);
        }
    }
    print(&["GET /api/sessions", "CPU µs", "to few", "goal ≤", "a second", "p50 µs", "p99 µs", "first built in, ms"], &rows);
    println!("\n{rounds} rounds in turns, {CONNECTIONS} connections; {}. Built from the logs: no cache was there.", parts.told());
}

fn ask(server: &Server, page: usize, count: u64) -> (f64, load::Load) {
    let bytes = request("GET", &format!("/api/sessions?page={page}"), server.token(), "");
    let before = server.cpu();
    let load = load::run(&server.address, &bytes, CONNECTIONS, count);
    ((server.cpu() - before).as_secs_f64() * 1e6 / load.requests as f64, load)
}
