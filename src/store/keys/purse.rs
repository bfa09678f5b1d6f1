//! What the model calls of one message are paid from: tokens are reserved before a call and settled when it is over.

use std::fmt;
use std::sync::Arc;

use crate::base::blocking;
use crate::base::time::Timestamp;
use crate::store::StoreError;
use crate::store::keys::books::{Books, Take};
use crate::store::keys::budget::Budget;

/// The budget of the key that a message came with, or no limit. Cheap to clone: calls of one run share it.
#[derive(Clone, Default)]
pub struct Purse(Kind);

#[derive(Clone, Default)]
enum Kind {
    /// No limit.
    #[default]
    Open,
    Of(Arc<Books>, Budget),
    /// The key that had it is forgotten: nothing is left of it.
    Gone,
}

/// Why a model must not be called.
#[derive(Debug)]
pub enum Refused {
    /// Not enough is left.
    Short {
        /// What is left, in tokens.
        left: u64,
        /// The whole budget; none where its key is forgotten.
        budget: Option<Budget>,
        /// When it begins anew, and in how many seconds.
        anew: Option<(Timestamp, u64)>,
    },
    /// It could not be written down.
    Unwritten(StoreError),
}

/// Tokens of a budget that nobody else can use. When it is dropped, what was noted as used last is used, and the rest given
/// back; where nothing was noted, all of it is used.
pub struct Reservation(Option<Held>);

struct Held {
    books: Arc<Books>,
    budget: Budget,
    turn: u64,
    tokens: u64,
    used: u64,
}

impl Purse {
    pub(super) fn of(books: Arc<Books>, budget: Budget) -> Self {
        Self(Kind::Of(books, budget))
    }
    pub(super) fn gone() -> Self {
        Self(Kind::Gone)
    }

    /// Whether anything is left at all: asked before a message is taken, so that one that cannot be answered is refused.
    ///
    /// # Errors
    /// [`Refused::Short`].
    pub fn admit(&self) -> Result<(), Refused> {
        match &self.0 {
            Kind::Open => Ok(()),
            Kind::Of(books, budget) => match budget.tokens.saturating_sub(books.used(budget)) {
                0 => Err(self.short(0)),
                _ => Ok(()),
            },
            Kind::Gone => Err(self.short(0)),
        }
    }

    /// Holds what a model call may use at most. Where it fits only once other calls have given back what they do not use, it waits for
    /// them. May be dropped at any time: nothing is held then.
    ///
    /// # Errors
    /// [`Refused`]; the call must not be made.
    pub async fn reserve(&self, tokens: u64) -> Result<Reservation, Refused> {
        let (books, budget) = match &self.0 {
            Kind::Open => return Ok(Reservation(None)),
            Kind::Of(books, budget) => (books, *budget),
            Kind::Gone => return Err(self.short(0)),
        };
        loop {
            // Before the look, so that what is given back after it is not missed.
            let mut settled = std::pin::pin!(books.settled.notified());
            settled.as_mut().enable();
            match books.take(&budget, tokens) {
                Take::Held(turn) => {
                    return Ok(Reservation(Some(Held { books: books.clone(), budget, turn, tokens, used: tokens })));
                }
                Take::Wait => settled.await,
                Take::Write => {
                    let writer = books.clone();
                    let written = blocking::spawn(move || writer.set_aside(&budget, tokens)).await;
                    let written = written.unwrap_or_else(|e| Err(StoreError::Damaged(format!("writing budgets.json: {e}"))));
                    written.map_err(|error| {
                        books.metrics.budget_refusals.one("unwritten");
                        Refused::Unwritten(error)
                    })?;
                }
                Take::Short(left) => return Err(self.short(left)),
            }
        }
    }

    fn short(&self, left: u64) -> Refused {
        let Kind::Of(books, budget) = &self.0 else { return Refused::Short { left, budget: None, anew: None } };
        books.metrics.budget_refusals.one("used_up");
        let anew = books.anew(budget);
        Refused::Short { left, budget: Some(*budget), anew }
    }
}

impl Reservation {
    /// So much was used until now; what was noted last counts.
    pub fn used(&mut self, tokens: u64) {
        if let Some(held) = &mut self.0 {
            held.used = tokens;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.books.settle(&self.budget, self.turn, self.tokens, self.used);
    }
}

impl Refused {
    /// The word that a run ends with: `token_budget`, `disk_full` or `budget_unwritten`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Short { .. } => "token_budget",
            Self::Unwritten(StoreError::DiskFull(_)) => "disk_full",
            Self::Unwritten(_) => "budget_unwritten",
        }
    }
    /// In words for the log.
    pub fn private(&self) -> String {
        match self {
            Self::Short { .. } => self.to_string(),
            Self::Unwritten(error) => error.to_string(),
        }
    }
    /// Seconds until another try makes sense, where it ever will.
    pub fn retry_secs(&self) -> Option<u64> {
        match self {
            Self::Short { anew, .. } => anew.map(|(_, secs)| secs),
            Self::Unwritten(_) => None,
        }
    }
}

/// In public words.
impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { left, budget: Some(budget), anew } => {
                write!(f, "this key's budget of {} tokens {} ", budget.tokens, budget.per.words())?;
                match left {
                    0 => f.write_str("is used up")?,
                    left => write!(f, "has {left} left, and this may take more")?,
                }
                match anew {
                    Some((at, _)) => write!(f, "; it begins anew at {at}"),
                    None => f.write_str("; use another key"),
                }
            }
            Self::Short { budget: None, .. } => f.write_str("the key that this came with is gone, and its token budget with it"),
            Self::Unwritten(_) => {
                f.write_str("the use of the key's token budget cannot be written down, so no model is asked; the server's log says why")
            }
        }
    }
}
