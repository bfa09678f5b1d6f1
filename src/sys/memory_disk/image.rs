//! All that is on a disk in memory, written and durable, and what a power cut leaves of it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path};
use std::sync::Arc;

use rustix::io::Errno;

use super::Dice;
use crate::base::time::Timestamp;
use crate::sys::disk::{FileStat, Kind};
use crate::sys::owner;

/// What a disk keeps as one piece in a power cut.
pub(super) const SECTOR_BYTES: usize = 512;
/// The root directory's node.
const ROOT: u64 = 0;

/// All that is on the disk. Copies share what is the same.
#[derive(Clone)]
pub(super) struct Image {
    nodes: BTreeMap<u64, Arc<Node>>,
    next: u64,
    /// The file system's clock: a millisecond for each change, so that no two changes have the same time.
    ticks: u64,
}

#[derive(Clone)]
enum Node {
    File(FileNode),
    Dir(DirNode),
}

#[derive(Clone)]
struct FileNode {
    live: Arc<Vec<u8>>,
    durable: Arc<Vec<u8>>,
    /// What parts the two, in order.
    pending: Vec<Change>,
    mode: u32,
    modified: u64,
}

#[derive(Clone)]
enum Change {
    Write { at: usize, bytes: Arc<[u8]> },
    Len(usize),
}

/// Names and nodes of a directory.
pub(super) type Names = BTreeMap<String, u64>;

#[derive(Clone, Default)]
struct DirNode {
    live: Names,
    durable: Names,
    /// What parts the two, in order.
    pending: Vec<Naming>,
    modified: u64,
}

#[derive(Clone)]
enum Naming {
    Put(String, u64),
    Take(String),
    Move(String, String),
    Swap(String, String),
}

impl Image {
    /// An empty disk.
    pub(super) fn new() -> Self {
        let nodes = BTreeMap::from([(ROOT, Arc::new(Node::Dir(DirNode::default())))]);
        Self { nodes, next: ROOT + 1, ticks: 1_800_000_000_000 }
    }
    /// The content of a file.
    pub(super) fn content(&self, id: u64) -> io::Result<&Arc<Vec<u8>>> {
        match self.node(id)? {
            Node::File(file) => Ok(&file.live),
            Node::Dir(_) => Err(Errno::ISDIR.into()),
        }
    }
    /// What is in a directory.
    pub(super) fn names(&self, id: u64) -> io::Result<&Names> {
        Ok(&self.dir(id)?.live)
    }
    pub(super) fn set_len(&mut self, id: u64, len: usize) {
        self.change_file(id, Change::Len(len));
    }
    fn tick(&mut self) -> u64 {
        self.ticks += 1;
        self.ticks
    }
    fn node(&self, id: u64) -> io::Result<&Node> {
        Ok(self.nodes.get(&id).ok_or(Errno::NOENT)?)
    }
    fn dir(&self, id: u64) -> io::Result<&DirNode> {
        match self.node(id)? {
            Node::Dir(dir) => Ok(dir),
            Node::File(_) => Err(Errno::NOTDIR.into()),
        }
    }
    fn change_dir(&mut self, id: u64, naming: Naming) -> io::Result<()> {
        let now = self.tick();
        let Some(Node::Dir(dir)) = self.nodes.get_mut(&id).map(Arc::make_mut) else { return Err(Errno::NOTDIR.into()) };
        naming.apply(&mut dir.live);
        dir.pending.push(naming);
        dir.modified = now;
        Ok(())
    }
    fn change_file(&mut self, id: u64, change: Change) {
        let now = self.tick();
        let Some(Node::File(file)) = self.nodes.get_mut(&id).map(Arc::make_mut) else { return };
        change.apply(Arc::make_mut(&mut file.live), 0, &mut |_| true);
        file.pending.push(change);
        file.modified = now;
    }
    pub(super) fn write(&mut self, id: u64, at: usize, bytes: Arc<[u8]>) {
        self.change_file(id, Change::Write { at, bytes });
    }
    pub(super) fn sync(&mut self, id: u64) {
        match self.nodes.get_mut(&id).map(Arc::make_mut) {
            Some(Node::File(file)) => {
                file.durable = file.live.clone();
                file.pending.clear();
            }
            Some(Node::Dir(dir)) => {
                dir.durable = dir.live.clone();
                dir.pending.clear();
            }
            None => {}
        }
    }
    pub(super) fn sync_all(&mut self) {
        let all: Vec<u64> = self.nodes.keys().copied().collect();
        all.into_iter().for_each(|id| self.sync(id));
    }
    fn add(&mut self, parent: u64, name: &str, node: Node) -> io::Result<u64> {
        if self.dir(parent)?.live.contains_key(name) {
            return Err(Errno::EXIST.into());
        }
        let id = self.next;
        self.next += 1;
        self.nodes.insert(id, Arc::new(node));
        self.change_dir(parent, Naming::Put(name.to_owned(), id))?;
        Ok(id)
    }
    pub(super) fn add_file(&mut self, parent: u64, name: &str, mode: u32) -> io::Result<u64> {
        let (live, modified) = (Arc::new(Vec::new()), self.tick());
        self.add(parent, name, Node::File(FileNode { durable: live.clone(), live, pending: Vec::new(), mode, modified }))
    }
    pub(super) fn add_dir(&mut self, parent: u64, name: &str) -> io::Result<u64> {
        let modified = self.tick();
        self.add(parent, name, Node::Dir(DirNode { modified, ..DirNode::default() }))
    }
    pub(super) fn child(&self, parent: u64, name: &str) -> io::Result<u64> {
        Ok(*self.dir(parent)?.live.get(name).ok_or(Errno::NOENT)?)
    }
    pub(super) fn take(&mut self, parent: u64, name: &str, is_dir: bool) -> io::Result<()> {
        match (self.node(self.child(parent, name)?)?, is_dir) {
            (Node::Dir(_), false) => return Err(Errno::ISDIR.into()),
            (Node::File(_), true) => return Err(Errno::NOTDIR.into()),
            (Node::Dir(dir), true) if !dir.live.is_empty() => return Err(Errno::NOTEMPTY.into()),
            _ => {}
        }
        self.change_dir(parent, Naming::Take(name.to_owned()))
    }
    /// Within one directory it is one change; from one to another each of them has a half.
    pub(super) fn rename(&mut self, (from_dir, from): (u64, &str), (to_dir, to): (u64, &str)) -> io::Result<()> {
        let id = self.child(from_dir, from)?;
        if from_dir == to_dir {
            return self.change_dir(from_dir, Naming::Move(from.to_owned(), to.to_owned()));
        }
        self.change_dir(to_dir, Naming::Put(to.to_owned(), id))?;
        self.change_dir(from_dir, Naming::Take(from.to_owned()))
    }
    /// Exchanges two names of one directory.
    pub(super) fn exchange(&mut self, (one_dir, one): (u64, &str), (other_dir, other): (u64, &str)) -> io::Result<()> {
        self.child(one_dir, one)?;
        self.child(other_dir, other)?;
        if one_dir != other_dir {
            return Err(Errno::XDEV.into());
        }
        self.change_dir(one_dir, Naming::Swap(one.to_owned(), other.to_owned()))
    }
    pub(super) fn find(&self, path: &Path) -> io::Result<u64> {
        path.components().filter(|part| !matches!(part, Component::RootDir | Component::CurDir)).try_fold(ROOT, |at, part| {
            let Component::Normal(name) = part else { return Err(Errno::INVAL.into()) };
            self.child(at, name.to_str().ok_or(Errno::ILSEQ)?)
        })
    }
    /// The directory that holds the path's last segment, and that segment.
    pub(super) fn place<'a>(&self, path: &'a Path) -> io::Result<(u64, &'a str)> {
        let name = path.file_name().and_then(|name| name.to_str()).ok_or(Errno::INVAL)?;
        Ok((self.find(path.parent().unwrap_or(Path::new("")))?, name))
    }
    pub(super) fn stat(&self, id: u64) -> io::Result<FileStat> {
        let (kind, size, modified, mode) = match self.node(id)? {
            Node::File(file) => (Kind::File, file.live.len() as u64, file.modified, file.mode),
            Node::Dir(dir) => (Kind::Dir, 0, dir.modified, 0o700),
        };
        let modified = Timestamp::from_millis(modified);
        Ok(FileStat { kind, size, modified, modified_nanos: 0, mode, owner: owner::me(), inode: id })
    }
    /// Path and content of every file, sorted.
    pub(super) fn files(&self) -> Vec<(String, Arc<Vec<u8>>)> {
        let (mut files, mut dirs) = (Vec::new(), vec![(String::new(), ROOT)]);
        while let Some((path, id)) = dirs.pop() {
            for (name, id) in self.dir(id).map(|dir| dir.live.clone()).unwrap_or_default() {
                let path = format!("{path}/{name}");
                match self.node(id) {
                    Ok(Node::File(file)) => files.push((path, file.live.clone())),
                    Ok(Node::Dir(_)) => dirs.push((path, id)),
                    Err(_) => {}
                }
            }
        }
        files.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        files
    }

    /// What is there after a power cut: what was durable, and of the rest what the dice say. All of it is durable then.
    pub(super) fn after_power_cut(&self, mut dice: Option<Dice<'_>>) -> Self {
        let mut nodes = BTreeMap::new();
        let mut reached = vec![ROOT];
        while let Some(id) = reached.pop() {
            let node = match self.nodes.get(&id).map(AsRef::as_ref) {
                Some(Node::File(file)) => {
                    let content = file.left(&mut dice);
                    Node::File(FileNode { live: content.clone(), durable: content, pending: Vec::new(), ..*file })
                }
                Some(Node::Dir(dir)) => {
                    let names = dir.left(&mut dice);
                    reached.extend(names.values().filter(|id| !nodes.contains_key(*id)));
                    Node::Dir(DirNode { live: names.clone(), durable: names, pending: Vec::new(), modified: dir.modified })
                }
                None => continue,
            };
            nodes.insert(id, Arc::new(node));
        }
        Self { nodes, ..*self }
    }
}

/// What a sector holds that an earlier file was written into.
const STALE: u8 = b'z';

/// There is a stretch in it that only a stale sector has.
pub fn is_stale(bytes: &[u8]) -> bool {
    bytes.split(|byte| *byte != STALE).any(|stretch| stretch.len() >= 64)
}

/// How much of what is pending for one file or directory is kept.
#[derive(Clone, Copy, PartialEq)]
enum Kept {
    Nothing,
    Some,
    All,
}

impl Kept {
    fn roll(dice: &mut Option<Dice<'_>>) -> Self {
        match dice.as_mut().map_or(0, |dice| dice(3)) {
            0 => Self::Nothing,
            1 => Self::Some,
            _ => Self::All,
        }
    }
    /// Whether the next change is.
    fn keeps(self, dice: &mut Option<Dice<'_>>) -> bool {
        self == Self::All || (self == Self::Some && dice.as_mut().is_some_and(|dice| dice(2) == 1))
    }
}

impl FileNode {
    fn left(&self, dice: &mut Option<Dice<'_>>) -> Arc<Vec<u8>> {
        let kept = if self.pending.is_empty() { Kept::Nothing } else { Kept::roll(dice) };
        if kept == Kept::Nothing {
            return self.durable.clone();
        }
        let mut content = self.durable.as_ref().clone();
        // Some file systems show zeros where a sector was not written, some what a file had there that is gone.
        let hole = if kept == Kept::Some && dice.as_mut().is_some_and(|dice| dice(2) == 0) { STALE } else { 0 };
        for change in &self.pending {
            change.apply(&mut content, hole, &mut |_sector| kept.keeps(dice));
        }
        // The length may come through without what was written there.
        if kept == Kept::Some && dice.as_mut().is_some_and(|dice| dice(4) == 0) {
            content.resize(self.live.len(), hole);
        }
        Arc::new(content)
    }
}

impl DirNode {
    fn left(&self, dice: &mut Option<Dice<'_>>) -> Names {
        let kept = if self.pending.is_empty() { Kept::Nothing } else { Kept::roll(dice) };
        let mut names = self.durable.clone();
        for naming in &self.pending {
            if kept.keeps(dice) {
                naming.apply(&mut names);
            }
        }
        names
    }
}

impl Change {
    /// Does it, sector by sector, as far as `keeps` says; `hole` is what lies where nothing was written yet.
    fn apply(&self, content: &mut Vec<u8>, hole: u8, keeps: &mut dyn FnMut(usize) -> bool) {
        match self {
            Self::Len(len) => {
                if keeps(*len) {
                    content.resize(*len, hole);
                }
            }
            Self::Write { at, bytes } => {
                let end = at + bytes.len();
                let mut from = *at;
                while from < end {
                    let to = (from / SECTOR_BYTES + 1).saturating_mul(SECTOR_BYTES).min(end);
                    if keeps(from) {
                        if content.len() < to {
                            content.resize(to, hole);
                        }
                        if let (Some(into), Some(part)) = (content.get_mut(from..to), bytes.get(from - at..to - at)) {
                            into.copy_from_slice(part);
                        }
                    }
                    from = to;
                }
            }
        }
    }
}

impl Naming {
    /// Does it; what has nothing to move does nothing.
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Put(name, id) => drop(names.insert(name.clone(), *id)),
            Self::Take(name) => drop(names.remove(name)),
            Self::Move(from, to) => {
                if let Some(id) = names.remove(from) {
                    names.insert(to.clone(), id);
                }
            }
            Self::Swap(one, other) => {
                if let (Some(first), Some(second)) = (names.get(one).copied(), names.get(other).copied()) {
                    names.extend([(one.clone(), second), (other.clone(), first)]);
                }
            }
        }
    }
}
