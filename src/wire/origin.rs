//! The `Origin` field (RFC 6454 §7): scheme, host, port.

use crate::wire::host::Host;

/// A web origin; its port is always known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin<'a> {
    /// `https`, else `http`.
    pub secure: bool,
    /// Its host; `port` is filled in from the scheme where it was left out.
    pub host: Host<'a>,
}

impl<'a> Origin<'a> {
    /// Reads `http://host[:port]` or `https://…`. None for `null`, lists, other schemes and anything with a path.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let secure = match scheme {
            s if s.eq_ignore_ascii_case("http") => false,
            s if s.eq_ignore_ascii_case("https") => true,
            _ => return None,
        };
        Some(Self { secure, host: with_port(Host::parse(rest)?, secure) })
    }

    /// A page of this origin that calls `host` over this scheme calls its own server.
    pub fn is_same(&self, host: Host<'_>, secure: bool) -> bool {
        self.secure == secure && self.host == with_port(host, secure)
    }
}

fn with_port(host: Host<'_>, secure: bool) -> Host<'_> {
    Host { port: Some(host.port.unwrap_or(if secure { 443 } else { 80 })), ..host }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_means_scheme_host_and_port() {
        let same = |origin, host| Origin::parse(origin).is_some_and(|o| o.is_same(Host::parse(host).unwrap(), false));
        assert!(same("http://localhost:4200", "localhost:4200"));
        assert!(same("http://LOCALHOST:80", "localhost"));
        assert!(same("HTTP://[::1]:4200", "[::1]:4200"));
        for (origin, host) in [
            ("https://localhost:4200", "localhost:4200"),
            ("http://localhost:4201", "localhost:4200"),
            ("http://localhost", "localhost:4200"),
            ("http://127.0.0.1:4200", "localhost:4200"),
            ("http://localhost.evil.example:4200", "localhost:4200"),
            ("null", "localhost:4200"),
            ("", "localhost:4200"),
            ("http://localhost:4200/", "localhost:4200"),
            ("http://a@localhost:4200", "localhost:4200"),
            ("http://localhost:4200 http://evil.example", "localhost:4200"),
            ("file://", "localhost:4200"),
        ] {
            assert!(!same(origin, host), "{origin}");
        }
    }
}
