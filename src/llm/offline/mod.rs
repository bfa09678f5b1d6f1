//! The built-in model.

use crate::llm::request::{Event, Finish, Request};

/// An answer that is given piece by piece.
pub(crate) struct Answer(Vec<Event>);

impl Answer {
    pub(crate) fn next(&mut self) -> Option<Event> {
        self.0.pop()
    }
}

/// Answers.
pub(crate) fn answer(_request: &Request) -> Answer {
    Answer(vec![Event::Finish(Finish::Stop), Event::Text("offline".to_owned())])
}
