//! Agents (API A6): list, kill.

use std::sync::Arc;

use serde::Serialize;

use crate::api::{self, App, Call};
use crate::base::ids::{AgentId, MessageId, SeedId, SessionId};
use crate::base::time::Timestamp;
use crate::gateway::CancelError;
use crate::http::error::HttpError;
use crate::http::{Body, Response};
use crate::rooms::agents::{Agent, Status};

/// A run.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct AgentItem {
    /// Its id.
    id: AgentId,
    /// What kind of run: `chat`, `task`, `member` of a group.
    name: String,
    /// `starting` waits for its turn, `idle` waits for a person, `stopped` came to its end or was stopped on purpose.
    status: Status,
    /// When it was accepted.
    created_at: Timestamp,
    /// The specification that it works on.
    seed_id: Option<SeedId>,
    /// Where it works.
    session_id: SessionId,
    /// Which message it works on.
    message_id: MessageId,
    /// The agent whose group it is a member of.
    parent_id: Option<AgentId>,
}

#[cfg(test)]
pub(super) fn shapes(all: &mut api::shapes::Shapes) {
    all.answers::<api::Listed<AgentItem>>("AgentPage");
}

impl From<Agent> for AgentItem {
    fn from(agent: Agent) -> Self {
        Self {
            id: agent.id,
            name: agent.name,
            status: agent.status,
            created_at: agent.created_at,
            seed_id: agent.seed_id,
            session_id: agent.session_id,
            message_id: agent.message_id,
            parent_id: agent.parent_id,
        }
    }
}

/// `GET /api/agents`: newest first.
pub(crate) async fn list(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (owner, page) = (call.caller()?.owner(), call.page()?);
    let (agents, total) = app.agents.list(owner, page.skip(), page.limit);
    api::json(&page.part(agents.into_iter().map(AgentItem::from).collect(), total))
}

/// `POST /api/agents/{id}/kill`: what is over can be killed as little as what never was.
pub(crate) async fn kill(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let owner = call.caller()?.owner();
    let id = AgentId::parse(call.param("id")).map_err(|_| HttpError::bad_request("id: expected a UUID in lower case"))?;
    match app.gateway.kill(owner, id).await {
        Ok(()) => Ok(Response::new(Body::empty())),
        Err(CancelError::NotFound | CancelError::Over) => Err(HttpError::not_found("no such agent, or it is over")),
    }
}
