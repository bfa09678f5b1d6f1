//! Memory: what the agent keeps beyond a conversation. One file an entry, `<workspace>/memory/<category>/<id>.json`; a ranked
//! index in memory, made from the files at first use or by [`Memory::warm`] in the background, and kept up with each write.
//! An entry belongs to an owner and is found by that owner alone. What is not `async` here blocks.

mod entry;
mod files;
mod index;
mod semantic;
mod vectors;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::base::blocking;
use crate::base::ids::{MemoryId, OwnerId};
use crate::base::limits::{EMBEDDINGS_AT_ONCE, HITS_MAX, MEMORY_BYTES_MAX, MEMORY_ENTRIES_MAX, QUERY_WORDS_MAX};
use crate::base::live::Live;
use crate::base::log;
use crate::http::client::Client;
use crate::llm::embeddings;
use crate::store::home::Seams;
use crate::wire::words;
use entry::check;
use files::{Files, Stamp, Times};
use index::{Doc, Found, Index};
use semantic::Far;
use vectors::Vectors;

pub use entry::{Category, Change, Entry, NewEntry};
pub use semantic::Ranked;

/// What can be set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The memory tools are offered, and what fits is recalled before an answer.
    pub enabled: bool,
    /// Most entries of one recall.
    pub max_recall: usize,
    /// What makes vectors, where entries are ranked by meaning, too.
    pub embedding: Option<embeddings::Settings>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { enabled: true, max_recall: 10, embedding: None }
    }
}

/// A memory that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// The memory.
    pub entry: Entry,
    /// How well it fits; only comparable within one search.
    pub score: f64,
    /// Where an embedding model ranked: the cosine of query and content, -1 to 1; `None` for a content without a vector yet.
    /// Else how much of the query it holds, 0 to 1: its words' weight (BM25, without regard to importance) against the most
    /// that a text could have for this query.
    pub similarity: Option<f64>,
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
    files: Files,
    settings: Arc<Live<Settings>>,
    /// Asks the embedding model, where one is set.
    client: Client,
    vectors: Vectors,
    /// Until when (monotonic) an embedding model that failed is left alone. Held for a copy only.
    rests_until: Mutex<Duration>,
    /// Texts that are sent to it at once: fewer after it did not take some.
    at_once: AtomicUsize,
    /// What was read of the files. Held while they are read, searched, or one is written, so that files and index change
    /// together; never while a found text is read.
    known: Mutex<Known>,
    /// The last known numbers, for status pages that must not wait for the lock above.
    counts: Mutex<Counts>,
}

/// What is known of the files.
#[derive(Default)]
struct Known {
    /// The index of every owner.
    indexes: HashMap<OwnerId, Index>,
    /// Every file that was read, and whose it is; a file that could not be read is nobody's.
    read: HashMap<(Category, MemoryId), (Stamp, Option<OwnerId>)>,
    /// When the directories had last changed when they were read; `None` until then.
    times: Option<Times>,
}

impl Memory {
    /// The memories in this directory; nothing is read yet.
    pub fn open(dir: PathBuf, seams: Seams, settings: Arc<Live<Settings>>, client: Client) -> Self {
        Self {
            vectors: Vectors::open(dir.join("vectors"), seams.clone()),
            files: Files { dir, seams },
            settings,
            client,
            rests_until: Mutex::default(),
            at_once: AtomicUsize::new(EMBEDDINGS_AT_ONCE),
            known: Mutex::default(),
            counts: Mutex::default(),
        }
    }

    /// What is set now.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load()
    }

    /// Makes the index now, if there is none. For a background thread at start.
    pub fn warm(&self) {
        if let Err(e) = self.known().map(drop) {
            log::warn("memory", format_args!("the index could not be made: {e}"));
        }
    }

    /// Keeps a memory; durable when this returns.
    pub fn add(&self, owner: OwnerId, new: NewEntry) -> Result<Entry, MemoryError> {
        check(&new)?;
        let mut known = self.known()?;
        if known.of(owner).len() >= MEMORY_ENTRIES_MAX {
            return Err(MemoryError::Full);
        }
        let NewEntry { category, content, tags, importance, pinned } = new;
        let (id, created_at) = (MemoryId::random(&*self.files.seams.random), self.files.seams.clock.now());
        let entry = Entry { id, owner, category, content, tags, importance, pinned, created_at, updated_at: None };
        self.write(&mut known, &entry)?;
        Ok(entry)
    }

    /// Changes a memory; durable when this returns.
    pub fn change(&self, owner: OwnerId, id: MemoryId, change: Change) -> Result<Entry, MemoryError> {
        let mut known = self.known()?;
        let was = known.of(owner).doc(id).ok_or(MemoryError::NotFound)?.category;
        let old = self.of_file(owner, was, id)?;
        let new = old.changed(change);
        check(&new)?;
        let NewEntry { category, content, tags, importance, pinned } = new;
        let updated_at = Some(self.files.seams.clock.now());
        let entry = Entry { category, content, tags, importance, pinned, updated_at, ..old };
        self.write(&mut known, &entry)?;
        if was != category {
            // Stopped before this line, there are two files of one id; the one that was changed last counts.
            self.files.remove(was, id)?;
            known.read.remove(&(was, id));
            known.times = Some(self.files.times()?);
        }
        Ok(entry)
    }

    /// What fits a query best, best first, by everything that ranks here: the one call for a run's beginning and its tools. What is
    /// neither found by a word nor near is left out. Does not block.
    pub async fn recall(self: &Arc<Self>, owner: OwnerId, query: &str, limit: usize) -> Result<Vec<Hit>, MemoryError> {
        Ok(self.ranked(owner, query, None, limit, Far::Out).await?.hits)
    }

    /// The memories that fit a query best by their words, best first; at most `limit`, and [`HITS_MAX`].
    pub fn search(&self, owner: OwnerId, query: &str, category: Option<Category>, limit: usize) -> Result<Vec<Hit>, MemoryError> {
        let words = words::query(query, QUERY_WORDS_MAX);
        let found = self.known()?.of(owner).search(&words, category, limit.min(HITS_MAX));
        let hit = |found: Found| {
            // A file that was removed or spoilt by hand is no longer a memory.
            let entry = self.read(owner, found.doc.category, found.doc.id).ok()?;
            Some(Hit { entry, score: found.score, similarity: Some(found.share) })
        };
        Ok(found.into_iter().filter_map(hit).collect())
    }

    /// This owner's pinned memories, the newest first; at most [`HITS_MAX`].
    pub fn pinned(&self, owner: OwnerId) -> Result<Vec<Entry>, MemoryError> {
        let mut docs: Vec<Doc> = self.known()?.of(owner).docs().filter(|doc| doc.pinned).cloned().collect();
        docs.sort_by_key(|doc| (std::cmp::Reverse(doc.created_at), doc.id));
        docs.truncate(HITS_MAX);
        Ok(docs.into_iter().filter_map(|doc| self.read(owner, doc.category, doc.id).ok()).collect())
    }

    /// One memory of this owner.
    pub fn find(&self, owner: OwnerId, id: MemoryId) -> Result<Entry, MemoryError> {
        let category = self.known()?.of(owner).doc(id).ok_or(MemoryError::NotFound)?.category;
        self.read(owner, category, id)
    }

    /// This owner's memories, the newest first: the ones behind the first `skip`, at most `limit`, and how many there are in all.
    pub fn list(&self, owner: OwnerId, skip: usize, limit: usize) -> Result<(Vec<Entry>, usize), MemoryError> {
        let mut docs: Vec<_> =
            self.known()?.of(owner).docs().map(|doc| (std::cmp::Reverse(doc.created_at), doc.id, doc.category)).collect();
        docs.sort_by_key(|(at, id, _)| (*at, *id));
        let total = docs.len();
        let some = docs.into_iter().skip(skip).take(limit);
        Ok((some.filter_map(|(_, id, category)| self.read(owner, category, id).ok()).collect(), total))
    }

    /// Lets a memory go.
    pub fn remove(&self, owner: OwnerId, id: MemoryId) -> Result<(), MemoryError> {
        let mut known = self.known()?;
        known.of(owner).doc(id).ok_or(MemoryError::NotFound)?;
        for category in Category::ALL {
            self.files.remove(category, id)?;
            known.read.remove(&(category, id));
        }
        known.of(owner).remove(id);
        known.times = Some(self.files.times()?);
        self.note_counts(&known);
        // Nobody else has to wait for a large file.
        drop(known);
        self.vectors.forget(id);
        Ok(())
    }

    /// Numbers, at once, whatever else goes on.
    pub fn counts(&self) -> Counts {
        *self.counts.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn write(&self, known: &mut Known, entry: &Entry) -> Result<(), MemoryError> {
        if let Some(stamp) = self.files.write(entry)? {
            known.read.insert((entry.category, entry.id), (stamp, Some(entry.owner)));
        }
        known.of(entry.owner).add(entry);
        known.times = Some(self.files.times()?);
        self.note_counts(known);
        Ok(())
    }

    /// What is known, after a look at what others have changed: files that were added, replaced or removed by hand are seen by
    /// their directory's time; one that was changed in place is seen with the next of those, or when it is next read.
    fn known(&self) -> Result<MutexGuard<'_, Known>, MemoryError> {
        let mut known = self.known.lock().unwrap_or_else(|e| e.into_inner());
        let times = self.files.times()?;
        if known.times != Some(times) {
            for category in Category::ALL {
                self.look(&mut known, category)?;
            }
            known.times = Some(times);
            self.note_counts(&known);
        }
        Ok(known)
    }

    fn look(&self, known: &mut Known, category: Category) -> Result<(), MemoryError> {
        let files = self.files.list(category)?;
        let there: HashSet<MemoryId> = files.iter().map(|(id, _)| *id).collect();
        let gone = |((kind, id), (_, owner)): (&(Category, MemoryId), &(Stamp, Option<OwnerId>))| {
            (*kind == category && !there.contains(id)).then_some((*id, *owner))
        };
        let gone: Vec<_> = known.read.iter().filter_map(gone).collect();
        for (id, owner) in gone {
            known.forget(category, id, owner);
        }
        for (id, stamp) in files {
            self.see(known, category, id, stamp);
        }
        Ok(())
    }

    /// Takes a file in where it is another one than was read.
    fn see(&self, known: &mut Known, category: Category, id: MemoryId, stamp: Stamp) {
        let before = known.read.get(&(category, id)).copied();
        if before.is_some_and(|(read, _)| read == stamp) {
            return;
        }
        if let Some((_, owner)) = before {
            known.forget(category, id, owner);
        }
        let entry = self.files.read(category, id).inspect_err(|_| {
            // One damaged file must not hide the others.
            log::warn("memory", format_args!("{}/{id}.json cannot be read; it is left as it is", category.name()));
        });
        known.read.insert((category, id), (stamp, entry.as_ref().ok().map(|entry| entry.owner)));
        if let Ok(entry) = entry {
            let index = known.of(entry.owner);
            if index.doc(id).is_none_or(|doc| doc.changed_at <= entry.changed_at()) {
                index.add(&entry);
            }
        }
    }

    fn note_counts(&self, known: &Known) {
        let entries = known.indexes.values().map(Index::len).sum();
        *self.counts.lock().unwrap_or_else(|e| e.into_inner()) = Counts { index_size: entries, total_entries: entries };
    }

    /// A memory to be shown. Where its file was changed in place, it is found by what it now says from here on.
    fn read(&self, owner: OwnerId, category: Category, id: MemoryId) -> Result<Entry, MemoryError> {
        if let Some(stamp) = self.files.stamp(category, id)? {
            let mut known = self.known.lock().unwrap_or_else(|e| e.into_inner());
            let is_other = known.read.get(&(category, id)).is_some_and(|(read, _)| *read != stamp);
            // Looked at again under the lock: it may be us who have written it.
            if let Some(stamp) = is_other.then(|| self.files.stamp(category, id)).transpose()?.flatten() {
                self.see(&mut known, category, id, stamp);
                self.note_counts(&known);
            }
        }
        self.of_file(owner, category, id)
    }

    fn of_file(&self, owner: OwnerId, category: Category, id: MemoryId) -> Result<Entry, MemoryError> {
        match self.files.read(category, id) {
            Ok(entry) if entry.owner == owner => Ok(entry),
            Ok(_) => Err(MemoryError::NotFound),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(MemoryError::NotFound),
            Err(e) => Err(e.into()),
        }
    }
}

impl Known {
    fn of(&mut self, owner: OwnerId) -> &mut Index {
        self.indexes.entry(owner).or_default()
    }

    fn forget(&mut self, category: Category, id: MemoryId, owner: Option<OwnerId>) {
        self.read.remove(&(category, id));
        if let Some(index) =
            owner.and_then(|owner| self.indexes.get_mut(&owner)).filter(|i| i.doc(id).is_some_and(|d| d.category == category))
        {
            index.remove(id);
        }
    }
}

/// Runs disk work on a thread that may wait.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, MemoryError> + Send + 'static) -> Result<T, MemoryError> {
    blocking::spawn(work).await.unwrap_or_else(|e| Err(MemoryError::Io(io::Error::other(e))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::{TAG_BYTES_MAX, TAGS_MAX};
    use crate::rooms::{memory_seams, test_seams};
    use crate::sys::memory_disk::MemoryDisk;

    fn open(dir: &std::path::Path, seams: &Seams) -> Memory {
        Memory::open(dir.to_owned(), seams.clone(), Arc::default(), Client::new(Default::default()))
    }

    fn fact(content: &str) -> NewEntry {
        NewEntry { category: Category::Facts, content: content.into(), tags: vec!["home".into()], importance: 0.5, pinned: false }
    }

    #[test]
    fn kept_found_by_its_owner_and_found_again_after_a_restart() {
        let (dir, seams) = test_seams("memory");
        let (owner, other) = (OwnerId::derived(&[1; 32]), OwnerId::derived(&[2; 32]));
        let memory = open(&dir, &seams);
        let kept = memory.add(owner, fact("the router has the address 10.0.0.1")).unwrap();
        memory.add(other, fact("the router of someone else")).unwrap();
        std::fs::write(dir.join("facts").join(format!("{}.json", MemoryId::derived(&[7; 32]))), "{").unwrap();
        for memory in [memory, open(&dir, &seams)] {
            let hits = memory.search(owner, "router", None, 10).unwrap();
            assert_eq!(hits.len(), 1);
            assert_eq!(hits[0].entry, kept);
            assert_eq!(memory.search(owner, "home", None, 10).unwrap().len(), 1, "by its tag");
            assert_eq!(memory.find(owner, kept.id).unwrap(), kept);
            assert!(matches!(memory.find(other, kept.id), Err(MemoryError::NotFound)));
            assert_eq!(memory.list(owner, 0, 9).unwrap(), (vec![kept.clone()], 1));
            assert_eq!(memory.counts().total_entries, 2);
        }
        let memory = open(&dir, &seams);
        assert!(matches!(memory.remove(other, kept.id), Err(MemoryError::NotFound)));
        memory.remove(owner, kept.id).unwrap();
        assert!(memory.search(owner, "router", None, 10).unwrap().is_empty());
    }

    #[test]
    fn what_was_kept_moved_or_let_go_stays_so_after_a_power_cut() {
        let (disk, seams) = memory_seams();
        let (dir, owner) = (std::path::Path::new("/w/memory"), OwnerId::derived(&[1; 32]));
        let after = |disk: &MemoryDisk| open(dir, &Seams { disk: Arc::new(disk.power_cut()), ..seams.clone() });
        let memory = open(dir, &seams);
        let (kept, gone) = (memory.add(owner, fact("kept")).unwrap(), memory.add(owner, fact("gone")).unwrap());
        assert_eq!(after(&disk).list(owner, 0, 9).unwrap().1, 2);
        memory.remove(owner, gone.id).unwrap();
        assert!(matches!(after(&disk).find(owner, gone.id), Err(MemoryError::NotFound)), "let go is let go");
        memory.change(owner, kept.id, Change { category: Some(Category::Knowledge), ..Change::default() }).unwrap();
        assert_eq!(after(&disk).find(owner, kept.id).unwrap().category, Category::Knowledge);
        assert_eq!(disk.power_cut().files().len(), 1, "the old place is empty");
    }

    #[test]
    fn a_change_is_found_by_the_new_words_in_its_new_place_and_after_a_restart() {
        let (dir, seams) = test_seams("memory-change");
        let (owner, other) = (OwnerId::derived(&[1; 32]), OwnerId::derived(&[2; 32]));
        let memory = open(&dir, &seams);
        let kept = memory.add(owner, fact("the router is grey")).unwrap();
        memory.add(owner, fact("something else")).unwrap();
        let change = Change {
            content: Some("the switch is blue".into()),
            category: Some(Category::Knowledge),
            pinned: Some(true),
            ..Change::default()
        };
        assert!(matches!(memory.change(other, kept.id, change.clone()), Err(MemoryError::NotFound)));
        let changed = memory.change(owner, kept.id, change).unwrap();
        assert_eq!((changed.tags.as_slice(), changed.created_at), (kept.tags.as_slice(), kept.created_at));
        // As after a stop between the new file and the removal of the old one.
        std::fs::write(
            dir.join("facts").join(format!("{}.json", kept.id)),
            serde_json::to_vec(&Entry { created_at: Default::default(), ..kept.clone() }).unwrap(),
        )
        .unwrap();
        for memory in [&memory, &open(&dir, &seams)] {
            assert!(memory.search(owner, "router", None, 9).unwrap().is_empty());
            assert_eq!(memory.search(owner, "switch", Some(Category::Knowledge), 9).unwrap()[0].entry, changed);
            assert_eq!(memory.pinned(owner).unwrap(), std::slice::from_ref(&changed));
            assert_eq!(memory.list(owner, 0, 9).unwrap().1, 2);
        }
        memory.remove(owner, kept.id).unwrap();
        assert_eq!(open(&dir, &seams).list(owner, 0, 9).unwrap().1, 1);
        assert!(memory.pinned(owner).unwrap().is_empty());
    }

    #[test]
    fn files_that_come_and_go_by_hand_are_seen_while_running() {
        let (dir, seams) = test_seams("memory-hand");
        let owner = OwnerId::derived(&[1; 32]);
        let (memory, hand) = (open(&dir, &seams), open(&dir, &seams));
        assert_eq!(memory.list(owner, 0, 9).unwrap().1, 0);
        let kept = hand.add(owner, fact("the router is grey")).unwrap();
        assert_eq!(memory.search(owner, "router", None, 9).unwrap()[0].entry, kept);
        std::fs::create_dir_all(dir.join("episodes")).unwrap();
        let name = format!("{}.json", kept.id);
        std::fs::rename(dir.join("facts").join(&name), dir.join("episodes").join(&name)).unwrap();
        assert_eq!(memory.find(owner, kept.id).unwrap().category, Category::Episodes);
        std::fs::remove_file(dir.join("episodes").join(&name)).unwrap();
        crate::rooms::touch(&dir.join("episodes"));
        assert!(matches!(memory.find(owner, kept.id), Err(MemoryError::NotFound)));
        assert_eq!(memory.counts().total_entries, 0);
    }

    #[test]
    fn fields_have_limits() {
        let (dir, seams) = test_seams("memory-limits");
        let memory = open(&dir, &seams);
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
