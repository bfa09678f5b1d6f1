//! What models and tool servers answer, however it is cut into pieces.

use crate::llm::request::{Event, Request, Schema, ToolSpec};
use crate::llm::{anthropic, openai};
use crate::orchestrator::hold::{HELD_BYTES_MAX, Hold, Rest};
use crate::orchestrator::schema;
use crate::orchestrator::structured::{self, QUESTIONS_MAX, Verdict};
use crate::wire::json_rpc::{self, Message};
use crate::wire::sse_in::{SseDecoder, SseEvent};
use crate::wire::{sse_out, vectors as wire_vectors};

/// Events in and out: however the bytes are split, the events are the same; what we encode is read back as it was.
pub(super) fn sse(data: &[u8]) {
    let Some((cut, rest)) = data.split_first() else { return };
    let whole = decode(&[rest]);
    let middle = usize::from(*cut) % (rest.len() + 1);
    assert_eq!(decode(&[&rest[..middle], &rest[middle..]]), whole);
    assert_eq!(decode(&rest.chunks(1).collect::<Vec<_>>()), whole);
    if let (Ok(text), Ok(frame)) = (std::str::from_utf8(rest), sse_out::encode(Some(&"7"), Some("e"), rest)) {
        let expected = SseEvent { name: "e".to_owned(), data: text.to_owned() };
        assert_eq!(decode(&[&frame]), (vec![expected], true));
    }
}

fn decode(pieces: &[&[u8]]) -> (Vec<SseEvent>, bool) {
    let mut decoder = SseDecoder::new(4096);
    let mut events = Vec::new();
    let fits = pieces.iter().all(|piece| decoder.push(piece, &mut events).is_ok());
    // Three: a byte that is no UTF-8 is replaced.
    let (came, kept) =
        (pieces.iter().map(|piece| piece.len()).sum::<usize>(), events.iter().map(|e| e.name.len() + e.data.len()).sum::<usize>());
    assert!(kept <= 3 * came, "{came} bytes became {kept}");
    (events, fits)
}

/// A model's answer in OpenAI's form, split anywhere, with and without tools on offer.
pub(super) fn openai_answer(data: &[u8]) {
    let tool = ToolSpec { name: "read_file".to_owned(), description: String::new(), parameters: serde_json::json!({"type": "object"}) };
    let offered = Request { tools: vec![tool], ..Request::default() };
    for request in [&Request::default(), &offered] {
        split_invariant(data, |pieces, out| {
            let mut decoder = openai::Decoder::new(request);
            pieces.iter().all(|piece| decoder.push(piece, out).is_ok()) && decoder.end(out).is_ok()
        });
    }
}

/// A model's answer in Anthropic's form, split anywhere, with and without a forced tool.
pub(super) fn anthropic_answer(data: &[u8]) {
    let plain = Request::default();
    let forced = Request { schema: Some(Schema { name: "verdict".to_owned(), schema: serde_json::json!({}) }), ..Request::default() };
    for request in [&plain, &forced] {
        split_invariant(data, |pieces, out| {
            let mut decoder = anthropic::Decoder::new(request);
            pieces.iter().all(|piece| decoder.push(piece, out).is_ok()) && decoder.end(out).is_ok()
        });
    }
}

/// The first byte says where the rest is cut; text is compared joined, since pieces may differ.
fn split_invariant(data: &[u8], decode: impl Fn(&[&[u8]], &mut Vec<Event>) -> bool) {
    let Some((cut, rest)) = data.split_first() else { return };
    let read = |pieces: &[&[u8]]| {
        let mut events = Vec::new();
        let good = decode(pieces, &mut events);
        let text: String = events.iter().filter_map(|e| if let Event::Text(text) = e { Some(text.as_str()) } else { None }).collect();
        let others: Vec<Event> = events.iter().filter(|e| !matches!(e, Event::Text(_))).cloned().collect();
        assert!(others.iter().filter(|e| matches!(e, Event::Finish(_))).count() <= 1, "ends twice");
        // A byte that is no UTF-8 becomes the three bytes of U+FFFD.
        assert!(text.len() <= 3 * rest.len(), "more text than bytes");
        (good, text, others)
    };
    let whole = read(&[rest]);
    let middle = usize::from(*cut) % (rest.len() + 1);
    assert_eq!(read(&[&rest[..middle], &rest[middle..]]), whole);
    assert_eq!(read(&rest.chunks(1).collect::<Vec<_>>()), whole);
}

/// Text that may be a verdict, split anywhere, while talking and while working: the same is shown and the same is decided. Nothing
/// is shown before a verdict, thoughts never are, and a verdict says something.
pub(super) fn verdicts(data: &[u8]) {
    let Some((cut, rest)) = data.split_first() else { return };
    let whole = String::from_utf8_lossy(rest);
    let chars: Vec<(usize, char)> = whole.char_indices().collect();
    let middle = chars.get(usize::from(*cut) % (chars.len() + 1)).map_or(whole.len(), |(at, _)| *at);
    for fresh in [Hold::default, Hold::working] {
        let read = |pieces: &[&str]| {
            let (mut hold, mut seen, mut given) = (fresh(), String::new(), 0);
            for piece in pieces {
                hold.push(piece, &mut seen);
                given += piece.len();
                assert!(seen.len() <= given, "more is shown than came");
            }
            let rest = hold.finish();
            (seen, rest)
        };
        let (seen, rest) = read(&[&whole]);
        let (first, second) = whole.split_at(middle);
        assert_eq!(read(&[first, second]), (seen.clone(), rest.clone()));
        let singly: Vec<&str> = chars.iter().map(|(at, c)| &whole[*at..*at + c.len_utf8()]).collect();
        assert_eq!(read(&singly), (seen.clone(), rest.clone()));
        let thinks = whole.starts_with("<think>") && !whole.contains("</think>");
        match rest {
            Rest::Verdict(verdict) => {
                assert!(seen.is_empty(), "{seen:?} was shown before a verdict");
                says_something(&verdict);
            }
            Rest::Text(held) => {
                assert!(held.len() <= HELD_BYTES_MAX, "{} bytes are held", held.len());
                assert!(!thinks || (seen.is_empty() && held.is_empty()), "thoughts are shown");
                assert!(whole.ends_with(&format!("{seen}{held}")), "{seen:?} and {held:?} are not what was said");
            }
        }
    }
    if let Some(object) = structured::object(&whole) {
        structured::verdict(&object).iter().for_each(says_something);
        let read = structured::object(&serde_json::Value::Object(object.clone()).to_string());
        assert_eq!(read, Some(object));
    }
    // Two lines: a schema, and arguments that a model wrote for it.
    let Some((wanted, given)) = whole.split_once('\n') else { return };
    let (Ok(wanted), Ok(given)) = (serde_json::from_str(wanted), serde_json::from_str::<serde_json::Map<_, _>>(given)) else { return };
    let mut made = given;
    schema::coerce(&wanted, &mut made);
    let once = made.clone();
    schema::coerce(&wanted, &mut made);
    assert_eq!(made, once, "made to fit twice");
    let place = schema::check(&wanted, &serde_json::Value::Object(made)).err().unwrap_or_default();
    assert!(place.len() <= 4 * whole.len() + 200, "{place}");
}

fn says_something(verdict: &Verdict) {
    match verdict {
        Verdict::Task(arguments) => assert!(structured::goal(arguments).is_some_and(|goal| goal.trim() == goal && !goal.is_empty())),
        Verdict::Ask(questions) => {
            assert!((1..=QUESTIONS_MAX).contains(&questions.len()), "{questions:?}");
            assert!(questions.iter().all(|text| !text.contains('\n') && text.chars().any(char::is_alphanumeric)), "{questions:?}");
        }
        Verdict::Tool { name, .. } => assert!(!name.is_empty()),
    }
}

/// A message of a tool server: what is read is written and read again unchanged.
pub(super) fn json_rpc(data: &[u8]) {
    for message in json_rpc::parse(data).into_iter().flatten() {
        if let Message::Request { id, .. } = &message {
            let written = json_rpc::refusal(id, json_rpc::METHOD_NOT_FOUND, "no such method");
            assert!(matches!(json_rpc::parse(&written).as_deref(), Ok([Message::Failure { .. }])));
        }
    }
}

/// An answer with vectors, and a file of them: what is read is finite and of length one, and a file written again reads the same.
pub(super) fn vectors(data: &[u8]) {
    let unit = |vector: &[f32]| {
        let length: f64 = vector.iter().map(|n| f64::from(*n) * f64::from(*n)).sum::<f64>().sqrt();
        assert!((length - 1.0).abs() < 1e-3 && vector.len() <= wire_vectors::DIMENSIONS_MAX, "{length}");
    };
    let Some((count, rest)) = data.split_first() else { return };
    for vector in wire_vectors::answer(rest, usize::from(*count % 4)).into_iter().flatten() {
        unit(&vector);
        assert!((wire_vectors::cosine(&vector, &vector) - 1.0).abs() < 1e-3);
    }
    let mut file = rest.to_vec();
    file.extend(crc32fast::hash(rest).to_le_bytes());
    let Some(all) = wire_vectors::from_file(&file) else { return };
    all.values().for_each(|vector| unit(vector));
    let dimensions = all.values().next().map_or(1, |vector| vector.len());
    let again = wire_vectors::to_file(dimensions, all.iter().map(|(key, vector)| (key, &**vector)));
    assert_eq!(wire_vectors::from_file(&again).map(|read| read.len()), Some(all.len()));
    if let Some(key) = all.keys().next() {
        let left = wire_vectors::without(&file, key).and_then(|left| wire_vectors::from_file(&left));
        assert_eq!(left.map(|left| left.len()), Some(all.len() - 1));
    }
}
