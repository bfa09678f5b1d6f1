//! Reading a backup from its first byte to its last. Whatever it is, reading comes to an end: every step consumes bytes that are
//! there, and memory is bounded by one list and one piece.
//!
//! Layers, in this order:
//! 1. Header: the one form of `wire::tar`; names lead downwards. A content lies within the file.
//! 2. Place: a path that a backup has (`super::place`), as a file or a directory as that place wants it.
//! 3. Order: each entry behind the one before; so none is there twice, and none lies in a file.
//! 4. Lists: each is what its entries say, digests of their contents included.
//! 5. The end: counts and the digest over all lists; zeros between and behind, and nothing else.

use std::cmp::Ordering;
use std::io;

use super::place::{Layout, Place, beneath};
use super::{BackupError, Doing, Progress, Watch};
use crate::base::digest::Sha256;
use crate::base::limits::{BACKUP_ENDS_BYTES_MAX, BACKUP_LINE_BYTES_MAX, BACKUP_LIST_BYTES, BACKUP_PIECE_BYTES};
use crate::sys::disk::{DiskFile, read_full};
use crate::wire::backup_manifest::{self as manifest, BadBegin, Begin, End};
use crate::wire::tar::{self, BadTar, Entry};

/// Who is shown what is read. What is shown is not yet known to be undamaged: that is certain when reading has come to its end.
pub(super) trait Visitor {
    /// A file or directory begins; its content follows in pieces.
    fn begin(&mut self, layout: &Layout, entry: &Entry, place: Place<'_>) -> Result<(), BackupError>;
    /// The next bytes of its content.
    fn piece(&mut self, bytes: &[u8]) -> Result<(), BackupError>;
    /// All of its content was shown; here it is once more.
    fn end(&mut self, entry: &Entry, place: Place<'_>, content: &Content<'_>) -> Result<(), BackupError>;
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) layout: Layout,
    pub(super) end: End,
    pub(super) digest: [u8; 32],
}

/// Reads a backup.
///
/// # Errors
/// `NoBackup`, `Newer`, `Damaged`, `Refused`, `Stopped`, `Io`, and what the visitor says.
pub(super) fn read(file: &dyn DiskFile, doing: Doing, visitor: &mut dyn Visitor, watch: Watch<'_>) -> Result<Whole, BackupError> {
    let len = file.len().map_err(unread)?;
    let mut reader = Reader { file, len, at: 0, doing, watch };
    let (layout, begin) = reader.first()?;
    let (mut entries, mut lists) = (Entries::new(layout.clone(), &begin), 0);
    loop {
        let (entry, name) = match reader.header()? {
            Some(entry) => (entry.clone(), entry.path.as_str().to_owned()),
            None => return Err(reader.damaged("it ends before its manifest does")),
        };
        if name == manifest::END {
            let bytes = reader.small(&entry, BACKUP_ENDS_BYTES_MAX)?;
            return entries.end(&bytes).ok_or_else(|| reader.damaged("its last entry does not fit what stands before it")).and_then(
                |whole| {
                    reader.closed()?;
                    Ok(whole)
                },
            );
        }
        if beneath(&name, "manifest").is_some() {
            lists += 1;
            if name != manifest::list_name(lists) {
                return Err(reader.damaged("its lists are not in order"));
            }
            let bytes = reader.small(&entry, BACKUP_LIST_BYTES + BACKUP_LINE_BYTES_MAX)?;
            entries.list(&bytes).map_err(|how| reader.damaged(&how))?;
            continue;
        }
        let place = entries.next(&entry)?;
        visitor.begin(&layout, &entry, place)?;
        let content = Content { file, at: reader.at, len: entry.size };
        let sha256 = reader.content(entry.size, visitor)?;
        visitor.end(&entry, place, &content)?;
        entries.line(&entry, &sha256);
    }
}

/// What entries said since the last list.
struct Entries {
    layout: Layout,
    last: Option<Entry>,
    list: Vec<u8>,
    digest: Sha256,
    files: u64,
    directories: u64,
    bytes: u64,
}

impl Entries {
    fn new(layout: Layout, begin: &[u8]) -> Self {
        let mut digest = Sha256::new();
        digest.update(begin);
        Self { layout, last: None, list: Vec::new(), digest, files: 0, directories: 0, bytes: 0 }
    }

    /// The place of the next entry, which may be there.
    fn next<'a>(&mut self, entry: &'a Entry) -> Result<Place<'a>, BackupError> {
        let path = entry.path.as_str();
        let refused = |why: &str| BackupError::Refused(format!("{}: {why}", told(path)));
        let place = self.layout.place(path).ok_or_else(|| refused("no backup has such a file"))?;
        let wrong = if entry.is_dir { self.layout.is_file(path) } else { self.layout.is_dir(path) };
        // Whatever else there is of it comes elsewhere in the order.
        let in_a_file = path.match_indices('/').any(|(end, _)| self.layout.is_file(path.get(..end).unwrap_or_default()));
        if wrong || in_a_file {
            return Err(refused("it is a file where a directory belongs, or the other way round"));
        }
        if let Some(last) = &self.last {
            if self.layout.compare(last.path.as_str(), path) != Ordering::Less {
                return Err(refused("it is there twice, or not in its place"));
            }
            if !last.is_dir && beneath(path, last.path.as_str()).is_some() {
                return Err(refused("it lies in a file"));
            }
        }
        if self.list.len() > BACKUP_LIST_BYTES {
            return Err(refused("a list is missing before it"));
        }
        self.last = Some(entry.clone());
        Ok(place)
    }

    fn line(&mut self, entry: &Entry, sha256: &[u8; 32]) {
        let line = manifest::of(entry, sha256);
        self.digest.update(&line);
        self.list.extend_from_slice(&line);
        *(if entry.is_dir { &mut self.directories } else { &mut self.files }) += 1;
        self.bytes = self.bytes.saturating_add(entry.size);
    }

    /// A list says what its entries said, or which one does not fit.
    fn list(&mut self, bytes: &[u8]) -> Result<(), String> {
        let ours = std::mem::take(&mut self.list);
        if !bytes.is_empty() && bytes == ours {
            return Ok(());
        }
        let pairs = ours.split_inclusive(|byte| *byte == b'\n').zip(bytes.split_inclusive(|byte| *byte == b'\n'));
        let other = pairs.into_iter().find(|(ours, theirs)| ours != theirs);
        let path = other.and_then(|(ours, _)| serde_json::from_slice::<serde_json::Value>(ours).ok());
        let path = path.as_ref().and_then(|line| line.get("path")).and_then(serde_json::Value::as_str);
        Err(match path {
            Some(path) => format!("{} is not as its list says", told(path)),
            None => "a list has other files than stand before it".to_owned(),
        })
    }

    fn end(self, bytes: &[u8]) -> Option<Whole> {
        if !self.list.is_empty() {
            return None;
        }
        let (end, digest) = End::read(bytes, self.digest)?;
        let counted = (end.files, end.directories, end.bytes) == (self.files, self.directories, self.bytes);
        counted.then_some(Whole { layout: self.layout, end, digest })
    }
}

struct Reader<'a, 'w> {
    file: &'a dyn DiskFile,
    len: u64,
    at: u64,
    doing: Doing,
    watch: &'a mut (dyn FnMut(Progress) -> bool + 'w),
}

impl Reader<'_, '_> {
    /// The first entry: it tells whether all that follows can be read.
    fn first(&mut self) -> Result<(Layout, Vec<u8>), BackupError> {
        let entry = match self.header() {
            Ok(Some(entry)) if entry.path.as_str() == manifest::BEGIN && !entry.is_dir => entry,
            Err(error @ (BackupError::Io { .. } | BackupError::Stopped)) => return Err(error),
            _ => return Err(BackupError::NoBackup),
        };
        let bytes = self.small(&entry, BACKUP_ENDS_BYTES_MAX)?;
        let begin = Begin::read(&bytes).map_err(|bad| match bad {
            BadBegin::Newer(found) => BackupError::Newer(found),
            BadBegin::Unreadable => self.damaged("its first entry cannot be read"),
        })?;
        let refused = || BackupError::Refused(format!("its workspace cannot lie in {}", told(&begin.workspace)));
        // It stands in paths, so it must be one.
        let path = crate::wire::path::RelPath::parse(&begin.workspace).map_err(|_| refused())?;
        Ok((Layout::of(path.as_str()).ok_or_else(refused)?, bytes))
    }

    fn header(&mut self) -> Result<Option<Entry>, BackupError> {
        let mut bytes = vec![0; tar::HEADER_BYTES_MAX];
        let read = read_full(self.file, &mut bytes, self.at).map_err(unread)?;
        let found = tar::read(bytes.get(..read).unwrap_or_default()).map_err(|bad| match bad {
            BadTar::Name => BackupError::Refused(format!("{bad}, at byte {}", self.at)),
            BadTar::Cut | BadTar::Header => self.damaged(&bad.to_string()),
        })?;
        let Some((entry, len)) = found else { return Ok(None) };
        self.at += len as u64;
        // Whatever a header claims: it is not believed beyond the bytes that are there.
        let end = self.at.checked_add(entry.size).and_then(|end| end.checked_add(tar::padding(entry.size) as u64));
        if end.is_none_or(|end| end > self.len) {
            return Err(self.damaged(&format!("it ends within {}", told(entry.path.as_str()))));
        }
        Ok(Some(entry))
    }

    /// Shows a content, and gives its digest.
    fn content(&mut self, size: u64, visitor: &mut dyn Visitor) -> Result<[u8; 32], BackupError> {
        let (mut sha256, mut left) = (Sha256::new(), size);
        let mut piece = vec![0; usize::try_from(size).unwrap_or(BACKUP_PIECE_BYTES).min(BACKUP_PIECE_BYTES)];
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(BACKUP_PIECE_BYTES).min(BACKUP_PIECE_BYTES);
            let bytes = piece.get_mut(..want).unwrap_or_default();
            self.exact(bytes)?;
            sha256.update(bytes);
            visitor.piece(bytes)?;
            left -= want as u64;
        }
        self.padding(size)?;
        Ok(sha256.finish())
    }

    /// The content of an entry of the manifest.
    fn small(&mut self, entry: &Entry, max: usize) -> Result<Vec<u8>, BackupError> {
        let plain = !entry.is_dir && entry.mode == 0o600 && entry.modified == 0;
        let size = usize::try_from(entry.size).ok().filter(|size| *size <= max && plain);
        let size = size.ok_or_else(|| self.damaged("an entry of its manifest is none"))?;
        let mut bytes = vec![0; size];
        self.exact(&mut bytes)?;
        self.padding(entry.size)?;
        Ok(bytes)
    }

    fn exact(&mut self, bytes: &mut [u8]) -> Result<(), BackupError> {
        if read_full(self.file, bytes, self.at).map_err(unread)? < bytes.len() {
            return Err(self.damaged("it became shorter while it was read"));
        }
        self.at += bytes.len() as u64;
        let go_on = (self.watch)(Progress { doing: self.doing, bytes: self.at });
        if go_on { Ok(()) } else { Err(BackupError::Stopped) }
    }

    fn padding(&mut self, size: u64) -> Result<(), BackupError> {
        let mut zeros = [0; tar::BLOCK_BYTES];
        let zeros = zeros.get_mut(..tar::padding(size)).unwrap_or_default();
        self.exact(zeros)?;
        if zeros.iter().all(|byte| *byte == 0) { Ok(()) } else { Err(self.damaged("there is something between two entries")) }
    }

    /// The end of a tar, and of the file.
    fn closed(&mut self) -> Result<(), BackupError> {
        if self.len.checked_sub(self.at) != Some(tar::END.len() as u64) {
            return Err(self.damaged("it does not end where its manifest does"));
        }
        let mut end = [1; tar::END.len()];
        self.exact(&mut end)?;
        if end == tar::END { Ok(()) } else { Err(self.damaged("there is something behind its manifest")) }
    }

    fn damaged(&self, how: &str) -> BackupError {
        BackupError::Damaged(format!("{how} (byte {} of {})", self.at, self.len))
    }
}

fn unread(error: io::Error) -> BackupError {
    BackupError::Io { doing: "reading the backup".to_owned(), source: error }
}

/// The content of one file within a backup, as a file to be read.
pub(super) struct Content<'a> {
    file: &'a dyn DiskFile,
    at: u64,
    len: u64,
}

impl DiskFile for Content<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX).min(buffer.len());
        self.file.read_at(buffer.get_mut(..left).unwrap_or_default(), self.at.saturating_add(offset))
    }
    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn sync(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn len(&self) -> io::Result<u64> {
        Ok(self.len)
    }
}

/// A name of a stranger's making for a message: cut, and without anything that a terminal would obey.
pub(super) fn told(name: &str) -> String {
    let cut: String = name.chars().take(200).collect();
    format!("{cut:?}")
}
