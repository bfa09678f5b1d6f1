//! Changes of the file's text that leave everything else as its owner wrote it: comments, order, spaces.

use toml_edit::{Array, DocumentMut, Item, Table, TableLike, Value};

/// Sets a key by its path, in whatever form its section has.
pub(super) fn set(document: &mut DocumentMut, path: &str, value: Value) {
    let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
    let mut table: &mut dyn TableLike = document.as_table_mut();
    for part in section.split('.') {
        if !table.contains_key(part) {
            let mut new = Table::new();
            // `[mcp]` and `[mcp.servers]` need no line of their own.
            new.set_implicit(true);
            table.insert(part, Item::Table(new));
        }
        let Some(inner) = table.get_mut(part).and_then(Item::as_table_like_mut) else { return };
        table = inner;
    }
    match table.get_mut(name).and_then(Item::as_value_mut) {
        Some(old) => {
            // The spaces before it and the comment behind it are the owner's.
            let decor = old.decor().clone();
            *old = match (&*old, value) {
                (Value::Array(old), Value::Array(new)) => Value::Array(list(old, new)),
                (_, value) => value,
            };
            *old.decor_mut() = decor;
        }
        None => drop(table.insert(name, Item::Value(value))),
    }
}

/// The new list, in the form of the old one: what stays is as it was written, and comments of what goes are kept at the end.
fn list(old: &Array, new: Array) -> Array {
    let mut rest: Vec<Value> = old.iter().cloned().collect();
    let mut list = old.clone();
    list.clear();
    for value in new {
        let known = rest.iter().position(|old| match (old.as_str(), value.as_str()) {
            (Some(old), Some(new)) => old == new,
            _ => bare(old) == bare(&value),
        });
        list.push_formatted(known.map_or(value, |at| rest.remove(at)));
    }
    let said = |raw: Option<&toml_edit::RawString>| raw.and_then(toml_edit::RawString::as_str).unwrap_or_default().to_owned();
    let around = |value: &Value| [said(value.decor().prefix()), said(value.decor().suffix())];
    let comments: String = rest.iter().flat_map(around).filter(|text| text.contains('#')).collect();
    if !comments.is_empty() {
        list.set_trailing(comments + &said(Some(old.trailing())));
    }
    list.set_trailing_comma(old.trailing_comma() && !list.is_empty());
    list
}

fn bare(value: &Value) -> String {
    let mut value = value.clone();
    value.decor_mut().clear();
    value.to_string()
}

/// Takes a key (or a whole table) out; the comment above it stays, above what follows.
pub(super) fn remove(document: &mut DocumentMut, path: &str) {
    let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
    let mut table: &mut dyn TableLike = document.as_table_mut();
    for part in section.split('.') {
        let Some(inner) = table.get_mut(part).and_then(Item::as_table_like_mut) else { return };
        table = inner;
    }
    let prefix = table.key(name).and_then(|key| key.leaf_decor().prefix()).and_then(|raw| raw.as_str()).unwrap_or_default().to_owned();
    let next = table.iter().map(|(key, _)| key.to_owned()).skip_while(|key| key != name).nth(1);
    table.remove(name);
    if let (true, Some(mut key)) = (prefix.contains('#'), next.and_then(|next| table.key_mut(&next))) {
        let own = key.leaf_decor().prefix().and_then(|raw| raw.as_str()).unwrap_or_default().to_owned();
        key.leaf_decor_mut().set_prefix(format!("{prefix}{own}"));
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
    fn a_list_keeps_the_form_and_the_comments_of_its_owner() {
        let with = |text: &str, hosts: &[&str]| {
            let mut document: DocumentMut = text.parse().unwrap();
            set(&mut document, "security.hosts", hosts.iter().copied().collect::<Array>().into());
            let again = document.to_string();
            let read: DocumentMut = again.parse().unwrap_or_else(|e| panic!("{e}: {again}"));
            let all = read["security"]["hosts"].as_array().unwrap();
            assert_eq!(all.iter().map(|host| host.as_str().unwrap()).collect::<Vec<_>>(), hosts, "{again}");
            again
        };
        let text = "[security]\nhosts = [ # all\n  'a', # why a\n  # why b\n  \"b\",\n  # none more\n] # end\nport = 1\n";
        assert_eq!(with(text, &["a", "b"]), text);
        assert_eq!(with(text, &["a", "b", "c"]), text.replace("\"b\",", "\"b\", \"c\","));
        for hosts in [&["b"][..], &["c"], &[], &["b", "a"]] {
            let again = with(text, hosts);
            for comment in ["# all", "# why a", "# why b", "# none more", "# end"] {
                assert!(again.contains(comment), "{comment}: {again}");
            }
        }
        with("[security]\nhosts = [\"a\" # before the comma\n, \"b\"]\n", &["b"]);
        assert_eq!(with("security.hosts = []\n", &["a", "b"]), "security.hosts = [\"a\", \"b\"]\n");
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
