//! A run's call of a tool: carried out at once, shown to a person first, or refused; and what it gave, for the log and the model.

use serde_json::{Map, Value};

use crate::base::cancel::Why;
use crate::base::limits::{JSON_DEPTH_MAX, RESULT_BYTES_MAX, RESULT_INLINE_BYTES_MAX};
use crate::base::text::beginning;
use crate::events::Kind;
use crate::llm::request::ToolCall;
use crate::orchestrator::foreign;
use crate::orchestrator::group;
use crate::orchestrator::recorded::UNRECORDED;
use crate::orchestrator::run::{Next, Run};
use crate::orchestrator::state::Input;
use crate::orchestrator::tools::{self, Shown, Tool};
use crate::store::StoreError;
use crate::store::audit::What;
use crate::store::record::{Body, ToolOutcome};
use crate::wire::json;

impl Run<'_> {
    /// A tool call: run at once, or a question to a person.
    pub(crate) async fn tool(&mut self, call: ToolCall) -> Result<Next, StoreError> {
        if call.name == group::SPLIT && group::may_split(&self.state, &self.rules) {
            return Box::pin(self.split(&call)).await;
        }
        if let Some((theirs, risky)) = self.backdrop.find(&call.name).map(|tool| (tool.theirs.clone(), tool.risky)) {
            return Box::pin(self.foreign_tool(&call, &theirs, risky)).await;
        }
        let Some(tool) = tools::find(&call.name).filter(|tool| tool.usable(self.memory_on())) else {
            let task = self.state.may_ask();
            let names: Vec<_> =
                tools::offered(task, self.memory_on()).into_iter().chain(self.backdrop.offered(task)).map(|t| t.name).collect();
            return self
                .refuse(&call, ToolOutcome::Error, format!("there is no tool `{}`; there are: {}", call.name, names.join(", ")))
                .await;
        };
        if tool.is_risky() && !self.state.may_ask() {
            return self.refuse(&call, ToolOutcome::Error, self.not_here(&call.name)).await;
        }
        let arguments = match tool.arguments(&call.arguments) {
            Ok(arguments) => arguments,
            Err(problem) => return self.refuse(&call, ToolOutcome::Error, problem).await,
        };
        if tool.is_risky() {
            return match self.look(tool, arguments).await {
                Ok(Ok(shown)) => Box::pin(self.park(&call, shown)).await,
                Ok(Err(problem)) => self.refuse(&call, ToolOutcome::Error, problem).await,
                Err(input) => Ok(Next::Input(input)),
            };
        }
        self.append(vec![called(&call, Value::Object(arguments.clone()), false)]).await?;
        if self.parts.audit.admit().is_err() {
            return self.tool_said(&call.id, ToolOutcome::Error, UNRECORDED.to_owned()).await;
        }
        // Recorded also where the run is stopped while it works.
        let mut recorded = self.records(What::Tool(tool.name));
        let work = tool.run(self.reach.clone(), arguments);
        let said = tokio::select! {
            biased;
            why = self.cancel.cancelled() => return Ok(Next::Input(Input::Stopped(why))),
            () = self.deadline.as_mut() => return Ok(Next::Input(Input::Stopped(Why::Deadline))),
            said = work => said,
        };
        recorded.done(said.is_ok());
        match (call.name.as_str(), &said) {
            ("remember", Ok(_)) => self.publish(Kind::MemoryStored, []),
            ("recall", Ok(_)) => self.publish(Kind::MemoryRecalled, []),
            _ => {}
        }
        let outcome = if said.is_ok() { ToolOutcome::Ok } else { ToolOutcome::Error };
        self.tool_said(&call.id, outcome, said.unwrap_or_else(|text| text)).await
    }

    /// What a risky tool would do; the input is what came instead.
    pub(crate) async fn look(&mut self, tool: &Tool, arguments: Map<String, Value>) -> Result<Result<Shown, String>, Input> {
        tokio::select! {
            biased;
            why = self.cancel.cancelled() => Err(Input::Stopped(why)),
            () = self.deadline.as_mut() => Err(Input::Stopped(Why::Deadline)),
            shown = tool.show(self.reach.clone(), arguments) => Ok(shown),
        }
    }

    /// Why a risky tool is not for this run, or not yet.
    fn not_here(&self, name: &str) -> String {
        match self.state.member {
            Some(_) => {
                format!("`{name}` is not for a member of a group; write down what should be done with it, and it will be done later")
            }
            None => format!("`{name}` works within a task only; call start_task if the user wants this done"),
        }
    }

    /// A call of another server's tool: made at once, or a question to a person.
    async fn foreign_tool(&mut self, call: &ToolCall, theirs: &str, risky: bool) -> Result<Next, StoreError> {
        if risky && !self.state.may_ask() {
            return self.refuse(call, ToolOutcome::Error, self.not_here(&call.name)).await;
        }
        match foreign::arguments(&call.arguments) {
            Ok(arguments) if risky => Box::pin(self.park(call, foreign::shown(&call.name, theirs, &arguments))).await,
            Ok(arguments) => Box::pin(self.call_foreign(call, theirs, arguments, false)).await,
            Err(problem) => self.refuse(call, ToolOutcome::Error, problem).await,
        }
    }

    /// A call that is not carried out: call and answer go into the log together.
    pub(crate) async fn refuse(&mut self, call: &ToolCall, outcome: ToolOutcome, text: String) -> Result<Next, StoreError> {
        let arguments = json::parse(call.arguments.as_bytes(), JSON_DEPTH_MAX)
            .unwrap_or_else(|_| Value::String(call.arguments.chars().take(2000).collect()));
        let record = called(call, arguments, false);
        let result = Body::ToolResult { call_id: call.id.clone(), outcome, content: text.clone(), blob: None };
        self.append(vec![record, result]).await?;
        Ok(Next::Input(Input::Tool { outcome, content: text }))
    }

    /// A tool's answer goes into the log (a large one into its own file) and to the model.
    pub(crate) async fn tool_said(&mut self, call_id: &str, outcome: ToolOutcome, mut text: String) -> Result<Next, StoreError> {
        if text.len() > RESULT_BYTES_MAX {
            text.truncate(beginning(&text, RESULT_BYTES_MAX).len());
            text.push_str("\n[cut here]");
        }
        let (content, blob) = if text.len() > RESULT_INLINE_BYTES_MAX {
            let blob = self.job.session.put_blob(text.clone().into_bytes()).await?;
            (beginning(&text, RESULT_INLINE_BYTES_MAX).to_owned(), Some(blob))
        } else {
            (text.clone(), None)
        };
        self.append(vec![Body::ToolResult { call_id: call_id.to_owned(), outcome, content, blob }]).await?;
        Ok(Next::Input(Input::Tool { outcome, content: text }))
    }
}

/// The record of a call.
pub(crate) fn called(call: &ToolCall, arguments: Value, risky: bool) -> Body {
    Body::ToolCall { call_id: call.id.clone(), name: call.name.clone(), arguments, risky, agent_id: None }
}
