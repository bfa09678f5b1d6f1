//! Numbers of the whole process: plain atomics, so that counting costs a few nanoseconds and never waits. Labels are words of
//! ours and model names of the configuration; never content, ids or names that a client chose. `api/metrics.rs` writes them down.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn one(&self) {
        self.add(1);
    }
    /// So many more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
    /// How many so far.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of the buckets of every histogram, in microseconds: from a request that reads memory to a run of minutes.
pub const BOUNDS_MICROS: [u64; 14] =
    [250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 250_000, 1_000_000, 5_000_000, 15_000_000, 60_000_000, 300_000_000];

/// How long something took, in buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    /// One for each bound, and one above the last.
    buckets: [Counter; BOUNDS_MICROS.len() + 1],
    micros: Counter,
}

impl Histogram {
    /// Counts one duration.
    pub fn took(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let at = BOUNDS_MICROS.partition_point(|bound| *bound < micros);
        if let Some(bucket) = self.buckets.get(at) {
            bucket.one();
        }
        self.micros.add(micros);
    }
    /// What each bucket holds (not summed up); the last one is above every bound.
    pub fn buckets(&self) -> [u64; BOUNDS_MICROS.len() + 1] {
        std::array::from_fn(|i| self.buckets.get(i).map_or(0, Counter::value))
    }
    /// All durations together, in microseconds.
    pub fn sum_micros(&self) -> u64 {
        self.micros.value()
    }
}

/// Counters by a word from a fixed list.
#[derive(Debug)]
pub struct ByWord<const N: usize> {
    words: [&'static str; N],
    counts: [Counter; N],
}

impl<const N: usize> ByWord<N> {
    fn new(words: [&'static str; N]) -> Self {
        Self { words, counts: std::array::from_fn(|_| Counter::default()) }
    }
    /// One more of this word; a word that is not on the list counts as the last one.
    pub fn one(&self, word: &str) {
        let at = self.words.iter().position(|known| *known == word).unwrap_or(N.saturating_sub(1));
        if let Some(count) = self.counts.get(at) {
            count.one();
        }
    }
    /// Every word with its count.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.words.iter().copied().zip(self.counts.iter().map(Counter::value))
    }
}

/// What is counted of one row of the route table.
#[derive(Debug, Default)]
pub struct RouteCounts {
    /// Answers by the first digit of their status, from 1 to 5.
    pub classes: [Counter; 5],
    /// From the request to the head of its answer.
    pub took: Histogram,
}

/// What is counted of one model.
#[derive(Debug)]
pub struct ModelCounts {
    /// `provider/model` as it is configured, or asked for on `/v1` and known to its provider.
    pub model: String,
    /// Calls by how they ended.
    pub calls: ByWord<4>,
    /// Tokens read.
    pub tokens_in: Counter,
    /// Tokens written.
    pub tokens_out: Counter,
    /// From the call to its first piece.
    pub first_piece: Histogram,
}

/// How a call of a model may end; see [`ModelCounts::calls`].
pub const CALL_OUTCOMES: [&str; 4] = ["done", "failed", "cancelled", "other"];
/// Models that are counted by name; what comes after goes to `other`.
const MODELS_MAX: usize = 64;
/// Tools of our own that are counted by name; the others are `mcp` and `other`.
const TOOLS: [&str; 12] = [
    "list_files",
    "read_file",
    "write_file",
    "search_files",
    "remember",
    "recall",
    "list_skills",
    "read_skill",
    "start_task",
    "ask_user",
    "mcp",
    "other",
];

/// Every number.
#[derive(Debug)]
pub struct Metrics {
    /// By row of the route table, in its order; the last one is what led to no row.
    pub routes: Vec<RouteCounts>,
    /// Runs by how they left.
    pub runs: ByWord<6>,
    /// From a permit to the end of a run or its parking.
    pub run_took: Histogram,
    /// Tools that ran, by name.
    pub tools: ByWord<12>,
    /// Questions to a person, by what became of them.
    pub approvals: ByWord<5>,
    /// By model. Taken for writing where a model is counted the first time; a model call takes it once for reading.
    models: RwLock<Vec<Arc<ModelCounts>>>,
    /// Messages and model calls that a key's token budget refused, by why.
    pub budget_refusals: ByWord<2>,
    /// Open event streams.
    pub streams: Gauge,
    /// Open WebSockets.
    pub sockets: Gauge,
    /// Bytes written to files.
    pub bytes_written: Counter,
    /// Files and directories that were synced.
    pub syncs: Counter,
    /// Records of the audit log.
    pub audit_records: Counter,
    /// Actions that went on although their record could not be written (`audit.on_failure = "continue"`).
    pub audit_lost: Counter,
}

/// A number that goes up and down.
#[derive(Debug, Default, Clone)]
pub struct Gauge(Arc<AtomicU64>);

/// One of what a [`Gauge`] counts; it is counted until dropped.
#[derive(Debug)]
pub struct Present(Arc<AtomicU64>);

impl Gauge {
    /// One more, until the evidence is dropped.
    pub fn enter(&self) -> Present {
        self.0.fetch_add(1, Ordering::Relaxed);
        Present(self.0.clone())
    }
    /// How many now.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    /// Nothing counted yet; `routes` rows in the route table.
    pub fn new(routes: usize) -> Arc<Self> {
        Arc::new(Self {
            routes: (0..=routes).map(|_| RouteCounts::default()).collect(),
            runs: ByWord::new(["done", "failed", "cancelled", "interrupted", "parked", "lost"]),
            run_took: Histogram::default(),
            tools: ByWord::new(TOOLS),
            approvals: ByWord::new(["asked", "approved", "rejected", "expired", "other"]),
            models: RwLock::default(),
            budget_refusals: ByWord::new(["used_up", "unwritten"]),
            streams: Gauge::default(),
            sockets: Gauge::default(),
            bytes_written: Counter::default(),
            syncs: Counter::default(),
            audit_records: Counter::default(),
            audit_lost: Counter::default(),
        })
    }

    /// A tool by the name that the model called: MCP tools (`server__tool`) are one, since their names are foreign.
    pub fn tool(&self, name: &str) {
        self.tools.one(if name.contains("__") { "mcp" } else { name });
    }

    /// What is counted of this model.
    pub fn model(&self, model: &str) -> Arc<ModelCounts> {
        let find = |all: &[Arc<ModelCounts>], name: &str| all.iter().find(|known| known.model == name).cloned();
        if let Some(found) = find(&self.models.read().unwrap_or_else(|e| e.into_inner()), model) {
            return found;
        }
        let mut all = self.models.write().unwrap_or_else(|e| e.into_inner());
        let model = if all.len() < MODELS_MAX { model } else { "other" };
        if let Some(found) = find(&all, model) {
            return found;
        }
        let made = Arc::new(ModelCounts {
            model: model.to_owned(),
            calls: ByWord::new(CALL_OUTCOMES),
            tokens_in: Counter::default(),
            tokens_out: Counter::default(),
            first_piece: Histogram::default(),
        });
        all.push(made.clone());
        made
    }

    /// Every model that was called.
    pub fn models(&self) -> Vec<Arc<ModelCounts>> {
        self.models.read().unwrap_or_else(|e| e.into_inner()).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_its_bucket() {
        let histogram = Histogram::default();
        for micros in [1, 250, 251, 400_000_000] {
            histogram.took(Duration::from_micros(micros));
        }
        let buckets = histogram.buckets();
        assert_eq!((buckets[0], buckets[1], buckets[14], histogram.sum_micros()), (2, 1, 1, 400_000_502));
    }

    #[test]
    fn foreign_names_are_no_labels() {
        let metrics = Metrics::new(0);
        metrics.tool("write_file");
        metrics.tool("server__tool");
        metrics.tool("made up");
        let counted: Vec<_> = metrics.tools.all().filter(|(_, n)| *n > 0).collect();
        assert_eq!(counted, [("write_file", 1), ("mcp", 1), ("other", 1)]);
        for n in 0..100 {
            metrics.model(&format!("openai/{n}")).calls.one("done");
        }
        assert!(metrics.models().len() <= MODELS_MAX + 1);
    }
}
