//! A model server in OpenAI's form that answers, dawdles, breaks off, refuses, babbles, calls tools and starts tasks, as the
//! dice fall. It repeats the mark of the message that it answers, and looks whether marks of another conversation came along.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::Dice;

/// The running server; it ends with the process.
pub struct Model {
    /// `host:port`.
    pub address: String,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    behaved: BTreeMap<&'static str, u64>,
    leaks: Vec<String>,
}

impl Model {
    /// Requests that held marks of more than one conversation.
    pub fn leaks(&self) -> Vec<String> {
        self.shared.lock().unwrap().leaks.clone()
    }
    /// How often it did what.
    pub fn counts(&self) -> Vec<(String, u64)> {
        self.shared.lock().unwrap().behaved.iter().map(|(what, times)| (format!("model: {what}"), *times)).collect()
    }
}

/// Starts it on a thread of its own.
pub fn start(seed: u64) -> Model {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let shared = Arc::new(Mutex::new(Shared::default()));
    let own = shared.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            for n in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                tokio::spawn(serve(stream, Dice::new(seed, 5000 + n), own.clone()));
            }
        });
    });
    Model { address, shared }
}

/// The marks in a text: `m-<conversation>-<number>`.
pub fn marks(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').filter(|word| word.starts_with("m-") && word.matches('-').count() == 2)
}

/// The conversation of a mark.
pub fn conversation(mark: &str) -> &str {
    mark.rsplit_once('-').map_or(mark, |(conversation, _)| conversation)
}

async fn serve(mut stream: TcpStream, mut dice: Dice, shared: Arc<Mutex<Shared>>) {
    let mut bytes = Vec::new();
    while let Some(body) = read(&mut stream, &mut bytes).await {
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let texts: Vec<&str> = body["messages"].as_array().into_iter().flatten().filter_map(|m| m["content"].as_str()).collect();
        let all = texts.join("\n");
        let mut all_marks = marks(&all);
        if let Some(first) = all_marks.next()
            && let Some(other) = all_marks.find(|mark| conversation(mark) != conversation(first))
        {
            shared.lock().unwrap().leaks.push(format!("the model was told {first} and {other} together"));
        }
        let mark = texts.iter().rev().find_map(|text| marks(text).last()).unwrap_or("m-none-0").to_owned();
        let (what, done) = answer(&mut stream, &mut dice, &body, &mark).await;
        *shared.lock().unwrap().behaved.entry(what).or_default() += 1;
        if done.is_none() {
            return;
        }
    }
}

/// `None` where the connection is over.
async fn answer(stream: &mut TcpStream, dice: &mut Dice, body: &Value, mark: &str) -> (&'static str, Option<()>) {
    let schema = &body["response_format"]["json_schema"]["schema"]["properties"];
    let tools: Vec<&str> = body["tools"].as_array().into_iter().flatten().filter_map(|t| t["function"]["name"].as_str()).collect();
    let after_tool = body["messages"].as_array().and_then(|m| m.last()).is_some_and(|m| m["role"] == "tool");
    let spoken = format!("echo {mark} and some more words to be streamed in pieces");
    let pieces: Vec<Value> = spoken.split_inclusive(' ').map(|word| json!({"content": word})).collect();
    if !schema["passed"].is_null() {
        let verdict = json!({"passed": dice.below(4) > 0, "score": 0.9, "notes": "", "criteria": []}).to_string();
        return ("judged", stream_pieces(stream, &[json!({"content": verdict})], "stop", 0).await);
    }
    if !schema["goal"].is_null() {
        let seed = json!({"goal": "g", "constraints": [], "acceptance_criteria": [], "ontology": [], "repair": "more"}).to_string();
        return ("wrote a specification", stream_pieces(stream, &[json!({"content": seed})], "stop", 0).await);
    }
    let call = |name: &str, arguments: Value| {
        vec![
            json!({"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": name, "arguments": arguments.to_string()}}]}),
        ]
    };
    let has = |name: &str| tools.contains(&name) && !after_tool;
    match dice.below(100) {
        0..=7 if has("start_task") => {
            let task = json!({"goal": format!("do {mark}"), "acceptance_criteria": ["a", "b"]});
            ("started a task", stream_pieces(stream, &call("start_task", task), "tool_calls", 0).await)
        }
        0..=30 if has("write_file") => {
            // Without the mark: other conversations of the same owner may read the file.
            let file = json!({"path": format!("notes-{}.md", dice.below(20)), "content": "notes"});
            ("wanted to write", stream_pieces(stream, &call("write_file", file), "tool_calls", 0).await)
        }
        31..=60 if has("split_task") => {
            let parts = json!({"parts": [{"goal": format!("one {mark}")}, {"goal": format!("two {mark}")}]});
            ("split a task", stream_pieces(stream, &call("split_task", parts), "tool_calls", 0).await)
        }
        61..=66 if has("list_files") => ("looked up", stream_pieces(stream, &call("list_files", json!({})), "tool_calls", 0).await),
        67..=74 => ("dawdled", stream_pieces(stream, &pieces, "stop", 30).await),
        75..=79 => {
            let _ = stream_head(stream).await;
            for piece in pieces.iter().take(3) {
                let _ = stream_piece(stream, piece).await;
            }
            ("broke off", None)
        }
        80..=82 => ("failed", plain(stream, "500 Internal Server Error", "").await),
        83..=84 => ("was busy", plain(stream, "429 Too Many Requests", "retry-after: 0\r\n").await),
        85..=86 => {
            let _ = stream_head(stream).await;
            let _ = chunk(stream, b"data: {\"choices\": nonsense\n\n\xff\xfe").await;
            ("babbled", None)
        }
        87..=88 => {
            let _ = stream_head(stream).await;
            let mut end = [0; 1];
            let _ = tokio::time::timeout(Duration::from_secs(30), stream.read(&mut end)).await;
            ("fell silent", None)
        }
        _ => ("answered", stream_pieces(stream, &pieces, "stop", 1).await),
    }
}

async fn stream_pieces(stream: &mut TcpStream, pieces: &[Value], finish: &str, pace_ms: u64) -> Option<()> {
    stream_head(stream).await?;
    for piece in pieces {
        stream_piece(stream, piece).await?;
        // The model's own speed.
        tokio::time::sleep(Duration::from_millis(pace_ms)).await;
    }
    let end = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]});
    chunk(stream, format!("data: {end}\n\ndata: [DONE]\n\n").as_bytes()).await?;
    stream.write_all(b"0\r\n\r\n").await.ok()
}

async fn stream_head(stream: &mut TcpStream) -> Option<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n").await.ok()
}

async fn stream_piece(stream: &mut TcpStream, delta: &Value) -> Option<()> {
    chunk(stream, format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": delta}]})).as_bytes()).await
}

async fn chunk(stream: &mut TcpStream, bytes: &[u8]) -> Option<()> {
    stream.write_all(format!("{:x}\r\n", bytes.len()).as_bytes()).await.ok()?;
    stream.write_all(bytes).await.ok()?;
    stream.write_all(b"\r\n").await.ok()
}

async fn plain(stream: &mut TcpStream, status: &str, headers: &str) -> Option<()> {
    stream.write_all(format!("HTTP/1.1 {status}\r\n{headers}content-length: 2\r\n\r\n{{}}").as_bytes()).await.ok()
}

/// One request's body; what follows it stays in `bytes`.
async fn read(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<Vec<u8>> {
    let mut part = [0; 16 * 1024];
    loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")?.trim().parse::<usize>().ok()).unwrap_or(0);
            if bytes.len() >= end + 4 + length {
                let body = bytes[end + 4..end + 4 + length].to_vec();
                bytes.drain(..end + 4 + length);
                return Some(body);
            }
        }
        match stream.read(&mut part).await {
            Ok(n @ 1..) => bytes.extend_from_slice(&part[..n]),
            _ => return None,
        }
    }
}
