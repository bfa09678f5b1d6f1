//! Keys over restarts, crashes, rotation, and changes by another process.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::*;
use crate::base::time::Clock;
use crate::store::testing::Bench;

fn new(name: &str, owner: NewOwner) -> NewKey {
    NewKey { name: name.to_owned(), owner, scopes: Scopes::of(&[Scope::Read]), expires_at: None, rate_limit_per_minute: None, budget: None }
}

#[test]
fn the_first_key_is_in_the_token_file_and_opens_everything_also_after_a_restart() {
    let bench = Bench::new();
    let home = bench.home();
    let keys = Keys::open(&home).unwrap();
    let token = std::fs::read_to_string(home.path().join("token")).unwrap();
    let token = token.trim();
    assert!(secret::is_key(token), "oxk_ and 43 characters");
    assert_eq!(std::fs::metadata(home.path().join("token")).unwrap().permissions().mode() & 0o777, 0o600);
    let first = keys.find(token).unwrap();
    assert_eq!((first.owner, first.scopes), (keys.first_owner(), Scopes::ALL));
    assert!(keys.find(&token[..46]).is_none() && keys.find("").is_none() && keys.find("oxk_").is_none());
    let table = std::fs::read_to_string(home.path().join("keys.json")).unwrap();
    assert!(!table.contains(&token[4..]), "only its hash is stored");
    assert_eq!(Keys::open(&home).unwrap().find(token), Some(first));
}

#[test]
fn a_key_made_or_revoked_beside_the_server_counts_at_once() {
    let bench = Bench::new();
    let home = bench.home();
    let server = Keys::open(&home).unwrap();
    let command_line = Keys::beside(home.path(), bench.seams()).unwrap();
    let (record, secret) = command_line.create(new("other", NewOwner::New)).unwrap();
    assert_eq!(server.find(secret.reveal()), Some(record.clone()));
    assert_ne!(record.owner, server.first_owner());
    command_line.revoke(record.owner, record.id).unwrap();
    assert!(!server.find(secret.reveal()).unwrap().is_valid(bench.clock.now()));
    assert!(!server.by_id(record.id).unwrap().is_valid(bench.clock.now()));
    assert!(matches!(server.revoke(server.first_owner(), record.id), Err(StoreError::NotFound)), "not another owner's");
    assert!(matches!(server.create(new("x", NewOwner::Of(bench.owner()))), Err(StoreError::NotFound)));
    assert_eq!(server.list(record.owner).len(), 1);
}

#[test]
fn keys_changed_beside_the_server_are_told_once_and_its_own_are_not() {
    let bench = Bench::new();
    let home = bench.home();
    let server = Keys::open(&home).unwrap();
    let command_line = Keys::beside(home.path(), bench.seams()).unwrap();
    let (own, _) = server.create(new("own", NewOwner::Of(server.first_owner()))).unwrap();
    assert!(server.changed_beside().is_empty());
    let (made, _) = command_line.create(new("made", NewOwner::New)).unwrap();
    command_line.revoke(own.owner, own.id).unwrap();
    // Also where the server itself is the next to write.
    server.create(new("later", NewOwner::Of(server.first_owner()))).unwrap();
    assert_eq!(server.changed_beside(), BTreeMap::from([(made.id, made.owner), (own.id, own.owner)]));
    assert!(server.changed_beside().is_empty());
}

/// A request that came between the new file and the note of it took our own change for another process's.
#[test]
fn a_key_that_is_looked_up_while_the_table_is_written_is_the_servers_own_change() {
    let bench = Bench::new();
    let home = bench.home();
    let server = Arc::new(Keys::open(&home).unwrap());
    let command_line = Keys::beside(home.path(), Seams { disk: Arc::new(crate::sys::disk::RealDisk), ..bench.seams() }).unwrap();
    let owner = NewOwner::Of(server.first_owner());
    bench.disk.meanwhile({
        let server = server.clone();
        Some(Arc::new(move || drop(server.find("oxk_"))))
    });
    let (own, _) = server.create(new("own", owner)).unwrap();
    server.revoke(own.owner, own.id).unwrap();
    assert_eq!(server.changed_beside(), BTreeMap::new());
    let (made, _) = command_line.create(new("made", NewOwner::New)).unwrap();
    server.create(new("later", owner)).unwrap();
    assert_eq!(server.changed_beside(), BTreeMap::from([(made.id, made.owner)]));
    // Also behind one that failed, and one that could not be made.
    bench.disk.stop_after(Some(0));
    assert!(server.create(new("lost", owner)).is_err());
    bench.disk.stop_after(None);
    assert!(server.create(new("nobody's", NewOwner::Of(bench.owner()))).is_err());
    let (made, _) = command_line.create(new("made", NewOwner::New)).unwrap();
    assert_eq!(server.changed_beside(), BTreeMap::from([(made.id, made.owner)]));
    bench.disk.meanwhile(None);
}

#[test]
fn a_rotated_key_goes_on_for_its_overlap_and_the_new_one_has_its_rights() {
    let bench = Bench::new();
    let home = bench.home();
    let keys = Keys::open(&home).unwrap();
    let token = || std::fs::read_to_string(home.path().join("token")).unwrap().trim().to_owned();
    let old_text = token();
    let old = keys.find(&old_text).unwrap();
    let (new, secret) = keys.rotate(old.owner, old.id, Duration::from_secs(60)).unwrap();
    assert_eq!((new.owner, new.scopes, new.expires_at), (old.owner, old.scopes, None));
    assert_eq!(token(), secret.reveal(), "the token file has the new one");
    let good = |text: &str| keys.find(text).unwrap().is_valid(bench.clock.now());
    assert!(good(&old_text) && good(secret.reveal()));
    bench.clock.advance(Duration::from_secs(60));
    assert!(!good(&old_text) && good(secret.reveal()));
    assert!(matches!(keys.rotate(old.owner, old.id, Duration::ZERO), Err(StoreError::Conflict)), "it has ended");
    assert!(matches!(keys.rotate(bench.owner(), new.id, Duration::ZERO), Err(StoreError::NotFound)), "not another owner's");
    let (third, other) = keys.rotate(new.owner, new.id, Duration::ZERO).unwrap();
    assert!(!good(secret.reveal()) && good(other.reveal()) && third.is_valid(bench.clock.now()));
}

/// The second one had what was left of the overlap, and nobody said so.
#[test]
fn a_key_that_is_rotated_again_in_its_overlap_makes_one_with_its_own_life() {
    let bench = Bench::new();
    let home = bench.home();
    let keys = Keys::open(&home).unwrap();
    let (first, minute) = (keys.list_all().remove(0), Duration::from_secs(60));
    let end = bench.clock.now().plus(minute * 100);
    let (old, _) = keys.create(NewKey { expires_at: Some(end), ..new("x", NewOwner::Of(first.owner)) }).unwrap();
    // The one in the token file is rotated in two steps.
    for (old, own_end) in [(first, None), (old, Some(end))] {
        let again = [minute * 2, minute * 50, minute].map(|overlap| keys.rotate(old.owner, old.id, overlap).unwrap().0);
        assert_eq!(again.map(|new| new.expires_at), [own_end; 3]);
        // The shortest overlap that was asked for holds, over a restart too.
        let keys = Keys::open(&home).unwrap();
        let left = keys.by_id(old.id).unwrap();
        assert_eq!((left.expires_at, left.own_end()), (Some(bench.clock.now().plus(minute)), own_end));
    }
}

#[test]
fn rotation_stopped_at_any_call_leaves_a_good_key_in_the_token_file() {
    for k in 0.. {
        let bench = Bench::new();
        let home = bench.home();
        let keys = Keys::open(&home).unwrap();
        let first = keys.list_all().remove(0);
        bench.disk.stop_after(Some(k));
        let rotated = keys.rotate(first.owner, first.id, Duration::from_secs(60)).is_ok();
        bench.disk.stop_after(None);
        drop(keys);
        bench.clock.advance(Duration::from_secs(3600));
        let keys = Keys::open(&home).unwrap();
        let token = std::fs::read_to_string(keys.token_path()).unwrap();
        assert!(keys.find(token.trim()).unwrap().is_valid(bench.clock.now()), "stopped after {k} calls");
        if rotated {
            assert!(!keys.by_id(first.id).unwrap().is_valid(bench.clock.now()));
            return;
        }
    }
}

#[test]
fn a_full_table_loses_what_is_no_longer_good_first() {
    let bench = Bench::new();
    let keys = Keys::open(&bench.home()).unwrap();
    let table = keys.table.load();
    let mut table = Table::clone(&table);
    let (one, owner) = (table.keys[0].clone(), table.first_owner);
    table.keys.resize(KEYS_MAX, one);
    write(&bench.seams(), &keys.file, &table).unwrap();
    assert!(matches!(keys.create(new("x", NewOwner::Of(owner))), Err(StoreError::TooLarge(_))));
    table.keys[5].record.revoked = true;
    write(&bench.seams(), &keys.file, &table).unwrap();
    assert!(keys.create(new("x", NewOwner::Of(owner))).is_ok());
}

#[test]
fn an_expired_key_is_not_valid_and_scopes_keep_their_names() {
    let bench = Bench::new();
    let keys = Keys::open(&bench.home()).unwrap();
    let until = bench.clock.now().plus(Duration::from_secs(60));
    let key = NewKey { expires_at: Some(until), ..new("short", NewOwner::Of(keys.first_owner())) };
    let (record, _) = keys.create(key).unwrap();
    assert!(record.is_valid(bench.clock.now()));
    bench.clock.advance(Duration::from_secs(60));
    assert!(!record.is_valid(bench.clock.now()));
    assert_eq!(serde_json::to_string(&Scopes::ALL).unwrap(), r#"["read","chat","write","approve","admin"]"#);
    assert!(serde_json::from_str::<Scopes>(r#"["root"]"#).is_err());
}

#[test]
fn files_open_to_others_are_refused_with_what_to_run() {
    for name in ["token", "keys.json"] {
        let bench = Bench::new();
        let home = bench.home();
        Keys::open(&home).unwrap();
        let path = home.path().join(name);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let refused = Keys::open(&home).err().unwrap().to_string();
        assert!(refused.contains("mode 0640") && refused.contains(&format!("chmod 600 {}", path.display())), "{refused}");
    }
}

#[test]
fn a_crash_at_any_call_of_the_first_start_leaves_a_key_that_works() {
    for k in 0.. {
        let bench = Bench::new();
        let home = bench.home();
        bench.disk.stop_after(Some(k));
        let stopped = Keys::open(&home).is_err();
        bench.disk.stop_after(None);
        let keys = Keys::open(&home).unwrap();
        let token = std::fs::read_to_string(keys.token_path()).unwrap();
        assert!(keys.find(token.trim()).is_some(), "stopped after {k} calls");
        if !stopped {
            return;
        }
    }
}

#[test]
fn the_environment_key_belongs_to_the_first_owner_and_is_not_stored() {
    let bench = Bench::new();
    let keys = Keys::open(&bench.home()).unwrap();
    keys.accept_also(&Secret::new("from the environment"));
    let found = keys.find("from the environment").unwrap();
    assert_eq!((found.owner, keys.by_id(found.id)), (keys.first_owner(), Some(found.clone())));
    assert!(!std::fs::read_to_string(bench.dir.join("keys.json")).unwrap().contains("environment"));
}

/// THREATS 6: what cannot be read now is read when it can be.
#[test]
fn a_key_that_another_process_revoked_ends_also_where_the_file_could_not_be_read_at_first() {
    let bench = Bench::new();
    let home = bench.home();
    let keys = Keys::open(&home).unwrap();
    let (record, secret) = keys.create(new("k", NewOwner::Of(keys.first_owner()))).unwrap();
    let other = Keys::beside(home.path(), Seams { disk: Arc::new(crate::sys::disk::RealDisk), ..bench.seams() }).unwrap();
    other.revoke(record.owner, record.id).unwrap();
    let file = home.path().join("keys.json");
    bench.disk.refuse_reading(Some(&file));
    for _ in 0..2 {
        assert!(keys.find(secret.reveal()).unwrap().is_valid(bench.clock.now()));
    }
    bench.disk.refuse_reading(None);
    bench.clock.advance(READ_AGAIN_AFTER);
    assert!(!keys.find(secret.reveal()).is_some_and(|key| key.is_valid(bench.clock.now())));
    // And what this process revokes is revoked, whatever can be read back.
    let (record, secret) = keys.create(new("l", NewOwner::Of(keys.first_owner()))).unwrap();
    keys.revoke(record.owner, record.id).unwrap();
    bench.disk.refuse_reading(Some(&file));
    assert!(!keys.find(secret.reveal()).is_some_and(|key| key.is_valid(bench.clock.now())));
}
