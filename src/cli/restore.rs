//! `restore`: verifies a backup, says what is in it, and makes a home of it.

use std::io;
use std::path::{Path, PathBuf};

use super::args::Parsed;
use super::backup::{contents, real};
use super::flags;
use super::output::{Failure, harmless, print, tell};
use super::progress::{self, size};
use super::reach::quoted;
use crate::config::{Config, Env, Flag};
use crate::store::backup::{self, BackupError, Report, Target, Whither};
use crate::sys::disk::{Disk, DiskFile, Open, RealDisk, holder};
use crate::wire::path::RelPath;

/// Verifies it whole; then, unless that is all that is asked for, writes the home.
pub(super) fn run(parsed: &Parsed, env: &Env) -> Result<(), Failure> {
    let [file] = parsed.words.as_slice() else { return Err(Failure::usage("restore: name one file that `oxios-edge backup` made")) };
    let file = PathBuf::from(file);
    let (home, flags, dry) = (super::home(parsed, env)?, flags(parsed)?, parsed.has("dry-run"));
    let home = whole(&home).map_err(|e| Failure::failed(format!("{}: {e}", home.display())))?;
    let looked_at = file.clone();
    let mut report = progress::with(move |watch| backup::verify(&*opened(&looked_at)?, watch).map_err(|e| refused(&looked_at, &e)))?;
    let target = target(&mut report, &home, parsed.value("workspace"), env, &flags)?;
    told(&file, &report);
    let obstacle = obstacle(&target, &report)?;
    if dry {
        print(format_args!("{}", intent(&target, &report, obstacle.as_deref())));
        return doubted(&report, false);
    }
    if let Some(obstacle) = obstacle {
        return Err(Failure::failed(obstacle));
    }
    doubted(&report, parsed.has("anyway"))?;
    let (to, from) = (target.clone(), file.clone());
    progress::with(move |watch| backup::restore(&RealDisk, &*opened(&from)?, &to, watch).map_err(|e| refused(&from, &e)))?;
    print(format_args!(
        "restored to {}; everything in it is open to its owner only\nto start it: oxios-edge serve --home {}\n",
        target.home.display(),
        quoted(&target.home.display().to_string())
    ));
    Ok(())
}

fn opened(file: &Path) -> Result<Box<dyn DiskFile>, Failure> {
    let failed = |e: io::Error| Failure::failed(format!("{}: {e}", file.display()));
    if !std::fs::metadata(file).map_err(failed)?.is_file() {
        return Err(Failure::usage(format!("{} is no file", file.display())));
    }
    RealDisk.open(file, Open::Read).map_err(failed)
}

/// What it is and what was found.
fn told(file: &Path, report: &Report) {
    let name = file.display();
    print(format_args!("{name} is whole: {}, made by oxios-edge {} at {}\n", contents(report), report.program, report.created));
    print(format_args!("digest {}\n", report.digest));
    if let Some(head) = &report.audit_head {
        print(format_args!("head {head}\n"));
    }
    for (word, findings) in [("note", &report.notes), ("WRONG", &report.doubts)] {
        for finding in findings {
            tell(format_args!("{word}: {}", harmless(finding)));
        }
    }
}

/// What the server would not take is restored only where somebody insists.
fn doubted(report: &Report, anyway: bool) -> Result<(), Failure> {
    match report.doubts.len() {
        0 => Ok(()),
        _ if anyway => Ok(()),
        _ => Err(Failure::failed(
            "the file is whole, but this version would not read all of it as it should; `--anyway` restores it as it is",
        )),
    }
}

/// Where everything goes; adds to the report what the configuration in it would say there.
fn target(report: &mut Report, home: &Path, workspace: Option<&str>, env: &Env, flags: &[Flag]) -> Result<Target, Failure> {
    let text = String::from_utf8_lossy(&report.config).into_owned();
    let config = Config::from_text(home, &text, env, flags);
    if let Err(error) = &config {
        report.doubts.push(format!("config.toml: {error}"));
    }
    let configured = config.ok().map(|config| config.workspace());
    let asked = workspace.map(|dir| whole(Path::new(dir)).map_err(|e| Failure::failed(format!("{dir}: {e}")))).transpose()?;
    let default = || RelPath::parse("workspace").map_err(|_| Failure::failed("no place for the workspace"));
    let (goes, whither) = match (report.layout.inside(), asked) {
        (Some(_), Some(_)) => return Err(Failure::usage("--workspace: the workspace lies in the home in this backup, and goes there")),
        (Some(inside), None) => (if inside.is_empty() { home.to_owned() } else { home.join(inside) }, Whither::Inside(default()?)),
        (None, Some(dir)) => (dir.clone(), Whither::Outside(dir)),
        (None, None) => {
            let configured = configured.clone().unwrap_or_else(|| home.join("workspace"));
            let inside = configured.strip_prefix(home).ok().and_then(Path::to_str).and_then(|inside| RelPath::parse(inside).ok());
            let Some(inside) = inside else {
                return Err(Failure::usage(format!(
                    "the workspace lay outside of the home, and kernel.workspace is {}; say where it goes: --workspace DIR",
                    configured.display()
                )));
            };
            (home.join(inside.as_str()), Whither::Inside(inside))
        }
    };
    if let Some(other) = configured.filter(|configured| whole(configured).ok().as_ref() != Some(&goes)) {
        let (other, goes) = (other.display(), goes.display());
        report.notes.push(format!("the server would look for its workspace in {other}, but it goes to {goes}: set kernel.workspace"));
    }
    Ok(Target { home: home.to_owned(), workspace: whither })
}

/// Why the home cannot be written, and what to do.
fn obstacle(target: &Target, report: &Report) -> Result<Option<String>, Failure> {
    let failed = |e: io::Error| Failure::failed(format!("{}: {e}", target.home.display()));
    let disk = RealDisk;
    let home = target.home.display();
    if let Some(why) = target.obstacle(&disk).map_err(failed)? {
        // Who holds it is only told to help: where that cannot be seen, the home is as full as before.
        if let Ok(Some(by)) = holder(&target.home.join("lock")) {
            return Ok(Some(format!("process {} uses {home}; stop it first, or choose another home with --home", harmless(&by))));
        }
        let quoted = quoted(&home.to_string());
        return Ok(Some(format!(
            "{why}; a backup goes to a home that is new or empty. Move it away (mv {quoted} {quoted}.before), or choose another with --home"
        )));
    }
    let nearest = target.home.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    let free = disk.free_bytes(nearest).map_err(failed)?;
    Ok((free < report.bytes).then(|| {
        format!(
            "no space: {} are free on the disk of {home}, {} are needed; free some, or choose another home with --home",
            size(free),
            size(report.bytes)
        )
    }))
}

/// What would be done.
fn intent(target: &Target, report: &Report, obstacle: Option<&str>) -> String {
    let mut out = String::from("nothing was written (--dry-run)\n");
    if let Some(obstacle) = obstacle {
        out.push_str(&format!("now it would be refused: {obstacle}\n"));
        return out;
    }
    out.push_str(&format!("would write {} files, {}, to {}\n", report.files, size(report.bytes), target.home.display()));
    if let (true, Whither::Outside(dir)) = (report.layout.is_outside(), &target.workspace) {
        out.push_str(&format!("would write the workspace to {}\n", dir.display()));
    }
    out
}

fn refused(file: &Path, error: &BackupError) -> Failure {
    let name = file.display();
    Failure::failed(match error {
        BackupError::Full(_) => format!("{error}; nothing was left behind"),
        BackupError::Stopped => "it was stopped; nothing was left behind".to_owned(),
        BackupError::Io { .. } => error.to_string(),
        _ => format!("{name}: {error}"),
    })
}

/// An absolute path without links, as far as it is there.
fn whole(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let mut missing = Vec::new();
    let mut at = path.as_path();
    loop {
        match real(at) {
            Ok(found) => return Ok(missing.iter().rev().fold(found, |path: PathBuf, name| path.join(name))),
            Err(e) if e.kind() == io::ErrorKind::NotFound && std::fs::symlink_metadata(at).is_err() => {
                let (Some(above), Some(name)) = (at.parent(), at.file_name()) else { return Err(e) };
                missing.push(name);
                at = above;
            }
            Err(e) => return Err(e),
        }
    }
}
