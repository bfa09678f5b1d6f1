//! Floor 7: one file an area; routes.rs is the one table.

mod agents;
mod approvals;
mod attachments;
mod audit;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod bodies;
mod chat;
mod chat_socket;
pub mod config;
mod cron_jobs;
mod engine;
pub mod error;
mod events;
mod file_body;
mod keys;
mod login;
mod mcp;
mod mcp_servers;
mod memory;
mod metrics;
pub mod openapi;
mod personas;
pub mod router;
pub mod routes;
mod seeds;
mod session_change;
mod session_events;
mod session_export;
mod session_fork;
mod session_import;
mod sessions;
#[cfg(test)]
mod shapes;
pub(crate) mod site;
mod skills;
mod socket_follows;
mod socket_frames;
mod spaces;
mod system;
mod tickets;
pub(crate) mod v1;
mod workspace;

use std::sync::Arc;
use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::{self, HeaderValue};
use hyper::upgrade::OnUpgrade;
use serde::de::DeserializeOwned;

use crate::base::blocking;
use crate::base::cancel::Cancel;
use crate::base::ids::RequestId;
use crate::base::limits::{JSON_DEPTH_MAX, JSON_VALUES_MAX, PAGE_DEFAULT, PAGE_MAX};
use crate::base::live::Live;
use crate::base::metrics::Metrics;
use crate::base::random::Random;
use crate::base::time::Clock;
use crate::cron::Cron;
use crate::events::Events;
use crate::gateway::Gateway;
use crate::http::error::{ErrorStatus, HttpError};
use crate::http::peer::PeerKey;
use crate::http::{Body, Response};
use crate::llm::Engine;
use crate::middleware::auth::{Caller, Doorkeeper, Ends};
use crate::middleware::intake::Limited;
use crate::middleware::logins::Logins;
use crate::middleware::rate::Pace;
use crate::middleware::tickets::Tickets;
use crate::rooms::agents::Agents;
use crate::rooms::approvals::Approvals;
use crate::rooms::mcp::Mcp;
use crate::rooms::memory::Memory;
use crate::rooms::personas::Personas;
use crate::rooms::seeds::Seeds;
use crate::rooms::site::Site;
use crate::rooms::skills::Skills;
use crate::rooms::spaces::Spaces;
use crate::rooms::workspace::owners::Workspaces;
use crate::store::audit::Audit;
use crate::store::home::Home;
use crate::store::keys::{Books, Keys};
use crate::store::sessions::Sessions;
use crate::sys::landlock;
use crate::wire;
use crate::wire::query::Query;

/// What the API needs to know of the configuration; swapped whole while running.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// `session.max_sessions`, for the answer of prune; 0 is off.
    pub max_sessions: u64,
    /// `session.ttl_hours`, for the answer of prune; 0 is off.
    pub ttl_hours: u64,
    /// `security.max_execution_time_secs`: how long `POST /api/chat` waits.
    pub max_execution: Duration,
    /// `memory.enabled`.
    pub memory_enabled: bool,
    /// `security.auth_enabled`: a key is asked for.
    pub auth_enabled: bool,
    /// `gateway.base_path`: what stands before every path; empty, or `/` and names.
    pub base_path: String,
}

/// Everything a handler may use, built by `app`.
pub struct App {
    /// The home: room on disk.
    pub home: Arc<Home>,
    /// The audit log.
    pub audit: Arc<Audit>,
    /// Numbers of the process.
    pub metrics: Arc<Metrics>,
    /// API keys.
    pub keys: Arc<Keys>,
    /// Their token budgets.
    pub books: Arc<Books>,
    /// All sessions.
    pub sessions: Arc<Sessions>,
    /// Messages in.
    pub gateway: Arc<Gateway>,
    /// Scheduled tasks.
    pub cron: Arc<Cron>,
    /// Tool servers.
    pub mcp: Arc<Mcp>,
    /// Runs as agents.
    pub agents: Arc<Agents>,
    /// Specifications of tasks, and what came of them.
    pub seeds: Arc<Seeds>,
    /// Questions to a person.
    pub approvals: Arc<Approvals>,
    /// The event bus.
    pub events: Arc<Events>,
    /// What is remembered.
    pub memory: Arc<Memory>,
    /// The web page.
    pub site: Arc<Site>,
    /// Manners of speaking.
    pub personas: Arc<Personas>,
    /// What the agent was taught.
    pub skills: Arc<Skills>,
    /// What sessions belong to.
    pub spaces: Arc<Spaces>,
    /// Files of every owner.
    pub workspaces: Arc<Workspaces>,
    /// One-time tickets.
    pub tickets: Arc<Tickets>,
    /// Logged-in browsers.
    pub logins: Arc<Logins>,
    /// Checks credentials, here those of a login.
    pub doorkeeper: Arc<Doorkeeper>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Monotonic time of the start.
    pub started: Duration,
    /// `gateway.base_path` as the server was started with: what stands before every path; empty, or `/` and names.
    pub base_path: String,
    /// Whether the process is shut in.
    pub sandbox: landlock::State,
    /// Settings of the API.
    pub settings: Arc<Live<Settings>>,
    /// The configuration in force.
    pub configuration: Arc<dyn config::Configuration>,
    /// The models; swapped whole when the configuration changes.
    pub engine: Arc<Live<Engine>>,
    /// A place for each call of a plain model that may run at once; taken by `/v1` and given back when its answer has ended.
    pub plain_calls: Arc<tokio::sync::Semaphore>,
    /// Cancelled when the server stops.
    pub shutdown: Cancel,
    /// Cancelled when the server has stopped and every run has ended: streams last until then, so that whoever watches a
    /// running answer sees its end.
    pub drained: Cancel,
}

/// One request that passed every check.
pub struct Call {
    /// Who calls; none on public routes only.
    pub(crate) caller: Option<Caller>,
    /// The values of `{parameters}`, decoded once.
    pub params: Params,
    /// The query, decoded once.
    pub query: Query,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body, within the route's limit.
    pub body: Limited,
    /// What an upgrade needs.
    pub upgrade: Option<OnUpgrade>,
    /// The request's id.
    pub request_id: RequestId,
    /// Whom it comes from, as limits count: the other end, or the client that a trusted proxy names.
    pub peer: PeerKey,
    /// It came through a trusted proxy.
    pub proxied: bool,
    /// For streams: ends with the key or the server.
    pub ends: Ends,
    /// For what comes on the same connection later: it counts against the same rate.
    pub pace: Pace,
}

impl Call {
    /// Evidence of who calls. A 500 on a public route, which has no business asking.
    pub fn caller(&self) -> Result<&Caller, HttpError> {
        self.caller.as_ref().ok_or_else(|| HttpError::internal("a public route asked for its caller"))
    }

    /// The value of a `{parameter}`; empty where the route has none of this name.
    pub fn param(&self, name: &str) -> &str {
        self.params.get(name).unwrap_or_default()
    }

    /// The body as JSON: 415 for another media type, 400 for what is no JSON (or too deep, or of too many values), 422 for another shape.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, HttpError> {
        self.json_within(JSON_VALUES_MAX)
    }

    /// The same with at most so many values.
    pub(crate) fn json_within<T: DeserializeOwned>(&self, values_max: usize) -> Result<T, HttpError> {
        if !is_json(&self.headers) {
            let public = "the body must be JSON (Content-Type: application/json)";
            return Err(HttpError::new(ErrorStatus::UnsupportedMediaType, "media_type", public));
        }
        Ok(wire::json::parse_within(self.body.bytes(), JSON_DEPTH_MAX, values_max)?)
    }

    /// The body as JSON, or the default where it is empty.
    pub fn json_if_any<T: DeserializeOwned + Default>(&self) -> Result<T, HttpError> {
        if self.body.bytes().is_empty() { Ok(T::default()) } else { self.json() }
    }

    /// For a row that takes [`Empty`]: what nobody would read is refused, as everything is that a row of ours does not know.
    pub(crate) fn nothing(&self) -> Result<(), HttpError> {
        self.json_if_any::<Empty>().map(drop)
    }

    /// `?page=` and `?limit=` (API, conventions): page from 1, limit 0 (only how many there are) to 500; what is no number is 400.
    pub fn page(&self) -> Result<Page, HttpError> {
        let number = |name: &'static str, default: usize| match self.query.get(name) {
            None => Ok(default),
            Some(text) => text.parse::<usize>().map_err(|_| HttpError::bad_request(format!("query `{name}`: expected a number"))),
        };
        Ok(Page { page: number("page", 1)?.max(1), limit: number("limit", PAGE_DEFAULT)?.min(PAGE_MAX) })
    }
}

/// Nothing: no body, or an object without fields.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Empty {}

impl Empty {
    /// As rows name it.
    pub(crate) const NAME: &str = "Empty";
}

/// Which part of a list is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// From 1.
    pub page: usize,
    /// 0 to 500.
    pub limit: usize,
}

/// A part of a list (API, conventions).
#[derive(Debug, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Listed<T> {
    /// The wanted part, in a stable order.
    pub(crate) items: Vec<T>,
    /// How many there are in all.
    pub(crate) total: usize,
    /// Which part this is, from 1.
    pub(crate) page: usize,
    /// Most items of a part.
    pub(crate) limit: usize,
}

impl Page {
    /// How many come before this part.
    pub(crate) fn skip(self) -> usize {
        (self.page - 1).saturating_mul(self.limit)
    }

    /// This part of a whole list.
    pub(crate) fn of<T>(self, all: Vec<T>) -> Listed<T> {
        let total = all.len();
        self.part(all.into_iter().skip(self.skip()).take(self.limit).collect(), total)
    }

    /// A part that was taken already.
    pub(crate) fn part<T>(self, items: Vec<T>, total: usize) -> Listed<T> {
        Listed { items, total, page: self.page, limit: self.limit }
    }
}

/// Values of a route's `{parameters}`.
#[derive(Debug, Clone, Default)]
pub struct Params(pub(crate) Vec<(&'static str, String)>);

impl Params {
    /// What the path names first, if anything.
    pub fn first(&self) -> Option<&str> {
        self.0.first().map(|(_, value)| value.as_str())
    }
    /// The value of this parameter, percent-decoded once.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str())
    }
}

/// 200 with this value as compact JSON.
pub fn json(value: &impl serde::Serialize) -> Result<Response, HttpError> {
    let bytes = serde_json::to_vec(value).map_err(|e| HttpError::internal(format!("an answer would not serialise: {e}")))?;
    let mut response = Response::new(Body::full(bytes));
    response.headers_mut().insert(header::CONTENT_TYPE, const { HeaderValue::from_static("application/json") });
    Ok(response)
}

/// 201 with this value as compact JSON.
pub(crate) fn created(value: &impl serde::Serialize) -> Result<Response, HttpError> {
    let mut response = json(value)?;
    *response.status_mut() = hyper::StatusCode::CREATED;
    Ok(response)
}

/// Runs a room's disk work on a thread that may wait.
pub(crate) async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, HttpError>
where
    T: Send + 'static,
    E: Send + 'static,
    HttpError: From<E>,
{
    let done = blocking::spawn(work).await.map_err(|e| HttpError::internal(e.to_string()))?;
    Ok(done?)
}

/// `application/json` or `application/…+json` (RFC 6839 §3.1), with any parameters: JSON is UTF-8 whatever they say.
fn is_json(headers: &HeaderMap) -> bool {
    let mut all = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (all.next(), all.next()) else { return false };
    let essence = value.as_bytes().split(|b| *b == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
    essence == b"application/json" || (essence.starts_with(b"application/") && essence.ends_with(b"+json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_json() {
        for (value, is) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/problem+json", true),
            ("text/plain", false),
            ("application/jsonx", false),
            ("application/x-www-form-urlencoded", false),
            ("text/plain; application/json", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, value.parse().unwrap());
            assert_eq!(is_json(&headers), is, "{value}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
