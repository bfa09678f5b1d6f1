//! Listening: TCP or a Unix socket, admission before accept, drain with a deadline.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

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
            connections_max: 4096,
            strangers_max: 512,
            strangers_per_peer_max: 64,
            trusted_proxies: Vec::new(),
            drain: Duration::from_secs(30),
        }
    }
}

/// A bound socket; connections wait in the kernel until it is served.
pub struct Listener(());

impl Listener {
    /// Binds. Needs a running tokio runtime.
    pub fn bind(_listen: &Listen) -> io::Result<Self> {
        todo!()
    }
    /// `http://127.0.0.1:4200` with the real port, or `unix:/path`.
    pub fn address(&self) -> String {
        todo!()
    }
}
