//! The messages of a request as the agent takes them: the last thing that the user said, and before it a conversation that was
//! held elsewhere and becomes the first turns of a new session.
//!
//! Neighbours of one role are one message, as the models themselves read them; what is blank says nothing and is left out.

use crate::api::v1::completions::CompletionMessage;
use crate::base::limits::{CONTENT_BYTES_MAX, HISTORY_MESSAGES_MAX, INSTRUCTIONS_BYTES_MAX};
use crate::http::error::{ErrorStatus, HttpError};
use crate::store::history::History;

/// What is sent to the agent.
#[derive(Debug, PartialEq)]
pub(super) struct Conversation {
    /// Before it.
    pub(super) history: History,
    /// What the user says.
    pub(super) message: String,
}

/// The last user message alone: the session that it goes to has the rest (API B).
pub(super) fn last(messages: &[CompletionMessage]) -> Result<Conversation, HttpError> {
    let last = messages.iter().enumerate().rfind(|(_, message)| message.role == "user");
    let Some((at, message)) = last else {
        return Err(HttpError::bad_request("there is no user message").param("messages"));
    };
    fitting(History::default(), message.text(at)?, at)
}

/// All of it.
///
/// # Errors
/// 400 and 413 that name the message: one that is no text, one of a tool, another's after the user's last one, too many, too long.
pub(super) fn whole(messages: &[CompletionMessage]) -> Result<Conversation, HttpError> {
    if messages.len() > HISTORY_MESSAGES_MAX {
        let text = format!("model `oxios` takes at most {HISTORY_MESSAGES_MAX} messages; leave the oldest ones out");
        return Err(HttpError::bad_request(text).param("messages"));
    }
    let mut instructions = String::new();
    let mut turns: Vec<(String, String)> = Vec::new();
    // Where the last word of the conversation is.
    let mut last = 0;
    for (at, message) in messages.iter().enumerate() {
        let text = message.text(at)?;
        let called = message.tool_calls.as_ref().is_some_and(|calls| !calls.is_empty());
        if called || matches!(message.role.as_str(), "tool" | "function") {
            let text = "model `oxios` runs tools of its own and takes no others' calls or results; send what was said as text";
            return Err(HttpError::bad_request(text).param(format!("messages[{at}]")));
        }
        match message.role.as_str() {
            "system" | "developer" => {
                add(&mut instructions, &text);
                continue;
            }
            "user" => {
                last = at;
                if text.trim().is_empty() {
                    continue;
                }
                match turns.last_mut() {
                    Some((said, answer)) if answer.is_empty() => add(said, &text),
                    _ => turns.push((text, String::new())),
                }
            }
            "assistant" => {
                last = at;
                if text.trim().is_empty() {
                    continue;
                }
                match turns.last_mut() {
                    Some((_, answer)) => add(answer, &text),
                    None => turns.push((String::new(), text)),
                }
            }
            _ => {
                let error = HttpError::bad_request("role: expected system, developer, user or assistant");
                return Err(error.param(format!("messages[{at}].role")));
            }
        }
    }
    if instructions.len() > INSTRUCTIONS_BYTES_MAX {
        return Err(too_large("the system messages have", instructions.len(), INSTRUCTIONS_BYTES_MAX).param("messages"));
    }
    if messages.get(last).is_none_or(|message| message.role != "user") {
        let public = "the last message must be the user's: model `oxios` answers it, and goes on with no answer that was begun elsewhere";
        return Err(HttpError::bad_request(public).param(format!("messages[{last}].role")));
    }
    let message = match turns.pop() {
        Some((said, answer)) if answer.is_empty() => said,
        _ => String::new(),
    };
    let instructions = Some(instructions).filter(|text| !text.is_empty());
    fitting(History { instructions, turns }, message, last)
}

/// The message is within its limits.
fn fitting(history: History, message: String, at: usize) -> Result<Conversation, HttpError> {
    let place = || format!("messages[{at}].content");
    if message.len() > CONTENT_BYTES_MAX {
        return Err(too_large("what the user says has", message.len(), CONTENT_BYTES_MAX).param(place()));
    }
    if message.trim().is_empty() {
        return Err(HttpError::bad_request("the user's message is empty").param(place()));
    }
    Ok(Conversation { history, message })
}

/// One more text of the same role.
fn add(all: &mut String, text: &str) {
    if text.trim().is_empty() {
        return;
    }
    if !all.is_empty() {
        all.push_str("\n\n");
    }
    all.push_str(text);
}

fn too_large(what: &str, size: usize, limit: usize) -> HttpError {
    HttpError::new(ErrorStatus::PayloadTooLarge, "payload_too_large", format!("{what} {size} bytes; at most {limit} are taken"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn messages(all: Value) -> Vec<CompletionMessage> {
        serde_json::from_value(all).unwrap()
    }

    /// `role: text` a line.
    fn talk(lines: &[&str]) -> Vec<CompletionMessage> {
        let message = |line: &&str| {
            let (role, content) = line.split_once(": ").unwrap();
            json!({"role": role, "content": content})
        };
        messages(lines.iter().map(message).collect())
    }

    fn taken(lines: &[&str]) -> (Option<String>, Vec<(String, String)>, String) {
        let taken = whole(&talk(lines)).unwrap();
        (taken.history.instructions, taken.history.turns, taken.message)
    }

    fn turns(all: &[(&str, &str)]) -> Vec<(String, String)> {
        all.iter().map(|(said, answer)| ((*said).to_owned(), (*answer).to_owned())).collect()
    }

    #[test]
    fn a_conversation_becomes_turns_and_the_message() {
        for (lines, instructions, past, message) in [
            (&["user: a"][..], None, turns(&[]), "a"),
            (&["user: a", "assistant: b", "user: c"], None, turns(&[("a", "b")]), "c"),
            (&["system: s", "user: a", "developer: t", "assistant: b", "user: c"], Some("s\n\nt"), turns(&[("a", "b")]), "c"),
            (&["assistant: hello", "user: a"], None, turns(&[("", "hello")]), "a"),
            (&["user: a", "user: b", "assistant: c", "assistant: d", "user: e", "user: f"], None, turns(&[("a\n\nb", "c\n\nd")]), "e\n\nf"),
            (&["user: a", "assistant:  ", "user: b"], None, turns(&[]), "a\n\nb"),
            (&["user:  ", "assistant: b", "system:  ", "user: c", "system: s"], Some("s"), turns(&[("", "b")]), "c"),
            (&["user: a", "assistant: b", "user: c", "user: \n"], None, turns(&[("a", "b")]), "c"),
        ] {
            assert_eq!(taken(lines), (instructions.map(str::to_owned), past, message.to_owned()), "{lines:?}");
        }
        let parts = json!([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": null}, {"role": "assistant", "content": [{"type": "text", "text": "c"}]},
            {"role": "user", "content": "d"}]);
        assert_eq!(whole(&messages(parts)).unwrap().history.turns, turns(&[("ab", "c")]));
    }

    #[test]
    fn what_is_not_taken_is_named() {
        let refused = |error: HttpError| (error.status.code().as_u16(), error.param.unwrap());
        for (lines, place) in [
            (&["user: a", "assistant: b"][..], "messages[1].role"),
            (&["user: a", "assistant: b", "system: s"], "messages[1].role"),
            (&["user: a", "assistant:  "], "messages[1].role"),
            (&["system: s"], "messages[0].role"),
            (&["user: a", "assistant: b", "user:  "], "messages[2].content"),
            (&["user: a", "robot: b", "user: c"], "messages[1].role"),
            (&["user: a", "tool: b", "user: c"], "messages[1]"),
        ] {
            assert_eq!(refused(whole(&talk(lines)).unwrap_err()), (400, place.to_owned()), "{lines:?}");
        }
        let call = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": null,
            "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]}, {"role": "user", "content": "b"}]);
        assert_eq!(refused(whole(&messages(call)).unwrap_err()), (400, "messages[1]".to_owned()));
        let many = vec!["user: a"; HISTORY_MESSAGES_MAX + 1];
        assert_eq!(refused(whole(&talk(&many)).unwrap_err()), (400, "messages".to_owned()));
        assert!(whole(&talk(&many[1..])).is_ok());
        let long = format!("user: {}", "x".repeat(CONTENT_BYTES_MAX / 2));
        assert_eq!(refused(whole(&talk(&[&long, &long])).unwrap_err()), (413, "messages[1].content".to_owned()), "they are one message");
        assert!(whole(&talk(&[&long, "assistant: b", &long])).is_ok());
        let instructions = |bytes: usize| format!("system: {}", "x".repeat(bytes));
        assert_eq!(refused(whole(&talk(&[&instructions(INSTRUCTIONS_BYTES_MAX + 1), "user: a"])).unwrap_err()).0, 413);
        assert!(whole(&talk(&[&instructions(INSTRUCTIONS_BYTES_MAX), "user: a"])).is_ok());
    }

    #[test]
    fn where_there_is_a_session_only_the_last_user_message_counts() {
        let taken = last(&talk(&["system: s", "user: a", "assistant: b", "user: c", "assistant: d"])).unwrap();
        assert_eq!(taken, Conversation { history: History::default(), message: "c".into() });
        assert!(last(&talk(&["system: s"])).is_err());
    }
}
