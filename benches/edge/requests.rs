//! CPU per request with the whole pipeline on, against a bare hyper server that reads the same requests, in alternated runs.

use crate::Size;
use crate::load;
use crate::process::Server;
use crate::table::{median, print};

/// Connections that are busy at once.
const CONNECTIONS: usize = 8;

/// One line of the table.
struct Case {
    name: &'static str,
    method: &'static str,
    path: &'static str,
    authenticated: bool,
    body: &'static str,
    /// DESIGN §8, where it names one.
    goal: &'static str,
    /// Requests per connection and round.
    count: u64,
}

/// Prints the table.
pub(crate) fn run(size: Size) {
    let rounds = size.pick(1, 7);
    let product = Server::product(&[]);
    let baseline = Server::baseline();
    let token = product.token().unwrap();
    let cases = [
        Case {
            name: "GET /health",
            method: "GET",
            path: "/health",
            authenticated: false,
            body: "",
            goal: "1.15",
            count: size.pick(50, 8000),
        },
        Case {
            name: "GET /api/sessions",
            method: "GET",
            path: "/api/sessions",
            authenticated: true,
            body: "",
            goal: "1.30",
            count: size.pick(50, 8000),
        },
        Case {
            name: "POST /api/chat, offline model",
            method: "POST",
            path: "/api/chat",
            authenticated: true,
            body: r#"{"content":"hello"}"#,
            goal: "–",
            count: size.pick(3, 60),
        },
    ];
    let mut rows = Vec::new();
    for case in &cases {
        let ours = load::request(case.method, case.path, case.authenticated.then_some(token.as_str()), case.body);
        load::run(&product.address, &ours, CONNECTIONS, case.count / 10 + 1);
        load::run(&baseline.address, &ours, CONNECTIONS, case.count / 10 + 1);
        let (mut cpu, mut bare_cpu, mut ratio, mut rate, mut bare_rate) = (vec![], vec![], vec![], vec![], vec![]);
        for _ in 0..rounds {
            let (a, rate_a) = micros_per_request(&product, &ours, case.count);
            // The baseline is cheap: the same number of requests as in the fast cases gives a steady figure.
            let (b, rate_b) = micros_per_request(&baseline, &ours, case.count.max(size.pick(50, 4000)));
            cpu.push(a);
            bare_cpu.push(b);
            ratio.push(a / b);
            rate.push(rate_a);
            bare_rate.push(rate_b);
        }
        rows.push(vec![
            case.name.to_owned(),
            format!("{:.1}", median(&cpu)),
            format!("{:.1}", median(&bare_cpu)),
            format!("{:.2}", median(&ratio)),
            case.goal.to_owned(),
            format!("{:.0}", median(&rate)),
            format!("{:.0}", median(&bare_rate)),
        ]);
    }
    print(&["request", "CPU µs", "bare hyper", "ratio (median)", "goal ≤", "requests/s", "bare hyper/s"], &rows);
    println!("\n{rounds} alternated rounds, {CONNECTIONS} connections; CPU is the server process's alone, kernel time included.");
}

fn micros_per_request(server: &Server, request: &[u8], count: u64) -> (f64, f64) {
    let before = server.cpu();
    let load = load::run(&server.address, request, CONNECTIONS, count);
    let cpu = server.cpu() - before;
    (cpu.as_secs_f64() * 1e6 / load.requests as f64, load.requests as f64 / load.wall.as_secs_f64())
}
