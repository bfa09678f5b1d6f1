//! Shutting the process in by landlock(7): from then on it opens only the files and reaches only the TCP ports that its rules name,
//! whoever it runs as, and nothing lifts that again. Linux has it since 5.13, where it is built in and not switched off.
//!
//! What each version of the interface can hold: 1 files (5.13), 2 moves between directories (5.19; before, they are refused
//! altogether), 3 cutting files short (6.2), 4 TCP ports (6.7), 5 commands to devices (6.10), 6 signals and abstract sockets (6.12).
//! What a kernel cannot hold stays open; [`State`] tells. None of them holds UDP, or connections to sockets in the file system.
//!
//! SECURITY: what was open before stays open: standard streams, the listening socket, descriptors of `/proc`. A thread that was there
//! before stays outside; hence the caller has none.

use std::collections::BTreeSet;
use std::path::PathBuf;

/// What may be done to the files beneath a directory, or to a file. Nothing of it runs programs or makes devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// They may be removed: a socket file when its server goes.
    Remove,
    /// They may be read and listed.
    Read,
    /// They may be read, made, changed, moved and removed.
    Change,
}

/// What is let through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Paths as they are meant: links in them are followed, once. One that is not there is left out.
    pub files: BTreeSet<(PathBuf, Access)>,
    /// Ports that may be connected to, at any address. None may be listened on.
    pub ports: BTreeSet<u16>,
    /// Abstract sockets of other processes may be connected to.
    pub abstract_sockets: bool,
}

/// Whether the process is shut in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It is.
    On {
        /// The version of the interface, of those that we know.
        version: u32,
        /// The ports that may be connected to; none where the kernel cannot hold them.
        ports: Option<BTreeSet<u16>>,
    },
    /// It is not; why.
    Off(String),
}

impl State {
    /// It is shut in.
    pub fn is_on(&self) -> bool {
        matches!(self, Self::On { .. })
    }
}

/// The version of the interface that this build and this kernel share.
///
/// # Errors
/// Why there is none, in words.
pub fn version() -> Result<u32, String> {
    imp::version()
}

/// Shuts this thread, and all that it starts from now on, in. `newest` is the newest version of the interface to use; [`version`]
/// says which there is.
///
/// # Errors
/// It is not shut in; why, in words. It may nevertheless have lost the right to gain rights by programs that it starts.
pub fn shut_in(rules: &Rules, newest: u32) -> Result<State, String> {
    imp::shut_in(rules, newest)
}

#[cfg(not(feature = "landlock"))]
mod imp {
    use super::{Rules, State};

    const NOT_BUILT: &str = "this build has no sandbox (feature `landlock` is off)";

    pub(super) fn version() -> Result<u32, String> {
        Err(NOT_BUILT.to_owned())
    }

    pub(super) fn shut_in(_: &Rules, _: u32) -> Result<State, String> {
        Err(NOT_BUILT.to_owned())
    }
}

#[cfg(feature = "landlock")]
mod imp {
    use std::io;
    use std::os::fd::AsFd;

    use rustix::fs::{FileType, Mode, OFlags, fstat, open};
    use rustix::io::Errno;

    use super::{Access, Rules, State};
    use crate::sys::os::landlock::{self, Handled};

    /// The newest version whose rights are listed here.
    const KNOWN: u32 = 6;

    // linux/landlock.h.
    const EXECUTE: u64 = 1;
    const WRITE_FILE: u64 = 1 << 1;
    const READ_FILE: u64 = 1 << 2;
    const READ_DIR: u64 = 1 << 3;
    const REMOVE_DIR: u64 = 1 << 4;
    const REMOVE_FILE: u64 = 1 << 5;
    const MAKE_CHAR: u64 = 1 << 6;
    const MAKE_DIR: u64 = 1 << 7;
    const MAKE_REG: u64 = 1 << 8;
    const MAKE_SOCK: u64 = 1 << 9;
    const MAKE_FIFO: u64 = 1 << 10;
    const MAKE_BLOCK: u64 = 1 << 11;
    const MAKE_SYM: u64 = 1 << 12;
    const REFER: u64 = 1 << 13;
    const TRUNCATE: u64 = 1 << 14;
    const IOCTL_DEV: u64 = 1 << 15;
    const BIND_TCP: u64 = 1;
    const CONNECT_TCP: u64 = 1 << 1;
    const SCOPE_ABSTRACT_SOCKETS: u64 = 1;
    const SCOPE_SIGNALS: u64 = 1 << 1;

    const FILES_FIRST: u64 = EXECUTE
        | WRITE_FILE
        | READ_FILE
        | READ_DIR
        | REMOVE_DIR
        | REMOVE_FILE
        | MAKE_CHAR
        | MAKE_DIR
        | MAKE_REG
        | MAKE_SOCK
        | MAKE_FIFO
        | MAKE_BLOCK
        | MAKE_SYM;
    /// Rights that a file itself can have; the others are a directory's.
    const OF_A_FILE: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;

    pub(super) fn version() -> Result<u32, String> {
        match landlock::version() {
            Ok(version) => Ok(version.min(KNOWN)),
            Err(e) => Err(match Errno::from_io_error(&e) {
                Some(Errno::NOSYS) => "the kernel has no Landlock (Linux 5.13 or newer with CONFIG_SECURITY_LANDLOCK)".to_owned(),
                Some(Errno::OPNOTSUPP) => "Landlock is switched off in the kernel (boot it with lsm=landlock,…)".to_owned(),
                Some(Errno::PERM) => "a filter of system calls around this process does not let Landlock through".to_owned(),
                _ => format!("the kernel does not tell its version of Landlock: {e}"),
            }),
        }
    }

    /// Everything that a version can hold.
    fn handled(version: u32, rules: &Rules) -> Handled {
        let from = |first: u32, rights: u64| if version >= first { rights } else { 0 };
        Handled {
            files: FILES_FIRST | from(2, REFER) | from(3, TRUNCATE) | from(5, IOCTL_DEV),
            ports: from(4, BIND_TCP | CONNECT_TCP),
            scoped: from(6, SCOPE_SIGNALS | if rules.abstract_sockets { 0 } else { SCOPE_ABSTRACT_SOCKETS }),
        }
    }

    fn rights(access: Access) -> u64 {
        match access {
            Access::Remove => REMOVE_FILE,
            Access::Read => READ_FILE | READ_DIR,
            Access::Change => READ_FILE | READ_DIR | WRITE_FILE | TRUNCATE | MAKE_REG | MAKE_DIR | REMOVE_FILE | REMOVE_DIR | REFER,
        }
    }

    pub(super) fn shut_in(rules: &Rules, newest: u32) -> Result<State, String> {
        let version = version()?.min(newest);
        let handled = handled(version, rules);
        let failed = |what: &str| {
            let what = what.to_owned();
            move |e: io::Error| format!("{what}: {e}")
        };
        let ruleset = landlock::ruleset(handled).map_err(failed("no rules can be made"))?;
        for (path, access) in &rules.files {
            // It is opened for what it is, not for what is in it.
            let place = match open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
                Ok(place) => place,
                // What is to be changed is there; what is only read may be missing, or beyond our rights anyway.
                Err(e) if *access == Access::Change => return Err(format!("{}: {e}", path.display())),
                Err(_) => continue,
            };
            let stat = fstat(&place).map_err(|e| format!("{}: {e}", path.display()))?;
            let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            let allowed = rights(*access) & handled.files & if is_dir { u64::MAX } else { OF_A_FILE };
            landlock::allow_beneath(&ruleset, allowed, place.as_fd()).map_err(failed(&path.display().to_string()))?;
        }
        if handled.ports != 0 {
            for port in &rules.ports {
                landlock::allow_port(&ruleset, CONNECT_TCP, *port).map_err(failed(&format!("port {port}")))?;
            }
        }
        // The kernel asks for it, so that no program can be started that has rights and does not know that it is shut in.
        rustix::thread::set_no_new_privs(true).map_err(|e| format!("no_new_privs: {e}"))?;
        landlock::restrict_self(&ruleset).map_err(failed("the kernel does not shut this process in"))?;
        Ok(State::On { version, ports: (handled.ports != 0).then(|| rules.ports.clone()) })
    }
}

#[cfg(test)]
#[cfg(feature = "landlock")]
mod tests {
    use std::fs;
    use std::io::{self, ErrorKind::PermissionDenied};
    use std::net::{TcpListener, TcpStream};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    use std::path::Path;

    use super::*;

    /// Does it in a thread of its own, shut in; nothing where this kernel has no such version.
    #[allow(clippy::print_stdout, reason = "what was not tried is said")]
    fn within(rules: Rules, newest: u32, then: impl FnOnce() + Send + 'static) {
        match version() {
            Ok(version) if version >= newest => {}
            Ok(version) => return println!("SKIPPED landlock {newest}: the kernel has {version}"),
            Err(why) => return println!("SKIPPED landlock {newest}: {why}"),
        }
        let shut = std::thread::spawn(move || {
            assert!(shut_in(&rules, newest).unwrap().is_on());
            assert!(rustix::thread::no_new_privs().unwrap());
            then();
        });
        shut.join().unwrap();
    }

    fn place(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("oxios-landlock-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        for sub in ["home/a", "home/b", "read", "out"] {
            fs::create_dir_all(dir.join(sub)).unwrap();
        }
        for file in ["home/a/f", "read/f", "out/f"] {
            fs::write(dir.join(file), file).unwrap();
        }
        dir
    }

    fn rules(dir: &Path) -> Rules {
        let files = [(dir.join("home"), Access::Change), (dir.join("read"), Access::Read), (dir.join("missing"), Access::Read)];
        Rules { files: files.into(), ..Rules::default() }
    }

    fn denied<T>(done: io::Result<T>) -> bool {
        done.is_err_and(|e| e.kind() == PermissionDenied)
    }

    #[test]
    fn what_the_rules_name_works_and_nothing_else() {
        for newest in 1..=6 {
            let dir = place(&newest.to_string());
            let at = dir.clone();
            within(rules(&dir), newest, move || {
                let (home, out) = (at.join("home"), at.join("out"));
                fs::write(home.join("a/new"), "long").unwrap();
                fs::rename(home.join("a/new"), home.join("a/newer")).unwrap();
                fs::File::options().write(true).open(home.join("a/newer")).unwrap().set_len(1).unwrap();
                fs::create_dir(home.join("c")).unwrap();
                fs::remove_dir(home.join("c")).unwrap();
                assert_eq!(fs::read_dir(home.join("a")).unwrap().count(), 2);
                fs::remove_file(home.join("a/newer")).unwrap();
                fs::File::open(&home).unwrap().sync_all().unwrap();
                // Linux 5.13 to 5.18 allow no move to another directory at all.
                assert_eq!(fs::rename(home.join("a/f"), home.join("b/f")).is_ok(), newest >= 2);
                assert_eq!(fs::read(at.join("read/f")).unwrap(), b"read/f");

                assert!(denied(fs::read(out.join("f"))) && denied(fs::read_dir(&out)) && denied(fs::read("/etc/passwd")));
                assert!(denied(fs::write(out.join("new"), "")) && denied(fs::remove_file(out.join("f"))));
                assert!(denied(fs::write(at.join("read/f"), "")) && denied(fs::create_dir(at.join("read/new"))));
                assert!(denied(std::os::unix::fs::symlink("/etc", home.join("link"))));
                assert!(denied(std::process::Command::new("/bin/true").status()));
                // That it is there is no secret.
                assert!(out.join("f").is_file());
            });
            assert_eq!(fs::read(dir.join("out/f")).unwrap(), b"out/f");
            fs::remove_dir_all(dir).unwrap();
        }
    }

    #[test]
    fn a_way_out_by_a_link_is_none() {
        let dir = place("link");
        std::os::unix::fs::symlink(dir.join("out"), dir.join("home/link")).unwrap();
        let at = dir.clone();
        within(rules(&dir), 1, move || assert!(denied(fs::read(at.join("home/link/f")))));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn ports_that_are_not_named_are_not_reached() {
        let [one, other] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let (named, unnamed) = (one.local_addr().unwrap(), other.local_addr().unwrap());
        let rules = || Rules { ports: [named.port()].into(), ..Rules::default() };
        within(rules(), 4, move || {
            TcpStream::connect(named).unwrap();
            assert!(denied(TcpStream::connect(unnamed)) && denied(TcpListener::bind("127.0.0.1:0")));
            // What listened before still does.
            one.accept().unwrap();
        });
        within(rules(), 3, move || drop(TcpStream::connect(unnamed).unwrap()));
        assert!(matches!(version(), Err(_) | Ok(1..=3)) || TcpStream::connect(unnamed).is_ok(), "another thread is not shut in");
    }

    #[test]
    fn abstract_sockets_of_others_are_reached_where_the_rules_say_so() {
        let address = SocketAddr::from_abstract_name(format!("oxios-landlock-{}", std::process::id())).unwrap();
        let _ear = UnixDatagram::bind_addr(&address).unwrap();
        for allowed in [false, true] {
            let (rules, address) = (Rules { abstract_sockets: allowed, ..Rules::default() }, address.clone());
            within(rules, 6, move || {
                let sent = UnixDatagram::unbound().unwrap().send_to_addr(b"x", &address);
                assert_eq!(sent.is_ok(), allowed, "{sent:?}");
            });
        }
    }

    #[test]
    fn a_kernel_that_refuses_is_told() {
        let dir = place("layers");
        let (missing, full) = (Rules { files: [(dir.join("none"), Access::Change)].into(), ..Rules::default() }, rules(&dir));
        within(Rules::default(), 1, move || {
            assert!(shut_in(&missing, 1).unwrap_err().contains("none"));
            // A process can be shut in sixteen times.
            let answers: Vec<_> = (1..=16).map(|_| shut_in(&Rules::default(), 1)).collect();
            assert!(answers[15].as_ref().unwrap_err().contains("does not shut this process in"));
            assert!(shut_in(&full, 1).is_err());
        });
        fs::remove_dir_all(dir).unwrap();
    }
}
