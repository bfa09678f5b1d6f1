//! The home: one directory, owned by one process.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::base::cancel::Cancel;
use crate::base::digest::Keyed;
use crate::base::log;
use crate::base::random::Random;
use crate::base::time::{Clock, Timestamp};
use crate::store::StoreError;
use crate::store::atomic::{self, Durable};
use crate::store::space::Room;
pub use crate::store::space::Space;
use crate::sys::disk::{self, Disk, Lock, Locked};

/// Wall time is never believed to be earlier than this program (2026-11-01): boards without a battery start in 1970.
const BUILT_MILLIS: u64 = 1_793_491_200_000;
/// `<home>/clock` is written this often at most: it only has to keep time from running backwards by years. A clock that is put back
/// by less may go unnoticed.
pub(crate) const CLOCK_EVERY: Duration = Duration::from_secs(3600);

/// What the store takes as arguments, so that a test owns it.
#[derive(Clone)]
pub struct Seams {
    /// Files.
    pub disk: Arc<dyn Disk>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
}

/// The home directory, locked for this process until dropped.
pub struct Home {
    path: PathBuf,
    workspace: PathBuf,
    keyed: Keyed,
    seams: Seams,
    room: Room,
    /// What `<home>/clock` says. Guards the file's writer; held for one small write.
    clock_kept: Mutex<Timestamp>,
    /// Keeps a second process out; given up with the home.
    _lock: Lock,
}

impl Home {
    /// Opens the home, or makes it: directories (0700), the lock, `secret`, `reserve`, the clock's floor.
    ///
    /// # Errors
    /// [`StoreError::Held`] where another process owns it, [`StoreError::Exposed`] where its secret is open to others, `Io` with
    /// what was being done.
    pub fn open(home: &Path, workspace: Option<&Path>, seams: Seams) -> Result<Arc<Self>, StoreError> {
        let disk = seams.disk.as_ref();
        let workspace = workspace.map_or_else(|| home.join("workspace"), Path::to_path_buf);
        for dir in [home, &workspace, &workspace.join("sessions")] {
            // A file's sync does not keep the names of the directories above it.
            atomic::make_dir(disk, dir).map_err(StoreError::io(format_args!("making {}", dir.display())))?;
        }
        let lock = match disk.try_lock(&home.join("lock")).map_err(StoreError::io(format_args!("locking {}", home.display())))? {
            Locked::Ours(lock) => lock,
            Locked::Held(by) => return Err(StoreError::Held { by }),
        };
        // One that was killed left it, and from now on it would be believed.
        let _ = disk.remove_file(&home.join("address"));
        if let Some(stat) = disk.stat(home).ok().flatten().filter(|stat| stat.mode & 0o077 != 0) {
            let (mode, at) = (stat.mode, home.display());
            log::warn("store", format_args!("{at} is open to others (mode {mode:04o}); run: chmod 700 {at}"));
        }
        let keyed = Keyed::new(&secret(home, &seams)?);
        let kept = clock_floor(home, &seams);
        let room = Room::open(home, &seams);
        Ok(Arc::new(Self { path: home.to_owned(), workspace, keyed, seams, room, clock_kept: Mutex::new(kept), _lock: lock }))
    }
    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// The workspace (`<home>/workspace`, or what was given).
    pub fn workspace(&self) -> &Path {
        &self.workspace
    }
    /// HMACs under `<home>/secret`.
    pub fn keyed(&self) -> &Keyed {
        &self.keyed
    }
    /// Disk, clock, randomness.
    pub fn seams(&self) -> &Seams {
        &self.seams
    }
    /// Room for new messages? Looks at the file system at most every 5 s, and writes nothing itself.
    pub fn space(&self) -> Space {
        self.room.space()
    }
    /// Looks for room again and again, so that a full disk heals with nobody asking. Ends with `stop`.
    pub async fn keep_room(&self, stop: &Cancel) {
        self.room.keep_looking(stop).await;
    }
    /// The same on a thread that may wait: where the reserve has to be written, it is before this returns.
    pub(crate) fn space_now(&self) -> Space {
        self.room.space_now()
    }
    /// A write was refused for this reason: new messages are from now on, too, and the reserve makes room for the records that must
    /// be written.
    pub(crate) fn give_up_reserve(&self, why: &str) {
        self.room.give_up(why);
    }
    /// A write failed as no write should: nothing new is taken until the disk has shown that it still writes.
    pub(crate) fn doubt_disk(&self, why: &str) {
        self.room.doubt(why);
    }
    /// Writes `<home>/address`, so that `ask` and `healthcheck` find the server.
    pub fn write_address(&self, address: &str) -> Result<(), StoreError> {
        let path = self.path.join("address");
        atomic::replace(self.seams.disk.as_ref(), &path, format!("{address}\n").as_bytes(), Durable::No)
            .map_err(StoreError::io("writing the address file"))
    }
    /// Removes `<home>/address`.
    pub fn clear_address(&self) {
        // Nothing depends on it: a reader believes it only while the home is locked.
        let _ = self.seams.disk.remove_file(&self.path.join("address"));
    }
    /// Keeps the time of now in `<home>/clock`, at most once an hour. Its failure harms nothing.
    pub(crate) fn keep_time(&self, now: Timestamp) {
        let mut kept = self.clock_kept.lock().unwrap_or_else(|e| e.into_inner());
        if now.since(*kept) < CLOCK_EVERY {
            return;
        }
        let path = self.path.join("clock");
        if atomic::replace(self.seams.disk.as_ref(), &path, format!("{now}\n").as_bytes(), Durable::No).is_ok() {
            *kept = now;
            self.seams.clock.raise_floor(now);
        }
    }
}

/// Reads or makes the 32 bytes.
fn secret(home: &Path, seams: &Seams) -> Result<[u8; 32], StoreError> {
    let disk = seams.disk.as_ref();
    let path = home.join("secret");
    match disk.stat(&path).map_err(StoreError::io("looking at the secret"))? {
        None => {
            let mut bytes = [0; 32];
            seams.random.fill(&mut bytes);
            atomic::replace(disk, &path, &bytes, Durable::Yes).map_err(StoreError::io("writing the secret"))?;
            Ok(bytes)
        }
        Some(stat) => {
            refuse_exposed(&path, stat.mode)?;
            let bytes = disk::read_whole(disk, &path, 32).map_err(StoreError::io("reading the secret"))?;
            bytes.try_into().map_err(|_| {
                let at = path.display();
                StoreError::Damaged(format!(
                    "{at} is not 32 bytes; restore it from a backup, or remove it to make a new one (message ids of retries change)"
                ))
            })
        }
    }
}

/// A secret file must be closed to others.
pub(crate) fn refuse_exposed(path: &Path, mode: u32) -> Result<(), StoreError> {
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let at = path.display();
    Err(StoreError::Exposed(format!("{at} is open to others (mode {mode:04o}); run: chmod 600 {at}")))
}

/// Raises the clock's floor to the newest of what the file says and the program's own date.
fn clock_floor(home: &Path, seams: &Seams) -> Timestamp {
    let kept = match disk::read_whole(seams.disk.as_ref(), &home.join("clock"), 64) {
        Ok(bytes) => std::str::from_utf8(&bytes).ok().and_then(|text| Timestamp::parse(text.trim())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => {
            log::warn("store", format_args!("clock file not read: {e}"));
            None
        }
    };
    seams.clock.raise_floor(Timestamp::from_millis(BUILT_MILLIS).max(kept.unwrap_or_default()));
    kept.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::Bench;

    #[test]
    fn a_second_process_is_told_who_holds_the_home() {
        let bench = Bench::new();
        let home = bench.home();
        match Home::open(home.path(), None, bench.seams()) {
            Err(StoreError::Held { by }) => assert_eq!(by, std::process::id().to_string()),
            other => panic!("{:?}", other.err()),
        }
        drop(home);
        bench.home();
    }

    /// From now on the home is locked, so that its address would be believed.
    #[test]
    fn the_address_that_a_killed_process_left_goes_before_anything_is_served() {
        let bench = Bench::new();
        let home = bench.home();
        home.write_address("http://127.0.0.1:9").unwrap();
        let address = home.path().join("address");
        drop(home);
        assert!(address.exists());
        bench.home();
        assert!(!address.exists());
    }

    #[test]
    fn a_lock_that_is_a_link_is_not_followed() {
        let bench = Bench::new();
        std::fs::create_dir_all(&bench.dir).unwrap();
        let far = bench.dir.join("far");
        std::fs::write(&far, "kept").unwrap();
        std::os::unix::fs::symlink(&far, bench.dir.join("lock")).unwrap();
        let refused = Home::open(&bench.dir, None, bench.seams()).err().unwrap().to_string();
        assert!(refused.contains("locking") && disk::holder(&bench.dir.join("lock")).is_err(), "{refused}");
        assert_eq!(std::fs::read(far).unwrap(), b"kept");
    }

    #[test]
    fn a_lock_is_looked_at_without_being_made_or_taken() {
        let bench = Bench::new();
        let home = bench.home();
        let lock = home.path().join("lock");
        assert_eq!(disk::holder(&lock).unwrap(), Some(std::process::id().to_string()));
        drop(home);
        assert_eq!(disk::holder(&lock).unwrap(), None);
        assert_eq!(disk::holder(&bench.dir.join("none")).unwrap(), None);
        assert!(!bench.dir.join("none").exists());
        bench.home();
    }

    #[test]
    fn files_are_closed_to_others_and_an_open_secret_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let bench = Bench::new();
        let path = bench.home().path().join("secret");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let refused = Home::open(path.parent().unwrap(), None, bench.seams()).err().unwrap().to_string();
        assert!(refused.contains("0644") && refused.contains("chmod 600"), "{refused}");
    }

    #[test]
    fn the_secret_and_the_time_survive_a_restart() {
        let bench = Bench::new();
        let (first, now) = (bench.home(), bench.clock.now());
        let mac = first.keyed().mac("p", &[]);
        first.keep_time(now);
        drop(first);
        let again = bench.home();
        assert_eq!(again.keyed().mac("p", &[]), mac);
        assert_eq!(*again.clock_kept.lock().unwrap(), now);
    }
}
