//! Verifying a backup: every byte of it, and that this version reads what is in it as the server would.

use super::place::{KEPT_TOGETHER, KEYS, Layout, Part, Place, TOKEN};
use super::read::{Content, Visitor, read, told};
use super::{BackupError, Doing, Watch};
use crate::base::digest::hex;
use crate::base::limits::{BUDGETS_FILE_BYTES_MAX, CONFIG_BYTES_MAX, KEYS_FILE_BYTES_MAX};
use crate::store::audit::verify::{Check, Given, Verdict};
use crate::store::keys;
use crate::store::open::{Health, examine};
use crate::sys::disk::{DiskFile, read_full};
use crate::wire::tar::Entry;

/// Findings that are told one by one; more are only counted.
const TOLD: usize = 20;

/// What a whole, undamaged backup holds.
#[derive(Debug, Clone)]
pub struct Report {
    /// Where its parts lie.
    pub layout: Layout,
    /// The program's version that wrote it.
    pub program: String,
    /// When, RFC 3339.
    pub created: String,
    /// What it ends with, in hexadecimal.
    pub digest: String,
    /// Files.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Sessions with a log.
    pub sessions: u64,
    /// Keys.
    pub keys: usize,
    /// What `config.toml` says; empty where there is none.
    pub config: Vec<u8>,
    /// The last record of the audit log and its hash; none where there is no audit log.
    pub audit_head: Option<String>,
    /// Records of the audit log.
    pub audit_records: u64,
    /// What the server would not take: it would not start, or what it says cannot be trusted.
    pub doubts: Vec<String>,
    /// What the server would pass over, as it does where the backup was made.
    pub notes: Vec<String>,
}

/// Verifies a backup without writing anything.
///
/// # Errors
/// What [`BackupError`] says of a file that is damaged, refused, or none.
pub fn verify(file: &dyn DiskFile, watch: Watch<'_>) -> Result<Report, BackupError> {
    let mut checker = Checker::default();
    let whole = read(file, Doing::Verifying, &mut checker, watch)?;
    checker.together();
    let verdict = checker.audit.take().map(Check::end);
    if let Some(verdict) = &verdict {
        audit(&mut checker.doubts, verdict);
    }
    let Checker { sessions, keys, mut kept, doubts, notes, .. } = checker;
    let config = kept.iter_mut().zip(KEPT_TOGETHER).find(|(_, name)| *name == "config.toml").and_then(|(bytes, _)| bytes.take());
    Ok(Report {
        layout: whole.layout,
        program: whole.end.program,
        created: whole.end.created,
        digest: hex(&whole.digest),
        files: whole.end.files,
        bytes: whole.end.bytes,
        sessions,
        keys,
        config: config.unwrap_or_default(),
        audit_head: verdict.as_ref().map(Verdict::head),
        audit_records: verdict.map_or(0, |verdict| verdict.records),
        doubts: doubts.end(),
        notes: notes.end(),
    })
}

fn audit(doubts: &mut Findings, verdict: &Verdict) {
    for finding in &verdict.findings {
        doubts.add(format!("audit log: {finding}"));
    }
    doubts.more += verdict.wrong - verdict.findings.len() as u64;
}

#[derive(Default)]
struct Checker {
    /// The files that are kept together, as far as they are there.
    kept: [Option<Vec<u8>>; KEPT_TOGETHER.len()],
    audit: Option<Check>,
    sessions: u64,
    keys: usize,
    doubts: Findings,
    notes: Findings,
}

impl Visitor for Checker {
    fn begin(&mut self, _: &Layout, _: &Entry, _: Place<'_>) -> Result<(), BackupError> {
        Ok(())
    }

    fn piece(&mut self, _: &[u8]) -> Result<(), BackupError> {
        Ok(())
    }

    fn end(&mut self, entry: &Entry, place: Place<'_>, content: &Content<'_>) -> Result<(), BackupError> {
        let unread = |source| BackupError::Io { doing: "reading the backup".to_owned(), source };
        match place {
            Place::Session(id, Part::Log) => {
                self.sessions += 1;
                match examine(content, id).map_err(unread)? {
                    Health::Good { rotten: 0 } => {}
                    Health::Good { rotten } => self.notes.add(format!("session {id}: {rotten} damaged lines are passed over")),
                    Health::Newer(found) => self.doubts.add(format!("session {id} was written by a newer version (format {found})")),
                    Health::SetAside(why) => self.notes.add(format!("session {id} would be set aside: {why}")),
                }
            }
            Place::Audit(segment) => {
                let check = self.audit.get_or_insert_with(|| Check::new(Given::default()));
                check.segment(segment, content).map_err(unread)?;
            }
            Place::Together(at) => {
                let max = KEPT_TOGETHER.get(at).map_or(0, |name| most(name));
                let size = usize::try_from(entry.size.min(max + 1)).unwrap_or(0);
                if entry.size > max {
                    self.doubts.add(format!("{} has {} bytes, at most {max} are read", told(entry.path.as_str()), entry.size));
                    return Ok(());
                }
                let mut bytes = vec![0; size];
                read_full(content, &mut bytes, 0).map_err(unread)?;
                if let Some(kept) = self.kept.get_mut(at) {
                    *kept = Some(bytes);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Checker {
    fn kept(&self, name: &str) -> Option<&[u8]> {
        let at = KEPT_TOGETHER.iter().position(|kept| *kept == name)?;
        self.kept.get(at)?.as_deref()
    }

    /// Says what is wrong with the files of the home itself.
    fn together(&mut self) {
        let mut doubts = Vec::new();
        match self.kept("secret").map(<[u8]>::len) {
            Some(32) => {}
            Some(_) => doubts.push("secret is not 32 bytes".to_owned()),
            None => doubts.push("there is no secret: names in the audit log and ids of retries would not be known again".to_owned()),
        }
        if self.kept("audit.key").is_some_and(|key| key.len() != 32) {
            doubts.push("audit.key is not 32 bytes".to_owned());
        }
        let mut known = 0;
        match self.kept(KEYS).map(|table| keys::examine(table, self.kept(TOKEN))) {
            None => doubts.push("there is no keys.json: the server would make a new first key and owner".to_owned()),
            Some(Err(error)) => doubts.push(error.to_string()),
            Some(Ok((count, is_known))) => {
                known = count;
                if self.kept(TOKEN).is_some() && !is_known {
                    self.notes.add("token holds a key that is not in keys.json".to_owned());
                }
            }
        }
        if let Some(Err(error)) = self.kept("budgets.json").map(keys::books::examine) {
            self.notes.add(format!("{error}; every token budget would count as used up"));
        }
        self.keys = known;
        doubts.into_iter().for_each(|doubt| self.doubts.add(doubt));
    }
}

/// Bytes of a file of the home, as far as the server reads it.
fn most(name: &str) -> u64 {
    match name {
        "config.toml" => CONFIG_BYTES_MAX,
        KEYS => KEYS_FILE_BYTES_MAX,
        "budgets.json" => BUDGETS_FILE_BYTES_MAX,
        _ => 256,
    }
}

/// What was found, told up to a number.
#[derive(Default)]
struct Findings {
    told: Vec<String>,
    more: u64,
}

impl Findings {
    fn add(&mut self, finding: String) {
        if self.told.len() < TOLD { self.told.push(finding) } else { self.more += 1 }
    }
    fn end(mut self) -> Vec<String> {
        if self.more > 0 {
            self.told.push(format!("and {} more", self.more));
        }
        self.told
    }
}
