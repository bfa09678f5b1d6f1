//! API keys: who may do what. Only hashes are kept.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::base::ids::{KeyId, OwnerId};
use crate::base::secret::Secret;
use crate::base::time::Timestamp;
use crate::store::StoreError;
use crate::store::home::{Home, Seams};

/// What a key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// See sessions, events, memory, status.
    Read,
    /// Send messages, cancel them.
    Chat,
    /// Change memory, skills, workspace files, sessions.
    Write,
    /// Decide approvals.
    Approve,
    /// Keys, configuration, other owners' keys.
    Admin,
}

/// A set of scopes; never optional.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u8);

/// A key without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyRecord {
    /// Its id; not secret.
    pub id: KeyId,
    /// Whose it is.
    pub owner: OwnerId,
    /// A label for people.
    pub name: String,
    /// What it may do.
    pub scopes: Scopes,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it lapses.
    pub expires_at: Option<Timestamp>,
    /// Its own rate, where it has one.
    pub rate_limit_per_minute: Option<u32>,
    /// It was revoked.
    pub revoked: bool,
}

/// Whose key to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewOwner {
    /// Of an owner that exists.
    Of(OwnerId),
    /// A new owner is made with the key.
    New,
}

/// A key to make.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// A label for people.
    pub name: String,
    /// Whose.
    pub owner: NewOwner,
    /// What it may do.
    pub scopes: Scopes,
    /// When it lapses.
    pub expires_at: Option<Timestamp>,
    /// Its own rate.
    pub rate_limit_per_minute: Option<u32>,
}

/// All keys of a home.
pub struct Keys {}

impl Scopes {
    /// No scope.
    pub const NONE: Scopes = Scopes(0);
    /// Every scope.
    pub const ALL: Scopes = Scopes(0b1_1111);
    /// These scopes.
    pub fn of(scopes: &[Scope]) -> Self {
        Self(scopes.iter().fold(0, |bits, scope| bits | (1 << *scope as u8)))
    }
    /// It holds this one.
    pub fn has(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u8) != 0
    }
}

impl Serialize for Scopes {
    fn serialize<S: serde::Serializer>(&self, _s: S) -> Result<S::Ok, S::Error> {
        todo!()
    }
}

impl Keys {
    /// The keys of an opened home; makes the first key (`<home>/token`) where there is none.
    pub fn open(_home: &Arc<Home>) -> Result<Self, StoreError> {
        todo!()
    }
    /// The same without owning the home: for the command line while a server runs.
    pub fn beside(_home: &Path, _seams: Seams) -> Result<Self, StoreError> {
        todo!()
    }
    /// Accepts one more key of the first owner with every scope (`OXIOS_API_KEY`); it is not stored.
    pub fn accept_also(&self, _key: &Secret) {
        todo!()
    }
    /// The record of a presented key, also where it is revoked or expired (the caller looks).
    pub fn find(&self, _presented: &str) -> Option<KeyRecord> {
        todo!()
    }
    /// The record of a key by its id (for tickets and cookies).
    pub fn by_id(&self, _id: KeyId) -> Option<KeyRecord> {
        todo!()
    }
    /// The owner of the first key and of everything without an owner.
    pub fn first_owner(&self) -> OwnerId {
        todo!()
    }
    /// Makes a key; the secret is shown this once.
    pub fn create(&self, _key: NewKey) -> Result<(KeyRecord, Secret), StoreError> {
        todo!()
    }
    /// The keys of an owner, oldest first.
    pub fn list(&self, _owner: OwnerId) -> Vec<KeyRecord> {
        todo!()
    }
    /// Revokes a key of this owner.
    pub fn revoke(&self, _owner: OwnerId, _id: KeyId) -> Result<(), StoreError> {
        todo!()
    }
    /// Reads `keys.json` again if it was replaced; one `stat`. `find` does it by itself.
    pub fn reload_if_changed(&self) {
        todo!()
    }
}
