//! What clients send: paths, header fields, bodies.

use std::net::IpAddr;

use serde_json::Value;

use crate::api::bodies::BODIES;
use crate::base::limits::JSON_DEPTH_MAX;
use crate::fuzzing::depth;
use crate::wire::credentials;
use crate::wire::field;
use crate::wire::forwarded;
use crate::wire::host::Host;
use crate::wire::json::{self, BadJson};
use crate::wire::origin::Origin;
use crate::wire::path::{self, RelPath};
use crate::wire::query::Query;
use crate::wire::url::Url;

/// Path and query of a request: no accepted path leaves its root, and what is accepted once is accepted again, unchanged.
pub(super) fn target(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (raw, query) = text.split_once('?').unwrap_or((text, ""));
    let _ = Query::parse(query);
    if path::is_well_formed(raw) {
        assert!(raw.len() >= raw.split('/').count() - 1);
    }
    for relative in [RelPath::from_request(raw), RelPath::parse(raw)].into_iter().flatten() {
        let inside = relative.as_str();
        assert!(!inside.starts_with('/') && !inside.contains(['\\', '\0']), "{inside:?}");
        assert!(inside.split('/').all(|name| !matches!(name, "" | "." | "..")), "{inside:?}");
        assert_eq!(RelPath::parse(inside).as_ref(), Ok(&relative));
    }
}

/// Whatever stands in `Forwarded` and `X-Forwarded-For` already, what a trusted proxy writes behind it counts, or nothing does.
fn forwarded_fields(data: &[u8]) {
    let seen = Some(IpAddr::from([203, 0, 113, 7]));
    let nobody = |_| false;
    assert_eq!(forwarded::client(&[&[data, b", 203.0.113.7"].concat()], &[], nobody), seen);
    assert_eq!(forwarded::client(&[], &[data, b"for=203.0.113.7"], nobody), seen);
    for behind in [&b", for=203.0.113.7"[..], b", for=\"203.0.113.7:80\";by=\"[::1]:1\""] {
        let told = forwarded::client(&[], &[&[data, behind].concat()], nobody);
        assert!(told.is_none() || told == seen, "{told:?}");
    }
    // Through any number of trusted proxies somebody is found, or nobody.
    let _ = forwarded::client(&[data], &[data], |ip| ip.is_loopback());
}

/// Header fields: hosts, origins, credentials, URLs, names and values; what reads as a host has no byte that another parser reads differently.
pub(super) fn fields(data: &[u8]) {
    let _ = credentials::bearer(data);
    forwarded_fields(data);
    match credentials::cookie([data].into_iter(), "oxios") {
        credentials::Cookie::Token(token) => {
            assert!(credentials::token(token.as_bytes()) == Some(token) && !token.contains([';', ',', ' ']))
        }
        credentials::Cookie::None | credentials::Cookie::Malformed => {}
    }
    if let Some(token) = credentials::token(data) {
        assert!(token.bytes().all(|b| b.is_ascii_graphic()));
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(host) = Host::parse(text) {
        assert!(!text.contains(['/', '@', ',', '?', '#', '%', ' ']) && text.is_ascii(), "{text:?}");
        assert!(host.is_listed(&host));
        let origin = format!("http://{text}");
        assert!(Origin::parse(&origin).is_some_and(|origin| origin.is_same(host, false)), "{origin:?}");
    }
    let start = field::leading_token(text, 40);
    assert!(text.starts_with(start) && (start.is_empty() || field::is_token(start)));
    // What we let through, the client can send as it is.
    assert!(!field::is_token(text) || hyper::header::HeaderName::try_from(text).is_ok_and(|name| name.as_str().eq_ignore_ascii_case(text)));
    assert!(!field::is_value(text) || hyper::header::HeaderValue::try_from(text).is_ok_and(|value| value.as_bytes() == data));
    assert!(!field::is_variable(text) || !text.contains(['=', '\0']));
    let _ = Origin::parse(text);
    if let Ok(url) = Url::parse(text) {
        assert!(Url::parse(&format!("{}{}", url.origin(), url.path_and_query())).is_ok(), "{text:?}");
    }
}

/// A JSON body, as any value and as what each route takes. It is never deeper than the limit and always UTF-8, an error names
/// the place and not the content, and a body that is taken is taken again when another program has written it.
pub(super) fn json_body(data: &[u8]) {
    let value = json::parse::<Value>(data, JSON_DEPTH_MAX);
    match &value {
        Ok(value) => {
            assert!(depth(value) <= JSON_DEPTH_MAX);
            let again = serde_json::to_vec(value).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(json::parse::<Value>(&again, JSON_DEPTH_MAX).as_ref(), Ok(value));
        }
        Err(_) => assert!(serde_json::from_slice::<Value>(data).is_err() || !json::depth_ok(data, JSON_DEPTH_MAX)),
    }
    for (name, read) in BODIES {
        match read(data) {
            Ok(()) => {
                assert!(std::str::from_utf8(data).is_ok(), "{name} takes what is no UTF-8");
                // What is not read as a value has a number too large or half a character in a field that nobody knows.
                let Ok(value) = &value else { continue };
                let again = serde_json::to_vec(value).unwrap_or_else(|e| panic!("{e}"));
                assert_eq!(read(&again), Ok(()), "{name}");
            }
            Err(BadJson::Shape { place, what }) => {
                assert!(place.len() + what.len() <= 600, "{name}: {place}: {what}");
                if let Ok(value) = &value {
                    nothing_of_it(value, &place, &what);
                }
            }
            Err(BadJson::TooDeep | BadJson::TooMany { .. } | BadJson::Malformed { .. }) => {
                assert!(value.is_err(), "{name} takes this JSON for none")
            }
        }
    }
}

/// No text of the body is repeated. Short ones and those that could be words of ours, as we list what is expected or name the
/// place, prove nothing.
fn nothing_of_it(value: &Value, place: &str, what: &str) {
    let secret =
        |text: &str| text.len() >= 8 && text.bytes().any(|b| !(b.is_ascii_lowercase() || b.is_ascii_digit() || b"_ `,;.[]".contains(&b)));
    let told = |text: &str| secret(text) && (place.contains(text) || what.contains(text));
    match value {
        Value::String(text) => assert!(!told(text), "{text:?} is told: {place}: {what}"),
        Value::Array(items) => items.iter().for_each(|item| nothing_of_it(item, place, what)),
        Value::Object(fields) => fields.iter().for_each(|(name, field)| {
            assert!(!told(name), "{name:?} is told: {place}: {what}");
            nothing_of_it(field, place, what);
        }),
        _ => {}
    }
}
