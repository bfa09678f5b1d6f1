//! A session as Markdown, streamed from its log.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::base::ids::SessionId;
use crate::store::StoreError;
use crate::store::lines::{Forward, Glance, PAGE_BYTES};
use crate::store::record::{Body, Record};
use crate::store::session::{Session, blocking};
use crate::sys::disk::DiskFile;

/// The conversation in pieces of about 64 KiB, as far as it was visible when it was asked for.
pub struct Markdown {
    /// Moved into a blocking task for each piece; `None` at the end and after an error.
    rest: Option<Rest>,
}

struct Rest {
    id: SessionId,
    title: String,
    log: Option<Arc<dyn DiskFile>>,
    start: u64,
    at: u64,
    end: u64,
}

impl Session {
    /// The messages and answers as Markdown.
    pub fn markdown(&self) -> Markdown {
        let state = self.state();
        let title = state.overview.title().unwrap_or("Session").to_owned();
        let (log, start, end) = (state.log.clone(), state.log_start, state.log_len);
        Markdown { rest: Some(Rest { id: self.id(), title, log, start, at: start, end }) }
    }
}

impl Markdown {
    /// The next piece; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        let Some(mut rest) = self.rest.take() else { return Ok(None) };
        let (piece, rest) = blocking(move || {
            let piece = rest.next().map_err(StoreError::of("reading session", rest.id))?;
            Ok((piece, rest))
        })
        .await?;
        if rest.at < rest.end {
            self.rest = Some(rest);
        }
        Ok(Some(piece.into()))
    }
}

impl Rest {
    fn next(&mut self) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        if self.at == self.start {
            out.extend_from_slice(format!("# {}\n\nSession `{}`\n", self.title, self.id).as_bytes());
        }
        let Some(log) = self.log.clone() else {
            self.at = self.end;
            return Ok(out);
        };
        let mut lines = Forward::new(log.as_ref(), self.at, self.end);
        while out.len() < PAGE_BYTES {
            let Some(found) = lines.next()? else {
                self.at = self.end;
                return Ok(out);
            };
            out.extend(found.json.and_then(part).unwrap_or_default().into_bytes());
        }
        self.at = lines.offset();
        Ok(out)
    }
}

/// What a record says to people.
fn part(json: &[u8]) -> Option<String> {
    Glance::of(json).filter(|glance| glance.kind == "message" || glance.is_terminal())?;
    let Record { time, body, .. } = serde_json::from_slice(json).ok()?;
    let kind = body.kind();
    let (who, text, why) = match body {
        Body::Message(said) => ("User".to_owned(), said.content, None),
        Body::Done(ending) => ("Answer".to_owned(), ending.text, None),
        Body::Failed(ending) | Body::Cancelled(ending) | Body::Interrupted(ending) => {
            (format!("Answer ({kind})"), ending.text, ending.error.map(|problem| format!("({})", problem.message)))
        }
        _ => return None,
    };
    // An imported answer without a question has an empty one, an imported question without an answer an empty ending.
    if text.is_empty() && why.is_none() && kind != "failed" && kind != "cancelled" {
        return None;
    }
    let said: Vec<_> = [Some(text.trim_end()), why.as_deref()].into_iter().flatten().filter(|said| !said.is_empty()).collect();
    Some(format!("\n## {who}, {time}\n\n{}\n", said.join("\n\n")))
}
