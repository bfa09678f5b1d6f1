//! Sessions that begin with what was said elsewhere: forks and imports. The specifications that their answers name are theirs, too, and
//! stay with them when the session is deleted that they came from.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::base::blocking;
use crate::base::ids::{MessageId, OwnerId, PersonaId, SeedId, SessionId, SpaceId};
use crate::base::log;
use crate::gateway::{Gateway, detached};
use crate::rooms::seeds::SeedError;
use crate::store::StoreError;
use crate::store::fork::Forked;
use crate::store::import::{Old, Source};

impl Gateway {
    /// Copies a session's ended turns into a new one: see [`Sessions::fork`](crate::store::sessions::Sessions::fork).
    ///
    /// # Errors
    /// As there; nothing is left then.
    pub async fn fork(self: &Arc<Self>, owner: OwnerId, id: SessionId, upto: Option<MessageId>) -> Result<Option<SessionId>, StoreError> {
        let gateway = self.clone();
        detached(async move {
            let Some(Forked { id: copy, seeds }) = gateway.sessions.fork(id, owner, upto).await? else { return Ok(None) };
            gateway.share_seeds(owner, copy, seeds).await.map(|()| Some(copy))
        })
        .await
    }

    /// Makes a session of what somebody sends: see `Sessions::bring_in`. Of the specifications that it names it has those that the
    /// owner has.
    ///
    /// # Errors
    /// As there; nothing is left then.
    pub(crate) async fn bring_in(
        self: &Arc<Self>,
        owner: OwnerId,
        old: Old,
        source: Source,
        space_id: Option<SpaceId>,
        persona_id: Option<PersonaId>,
    ) -> Result<Result<SessionId, String>, StoreError> {
        let gateway = self.clone();
        detached(async move {
            let seeds = old.seeds();
            let id = match gateway.sessions.bring_in(owner, old, source, space_id, persona_id).await? {
                Ok(id) => id,
                Err(why) => return Ok(Err(why)),
            };
            gateway.share_seeds(owner, id, seeds).await.map(|()| Ok(id))
        })
        .await
    }

    /// After the session is there: a specification that names one that never came to be would stay for ever.
    async fn share_seeds(&self, owner: OwnerId, copy: SessionId, seeds: BTreeSet<SeedId>) -> Result<(), StoreError> {
        let room = self.seeds.clone();
        let shared = blocking::spawn(move || room.share(owner, &seeds, copy)).await;
        let error = match shared {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(SeedError::Io(e))) => e,
            Ok(Err(e)) => std::io::Error::other(e),
            Err(lost) => std::io::Error::other(lost),
        };
        if let Err(e) = self.sessions.delete(copy, owner).await {
            log::warn("gateway", format_args!("session {copy} was copied without its specifications and could not be removed: {e}"));
        }
        self.forget_sessions(&[copy]).await;
        Err(StoreError::io("sharing specifications")(error))
    }
}
