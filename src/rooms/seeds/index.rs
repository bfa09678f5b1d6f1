//! Which specifications there are: whose each is, when it was written, what it repairs. Made from the files when a list is first
//! asked for, then kept up; a file that is put there by hand is in the list after the next start, and found by its id at once.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;

use crate::base::ids::{OwnerId, SeedId, SessionId};
use crate::base::limits::{SEED_BYTES_MAX, SEEDS_LISTED_MAX};
use crate::base::time::Timestamp;
use crate::rooms::seeds::Seed;
use crate::sys::disk::{Disk, read_whole};

/// The newest [`SEEDS_LISTED_MAX`], oldest first; of older ones only which session each belongs to, with which it goes.
#[derive(Default)]
pub(super) struct Index {
    listed: BTreeMap<(Timestamp, SeedId), Known>,
    older: HashMap<SessionId, Vec<SeedId>>,
}

struct Known {
    owner: OwnerId,
    session: SessionId,
    parent: Option<SeedId>,
}

impl Index {
    /// From the files of a directory; one that cannot be read is left out.
    pub(super) fn read(disk: &dyn Disk, dir: &Path) -> io::Result<Self> {
        let mut files = match disk.list(dir) {
            Ok(files) => files,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(e),
        };
        files.retain(|file| !file.is_dir && file.name.ends_with(".json"));
        // They are never changed once written: the newest files are the newest specifications.
        files.sort_by_key(|file| std::cmp::Reverse(file.modified));
        let mut index = Self::default();
        for file in files {
            let bytes = read_whole(disk, &dir.join(&file.name), SEED_BYTES_MAX);
            let seed = bytes.ok().and_then(|bytes| serde_json::from_slice::<Seed>(&bytes).ok());
            if let Some(seed) = seed.filter(|seed| file.name == format!("{}.json", seed.id)) {
                index.add(&seed);
            }
        }
        Ok(index)
    }

    pub(super) fn add(&mut self, seed: &Seed) {
        let known = Known { owner: seed.owner, session: seed.session_id, parent: seed.parent_seed_id };
        self.listed.insert((seed.created_at, seed.id), known);
        while self.listed.len() > SEEDS_LISTED_MAX {
            let Some(((_, id), known)) = self.listed.pop_first() else { return };
            self.older.entry(known.session).or_default().push(id);
        }
    }

    /// Those of a session.
    pub(super) fn of(&self, session: SessionId) -> Vec<SeedId> {
        let listed = self.listed.iter().filter(|(_, known)| known.session == session).map(|((_, id), _)| *id);
        listed.chain(self.older.get(&session).into_iter().flatten().copied()).collect()
    }

    /// Takes those of a session out, but for some that stay.
    pub(super) fn remove(&mut self, session: SessionId, stay: &[SeedId]) {
        self.listed.retain(|(_, id), known| known.session != session || stay.contains(id));
        if let Some(older) = self.older.get_mut(&session) {
            older.retain(|id| stay.contains(id));
        }
        self.older.retain(|_, ids| !ids.is_empty());
    }

    /// This owner's, newest first: those of one page, and how many there are in all.
    pub(super) fn page(&self, owner: OwnerId, skip: usize, limit: usize) -> (Vec<SeedId>, usize) {
        let all = || self.listed.iter().rev().filter(|(_, known)| known.owner == owner);
        (all().skip(skip).take(limit).map(|((_, id), _)| *id).collect(), all().count())
    }

    /// The newest repair of one.
    pub(super) fn child(&self, owner: OwnerId, parent: SeedId) -> Option<SeedId> {
        self.listed.iter().rev().find(|(_, known)| known.owner == owner && known.parent == Some(parent)).map(|((_, id), _)| *id)
    }
}
