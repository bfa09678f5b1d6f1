//! The configured tool servers: each is really started, asked for its tools, and ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Found, nearest_directory};
use crate::base::time::{Clock, SystemClock};
use crate::config::Config;
use crate::config::settings as rooms;
use crate::http::client::{Client, ClientSettings};
use crate::rooms::mcp::{Mcp, ServerSettings, Transport};
use crate::sys::owner;

/// Nobody waits longer for one, whatever its own time limit: they are all tried at once, so this bounds all of them.
const PATIENCE: Duration = Duration::from_secs(60);

/// How each one does, by name.
pub(super) async fn all(config: &Config) -> Vec<Found> {
    let settings = rooms::settings(config).mcp;
    // SECURITY: whoever writes the home's configuration names these programs; root must not start them.
    let others = owner::other(config.home()).ok().flatten();
    let (client, clock): (_, Arc<dyn Clock>) = (Client::new(ClientSettings::default()), Arc::new(SystemClock::new()));
    let tried: Vec<_> = settings
        .servers
        .into_iter()
        .map(|(name, server)| {
            let (client, clock) = (client.clone(), clock.clone());
            // Where the first owner's files are, or will be.
            let files = nearest_directory(&config.workspace().join("files")).to_owned();
            tokio::spawn(async move {
                if !server.enabled {
                    return Found::Ok(format!("{name} is switched off"));
                }
                if let (Some(user), Transport::Stdio { .. }) = (others, &server.transport) {
                    let why = format!("{name} is a program that the home of user {user} names: root does not start it");
                    return Found::Warn(why, "run doctor as that user to try it".to_owned());
                }
                let server = ServerSettings { timeout: server.timeout.min(PATIENCE), ..server };
                let begun = Instant::now();
                match Mcp::probe(&name, server, &files, client, clock).await {
                    Ok(tools) => {
                        let plural = if tools == 1 { "" } else { "s" };
                        Found::Ok(format!("{name} answers with {tools} tool{plural} after {} ms", begun.elapsed().as_millis()))
                    }
                    Err(problem) => Found::Fail(format!("{name}: {}", problem.what), format!("{} (mcp.servers.{name})", problem.advice)),
                }
            })
        })
        .collect();
    let mut found = Vec::with_capacity(tried.len());
    for one in tried {
        found.push(one.await.unwrap_or_else(|_| Found::Fail("one of them failed inside".into(), "please report this".into())));
    }
    found
}
