//! What lies in files: logs, skills, schedules.

use crate::base::limits::FRONT_MATTER_DEPTH_MAX;
use crate::fuzzing::depth;
use crate::wire::cron::{Schedule, WallTime};
use crate::wire::log_line::{self, Line};
use crate::wire::{audit_line, front_matter, words, yaml};

/// A session log: reading always moves on, and a whole line is written back as the same bytes.
pub(super) fn session_log(data: &[u8]) {
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
pub(super) fn audit_log(data: &[u8]) {
    for line in data.split(|b| *b == b'\n') {
        let Some(read) = audit_line::read(line) else { continue };
        let Some(mut again) = audit_line::write_body(&read.line) else { panic!("{:?} is read and not written", read.line) };
        assert_eq!(again.as_bytes(), read.body);
        audit_line::close(&mut again, &crate::base::digest::hex(&read.hash));
        assert_eq!(again.trim_end_matches('\n').as_bytes(), line);
    }
}

/// A skill file and a text to search: the parts lie within the whole, and no word is longer than the text.
pub(super) fn skill_file(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (front, body) = front_matter::split(&text);
    assert!(front.map_or(0, str::len) + body.len() <= text.len());
    for key in ["name", "description"] {
        let _ = front_matter::scalar(front.unwrap_or_default(), key);
    }
    // Both as front matter and as YAML of its own: total, capped, and no deeper or larger than what was written.
    for yaml in [front.unwrap_or_default(), &*text] {
        if let Ok(value) = yaml::parse(yaml) {
            assert!(depth(&value) <= FRONT_MATTER_DEPTH_MAX);
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

/// A schedule: what is found is the first minute that fits, compared with trying each minute of two days.
pub(super) fn cron(data: &[u8]) {
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

/// An archive of a skill: whatever comes out of it lies beneath its top, once, and within the limits.
#[cfg(feature = "archives")]
pub(super) fn archive(data: &[u8]) {
    use crate::base::limits::{SKILL_ENTRIES_MAX, SKILL_ENTRY_DEPTH_MAX, SKILL_ENTRY_NAME_BYTES_MAX, SKILL_UNPACKED_BYTES_MAX};
    use crate::wire::archive;
    use crate::wire::path::RelPath;

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
