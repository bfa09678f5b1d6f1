//! The books of budgets: what is reserved is never overrun, over stops and broken files.

use std::time::Duration;

use super::*;
use crate::base::ids::OwnerId;
use crate::base::random::Random;
use crate::base::time::Clock;
use crate::store::home::Home;
use crate::store::keys::{KeyRecord, NewKey, NewOwner, Refused, Reservation, Scope, Scopes};
use crate::store::testing::Bench;

/// A home with one key that has a budget.
struct Place {
    bench: Bench,
    home: Arc<Home>,
    keys: Arc<Keys>,
    key: KeyRecord,
}

impl Place {
    fn new(tokens: u64, per: Period) -> Self {
        let bench = Bench::new();
        let home = bench.home();
        let keys = Arc::new(Keys::open(&home).unwrap());
        let key = make(&keys, keys.first_owner(), Budget::new(tokens, per, &*bench.random));
        Self { bench, home, keys, key }
    }
    fn budget(&self) -> Budget {
        self.key.budget.unwrap()
    }
    /// The books as a process that starts now reads them.
    fn books(&self) -> Arc<Books> {
        Books::open(self.home.path(), self.bench.seams(), self.keys.clone(), Metrics::new(0)).unwrap()
    }
    fn purse(&self, books: &Arc<Books>) -> Purse {
        books.purse(Some(self.budget().id))
    }
}

fn make(keys: &Keys, owner: OwnerId, budget: Option<Budget>) -> KeyRecord {
    let scopes = Scopes::of(&[Scope::Chat]);
    let new = NewKey { name: "n".into(), owner: NewOwner::Of(owner), scopes, expires_at: None, rate_limit_per_minute: None, budget };
    keys.create(new).unwrap().0
}

/// One call that may use `most` and uses `used`.
async fn call(purse: &Purse, most: u64, used: u64) -> Result<(), Refused> {
    purse.reserve(most).await?.used(used);
    Ok(())
}

fn left(refused: Result<Reservation, Refused>) -> u64 {
    match refused {
        Err(Refused::Short { left, .. }) => left,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was let in"),
    }
}

/// THREATS 25: what is reserved is nobody else's, however many calls run side by side.
#[tokio::test(flavor = "multi_thread")]
async fn calls_side_by_side_never_use_more_than_the_budget() {
    let place = Place::new(10_000, Period::Total);
    let books = place.books();
    let calls = (0..200_u64).map(|n| {
        let purse = place.purse(&books);
        tokio::spawn(async move {
            let used = 100 + n % 7 * 100;
            match purse.reserve(900).await {
                Ok(mut reserved) => {
                    tokio::task::yield_now().await;
                    reserved.used(used);
                    used
                }
                Err(Refused::Short { .. }) => 0,
                Err(other) => panic!("{other}"),
            }
        })
    });
    let mut used = 0;
    for call in calls.collect::<Vec<_>>() {
        used += call.await.unwrap();
    }
    assert!((9_101..=10_000).contains(&used), "{used}: no more than there is, and what still fits was let in");
    assert_eq!(books.used(&place.budget()), used);
    assert_eq!(left(place.purse(&books).reserve(900).await), 10_000 - used);
}

#[tokio::test]
async fn a_call_that_fits_once_others_are_over_waits_for_them() {
    let place = Place::new(1000, Period::Total);
    let books = place.books();
    let purse = place.purse(&books);
    let mut first = purse.reserve(800).await.unwrap();
    let mut second = Box::pin(purse.reserve(800));
    assert!(futures_util::future::poll_immediate(&mut second).await.is_none(), "the first one may still need it");
    assert!(purse.admit().is_ok(), "nothing is used yet");
    first.used(100);
    drop(first);
    let second = second.await.unwrap();
    assert_eq!(left(purse.reserve(901).await), 900, "more than can ever be left is not waited for");
    drop(second);
    assert_eq!(books.used(&place.budget()), 900, "where nothing was noted all of it is used");
    call(&purse, 100, 100).await.unwrap();
    assert!(matches!(purse.admit(), Err(Refused::Short { left: 0, anew: None, .. })));
}

#[tokio::test]
async fn who_stops_waiting_holds_nothing() {
    let place = Place::new(1000, Period::Total);
    let books = place.books();
    let purse = place.purse(&books);
    let first = purse.reserve(1000).await.unwrap();
    let mut second = Box::pin(purse.reserve(1000));
    assert!(futures_util::future::poll_immediate(&mut second).await.is_none());
    drop(second);
    let mut first = first;
    first.used(0);
    drop(first);
    call(&purse, 1000, 1).await.unwrap();
    assert_eq!(books.used(&place.budget()), 1);
}

#[tokio::test]
async fn an_orderly_end_keeps_what_was_used_and_a_crash_what_was_set_aside() {
    let place = Place::new(1_000_000, Period::Month);
    let books = place.books();
    for _ in 0..10 {
        call(&place.purse(&books), 3000, 500).await.unwrap();
    }
    let after_crash = place.books().used(&place.budget());
    assert!((5000..5000 + 3000 + 1_000_000 / BUDGET_PARTS).contains(&after_crash), "{after_crash}");
    books.close().unwrap();
    let books = place.books();
    assert_eq!(books.used(&place.budget()), 5000);
    let reserved = place.purse(&books).reserve(700_000).await.unwrap();
    assert!(place.books().used(&place.budget()) >= 705_000, "what a call may use is on the disk before it is made");
    drop(reserved);
}

#[tokio::test]
async fn a_crash_does_not_cost_all_of_a_small_budget() {
    for tokens in [100, 3000, 20_000, 200_000] {
        let place = Place::new(tokens, Period::Total);
        call(&place.purse(&place.books()), tokens / 20, tokens / 50).await.unwrap();
        let after_crash = place.books().used(&place.budget());
        assert!((tokens / 50..=tokens / 8).contains(&after_crash), "{tokens}: {after_crash}");
    }
}

/// A crash of an idle server costs nothing: it is written down by itself, once, and a busy budget is left alone.
#[tokio::test(start_paused = true)]
async fn a_budget_that_rests_is_exact_on_the_disk_and_a_busy_one_costs_no_writes() {
    let place = Place::new(1_000_000, Period::Total);
    let books = place.books();
    let purse = place.purse(&books);
    let (stop, stopped) = crate::base::cancel::pair();
    let keeper = tokio::spawn(books.clone().keep_exact(stopped));
    call(&purse, 3000, 300).await.unwrap();
    let syncs = place.bench.disk.syncs();
    for _ in 0..20 {
        tokio::time::sleep(BUDGET_REST / 2).await;
        call(&purse, 100, 10).await.unwrap();
    }
    assert_eq!(place.bench.disk.syncs(), syncs, "calls that follow each other");
    let long = purse.reserve(100).await.unwrap();
    tokio::time::sleep(BUDGET_REST * 10).await;
    assert_eq!(place.bench.disk.syncs(), syncs, "a call that is under way");
    drop(long);
    tokio::time::sleep(BUDGET_REST * 3).await;
    assert_eq!(place.books().used(&place.budget()), 600);
    let syncs = place.bench.disk.syncs();
    tokio::time::sleep(BUDGET_REST * 100).await;
    assert_eq!(place.bench.disk.syncs(), syncs, "once");
    // What the file no longer says is not used before it says it again.
    let held = purse.reserve(2000).await.unwrap();
    assert!(place.books().used(&place.budget()) >= 2600);
    drop(held);
    // A disk that fails is asked again, and meanwhile nothing is forgotten.
    place.bench.disk.fail_syncs(1);
    tokio::time::sleep(BUDGET_REST * 6).await;
    assert_eq!(place.books().used(&place.budget()), 2600);
    stop.cancel(crate::base::cancel::Why::Shutdown);
    keeper.await.unwrap();
}

/// Whatever a process that is killed leaves behind: never less than was used.
#[tokio::test]
async fn stopped_at_any_call_of_the_disk_nothing_is_used_twice() {
    for torn in [0, 40] {
        for k in 0.. {
            let place = Place::new(200_000, Period::Day);
            let books = place.books();
            place.bench.disk.tear(torn);
            place.bench.disk.stop_after(Some(k));
            let (mut used, mut refused) = (0, false);
            for n in 0..8 {
                match call(&place.purse(&books), 9000, 3000 + n * 100).await {
                    Ok(()) => used += 3000 + n * 100,
                    Err(Refused::Unwritten(_)) => refused = true,
                    Err(other) => panic!("{other}"),
                }
            }
            place.bench.disk.stop_after(None);
            let books = place.books();
            let found = books.used(&place.budget());
            assert!((used..=used + 20_000).contains(&found), "stopped after {k}: {used} were used, {found} are found");
            call(&place.purse(&books), 9000, 1).await.unwrap();
            if !refused {
                break;
            }
        }
    }
}

#[tokio::test]
async fn most_calls_write_nothing() {
    let place = Place::new(1_000_000, Period::Total);
    let books = place.books();
    let before = place.bench.disk.syncs();
    let mut calls = 0;
    while call(&place.purse(&books), 1000, 500).await.is_ok() {
        calls += 1;
    }
    let syncs = place.bench.disk.syncs() - before;
    // Each write syncs the file and its directory.
    assert!(calls > 1900 && syncs <= 2 * (BUDGET_PARTS + 2), "{calls} calls, {syncs} syncs");
}

/// Fail closed, and go on by itself.
#[tokio::test]
async fn what_cannot_be_written_is_refused_until_it_can() {
    let place = Place::new(100_000, Period::Total);
    let books = place.books();
    let purse = place.purse(&books);
    place.bench.disk.set_budget(Some(0));
    assert!(matches!(purse.reserve(10).await, Err(Refused::Unwritten(StoreError::DiskFull(_)))));
    place.bench.disk.set_budget(None);
    place.bench.disk.fail_syncs(1);
    assert!(matches!(purse.reserve(10).await, Err(Refused::Unwritten(StoreError::Io { .. }))));
    call(&purse, 10, 10).await.unwrap();
    assert_eq!(books.used(&place.budget()), 10);
}

#[tokio::test]
async fn damaged_books_count_as_used_up_until_their_time_begins_anew() {
    let place = Place::new(100_000, Period::Day);
    let total = make(&place.keys, place.key.owner, Budget::new(50, Period::Total, &*place.bench.random)).budget.unwrap();
    call(&place.purse(&place.books()), 10, 10).await.unwrap();
    let path = place.home.path().join(FILE_NAME);
    std::fs::write(&path, "{\"version\":1,\"budg").unwrap();
    for _ in 0..2 {
        let books = place.books();
        assert_eq!(left(place.purse(&books).reserve(1).await), 0);
        let later = make(&place.keys, place.key.owner, Budget::new(9, Period::Total, &*place.bench.random)).budget.unwrap();
        // What this writes must not forget the others.
        call(&books.purse(Some(later.id)), 9, 9).await.unwrap();
    }
    place.bench.clock.advance(Duration::from_secs(24 * 3600));
    let books = place.books();
    call(&place.purse(&books), 10, 10).await.unwrap();
    assert_eq!(left(books.purse(Some(total.id)).reserve(1).await), 0, "a total never begins anew");
    std::fs::write(&path, "{\"version\":2,\"budgets\":[]}").unwrap();
    let newer = Books::open(place.home.path(), place.bench.seams(), place.keys.clone(), Metrics::new(0));
    assert!(matches!(newer, Err(StoreError::Newer { found: 2 })), "a newer version's books are left alone");
}

#[tokio::test]
async fn a_day_ends_at_midnight_and_a_call_counts_for_the_day_it_began_on() {
    let place = Place::new(1000, Period::Day);
    let books = place.books();
    let purse = place.purse(&books);
    call(&purse, 1000, 600).await.unwrap();
    let over_midnight = purse.reserve(300).await.unwrap();
    let mut waiting = Box::pin(purse.reserve(200));
    assert!(futures_util::future::poll_immediate(&mut waiting).await.is_none());
    let refused = purse.reserve(500).await.err().unwrap();
    let midnight = place.bench.clock.now().next_day();
    assert!(refused.to_string().ends_with(&format!("it begins anew at {midnight}")), "{refused}");
    assert_eq!(refused.retry_secs(), Some(midnight.since(place.bench.clock.now()).as_secs() + 1));
    place.bench.clock.advance(midnight.since(place.bench.clock.now()));
    assert_eq!(books.used(&place.budget()), 0);
    assert_eq!(left(purse.reserve(1001).await), 1000);
    drop(over_midnight);
    assert_eq!(books.used(&place.budget()), 0);
    waiting.await.unwrap().used(0);
    let all = purse.reserve(1000).await.unwrap();
    drop(all);
    assert_eq!(books.used(&place.budget()), 1000);
    assert_eq!(place.books().used(&place.budget()), 1000);
}

/// THREATS 29: no clock that is moved gives anything away, and none locks anybody out for longer than its true time.
#[tokio::test]
async fn a_clock_that_jumps_gives_nothing_away() {
    let place = Place::new(1000, Period::Day);
    let (now, day) = (place.bench.clock.now(), 24 * 3600);
    let at = |secs: u64| {
        let clock = crate::base::time::ManualClock::at(now.plus(Duration::from_secs(secs)));
        let seams = Seams { clock: Arc::new(clock), ..place.bench.seams() };
        Books::open(place.home.path(), seams, place.keys.clone(), Metrics::new(0)).unwrap()
    };
    // Ahead by ten days, all used there; then it is put right.
    call(&place.purse(&at(10 * day)), 1000, 1000).await.unwrap();
    for secs in [9 * day, 0] {
        assert_eq!(left(place.purse(&at(secs)).reserve(1).await), 0, "what is used stays used");
    }
    let books = at(0);
    let later = make(&place.keys, place.key.owner, Budget::new(9, Period::Day, &*place.bench.random)).budget.unwrap();
    books.used(&place.budget());
    assert_eq!(left(place.purse(&books).reserve(1).await), 0);
    call(&books.purse(Some(later.id)), 9, 9).await.unwrap();
    call(&place.purse(&at(day)), 1000, 1000).await.unwrap();
}

#[tokio::test]
async fn a_rotated_key_goes_on_with_its_budget_and_a_forgotten_one_has_nothing_left() {
    let place = Place::new(1000, Period::Total);
    let books = place.books();
    call(&place.purse(&books), 700, 700).await.unwrap();
    let (rotated, _) = place.keys.rotate(place.key.owner, place.key.id, Duration::ZERO).unwrap();
    assert_eq!(rotated.budget, place.key.budget);
    assert_eq!(left(books.purse(rotated.budget.map(|budget| budget.id)).reserve(301).await), 300);
    let forgotten = BudgetId::derived(&[9; 32]);
    let refused = books.purse(Some(forgotten)).reserve(1).await.err().unwrap();
    assert!(matches!(refused, Refused::Short { left: 0, budget: None, .. }) && refused.to_string().contains("is gone"), "{refused}");
    assert!(books.purse(Some(forgotten)).admit().is_err());
    let open = books.purse(None);
    assert!(open.admit().is_ok() && open.reserve(u64::MAX).await.is_ok(), "a key without a budget has no limit");
}

/// A model that uses more than was thought: what follows knows it, also after a crash.
#[tokio::test]
async fn a_call_that_used_more_than_it_reserved_is_booked_whole() {
    let place = Place::new(100_000, Period::Total);
    let books = place.books();
    call(&place.purse(&books), 100, 90_000).await.unwrap();
    assert_eq!(left(place.purse(&books).reserve(10_001).await), 10_000);
    // It is written beside.
    let mut looks = 0;
    while place.books().used(&place.budget()) < 90_000 {
        looks += 1;
        assert!(looks < 100_000, "it was never written");
        tokio::task::yield_now().await;
    }
    call(&place.purse(&books), 1, 50_000).await.unwrap();
    assert_eq!(left(place.purse(&books).reserve(1).await), 0, "over the limit is nothing left, not a number that wraps");
}

#[test]
fn a_budget_has_bounds() {
    let random = crate::base::random::SystemRandom::new();
    let random: &dyn Random = &random;
    assert!(Budget::new(0, Period::Day, random).is_none() && Budget::new(1_000_000_000_001, Period::Day, random).is_none());
    let kept = serde_json::to_value(Budget::new(5, Period::Month, random).unwrap()).unwrap();
    assert_eq!((&kept["tokens"], &kept["per"]), (&5.into(), &"month".into()));
}
