//! Finding by meaning: BM25 and, where an embedding model is set, the cosine of vectors, fused by reciprocal rank (Cormack,
//! Clarke, Büttcher, 2009). Where the model cannot be reached, BM25 ranks alone, and the answer says so.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{MemoryId, OwnerId};
use crate::base::limits::{EMBEDDED_BYTES_MAX, EMBEDDINGS_AT_ONCE, HITS_MAX, QUERY_WORDS_MAX};
use crate::base::log;
use crate::base::text::beginning;
use crate::llm::embeddings::Embedder;
use crate::llm::error::{Kind, LlmError};
use crate::rooms::memory::index::{Doc, Found};
use crate::rooms::memory::vectors::Digest;
use crate::rooms::memory::{Category, Hit, Memory, MemoryError, blocking};
use crate::wire::words;

/// How little the first place is worth more than the next ones.
const RANK_OFFSET: f64 = 60.0;
/// How long a search waits for vectors; it stands before the first token of every run.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a model that failed is left alone.
const REST: Duration = Duration::from_secs(30);

/// How near a memory must be that no word found, to stand before a model: half as near as the nearest one. Every two texts have some
/// cosine above 0, and how much depends on the embedding model; the nearest one is the only measure that all of them share.
const NEAR_PART: f64 = 0.5;
/// And this near at least: where nothing fits, the nearest one does not either. Models put unrelated texts at 0 to 0.2 or, some,
/// all of them far above it, where the part alone has to do.
const NEAR_LEAST: f64 = 0.2;

/// What becomes of memories that no word found and whose meaning is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Far {
    /// They are the last ones: a person who searches sees how near they are.
    Last,
    /// They are left out: a model takes what it is told for what matters.
    Out,
}

/// What a search found, and what ranked it.
#[derive(Debug)]
pub struct Ranked {
    /// Best first.
    pub hits: Vec<Hit>,
    /// `bm25`, or `bm25+embeddings:<model>`.
    pub engine: String,
    /// An embedding model is set and could not be used.
    pub unavailable: bool,
}

/// What stands before a model is asked.
struct Ground {
    /// By words.
    found: Vec<Found>,
    /// Everything that may be near.
    docs: Vec<Doc>,
    /// Texts to get vectors of, with their text.
    missing: Vec<(MemoryId, Digest, String)>,
}

/// What the vectors say.
struct Near {
    /// The cosine of each text that has a vector.
    similar: HashMap<MemoryId, f64>,
    /// The nearest first; at most [`HITS_MAX`].
    ranked: Vec<MemoryId>,
}

impl Memory {
    /// The memories that fit a query best, by words and, where an embedding model is set, by meaning. New texts get their vectors
    /// here, at most [`EMBEDDINGS_AT_ONCE`] of them in one search; those that have none yet are ranked by their words alone.
    pub async fn semantic(
        self: &Arc<Self>,
        owner: OwnerId,
        query: &str,
        category: Option<Category>,
        limit: usize,
    ) -> Result<Ranked, MemoryError> {
        self.ranked(owner, query, category, limit, Far::Last).await
    }

    /// [`Self::semantic`], and what becomes of memories that are far from the query.
    pub(super) async fn ranked(
        self: &Arc<Self>,
        owner: OwnerId,
        query: &str,
        category: Option<Category>,
        limit: usize,
        far: Far,
    ) -> Result<Ranked, MemoryError> {
        let Some(settings) = self.settings().embedding.clone() else { return self.by_words(owner, query, category, limit, false).await };
        if self.resting() {
            return self.by_words(owner, query, category, limit, true).await;
        }
        // Cheap, and so a changed setting needs no more than to be read.
        let embedder = match Embedder::new(settings, self.client.clone()) {
            Ok(embedder) => embedder,
            Err(e) => {
                self.rest(e.private);
                return self.by_words(owner, query, category, limit, true).await;
            }
        };
        let model = embedder.identity();
        let ground = {
            let (memory, query, model) = (self.clone(), query.to_owned(), model.clone());
            blocking(move || memory.ground(owner, &query, category, &model)).await?
        };
        let asked = [beginning(query, EMBEDDED_BYTES_MAX)];
        let texts: Vec<&str> = ground.missing.iter().map(|(_, _, text)| text.as_str()).collect();
        let both = async { tokio::join!(embedder.embed(&asked), filled(&embedder, &texts)) };
        let (asked, new) = match tokio::time::timeout(PATIENCE, both).await {
            Ok(both) => both,
            Err(_) => (Err(LlmError::new(Kind::Stalled, "the embedding model took too long", "time limit")), Ok(Vec::new())),
        };
        let asked = match asked.map(|mut vectors| vectors.pop()) {
            Ok(Some(vector)) => vector,
            failed => {
                self.rest(failed.err().map_or_else(String::new, |e| e.private));
                return self.by_words(owner, query, category, limit, true).await;
            }
        };
        let engine = format!("bm25+embeddings:{}", embedder.name().trim_start_matches("openai/"));
        let memory = self.clone();
        let hits = blocking(move || {
            memory.learn(&model, ground.missing, new)?;
            let near = memory.near(&model, &asked, &ground.found, &ground.docs, far);
            memory.fuse(owner, &ground.found, &ground.docs, &near, limit)
        });
        Ok(Ranked { hits: hits.await?, engine, unavailable: false })
    }

    async fn by_words(
        self: &Arc<Self>,
        owner: OwnerId,
        query: &str,
        category: Option<Category>,
        limit: usize,
        unavailable: bool,
    ) -> Result<Ranked, MemoryError> {
        let (memory, query) = (self.clone(), query.to_owned());
        let hits = blocking(move || memory.search(owner, &query, category, limit)).await?;
        Ok(Ranked { hits, engine: "bm25".to_owned(), unavailable })
    }

    fn ground(&self, owner: OwnerId, query: &str, category: Option<Category>, model: &str) -> Result<Ground, MemoryError> {
        let words = words::query(query, QUERY_WORDS_MAX);
        let (found, mut docs) = {
            let mut known = self.known()?;
            let index = known.of(owner);
            let docs: Vec<Doc> = index.docs().filter(|doc| category.is_none_or(|c| c == doc.category)).cloned().collect();
            (index.search(&words, category, HITS_MAX), docs)
        };
        // What words found gets its vector first, then what is new.
        let by_words: HashSet<MemoryId> = found.iter().map(|found| found.doc.id).collect();
        docs.sort_by_key(|doc| (!by_words.contains(&doc.id), std::cmp::Reverse(doc.changed_at), doc.id));
        let places: HashMap<MemoryId, Category> = docs.iter().map(|doc| (doc.id, doc.category)).collect();
        let at_once = self.at_once.load(std::sync::atomic::Ordering::Relaxed).clamp(1, EMBEDDINGS_AT_ONCE);
        let missing = self.vectors.missing(model, docs.iter().map(|doc| (doc.id, doc.digest))).into_iter().take(at_once);
        let text = |(id, digest): (MemoryId, Digest)| {
            let entry = self.read(owner, *places.get(&id)?, id).ok()?;
            Some((id, digest, beginning(&entry.content, EMBEDDED_BYTES_MAX).to_owned()))
        };
        Ok(Ground { found, missing: missing.filter_map(text).collect(), docs })
    }

    /// Keeps new vectors. Where the model took none, fewer are sent next time, and one that is not taken alone never again.
    fn learn(&self, model: &str, texts: Vec<(MemoryId, Digest, String)>, new: Result<Vec<Vec<f32>>, LlmError>) -> Result<(), MemoryError> {
        let at_once = match (new, texts.as_slice()) {
            (_, []) => return Ok(()),
            (Ok(vectors), _) => {
                let new = texts.into_iter().zip(vectors).map(|((id, digest, _), vector)| (id, digest, vector)).collect();
                // Held, so that nothing is deleted between this look and what is kept by it.
                let known = self.known()?;
                let alive = known.indexes.values().flat_map(|index| index.docs()).map(|doc| (doc.id, doc.digest)).collect();
                self.vectors.keep(model, new, &alive);
                EMBEDDINGS_AT_ONCE
            }
            (Err(e), [(id, digest, _)]) => {
                if !e.is_passing() {
                    self.vectors.refuse(model, *id, digest);
                }
                1
            }
            (Err(_), several) => several.len() / 2,
        };
        self.at_once.store(at_once, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }

    fn near(&self, model: &str, asked: &[f32], found: &[Found], docs: &[Doc], far: Far) -> Near {
        let similarities = self.vectors.similarities(model, asked, docs.iter().map(|doc| (doc.id, doc.digest)));
        let similar: HashMap<MemoryId, f64> = docs.iter().zip(&similarities).filter_map(|(doc, s)| Some((doc.id, (*s)?))).collect();
        let best = similar.values().copied().fold(0.0, f64::max);
        let least = if far == Far::Out { NEAR_LEAST.max(best * NEAR_PART) } else { 0.0 };
        let by_words: HashSet<MemoryId> = found.iter().map(|found| found.doc.id).collect();
        let counts = |(id, s): &(MemoryId, f64)| *s > 0.0 && (*s >= least || by_words.contains(id));
        let mut near: Vec<(MemoryId, f64)> = similar.iter().map(|(id, s)| (*id, *s)).filter(counts).collect();
        near.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        near.truncate(HITS_MAX);
        Near { ranked: near.into_iter().map(|(id, _)| id).collect(), similar }
    }

    fn fuse(&self, owner: OwnerId, found: &[Found], docs: &[Doc], near: &Near, limit: usize) -> Result<Vec<Hit>, MemoryError> {
        let mut scores: HashMap<MemoryId, f64> = HashMap::new();
        let by_words: Vec<MemoryId> = found.iter().map(|found| found.doc.id).collect();
        for ranked in [&by_words, &near.ranked] {
            for (rank, id) in ranked.iter().enumerate() {
                *scores.entry(*id).or_default() += 1.0 / (RANK_OFFSET + 1.0 + rank as f64);
            }
        }
        let mut ranked: Vec<(&Doc, f64)> = docs.iter().filter_map(|doc| Some((doc, *scores.get(&doc.id)?))).collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(b.0.created_at.cmp(&a.0.created_at)).then(a.0.id.cmp(&b.0.id)));
        ranked.truncate(limit.min(HITS_MAX));
        let hit = |(doc, score): (&Doc, f64)| {
            let entry = self.read(owner, doc.category, doc.id).ok()?;
            Some(Hit { entry, score, similarity: near.similar.get(&doc.id).copied() })
        };
        Ok(ranked.into_iter().filter_map(hit).collect())
    }

    fn resting(&self) -> bool {
        self.files.seams.clock.monotonic() < *self.rests_until.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn rest(&self, why: String) {
        *self.rests_until.lock().unwrap_or_else(|e| e.into_inner()) = self.files.seams.clock.monotonic() + REST;
        log::warn("memory", format_args!("the embedding model does not answer, words alone rank for {} s: {why}", REST.as_secs()));
    }
}

async fn filled(embedder: &Embedder, texts: &[&str]) -> Result<Vec<Vec<f32>>, LlmError> {
    if texts.is_empty() { Ok(Vec::new()) } else { embedder.embed(texts).await }
}
