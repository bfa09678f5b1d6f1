//! What the library that edits does not keep of a text: the mark that some editors put before it, and how its lines end.

const MARK: char = '\u{feff}';

/// What a text has beside its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    mark: bool,
    crlf: bool,
}

impl Form {
    /// That of a text, and the text without it. Where lines end in both ways, what most of them do counts.
    pub(crate) fn of(text: &str) -> (Self, String) {
        let bare = text.strip_prefix(MARK).unwrap_or(text);
        let crlf = bare.matches("\r\n").count() * 2 > bare.matches('\n').count();
        (Self { mark: bare.len() < text.len(), crlf }, bare.replace("\r\n", "\n"))
    }

    /// The text in this form.
    pub(crate) fn give(self, text: &str) -> String {
        let mark = if self.mark { MARK.to_string() } else { String::new() };
        mark + &if self.crlf { text.replace('\n', "\r\n") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_off_is_given_back() {
        for text in ["", "a = 1\n", "a = 1\r\n# b\r\n", "\u{feff}a = 1\r\n", "\u{feff}", "a = 1"] {
            let (form, bare) = Form::of(text);
            assert!(!bare.contains(['\r', MARK]), "{text:?}");
            assert_eq!(form.give(&bare), text);
        }
        let (form, bare) = Form::of("a = 1\r\nb = 2\r\nc = 3\n");
        assert_eq!(form.give(&bare), "a = 1\r\nb = 2\r\nc = 3\r\n");
    }
}
