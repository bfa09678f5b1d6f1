//! Who is at the other end of a connection.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// The other end of one connection and the end it came in at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A TCP peer.
    Tcp {
        /// The other end.
        from: SocketAddr,
        /// Our end: a `Host` that names it is good.
        at: SocketAddr,
    },
    /// Someone who may open our Unix socket.
    Unix,
}

/// What counts as one peer: an IPv4 address, an IPv6 /64 (one subscriber has at least that much), or the Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PeerKey {
    /// An IPv4 address.
    V4([u8; 4]),
    /// The first 64 bits of an IPv6 address.
    V6([u8; 8]),
    /// The Unix socket.
    Unix,
}

impl Peer {
    /// The peer as limits count it.
    pub fn key(&self) -> PeerKey {
        self.ip().map_or(PeerKey::Unix, PeerKey::of)
    }

    /// The address of the other end, IPv4-mapped IPv6 unmapped; none for a Unix socket.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp { from, .. } => Some(from.ip().to_canonical()),
            Self::Unix => None,
        }
    }

    /// On this machine. A Unix socket is.
    pub fn is_loopback(&self) -> bool {
        self.ip().is_none_or(|ip| ip.is_loopback())
    }
}

impl PeerKey {
    /// Of an address, where IPv4-mapped IPv6 is unmapped.
    pub fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::V4(ip.octets()),
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, g, h, ..] = ip.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip() {
            Some(ip) => fmt::Display::fmt(&ip, f),
            None => f.write_str("unix"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(from: &str) -> Peer {
        Peer::Tcp { from: from.parse().unwrap(), at: "127.0.0.1:4200".parse().unwrap() }
    }

    #[test]
    fn a_mapped_address_is_the_address_it_maps() {
        assert_eq!(tcp("[::ffff:127.0.0.1]:9").key(), tcp("127.0.0.1:8").key());
        assert!(tcp("[::ffff:127.0.0.1]:9").is_loopback());
    }

    #[test]
    fn one_subscriber_of_ipv6_is_one_peer() {
        assert_eq!(tcp("[2001:db8:1:2::1]:9").key(), tcp("[2001:db8:1:2:ffff::9]:9").key());
        assert_ne!(tcp("[2001:db8:1:2::1]:9").key(), tcp("[2001:db8:1:3::1]:9").key());
    }
}
