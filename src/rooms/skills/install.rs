//! Installing a skill from a local file: digest first, then written whole; off until somebody enables it (THREATS 19, 23).

use std::path::Path;

use super::{MANAGED, ORIGIN, SkillError, Skills, Source, is_name, manifest};
use crate::base::digest::{hex, sha256};
use crate::base::limits::SKILL_FILE_BYTES_MAX;
use crate::sys::disk::read_whole;

impl Skills {
    /// Installs a SKILL.md whose SHA-256 is this (hexadecimal), in place of an earlier install of its name, and tells that name.
    /// It is disabled until enabled, also where the earlier one was enabled.
    pub fn install(&self, path: &Path, digest: &str) -> Result<String, SkillError> {
        let refused = |why: &str| SkillError::Refused(why.to_owned());
        let bytes = match read_whole(&*self.disk, path, SKILL_FILE_BYTES_MAX as u64) {
            Err(e) if e.kind() == std::io::ErrorKind::FileTooLarge => return Err(SkillError::TooLarge),
            other => other?,
        };
        let found = hex(&sha256(&bytes));
        if !found.eq_ignore_ascii_case(digest.trim()) {
            return Err(SkillError::Refused(format!("the file's SHA-256 is {found}, not the given one; nothing was installed")));
        }
        if bytes.starts_with(&[0x1f, 0x8b]) || bytes.get(257..262) == Some(b"ustar") {
            return Err(refused("archives cannot be installed; unpack it and install its SKILL.md"));
        }
        let text = String::from_utf8(bytes).map_err(|_| SkillError::Unfit)?;
        let manifest = manifest::read(&text, false);
        if let Some(problem) = manifest.problem {
            return Err(SkillError::Refused(problem));
        }
        let name = manifest.name.filter(|name| is_name(name)).ok_or(SkillError::BadName)?;
        let _alone = self.alone()?;
        let root = self.made_root()?;
        // Off first: a stop at any point leaves nothing enabled that nobody enabled.
        self.choices.set(Source::Managed, &name, None)?;
        root.write_atomic(&format!("{MANAGED}/{name}/{ORIGIN}"), found.as_bytes())?;
        root.write_atomic(&format!("{MANAGED}/{name}/SKILL.md"), text.as_bytes())?;
        Ok(name)
    }
}
