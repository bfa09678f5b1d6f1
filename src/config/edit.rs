//! Changes of the file's text that leave everything else as its owner wrote it: comments, order, spaces.

use toml_edit::{DocumentMut, Item, Table, TableLike, Value};

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
            *old = value;
            *old.decor_mut() = decor;
        }
        None => drop(table.insert(name, Item::Value(value))),
    }
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
