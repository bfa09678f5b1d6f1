//! Standard output, where a reader may go away at any time.

use std::fmt;
use std::io::{self, Write};

/// Writes to standard output and flushes. Where the reader is gone (`| head`) the program ends quietly: nobody is left to tell. Where it
/// cannot be written (a full disk), it ends with a word, so that half a file is not taken for a whole one.
pub(super) fn print(text: fmt::Arguments<'_>) {
    if let Err(error) = try_print(text) {
        if error.kind() != io::ErrorKind::BrokenPipe {
            tell(format_args!("oxios-edge: standard output: {error}"));
        }
        std::process::exit(1);
    }
}

/// The same for those who have something to do before they go.
pub(super) fn try_print(text: fmt::Arguments<'_>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_fmt(text).and_then(|()| out.flush())
}

/// Writes a line to standard error.
pub(super) fn tell(text: fmt::Arguments<'_>) {
    // Nobody can be told that standard error is gone.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Why a command did not succeed, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// The exit code: 1 failed, 2 wrong usage or configuration.
    pub(super) code: u8,
    /// What went wrong and what to do.
    pub(super) text: String,
}

impl Failure {
    /// It did not work.
    pub(super) fn failed(text: impl Into<String>) -> Self {
        Self { code: 1, text: text.into() }
    }
    /// It was asked for wrongly.
    pub(super) fn usage(text: impl Into<String>) -> Self {
        Self { code: 2, text: text.into() }
    }
}

impl From<crate::config::ConfigError> for Failure {
    fn from(e: crate::config::ConfigError) -> Self {
        Self::usage(e.to_string())
    }
}

/// Foreign text for a terminal: control characters other than line ends and tabs could move the cursor, recolour the screen or
/// fake a prompt, so they are shown as `?`.
pub(super) fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_do_not_reach_the_terminal() {
        assert_eq!(harmless("a\u{1b}[2Jb\r\n\tü\u{9b}"), "a?[2Jb?\n\tü?");
    }
}
