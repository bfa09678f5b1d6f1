//! Which part of a model's text may be seen at once (DESIGN §4).
//!
//! Plain text passes. Text that begins with `{` or a fence may be a verdict of a model that knows no tools: it is held until
//! that is certain, at most [`HELD_BYTES_MAX`]. Thoughts (`<think>…</think>`) are never shown and take no room. The decision
//! is made character by character, so it does not depend on how the text was cut into pieces.

use serde::{Deserialize, Serialize};

use crate::orchestrator::structured::{self, Verdict};

/// Text held before it is let go as plain text.
pub(crate) const HELD_BYTES_MAX: usize = 2 * 1024;

const THINK: &str = "<think>";
const THINK_END: &str = "</think>";
const FENCE: &str = "```";

/// The text of one model call on its way to the reader.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Hold {
    form: Form,
    /// What is held; while thinking, the end of the thoughts that may be the beginning of `</think>`.
    held: String,
    /// A task's text is being written: `{"goal": …}` is data there and no verdict; only tool calls count.
    working: bool,
    /// The verdict that was found; what follows it is not shown.
    found: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Form {
    /// Nothing but white space or the beginning of a mark so far.
    #[default]
    Open,
    /// Inside `<think>`.
    Thoughts,
    /// Behind thoughts, where white space is not shown.
    Behind,
    /// `{` or a fence.
    Object,
    /// Plain text: all passes.
    Text,
}

/// What is left when a call has ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Rest {
    /// It was held and is plain text after all; may be empty.
    Text(String),
    /// A structured verdict.
    Verdict(Verdict),
}

impl Hold {
    /// For the text of an attempt at a task.
    pub(crate) fn working() -> Self {
        Self { working: true, ..Self::default() }
    }

    /// Takes a piece; what may be seen is added to `out`.
    pub(crate) fn push(&mut self, piece: &str, out: &mut String) {
        if self.form == Form::Text && !self.found {
            out.push_str(piece);
            return;
        }
        for c in piece.chars() {
            self.take(c, out);
        }
    }

    /// The call has ended.
    pub(crate) fn finish(&mut self) -> Rest {
        let held = std::mem::take(&mut self.held);
        match self.form {
            Form::Object => match self.verdict(&held) {
                Some(verdict) => Rest::Verdict(verdict),
                None => Rest::Text(held),
            },
            Form::Open => Rest::Text(held),
            Form::Behind | Form::Thoughts | Form::Text => Rest::Text(String::new()),
        }
    }

    fn take(&mut self, c: char, out: &mut String) {
        match self.form {
            Form::Text => out.push(c),
            Form::Thoughts => self.think(c),
            Form::Behind if c.is_whitespace() => {}
            Form::Behind => {
                self.form = Form::Open;
                self.take(c, out);
            }
            Form::Open => {
                self.held.push(c);
                self.begin(out);
            }
            Form::Object if self.found => {}
            Form::Object => {
                self.held.push(c);
                self.object(c, out);
            }
        }
    }

    /// Is it a mark, the beginning of one, or plain text?
    fn begin(&mut self, out: &mut String) {
        let start = self.held.trim_start();
        if start == THINK {
            self.held.clear();
            self.form = Form::Thoughts;
        } else if start == "{" || start == FENCE {
            self.form = Form::Object;
        } else if !(THINK.starts_with(start) || FENCE.starts_with(start)) || self.held.len() > HELD_BYTES_MAX {
            self.let_go(out);
        }
    }

    fn think(&mut self, c: char) {
        self.held.push(c);
        if self.held == THINK_END {
            self.held.clear();
            self.form = Form::Behind;
        }
        // Keep only what may still become the end mark; its only `<` is its first character.
        while !THINK_END.starts_with(self.held.as_str()) {
            self.held.remove(0);
        }
    }

    fn object(&mut self, c: char, out: &mut String) {
        if self.held.len() > HELD_BYTES_MAX || certainly_text(self.held.trim_start()) {
            self.let_go(out);
        } else if c == '}' && structured::first_object(&self.held).is_some() {
            if self.verdict(&self.held).is_some() {
                self.found = true;
            } else {
                self.let_go(out);
            }
        }
    }

    fn verdict(&self, held: &str) -> Option<Verdict> {
        let verdict = structured::first_object(held).and_then(|object| structured::verdict(&object))?;
        (!self.working || matches!(verdict, Verdict::Tool { .. })).then_some(verdict)
    }

    fn let_go(&mut self, out: &mut String) {
        out.push_str(&self.held);
        self.held = String::new();
        self.form = Form::Text;
    }
}

/// What begins with `{` or a fence and cannot become an object any more.
fn certainly_text(start: &str) -> bool {
    let inner = match start.strip_prefix(FENCE) {
        Some(fenced) => {
            let Some((language, inner)) = fenced.split_once('\n') else {
                let language = fenced.trim();
                return !"json".starts_with(language.to_ascii_lowercase().as_str());
            };
            let language = language.trim();
            if !language.is_empty() && !language.eq_ignore_ascii_case("json") {
                return true;
            }
            inner.trim_start()
        }
        None => start,
    };
    if inner.is_empty() {
        return false;
    }
    match inner.strip_prefix('{') {
        None => true,
        // RFC 8259 §4: an object holds strings as names, or nothing.
        Some(rest) => rest.trim_start().starts_with(|c| c != '"'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(pieces: &[&str]) -> (String, Rest) {
        let mut hold = Hold::default();
        let mut out = String::new();
        for piece in pieces {
            hold.push(piece, &mut out);
        }
        let rest = hold.finish();
        (out, rest)
    }

    fn text(t: &str) -> Rest {
        Rest::Text(t.into())
    }

    const CASES: &[&str] = &[
        "",
        "Hello there",
        "  Hello",
        "<b>bold</b>",
        "<thin air",
        "`code` is short",
        "{",
        "{ x: 1 }",
        "{\"a\": 1} and more",
        "{\"goal\": \"g\"} ignored",
        "```json\n{\"goal\": \"g\"}\n```\n",
        "```\n{\"questions\": [\"why?\"]}\n```",
        "```rust\nfn main() {}\n```",
        "```js\nx\n```",
        "```json\n[1]\n```",
        "<think>hm < </thin </think>\n\nHello {x}",
        "<think>a</think><think>b</think>{\"goal\":\"g\"}",
        "<think>never ends </thinking",
        "{\"goal\": \"cut off",
        "{\"name\":\"read_file\",\"arguments\":{\"path\":\"a}b\"}}",
        "日本語のテキスト",
        "{\"日\": 1}",
    ];

    #[test]
    fn the_result_does_not_depend_on_where_the_text_is_cut() {
        let long = format!("{{\"goal\": \"{}", "é".repeat(HELD_BYTES_MAX));
        for case in CASES.iter().copied().chain([long.as_str()]) {
            let whole = run(&[case]);
            let single: Vec<String> = case.chars().map(String::from).collect();
            assert_eq!(run(&single.iter().map(String::as_str).collect::<Vec<_>>()), whole, "{case}");
            for (at, _) in case.char_indices().take(64) {
                let (a, b) = case.split_at(at);
                assert_eq!(run(&[a, b]), whole, "{case} cut at {at}");
            }
        }
    }

    #[test]
    fn forms_are_told_apart() {
        for (case, seen, rest) in [
            ("Hello", "Hello", text("")),
            (" \nHi", " \nHi", text("")),
            ("{ x }", "{ x }", text("")),
            ("{\"a\":1} b", "{\"a\":1} b", text("")),
            ("```rust\nx", "```rust\nx", text("")),
            ("<think>secret</think>\n Hi", "Hi", text("")),
            ("<think>secret", "", text("")),
            ("{\"goal\": \"cut", "", text("{\"goal\": \"cut")),
            ("```", "", text("```")),
        ] {
            assert_eq!(run(&[case]), (seen.to_owned(), rest), "{case}");
        }
        for case in ["{\"goal\":\"g\"} tail", "```json\n{\"goal\":\"g\"}\n``` tail", "<think>x</think>{\"start_task\":{\"goal\":\"g\"}}"] {
            let (seen, rest) = run(&[case]);
            assert_eq!(seen, "", "{case}");
            assert!(matches!(rest, Rest::Verdict(Verdict::Task(_))), "{case}");
        }
    }

    #[test]
    fn at_most_two_kib_are_held_and_thoughts_take_no_room() {
        let mut hold = Hold::default();
        let mut out = String::new();
        hold.push("{\"goal\":\"", &mut out);
        hold.push(&"x".repeat(HELD_BYTES_MAX), &mut out);
        assert!(out.len() > HELD_BYTES_MAX);
        let mut hold = Hold::default();
        out.clear();
        hold.push("<think>", &mut out);
        for _ in 0..10_000 {
            hold.push("thought </thin", &mut out);
            assert!(hold.held.len() < THINK_END.len());
        }
        hold.push("</think>Hi", &mut out);
        assert_eq!(out, "Hi");
    }

    #[test]
    fn in_an_attempt_only_tool_calls_count() {
        let mut hold = Hold::working();
        let mut out = String::new();
        hold.push("{\"goal\":\"g\"}", &mut out);
        assert_eq!((out.as_str(), hold.finish()), ("{\"goal\":\"g\"}", text("")));
        let mut hold = Hold::working();
        hold.push("{\"name\":\"read_file\",\"arguments\":{\"path\":\"a}b\"}}", &mut out);
        assert!(matches!(hold.finish(), Rest::Verdict(Verdict::Tool { .. })));
    }
}
