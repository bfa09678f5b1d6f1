//! Questions to people: a decision, a lapse, and what an earlier process left open.
//!
//! The session log is the truth: a decision is in it before the approval's file says so, and before the run goes on.

use std::sync::Arc;
use std::time::Duration;

use crate::base::blocking;
use crate::base::cancel::Cancel;
use crate::base::ids::{ApprovalId, KeyId, MessageId, OwnerId, SessionId};
use crate::base::log;
use crate::events::Kind;
use crate::gateway::lane::fields;
use crate::gateway::state::Next;
use crate::gateway::{Gateway, detached};
use crate::rooms::approvals::{Approval, ApprovalError, Approvals, Status};
use crate::store::record::{Body, Decision};
use crate::store::session::Session;
use crate::store::{StoreError, audit};

/// Why an approval could not be decided.
#[derive(Debug)]
pub enum DecideError {
    /// Unknown, or another owner's.
    NotFound,
    /// It was decided already, or its run is over.
    Decided(Status),
    /// The log could not be written.
    Store(StoreError),
    /// The approval's file could not be read.
    Room(ApprovalError),
}

/// The question is in the log a moment before its file is there, on a slow card a long one; a decision that is that quick waits so long.
const FILE_WITHIN: Duration = Duration::from_secs(2);
/// The longest sleep between two looks at the open questions: wall time may jump.
const EXPIRY_LOOK_EVERY: Duration = Duration::from_secs(600);

impl Gateway {
    /// Writes a person's decision down and lets the run go on; `by` is the key that they showed. Deciding the same again is fine.
    ///
    /// # Errors
    /// [`DecideError`].
    pub async fn decide(
        self: &Arc<Self>,
        owner: OwnerId,
        by: Option<KeyId>,
        id: ApprovalId,
        decision: Decision,
    ) -> Result<(), DecideError> {
        // Before the first look, so that a change after it is not missed.
        let mut house = self.state().house();
        let mut approval = self.find_approval(owner, id).await;
        if matches!(approval, Err(ApprovalError::NotFound)) && self.may_ask(owner) {
            let file = async {
                loop {
                    // The house changes when the run that asks gives back its place, and for many other reasons.
                    let changed = house.changed().await.is_ok();
                    let found = self.find_approval(owner, id).await;
                    if !changed || !matches!(found, Err(ApprovalError::NotFound)) || !self.may_ask(owner) {
                        return found;
                    }
                }
            };
            approval = tokio::time::timeout(FILE_WITHIN, file).await.unwrap_or(approval);
        }
        let approval = approval.map_err(|error| match error {
            ApprovalError::NotFound => DecideError::NotFound,
            error => DecideError::Room(error),
        })?;
        let gateway = self.clone();
        detached(async move { gateway.carry_out(approval, by, decision).await }).await
    }

    async fn carry_out(self: Arc<Self>, approval: Approval, by: Option<KeyId>, asked: Decision) -> Result<(), DecideError> {
        let told = |status: Status| if status == Status::from(asked) { Ok(()) } else { Err(DecideError::Decided(status)) };
        if approval.status != Status::Pending {
            return told(approval.status);
        }
        let (id, message) = (approval.id, approval.message_id);
        let unread = |error| match error {
            StoreError::NotFound => DecideError::NotFound,
            error => DecideError::Store(error),
        };
        let session = self.sessions.load(approval.session_id, approval.owner).await.map_err(unread)?;
        let _door = self.enter(&session).await.map_err(unread)?;
        // Someone else may have come through the door first.
        let approval = self.find_approval(approval.owner, id).await.map_err(DecideError::Room)?;
        if approval.status != Status::Pending {
            return told(approval.status);
        }
        if let Some(status) = self.settled(&session, message, id).await.map_err(DecideError::Store)? {
            return told(status);
        }
        // The timer may be late: the server stood still (THREATS 22).
        let (by, decision) = if self.open_for(&approval).is_zero() { (None, Decision::Expired) } else { (by, asked) };
        match self.resolve(&session, message, (id, by), decision).await {
            Ok(()) => {}
            Err(StoreError::Ended) => {
                let settled = self.settled(&session, message, id).await.map_err(DecideError::Store)?;
                return told(settled.unwrap_or(Status::Rejected));
            }
            Err(error) => return Err(DecideError::Store(error)),
        }
        let mut state = self.state();
        let parked = state.lanes.get_mut(&approval.session_id).and_then(|lane| lane.parked.as_mut());
        if let Some(parked) = parked.filter(|parked| parked.approval == id && parked.next == Next::Wait) {
            parked.next = Next::Go;
        }
        drop(state);
        self.wake(approval.session_id);
        told(decision.into())
    }

    /// A question of this owner may be in a log and have no file yet: a run asks just now, or did when an earlier process was killed, and
    /// the start has not come to it.
    fn may_ask(&self, owner: OwnerId) -> bool {
        let state = self.state();
        !state.looked || state.runs.values().any(|run| run.owner == owner)
    }

    /// The start has found every run that an earlier process left; until then a decision waits for its question.
    pub fn has_looked(&self) {
        self.state().has_looked();
    }

    /// Writes a decision to the log, then to the approval's file, and tells the bus. The session's door is held.
    pub(super) async fn resolve(
        &self,
        session: &Arc<Session>,
        message: MessageId,
        (id, by): (ApprovalId, Option<KeyId>),
        decision: Decision,
    ) -> Result<(), StoreError> {
        session.append(message, vec![Body::ApprovalResolved { approval_id: id, decision }]).await?;
        if let Some(run) = self.state().runs.get_mut(&message) {
            run.decided = Some(id);
        }
        self.mark(id, decision).await;
        let outcome = match decision {
            Decision::Approved => "approved",
            Decision::Rejected => "rejected",
            Decision::Expired => "expired",
        };
        self.audit.metrics().approvals.one(outcome);
        let said = match decision {
            Decision::Approved => audit::Outcome::Approved,
            Decision::Rejected => audit::Outcome::Rejected,
            Decision::Expired => audit::Outcome::Expired,
        };
        let who = audit::Who { owner: Some(session.owner()), key: by };
        let on = Some(audit::On::id(id.as_bytes()));
        self.audit.note(audit::Event { who, what: audit::What::ApprovalDecided, on, outcome: said });
        let ids: [(&str, &dyn std::fmt::Display); 3] = [("approval_id", &id), ("session_id", &session.id()), ("message_id", &message)];
        self.events.publish(session.owner(), Kind::ApprovalResolved, fields(&ids, [("status", outcome.into())]));
        Ok(())
    }

    /// Notes in the approval's file what the log says. A file that is behind is put right when its session is next opened.
    pub(super) async fn mark(&self, id: ApprovalId, decision: Decision) {
        if let Err(error) = self.approvals(move |room| room.mark(id, decision)).await {
            log::warn("gateway", format_args!("approval {id}: its file was not marked: {error}"));
        }
    }

    /// What came of a question whose file calls it open, by the log; none where it is. A file that did not hear of the decision is put
    /// right. Where its run ended without one, nobody will ever need it: it counts as rejected.
    async fn settled(&self, session: &Arc<Session>, message: MessageId, id: ApprovalId) -> Result<Option<Status>, StoreError> {
        if let Some(decision) = session.decision(message, id).await? {
            self.mark(id, decision).await;
            return Ok(Some(decision.into()));
        }
        let unended = session.find(message).is_some_and(|found| found.terminal.is_none());
        if unended && self.is_live(message) {
            return Ok(None);
        }
        self.close_question(id).await;
        Ok(Some(Status::Rejected))
    }

    async fn close_question(&self, id: ApprovalId) {
        if let Err(error) = self.approvals(move |room| room.close(id)).await {
            log::warn("gateway", format_args!("approval {id}: its file was not marked: {error}"));
        }
    }

    /// How long the question stays open; zero where it has lapsed. Wall time decides only what an earlier process asked: a clock that
    /// is put right takes no time from anybody (THREATS 29). The machine's sleep counts: people go by the time that they were shown.
    fn open_for(&self, approval: &Approval) -> Duration {
        let asked = self.state().runs.get(&approval.message_id).and_then(|run| run.asked).filter(|(id, _)| *id == approval.id);
        match asked {
            Some((_, at)) => (at + approval.expires_at.since(approval.created_at)).saturating_sub(self.clock.boottime()),
            None => approval.expires_at.since(self.clock.now()),
        }
    }

    /// Lets every open question lapse whose time is over; tells how long until the next one does.
    pub async fn expire_due(self: &Arc<Self>) -> Option<Duration> {
        let open = self.approvals(Approvals::pending).await.unwrap_or_default();
        let mut next = None;
        for approval in open {
            let open_for = self.open_for(&approval);
            if !open_for.is_zero() {
                next = Some(next.unwrap_or(open_for).min(open_for));
                continue;
            }
            let id = approval.id;
            let gateway = self.clone();
            if let Err(DecideError::Store(error)) =
                detached(async move { gateway.carry_out(approval, None, Decision::Expired).await }).await
            {
                log::warn("gateway", format_args!("approval {id} could not lapse: {error}"));
            }
        }
        next
    }

    /// One task for all questions: sleeps until the next one lapses or a new one is asked. Ends with `cancel`.
    pub async fn keep_expiring(self: Arc<Self>, cancel: Cancel) {
        loop {
            let next = self.expire_due().await;
            let sleep = next.unwrap_or(EXPIRY_LOOK_EVERY).min(EXPIRY_LOOK_EVERY);
            tokio::select! {
                _ = cancel.cancelled() => return,
                // At least a little: a question that could not lapse must not make a busy loop.
                () = tokio::time::sleep(sleep.max(Duration::from_millis(100))) => {}
                () = self.expiry.notified() => {}
            }
        }
    }

    /// Takes over the questions that an earlier process left open; call it once, after listening. A session that cannot be
    /// opened is reported and left as it is.
    pub async fn resume_parked(self: &Arc<Self>) {
        let open = match self.approvals(Approvals::pending).await {
            Ok(open) => open,
            Err(error) => return log::error("gateway", format_args!("open approvals cannot be read: {error}")),
        };
        for approval in open {
            let (gateway, id) = (self.clone(), approval.id);
            // Half an adoption would leave a message that looks alive and is not.
            let settled = detached(async move {
                let session = gateway.sessions.load(approval.session_id, approval.owner).await?;
                let _door = gateway.enter(&session).await?;
                // Also where its run waits: that may be for another of its questions.
                gateway.settled(&session, approval.message_id, id).await
            });
            match settled.await {
                Ok(_) => {}
                // Its session is gone: nobody will ever need the answer.
                Err(StoreError::NotFound) => self.close_question(id).await,
                Err(error) => {
                    log::error("gateway", format_args!("approval {id}: its session cannot be read; its run stays where it is: {error}"))
                }
            }
        }
    }

    /// Opens a session so that what waits in it is taken over; false where it cannot be opened now.
    pub async fn adopt_session(self: &Arc<Self>, session: SessionId, owner: OwnerId) -> bool {
        let gateway = self.clone();
        // Half an adoption would leave a message that looks alive and is not.
        detached(async move {
            let entered = match gateway.sessions.load(session, owner).await {
                Ok(session) => gateway.enter(&session).await.map(drop),
                Err(error) => Err(error),
            };
            match entered {
                Ok(()) | Err(StoreError::NotFound) => true,
                Err(error) => {
                    log::error("gateway", format_args!("session {session} cannot be opened; its run stays where it is: {error}"));
                    false
                }
            }
        })
        .await
    }

    /// Where this message may be a parked one that nobody has looked for yet, looks for it.
    pub(super) async fn adopt_parked(self: &Arc<Self>, owner: OwnerId, message: MessageId) {
        let open = self.approvals(Approvals::pending).await.unwrap_or_default();
        if let Some(approval) = open.iter().find(|approval| approval.owner == owner && approval.message_id == message) {
            self.adopt_session(approval.session_id, owner).await;
        }
    }

    /// A question whose file is not there (the process ended between log and file): made again from the log.
    pub(super) async fn restore(&self, session: &Arc<Session>, message: MessageId, id: ApprovalId) -> Result<(), StoreError> {
        if !matches!(self.find_approval(session.owner(), id).await, Err(ApprovalError::NotFound)) {
            return Ok(());
        }
        for record in session.records_of(message).await? {
            if let Body::ApprovalRequested { approval_id, call_id, action, resource, reason, shown, digest, expires_at } = record.body {
                if approval_id != id {
                    continue;
                }
                let approval = Approval {
                    id,
                    owner: session.owner(),
                    session_id: session.id(),
                    message_id: message,
                    call_id,
                    subject: "agent".to_owned(),
                    action,
                    resource,
                    reason,
                    shown,
                    digest,
                    created_at: record.time,
                    expires_at,
                    status: Status::Pending,
                };
                if let Err(error) = self.approvals(move |room| room.create(&approval)).await {
                    log::error("gateway", format_args!("approval {id} cannot be asked again: {error}"));
                }
            }
        }
        Ok(())
    }

    async fn find_approval(&self, owner: OwnerId, id: ApprovalId) -> Result<Approval, ApprovalError> {
        self.approvals(move |room| room.find(owner, id)).await
    }

    /// The room blocks, so it is asked on a thread for that.
    pub(super) async fn approvals<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Approvals) -> Result<T, ApprovalError> + Send + 'static,
    ) -> Result<T, ApprovalError> {
        let room = self.approvals.clone();
        match blocking::spawn(move || ask(&room)).await {
            Ok(answer) => answer,
            Err(error) => Err(ApprovalError::Io(std::io::Error::other(error))),
        }
    }
}
