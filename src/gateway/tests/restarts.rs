//! Questions and parked runs over restarts, and over disks that fail for a moment.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_decided_after_a_restart() {
    let house = house();
    let parked = house.send("ask", None).await;
    let (approval, id, session) = (asked(&parked).await, parked.id, parked.session.id());
    house.gateway.parked(id).await;
    let house = house.again();
    house.gateway.resume_parked().await;
    assert_eq!(house.gateway.counts().parked, 1);
    house.gateway.decide(house.owner, None, approval, Decision::Approved).await.unwrap();
    let session = house.sessions.load(session, house.owner).await.unwrap();
    assert_eq!(ended(&session, id).await.1.text, "Some(Approved)");
    assert_eq!(house.begun(), ["ask"], "it went on, it did not begin anew");
    house.gateway.over(id).await;
    let counts = house.gateway.counts();
    assert_eq!((counts.forked, counts.completed, counts.failed), (1, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_decided_before_the_end_goes_on_after_it() {
    let house = house();
    let parked = house.send("ask", None).await;
    let (approval, id, session) = (asked(&parked).await, parked.id, parked.session.id());
    house.gateway.parked(id).await;
    // The process ends between the record of the decision and everything behind it.
    parked.session.append(id, vec![Body::ApprovalResolved { approval_id: approval, decision: Decision::Approved }]).await.unwrap();
    let house = house.again();
    house.gateway.resume_parked().await;
    let session = house.sessions.load(session, house.owner).await.unwrap();
    assert_eq!(ended(&session, id).await.1.text, "Some(Approved)");
    assert_eq!(house.approvals.find(house.owner, approval).unwrap().status, Status::Approved);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_whose_file_was_never_written_is_asked_again() {
    let house = house();
    let parked = house.send("ask", None).await;
    let (approval, id, session) = (asked(&parked).await, parked.id, parked.session.id());
    house.gateway.parked(id).await;
    std::fs::remove_dir_all(house.home.workspace().join("approvals")).unwrap();
    let house = house.again();
    house.gateway.adopt_session(session, house.owner).await;
    assert_eq!(house.approvals.find(house.owner, approval).unwrap().message_id, id);
}

/// Somebody who was told of it before the kill answers before the start has come to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_whose_file_was_never_written_can_be_answered_while_the_start_looks_around() {
    let house = house();
    let parked = house.send("ask", None).await;
    let (approval, id, session) = (asked(&parked).await, parked.id, parked.session.id());
    house.gateway.parked(id).await;
    std::fs::remove_dir_all(house.home.workspace().join("approvals")).unwrap();
    let house = house.again();
    house.gateway.state().looked = false;
    let early = house.gateway.decide(house.owner, None, approval, Decision::Approved);
    let start = async {
        house.gateway.adopt_session(session, house.owner).await;
        house.gateway.has_looked();
    };
    tokio::join!(early, start).0.unwrap();
    let session = house.sessions.load(session, house.owner).await.unwrap();
    assert_eq!(ended(&session, id).await.1.text, "Some(Approved)");
    // Then nobody waits for what there is not.
    let unknown = house.gateway.decide(house.owner, None, ApprovalId::random(&SystemRandom::new()), Decision::Approved).await;
    assert!(matches!(unknown, Err(DecideError::NotFound)));
}

/// A read that fails says nothing about the run: it stays where it is, and whoever comes next finds it.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_cannot_be_read_for_a_moment_goes_on_later() {
    let house = house();
    let parked = house.send("ask", None).await;
    let (approval, id, session) = (asked(&parked).await, parked.id, parked.session.id());
    house.gateway.parked(id).await;
    let disk = FaultDisk::new();
    let house = house.again_on(Arc::new(disk.clone()));
    // Open already, so that it is the run that cannot be read, not the session.
    let session = house.sessions.load(session, house.owner).await.unwrap();
    disk.refuse_reading(Some(&house.log(session.id())));
    house.gateway.resume_parked().await;
    let decided = house.gateway.decide(house.owner, None, approval, Decision::Approved).await;
    assert!(matches!(decided, Err(DecideError::Store(StoreError::Io { .. }))), "{decided:?}");
    let next = house.gateway.submit(house.message("say x", Some(session.id()))).await;
    assert!(matches!(next, Err(GatewayError::Store(StoreError::Io { .. }))), "nobody takes its place unseen");
    assert_eq!((session.open_messages(), house.status(approval)), (vec![id], Status::Pending));
    disk.refuse_reading(None);
    house.gateway.decide(house.owner, None, approval, Decision::Approved).await.unwrap();
    assert_eq!(ended(&session, id).await.1.text, "Some(Approved)");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approved_run_that_cannot_be_read_for_a_moment_goes_on_later() {
    let house = house();
    let parked = house.send("ask", None).await;
    let (approval, id, session) = (asked(&parked).await, parked.id, parked.session.id());
    house.gateway.parked(id).await;
    let disk = FaultDisk::new();
    let house = house.again_on(Arc::new(disk.clone()));
    let session = house.sessions.load(session, house.owner).await.unwrap();
    house.gateway.resume_parked().await;
    // The disk fails between the decision and the run that it lets go on.
    session.append(id, vec![Body::ApprovalResolved { approval_id: approval, decision: Decision::Approved }]).await.unwrap();
    disk.refuse_reading(Some(&house.log(session.id())));
    house.gateway.state().lanes.get_mut(&session.id()).unwrap().parked.as_mut().unwrap().next = state::Next::Go;
    house.gateway.wake(session.id());
    house.gateway.over(id).await;
    assert_eq!(session.open_messages(), [id], "it is not over");
    disk.refuse_reading(None);
    let next = house.send("say x", Some(session.id())).await;
    assert_eq!(ended(&session, id).await.1.text, "Some(Approved)");
    assert_eq!(ended(&next.session, next.id).await.0, "done");
}

/// What nothing will make readable ends, before and after a restart: whoever waits for it hears so.
#[tokio::test(flavor = "multi_thread")]
async fn a_parked_run_whose_message_is_damaged_ends() {
    let house = house();
    let parked = house.send("ask", None).await;
    asked(&parked).await;
    house.gateway.parked(parked.id).await;
    let again = house.again();
    for (house, adopts) in [(house, false), (again, true)] {
        let session = house.sessions.load(parked.session.id(), house.owner).await.unwrap();
        let mut log = std::fs::read(house.log(session.id())).unwrap();
        let at = log.windows(3).position(|bytes| bytes == b"ask").unwrap();
        log[at] = b'A';
        std::fs::write(house.log(session.id()), log).unwrap();
        if adopts {
            assert!(house.gateway.adopt_session(session.id(), house.owner).await);
        } else {
            drop(house.gateway.stop(house.owner, parked.id).await.unwrap());
            house.gateway.over(parked.id).await;
        }
        let end = session.find(parked.id).unwrap().terminal.expect("it has ended");
        let Step::Record(last) = session.tail(end - 1).next().await.unwrap() else { panic!("no record") };
        let code = last.record.body.ending().and_then(|ending| ending.error.clone()).unwrap().code;
        assert_eq!((last.kind, code.as_str()), ("failed", "internal"));
        assert!(!house.gateway.is_live(parked.id));
    }
}

/// The log is the truth (THREATS 22): a question is decided once, also where its file did not hear of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_whose_file_missed_the_decision_is_not_decided_again() {
    let disk = FaultDisk::new();
    let house = House::on(Arc::new(disk.clone()), &dir(), Settings::default());
    let parked = house.send("ask-twice", None).await;
    let first = asked(&parked).await;
    house.gateway.parked(parked.id).await;
    let file = house.file(first);
    disk.refuse_writing(Some(&file.with_extension("json.new")));
    house.gateway.decide(house.owner, None, first, Decision::Rejected).await.unwrap();
    let second = until(&parked.session, parked.id, |body| match body {
        Body::ApprovalRequested { approval_id, .. } if *approval_id != first => Some(*approval_id),
        _ => None,
    })
    .await;
    house.gateway.parked(parked.id).await;
    house.gateway.decide(house.owner, None, second, Decision::Rejected).await.unwrap();
    assert_eq!(house.status(first), Status::Pending, "as the test wants it");
    disk.refuse_writing(None);
    // Neither by a person nor by the timer.
    house.clock.advance(Duration::from_secs(3600));
    let again = house.gateway.decide(house.owner, None, first, Decision::Approved).await;
    assert!(matches!(again, Err(DecideError::Decided(Status::Rejected))), "{again:?}");
    assert_eq!(house.status(first), Status::Rejected);
    assert_eq!(decisions(&parked.session, parked.id).await.unwrap(), [Decision::Rejected; 2]);
    house.script.gate.notify_one();
    assert_eq!(ended(&parked.session, parked.id).await.1.text, "[Rejected, Rejected]");
}

/// The same after a restart: what waits is its second question, and the file of the first says what became of that.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_whose_file_missed_the_decision_is_put_right_after_a_restart() {
    let house = house();
    for what in ["ask-twice", "ask"] {
        let parked = house.send(what, None).await;
        let first = asked(&parked).await;
        house.gateway.parked(parked.id).await;
        let pending = std::fs::read(house.file(first)).unwrap();
        house.gateway.decide(house.owner, None, first, Decision::Approved).await.unwrap();
        if what == "ask" {
            ended(&parked.session, parked.id).await;
        } else {
            until(&parked.session, parked.id, |body| {
                matches!(body, Body::ApprovalRequested { approval_id, .. } if *approval_id != first).then_some(())
            })
            .await;
            house.gateway.parked(parked.id).await;
        }
        std::fs::write(house.file(first), &pending).unwrap();
        let again = house.again();
        again.gateway.resume_parked().await;
        assert_eq!(again.status(first), Status::Approved, "{what}");
        assert_eq!(again.gateway.is_live(parked.id), what == "ask-twice");
    }
}

/// A question whose run ended without an answer needs none.
#[tokio::test(flavor = "multi_thread")]
async fn the_question_of_a_run_that_is_over_is_closed() {
    let house = house();
    let parked = house.send("ask", None).await;
    let approval = asked(&parked).await;
    house.gateway.parked(parked.id).await;
    parked.session.append(parked.id, vec![Body::Failed(Ending::default())]).await.unwrap();
    let again = house.again();
    again.gateway.resume_parked().await;
    assert_eq!(again.status(approval), Status::Rejected);
    let decided = house.gateway.decide(house.owner, None, approval, Decision::Approved).await;
    assert!(matches!(decided, Err(DecideError::Decided(Status::Rejected))), "{decided:?}");
    assert!(decisions(&parked.session, parked.id).await.unwrap().is_empty(), "nothing follows the end");
}
