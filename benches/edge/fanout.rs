//! One event to very many readers, against a broadcast on bare hyper and on axum.

use std::time::Instant;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::Size;
use crate::held::{self, Kind};
use crate::load::{Connection, request};
use crate::paths::SEARCH;
use crate::process::{Parts, Server};
use crate::table::{median, print};

/// What ends an event: its object, and the line that is empty.
const END: &[u8] = b"}\n\n";

/// A server with its readers.
struct Followed {
    name: &'static str,
    server: Server,
    publisher: Connection,
    heard: UnboundedReceiver<Instant>,
    /// Of each event: deliveries a second, from the first to the last; CPU µs a delivery; ms from the request to the last.
    rates: Vec<f64>,
    cpu: Vec<f64>,
    last: Vec<f64>,
}

/// Prints the table.
pub(crate) fn run(size: Size) {
    let (readers, events) = size.pick((20, 3), (1_000, 200));
    oxios_edge::sys::limits::raise_descriptors();
    let parts = Parts::divide();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let product = parts.server(|| Server::product(&[]));
    let servers = [
        ("oxios-edge", product),
        ("bare hyper, broadcast", parts.server(Server::baseline)),
        ("axum, broadcast", parts.server(Server::peer)),
    ];
    let mut all = servers.map(|(name, server)| {
        let (told, heard) = unbounded_channel();
        let sockets = held::open_all(&server, Kind::Reader, readers);
        for socket in sockets {
            socket.set_nonblocking(true).unwrap();
            let _in = runtime.enter();
            runtime.spawn(hear(TcpStream::from_std(socket).unwrap(), told.clone()));
        }
        let publisher = Connection::open(&server.address);
        Followed { name, server, publisher, heard, rates: Vec::new(), cpu: Vec::new(), last: Vec::new() }
    });
    for _ in 0..events {
        for one in &mut all {
            let before = one.server.cpu();
            let begin = Instant::now();
            one.publisher.exchange(&request("POST", SEARCH, one.server.token(), r#"{"query":"zebra"}"#));
            let times: Vec<Instant> = runtime.block_on(async {
                let mut times = Vec::with_capacity(readers);
                one.heard.recv_many(&mut times, readers).await;
                while times.len() < readers {
                    times.push(one.heard.recv().await.unwrap());
                }
                times
            });
            let (first, last) = (times.iter().min().unwrap(), times.iter().max().unwrap());
            one.rates.push((readers - 1) as f64 / (*last - *first).as_secs_f64());
            one.cpu.push((one.server.cpu() - before).as_secs_f64() * 1e6 / readers as f64);
            one.last.push((*last - begin).as_secs_f64() * 1e3);
        }
    }
    let bare = all[1].cpu.clone();
    let rows: Vec<_> = all
        .iter()
        .map(|one| {
            let ratio: Vec<f64> = bare.iter().zip(&one.cpu).map(|(bare, ours)| bare / ours).collect();
            vec![
                one.name.to_owned(),
                format!("{:.2}", median(&one.cpu)),
                format!("{:.0}", 1e6 / median(&one.cpu)),
                format!("{:.2}", median(&ratio)),
                format!("{:.0}", median(&one.rates)),
                format!("{:.2}", median(&one.last)),
            ]
        })
        .collect();
    print(
        &[
            "",
            "CPU µs a delivery",
            "deliveries a CPU second",
            "to bare hyper (goal ≥ 0.9)",
            "a second, as read",
            "request to last reader, ms",
        ],
        &rows,
    );
    println!("\n{events} events, one at a time in turns, each to {readers} readers of `/api/events`; {}.", parts.told());
    println!("The server's share is its CPU, the request that makes the event included; one client reads all, and may be the slower one.");
}

/// Reads events and tells when each came.
async fn hear(mut socket: TcpStream, told: UnboundedSender<Instant>) {
    let mut buffer = [0; 4096];
    let mut kept = Vec::new();
    loop {
        let n = socket.read(&mut buffer).await.unwrap_or(0);
        if n == 0 {
            return;
        }
        let now = Instant::now();
        kept.extend_from_slice(&buffer[..n]);
        while let Some(at) = kept.windows(END.len()).position(|bytes| bytes == END) {
            kept.drain(..at + END.len());
            let _ = told.send(now);
        }
    }
}
