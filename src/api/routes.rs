//! The one table of routes: the router, the 405s, `oxios-edge routes` and the tests that walk every route are made from it.

use std::pin::Pin;
use std::sync::Arc;

use hyper::Method;

use crate::api::{App, Call};
use crate::http::Response;
use crate::http::error::HttpError;
use crate::middleware::auth::Scope;

/// What a handler is.
pub type Handler = fn(Arc<App>, Call) -> Pin<Box<dyn Future<Output = Result<Response, HttpError>> + Send>>;

/// Who may call a route. There is no default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody.
    Public,
    /// A key with this scope.
    Scope(Scope),
}

/// How a route counts against a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateClass {
    /// Not counted.
    Free,
    /// One unit of its key's (else its peer's) budget.
    Counted,
}

/// How else than by `Authorization` a route may be entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Not at all.
    Header,
    /// Also by `?ticket=`: EventSource cannot set a header.
    Ticket,
    /// Also by `?ticket=`, and `?token=` as `security.query_token` says; an upgrade.
    Socket,
}

/// One row.
pub struct Route {
    /// GET rows answer HEAD too.
    pub method: Method,
    /// Path with `{parameters}`.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
    /// How else it may be entered.
    pub entry: Entry,
    /// Largest body in bytes; 0 refuses any body.
    pub body_max: usize,
    /// How it counts.
    pub class: RateClass,
    /// What it does, in a few words.
    pub summary: &'static str,
    /// What answers.
    pub handler: Handler,
}

/// Every route.
pub static ROUTES: &[Route] = &[];
