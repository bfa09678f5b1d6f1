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
pub static ROUTES: &[Route] = &[
    Route {
        method: Method::GET,
        path: "/health",
        access: Access::Public,
        entry: Entry::Header,
        body_max: 0,
        class: RateClass::Free,
        summary: "The process answers",
        handler: |app, call| Box::pin(system::health(app, call)),
    },
    Route {
        method: Method::GET,
        path: "/health/ready",
        access: Access::Public,
        entry: Entry::Header,
        body_max: 0,
        class: RateClass::Counted,
        summary: "The server can do its work, or why not",
        handler: |app, call| Box::pin(system::ready(app, call)),
    },
    Route {
        method: Method::GET,
        path: "/api/status",
        access: Access::Scope(Scope::Read),
        entry: Entry::Header,
        body_max: 0,
        class: RateClass::Counted,
        summary: "What runs, since when, in which state",
        handler: |app, call| Box::pin(system::status(app, call)),
    },
    Route {
        method: Method::POST,
        path: "/api/chat",
        access: Access::Scope(Scope::Chat),
        entry: Entry::Header,
        body_max: CHAT_BODY_BYTES_MAX,
        class: RateClass::Counted,
        summary: "Send a message and wait for its answer",
        handler: |app, call| Box::pin(chat::chat(app, call)),
    },
    Route {
        method: Method::GET,
        path: "/api/chat/stream",
        access: Access::Scope(Scope::Chat),
        entry: Entry::Socket,
        body_max: 0,
        class: RateClass::Counted,
        summary: "WebSocket: messages in, their answers as they are made",
        handler: |app, call| Box::pin(chat_socket::stream(app, call)),
    },
    Route {
        method: Method::POST,
        path: "/api/chat/ticket",
        access: Access::Key,
        entry: Entry::Header,
        body_max: JSON_BODY_BYTES_MAX,
        class: RateClass::Counted,
        summary: "A one-time ticket for a WebSocket or an EventSource",
        handler: |app, call| Box::pin(tickets::issue(app, call)),
    },
    Route {
        method: Method::POST,
        path: "/api/chat/{id}/cancel",
        access: Access::Scope(Scope::Chat),
        entry: Entry::Header,
        body_max: JSON_BODY_BYTES_MAX,
        class: RateClass::Counted,
        summary: "Stop the run of a message; what it has made is kept",
        handler: |app, call| Box::pin(chat::cancel(app, call)),
    },
    Route {
        method: Method::GET,
        path: "/api/events",
        access: Access::Scope(Scope::Read),
        entry: Entry::Ticket,
        body_max: 0,
        class: RateClass::Counted,
        summary: "Server-sent events: what the kernel does",
        handler: |app, call| Box::pin(events::events(app, call)),
    },
    Route {
        method: Method::GET,
        path: "/api/sessions",
        access: Access::Scope(Scope::Read),
        entry: Entry::Header,
        body_max: 0,
        class: RateClass::Counted,
        summary: "List sessions, newest first",
        handler: |app, call| Box::pin(sessions::list(app, call)),
    },
    Route {
        method: Method::GET,
        path: "/api/sessions/{id}",
        access: Access::Scope(Scope::Read),
        entry: Entry::Header,
        body_max: 0,
        class: RateClass::Counted,
        summary: "One session with its messages and answers",
        handler: |app, call| Box::pin(sessions::detail(app, call)),
    },
    Route {
        method: Method::DELETE,
        path: "/api/sessions/{id}",
        access: Access::Scope(Scope::Write),
        entry: Entry::Header,
        body_max: JSON_BODY_BYTES_MAX,
        class: RateClass::Counted,
        summary: "Delete a session; what runs in it is cancelled first",
        handler: |app, call| Box::pin(sessions::delete(app, call)),
    },
    Route {
        method: Method::POST,
        path: "/api/sessions/prune",
        access: Access::Scope(Scope::Write),
        entry: Entry::Header,
        body_max: JSON_BODY_BYTES_MAX,
        class: RateClass::Counted,
        summary: "Delete old sessions now, by the configured limits",
        handler: |app, call| Box::pin(sessions::prune(app, call)),
    },
    Route {
        method: Method::GET,
        path: "/api/sessions/{id}/events",
        access: Access::Scope(Scope::Read),
        entry: Entry::Ticket,
        body_max: 0,
        class: RateClass::Counted,
        summary: "Server-sent events: the session's log, from any place on",
        handler: |app, call| Box::pin(session_events::events(app, call)),
    },
    Route {
        method: Method::GET,
        path: "/api/approvals",
        access: Access::Scope(Scope::Read),
        entry: Entry::Header,
        body_max: 0,
        class: RateClass::Counted,
        summary: "Questions to a person, open and decided",
        handler: |app, call| Box::pin(approvals::list(app, call)),
    },
    Route {
        method: Method::POST,
        path: "/api/approvals/{id}/approve",
        access: Access::Scope(Scope::Approve),
        entry: Entry::Header,
        body_max: JSON_BODY_BYTES_MAX,
        class: RateClass::Counted,
        summary: "Let a waiting tool run",
        handler: |app, call| Box::pin(approvals::approve(app, call)),
    },
    Route {
        method: Method::POST,
        path: "/api/approvals/{id}/reject",
        access: Access::Scope(Scope::Approve),
        entry: Entry::Header,
        body_max: JSON_BODY_BYTES_MAX,
        class: RateClass::Counted,
        summary: "Keep a waiting tool from running",
        handler: |app, call| Box::pin(approvals::reject(app, call)),
    },
];

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
