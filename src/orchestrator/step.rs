//! The core of a run: state × input → state × actions. No I/O, no clock, no randomness; `run` acts, and tells what came of it.
//!
//! Whatever a model writes, every path ends: model calls are counted before they are made, the last one allowed offers no
//! tools, and where nothing usable came a sentence of ours says so.

use crate::base::cancel::Why;
use crate::base::limits::ANSWER_BYTES_MAX;
use crate::base::text::beginning;
use crate::llm::request::{Finish, Message, ToolCall};
use crate::orchestrator::budget::{Allowed, CALLS_A_TURN_MAX, Rules};
use crate::orchestrator::hold::{Hold, Rest};
use crate::orchestrator::seed::Draft;
use crate::orchestrator::state::{Action, Ask, Attempt, Ended, Failure, Input, Stage, State};
use crate::orchestrator::structured::{self, Verdict};
use crate::orchestrator::{EndKind, evaluate, evolve, group, interview};
use crate::store::record::{Body, Ending, Phase, PhaseState, Problem, ToolOutcome};

/// Said where the model said nothing.
const NO_ANSWER: &str = "The model gave no answer. Please try again in other words; if it stays so, `oxios-edge doctor` tries the model \
                         that is set, and another one may help.";
/// Why a run failed in which tools were called, or the budget ran out, and nothing was said.
const NOT_FINISHED: &str = "the model came to no result within what one message may use; ask for a smaller step, or raise \
                            orchestrator.max_model_calls or orchestrator.max_tokens_per_run";
/// The verdict of an interview that ended with our questions.
pub(crate) const UNCLEAR: &str = "unclear";
/// JSON of a structured answer that is looked at, in bytes; no schema of ours needs more.
const RAW_BYTES_MAX: usize = 64 * 1024;
/// A tool call's id, in bytes; a longer one, or one with odd characters, is replaced.
const CALL_ID_BYTES_MAX: usize = 64;
/// A tool's name as a model may write it, in characters.
const TOOL_NAME_CHARS_MAX: usize = 64;

/// What is to be done now that this has happened.
pub(crate) fn step(state: &mut State, input: Input, rules: &Rules) -> Vec<Action> {
    let mut step = Step { s: state, rules, out: Vec::new() };
    step.take(input);
    step.out
}

struct Step<'a> {
    s: &'a mut State,
    rules: &'a Rules,
    out: Vec<Action>,
}

impl Step<'_> {
    fn take(&mut self, input: Input) {
        if self.s.stage == Stage::Over {
            return;
        }
        match input {
            Input::Begin if self.s.member.is_some() => self.ask(),
            Input::Begin => {
                self.begin(Phase::Interview);
                self.ask();
            }
            Input::Text(piece) => self.text(&piece),
            Input::Call(call) => self.call(call),
            Input::Ended(ended) => self.model_ended(ended),
            Input::Failed(failure) => self.model_failed(failure),
            Input::Seeded(seed) => {
                self.s.seed = Some(*seed);
                let verdict = std::mem::take(&mut self.s.seed_verdict);
                self.end_phase(&verdict, None);
                self.enter(Stage::Execute);
                self.begin(Phase::Execute);
                self.ask();
            }
            Input::Tool { outcome, content } => self.tool_ended(outcome, content),
            Input::Stopped(why) => self.stopped(why),
            Input::Broken(problem) => {
                self.keep_what_was_said();
                self.end(EndKind::Failed, "failed", Some((&problem.code, &problem.message)));
            }
        }
    }

    // --- model calls ---

    /// One more model call for this stage, if the budget has one.
    fn ask(&mut self) {
        let allowed = self.rules.allows(&self.s.spent, self.s.turns);
        if allowed == Allowed::No {
            return self.exhausted();
        }
        let s = &mut *self.s;
        s.plain |= allowed == Allowed::Last;
        s.spent.calls += 1;
        s.turns += 1;
        s.said.clear();
        s.raw.clear();
        s.called.clear();
        s.hold = if s.stage == Stage::Interview { Hold::default() } else { Hold::working() };
        let talks = matches!(s.stage, Stage::Interview | Stage::Execute) && !s.plain;
        let verdicts = talks && s.stage == Stage::Interview && s.answer.is_empty();
        let split = talks && group::may_split(s, self.rules);
        self.out.push(Action::Ask(Ask { stage: s.stage, tools: talks, verdicts, split }));
    }

    fn enter(&mut self, stage: Stage) {
        let s = &mut *self.s;
        s.stage = stage;
        s.turns = 0;
        s.plain = false;
        s.nudged = false;
        s.repairing = false;
        s.transcript.clear();
        s.todo.clear();
    }

    fn text(&mut self, piece: &str) {
        match self.s.stage {
            Stage::Interview | Stage::Execute => {
                let mut seen = String::new();
                self.s.hold.push(piece, &mut seen);
                self.say(&seen);
            }
            _ if self.s.raw.len() + piece.len() <= RAW_BYTES_MAX => self.s.raw.push_str(piece),
            _ => {}
        }
    }

    /// Text that is no longer held: part of the answer, or of an attempt.
    fn say(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        if self.s.stage == Stage::Execute {
            let text = beginning(text, ANSWER_BYTES_MAX.saturating_sub(self.s.said.len()));
            self.s.said.push_str(text);
            self.out.push(Action::Draft(text.to_owned()));
            return;
        }
        // What is said after looking something up is a new paragraph of the same answer.
        let apart = self.s.said.is_empty() && !self.s.answer.is_empty() && !self.s.answer.ends_with('\n');
        self.s.said.push_str(text);
        if apart {
            self.show("\n\n");
        }
        self.show(text);
    }

    fn show(&mut self, text: &str) {
        let text = beginning(text, ANSWER_BYTES_MAX.saturating_sub(self.s.answer.len()));
        if !text.is_empty() {
            self.s.answer.push_str(text);
            self.out.push(Action::Show(text.to_owned()));
        }
    }

    fn call(&mut self, mut call: ToolCall) {
        if self.s.called.len() >= CALLS_A_TURN_MAX {
            return;
        }
        if call.name.chars().count() > TOOL_NAME_CHARS_MAX {
            call.name = call.name.chars().take(TOOL_NAME_CHARS_MAX).collect();
        }
        self.s.called.push(call);
    }

    /// The model's id where it is fit to be one and new in this message, else one of ours.
    fn name_call(&mut self, call: &mut ToolCall) {
        let taken = &mut self.s.call_ids;
        if let Some(member) = &self.s.member {
            call.id = format!("{member}_{}", taken.len() + 1);
            return taken.push(call.id.clone());
        }
        let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        if call.id.is_empty() || call.id.len() > CALL_ID_BYTES_MAX || !call.id.bytes().all(fine) || taken.contains(&call.id) {
            let mut n = taken.len() + 1;
            while taken.contains(&format!("call_{n}")) {
                n += 1;
            }
            call.id = format!("call_{n}");
        }
        taken.push(call.id.clone());
    }

    fn model_ended(&mut self, ended: Ended) {
        self.s.spent.tokens = self.s.spent.tokens.saturating_add(ended.usage.input_tokens).saturating_add(ended.usage.output_tokens);
        let (input_tokens, output_tokens) = (ended.usage.input_tokens, ended.usage.output_tokens);
        self.record(Body::Usage { model: ended.model.clone(), input_tokens, output_tokens, millis: ended.millis });
        let seed_id = self.s.seed.as_ref().map(|seed| seed.id);
        self.record(Body::Checkpoint { calls: self.s.spent.calls, tokens: self.s.spent.tokens, seed_id, state: None });
        match self.s.stage {
            Stage::Interview | Stage::Execute => self.talk_ended(ended.finish),
            Stage::Seed => self.seed_ended(),
            Stage::Evaluate(judge) => self.judge_ended(judge, &ended.model),
            Stage::Evolve => self.evolve_ended(),
            Stage::Over => {}
        }
    }

    /// A model turn of Interview or Execute: a verdict, tools to run, or the text itself.
    fn talk_ended(&mut self, finish: Finish) {
        let interview = self.s.stage == Stage::Interview;
        let mut verdict = None;
        match self.s.hold.finish() {
            Rest::Text(text) if text.trim().is_empty() => {}
            Rest::Text(text) => self.say(&text),
            Rest::Verdict(Verdict::Tool { name, arguments }) => {
                let arguments = serde_json::Value::Object(arguments).to_string();
                self.call(ToolCall { id: String::new(), name, arguments });
            }
            Rest::Verdict(found) => verdict = Some(found),
        }
        if interview && self.s.answer.trim().is_empty() {
            let called = self.s.called.iter().find_map(structured::verdict_of_call);
            match called.or(verdict) {
                Some(Verdict::Task(arguments)) => return self.task(&arguments),
                Some(Verdict::Ask(questions)) => return self.unclear(&questions),
                _ => {}
            }
        }
        let mut calls = std::mem::take(&mut self.s.called);
        if interview && !self.s.answer.trim().is_empty() {
            // After the first visible token the turn is a conversation, whatever follows.
            calls.retain(|call| !matches!(call.name.as_str(), "start_task" | "ask_user"));
        }
        if !calls.is_empty() && !self.s.plain {
            calls.iter_mut().for_each(|call| self.name_call(call));
            let sent = calls.iter().map(as_sent).collect();
            self.s.transcript.push(Message::Assistant { text: self.s.said.clone(), calls: sent });
            self.s.todo = calls.into();
            return self.run_next();
        }
        let said_nothing = if interview { self.s.answer.trim().is_empty() } else { self.s.said.trim().is_empty() };
        if said_nothing && !self.s.nudged && !self.s.plain {
            self.s.nudged = true;
            self.s.plain = true;
            return self.ask();
        }
        if !interview {
            let result = std::mem::take(&mut self.s.said);
            return self.evaluate(result.trim());
        }
        if said_nothing {
            if !self.s.transcript.is_empty() || finish == Finish::ToolCalls {
                return self.not_finished();
            }
            self.show(NO_ANSWER);
            return self.end(EndKind::Done, "degraded", None);
        }
        self.end(EndKind::Done, "conversation", None);
    }

    fn model_failed(&mut self, failure: Failure) {
        let (code, public) = match failure {
            Failure::Stopped(why) => return self.stopped(why),
            Failure::TooLong(_) if self.s.said.is_empty() && self.s.shrunk < 2 => {
                self.s.shrunk += 1;
                return self.ask();
            }
            Failure::TooLong(public) | Failure::Other(public) => ("model", public),
            Failure::Unpaid(code, public) => (code, public),
        };
        match self.s.stage {
            // The work is done or can be done without this call: the user gets it.
            Stage::Seed => self.write_as_told("degraded"),
            Stage::Evaluate(judge) => self.judged(judge, None),
            Stage::Evolve => self.conclude_best(),
            Stage::Execute if self.s.best.is_some() => self.conclude_best(),
            _ => {
                self.keep_what_was_said();
                self.end(EndKind::Failed, "failed", Some((code, &public)));
            }
        }
    }

    /// The budget has no call left.
    fn exhausted(&mut self) {
        match self.s.stage {
            Stage::Interview if self.s.answer.trim().is_empty() => self.not_finished(),
            Stage::Interview => self.end(EndKind::Done, "degraded", None),
            Stage::Seed => self.write_as_told("degraded"),
            Stage::Execute if self.s.best.is_some() => self.conclude_best(),
            Stage::Execute => {
                let said = std::mem::take(&mut self.s.said);
                self.conclude(&said, "exhausted");
            }
            Stage::Evaluate(judge) => self.judged(judge, None),
            Stage::Evolve => self.conclude_best(),
            Stage::Over => {}
        }
    }

    // --- tools ---

    fn run_next(&mut self) {
        match self.s.todo.pop_front() {
            Some(call) => {
                self.s.running = Some(call.clone());
                self.out.push(Action::Run(call));
            }
            None => self.ask(),
        }
    }

    fn tool_ended(&mut self, outcome: ToolOutcome, content: String) {
        let Some(call) = self.s.running.take() else { return };
        self.s.waiting = None;
        self.s.resumes = 0;
        self.s.refused |= outcome == ToolOutcome::Refused;
        self.s.split |= call.name == group::SPLIT && outcome == ToolOutcome::Ok;
        self.s.transcript.push(Message::Tool { call_id: call.id, name: call.name, content, is_error: outcome != ToolOutcome::Ok });
        self.run_next();
    }

    // --- interview and seed ---

    fn task(&mut self, arguments: &serde_json::Map<String, serde_json::Value>) {
        let unclear = interview::ready(arguments).err().filter(|_| self.s.rounds < interview::ROUNDS_MAX);
        if let Some(questions) = unclear {
            return self.unclear(&questions);
        }
        let draft = Draft::read(arguments).unwrap_or_else(|| Draft::of_goal(&self.s.request));
        self.begin_seed(draft);
    }

    fn unclear(&mut self, questions: &[String]) {
        if self.s.rounds >= interview::ROUNDS_MAX {
            // Enough was asked: the work begins with what is known.
            let draft = Draft::of_goal(&self.s.request);
            return self.begin_seed(draft);
        }
        self.show(&interview::questions_text(questions));
        self.end(EndKind::Done, UNCLEAR, None);
    }

    fn begin_seed(&mut self, draft: Draft) {
        self.end_phase("task", None);
        self.enter(Stage::Seed);
        self.begin(Phase::Seed);
        let simple = draft.is_simple();
        self.s.draft = Some(draft);
        if simple { self.write_as_told("direct") } else { self.ask() }
    }

    fn seed_ended(&mut self) {
        let known = self.s.draft.clone().unwrap_or_default();
        match structured::object(&self.s.raw).as_ref().and_then(Draft::read) {
            Some(mut draft) => {
                if draft.constraints.is_empty() {
                    draft.constraints = known.constraints;
                }
                self.s.draft = Some(draft);
                self.write_as_told("written");
            }
            None if self.repair_once() => {}
            None => self.write_as_told("degraded"),
        }
    }

    fn write_as_told(&mut self, how: &str) {
        self.s.seed_verdict = how.to_owned();
        let draft = self.s.draft.take().unwrap_or_else(|| Draft::of_goal(&self.s.request));
        self.out.push(Action::Write(draft));
    }

    /// Asks for a structured answer once more; false where that was done already.
    fn repair_once(&mut self) -> bool {
        if self.s.repairing || self.rules.allows(&self.s.spent, self.s.turns) == Allowed::No {
            return false;
        }
        self.s.repairing = true;
        self.ask();
        true
    }

    // --- evaluate and evolve ---

    fn evaluate(&mut self, result: &str) {
        if self.s.member.is_some() {
            // It is judged as a part of the whole.
            return self.conclude(result, "part");
        }
        self.end_phase(if result.is_empty() { "empty" } else { "result" }, None);
        self.s.result = result.to_owned();
        self.s.judged.clear();
        self.enter(Stage::Evaluate(0));
        self.begin(Phase::Evaluate);
        match self.s.seed.as_ref().and_then(|seed| evaluate::mechanical(seed, result)) {
            Some(failed) => {
                self.s.judged.push(failed);
                self.settle();
            }
            None => self.ask(),
        }
    }

    fn judge_ended(&mut self, judge: usize, model: &str) {
        match evaluate::read(&self.s.raw, model, self.rules.score) {
            None if self.repair_once() => {}
            judgement => self.judged(judge, judgement),
        }
    }

    fn judged(&mut self, judge: usize, judgement: Option<crate::rooms::seeds::Judgement>) {
        self.s.judged.extend(judgement);
        if judge < self.rules.judges && self.rules.allows(&self.s.spent, 0) != Allowed::No {
            self.enter(Stage::Evaluate(judge + 1));
            return self.ask();
        }
        self.settle();
    }

    fn settle(&mut self) {
        let Some((passed, score)) = evaluate::consensus(&self.s.judged) else {
            // Nobody could judge it: the user does.
            self.out.push(Action::Evaluated(None, None));
            if self.s.best.is_some() {
                return self.conclude_best();
            }
            let result = std::mem::take(&mut self.s.result);
            return self.conclude(&result, "degraded");
        };
        self.out.push(Action::Evaluated(Some(passed), Some(score)));
        let notes = evaluate::complaints(&self.s.judged);
        let text = std::mem::take(&mut self.s.result);
        if passed || self.s.best.as_ref().is_none_or(|best| score > best.score) {
            let seed = self.s.seed.as_ref().map(|seed| seed.id);
            self.s.best = Some(Attempt { text, score, notes, seed });
        }
        self.end_phase(if passed { "passed" } else { "failed" }, Some(score));
        let more = self.s.attempt < self.rules.evolutions && !self.s.refused && self.rules.allows(&self.s.spent, 0) == Allowed::Yes;
        if passed || !more {
            if !passed && self.s.attempt >= self.rules.evolutions && self.rules.evolutions > 0 {
                self.out.push(Action::EvolutionMax);
            }
            self.s.evaluated = Some(passed);
            return self.conclude_best();
        }
        self.s.evaluated = Some(false);
        self.enter(Stage::Evolve);
        self.begin(Phase::Evolve);
        self.ask();
    }

    fn evolve_ended(&mut self) {
        let Some(parent) = self.s.seed.clone() else { return self.conclude_best() };
        let (child, how) = match evolve::read(&self.s.raw, &parent) {
            Some(child) => (child, "repaired"),
            None if self.repair_once() => return,
            None => (evolve::plain(&parent, self.s.to_repair().1), "degraded"),
        };
        self.s.seed_verdict = how.to_owned();
        self.s.attempt += 1;
        self.out.push(Action::Write(child));
    }

    fn conclude_best(&mut self) {
        let text = self.s.best.as_ref().map_or_else(|| self.s.result.clone(), |best| best.text.clone());
        self.conclude(&text, "ended");
    }

    /// The result becomes the answer.
    fn conclude(&mut self, text: &str, verdict: &str) {
        if text.trim().is_empty() {
            return self.not_finished();
        }
        self.show(text);
        self.end(EndKind::Done, verdict, None);
    }

    // --- ends ---

    fn not_finished(&mut self) {
        self.end(EndKind::Failed, "exhausted", Some(("exhausted", NOT_FINISHED)));
    }

    fn stopped(&mut self, why: Why) {
        self.keep_what_was_said();
        match why {
            Why::Asked | Why::Replaced | Why::Deleted => {
                let text = match why {
                    Why::Replaced => "a newer message took its place",
                    Why::Deleted => "its session was deleted",
                    _ => "it was cancelled",
                };
                self.end(EndKind::Cancelled, "cancelled", Some(("cancelled", text)));
            }
            Why::Deadline => {
                let text = "it took longer than one run may; ask for a smaller step, or raise security.max_execution_time_secs";
                self.end(EndKind::Failed, "failed", Some(("deadline", text)));
            }
            Why::Shutdown => {
                let text = "the server was stopped; send the message again";
                self.end(EndKind::Interrupted, "interrupted", Some(("interrupted", text)));
            }
        }
    }

    /// What an unfinished attempt has said becomes visible: the best that was judged, else the text under way.
    fn keep_what_was_said(&mut self) {
        let text = match (&self.s.best, self.s.stage) {
            (Some(best), _) => best.text.clone(),
            (None, Stage::Execute) => self.s.said.clone(),
            (None, Stage::Evaluate(_) | Stage::Evolve) => self.s.result.clone(),
            _ => String::new(),
        };
        self.show(&text);
    }

    fn end(&mut self, kind: EndKind, verdict: &str, problem: Option<(&str, &str)>) {
        self.end_phase(verdict, None);
        self.s.stage = Stage::Over;
        // Where one was judged, the text is the best one's, and that may be of an earlier specification than the last.
        let answered = self.s.best.as_ref().and_then(|best| best.seed);
        let ending = Ending {
            text: self.s.answer.clone(),
            phase: self.s.reached,
            evaluation_passed: self.s.evaluated,
            seed_id: answered.or_else(|| self.s.seed.as_ref().map(|seed| seed.id)),
            asks: verdict == UNCLEAR,
            error: problem.map(|(code, message)| Problem { code: code.into(), message: message.into() }),
        };
        self.out.push(Action::End(kind, ending));
    }

    fn begin(&mut self, phase: Phase) {
        self.s.open = Some(phase);
        let order =
            |phase| [Phase::Interview, Phase::Seed, Phase::Execute, Phase::Evaluate, Phase::Evolve].iter().position(|p| *p == phase);
        if order(phase) > order(self.s.reached) {
            self.s.reached = phase;
        }
        let seed_id = self.s.seed.as_ref().map(|seed| seed.id);
        self.record(Body::Phase { phase, state: PhaseState::Started, verdict: None, score: None, seed_id });
    }

    fn end_phase(&mut self, verdict: &str, score: Option<f64>) {
        let Some(phase) = self.s.open.take() else { return };
        let seed_id = self.s.seed.as_ref().map(|seed| seed.id);
        self.record(Body::Phase { phase, state: PhaseState::Ended, verdict: Some(verdict.to_owned()), score, seed_id });
    }

    fn record(&mut self, body: Body) {
        self.out.push(Action::Record(body));
    }
}

/// A call as it goes back to the model: arguments that are no JSON object (cut off by a token limit) make some servers fail.
fn as_sent(call: &ToolCall) -> ToolCall {
    let object = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&call.arguments).is_ok();
    ToolCall { arguments: if object { call.arguments.clone() } else { "{}".to_owned() }, ..call.clone() }
}

#[cfg(test)]
mod tests;
