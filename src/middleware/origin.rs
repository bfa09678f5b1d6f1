//! Which page is calling? Browsers tell it in `Origin` on every upgrade and every request that changes something; other
//! clients send none (THREATS 1 and 3; CVE-2026-25253, CVE-2026-22812).
//!
//! In order: more than one `Origin` is refused; our own origin passes; a listed one passes and gets CORS fields; any
//! other one may only read what a page of its own could not see anyway (no CORS fields, so the browser keeps the answer).

use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, StatusCode};

use crate::base::limits::CORS_FIELDS_BYTES_MAX;
use crate::http::error::{ErrorStatus, HttpError};
use crate::http::{Body, Response};
use crate::wire::host::Host;
use crate::wire::origin::Origin;

/// A listed origin, whose page gets CORS fields with its answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed(HeaderValue);

/// What is known of a request here.
pub struct Asked<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its fields.
    pub headers: &'a HeaderMap,
    /// Whom it is for.
    pub host: Host<'a>,
    /// It came through a trusted proxy, which may have spoken TLS with the browser.
    pub proxied: bool,
    /// It asks for another protocol.
    pub upgrade: bool,
}

/// Lets a request pass as far as its origin goes.
///
/// # Errors
/// 403.
pub fn check(asked: &Asked<'_>, listed: &[String]) -> Result<Option<Listed>, HttpError> {
    let mut all = asked.headers.get_all(header::ORIGIN).iter();
    let Some(value) = all.next() else { return Ok(None) };
    let origin = if all.next().is_some() { None } else { value.to_str().ok().and_then(Origin::parse) };
    if let Some(origin) = origin {
        if origin.is_same(asked.host, false) || (asked.proxied && origin.is_same(asked.host, true)) {
            return Ok(None);
        }
        if listed.iter().any(|text| Origin::parse(text) == Some(origin)) {
            return Ok(Some(Listed(value.clone())));
        }
    }
    let reads = matches!(*asked.method, Method::GET | Method::HEAD | Method::OPTIONS) && !asked.upgrade;
    if reads {
        return Ok(None);
    }
    let public = "pages of this Origin may not call; list it in security.cors_origins";
    Err(HttpError::new(ErrorStatus::Forbidden, "origin", public))
}

/// A cookie counts with what comes from our own page: browsers send cookies along with what other pages make them ask.
/// What changes something or opens a socket says so in `Origin`; what reads may come without one (EventSource, a link typed in).
pub fn takes_cookies(asked: &Asked<'_>) -> bool {
    let mut sites = asked.headers.get_all("sec-fetch-site").iter();
    let elsewhere = sites.any(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"));
    let mut all = asked.headers.get_all(header::ORIGIN).iter();
    let ours = match (all.next(), all.next()) {
        (None, _) => matches!(*asked.method, Method::GET | Method::HEAD) && !asked.upgrade,
        (Some(value), None) => value
            .to_str()
            .ok()
            .and_then(Origin::parse)
            .is_some_and(|origin| origin.is_same(asked.host, false) || (asked.proxied && origin.is_same(asked.host, true))),
        (Some(_), Some(_)) => false,
    };
    ours && !elsewhere
}

/// A browser asks beforehand whether a page may call (CORS, Fetch §4.8). It brings no credential, so the answer is the
/// same for every path.
pub fn is_preflight(asked: &Asked<'_>) -> bool {
    *asked.method == Method::OPTIONS && asked.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to a preflight of a listed origin. It may send whatever fields it names: the list says whose pages are trusted, and
/// clients of OpenAI and of MCP have fields of their own.
pub fn preflight(asked: &Asked<'_>) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE"));
    let ours = HeaderValue::from_static("authorization, content-type, idempotency-key, last-event-id, prefer");
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, named_fields(asked.headers).unwrap_or(ours));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    headers.append(header::VARY, HeaderValue::from_static("access-control-request-headers"));
    response
}

/// The fields that a page wants to send, where these are names of fields.
fn named_fields(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut all = headers.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS).iter();
    let (Some(names), None) = (all.next(), all.next()) else { return None };
    let is_name = |name: &[u8]| HeaderName::from_bytes(name.trim_ascii()).is_ok();
    let good = names.len() <= CORS_FIELDS_BYTES_MAX && names.as_bytes().split(|b| *b == b',').all(is_name);
    good.then(|| names.clone())
}

/// The fields that let a listed page read the answer.
pub fn allow(listed: Listed, headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, listed.0);
    let ours = HeaderValue::from_static("x-request-id, retry-after, etag, ratelimit, ratelimit-policy");
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, ours);
    headers.append(header::VARY, HeaderValue::from_static("origin"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: Method, origins: &[&str], proxied: bool, upgrade: bool) -> Result<bool, u16> {
        let mut headers = HeaderMap::new();
        for origin in origins {
            headers.append(header::ORIGIN, origin.parse().unwrap());
        }
        let host = Host::parse("box.lan:4200").unwrap();
        let asked = Asked { method: &method, headers: &headers, host, proxied, upgrade };
        check(&asked, &["https://page.example".to_owned()]).map(|l| l.is_some()).map_err(|e| e.status.code().as_u16())
    }

    #[test]
    fn whoever_is_no_browser_passes() {
        assert_eq!(ask(Method::POST, &[], false, false), Ok(false));
    }

    #[test]
    fn our_own_page_passes() {
        assert_eq!(ask(Method::POST, &["http://box.lan:4200"], false, true), Ok(false));
        assert_eq!(ask(Method::POST, &["https://box.lan:4200"], true, false), Ok(false));
        assert_eq!(ask(Method::POST, &["https://box.lan:4200"], false, false), Err(403));
    }

    #[test]
    fn cookies_count_with_what_our_own_page_asks() {
        let counts = |method: Method, fields: &[(&'static str, &str)], upgrade| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, value.parse().unwrap());
            }
            let host = Host::parse("box.lan:4200").unwrap();
            takes_cookies(&Asked { method: &method, headers: &headers, host, proxied: false, upgrade })
        };
        let ours = ("origin", "http://box.lan:4200");
        assert!(counts(Method::POST, &[ours], false) && counts(Method::GET, &[ours], true) && counts(Method::GET, &[], false));
        assert!(counts(Method::GET, &[("sec-fetch-site", "same-origin")], false));
        assert!(!counts(Method::POST, &[], false) && !counts(Method::GET, &[], true), "what acts says where it comes from");
        assert!(!counts(Method::GET, &[("sec-fetch-site", "cross-site")], false));
        assert!(!counts(Method::GET, &[("sec-fetch-site", "same-site")], false), "another port is another program");
        for origin in ["http://box.lan:8080", "https://page.example", "null"] {
            assert!(!counts(Method::GET, &[("origin", origin)], false), "{origin}");
        }
        assert!(!counts(Method::POST, &[ours, ours], false));
    }

    #[test]
    fn a_listed_page_passes_and_is_told_so() {
        assert_eq!(ask(Method::POST, &["https://page.example"], false, false), Ok(true));
        assert_eq!(ask(Method::GET, &["https://page.example:443"], false, true), Ok(true));
    }

    #[test]
    fn a_listed_page_may_read_what_it_goes_on_with() {
        let mut headers = HeaderMap::new();
        allow(Listed(HeaderValue::from_static("https://page.example")), &mut headers);
        let exposed = headers[header::ACCESS_CONTROL_EXPOSE_HEADERS].to_str().unwrap();
        for field in ["x-request-id", "retry-after", "etag"] {
            assert!(exposed.split(", ").any(|one| one == field), "{field}");
        }
    }

    #[test]
    fn a_listed_page_may_send_the_fields_that_it_names() {
        const OURS: &str = "authorization, content-type, idempotency-key, last-event-id, prefer";
        let allowed = |named: &[&str]| {
            let mut headers = HeaderMap::new();
            for names in named {
                headers.append(header::ACCESS_CONTROL_REQUEST_HEADERS, names.parse().unwrap());
            }
            let host = Host::parse("box.lan:4200").unwrap();
            let answer = preflight(&Asked { method: &Method::OPTIONS, headers: &headers, host, proxied: false, upgrade: false });
            assert_eq!(answer.headers()["vary"], "access-control-request-headers");
            answer.headers()["access-control-allow-headers"].to_str().unwrap().to_owned()
        };
        for names in ["authorization,content-type,x-stainless-arch,x-stainless-retry-count", "mcp-protocol-version, mcp-session-id"] {
            assert_eq!(allowed(&[names]), names);
        }
        let long = "a".repeat(CORS_FIELDS_BYTES_MAX + 1);
        for no_names in [&[][..], &[""], &["a,"], &["a b"], &["a;b"], &["a", "b"], &[&long]] {
            assert_eq!(allowed(no_names), OURS, "{no_names:?}");
        }
    }

    #[test]
    fn any_other_page_changes_nothing_and_opens_nothing() {
        for origin in ["http://evil.example", "null", "http://box.lan", "http://page.example", "x", ""] {
            assert_eq!(ask(Method::POST, &[origin], false, false), Err(403), "{origin}");
            assert_eq!(ask(Method::GET, &[origin], false, true), Err(403), "{origin}");
            assert_eq!(ask(Method::GET, &[origin], false, false), Ok(false), "{origin}");
        }
        assert_eq!(ask(Method::DELETE, &["http://box.lan:4200", "http://box.lan:4200"], false, false), Err(403));
    }
}
