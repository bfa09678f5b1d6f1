//! `POST /api/sessions/{id}/fork` (API B): another session that begins with the turns of this one.

use std::sync::Arc;

use serde::Deserialize;

use crate::api::{self, App, Call, sessions};
use crate::base::ids::MessageId;
use crate::http::Response;
use crate::http::error::HttpError;

/// Where it parts.
#[derive(Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct SessionFork {
    /// The last message that is copied, with its answer; all ended turns where it is absent or null.
    message_id: Option<MessageId>,
}

#[cfg(test)]
pub(super) fn shapes(all: &mut api::shapes::Shapes) {
    all.takes::<SessionFork>("SessionFork");
}

/// `POST /api/sessions/{id}/fork`.
pub(crate) async fn fork(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (owner, id) = (call.caller()?.owner(), sessions::id(&call)?);
    let SessionFork { message_id } = call.json_if_any()?;
    let Some(new) = app.gateway.fork(owner, id, message_id).await? else {
        return Err(HttpError::conflict("there is no answer to copy yet; wait for it, or name an earlier message"));
    };
    api::created(&app.sessions.item(owner, new).await?)
}
