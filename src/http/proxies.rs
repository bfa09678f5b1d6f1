//! Proxies in front that we believe (`gateway.trusted_proxies`): who they are, and who is behind them.

use std::net::IpAddr;

use hyper::HeaderMap;
use hyper::header::HeaderValue;

use crate::http::peer::Peer;
use crate::wire::forwarded;

/// Proxies that tell the truth about their clients.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    addresses: Vec<IpAddr>,
    /// Whoever may open our Unix socket is one.
    unix: bool,
}

impl TrustedProxies {
    /// From addresses and the word `unix`; none where one of them is neither.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut all = Self::default();
        for text in texts {
            match text {
                "unix" => all.unix = true,
                text => all.addresses.push(text.parse::<IpAddr>().ok()?.to_canonical()),
            }
        }
        Some(all)
    }

    /// The other end of a connection is such a proxy.
    pub fn trusts(&self, peer: Peer) -> bool {
        peer.ip().map_or(self.unix, |ip| self.addresses.contains(&ip))
    }

    /// The client that a request of such a proxy comes from, as far as that can be believed (`wire::forwarded`). Only for requests of
    /// [`Self::trusts`]: from anybody else the fields are a stranger's word.
    pub fn client(&self, headers: &HeaderMap) -> Option<IpAddr> {
        let fields = |name: &str| headers.get_all(name).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
        forwarded::client(&fields("x-forwarded-for"), &fields("forwarded"), |ip| self.addresses.contains(&ip))
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
}
