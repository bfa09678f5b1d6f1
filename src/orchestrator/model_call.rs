//! A run's call of a model: what it is told, what of the key's budget it takes, and the pieces of its answer as they come.

use std::sync::Arc;

use tokio::time::sleep;

use crate::base::cancel::Why;
use crate::base::log;
use crate::llm::error::Kind as LlmKind;
use crate::llm::request::{Event, Finish, Tally};
use crate::llm::{Engine, LlmError};
use crate::orchestrator::prompt::{Ground, request};
use crate::orchestrator::run::Run;
use crate::orchestrator::state::{Ask, Ended, Failure, Input, Stage};
use crate::store::StoreError;
use crate::store::keys::Reservation;

impl Run<'_> {
    /// One model call from its request to its end. The pieces of its text go through `step` as they come.
    pub(crate) async fn ask(&mut self, ask: Ask) -> Result<Input, StoreError> {
        let engine = self.engine_of(ask.stage);
        let engine = match &engine {
            Asked::Model(engine) => engine.as_ref(),
            Asked::Judge(judges, n) => match judges.get(*n) {
                Some(engine) => engine,
                None => return Ok(Input::Failed(Failure::Other("there is no such judge".into()))),
            },
        };
        let ground = Ground {
            history: &self.history,
            context: engine.context_tokens(),
            memory: self.memory_on(),
            own: &self.own,
            backdrop: &self.backdrop,
            group: self.rules.group,
        };
        let request = request(&self.state, ask, &ground);
        // Once a stage: they are the same from call to call.
        if ask.tools && self.state.turns == 1 {
            let all = self.backdrop.offered(ask.stage == Stage::Execute && self.state.may_ask()).count();
            let told = request.tools.iter().filter(|tool| self.backdrop.find(&tool.name).is_some()).count();
            if told < all {
                log::info(
                    "run",
                    format_args!("of {all} tools of other servers {told} are offered: engine.context_tokens has no room for more"),
                );
            }
        }
        let mut tally = Tally::new(&request);
        let mut reserved = match self.reserve(engine.tokens_at_most(&request)).await {
            Ok(reserved) => reserved,
            Err(input) => return Ok(input),
        };
        let began = self.parts.clock.monotonic();
        let mut counted = self.counts_call(engine.model_name());
        let mut call = engine.call(request, &self.cancel);
        let mut finish = None;
        loop {
            reserved.used(tally.usage().total());
            let due = self.joiner.due(self.parts.clock.monotonic());
            let event = tokio::select! {
                biased;
                why = self.cancel.cancelled() => return Ok(Input::Stopped(why)),
                () = self.deadline.as_mut() => return Ok(Input::Stopped(Why::Deadline)),
                () = async { sleep(due.unwrap_or_default()).await }, if due.is_some_and(|d| !d.is_zero()) => {
                    self.flush().await?;
                    continue;
                }
                event = call.next() => event,
            };
            counted.piece(self.parts.clock.monotonic());
            if let Ok(Some(event)) = &event {
                tally.saw(event);
            }
            let input = match event {
                Ok(Some(Event::Text(text))) => Input::Text(text),
                Ok(Some(Event::Call(call))) => Input::Call(call),
                Ok(Some(Event::Usage(_) | Event::Logprobs(_))) => continue,
                Ok(Some(Event::Finish(why))) => {
                    finish = Some(why);
                    continue;
                }
                Ok(None) => break,
                Err(error) => {
                    counted.failed();
                    reserved.used(tally.failed(&error).total());
                    return Ok(Input::Failed(self.failure(error)));
                }
            };
            self.feed(input).await?;
            if self.joiner.due(self.parts.clock.monotonic()).is_some_and(|due| due.is_zero()) {
                self.flush().await?;
            }
        }
        self.note_time();
        let millis = u64::try_from(self.parts.clock.monotonic().saturating_sub(began).as_millis()).unwrap_or(u64::MAX);
        let used = tally.usage();
        counted.done(used.input_tokens, used.output_tokens);
        let finish = finish.unwrap_or(Finish::Stop);
        Ok(Input::Ended(Ended { finish, model: call.model().to_owned(), usage: used, millis }))
    }

    /// Tokens of the key's budget for one model call; the input is what came instead of them.
    async fn reserve(&mut self, tokens: u64) -> Result<Reservation, Input> {
        tokio::select! {
            biased;
            why = self.cancel.cancelled() => Err(Input::Stopped(why)),
            () = self.deadline.as_mut() => Err(Input::Stopped(Why::Deadline)),
            reserved = self.job.purse.reserve(tokens) => reserved.map_err(|refused| {
                log::warn("run", format_args!("message {}: {}", self.job.message_id, refused.private()));
                Input::Failed(Failure::Unpaid(refused.code(), refused.to_string()))
            }),
        }
    }

    fn engine_of(&self, stage: Stage) -> Asked {
        match stage {
            Stage::Evaluate(n) if n > 0 => Asked::Judge(self.judges.clone(), n - 1),
            _ => Asked::Model(self.engine.clone()),
        }
    }

    pub(crate) fn context_tokens(&self) -> u32 {
        self.engine.context_tokens()
    }

    pub(crate) fn history_bytes(&self) -> usize {
        self.engine.history_bytes()
    }

    fn failure(&self, error: LlmError) -> Failure {
        match error.kind {
            LlmKind::Cancelled(why) => Failure::Stopped(why),
            kind => {
                log::warn("run", format_args!("message {}: {}", self.job.message_id, error.private));
                if kind == LlmKind::ContextTooLong { Failure::TooLong(error.public) } else { Failure::Other(error.public) }
            }
        }
    }
}

/// Who is asked.
enum Asked {
    Model(Arc<Engine>),
    Judge(Arc<Vec<Engine>>, usize),
}
