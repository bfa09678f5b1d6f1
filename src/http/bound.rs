//! A bound socket: clients wait in the kernel until it is served. It needs no runtime, so that it can be there before any thread is.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::sys::handed::Handed;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// An address; port 0 picks a free one.
    Tcp(SocketAddr),
    /// A socket file (0600); one that nobody answers on is replaced.
    Unix(PathBuf),
}

impl Listen {
    /// `ADDR:PORT` or `unix:/path`.
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("unix:") {
            Some("") => None,
            Some(path) => Some(Self::Unix(path.into())),
            None => text.parse().ok().map(Self::Tcp),
        }
    }
}

/// Connections that the kernel keeps for us while we are busy or full. Whoever finds its queue full tries again after a second, which is
/// longer than it takes to come through a queue of this length.
const BACKLOG: i32 = 4096;

/// A socket that listens.
#[derive(Debug)]
pub struct Bound {
    socket: Handed,
    /// Removed when it goes; none where it is another's.
    file: Option<SocketFile>,
}

/// A socket's name in the file system.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Bound {
    /// Binds and listens. A Unix socket file that nobody answers on is replaced.
    pub fn to(listen: &Listen) -> io::Result<Self> {
        match listen {
            Listen::Tcp(at) => {
                // With SO_REUSEADDR: a restart does not wait for the kernel to forget old connections.
                let listener = TcpListener::bind(at)?;
                // The standard library's backlog is shorter.
                rustix::net::listen(&listener, BACKLOG)?;
                Ok(Self { socket: Handed::Tcp(listener), file: None })
            }
            Listen::Unix(path) => Ok(Self { socket: Handed::Unix(bind_unix(path)?), file: Some(SocketFile(path.clone())) }),
        }
    }

    /// A socket that somebody else has opened, and keeps open.
    pub fn handed(socket: Handed) -> Self {
        Self { socket, file: None }
    }

    /// `http://127.0.0.1:4200` with the real port, or `unix:/path`.
    pub fn address(&self) -> io::Result<String> {
        match &self.socket {
            Handed::Tcp(listener) => Ok(format!("http://{}", listener.local_addr()?)),
            Handed::Unix(listener) => {
                let name = listener.local_addr()?;
                Ok(format!("unix:{}", name.as_pathname().unwrap_or(Path::new("")).display()))
            }
        }
    }

    /// Its TCP port; none where it has none.
    pub fn port(&self) -> Option<u16> {
        match &self.socket {
            Handed::Tcp(listener) => listener.local_addr().ok().map(|at| at.port()),
            Handed::Unix(_) => None,
        }
    }

    /// The socket file that will be removed.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_ref().map(|file| file.0.as_path())
    }

    pub(super) fn into_parts(self) -> (Handed, Option<SocketFile>) {
        (self.socket, self.file)
    }
}

fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    // The file is born 0600: between bind and chmod somebody could slip in. The mask is the process's; nothing else
    // makes files while we start to listen.
    let mask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let bound = UnixListener::bind(path).or_else(|error| {
        // What is left of a process that was killed: a socket on which nobody answers.
        let stale = error.kind() == io::ErrorKind::AddrInUse
            && std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket())
            && std::os::unix::net::UnixStream::connect(path).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused);
        if !stale {
            return Err(error);
        }
        std::fs::remove_file(path)?;
        UnixListener::bind(path)
    });
    rustix::process::umask(mask);
    bound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to_listen() {
        assert_eq!(Listen::parse("127.0.0.1:0"), Some(Listen::Tcp(([127, 0, 0, 1], 0).into())));
        assert_eq!(Listen::parse("unix:/run/x"), Some(Listen::Unix("/run/x".into())));
        for bad in ["", "unix:", "4200", "localhost:4200", "127.0.0.1"] {
            assert_eq!(Listen::parse(bad), None, "{bad}");
        }
    }
}
