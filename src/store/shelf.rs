//! A shelf: small things of one kind that belong to owners, one file each (`<dir>/<id>.json`), and which of them each owner has
//! chosen as the default (`<dir>/current.json`). Personas and spaces lie on one.
//!
//! All are kept in memory once they were read. What was changed by hand is seen at the next use: files that were added, removed or
//! replaced by the directory's time, one that was changed in place by its own, so that what is written next stands on what is there
//! and not on what was. A file that cannot be read is left as it is, and nothing is laid in its place. Everything here blocks.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::ids::OwnerId;
use crate::base::limits::SHELF_FILE_BYTES_MAX;
use crate::base::log;
use crate::base::time::Timestamp;
use crate::store::atomic::{self, Durable};
use crate::store::home::Seams;
use crate::sys::disk::{FileStat, read_whole};

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
    by_id: BTreeMap<T::Id, Kept<T>>,
    current: BTreeMap<OwnerId, T::Id>,
    /// Of the file with the choices; `None` where there is none.
    current_stamp: Option<Stamp>,
    /// The directory's time when it was read or last written by us.
    read_at: Option<Timestamp>,
}

/// What was read of one file.
struct Kept<T> {
    stamp: Stamp,
    /// `None`: it could not be read.
    thing: Option<T>,
}

/// By what a file is known to be the one that was read.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: (Timestamp, u32),
    size: u64,
    inode: u64,
}

impl Stamp {
    fn of(stat: &FileStat) -> Self {
        Self { modified: (stat.modified, stat.modified_nanos), size: stat.size, inode: stat.inode }
    }
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
            if item.is_dir || !item.name.ends_with(".json") || item.name == CURRENT {
                continue;
            }
            // Before it is read, so that what changes meanwhile is seen the next time.
            let stamp = self.stamp(&item.name);
            if let (Some(thing), Ok(Some(stamp))) = (self.thing(&item.name), stamp) {
                by_id.insert(thing.id(), Kept { stamp, thing: Some(thing) });
            }
        }
        let mut things = Things { by_id, current: BTreeMap::new(), current_stamp: None, read_at };
        self.see_choices(&mut things)?;
        Ok(things)
    }

    /// Reads the file of one thing again where it is another one than was read.
    fn see(&self, things: &mut Things<T>, id: T::Id) -> io::Result<()> {
        let name = file_of(id);
        match self.stamp(&name)? {
            None => drop(things.by_id.remove(&id)),
            // One that could not be read is tried again each time: it may have been for want of a descriptor.
            Some(stamp) if things.by_id.get(&id).is_some_and(|kept| kept.stamp == stamp && kept.thing.is_some()) => {}
            Some(stamp) => drop(things.by_id.insert(id, Kept { stamp, thing: self.thing(&name) })),
        }
        Ok(())
    }

    /// The same for the file with the choices.
    fn see_choices(&self, things: &mut Things<T>) -> io::Result<()> {
        let stamp = self.stamp(CURRENT)?;
        if things.current_stamp == stamp {
            return Ok(());
        }
        things.current_stamp = stamp;
        things.current = match self.parse(CURRENT) {
            Ok(current) => current,
            Err(e) if e.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(_) => {
                log::warn("store", format_args!("{CURRENT} in {} cannot be read; nothing is chosen", self.dir.display()));
                BTreeMap::new()
            }
        };
        Ok(())
    }

    fn stamp(&self, name: &str) -> io::Result<Option<Stamp>> {
        Ok(self.seams.disk.stat(&self.dir.join(name))?.as_ref().map(Stamp::of))
    }

    /// What lies in this file. One that is damaged must not hide the others.
    fn thing(&self, name: &str) -> Option<T> {
        let thing = self.parse::<T>(name).ok().filter(|thing| file_of(thing.id()) == name);
        if thing.is_none() {
            // Its name may be none of ours, and is not told.
            log::warn("store", format_args!("a file in {} cannot be read; it is left as it is", self.dir.display()));
        }
        thing
    }

    fn parse<V: DeserializeOwned>(&self, name: &str) -> io::Result<V> {
        Ok(serde_json::from_slice(&read_whole(&*self.seams.disk, &self.dir.join(name), SHELF_FILE_BYTES_MAX)?)?)
    }

    fn write(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        atomic::make_dir(&*self.seams.disk, &self.dir)?;
        let bytes = serde_json::to_vec_pretty(value)?;
        atomic::replace(&*self.seams.disk, &self.dir.join(name), &bytes, Durable::Yes)
    }
}

impl<T: Thing> Held<'_, T> {
    /// This owner's things, oldest first.
    pub fn list(&mut self, owner: OwnerId) -> io::Result<Vec<T>> {
        let mut list = self.seen(|thing| thing.owner() == owner)?;
        list.sort_by_key(|thing| (thing.created_at(), thing.id()));
        Ok(list)
    }

    /// Every owner's things, by id.
    pub fn all(&mut self) -> io::Result<Vec<T>> {
        self.seen(|_| true)
    }

    /// How many this owner has.
    pub fn count(&self, owner: OwnerId) -> usize {
        self.known().filter(|thing| thing.owner() == owner).count()
    }

    /// The thing of this id; `None` where there is none, or it is another owner's.
    pub fn find(&mut self, owner: OwnerId, id: T::Id) -> io::Result<Option<T>> {
        Ok(self.whoever(id)?.filter(|thing| thing.owner() == owner))
    }

    /// The thing of this id, whoever's it is: only to refuse an id that is taken.
    pub fn whoever(&mut self, id: T::Id) -> io::Result<Option<T>> {
        let Some(things) = self.things.as_mut() else { return Ok(None) };
        self.shelf.see(things, id)?;
        Ok(things.by_id.get(&id).and_then(|kept| kept.thing.clone()))
    }

    /// A file of this id lies there and cannot be read.
    pub fn is_broken(&mut self, id: T::Id) -> io::Result<bool> {
        self.whoever(id)?;
        Ok(self.things.iter().any(|things| things.by_id.get(&id).is_some_and(|kept| kept.thing.is_none())))
    }

    /// What this owner has chosen.
    pub fn current(&mut self, owner: OwnerId) -> io::Result<Option<T>> {
        let Some(things) = self.things.as_mut() else { return Ok(None) };
        self.shelf.see_choices(things)?;
        let Some(id) = things.current.get(&owner).copied() else { return Ok(None) };
        self.find(owner, id)
    }

    /// Lays a thing down, in place of the one with its id; durable when this returns.
    ///
    /// # Errors
    /// `InvalidData`: a file of this id lies there and could not be read; or the disk refuses.
    pub fn put(&mut self, thing: &T) -> io::Result<()> {
        let Some(things) = self.things.as_mut() else { return Ok(()) };
        let (id, name) = (thing.id(), file_of(thing.id()));
        if things.by_id.get(&id).is_some_and(|kept| kept.thing.is_none()) {
            let why = format!("{} cannot be read; it is not written over", self.shelf.dir.join(name).display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        self.shelf.write(&name, thing)?;
        if let Some(stamp) = self.shelf.stamp(&name)? {
            things.by_id.insert(id, Kept { stamp, thing: Some(thing.clone()) });
        }
        self.note_time()
    }

    /// Takes a thing away, durably. Whoever had chosen it has chosen nothing.
    pub fn remove(&mut self, id: T::Id) -> io::Result<()> {
        let chosen: Vec<OwnerId> = self.things.iter().flat_map(|t| &t.current).filter(|(_, c)| **c == id).map(|(o, _)| *o).collect();
        for owner in chosen {
            self.choose(owner, None)?;
        }
        atomic::remove(&*self.shelf.seams.disk, &self.shelf.dir.join(file_of(id)))?;
        if let Some(things) = self.things.as_mut() {
            things.by_id.remove(&id);
        }
        self.note_time()
    }

    /// Makes this the owner's choice; durable when this returns.
    pub fn choose(&mut self, owner: OwnerId, id: Option<T::Id>) -> io::Result<()> {
        let Some(things) = self.things.as_mut() else { return Ok(()) };
        self.shelf.see_choices(things)?;
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
        things.current_stamp = self.shelf.stamp(CURRENT)?;
        self.note_time()
    }

    /// Those of the known things that are wanted, each looked at again.
    fn seen(&mut self, wanted: impl Fn(&T) -> bool) -> io::Result<Vec<T>> {
        let ids: Vec<T::Id> = self.known().filter(|thing| wanted(thing)).map(Thing::id).collect();
        let mut seen = Vec::with_capacity(ids.len());
        for id in ids {
            seen.extend(self.whoever(id)?.filter(|thing| wanted(thing)));
        }
        Ok(seen)
    }

    fn known(&self) -> impl Iterator<Item = &T> {
        self.things.iter().flat_map(|things| things.by_id.values()).filter_map(|kept| kept.thing.as_ref())
    }

    fn note_time(&mut self) -> io::Result<()> {
        let changed_at = self.shelf.changed_at()?;
        if let Some(things) = self.things.as_mut() {
            things.read_at = changed_at;
        }
        Ok(())
    }
}

fn file_of(id: impl Display) -> String {
    format!("{id}.json")
}
