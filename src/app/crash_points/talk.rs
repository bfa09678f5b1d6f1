//! A conversation, and whoever reads it as it goes.

use std::sync::Arc;

use super::house::{House, read_on};
use super::ledger::Ledger;
use crate::base::ids::{MessageId, SessionId};
use crate::store::record::{About, Body};
use crate::store::session::Session;
use crate::store::tail::Tail;
use crate::store::testing::say;

/// A conversation, and whoever reads it as it goes.
pub(super) struct Talk<'a> {
    ledger: &'a Ledger,
    pub(super) session: Arc<Session>,
    reader: Tail,
}

impl<'a> Talk<'a> {
    pub(super) async fn begin(house: &House, ledger: &'a Ledger, about: About) -> Talk<'a> {
        let id = SessionId::random(&*house.app.random);
        let session = house.app.sessions.load_or_begin(id, house.owner, about).await.unwrap();
        Self::with(ledger, session)
    }
    pub(super) fn with(ledger: &'a Ledger, session: Arc<Session>) -> Talk<'a> {
        let reader = session.tail(session.last_seq());
        Talk { ledger, session, reader }
    }
    pub(super) fn id(&self) -> SessionId {
        self.session.id()
    }
    pub(super) async fn read(&mut self) {
        let records = read_on(&mut self.reader).await;
        self.ledger.of_session(self.id(), |now, talked| talked.saw(now, records));
    }
    pub(super) async fn say(&mut self, house: &House, content: &str) -> MessageId {
        let id = MessageId::random(&*house.app.random);
        self.session.accept(id, say(content)).await.unwrap();
        self.ledger.of_session(self.id(), |now, talked| talked.said(now, id, content));
        self.read().await;
        id
    }
    pub(super) async fn add(&mut self, message: MessageId, bodies: Vec<Body>) {
        self.session.append(message, bodies).await.unwrap();
        self.read().await;
    }
}
