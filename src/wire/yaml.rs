//! YAML of strangers, as far as front matter needs it: one document of maps, lists and texts.
//!
//! `saphyr-parser` gives events without recursion; what is built from them is capped here in bytes, nodes and depth. Aliases are
//! refused, so nothing grows by reference. Every scalar stays the text it was (`1.10` is a version, not a number); an empty or
//! plain `null`/`~` one is null.

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

use crate::base::limits::{FRONT_MATTER_BYTES_MAX, FRONT_MATTER_DEPTH_MAX, FRONT_MATTER_NODES_MAX};

/// Why a text is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadYaml {
    /// It is no YAML; the line, from 1.
    Malformed {
        /// Where the parser gave up.
        line: usize,
    },
    /// More bytes, nodes or levels than the caps allow.
    TooLarge,
    /// An alias (`*name`), a key that is no text, or a second document.
    Unsupported,
}

impl std::fmt::Display for BadYaml {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Malformed { line } => write!(f, "the front matter is not YAML (line {line})"),
            Self::TooLarge => f.write_str("the front matter is too large or nested too deep"),
            Self::Unsupported => f.write_str("the front matter uses aliases, keys that are no text, or several documents"),
        }
    }
}

/// One document; an empty text is null. A key that comes twice keeps its first value.
///
/// # Errors
/// See [`BadYaml`].
pub fn parse(text: &str) -> Result<Value, BadYaml> {
    if text.len() > FRONT_MATTER_BYTES_MAX {
        return Err(BadYaml::TooLarge);
    }
    // Containers that are still open, the outermost first; a map with the key that waits for its value.
    let mut open: Vec<Open> = Vec::new();
    let mut root = None;
    let mut nodes = 0_usize;
    for event in Parser::new_from_str(text) {
        let (event, _) = event.map_err(|e| BadYaml::Malformed { line: e.marker().line() })?;
        let done = match event {
            Event::Scalar(text, style, ..) => {
                let null = style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                if null { Value::Null } else { Value::String(text.into_owned()) }
            }
            Event::SequenceStart(..) | Event::MappingStart(..) if open.len() >= FRONT_MATTER_DEPTH_MAX => return Err(BadYaml::TooLarge),
            Event::SequenceStart(..) => {
                open.push(Open::List(Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(Map::new(), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(items)) => Value::Array(items),
                Some(Open::Map(fields, _)) => Value::Object(fields),
                None => return Err(BadYaml::Unsupported),
            },
            Event::Alias(_) => return Err(BadYaml::Unsupported),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => continue,
            #[allow(unreachable_patterns, reason = "further events of a later version of the parser carry no data")]
            _ => continue,
        };
        nodes += 1;
        if nodes > FRONT_MATTER_NODES_MAX {
            return Err(BadYaml::TooLarge);
        }
        match open.last_mut() {
            None if root.is_some() => return Err(BadYaml::Unsupported),
            None => root = Some(done),
            Some(Open::List(items)) => items.push(done),
            Some(Open::Map(fields, key)) => match (key.take(), done) {
                (Some(key), value) => {
                    fields.entry(key).or_insert(value);
                }
                (None, Value::String(text)) => *key = Some(text),
                (None, _) => return Err(BadYaml::Unsupported),
            },
        }
    }
    Ok(root.unwrap_or(Value::Null))
}

enum Open {
    List(Vec<Value>),
    Map(Map<String, Value>, Option<String>),
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_front_matter_uses_is_read() {
        let text =
            "name: a\nversion: 1.10\nos: [linux, macos]\nempty:\nblock: |\n  two\n  lines\nmetadata: {\"openclaw\": {\"always\": true}}\n";
        let expected = json!({"name": "a", "version": "1.10", "os": ["linux", "macos"], "empty": null, "block": "two\nlines\n",
            "metadata": {"openclaw": {"always": "true"}}});
        assert_eq!(parse(text), Ok(expected));
        assert_eq!(parse(""), Ok(Value::Null));
        assert_eq!(parse("a: 1\na: 2"), Ok(json!({"a": "1"})));
    }

    #[test]
    fn bombs_are_refused() {
        assert_eq!(parse("a: &a [x]\nb: [*a, *a]\n"), Err(BadYaml::Unsupported));
        assert!(parse(&"[".repeat(5000)).is_err());
        assert_eq!(parse(&format!("[{}]", "a,".repeat(FRONT_MATTER_NODES_MAX + 1))), Err(BadYaml::TooLarge));
        assert_eq!(parse(&"a".repeat(FRONT_MATTER_BYTES_MAX + 1)), Err(BadYaml::TooLarge));
        assert_eq!(parse("a: 1\n---\nb: 2\n"), Err(BadYaml::Unsupported));
        assert!(matches!(parse("a: \"unclosed"), Err(BadYaml::Malformed { .. })));
        assert_eq!(parse("? [a]\n: b"), Err(BadYaml::Unsupported));
    }
}
