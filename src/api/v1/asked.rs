//! What is asked of the plain model, in the engine's terms; what only OpenAI's language can say goes along as it came.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};

use crate::api::v1::completions::{
    ChatCompletionRequest, CompletionCall, CompletionMessage, LOGIT_BIAS_MAX, LOGIT_BIASES_MAX, PENALTY_MAX, STOPS_MAX, Stop,
    TEMPERATURE_MAX, TOP_LOGPROBS_MAX,
};
use crate::http::error::HttpError;
use crate::llm::Plain;
use crate::llm::request::{Message, Request, Sampling, Schema, ToolCall, ToolChoice, ToolSpec};

/// The request in the engine's terms.
pub(super) fn asked(request: &ChatCompletionRequest) -> Result<Request, HttpError> {
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
                let call = |call: &CompletionCall| ToolCall {
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
    for (name, value) in [("max_completion_tokens", request.max_completion_tokens), ("max_tokens", request.max_tokens)] {
        // To the engine none is "as many as are configured".
        if value == Some(0) {
            return Err(HttpError::bad_request(format!("{name}: expected at least 1; without it engine.max_tokens holds")).param(name));
        }
    }
    let (choice, tools) = tools(request)?;
    let mut written = written(request)?;
    let told = request.messages.iter().enumerate().map(|(at, message)| as_it_came(message, message.text(at)?));
    written.insert("messages".to_owned(), told.collect::<Result<_, _>>()?);
    Ok(Request {
        system: system.join("\n\n"),
        messages,
        tools,
        tool_choice: choice,
        sampling: sampling(request)?,
        schema: schema(&written),
        max_tokens: request.max_completion_tokens.or(request.max_tokens).unwrap_or(0),
        plain: Some(Plain(written)),
        ..Request::default()
    })
}

/// A message in OpenAI's words. Parts of a text are one text, as not every server reads parts.
fn as_it_came(message: &CompletionMessage, text: String) -> Result<Value, HttpError> {
    let calls = message.tool_calls.as_ref().filter(|calls| !calls.is_empty());
    // What says nothing beside its calls is null: templates of some models would write an empty text.
    let content = if text.is_empty() && calls.is_some() { Value::Null } else { text.into() };
    let mut told = Map::from_iter([("role".to_owned(), message.role.as_str().into()), ("content".to_owned(), content)]);
    for (name, value) in [
        ("name", &message.name),
        ("tool_call_id", &message.tool_call_id),
        ("refusal", &message.refusal),
        ("reasoning_content", &message.reasoning_content),
    ] {
        told.extend(value.as_ref().map(|value| (name.to_owned(), value.as_str().into())));
    }
    let call = |call: &CompletionCall| {
        // llama.cpp answers 500 to arguments that are no JSON, for instance cut off by a token limit.
        let is_object = serde_json::from_str::<BTreeMap<String, IgnoredAny>>(&call.function.arguments).is_ok();
        let arguments = if is_object { call.function.arguments.as_str() } else { "{}" };
        json!({"id": call.id, "type": "function", "function": {"name": call.function.name, "arguments": arguments}})
    };
    told.extend(calls.map(|calls| ("tool_calls".to_owned(), calls.iter().map(call).collect())));
    Ok(told.into())
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

/// The fields that a server of OpenAI's language gets as they came: all that it may read, and nothing else.
fn written(request: &ChatCompletionRequest) -> Result<Map<String, Value>, HttpError> {
    let wrong = |name: &'static str, text: String| Err(HttpError::bad_request(text).param(name));
    for (name, value) in [("presence_penalty", request.presence_penalty), ("frequency_penalty", request.frequency_penalty)] {
        if value.is_some_and(|value| !(-PENALTY_MAX..=PENALTY_MAX).contains(&value)) {
            return wrong(name, format!("{name}: expected -{PENALTY_MAX} to {PENALTY_MAX}"));
        }
    }
    if request.logit_bias.as_ref().is_some_and(|biases| biases.len() > LOGIT_BIASES_MAX) {
        return wrong("logit_bias", format!("logit_bias: at most {LOGIT_BIASES_MAX} tokens are taken"));
    }
    if request.logit_bias.iter().flatten().any(|(_, bias)| !(-LOGIT_BIAS_MAX..=LOGIT_BIAS_MAX).contains(bias)) {
        return wrong("logit_bias", format!("logit_bias: expected -{LOGIT_BIAS_MAX} to {LOGIT_BIAS_MAX}"));
    }
    if request.top_logprobs.is_some_and(|most| most > TOP_LOGPROBS_MAX) {
        return wrong("top_logprobs", format!("top_logprobs: at most {TOP_LOGPROBS_MAX}"));
    }
    if request.top_logprobs.is_some() && request.logprobs != Some(true) {
        return wrong("top_logprobs", "top_logprobs needs `logprobs`: true".to_owned());
    }
    if request
        .reasoning_effort
        .as_ref()
        .is_some_and(|word| word.is_empty() || word.len() > 16 || !word.bytes().all(|b| b.is_ascii_lowercase()))
    {
        return wrong("reasoning_effort", "reasoning_effort: expected a word such as `low`".to_owned());
    }
    let all = json!({
        "seed": request.seed,
        "presence_penalty": request.presence_penalty,
        "frequency_penalty": request.frequency_penalty,
        "logit_bias": request.logit_bias,
        "logprobs": request.logprobs,
        "top_logprobs": request.top_logprobs,
        "parallel_tool_calls": request.parallel_tool_calls,
        "reasoning_effort": request.reasoning_effort,
        "tools": request.tools.as_ref().filter(|tools| !tools.is_empty()),
        "tool_choice": request.tool_choice.as_ref().map(tool_choice),
        "response_format": format(request.response_format.as_ref())?,
    });
    let Value::Object(mut fields) = all else { return Ok(Map::new()) };
    fields.retain(|_, value| !value.is_null());
    fields.extend(request.more.0.clone());
    Ok(fields)
}

/// Checked in [`tools`]: a word, or a function's name.
fn tool_choice(choice: &Value) -> Value {
    match choice.pointer("/function/name") {
        Some(name) => json!({"type": "function", "function": {"name": name}}),
        None => choice.clone(),
    }
}

/// The form of the answer, of the parts that OpenAI has; null where none is wanted.
fn format(format: Option<&Value>) -> Result<Value, HttpError> {
    let Some(format) = format.filter(|format| !format.is_null()) else { return Ok(Value::Null) };
    let wrong = |text: &'static str| HttpError::bad_request(text).param("response_format");
    match format.get("type").and_then(Value::as_str) {
        Some("text") => Ok(json!({"type": "text"})),
        Some("json_object") => Ok(json!({"type": "json_object"})),
        Some("json_schema") => {
            let part = |name: &str| format.get("json_schema").and_then(|schema| schema.get(name)).filter(|part| !part.is_null());
            let text = |part: Option<&Value>| part.is_none_or(Value::is_string);
            if !part("schema").is_some_and(Value::is_object) {
                return Err(wrong("response_format.json_schema.schema: expected a JSON schema"));
            }
            if !text(part("name")) || !text(part("description")) || !part("strict").is_none_or(Value::is_boolean) {
                return Err(wrong("response_format.json_schema: name and description are texts, strict is true or false"));
            }
            let mut schema = Map::from_iter([("name".to_owned(), part("name").cloned().unwrap_or_else(|| "answer".into()))]);
            for name in ["description", "schema", "strict"] {
                schema.extend(part(name).map(|part| (name.to_owned(), part.clone())));
            }
            Ok(json!({"type": "json_schema", "json_schema": schema}))
        }
        _ => Err(wrong("response_format: expected text, json_object or json_schema")),
    }
}

/// The same schema for models that are held to one in another way.
fn schema(written: &Map<String, Value>) -> Option<Schema> {
    let of = written.get("response_format")?.get("json_schema")?;
    Some(Schema { name: of.get("name")?.as_str()?.to_owned(), schema: of.get("schema")?.clone() })
}
