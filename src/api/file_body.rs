//! A file as the body of an answer, and whether its reader has it already.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::unfold;
use hyper::header::{AsHeaderName, HeaderMap};

use crate::base::blocking;
use crate::base::digest::{hex, sha256};
use crate::base::limits::FILE_CHUNK_BYTES;
use crate::http::Body;
use crate::http::error::HttpError;
use crate::sys::disk::{DiskFile, read_full};
use crate::sys::root::Item;

/// 64 bits: two versions of one file do not meet in them.
const TAG_DIGITS: usize = 16;

/// A file's validator: strong, as what is written anew is another file, and what is changed has another time. Hashed: the numbers of
/// our disk are nobody's affair.
pub(super) fn tag(item: &Item) -> String {
    let of = [item.inode, item.size, item.modified.millis(), u64::from(item.modified_nanos)].map(u64::to_le_bytes);
    let mut tag = hex(&sha256(of.as_flattened()));
    tag.truncate(TAG_DIGITS);
    format!("\"{tag}\"")
}

/// The tags in all lines of a field (RFC 9110 §13.1); none where there is no such field.
pub(super) fn tags(headers: &HeaderMap, name: impl AsHeaderName) -> Option<Vec<String>> {
    let lines = headers.get_all(name).iter().map(|line| line.to_str().unwrap_or_default());
    let tags: Vec<_> = lines.flat_map(|line| line.split(',')).map(|one| one.trim().to_owned()).collect();
    (!tags.is_empty()).then_some(tags)
}

/// RFC 9110 §13.1.2: `*` is whatever is there, and a weak comparison is what is asked for.
pub(super) fn is_known(known: &[String], tag: &str) -> bool {
    known.iter().any(|one| one == "*" || one.trim_start_matches("W/") == tag)
}

/// A small file whole, a larger one piece by piece: the server never holds more than one piece of it. Exactly so many bytes: a file
/// that grows meanwhile is cut, one that has lost some breaks the connection.
pub(super) async fn content(file: Arc<dyn DiskFile>, size: u64) -> Result<Body, HttpError> {
    let first = piece(file.clone(), 0, size).await.map_err(|e| HttpError::internal(e.to_string()))?;
    if size == first.len() as u64 {
        return Ok(Body::full(first));
    }
    Ok(Body::stream(unfold((file, 0, Some(first)), move |(file, at, ready)| async move {
        let bytes = match ready {
            Some(first) => Ok(first),
            None if at >= size => return None,
            None => piece(file.clone(), at, size).await,
        };
        match bytes {
            Ok(bytes) if bytes.is_empty() => Some((Err(io::ErrorKind::UnexpectedEof.into()), (file, size, None))),
            Ok(bytes) => {
                let next = at + bytes.len() as u64;
                Some((Ok(bytes), (file, next, None)))
            }
            Err(e) => Some((Err(e), (file, size, None))),
        }
    })))
}

async fn piece(file: Arc<dyn DiskFile>, at: u64, size: u64) -> io::Result<Bytes> {
    let read = move || {
        let mut bytes = vec![0; usize::try_from(size - at).unwrap_or(usize::MAX).min(FILE_CHUNK_BYTES)];
        let read = read_full(file.as_ref(), &mut bytes, at)?;
        bytes.truncate(read);
        Ok(Bytes::from(bytes))
    };
    blocking::spawn(read).await.unwrap_or_else(|e| Err(io::Error::other(e)))
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::base::time::ManualClock;
    use crate::rooms::workspace::Workspace;
    use crate::sys::disk::RealDisk;

    /// The clock of a file system stands still for milliseconds: one of two writers lost what it had written.
    #[test]
    fn two_versions_of_one_size_and_one_moment_have_two_tags() {
        let dir = std::env::temp_dir().join(format!("oxios-file-tag-{}", std::process::id()));
        let files = Workspace::open(&dir, Arc::new(RealDisk), Arc::new(ManualClock::default())).unwrap();
        let stamped = |nanos| {
            let file = std::fs::File::options().write(true).open(dir.join("a")).unwrap();
            file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_nanos(nanos)).unwrap();
            let (_, opened) = files.open_file("a").unwrap();
            assert_eq!(tag(&opened), tag(&files.stat("a").unwrap().unwrap()));
            tag(&opened)
        };
        files.write("a", b"one").unwrap();
        let first = stamped(1_000_000_000);
        assert_eq!(stamped(1_000_000_000), first, "of one version there is one");
        assert_ne!(stamped(1_000_000_001), first, "a program wrote into it");
        files.write("a", b"two").unwrap();
        assert_ne!(stamped(1_000_000_000), first, "it was written anew");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn exactly_what_was_announced_is_sent_or_the_connection_breaks() {
        let dir = std::env::temp_dir().join(format!("oxios-file-body-{}", std::process::id()));
        let files = Workspace::open(&dir, Arc::new(RealDisk), Arc::new(ManualClock::default())).unwrap();
        for len in [3, FILE_CHUNK_BYTES, 2 * FILE_CHUNK_BYTES + 3] {
            files.write("a", &vec![7; len]).unwrap();
            let sent = async |size: usize| {
                let (file, _) = files.open_file("a").unwrap();
                content(Arc::from(file), size as u64).await.unwrap().collect().await.map(|body| body.to_bytes().len())
            };
            assert_eq!(sent(len).await.unwrap(), len);
            assert_eq!(sent(len - 1).await.unwrap(), len - 1, "it has grown");
            assert!(sent(len + 1).await.is_err(), "it has lost something");
        }
        std::fs::remove_dir_all(dir).unwrap();
    }
}
