//! Questions to a person: one file each in `<workspace>/approvals/`, so that they survive a restart.
//!
//! The session log is the truth: `approval_requested` is in it before the file is made, `approval_resolved` before the file is
//! marked. A file that is behind its log is put right by whoever reads the log; a file that cannot be read is left alone.
//! Everything here blocks.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::ids::{ApprovalId, MessageId, OwnerId, SessionId};
use crate::base::limits::{APPROVAL_FILE_BYTES_MAX, APPROVALS_KEPT_MAX, APPROVALS_PENDING_MAX};
use crate::base::log;
use crate::base::time::Timestamp;
use crate::store::atomic::{self, Durable};
use crate::store::error::damaged;
use crate::store::home::Seams;
use crate::store::record::Decision;
use crate::sys::disk::read_whole;

/// One question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Approval {
    /// Its id.
    pub id: ApprovalId,
    /// Whose session asks; only this owner sees and decides it.
    pub owner: OwnerId,
    /// Where the run waits.
    pub session_id: SessionId,
    /// Which run waits.
    pub message_id: MessageId,
    /// The tool call that waits.
    pub call_id: String,
    /// Who asks, as a label.
    pub subject: String,
    /// The tool.
    pub action: String,
    /// What it would act on.
    pub resource: String,
    /// Why, in words.
    pub reason: String,
    /// Exactly what would happen. `Null` in listings: only [`Approvals::find`] gives it.
    #[serde(default)]
    pub shown: Value,
    /// SHA-256 of `shown`, in hexadecimal; the decision is bound to it.
    pub digest: String,
    /// When it was asked.
    pub created_at: Timestamp,
    /// When it lapses.
    pub expires_at: Timestamp,
    /// What came of it.
    pub status: Status,
}

/// What came of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "ApprovalStatus"))]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Nobody has decided.
    Pending,
    /// Yes.
    Approved,
    /// No.
    Rejected,
    /// Nobody answered in time.
    Expired,
}

impl From<Decision> for Status {
    fn from(decision: Decision) -> Self {
        match decision {
            Decision::Approved => Self::Approved,
            Decision::Rejected => Self::Rejected,
            Decision::Expired => Self::Expired,
        }
    }
}

/// Why it was not kept or found.
#[derive(Debug)]
pub enum ApprovalError {
    /// There is none, or it is another owner's.
    NotFound,
    /// This owner has [`APPROVALS_PENDING_MAX`] open questions.
    TooMany,
    /// The disk refused; private.
    Io(io::Error),
}

impl fmt::Display for ApprovalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("no such approval"),
            Self::TooMany => write!(f, "{APPROVALS_PENDING_MAX} approvals are open; decide some first"),
            Self::Io(e) => write!(f, "approvals: {e}"),
        }
    }
}

impl std::error::Error for ApprovalError {}

impl From<io::Error> for ApprovalError {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// All questions of this home.
pub struct Approvals {
    dir: PathBuf,
    seams: Seams,
    /// Every kept question without what it shows; `None` until first asked for. Held while a file is read or written, so that
    /// the map and the files change together.
    known: Mutex<Option<HashMap<ApprovalId, Approval>>>,
}

impl Approvals {
    /// The questions in this directory; nothing is read yet.
    pub fn open(dir: PathBuf, seams: Seams) -> Self {
        Self { dir, seams, known: Mutex::new(None) }
    }

    /// Keeps a new question, durable when this returns. The oldest decided ones beyond [`APPROVALS_KEPT_MAX`] go.
    pub fn create(&self, approval: &Approval) -> Result<(), ApprovalError> {
        let mut guard = self.lock();
        let known = self.loaded(&mut guard)?;
        let open = known.values().filter(|a| a.owner == approval.owner && a.status == Status::Pending).count();
        if open >= APPROVALS_PENDING_MAX {
            return Err(ApprovalError::TooMany);
        }
        atomic::make_dir(&*self.seams.disk, &self.dir)?;
        self.write(approval)?;
        known.insert(approval.id, without_shown(approval));
        self.forget_oldest(known);
        Ok(())
    }

    /// This owner's questions, newest first, at most [`APPROVALS_KEPT_MAX`], without `shown`.
    pub fn list(&self, owner: OwnerId) -> Result<Vec<Approval>, ApprovalError> {
        let mut list = self.select(|a| a.owner == owner)?;
        list.reverse();
        Ok(list)
    }

    /// One question of this owner with what it shows.
    pub fn find(&self, owner: OwnerId, id: ApprovalId) -> Result<Approval, ApprovalError> {
        let mut guard = self.lock();
        let known = self.loaded(&mut guard)?;
        known.get(&id).filter(|a| a.owner == owner).ok_or(ApprovalError::NotFound)?;
        self.read(&file_name(id))
    }

    /// Every owner's open questions, oldest first, without `shown`.
    pub fn pending(&self) -> Result<Vec<Approval>, ApprovalError> {
        self.select(|a| a.status == Status::Pending)
    }

    /// Open questions whose time is over, without `shown`. Whoever resolves them writes the log first.
    pub fn lapsed(&self, now: Timestamp) -> Result<Vec<Approval>, ApprovalError> {
        self.select(|a| a.status == Status::Pending && a.expires_at <= now)
    }

    /// Notes what the log already says. Marking the same again is fine.
    pub fn mark(&self, id: ApprovalId, decision: Decision) -> Result<(), ApprovalError> {
        self.mark_if(id, decision, |status| status != Status::from(decision))
    }

    /// Rejects a question that nobody needs answered any more. One that was decided stays as it is.
    pub fn close(&self, id: ApprovalId) -> Result<(), ApprovalError> {
        self.mark_if(id, Decision::Rejected, |status| status == Status::Pending)
    }

    fn mark_if(&self, id: ApprovalId, decision: Decision, wanted: impl Fn(Status) -> bool) -> Result<(), ApprovalError> {
        let mut guard = self.lock();
        let known = self.loaded(&mut guard)?;
        let seen = known.get_mut(&id).ok_or(ApprovalError::NotFound)?;
        if !wanted(seen.status) {
            return Ok(());
        }
        let mut approval = self.read(&file_name(id))?;
        approval.status = decision.into();
        self.write(&approval)?;
        seen.status = approval.status;
        Ok(())
    }

    /// Removes the questions of deleted sessions.
    pub fn forget(&self, sessions: &HashSet<SessionId>) -> Result<(), ApprovalError> {
        let mut guard = self.lock();
        let known = self.loaded(&mut guard)?;
        let gone: Vec<_> = known.values().filter(|a| sessions.contains(&a.session_id)).map(|a| a.id).collect();
        for id in gone {
            self.remove(known, id);
        }
        Ok(())
    }

    fn select(&self, wanted: impl Fn(&Approval) -> bool) -> Result<Vec<Approval>, ApprovalError> {
        let mut guard = self.lock();
        let mut list: Vec<_> = self.loaded(&mut guard)?.values().filter(|a| wanted(a)).cloned().collect();
        list.sort_by_key(|a| (a.created_at, a.id));
        Ok(list)
    }

    fn lock(&self) -> MutexGuard<'_, Option<HashMap<ApprovalId, Approval>>> {
        // A panic while it was held leaves a map that is at worst behind its files.
        self.known.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn loaded<'a>(
        &self,
        guard: &'a mut MutexGuard<'_, Option<HashMap<ApprovalId, Approval>>>,
    ) -> Result<&'a mut HashMap<ApprovalId, Approval>, ApprovalError> {
        if guard.is_none() {
            **guard = Some(self.read_all()?);
        }
        Ok(guard.get_or_insert_default())
    }

    fn read_all(&self) -> Result<HashMap<ApprovalId, Approval>, ApprovalError> {
        let items = match self.seams.disk.list(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other?,
        };
        let mut known = HashMap::new();
        for item in items {
            let Some(id) = item.name.strip_suffix(".json").and_then(|stem| ApprovalId::parse(stem).ok()) else { continue };
            match self.read(&item.name) {
                Ok(approval) if approval.id == id => {
                    known.insert(id, without_shown(&approval));
                }
                // One damaged file must not hide the others.
                _ => log::warn("approvals", format_args!("{} cannot be read; it is left as it is", item.name)),
            }
        }
        Ok(known)
    }

    fn read(&self, name: &str) -> Result<Approval, ApprovalError> {
        let bytes = read_whole(&*self.seams.disk, &self.dir.join(name), APPROVAL_FILE_BYTES_MAX)?;
        serde_json::from_slice(&bytes).map_err(|e| ApprovalError::Io(damaged(&e)))
    }

    fn write(&self, approval: &Approval) -> Result<(), ApprovalError> {
        let bytes = serde_json::to_vec(approval).map_err(io::Error::from)?;
        Ok(atomic::replace(&*self.seams.disk, &self.dir.join(file_name(approval.id)), &bytes, Durable::Yes)?)
    }

    fn forget_oldest(&self, known: &mut HashMap<ApprovalId, Approval>) {
        while known.len() > APPROVALS_KEPT_MAX {
            let oldest = known.values().filter(|a| a.status != Status::Pending).min_by_key(|a| a.created_at).map(|a| a.id);
            let Some(id) = oldest else { break };
            self.remove(known, id);
        }
    }

    fn remove(&self, known: &mut HashMap<ApprovalId, Approval>, id: ApprovalId) {
        known.remove(&id);
        // A file that stays is listed again after the next start; nothing worse.
        let _ = self.seams.disk.remove_file(&self.dir.join(file_name(id)));
    }
}

fn file_name(id: ApprovalId) -> String {
    format!("{id}.json")
}

fn without_shown(approval: &Approval) -> Approval {
    Approval { shown: Value::Null, ..approval.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::test_seams;
    use serde_json::json;

    fn approval(owner: u8, nth: u8, session: u8) -> Approval {
        Approval {
            id: ApprovalId::derived(&[nth; 32]),
            owner: OwnerId::derived(&[owner; 32]),
            session_id: SessionId::derived(&[session; 32]),
            message_id: MessageId::derived(&[nth; 32]),
            call_id: "c1".into(),
            subject: "agent".into(),
            action: "write_file".into(),
            resource: "notes.md".into(),
            reason: "the task asks for it".into(),
            shown: json!({"path": "notes.md", "content": "text"}),
            digest: "d".into(),
            created_at: Timestamp::from_millis(u64::from(nth)),
            expires_at: Timestamp::from_millis(1000 + u64::from(nth)),
            status: Status::Pending,
        }
    }

    #[test]
    fn questions_survive_a_restart_and_stay_with_their_owner() {
        let (dir, seams) = test_seams("approvals");
        let approvals = Approvals::open(dir.join("approvals"), seams.clone());
        assert!(approvals.pending().unwrap().is_empty());
        let (a, b) = (approval(1, 1, 1), approval(2, 2, 2));
        approvals.create(&a).unwrap();
        approvals.create(&b).unwrap();
        approvals.mark(a.id, Decision::Approved).unwrap();
        approvals.mark(a.id, Decision::Approved).unwrap();
        std::fs::write(dir.join("approvals").join(file_name(ApprovalId::derived(&[9; 32]))), "torn {").unwrap();
        for approvals in [approvals, Approvals::open(dir.join("approvals"), seams)] {
            assert_eq!(approvals.pending().unwrap(), [without_shown(&b)]);
            assert_eq!(approvals.list(a.owner).unwrap(), [without_shown(&Approval { status: Status::Approved, ..a.clone() })]);
            assert_eq!(approvals.find(b.owner, b.id).unwrap(), b);
            assert!(matches!(approvals.find(a.owner, b.id), Err(ApprovalError::NotFound)));
            assert!(approvals.lapsed(Timestamp::from_millis(1001)).unwrap().is_empty());
            assert_eq!(approvals.lapsed(b.expires_at).unwrap().len(), 1);
        }
        let again = Approvals::open(dir.join("approvals"), test_seams("approvals2").1);
        again.forget(&HashSet::from([b.session_id])).unwrap();
        assert!(again.pending().unwrap().is_empty());
        assert!(matches!(again.find(b.owner, b.id), Err(ApprovalError::NotFound)));
    }

    #[test]
    fn closing_changes_no_decision() {
        let (dir, seams) = test_seams("approvals-close");
        let approvals = Approvals::open(dir, seams);
        let (a, b) = (approval(1, 1, 1), approval(1, 2, 1));
        approvals.create(&a).unwrap();
        approvals.create(&b).unwrap();
        approvals.mark(a.id, Decision::Approved).unwrap();
        for id in [a.id, b.id] {
            approvals.close(id).unwrap();
        }
        assert_eq!(approvals.find(a.owner, a.id).unwrap().status, Status::Approved);
        assert_eq!(approvals.find(b.owner, b.id).unwrap().status, Status::Rejected);
    }

    #[test]
    fn open_questions_of_one_owner_are_bounded() {
        let (dir, seams) = test_seams("approvals-many");
        let approvals = Approvals::open(dir, seams);
        for n in 0..APPROVALS_PENDING_MAX {
            approvals.create(&approval(1, n as u8, 1)).unwrap();
        }
        assert!(matches!(approvals.create(&approval(1, 255, 1)), Err(ApprovalError::TooMany)));
        approvals.create(&approval(2, 254, 1)).unwrap();
    }
}
