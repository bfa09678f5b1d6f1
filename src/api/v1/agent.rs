//! Model `oxios`: a message to the agent through the gateway, and its answer from the session's log. A client that goes away
//! ends the reading, not the run.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::api::chat::{self, Said};
use crate::api::v1::answer::{self, Logprobs, Voice};
use crate::api::v1::completions::ChatCompletionRequest;
use crate::api::v1::conversation::{self, Conversation};
use crate::api::v1::models::AGENT;
use crate::api::{self, App, Call};
use crate::gateway::{IncomingMessage, Submitted};
use crate::http::error::HttpError;
use crate::http::{Response, sse};
use crate::llm::request::Usage;
use crate::middleware::auth;
use crate::store::keys::Budget;
use crate::store::record::{Body, Record};
use crate::store::tail::{Step, Tail};

/// Answers as the agent.
pub(super) async fn answer(app: Arc<App>, call: &Call, request: ChatCompletionRequest) -> Result<Response, HttpError> {
    let (Conversation { history, message }, session) = said(&request)?;
    let fields = json!({"content": message, "session_id": session, "idempotency_key": request.idempotency_key});
    let mut said: Said = serde_json::from_value(fields).map_err(|_| HttpError::internal("a message made here has another shape"))?;
    said.take_key(&call.headers)?;
    let user = request.user.clone().filter(|user| !user.is_empty()).unwrap_or_else(|| "default".to_owned());
    let incoming = IncomingMessage { history, ..said.check(call.caller()?, "v1", user)? };
    let submitted = chat::submit(&app, incoming).await?;

    let voice = Voice {
        id: format!("chatcmpl-{}", submitted.id),
        created: app.clock.now().millis() / 1000,
        model: AGENT.to_owned(),
        session: Some(submitted.session.id()),
    };
    let tail = submitted.session.tail(submitted.seq);
    let budget = call.caller()?.budget();
    let mut run = Run { app, submitted, tail, said: String::new(), usage: None, asked: None, budget, ended: false };
    let mut ending = call.ends.watch();
    if request.stream.unwrap_or(false) {
        let usage = request.include_usage();
        let stream = Stream { voice, run, ending, usage, begun: false, over: false };
        return Ok(sse::response(sse::frames(stream), sse::OwnEnd));
    }
    loop {
        let more = tokio::select! {
            biased;
            piece = run.next() => piece?.is_some(),
            end = ending.ended() => return Err(auth::ended(end)),
        };
        if !more {
            break;
        }
    }
    api::json(&voice.whole(run.said, Vec::new(), Logprobs::default(), "stop", run.usage))
}

/// What is said, and the session that it goes to.
fn said(request: &ChatCompletionRequest) -> Result<(Conversation, Option<String>), HttpError> {
    if request.tools.as_ref().is_some_and(|tools| !tools.is_empty()) {
        return Err(
            HttpError::bad_request("model `oxios` has tools of its own and takes none; ask the plain model for tools").param("tools")
        );
    }
    let session = match request.metadata.as_ref().and_then(|metadata| metadata.get("session_id")) {
        None | Some(Value::Null) => None,
        Some(Value::String(id)) => Some(id.clone()).filter(|id| !id.is_empty()),
        Some(_) => return Err(HttpError::bad_request("metadata.session_id: expected a text").param("metadata.session_id")),
    };
    let said = if session.is_some() { conversation::last(&request.messages)? } else { conversation::whole(&request.messages)? };
    Ok((said, session))
}

/// A run that is being read.
struct Run {
    app: Arc<App>,
    submitted: Submitted,
    tail: Tail,
    /// The answer so far.
    said: String,
    /// Of all model calls so far; those before an attached retry count, too.
    usage: Option<Usage>,
    asked: Option<Record>,
    /// Of the key that asks.
    budget: Option<Budget>,
    /// Nothing more is read.
    ended: bool,
}

impl Run {
    /// The next piece of the answer; none when it has ended or waits for a person, who is told so.
    async fn next(&mut self) -> Result<Option<String>, HttpError> {
        if self.ended {
            return Ok(None);
        }
        let id = self.submitted.id;
        // The gateway has closed its books: what the log does not show by now never comes.
        let mut closed = false;
        loop {
            let step = tokio::select! {
                biased;
                step = self.tail.next() => step?,
                () = self.app.gateway.over(id), if !closed => {
                    closed = true;
                    if !self.tail.caught_up() {
                        continue;
                    }
                    return Err(chat::unwritten(&self.app));
                }
            };
            let entry = match step {
                Step::Record(entry) => entry,
                Step::Resync { .. } => continue,
                Step::Deleted => return Err(HttpError::conflict("the session was deleted").code("deleted")),
            };
            if entry.message_id == Some(id) {
                match &entry.record.body {
                    Body::Token { text } => return Ok(Some(self.say(text.clone()))),
                    Body::Usage { input_tokens, output_tokens, .. } => {
                        let usage = self.usage.get_or_insert_default();
                        usage.input_tokens = usage.input_tokens.saturating_add(*input_tokens);
                        usage.output_tokens = usage.output_tokens.saturating_add(*output_tokens);
                    }
                    Body::Done(ending) => {
                        self.ended = true;
                        let rest = match ending.text.strip_prefix(&*self.said) {
                            Some(rest) => rest.to_owned(),
                            // Pieces were skipped, and what was sent cannot be taken back.
                            None => format!("\n\n{}", ending.text),
                        };
                        return Ok(if rest.is_empty() { None } else { Some(self.say(rest)) });
                    }
                    Body::Failed(ending) | Body::Cancelled(ending) | Body::Interrupted(ending) => {
                        return Err(chat::cut(&self.app.books, self.budget, ending));
                    }
                    Body::ApprovalRequested { .. } => self.asked = Some(entry.record.clone()),
                    Body::ApprovalResolved { .. } => self.asked = None,
                    _ => {}
                }
            }
            if self.tail.caught_up() {
                if let Some(record) = self.asked.take() {
                    self.ended = true;
                    // Whoever is told of the question can find and decide it.
                    self.app.gateway.parked(id).await;
                    let text = self.question(&record);
                    return Ok(Some(self.say(text)));
                }
                if closed {
                    return Err(chat::unwritten(&self.app));
                }
            }
        }
    }

    fn say(&mut self, text: String) -> String {
        self.said.push_str(&text);
        text
    }

    /// What a person has to do.
    fn question(&self, record: &Record) -> String {
        let Body::ApprovalRequested { approval_id, action, resource, .. } = &record.body else { return String::new() };
        let space = if self.said.is_empty() { "" } else { "\n\n" };
        format!(
            "{space}A person has to approve this first: {action} {resource}. Say yes with POST /api/approvals/{approval_id}/approve or no \
             with POST /api/approvals/{approval_id}/reject; the answer is then in GET /api/sessions/{}.",
            self.submitted.session.id()
        )
    }
}

struct Stream {
    voice: Voice,
    run: Run,
    ending: auth::Ending,
    /// The usage is wanted.
    usage: bool,
    begun: bool,
    over: bool,
}

impl sse::Source for Stream {
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        if !self.begun {
            self.begun = true;
            return Some(self.voice.role());
        }
        let next = tokio::select! {
            biased;
            // Told as what it is: a stream that simply ends is a whole answer to its reader.
            end = self.ending.ended() => Err(auth::ended(end)),
            piece = self.run.next() => piece,
        };
        Some(match next {
            Ok(Some(text)) => self.voice.text(text, Logprobs::default()),
            Ok(None) => {
                self.over = true;
                self.voice.end("stop", Logprobs::default(), self.run.usage.filter(|_| self.usage))
            }
            Err(error) => {
                self.over = true;
                answer::failed(&error)
            }
        })
    }
}
