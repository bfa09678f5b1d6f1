//! `ask`: one message to the running gateway, the answer as it is made.
//!
//! It speaks the WebSocket: the same records as everywhere, in order. Leaving is not cancelling, so Ctrl-C cancels by its own call.

use std::io::{IsTerminal, Read};
use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::args::Parsed;
use super::output::Failure;
use super::reach::{Reach, home_option, refused};
use super::screen::Screen;
use super::socket::{Came, Socket};
use super::terminal::Typed;
use super::{home, small_runtime};
use crate::base::ids::SessionId;
use crate::base::limits::CONTENT_BYTES_MAX;
use crate::config::Env;

/// How fast the spinner turns.
const TICK: Duration = Duration::from_millis(100);
/// Cancelling and deciding are small calls.
const PATIENCE: Duration = Duration::from_secs(10);
/// More of what is to be approved is not shown on a terminal, and the question says so.
const SHOWN_LINES_MAX: usize = 200;

/// Sends and streams.
pub(super) fn run(parsed: &Parsed, env: &Env) -> Result<(), Failure> {
    let session = match parsed.value("session") {
        Some(text) => Some(SessionId::parse(text).map_err(|e| Failure::usage(format!("--session {text}: {e}")))?),
        None => None,
    };
    let content = content(&parsed.words)?;
    let home = home(parsed, env)?;
    let reach = Reach::find(&home, env)?;
    let mut message = json!({"type": "message", "content": content});
    if let (Some(session), Some(fields)) = (session, message.as_object_mut()) {
        fields.insert("session_id".to_owned(), session.to_string().into());
    }
    let again = format!("oxios-edge ask{} --session", home_option(&home));
    let result = small_runtime()?.block_on(async {
        let interrupt = signal(SignalKind::interrupt()).map_err(|e| Failure::failed(format!("signals cannot be caught: {e}")))?;
        let screen = Screen::new(parsed.has("json"));
        let conversation = Conversation {
            reach: &reach,
            screen,
            interrupt,
            id: None,
            session: None,
            cancelling: false,
            typed: None,
            asked: None,
            tools: Vec::new(),
            problem: None,
            again,
        };
        conversation.hold(message.to_string()).await
    });
    // The thread that reads the terminal may still be waiting for a line; it ends with the process.
    result
}

/// The text: the words, or standard input for a lone `-`.
fn content(words: &[String]) -> Result<String, Failure> {
    let text = match words {
        [] => return Err(Failure::usage("ask: what? Give the text, or - to read it from standard input")),
        [dash] if dash == "-" => {
            if std::io::stdin().is_terminal() {
                super::output::tell(format_args!("reading the text from the terminal; Ctrl-D ends it"));
            }
            let mut bytes = Vec::new();
            let limit = CONTENT_BYTES_MAX as u64 + 1;
            std::io::stdin().lock().take(limit).read_to_end(&mut bytes).map_err(|e| Failure::failed(format!("standard input: {e}")))?;
            String::from_utf8(bytes).map_err(|_| Failure::usage("standard input is no UTF-8 text, or longer than 64 KiB"))?
        }
        words => words.join(" "),
    };
    if text.len() > CONTENT_BYTES_MAX {
        return Err(Failure::usage("the text is longer than 64 KiB; put it into a workspace file and ask about that"));
    }
    if text.trim().is_empty() { Err(Failure::usage("the text is empty")) } else { Ok(text) }
}

/// One message and what comes back.
struct Conversation<'a> {
    reach: &'a Reach,
    screen: Screen,
    interrupt: Signal,
    /// The message's id, once it is accepted.
    id: Option<String>,
    session: Option<String>,
    /// Ctrl-C was pressed.
    cancelling: bool,
    /// The terminal, opened at the first question.
    typed: Option<Typed>,
    /// The approval that waits for the person here.
    asked: Option<String>,
    /// Calls that run, with their tools' names.
    tools: Vec<(String, String)>,
    /// What went wrong, as the gateway says it.
    problem: Option<String>,
    /// The command that continues a session, up to its id.
    again: String,
}

/// What woke us.
enum Woken {
    Frame(Came),
    Tick,
    Interrupt,
    Line(Option<String>),
}

impl Conversation<'_> {
    /// From the first byte to the end of the answer.
    async fn hold(mut self, message: String) -> Result<(), Failure> {
        self.screen.wait("connecting");
        let opened = tokio::select! {
            opened = Socket::open(self.reach, "/api/chat/stream") => opened,
            _ = self.interrupt.recv() => Err(Failure::failed("cancelled; nothing was sent")),
        };
        let mut socket = opened.inspect_err(|_| self.screen.clear())?;
        socket.send(message).await.inspect_err(|_| self.screen.clear())?;
        self.screen.wait("thinking");
        let mut tick = tokio::time::interval(TICK);
        loop {
            let asking = self.asked.is_some();
            let woken = tokio::select! {
                came = socket.next() => Woken::Frame(came),
                _ = self.interrupt.recv() => Woken::Interrupt,
                line = line(self.typed.as_mut()), if asking => Woken::Line(line),
                _ = tick.tick(), if self.screen.turning() => Woken::Tick,
            };
            match woken {
                Woken::Tick => self.screen.tick(),
                Woken::Interrupt => self.interrupted().await?,
                Woken::Line(line) => self.decide(line).await?,
                Woken::Frame(Came::Closed(reason)) => return Err(self.lost(&reason)),
                Woken::Frame(Came::Text(text)) => {
                    self.screen.frame(&text);
                    let frame = serde_json::from_str(&text).unwrap_or_default();
                    if let Some(end) = self.take(&frame).await {
                        return end;
                    }
                    // Leaving is not cancelling: the answer goes on into the session. A cancel that was asked for is seen through.
                    if self.screen.gone() && !self.cancelling {
                        return Err(Failure::failed(""));
                    }
                }
            }
        }
    }

    /// One frame; something when it was the last.
    async fn take(&mut self, frame: &Value) -> Option<Result<(), Failure>> {
        match field(frame, "type") {
            "accepted" => {
                self.id = Some(field(frame, "id").to_owned());
                self.session = Some(field(frame, "session_id").to_owned());
                if self.cancelling {
                    return self.cancel().await.err().map(Err);
                }
            }
            "token" => self.screen.answer(field(frame, "content")),
            "draft" => self.screen.wait("working"),
            "phase" => self.phase(frame),
            "tool_start" => {
                let what = argument(frame);
                let name = field(frame, "name");
                self.tools.push((field(frame, "call_id").to_owned(), name.to_owned()));
                self.screen.note(&format!("{name} {what}"));
                self.screen.wait(name);
            }
            "tool_end" => {
                let outcome = field(frame, "outcome");
                let at = self.tools.iter().position(|(id, _)| id == field(frame, "call_id"));
                let (_, name) = at.map(|at| self.tools.swap_remove(at)).unwrap_or_default();
                if outcome != "ok" {
                    self.screen.note(&format!("{name}: {outcome}"));
                }
                self.screen.wait("thinking");
            }
            "approval_requested" => self.question(frame),
            "approval_resolved" => {
                // The question still stands there: somebody else has answered it, or time has.
                if self.asked.take().is_some() {
                    self.screen.say("");
                }
                self.screen.note(field(frame, "decision"));
                self.screen.wait("working");
            }
            "error" => {
                let text = field(frame, "message");
                self.problem = Some(super::output::harmless(if text.is_empty() { field(frame, "error") } else { text }));
                if self.id.is_none() {
                    self.screen.clear();
                    return Some(Err(Failure::failed(self.problem.take().unwrap_or_default())));
                }
            }
            "deleted" => {
                self.screen.clear();
                return Some(Err(Failure::failed("the session was deleted meanwhile")));
            }
            "done" => return Some(self.done(frame)),
            _ => {}
        }
        None
    }

    /// The terminal frame.
    fn done(&mut self, frame: &Value) -> Result<(), Failure> {
        match frame.get("text").and_then(Value::as_str) {
            Some(whole) => self.screen.finish(whole),
            None => self.screen.break_line(),
        }
        self.screen.clear();
        let again = format!("{} {}", self.again, self.session.as_deref().unwrap_or_default());
        match field(frame, "outcome") {
            "done" | "" => {
                if field(frame, "evaluation_passed") == "false" {
                    self.screen.note("the evaluation was not passed; this is the best of the attempts");
                }
                self.screen.note(&format!("to go on: {again} \"…\""));
                Ok(())
            }
            "cancelled" => Err(Failure::failed("cancelled; what was written is kept in the session")),
            "interrupted" => Err(Failure::failed(format!("the gateway stopped; what was written is kept. To go on: {again} \"…\""))),
            outcome => Err(Failure::failed(self.problem.take().unwrap_or_else(|| outcome.to_owned()))),
        }
    }

    fn phase(&mut self, frame: &Value) {
        let phase = field(frame, "phase");
        let verdict = field(frame, "verdict");
        match (phase, field(frame, "state")) {
            ("Interview", _) => {}
            (_, "started") => self.screen.wait(match phase {
                "Seed" => "writing down the task",
                "Evaluate" => "checking the result",
                "Evolve" => "repairing",
                _ => "working",
            }),
            ("Evaluate", _) if !verdict.is_empty() => {
                let score = frame.get("score").and_then(Value::as_f64).map(|score| format!(" ({score:.2})")).unwrap_or_default();
                self.screen.note(&format!("evaluation {verdict}{score}"));
            }
            _ => {}
        }
    }

    /// A person is asked: shows exactly what would happen, and takes the answer here where there is a terminal.
    fn question(&mut self, frame: &Value) {
        let approval = field(frame, "approval_id").to_owned();
        let mut text = format!("The agent asks to {} {}", field(frame, "action"), field(frame, "resource"));
        if !field(frame, "reason").is_empty() {
            text.push_str(&format!("\n  why: {}", field(frame, "reason")));
        }
        let shown = shown(frame.get("shown").unwrap_or(&Value::Null));
        let lines = shown.lines().count();
        for line in shown.lines().take(SHOWN_LINES_MAX) {
            text.push_str(&format!("\n  {line}"));
        }
        if lines > SHOWN_LINES_MAX {
            text.push_str(&format!("\n  … and {} more lines, NOT SHOWN HERE", lines - SHOWN_LINES_MAX));
        }
        self.screen.clear();
        self.screen.say(&text);
        if self.screen.interactive() && self.typed.is_none() {
            self.typed = Typed::open();
        }
        match self.typed.as_mut().filter(|_| self.screen.interactive()) {
            Some(typed) => {
                typed.forget();
                self.screen.question("Do it? [y/N] ");
                self.asked = Some(approval);
            }
            None => {
                self.elsewhere(&approval);
                self.screen.wait("waiting for the decision");
            }
        }
    }

    fn elsewhere(&mut self, approval: &str) {
        let curl = self.reach.curl_post();
        self.screen
            .say(&format!("It waits for a decision:\n  {curl}/api/approvals/{approval}/approve\n  {curl}/api/approvals/{approval}/reject"));
    }

    /// The person has typed a line, or closed the terminal.
    async fn decide(&mut self, line: Option<String>) -> Result<(), Failure> {
        let Some(approval) = self.asked.take() else { return Ok(()) };
        let verb = match line.as_deref().map(|line| line.trim().to_ascii_lowercase()).as_deref() {
            Some("y" | "yes") => "approve",
            Some(_) => "reject",
            None => {
                self.typed = None;
                self.screen.say("");
                self.elsewhere(&approval);
                return Ok(());
            }
        };
        self.screen.wait(if verb == "approve" { "working" } else { "rejecting" });
        let path = format!("/api/approvals/{approval}/{verb}");
        let answered = tokio::select! {
            answered = self.reach.call(Method::POST, &path, None, PATIENCE) => answered?,
            _ = self.interrupt.recv() => return self.interrupted().await,
        };
        match answered {
            (StatusCode::OK, _) => {}
            (StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST | StatusCode::CONFLICT, _) => {
                self.screen.say("it was decided elsewhere, or has lapsed");
            }
            (status, body) => self.screen.say(&refused(status, &body).text),
        }
        Ok(())
    }

    /// Ctrl-C: the first cancels the run, the second one leaves.
    async fn interrupted(&mut self) -> Result<(), Failure> {
        if self.cancelling {
            self.screen.clear();
            return Err(Failure::failed("left; the gateway may still be cancelling"));
        }
        self.cancelling = true;
        self.asked = None;
        self.screen.break_line();
        self.screen.wait("cancelling (Ctrl-C again leaves at once)");
        // Before it is accepted there is no id to cancel; `accepted` comes back here.
        if self.id.is_some() { self.cancel().await } else { Ok(()) }
    }

    async fn cancel(&mut self) -> Result<(), Failure> {
        let Some(id) = self.id.clone() else { return Ok(()) };
        let path = format!("/api/chat/{id}/cancel");
        let answered = tokio::select! {
            answered = self.reach.call(Method::POST, &path, None, PATIENCE) => answered?,
            _ = self.interrupt.recv() => return Err(Failure::failed("left; the gateway may still be cancelling")),
        };
        match answered {
            // Over already: its end is on the way.
            (StatusCode::OK | StatusCode::CONFLICT, _) => Ok(()),
            (status, body) => Err(refused(status, &body)),
        }
    }

    /// The connection ended before the answer did.
    fn lost(&mut self, reason: &str) -> Failure {
        self.screen.clear();
        self.screen.break_line();
        let why = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
        Failure::failed(match &self.session {
            None => format!("the gateway closed the connection{why}; the message was not accepted"),
            Some(session) => {
                format!("the connection to the gateway ended{why}; the message is kept. To go on: {} {session} \"…\"", self.again)
            }
        })
    }
}

async fn line(typed: Option<&mut Typed>) -> Option<String> {
    match typed {
        Some(typed) => typed.line().await,
        None => None,
    }
}

fn field<'a>(frame: &'a Value, name: &str) -> &'a str {
    frame.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The telling one of a tool's arguments, shortened: enough to see what it is about.
fn argument(frame: &Value) -> String {
    let named = |fields: &'_ serde_json::Map<String, Value>| {
        let telling = ["path", "query", "name", "goal", "dir"].iter().find_map(|name| fields.get(*name)?.as_str().map(str::to_owned));
        telling.or_else(|| fields.values().find_map(Value::as_str).map(str::to_owned))
    };
    let first = frame.get("arguments").and_then(Value::as_object).and_then(named).unwrap_or_default();
    let line = first.lines().next().unwrap_or_default();
    let short: String = line.chars().take(60).collect();
    if short.len() < line.len() { format!("{short}…") } else { short }
}

/// What is to be approved, for reading: one field a line, long texts as they are.
fn shown(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let long =
                |name: &str, value: &Value| value.as_str().is_some_and(|text| name == "content" || text.contains('\n') || text.len() > 80);
            // What fits a line first: where it goes should not be scrolled away by what it says.
            let (long, short): (Vec<_>, Vec<_>) = fields.iter().partition(|(name, value)| long(name, value));
            let lines = short.into_iter().map(|(name, value)| match value {
                Value::String(text) => format!("{name}: {text}\n"),
                other => format!("{name}: {other}\n"),
            });
            let blocks = long.into_iter().map(|(name, value)| {
                let text = value.as_str().unwrap_or_default();
                format!("{name}:\n{}\n", text.lines().map(|line| format!("  | {line}")).collect::<Vec<_>>().join("\n"))
            });
            lines.chain(blocks).collect()
        }
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_shown_whole() {
        let text = shown(&json!({"path": "a.txt", "exists": false, "content": "one\ntwo"}));
        for line in ["path: a.txt", "exists: false", "content:", "  | one", "  | two"] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
    }

    #[test]
    fn the_text_comes_from_the_words() {
        assert_eq!(content(&["hello".into(), "there".into()]).unwrap(), "hello there");
        assert_eq!(content(&[]).unwrap_err().code, 2);
        assert_eq!(content(&["  ".into()]).unwrap_err().code, 2);
        assert_eq!(content(&["x".repeat(CONTENT_BYTES_MAX + 1)]).unwrap_err().code, 2);
    }

    #[test]
    fn a_tools_argument_is_shortened() {
        assert_eq!(argument(&json!({"arguments": {"path": "a"}})), "a");
        assert_eq!(argument(&json!({"arguments": {"text": "x".repeat(100)}})).chars().count(), 61);
        assert_eq!(argument(&json!({})), "");
    }
}
