//! `backup`: everything of a home into one file, also while a gateway works in it.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::args::Parsed;
use super::output::{Failure, harmless, print, tell};
use super::progress::{self, size};
use super::reach::quoted;
use super::{as_owner, flags, home};
use crate::base::time::{Clock, SystemClock};
use crate::config::{Config, Env, Flag};
use crate::store::backup::{self, BackupError, Report, Source, Watch, Written};
use crate::sys::disk::{Disk, DiskFile, Lock, Open, RealDisk, holder};

/// What a file begins with that will be a backup.
const PARTIAL: &str = ".oxios-backup-";

/// Writes the file under another name, reads it back, and gives it its own.
pub(super) fn run(parsed: &Parsed, env: &Env) -> Result<(), Failure> {
    let [file] = parsed.words.as_slice() else { return Err(Failure::usage("backup: name one file that is to be made")) };
    let (home, flags, env) = (home(parsed, env)?, flags(parsed)?, env.clone());
    let file = place(Path::new(file), parsed.has("replace"))?;
    // While we are who we are: the rest is done as the home's owner, who may not write here.
    let partial = Partial::begin(&file)?;
    let (into, to) = (partial.file.clone(), file.clone());
    let (at, written, report) = progress::with(move |watch| {
        let (source, at) = source(&home, &env, &flags, &to)?;
        let (written, report) = make(&source, into.as_ref(), watch).map_err(|error| refused(&to, &error))?;
        Ok((at, written, report))
    })?;
    if crate::base::digest::hex(&written.digest) != report.digest {
        return Err(Failure::failed(format!("{}: what was written is not what is read; do not trust this disk", file.display())));
    }
    partial.end(&file)?;
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
    let name = file.display();
    let (whole, what) = (size(written.bytes), contents(&report));
    let mut out = format!("{} is in {name} ({whole}): {what}, read back and verified\n", at.display());
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
pub(super) fn contents(report: &Report) -> String {
    let Report { files, bytes, sessions, keys, audit_records, .. } = report;
    let counted = |count: u64, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let keys = counted(*keys as u64, "key");
    let (sessions, records) = (counted(*sessions, "session"), counted(*audit_records, "audit record"));
    format!("{}, {} ({sessions}, {keys}, {records})", counted(*files, "file"), size(*bytes))
}

/// What is read, and where the home really lies. Root's thread is its owner's from now on, where that is somebody else: links that this
/// user put there, and the workspace that the configuration names, lead it no further than that user.
fn source(home: &Path, env: &Env, flags: &[Flag], file: &Path) -> Result<(Source, PathBuf), Failure> {
    let at = as_owner(home)?;
    let configured = Config::load(&at, env, flags)?.workspace();
    let home = real(&at).map_err(|e| failed(home, &e))?;
    let workspace = workspace(&at, &home, &configured)?;
    if let Some(held) = [&home, &workspace].into_iter().find(|held| file.starts_with(held)) {
        let (file, held) = (file.display(), held.display());
        return Err(Failure::usage(format!("{file} would lie in {held}, which it holds; write it somewhere else")));
    }
    let source = Source::open(Arc::new(RealDisk), &at, &home, &workspace).map_err(|e| Failure::failed(e.to_string()))?;
    Ok((source, home))
}

/// Writes it, and reads it back.
fn make(source: &Source, into: &dyn DiskFile, watch: Watch<'_>) -> Result<(Written, Report), BackupError> {
    let written = backup::write(source, into, SystemClock::new().now(), watch)?;
    let report = backup::verify(into, watch)?;
    Ok((written, report))
}

/// What will be the file, under another name beside it; nothing of it stays, unless the process is killed.
struct Partial {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    /// Tells it from what a killed process left. Nothing on file systems without locks.
    _lock: Option<Lock>,
}

impl Partial {
    /// Makes it, and removes what others left that were killed: every secret is in there.
    fn begin(file: &Path) -> Result<Self, Failure> {
        let above = file.parent().unwrap_or(Path::new("/"));
        for left in RealDisk.list(above).unwrap_or_default().iter().filter(|item| item.name.starts_with(PARTIAL)) {
            let left = above.join(&left.name);
            if let Ok(None) = holder(&left) {
                let _ = RealDisk.remove_file(&left);
            }
        }
        let path = above.join(format!("{PARTIAL}{}", std::process::id()));
        let file = RealDisk.open(&path, Open::CreateNew).map_err(|e| failed(&path, &e))?;
        let lock = RealDisk.lock(&path).ok();
        Ok(Self { path, file: file.into(), _lock: lock })
    }

    /// Gives it its name, durably.
    fn end(self, file: &Path) -> Result<(), Failure> {
        RealDisk.rename(&self.path, file).map_err(|e| failed(file, &e))?;
        let above = file.parent().unwrap_or(Path::new("/"));
        RealDisk.sync_dir(above).map_err(|e| failed(above, &e))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = RealDisk.remove_file(&self.path);
    }
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

/// Where the file goes: new, in a directory that is there.
fn place(file: &Path, replace: bool) -> Result<PathBuf, Failure> {
    let shown = file.display();
    let Some(name) = file.file_name() else { return Err(Failure::usage(format!("{shown} is a directory; name a file in it"))) };
    let above = file.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let path = real(above).map_err(|e| failed(above, &e))?.join(name);
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
fn workspace(at: &Path, home: &Path, configured: &Path) -> Result<PathBuf, Failure> {
    let made = std::fs::metadata(configured.join("sessions")).and_then(|_| real(configured));
    match made {
        Err(e) if e.kind() == io::ErrorKind::NotFound && at.join("secret").exists() => {
            Err(Failure::failed(format!("the workspace {} is not there; is its disk mounted?", configured.display())))
        }
        // Nor is there anything else.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(home.join("workspace")),
        made => made.map_err(|e| failed(configured, &e)),
    }
}

/// A path without links. Where those above it are closed to us, as systemd keeps the homes of its services, the kernel tells it.
pub(super) fn real(path: &Path) -> io::Result<PathBuf> {
    match std::fs::canonicalize(path) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            let opened = File::open(path)?;
            std::fs::read_link(format!("/proc/self/fd/{}", opened.as_raw_fd()))
        }
        other => other,
    }
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => "; is it there?",
        io::ErrorKind::StorageFull => "; free some space, or write it to another disk",
        _ => "",
    };
    Failure::failed(format!("{}: {error}{hint}", path.display()))
}
