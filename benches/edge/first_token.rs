//! What the gateway adds to a streamed token: from the model's write to the client's read, against a client that reads the model directly.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::Size;
use crate::load::{Connection, request};
use crate::process::Server;
use crate::table::{print, quantile};

/// Pieces of one answer.
const PIECES: usize = 8;
/// Longer than the window in which pieces are joined, so that each is felt alone.
const PAUSE: Duration = Duration::from_millis(30);

/// When each piece left the model.
type Sent = Arc<Mutex<HashMap<String, Instant>>>;

/// Prints the table.
pub(crate) fn run(size: Size) {
    let turns = size.pick(2, 60);
    let sent = Sent::default();
    let model = serve_model(sent.clone());
    let base = format!("http://{model}/v1");
    let product = Server::product(&[
        ("OXIOS_ENGINE__DEFAULT_MODEL", "openai/scripted"),
        ("OXIOS_ENGINE__BASE_URL", &base),
        ("OPENAI_API_KEY", "none"),
    ]);
    let token = product.token().unwrap();

    let mut direct = Latencies::default();
    for _ in 0..turns {
        let mut socket = TcpStream::connect(&model).unwrap();
        socket.write_all(&request("POST", "/v1/chat/completions", None, r#"{"stream":true}"#)).unwrap();
        direct.read(BufReader::new(socket), &sent);
    }

    let mut through = Latencies::default();
    let mut chat = Connection::open(&product.address);
    let first = chat.exchange(&request("POST", "/api/chat", Some(&token), r#"{"content":"hello"}"#));
    let first: serde_json::Value = serde_json::from_slice(&first).unwrap();
    let session = first["session_id"].as_str().unwrap().to_owned();
    for _ in 0..turns {
        // A reader that waits behind the end of the log before the message is sent.
        let after = last_seq(&product, &token, &session);
        let mut events = TcpStream::connect(&product.address).unwrap();
        events.write_all(&request("GET", &format!("/api/sessions/{session}/events?after={after}&until=done"), Some(&token), "")).unwrap();
        let body = format!(r#"{{"content":"hello","session_id":"{session}"}}"#);
        std::thread::scope(|scope| {
            scope.spawn(|| chat.exchange(&request("POST", "/api/chat", Some(&token), &body)));
            through.read(BufReader::new(events), &sent);
        });
    }

    let row = |name: &str, all: &Latencies| {
        let ms = |values: &[f64], share| format!("{:.3}", quantile(values, share));
        vec![name.to_owned(), ms(&all.first, 0.5), ms(&all.first, 0.99), ms(&all.later, 0.5), ms(&all.later, 0.99)]
    };
    print(
        &["reader", "first piece p50, ms", "p99", "later pieces p50, ms", "p99"],
        &[
            row("the model directly", &direct),
            row("through the gateway (SSE)", &through),
            vec!["goal, added".into(), "≤ 0.2".into(), "≤ 2".into(), "≤ 0.2 + join".into(), "≤ 2 + join".into()],
        ],
    );
    println!("\n{turns} answers of {PIECES} pieces, one every {} ms; one model call for each answer.", PAUSE.as_millis());
}

/// The cursor behind everything the session holds now.
fn last_seq(product: &Server, token: &str, session: &str) -> u64 {
    let mut socket = TcpStream::connect(&product.address).unwrap();
    socket.write_all(&request("GET", &format!("/api/sessions/{session}/events?until=idle"), Some(token), "")).unwrap();
    let lines = BufReader::new(socket).lines().map_while(Result::ok);
    lines.take_while(|line| line != "0").filter_map(|line| line.strip_prefix("id: ")?.trim().parse().ok()).last().unwrap_or(0)
}

/// Milliseconds from the model's write to this reader.
#[derive(Default)]
struct Latencies {
    first: Vec<f64>,
    later: Vec<f64>,
}

impl Latencies {
    /// Reads a stream until all pieces of one answer came by.
    fn read(&mut self, stream: impl BufRead, sent: &Sent) {
        let mut seen = 0;
        for line in stream.lines().map_while(Result::ok) {
            // The terminal record repeats the text; by then every piece was seen.
            for mark in line.split('<').skip(1).filter_map(|rest| rest.split_once('>')).map(|(mark, _)| mark.to_owned()) {
                let now = Instant::now();
                let Some(left) = sent.lock().unwrap().remove(&mark) else { continue };
                let ms = (now - left).as_secs_f64() * 1e3;
                if seen == 0 {
                    self.first.push(ms)
                } else {
                    self.later.push(ms)
                }
                seen += 1;
            }
            if seen == PIECES && (line.contains("\"done\"") || line.contains("[DONE]")) {
                return;
            }
        }
        panic!("the stream ended after {seen} of {PIECES} pieces");
    }
}

/// A model server (OpenAI's chat completions, streamed) that notes when each piece leaves.
fn serve_model(sent: Sent) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for (n, socket) in listener.incoming().enumerate() {
            let sent = sent.clone();
            std::thread::spawn(move || answer(socket.unwrap(), n, &sent));
        }
    });
    address
}

fn answer(mut socket: TcpStream, n: usize, sent: &Sent) -> Option<()> {
    socket.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(socket.try_clone().ok()?);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    reader.read_exact(&mut vec![0; length]).ok()?;
    socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n").ok()?;
    for i in 0..PIECES {
        std::thread::sleep(PAUSE);
        let mark = format!("{n}.{i}");
        let event = format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"<{mark}> \"}}}}]}}\n\n");
        sent.lock().unwrap().insert(mark, Instant::now());
        socket.write_all(event.as_bytes()).ok()?;
    }
    std::thread::sleep(PAUSE);
    let end = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":8}}\n\ndata: [DONE]\n\n";
    socket.write_all(end.as_bytes()).ok()
}
