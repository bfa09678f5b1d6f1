//! The conversation as the model reads it: rebuilt from the log and cut to the model's context.
//!
//! The rule: a text counts as [`tokens`] says. A quarter of the context, at least 256 and at most 8,192 tokens, is left for the
//! answer. What must be there comes first: instructions, tools, the message, the tool calls of this run. Where that alone is too
//! much, the oldest tool results go, then long ones are cut, then the middle of the message. What is left holds earlier exchanges, newest first,
//! whole ones only; the first that does not fit ends it.

pub(crate) use crate::llm::request::tokens;
use crate::llm::request::{Message, ToolCall, bytes_of};
use crate::store::turns::Turn;

/// Share of the context that the answer may take: one in so many.
const ANSWER_SHARE: u32 = 4;
/// What stands for a tool result that had to go.
const LEFT_OUT: &str = "[left out: there is no room for it any more; call the tool again if it matters]";
/// Messages at the end that are the last to be cut: what the model is about to answer.
const KEPT_LAST: usize = 2;

/// One earlier exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exchange {
    pub(crate) user: String,
    pub(crate) assistant: String,
}

impl From<Turn> for Exchange {
    fn from(turn: Turn) -> Self {
        let cut = match turn.kind {
            "done" => "",
            "cancelled" => "[this answer was cancelled]",
            "interrupted" => "[this answer was interrupted]",
            _ => "[this answer failed]",
        };
        let text = turn.ending.text;
        let assistant = match (text.trim().is_empty(), cut) {
            (_, "") if !text.trim().is_empty() => text,
            // Some servers refuse an empty turn.
            (true, "") => "[no answer]".to_owned(),
            (true, cut) => cut.to_owned(),
            (false, cut) => format!("{text}\n{cut}"),
        };
        Self { user: turn.message.content, assistant }
    }
}

/// Tokens that the answer may have in such a context.
pub(crate) fn answer_tokens(context: u32) -> u32 {
    (context / ANSWER_SHARE).clamp(256, 8192)
}

/// Earlier exchanges, the message and this run's transcript, within `room` tokens as far as the rule allows.
pub(crate) fn fit(history: &[Exchange], message: &str, transcript: &[Message], room: u32) -> Vec<Message> {
    let mut transcript = transcript.to_vec();
    let mut message = message.to_owned();
    shrink(&mut message, &mut transcript, room);
    let mut left = room.saturating_sub(tokens(&message)).saturating_sub(sum(&transcript));
    let mut messages = Vec::new();
    for exchange in history.iter().rev() {
        let size = tokens(&exchange.user).saturating_add(tokens(&exchange.assistant));
        if size > left {
            break;
        }
        left -= size;
        messages.push(Message::Assistant { text: exchange.assistant.clone(), calls: Vec::new() });
        // An answer that opens an imported conversation answers nothing; some servers refuse an empty question.
        if !exchange.user.is_empty() {
            messages.push(Message::User { text: exchange.user.clone() });
        }
    }
    messages.reverse();
    messages.push(Message::User { text: message });
    messages.extend(transcript);
    messages
}

/// Lets the oldest tool results go until all of them together have at most `max` bytes: a checkpoint is one line of the log.
pub(crate) fn trim_results(transcript: &mut [Message], max: usize) {
    let size = |message: &Message| if let Message::Tool { content, .. } = message { content.len() } else { 0 };
    let mut all: usize = transcript.iter().map(size).sum();
    for message in transcript {
        let Message::Tool { content, .. } = message else { continue };
        if all <= max {
            return;
        }
        all -= content.len();
        *content = LEFT_OUT.to_owned();
        all += content.len();
    }
}

fn shrink(message: &mut String, transcript: &mut [Message], room: u32) {
    let fits = |message: &str, transcript: &[Message]| tokens(message).saturating_add(sum(transcript)) <= room;
    let old = transcript.len().saturating_sub(KEPT_LAST);
    for at in 0..old {
        if fits(message, transcript) {
            return;
        }
        match transcript.get_mut(at) {
            Some(Message::Tool { content, .. }) if content.len() > LEFT_OUT.len() => *content = LEFT_OUT.to_owned(),
            // The call must stay for its result's sake; its arguments (a whole file) need not.
            Some(Message::Assistant { calls, .. }) => {
                calls.iter_mut().filter(|c| c.arguments.len() > 200).for_each(|c| c.arguments = "{}".into())
            }
            _ => {}
        }
    }
    let share = bytes_of(room) / 4;
    for item in transcript.iter_mut() {
        if let Message::Tool { content, .. } = item {
            *content = middle_cut(content, share);
        }
    }
    if !fits(message, transcript) {
        let left = room.saturating_sub(sum(transcript)).max(room / 4);
        *message = middle_cut(message, bytes_of(left.saturating_sub(40)));
    }
}

/// A text of at most about `max` bytes: its beginning and its end.
pub(crate) fn middle_cut(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let mut head = max * 2 / 3;
    while !text.is_char_boundary(head) {
        head -= 1;
    }
    let mut tail = text.len() - (max - head).min(text.len());
    while !text.is_char_boundary(tail) {
        tail += 1;
    }
    let (start, end) = (text.get(..head).unwrap_or_default(), text.get(tail..).unwrap_or_default());
    format!("{start}\n[… {} bytes left out …]\n{end}", tail - head)
}

fn sum(messages: &[Message]) -> u32 {
    let of_call = |call: &ToolCall| tokens(&call.name).saturating_add(tokens(&call.arguments));
    let of = |message: &Message| match message {
        Message::User { text } => tokens(text),
        Message::Assistant { text, calls } => calls.iter().map(of_call).fold(tokens(text), u32::saturating_add),
        Message::Tool { content, name, .. } => tokens(content).saturating_add(tokens(name)),
    };
    messages.iter().map(of).fold(0, u32::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(n: usize, size: usize) -> Exchange {
        Exchange { user: format!("{n}{}", "u".repeat(size)), assistant: format!("{n}{}", "a".repeat(size)) }
    }

    fn result(content: &str) -> Message {
        Message::Tool { call_id: "c".into(), name: "read_file".into(), content: content.into(), is_error: false }
    }

    #[test]
    fn the_newest_exchanges_stay_whole() {
        let history: Vec<_> = (0..5).map(|n| exchange(n, 300)).collect();
        for (room, kept) in [(100, 0), (230, 1), (440, 2), (10_000, 5)] {
            let messages = fit(&history, "now", &[], room);
            assert_eq!(messages.len(), kept * 2 + 1, "room {room}");
            assert_eq!(messages.last(), Some(&Message::User { text: "now".into() }));
            assert!(sum(&messages) <= room.max(tokens("now")), "room {room}");
            if kept > 0 {
                assert_eq!(messages[0], Message::User { text: history[5 - kept].user.clone() });
            }
        }
    }

    #[test]
    fn one_exchange_that_does_not_fit_ends_the_history() {
        let history = [exchange(0, 10), exchange(1, 100_000), exchange(2, 10)];
        assert_eq!(fit(&history, "now", &[], 1000).len(), 3);
    }

    #[test]
    fn old_tool_results_go_before_the_message_is_cut() {
        let transcript = [result(&"x".repeat(3000)), result(&"y".repeat(3000)), result("last"), result("very last")];
        let messages = fit(&[], "question", &transcript, 500);
        assert!(sum(&messages) <= 500);
        assert_eq!(messages[0], Message::User { text: "question".into() });
        assert_eq!(messages[4], result("very last"));
        let messages = fit(&[], &"é".repeat(30_000), &[], 500);
        let Message::User { text } = &messages[0] else { panic!() };
        assert!(sum(&messages) <= 500 && text.contains("left out") && text.starts_with('é') && text.ends_with('é'), "{}", sum(&messages));
    }

    #[test]
    fn a_checkpoint_lets_the_oldest_results_go() {
        let mut transcript = [result(&"x".repeat(500)), result(&"y".repeat(500)), result("z")];
        trim_results(&mut transcript, 1001);
        assert_eq!(transcript[0], result(&"x".repeat(500)));
        trim_results(&mut transcript, 1000);
        assert_eq!(transcript, [result(LEFT_OUT), result(&"y".repeat(500)), result("z")]);
    }

    #[test]
    fn a_cut_answer_says_so() {
        use crate::base::ids::{AgentId, MessageId};
        use crate::store::record::{Ending, UserMessage};
        let turn = |kind, text: &str| Turn {
            message_id: MessageId::derived(&[1; 32]),
            seq: 1,
            message: UserMessage {
                content: "q".into(),
                user_id: "u".into(),
                channel: "rest".into(),
                agent_id: AgentId::derived(&[1; 32]),
                space_id: None,
                budget_id: None,
                key_id: None,
                idempotent: false,
                history: None,
                attachments: vec![],
            },
            ending: Ending { text: text.into(), ..Ending::default() },
            kind,
        };
        for (kind, text, assistant) in [
            ("done", "a", "a"),
            ("done", "", "[no answer]"),
            ("failed", "", "[this answer failed]"),
            ("cancelled", "half", "half\n[this answer was cancelled]"),
        ] {
            assert_eq!(Exchange::from(turn(kind, text)).assistant, assistant);
        }
    }
}
