//! A tool server that is a program: JSON-RPC lines over its standard input and output (MCP 2025-06-18, transports, stdio).
//!
//! It is started from an argument vector, never by a shell, in a process group of its own, with an environment that holds only
//! what is named. What it writes to standard error goes nowhere.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{Notify, mpsc, oneshot};

use super::McpError;
use crate::base::limits::{MCP_MESSAGE_BYTES_MAX, MCP_PENDING_MAX};
use crate::base::secret::Secret;
use crate::wire::json_rpc::{self, Id, Message};

/// What a server gets of our environment.
const INHERITED: [&str; 3] = ["PATH", "HOME", "LANG"];

/// A running program. Dropping it kills its process group.
pub(super) struct Process {
    shared: Arc<Shared>,
    /// Lines for the program; the task that writes them ends when this is dropped, and with it the program's input.
    lines: mpsc::Sender<Vec<u8>>,
    next: AtomicI64,
    /// How long it may be busy with a call that was stopped.
    grace: Duration,
}

/// What the reading task and the callers share.
struct Shared {
    /// Who waits for which answer. Held for moments.
    pending: Mutex<Pending>,
    /// The program says that its tools are others now.
    changes: AtomicU32,
    /// Told when there is a doubt less.
    settled: Notify,
}

#[derive(Default)]
struct Pending {
    waiting: HashMap<i64, oneshot::Sender<Result<Value, McpError>>>,
    /// A call was stopped, and whether the program still works on it is not known: it was pinged.
    doubts: HashMap<i64, oneshot::Sender<()>>,
    /// Nothing more comes.
    over: bool,
    /// The process group; none once its leader may have been reaped, for its number may then be another's.
    group: Option<rustix::process::Pid>,
}

impl Process {
    /// Starts it.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn start(
        command: &str,
        args: &[String],
        env: &BTreeMap<String, Secret>,
        files: &Path,
        grace: Duration,
    ) -> Result<Self, McpError> {
        let mut program = Command::new(command);
        program.args(args).current_dir(files).env_clear().process_group(0).kill_on_drop(true);
        // Passed on, not interpreted: what is set here is nobody's configuration.
        program.envs(INHERITED.iter().filter_map(|name| std::env::var_os(name).map(|value| (name, value))));
        program.envs(env.iter().map(|(name, value)| (name, value.reveal())));
        let mut child =
            program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().map_err(|e| McpError::Spawn(e.kind()))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(McpError::Spawn(std::io::ErrorKind::BrokenPipe));
        };
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        let pending = Pending { group, ..Pending::default() };
        let shared = Arc::new(Shared { pending: Mutex::new(pending), changes: AtomicU32::new(0), settled: Notify::new() });
        let (lines, waiting) = mpsc::channel(MCP_PENDING_MAX);
        tokio::spawn(write(input, waiting));
        // The reader must not keep the writer alive: it has a weak end.
        tokio::spawn(read(child, output, shared.clone(), lines.downgrade()));
        Ok(Self { shared, lines, next: AtomicI64::new(1), grace })
    }

    /// Sends a request and waits for its answer. Dropping the future tells the program that nobody waits any more.
    pub(super) async fn request(&self, method: &str, params: &Value) -> Result<Value, McpError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (tell, told) = oneshot::channel();
        {
            let mut pending = self.shared.pending();
            if pending.over {
                return Err(McpError::Ended);
            }
            if pending.waiting.len() >= MCP_PENDING_MAX {
                return Err(McpError::Busy);
            }
            pending.waiting.insert(id, tell);
        }
        let mut wait = Wait { process: self, id, cancel: method != "initialize" };
        self.send(json_rpc::request(id, method, params))?;
        let answer = told.await.unwrap_or(Err(McpError::Ended));
        wait.cancel = false;
        answer
    }

    /// Tells something.
    pub(super) fn notify(&self, method: &str, params: &Value) -> Result<(), McpError> {
        self.send(json_rpc::notification(method, params))
    }

    /// It can still answer.
    pub(super) fn alive(&self) -> bool {
        !self.shared.pending().over
    }

    /// Waits while it is in doubt whether the program is still busy with a call that was stopped; at most for the grace.
    pub(super) async fn settled(&self) {
        loop {
            let mut settled = std::pin::pin!(self.shared.settled.notified());
            settled.as_mut().enable();
            if self.shared.pending().doubts.is_empty() {
                return;
            }
            settled.await;
        }
    }

    /// Asks for a sign of life behind a call that was stopped: a program that gives none within the grace is ended, unless other
    /// calls are under way.
    fn doubt(&self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (tell, told) = oneshot::channel();
        {
            let mut pending = self.shared.pending();
            if pending.over {
                return;
            }
            pending.doubts.insert(id, tell);
        }
        // One that does not even read gives no answer either.
        let _ = self.send(json_rpc::request(id, "ping", &json!({})));
        let (shared, grace) = (self.shared.clone(), self.grace);
        runtime.spawn(async move {
            let silent = tokio::time::timeout(grace, told).await.is_err();
            let idle = {
                let mut pending = shared.pending();
                pending.doubts.remove(&id);
                pending.waiting.is_empty()
            };
            if silent && idle {
                shared.kill();
            }
            shared.settled.notify_waiters();
        });
    }

    /// How often its tools have changed.
    pub(super) fn changes(&self) -> u32 {
        self.shared.changes.load(Ordering::Relaxed)
    }

    fn send(&self, line: Vec<u8>) -> Result<(), McpError> {
        self.lines.try_send(line).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => McpError::Busy,
            mpsc::error::TrySendError::Closed(_) => McpError::Ended,
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.shared.kill();
    }
}

/// A place among those who wait.
struct Wait<'a> {
    process: &'a Process,
    id: i64,
    /// Nobody has answered yet; the protocol lets everything but `initialize` be cancelled.
    cancel: bool,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.process.shared.pending().waiting.remove(&self.id);
        if self.cancel {
            // Best effort: a program that does not listen is ended soon.
            let _ = self.process.notify("notifications/cancelled", &json!({"requestId": self.id, "reason": "no longer wanted"}));
            self.process.doubt();
        }
    }
}

impl Shared {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        // Every change is whole before the lock is given back.
        self.pending.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Nothing more comes: whoever waits is told, and the group is killed while its number is surely its own.
    fn kill(&self) {
        let mut pending = self.pending();
        pending.over = true;
        pending.waiting.clear();
        pending.doubts.clear();
        if let Some(group) = pending.group.take() {
            // It may be gone already.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }

    fn answer(&self, id: i64, answer: Result<Value, McpError>) {
        let mut pending = self.pending();
        // An answer that nobody waits for any more is dropped.
        if let Some(waiting) = pending.waiting.remove(&id) {
            let _ = waiting.send(answer);
        }
        // Any answer to a ping is one.
        pending.doubts.remove(&id);
    }
}

/// Ends with the channel or the pipe.
async fn write(mut input: ChildStdin, mut lines: mpsc::Receiver<Vec<u8>>) {
    while let Some(mut line) = lines.recv().await {
        line.push(b'\n');
        if input.write_all(&line).await.is_err() || input.flush().await.is_err() {
            return;
        }
    }
}

/// Ends when the program closes its output or breaks a limit; then the program is ended and reaped.
async fn read(mut child: Child, output: ChildStdout, shared: Arc<Shared>, lines: mpsc::WeakSender<Vec<u8>>) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    while let Ok(true) = next_line(&mut output, &mut line).await {
        // What is no message (a greeting, a warning) is passed over.
        for message in json_rpc::parse(&line).into_iter().flatten() {
            match message {
                Message::Success { id: Id::Number(id), result } => shared.answer(id, Ok(result)),
                Message::Failure { id: Some(Id::Number(id)), code, message } => shared.answer(id, Err(McpError::Refused(code, message))),
                Message::Request { id, method, .. } => {
                    if let Some(lines) = lines.upgrade() {
                        // A program that asks faster than it reads gets no answer.
                        let _ = lines.try_send(super::reply(&id, &method));
                    }
                }
                Message::Notification { method, .. } if method == "notifications/tools/list_changed" => {
                    shared.changes.fetch_add(1, Ordering::Relaxed);
                }
                _ => {}
            }
        }
    }
    shared.kill();
    let _ = child.wait().await;
}

/// The next line, without its end; false at the end of the output or where a line is too long.
async fn next_line(output: &mut BufReader<ChildStdout>, line: &mut Vec<u8>) -> std::io::Result<bool> {
    line.clear();
    loop {
        let bytes = output.fill_buf().await?;
        if bytes.is_empty() {
            return Ok(false);
        }
        let (taken, whole) = match bytes.iter().position(|b| *b == b'\n') {
            Some(end) => (end + 1, true),
            None => (bytes.len(), false),
        };
        line.extend_from_slice(bytes.get(..taken - usize::from(whole)).unwrap_or_default());
        output.consume(taken);
        if line.len() > MCP_MESSAGE_BYTES_MAX {
            return Ok(false);
        }
        if whole {
            return Ok(true);
        }
    }
}
