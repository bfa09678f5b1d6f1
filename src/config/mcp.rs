//! `[mcp.servers.<name>]`: the one place where a table has a name of the owner's choice.
//!
//! A server is a program (`command`, `args`, `env`) or an address (`url`, `headers`); besides `enabled` (true), `timeout_secs`
//! (30) and `trust` (false: what it says about its own tools is not believed).

use std::collections::BTreeMap;
use std::time::Duration;

use toml_edit::{Item, TableLike};

use super::keys::printable;
use crate::base::limits::MCP_SERVERS_MAX;
use crate::base::secret::Secret;
use crate::rooms::mcp::{ServerSettings, Settings, Transport};
use crate::wire::url::Url;

/// Reads the section `mcp`; what is wrong is named by path, and never shown.
pub(super) fn read(section: &dyn TableLike, problems: &mut Vec<String>) -> Settings {
    let mut servers = BTreeMap::new();
    for (key, item) in section.iter() {
        let Some(table) = item.as_table_like().filter(|_| key == "servers") else {
            problems.push(format!("unknown key mcp.{}; servers are written as [mcp.servers.<name>]", printable(key)));
            continue;
        };
        for (name, item) in table.iter() {
            let place = format!("mcp.servers.{}", printable(name));
            if !is_name(name) {
                problems.push(format!("{place}: a name has 1 to 32 letters, digits, - or _, no two _ in a row and none at its end"));
                continue;
            }
            let Some(server) = item.as_table_like() else {
                problems.push(format!("{place}: expected a table"));
                continue;
            };
            match one(server) {
                Ok(settings) => drop(servers.insert(name.to_owned(), settings)),
                Err(problem) => problems.push(format!("{place}: {problem}")),
            }
        }
    }
    if servers.len() > MCP_SERVERS_MAX {
        problems.push(format!("mcp.servers: at most {MCP_SERVERS_MAX} are taken"));
    }
    Settings { servers }
}

fn one(table: &dyn TableLike) -> Result<ServerSettings, String> {
    let known = ["command", "args", "env", "url", "headers", "enabled", "timeout_secs", "trust"];
    if let Some((key, _)) = table.iter().find(|(key, _)| !known.contains(key)) {
        return Err(format!("unknown key {}; there are {}", printable(key), known.join(", ")));
    }
    let text = |key: &str| table.get(key).map(|item| item.as_str().ok_or_else(|| format!("{key}: expected a text"))).transpose();
    let yes = |key: &str, default: bool| match table.get(key) {
        None => Ok(default),
        Some(item) => item.as_bool().ok_or_else(|| format!("{key}: expected true or false")),
    };
    let timeout = match table.get("timeout_secs").map(Item::as_integer) {
        None => 30,
        Some(Some(n @ 1..=3600)) => n.unsigned_abs(),
        Some(_) => return Err("timeout_secs: expected a whole number from 1 to 3600".into()),
    };
    let only = |keys: [&str; 2], with: &str| match keys.into_iter().find(|key| table.contains_key(key)) {
        Some(key) => Err(format!("{key} goes with {with}")),
        None => Ok(()),
    };
    let transport = match (text("command")?, text("url")?) {
        (Some(command), None) if !command.is_empty() => {
            only(["headers", "url"], "url")?;
            Transport::Stdio {
                command: command.to_owned(),
                args: args(table.get("args"))?,
                env: pairs(table.get("env"), "env", is_variable)?,
            }
        }
        (None, Some(url)) => {
            only(["args", "env"], "command")?;
            let url = Url::parse(url).map_err(|e| format!("url: {e}"))?;
            Transport::Http { url, headers: pairs(table.get("headers"), "headers", is_field)? }
        }
        _ => return Err("expected either command or url".into()),
    };
    Ok(ServerSettings { transport, enabled: yes("enabled", true)?, timeout: Duration::from_secs(timeout), trust: yes("trust", false)? })
}

fn args(item: Option<&Item>) -> Result<Vec<String>, String> {
    let Some(item) = item else { return Ok(Vec::new()) };
    let texts = item.as_array().and_then(|items| items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>());
    texts.filter(|texts| texts.iter().all(|text| !text.contains('\0'))).ok_or_else(|| "args: expected a list of texts".to_owned())
}

fn pairs(item: Option<&Item>, key: &str, good: fn(&str) -> bool) -> Result<BTreeMap<String, Secret>, String> {
    let Some(item) = item else { return Ok(BTreeMap::new()) };
    let pair = |(name, item): (&str, &Item)| {
        let value = item.as_str().filter(|value| good(name) && !value.contains(['\0', '\r', '\n']))?;
        Some((name.to_owned(), Secret::new(value)))
    };
    let pairs = item.as_table_like().and_then(|table| table.iter().map(pair).collect::<Option<BTreeMap<_, _>>>());
    pairs.ok_or_else(|| format!("{key}: expected a table of names and texts"))
}

fn is_name(name: &str) -> bool {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    plain && !name.is_empty() && name.len() <= 32 && !name.contains("__") && !name.ends_with('_')
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

fn is_field(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Settings, Vec<String>) {
        let document = toml_edit::Document::parse(text.to_owned()).unwrap();
        let mut problems = Vec::new();
        let settings = read(document.as_table().get("mcp").unwrap().as_table_like().unwrap(), &mut problems);
        (settings, problems)
    }

    #[test]
    fn both_kinds_of_servers() {
        let (settings, problems) = parse(
            "[mcp.servers.files]\ncommand = \"npx\"\nargs = [\"-y\", \"x\"]\nenv = { A = \"b\" }\ntrust = true\n\
             [mcp.servers.far]\nurl = \"https://h/mcp\"\nheaders = { Authorization = \"Bearer x\" }\nenabled = false\ntimeout_secs = 5\n",
        );
        assert!(problems.is_empty(), "{problems:?}");
        let (files, far) = (&settings.servers["files"], &settings.servers["far"]);
        assert!(files.trust && files.enabled && files.timeout == Duration::from_secs(30));
        assert!(
            matches!(&files.transport, Transport::Stdio { command, args, env } if command == "npx" && args.len() == 2 && env.len() == 1)
        );
        assert!(!far.trust && !far.enabled && far.timeout == Duration::from_secs(5));
        assert!(matches!(&far.transport, Transport::Http { url, headers } if url.path() == "/mcp" && headers.len() == 1));
    }

    #[test]
    fn what_is_wrong_is_named_and_not_shown() {
        for (text, problem) in [
            ("[mcp.servers.a]\ncommand = 5", "mcp.servers.a: command: expected a text"),
            ("[mcp.servers.a]\n", "either command or url"),
            ("[mcp.servers.a]\ncommand = \"x\"\nurl = \"http://h\"", "either command or url"),
            ("[mcp.servers.a]\nurl = \"ftp://secret\"", "mcp.servers.a: url:"),
            ("[mcp.servers.a]\nurl = \"http://h\"\nargs = []", "args goes with command"),
            ("[mcp.servers.a]\ncommand = \"x\"\nenv = { A = 5 }", "env: expected a table"),
            ("[mcp.servers.a]\ncommand = \"x\"\nsecret = 1", "unknown key secret"),
            ("[mcp.servers.a]\ncommand = \"x\"\ntimeout_secs = 0", "timeout_secs: expected"),
            ("[mcp.servers.a__b]\ncommand = \"x\"", "a name has"),
            ("[mcp.servers.a_]\ncommand = \"x\"", "a name has"),
            ("[mcp]\nx = 1", "unknown key mcp.x"),
        ] {
            let (settings, problems) = parse(text);
            assert!(settings.servers.is_empty() && problems.len() == 1 && problems[0].contains(problem), "{text}: {problems:?}");
        }
    }
}
