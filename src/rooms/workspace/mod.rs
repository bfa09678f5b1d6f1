//! The files that the agent and its user share: `<workspace>/files/`. Every name is resolved beneath it by the kernel
//! (`sys::root`). Everything here blocks; asynchronous callers go through a blocking thread.

pub mod owners;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::base::limits::{
    CITED_CHARS_MAX, DIR_ENTRIES_MAX, FILE_WRITE_BYTES_MAX, HITS_MAX, QUERY_WORDS_MAX, SEARCH_BYTES_MAX, SEARCH_DEPTH_MAX,
    SEARCH_FILE_BYTES_MAX, SEARCH_FILES_MAX, SEARCH_MILLIS_MAX,
};
use crate::base::time::Clock;
use crate::store::atomic;
use crate::sys::disk::{Disk, DiskFile};
use crate::sys::root::{Item, Root};
use crate::wire::words;

/// Why a file was not read or written.
pub use crate::sys::root::RootError as WorkspaceError;

/// The shared files.
pub struct Workspace {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    clock: Arc<dyn Clock>,
    /// Held while something is written or removed, by blocking threads only: whoever looks before it writes has nobody in between.
    writing: Mutex<()>,
}

/// Whether what is there (`None`: nothing) may be written over or removed.
pub type Fits<'a> = &'a dyn Fn(Option<&Item>) -> bool;

/// A line that a search found.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// Path beneath the workspace.
    pub path: String,
    /// Line number, from 1.
    pub line: usize,
    /// The line, cut to [`CITED_CHARS_MAX`] characters.
    pub text: String,
    /// How well it fits; only comparable within one search.
    pub score: f64,
}

/// What a search found, best first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Found {
    /// The lines.
    pub hits: Vec<Hit>,
    /// A limit of files, bytes or time ended the search before everything was looked at.
    pub cut: bool,
}

impl Workspace {
    /// Opens the directory, made (0700) where it is missing.
    pub fn open(dir: &Path, disk: Arc<dyn Disk>, clock: Arc<dyn Clock>) -> Result<Self, WorkspaceError> {
        let workspace = Self { disk, path: dir.to_owned(), clock, writing: Mutex::default() };
        workspace.root()?;
        Ok(workspace)
    }

    /// The directory that has its name now, opened for each use: whoever puts a backup in its place, or removes it, while the server
    /// runs finds there what is written next. It is made again where it is missing.
    fn root(&self) -> Result<Root, WorkspaceError> {
        match Root::open(&*self.disk, &self.path) {
            Err(WorkspaceError::NotFound) => {
                atomic::make_dir(&*self.disk, &self.path)?;
                Root::open(&*self.disk, &self.path)
            }
            opened => opened,
        }
    }

    /// Where it lies; for programs that work in it, not for names that a stranger chose.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What a directory holds (`""` is the top), directories first; and whether there is more than [`DIR_ENTRIES_MAX`].
    pub fn list(&self, dir: &str) -> Result<(Vec<Item>, bool), WorkspaceError> {
        self.root()?.list(dir, DIR_ENTRIES_MAX)
    }

    /// The first `max` bytes of a file, and its size.
    pub fn read(&self, path: &str, max: usize) -> Result<(Vec<u8>, u64), WorkspaceError> {
        self.root()?.read_start(path, max)
    }

    /// An open file, and what it is.
    pub fn open_file(&self, path: &str) -> Result<(Box<dyn DiskFile>, Item), WorkspaceError> {
        self.root()?.open_file(path)
    }

    /// What a path is; `None` where there is nothing.
    pub fn stat(&self, path: &str) -> Result<Option<Item>, WorkspaceError> {
        self.root()?.stat(path)
    }

    /// Writes a file whole and durably, with its directories; at most [`FILE_WRITE_BYTES_MAX`].
    pub fn write(&self, path: &str, bytes: &[u8]) -> Result<(), WorkspaceError> {
        self.write_if(path, bytes, None).map(drop)
    }

    /// The same where what is there fits; false where it does not, and nothing was done.
    pub fn write_if(&self, path: &str, bytes: &[u8], fits: Option<Fits<'_>>) -> Result<bool, WorkspaceError> {
        if bytes.len() > FILE_WRITE_BYTES_MAX {
            return Err(WorkspaceError::TooLarge { size: bytes.len() as u64, limit: FILE_WRITE_BYTES_MAX as u64 });
        }
        self.alone(path, fits, |root| root.write_atomic(path, bytes))
    }

    /// Makes an empty file, with its directories; [`WorkspaceError::Exists`] where there is something.
    pub fn create(&self, path: &str) -> Result<(), WorkspaceError> {
        let _one_at_a_time = self.writing();
        self.root()?.create(path)
    }

    /// Makes a directory and those above it.
    pub fn make_dir(&self, path: &str) -> Result<(), WorkspaceError> {
        self.root()?.make_dir(path)
    }

    /// Removes a file or an empty directory.
    pub fn remove(&self, path: &str) -> Result<(), WorkspaceError> {
        self.remove_if(path, None).map(drop)
    }

    /// The same where what is there fits; false where it does not, and nothing was done.
    pub fn remove_if(&self, path: &str, fits: Option<Fits<'_>>) -> Result<bool, WorkspaceError> {
        self.alone(path, fits, |root| root.remove(path))
    }

    fn alone(
        &self,
        path: &str,
        fits: Option<Fits<'_>>,
        work: impl FnOnce(&Root) -> Result<(), WorkspaceError>,
    ) -> Result<bool, WorkspaceError> {
        let _one_at_a_time = self.writing();
        let root = self.root()?;
        if let Some(fits) = fits {
            if !fits(root.stat(path)?.as_ref()) {
                return Ok(false);
            }
        }
        work(&root).map(|()| true)
    }

    fn writing(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The lines that hold most of the query's words; a rarer word counts more, a word in the path counts too. Binary files,
    /// hidden ones and those over [`SEARCH_FILE_BYTES_MAX`] are passed by. At most two lines a file, so that one file does not
    /// fill the answer.
    pub fn search(&self, query: &str, limit: usize) -> Result<Found, WorkspaceError> {
        let wanted = words::query(query, QUERY_WORDS_MAX);
        if wanted.is_empty() {
            return Ok(Found::default());
        }
        let mut search = Search { wanted: &wanted, lines_with: vec![0; wanted.len()], lines: 0, seen: Vec::new() };
        let cut = self.walk(&mut search)?;
        Ok(Found { hits: search.best(limit.min(HITS_MAX)), cut })
    }

    /// Walks breadth first, so that a limit leaves out what lies deepest. True where a limit ended it.
    fn walk(&self, search: &mut Search<'_>) -> Result<bool, WorkspaceError> {
        let until = self.clock.monotonic() + Duration::from_millis(SEARCH_MILLIS_MAX);
        let root = self.root()?;
        let (mut files, mut bytes) = (0, 0);
        let mut dirs = VecDeque::from([(String::new(), 0)]);
        let mut cut = false;
        while let Some((dir, depth)) = dirs.pop_front() {
            // Also where there are only directories.
            if self.clock.monotonic() > until {
                return Ok(true);
            }
            let (items, more) = match root.list(&dir, DIR_ENTRIES_MAX) {
                Ok(found) => found,
                // Gone since it was seen, or not ours to read: what is left can still be searched.
                Err(_) if depth > 0 => continue,
                Err(e) => return Err(e),
            };
            cut |= more;
            for item in items.iter().filter(|item| !item.name.starts_with('.')) {
                let path = if dir.is_empty() { item.name.clone() } else { format!("{dir}/{}", item.name) };
                if item.is_dir {
                    if depth < SEARCH_DEPTH_MAX && dirs.len() < SEARCH_FILES_MAX {
                        dirs.push_back((path, depth + 1));
                    } else {
                        cut = true;
                    }
                    continue;
                }
                if item.size > SEARCH_FILE_BYTES_MAX as u64 {
                    continue;
                }
                files += 1;
                if files > SEARCH_FILES_MAX || bytes > SEARCH_BYTES_MAX || self.clock.monotonic() > until {
                    return Ok(true);
                }
                let Ok((content, _)) = root.read_start(&path, SEARCH_FILE_BYTES_MAX) else { continue };
                bytes += content.len();
                if let Ok(text) = std::str::from_utf8(&content) {
                    search.file(&path, text);
                }
            }
        }
        Ok(cut)
    }
}

/// A search under way.
struct Search<'a> {
    wanted: &'a [String],
    /// For each wanted word, the number of lines that hold it.
    lines_with: Vec<usize>,
    lines: usize,
    /// The best lines of each file: which words they hold (a bit each), and the line.
    seen: Vec<(u64, Hit)>,
}

impl Search<'_> {
    fn file(&mut self, path: &str, text: &str) {
        // NUL stands in no text: this is data in the clothes of UTF-8.
        if text.contains('\0') {
            return;
        }
        let in_path = self.holds(path);
        let mut best: [Option<(u64, usize, &str)>; 2] = [None, None];
        for (number, line) in text.lines().enumerate() {
            self.lines += 1;
            let holds = self.holds(line);
            if holds == 0 {
                continue;
            }
            for (bit, count) in self.lines_with.iter_mut().enumerate() {
                *count += usize::from(holds >> bit & 1 == 1);
            }
            let more_than = |slot: &Option<(u64, usize, &str)>| slot.is_none_or(|(held, ..)| holds.count_ones() > held.count_ones());
            let [first, second] = &mut best;
            if more_than(first) {
                *second = first.replace((holds, number, line));
            } else if more_than(second) {
                *second = Some((holds, number, line));
            }
        }
        let first_line = || text.lines().enumerate().find(|(_, line)| !line.trim().is_empty()).map(|(n, line)| (0, n, line));
        let lines: Vec<_> = match best {
            [None, _] if in_path != 0 => first_line().into_iter().collect(),
            some => some.into_iter().flatten().collect(),
        };
        for (holds, number, line) in lines {
            let text = line.trim().chars().take(CITED_CHARS_MAX).collect();
            // Whether the line itself holds a word counts in full, its file's name for half; see `best`.
            self.seen.push((
                holds,
                Hit { path: path.to_owned(), line: number + 1, text, score: f64::from((in_path & !holds).count_ones()) * 0.5 },
            ));
        }
    }

    /// Which of the wanted words a text holds, a bit each.
    fn holds(&self, text: &str) -> u64 {
        let mut bits = 0;
        words::each(text, |word| {
            if let Some(at) = self.wanted.iter().position(|w| w == word) {
                bits |= 1 << at;
            }
        });
        bits
    }

    fn best(mut self, limit: usize) -> Vec<Hit> {
        let lines = self.lines.max(1) as f64;
        let weights: Vec<f64> = self.lines_with.iter().map(|n| (1.0 + lines / (*n as f64 + 0.5)).ln()).collect();
        for (holds, hit) in &mut self.seen {
            hit.score += weights.iter().enumerate().filter(|(bit, _)| *holds >> bit & 1 == 1).map(|(_, w)| w).sum::<f64>();
        }
        let mut hits: Vec<Hit> = self.seen.into_iter().map(|(_, hit)| hit).collect();
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.path.cmp(&b.path)).then(a.line.cmp(&b.line)));
        hits.truncate(limit);
        hits
    }
}

const _: () = assert!(QUERY_WORDS_MAX <= 64); // a bit each

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::base::time::{ManualClock, Timestamp};
    use crate::sys::disk::RealDisk;

    fn place(name: &str) -> (PathBuf, Workspace) {
        let dir = std::env::temp_dir().join(format!("oxios-ws-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let workspace = Workspace::open(&dir, Arc::new(RealDisk), Arc::new(ManualClock::default())).unwrap();
        (dir, workspace)
    }

    #[test]
    fn the_line_with_most_and_rarest_words_comes_first() {
        let (dir, ws) = place("search");
        ws.write("notes/router.md", b"# Router\nThe router listens on port 8080.\nThe router is grey.\n").unwrap();
        ws.write("cat.txt", "The cat sleeps on the router.\n猫は東京にいる\n".as_bytes()).unwrap();
        ws.write("blob.bin", b"router port \0").unwrap();
        ws.write(".hidden", b"router port").unwrap();
        let found = ws.search("which port does the router use?", 10).unwrap();
        assert!(!found.cut);
        let first = &found.hits[0];
        assert_eq!((first.path.as_str(), first.line), ("notes/router.md", 2));
        assert_eq!(found.hits.len(), 3, "{found:?}");
        assert_eq!(ws.search("東京", 10).unwrap().hits[0].line, 2);
        assert!(ws.search("zebra", 10).unwrap().hits.is_empty());
        assert!(ws.search("?!", 10).unwrap().hits.is_empty());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn work_is_bounded() {
        let (dir, ws) = place("bounds");
        let deep = "d/".repeat(SEARCH_DEPTH_MAX + 2) + "x.txt";
        ws.write(&deep, b"needle").unwrap();
        let found = ws.search("needle", 10).unwrap();
        assert!(found.hits.is_empty() && found.cut);
        assert!(matches!(ws.write("big", &vec![0; FILE_WRITE_BYTES_MAX + 1]), Err(WorkspaceError::TooLarge { .. })));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_search_ends_in_time_also_where_there_are_only_directories() {
        struct Slow(AtomicU64);
        impl Clock for Slow {
            fn now(&self) -> Timestamp {
                Timestamp::default()
            }
            fn monotonic(&self) -> Duration {
                Duration::from_millis(self.0.fetch_add(SEARCH_MILLIS_MAX / 4, Ordering::Relaxed))
            }
        }
        let (dir, ws) = place("slow");
        (0..8).for_each(|n| ws.make_dir(&n.to_string()).unwrap());
        assert!(!ws.search("needle", 10).unwrap().cut);
        let slow = Workspace::open(&dir, Arc::new(RealDisk), Arc::new(Slow(AtomicU64::new(0)))).unwrap();
        assert!(slow.search("needle", 10).unwrap().cut);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
