//! The front matter of a Markdown file: what stands between two lines of `---` at its beginning.
//!
//! Only what is used: the split, and the top-level scalars `key: value` on one line, plain or quoted.
//! Lists, maps and block scalars are skipped over, not guessed at.

/// Splits a text into front matter (without its `---` lines) and body. No front matter, or one that never closes: all is body.
pub fn split(text: &str) -> (Option<&str>, &str) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let Some(rest) = text.strip_prefix("---\n").or_else(|| text.strip_prefix("---\r\n")) else { return (None, text) };
    let mut start = 0;
    for line in rest.split_inclusive('\n') {
        let end = start + line.len();
        if matches!(line.trim_end_matches(['\n', '\r', ' ', '\t']), "---" | "...") {
            return (rest.get(..start), rest.get(end..).unwrap_or(""));
        }
        start = end;
    }
    (None, text)
}

/// The value of a top-level scalar, unquoted; the first one of that name.
pub fn scalar(front: &str, key: &str) -> Option<String> {
    front.lines().find_map(|line| {
        // A line that begins with a space or a dash belongs to something nested.
        let value = line.strip_prefix(key)?.strip_prefix(':')?;
        if !value.is_empty() && !value.starts_with([' ', '\t']) {
            return None;
        }
        unquote(value.trim())
    })
}

fn unquote(value: &str) -> Option<String> {
    if let Some(inner) = value.strip_prefix('\'') {
        let end = inner.rfind('\'')?;
        return Some(inner.get(..end)?.replace("''", "'"));
    }
    if value.starts_with('"') {
        let end = value.rfind('"').filter(|end| *end > 0)?;
        // YAML's double-quoted form is JSON's for everything these files use.
        return serde_json::from_str(value.get(..=end)?).ok();
    }
    let plain = value.split(" #").next().unwrap_or(value).trim_end();
    match plain.chars().next() {
        None | Some('|' | '>' | '[' | '{' | '&' | '*' | '#') => None,
        Some(_) => Some(plain.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_only_a_closed_block_at_the_beginning() {
        assert_eq!(split("---\nname: a\n---\nbody\n"), (Some("name: a\n"), "body\n"));
        assert_eq!(split("\u{feff}---\r\nname: a\r\n---\r\nbody"), (Some("name: a\r\n"), "body"));
        assert_eq!(split("---\n---\n"), (Some(""), ""));
        assert_eq!(split("---\nname: a\n"), (None, "---\nname: a\n"));
        assert_eq!(split("text\n---\nname: a\n---\n"), (None, "text\n---\nname: a\n---\n"));
        assert_eq!(split("----\n---\n"), (None, "----\n---\n"));
        assert_eq!(split(""), (None, ""));
    }

    #[test]
    fn scalars_are_read_and_nested_ones_are_not() {
        let front = "name: 'it''s'\ndescription: \"a \\\"b\\\" # c\"\nplain: some words # why\nmeta:\n  inner: x\nlist: [a]\nblock: |\n  text\nempty:\nname: second\n";
        assert_eq!(scalar(front, "name").as_deref(), Some("it's"));
        assert_eq!(scalar(front, "description").as_deref(), Some("a \"b\" # c"));
        assert_eq!(scalar(front, "plain").as_deref(), Some("some words"));
        for none in ["inner", "list", "block", "empty", "meta", "nam", "absent"] {
            assert_eq!(scalar(front, none), None, "{none}");
        }
        assert_eq!(scalar("k: \"", "k"), None);
        assert_eq!(scalar("k: '", "k"), None);
    }
}
