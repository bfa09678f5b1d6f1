//! The audit log: a chain of content-free records in `<workspace>/audit/<n>.log` (n: its first record), each hash over the one
//! before, with a signed checkpoint every 256 records, every minute in which something happened, and at each end of the server.
//!
//! A record is with the operating system when [`Audit::note`] or [`Audit::append`] returns, so a killed process loses none;
//! [`Audit::append`] also waits for the disk. What was only noted is synced within five seconds: a power cut may lose the
//! records of that time, never one of a risky action.

mod chain;
pub mod event;
pub(crate) mod key;
pub mod read;
pub mod verify;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;

use crate::base::blocking;
use crate::base::cancel::Cancel;
use crate::base::digest::{Keyed, hex};
use crate::base::limits::{AUDIT_SEGMENT_BYTES, AUDIT_WAITING_MAX};
use crate::base::live::Live;
use crate::base::log;
use crate::base::metrics::Metrics;
use crate::store::StoreError;
use crate::store::home::Home;
use crate::sys::disk::{RealDisk, read_whole};
use crate::wire::audit_line::AuditLine;
use chain::Chain;
pub(crate) use chain::segment_number;
pub use event::{Event, On, Outcome, What, Who};
use key::Signer;

/// What was only noted is on the disk after this time.
const SYNC_WITHIN: Duration = Duration::from_secs(5);
/// What is not yet signed is signed after this time.
const SIGN_WITHIN: Duration = Duration::from_secs(60);

/// What can be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `audit.enabled`.
    pub enabled: bool,
    /// `audit.on_failure`: go on although a record cannot be written. The log then tells how many are missing.
    pub go_on: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { enabled: true, go_on: false }
    }
}

/// The log cannot take a record now; nothing was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditError {
    /// No space.
    DiskFull,
    /// The disk refused otherwise; the server's log says how.
    Unwritable,
}

/// The audit log of a home; any number of writers.
pub struct Audit {
    home: Arc<Home>,
    settings: Arc<Live<Settings>>,
    metrics: Arc<Metrics>,
    /// The end of the chain and what waits for it. Held for hashing and one write to the page cache; every audited action takes it.
    inner: Mutex<Inner>,
    /// How far the disk has it. Held for one sync, which serves all who wait for it.
    synced: tokio::sync::Mutex<u64>,
    /// Something was noted since the last sync.
    dirty: Notify,
}

/// The public key of a home that may be in use, in hexadecimal.
///
/// # Errors
/// There is no key yet, or it cannot be read.
pub fn public_key_of(home: &Path) -> Result<String, StoreError> {
    Signer::read(&RealDisk, home)?.map(|signer| signer.public()).ok_or_else(|| {
        StoreError::Damaged(format!("there is no {} yet; the server makes it when it starts", home.join("audit.key").display()))
    })
}

/// The secret of a home that may be in use: HMACs of names are made with it.
///
/// # Errors
/// It cannot be read.
pub fn secret_of(home: &Path) -> Result<Vec<u8>, StoreError> {
    read_whole(&RealDisk, &home.join("secret"), 32).map_err(StoreError::io("reading the home's secret"))
}

struct Inner {
    chain: Chain,
    /// What could not be written; goes first as soon as the disk takes it. Nothing new is let in meanwhile.
    waiting: VecDeque<Event>,
    /// Records that are missing because everything went on without them.
    lost: u64,
}

impl Audit {
    /// Finds the end of the chain, cuts a torn one and says so. Where it is off, that is the one record of this start.
    ///
    /// # Errors
    /// The key or the directory cannot be used.
    pub fn open(home: &Arc<Home>, settings: Arc<Live<Settings>>, metrics: Arc<Metrics>) -> Result<Arc<Self>, StoreError> {
        Self::in_segments(home, settings, metrics, AUDIT_SEGMENT_BYTES)
    }

    /// The same with segments of another size.
    fn in_segments(
        home: &Arc<Home>,
        settings: Arc<Live<Settings>>,
        metrics: Arc<Metrics>,
        segment_bytes: u64,
    ) -> Result<Arc<Self>, StoreError> {
        let seams = home.seams().clone();
        let signer = Signer::open(home.path(), &seams)?;
        let (chain, cut) = Chain::open(home.workspace().join("audit"), seams, signer, segment_bytes)?;
        let synced = tokio::sync::Mutex::new(chain.n);
        let inner = Mutex::new(Inner { chain, waiting: VecDeque::new(), lost: 0 });
        let audit = Arc::new(Self { home: home.clone(), settings, metrics, inner, synced, dirty: Notify::new() });
        if cut > 0 {
            log::warn("audit", format_args!("{cut} bytes behind the last whole record were cut; a crash leaves such an end"));
            audit.note(Event { who: Who::default(), what: What::TailCut, on: None, outcome: Outcome::Count(cut) });
        }
        let now = audit.settings.load();
        if !now.enabled {
            audit.record(Event::of_server(What::Off), now.go_on);
        }
        Ok(audit)
    }
    /// Puts new settings in force. That it is switched off is its last record, whoever did it.
    pub fn set(&self, settings: Settings) {
        if !settings.enabled {
            self.note(Event::of_server(What::Off));
        }
        self.settings.store(settings);
    }
    /// HMACs of names; see [`On::name`].
    pub fn keyed(&self) -> &Keyed {
        self.home.keyed()
    }
    /// The numbers of the process.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }
    /// Where the segments lie.
    pub fn dir(&self) -> PathBuf {
        self.home.workspace().join("audit")
    }
    /// The public key in hexadecimal.
    pub fn public_key(&self) -> String {
        self.inner().chain.public()
    }

    /// Records can be written now. Asked before anything that is only recorded afterwards.
    ///
    /// # Errors
    /// They cannot, and `audit.on_failure` says to refuse.
    pub fn admit(&self) -> Result<(), AuditError> {
        let settings = self.settings.load();
        if !settings.enabled || settings.go_on {
            return Ok(());
        }
        let mut inner = self.inner();
        if inner.waiting.is_empty() {
            return Ok(());
        }
        self.write_waiting(&mut inner)
    }

    /// Records wait that could not be written, so that [`Self::admit`] refuses unless they can be now.
    pub fn is_behind(&self) -> bool {
        let settings = self.settings.load();
        settings.enabled && !settings.go_on && !self.inner().waiting.is_empty()
    }

    /// Records what is about to be done, and waits for the disk. Nothing may be done after an error.
    ///
    /// # Errors
    /// It could not be written, and `audit.on_failure` says to refuse.
    pub async fn append(&self, event: Event) -> Result<(), AuditError> {
        let settings = self.settings.load();
        if !settings.enabled {
            return Ok(());
        }
        let written = {
            let mut inner = self.inner();
            self.write_waiting(&mut inner).and_then(|()| self.write(&mut inner, &event)).map(|()| inner.chain.n)
        };
        let result = match written {
            Ok(n) => self.reach_disk(n).await,
            Err(error) => Err(error),
        };
        if result.is_err() && settings.go_on {
            self.lose(&mut self.inner());
            return Ok(());
        }
        result
    }

    /// Records what was done. Where that fails it waits in memory, and [`Audit::admit`] refuses whatever comes next.
    pub fn note(&self, event: Event) {
        let settings = self.settings.load();
        if settings.enabled {
            self.record(event, settings.go_on);
        }
    }

    fn record(&self, event: Event, go_on: bool) {
        let mut inner = self.inner();
        let written = self.write_waiting(&mut inner).and_then(|()| self.write(&mut inner, &event));
        if written.is_err() {
            if go_on || inner.waiting.len() >= AUDIT_WAITING_MAX {
                self.lose(&mut inner);
            } else {
                inner.waiting.push_back(event);
            }
        }
        drop(inner);
        self.dirty.notify_one();
    }

    /// Everything so far is on the disk and signed.
    pub async fn close(&self) {
        let n = {
            let mut inner = self.inner();
            let _ = self.write_waiting(&mut inner);
            if let Err(error) = inner.chain.checkpoint() {
                log::error("audit", format_args!("the last checkpoint was not written: {error}"));
            }
            inner.chain.n
        };
        let _ = self.reach_disk(n).await;
    }

    /// Syncs and signs what was noted, until `stop`. Costs nothing while nothing happens.
    pub async fn keep(&self, stop: Cancel) {
        let clock = self.home.seams().clock.clone();
        let mut signed_at = clock.monotonic();
        while stop.guard(self.dirty.notified()).await.is_ok() {
            if stop.guard(tokio::time::sleep(SYNC_WITHIN)).await.is_err() {
                return;
            }
            let n = {
                let mut inner = self.inner();
                let unsigned = inner.chain.signed < inner.chain.n;
                if unsigned && clock.monotonic().saturating_sub(signed_at) >= SIGN_WITHIN {
                    signed_at = clock.monotonic();
                    let _ = inner.chain.checkpoint();
                } else if unsigned {
                    // Comes back until it is signed.
                    self.dirty.notify_one();
                }
                inner.chain.n
            };
            let _ = self.reach_disk(n).await;
        }
    }

    /// The last record and its hash, as `--head` takes it.
    pub fn head(&self) -> String {
        let inner = self.inner();
        format!("{}:{}", inner.chain.n, hex(&inner.chain.hash))
    }

    /// Waits until the disk has everything up to record `n`; one sync serves all who wait.
    async fn reach_disk(&self, n: u64) -> Result<(), AuditError> {
        let mut synced = self.synced.lock().await;
        if *synced >= n {
            return Ok(());
        }
        let (file, upto) = {
            let inner = self.inner();
            (inner.chain.file(), inner.chain.n)
        };
        let Some(file) = file else { return Ok(()) };
        let done = blocking::spawn(move || file.sync()).await;
        if let Ok(Ok(())) = done {
            *synced = upto;
            return Ok(());
        }
        // What the kernel could not write it may have dropped: it is written once more, under the lock, since that is rare.
        let mut inner = self.inner();
        inner.chain.doubt();
        match inner.chain.sync() {
            Ok(()) => {
                *synced = inner.chain.n;
                Ok(())
            }
            Err(error) => {
                log::error("audit", format_args!("a record could not be synced: {error}"));
                Err(AuditError::Unwritable)
            }
        }
    }

    fn write_waiting(&self, inner: &mut Inner) -> Result<(), AuditError> {
        while let Some(event) = inner.waiting.front().cloned() {
            self.write(inner, &event)?;
            inner.waiting.pop_front();
        }
        if inner.lost > 0 {
            let lost = Event { who: Who::default(), what: What::Lost, on: None, outcome: Outcome::Count(inner.lost) };
            self.write(inner, &lost)?;
            inner.lost = 0;
        }
        Ok(())
    }

    fn write(&self, inner: &mut Inner, event: &Event) -> Result<(), AuditError> {
        let mut written = add(&mut inner.chain, event);
        if let Err(StoreError::DiskFull(why)) = &written {
            // The reserve pays for records of what still goes on.
            self.home.give_up_reserve(why);
            written = add(&mut inner.chain, event);
        }
        match written {
            Ok(()) => {
                self.metrics.audit_records.one();
                Ok(())
            }
            Err(StoreError::DiskFull(_)) => Err(AuditError::DiskFull),
            Err(error) => {
                log::error("audit", format_args!("a record could not be written: {error}"));
                Err(AuditError::Unwritable)
            }
        }
    }

    fn lose(&self, inner: &mut Inner) {
        inner.lost += 1;
        self.metrics.audit_lost.one();
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|e| e.into_inner())
    }
}

fn add(chain: &mut Chain, event: &Event) -> Result<(), StoreError> {
    let text = |id: Option<&dyn std::fmt::Display>| id.map(ToString::to_string).unwrap_or_default();
    let owner = text(event.who.owner.as_ref().map(|id| id as _));
    let key = text(event.who.key.as_ref().map(|id| id as _));
    let on = text(event.on.as_ref().map(|on| on as _));
    let (what, outcome) = (event.what.word(), event.outcome.word());
    chain.write(AuditLine { what: &what, owner: &owner, key: &key, on: &on, outcome: &outcome, ..AuditLine::default() })
}

#[cfg(test)]
mod mutation_tests;
#[cfg(test)]
mod tests;
