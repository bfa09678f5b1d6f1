//! An error as a client sees it: a status that can only be an error, a public text that helps, a private one for the log.

use std::borrow::Cow;

use hyper::StatusCode;
use hyper::header::{self, HeaderName, HeaderValue};

use crate::http::{Body, Response};

/// A status that can only be an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorStatus {
    /// 400
    BadRequest,
    /// 401
    Unauthorized,
    /// 403
    Forbidden,
    /// 404
    NotFound,
    /// 405
    MethodNotAllowed,
    /// 408
    RequestTimeout,
    /// 409
    Conflict,
    /// 413
    PayloadTooLarge,
    /// 414
    UriTooLong,
    /// 415
    UnsupportedMediaType,
    /// 412
    PreconditionFailed,
    /// 417
    ExpectationFailed,
    /// 421
    MisdirectedRequest,
    /// 422
    Unprocessable,
    /// 426
    UpgradeRequired,
    /// 429
    TooManyRequests,
    /// 431
    HeaderFieldsTooLarge,
    /// 500
    Internal,
    /// 502
    BadGateway,
    /// 503
    Unavailable,
    /// 504
    GatewayTimeout,
    /// 507
    InsufficientStorage,
}

impl ErrorStatus {
    /// The number on the wire.
    pub fn code(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Conflict => StatusCode::CONFLICT,
            Self::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            Self::ExpectationFailed => StatusCode::EXPECTATION_FAILED,
            Self::MisdirectedRequest => StatusCode::MISDIRECTED_REQUEST,
            Self::Unprocessable => StatusCode::UNPROCESSABLE_ENTITY,
            Self::UpgradeRequired => StatusCode::UPGRADE_REQUIRED,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::HeaderFieldsTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::BadGateway => StatusCode::BAD_GATEWAY,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::GatewayTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::InsufficientStorage => StatusCode::INSUFFICIENT_STORAGE,
        }
    }
}

/// An answer that is an error.
#[derive(Debug)]
pub struct HttpError {
    /// Its status.
    pub status: ErrorStatus,
    /// One word for the log, as `not_found`; stable.
    pub code: &'static str,
    /// What the client reads in `{"error":…}`. Never an internal text, a secret or content.
    pub public: Cow<'static, str>,
    /// The field of the request that is at fault, as `messages[2].content`; OpenAI's shape of errors has a place for it.
    pub param: Option<String>,
    /// What the log gets besides; never content, a secret or a prompt.
    pub private: Option<String>,
    /// Further header fields (`Retry-After`, `Allow` …).
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// No body at all (API A1: 401, 429, and the routes that say so).
    pub empty: bool,
    /// The connection ends after this answer: what follows on it cannot be trusted or was not read.
    pub close: bool,
}

impl HttpError {
    /// An error with its public text.
    pub fn new(status: ErrorStatus, code: &'static str, public: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, public: public.into(), param: None, private: None, headers: Vec::new(), empty: false, close: false }
    }
    /// 400 with this text.
    pub fn bad_request(public: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorStatus::BadRequest, "bad_request", public)
    }
    /// 404 with this text.
    pub fn not_found(public: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorStatus::NotFound, "not_found", public)
    }
    /// 409 with this text.
    pub fn conflict(public: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorStatus::Conflict, "conflict", public)
    }
    /// 422 with this text.
    pub fn unprocessable(public: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorStatus::Unprocessable, "unprocessable", public)
    }
    /// 500: the client learns nothing, the log gets the text.
    pub fn internal(private: impl Into<String>) -> Self {
        Self::new(ErrorStatus::Internal, "internal", "internal error; the log has it under this request id").private(private)
    }
    /// With a text for the log.
    pub fn private(mut self, text: impl Into<String>) -> Self {
        self.private = Some(text.into());
        self
    }
    /// With the field that is at fault.
    pub fn param(mut self, place: impl Into<String>) -> Self {
        self.param = Some(place.into());
        self
    }
    /// With another word for the log.
    pub fn code(mut self, code: &'static str) -> Self {
        self.code = code;
        self
    }
    /// With a further header field.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }
    /// With `Retry-After` (RFC 9110 §10.2.3), in whole seconds, at least one.
    pub fn retry_after(self, secs: u64) -> Self {
        self.header(header::RETRY_AFTER, HeaderValue::from(secs.max(1)))
    }
    /// Without a body.
    pub fn empty(mut self) -> Self {
        self.empty = true;
        self
    }
    /// The connection ends after this answer.
    pub fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// The answer on the wire.
    pub fn into_response(self) -> Response {
        let text = || serde_json::Value::String(self.public.clone().into_owned());
        let json = (!self.empty).then(|| format!("{{\"error\":{}}}", text()));
        self.into_response_with(json)
    }

    /// The same answer with a body in another shape, or without one.
    pub fn into_response_with(self, json: Option<String>) -> Response {
        let is_json = json.is_some();
        let mut response = Response::new(json.map_or_else(Body::empty, Body::full));
        *response.status_mut() = self.status.code();
        let headers = response.headers_mut();
        if is_json {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        for (name, value) in self.headers {
            headers.append(name, value);
        }
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
