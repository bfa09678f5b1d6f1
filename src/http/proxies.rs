//! Proxies in front that we believe (`gateway.trusted_proxies`): who they are, and who is behind them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hyper::HeaderMap;
use hyper::header::HeaderValue;

use crate::http::peer::Peer;
use crate::wire::forwarded;

/// Proxies that tell the truth about their clients.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Vec<Network>,
    /// Whoever may open our Unix socket is one.
    unix: bool,
}

impl TrustedProxies {
    /// From addresses, networks (`10.0.0.0/8`) and the word `unix`; none where one of them is neither.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut all = Self::default();
        for text in texts {
            match text {
                "unix" => all.unix = true,
                text => all.networks.push(Network::parse(text)?),
            }
        }
        Some(all)
    }

    /// The other end of a connection is such a proxy.
    pub fn trusts(&self, peer: Peer) -> bool {
        peer.ip().map_or(self.unix, |ip| self.holds(ip))
    }

    fn holds(&self, ip: IpAddr) -> bool {
        self.networks.iter().any(|network| network.holds(ip))
    }

    /// The client that a request of such a proxy comes from, as far as that can be believed (`wire::forwarded`). Only for requests of
    /// [`Self::trusts`]: from anybody else the fields are a stranger's word.
    pub fn client(&self, headers: &HeaderMap) -> Option<IpAddr> {
        let fields = |name: &str| headers.get_all(name).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
        forwarded::client(&fields("x-forwarded-for"), &fields("forwarded"), |ip| self.holds(ip))
    }
}

/// An address, or all that begin with the same bits (RFC 4632 §3.1, RFC 4291 §2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    first: IpAddr,
    prefix_bits: u8,
}

impl Network {
    /// `10.0.0.1`, `10.0.0.0/8`, `fd00::/8`. One whose address has bits behind the prefix is a slip of the pen, and none. An IPv4-mapped
    /// address is the IPv4 address; mapped networks there are none.
    fn parse(text: &str) -> Option<Self> {
        let Some((address, prefix)) = text.split_once('/') else {
            let first = text.parse::<IpAddr>().ok()?.to_canonical();
            return Some(Self { first, prefix_bits: if first.is_ipv4() { 32 } else { 128 } });
        };
        let first: IpAddr = address.parse().ok()?;
        let prefix_bits = prefix.parse().ok().filter(|bits| *bits <= if first.is_ipv4() { 32 } else { 128 })?;
        // "+8" and "08" are numbers to Rust.
        let plain = !prefix.starts_with('+') && (prefix == "0" || !prefix.starts_with('0'));
        let exact = first.to_canonical() == first && first_of(first, prefix_bits) == first;
        (plain && exact).then_some(Self { first, prefix_bits })
    }

    fn holds(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.first.is_ipv4() && first_of(ip, self.prefix_bits) == self.first
    }
}

/// The address with nothing behind its first bits.
fn first_of(ip: IpAddr, bits: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let rest = u32::MAX.checked_shr(bits.into()).unwrap_or(0);
            Ipv4Addr::from_bits(ip.to_bits() & !rest).into()
        }
        IpAddr::V6(ip) => {
            let rest = u128::MAX.checked_shr(bits.into()).unwrap_or(0);
            Ipv6Addr::from_bits(ip.to_bits() & !rest).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_the_socket_can_be_trusted() {
        let tcp = |from: &str| Peer::Tcp { from: from.parse().unwrap(), at: "10.0.0.9:4200".parse().unwrap() };
        let all = TrustedProxies::parse(["10.0.0.1", "::1"]).unwrap();
        for (peer, trusted) in [
            (tcp("10.0.0.1:5"), true),
            (tcp("[::ffff:10.0.0.1]:5"), true),
            (tcp("[::1]:5"), true),
            (tcp("10.0.0.2:5"), false),
            (Peer::Unix, false),
        ] {
            assert_eq!(all.trusts(peer), trusted, "{peer}");
        }
        assert!(TrustedProxies::parse(["unix"]).unwrap().trusts(Peer::Unix));
        assert!(!TrustedProxies::default().trusts(Peer::Unix));
        assert_eq!(TrustedProxies::parse(["10.0.0.1", "proxy"]), None);
    }

    #[test]
    fn a_network_holds_what_begins_with_its_bits() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("172.16.0.0/12", "172.31.255.255", "172.32.0.0"),
            ("10.0.0.4/31", "10.0.0.5", "10.0.0.6"),
            ("10.0.0.4/32", "10.0.0.4", "10.0.0.5"),
            ("0.0.0.0/0", "203.0.113.5", "::1"),
            ("fd00::/8", "fdff::1", "fe00::"),
            ("::/0", "::1", "10.0.0.1"),
            ("::1/128", "::1", "::2"),
            ("::ffff:10.0.0.1", "10.0.0.1", "::ffff"),
        ] {
            let all = TrustedProxies::parse([network]).unwrap();
            assert!(all.holds(inside.parse().unwrap()) && !all.holds(outside.parse().unwrap()), "{network}");
        }
        for bad in [
            "10.0.0.1/8",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/",
            "/8",
            "10.0.0.0/+8",
            "10.0.0.0/08",
            "10.0.0.0/-1",
            "10/8",
            "::ffff:10.0.0.0/104",
            "10.0.0.0/8/8",
            "10.0.0.0/8 ",
            "unix/0",
        ] {
            assert_eq!(TrustedProxies::parse([bad]), None, "{bad}");
        }
    }
}
