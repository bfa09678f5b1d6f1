//! One tool server of one owner: started when it is needed, started again when it has ended, later each time it ends soon.
//! Dropping it ends it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::process::Process;
use super::streamable::Streamable;
use super::tool;
use super::{McpError, Offered, ServerSettings, State, Transport};
use crate::base::cancel::{self, Cancel, Canceller, Why};
use crate::base::limits::MCP_PAGES_MAX;
use crate::base::log;
use crate::base::time::Clock;
use crate::http::client::Client;

/// The version that we ask for, and the older one that is spoken alike as far as we use it.
const VERSIONS: [&str; 3] = ["2025-06-18", "2025-11-25", "2025-03-26"];
/// A server that lived this long is started again at once.
const LIVED: Duration = Duration::from_secs(60);
/// Longest wait before a server is started, or asked for its tools, again.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(300);

/// What servers are started with.
pub(super) struct Ground {
    pub(super) client: Client,
    pub(super) clock: Arc<dyn Clock>,
    /// How long a program may be busy with a call that was stopped.
    pub(super) grace: Duration,
}

/// One server.
pub(super) struct Server {
    name: String,
    pub(super) settings: ServerSettings,
    /// Its owner's files, where a program works.
    files: PathBuf,
    /// The connection. Held while it is made, so that a server is started once; never while a tool runs.
    running: tokio::sync::Mutex<Running>,
    /// For status pages; held for moments.
    shown: Mutex<Shown>,
    /// Stops a start that is under way when the server is to end.
    ending: (Canceller, Cancel),
}

/// What a person sees of a server.
#[derive(Default, Clone)]
pub(super) struct Shown {
    pub(super) state: State,
    pub(super) tools: Vec<String>,
    pub(super) problem: Option<String>,
}

#[derive(Default)]
struct Running {
    link: Option<Arc<Link>>,
    tools: Arc<Vec<Offered>>,
    /// How often they had changed when they were asked for; told again later, it is asked for them again.
    listed: u32,
    /// How often in a row it was asked for them and gave none.
    unlisted: u32,
    /// Not to be asked for them before this monotonic time.
    list_not_before: Duration,
    /// Monotonic time of the last start.
    started: Duration,
    /// Starts in a row that failed or did not last.
    failures: u32,
    /// Not to be started before this monotonic time.
    not_before: Duration,
}

/// How a server is spoken to.
enum Link {
    Process(Process),
    Http(Streamable),
}

impl Server {
    pub(super) fn new(name: &str, settings: ServerSettings, files: PathBuf) -> Self {
        let ending = cancel::pair();
        Self { name: name.to_owned(), settings, files, running: Default::default(), shown: Default::default(), ending }
    }

    pub(super) fn shown(&self) -> Shown {
        self.shown.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// Its tools; starts it where it does not run.
    pub(super) async fn tools(&self, ground: &Ground) -> Result<Arc<Vec<Offered>>, McpError> {
        self.ready(ground).await.map(|(_, tools)| tools)
    }

    /// Calls the tool that is offered under this name, if it still is the one that its server calls so.
    pub(super) async fn call(
        &self,
        ground: &Ground,
        (offered, theirs): (&str, &str),
        arguments: Map<String, Value>,
    ) -> Result<String, String> {
        let mut again = true;
        loop {
            let (link, tools) = self.ready(ground).await.map_err(|error| self.told(&error))?;
            let Some(tool) = tools.iter().find(|tool| tool.name == offered) else {
                return Err(format!("there is no tool `{offered}`"));
            };
            // SECURITY: our name depends on the others in the list; a person has decided on the server's (THREATS 22).
            if tool.theirs != theirs {
                return Err(format!("`{offered}` is another tool now; nothing was done. Look at what it does before it is called again"));
            }
            let params = json!({"name": theirs, "arguments": arguments});
            match self.within(link.request("tools/call", &params)).await {
                Ok(result) => return tool::result(&result),
                // It has not run the tool: once, it is asked in a new session. Whatever else went wrong, it may have.
                Err(McpError::Forgotten) if again => again = false,
                Err(error) => {
                    if error == McpError::Slow {
                        self.end(&link).await;
                    }
                    self.note(&error);
                    return Err(self.told(&error));
                }
            }
        }
    }

    /// Ends it for good, and what it is doing.
    pub(super) async fn close(&self) {
        self.ending.0.cancel(Why::Shutdown);
        let link = self.running.lock().await.link.take();
        if let Some(Link::Http(link)) = link.as_deref() {
            link.close().await;
        }
        self.show(|shown| shown.state = State::NotStarted);
    }

    /// The connection and its tools. Whatever it waits for, it stops where the server is to end, and lets go of the lock.
    async fn ready(&self, ground: &Ground) -> Result<(Arc<Link>, Arc<Vec<Offered>>), McpError> {
        self.ending.1.guard(Box::pin(self.connected(ground))).await.unwrap_or(Err(McpError::Ended))
    }

    async fn connected(&self, ground: &Ground) -> Result<(Arc<Link>, Arc<Vec<Offered>>), McpError> {
        let mut running = self.running.lock().await;
        let now = ground.clock.monotonic();
        if let Some(link) = self.still(&mut running, ground).await {
            return Ok((link, running.tools.clone()));
        }
        if now < running.not_before {
            return Err(McpError::Waits(running.not_before.saturating_sub(now)));
        }
        running.started = now;
        match self.within(self.start(ground)).await {
            Ok((link, tools)) => {
                running.link = Some(link.clone());
                running.tools = Arc::new(tools);
                (running.listed, running.unlisted, running.list_not_before) = (0, 0, Duration::ZERO);
                self.running_now(&running.tools);
                log::info("mcp", format_args!("server {}: started, {} tools", self.name, running.tools.len()));
                Ok((link, running.tools.clone()))
            }
            Err(error) => {
                // From now on: a start may have taken longer than the wait.
                running.failed(Duration::ZERO, ground.clock.monotonic());
                self.note(&error);
                Err(error)
            }
        }
    }

    /// The connection that there is, and its tools as they are now; none where there is none any more.
    async fn still(&self, running: &mut Running, ground: &Ground) -> Option<Arc<Link>> {
        let link = running.link.clone()?;
        let now = ground.clock.monotonic();
        let lived = now.saturating_sub(running.started);
        link.settled().await;
        let changes = link.changes();
        if link.alive() && changes != running.listed && now >= running.list_not_before {
            match self.within(self.list(&link)).await {
                Ok(tools) => {
                    running.tools = Arc::new(tools);
                    (running.listed, running.unlisted) = (changes, 0);
                    self.running_now(&running.tools);
                }
                Err(error) => {
                    link.settled().await;
                    if link.alive() {
                        // The tools that are known can still be called; nobody waits for the others at each call.
                        running.unlisted = running.unlisted.saturating_add(1);
                        running.list_not_before = ground.clock.monotonic() + wait(running.unlisted);
                        log::warn(
                            "mcp",
                            format_args!("server {}: its tools have changed and are not known: {}", self.name, error.public()),
                        );
                        self.show(|shown| shown.problem = Some(error.public()));
                    }
                }
            }
        }
        if link.alive() {
            return Some(link);
        }
        running.link = None;
        // A server behind HTTP may forget a session when it likes; that is no failure, a new one begins at once.
        if let Link::Process(_) = *link {
            running.failed(lived, ground.clock.monotonic());
        }
        None
    }

    async fn start(&self, ground: &Ground) -> Result<(Arc<Link>, Vec<Offered>), McpError> {
        let link = match &self.settings.transport {
            Transport::Stdio { command, args, env } => Link::Process(Process::start(command, args, env, &self.files, ground.grace)?),
            Transport::Http { url, headers } => Link::Http(Streamable::new(ground.client.clone(), url, headers, self.settings.timeout)?),
        };
        let info = json!({"name": "oxios-edge", "version": env!("CARGO_PKG_VERSION")});
        let params = json!({"protocolVersion": VERSIONS[0], "capabilities": {}, "clientInfo": info});
        let hello = link.request("initialize", &params).await?;
        let version = hello.get("protocolVersion").and_then(Value::as_str).unwrap_or_default();
        if !VERSIONS.contains(&version) {
            return Err(McpError::Version);
        }
        if let Link::Http(http) = &link {
            http.agree(version);
        }
        link.notify("notifications/initialized", &json!({})).await?;
        let tools = self.list(&link).await?;
        Ok((Arc::new(link), tools))
    }

    async fn list(&self, link: &Link) -> Result<Vec<Offered>, McpError> {
        let (mut tools, mut params) = (Vec::new(), json!({}));
        for _ in 0..MCP_PAGES_MAX {
            let page = link.request("tools/list", &params).await?;
            tool::read(&self.name, self.settings.trust, &page, &mut tools);
            match page.get("nextCursor").and_then(Value::as_str) {
                Some(cursor) => params = json!({"cursor": cursor}),
                None => break,
            }
        }
        Ok(tools)
    }

    async fn within<T>(&self, work: impl Future<Output = Result<T, McpError>>) -> Result<T, McpError> {
        tokio::time::timeout(self.settings.timeout, work).await.unwrap_or(Err(McpError::Slow))
    }

    /// Ends this connection where it is still the one in use.
    async fn end(&self, link: &Arc<Link>) {
        let mut running = self.running.lock().await;
        if matches!(**link, Link::Process(_)) && running.link.as_ref().is_some_and(|now| Arc::ptr_eq(now, link)) {
            running.link = None;
        }
    }

    fn running_now(&self, tools: &[Offered]) {
        let names = tools.iter().map(|tool| tool.name.clone()).collect();
        self.show(|shown| *shown = Shown { state: State::Running, tools: names, problem: None });
    }

    fn note(&self, error: &McpError) {
        // What the server said itself is not for the log.
        log::warn("mcp", format_args!("server {}: {}", self.name, error.public()));
        if !matches!(error, McpError::Refused(..)) {
            self.show(|shown| {
                shown.state = State::Failed;
                shown.problem = Some(error.public());
            });
        }
    }

    fn show(&self, change: impl FnOnce(&mut Shown)) {
        change(&mut self.shown.lock().unwrap_or_else(|e| e.into_inner()));
    }

    fn told(&self, error: &McpError) -> String {
        match error {
            McpError::Refused(_, text) => format!("the server `{}` refused: {}", self.name, text.chars().take(1000).collect::<String>()),
            error => format!("the server `{}`: {}", self.name, error.public()),
        }
    }
}

impl Running {
    /// It ended, or did not start, after so long.
    fn failed(&mut self, lived: Duration, now: Duration) {
        if lived >= LIVED {
            self.failures = 0;
        }
        self.not_before = now + wait(self.failures);
        self.failures = self.failures.saturating_add(1);
    }
}

/// How long it is left alone after so many failures in a row: not at all, then 1, 2, 4 … seconds.
fn wait(failures: u32) -> Duration {
    let wait = if failures == 0 { Duration::ZERO } else { Duration::from_secs(1 << (failures - 1).min(16)) };
    wait.min(WAIT_MAX)
}

impl Link {
    async fn request(&self, method: &str, params: &Value) -> Result<Value, McpError> {
        match self {
            Self::Process(process) => process.request(method, params).await,
            Self::Http(http) => http.request(method, params).await,
        }
    }
    async fn notify(&self, method: &str, params: &Value) -> Result<(), McpError> {
        match self {
            Self::Process(process) => process.notify(method, params),
            Self::Http(http) => http.notify(method, params).await,
        }
    }
    fn alive(&self) -> bool {
        match self {
            Self::Process(process) => process.alive(),
            Self::Http(http) => http.alive(),
        }
    }
    /// Waits while it is in doubt whether it can still answer.
    async fn settled(&self) {
        match self {
            Self::Process(process) => process.settled().await,
            Self::Http(_) => {}
        }
    }
    fn changes(&self) -> u32 {
        match self {
            Self::Process(process) => process.changes(),
            Self::Http(http) => http.changes(),
        }
    }
}
