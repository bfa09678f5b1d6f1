//! `POST /mcp`: the agent as a tool server of the Model Context Protocol (streamable HTTP). Without sessions of its own: each
//! request stands for itself and brings its key, so there is nothing to steal or to resume. GET and DELETE are 405, as the
//! protocol allows. Conversations are named by `session_id`, as everywhere.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde_json::{Map, Value, json};

use crate::api::chat::{self, End, Said};
use crate::api::{App, Call, is_json};
use crate::base::limits::{CONTENT_BYTES_MAX, HITS_MAX, PAGE_MAX};
use crate::base::log;
use crate::http::error::{ErrorStatus, HttpError};
use crate::http::{Body, Response};
use crate::middleware::auth::{Caller, Ends, Scope, require};
use crate::wire::json::whole;
use crate::wire::json_rpc::{self, Message};

/// Versions of the protocol that are spoken alike here; the first one is offered where a client asks for another. That of March 2025 is
/// none of them: its servers must take batches.
pub(super) const VERSIONS: [&str; 2] = ["2025-06-18", "2025-11-25"];

/// A JSON-RPC request or notification.
#[cfg(test)]
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[expect(dead_code, reason = "only its schema is of use")]
struct McpMessage {
    /// `2.0`.
    #[schemars(regex(pattern = r"^2\.0$"))]
    jsonrpc: String,
    /// The request's id; absent in a notification.
    #[serde(default)]
    #[schemars(with = "McpId")]
    id: Value,
    /// `initialize`, `ping`, `tools/list`, `tools/call`, or a notification.
    method: String,
    /// What the method takes.
    params: Option<Map<String, Value>>,
}

/// The id of a request.
#[cfg(test)]
#[derive(schemars::JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its schema is of use")]
enum McpId {
    Number(#[schemars(range(min = i64::MIN, max = i64::MAX))] i64),
    Text(#[schemars(length(max = json_rpc::ID_BYTES_MAX))] String),
}

/// A JSON-RPC answer.
#[cfg(test)]
#[derive(serde::Serialize, schemars::JsonSchema)]
struct McpAnswer {
    /// `2.0`.
    jsonrpc: String,
    /// The request's id.
    id: Value,
    /// What came of it, where it went well.
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Map<String, Value>>,
    /// Why it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Map<String, Value>>,
}

/// A request that failed.
enum Refused {
    /// JSON-RPC's code and a public text.
    Rpc(i64, &'static str),
    /// The caller's key ended meanwhile: that is between it and the server, no matter for a model.
    Key(HttpError),
}

/// `POST /mcp`.
pub(crate) async fn message(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let caller = call.caller()?;
    if !is_json(&call.headers) {
        let public = "the body must be JSON (Content-Type: application/json)";
        return Err(HttpError::new(ErrorStatus::UnsupportedMediaType, "media_type", public));
    }
    let version = call.headers.get("mcp-protocol-version");
    if version.is_some_and(|version| !VERSIONS.iter().any(|known| version == known)) {
        return Err(HttpError::bad_request(format!("MCP-Protocol-Version: spoken here are {}", VERSIONS.join(", "))));
    }
    let Ok(messages) = json_rpc::parse(call.body.bytes()) else {
        return Err(HttpError::bad_request("the body is no JSON-RPC 2.0 message"));
    };
    let Ok([message]) = <[Message; 1]>::try_from(messages) else {
        return Err(HttpError::bad_request("send one message at a time"));
    };
    let (id, method, params) = match message {
        Message::Request { id, method, params } => (id, method, params),
        // Nothing that a client can tell changes anything here; what it cancels goes on as a session that it can cancel.
        Message::Notification { .. } | Message::Success { .. } | Message::Failure { .. } => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::ACCEPTED;
            return Ok(response);
        }
    };
    let bytes = match respond(&app, (caller, &call.ends), &method, params).await {
        Ok(result) => json_rpc::success(&id, &result),
        Err(Refused::Rpc(code, text)) => json_rpc::refusal(&id, code, text),
        Err(Refused::Key(error)) => return Err(error),
    };
    let mut response = Response::new(Body::full(bytes));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// What these routes take and answer.
#[cfg(test)]
pub(super) fn shapes(all: &mut crate::api::shapes::Shapes) {
    all.takes::<McpMessage>("McpMessage");
    all.answers::<McpAnswer>("McpAnswer");
}

async fn respond(app: &Arc<App>, (caller, ends): (&Caller, &Ends), method: &str, params: Map<String, Value>) -> Result<Value, Refused> {
    match method {
        "initialize" => Ok(initialize(&params)),
        "ping" => Ok(json!({})),
        "tools/list" => Ok(json!({"tools": tools(caller)})),
        "tools/call" => {
            let name = params.get("name").and_then(Value::as_str).unwrap_or_default();
            let arguments = match params.get("arguments") {
                None | Some(Value::Null) => Map::new(),
                Some(Value::Object(arguments)) => arguments.clone(),
                Some(_) => return Err(Refused::Rpc(json_rpc::INVALID_PARAMS, "`arguments` must be an object")),
            };
            let done = match name {
                "ask" => ask(app, (caller, ends), arguments).await,
                "search_memory" => search_memory(app, caller, &arguments).await,
                "list_sessions" => list_sessions(app, caller, &arguments).await,
                _ => return Err(Refused::Rpc(json_rpc::INVALID_PARAMS, "there is no such tool; tools/list names them")),
            };
            done.or_else(|error| {
                if error.status == ErrorStatus::Unauthorized {
                    return Err(Refused::Key(error));
                }
                Ok(failed(&error, None))
            })
        }
        _ => Err(Refused::Rpc(json_rpc::METHOD_NOT_FOUND, "this method is not offered here")),
    }
}

fn initialize(params: &Map<String, Value>) -> Value {
    let asked = params.get("protocolVersion").and_then(Value::as_str).unwrap_or_default();
    let version = VERSIONS.iter().find(|known| **known == asked).unwrap_or(&VERSIONS[0]);
    json!({
        "protocolVersion": version,
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "oxios-edge", "version": env!("CARGO_PKG_VERSION")},
        "instructions": "An agent with memory, files and skills of its own. `ask` talks to it; give `session_id` again to go on.",
    })
}

/// What this caller may call.
fn tools(caller: &Caller) -> Vec<Value> {
    let limit = |most: usize| json!({"type": "integer", "minimum": 1, "maximum": most});
    let ask = json!({
        "name": "ask",
        "description": "Sends a message to the agent and waits for its answer.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "content": {"type": "string", "minLength": 1, "maxLength": CONTENT_BYTES_MAX, "description": "The message."},
                "session_id": {"type": "string", "description": "The conversation to go on with, from an earlier answer."},
            },
            "required": ["content"],
            "additionalProperties": false,
        },
    });
    let search = json!({
        "name": "search_memory",
        "description": "Finds what the agent remembers, best first.",
        "inputSchema": {
            "type": "object",
            "properties": {"query": {"type": "string", "minLength": 1}, "limit": limit(HITS_MAX)},
            "required": ["query"],
            "additionalProperties": false,
        },
        "annotations": {"readOnlyHint": true},
    });
    let sessions = json!({
        "name": "list_sessions",
        "description": "Lists the newest conversations with the agent.",
        "inputSchema": {"type": "object", "properties": {"limit": limit(PAGE_MAX)}, "additionalProperties": false},
        "annotations": {"readOnlyHint": true},
    });
    let rows = [(Scope::Chat, ask), (Scope::Read, search), (Scope::Read, sessions)];
    rows.into_iter().filter(|(scope, _)| caller.may(*scope)).map(|(_, tool)| tool).collect()
}

async fn ask(app: &Arc<App>, (caller, ends): (&Caller, &Ends), arguments: Map<String, Value>) -> Result<Value, HttpError> {
    require(caller, Scope::Chat)?;
    only(&arguments, &["content", "session_id"])?;
    let said: Said = serde_json::from_value(Value::Object(arguments))
        .map_err(|_| HttpError::bad_request("expected `content` and perhaps `session_id`, both texts"))?;
    let incoming = said.check(caller, "mcp", "default".to_owned())?;
    let submitted = chat::submit(app, incoming).await?;
    let session = submitted.session.id();
    let end = match chat::wait(app, &submitted, ends).await {
        Ok(end) => end,
        Err(error) if error.status == ErrorStatus::Unauthorized => return Err(error),
        // Where it can be read on, and asked again.
        Err(error) => return Ok(failed(&error, Some(json!({"session_id": session, "status": "failed"})))),
    };
    match end {
        End::Done(ending) => Ok(said_and_shown(&ending.text, &json!({"reply": ending.text, "session_id": session, "status": "done"}))),
        End::Asked(record) => {
            app.gateway.parked(submitted.id).await;
            let text = "A person has to approve a tool first; the answer will be in the session then.";
            let approval = chat::question(&record).get("id").cloned();
            Ok(said_and_shown(text, &json!({"session_id": session, "status": "approval_required", "approval_id": approval})))
        }
        End::Cut(ending) => {
            let error = chat::cut(&app.books, caller.budget(), &ending);
            Ok(failed(&error, Some(json!({"session_id": session, "status": "failed"}))))
        }
    }
}

async fn search_memory(app: &Arc<App>, caller: &Caller, arguments: &Map<String, Value>) -> Result<Value, HttpError> {
    require(caller, Scope::Read)?;
    only(arguments, &["query", "limit"])?;
    let query = arguments.get("query").and_then(Value::as_str).filter(|query| (1..=CONTENT_BYTES_MAX).contains(&query.len()));
    let query = query.ok_or_else(|| HttpError::bad_request("expected `query`, a text"))?;
    let hits = app.memory.recall(caller.owner(), query, limit(arguments, 10, HITS_MAX)?).await?;
    let entry = |hit: &crate::rooms::memory::Hit| {
        let entry = &hit.entry;
        json!({"id": entry.id, "type": entry.category.memory_type(), "content": entry.content, "created_at": entry.created_at})
    };
    let entries: Vec<Value> = hits.iter().map(entry).collect();
    let text = hits.iter().map(|hit| format!("- {}", hit.entry.content)).collect::<Vec<_>>().join("\n");
    let text = if text.is_empty() { "(nothing remembered about this)".to_owned() } else { text };
    Ok(said_and_shown(&text, &json!({"entries": entries})))
}

async fn list_sessions(app: &Arc<App>, caller: &Caller, arguments: &Map<String, Value>) -> Result<Value, HttpError> {
    require(caller, Scope::Read)?;
    only(arguments, &["limit"])?;
    let page = app.sessions.list(caller.owner(), 1, limit(arguments, 20, PAGE_MAX)?).await?;
    let text = page.items.iter().map(|item| {
        let title = if item.title.is_empty() { String::new() } else { format!("{}, ", item.title) };
        format!("- {} ({title}{} messages, {})", item.id, item.message_count, item.updated_at)
    });
    let text = text.collect::<Vec<_>>().join("\n");
    let text = if text.is_empty() { "(no sessions)".to_owned() } else { text };
    Ok(said_and_shown(&text, &json!({"sessions": page.items, "total": page.total})))
}

/// A tool's result: the same for people and for programs.
fn said_and_shown(text: &str, shown: &Value) -> Value {
    json!({"content": [{"type": "text", "text": text}], "structuredContent": shown, "isError": false})
}

/// What a tool could not do: the protocol wants it where the model sees it.
fn failed(error: &HttpError, shown: Option<Value>) -> Value {
    if let Some(private) = &error.private {
        log::error("mcp", format_args!("a tool failed: {private}"));
    }
    let said = json!([{"type": "text", "text": error.public}]);
    match shown {
        Some(shown) => json!({"content": said, "structuredContent": shown, "isError": true}),
        None => json!({"content": said, "isError": true}),
    }
}

/// No argument has another name: what a tool does not know would be left out unsaid.
fn only(arguments: &Map<String, Value>, names: &[&str]) -> Result<(), HttpError> {
    match arguments.keys().all(|name| names.contains(&name.as_str())) {
        true => Ok(()),
        false => Err(HttpError::bad_request(format!("unknown argument; expected {}", names.join(", ")))),
    }
}

fn limit(arguments: &Map<String, Value>, default: usize, most: usize) -> Result<usize, HttpError> {
    let Some(wanted) = arguments.get("limit") else { return Ok(default) };
    // A whole number may be written with a point.
    let wanted = wanted.as_f64().and_then(whole).and_then(|n| usize::try_from(n).ok());
    let wanted = wanted.filter(|n| (1..=most).contains(n));
    wanted.ok_or_else(|| HttpError::bad_request(format!("`limit`: expected a whole number from 1 to {most}")))
}
