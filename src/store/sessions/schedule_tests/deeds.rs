//! What is done to the sessions of a schedule, and what is noted of it.

use serde_json::json;

use super::{NOW, World};
use crate::base::ids::ApprovalId;
use crate::base::time::Clock;
use crate::store::StoreError;
use crate::store::record::{Body, Change, Decision, Phase, PhaseState};
use crate::store::tail::Step;
use crate::store::testing::{done, say, token};

impl World {
    /// A message, in a new session or an old one.
    pub(super) async fn talk(&mut self) -> Result<(), String> {
        let old = if self.known.len() > 3 || self.roll(3) > 0 { self.any() } else { None };
        let id = old.unwrap_or_else(|| self.bench.session_id());
        let loaded = self.sessions.load_or_create(id, self.bench.owner()).await;
        let Some(session) = self.met("load", loaded)? else { return Ok(()) };
        let (message, content) = (self.bench.message_id(), format!("said {}", self.trace.len()));
        let accepted = session.accept(message, say(&content)).await;
        let Some(accepted) = self.met(&format!("say {content:?} in {id}"), accepted)? else { return Ok(()) };
        let known = self.known.entry(id).or_default();
        if accepted.seq <= known.talk.last_seen(NOW) && old.is_some() {
            return Err(format!("seq {} of a new message, {} was seen", accepted.seq, known.talk.last_seen(NOW)));
        }
        known.talk.said(0, message, &content);
        known.open.push((message, String::new(), None));
        known.reader.get_or_insert_with(|| session.tail(accepted.seq - 1));
        Ok(())
    }

    /// The next records of an open message.
    pub(super) async fn go_on(&mut self) -> Result<(), String> {
        let Some(id) = self.any() else { return Ok(()) };
        let open = self.known[&id].open.len();
        if open == 0 {
            return Ok(());
        }
        let at = self.roll(open as u64) as usize;
        let (message, mut text, waits) = self.known[&id].open[at].clone();
        let mut bodies = Vec::new();
        let (mut waits_now, mut ends) = (waits, false);
        let seed_id = None;
        match (waits, self.roll(8)) {
            (Some(approval_id), _) => {
                bodies.push(Body::ApprovalResolved { approval_id, decision: Decision::Approved });
                waits_now = None;
            }
            (None, 0) => {
                let approval_id = ApprovalId::random(&*self.bench.random);
                bodies.push(Body::Checkpoint { calls: 1, tokens: 1, seed_id, state: Some(json!({"a": 1})) });
                bodies.push(Body::ApprovalRequested {
                    approval_id,
                    call_id: "c".into(),
                    action: "w".into(),
                    resource: "r".into(),
                    reason: "r".into(),
                    shown: json!({}),
                    digest: "d".into(),
                    expires_at: self.bench.clock.now(),
                });
                waits_now = Some(approval_id);
            }
            (None, 1 | 2) => ends = true,
            (None, 3) => bodies.push(Body::ToolCall {
                call_id: "c".into(),
                name: "w".into(),
                arguments: json!({}),
                risky: self.roll(2) == 0,
                agent_id: None,
            }),
            (None, 4) => {
                bodies.push(Body::Phase { phase: Phase::Execute, state: PhaseState::Started, verdict: None, score: None, seed_id })
            }
            (None, _) => {}
        }
        if waits.is_none() && waits_now.is_none() {
            for _ in 0..self.roll(4) {
                let piece = format!("{} ", "p".repeat(1 + self.roll(300) as usize));
                text.push_str(&piece);
                bodies.push(token(&piece));
            }
        }
        if ends {
            bodies.push(done(&text));
        }
        if bodies.is_empty() {
            return Ok(());
        }
        let loaded = self.sessions.load(id, self.bench.owner()).await;
        let Some(session) = self.met("load", loaded)? else { return Ok(()) };
        let what = format!("append {:?} in {id}", bodies.iter().map(Body::kind).collect::<Vec<_>>());
        let appended = match session.append(message, bodies).await {
            // Its end was written, or its process ended, without an answer.
            Err(StoreError::Ended) => {
                self.known.get_mut(&id).unwrap().open.remove(at);
                return Ok(());
            }
            other => self.met(&what, other)?,
        };
        let known = self.known.get_mut(&id).unwrap();
        if appended.is_some() {
            known.open[at] = (message, text.clone(), waits_now);
            if ends {
                known.open.remove(at);
                known.ended.push((message, text));
            }
        }
        Ok(())
    }

    /// A reader goes on, or another one begins anywhere.
    pub(super) async fn read(&mut self) -> Result<(), String> {
        let Some(id) = self.any() else { return Ok(()) };
        let loaded = self.sessions.load(id, self.bench.owner()).await;
        let Some(session) = self.met("load", loaded)? else { return Ok(()) };
        let mut reader = self.known.get_mut(&id).unwrap().reader.take();
        if self.roll(3) == 0 || reader.is_none() {
            let cursor = self.roll(session.last_seq() + 1);
            reader = Some(session.tail(cursor));
        }
        let mut reader = reader.unwrap();
        let mut records = Vec::new();
        while !reader.caught_up() {
            match reader.next().await {
                Ok(Step::Record(entry)) => records.push(String::from_utf8(entry.json.to_vec()).unwrap()),
                Ok(Step::Resync { .. }) => return Err(format!("a reader of {id} was lost")),
                Ok(Step::Deleted) => break,
                Err(e) => {
                    self.met::<()>("read", Err(e))?;
                    break;
                }
            }
        }
        self.did(format_args!("read {} of {id}", records.len()));
        let known = self.known.get_mut(&id).unwrap();
        known.talk.saw(0, records);
        known.reader = Some(reader);
        Ok(())
    }

    pub(super) async fn about(&mut self) -> Result<(), String> {
        let Some(id) = self.any() else { return Ok(()) };
        let title = format!("title {}", self.trace.len());
        let loaded = self.sessions.load(id, self.bench.owner()).await;
        let Some(session) = self.met("load", loaded)? else { return Ok(()) };
        let set = session.set_about(Change { title: Some(Some(title)), ..Change::default() }).await;
        self.met("about", set).map(drop)
    }

    pub(super) async fn fork(&mut self) -> Result<(), String> {
        let Some(id) = self.any() else { return Ok(()) };
        let forked = self.sessions.fork(id, self.bench.owner(), None).await;
        if let Some(Some(new)) = self.met("fork", forked)? {
            self.known.entry(new.id).or_default().talk.whole = Some((0, 0, Vec::new()));
        }
        Ok(())
    }

    pub(super) async fn delete(&mut self) -> Result<(), String> {
        let Some(id) = self.any() else { return Ok(()) };
        let deleted = self.sessions.delete(id, self.bench.owner()).await;
        let answered = self.met(&format!("delete {id}"), deleted)?.is_some();
        self.known.get_mut(&id).unwrap().deleted = Some(answered);
        Ok(())
    }

    pub(super) async fn list(&mut self) -> Result<(), String> {
        let listed = self.sessions.list(self.bench.owner(), 1, 500).await;
        let Some(page) = self.met("list", listed)? else { return Ok(()) };
        for (id, known) in &self.known {
            let is = page.items.iter().any(|item| item.id == *id);
            if !self.faulty && (known.deleted == Some(true) && is || known.deleted.is_none() && !is) {
                return Err(format!("{id} is listed: {is}"));
            }
        }
        Ok(())
    }
}
