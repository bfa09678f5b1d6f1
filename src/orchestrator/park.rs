//! Parking on a person's decision, and going on after it.
//!
//! What is shown is exactly what would happen; the decision is bound to its digest (THREATS 22). Order on disk: checkpoint and
//! question together, then the question's file; later the decision (the gateway's), then the call, then its result. Whatever
//! falls between two of them leaves a state that is read the same way: a call without a result is never run again.

use serde_json::Value;

use crate::base::ids::ApprovalId;
use crate::base::limits::LOG_LINE_BYTES_MAX;
use crate::base::log;
use crate::base::text;
use crate::events::Kind;
use crate::llm::request::ToolCall;
use crate::orchestrator::Outcome;
use crate::orchestrator::foreign;
use crate::orchestrator::history::trim_results;
use crate::orchestrator::recorded::UNRECORDED;
use crate::orchestrator::run::{Next, Run, blocking};
use crate::orchestrator::state::{Input, State, Waiting};
use crate::orchestrator::tool_call::called;
use crate::orchestrator::tools::{self, CHANGED, Shown};
use crate::rooms::approvals::{Approval, Status};
use crate::store::StoreError;
use crate::store::audit::What;
use crate::store::record::{Body, Decision, Problem, Record, ToolOutcome};

/// A run that was resumed so often from one point without getting further takes the process down with it.
const RESUMES_MAX: u32 = 3;

/// Why something is to be done, as a person who decides reads it: what is decided on stands below, and is not to be out of sight.
const REASON_CHARS_MAX: usize = 300;
/// Tool results in a checkpoint; with six bytes for one in JSON it still is a line that the log takes.
const RESULTS_KEPT_BYTES_MAX: usize = 512 * 1024;
const _: () = assert!(RESULTS_KEPT_BYTES_MAX * 6 < LOG_LINE_BYTES_MAX / 2);

impl Run<'_> {
    /// Asks a person whether the tool may do what is shown, and leaves.
    pub(crate) async fn park(&mut self, call: &ToolCall, shown: Shown) -> Result<Next, StoreError> {
        let now = self.parts.clock.now();
        let approval = Approval {
            id: ApprovalId::random(&*self.parts.random),
            owner: self.job.owner,
            session_id: self.job.session.id(),
            message_id: self.job.message_id,
            call_id: call.id.clone(),
            subject: "agent".into(),
            action: call.name.clone(),
            resource: shown.resource.clone(),
            reason: self.state.seed.as_ref().map(|seed| text::shown(&seed.goal, REASON_CHARS_MAX)).unwrap_or_default(),
            digest: shown.digest(),
            shown: shown.shown,
            created_at: now,
            expires_at: now.plus(self.settings.approval_ttl),
            status: Status::Pending,
        };
        self.state.waiting = Some(Waiting { approval_id: approval.id, digest: approval.digest.clone() });
        let checkpoint = self.checkpoint();
        let asked = Body::ApprovalRequested {
            approval_id: approval.id,
            call_id: approval.call_id.clone(),
            action: approval.action.clone(),
            resource: approval.resource.clone(),
            reason: approval.reason.clone(),
            shown: approval.shown.clone(),
            digest: approval.digest.clone(),
            expires_at: approval.expires_at,
        };
        self.append(vec![checkpoint, asked]).await?;
        let id = approval.id;
        let room = self.parts.approvals.clone();
        if let Err(problem) = blocking(move || room.create(&approval).map_err(|e| e.to_string())).await {
            // Nobody could find the question: it is answered here, or the run would wait for ever.
            log::warn("run", format_args!("approval {id} was not kept: {problem}"));
            self.append(vec![Body::ApprovalResolved { approval_id: id, decision: Decision::Rejected }]).await?;
            return self.refuse(call, ToolOutcome::Refused, format!("nobody could be asked ({problem}); it was not done")).await;
        }
        self.record_question(id);
        self.publish(Kind::ApprovalRequested, [("approval_id", id.to_string().into()), ("action", call.name.clone().into())]);
        Ok(Next::Left(Outcome::Parked(id)))
    }

    /// Goes on from the last checkpoint with the decision that is in the log.
    pub(crate) async fn resume(&mut self) -> Result<Next, StoreError> {
        let message = self.job.message_id;
        let kept = self.job.session.last_checkpoint(message).await?;
        let Some(state) = kept.and_then(|value| serde_json::from_value::<State>(value).ok()) else {
            return Ok(Next::Input(Input::Broken(Problem::internal(
                "the place where this run waited cannot be read any more; please send the message again",
            ))));
        };
        self.go_on_from(state);
        let (Some(call), Some(waiting)) = (self.state.running.clone(), self.state.waiting.clone()) else {
            return Ok(Next::Input(Input::Broken(Problem::internal("this run waited for nothing; please send the message again"))));
        };
        let records = self.job.session.records_of(message).await?;
        let Some(decision) = decision(&records, waiting.approval_id) else {
            return Ok(Next::Left(Outcome::Parked(waiting.approval_id)));
        };
        self.state.resumes += 1;
        if self.state.resumes > RESUMES_MAX {
            return Ok(Next::Input(Input::Broken(Problem::internal("this run ended the server several times; it is not tried again"))));
        }
        let checkpoint = self.checkpoint();
        self.append(vec![checkpoint]).await?;
        if let Some((outcome, content)) = result(&records, &call.id) {
            return Ok(Next::Input(Input::Tool { outcome, content }));
        }
        if was_started(&records, &call.id) {
            let text = "the process ended while this ran: it may or may not have happened. It is not done again; look before you go on";
            return self.tool_said(&call.id, ToolOutcome::Unknown, text.to_owned()).await;
        }
        match decision {
            Decision::Approved => self.carry_out(&call, &waiting, &records).await,
            Decision::Rejected => {
                self.refuse(&call, ToolOutcome::Refused, "the user said no; it was not done. Do not ask again".into()).await
            }
            Decision::Expired => {
                self.refuse(&call, ToolOutcome::Refused, "nobody answered in time; it was not done. Do not ask again".into()).await
            }
        }
    }

    /// Does what was approved, if it still is what was shown.
    async fn carry_out(&mut self, call: &ToolCall, waiting: &Waiting, records: &[Record]) -> Result<Next, StoreError> {
        let digest = waiting.digest.as_str();
        // Of another server, whether it is on offer now or not: it may still be starting, and what was approved waits for that.
        if self.backdrop.find(&call.name).is_some() || (tools::find(&call.name).is_none() && call.name.contains("__")) {
            let theirs = shown(records, waiting.approval_id).map_or("", foreign::theirs);
            return self.carry_out_foreign(call, theirs, digest).await;
        }
        let Some(tool) = tools::find(&call.name) else {
            return self.refuse(call, ToolOutcome::Error, format!("there is no tool `{}` any more", call.name)).await;
        };
        let arguments = match tool.arguments(&call.arguments) {
            Ok(arguments) => arguments,
            Err(problem) => return self.refuse(call, ToolOutcome::Error, problem).await,
        };
        // Who approved and then cancelled does not want it any more; behind the look it is not stopped.
        let now = match self.look(tool, arguments.clone()).await {
            Ok(Ok(now)) => now,
            Ok(Err(problem)) => return self.refuse(call, ToolOutcome::Error, problem).await,
            Err(input) => return Ok(Next::Input(input)),
        };
        if now.digest() != digest {
            return self.refuse(call, ToolOutcome::Error, CHANGED.into()).await;
        }
        let mut recorded = self.records(What::Tool(tool.name));
        if recorded.begun().await.is_err() {
            return self.refuse(call, ToolOutcome::Error, UNRECORDED.to_owned()).await;
        }
        self.append(vec![called(call, Value::Object(arguments.clone()), true)]).await?;
        // Not stopped half-way: it is short, and its outcome must be known.
        let said = tool.carry_out(self.reach.clone(), arguments, now).await;
        recorded.done(said.is_ok());
        let outcome = if said.is_ok() { ToolOutcome::Ok } else { ToolOutcome::Error };
        self.tool_said(&call.id, outcome, said.unwrap_or_else(|text| text)).await
    }

    /// The same for another server's tool: what it acts on is not ours to look at, the call itself must be what was shown.
    async fn carry_out_foreign(&mut self, call: &ToolCall, theirs: &str, digest: &str) -> Result<Next, StoreError> {
        let arguments = match foreign::arguments(&call.arguments) {
            Ok(arguments) => arguments,
            Err(problem) => return self.refuse(call, ToolOutcome::Error, problem).await,
        };
        if foreign::shown(&call.name, theirs, &arguments).digest() != digest {
            return self.refuse(call, ToolOutcome::Error, "this is not what was shown; nothing was done".into()).await;
        }
        if let Some(why) = self.told_to_stop() {
            return Ok(Next::Input(Input::Stopped(why)));
        }
        self.call_foreign(call, theirs, arguments, true).await
    }

    /// All that the run goes on from.
    fn checkpoint(&mut self) -> Body {
        self.note_time();
        trim_results(&mut self.state.transcript, RESULTS_KEPT_BYTES_MAX);
        Body::Checkpoint {
            calls: self.state.spent.calls,
            tokens: self.state.spent.tokens,
            seed_id: self.state.seed.as_ref().map(|seed| seed.id),
            state: serde_json::to_value(&self.state).ok(),
        }
    }
}

/// The first decision counts.
fn decision(records: &[Record], approval: ApprovalId) -> Option<Decision> {
    records.iter().find_map(|record| match &record.body {
        Body::ApprovalResolved { approval_id, decision } if *approval_id == approval => Some(*decision),
        _ => None,
    })
}

/// What was shown to whoever decided.
fn shown(records: &[Record], approval: ApprovalId) -> Option<&Value> {
    records.iter().find_map(|record| match &record.body {
        Body::ApprovalRequested { approval_id, shown, .. } if *approval_id == approval => Some(shown),
        _ => None,
    })
}

fn result(records: &[Record], call: &str) -> Option<(ToolOutcome, String)> {
    records.iter().find_map(|record| match &record.body {
        Body::ToolResult { call_id, outcome, content, .. } if call_id == call => Some((*outcome, content.clone())),
        _ => None,
    })
}

/// A risky call that is in the log was started.
fn was_started(records: &[Record], call: &str) -> bool {
    records.iter().any(|record| matches!(&record.body, Body::ToolCall { call_id, risky: true, .. } if call_id == call))
}
