//! What very many idle connections cost: memory each, and a busy client beside them.

use std::time::Instant;

use crate::Size;
use crate::held::{self, Kind};
use crate::load::{Connection, request};
use crate::process::{Parts, Server};
use crate::table::{print, quantile};

/// Prints the table.
pub(crate) fn run(size: Size) {
    let (count, asked) = size.pick((50, 50), (10_000, 5_000));
    // Each takes a descriptor here, too.
    oxios_edge::sys::limits::raise_descriptors();
    let parts = Parts::divide();
    let product = parts.server(|| Server::product(&[("OXIOS_GATEWAY__MAX_CONNECTIONS", "12000")]));
    let rows = [("oxios-edge", product), ("bare hyper", parts.server(Server::baseline)), ("axum", parts.server(Server::peer))].map(
        |(name, server)| {
            let mut client = Connection::open(&server.address);
            ask(&server, &mut client, asked / 10);
            let alone = ask(&server, &mut client, asked);
            let (held, each) = held::weighed(&server, Kind::KeepAlive, count);
            let beside = ask(&server, &mut client, asked);
            let all = server.status_kb("VmRSS") as f64 / 1024.0;
            drop(held);
            let pair = |share| format!("{:.0} → {:.0}", quantile(&alone, share), quantile(&beside, share));
            vec![name.to_owned(), format!("{each:.1}"), format!("{all:.1}"), pair(0.5), pair(0.99)]
        },
    );
    let beside = format!("GET alone → beside {count}: p50 µs");
    print(&["", "each, kB (goal ≤ 12)", "resident with all, MiB", &beside, "p99 µs"], &rows);
    println!(
        "\nEach connection has authenticated once (`GET /api/sessions`, where there is a key) and then says nothing; {}.",
        parts.told()
    );
}

/// Microseconds of each request of one busy client.
fn ask(server: &Server, client: &mut Connection, count: usize) -> Vec<f64> {
    let bytes = request("GET", "/api/sessions", server.token(), "");
    let time = |_| {
        let begin = Instant::now();
        client.exchange(&bytes);
        begin.elapsed().as_secs_f64() * 1e6
    };
    (0..count).map(time).collect()
}
