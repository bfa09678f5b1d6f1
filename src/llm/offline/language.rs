//! The small language of the offline model: a text is read as one command.

/// What a text asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// The list of commands.
    Help,
    /// Say this.
    Echo(String),
    /// Say the numbers up to this one.
    Count(u64),
    /// Keep this.
    Remember(String),
    /// Look this up in memory.
    Recall(String),
    /// What is in this directory.
    ListFiles(String),
    /// Show this file.
    Read(String),
    /// Write a file.
    Write {
        /// Where.
        path: String,
        /// What.
        text: String,
    },
    /// Look for this in the files.
    Search(String),
    /// What skills there are.
    ListSkills,
    /// Show this skill.
    ReadSkill(String),
    /// A task.
    Task(Task),
    /// A question about something else than the model.
    Question(String),
    /// What was said before.
    Earlier,
    /// Who are you?
    Who,
    /// A greeting.
    Hello,
    /// Thanks.
    Thanks,
    /// None of these.
    Talk(String),
}

/// A task as it is said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Task {
    /// What is to be done; empty: not said.
    pub(crate) goal: String,
    /// How one knows that it is done.
    pub(crate) criteria: Vec<String>,
    /// What must be kept to.
    pub(crate) constraints: Vec<String>,
}

/// Words that begin a question, in English; any text that ends with a question mark is one too.
const ASKING: &[&str] = &["who", "what", "when", "where", "why", "how", "which", "whose", "is", "are", "does", "do", "can", "was", "were"];

/// Reads a text. Every text is something.
pub(crate) fn parse(text: &str) -> Command {
    let text = text.trim();
    let text = strip(text, &["please"]).unwrap_or(text);
    let bare = text.trim_end_matches(['.', '!']).trim_end();
    let lower = bare.to_lowercase();
    match lower.as_str() {
        "help" | "?" | "help?" | "/help" => return Command::Help,
        "task" | "task:" => return Command::Task(Task::default()),
        "list skills" | "skills" => return Command::ListSkills,
        "list files" | "files" | "ls" | "list" => return Command::ListFiles(String::new()),
        _ => {}
    }
    if let Some(rest) = strip(text, &["echo", "say"]) {
        return Command::Echo(rest.to_owned());
    }
    if let Some(n) = strip(bare, &["count to"]).and_then(|rest| rest.parse().ok()) {
        return Command::Count(n);
    }
    if let Some(rest) = strip(text, &["task"]) {
        return Command::Task(task(rest.trim_start_matches(':')));
    }
    if let Some((path, text)) = strip(text, &["write"]).and_then(written) {
        return Command::Write { path, text };
    }
    let asks = text.ends_with('?');
    if let Some(rest) = strip(text, &["remember that", "remember"]).filter(|_| !asks) {
        return Command::Remember(rest.trim_start_matches(':').trim_start().to_owned());
    }
    if let Some(rest) = strip(text, &["recall"]) {
        return Command::Recall(rest.to_owned());
    }
    if let Some(rest) = strip(bare, &["list files in", "list files", "ls", "list"]).and_then(path) {
        return Command::ListFiles(rest);
    }
    if let Some(name) = strip(bare, &["read skill"]) {
        return Command::ReadSkill(name.to_owned());
    }
    if let Some(path) = strip(text, &["read"]).and_then(path) {
        return Command::Read(path);
    }
    if let Some(rest) = strip(text, &["search for", "search"]) {
        return Command::Search(rest.to_owned());
    }
    about_itself(lower.trim_end_matches('?').trim_end()).unwrap_or_else(|| {
        let first = lower.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        if asks || (ASKING.contains(&first) && lower.contains(' ')) {
            Command::Question(text.to_owned())
        } else {
            Command::Talk(text.to_owned())
        }
    })
}

fn about_itself(lower: &str) -> Option<Command> {
    let said = |any: &[&str]| any.contains(&lower);
    let begins =
        |any: &[&str]| any.iter().any(|word| lower == *word || lower.strip_prefix(word).is_some_and(|r| r.starts_with([' ', ','])));
    if said(&["who are you", "what are you", "are you there", "what is this", "are you an ai", "what model are you"]) {
        return Some(Command::Who);
    }
    if said(&["what can you do", "what can i say", "how do you work", "how does this work"]) {
        return Some(Command::Help);
    }
    if said(&["what did i say", "what did i just say", "what did i say before", "what was my last message", "what did i say last"]) {
        return Some(Command::Earlier);
    }
    if begins(&["thanks", "thank you", "thank"]) && lower.len() < 40 {
        return Some(Command::Thanks);
    }
    if begins(&["hello", "hi", "hey", "good morning", "good evening", "hallo", "moin", "ping"]) && lower.len() < 40 {
        return Some(Command::Hello);
    }
    None
}

/// A task's goal, criteria and constraints; lists are apart by `;`.
pub(crate) fn task(text: &str) -> Task {
    let mut task = Task::default();
    let lower = text.to_ascii_lowercase();
    let mut marks: Vec<(usize, &str)> =
        ["criteria:", "constraints:"].into_iter().filter_map(|mark| Some((lower.find(mark)?, mark))).collect();
    marks.sort_unstable();
    let end = marks.first().map_or(text.len(), |(at, _)| *at);
    task.goal = text.get(..end).unwrap_or_default().trim().trim_end_matches([',', ';']).to_owned();
    for (n, (at, mark)) in marks.iter().enumerate() {
        let until = marks.get(n + 1).map_or(text.len(), |(at, _)| *at);
        let list = text.get(at + mark.len()..until).unwrap_or_default();
        let list = list.split([';', '\n']).map(|item| item.trim().trim_end_matches([',', '.']).to_owned()).filter(|item| !item.is_empty());
        match *mark {
            "criteria:" => task.criteria.extend(list),
            _ => task.constraints.extend(list),
        }
    }
    task
}

/// What stands before the steps of a goal that do not depend on one another.
const TOGETHER: &str = "in parallel:";

/// The steps of a goal.
pub(crate) fn steps(goal: &str) -> Vec<Command> {
    texts(goal).map(parse).collect()
}

/// The steps of a goal as they are said, where they do not depend on one another.
pub(crate) fn together(goal: &str) -> Option<Vec<&str>> {
    begins(goal, TOGETHER).map(|_| texts(goal).collect())
}

fn texts(goal: &str) -> impl Iterator<Item = &str> {
    begins(goal, TOGETHER).unwrap_or(goal).split([';', '\n']).map(str::trim).filter(|step| !step.is_empty())
}

/// What follows these words, in any case of letters.
fn begins<'a>(text: &'a str, words: &str) -> Option<&'a str> {
    let (head, rest) = text.trim_start().split_at_checked(words.len())?;
    head.eq_ignore_ascii_case(words).then_some(rest)
}

/// What follows one of these words, if the text begins with it and there is something behind it.
fn strip<'a>(text: &'a str, words: &[&str]) -> Option<&'a str> {
    words.iter().find_map(|word| {
        let (head, rest) = text.split_at_checked(word.len())?;
        let apart = rest.starts_with(|c: char| c.is_whitespace() || c == ':');
        let rest = rest.trim_start();
        (head.eq_ignore_ascii_case(word) && apart && !rest.is_empty() && rest != ":").then_some(rest)
    })
}

/// `<path>: <text>`
fn written(rest: &str) -> Option<(String, String)> {
    let (head, text) = rest.split_once(':')?;
    let text = text.strip_prefix(' ').unwrap_or(text);
    Some((path(head)?, text.to_owned())).filter(|(_, text)| !text.is_empty())
}

/// A path: one word, or anything in quotes.
fn path(text: &str) -> Option<String> {
    let text = text.trim();
    let quoted = ['"', '`', '\''].into_iter().find_map(|q| text.strip_prefix(q)?.strip_suffix(q));
    match quoted {
        Some(inner) if !inner.is_empty() => Some(inner.to_owned()),
        _ => (!text.is_empty() && !text.contains(char::is_whitespace) && !text.ends_with('?')).then(|| text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, command: Command) {
        assert_eq!(parse(text), command, "{text}");
    }
    fn s(text: &str) -> String {
        text.to_owned()
    }

    #[test]
    fn what_is_said_is_read() {
        check(" Help! ", Command::Help);
        check("What can you do?", Command::Help);
        check("echo  a: b?", Command::Echo(s("a: b?")));
        check("count to 500", Command::Count(500));
        check("remember that the kettle is blue", Command::Remember(s("the kettle is blue")));
        check("Remember: milk", Command::Remember(s("milk")));
        check("Do you remember the kettle?", Command::Question(s("Do you remember the kettle?")));
        check("recall kettle", Command::Recall(s("kettle")));
        check("list files", Command::ListFiles(s("")));
        check("list files in docs/a.", Command::ListFiles(s("docs/a")));
        check("please read notes.md", Command::Read(s("notes.md")));
        check("read \"my notes.md\"", Command::Read(s("my notes.md")));
        check("read me a story", Command::Talk(s("read me a story")));
        check("write notes/a.md: one: two; three\nfour", Command::Write { path: s("notes/a.md"), text: s("one: two; three\nfour") });
        check("Write me a poem: about rain", Command::Talk(s("Write me a poem: about rain")));
        check("search for blue kettle", Command::Search(s("blue kettle")));
        check("read skill brew", Command::ReadSkill(s("brew")));
        check("Where is the kettle", Command::Question(s("Where is the kettle")));
        check("Is it blue?", Command::Question(s("Is it blue?")));
        check("¿Dónde está?", Command::Question(s("¿Dónde está?")));
        check("Hi there!", Command::Hello);
        check("thank you", Command::Thanks);
        check("What did I say?", Command::Earlier);
        check("Who are you?", Command::Who);
        check("The sky is blue.", Command::Talk(s("The sky is blue.")));
        check("İx", Command::Talk(s("İx")));
        for empty in ["", "write", "write a:", "read", "remember", "recall ", "echo", "count to many"] {
            assert!(matches!(parse(empty), Command::Talk(_)), "{empty}");
        }
    }

    #[test]
    fn tasks_have_criteria_and_steps() {
        check("task", Command::Task(Task::default()));
        let Command::Task(task) = parse("Task: write a.md: hi; list files Criteria: names a.md; says hi. constraints: be brief") else {
            panic!()
        };
        assert_eq!(task.goal, "write a.md: hi; list files");
        assert_eq!((task.criteria, task.constraints), (vec![s("names a.md"), s("says hi")], vec![s("be brief")]));
        assert_eq!(together("list files; say hi"), None);
        assert_eq!(together("In parallel: list files; say hi"), Some(vec!["list files", "say hi"]));
        assert_eq!(steps("in parallel: list files; say hi"), [Command::ListFiles(s("")), Command::Echo(s("hi"))]);
        assert_eq!(steps(&task.goal), [Command::Write { path: s("a.md"), text: s("hi") }, Command::ListFiles(s(""))]);
    }
}
