//! Specifications and what came of them: `<workspace>/seeds/<id>.json`, and `<workspace>/evals/<seed-id>.json`. What a specification
//! says is never changed once written; which sessions it belongs to is ([`Seeds::share`]). Everything here blocks.

mod index;
mod shared;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::ids::{MessageId, OwnerId, SeedId, SessionId};
use crate::base::limits::{LINEAGE_MAX, SEED_BYTES_MAX};
use crate::base::time::Timestamp;
use crate::rooms::seeds::index::Index;
use crate::store::atomic::{self, Durable};
use crate::store::error::damaged;
use crate::store::home::Seams;
use crate::sys::disk::read_whole;

/// An immutable specification of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Seed {
    /// Its id.
    pub id: SeedId,
    /// Whose it is.
    pub owner: OwnerId,
    /// The conversation it came from.
    pub session_id: SessionId,
    /// Conversations that are copies of that one and name it, too: it goes with the last of all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forks: Vec<SessionId>,
    /// The message it came from.
    pub message_id: MessageId,
    /// What is to be reached.
    pub goal: String,
    /// What must be kept to.
    pub constraints: Vec<String>,
    /// How one knows that it is reached.
    pub acceptance_criteria: Vec<String>,
    /// The things it speaks of.
    pub ontology: Vec<Thing>,
    /// When it was written.
    pub created_at: Timestamp,
    /// 0 for the first, one more for each evolution.
    pub generation: u32,
    /// The specification it repairs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_seed_id: Option<SeedId>,
    /// What the user said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original_request: Option<String>,
    /// JSON schema of the result, where the result is data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Value>,
    /// What is repaired, in an evolved one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repair: Option<String>,
}

/// A thing that a specification speaks of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thing {
    /// Its name.
    pub name: String,
    /// What kind of thing.
    pub entity_type: String,
    /// What it is.
    pub description: String,
}

/// What came of a specification.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The specification.
    pub seed_id: SeedId,
    /// Whose it is.
    pub owner: OwnerId,
    /// The result is good enough; absent where nobody could judge it.
    pub passed: Option<bool>,
    /// 0 to 1; absent where nobody could judge it.
    pub score: Option<f64>,
    /// Who judged: `mechanical`, or `provider/model`, one each.
    pub judges: Vec<Judgement>,
    /// When.
    pub created_at: Timestamp,
}

/// One judge's word.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// `mechanical` or `provider/model`.
    pub judge: String,
    /// Good enough.
    pub passed: bool,
    /// 0 to 1.
    pub score: f64,
    /// Why.
    pub notes: String,
    /// Each criterion and whether it is met.
    pub criteria: Vec<Criterion>,
}

/// One criterion as judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Criterion {
    /// Its text.
    pub criterion: String,
    /// It is met.
    pub met: bool,
}

/// Why it was not kept or found.
#[derive(Debug)]
pub enum SeedError {
    /// There is none, or it is another owner's.
    NotFound,
    /// The disk refused, or the file is damaged; private.
    Io(io::Error),
}

impl fmt::Display for SeedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("no such seed"),
            Self::Io(e) => write!(f, "seeds: {e}"),
        }
    }
}

impl std::error::Error for SeedError {}

impl From<io::Error> for SeedError {
    fn from(e: io::Error) -> Self {
        if e.kind() == io::ErrorKind::NotFound { Self::NotFound } else { Self::Io(e) }
    }
}

/// All specifications of this home.
pub struct Seeds {
    seeds: PathBuf,
    evals: PathBuf,
    seams: Seams,
    /// Which there are; `None` until a list was asked for. Held while it is read from the files, so that nobody lists half of it.
    index: Mutex<Option<Index>>,
}

impl Seeds {
    /// The specifications in this workspace; nothing is read.
    pub fn open(workspace: &Path, seams: Seams) -> Self {
        Self { seeds: workspace.join("seeds"), evals: workspace.join("evals"), seams, index: Mutex::new(None) }
    }

    /// Keeps a new specification. Not synced: the log names it, and what it says was said in the conversation.
    pub fn save(&self, seed: &Seed) -> Result<(), SeedError> {
        self.write(&self.seeds, seed.id, seed)?;
        if let Some(index) = self.index().as_mut() {
            index.add(seed);
        }
        Ok(())
    }

    /// Keeps what came of one; a later evaluation of the same specification replaces an earlier one.
    pub fn save_evaluation(&self, evaluation: &Evaluation) -> Result<(), SeedError> {
        self.write(&self.evals, evaluation.seed_id, evaluation)
    }

    /// One specification of this owner.
    pub fn find(&self, owner: OwnerId, id: SeedId) -> Result<Seed, SeedError> {
        self.read(&self.seeds, id).and_then(|seed: Seed| if seed.owner == owner { Ok(seed) } else { Err(SeedError::NotFound) })
    }

    /// What came of one.
    pub fn evaluation(&self, owner: OwnerId, id: SeedId) -> Result<Evaluation, SeedError> {
        self.read(&self.evals, id).and_then(|e: Evaluation| if e.owner == owner { Ok(e) } else { Err(SeedError::NotFound) })
    }

    /// This owner's, newest first: those of one page, and how many there are in all.
    pub fn list(&self, owner: OwnerId, skip: usize, limit: usize) -> Result<(Vec<Seed>, usize), SeedError> {
        let (page, total) = {
            let mut index = self.index();
            self.loaded(&mut index)?.page(owner, skip, limit)
        };
        // One that cannot be read any more is told by the log of its session, not by a failing list.
        Ok((page.into_iter().filter_map(|id| self.find(owner, id).ok()).collect(), total))
    }

    /// One with what it repairs and what repairs it, root first, each with what came of it; at most [`LINEAGE_MAX`].
    pub fn lineage(&self, owner: OwnerId, id: SeedId) -> Result<Vec<(Seed, Option<Evaluation>)>, SeedError> {
        let mut seeds = vec![self.find(owner, id)?];
        while seeds.len() < LINEAGE_MAX {
            let parent = seeds.last().and_then(|seed| seed.parent_seed_id);
            let Some(Ok(parent)) = parent.map(|parent| self.find(owner, parent)) else { break };
            seeds.push(parent);
        }
        seeds.reverse();
        let mut last = id;
        while seeds.len() < LINEAGE_MAX {
            let child = {
                let mut index = self.index();
                self.loaded(&mut index)?.child(owner, last)
            };
            let Some(Ok(child)) = child.map(|child| self.find(owner, child)) else { break };
            last = child.id;
            seeds.push(child);
        }
        let with_evaluation = |seed: Seed| {
            let came = self.evaluation(owner, seed.id).ok();
            (seed, came)
        };
        Ok(seeds.into_iter().map(with_evaluation).collect())
    }

    fn index(&self) -> MutexGuard<'_, Option<Index>> {
        // Every change under the lock is whole before the next call that could panic.
        self.index.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn loaded<'a>(&self, index: &'a mut Option<Index>) -> Result<&'a mut Index, SeedError> {
        if index.is_none() {
            *index = Some(Index::read(&*self.seams.disk, &self.seeds)?);
        }
        index.as_mut().ok_or(SeedError::NotFound)
    }

    fn write(&self, dir: &Path, id: SeedId, value: &impl Serialize) -> Result<(), SeedError> {
        atomic::make_dir(&*self.seams.disk, dir)?;
        Ok(atomic::replace(&*self.seams.disk, &file_of(dir, id), &to_bytes(value)?, Durable::No)?)
    }

    fn read<T: DeserializeOwned>(&self, dir: &Path, id: SeedId) -> Result<T, SeedError> {
        let bytes = read_whole(&*self.seams.disk, &file_of(dir, id), SEED_BYTES_MAX)?;
        serde_json::from_slice(&bytes).map_err(|e| SeedError::Io(damaged(&e)))
    }
}

fn file_of(dir: &Path, id: SeedId) -> PathBuf {
    dir.join(format!("{id}.json"))
}

fn to_bytes(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let bytes = serde_json::to_vec(value)?;
    if bytes.len() as u64 > SEED_BYTES_MAX {
        // Nobody could read it; one that has grown so was shared with thousands of copies of its conversation.
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};
    use std::sync::Arc;

    use super::*;
    use crate::base::limits::SEEDS_LISTED_MAX;
    use crate::rooms::test_seams;
    use crate::sys::disk::Disk;
    use crate::sys::fault_disk::FaultDisk;
    use crate::sys::memory_disk::MemoryDisk;

    /// A seed of this session, written at this moment.
    fn written(at: u64, session: SessionId) -> Seed {
        Seed {
            id: SeedId::derived(&crate::base::digest::sha256(&at.to_be_bytes())),
            owner: OwnerId::derived(&[1; 32]),
            session_id: session,
            forks: vec![],
            message_id: MessageId::derived(&[5; 32]),
            goal: "g".into(),
            constraints: vec![],
            acceptance_criteria: vec![],
            ontology: vec![],
            created_at: Timestamp::from_millis(at),
            generation: 0,
            parent_seed_id: None,
            original_request: None,
            output_schema: None,
            repair: None,
        }
    }

    #[test]
    fn a_lineage_is_found_from_each_of_its_members_also_after_a_restart() {
        let (dir, seams) = test_seams("seeds-lineage");
        let seeds = Seeds::open(&dir, seams.clone());
        let owner = OwnerId::derived(&[1; 32]);
        let id = |n: u8| SeedId::derived(&[n; 32]);
        for n in 0..3 {
            let seed = Seed {
                id: id(n),
                generation: u32::from(n),
                parent_seed_id: n.checked_sub(1).map(id),
                ..written(u64::from(n), SessionId::derived(&[4; 32]))
            };
            seeds.save(&seed).unwrap();
            // The list is asked for before the last one is written.
            assert_eq!(seeds.list(owner, 0, 9).unwrap().1, usize::from(n) + 1);
        }
        let seeds = Seeds::open(&dir, seams);
        let all = [id(0), id(1), id(2)];
        for any in all {
            assert_eq!(seeds.lineage(owner, any).unwrap().iter().map(|(seed, _)| seed.id).collect::<Vec<_>>(), all);
        }
        let (page, total) = seeds.list(owner, 1, 1).unwrap();
        assert_eq!((page[0].id, page.len(), total), (id(1), 1, 3));
        assert_eq!(seeds.list(OwnerId::derived(&[2; 32]), 0, 9).unwrap(), (vec![], 0));
    }

    #[test]
    fn kept_and_found_by_their_owner_only() {
        let (dir, seams) = test_seams("seeds");
        let seeds = Seeds::open(&dir, seams);
        let (owner, other) = (OwnerId::derived(&[1; 32]), OwnerId::derived(&[2; 32]));
        let seed = Seed {
            acceptance_criteria: vec!["c".into()],
            ontology: vec![Thing { name: "n".into(), entity_type: "t".into(), description: "d".into() }],
            original_request: Some("r".into()),
            ..written(7, SessionId::derived(&[4; 32]))
        };
        seeds.save(&seed).unwrap();
        assert_eq!(seeds.find(owner, seed.id).unwrap(), seed);
        assert!(matches!(seeds.find(other, seed.id), Err(SeedError::NotFound)));
        assert!(matches!(seeds.evaluation(owner, seed.id), Err(SeedError::NotFound)));
        let evaluation = Evaluation {
            seed_id: seed.id,
            owner,
            passed: Some(true),
            score: Some(0.9),
            judges: vec![],
            created_at: Timestamp::from_millis(8),
        };
        seeds.save_evaluation(&evaluation).unwrap();
        assert_eq!(seeds.evaluation(owner, seed.id).unwrap(), evaluation);
        std::fs::write(dir.join("seeds").join(format!("{}.json", seed.id)), "{").unwrap();
        assert!(matches!(seeds.find(owner, seed.id), Err(SeedError::Io(_))));
    }

    #[test]
    fn what_cannot_be_read_for_a_moment_is_not_taken_from_a_copy() {
        let disk = FaultDisk::before(Arc::new(MemoryDisk::default()));
        disk.create_dir(Path::new("/w")).unwrap();
        let (_, seams) = test_seams("seeds-unread");
        let seeds = Seeds::open(Path::new("/w"), Seams { disk: Arc::new(disk.clone()), ..seams });
        let (owner, [first, copy]) = (OwnerId::derived(&[1; 32]), [4, 5].map(|n| SessionId::derived(&[n; 32])));
        // More than are written at once.
        let all: Vec<Seed> = (0..300).map(|at| written(at, first)).collect();
        all.iter().for_each(|seed| seeds.save(seed).unwrap());
        seeds.share(owner, &all.iter().map(|seed| seed.id).collect(), copy).unwrap();
        let unread = file_of(&seeds.seeds, all[7].id);
        disk.refuse_reading(Some(&unread));
        seeds.forget(&HashSet::from([first])).unwrap_err();
        disk.refuse_reading(None);
        assert!(all.iter().all(|seed| seeds.find(owner, seed.id).is_ok()));
        seeds.forget(&HashSet::from([first])).unwrap();
        assert!(all.iter().all(|seed| seeds.find(owner, seed.id).is_ok_and(|seed| seed.session_id == copy && seed.forks.is_empty())));
        seeds.forget(&HashSet::from([copy])).unwrap();
        assert!(all.iter().all(|seed| seeds.find(owner, seed.id).is_err()));
    }

    #[test]
    fn those_of_a_deleted_session_go_however_old_they_are_and_whichever_stays_at_first() {
        let disk = FaultDisk::before(Arc::new(MemoryDisk::default()));
        disk.create_dir(Path::new("/w")).unwrap();
        let (_, seams) = test_seams("seeds-many");
        let seams = Seams { disk: Arc::new(disk.clone()), ..seams };
        let seeds = Seeds::open(Path::new("/w"), seams.clone());
        let (gone, other) = (SessionId::derived(&[4; 32]), SessionId::derived(&[6; 32]));
        let owner = OwnerId::derived(&[1; 32]);
        seeds.list(owner, 0, 1).unwrap();
        let old: Vec<Seed> = (0..4).map(|at| written(at, gone)).collect();
        old.iter().for_each(|seed| seeds.save(seed).unwrap());
        (0..SEEDS_LISTED_MAX as u64).for_each(|n| seeds.save(&written(10 + n, other)).unwrap());
        let left = |seeds: &Seeds| old.iter().filter(|seed| seeds.find(owner, seed.id).is_ok()).count();
        disk.fail_after(Some(0));
        seeds.forget(&HashSet::from([gone])).unwrap_err();
        assert_eq!(left(&seeds), 1, "one that stays does not keep the others");
        // Also by a process that has not seen them being written.
        let seeds = Seeds::open(Path::new("/w"), seams);
        seeds.forget(&HashSet::from([gone])).unwrap();
        assert_eq!(left(&seeds), 0);
        assert_eq!(seeds.list(owner, 0, 1).unwrap().1, SEEDS_LISTED_MAX);
    }

    #[test]
    fn what_a_copy_has_too_stays_with_it_also_by_a_process_that_has_not_seen_the_copy_being_made() {
        let (dir, seams) = test_seams("seeds-shared");
        let seeds = Seeds::open(&dir, seams.clone());
        let owner = OwnerId::derived(&[1; 32]);
        let session = |n: u8| SessionId::derived(&[n; 32]);
        let (first, fork, other) = (session(4), session(5), session(6));
        // Three of a lineage, of which the answer names the second; one more of the same session; one of another.
        let mut of_first: Vec<Seed> = (0..4).map(|at| written(at, first)).collect();
        (of_first[1].parent_seed_id, of_first[2].parent_seed_id) = (Some(of_first[0].id), Some(of_first[1].id));
        let others = written(9, other);
        of_first.iter().chain([&others]).for_each(|seed| seeds.save(seed).unwrap());
        let evaluation =
            Evaluation { seed_id: of_first[0].id, owner, passed: None, score: None, judges: vec![], created_at: Timestamp::default() };
        seeds.save_evaluation(&evaluation).unwrap();
        let elsewhere = SeedId::derived(&[99; 32]);
        seeds.share(owner, &BTreeSet::from([of_first[1].id, elsewhere]), fork).unwrap();
        seeds.share(owner, &BTreeSet::from([of_first[1].id]), fork).unwrap();
        seeds.share(OwnerId::derived(&[2; 32]), &BTreeSet::from([of_first[3].id]), fork).unwrap();
        let there = |seeds: &Seeds| of_first.iter().map(|seed| seeds.find(owner, seed.id).is_ok()).collect::<Vec<_>>();
        seeds.forget(&HashSet::from([first])).unwrap();
        assert_eq!(there(&seeds), [true, true, true, false]);
        assert_eq!(seeds.lineage(owner, of_first[2].id).unwrap().len(), 3);
        assert_eq!(seeds.evaluation(owner, of_first[0].id).unwrap(), evaluation);
        assert_eq!(seeds.list(owner, 0, 9).unwrap().1, 4);
        let kept = seeds.find(owner, of_first[1].id).unwrap();
        assert_eq!((kept.session_id, kept.forks.len(), kept.goal.as_str()), (fork, 0, "g"));
        // A copy of the copy, by a process that reads it all anew.
        let seeds = Seeds::open(&dir, seams);
        seeds.share(owner, &BTreeSet::from([of_first[1].id]), session(7)).unwrap();
        seeds.forget(&HashSet::from([fork])).unwrap();
        assert_eq!(there(&seeds), [true, true, true, false]);
        seeds.forget(&HashSet::from([fork, session(7)])).unwrap();
        assert_eq!(there(&seeds), [false; 4]);
        assert!(seeds.evaluation(owner, of_first[0].id).is_err() && seeds.find(owner, others.id).is_ok());
    }
}
