//! Changes of the file's text that leave everything else as its owner wrote it: comments, order, spaces.

mod form;
mod list;

use toml_edit::{Decor, DocumentMut, InlineTable, Item, RawString, Table, TableLike, Value};

pub(super) use form::Form;
use list::list;

/// Sets a key by its path, in whatever form its section has.
pub(super) fn set(document: &mut DocumentMut, path: &str, value: Value) {
    set_at(document, &path.split('.').collect::<Vec<_>>(), value);
}

/// Takes a key (or a whole table) out; the comments above what goes stay, above what follows.
pub(super) fn remove(document: &mut DocumentMut, path: &str) {
    remove_at(document, &path.split('.').collect::<Vec<_>>());
}

fn set_at(document: &mut DocumentMut, path: &[&str], value: Value) {
    let Some((name, section)) = path.split_last() else { return };
    let mut table: &mut dyn TableLike = document.as_table_mut();
    let mut is_new = false;
    for part in section {
        if !table.contains_key(part) {
            is_new = true;
            let mut new = Table::new();
            // `[mcp]` and `[mcp.servers]` need no line of their own.
            new.set_implicit(true);
            table.insert(part, Item::Table(new));
        }
        let Some(inner) = table.get_mut(part).and_then(Item::as_table_like_mut) else { return };
        table = inner;
    }
    match (table.get_mut(name), value) {
        (Some(Item::Table(old)), Value::InlineTable(new)) => {
            let gone: Vec<String> = old.iter().map(|(key, _)| key.to_owned()).filter(|key| !new.contains_key(key)).collect();
            key_by_key(document, path, &gone, new);
        }
        (Some(Item::Value(old)), value) if !same(old, &value) => {
            // The spaces before it and the comment behind it are the owner's.
            let decor = old.decor().clone();
            *old = match (&*old, value) {
                (Value::Array(old), Value::Array(new)) => Value::Array(list(old, new)),
                (_, value) => value,
            };
            *old.decor_mut() = decor;
        }
        (Some(Item::Value(_)), _) => {}
        (_, value) => drop(table.insert(name, Item::Value(value))),
    }
    if is_new {
        behind_the_end(document, section);
    }
}

/// A new table at the end of the file stands behind the comments that stood there: they are about what is above them.
fn behind_the_end(document: &mut DocumentMut, path: &[&str]) {
    let end = said(Some(document.trailing()));
    let last = places(document).into_iter().rfind(|place| place.header);
    let Some(place) = last.filter(|place| end.contains('#') && place.path == path) else { return };
    let gap = match end.as_str() {
        end if end.ends_with("\n\n") => "",
        end if end.ends_with('\n') => "\n",
        _ => "\n\n",
    };
    above(document, &place, |decor| decor.set_prefix(end + gap));
    document.set_trailing("");
}

/// A table that has lines of its own keeps them.
fn key_by_key(document: &mut DocumentMut, path: &[&str], gone: &[String], new: InlineTable) {
    for key in gone {
        remove_at(document, &[path, &[key]].concat());
    }
    for (key, value) in new {
        set_at(document, &[path, &[&*key]].concat(), value);
    }
}

/// However they are written.
fn same(old: &Value, new: &Value) -> bool {
    let bare = |value: &Value| {
        let mut value = value.clone();
        value.decor_mut().clear();
        value.to_string()
    };
    match (old.as_str(), new.as_str()) {
        (Some(old), Some(new)) => old == new,
        _ => bare(old) == bare(new),
    }
}

fn said(raw: Option<&RawString>) -> String {
    raw.and_then(RawString::as_str).unwrap_or_default().to_owned()
}

fn remove_at(document: &mut DocumentMut, path: &[&str]) {
    let mut carried = String::new();
    for place in places(document) {
        let goes = place.path.len() >= path.len() && place.path.iter().zip(path).all(|(name, gone)| name == gone);
        above(document, &place, |decor| {
            let own = decor.prefix().map_or_else(|| if place.header { "\n".to_owned() } else { String::new() }, |raw| said(Some(raw)));
            if !goes {
                if !carried.is_empty() {
                    decor.set_prefix(std::mem::take(&mut carried) + &own);
                }
            } else if own.contains('#') {
                // Behind the last line there is what indents the key itself.
                carried.push_str(own.rfind('\n').and_then(|end| own.get(..=end)).unwrap_or(&own));
            }
        });
    }
    if !carried.is_empty() {
        let end = said(Some(document.trailing()));
        document.set_trailing(carried + &end);
    }
    let Some((name, section)) = path.split_last() else { return };
    if let Some(table) = table_at(document, section) {
        table.remove(name);
    }
}

fn table_at<'a, T: AsRef<str>>(document: &'a mut DocumentMut, path: &[T]) -> Option<&'a mut dyn TableLike> {
    let mut table: &mut dyn TableLike = document.as_table_mut();
    for part in path {
        table = table.get_mut(part.as_ref())?.as_table_like_mut()?;
    }
    Some(table)
}

/// Where comments stand: above a key, or above the header of a table.
struct Place {
    path: Vec<String>,
    header: bool,
}

/// All of them, from the top of the file to its end.
fn places(document: &DocumentMut) -> Vec<Place> {
    let mut tables = Vec::new();
    gather(document.as_table(), &[], &mut 0, &mut tables);
    // In the order in which the library writes them.
    tables.sort_by_key(|(position, path, _)| (!path.is_empty(), *position));
    let mut places = Vec::new();
    for (_, path, table) in tables {
        let values = table.get_values();
        let shown = !table.is_implicit() || !values.is_empty();
        if shown && !path.is_empty() {
            places.push(Place { path: path.clone(), header: true });
        }
        for (keys, _) in values {
            let names = keys.iter().map(|key| key.get().to_owned());
            places.push(Place { path: path.iter().cloned().chain(names).collect(), header: false });
        }
    }
    places
}

/// Tables that have lines of their own. One that was added has no position; it stands behind the one before it.
fn gather<'a>(table: &'a Table, path: &[String], last: &mut isize, all: &mut Vec<(isize, Vec<String>, &'a Table)>) {
    if !table.is_dotted() {
        *last = table.position().unwrap_or(*last);
        all.push((*last, path.to_vec(), table));
    }
    for (name, item) in table {
        if let Item::Table(inner) = item {
            let path: Vec<String> = path.iter().cloned().chain([name.to_owned()]).collect();
            gather(inner, &path, last, all);
        }
    }
}

fn above(document: &mut DocumentMut, place: &Place, look: impl FnOnce(&mut Decor)) {
    let Some((name, section)) = place.path.split_last() else { return };
    let Some(table) = table_at(document, section) else { return };
    if !place.header {
        if let Some(mut key) = table.key_mut(name) {
            look(key.leaf_decor_mut());
        }
    } else if let Some(Item::Table(inner)) = table.get_mut(name) {
        look(inner.decor_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_changed_stays_as_it_was() {
        let text = "# mine\n[gateway] # here\n  port   = 1   # one\n\n# above\nhost = \"::1\"\nmax_waiting = 3\n\n[memory]\nenabled = true\n# the end\n";
        let mut document: DocumentMut = text.parse().unwrap();
        set(&mut document, "gateway.port", 2.into());
        assert_eq!(document.to_string(), text.replace("= 1 ", "= 2 "));
        set(&mut document, "session.ttl_hours", 5.into());
        remove(&mut document, "gateway.host");
        let text = document.to_string();
        assert!(text.contains("# above\nmax_waiting = 3") && text.contains("[session]\nttl_hours = 5"), "{text}");
        assert!(text.starts_with("# mine\n[gateway] # here\n") && text.contains("# the end"), "{text}");
        set(&mut document, "mcp.servers.a-b.command", "x".into());
        assert!(document.to_string().contains("[mcp.servers.a-b]\ncommand = \"x\""), "{document}");
        remove(&mut document, "mcp.servers.a-b");
        assert!(!document.to_string().contains("a-b"));
    }

    #[test]
    fn a_new_table_stands_behind_the_comments_at_the_end() {
        for (text, path, whole) in [
            ("[session]\n# keep\n", "logging.level", "[session]\n# keep\n\n[logging]\nlevel = 1\n"),
            ("[session]\na = 1\n\n# keep\n\n", "logging.level", "[session]\na = 1\n\n# keep\n\n[logging]\nlevel = 1\n"),
            ("# all mine", "logging.level", "# all mine\n\n[logging]\nlevel = 1\n"),
            ("session.a = 1\n# keep\n", "mcp.servers.x.level", "session.a = 1\n# keep\n\n[mcp.servers.x]\nlevel = 1\n"),
            // One that is not the last one; none that is new; no comments.
            (
                "[mcp.servers.x]\na = 1\n\n[session]\na = 1\n# keep\n",
                "mcp.servers.y.level",
                "[mcp.servers.x]\na = 1\n\n[mcp.servers.y]\nlevel = 1\n\n[session]\na = 1\n# keep\n",
            ),
            ("[session]\n# keep\n", "session.level", "[session]\nlevel = 1\n# keep\n"),
            ("[session]\na = 1\n", "logging.level", "[session]\na = 1\n\n[logging]\nlevel = 1\n"),
        ] {
            let mut document: DocumentMut = text.parse().unwrap();
            set(&mut document, path, 1.into());
            assert_eq!(document.to_string(), whole);
        }
        let mut document: DocumentMut = "[session]\n# keep\nttl_hours = 5\n".parse().unwrap();
        remove(&mut document, "session.ttl_hours");
        set(&mut document, "logging.level", "warn".into());
        assert_eq!(document.to_string(), "[session]\n# keep\n\n[logging]\nlevel = \"warn\"\n");
    }

    #[test]
    fn comments_above_what_goes_stay_where_they_were() {
        for (text, path, gone) in [
            // The last key of its table, before another one and at the end of the file.
            (
                "[session]\n# kept short\n# max_sessions = 1\nttl_hours = 5\n\n# what it remembers\n[memory]\nenabled = true\n",
                "session.ttl_hours",
                "ttl_hours = 5\n",
            ),
            ("[session]\n  # kept short\n  ttl_hours = 5\n# the end\n", "session.ttl_hours", "  ttl_hours = 5\n"),
            ("session.ttl_hours = 5\n# about b\nsession.b = 1\n# about the gate\n[gateway]\nport = 1\n", "session.b", "session.b = 1\n"),
            // Before a table that is a table's.
            (
                "[mcp.servers.x]\n# quick\ntimeout_secs = 1\n# its secrets\n[mcp.servers.x.env]\nA = \"a\"\n",
                "mcp.servers.x.timeout_secs",
                "timeout_secs = 1\n",
            ),
            // Whole tables, whose sections above may have been commented out.
            (
                "[memory]\nenabled = true\n# [session]\n[mcp.servers.x]\ncommand = \"x\"\n# above y\n[mcp.servers.y]\nurl = \"y\"\n",
                "mcp.servers.x",
                "[mcp.servers.x]\ncommand = \"x\"\n",
            ),
            (
                "# mine\n[mcp.servers.x]\ncommand = \"x\"\n# [session]\n[mcp.servers.x.env]\nA = \"a\"\n# the end\n",
                "mcp.servers.x",
                "[mcp.servers.x]\ncommand = \"x\"\n[mcp.servers.x.env]\nA = \"a\"\n",
            ),
            (
                "[mcp.servers]\n# about x\nx.command = \"x\"\nx.args = []\n# about y\ny.command = \"y\"\n",
                "mcp.servers.x",
                "x.command = \"x\"\nx.args = []\n",
            ),
        ] {
            let mut document: DocumentMut = text.parse().unwrap();
            remove(&mut document, path);
            let lines = |text: &str| text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect::<Vec<_>>();
            let gone = lines(gone);
            let left: Vec<String> = lines(text).into_iter().filter(|line| !gone.contains(line)).collect();
            assert_eq!(lines(&document.to_string()), left, "{text}");
            document.to_string().parse::<DocumentMut>().unwrap();
        }
    }

    #[test]
    fn the_default_file_keeps_every_line_but_the_one_that_is_taken_out() {
        let text = crate::config::default_file();
        let line = text.lines().find(|line| line.starts_with("# ttl_hours = ")).unwrap();
        let mut document: DocumentMut = text.replace(line, &line[2..]).parse().unwrap();
        remove(&mut document, "session.ttl_hours");
        assert_eq!(document.to_string(), text.replace(&format!("{line}\n"), ""));
    }

    #[test]
    fn a_table_of_secrets_keeps_its_lines() {
        let text = "[mcp.servers.x]\ncommand = \"x\"\n\n# its secrets\n[mcp.servers.x.env]\n\
                    # of the shop\nSHOP = 'a' # until May\n# of the bank\n\"BANK.EU\" = \"b\"\n";
        let with = |pairs: &[(&str, &str)]| {
            let mut document: DocumentMut = text.parse().unwrap();
            set(&mut document, "mcp.servers.x.env", pairs.iter().copied().collect::<InlineTable>().into());
            document.to_string()
        };
        assert_eq!(with(&[("SHOP", "a"), ("BANK.EU", "b")]), text);
        assert_eq!(with(&[("SHOP", "c"), ("BANK.EU", "b"), ("MORE", "d")]), text.replace("'a'", "\"c\"") + "MORE = \"d\"\n");
        assert_eq!(with(&[("SHOP", "a")]), text.replace("\"BANK.EU\" = \"b\"\n", ""));
        assert_eq!(with(&[("BANK.EU", "b")]), text.replace("SHOP = 'a' # until May\n", ""));
    }

    #[test]
    fn sections_may_be_dotted_or_inline() {
        for text in ["gateway.port = 1\n", "gateway = { port = 1 }\n"] {
            let mut document: DocumentMut = text.parse().unwrap();
            set(&mut document, "gateway.port", 2.into());
            set(&mut document, "gateway.host", "::1".into());
            let again = document.to_string().parse::<DocumentMut>().unwrap();
            assert_eq!(again["gateway"]["port"].as_integer(), Some(2), "{again}");
            assert_eq!(again["gateway"]["host"].as_str(), Some("::1"), "{again}");
        }
    }
}
