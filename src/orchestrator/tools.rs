//! The tools: one table of name, schema, risk and handler. A handler gets arguments that fit its schema and answers with a text
//! for the model, also where something went wrong. Most of them block and run on a blocking thread; one that asks others waits.
//!
//! A risky tool changes something outside the conversation. It has a second function that says exactly what it would do;
//! a person decides on that, and the tool runs only while it is still true (THREATS 22).

use std::pin::Pin;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::base::digest::{Sha256, hex, sha256};
use crate::base::ids::OwnerId;
use crate::base::limits::{FILE_READ_BYTES_MAX, FILE_WRITE_BYTES_MAX, HITS_MAX, JSON_DEPTH_MAX, MEMORY_BYTES_MAX, TAG_BYTES_MAX, TAGS_MAX};
use crate::llm::request::ToolSpec;
use crate::orchestrator::group::SPLIT;
use crate::orchestrator::run::blocking;
use crate::orchestrator::schema;
use crate::rooms::memory::{Category, Memory, NewEntry};
use crate::rooms::skills::Skills;
use crate::rooms::workspace::{Workspace, WorkspaceError};
use crate::sys::disk::DiskFile;
use crate::sys::root::Item;
use crate::wire::json;

/// Text of the old file that is shown beside the new one, in bytes; a larger one is told by its digest.
const OLD_SHOWN_BYTES_MAX: usize = 16 * 1024;
/// A file larger than this is replaced by no tool, in bytes: no text is so large, and all of it is read, from a slow card for some
/// seconds, while a person waits for the question.
const REPLACED_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// It is read in parts of so many bytes.
const OLD_PART_BYTES: usize = 64 * 1024;
/// Entries of a directory that a model sees.
const LISTED_MAX: usize = 500;

/// What the model is told where what was approved is not true any more.
pub(crate) const CHANGED: &str =
    "what it acts on changed after it was shown; nothing was done. Look again, then ask again if it is still wanted";

/// What tools act on, for one owner.
#[derive(Clone)]
pub(crate) struct Reach {
    pub(crate) owner: OwnerId,
    pub(crate) workspace: Arc<Workspace>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) skills: Arc<Skills>,
}

/// What a handler says: to the model, in both cases.
pub(crate) type Said = Result<String, String>;
/// The same, on its way.
type Saying = Pin<Box<dyn Future<Output = Said> + Send>>;
type Args = Map<String, Value>;

/// How a tool does its work.
enum Handler {
    /// Files and the like: on a thread that may wait.
    Blocks(fn(&Reach, &Args) -> Said),
    /// It asks another server. May be dropped at any point.
    Waits(fn(Reach, Args) -> Saying),
    /// It is risky: what it would do, and how that is done while it is still true. Both block.
    Asks(fn(&Reach, &Args) -> Result<Shown, String>, fn(&Reach, &Args, &Shown) -> Said),
}

/// One row of the table.
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    description: &'static str,
    parameters: fn() -> Value,
    /// It acts on memory, which may be switched off.
    needs_memory: bool,
    run: Handler,
}

/// What a person is shown.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Shown {
    /// What it acts on, as a label.
    pub(crate) resource: String,
    /// Exactly what would happen.
    pub(crate) shown: Value,
    /// The file that would be replaced, as it was when it was looked at.
    pub(crate) over: Option<Item>,
}

impl Shown {
    /// SHA-256 of what is shown, in hexadecimal. Objects are maps sorted by name, so one content has one text.
    pub(crate) fn digest(&self) -> String {
        hex(&sha256(self.shown.to_string().as_bytes()))
    }
}

/// Every tool but the verdicts.
pub(crate) const TOOLS: &[Tool] = &[
    Tool {
        name: "list_files",
        description: "Lists the files of the workspace, or of one directory in it.",
        parameters: || object(json!({"dir": text(0, 4096)}), &[]),
        needs_memory: false,
        run: Handler::Blocks(list_files),
    },
    Tool {
        name: "read_file",
        description: "Reads a text file of the workspace.",
        parameters: || object(json!({"path": text(1, 4096)}), &["path"]),
        needs_memory: false,
        run: Handler::Blocks(read_file),
    },
    Tool {
        name: "search_files",
        description: "Finds lines in the files of the workspace; answers path:line: text. Cite them so.",
        parameters: || object(json!({"query": text(1, 1000), "limit": limit()}), &["query"]),
        needs_memory: false,
        run: Handler::Blocks(search_files),
    },
    Tool {
        name: "recall",
        description: "Finds what was remembered earlier.",
        parameters: || object(json!({"query": text(1, 1000), "limit": limit()}), &["query"]),
        needs_memory: true,
        run: Handler::Waits(|reach, args| Box::pin(recall(reach, args))),
    },
    Tool {
        name: "list_skills",
        description: "Lists the skills: texts that tell how something is done here.",
        parameters: || object(json!({}), &[]),
        needs_memory: false,
        run: Handler::Blocks(list_skills),
    },
    Tool {
        name: "read_skill",
        description: "Reads a skill by its name; name/path is a file beside it.",
        parameters: || object(json!({"name": text(1, 1024)}), &["name"]),
        needs_memory: false,
        run: Handler::Blocks(read_skill),
    },
    Tool {
        name: "remember",
        description: "Keeps something beyond this conversation, when the user asks for it.",
        parameters: || {
            let tags = json!({"type": "array", "maxItems": TAGS_MAX, "items": text(1, TAG_BYTES_MAX)});
            let kind = json!({"type": "string", "enum": Category::ALL.map(Category::memory_type)});
            object(json!({"content": text(1, MEMORY_BYTES_MAX), "memory_type": kind, "tags": tags}), &["content"])
        },
        needs_memory: true,
        run: Handler::Blocks(remember),
    },
    Tool {
        name: "write_file",
        description: "Writes a whole text file into the workspace, in place of one that is there. A person is asked first.",
        parameters: || object(json!({"path": text(1, 4096), "content": text(0, FILE_WRITE_BYTES_MAX)}), &["path", "content"]),
        needs_memory: false,
        run: Handler::Asks(show_write, write_file),
    },
];

/// There is a tool of this name (verdicts count).
pub(crate) fn known(name: &str) -> bool {
    matches!(name, "start_task" | "ask_user" | SPLIT) || find(name).is_some()
}

/// The tool of this name.
pub(crate) fn find(name: &str) -> Option<&'static Tool> {
    TOOLS.iter().find(|tool| tool.name == name)
}

/// The tools as they are offered; risky ones only within a task.
pub(crate) fn offered(within_task: bool, memory: bool) -> Vec<ToolSpec> {
    let offered = TOOLS.iter().filter(|tool| (within_task || !tool.is_risky()) && (memory || !tool.needs_memory));
    offered.map(|tool| ToolSpec { name: tool.name.into(), description: tool.description.into(), parameters: (tool.parameters)() }).collect()
}

impl Tool {
    /// A person is asked before it runs.
    pub(crate) fn is_risky(&self) -> bool {
        matches!(self.run, Handler::Asks(..))
    }

    /// It can be used where memory is on or off.
    pub(crate) fn usable(&self, memory: bool) -> bool {
        memory || !self.needs_memory
    }

    /// The arguments as the model wrote them, within the schema; the error is for the model.
    pub(crate) fn arguments(&self, written: &str) -> Result<Args, String> {
        let schema = (self.parameters)();
        let written = if written.trim().is_empty() { "{}" } else { written };
        let Ok(Value::Object(mut arguments)) = json::parse(written.as_bytes(), JSON_DEPTH_MAX) else {
            return Err("the arguments are no JSON object (were they cut off?); call the tool again with shorter ones".into());
        };
        schema::coerce(&schema, &mut arguments);
        let arguments = Value::Object(arguments);
        schema::check(&schema, &arguments).map_err(|problem| format!("the arguments do not fit: {problem}"))?;
        match arguments {
            Value::Object(arguments) => Ok(arguments),
            _ => Err("the arguments are no object".into()),
        }
    }

    /// Runs it. What blocks goes on when the caller stops waiting.
    pub(crate) async fn run(&self, reach: Reach, arguments: Args) -> Said {
        match self.run {
            Handler::Blocks(run) => blocking(move || run(&reach, &arguments)).await,
            Handler::Waits(run) => run(reach, arguments).await,
            Handler::Asks(..) => Err("a person is asked before this is done".into()),
        }
    }

    /// What it would do, where it is risky.
    pub(crate) async fn show(&self, reach: Reach, arguments: Args) -> Result<Shown, String> {
        match self.run {
            Handler::Asks(show, _) => blocking(move || show(&reach, &arguments)).await,
            Handler::Blocks(_) | Handler::Waits(_) => Err("this tool shows nothing".into()),
        }
    }

    /// Does what was shown. Goes on when the caller stops waiting.
    pub(crate) async fn carry_out(&self, reach: Reach, arguments: Args, shown: Shown) -> Said {
        match self.run {
            Handler::Asks(_, run) => blocking(move || run(&reach, &arguments, &shown)).await,
            Handler::Blocks(_) | Handler::Waits(_) => Err("this tool shows nothing".into()),
        }
    }
}

fn object(properties: Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required})
}

fn text(least: usize, most: usize) -> Value {
    json!({"type": "string", "minLength": least, "maxLength": most})
}

fn limit() -> Value {
    json!({"type": "integer", "minimum": 1, "maximum": HITS_MAX})
}

fn str_of<'a>(args: &'a Args, name: &str) -> &'a str {
    args.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn limit_of(args: &Args, default: usize) -> usize {
    args.get("limit").and_then(Value::as_f64).map_or(default, |n| n as usize)
}

fn list_files(reach: &Reach, args: &Args) -> Said {
    let dir = str_of(args, "dir");
    let (items, more) = reach.workspace.list(dir).map_err(|e| file_error(dir, &e))?;
    if items.is_empty() {
        return Ok("(no files)".into());
    }
    let mut lines: Vec<String> = items
        .iter()
        .take(LISTED_MAX)
        .map(|item| if item.is_dir { format!("{}/", item.name) } else { format!("{} ({} bytes)", item.name, item.size) })
        .collect();
    if more || items.len() > LISTED_MAX {
        lines.push("… and more".into());
    }
    Ok(lines.join("\n"))
}

fn read_file(reach: &Reach, args: &Args) -> Said {
    let path = str_of(args, "path");
    let (bytes, size) = reach.workspace.read(path, FILE_READ_BYTES_MAX).map_err(|e| file_error(path, &e))?;
    let whole = size == bytes.len() as u64;
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        // The cut may have gone through a character.
        Err(e) if !whole && e.utf8_error().error_len().is_none() => {
            let end = e.utf8_error().valid_up_to();
            let mut bytes = e.into_bytes();
            bytes.truncate(end);
            String::from_utf8(bytes).unwrap_or_default()
        }
        Err(_) => return Err(format!("`{path}` is no text ({size} bytes)")),
    };
    if whole {
        return Ok(text);
    }
    Ok(format!("{text}\n[the first {} of {size} bytes; search_files finds lines in the rest]", text.len()))
}

fn search_files(reach: &Reach, args: &Args) -> Said {
    let found = reach.workspace.search(str_of(args, "query"), limit_of(args, 8)).map_err(|e| file_error("", &e))?;
    let mut lines: Vec<String> = found.hits.iter().map(|hit| format!("{}:{}: {}", hit.path, hit.line, hit.text)).collect();
    if lines.is_empty() {
        lines.push("(nothing found)".into());
    }
    if found.cut {
        lines.push("[there are more files than one search looks through]".into());
    }
    Ok(lines.join("\n"))
}

async fn recall(reach: Reach, args: Args) -> Said {
    let most = reach.memory.settings().max_recall;
    let limit = limit_of(&args, most).min(most);
    let hits = reach.memory.recall(reach.owner, str_of(&args, "query"), limit).await.map_err(memory_error)?;
    if hits.is_empty() {
        return Ok("(nothing remembered about this)".into());
    }
    Ok(hits.iter().map(|hit| memory_line(&hit.entry.content, hit.entry.category, hit.entry.created_at)).collect::<Vec<_>>().join("\n"))
}

/// A memory as a model reads it.
pub(crate) fn memory_line(content: &str, category: Category, at: crate::base::time::Timestamp) -> String {
    let date: String = at.to_string().chars().take(10).collect();
    format!("- [{} {date}] {}", category.memory_type(), content.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn list_skills(reach: &Reach, _args: &Args) -> Said {
    let skills = reach.skills.eligible();
    if skills.is_empty() {
        return Ok("(no skills)".into());
    }
    Ok(skills.iter().map(|(name, description)| format!("{name}: {description}")).collect::<Vec<_>>().join("\n"))
}

fn read_skill(reach: &Reach, args: &Args) -> Said {
    let name = str_of(args, "name");
    reach.skills.read(name).map_err(|e| match e {
        crate::rooms::skills::SkillError::Io(_) => "the skill cannot be read".to_owned(),
        other => format!("`{name}`: {other}"),
    })
}

fn remember(reach: &Reach, args: &Args) -> Said {
    let category = args.get("memory_type").and_then(Value::as_str).and_then(Category::from_type).unwrap_or(Category::Facts);
    let tags = args.get("tags").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let new = NewEntry { category, content: str_of(args, "content").to_owned(), tags, importance: 0.5, pinned: false };
    reach.memory.add(reach.owner, new).map(|_| "remembered".to_owned()).map_err(memory_error)
}

/// Nobody gets in between the last look and the write: a change by somebody else is never written over unseen.
fn write_file(reach: &Reach, args: &Args, shown: &Shown) -> Said {
    let (path, content) = (str_of(args, "path"), str_of(args, "content"));
    let same = |there: Option<&Item>| there == shown.over.as_ref();
    match reach.workspace.write_if(path, content.as_bytes(), Some(&same)).map_err(|e| file_error(path, &e))? {
        true => Ok(format!("wrote {} bytes to {path}", content.len())),
        false => Err(CHANGED.into()),
    }
}

fn show_write(reach: &Reach, args: &Args) -> Result<Shown, String> {
    let (path, content) = (str_of(args, "path"), str_of(args, "content"));
    if path.chars().any(|c| c.is_control() || turns_text(c)) {
        return Err("a path may not hold control characters, or signs that turn text around".into());
    }
    if content.len() > FILE_WRITE_BYTES_MAX {
        return Err(format!("{} bytes are more than a file may have ({FILE_WRITE_BYTES_MAX})", content.len()));
    }
    let mut shown = json!({"path": path, "content": content, "size": content.len(), "exists": false});
    let over = match reach.workspace.open_file(path) {
        Ok(found) => Some(found),
        Err(WorkspaceError::NotFound) => None,
        Err(e) => return Err(file_error(path, &e)),
    };
    if let (Some((file, item)), Value::Object(shown)) = (&over, &mut shown) {
        if item.size > REPLACED_BYTES_MAX {
            return Err(format!("`{path}`: {} bytes are too many to be replaced by a tool ({REPLACED_BYTES_MAX})", item.size));
        }
        let old = Old::of(&**file, item.size).map_err(|e| file_error(path, &e.into()))?;
        shown.insert("exists".into(), true.into());
        shown.insert("old_size".into(), old.size.into());
        shown.insert("old_sha256".into(), hex(&old.sha256).into());
        if let (true, Ok(text)) = (old.size == old.start.len() as u64, std::str::from_utf8(&old.start)) {
            shown.insert("old_content".into(), text.into());
        }
    }
    Ok(Shown { resource: path.to_owned(), shown, over: over.map(|(_, item)| item) })
}

/// Embeddings, overrides and isolates (Unicode UAX #9): a person would read another path than is written to.
fn turns_text(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What is to be replaced.
struct Old {
    size: u64,
    /// Of all of it: a change anywhere in it is one.
    sha256: [u8; 32],
    /// What of it may be shown.
    start: Vec<u8>,
}

impl Old {
    /// Read a part at a time. One that grows meanwhile is not followed for ever.
    fn of(file: &dyn DiskFile, about: u64) -> std::io::Result<Self> {
        let (mut digest, mut start, mut size) = (Sha256::new(), Vec::new(), 0);
        let mut part = vec![0; OLD_PART_BYTES];
        while size <= about {
            let read = file.read_at(&mut part, size)?;
            let Some(read) = part.get(..read).filter(|read| !read.is_empty()) else { break };
            digest.update(read);
            let room = OLD_SHOWN_BYTES_MAX.saturating_sub(start.len()).min(read.len());
            start.extend(read.iter().take(room));
            size += read.len() as u64;
        }
        Ok(Self { size, sha256: digest.finish(), start })
    }
}

fn file_error(path: &str, e: &WorkspaceError) -> String {
    match e {
        // What the system says may name paths that are not the model's business.
        WorkspaceError::Io(_) => format!("`{path}`: the system refused"),
        other => format!("`{path}`: {other}"),
    }
}

fn memory_error(e: crate::rooms::memory::MemoryError) -> String {
    match e {
        crate::rooms::memory::MemoryError::Io(_) => "the memory cannot be reached".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::rooms::test_seams;

    pub(crate) fn reach(name: &str) -> Reach {
        let (dir, seams) = test_seams(name);
        Reach {
            owner: OwnerId::derived(&[1; 32]),
            workspace: Arc::new(Workspace::open(&dir.join("files"), seams.disk.clone(), seams.clock.clone()).unwrap()),
            memory: Arc::new(Memory::open(
                dir.join("memory"),
                seams.clone(),
                Arc::default(),
                crate::http::client::Client::new(Default::default()),
            )),
            skills: Arc::new(Skills::open(dir.join("skills"), seams.disk, Arc::default())),
        }
    }

    async fn call(reach: &Reach, name: &str, written: &str) -> Said {
        let tool = find(name).unwrap();
        let arguments = tool.arguments(written)?;
        if !tool.is_risky() {
            return tool.run(reach.clone(), arguments).await;
        }
        let shown = tool.show(reach.clone(), arguments.clone()).await?;
        tool.carry_out(reach.clone(), arguments, shown).await
    }

    #[tokio::test]
    async fn arguments_that_do_not_fit_are_told_and_never_run() {
        let reach = reach("tools-args");
        for (name, written, problem) in [
            ("read_file", "", "`path` is missing"),
            ("read_file", "{\"path\": \"a", "no JSON object"),
            ("read_file", "[]", "no JSON object"),
            ("read_file", "{\"path\": [1]}", "`path`: expected a text"),
            ("read_file", "{\"path\": \"../x\"}", "leads out"),
            ("read_file", "{\"path\": \"/etc/passwd\"}", "leads out"),
            ("search_files", "{\"query\": \"x\", \"limit\": 0}", "at least 1"),
            ("remember", "{\"content\": \"x\", \"memory_type\": \"dream\"}", "one of"),
            ("read_skill", "{\"name\": \"../secret\"}", "no such skill"),
        ] {
            let said = call(&reach, name, written).await.unwrap_err();
            assert!(said.contains(problem), "{name} {written}: {said}");
        }
        assert_eq!(call(&reach, "list_files", "").await.unwrap(), "(no files)");
        assert!(call(&reach, "list_skills", "{\"why\": 1}").await.unwrap().contains("workspace-notes: "));
    }

    #[tokio::test]
    async fn memory_and_files_work_through_the_table() {
        let reach = reach("tools-work");
        call(&reach, "remember", "{\"content\": \"the router is grey\", \"tags\": \"home\"}").await.unwrap();
        assert!(call(&reach, "recall", "{\"query\": \"router\"}").await.unwrap().ends_with("] the router is grey"));
        call(&reach, "write_file", "{\"path\": \"a/b.md\", \"content\": \"grey router\\n\"}").await.unwrap();
        assert_eq!(call(&reach, "list_files", "{\"dir\": \"a\"}").await.unwrap(), "b.md (12 bytes)");
        assert_eq!(call(&reach, "read_file", "{\"path\": \"a/b.md\"}").await.unwrap(), "grey router\n");
        assert_eq!(call(&reach, "search_files", "{\"query\": \"router\", \"limit\": \"3\"}").await.unwrap(), "a/b.md:1: grey router");
    }

    #[tokio::test]
    async fn a_risky_tool_runs_only_as_it_was_shown() {
        let reach = reach("tools-risky");
        let tool = find("write_file").unwrap();
        let args = tool.arguments("{\"path\": \"n.md\", \"content\": \"new\"}").unwrap();
        assert!(tool.run(reach.clone(), args.clone()).await.is_err());
        // Made, changed, removed after it was looked at.
        for (before, after) in [(None, Some("x")), (Some("x"), Some("xyz")), (Some("xyz"), None)] {
            assert_eq!(reach.workspace.read("n.md", 9).ok().map(|(bytes, _)| bytes), before.map(|text| text.as_bytes().to_vec()));
            let shown = tool.show(reach.clone(), args.clone()).await.unwrap();
            match after {
                Some(text) => reach.workspace.write("n.md", text.as_bytes()).unwrap(),
                None => reach.workspace.remove("n.md").unwrap(),
            }
            assert_eq!(tool.carry_out(reach.clone(), args.clone(), shown).await, Err(CHANGED.to_owned()));
        }
        assert!(reach.workspace.stat("n.md").unwrap().is_none());
    }

    #[tokio::test]
    async fn a_file_that_is_too_large_is_not_replaced() {
        let reach = reach("tools-large");
        let file = std::fs::File::create(reach.workspace.path().join("disk.img")).unwrap();
        file.set_len(REPLACED_BYTES_MAX + 1).unwrap();
        let said = call(&reach, "write_file", "{\"path\": \"disk.img\", \"content\": \"x\"}").await.unwrap_err();
        assert!(said.contains("too many to be replaced by a tool"), "{said}");
        assert_eq!(file.metadata().unwrap().len(), REPLACED_BYTES_MAX + 1);
    }

    #[test]
    fn what_is_shown_changes_with_the_file_and_the_text() {
        let reach = reach("tools-shown");
        let tool = find("write_file").unwrap();
        let show = |content: &str| {
            let args = tool.arguments(&json!({"path": "n.md", "content": content}).to_string()).unwrap();
            show_write(&reach, &args).unwrap()
        };
        let fresh = show("one");
        assert_eq!(fresh.shown, json!({"path": "n.md", "content": "one", "size": 3, "exists": false}));
        assert_eq!(fresh.digest(), show("one").digest());
        assert_ne!(fresh.digest(), show("two").digest());
        reach.workspace.write("n.md", b"old").unwrap();
        let over = show("one");
        assert_ne!(fresh.digest(), over.digest());
        assert_eq!(over.shown["old_content"], "old");
        reach.workspace.write("n.md", b"odd").unwrap();
        assert_ne!(over.digest(), show("one").digest());
        for path in ["../x", "a\nb", "\u{202e}fdp.exe", "\u{2066}x"] {
            let args = tool.arguments(&json!({"path": path, "content": ""}).to_string()).unwrap();
            assert!(show_write(&reach, &args).is_err(), "{path:?}");
        }
        // However large it is, and wherever it changed.
        let mut large = vec![b'x'; FILE_WRITE_BYTES_MAX + OLD_PART_BYTES];
        let put = |bytes: &[u8]| std::fs::write(reach.workspace.path().join("n.md"), bytes).unwrap();
        put(&large);
        let over = show("one");
        assert_eq!(over.shown["old_size"], large.len());
        assert_eq!(over.shown["old_sha256"], hex(&sha256(&large)));
        assert!(over.shown.get("old_content").is_none());
        *large.last_mut().unwrap() = b'y';
        put(&large);
        assert_ne!(over.digest(), show("one").digest());
    }

    #[test]
    fn only_write_file_is_risky_and_only_offered_within_a_task() {
        let risky: Vec<_> = TOOLS.iter().filter(|t| t.is_risky()).map(|t| t.name).collect();
        assert_eq!(risky, ["write_file"]);
        assert!(!offered(false, true).iter().any(|t| t.name == "write_file"));
        assert!(offered(true, true).iter().any(|t| t.name == "write_file"));
        assert!(!offered(true, false).iter().any(|t| t.name == "recall" || t.name == "remember"));
    }
}
