//! What the gateway adds to a streamed token: from the model's write to the client's read, against clients that read the model directly
//! and against such behind a process that passes bytes on; one stream and many at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::Size;
use crate::load::{Connection, request};
use crate::model::{Model, Speech};
use crate::process::{Parts, Server};
use crate::table::{print, quantile};

/// The gateway joins pieces that come within this time, but for the first.
const WINDOW_MS: f64 = 20.0;

/// Milliseconds from the model's write to the reader.
#[derive(Default)]
struct Ages {
    first: Vec<f64>,
    later: Vec<f64>,
}

/// Prints the table.
pub(crate) fn run(size: Size) {
    oxios_edge::sys::limits::raise_descriptors();
    let parts = Parts::divide();
    let slow = Duration::from_millis(100);
    // Rounds, answers at once, pieces of each, pause: longer than the window, so that each is felt alone; and one that is within it.
    let cases = size.pick(
        vec![(1, 1, 3, slow), (1, 16, 3, slow), (1, 1, 8, Duration::from_millis(5))],
        vec![(60, 1, 4, slow), (4, 64, 30, slow), (2, 512, 50, slow), (10, 1, 200, Duration::from_millis(5))],
    );
    let mut rows = Vec::new();
    for (rounds, streams, pieces, every) in cases {
        let speech = Speech { streams, pieces, every };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let model = runtime.block_on(Model::start(speech));
        let mut settings = Model::settings(&model.base);
        settings.push(("OXIOS_GATEWAY__MAX_CONCURRENT", "1000"));
        let product = parts.server(|| Server::product(&settings));
        let forwarder = parts.server(|| Server::forwarder(&model.address));
        let (mut direct, mut passed, mut through) = (Ages::default(), Ages::default(), Ages::default());
        let mut cpu = Duration::ZERO;
        for _ in 0..rounds {
            for (address, ages) in [(&model.address, &mut direct), (&forwarder.address, &mut passed)] {
                let asked = (0..streams).map(|_| TcpStream::connect(address.clone()));
                read_all(&runtime, &model, ages, asked, &request("POST", "/v1/chat/completions", None, "{}"));
            }
            let readers: Vec<_> = (0..streams).map(|_| begin(&product)).collect();
            let readers = readers.into_iter().map(async |socket| TcpStream::from_std(socket));
            let before = product.cpu();
            read_all(&runtime, &model, &mut through, readers, b"");
            cpu += product.cpu() - before;
        }
        let ms = |values: &[f64], share| format!("{:.2}", quantile(values, share));
        let row = |name: String, ages: &Ages, cpu: String| {
            vec![name, ms(&ages.first, 0.5), ms(&ages.first, 0.99), ms(&ages.later, 0.5), ms(&ages.later, 0.99), cpu]
        };
        let each = cpu.as_secs_f64() * 1e6 / (rounds * streams * pieces) as f64;
        let what = format!("{streams} at once, a piece every {} ms", every.as_millis());
        rows.push(row(format!("{what}: the model directly"), &direct, "–".into()));
        rows.push(row(format!("{what}: passed on"), &passed, "–".into()));
        rows.push(row(format!("{what}: through the gateway"), &through, format!("{each:.0}")));
        rows.push(added("added by passing on", &direct, &passed, 0.0));
        rows.push(added("added by the gateway", &direct, &through, if every.as_secs_f64() * 1e3 < WINDOW_MS { WINDOW_MS } else { 0.0 }));
    }
    print(&["", "first piece p50, ms", "p99", "later pieces p50, ms", "p99", "CPU µs a piece"], &rows);
    println!(
        "\nGoal, added: p50 ≤ 0.2 ms, p99 ≤ 2 ms. Pieces that come faster than that are joined for up to {WINDOW_MS} ms, the first never:"
    );
    println!("that window stands apart. Answers begin when all have asked, evenly spread over a pause; {}.", parts.told());
}

/// The difference to the model directly, less the window in which pieces wait on purpose: its mean for the median, all of it at the end.
fn added(what: &str, direct: &Ages, through: &Ages, window: f64) -> Vec<String> {
    let less = |ours: &[f64], theirs: &[f64], share: f64, window: f64| {
        let apart = if window > 0.0 { format!(" + {window:.0} of window") } else { String::new() };
        format!("{:.2}{apart}", quantile(ours, share) - quantile(theirs, share) - window)
    };
    vec![
        what.to_owned(),
        less(&through.first, &direct.first, 0.5, 0.0),
        less(&through.first, &direct.first, 0.99, 0.0),
        less(&through.later, &direct.later, 0.5, window / 2.0),
        less(&through.later, &direct.later, 0.99, window),
        String::new(),
    ]
}

/// A message in a new session, and a reader of its events.
fn begin(product: &Server) -> std::net::TcpStream {
    let mut asked = request("POST", "/api/chat", product.token(), r#"{"content":"hello"}"#);
    // The answer is read from the events.
    let line_end = asked.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    asked.splice(line_end..line_end, *b"Prefer: respond-async\r\n");
    let accepted: serde_json::Value = serde_json::from_slice(&Connection::open(&product.address).exchange(&asked)).unwrap();
    let path = format!("/api/sessions/{}/events?until=done", accepted["session_id"].as_str().unwrap());
    let socket = Connection::open(&product.address).begin(&request("GET", &path, product.token(), ""), "200");
    socket.set_nonblocking(true).unwrap();
    socket
}

/// Asks over each of these connections and reads them to the end.
fn read_all<F: Future<Output = std::io::Result<TcpStream>> + 'static>(
    runtime: &tokio::runtime::Runtime,
    model: &Arc<Model>,
    ages: &mut Ages,
    connections: impl Iterator<Item = F>,
    ask: &[u8],
) {
    let local = tokio::task::LocalSet::new();
    let read = local.run_until(async {
        let readers: Vec<_> = connections
            .map(|connection| {
                let (model, ask) = (model.clone(), ask.to_vec());
                tokio::task::spawn_local(async move {
                    let mut socket = connection.await.unwrap();
                    socket.write_all(&ask).await.unwrap();
                    read(&model, socket).await
                })
            })
            .collect();
        model.speak().await;
        for reader in readers {
            let mut one = reader.await.unwrap().into_iter();
            ages.first.extend(one.next());
            ages.later.extend(one);
        }
    });
    runtime.block_on(read);
}

/// The ages of all pieces of one answer when they were read.
async fn read(model: &Model, socket: TcpStream) -> Vec<f64> {
    let mut lines = BufReader::new(socket).lines();
    let mut ages = Vec::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        // The terminal record repeats the text.
        if line.contains("\"kind\":\"done\"") || line.contains("[DONE]") {
            return ages;
        }
        ages.extend(model.ages(&line));
    }
    panic!("the stream ended after {} pieces", ages.len());
}
