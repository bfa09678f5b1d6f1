//! Installing a skill from a local file: digest first, then read whole, then put in its place all at once; off until somebody
//! enables it (THREATS 19, 23).

use std::io::ErrorKind;
use std::path::Path;

use super::{MANAGED, ORIGIN, SkillError, Skills, Source, package};
use crate::base::digest::{hex, sha256};
use crate::base::limits::SKILL_ARCHIVE_BYTES_MAX;
use crate::store::atomic::{make_dir, replace_dir};
use crate::sys::disk::read_whole;
use crate::wire::path::RelPath;

impl Skills {
    /// Installs a SKILL.md, or an archive of one skill, whose SHA-256 is this (hexadecimal), in place of an earlier install of
    /// its name, and tells that name. It is disabled until enabled, also where the earlier one was enabled. Stopped at any point,
    /// the earlier one is still there as it was, or disabled, or the new one is there whole.
    pub fn install(&self, path: &Path, digest: &str) -> Result<String, SkillError> {
        let bytes = match read_whole(&*self.disk, path, SKILL_ARCHIVE_BYTES_MAX as u64) {
            Err(e) if e.kind() == ErrorKind::FileTooLarge => {
                return Err(SkillError::Refused(format!("the file is larger than {SKILL_ARCHIVE_BYTES_MAX} bytes")));
            }
            other => other?,
        };
        let found = hex(&sha256(&bytes));
        if !found.eq_ignore_ascii_case(digest.trim()) {
            return Err(SkillError::Refused(format!("the file's SHA-256 is {found}, not the given one; nothing was installed")));
        }
        let package::Package { name, mut files } = package::read(bytes)?;
        let origin = RelPath::parse(ORIGIN).map_err(|_| SkillError::BadName)?;
        files.push((origin, found.into_bytes()));
        let _alone = self.alone()?;
        let root = self.made_root()?;
        if self.on_disk(&root, Source::Managed, &name).is_none() {
            self.has_room(&root, Source::Managed)?;
        }
        let managed = self.dir.join(MANAGED);
        make_dir(&*self.disk, &managed)?;
        // Off first: a stop at any point leaves nothing enabled that nobody enabled.
        self.choices.set(Source::Managed, &name, None)?;
        replace_dir(&*self.disk, &managed.join(&name), &files).map_err(|e| match e.kind() {
            ErrorKind::InvalidInput | ErrorKind::Unsupported | ErrorKind::CrossesDevices => {
                let why = format!("this file system cannot replace {name} at once; remove the earlier install first: skill remove {name}");
                SkillError::Refused(why)
            }
            _ => e.into(),
        })?;
        Ok(name)
    }
}
