//! Personas: manners of speaking and working, as text that stands among the model's instructions. Each belongs to an owner, who
//! may choose one as the default for new sessions; a session keeps the one it began with. `<workspace>/personas/<id>.json`.
//! Everything here blocks.

use std::fmt;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::base::ids::{OwnerId, PersonaId};
use crate::base::limits::{DESCRIPTION_BYTES_MAX, LABEL_BYTES_MAX, PERSONA_PROMPT_BYTES_MAX, PERSONAS_MAX};
use crate::base::time::Timestamp;
use crate::store::home::Seams;
use crate::store::shelf::{Shelf, Thing};

/// A manner of speaking and working.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Persona {
    /// Its id.
    pub id: PersonaId,
    /// Whose it is.
    pub owner: OwnerId,
    /// Its name.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// What stands among the model's instructions.
    pub prompt: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Thing for Persona {
    type Id = PersonaId;
    fn id(&self) -> PersonaId {
        self.id
    }
    fn owner(&self) -> OwnerId {
        self.owner
    }
    fn created_at(&self) -> Timestamp {
        self.created_at
    }
}

/// What a persona is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewPersona {
    /// At most [`LABEL_BYTES_MAX`], one line.
    pub name: String,
    /// At most [`DESCRIPTION_BYTES_MAX`].
    pub description: String,
    /// At most [`PERSONA_PROMPT_BYTES_MAX`], not blank.
    pub prompt: String,
}

/// Why it was not kept or found.
#[derive(Debug)]
pub enum PersonaError {
    /// There is none of this id, or it is another owner's.
    NotFound,
    /// A field is out of its limits; the text says which.
    Unfit(String),
    /// The prompt is larger than [`PERSONA_PROMPT_BYTES_MAX`].
    TooLarge {
        /// Its bytes.
        size: usize,
    },
    /// This owner has [`PERSONAS_MAX`].
    Full,
    /// The disk refused; private.
    Io(io::Error),
}

impl fmt::Display for PersonaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("no such persona"),
            Self::Unfit(what) => f.write_str(what),
            Self::TooLarge { size } => write!(f, "`prompt`: {size} bytes, at most {PERSONA_PROMPT_BYTES_MAX}"),
            Self::Full => write!(f, "there are {PERSONAS_MAX} personas; delete some first"),
            Self::Io(e) => write!(f, "personas: {e}"),
        }
    }
}

impl std::error::Error for PersonaError {}

impl From<io::Error> for PersonaError {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// All personas of this home.
pub struct Personas {
    shelf: Shelf<Persona>,
    seams: Seams,
}

impl Personas {
    /// The personas in this directory; nothing is read yet.
    pub fn open(dir: PathBuf, seams: Seams) -> Self {
        Self { shelf: Shelf::open(dir, seams.clone()), seams }
    }

    /// This owner's, oldest first.
    pub fn list(&self, owner: OwnerId) -> Result<Vec<Persona>, PersonaError> {
        Ok(self.shelf.hold()?.list(owner)?)
    }

    /// One of this owner's.
    pub fn find(&self, owner: OwnerId, id: PersonaId) -> Result<Persona, PersonaError> {
        self.shelf.hold()?.find(owner, id)?.ok_or(PersonaError::NotFound)
    }

    /// Makes one; durable when this returns.
    pub fn create(&self, owner: OwnerId, new: NewPersona) -> Result<Persona, PersonaError> {
        check(&new)?;
        let mut shelf = self.shelf.hold()?;
        if shelf.count(owner) >= PERSONAS_MAX {
            return Err(PersonaError::Full);
        }
        let now = self.seams.clock.now();
        let NewPersona { name, description, prompt } = new;
        let id = PersonaId::random(&*self.seams.random);
        let persona = Persona { id, owner, name, description, prompt, created_at: now, updated_at: now };
        shelf.put(&persona)?;
        Ok(persona)
    }

    /// Puts this in the place of what it was; sessions that have it go on with the new text.
    pub fn update(&self, owner: OwnerId, id: PersonaId, new: NewPersona) -> Result<Persona, PersonaError> {
        check(&new)?;
        let mut shelf = self.shelf.hold()?;
        let old = shelf.find(owner, id)?.ok_or(PersonaError::NotFound)?;
        let NewPersona { name, description, prompt } = new;
        let persona = Persona { name, description, prompt, updated_at: self.seams.clock.now(), ..old };
        shelf.put(&persona)?;
        Ok(persona)
    }

    /// Lets one go. Where it was the owner's default there is none; sessions that have it go on without.
    pub fn delete(&self, owner: OwnerId, id: PersonaId) -> Result<(), PersonaError> {
        let mut shelf = self.shelf.hold()?;
        shelf.find(owner, id)?.ok_or(PersonaError::NotFound)?;
        Ok(shelf.remove(id)?)
    }

    /// The owner's default for new sessions.
    pub fn active(&self, owner: OwnerId) -> Result<Option<Persona>, PersonaError> {
        Ok(self.shelf.hold()?.current(owner)?)
    }

    /// Makes one the owner's default, or none.
    pub fn set_active(&self, owner: OwnerId, id: Option<PersonaId>) -> Result<Option<Persona>, PersonaError> {
        let mut shelf = self.shelf.hold()?;
        let persona = id.map(|id| shelf.find(owner, id)?.ok_or(PersonaError::NotFound)).transpose()?;
        shelf.choose(owner, id)?;
        Ok(persona)
    }
}

fn check(new: &NewPersona) -> Result<(), PersonaError> {
    let unfit = |what: String| Err(PersonaError::Unfit(what));
    if new.prompt.len() > PERSONA_PROMPT_BYTES_MAX {
        return Err(PersonaError::TooLarge { size: new.prompt.len() });
    }
    if new.prompt.trim().is_empty() {
        return unfit("`prompt` is empty".into());
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

    fn new(name: &str) -> NewPersona {
        NewPersona { name: name.into(), description: String::new(), prompt: format!("Speak like {name}.") }
    }

    #[test]
    fn kept_changed_chosen_and_found_after_a_restart_by_their_owner_alone() {
        let (dir, seams) = test_seams("personas");
        let (owner, other) = (OwnerId::derived(&[1; 32]), OwnerId::derived(&[2; 32]));
        let personas = Personas::open(dir.clone(), seams.clone());
        assert!(personas.list(owner).unwrap().is_empty() && personas.active(owner).unwrap().is_none());
        let pirate = personas.create(owner, new("pirate")).unwrap();
        assert!(matches!(personas.set_active(other, Some(pirate.id)), Err(PersonaError::NotFound)));
        assert!(matches!(personas.update(other, pirate.id, new("x")), Err(PersonaError::NotFound)));
        assert!(matches!(personas.delete(other, pirate.id), Err(PersonaError::NotFound)));
        personas.set_active(owner, Some(pirate.id)).unwrap();
        let poet = personas.update(owner, pirate.id, new("poet")).unwrap();
        let again = Personas::open(dir.clone(), seams.clone());
        assert_eq!(again.list(owner).unwrap(), std::slice::from_ref(&poet));
        assert_eq!(again.active(owner).unwrap(), Some(poet));
        assert!(again.active(other).unwrap().is_none());
        again.delete(owner, pirate.id).unwrap();
        assert!(again.active(owner).unwrap().is_none() && again.list(owner).unwrap().is_empty());
        crate::rooms::touch(&dir);
        // The first house did not write that, and sees it.
        assert!(personas.list(owner).unwrap().is_empty() && personas.active(owner).unwrap().is_none());
    }

    #[test]
    fn what_was_made_chosen_and_taken_away_stays_so_after_a_power_cut() {
        let (disk, seams) = memory_seams();
        let (dir, owner) = (PathBuf::from("/w/personas"), OwnerId::derived(&[1; 32]));
        let after = || Personas::open(dir.clone(), Seams { disk: std::sync::Arc::new(disk.power_cut()), ..seams.clone() });
        let personas = Personas::open(dir.clone(), seams.clone());
        let pirate = personas.create(owner, new("pirate")).unwrap();
        personas.set_active(owner, Some(pirate.id)).unwrap();
        assert_eq!(after().active(owner).unwrap(), Some(pirate.clone()));
        personas.delete(owner, pirate.id).unwrap();
        assert!(after().list(owner).unwrap().is_empty() && after().active(owner).unwrap().is_none());
    }

    #[test]
    fn fields_have_limits() {
        let (dir, seams) = test_seams("personas-limits");
        let personas = Personas::open(dir, seams);
        let owner = OwnerId::derived(&[1; 32]);
        let long = NewPersona { prompt: "x".repeat(PERSONA_PROMPT_BYTES_MAX + 1), ..new("a") };
        assert!(matches!(personas.create(owner, long), Err(PersonaError::TooLarge { .. })));
        for bad in [new(""), new("a\nb"), new(&"x".repeat(LABEL_BYTES_MAX + 1)), NewPersona { prompt: " ".into(), ..new("a") }] {
            assert!(matches!(personas.create(owner, bad), Err(PersonaError::Unfit(_))));
        }
    }
}
