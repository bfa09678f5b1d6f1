//! A socket that was opened for us by who started us (sd_listen_fds(3)): descriptor 3, while `LISTEN_PID` is this process and
//! `LISTEN_FDS` is 1. Its clients wait in the kernel while the server is started or replaced.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use rustix::net::{AddressFamily, SocketType, sockopt};

use crate::sys::os;

/// sd_listen_fds(3): the first descriptor behind standard input, output and error.
const FIRST: i32 = 3;

/// A listening socket from elsewhere.
#[derive(Debug)]
pub enum Handed {
    /// TCP, version 4 or 6.
    Tcp(TcpListener),
    /// A stream socket in the file system; its file belongs to who made it.
    Unix(UnixListener),
}

impl Handed {
    /// The socket that the environment of the process `pid` tells of; `None` where it tells of none. To be asked once, before
    /// anything else has opened files. Programs that are started later do not inherit it.
    ///
    /// # Errors
    /// There is one, but not one that HTTP can be served on, or there are several; the text says what to change.
    pub fn find(env: &BTreeMap<String, String>, pid: u32) -> Result<Option<Self>, String> {
        let Some(names) = wanted(env, pid)? else { return Ok(None) };
        let socket =
            os::take_descriptor(FIRST).map_err(|e| format!("LISTEN_FDS promises descriptor 3{names}, but it cannot be used: {e}"))?;
        Self::of(socket).map(Some).map_err(|why| format!("the socket that was handed over (descriptor 3{names}) {why}"))
    }

    fn of(socket: OwnedFd) -> Result<Self, String> {
        let no = |e: rustix::io::Errno| format!("is no socket that can be asked: {e}");
        let kind = sockopt::socket_type(&socket).map_err(no)?;
        if kind != SocketType::STREAM {
            return Err("is no stream socket; use ListenStream=".to_owned());
        }
        if !sockopt::socket_acceptconn(&socket).map_err(no)? {
            return Err("does not listen; it is one connection. Use Accept=no".to_owned());
        }
        match sockopt::socket_domain(&socket).map_err(no)? {
            AddressFamily::INET | AddressFamily::INET6 => Ok(Self::Tcp(socket.into())),
            AddressFamily::UNIX => {
                let listener = UnixListener::from(socket);
                // `<home>/address` tells `ask` and `healthcheck` where it is.
                match listener.local_addr() {
                    Ok(address) if address.as_pathname().is_some_and(|path| path.is_absolute()) => Ok(Self::Unix(listener)),
                    _ => Err("has no path in the file system; use ListenStream=/a/path".to_owned()),
                }
            }
            _ => Err("is neither TCP nor a Unix socket".to_owned()),
        }
    }
}

/// Whether one socket was handed to this process, and how it is called, for messages.
fn wanted(env: &BTreeMap<String, String>, pid: u32) -> Result<Option<String>, String> {
    let set = |name: &str| env.get(name).map(|text| text.trim()).filter(|text| !text.is_empty());
    let Some(count) = set("LISTEN_FDS") else { return Ok(None) };
    // Variables that a parent was meant for, and passed on.
    if set("LISTEN_PID").and_then(|text| text.parse().ok()) != Some(pid) {
        return Ok(None);
    }
    let names = set("LISTEN_FDNAMES").map_or_else(String::new, |names| format!(", {names:?}"));
    match count.parse::<u32>() {
        Ok(0) => Ok(None),
        Ok(1) => Ok(Some(names)),
        Ok(more) => Err(format!("{more} sockets were handed over{names}; the gateway serves one: leave one ListenStream=")),
        Err(_) => Err(format!("LISTEN_FDS: {count:?} is no number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_socket_for_this_process_is_meant() {
        for (fds, pid, names, expected) in [
            ("", "7", "", Ok(None)),
            ("0", "7", "", Ok(None)),
            ("1", "7", "", Ok(Some(""))),
            ("1", "7", "web", Ok(Some(", \"web\""))),
            ("1", "8", "", Ok(None)),
            ("1", "", "", Ok(None)),
            ("2", "8", "", Ok(None)),
            ("2", "7", "a:b", Err(r#"2 sockets were handed over, "a:b"; the gateway serves one: leave one ListenStream="#)),
            ("-1", "7", "", Err(r#"LISTEN_FDS: "-1" is no number"#)),
        ] {
            let env = [("LISTEN_FDS", fds), ("LISTEN_PID", pid), ("LISTEN_FDNAMES", names)];
            let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
            let expected = expected.map(|names| names.map(str::to_owned)).map_err(str::to_owned);
            assert_eq!(wanted(&env, 7), expected, "{fds} {pid} {names}");
        }
    }

    #[test]
    fn only_a_listening_stream_socket_serves() {
        let why = |fd: OwnedFd| Handed::of(fd).map(|_| ()).unwrap_err();
        assert!(why(std::fs::File::open("/dev/null").unwrap().into()).contains("is no socket"));
        assert!(why(std::net::UdpSocket::bind("127.0.0.1:0").unwrap().into()).contains("ListenStream"));
        assert!(why(std::os::unix::net::UnixStream::pair().unwrap().0.into()).contains("Accept=no"));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(matches!(Handed::of(listener.into()), Ok(Handed::Tcp(_))));
        let name = format!("oxios-handed-{}", std::process::id());
        let address = <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name).unwrap();
        assert!(why(UnixListener::bind_addr(&address).unwrap().into()).contains("ListenStream=/a/path"));
    }
}
