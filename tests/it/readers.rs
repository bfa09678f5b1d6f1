//! Readers of one log: they never see another conversation, and a reader that reconnects misses and doubles nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::Dice;
use crate::support::client::Client;
use crate::support::scripted::{Do, Gate, Reply, Scripted};
use crate::support::server::Setup;
use crate::support::ws::Ws;

/// An answer of `count` numbered words, one every so often.
fn numbered(word: &str, count: usize, every: Duration, gate: &Gate) -> (Reply, String) {
    let pieces: Vec<String> = (0..count).map(|n| format!("{word}{n} ")).collect();
    let mut reply = Reply::new().wait(gate).then(Do::Pace(every));
    for piece in &pieces {
        reply = reply.say(piece);
    }
    (reply, pieces.concat())
}

fn text_of(records: &[Value]) -> String {
    records.iter().filter(|r| r["kind"] == "token").map(|r| r["text"].as_str().unwrap()).collect()
}

fn terminal(record: &Value) -> bool {
    ["done", "failed", "cancelled", "interrupted"].iter().any(|k| record["kind"] == *k)
}

#[tokio::test]
async fn two_conversations_at_once_never_see_each_other() {
    let model = Scripted::start();
    let gate = Gate::new();
    let (alpha, alpha_text) = numbered("alpha", 300, Duration::from_millis(1), &gate);
    let (beta, beta_text) = numbered("beta", 300, Duration::from_millis(1), &gate);
    model.on("say-alpha", alpha).on("say-beta", beta);
    let server = Setup::new().openai(&model).start();
    let client = server.client();
    let mut sockets = Vec::new();
    for (word, other, text) in [("alpha", "beta", alpha_text), ("beta", "alpha", beta_text)] {
        let mut socket = Ws::chat(&client).await;
        let accepted = socket.say(&format!("say-{word}"), None).await;
        let session = accepted["session_id"].as_str().unwrap().to_owned();
        let events = client.sse(&format!("/api/sessions/{session}/events?until=done")).await;
        let reading = tokio::spawn(async move {
            let frames = socket.until("done").await;
            let records = events.rest().await;
            for seen in frames.iter().chain(&records) {
                let seen = seen.to_string();
                assert!(!seen.contains(other), "{word} sees {seen}");
            }
            let by_socket: String = frames.iter().filter(|f| f["type"] == "token").map(|f| f["content"].as_str().unwrap()).collect();
            assert_eq!(by_socket, text);
            assert_eq!(text_of(&records), text);
        });
        sockets.push(reading);
    }
    gate.reached(2).await;
    gate.open_for_good();
    for reading in sockets {
        reading.await.unwrap();
    }
}

/// How a reader reads until it has had enough.
#[derive(Clone, Copy, Debug)]
enum By {
    Sse,
    Socket,
    Query,
}

/// Reads from behind `after` at most `most` records (all where there is no limit), by this way; says whether the end was seen.
async fn read(client: &Client, session: &str, by: By, after: u64, most: usize) -> (Vec<Value>, bool) {
    let mut records = Vec::new();
    match by {
        By::Sse | By::Query => {
            let mut events = match by {
                By::Sse => client.sse_after(&format!("/api/sessions/{session}/events"), &after.to_string()).await,
                _ => client.sse(&format!("/api/sessions/{session}/events?after={after}&until=idle")).await,
            };
            while records.len() < most {
                let Some(event) = events.next().await else { return (records, true) };
                let record = event.json();
                let end = terminal(&record);
                records.push(record);
                if end {
                    return (records, true);
                }
            }
        }
        By::Socket => {
            let mut socket = Ws::chat(client).await;
            socket.send(&json!({"type": "resume", "session_id": session, "after": after})).await;
            while records.len() < most {
                let frame = socket.json().await;
                // The same record in the socket's words.
                let kind = match frame["type"].as_str().unwrap() {
                    "done" => frame["outcome"].as_str().unwrap().to_owned(),
                    other => other.to_owned(),
                };
                let text = if frame["content"].is_string() { frame["content"].clone() } else { frame["text"].clone() };
                assert!(frame["seq"].is_u64(), "{frame}");
                let record = json!({"seq": frame["seq"], "kind": kind, "text": text});
                let end = terminal(&record);
                records.push(record);
                if end {
                    return (records, true);
                }
            }
        }
    }
    (records, false)
}

#[tokio::test]
async fn fifty_reconnects_by_event_stream_lose_and_double_nothing() {
    fifty_reconnects(By::Sse).await;
}

#[tokio::test]
async fn fifty_reconnects_by_socket_lose_and_double_nothing() {
    fifty_reconnects(By::Socket).await;
}

#[tokio::test]
async fn fifty_reconnects_by_query_lose_and_double_nothing() {
    fifty_reconnects(By::Query).await;
}

async fn fifty_reconnects(by: By) {
    let mut dice = Dice::new(&format!("reconnects {by:?}"));
    let model = Scripted::start();
    let last = Gate::new();
    // It goes on until the readers have had enough: while the run lives they get the records themselves.
    model.next(Reply::new().then(Do::Pace(Duration::from_millis(5))).then(Do::Count("word".into(), last.clone())));
    let server = Setup::new().openai(&model).env("OXIOS_SECURITY__RATE_LIMIT_PER_MINUTE", "0").start();
    let client = server.client();
    let mut socket = Ws::chat(&client).await;
    let session = socket.say("go", None).await["session_id"].as_str().unwrap().to_owned();
    let whole = client.sse(&format!("/api/sessions/{session}/events?after=0&until=done")).await;
    let whole = tokio::spawn(whole.rest());
    let (mut after, mut records, mut reconnects) = (0, Vec::<Value>::new(), 0);
    while reconnects < 50 {
        let most = 1 + dice.below(10) as usize;
        let (got, end) = read(&client, &session, by, after, most).await;
        assert!(!end, "the run is still alive: {got:?}");
        after = got.last().unwrap()["seq"].as_u64().unwrap();
        records.extend(got);
        reconnects += 1;
    }
    last.open();
    let (got, end) = read(&client, &session, by, after, usize::MAX).await;
    assert!(end, "{by:?}");
    let end_record = got.last().unwrap().clone();
    records.extend(got);
    let whole = whole.await.unwrap();

    // What one uninterrupted reader got.
    let all: BTreeMap<u64, &Value> = whole.iter().map(|r| (r["seq"].as_u64().unwrap(), r)).collect();
    let mut before = 0;
    for record in &records {
        let seq = record["seq"].as_u64().unwrap();
        assert!(seq > before, "{by:?}: in order and once: {seq} after {before}");
        before = seq;
        let twin = all.get(&seq).unwrap_or_else(|| panic!("{by:?}: {record} is in no log"));
        if !matches!(by, By::Socket) {
            assert_eq!(&record, twin);
        } else if record["kind"] == "token" || terminal(record) {
            assert_eq!(record["text"], twin["text"], "{by:?}");
        }
    }
    let text = text_of(&whole);
    assert_eq!(end_record["text"], text.as_str());
    let words = text.split_whitespace().count();
    let counted: String = (0..words).map(|n| format!("word{n} ")).collect();
    assert_eq!(text, counted, "every word once and in order");
    // Pieces may be gone once the run is over; until then none is missing.
    let joined = text_of(&records);
    assert!(text.starts_with(&joined), "{by:?}: a prefix without holes");
    let upto = records.iter().filter(|r| r["kind"] == "token").map(|r| r["seq"].as_u64().unwrap()).max().unwrap_or(0);
    let expected: String =
        whole.iter().filter(|r| r["kind"] == "token" && r["seq"].as_u64().unwrap() <= upto).map(|r| r["text"].as_str().unwrap()).collect();
    assert_eq!(joined, expected, "{by:?}");
    // After the end: the same with the pieces replaced by the terminal record.
    let stored = client.sse(&format!("/api/sessions/{session}/events?after=0&until=idle")).await.rest().await;
    let expected: Vec<Value> = whole.iter().filter(|r| r["kind"] != "token").cloned().collect();
    assert_eq!(stored, expected);
    for _ in 0..5 {
        // Who stands at the end already would wait for ever.
        let cursor = dice.below(before);
        let (got, _) = read(&client, &session, by, cursor, usize::MAX).await;
        assert_eq!(got.last().unwrap()["text"], text.as_str(), "{by:?} from {cursor}");
    }
}
