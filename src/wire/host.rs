//! The `Host` field (RFC 9110 §7.2, RFC 3986 §3.2.2), read strictly: what two parsers could read differently is no host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a `Host` field names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host<'a> {
    /// The name or address.
    pub name: Name<'a>,
    /// The port, where one is written.
    pub port: Option<u16>,
}

/// A host without its port.
#[derive(Debug, Clone, Copy)]
pub enum Name<'a> {
    /// A registered name; compared without regard to case and to one dot at its end.
    Dns(&'a str),
    /// An address; an IPv4-mapped IPv6 address is the IPv4 address.
    Ip(IpAddr),
}

/// A DNS name has at most 253 octets (RFC 1035 §2.3.4).
const NAME_BYTES_MAX: usize = 253;

impl<'a> Host<'a> {
    /// Reads `name`, `name:port`, `1.2.3.4:port`, `[::1]:port`. None for anything else: empty, `a,b`, `user@host`,
    /// `host/path`, an empty port, spaces, percent escapes.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (name, port) = if let Some(rest) = text.strip_prefix('[') {
            let (inside, after) = rest.split_once(']')?;
            // RFC 6874 zone ids and RFC 3986 "vFuture" are not in use here.
            let ip: Ipv6Addr = inside.parse().ok()?;
            let port = if after.is_empty() { None } else { Some(after.strip_prefix(':')?) };
            (Name::Ip(IpAddr::V6(ip).to_canonical()), port)
        } else {
            let (name, port) = match text.split_once(':') {
                Some((name, port)) => (name, Some(port)),
                None => (text, None),
            };
            let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
            if name.is_empty() || name.len() > NAME_BYTES_MAX || name.starts_with('.') || !name.bytes().all(good) {
                return None;
            }
            (name.parse::<Ipv4Addr>().map_or(Name::Dns(name), |ip| Name::Ip(IpAddr::V4(ip))), port)
        };
        let port = match port {
            Some(text) => Some(parse_port(text)?),
            None => None,
        };
        Some(Self { name, port })
    }

    /// `localhost`, 127.0.0.0/8 or `::1`: names that no foreign DNS server can point elsewhere.
    pub fn is_loopback(&self) -> bool {
        match self.name {
            Name::Ip(ip) => ip.is_loopback(),
            Name::Dns(_) => self.name == Name::Dns("localhost"),
        }
    }

    /// This host is the listed one; a listed one without a port allows every port.
    pub fn is_listed(&self, listed: &Host<'_>) -> bool {
        self.name == listed.name && (listed.port.is_none() || listed.port == self.port)
    }
}

impl PartialEq for Name<'_> {
    fn eq(&self, other: &Self) -> bool {
        fn bare(name: &str) -> &str {
            name.strip_suffix('.').unwrap_or(name)
        }
        match (self, other) {
            (Self::Dns(a), Self::Dns(b)) => bare(a).eq_ignore_ascii_case(bare(b)),
            (Self::Ip(a), Self::Ip(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Name<'_> {}

/// 1 to 5 digits without a sign, at most 65535.
fn parse_port(text: &str) -> Option<u16> {
    let digits = (1..=5).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(text: &str) -> Option<Option<u16>> {
        Host::parse(text).map(|h| h.port)
    }

    #[test]
    fn what_is_a_host() {
        assert_eq!(port("localhost"), Some(None));
        assert_eq!(port("LOCALHOST.:80"), Some(Some(80)));
        assert_eq!(port("127.0.0.1:4200"), Some(Some(4200)));
        assert_eq!(port("[::1]"), Some(None));
        assert_eq!(port("[::1]:65535"), Some(Some(65535)));
        assert_eq!(port("my_box-1.lan"), Some(None));
    }

    #[test]
    fn what_is_no_host() {
        for bad in [
            "",
            ":80",
            "a,b",
            "user@host",
            "host/path",
            "host:",
            "host:80:80",
            "host:+80",
            "host:65536",
            "host:000080",
            "a b",
            "a%2eb",
            "[::1",
            "[::1]x",
            "[::1]:",
            "[fe80::1%25eth0]",
            "::1",
            ".host",
            "h\u{f6}st",
            "host\\x",
            "host#",
            "host?x",
            "a\tb",
            "[v1.x]",
        ] {
            assert_eq!(Host::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn loopback_is_a_name_nobody_can_point_elsewhere() {
        for (text, is) in [
            ("localhost", true),
            ("LocalHost.:1", true),
            ("127.8.9.1", true),
            ("[::1]:4200", true),
            ("[::ffff:127.0.0.1]", true),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("0.0.0.0", false),
            ("10.0.0.1", false),
            ("0x7f.1", false),
        ] {
            assert_eq!(Host::parse(text).unwrap().is_loopback(), is, "{text}");
        }
    }

    #[test]
    fn a_listed_port_is_part_of_the_listing() {
        let is = |host, listed| Host::parse(host).unwrap().is_listed(&Host::parse(listed).unwrap());
        assert!(is("Box.Lan:80", "box.lan"));
        assert!(is("box.lan:80", "box.lan:80"));
        assert!(!is("box.lan", "box.lan:80"));
        assert!(!is("xbox.lan", "box.lan"));
    }
}
