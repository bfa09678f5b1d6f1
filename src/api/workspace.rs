//! Workspace files (API A7): the caller's own files, the same that its agent reads and writes. Names are resolved beneath the
//! directory by the kernel; what a browser gets runs nothing (`Content-Security-Policy: sandbox`, `nosniff`).

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::{self, HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::api::file_body::{content, is_known, tag, tags};
use crate::api::{self, App, Call};
use crate::base::blocking;
use crate::http::error::{ErrorStatus, HttpError};
use crate::http::{Body, Response};
use crate::rooms::workspace::{Workspace, WorkspaceError};
use crate::store::home::Space;
use crate::sys::root::Item;
use crate::wire::media::media_type;

/// One entry of a directory.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct TreeItem {
    /// Its last segment.
    name: String,
    /// A directory.
    is_dir: bool,
    /// Bytes; 0 for a directory.
    size: u64,
}

/// What to make.
#[derive(Deserialize, Default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct NewFile {
    /// A directory instead of an empty file.
    #[serde(default)]
    is_dir: bool,
}

/// What was made or deleted.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct FileDone {
    /// `created` or `deleted`.
    status: &'static str,
    /// Its path.
    path: String,
}

#[cfg(test)]
pub(super) fn shapes(all: &mut super::shapes::Shapes) {
    all.answers::<Vec<TreeItem>>("Tree");
    all.takes::<NewFile>("NewFile");
    all.answers::<FileDone>("FileDone");
}

/// `GET /api/workspace/tree?dir=`: directories first, then by name.
pub(crate) async fn tree(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let dir = call.query.get("dir").unwrap_or_default().to_owned();
    let (items, _) = files(&app, &call, move |files| files.list(&dir)).await?;
    api::json(&items.into_iter().map(|item| TreeItem { name: item.name, is_dir: item.is_dir, size: item.size }).collect::<Vec<_>>())
}

/// `GET /api/workspace/file/{*path}`: with its media type and validators.
pub(crate) async fn read(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let path = call.param("path").to_owned();
    let media_type = media_type(&path);
    let (file, item) = files(&app, &call, move |files| files.open_file(&path)).await?;
    let tag = tag(&item);
    let mut response = if tags(&call.headers, header::IF_NONE_MATCH).is_some_and(|known| is_known(&known, &tag)) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        let mut response = Response::new(content(Arc::from(file), item.size).await?);
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(item.size));
        response
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.insert(header::ETAG, HeaderValue::try_from(tag).map_err(|e| HttpError::internal(e.to_string()))?);
    Ok(response)
}

/// `PUT /api/workspace/file/{*path}`: the raw body, atomically and durably, with the directories above it. 200, empty; 412 where
/// `If-Match` or `If-None-Match` asks for something else than is there.
pub(crate) async fn write(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    room_on_disk(&app)?;
    let (path, bytes) = (call.param("path").to_owned(), call.body.bytes().clone());
    let fits = expected(&call.headers);
    let done = files(&app, &call, move |files| files.write_if(&path, &bytes, fits.as_ref().map(|fits| fits as _))).await?;
    if done { Ok(Response::new(Body::empty())) } else { Err(something_else()) }
}

/// `POST /api/workspace/file/{*path}`: an empty file, or a directory; 409 where there is something.
pub(crate) async fn create(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    room_on_disk(&app)?;
    let new: NewFile = if call.body.bytes().is_empty() { NewFile::default() } else { call.json()? };
    let path = call.param("path").to_owned();
    let at = path.clone();
    let make = move |files: &Workspace| match new.is_dir {
        true if files.stat(&at)?.is_some() => Err(WorkspaceError::Exists),
        true => files.make_dir(&at),
        false => files.create(&at),
    };
    files(&app, &call, make).await?;
    api::json(&FileDone { status: "created", path })
}

/// `DELETE /api/workspace/file/{*path}`: a file or an empty directory; 412 as for PUT.
pub(crate) async fn delete(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let path = call.param("path").to_owned();
    let at = path.clone();
    let fits = expected(&call.headers);
    let done = files(&app, &call, move |files| files.remove_if(&at, fits.as_ref().map(|fits| fits as _))).await?;
    if done { api::json(&FileDone { status: "deleted", path }) } else { Err(something_else()) }
}

/// What a change goes out from (RFC 9110 §13.1.1 and §13.1.2), where it says so.
fn expected(headers: &HeaderMap) -> Option<impl Fn(Option<&Item>) -> bool + Send + use<>> {
    let (wanted, unwanted) = (tags(headers, header::IF_MATCH), tags(headers, header::IF_NONE_MATCH));
    (wanted.is_some() || unwanted.is_some()).then_some(move |there: Option<&Item>| {
        let tag = there.map(tag);
        // A weak tag matches nothing here: the comparison is strong.
        let is_wanted = |known: &[String]| tag.as_ref().is_some_and(|tag| known.iter().any(|one| one == "*" || one == tag));
        wanted.as_deref().is_none_or(is_wanted) && !unwanted.as_ref().is_some_and(|known| tag.is_some_and(|tag| is_known(known, &tag)))
    })
}

fn something_else() -> HttpError {
    HttpError::new(ErrorStatus::PreconditionFailed, "changed", "the file is another one than you saw, or is there already; read it again")
}

/// Works with the caller's files on a thread that may block.
async fn files<T: Send + 'static>(
    app: &Arc<App>,
    call: &Call,
    work: impl FnOnce(&Workspace) -> Result<T, WorkspaceError> + Send + 'static,
) -> Result<T, HttpError> {
    let (owner, all) = (call.caller()?.owner(), app.workspaces.clone());
    let done = blocking::spawn(move || all.of(owner).and_then(|files| work(&files))).await;
    Ok(done.map_err(|e| HttpError::internal(e.to_string()))??)
}

fn room_on_disk(app: &App) -> Result<(), HttpError> {
    match app.home.space() {
        Space::Full { why } => Err(crate::store::StoreError::DiskFull(why).into()),
        Space::Enough => Ok(()),
    }
}
