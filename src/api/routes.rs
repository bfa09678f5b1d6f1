//! The one table of routes: the router, the 405s, `oxios-edge routes` and the tests that walk every route are made from it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use hyper::Method;

use crate::api::{
    App, Call, Empty, agents, approvals, audit, chat, chat_socket, config, cron_jobs, engine, events, keys, login, mcp, mcp_servers,
    memory, metrics, personas, seeds, session_change, session_events, session_export, session_fork, session_import, sessions, skills,
    spaces, system, tickets, v1, workspace,
};
use crate::base::limits::{
    CHAT_BODY_BYTES_MAX, COMPLETION_BODY_BYTES_MAX, FILE_WRITE_BYTES_MAX, JSON_BODY_BYTES_MAX, LOGIN_BODY_BYTES_MAX, MEMORY_BODY_BYTES_MAX,
    SESSION_IMPORT_BYTES_MAX,
};
use crate::http::Response;
use crate::http::error::HttpError;
use crate::middleware::auth::Scope;
use crate::middleware::recorded::Recording;

/// What a handler is.
pub type Handler = fn(Arc<App>, Call) -> Pin<Box<dyn Future<Output = Result<Response, HttpError>> + Send>>;

/// Who may call a route. There is no default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody.
    Public,
    /// Any key, whatever its scopes.
    Key,
    /// A key with all of these scopes.
    Scopes(&'static [Scope]),
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
    /// Fields of the request's head that its handler heeds, besides those that say what every request is (credential, host, body).
    pub heeds: &'static [&'static str],
    /// The body it takes: the name of a type (see `shapes`), or a media type; empty where it takes none. What is sent to a row
    /// of API part A all the same is not looked at.
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
const PUT: &Method = &Method::PUT;
const PATCH: &Method = &Method::PATCH;
const DELETE: &Method = &Method::DELETE;

const PUBLIC: Access = Access::Public;
const ANY_KEY: Access = Access::Key;
const READ: Access = Access::Scopes(&[Scope::Read]);
const CHAT: Access = Access::Scopes(&[Scope::Chat]);
const WRITE: Access = Access::Scopes(&[Scope::Write]);
const WRITE_AND_CHAT: Access = Access::Scopes(&[Scope::Write, Scope::Chat]);
const APPROVE: Access = Access::Scopes(&[Scope::Approve]);
const ADMIN: Access = Access::Scopes(&[Scope::Admin]);

/// What a change goes out from (RFC 9110 §13.1).
const CONDITIONS: &[&str] = &["If-Match", "If-None-Match"];

/// Every route, area by area. A row says what is needed of every route; behind it stands what differs from a route without a
/// body that counts against its key's rate and is entered by `Authorization` alone.
pub static ROUTES: &[Route] = &[
    row(GET, "/health", PUBLIC, "The process answers", to!(system::health)).free().answers(200, "Health"),
    row(GET, "/health/ready", PUBLIC, "The server can do its work, or why not", to!(system::ready)).answers(200, "Ready"),
    row(GET, "/api/status", READ, "What runs, since when, in which state", to!(system::status)).answers(200, "Status"),
    row(POST, "/api/chat", CHAT, "Send a message and wait for its answer", to!(chat::chat))
        .body(CHAT_BODY_BYTES_MAX)
        .takes("ChatRequest")
        .heeds(&["Idempotency-Key", "Prefer"])
        .answers(200, "ChatReply"),
    row(GET, "/api/chat/stream", CHAT, "WebSocket: messages in, their answers as they are made", to!(chat_socket::stream))
        .entered_by(Entry::Socket)
        .query(&["ticket", "token"])
        .answers(101, ""),
    row(POST, "/api/chat/ticket", ANY_KEY, "A one-time ticket for a WebSocket or an EventSource", to!(tickets::issue))
        .takes_nothing()
        .answers(200, "Ticket"),
    row(POST, "/api/chat/{id}/cancel", CHAT, "Stop the run of a message; what it has made is kept", to!(chat::cancel))
        .takes_nothing()
        .answers(200, "Cancelled"),
    row(GET, "/api/events", READ, "Server-sent events: what the kernel does", to!(events::events))
        .entered_by(Entry::Ticket)
        .query(&["ticket"])
        .heeds(&["Last-Event-ID"])
        .answers(200, "text/event-stream"),
    row(GET, "/api/sessions", READ, "List sessions or search them, newest first", to!(sessions::list))
        .query(&["page", "limit", "q", "space_id"])
        .answers(200, "SessionPage"),
    row(GET, "/api/sessions/{id}", READ, "One session with its messages and answers", to!(sessions::detail)).answers(200, "SessionDetail"),
    row(PATCH, "/api/sessions/{id}", WRITE, "Change a session's title, space or persona", to!(session_change::change))
        .body(JSON_BODY_BYTES_MAX)
        .takes("SessionChange")
        .answers(200, "SessionItem"),
    row(DELETE, "/api/sessions/{id}", WRITE, "Delete a session; what runs in it is cancelled first", to!(sessions::delete))
        .body(JSON_BODY_BYTES_MAX)
        .answers(200, "SessionDeleted"),
    row(POST, "/api/sessions/prune", WRITE, "Delete old sessions now, by the configured limits", to!(sessions::prune))
        .body(JSON_BODY_BYTES_MAX)
        .answers(200, "SessionsPruned"),
    row(POST, "/api/sessions/import", WRITE, "Make a session of an exported one", to!(session_import::import))
        .body(SESSION_IMPORT_BYTES_MAX)
        .takes("SessionImport")
        .answers(201, "SessionItem"),
    row(POST, "/api/sessions/{id}/fork", WRITE, "Another session that begins with the turns of this one", to!(session_fork::fork))
        .body(JSON_BODY_BYTES_MAX)
        .takes("SessionFork")
        .answers(201, "SessionItem"),
    row(GET, "/api/sessions/{id}/export", READ, "A session as a file: JSON or Markdown", to!(session_export::export))
        .query(&["format"])
        .answers(200, "SessionDetail"),
    row(GET, "/api/sessions/{id}/events", READ, "Server-sent events: the session's log, from any place on", to!(session_events::events))
        .entered_by(Entry::Ticket)
        .query(&["ticket", "after", "until"])
        .heeds(&["Last-Event-ID"])
        .answers(200, "text/event-stream"),
    row(GET, "/api/agents", READ, "Runs as agents, newest first", to!(agents::list)).query(&["page", "limit"]).answers(200, "AgentPage"),
    row(POST, "/api/agents/{id}/kill", CHAT, "Stop an agent: its model call and its tool", to!(agents::kill))
        .body(JSON_BODY_BYTES_MAX)
        .answers(200, ""),
    row(GET, "/api/seeds", READ, "Specifications of tasks, newest first", to!(seeds::list))
        .query(&["page", "limit"])
        .answers(200, "SeedPage"),
    row(GET, "/api/seeds/{id}", READ, "One specification", to!(seeds::detail)).answers(200, "SeedDetail"),
    row(GET, "/api/seeds/{id}/evolution", READ, "A specification and its repairs, with their scores", to!(seeds::evolution))
        .answers(200, "SeedEvolution"),
    row(GET, "/api/approvals", READ, "Questions to a person, open and decided", to!(approvals::list)).answers(200, "Approvals"),
    row(GET, "/api/approvals/{id}", READ, "One question, with exactly what would happen", to!(approvals::detail)).answers(200, "Approval"),
    row(POST, "/api/approvals/{id}/approve", APPROVE, "Let a waiting tool run", to!(approvals::approve))
        .body(JSON_BODY_BYTES_MAX)
        .answers(200, "Decided"),
    row(POST, "/api/approvals/{id}/reject", APPROVE, "Keep a waiting tool from running", to!(approvals::reject))
        .body(JSON_BODY_BYTES_MAX)
        .answers(200, "Decided"),
    row(GET, "/api/memory", READ, "List memories, newest first", to!(memory::list)).query(&["page", "limit"]).answers(200, "MemoryPage"),
    row(POST, "/api/memory", WRITE, "Keep a memory", to!(memory::create))
        .body(MEMORY_BODY_BYTES_MAX)
        .takes("NewMemory")
        .answers(200, "MemoryCreated"),
    row(POST, "/api/memory/search", READ, "Find memories by their words", to!(memory::search))
        .body(JSON_BODY_BYTES_MAX)
        .takes("MemoryQuery")
        .answers(200, "MemoryFound"),
    row(
        POST,
        "/api/memory/semantic",
        READ,
        "Find memories by words and, where an embedding model is set, by meaning",
        to!(memory::semantic),
    )
    .body(JSON_BODY_BYTES_MAX)
    .takes("MemoryQuery")
    .answers(200, "MemoryRanked"),
    row(GET, "/api/memory/{name}", READ, "One memory", to!(memory::detail)).answers(200, "MemoryDetail"),
    row(PATCH, "/api/memory/{name}", WRITE, "Change or pin a memory", to!(memory::change))
        .body(MEMORY_BODY_BYTES_MAX)
        .takes("MemoryChange")
        .answers(200, "MemoryDetail"),
    row(DELETE, "/api/memory/{name}", WRITE, "Forget a memory", to!(memory::delete)).takes_nothing().answers(200, "MemoryDeleted"),
    row(GET, "/api/skills", READ, "List skills, with what each needs", to!(skills::list))
        .query(&["page", "limit"])
        .answers(200, "SkillPage"),
    row(POST, "/api/skills", WRITE, "Write a skill", to!(skills::create))
        .body(CHAT_BODY_BYTES_MAX)
        .takes("NewSkill")
        .answers(200, "SkillCreated"),
    row(GET, "/api/skills/{name}", READ, "One skill", to!(skills::detail)).answers(200, "Skill"),
    row(DELETE, "/api/skills/{name}", WRITE, "Delete a skill with its files", to!(skills::delete))
        .body(JSON_BODY_BYTES_MAX)
        .answers(200, "SkillDeleted"),
    row(POST, "/api/skills/{name}/enable", WRITE, "Offer a skill to the model", to!(skills::enable))
        .body(JSON_BODY_BYTES_MAX)
        .answers(200, "SkillSwitched"),
    row(POST, "/api/skills/{name}/disable", WRITE, "Keep a skill from the model", to!(skills::disable))
        .body(JSON_BODY_BYTES_MAX)
        .answers(200, "SkillSwitched"),
    row(GET, "/api/skills/{name}/content", READ, "The text of a skill", to!(skills::content)).answers(200, "SkillContent"),
    row(GET, "/api/personas", READ, "List personas, oldest first", to!(personas::list))
        .query(&["page", "limit"])
        .answers(200, "PersonaPage"),
    row(POST, "/api/personas", WRITE, "Make a persona", to!(personas::create))
        .body(JSON_BODY_BYTES_MAX)
        .takes("PersonaText")
        .answers(201, "PersonaDetail"),
    row(GET, "/api/personas/active", READ, "The persona of new sessions", to!(personas::active)).answers(200, "ActivePersona"),
    row(PUT, "/api/personas/active", WRITE, "Choose the persona of new sessions, or none", to!(personas::set_active))
        .body(JSON_BODY_BYTES_MAX)
        .takes("PersonaChoice")
        .answers(200, "ActivePersona"),
    row(GET, "/api/personas/{id}", READ, "One persona", to!(personas::detail)).answers(200, "PersonaDetail"),
    row(PUT, "/api/personas/{id}", WRITE, "Replace a persona's texts", to!(personas::update))
        .body(JSON_BODY_BYTES_MAX)
        .takes("PersonaText")
        .answers(200, "PersonaDetail"),
    row(DELETE, "/api/personas/{id}", WRITE, "Delete a persona; sessions that have it go on without", to!(personas::delete))
        .takes_nothing()
        .answers(200, "PersonaDeleted"),
    row(GET, "/api/spaces", READ, "List spaces, oldest first", to!(spaces::list)).query(&["page", "limit"]).answers(200, "SpacePage"),
    row(POST, "/api/spaces", WRITE, "Make a space", to!(spaces::create))
        .body(JSON_BODY_BYTES_MAX)
        .takes("SpaceText")
        .answers(201, "SpaceDetail"),
    row(GET, "/api/spaces/current", READ, "The space of new sessions", to!(spaces::current)).answers(200, "CurrentSpace"),
    row(POST, "/api/spaces/merge", WRITE, "Make one space a part of another", to!(spaces::merge))
        .body(JSON_BODY_BYTES_MAX)
        .takes("SpaceMerge")
        .answers(200, "SpacesMerged"),
    row(GET, "/api/spaces/{id}", READ, "One space", to!(spaces::detail)).answers(200, "SpaceDetail"),
    row(PATCH, "/api/spaces/{id}", WRITE, "Change what a space is called and tells the model", to!(spaces::change))
        .body(JSON_BODY_BYTES_MAX)
        .takes("SpaceChange")
        .answers(200, "SpaceDetail"),
    row(DELETE, "/api/spaces/{id}", WRITE, "Delete an archived space; its sessions stay and go on without", to!(spaces::delete))
        .takes_nothing()
        .answers(200, "SpaceDeleted"),
    row(POST, "/api/spaces/{id}/activate", WRITE, "Make it the space of new sessions", to!(spaces::activate))
        .takes_nothing()
        .answers(200, "SpaceDetail"),
    row(POST, "/api/spaces/{id}/archive", WRITE, "Put a space away: it takes no messages", to!(spaces::archive))
        .takes_nothing()
        .answers(200, "SpaceDetail"),
    row(POST, "/api/spaces/{id}/restore", WRITE, "Take a space out again; a merged one is its own again", to!(spaces::restore))
        .takes_nothing()
        .answers(200, "SpaceDetail"),
    row(GET, "/api/config", ADMIN, "The configuration in force; secrets as ***", to!(config::show)).answers(200, "Config"),
    row(PUT, "/api/config", ADMIN, "Change the configuration: checked, kept in config.toml, in force", to!(config::change))
        .body(JSON_BODY_BYTES_MAX)
        .takes("ConfigChange")
        .answers(200, "ConfigChanged"),
    row(GET, "/api/config/keys", ADMIN, "Every key of the configuration: what it means and takes, and who sets it", to!(config::keys))
        .answers(200, "ConfigKeys"),
    row(GET, "/api/engine/providers", READ, "Providers of models, and which are configured", to!(engine::providers))
        .answers(200, "EngineProviders"),
    row(GET, "/api/engine/models", READ, "The models that a provider offers now", to!(engine::models))
        .query(&["provider"])
        .answers(200, "EngineModels"),
    row(GET, "/api/engine/config", READ, "Settings of the models; secrets as ***", to!(engine::config)).answers(200, "EngineConfig"),
    row(PUT, "/api/engine/model", ADMIN, "Another default model; it is tried first", to!(engine::set_model))
        .body(JSON_BODY_BYTES_MAX)
        .takes("NewModel")
        .answers(200, "EngineChanged"),
    row(PUT, "/api/engine/api-key", ADMIN, "Another key for the default model's provider; it is tried first", to!(engine::set_key))
        .body(JSON_BODY_BYTES_MAX)
        .takes("NewEngineKey")
        .answers(200, "EngineChanged"),
    row(POST, "/api/engine/validate-key", ADMIN, "Ask a provider whether it takes a key", to!(engine::validate_key))
        .body(JSON_BODY_BYTES_MAX)
        .takes("KeyToTry")
        .answers(200, "KeyTried"),
    row(GET, "/api/cron-jobs", READ, "List scheduled tasks, oldest first", to!(cron_jobs::list))
        .query(&["page", "limit"])
        .answers(200, "CronJobPage"),
    row(POST, "/api/cron-jobs", WRITE_AND_CHAT, "Send a message to the agent by the clock", to!(cron_jobs::create))
        .body(JSON_BODY_BYTES_MAX)
        .takes("NewCronJob")
        .answers(201, "CronJob"),
    row(GET, "/api/cron-jobs/{id}", READ, "One scheduled task and its last runs", to!(cron_jobs::detail)).answers(200, "CronJob"),
    row(PATCH, "/api/cron-jobs/{id}", WRITE_AND_CHAT, "Change a scheduled task", to!(cron_jobs::change))
        .body(JSON_BODY_BYTES_MAX)
        .takes("CronJobChange")
        .answers(200, "CronJob"),
    row(DELETE, "/api/cron-jobs/{id}", WRITE, "Delete a scheduled task; its sessions stay", to!(cron_jobs::delete))
        .takes_nothing()
        .answers(200, "CronJobDeleted"),
    row(POST, "/api/cron-jobs/{id}/trigger", CHAT, "Run a scheduled task now", to!(cron_jobs::trigger))
        .takes_nothing()
        .answers(200, "CronJobTriggered"),
    row(GET, "/api/openapi.json", READ, "This interface as an OpenAPI 3.1 document", to!(crate::api::openapi::document))
        .answers(200, "application/json"),
    row(GET, "/api/keys", ADMIN, "Your keys: ids, names, scopes; never their text", to!(keys::list))
        .query(&["page", "limit"])
        .answers(200, "KeyPage"),
    row(POST, "/api/keys", ADMIN, "Make a key; its text is shown this once", to!(keys::create))
        .body(JSON_BODY_BYTES_MAX)
        .takes("NewKey")
        .answers(201, "KeyMade"),
    row(DELETE, "/api/keys/{id}", ADMIN, "Revoke a key; its open streams end within a second, keys that it made go on", to!(keys::revoke))
        .takes_nothing()
        .answers(200, "KeyRevoked"),
    row(POST, "/api/keys/{id}/rotate", ADMIN, "A new key with the same rights; the old one goes on for a while", to!(keys::rotate))
        .body(JSON_BODY_BYTES_MAX)
        .takes("Rotation")
        .answers(201, "KeyMade"),
    row(GET, "/api/login", PUBLIC, "Whether this browser is logged in, and what it may do", to!(login::state)).answers(200, "LoginState"),
    row(POST, "/api/login", PUBLIC, "A key or a one-time code for a browser's cookie", to!(login::login))
        .body(LOGIN_BODY_BYTES_MAX)
        .takes("LoginRequest")
        .answers(200, "LoggedIn"),
    row(POST, "/api/login/code", ANY_KEY, "A one-time code for a login with this key's rights", to!(login::code))
        .takes_nothing()
        .answers(200, "LoginCode"),
    row(POST, "/api/logout", ANY_KEY, "End this browser's login", to!(login::logout)).takes_nothing().answers(200, "LoggedOut"),
    row(GET, "/api/audit/entries", ADMIN, "Your own records of the audit log, newest first", to!(audit::entries))
        .query(&["page", "limit", "what", "key", "on", "outcome"])
        .answers(200, "AuditPage"),
    row(GET, "/api/audit/verify", ADMIN, "Whether the audit log is whole", to!(audit::check)).query(&["head"]).answers(200, "AuditVerdict"),
    row(POST, "/api/audit/export", ADMIN, "Your own records of the audit log, one JSON object a line", to!(audit::export))
        .takes_nothing()
        .answers(200, "application/x-ndjson"),
    row(GET, "/metrics", READ, "Numbers of the process as Prometheus text", to!(metrics::text)).answers(200, "text/plain"),
    row(GET, "/api/metrics", READ, "The same numbers as JSON", to!(metrics::list)).answers(200, "MetricList"),
    row(GET, "/api/mcp/servers", READ, "The configured tool servers, and how the caller's do", to!(mcp_servers::list))
        .answers(200, "McpServers"),
    row(POST, "/mcp", ANY_KEY, "The agent as an MCP server: ask, search_memory, list_sessions", to!(mcp::message))
        .body(CHAT_BODY_BYTES_MAX)
        .takes("McpMessage")
        .heeds(&["MCP-Protocol-Version"])
        .answers(200, "McpAnswer"),
    row(GET, "/v1/models", ANY_KEY, "OpenAI-compatible: `oxios`, the agent, and what the providers offer", to!(v1::models::list))
        .answers(200, "ModelList"),
    row(GET, "/v1/models/{*model}", ANY_KEY, "OpenAI-compatible: one of these; its name may have slashes", to!(v1::models::detail))
        .answers(200, "ModelEntry"),
    row(POST, "/v1/chat/completions", CHAT, "OpenAI-compatible: the agent, or the plain model", to!(v1::completions::create))
        .body(COMPLETION_BODY_BYTES_MAX)
        .takes("ChatCompletionRequest")
        .heeds(&["Idempotency-Key"])
        .answers(200, "ChatCompletion"),
    row(GET, "/api/workspace/tree", READ, "What a directory of the caller's files holds", to!(workspace::tree))
        .query(&["dir"])
        .answers(200, "Tree"),
    row(GET, "/api/workspace/file/{*path}", READ, "A file", to!(workspace::read)).heeds(&["If-None-Match"]).answers(200, "*/*"),
    row(PUT, "/api/workspace/file/{*path}", WRITE, "Write a file whole, with its directories", to!(workspace::write))
        .body(FILE_WRITE_BYTES_MAX)
        .heeds(CONDITIONS)
        .takes("*/*"),
    row(POST, "/api/workspace/file/{*path}", WRITE, "Make an empty file or a directory", to!(workspace::create))
        .body(JSON_BODY_BYTES_MAX)
        .takes("NewFile")
        .answers(200, "FileDone"),
    row(DELETE, "/api/workspace/file/{*path}", WRITE, "Delete a file or an empty directory", to!(workspace::delete))
        .body(JSON_BODY_BYTES_MAX)
        .heeds(CONDITIONS)
        .answers(200, "FileDone"),
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
        heeds: &[],
        takes: "",
        answers: (200, ""),
    }
}

/// Paths whose POST only reads.
const READING: [&str; 2] = ["/api/memory/search", "/api/memory/semantic"];
/// Areas in which a change is recorded before it is made, whatever its method: who may do what, what runs, what people decided.
const GRAVE: [&str; 7] = ["/api/keys", "/api/config", "/api/engine", "/api/approvals", "/api/agents", "/api/sessions/prune", "/api/skills"];

impl Route {
    /// How the audit log records it: whatever may change something is recorded, by this rule alone.
    pub fn recording(&self) -> Recording {
        if *self.method == Method::GET || READING.contains(&self.path) {
            Recording::No
        } else if *self.method == Method::DELETE || GRAVE.iter().any(|area| self.path.starts_with(area)) {
            Recording::Both
        } else {
            Recording::After
        }
    }
    /// Its place in [`ROUTES`].
    pub fn place(&'static self) -> usize {
        let offset = std::ptr::from_ref(self).addr().saturating_sub(ROUTES.as_ptr().addr());
        (offset / size_of::<Self>()).min(ROUTES.len())
    }
    const fn entered_by(self, entry: Entry) -> Self {
        Self { entry, ..self }
    }
    const fn body(self, body_max: usize) -> Self {
        Self { body_max, ..self }
    }
    /// A row of ours that needs no body: some clients send an empty one of JSON with everything.
    const fn takes_nothing(self) -> Self {
        self.body(JSON_BODY_BYTES_MAX).takes(Empty::NAME)
    }
    const fn free(self) -> Self {
        Self { class: RateClass::Free, ..self }
    }
    const fn query(self, query: &'static [&'static str]) -> Self {
        Self { query, ..self }
    }
    const fn heeds(self, heeds: &'static [&'static str]) -> Self {
        Self { heeds, ..self }
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
        match self {
            Self::Public => f.write_str("public"),
            Self::Key => f.write_str("any key"),
            Self::Scopes(scopes) => {
                for (i, scope) in scopes.iter().enumerate() {
                    f.write_str(if i > 0 { ", " } else { "" })?;
                    f.write_str(scope.name())?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_may_change_something_is_recorded() {
        for row in ROUTES {
            let recorded = row.recording() != Recording::No;
            assert_eq!(recorded, *row.method != Method::GET && !READING.contains(&row.path), "{} {}", row.method, row.path);
            if *row.method == Method::DELETE || row.path.starts_with("/api/keys") && recorded {
                assert_eq!(row.recording(), Recording::Both, "{} {}", row.method, row.path);
            }
            assert!(std::ptr::eq(&ROUTES[row.place()], row));
        }
    }
}
