//! The conversation as providers accept it: calls and results in pairs, arguments that are JSON, roles that alternate.
//!
//! Servers answer 400 or 500 to histories that a run can really have: arguments cut off by a token limit, a call whose result
//! never came because the process ended, two user messages in a row because the first run failed.

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::llm::request::{Message, ToolCall};

/// What stands for the result of a call that has none.
const NO_RESULT: &str = "No result: it is not known whether this call was carried out.";

/// The messages with neighbouring user messages joined, neighbouring plain assistant messages joined, every call followed by
/// exactly one result, results without a call left out, and a user message first.
pub(crate) fn paired(messages: &[Message]) -> Vec<Message> {
    let mut out: Vec<Message> = Vec::with_capacity(messages.len());
    // Calls of the last assistant message that have no result yet.
    let mut open: Vec<ToolCall> = Vec::new();
    for message in messages {
        if let Message::Tool { call_id, .. } = message {
            let before = open.len();
            open.retain(|call| call.id != *call_id);
            if open.len() < before {
                out.push(message.clone());
            }
            continue;
        }
        close(&mut out, &mut open);
        match (out.last_mut(), message) {
            (Some(Message::User { text: last }), Message::User { text }) => join(last, text),
            (Some(Message::Assistant { text: last, calls: none }), Message::Assistant { text, calls }) if none.is_empty() => {
                join(last, text);
                none.clone_from(calls);
                open.clone_from(calls);
            }
            (None, Message::Assistant { .. }) => {
                out.push(Message::User { text: "(The beginning of the conversation is left out.)".to_owned() });
                push(&mut out, &mut open, message);
            }
            _ => push(&mut out, &mut open, message),
        }
    }
    close(&mut out, &mut open);
    out
}

fn push(out: &mut Vec<Message>, open: &mut Vec<ToolCall>, message: &Message) {
    if let Message::Assistant { calls, .. } = message {
        open.clone_from(calls);
    }
    out.push(message.clone());
}

fn close(out: &mut Vec<Message>, open: &mut Vec<ToolCall>) {
    for call in open.drain(..) {
        out.push(Message::Tool { call_id: call.id, name: call.name, content: NO_RESULT.to_owned(), is_error: true });
    }
}

fn join(last: &mut String, text: &str) {
    if !last.is_empty() && !text.is_empty() {
        last.push_str("\n\n");
    }
    last.push_str(text);
}

/// A call's arguments as an object; what is no JSON object becomes `{}` (the tool's error result says what was wrong with it).
pub(crate) fn arguments(text: &str) -> Map<String, Value> {
    match serde_json::from_str(text) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

/// A name or id in the letters that every provider takes: letters, digits, `_`, `-`, 1 to 64 of them.
pub(crate) fn word(text: &str) -> String {
    let word: String = text.chars().take(64).map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    if word.is_empty() { "_".to_owned() } else { word }
}

/// Gives every call of an answer an id that no other call of the conversation has.
#[derive(Debug, Default, Clone)]
pub(crate) struct CallIds {
    used: HashSet<String>,
    /// The last number that was tried: each is tried once, however many the server has taken itself.
    last: usize,
}

impl CallIds {
    /// Knows the ids of these messages.
    pub(crate) fn of(messages: &[Message]) -> Self {
        let calls = messages.iter().flat_map(|m| match m {
            Message::Assistant { calls, .. } => calls.as_slice(),
            _ => &[],
        });
        Self { used: calls.map(|c| c.id.clone()).collect(), last: 0 }
    }

    /// The server's id where it is there and new; else `call_<n>`.
    pub(crate) fn take(&mut self, given: &str) -> String {
        if !given.is_empty() && given.len() <= 256 && self.used.insert(given.to_owned()) {
            return given.to_owned();
        }
        loop {
            self.last += 1;
            let id = format!("call_{}", self.last);
            if self.used.insert(id.clone()) {
                return id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(text: &str) -> Message {
        Message::User { text: text.into() }
    }
    fn call(id: &str) -> ToolCall {
        ToolCall { id: id.into(), name: "recall".into(), arguments: "{}".into() }
    }
    fn assistant(text: &str, ids: &[&str]) -> Message {
        Message::Assistant { text: text.into(), calls: ids.iter().map(|id| call(id)).collect() }
    }
    fn result(id: &str) -> Message {
        Message::Tool { call_id: id.into(), name: "recall".into(), content: "x".into(), is_error: false }
    }
    fn unknown(id: &str) -> Message {
        Message::Tool { call_id: id.into(), name: "recall".into(), content: NO_RESULT.into(), is_error: true }
    }

    #[test]
    fn a_good_history_stays_as_it_is() {
        let good = [user("a"), assistant("", &["1", "2"]), result("2"), result("1"), assistant("b", &[]), user("c")];
        assert_eq!(paired(&good), good);
    }

    #[test]
    fn torn_histories_are_mended() {
        assert_eq!(
            paired(&[user("a"), user("b"), assistant("", &["1"]), user("c")]),
            [user("a\n\nb"), assistant("", &["1"]), unknown("1"), user("c")]
        );
        assert_eq!(paired(&[result("0"), user("a"), result("9")]), [user("a")], "results nobody asked for");
        assert_eq!(
            paired(&[assistant("x", &[]), assistant("y", &["1"]), result("1"), result("1")]),
            [user("(The beginning of the conversation is left out.)"), assistant("x\n\ny", &["1"]), result("1"),]
        );
    }

    #[test]
    fn arguments_and_names_are_made_acceptable() {
        assert_eq!(Value::Object(arguments(r#"{"path":"a"}"#)).to_string(), r#"{"path":"a"}"#);
        for cut in [r#"{"path":"no"#, "", "[1]", "null", "{\"a\":1}}"] {
            assert!(arguments(cut).is_empty(), "{cut}");
        }
        assert_eq!(word("read file()"), "read_file__");
        assert_eq!(word(""), "_");
        let mut ids = CallIds::of(&[assistant("", &["call_1", "x"])]);
        assert_eq!([ids.take(""), ids.take("x"), ids.take("y"), ids.take("y")], ["call_2", "call_3", "y", "call_4"]);
    }
}
