//! The plain model: one call of the engine, tools passed through, nothing kept. A client that goes away ends the call.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::api::v1::answer::{self, Voice};
use crate::api::v1::completions::{ChatCompletionRequest, STOPS_MAX, Stop, TEMPERATURE_MAX};
use crate::api::v1::{error, models};
use crate::api::{self, App, Call};
use crate::base::cancel::{self, Canceller};
use crate::base::ids::MessageId;
use crate::base::time::Clock;
use crate::http::error::{ErrorStatus, HttpError};
use crate::http::{Response, sse};
use crate::llm::request::{Event, Finish, Message, Request, Sampling, Schema, Tally, ToolCall, ToolChoice, ToolSpec, Usage};
use crate::llm::{self, CountedCall, LlmError};
use crate::middleware::auth;
use crate::store::keys::Reservation;

/// When a refused call is worth another try, in seconds.
const RETRY_SECS: u64 = 2;

/// Answers as the plain model.
pub(super) async fn answer(app: Arc<App>, call: &Call, request: ChatCompletionRequest) -> Result<Response, HttpError> {
    let engine = app.engine.load();
    models::check(&engine, &request.model)?;
    let asked = asked(&request)?;
    let Ok(permit) = app.plain_calls.clone().try_acquire_owned() else {
        let public = "too many model calls run; try again in a moment";
        return Err(HttpError::new(ErrorStatus::Unavailable, "busy", public).retry_after(RETRY_SECS));
    };
    let (canceller, cancel) = cancel::pair();
    let deadline = Instant::now() + app.settings.load().max_execution;
    let purse = app.books.purse(call.caller()?.budget().map(|budget| budget.id));
    let tally = Tally::new(&asked);
    let reserved = tokio::select! {
        reserved = purse.reserve(engine.tokens_at_most(&asked)) => reserved?,
        () = tokio::time::sleep_until(deadline) => return Err(late()),
        end = call.ends.ended() => return Err(auth::ended(end)),
    };
    let mut model = Model {
        call: engine.call(asked, &cancel),
        deadline,
        counted: CountedCall::begin(&app.metrics, engine.model_name(), app.clock.monotonic()),
        tally,
        reserved,
        told: None,
        clock: app.clock.clone(),
        _canceller: canceller,
        _permit: permit,
    };
    // The head waits for the first event, so that a model that fails at once is an error with a status.
    let first = model.next(&call.ends).await?;
    let voice = Voice {
        id: format!("chatcmpl-{}", MessageId::random(&*app.random)),
        created: app.clock.now().millis() / 1000,
        model: model.call.model().to_owned(),
        session: None,
    };
    if request.stream.unwrap_or(false) {
        let ends = call.ends.clone();
        let usage = request.include_usage();
        let of_stream = call.ends.clone();
        let stream = Stream { voice, model, ends: of_stream, first, begun: false, calls: 0, wanted: usage, over: false };
        return Ok(sse::response(stream, async move {
            ends.ended().await;
        }));
    }
    let (mut text, mut calls, mut finish) = (String::new(), Vec::new(), Finish::Stop);
    let mut next = first;
    while let Some(event) = next {
        match event {
            Event::Text(piece) => text.push_str(&piece),
            Event::Call(made) => calls.push(made),
            Event::Usage(_) => {}
            Event::Finish(why) => finish = why,
        }
        next = model.next(&call.ends).await?;
    }
    api::json(&voice.whole(text, calls, answer::word(finish), model.told))
}

/// A call under way; dropping it closes its connection and gives its place back.
struct Model {
    call: llm::Call,
    deadline: Instant,
    /// For the metrics.
    counted: CountedCall,
    tally: Tally,
    /// Tokens of the key's budget; settled when this is dropped.
    reserved: Reservation,
    /// What its server said it used.
    told: Option<Usage>,
    clock: Arc<dyn Clock>,
    _canceller: Canceller,
    _permit: OwnedSemaphorePermit,
}

impl Model {
    async fn next(&mut self, ends: &auth::Ends) -> Result<Option<Event>, HttpError> {
        self.reserved.used(self.tally.usage().total());
        tokio::select! {
            biased;
            event = self.call.next() => {
                self.count(&event);
                event.map_err(error::of_model)
            }
            () = tokio::time::sleep_until(self.deadline) => Err(late()),
            end = ends.ended() => Err(auth::ended(end)),
        }
    }
}

fn late() -> HttpError {
    HttpError::new(ErrorStatus::GatewayTimeout, "deadline", "the answer took longer than security.max_execution_time_secs")
}

impl Model {
    fn count(&mut self, event: &Result<Option<Event>, LlmError>) {
        let used = match event {
            Ok(event) => {
                if let Some(event) = event {
                    self.counted.piece(self.clock.monotonic());
                    self.tally.saw(event);
                }
                self.tally.usage()
            }
            Err(error) => self.tally.failed(error),
        };
        self.reserved.used(used.total());
        match event {
            Ok(Some(Event::Usage(usage))) => self.told = Some(*usage),
            // What follows the end is nothing.
            Ok(Some(Event::Finish(_))) => {
                self.counted.done(used.input_tokens, used.output_tokens);
            }
            Ok(_) => {}
            Err(_) => self.counted.failed(),
        }
    }
}

struct Stream {
    voice: Voice,
    model: Model,
    ends: auth::Ends,
    /// The event that came before the head.
    first: Option<Event>,
    begun: bool,
    /// Tool calls so far.
    calls: usize,
    /// The usage is wanted.
    wanted: bool,
    over: bool,
}

impl sse::Source for Stream {
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        if !self.begun {
            self.begun = true;
            return Some(self.voice.role());
        }
        loop {
            let event = match self.first.take() {
                Some(event) => Ok(Some(event)),
                None => self.model.next(&self.ends).await,
            };
            return Some(match event {
                Ok(Some(Event::Text(text))) => self.voice.text(text),
                Ok(Some(Event::Call(call))) => {
                    self.calls += 1;
                    self.voice.call(call, self.calls - 1)
                }
                Ok(Some(Event::Usage(_))) => continue,
                Ok(Some(Event::Finish(finish))) => self.end(finish),
                Ok(None) => self.end(Finish::Stop),
                Err(error) => {
                    self.over = true;
                    answer::failed(&error)
                }
            });
        }
    }
}

impl Stream {
    fn end(&mut self, finish: Finish) -> Bytes {
        self.over = true;
        self.voice.end(answer::word(finish), self.model.told.filter(|_| self.wanted))
    }
}

/// The request in the engine's terms.
fn asked(request: &ChatCompletionRequest) -> Result<Request, HttpError> {
    let mut system = Vec::new();
    let mut messages = Vec::with_capacity(request.messages.len());
    for (at, message) in request.messages.iter().enumerate() {
        let text = message.text(at)?;
        messages.push(match message.role.as_str() {
            "system" | "developer" => {
                system.push(text);
                continue;
            }
            "user" => Message::User { text },
            "assistant" => {
                let call = |call: &super::completions::CompletionCall| ToolCall {
                    id: call.id.clone(),
                    name: call.function.name.clone(),
                    arguments: call.function.arguments.clone(),
                };
                Message::Assistant { text, calls: message.tool_calls.iter().flatten().map(call).collect() }
            }
            "tool" => {
                let place = format!("messages[{at}].tool_call_id");
                let call_id = message.tool_call_id.clone();
                let call_id = call_id.ok_or_else(|| HttpError::bad_request("a tool's message names its call").param(place))?;
                let name = called(&messages, &call_id).unwrap_or_default();
                Message::Tool { call_id, name, content: text, is_error: false }
            }
            _ => {
                let error = HttpError::bad_request("role: expected system, developer, user, assistant or tool");
                return Err(error.param(format!("messages[{at}].role")));
            }
        });
    }
    if !matches!(messages.last(), Some(Message::User { .. } | Message::Tool { .. })) {
        return Err(HttpError::bad_request("the last message must be the user's or a tool's").param("messages"));
    }
    let (choice, tools) = tools(request)?;
    Ok(Request {
        system: system.join("\n\n"),
        messages,
        tools,
        tool_choice: choice,
        sampling: sampling(request)?,
        schema: schema(request.response_format.as_ref())?,
        max_tokens: request.max_completion_tokens.or(request.max_tokens).unwrap_or(0),
        ..Request::default()
    })
}

/// The tool that a call of this id named.
fn called(messages: &[Message], id: &str) -> Option<String> {
    messages.iter().rev().find_map(|message| match message {
        Message::Assistant { calls, .. } => calls.iter().find(|call| call.id == id).map(|call| call.name.clone()),
        _ => None,
    })
}

fn tools(request: &ChatCompletionRequest) -> Result<(ToolChoice, Vec<ToolSpec>), HttpError> {
    let wrong = |text: &'static str| HttpError::bad_request(text).param("tool_choice");
    let none = json!({"type": "object", "properties": {}});
    let mut tools = Vec::new();
    for tool in request.tools.iter().flatten() {
        tools.push(ToolSpec {
            name: tool.function.name.clone(),
            description: tool.function.description.clone().unwrap_or_default(),
            parameters: tool.function.parameters.clone().filter(Value::is_object).unwrap_or_else(|| none.clone()),
        });
    }
    let choice = match &request.tool_choice {
        None | Some(Value::Null) => ToolChoice::Auto,
        Some(Value::String(word)) => match word.as_str() {
            "auto" => ToolChoice::Auto,
            "required" => ToolChoice::Required,
            // What is not offered is not called.
            "none" => return Ok((ToolChoice::Auto, Vec::new())),
            _ => return Err(wrong("tool_choice: expected auto, none, required or a function")),
        },
        Some(object) => match object.pointer("/function/name").and_then(Value::as_str) {
            Some(name) => ToolChoice::Named(name.to_owned()),
            None => return Err(wrong("tool_choice: expected auto, none, required or a function")),
        },
    };
    match &choice {
        ToolChoice::Named(name) if !tools.iter().any(|tool| tool.name == *name) => Err(wrong("tool_choice names no tool of `tools`")),
        ToolChoice::Required if tools.is_empty() => Err(wrong("tool_choice is `required` and there are no tools")),
        _ => Ok((choice, tools)),
    }
}

fn sampling(request: &ChatCompletionRequest) -> Result<Sampling, HttpError> {
    for (name, value, most) in [("temperature", request.temperature, TEMPERATURE_MAX), ("top_p", request.top_p, 1.0)] {
        if value.is_some_and(|value| !(0.0..=most).contains(&value)) {
            return Err(HttpError::bad_request(format!("{name}: expected 0 to {most}")).param(name));
        }
    }
    let stop = match &request.stop {
        None => Vec::new(),
        Some(Stop::One(text)) => vec![text.clone()],
        Some(Stop::Some(texts)) => texts.clone(),
    };
    if stop.len() > STOPS_MAX {
        return Err(HttpError::bad_request(format!("stop: at most {STOPS_MAX} are taken")).param("stop"));
    }
    Ok(Sampling { temperature: request.temperature, top_p: request.top_p, stop })
}

fn schema(format: Option<&Value>) -> Result<Option<Schema>, HttpError> {
    let Some(format) = format.filter(|format| !format.is_null()) else { return Ok(None) };
    let wrong = || HttpError::bad_request("response_format: expected text, json_object or json_schema").param("response_format");
    match format.get("type").and_then(Value::as_str) {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(Schema { name: "answer".to_owned(), schema: json!({"type": "object"}) })),
        Some("json_schema") => {
            let name = format.pointer("/json_schema/name").and_then(Value::as_str).unwrap_or("answer").to_owned();
            let schema = format.pointer("/json_schema/schema").filter(|schema| schema.is_object()).cloned();
            schema.map(|schema| Some(Schema { name, schema })).ok_or_else(wrong)
        }
        _ => Err(wrong()),
    }
}
