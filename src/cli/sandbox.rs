//! The sandbox of `serve`: shutting the process in.

use super::output::Failure;
use crate::base::log;
pub(super) use crate::config::sandbox::{is_required, possible};
use crate::config::{Config, Env, sandbox};
use crate::http::listener::Bound;
use crate::store::StoreError;
use crate::store::atomic::make_dir;
use crate::sys::disk::RealDisk;
use crate::sys::landlock::{self, State};
use crate::sys::process;

/// Shuts this process in, where its configuration wants that and it can be; says in the log which. No thread may run yet.
pub(super) fn enter(config: &Config, env: &Env, bound: &Bound) -> Result<State, Failure> {
    let version = match possible(config) {
        Ok(version) => version,
        Err(why) => return without(config, why),
    };
    // What is to be reached has to be there.
    for dir in [config.home(), &config.workspace()] {
        make_dir(&RealDisk, dir)
            .map_err(StoreError::io(format_args!("making {}", dir.display())))
            .map_err(|e| Failure::failed(e.to_string()))?;
    }
    process::prepare();
    let rules = sandbox::rules(config, env, bound.port(), bound.file());
    let state = match landlock::shut_in(&rules, version) {
        Ok(state) => state,
        Err(why) => return without(config, why),
    };
    if let State::On { version, ports } = &state {
        let ports = match ports {
            Some(ports) => format!("TCP to port {}", listed(ports)),
            None => "any port, since only Linux 6.7 and newer hold ports".to_owned(),
        };
        log::info("sandbox", format_args!("on (Landlock {version}): files beneath {}; {ports}", config.home().display()));
    }
    Ok(state)
}

/// Ports in words.
pub(super) fn listed<'a>(ports: impl IntoIterator<Item = &'a u16>) -> String {
    let ports: Vec<String> = ports.into_iter().map(u16::to_string).collect();
    if ports.is_empty() { "none".to_owned() } else { ports.join(", ") }
}

fn without(config: &Config, why: String) -> Result<State, Failure> {
    if is_required(config) {
        return Err(Failure::usage(sandbox::none_for(&why)));
    }
    // That a build has none is no news at each start: `doctor` and the status say it.
    if cfg!(feature = "landlock") {
        log::info("sandbox", format_args!("off: {why}"));
    }
    Ok(State::Off(why))
}
