//! A title for a conversation, made of what was said first: one line of words without markup.

/// Longest title that is made of a text, in characters; about one line of a list.
const CHARS_MAX: usize = 60;
/// Only the beginning of a text is looked at, in characters.
const LOOKED_AT_CHARS_MAX: usize = 2_000;

/// The first words of a text, cut at a word, without markup and control characters; `None` where nothing is left.
pub fn of(text: &str) -> Option<String> {
    let plain = plain(text);
    let mut out = String::new();
    let mut chars = 0;
    for word in plain.split_whitespace() {
        let word = word.trim_matches(is_mark);
        let long = word.chars().count();
        if long == 0 {
            continue;
        }
        let gap = usize::from(chars > 0);
        if chars + gap + long > CHARS_MAX {
            if chars == 0 {
                // One word alone, or a script without spaces.
                out.extend(word.chars().take(CHARS_MAX - 1));
            }
            out.push('…');
            break;
        }
        if gap > 0 {
            out.push(' ');
        }
        out.push_str(word);
        chars += gap + long;
    }
    (!out.is_empty()).then_some(out)
}

/// Without tags and the targets of links, control characters as spaces.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars().take(LOOKED_AT_CHARS_MAX).peekable();
    while let Some(c) = chars.next() {
        match c {
            '<' if chars.peek().is_some_and(|next| next.is_ascii_alphabetic() || matches!(next, '/' | '!')) => {
                skip(&mut chars, '>');
                out.push(' ');
            }
            ']' if chars.peek() == Some(&'(') => skip(&mut chars, ')'),
            '[' | ']' => {}
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// Behind the next `end`.
fn skip(chars: &mut impl Iterator<Item = char>, end: char) {
    for c in chars {
        if c == end {
            break;
        }
    }
}

/// What Markdown puts around words.
fn is_mark(c: char) -> bool {
    matches!(c, '*' | '_' | '`' | '#' | '~' | '>' | '|')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_one_line_of_whole_words_without_markup() {
        for (text, title) in [
            ("Plan a trip to Rome", Some("Plan a trip to Rome")),
            ("# **Plan** `it`\n\n- see [the map](https://example.org)", Some("Plan it - see the map")),
            ("<b>Hello</b> 3 < 4", Some("Hello 3 < 4")),
            (" \n\t", None),
            ("***", None),
            ("a\u{7}b", Some("a b")),
        ] {
            assert_eq!(of(text).as_deref(), title, "{text:?}");
        }
        let long = of(&"word ".repeat(50)).unwrap();
        assert!(long.ends_with("word…") && long.chars().count() <= CHARS_MAX, "{long}");
        assert_eq!(of(&"漢".repeat(500)).unwrap().chars().count(), CHARS_MAX);
        assert!(of(&format!("<{}", "a".repeat(100_000))).is_none());
    }
}
