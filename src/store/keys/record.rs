//! What is known of a key: whose it is and what it may do. The secret itself is nowhere.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::ids::{KeyId, OwnerId};
use crate::base::time::Timestamp;
use crate::store::keys::budget::Budget;

/// What a key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Tokens that it may use, where they are limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// It was rotated and goes on for its overlap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotated: Option<Rotated>,
    /// It was revoked.
    pub revoked: bool,
}

/// What a rotated key would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotated {
    /// When it would lapse by itself.
    pub own_end: Option<Timestamp>,
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
    /// Tokens that it may use: a new budget, or one that it shares.
    pub budget: Option<Budget>,
}

/// What keys that a key makes have at most: they end with it and are no faster. Nothing bounds what the owner of the home makes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bounds {
    /// When it lapses.
    pub expires_at: Option<Timestamp>,
    /// Its own rate.
    pub rate_limit_per_minute: Option<u32>,
}

impl Bounds {
    /// The wished end, or an earlier one.
    pub fn end(&self, wished: Option<Timestamp>) -> Option<Timestamp> {
        self.expires_at.into_iter().chain(wished).min()
    }
    /// The wished rate, or a lower one.
    pub fn rate(&self, wished: Option<u32>) -> Option<u32> {
        self.rate_limit_per_minute.into_iter().chain(wished).min()
    }
}

impl Scope {
    /// All of them, in the order in which they are written.
    pub const ALL: [Scope; 5] = [Scope::Read, Scope::Chat, Scope::Write, Scope::Approve, Scope::Admin];

    /// As in `keys.json` and the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Chat => "chat",
            Self::Write => "write",
            Self::Approve => "approve",
            Self::Admin => "admin",
        }
    }
    /// Reads a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

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
    /// It holds all of those.
    pub fn holds(self, others: Scopes) -> bool {
        self.0 & others.0 == others.0
    }
    /// The scopes in it.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.has(*scope))
    }
}

impl Serialize for Scopes {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Scopes {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(Self::of(&Vec::<Scope>::deserialize(d)?))
    }
}

impl KeyRecord {
    /// When it lapses by itself, or would if it had not been rotated: a key that is made in its place lives so long.
    pub fn own_end(&self) -> Option<Timestamp> {
        self.rotated.map_or(self.expires_at, |rotated| rotated.own_end)
    }
    /// It may be used at this time.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        !self.revoked && self.expires_at.is_none_or(|until| now < until)
    }
}

#[cfg(test)]
impl schemars::JsonSchema for Scopes {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Scopes".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        generator.subschema_for::<Vec<Scope>>()
    }
}
