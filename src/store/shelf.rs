//! A shelf: small things of one kind that belong to owners, one file each (`<dir>/<id>.json`), and which of them each owner has
//! chosen as the default (`<dir>/current.json`). Personas and spaces lie on one.
//!
//! All are kept in memory once they were read. A file that was added, removed or replaced by hand is seen at the next use (by the
//! directory's time); one that was changed in place at the next start. Everything here blocks.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::ids::OwnerId;
use crate::base::limits::SHELF_FILE_BYTES_MAX;
use crate::base::log;
use crate::base::time::Timestamp;
use crate::store::atomic::{self, Durable};
use crate::store::home::Seams;
use crate::sys::disk::read_whole;

/// Who has chosen what.
const CURRENT: &str = "current.json";

/// What can lie on a shelf.
pub trait Thing: Clone + Serialize + DeserializeOwned + Send {
    /// Its kind of id; its text is the file's name.
    type Id: Copy + Ord + Display + Serialize + DeserializeOwned + Send;
    /// Its id.
    fn id(&self) -> Self::Id;
    /// Whose it is.
    fn owner(&self) -> OwnerId;
    /// When it was made: the order of lists.
    fn created_at(&self) -> Timestamp;
}

/// The things in one directory.
pub struct Shelf<T: Thing> {
    dir: PathBuf,
    seams: Seams,
    /// What was read; `None` until then. Held while it is read, looked at, and changed with its files, so that both change
    /// together; never across anything but disk work.
    things: Mutex<Option<Things<T>>>,
}

struct Things<T: Thing> {
    by_id: BTreeMap<T::Id, T>,
    current: BTreeMap<OwnerId, T::Id>,
    /// The directory's time when it was read or last written by us.
    read_at: Option<Timestamp>,
}

/// The shelf, held: nobody else sees or changes it until this is dropped.
pub struct Held<'a, T: Thing> {
    shelf: &'a Shelf<T>,
    things: MutexGuard<'a, Option<Things<T>>>,
}

impl<T: Thing> Shelf<T> {
    /// The shelf in this directory, which need not exist; nothing is read yet.
    pub fn open(dir: PathBuf, seams: Seams) -> Self {
        Self { dir, seams, things: Mutex::new(None) }
    }

    /// Takes the shelf, after reading what is new in its directory.
    pub fn hold(&self) -> io::Result<Held<'_, T>> {
        let mut things = self.things.lock().unwrap_or_else(|e| e.into_inner());
        let changed_at = self.changed_at()?;
        if things.as_ref().is_none_or(|known| known.read_at != changed_at) {
            *things = Some(self.read(changed_at)?);
        }
        Ok(Held { shelf: self, things })
    }

    fn changed_at(&self) -> io::Result<Option<Timestamp>> {
        Ok(self.seams.disk.stat(&self.dir)?.map(|stat| stat.modified))
    }

    fn read(&self, read_at: Option<Timestamp>) -> io::Result<Things<T>> {
        let mut by_id = BTreeMap::new();
        let items = match self.seams.disk.list(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other?,
        };
        for item in items {
            let Some(stem) = item.name.strip_suffix(".json").filter(|_| !item.is_dir && item.name != CURRENT) else { continue };
            match self.parse::<T>(&self.dir.join(&item.name)) {
                Ok(thing) if thing.id().to_string() == stem => drop(by_id.insert(thing.id(), thing)),
                // One damaged file must not hide the others.
                _ => log::warn("store", format_args!("a file in {} cannot be read; it is left as it is", self.dir.display())),
            }
        }
        let current = match self.parse(&self.dir.join(CURRENT)) {
            Ok(current) => current,
            Err(e) if e.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(_) => {
                log::warn("store", format_args!("{CURRENT} in {} cannot be read; nothing is chosen", self.dir.display()));
                BTreeMap::new()
            }
        };
        Ok(Things { by_id, current, read_at })
    }

    fn parse<V: DeserializeOwned>(&self, path: &Path) -> io::Result<V> {
        Ok(serde_json::from_slice(&read_whole(&*self.seams.disk, path, SHELF_FILE_BYTES_MAX)?)?)
    }

    fn write(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        atomic::make_dir(&*self.seams.disk, &self.dir)?;
        let bytes = serde_json::to_vec_pretty(value)?;
        atomic::replace(&*self.seams.disk, &self.dir.join(name), &bytes, Durable::Yes)
    }
}

impl<T: Thing> Held<'_, T> {
    /// This owner's things, oldest first.
    pub fn list(&self, owner: OwnerId) -> Vec<T> {
        let mut list: Vec<T> = self.all().filter(|thing| thing.owner() == owner).cloned().collect();
        list.sort_by_key(|thing| (thing.created_at(), thing.id()));
        list
    }

    /// How many this owner has.
    pub fn count(&self, owner: OwnerId) -> usize {
        self.all().filter(|thing| thing.owner() == owner).count()
    }

    /// The thing of this id; `None` where there is none, or it is another owner's.
    pub fn find(&self, owner: OwnerId, id: T::Id) -> Option<T> {
        self.whoever(id).filter(|thing| thing.owner() == owner)
    }

    /// The thing of this id, whoever's it is: only to refuse an id that is taken.
    pub fn whoever(&self, id: T::Id) -> Option<T> {
        self.things.as_ref()?.by_id.get(&id).cloned()
    }

    /// What this owner has chosen.
    pub fn current(&self, owner: OwnerId) -> Option<T> {
        let id = *self.things.as_ref()?.current.get(&owner)?;
        self.find(owner, id)
    }

    /// Lays a thing down, in place of the one with its id; durable when this returns.
    pub fn put(&mut self, thing: &T) -> io::Result<()> {
        self.shelf.write(&format!("{}.json", thing.id()), thing)?;
        if let Some(things) = self.things.as_mut() {
            things.by_id.insert(thing.id(), thing.clone());
        }
        self.note_time()
    }

    /// Takes a thing away, durably. Whoever had chosen it has chosen nothing.
    pub fn remove(&mut self, id: T::Id) -> io::Result<()> {
        let chosen: Vec<OwnerId> = self.things.iter().flat_map(|t| &t.current).filter(|(_, c)| **c == id).map(|(o, _)| *o).collect();
        for owner in chosen {
            self.choose(owner, None)?;
        }
        atomic::remove(&*self.shelf.seams.disk, &self.shelf.dir.join(format!("{id}.json")))?;
        if let Some(things) = self.things.as_mut() {
            things.by_id.remove(&id);
        }
        self.note_time()
    }

    /// Makes this the owner's choice; durable when this returns.
    pub fn choose(&mut self, owner: OwnerId, id: Option<T::Id>) -> io::Result<()> {
        let Some(things) = self.things.as_mut() else { return Ok(()) };
        let mut current = things.current.clone();
        let before = match id {
            Some(id) => current.insert(owner, id),
            None => current.remove(&owner),
        };
        if before.is_none() && id.is_none() {
            return Ok(());
        }
        self.shelf.write(CURRENT, &current)?;
        things.current = current;
        self.note_time()
    }

    /// Every owner's things, by id.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.things.iter().flat_map(|things| things.by_id.values())
    }

    fn note_time(&mut self) -> io::Result<()> {
        let changed_at = self.shelf.changed_at()?;
        if let Some(things) = self.things.as_mut() {
            things.read_at = changed_at;
        }
        Ok(())
    }
}
