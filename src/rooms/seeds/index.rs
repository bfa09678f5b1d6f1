//! Which specifications there are: whose each is, when it was written, what it repairs. Made from the files when a list is first
//! asked for, then kept up; a file that is put there by hand is in the list after the next start, and found by its id at once.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::path::Path;

use crate::base::ids::{OwnerId, SeedId, SessionId};
use crate::base::limits::{SEED_BYTES_MAX, SEEDS_LISTED_MAX};
use crate::base::time::Timestamp;
use crate::rooms::seeds::Seed;
use crate::sys::disk::{Disk, read_whole};

/// The newest [`SEEDS_LISTED_MAX`], oldest first; of older ones only which sessions each belongs to, with the last of which it goes.
#[derive(Default)]
pub(super) struct Index {
    listed: BTreeMap<(Timestamp, SeedId), Known>,
    older: HashMap<SessionId, Vec<SeedId>>,
}

struct Known {
    owner: OwnerId,
    session: SessionId,
    forks: Box<[SessionId]>,
    parent: Option<SeedId>,
}

impl Known {
    fn sessions(&self) -> impl Iterator<Item = &SessionId> {
        std::iter::once(&self.session).chain(&self.forks)
    }
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
        // The newest first, so that those beyond the bound are put aside as they come. Sharing one makes its file newer, which costs
        // no more than a detour: what counts is when it was made.
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

    /// Also where it is known and belongs to other sessions than before.
    pub(super) fn add(&mut self, seed: &Seed) {
        let (owner, session, forks) = (seed.owner, seed.session_id, seed.forks.clone().into());
        let known = Known { owner, session, forks, parent: seed.parent_seed_id };
        self.listed.insert((seed.created_at, seed.id), known);
        while self.listed.len() > SEEDS_LISTED_MAX {
            let Some(((_, id), known)) = self.listed.pop_first() else { return };
            for session in known.sessions() {
                let older = self.older.entry(*session).or_default();
                if !older.contains(&id) {
                    older.push(id);
                }
            }
        }
    }

    /// Those of any of these sessions.
    pub(super) fn of(&self, sessions: &HashSet<SessionId>) -> BTreeSet<SeedId> {
        let listed = self.listed.iter().filter(|(_, known)| known.sessions().any(|of| sessions.contains(of))).map(|((_, id), _)| *id);
        listed.chain(sessions.iter().filter_map(|session| self.older.get(session)).flatten().copied()).collect()
    }

    /// Takes those of these sessions out, but for some that stay.
    pub(super) fn remove(&mut self, sessions: &HashSet<SessionId>, stay: &[SeedId]) {
        self.listed.retain(|(_, id), known| stay.contains(id) || !known.sessions().any(|of| sessions.contains(of)));
        for session in sessions {
            if let Some(older) = self.older.get_mut(session) {
                older.retain(|id| stay.contains(id));
            }
        }
        self.older.retain(|_, ids| !ids.is_empty());
    }

    /// Adds what repairs one of these, and what repairs that.
    pub(super) fn add_repairs(&self, owner: OwnerId, seeds: &mut BTreeSet<SeedId>) {
        // Oldest first: each comes before its repair.
        for ((_, id), known) in self.listed.iter().filter(|(_, known)| known.owner == owner) {
            if known.parent.is_some_and(|parent| seeds.contains(&parent)) {
                seeds.insert(*id);
            }
        }
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
