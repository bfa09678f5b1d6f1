//! What a memory is: its kinds, its fields and their limits.

use serde::{Deserialize, Serialize};

use crate::base::ids::{MemoryId, OwnerId};
use crate::base::limits::{MEMORY_BYTES_MAX, TAG_BYTES_MAX, TAGS_MAX};
use crate::base::time::Timestamp;
use crate::rooms::memory::MemoryError;

/// What kind of memory: the directory it lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// Something that is so.
    Facts,
    /// Something that happened.
    Episodes,
    /// Something learnt.
    Knowledge,
}

impl Category {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Facts, Self::Episodes, Self::Knowledge];

    /// From a `memory_type`: `fact`, `episode`, `knowledge`.
    pub fn from_type(memory_type: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.memory_type() == memory_type)
    }
    /// The word in `memory_type`.
    pub fn memory_type(self) -> &'static str {
        match self {
            Self::Facts => "fact",
            Self::Episodes => "episode",
            Self::Knowledge => "knowledge",
        }
    }
    /// The word in `category`, and the directory.
    pub fn name(self) -> &'static str {
        match self {
            Self::Facts => "facts",
            Self::Episodes => "episodes",
            Self::Knowledge => "knowledge",
        }
    }
}

/// One memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its id.
    pub id: MemoryId,
    /// Whose it is.
    pub owner: OwnerId,
    /// What kind.
    pub category: Category,
    /// The text.
    pub content: String,
    /// Words it is filed under.
    pub tags: Vec<String>,
    /// 0 to 1.
    pub importance: f32,
    /// It is put before the model at the beginning of every run, as far as there is room.
    #[serde(default)]
    pub pinned: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed; absent where it never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<Timestamp>,
}

/// A memory to be kept.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEntry {
    /// What kind.
    pub category: Category,
    /// The text, at most [`MEMORY_BYTES_MAX`].
    pub content: String,
    /// At most [`TAGS_MAX`] of [`TAG_BYTES_MAX`].
    pub tags: Vec<String>,
    /// 0 to 1.
    pub importance: f32,
    /// Put before the model at the beginning of every run.
    pub pinned: bool,
}

/// What is to be changed of a memory; what is absent stays.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Change {
    /// What kind.
    pub category: Option<Category>,
    /// As in [`NewEntry`].
    pub content: Option<String>,
    /// As in [`NewEntry`]; in place of all that it had.
    pub tags: Option<Vec<String>>,
    /// As in [`NewEntry`].
    pub importance: Option<f32>,
    /// As in [`NewEntry`].
    pub pinned: Option<bool>,
}

impl Entry {
    /// When it got the content that it has.
    pub(super) fn changed_at(&self) -> Timestamp {
        self.updated_at.unwrap_or(self.created_at)
    }

    /// As it would be after this change, for [`check`].
    pub(super) fn changed(&self, change: Change) -> NewEntry {
        NewEntry {
            category: change.category.unwrap_or(self.category),
            content: change.content.unwrap_or_else(|| self.content.clone()),
            tags: change.tags.unwrap_or_else(|| self.tags.clone()),
            importance: change.importance.unwrap_or(self.importance),
            pinned: change.pinned.unwrap_or(self.pinned),
        }
    }
}

/// The fields are within their limits.
pub(super) fn check(new: &NewEntry) -> Result<(), MemoryError> {
    if new.content.len() > MEMORY_BYTES_MAX {
        return Err(MemoryError::TooLarge { size: new.content.len() });
    }
    let unfit = |what: String| Err(MemoryError::Unfit(what));
    if new.content.trim().is_empty() {
        return unfit("`content` is empty".into());
    }
    if !(0.0..=1.0).contains(&new.importance) {
        return unfit("`importance` must be between 0 and 1".into());
    }
    if new.tags.len() > TAGS_MAX || new.tags.iter().any(|tag| tag.trim().is_empty() || tag.len() > TAG_BYTES_MAX) {
        return unfit(format!("`tags` may hold {TAGS_MAX} words of at most {TAG_BYTES_MAX} bytes"));
    }
    Ok(())
}
