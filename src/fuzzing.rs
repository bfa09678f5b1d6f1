//! Above the house: properties that fuzzers try to break. `fuzz/` holds thin shells around these; the corpora beside them are
//! replayed on stable by the test below. A property panics when it does not hold; that is its whole interface.
#![expect(clippy::panic, clippy::indexing_slicing, reason = "a property fails by panicking; indices come from lengths just taken")]

use crate::base::limits::JSON_DEPTH_MAX;
use crate::llm::request::{Event, Request, Schema, ToolSpec};
use crate::llm::{anthropic, openai};
use crate::wire::audit_line;
use crate::wire::cron::{Schedule, WallTime};
use crate::wire::host::Host;
use crate::wire::json_rpc::{self, Message};
use crate::wire::log_line::{self, Line};
use crate::wire::origin::Origin;
use crate::wire::path::{self, RelPath};
use crate::wire::query::Query;
use crate::wire::sse_in::{SseDecoder, SseEvent};
use crate::wire::url::Url;
use crate::wire::{credentials, field, front_matter, json, sse_out, vectors as wire_vectors, words, yaml};

/// Runs the property of this name.
///
/// # Panics
/// The property does not hold, or there is none of this name.
pub fn run(name: &str, data: &[u8]) {
    let Some((_, property)) = PROPERTIES.iter().find(|(known, _)| *known == name) else { panic!("no property {name}") };
    property(data);
}

/// What must hold for any bytes; it panics where it does not.
pub type Property = fn(&[u8]);

/// Every property; `fuzz/fuzz_targets/` has one file for each.
pub const PROPERTIES: &[(&str, Property)] = &[
    ("target", target),
    ("cron", cron),
    ("json_rpc", json_rpc),
    ("fields", fields),
    ("json_body", json_body),
    ("sse", sse),
    ("openai_answer", openai_answer),
    ("anthropic_answer", anthropic_answer),
    ("session_log", session_log),
    ("audit_log", audit_log),
    ("skill_file", skill_file),
    ("vectors", vectors),
    #[cfg(feature = "archives")]
    ("archive", archive),
];

/// Path and query of a request: no accepted path leaves its root, and what is accepted once is accepted again, unchanged.
fn target(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (raw, query) = text.split_once('?').unwrap_or((text, ""));
    let _ = Query::parse(query);
    if path::is_well_formed(raw) {
        assert!(raw.len() >= raw.split('/').count() - 1);
    }
    for relative in [RelPath::from_request(raw), RelPath::parse(raw)].into_iter().flatten() {
        let inside = relative.as_str();
        assert!(!inside.starts_with('/') && !inside.contains(['\\', '\0']), "{inside:?}");
        assert!(inside.split('/').all(|name| !matches!(name, "" | "." | "..")), "{inside:?}");
        assert_eq!(RelPath::parse(inside).as_ref(), Ok(&relative));
    }
}

/// A schedule: what is found is the first minute that fits, compared with trying each minute of two days.
fn cron(data: &[u8]) {
    let (seed, text) = data.split_at(data.len().min(2));
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Ok(schedule) = Schedule::parse(text) else { return };
    let seed = seed.iter().fold(0u16, |n, byte| n << 8 | u16::from(*byte));
    let mut at =
        WallTime { year: 2024, month: 1 + (seed % 12) as u8, day: 1 + (seed / 12 % 28) as u8, hour: (seed % 24) as u8, minute: 58 };
    let Some(found) = schedule.at_or_after(at) else { panic!("a schedule that was accepted never comes round") };
    assert!(schedule.fits(found) && found >= at);
    for _ in 0..2 * 24 * 60 {
        if schedule.fits(at) {
            assert_eq!(at, found);
            return;
        }
        at = at.next_minute();
    }
    assert!(found >= at);
}

/// A message of a tool server: what is read is written and read again unchanged.
fn json_rpc(data: &[u8]) {
    for message in json_rpc::parse(data).into_iter().flatten() {
        if let Message::Request { id, .. } = &message {
            let written = json_rpc::refusal(id, json_rpc::METHOD_NOT_FOUND, "no such method");
            assert!(matches!(json_rpc::parse(&written).as_deref(), Ok([Message::Failure { .. }])));
        }
    }
}

/// Header fields: hosts, origins, credentials, URLs, names and values; what reads as a host has no byte that another parser reads differently.
fn fields(data: &[u8]) {
    let _ = credentials::bearer(data);
    match credentials::cookie([data].into_iter(), "oxios") {
        credentials::Cookie::Token(token) => {
            assert!(credentials::token(token.as_bytes()) == Some(token) && !token.contains([';', ',', ' ']))
        }
        credentials::Cookie::None | credentials::Cookie::Malformed => {}
    }
    if let Some(token) = credentials::token(data) {
        assert!(token.bytes().all(|b| b.is_ascii_graphic()));
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(host) = Host::parse(text) {
        assert!(!text.contains(['/', '@', ',', '?', '#', '%', ' ']) && text.is_ascii(), "{text:?}");
        assert!(host.is_listed(&host));
        let origin = format!("http://{text}");
        assert!(Origin::parse(&origin).is_some_and(|origin| origin.is_same(host, false)), "{origin:?}");
    }
    let start = field::leading_token(text, 40);
    assert!(text.starts_with(start) && (start.is_empty() || field::is_token(start)));
    // What we let through, the client can send as it is.
    assert!(!field::is_token(text) || hyper::header::HeaderName::try_from(text).is_ok_and(|name| name.as_str().eq_ignore_ascii_case(text)));
    assert!(!field::is_value(text) || hyper::header::HeaderValue::try_from(text).is_ok_and(|value| value.as_bytes() == data));
    assert!(!field::is_variable(text) || !text.contains(['=', '\0']));
    let _ = Origin::parse(text);
    if let Ok(url) = Url::parse(text) {
        assert!(Url::parse(&format!("{}{}", url.origin(), url.path_and_query())).is_ok(), "{text:?}");
    }
}

/// A JSON body: never deeper than the limit; an error names the place, not the content.
fn json_body(data: &[u8]) {
    match json::parse::<serde_json::Value>(data, JSON_DEPTH_MAX) {
        Ok(value) => {
            assert!(depth(&value) <= JSON_DEPTH_MAX);
            let again = serde_json::to_vec(&value).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(json::parse::<serde_json::Value>(&again, JSON_DEPTH_MAX), Ok(value));
        }
        Err(_) => assert!(serde_json::from_slice::<serde_json::Value>(data).is_err() || !json::depth_ok(data, JSON_DEPTH_MAX)),
    }
}

/// Events in and out: however the bytes are split, the events are the same; what we encode is read back as it was.
fn sse(data: &[u8]) {
    let Some((cut, rest)) = data.split_first() else { return };
    let whole = decode(&[rest]);
    let middle = usize::from(*cut) % (rest.len() + 1);
    assert_eq!(decode(&[&rest[..middle], &rest[middle..]]), whole);
    assert_eq!(decode(&rest.chunks(1).collect::<Vec<_>>()), whole);
    if let (Ok(text), Ok(frame)) = (std::str::from_utf8(rest), sse_out::encode(Some(&"7"), Some("e"), rest)) {
        let expected = SseEvent { name: "e".to_owned(), data: text.to_owned(), id: "7".to_owned() };
        assert_eq!(decode(&[&frame]), (vec![expected], true));
    }
}

fn decode(pieces: &[&[u8]]) -> (Vec<SseEvent>, bool) {
    let mut decoder = SseDecoder::new(4096);
    let mut events = Vec::new();
    let fits = pieces.iter().all(|piece| decoder.push(piece, &mut events).is_ok());
    (events, fits)
}

/// A model's answer in OpenAI's form, split anywhere, with and without tools on offer.
fn openai_answer(data: &[u8]) {
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
fn anthropic_answer(data: &[u8]) {
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

/// A session log: reading always moves on, and a whole line is written back as the same bytes.
fn session_log(data: &[u8]) {
    let mut rest = data;
    while !rest.is_empty() {
        let len = match log_line::read(rest) {
            Line::Whole { json, len } => {
                let mut again = Vec::new();
                log_line::write(&mut again, json);
                assert_eq!(&again[9..], &rest[9..len]);
                len
            }
            Line::Rotten { len } => len,
            Line::Torn => return,
        };
        assert!(len > 0 && len <= rest.len());
        rest = &rest[len..];
    }
}

/// A line of the audit log: what is read is written back as the same bytes, so a record has one form only.
fn audit_log(data: &[u8]) {
    for line in data.split(|b| *b == b'\n') {
        let Some(read) = audit_line::read(line) else { continue };
        let Some(mut again) = audit_line::write_body(&read.line) else { panic!("{:?} is read and not written", read.line) };
        assert_eq!(again.as_bytes(), read.body);
        audit_line::close(&mut again, &crate::base::digest::hex(&read.hash));
        assert_eq!(again.trim_end_matches('\n').as_bytes(), line);
    }
}

/// A skill file and a text to search: the parts lie within the whole, and no word is longer than the text.
fn skill_file(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (front, body) = front_matter::split(&text);
    assert!(front.map_or(0, str::len) + body.len() <= text.len());
    for key in ["name", "description"] {
        let _ = front_matter::scalar(front.unwrap_or_default(), key);
    }
    // Both as front matter and as YAML of its own: total, capped, and no deeper or larger than what was written.
    for yaml in [front.unwrap_or_default(), &*text] {
        if let Ok(value) = yaml::parse(yaml) {
            assert!(depth(&value) <= crate::base::limits::FRONT_MATTER_DEPTH_MAX);
        }
    }
    let mut count = 0;
    words::each(&text, |word| {
        assert!(!word.is_empty());
        count += 1;
    });
    assert!(count <= 2 * text.chars().count());
    let query = words::query(&text, 8);
    assert!(query.len() <= 8);
    assert!(words::around(&text, &query, 40).chars().count() <= 42);
}

/// An answer with vectors, and a file of them: what is read is finite and of length one, and a file written again reads the same.
fn vectors(data: &[u8]) {
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
}

/// An archive of a skill: whatever comes out of it lies beneath its top, once, and within the limits.
#[cfg(feature = "archives")]
fn archive(data: &[u8]) {
    use crate::base::limits::{SKILL_ENTRIES_MAX, SKILL_ENTRY_DEPTH_MAX, SKILL_ENTRY_NAME_BYTES_MAX, SKILL_UNPACKED_BYTES_MAX};
    use crate::wire::archive;

    if let Ok(plain) = archive::gunzip(data) {
        assert!(plain.len() <= SKILL_UNPACKED_BYTES_MAX);
        let _ = archive::untar(&plain);
    }
    // Checksums would keep a fuzzer from all that lies behind them: every block that looks like a header gets the right one.
    let mut plain = data.to_vec();
    for header in plain.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    let Ok(files) = archive::untar(&plain) else { return };
    assert!(files.len() <= SKILL_ENTRIES_MAX && files.iter().map(|file| file.bytes.len()).sum::<usize>() <= plain.len());
    let mut names: Vec<String> = files.iter().map(|file| file.path.as_str().to_lowercase()).collect();
    for name in &names {
        assert!(RelPath::parse(name).is_ok() && name.split('/').count() <= SKILL_ENTRY_DEPTH_MAX, "{name:?}");
        // Lower case may take a few bytes more.
        assert!(name.len() <= 2 * SKILL_ENTRY_NAME_BYTES_MAX, "{name:?}");
    }
    names.sort();
    for pair in names.windows(2) {
        assert!(pair[0] != pair[1] && !pair[1].starts_with(&format!("{}/", pair[0])), "{pair:?}");
    }
}

fn depth(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        serde_json::Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn corpora_hold() {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        for (name, property) in PROPERTIES {
            assert!(fuzz.join(format!("fuzz_targets/{name}.rs")).exists(), "{name} has no target");
            let corpus = std::fs::read_dir(fuzz.join("corpus").join(name)).unwrap_or_else(|e| panic!("{name} has no corpus: {e}"));
            let mut count = 0;
            for file in corpus {
                property(&std::fs::read(file.unwrap().path()).unwrap());
                count += 1;
            }
            assert!(count > 0, "{name} has an empty corpus");
        }
    }

    #[test]
    fn noise_holds() {
        // A fixed linear congruential generator: the same bytes on every run.
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize
        };
        const BYTES: &[u8] = b"{}[]\":,\\\r\n data:id event/.%2e0a\0\xff\xc3\xa9<>";
        for _ in 0..2000 {
            let data: Vec<u8> = (0..next() % 80).map(|_| BYTES[next() % BYTES.len()]).collect();
            for (_, property) in PROPERTIES {
                property(&data);
            }
        }
    }
}
