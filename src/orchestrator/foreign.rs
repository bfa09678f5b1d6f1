//! Tools of other servers (MCP). Their arguments are passed on as the model wrote them, their results are data like any tool's.
//! One that is risky parks on a person's decision, who sees server, tool and arguments exactly.

use serde_json::{Map, Value, json};

use crate::base::cancel::Why;
use crate::base::limits::{FOREIGN_ARGUMENT_BYTES_MAX, JSON_DEPTH_MAX};
use crate::llm::request::ToolCall;
use crate::orchestrator::recorded::UNRECORDED;
use crate::orchestrator::run::{Next, Run};
use crate::orchestrator::state::Input;
use crate::orchestrator::tool_call::called;
use crate::orchestrator::tools::Shown;
use crate::rooms::mcp::Whose;
use crate::store::StoreError;
use crate::store::audit::What;
use crate::store::record::ToolOutcome;
use crate::wire::json;

impl Run<'_> {
    /// Calls one: its record, the call, its result. It ends with the run and at the deadline; where it was risky its outcome is
    /// then unknown, and it is not called again.
    pub(crate) async fn call_foreign(
        &mut self,
        call: &ToolCall,
        theirs: &str,
        arguments: Map<String, Value>,
        risky: bool,
    ) -> Result<Next, StoreError> {
        if self.parts.audit.admit().is_err() {
            return self.refuse(call, ToolOutcome::Error, UNRECORDED.to_owned()).await;
        }
        let mut recorded = self.records(What::foreign_tool(self.parts.audit.keyed(), &call.name));
        if risky && recorded.begun().await.is_err() {
            return self.refuse(call, ToolOutcome::Error, UNRECORDED.to_owned()).await;
        }
        self.append(vec![called(call, Value::Object(arguments.clone()), risky)]).await?;
        let parts = self.parts;
        let (cancel, workspace) = (self.cancel.clone(), self.reach.workspace.clone());
        let whose = Whose { owner: self.job.owner, files: workspace.path() };
        let said = tokio::select! {
            biased;
            why = cancel.cancelled() => return Ok(Next::Input(Input::Stopped(why))),
            () = self.until_deadline() => return Ok(Next::Input(Input::Stopped(Why::Deadline))),
            said = parts.mcp.call(whose, (&call.name, theirs), arguments, &cancel) => said,
        };
        recorded.done(said.is_ok());
        let outcome = if said.is_ok() { ToolOutcome::Ok } else { ToolOutcome::Error };
        self.tool_said(&call.id, outcome, said.unwrap_or_else(|text| text)).await
    }
}

/// The arguments: a JSON object within its limit. What is in it is between the model and the server.
pub(crate) fn arguments(written: &str) -> Result<Map<String, Value>, String> {
    if written.len() > FOREIGN_ARGUMENT_BYTES_MAX {
        return Err(format!("the arguments have {} bytes; at most {FOREIGN_ARGUMENT_BYTES_MAX} are passed on", written.len()));
    }
    let written = if written.trim().is_empty() { "{}" } else { written };
    json::parse(written.as_bytes(), JSON_DEPTH_MAX)
        .map_err(|_| "the arguments are no JSON object (were they cut off?); call the tool again with shorter ones".into())
}

/// What a person decides on: the tool by its server's own name.
pub(crate) fn shown(name: &str, theirs: &str, arguments: &Map<String, Value>) -> Shown {
    let server = name.split_once("__").map_or("", |(server, _)| server);
    Shown { resource: server.to_owned(), shown: json!({"server": server, "tool": theirs, "arguments": arguments}), over: None }
}

/// The server's own name of the tool that was shown.
pub(crate) fn theirs(shown: &Value) -> &str {
    shown.get("tool").and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_an_object_and_a_decision_is_bound_to_all_of_it() {
        assert!(arguments("").unwrap().is_empty());
        for bad in ["[]", "{", "1", &"x".repeat(FOREIGN_ARGUMENT_BYTES_MAX + 1)] {
            assert!(arguments(bad).is_err());
        }
        let one = shown("files__read", "read", &arguments("{\"path\":\"a\"}").unwrap());
        assert_eq!((one.resource.as_str(), theirs(&one.shown)), ("files", "read"));
        let other = shown("files__read", "read", &arguments("{\"path\":\"b\"}").unwrap());
        assert_ne!(one.digest(), other.digest());
        assert_ne!(one.digest(), shown("files__read", "re/ad", &arguments("{\"path\":\"a\"}").unwrap()).digest());
    }
}
