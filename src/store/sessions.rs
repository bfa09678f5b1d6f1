//! All sessions of a home: the one place where a session is opened, listed, deleted and pruned.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Notify;

use crate::base::cancel::Cancel;
use crate::base::ids::{MessageId, OwnerId, SeedId, SessionId, SpaceId};
use crate::base::limits::{PAGE_MAX, SESSIONS_IDLE_OPEN_MAX};
use crate::base::live::Live;
use crate::base::log;
use crate::base::time::Timestamp;
use crate::store::StoreError;
use crate::store::core::Core;
use crate::store::files::Files;
use crate::store::home::Home;
use crate::store::index::{Index, Unfinished};
use crate::store::projection::Shown;
use crate::store::prune::plan;
use crate::store::session::{Session, blocking};
use crate::store::state::{About, State};
use crate::store::writer::Writer;
use crate::store::{import, open, remove};
use crate::wire::log_line::{FORMAT, Header};

/// A session that nobody asked for in this time leaves memory.
const IDLE: Duration = Duration::from_secs(5);
/// Pruning by itself happens this often at most (API A5).
const PRUNE_EVERY: Duration = Duration::from_secs(3600);
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
}

impl Default for Settings {
    fn default() -> Self {
        Self { projection: Projection::Eager, auto_prune: true, max_sessions: 0, ttl_hours: 0 }
    }
}

/// One line of the listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionItem {
    /// Its id.
    pub id: SessionId,
    /// The label that came with its first message.
    pub user_id: String,
    /// Where it was held.
    pub space_id: Option<SpaceId>,
    /// User messages in it.
    pub message_count: u64,
    /// The specification last worked on.
    pub active_seed_id: Option<SeedId>,
    /// When it began.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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

/// A message that the sweep found decided but not acted on: the gateway resumes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decided {
    /// Whose.
    pub owner: OwnerId,
    /// Where.
    pub session_id: SessionId,
    /// Which.
    pub message_id: MessageId,
}

/// All sessions.
pub struct Sessions {
    core: Arc<Core>,
    /// Sessions in memory. Locked for moments, never across a disk call or an await.
    held: Mutex<Held>,
    /// Held while a session of the group is opened, made or deleted: the same id is never opened twice.
    turns: Vec<Arc<tokio::sync::Mutex<()>>>,
    /// The index is built once, by whoever needs it first.
    built: tokio::sync::Mutex<Option<Unfinished>>,
    is_built: std::sync::atomic::AtomicBool,
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
        let core = Core {
            home: home.clone(),
            files: Files::new(home.workspace()),
            settings: Live::new(settings),
            first_owner,
            index: Index::default(),
            pinned: Mutex::default(),
            behind: Mutex::default(),
        };
        Arc::new(Self {
            core: Arc::new(core),
            held: Mutex::default(),
            turns: (0..TURNS).map(|_| Arc::default()).collect(),
            built: tokio::sync::Mutex::new(None),
            is_built: false.into(),
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

    /// The one loader: `NotFound` where there is none, where it is another owner's, or deleted less than 24 h ago. Repairs what is
    /// opened for the first time, imports a lone `.json`.
    pub async fn load(&self, id: SessionId, owner: OwnerId) -> Result<Arc<Session>, StoreError> {
        let session = self.find(id, false).await?.ok_or(StoreError::NotFound)?;
        self.admit(session, owner)
    }
    /// The session, made where there is none. Its file appears with its first message.
    pub async fn load_or_create(&self, id: SessionId, owner: OwnerId) -> Result<Arc<Session>, StoreError> {
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
            Looked::Nothing => self.make(id, owner),
        };
        self.hold(&session);
        drop(turn);
        self.admit(session, owner)
    }

    /// One page, newest `updated_at` first; waits for the background index. `page` from 1, `limit` at most 500.
    pub async fn list(&self, owner: OwnerId, page: usize, limit: usize) -> Result<Page<SessionItem>, StoreError> {
        self.ensure_built(|| false).await?;
        let core = self.core.clone();
        let (page, limit) = (page.max(1), limit.clamp(1, PAGE_MAX));
        if self.core.index.is_settled() {
            return Ok(self.core.index.page(owner, page, limit));
        }
        blocking(move || {
            core.index.settle(&core);
            Ok(core.index.page(owner, page, limit))
        })
        .await
    }

    /// Deletes: its readers get `Deleted`, the id is refused for 24 h. The caller has stopped its runs.
    pub async fn delete(&self, id: SessionId, owner: OwnerId) -> Result<(), StoreError> {
        let session = self.load(id, owner).await?;
        self.remove(session).await
    }

    /// Prunes by the settings now; tells how many went.
    pub async fn prune(&self) -> Result<usize, StoreError> {
        Ok(self.prune_all().await?.len())
    }
    /// Prunes by the settings now; tells which went.
    pub async fn prune_all(&self) -> Result<Vec<SessionId>, StoreError> {
        self.ensure_built(|| false).await?;
        let core = self.core.clone();
        let mut candidates = blocking(move || {
            core.index.settle(&core);
            Ok(core.index.candidates())
        })
        .await?;
        let used: HashSet<SessionId> = self.used();
        for candidate in &mut candidates {
            candidate.in_use |= used.contains(&candidate.id);
        }
        let clock = &self.core.home.seams().clock;
        let now = clock.now();
        let gone = plan(candidates, &self.core.settings.load(), now, !clock.corrected());
        let mut pruned = Vec::new();
        for id in gone {
            let session = match self.find(id, true).await {
                Ok(Some(session)) => session,
                Ok(None) => continue,
                Err(e) => {
                    log::warn("store", format_args!("session {id} not pruned: {e}"));
                    continue;
                }
            };
            // It may have come into use since; our own handle and the registry's are the only ones allowed.
            if session.open_messages().is_empty() && !self.is_used(&session) {
                self.remove(session).await?;
                pruned.push(id);
            }
        }
        if !pruned.is_empty() {
            log::info("store", format_args!("{} sessions pruned", pruned.len()));
        }
        Ok(pruned)
    }

    /// The background work: builds the index, repairs what was left open, finishes deletions; then gives idle sessions back and
    /// prunes by itself until cancelled. Run it once, after listening. `decided` is told of each message that was decided on
    /// and not resumed.
    pub async fn sweep(&self, mut decided: impl FnMut(Decided) + Send, cancel: &Cancel) {
        let stop = cancel.clone();
        let unfinished = match self.ensure_built(move || stop.why().is_some()).await {
            Ok(()) => self.built.lock().await.take().unwrap_or_default(),
            Err(e) => {
                log::warn("store", format_args!("the listing is not built: {e}"));
                Unfinished::default()
            }
        };
        for id in unfinished.buried {
            if cancel.why().is_some() {
                return;
            }
            let (core, turn) = (self.core.clone(), self.turn(id).await);
            let finished = blocking(move || {
                let _turn = turn;
                if remove::is_gone(&core, id)? {
                    remove::remove_files(&core, id).map_err(StoreError::of("deleting session", id))?;
                }
                Ok(())
            });
            if let Err(e) = finished.await {
                log::warn("store", format_args!("session {id} not deleted to the end: {e}"));
            }
        }
        for id in unfinished.open {
            if cancel.why().is_some() {
                return;
            }
            match self.find(id, true).await {
                Ok(Some(session)) => {
                    for waiting in session.waiting().into_iter().filter(|waiting| waiting.decision.is_some()) {
                        decided(Decided { session_id: id, owner: session.owner(), message_id: waiting.message_id });
                    }
                }
                Ok(None) => {}
                Err(e) => log::warn("store", format_args!("session {id} not repaired: {e}")),
            }
        }
        let mut pruned: Option<Duration> = None;
        loop {
            let now = self.core.home.seams().clock.monotonic();
            if pruned.is_none_or(|at| now.saturating_sub(at) >= PRUNE_EVERY) {
                pruned = Some(now);
                let settings = self.core.settings.load();
                if settings.auto_prune && (settings.max_sessions > 0 || settings.ttl_hours > 0) {
                    if let Err(e) = self.prune().await {
                        log::warn("store", format_args!("not pruned: {e}"));
                    }
                }
            }
            let wait = if self.give_back() { IDLE } else { PRUNE_EVERY };
            tokio::select! {
                biased;
                _ = cancel.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
                () = self.touched.notified(), if wait > IDLE => {}
            }
        }
    }

    /// Lets go of sessions that nobody asked for in 5 s; true while some are left.
    pub fn give_back(&self) -> bool {
        let now = self.core.home.seams().clock.monotonic();
        let mut idle = Vec::new();
        let mut held = self.held();
        while held.recent.front().is_some_and(|(_, at)| now.saturating_sub(*at) >= IDLE) {
            idle.extend(held.recent.pop_front());
        }
        let left = !held.recent.is_empty();
        drop(held);
        // Outside the lock: where these are the last handles, files are closed.
        drop(idle);
        self.held().sessions.retain(|_, weak| weak.strong_count() > 0);
        left
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
        if !self.is_built.load(std::sync::atomic::Ordering::Acquire) {
            return;
        }
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
    async fn turn(&self, id: SessionId) -> tokio::sync::OwnedMutexGuard<()> {
        let group = usize::from(id.as_bytes().last().copied().unwrap_or(0)) % TURNS;
        match self.turns.get(group) {
            Some(turn) => turn.clone().lock_owned().await,
            // There are TURNS of them.
            None => Arc::new(tokio::sync::Mutex::new(())).lock_owned().await,
        }
    }
    fn admit(&self, session: Arc<Session>, owner: OwnerId) -> Result<Arc<Session>, StoreError> {
        if session.owner() == owner && !session.is_deleted() { Ok(session) } else { Err(StoreError::NotFound) }
    }
    /// The session if it is in memory.
    fn in_hand(&self, id: SessionId) -> Option<Arc<Session>> {
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
        // It may be the last handle; dropping it closes files.
        drop(oldest);
        self.touched.notify_one();
    }
    /// A session without files.
    fn make(&self, id: SessionId, owner: OwnerId) -> Arc<Session> {
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
        Session::new(self.core.clone(), writer, State::new(0, None, 0, 0, About::default()))
    }

    /// Handles outside of the registry.
    fn is_used(&self, session: &Arc<Session>) -> bool {
        let held = self.held();
        let ours = held.recent.iter().filter(|(other, _)| Arc::ptr_eq(other, session)).count();
        Arc::strong_count(session) > 1 + ours
    }
    fn used(&self) -> HashSet<SessionId> {
        let held = self.held();
        let recent = |id: &SessionId| held.recent.iter().filter(|(session, _)| session.id() == *id).count();
        held.sessions.iter().filter(|(id, weak)| weak.strong_count() > recent(id)).map(|(id, _)| *id).collect()
    }

    async fn remove(&self, session: Arc<Session>) -> Result<(), StoreError> {
        let id = session.id();
        let turn = self.turn(id).await;
        let mut writer = session.writer.clone().lock_owned().await;
        let core = self.core.clone();
        let removed = session.clone();
        let left = blocking(move || {
            let _turn = turn;
            if writer.deleted {
                return Err(StoreError::NotFound);
            }
            remove::bury(&core, id)?;
            removed.mark_deleted(&mut writer);
            core.index.remove(id);
            core.behind(id, false);
            Ok(remove::remove_files(&core, id))
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
        Ok(())
    }

    async fn ensure_built(&self, cancelled: impl Fn() -> bool + Send + 'static) -> Result<(), StoreError> {
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

impl Drop for Sessions {
    fn drop(&mut self) {
        // Pinned sessions hold what holds them.
        let pinned = std::mem::take(&mut *self.core.pinned.lock().unwrap_or_else(|e| e.into_inner()));
        drop(pinned);
    }
}

/// What the disk says of an id.
enum Looked {
    Found(Arc<Session>),
    /// It was deleted less than 24 h ago.
    Refused,
    Nothing,
}

fn look(core: &Arc<Core>, id: SessionId) -> Result<Looked, StoreError> {
    if remove::is_gone(core, id)? {
        return Ok(Looked::Refused);
    }
    if let Some(session) = open::open(core, id)? {
        return Ok(Looked::Found(session));
    }
    if import::import(core, id)? {
        if let Some(session) = open::open(core, id)? {
            return Ok(Looked::Found(session));
        }
    }
    Ok(Looked::Nothing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::cancel;
    use crate::store::testing::{Bench, done, say};

    async fn talk(bench: &Bench, sessions: &Sessions, id: SessionId) {
        let session = sessions.load_or_create(id, bench.owner()).await.unwrap();
        let message = bench.message_id();
        session.accept(message, say("hello")).await.unwrap();
        session.append(message, vec![done("hi")]).await.unwrap();
    }
    async fn listed(bench: &Bench, sessions: &Sessions) -> Vec<(SessionId, u64)> {
        let page = sessions.list(bench.owner(), 1, 500).await.unwrap();
        assert_eq!(page.total, page.items.len());
        page.items.iter().map(|item| (item.id, item.message_count)).collect()
    }
    /// Runs the sweep's first part: it is cancelled as soon as it would wait.
    async fn swept(sessions: &Sessions) -> Vec<Decided> {
        let (canceller, cancel) = cancel::pair();
        let mut decided = Vec::new();
        let sweep = sessions.sweep(|found| decided.push(found), &cancel);
        let stop = async {
            // The repairs end with the listing's first page and one more look at everything that was open.
            while !sessions.is_built.load(std::sync::atomic::Ordering::Acquire) || sessions.built.lock().await.is_some() {
                tokio::task::yield_now().await;
            }
            for _ in 0..20_000 {
                tokio::task::yield_now().await;
            }
            canceller.cancel(cancel::Why::Shutdown);
        };
        tokio::join!(sweep, stop);
        decided
    }

    #[tokio::test]
    async fn the_listing_is_newest_first_and_a_restart_reads_only_what_changed() {
        let bench = Bench::new();
        let ids: Vec<SessionId> = (0..5).map(|_| bench.session_id()).collect();
        {
            let sessions = bench.sessions();
            for id in &ids {
                bench.clock.advance(Duration::from_secs(1));
                talk(&bench, &sessions, *id).await;
            }
            bench.clock.advance(Duration::from_secs(1));
            talk(&bench, &sessions, ids[1]).await;
            let want = [(ids[1], 2), (ids[4], 1), (ids[3], 1), (ids[2], 1), (ids[0], 1)];
            assert_eq!(listed(&bench, &sessions).await, want);
            let second = sessions.list(bench.owner(), 2, 2).await.unwrap();
            assert_eq!((second.items[0].id, second.total), (ids[3], 5));
            assert!(sessions.list(OwnerId::derived(&[9; 32]), 1, 50).await.unwrap().items.is_empty(), "one owner sees one's own");
            sessions.close().await;
        }
        let opened = |id: &SessionId| bench.disk.times_opened(&bench.file(*id, "log"));
        let before: Vec<u64> = ids.iter().map(opened).collect();
        {
            let sessions = bench.sessions();
            assert_eq!(listed(&bench, &sessions).await.len(), 5);
            assert_eq!(ids.iter().map(opened).collect::<Vec<_>>(), before, "no log was opened");
            bench.clock.advance(Duration::from_secs(1));
            talk(&bench, &sessions, ids[0]).await;
            // Killed: the cache is not written.
        }
        let before: Vec<u64> = ids.iter().map(opened).collect();
        let sessions = bench.sessions();
        assert_eq!(listed(&bench, &sessions).await[0], (ids[0], 2));
        let after: Vec<u64> = ids.iter().map(opened).collect();
        assert_eq!((after[0] - before[0], &after[1..]), (1, &before[1..]), "only the one that changed");
        drop(sessions);
        std::fs::remove_file(bench.files().join("index.cache")).unwrap();
        assert_eq!(listed(&bench, &bench.sessions()).await.len(), 5, "the cache may be deleted");
    }

    #[tokio::test]
    async fn deleted_is_deleted_whatever_call_the_process_dies_at_and_the_id_comes_back_after_a_day() {
        for k in 0.. {
            let bench = Bench::new();
            let (sid, other) = (bench.session_id(), bench.session_id());
            let sessions = bench.sessions();
            talk(&bench, &sessions, sid).await;
            talk(&bench, &sessions, other).await;
            let session = sessions.load(sid, bench.owner()).await.unwrap();
            session.put_blob(b"large".to_vec()).await.unwrap();
            drop(session);
            bench.disk.stop_after(Some(k));
            let deleted = sessions.delete(sid, bench.owner()).await.is_ok();
            drop(sessions);
            bench.disk.stop_after(None);

            let sessions = bench.sessions();
            let there = sessions.load(sid, bench.owner()).await.is_ok();
            assert!(!(deleted && there), "stopped after {k}");
            if there {
                sessions.delete(sid, bench.owner()).await.unwrap();
            }
            swept(&sessions).await;
            for call in [sessions.load(sid, bench.owner()).await, sessions.load_or_create(sid, bench.owner()).await] {
                assert!(matches!(call, Err(StoreError::NotFound)), "stopped after {k}");
            }
            assert_eq!(listed(&bench, &sessions).await.len(), 1, "stopped after {k}");
            let left: Vec<_> = std::fs::read_dir(bench.files()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            let left: Vec<_> = left.iter().filter(|name| name.starts_with(&sid.to_string())).collect();
            assert_eq!(left, [&format!("{sid}.gone")], "stopped after {k}");
            bench.clock.advance(Duration::from_secs(24 * 3600));
            talk(&bench, &sessions, sid).await;
            assert_eq!(listed(&bench, &sessions).await.len(), 2);
            if deleted && k > 8 {
                return;
            }
        }
    }

    #[tokio::test]
    async fn the_sweep_closes_what_a_crash_left_open_and_gives_idle_sessions_back() {
        let bench = Bench::new();
        let sid = bench.session_id();
        {
            let sessions = bench.sessions();
            let session = sessions.load_or_create(sid, bench.owner()).await.unwrap();
            session.accept(bench.message_id(), say("hello")).await.unwrap();
        }
        let sessions = bench.sessions();
        assert!(swept(&sessions).await.is_empty());
        let log = std::fs::read_to_string(bench.file(sid, "log")).unwrap();
        assert_eq!(log.matches("interrupted\",\"text").count(), 1, "repaired before anyone asked: {log}");
        assert_eq!(sessions.in_memory(), 0);
        let session = sessions.load(sid, bench.owner()).await.unwrap();
        let id = bench.message_id();
        session.accept(id, say("again")).await.unwrap();
        drop(session);
        bench.clock.advance(Duration::from_secs(60));
        sessions.give_back();
        assert_eq!(sessions.in_memory(), 1, "a run may be on its way");
        let session = sessions.load(sid, bench.owner()).await.unwrap();
        assert_eq!(session.open_messages(), [id], "it is the same session, not one taken for dead");
        session.append(id, vec![done("yes")]).await.unwrap();
        drop(session);
        bench.clock.advance(Duration::from_secs(6));
        sessions.give_back();
        assert_eq!(sessions.in_memory(), 0);
    }

    #[tokio::test]
    async fn pruning_takes_the_oldest_and_never_one_in_use() {
        let bench = Bench::new();
        let sessions = bench.sessions();
        let ids: Vec<SessionId> = (0..4).map(|_| bench.session_id()).collect();
        for id in &ids {
            talk(&bench, &sessions, *id).await;
            bench.clock.advance(Duration::from_secs(3600));
        }
        let read = sessions.load(ids[0], bench.owner()).await.unwrap();
        let _reader = read.tail(0);
        drop(read);
        sessions.set(Settings { max_sessions: 2, ..Settings::default() });
        assert_eq!(sessions.prune().await.unwrap(), 1);
        let left: Vec<SessionId> = listed(&bench, &sessions).await.into_iter().map(|(id, _)| id).collect();
        assert_eq!(left, [ids[3], ids[2], ids[0]]);
        sessions.set(Settings { ttl_hours: 3, ..Settings::default() });
        bench.clock.advance(Duration::from_secs(3600));
        assert_eq!(sessions.prune().await.unwrap(), 0, "3 hours are not over");
    }

    #[tokio::test]
    async fn results_kept_beside_the_log_are_checked_when_read() {
        let bench = Bench::new();
        let sessions = bench.sessions();
        let sid = bench.session_id();
        talk(&bench, &sessions, sid).await;
        let session = sessions.load(sid, bench.owner()).await.unwrap();
        let name = session.put_blob(b"result".to_vec()).await.unwrap();
        assert_eq!(session.put_blob(b"result".to_vec()).await.unwrap(), name);
        assert_eq!(session.read_blob(&name).await.unwrap(), b"result");
        std::fs::write(bench.file(sid, "d").join(&name), "changed").unwrap();
        assert!(matches!(session.read_blob(&name).await, Err(StoreError::Damaged(_))));
        for bad in ["", "../../secret", &"0".repeat(64)] {
            assert!(matches!(session.read_blob(bad).await, Err(StoreError::NotFound)), "{bad}");
        }
    }

    #[tokio::test]
    async fn the_newest_turns_that_fit_come_oldest_first_without_reading_the_whole_log() {
        let bench = Bench::new();
        let sessions = bench.sessions();
        let sid = bench.session_id();
        for _ in 0..300 {
            talk(&bench, &sessions, sid).await;
        }
        let session = sessions.load(sid, bench.owner()).await.unwrap();
        let before = bench.disk.bytes_read();
        let turns = session.recent_turns(300).await.unwrap();
        assert_eq!(turns.len(), 4, "71 bytes each");
        assert!(turns.is_sorted_by_key(|turn| turn.seq) && turns[3].seq == 599);
        assert!(bench.disk.bytes_read() - before <= 64 * 1024);
        assert_eq!(session.records_of(turns[3].message_id).await.unwrap().len(), 2);
    }
}
