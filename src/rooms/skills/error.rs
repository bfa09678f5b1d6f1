//! Why something about a skill was not done.

use std::fmt;
use std::io;

use super::Source;
use crate::base::limits::{DESCRIPTION_BYTES_MAX, SKILL_BYTES_MAX, SKILL_FILE_BYTES_MAX, SKILL_NAME_CHARS_MAX, SKILLS_MAX};
use crate::sys::root::RootError;

/// Why something about a skill was not done. The text is public except of [`SkillError::Io`].
#[derive(Debug)]
pub enum SkillError {
    /// There is none of this name (or the name is none).
    NotFound,
    /// It is off or something that it requires is missing.
    NotReady,
    /// The name is none that a skill may have.
    BadName,
    /// The description is empty or longer than [`DESCRIPTION_BYTES_MAX`].
    BadDescription,
    /// There is one of this name.
    Taken,
    /// There are [`SKILLS_MAX`] of this source.
    Full(Source),
    /// It is in the binary, which cannot be changed.
    Bundled,
    /// The file is no text, or larger than [`SKILL_FILE_BYTES_MAX`].
    Unfit,
    /// The content is larger than [`SKILL_BYTES_MAX`].
    TooLarge,
    /// It cannot be installed, and why.
    Refused(String),
    /// The system refused; private.
    Io(io::Error),
}

impl fmt::Display for SkillError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("no such skill"),
            Self::NotReady => f.write_str("the skill is switched off, or something that it requires is missing"),
            Self::BadName => write!(f, "a skill's name has 1 to {SKILL_NAME_CHARS_MAX} letters (a-z, A-Z), digits, `-` and `_`"),
            Self::BadDescription => write!(f, "`description` has 1 to {DESCRIPTION_BYTES_MAX} bytes"),
            Self::Taken => f.write_str("there is a skill of this name already"),
            Self::Full(Source::Managed) => write!(f, "{SKILLS_MAX} skills are installed; remove one of them first"),
            Self::Full(_) => write!(f, "there are {SKILLS_MAX} skills of your own; delete one of them first"),
            Self::Bundled => f.write_str("a bundled skill cannot be deleted; disable it instead"),
            Self::Unfit => write!(f, "the skill is no text of at most {SKILL_FILE_BYTES_MAX} bytes"),
            Self::TooLarge => write!(f, "a skill is limited to {SKILL_BYTES_MAX} bytes"),
            Self::Refused(why) => f.write_str(why),
            Self::Io(e) => write!(f, "skills: {e}"),
        }
    }
}

impl std::error::Error for SkillError {}

impl From<RootError> for SkillError {
    fn from(e: RootError) -> Self {
        match e {
            RootError::TooLarge { .. } => Self::Unfit,
            RootError::Io(e) => Self::Io(e),
            _ => Self::NotFound,
        }
    }
}

impl From<io::Error> for SkillError {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}
