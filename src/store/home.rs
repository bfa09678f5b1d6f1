//! The home: one directory, owned by one process.

use std::path::Path;
use std::sync::Arc;

use crate::base::digest::Keyed;
use crate::base::random::Random;
use crate::base::time::Clock;
use crate::store::StoreError;
use crate::sys::disk::Disk;

/// What the store takes as arguments, so that a test owns it.
#[derive(Clone)]
pub struct Seams {
    /// Files.
    pub disk: Arc<dyn Disk>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
}

/// Whether there is room for new messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Space {
    /// Yes.
    Enough,
    /// No; heals by itself within 5 s of space coming back.
    Full {
        /// What was found, in public words.
        why: String,
    },
}

/// The home directory, locked for this process.
pub struct Home {}

impl Home {
    /// Opens (or makes) the home.
    pub fn open(_home: &Path, _workspace: Option<&Path>, _seams: Seams) -> Result<Arc<Self>, StoreError> {
        todo!()
    }
    /// Its directory.
    pub fn path(&self) -> &Path {
        todo!()
    }
    /// The workspace (`<home>/workspace` or what was given).
    pub fn workspace(&self) -> &Path {
        todo!()
    }
    /// HMACs under `<home>/secret`.
    pub fn keyed(&self) -> &Keyed {
        todo!()
    }
    /// Disk, clock, randomness.
    pub fn seams(&self) -> &Seams {
        todo!()
    }
    /// Room for new messages? Looks at the disk at most every 5 s, or after a write failed.
    pub fn space(&self) -> Space {
        todo!()
    }
    /// Writes `<home>/address`.
    pub fn write_address(&self, _address: &str) -> Result<(), StoreError> {
        todo!()
    }
    /// Removes `<home>/address`.
    pub fn clear_address(&self) {
        todo!()
    }
}
