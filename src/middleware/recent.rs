//! A bounded table of what was seen lately.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

/// Values by key with the time each was last used; when it is full, the less recently used half goes.
#[derive(Debug)]
pub struct Recent<K, V> {
    entries: HashMap<K, (Duration, V)>,
    max: usize,
}

impl<K: Hash + Eq, V: Default> Recent<K, V> {
    /// Holds at most `max` entries.
    pub fn new(max: usize) -> Self {
        Self { entries: HashMap::new(), max }
    }

    /// The value of this key, made if need be; `now` is monotonic.
    pub fn at(&mut self, key: K, now: Duration) -> &mut V {
        if self.entries.len() >= self.max && !self.entries.contains_key(&key) {
            self.forget_half();
        }
        let entry = self.entries.entry(key).or_default();
        entry.0 = now;
        &mut entry.1
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// None is remembered.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Half at once: a flood of new keys pays for one pass over the table once in many entries.
    fn forget_half(&mut self) {
        let mut times: Vec<Duration> = self.entries.values().map(|(time, _)| *time).collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        let median = *median;
        self.entries.retain(|_, (time, _)| *time > median);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_grows_past_its_bound_and_keeps_who_came_last() {
        let mut recent = Recent::<u32, u32>::new(8);
        for n in 0..1000 {
            *recent.at(n, Duration::from_secs(n.into())) = n;
            assert!(recent.len() <= 8);
        }
        assert_eq!(*recent.at(999, Duration::from_secs(1000)), 999);
        assert_eq!(*recent.at(0, Duration::from_secs(1000)), 0, "forgotten and made anew");
    }
}
