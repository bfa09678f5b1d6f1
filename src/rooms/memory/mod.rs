//! Memory: what the agent keeps beyond a conversation. One file an entry, `<workspace>/memory/<category>/<id>.json`; a ranked
//! index in memory, made from the files at first use or by [`Memory::warm`] in the background, and kept up with each write.
//! An entry belongs to an owner and is found by that owner alone. Everything here blocks.

mod index;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use serde::{Deserialize, Serialize};

use crate::base::ids::{MemoryId, OwnerId};
use crate::base::limits::{
    HITS_MAX, MEMORY_BYTES_MAX, MEMORY_ENTRIES_MAX, MEMORY_FILE_BYTES_MAX, QUERY_WORDS_MAX, TAG_BYTES_MAX, TAGS_MAX,
};
use crate::base::log;
use crate::base::time::Timestamp;
use crate::store::atomic::{self, Durable};
use crate::store::home::Seams;
use crate::sys::disk::read_whole;
use crate::wire::words;
use index::Index;

/// What can be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The memory tools are offered, and what fits is recalled before an answer.
    pub enabled: bool,
    /// Most entries of one recall.
    pub max_recall: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { enabled: true, max_recall: 10 }
    }
}

/// What kind of memory: the directory it lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// Something that is so.
    Facts,
    /// Something that happened.
    Episodes,
    /// Something learnt.
    Knowledge,
}

impl Category {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Facts, Self::Episodes, Self::Knowledge];

    /// From a `memory_type`: `fact`, `episode`, `knowledge`.
    pub fn from_type(memory_type: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.memory_type() == memory_type)
    }
    /// The word in `memory_type`.
    pub fn memory_type(self) -> &'static str {
        match self {
            Self::Facts => "fact",
            Self::Episodes => "episode",
            Self::Knowledge => "knowledge",
        }
    }
    /// The word in `category`, and the directory.
    pub fn name(self) -> &'static str {
        match self {
            Self::Facts => "facts",
            Self::Episodes => "episodes",
            Self::Knowledge => "knowledge",
        }
    }
}

/// One memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its id.
    pub id: MemoryId,
    /// Whose it is.
    pub owner: OwnerId,
    /// What kind.
    pub category: Category,
    /// The text.
    pub content: String,
    /// Words it is filed under.
    pub tags: Vec<String>,
    /// 0 to 1.
    pub importance: f32,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A memory to be kept.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEntry {
    /// What kind.
    pub category: Category,
    /// The text, at most [`MEMORY_BYTES_MAX`].
    pub content: String,
    /// At most [`TAGS_MAX`] of [`TAG_BYTES_MAX`].
    pub tags: Vec<String>,
    /// 0 to 1.
    pub importance: f32,
}

/// A memory that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// The memory.
    pub entry: Entry,
    /// How well it fits; only comparable within one search.
    pub score: f64,
}

/// Numbers for status pages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries that a search looks through.
    pub index_size: usize,
    /// Entries in all; the same once the index is made.
    pub total_entries: usize,
}

/// Why it was not kept or found.
#[derive(Debug)]
pub enum MemoryError {
    /// There is none of this id, or it is another owner's.
    NotFound,
    /// A field is out of its limits; the text says which.
    Unfit(String),
    /// The content is larger than [`MEMORY_BYTES_MAX`].
    TooLarge {
        /// Its bytes.
        size: usize,
    },
    /// This owner has [`MEMORY_ENTRIES_MAX`] entries.
    Full,
    /// The disk refused; private.
    Io(io::Error),
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("no such memory"),
            Self::Unfit(what) => f.write_str(what),
            Self::TooLarge { size } => write!(f, "{size} bytes are more than a memory may have ({MEMORY_BYTES_MAX})"),
            Self::Full => write!(f, "there are {MEMORY_ENTRIES_MAX} memories; delete some first"),
            Self::Io(e) => write!(f, "memory: {e}"),
        }
    }
}

impl std::error::Error for MemoryError {}

impl From<io::Error> for MemoryError {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// All memories of this home.
pub struct Memory {
    dir: PathBuf,
    seams: Seams,
    settings: Settings,
    /// The index of every owner; `None` until it was made. Held while it is made, searched, or an entry is written, so that
    /// files and index change together; never while a found text is read.
    indexes: Mutex<Option<HashMap<OwnerId, Index>>>,
    /// The last known numbers, for status pages that must not wait for the lock above.
    counts: Mutex<Counts>,
}

impl Memory {
    /// The memories in this directory; nothing is read yet.
    pub fn open(dir: PathBuf, seams: Seams, settings: Settings) -> Self {
        Self { dir, seams, settings, indexes: Mutex::new(None), counts: Mutex::new(Counts::default()) }
    }

    /// What was set.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Makes the index now, if there is none. For a background thread at start.
    pub fn warm(&self) {
        if let Err(e) = self.indexes().map(drop) {
            log::warn("memory", format_args!("the index could not be made: {e}"));
        }
    }

    /// Keeps a memory; durable when this returns.
    pub fn add(&self, owner: OwnerId, new: NewEntry) -> Result<Entry, MemoryError> {
        check(&new)?;
        let mut indexes = self.indexes()?;
        let index = indexes.of(owner);
        if index.len() >= MEMORY_ENTRIES_MAX {
            return Err(MemoryError::Full);
        }
        let NewEntry { category, content, tags, importance } = new;
        let entry = Entry {
            id: MemoryId::random(&*self.seams.random),
            owner,
            category,
            content,
            tags,
            importance,
            created_at: self.seams.clock.now(),
        };
        self.seams.disk.create_dir_all(&self.dir.join(category.name()))?;
        let bytes = serde_json::to_vec(&entry).map_err(io::Error::from)?;
        atomic::replace(&*self.seams.disk, &self.file(category, entry.id), &bytes, Durable::Yes)?;
        index_entry(index, &entry);
        self.note_counts(&indexes);
        Ok(entry)
    }

    /// The memories that fit a query best, best first; at most `limit`, and [`HITS_MAX`].
    pub fn search(&self, owner: OwnerId, query: &str, category: Option<Category>, limit: usize) -> Result<Vec<Hit>, MemoryError> {
        let words = words::query(query, QUERY_WORDS_MAX);
        let found = self.indexes()?.of(owner).search(&words, category, limit.clamp(1, HITS_MAX));
        // A file that was removed or spoilt by hand is no longer a memory.
        Ok(found.into_iter().filter_map(|(doc, score)| Some(Hit { entry: self.read(owner, doc.category, doc.id).ok()?, score })).collect())
    }

    /// What fits a query best, best first, by everything that ranks here: the one call for a run's beginning and its tools.
    /// Does not block.
    pub async fn recall(self: &Arc<Self>, owner: OwnerId, query: &str, limit: usize) -> Result<Vec<Hit>, MemoryError> {
        let (memory, query) = (self.clone(), query.to_owned());
        match tokio::task::spawn_blocking(move || memory.search(owner, &query, None, limit)).await {
            Ok(found) => found,
            Err(e) => Err(MemoryError::Io(io::Error::other(e))),
        }
    }

    /// One memory of this owner.
    pub fn find(&self, owner: OwnerId, id: MemoryId) -> Result<Entry, MemoryError> {
        let category = self.indexes()?.of(owner).doc(id).ok_or(MemoryError::NotFound)?.category;
        self.read(owner, category, id)
    }

    /// This owner's memories, oldest first, by id and category.
    pub fn list(&self, owner: OwnerId) -> Result<Vec<(MemoryId, Category)>, MemoryError> {
        Ok(self.indexes()?.of(owner).docs().map(|doc| (doc.id, doc.category)).collect())
    }

    /// Lets a memory go.
    pub fn remove(&self, owner: OwnerId, id: MemoryId) -> Result<(), MemoryError> {
        let mut indexes = self.indexes()?;
        let index = indexes.of(owner);
        let category = index.doc(id).ok_or(MemoryError::NotFound)?.category;
        match self.seams.disk.remove_file(&self.file(category, id)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e.into()),
            _ => {}
        }
        index.remove(id);
        self.note_counts(&indexes);
        Ok(())
    }

    /// Numbers, at once, whatever else goes on.
    pub fn counts(&self) -> Counts {
        *self.counts.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn indexes(&self) -> Result<Guard<'_>, MemoryError> {
        let mut guard = self.indexes.lock().unwrap_or_else(|e| e.into_inner());
        if guard.is_none() {
            *guard = Some(self.read_all()?);
            let guard = Guard(guard);
            self.note_counts(&guard);
            return Ok(guard);
        }
        Ok(Guard(guard))
    }

    fn read_all(&self) -> Result<HashMap<OwnerId, Index>, MemoryError> {
        let mut indexes: HashMap<OwnerId, Index> = HashMap::new();
        for category in Category::ALL {
            let items = match self.seams.disk.list(&self.dir.join(category.name())) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            for item in items {
                let Some(id) = item.name.strip_suffix(".json").and_then(|stem| MemoryId::parse(stem).ok()) else { continue };
                match self.read_file(category, id) {
                    Ok(entry) if entry.id == id && entry.category == category => {
                        index_entry(indexes.entry(entry.owner).or_default(), &entry)
                    }
                    // One damaged file must not hide the others.
                    _ => log::warn("memory", format_args!("{}/{} cannot be read; it is left as it is", category.name(), item.name)),
                }
            }
        }
        Ok(indexes)
    }

    fn note_counts(&self, indexes: &Guard<'_>) {
        let entries = indexes.0.iter().flat_map(HashMap::values).map(Index::len).sum();
        *self.counts.lock().unwrap_or_else(|e| e.into_inner()) = Counts { index_size: entries, total_entries: entries };
    }

    fn read(&self, owner: OwnerId, category: Category, id: MemoryId) -> Result<Entry, MemoryError> {
        match self.read_file(category, id) {
            Ok(entry) if entry.owner == owner => Ok(entry),
            Ok(_) => Err(MemoryError::NotFound),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(MemoryError::NotFound),
            Err(e) => Err(e.into()),
        }
    }

    fn read_file(&self, category: Category, id: MemoryId) -> io::Result<Entry> {
        let bytes = read_whole(&*self.seams.disk, &self.file(category, id), MEMORY_FILE_BYTES_MAX)?;
        Ok(serde_json::from_slice(&bytes)?)
    }

    fn file(&self, category: Category, id: MemoryId) -> PathBuf {
        self.dir.join(category.name()).join(format!("{id}.json"))
    }
}

/// The made indexes, held.
struct Guard<'a>(MutexGuard<'a, Option<HashMap<OwnerId, Index>>>);

impl Guard<'_> {
    fn of(&mut self, owner: OwnerId) -> &mut Index {
        self.0.get_or_insert_default().entry(owner).or_default()
    }
}

fn index_entry(index: &mut Index, entry: &Entry) {
    let mut text = entry.content.clone();
    for tag in &entry.tags {
        text.push(' ');
        text.push_str(tag);
    }
    index.add(entry.id, entry.category, entry.importance, entry.created_at, &text);
}

fn check(new: &NewEntry) -> Result<(), MemoryError> {
    if new.content.len() > MEMORY_BYTES_MAX {
        return Err(MemoryError::TooLarge { size: new.content.len() });
    }
    let unfit = |what: String| Err(MemoryError::Unfit(what));
    if new.content.trim().is_empty() {
        return unfit("`content` is empty".into());
    }
    if !(0.0..=1.0).contains(&new.importance) {
        return unfit("`importance` must be between 0 and 1".into());
    }
    if new.tags.len() > TAGS_MAX || new.tags.iter().any(|tag| tag.is_empty() || tag.len() > TAG_BYTES_MAX) {
        return unfit(format!("`tags` may hold {TAGS_MAX} words of at most {TAG_BYTES_MAX} bytes"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::test_seams;

    fn fact(content: &str) -> NewEntry {
        NewEntry { category: Category::Facts, content: content.into(), tags: vec!["home".into()], importance: 0.5 }
    }

    #[test]
    fn kept_found_by_its_owner_and_found_again_after_a_restart() {
        let (dir, seams) = test_seams("memory");
        let (owner, other) = (OwnerId::derived(&[1; 32]), OwnerId::derived(&[2; 32]));
        let memory = Memory::open(dir.clone(), seams.clone(), Settings::default());
        let kept = memory.add(owner, fact("the router has the address 10.0.0.1")).unwrap();
        memory.add(other, fact("the router of someone else")).unwrap();
        std::fs::write(dir.join("facts").join(format!("{}.json", MemoryId::derived(&[7; 32]))), "{").unwrap();
        for memory in [memory, Memory::open(dir.clone(), seams.clone(), Settings::default())] {
            let hits = memory.search(owner, "router", None, 10).unwrap();
            assert_eq!(hits.len(), 1);
            assert_eq!(hits[0].entry, kept);
            assert_eq!(memory.search(owner, "home", None, 10).unwrap().len(), 1, "by its tag");
            assert_eq!(memory.find(owner, kept.id).unwrap(), kept);
            assert!(matches!(memory.find(other, kept.id), Err(MemoryError::NotFound)));
            assert_eq!(memory.list(owner).unwrap(), [(kept.id, Category::Facts)]);
            assert_eq!(memory.counts().total_entries, 2);
        }
        let memory = Memory::open(dir, seams, Settings::default());
        assert!(matches!(memory.remove(other, kept.id), Err(MemoryError::NotFound)));
        memory.remove(owner, kept.id).unwrap();
        assert!(memory.search(owner, "router", None, 10).unwrap().is_empty());
    }

    #[test]
    fn fields_have_limits() {
        let (dir, seams) = test_seams("memory-limits");
        let memory = Memory::open(dir, seams, Settings::default());
        let owner = OwnerId::derived(&[1; 32]);
        assert!(matches!(memory.add(owner, fact(&"x".repeat(MEMORY_BYTES_MAX + 1))), Err(MemoryError::TooLarge { .. })));
        for bad in [
            fact(" \n"),
            NewEntry { importance: f32::NAN, ..fact("x") },
            NewEntry { importance: 1.1, ..fact("x") },
            NewEntry { tags: vec!["t".into(); TAGS_MAX + 1], ..fact("x") },
            NewEntry { tags: vec!["t".repeat(TAG_BYTES_MAX + 1)], ..fact("x") },
        ] {
            assert!(matches!(memory.add(owner, bad), Err(MemoryError::Unfit(_))));
        }
    }
}
