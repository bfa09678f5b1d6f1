//! Anthropic messages: `POST <base>/messages`, streamed. llama.cpp speaks it too.
//!
//! A schema is kept by a forced tool: the protocol's oldest servers know it, and the tool's arguments stream as the answer's text.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::base::limits::ANSWER_BYTES_MAX;
use crate::llm::bounded::{self, AtMost};
use crate::llm::error::Fault;
use crate::llm::form::Form;
use crate::llm::history::{CallIds, arguments, paired, word};
use crate::llm::plain::Plain;
use crate::llm::request::{Event, Finish, Message, Request, Sampling, ToolCall, ToolChoice, Usage};
use crate::wire::sse_in::SseEvent;

/// The protocol's version, sent with every request.
pub const VERSION: &str = "2023-06-01";

/// `max_tokens` is required; where the caller has no wish this is it.
const MAX_TOKENS_DEFAULT: u32 = 4096;
/// Most blocks of an answer that is not streamed: texts and tool calls, a few of each.
const BLOCKS_MAX: usize = 256;

/// The body of `POST <base>/messages`.
pub fn encode(request: &Request, model: &str) -> Vec<u8> {
    let mut body = json!({
        "model": model,
        "max_tokens": if request.max_tokens == 0 { MAX_TOKENS_DEFAULT } else { request.max_tokens },
        "messages": turns(&paired(&request.messages)),
        "stream": true,
    });
    let Some(fields) = body.as_object_mut() else { return Vec::new() };
    if !request.system.is_empty() {
        fields.insert("system".to_owned(), request.system.as_str().into());
    }
    if let Some(schema) = &request.schema {
        // Other tools are left out: the answer is the schema's object and nothing else.
        let name = word(&schema.name);
        let tool = json!({"name": name, "description": "Gives the answer.", "input_schema": schema.schema});
        fields.insert("tools".to_owned(), json!([tool]));
        fields.insert("tool_choice".to_owned(), json!({"type": "tool", "name": name}));
    } else if !request.tools.is_empty() {
        let tools =
            request.tools.iter().map(|tool| json!({"name": tool.name, "description": tool.description, "input_schema": tool.parameters}));
        fields.insert("tools".to_owned(), tools.collect());
        let one = request.plain.as_ref().is_some_and(Plain::one_call);
        let mut choice = match &request.tool_choice {
            ToolChoice::Auto => json!({"type": "auto"}),
            ToolChoice::Required => json!({"type": "any"}),
            ToolChoice::Named(name) => json!({"type": "tool", "name": name}),
        };
        if let (true, Some(choice)) = (one, choice.as_object_mut()) {
            choice.insert("disable_parallel_tool_use".to_owned(), true.into());
        }
        if one || request.tool_choice != ToolChoice::Auto {
            fields.insert("tool_choice".to_owned(), choice);
        }
    }
    let Sampling { temperature, top_p, stop } = &request.sampling;
    if let Some(temperature) = temperature {
        fields.insert("temperature".to_owned(), json!(temperature.min(1.0)));
    }
    if let Some(top_p) = top_p {
        fields.insert("top_p".to_owned(), json!(top_p));
    }
    if !stop.is_empty() {
        fields.insert("stop_sequences".to_owned(), json!(stop));
    }
    body.to_string().into_bytes()
}

/// Messages of alternating roles, each a list of blocks; the results of tools are blocks of the user's next message.
fn turns(messages: &[Message]) -> Vec<Value> {
    let mut turns: Vec<(&str, Vec<Value>)> = Vec::new();
    for message in messages {
        let (role, blocks) = match message {
            Message::User { text } => ("user", vec![text_block(text)]),
            Message::Assistant { text, calls } => {
                // Blank text blocks are refused; a message that would be empty says so.
                let mut blocks = Vec::new();
                if !text.trim().is_empty() || calls.is_empty() {
                    blocks.push(text_block(text));
                }
                blocks.extend(calls.iter().map(
                    |call| json!({"type": "tool_use", "id": word(&call.id), "name": word(&call.name), "input": arguments(&call.arguments)}),
                ));
                ("assistant", blocks)
            }
            Message::Tool { call_id, content, is_error, .. } => {
                let mut block = json!({"type": "tool_result", "tool_use_id": word(call_id), "content": content});
                if let (true, Some(fields)) = (is_error, block.as_object_mut()) {
                    fields.insert("is_error".to_owned(), true.into());
                }
                ("user", vec![block])
            }
        };
        match turns.last_mut() {
            Some((last, all)) if *last == role => all.extend(blocks),
            _ => turns.push((role, blocks)),
        }
    }
    turns.into_iter().map(|(role, content)| json!({"role": role, "content": content})).collect()
}

fn text_block(text: &str) -> Value {
    json!({"type": "text", "text": if text.trim().is_empty() { "(empty)" } else { text }})
}

/// Reads one answer, in whatever pieces it comes.
#[derive(Debug)]
pub struct Decoder {
    form: Form,
    ids: CallIds,
    /// The forced tool whose arguments are the answer's text.
    answer_tool: Option<String>,
    /// Text held back while the forced tool may still come; it is the answer if the tool does not.
    held: String,
    answered: bool,
    block: Block,
    usage: Usage,
    called: bool,
    finish: Option<Finish>,
    ended: bool,
}

/// The content block that is coming.
#[derive(Debug)]
enum Block {
    /// Text, thinking, or none: nothing to keep.
    Other,
    /// A tool call.
    Call(ToolCall),
    /// The forced tool: its arguments go out as text.
    Answer,
}

impl Decoder {
    /// A decoder for the answer to this request.
    pub fn new(request: &Request) -> Self {
        Self {
            form: Form::default(),
            ids: CallIds::of(&request.messages),
            answer_tool: request.schema.as_ref().map(|s| word(&s.name)),
            held: String::new(),
            answered: false,
            block: Block::Other,
            usage: Usage::default(),
            called: false,
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
            let wrong = |_| Fault::Garbage("an answer that is no JSON of its shape");
            let whole: Whole = serde_json::from_slice(&all).map_err(wrong)?;
            if let Some(error) = whole.error {
                return Err(Fault::Said(bounded::error(&error)));
            }
            let blocks = whole.content.ok_or(Fault::Garbage("an answer without content"))?;
            for block in blocks.0 {
                self.start(block, out)?;
                self.stop_block(out);
            }
            self.tokens(whole.usage, out);
            self.finish = Some(finish(whole.stop_reason.as_deref()));
        }
        if self.finish.is_none() {
            return Err(Fault::Cut);
        }
        self.close(out);
        Ok(())
    }

    fn event(&mut self, event: &SseEvent, out: &mut Vec<Event>) -> Result<(), Fault> {
        if self.ended || event.data.trim().is_empty() {
            return Ok(());
        }
        let data: Data = serde_json::from_str(&event.data).map_err(|_| Fault::Garbage("an event that is no JSON of its shape"))?;
        match data.kind.as_deref().unwrap_or(&event.name) {
            "message_start" => self.tokens(data.message.and_then(|m| m.usage), out),
            "content_block_start" => self.start(data.content_block.unwrap_or_default(), out)?,
            "content_block_delta" => self.delta(data.delta.unwrap_or_default(), out)?,
            "content_block_stop" => self.stop_block(out),
            "message_delta" => {
                if let Some(reason) = data.delta.and_then(|d| d.stop_reason) {
                    self.finish = Some(finish(Some(&reason)));
                }
                self.tokens(data.usage, out);
            }
            "message_stop" => self.close(out),
            "error" => return Err(Fault::Said(data.error.as_deref().map(bounded::error).unwrap_or_default())),
            // `ping`, and what later versions add.
            _ => {}
        }
        Ok(())
    }

    fn start(&mut self, block: BlockPart, out: &mut Vec<Event>) -> Result<(), Fault> {
        // A server that forgets to stop a block has stopped it.
        self.stop_block(out);
        match block.kind.as_deref() {
            Some("text") => self.text(block.text.unwrap_or_default(), out)?,
            Some("tool_use") => {
                let name = block.name.unwrap_or_default();
                // In a stream `input` is an empty object and the arguments follow; in a whole answer it has them.
                let given = block.input.filter(|input| has_fields(input.get())).map(|input| input.get().to_owned());
                if self.answer_tool.as_ref() == Some(&name) {
                    self.block = Block::Answer;
                    if let Some(given) = given {
                        self.answer(given, out);
                    }
                } else if !name.is_empty() {
                    let id = self.ids.take(&block.id.unwrap_or_default());
                    self.block = Block::Call(ToolCall { id, name, arguments: given.unwrap_or_default() });
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn delta(&mut self, delta: DeltaPart, out: &mut Vec<Event>) -> Result<(), Fault> {
        if let Some(text) = delta.text {
            self.text(text, out)?;
        }
        let Some(piece) = delta.partial_json else { return Ok(()) };
        match &mut self.block {
            Block::Call(call) if call.arguments.len() + piece.len() > ANSWER_BYTES_MAX => return Err(Fault::TooLarge),
            Block::Call(call) => call.arguments.push_str(&piece),
            Block::Answer => self.answer(piece, out),
            Block::Other => {}
        }
        Ok(())
    }

    fn text(&mut self, text: String, out: &mut Vec<Event>) -> Result<(), Fault> {
        if text.is_empty() {
            return Ok(());
        }
        if self.answer_tool.is_none() {
            out.push(Event::Text(text));
        } else if self.held.len() + text.len() > ANSWER_BYTES_MAX {
            return Err(Fault::TooLarge);
        } else {
            self.held.push_str(&text);
        }
        Ok(())
    }

    fn answer(&mut self, piece: String, out: &mut Vec<Event>) {
        if !piece.is_empty() {
            self.answered = true;
            out.push(Event::Text(piece));
        }
    }

    fn stop_block(&mut self, out: &mut Vec<Event>) {
        if let Block::Call(mut call) = std::mem::replace(&mut self.block, Block::Other) {
            if call.arguments.trim().is_empty() {
                call.arguments = "{}".to_owned();
            }
            self.called = true;
            out.push(Event::Call(call));
        }
    }

    fn tokens(&mut self, tokens: Option<Tokens>, out: &mut Vec<Event>) {
        let Some(tokens) = tokens else { return };
        let read = [tokens.input_tokens, tokens.cache_creation_input_tokens, tokens.cache_read_input_tokens];
        let read = read.into_iter().flatten().fold(0, u64::saturating_add);
        // The numbers are running totals, and later events leave some out.
        self.usage.input_tokens = self.usage.input_tokens.max(read);
        self.usage.output_tokens = self.usage.output_tokens.max(tokens.output_tokens.unwrap_or(0));
        out.push(Event::Usage(self.usage));
    }

    fn close(&mut self, out: &mut Vec<Event>) {
        self.stop_block(out);
        let held = std::mem::take(&mut self.held);
        if !self.answered && !held.is_empty() {
            out.push(Event::Text(held));
        }
        let finish = match self.finish {
            Some(Finish::ToolCalls) | None if !self.called => Finish::Stop,
            Some(Finish::Stop) | None if self.called => Finish::ToolCalls,
            finish => finish.unwrap_or(Finish::Stop),
        };
        out.push(Event::Finish(finish));
        self.ended = true;
    }
}

fn finish(reason: Option<&str>) -> Finish {
    match reason {
        Some("tool_use") => Finish::ToolCalls,
        Some("max_tokens" | "model_context_window_exceeded") => Finish::Length,
        Some("refusal") => Finish::Filtered,
        // `end_turn`, `stop_sequence`, `pause_turn`, and what later versions add.
        _ => Finish::Stop,
    }
}

/// It is an object with at least one field.
fn has_fields(json: &str) -> bool {
    json.strip_prefix('{').is_some_and(|rest| !rest.trim_start().starts_with('}'))
}

/// Any event of the stream. Every field may be missing or null.
#[derive(Deserialize)]
struct Data {
    #[serde(rename = "type")]
    kind: Option<String>,
    message: Option<Whole>,
    content_block: Option<BlockPart>,
    delta: Option<DeltaPart>,
    usage: Option<Tokens>,
    error: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Whole {
    content: Option<AtMost<BlockPart, BLOCKS_MAX>>,
    error: Option<Box<RawValue>>,
    stop_reason: Option<String>,
    usage: Option<Tokens>,
}

#[derive(Deserialize, Default)]
struct BlockPart {
    #[serde(rename = "type")]
    kind: Option<String>,
    id: Option<String>,
    name: Option<String>,
    text: Option<String>,
    input: Option<Box<RawValue>>,
}

#[derive(Deserialize, Default)]
struct DeltaPart {
    text: Option<String>,
    partial_json: Option<String>,
    stop_reason: Option<String>,
}

#[derive(Deserialize)]
struct Tokens {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
}

#[cfg(test)]
mod tests;
