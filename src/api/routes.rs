//! The one table of routes: the router, the 405s, `oxios-edge routes` and the tests that walk every route are made from it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use hyper::Method;

use crate::api::{App, Call, approvals, chat, chat_socket, events, session_events, sessions, system, tickets};
use crate::base::limits::{CHAT_BODY_BYTES_MAX, JSON_BODY_BYTES_MAX};
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
    /// Any key, whatever its scopes.
    Key,
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
#[derive(Clone, Copy)]
pub struct Route {
    /// GET rows answer HEAD too.
    pub method: &'static Method,
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
    /// Query parameters that it knows.
    pub query: &'static [&'static str],
    /// The body it takes: the name of a type (see `shapes`), or a media type; empty where it takes none.
    pub takes: &'static str,
    /// What a success answers: its status, and the name of a type or a media type; empty for an empty body.
    pub answers: (u16, &'static str),
    /// What answers.
    pub handler: Handler,
}

/// A row with a handler of this module.
macro_rules! to {
    ($handler:path) => {
        |app, call| Box::pin($handler(app, call))
    };
}

const GET: &Method = &Method::GET;
const POST: &Method = &Method::POST;
const DELETE: &Method = &Method::DELETE;

const PUBLIC: Access = Access::Public;
const ANY_KEY: Access = Access::Key;
const READ: Access = Access::Scope(Scope::Read);
const CHAT: Access = Access::Scope(Scope::Chat);
const WRITE: Access = Access::Scope(Scope::Write);
const APPROVE: Access = Access::Scope(Scope::Approve);

/// Every route, area by area. A row says what is needed of every route; behind it stands what differs from a route without a
/// body that counts against its key's rate and is entered by `Authorization` alone.
pub static ROUTES: &[Route] = &[
    row(GET, "/health", PUBLIC, "The process answers", to!(system::health)).free().answers(200, "Health"),
    row(GET, "/health/ready", PUBLIC, "The server can do its work, or why not", to!(system::ready)).answers(200, "Ready"),
    row(GET, "/api/status", READ, "What runs, since when, in which state", to!(system::status)).answers(200, "Status"),
    row(POST, "/api/chat", CHAT, "Send a message and wait for its answer", to!(chat::chat))
        .body(CHAT_BODY_BYTES_MAX)
        .takes("ChatRequest")
        .answers(200, "ChatReply"),
    row(GET, "/api/chat/stream", CHAT, "WebSocket: messages in, their answers as they are made", to!(chat_socket::stream))
        .entered_by(Entry::Socket)
        .query(&["ticket", "token"])
        .answers(101, ""),
    row(POST, "/api/chat/ticket", ANY_KEY, "A one-time ticket for a WebSocket or an EventSource", to!(tickets::issue))
        .body(JSON_BODY_BYTES_MAX)
        .answers(200, "Ticket"),
    row(POST, "/api/chat/{id}/cancel", CHAT, "Stop the run of a message; what it has made is kept", to!(chat::cancel))
        .body(JSON_BODY_BYTES_MAX)
        .answers(200, "Cancelled"),
    row(GET, "/api/events", READ, "Server-sent events: what the kernel does", to!(events::events))
        .entered_by(Entry::Ticket)
        .query(&["ticket"])
        .answers(200, "text/event-stream"),
    row(GET, "/api/sessions", READ, "List sessions, newest first", to!(sessions::list))
        .query(&["page", "limit"])
        .answers(200, "SessionPage"),
    row(GET, "/api/sessions/{id}", READ, "One session with its messages and answers", to!(sessions::detail)).answers(200, "SessionDetail"),
    row(DELETE, "/api/sessions/{id}", WRITE, "Delete a session; what runs in it is cancelled first", to!(sessions::delete))
        .body(JSON_BODY_BYTES_MAX)
        .answers(200, "SessionDeleted"),
    row(POST, "/api/sessions/prune", WRITE, "Delete old sessions now, by the configured limits", to!(sessions::prune))
        .body(JSON_BODY_BYTES_MAX)
        .answers(200, "SessionsPruned"),
    row(GET, "/api/sessions/{id}/events", READ, "Server-sent events: the session's log, from any place on", to!(session_events::events))
        .entered_by(Entry::Ticket)
        .query(&["ticket", "after", "until"])
        .answers(200, "text/event-stream"),
    row(GET, "/api/approvals", READ, "Questions to a person, open and decided", to!(approvals::list)).answers(200, "Approvals"),
    row(POST, "/api/approvals/{id}/approve", APPROVE, "Let a waiting tool run", to!(approvals::approve))
        .body(JSON_BODY_BYTES_MAX)
        .answers(200, "Decided"),
    row(POST, "/api/approvals/{id}/reject", APPROVE, "Keep a waiting tool from running", to!(approvals::reject))
        .body(JSON_BODY_BYTES_MAX)
        .answers(200, "Decided"),
];

const fn row(method: &'static Method, path: &'static str, access: Access, summary: &'static str, handler: Handler) -> Route {
    Route {
        method,
        path,
        access,
        summary,
        handler,
        entry: Entry::Header,
        body_max: 0,
        class: RateClass::Counted,
        query: &[],
        takes: "",
        answers: (200, ""),
    }
}

impl Route {
    const fn entered_by(self, entry: Entry) -> Self {
        Self { entry, ..self }
    }
    const fn body(self, body_max: usize) -> Self {
        Self { body_max, ..self }
    }
    const fn free(self) -> Self {
        Self { class: RateClass::Free, ..self }
    }
    const fn query(self, query: &'static [&'static str]) -> Self {
        Self { query, ..self }
    }
    const fn takes(self, takes: &'static str) -> Self {
        Self { takes, ..self }
    }
    const fn answers(self, status: u16, shape: &'static str) -> Self {
        Self { answers: (status, shape), ..self }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "public",
            Self::Key => "any key",
            Self::Scope(Scope::Read) => "read",
            Self::Scope(Scope::Chat) => "chat",
            Self::Scope(Scope::Write) => "write",
            Self::Scope(Scope::Approve) => "approve",
            Self::Scope(Scope::Admin) => "admin",
        })
    }
}
