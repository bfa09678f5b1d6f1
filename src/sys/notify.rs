//! Telling the supervisor that started us how it goes, by systemd's protocol and without its library (sd_notify(3),
//! sd_watchdog_enabled(3)): lines `NAME=value` in a datagram to the socket that `NOTIFY_SOCKET` names.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::base::log;

/// A supervisor that does not read is waited for this long; a datagram mostly goes at once.
const PATIENCE: Duration = Duration::from_secs(1);

/// Who supervises this process; nobody, where nothing says so. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Supervisor {
    to: Option<Arc<Told>>,
    /// Silence for so long means death; none where nobody counts.
    watchdog: Option<Duration>,
}

#[derive(Debug)]
struct Told {
    socket: UnixDatagram,
    /// Named with every datagram, as sd_notify(3) does: the socket may be another one after the supervisor has restarted.
    at: SocketAddr,
}

impl Supervisor {
    /// Whom the environment of the process `pid` names.
    ///
    /// # Errors
    /// `NOTIFY_SOCKET` or `WATCHDOG_USEC` is nothing that can be used; the text says what would be.
    pub fn find(env: &BTreeMap<String, String>, pid: u32) -> Result<Self, String> {
        let Some(name) = env.get("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return Ok(Self::default()) };
        let at = address(name).map_err(|why| format!("NOTIFY_SOCKET: {why}"))?;
        let socket = UnixDatagram::unbound().map_err(|e| format!("NOTIFY_SOCKET: no socket can be made: {e}"))?;
        socket.set_write_timeout(Some(PATIENCE)).map_err(|e| format!("NOTIFY_SOCKET: {e}"))?;
        Ok(Self { to: Some(Arc::new(Told { socket, at })), watchdog: watchdog(env, pid)? })
    }

    /// [`Supervisor::alive`] must be called more often than this, or we are taken for dead.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The start, or a reload, is over.
    pub fn ready(&self, status: fmt::Arguments<'_>) {
        self.tell(format!("READY=1\nSTATUS={}", line(status)));
    }

    /// A reload begins; [`Supervisor::ready`] ends it.
    pub fn reloading(&self) {
        // systemd.service(5), Type=notify-reload: the time says which of its requests this answers.
        let now = clock_gettime(ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.tell(format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// The end begins.
    pub fn stopping(&self, status: fmt::Arguments<'_>) {
        self.tell(format!("STOPPING=1\nSTATUS={}", line(status)));
    }

    /// A line for people.
    pub fn status(&self, status: fmt::Arguments<'_>) {
        self.tell(format!("STATUS={}", line(status)));
    }

    /// Feeds the watchdog.
    pub fn alive(&self) {
        self.tell("WATCHDOG=1".to_owned());
    }

    /// Blocks while the supervisor's queue is full, for a second at most. That it cannot be told is no reason to end.
    fn tell(&self, text: String) {
        let Some(told) = &self.to else { return };
        let sent = loop {
            match told.socket.send_to_addr(text.as_bytes(), &told.at) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                sent => break sent,
            }
        };
        if let Err(error) = sent {
            let what = text.split('\n').next().unwrap_or_default();
            log::warn("supervisor", format_args!("it cannot be told {what}: {error}"));
        }
    }
}

/// sd_notify(3): a path from the root, or `@` and a name that is in no file system.
fn address(name: &str) -> Result<SocketAddr, String> {
    match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None if name.starts_with('/') => SocketAddr::from_pathname(name),
        None => return Err("neither /a/path nor @a-name; other kinds of sockets are not known here".to_owned()),
    }
    .map_err(|e| e.to_string())
}

/// sd_watchdog_enabled(3): microseconds, for the process that is named where one is.
fn watchdog(env: &BTreeMap<String, String>, pid: u32) -> Result<Option<Duration>, String> {
    let set = |name: &str| env.get(name).filter(|text| !text.is_empty());
    let Some(text) = set("WATCHDOG_USEC") else { return Ok(None) };
    if set("WATCHDOG_PID").is_some_and(|whose| whose.parse() != Ok(pid)) {
        return Ok(None);
    }
    match text.parse::<u64>() {
        Ok(micros @ 1..) => Ok(Some(Duration::from_micros(micros))),
        _ => Err(format!("WATCHDOG_USEC: {text:?} is no number of microseconds")),
    }
}

/// A status is one line; a path may hold what ends it, and a line of its own would be another message.
fn line(text: fmt::Arguments<'_>) -> String {
    text.to_string().chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn who_supervises_is_in_the_environment() {
        assert!(Supervisor::find(&env(&[("WATCHDOG_USEC", "5")]), 7).unwrap().to.is_none());
        for (name, good) in [("/run/x", true), ("@x", true), ("x", false), ("vsock:2:1", false), (&format!("/{}", "x".repeat(200)), false)]
        {
            assert_eq!(Supervisor::find(&env(&[("NOTIFY_SOCKET", name)]), 7).is_ok(), good, "{name}");
        }
    }

    #[test]
    fn the_watchdog_counts_for_the_process_that_it_names() {
        for (usec, pid, expected) in [
            ("3000000", "", Ok(Some(Duration::from_secs(3)))),
            ("3000000", "7", Ok(Some(Duration::from_secs(3)))),
            ("3000000", "8", Ok(None)),
            ("3000000", "x", Ok(None)),
            ("", "7", Ok(None)),
            ("0", "7", Err(())),
            ("-1", "7", Err(())),
            ("soon", "", Err(())),
        ] {
            let got = watchdog(&env(&[("WATCHDOG_USEC", usec), ("WATCHDOG_PID", pid)]), 7);
            assert_eq!(got.map_err(|_| ()), expected, "{usec} {pid}");
        }
    }

    #[test]
    fn a_status_cannot_say_more_than_a_status() {
        let name = format!("oxios-notify-{}", std::process::id());
        let ear = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let supervisor = Supervisor::find(&env(&[("NOTIFY_SOCKET", &format!("@{name}"))]), 7).unwrap();
        supervisor.ready(format_args!("at unix:/a\nWATCHDOG=1"));
        let mut heard = [0; 100];
        let n = ear.recv(&mut heard).unwrap();
        assert_eq!(std::str::from_utf8(&heard[..n]), Ok("READY=1\nSTATUS=at unix:/a?WATCHDOG=1"));
    }
}
