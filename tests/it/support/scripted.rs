//! A model server that does what a test says, in the wire formats of OpenAI (`/v1/chat/completions`) and Anthropic
//! (`/v1/messages`): pieces behind gates, stalls, broken streams, error statuses, garbage, tool calls in pieces.
//! It runs on a thread of its own, so that a test may block.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::client::PATIENCE;
use super::sse::find;

/// Holds the model back until the test lets it go on, and tells the test that it got there.
#[derive(Clone)]
pub struct Gate(Arc<(watch::Sender<u64>, watch::Sender<u64>)>);

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self(Arc::new((watch::channel(0).0, watch::channel(0).0)))
    }
    /// It has been opened at least once.
    fn is_open(&self) -> bool {
        *self.0.0.borrow() > 0
    }
    /// Lets one more model through.
    pub fn open(&self) {
        self.0.0.send_modify(|n| *n += 1);
    }
    /// Lets all through from now on.
    pub fn open_for_good(&self) {
        self.0.0.send_modify(|n| *n = u64::MAX / 2);
    }
    /// Waits until a model has come to the gate for the `n`th time (everything before it was written to its socket).
    pub async fn reached(&self, n: u64) {
        let mut at = self.0.1.subscribe();
        let wait = at.wait_for(|count| *count >= n);
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("the model never came to the gate")).unwrap();
    }
    async fn pass(&self) {
        let mut turn = 0;
        self.0.1.send_modify(|n| {
            *n += 1;
            turn = *n;
        });
        let _ = self.0.0.subscribe().wait_for(|opened| *opened >= turn).await;
    }
}

/// One thing the model does.
#[derive(Clone)]
pub enum Do {
    /// A piece of text.
    Say(String),
    /// A tool call: id, name, and its arguments in these pieces.
    Call(String, String, Vec<String>),
    /// Waits for the test.
    Wait(Gate),
    /// A slow model: as much time between pieces. It stands for the model's own speed; nothing waits for it to pass.
    Pace(Duration),
    /// Says `word0 `, `word1 `, … until the gate is opened.
    Count(String, Gate),
    /// Says nothing more and keeps the connection.
    Stall,
    /// Ends the connection without the end of the stream.
    Break,
    /// These bytes as they are, in a chunk of their own.
    Raw(Vec<u8>),
    /// Another reason to finish than `stop` or `tool_calls`.
    Finish(&'static str),
}

/// The answer to one request.
#[derive(Clone)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Option<String>,
    /// What it does, in order.
    pub script: Vec<Do>,
}

impl Reply {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { status: 200, headers: Vec::new(), body: None, script: Vec::new() }
    }
    /// An answer in these pieces.
    pub fn text(pieces: &[&str]) -> Self {
        Self { script: pieces.iter().map(|p| Do::Say((*p).to_owned())).collect(), ..Self::new() }
    }
    /// An answer that is one JSON text (a structured one).
    pub fn json(value: &Value) -> Self {
        Self::text(&[&value.to_string()])
    }
    /// One tool call, its arguments in three pieces.
    pub fn tool(name: &str, arguments: &Value) -> Self {
        Self::new().call("call_1", name, arguments)
    }
    /// An error status with a body.
    pub fn status(status: u16, body: &str) -> Self {
        Self { status, body: Some(body.to_owned()), ..Self::new() }
    }
    /// One more response header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
    /// A further piece of text.
    pub fn say(mut self, piece: &str) -> Self {
        self.script.push(Do::Say(piece.to_owned()));
        self
    }
    /// A further tool call, its arguments in three pieces.
    pub fn call(mut self, id: &str, name: &str, arguments: &Value) -> Self {
        let text: Vec<char> = arguments.to_string().chars().collect();
        let pieces = text.chunks(text.len().div_ceil(3).max(1)).map(|c| c.iter().collect()).collect();
        self.script.push(Do::Call(id.to_owned(), name.to_owned(), pieces));
        self
    }
    /// Waits at a gate.
    pub fn wait(mut self, gate: &Gate) -> Self {
        self.script.push(Do::Wait(gate.clone()));
        self
    }
    /// Anything.
    pub fn then(mut self, what: Do) -> Self {
        self.script.push(what);
        self
    }
}

/// A request that reached the model.
#[derive(Clone)]
pub struct Seen {
    /// The path.
    pub path: String,
    /// Header names in lower case.
    pub headers: Vec<(String, String)>,
    /// The JSON body.
    pub body: Value,
    gone: watch::Sender<bool>,
}

impl Seen {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
    /// Everything that the model was told, as one text.
    pub fn told(&self) -> String {
        self.body.to_string()
    }
    /// Names of the tools offered, in either format.
    pub fn tools(&self) -> Vec<String> {
        let tools = self.body["tools"].as_array().cloned().unwrap_or_default();
        tools.iter().filter_map(|t| t["function"]["name"].as_str().or(t["name"].as_str()).map(str::to_owned)).collect()
    }
    /// The phase that asks, as far as tools and schema tell.
    pub fn phase(&self) -> &'static str {
        // Anthropic's way to a structured answer is the one tool that must be called.
        let forced = self.body["tool_choice"]["type"] == "tool";
        let wanted = if forced { &self.body["tools"][0]["input_schema"] } else { &self.body["response_format"]["json_schema"]["schema"] };
        let wanted = &wanted["properties"];
        let has = |name: &str| !wanted[name].is_null();
        let tools = self.tools();
        let offers = |name: &str| tools.iter().any(|t| t == name);
        match () {
            () if has("repair") => "evolve",
            () if has("passed") => "evaluate",
            () if has("ontology") => "seed",
            () if offers("start_task") => "interview",
            () if offers("write_file") => "execute",
            () => "plain",
        }
    }
    /// Waits until the product has closed the connection of this request before its answer was over.
    pub async fn cut(&self) {
        let mut gone = self.gone.subscribe();
        let wait = gone.wait_for(|gone| *gone);
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("the connection to the model stayed open")).unwrap();
    }
}

/// In front of a phase's name in a marker.
const PHASE: &str = "phase: ";

#[derive(Default)]
struct Scripts {
    queue: VecDeque<Reply>,
    marked: Vec<(String, VecDeque<Reply>)>,
    fallback: Option<Reply>,
    seen: Vec<Seen>,
    /// Requests for vectors, and the status that refuses them.
    vectors: Vec<Seen>,
    no_vectors: Option<u16>,
    unscripted: Vec<String>,
    /// What `GET …/models` lists, and how often it was asked.
    offered: Option<Vec<String>>,
    listed: usize,
}

/// The server. Ends with the test process.
pub struct Scripted {
    address: String,
    scripts: Arc<Mutex<Scripts>>,
    count: watch::Sender<usize>,
    stop: watch::Sender<bool>,
}

impl Scripted {
    /// Starts on a free port.
    pub fn start() -> Self {
        let scripts = Arc::new(Mutex::new(Scripts::default()));
        let count = watch::channel(0).0;
        let (shared, counter) = (scripts.clone(), count.clone());
        let (address, stop) = listen(move |stream| serve(stream, shared.clone(), counter.clone()));
        Self { address, scripts, count, stop }
    }
    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }
    /// The next request that no marker claims gets this answer.
    pub fn next(&self, reply: Reply) -> &Self {
        self.scripts.lock().unwrap().queue.push_back(reply);
        self
    }
    /// The next request of this phase gets this answer: `interview`, `seed`, `execute`, `evaluate`, `evolve`; told apart by
    /// the tools and the schema that go with a request, as a model would.
    pub fn phase(&self, phase: &str, reply: Reply) -> &Self {
        self.on(&format!("{PHASE}{phase}"), reply)
    }
    /// The next request that contains `marker` anywhere gets this answer.
    pub fn on(&self, marker: &str, reply: Reply) -> &Self {
        let mut scripts = self.scripts.lock().unwrap();
        match scripts.marked.iter_mut().find(|(m, _)| m == marker) {
            Some((_, replies)) => replies.push_back(reply),
            None => scripts.marked.push((marker.to_owned(), VecDeque::from([reply]))),
        }
        self
    }
    /// Every request that nothing else answers gets this answer.
    pub fn always(&self, reply: Reply) -> &Self {
        self.scripts.lock().unwrap().fallback = Some(reply);
        self
    }
    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.scripts.lock().unwrap().seen.clone()
    }
    /// The `n`th request (from 1), as soon as it is there.
    pub async fn request(&self, n: usize) -> Seen {
        let mut count = self.count.subscribe();
        let wait = count.wait_for(|count| *count >= n);
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("request {n} never reached the model")).unwrap();
        self.seen()[n - 1].clone()
    }
    /// Requests to `/embeddings` are refused with this status from now on, or answered again.
    pub fn refuse_vectors(&self, status: Option<u16>) {
        self.scripts.lock().unwrap().no_vectors = status;
    }
    /// Lists these models from now on; such requests are not among the others.
    pub fn offer(&self, models: &[&str]) -> &Self {
        self.scripts.lock().unwrap().offered = Some(models.iter().map(|id| (*id).to_owned()).collect());
        self
    }
    /// How often it has listed them.
    pub fn listed(&self) -> usize {
        self.scripts.lock().unwrap().listed
    }
    /// All requests to `/embeddings` so far; they are not among the others.
    pub fn vectors(&self) -> Vec<Seen> {
        self.scripts.lock().unwrap().vectors.clone()
    }
    /// Ends the server; its port refuses connections from now on.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        let scripts = self.scripts.lock().unwrap();
        if !std::thread::panicking() {
            assert!(scripts.unscripted.is_empty(), "the model was asked what the test did not foresee: {:#?}", scripts.unscripted);
            let left = scripts.queue.len() + scripts.marked.iter().map(|(_, q)| q.len()).sum::<usize>();
            assert_eq!(left, 0, "{left} scripted answers were never asked for");
        } else {
            for (n, seen) in scripts.seen.iter().enumerate() {
                let told: String = seen.told().chars().take(2000).collect();
                eprintln!("--- request {} to the model: {} {told}", n + 1, seen.path);
            }
        }
    }
}

/// Serves every connection to a free port, on a thread of its own; gives `host:port` and what stops it.
pub(super) fn listen<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> (String, watch::Sender<bool>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (stop, mut stopped) = watch::channel(false);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let (stream, _) = accepted.unwrap();
                        stream.set_nodelay(true).unwrap();
                        tokio::spawn(serve(stream));
                    }
                    _ = stopped.wait_for(|stop| *stop) => break,
                }
            }
        });
    });
    (address, stop)
}

async fn serve(mut stream: TcpStream, scripts: Arc<Mutex<Scripts>>, count: watch::Sender<usize>) {
    let mut bytes = Vec::new();
    loop {
        let Some((_, path, headers, body)) = read_request(&mut stream, &mut bytes).await else { return };
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let seen = Seen { path: path.clone(), headers, body: body.clone(), gone: watch::channel(false).0 };
        if path.ends_with("/embeddings") {
            let refused = {
                let mut scripts = scripts.lock().unwrap();
                scripts.vectors.push(seen);
                scripts.no_vectors
            };
            let text = if refused.is_some() { "{}".to_owned() } else { vectors(&body) };
            let status = refused.unwrap_or(200);
            let head = format!("HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", text.len());
            if stream.write_all((head + &text).as_bytes()).await.is_err() {
                return;
            }
            continue;
        }
        let offered = {
            let mut scripts = scripts.lock().unwrap();
            let offered = scripts.offered.clone().filter(|_| path.ends_with("/models"));
            scripts.listed += usize::from(offered.is_some());
            offered
        };
        if let Some(models) = offered {
            let models: Vec<Value> = models.iter().map(|id| json!({"id": id, "object": "model"})).collect();
            let text = json!({"object": "list", "data": models}).to_string();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", text.len());
            if stream.write_all((head + &text).as_bytes()).await.is_err() {
                return;
            }
            continue;
        }
        let gone = seen.gone.clone();
        let reply = pick(&scripts, seen);
        count.send_modify(|n| *n += 1);
        let anthropic = path.ends_with("/messages");
        let streamed = body["stream"] == true;
        let play = answer(&mut stream, reply, &body, anthropic, streamed, &gone);
        if !play.await {
            return;
        }
    }
}

/// Texts that speak of one thing get like vectors, whatever words they use.
fn vectors(body: &Value) -> String {
    const THINGS: [&[&str]; 4] = [&["router", "wlan", "internet"], &["cat", "pet", "miez"], &["tea", "drink"], &["boat", "sail"]];
    let vector = |text: &Value| {
        let text = text.as_str().unwrap().to_lowercase();
        let of = |words: &[&str]| words.iter().filter(|word| text.contains(**word)).count() as f64;
        THINGS.iter().map(|words| of(words)).chain([0.01]).collect::<Vec<_>>()
    };
    let data: Vec<Value> =
        body["input"].as_array().unwrap().iter().enumerate().map(|(n, text)| json!({"index": n, "embedding": vector(text)})).collect();
    json!({"object": "list", "data": data, "model": body["model"]}).to_string()
}

fn pick(scripts: &Mutex<Scripts>, seen: Seen) -> Reply {
    let mut scripts = scripts.lock().unwrap();
    let told = seen.told();
    let phase = seen.phase();
    scripts.seen.push(seen);
    let claims = |marker: &str| marker.strip_prefix(PHASE).map_or_else(|| told.contains(marker), |wanted| wanted == phase);
    let marked = scripts.marked.iter_mut().find(|(marker, replies)| !replies.is_empty() && claims(marker));
    if let Some(reply) = marked.and_then(|(_, replies)| replies.pop_front()) {
        return reply;
    }
    if let Some(reply) = scripts.queue.pop_front() {
        return reply;
    }
    if let Some(reply) = &scripts.fallback {
        return reply.clone();
    }
    scripts.unscripted.push(format!("{phase}: {}", told.chars().take(2000).collect::<String>()));
    Reply::status(400, r#"{"error":{"message":"unscripted"}}"#)
}

/// Plays one reply; says whether the connection goes on.
async fn answer(stream: &mut TcpStream, reply: Reply, body: &Value, anthropic: bool, streamed: bool, gone: &watch::Sender<bool>) -> bool {
    let mut extra = String::new();
    for (name, value) in &reply.headers {
        extra += &format!("{name}: {value}\r\n");
    }
    if let Some(text) = &reply.body {
        let head =
            format!("HTTP/1.1 {} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{extra}\r\n", reply.status, text.len());
        return stream.write_all((head + text).as_bytes()).await.is_ok();
    }
    let mut wire = if anthropic { Wire::Anthropic(Anthropic::default()) } else { Wire::OpenAi(OpenAi::new(body)) };
    if !streamed {
        // Gates hold for whole answers too.
        for step in &reply.script {
            let goes_on = match step {
                Do::Wait(gate) => hold(stream, gate.pass(), gone).await.is_some(),
                Do::Stall => hold(stream, std::future::pending::<bool>(), gone).await.unwrap_or(false),
                Do::Break => false,
                _ => true,
            };
            if !goes_on {
                return false;
            }
        }
        let text = wire.whole(&reply.script);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{extra}\r\n", text.len());
        return stream.write_all((head + &text).as_bytes()).await.is_ok();
    }
    let head = format!("HTTP/1.1 {} OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n{extra}\r\n", reply.status);
    if stream.write_all(head.as_bytes()).await.is_err() || !chunk(stream, &wire.begin(), gone).await {
        return false;
    }
    let (mut pace, mut finish) = (None, None);
    for step in &reply.script {
        let out = match step {
            Do::Say(text) => vec![wire.text(text)],
            Do::Call(id, name, pieces) => wire.call(id, name, pieces),
            Do::Raw(bytes) => vec![String::from_utf8_lossy(bytes).into_owned()],
            Do::Wait(gate) => {
                if hold(stream, gate.pass(), gone).await.is_none() {
                    return false;
                }
                continue;
            }
            Do::Pace(time) => {
                let mut interval = tokio::time::interval(*time);
                interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                pace = Some(interval);
                continue;
            }
            Do::Count(word, gate) => {
                let mut n = 0;
                while !gate.is_open() {
                    let tick = async {
                        match &mut pace {
                            Some(pace) => drop(pace.tick().await),
                            None => tokio::task::yield_now().await,
                        }
                    };
                    if hold(stream, tick, gone).await.is_none() || !chunk(stream, &wire.text(&format!("{word}{n} ")), gone).await {
                        return false;
                    }
                    n += 1;
                }
                continue;
            }
            Do::Stall => {
                hold(stream, std::future::pending::<()>(), gone).await;
                return false;
            }
            Do::Break => return false,
            Do::Finish(reason) => {
                finish = Some(*reason);
                continue;
            }
        };
        for piece in out {
            if let Some(pace) = &mut pace {
                let tick = async {
                    pace.tick().await;
                };
                if hold(stream, tick, gone).await.is_none() {
                    return false;
                }
            }
            if !chunk(stream, &piece, gone).await {
                return false;
            }
        }
    }
    let end = wire.end(finish);
    chunk(stream, &end, gone).await && stream.write_all(b"0\r\n\r\n").await.is_ok()
}

/// Waits for `until` unless the product closes the connection first.
async fn hold<T>(stream: &mut TcpStream, until: impl Future<Output = T>, gone: &watch::Sender<bool>) -> Option<T> {
    let mut byte = [0; 1];
    tokio::select! {
        value = until => Some(value),
        // The product sends nothing while it waits for the answer, so anything readable is the end.
        _ = stream.read(&mut byte) => {
            gone.send_replace(true);
            None
        }
    }
}

async fn chunk(stream: &mut TcpStream, text: &str, gone: &watch::Sender<bool>) -> bool {
    if text.is_empty() {
        return true;
    }
    let framed = format!("{:x}\r\n{text}\r\n", text.len());
    let written = stream.write_all(framed.as_bytes()).await.is_ok();
    if !written {
        gone.send_replace(true);
    }
    written
}

/// The next request of a connection: method, path, headers with names in lower case, body. None at its end.
pub(super) async fn read_request(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<(String, String, Vec<(String, String)>, Vec<u8>)> {
    let mut buffer = [0; 16 * 1024];
    let end = loop {
        if let Some(end) = find(bytes, b"\r\n\r\n") {
            break end;
        }
        match stream.read(&mut buffer).await {
            Ok(read @ 1..) => bytes.extend_from_slice(&buffer[..read]),
            _ => return None,
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let headers: Vec<(String, String)> =
        lines.filter_map(|l| l.split_once(':')).map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned())).collect();
    let length: usize = headers.iter().find(|(n, _)| n == "content-length").map_or(0, |(_, v)| v.parse().unwrap());
    assert!(!headers.iter().any(|(n, _)| n == "transfer-encoding"), "requests have a length");
    while bytes.len() < end + 4 + length {
        match stream.read(&mut buffer).await {
            Ok(read @ 1..) => bytes.extend_from_slice(&buffer[..read]),
            _ => return None,
        }
    }
    let body = bytes[end + 4..end + 4 + length].to_vec();
    bytes.drain(..end + 4 + length);
    Some((method, path, headers, body))
}

enum Wire {
    OpenAi(OpenAi),
    Anthropic(Anthropic),
}

impl Wire {
    fn begin(&mut self) -> String {
        match self {
            Self::OpenAi(w) => w.delta(json!({"role": "assistant", "content": null}), None),
            Self::Anthropic(_) => Anthropic::event(
                "message_start",
                json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant",
                "model": "scripted", "content": [], "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": 11, "output_tokens": 1}}}),
            ),
        }
    }
    fn text(&mut self, text: &str) -> String {
        match self {
            Self::OpenAi(w) => w.delta(json!({"content": text}), None),
            Self::Anthropic(w) => w.text(text),
        }
    }
    fn call(&mut self, id: &str, name: &str, pieces: &[String]) -> Vec<String> {
        match self {
            Self::OpenAi(w) => w.call(id, name, pieces),
            Self::Anthropic(w) => w.call(id, name, pieces),
        }
    }
    fn end(&mut self, finish: Option<&'static str>) -> String {
        match self {
            Self::OpenAi(w) => w.end(finish),
            Self::Anthropic(w) => w.end(finish),
        }
    }
    fn whole(&mut self, script: &[Do]) -> String {
        let text: String = script.iter().filter_map(|s| if let Do::Say(t) = s { Some(t.as_str()) } else { None }).collect();
        let calls: Vec<_> =
            script.iter().filter_map(|s| if let Do::Call(id, n, a) = s { Some((id, n, a.concat())) } else { None }).collect();
        let raw: String = script.iter().filter_map(|s| if let Do::Raw(b) = s { Some(String::from_utf8_lossy(b)) } else { None }).collect();
        if !raw.is_empty() {
            return raw;
        }
        match self {
            Self::OpenAi(_) => {
                let mut message = json!({"role": "assistant", "content": text});
                if !calls.is_empty() {
                    let calls: Vec<Value> = calls
                        .iter()
                        .map(|(id, n, a)| json!({"id": id, "type": "function", "function": {"name": n, "arguments": a}}))
                        .collect();
                    message["tool_calls"] = calls.into();
                }
                let reason = if calls.is_empty() { "stop" } else { "tool_calls" };
                json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "scripted",
                    "choices": [{"index": 0, "message": message, "finish_reason": reason}],
                    "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}})
                .to_string()
            }
            Self::Anthropic(_) => {
                let mut content = Vec::new();
                if !text.is_empty() {
                    content.push(json!({"type": "text", "text": text}));
                }
                for (id, name, arguments) in &calls {
                    let input: Value = serde_json::from_str(arguments).unwrap();
                    content.push(json!({"type": "tool_use", "id": id, "name": name, "input": input}));
                }
                let reason = if calls.is_empty() { "end_turn" } else { "tool_use" };
                json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "scripted", "content": content,
                    "stop_reason": reason, "usage": {"input_tokens": 11, "output_tokens": 7}})
                .to_string()
            }
        }
    }
}

struct OpenAi {
    calls: usize,
    usage: bool,
}

impl OpenAi {
    fn new(body: &Value) -> Self {
        Self { calls: 0, usage: body["stream_options"]["include_usage"] == true }
    }
    fn delta(&self, delta: Value, finish: Option<&str>) -> String {
        let chunk = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "scripted",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]});
        format!("data: {chunk}\n\n")
    }
    fn call(&mut self, id: &str, name: &str, pieces: &[String]) -> Vec<String> {
        let index = self.calls;
        self.calls += 1;
        let first = json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": ""}}]});
        let mut out = vec![self.delta(first, None)];
        out.extend(pieces.iter().map(|p| self.delta(json!({"tool_calls": [{"index": index, "function": {"arguments": p}}]}), None)));
        out
    }
    fn end(&self, finish: Option<&'static str>) -> String {
        let mut out = self.delta(json!({}), Some(finish.unwrap_or(if self.calls > 0 { "tool_calls" } else { "stop" })));
        if self.usage {
            let usage = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "scripted", "choices": [],
                "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}});
            out += &format!("data: {usage}\n\n");
        }
        out + "data: [DONE]\n\n"
    }
}

#[derive(Default)]
struct Anthropic {
    /// Index of the open block and whether it is text.
    open: Option<bool>,
    next: usize,
    calls: usize,
}

impl Anthropic {
    fn event(name: &str, data: Value) -> String {
        format!("event: {name}\ndata: {data}\n\n")
    }
    fn close(&mut self) -> String {
        match self.open.take() {
            Some(_) => Self::event("content_block_stop", json!({"type": "content_block_stop", "index": self.next - 1})),
            None => String::new(),
        }
    }
    fn text(&mut self, text: &str) -> String {
        let mut out = String::new();
        if self.open != Some(true) {
            out += &self.close();
            let start = json!({"type": "content_block_start", "index": self.next, "content_block": {"type": "text", "text": ""}});
            out += &Self::event("content_block_start", start);
            self.open = Some(true);
            self.next += 1;
        }
        let delta = json!({"type": "content_block_delta", "index": self.next - 1, "delta": {"type": "text_delta", "text": text}});
        out + &Self::event("content_block_delta", delta)
    }
    fn call(&mut self, id: &str, name: &str, pieces: &[String]) -> Vec<String> {
        self.calls += 1;
        let block = json!({"type": "content_block_start", "index": self.next, "content_block": {"type": "tool_use", "id": id, "name": name, "input": {}}});
        let mut out = vec![self.close() + &Self::event("content_block_start", block)];
        self.open = Some(false);
        self.next += 1;
        let index = self.next - 1;
        out.extend(pieces.iter().map(|p| {
            let delta = json!({"type": "content_block_delta", "index": index, "delta": {"type": "input_json_delta", "partial_json": p}});
            Self::event("content_block_delta", delta)
        }));
        out
    }
    fn end(&mut self, finish: Option<&'static str>) -> String {
        let reason = finish.unwrap_or(if self.calls > 0 { "tool_use" } else { "end_turn" });
        let delta =
            json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": null}, "usage": {"output_tokens": 7}});
        self.close() + &Self::event("message_delta", delta) + &Self::event("message_stop", json!({"type": "message_stop"}))
    }
}
