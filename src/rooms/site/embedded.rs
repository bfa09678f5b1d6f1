//! The files of the page that the binary carries, from `src/web/`; a test sees to it that none is left out.

/// Most bytes of all of them together: a page that opens at once over a bad line, in a binary for small boards.
pub const BYTES_MAX: usize = 150 * 1024;

macro_rules! files {
    ($($name:literal),* $(,)?) => { &[$(($name, include_bytes!(concat!("../../web/", $name)))),*] };
}

/// Name beneath the page's root, and content.
pub const FILES: &[(&str, &[u8])] = files![
    "index.html",
    "assets/agents.js",
    "assets/api.js",
    "assets/app.js",
    "assets/approval.js",
    "assets/approvals.js",
    "assets/audit.js",
    "assets/chat.js",
    "assets/composer.js",
    "assets/diff.js",
    "assets/dom.js",
    "assets/feed.js",
    "assets/files.js",
    "assets/icon.svg",
    "assets/keys.js",
    "assets/login.js",
    "assets/markdown.js",
    "assets/memory.js",
    "assets/metrics.js",
    "assets/model.js",
    "assets/schedule.js",
    "assets/seeds.js",
    "assets/sessions.js",
    "assets/settings.js",
    "assets/skills.js",
    "assets/spaces.js",
    "assets/status.js",
    "assets/style.css",
    "assets/turn.js",
    "assets/turns.js",
    "assets/windowed.js",
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_file_of_the_page_is_carried_and_together_they_are_small() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/web");
        let mut there = Vec::new();
        let mut open = vec![root.clone()];
        while let Some(dir) = open.pop() {
            for entry in std::fs::read_dir(dir).unwrap().flatten() {
                match entry.path() {
                    path if path.is_dir() => open.push(path),
                    path => there.push(path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned()),
                }
            }
        }
        let mut carried: Vec<_> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
        there.sort();
        carried.sort();
        assert_eq!(carried, there);
        let bytes: usize = FILES.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(bytes <= BYTES_MAX, "the page has {bytes} bytes, at most {BYTES_MAX} are carried");
    }

    /// Nothing is loaded from elsewhere, and nothing stands in the page itself that the policy would have to allow.
    #[test]
    fn the_page_is_whole_by_itself() {
        for (name, bytes) in FILES {
            let text = std::str::from_utf8(bytes).unwrap();
            for (n, line) in text.lines().enumerate() {
                let place = format!("{name}:{}", n + 1);
                let elsewhere = ["http://", "https://"].iter().flat_map(|scheme| line.match_indices(scheme)).any(|(at, _)| {
                    // Names of XML, and examples that a person reads.
                    !["http://www.w3.org/", "http://127.0.0.1", "https://github.com/"].iter().any(|fine| line[at..].starts_with(fine))
                });
                assert!(!elsewhere, "{place} names another place: {line}");
                for way in
                    ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", " style=\"", " onclick="]
                {
                    assert!(!line.contains(way), "{place} has {way}: {line}");
                }
            }
            if name.ends_with(".html") {
                assert!(
                    !text.contains("<style") && text.matches("<script").count() == text.matches("<script type=\"module\" src=").count(),
                    "{name}"
                );
            }
        }
    }
}
