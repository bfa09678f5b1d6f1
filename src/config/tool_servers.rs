//! `[mcp.servers.<name>]`: the one part of the configuration with names that its owner chooses.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::error::Problem;
use super::{Config, Entry, KEYS, Origin, Value, keys};
use crate::base::limits::MCP_SERVERS_MAX;

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
