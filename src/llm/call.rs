//! One model call: tries, back-off, fallbacks, limits, cancel.
//!
//! The rules: a failure that may pass (no connection, 429, 5xx, a broken stream) is tried again at most twice in the whole call,
//! after 0.5 to 1 s and then 1 to 2 s (`retry_pause`), or after what `Retry-After` asks; a server that asks for more than 30 s is not waited for.
//! Then each fallback model is asked once. After the first visible event nothing is tried again: what was seen stays.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper::Method;
use hyper::header::{HeaderMap, RETRY_AFTER};
use tokio::time::Sleep;

use crate::base::cancel::Cancel;
use crate::base::limits::{ANSWER_BYTES_MAX, LOGPROBS_BYTES_MAX, MODEL_ERROR_BYTES_MAX};
use crate::base::log;
use crate::base::time::Timestamp;
use crate::http::client::Incoming;
use crate::llm::engine::{Place, Protocol, Server, Shared};
use crate::llm::error::{Fault, Kind, LlmError};
use crate::llm::request::{Event, Finish, Request};
use crate::llm::{anthropic, offline, openai};

/// Tries behind the first one, in the whole call.
const RETRIES_MAX: u32 = 2;
/// The longest `Retry-After` that is waited for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// One model call under way. Dropping it closes the connection.
pub struct Call {
    shared: Arc<Shared>,
    request: Arc<Request>,
    cancel: Cancel,
    /// Which of `shared.models` is asked.
    at: usize,
    /// The models behind this number are not asked.
    models: usize,
    retries: u32,
    state: State,
    /// Decoded, not yet given out.
    queue: VecDeque<Event>,
    /// A text or a call has been given out.
    visible: bool,
    /// Bytes of texts and arguments given out.
    bytes: usize,
    /// The same of what is said of their likelihood.
    logprobs_bytes: usize,
    /// Why the default model failed: what is reported when the fallbacks fail too.
    first_error: Option<LlmError>,
}

/// Futures are kept here, not in `next`, so that a dropped `next` loses nothing.
enum State {
    Ready,
    Pausing(Pin<Box<Sleep>>),
    Starting(Pin<Box<dyn Future<Output = Result<Stream, LlmError>> + Send>>),
    Streaming(Stream),
    Over,
}

/// An answer that is coming.
enum Stream {
    Offline(offline::Answer),
    Server(Box<(Incoming, Decoder)>),
}

enum Decoder {
    OpenAi(openai::Decoder),
    Anthropic(anthropic::Decoder),
}

impl Call {
    pub(crate) fn new(shared: Arc<Shared>, request: Request, cancel: Cancel) -> Self {
        Self {
            models: shared.models.len(),
            shared,
            request: Arc::new(request),
            cancel,
            at: 0,
            retries: 0,
            state: State::Ready,
            queue: VecDeque::new(),
            visible: false,
            bytes: 0,
            logprobs_bytes: 0,
            first_error: None,
        }
    }

    /// The same call without retries and fallbacks.
    pub(crate) fn only_this_model(mut self) -> Self {
        self.models = 1;
        self.retries = RETRIES_MAX;
        self
    }

    /// `provider/model` that is answering (the default one until a fallback took over; `auto` once it is known).
    pub fn model(&self) -> &str {
        self.shared.models.get(self.at).map_or("offline", |m| m.known_as())
    }

    /// The next event; `None` after `Finish`. May be dropped and called again (in a `select!`) without losing anything. After an error only `None` follows.
    pub async fn next(&mut self) -> Result<Option<Event>, LlmError> {
        if matches!(self.state, State::Over) && self.queue.is_empty() {
            return Ok(None);
        }
        let cancel = self.cancel.clone();
        match cancel.guard(self.advance()).await {
            Ok(event) => event,
            Err(why) => {
                // The connection closes here, and the server stops working on the answer.
                self.over();
                Err(LlmError::cancelled(why))
            }
        }
    }

    async fn advance(&mut self) -> Result<Option<Event>, LlmError> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Ok(Some(self.give(event)));
            }
            if let Err(e) = self.step().await {
                self.failed(e)?;
            }
            if matches!(self.state, State::Over) && self.queue.is_empty() {
                return Ok(None);
            }
        }
    }

    /// Moves one step on: to the next state, or with more events in the queue.
    async fn step(&mut self) -> Result<(), LlmError> {
        match &mut self.state {
            State::Over => {}
            State::Ready => self.state = State::Starting(Box::pin(start(self.shared.clone(), self.at, self.request.clone()))),
            State::Pausing(sleep) => {
                sleep.await;
                self.state = State::Ready;
            }
            State::Starting(starting) => self.state = State::Streaming(starting.await?),
            State::Streaming(Stream::Offline(answer)) => {
                // The built-in model never waits; others on this thread get their turn between its pieces.
                tokio::task::consume_budget().await;
                self.queue.extend(answer.next());
                if self.queue.is_empty() {
                    self.state = State::Over;
                }
            }
            State::Streaming(Stream::Server(server)) => {
                let (incoming, decoder) = &mut **server;
                let mut out = Vec::new();
                let name = self.shared.models.get(self.at).map_or("", |m| m.told_as());
                let pushed = match incoming.chunk().await {
                    Ok(Some(bytes)) => decoder.push(&bytes, &mut out).map_err(|fault| LlmError::from_fault(name, &fault)),
                    Ok(None) => decoder.end(&mut out).map_err(|fault| LlmError::from_fault(name, &fault)),
                    // Where the model had finished, a connection that breaks or stalls afterwards has lost nothing.
                    Err(e) => decoder.end(&mut out).map_err(|_| LlmError::from_client(name, &e)),
                };
                let finished = matches!(out.last(), Some(Event::Finish(_)));
                // What came before a fault is given out before the fault is told.
                self.queue.extend(out);
                if finished {
                    // Whatever stands behind the end is not read.
                    self.state = State::Over;
                    return Ok(());
                }
                pushed?;
            }
        }
        Ok(())
    }

    /// Counts what is given out, and ends the answer at the cap.
    fn give(&mut self, event: Event) -> Event {
        match &event {
            Event::Text(text) => {
                self.visible = true;
                let left = ANSWER_BYTES_MAX.saturating_sub(self.bytes);
                if text.len() > left {
                    let end = (0..=left).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
                    let text = text.get(..end).unwrap_or_default().to_owned();
                    self.over();
                    self.queue.push_back(Event::Finish(Finish::Length));
                    return Event::Text(text);
                }
                self.bytes += text.len();
            }
            Event::Call(call) => {
                self.visible = true;
                self.bytes += call.name.len() + call.arguments.len();
                if self.bytes > ANSWER_BYTES_MAX {
                    self.over();
                    return Event::Finish(Finish::Length);
                }
            }
            Event::Finish(_) => self.over(),
            Event::Logprobs(value) => {
                self.logprobs_bytes += value.to_string().len();
                if self.logprobs_bytes > LOGPROBS_BYTES_MAX {
                    self.over();
                    return Event::Finish(Finish::Length);
                }
            }
            Event::Usage(_) => {}
        }
        event
    }

    /// Tries again, goes to the next model, or reports.
    fn failed(&mut self, e: LlmError) -> Result<(), LlmError> {
        // Events that came before the fault: give them out first if they are visible, else they belong to a try that is forgotten.
        let seen = self.visible || self.queue.iter().any(|event| matches!(event, Event::Text(_) | Event::Call(_)));
        self.state = State::Over;
        if seen && e.blames_tools {
            // The model said something and then a call that is none: what it said stands as its answer.
            log::warn("llm", format_args!("{}; the answer ends there", e.private));
            self.queue.push_back(Event::Finish(Finish::Stop));
            return Ok(());
        }
        if seen && !self.queue.is_empty() {
            self.state = State::Starting(Box::pin(std::future::ready(Err(e))));
            return Ok(());
        }
        self.queue.clear();
        if seen {
            return Err(e);
        }
        if e.blames_tools && !self.request.tools.is_empty() && self.request.plain.is_none() {
            // The same question would go wrong again; without tools the model can still talk. Happens once: then there are none.
            log::warn("llm", format_args!("{}; asked again without tools", e.private));
            self.request = Arc::new(Request { tools: Vec::new(), ..(*self.request).clone() });
            self.state = State::Ready;
            return Ok(());
        }
        let wait = e.retry_after.unwrap_or_else(|| self.pause());
        if e.is_passing() && self.at == 0 && self.retries < RETRIES_MAX && wait <= RETRY_AFTER_MAX {
            self.retries += 1;
            log::warn("llm", format_args!("{}; try {} follows in {} ms", e.private, self.retries + 1, wait.as_millis()));
            self.state = State::Pausing(Box::pin(tokio::time::sleep(wait)));
            return Ok(());
        }
        let fallbacks = self.shared.models.iter().enumerate().take(self.models).skip(self.at + 1);
        let next = fallbacks.into_iter().find(|(_, model)| self.request.beyond(&model.place).is_none());
        if let Some((at, next)) = next {
            log::warn("llm", format_args!("{}; falling back to {}", e.private, next.name));
            self.at = at;
            self.state = State::Ready;
            self.first_error.get_or_insert(e);
            return Ok(());
        }
        let Some(mut first) = self.first_error.take() else { return Err(e) };
        log::warn("llm", format_args!("{}; no fallback is left", e.private));
        first.public.push_str(" (the fallback models failed too)");
        Err(first)
    }

    /// The next pause: half fixed, half by lot, so that runs that failed together do not return together.
    fn pause(&self) -> Duration {
        let mut lot = [0; 2];
        self.shared.random.fill(&mut lot);
        let half = self.shared.retry_pause * (1 << self.retries) / 2;
        half + half * u32::from(u16::from_le_bytes(lot)) / u32::from(u16::MAX)
    }

    fn over(&mut self) {
        self.queue.clear();
        self.state = State::Over;
    }
}

impl Decoder {
    fn push(&mut self, bytes: &[u8], out: &mut Vec<Event>) -> Result<(), Fault> {
        match self {
            Self::OpenAi(decoder) => decoder.push(bytes, out),
            Self::Anthropic(decoder) => decoder.push(bytes, out),
        }
    }
    fn end(&mut self, out: &mut Vec<Event>) -> Result<(), Fault> {
        match self {
            Self::OpenAi(decoder) => decoder.end(out),
            Self::Anthropic(decoder) => decoder.end(out),
        }
    }
}

/// One try: sends the request and waits for the answer's head.
async fn start(shared: Arc<Shared>, at: usize, request: Arc<Request>) -> Result<Stream, LlmError> {
    let Some(model) = shared.models.get(at) else {
        return Err(LlmError::new(Kind::BadRequest, "no model is configured", "no model"));
    };
    let server = match &model.place {
        Place::Offline => return Ok(Stream::Offline(offline::answer(&request))),
        Place::Server(server) => server,
    };
    let id = match server.model() {
        Some(id) => id.to_owned(),
        None => shared.first_listed(&model.name, server).await?,
    };
    match server.protocol {
        Protocol::Anthropic => {
            let body = anthropic::encode(&request, &id);
            let incoming = shared.send(model.told_as(), server, Method::POST, "messages", body).await?;
            let incoming = accepted(&shared, model.told_as(), incoming).await.map_err(|(e, _)| e)?;
            Ok(Stream::Server(Box::new((incoming, Decoder::Anthropic(anthropic::Decoder::new(&request))))))
        }
        Protocol::OpenAi => {
            let incoming = chat(&shared, model.told_as(), server, &id, &request).await?;
            Ok(Stream::Server(Box::new((incoming, Decoder::OpenAi(openai::Decoder::new(&request))))))
        }
    }
}

/// Asks for a chat completion. Where the server does not take a field, it is asked once more without (a 400 has done no work, so this is no retry).
async fn chat(shared: &Shared, name: &str, server: &Server, id: &str, request: &Request) -> Result<Incoming, LlmError> {
    let known = server.dialect();
    let mut dialect = known;
    loop {
        let body = openai::encode(request, id, dialect);
        let incoming = shared.send(name, server, Method::POST, "chat/completions", body).await?;
        match accepted(shared, name, incoming).await {
            Ok(incoming) => {
                if dialect != known {
                    server.learn(dialect);
                }
                return Ok(incoming);
            }
            Err((e, body)) => match dialect.after(request, &body) {
                Some(changed) if matches!(e.kind, Kind::BadRequest | Kind::Server) && (e.kind == Kind::BadRequest || !changed.tools) => {
                    dialect = changed;
                }
                _ => return Err(e),
            },
        }
    }
}

/// The answer if its status is 2xx; else what went wrong, and the beginning of the server's words for classifying them.
pub(crate) async fn accepted(shared: &Shared, name: &str, incoming: Incoming) -> Result<Incoming, (LlmError, Vec<u8>)> {
    if incoming.status.is_success() {
        return Ok(incoming);
    }
    let status = incoming.status.as_u16();
    let retry_after = retry_after(&incoming.headers, shared.clock.now());
    let body = incoming.collect(MODEL_ERROR_BYTES_MAX).await.unwrap_or_default();
    Err((LlmError::from_status(name, status, &body, retry_after), body))
}

/// RFC 9110 §10.2.3: seconds or a date.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(secs) = text.parse::<u32>() {
        return Some(Duration::from_secs(secs.into()));
    }
    let date = httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(date.saturating_sub(Duration::from_millis(now.millis())))
}

#[cfg(test)]
mod tests {
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
        assert!(
            asked[0].starts_with("POST /v1/chat/completions HTTP/1.1") && asked[0].to_lowercase().contains("authorization: bearer key")
        );

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
        let (_open, _open2, events) =
            tokio::join!(first.serve(vec![refused.clone()]), second.serve(vec![status(500, "", "")]), all(&mut call));
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
        let whole =
            r#"{"choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#;
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
}
