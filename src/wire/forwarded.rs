//! Whom a request comes from, as the proxies on its way tell: `Forwarded` (RFC 7239) and `X-Forwarded-For`.
//!
//! Each proxy writes the peer that it saw behind what is there already. So the fields are read from right to left, and only as far as
//! trusted proxies wrote them: the first address that is none of theirs is the client, and what stands left of it is the client's own word.

use std::net::IpAddr;

use crate::wire::field;
use crate::wire::host::{Host, Name};

/// What a proxy wrote of the peer that it saw; none where it does not tell (`unknown`, `_name`) or nobody can read it.
type Hop = Option<IpAddr>;

/// The client's address, from the fields of a request that a trusted proxy sent, each in their order. None where they tell nothing that
/// can be believed: then the proxy stands for whoever is behind it.
///
/// A proxy writes one kind of field and may hand on the other as its client sent it. Which it writes is not known here, so where there
/// are both they must say the same.
pub fn client(x_forwarded_for: &[&[u8]], forwarded: &[&[u8]], is_trusted: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let old = || {
        let hops = x_forwarded_for.iter().rev().flat_map(|value| value.rsplit(|b| *b == b',')).map(address);
        first_foreign(hops, &is_trusted)
    };
    let new = || first_foreign(forwarded.iter().rev().flat_map(|value| hops(value).into_iter().rev()), &is_trusted);
    match (x_forwarded_for.is_empty(), forwarded.is_empty()) {
        (true, true) => None,
        (false, true) => old(),
        (true, false) => new(),
        (false, false) => old().filter(|old| new() == Some(*old)),
    }
}

/// From the last hop on: the first that is no trusted proxy. Behind a hop that nobody can read, the last readable one stands for it.
fn first_foreign(hops: impl Iterator<Item = Hop>, is_trusted: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let mut last = None;
    for hop in hops {
        let Some(ip) = hop else { break };
        last = Some(ip);
        if !is_trusted(ip) {
            break;
        }
    }
    last
}

/// One entry of `X-Forwarded-For`: an address, with a port where a proxy adds it.
fn address(text: &[u8]) -> Hop {
    let text = std::str::from_utf8(text).ok()?.trim_matches([' ', '\t']);
    text.parse::<IpAddr>().ok().map(|ip| ip.to_canonical()).or_else(|| node(text))
}

/// `1.2.3.4`, `1.2.3.4:80`, `[::1]`, `[::1]:80` (RFC 7239 §6); IPv4-mapped IPv6 unmapped.
fn node(text: &str) -> Hop {
    match Host::parse(text)?.name {
        Name::Ip(ip) => Some(ip),
        Name::Dns(_) => None,
    }
}

/// The hops of one `Forwarded` field; one that nobody can read where a quote is not closed, since then nobody knows where hops end.
fn hops(value: &[u8]) -> Vec<Hop> {
    let mut hops = Vec::new();
    let mut rest = Some(value);
    while let Some(value) = rest {
        let Some((element, behind)) = split(value, b',') else { return vec![None] };
        if !element.trim_ascii().is_empty() {
            hops.push(whom(element));
        }
        rest = behind;
    }
    hops
}

/// What one element says in `for=`; none where that is missing, there twice, or the element is not well formed.
fn whom(element: &[u8]) -> Hop {
    let mut found = None;
    let mut rest = Some(element);
    while let Some(element) = rest {
        let (pair, behind) = split(element, b';')?;
        rest = behind;
        let pair = std::str::from_utf8(pair).ok()?.trim_matches([' ', '\t']);
        if pair.is_empty() {
            continue;
        }
        let (name, value) = pair.split_once('=').filter(|(name, _)| field::is_token(name))?;
        let value = unquoted(value)?;
        if name.eq_ignore_ascii_case("for") && found.replace(value).is_some() {
            return None;
        }
    }
    node(&found?)
}

/// A token, or what a quoted string holds (RFC 9110 §5.6.4).
fn unquoted(value: &str) -> Option<String> {
    let Some(inside) = value.strip_prefix('"') else { return field::is_token(value).then(|| value.to_owned()) };
    let (mut text, mut escaped) = (String::new(), false);
    let mut letters = inside.chars();
    loop {
        match letters.next()? {
            letter if escaped => (text, escaped) = (text + letter.encode_utf8(&mut [0; 4]), false),
            '\\' => escaped = true,
            '"' => return letters.as_str().is_empty().then_some(text),
            letter => text.push(letter),
        }
    }
}

/// What stands before the first `mark` that is not quoted, and behind it. None where a quote is not closed.
fn split(bytes: &[u8], mark: u8) -> Option<(&[u8], Option<&[u8]>)> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            byte if !quoted && *byte == mark => {
                let (before, behind) = bytes.split_at_checked(at)?;
                return Some((before, behind.get(1..)));
            }
            _ => {}
        }
    }
    (!quoted).then_some((bytes, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_trusted(ip: IpAddr) -> bool {
        ["10.0.0.1", "10.0.0.2", "2001:db8::1"].iter().any(|text| ip == text.parse::<IpAddr>().unwrap())
    }

    fn told(old: &[&str], new: &[&str]) -> Option<String> {
        let (old, new): (Vec<_>, Vec<_>) = (old.iter().map(|f| f.as_bytes()).collect(), new.iter().map(|f| f.as_bytes()).collect());
        client(&old, &new, is_trusted).map(|ip| ip.to_string())
    }

    #[test]
    fn x_forwarded_for_is_read_from_its_end_as_far_as_proxies_are_trusted() {
        for (fields, client) in [
            (&["1.2.3.4"][..], Some("1.2.3.4")),
            (&["6.6.6.6, 1.2.3.4"], Some("1.2.3.4")),
            (&["6.6.6.6", "1.2.3.4"], Some("1.2.3.4")),
            (&["6.6.6.6, 1.2.3.4, 10.0.0.2"], Some("1.2.3.4")),
            (&["6.6.6.6,1.2.3.4", "10.0.0.2 , 10.0.0.1"], Some("1.2.3.4")),
            (&["10.0.0.1, 1.2.3.4"], Some("1.2.3.4")),
            (&["1.2.3.4:5678"], Some("1.2.3.4")),
            (&["2001:db8::7"], Some("2001:db8::7")),
            (&["[2001:db8::7]:80"], Some("2001:db8::7")),
            (&["::ffff:1.2.3.4"], Some("1.2.3.4")),
            // A proxy asks by itself.
            (&["10.0.0.2"], Some("10.0.0.2")),
            (&["10.0.0.1, 10.0.0.2"], Some("10.0.0.1")),
            // What nobody can read ends it: the last readable proxy stands for what is behind.
            (&["1.2.3.4, nonsense, 10.0.0.2"], Some("10.0.0.2")),
            (&["1.2.3.4, unknown"], None),
            (&["1.2.3.4,"], None),
            (&[""], None),
            (&["1.2.3.4\t\r"], None),
            (&["01.2.3.4"], None),
            (&["1.2.3.4.5", "fe80::1%eth0", "\u{ff11}.2.3.4"], None),
            (&[], None),
        ] {
            assert_eq!(told(fields, &[]).as_deref(), client, "{fields:?}");
        }
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_writes_it() {
        for (fields, client) in [
            (&["for=1.2.3.4"][..], Some("1.2.3.4")),
            (&["For=\"1.2.3.4:47\";proto=https;by=10.0.0.1"], Some("1.2.3.4")),
            (&["proto=http; for=\"[2001:db8:cafe::17]:4711\""], Some("2001:db8:cafe::17")),
            (&["for=6.6.6.6, for=1.2.3.4, for=10.0.0.2"], Some("1.2.3.4")),
            (&["for=6.6.6.6", "for=1.2.3.4,, for=\"[2001:db8::1]\""], Some("1.2.3.4")),
            (&["for=\"1.2.\\3.4\""], Some("1.2.3.4")),
            (&["for=6.6.6.6;x=\",\", for=1.2.3.4"], Some("1.2.3.4")),
            (&["for=1.2.3.4, for=unknown"], None),
            (&["for=_hidden"], None),
            (&["for=1.2.3.4, by=10.0.0.1"], None),
            (&["for=1.2.3.4;for=6.6.6.6"], None),
            (&["for = 1.2.3.4"], None),
            (&["for=1.2.3.4 x"], None),
            (&["for=\"1.2.3.4\"x"], None),
            (&["for=2001:db8::7"], None),
            (&["for=\"2001:db8::7\""], None),
            // A quote that the client leaves open would swallow what the proxy wrote.
            (&["for=6.6.6.6;x=\", for=1.2.3.4"], None),
            (&["for=6.6.6.6;x=\", for=\"[2001:db8::7]\""], None),
            (&["for=6.6.6.6;x=\"\\, for=\"[2001:db8::7]\""], None),
            (&["for=\"", "for=1.2.3.4"], Some("1.2.3.4")),
            (&["", ","], None),
        ] {
            assert_eq!(told(&[], fields).as_deref(), client, "{fields:?}");
        }
    }

    #[test]
    fn where_both_fields_disagree_the_proxy_stands_for_its_client() {
        assert_eq!(told(&["1.2.3.4"], &["for=1.2.3.4"]).as_deref(), Some("1.2.3.4"));
        for (old, new) in [("1.2.3.4", "for=6.6.6.6"), ("6.6.6.6", "for=_x"), ("", "for=6.6.6.6"), ("6.6.6.6", "\"")] {
            assert_eq!(told(&[old], &[new]), None, "{old} {new}");
        }
    }
}
