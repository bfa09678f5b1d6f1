//! Size, crates, memory and start, against the bare hyper server.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Size;
use crate::held::{self, Kind};
use crate::load::{Connection, request};
use crate::process::{BARE_HYPER, Server, beside, binary};
use crate::stored::Stored;
use crate::table::{median, print};

/// So long after a start or a load a server is at rest.
const REST: Duration = Duration::from_secs(10);

/// Prints the table.
pub(crate) fn run(size: Size) {
    let rounds = size.pick(1, 21);
    let (mut first, mut bare_first) = (vec![], vec![]);
    for _ in 0..rounds {
        first.push(first_answer(|| Server::product(&[])));
        bare_first.push(first_answer(Server::baseline));
    }
    let one = |digits: usize, value: f64| format!("{value:.digits$}");
    let none = || "–".to_owned();
    let megabytes = |program: &Path| one(2, std::fs::metadata(program).unwrap().len() as f64 / 1e6);
    let row = |what: String, ours: String, bare: String, goal: &str| vec![what, ours, bare, goal.to_owned()];
    let (new, bare_new) = (Server::product(&[]), Server::baseline());
    // Both rest: a start leaves pages behind that nobody uses again.
    std::thread::sleep(size.pick(Duration::from_millis(10), REST));
    let (idle, own) = (new.status_kb("VmRSS") as f64, new.status_kb("RssAnon") as f64);
    let mut rows = vec![
        row("binary, stripped, MB".into(), megabytes(&binary()), megabytes(&beside(BARE_HYPER)), "≤ 4"),
        row(
            "crates, default / without TLS".into(),
            format!("{} / {}", crates(&[]), crates(&["--no-default-features"])),
            none(),
            "≤ 95 / 87",
        ),
        row("resident when idle, MiB".into(), one(1, idle / 1024.0), one(1, bare_new.status_kb("VmRSS") as f64 / 1024.0), "≤ 5"),
        // The kernel maps whole stretches of a file around each page that is used, and takes them back when it needs memory.
        row(
            "of it not the binary's own pages, MiB".into(),
            one(1, own / 1024.0),
            one(1, bare_new.status_kb("RssAnon") as f64 / 1024.0),
            "–",
        ),
    ];
    let kinds = [
        (Kind::KeepAlive, "each idle keep-alive connection, kB", "≤ 12"),
        (Kind::Reader, "each reader of events (SSE), kB", "≤ 12"),
        (Kind::Socket, "each WebSocket, kB", "≤ 16"),
    ];
    let connections = size.pick(20, 1000);
    for (kind, name, goal) in kinds {
        // A process of its own for each: what the kinds before it gave back would be used again.
        let weigh = |server: Server| held::weighed(&server, kind, connections).1;
        rows.push(row(name.into(), one(1, weigh(Server::product(&[]))), one(1, weigh(Server::baseline())), goal));
    }
    let loaded = |server: &Server| {
        for kind in kinds.map(|(kind, ..)| kind) {
            drop(held::open_all(server, kind, connections));
        }
        let mut client = Connection::open(&server.address);
        (0..connections).for_each(|_| drop(client.exchange(&request("POST", "/api/chat", server.token(), r#"{"content":"hello"}"#))));
        drop(client);
        std::thread::sleep(size.pick(Duration::from_millis(10), REST));
        one(1, server.status_kb("VmRSS") as f64 / 1024.0)
    };
    rows.push(row("resident 10 s after a load, MiB".into(), loaded(&new), loaded(&bare_new), "≤ 4 more"));
    rows.push(row("exec to first 200, new home, ms".into(), one(1, median(&first)), one(1, median(&bare_first)), "–"));
    let new = Server::product(&[]);
    listed(&new);
    let idle = new.status_kb("RssAnon") as f64;
    let mut home = Stored::new("footprint");
    for sessions in size.pick(vec![5, 50], vec![1000, 100_000]) {
        let goal = if sessions == 1000 { "≤ 8" } else { "–" };
        home.sessions(sessions);
        let cold = first_answer(|| home.server());
        let server = home.server();
        listed(&server);
        let each = server.status_kb("RssAnon") as f64 - idle;
        // Leaves the cache of the listing, as a server does that was not killed.
        server.stop();
        let times: Vec<f64> = (0..size.pick(1, 11)).map(|_| first_answer(|| home.server())).collect();
        rows.push(row(format!("exec to first 200, {sessions} sessions, ms"), one(1, median(&times)), none(), goal));
        rows.push(row("the same, the listing not yet known, ms".into(), one(1, cold), none(), "–"));
        // Of few it is hidden behind what a start takes anyway, now more, now less.
        if sessions > 1000 {
            rows.push(row(format!("each of {sessions} sessions listed, bytes"), one(0, each * 1024.0 / sessions as f64), none(), "≤ 256"));
        }
    }
    print(&["", "oxios-edge", "bare hyper", "goal"], &rows);
    println!("\n{connections} connections of each kind; the load is as many messages, and these connections, all ended.");
}

/// Packages that a build is made of.
fn crates(features: &[&str]) -> usize {
    let mut command = std::process::Command::new(env!("CARGO"));
    command.args(["tree", "--offline", "-e", "normal", "--prefix", "none"]).args(features).current_dir(env!("CARGO_MANIFEST_DIR"));
    let out = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let lines: BTreeSet<&str> = out.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    lines.len()
}

/// Milliseconds from exec to a whole 200 on `/health`.
pub(crate) fn first_answer(start: impl FnOnce() -> Server) -> f64 {
    let begin = Instant::now();
    let server = start();
    Connection::open(&server.address).exchange(&request("GET", "/health", None, ""));
    begin.elapsed().as_secs_f64() * 1e3
}

/// Waits for the first page of the listing, which is answered when that is built.
pub(crate) fn listed(server: &Server) {
    Connection::open(&server.address).exchange(&request("GET", "/api/sessions", server.token(), ""));
}
