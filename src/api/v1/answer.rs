//! What `POST /v1/chat/completions` answers: one object, or pieces of it as server-sent events.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::api::v1::error;
use crate::base::ids::SessionId;
use crate::http::error::HttpError;
use crate::llm::request::{Finish, ToolCall, Usage};
use crate::wire::sse_out;

/// The whole answer.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct ChatCompletion {
    /// `chatcmpl-` and a UUID; with model `oxios` that of the message.
    id: String,
    /// `chat.completion`, or `chat.completion.chunk` for a piece of a stream.
    object: &'static str,
    /// Unix seconds.
    created: u64,
    /// The model that answered, or that was asked for while none has answered yet.
    model: String,
    /// One choice; none in the chunk that tells the usage.
    choices: Vec<ChatChoice>,
    /// Tokens, where the model's server tells; in a stream only with `stream_options.include_usage`.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<ChatUsage>,
    /// Ours, with model `oxios`: where the conversation is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<ChatCompletionMetadata>,
}

/// Where the conversation is kept.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ChatCompletionMetadata {
    /// Give it as `metadata.session_id` to go on.
    session_id: SessionId,
}

/// One answer.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ChatChoice {
    /// 0.
    index: u32,
    /// The answer; not in a chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<ChatMessage>,
    /// What is new; only in a chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<ChatDelta>,
    /// How likely the words were, where that was asked for, as the model's server tells it.
    #[serde(skip_serializing_if = "Logprobs::is_none")]
    logprobs: Logprobs,
    /// `stop`, `length`, `tool_calls` or `content_filter`; null while more is to come.
    finish_reason: Option<&'static str>,
}

/// How likely words were: lists by name, as OpenAI has them.
#[derive(Default, Serialize)]
#[serde(transparent)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "ChatLogprobs"))]
pub(super) struct Logprobs(Map<String, Value>);

impl Logprobs {
    /// Those of more words behind these.
    pub(super) fn add(&mut self, more: Value) {
        let Value::Object(more) = more else { return };
        for (name, value) in more {
            match (self.0.get_mut(&name), value) {
                (Some(Value::Array(all)), Value::Array(more)) => all.extend(more),
                (Some(_), Value::Null) => {}
                (_, value) => drop(self.0.insert(name, value)),
            }
        }
    }

    fn is_none(&self) -> bool {
        self.0.is_empty()
    }
}

/// What was said.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ChatMessage {
    /// `assistant`.
    role: &'static str,
    /// The text; null where there are only calls.
    content: Option<String>,
    /// Tools that the model wants to have called.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ChatSaidCall>,
}

/// What is said next.
#[derive(Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ChatDelta {
    /// `assistant`; in the first chunk only.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    /// The text.
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    /// A tool that the model wants to have called, whole.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ChatDeltaCall>,
}

/// A tool call in a chunk.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ChatDeltaCall {
    /// Its place among all of the answer.
    index: usize,
    /// The call.
    #[serde(flatten)]
    call: ChatSaidCall,
}

/// A tool call.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ChatSaidCall {
    /// Its id.
    id: String,
    /// `function`.
    r#type: &'static str,
    /// What to call.
    function: ChatSaidFunction,
}

/// What to call.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ChatSaidFunction {
    /// The tool.
    name: String,
    /// JSON as the model wrote it.
    arguments: String,
}

/// Tokens.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ChatUsage {
    /// Read.
    prompt_tokens: u64,
    /// Written.
    completion_tokens: u64,
    /// Both.
    total_tokens: u64,
}

#[cfg(test)]
pub(super) fn shapes(all: &mut crate::api::shapes::Shapes) {
    all.answers::<ChatCompletion>("ChatCompletion");
}

/// What is the same in every piece of one answer.
pub(super) struct Voice {
    /// The answer's id.
    pub(super) id: String,
    /// Unix seconds.
    pub(super) created: u64,
    /// The model.
    pub(super) model: String,
    /// Where the conversation is kept.
    pub(super) session: Option<SessionId>,
}

impl Voice {
    /// The answer as one object.
    pub(super) fn whole(
        self,
        text: String,
        calls: Vec<ToolCall>,
        logprobs: Logprobs,
        finish: &'static str,
        usage: Option<Usage>,
    ) -> ChatCompletion {
        let content = (!text.is_empty() || calls.is_empty()).then_some(text);
        let said = ChatMessage { role: "assistant", content, tool_calls: calls.into_iter().map(said).collect() };
        let choice = ChatChoice { index: 0, message: Some(said), delta: None, logprobs, finish_reason: Some(finish) };
        self.object("chat.completion", vec![choice], usage)
    }

    /// The first chunk.
    pub(super) fn role(&self) -> Bytes {
        self.delta(ChatDelta { role: Some("assistant"), content: Some(String::new()), ..ChatDelta::default() }, Logprobs::default(), None)
    }

    /// A piece of text.
    pub(super) fn text(&self, text: String, logprobs: Logprobs) -> Bytes {
        self.delta(ChatDelta { content: Some(text), ..ChatDelta::default() }, logprobs, None)
    }

    /// A whole tool call, the `at`th.
    pub(super) fn call(&self, call: ToolCall, at: usize) -> Bytes {
        let call = ChatDeltaCall { index: at, call: said(call) };
        self.delta(ChatDelta { tool_calls: vec![call], ..ChatDelta::default() }, Logprobs::default(), None)
    }

    /// The end: why, the likelihoods that are left, the usage where it is wanted and known, `[DONE]`.
    pub(super) fn end(&self, finish: &'static str, rest: Logprobs, usage: Option<Usage>) -> Bytes {
        let mut frames = self.delta(ChatDelta::default(), rest, Some(finish)).to_vec();
        if usage.is_some() {
            frames.extend_from_slice(&frame(&self.copy().object("chat.completion.chunk", Vec::new(), usage)));
        }
        frames.extend_from_slice(b"data: [DONE]\n\n");
        frames.into()
    }

    fn delta(&self, said: ChatDelta, logprobs: Logprobs, finish: Option<&'static str>) -> Bytes {
        let choice = ChatChoice { index: 0, message: None, delta: Some(said), logprobs, finish_reason: finish };
        frame(&self.copy().object("chat.completion.chunk", vec![choice], None))
    }

    fn copy(&self) -> Self {
        Self { id: self.id.clone(), created: self.created, model: self.model.clone(), session: self.session }
    }

    fn object(self, object: &'static str, choices: Vec<ChatChoice>, usage: Option<Usage>) -> ChatCompletion {
        let usage = usage.map(|usage| ChatUsage {
            prompt_tokens: usage.input_tokens,
            completion_tokens: usage.output_tokens,
            total_tokens: usage.input_tokens.saturating_add(usage.output_tokens),
        });
        let metadata = self.session.map(|session_id| ChatCompletionMetadata { session_id });
        ChatCompletion { id: self.id, object, created: self.created, model: self.model, choices, usage, metadata }
    }
}

/// What ends a stream that failed: clients raise it as an error.
pub(super) fn failed(error: &HttpError) -> Bytes {
    sse_out::encode(None, None, error::in_stream(error).as_bytes()).unwrap_or_default()
}

/// OpenAI's word.
pub(super) fn word(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::ToolCalls => "tool_calls",
        Finish::Length => "length",
        Finish::Filtered => "content_filter",
    }
}

fn frame(chunk: &ChatCompletion) -> Bytes {
    // Compact JSON is one line, so nothing is ever refused here.
    let json = serde_json::to_vec(chunk).unwrap_or_default();
    sse_out::encode(None, None, &json).unwrap_or_default()
}

fn said(call: ToolCall) -> ChatSaidCall {
    ChatSaidCall { id: call.id, r#type: "function", function: ChatSaidFunction { name: call.name, arguments: call.arguments } }
}
