//! What a client does: it sends, reads, comes back, cancels, decides, deletes; and it writes down what it was told.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::Dice;
use crate::client::{Socket, ask, events};
use crate::ledger::Ledger;
use crate::world::World;

/// How often one message is tried before it is given up; kills are seconds apart.
const TRIES: usize = 8;
/// Messages of a conversation before another one is begun in its place.
const TURNS: u64 = 40;

/// A key for each client; half of them belong to another owner.
pub async fn make_keys(world: &World, clients: u64) {
    let (address, first) = (world.address().await, world.first_key());
    let body = json!({"name": "chaos", "scopes": ["read", "chat", "write", "approve"], "owner": "new"}).to_string();
    let (status, answer) = ask(&address, &first, "POST", "/api/keys", &[], &body).await.expect("a key");
    assert_eq!(status, 201, "{answer}");
    let other = serde_json::from_str::<Value>(&answer).unwrap()["key"].as_str().unwrap().to_owned();
    for n in 0..clients {
        world.add_key(if n % 2 == 0 { first.clone() } else { other.clone() });
    }
}

/// What a client is talking about.
#[derive(Default, Clone)]
struct Conversation {
    session: String,
    /// Which of this client's.
    number: u64,
    turns: u64,
}

/// One client, until it is told to stop.
pub async fn converse(client: u64, mut dice: Dice, world: Arc<World>, ledger: Arc<Ledger>, stop: watch::Receiver<bool>) {
    let key = world.key(client);
    // Marks of an earlier load are not used again.
    let round = dice.below(1 << 30);
    let mut conversations = [Conversation::default(), Conversation::default()];
    let mut begun = 0;
    let mut last = String::new();
    while !*stop.borrow() {
        let address = world.address().await;
        let at = dice.below(2) as usize;
        if conversations[at].session.is_empty() || conversations[at].turns > TURNS {
            begun += 1;
            conversations[at] = Conversation { session: uuid(&mut dice), number: begun, turns: 0 };
        }
        let Conversation { session, number, turns } = conversations[at].clone();
        let mark = format!("m-{client}x{round}x{number}-{turns}");
        match dice.below(100) {
            0..=39 => {
                conversations[at].turns += 1;
                post(&world, &ledger, &key, client, &session, &mark, &mut last).await;
            }
            40..=69 => {
                conversations[at].turns += 1;
                socket(&address, &ledger, &key, client, &session, &mark, dice.below(40)).await;
            }
            70..=79 => read(&address, &ledger, &key, &session, dice.below(turns * 10 + 1)).await,
            80..=84 if !last.is_empty() => {
                ask(&address, &key, "POST", &format!("/api/chat/{last}/cancel"), &[], "").await;
                ledger.count("cancels");
            }
            85..=91 => decide(&address, &ledger, &key, &mut dice).await,
            92..=93 => {
                ledger.deletes(&session, false);
                let answer = ask(&address, &key, "DELETE", &format!("/api/sessions/{session}"), &[], "").await;
                if matches!(answer, Some((200, _))) {
                    ledger.deletes(&session, true);
                    ledger.count("sessions deleted");
                }
                conversations[at] = Conversation::default();
            }
            _ => {
                let paths = ["/api/sessions", "/api/sessions?q=echo", "/api/agents", "/api/status", "/metrics"];
                let path = paths[dice.below(paths.len() as u64) as usize];
                ask(&address, &key, "GET", path, &[], "").await;
                ledger.count("other reads");
            }
        }
    }
}

/// Sends with an idempotency key and tries again, until it is known what became of it.
async fn post(world: &World, ledger: &Ledger, key: &str, client: u64, session: &str, mark: &str, last: &mut String) {
    let body = json!({"content": format!("please answer {mark}"), "session_id": session}).to_string();
    ledger.sends(client, session, mark);
    for _ in 0..TRIES {
        let address = world.address().await;
        let answer = ask(&address, key, "POST", "/api/chat", &[("idempotency-key", mark)], &body).await;
        let Some((status, answer)) = answer else {
            ledger.count("answers that broke off");
            continue;
        };
        let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
        match status {
            200 | 202 => {
                let id = answer["id"].as_str().unwrap_or_default();
                id.clone_into(last);
                ledger.acknowledged(session, mark, id);
                if status == 200 {
                    ledger.saw_end(session, mark, answer["reply"].as_str().unwrap_or_default());
                }
                return;
            }
            429 | 503 | 507 => {
                ledger.count("refusals");
                // A client that is told to come back does so.
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            // It failed, was cancelled, or its session is gone: in each case it is over.
            _ => return ledger.count("failed answers"),
        }
    }
}

/// Sends on a WebSocket and reads so many frames, or to the end.
async fn socket(address: &str, ledger: &Ledger, key: &str, client: u64, session: &str, mark: &str, frames: u64) {
    let Some(mut socket) = Socket::open(address, key).await else { return };
    ledger.sends(client, session, mark);
    let message = json!({"type": "message", "content": format!("please answer {mark}"), "session_id": session});
    if socket.send(&message).await.is_none() {
        return;
    }
    // Half of the time it stays to the end.
    let frames = if frames < 20 { frames } else { u64::MAX };
    let mut id = String::new();
    for _ in 0..frames {
        let Some(frame) = socket.next().await else { return };
        let text = |name: &str| frame[name].as_str().unwrap_or_default();
        match text("type") {
            "accepted" => {
                text("id").clone_into(&mut id);
                ledger.acknowledged(session, mark, &id);
                ledger.saw_seq(session, frame["seq"].as_u64().unwrap_or_default(), "message", &id);
                continue;
            }
            // Not accepted, or the end of it will say so.
            "error" if id.is_empty() => return ledger.count("refusals"),
            _ if text("id") != id => continue,
            "token" => ledger.saw(session, mark, text("content")),
            "approval_requested" => return,
            "done" => {
                ledger.saw_seq(session, frame["seq"].as_u64().unwrap_or_default(), text("outcome"), &id);
                return ledger.saw_end(session, mark, text("text"));
            }
            _ => {}
        }
    }
}

/// Reads the log from somewhere on.
async fn read(address: &str, ledger: &Ledger, key: &str, session: &str, after: u64) {
    let Some((200, records)) = events(address, key, session, after).await else { return };
    for record in &records {
        let text = |name: &str| record[name].as_str().unwrap_or_default();
        // A reader behind the end is told so and begins anew.
        if let (Some(seq), false) = (record["seq"].as_u64(), text("kind").is_empty()) {
            ledger.saw_seq(session, seq, text("kind"), text("message_id"));
        }
    }
    ledger.count("logs read");
}

/// Answers an open question.
async fn decide(address: &str, ledger: &Ledger, key: &str, dice: &mut Dice) {
    let Some((200, list)) = ask(address, key, "GET", "/api/approvals", &[], "").await else { return };
    let list: Vec<Value> = serde_json::from_str(&list).unwrap_or_default();
    let open: Vec<&Value> = list.iter().filter(|approval| approval["status"] == "pending").collect();
    if open.is_empty() {
        return;
    }
    let one = open[dice.below(open.len() as u64) as usize];
    let verb = if dice.below(2) == 0 { "approve" } else { "reject" };
    let path = format!("/api/approvals/{}/{verb}", one["id"].as_str().unwrap_or_default());
    ask(address, key, "POST", &path, &[], "").await;
    ledger.count("decisions");
}

fn uuid(dice: &mut Dice) -> String {
    let mut hex = |n: usize| (0..n).map(|_| char::from_digit(dice.below(16) as u32, 16).unwrap()).collect::<String>();
    format!("{}-{}-4{}-8{}-{}", hex(8), hex(4), hex(3), hex(3), hex(12))
}
