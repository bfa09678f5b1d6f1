//! The table against a plain model, by random changes.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::*;
use crate::store::index::ranked::Ranked;
use crate::store::testing::{dice, test_seed};

/// From small numbers, so that random ones meet.
fn id(n: u64) -> SessionId {
    SessionId::derived(&[u8::try_from(n).unwrap(); 32])
}

fn item(roll: &mut impl FnMut(u64) -> u64) -> Item {
    let of = |n: u64| [u8::try_from(n).unwrap() + 1; 32];
    Item {
        owner: OwnerId::derived(&of(roll(3))),
        user: format!("user {}", roll(4)).into(),
        title: "t".repeat(roll(60) as usize).into(),
        space: (roll(2) == 0).then(|| SpaceId::derived(&of(roll(3)))),
        seed: (roll(2) == 0).then(|| SeedId::derived(&of(roll(200)))),
        created: Timestamp::from_millis(roll(9)),
        updated: Timestamp::from_millis(roll(40)),
        len: roll(1000),
        messages: roll(9) as u32,
        open: roll(2) == 0,
        lone: roll(2) == 0,
    }
}

#[test]
fn the_table_is_what_a_plain_map_says() {
    let mut roll = dice(test_seed("table"));
    let (mut table, mut model) = (Table::default(), BTreeMap::new());
    for step in 0..6000 {
        // It grows, shrinks and grows again.
        let growing = (step / 1500) % 2 == 0;
        let id = id(roll(250));
        if roll(4) < if growing { 3 } else { 1 } {
            let item = item(&mut roll);
            table.put(id, item.clone());
            model.insert(id, item);
        } else {
            table.take(id);
            model.remove(&id);
        }
        assert_eq!(table.get(id), model.get(&id).cloned());
        assert_eq!(table.contains(id), model.contains_key(&id));
        if step % 50 != 0 {
            continue;
        }
        assert_eq!(table.after(None).collect::<Vec<_>>(), model.clone().into_iter().collect::<Vec<_>>());
        assert!(table.after(Some(id)).eq(model.clone().into_iter().filter(|(other, _)| *other > id)));
        for owner in model.values().map(|item| item.owner).collect::<HashSet<_>>() {
            let mut wanted: Vec<_> = model.iter().filter(|(_, item)| item.owner == owner).collect();
            wanted.sort_by_key(|(id, item)| (Reverse(item.updated), **id));
            assert_eq!(table.count(owner), wanted.len());
            let from = roll(wanted.len() as u64 + 1) as usize;
            let page: Vec<_> = table.newest(owner, from).take(7).collect();
            assert_eq!(page, wanted[from..].iter().take(7).map(|(id, item)| (**id, (*item).clone())).collect::<Vec<_>>());
            let space = item(&mut roll).space;
            let of_space: Vec<_> = wanted.iter().filter(|(_, item)| space.is_none() || item.space == space).map(|(id, _)| **id).collect();
            assert_eq!(table.ids(owner, space), of_space);
        }
    }
}

#[test]
fn what_no_session_has_any_more_is_not_kept() {
    let mut roll = dice(test_seed("labels"));
    let mut table = Table::default();
    for n in 0..200 {
        table.put(id(n), Item { user: format!("only {n}").into(), ..item(&mut roll) });
        table.put(id(n), Item { user: format!("renamed {n}").into(), ..item(&mut roll) });
    }
    assert_eq!(table.kept_labels().1, 200);
    for n in 0..200 {
        table.take(id(n));
    }
    assert_eq!(table.kept_labels(), (0, 0, 0));
    assert_eq!(table.after(None).count(), 0);
}

#[test]
fn thousands_of_rows_stay_in_order_in_runs_that_are_used() {
    let mut roll = dice(test_seed("ranked"));
    let (mut ranked, mut model): (Ranked, Vec<u32>) = Default::default();
    for step in 0..30_000_u32 {
        let row = match step {
            // From the front, from the back, anywhere.
            0..5000 => 200_000 - step,
            5000..10_000 => 200_000 + step,
            _ => roll(400_000) as u32,
        };
        match (ranked.find(|other| other.cmp(&row)), model.binary_search(&row)) {
            (Ok((found, place)), Ok(at)) => {
                assert_eq!(found, row);
                ranked.remove(place);
                model.remove(at);
            }
            (Err(place), Err(at)) => {
                ranked.insert(place, row);
                model.insert(at, row);
            }
            (found, wanted) => panic!("{row}: {found:?} {wanted:?}"),
        }
        if step == 9999 {
            assert!(ranked.runs() <= 10_000_usize.div_ceil(512) + 1, "what grows at its ends leaves full runs behind: {}", ranked.runs());
        }
        if step % 1000 == 0 {
            let n = roll(model.len() as u64 + 2) as usize;
            assert!(ranked.from(ranked.nth(n)).eq(model.iter().skip(n).copied()));
            assert_eq!(ranked.len(), model.len());
        }
    }
    for row in model.clone() {
        if row % 50 != 0
            && let Ok((_, place)) = ranked.find(|other| other.cmp(&row))
        {
            ranked.remove(place);
            model.retain(|other| *other != row);
        }
    }
    assert!(ranked.from(ranked.nth(0)).eq(model.iter().copied()));
    assert!(ranked.runs() <= model.len() / 100 + 2, "{} rows in {} runs", model.len(), ranked.runs());
}
