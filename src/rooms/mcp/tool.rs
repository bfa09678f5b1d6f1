//! What a server says of its tools and their results, made safe for a model.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Offered;
use crate::base::limits::{MCP_DESCRIPTION_BYTES_MAX, MCP_SCHEMA_BYTES_MAX, MCP_TOOLS_MAX};
use crate::base::text::beginning;

/// Longest name that providers take for a tool.
const NAME_BYTES_MAX: usize = 64;
/// Longest name that a server may have for a tool, in bytes: twice what the protocol advises.
const THEIR_NAME_BYTES_MAX: usize = 256;

/// Adds the tools of one page to `tools`: those whose form is understood, up to the limit.
pub(super) fn read(server: &str, trust: bool, page: &Value, tools: &mut Vec<Offered>) {
    let mut taken: BTreeSet<String> = tools.iter().map(|tool| tool.name.clone()).collect();
    for tool in page.get("tools").and_then(Value::as_array).into_iter().flatten() {
        if tools.len() >= MCP_TOOLS_MAX {
            return;
        }
        let Some(theirs) = tool.get("name").and_then(Value::as_str).filter(|name| may_be_shown(name)) else { continue };
        let parameters = match tool.get("inputSchema") {
            Some(schema @ Value::Object(_)) => schema.clone(),
            _ => json!({"type": "object"}),
        };
        if parameters.to_string().len() > MCP_SCHEMA_BYTES_MAX {
            continue;
        }
        let description = tool.get("description").and_then(Value::as_str).unwrap_or_default();
        let hint = tool.get("annotations").and_then(|hints| hints.get("readOnlyHint")).and_then(Value::as_bool);
        let Some(name) = name(server, theirs, &taken) else { continue };
        taken.insert(name.clone());
        let description = beginning(description, MCP_DESCRIPTION_BYTES_MAX).to_owned();
        tools.push(Offered { name, theirs: theirs.to_owned(), description, parameters, risky: !(trust && hint == Some(true)) });
    }
}

/// SECURITY: a person decides on a tool by its server's name for it. What is not seen there, or turns the order of what is (U+202E), would
/// let one tool pass for another: letters and digits of any script and what is seen of ASCII.
fn may_be_shown(name: &str) -> bool {
    let seen = |c: char| c.is_alphanumeric() || c.is_ascii_graphic() || c == ' ';
    !name.is_empty() && name.len() <= THEIR_NAME_BYTES_MAX && name.chars().all(seen)
}

/// A result as the model reads it; the error is one that the tool reported.
pub(super) fn result(result: &Value) -> Result<String, String> {
    let mut parts: Vec<String> = result.get("content").and_then(Value::as_array).into_iter().flatten().map(part).collect();
    if let (true, Some(structured)) = (parts.is_empty(), result.get("structuredContent")) {
        parts.push(structured.to_string());
    }
    let text = if parts.is_empty() { "(no result)".to_owned() } else { parts.join("\n") };
    if result.get("isError").and_then(Value::as_bool) == Some(true) { Err(text) } else { Ok(text) }
}

fn part(part: &Value) -> String {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    match part.get("type").and_then(Value::as_str) {
        Some("text") => text(part.get("text")).unwrap_or_default(),
        Some("resource") => {
            let inside = part.get("resource").and_then(|resource| text(resource.get("text")));
            inside.unwrap_or_else(|| "[resource left out]".into())
        }
        Some("resource_link") => format!("[resource: {}]", text(part.get("uri")).unwrap_or_default()),
        Some(kind @ ("image" | "audio")) => {
            let size = part.get("data").and_then(Value::as_str).map_or(0, |data| data.len() / 4 * 3);
            format!("[{kind}, {} kB left out]", size.div_ceil(1000))
        }
        _ => "[something left out]".into(),
    }
}

/// `server__tool` in letters that every provider takes; where that is taken, with a number behind it.
fn name(server: &str, tool: &str, taken: &BTreeSet<String>) -> Option<String> {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '_' };
    let wanted: String = format!("{server}__{tool}").chars().map(plain).collect();
    (1..=MCP_TOOLS_MAX)
        .map(|n| {
            let end = if n == 1 { String::new() } else { format!("_{n}") };
            format!("{}{end}", beginning(&wanted, NAME_BYTES_MAX - end.len()))
        })
        .find(|name| !taken.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_and_unique_and_tools_risky() {
        let long = "x".repeat(100);
        let page = json!({"tools": [
            {"name": "get weather/now", "description": "d", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": true}},
            {"name": "get_weather_now", "inputSchema": 5},
            {"name": long, "description": "\u{fc}".repeat(2000)},
            {"name": format!("{long}y")},
            {"name": ""}, {"no": "name"}, 5,
            {"name": "huge", "inputSchema": {"x": "y".repeat(MCP_SCHEMA_BYTES_MAX)}},
        ]});
        for trust in [false, true] {
            let mut tools = Vec::new();
            read("home", trust, &page, &mut tools);
            let names: Vec<_> = tools.iter().map(|tool| tool.name.as_str()).collect();
            assert_eq!(names.len(), 4, "{names:?}");
            assert_eq!(names[..2], ["home__get_weather_now", "home__get_weather_now_2"]);
            assert!(names[2].len() == 64 && names[3].len() == 64 && names[3].ends_with("x_2"));
            assert!(tools[2].description.len() <= MCP_DESCRIPTION_BYTES_MAX);
            let risky: Vec<_> = tools.iter().map(|tool| tool.risky).collect();
            assert_eq!(risky, [!trust, true, true, true], "a hint counts where its server is trusted");
            assert_eq!(tools[1].parameters, json!({"type": "object"}));
        }
        let mut tools = Vec::new();
        for _ in 0..2 {
            read("s", false, &json!({"tools": vec![json!({"name": "t"}); 100]}), &mut tools);
        }
        assert_eq!(tools.len(), MCP_TOOLS_MAX);
    }

    #[test]
    fn a_name_that_is_not_seen_as_it_is_written_is_passed_over() {
        let hidden =
            ["read\u{202e}elif", "read\u{200b}", "read\n", "\u{feff}read", "read\u{1b}[2J", "read\u{2066}", "re\u{ad}ad", "read\u{e0041}"];
        let seen = ["read.file/now", "get weather", "\u{732b}\u{3092}\u{8aad}\u{3080}", "gr\u{fc}n"];
        let page = json!({"tools": hidden.iter().chain(&seen).map(|name| json!({"name": name})).collect::<Vec<_>>()});
        let mut tools = Vec::new();
        read("s", true, &page, &mut tools);
        assert_eq!(tools.iter().map(|tool| tool.theirs.as_str()).collect::<Vec<_>>(), seen);
    }

    #[test]
    fn results_become_text() {
        let content = json!([
            {"type": "text", "text": "a"},
            {"type": "image", "data": "A".repeat(16_000), "mimeType": "image/png"},
            {"type": "resource", "resource": {"uri": "x:y", "text": "inside"}},
            {"type": "resource", "resource": {"uri": "x:y", "blob": "AA"}},
            {"type": "new"},
        ]);
        let text = "a\n[image, 12 kB left out]\ninside\n[resource left out]\n[something left out]";
        assert_eq!(result(&json!({"content": content})), Ok(text.to_owned()));
        assert_eq!(result(&json!({"content": [{"type": "text", "text": "no"}], "isError": true})), Err("no".to_owned()));
        assert_eq!(result(&json!({"content": [], "structuredContent": {"a": 1}})), Ok("{\"a\":1}".to_owned()));
        assert_eq!(result(&Value::Null), Ok("(no result)".to_owned()));
    }
}
