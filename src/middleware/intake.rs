//! Reading a body: only after authentication, within its route's limit, and not for longer than it makes progress.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::HeaderMap;
use hyper::body::{Body, Incoming};
use hyper::header;
use tokio::time::{Instant, timeout_at};

use crate::http::error::{ErrorStatus, HttpError};

/// A body has to bring [`BYTES_PER_SECOND_MIN`] in each stretch of this length; hyper never times out a slow one.
const STRETCH: Duration = Duration::from_secs(30);
/// The slowest modem anybody still uses is faster.
const BYTES_PER_SECOND_MIN: usize = 1024;

/// Evidence that a body was read within its route's limit. Only this module makes one.
#[derive(Debug, Default)]
pub struct Limited(Bytes);

impl Limited {
    /// Its bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }
}

/// A body that may still be unread.
pub struct Intake {
    body: Option<Incoming>,
}

impl Intake {
    /// Not a byte is read yet.
    pub fn new(body: Incoming) -> Self {
        Self { body: (!body.is_end_stream()).then_some(body) }
    }

    /// Bytes of it are still on their way: the connection cannot serve another request.
    pub fn is_unread(&self) -> bool {
        self.body.is_some()
    }

    /// Reads it. A limit of 0 refuses any body.
    ///
    /// # Errors
    /// 413 for a larger one, declared or read; 408 for one that makes no progress; 400 for one that breaks off or has trailers.
    pub async fn read(&mut self, headers: &HeaderMap, max: usize) -> Result<Limited, HttpError> {
        let Some(body) = self.body.as_mut() else { return Ok(Limited::default()) };
        let declared = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
        if declared.is_some_and(|size| size > max as u64) {
            return Err(too_large(max));
        }
        let bytes = collect(body, max).await?;
        self.body = None;
        Ok(Limited(bytes))
    }
}

async fn collect<B>(body: &mut B, max: usize) -> Result<Bytes, HttpError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let (mut until, mut in_stretch) = (Instant::now() + STRETCH, 0);
    loop {
        let frame = match timeout_at(until, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(_))) => return Err(HttpError::bad_request("the body broke off").code("body_broken").closing()),
            Ok(None) => return Ok(if rest.is_empty() { first } else { rest.freeze() }),
            Err(_) if in_stretch >= BYTES_PER_SECOND_MIN * STRETCH.as_secs() as usize => {
                (until, in_stretch) = (until + STRETCH, 0);
                continue;
            }
            Err(_) => {
                let public = "the body came slower than 1 KiB a second";
                return Err(HttpError::new(ErrorStatus::RequestTimeout, "body_time", public).closing());
            }
        };
        // Trailers mean nothing to us, and hyper ends them at CR LF only: behind `0 CR LF LF`, where others see the end of the
        // message, it would take the next request for them (THREATS 14).
        let Ok(data) = frame.into_data() else {
            return Err(HttpError::bad_request("trailers are not taken").code("trailers").closing());
        };
        in_stretch += data.len();
        if data.len() > max.saturating_sub(first.len().max(rest.len())) {
            return Err(too_large(max));
        }
        // Most bodies come in one piece, which is not copied.
        if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&data);
        }
    }
}

fn too_large(max: usize) -> HttpError {
    let public = match max {
        0 => "this route takes no body".to_owned(),
        max => format!("the body is limited to {max} bytes"),
    };
    HttpError::new(ErrorStatus::PayloadTooLarge, "body_too_large", public).closing()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    async fn read(pieces: &[&'static str], max: usize) -> Result<Bytes, u16> {
        let frames = pieces.iter().map(|piece| Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(piece.as_bytes()))));
        let mut body = StreamBody::new(stream::iter(frames.collect::<Vec<_>>()));
        collect(&mut body, max).await.map_err(|e| e.status.code().as_u16())
    }

    #[tokio::test]
    async fn pieces_are_joined_up_to_the_limit() {
        assert_eq!(read(&["ab", "cd", "e"], 5).await.unwrap(), "abcde");
        assert_eq!(read(&["abcde"], 5).await.unwrap(), "abcde");
        assert_eq!(read(&[], 0).await.unwrap(), "");
        for (pieces, max) in [(&["abcdef"][..], 5), (&["abc", "def"], 5), (&["ab", "cd", "ef"], 5), (&["a"], 0)] {
            assert_eq!(read(pieces, max).await, Err(413), "{pieces:?}");
        }
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_no_body() {
        let frames = [Ok(Frame::data(Bytes::from_static(b"ab"))), Err(std::io::Error::other("reset"))];
        let error = collect(&mut StreamBody::new(stream::iter(frames)), 10).await.unwrap_err();
        assert_eq!((error.status, error.close), (ErrorStatus::BadRequest, true));
    }

    #[tokio::test]
    async fn a_body_with_trailers_is_refused_and_nothing_follows_it() {
        let frames = [Frame::data(Bytes::from_static(b"ab")), Frame::trailers(HeaderMap::new())].map(Ok::<_, std::io::Error>);
        let error = collect(&mut StreamBody::new(stream::iter(frames)), 10).await.unwrap_err();
        assert_eq!((error.status, error.close), (ErrorStatus::BadRequest, true));
    }
}
