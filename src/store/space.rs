//! Room on the disk: enough, or full as a state that heals by itself.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use crate::base::limits::{RESERVE_BYTES, SPACE_BYTES_MIN};
use crate::base::log;
use crate::store::home::Seams;
use crate::sys::disk::{Open, refusal};

/// The disk is looked at this often at most, so it heals within this time of space coming back.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Whether there is room for new messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Space {
    /// Yes.
    Enough,
    /// No: it is full, can only be read, or fails. Heals by itself within 5 s of that being over.
    Full {
        /// What was found, in public words.
        why: String,
    },
}

/// Watches the room on one file system and keeps the reserve file.
pub(crate) struct Room {
    seams: Seams,
    dir: PathBuf,
    reserve: PathBuf,
    /// What was last seen. Held for one look at the disk; every accepted message asks here.
    seen: Mutex<Seen>,
}

struct Seen {
    space: Space,
    /// Monotonic time of the last look; `None`: look at once.
    at: Option<Duration>,
    /// The reserve file has its size.
    reserved: bool,
}

impl Room {
    pub(crate) fn open(home: &Path, seams: &Seams) -> Self {
        let reserve = home.join("reserve");
        let reserved = matches!(seams.disk.stat(&reserve), Ok(Some(stat)) if stat.size == RESERVE_BYTES);
        let seen = Mutex::new(Seen { space: Space::Enough, at: None, reserved });
        let room = Self { seams: seams.clone(), dir: home.to_owned(), reserve, seen };
        room.space();
        room
    }

    /// The state, looked at again when it is old.
    pub(crate) fn space(&self) -> Space {
        let mut seen = self.seen.lock().unwrap_or_else(|e| e.into_inner());
        let now = self.seams.clock.monotonic();
        if seen.at.is_some_and(|at| now.saturating_sub(at) < LOOK_EVERY) {
            return seen.space.clone();
        }
        seen.at = Some(now);
        let before = std::mem::replace(&mut seen.space, Space::Enough);
        seen.space = self.look(&mut seen.reserved);
        match (&before, &seen.space) {
            (Space::Enough, Space::Full { why }) => log::warn("store", format_args!("new messages are refused: {why}")),
            (Space::Full { .. }, Space::Enough) => log::info("store", format_args!("there is room on the disk again")),
            _ => {}
        }
        seen.space.clone()
    }

    /// A write was refused: full from now on until a look says otherwise, and the reserve is given up.
    pub(crate) fn give_up(&self, why: &str) {
        let mut seen = self.refuse(why);
        if seen.reserved {
            seen.reserved = self.seams.disk.remove_file(&self.reserve).is_err();
        }
    }

    /// A write failed, not for want of space: nothing new is taken until the next look, which writes the reserve anew to see whether
    /// the disk still can.
    pub(crate) fn doubt(&self, why: &str) {
        self.refuse(why).reserved = false;
    }

    fn refuse(&self, why: &str) -> MutexGuard<'_, Seen> {
        let mut seen = self.seen.lock().unwrap_or_else(|e| e.into_inner());
        if seen.space == Space::Enough {
            log::warn("store", format_args!("new messages are refused: {why}"));
        }
        seen.space = Space::Full { why: why.to_owned() };
        seen.at = Some(self.seams.clock.monotonic());
        seen
    }

    fn look(&self, reserved: &mut bool) -> Space {
        let free = match self.seams.disk.free_bytes(&self.dir) {
            Ok(free) => free,
            // Not knowing is no reason to refuse: the write itself will tell.
            Err(e) => return refusal(&e).map_or(Space::Enough, |why| Space::Full { why: why.to_owned() }),
        };
        let wanted = SPACE_BYTES_MIN + if *reserved { 0 } else { RESERVE_BYTES };
        if free < wanted {
            let why = format!("{} KiB are free on the disk of the home, {} are needed", free / 1024, wanted / 1024);
            return Space::Full { why };
        }
        if !*reserved {
            match self.make_reserve() {
                Ok(()) => *reserved = true,
                Err(e) => {
                    let _ = self.seams.disk.remove_file(&self.reserve);
                    return Space::Full { why: format!("the reserve file cannot be written ({})", e.kind()) };
                }
            }
        }
        Space::Enough
    }

    fn make_reserve(&self) -> io::Result<()> {
        let file = self.seams.disk.open(&self.reserve, Open::Append)?;
        file.set_len(0)?;
        // Random bytes: a file system that compresses or leaves out zeros would keep nothing for us.
        let mut block = vec![0; 64 * 1024];
        self.seams.random.fill(&mut block);
        let mut at = 0;
        while at < RESERVE_BYTES {
            file.write_at(&block, at)?;
            at += block.len() as u64;
        }
        // Allocation may be delayed until here.
        file.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::Bench;

    #[test]
    fn a_full_disk_heals_within_five_seconds_and_has_its_reserve_again() {
        let bench = Bench::new();
        let home = bench.home();
        let reserve = home.path().join("reserve");
        assert_eq!(home.space(), Space::Enough);
        assert_eq!(std::fs::metadata(&reserve).unwrap().len(), RESERVE_BYTES);

        home.give_up_reserve("a write found no space");
        assert!(matches!(home.space(), Space::Full { .. }));
        assert!(!reserve.exists());

        bench.disk.set_free(Some(SPACE_BYTES_MIN + RESERVE_BYTES - 1));
        bench.clock.advance(Duration::from_secs(5));
        assert!(matches!(home.space(), Space::Full { .. }), "the reserve has to fit as well");
        bench.disk.set_free(None);
        assert!(matches!(home.space(), Space::Full { .. }), "not looked at again yet");
        bench.clock.advance(Duration::from_secs(5));
        assert_eq!(home.space(), Space::Enough);
        assert_eq!(std::fs::metadata(&reserve).unwrap().len(), RESERVE_BYTES);
    }

    /// THREATS 27: a disk that fails is a state, too.
    #[test]
    fn a_disk_that_failed_is_trusted_again_when_it_has_written_again() {
        let bench = Bench::new();
        let home = bench.home();
        home.doubt_disk("a write failed");
        assert_eq!(home.space(), Space::Full { why: "a write failed".into() });
        bench.disk.stop_after(Some(0));
        bench.clock.advance(Duration::from_secs(5));
        assert!(matches!(home.space(), Space::Full { .. }), "it still fails");
        bench.disk.stop_after(None);
        bench.clock.advance(Duration::from_secs(5));
        assert_eq!(home.space(), Space::Enough);
        assert_eq!(std::fs::metadata(home.path().join("reserve")).unwrap().len(), RESERVE_BYTES);
    }
}
