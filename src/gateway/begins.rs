//! What a new session begins with: what its first message says, else what its owner has chosen.

use crate::base::blocking;
use crate::base::ids::{OwnerId, SpaceId};
use crate::base::log;
use crate::gateway::{Gateway, GatewayError};
use crate::rooms::spaces::SpaceError;
use crate::store::record::About;

impl Gateway {
    /// What is true of a session that this message makes; one that exists keeps its own. A choice that cannot be read is none: the
    /// message matters more.
    pub(super) async fn begins(&self, owner: OwnerId, space_id: Option<SpaceId>) -> About {
        let (personas, spaces) = (self.personas.clone(), self.spaces.clone());
        let chosen = blocking::spawn(move || {
            let persona = personas.active(owner).map(|chosen| chosen.map(|persona| persona.id));
            let space = space_id.map_or_else(|| spaces.current(owner).map(|chosen| chosen.map(|space| space.id)), |id| Ok(Some(id)));
            (persona.map_err(|e| e.to_string()), space.map_err(|e| e.to_string()))
        });
        let or_none = |e: String| log::warn("gateway", format_args!("a default of new sessions could not be read: {e}"));
        let (persona, space) = chosen.await.unwrap_or_else(|e| (Err(e.to_string()), Ok(None)));
        About {
            title: None,
            space_id: space.map_err(or_none).unwrap_or_default(),
            persona_id: persona.map_err(or_none).unwrap_or_default(),
            // These come with the message.
            instructions: None,
        }
    }

    /// The space takes messages. One that is gone, or cannot be read, says nothing: the message matters more.
    pub(super) async fn said_in(&self, owner: OwnerId, space: Option<SpaceId>) -> Result<(), GatewayError> {
        let (Some(id), spaces) = (space, self.spaces.clone()) else { return Ok(()) };
        match blocking::spawn(move || spaces.open_to(owner, id)).await {
            Ok(Err(SpaceError::Conflict(_))) => Err(GatewayError::Archived),
            _ => Ok(()),
        }
    }
}
