//! Runs as agents: the gateway tells the room how each is, kills one, and says after a restart what became of those that an
//! earlier process left.

use std::sync::Arc;

use crate::base::cancel::Why;
use crate::base::ids::{AgentId, MessageId, OwnerId};
use crate::base::log;
use crate::gateway::ids::Ids;
use crate::gateway::state::State;
use crate::gateway::stop::CANCEL_WITHIN;
use crate::gateway::{CancelError, Gateway};
use crate::rooms::agents::{Agent, Status};
use crate::store::record::Body;

/// The name of a run in the list, until it has a specification.
const TALK: &str = "chat";

impl Gateway {
    /// Stops an agent: its model call and its tool end, what it has said is kept. A member of a group is stopped alone. Waits a
    /// moment for the end, so that the answer is true.
    ///
    /// # Errors
    /// It is over, or unknown, or another owner's.
    pub async fn kill(self: &Arc<Self>, owner: OwnerId, id: AgentId) -> Result<(), CancelError> {
        let agent = self.agents.find(owner, id).ok_or(CancelError::NotFound)?;
        if agent.status.is_over() {
            return Err(CancelError::Over);
        }
        if agent.parent_id.is_none() {
            return self.cancel(owner, agent.message_id).await;
        }
        let stop = self.agents.stopper(owner, id).ok_or(CancelError::Over)?;
        stop.cancel(Why::Asked);
        // It ends in its own time where that is longer.
        let _ = tokio::time::timeout(CANCEL_WITHIN, self.agents.over(id)).await;
        Ok(())
    }

    /// A message's agent begins, or goes on in this process.
    pub(super) fn begin_agent(&self, id: AgentId, owner: OwnerId, ids: Ids, status: Status) {
        let agent = Agent {
            id,
            owner,
            session_id: ids.session,
            message_id: ids.message,
            name: TALK.to_owned(),
            status,
            created_at: self.clock.now(),
            seed_id: None,
            parent_id: None,
        };
        self.agents.begin(agent, None);
    }

    /// How the agent of a message that is not over is.
    pub(super) fn agent_is(&self, state: &State, message: MessageId, status: Status) {
        if let Some(run) = state.runs.get(&message) {
            self.agents.set(run.agent, status);
        }
    }

    /// Looks into the sessions of those that an earlier process left unended, and says how they ended; call it once, when
    /// parked runs were taken over.
    pub async fn settle_agents(self: &Arc<Self>) {
        for agent in self.agents.take_left() {
            // Opening writes the end of what was cut, and takes over what waits for a person.
            self.adopt_session(agent.session_id, agent.owner).await;
            if self.is_live(agent.message_id) {
                continue;
            }
            let ended = self.ended_as(&agent).await;
            self.agents.set(agent.id, ended);
        }
    }

    /// How an agent ended, by its session's log. A member of a group, one whose session is gone, and one of which the log says
    /// nothing, failed.
    async fn ended_as(&self, agent: &Agent) -> Status {
        if agent.parent_id.is_some() {
            return Status::Failed;
        }
        let records = match self.sessions.load(agent.session_id, agent.owner).await {
            Ok(session) => session.records_of(agent.message_id).await,
            Err(error) => Err(error),
        };
        match records {
            Ok(records) if records.iter().any(|record| matches!(record.body, Body::Done(_) | Body::Cancelled(_))) => Status::Stopped,
            Ok(_) => Status::Failed,
            Err(error) => {
                log::warn("gateway", format_args!("agent {}: how it ended is not known: {error}", agent.id));
                Status::Failed
            }
        }
    }
}
