//! How many tokens a key may use, and in which time.

use serde::{Deserialize, Serialize};

use crate::base::ids::BudgetId;
use crate::base::limits::BUDGET_TOKENS_MAX;
use crate::base::random::Random;
use crate::base::time::Timestamp;

/// A token budget. It never changes; what is used of it is in the [`Books`](super::Books).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Its books. A rotated key goes on with them, and a key made by a key with a budget shares them.
    pub id: BudgetId,
    /// Tokens that models may read and write, 1 to [`BUDGET_TOKENS_MAX`].
    pub tokens: u64,
    /// In which time.
    pub per: Period,
}

/// The time that a budget is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "BudgetPeriod"))]
pub enum Period {
    /// From midnight to midnight, UTC.
    Day,
    /// From the first of a month to the first of the next, UTC.
    Month,
    /// For ever: what is used up stays so.
    Total,
}

impl Budget {
    /// A new budget with books of its own; none where the number is out of its bounds.
    pub fn new(tokens: u64, per: Period, random: &dyn Random) -> Option<Self> {
        (1..=BUDGET_TOKENS_MAX).contains(&tokens).then(|| Self { id: BudgetId::random(random), tokens, per })
    }
}

impl Period {
    /// When the one that `now` lies in is over; a total never is.
    pub fn end(self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Day => Some(now.next_day()),
            Self::Month => Some(now.next_month()),
            Self::Total => None,
        }
    }
    /// In words, behind a number.
    pub fn words(self) -> &'static str {
        match self {
            Self::Day => "a day",
            Self::Month => "a month",
            Self::Total => "in all",
        }
    }
}
