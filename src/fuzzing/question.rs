//! What clients send: paths, header fields, bodies.

use crate::base::limits::JSON_DEPTH_MAX;
use crate::fuzzing::depth;
use crate::wire::host::Host;
use crate::wire::origin::Origin;
use crate::wire::path::{self, RelPath};
use crate::wire::query::Query;
use crate::wire::url::Url;
use crate::wire::{credentials, json};

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

/// Header fields: hosts, origins, credentials and URLs; what reads as a host has no byte that another parser reads differently.
pub(super) fn fields(data: &[u8]) {
    let _ = credentials::bearer(data);
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
    let _ = Origin::parse(text);
    if let Ok(url) = Url::parse(text) {
        assert!(Url::parse(&format!("{}{}", url.origin(), url.path_and_query())).is_ok(), "{text:?}");
    }
}

/// A JSON body: never deeper than the limit; an error names the place, not the content.
pub(super) fn json_body(data: &[u8]) {
    match json::parse::<serde_json::Value>(data, JSON_DEPTH_MAX) {
        Ok(value) => {
            assert!(depth(&value) <= JSON_DEPTH_MAX);
            let again = serde_json::to_vec(&value).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(json::parse::<serde_json::Value>(&again, JSON_DEPTH_MAX), Ok(value));
        }
        Err(_) => assert!(serde_json::from_slice::<serde_json::Value>(data).is_err() || !json::depth_ok(data, JSON_DEPTH_MAX)),
    }
}
