//! `POST /v1/chat/completions`: what is asked, and whom.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::api::v1::{agent, models, plain};
use crate::api::{App, Call};
use crate::base::limits::{CONTENT_BYTES_MAX, JSON_DEPTH_MAX};
use crate::http::Response;
use crate::http::error::{ErrorStatus, HttpError};
use crate::wire::json::{self, BadJson};

/// Highest `temperature`, as OpenAI has it.
pub(super) const TEMPERATURE_MAX: f64 = 2.0;
/// Highest penalty, and with a minus the lowest, as OpenAI has it.
pub(super) const PENALTY_MAX: f64 = 2.0;
/// Most tokens in `logit_bias`, as OpenAI has it.
pub(super) const LOGIT_BIASES_MAX: usize = 300;
/// Highest bias, and with a minus the lowest, as OpenAI has it.
pub(super) const LOGIT_BIAS_MAX: f64 = 100.0;
/// Most other words beside one, as OpenAI has it.
pub(super) const TOP_LOGPROBS_MAX: u32 = 20;
/// Most texts in `stop`, as OpenAI has it.
pub(super) const STOPS_MAX: usize = 4;

/// A conversation to go on with. With model `oxios` only `messages`, `stream`, `stream_options`, `metadata.session_id`, `user` and
/// `idempotency_key` count. Otherwise the fields that are here go to an OpenAI-compatible server as they came, but for `n`, `metadata`,
/// `user` and `stream_options`, which stay here, and `idempotency_key`, which is refused; so do those that such servers know besides for
/// how words are drawn and thought about (`top_k`, `min_p`, `repeat_penalty`, `chat_template_kwargs`, `verbosity` …). Other fields are
/// ignored: some of them would change what a call costs, or whom. A model of another kind refuses `logprobs`, `logit_bias`,
/// `json_object`, and `grammar` and its like, the offline model also `json_schema`, and both may not hear `seed`, penalties, `top_k` and
/// its like, `reasoning_effort`, `name` and a tool's `strict`.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ChatCompletionRequest {
    /// `oxios`, the agent; or `provider/model` of a configured provider; or a model of the configured model's provider.
    #[cfg_attr(test, schemars(extend("examples" = [models::AGENT])))]
    pub(super) model: String,
    /// Oldest first; the last one is the user's or a tool's, at most 64 KiB. With model `oxios`: with `metadata.session_id` the last
    /// user message counts and the rest is ignored. Without it they are the history of a new session, at most 2,048 messages: the last
    /// one is the user's, `system` and `developer` (8 KiB together) hold for the whole session, neighbours of one role are one message,
    /// blank ones are left out, and tool calls and results are refused. With another model they reach an OpenAI-compatible server as they
    /// stand, one for one; elsewhere what `system` and `developer` say stands before the conversation.
    #[cfg_attr(test, schemars(length(min = 1)))]
    pub(super) messages: Vec<CompletionMessage>,
    /// Answer in pieces.
    #[serde(default)]
    pub(super) stream: Option<bool>,
    /// What a stream tells besides.
    #[serde(default)]
    pub(super) stream_options: Option<StreamOptions>,
    /// Most tokens to write, at most `engine.max_tokens`, which is also what holds where neither is given; the older name of the next one.
    #[serde(default)]
    #[cfg_attr(test, schemars(range(min = 1)))]
    pub(super) max_tokens: Option<u32>,
    /// Most tokens to write, at most `engine.max_tokens`.
    #[serde(default)]
    #[cfg_attr(test, schemars(range(min = 1)))]
    pub(super) max_completion_tokens: Option<u32>,
    /// Tools that the client runs; model `oxios` refuses them.
    #[serde(default)]
    pub(super) tools: Option<Vec<CompletionTool>>,
    /// `auto`, `none`, `required`, or `{"type":"function","function":{"name"}}`.
    #[serde(default)]
    #[cfg_attr(test, schemars(schema_with = "shapes::tool_choice"))]
    pub(super) tool_choice: Option<Value>,
    /// `{"type":"text"}`, `{"type":"json_object"}` or `{"type":"json_schema","json_schema":{"name","schema"}}`.
    #[serde(default)]
    #[cfg_attr(test, schemars(schema_with = "shapes::response_format"))]
    pub(super) response_format: Option<Value>,
    /// 0 to 2.
    #[serde(default)]
    #[cfg_attr(test, schemars(range(min = 0.0, max = TEMPERATURE_MAX)))]
    pub(super) temperature: Option<f64>,
    /// 0 to 1.
    #[serde(default)]
    #[cfg_attr(test, schemars(range(min = 0.0, max = 1.0)))]
    pub(super) top_p: Option<f64>,
    /// A text or up to 4 of them; the answer ends before it.
    #[serde(default)]
    pub(super) stop: Option<Stop>,
    /// Draws the same words again, where the model can.
    #[serde(default)]
    pub(super) seed: Option<i64>,
    /// -2 to 2.
    #[serde(default)]
    #[cfg_attr(test, schemars(range(min = -PENALTY_MAX, max = PENALTY_MAX)))]
    pub(super) presence_penalty: Option<f64>,
    /// -2 to 2.
    #[serde(default)]
    #[cfg_attr(test, schemars(range(min = -PENALTY_MAX, max = PENALTY_MAX)))]
    pub(super) frequency_penalty: Option<f64>,
    /// -100 to 100 for each of up to 300 tokens, by their numbers.
    #[serde(default)]
    #[cfg_attr(test, schemars(extend("maxProperties" = LOGIT_BIASES_MAX)))]
    pub(super) logit_bias: Option<BTreeMap<String, f64>>,
    /// The answer says how likely its words were.
    #[serde(default)]
    pub(super) logprobs: Option<bool>,
    /// So many other words beside each, 0 to 20; needs `logprobs`.
    #[serde(default)]
    #[cfg_attr(test, schemars(range(min = 0, max = TOP_LOGPROBS_MAX)))]
    pub(super) top_logprobs: Option<u32>,
    /// Several tools may be called at once.
    #[serde(default)]
    pub(super) parallel_tool_calls: Option<bool>,
    /// How much a model thinks before it answers, as `low`.
    #[serde(default)]
    #[cfg_attr(test, schemars(regex(pattern = "^[a-z]{1,16}$")))]
    pub(super) reasoning_effort: Option<String>,
    /// The older form of `tools`; refused.
    #[serde(default)]
    #[cfg_attr(test, schemars(schema_with = "shapes::refused"))]
    functions: Option<Value>,
    /// Only 1.
    #[serde(default)]
    #[cfg_attr(test, schemars(range(min = 1, max = 1)))]
    n: Option<u32>,
    /// `session_id`: the session to go on with; a new UUID makes one of this name.
    #[serde(default)]
    #[cfg_attr(test, schemars(extend("properties" = {"session_id": {"type": ["string", "null"]}})))]
    pub(super) metadata: Option<Map<String, Value>>,
    /// A label of whoever speaks.
    #[serde(default)]
    pub(super) user: Option<String>,
    /// With model `oxios`: the same key and body find the first run instead of making another one. Of a plain model nothing is kept
    /// that a retry could find, so it refuses one.
    #[serde(default)]
    #[cfg_attr(test, schemars(length(min = 1, max = crate::base::limits::LABEL_BYTES_MAX)))]
    pub(super) idempotency_key: Option<String>,
    /// Fields that only some servers of OpenAI's language know ([`MORE`]), as they came; only read for a plain model.
    #[serde(skip)]
    pub(super) more: More,
}

/// Fields beside OpenAI's that go to a server of its language. Named one by one: a field that nobody here thought of could make an answer
/// longer than its key has tokens for (`n_predict`, `best_of`), dearer (`service_tier`, `web_search_options`, `prediction`, `plugins`),
/// another model's (`models`, `fallbacks`, `api_base`) or one that the provider keeps (`store`). These only say how a model draws its
/// words, and thinks about them within `max_tokens`.
pub(super) const MORE: [&str; 30] = [
    "cache_prompt",
    "chat_template_kwargs",
    "dry_allowed_length",
    "dry_base",
    "dry_multiplier",
    "dry_penalty_last_n",
    "dynatemp_exponent",
    "dynatemp_range",
    "enable_thinking",
    "grammar",
    "guided_choice",
    "guided_grammar",
    "guided_json",
    "guided_regex",
    "ignore_eos",
    "include_stop_str_in_output",
    "min_p",
    "min_tokens",
    "mirostat",
    "mirostat_eta",
    "mirostat_tau",
    "repeat_last_n",
    "repeat_penalty",
    "repetition_penalty",
    "stop_token_ids",
    "structured_outputs",
    "top_k",
    "typical_p",
    "verbosity",
    "xtc_probability",
];

/// Those of [`MORE`] that a request has and that are not null; reads over everything else without keeping it.
#[derive(Debug, Default)]
pub(super) struct More(pub(super) Map<String, Value>);

impl<'de> Deserialize<'de> for More {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = More;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<More, A::Error> {
                let mut more = Map::new();
                while let Some(name) = map.next_key::<String>()? {
                    if !MORE.contains(&name.as_str()) {
                        map.next_value::<IgnoredAny>()?;
                    } else if let Some(value) = map.next_value::<Option<Value>>()? {
                        more.insert(name, value);
                    }
                }
                Ok(More(more))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// What a stream tells besides.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct StreamOptions {
    /// A last chunk with `usage`.
    #[serde(default)]
    pub(super) include_usage: Option<bool>,
}

/// One message.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct CompletionMessage {
    /// `system`, `developer`, `user`, `assistant` or `tool`.
    #[cfg_attr(test, schemars(regex(pattern = "^(system|developer|user|assistant|tool)$")))]
    pub(super) role: String,
    /// The text.
    #[serde(default)]
    content: Option<Content>,
    /// What an assistant called.
    #[serde(default)]
    pub(super) tool_calls: Option<Vec<CompletionCall>>,
    /// The call that a tool answers.
    #[serde(default)]
    pub(super) tool_call_id: Option<String>,
    /// Who of its role speaks.
    #[serde(default)]
    pub(super) name: Option<String>,
    /// What an assistant would not do.
    #[serde(default)]
    pub(super) refusal: Option<String>,
    /// What an assistant thought before it spoke, for models that want to see it again.
    #[serde(default)]
    pub(super) reasoning_content: Option<String>,
}

/// A text, or parts of the type `text`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "CompletionContent"))]
enum Content {
    Text(String),
    Parts(Vec<ContentPart>),
}

/// A part of a text.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "CompletionContentPart"))]
struct ContentPart {
    /// `text`; others are refused.
    #[cfg_attr(test, schemars(regex(pattern = "^text$")))]
    r#type: String,
    /// The text.
    #[cfg_attr(test, schemars(required))]
    text: Option<String>,
}

/// One text or some.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "CompletionStop"))]
pub(super) enum Stop {
    One(String),
    Some(#[cfg_attr(test, schemars(length(max = STOPS_MAX)))] Vec<String>),
}

/// What an assistant called.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct CompletionCall {
    /// Its id.
    pub(super) id: String,
    /// What was called.
    pub(super) function: CalledFunction,
}

/// What was called.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct CalledFunction {
    /// The tool.
    pub(super) name: String,
    /// JSON as the model wrote it.
    pub(super) arguments: String,
}

/// A tool.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct CompletionTool {
    /// `function`.
    #[cfg_attr(test, schemars(regex(pattern = "^function$")))]
    r#type: String,
    /// What it is.
    pub(super) function: CompletionFunction,
}

/// What a tool is.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct CompletionFunction {
    /// Its name.
    pub(super) name: String,
    /// What it does, for the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<String>,
    /// JSON schema of its arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) parameters: Option<Value>,
    /// Its arguments always fit their schema, where the model can be held to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) strict: Option<bool>,
}

/// `POST /v1/chat/completions`.
pub(crate) async fn create(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let request = read(&call)?;
    if request.model == models::AGENT { agent::answer(app, &call, request).await } else { plain::answer(app, &call, request).await }
}

impl ChatCompletionRequest {
    /// Usage is wanted at the end of a stream.
    pub(super) fn include_usage(&self) -> bool {
        self.stream_options.as_ref().and_then(|options| options.include_usage).unwrap_or(false)
    }

    /// What holds for every model.
    fn check(&self) -> Result<(), HttpError> {
        let Some(last) = self.messages.last() else {
            return Err(HttpError::bad_request("messages is empty").param("messages"));
        };
        if self.n.is_some_and(|n| n != 1) {
            return Err(HttpError::bad_request("only one choice is made; leave `n` out").param("n"));
        }
        if self.functions.as_ref().is_some_and(|functions| !functions.is_null()) {
            return Err(HttpError::bad_request("`functions` is not taken; use `tools`").param("functions"));
        }
        for (at, tool) in self.tools.iter().flatten().enumerate() {
            if tool.r#type != "function" {
                return Err(HttpError::bad_request("only tools of the type `function` are taken").param(format!("tools[{at}].type")));
            }
        }
        let at = self.messages.len() - 1;
        let size = last.text(at)?.len();
        if size > CONTENT_BYTES_MAX {
            let text = format!("the last message has {size} bytes; at most {CONTENT_BYTES_MAX} are taken");
            let error = HttpError::new(ErrorStatus::PayloadTooLarge, "payload_too_large", text);
            return Err(error.param(format!("messages[{at}].content")));
        }
        Ok(())
    }
}

impl CompletionMessage {
    /// The text of the `at`th message; 400 for what is no text.
    pub(super) fn text(&self, at: usize) -> Result<String, HttpError> {
        match &self.content {
            None => Ok(String::new()),
            Some(Content::Text(text)) => Ok(text.clone()),
            Some(Content::Parts(parts)) => {
                let mut texts = Vec::with_capacity(parts.len());
                for (part, n) in parts.iter().zip(0..) {
                    match &part.text {
                        Some(text) if part.r#type == "text" => texts.push(text.as_str()),
                        _ => {
                            let error = HttpError::bad_request("only parts of the type `text` are taken here");
                            return Err(error.param(format!("messages[{at}].content[{n}]")));
                        }
                    }
                }
                Ok(texts.concat())
            }
        }
    }
}

/// The body; another shape is 400 here, as at OpenAI, with the field in `param`.
fn read(call: &Call) -> Result<ChatCompletionRequest, HttpError> {
    if !crate::api::is_json(&call.headers) {
        let public = "the body must be JSON (Content-Type: application/json)";
        return Err(HttpError::new(ErrorStatus::UnsupportedMediaType, "media_type", public));
    }
    let wrong = |bad| match bad {
        BadJson::Shape { place, what } if place.is_empty() => HttpError::bad_request(what),
        BadJson::Shape { place, what } => HttpError::bad_request(format!("field `{place}`: {what}")).param(place),
        other => other.into(),
    };
    let mut request: ChatCompletionRequest = json::parse(call.body.bytes(), JSON_DEPTH_MAX).map_err(wrong)?;
    request.check()?;
    if request.model != models::AGENT {
        request.more = json::parse(call.body.bytes(), JSON_DEPTH_MAX).map_err(wrong)?;
    }
    Ok(request)
}

#[cfg(test)]
pub(super) mod shapes {
    use schemars::{Schema, SchemaGenerator, json_schema};

    use super::ChatCompletionRequest;
    use crate::api::shapes::Shapes;

    pub(in crate::api::v1) fn add(all: &mut Shapes) {
        all.takes::<ChatCompletionRequest>("ChatCompletionRequest");
    }

    pub(super) fn refused(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "null"})
    }

    pub(super) fn tool_choice(_: &mut SchemaGenerator) -> Schema {
        let name = json_schema!({"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}});
        json_schema!({"anyOf": [{"type": "null"}, {"enum": ["auto", "none", "required"]},
            {"type": "object", "required": ["function"], "properties": {"function": name}}]})
    }

    pub(super) fn response_format(_: &mut SchemaGenerator) -> Schema {
        let of = json_schema!({"type": "object", "required": ["schema"], "properties": {"name": {"type": ["string", "null"]},
            "description": {"type": ["string", "null"]}, "strict": {"type": ["boolean", "null"]}, "schema": {"type": "object"}}});
        json_schema!({"anyOf": [{"type": "null"},
            {"type": "object", "required": ["type"], "properties": {"type": {"enum": ["text", "json_object"]}}},
            {"type": "object", "required": ["type", "json_schema"], "properties": {"type": {"const": "json_schema"}, "json_schema": of}}]})
    }
}
