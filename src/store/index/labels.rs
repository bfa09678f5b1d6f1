//! Values that many rows share, kept once each for as long as a row has them, and four bytes a row.

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;

/// Stands for a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Label(NonZeroU32);

impl Label {
    fn nth(n: usize) -> Option<Self> {
        u32::try_from(n + 1).ok().and_then(NonZeroU32::new).map(Self)
    }
    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// The values, each with how many rows have it.
#[derive(Debug)]
pub(super) struct Labels<T> {
    values: Vec<(T, u32)>,
    labels: HashMap<T, Label>,
    /// Of values that no row has any more.
    free: Vec<Label>,
}

impl<T> Default for Labels<T> {
    fn default() -> Self {
        Self { values: Vec::new(), labels: HashMap::new(), free: Vec::new() }
    }
}

impl<T: Clone + Eq + Hash> Labels<T> {
    /// The label for one more row that has this value. `None` with four thousand million values, which no memory holds.
    pub(super) fn lend(&mut self, value: T) -> Option<Label> {
        if let Some(label) = self.labels.get(&value).copied() {
            self.values.get_mut(label.index())?.1 += 1;
            return Some(label);
        }
        let label = match self.free.pop() {
            Some(label) => {
                *self.values.get_mut(label.index())? = (value.clone(), 1);
                label
            }
            None => {
                let label = Label::nth(self.values.len())?;
                self.values.push((value.clone(), 1));
                label
            }
        };
        self.labels.insert(value, label);
        Some(label)
    }
    /// A row less has it.
    pub(super) fn give_back(&mut self, label: Label) {
        let Some((value, rows)) = self.values.get_mut(label.index()) else { return };
        *rows = rows.saturating_sub(1);
        if *rows == 0 && self.labels.remove(value).is_some() {
            self.free.push(label);
        }
    }
    /// What it stands for.
    pub(super) fn value(&self, label: Label) -> Option<&T> {
        self.values.get(label.index()).map(|(value, _)| value)
    }
    /// The label of a value that some row has.
    pub(super) fn find(&self, value: &T) -> Option<Label> {
        self.labels.get(value).copied()
    }
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.labels.len()
    }
}
