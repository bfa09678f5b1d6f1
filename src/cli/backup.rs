//! `backup`: everything of a home into one file, also while a gateway works in it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::args::Parsed;
use super::load;
use super::output::{Failure, harmless, print, tell};
use super::progress::{self, size};
use super::reach::quoted;
use crate::base::time::{Clock, SystemClock};
use crate::config::Env;
use crate::store::backup::{self, BackupError, Report, Source, Watch, Written};
use crate::sys::disk::{Disk, Open, RealDisk};

/// Writes the file under another name, reads it back, and gives it its own.
pub(super) fn run(parsed: &Parsed, env: &Env) -> Result<(), Failure> {
    let [file] = parsed.words.as_slice() else { return Err(Failure::usage("backup: name one file that is to be made")) };
    let config = load(parsed, env)?;
    let home = real(config.home()).map_err(|e| failed(config.home(), &e))?;
    let workspace = workspace(&home, &config.workspace())?;
    let file = place(Path::new(file), &[&home, &workspace], parsed.has("replace"))?;
    let (at, shown) = (home.clone(), file.clone());
    let (written, report) = progress::with(move |watch| make(&home, &workspace, &file, watch))?;
    for left_out in &written.left_out {
        tell(format_args!("left out: {}", harmless(left_out)));
    }
    if written.left_out_count > written.left_out.len() as u64 {
        tell(format_args!("left out: and {} more", written.left_out_count - written.left_out.len() as u64));
    }
    for (word, findings) in [("note", &report.notes), ("WRONG in the home", &report.doubts)] {
        for finding in findings {
            tell(format_args!("{word}: {}", harmless(finding)));
        }
    }
    let name = shown.display();
    let mut out = format!("{} is in {name}: {}, read back and verified\n", at.display(), contents(&report, written.bytes));
    out.push_str(&format!("digest {}\n", report.digest));
    if let Some(head) = &report.audit_head {
        out.push_str(&format!("head {head}\n"));
    }
    out.push_str("It holds keys, secrets and conversations as they are: whoever reads it has them all.\n");
    out.push_str(&format!("to look at it: oxios-edge restore {} --dry-run\n", quoted(&name.to_string())));
    print(format_args!("{out}"));
    Ok(())
}

/// What is in it, for people.
pub(super) fn contents(report: &Report, bytes: u64) -> String {
    let Report { files, sessions, keys, audit_records, .. } = report;
    let counted = |count: u64, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let keys = counted(*keys as u64, "key");
    let (sessions, records) = (counted(*sessions, "session"), counted(*audit_records, "audit record"));
    format!("{}, {} ({sessions}, {keys}, {records})", counted(*files, "file"), size(bytes))
}

fn make(home: &Path, workspace: &Path, file: &Path, watch: Watch<'_>) -> Result<(Written, Report), Failure> {
    let disk = RealDisk;
    let source = Source::open(Arc::new(disk), home, workspace).map_err(|e| Failure::failed(e.to_string()))?;
    let mut beside = file.as_os_str().to_owned();
    beside.push(format!(".{}.partial", std::process::id()));
    let beside = PathBuf::from(beside);
    let doing = |error: &io::Error| failed(&beside, error);
    let into = disk.open(&beside, Open::CreateNew).map_err(|e| doing(&e))?;
    let made = backup::write(&source, into.as_ref(), SystemClock::new().now(), watch).and_then(|written| {
        let report = backup::verify(into.as_ref(), watch)?;
        Ok((written, report))
    });
    let made = made.map_err(|error| refused(file, &error)).and_then(|(written, report)| {
        if crate::base::digest::hex(&written.digest) != report.digest {
            return Err(Failure::failed(format!("{}: what was written is not what is read; do not trust this disk", file.display())));
        }
        disk.rename(&beside, file).map_err(|e| failed(file, &e))?;
        let above = file.parent().unwrap_or(Path::new("/"));
        disk.sync_dir(above).map_err(|e| failed(above, &e))?;
        Ok((written, report))
    });
    // Nothing of ours stays.
    made.inspect_err(|_| drop(disk.remove_file(&beside)))
}

/// Why there is none, and that nothing is left of it.
fn refused(file: &Path, error: &BackupError) -> Failure {
    let name = file.display();
    Failure::failed(match error {
        BackupError::Full(_) => format!("{name}: {error}; nothing was left behind. Free some, or write it to another disk"),
        BackupError::Stopped => format!("{name}: it was stopped; nothing was left behind"),
        _ => error.to_string(),
    })
}

/// Where the file goes: new, and in nothing that it holds.
fn place(file: &Path, held: &[&Path], replace: bool) -> Result<PathBuf, Failure> {
    let shown = file.display();
    let Some(name) = file.file_name() else { return Err(Failure::usage(format!("{shown} is a directory; name a file in it"))) };
    let above = file.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let above = real(above).map_err(|e| failed(above, &e))?;
    if let Some(held) = held.iter().find(|held| above.starts_with(held)) {
        return Err(Failure::usage(format!("{shown} would lie in {}, which it holds; write it somewhere else", held.display())));
    }
    let path = above.join(name);
    match std::fs::symlink_metadata(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(path),
        Err(e) => Err(failed(file, &e)),
        Ok(meta) if !meta.is_file() => Err(Failure::usage(format!("{shown} is there and is no file; choose another name"))),
        Ok(_) if replace => Ok(path),
        Ok(_) => Err(Failure::failed(format!("{shown} is there already; choose another name, or say --replace"))),
    }
}

/// The workspace of this home. A start makes both, so where only the home is, the other is not on its disk now, and a backup without
/// it would take the place of a whole one.
fn workspace(home: &Path, configured: &Path) -> Result<PathBuf, Failure> {
    let made = std::fs::metadata(configured.join("sessions")).and_then(|_| real(configured));
    match made {
        Err(e) if e.kind() == io::ErrorKind::NotFound && home.join("secret").exists() => {
            Err(Failure::failed(format!("the workspace {} is not there; is its disk mounted?", configured.display())))
        }
        // Nor is there anything else.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(home.join("workspace")),
        made => made.map_err(|e| failed(configured, &e)),
    }
}

/// A path without links.
pub(super) fn real(path: &Path) -> io::Result<PathBuf> {
    std::fs::canonicalize(path)
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => "; is it there?",
        io::ErrorKind::StorageFull => "; free some space, or write it to another disk",
        _ => "",
    };
    Failure::failed(format!("{}: {error}{hint}", path.display()))
}
