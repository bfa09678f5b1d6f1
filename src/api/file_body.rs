//! A file as the body of an answer, and whether its reader has it already.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::unfold;
use hyper::header::HeaderValue;

use crate::base::blocking;
use crate::base::limits::FILE_CHUNK_BYTES;
use crate::http::Body;
use crate::http::error::HttpError;
use crate::sys::disk::{DiskFile, read_full};

/// RFC 9110 §13.1.2; the tag is strong, a weak comparison is what is asked for.
pub(super) fn is_known(known: &HeaderValue, tag: &str) -> bool {
    let known = known.to_str().unwrap_or_default();
    known.trim() == "*" || known.split(',').any(|one| one.trim().trim_start_matches("W/") == tag)
}

/// A small file whole, a larger one piece by piece: the server never holds more than one piece of it.
pub(super) async fn content(file: Arc<dyn DiskFile>, size: u64) -> Result<Body, HttpError> {
    let first = piece(file.clone(), 0).await.map_err(|e| HttpError::internal(e.to_string()))?;
    if size <= first.len() as u64 {
        return Ok(Body::full(first));
    }
    Ok(Body::stream(unfold((file, 0, Some(first)), move |(file, at, ready)| async move {
        let bytes = match ready {
            Some(first) => Ok(first),
            None if at >= size => return None,
            None => piece(file.clone(), at).await,
        };
        match bytes {
            Ok(bytes) if bytes.is_empty() => None,
            Ok(bytes) => {
                let next = at + bytes.len() as u64;
                Some((Ok(bytes), (file, next, None)))
            }
            Err(e) => Some((Err(e), (file, size, None))),
        }
    })))
}

async fn piece(file: Arc<dyn DiskFile>, at: u64) -> io::Result<Bytes> {
    let read = move || {
        let mut bytes = vec![0; FILE_CHUNK_BYTES];
        let read = read_full(file.as_ref(), &mut bytes, at)?;
        bytes.truncate(read);
        Ok(Bytes::from(bytes))
    };
    blocking::spawn(read).await.unwrap_or_else(|e| Err(io::Error::other(e)))
}
