//! What hyper lets through and we do not (THREATS 14): anything that two readers could take for two things is 400, and
//! the connection ends, since nobody knows what the rest of it means.
//!
//! In order: number of fields, method, target form, target length, target bytes, `Transfer-Encoding`, `Host`. (Trailers: where a body
//! is read.)

use hyper::header;
use hyper::http::request::Parts;
use hyper::{Method, Uri};

use crate::base::limits::{HEADER_FIELDS_MAX, TARGET_BYTES_MAX};
use crate::http::error::HttpError;
use crate::http::line;
use crate::wire;
use crate::wire::host::Host;

/// Passes a request that can mean one thing only, with the host it is for.
pub fn pass(request: &Parts) -> Result<Host<'_>, HttpError> {
    if request.headers.len() > HEADER_FIELDS_MAX {
        return Err(line::too_many_fields());
    }
    // RFC 9110 §9.3.6: CONNECT is for proxies.
    if request.method == Method::CONNECT {
        return Err(refused("CONNECT is not for this server"));
    }
    let path = request.uri.path_and_query().map_or("", |p| p.as_str());
    // RFC 9112 §3.2.4: the asterisk form is for OPTIONS of a whole server, which we do not offer.
    if !path.starts_with('/') {
        return Err(refused("the request target must be a path"));
    }
    if path.len() > TARGET_BYTES_MAX {
        return Err(line::too_long());
    }
    // RFC 3986 §2: a target is ASCII; overlong UTF-8 behind percent signs is a way around somebody's filter.
    if !path.is_ascii() || !wire::path::is_well_formed(request.uri.path()) {
        return Err(refused("the request target is not well formed"));
    }
    if !framing_is_plain(request) {
        return Err(refused("the only transfer coding is chunked, once"));
    }
    let host = host(request)?;
    if request.uri.authority().is_some() && !names(&request.uri, host.1) {
        return Err(refused("the request target names another host than Host"));
    }
    Ok(host.0)
}

/// RFC 9112 §6.1: chunked is applied once and last. hyper looks at the last coding only, others along the way may look at the
/// first, and below chunked would lie a body that nobody decodes.
fn framing_is_plain(request: &Parts) -> bool {
    let mut all = request.headers.get_all(header::TRANSFER_ENCODING).iter();
    match (all.next(), all.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

/// RFC 9112 §3.2: exactly one `Host`, well formed; HTTP/1.0 gets no exception.
fn host(request: &Parts) -> Result<(Host<'_>, &str), HttpError> {
    let mut all = request.headers.get_all(header::HOST).iter();
    let (Some(value), None) = (all.next(), all.next()) else {
        return Err(refused("exactly one Host field is needed"));
    };
    let text = value.to_str().map_err(|_| refused("Host is not well formed"))?;
    let host = Host::parse(text).ok_or_else(|| refused("Host is not well formed"))?;
    Ok((host, text))
}

/// RFC 9112 §3.2.2: the absolute form counts more than `Host`; here both must say the same.
fn names(uri: &Uri, host: &str) -> bool {
    let http = uri.scheme_str().is_some_and(|s| s.eq_ignore_ascii_case("http"));
    http && uri.authority().is_some_and(|a| a.as_str().eq_ignore_ascii_case(host))
}

fn refused(public: &'static str) -> HttpError {
    HttpError::bad_request(public).code("ambiguous").closing()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass_with(method: &str, target: &str, hosts: &[&[u8]]) -> Option<u16> {
        let mut request = hyper::Request::builder().method(method).uri(target);
        for host in hosts {
            request = request.header("host", *host);
        }
        let (parts, ()) = request.body(()).ok()?.into_parts();
        Some(pass(&parts).map_or_else(|e| e.status.code().as_u16(), |_| 200))
    }

    #[test]
    fn one_meaning_passes() {
        for (target, host) in
            [("/", "localhost"), ("/a?b=%ff", "127.0.0.1:4200"), ("http://Box.lan:1/a", "box.lan:1"), ("//a", "localhost")]
        {
            assert_eq!(pass_with("GET", target, &[host.as_bytes()]), Some(200), "{target}");
        }
    }

    #[test]
    fn two_meanings_do_not() {
        let cases: &[(&str, &str, &[&[u8]])] = &[
            ("CONNECT", "localhost:80", &[b"localhost:80"]),
            ("GET", "*", &[b"localhost"]),
            ("OPTIONS", "*", &[b"localhost"]),
            ("GET", "/", &[]),
            ("GET", "/", &[b"localhost", b"localhost"]),
            ("GET", "/", &[b""]),
            ("GET", "/", &[b"a,b"]),
            ("GET", "/", &[b"user@host"]),
            ("GET", "/", &[b"host/path"]),
            ("GET", "/", &[b"h\xf6st"]),
            ("GET", "http://other/", &[b"localhost"]),
            ("GET", "http://localhost:80/", &[b"localhost"]),
            ("GET", "http://a@localhost/", &[b"localhost"]),
            ("GET", "https://localhost/", &[b"localhost"]),
            ("GET", "/%c0%af", &[b"localhost"]),
            ("GET", "/%", &[b"localhost"]),
            ("GET", "/\u{e4}", &[b"localhost"]),
        ];
        for (method, target, hosts) in cases {
            // Where even the request type refuses to hold it, hyper answers 400 by itself.
            assert_eq!(pass_with(method, target, hosts).unwrap_or(400), 400, "{method} {target} {hosts:?}");
        }
    }

    #[test]
    fn chunked_is_the_only_coding() {
        let pass_with = |codings: &[&str]| {
            let request = hyper::Request::builder().uri("/").header("host", "localhost");
            let request = codings.iter().fold(request, |request, coding| request.header("transfer-encoding", *coding));
            pass(&request.body(()).unwrap().into_parts().0).is_ok()
        };
        for good in [&[][..], &["chunked"], &["Chunked"]] {
            assert!(pass_with(good), "{good:?}");
        }
        for bad in [&["chunked, chunked"][..], &["chunked", "chunked"], &["gzip, chunked"], &["identity", "chunked"], &[",chunked"], &[""]]
        {
            assert!(!pass_with(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_head_has_64_fields_of_whatever_name() {
        let pass_with = |fields: usize, name: fn(usize) -> String| {
            let request = hyper::Request::builder().uri("/").header("host", "localhost");
            let request = (1..fields).fold(request, |request, n| request.header(name(n), "x"));
            pass(&request.body(()).unwrap().into_parts().0).map_or_else(|e| (e.status.code().as_u16(), e.close), |_| (200, false))
        };
        for name in [|_| "same".to_owned(), |n| format!("name-{n}")] as [fn(usize) -> String; 2] {
            assert_eq!([HEADER_FIELDS_MAX, HEADER_FIELDS_MAX + 1].map(|n| pass_with(n, name)), [(200, false), (431, true)]);
        }
    }

    #[test]
    fn a_target_has_8_kib() {
        let target = |n: usize| format!("/{}", "a".repeat(n - 1));
        assert_eq!(pass_with("GET", &target(TARGET_BYTES_MAX), &[b"localhost"]), Some(200));
        assert_eq!(pass_with("GET", &target(TARGET_BYTES_MAX + 1), &[b"localhost"]), Some(414));
    }
}
