//! The vectors of memories: made by an embedding model, kept in memory and in `<workspace>/memory/vectors/<model>.vec`, of one
//! model at a time. They can be made again from the texts, so the file is not synced, and a damaged one is as good as none.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use crate::base::digest::{hex, sha256};
use crate::base::ids::MemoryId;
use crate::base::limits::VECTORS_BYTES_MAX;
use crate::base::log;
use crate::store::atomic::{self, Durable};
use crate::store::home::Seams;
use crate::sys::disk::read_whole;
use crate::wire::vectors::{self, KEY_BYTES, Key};

/// A text of a memory: its vector holds for this text alone.
pub(super) type Digest = [u8; 32];

/// All vectors.
pub(super) struct Vectors {
    dir: PathBuf,
    seams: Seams,
    /// The vectors of the model in use. Held to look some up, to compare with them, and to write them; never while a model is
    /// asked.
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// Whose they are; empty until the first use.
    model: String,
    dimensions: usize,
    by_key: HashMap<Key, Box<[f32]>>,
    /// Texts that the model would not take; they are not sent again by this process.
    refused: HashSet<Key>,
}

impl Vectors {
    /// The vectors in this directory; nothing is read yet.
    pub(super) fn open(dir: PathBuf, seams: Seams) -> Self {
        Self { dir, seams, held: Mutex::default() }
    }

    /// Those of these texts that have no vector of this model and may get one, in the same order.
    pub(super) fn missing(&self, model: &str, texts: impl Iterator<Item = (MemoryId, Digest)>) -> Vec<(MemoryId, Digest)> {
        let held = self.of(model);
        let full = held.by_key.len() * held.row_bytes() >= VECTORS_BYTES_MAX;
        let lacks = |(id, digest): &(MemoryId, Digest)| {
            let key = key(*id, digest);
            !full && !held.by_key.contains_key(&key) && !held.refused.contains(&key)
        };
        texts.filter(lacks).collect()
    }

    /// Keeps new vectors, lets go of those that nothing alive has, and writes the file.
    pub(super) fn keep(&self, model: &str, new: Vec<(MemoryId, Digest, Vec<f32>)>, alive: &HashSet<(MemoryId, Digest)>) {
        let mut held = self.of(model);
        let Some(dimensions) = new.first().map(|(_, _, vector)| vector.len()) else { return };
        if held.dimensions != dimensions {
            // Another model behind the same name.
            held.by_key.clear();
            held.dimensions = dimensions;
        }
        let alive: HashSet<Key> = alive.iter().map(|(id, digest)| key(*id, digest)).collect();
        held.by_key.retain(|key, _| alive.contains(key));
        let new = new.into_iter().map(|(id, digest, vector)| (key(id, &digest), vector.into_boxed_slice()));
        // Some may have been deleted while the model worked.
        held.by_key.extend(new.filter(|(key, _)| alive.contains(key)));
        if let Err(e) = self.write(&held) {
            log::warn("memory", format_args!("the vectors could not be written, and are made again after a restart: {e}"));
        }
    }

    /// Lets go of the vectors of a memory that is no more: a vector tells much of its text. Of whatever model they are; a file
    /// that cannot be written without them, or is damaged, goes as a whole.
    pub(super) fn forget(&self, id: MemoryId) {
        let mut held = self.held.lock().unwrap_or_else(|e| e.into_inner());
        let its = id.to_string();
        let before = held.by_key.len();
        held.by_key.retain(|key, _| !key.starts_with(its.as_bytes()));
        // What is held is what that file says.
        let spared = (!held.model.is_empty() && held.by_key.len() == before).then(|| self.path(&held.model));
        let files = self.seams.disk.list(&self.dir).unwrap_or_default();
        for path in files.iter().filter(|item| item.name.ends_with(".vec")).map(|item| self.dir.join(&item.name)) {
            if spared.as_ref() == Some(&path) {
                continue;
            }
            if let Err(e) = self.forget_in(&path, its.as_bytes()) {
                log::warn("memory", format_args!("a vector of a memory that was deleted may still be in {}: {e}", path.display()));
            }
        }
    }

    fn forget_in(&self, path: &Path, its: &[u8]) -> io::Result<()> {
        let disk = &*self.seams.disk;
        let bytes = read_whole(disk, path, 2 * VECTORS_BYTES_MAX as u64)?;
        match vectors::without(&bytes, its) {
            Some(Cow::Borrowed(_)) => Ok(()),
            Some(Cow::Owned(left)) if !vectors::is_empty(&left) => {
                atomic::replace(disk, path, &left, Durable::No).or_else(|_| disk.remove_file(path))
            }
            _ => disk.remove_file(path),
        }
    }

    /// The model would not take this text.
    pub(super) fn refuse(&self, model: &str, id: MemoryId, digest: &Digest) {
        self.of(model).refused.insert(key(id, digest));
    }

    /// How near each of these is to a query, as a cosine; `None` without a vector.
    pub(super) fn similarities(&self, model: &str, query: &[f32], texts: impl Iterator<Item = (MemoryId, Digest)>) -> Vec<Option<f64>> {
        let held = self.of(model);
        texts.map(|(id, digest)| held.by_key.get(&key(id, &digest)).map(|vector| vectors::cosine(query, vector))).collect()
    }

    /// The vectors of this model, read from its file when it is another one than before.
    fn of(&self, model: &str) -> MutexGuard<'_, Held> {
        let mut held = self.held.lock().unwrap_or_else(|e| e.into_inner());
        if held.model != model {
            let bytes = read_whole(&*self.seams.disk, &self.path(model), 2 * VECTORS_BYTES_MAX as u64).unwrap_or_default();
            let by_key = vectors::from_file(&bytes).unwrap_or_default();
            let dimensions = by_key.values().next().map_or(0, |vector| vector.len());
            *held = Held { model: model.to_owned(), dimensions, by_key, refused: HashSet::new() };
        }
        held
    }

    fn write(&self, held: &Held) -> io::Result<()> {
        atomic::make_dir(&*self.seams.disk, &self.dir)?;
        let path = self.path(&held.model);
        let bytes = vectors::to_file(held.dimensions, held.by_key.iter().map(|(key, vector)| (key, &**vector)));
        atomic::replace(&*self.seams.disk, &path, &bytes, Durable::No)?;
        // Those of another model are of no more use.
        for item in self.seams.disk.list(&self.dir)? {
            let other = self.dir.join(&item.name);
            if item.name.ends_with(".vec") && other != path {
                self.seams.disk.remove_file(&other)?;
            }
        }
        Ok(())
    }

    fn path(&self, model: &str) -> PathBuf {
        let name = hex(&sha256(model.as_bytes()));
        self.dir.join(format!("{}.vec", name.get(..16).unwrap_or_default()))
    }
}

impl Held {
    fn row_bytes(&self) -> usize {
        KEY_BYTES + self.dimensions * 4
    }
}

fn key(id: MemoryId, digest: &Digest) -> Key {
    let mut key = [0; KEY_BYTES];
    let id = id.to_string();
    key.iter_mut().zip(id.as_bytes().iter().chain(digest)).for_each(|(to, from)| *to = *from);
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::test_seams;

    #[test]
    fn vectors_are_found_again_for_the_same_text_and_model_only() {
        let (dir, seams) = test_seams("vectors");
        let (a, b) = (MemoryId::derived(&[1; 32]), MemoryId::derived(&[2; 32]));
        let vectors = Vectors::open(dir.clone(), seams.clone());
        let texts = || [(a, [1; 32]), (b, [2; 32])].into_iter();
        assert_eq!(vectors.missing("m", texts()).len(), 2);
        vectors.keep("m", vec![(a, [1; 32], vec![1.0, 0.0])], &texts().collect());
        for vectors in [&vectors, &Vectors::open(dir.clone(), seams.clone())] {
            assert_eq!(vectors.missing("m", texts()), [(b, [2; 32])]);
            assert_eq!(vectors.similarities("m", &[1.0, 0.0], texts()), [Some(1.0), None]);
            assert_eq!(vectors.missing("m", [(a, [9; 32])].into_iter()).len(), 1, "the text has changed");
        }
        vectors.refuse("m", b, &[2; 32]);
        assert!(vectors.missing("m", texts()).is_empty());
        vectors.keep("n", vec![(a, [1; 32], vec![1.0])], &texts().collect());
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1, "the other model's file is gone");
        vectors.keep("n", vec![(b, [2; 32], vec![1.0])], &texts().collect());
        // Another process of it, with another model or none: what is on the disk goes all the same.
        let other = Vectors::open(dir.clone(), seams.clone());
        other.forget(a);
        vectors.forget(a);
        for vectors in [&vectors, &other] {
            assert_eq!(vectors.missing("n", texts()), [(a, [1; 32])], "the memory that was deleted has none, the other keeps its own");
        }
        let file = std::fs::read_dir(&dir).unwrap().next().unwrap().unwrap().path();
        std::fs::write(&file, b"rotten").unwrap();
        assert_eq!(Vectors::open(dir.clone(), seams.clone()).missing("n", texts()).len(), 2);
        Vectors::open(dir.clone(), seams).forget(b);
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0, "nothing is known of what is in it");
    }
}
