//! Names and values that others choose for a header field or an environment variable of ours.

/// A token (RFC 9110 §5.6.2): what a field's name is made of.
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

/// A field value (RFC 9110 §5.5): visible ASCII, with spaces and tabs between, none before or behind. What the RFC calls obsolete
/// (bytes beyond ASCII) is none; CR, LF and NUL are what requests are split with (THREATS 17).
pub fn is_value(text: &str) -> bool {
    let inside = |b| matches!(b, b'\t' | b' '..=b'~');
    text.bytes().all(inside) && text.trim_matches([' ', '\t']).len() == text.len()
}

/// The name of an environment variable (POSIX.1 §8.1, with the lower case that programs use, too): letters, digits and `_`, no
/// digit first.
pub fn is_variable(text: &str) -> bool {
    !text.starts_with(|c: char| c.is_ascii_digit()) && !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// What of a text is a token from its start on, at most `max` bytes: all of a bad name that may be told, since a secret may stand
/// behind it (`Authorization: Bearer …` as a name).
pub fn leading_token(text: &str, max: usize) -> &str {
    let end = text.bytes().take(max).take_while(|b| is_token_byte(*b)).count();
    text.get(..end).unwrap_or_default()
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_tokens_and_values_have_no_line_ends() {
        for (text, token) in [("X-Api-Key", true), ("a!#$%&'*+-.^_`|~9", true), ("", false), ("a b", false), ("a:", false)] {
            assert_eq!(is_token(text), token, "{text}");
        }
        for bad in ["a\r", "a\n", "a\0", "(a)", "\u{e4}", "a\t", "a/b", "\"a\"", ":path"] {
            assert!(!is_token(bad), "{bad:?}");
        }
        for (text, value) in [("", true), ("Bearer a b\tc", true), (" a", false), ("a ", false), ("a\t", false), ("\u{e4}", false)] {
            assert_eq!(is_value(text), value, "{text:?}");
        }
        for bad in ["a\r\nb: c", "a\rb", "a\nb", "a\0b", "a\u{7f}b", "a\u{1b}b", "a\u{85}b"] {
            assert!(!is_value(bad), "{bad:?}");
        }
    }

    #[test]
    fn variables_have_plain_names() {
        for good in ["A", "_", "a9", "API_KEY"] {
            assert!(is_variable(good), "{good}");
        }
        for bad in ["", "9a", "A-B", "A=B", "A B", "A\0", "\u{c4}", "A.B", "a\n"] {
            assert!(!is_variable(bad), "{bad:?}");
        }
    }

    #[test]
    fn of_a_bad_name_its_beginning_is_told() {
        assert_eq!(leading_token("Authorization: Bearer secret", 40), "Authorization");
        assert_eq!((leading_token("abcdef", 3), leading_token(" x", 9), leading_token("\u{e4}", 1)), ("abc", "", ""));
    }
}
