//! Joining pieces of text on their way into the log: the first leaves at once, later ones within [`WINDOW`].

use std::time::Duration;

use crate::store::record::Body;

/// Long enough that a fast model costs fifty writes a second and not a thousand, short enough that nobody sees it.
pub(crate) const WINDOW: Duration = Duration::from_millis(20);

/// Records that wait to be appended, in order.
#[derive(Default)]
pub(crate) struct Joiner {
    waiting: Vec<Body>,
    /// When pieces were last appended.
    last: Option<Duration>,
}

impl Joiner {
    /// Adds a record; a piece of the same kind as the one before it becomes part of that one.
    pub(crate) fn push(&mut self, body: Body) {
        match (self.waiting.last_mut(), body) {
            (Some(Body::Token { text }), Body::Token { text: more }) => text.push_str(&more),
            (Some(Body::Draft { text, attempt }), Body::Draft { text: more, attempt: same }) if *attempt == same => text.push_str(&more),
            (_, body) => self.waiting.push(body),
        }
    }

    /// How long what waits may still wait; `None` where nothing waits.
    pub(crate) fn due(&self, now: Duration) -> Option<Duration> {
        if self.waiting.is_empty() {
            return None;
        }
        let only_pieces = self.waiting.iter().all(Body::is_piece);
        match self.last {
            Some(last) if only_pieces => Some((last + WINDOW).saturating_sub(now)),
            _ => Some(Duration::ZERO),
        }
    }

    /// What is to be appended now.
    pub(crate) fn take(&mut self, now: Duration) -> Vec<Body> {
        if self.waiting.iter().any(Body::is_piece) {
            self.last = Some(now);
        }
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str) -> Body {
        Body::Token { text: text.into() }
    }

    #[test]
    fn the_first_piece_leaves_at_once_and_later_ones_are_joined() {
        let ms = Duration::from_millis;
        let mut joiner = Joiner::default();
        assert_eq!(joiner.due(ms(0)), None);
        joiner.push(token("a"));
        assert_eq!(joiner.due(ms(5)), Some(ms(0)));
        assert_eq!(joiner.take(ms(5)), [token("a")]);
        joiner.push(token("b"));
        joiner.push(token("c"));
        assert_eq!(joiner.due(ms(10)), Some(ms(15)));
        assert_eq!(joiner.due(ms(30)), Some(ms(0)));
        joiner.push(Body::Draft { text: "d".into(), attempt: 0 });
        joiner.push(Body::Draft { text: "e".into(), attempt: 1 });
        assert_eq!(joiner.due(ms(10)), Some(ms(15)));
        joiner.push(Body::Reserve { until: 1 });
        assert_eq!(joiner.due(ms(10)), Some(ms(0)), "a record does not wait");
        assert_eq!(joiner.take(ms(12)).len(), 4);
        assert_eq!(joiner.due(ms(12)), None);
    }
}
