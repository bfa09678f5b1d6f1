//! Reading what tools say: lists of things with their sources, from JSON or from lines of text.

use serde_json::{Map, Value};

use crate::llm::offline::short;
use crate::wire::words;

/// Words of a question that are compared.
const QUERY_WORDS_MAX: usize = 32;
/// Longest citation, in characters.
const CITED_CHARS: usize = 300;

/// One thing a tool found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    /// What it says.
    pub(crate) text: String,
    /// Where it is from; may be empty.
    pub(crate) source: String,
}

impl Item {
    /// As a line of a list, with its source as the citation.
    pub(crate) fn cited(&self, kind: &str) -> String {
        let text = short(&self.text, CITED_CHARS);
        match (kind, self.source.as_str()) {
            ("", "") => format!("- {text}"),
            ("", source) => format!("- {text} [{source}]"),
            (kind, "") => format!("- {text} [{kind}]"),
            (kind, source) => format!("- {text} [{kind} {source}]"),
        }
    }
}

/// The data itself, without the line that marks it as data (`[recall returned this data]`).
pub(crate) fn unmarked(content: &str) -> &str {
    match content.split_once('\n') {
        Some((first, rest)) if first.starts_with('[') && first.ends_with("returned this data]") => rest,
        _ => content,
    }
}

/// The things in a result.
pub(crate) fn items(content: &str) -> Vec<Item> {
    let content = unmarked(content).trim();
    match serde_json::from_str::<Value>(content) {
        Ok(Value::Array(list)) => list.iter().filter_map(item).collect(),
        Ok(Value::Object(object)) => match object.values().find_map(Value::as_array) {
            Some(list) => list.iter().filter_map(item).collect(),
            None => item(&Value::Object(object)).into_iter().collect(),
        },
        _ => content.lines().filter_map(line).collect(),
    }
}

/// The text of a result that is one text.
pub(crate) fn text(content: &str) -> String {
    let content = unmarked(content);
    match serde_json::from_str::<Value>(content) {
        Ok(Value::Object(object)) => field(&object, &["content", "text"]).unwrap_or_else(|| content.to_owned()),
        Ok(Value::String(text)) => text,
        _ => content.to_owned(),
    }
}

/// The words of a text that carry meaning, in lower case.
pub(crate) fn meaning(text: &str) -> Vec<String> {
    words::query(text, QUERY_WORDS_MAX)
}

/// The text holds at least one of the words; with no words, anything does.
pub(crate) fn fits(text: &str, wanted: &[String]) -> bool {
    let mut fits = wanted.is_empty();
    words::each(text, |word| fits |= wanted.iter().any(|w| w == word));
    fits
}

fn item(value: &Value) -> Option<Item> {
    match value {
        Value::String(text) => Some(Item { text: text.clone(), source: String::new() }),
        Value::Object(object) => {
            let source = field(object, &["path", "name", "id"]).unwrap_or_default();
            let source = match object.get("line").and_then(Value::as_u64) {
                Some(line) => format!("{source}:{line}"),
                None => source,
            };
            let text = field(object, &["content", "text", "description", "snippet"]).filter(|t| !t.trim().is_empty());
            match text {
                Some(text) => Some(Item { text, source }),
                None => (!source.is_empty()).then_some(Item { text: source, source: String::new() }),
            }
        }
        _ => None,
    }
}

fn field(object: &Map<String, Value>, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| object.get(*name)?.as_str().map(str::to_owned))
}

/// `- text`, `source: text`, `path:3: text`, or a plain line; headings and "nothing" are no items.
fn line(line: &str) -> Option<Item> {
    let line = line.trim().trim_start_matches(['-', '*']).trim();
    let lower = line.to_lowercase();
    let nothing = ["no ", "nothing", "none", "(no", "there is no", "there are no"].iter().any(|w| lower.starts_with(w));
    // A whole line in brackets is a remark about the list, such as that there is more.
    if line.is_empty() || line.ends_with(':') || nothing || (line.starts_with('[') && line.ends_with(']')) {
        return None;
    }
    // `[source] text`
    if let Some((source, text)) = line.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        return Some(Item { text: text.trim().to_owned(), source: source.to_owned() });
    }
    match line.split_once(": ") {
        Some((source, text)) if is_source(source) && !text.trim().is_empty() => {
            Some(Item { text: text.trim().to_owned(), source: source.to_owned() })
        }
        _ => Some(Item { text: line.to_owned(), source: String::new() }),
    }
}

/// A name, or a path with a line number (which may have spaces).
fn is_source(text: &str) -> bool {
    let numbered = text.rsplit_once(':').is_some_and(|(_, n)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    !text.is_empty() && (numbered || !text.contains(char::is_whitespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cited(content: &str) -> Vec<String> {
        items(content).iter().map(|item| item.cited("")).collect()
    }

    #[test]
    fn results_of_many_shapes_are_read() {
        assert_eq!(
            cited(r#"{"count":1,"entries":[{"id":"ab","content":"The kettle\nis blue","tags":[]}]}"#),
            ["- The kettle is blue [ab]"]
        );
        assert_eq!(cited(r#"[{"path":"a.md","line":3,"text":"x"}]"#), ["- x [a.md:3]"]);
        assert_eq!(cited(r#"[{"name":"docs","is_dir":true}]"#), ["- docs"]);
        assert_eq!(cited("2 lines:\n- a.md:3: the kettle\nplain words here\n"), ["- the kettle [a.md:3]", "- plain words here"]);
        assert_eq!(cited("brew: Tea, properly."), ["- Tea, properly. [brew]"]);
        assert_eq!(
            cited("[recall returned this data]\n- [fact 2026-11-23] The kettle is blue"),
            ["- The kettle is blue [fact 2026-11-23]"]
        );
        assert_eq!(cited("my notes.md:3: the kettle: blue\n[there is more]"), ["- the kettle: blue [my notes.md:3]"]);
        for nothing in ["", "[]", "{\"entries\":[]}", "No memories fit.", "(nothing found)", "Nothing found."] {
            assert!(items(nothing).is_empty(), "{nothing}");
        }
        assert_eq!(text(r#"{"path":"a","content":"x"}"#), "x");
        assert_eq!(text("plain"), "plain");
    }

    #[test]
    fn only_what_fits_is_cited() {
        let wanted = meaning("Where is the blue kettle?");
        assert_eq!(wanted, ["blue", "kettle"]);
        assert!(fits("A Kettle!", &wanted) && !fits("the where is", &wanted));
    }
}
