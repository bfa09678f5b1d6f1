//! The items in memory: a row each, rows by id, and rows by time for each owner.

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;
use std::sync::Arc;

use crate::base::ids::{OwnerId, SeedId, SessionId, SpaceId};
use crate::base::time::Timestamp;
use crate::store::index::Item;
use crate::store::index::labels::{Label, Labels};
use crate::store::index::ranked::Ranked;

/// Rows that are allocated together: memory grows by 24 KiB at a time and is never doubled.
const PART_ROWS: usize = 256;

/// All items.
#[derive(Debug, Default)]
pub(super) struct Table {
    parts: Vec<Vec<Option<Row>>>,
    /// Rows of items that are gone.
    free: Vec<u32>,
    by_id: Ranked,
    /// Newest first.
    by_time: HashMap<OwnerId, Ranked>,
    owners: Labels<OwnerId>,
    users: Labels<Arc<str>>,
    spaces: Labels<SpaceId>,
}

/// An item as it is kept.
#[derive(Debug)]
struct Row {
    id: SessionId,
    owner: Label,
    user: Label,
    space: Option<Label>,
    seed: Option<SeedId>,
    title: Box<str>,
    created: Timestamp,
    updated: Timestamp,
    len: u64,
    messages: u32,
    open: bool,
    lone: bool,
}

// DESIGN §8 allows 256 bytes a session: a row, its title, and two numbers in runs that are half full at least.
const _: () = assert!(size_of::<Option<Row>>() <= 96);

impl Table {
    pub(super) fn contains(&self, id: SessionId) -> bool {
        self.find(id).is_some()
    }
    pub(super) fn get(&self, id: SessionId) -> Option<Item> {
        self.item(self.row(self.find(id)?)?)
    }

    /// Puts an item in, in place of the one that is there.
    pub(super) fn put(&mut self, id: SessionId, item: Item) {
        self.take(id);
        let Some(row) = self.pack(id, &item) else { return };
        let number = match self.free.pop() {
            Some(number) => number,
            None => {
                let Some(number) = self.room() else { return };
                number
            }
        };
        if let Some(place) = self.place(number) {
            *place = Some(row);
        }
        let Err(place) = self.by_id.find(|row| self.compare_ids(row, id)) else { return };
        self.by_id.insert(place, number);
        let mut order = self.by_time.remove(&item.owner).unwrap_or_default();
        if let Err(place) = order.find(|row| self.compare_times(row, item.updated, id)) {
            order.insert(place, number);
        }
        self.by_time.insert(item.owner, order);
    }

    /// Takes an item out.
    pub(super) fn take(&mut self, id: SessionId) {
        let Ok((number, place)) = self.by_id.find(|row| self.compare_ids(row, id)) else { return };
        self.by_id.remove(place);
        let Some(item) = self.row(number).map(|row| (self.owners.value(row.owner).copied(), row.updated)) else { return };
        let (owner, updated) = item;
        if let Some((owner, mut order)) = owner.and_then(|owner| self.by_time.remove_entry(&owner)) {
            if let Ok((_, place)) = order.find(|row| self.compare_times(row, updated, id)) {
                order.remove(place);
            }
            if order.len() > 0 {
                self.by_time.insert(owner, order);
            }
        }
        if let Some(row) = self.place(number).and_then(Option::take) {
            self.owners.give_back(row.owner);
            self.users.give_back(row.user);
            if let Some(space) = row.space {
                self.spaces.give_back(space);
            }
            self.free.push(number);
        }
    }

    /// How many an owner has.
    pub(super) fn count(&self, owner: OwnerId) -> usize {
        self.by_time.get(&owner).map_or(0, Ranked::len)
    }
    /// An owner's, newest first, from the nth on.
    pub(super) fn newest(&self, owner: OwnerId, nth: usize) -> impl Iterator<Item = (SessionId, Item)> {
        let rows = self.by_time.get(&owner).into_iter().flat_map(move |order| order.from(order.nth(nth)));
        rows.filter_map(|number| self.row(number)).filter_map(|row| Some((row.id, self.item(row)?)))
    }
    /// The ids of an owner's, newest first; those of one space where one is named.
    pub(super) fn ids(&self, owner: OwnerId, space: Option<SpaceId>) -> Vec<SessionId> {
        // A space that no session is in has no label.
        let wanted = space.map(|space| self.spaces.find(&space));
        let held = |row: &&Row| wanted.is_none_or(|label| label.is_some() && row.space == label);
        let rows = self.by_time.get(&owner).into_iter().flat_map(|order| order.from(order.nth(0)));
        rows.filter_map(|number| self.row(number)).filter(held).map(|row| row.id).collect()
    }
    /// All, by id; those behind one where it is named.
    pub(super) fn after(&self, id: Option<SessionId>) -> impl Iterator<Item = (SessionId, Item)> {
        let (place, over) = match id.map(|id| self.by_id.find(|row| self.compare_ids(row, id))) {
            None => (self.by_id.nth(0), 0),
            Some(Ok((_, place))) => (place, 1),
            Some(Err(place)) => (place, 0),
        };
        self.by_id.from(place).skip(over).filter_map(|number| self.row(number)).filter_map(|row| Some((row.id, self.item(row)?)))
    }

    /// Owners, users and spaces.
    #[cfg(test)]
    pub(super) fn kept_labels(&self) -> (usize, usize, usize) {
        (self.owners.len(), self.users.len(), self.spaces.len())
    }

    fn find(&self, id: SessionId) -> Option<u32> {
        self.by_id.find(|row| self.compare_ids(row, id)).ok().map(|(number, _)| number)
    }
    fn row(&self, number: u32) -> Option<&Row> {
        let number = number as usize;
        self.parts.get(number / PART_ROWS)?.get(number % PART_ROWS)?.as_ref()
    }
    fn place(&mut self, number: u32) -> Option<&mut Option<Row>> {
        let number = number as usize;
        self.parts.get_mut(number / PART_ROWS)?.get_mut(number % PART_ROWS)
    }
    /// A new row. `None` with four thousand million sessions, which no memory holds.
    fn room(&mut self) -> Option<u32> {
        if self.parts.last().is_none_or(|part| part.len() == PART_ROWS) {
            self.parts.push(Vec::with_capacity(PART_ROWS));
        }
        let before = (self.parts.len() - 1) * PART_ROWS;
        let part = self.parts.last_mut()?;
        part.push(None);
        u32::try_from(before + part.len() - 1).ok()
    }
    fn compare_ids(&self, number: u32, id: SessionId) -> Ordering {
        self.row(number).map_or(Ordering::Less, |row| row.id.cmp(&id))
    }
    fn compare_times(&self, number: u32, updated: Timestamp, id: SessionId) -> Ordering {
        self.row(number).map_or(Ordering::Less, |row| (Reverse(row.updated), row.id).cmp(&(Reverse(updated), id)))
    }
    fn pack(&mut self, id: SessionId, item: &Item) -> Option<Row> {
        let &Item { owner, ref user, ref title, space, seed, created, updated, len, messages, open, lone } = item;
        Some(Row {
            id,
            owner: self.owners.lend(owner)?,
            user: self.users.lend(user.clone())?,
            space: space.and_then(|space| self.spaces.lend(space)),
            seed,
            title: title.clone(),
            created,
            updated,
            len,
            messages,
            open,
            lone,
        })
    }
    fn item(&self, row: &Row) -> Option<Item> {
        let &Row { owner, user, space, seed, ref title, created, updated, len, messages, open, lone, .. } = row;
        Some(Item {
            owner: *self.owners.value(owner)?,
            user: self.users.value(user)?.clone(),
            title: title.clone(),
            space: space.and_then(|space| self.spaces.value(space).copied()),
            seed,
            created,
            updated,
            len,
            messages,
            open,
            lone,
        })
    }
}
