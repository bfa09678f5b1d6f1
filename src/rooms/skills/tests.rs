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
    // Where it came from is told by another file, which comes and goes while SKILL.md stays.
    let origin = dir.join("skills/a/.clawhub/origin.json");
    assert_eq!(skills.find("a").unwrap().format, Format::AgentSkills);
    std::fs::create_dir(origin.parent().unwrap()).unwrap();
    std::fs::write(&origin, "{}").unwrap();
    assert_eq!(skills.find("a").unwrap().format, Format::Openclaw);
    std::fs::remove_file(&origin).unwrap();
    assert_eq!(skills.find("a").unwrap().format, Format::AgentSkills);
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
fn as_many_as_may_be_are_all_listed_whatever_lies_between_them_and_no_further_one_is_taken() {
    let (dir, skills) = place_of("skills-full");
    let text = |name: &str| format!("---\nname: {name}\ndescription: d\n---\nx");
    for n in 0..SKILLS_MAX {
        std::fs::create_dir_all(dir.join(format!("skills/no-skill-{n}"))).unwrap();
        std::fs::create_dir_all(dir.join(format!("skills/.hidden-{n}"))).unwrap();
        write(&dir, &format!("own-{n:03}"), text("own"));
        write(&dir, &format!(".managed/in-{n:03}"), text("in"));
    }
    let listed = |source| skills.list().into_iter().filter(|skill| skill.source == source).count();
    assert_eq!([Source::Workspace, Source::Managed].map(listed), [SKILLS_MAX; 2]);
    assert!(matches!(skills.create("one-more", "d", "x"), Err(SkillError::Full(Source::Workspace))));
    let (path, digest) = given(&dir, text("one-more").as_bytes());
    assert!(matches!(skills.install(&path, &digest), Err(SkillError::Full(Source::Managed))));
    assert!(!dir.join("skills/.managed/one-more").exists());
    let (again, of_it) = given(&dir, text("in-000").as_bytes());
    assert_eq!(skills.install(&again, &of_it).unwrap(), "in-000", "one in the place of another is none more");
    // More by hand: those that come first by name.
    write(&dir, "aa", text("aa"));
    assert!(skills.list().iter().any(|skill| skill.name == "aa") && listed(Source::Workspace) == SKILLS_MAX);
    for name in ["aa", "own-001", "in-001"] {
        skills.remove(name).unwrap();
    }
    skills.create("one-more", "d", "x").unwrap();
    let (path, digest) = given(&dir, text("two-more").as_bytes());
    skills.install(&path, &digest).unwrap();
    assert_eq!([Source::Workspace, Source::Managed].map(listed), [SKILLS_MAX; 2]);
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

/// A file to be installed, and its digest.
fn given(dir: &std::path::Path, bytes: &[u8]) -> (PathBuf, String) {
    let path = dir.join("given");
    std::fs::write(&path, bytes).unwrap();
    (path, hex(&sha256(bytes)))
}

fn of_version(n: usize) -> String {
    format!("---\nname: a\ndescription: version {n}\n---\n{n}")
}

#[test]
fn an_install_that_is_stopped_at_any_call_leaves_the_old_skill_or_the_new_one_and_nothing_enabled() {
    use crate::sys::fault_disk::FaultDisk;
    for k in 0.. {
        let (dir, _) = test_seams("skills-stopped");
        let disk = FaultDisk::new();
        let open = || Skills::open(dir.join("skills"), Arc::new(disk.clone()), Arc::default());
        let (path, digest) = given(&dir, of_version(1).as_bytes());
        open().install(&path, &digest).unwrap();
        open().enable("a", true).unwrap();
        let (path, digest) = given(&dir, of_version(2).as_bytes());
        let calls = disk.calls();
        disk.stop_after(Some(k));
        let done = open().install(&path, &digest).is_ok();
        let calls = disk.calls() - calls;
        disk.stop_after(None);
        let found = open().find("a").unwrap();
        let is_new = found.description == "version 2";
        assert!(found.problem.is_none() && (is_new || (!done && found.description == "version 1")), "stopped after {k}: {found:?}");
        assert!(!is_new || found.status == Status::Disabled, "stopped after {k}: {found:?}");
        assert_eq!(found.sha256.as_ref() == Some(&digest), is_new, "the digest belongs to the text");
        assert_eq!(open().list().len(), BUNDLED.len() + 1, "what is unfinished is no skill");
        open().install(&path, &digest).unwrap();
        assert_eq!(std::fs::read_dir(dir.join("skills/.managed")).unwrap().count(), 1);
        if calls <= k {
            break;
        }
    }
}

#[test]
fn an_install_replaces_all_of_the_earlier_one() {
    let (dir, skills) = place_of("skills-replaced");
    let (path, digest) = given(&dir, of_version(1).as_bytes());
    skills.install(&path, &digest).unwrap();
    std::fs::write(dir.join("skills/.managed/a/left-over.md"), "x").unwrap();
    skills.install(&path, &digest).unwrap();
    assert!(!dir.join("skills/.managed/a/left-over.md").exists());
    for bytes in [&b"PK\x03\x04 and more"[..], &[0xff, 0xfe], b"no front matter"] {
        let (path, digest) = given(&dir, bytes);
        assert!(skills.install(&path, &digest).is_err());
    }
    let (path, digest) = given(&dir, &vec![b'x'; crate::base::limits::SKILL_ARCHIVE_BYTES_MAX + 1]);
    assert!(matches!(skills.install(&path, &digest), Err(SkillError::Refused(_))));
    let (path, digest) = given(&dir, &vec![b'x'; SKILL_FILE_BYTES_MAX + 1]);
    assert!(matches!(skills.install(&path, &digest), Err(SkillError::TooLarge)));
}

#[cfg(feature = "archives")]
mod archives {
    use super::*;
    use crate::wire::archive::tests::{entry, gzip, tar};

    const TEXT: &str = "---\nname: a\ndescription: packed\n---\nbody";

    fn file(name: &str) -> Vec<u8> {
        entry(name.as_bytes(), b'0', if name.ends_with("SKILL.md") { TEXT.as_bytes() } else { b"beside" })
    }

    fn install(dir: &std::path::Path, skills: &Skills, entries: &[Vec<u8>]) -> Result<String, SkillError> {
        let (path, digest) = given(dir, &gzip(&tar(entries)));
        skills.install(&path, &digest)
    }

    #[test]
    fn an_archive_is_installed_whole_from_its_top_or_its_one_directory() {
        let (dir, skills) = place_of("archives-good");
        for top in ["", "./", "some-dir/"] {
            let name = |name: &str| format!("{top}{name}");
            let hub = file(&name(".clawhub/origin.json"));
            let all = [entry(name("sub").as_bytes(), b'5', b""), file(&name("sub/more.md")), file(&name("SKILL.md")), hub];
            assert_eq!(install(&dir, &skills, &all).unwrap(), "a", "{top}");
            let found = skills.find("a").unwrap();
            let sha256 = hex(&sha256(&gzip(&tar(&all))));
            assert_eq!((found.status, found.source, found.sha256), (Status::Disabled, Source::Managed, Some(sha256)));
            assert_eq!((found.description.as_str(), found.format), ("packed", Format::Openclaw));
            assert!(matches!(skills.read("a"), Err(SkillError::NotReady)));
            skills.enable("a", true).unwrap();
            assert_eq!((skills.read("a").unwrap(), skills.read("a/sub/more.md").unwrap()), ("body".into(), "beside".into()));
        }
        install(&dir, &skills, &[file("SKILL.md")]).unwrap();
        assert!(!dir.join("skills/.managed/a/sub").exists(), "what an earlier archive brought is gone");
        assert_eq!(skills.find("a").unwrap().status, Status::Disabled);
        skills.remove("a").unwrap();
        assert!(!dir.join("skills/.managed/a").exists());
    }

    /// What the `tar` program makes of the directory `packed`.
    fn packed(dir: &std::path::Path, args: &[&str]) -> (PathBuf, String) {
        let archive = dir.join("packed.tar.gz");
        let made = std::process::Command::new("tar").arg("-czf").arg(&archive).arg("-C").arg(dir).args(args).arg("packed").status();
        assert!(made.unwrap().success());
        let digest = hex(&sha256(&std::fs::read(&archive).unwrap()));
        (archive, digest)
    }

    #[test]
    fn archives_of_the_tar_program_are_taken_and_what_harms_in_them_is_named() {
        let (dir, skills) = place_of("archives-tar");
        let long = format!("packed/{}/{}.md", "d".repeat(90), "f".repeat(90));
        std::fs::create_dir_all(dir.join(&long).parent().unwrap()).unwrap();
        std::fs::write(dir.join(&long), "long").unwrap();
        std::fs::write(dir.join("packed/SKILL.md"), TEXT).unwrap();
        for args in [&["--format=gnu"][..], &["--format=pax"], &["--format=ustar"], &["--transform", "s,^packed,.,"]] {
            let (path, digest) = packed(&dir, args);
            assert_eq!(skills.install(&path, &digest).unwrap(), "a", "{args:?}");
            assert_eq!(skills.find("a").unwrap().sha256, Some(digest));
            skills.enable("a", true).unwrap();
            assert_eq!(skills.read(&long.replacen("packed", "a", 1)).unwrap(), "long", "{args:?}");
        }
        let (path, digest) = packed(&dir, &["-P", "--transform", "s,^packed/d.*,../../out,"]);
        let Err(SkillError::Refused(why)) = skills.install(&path, &digest) else { panic!() };
        assert!(why.contains("name is refused: \"../../out"), "{why}");
        std::os::unix::fs::symlink("/etc/passwd", dir.join("packed/passwd")).unwrap();
        let (path, digest) = packed(&dir, &[]);
        let Err(SkillError::Refused(why)) = skills.install(&path, &digest) else { panic!() };
        assert!(why.contains("neither a file nor a directory: \"packed/passwd\""), "{why}");
        assert_eq!(skills.find("a").unwrap().status, Status::Ready, "what was there is as it was");
    }

    #[test]
    fn hostile_archives_change_nothing() {
        let (dir, skills) = place_of("archives-bad");
        install(&dir, &skills, &[file("SKILL.md"), file("old.md")]).unwrap();
        skills.enable("a", true).unwrap();
        let link = |kind: u8| entry(b"x", kind, b"");
        let hostile: Vec<Vec<Vec<u8>>> = vec![
            vec![],
            vec![file("README.md")],
            vec![file("one/SKILL.md"), file("two/SKILL.md")],
            vec![file("one/SKILL.md"), file("beside")],
            vec![file("one/deep/SKILL.md")],
            vec![file("SKILL.md"), file("../../../../token")],
            vec![file("SKILL.md"), file("/etc/cron.d/x")],
            vec![file("d/SKILL.md"), file("d/../../x")],
            vec![file("SKILL.md"), file("skill.md")],
            vec![file("SKILL.md"), file("SKILL.md")],
            vec![file("SKILL.md"), file(".sha256")],
            vec![file("SKILL.md"), file(".SHA256")],
            vec![file("SKILL.md"), link(b'1')],
            vec![file("SKILL.md"), link(b'2'), file("x/passwd")],
            vec![file("SKILL.md"), link(b'3')],
            vec![file("SKILL.md"), link(b'4')],
            vec![file("SKILL.md"), link(b'6')],
            vec![entry(b"SKILL.md", b'2', b"")],
            vec![file("SKILL.md"), file("SKILL.md/x")],
            vec![entry(b"SKILL.md", b'0', b"---\nname: ../../a\ndescription: d\n---\n")],
            vec![entry(b"SKILL.md", b'0', b"---\nname: .managed\ndescription: d\n---\n")],
            vec![entry(b"SKILL.md", b'0', b"no front matter")],
            vec![entry(b"SKILL.md", b'0', &[0xff; 100])],
            vec![entry(b"SKILL.md", b'0', &vec![b'x'; SKILL_FILE_BYTES_MAX + 1])],
            vec![file("SKILL.md"), entry(b"zeros", b'0', &vec![0; 3 * 1024 * 1024])],
        ];
        for (n, entries) in hostile.iter().enumerate() {
            let why = install(&dir, &skills, entries).expect_err(&n.to_string());
            assert!(!matches!(why, SkillError::Io(_)), "{n}: {why}");
        }
        let good = gzip(&tar(&[file("SKILL.md")]));
        let (path, _) = given(&dir, &good);
        assert!(matches!(skills.install(&path, &hex(&sha256(b"another"))), Err(SkillError::Refused(_))), "the digest comes first");
        let mut names: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["given", "skills"]);
        let kept = std::fs::read_dir(dir.join("skills/.managed")).unwrap().count();
        assert_eq!((kept, skills.find("a").unwrap().status, skills.read("a/old.md").unwrap()), (1, Status::Ready, "beside".into()));
    }
}
