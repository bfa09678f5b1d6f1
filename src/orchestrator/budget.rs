//! What a run may use up: model calls, tokens, time. A call is counted before it is made (THREATS 25), its tokens when they
//! are known; what was used is in every checkpoint, so a run that goes on later goes on with what is left.

use std::time::Duration;

use crate::orchestrator::Settings;
use crate::orchestrator::state::Spent;

/// Model turns of one stage: a conversation that looks into twelve things one after the other is going in circles.
pub(crate) const STAGE_TURNS_MAX: u32 = 12;
/// Tools called in one model turn; more are a runaway.
pub(crate) const CALLS_A_TURN_MAX: usize = 8;

/// Model calls of one member of a group: one to look something up, one to say what was found.
const MEMBER_CALLS_MIN: u32 = 2;

/// The rules of one run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rules {
    /// Repairs of one task.
    pub(crate) evolutions: u32,
    /// Score from which an evaluation counts as passed.
    pub(crate) score: f64,
    /// Model calls.
    pub(crate) calls: u32,
    /// Tokens.
    pub(crate) tokens: u64,
    /// Time.
    pub(crate) time: Duration,
    /// Judges beside the model itself.
    pub(crate) judges: usize,
    /// Agents that a task may be split into; below two it is not.
    pub(crate) group: usize,
}

/// What the budget says to one more model call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// Yes.
    Yes,
    /// Yes, but it must be the answer: no tools.
    Last,
    /// No.
    No,
}

impl Rules {
    /// The settings of now, and so many further judges.
    pub(crate) fn new(settings: &Settings, judges: usize) -> Self {
        Self {
            evolutions: settings.max_evolution_iterations,
            score: settings.min_evaluation_score,
            calls: settings.max_model_calls,
            tokens: settings.max_tokens,
            time: settings.max_execution,
            judges,
            group: settings.max_group_size,
        }
    }

    /// May there be one more model call, the `turns`-th of its stage (from 0)?
    pub(crate) fn allows(&self, spent: &Spent, turns: u32) -> Allowed {
        if spent.calls >= self.calls || spent.tokens >= self.tokens || turns > STAGE_TURNS_MAX {
            return Allowed::No;
        }
        // One in ten of the tokens is left for saying what was found.
        let nearly = spent.tokens >= self.tokens - self.tokens / 10;
        if spent.calls + 1 >= self.calls || turns == STAGE_TURNS_MAX || nearly { Allowed::Last } else { Allowed::Yes }
    }

    /// What each of `members` may use up of what is left, so that together they cannot use more (THREATS 25): it is set aside
    /// before they begin, and what they used is counted when they are done. A share is kept for joining and judging. `None` where
    /// that is too little to begin with. Their time is the run's own.
    pub(crate) fn share(&self, spent: &Spent, members: usize) -> Option<Self> {
        let shares = u32::try_from(members).ok()?.checked_add(1)?;
        let calls = self.calls.saturating_sub(spent.calls) / shares;
        let tokens = self.tokens.saturating_sub(spent.tokens) / u64::from(shares);
        (calls >= MEMBER_CALLS_MIN && tokens > 0).then(|| Self { calls, tokens, ..self.clone() })
    }

    /// The time that is left.
    pub(crate) fn left(&self, spent: &Spent) -> Duration {
        self.time.saturating_sub(Duration::from_millis(spent.millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_call_has_no_tools_and_then_there_is_none() {
        let rules = Rules::new(&Settings { max_model_calls: 3, max_tokens: 100, ..Settings::default() }, 0);
        for (calls, tokens, turns, allowed) in [
            (0, 0, 0, Allowed::Yes),
            (1, 89, 0, Allowed::Yes),
            (1, 90, 0, Allowed::Last),
            (2, 0, 0, Allowed::Last),
            (3, 0, 0, Allowed::No),
            (0, 100, 0, Allowed::No),
            (0, 0, STAGE_TURNS_MAX, Allowed::Last),
            (0, 0, STAGE_TURNS_MAX + 1, Allowed::No),
        ] {
            assert_eq!(rules.allows(&Spent { calls, tokens, millis: 0 }, turns), allowed, "{calls} {tokens} {turns}");
        }
        assert_eq!(rules.share(&Spent::default(), 2), None, "one call each is not enough");
        let share = Rules { calls: 11, tokens: 1000, ..rules.clone() }.share(&Spent { calls: 1, tokens: 100, millis: 0 }, 4).unwrap();
        assert_eq!((share.calls, share.tokens), (2, 180));
        assert_eq!(rules.left(&Spent { millis: 299_000, ..Spent::default() }), Duration::from_secs(1));
        assert_eq!(rules.left(&Spent { millis: u64::MAX, ..Spent::default() }), Duration::ZERO);
    }
}
