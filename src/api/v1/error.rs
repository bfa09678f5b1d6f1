//! Errors as OpenAI's clients read them: `{"error":{"message","type","param","code"}}`, also in the middle of a stream.

use serde::Serialize;

use crate::api::v1::models;
use crate::base::log;
use crate::http::Response;
use crate::http::error::{ErrorStatus, HttpError};
use crate::llm::{Kind, LlmError};

/// The body.
#[derive(Serialize)]
struct Refusal<'a> {
    error: Inner<'a>,
}

#[derive(Serialize)]
struct Inner<'a> {
    message: &'a str,
    r#type: &'static str,
    param: Option<&'a str>,
    code: &'static str,
}

/// The whole answer, with the error's own status and header fields.
pub(crate) fn response(error: HttpError) -> Response {
    let json = body(&error);
    error.into_response_with(Some(json))
}

/// The body alone; what is private stays out of it.
pub(super) fn body(error: &HttpError) -> String {
    let message = match (&*error.public, error.status) {
        ("", ErrorStatus::Unauthorized) => "a valid API key is needed: Authorization: Bearer <key>",
        ("", _) => "the request was refused",
        (public, _) => public,
    };
    let kind = match error.status {
        ErrorStatus::Unauthorized => "authentication_error",
        ErrorStatus::Forbidden => "permission_error",
        ErrorStatus::TooManyRequests => "rate_limit_error",
        status if status.code().is_server_error() => "server_error",
        _ => "invalid_request_error",
    };
    let refusal = Refusal { error: Inner { message, r#type: kind, param: error.param.as_deref(), code: error.code } };
    serde_json::to_string(&refusal).unwrap_or_default()
}

/// The same for a stream that has begun: nobody else logs what is private then.
pub(super) fn in_stream(error: &HttpError) -> String {
    if let Some(private) = &error.private {
        log::error("v1", format_args!("a stream broke off: {}: {private}", error.code));
    }
    body(error)
}

/// A failed model call.
pub(super) fn of_model(error: LlmError) -> HttpError {
    let retry = error.retry_after;
    let (status, code) = match error.kind {
        Kind::RateLimited => (ErrorStatus::TooManyRequests, "model_rate_limited"),
        Kind::BadRequest => (ErrorStatus::BadRequest, "model_refused"),
        Kind::ContextTooLong => (ErrorStatus::BadRequest, "context_length_exceeded"),
        Kind::Stalled => (ErrorStatus::GatewayTimeout, "model_stalled"),
        Kind::Cancelled(_) => (ErrorStatus::Unavailable, "cancelled"),
        Kind::NotFound(_) => return models::unknown().private(error.private),
        Kind::Unreachable | Kind::Refused | Kind::Server | Kind::Broken | Kind::TooLarge | Kind::Garbage => {
            (ErrorStatus::BadGateway, "model")
        }
    };
    let public = HttpError::new(status, code, error.public).private(error.private);
    match retry {
        Some(wait) => public.retry_after(wait.as_secs()),
        None => public,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_kind_it_is_and_keeps_its_private_text() {
        let error = HttpError::bad_request("no").param("messages[0].content").private("secret");
        let text = r#"{"error":{"message":"no","type":"invalid_request_error","param":"messages[0].content","code":"bad_request"}}"#;
        assert_eq!(body(&error), text);
        let error = HttpError::new(ErrorStatus::Unauthorized, "unauthorized", "").empty();
        assert!(body(&error).contains(r#""type":"authentication_error","param":null"#) && body(&error).contains("Bearer"));
        assert_eq!(response(error).status().as_u16(), 401);
        assert!(body(&HttpError::internal("secret")).contains("server_error"));
    }
}
