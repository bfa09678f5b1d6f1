//! Starts the next process on what is left, and compares all that it says with the ledger.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::house::{House, read_on};
use super::ledger::Ledger;
use crate::base::cancel;
use crate::base::ids::{MessageId, Seq, SessionId};
use crate::base::time::{ManualClock, Timestamp};
use crate::store::StoreError;
use crate::store::audit::verify::{Given, Wrong, verify};
use crate::store::session::Session;
use crate::store::testing::conversation::{Conversation, Stop};
use crate::store::testing::{done, say};
use crate::sys::memory_disk::{MemoryDisk, is_stale, same_contents};
use crate::wire::audit_line::hex_bytes;

/// What was looked at before: one session, or everything besides. Where the same files have to say the same, they are not asked
/// again.
#[derive(Default)]
pub(super) struct Looked(Mutex<BTreeMap<Option<SessionId>, Vec<Look>>>);

struct Look {
    files: Vec<(String, Arc<Vec<u8>>)>,
    facts: usize,
    power_cut: bool,
    /// The messages of the session; `None` where it is not there.
    messages: Option<u64>,
}

impl Looked {
    /// The messages of a session that has these files, where that is known.
    fn messages(&self, of: Option<SessionId>, files: &[(String, Arc<Vec<u8>>)], facts: usize, at: Stop) -> Option<Option<u64>> {
        let looked = self.0.lock().unwrap();
        let same = |look: &&Look| look.facts == facts && look.power_cut == at.power_cut && same_contents(&look.files, files);
        looked.get(&of)?.iter().rev().find(same).map(|look| look.messages)
    }
    fn add(&self, of: Option<SessionId>, files: Vec<(String, Arc<Vec<u8>>)>, facts: usize, at: Stop, messages: Option<u64>) {
        self.0.lock().unwrap().entry(of).or_default().push(Look { files, facts, power_cut: at.power_cut, messages });
    }
}

/// What a process was started on, and with what it is compared.
pub(super) struct Check<'a> {
    pub(super) disk: &'a MemoryDisk,
    pub(super) at: Stop,
    pub(super) ledger: &'a Ledger,
    /// The time when the script ended.
    pub(super) end: Timestamp,
    pub(super) looked: &'a Looked,
}

impl Check<'_> {
    /// Starts the next process and compares what it says with the ledger. `seen`: what readers of the process before saw; grows by
    /// what is read here.
    pub(super) async fn run(&self, seed: u64, seen: &mut BTreeMap<SessionId, Conversation>) -> Result<(), String> {
        let (disk, at, ledger) = (self.disk, self.at, self.ledger);
        type File = (String, Arc<Vec<u8>>);
        let mut files: BTreeMap<Option<SessionId>, Vec<File>> = BTreeMap::new();
        for (path, content) in disk.contents() {
            let of = path.split_once("/sessions/").and_then(|(_, name)| SessionId::parse(name.get(..36)?).ok());
            files.entry(of).or_default().push((path, content));
        }
        let clock = Arc::new(ManualClock::at(self.end));
        let house = House::start(disk, &clock, seed).map_err(|e| format!("the start failed: {e}"))?;
        let (app, owner) = (&house.app, house.owner);
        let facts = ledger.thing_facts(at);
        let these = files.remove(&None).unwrap_or_default();
        let known = self.looked.messages(None, &these, facts, at).is_some();
        if ledger.began_by(at) && !known {
            ledger.check_things(at, &house.things(ledger)?)?;
            self.looked.add(None, these, facts, at, None);
        }
        self.audit(&house)?;

        let page = app.sessions.list(owner, 1, 500).await.map_err(|e| e.to_string())?;
        let audit: Vec<Arc<Vec<u8>>> =
            disk.contents().into_iter().filter(|(path, _)| path.contains("/audit/")).map(|(_, text)| text).collect();
        let mut gone = BTreeSet::new();
        let mut listed: BTreeMap<SessionId, u64> = page.items.into_iter().map(|item| (item.id, item.message_count)).collect();
        for (id, talked) in &ledger.sessions() {
            let (these, facts) = (files.remove(&Some(*id)).unwrap_or_default(), talked.facts(at));
            // What the process before was seen to say is compared in any case.
            let known = if seen.contains_key(id) { None } else { self.looked.messages(Some(*id), &these, facts, at) };
            let messages = match known {
                Some(messages) => messages,
                None => {
                    let messages = self.session(&house, *id, talked, seen).await.map_err(|e| format!("session {id}: {e}"))?;
                    self.looked.add(Some(*id), these, facts, at, messages);
                    messages
                }
            };
            if messages.is_none() && talked.is_gone(at).0 {
                gone.insert(*id);
                let named = |text: &Arc<Vec<u8>>| String::from_utf8_lossy(text).contains(&id.to_string());
                if ledger.is_pruned(*id) && !audit.iter().any(named) {
                    return Err(format!("session {id} was pruned and the audit log does not say so"));
                }
            }
            let is_listed = listed.remove(id);
            if is_listed != messages {
                return Err(format!("session {id} has {messages:?} messages and is listed with {is_listed:?}"));
            }
        }
        if let Some(id) = listed.keys().next() {
            return Err(format!("session {id} is listed and nobody asked for it"));
        }
        clock.advance(Duration::from_secs(10));
        app.sessions.give_back();
        app.sessions.tend_graves(&*app.gateway, &cancel::pair().1).await;
        let seeds = app.seeds.list(owner, 0, 100).map_err(|e| e.to_string())?.0;
        if let Some(seed) = seeds.iter().find(|seed| gone.contains(&seed.session_id)) {
            return Err(format!("session {} is gone and its specification {} is not", seed.session_id, seed.id));
        }
        // What was being written into a session's own directory, or beside the listing's cache, is written over, or goes with it.
        let beside = |path: &String| match path.rsplit_once("/sessions/") {
            Some((_, name)) => name.ends_with(".new") && !name.contains('/') && !name.starts_with("index"),
            None => false,
        };
        // A projection with text of another file in it looks like one that somebody edited, and is kept.
        let odd = |path: &String, bytes: &[u8]| beside(path) || path.contains(".bad") || (path.contains(".kept") && !is_stale(bytes));
        let left = disk.contents().into_iter().find(|(path, bytes)| odd(path, bytes));
        left.map_or(Ok(()), |(path, _)| Err(format!("{path} is left for somebody to look at")))
    }

    /// The chain has what was acknowledged. Of what was only noted a power cut may leave any part, which is what it then finds.
    fn audit(&self, house: &House) -> Result<(), String> {
        let (n, must) = (house.audit_n(), self.ledger.audited_by(self.at));
        let given = Given { public_key: hex_bytes(&house.app.audit.public_key()), head: None };
        let verdict = verify(self.disk, &house.app.audit.dir(), &given).map_err(|e| e.to_string())?;
        let wrong = verdict.findings.iter().find(|finding| match finding.what {
            Wrong::Missing(from, _) => !self.at.power_cut || from <= must,
            Wrong::Unreadable => !self.at.power_cut,
            _ => true,
        });
        match wrong {
            Some(finding) => Err(format!("the audit log: {finding:?}")),
            None if n < must => Err(format!("the audit log has {n} records, {must} were acknowledged")),
            None => Ok(()),
        }
    }

    /// One session; tells how many messages it has, where it is there.
    async fn session(
        &self,
        house: &House,
        id: SessionId,
        talked: &Conversation,
        seen: &mut BTreeMap<SessionId, Conversation>,
    ) -> Result<Option<u64>, String> {
        let at = self.at;
        let (may, must) = talked.is_gone(at);
        let session = match house.app.sessions.load(id, house.owner).await {
            Ok(_) if must => return Err("it was deleted and is there".to_owned()),
            Ok(session) => session,
            Err(StoreError::NotFound) if may || !talked.is_begun(at) => return Ok(None),
            Err(e) => return Err(e.to_string()),
        };
        let now = read_on(&mut session.tail(0)).await;
        let open: Vec<MessageId> = session.waiting().iter().map(|waiting| waiting.message_id).collect();
        let before = seen.entry(id).or_default();
        talked.check(at, &now, &open)?;
        before.check(Stop { ended: 0, begun: 0, ..at }, &now, &open).map_err(|e| format!("as the process before saw it: {e}"))?;
        for blob in talked.kept(at) {
            session.read_blob(blob).await.map_err(|e| format!("the large result {blob}: {e}"))?;
        }
        if let Some((.., texts)) = &talked.whole {
            let detail = text_of(&session).await;
            if texts.iter().any(|text| !detail.contains(&serde_json::Value::from(text.as_str()).to_string())) {
                return Err(format!("it is not whole: {detail}"));
            }
        }
        let messages = now.iter().filter(|json| json.contains("\"kind\":\"message\"")).count() as u64;
        let last = talked.last_seen(at).max(before.last_seen(at));
        before.saw(0, now);
        // The conversation goes on, with a number that nobody has seen.
        if open.is_empty() && (at.begun + id.as_bytes()[0] as usize).is_multiple_of(2) {
            let (message, next) = go_on(&session, house).await?;
            before.said(0, message, "next");
            if next <= last {
                return Err(format!("seq {next} is given again, {last} was seen"));
            }
        }
        Ok(Some(messages))
    }
}

/// Another message and its end.
async fn go_on(session: &Arc<Session>, house: &House) -> Result<(MessageId, Seq), String> {
    let id = MessageId::random(&*house.app.random);
    let accepted = session.accept(id, say("next")).await.map_err(|e| e.to_string())?;
    session.append(id, vec![done("")]).await.map_err(|e| e.to_string())?;
    Ok((id, accepted.seq))
}

async fn text_of(session: &Arc<Session>) -> String {
    let (mut detail, mut text) = (session.detail(), Vec::new());
    while let Some(piece) = detail.next().await.unwrap() {
        text.extend_from_slice(&piece);
    }
    String::from_utf8(text).unwrap()
}
