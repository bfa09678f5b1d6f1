//! A small file system of its own, which only root can mount.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted file system that goes with its owner.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one of this size here; none where it is not allowed.
    pub fn mount(at: &Path, size: &str) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size},mode=0700"), "tmpfs"]).arg(at);
        mount.output().ok()?.status.success().then(|| Self(at.to_owned()))
    }
}

/// Removes a file that took up the room. It is emptied first: a child that another test is just starting may have it open, too.
pub fn make_room(filler: &Path) {
    std::fs::File::create(filler).unwrap();
    std::fs::remove_file(filler).unwrap();
}

impl SmallDisk {
    /// Takes away the right to write to it.
    pub fn make_read_only(&self) {
        assert!(Command::new("mount").args(["-o", "remount,ro"]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}
