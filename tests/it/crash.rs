//! kill −9 at random moments of a streamed answer: what was acknowledged and what was seen is there afterwards.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::Dice;
use crate::support::scripted::{Do, Reply, Scripted};
use crate::support::server::{Server, Setup};
use crate::support::ws::Ws;

/// What a client knows of one message when the server dies.
#[derive(Default, Debug)]
struct Known {
    id: String,
    content: String,
    /// The pieces that were seen, joined.
    seen: String,
    /// The text of `done`, where it was seen.
    done: Option<String>,
}

#[tokio::test]
async fn two_hundred_kills_lose_nothing_that_was_acknowledged() {
    let rounds: usize = std::env::var("OXIOS_TEST_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(200);
    let mut dice = Dice::new("kills");
    let model = Scripted::start();
    let pieces: Vec<String> = (0..40).map(|n| format!("piece{n} ")).collect();
    // An answer takes about 200 ms.
    let mut reply = Reply::new().then(Do::Pace(Duration::from_millis(5)));
    for piece in &pieces {
        reply = reply.say(piece);
    }
    let whole = pieces.concat();
    model.always(reply);
    let mut server = Setup::new().openai(&model).env("OXIOS_SECURITY__RATE_LIMIT_PER_MINUTE", "0").start();
    // A few conversations, so that some die early and some have a long past.
    let sessions: Vec<String> = (0..5).map(|n| format!("0f3ae2a4-9c1b-4f6e-8d57-1f2e3d4c5e0{n}")).collect();
    let mut known: BTreeMap<String, Vec<Known>> = BTreeMap::new();
    let mut seen_seqs: BTreeMap<String, BTreeMap<u64, String>> = BTreeMap::new();
    let (mut cut, mut finished) = (0, 0);
    for round in 0..rounds {
        let session = sessions[dice.below(sessions.len() as u64) as usize].clone();
        let content = format!("message {round}");
        let mut socket = Ws::chat(&server.client()).await;
        socket.send(&json!({"type": "message", "content": content, "session_id": session})).await;
        // The moment: anywhere from before `accepted` to after `done`.
        let moment = tokio::time::Instant::now() + Duration::from_micros(dice.below(240_000));
        let mut now = Known { content, ..Known::default() };
        while let Ok(Ok(frame)) = tokio::time::timeout_at(moment, socket.try_json()).await {
            if let Some(seq) = frame["seq"].as_u64() {
                // `accepted` stands for the message's own record.
                let kind = frame["type"].as_str().unwrap_or_default().replace("accepted", "message");
                let name = format!("{}/{kind}", frame["id"].as_str().unwrap_or_default());
                if let Some(other) = seen_seqs.entry(session.clone()).or_default().insert(seq, name.clone()) {
                    assert_eq!(other, name, "seq {seq} of {session} was given twice");
                }
            }
            match frame["type"].as_str().unwrap() {
                "accepted" => now.id = frame["id"].as_str().unwrap().to_owned(),
                "token" => now.seen += frame["content"].as_str().unwrap(),
                "done" => {
                    now.done = Some(frame["text"].as_str().unwrap().to_owned());
                    break;
                }
                "error" => panic!("{frame}"),
                _ => {}
            }
        }
        server.kill9();
        if now.done.is_some() {
            finished += 1
        } else {
            cut += 1
        }
        if !now.id.is_empty() {
            known.entry(session.clone()).or_default().push(now);
        }
        server.restart();
        // Looking often would repair by looking; so mostly the next message is the first to open the log.
        if round % 10 == 9 || round + 1 == rounds {
            for session in known.keys() {
                check(&server, session, &known[session], &whole).await;
            }
        }
    }
    println!("measured kills: {cut} within an answer, {finished} after it");
    assert!(cut > rounds / 2, "most kills are to hit an answer: {cut} of {rounds}");
}

/// Every acknowledged message once and in order, each with exactly one terminal record that holds what was seen.
async fn check(server: &Server, session: &str, known: &[Known], whole: &str) {
    let records = server.client().sse(&format!("/api/sessions/{session}/events?after=0&until=idle")).await.rest().await;
    let mut last = 0;
    for record in &records {
        let seq = record["seq"].as_u64().unwrap();
        assert!(seq > last, "{session}: seq {seq} after {last}");
        last = seq;
    }
    let of_kind = |kinds: &[&str]| -> Vec<&Value> { records.iter().filter(|r| kinds.iter().any(|k| r["kind"] == *k)).collect() };
    let messages = of_kind(&["message"]);
    let ends = of_kind(&["done", "failed", "cancelled", "interrupted"]);
    // Messages that were accepted but not yet acknowledged may be there, too: the known ones are a subsequence.
    let mut stored = messages.iter();
    for message in known {
        let found = stored.find(|r| r["message_id"] == message.id.as_str());
        let found = found.unwrap_or_else(|| panic!("{session}: {:?} was acknowledged and is lost or out of order", message.content));
        assert_eq!(found["content"], message.content.as_str());
        let ends: Vec<_> = ends.iter().filter(|r| r["message_id"] == message.id.as_str()).collect();
        assert_eq!(ends.len(), 1, "{session}: {:?} ends once: {ends:?}", message.content);
        let text = ends[0]["text"].as_str().unwrap();
        assert!(text.starts_with(&message.seen), "{session}: {:?} was seen, {text:?} is kept", message.seen);
        assert!(whole.starts_with(text), "{session}: {text:?} is no beginning of the answer");
        match &message.done {
            Some(done) => assert_eq!((ends[0]["kind"].as_str(), text), (Some("done"), done.as_str())),
            None => assert!(ends[0]["kind"] == "interrupted" || (ends[0]["kind"] == "done" && text == whole), "{}", ends[0]),
        }
    }
    for message in &messages {
        assert_eq!(messages.iter().filter(|m| m["message_id"] == message["message_id"]).count(), 1, "{session}: a message twice");
        assert_eq!(ends.iter().filter(|e| e["message_id"] == message["message_id"]).count(), 1, "{session}: {message} ends once");
    }
    let detail = server.client().get(&format!("/api/sessions/{session}")).await.expect(200).json();
    assert_eq!(detail["user_messages"].as_array().unwrap().len(), messages.len());
    assert_eq!(detail["agent_responses"].as_array().unwrap().len(), ends.len());
}
