//! What goes wrong between us and a model, in words that help and never repeat a prompt or a key.
//!
//! A server's own error text is read to find out what it means and then dropped: such texts quote prompts, and some quote keys.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::base::cancel::Why;
use crate::http::client::{ClientError, Stage};

/// What kind of failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// No connection.
    Unreachable,
    /// The key is missing, wrong, or not allowed to do this (401, 403).
    Refused,
    /// Too much asked in too short a time, or the quota is used up (429).
    RateLimited,
    /// The server does not understand the request (400, 422 …), or a setting of ours makes no sense.
    BadRequest,
    /// The conversation is longer than the model's context.
    ContextTooLong,
    /// The server does not know this model, or there is nothing at this address (404).
    NotFound(String),
    /// The server failed (5xx).
    Server,
    /// No first byte, or no further byte, in time.
    Stalled,
    /// The stream ended without its end marker.
    Broken,
    /// The answer is larger than allowed in one piece.
    TooLarge,
    /// What came is not what the protocol says.
    Garbage,
    /// Stopped by us.
    Cancelled(Why),
}

impl Kind {
    /// The model may have read what it was asked; otherwise its server was not there or refused, and counts no tokens.
    pub(crate) fn is_begun(&self) -> bool {
        matches!(self, Self::Stalled | Self::Broken | Self::TooLarge | Self::Garbage | Self::Cancelled(_))
    }
}

/// A failed model call.
#[derive(Debug, Clone)]
pub struct LlmError {
    /// What kind.
    pub kind: Kind,
    /// A sentence for the user that says what to do.
    pub public: String,
    /// The cause, for the log; no content.
    pub private: String,
    /// How long the server asks us to wait (`Retry-After`).
    pub retry_after: Option<Duration>,
    /// The server could not read the model's tool call: without tools it would not have tried.
    pub(crate) blames_tools: bool,
}

impl fmt::Display for LlmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.public)
    }
}

impl std::error::Error for LlmError {}

/// What a decoder found wrong in an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// Not what the protocol says; the text says where.
    Garbage(&'static str),
    /// More than is kept of one event or one tool call.
    TooLarge,
    /// It ended without its end marker.
    Cut,
    /// The server reports an error inside the stream: its error object.
    Said(Value),
}

impl LlmError {
    /// An error without a wish to wait.
    pub fn new(kind: Kind, public: impl Into<String>, private: impl Into<String>) -> Self {
        Self { kind, public: public.into(), private: private.into(), retry_after: None, blames_tools: false }
    }

    /// Stopped for this reason.
    pub(crate) fn cancelled(why: Why) -> Self {
        Self::new(Kind::Cancelled(why), "the model call was stopped", "cancelled")
    }

    /// The same request may work in a moment: true where nothing reached the model or the server excused itself.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self.kind, Kind::Unreachable | Kind::RateLimited | Kind::Server | Kind::Broken)
    }

    /// A failure of the connection. `model` is `provider/model`.
    pub(crate) fn from_client(model: &str, e: &ClientError) -> Self {
        let (kind, what) = match e.stage {
            Stage::Resolve => (Kind::Unreachable, "the host name of its server has no address; check engine.base_url and the network"),
            Stage::Connect => (Kind::Unreachable, "its server cannot be reached; check that it runs and that engine.base_url is right"),
            Stage::Tls => (Kind::Unreachable, "no secure connection to its server; check engine.base_url and the clock of this machine"),
            Stage::FirstByteTimeout => (Kind::Stalled, "its server took too long to begin an answer"),
            Stage::StallTimeout => (Kind::Stalled, "its server stopped in the middle of the answer"),
            Stage::Broken => (Kind::Broken, "the connection to its server broke before the answer was complete"),
            Stage::TooLarge => (Kind::TooLarge, "its server sent more than is accepted"),
            Stage::Redirected => (
                Kind::NotFound(model.to_owned()),
                "its server redirects elsewhere, which is not followed; set engine.base_url to the final address",
            ),
            Stage::Request => (Kind::BadRequest, "its server cannot be asked; check engine.base_url (https needs a build with TLS)"),
        };
        Self::new(kind, format!("model `{model}`: {what}"), e.private.clone())
    }

    /// An answer that is not 2xx. `model` is `provider/model`, `body` the beginning of the answer's body.
    pub(crate) fn from_status(model: &str, status: u16, body: &[u8], retry_after: Option<Duration>) -> Self {
        let said = Said::read(body);
        let (kind, what) = match status {
            401 | 403 => (
                Kind::Refused,
                format!("its server refused the API key (HTTP {status}); set engine.api_key or the provider's environment variable"),
            ),
            402 => (Kind::RateLimited, "the provider's account has no credit left".to_owned()),
            429 if said.is("insufficient_quota") => {
                (Kind::RateLimited, "the provider's quota is used up; look at its billing page".to_owned())
            }
            429 => (Kind::RateLimited, format!("the provider's rate limit is reached{}", wait(retry_after))),
            413 => too_long(),
            400..=499 if said.is_context() => too_long(),
            404 if !said.is_model() => (
                Kind::NotFound(model.to_owned()),
                "there is no model server at that address (HTTP 404); engine.base_url must end with the version segment, such as /v1"
                    .to_owned(),
            ),
            400..=499 if said.is_model() => (
                Kind::NotFound(model.to_owned()),
                "its server does not know this model; `oxios-edge doctor` lists the ones it has".to_owned(),
            ),
            408 | 409 | 425 => (Kind::Server, format!("its server was not ready (HTTP {status})")),
            400..=499 => (Kind::BadRequest, format!("its server did not accept the request (HTTP {status})")),
            // llama.cpp answers 500 to a prompt that does not fit in some versions.
            _ if said.is_context() => too_long(),
            _ => (Kind::Server, format!("its server failed (HTTP {status}){}", wait(retry_after))),
        };
        let words = said.known_words();
        // llama.cpp, of a small model's malformed tool call.
        let blames_tools = said.is("does not match the expected");
        let (public, private) = (format!("model `{model}`: {what}"), format!("{model}: HTTP {status}{words}"));
        Self { kind, public, private, retry_after, blames_tools }
    }

    /// A fault inside an answer.
    pub(crate) fn from_fault(model: &str, fault: &Fault) -> Self {
        let (kind, what, private) = match fault {
            Fault::Said(object) => {
                let said = Said::of(object);
                // The status a server would have answered had it known in time.
                let status = if said.is("rate_limit_error") { 429 } else { object.get("code").and_then(Value::as_u64).unwrap_or(500) };
                let status = u16::try_from(status).ok().filter(|s| (400..=599).contains(s)).unwrap_or(500);
                return Self::from_status(model, status, object.to_string().as_bytes(), None);
            }
            Fault::Garbage(place) => (Kind::Garbage, "its server sent something that is not an answer of this protocol", *place),
            Fault::TooLarge => (Kind::TooLarge, "its server sent more than is accepted", "event or tool call too large"),
            Fault::Cut => (Kind::Broken, "its answer ended before it was complete", "no end marker"),
        };
        Self::new(kind, format!("model `{model}`: {what}"), format!("{model}: {private}"))
    }
}

fn too_long() -> (Kind, String) {
    let what = "the conversation is longer than its context; begin a new session, or lower engine.context_tokens to what the server has";
    (Kind::ContextTooLong, what.to_owned())
}

fn wait(retry_after: Option<Duration>) -> String {
    retry_after.map(|d| format!("; it asks to wait {} s", d.as_secs())).unwrap_or_default()
}

/// What an error body says, in lower case. Never shown.
struct Said(String);

/// Words of error codes that may be logged; anything else in a body may be content.
const KNOWN: [&str; 21] = [
    "insufficient_quota",
    "invalid_api_key",
    "model_not_found",
    "context_length_exceeded",
    "exceed_context_size_error",
    "rate_limit_exceeded",
    "rate_limit_error",
    "overloaded_error",
    "authentication_error",
    "permission_error",
    "not_found_error",
    "request_too_large",
    "invalid_request_error",
    "api_error",
    "server_error",
    "unavailable_error",
    "unsupported_parameter",
    "unsupported_value",
    "max_completion_tokens",
    "response_format",
    "content_policy_violation",
];

impl Said {
    fn read(body: &[u8]) -> Self {
        match serde_json::from_slice::<Value>(body) {
            Ok(value) => Self::of(&value),
            Err(_) => Self(String::from_utf8_lossy(body.get(..4096).unwrap_or(body)).to_lowercase()),
        }
    }

    /// `{"error":{"message","type","code"}}` (OpenAI, Anthropic, llama.cpp), `{"error":"…"}` (Ollama), `{"message"}`, `{"detail"}` (vLLM), or the inner object alone.
    fn of(value: &Value) -> Self {
        let inner = value.get("error").unwrap_or(value);
        let mut all = String::new();
        for part in [Some(inner), inner.get("message"), inner.get("type"), inner.get("code"), inner.get("detail")].into_iter().flatten() {
            if let Some(text) = part.as_str() {
                all.push_str(text);
                all.push('\n');
            }
        }
        Self(all.to_lowercase())
    }

    fn is(&self, word: &str) -> bool {
        self.0.contains(word)
    }

    fn is_context(&self) -> bool {
        [
            "context_length",
            "exceed_context",
            "context length",
            "context size",
            "context window",
            "maximum context",
            "prompt is too long",
            "input is too long",
        ]
        .iter()
        .any(|w| self.is(w))
    }

    fn is_model(&self) -> bool {
        let missing =
            ["not found", "not_found", "does not exist", "no such", "unknown", "invalid model", "not available", "not a valid model"];
        self.is("model_not_found") || (self.is("model") && missing.iter().any(|w| self.is(w)))
    }

    fn known_words(&self) -> String {
        let words: Vec<_> = KNOWN.into_iter().filter(|w| self.is(w)).collect();
        if words.is_empty() { String::new() } else { format!(" ({})", words.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: u16, body: &str, kind: Kind, public: &str) {
        let e = LlmError::from_status("openai/m", status, body.as_bytes(), None);
        assert_eq!(e.kind, kind, "{body}");
        assert!(e.public.contains(public) && e.public.contains("openai/m"), "{}", e.public);
        for text in [&e.public, &e.private] {
            assert!(!text.contains("sk-secret") && !text.contains("PROMPT"), "{text}");
        }
    }

    fn unknown() -> Kind {
        Kind::NotFound("openai/m".into())
    }

    #[test]
    fn what_real_servers_answer_is_told_apart() {
        let key = r#"{"error":{"message":"Incorrect API key provided: sk-secret.","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#;
        check(401, key, Kind::Refused, "engine.api_key");
        check(401, r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}"#, Kind::Refused, "API key");
        check(
            404,
            r#"{"error":{"message":"The model `m` does not exist or you do not have access to it.","type":"invalid_request_error","code":"model_not_found"}}"#,
            unknown(),
            "does not know this model",
        );
        check(404, r#"{"error":{"message":"model 'm' not found","type":"api_error","param":null,"code":null}}"#, unknown(), "doctor");
        check(404, r#"{"type":"error","error":{"type":"not_found_error","message":"model: m"}}"#, unknown(), "doctor");
        check(404, "404 page not found", unknown(), "/v1");
        check(400, r#"{"error":{"code":400,"message":"model name invalid model","type":"invalid_request_error"}}"#, unknown(), "doctor");
        check(
            429,
            r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#,
            Kind::RateLimited,
            "quota",
        );
        check(429, "", Kind::RateLimited, "rate limit");
        check(
            400,
            r#"{"error":{"message":"This model's maximum context length is 8192 tokens. PROMPT","code":"context_length_exceeded"}}"#,
            Kind::ContextTooLong,
            "new session",
        );
        check(
            400,
            r#"{"error":{"code":400,"message":"the request exceeds the available context size, try increasing it","type":"exceed_context_size_error","n_prompt_tokens":9,"n_ctx":8}}"#,
            Kind::ContextTooLong,
            "context",
        );
        check(
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"}}"#,
            Kind::ContextTooLong,
            "context",
        );
        check(400, r#"{"error":"PROMPT cannot unmarshal"}"#, Kind::BadRequest, "400");
        check(503, r#"{"error":{"message":"Loading model","type":"unavailable_error","code":503}}"#, Kind::Server, "503");
        check(529, r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#, Kind::Server, "529");
        check(500, "\u{0}\u{ff}", Kind::Server, "500");
    }

    #[test]
    fn an_error_inside_a_stream_is_told_apart_too() {
        let said = |text: &str| LlmError::from_fault("anthropic/m", &Fault::Said(serde_json::from_str(text).unwrap())).kind;
        assert_eq!(said(r#"{"type":"overloaded_error","message":"Overloaded"}"#), Kind::Server);
        assert_eq!(said(r#"{"type":"rate_limit_error","message":"x"}"#), Kind::RateLimited);
        assert_eq!(said(r#"{"code":400,"message":"context size exceeded"}"#), Kind::ContextTooLong);
        assert_eq!(said(r#"{"code":99999999999}"#), Kind::Server);
        assert_eq!(said(r#""text""#), Kind::Server);
        let unread =
            serde_json::json!({"code": 500, "message": "The model produced output that does not match the expected peg-native format"});
        assert!(LlmError::from_fault("openai/m", &Fault::Said(unread)).blames_tools);
    }
}
