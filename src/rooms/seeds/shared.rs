//! Which conversations a specification belongs to: the one that it came from and its copies. It goes with the last of them.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::path::PathBuf;

use crate::base::ids::{OwnerId, SeedId, SessionId};
use crate::base::limits::LINEAGE_MAX;
use crate::rooms::seeds::{Seed, SeedError, Seeds, file_of, to_bytes};
use crate::store::atomic;

/// Read and written together, with one sync of everything: so many are in memory.
const WRITTEN_AT_ONCE: usize = 256;
/// What a file that says nothing any more is read as; any other failure may pass.
const DAMAGED: [io::ErrorKind; 3] = [io::ErrorKind::NotFound, io::ErrorKind::InvalidData, io::ErrorKind::FileTooLarge];

impl Seeds {
    /// These, what they repair and what repairs them belong to a copy of their conversation, too. One that is not there, or is another
    /// owner's, is passed by.
    ///
    /// # Errors
    /// The disk refused; some may belong to it then: see [`Seeds::forget`].
    pub fn share(&self, owner: OwnerId, named: &BTreeSet<SeedId>, copy: SessionId) -> Result<(), SeedError> {
        if named.is_empty() {
            return Ok(());
        }
        let mut all = named.clone();
        for id in named {
            let mut at = *id;
            for _ in 0..LINEAGE_MAX {
                let Some(parent) = self.find(owner, at).ok().and_then(|seed| seed.parent_seed_id) else { break };
                if !all.insert(parent) {
                    break;
                }
                at = parent;
            }
        }
        // Held to the end: nobody removes one that is being written.
        let mut index = self.index();
        let index = self.loaded(&mut index)?;
        index.add_repairs(owner, &mut all);
        let all: Vec<SeedId> = all.into_iter().collect();
        for some in all.chunks(WRITTEN_AT_ONCE) {
            let seeds = some.iter().filter_map(|id| self.find(owner, *id).ok());
            let mut seeds: Vec<Seed> = seeds.filter(|seed| seed.session_id != copy && !seed.forks.contains(&copy)).collect();
            seeds.iter_mut().for_each(|seed| seed.forks.push(copy));
            self.put(&seeds)?;
            seeds.iter().for_each(|seed| index.add(seed));
        }
        Ok(())
    }

    /// Removes those of deleted sessions, with what came of them, for they say what was said there; but what a copy has, too, stays
    /// with that.
    ///
    /// # Errors
    /// The disk refused; the others are gone.
    pub fn forget(&self, sessions: &HashSet<SessionId>) -> Result<(), SeedError> {
        if sessions.is_empty() {
            return Ok(());
        }
        let mut index = self.index();
        let index = self.loaded(&mut index)?;
        let (mut failed, mut stay) = (None, Vec::new());
        let these: Vec<SeedId> = index.of(sessions).into_iter().collect();
        for some in these.chunks(WRITTEN_AT_ONCE) {
            let mut left = Vec::new();
            for id in some {
                match self.leave(*id, sessions) {
                    Ok(still) => left.extend(still),
                    // What is still there is still known; one that stays does not keep the others.
                    Err(e) => {
                        failed = Some(e);
                        stay.push(*id);
                    }
                }
            }
            match self.put(&left) {
                Ok(()) => left.iter().for_each(|seed| index.add(seed)),
                Err(e) => {
                    failed = Some(e);
                    stay.extend(left.iter().map(|seed| seed.id));
                }
            }
        }
        index.remove(sessions, &stay);
        // The tombstones of their sessions go some day; by then no power cut may bring them back.
        for dir in [&self.seeds, &self.evals].into_iter().filter(|_| !these.is_empty()) {
            match self.seams.disk.sync_dir(dir) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => failed = Some(e.into()),
                _ => {}
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Takes one from these sessions: it goes, or it is what is left of it, to be written, where another has it.
    fn leave(&self, id: SeedId, sessions: &HashSet<SessionId>) -> Result<Option<Seed>, SeedError> {
        match self.read::<Seed>(&self.seeds, id) {
            Ok(seed) => {
                let all = std::iter::once(seed.session_id).chain(seed.forks.iter().copied());
                let left: Vec<SessionId> = all.filter(|session| !sessions.contains(session)).collect();
                if let Some((first, forks)) = left.split_first() {
                    return Ok(Some(Seed { session_id: *first, forks: forks.to_vec(), ..seed }));
                }
            }
            // A damaged one says nothing to a copy either.
            Err(SeedError::Io(e)) if DAMAGED.contains(&e.kind()) => {}
            Err(e) => return Err(e),
        }
        for dir in [&self.seeds, &self.evals] {
            match self.seams.disk.remove_file(&file_of(dir, id)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e.into()),
                _ => {}
            }
        }
        Ok(None)
    }

    /// Writes some, durably other than the first time: a power cut does not take what was there.
    fn put(&self, some: &[Seed]) -> Result<(), SeedError> {
        if some.is_empty() {
            return Ok(());
        }
        let files = some.iter().map(|seed| Ok((file_of(&self.seeds, seed.id), to_bytes(seed)?)));
        let files: Vec<(PathBuf, Vec<u8>)> = files.collect::<io::Result<_>>()?;
        atomic::put_all(&*self.seams.disk, &self.seeds, &files)?;
        Ok(self.seams.disk.sync_dir(&self.seeds)?)
    }
}
