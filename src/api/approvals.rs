//! Approvals (API A6): list, approve, reject. A word in the chat never decides one.

use std::sync::Arc;

use serde::Serialize;

use crate::api::{self, App, Call};
use crate::base::blocking;
use crate::base::ids::{ApprovalId, MessageId, SessionId};
use crate::base::time::Timestamp;
use crate::http::Response;
use crate::http::error::HttpError;
use crate::rooms::approvals::{Approval, Status};
use crate::store::record::Decision;

/// The documented fields, and what a decider wants besides: where it was asked, until when, and the hash of what is decided.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Question<'a> {
    /// Its id.
    id: ApprovalId,
    /// Who asks, as a label.
    subject: &'a str,
    /// The tool that would run.
    action: &'a str,
    /// What it would act on.
    resource: &'a str,
    /// Why, in words.
    reason: &'a str,
    /// When it was asked.
    created_at: Timestamp,
    /// What came of it.
    status: Status,
    /// Where it was asked.
    session_id: SessionId,
    /// Which message's run waits.
    message_id: MessageId,
    /// When it lapses.
    expires_at: Timestamp,
    /// SHA-256 of what was shown, in hexadecimal; the decision is bound to it.
    digest: &'a str,
}

/// A question with exactly what would happen.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct QuestionShown<'a> {
    #[serde(flatten)]
    question: Question<'a>,
    /// What would happen, by its tool: of a file its path, whether it exists, the new text.
    shown: &'a serde_json::Value,
}

/// What was decided.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Decided {
    /// `approved` or `rejected`.
    status: &'static str,
    /// The approval.
    id: ApprovalId,
}

#[cfg(test)]
pub(super) fn shapes(all: &mut api::shapes::Shapes) {
    all.answers::<Vec<Question<'static>>>("Approvals");
    all.answers::<QuestionShown<'static>>("Approval");
    all.answers::<Decided>("Decided");
}

/// `GET /api/approvals`: newest first.
pub(crate) async fn list(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let owner = call.caller()?.owner();
    let room = app.approvals.clone();
    let list = blocking::spawn(move || room.list(owner)).await.map_err(|e| HttpError::internal(e.to_string()))?;
    api::json(&list?.iter().map(item).collect::<Vec<_>>())
}

/// `GET /api/approvals/{id}`.
pub(crate) async fn detail(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let owner = call.caller()?.owner();
    let id = ApprovalId::parse(call.param("id")).map_err(|_| HttpError::bad_request("id: expected a UUID in lower case"))?;
    let room = app.approvals.clone();
    let found = api::blocking(move || room.find(owner, id)).await?;
    api::json(&QuestionShown { question: item(&found), shown: &found.shown })
}

/// `POST /api/approvals/{id}/approve`.
pub(crate) async fn approve(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    decide(app, call, Decision::Approved, "approved").await
}

/// `POST /api/approvals/{id}/reject`.
pub(crate) async fn reject(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    decide(app, call, Decision::Rejected, "rejected").await
}

/// Errors have no body (API A1).
async fn decide(app: Arc<App>, call: Call, decision: Decision, status: &'static str) -> Result<Response, HttpError> {
    let (owner, by) = (call.caller()?.owner(), call.caller()?.shown());
    let id = ApprovalId::parse(call.param("id")).map_err(|_| HttpError::bad_request("bad id").empty())?;
    app.gateway.decide(owner, by, id, decision).await.map_err(|error| HttpError::from(error).empty())?;
    api::json(&Decided { status, id })
}

fn item(approval: &Approval) -> Question<'_> {
    Question {
        id: approval.id,
        subject: &approval.subject,
        action: &approval.action,
        resource: &approval.resource,
        reason: &approval.reason,
        created_at: approval.created_at,
        status: approval.status,
        session_id: approval.session_id,
        message_id: approval.message_id,
        expires_at: approval.expires_at,
        digest: &approval.digest,
    }
}
