//! A tool server behind HTTP (MCP 2025-06-18, transports, streamable HTTP): each message is a POST; its answer is JSON or a
//! stream of events that holds it. Only the configured address is ever connected to (THREATS 21).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::McpError;
use crate::base::limits::MCP_MESSAGE_BYTES_MAX;
use crate::base::secret::Secret;
use crate::http::client::{Client, Incoming, Outgoing, Target};
use crate::wire::json_rpc::{self, Id, Message};
use crate::wire::sse_in::SseDecoder;
use crate::wire::url::Url;

/// How long a farewell may take: nobody waits for its answer.
const FAREWELL: Duration = Duration::from_secs(5);

/// A conversation with a server; cheap to clone. With the last one its session ends: the server is told, as far as it listens.
#[derive(Clone)]
pub(super) struct Streamable(Arc<Inner>);

struct Inner {
    client: Client,
    url: Url,
    headers: Vec<(HeaderName, HeaderValue)>,
    timeout: Duration,
    /// `Mcp-Session-Id` and the version, as `initialize` agreed on them. Held for moments.
    agreed: Mutex<Agreed>,
    next: AtomicI64,
    changes: AtomicU32,
    /// The server has forgotten the session.
    over: AtomicBool,
}

#[derive(Default, Clone)]
struct Agreed {
    session: Option<HeaderValue>,
    version: Option<HeaderValue>,
}

impl Streamable {
    /// A conversation that has not begun.
    ///
    /// # Errors
    /// A header field that cannot be sent.
    pub(super) fn new(client: Client, url: &Url, headers: &BTreeMap<String, Secret>, timeout: Duration) -> Result<Self, McpError> {
        let field = |(name, value): (&String, &Secret)| {
            let name = HeaderName::try_from(name.as_str()).ok()?;
            let mut value = HeaderValue::try_from(value.reveal()).ok()?;
            value.set_sensitive(true);
            Some((name, value))
        };
        let headers = headers.iter().map(field).collect::<Option<Vec<_>>>();
        // The configuration is checked for this, and more; what comes here otherwise must not reach the wire either.
        let headers = headers.ok_or(McpError::Field)?;
        let (url, agreed, next) = (url.clone(), Mutex::default(), AtomicI64::new(1));
        Ok(Self(Arc::new(Inner { client, url, headers, timeout, agreed, next, changes: 0.into(), over: false.into() })))
    }

    /// Sends a request and waits for its answer.
    pub(super) async fn request(&self, method: &str, params: &Value) -> Result<Value, McpError> {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let mut wait = Wait { link: self, id, cancel: method != "initialize" };
        let answer = async {
            let incoming = self.post(json_rpc::request(id, method, params), self.0.timeout).await?;
            if method == "initialize" {
                self.agreed().session = incoming.headers.get("mcp-session-id").cloned();
            }
            self.answer(incoming, id).await
        };
        let answer = answer.await;
        wait.cancel = false;
        answer
    }

    /// Tells something.
    pub(super) async fn notify(&self, method: &str, params: &Value) -> Result<(), McpError> {
        self.post(json_rpc::notification(method, params), self.0.timeout).await.map(drop)
    }

    /// Every later request names this version.
    pub(super) fn agree(&self, version: &str) {
        self.agreed().version = HeaderValue::try_from(version).ok();
    }

    /// The server knows the session, as far as we know.
    pub(super) fn alive(&self) -> bool {
        !self.0.over.load(Ordering::Relaxed)
    }

    /// How often its tools have changed.
    pub(super) fn changes(&self) -> u32 {
        self.0.changes.load(Ordering::Relaxed)
    }

    /// Ends the session, where there is one, and waits until the server knows.
    pub(super) async fn close(&self) {
        if let Some(farewell) = self.0.farewell() {
            // A server need not let its clients end sessions (405), and one that is gone has none.
            let _ = self.0.client.send(farewell).await;
        }
    }

    async fn post(&self, body: Vec<u8>, within: Duration) -> Result<Incoming, McpError> {
        let has_session = self.agreed().session.is_some();
        let incoming = self.0.client.send(self.0.outgoing(Method::POST, body, within)).await;
        let incoming = incoming.map_err(|error| McpError::Unreachable(error.public))?;
        match incoming.status {
            status if status.is_success() => Ok(incoming),
            // MCP 2025-06-18, session management: the session is over; the client begins a new one.
            StatusCode::NOT_FOUND if has_session => {
                self.0.over.store(true, Ordering::Relaxed);
                Err(McpError::Forgotten)
            }
            status => {
                // Servers made after an early example of the SDK say 400 to a session that they do not know. It may mean
                // something else, so this request is not repeated; the next one goes in a new session.
                if status == StatusCode::BAD_REQUEST && has_session {
                    self.0.over.store(true, Ordering::Relaxed);
                }
                Err(McpError::Status(status.as_u16()))
            }
        }
    }

    async fn answer(&self, mut incoming: Incoming, id: i64) -> Result<Value, McpError> {
        let kind = incoming.headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
        let failed = |error: crate::http::client::ClientError| McpError::Unreachable(error.public);
        if !kind.starts_with("text/event-stream") {
            let bytes = incoming.collect(MCP_MESSAGE_BYTES_MAX).await.map_err(failed)?;
            return self.take(&bytes, id).await.unwrap_or(Err(McpError::Nonsense));
        }
        let (mut decoder, mut events) = (SseDecoder::new(MCP_MESSAGE_BYTES_MAX), Vec::new());
        while let Some(piece) = incoming.chunk().await.map_err(failed)? {
            decoder.push(&piece, &mut events).map_err(|_| McpError::Nonsense)?;
            for event in events.drain(..) {
                if let Some(answer) = self.take(event.data.as_bytes(), id).await {
                    return answer;
                }
            }
        }
        Err(McpError::Ended)
    }

    /// The answer to `id`, where it is among these messages; the others are dealt with.
    async fn take(&self, bytes: &[u8], id: i64) -> Option<Result<Value, McpError>> {
        for message in json_rpc::parse(bytes).into_iter().flatten() {
            match message {
                Message::Success { id: Id::Number(of), result } if of == id => return Some(Ok(result)),
                Message::Failure { id: Some(Id::Number(of)), code, message } if of == id => {
                    return Some(Err(McpError::Refused(code, message)));
                }
                Message::Request { id, method, .. } => drop(self.post(super::reply(&id, &method), FAREWELL).await),
                Message::Notification { method, .. } if method == "notifications/tools/list_changed" => {
                    self.0.changes.fetch_add(1, Ordering::Relaxed);
                }
                _ => {}
            }
        }
        None
    }

    fn agreed(&self) -> MutexGuard<'_, Agreed> {
        self.0.agreed()
    }
}

impl Inner {
    fn agreed(&self) -> MutexGuard<'_, Agreed> {
        self.agreed.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The request that ends the session; none where there is none, or it was made before.
    fn farewell(&self) -> Option<Outgoing> {
        let over = self.over.swap(true, Ordering::Relaxed);
        (!over && self.agreed().session.is_some()).then(|| self.outgoing(Method::DELETE, Vec::new(), FAREWELL))
    }

    fn outgoing(&self, method: Method, body: Vec<u8>, within: Duration) -> Outgoing {
        let Agreed { session, version } = self.agreed().clone();
        let mut headers = self.headers.clone();
        if method == Method::POST {
            headers.push((ACCEPT, HeaderValue::from_static("application/json, text/event-stream")));
            headers.push((CONTENT_TYPE, HeaderValue::from_static("application/json")));
        }
        headers.extend(session.map(|value| (HeaderName::from_static("mcp-session-id"), value)));
        headers.extend(version.map(|value| (HeaderName::from_static("mcp-protocol-version"), value)));
        Outgoing {
            target: Target::Url(self.url.clone()),
            method,
            path_and_query: self.url.path_and_query(),
            headers,
            body: body.into(),
            connect: within,
            first_byte: within,
            between: within,
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Outside a runtime there is nobody to tell it.
        if let (Some(farewell), Ok(runtime)) = (self.farewell(), tokio::runtime::Handle::try_current()) {
            let client = self.client.clone();
            // Ends within twice FAREWELL.
            runtime.spawn(async move { drop(client.send(farewell).await) });
        }
    }
}

/// Somebody waits for the answer; dropped before it came, the server is told.
struct Wait<'a> {
    link: &'a Streamable,
    id: i64,
    cancel: bool,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        // Outside a runtime there is nobody to tell it.
        if let (true, Ok(runtime)) = (self.cancel, tokio::runtime::Handle::try_current()) {
            let (link, params) = (self.link.clone(), json!({"requestId": self.id, "reason": "no longer wanted"}));
            let body = json_rpc::notification("notifications/cancelled", &params);
            // Ends within FAREWELL.
            runtime.spawn(async move { drop(link.post(body, FAREWELL).await) });
        }
    }
}
