//! The form of an answer's body: a stream of events, or one JSON object from servers that do not stream. The first byte tells.

use crate::base::limits::MODEL_EVENT_BYTES_MAX;
use crate::llm::error::Fault;
use crate::wire::sse_in::{SseDecoder, SseEvent};

/// A body as it comes in.
#[derive(Debug, Default)]
pub(super) enum Form {
    /// Nothing but white space so far.
    #[default]
    Unknown,
    /// Events.
    Stream(SseDecoder),
    /// One JSON object, kept until it is complete; at most [`MODEL_EVENT_BYTES_MAX`].
    Whole(Vec<u8>),
}

impl Form {
    /// Takes the next bytes and gives each event they complete to `event`.
    pub(super) fn push(&mut self, bytes: &[u8], mut event: impl FnMut(&SseEvent) -> Result<(), Fault>) -> Result<(), Fault> {
        let mut bytes = bytes;
        if matches!(self, Self::Unknown) {
            // A stream of events never begins with a brace; leading white space belongs to neither form.
            let at = bytes.iter().position(|b| !b.is_ascii_whitespace()).unwrap_or(bytes.len());
            bytes = bytes.get(at..).unwrap_or_default();
            match bytes.first() {
                None => return Ok(()),
                Some(b'{') => *self = Self::Whole(Vec::new()),
                Some(_) => *self = Self::Stream(SseDecoder::new(MODEL_EVENT_BYTES_MAX)),
            }
        }
        match self {
            Self::Unknown => Ok(()),
            Self::Whole(all) if all.len() + bytes.len() > MODEL_EVENT_BYTES_MAX => Err(Fault::TooLarge),
            Self::Whole(all) => {
                all.extend_from_slice(bytes);
                Ok(())
            }
            Self::Stream(sse) => {
                let mut events = Vec::new();
                let fits = sse.push(bytes, &mut events);
                events.iter().try_for_each(&mut event)?;
                fits.map_err(|_| Fault::TooLarge)
            }
        }
    }

    /// The object, where the body was one.
    pub(super) fn take_whole(&mut self) -> Option<Vec<u8>> {
        if let Self::Whole(all) = self { Some(std::mem::take(all)) } else { None }
    }
}
