//! The plain model: one call of the engine, tools passed through, nothing kept. A client that goes away ends the call.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::api::v1::answer::{self, Logprobs, Voice};
use crate::api::v1::asked::asked;
use crate::api::v1::completions::ChatCompletionRequest;
use crate::api::v1::{error, models};
use crate::api::{self, App, Call};
use crate::base::cancel::{self, Canceller};
use crate::base::ids::MessageId;
use crate::base::time::Clock;
use crate::http::error::{ErrorStatus, HttpError};
use crate::http::{Response, sse};
use crate::llm::request::{Event, Finish, Tally, Usage};
use crate::llm::{self, CountedCall, LlmError};
use crate::middleware::auth;
use crate::store::keys::Reservation;

/// When a refused call is worth another try, in seconds.
const RETRY_SECS: u64 = 2;

/// Answers as the plain model.
pub(super) async fn answer(app: Arc<App>, call: &Call, request: ChatCompletionRequest) -> Result<Response, HttpError> {
    let engine = models::choose(&app.engine.load(), &request.model)?;
    if request.idempotency_key.is_some() || call.headers.contains_key("idempotency-key") {
        let text = "a plain model's answers are not kept, so no retry could find one: leave the idempotency key out, or ask model `oxios`";
        return Err(HttpError::bad_request(text).param("idempotency_key"));
    }
    let (stream, usage) = (request.stream.unwrap_or(false), request.include_usage());
    let asked = asked(&request)?;
    if let Some(field) = engine.beyond(&asked) {
        return Err(HttpError::bad_request(format!("this model's provider has no `{field}` of this kind; leave it out")).param(field));
    }
    if asked.max_tokens > engine.max_tokens() {
        let text = format!("at most {} tokens can be asked for here (engine.max_tokens)", engine.max_tokens());
        let field = if request.max_completion_tokens.is_some() { "max_completion_tokens" } else { "max_tokens" };
        return Err(HttpError::bad_request(text).param(field));
    }
    let Ok(permit) = app.plain_calls.clone().try_acquire_owned() else {
        let public = "too many model calls run; try again in a moment";
        return Err(HttpError::new(ErrorStatus::Unavailable, "busy", public).retry_after(RETRY_SECS));
    };
    let (canceller, cancel) = cancel::pair();
    let deadline = Instant::now() + app.settings.load().max_execution;
    let purse = app.books.purse(call.caller()?.budget().map(|budget| budget.id));
    let tally = Tally::new(&asked);
    let mut ending = call.ends.watch();
    let reserved = tokio::select! {
        reserved = purse.reserve(engine.tokens_at_most(&asked)) => reserved?,
        () = tokio::time::sleep_until(deadline) => return Err(late()),
        end = ending.ended() => return Err(auth::ended(end)),
    };
    let mut model = Model {
        counted: CountedCall::begin(&app.metrics, engine.counted_as(), app.clock.monotonic()),
        call: engine.call(asked, &cancel),
        deadline,
        tally,
        reserved,
        told: None,
        clock: app.clock.clone(),
        asked_as: engine.told_as().map(|told| (told, request.model)),
        _canceller: canceller,
        _permit: permit,
    };
    // The head waits for the first event, so that a model that fails at once is an error with a status.
    let first = model.next(&mut ending).await?;
    let voice = Voice {
        id: format!("chatcmpl-{}", MessageId::random(&*app.random)),
        created: app.clock.now().millis() / 1000,
        model: model.call.model().to_owned(),
        session: None,
    };
    if stream {
        let stream =
            Stream { voice, model, ending, first, begun: false, calls: 0, logprobs: Logprobs::default(), wanted: usage, over: false };
        return Ok(sse::response(sse::frames(stream), sse::OwnEnd));
    }
    let (mut text, mut calls, mut logprobs, mut finish) = (String::new(), Vec::new(), Logprobs::default(), Finish::Stop);
    let mut next = first;
    while let Some(event) = next {
        match event {
            Event::Text(piece) => text.push_str(&piece),
            Event::Logprobs(more) => logprobs.add(more),
            Event::Call(made) => calls.push(made),
            Event::Usage(_) => {}
            Event::Finish(why) => finish = why,
        }
        next = model.next(&mut ending).await?;
    }
    api::json(&voice.whole(text, calls, logprobs, answer::word(finish), model.told))
}

/// A call under way; dropping it closes its connection and gives its place back.
struct Model {
    /// For the metrics. Before the call, so that it is counted when its server sees the connection close.
    counted: CountedCall,
    call: llm::Call,
    deadline: Instant,
    tally: Tally,
    /// Tokens of the key's budget; settled when this is dropped.
    reserved: Reservation,
    /// What its server said it used.
    told: Option<Usage>,
    clock: Arc<dyn Clock>,
    /// What the engine's errors call the model, and what its client calls it; where these are not the same.
    asked_as: Option<(&'static str, String)>,
    _canceller: Canceller,
    _permit: OwnedSemaphorePermit,
}

impl Model {
    async fn next(&mut self, ending: &mut auth::Ending) -> Result<Option<Event>, HttpError> {
        self.reserved.used(self.tally.usage().total());
        tokio::select! {
            biased;
            // Before what the model says: a fast one would say all of it first.
            end = ending.ended() => Err(auth::ended(end)),
            event = self.call.next() => {
                self.count(&event);
                event.map_err(|mut error| {
                    // The log does not repeat a name that a client chose; to this client it can be said.
                    if let Some((told, asked)) = &self.asked_as {
                        error.public = error.public.replacen(told, asked, 1);
                    }
                    error::of_model(error)
                })
            }
            () = tokio::time::sleep_until(self.deadline) => Err(late()),
        }
    }
}

fn late() -> HttpError {
    HttpError::new(ErrorStatus::GatewayTimeout, "deadline", "the answer took longer than security.max_execution_time_secs")
}

impl Model {
    fn count(&mut self, event: &Result<Option<Event>, LlmError>) {
        let used = match event {
            Ok(event) => {
                if let Some(event) = event {
                    self.counted.piece(self.clock.monotonic());
                    self.tally.saw(event);
                }
                self.tally.usage()
            }
            Err(error) => self.tally.failed(error),
        };
        self.reserved.used(used.total());
        match event {
            Ok(Some(Event::Usage(usage))) => self.told = Some(*usage),
            // What follows the end is nothing.
            Ok(Some(Event::Finish(_))) => {
                self.counted.done(used.input_tokens, used.output_tokens);
            }
            Ok(_) => {}
            Err(_) => self.counted.failed(),
        }
    }
}

struct Stream {
    voice: Voice,
    model: Model,
    ending: auth::Ending,
    /// The event that came before the head.
    first: Option<Event>,
    begun: bool,
    /// Tool calls so far.
    calls: usize,
    /// Of the text that comes next.
    logprobs: Logprobs,
    /// The usage is wanted.
    wanted: bool,
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
        loop {
            let event = match self.first.take() {
                Some(event) => Ok(Some(event)),
                None => self.model.next(&mut self.ending).await,
            };
            return Some(match event {
                Ok(Some(Event::Text(text))) => self.voice.text(text, std::mem::take(&mut self.logprobs)),
                Ok(Some(Event::Logprobs(more))) => {
                    self.logprobs.add(more);
                    continue;
                }
                Ok(Some(Event::Call(call))) => {
                    self.calls += 1;
                    self.voice.call(call, self.calls - 1)
                }
                Ok(Some(Event::Usage(_))) => continue,
                Ok(Some(Event::Finish(finish))) => self.end(finish),
                Ok(None) => self.end(Finish::Stop),
                Err(error) => {
                    self.over = true;
                    answer::failed(&error)
                }
            });
        }
    }
}

impl Stream {
    fn end(&mut self, finish: Finish) -> Bytes {
        self.over = true;
        let rest = std::mem::take(&mut self.logprobs);
        self.voice.end(answer::word(finish), rest, self.model.told.filter(|_| self.wanted))
    }
}
