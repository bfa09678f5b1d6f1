//! The OpenAPI 3.1 document: what the route table and the named types say, written down. A test makes it from them and from the keys
//! of the configuration, and compares (`config/shape.rs`); `REWRITE=1 cargo test --lib openapi` writes it anew. The server only hands
//! it out.

use std::sync::Arc;

use hyper::header::{self, HeaderValue};

use crate::api::{App, Call};
use crate::http::error::HttpError;
use crate::http::{Body, Response};

/// The document.
pub const DOCUMENT: &str = include_str!("openapi.json");

/// `GET /api/openapi.json`.
pub(crate) async fn document(_app: Arc<App>, _call: Call) -> Result<Response, HttpError> {
    let mut response = Response::new(Body::full(DOCUMENT));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

#[cfg(test)]
pub(crate) mod written;
