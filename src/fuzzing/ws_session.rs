//! A WebSocket of the real server, from its handshake on, as a sequence of frames: whole, broken, out of order.
//!
//! The input is a script of steps: two bytes, then what they announce. First byte 0xff: wait as many tenths of a second as the
//! second byte says. 0xfe: as many bytes as the second one says follow and are sent as they are. Any other: the first byte of
//! a frame; the second one's low bits are the length of its payload (127: two more bytes are), its high bit leaves out the mask.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use crate::fuzzing::exchange::{self, find, text};
use crate::fuzzing::frames::{self, Sent};
use crate::fuzzing::house::{CANARY, End, House, Step, Then};
use crate::fuzzing::whole_server::records;

const HANDSHAKE: &[u8] = b"GET /api/chat/stream HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer $KEY\r\nupgrade: websocket\r\n\
    connection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const STEPS_MAX: usize = 200;

/// Whatever comes: no panic, an end in bounded time, only well-formed frames of known types, a good close; a message that was
/// accepted is in the log and ends there once, and its frames say what the log says, in the log's order.
pub(super) fn ws_session(data: &[u8]) {
    if find(data, CANARY.as_bytes()).is_some() {
        return;
    }
    let house = House::new();
    let mut steps = vec![Step::Send(house.with_keys(HANDSHAKE))];
    let (script, closes) = script(data);
    steps.extend(script);
    // A good end for whoever came so far.
    steps.push(Step::Wait(Duration::from_secs(3)));
    let mut close = Vec::new();
    Sent { first: 0x88, masked: true, payload: &1000u16.to_be_bytes() }.write(&mut close);
    steps.push(Step::Send(close));
    let heard = house.converse(&steps, Then::Wait);
    assert_eq!(heard.end, End::Closed, "still open");
    house.nothing_of_anothers_changed();
    assert!(find(&heard.bytes, CANARY.as_bytes()).is_none(), "somebody else's content came out");

    let (answers, behind) = exchange::answers(&heard.bytes, &["GET"]);
    assert!(answers.len() == 1 && answers[0].status == 101, "{}", text(&heard.bytes));
    let received = frames::from_server(behind);
    let told: Vec<Value> = received.texts.iter().map(|text| serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))).collect();
    told.iter().for_each(is_known);
    // Only our own close, answered with its own code, came when everything that was due had been said.
    accepted_is_kept(&house, &told, !closes && received.closed == Some(1000));
}

/// The steps, and whether there may be a close frame in them.
fn script(data: &[u8]) -> (Vec<Step>, bool) {
    let (mut steps, mut rest, mut closes) = (Vec::new(), data, false);
    while let ([first, second, behind @ ..], true) = (rest, steps.len() < STEPS_MAX) {
        rest = behind;
        closes |= first & 15 == 8 || *first == 0xfe;
        let mut take = |len: usize| {
            let (taken, behind) = rest.split_at(len.min(rest.len()));
            rest = behind;
            taken
        };
        steps.push(match first {
            0xff => Step::Wait(Duration::from_millis(100) * u32::from(*second)),
            0xfe => Step::Send(take(usize::from(*second)).to_vec()),
            first => {
                let len = match second & 0x7f {
                    127 => take(2).iter().fold(0, |len, byte| len << 8 | usize::from(*byte)),
                    len => usize::from(len),
                };
                let mut frame = Vec::new();
                Sent { first: *first, masked: second & 0x80 == 0, payload: take(len) }.write(&mut frame);
                Step::Send(frame)
            }
        });
    }
    (steps, closes)
}

/// API A3 and B: these types and no others; what stands for a record names its message and its number.
fn is_known(frame: &Value) {
    let kind = frame["type"].as_str().unwrap_or_default();
    let of_record = match kind {
        "token" | "draft" | "phase" | "tool_start" | "tool_end" | "approval_requested" | "approval_resolved" | "usage" | "done"
        | "message" => true,
        "error" => {
            assert!(frame["code"].is_string() && frame["message"].is_string(), "{frame}");
            frame.get("seq").is_some()
        }
        "accepted" => true,
        "about" => false,
        "pong" | "resync" | "deleted" => false,
        _ => panic!("a frame of no known type: {frame}"),
    };
    assert!(!of_record || (frame["id"].is_string() && frame["session_id"].is_string() && frame["seq"].is_u64()), "{frame}");
}

fn accepted_is_kept(house: &House, told: &[Value], to_the_end: bool) {
    let of = |kind: &str, id: &Value| told.iter().filter(|frame| frame["type"] == kind && frame["id"] == *id).collect::<Vec<_>>();
    let resumed = told.iter().any(|frame| frame["type"] == "message" || frame["type"] == "resync");
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for frame in told.iter().filter(|frame| frame["type"] != "accepted" && !resumed) {
        // A message's frames come in the order of the log; one record may be two frames (`error` and `done`). Who sends it again
        // after its end gets them again.
        if let (Some(id), Some(seq)) = (frame["id"].as_str(), frame["seq"].as_u64()) {
            let before = last.insert(id.to_owned(), seq).unwrap_or(0);
            assert!(before <= seq, "{seq} behind {before}: {frame}");
            if frame["type"] == "done" {
                last.remove(id);
            }
        }
    }
    let mut seen = BTreeSet::new();
    for accepted in told.iter().filter(|frame| frame["type"] == "accepted") {
        let (id, session) = (&accepted["id"], accepted["session_id"].as_str().unwrap_or_default());
        if !seen.insert(id.to_string()) {
            continue; // a retry
        }
        let records = records(&house.workspace(), session);
        let of_log = |kinds: &[&str]| {
            records
                .iter()
                .filter(|record| record["message_id"] == *id && kinds.iter().any(|kind| record["kind"] == *kind))
                .collect::<Vec<_>>()
        };
        let said = of_log(&["message"]);
        assert!(said.len() == 1 && said[0]["seq"] == accepted["seq"], "accepted and not in the log: {accepted}");
        let ends = of_log(&["done", "failed", "cancelled", "interrupted"]);
        let waits = of_log(&["approval_requested"]).len() > of_log(&["approval_resolved"]).len();
        assert!(ends.len() == 1 || (ends.is_empty() && waits), "{} ends of {accepted}", ends.len());
        let (done, times) = (of("done", id), of("accepted", id).len());
        if !resumed {
            // Who sends it again after its end is told the end again.
            assert!(done.len() <= times, "{done:?}");
            let all = if times == 1 { done.len() == ends.len() } else { done.is_empty() == ends.is_empty() };
            assert!(!to_the_end || all, "{} of {} ends were told: {accepted}", done.len(), ends.len());
        }
        for (done, end) in done.iter().zip(ends.iter().cycle()) {
            assert!(done["text"] == end["text"] && done["outcome"] == end["kind"] && done["seq"] == end["seq"], "{done} is no {end}");
            // What was shown piece by piece is the answer, where no piece was skipped.
            let pieces: String = of("token", id).iter().filter_map(|frame| frame["content"].as_str()).collect();
            let replaced = resumed || times > 1 || done["replaces"] == true || done["outcome"] != "done";
            assert!(replaced || done["text"] == pieces, "{pieces:?} was shown of {done}");
        }
    }
}
