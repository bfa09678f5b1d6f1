//! A list that is changed and keeps the form and the comments of its owner.
//!
//! A comment on the line of a value is about that value. The library has it elsewhere: what stands behind a comma belongs to the
//! value behind it, or to the end of the list. So a list is taken apart into values with their comments, and put together again.

use toml_edit::{Array, Value};

use super::{said, same};

/// A value with what is written around it.
struct Entry {
    value: Value,
    /// What stands before it, from the end of the line before it on.
    lead: String,
    /// The comment behind it and its comma, on the same line, without the line's end; empty where there is none.
    tail: String,
}

/// The new list, in the form of the old one: what stays is as it was written, and comments of what goes are kept at the end.
pub(super) fn list(old: &Array, new: Array) -> Array {
    let (head, mut rest, close) = apart(old);
    // As the others are indented, for what needs a line of its own.
    let line = format!("\n{}", rest.iter().find_map(|entry| entry.lead.rsplit_once('\n')).map_or("  ", |(_, indent)| indent));
    let is_lines = !rest.is_empty() && rest.iter().all(|entry| entry.lead.starts_with('\n'));
    let mut list = old.clone();
    list.clear();
    let mut before = head;
    for value in new {
        let known = rest.iter().position(|old| same(&old.value, &value));
        let space = if list.is_empty() { "" } else { " " };
        let added = |value| Entry { value, lead: if is_lines { line.clone() } else { space.to_owned() }, tail: String::new() };
        let Entry { mut value, mut lead, tail } = known.map_or_else(|| added(value), |at| rest.remove(at));
        if before.contains('#') && !lead.starts_with('\n') {
            lead.clone_from(&line);
        }
        value.decor_mut().set_prefix(before + &lead);
        before = tail;
        list.push_formatted(value);
    }
    let mut end = before;
    for gone in rest {
        let around = [gone.lead, said(gone.value.decor().suffix()), gone.tail];
        for comment in around.iter().map(|text| text.trim()).filter(|text| text.contains('#')) {
            end += &line;
            end += comment;
        }
    }
    if end.contains('#') && !close.starts_with('\n') {
        end.push('\n');
    }
    list.set_trailing(end + &close);
    list.set_trailing_comma(old.trailing_comma() && !list.is_empty());
    list
}

/// What stands behind the opening bracket on its line, the values, and what stands before the closing bracket.
fn apart(list: &Array) -> (String, Vec<Entry>, String) {
    let (mut head, mut entries) = (String::new(), Vec::<Entry>::new());
    let mut behind = |entries: &mut Vec<Entry>, tail: String| match entries.last_mut() {
        Some(entry) => entry.tail = tail,
        None => head = tail,
    };
    for value in list {
        let (tail, lead) = first_line(&said(value.decor().prefix()));
        behind(&mut entries, tail);
        entries.push(Entry { value: value.clone(), lead, tail: String::new() });
    }
    let mut close = said(Some(list.trailing()));
    if let Some(last) = entries.last_mut().filter(|_| !list.trailing_comma()) {
        // Without a comma, all that is behind the last value is its own to the library.
        close = said(last.value.decor().suffix()) + &close;
        last.value.decor_mut().set_suffix("");
    }
    let (tail, close) = first_line(&close);
    behind(&mut entries, tail);
    (head, entries, close)
}

/// The comment on the first line, and what is behind it; where there is none, all is.
fn first_line(text: &str) -> (String, String) {
    let (line, rest) = text.split_at(text.find('\n').unwrap_or(0));
    if line.contains('#') { (line.to_owned(), rest.to_owned()) } else { (String::new(), text.to_owned()) }
}

#[cfg(test)]
mod tests {
    use toml_edit::DocumentMut;

    use super::*;

    /// The text with this list, which says just that.
    fn with(text: &str, hosts: &[&str]) -> String {
        let mut document: DocumentMut = text.parse().unwrap();
        crate::config::edit::set(&mut document, "security.hosts", hosts.iter().copied().collect::<Array>().into());
        let again = document.to_string();
        let read: DocumentMut = again.parse().unwrap_or_else(|e| panic!("{e}: {again}"));
        let all = read["security"]["hosts"].as_array().unwrap();
        assert_eq!(all.iter().map(|host| host.as_str().unwrap()).collect::<Vec<_>>(), hosts, "{again}");
        again
    }

    #[test]
    fn a_list_keeps_the_form_and_the_comments_of_its_owner() {
        let text = "[security]\nhosts = [ # all\n  'a', # why a\n  # why b\n  \"b\",\n  # none more\n] # end\nport = 1\n";
        assert_eq!(with(text, &["a", "b"]), text);
        assert_eq!(with(text, &["a", "b", "c"]), text.replace("\"b\",", "\"b\",\n  \"c\","));
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
    fn a_comment_stays_with_the_value_on_whose_line_it_is() {
        let text = "[security]\nhosts = [\n  \"a\", # why a\n  \"b\", # why b\n]\n";
        for (hosts, inside) in [
            (&["a", "b"][..], "\n  \"a\", # why a\n  \"b\", # why b\n"),
            (&["a", "c"], "\n  \"a\", # why a\n  \"c\",\n  # why b\n"),
            (&["b"], "\n  \"b\", # why b\n  # why a\n"),
            (&["b", "a"], "\n  \"b\", # why b\n  \"a\", # why a\n"),
            (&["c", "b"], "\n  \"c\",\n  \"b\", # why b\n  # why a\n"),
            (&["a", "b", "c"], "\n  \"a\", # why a\n  \"b\", # why b\n  \"c\",\n"),
            (&[], "\n  # why a\n  # why b\n"),
        ] {
            let whole = format!("[security]\nhosts = [{inside}]\n");
            assert_eq!(with(text, hosts), whole);
            // The last one may be without a comma.
            let bare = text.replace("\"b\",", "\"b\"");
            let last = hosts.last().map_or(String::new(), |last| format!("\"{last}\""));
            assert_eq!(with(&bare, hosts), whole.replace(&format!("{last},"), &last));
        }
        assert_eq!(with("security.hosts = [\"a\", \"b\"]\n", &["a", "c"]), "security.hosts = [\"a\", \"c\"]\n");
        assert_eq!(with("security.hosts = [\"a\"] # all\n", &["a", "c"]), "security.hosts = [\"a\", \"c\"] # all\n");
    }
}
