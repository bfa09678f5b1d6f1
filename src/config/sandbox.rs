//! What a server with a configuration may reach, once it is shut in (`sys/landlock.rs`). Everything that it opens or connects to
//! outside the home is in this list; what is missing here fails there.
//!
//! Files that may be read and changed: the home, the workspace, what links in the two lead to, and the directory where `config.toml`
//! lies, if that is a link (a change replaces the file). What is mounted beneath them is beneath them.
//! Files that may be read:
//! - `web.dist`, outside the home, by the directory above it, since a new build takes the place of the old one. Where a page is fetched
//!   by itself it may be changed;
//! - time zones;
//! - what the C library needs to look a name up: its tables, and with glibc its modules. It reads `resolv.conf` again whenever that
//!   was replaced, as programs for networks do: so the whole directory where it lies may be read, but only where a server has a name.
//!   systemd-resolved, NetworkManager and connman have one for it, elsewhere that is `/etc`.
//!
//! A socket file is made before; the directory above it is there to remove it from, at the end.
//! Ports: those of models, judges, vectors, tool servers and the page's source, where each is configured; 53 where names are looked
//! up; and the server's own, since it asks itself whether it is alive. It listens before, and may open no other port.
//!
//! Not in the list, because nothing asks for them: `/proc` (open before, `sys/process.rs`), `/dev`, credentials (read before),
//! certificates (compiled in), programs on `PATH` that skills ask for (that a file is there, and its rights, is no secret to
//! Landlock), free space, and the supervisor's socket where it is a file. Where that is an abstract one, such sockets stay open.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::needs::{Need, needs};
use super::{Config, Env, FILE_NAME};
use crate::sys::landlock::{self, Access, Rules};

/// Tables of names that the C libraries read.
const TABLES: &[&str] = &["/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf"];
/// Where the servers of names are told.
const RESOLVER: &str = "/etc/resolv.conf";
/// nss(5): glibc loads what `nsswitch.conf` names.
const MODULES: &[&str] = if cfg!(target_env = "gnu") { &["/etc/ld.so.cache", "/lib", "/lib64", "/usr/lib", "/usr/lib64"] } else { &[] };
/// Where time zones are looked for.
const ZONES: &[&str] = &["/usr/share/zoneinfo", "/usr/share/lib/zoneinfo", "/etc/zoneinfo"];
/// RFC 7766: an answer about a name that is too long for a datagram comes over TCP.
const DNS: u16 = 53;
/// Links in the home that are followed.
const LINKS_MAX: usize = 64;

/// The tool server that is a program; what is shut in starts none that could do its work.
pub fn program(config: &Config) -> Option<String> {
    let (keys, _) = needs(config).into_iter().find(|(_, need)| *need == Need::Program)?;
    Some(keys.trim_end_matches('.').to_owned())
}

/// The version of Landlock that a server with this configuration is shut in by; else why it is not.
///
/// # Errors
/// Why, in words.
pub fn possible(config: &Config) -> Result<u32, String> {
    if config.text("security.landlock") == Some("off") {
        return Err("security.landlock is off".to_owned());
    }
    if let Some(server) = program(config) {
        return Err(format!("{server} starts a program, which would be shut in with the server"));
    }
    landlock::version()
}

/// A server does not go on without a sandbox.
pub fn is_required(config: &Config) -> bool {
    config.text("security.landlock") == Some("required")
}

/// Why a server with this configuration would not start, where it must be shut in and cannot be.
pub fn hindrance(config: &Config) -> Option<String> {
    if !is_required(config) {
        return None;
    }
    possible(config).err().map(|why| none_for(&why))
}

/// That the sandbox is missed, in words.
pub fn none_for(why: &str) -> String {
    format!("security.landlock is required, but there is no sandbox: {why}")
}

/// What is let through. `port` and `file` are the listening socket's, where it has them.
pub fn rules(config: &Config, env: &Env, port: Option<u16>, file: Option<&Path>) -> Rules {
    let (home, workspace) = (config.home(), config.workspace());
    let mut files = BTreeSet::new();
    let mut ports: BTreeSet<u16> = port.into_iter().collect();
    for dir in [home, &workspace] {
        files.insert((dir.to_owned(), Access::Change));
        files.extend(links(dir).map(|link| (link, Access::Change)));
    }
    if let Some(dir) = real_dir(&home.join(FILE_NAME)).filter(|dir| Some(dir) != home.canonicalize().ok().as_ref()) {
        files.insert((dir, Access::Change));
    }
    if let Some(dir) = file.and_then(Path::parent) {
        files.insert((dir.to_owned(), Access::Remove));
    }
    let read = |path: &&str| (PathBuf::from(path), Access::Read);
    files.extend(TABLES.iter().chain(MODULES).chain(ZONES).map(read));
    if let Some(dir) = env.get("TZDIR").filter(|dir| dir.starts_with('/')) {
        files.insert((dir.into(), Access::Read));
    }
    for (_, need) in needs(config) {
        match need {
            Need::Port(port) => _ = ports.insert(port),
            Need::Names => {
                ports.insert(DNS);
                files.insert((real_dir(Path::new(RESOLVER)).unwrap_or_else(|| "/etc".into()), Access::Read));
            }
            // All of the system would be no sandbox.
            Need::Directory(dir, access) => files.extend(above(&dir).map(|dir| (dir, access))),
            Need::Program => {}
        }
    }
    let abstract_sockets = env.get("NOTIFY_SOCKET").is_some_and(|name| name.starts_with('@'));
    Rules { files, ports, abstract_sockets }
}

/// Links of a directory that lead somewhere. SECURITY: nothing that the agent does makes one.
fn links(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let items = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let links = items.filter(|item| item.file_type().is_ok_and(|kind| kind.is_symlink())).map(|item| item.path());
    links.filter(|link| link.exists()).take(LINKS_MAX)
}

/// The directory where a file really lies.
fn real_dir(file: &Path) -> Option<PathBuf> {
    file.canonicalize().ok()?.parent().map(Path::to_owned)
}

/// The directory above, or what is there of the way to it; not the root.
fn above(dir: &Path) -> Option<PathBuf> {
    let there = dir.ancestors().skip(1).find(|above| above.is_dir())?.canonicalize().ok()?;
    there.parent().is_some().then_some(there)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(home: &Path, text: &str, env: &[(&str, &str)], port: Option<u16>, file: Option<&Path>) -> Rules {
        let config = Config::from_text(home, text, &Env::new(), &[]).unwrap();
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        rules(&config, &env, port, file)
    }

    fn paths(rules: &Rules, access: Access) -> Vec<&Path> {
        rules.files.iter().filter(|(_, of)| *of == access).map(|(path, _)| path.as_path()).collect()
    }

    #[test]
    fn a_server_without_a_model_reaches_its_home_and_itself() {
        let home = Path::new("/h");
        let rules = made(home, "", &[], Some(4200), None);
        assert_eq!(rules.ports, [4200].into());
        assert_eq!(paths(&rules, Access::Change), [home, Path::new("/h/workspace")]);
        assert!(paths(&rules, Access::Remove).is_empty() && !rules.abstract_sockets);
        let read = paths(&rules, Access::Read);
        assert!(read.contains(&Path::new("/etc/hosts")) && read.contains(&Path::new("/usr/share/zoneinfo")));
        for path in read {
            // Neither all of /etc nor anything where others' files are.
            assert!(!path.ends_with("etc") && !path.starts_with("/home") && !path.starts_with("/root") && !path.starts_with("/proc"));
        }
    }

    #[test]
    fn what_is_configured_is_reached() {
        let home = Path::new("/h");
        let model = "[engine]\ndefault_model = \"openai/a\"\nbase_url = \"https://box.example/v1\"\n[kernel]\nworkspace = \"/w\"\n";
        let rules = made(home, model, &[("NOTIFY_SOCKET", "@a"), ("TZDIR", "/z")], None, Some(Path::new("/run/ox/s")));
        assert_eq!(rules.ports, [53, 443].into());
        assert_eq!(paths(&rules, Access::Change), [home, Path::new("/w")]);
        assert_eq!(paths(&rules, Access::Remove), [Path::new("/run/ox")]);
        let resolver = real_dir(Path::new(RESOLVER)).unwrap_or_else(|| "/etc".into());
        let read = paths(&rules, Access::Read);
        assert!(read.contains(&Path::new("/z")) && read.contains(&&*resolver), "{read:?}");
        assert!(rules.abstract_sockets);
        assert!(!made(home, "", &[("NOTIFY_SOCKET", "/run/notify")], None, None).abstract_sockets);
    }

    #[test]
    fn links_in_the_home_lead_where_they_lead() {
        let base = std::env::temp_dir().join(format!("oxios-sandbox-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&base);
        let home = base.join("home");
        for dir in ["home/workspace", "disk", "etc", "page"] {
            std::fs::create_dir_all(base.join(dir)).unwrap();
        }
        std::fs::write(base.join("etc/ox.toml"), "").unwrap();
        for (to, name) in [("disk", "workspace/files"), ("etc/ox.toml", "config.toml"), ("nothing", "broken")] {
            std::os::unix::fs::symlink(base.join(to), home.join(name)).unwrap();
        }
        let real = base.canonicalize().unwrap();
        let rules = made(&home, &format!("[web]\ndist = \"{}/new/build\"\n", base.join("page").display()), &[], None, None);
        let (etc, page) = (real.join("etc"), real.join("page"));
        let mut expected = [home.clone(), home.join("config.toml"), home.join("workspace"), home.join("workspace/files"), etc];
        expected.sort();
        assert_eq!(paths(&rules, Access::Change), expected);
        assert!(paths(&rules, Access::Read).contains(&&*page));
        // A page that may be anywhere is found after the next start.
        assert_eq!(above(Path::new("/no/such/place")), None);
        std::fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn a_program_is_named() {
        let config = |text| Config::from_text(Path::new("/h"), text, &Env::new(), &[]).unwrap();
        assert_eq!(
            program(&config("[mcp.servers.a]\nurl = \"http://127.0.0.1:1/\"\n[mcp.servers.b]\ncommand = \"x\"\n")).as_deref(),
            Some("mcp.servers.b")
        );
        assert_eq!(program(&config("[mcp.servers.b]\ncommand = \"x\"\nenabled = false\n")), None);
    }
}
