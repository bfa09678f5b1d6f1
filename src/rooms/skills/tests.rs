//! Tests of the room of skills.

use super::*;
use crate::base::digest::{hex, sha256};
use crate::rooms::test_seams;

fn place_of(name: &str) -> (PathBuf, Skills) {
    let (dir, seams) = test_seams(name);
    (dir.clone(), Skills::open(dir.join("skills"), seams.disk, Arc::default()))
}

fn write(dir: &std::path::Path, name: &str, text: impl AsRef<[u8]>) {
    let dir = dir.join("skills").join(name);
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("SKILL.md"), text).unwrap();
}

#[test]
fn lists_and_reads_what_lies_in_the_directory_only() {
    let (dir, skills) = place_of("skills");
    assert_eq!(skills.list().len(), BUNDLED.len());
    assert!(skills.list().iter().all(|s| s.status == Status::Ready && s.problem.is_none()), "{:?}", skills.list());
    assert!(matches!(skills.read("brew"), Err(SkillError::NotFound)));
    write(&dir, "brew", "---\nname: brew\ndescription: Tea, properly.\n---\n\n# Brew\nBoil.\n");
    std::fs::write(dir.join("SKILL.md"), "outside").unwrap();
    std::fs::write(dir.join("skills/brew/more.md"), "more").unwrap();
    std::os::unix::fs::symlink(&dir, dir.join("skills/out")).unwrap();
    std::os::unix::fs::symlink(dir.join("SKILL.md"), dir.join("skills/brew/link.md")).unwrap();
    assert!(skills.eligible().contains(&("brew".into(), "Tea, properly.".into())));
    assert_eq!(skills.read("brew").unwrap(), "# Brew\nBoil.\n");
    assert_eq!(skills.read("brew/more.md").unwrap(), "more");
    for name in ["", "..", ".", "out", "empty", "../..", "brew/../brew", "brew/link.md", "brew/", "a\0b", ".managed", "out/SKILL.md"] {
        assert!(skills.read(name).is_err(), "{name}");
    }
    write(&dir, "empty", [0xff, 0xfe]);
    let empty = skills.find("empty").unwrap();
    assert_eq!((empty.status, empty.problem.is_some()), (Status::NeedsSetup, true));
    assert_eq!(skills.list().len(), BUNDLED.len() + 2, "a broken one hides no other");
}

#[test]
fn what_changes_on_the_disk_is_seen() {
    let (dir, skills) = place_of("skills-seen");
    write(&dir, "a", "---\nname: a\ndescription: one\n---\nx");
    assert_eq!(skills.find("a").unwrap().description, "one");
    write(&dir, "a", "---\nname: a\ndescription: another\n---\nx");
    assert_eq!(skills.find("a").unwrap().description, "another");
    std::fs::remove_dir_all(dir.join("skills/a")).unwrap();
    assert!(matches!(skills.find("a"), Err(SkillError::NotFound)));
}

#[test]
fn the_owners_wins_over_the_installed_over_the_bundled() {
    let (dir, skills) = place_of("skills-order");
    let file = dir.join("new.md");
    let text = "---\nname: write-skill\ndescription: installed\n---\nx";
    std::fs::write(&file, text).unwrap();
    let digest = hex(&sha256(text.as_bytes()));
    skills.enable("write-skill", true).unwrap();
    assert!(matches!(skills.install(&file, &"0".repeat(64)), Err(SkillError::Refused(_))));
    assert_eq!(skills.install(&file, &digest).unwrap(), "write-skill");
    let found = skills.find("write-skill").unwrap();
    assert_eq!((found.source, found.status, found.sha256), (Source::Managed, Status::Disabled, Some(digest.clone())));
    assert!(matches!(skills.read("write-skill"), Err(SkillError::NotReady)));
    skills.enable("write-skill", true).unwrap();
    assert_eq!(skills.read("write-skill").unwrap(), "x");
    skills.install(&file, &digest).unwrap();
    assert_eq!(skills.find("write-skill").unwrap().status, Status::Disabled, "what was enabled was another file");
    write(&dir, "write-skill", "---\nname: write-skill\ndescription: mine\n---\nmine");
    assert_eq!(skills.find("write-skill").unwrap().source, Source::Workspace);
    skills.remove("write-skill").unwrap();
    skills.remove("write-skill").unwrap();
    assert!(matches!(skills.remove("write-skill"), Err(SkillError::Bundled)));
}

#[test]
fn made_switched_and_removed_and_found_by_the_next_process() {
    let (dir, skills) = place_of("skills-made");
    skills.create("tea", "He said: \"hot\"\n", "body").unwrap();
    assert_eq!(skills.find("tea").unwrap().description, "He said: \"hot\"");
    assert!(matches!(skills.create("tea", "d", "x"), Err(SkillError::Taken)));
    assert!(matches!(skills.create("write-skill", "d", "x"), Err(SkillError::Taken)));
    for bad in ["", "..", "a/b", ".managed", "a b", "ä", &"a".repeat(65)] {
        assert!(matches!(skills.create(bad, "d", "x"), Err(SkillError::BadName)), "{bad}");
    }
    assert!(matches!(skills.create("big", "d", &"x".repeat(SKILL_BYTES_MAX + 1)), Err(SkillError::TooLarge)));
    skills.create("edge", &"d".repeat(DESCRIPTION_BYTES_MAX), &"x".repeat(SKILL_BYTES_MAX)).unwrap();
    assert_eq!(skills.read("edge").unwrap().len(), SKILL_BYTES_MAX);
    assert!(matches!(skills.create("none", " ", "x"), Err(SkillError::BadDescription)));
    skills.enable("tea", false).unwrap();
    let next = Skills::open(dir.join("skills"), skills.disk.clone(), Arc::default());
    assert_eq!(next.find("tea").unwrap().status, Status::Disabled);
    std::fs::write(dir.join("skills/.choices.json"), "{").unwrap();
    let damaged = Skills::open(dir.join("skills"), skills.disk.clone(), Arc::default());
    assert!(damaged.eligible().is_empty(), "nothing is on by accident");
    damaged.remove("tea").unwrap();
    assert!(!dir.join("skills/tea").exists());
}
