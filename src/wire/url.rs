//! `http` and `https` URLs (RFC 3986, RFC 9110 §4.2), as an owner writes them into a configuration.

use std::fmt;

/// How the bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

/// An absolute `http` or `https` URL without user information and fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    scheme: Scheme,
    host: String,
    ipv6: bool,
    port: u16,
    path: String,
    query: Option<String>,
}

/// Why a text is no URL for us; the text of `Display` may be shown and does not repeat the URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadUrl(&'static str);

impl fmt::Display for BadUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for BadUrl {}

/// Longest URL that is read, in bytes; longer ones are mistakes.
pub const URL_BYTES_MAX: usize = 2048;

impl Url {
    /// Reads a URL. Total: any text gives a URL or a reason.
    pub fn parse(text: &str) -> Result<Self, BadUrl> {
        if text.len() > URL_BYTES_MAX {
            return Err(BadUrl("a URL has at most 2048 bytes"));
        }
        if !text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'\\' | b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}')) {
            return Err(BadUrl("a URL has no spaces, control characters, or letters outside ASCII; percent-encode them"));
        }
        let (scheme, rest) = text.split_once("://").ok_or(BadUrl("a URL begins with http:// or https://"))?;
        // RFC 3986 §3.1: schemes are case-insensitive.
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(BadUrl("only http:// and https:// are spoken here")),
        };
        if rest.contains('#') {
            return Err(BadUrl("a URL for a server has no #fragment"));
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);
        // RFC 9110 §4.2.4: user information in an http URL is an error; keys have a setting of their own.
        if authority.contains('@') {
            return Err(BadUrl("no user or password in a URL; keys have a setting of their own"));
        }
        let (host, ipv6, port) = split_authority(authority)?;
        let port = match port {
            None | Some("") => None,
            Some(digits) if digits.len() <= 5 && digits.bytes().all(|b| b.is_ascii_digit()) => match digits.parse::<u16>() {
                Ok(0) | Err(_) => return Err(BadUrl("the port lies between 1 and 65535")),
                Ok(port) => Some(port),
            },
            Some(_) => return Err(BadUrl("the port is a number between 1 and 65535")),
        };
        let (path, query) = match tail.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (tail, None),
        };
        let path = if path.is_empty() { "/".to_owned() } else { path.to_owned() };
        let port = port.unwrap_or(if scheme == Scheme::Https { 443 } else { 80 });
        Ok(Self { scheme, host: host.to_ascii_lowercase(), ipv6, port, path, query })
    }

    /// How the bytes travel.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }
    /// The host: a name in lower case or an address; IPv6 without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }
    /// The port, the scheme's own where none was written.
    pub fn port(&self) -> u16 {
        self.port
    }
    /// The path; at least `/`. Never decoded.
    pub fn path(&self) -> &str {
        &self.path
    }
    /// The query without `?`, where there is one.
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }
    /// What stands in the `Host` field (RFC 9110 §7.2): brackets around IPv6, no default port.
    pub fn authority(&self) -> String {
        let host = if self.ipv6 { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.scheme, self.port) {
            (Scheme::Http, 80) | (Scheme::Https, 443) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
    /// Scheme and authority: what may be shown and logged (a path or query may carry a key).
    pub fn origin(&self) -> String {
        format!("{}://{}", if self.scheme == Scheme::Https { "https" } else { "http" }, self.authority())
    }
    /// Path and query of something beneath this URL: `http://h/v1` with `models` gives `/v1/models`. The query stays.
    pub fn beneath(&self, relative: &str) -> String {
        let path = format!("{}/{relative}", self.path.trim_end_matches('/'));
        match &self.query {
            Some(query) => format!("{path}?{query}"),
            None => path,
        }
    }
    /// Path and query as they stand.
    pub fn path_and_query(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin(), self.path_and_query())
    }
}

/// Host, whether it is IPv6, and the port's text (RFC 3986 §3.2).
fn split_authority(authority: &str) -> Result<(&str, bool, Option<&str>), BadUrl> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, after) = rest.split_once(']').ok_or(BadUrl("an IPv6 address ends with ]"))?;
        // Zone identifiers (RFC 6874) are local to one machine and nothing here needs them.
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(BadUrl("what stands in brackets is no IPv6 address"));
        }
        return match after.strip_prefix(':') {
            Some(port) => Ok((address, true, Some(port))),
            None if after.is_empty() => Ok((address, true, None)),
            None => Err(BadUrl("only :port may follow an address in brackets")),
        };
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    if host.is_empty() {
        return Err(BadUrl("the URL names no host"));
    }
    // Narrower than RFC 3986's reg-name: host names and IPv4 addresses are all that resolve.
    if host.len() > 253 || !host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')) {
        return Err(BadUrl("a host has letters, digits, dots, - and _ (IPv6 addresses stand in brackets)"));
    }
    if host.starts_with(['.', '-']) || host.contains("..") {
        return Err(BadUrl("a host begins with a letter or digit and has no empty part"));
    }
    Ok((host, false, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn good(text: &str, authority: &str, port: u16, path: &str) {
        let url = Url::parse(text).unwrap();
        assert_eq!((url.authority().as_str(), url.port(), url.path_and_query().as_str()), (authority, port, path), "{text}");
        assert_eq!(Url::parse(&url.to_string()), Ok(url), "written and read again: {text}");
    }

    #[test]
    fn urls_of_model_servers_are_read() {
        good("https://api.openai.com/v1", "api.openai.com", 443, "/v1");
        good("http://127.0.0.1:8080/v1/", "127.0.0.1:8080", 8080, "/v1/");
        good("HTTP://Board.Local", "board.local", 80, "/");
        good("http://[::1]:11434/v1", "[::1]:11434", 11434, "/v1");
        good("https://[2001:db8::1]", "[2001:db8::1]", 443, "/");
        good("http://host:80/", "host", 80, "/");
        good("http://host:/", "host", 80, "/");
        good("https://x.example/openai?api-version=1", "x.example", 443, "/openai?api-version=1");
        good("http://llama_cpp:8080?x", "llama_cpp:8080", 8080, "/?x");
    }

    #[test]
    fn what_lies_beneath_keeps_the_query() {
        assert_eq!(Url::parse("http://h/v1/").unwrap().beneath("models"), "/v1/models");
        assert_eq!(Url::parse("http://h").unwrap().beneath("models"), "/models");
        assert_eq!(Url::parse("http://h/v1?k=1").unwrap().beneath("models"), "/v1/models?k=1");
    }

    #[test]
    fn what_is_no_url_is_refused_with_a_reason() {
        for bad in [
            "",
            "127.0.0.1:8080",
            "ftp://h/",
            "file:///etc/passwd",
            "http://",
            "http:///path",
            "http://user:pass@h/",
            "http://h@evil/",
            "http://h:0/",
            "http://h:65536/",
            "http://h:+80/",
            "http://h:8o/",
            "http://[::1/",
            "http://[::1]x/",
            "http://[fe80::1%25eth0]/",
            "http://[127.0.0.1]/",
            "http://::1/",
            "http://a b/",
            "http://h/\r\nX: y",
            "http://h/#f",
            "http://h\\evil/",
            "http://bücher.example/",
            "http://.h/",
            "http://a..b/",
            "http://h%2fevil/",
        ] {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
        assert!(Url::parse(&format!("http://h/{}", "a".repeat(URL_BYTES_MAX))).is_err());
    }
}
