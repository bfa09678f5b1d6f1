//! What a configuration needs of the world outside the home. A process that is shut in (see `sandbox.rs`) got what its start needed;
//! what needs more waits for the next start, while everything else of a change is in force at once.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};

use super::settings::settings;
use super::{Config, keys};
use crate::rooms::mcp::Transport;
use crate::sys::landlock::Access;
use crate::wire::url::Url;

/// Something outside the home.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    /// A TCP port, at whatever address.
    Port(u16),
    /// Addresses of names.
    Names,
    /// A program that is started.
    Program,
    /// A directory.
    Directory(PathBuf, Access),
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => write!(f, "TCP port {port}"),
            Self::Names => f.write_str("a server that is named, not numbered"),
            Self::Program => f.write_str("a program"),
            Self::Directory(path, _) => write!(f, "{}", path.display()),
        }
    }
}

/// Keys of the models; their addresses may be others' too (judges, vectors).
pub(super) const ENGINE: &str = "engine.";
const JUDGES: &str = "orchestrator.judges";
const VECTORS: &str = "memory.embedding_";
const PAGE: &str = "web.";
const SERVERS: &str = "mcp.servers.";

/// Everything that is needed, and how the paths of the keys that say so begin.
pub(super) fn needs(config: &Config) -> Vec<(String, Need)> {
    let mut all = Vec::new();
    let mut server = |keys: &str, url: &Url| all.extend(of_server(url).map(|need| (keys.to_owned(), need)));
    let rooms = settings(config);
    rooms.engine.addresses().iter().for_each(|url| server(ENGINE, url));
    rooms.judges.iter().flat_map(|judge| judge.addresses()).for_each(|url| server(JUDGES, &url));
    if let Some(Ok(url)) = rooms.memory.embedding.map(|vectors| vectors.address()) {
        server(VECTORS, &url);
    }
    let fetched = rooms.site.auto_update.filter(|_| cfg!(feature = "archives"));
    if let Some(source) = &fetched {
        server(PAGE, source.url());
    }
    let mut programs = Vec::new();
    for (name, settings) in rooms.mcp.servers.iter().filter(|(_, settings)| settings.enabled) {
        let keys = format!("{SERVERS}{name}.");
        match &settings.transport {
            Transport::Http { url, .. } => server(&keys, url),
            Transport::Stdio { .. } => programs.push((keys, Need::Program)),
        }
    }
    all.extend(programs);
    if let Some(dist) = rooms.site.dist.filter(|dist| !is_beneath(dist, config.home()) && !is_beneath(dist, &config.workspace())) {
        let access = if fetched.is_some() { Access::Change } else { Access::Read };
        all.push((PAGE.to_owned(), Need::Directory(dist, access)));
    }
    all
}

/// What it takes to call a server.
pub(super) fn of_server(url: &Url) -> impl Iterator<Item = Need> + use<> {
    let numbered = url.host() == "localhost" || url.host().parse::<IpAddr>().is_ok();
    std::iter::once(Need::Port(url.port())).chain((!numbered).then_some(Need::Names))
}

/// By its name; a way up may lead anywhere.
fn is_beneath(path: &Path, dir: &Path) -> bool {
    path.starts_with(dir) && !path.components().any(|part| part == Component::ParentDir)
}

impl Config {
    /// This configuration, as far as it may be in force beside `now` where no more than `allowed` is let through: keys whose needs go
    /// beyond that stay as they are.
    pub(super) fn within(&self, allowed: &BTreeSet<Need>, now: &Self) -> Self {
        let mut held = self.clone();
        while let Some((keys, _)) = beyond(&held, allowed) {
            if held.agrees(now, &keys) {
                // It stays already, and needs more because of what stands elsewhere: then nothing that reaches out changes.
                [ENGINE, JUDGES, VECTORS, PAGE, SERVERS].iter().for_each(|keys| held.take(now, keys));
                break;
            }
            held.take(now, &keys);
        }
        held
    }

    /// The paths of keys that have another value there; a tool server is one.
    pub(super) fn differing(&self, there: &Self) -> Vec<String> {
        let both = self.entries.iter().chain(there.entries.iter().filter(|entry| entry.key.is_free()));
        let mut paths = Vec::new();
        for entry in both.filter(|entry| self.value_at(&entry.path) != there.value_at(&entry.path)) {
            let path = keys::server(&entry.path).map_or_else(|| entry.path.to_string(), |name| format!("{SERVERS}{name}"));
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
        paths
    }

    /// Keys whose paths begin so have the values that they have there.
    pub(super) fn agrees(&self, there: &Self, keys: &str) -> bool {
        !self.differing(there).iter().any(|path| format!("{path}.").starts_with(keys) || path.starts_with(keys))
    }

    /// Takes over the keys whose paths begin so.
    fn take(&mut self, from: &Self, keys: &str) {
        self.entries.retain(|entry| !entry.key.is_free() || !entry.path.starts_with(keys));
        for theirs in from.entries.iter().filter(|entry| entry.path.starts_with(keys)) {
            match self.entries.iter_mut().find(|entry| entry.path == theirs.path) {
                Some(ours) => ours.clone_from(theirs),
                None => self.entries.push(theirs.clone()),
            }
        }
    }

    /// Takes over the keys that are read at the start only.
    pub(super) fn take_started(&mut self, from: &Self) {
        for ours in self.entries.iter_mut().filter(|entry| !entry.key.live) {
            if let Some(theirs) = from.entries.iter().find(|theirs| theirs.path == ours.path) {
                ours.clone_from(theirs);
            }
        }
    }
}

/// The first need that goes beyond what is allowed.
pub(super) fn beyond(config: &Config, allowed: &BTreeSet<Need>) -> Option<(String, Need)> {
    needs(config).into_iter().find(|(_, need)| !allowed.contains(need))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Env;

    fn config(text: &str) -> Config {
        Config::from_text(Path::new("/h"), text, &Env::new(), &[]).unwrap()
    }

    fn allowed(text: &str) -> BTreeSet<Need> {
        needs(&config(text)).into_iter().map(|(_, need)| need).collect()
    }

    const LOCAL: &str = "[engine]\ndefault_model = \"openai/a\"\nbase_url = \"http://127.0.0.1:8080/v1\"\n";

    #[test]
    fn a_configuration_tells_what_it_needs() {
        let port = |port| Need::Port(port);
        let page = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
        let dist = |path: &str, access| Need::Directory(path.into(), access);
        let fetched = if cfg!(feature = "archives") {
            vec![port(81), dist("/srv/page", Access::Change)]
        } else {
            vec![dist("/srv/page", Access::Read)]
        };
        for (text, expected) in [
            ("", vec![]),
            (LOCAL, vec![port(8080)]),
            ("[engine]\ndefault_model = \"openai/a\"\nbase_url = \"http://localhost:8080/v1\"\n", vec![port(8080)]),
            ("[engine]\ndefault_model = \"openai/a\"\nbase_url = \"http://box:8080/v1\"\n", vec![port(8080), Need::Names]),
            ("[engine]\ndefault_model = \"openai/a\"\nbase_url = \"http://[::1]/v1\"\n", vec![port(80)]),
            ("[engine]\ndefault_model = \"anthropic/a\"\n", vec![port(443), Need::Names]),
            ("[engine]\nfallback_models = [\"openai/a\"]\n", vec![port(443), Need::Names]),
            ("[orchestrator]\njudges = [\"openai/a\"]\n", vec![port(443), Need::Names]),
            ("[memory]\nembedding_model = \"openai/a\"\nembedding_base_url = \"http://10.0.0.1:90/v1\"\n", vec![port(90)]),
            ("[mcp.servers.a]\nurl = \"http://10.0.0.1:91/mcp\"\n", vec![port(91)]),
            ("[mcp.servers.a]\nurl = \"http://10.0.0.1:91/mcp\"\nenabled = false\n", vec![]),
            ("[mcp.servers.a]\ncommand = \"a\"\n", vec![Need::Program]),
            ("[web]\ndist = \"page\"\n", vec![]),
            ("[web]\ndist = \"../page\"\n", vec![dist("/h/../page", Access::Read)]),
            ("[web]\ndist = \"/srv/page\"\n", vec![dist("/srv/page", Access::Read)]),
            (&format!("[web]\ndist = \"/srv/page\"\nauto_update = \"http://10.0.0.1:81/a {page}\"\n"), fetched),
        ] {
            let needs: Vec<Need> = needs(&config(text)).into_iter().map(|(_, need)| need).collect();
            assert_eq!(needs, expected, "{text}");
        }
    }

    #[test]
    fn what_needs_more_stays_and_the_rest_of_a_change_does_not_wait() {
        let now = config(&format!("{LOCAL}max_tokens = 100\n[mcp.servers.old]\nurl = \"http://10.0.0.1:8080/mcp\"\n"));
        let allowed = allowed(LOCAL);
        let other_path = LOCAL.replace("/v1", "/v2");
        let other_port = LOCAL.replace("8080", "8081") + "max_tokens = 200\n";
        for (text, waiting) in [
            ("", &[][..]),
            (&*other_path, &[]),
            (&*other_port, &["engine.base_url", "engine.max_tokens"]),
            (&format!("{other_port}[session]\nttl_hours = 1\n"), &["engine.base_url", "engine.max_tokens"]),
            (&format!("{LOCAL}[mcp.servers.new]\ncommand = \"a\"\n"), &["mcp.servers.new"]),
            (&format!("{LOCAL}[mcp.servers.old]\nurl = \"http://10.0.0.1:1/mcp\"\n"), &["mcp.servers.old"]),
            (&format!("{LOCAL}[mcp.servers.new]\nurl = \"http://10.0.0.1:8080/\"\n"), &[]),
            (&format!("{LOCAL}[web]\ndist = \"/srv/page\"\n"), &["web.dist"]),
            (&format!("{LOCAL}[orchestrator]\njudges = [\"anthropic/a\"]\n"), &["orchestrator.judges"]),
            (
                "[engine]\ndefault_model = \"offline\"\nfallback_models = [\"openai/a\"]\n",
                &["engine.default_model", "engine.base_url", "engine.max_tokens", "engine.fallback_models"],
            ),
        ] {
            let wanted = config(text);
            let held = wanted.within(&allowed, &now);
            let mut found = wanted.differing(&held);
            found.sort();
            let mut waiting: Vec<String> = waiting.iter().map(|path| (*path).to_owned()).collect();
            waiting.sort();
            assert_eq!(found, waiting, "{text}");
            assert_eq!(beyond(&held, &allowed), None, "{text}");
            assert_eq!(held.whole("session.ttl_hours"), wanted.whole("session.ttl_hours"));
        }
    }

    /// A judge is asked at the engine's address, which a change takes away from it.
    #[test]
    fn where_one_key_moves_another_ones_server_all_of_them_wait() {
        let judged = format!("{LOCAL}[orchestrator]\njudges = [\"openai/b\"]\n");
        let (now, allowed) = (config(&judged), allowed(&judged));
        let wanted = config("[engine]\ndefault_model = \"offline\"\n[orchestrator]\njudges = [\"openai/b\"]\n");
        let held = wanted.within(&allowed, &now);
        assert_eq!(wanted.differing(&held), ["engine.default_model", "engine.base_url"]);
        assert_eq!(beyond(&held, &allowed), None);
    }
}
