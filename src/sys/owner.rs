//! Root in the home of another user.
//!
//! What root makes there, that user's server could not read; and a link that this user put there would lead root's hand elsewhere. So
//! root's commands are that user's from the moment on that they know the home, or read only what is that user's own. A server, which
//! would stay, refuses it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, fstat, open};
use rustix::process::{Gid, Uid, fchdir, geteuid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// The user that this process, or this thread of it, is.
pub fn me() -> u32 {
    geteuid().as_raw()
}

/// Whose directory it is, where that is another user's and this process is root's.
pub fn other(dir: &Path) -> io::Result<Option<u32>> {
    let dir = open(dir, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(Some(fstat(&dir)?.st_uid).filter(|user| geteuid().is_root() && *user != 0))
}

/// Where `dir` is another user's and this process is root's: this thread, and those that it starts, are that user's for good, and work in
/// `dir`. Gives the path that it has from then on, and that user's number: those above may be closed to it, as systemd keeps the homes of
/// its services. Else nothing changes.
///
/// To be called before there are others that shall be that user's, too: they would stay root's.
///
/// # Errors
/// There is no such directory; this process may not become another user's.
pub fn become_owner(dir: &Path) -> io::Result<(PathBuf, Option<u32>)> {
    let held = open(dir, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let stat = fstat(&held)?;
    if !geteuid().is_root() || stat.st_uid == 0 {
        return Ok((dir.to_owned(), None));
    }
    fchdir(&held)?;
    let (user, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    // The user last: without root's rights the others could not be given up.
    set_thread_groups(&[])?;
    set_thread_res_gid(group, group, group)?;
    set_thread_res_uid(user, user, user)?;
    Ok((PathBuf::from("."), Some(stat.st_uid)))
}

/// Reads a text file of a home. Where that is another user's and this process is root's, only a file that is that user's own, too: a
/// link could lead to one that only root reads.
pub fn read(home: &Path, name: &str) -> io::Result<String> {
    let Some(user) = other(home)? else { return std::fs::read_to_string(home.join(name)) };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mut file = File::from(open(home.join(name), flags, Mode::empty())?);
    let owner = fstat(&file)?.st_uid;
    if owner != user {
        return Err(io::Error::other(format!("it is user {owner}'s, in the home of user {user}")));
    }
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}
