//! JSON-RPC 2.0 as the Model Context Protocol uses it: one message, or a batch of them, each way.

use serde_json::{Map, Value, json};

use crate::base::limits::{JSON_DEPTH_MAX, MCP_BATCH_MAX};
use crate::wire::json;

/// The text was no JSON.
pub const PARSE_ERROR: i64 = -32700;
/// It is JSON but no message.
pub const INVALID_REQUEST: i64 = -32600;
/// There is no such method.
pub const METHOD_NOT_FOUND: i64 = -32601;
/// The method does not take these parameters.
pub const INVALID_PARAMS: i64 = -32602;
/// The other side failed.
pub const INTERNAL_ERROR: i64 = -32603;

/// Longest id that is a text, in bytes: it is repeated in the answer.
pub const ID_BYTES_MAX: usize = 256;

/// The id of a request: what the answer repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Id {
    /// A whole number.
    Number(i64),
    /// A text of at most [`ID_BYTES_MAX`].
    Text(String),
}

/// One message.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// Wants an answer.
    Request {
        /// Its id.
        id: Id,
        /// What is asked.
        method: String,
        /// With what; empty where nothing was given.
        params: Map<String, Value>,
    },
    /// Wants no answer.
    Notification {
        /// What is told.
        method: String,
        /// With what.
        params: Map<String, Value>,
    },
    /// An answer.
    Success {
        /// Of the request with this id.
        id: Id,
        /// What came of it.
        result: Value,
    },
    /// A request failed.
    Failure {
        /// The request's id; none where it could not be read.
        id: Option<Id>,
        /// One of the codes of the specification, or the server's own.
        code: i64,
        /// In words; the other side's, so not to be trusted.
        message: String,
    },
}

/// The bytes are no message; the code says how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadMessage(pub i64);

/// Reads a message or a batch of at most [`MCP_BATCH_MAX`]. Total; bounded in depth.
pub fn parse(bytes: &[u8]) -> Result<Vec<Message>, BadMessage> {
    let value: Value = json::parse(bytes, JSON_DEPTH_MAX).map_err(|_| BadMessage(PARSE_ERROR))?;
    match value {
        Value::Array(items) if !items.is_empty() && items.len() <= MCP_BATCH_MAX => items.into_iter().map(one).collect(),
        value => Ok(vec![one(value)?]),
    }
}

/// A request's bytes.
pub fn request(id: i64, method: &str, params: &Value) -> Vec<u8> {
    written(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
}

/// A notification's bytes.
pub fn notification(method: &str, params: &Value) -> Vec<u8> {
    written(&json!({"jsonrpc": "2.0", "method": method, "params": params}))
}

/// An answer's bytes.
pub fn success(id: &Id, result: &Value) -> Vec<u8> {
    written(&json!({"jsonrpc": "2.0", "id": id.value(), "result": result}))
}

/// The bytes of an answer to a request that failed.
pub fn refusal(id: &Id, code: i64, message: &str) -> Vec<u8> {
    written(&json!({"jsonrpc": "2.0", "id": id.value(), "error": {"code": code, "message": message}}))
}

impl Id {
    /// As it stands in a message.
    pub fn value(&self) -> Value {
        match self {
            Self::Number(n) => (*n).into(),
            Self::Text(text) => text.as_str().into(),
        }
    }

    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Number(n) => n.as_i64().or_else(|| json::whole(n.as_f64()?)).map(Self::Number),
            Value::String(text) if text.len() <= ID_BYTES_MAX => Some(Self::Text(text.clone())),
            _ => None,
        }
    }
}

fn one(value: Value) -> Result<Message, BadMessage> {
    const BAD: BadMessage = BadMessage(INVALID_REQUEST);
    let Value::Object(mut fields) = value else { return Err(BAD) };
    if fields.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Err(BAD);
    }
    let id = match fields.get("id") {
        None | Some(Value::Null) => None,
        Some(id) => Some(Id::read(id).ok_or(BAD)?),
    };
    if let Some(method) = fields.remove("method") {
        let Value::String(method) = method else { return Err(BAD) };
        let params = match fields.remove("params") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(params)) => params,
            // The protocol has no parameters by position.
            Some(_) => return Err(BAD),
        };
        return Ok(match id {
            Some(id) => Message::Request { id, method, params },
            None if fields.contains_key("id") => return Err(BAD),
            None => Message::Notification { method, params },
        });
    }
    if let Some(error) = fields.get("error") {
        let code = error.get("code").and_then(Value::as_i64).ok_or(BAD)?;
        let message = error.get("message").and_then(Value::as_str).unwrap_or_default().to_owned();
        return Ok(Message::Failure { id, code, message });
    }
    match (id, fields.remove("result")) {
        (Some(id), Some(result)) => Ok(Message::Success { id, result }),
        _ => Err(BAD),
    }
}

fn written(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart() {
        let read = |text: &str| parse(text.as_bytes());
        let number = Id::Number(7);
        assert_eq!(
            parse(&request(7, "ping", &json!({}))).unwrap(),
            [Message::Request { id: number.clone(), method: "ping".into(), params: Map::new() }]
        );
        assert_eq!(parse(&notification("n", &json!({}))).unwrap(), [Message::Notification { method: "n".into(), params: Map::new() }]);
        assert_eq!(parse(&success(&number, &json!([1]))).unwrap(), [Message::Success { id: number.clone(), result: json!([1]) }]);
        assert_eq!(parse(&refusal(&number, -1, "x")).unwrap(), [Message::Failure { id: Some(number), code: -1, message: "x".into() }]);
        for (text, code) in [
            ("", PARSE_ERROR),
            ("not json", PARSE_ERROR),
            ("[]", INVALID_REQUEST),
            ("5", INVALID_REQUEST),
            (r#"{"id":1,"method":"a"}"#, INVALID_REQUEST),
            (r#"{"jsonrpc":"1.0","id":1,"method":"a"}"#, INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":null,"method":"a"}"#, INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":1.5,"method":"a"}"#, INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":1,"method":"a","params":[1]}"#, INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":1}"#, INVALID_REQUEST),
        ] {
            assert_eq!(read(text), Err(BadMessage(code)), "{text}");
        }
        let deep = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}{}}}", "[".repeat(70), "]".repeat(70));
        assert_eq!(read(&deep), Err(BadMessage(PARSE_ERROR)));
        assert!(read(&format!("[{}1]", "1,".repeat(100))).is_err());
    }
}
