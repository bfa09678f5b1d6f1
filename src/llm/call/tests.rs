//! A call of the model over a real socket: retries, fallbacks, limits and what ends it.

use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::base::cancel::{self, Canceller, Why};
use crate::base::random::SystemRandom;
use crate::base::time::ManualClock;
use crate::http::client::{Client, ClientSettings};
use crate::llm::engine::{Engine, Settings};
use crate::llm::request::{Message, Schema, ToolSpec, Usage};

/// A model server that gives each connection the next scripted answer, and remembers what it was asked.
struct Server {
    listener: TcpListener,
    asked: Mutex<Vec<String>>,
}

impl Server {
    async fn new() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap(), asked: Mutex::default() }
    }
    fn url(&self) -> String {
        format!("http://{}/v1", self.listener.local_addr().unwrap())
    }
    /// Answers one connection after another; the streams are returned open.
    async fn serve(&self, answers: Vec<String>) -> Vec<TcpStream> {
        let mut open = Vec::new();
        for answer in answers {
            let (mut stream, _) = self.listener.accept().await.unwrap();
            let asked = read_request(&mut stream).await;
            self.asked.lock().unwrap().push(asked);
            stream.write_all(answer.as_bytes()).await.unwrap();
            // `Content-Length` answers are over; streams are held open by the caller until it drops them.
            open.push(stream);
        }
        open
    }
    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let n = stream.read(&mut buffer).await.unwrap();
        all.extend_from_slice(&buffer[..n]);
        let text = String::from_utf8_lossy(&all).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.to_lowercase().lines().find_map(|l| l.strip_prefix("content-length: ").map(|n| n.parse::<usize>().unwrap()));
        if body.len() >= length.unwrap_or(0) {
            return text;
        }
    }
}

fn status(status: u16, extra: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\n{extra}Content-Length: {}\r\n\r\n{body}", body.len())
}
fn stream(events: &[&str]) -> String {
    let body: String = events.iter().map(|e| format!("data: {e}\n\n")).collect();
    status(200, "Content-Type: text/event-stream\r\n", &body)
}
fn piece(text: &str) -> String {
    format!(r#"{{"choices":[{{"delta":{{"content":"{text}"}}}}]}}"#)
}
const STOP: &str = r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
fn good(text: &str) -> String {
    stream(&[&piece(text), STOP, "[DONE]"])
}

fn settings(url: &str) -> Settings {
    Settings {
        default_model: "openai/m".into(),
        base_url: url.into(),
        api_key: crate::base::secret::Secret::new("key"),
        retry_pause: Duration::from_millis(2),
        ..Settings::default()
    }
}
fn engine(settings: Settings) -> Engine {
    let client = Client::new(ClientSettings::default());
    Engine::new(settings, client, Arc::new(ManualClock::default()), Arc::new(SystemRandom::new())).unwrap()
}
fn ask() -> Request {
    Request { messages: vec![Message::User { text: "PROMPT".into() }], ..Request::default() }
}
fn call(settings: Settings, request: Request) -> (Call, Canceller) {
    let (canceller, cancel) = cancel::pair();
    (engine(settings).call(request, &cancel), canceller)
}
async fn all(call: &mut Call) -> Result<Vec<Event>, (Vec<Event>, LlmError)> {
    let mut events = Vec::new();
    loop {
        match call.next().await {
            Ok(Some(event)) => events.push(event),
            Ok(None) => return Ok(events),
            Err(e) => {
                assert!(!format!("{e:?}").contains("PROMPT"), "{e:?}");
                assert!(call.next().await.unwrap().is_none(), "after an error only None follows");
                return Err((events, e));
            }
        }
    }
}
fn text(t: &str) -> Event {
    Event::Text(t.into())
}
fn said(t: &str) -> Vec<Event> {
    vec![text(t), Event::Finish(Finish::Stop)]
}

#[tokio::test]
async fn passing_failures_are_tried_again_at_most_twice() {
    let server = Server::new().await;
    let (busy, limited, fine) = (status(503, "", ""), status(429, "Retry-After: 0\r\n", ""), good("Hi"));
    let (mut call, _c) = call(settings(&server.url()), ask());
    let (_open, events) = tokio::join!(server.serve(vec![busy.clone(), limited.clone(), fine.clone()]), all(&mut call));
    assert_eq!(events.unwrap(), said("Hi"));
    assert_eq!(call.model(), "openai/m");
    let asked = server.asked();
    assert_eq!(asked.len(), 3);
    assert!(asked[0].starts_with("POST /v1/chat/completions HTTP/1.1") && asked[0].to_lowercase().contains("authorization: bearer key"));

    let (mut call, _c) = self::call(settings(&server.url()), ask());
    let (_open, events) = tokio::join!(server.serve(vec![busy.clone(), busy.clone(), busy.clone()]), all(&mut call));
    assert_eq!(events.err().unwrap().1.kind, Kind::Server);
}

#[tokio::test]
async fn refusals_are_final_and_a_long_wait_is_not_waited_for() {
    let server = Server::new().await;
    for (answer, kind) in [
        (status(401, "", r#"{"error":{"message":"PROMPT"}}"#), Kind::Refused),
        (status(404, "", r#"{"error":{"message":"model 'm' not found PROMPT"}}"#), Kind::NotFound("openai/m".into())),
        (status(400, "", "PROMPT"), Kind::BadRequest),
        (status(429, "Retry-After: 3600\r\n", ""), Kind::RateLimited),
        (status(429, "Retry-After: Thu, 01 Jan 1970 01:00:00 GMT\r\n", ""), Kind::RateLimited),
        (stream(&["PROMPT {"]), Kind::Garbage),
    ] {
        let (mut call, _c) = call(settings(&server.url()), ask());
        let (_open, events) = tokio::join!(server.serve(vec![answer.clone()]), all(&mut call));
        let (events, e) = events.err().unwrap();
        assert_eq!((events.len(), &e.kind), (0, &kind));
        assert!(kind != Kind::RateLimited || e.public.contains("wait 3600 s"), "{}", e.public);
    }
}

#[tokio::test]
async fn fallbacks_answer_in_turn_and_the_first_error_is_reported() {
    let (first, second) = (Server::new().await, Server::new().await);
    let settings = Settings {
        fallback_models: vec!["anthropic/c".into(), "offline".into()],
        anthropic: crate::llm::engine::Access { base_url: second.url(), api_key: crate::base::secret::Secret::new("other") },
        ..settings(&first.url())
    };
    let refused = status(401, "", "");
    let answer = stream(&[
        r#"{"type":"content_block_delta","delta":{"text":"Ho"}}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#,
        r#"{"type":"message_stop"}"#,
    ]);
    let (mut call, _c) = call(settings.clone(), ask());
    let (_open, _open2, events) = tokio::join!(first.serve(vec![refused.clone()]), second.serve(vec![answer.clone()]), all(&mut call));
    assert_eq!(events.unwrap(), said("Ho"));
    assert_eq!(call.model(), "anthropic/c");
    let asked = second.asked()[0].to_lowercase();
    assert!(
        asked.starts_with("post /v1/messages http/1.1")
            && asked.contains("x-api-key: other")
            && asked.contains("anthropic-version: 2023-06-01")
    );

    let (mut call, _c) = self::call(settings.clone(), ask());
    let (_open, _open2, events) = tokio::join!(first.serve(vec![refused.clone()]), second.serve(vec![refused.clone()]), all(&mut call));
    assert!(events.unwrap().len() > 1, "offline always answers");
    assert_eq!(call.model(), "offline");

    let settings = Settings { fallback_models: vec!["anthropic/c".into()], ..settings };
    let (mut call, _c) = self::call(settings, ask());
    let (_open, _open2, events) = tokio::join!(first.serve(vec![refused.clone()]), second.serve(vec![status(500, "", "")]), all(&mut call));
    let e = events.err().unwrap().1;
    assert!(e.kind == Kind::Refused && e.public.contains("openai/m") && e.public.contains("fallback"), "{e:?}");
}

#[tokio::test]
async fn a_stream_that_breaks_keeps_what_was_seen_and_is_not_tried_again() {
    let server = Server::new().await;
    let (mut call, _c) = call(settings(&server.url()), ask());
    let cut = stream(&[&piece("Hi")]);
    let (_open, events) = tokio::join!(server.serve(vec![cut.clone()]), all(&mut call));
    let (events, e) = events.err().unwrap();
    assert_eq!((events, e.kind), (vec![text("Hi")], Kind::Broken));
    // Before the first visible event it is.
    let (mut call, _c) = self::call(settings(&server.url()), ask());
    let (_open, events) = tokio::join!(server.serve(vec![stream(&[]), good("Ho")]), all(&mut call));
    assert_eq!(events.unwrap(), said("Ho"));
    // A text and garbage in one piece: the text first.
    let (mut call, _c) = self::call(settings(&server.url()), ask());
    let (_open, events) = tokio::join!(server.serve(vec![stream(&[&piece("Hi"), "nonsense"])]), all(&mut call));
    let (events, e) = events.err().unwrap();
    assert_eq!((events, e.kind), (vec![text("Hi")], Kind::Garbage));
}

#[tokio::test]
async fn silence_is_a_stall_also_for_a_reader_that_asks_often() {
    let server = Server::new().await;
    let short = Duration::from_millis(40);
    let (mut call, _c) = call(Settings { between: short, ..settings(&server.url()) }, ask());
    let head = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\ndata: {:<57}\n\r\n", "");
    let reader = async {
        loop {
            if let Ok(end) = tokio::time::timeout(Duration::from_millis(1), call.next()).await {
                break end;
            }
        }
    };
    let (_open, end) = tokio::join!(server.serve(vec![head.clone()]), reader);
    assert_eq!(end.err().unwrap().kind, Kind::Stalled);
    let (mut call, _c) = self::call(Settings { first_byte: short, ..settings(&server.url()) }, ask());
    let (_open, end) = tokio::join!(server.serve(vec!["".to_owned()]), call.next());
    assert_eq!(end.err().unwrap().kind, Kind::Stalled);
}

#[tokio::test]
async fn cancel_closes_the_connection_at_once() {
    let server = Server::new().await;
    let (mut call, canceller) = call(settings(&server.url()), ask());
    let half = stream(&[&piece("Hi"), &piece("more")]).replace("Content-Length: ", "Content-Length: 9");
    let (mut open, first) = tokio::join!(server.serve(vec![half.clone()]), call.next());
    assert_eq!(first.unwrap(), Some(text("Hi")));
    canceller.cancel(Why::Asked);
    assert_eq!(call.next().await.err().unwrap().kind, Kind::Cancelled(Why::Asked));
    assert_eq!(open[0].read(&mut [0; 8]).await.unwrap_or(0), 0, "the server sees the end while the call still exists");
    assert!(call.next().await.unwrap().is_none());
}

#[tokio::test]
async fn fields_that_a_server_refuses_are_left_out_and_that_is_remembered() {
    let server = Server::new().await;
    let (canceller, cancel) = cancel::pair();
    let engine = engine(settings(&server.url()));
    let request = Request {
        schema: Some(Schema { name: "s".into(), schema: serde_json::json!({"type": "object"}) }),
        tools: vec![ToolSpec { name: "t".into(), description: String::new(), parameters: serde_json::json!({}) }],
        ..ask()
    };
    let (no_schema, no_tools) = (status(400, "", "what?"), status(500, "", "tools param requires --jinja flag"));
    let (mut first, mut second) = (engine.call(request.clone(), &cancel), engine.call(request, &cancel));
    let answers = vec![no_tools, no_schema, good("a"), good("b")];
    let calls = async { (all(&mut first).await, all(&mut second).await) };
    let (_open, events) = tokio::join!(server.serve(answers), calls);
    assert_eq!((events.0.unwrap(), events.1.unwrap()), (said("a"), said("b")));
    let asked = server.asked();
    let has = |word: &str| asked.iter().map(|a| a.contains(word)).collect::<Vec<_>>();
    assert_eq!((has("\"tools\""), has("response_format")), (vec![true, false, false, false], vec![true, true, false, false]));
    drop(canceller);
}

#[tokio::test]
async fn a_tool_call_that_the_server_cannot_read_is_asked_for_again_without_tools() {
    let server = Server::new().await;
    let tool = ToolSpec { name: "t".into(), description: String::new(), parameters: serde_json::json!({}) };
    let (mut call, _c) = call(settings(&server.url()), Request { tools: vec![tool], ..ask() });
    let unread = stream(&[
        &piece("<tool_call>"),
        r#"{"error":{"code":500,"message":"The model produced output that does not match the expected peg-native format"}}"#,
    ]);
    let (_open, events) = tokio::join!(server.serve(vec![unread, good("Hi")]), all(&mut call));
    assert_eq!(events.unwrap(), said("Hi"));
    assert!(server.asked()[0].contains("\"tools\"") && !server.asked()[1].contains("\"tools\""));
    // After visible text there is no other try: what was said is the answer.
    let error = r#"{"error":{"code":500,"message":"The model produced output that does not match the expected peg-native format"}}"#;
    let (mut call, _c) = self::call(settings(&server.url()), ask());
    let (_open, events) = tokio::join!(server.serve(vec![stream(&[&piece("Well,"), error])]), all(&mut call));
    assert_eq!(events.unwrap(), said("Well,"));
}

#[tokio::test]
async fn auto_takes_the_first_model_of_the_list_and_a_probe_asks_for_real() {
    let server = Server::new().await;
    let list = status(200, "", r#"{"object":"list","data":[{"id":"llama"},{"id":"other"}]}"#);
    let auto = Settings { default_model: "openai/auto".into(), ..settings(&server.url()) };
    let (mut call, _c) = call(auto, ask());
    let (_open, events) = tokio::join!(server.serve(vec![list.clone(), good("Hi")]), all(&mut call));
    assert_eq!(events.unwrap(), said("Hi"));
    assert_eq!(call.model(), "openai/llama");
    let asked = server.asked();
    assert!(asked[0].starts_with("GET /v1/models HTTP/1.1") && asked[1].contains(r#""model":"llama""#));

    let (_canceller, cancel) = cancel::pair();
    let engine = engine(Settings { default_model: "openai/other".into(), ..settings(&server.url()) });
    let (_open, probe) = tokio::join!(server.serve(vec![list.clone(), good("x")]), engine.probe(&cancel));
    let probe = probe.unwrap();
    assert!(probe.listed && probe.answered && probe.models == ["llama", "other"] && probe.address.starts_with("http://127.0.0.1:"));

    let engine = self::engine(settings(&server.url()));
    let (_open, probe) = tokio::join!(server.serve(vec![list.clone(), good("x")]), engine.probe(&cancel));
    assert!(matches!(probe.unwrap(), crate::llm::Probe { listed: false, answered: true, .. }), "a server may know more than it lists");
    let (_open, probe) = tokio::join!(server.serve(vec![status(404, "", ""), status(401, "", "")]), engine.probe(&cancel));
    assert_eq!(probe.err().unwrap().kind, Kind::Refused);
}

#[tokio::test]
async fn an_answer_is_cut_at_the_cap() {
    let server = Server::new().await;
    let big = piece(&"ü".repeat(100_000));
    let answer = stream(&[big.as_str(); 8]);
    let (mut call, _c) = call(settings(&server.url()), ask());
    // The server may see the connection close before it has written all.
    let serve = async {
        let (mut stream, _) = server.listener.accept().await.unwrap();
        read_request(&mut stream).await;
        let _ = stream.write_all(answer.as_bytes()).await;
    };
    let ((), events) = tokio::join!(serve, all(&mut call));
    let events = events.unwrap();
    let bytes: usize = events.iter().map(|e| if let Event::Text(t) = e { t.len() } else { 0 }).sum();
    assert_eq!((bytes, events.last()), (ANSWER_BYTES_MAX, Some(&Event::Finish(Finish::Length))));
}

#[tokio::test]
async fn usage_and_plain_json_reach_the_caller() {
    let server = Server::new().await;
    let whole = r#"{"choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#;
    let (mut call, _c) = call(settings(&server.url()), ask());
    let (_open, events) = tokio::join!(server.serve(vec![status(200, "", whole)]), all(&mut call));
    let usage = Event::Usage(Usage { input_tokens: 3, output_tokens: 1 });
    assert_eq!(events.unwrap(), [text("Hi"), usage, Event::Finish(Finish::Stop)]);
}

#[tokio::test]
async fn nothing_there_is_told_after_the_tries() {
    let server = Server::new().await;
    let url = server.url();
    drop(server);
    let (mut call, _c) = call(settings(&url), ask());
    let (events, e) = all(&mut call).await.err().unwrap();
    assert_eq!((events.len(), e.kind), (0, Kind::Unreachable));
    assert!(e.public.contains("engine.base_url"));
}
