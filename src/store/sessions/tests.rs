//! Listing, deleting, pruning, sweeping.

use super::sweep::READ_TO_SAVE;
use super::*;
use crate::base::cancel;
use crate::base::ids::PersonaId;
use crate::base::time::Clock;
use crate::store::home::Space;
use crate::store::prune::Above;
use crate::store::record::{Body, Change};
use crate::store::testing::{Bench, done, kinds, read_on, say};

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
async fn swept(sessions: &Sessions) -> Vec<Found> {
    let (canceller, cancel) = cancel::pair();
    let mut told = Vec::new();
    let sweep = sessions.sweep(|found| told.push(found), &(), &cancel);
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
    told
}

#[tokio::test]
async fn a_full_disk_keeps_nothing_of_a_cache_that_could_not_be_written() {
    let bench = Bench::new();
    let sessions = bench.sessions();
    talk(&bench, &sessions, bench.session_id()).await;
    swept(&sessions).await;
    bench.disk.set_budget(Some(0));
    sessions.close().await;
    bench.disk.set_budget(None);
    let left: Vec<_> = std::fs::read_dir(bench.files()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with("index.cache")), "{left:?}");
}

#[tokio::test]
async fn a_box_that_is_only_ever_switched_off_reads_its_sessions_once() {
    let bench = Bench::in_memory();
    let sessions = bench.sessions();
    for n in 0..READ_TO_SAVE {
        if n + 1 == READ_TO_SAVE {
            swept(&sessions).await;
            assert!(bench.seams().disk.stat(&bench.files().join("index.cache")).unwrap().is_none(), "few are read in no time");
        }
        talk(&bench, &sessions, bench.session_id()).await;
    }
    let before = sessions.list(bench.owner(), 2, 50).await.unwrap();
    assert_eq!(before.total, READ_TO_SAVE);
    let bench = bench.killed();
    let sessions = bench.sessions();
    swept(&sessions).await;
    let bench = bench.killed();
    let sessions = bench.sessions();
    assert_eq!(sessions.list(bench.owner(), 2, 50).await.unwrap(), before);
    assert_eq!(sessions.built.lock().await.take().unwrap().read, 0);
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
    assert_eq!(swept(&sessions).await, [Found::Through]);
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
async fn nothing_is_left_in_memory_of_a_session_that_others_took_the_place_of() {
    let bench = Bench::new();
    let sessions = bench.sessions();
    for _ in 0..3 * SESSIONS_IDLE_OPEN_MAX {
        talk(&bench, &sessions, bench.session_id()).await;
    }
    assert_eq!(sessions.held().sessions.len(), SESSIONS_IDLE_OPEN_MAX);
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
    assert_eq!(sessions.prune(&()).await.unwrap(), [ids[1]]);
    let left: Vec<SessionId> = listed(&bench, &sessions).await.into_iter().map(|(id, _)| id).collect();
    assert_eq!(left, [ids[3], ids[2], ids[0]]);
    sessions.set(Settings { ttl_hours: 3, ..Settings::default() });
    bench.clock.advance(Duration::from_secs(3600));
    assert_eq!(sessions.prune(&()).await.unwrap(), [], "3 hours are not over");
}

/// What those above are told.
#[derive(Default)]
struct Told(Mutex<Vec<(&'static str, SessionId)>>);

impl Told {
    fn add(&self, what: &'static str, ids: &[SessionId]) {
        self.0.lock().unwrap().extend(ids.iter().map(|id| (what, *id)));
    }
    fn has(&self, what: &'static str, id: SessionId) -> bool {
        self.0.lock().unwrap().contains(&(what, id))
    }
}

impl Above for Told {
    async fn begins(&self, ids: &[SessionId]) -> bool {
        self.add("begins", ids);
        true
    }
    async fn pruned(&self, ids: &[SessionId], gone: bool) {
        self.add(if gone { "gone" } else { "stays" }, ids);
    }
    async fn buried(&self, ids: &[SessionId]) {
        self.add("buried", ids);
    }
}

#[tokio::test]
async fn those_above_are_told_of_each_session_that_is_pruned_wherever_the_disk_fails() {
    for k in 0.. {
        let bench = Bench::in_memory();
        let sessions = bench.sessions();
        let mut ids: Vec<SessionId> = Vec::new();
        for n in 0..8 {
            ids.push(bench.session_id());
            talk(&bench, &sessions, ids[n]).await;
            if n == 3 {
                // These are not in memory, the others are.
                bench.clock.advance(Duration::from_secs(10));
                sessions.give_back();
            }
        }
        sessions.set(Settings { max_sessions: 1, ..Settings::default() });
        listed(&bench, &sessions).await;
        let told = Told::default();
        bench.disk.fail_after(Some(k));
        let pruned = sessions.prune(&told).await;
        bench.disk.fail_after(None);
        for id in &ids {
            let gone = sessions.load(*id, bench.owner()).await.is_err();
            assert_eq!(told.has("gone", *id), gone, "call {k} fails: {pruned:?}");
            assert_eq!(told.has("begins", *id), gone || told.has("stays", *id), "call {k} fails: {pruned:?}");
        }
        // Whoever starts next is told of those that are gone.
        let sessions = bench.killed().sessions();
        let later = Told::default();
        sessions.tend_graves(&later, &cancel::pair().1).await;
        assert!(ids.iter().all(|id| later.has("buried", *id) == told.has("gone", *id)), "call {k} fails");
        if pruned.is_ok_and(|pruned| pruned.len() == 7) && k > 100 {
            return;
        }
    }
}

#[tokio::test]
async fn a_message_that_comes_while_its_session_is_pruned_keeps_it() {
    let bench = Bench::new();
    let sessions = bench.sessions();
    let sid = bench.session_id();
    talk(&bench, &sessions, sid).await;
    let chosen = sessions.find(sid, true).await.unwrap().unwrap();
    let message = bench.message_id();
    // Between choosing it and burying it: it is on disk, so it will be answered.
    sessions.load(sid, bench.owner()).await.unwrap().accept(message, say("more")).await.unwrap();
    assert!(!sessions.remove(chosen, Remove::Idle(Default::default())).await.unwrap());
    let session = sessions.load(sid, bench.owner()).await.unwrap();
    session.append(message, vec![done("yes")]).await.unwrap();
    let chosen = sessions.find(sid, true).await.unwrap().unwrap();
    assert!(!sessions.remove(chosen, Remove::Idle(Default::default())).await.unwrap(), "somebody has it in hand");
    drop(session);
    let chosen = sessions.find(sid, true).await.unwrap().unwrap();
    assert!(sessions.remove(chosen, Remove::Idle(Default::default())).await.unwrap());
}

#[tokio::test]
async fn pruning_and_sweeping_many_read_the_directory_a_few_times() {
    let bench = Bench::new();
    let sessions = bench.sessions();
    for _ in 0..20 {
        talk(&bench, &sessions, bench.session_id()).await;
    }
    sessions.set(Settings { max_sessions: 1, ..Settings::default() });
    listed(&bench, &sessions).await;
    let before = bench.disk.lists();
    assert_eq!(sessions.prune(&()).await.unwrap().len(), 19);
    assert!(bench.disk.lists() - before <= 2, "{}", bench.disk.lists() - before);
    let left = std::fs::read_dir(bench.files()).unwrap().filter(|e| !e.as_ref().unwrap().path().to_string_lossy().ends_with(".gone"));
    assert_eq!(left.count(), 2, "the log and the projection of the one that stays");
    drop(sessions);
    let sessions = bench.sessions();
    let before = bench.disk.lists();
    swept(&sessions).await;
    assert!(bench.disk.lists() - before <= 3, "{}", bench.disk.lists() - before);
}

#[tokio::test]
async fn old_tombstones_go_while_the_process_runs() {
    let bench = Bench::new();
    let sessions = bench.sessions();
    let ids: Vec<SessionId> = (0..5).map(|_| bench.session_id()).collect();
    for id in &ids {
        talk(&bench, &sessions, *id).await;
        sessions.delete(*id, bench.owner()).await.unwrap();
        bench.clock.advance(Duration::from_secs(6 * 3600));
    }
    let (_canceller, cancel) = cancel::pair();
    let before = bench.disk.lists();
    sessions.tend_graves(&(), &cancel).await;
    assert_eq!(bench.disk.lists() - before, 1);
    let stays: Vec<bool> = ids.iter().map(|id| bench.file(*id, "gone").exists()).collect();
    assert_eq!(stays, [false, false, true, true, true]);
}

#[tokio::test]
async fn the_sweep_tells_of_every_run_that_waits() {
    let bench = Bench::new();
    let (sid, message) = (bench.session_id(), bench.message_id());
    let id = crate::base::ids::ApprovalId::derived(&[3; 32]);
    {
        let sessions = bench.sessions();
        let session = sessions.load_or_create(sid, bench.owner()).await.unwrap();
        session.accept(message, say("write it")).await.unwrap();
        let asked = Body::ApprovalRequested {
            approval_id: id,
            call_id: "c".to_owned(),
            action: "write_file".to_owned(),
            resource: "a".to_owned(),
            reason: String::new(),
            shown: serde_json::json!({}),
            digest: String::new(),
            expires_at: bench.clock.now(),
        };
        let checkpoint = Body::Checkpoint { calls: 1, tokens: 1, seed_id: None, state: Some(serde_json::json!({})) };
        // Killed before the question's file was made.
        session.append(message, vec![checkpoint, asked]).await.unwrap();
    }
    let told = Found::Waiting { owner: bench.owner(), session_id: sid, message_id: message };
    assert_eq!(swept(&bench.sessions()).await, [told, Found::Through]);
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

#[tokio::test]
async fn what_is_true_of_a_session_is_in_its_log_its_file_and_the_listing_also_after_a_restart() {
    let bench = Bench::new();
    let sid = bench.session_id();
    let (space, persona) = (SpaceId::derived(&[3; 32]), PersonaId::derived(&[4; 32]));
    let sessions = bench.sessions();
    let begins = About { persona_id: Some(persona), ..About::default() };
    sessions.load_or_begin(sid, bench.owner(), begins.clone()).await.unwrap();
    talk(&bench, &sessions, sid).await;
    let session = sessions.load(sid, bench.owner()).await.unwrap();
    assert_eq!((session.about(), session.title().as_deref()), (begins, Some("hello")));
    let records = read_on(&mut session.tail(0)).await;
    assert_eq!(kinds(&records), ["1 about", "2 message", "3 done"]);
    assert!(!records[0].contains("message_id"), "it belongs to no message: {}", records[0]);
    let change = Change { title: Some(Some("Greetings".to_owned())), space_id: Some(Some(space)), persona_id: None };
    let about = session.set_about(change.clone()).await.unwrap();
    assert_eq!(about, About { title: Some("Greetings".to_owned()), space_id: Some(space), persona_id: Some(persona), instructions: None });
    session.set_about(change).await.unwrap();
    assert_eq!(kinds(&read_on(&mut session.tail(3)).await), ["4 about"], "the same again is no record");
    drop(session);
    drop(sessions);
    for _ in 0..2 {
        // The second time without the cache of the listing.
        let sessions = bench.sessions();
        let session = sessions.load(sid, bench.owner()).await.unwrap();
        assert_eq!((session.about(), session.last_seq()), (about.clone(), 4));
        let item = sessions.list(bench.owner(), 1, 1).await.unwrap().items.remove(0);
        assert_eq!((item.title.as_str(), item.space_id, item.message_count), ("Greetings", Some(space), 1));
        let file: serde_json::Value = serde_json::from_slice(&std::fs::read(bench.file(sid, "json")).unwrap()).unwrap();
        assert_eq!(file["metadata"]["title"], "Greetings");
        assert_eq!(file["metadata"]["space_id"], space.to_string());
        assert_eq!(file["active_persona_id"], persona.to_string());
        sessions.close().await;
        let _ = std::fs::remove_file(bench.files().join("index.cache"));
    }
    let sessions = bench.sessions();
    let session = sessions.load(sid, bench.owner()).await.unwrap();
    session.set_about(Change { title: Some(None), space_id: Some(None), persona_id: None }).await.unwrap();
    let item = sessions.list(bench.owner(), 1, 1).await.unwrap().items.remove(0);
    assert_eq!((item.title.as_str(), item.space_id), ("hello", None), "the first message gives the title again");
}

#[tokio::test]
async fn a_very_long_session_keeps_its_title() {
    let bench = Bench::new();
    let sid = bench.session_id();
    let sessions = bench.sessions();
    sessions.set(Settings { projection: Projection::Lazy, ..Settings::default() });
    talk(&bench, &sessions, sid).await;
    let session = sessions.load(sid, bench.owner()).await.unwrap();
    session.set_about(Change { title: Some(Some("Long".to_owned())), ..Change::default() }).await.unwrap();
    for _ in 0..crate::base::limits::MESSAGE_IDS_KEPT + 1 {
        let message = bench.message_id();
        session.accept(message, say("more")).await.unwrap();
        session.append(message, vec![done("ok")]).await.unwrap();
    }
    drop(session);
    drop(sessions);
    let sessions = bench.sessions();
    let session = sessions.load(sid, bench.owner()).await.unwrap();
    assert_eq!(session.title().as_deref(), Some("Long"));
}

/// THREATS 27: full, read-only and failing disks are states: told to whoever writes and to readiness, and over by themselves.
#[tokio::test]
async fn a_disk_that_takes_nothing_is_a_state_whatever_the_reason() {
    for read_only in [true, false] {
        let bench = Bench::new();
        let home = bench.home();
        let sessions = Sessions::open(&home, bench.owner(), Settings::default());
        let session = sessions.load_or_begin(bench.session_id(), bench.owner(), About::default()).await.unwrap();
        session.accept(bench.message_id(), say("before")).await.unwrap();
        let set = |bad: bool| if read_only { bench.disk.set_read_only(bad) } else { bench.disk.stop_after(bad.then_some(0)) };
        set(true);
        let refused = session.accept(bench.message_id(), say("now")).await.unwrap_err();
        let StoreError::DiskFull(why) = refused else { panic!("{refused}") };
        assert!(why.contains(if read_only { "can only be read" } else { "failed" }), "{why}");
        assert_eq!(home.space_now(), Space::Full { why });
        bench.clock.advance(Duration::from_secs(5));
        assert!(matches!(home.space_now(), Space::Full { .. }), "it is looked at, and still so");
        set(false);
        bench.clock.advance(Duration::from_secs(5));
        assert_eq!(home.space_now(), Space::Enough);
        session.accept(bench.message_id(), say("after")).await.unwrap();
    }
}

/// Also where the session was opened meanwhile: it could only be read then.
#[tokio::test]
async fn a_session_that_was_opened_on_a_read_only_disk_goes_on_when_that_is_over() {
    let bench = Bench::new();
    let id = bench.session_id();
    talk(&bench, &bench.sessions(), id).await;
    let home = bench.home();
    let sessions = Sessions::open(&home, bench.owner(), Settings::default());
    bench.disk.set_read_only(true);
    let session = sessions.load(id, bench.owner()).await.unwrap();
    let refused = session.accept(bench.message_id(), say("now")).await.unwrap_err();
    assert!(matches!(&refused, StoreError::DiskFull(why) if why.contains("can only be read")), "{refused}");
    bench.disk.set_read_only(false);
    bench.clock.advance(Duration::from_secs(5));
    session.accept(bench.message_id(), say("after")).await.unwrap();
    assert_eq!(home.space_now(), Space::Enough);
}

/// What is wrong with one file is nothing that the others hear of.
#[tokio::test]
async fn a_log_that_nobody_may_write_to_stops_no_other_session() {
    let bench = Bench::new();
    let (shut, open) = (bench.session_id(), bench.session_id());
    let sessions = bench.sessions();
    talk(&bench, &sessions, shut).await;
    talk(&bench, &sessions, open).await;
    drop(sessions);
    let home = bench.home();
    let log = home.workspace().join("sessions").join(format!("{shut}.log"));
    bench.disk.refuse_writing(Some(&log));
    let sessions = Sessions::open(&home, bench.owner(), Settings::default());
    let session = sessions.load(shut, bench.owner()).await.unwrap();
    let refused = session.accept(bench.message_id(), say("now")).await.unwrap_err();
    assert!(matches!(refused, StoreError::Io { .. }), "{refused}");
    assert_eq!(home.space_now(), Space::Enough);
    talk(&bench, &sessions, open).await;
    bench.disk.refuse_writing(None);
    session.accept(bench.message_id(), say("after")).await.unwrap();
}
