//! The web page (API A9): no row of the table, since every path that is no API path leads to it. It needs no key; it holds no secret.

use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};

use crate::api::App;
use crate::api::file_body::{content, is_known, tag, tags};
use crate::api::router::allow_value;
use crate::base::blocking;
use crate::base::digest::{hex, sha256};
use crate::http::error::{ErrorStatus, HttpError};
use crate::http::{Body, Response};
use crate::rooms::site::{File, Found};
use crate::sys::root::RootError;
use crate::wire::encodings::accepts_gzip;
use crate::wire::path::{BadPath, RelPath};

/// What a page may do. SECURITY: ours has no code and no style in its text, asks nobody but this server, makes no markup from
/// strings (Trusted Types), and stands in nobody's frame.
static OURS: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; \
    base-uri 'self'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
);
/// What somebody's own build may do: as its tools make it, but still no code in its text and nothing from elsewhere.
static THEIRS: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; \
    media-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'",
);
/// Header fields of an answer, but for those of CORS.
const FIELDS: usize = 12;
/// A page that says this is told the way from its address to its files.
const BASE: &str = "<base href=\"./\">";

/// Answers for this path, beneath `gateway.base_path`.
///
/// # Errors
/// 405; 400 for a path that is not well formed, 404 for a missing file of the page.
pub(crate) async fn answer(app: &Arc<App>, method: &Method, headers: &HeaderMap, path: &str) -> Result<Response, HttpError> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let allow = "GET, HEAD";
        return Err(HttpError::new(ErrorStatus::MethodNotAllowed, "method", format!("this path takes {allow}"))
            .header(header::ALLOW, allow_value(allow)));
    }
    let name = path.strip_prefix('/').unwrap_or(path);
    // A place within the page may have a slash at its end, or two in a row: only names of files are strict.
    let wanted = match RelPath::from_request(name) {
        Ok(name) => name.as_str().to_owned(),
        Err(BadPath::Leaves) => return Err(HttpError::new(ErrorStatus::Forbidden, "path_leaves", "the path leads out of its directory")),
        Err(BadPath::Malformed) => String::new(),
    };
    let site = app.site.clone();
    let zip = headers.get(header::ACCEPT_ENCODING).is_some_and(|value| accepts_gzip(value.as_bytes()));
    let (found, packed) = match site.at_hand(&wanted, zip) {
        Some(at_hand) => at_hand,
        None => {
            let found = blocking::spawn(move || {
                let found = site.find(&wanted)?;
                let packed = match &found {
                    Found::Whole(file) if zip => site.packed(file),
                    _ => None,
                };
                Ok::<_, RootError>((found, packed))
            });
            found.await.map_err(|e| HttpError::internal(e.to_string()))??
        }
    };
    match found {
        Found::Whole(file) => whole(headers, file, packed, base(&app.base_path, name)),
        Found::Large(file, item, media) => {
            // Too long to be read before each answer; a build replaces its files, so that the time changes with the content.
            let tag = tag(&item);
            let body = if is_fresh(headers, &tag) { None } else { Some(content(file, item.size).await?) };
            let mut response = response(body, &tag, media, &THEIRS)?;
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(item.size));
            Ok(response)
        }
        Found::Nothing => Err(HttpError::not_found("the page has no such file")),
    }
}

/// The page of this base path has a slash at its end, from which its files are found.
pub(crate) fn slash(base: &str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    if let Ok(place) = HeaderValue::try_from(format!("{base}/")) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    response
}

fn whole(headers: &HeaderMap, file: File, packed: Option<Bytes>, base: Option<String>) -> Result<Response, HttpError> {
    let policy = if file.is_ours { &OURS } else { &THEIRS };
    let (plain_tag, media) = (&file.tag, file.media);
    let placed = base.filter(|_| file.is_page).and_then(|base| placed(&file.bytes, &base));
    let (bytes, tag, zipped) = match (placed, packed) {
        (Some(bytes), _) => {
            let tag = format!("\"{}\"", hex(&sha256(&bytes)));
            (bytes, tag, false)
        }
        // Other bytes, so another strong validator (RFC 9110 §8.8.3.3).
        (None, Some(packed)) => (packed, format!("\"{plain_tag}-gz\""), true),
        (None, None) => (file.bytes, format!("\"{plain_tag}\""), false),
    };
    let mut response = response(if is_fresh(headers, &tag) { None } else { Some(Body::full(bytes)) }, &tag, media, policy)?;
    let fields = response.headers_mut();
    fields.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if zipped {
        fields.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}

fn is_fresh(headers: &HeaderMap, tag: &str) -> bool {
    tags(headers, header::IF_NONE_MATCH).is_some_and(|known| is_known(&known, tag))
}

/// 200, or 304 without a body.
fn response(body: Option<Body>, tag: &str, media: &'static str, policy: &HeaderValue) -> Result<Response, HttpError> {
    let status = if body.is_some() { StatusCode::OK } else { StatusCode::NOT_MODIFIED };
    let mut response = Response::new(body.unwrap_or_default());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    // These, and those of every answer: the map need not grow on the way.
    headers.reserve(FIELDS);
    headers.insert(header::ETAG, HeaderValue::try_from(tag).map_err(|e| HttpError::internal(e.to_string()))?);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    // Kept, and asked for again each time: a new build is seen at once, and an old one costs a line.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::CONTENT_SECURITY_POLICY, policy.clone());
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(const { HeaderName::from_static("cross-origin-resource-policy") }, HeaderValue::from_static("same-origin"));
    headers.insert(const { HeaderName::from_static("cross-origin-opener-policy") }, HeaderValue::from_static("same-origin"));
    Ok(response)
}

/// The way from an address (without a slash in front) to the page's files, where it is not `./`. With a base path of its own that is
/// the way, from wherever it is opened: at the path itself, which a proxy that takes it away gives without its slash, and at the
/// server without a proxy, where a cookie that is for that path would not come back. Else it leads up, which holds behind a proxy that
/// put something in front, too.
fn base(path: &str, name: &str) -> Option<String> {
    let depth = name.matches('/').count();
    match path {
        "" if depth == 0 => None,
        "" => Some("../".repeat(depth)),
        // SECURITY: of letters, digits and `-._~/` only; it stands in an attribute as it is.
        path => Some(format!("{path}/")),
    }
}

/// The page with another way to its files.
fn placed(bytes: &Bytes, base: &str) -> Option<Bytes> {
    let (before, behind) = std::str::from_utf8(bytes).ok()?.split_once(BASE)?;
    Some(Bytes::from(format!("{before}<base href=\"{base}\">{behind}")))
}
