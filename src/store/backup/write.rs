//! Writing a backup: the files of a home in their order, each list behind what it lists.

use std::io;

use super::place::{AGENTS, HOME, KEPT_TOGETHER, KEYS, OUTSIDE, Part, Place, TOKEN};
use super::{BackupError, Doing, Progress, Source, Watch};
use crate::base::digest::Sha256;
use crate::base::limits::{BACKUP_LIST_BYTES, BACKUP_PIECE_BYTES, BACKUP_TRIES};
use crate::base::time::Timestamp;
use crate::store::files::split;
use crate::store::lines::end_of_lines;
use crate::sys::disk::{DiskFile, FileStat, Kind, read_full};
use crate::wire::backup_manifest::{self as manifest, Begin, FORMAT};
use crate::wire::path::RelPath;
use crate::wire::tar::{self, Entry};

/// Things that were left out and are told one by one; more are only counted.
const LEFT_OUT_TOLD: usize = 20;

/// What became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// Bytes of the backup.
    pub bytes: u64,
    /// What it ends with.
    pub digest: [u8; 32],
    /// What lies in the home and is no file or directory that the server would use, at most twenty of it.
    pub left_out: Vec<String>,
    /// How many there are.
    pub left_out_count: u64,
}

/// Writes a backup of a home into an empty file, as a server may be working there; durable when it returns.
///
/// # Errors
/// `Refused` where there is no home, `Changed`, `Full`, `Stopped`, `Io`.
pub fn write(source: &Source, into: &dyn DiskFile, now: Timestamp, watch: Watch<'_>) -> Result<Written, BackupError> {
    let looked = source.stat(&format!("{HOME}/secret")).map_err(BackupError::io("the home", "looking at the home"))?;
    if looked.is_none() {
        let home = source.real(HOME);
        return Err(BackupError::Refused(format!("there is nothing to back up in {}: no server has been started there", home.display())));
    }
    for tried in 1.. {
        into.set_len(0).map_err(BackupError::io("the backup", "writing the backup"))?;
        let mut writer = Writer::new(source, into, watch);
        match writer.home().and_then(|()| writer.end(now)) {
            Err(BackupError::Changed(_)) if tried < BACKUP_TRIES => {}
            Err(error) => return Err(error),
            Ok(digest) => {
                let Writer { at, left_out, left_out_count, .. } = writer;
                return Ok(Written { bytes: at, digest, left_out, left_out_count });
            }
        }
    }
    Err(BackupError::Stopped)
}

struct Writer<'a, 'w> {
    source: &'a Source,
    into: &'a dyn DiskFile,
    watch: &'a mut (dyn FnMut(Progress) -> bool + 'w),
    /// Bytes that are in the file; those in `buffer` come behind them.
    at: u64,
    buffer: Vec<u8>,
    /// Lines of the entries since the last list.
    list: Vec<u8>,
    lists: u64,
    /// Over the first entry and every line.
    digest: Sha256,
    end: manifest::End,
    left_out: Vec<String>,
    left_out_count: u64,
}

impl<'a, 'w> Writer<'a, 'w> {
    fn new(source: &'a Source, into: &'a dyn DiskFile, watch: &'a mut (dyn FnMut(Progress) -> bool + 'w)) -> Self {
        let end = manifest::End { program: String::new(), created: String::new(), files: 0, directories: 0, bytes: 0 };
        Self {
            source,
            into,
            watch,
            at: 0,
            buffer: Vec::new(),
            list: Vec::new(),
            lists: 0,
            digest: Sha256::new(),
            end,
            left_out: Vec::new(),
            left_out_count: 0,
        }
    }

    /// Everything, in the order that `super` gives reasons for.
    fn home(&mut self) -> Result<(), BackupError> {
        let layout = &self.source.layout;
        let begin = Begin { format: FORMAT, workspace: layout.workspace.clone() }.write();
        self.digest.update(&begin);
        self.own(manifest::BEGIN, &begin)?;

        self.file(&layout.in_workspace(AGENTS))?;
        self.tree(&layout.in_workspace("approvals"))?;
        self.sessions(&layout.in_workspace("sessions"))?;
        self.tree(HOME)?;
        if layout.is_outside() {
            self.tree(OUTSIDE)?;
        }
        let skills = layout.in_workspace("skills");
        if self.read(self.source.stat(&skills), &skills)?.is_some_and(|stat| stat.is_dir()) {
            let held = self.source.lock(&format!("{skills}/.lock"));
            let _held = held.map_err(BackupError::io("the home", "locking the skills"))?;
            self.tree(&skills)?;
        }
        self.together()?;
        self.audit(&layout.in_workspace("audit"))
    }

    fn sessions(&mut self, dir: &str) -> Result<(), BackupError> {
        // The listing is let go of but for the ids and what is seldom there.
        let mut ids: Vec<(String, bool, Vec<String>)> = Vec::new();
        let (listed, _) = self.read(self.source.list(dir), dir)?;
        for (name, _) in listed {
            let path = format!("{dir}/{name}");
            let (id, beside) = match self.source.layout.place(&path) {
                Some(Place::Session(id, Part::Beside(_))) => (id, true),
                Some(Place::Session(id, _) | Place::Grave(id)) => (id, false),
                _ => continue,
            };
            let (id, gone) = (id.to_string(), split(&name).is_some_and(|(_, ending)| ending == "gone"));
            // Names of one id stand side by side.
            if ids.last().is_none_or(|(last, ..)| *last != id) {
                ids.push((id, false, Vec::new()));
            }
            if let Some((_, buried, more)) = ids.last_mut() {
                *buried |= gone;
                more.extend(beside.then_some(path));
            }
        }
        for (id, buried, more) in &ids {
            if *buried {
                continue;
            }
            for ending in ["run", "json", "log"] {
                // By name: a log may have come since the directory was listed.
                self.file(&format!("{dir}/{id}.{ending}"))?;
            }
            // Its directory, too, may have come with the log's last lines.
            let results = format!("{dir}/{id}.d");
            let more = more.iter().filter(|path| **path != results);
            let mut all: Vec<&String> = more.chain([&results]).collect();
            all.sort_by(|a, b| self.source.layout.compare(a, b));
            for path in all {
                self.thing(path)?;
            }
        }
        let (listed, _) = self.read(self.source.list(dir), dir)?;
        for (name, _) in listed {
            let path = format!("{dir}/{name}");
            if let Some(Place::Grave(_)) = self.source.layout.place(&path) {
                self.file(&path)?;
            }
        }
        Ok(())
    }

    /// Files of the home that belong together.
    fn together(&mut self) -> Result<(), BackupError> {
        let mut held = None;
        for name in KEPT_TOGETHER {
            if name == TOKEN {
                held = self.source.lock(&format!("{HOME}/keys.lock")).map_err(BackupError::io("the home", "locking the keys"))?;
            }
            self.file(&format!("{HOME}/{name}"))?;
            if name == KEYS {
                held = None;
            }
        }
        drop(held);
        Ok(())
    }

    fn audit(&mut self, dir: &str) -> Result<(), BackupError> {
        let (listed, _) = self.read(self.source.list(dir), dir)?;
        let mut segments: Vec<String> = listed.into_keys().map(|name| format!("{dir}/{name}")).collect();
        segments.retain(|path| matches!(self.source.layout.place(path), Some(Place::Audit(_))));
        segments.sort_by(|a, b| self.source.layout.compare(a, b));
        segments.iter().try_for_each(|path| self.file(path))
    }

    /// A file, or a directory with all that is of the same kind in it; nothing there is fine.
    fn thing(&mut self, path: &str) -> Result<(), BackupError> {
        match self.read(self.source.stat(path), path)? {
            Some(stat) => self.known(path, &stat),
            None => Ok(()),
        }
    }

    fn known(&mut self, path: &str, stat: &FileStat) -> Result<(), BackupError> {
        match stat.kind {
            Kind::File => self.file(path),
            Kind::Dir => self.tree(path),
            Kind::Link if self.source.layout.is_room(path) => {
                let at = self.source.real(path);
                Err(BackupError::Refused(format!(
                    "{} is a link: what lies behind it would be missing; mount it there instead",
                    at.display()
                )))
            }
            Kind::Link => self.leave_out(path, "a link"),
            Kind::Other => self.leave_out(path, "a socket, pipe or device"),
        }
    }

    /// A directory with all that is of the same kind in it.
    fn tree(&mut self, path: &str) -> Result<(), BackupError> {
        let Some(before) = self.read(self.source.stat_of_dir(path), path)? else { return Ok(()) };
        if !self.directory(path, &before)? {
            return Ok(());
        }
        let of = self.kind(path);
        let (listed, others) = self.read(self.source.list(path), path)?;
        if others > 0 {
            self.leave_out(path, &format!("in it, names that are no UTF-8: {others}"))?;
        }
        for (name, stat) in listed {
            let inner = format!("{path}/{name}");
            if self.kind(&inner) == of {
                self.known(&inner, &stat)?;
            }
        }
        match self.read(self.source.stat_of_dir(path), path)? {
            Some(after) if after.inode != before.inode => Err(BackupError::Changed(self.source.real(path).display().to_string())),
            _ => Ok(()),
        }
    }

    /// What is read together: places without what tells their files apart.
    fn kind(&self, path: &str) -> Option<u8> {
        Some(match self.source.layout.place(path)? {
            Place::Behind => 0,
            Place::Session(..) => 1,
            Place::Grave(_) => 2,
            Place::Other => 3,
            Place::Skill => 4,
            Place::Together(_) => 5,
            Place::Audit(_) => 6,
        })
    }

    fn directory(&mut self, path: &str, stat: &FileStat) -> Result<bool, BackupError> {
        let Ok(path) = RelPath::parse(path) else {
            self.leave_out(path, "a name that the server refuses")?;
            return Ok(false);
        };
        let entry = entry(path, true, 0, stat);
        self.push(&tar::header(&entry))?;
        self.end.directories += 1;
        self.listed(&entry, &[0; 32])?;
        Ok(true)
    }

    /// A file as it is now, or as much of it as is whole; nothing there is fine.
    fn file(&mut self, path: &str) -> Result<(), BackupError> {
        let Some((file, stat)) = self.read(self.source.file(path), path)? else {
            let other = self.read(self.source.stat(path), path)?.filter(|stat| stat.kind != Kind::File);
            return other.map_or(Ok(()), |_| self.leave_out(path, "no regular file"));
        };
        let Ok(rel) = RelPath::parse(path) else { return self.leave_out(path, "a name that the server refuses") };
        let place = self.source.layout.place(path);
        let in_lines = match place {
            Some(Place::Session(_, Part::Log | Part::Run) | Place::Audit(_)) => true,
            Some(Place::Behind) => path.ends_with(".jsonl"),
            _ => false,
        };
        let whole = if in_lines { self.read(end_of_lines(file.as_ref(), stat.size), path)? } else { stat.size };
        let size = match (whole, place) {
            // A segment that was made and not written yet.
            (0, Some(Place::Audit(_))) => return Ok(()),
            // It has no line at all: the server will say what it makes of that.
            (0, _) => stat.size,
            (whole, _) => whole,
        };
        let entry = entry(rel, false, size, &stat);
        self.push(&tar::header(&entry))?;
        let (mut sha256, mut at) = (Sha256::new(), 0);
        let mut piece = vec![0; BACKUP_PIECE_BYTES.min(usize::try_from(size).unwrap_or(BACKUP_PIECE_BYTES))];
        while at < size {
            let want = usize::try_from(size - at).unwrap_or(BACKUP_PIECE_BYTES).min(BACKUP_PIECE_BYTES);
            let bytes = piece.get_mut(..want).unwrap_or_default();
            let read = self.read(read_full(file.as_ref(), bytes, at), path)?;
            if read < want {
                return Err(BackupError::Changed(self.source.real(path).display().to_string()));
            }
            sha256.update(bytes);
            self.push(bytes)?;
            at += want as u64;
        }
        self.pad(size)?;
        self.end.files += 1;
        self.end.bytes += size;
        self.listed(&entry, &sha256.finish())
    }

    /// Notes an entry for the next list, which is written once it is long enough.
    fn listed(&mut self, entry: &Entry, sha256: &[u8; 32]) -> Result<(), BackupError> {
        let line = manifest::of(entry, sha256);
        self.digest.update(&line);
        self.list.extend_from_slice(&line);
        if self.list.len() >= BACKUP_LIST_BYTES { self.close_list() } else { Ok(()) }
    }

    fn close_list(&mut self) -> Result<(), BackupError> {
        let list = std::mem::take(&mut self.list);
        if list.is_empty() {
            return Ok(());
        }
        self.lists += 1;
        self.own(&manifest::list_name(self.lists), &list)
    }

    /// The last entry, and all of it on the disk.
    fn end(&mut self, now: Timestamp) -> Result<[u8; 32], BackupError> {
        self.close_list()?;
        self.end.program = env!("CARGO_PKG_VERSION").to_owned();
        self.end.created = now.to_string();
        let (bytes, digest) = self.end.write(std::mem::take(&mut self.digest));
        self.own(manifest::END, &bytes)?;
        self.push(&tar::END)?;
        self.flush()?;
        self.into.sync().map_err(BackupError::io("the backup", "writing the backup"))?;
        Ok(digest)
    }

    /// An entry of the manifest.
    fn own(&mut self, path: &str, bytes: &[u8]) -> Result<(), BackupError> {
        let path = RelPath::parse(path).map_err(|_| BackupError::Refused(path.to_owned()))?;
        let size = bytes.len() as u64;
        self.push(&tar::header(&Entry { path, is_dir: false, size, mode: 0o600, modified: 0 }))?;
        self.push(bytes)?;
        self.pad(size)
    }

    fn pad(&mut self, size: u64) -> Result<(), BackupError> {
        self.push([0; tar::BLOCK_BYTES].get(..tar::padding(size)).unwrap_or_default())
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BACKUP_PIECE_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), BackupError> {
        self.into.write_at(&self.buffer, self.at).map_err(BackupError::io("the backup", "writing the backup"))?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        let go_on = (self.watch)(Progress { doing: Doing::Writing, bytes: self.at });
        if go_on { Ok(()) } else { Err(BackupError::Stopped) }
    }

    fn leave_out(&mut self, path: &str, what: &str) -> Result<(), BackupError> {
        self.left_out_count += 1;
        if self.left_out.len() < LEFT_OUT_TOLD {
            self.left_out.push(format!("{} ({what})", self.source.real(path).display()));
        }
        Ok(())
    }

    fn read<T>(&self, read: io::Result<T>, path: &str) -> Result<T, BackupError> {
        read.map_err(BackupError::io("the home", format_args!("reading {}", self.source.real(path).display())))
    }
}

/// What stands in header and list, which must say the same: a clock that ran ahead may have left a time that a header cannot say.
fn entry(path: RelPath, is_dir: bool, size: u64, stat: &FileStat) -> Entry {
    Entry { path, is_dir, size, mode: stat.mode, modified: (stat.modified.millis() / 1000).min(tar::MODIFIED_MAX) }
}
