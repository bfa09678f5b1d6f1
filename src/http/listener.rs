//! Listening: TCP or a Unix socket, admission before accept, drain with a deadline.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

#[cfg(any(test, feature = "fuzzing"))]
use tokio::io::DuplexStream;
use tokio::net::{TcpListener, UnixListener};
#[cfg(any(test, feature = "fuzzing"))]
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::base::cancel::Cancel;
use crate::base::limits::{CONNECTIONS_MAX, DESCRIPTORS_KEPT, STRANGERS_MAX, STRANGERS_PER_PEER_MAX};
use crate::base::log;
use crate::http::connection::{self, Service};
use crate::http::crowd::{Caps, Crowd};
use crate::http::line::Line;
use crate::http::peer::Peer;
use crate::http::socket::Socket;
use crate::sys;

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

/// Limits on connections.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Open connections in all (`gateway.max_connections`).
    pub connections_max: usize,
    /// Those of them that have not authenticated.
    pub strangers_max: usize,
    /// Strangers of one peer.
    pub strangers_per_peer_max: usize,
    /// Peers that the line above does not count (`gateway.trusted_proxies`).
    pub trusted_proxies: Vec<IpAddr>,
    /// Requests that run when the server stops get this long.
    pub drain: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connections_max: CONNECTIONS_MAX,
            strangers_max: STRANGERS_MAX,
            strangers_per_peer_max: STRANGERS_PER_PEER_MAX,
            trusted_proxies: Vec::new(),
            drain: Duration::from_secs(30),
        }
    }
}

impl Settings {
    /// As many connections as descriptors allow, with a warning where that is fewer than wished.
    fn caps(&self, descriptors: Option<u64>) -> Caps {
        let descriptors = descriptors.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        // A very low limit is shared in halves.
        let allowed = descriptors.saturating_sub(DESCRIPTORS_KEPT).max(descriptors / 2);
        let all = self.connections_max.min(allowed).max(1);
        if all < self.connections_max {
            let wished = self.connections_max;
            log::warn("http", format_args!("{descriptors} descriptors allow {all} connections, not {wished}; raise the limit (ulimit -n)"));
        }
        Caps { all, strangers: self.strangers_max.clamp(1, all), strangers_per_peer: self.strangers_per_peer_max.max(1) }
    }
}

/// Waits after an accept that failed for want of descriptors or memory, so that the loop does not spin.
const BACK_OFF: Duration = Duration::from_millis(100);
/// Connections that the kernel keeps for us while we are busy or full.
const BACKLOG: u32 = 1024;

/// After connections have left, the heap is trimmed this much later, so at most that often.
const TRIM_AFTER: Duration = Duration::from_secs(5);

/// A bound socket; connections wait in the kernel until it is served.
pub struct Listener {
    socket: Bound,
    address: String,
}

enum Bound {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        /// Removed when the listener goes.
        _file: SocketFile,
    },
    /// Ends of pipes in memory, and who is said to hold the others.
    #[cfg(any(test, feature = "fuzzing"))]
    Memory(mpsc::Receiver<(DuplexStream, Peer)>),
}

/// Connects to a listener in memory.
#[cfg(any(test, feature = "fuzzing"))]
pub type Dial = mpsc::Sender<(DuplexStream, Peer)>;

/// A socket's name in the file system.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Binds. Needs a running tokio runtime. A Unix socket file that nobody answers on is replaced.
    pub fn bind(listen: &Listen) -> io::Result<Self> {
        match listen {
            Listen::Tcp(at) => {
                let socket = if at.is_ipv6() { tokio::net::TcpSocket::new_v6()? } else { tokio::net::TcpSocket::new_v4()? };
                // A restart does not wait for the kernel to forget old connections.
                socket.set_reuseaddr(true)?;
                socket.bind(*at)?;
                let listener = socket.listen(BACKLOG)?;
                let address = format!("http://{}", listener.local_addr()?);
                Ok(Self { socket: Bound::Tcp(listener), address })
            }
            Listen::Unix(path) => {
                let listener = bind_unix(path)?;
                let address = format!("unix:{}", path.display());
                Ok(Self { socket: Bound::Unix { listener, _file: SocketFile(path.clone()) }, address })
            }
        }
    }

    /// A listener without a socket: what is sent to it is a connection. The whole house can stand on it, without a network.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn memory() -> (Self, Dial) {
        let (dial, connections) = mpsc::channel(1);
        (Self { socket: Bound::Memory(connections), address: "memory".to_owned() }, dial)
    }

    /// `http://127.0.0.1:4200` with the real port, or `unix:/path`.
    pub fn address(&self) -> &str {
        &self.address
    }

    async fn accept(&mut self) -> io::Result<(Socket, Peer)> {
        match &mut self.socket {
            Bound::Tcp(listener) => {
                let (socket, from) = listener.accept().await?;
                // Small frames of a stream leave at once.
                socket.set_nodelay(true)?;
                let at = socket.local_addr()?;
                Ok((Socket::Tcp(socket), Peer::Tcp { from, at }))
            }
            Bound::Unix { listener, .. } => {
                let (socket, _) = listener.accept().await?;
                Ok((Socket::Unix(socket), Peer::Unix))
            }
            #[cfg(any(test, feature = "fuzzing"))]
            Bound::Memory(connections) => match connections.recv().await {
                Some((socket, peer)) => Ok((Socket::Memory(socket), peer)),
                // Nobody can connect any more; the server goes on until it is stopped.
                None => std::future::pending().await,
            },
        }
    }
}

/// Accepts and serves until `stop`; then no new connection is taken, requests that run get `settings.drain`, and what is
/// left after that is cut off. Streams end by themselves when they see `stop`.
pub async fn serve(listener: Listener, settings: Settings, service: Arc<dyn Service>, stop: Cancel) {
    let crowd = Crowd::new(settings.caps(sys::limits::raise_descriptors()));
    tokio::select! {
        () = accept_until(listener, settings, service, stop, &crowd) => {}
        () = trim(&crowd) => {}
    }
}

/// Gives back what connections have left behind, for ever; sleeps while nobody leaves.
async fn trim(crowd: &Crowd) {
    loop {
        crowd.left().await;
        tokio::time::sleep(TRIM_AFTER).await;
        sys::os::trim_heap();
    }
}

async fn accept_until(mut listener: Listener, settings: Settings, service: Arc<dyn Service>, stop: Cancel, crowd: &Arc<Crowd>) {
    // One task a connection; each ends with its connection, or when the set is dropped.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            biased;
            _ = stop.cancelled() => break,
            accepted = async { crowd.room().await; listener.accept().await } => accepted,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                rest(&error, crowd).await;
                continue;
            }
        };
        let trusted = peer.ip().is_some_and(|ip| settings.trusted_proxies.contains(&ip));
        let seat = crowd.admit((!trusted).then(|| peer.key()));
        let id = seat.id();
        let task = connections.spawn(connection::run(socket, Line::new(peer, seat), service.clone(), stop.clone()));
        crowd.served_by(id, task);
    }
    drop(listener);
    if tokio::time::timeout(settings.drain, crowd.empty()).await.is_err() {
        log::warn("http", format_args!("drain: the deadline has passed; open connections are cut off"));
    }
    connections.shutdown().await;
}

/// After an accept that failed: a connection that died in the queue is no reason to wait; a lack of descriptors is, and
/// to let the oldest stranger go.
async fn rest(error: &io::Error, crowd: &Crowd) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, NotConnected};
    if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted | NotConnected) {
        return;
    }
    let room = crowd.make_room();
    log::warn("http", format_args!("accept failed ({error}); {}", if room { "the oldest stranger was let go" } else { "waiting" }));
    tokio::time::sleep(BACK_OFF).await;
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

    #[test]
    fn descriptors_bound_connections() {
        let all = |n| Settings::default().caps(n).all;
        assert_eq!((all(None), all(Some(1 << 20)), all(Some(1024)), all(Some(100))), (4096, 4096, 896, 50));
    }
}
