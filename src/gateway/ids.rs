//! Ids of messages and sessions: random, or derived, so that a retry finds what the first attempt made (DESIGN §2).

use crate::base::digest::Keyed;
use crate::base::ids::{MessageId, SessionId};
use crate::base::random::Random;
use crate::gateway::IncomingMessage;

/// What a message is written down under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ids {
    pub(super) message: MessageId,
    pub(super) session: SessionId,
}

/// With an idempotency key both follow from owner, session (or none) and key: nobody without the home's secret can guess
/// them, another owner's key never meets them, and they are the same after a restart.
pub(super) fn of(incoming: &IncomingMessage, keyed: &Keyed, random: &dyn Random) -> Ids {
    let owner: &[u8] = incoming.owner.as_bytes();
    let Some(key) = incoming.idempotency_key.as_deref().map(str::as_bytes) else {
        return Ids {
            message: incoming.id.unwrap_or_else(|| MessageId::random(random)),
            session: incoming.session_id.unwrap_or_else(|| SessionId::random(random)),
        };
    };
    let named: &[u8] = incoming.session_id.as_ref().map_or(&[], |id| id.as_bytes());
    Ids {
        message: MessageId::derived(&keyed.mac("message-id", &[owner, named, key])),
        session: incoming.session_id.unwrap_or_else(|| SessionId::derived(&keyed.mac("session-id", &[owner, key]))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::OwnerId;
    use crate::base::random::SystemRandom;

    fn incoming(owner: OwnerId, session: Option<SessionId>, key: Option<&str>) -> IncomingMessage {
        IncomingMessage {
            id: None,
            channel: "rest",
            user_id: "u".into(),
            content: "c".into(),
            session_id: session,
            space_id: None,
            attachments: Vec::new(),
            idempotency_key: key.map(str::to_owned),
            history: Default::default(),
            owner,
            key: None,
            budget: None,
        }
    }

    #[test]
    fn a_retry_has_the_same_ids_and_nobody_else_does() {
        let (random, keyed) = (SystemRandom::new(), Keyed::new(b"secret"));
        let (a, b) = (OwnerId::random(&random), OwnerId::random(&random));
        let session = SessionId::random(&random);
        let first = of(&incoming(a, None, Some("k")), &keyed, &random);
        assert_eq!(first, of(&incoming(a, None, Some("k")), &keyed, &random));
        assert_eq!(first.message.as_bytes()[6] >> 4, 8, "UUID version 8");
        for other in
            [incoming(b, None, Some("k")), incoming(a, None, Some("l")), incoming(a, Some(session), Some("k")), incoming(a, None, None)]
        {
            let other = of(&other, &keyed, &random);
            assert_ne!(first.message, other.message);
            assert_ne!(first.session, other.session);
        }
        assert_ne!(first, of(&incoming(a, None, Some("k")), &Keyed::new(b"other home"), &random));
    }
}
