//! Skills: texts that tell the agent how to do something. Text, never code: nothing in a skill is run. They come from the
//! binary, from installs (`<workspace>/skills/.managed/<name>/`) and from the owner (`<workspace>/skills/<name>/`); of one name
//! the owner's wins, then the installed one. They are the whole home's, as the files of the workspace are. Names are resolved
//! beneath their directory by the kernel. What lies on the disk is looked at on each call; a SKILL.md is parsed again when its
//! time or size changed, or whether it came from the hub. Everything here blocks.

mod bundled;
mod choices;
mod error;
mod install;
mod manifest;
mod package;
mod requirement;
mod skill;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::base::limits::{
    DESCRIPTION_BYTES_MAX, DIR_ENTRIES_MAX, SKILL_BYTES_MAX, SKILL_FILE_BYTES_MAX, SKILL_NAME_CHARS_MAX, SKILLS_MAX,
};
use crate::base::live::Live;
use crate::base::time::Timestamp;
use crate::store::atomic;
use crate::sys::disk::{Disk, Lock, remove_all};
use crate::sys::root::{Root, RootError};
use crate::wire::front_matter;

use bundled::{BUNDLED, MANIFESTS};
use choices::Choices;
use manifest::Manifest;

pub use error::SkillError;
pub use skill::{ConfigCheck, Format, Install, Requirements, Skill, Source, Status};

/// The directory of installed skills within the directory of skills.
const MANAGED: &str = ".managed";
/// Beside an installed SKILL.md: its digest.
const ORIGIN: &str = ".sha256";
/// Directories within a skill that are removed with it; what its owner made may lie deeper than what an archive brings.
const DEPTH_MAX: usize = 64;

/// What skills need to know of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Keys that are set to something: what a skill's `requires.config` may name.
    pub set: BTreeSet<String>,
}

/// The skills of this home.
pub struct Skills {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    settings: Arc<Live<Settings>>,
    choices: Choices,
    /// Parsed manifests by place, with what they were made from. Held for one look at a file.
    parsed: Mutex<HashMap<String, (Seen, Manifest)>>,
    /// Held while a skill is made, installed, switched or removed, so that two of one name do not meet; see `alone`.
    changing: Mutex<()>,
}

/// What a manifest is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    /// Of its SKILL.md.
    modified: Timestamp,
    /// Of its SKILL.md.
    size: u64,
    /// A `.clawhub/origin.json` lies beside it, which decides its format; it may come and go while SKILL.md stays.
    from_hub: bool,
}

impl Skills {
    /// The skills in this directory, which need not exist yet.
    pub fn open(dir: PathBuf, disk: Arc<dyn Disk>, settings: Arc<Live<Settings>>) -> Self {
        let choices = Choices::open(dir.join(".choices.json"), disk.clone());
        Self { dir, disk, settings, choices, parsed: Mutex::default(), changing: Mutex::new(()) }
    }

    /// Every skill by name, at most [`SKILLS_MAX`] of each source; a broken one is shown with its problem. Where the disk cannot
    /// be read, the bundled ones.
    pub fn list(&self) -> Vec<Skill> {
        let mut all: BTreeMap<String, Skill> = BTreeMap::new();
        for ((name, _), manifest) in BUNDLED.iter().zip(MANIFESTS.iter()) {
            all.insert((*name).to_owned(), self.skill(name, Source::Bundled, manifest.clone(), None));
        }
        let Ok(Some(root)) = self.root() else { return all.into_values().collect() };
        for source in [Source::Managed, Source::Workspace] {
            all.extend(self.of(&root, source).into_iter().map(|skill| (skill.name.clone(), skill)));
        }
        all.into_values().collect()
    }

    /// The one of this name.
    pub fn find(&self, name: &str) -> Result<Skill, SkillError> {
        if !is_segment(name) {
            return Err(SkillError::NotFound);
        }
        if let Some(root) = self.root()? {
            for source in [Source::Workspace, Source::Managed] {
                if let Some(skill) = self.on_disk(&root, source, name) {
                    return Ok(skill);
                }
            }
        }
        let (_, manifest) = BUNDLED.iter().zip(MANIFESTS.iter()).find(|((known, _), _)| *known == name).ok_or(SkillError::NotFound)?;
        Ok(self.skill(name, Source::Bundled, manifest.clone(), None))
    }

    /// Name and description of what the model may read: neither off nor in need of anything.
    pub fn eligible(&self) -> Vec<(String, String)> {
        let ready = self.list().into_iter().filter(|skill| skill.status == Status::Ready);
        ready.map(|skill| (skill.name, skill.description)).collect()
    }

    /// For the model: the text of a skill that is ready, without its front matter; `name/path` is a text file beside it.
    pub fn read(&self, what: &str) -> Result<String, SkillError> {
        let (name, beside) = what.split_once('/').map_or((what, None), |(name, path)| (name, Some(path)));
        let skill = self.find(name)?;
        if skill.status != Status::Ready {
            return Err(SkillError::NotReady);
        }
        match beside {
            None => self.text(&skill).map(|text| body(&text)),
            Some(_) if skill.source == Source::Bundled => Err(SkillError::NotFound),
            Some(path) => {
                let root = self.root()?.ok_or(SkillError::NotFound)?;
                text_file(&root, &format!("{}/{path}", place(skill.source, name)))
            }
        }
    }

    /// For its owner: the text of a skill in any state, without its front matter.
    pub fn content(&self, name: &str) -> Result<String, SkillError> {
        self.text(&self.find(name)?).map(|text| body(&text))
    }

    /// Switches a skill on or off for the whole home; lasts over restarts.
    pub fn enable(&self, name: &str, on: bool) -> Result<(), SkillError> {
        let skill = self.find(name)?;
        let _alone = self.alone()?;
        Ok(self.choices.set(skill.source, name, Some(on))?)
    }

    /// Writes a new skill of the owner's, enabled. Content that begins with front matter is the whole file: it must be readable, and be of
    /// this name; where it does not describe itself, `description` does.
    pub fn create(&self, name: &str, description: &str, content: &str) -> Result<(), SkillError> {
        if !is_name(name) {
            return Err(SkillError::BadName);
        }
        if description.trim().is_empty() || description.len() > DESCRIPTION_BYTES_MAX {
            return Err(SkillError::BadDescription);
        }
        if content.len() > SKILL_BYTES_MAX {
            return Err(SkillError::TooLarge);
        }
        let text = manifest::file(name, description, content).map_err(SkillError::Refused)?;
        let _alone = self.alone()?;
        if self.find(name).is_ok() {
            return Err(SkillError::Taken);
        }
        let root = self.made_root()?;
        self.has_room(&root, Source::Workspace)?;
        self.choices.set(Source::Workspace, name, None)?;
        Ok(root.write_atomic(&format!("{name}/SKILL.md"), text.as_bytes())?)
    }

    /// Removes a skill with every file in its directory, and what was chosen for it. What it hid is seen again.
    pub fn remove(&self, name: &str) -> Result<(), SkillError> {
        if self.find(name)?.source == Source::Bundled {
            return Err(SkillError::Bundled);
        }
        let _alone = self.alone()?;
        let skill = self.find(name)?;
        let root = self.root()?.ok_or(SkillError::NotFound)?;
        let place = place(skill.source, name);
        // First the file that makes it a skill: what is interrupted behind that leaves no half skill.
        root.remove(&format!("{place}/SKILL.md"))?;
        self.choices.set(skill.source, name, None)?;
        Ok(remove_all(&*self.disk, &self.dir.join(place), DEPTH_MAX)?)
    }

    /// The skills of one source, by name, at most [`SKILLS_MAX`]. Cut last: in the directory's own order, and with what is no skill
    /// counted, another one would be missing each time.
    fn of(&self, root: &Root, source: Source) -> Vec<Skill> {
        let top = if source == Source::Managed { MANAGED } else { "" };
        let Ok((mut items, _)) = root.list(top, DIR_ENTRIES_MAX) else { return Vec::new() };
        items.retain(|item| item.is_dir && !item.name.starts_with('.'));
        items.sort_by(|a, b| a.name.cmp(&b.name));
        items.iter().filter_map(|item| self.on_disk(root, source, &item.name)).take(SKILLS_MAX).collect()
    }

    /// There is room for one more of this source: what is made or installed is listed, too.
    fn has_room(&self, root: &Root, source: Source) -> Result<(), SkillError> {
        if self.of(root, source).len() < SKILLS_MAX { Ok(()) } else { Err(SkillError::Full(source)) }
    }

    /// A skill of this source from the disk; `None` where there is no SKILL.md.
    fn on_disk(&self, root: &Root, source: Source, name: &str) -> Option<Skill> {
        let place = place(source, name);
        let item = match root.stat(&format!("{place}/SKILL.md")) {
            Ok(None) | Err(RootError::BadName | RootError::NotADirectory | RootError::Escapes) => return None,
            other => other,
        };
        let manifest = match item {
            Ok(Some(item)) => {
                let from_hub = matches!(root.stat(&format!("{place}/.clawhub/origin.json")), Ok(Some(item)) if !item.is_dir);
                let seen = Seen { modified: item.modified, size: item.size, from_hub };
                self.manifest(root, &place, seen)
            }
            Ok(None) => return None,
            Err(e) => broken(&e.into()),
        };
        let digest = (source == Source::Managed).then(|| text_file(root, &format!("{place}/{ORIGIN}")).ok()).flatten();
        Some(self.skill(name, source, manifest, digest))
    }

    /// The manifest of the SKILL.md in this place, parsed again where something else is seen than the last time.
    fn manifest(&self, root: &Root, place: &str, seen: Seen) -> Manifest {
        let mut parsed = self.parsed.lock().unwrap_or_else(|e| e.into_inner());
        if let Some((_, manifest)) = parsed.get(place).filter(|(before, _)| *before == seen) {
            return manifest.clone();
        }
        let manifest = match text_file(root, &format!("{place}/SKILL.md")) {
            Ok(text) => manifest::read(&text, seen.from_hub),
            Err(e) => broken(&e),
        };
        if parsed.len() >= 2 * SKILLS_MAX {
            parsed.clear();
        }
        parsed.insert(place.to_owned(), (seen, manifest.clone()));
        manifest
    }

    fn skill(&self, name: &str, source: Source, manifest: Manifest, sha256: Option<String>) -> Skill {
        let Manifest { requirements, mut problem, .. } = manifest;
        let missing = requirement::missing(&requirements, &self.settings.load().set);
        let all_there = missing == Requirements::default() && requirement::fits_system(&manifest.os);
        // A skill without a description is shown with its problem and may still be used by its name; one that is no text may not.
        let unreadable = problem.is_some() && manifest.description.is_empty() && manifest.name.is_none();
        let eligible = !unreadable && (manifest.always || all_there);
        let on = self.choices.is_on(source, name).unwrap_or_else(|_| {
            problem.get_or_insert_with(|| "what was switched on or off cannot be read; enable it again".to_owned());
            false
        });
        let status = match (on, eligible) {
            (false, _) => Status::Disabled,
            (true, false) => Status::NeedsSetup,
            (true, true) => Status::Ready,
        };
        let config_checks =
            requirements.config.iter().map(|path| ConfigCheck { path: path.clone(), satisfied: !missing.config.contains(path) }).collect();
        let file_path = match source {
            Source::Bundled => format!("bundled:{name}"),
            _ => format!("skills/{}/SKILL.md", place(source, name)),
        };
        Skill {
            name: name.to_owned(),
            description: manifest.description,
            author: manifest.author,
            version: manifest.version,
            emoji: manifest.emoji,
            homepage: manifest.homepage,
            source,
            bundled: source == Source::Bundled,
            status,
            eligible,
            always: manifest.always,
            user_invocable: manifest.user_invocable,
            file_path,
            requirements,
            missing,
            os: manifest.os,
            install: manifest.install,
            config_checks,
            format: manifest.format,
            problem,
            sha256: sha256.map(|text| text.trim().to_owned()),
        }
    }

    /// The whole SKILL.md.
    fn text(&self, skill: &Skill) -> Result<String, SkillError> {
        if skill.source == Source::Bundled {
            let found = BUNDLED.iter().find(|(name, _)| *name == skill.name);
            return found.map(|(_, text)| (*text).to_owned()).ok_or(SkillError::NotFound);
        }
        let root = self.root()?.ok_or(SkillError::NotFound)?;
        text_file(&root, &format!("{}/SKILL.md", place(skill.source, &skill.name)))
    }

    /// Opened at each use: the owner may make, move or remove the directory while we run.
    fn root(&self) -> Result<Option<Root>, SkillError> {
        match self.disk.stat(&self.dir)? {
            Some(stat) if stat.is_dir() => Ok(Some(Root::open(&*self.disk, &self.dir)?)),
            _ => Ok(None),
        }
    }

    /// Nobody else, of this process or another, makes, installs, switches or removes a skill while this is held. Makes the
    /// directory of skills where it is missing.
    fn alone(&self) -> Result<(MutexGuard<'_, ()>, Lock), SkillError> {
        let here = self.changing.lock().unwrap_or_else(|e| e.into_inner());
        atomic::make_dir(&*self.disk, &self.dir)?;
        Ok((here, self.disk.lock(&self.dir.join(".lock"))?))
    }

    fn made_root(&self) -> Result<Root, SkillError> {
        self.root()?.ok_or(SkillError::NotFound)
    }
}

/// Where a skill lies beneath the directory of skills.
fn place(source: Source, name: &str) -> String {
    if source == Source::Managed { format!("{MANAGED}/{name}") } else { name.to_owned() }
}

fn body(text: &str) -> String {
    front_matter::split(text).1.trim_start_matches(['\r', '\n']).to_owned()
}

fn text_file(root: &Root, path: &str) -> Result<String, SkillError> {
    String::from_utf8(root.read(path, SKILL_FILE_BYTES_MAX)?).map_err(|_| SkillError::Unfit)
}

/// A skill whose file cannot be read: shown, never offered.
fn broken(why: &SkillError) -> Manifest {
    let why = match why {
        SkillError::Io(_) => "its file cannot be read".to_owned(),
        why => why.to_string(),
    };
    Manifest { problem: Some(why), ..manifest::read("", false) }
}

/// What may be looked for: one segment that is not hidden.
fn is_segment(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0'])
}

/// What may be made.
fn is_name(name: &str) -> bool {
    (1..=SKILL_NAME_CHARS_MAX).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

#[cfg(test)]
mod tests;
