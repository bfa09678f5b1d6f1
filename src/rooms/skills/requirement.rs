//! Whether what a skill requires is there: looked up, never started.

use std::collections::BTreeSet;
use std::path::Path;

use rustix::fs::{Access, access};

use super::skill::Requirements;

/// What of the requirements is missing; `set` are the keys of our configuration that are set to something.
pub(super) fn missing(wanted: &Requirements, set: &BTreeSet<String>) -> Requirements {
    let absent = |name: &&String| !is_on_path(name);
    let any = wanted.any_bins.is_empty() || wanted.any_bins.iter().any(|name| is_on_path(name));
    Requirements {
        bins: wanted.bins.iter().filter(absent).cloned().collect(),
        any_bins: if any { Vec::new() } else { wanted.any_bins.clone() },
        env: wanted.env.iter().filter(|name| !is_set(name)).cloned().collect(),
        // A path that is none of our keys (skills of other programs name theirs) is never satisfied.
        config: wanted.config.iter().filter(|path| !set.contains(*path)).cloned().collect(),
    }
}

/// One of these names is this system's; an empty list fits all.
pub(super) fn fits_system(os: &[String]) -> bool {
    let here = std::env::consts::OS;
    os.is_empty() || os.iter().any(|name| name.eq_ignore_ascii_case(here) || (here == "macos" && name.eq_ignore_ascii_case("darwin")))
}

/// A regular file of this name that we may execute lies in a directory of `PATH`.
fn is_on_path(name: &str) -> bool {
    if name.is_empty() || name.contains(['/', '\0']) {
        return false;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).filter(|dir| dir.is_absolute()).any(|dir| is_executable(&dir.join(name)))
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && access(path, Access::EXEC_OK).is_ok()
}

fn is_set(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0']) && std::env::var_os(name).is_some_and(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let text = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let wanted = Requirements {
            bins: text(&["sh", "no-such-bin", "../sh", "/bin/sh"]),
            any_bins: text(&["no-such-bin", "sh"]),
            env: text(&["PATH", "NO_SUCH_ENV", "A=B"]),
            config: text(&["channels.x", "memory.embedding_model"]),
        };
        let missing = missing(&wanted, &["memory.embedding_model".to_owned()].into());
        assert_eq!(missing.bins, text(&["no-such-bin", "../sh", "/bin/sh"]));
        assert!(missing.any_bins.is_empty());
        assert_eq!(missing.env, text(&["NO_SUCH_ENV", "A=B"]));
        assert_eq!(missing.config, text(&["channels.x"]));
        assert!(fits_system(&[]) && fits_system(&text(&["linux", "win32"])) && !fits_system(&text(&["win32"])));
    }
}
