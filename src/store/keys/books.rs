//! What was used of each budget: reserved before a model is called, settled after it, refused where in doubt (THREATS 25).
//!
//! `<home>/budgets.json` says of each budget how far it may be used; no call goes beyond that before the file says more. It is
//! written ahead in parts ([`BUDGET_PARTS`]), so that most calls write nothing. Once a budget has rested for a moment
//! ([`BUDGET_REST`]), and at an orderly end, it says what was used. A crash in between leaves more than that, and what the file says
//! counts as used: at most one part, and what the calls under way could have used. A file that cannot be read counts as everything
//! used up.
//!
//! A reservation is of the time in which it was made: a call over midnight counts for the day before.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::base::blocking;
use crate::base::cancel::Cancel;
use crate::base::ids::BudgetId;
use crate::base::limits::{BUDGET_PART_TOKENS_MIN, BUDGET_PARTS, BUDGET_PARTS_MIN, BUDGET_REST, BUDGETS_FILE_BYTES_MAX};
use crate::base::log;
use crate::base::metrics::Metrics;
use crate::base::time::Timestamp;
use crate::store::StoreError;
use crate::store::atomic::{self, Durable};
use crate::store::home::Seams;
use crate::store::keys::budget::Budget;
use crate::store::keys::purse::Purse;
use crate::store::keys::{Keys, Period};
use crate::sys::disk::read_whole;

/// The file in the home.
const FILE_NAME: &str = "budgets.json";
/// The form of the file.
const FORMAT: u64 = 1;

/// The books of all budgets of a home.
pub struct Books {
    seams: Seams,
    path: PathBuf,
    keys: Arc<Keys>,
    pub(super) metrics: Arc<Metrics>,
    /// Everyone takes it shortly; nobody waits for the disk while holding it.
    accounts: Mutex<HashMap<BudgetId, Account>>,
    /// Held while the file is written, so that an older state never replaces a newer one. True: it says more than it has to, as
    /// lowering it failed.
    writing: Mutex<bool>,
    /// Told when a reservation was settled: others may fit now.
    pub(super) settled: Notify,
    /// Told then, too: the file may say more than was used.
    ahead: Notify,
}

/// One budget in the time that it is in.
#[derive(Debug, Clone, Copy, Default)]
struct Account {
    /// When this time is over; never where it is none.
    until: Option<Timestamp>,
    /// Which time this is, counted from the start of the process; a reservation of an earlier one changes nothing here.
    turn: u64,
    /// Tokens that were used.
    spent: u64,
    /// Tokens that calls under way may still use.
    held: u64,
    /// What the file says; `spent` and `held` together are at most this, or a settled call used more than was thought.
    aside: u64,
    /// No call was settled since [`Books::rest`] looked last.
    resting: bool,
}

/// What comes of asking for tokens.
pub(super) enum Take {
    /// They are held, in this turn.
    Held(u64),
    /// They fit once others have given back what they do not use.
    Wait,
    /// The file has to say so first.
    Write,
    /// There are only so many left.
    Short(u64),
}

#[derive(Serialize, Deserialize)]
struct Page {
    version: u64,
    budgets: Vec<Line>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    id: BudgetId,
    until: Option<Timestamp>,
    /// How far it may be used; after an orderly end, what was used.
    tokens: u64,
}

impl Books {
    /// The books of a home, also beside the server that keeps them: then they are only to be read.
    ///
    /// # Errors
    /// `Newer` where they have a form that only a newer version knows.
    pub fn open(home: &Path, seams: Seams, keys: Arc<Keys>, metrics: Arc<Metrics>) -> Result<Arc<Self>, StoreError> {
        let path = home.join(FILE_NAME);
        let accounts = match read(&seams, &path) {
            Ok(lines) => lines.into_iter().map(|line| (line.id, Account::read(&line))).collect(),
            Err(StoreError::Newer { found }) => return Err(StoreError::Newer { found }),
            Err(error) => {
                log::error(
                    "store",
                    format_args!(
                        "{error}; every token budget counts as used up until its time begins anew. To begin them all anew, stop the server \
                         and remove {}",
                        path.display()
                    ),
                );
                let now = seams.clock.now();
                keys.budgets().map(|budget| (budget.id, Account::used_up(&budget, now))).collect()
            }
        };
        Ok(Arc::new(Self {
            seams,
            path,
            keys,
            metrics,
            accounts: Mutex::new(accounts),
            writing: Mutex::default(),
            settled: Notify::new(),
            ahead: Notify::new(),
        }))
    }

    /// What the calls of a message are paid from; none: they have no limit.
    pub fn purse(self: &Arc<Self>, budget: Option<BudgetId>) -> Purse {
        match budget {
            None => Purse::default(),
            Some(id) => self.keys.budgets().find(|budget| budget.id == id).map_or(Purse::gone(), |budget| Purse::of(self.clone(), budget)),
        }
    }

    /// Tokens that were used in the time that it is in.
    pub fn used(&self, budget: &Budget) -> u64 {
        let now = self.seams.clock.now();
        let mut account = self.accounts().get(&budget.id).copied().unwrap_or_default();
        account.renew(budget.per, now);
        account.spent
    }

    /// When it begins anew, and in how many seconds; never where it is a total.
    pub fn anew(&self, budget: &Budget) -> Option<(Timestamp, u64)> {
        let now = self.seams.clock.now();
        budget.per.end(now).map(|end| (end, end.since(now).as_secs() + 1))
    }

    /// Until `stop`: what a budget has used is on the disk once no call of it was under way for [`BUDGET_REST`] (and at most twice
    /// that), so that a crash of an idle server costs nothing. A busy budget is left alone.
    pub async fn keep_exact(self: Arc<Self>, stop: Cancel) {
        let work = async {
            loop {
                self.ahead.notified().await;
                let mut again = true;
                while again {
                    tokio::time::sleep(BUDGET_REST).await;
                    let books = self.clone();
                    again = blocking::spawn(move || books.rest()).await.unwrap_or(true);
                }
            }
        };
        // A write that has begun ends by itself.
        let _ = stop.guard(work).await;
    }

    /// Lowers what the file says of the budgets that rest. True: there will be more to do. Blocks.
    fn rest(&self) -> bool {
        let mut more = false;
        let lowered = self.lower(|account| {
            let rested = account.held == 0 && account.resting;
            account.resting = account.held == 0;
            more |= !rested && account.aside > account.needed();
            rested
        });
        if let Err(error) = lowered {
            log::warn("store", format_args!("what a token budget has used was not written down yet; it is tried again: {error}"));
            self.ahead.notify_one();
        }
        more
    }

    /// At the orderly end of the server: from now on the file says what was used. Blocks. Its failure loses nothing: what was set
    /// aside counts as used then.
    pub fn close(&self) -> Result<(), StoreError> {
        self.lower(|_| true)
    }

    /// Says in the file of these accounts no more than they need. Those that need a write again wait for this one.
    fn lower(&self, mut which: impl FnMut(&mut Account) -> bool) -> Result<(), StoreError> {
        let mut behind = self.writing.lock().unwrap_or_else(|e| e.into_inner());
        let page = {
            let mut accounts = self.accounts();
            for account in accounts.values_mut() {
                // In force at once, on the disk later: nobody may use what the file no longer says.
                if which(account) && account.aside != account.needed() {
                    account.aside = account.needed();
                    *behind = true;
                }
            }
            if !*behind {
                return Ok(());
            }
            self.page(&accounts)
        };
        self.write(&page)?;
        *behind = false;
        Ok(())
    }

    /// Holds these tokens, or says what that takes.
    pub(super) fn take(&self, budget: &Budget, tokens: u64) -> Take {
        let now = self.seams.clock.now();
        let mut accounts = self.accounts();
        let account = accounts.entry(budget.id).or_default();
        account.renew(budget.per, now);
        account.take(budget, tokens)
    }

    /// Writes that so many tokens more may be used, and a part ahead. Blocks.
    pub(super) fn set_aside(&self, budget: &Budget, tokens: u64) -> Result<(), StoreError> {
        let mut behind = self.writing.lock().unwrap_or_else(|e| e.into_inner());
        let (page, aside, turn) = {
            let mut accounts = self.accounts();
            let account = *accounts.entry(budget.id).or_default();
            let wanted = account.needed().saturating_add(tokens);
            // Whoever wrote before us may have written enough.
            if wanted <= account.aside {
                return Ok(());
            }
            let part = (budget.tokens / BUDGET_PARTS).max(BUDGET_PART_TOKENS_MIN.min(budget.tokens / BUDGET_PARTS_MIN));
            let aside = wanted.saturating_add(part).min(budget.tokens).max(wanted);
            let turn = account.turn;
            // In force when it is on the disk, not earlier.
            let mut then = accounts.clone();
            then.insert(budget.id, Account { aside, ..account });
            (self.page(&then), aside, turn)
        };
        self.write(&page)?;
        *behind = false;
        if let Some(account) = self.accounts().get_mut(&budget.id).filter(|account| account.turn == turn) {
            account.aside = account.aside.max(aside);
        }
        Ok(())
    }

    /// A call that held these tokens in this turn has used so many.
    pub(super) fn settle(self: &Arc<Self>, budget: &Budget, turn: u64, held: u64, used: u64) {
        let short = {
            let mut accounts = self.accounts();
            accounts.get_mut(&budget.id).filter(|account| account.turn == turn).is_some_and(|account| {
                account.held = account.held.saturating_sub(held);
                account.spent = account.spent.saturating_add(used);
                account.resting = false;
                account.needed() > account.aside
            })
        };
        self.ahead.notify_one();
        // Also where its time is over: those who wait look anew.
        self.settled.notify_waiters();
        // It used more than was thought: a crash must not forget that. Without a runtime the process is about to end.
        if let (true, Ok(runtime)) = (short, Handle::try_current()) {
            let (books, budget) = (self.clone(), *budget);
            runtime.spawn_blocking(move || {
                if let Err(error) = books.set_aside(&budget, 0) {
                    log::warn("store", format_args!("a token budget's use was not written down yet: {error}"));
                }
            });
        }
    }

    fn accounts(&self) -> MutexGuard<'_, HashMap<BudgetId, Account>> {
        self.accounts.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Every budget that a key has and whose time is not over.
    fn page(&self, accounts: &HashMap<BudgetId, Account>) -> Page {
        let now = self.seams.clock.now();
        let mut ids: Vec<BudgetId> = self.keys.budgets().map(|budget| budget.id).collect();
        ids.sort_unstable();
        ids.dedup();
        let lines = ids.into_iter().filter_map(|id| {
            let account = accounts.get(&id).filter(|account| account.until.is_none_or(|until| now < until))?;
            Some(Line { id, until: account.until, tokens: account.aside.max(account.needed()) })
        });
        Page { version: FORMAT, budgets: lines.collect() }
    }

    fn write(&self, page: &Page) -> Result<(), StoreError> {
        let mut bytes = serde_json::to_vec(page).map_err(|e| StoreError::Damaged(e.to_string()))?;
        bytes.push(b'\n');
        let written = atomic::replace(self.seams.disk.as_ref(), &self.path, &bytes, Durable::Yes);
        written.map_err(StoreError::io("writing budgets.json"))
    }
}

impl Account {
    fn read(line: &Line) -> Self {
        Self { until: line.until, spent: line.tokens, aside: line.tokens, ..Self::default() }
    }

    fn used_up(budget: &Budget, now: Timestamp) -> Self {
        Self { until: budget.per.end(now), spent: budget.tokens, aside: budget.tokens, ..Self::default() }
    }

    /// What the file has to say at least.
    fn needed(&self) -> u64 {
        self.spent.saturating_add(self.held)
    }

    /// Begins anew where its time is over. A clock that runs backwards begins nothing anew; an end that lies further ahead than it
    /// can was made by a clock that was wrong then, and what is used stays used until the true end.
    fn renew(&mut self, per: Period, now: Timestamp) {
        let end = per.end(now);
        match (self.until, end) {
            (Some(until), _) if until <= now => *self = Self { until: end, turn: self.turn + 1, ..Self::default() },
            (None, _) => self.until = end,
            (Some(until), Some(end)) => self.until = Some(until.min(end)),
            (Some(_), None) => {}
        }
    }

    fn take(&mut self, budget: &Budget, tokens: u64) -> Take {
        let left = budget.tokens.saturating_sub(self.spent);
        if tokens > left {
            return Take::Short(left);
        }
        if tokens > left.saturating_sub(self.held) {
            return Take::Wait;
        }
        if self.needed().saturating_add(tokens) > self.aside {
            return Take::Write;
        }
        self.held = self.held.saturating_add(tokens);
        Take::Held(self.turn)
    }
}

/// The file could be read.
///
/// # Errors
/// `Damaged`, `Newer`.
pub(crate) fn examine(bytes: &[u8]) -> Result<(), StoreError> {
    parse(bytes, Path::new(FILE_NAME)).map(drop)
}

fn read(seams: &Seams, path: &Path) -> Result<Vec<Line>, StoreError> {
    let bytes = match read_whole(seams.disk.as_ref(), path, BUDGETS_FILE_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(StoreError::io("reading budgets.json")(e)),
    };
    parse(&bytes, path)
}

/// What the file says; `path` is for the error.
fn parse(bytes: &[u8], path: &Path) -> Result<Vec<Line>, StoreError> {
    let page: Page =
        serde_json::from_slice(bytes).map_err(|e| StoreError::Damaged(format!("{} is damaged at line {}", path.display(), e.line())))?;
    if page.version == FORMAT { Ok(page.budgets) } else { Err(StoreError::Newer { found: page.version }) }
}

#[cfg(test)]
impl Books {
    pub(crate) fn for_tests(home: &Arc<crate::store::home::Home>) -> Arc<Self> {
        let keys = Arc::new(Keys::open(home).unwrap());
        Self::open(home.path(), home.seams().clone(), keys, Metrics::new(0)).unwrap()
    }
}

#[cfg(test)]
mod tests;
