//! Messages through the gateway and the offline model: tools, an approval, a specification; each of them audited.

use super::house::House;
use super::ledger::Ledger;
use crate::gateway::IncomingMessage;
use crate::store::audit::{Event, Outcome, What, Who};
use crate::store::record::{Body, Decision};
use crate::store::tail::Step;

pub(super) async fn all(house: &House, ledger: &Ledger) {
    let mut session = None;
    for content in ["hello", "remember the tap drips", "write run.txt: by the agent", "task count the cats"] {
        let from = ledger.now();
        let incoming = IncomingMessage {
            key: None,
            id: None,
            channel: "rest",
            user_id: "default".to_owned(),
            content: content.to_owned(),
            session_id: session,
            space_id: None,
            attachments: Vec::new(),
            idempotency_key: None,
            budget: None,
            history: Default::default(),
            owner: house.owner,
        };
        let submitted = house.app.gateway.submit(incoming).await.unwrap();
        let (id, message) = (submitted.session.id(), submitted.id);
        ledger.of_session(id, |now, talked| talked.said(now, message, content));
        session = Some(id);
        let mut reader = submitted.session.tail(submitted.seq - 1);
        loop {
            let Step::Record(entry) = reader.next().await.unwrap() else { panic!("a record") };
            let json = String::from_utf8(entry.json.to_vec()).unwrap();
            ledger.of_session(id, |now, talked| talked.saw(now, [json]));
            if let Body::ApprovalRequested { approval_id, .. } = &entry.record.body {
                house.app.gateway.decide(house.owner, None, *approval_id, Decision::Approved).await.unwrap();
                ledger.of_session(id, |now, talked| talked.approved(now, *approval_id));
            }
            if entry.terminal {
                break;
            }
        }
        if content.starts_with("remember") {
            let (kept, _) = house.app.memory.list(house.owner, 0, 100).unwrap();
            let kept = kept.into_iter().find(|entry| entry.content.contains("tap")).unwrap();
            ledger.set(from, format!("memory/{}", kept.id), Some(&kept.content));
        }
        if content.starts_with("write") {
            let text = house.app.workspaces.of(house.owner).unwrap().read("run.txt", 100).unwrap().0;
            ledger.set(from, "file/run.txt", Some(&String::from_utf8(text).unwrap()));
        }
        let said = Event { who: Who::default(), what: What::Message, on: None, outcome: Outcome::Done };
        house.app.audit.append(said).await.unwrap();
        ledger.audited(house.audit_n(), true);
    }
}
