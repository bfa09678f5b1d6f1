//! `config.toml`: every key is in the table, every value has its type, every complaint has its line.

use toml_edit::{Document, Item, TableLike};

use super::error::Problem;
use super::keys::{self, KEYS};
use super::suggest::nearest;
use super::value::Value;
use super::{Config, FILE_NAME, Origin};

/// Takes over what the file sets; what is wrong goes to `problems`.
pub(super) fn apply(config: &mut Config, text: &str, problems: &mut Vec<Problem>) {
    let file = config.home.join(FILE_NAME).display().to_string();
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(e) => {
            let line = line_of(text, e.span().map(|span| span.start));
            // The library's message may quote the offending line, which may hold a secret; its first sentence does not.
            let message = e.message().lines().next().unwrap_or("is no TOML").to_owned();
            problems.push(Problem::new(format!("{file}:{line}"), message));
            return;
        }
    };
    for (name, item) in document.as_table().iter() {
        let start = document.as_table().get_key_value(name).and_then(|(key, _)| key.span()).map(|span| span.start);
        let line = line_of(text, start);
        let place = format!("{file}:{line}");
        let known = KEYS.iter().any(|key| key.section() == name);
        match item.as_table_like() {
            Some(table) if name == "mcp" => servers(config, Section { text, file: &file, name, line }, table, problems),
            Some(table) if known => section(config, Section { text, file: &file, name, line }, table, problems),
            _ if known => problems.push(Problem::new(place, format!("{name} is a section: write [{name}], then its keys"))),
            _ => {
                let hint = nearest(name, KEYS.iter().map(|key| key.section())).map(|s| format!("; did you mean {s}?")).unwrap_or_default();
                problems.push(Problem::new(place, format!("unknown section {}{hint}", keys::printable(name))));
            }
        }
    }
}

/// Where a section stands.
struct Section<'a> {
    text: &'a str,
    file: &'a str,
    name: &'a str,
    line: usize,
}

/// `[mcp.servers.<name>]`: the one place where a name is the user's.
fn servers(config: &mut Config, at: Section<'_>, table: &dyn TableLike, problems: &mut Vec<Problem>) {
    let place = format!("{}:{}", at.file, at.line);
    for (name, item) in table.iter() {
        let all = item.as_table_like().filter(|_| name == "servers");
        let Some(all) = all else {
            problems.push(Problem::new(
                &place,
                format!("{}: write [mcp.servers.<name>], then its keys", keys::printable(&format!("mcp.{name}"))),
            ));
            continue;
        };
        for (server, item) in all.iter() {
            let path = format!("mcp.servers.{server}");
            let start = all.get_key_value(server).and_then(|(key, _)| key.span()).map(|span| span.start);
            let line = start.map_or(at.line, |start| line_of(at.text, Some(start)));
            match item.as_table_like() {
                Some(table) if keys::server(&format!("{path}.")).is_some() && !table.is_empty() => {
                    section(config, Section { text: at.text, file: at.file, name: &path, line }, table, problems);
                }
                _ => problems.push(Problem::new(
                    format!("{}:{line}", at.file),
                    format!("{}: a name has 1 to 32 letters, digits, - or _, and keys of its own", keys::printable(&path)),
                )),
            }
        }
    }
}

fn section(config: &mut Config, at: Section<'_>, table: &dyn TableLike, problems: &mut Vec<Problem>) {
    for (name, item) in table.iter() {
        let start = table.get_key_value(name).and_then(|(key, _)| key.span()).or_else(|| Item::span(item)).map(|span| span.start);
        let line = start.map_or(at.line, |start| line_of(at.text, Some(start)));
        let path = format!("{}.{name}", at.name);
        let Some(key) = keys::find(&path) else {
            problems.push(Problem::new(format!("{}:{line}", at.file), keys::unknown(&path)));
            continue;
        };
        match Value::from_toml(key, item) {
            Ok(value) => config.set(key, &path, value, Origin::File(line)),
            Err(text) => problems.push(Problem::new(format!("{}:{line}", at.file), format!("{path}: {text}"))),
        }
    }
}

/// The line (from 1) of a byte position; 1 where there is none.
fn line_of(text: &str, start: Option<usize>) -> usize {
    let upto = text.as_bytes().get(..start.unwrap_or(0)).unwrap_or(text.as_bytes());
    1 + upto.iter().filter(|byte| **byte == b'\n').count()
}
