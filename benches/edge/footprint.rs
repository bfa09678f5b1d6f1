//! Size, crates, memory and start, against the bare hyper server.

use std::time::Instant;

use crate::Size;
use crate::load::{Connection, request};
use crate::process::{Server, binary, scratch};
use crate::table::{median, print};

/// Prints the table.
pub(crate) fn run(size: Size) {
    let binary = std::fs::metadata(binary()).unwrap().len() as f64 / 1e6;
    let crates = |features: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO"));
        command.args(["tree", "--offline", "-e", "normal", "--prefix", "none"]).args(features).current_dir(env!("CARGO_MANIFEST_DIR"));
        let out = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let lines: std::collections::BTreeSet<&str> = out.lines().map(|line| line.trim_end_matches(" (*)")).collect();
        lines.len()
    };
    let rounds = size.pick(1, 21);
    let (mut first, mut bare_first) = (vec![], vec![]);
    for _ in 0..rounds {
        first.push(first_answer(|| Server::product(&[])));
        bare_first.push(first_answer(Server::baseline));
    }
    let (product, baseline) = (Server::product(&[]), Server::baseline());
    let idle = product.status_kb("VmRSS") as f64 / 1024.0;
    let bare_idle = baseline.status_kb("VmRSS") as f64 / 1024.0;
    let connections = size.pick(20, 1000);
    let (kept, bare_kept) = (per_connection(&product, connections), per_connection(&baseline, connections));
    let stored = size.pick(5, 1000);
    let with_sessions = start_with_sessions(stored, size.pick(1, 5));
    print(
        &["", "oxios-edge", "bare hyper", "goal"],
        &[
            vec!["binary, stripped, MB".into(), format!("{binary:.2}"), "–".into(), "≤ 4".into()],
            vec![
                "crates, default / without TLS".into(),
                format!("{} / {}", crates(&[]), crates(&["--no-default-features"])),
                "–".into(),
                "≤ 95 / 87".into(),
            ],
            vec!["resident when idle, MiB".into(), format!("{idle:.1}"), format!("{bare_idle:.1}"), "≤ 5".into()],
            vec!["each idle keep-alive connection, kB".into(), format!("{kept:.1}"), format!("{bare_kept:.1}"), "≤ 12".into()],
            vec![
                "exec to first 200, new home, ms".into(),
                format!("{:.1}", median(&first)),
                format!("{:.1}", median(&bare_first)),
                "–".into(),
            ],
            vec![format!("exec to first 200, {stored} sessions, ms"), format!("{with_sessions:.1}"), "–".into(), "≤ 8".into()],
        ],
    );
}

/// Milliseconds from exec to a whole 200 on `/health`.
fn first_answer(start: impl Fn() -> Server) -> f64 {
    let begin = Instant::now();
    let server = start();
    Connection::open(&server.address).exchange(&request("GET", "/health", None, ""));
    begin.elapsed().as_secs_f64() * 1e3
}

/// Resident kB that each idle connection adds after one request.
fn per_connection(server: &Server, count: usize) -> f64 {
    // The first connections pay for what all share.
    let mut open = vec![Connection::open(&server.address)];
    open[0].exchange(&request("GET", "/health", None, ""));
    let before = server.status_kb("VmRSS");
    // Strangers from one peer are capped, so every connection authenticates where there is something to authenticate to.
    let token = server.token();
    let path = if token.is_some() { "/api/status" } else { "/health" };
    for _ in 0..count {
        let mut connection = Connection::open(&server.address);
        connection.exchange(&request("GET", path, token.as_deref(), ""));
        open.push(connection);
    }
    server.status_kb("VmRSS").saturating_sub(before) as f64 * 1.024 / count as f64
}

/// Median milliseconds from exec to the first 200 on a home with this many sessions.
fn start_with_sessions(sessions: usize, rounds: usize) -> f64 {
    let home = scratch("sessions");
    {
        let server = Server::product_at(&home, &[]);
        let token = std::fs::read_to_string(home.join("token")).unwrap();
        let mut connection = Connection::open(&server.address);
        let message = request("POST", "/api/chat", Some(token.trim()), r#"{"content":"hello"}"#);
        for _ in 0..sessions {
            connection.exchange(&message);
        }
    }
    let times: Vec<f64> = (0..rounds).map(|_| first_answer(|| Server::product_at(&home, &[]))).collect();
    let _ = std::fs::remove_dir_all(&home);
    median(&times)
}
