//! Everything that a run knows of itself: what a checkpoint keeps, and what `step` changes.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::base::cancel::Why;
use crate::base::ids::{ApprovalId, SeedId};
use crate::llm::request::{Finish, Message, ToolCall, Usage};
use crate::orchestrator::EndKind;
use crate::orchestrator::hold::Hold;
use crate::orchestrator::seed::Draft;
use crate::rooms::seeds::{Judgement, Seed};
use crate::store::record::{Body, Ending, Phase, Problem, ToolOutcome};

/// The state of a run. The conversation before it is not in here: it is rebuilt from the log. What a checkpoint does not know (an
/// earlier version wrote it) is as it is at the beginning: a run that waits for a person outlives an upgrade.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    /// What is being done.
    pub(crate) stage: Stage,
    /// The message as the user wrote it.
    pub(crate) message: String,
    /// What the user wants: the message, or the original request with the answers to our questions.
    pub(crate) request: String,
    /// Rounds of questions that went before this message.
    pub(crate) rounds: u32,
    /// What is put beside the message, as lines: what is attached, what memory has to say.
    pub(crate) aside: String,
    /// The furthest phase.
    pub(crate) reached: Phase,
    /// The phase that began and has not ended.
    pub(crate) open: Option<Phase>,
    /// A specification that is not written yet.
    pub(crate) draft: Option<Draft>,
    /// How it came about: `direct`, `written`, `degraded`, `repaired`.
    pub(crate) seed_verdict: String,
    /// The specification that is worked on.
    pub(crate) seed: Option<Seed>,
    /// Which attempt: 0 is the first.
    pub(crate) attempt: u32,
    /// The best attempt that was judged.
    pub(crate) best: Option<Attempt>,
    /// The result of the attempt that is being judged.
    pub(crate) result: String,
    /// Judgements of it.
    pub(crate) judged: Vec<Judgement>,
    /// What the last evaluation said.
    pub(crate) evaluated: Option<bool>,
    /// Model turns and tool results of this stage.
    pub(crate) transcript: Vec<Message>,
    /// The visible answer.
    pub(crate) answer: String,
    /// What the model call under way has said, without what is held.
    pub(crate) said: String,
    /// What it said in all, where the answer is to be JSON.
    pub(crate) raw: String,
    /// What of it is held.
    pub(crate) hold: Hold,
    /// Tools that it called.
    pub(crate) called: Vec<ToolCall>,
    /// It was asked to answer in plain words, without tools.
    pub(crate) plain: bool,
    /// Calls of the last model turn that have not been run.
    pub(crate) todo: VecDeque<ToolCall>,
    /// The call that is being run, or waits for a person.
    pub(crate) running: Option<ToolCall>,
    /// Ids of tool calls that are taken.
    pub(crate) call_ids: Vec<String>,
    /// Model calls in this stage.
    pub(crate) turns: u32,
    /// A structured answer is asked for again.
    pub(crate) repairing: bool,
    /// The model was asked again after it had said nothing.
    pub(crate) nudged: bool,
    /// A person refused something: more attempts would only ask again.
    pub(crate) refused: bool,
    /// It was split into a group; that is done once.
    pub(crate) split: bool,
    /// Only where it is a member of a group: what the ids of its calls begin with, so that they are its own in the message.
    pub(crate) member: Option<String>,
    /// How often the room for the conversation was halved because it did not fit.
    pub(crate) shrunk: u32,
    /// What was used up.
    pub(crate) spent: Spent,
    /// The question that the run waits for.
    pub(crate) waiting: Option<Waiting>,
    /// How often it was resumed from this point without getting further: a run that kills the process must not do so for ever.
    pub(crate) resumes: u32,
}

impl State {
    /// A person may be asked now: it works on a task, and not as one of several.
    pub(crate) fn may_ask(&self) -> bool {
        self.stage == Stage::Execute && self.member.is_none()
    }

    /// The result that a repair begins from, and what was wrong with that one.
    pub(crate) fn to_repair(&self) -> (&str, &str) {
        self.best.as_ref().map_or((&self.result, ""), |best| (&best.text, &best.notes))
    }
}

/// What is being done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stage {
    /// Conversation, clear task, or unclear?
    #[default]
    Interview,
    /// The specification is being written.
    Seed,
    /// It is worked on.
    Execute,
    /// The result is judged; 0 is the model itself, then the further judges.
    Evaluate(usize),
    /// The specification is being repaired.
    Evolve,
    /// All is said.
    Over,
}

/// A judged attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Attempt {
    /// Its result.
    pub(crate) text: String,
    /// 0 to 1.
    pub(crate) score: f64,
    /// What was wrong.
    pub(crate) notes: String,
    /// The specification that it is a result of; none where an earlier version wrote it.
    #[serde(default)]
    pub(crate) seed: Option<SeedId>,
}

/// What a run has used up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Spent {
    /// Model calls, counted before they are made.
    pub(crate) calls: u32,
    /// Tokens, read and written.
    pub(crate) tokens: u64,
    /// Time, parked time apart, in milliseconds.
    pub(crate) millis: u64,
}

/// A question to a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Waiting {
    /// Its id.
    pub(crate) approval_id: ApprovalId,
    /// SHA-256 of what was shown.
    pub(crate) digest: String,
}

/// What happens to a run.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    /// It begins.
    Begin,
    /// The model wrote a piece of text.
    Text(String),
    /// The model called a tool.
    Call(ToolCall),
    /// The model call ended.
    Ended(Ended),
    /// The model call failed.
    Failed(Failure),
    /// The specification has its id and is kept.
    Seeded(Box<Seed>),
    /// The running tool ended.
    Tool {
        /// How.
        outcome: ToolOutcome,
        /// What it says to the model.
        content: String,
    },
    /// It is to stop.
    Stopped(Why),
    /// It cannot go on for a reason of our own.
    Broken(Problem),
}

/// A model call that ended.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    /// Why.
    pub(crate) finish: Finish,
    /// `provider/model`.
    pub(crate) model: String,
    /// Its use, estimated where the server did not say.
    pub(crate) usage: Usage,
    /// How long it took.
    pub(crate) millis: u64,
}

/// A model call that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It was stopped.
    Stopped(Why),
    /// The conversation does not fit.
    TooLong(String),
    /// The key's token budget does not allow it: the word of the run's end, and why in public words.
    Unpaid(&'static str, String),
    /// Anything else, in public words.
    Other(String),
}

/// What is to be done, in this order. At most one of `Ask`, `Run`, `Write` and `End`, and then last.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// Append a record.
    Record(Body),
    /// Append visible text.
    Show(String),
    /// Append text of an attempt.
    Draft(String),
    /// Keep an evaluation: passed and score, absent where nobody could judge.
    Evaluated(Option<bool>, Option<f64>),
    /// Tell that no further repair is tried.
    EvolutionMax,
    /// Call a model.
    Ask(Ask),
    /// Run this tool.
    Run(ToolCall),
    /// Give the specification an id and keep it.
    Write(Draft),
    /// Append the terminal record.
    End(EndKind, Ending),
}

/// Which model call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ask {
    /// For which stage.
    pub(crate) stage: Stage,
    /// Tools are offered.
    pub(crate) tools: bool,
    /// Beside the tools, `start_task` is offered; and `ask_user`, unless too much was asked already.
    pub(crate) verdicts: bool,
    /// Beside the tools, `split_task` is offered.
    pub(crate) split: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn a_state_that_an_earlier_version_wrote_is_read() {
        let best = Attempt { text: "t".into(), score: 0.5, notes: "n".into(), seed: None };
        let state = State { spent: Spent { calls: 3, ..Spent::default() }, best: Some(best.clone()), ..State::default() };
        let Value::Object(whole) = serde_json::to_value(&state).unwrap() else { panic!("no object") };
        let read = |object| serde_json::from_value::<State>(Value::Object(object));
        for name in whole.keys() {
            let mut older = whole.clone();
            older.remove(name);
            read(older).unwrap_or_else(|e| panic!("without {name}: {e}"));
        }
        let mut older = whole;
        older["spent"] = serde_json::json!({"calls": 3});
        older.insert("complaints".into(), "n".into());
        older["best"].as_object_mut().unwrap().remove("seed");
        let read = read(older).unwrap();
        assert_eq!((read.spent, read.best), (state.spent, Some(best)));
    }
}
