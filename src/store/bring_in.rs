//! A session that someone sends in the documented shape becomes one of the sender's.

use crate::base::ids::{OwnerId, PersonaId, SessionId, SpaceId};
use crate::base::limits::LABEL_BYTES_MAX;
use crate::store::StoreError;
use crate::store::home::Space;
use crate::store::import::{self, Old, Source};
use crate::store::record::About;
use crate::store::session::blocking;
use crate::store::sessions::{Looked, Sessions, look};
use crate::wire::title;

impl Old {
    /// The id that it had.
    pub(crate) fn wanted(&self) -> Option<SessionId> {
        SessionId::parse(self.id.as_str()?).ok()
    }
    /// The space that it was held in.
    pub(crate) fn held_in(&self) -> Option<SpaceId> {
        self.space_id.as_str().and_then(|id| SpaceId::parse(id).ok()).or_else(|| self.space())
    }
    /// The persona that answered.
    pub(crate) fn answered_by(&self) -> Option<PersonaId> {
        PersonaId::parse(self.active_persona_id.as_str()?).ok()
    }
}

impl Sessions {
    /// Makes a session of this; on disk when it answers its id: the one that it had where that is free, else a new one. Space and
    /// persona are the sender's own or none.
    ///
    /// # Errors
    /// Inner: what is wrong with it, in public words. Outer: `DiskFull`, `Io`.
    pub(crate) async fn bring_in(
        &self,
        owner: OwnerId,
        mut old: Old,
        source: Source,
        space_id: Option<SpaceId>,
        persona_id: Option<PersonaId>,
    ) -> Result<Result<SessionId, String>, StoreError> {
        if let Space::Full { why } = self.core.home.space() {
            return Err(StoreError::DiskFull(why));
        }
        let given = old.metadata.remove("title").and_then(|title| title.as_str().map(str::to_owned)).filter(|title| !title.is_empty());
        let fits = |title: &String| title.len() <= LABEL_BYTES_MAX && !title.chars().any(char::is_control);
        let given = given.and_then(|given| if fits(&given) { Some(given) } else { title::of(&given) });
        // What a foreign file says is read by the model as conversation, never as instructions.
        let about = About { title: given, space_id, persona_id, instructions: None };
        for ours in ["log", "instructions"] {
            old.metadata.remove(ours);
        }
        old.metadata.insert("owner".to_owned(), owner.to_string().into());
        match space_id {
            Some(space) => old.metadata.insert("space_id".to_owned(), space.to_string().into()),
            None => old.metadata.remove("space_id"),
        };
        old.active_persona_id = persona_id.map(|id| id.to_string().into()).unwrap_or_default();
        let mut id = old.wanted().unwrap_or_else(|| SessionId::random(&*self.core.home.seams().random));
        let mut turn = self.turn(id).await;
        let core = self.core.clone();
        let free = self.in_hand(id).is_none() && blocking(move || Ok(matches!(look(&core, id)?, Looked::Nothing))).await?;
        if !free {
            drop(turn);
            id = SessionId::random(&*self.core.home.seams().random);
            turn = self.turn(id).await;
        }
        let core = self.core.clone();
        blocking(move || {
            let _turn = turn;
            let about = (about != About::default()).then_some(about);
            let lines = match import::lines(&core, id, old, &source, about) {
                Ok(lines) => lines,
                Err(why) => return Ok(Err(why)),
            };
            let path = core.files.log(id);
            core.durability.put(&path, &lines).map_err(|e| {
                // It may be there already; whoever tries again is to find the id free.
                let _ = core.disk().remove_file(&path);
                StoreError::of("importing session", id)(e)
            })?;
            core.index.appeared(id);
            Ok(Ok(id))
        })
        .await
    }
}
