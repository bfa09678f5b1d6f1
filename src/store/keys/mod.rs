//! API keys: who may do what. Only hashes are kept.
//!
//! A key is 256 random bits (`oxk_` and 43 characters of base64url), so plain SHA-256 is the right hash: there is nothing to guess, and
//! a slow or salted hash would only make every request pay for what it cannot prevent. A presented key is hashed and compared
//! with every stored hash in constant time, so the answer's duration tells nothing about them.
//!
//! Several processes may change `keys.json` (the server, `oxios-edge key` beside it): each change is made under `keys.lock`, on
//! what the file says then, and replaces it. Everyone else sees the new file (its inode, size or time differs) at the next request.

pub(crate) mod books;
mod budget;
mod file;
mod purse;
mod record;
mod secret;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::base::digest::{same, sha256};
use crate::base::ids::{KeyId, OwnerId};
use crate::base::limits::{KEYS_MAX, LABEL_BYTES_MAX};
use crate::base::live::Live;
use crate::base::log;
use crate::base::secret::Secret;
use crate::store::StoreError;
use crate::store::home::{Home, Seams, refuse_exposed};
use crate::sys::disk::FileStat;
pub use books::Books;
pub use budget::{Budget, Period};
use file::{Stored, Table, first, read, write};
pub use purse::{Purse, Refused, Reservation};
pub use record::{Bounds, KeyRecord, NewKey, NewOwner, Rotated, Scope, Scopes};

/// A `keys.json` that could not be read is tried again after this time.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// `keys.json` as it was when it was last read.
struct Seen {
    stat: Option<FileStat>,
    /// This process writes it just now, under its lock: what it says anew is our own doing.
    writing: bool,
    /// Monotonic time since which the disk does not let it be read.
    failing: Option<Duration>,
    /// Keys that another process made, changed or revoked, for the audit log; see [`Keys::changed_beside`].
    beside: BTreeMap<KeyId, OwnerId>,
}

/// All keys of a home.
pub struct Keys {
    seams: Seams,
    file: PathBuf,
    token: PathBuf,
    lock: PathBuf,
    /// What `keys.json` said when it was last read; replaced whole.
    table: Live<Table>,
    /// The file as it was then. Held for one `stat`, or one reading of the file.
    seen: Mutex<Seen>,
    /// A key from the environment; not stored.
    extra: Mutex<Option<(KeyRecord, [u8; 32])>>,
}

impl Keys {
    /// The keys of an opened home; makes the first key (`<home>/token`) where there is none.
    ///
    /// # Errors
    /// `Exposed` where `keys.json` or `token` is open to others (the text says what to run), `Damaged` where `keys.json` is no table.
    pub fn open(home: &Arc<Home>) -> Result<Self, StoreError> {
        Self::beside(home.path(), home.seams().clone())
    }
    /// The same without owning the home: for the command line while a server runs.
    pub fn beside(home: &Path, seams: Seams) -> Result<Self, StoreError> {
        let (file, token, lock) = (home.join("keys.json"), home.join("token"), home.join("keys.lock"));
        let held = seams.disk.lock(&lock).map_err(StoreError::io("locking the keys"))?;
        if let Some(stat) = seams.disk.stat(&token).map_err(StoreError::io("looking at the token file"))? {
            refuse_exposed(&token, stat.mode)?;
        }
        let (table, stat) = match read(&seams, &file)? {
            Some(read) => read,
            None => {
                write(&seams, &file, &first(&seams, &token)?)?;
                read(&seams, &file)?.ok_or_else(|| StoreError::Damaged("keys.json went away as it was written".to_owned()))?
            }
        };
        drop(held);
        Ok(Self {
            seams,
            file,
            token,
            lock,
            table: Live::new(table),
            seen: Mutex::new(Seen { stat: Some(stat), writing: false, failing: None, beside: BTreeMap::new() }),
            extra: Mutex::new(None),
        })
    }
    /// Where the first key lies; printed as a path, never as a value.
    pub fn token_path(&self) -> &Path {
        &self.token
    }
    /// Accepts one more key of the first owner with every scope (`OXIOS_API_KEY`); it is not stored.
    pub fn accept_also(&self, key: &Secret) {
        let hash = sha256(key.reveal().as_bytes());
        let record = KeyRecord {
            // An id of its own that stays over a restart, and tells nothing about the key.
            id: KeyId::derived(&sha256(&[b"environment key".as_slice(), &hash].concat())),
            owner: self.first_owner(),
            name: "OXIOS_API_KEY".to_owned(),
            scopes: Scopes::ALL,
            created_at: self.seams.clock.now(),
            expires_at: None,
            rate_limit_per_minute: None,
            budget: None,
            rotated: None,
            revoked: false,
        };
        *self.extra.lock().unwrap_or_else(|e| e.into_inner()) = Some((record, hash));
    }
    /// The record of a presented key, also where it is revoked or expired (see [`KeyRecord::is_valid`]).
    pub fn find(&self, presented: &str) -> Option<KeyRecord> {
        self.reload_if_changed();
        let hash = sha256(presented.as_bytes());
        let table = self.table.load();
        let extra = self.extra();
        let all = table.keys.iter().map(|key| (&key.record, &key.hash)).chain(extra.iter().map(|(record, hash)| (record, hash)));
        // No early end: where the key stands in the table must not show.
        let mut found = None;
        for (record, stored) in all {
            if same(stored, &hash) {
                found = Some(record.clone());
            }
        }
        found
    }
    /// The record of a key by its id (for tickets, cookies and open streams).
    pub fn by_id(&self, id: KeyId) -> Option<KeyRecord> {
        self.reload_if_changed();
        let stored = self.table.load().keys.iter().find(|key| key.record.id == id).map(|key| key.record.clone());
        stored.or_else(|| self.extra().map(|(record, _)| record).filter(|record| record.id == id))
    }
    /// The owner of the first key and of everything without an owner.
    pub fn first_owner(&self) -> OwnerId {
        self.table.load().first_owner
    }
    /// Makes a key; the secret is shown this once.
    ///
    /// # Errors
    /// `NotFound` where the owner has no key yet, `TooLarge` where the name is too long or there are too many keys, `DiskFull`, `Io`.
    pub fn create(&self, key: NewKey) -> Result<(KeyRecord, Secret), StoreError> {
        if key.name.len() > LABEL_BYTES_MAX {
            return Err(StoreError::TooLarge(format!("a key's name takes at most {LABEL_BYTES_MAX} bytes")));
        }
        let secret = secret::make(&self.seams);
        let random = self.seams.random.as_ref();
        let record = self.change(|table| {
            let owner = match key.owner {
                NewOwner::New => OwnerId::random(random),
                NewOwner::Of(owner) if owner == table.first_owner => owner,
                NewOwner::Of(owner) if table.keys.iter().any(|key| key.record.owner == owner) => owner,
                NewOwner::Of(_) => return Err(StoreError::NotFound),
            };
            let record = KeyRecord {
                id: KeyId::random(random),
                owner,
                name: key.name,
                scopes: key.scopes,
                created_at: self.seams.clock.now(),
                expires_at: key.expires_at,
                rate_limit_per_minute: key.rate_limit_per_minute,
                budget: key.budget,
                rotated: None,
                revoked: false,
            };
            self.add(table, &record, &secret)?;
            Ok(record)
        })?;
        Ok((record, secret))
    }
    /// The budgets of all keys, good or not; keys that share one name it each.
    fn budgets(&self) -> impl Iterator<Item = Budget> + use<> {
        self.reload_if_changed();
        let table = self.table.load();
        (0..table.keys.len()).filter_map(move |at| table.keys.get(at)?.record.budget)
    }
    /// Makes a key with the same owner, name, scopes, budget, rate and end; this one goes on for `overlap` at most, and until then it
    /// can be rotated again (somebody may have lost the first answer). Where it is the one in `<home>/token`, that file gets the new one.
    ///
    /// # Errors
    /// `NotFound` where the owner has no such key, `Conflict` where it was revoked or has expired, `TooLarge`, `DiskFull`, `Io`.
    pub fn rotate(&self, owner: OwnerId, id: KeyId, overlap: Duration) -> Result<(KeyRecord, Secret), StoreError> {
        let secret = secret::make(&self.seams);
        let now = self.seams.clock.now();
        let until = now.plus(overlap);
        let held = file::token(&self.seams, &self.token).map(|held| sha256(held.reveal().as_bytes()));
        let (record, is_held) = self.change(|table| {
            let old = find(table, owner, id)?;
            if !old.record.is_valid(now) {
                return Err(StoreError::Conflict);
            }
            let (id, expires_at) = (KeyId::random(self.seams.random.as_ref()), old.record.own_end());
            let record = KeyRecord { id, created_at: now, expires_at, rotated: None, ..old.record.clone() };
            let is_held = held.is_some_and(|held| same(&held, &old.hash));
            if !is_held {
                old.ends_by(until);
            }
            self.add(table, &record, &secret)?;
            Ok((record, is_held))
        })?;
        if is_held {
            // The token file holds a good key at every moment: a crash before the last step leaves the old one as it was.
            file::write_token(&self.seams, &self.token, &secret)?;
            self.change(|table| find(table, owner, id).map(|old| old.ends_by(until)))?;
        }
        Ok((record, secret))
    }
    /// The keys of an owner, oldest first.
    pub fn list(&self, owner: OwnerId) -> Vec<KeyRecord> {
        self.reload_if_changed();
        self.table.load().keys.iter().filter(|key| key.record.owner == owner).map(|key| key.record.clone()).collect()
    }
    /// All keys, oldest first: for the command line of who owns the home.
    pub fn list_all(&self) -> Vec<KeyRecord> {
        self.reload_if_changed();
        self.table.load().keys.iter().map(|key| key.record.clone()).collect()
    }
    /// Revokes a key of this owner; twice is once.
    ///
    /// # Errors
    /// `NotFound` where the owner has no such key, `DiskFull`, `Io`.
    pub fn revoke(&self, owner: OwnerId, id: KeyId) -> Result<(), StoreError> {
        self.change(|table| {
            find(table, owner, id)?.record.revoked = true;
            Ok(())
        })
    }
    /// Reads `keys.json` again if it was replaced; one `stat`. Every look does it by itself.
    pub fn reload_if_changed(&self) {
        let mut seen = self.seen();
        match self.seams.disk.stat(&self.file) {
            Ok(stat) if stat == seen.stat => return,
            Ok(Some(_)) => {}
            // Deleted or unreachable: the keys in memory go on until there is a file again.
            Ok(None) | Err(_) => return,
        }
        let now = self.seams.clock.monotonic();
        if seen.failing.is_some_and(|at| now.saturating_sub(at) < READ_AGAIN_AFTER) {
            return;
        }
        match read(&self.seams, &self.file) {
            Ok(Some((table, stat))) => self.take_in(&mut seen, table, stat),
            Ok(None) => {}
            Err(e) => {
                // Said once for each change, not at every request.
                if seen.failing.is_none() {
                    log::error("store", format_args!("the keys stay as they were: {e}"));
                }
                match e {
                    // It may be readable in a moment, and say that a key is revoked.
                    StoreError::Io { .. } => seen.failing = Some(now),
                    _ => (seen.stat, seen.failing) = (self.seams.disk.stat(&self.file).unwrap_or_default(), None),
                }
            }
        }
    }

    /// The keys that another process (the command line) made, changed or revoked since this was last asked, and whose they are.
    pub fn changed_beside(&self) -> BTreeMap<KeyId, OwnerId> {
        self.reload_if_changed();
        std::mem::take(&mut self.seen().beside)
    }

    /// Puts a key into the table; where that is full, what is no longer good makes room.
    fn add(&self, table: &mut Table, record: &KeyRecord, secret: &Secret) -> Result<(), StoreError> {
        let now = self.seams.clock.now();
        if table.keys.len() >= KEYS_MAX {
            table.keys.retain(|key| key.record.is_valid(now));
        }
        if table.keys.len() >= KEYS_MAX {
            return Err(StoreError::TooLarge(format!("there are {KEYS_MAX} keys already; revoke some first")));
        }
        table.keys.push(Stored { record: record.clone(), hash: sha256(secret.reveal().as_bytes()) });
        Ok(())
    }
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(|e| e.into_inner())
    }
    /// What the file says now.
    fn take_in(&self, seen: &mut Seen, table: Table, stat: FileStat) {
        if !seen.writing {
            seen.beside.extend(differing(&self.table.load(), &table));
        }
        self.table.store(table);
        (seen.stat, seen.failing) = (Some(stat), None);
    }
    fn extra(&self) -> Option<(KeyRecord, [u8; 32])> {
        self.extra.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }
    /// One change of the file, under its lock.
    fn change<T>(&self, with: impl FnOnce(&mut Table) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let _held = self.seams.disk.lock(&self.lock).map_err(StoreError::io("locking the keys"))?;
        let (mut table, stat) = read(&self.seams, &self.file)?.ok_or_else(|| StoreError::Damaged("keys.json is missing".to_owned()))?;
        {
            let mut seen = self.seen();
            self.take_in(&mut seen, table.clone(), stat);
            seen.writing = true;
        }
        let written = with(&mut table).and_then(|value| write(&self.seams, &self.file, &table).map(|()| value));
        let mut seen = self.seen();
        seen.writing = false;
        let value = written?;
        // What was written holds, not what can be read back: a key that was revoked is, whatever the disk does now.
        (seen.stat, seen.failing) = (self.seams.disk.stat(&self.file).unwrap_or_default(), None);
        self.table.store(table);
        Ok(value)
    }
}

/// The keys that are not the same in both.
fn differing(old: &Table, new: &Table) -> impl Iterator<Item = (KeyId, OwnerId)> + use<> {
    let mut all: BTreeMap<KeyId, KeyRecord> = old.keys.iter().map(|key| (key.record.id, key.record.clone())).collect();
    for key in &new.keys {
        if all.insert(key.record.id, key.record.clone()).as_ref() == Some(&key.record) {
            all.remove(&key.record.id);
        }
    }
    all.into_values().map(|record| (record.id, record.owner))
}

/// How many keys a `keys.json` holds, and whether this text of a token file is one of them.
///
/// # Errors
/// `Damaged`, `Newer`.
pub(crate) fn examine(table: &[u8], token: Option<&[u8]>) -> Result<(usize, bool), StoreError> {
    let table = file::parse(table, Path::new("keys.json"))?;
    let hash = token.map(|token| sha256(token.trim_ascii()));
    let known = hash.is_some_and(|hash| table.keys.iter().any(|key| same(&key.hash, &hash)));
    Ok((table.keys.len(), known))
}

fn find(table: &mut Table, owner: OwnerId, id: KeyId) -> Result<&mut Stored, StoreError> {
    table.keys.iter_mut().find(|key| key.record.id == id && key.record.owner == owner).ok_or(StoreError::NotFound)
}

#[cfg(test)]
mod tests;
