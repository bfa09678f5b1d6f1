//! The files of an archive as one thing, whose top is told by a landmark: a file that each of its kind has.

use crate::wire::path::RelPath;

/// Files with their names.
pub type Files = Vec<(RelPath, Vec<u8>)>;

/// The files with the landmark at their top: as they are, or out of the one directory that all of them lie in. None where it is in
/// neither place.
pub fn around(files: Files, landmark: &str) -> Option<Files> {
    let is_there = |files: &Files| files.iter().any(|(path, _)| path.as_str() == landmark);
    if is_there(&files) {
        return Some(files);
    }
    let top = files.first().and_then(|(path, _)| path.as_str().split_once('/')).map(|(top, _)| format!("{top}/"))?;
    // A name that was checked as a whole is one without its first directory, too.
    let inside = |(name, bytes): (RelPath, Vec<u8>)| Some((RelPath::parse(name.as_str().strip_prefix(&top)?).ok()?, bytes));
    files.into_iter().map(inside).collect::<Option<Files>>().filter(is_there)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(files: &[&str], landmark: &str) -> Option<Vec<String>> {
        let files = files.iter().map(|name| (RelPath::parse(name).unwrap(), Vec::new())).collect();
        Some(around(files, landmark)?.iter().map(|(name, _)| name.as_str().to_owned()).collect())
    }

    #[test]
    fn the_landmark_is_at_the_top_or_in_the_one_directory() {
        let found = |files: &[&str]| names(files, "index.html").map(|names| names.join(" "));
        assert_eq!(found(&["index.html", "a/b.js"]).as_deref(), Some("index.html a/b.js"));
        assert_eq!(found(&["dist/index.html", "dist/a/b.js"]).as_deref(), Some("index.html a/b.js"));
        for not in [&["dist/index.html", "other/b.js"][..], &["dist/index.html", "b.js"], &["a/dist/index.html"], &["x.html"], &[]] {
            assert_eq!(found(not), None, "{not:?}");
        }
    }
}
