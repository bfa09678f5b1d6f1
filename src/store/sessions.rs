//! All sessions of a home: the one place where a session is opened, listed, deleted and pruned.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Notify;

use crate::base::ids::{OwnerId, SeedId, SessionId, SpaceId};
use crate::base::limits::{PAGE_MAX, SESSIONS_IDLE_OPEN_MAX};
use crate::base::live::Live;
use crate::base::log;
use crate::base::time::Timestamp;
use crate::store::StoreError;
use crate::store::core::Core;
use crate::store::durability::Durability;
use crate::store::files::Files;
use crate::store::home::Home;
use crate::store::index::{Index, Unfinished};
use crate::store::projection::Shown;
use crate::store::record::About;
use crate::store::session::{Session, blocking};
use crate::store::state::{Overview, State};
use crate::store::writer::Writer;
use crate::store::{import, open, remove};
use crate::wire::log_line::{FORMAT, Header};

/// Opening, making and deleting take turns within one of so many groups of ids.
const TURNS: usize = 16;

/// When the `.json` of a session is written (`session.projection`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Projection {
    /// Before `done` is visible while it is small, then when the log has doubled, and at shutdown.
    #[default]
    Eager,
    /// Only at shutdown.
    Lazy,
}

/// What can be set; may change while running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// When the `.json` is written.
    pub projection: Projection,
    /// Prune by itself, at most once an hour.
    pub auto_prune: bool,
    /// Keep at most this many; 0 = no limit.
    pub max_sessions: usize,
    /// Keep at most this old, in hours; 0 = no limit.
    pub ttl_hours: u64,
    /// What is acknowledged becomes durable within this many seconds only; 0 = before it is acknowledged. The disk does it, the
    /// sessions know it.
    pub sync_secs: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { projection: Projection::Eager, auto_prune: true, max_sessions: 0, ttl_hours: 0, sync_secs: 0 }
    }
}

/// One line of the listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SessionItem {
    /// Its id.
    pub id: SessionId,
    /// The label that came with its first message.
    pub user_id: String,
    /// What it is called: the given title, else one made of the first message.
    pub title: String,
    /// Where it is held.
    pub space_id: Option<SpaceId>,
    /// User messages in it.
    pub message_count: u64,
    /// The specification of the last task: the one that is worked on, then the one that the answer is a result of.
    pub active_seed_id: Option<SeedId>,
    /// When it began.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// How many there are on all pages.
    pub total: usize,
    /// Which page, from 1.
    pub page: usize,
    /// Most items on a page.
    pub limit: usize,
}

/// All sessions.
pub struct Sessions {
    pub(crate) core: Arc<Core>,
    /// Sessions in memory. Locked for moments, never across a disk call or an await.
    held: Mutex<Held>,
    /// Held while a session of the group is opened, made or deleted: the same id is never opened twice.
    turns: Vec<Arc<tokio::sync::Mutex<()>>>,
    /// The index is built once, by whoever needs it first.
    built: tokio::sync::Mutex<Option<Unfinished>>,
    is_built: AtomicBool,
    /// Held while one search reads: two at once would only share the disk.
    pub(crate) searching: Arc<tokio::sync::Mutex<()>>,
    /// Told when `held.recent` gets something to give back.
    touched: Notify,
}

#[derive(Default)]
struct Held {
    sessions: HashMap<SessionId, Weak<Session>>,
    /// Kept open for the next request, the one asked for last at the end, with the time of that.
    recent: VecDeque<(Arc<Session>, Duration)>,
}

impl Sessions {
    /// Cheap: reads nothing.
    pub fn open(home: &Arc<Home>, first_owner: OwnerId, settings: Settings) -> Arc<Self> {
        let files = Files::new(home.workspace());
        let core = Core {
            home: home.clone(),
            durability: Durability::of(home.seams().disk.clone(), files.dir().to_owned()),
            files,
            settings: Live::new(settings),
            first_owner,
            index: Index::default(),
            pinned: Mutex::default(),
            behind: Mutex::default(),
            graves_told: AtomicBool::new(false),
        };
        Arc::new(Self {
            core: Arc::new(core),
            held: Mutex::default(),
            turns: (0..TURNS).map(|_| Arc::default()).collect(),
            built: tokio::sync::Mutex::new(None),
            is_built: false.into(),
            searching: Arc::default(),
            touched: Notify::new(),
        })
    }
    /// New settings, from now on.
    pub fn set(&self, settings: Settings) {
        self.core.settings.store(settings);
    }
    /// The settings of now.
    pub fn settings(&self) -> Arc<Settings> {
        self.core.settings.load()
    }

    /// The one loader: `NotFound` where there is none, where it is another owner's, deleted less than 24 h ago or set aside. Repairs what is
    /// opened for the first time, imports a lone `.json`.
    pub async fn load(&self, id: SessionId, owner: OwnerId) -> Result<Arc<Session>, StoreError> {
        let session = self.find(id, false).await?.ok_or(StoreError::NotFound)?;
        self.admit(session, owner)
    }
    /// The session, made where there is none. Its file appears with its first message.
    pub async fn load_or_create(&self, id: SessionId, owner: OwnerId) -> Result<Arc<Session>, StoreError> {
        self.load_or_begin(id, owner, About::default()).await
    }
    /// The same; `begins` is true of a session that is made here.
    pub async fn load_or_begin(&self, id: SessionId, owner: OwnerId, begins: About) -> Result<Arc<Session>, StoreError> {
        if let Some(session) = self.find(id, false).await? {
            return self.admit(session, owner);
        }
        let turn = self.turn(id).await;
        if let Some(session) = self.in_hand(id) {
            return self.admit(session, owner);
        }
        let core = self.core.clone();
        let (session, turn) = blocking(move || Ok((look(&core, id)?, turn))).await?;
        let session = match session {
            Looked::Found(session) => session,
            Looked::Refused => return Err(StoreError::NotFound),
            Looked::Nothing => self.make(id, owner, begins),
        };
        self.hold(&session);
        drop(turn);
        self.admit(session, owner)
    }

    /// One page, newest `updated_at` first; waits for the background index. `page` from 1, `limit` at most 500.
    pub async fn list(&self, owner: OwnerId, page: usize, limit: usize) -> Result<Page<SessionItem>, StoreError> {
        self.ensure_built(|| false).await?;
        let core = self.core.clone();
        let (page, limit) = (page.max(1), limit.min(PAGE_MAX));
        if self.core.index.is_settled() {
            return Ok(self.core.index.page(owner, page, limit));
        }
        blocking(move || {
            core.index.settle(&core);
            Ok(core.index.page(owner, page, limit))
        })
        .await
    }

    /// One line of the listing; waits for the background index.
    ///
    /// # Errors
    /// `NotFound` where there is none of this owner's.
    pub async fn item(&self, owner: OwnerId, id: SessionId) -> Result<SessionItem, StoreError> {
        self.ensure_built(|| false).await?;
        let core = self.core.clone();
        blocking(move || {
            core.index.settle(&core);
            core.index.item(owner, id).ok_or(StoreError::NotFound)
        })
        .await
    }

    /// Deletes: its readers get `Deleted`, the id is refused for 24 h. The caller has stopped its runs.
    pub async fn delete(&self, id: SessionId, owner: OwnerId) -> Result<(), StoreError> {
        let session = self.load(id, owner).await?;
        self.remove(session, Remove::Always).await.map(drop)
    }

    /// Sessions in memory.
    pub fn in_memory(&self) -> usize {
        self.held().sessions.values().filter(|weak| weak.strong_count() > 0).count()
    }

    /// Writes what is lazy: projections, the index cache. Call it after the runs have ended.
    pub async fn close(&self) {
        let behind = std::mem::take(&mut *self.core.behind.lock().unwrap_or_else(|e| e.into_inner()));
        for id in behind {
            let Ok(Some(session)) = self.find(id, true).await else { continue };
            let mut writer = session.writer.clone().lock_owned().await;
            let done = blocking(move || {
                session.finish_projection(&mut writer);
                Ok(())
            });
            if let Err(e) = done.await {
                log::warn("store", format_args!("projection of session {id}: {e}"));
            }
        }
        self.core.pinned.lock().unwrap_or_else(|e| e.into_inner()).clear();
        self.held().recent.clear();
        if self.is_built.load(std::sync::atomic::Ordering::Acquire) {
            self.save_listing().await;
        }
    }

    async fn save_listing(&self) {
        let core = self.core.clone();
        let saved = blocking(move || {
            core.index.settle(&core);
            core.index.save(&core).map_err(StoreError::io("writing the cache of the listing"))
        });
        if let Err(e) = saved.await {
            log::warn("store", format_args!("{e}"));
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(|e| e.into_inner())
    }
    pub(crate) async fn turn(&self, id: SessionId) -> tokio::sync::OwnedMutexGuard<()> {
        match self.turns.get(group(id)) {
            Some(turn) => turn.clone().lock_owned().await,
            // There are TURNS of them.
            None => Arc::new(tokio::sync::Mutex::new(())).lock_owned().await,
        }
    }
    fn admit(&self, session: Arc<Session>, owner: OwnerId) -> Result<Arc<Session>, StoreError> {
        if session.owner() == owner && !session.is_deleted() { Ok(session) } else { Err(StoreError::NotFound) }
    }
    /// The session if it is in memory.
    pub(crate) fn in_hand(&self, id: SessionId) -> Option<Arc<Session>> {
        let session = self.held().sessions.get(&id)?.upgrade()?;
        Some(session)
    }
    /// The session, opened if it has files. `quiet`: it is not kept open for a next request.
    async fn find(&self, id: SessionId, quiet: bool) -> Result<Option<Arc<Session>>, StoreError> {
        if let Some(session) = self.in_hand(id) {
            if !quiet {
                self.hold(&session);
            }
            return Ok(Some(session));
        }
        let turn = self.turn(id).await;
        if let Some(session) = self.in_hand(id) {
            return Ok(Some(session));
        }
        let core = self.core.clone();
        // The turn goes along: if this caller goes away, the opening still ends before the next one begins.
        let (looked, turn) = blocking(move || Ok((look(&core, id)?, turn))).await?;
        let Looked::Found(session) = looked else { return Ok(None) };
        self.held().sessions.insert(id, Arc::downgrade(&session));
        if !quiet {
            self.hold(&session);
        }
        drop(turn);
        Ok(Some(session))
    }
    /// Keeps a session open for the next request.
    fn hold(&self, session: &Arc<Session>) {
        let now = self.core.home.seams().clock.monotonic();
        let mut held = self.held();
        held.sessions.insert(session.id(), Arc::downgrade(session));
        held.recent.retain(|(other, _)| !Arc::ptr_eq(other, session));
        held.recent.push_back((session.clone(), now));
        let oldest = if held.recent.len() > SESSIONS_IDLE_OPEN_MAX { held.recent.pop_front() } else { None };
        drop(held);
        if let Some((oldest, _)) = oldest {
            let id = oldest.id();
            // It may be the last handle; dropping it closes files.
            drop(oldest);
            // What is left of it would lie between what lives on, and keep pages of the heap from being given back.
            let mut held = self.held();
            if held.sessions.get(&id).is_some_and(|weak| weak.strong_count() == 0) {
                held.sessions.remove(&id);
            }
        }
        self.touched.notify_one();
    }
    /// A session without files.
    fn make(&self, id: SessionId, owner: OwnerId, about: About) -> Arc<Session> {
        let overview = Overview { about, ..Overview::default() };
        let header = Header { format: FORMAT, id, owner, created: self.core.now(), origin: None };
        let writer = Writer {
            log: None,
            run: None,
            run_messages: Vec::new(),
            next: 1,
            reserved: 0,
            repairs: Vec::new(),
            header,
            shown: Shown::unknown(),
            deleted: false,
        };
        Session::new(self.core.clone(), writer, State::new(0, None, 0, 0, overview))
    }

    /// Handles outside of the registry.
    pub(crate) fn is_used(&self, session: &Arc<Session>) -> bool {
        let held = self.held();
        let ours = held.recent.iter().filter(|(other, _)| Arc::ptr_eq(other, session)).count();
        Arc::strong_count(session) > 1 + ours
    }
    pub(crate) fn used(&self) -> HashSet<SessionId> {
        let held = self.held();
        let recent = |id: &SessionId| held.recent.iter().filter(|(session, _)| session.id() == *id).count();
        held.sessions.iter().filter(|(id, weak)| weak.strong_count() > recent(id)).map(|(id, _)| *id).collect()
    }

    /// Buries a session and removes its files; false where it was to be idle and is not.
    pub(crate) async fn remove(&self, session: Arc<Session>, how: Remove) -> Result<bool, StoreError> {
        let id = session.id();
        let turn = self.turn(id).await;
        let mut writer = session.writer.clone().lock_owned().await;
        // With the writer in hand nothing is accepted any more: a message that came in since it was chosen keeps its session.
        if matches!(how, Remove::Idle(_)) && (!session.open_messages().is_empty() || self.is_used(&session)) {
            return Ok(false);
        }
        let core = self.core.clone();
        let removed = session.clone();
        let left = blocking(move || {
            let _turn = turn;
            if writer.deleted {
                return Err(StoreError::NotFound);
            }
            let buried = remove::bury(&core, id);
            if buried.is_ok() || remove::is_buried(&core, id) {
                // Also where it is only there and not durable: the next start would take what is said here with it.
                removed.mark_deleted(&mut writer);
                core.index.remove(id);
                core.behind(id, false);
                core.unpin(id);
            }
            buried?;
            let names = match how {
                Remove::Idle(names) => names.of(&core, id),
                Remove::Always => remove::Names::default().of(&core, id),
            };
            Ok(names.and_then(|names| remove::remove_files(&core, &names)))
        })
        .await?;
        if let Err(e) = left {
            // The tombstone holds; the next sweep goes on.
            log::warn("store", format_args!("session {id} is deleted, its files are not all gone yet: {e}"));
        }
        self.core.unpin(id);
        let mut held = self.held();
        held.sessions.remove(&id);
        held.recent.retain(|(other, _)| other.id() != id);
        drop(held);
        Ok(true)
    }

    pub(crate) async fn ensure_built(&self, cancelled: impl Fn() -> bool + Send + 'static) -> Result<(), StoreError> {
        use std::sync::atomic::Ordering::{Acquire, Release};
        if self.is_built.load(Acquire) {
            return Ok(());
        }
        let mut built = self.built.lock().await;
        if self.is_built.load(Acquire) {
            return Ok(());
        }
        let core = self.core.clone();
        let unfinished = blocking(move || core.index.build(&core, &cancelled).map_err(StoreError::io("building the listing"))).await?;
        *built = Some(unfinished);
        self.is_built.store(true, Release);
        Ok(())
    }
}

/// Which of the turns is this session's.
pub(crate) fn group(id: SessionId) -> usize {
    usize::from(id.as_bytes().last().copied().unwrap_or(0)) % TURNS
}

impl Drop for Sessions {
    fn drop(&mut self) {
        // Pinned sessions hold what holds them.
        let pinned = std::mem::take(&mut *self.core.pinned.lock().unwrap_or_else(|e| e.into_inner()));
        drop(pinned);
    }
}

/// When a session is removed.
pub(crate) enum Remove {
    /// Whatever uses it.
    Always,
    /// If nothing does. Its files are among these.
    Idle(Arc<remove::Names>),
}

/// What the disk says of an id.
pub(crate) enum Looked {
    Found(Arc<Session>),
    /// It was deleted less than 24 h ago, or its log was set aside.
    Refused,
    Nothing,
}

pub(crate) fn look(core: &Arc<Core>, id: SessionId) -> Result<Looked, StoreError> {
    core.durability.settle();
    if remove::is_gone(core, id, &remove::Names::default())? {
        return Ok(Looked::Refused);
    }
    if let Some(session) = open::open(core, id)? {
        return Ok(Looked::Found(session));
    }
    if core.disk().stat(&core.files.bad(id)).map_err(StoreError::of("looking for session", id))?.is_some() {
        return Ok(Looked::Refused);
    }
    let imported = if import::import(core, id)? { open::open(core, id)? } else { None };
    Ok(imported.map_or(Looked::Nothing, Looked::Found))
}

#[cfg(test)]
mod power_tests;
#[cfg(test)]
mod schedule_tests;
mod sweep;
#[cfg(test)]
mod tests;

pub use sweep::Found;
