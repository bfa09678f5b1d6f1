//! A session that begins as a copy of another one's ended turns.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::sync::Arc;

use crate::base::ids::{AgentId, MessageId, OwnerId, SeedId, Seq, SessionId};
use crate::store::StoreError;
use crate::store::core::Core;
use crate::store::home::Space;
use crate::store::lines::{Forward, Glance, PAGE_BYTES};
use crate::store::record::{About, Body, Record};
use crate::store::session::blocking;
use crate::store::sessions::Sessions;
use crate::sys::disk::{DiskFile, Open};
use crate::wire::log_line::{self, FORMAT, Header};

/// What became of a fork.
pub struct Forked {
    /// The new session.
    pub id: SessionId,
    /// The specifications that its answers name; they are as much its own now.
    pub seeds: BTreeSet<SeedId>,
}

impl Sessions {
    /// Copies the messages and answers of all ended turns, up to and with `upto`, into a new session; on disk when it answers
    /// its id. They have new ids and no idempotency keys; tools and questions to people are not copied. `None` where nothing has ended,
    /// or the named turn has not.
    ///
    /// # Errors
    /// `NotFound` where the session or the message is unknown, `DiskFull`, `Io`; nothing is left then.
    pub async fn fork(&self, id: SessionId, owner: OwnerId, upto: Option<MessageId>) -> Result<Option<Forked>, StoreError> {
        let session = self.load(id, owner).await?;
        if let Space::Full { why } = self.core.home.space() {
            return Err(StoreError::DiskFull(why));
        }
        let copy = {
            let state = session.state();
            let Some(log) = state.log.clone() else { return if upto.is_some() { Err(StoreError::NotFound) } else { Ok(None) } };
            let about = (state.overview.about_seq > 0).then(|| state.overview.about.clone());
            let (start, end) = (state.log_start, state.log_len);
            Copy { core: self.core.clone(), log, start, end, about, owner, new: SessionId::random(&*self.core.home.seams().random) }
        };
        // The sweep does not take for left over what is written with the turn in hand.
        let turn = self.turn(copy.new).await;
        blocking(move || {
            let _turn = turn;
            let doing = || StoreError::of("copying session", id);
            let (turns, seeds, known) = copy.turns(upto).map_err(doing())?;
            if !known {
                return Err(StoreError::NotFound);
            }
            if turns.is_empty() || upto.is_some_and(|upto| !turns.contains(&upto)) {
                return Ok(None);
            }
            copy.write(&turns).map_err(doing())?;
            copy.core.index.appeared(copy.new);
            Ok(Some(Forked { id: copy.new, seeds }))
        })
        .await
    }
}

/// What is copied where.
struct Copy {
    core: Arc<Core>,
    log: Arc<dyn DiskFile>,
    start: u64,
    end: u64,
    /// Written behind the messages, where the old session has one.
    about: Option<About>,
    owner: OwnerId,
    new: SessionId,
}

impl Copy {
    /// The messages that are copied, and the specifications that their answers name; `false` where the last one is unknown.
    fn turns(&self, upto: Option<MessageId>) -> io::Result<(HashSet<MessageId>, BTreeSet<SeedId>, bool)> {
        let (mut said, mut turns, mut seeds) = (HashSet::new(), HashSet::new(), BTreeSet::new());
        let mut all = false;
        let mut lines = Forward::new(self.log.as_ref(), self.start, self.end);
        while let Some(found) = lines.next()? {
            let Some(glance) = found.json.and_then(Glance::of) else { continue };
            let Some(message) = glance.message_id else { continue };
            if glance.kind == "message" && !all {
                said.insert(message);
                all = upto == Some(message);
            } else if glance.is_terminal() && said.contains(&message) {
                turns.insert(message);
                seeds.extend(glance.seed_id);
            }
        }
        Ok((turns, seeds, upto.is_none() || all))
    }

    /// The log appears whole: written beside, synced, renamed.
    fn write(&self, turns: &HashSet<MessageId>) -> io::Result<()> {
        let disk = self.core.disk();
        let (path, beside) = (self.core.files.log(self.new), self.core.files.named(self.new, "log.new"));
        let write = || -> io::Result<()> {
            let file = disk.open(&beside, Open::CreateNew)?;
            self.copy(turns, file.as_ref())?;
            file.sync()?;
            disk.rename(&beside, &path)?;
            self.core.durability.sync_names()
        };
        write().inspect_err(|_| {
            // Under one of its names.
            let _ = disk.remove_file(&beside);
            let _ = disk.remove_file(&path);
        })
    }

    fn copy(&self, turns: &HashSet<MessageId>, to: &dyn DiskFile) -> io::Result<()> {
        let mut out = Vec::new();
        let mut at = 0;
        // What an imported session brought along goes along again.
        let mut head = Forward::new(self.log.as_ref(), 0, self.start);
        let old = head.next()?.and_then(|found| serde_json::from_slice::<Header>(found.json?).ok());
        let (created, origin) = (self.core.now(), old.and_then(|old| old.origin));
        let header = Header { format: FORMAT, id: self.new, owner: self.owner, created, origin };
        log_line::write(&mut out, &serde_json::to_vec(&header)?);
        let mut seq: Seq = 0;
        let mut lines = Forward::new(self.log.as_ref(), self.start, self.end);
        let mut time = created;
        while let Some(found) = lines.next()? {
            let Some(json) = found.json else { continue };
            let wanted = Glance::of(json).filter(|glance| glance.kind == "message" || glance.is_terminal());
            if wanted.and_then(|glance| glance.message_id).is_none_or(|message| !turns.contains(&message)) {
                continue;
            }
            let Ok(mut record) = serde_json::from_slice::<Record>(json) else { continue };
            if let Body::Message(said) = &mut record.body {
                said.agent_id = AgentId::random(&*self.core.home.seams().random);
                (said.idempotent, said.history) = (false, None);
            }
            seq += 1;
            time = record.time;
            let record = Record { seq, message_id: record.message_id.map(|old| self.renamed(old)), ..record };
            log_line::write(&mut out, &serde_json::to_vec(&record)?);
            if out.len() >= PAGE_BYTES {
                to.write_at(&out, at)?;
                at += out.len() as u64;
                out.clear();
            }
        }
        if let Some(about) = self.about.clone() {
            let record = Record { seq: seq + 1, time, message_id: None, body: Body::About(about) };
            log_line::write(&mut out, &serde_json::to_vec(&record)?);
        }
        to.write_at(&out, at)
    }

    fn renamed(&self, old: MessageId) -> MessageId {
        MessageId::derived(&self.core.home.keyed().mac("forked message", &[self.new.as_bytes(), old.as_bytes()]))
    }
}
