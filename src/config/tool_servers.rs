//! `[mcp.servers.<name>]`: the one part of the configuration with names that its owner chooses.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::error::Problem;
use super::keys::{self, Expected};
use super::{Config, Entry, KEYS, Origin, Value};
use crate::base::limits::{MCP_FIELD_BYTES_MAX, MCP_FIELDS_MAX, MCP_SERVERS_MAX};
use crate::wire::field;

/// Fields that the connection (RFC 9110 §7.6.1, §7.2, §8.6), our client or the protocol sets. A second one of them would divide
/// requests in another way than we do (THREATS 14), or mean another session than ours. Besides these, all that begin with `mcp-`.
const NOT_YOURS: [&str; 18] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "last-event-id",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];
/// How much of a name a message tells.
const NAME_TOLD_BYTES: usize = 40;

impl Config {
    /// The names of the tool servers, in order.
    pub(super) fn servers(&self) -> BTreeSet<String> {
        self.entries.iter().filter(|entry| entry.key.is_free()).filter_map(|entry| Some(keys::server(&entry.path)?.to_owned())).collect()
    }

    /// Every tool server gets the defaults of the keys that nobody set, and is either a program or an address.
    pub(super) fn complete(&mut self, problems: &mut Vec<Problem>) {
        let mut free = self.entries.split_off(self.entries.iter().position(|entry| entry.key.is_free()).unwrap_or(self.entries.len()));
        free.sort_by(|a, b| a.path.cmp(&b.path));
        let names: BTreeSet<String> = free.iter().filter_map(|entry| Some(keys::server(&entry.path)?.to_owned())).collect();
        if names.len() > MCP_SERVERS_MAX {
            problems.push(Problem::new("mcp.servers", format!("at most {MCP_SERVERS_MAX} are taken")));
        }
        for name in names {
            let (mut ways, mut place) = (0, String::new());
            for key in KEYS.iter().filter(|key| key.is_free()) {
                let path = key.named(&name);
                let at = free.iter().position(|entry| entry.path == path);
                let entry = at.map(|at| free.remove(at)).unwrap_or_else(|| Entry {
                    key,
                    path: Cow::Owned(path),
                    value: key.default_value().unwrap_or(Value::Unset),
                    origin: Origin::Default,
                });
                if matches!(key.name(), "command" | "url") && entry.value != Value::Unset {
                    ways += 1;
                }
                if let (true, origin @ (Origin::File(_) | Origin::Env(_) | Origin::Flag(_))) = (place.is_empty(), &entry.origin) {
                    place = origin.to_string();
                }
                self.entries.push(entry);
            }
            if ways != 1 {
                problems.push(Problem::new(place, format!("mcp.servers.{name}: expected either command or url")));
            }
        }
    }
}

/// Notes on tool servers that may do something else than was meant.
pub(super) fn look(config: &mut Config) {
    let ours = config.workspace().display().to_string();
    for name in config.servers() {
        if config.list(&format!("mcp.servers.{name}.args")).iter().any(|arg| arg.contains(&ours)) {
            // SECURITY: arguments may hold secrets; none is told.
            config.notes.push(format!(
                "mcp.servers.{name}.args names a place in {ours}: every owner's server would work there; `.` is the owner's own files"
            ));
        }
    }
}

/// Header fields that may go with every request to a server.
pub(super) fn headers(value: &Value) -> Result<(), Expected> {
    let Value::Secrets(table) = value else { return Ok(()) };
    if table.len() > MCP_FIELDS_MAX {
        return Err(format!("at most {MCP_FIELDS_MAX} header fields").into());
    }
    let mut taken = BTreeSet::new();
    for (name, secret) in table {
        let (lower, told) = (name.to_ascii_lowercase(), told(name));
        if !field::is_token(name) {
            return Err(format!("names of header fields (letters, digits, - and the like); {told} is none").into());
        }
        if lower.starts_with("mcp-") || NOT_YOURS.contains(&&*lower) {
            return Err(format!("header fields that are yours to set; {told} is set by the connection or the protocol").into());
        }
        if name.len() + secret.reveal().len() > MCP_FIELD_BYTES_MAX {
            return Err(format!("header fields of at most {MCP_FIELD_BYTES_MAX} bytes; {told} is longer").into());
        }
        if !field::is_value(secret.reveal()) {
            return Err(format!("values of visible ASCII with spaces or tabs between; that of {told} is none").into());
        }
        if !taken.insert(lower) {
            return Err(format!("each header field once; {told} differs from another one in upper and lower case only").into());
        }
    }
    Ok(())
}

/// What a program's environment may hold.
pub(super) fn variables(value: &Value) -> Result<(), Expected> {
    let Value::Secrets(table) = value else { return Ok(()) };
    for (name, secret) in table {
        let told = told(name);
        if !field::is_variable(name) {
            return Err(format!("names of letters, digits and _, no digit first; {told} is none").into());
        }
        if secret.reveal().contains('\0') {
            return Err(format!("values without NUL; that of {told} has one").into());
        }
    }
    Ok(())
}

/// A name for a message: its beginning, for a secret may stand behind it.
fn told(name: &str) -> String {
    match field::leading_token(name, NAME_TOLD_BYTES) {
        whole if whole.len() == name.len() => format!("`{whole}`"),
        start => format!("`{start}…`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn load(text: &str) -> Result<Config, String> {
        Config::from_text(Path::new("/h"), text, &Default::default(), &[]).map_err(|e| e.to_string())
    }

    /// Tables as they stand in the file, and what is said where they are refused: the key, the name, and no value.
    fn check(key: &str, cases: &[(&str, Option<&str>)]) {
        for (table, said) in cases {
            let way = if key == "env" { "command = \"x\"" } else { "url = \"http://x/mcp\"" };
            let found = load(&format!("[mcp.servers.s]\n{way}\n{key} = {{ {table} }}\n"));
            match said {
                None => assert!(found.is_ok(), "{table}: {found:?}"),
                Some(said) => {
                    let found = found.expect_err(table);
                    assert!(found.starts_with(&format!("/h/config.toml:3: mcp.servers.s.{key}: expected ")), "{found}");
                    assert!(found.contains(said) && !found.contains("canary"), "{table}: {found}");
                }
            }
        }
    }

    #[test]
    fn header_fields_that_could_harm_are_refused_by_name_and_no_value_is_told() {
        let long = format!("X-Long = \"canary{}\"", "x".repeat(MCP_FIELD_BYTES_MAX));
        let many = (0..=MCP_FIELDS_MAX).map(|n| format!("X-{n} = \"canary\"")).collect::<Vec<_>>().join(", ");
        let cases = [
            ("Authorization = \"Bearer canary\", X-Trace_Id = \"a b\\tc\", Cookie = \"a=b\", Empty = \"\"", None),
            ("Host = \"canary\"", Some("header fields that are yours to set; `Host` is set by")),
            ("content-LENGTH = \"canary\"", Some("`content-LENGTH` is set by")),
            ("Transfer-Encoding = \"canary\"", Some("`Transfer-Encoding` is set by")),
            ("Proxy-Authorization = \"canary\"", Some("`Proxy-Authorization` is set by")),
            ("Mcp-Session-Id = \"canary\"", Some("`Mcp-Session-Id` is set by")),
            ("MCP-Anything = \"canary\"", Some("`MCP-Anything` is set by")),
            ("\"\" = \"canary\"", Some("`` is none")),
            ("\"X Y\" = \"canary\"", Some("`X…` is none")),
            ("\"Authorization: Bearer canary\" = \"\"", Some("`Authorization…` is none")),
            ("\":path\" = \"canary\"", Some("`…` is none")),
            ("\"X\\r\\nHost\" = \"canary\"", Some("`X…` is none")),
            ("\"X-\u{e4}\" = \"canary\"", Some("`X-…` is none")),
            ("X-A = \"canary\\r\\nHost: x\"", Some("that of `X-A` is none")),
            ("X-A = \"canary\\nx\"", Some("that of `X-A` is none")),
            ("X-A = \"canary\\u0000\"", Some("that of `X-A` is none")),
            ("X-A = \"canary\u{e4}\"", Some("that of `X-A` is none")),
            ("X-A = \" canary\"", Some("that of `X-A` is none")),
            ("X-A = \"canary\", x-a = \"canary\"", Some("each header field once; `x-a` differs")),
            (&long, Some("`X-Long` is longer")),
            (&many, Some("at most 32 header fields")),
        ];
        check("headers", &cases);
    }

    #[test]
    fn variables_have_names_that_every_program_reads_alike() {
        let cases = [
            ("API_KEY = \"canary\", _x = \"two\\nlines\", PATH = \"\"", None),
            ("\"API-KEY\" = \"canary\"", Some("`API-KEY` is none")),
            ("\"9A\" = \"canary\"", Some("`9A` is none")),
            ("\"\" = \"canary\"", Some("`` is none")),
            ("\"A=canary\" = \"\"", Some("`A…` is none")),
            ("\"A\\u0000B\" = \"canary\"", Some("`A…` is none")),
            ("A = \"canary\\u0000\"", Some("that of `A` has one")),
        ];
        check("env", &cases);
    }

    #[test]
    fn arguments_that_lead_every_owner_to_one_place_are_noted() {
        let notes = |args: &str| load(&format!("[mcp.servers.near]\ncommand = \"x\"\nargs = {args}\n")).unwrap().notes().to_vec();
        assert!(notes("[\"--root=/h/workspace/files\"]")[0].contains("mcp.servers.near.args"));
        assert!(notes("[\".\", \"/somewhere/else\"]").is_empty());
    }
}
