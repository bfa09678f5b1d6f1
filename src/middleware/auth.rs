//! Authentication: one function for every transport and every kind of credential.

use crate::base::ids::{KeyId, OwnerId};

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// See what belongs to the owner.
    Read,
    /// Send messages.
    Chat,
    /// Change and delete.
    Write,
    /// Decide approvals.
    Approve,
    /// Keys and configuration.
    Admin,
}

/// Evidence that a credential was checked. Only this module makes one.
#[derive(Debug, Clone)]
pub struct Caller {
    key_id: KeyId,
    owner: OwnerId,
}

impl Caller {
    /// The key that was shown.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }
    /// Whom it belongs to.
    pub fn owner(&self) -> OwnerId {
        self.owner
    }
}

/// Ends when the caller's key is revoked or runs out, or the server stops; for streams, checked at least every second.
#[derive(Debug, Clone)]
pub struct Ends(());

/// Why a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The key was revoked or ran out.
    Revoked,
    /// The server stops.
    Shutdown,
}

impl Ends {
    /// Waits for the end; cancel-safe.
    pub async fn ended(&self) -> End {
        todo!()
    }
}
