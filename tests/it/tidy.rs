//! The house keeps its own rules: floors, documents, leftovers, unsafe code, waits.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Floors of DESIGN §3, times ten; `http` stands on `wire` and `sys`, which share a floor with it.
const FLOORS: &[(&str, u32)] = &[
    ("base", 0),
    ("wire", 10),
    ("sys", 10),
    ("http", 15),
    ("store", 20),
    ("llm", 20),
    ("events", 20),
    ("rooms", 30),
    ("orchestrator", 40),
    ("middleware", 40),
    ("gateway", 50),
    ("cron", 60),
    ("api", 70),
    ("pipeline", 80),
    ("config", 80),
    ("app", 90),
    ("cli", 100),
    // Its shells are fuzz/ and the corpus test; it may look into every room.
    ("fuzzing", 110),
];

/// How many uses of `unsafe` the one file may have. Raise it only with a reason in the commit.
const UNSAFE_MAX: usize = 11;

/// A file that is longer is two things (EXAMPLES 7).
const LINES_MAX: usize = 900;
/// A file that is longer is named in the report.
const LINES_REPORTED: usize = 500;

struct Source {
    /// Relative to the repository.
    name: String,
    text: String,
    /// The text with comments and the insides of literals blanked, line for line.
    code: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    walk(&root().join(folder), &mut found);
    found.sort();
    assert!(!found.is_empty(), "{folder} has sources");
    found
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
            let code = code_of(&text);
            Source { name, text, code }
        })
        .collect()
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && name != ".cache" && name != "target" {
            walk(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Blanks comments and the insides of string and character literals; line breaks stay where they are.
fn code_of(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    let blank = |out: &mut String, c: char| out.push(if c == '\n' { '\n' } else { ' ' });
    while let Some(&c) = chars.get(at) {
        let next = chars.get(at + 1).copied().unwrap_or(' ');
        let before = at.checked_sub(1).and_then(|i| chars.get(i)).copied().unwrap_or(' ');
        if c == '/' && next == '/' {
            while at < chars.len() && chars[at] != '\n' {
                blank(&mut out, chars[at]);
                at += 1;
            }
        } else if c == '/' && next == '*' {
            let mut depth = 0;
            while at < chars.len() {
                if chars[at] == '/' && chars.get(at + 1) == Some(&'*') {
                    depth += 1;
                    out.push(' ');
                    at += 1;
                } else if chars[at] == '*' && chars.get(at + 1) == Some(&'/') {
                    depth -= 1;
                    out.push(' ');
                    at += 1;
                }
                blank(&mut out, chars[at]);
                at += 1;
                if depth == 0 {
                    break;
                }
            }
        } else if (c == 'r' || (c == 'b' && next == 'r')) && !before.is_alphanumeric() && before != '_' && raw_hashes(&chars, at).is_some()
        {
            let hashes = raw_hashes(&chars, at).unwrap();
            while chars[at] != '"' {
                out.push(chars[at]);
                at += 1;
            }
            out.push('"');
            at += 1;
            let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
            while at < chars.len() && !chars[at..].starts_with(&end) {
                blank(&mut out, chars[at]);
                at += 1;
            }
            out.extend(&end);
            at += end.len();
        } else if c == '"' {
            out.push('"');
            at += 1;
            while at < chars.len() && chars[at] != '"' {
                if chars[at] == '\\' {
                    out.push(' ');
                    at += 1;
                }
                blank(&mut out, chars[at]);
                at += 1;
            }
            out.push('"');
            at += 1;
        } else if c == '\'' && (next == '\\' || chars.get(at + 2) == Some(&'\'')) {
            // A character, not a lifetime.
            out.push('\'');
            at += if next == '\\' { 3 } else { 2 };
            out.push(' ');
            while at < chars.len() && chars[at] != '\'' {
                at += 1;
            }
            out.push('\'');
            at += 1;
        } else {
            out.push(c);
            at += 1;
        }
    }
    out
}

fn raw_hashes(chars: &[char], at: usize) -> Option<usize> {
    let mut i = at + if chars[at] == 'b' { 2 } else { 1 };
    let start = i;
    while chars.get(i) == Some(&'#') {
        i += 1;
    }
    (chars.get(i) == Some(&'"')).then_some(i - start)
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Every path that begins with `start`, as `(offset, segments behind it)`; groups in braces are opened one level deep.
fn paths<'a>(code: &'a str, start: &str) -> Vec<(usize, Vec<&'a str>)> {
    let mut out = Vec::new();
    for (at, _) in code.match_indices(start) {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$' || c == ':') {
            continue;
        }
        let rest = &code[at + start.len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 1;
            let end = group.char_indices().find(|(_, c)| {
                depth += i32::from(*c == '{') - i32::from(*c == '}');
                depth == 0
            });
            let group = &group[..end.map_or(group.len(), |(i, _)| i)];
            let mut depth = 0;
            for item in group.split(|c| {
                depth += i32::from(c == '{') - i32::from(c == '}');
                c == ',' && depth == 0
            }) {
                out.push((at, segments(item.trim())));
            }
        } else {
            out.push((at, segments(rest)));
        }
    }
    out
}

fn segments(path: &str) -> Vec<&str> {
    let end = path.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(path.len());
    path[..end].split("::").filter(|s| !s.is_empty()).collect()
}

#[test]
fn imports_point_down_and_neighbours_do_not_know_each_other() {
    let floors: BTreeMap<&str, u32> = FLOORS.iter().copied().collect();
    let mut wrong = Vec::new();
    for source in sources("src") {
        let inside = source.name.trim_start_matches("src/");
        let parts: Vec<&str> = inside.trim_end_matches(".rs").split('/').collect();
        let here = parts[0];
        if here == "lib" || here == "main" {
            continue;
        }
        let Some(floor) = floors.get(here) else {
            wrong.push(format!("{}: `{here}` is on no floor", source.name));
            continue;
        };
        let mut found = paths(&source.code, "crate::");
        // `super` from the top of a room also leaves it.
        let up = if parts.len() == 1 || parts[1] == "mod" { "super::" } else { "super::super::" };
        found.extend(paths(&source.code, up).into_iter().filter(|(_, s)| s.first().is_some_and(|s| floors.contains_key(s))));
        for (at, path) in found {
            let Some(&target) = path.first() else { continue };
            let line = line_of(&source.code, at);
            let Some(below) = floors.get(target) else {
                wrong.push(format!("{}:{line}: `crate::{target}` is on no floor", source.name));
                continue;
            };
            if target != here && below >= floor {
                wrong.push(format!("{}:{line}: {here} must not know crate::{}", source.name, path.join("::")));
            }
            // The rooms of one floor are independent of each other.
            if here == "rooms" && target == "rooms" && parts.len() > 1 && path.len() > 1 {
                let room = path[1];
                let is_room = root().join(format!("src/rooms/{room}.rs")).exists() || root().join(format!("src/rooms/{room}")).is_dir();
                if is_room && room != parts[1] && parts[1] != "mod" {
                    wrong.push(format!("{}:{line}: room {} must not know room {room}", source.name, parts[1]));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "imports must point down:\n{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_is() {
    for folder in ["src", "tests"] {
        for source in sources(folder) {
            assert!(source.text.starts_with("//! "), "{} starts with a `//!` line that says what it is", source.name);
        }
    }
}

#[test]
fn nothing_is_left_over() {
    for source in sources("src") {
        for word in ["todo!", "unimplemented!", "dbg!"] {
            if let Some(at) = source.code.find(word) {
                panic!("{}:{}: {word} is left over", source.name, line_of(&source.code, at));
            }
        }
        for word in ["FIXME", "TODO", "XXX", "HACK"] {
            let found = source.text.match_indices(word).find(|(at, _)| {
                let around = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
                !around(source.text[..*at].chars().next_back()) && !around(source.text[at + word.len()..].chars().next())
            });
            if let Some((at, _)) = found {
                panic!("{}:{}: {word} is left over", source.name, line_of(&source.text, at));
            }
        }
    }
}

#[test]
fn files_have_names_that_say_something() {
    for source in sources("src") {
        let stem = Path::new(&source.name).file_stem().unwrap().to_string_lossy().into_owned();
        assert!(
            !["utils", "util", "helpers", "helper", "manager", "common", "misc"].contains(&stem.as_str()),
            "{}: a name that says nothing",
            source.name
        );
    }
}

#[test]
fn files_stay_short() {
    let mut long = Vec::new();
    for source in sources("src") {
        let lines = source.text.lines().count();
        if lines > LINES_REPORTED {
            println!("long: {} has {lines} lines; is it two things?", source.name);
        }
        if lines > LINES_MAX {
            long.push(format!("{} has {lines} lines", source.name));
        }
    }
    assert!(long.is_empty(), "longer than {LINES_MAX} lines: {long:?}");
}

/// A newer compiler takes them without a word, whatever `rust-version` says; the boards' compiler knows none.
#[test]
fn no_conditions_are_chained_behind_a_let() {
    let mut chained = Vec::new();
    for source in sources("src").into_iter().filter(|source| !source.name.contains("test")) {
        let (mut open, mut depth) = (false, 0_i32);
        for (n, line) in source.code.lines().enumerate() {
            open |= ["if let ", "while let "].iter().any(|start| line.contains(start));
            let mut before = ' ';
            for c in line.chars().filter(|_| open) {
                depth += i32::from("([".contains(c)) - i32::from(")]".contains(c));
                if depth == 0 && before == '&' && c == '&' {
                    chained.push(format!("{}:{}", source.name, n + 1));
                }
                before = c;
            }
            if line.trim_end().ends_with(['{', '}', ';', ',']) {
                (open, depth) = (false, 0);
            }
        }
    }
    assert!(chained.is_empty(), "conditions behind a `let`: {chained:?}");
}

#[test]
fn unsafe_code_lies_in_one_file_and_says_why_it_is_safe() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(manifest.contains("unsafe_code = \"deny\""), "the lint is on for the whole package");
    let mut count = 0;
    for source in sources("src") {
        let lines: Vec<&str> = source.text.lines().collect();
        for (n, line) in source.code.lines().enumerate() {
            let words = line.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|w| *w == "unsafe").count();
            let allows = line.contains("unsafe_code");
            if words == 0 && !allows {
                continue;
            }
            assert_eq!(source.name, "src/sys/os.rs", "unsafe code in {}:{}", source.name, n + 1);
            if words > 0 {
                count += words;
                // A foreign declaration is explained where it is used, right below it.
                let until = if line.contains("unsafe extern") { (n + 6).min(lines.len()) } else { n };
                let above = &lines[n.saturating_sub(6)..until];
                assert!(above.iter().any(|l| l.contains("SAFETY:")), "{}:{}: a SAFETY comment says why", source.name, n + 1);
            }
        }
    }
    assert!(count <= UNSAFE_MAX, "{count} uses of unsafe, {UNSAFE_MAX} are allowed");
}

#[test]
fn no_test_is_switched_off_and_none_sleeps() {
    for source in sources("src").into_iter().chain(sources("tests")) {
        if let Some(at) = source.code.find("#[ignore") {
            panic!("{}:{}: a test is switched off", source.name, line_of(&source.code, at));
        }
        // Chaos is a length of time, with things that happen in it.
        if source.name.starts_with("tests/chaos/") {
            continue;
        }
        // In src only what comes behind the mark of the tests.
        let from = if source.name.starts_with("tests/") { 0 } else { source.code.find("#[cfg(test)]").unwrap_or(source.code.len()) };
        let code = &source.code[from..];
        for word in ["sleep(", "sleep_until("] {
            // With a paused clock a sleep is a step of the test's own time.
            if code.contains("start_paused") {
                continue;
            }
            for (at, _) in code.match_indices(word) {
                let line = line_of(&source.code, from + at);
                let inside_a_name = code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
                assert!(inside_a_name, "{}:{line}: a test waits for an event, it does not sleep", source.name);
            }
        }
    }
}

#[test]
fn every_dependency_says_why_it_is_there() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let mut inside = false;
    let mut explained = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.contains("dependencies");
            explained = false;
        } else if inside && line.starts_with('#') {
            explained = true;
        } else if inside && line.trim().is_empty() {
            explained = false;
        } else if inside && line.contains('=') {
            assert!(explained, "Cargo.toml: no comment says why `{line}` is there");
        }
    }
}

#[test]
fn the_checks_see_what_they_should() {
    let code = code_of(
        "let a = \"crate::cli\"; // crate::cli\n/* crate::cli /* */ */ let c = '\"'; use crate::{base::ids, llm}; r#\"crate::x\"# 'a'",
    );
    let found: Vec<_> = paths(&code, "crate::").into_iter().map(|(_, p)| p.join("/")).collect();
    assert_eq!(found, ["base/ids", "llm"]);
    assert_eq!(code_of("fn f<'a>(x: &'a str) {} '\\n' b'\\'' x"), "fn f<'a>(x: &'a str) {} ' ' b' ' x");
}
