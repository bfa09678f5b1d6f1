//! Room on the disk: enough, or full as a state that heals by itself.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::base::blocking;
use crate::base::cancel::Cancel;
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
pub(crate) struct Room(Arc<Inner>);

struct Inner {
    seams: Seams,
    dir: PathBuf,
    reserve: PathBuf,
    /// What was last seen. Never held while something is written; every accepted message asks here.
    seen: Mutex<Seen>,
}

struct Seen {
    space: Space,
    /// Monotonic time of the last look; `None`: look at once.
    at: Option<Duration>,
    /// The reserve file has its size.
    reserved: bool,
    /// The disk failed; it has to write the reserve before it is trusted again.
    doubted: bool,
    /// Somebody is writing the reserve.
    writing: bool,
    /// How often a write was refused or failed.
    refused: u64,
}

impl Room {
    pub(crate) fn open(home: &Path, seams: &Seams) -> Self {
        let reserve = home.join("reserve");
        let reserved = match seams.disk.stat(&reserve) {
            Ok(Some(stat)) if stat.size == RESERVE_BYTES => true,
            Ok(Some(_)) => {
                // A power cut left a part of it, which pays for nothing. Where it cannot be removed it is written over.
                let _ = seams.disk.remove_file(&reserve);
                false
            }
            Ok(None) | Err(_) => false,
        };
        let seen = Seen { space: Space::Enough, at: None, reserved, doubted: false, writing: false, refused: 0 };
        let room = Self(Arc::new(Inner { seams: seams.clone(), dir: home.to_owned(), reserve, seen: Mutex::new(seen) }));
        room.look(true);
        room
    }

    /// The state, looked at again when it is old. Where the reserve has to be written for that, it is on a thread, and what was seen
    /// before holds until then.
    pub(crate) fn space(&self) -> Space {
        self.look(false)
    }

    /// The same, for those who may wait for a write.
    pub(crate) fn space_now(&self) -> Space {
        self.look(true)
    }

    fn look(&self, may_write: bool) -> Space {
        let mut seen = self.0.seen();
        let now = self.0.seams.clock.monotonic();
        if seen.writing || seen.at.is_some_and(|at| now.saturating_sub(at) < LOOK_EVERY) {
            return seen.space.clone();
        }
        seen.at = Some(now);
        if let Some(space) = self.0.measure(&seen) {
            seen.becomes(space);
            return seen.space.clone();
        }
        seen.writing = true;
        let before = seen.space.clone();
        drop(seen);
        if !may_write && tokio::runtime::Handle::try_current().is_ok() {
            let inner = self.0.clone();
            // Begun at once; nobody waits for it.
            drop(blocking::spawn(move || inner.write_reserve()));
            return before;
        }
        self.0.write_reserve();
        self.0.seen().space.clone()
    }

    /// Looks again and again, so that it heals with nobody asking, until `stop`.
    pub(crate) async fn keep_looking(&self, stop: &Cancel) {
        while stop.guard(tokio::time::sleep(LOOK_EVERY)).await.is_ok() {
            self.look(false);
        }
    }

    /// A write was refused: full from now on until a look says otherwise, and the reserve is given up.
    pub(crate) fn give_up(&self, why: &str) {
        let mut seen = self.0.refuse(why);
        if seen.reserved || seen.writing {
            seen.reserved = self.0.seams.disk.remove_file(&self.0.reserve).is_err() && seen.reserved;
        }
    }

    /// A write failed, not for want of space: nothing new is taken until the next look, which writes the reserve anew to see whether
    /// the disk still can.
    pub(crate) fn doubt(&self, why: &str) {
        self.0.refuse(why).doubted = true;
    }
}

impl Seen {
    fn becomes(&mut self, space: Space) {
        match (&self.space, &space) {
            (Space::Enough, Space::Full { why }) => log::warn("store", format_args!("new messages are refused: {why}")),
            (Space::Full { .. }, Space::Enough) => log::info("store", format_args!("there is room on the disk again")),
            _ => {}
        }
        self.space = space;
    }
}

impl Inner {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn refuse(&self, why: &str) -> MutexGuard<'_, Seen> {
        let mut seen = self.seen();
        seen.becomes(Space::Full { why: why.to_owned() });
        seen.at = Some(self.seams.clock.monotonic());
        seen.refused += 1;
        seen
    }

    /// What the file system says; `None` where the reserve has to be written before it is enough.
    fn measure(&self, seen: &Seen) -> Option<Space> {
        let free = match self.seams.disk.free_bytes(&self.dir) {
            Ok(free) => free,
            Err(e) => match refusal(&e) {
                Some(why) => return Some(Space::Full { why: why.to_owned() }),
                // Not knowing is no reason to refuse: the write itself will tell.
                None if seen.doubted => return None,
                None => return Some(Space::Enough),
            },
        };
        let wanted = SPACE_BYTES_MIN + if seen.reserved { 0 } else { RESERVE_BYTES };
        if free < wanted {
            let why = format!("{} KiB are free on the disk of the home, {} are needed", free / 1024, wanted / 1024);
            return Some(Space::Full { why });
        }
        (seen.reserved && !seen.doubted).then_some(Space::Enough)
    }

    /// Blocking: for as long as the disk takes.
    fn write_reserve(&self) {
        let refused = self.seen().refused;
        let made = self.make_reserve();
        let mut seen = self.seen();
        seen.writing = false;
        let failed = match made {
            Ok(()) if seen.refused == refused => {
                (seen.reserved, seen.doubted) = (true, false);
                return seen.becomes(Space::Enough);
            }
            // What was refused meanwhile has the last word.
            Ok(()) => None,
            Err(e) => Some(format!("the reserve file cannot be written ({})", e.kind())),
        };
        let _ = self.seams.disk.remove_file(&self.reserve);
        seen.reserved = false;
        if let Some(why) = failed {
            seen.becomes(Space::Full { why });
        }
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

    #[test]
    fn a_reserve_that_lies_there_can_be_spent_whatever_is_thought_of_the_disk() {
        let bench = Bench::new();
        let home = bench.home();
        home.doubt_disk("a write failed");
        home.give_up_reserve("a write found no space");
        assert!(!home.path().join("reserve").exists());

        // Half a MiB beside it is enough, before and after a doubt.
        let bench = Bench::new();
        let home = bench.home();
        bench.disk.set_free(Some(SPACE_BYTES_MIN + RESERVE_BYTES / 2));
        home.doubt_disk("a write failed");
        bench.clock.advance(Duration::from_secs(5));
        assert_eq!(home.space(), Space::Enough);
    }

    #[test]
    fn a_part_of_a_reserve_is_none() {
        let bench = Bench::new();
        let reserve = bench.home().path().join("reserve");
        std::fs::write(&reserve, b"cut short").unwrap();
        bench.disk.set_free(Some(SPACE_BYTES_MIN));
        assert!(matches!(bench.home().space(), Space::Full { .. }));
        assert!(!reserve.exists(), "its bytes are free");
    }

    /// Whoever asks on a thread that serves requests does not wait for the disk.
    #[tokio::test]
    async fn the_reserve_is_written_on_a_thread_for_that() {
        let bench = Bench::new();
        let home = bench.home();
        home.doubt_disk("a write failed");
        bench.clock.advance(Duration::from_secs(5));
        let before = bench.disk.syncs();
        // On this runtime nothing else runs until the next await.
        assert!(matches!(home.space(), Space::Full { .. }), "what was seen before holds");
        while home.space() != Space::Enough {
            tokio::task::yield_now().await;
        }
        assert_eq!(bench.disk.syncs(), before + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn it_heals_with_nobody_asking() {
        let bench = Bench::new();
        let room = Room::open(bench.home().path(), &bench.seams());
        room.doubt("a write failed");
        bench.clock.advance(LOOK_EVERY);
        let (_canceller, cancel) = crate::base::cancel::pair();
        tokio::select! {
            () = room.keep_looking(&cancel) => {}
            () = async {
                while room.0.seen().space != Space::Enough {
                    tokio::time::advance(LOOK_EVERY).await;
                }
            } => {}
        }
    }
}
