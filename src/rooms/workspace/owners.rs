//! Whose files lie where: the first owner's in `<workspace>/files/`, those of any other in `<workspace>/files-of/<owner>/`.
//! One owner's agent and routes never reach another's.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::base::ids::OwnerId;
use crate::rooms::workspace::{Workspace, WorkspaceError};
use crate::store::home::Seams;

/// The shared files of every owner.
pub struct Workspaces {
    dir: PathBuf,
    first: OwnerId,
    seams: Seams,
    /// Those that were used; taken for a look-up and while a directory is made. As many as there are owners, whom a person
    /// makes by hand.
    open: Mutex<HashMap<OwnerId, Arc<Workspace>>>,
}

impl Workspaces {
    /// The files beneath this directory; the first owner's directory is made where it is missing.
    ///
    /// # Errors
    /// It cannot be made, or the kernel cannot hold names beneath it.
    pub fn open(dir: &Path, first: OwnerId, seams: Seams) -> Result<Self, WorkspaceError> {
        let all = Self { dir: dir.to_owned(), first, seams, open: Mutex::default() };
        all.of(first)?;
        Ok(all)
    }

    /// The files of this owner; the directory is made at first use. Blocks then.
    ///
    /// # Errors
    /// It cannot be made or opened.
    pub fn of(&self, owner: OwnerId) -> Result<Arc<Workspace>, WorkspaceError> {
        let mut open = self.open.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(found) = open.get(&owner) {
            return Ok(found.clone());
        }
        let dir = if owner == self.first { self.dir.join("files") } else { self.dir.join("files-of").join(owner.to_string()) };
        let made = Arc::new(Workspace::open(&dir, self.seams.disk.clone(), self.seams.clock.clone())?);
        open.insert(owner, made.clone());
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::test_seams;

    #[test]
    fn every_owner_has_files_of_its_own() {
        let (dir, seams) = test_seams("workspaces");
        let (first, other) = (OwnerId::derived(&[1; 32]), OwnerId::derived(&[2; 32]));
        let all = Workspaces::open(&dir, first, seams).unwrap();
        all.of(first).unwrap().write("a", b"mine").unwrap();
        assert!(all.of(other).unwrap().stat("a").unwrap().is_none());
        all.of(other).unwrap().write("a", b"yours").unwrap();
        assert_eq!(all.of(first).unwrap().read("a", 10).unwrap().0, b"mine");
        assert_eq!(std::fs::read(dir.join("files/a")).unwrap(), b"mine");
    }
}
