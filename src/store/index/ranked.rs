//! Numbers of rows in an order, in short sorted runs: the nth is found without walking over those before it, and each costs
//! little more than the four bytes it has.

use std::cmp::Ordering;

/// Most rows in a run. 2 KiB are moved in no time, and 100,000 rows are some 300 runs to step over.
const RUN_ROWS: usize = 512;

/// A sorted list. What the order is, the caller says at each call, always the same.
#[derive(Debug, Default)]
pub(super) struct Ranked {
    /// None of them is empty.
    runs: Vec<Vec<u32>>,
    len: usize,
}

/// A place in the list; good until the next change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    run: usize,
    at: usize,
}

impl Ranked {
    pub(super) fn len(&self) -> usize {
        self.len
    }
    #[cfg(test)]
    pub(super) fn runs(&self) -> usize {
        self.runs.len()
    }

    /// The row that `order` finds equal to what is wanted, and its place; `Err` with the place where such a row belongs. `order`
    /// compares a row with what is wanted.
    pub(super) fn find(&self, order: impl Fn(u32) -> Ordering) -> Result<(u32, Place), Place> {
        let run = self.runs.partition_point(|run| run.last().is_some_and(|last| order(*last).is_lt()));
        let rows = self.runs.get(run).map_or(&[][..], Vec::as_slice);
        match rows.binary_search_by(|row| order(*row)) {
            Ok(at) => Ok((rows.get(at).copied().unwrap_or_default(), Place { run, at })),
            Err(at) => Err(Place { run, at }),
        }
    }

    /// Puts a row where `find` said it belongs.
    pub(super) fn insert(&mut self, place: Place, row: u32) {
        self.len += 1;
        let Place { mut run, mut at } = place;
        if run == self.runs.len() && run > 0 {
            run -= 1;
            at = self.runs.last().map_or(0, Vec::len);
        }
        match self.runs.get_mut(run) {
            Some(rows) if rows.len() < RUN_ROWS => rows.insert(at, row),
            // A list that grows at one end, as one of the newest does, leaves full runs behind.
            None => self.runs.push(vec![row]),
            Some(_) if at == 0 => self.runs.insert(run, vec![row]),
            Some(rows) if at == rows.len() => self.runs.insert(run + 1, vec![row]),
            Some(rows) => {
                let mut second = rows.split_off(RUN_ROWS / 2);
                match at.checked_sub(RUN_ROWS / 2) {
                    Some(at) => second.insert(at, row),
                    None => rows.insert(at, row),
                }
                self.runs.insert(run + 1, second);
            }
        }
    }

    /// Takes out the row at a place that `find` gave.
    pub(super) fn remove(&mut self, place: Place) {
        let Some(rows) = self.runs.get_mut(place.run).filter(|rows| place.at < rows.len()) else { return };
        rows.remove(place.at);
        self.len -= 1;
        if rows.is_empty() {
            self.runs.remove(place.run);
            return;
        }
        self.join(place.run);
        if let Some(before) = place.run.checked_sub(1) {
            self.join(before);
        }
    }

    /// Makes one run of this and the next, where they have become short.
    fn join(&mut self, run: usize) {
        let length = |run: usize| self.runs.get(run).map(Vec::len);
        if length(run).zip(length(run + 1)).is_some_and(|(one, next)| one + next <= RUN_ROWS / 2) {
            let moved = self.runs.remove(run + 1);
            if let Some(rows) = self.runs.get_mut(run) {
                rows.extend(moved);
            }
        }
    }

    /// The place of the nth row, from 0.
    pub(super) fn nth(&self, n: usize) -> Place {
        let (mut run, mut at) = (0, n);
        while let Some(rows) = self.runs.get(run).filter(|rows| rows.len() <= at) {
            at -= rows.len();
            run += 1;
        }
        Place { run, at }
    }
    /// The rows from a place on.
    pub(super) fn from(&self, place: Place) -> impl Iterator<Item = u32> {
        let runs = self.runs.get(place.run..).unwrap_or_default();
        runs.iter().flatten().skip(place.at).copied()
    }
}
