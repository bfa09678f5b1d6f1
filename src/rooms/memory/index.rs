//! The ranking of memories: BM25 (Robertson and Zaragoza, 2009) over the words of `wire::words`, in memory, one index an owner.
//!
//! Only words and numbers are kept, never the texts: what is found is read from its file.

use std::collections::HashMap;

use crate::base::digest::sha256;
use crate::base::ids::MemoryId;
use crate::base::log;
use crate::base::time::Timestamp;
use crate::rooms::memory::entry::{Category, Entry};
use crate::wire::words;

/// How quickly a word's repetition stops counting.
const K1: f64 = 1.2;
/// How much a long text is weighed down.
const B: f64 = 0.75;

/// Different words of one memory by which it is found; the rest of a longer text counts for its length only.
const WORDS_A_TEXT: usize = 1024;
/// Different words of one owner's memories, about 150 bytes each with what hangs on them; further ones are not found.
const WORDS_MAX: usize = 65_536;
/// Words of all texts together, 8 bytes each: ten thousand memories of two hundred different words.
const POSTINGS_MAX: usize = 2_000_000;
/// So many words of texts that are gone are not worth a sweep.
const DEAD_KEPT: usize = 4096;

/// One owner's memories as words.
#[derive(Default)]
pub(super) struct Index {
    docs: Vec<Doc>,
    by_id: HashMap<MemoryId, usize>,
    /// For each word, the texts that hold it (their place in `docs`) and how often.
    words: HashMap<Box<str>, Vec<(u32, u16)>>,
    /// Words of all live texts.
    length: u64,
    /// Entries of all lists in `words`, and how many of them are of texts that are gone.
    postings: usize,
    dead: usize,
    /// That there is no room for more words was said.
    said_full: bool,
}

/// What is kept of one memory.
#[derive(Clone)]
pub(super) struct Doc {
    /// Its id.
    pub(super) id: MemoryId,
    /// Its category, part of its file's name.
    pub(super) category: Category,
    /// 0 to 1; a memory of 1 counts half again as much as one of 0.5.
    pub(super) importance: f32,
    /// It stands before every run.
    pub(super) pinned: bool,
    /// When it was made.
    pub(super) created_at: Timestamp,
    /// When it was last changed.
    pub(super) changed_at: Timestamp,
    /// SHA-256 of its content.
    pub(super) digest: [u8; 32],
    length: u32,
    /// Its entries in the lists of words.
    held: u32,
    live: bool,
}

/// A memory that a search found.
pub(super) struct Found {
    /// What is kept of it.
    pub(super) doc: Doc,
    /// BM25, weighed by importance.
    pub(super) score: f64,
    /// BM25 against the most that any text could have, 0 to 1.
    pub(super) share: f64,
}

impl Index {
    /// Takes a memory in; one of the same id is replaced.
    pub(super) fn add(&mut self, entry: &Entry) {
        let id = entry.id;
        self.remove(id);
        let Ok(place) = u32::try_from(self.docs.len()) else { return };
        let mut counts: HashMap<Box<str>, u16> = HashMap::new();
        let mut length = 0_u32;
        let mut count = |word: &str| {
            length = length.saturating_add(1);
            if let Some(n) = counts.get_mut(word) {
                *n = n.saturating_add(1);
            } else if counts.len() < WORDS_A_TEXT {
                counts.insert(word.into(), 1);
            }
        };
        // Tags first: where a text has too many words, it is found by these.
        entry.tags.iter().for_each(|tag| words::each(tag, &mut count));
        words::each(&entry.content, &mut count);
        let mut held = 0;
        for (word, count) in counts {
            if self.postings >= POSTINGS_MAX || (self.words.len() >= WORDS_MAX && !self.words.contains_key(&word)) {
                if !std::mem::replace(&mut self.said_full, true) {
                    log::warn(
                        "memory",
                        format_args!("the memories of an owner have too many different words: some are not found by all of theirs"),
                    );
                }
                continue;
            }
            self.words.entry(word).or_default().push((place, count));
            self.postings += 1;
            held += 1;
        }
        self.length += u64::from(length);
        self.by_id.insert(id, self.docs.len());
        let Entry { category, importance, pinned, created_at, .. } = *entry;
        self.docs.push(Doc {
            id,
            category,
            importance,
            pinned,
            created_at,
            changed_at: entry.changed_at(),
            digest: sha256(entry.content.as_bytes()),
            length,
            held,
            live: true,
        });
    }

    /// Lets a memory go. Its words go when half of all texts, or of all words, are gone.
    pub(super) fn remove(&mut self, id: MemoryId) {
        let Some(doc) = self.by_id.remove(&id).and_then(|place| self.docs.get_mut(place)) else { return };
        doc.live = false;
        self.length -= u64::from(doc.length);
        self.dead += doc.held as usize;
        let half_are_gone = self.docs.len() > 64 && self.docs.len() > self.by_id.len() * 2;
        if half_are_gone || (self.dead > DEAD_KEPT && self.dead > self.postings / 2) {
            self.sweep();
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// What is kept of one.
    pub(super) fn doc(&self, id: MemoryId) -> Option<&Doc> {
        self.by_id.get(&id).and_then(|place| self.docs.get(*place))
    }

    /// All, in the order in which they came.
    pub(super) fn docs(&self) -> impl Iterator<Item = &Doc> {
        self.docs.iter().filter(|doc| doc.live)
    }

    /// The best, best first; the newer of two equal ones first.
    pub(super) fn search(&self, query: &[String], category: Option<Category>, limit: usize) -> Vec<Found> {
        let many = self.len() as f64;
        let average = (self.length as f64 / many.max(1.0)).max(1.0);
        let mut scores: HashMap<u32, f64> = HashMap::new();
        let mut most = 0.0;
        for word in query {
            let postings = self.words.get(word.as_str()).map(Vec::as_slice).unwrap_or_default();
            let held = postings.len() as f64;
            let weight = (1.0 + (many - held + 0.5).max(0.0) / (held + 0.5)).ln();
            most += weight * (K1 + 1.0);
            for (place, count) in postings {
                let Some(doc) = self.docs.get(*place as usize).filter(|doc| doc.live) else { continue };
                let (count, length) = (f64::from(*count), f64::from(doc.length));
                *scores.entry(*place).or_default() += weight * count * (K1 + 1.0) / (count + K1 * (1.0 - B + B * length / average));
            }
        }
        let weighed = |(place, score): (u32, f64)| {
            let doc = self.docs.get(place as usize)?.clone();
            Some(Found { score: score * (0.5 + f64::from(doc.importance)), share: (score / most).clamp(0.0, 1.0), doc })
        };
        let mut found: Vec<Found> =
            scores.into_iter().filter_map(weighed).filter(|found| category.is_none_or(|c| c == found.doc.category)).collect();
        found.sort_by(|a, b| b.score.total_cmp(&a.score).then(b.doc.created_at.cmp(&a.doc.created_at)).then(a.doc.id.cmp(&b.doc.id)));
        found.truncate(limit);
        found
    }

    fn sweep(&mut self) {
        let mut moved = vec![u32::MAX; self.docs.len()];
        let mut next = 0;
        for (doc, to) in self.docs.iter().zip(&mut moved) {
            if doc.live {
                *to = next;
                next += 1;
            }
        }
        self.words.retain(|_, postings| {
            postings.retain_mut(|(place, _)| {
                *place = moved.get(*place as usize).copied().unwrap_or(u32::MAX);
                *place != u32::MAX
            });
            !postings.is_empty()
        });
        self.words.shrink_to_fit();
        (self.postings, self.dead) = (self.words.values().map(Vec::len).sum(), 0);
        self.docs.retain(|doc| doc.live);
        self.by_id = self.docs.iter().enumerate().map(|(place, doc)| (doc.id, place)).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> MemoryId {
        MemoryId::derived(&[n; 32])
    }

    fn entry(n: u8, category: Category, importance: f32, text: &str) -> Entry {
        let owner = crate::base::ids::OwnerId::derived(&[0; 32]);
        let created_at = Timestamp::from_millis(n.into());
        Entry { id: id(n), owner, category, content: text.into(), tags: vec![], importance, pinned: false, created_at, updated_at: None }
    }

    fn index(texts: &[&str]) -> Index {
        let mut index = Index::default();
        for (n, text) in texts.iter().enumerate() {
            index.add(&entry(n as u8, Category::Facts, 0.5, text));
        }
        index
    }

    fn found(index: &Index, query: &str) -> Vec<MemoryId> {
        index.search(&words::query(query, 32), None, 10).into_iter().map(|found| found.doc.id).collect()
    }

    #[test]
    fn rare_words_and_short_texts_rank_first() {
        let index = index(&[
            "the router is in the kitchen",
            "the router password is on the card, the router is old, and here are many more words about nothing at all",
            "the cat is in the kitchen",
        ]);
        assert_eq!(found(&index, "where is the router?"), [id(0), id(1)]);
        assert_eq!(found(&index, "router password"), [id(1), id(0)]);
        assert_eq!(found(&index, "KITCHEN cat"), [id(2), id(0)]);
        assert!(found(&index, "zebra").is_empty());
        assert!(found(&index, "").is_empty());
    }

    #[test]
    fn cjk_is_found_by_characters_and_pairs() {
        let index = index(&["私は東京に住んでいます", "京都の東にある", "我喜欢喝茶", "서울에 산다"]);
        assert_eq!(found(&index, "東京")[0], id(0));
        assert_eq!(found(&index, "喝茶"), [id(2)]);
        assert_eq!(found(&index, "서울"), [id(3)]);
    }

    #[test]
    fn what_is_removed_or_replaced_is_not_found() {
        let mut index = index(&["alpha", "beta"]);
        index.remove(id(0));
        assert!(found(&index, "alpha").is_empty());
        index.add(&entry(1, Category::Knowledge, 0.5, "gamma"));
        assert!(found(&index, "beta").is_empty());
        assert_eq!(found(&index, "gamma"), [id(1)]);
        for n in 0..200 {
            index.add(&entry(n, Category::Facts, 0.5, "delta"));
        }
        for n in 0..199 {
            index.remove(id(n));
        }
        assert_eq!(found(&index, "delta"), [id(199)]);
        assert!(index.docs.len() <= 64, "{}", index.docs.len());
        assert_eq!((index.len(), index.length), (1, 1));
    }

    #[test]
    fn importance_and_category_count() {
        let mut index = Index::default();
        index.add(&entry(1, Category::Facts, 0.2, "tea"));
        index.add(&entry(2, Category::Episodes, 0.9, "tea"));
        assert_eq!(found(&index, "tea"), [id(2), id(1)]);
        assert_eq!(index.search(&["tea".into()], Some(Category::Facts), 9).len(), 1);
    }

    /// `n` words that no other text has.
    fn own_words(text: usize, n: usize) -> String {
        (0..n).map(|word| format!("w{text}x{word} ")).collect()
    }

    #[test]
    fn a_memory_that_is_changed_again_and_again_takes_the_place_of_one() {
        let mut index = Index::default();
        for n in 0..200 {
            index.add(&entry(1, Category::Facts, 0.5, &own_words(n, 1000)));
        }
        assert!(index.words.len() <= 2 * 1000 + DEAD_KEPT, "{} words", index.words.len());
        assert_eq!(found(&index, "w199x7"), [id(1)]);
        assert!(found(&index, "w198x7").is_empty());
    }

    #[test]
    fn texts_of_nothing_but_new_words_have_a_bound() {
        let mut index = Index::default();
        for n in 0..100 {
            let tagged = Entry { tags: vec![format!("tag{n}")], ..entry(n as u8, Category::Facts, 0.5, &own_words(n, 3000)) };
            index.add(&tagged);
        }
        assert!(index.words.len() <= WORDS_MAX && index.postings <= 100 * WORDS_A_TEXT);
        assert_eq!(found(&index, "tag0"), [id(0)]);
        assert_eq!(found(&index, "w5x10"), [id(5)]);
        for n in 0..100 {
            index.remove(id(n));
        }
        index.add(&entry(1, Category::Facts, 0.5, "room again"));
        assert_eq!(found(&index, "room"), [id(1)]);
        assert!(index.words.len() <= DEAD_KEPT + 2);
    }
}
