//! Appending to a file of lines so that no half record is ever fused with the next one.

use std::io;
use std::sync::Arc;

use crate::store::lines::PAGE_BYTES;
use crate::sys::disk::{DiskFile, read_full};

/// The writing end of a log. One per file and process.
///
/// Writes go to a tracked offset, not to "the end": what a failed write left behind is cut off, and where that fails too it is cut
/// before the next write, which is refused until then.
///
/// After a failed sync the kernel may drop what it could not write and yet call the pages clean (fsyncgate). So everything
/// since the last good sync is read back and written once more before the log goes on.
///
/// What was cut may be on the disk all the same, and come back with a power cut. So the next line is synced whatever it is: what
/// readers see never stands where the disk may have something else.
pub(crate) struct LogFile {
    file: Arc<dyn DiskFile>,
    /// Where the next line goes.
    len: u64,
    /// Up to here a sync has succeeded.
    synced: u64,
    /// It could only be opened for reading.
    read_only: bool,
    /// Something lies behind `len`.
    ragged: bool,
    /// A write or a sync has failed since `synced`, or something was cut.
    doubtful: bool,
}

impl LogFile {
    /// A file whose lines end at `len`; what lies behind is cut before the next line.
    pub(crate) fn ragged(file: Arc<dyn DiskFile>, len: u64) -> Self {
        Self { ragged: true, ..Self::new(file, len) }
    }
    /// A file whose lines end at `len`; nothing lies behind.
    pub(crate) fn new(file: Arc<dyn DiskFile>, len: u64) -> Self {
        // What was there when it was opened may never have been synced, if the last process was killed; the next sync covers it.
        Self { file, len, synced: len, read_only: false, ragged: false, doubtful: false }
    }
    /// The same of a file that can only be read for now.
    pub(crate) fn read_only(self) -> Self {
        Self { read_only: true, ..self }
    }
    /// Nothing can be added before [`Self::reopen`].
    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only
    }
    /// The same file, open for writing.
    pub(crate) fn reopen(&mut self, file: Arc<dyn DiskFile>) {
        (self.file, self.read_only) = (file, false);
    }
    pub(crate) fn file(&self) -> &Arc<dyn DiskFile> {
        &self.file
    }
    pub(crate) fn len(&self) -> u64 {
        self.len
    }
    /// The next append has something to mend first, which takes longer.
    pub(crate) fn needs_mending(&self) -> bool {
        self.ragged || self.doubtful
    }

    /// Adds whole lines; after an error nothing of them is there, or will be cut before anything else is written.
    pub(crate) fn append(&mut self, lines: &[u8], sync: bool) -> io::Result<()> {
        if self.ragged {
            self.file.set_len(self.len)?;
            self.ragged = false;
        }
        if self.doubtful {
            self.write_again()?;
        }
        let sync = sync || self.doubtful;
        if let Err(e) = self.file.write_at(lines, self.len) {
            self.cut();
            return Err(e);
        }
        let end = self.len + lines.len() as u64;
        if sync {
            if let Err(e) = self.file.sync() {
                self.cut();
                return Err(e);
            }
            self.synced = end;
            self.doubtful = false;
        }
        self.len = end;
        Ok(())
    }

    /// What failed writes left is gone when this returns, and does not come back with a power cut.
    pub(crate) fn mend(&mut self) -> io::Result<()> {
        self.append(&[], true)
    }

    /// A sync of [`Self::file`] made elsewhere has failed: everything since the last good one here is written again.
    pub(crate) fn doubt(&mut self) {
        self.doubtful = true;
    }

    /// Takes the last lines back (they were not shown to anyone).
    pub(crate) fn take_back(&mut self, len: u64) {
        self.len = len.min(self.len);
        self.synced = self.synced.min(self.len);
        self.cut();
    }

    fn cut(&mut self) {
        self.doubtful = true;
        self.ragged = self.file.set_len(self.len).is_err();
    }

    /// Makes the pages since the last good sync dirty again.
    fn write_again(&mut self) -> io::Result<()> {
        let mut page = vec![0; PAGE_BYTES];
        let mut at = self.synced;
        while at < self.len {
            let want = usize::try_from(self.len - at).unwrap_or(PAGE_BYTES).min(PAGE_BYTES);
            let bytes = page.get_mut(..want).unwrap_or_default();
            if read_full(self.file.as_ref(), bytes, at)? < want {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.file.write_at(bytes, at)?;
            at += want as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::Bench;
    use crate::sys::disk::{Disk, Open};

    fn log(bench: &Bench) -> LogFile {
        std::fs::create_dir_all(&bench.dir).unwrap();
        LogFile::new(Arc::from(bench.disk.open(&bench.dir.join("log"), Open::Append).unwrap()), 0)
    }
    fn content(bench: &Bench) -> String {
        std::fs::read_to_string(bench.dir.join("log")).unwrap()
    }

    #[test]
    fn a_write_that_finds_no_space_leaves_nothing_behind() {
        let bench = Bench::new();
        let mut log = log(&bench);
        log.append(b"one\n", false).unwrap();
        bench.disk.set_budget(Some(3));
        assert!(log.append(b"two is long\n", false).is_err());
        assert_eq!(content(&bench), "one\n");
        bench.disk.set_budget(None);
        log.append(b"3\n", true).unwrap();
        assert_eq!(content(&bench), "one\n3\n");
    }

    #[test]
    fn where_cutting_fails_too_the_next_write_cuts_first() {
        let bench = Bench::new();
        let mut log = log(&bench);
        log.append(b"one\n", false).unwrap();
        bench.disk.tear(5);
        bench.disk.stop_after(Some(0));
        assert!(log.append(b"two is long\n", false).is_err());
        assert_eq!(content(&bench), "one\ntwo i");
        assert!(log.append(b"3\n", false).is_err(), "not before it is cut");
        bench.disk.stop_after(None);
        log.append(b"3\n", false).unwrap();
        assert_eq!(content(&bench), "one\n3\n");
    }

    #[test]
    fn after_a_failed_sync_everything_unsynced_is_written_again() {
        let bench = Bench::new();
        let mut log = log(&bench);
        log.append(b"one\n", true).unwrap();
        log.append(b"two\n", false).unwrap();
        bench.disk.fail_syncs(1);
        assert!(log.append(b"three\n", true).is_err());
        assert_eq!(content(&bench), "one\ntwo\n");
        let before = bench.disk.bytes_written();
        log.append(b"4\n", true).unwrap();
        assert_eq!(bench.disk.bytes_written() - before, 4 + 2, "`two` went to the disk a second time");
        assert_eq!(content(&bench), "one\ntwo\n4\n");
    }
}
