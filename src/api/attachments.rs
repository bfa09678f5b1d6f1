//! Files that go with a message: they are in the caller's workspace before it is taken, or the message is refused.

use crate::api::{App, blocking};
use crate::gateway::IncomingMessage;
use crate::http::error::HttpError;

/// Each attachment is a file that the agent can read.
///
/// # Errors
/// 400 with the place of the first that is none; its name is not repeated.
pub(super) async fn check(app: &App, message: &IncomingMessage) -> Result<(), HttpError> {
    if message.attachments.is_empty() {
        return Ok(());
    }
    let (workspaces, owner, paths) = (app.workspaces.clone(), message.owner, message.attachments.clone());
    blocking(move || {
        let files = workspaces.of(owner)?;
        for (at, path) in paths.iter().enumerate() {
            // A path that leaves the workspace is no file in it; neither is a directory or a device.
            if !matches!(files.stat(path), Ok(Some(item)) if !item.is_dir) {
                return Err(HttpError::bad_request(format!("attachments[{at}]: no such file in the workspace")));
            }
        }
        Ok(())
    })
    .await
}
