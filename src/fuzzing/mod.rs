//! Above the house: properties that fuzzers try to break. `fuzz/` holds thin shells around these; the corpora beside them are
//! replayed on stable by the test below. A property panics when it does not hold; that is its whole interface.
#![expect(clippy::panic, clippy::indexing_slicing, reason = "a property fails by panicking; indices come from lengths just taken")]

mod answer;
mod backup;
mod configuration;
mod exchange;
mod file;
mod frames;
mod house;
mod question;
mod store;
mod whole_server;
mod ws_session;

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
    ("target", question::target),
    ("cron", file::cron),
    ("json_rpc", answer::json_rpc),
    ("fields", question::fields),
    ("json_body", question::json_body),
    ("sse", answer::sse),
    ("openai_answer", answer::openai_answer),
    ("anthropic_answer", answer::anthropic_answer),
    ("session_log", file::session_log),
    ("audit_log", file::audit_log),
    ("skill_file", file::skill_file),
    ("vectors", answer::vectors),
    ("verdicts", answer::verdicts),
    ("configuration", configuration::configuration),
    ("session_file", store::session_file),
    ("session_open", store::session_open),
    ("audit_verify", store::audit_verify),
    ("backup_file", backup::backup_file),
    ("whole_server", whole_server::whole_server),
    ("ws_session", ws_session::ws_session),
    #[cfg(feature = "archives")]
    ("archive", file::archive),
];

/// These build a house or files for each input; the others take microseconds.
#[cfg(test)]
const SLOW: &[&str] = &["configuration", "session_file", "session_open", "audit_verify", "backup_file", "whole_server", "ws_session"];

fn depth(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        serde_json::Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;
    use std::path::Path;

    use super::*;

    #[test]
    fn corpora_hold() {
        let _alone = crate::base::log::alone();
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        let mut broken = Vec::new();
        for (name, property) in PROPERTIES {
            assert!(fuzz.join(format!("fuzz_targets/{name}.rs")).exists(), "{name} has no target");
            let corpus = std::fs::read_dir(fuzz.join("corpus").join(name)).unwrap_or_else(|e| panic!("{name} has no corpus: {e}"));
            let files: Vec<_> = corpus.map(|file| file.unwrap().path()).collect();
            assert!(!files.is_empty(), "{name} has an empty corpus");
            let holds = |path: &Path| catch_unwind(|| property(&std::fs::read(path).unwrap())).is_ok();
            broken.extend(files.into_iter().filter(|path| !holds(path)));
        }
        assert!(broken.is_empty(), "what does not hold is told above: {broken:#?}");
    }

    /// A fuzzer ends with whatever the last input left standing.
    #[test]
    fn what_still_stands_goes_with_its_thread() {
        let _alone = crate::base::log::alone();
        let stands = || whole_server::whole_server(b"pGET /health HTTP/1.1\r\nhost: localhost\r\n\r\n");
        assert!(std::thread::spawn(stands).join().is_ok());
    }

    #[test]
    fn noise_holds() {
        let _alone = crate::base::log::alone();
        // A fixed linear congruential generator: the same bytes on every run.
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize
        };
        const BYTES: &[u8] = b"{}[]\":,\\\r\n data:id event/.%2e0a\0\xff\xc3\xa9<>";
        for round in 0..2000 {
            let data: Vec<u8> = (0..next() % 80).map(|_| BYTES[next() % BYTES.len()]).collect();
            for (_, property) in PROPERTIES.iter().filter(|(name, _)| round % 100 == 0 || !SLOW.contains(name)) {
                property(&data);
            }
        }
    }
}
