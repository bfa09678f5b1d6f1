//! From front matter to fields, for all four formats.

use serde_json::Value;

use super::skill::{Format, Install, Requirements};
use crate::wire::{front_matter, yaml};

/// What a SKILL.md says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) name: Option<String>,
    pub(super) description: String,
    pub(super) author: Option<String>,
    pub(super) version: Option<String>,
    pub(super) emoji: Option<String>,
    pub(super) homepage: Option<String>,
    pub(super) always: bool,
    pub(super) user_invocable: bool,
    pub(super) requirements: Requirements,
    pub(super) os: Vec<String>,
    pub(super) install: Vec<Install>,
    pub(super) format: Format,
    pub(super) problem: Option<String>,
}

const CLAUDE_CODE: [&str; 7] = ["allowed-tools", "arguments", "when_to_use", "argument-hint", "effort", "hooks", "paths"];
const OXIOS: [&str; 4] = ["requires", "install", "primaryEnv", "skillKey"];

/// Reads the front matter of a whole SKILL.md. Never fails: what cannot be read is told in `problem`. `from_hub`: the skill has a
/// `.clawhub/origin.json`.
pub(super) fn read(text: &str, from_hub: bool) -> Manifest {
    let (front, _) = front_matter::split(text);
    let (front, mut problem) = match front.map(|front| (front, yaml::parse(front))) {
        None => (Value::Null, Some("it has no front matter (`---` lines with name and description)".to_owned())),
        Some((_, Ok(value @ Value::Object(_)))) => (value, None),
        Some((_, Ok(_))) => (Value::Null, Some("the front matter is no list of `key: value`".to_owned())),
        // Public skills often have a colon in an unquoted description: name and description are still told.
        Some((lines, Err(e))) => {
            let told = ["name", "description"].iter().filter_map(|key| Some(((*key).to_owned(), front_matter::scalar(lines, key)?.into())));
            (Value::Object(told.collect()), Some(e.to_string()))
        }
    };
    let hub = ["openclaw", "clawdbot", "clawdis"].iter().find_map(|key| front.get("metadata")?.get(key));
    let has = |keys: &[&str]| keys.iter().any(|key| front.get(key).is_some());
    let format = match () {
        () if hub.is_some() || from_hub => Format::Openclaw,
        () if has(&CLAUDE_CODE) => Format::ClaudeCode,
        () if has(&OXIOS) => Format::Oxios,
        () => Format::AgentSkills,
    };
    // OpenClaw keeps its fields in its own object; what is not there may stand at the top.
    let field = |key: &str| hub.and_then(|hub| hub.get(key)).or_else(|| front.get(key)).or_else(|| front.get("metadata")?.get(key));
    let words = |key: &str| field(key).and_then(Value::as_str).map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned);
    let requires = field("requires");
    let needs = |key: &str| requires.and_then(|r| r.get(key)).map(texts).unwrap_or_default();
    let mut env = needs("env");
    env.extend(words("primaryEnv").filter(|name| !env.contains(name)));
    let mut description = words("description").unwrap_or_default();
    if let (Format::ClaudeCode, Some(when)) = (format, words("when_to_use")) {
        description = format!("{description} {when}").trim().to_owned();
    }
    if description.is_empty() {
        problem.get_or_insert_with(|| "it has no description".to_owned());
    }
    Manifest {
        name: words("name"),
        description,
        author: words("author"),
        version: words("version"),
        emoji: words("emoji"),
        homepage: words("homepage"),
        always: field("always").is_some_and(is_true),
        user_invocable: field("user-invocable").or_else(|| field("user_invocable")).is_none_or(is_true),
        requirements: Requirements { bins: needs("bins"), any_bins: needs("anyBins"), env, config: needs("config") },
        os: field("os").map(texts).unwrap_or_default(),
        install: field("install").and_then(Value::as_array).into_iter().flatten().map(install).collect(),
        format,
        problem,
    }
}

/// The text of a SKILL.md with this name, description and content.
///
/// # Errors
/// The content begins with front matter of its own that cannot be read, or that names another skill; why, in public words.
pub(super) fn file(name: &str, description: &str, content: &str) -> Result<String, String> {
    let (front, body) = front_matter::split(content);
    // JSON's texts are YAML's double-quoted ones.
    let description = Value::from(description);
    match front.map(|front| (front, yaml::parse(front))) {
        Some((front, Ok(Value::Object(fields)))) => {
            if fields.get("name").is_some_and(|own| own.as_str() != Some(name)) {
                return Err("`content` begins with front matter whose name is not `name`".to_owned());
            }
            let mut lines = String::new();
            if !fields.contains_key("name") {
                lines = format!("name: {name}\n");
            }
            if !fields.contains_key("description") {
                lines = format!("{lines}description: {description}\n");
            }
            // As it is, to the byte, where nothing has to be said for it.
            let text = if lines.is_empty() { content.to_owned() } else { format!("---\n{lines}{front}---\n{body}") };
            // An empty description is none, and lines in front of another style do not go with it.
            match read(&text, false) {
                Manifest { problem: None, name: Some(own), .. } if own == name => Ok(text),
                _ => Err("`content` begins with front matter that lacks name or description; write them into it".to_owned()),
            }
        }
        Some((_, Err(e))) => Err(format!("`content` begins with front matter that cannot be read: {e}")),
        // A line of dashes and some text: a rule, as Markdown has them.
        Some((_, Ok(_))) | None => Ok(format!("---\nname: {name}\ndescription: {description}\n---\n\n{content}")),
    }
}

fn is_true(value: &Value) -> bool {
    matches!(value.as_str(), Some("true" | "True" | "TRUE"))
}

/// A list of texts; one text alone is a list of it.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(one) => vec![one.clone()],
        Value::Array(many) => many.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

fn install(value: &Value) -> Install {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let bins = value.get("bins").map(texts).unwrap_or_default();
    Install { kind: text("kind"), label: text("label"), bins }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_formats_are_told_apart_in_order() {
        let of = |front: &str| read(&format!("---\nname: a\ndescription: b\n{front}---\nbody"), false).format;
        assert_eq!(of("requires: {bins: [x]}\nallowed-tools: Read\nmetadata: {clawdbot: {}}\n"), Format::Openclaw);
        assert_eq!(of("requires: {bins: [x]}\nargument-hint: x\n"), Format::ClaudeCode);
        assert_eq!(of("primaryEnv: KEY\n"), Format::Oxios);
        assert_eq!(of(""), Format::AgentSkills);
        assert_eq!(read("---\nname: a\ndescription: b\n---\n", true).format, Format::Openclaw);
    }

    #[test]
    fn a_written_file_reads_back_as_it_was_meant() {
        for content in ["body", "", "---\n\nA rule first\n---\nmore", "---\nversion: 3\n---\nbody", "---\nname: a\n---\n", "---\nopen"] {
            let text = file("a", "de: \"scr\"", content).unwrap();
            let read = read(&text, false);
            assert_eq!((read.name.as_deref(), read.description.as_str(), read.problem), (Some("a"), "de: \"scr\"", None), "{text}");
            let said = content.strip_prefix("---\nversion: 3\n---\n").or(content.strip_prefix("---\nname: a\n---\n")).unwrap_or(content);
            assert!(front_matter::split(&text).1.ends_with(said), "{text}");
        }
        let whole = "---\nname: a\ndescription: own\nversion: 2\n---\nbody";
        assert_eq!(file("a", "other", whole).as_deref(), Ok(whole));
        assert_eq!(read(&file("a", "d", "---\r\nversion: 3\r\n---\r\nbody").unwrap(), false).version.as_deref(), Some("3"));
        for bad in ["---\n{version: 3, requires: {bins: [x]}}\n---\nbody", "---\n  version: 3\n---\nbody", "---\ndescription:\n---\nbody"] {
            assert!(file("a", "d", bad).unwrap_err().contains("write them into it"), "{bad}");
        }
        for bad in ["---\nname: evil\n---\nbody", "---\nname: [a]\n---\n", "---\na: b: c\n---\nbody", "---\n- x\n y: [\n---\n"] {
            assert!(file("a", "d", bad).unwrap_err().contains("front matter"), "{bad}");
        }
    }

    #[test]
    fn fields_come_from_where_the_format_keeps_them() {
        let text = "---\nname: gh\ndescription: GitHub\nmetadata: {\"openclaw\": {\"emoji\": \"x\", \"always\": true, \"os\": [\"linux\"], \"requires\": {\"anyBins\": [\"gh\"], \"env\": [\"T\"]}, \"install\": [{\"kind\": \"brew\", \"label\": \"l\", \"bins\": [\"gh\"]}]}}\n---\n";
        let m = read(text, false);
        assert_eq!((m.emoji.as_deref(), m.always, m.os.len()), (Some("x"), true, 1));
        assert_eq!((m.requirements.any_bins, m.requirements.env), (vec!["gh".to_owned()], vec!["T".to_owned()]));
        assert_eq!(m.install[0].kind, "brew");
        assert_eq!(m.problem, None);
    }

    #[test]
    fn a_broken_one_is_told_with_what_can_be_read() {
        let m = read("---\nname: a\ndescription: use when: it breaks\nx: \"\n---\nbody", false);
        assert_eq!(m.description, "use when: it breaks");
        assert!(m.problem.is_some());
        assert!(read("no front", false).problem.is_some());
    }
}
