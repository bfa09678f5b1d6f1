//! The interview: talk, questions, the commands that look things up, and what becomes a task.

use serde_json::json;

use crate::llm::offline::found::{Item, fits, items, meaning, text};
use crate::llm::offline::language::{Command, Task, parse, task};
use crate::llm::offline::{Reply, ToolResult, offered, results, short, turn};
use crate::llm::request::{Message, Request};

/// The highest number that is counted to: a few times what fits a screen, and below the most words of an answer.
const COUNT_MAX: u64 = 8_000;
/// Most things cited of one kind.
const CITED_MAX: usize = 5;
/// What the orchestrator writes before an answer to questions of ours.
const ANSWERING: &str = "The user is answering your questions about this request:\n";

/// What the model is.
const WHO: &str = "I am the offline model of oxios: a small built-in program, no language model. I keep and find things and drive the same \
                   tools, but I do not reason. Say `help` for what I understand; set engine.default_model to use a real model.";

/// The list of commands.
pub(super) const HELP: &str = "I am the offline model: I understand these, and look up everything else.
- `remember <text>` and `recall <words>`: my memory
- `list files`, `read <path>`, `search <words>`: your workspace
- `write <path>: <text>`: writes a file, after you approve it
- `list skills`, `read skill <name>`: what I was taught
- a question: answered from memory, files, skills and this conversation, with the sources
- `task <goal>`, with `criteria: a; b` behind it if you like: worked on in steps (apart by `;`), judged, repaired
- `task in parallel: <step>; <step> criteria: a; b`: the steps at the same time, each by an agent of its own
- `echo <text>` and `count to <n>`: for trying the line
Set engine.default_model to talk to a real model.";

/// Answers a message, or decides that it is a task.
pub(super) fn interview(request: &Request) -> Reply {
    let (said, after) = turn(request);
    let results = results(after);
    let command = parse(said);
    // Whatever could be a step is the answer; who asks for help, or begins another task, does not answer.
    let no_answer =
        matches!(command, Command::Help | Command::Who | Command::Hello | Command::Thanks | Command::Earlier | Command::Task(_));
    if let Some((_, open)) = request.system.split_once(ANSWERING).filter(|_| !no_answer && offered(request, "start_task")) {
        return start(&continued(open, said));
    }
    match command {
        Command::Task(task) if !offered(request, "start_task") => {
            Reply::say(format!("A task cannot be started here: {}", short(&task.goal, 80)))
        }
        Command::Task(task) if task.goal.is_empty() && offered(request, "ask_user") => Reply::call(
            "ask_user",
            json!({"questions": [
                "What is to be done? (Steps of what `help` lists, apart by `;`, or something to look up.)",
                "How will you know that it is done? (Add `criteria: a; b` if you like.)",
            ]}),
        ),
        Command::Task(task) => start(&task),
        // Writing is work on a task: a person is asked on the way.
        Command::Write { .. } if !offered(request, "write_file") && offered(request, "start_task") => {
            start(&Task { goal: said.to_owned(), ..Task::default() })
        }
        command => one(request, &command, &results),
    }
}

fn start(task: &Task) -> Reply {
    Reply::call(
        "start_task",
        json!({
            "goal": task.goal, "constraints": task.constraints, "acceptance_criteria": task.criteria,
            "goal_clarity": 1, "constraint_clarity": 1, "criteria_clarity": 1,
        }),
    )
}

/// The original request with the answer: `task` and then what was left to say.
fn continued(open: &str, answer: &str) -> Task {
    let original = open.split("\n\n[You asked:]").next().unwrap_or_default();
    let Command::Task(mut known) = parse(original) else {
        return task(&format!("{original} {answer}"));
    };
    let new = task(answer.trim().strip_prefix("task ").unwrap_or(answer));
    known.goal = [known.goal, new.goal].into_iter().filter(|goal| !goal.is_empty()).collect::<Vec<_>>().join("; ");
    known.criteria.extend(new.criteria);
    known.constraints.extend(new.constraints);
    known
}

/// One command: its tool call first, then what came of it.
fn one(request: &Request, command: &Command, results: &[ToolResult<'_>]) -> Reply {
    if let Command::Question(question) = command {
        return answer(request, question, results);
    }
    let calls = calls(command);
    let Some(result) = results.last() else {
        return match calls.into_iter().find(|(name, _)| !offered(request, name)) {
            Some((name, _)) => Reply::say(format!("The tool `{name}` is not offered here (it may be switched off in the configuration).")),
            None if calls_of(command) => Reply { text: String::new(), calls: self::calls(command) },
            None => Reply::say(plain(request, command)),
        };
    };
    Reply::say(report(command, result))
}

fn calls_of(command: &Command) -> bool {
    !calls(command).is_empty()
}

/// The tools that a command needs.
pub(super) fn calls(command: &Command) -> Vec<(&'static str, serde_json::Value)> {
    match command {
        Command::Remember(text) => vec![("remember", json!({"content": text}))],
        Command::Recall(words) => vec![("recall", json!({"query": words}))],
        Command::ListFiles(dir) if dir.is_empty() => vec![("list_files", json!({}))],
        Command::ListFiles(dir) => vec![("list_files", json!({"dir": dir}))],
        Command::Read(path) => vec![("read_file", json!({"path": path}))],
        Command::Write { path, text } => vec![("write_file", json!({"path": path, "content": text}))],
        Command::Search(words) => vec![("search_files", json!({"query": words}))],
        Command::ListSkills => vec![("list_skills", json!({}))],
        Command::ReadSkill(name) => vec![("read_skill", json!({"name": name}))],
        _ => Vec::new(),
    }
}

/// A command that needs no tool.
pub(super) fn plain(request: &Request, command: &Command) -> String {
    match command {
        Command::Help => HELP.to_owned(),
        Command::Echo(text) => text.clone(),
        Command::Count(n) if *n > COUNT_MAX => format!("I count to {COUNT_MAX} at most."),
        Command::Count(n) => (1..=*n).map(|n| n.to_string()).collect::<Vec<_>>().join(" "),
        Command::Who => WHO.to_owned(),
        Command::Hello => format!("Hello. {WHO}"),
        Command::Thanks => "You are welcome.".to_owned(),
        Command::Earlier => match earlier(request).last() {
            Some(said) => format!("Before that you said: “{}”", short(said, 300)),
            None => "That was the first thing you said in this conversation.".to_owned(),
        },
        Command::Talk(text) if text.is_empty() => HELP.to_owned(),
        Command::Talk(text) => {
            format!(
                "I read “{}”, but I am the offline model and do not understand free talk. Say `remember …` to keep it, ask me a question, or say `help`.",
                short(text, 80)
            )
        }
        _ => String::new(),
    }
}

/// What came of a command's tool call, in words.
pub(super) fn report(command: &Command, result: &ToolResult<'_>) -> String {
    let content = text(result.content);
    if result.is_error {
        return format!("Failed: {} ({})", named(command), short(&content, 300));
    }
    let list = |kind: &str, nothing: String| {
        let found = items(result.content);
        if found.is_empty() { nothing } else { found.iter().map(|item| item.cited(kind)).collect::<Vec<_>>().join("\n") }
    };
    match command {
        Command::Remember(text) => format!("Noted: “{}”", short(text, 300)),
        Command::Recall(words) => list("memory:", format!("Nothing in memory fits “{}”.", short(words, 80))),
        Command::Search(words) => list("", format!("No file has “{}”.", short(words, 80))),
        Command::ListFiles(_) if content.trim() == "(no files)" => "There are no files here yet.".to_owned(),
        Command::ListSkills if content.trim() == "(no skills)" => "There are no skills yet.".to_owned(),
        Command::ListFiles(_) | Command::ListSkills => content,
        Command::Read(path) => format!("{path}:\n\n{content}"),
        Command::ReadSkill(name) => format!("Skill {name}:\n\n{content}"),
        Command::Write { path, text } => format!("Wrote {path} ({} bytes).", text.len()),
        _ => content,
    }
}

/// A command in a few words.
pub(super) fn named(command: &Command) -> String {
    match command {
        Command::Remember(text) => format!("remember {}", short(text, 40)),
        Command::Recall(words) => format!("recall {}", short(words, 40)),
        Command::ListFiles(dir) => format!("list files {dir}").trim_end().to_owned(),
        Command::Read(path) => format!("read {path}"),
        Command::Write { path, .. } => format!("write {path}"),
        Command::Search(words) => format!("search {}", short(words, 40)),
        Command::ListSkills => "list skills".to_owned(),
        Command::ReadSkill(name) => format!("read skill {name}"),
        Command::Question(text) | Command::Talk(text) => short(text, 80),
        _ => "this step".to_owned(),
    }
}

/// A question: look everywhere at once, then into a skill that fits, then answer with the sources.
fn answer(request: &Request, question: &str, results: &[ToolResult<'_>]) -> Reply {
    let wanted = meaning(question);
    if results.is_empty() {
        let look = [("recall", json!({"query": question})), ("search_files", json!({"query": question})), ("list_skills", json!({}))];
        let calls: Vec<_> = look.into_iter().filter(|(name, _)| offered(request, name)).collect();
        if !calls.is_empty() {
            return Reply { text: String::new(), calls };
        }
    }
    let skill = items_of(results, "list_skills").into_iter().find(|item| fits(&format!("{} {}", item.source, item.text), &wanted));
    let unread = offered(request, "read_skill") && !results.iter().any(|r| r.name == "read_skill");
    if let Some(skill) = skill.as_ref().filter(|skill| unread && !skill.source.is_empty()) {
        return Reply::call("read_skill", json!({"name": skill.source}));
    }
    let mut said = looked_up(results, &wanted);
    let skill_text = results.iter().find(|r| r.name == "read_skill" && !r.is_error).map(|r| text(r.content));
    if let (Some(skill), Some(text)) = (&skill, skill_text) {
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')).take(CITED_MAX).collect();
        let item = Item { text: lines.join(" "), source: skill.source.clone() };
        said.push(item.cited("skill"));
    }
    let before = earlier(request);
    let statements = before.iter().rev().filter(|text| matches!(parse(text), Command::Talk(_)) && fits(text, &wanted));
    said.extend(statements.take(CITED_MAX).map(|text| Item { text: (*text).to_owned(), source: "said here before".to_owned() }.cited("")));
    if said.is_empty() {
        return Reply::say(format!(
            "I found nothing about “{}” in memory, files, skills or this conversation. I am the offline model and know nothing else; set engine.default_model to ask a real model.",
            short(question, 80)
        ));
    }
    Reply::say(format!("This is what I found:\n{}", said.join("\n")))
}

/// What recall and search found that fits, as cited lines.
pub(super) fn looked_up(results: &[ToolResult<'_>], wanted: &[String]) -> Vec<String> {
    let mut said = Vec::new();
    for (tool, kind) in [("recall", "memory:"), ("search_files", "")] {
        let found = items_of(results, tool);
        let fitting = found.iter().filter(|item| fits(&format!("{} {}", item.source, item.text), wanted));
        said.extend(fitting.take(CITED_MAX).map(|item| item.cited(kind)));
    }
    said
}

fn items_of(results: &[ToolResult<'_>], tool: &str) -> Vec<Item> {
    results.iter().filter(|r| r.name == tool && !r.is_error).flat_map(|r| items(r.content)).collect()
}

/// What the user said before the last message, oldest first.
fn earlier(request: &Request) -> Vec<&str> {
    let mut said: Vec<&str> = request
        .messages
        .iter()
        .filter_map(|message| match message {
            Message::User { text } => Some(text.as_str()),
            _ => None,
        })
        .collect();
    said.pop();
    said
}
