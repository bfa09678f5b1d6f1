//! Where a gateway can be reached: what `<home>/address` holds, read again.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use crate::http::client::Target;
use crate::wire::url::{BadUrl, Url};

/// An address that can be connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// TCP.
    Tcp(SocketAddr),
    /// A socket file.
    Unix(PathBuf),
}

impl Place {
    /// Reads `http://127.0.0.1:4200` or `unix:/path`.
    pub fn parse(address: &str) -> Option<Self> {
        if let Some(path) = address.strip_prefix("unix:") {
            return (!path.is_empty()).then(|| Self::Unix(path.into()));
        }
        let mut address: SocketAddr = address.strip_prefix("http://")?.parse().ok()?;
        // "Everywhere" is an address to listen on, not one to call.
        match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
            _ => {}
        }
        Some(Self::Tcp(address))
    }

    /// What stands in `Host`.
    pub fn host(&self) -> String {
        match self {
            Self::Tcp(address) => address.to_string(),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }

    /// The same for the outgoing client.
    ///
    /// # Errors
    /// An address that no URL can hold (an IPv6 one with a zone).
    pub fn target(&self) -> Result<Target, BadUrl> {
        Ok(match self {
            Self::Tcp(address) => Target::Url(Url::parse(&format!("http://{address}"))?),
            Self::Unix(path) => Target::Unix { path: path.clone(), host: self.host() },
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        for (text, expected) in [
            ("http://127.0.0.1:4200", Some("http://127.0.0.1:4200")),
            ("http://0.0.0.0:80", Some("http://127.0.0.1:80")),
            ("http://[::]:80", Some("http://[::1]:80")),
            ("http://[fe80::1]:80", Some("http://[fe80::1]:80")),
            ("unix:/run/ox", Some("unix:/run/ox")),
            ("unix:", None),
            ("http://evil.example:80", None),
            ("", None),
        ] {
            assert_eq!(Place::parse(text).map(|place| place.to_string()).as_deref(), expected, "{text}");
        }
    }
}
