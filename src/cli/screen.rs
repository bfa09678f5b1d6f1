//! What `ask` shows: the answer on standard output; everything else, quietly, on standard error where that is a terminal.

use std::io::{self, IsTerminal, Write};

use super::output::{harmless, try_print};

const WHEEL: [char; 8] = ['⣾', '⣽', '⣻', '⢿', '⡿', '⣟', '⣯', '⣷'];

/// The two streams and what stands on them.
pub(super) struct Screen {
    /// Standard error is a terminal: spinner and notes are shown.
    notes: bool,
    /// Standard output is a terminal: control characters of the answer are not passed on.
    terminal: bool,
    /// Frames go out as they come; nothing else is shown.
    json: bool,
    /// What the spinner says; `None` while it rests.
    waiting: Option<String>,
    /// The spinner stands on the screen now.
    drawn: bool,
    turn: usize,
    /// The answer so far.
    answer: String,
    /// Nobody reads standard output any more.
    gone: bool,
    /// The cursor stands behind unfinished words of the answer.
    open_line: bool,
}

impl Screen {
    /// For this process's streams.
    pub(super) fn new(json: bool) -> Self {
        let notes = io::stderr().is_terminal() && !json;
        Self {
            notes,
            terminal: io::stdout().is_terminal(),
            json,
            waiting: None,
            drawn: false,
            turn: 0,
            answer: String::new(),
            gone: false,
            open_line: false,
        }
    }

    /// Nobody reads the answer any more (`| head`).
    pub(super) fn gone(&self) -> bool {
        self.gone
    }

    /// A person can be asked here.
    pub(super) fn interactive(&self) -> bool {
        self.notes
    }

    /// The spinner turns and says this.
    pub(super) fn wait(&mut self, for_what: &str) {
        self.waiting = Some(harmless(for_what));
        self.tick();
    }

    /// Something should be drawn again soon.
    pub(super) fn turning(&self) -> bool {
        self.notes && self.waiting.is_some()
    }

    /// The next picture of the spinner.
    pub(super) fn tick(&mut self) {
        let Some(text) = self.waiting.as_ref().filter(|_| self.notes) else { return };
        self.turn = (self.turn + 1) % WHEEL.len();
        let wheel = WHEEL.get(self.turn).copied().unwrap_or('·');
        // Behind unfinished words of the answer the spinner would overwrite them.
        if !(self.open_line && self.terminal) {
            stderr(&format!("\r\x1b[K\x1b[2m{wheel} {text}\x1b[0m"));
            self.drawn = true;
        }
    }

    /// The spinner rests and leaves no trace.
    pub(super) fn clear(&mut self) {
        self.waiting = None;
        self.wipe();
    }

    /// A piece of the answer.
    pub(super) fn answer(&mut self, piece: &str) {
        if piece.is_empty() {
            return;
        }
        self.clear();
        self.answer.push_str(piece);
        if !self.json {
            self.write(piece);
        }
    }

    /// The whole answer is known: shows what is missing.
    pub(super) fn finish(&mut self, whole: &str) {
        self.clear();
        if !self.json {
            let answer = std::mem::take(&mut self.answer);
            match whole.strip_prefix(answer.as_str()) {
                Some(rest) => self.write(rest),
                // Pieces were skipped or replaced: the whole text stands for them.
                None => {
                    self.break_line();
                    self.write(whole);
                }
            }
            self.break_line();
        }
    }

    /// The answer ends here, whole or not: what comes next stands on a line of its own.
    pub(super) fn break_line(&mut self) {
        self.wipe();
        if self.open_line {
            self.write("\n");
        }
    }

    /// A quiet line, for terminals only.
    pub(super) fn note(&mut self, text: &str) {
        self.wipe();
        if self.notes {
            let gap = if self.terminal && self.open_line { "\n" } else { "" };
            stderr(&format!("{gap}\x1b[2m· {}\x1b[0m\n", harmless(text)));
        }
    }

    /// A line that must be seen.
    pub(super) fn say(&mut self, text: &str) {
        self.break_line();
        stderr(&format!("{}\n", harmless(text)));
    }

    /// A question; the cursor stays behind it.
    pub(super) fn question(&mut self, text: &str) {
        self.clear();
        stderr(text);
    }

    /// A frame as it came.
    pub(super) fn frame(&mut self, text: &str) {
        if self.json {
            self.gone |= try_print(format_args!("{text}\n")).is_err();
        }
    }

    fn wipe(&mut self) {
        if std::mem::take(&mut self.drawn) {
            stderr("\r\x1b[K");
        }
    }

    fn write(&mut self, text: &str) {
        if !text.is_empty() {
            self.open_line = !text.ends_with('\n');
        }
        let written = if self.terminal { try_print(format_args!("{}", harmless(text))) } else { try_print(format_args!("{text}")) };
        self.gone |= written.is_err();
    }
}

fn stderr(text: &str) {
    let mut err = io::stderr().lock();
    // Nobody can be told that standard error is gone.
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}
