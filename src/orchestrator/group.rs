//! A group: a task whose acceptance criteria do not depend on one another is worked on by several agents at the same time.
//!
//! It is a tool, `split_task`: the model says which parts there are, each becomes a run of its own over the same core, and what
//! they came to is the tool's result. The model joins it into one answer, which is evaluated as a whole.
//!
//! - A member looks things up and changes nothing: a question to a person would park it, and others would have to wait.
//! - The run lends its own permit to one member after the other; further ones work at the same time as permits of the process
//!   are free. So a group never waits for a permit that it holds itself.
//! - What members may use up is set aside before they begin ([`Rules::share`]).
//! - A repair is not split: the smallest change is one agent's work.

use std::pin::Pin;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::base::cancel::{self, Cancel, Why};
use crate::base::ids::AgentId;
use crate::base::limits::JSON_DEPTH_MAX;
use crate::base::text::{beginning, fair_length};
use crate::events::Kind;
use crate::llm::request::{ToolCall, ToolSpec, bytes_of};
use crate::orchestrator::budget::Rules;
use crate::orchestrator::recorded::UNRECORDED;
use crate::orchestrator::run::{Gone, Next, Run};
use crate::orchestrator::state::{Input, Spent, Stage, State};
use crate::orchestrator::structured::texts;
use crate::orchestrator::tool_call::called;
use crate::orchestrator::{EndKind, Job, Parts, schema, unharmed};
use crate::rooms::agents::{Agent, Status};
use crate::rooms::seeds::Seed;
use crate::store::StoreError;
use crate::store::audit::What;
use crate::store::record::{Body, Ending, ToolOutcome};
use crate::wire::json;

/// The tool's name.
pub(crate) const SPLIT: &str = "split_task";
/// The name of a member in the list of agents.
const MEMBER: &str = "member";
/// Criteria of one part.
const PART_CRITERIA_MAX: usize = 20;
/// What a part is to reach, in characters.
const PART_GOAL_CHARS_MAX: usize = 2000;

/// One part of a task.
#[derive(Debug, PartialEq)]
struct Part {
    goal: String,
    criteria: Vec<String>,
}

/// What a member came to.
struct Came {
    spent: Spent,
    /// `None` where it failed inside.
    end: Option<(EndKind, Ending)>,
}

/// Whether this run may be split now.
pub(crate) fn may_split(state: &State, rules: &Rules) -> bool {
    let fitting = |seed: &Seed| seed.acceptance_criteria.len() >= 2 && seed.output_schema.is_none();
    rules.group >= 2 && state.may_ask() && state.attempt == 0 && !state.split && state.seed.as_ref().is_some_and(fitting)
}

/// The tool as it is offered: at most `most` parts.
pub(crate) fn split_tool(most: usize) -> ToolSpec {
    ToolSpec {
        name: SPLIT.into(),
        description: "Gives parts of this task to agents that work at the same time, and answers with what each one came to. Use it once, \
                      first, and only where acceptance criteria do not depend on one another and each takes looking up. These agents \
                      change nothing; what has to be written you do afterwards."
            .into(),
        parameters: parameters(most),
    }
}

fn parameters(most: usize) -> Value {
    let criteria = json!({"type": "array", "maxItems": PART_CRITERIA_MAX, "items": {"type": "string", "minLength": 1}});
    let part = json!({
        "type": "object",
        "properties": {"goal": {"type": "string", "minLength": 1, "maxLength": PART_GOAL_CHARS_MAX}, "acceptance_criteria": criteria},
        "required": ["goal"],
    });
    let parts = json!({"type": "array", "minItems": 2, "maxItems": most, "items": part});
    json!({"type": "object", "properties": {"parts": parts}, "required": ["parts"]})
}

/// The parts that the model wrote; the error is for the model.
fn parts(written: &str, most: usize) -> Result<(Value, Vec<Part>), String> {
    let arguments: Value = json::parse(written.as_bytes(), JSON_DEPTH_MAX)
        .map_err(|_| "the arguments are no JSON object; call the tool again with shorter ones")?;
    schema::check(&parameters(most), &arguments).map_err(|problem| format!("the arguments do not fit: {problem}"))?;
    let items = arguments.get("parts").and_then(Value::as_array).into_iter().flatten();
    let parts = items.filter_map(|item| {
        Some(Part { goal: item.get("goal")?.as_str()?.trim().to_owned(), criteria: texts(item.get("acceptance_criteria")) })
    });
    let parts: Vec<Part> = parts.collect();
    if parts.iter().any(|part| part.goal.is_empty()) {
        return Err("a part has no goal".into());
    }
    Ok((arguments, parts))
}

impl Run<'_> {
    /// Lets a group work on the parts; its result is the tool's.
    pub(crate) async fn split(&mut self, call: &ToolCall) -> Result<Next, StoreError> {
        let (arguments, parts) = match parts(&call.arguments, self.rules.group) {
            Ok(parts) => parts,
            Err(problem) => return self.refuse(call, ToolOutcome::Error, problem).await,
        };
        self.note_time();
        let (Some(share), Some(seed)) = (self.rules.share(&self.state.spent, parts.len()), self.state.seed.clone()) else {
            let text = "too little of what this message may use is left for a group; do it yourself";
            return self.refuse(call, ToolOutcome::Error, text.into()).await;
        };
        self.append(vec![called(call, arguments, false)]).await?;
        if self.parts.audit.admit().is_err() {
            return self.tool_said(&call.id, ToolOutcome::Error, UNRECORDED.to_owned()).await;
        }
        let mut recorded = self.records(What::Tool(SPLIT));
        self.publish(Kind::AgentGroupCreated, [("members", parts.len().into()), ("seed_id", seed.id.to_string().into())]);
        let members: Vec<Member<'_>> = (1..).zip(&parts).map(|(n, part)| self.begin_member(n, part, call, &seed, &share)).collect();
        // The run's own permit, lent to one member at a time. All of them end at the run's deadline, so the group ends with it.
        let lent = Semaphore::new(1);
        let cancel = self.cancel.clone();
        let working = join_all(members.into_iter().map(|member| self.work(member, &lent)));
        let came = tokio::select! {
            biased;
            why = cancel.cancelled() => Err(why),
            came = working => Ok(came),
        };
        let came = match came {
            Ok(came) => came.into_iter().collect::<Result<Vec<Came>, StoreError>>()?,
            Err(why) => return Ok(Next::Input(Input::Stopped(why))),
        };
        for one in &came {
            self.state.spent.calls = self.state.spent.calls.saturating_add(one.spent.calls);
            self.state.spent.tokens = self.state.spent.tokens.saturating_add(one.spent.tokens);
        }
        let good = came.iter().any(|one| matches!(one.end, Some((EndKind::Done, _))));
        recorded.done(good);
        let outcome = if good { ToolOutcome::Ok } else { ToolOutcome::Error };
        let text = joined(&parts, &came, self.context_tokens());
        self.tool_said(&call.id, outcome, text).await
    }

    /// A member as it stands in the list of agents, with the state that it begins in.
    fn begin_member(&self, n: usize, part: &Part, call: &ToolCall, seed: &Seed, share: &Rules) -> Member<'_> {
        let job = Job {
            session: self.job.session.clone(),
            agent_id: AgentId::random(&*self.parts.random),
            message: self.job.message.clone(),
            permits: self.job.permits.clone(),
            purse: self.job.purse.clone(),
            ..*self.job
        };
        let own = Seed { goal: part.goal.clone(), acceptance_criteria: part.criteria.clone(), ontology: Vec::new(), ..seed.clone() };
        let state = State {
            stage: Stage::Execute,
            message: self.state.message.clone(),
            request: self.state.request.clone(),
            aside: self.state.aside.clone(),
            seed: Some(own),
            member: Some(format!("{}_{n}", call.id)),
            ..State::default()
        };
        let (canceller, cancel) = cancel::pair();
        let agent = Agent {
            id: job.agent_id,
            owner: job.owner,
            session_id: job.session.id(),
            message_id: job.message_id,
            name: MEMBER.to_owned(),
            status: Status::Starting,
            created_at: self.parts.clock.now(),
            seed_id: Some(seed.id),
            parent_id: Some(self.job.agent_id),
        };
        self.parts.agents.begin(agent, Some(canceller));
        let member = Member {
            parts: self.parts,
            parent: self.job.agent_id,
            job,
            state,
            rules: share.clone(),
            cancel,
            group: self.cancel.clone(),
            came_to: None,
        };
        member.publish(Kind::AgentCreated);
        member
    }

    /// One member's work, from its turn to its end. Boxed, because a member is a run like the one it is in.
    fn work<'b>(
        &'b self,
        mut member: Member<'b>,
        lent: &'b Semaphore,
    ) -> Pin<Box<dyn Future<Output = Result<Came, StoreError>> + Send + 'b>> {
        Box::pin(async move {
            let (cancel, permits) = (member.cancel.clone(), member.job.permits.clone());
            let _turn = tokio::select! {
                biased;
                why = cancel.cancelled() => return Ok(member.ended(Spent::default(), Some(stopped_before(why)))),
                turn = lent.acquire() => turn,
                turn = permits.acquire() => turn,
            };
            member.parts.agents.set(member.job.agent_id, Status::Running);
            member.publish(Kind::AgentStarted);
            let mut run = self.member(&member.job, std::mem::take(&mut member.state), member.rules.clone(), cancel);
            let gone = unharmed(Box::pin(run.go(Next::Input(Input::Begin)))).await.transpose()?;
            let spent = run.state.spent;
            let end = match gone {
                Some(Gone::Ended(kind, ending)) => Some((kind, ending)),
                // A member is never parked.
                Some(Gone::Left(_)) | None => None,
            };
            drop(run);
            Ok(member.ended(spent, end))
        })
    }
}

/// A member at work. Dropped with its run where that is stopped, and then it is stopped, too.
struct Member<'a> {
    parts: &'a Parts,
    parent: AgentId,
    job: Job,
    state: State,
    rules: Rules,
    /// Stops it alone.
    cancel: Cancel,
    /// Stops the run that it is a part of.
    group: Cancel,
    /// Set at its own end.
    came_to: Option<EndKind>,
}

impl Member<'_> {
    fn ended(&mut self, spent: Spent, end: Option<(EndKind, Ending)>) -> Came {
        self.came_to = Some(end.as_ref().map_or(EndKind::Failed, |(kind, _)| *kind));
        Came { spent, end }
    }

    fn publish(&self, kind: Kind) {
        let mut fields = serde_json::Map::new();
        fields.insert("session_id".into(), self.job.session.id().to_string().into());
        fields.insert("message_id".into(), self.job.message_id.to_string().into());
        fields.insert("agent_id".into(), self.job.agent_id.to_string().into());
        fields.insert("parent_id".into(), self.parent.to_string().into());
        if let Some(end) = self.came_to {
            fields.insert("outcome".into(), end.word().into());
        }
        self.parts.events.publish(self.job.owner, kind, fields);
    }
}

impl Drop for Member<'_> {
    fn drop(&mut self) {
        let good = match self.came_to {
            Some(end) => matches!(end, EndKind::Done | EndKind::Cancelled),
            // Its run was stopped while it worked: by somebody, or by the clock, the server's end or a fault.
            None => matches!(self.group.why(), Some(Why::Asked | Why::Replaced | Why::Deleted)),
        };
        self.parts.agents.set(self.job.agent_id, if good { Status::Stopped } else { Status::Failed });
        if self.came_to.is_some() {
            self.publish(Kind::AgentGroupMemberCompleted);
        }
        self.publish(if good { Kind::AgentStopped } else { Kind::AgentFailed });
    }
}

/// The end of a member that was stopped before its turn came.
fn stopped_before(why: Why) -> (EndKind, Ending) {
    (if why == Why::Shutdown { EndKind::Interrupted } else { EndKind::Cancelled }, Ending::default())
}

/// What of a member's records stands in the log: its calls and what they cost. Its words are in the group's result.
pub(crate) fn of_member(body: Body, agent: AgentId) -> Option<Body> {
    match body {
        Body::ToolCall { call_id, name, arguments, risky, .. } => {
            Some(Body::ToolCall { call_id, name, arguments, risky, agent_id: Some(agent) })
        }
        Body::ToolResult { .. } | Body::Usage { .. } => Some(body),
        _ => None,
    }
}

/// What the members came to, as the model reads it: half of its context in all, so that there is room for an answer.
fn joined(parts: &[Part], came: &[Came], context: u32) -> String {
    let said = came.iter().map(|one| one.end.as_ref().map_or(0, |(_, ending)| ending.text.len()));
    let each = fair_length(said, bytes_of(context) / 2);
    let mut text = String::new();
    for (n, (part, one)) in (1..).zip(parts.iter().zip(came)) {
        let (said, note) = match &one.end {
            Some((EndKind::Done, ending)) => (ending.text.as_str(), String::new()),
            Some((kind, ending)) => {
                let why = ending.error.as_ref().map_or(kind.word(), |problem| problem.message.as_str());
                (ending.text.as_str(), format!("[this part was not finished: {why}]\n"))
            }
            None => ("", "[this part failed inside]\n".to_owned()),
        };
        let kept = beginning(said, each);
        let cut = if kept.len() == said.len() { "" } else { "[cut here]\n" };
        text.push_str(&format!("Part {n}: {}\n{}\n{cut}{note}\n", part.goal, kept.trim_end()));
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_two_or_more_and_each_has_a_goal() {
        let (_, two) = parts(r#"{"parts":[{"goal":" a ","acceptance_criteria":["x"]},{"goal":"b"}]}"#, 4).unwrap();
        assert_eq!(two, [Part { goal: "a".into(), criteria: vec!["x".into()] }, Part { goal: "b".into(), criteria: vec![] }]);
        for (written, problem) in [
            ("{", "no JSON object"),
            ("[]", "expected an object"),
            (&format!(r#"{{"parts":[{{"goal":"a"}},{{"goal":"b"}}],"x":{}{}}}"#, "[".repeat(64), "]".repeat(64)), "no JSON object"),
            (r#"{"parts":[{"goal":"a"}]}"#, "`parts`"),
            (r#"{"parts":[{"goal":"a"},{"goal":"b"},{"goal":"c"}]}"#, "`parts`"),
            (r#"{"parts":[{"goal":"a"},{"goal":" "}]}"#, "has no goal"),
            (r#"{"parts":[{"goal":"a"},"b"]}"#, "`parts[1]`"),
        ] {
            let error = parts(written, 2).unwrap_err();
            assert!(error.contains(problem), "{written}: {error}");
        }
    }

    #[test]
    fn what_members_came_to_keeps_to_its_room_and_says_what_is_missing() {
        let parts: Vec<Part> = ["a", "b", "c"].map(|goal| Part { goal: goal.into(), criteria: vec![] }).into();
        let done =
            |text: &str| Came { spent: Spent::default(), end: Some((EndKind::Done, Ending { text: text.into(), ..Ending::default() })) };
        let cancelled = Came { spent: Spent::default(), end: Some((EndKind::Cancelled, Ending::default())) };
        let text = joined(&parts, &[done(&"é".repeat(9000)), cancelled, Came { spent: Spent::default(), end: None }], 1000);
        assert!((1500..1700).contains(&text.len()) && text.starts_with("Part 1: a\né") && text.contains("[cut here]"), "{text}");
        assert!(
            text.contains("Part 2: b\n\n[this part was not finished: cancelled]") && text.ends_with("[this part failed inside]"),
            "{text}"
        );
    }
}
