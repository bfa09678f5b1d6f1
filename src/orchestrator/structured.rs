//! JSON in what a model wrote: behind thoughts, in a fence, between words. Every function is total; nonsense is `None`.

use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use crate::base::limits::JSON_DEPTH_MAX;
use crate::llm::request::ToolCall;
use crate::orchestrator::tools;
use crate::wire::json;

/// Places in a text where an object may begin that are tried; nonsense may be full of braces.
const STARTS_MAX: usize = 16;
/// Questions of one `ask_user`.
pub(crate) const QUESTIONS_MAX: usize = 3;

/// What a model decided about a message, or a tool that it called in text because it knows no tools.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    /// It is a clear task.
    Task(Map<String, Value>),
    /// It is unclear.
    Ask(Vec<String>),
    /// `{"name": …, "arguments": {…}}` of a tool that is no verdict.
    Tool {
        /// The tool's name.
        name: String,
        /// Its arguments.
        arguments: Map<String, Value>,
    },
}

/// The first JSON object of the text.
pub(crate) fn object(text: &str) -> Option<Map<String, Value>> {
    let text = without_thoughts(text);
    text.match_indices('{').take(STARTS_MAX).find_map(|(at, _)| object_at(text.get(at..)?))
}

/// The object that begins with the text's first brace and no other.
pub(crate) fn first_object(text: &str) -> Option<Map<String, Value>> {
    object_at(text.get(text.find('{')?..)?)
}

fn object_at(text: &str) -> Option<Map<String, Value>> {
    // Where it ends first, which takes no depth; then what it is, no deeper than the log takes it.
    let mut found = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    found.next()?.ok()?;
    arguments(text.get(..found.byte_offset())?).filter(|object| !object.is_empty())
}

fn arguments(written: &str) -> Option<Map<String, Value>> {
    json::parse(written.as_bytes(), JSON_DEPTH_MAX).ok()
}

/// The text behind the last `</think>`; where thoughts never end, there is nothing behind them.
pub(crate) fn without_thoughts(text: &str) -> &str {
    if let Some((_, behind)) = text.rsplit_once("</think>") {
        return behind.trim_start();
    }
    if text.trim_start().starts_with("<think>") { "" } else { text }
}

/// An object as a verdict: `{"start_task": {…}}`, `{"name": "start_task", "arguments": {…}}` (also `tool`, `function`,
/// `parameters`, arguments as a string), or bare `{"goal": …}` and `{"questions": […]}`.
pub(crate) fn verdict(object: &Map<String, Value>) -> Option<Verdict> {
    for (name, value) in object.iter().filter(|(name, _)| matches!(name.as_str(), "start_task" | "ask_user")) {
        if let Some(verdict) = value.as_object().and_then(|arguments| named(name, arguments)) {
            return Some(verdict);
        }
    }
    // OpenAI's shape, written out as text: {"function": {"name": …, "arguments": …}}.
    let call = object.get("function").and_then(Value::as_object).unwrap_or(object);
    let name = ["name", "tool", "tool_name", "function"].iter().find_map(|key| call.get(*key).and_then(Value::as_str));
    let arguments = ["arguments", "parameters", "args", "input"].iter().find_map(|key| match call.get(*key)? {
        Value::Object(arguments) => Some(arguments.clone()),
        Value::String(text) => arguments(text),
        _ => None,
    });
    if let (Some(name), Some(arguments)) = (name, arguments) {
        return named(name, &arguments);
    }
    if object.get("goal").is_some_and(Value::is_string) {
        return named("start_task", object);
    }
    if object.get("questions").is_some_and(Value::is_array) {
        return named("ask_user", object);
    }
    None
}

fn named(name: &str, arguments: &Map<String, Value>) -> Option<Verdict> {
    match name {
        "start_task" => goal(arguments).is_some().then(|| Verdict::Task(arguments.clone())),
        "ask_user" => Some(questions(arguments)).filter(|q| !q.is_empty()).map(Verdict::Ask),
        // A name that is no tool of ours is data: {"name": "Bob", "input": {}}.
        _ => tools::known(name).then(|| Verdict::Tool { name: name.to_owned(), arguments: arguments.clone() }),
    }
}

/// A tool call as a verdict, if its arguments make one.
pub(crate) fn verdict_of_call(call: &ToolCall) -> Option<Verdict> {
    let arguments = arguments(&call.arguments)?;
    match call.name.as_str() {
        name @ ("start_task" | "ask_user") => named(name, &arguments),
        _ => None,
    }
}

/// The goal, where there is one.
pub(crate) fn goal(arguments: &Map<String, Value>) -> Option<&str> {
    arguments.get("goal").and_then(Value::as_str).map(str::trim).filter(|goal| !goal.is_empty())
}

/// At most three questions, each on one line; a question mark given alone is none.
fn questions(arguments: &Map<String, Value>) -> Vec<String> {
    let mut all = texts(arguments.get("questions"));
    if all.is_empty() {
        all = texts(arguments.get("question"));
    }
    all.retain(|q| q.chars().any(char::is_alphanumeric));
    all.truncate(QUESTIONS_MAX);
    all
}

/// The texts of a list (or a single text), each trimmed, on one line and of some length; empty ones are left out.
pub(crate) fn texts(value: Option<&Value>) -> Vec<String> {
    /// Enough for any honest list; each item is cut where a sentence becomes an essay.
    const ITEMS_MAX: usize = 20;
    const ITEM_CHARS_MAX: usize = 1000;
    let one = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(ITEM_CHARS_MAX).collect::<String>();
    let all: Vec<String> = match value {
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).map(one).collect(),
        Some(Value::String(text)) => vec![one(text)],
        _ => Vec::new(),
    };
    all.into_iter().filter(|text| !text.is_empty()).take(ITEMS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_found_in_what_models_write() {
        for (text, goal_) in [
            (r#"{"goal":"a"}"#, Some("a")),
            ("Sure!\n```json\n{\"goal\": \"a\"}\n```\nDone.", Some("a")),
            ("<think>{\"goal\":\"no\"}</think>\n{\"goal\":\"a\"}", Some("a")),
            ("set {x} then {\"goal\":\"a\"} }", Some("a")),
            ("<think>{\"goal\":\"a\"}", None),
            ("{\"goal\":\"a\"", None),
            ("{}{}", None),
            ("", None),
        ] {
            assert_eq!(object(text).as_ref().and_then(goal), goal_, "{text}");
        }
        assert_eq!(object(&"{".repeat(100_000)), None);
    }

    /// What a verdict holds goes into seeds and checkpoints, and a record that is too deep is refused by the log.
    #[test]
    fn what_is_nested_too_deep_is_no_verdict() {
        let task = |depth: usize| format!(r#"{{"goal":"g","x":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        let call = |arguments: String| verdict_of_call(&ToolCall { id: "c".into(), name: "start_task".into(), arguments });
        for (depth, good) in [(JSON_DEPTH_MAX - 1, true), (JSON_DEPTH_MAX, false)] {
            assert_eq!(object(&format!("so: {} and so on", task(depth))).is_some(), good, "{depth}");
            assert_eq!(call(task(depth)).is_some(), good, "{depth}");
            let within = serde_json::json!({"name": "start_task", "arguments": task(depth)}).to_string();
            assert_eq!(object(&within).and_then(|o| verdict(&o)).is_some(), good, "{depth}");
        }
    }

    #[test]
    fn verdicts_of_many_shapes() {
        let read = |text: &str| object(text).and_then(|o| verdict(&o));
        for task in [
            r#"{"goal":"g","constraints":[]}"#,
            r#"{"start_task":{"goal":"g"}}"#,
            r#"{"name":"start_task","arguments":{"goal":"g"}}"#,
            r#"{"name":"start_task","arguments":"{\"goal\":\"g\"}"}"#,
            r#"{"type":"function","function":{"name":"start_task","parameters":{"goal":"g"}}}"#,
        ] {
            assert!(matches!(read(task), Some(Verdict::Task(ref a)) if goal(a) == Some("g")), "{task}");
        }
        assert_eq!(
            read(r#"{"questions":["a?"," ","b\nc?","d?","e?"]}"#),
            Some(Verdict::Ask(vec!["a?".into(), "b c?".into(), "d?".into()]))
        );
        assert!(
            matches!(read(r#"{"tool":"read_file","arguments":{"path":"x"}}"#), Some(Verdict::Tool { name, .. }) if name == "read_file")
        );
        for none in
            [r#"{"goal":" "}"#, r#"{"goal":1}"#, r#"{"questions":[]}"#, r#"{"questions":["?"]}"#, r#"{"name":"Bob","age":3}"#, r#"{"a":1}"#]
        {
            assert_eq!(read(none), None, "{none}");
        }
    }
}
