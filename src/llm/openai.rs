//! OpenAI-compatible chat completions: OpenAI, llama.cpp, Ollama, vLLM, LM Studio and their kin.
//!
//! Lenient in what it reads: fields may be missing, null or new; ids and indexes of tool calls may be missing; a server that
//! ignores `stream` and answers one JSON object is understood. Reasoning fields are not read: they are not the answer.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::base::limits::{ANSWER_BYTES_MAX, JSON_DEPTH_MAX};
use crate::llm::bounded::{self, AtMost, Text};
use crate::llm::error::Fault;
use crate::llm::form::Form;
use crate::llm::history::{CallIds, arguments, paired, word};
use crate::llm::plain::Plain;
use crate::llm::request::{Event, Finish, Message, Request, Sampling, ToolCall, ToolChoice, Usage};
use crate::wire::json;
use crate::wire::sse_in::SseEvent;

/// What a server takes; learnt from its refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    /// `response_format` with a JSON schema.
    pub schema: bool,
    /// Tools: a small model's template may know none.
    pub tools: bool,
    /// `stream_options`, which asks for usage.
    pub usage: bool,
    /// `max_completion_tokens`, which OpenAI's newer models insist on, instead of `max_tokens`, which all others know.
    pub completion_tokens: bool,
}

impl Default for Dialect {
    fn default() -> Self {
        Self { schema: true, tools: true, usage: true, completion_tokens: false }
    }
}

impl Dialect {
    /// What to leave out or change after a refusal (400, 422, and for tools 500) of this request, if anything is left to try.
    /// `body` is what the server said. Each field is changed at most once, so asking again ends.
    pub fn after(self, request: &Request, body: &[u8]) -> Option<Self> {
        let says = |words: &[&str]| words.iter().any(|w| body.windows(w.len()).any(|part| part.eq_ignore_ascii_case(w.as_bytes())));
        // What a client wrote is not left out.
        let ours = request.plain.is_none();
        // Ollama, llama.cpp without templates, vLLM without a parser.
        if ours && self.tools && !request.tools.is_empty() && says(&["not support tools", "tools param requires", "tool choice requires"]) {
            return Some(Self { tools: false, ..self });
        }
        if self.usage && says(&["stream_options"]) {
            return Some(Self { usage: false, ..self });
        }
        if !self.completion_tokens && request.max_tokens > 0 && says(&["max_completion_tokens"]) {
            return Some(Self { completion_tokens: true, ..self });
        }
        // Any other refusal may be about the schema: servers word it in too many ways.
        (ours && self.schema && request.schema.is_some()).then_some(Self { schema: false, ..self })
    }
}

/// The body of `POST <base>/chat/completions`.
pub fn encode(request: &Request, model: &str, dialect: Dialect) -> Vec<u8> {
    // What a client wrote in this language is sent as it stands.
    let ours: &[Message] = if request.plain.as_ref().is_some_and(Plain::tells) { &[] } else { &request.messages };
    let mut messages = Vec::with_capacity(ours.len() + 1);
    let mut system = request.system.clone();
    if let Some(schema) = request.schema.as_ref().filter(|_| !dialect.schema && request.plain.is_none()) {
        // The server cannot be held to the schema, so the model is asked.
        system.push_str("\n\nAnswer with one JSON object and nothing else. Its JSON schema:\n");
        system.push_str(&schema.schema.to_string());
    }
    if !system.is_empty() {
        messages.push(json!({"role": "system", "content": system}));
    }
    messages.extend(paired(ours).iter().map(message));
    let mut body = json!({
        "model": model,
        "messages": messages,
        "stream": true,
    });
    let Some(fields) = body.as_object_mut() else { return Vec::new() };
    if dialect.usage {
        fields.insert("stream_options".to_owned(), json!({"include_usage": true}));
    }
    if request.max_tokens > 0 {
        let name = if dialect.completion_tokens { "max_completion_tokens" } else { "max_tokens" };
        fields.insert(name.to_owned(), request.max_tokens.into());
    }
    if dialect.tools && !request.tools.is_empty() {
        let tools = request.tools.iter().map(|tool| {
            json!({"type": "function", "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters}})
        });
        fields.insert("tools".to_owned(), tools.collect());
        match &request.tool_choice {
            ToolChoice::Auto => {}
            ToolChoice::Required => drop(fields.insert("tool_choice".to_owned(), "required".into())),
            ToolChoice::Named(name) => {
                drop(fields.insert("tool_choice".to_owned(), json!({"type": "function", "function": {"name": name}})));
            }
        }
    }
    let Sampling { temperature, top_p, stop } = &request.sampling;
    for (name, value) in [("temperature", temperature), ("top_p", top_p)] {
        if let Some(value) = value {
            fields.insert(name.to_owned(), json!(value));
        }
    }
    if !stop.is_empty() {
        fields.insert("stop".to_owned(), json!(stop));
    }
    if let Some(schema) = request.schema.as_ref().filter(|_| dialect.schema) {
        let format = json!({"type": "json_schema", "json_schema": {"name": word(&schema.name), "schema": schema.schema}});
        fields.insert("response_format".to_owned(), format);
    }
    if let Some(Plain(written)) = &request.plain {
        fields.extend(written.clone());
    }
    body.to_string().into_bytes()
}

fn message(message: &Message) -> Value {
    match message {
        Message::User { text } => json!({"role": "user", "content": text}),
        Message::Assistant { text, calls } if calls.is_empty() => json!({"role": "assistant", "content": text}),
        Message::Assistant { text, calls } => {
            let content = if text.is_empty() { Value::Null } else { Value::from(text.as_str()) };
            let calls: Vec<Value> = calls
                .iter()
                .map(|call| {
                    // llama.cpp answers 500 to arguments that are no JSON, for instance cut off by a token limit.
                    let arguments = Value::Object(arguments(&call.arguments)).to_string();
                    json!({"id": call.id, "type": "function", "function": {"name": word(&call.name), "arguments": arguments}})
                })
                .collect();
            json!({"role": "assistant", "content": content, "tool_calls": calls})
        }
        Message::Tool { call_id, content, is_error, .. } => {
            // The protocol has no error flag for results.
            let content = if *is_error { format!("ERROR: {content}") } else { content.clone() };
            json!({"role": "tool", "tool_call_id": call_id, "content": content})
        }
    }
}

/// Reads one answer, in whatever pieces it comes.
#[derive(Debug)]
pub struct Decoder {
    form: Form,
    ids: CallIds,
    calls: Vec<Pending>,
    /// Text that may be the beginning of a tool call, held until that is certain.
    held: String,
    /// Text is given out as it comes: it is no tool call, or none was offered.
    open: bool,
    /// How likely the words were is wanted.
    logprobs: bool,
    finish: Option<Finish>,
    ended: bool,
}

/// What small models write before a tool call. llama.cpp passes the mark on as text, and where the call behind it is malformed
/// it reports an error: so long as the mark is not shown, the answer can be asked for again.
const CALL_MARKS: [&str; 4] = ["<tool_call", "<|tool_call", "[TOOL_CALLS", "<function"];
/// Longest text that is held, in bytes.
const HELD_BYTES_MAX: usize = 8 * 1024;
/// Most tool calls of an answer, and parts of calls in one event: providers allow 128 tools and few calls, and each part is looked for
/// among the calls that there are.
const CALLS_MAX: usize = 256;
/// Most choices of an event: one is asked for.
const CHOICES_MAX: usize = 8;

/// A tool call that is still coming.
#[derive(Debug)]
struct Pending {
    index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
}

impl Decoder {
    /// A decoder for the answer to this request.
    pub fn new(request: &Request) -> Self {
        Self {
            form: Form::default(),
            ids: CallIds::of(&request.messages),
            calls: Vec::new(),
            held: String::new(),
            open: request.tools.is_empty(),
            logprobs: request.plain.as_ref().is_some_and(Plain::logprobs),
            finish: None,
            ended: false,
        }
    }

    /// Takes the next bytes of the body and appends what they mean to `out`. `Finish` is the last event; what follows it is not read.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<Event>) -> Result<(), Fault> {
        // Out of `self` meanwhile: the events change the rest of it.
        let mut form = std::mem::take(&mut self.form);
        let pushed = form.push(bytes, |event| self.event(event, out));
        self.form = form;
        pushed
    }

    /// The body has ended (or nothing more will come of it): the end is accepted where the model had finished.
    pub fn end(&mut self, out: &mut Vec<Event>) -> Result<(), Fault> {
        if self.ended {
            return Ok(());
        }
        if let Some(all) = self.form.take_whole() {
            let chunk: Chunk = serde_json::from_slice(&all).map_err(|_| Fault::Garbage("an answer that is no JSON of its shape"))?;
            if chunk.error.is_none() && chunk.choices.0.is_empty() {
                return Err(Fault::Garbage("an answer without choices"));
            }
            self.chunk(chunk, out)?;
            self.finish.get_or_insert(Finish::Stop);
        }
        if self.finish.is_none() {
            return Err(Fault::Cut);
        }
        self.close(out);
        Ok(())
    }

    fn event(&mut self, event: &SseEvent, out: &mut Vec<Event>) -> Result<(), Fault> {
        let data = event.data.trim();
        if self.ended || data.is_empty() {
            return Ok(());
        }
        if data == "[DONE]" {
            self.close(out);
            return Ok(());
        }
        let chunk = serde_json::from_str(data).map_err(|_| Fault::Garbage("an event that is no JSON of its shape"))?;
        self.chunk(chunk, out)
    }

    fn chunk(&mut self, chunk: Chunk, out: &mut Vec<Event>) -> Result<(), Fault> {
        if let Some(error) = chunk.error {
            return Err(Fault::Said(bounded::error(&error)));
        }
        // Only one choice is asked for.
        if let Some(choice) = chunk.choices.0.into_iter().find(|c| c.index.unwrap_or(0) == 0) {
            if let Some(logprobs) = choice.logprobs.filter(|_| self.logprobs) {
                // They stand beside the answer: those of it that are too much to be read are left out, it is not lost with them.
                out.extend(json::parse(logprobs.get().as_bytes(), JSON_DEPTH_MAX).ok().map(Event::Logprobs));
            }
            if let Some(delta) = choice.delta.or(choice.message) {
                for text in [Some(delta.content.0), delta.refusal].into_iter().flatten() {
                    self.text(text, out);
                }
                for part in delta.tool_calls.0 {
                    self.call(part)?;
                }
            }
            if let Some(reason) = choice.finish_reason {
                self.finish = Some(match reason.as_str() {
                    "length" | "max_tokens" => Finish::Length,
                    "tool_calls" | "function_call" => Finish::ToolCalls,
                    "content_filter" => Finish::Filtered,
                    // Words that nobody knows still end the answer.
                    _ => Finish::Stop,
                });
            }
        }
        if let Some(usage) = chunk.usage {
            let (read, written) = (usage.prompt_tokens.unwrap_or(0), usage.completion_tokens.unwrap_or(0));
            out.push(Event::Usage(Usage { input_tokens: read, output_tokens: written }));
        }
        Ok(())
    }

    /// Gives text out, unless all there is so far looks like the beginning of a tool call.
    fn text(&mut self, text: String, out: &mut Vec<Event>) {
        if self.open {
            if !text.is_empty() {
                out.push(Event::Text(text));
            }
            return;
        }
        self.held.push_str(&text);
        let start = self.held.trim_start();
        let may_be_call = CALL_MARKS.iter().any(|mark| mark.starts_with(start) || start.starts_with(mark));
        if !may_be_call || self.held.len() > HELD_BYTES_MAX {
            self.release(out);
        }
    }

    fn release(&mut self, out: &mut Vec<Event>) {
        self.open = true;
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() {
            out.push(Event::Text(held));
        }
    }

    /// Adds a piece to the call it belongs to: by index, else by id, else to the last one.
    fn call(&mut self, part: CallPart) -> Result<(), Fault> {
        let id = part.id.unwrap_or_default();
        let function = part.function.unwrap_or_default();
        let name = function.name.unwrap_or_default();
        let found = match part.index {
            Some(index) => self.calls.iter().rposition(|c| c.index == Some(index)),
            None if id.is_empty() => (name.is_empty()).then(|| self.calls.len().checked_sub(1)).flatten(),
            None => self.calls.iter().rposition(|c| c.id == id),
        };
        let full = self.calls.len() >= CALLS_MAX;
        // Some servers give every call the same index: another id with a name is another call.
        let found =
            found.and_then(|at| self.calls.get_mut(at)).filter(|c| id.is_empty() || name.is_empty() || c.id.is_empty() || c.id == id);
        let piece = bounded::arguments(function.arguments.as_deref());
        match found {
            Some(call) => {
                if call.id.is_empty() {
                    call.id = id;
                }
                if call.name.is_empty() {
                    call.name = name;
                }
                call.arguments.push_str(&piece);
            }
            None if full => return Err(Fault::TooLarge),
            None => self.calls.push(Pending { index: part.index, id, name, arguments: piece }),
        }
        let size: usize = self.calls.iter().map(|c| c.arguments.len() + c.name.len() + c.id.len() + 64).sum();
        if size > ANSWER_BYTES_MAX { Err(Fault::TooLarge) } else { Ok(()) }
    }

    /// The calls, whole, and the end.
    fn close(&mut self, out: &mut Vec<Event>) {
        self.release(out);
        let before = out.len();
        for call in self.calls.drain(..).filter(|c| !c.name.is_empty()) {
            let arguments = if call.arguments.trim().is_empty() { "{}".to_owned() } else { call.arguments };
            out.push(Event::Call(ToolCall { id: self.ids.take(&call.id), name: call.name, arguments }));
        }
        // Some servers say `stop` where they mean tool calls. A call that was cut stays cut.
        let finish = match self.finish {
            None | Some(Finish::Stop) if out.len() > before => Finish::ToolCalls,
            Some(Finish::ToolCalls) if out.len() == before => Finish::Stop,
            finish => finish.unwrap_or(Finish::Stop),
        };
        out.push(Event::Finish(finish));
        self.ended = true;
    }
}

/// A `chat.completion.chunk`, or the whole `chat.completion`. Every field may be missing or null.
#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: AtMost<Choice, CHOICES_MAX>,
    usage: Option<Tokens>,
    error: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Choice {
    index: Option<u64>,
    delta: Option<Delta>,
    message: Option<Delta>,
    logprobs: Option<Box<RawValue>>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Delta {
    #[serde(default)]
    content: Text,
    refusal: Option<String>,
    #[serde(default)]
    tool_calls: AtMost<CallPart, CALLS_MAX>,
}

#[derive(Deserialize)]
struct CallPart {
    index: Option<u64>,
    id: Option<String>,
    function: Option<FunctionPart>,
}

#[derive(Deserialize, Default)]
struct FunctionPart {
    name: Option<String>,
    arguments: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Tokens {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
}

#[cfg(test)]
mod tests;
