//! The log on standard error: one line an entry, pretty or JSON. Never content, never a secret.

use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicU8, Ordering};

/// How lines look (`logging.format`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Pretty,
    /// One JSON object a line.
    Json,
}

/// How much is said (`logging.level`); the order is from silent to talkative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    /// Something failed that should not.
    Error,
    /// Something to look at.
    Warn,
    /// What an operator wants to know.
    #[default]
    Info,
}

// Process-wide because standard error is; set once by `configure`, read by every line.
static FORMAT: AtomicU8 = AtomicU8::new(0);
static LEVEL: AtomicU8 = AtomicU8::new(2);

/// Sets form and level for the whole process.
pub fn configure(format: Format, level: Level) {
    FORMAT.store(u8::from(format == Format::Json), Ordering::Relaxed);
    LEVEL.store(level as u8, Ordering::Relaxed);
}

/// For tests that change the level, and those that read what is written: one at a time, from the defaults on.
#[cfg(test)]
pub(crate) fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    configure(Format::default(), Level::default());
    alone
}

/// The form that is set.
pub fn format() -> Format {
    if FORMAT.load(Ordering::Relaxed) == 1 { Format::Json } else { Format::Pretty }
}

/// An entry of this level is written.
pub fn enabled(level: Level) -> bool {
    level as u8 <= LEVEL.load(Ordering::Relaxed)
}

/// What an operator wants to know. `area` is the room that speaks.
pub fn info(area: &'static str, text: fmt::Arguments<'_>) {
    line(Level::Info, area, text);
}

/// Something to look at.
pub fn warn(area: &'static str, text: fmt::Arguments<'_>) {
    line(Level::Warn, area, text);
}

/// Something failed that should not.
pub fn error(area: &'static str, text: fmt::Arguments<'_>) {
    line(Level::Error, area, text);
}

/// From now on a panic is logged with its place only: its message may quote what a user wrote.
pub fn panics_without_content() {
    std::panic::set_hook(Box::new(|info| match info.location() {
        Some(at) => error("panic", format_args!("at {at}")),
        None => error("panic", format_args!("at an unknown place")),
    }));
}

fn line(level: Level, area: &'static str, text: fmt::Arguments<'_>) {
    if !enabled(level) {
        return;
    }
    // Nobody can be told that standard error is gone.
    let _ = std::io::stderr().write_all(written(level, area, text).as_bytes());
}

/// One line, whatever the text is: control characters would let a foreign one forge another (THREATS 24).
fn written(level: Level, area: &'static str, text: fmt::Arguments<'_>) -> String {
    let word = match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
    };
    let text: String = text.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match format() {
        Format::Pretty => format!("{word:5} {area}: {text}\n"),
        Format::Json => {
            let text = serde_json::Value::String(text);
            format!("{{\"level\":\"{word}\",\"area\":\"{area}\",\"message\":{text}}}\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// THREATS 24.
    #[test]
    fn a_foreign_text_is_one_line_and_forges_no_other() {
        let _alone = alone();
        for format in [Format::Pretty, Format::Json] {
            configure(format, Level::Info);
            let line = written(Level::Warn, "x", format_args!("a\nerror forged: b\r\n\u{85}\u{1b}[2K\"}}\0"));
            assert!(line.ends_with('\n') && line.chars().filter(|c| c.is_control()).count() == 1, "{line:?}");
            if format == Format::Json {
                let json: serde_json::Value = serde_json::from_str(&line).unwrap();
                assert_eq!((&json["level"], &json["area"]), (&"warn".into(), &"x".into()));
            }
        }
        configure(Format::default(), Level::default());
    }
}
