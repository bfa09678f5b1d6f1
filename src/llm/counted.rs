//! A model call that is counted in the metrics: how it ended, its tokens, how long its first piece took.

use std::sync::Arc;
use std::time::Duration;

use crate::base::cancel::Cancel;
use crate::base::metrics::{Metrics, ModelCounts};
use crate::base::time::Clock;
use crate::llm::request::{Event, Request, Usage, tokens};
use crate::llm::{Call, Engine, Kind, LlmError};

/// A [`Call`] under way. It counts as done when the model has finished, as failed at an error, and as cancelled where it is
/// dropped before either.
pub struct CountedCall {
    call: Call,
    counts: Arc<ModelCounts>,
    clock: Arc<dyn Clock>,
    /// Monotonic time at which it began.
    began: Duration,
    /// A piece of the answer has come.
    begun: bool,
    /// It has been counted.
    over: bool,
    /// What the request takes, by our own estimate.
    asked: u64,
    /// What has been written, by our own estimate.
    written: u64,
    /// What the model's server says.
    usage: Option<Usage>,
}

impl CountedCall {
    /// Begins a call. Nothing is sent before the first [`Self::next`].
    pub fn begin(engine: &Engine, request: Request, cancel: &Cancel, metrics: &Metrics, clock: Arc<dyn Clock>) -> Self {
        let asked = size(&request);
        Self {
            call: engine.call(request, cancel),
            counts: metrics.model(engine.model_name()),
            began: clock.monotonic(),
            clock,
            begun: false,
            over: false,
            asked,
            written: 0,
            usage: None,
        }
    }

    /// The next event, as [`Call::next`] says.
    pub async fn next(&mut self) -> Result<Option<Event>, LlmError> {
        let event = self.call.next().await;
        match &event {
            Ok(Some(Event::Text(text))) => self.piece(text),
            Ok(Some(Event::Call(call))) => self.piece(&call.arguments),
            Ok(Some(Event::Usage(used))) => self.usage = Some(*used),
            Ok(Some(Event::Finish(_)) | None) => self.end("done"),
            Err(error) => self.end(if matches!(error.kind, Kind::Cancelled(_)) { "cancelled" } else { "failed" }),
        }
        event
    }

    /// `provider/model` that is answering.
    pub fn model(&self) -> &str {
        self.call.model()
    }
    /// What the model's server said it used so far, if anything.
    pub fn told(&self) -> Option<Usage> {
        self.usage
    }
    /// The same, or our own estimate.
    pub fn used(&self) -> Usage {
        self.usage.unwrap_or(Usage { input_tokens: self.asked, output_tokens: self.written })
    }
    /// How long it has taken so far.
    pub fn took(&self) -> Duration {
        self.clock.monotonic().saturating_sub(self.began)
    }

    fn piece(&mut self, text: &str) {
        self.written = self.written.saturating_add(u64::from(tokens(text)).saturating_sub(3));
        if !self.begun {
            self.begun = true;
            self.counts.first_piece.took(self.took());
        }
    }

    fn end(&mut self, outcome: &str) {
        if !self.over {
            self.over = true;
            self.counts.calls.one(outcome);
            if outcome == "done" {
                let used = self.used();
                self.counts.tokens_in.add(used.input_tokens);
                self.counts.tokens_out.add(used.output_tokens);
            }
        }
    }
}

impl Drop for CountedCall {
    fn drop(&mut self) {
        self.end("cancelled");
    }
}

fn size(request: &Request) -> u64 {
    let messages: u64 = request.messages.iter().map(|m| serde_json::to_string(m).map_or(0, |text| u64::from(tokens(&text)))).sum();
    messages.saturating_add(u64::from(tokens(&request.system)))
}
