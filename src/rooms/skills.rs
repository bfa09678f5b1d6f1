//! Skills: texts that tell the agent how to do something, `<workspace>/skills/<name>/SKILL.md`. Text, never code: nothing in
//! a skill is run. Names are resolved beneath the directory by the kernel. Everything here blocks.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::base::limits::{SKILL_BYTES_MAX, SKILLS_MAX};
use crate::sys::disk::Disk;
use crate::sys::root::{Root, RootError};
use crate::wire::front_matter;

/// What a listing tells of a skill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skill {
    /// Its directory's name, by which it is read.
    pub name: String,
    /// What its front matter says it is for; may be empty.
    pub description: String,
}

/// Why a skill was not read.
#[derive(Debug)]
pub enum SkillError {
    /// There is none of this name (or the name is none).
    NotFound,
    /// The file is no text, or larger than [`SKILL_BYTES_MAX`].
    Unfit,
    /// The system refused; private.
    Io(io::Error),
}

impl fmt::Display for SkillError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("no such skill"),
            Self::Unfit => write!(f, "the skill is no text of at most {SKILL_BYTES_MAX} bytes"),
            Self::Io(e) => write!(f, "skills: {e}"),
        }
    }
}

impl std::error::Error for SkillError {}

impl From<RootError> for SkillError {
    fn from(e: RootError) -> Self {
        match e {
            RootError::TooLarge { .. } => Self::Unfit,
            RootError::Io(e) => Self::Io(e),
            RootError::Unsupported => Self::Io(io::Error::other(RootError::Unsupported.to_string())),
            _ => Self::NotFound,
        }
    }
}

/// The skills of this home.
pub struct Skills {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
}

impl Skills {
    /// The skills in this directory, which need not exist yet.
    pub fn open(dir: PathBuf, disk: Arc<dyn Disk>) -> Self {
        Self { dir, disk }
    }

    /// Every skill that has a readable SKILL.md, by name; at most [`SKILLS_MAX`].
    pub fn list(&self) -> Result<Vec<Skill>, SkillError> {
        let Some(root) = self.root()? else { return Ok(Vec::new()) };
        let (items, _) = root.list("", SKILLS_MAX)?;
        let mut skills = Vec::new();
        for item in items.into_iter().filter(|item| item.is_dir && !item.name.starts_with('.')) {
            let Ok(text) = read(&root, &item.name) else { continue };
            let description = front_matter::split(&text).0.and_then(|front| front_matter::scalar(front, "description"));
            skills.push(Skill { name: item.name, description: description.unwrap_or_default() });
        }
        Ok(skills)
    }

    /// The text of a skill, without its front matter.
    pub fn read(&self, name: &str) -> Result<String, SkillError> {
        let root = self.root()?.ok_or(SkillError::NotFound)?;
        let text = read(&root, name)?;
        Ok(front_matter::split(&text).1.trim_start_matches(['\r', '\n']).to_owned())
    }

    /// Opened at each use: the owner may make, move or remove the directory while we run.
    fn root(&self) -> Result<Option<Root>, SkillError> {
        match self.disk.stat(&self.dir).map_err(SkillError::Io)? {
            Some(stat) if stat.is_dir => Ok(Some(Root::open(&self.dir)?)),
            _ => Ok(None),
        }
    }
}

fn read(root: &Root, name: &str) -> Result<String, SkillError> {
    // A name is one segment: a skill is not looked for deeper.
    if name.is_empty() || name.contains('/') {
        return Err(SkillError::NotFound);
    }
    String::from_utf8(root.read(&format!("{name}/SKILL.md"), SKILL_BYTES_MAX)?).map_err(|_| SkillError::Unfit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::test_seams;

    #[test]
    fn lists_and_reads_what_lies_in_the_directory_only() {
        let (dir, seams) = test_seams("skills");
        let skills = Skills::open(dir.join("skills"), seams.disk);
        assert!(skills.list().unwrap().is_empty());
        assert!(matches!(skills.read("brew"), Err(SkillError::NotFound)));
        std::fs::create_dir_all(dir.join("skills/brew")).unwrap();
        std::fs::create_dir_all(dir.join("skills/empty")).unwrap();
        std::fs::write(dir.join("SKILL.md"), "outside").unwrap();
        std::fs::write(dir.join("skills/brew/SKILL.md"), "---\nname: brew\ndescription: Tea, properly.\n---\n\n# Brew\nBoil.\n").unwrap();
        std::os::unix::fs::symlink(&dir, dir.join("skills/out")).unwrap();
        assert_eq!(skills.list().unwrap(), [Skill { name: "brew".into(), description: "Tea, properly.".into() }]);
        assert_eq!(skills.read("brew").unwrap(), "# Brew\nBoil.\n");
        for name in ["", "..", ".", "out", "empty", "../..", "brew/../brew", "a\0b"] {
            assert!(matches!(skills.read(name), Err(SkillError::NotFound)), "{name}");
        }
        std::fs::write(dir.join("skills/empty/SKILL.md"), [0xff, 0xfe]).unwrap();
        assert!(matches!(skills.read("empty"), Err(SkillError::Unfit)));
    }
}
