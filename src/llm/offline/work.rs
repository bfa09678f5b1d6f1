//! Specifications, and the work on them.

use serde_json::json;

use crate::llm::offline::found::{meaning, text};
use crate::llm::offline::language::{Command, parse, steps, task, together};
use crate::llm::offline::talk::{calls, looked_up, named, plain, report};
use crate::llm::offline::{Reply, ToolResult, offered, results, short, turn};
use crate::llm::request::Request;

/// Steps of one goal; more are left out, and the result says so.
const STEPS_MAX: usize = 20;
/// Calls of one turn, which is what the orchestrator takes of one.
const CALLS_MAX: usize = 8;
/// The tool that works on several parts of a task at once.
const SPLIT: &str = "split_task";
/// What a repair names: criteria to go through, and steps to do again; apart by `;`.
pub(super) const GO_THROUGH: &str = "Go through: ";
/// See [`GO_THROUGH`].
pub(super) const DO_AGAIN: &str = "Do again: ";

/// A specification as the orchestrator writes it for models.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Spec {
    /// What the user said, where it stands before the specification.
    pub(super) request: String,
    pub(super) goal: String,
    pub(super) constraints: Vec<String>,
    pub(super) criteria: Vec<String>,
    /// Criteria that a repair names.
    pub(super) go_through: Vec<String>,
    /// Steps that a repair wants done again.
    pub(super) again: Vec<String>,
    /// It is the repair of an earlier one.
    pub(super) repaired: bool,
}

impl Spec {
    /// Reads `Goal: …`, `Constraints:`, `Acceptance criteria:` and `Repair: …`; without a goal the whole text is the goal.
    pub(super) fn read(text: &str) -> Self {
        let mut spec = Self::default();
        let at = if text.starts_with("Goal: ") { Some(0) } else { text.rfind("\n\nGoal: ").map(|at| at + 2) };
        let Some((request, body)) = at.and_then(|at| text.split_at_checked(at)) else {
            spec.goal = text.trim().to_owned();
            return spec;
        };
        spec.request = request.trim_end().to_owned();
        let titles = ["Constraints:", "Acceptance criteria:", "Things:"];
        let mut part = "Goal";
        for line in body.lines() {
            if let Some(goal) = line.strip_prefix("Goal: ").filter(|_| part == "Goal" && spec.goal.is_empty()) {
                spec.goal = goal.to_owned();
            } else if let Some(title) = titles.iter().find(|title| line == **title) {
                part = title;
            } else if let Some(repair) = line.strip_prefix("Repair: ") {
                part = "Repair";
                spec.repaired = true;
                spec.repair(repair);
            } else if line.starts_with("The result is JSON of this schema:") {
                part = "";
            } else {
                match (part, line.strip_prefix("- ")) {
                    ("Goal", _) => spec.goal = format!("{}\n{line}", spec.goal),
                    ("Constraints:", Some(item)) => spec.constraints.push(item.to_owned()),
                    ("Acceptance criteria:", Some(item)) => spec.criteria.push(item.to_owned()),
                    ("Repair", _) => spec.repair(line),
                    _ => {}
                }
            }
        }
        spec.goal = spec.goal.trim().to_owned();
        spec
    }

    fn repair(&mut self, line: &str) {
        let list = |text: &str| text.split(';').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect::<Vec<_>>();
        if let Some(rest) = line.strip_prefix(GO_THROUGH) {
            self.go_through.extend(list(rest));
        } else if let Some(rest) = line.strip_prefix(DO_AGAIN) {
            self.again.extend(list(rest));
        } else if let Some(rest) = line.strip_prefix("not met: ") {
            // The orchestrator's own repair, where no model could write one.
            self.go_through.push(rest.trim().to_owned());
        }
    }
}

/// Writes a specification: what was said, and where no criterion was, that the files it speaks of are named.
pub(super) fn seed(request: &Request) -> Reply {
    let (said, _) = turn(request);
    let (said, known) = said.rsplit_once("\n\nWhat is known of the task: ").unwrap_or((said, ""));
    let told = match parse(said.split("\n\n[You asked:]").next().unwrap_or_default()) {
        Command::Task(told) => told,
        _ => task(said),
    };
    let goal = if known.trim().is_empty() { told.goal } else { known.trim().to_owned() };
    let steps = steps(&goal);
    let files: Vec<&String> = steps
        .iter()
        .filter_map(|step| match step {
            Command::Write { path, .. } | Command::Read(path) => Some(path),
            _ => None,
        })
        .take(STEPS_MAX)
        .collect();
    let criteria = if told.criteria.is_empty() { files.iter().map(|path| format!("names {path}")).collect() } else { told.criteria };
    let things: Vec<_> =
        files.iter().map(|path| json!({"name": path, "entity_type": "file", "description": "A file of the workspace."})).collect();
    Reply::say(json!({"goal": goal, "constraints": told.constraints, "acceptance_criteria": criteria, "ontology": things}).to_string())
}

/// A part of the work.
enum Step {
    Do(Command),
    /// Done in an earlier attempt.
    Done(String),
    /// Look this up and say what there is.
    Look(String),
    /// A criterion to go through.
    Criterion(String),
}

/// Works on a specification: all calls first, then the result.
pub(super) fn execute(request: &Request) -> Reply {
    let (said, after) = turn(request);
    let spec = Spec::read(said);
    let mut results = results(after);
    if let Some(split) = split(request, &spec, &results) {
        return split;
    }
    // A group that was refused did none of the steps.
    results.retain(|result| result.name != SPLIT);
    let mut steps = plan(&spec);
    let left_out = steps.len().saturating_sub(STEPS_MAX);
    steps.truncate(STEPS_MAX);
    // Each step with its calls; a call whose tool is not offered is not made.
    let steps: Vec<_> = steps.into_iter().map(|step| (needs(&step), step)).collect();
    let can = |name: &str| offered(request, name);
    let planned: Vec<_> = steps.iter().flat_map(|(calls, _)| calls).filter(|(name, _)| can(name)).collect();
    let open: Vec<_> = planned.into_iter().skip(results.len()).take(CALLS_MAX).cloned().collect();
    if !open.is_empty() {
        return Reply { text: String::new(), calls: open };
    }
    let mut results = results.as_slice();
    let mut said = Vec::new();
    for (calls, step) in &steps {
        let made = calls.iter().filter(|(name, _)| can(name)).count();
        let (own, rest) = results.split_at_checked(made).unwrap_or((results, &[]));
        results = rest;
        said.push(told(request, step, own));
    }
    if left_out > 0 {
        said.push(format!("Failed: {left_out} steps are left out; a task has at most {STEPS_MAX}."));
    }
    Reply::say(said.join("\n\n"))
}

/// Steps that do not depend on one another are parts for a group, where there may be one; what it came to is the result.
fn split(request: &Request, spec: &Spec, results: &[ToolResult<'_>]) -> Option<Reply> {
    if let Some(group) = results.iter().find(|result| result.name == SPLIT && !result.is_error) {
        return Some(Reply::say(text(group.content)));
    }
    let parts = together(&spec.goal).filter(|parts| parts.len() >= 2 && results.is_empty() && offered(request, SPLIT))?;
    let parts: Vec<_> = parts.into_iter().map(|goal| json!({"goal": goal})).collect();
    Some(Reply::call(SPLIT, json!({"parts": parts})))
}

fn plan(spec: &Spec) -> Vec<Step> {
    let single = parse(&spec.request);
    let commands = match single {
        // What was said is one command: its text is taken as it stands, with all its lines and semicolons.
        Command::Write { .. } | Command::Remember(_) => vec![single],
        _ => steps(&spec.goal),
    };
    let mut plan: Vec<Step> = commands
        .into_iter()
        .map(|command| match command {
            // Repeating what changed something would change it again (and ask a person again).
            Command::Write { .. } | Command::Remember(_) if spec.repaired && !spec.again.contains(&named(&command)) => {
                Step::Done(named(&command))
            }
            Command::Question(text) | Command::Talk(text) => Step::Look(text),
            Command::Task(task) => Step::Look(task.goal),
            command => Step::Do(command),
        })
        .collect();
    plan.extend(spec.go_through.iter().map(|criterion| Step::Criterion(criterion.clone())));
    plan
}

fn needs(step: &Step) -> Vec<(&'static str, serde_json::Value)> {
    match step {
        Step::Do(command) => calls(command),
        Step::Done(_) => Vec::new(),
        Step::Look(text) | Step::Criterion(text) => vec![("recall", json!({"query": text})), ("search_files", json!({"query": text}))],
    }
}

fn told(request: &Request, step: &Step, results: &[ToolResult<'_>]) -> String {
    match step {
        Step::Done(name) => format!("Done in an earlier attempt: {name}."),
        Step::Do(command) => match (results.first(), needs(step).first()) {
            (Some(result), _) => report(command, result),
            (None, Some((tool, _))) => format!("Failed: {} (the tool `{tool}` is not offered here)", named(command)),
            (None, None) => plain(request, command),
        },
        Step::Look(text) => match looked_up(results, &meaning(text)) {
            found if found.is_empty() => format!(
                "Nothing found about “{}” in memory and files. I am the offline model: I can look things up and do the steps that `help` lists.",
                short(text, 200)
            ),
            found => format!("About “{}”:\n{}", short(text, 200), found.join("\n")),
        },
        Step::Criterion(text) => match looked_up(results, &meaning(text)) {
            found if found.is_empty() => format!("On “{text}”: nothing is known about it here."),
            found => format!("On “{text}”:\n{}", found.join("\n")),
        },
    }
}
