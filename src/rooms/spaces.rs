//! Spaces: contexts that sessions belong to (a project, a house, a customer), with a text that is put before the model. Each
//! belongs to an owner, who has a current one for new sessions; a session keeps its own. `<workspace>/spaces/<id>.json`.
//! Everything here blocks.
//!
//! An archived space takes no new messages until it is restored. A space that was merged into another one is archived and
//! remembers where it went: what is said in it is said in that one. Restoring it parts them again. An archived space can be deleted;
//! sessions that were in it stay, and go on without one.

use std::fmt;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::base::ids::{OwnerId, SpaceId};
use crate::base::limits::{DESCRIPTION_BYTES_MAX, LABEL_BYTES_MAX, SPACE_CONTEXT_BYTES_MAX, SPACES_MAX};
use crate::base::time::Timestamp;
use crate::store::home::Seams;
use crate::store::shelf::{Held, Shelf, Thing};

/// Whether a space is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "SpaceStatus"))]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Messages may be said in it.
    Active,
    /// It was put away.
    Archived,
}

/// A context that sessions belong to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// Its id.
    pub id: SpaceId,
    /// Whose it is.
    pub owner: OwnerId,
    /// Its name.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// What is put before the model.
    #[serde(default)]
    pub context: String,
    /// Whether it is in use.
    pub status: Status,
    /// The space that it became part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merged_into: Option<SpaceId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Thing for Space {
    type Id = SpaceId;
    fn id(&self) -> SpaceId {
        self.id
    }
    fn owner(&self) -> OwnerId {
        self.owner
    }
    fn created_at(&self) -> Timestamp {
        self.created_at
    }
}

/// What a space is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewSpace {
    /// At most [`LABEL_BYTES_MAX`], one line.
    pub name: String,
    /// At most [`DESCRIPTION_BYTES_MAX`].
    pub description: String,
    /// At most [`SPACE_CONTEXT_BYTES_MAX`].
    pub context: String,
}

/// What is to be changed of a space; what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// As in [`NewSpace`].
    pub name: Option<String>,
    /// As in [`NewSpace`].
    pub description: Option<String>,
    /// As in [`NewSpace`].
    pub context: Option<String>,
}

/// Why it was not kept, found or done.
#[derive(Debug)]
pub enum SpaceError {
    /// There is none of this id, or it is another owner's.
    NotFound,
    /// A field is out of its limits; the text says which.
    Unfit(String),
    /// The context is larger than [`SPACE_CONTEXT_BYTES_MAX`].
    TooLarge {
        /// Its bytes.
        size: usize,
    },
    /// It is not in a state for that; the text says what to do.
    Conflict(&'static str),
    /// This owner has [`SPACES_MAX`].
    Full,
    /// The disk refused; private.
    Io(io::Error),
}

impl fmt::Display for SpaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("no such space"),
            Self::Unfit(what) => f.write_str(what),
            Self::TooLarge { size } => write!(f, "`context`: {size} bytes, at most {SPACE_CONTEXT_BYTES_MAX}"),
            Self::Conflict(what) => f.write_str(what),
            Self::Full => write!(f, "there are {SPACES_MAX} spaces, archived ones counted; archive one that is not needed and delete it"),
            Self::Io(e) => write!(f, "spaces: {e}"),
        }
    }
}

impl std::error::Error for SpaceError {}

impl From<io::Error> for SpaceError {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

const ARCHIVED: SpaceError = SpaceError::Conflict("the space is archived; restore it first");

/// All spaces of this home.
pub struct Spaces {
    shelf: Shelf<Space>,
    seams: Seams,
}

impl Spaces {
    /// The spaces in this directory; nothing is read yet.
    pub fn open(dir: PathBuf, seams: Seams) -> Self {
        Self { shelf: Shelf::open(dir, seams.clone()), seams }
    }

    /// This owner's, oldest first, archived ones too.
    pub fn list(&self, owner: OwnerId) -> Result<Vec<Space>, SpaceError> {
        Ok(self.shelf.hold()?.list(owner)?)
    }

    /// How many of this owner's are in use.
    pub fn active(&self, owner: OwnerId) -> Result<usize, SpaceError> {
        Ok(self.list(owner)?.iter().filter(|space| space.status == Status::Active).count())
    }

    /// One of this owner's.
    pub fn find(&self, owner: OwnerId, id: SpaceId) -> Result<Space, SpaceError> {
        self.shelf.hold()?.find(owner, id)?.ok_or(SpaceError::NotFound)
    }

    /// The one whose context holds for this id: itself, or the one that it was merged into.
    pub fn resolve(&self, owner: OwnerId, id: SpaceId) -> Result<Space, SpaceError> {
        resolve(&mut self.shelf.hold()?, owner, id)
    }

    /// The owner's default for new sessions.
    pub fn current(&self, owner: OwnerId) -> Result<Option<Space>, SpaceError> {
        Ok(self.shelf.hold()?.current(owner)?)
    }

    /// Makes one; durable when this returns.
    pub fn create(&self, owner: OwnerId, new: NewSpace) -> Result<Space, SpaceError> {
        check(&new)?;
        self.make(&mut self.shelf.hold()?, owner, SpaceId::random(&*self.seams.random), new)
    }

    /// A message is said in this space. An unknown id makes a space, as an unknown session id makes a session: `true`.
    ///
    /// # Errors
    /// It is another owner's (not found), it is archived, or there are too many.
    pub fn enter(&self, owner: OwnerId, id: SpaceId) -> Result<(Space, bool), SpaceError> {
        let mut shelf = self.shelf.hold()?;
        if shelf.is_broken(id)? {
            return Err(SpaceError::Conflict("the space's file cannot be read; the server's log says which"));
        }
        if shelf.whoever(id)?.is_none() {
            let name = format!("Space {}", id.to_string().get(..8).unwrap_or_default());
            return Ok((self.make(&mut shelf, owner, id, NewSpace { name, ..NewSpace::default() })?, true));
        }
        Ok((open_to(&mut shelf, owner, id)?, false))
    }

    /// The one that a message in it is said in: itself, or the one that it was merged into.
    ///
    /// # Errors
    /// There is none, it is another owner's (both not found), or it is archived.
    pub fn open_to(&self, owner: OwnerId, id: SpaceId) -> Result<Space, SpaceError> {
        open_to(&mut self.shelf.hold()?, owner, id)
    }

    /// Changes what it is called and what it tells the model.
    pub fn change(&self, owner: OwnerId, id: SpaceId, change: Change) -> Result<Space, SpaceError> {
        let mut shelf = self.shelf.hold()?;
        let old = shelf.find(owner, id)?.ok_or(SpaceError::NotFound)?;
        let new = NewSpace {
            name: change.name.unwrap_or_else(|| old.name.clone()),
            description: change.description.unwrap_or_else(|| old.description.clone()),
            context: change.context.unwrap_or_else(|| old.context.clone()),
        };
        check(&new)?;
        let NewSpace { name, description, context } = new;
        self.put(&mut shelf, Space { name, description, context, ..old })
    }

    /// Makes it the owner's default for new sessions.
    pub fn activate(&self, owner: OwnerId, id: SpaceId) -> Result<Space, SpaceError> {
        let mut shelf = self.shelf.hold()?;
        let space = shelf.find(owner, id)?.ok_or(SpaceError::NotFound)?;
        if space.status == Status::Archived {
            return Err(ARCHIVED);
        }
        shelf.choose(owner, Some(id))?;
        Ok(space)
    }

    /// Puts it away. Where it was the owner's default there is none. `false`: it was put away already.
    pub fn archive(&self, owner: OwnerId, id: SpaceId) -> Result<(Space, bool), SpaceError> {
        let mut shelf = self.shelf.hold()?;
        let space = shelf.find(owner, id)?.ok_or(SpaceError::NotFound)?;
        if space.status == Status::Archived {
            return Ok((space, false));
        }
        if shelf.current(owner)?.is_some_and(|current| current.id == id) {
            shelf.choose(owner, None)?;
        }
        Ok((self.put(&mut shelf, Space { status: Status::Archived, ..space })?, true))
    }

    /// Takes it out again; one that was merged is a space of its own again.
    pub fn restore(&self, owner: OwnerId, id: SpaceId) -> Result<Space, SpaceError> {
        let mut shelf = self.shelf.hold()?;
        let space = shelf.find(owner, id)?.ok_or(SpaceError::NotFound)?;
        if space.status == Status::Active {
            return Ok(space);
        }
        self.put(&mut shelf, Space { status: Status::Active, merged_into: None, ..space })
    }

    /// Makes `from` a part of `into`: it is archived, and what is said in it is said in `into`.
    pub fn merge(&self, owner: OwnerId, from: SpaceId, into: SpaceId) -> Result<Space, SpaceError> {
        if from == into {
            return Err(SpaceError::Conflict("`from` and `into` are the same space"));
        }
        let mut shelf = self.shelf.hold()?;
        let (gone, stays) = (shelf.find(owner, from)?.ok_or(SpaceError::NotFound)?, shelf.find(owner, into)?.ok_or(SpaceError::NotFound)?);
        // A merged space is archived, so `into` leads nowhere else and a chain of merges has an end.
        if gone.status == Status::Archived || stays.status == Status::Archived {
            return Err(ARCHIVED);
        }
        if shelf.current(owner)?.is_some_and(|current| current.id == from) {
            shelf.choose(owner, Some(into))?;
        }
        self.put(&mut shelf, Space { status: Status::Archived, merged_into: Some(into), ..gone })?;
        Ok(stays)
    }

    /// Lets an archived one go. What was merged into it is an archived space of its own from then on.
    pub fn delete(&self, owner: OwnerId, id: SpaceId) -> Result<(), SpaceError> {
        let mut shelf = self.shelf.hold()?;
        let space = shelf.find(owner, id)?.ok_or(SpaceError::NotFound)?;
        if space.status == Status::Active {
            return Err(SpaceError::Conflict("the space is in use; archive it first"));
        }
        // What was said in it is said elsewhere now; without it, those sessions would be said nowhere.
        if space.merged_into.map(|into| shelf.find(owner, into)).transpose()?.flatten().is_some() {
            return Err(SpaceError::Conflict("the space leads to the one that it was merged into; restore it first, then archive it"));
        }
        // First those that lead here: stopped in between, each of them is an archived one as before.
        for led in shelf.list(owner)?.into_iter().filter(|other| other.merged_into == Some(id)) {
            self.put(&mut shelf, Space { merged_into: None, ..led })?;
        }
        Ok(shelf.remove(id)?)
    }

    fn make(&self, shelf: &mut Held<'_, Space>, owner: OwnerId, id: SpaceId, new: NewSpace) -> Result<Space, SpaceError> {
        if shelf.count(owner) >= SPACES_MAX {
            return Err(SpaceError::Full);
        }
        let now = self.seams.clock.now();
        let NewSpace { name, description, context } = new;
        let (status, merged_into) = (Status::Active, None);
        self.put(shelf, Space { id, owner, name, description, context, status, merged_into, created_at: now, updated_at: now })
    }

    fn put(&self, shelf: &mut Held<'_, Space>, space: Space) -> Result<Space, SpaceError> {
        let space = Space { updated_at: self.seams.clock.now(), ..space };
        shelf.put(&space)?;
        Ok(space)
    }
}

fn open_to(shelf: &mut Held<'_, Space>, owner: OwnerId, id: SpaceId) -> Result<Space, SpaceError> {
    let space = resolve(shelf, owner, id)?;
    if space.status == Status::Archived { Err(ARCHIVED) } else { Ok(space) }
}

fn resolve(shelf: &mut Held<'_, Space>, owner: OwnerId, id: SpaceId) -> Result<Space, SpaceError> {
    let mut space = shelf.find(owner, id)?.ok_or(SpaceError::NotFound)?;
    // Files may be edited by hand: a ring of merges ends here.
    for _ in 0..SPACES_MAX {
        let Some(into) = space.merged_into else { break };
        match shelf.find(owner, into)? {
            Some(into) => space = into,
            None => break,
        }
    }
    Ok(space)
}

fn check(new: &NewSpace) -> Result<(), SpaceError> {
    let unfit = |what: String| Err(SpaceError::Unfit(what));
    if new.context.len() > SPACE_CONTEXT_BYTES_MAX {
        return Err(SpaceError::TooLarge { size: new.context.len() });
    }
    if new.name.trim().is_empty() || new.name.len() > LABEL_BYTES_MAX || new.name.chars().any(char::is_control) {
        return unfit(format!("`name` must be one line of at most {LABEL_BYTES_MAX} bytes, and not empty"));
    }
    if new.description.len() > DESCRIPTION_BYTES_MAX {
        return unfit(format!("`description` may have {DESCRIPTION_BYTES_MAX} bytes"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::{memory_seams, test_seams};

    fn new(name: &str) -> NewSpace {
        NewSpace { name: name.into(), description: String::new(), context: format!("This is {name}.") }
    }

    #[test]
    fn a_merged_space_leads_on_until_it_is_restored_also_after_a_restart() {
        let (dir, seams) = test_seams("spaces");
        let (owner, other) = (OwnerId::derived(&[1; 32]), OwnerId::derived(&[2; 32]));
        let spaces = Spaces::open(dir.clone(), seams.clone());
        let [a, b, c] = ["a", "b", "c"].map(|name| spaces.create(owner, new(name)).unwrap().id);
        spaces.activate(owner, a).unwrap();
        spaces.merge(owner, a, b).unwrap();
        spaces.merge(owner, b, c).unwrap();
        assert!(matches!(spaces.merge(owner, c, a), Err(SpaceError::Conflict(_))), "no ring");
        assert!(matches!(spaces.find(other, a), Err(SpaceError::NotFound)));
        assert!(matches!(spaces.enter(other, a), Err(SpaceError::NotFound)));
        for spaces in [&spaces, &Spaces::open(dir, seams)] {
            assert_eq!(spaces.current(owner).unwrap().unwrap().id, c);
            assert_eq!(spaces.resolve(owner, a).unwrap().context, "This is c.");
            assert_eq!(spaces.enter(owner, a).unwrap().0.id, c);
            assert_eq!((spaces.active(owner).unwrap(), spaces.active(other).unwrap()), (1, 0));
        }
        assert!(matches!(spaces.delete(other, b), Err(SpaceError::NotFound)));
        assert!(matches!(spaces.delete(owner, c), Err(SpaceError::Conflict(_))), "it is in use");
        assert!(matches!(spaces.delete(owner, b), Err(SpaceError::Conflict(_))), "what was said in it is said in c");
        spaces.archive(owner, c).unwrap();
        spaces.delete(owner, c).unwrap();
        spaces.delete(owner, b).unwrap();
        assert!(matches!(spaces.enter(owner, a), Err(SpaceError::Conflict(_))), "it leads nowhere, and is archived");
        assert_eq!(spaces.restore(owner, a).unwrap().merged_into, None);
        assert_eq!(spaces.resolve(owner, a).unwrap().context, "This is a.");
    }

    #[test]
    fn where_there_are_too_many_the_advice_makes_room() {
        let (_, seams) = memory_seams();
        let spaces = Spaces::open("/w/spaces".into(), seams);
        let owner = OwnerId::derived(&[1; 32]);
        let made: Vec<SpaceId> = (0..SPACES_MAX).map(|_| spaces.create(owner, new("a")).unwrap().id).collect();
        let refused = spaces.create(owner, new("b")).unwrap_err();
        assert!(matches!(refused, SpaceError::Full) && refused.to_string().ends_with("archive one that is not needed and delete it"));
        assert!(matches!(spaces.enter(owner, SpaceId::derived(&[9; 32])), Err(SpaceError::Full)));
        spaces.archive(owner, made[7]).unwrap();
        spaces.delete(owner, made[7]).unwrap();
        spaces.create(owner, new("b")).unwrap();
    }

    #[test]
    fn an_archived_space_takes_nothing_and_is_nobodys_default() {
        let (dir, seams) = test_seams("spaces-archive");
        let spaces = Spaces::open(dir, seams);
        let owner = OwnerId::derived(&[1; 32]);
        let named = SpaceId::derived(&[9; 32]);
        assert!(spaces.enter(owner, named).unwrap().1, "an unknown id makes a space");
        assert!(!spaces.enter(owner, named).unwrap().1);
        spaces.activate(owner, named).unwrap();
        assert!(spaces.archive(owner, named).unwrap().1 && !spaces.archive(owner, named).unwrap().1);
        assert!(spaces.current(owner).unwrap().is_none());
        assert!(matches!(spaces.enter(owner, named), Err(SpaceError::Conflict(_))));
        assert!(matches!(spaces.activate(owner, named), Err(SpaceError::Conflict(_))));
        spaces.restore(owner, named).unwrap();
        let changed = spaces.change(owner, named, Change { context: Some("new".into()), ..Change::default() }).unwrap();
        assert_eq!((changed.context.as_str(), changed.name.len()), ("new", 14));
        let long = Change { context: Some("x".repeat(SPACE_CONTEXT_BYTES_MAX + 1)), ..Change::default() };
        assert!(matches!(spaces.change(owner, named, long), Err(SpaceError::TooLarge { .. })));
    }
}
