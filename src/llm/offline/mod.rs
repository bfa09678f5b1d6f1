//! The built-in model: deterministic, without network, honest about itself.
//!
//! It acts like any other model: it reads a [`Request`], writes text and calls the tools that are offered; it sees no file and
//! no memory but through their results. It understands a small language ([`language`]) and nothing else:
//!
//! | said | what happens |
//! |---|---|
//! | `help` | this list |
//! | `remember <text>` · `recall <words>` | keeps a memory · looks memories up |
//! | `list files [in <dir>]` · `read <path>` · `search <words>` | looks into the workspace |
//! | `write <path>: <text>` | writes a file (a person is asked first) |
//! | `list skills` · `read skill <name>` | shows what was taught |
//! | a question | looks in memory, files, skills and this conversation, and cites what it finds |
//! | `task <goal>` | a specification is made, worked on, judged, and repaired where it falls short |
//! | `task <goal> criteria: a; b` | with criteria; `constraints: c` in the same way, which also asks for a written specification |
//! | `task in parallel: a; b criteria: c; d` | the steps are worked on at the same time, each by an agent of its own |
//! | `task` | is unclear, so it asks; the next message is the answer |
//! | `echo <text>` · `count to <n>` | says the text · says the numbers (at most 8,000): for trying the line |
//! | anything else | is talk, and gets an honest word |
//!
//! The goal of a task is steps of this language, apart by `;`; a step that is none of them is looked up, and `say <text>` says
//! the text. How it is judged: a criterion is met if all its words that carry meaning (and every `"quoted text"` as it stands)
//! occur in the result; a first word such as `mentions` or `names` does not count; `without <words>` is met if none of them occurs. Without criteria every step must have worked or found
//! something. The repair makes the next attempt go through each criterion that was not met, by name, with what can be found
//! about it; so a criterion whose words the first result lacks is met after one evolution, and `without <words>` that the goal itself says never is.
//!
//! Tokens are words here: `max_tokens` cuts after that many, and usage counts them.

mod found;
mod judge;
mod language;
mod talk;
mod work;

use std::collections::VecDeque;

use crate::llm::request::{ASIDE, Event, Finish, Message, Purpose, Request, ToolCall, Usage};
use serde_json::Value;

/// An answer that is given piece by piece, a word at a time.
pub(crate) struct Answer {
    text: String,
    /// How much of the text is out, in bytes.
    at: usize,
    words: u32,
    words_max: u32,
    /// What follows the text.
    rest: VecDeque<Event>,
}

impl Answer {
    /// The next event; the same ones for the same request.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let left = self.text.get(self.at..).unwrap_or_default();
        if left.is_empty() {
            return self.rest.pop_front();
        }
        if self.words == self.words_max {
            self.at = self.text.len();
            if let Some(Event::Finish(finish)) = self.rest.back_mut() {
                *finish = Finish::Length;
            }
            return Some(Event::Text(format!("… (cut after {} words)", self.words_max)));
        }
        // A word and the white space behind it.
        let word = left.find(|c: char| !c.is_whitespace()).unwrap_or(0);
        let space = left.get(word..).and_then(|l| l.find(char::is_whitespace)).map_or(left.len(), |at| word + at);
        let next = left.get(space..).and_then(|l| l.find(|c: char| !c.is_whitespace())).map_or(left.len(), |at| space + at);
        self.at += next;
        self.words += 1;
        left.get(..next).map(|piece| Event::Text(piece.to_owned()))
    }
}

/// What the model says and does.
#[derive(Debug, Default, PartialEq)]
struct Reply {
    text: String,
    calls: Vec<(&'static str, Value)>,
}

impl Reply {
    fn say(text: impl Into<String>) -> Self {
        Self { text: text.into(), calls: Vec::new() }
    }
    fn call(name: &'static str, arguments: Value) -> Self {
        Self { text: String::new(), calls: vec![(name, arguments)] }
    }
}

/// Answers a request.
pub(crate) fn answer(request: &Request) -> Answer {
    let reply = match request.purpose {
        Purpose::Interview => talk::interview(request),
        Purpose::Seed => work::seed(request),
        Purpose::Execute => work::execute(request),
        Purpose::Evaluate => judge::evaluate(request),
        Purpose::Evolve => judge::evolve(request),
    };
    let words = |text: &str| text.split_whitespace().count() as u64;
    let read: u64 = request.messages.iter().map(|m| words(text_of(m))).sum();
    let mut written = words(&reply.text);
    let called = request.messages.iter().filter(|m| matches!(m, Message::Tool { .. })).count();
    let mut rest = VecDeque::new();
    for (n, (name, arguments)) in reply.calls.into_iter().enumerate() {
        let arguments = arguments.to_string();
        written += words(&arguments);
        rest.push_back(Event::Call(ToolCall { id: format!("call_{}", called + n + 1), name: name.to_owned(), arguments }));
    }
    let finish = if rest.is_empty() { Finish::Stop } else { Finish::ToolCalls };
    let words_max = if request.max_tokens == 0 { u32::MAX } else { request.max_tokens };
    rest.push_back(Event::Usage(Usage { input_tokens: words(&request.system) + read, output_tokens: written.min(words_max.into()) }));
    rest.push_back(Event::Finish(finish));
    Answer { text: reply.text, at: 0, words: 0, words_max, rest }
}

fn text_of(message: &Message) -> &str {
    match message {
        Message::User { text } | Message::Assistant { text, .. } | Message::Tool { content: text, .. } => text,
    }
}

fn offered(request: &Request, name: &str) -> bool {
    request.tools.iter().any(|tool| tool.name == name)
}

/// The last user message, and what came after it.
fn turn(request: &Request) -> (&str, &[Message]) {
    let at = request.messages.iter().rposition(|m| matches!(m, Message::User { .. }));
    let text = at.and_then(|at| request.messages.get(at)).map_or("", text_of);
    // A command ends where the user's words end.
    let text = text.split_once(ASIDE).map_or(text, |(said, _)| said);
    let after = at.and_then(|at| request.messages.get(at + 1..)).unwrap_or(&request.messages);
    (text, after)
}

/// A tool's result, with what it was asked for.
struct ToolResult<'a> {
    name: &'a str,
    content: &'a str,
    is_error: bool,
}

fn results(messages: &[Message]) -> Vec<ToolResult<'_>> {
    messages
        .iter()
        .filter_map(|message| match message {
            Message::Tool { name, content, is_error, .. } => Some(ToolResult { name, content, is_error: *is_error }),
            _ => None,
        })
        .collect()
}

/// The beginning of a text on one line.
fn short(text: &str, chars: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(chars) {
        Some((at, _)) => format!("{}…", line.get(..at).unwrap_or_default()),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::request::ToolSpec;

    const LOOKING: [&str; 7] = ["list_files", "read_file", "search_files", "recall", "list_skills", "read_skill", "remember"];

    fn tools(names: &[&str]) -> Vec<ToolSpec> {
        names.iter().map(|name| ToolSpec { name: (*name).into(), description: String::new(), parameters: Value::Null }).collect()
    }
    fn user(text: &str) -> Message {
        Message::User { text: text.into() }
    }
    fn interview(text: &str) -> Request {
        let names = [&["start_task", "ask_user"][..], &LOOKING].concat();
        Request { messages: vec![user(text)], tools: tools(&names), ..Request::default() }
    }
    fn working(purpose: Purpose, text: String) -> Request {
        let names = [&LOOKING[..], &["write_file"]].concat();
        let tools = if purpose == Purpose::Execute { tools(&names) } else { Vec::new() };
        Request { messages: vec![user(&text)], tools, purpose, ..Request::default() }
    }

    fn events(request: &Request) -> Vec<Event> {
        let mut answer = answer(request);
        std::iter::from_fn(|| answer.next()).collect()
    }
    fn said(events: &[Event]) -> String {
        events.iter().map(|e| if let Event::Text(t) = e { t.as_str() } else { "" }).collect()
    }
    fn called(events: &[Event]) -> Vec<ToolCall> {
        events.iter().filter_map(|e| if let Event::Call(call) = e { Some(call.clone()) } else { None }).collect()
    }

    /// Runs the request to its end with tools that answer as the real ones do; gives the text and the calls that were made.
    fn run(mut request: Request, tool: impl Fn(&str, &Value) -> Result<String, String>) -> (String, Vec<String>) {
        let mut made = Vec::new();
        for _ in 0..12 {
            let events = events(&request);
            let calls = called(&events);
            if calls.is_empty() {
                return (said(&events), made);
            }
            request.messages.push(Message::Assistant { text: said(&events), calls: calls.clone() });
            for call in calls {
                let arguments: Value = serde_json::from_str(&call.arguments).unwrap();
                made.push(format!("{} {arguments}", call.name));
                if matches!(call.name.as_str(), "start_task" | "ask_user") {
                    return (said(&events), made);
                }
                let (content, is_error) = match tool(&call.name, &arguments) {
                    Ok(text) => (format!("[{} returned this data]\n{text}", call.name), false),
                    Err(text) => (format!("[{} returned this data]\n{text}", call.name), true),
                };
                request.messages.push(Message::Tool { call_id: call.id, name: call.name, content, is_error });
            }
        }
        panic!("it goes in circles: {made:?}");
    }

    fn house(name: &str, arguments: &Value) -> Result<String, String> {
        let query = arguments["query"].as_str().unwrap_or_default().to_lowercase();
        Ok(match name {
            "recall" if query.contains("kettle") => "- [fact 2026-11-23] The kettle is blue\n- [fact 2026-11-22] Milk is out".into(),
            "recall" => "(nothing remembered about this)".into(),
            "search_files" if query.contains("kettle") => "home/notes.md:3: the kettle: second shelf\n[there are more files]".into(),
            "search_files" => "(nothing found)".into(),
            "list_skills" => "brew: Making tea with a kettle.\nother: Something else.".into(),
            "read_skill" => "# Brew\nBoil water.\nWait.".into(),
            "list_files" => "docs/\nnotes.md (12 bytes)".into(),
            "read_file" if arguments["path"] == "gone.md" => return Err("`gone.md`: there is no such file".into()),
            "read_file" => "line one\nline two".into(),
            "write_file" => "wrote 5 bytes to a.md".into(),
            "remember" => "remembered".into(),
            _ => return Err("no such tool".into()),
        })
    }

    #[test]
    fn text_comes_word_by_word_and_tokens_are_words() {
        let all = events(&interview("echo  Grüß  Gott,\n 世界 !"));
        let pieces: Vec<_> = all.iter().filter(|e| matches!(e, Event::Text(_))).collect();
        assert_eq!((said(&all).as_str(), pieces.len()), ("Grüß  Gott,\n 世界 !", 4));
        assert_eq!(all[4..], [Event::Usage(Usage { input_tokens: 5, output_tokens: 4 }), Event::Finish(Finish::Stop)]);
        assert_eq!(all, events(&interview("echo  Grüß  Gott,\n 世界 !")), "the same every time");
        let count = said(&events(&interview("count to 500")));
        assert!(count.starts_with("1 2 3 ") && count.ends_with(" 499 500"));
        let cut = events(&Request { max_tokens: 3, ..interview("count to 500") });
        assert_eq!((said(&cut).as_str(), cut.last()), ("1 2 3 … (cut after 3 words)", Some(&Event::Finish(Finish::Length))));
    }

    #[test]
    fn talk_is_answered_at_once_and_honestly() {
        for (text, word) in [
            ("Hello", "no language model"),
            ("Who are you?", "offline model"),
            ("help", "remember <text>"),
            ("What did I say?", "first thing"),
            ("The sky is blue", "do not understand free talk"),
            ("count to 999999", "at most"),
        ] {
            let (answer, calls) = run(interview(text), house);
            assert!(answer.contains(word) && calls.is_empty(), "{text}: {answer}");
        }
        let mut second = interview("What did I say?");
        second.messages.splice(0..0, [user("The sky is blue"), Message::Assistant { text: "…".into(), calls: vec![] }]);
        assert_eq!(run(second, house).0, "Before that you said: “The sky is blue”");
    }

    #[test]
    fn commands_use_the_tools() {
        for (text, call, answer) in [
            ("remember the kettle is blue", r#"remember {"content":"the kettle is blue"}"#, "Noted: “the kettle is blue”"),
            (
                "recall kettle",
                r#"recall {"query":"kettle"}"#,
                "- The kettle is blue [memory: fact 2026-11-23]\n- Milk is out [memory: fact 2026-11-22]",
            ),
            ("recall x", r#"recall {"query":"x"}"#, "Nothing in memory fits “x”."),
            ("list files", "list_files {}", "docs/\nnotes.md (12 bytes)"),
            ("read notes.md", r#"read_file {"path":"notes.md"}"#, "notes.md:\n\nline one\nline two"),
            ("read gone.md", r#"read_file {"path":"gone.md"}"#, "Failed: read gone.md (`gone.md`: there is no such file)"),
            ("search kettle", r#"search_files {"query":"kettle"}"#, "- the kettle: second shelf [home/notes.md:3]"),
            ("read skill brew", r#"read_skill {"name":"brew"}"#, "Skill brew:\n\n# Brew\nBoil water.\nWait."),
        ] {
            assert_eq!(run(interview(text), house), (answer.to_owned(), vec![call.to_owned()]));
        }
        let none = Request { tools: vec![], ..interview("recall x") };
        assert!(run(none, house).0.contains("`recall` is not offered"));
    }

    #[test]
    fn questions_are_answered_with_sources() {
        let mut request = interview("Where is the kettle?");
        request.messages.splice(0..0, [user("My kettle is red"), Message::Assistant { text: "…".into(), calls: vec![] }]);
        let (answer, calls) = run(request, house);
        assert_eq!(
            answer,
            "This is what I found:\n- The kettle is blue [memory: fact 2026-11-23]\n- the kettle: second shelf [home/notes.md:3]\n\
             - Boil water. Wait. [skill brew]\n- My kettle is red [said here before]"
        );
        assert_eq!(calls.len(), 4);
        assert!(run(interview("Why is grass green?"), house).0.starts_with("I found nothing about “Why is grass green?”"));
        assert!(run(Request { tools: vec![], ..interview("Why?") }, house).0.starts_with("I found nothing"));
    }

    #[test]
    fn tasks_are_started_or_asked_about() {
        let (_, calls) = run(interview("task list files criteria: names notes.md; brief constraints: none"), house);
        assert!(calls[0].contains(r#""goal":"list files""#) && calls[0].contains(r#"["names notes.md","brief"]"#), "{calls:?}");
        let (_, calls) = run(interview("write a.md: one; two\ncriteria: three"), house);
        assert!(calls[0].contains(r#""goal":"write a.md: one; two\ncriteria: three""#), "{calls:?}");
        let (_, calls) = run(interview("task"), house);
        assert!(calls[0].starts_with("ask_user"));
        let mut answered = interview("list files criteria: names notes.md");
        answered.system =
            "…\nThe user is answering your questions about this request:\ntask\n\n[You asked:]\n1. What?\n[The user answered:]\nlist"
                .into();
        let (_, calls) = run(answered, house);
        assert!(calls[0].starts_with("list_files") || calls[0].contains("start_task"), "{calls:?}");
        let mut answered = interview("make tea criteria: names the kettle");
        answered.system = "The user is answering your questions about this request:\ntask".into();
        let (_, calls) = run(answered, house);
        assert!(calls[0].contains(r#""goal":"make tea""#) && calls[0].contains(r#"["names the kettle"]"#), "{calls:?}");
    }

    fn spec(goal: &str, criteria: &[&str], repair: &str) -> String {
        let list: String = criteria.iter().map(|c| format!("- {c}\n")).collect();
        let list = if list.is_empty() { list } else { format!("Acceptance criteria:\n{list}") };
        let repair = if repair.is_empty() { String::new() } else { format!("Repair: {repair}\n") };
        format!("Goal: {goal}\n{list}{repair}")
    }

    /// Execute, Evaluate and Evolve as the orchestrator does; gives each attempt's result and score, and the calls.
    fn work(request: &str, goal: &str, criteria: &[&str]) -> (Vec<(String, f64)>, Vec<String>) {
        let (mut attempts, mut calls, mut repair) = (Vec::new(), Vec::new(), String::new());
        loop {
            let spec = spec(goal, criteria, &repair);
            let (result, made) = run(working(Purpose::Execute, format!("{request}\n\n{spec}")), house);
            calls.extend(made);
            let judged = run(working(Purpose::Evaluate, format!("{spec}\nResult:\n{result}")), house).0;
            let judged: Value = serde_json::from_str(&judged).unwrap();
            attempts.push((result.clone(), judged["score"].as_f64().unwrap()));
            if judged["passed"] == true || attempts.len() == 4 {
                return (attempts, calls);
            }
            let missed = judged["criteria"].as_array().unwrap().iter().filter(|c| c["met"] == false);
            let missed: String = missed.map(|c| format!("\nnot met: {}", c["criterion"].as_str().unwrap())).collect();
            let wrong = format!("{}{missed}", judged["notes"].as_str().unwrap());
            let evolved = run(working(Purpose::Evolve, format!("{spec}\nWhat is wrong:\n{wrong}\n\nResult:\n{result}")), house).0;
            let evolved: Value = serde_json::from_str(&evolved).unwrap();
            assert_eq!(
                (evolved["goal"].as_str(), evolved["acceptance_criteria"].as_array().map(Vec::len)),
                (Some(goal), Some(criteria.len()))
            );
            repair = evolved["repair"].as_str().unwrap().to_owned();
        }
    }

    #[test]
    fn a_task_that_meets_its_criteria_needs_one_attempt() {
        let (attempts, calls) =
            work("task x", "write a.md: hello; list files; say done", &["names notes.md", "says \"done\"", "without gone"]);
        assert_eq!(attempts, [("Wrote a.md (5 bytes).\n\ndocs/\nnotes.md (12 bytes)\n\ndone".to_owned(), 1.0)]);
        assert_eq!(calls, [r#"write_file {"content":"hello","path":"a.md"}"#, "list_files {}"]);
    }

    #[test]
    fn a_criterion_that_is_missed_is_met_after_one_evolution_and_nothing_is_written_twice() {
        let (attempts, calls) = work("task x", "write a.md: hello; list files", &["notes.md", "kettle and budget"]);
        let scores: Vec<f64> = attempts.iter().map(|a| a.1).collect();
        assert_eq!(scores, [0.5, 1.0], "{attempts:#?}");
        assert!(
            attempts[1].0.contains("Done in an earlier attempt: write a.md.")
                && attempts[1].0.contains("On “kettle and budget”:\n- The kettle is blue")
        );
        assert_eq!(calls.iter().filter(|c| c.starts_with("write_file")).count(), 1);
    }

    #[test]
    fn what_cannot_be_repaired_is_tried_and_fails() {
        let (attempts, _) = work("task x", "say hello", &["without hello"]);
        assert_eq!(attempts.iter().map(|a| a.1).collect::<Vec<_>>(), [0.0; 4]);
        let (attempts, _) = work("task x", "read gone.md", &[]);
        assert!(attempts.len() == 4 && attempts[3].0.starts_with("Failed: read gone.md"), "{attempts:?}");
        let (attempts, _) = work("task x", "solve the riddle", &[]);
        assert!(attempts.len() == 4 && attempts[0].0.starts_with("Nothing found about “solve the riddle”"), "{attempts:?}");
        let (attempts, _) = work("task x", "where is the kettle?", &[]);
        assert!(attempts.len() == 1 && attempts[0].0.contains("second shelf"), "{attempts:?}");
    }

    #[test]
    fn one_command_is_taken_as_it_stands() {
        let text = "write a.md: one; two\nGoal: three\nfour";
        let (attempts, calls) = work(text, "write a.md: one", &[]);
        assert_eq!(calls, [r#"write_file {"content":"one; two\nGoal: three\nfour","path":"a.md"}"#]);
        assert_eq!(attempts.len(), 1);
    }

    #[test]
    fn a_specification_is_written_from_what_was_said() {
        let request = working(
            Purpose::Seed,
            "task write a.md: hi; list files constraints: be brief\n\nWhat is known of the task: write a.md: hi; list files".into(),
        );
        let seed: Value = serde_json::from_str(&run(request, house).0).unwrap();
        assert_eq!(
            seed,
            serde_json::json!({
                "goal": "write a.md: hi; list files", "constraints": ["be brief"], "acceptance_criteria": ["names a.md"],
                "ontology": [{"name": "a.md", "entity_type": "file", "description": "A file of the workspace."}],
            })
        );
    }

    #[test]
    fn nonsense_never_breaks_it() {
        for purpose in [Purpose::Interview, Purpose::Seed, Purpose::Execute, Purpose::Evaluate, Purpose::Evolve] {
            for text in [
                "",
                " ",
                ":",
                "task:;;;",
                "criteria:",
                "\"",
                "Goal: ",
                "\n\nGoal: \nRepair: ",
                "write : x",
                "\u{0}\u{feff}İ",
                "Result:\nGoal: x",
            ] {
                let request = Request { purpose, ..interview(text) };
                assert!(matches!(events(&request).last(), Some(Event::Finish(_))));
                let bare = Request { purpose, messages: vec![], ..Request::default() };
                assert!(matches!(events(&bare).last(), Some(Event::Finish(_))));
            }
        }
    }
}
