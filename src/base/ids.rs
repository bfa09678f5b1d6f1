//! Typed identifiers. All are UUIDs (RFC 9562) written in lower case with hyphens; anything else does not parse.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::base::random::Random;

/// A position in one session's log: 1, 2, 3 … ; 0 means "before the first record".
pub type Seq = u64;

/// The text is not a UUID in lower-case hyphenated form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadId;

impl fmt::Display for BadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a UUID in lower-case hyphenated form")
    }
}

impl std::error::Error for BadId {}

/// 16 bytes of the random source as a version 4 UUID (RFC 9562 §5.4).
pub fn random_uuid(random: &dyn Random) -> Uuid {
    let mut bytes = [0; 16];
    random.fill(&mut bytes);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

/// The first 16 bytes of a keyed digest as a version 8 UUID (RFC 9562 §5.8).
pub fn derived_uuid(digest: &[u8; 32]) -> Uuid {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

fn parse(text: &str) -> Result<Uuid, BadId> {
    // `Uuid::try_parse` also takes braces, URNs and upper case; one spelling per id keeps file names and comparisons simple.
    let bytes = text.as_bytes();
    let plain = bytes.len() == 36
        && bytes.iter().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => *b == b'-',
            _ => matches!(b, b'0'..=b'9' | b'a'..=b'f'),
        });
    if !plain {
        return Err(BadId);
    }
    Uuid::try_parse(text).map_err(|_| BadId)
}

/// The one accepted spelling, for JSON schemas.
#[cfg(test)]
pub(crate) const PATTERN: &str = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$";

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// A new random id of 122 bits.
            pub fn random(random: &dyn Random) -> Self {
                Self(random_uuid(random))
            }
            /// The id that a keyed digest stands for (the same digest gives the same id).
            pub fn derived(digest: &[u8; 32]) -> Self {
                Self(derived_uuid(digest))
            }
            /// Reads the one accepted spelling.
            pub fn parse(text: &str) -> Result<Self, BadId> {
                parse(text).map(Self)
            }
            /// Its 16 bytes.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0.hyphenated(), f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0.hyphenated(), f)
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(&self.0.hyphenated())
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
        #[cfg(test)]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                // One for all of them: they look the same.
                "Id".into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"type": "string", "format": "uuid", "pattern": PATTERN, "description": "An id."})
            }
        }
    )*};
}

ids! {
    /// One conversation.
    SessionId,
    /// One user message and everything that answers it.
    MessageId,
    /// Whom sessions, approvals and memories belong to; stands in a key's record.
    OwnerId,
    /// One API key.
    KeyId,
    /// One token budget: of a key, of those that it was rotated into, and of those that it made.
    BudgetId,
    /// One HTTP request.
    RequestId,
    /// One run of the agent.
    AgentId,
    /// One immutable specification of a task.
    SeedId,
    /// One question to a person.
    ApprovalId,
    /// One thing remembered.
    MemoryId,
    /// A space that sessions may belong to.
    SpaceId,
    /// One scheduled task.
    CronJobId,
    /// A manner of speaking and working that sessions may have.
    PersonaId,
    /// One event of the kernel bus.
    EventId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_lower_case_hyphenated_form_parses() {
        let good = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        assert_eq!(SessionId::parse(good).map(|id| id.to_string()), Ok(good.to_owned()));
        for bad in [
            "",
            "67E55044-10b1-426f-9247-bb680e5fe0c8",
            "67e5504410b1426f9247bb680e5fe0c8",
            "{67e55044-10b1-426f-9247-bb680e5fe0c8}",
            "urn:uuid:67e55044-10b1-426f-9247-bb680e5fe0c8",
            "67e55044-10b1-426f-9247-bb680e5fe0c8 ",
            "../../../../../../../../etc/passwd00",
        ] {
            assert_eq!(SessionId::parse(bad), Err(BadId), "{bad}");
        }
    }
}
