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
use crate::llm::{anthropic, bounded, offline, openai};

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
    /// What is said of their likelihood, bytes in memory.
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
                self.logprobs_bytes += bounded::held(value);
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
mod tests;
