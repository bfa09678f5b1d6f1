//! `audit verify`, `export`, `explain`, `key`: reads the files, needs neither server nor network.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::args::Parsed;
use super::output::{Failure, print};
use crate::base::digest::Keyed;
use crate::config::{Config, Env};
use crate::store::audit::read::{lines, segments};
use crate::store::audit::verify::{Given, parse_head, verify as check};
use crate::store::audit::{On, What, public_key_of, secret_of};
use crate::sys::disk::{RealDisk, read_whole};
use crate::wire::audit_line::{AuditLine, LINE_BYTES_MAX, hex_bytes};

/// Says whether the chain is whole; exits 1 where it is not.
pub(super) fn verify(parsed: &Parsed, env: &Env) -> Result<(), Failure> {
    let head = match parsed.value("head") {
        Some(text) => Some(parse_head(text).ok_or_else(|| Failure::usage("--head: write n:hash as verify prints it"))?),
        None => None,
    };
    let dir = dir(parsed, env)?;
    let public_key = match parsed.value("public-key") {
        Some(file) => {
            let bytes = read_whole(&RealDisk, Path::new(file), 4096).map_err(|e| Failure::failed(format!("{file}: {e}")))?;
            let text = String::from_utf8_lossy(&bytes).trim().to_owned();
            Some(
                hex_bytes(&text)
                    .ok_or_else(|| Failure::usage(format!("{file}: expected the 64 digits that `oxios-edge audit key` prints")))?,
            )
        }
        None => None,
    };
    let verdict = check(&RealDisk, &dir, &Given { public_key, head }).map_err(|e| Failure::failed(format!("{}: {e}", dir.display())))?;
    if verdict.records == 0 && verdict.is_good() {
        return Err(none_in(&dir));
    }
    let mut out = format!("{} records in {}, signed up to record {}\n", verdict.records, dir.display(), verdict.signed);
    for finding in &verdict.findings {
        out.push_str(&format!("WRONG  {finding}\n"));
    }
    if verdict.wrong > verdict.findings.len() as u64 {
        out.push_str(&format!("WRONG  and {} more\n", verdict.wrong - verdict.findings.len() as u64));
    }
    if public_key.is_none() {
        out.push_str("checked with the key that the log itself names; give --public-key FILE to be sure who signed\n");
    }
    out.push_str(&match (verdict.is_good(), head) {
        (false, _) => format!("NOT whole: {} findings\n", verdict.wrong),
        (true, Some((n, _))) => format!("whole up to record {n}, which was noted\n"),
        (true, None) => format!("complete up to record {}; later ones cannot be excluded\n", verdict.last),
    });
    out.push_str(&format!("head {}\n", verdict.head()));
    print(format_args!("{out}"));
    if verdict.is_good() { Ok(()) } else { Err(Failure::failed("the audit log is not as it was written")) }
}

/// Every record as it stands, one JSON object a line.
pub(super) fn export(parsed: &Parsed, env: &Env) -> Result<(), Failure> {
    let dir = dir(parsed, env)?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut written = Ok(());
    let unread = each(&dir, |line, _| {
        written = out.write_all(line).and_then(|()| out.write_all(b"\n"));
        written.is_ok()
    })?;
    match written.and_then(|()| out.flush()) {
        // Whoever reads has enough.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|e| Failure::failed(format!("standard output: {e}"))).and_then(|()| all(unread)),
    }
}

/// Every record on a thing, by its id or by the name that somebody gave it.
pub(super) fn explain(parsed: &Parsed, env: &Env) -> Result<(), Failure> {
    let name = parsed.value("name").ok_or_else(|| Failure::usage("--name: which name or id?"))?;
    let home = super::home(parsed, env)?;
    let secret = secret_of(&home).map_err(|e| Failure::failed(e.to_string()))?;
    let keyed = Keyed::new(&secret);
    // A tool of another server is named by what was done, not by what it was done on.
    let (on, tool) = (On::name(&keyed, name).to_string(), What::foreign_tool(&keyed, name).word());
    let mut found = 0;
    let mut out = format!("{name} stands in the log as {on}\n");
    let unread = each(&dir(parsed, env)?, |bytes, line| {
        if line.on == on || line.what == tool {
            found += 1;
            out.push_str(&String::from_utf8_lossy(bytes));
            out.push('\n');
        }
        true
    })?;
    print(format_args!("{out}{found} records\n"));
    all(unread)
}

/// The public key, for `verify --public-key` elsewhere.
pub(super) fn key(parsed: &Parsed, env: &Env) -> Result<(), Failure> {
    let key = public_key_of(&super::home(parsed, env)?).map_err(|e| Failure::failed(e.to_string()))?;
    print(format_args!("{key}\n"));
    Ok(())
}

/// Tells of every record; gives the number of lines that are none.
fn each(dir: &Path, mut each: impl FnMut(&[u8], &AuditLine<'_>) -> bool) -> Result<u64, Failure> {
    let failed = |e: std::io::Error| Failure::failed(format!("{}: {e}", dir.display()));
    let segments = segments(&RealDisk, dir).map_err(failed)?;
    let Some(last) = segments.last() else { return Err(none_in(dir)) };
    let (mut go_on, mut unread) = (true, 0);
    for segment in &segments {
        lines(&RealDisk, dir, *segment, |_, bytes, record, torn| match record {
            Some(record) => go_on = go_on && each(bytes, &record.line),
            // It is being written, or a power cut came between.
            None if torn && segment == last && bytes.len() <= 2 * LINE_BYTES_MAX => {}
            None => unread += 1,
        })
        .map_err(failed)?;
    }
    Ok(unread)
}

/// Nothing is missing from what was shown.
fn all(unread: u64) -> Result<(), Failure> {
    match unread {
        0 => Ok(()),
        n => Err(Failure::failed(format!("lines that are no records and were left out: {n}; `oxios-edge audit verify` says where"))),
    }
}

fn none_in(dir: &Path) -> Failure {
    Failure::failed(format!("there is no audit log in {}", dir.display()))
}

/// The directory that was named, else the home's own.
fn dir(parsed: &Parsed, env: &Env) -> Result<PathBuf, Failure> {
    match parsed.words.as_slice() {
        [] => {}
        [dir] => return Ok(PathBuf::from(dir)),
        _ => return Err(Failure::usage("name one directory at most")),
    }
    let home = super::home(parsed, env)?;
    Ok(Config::load(&home, env, &[])?.workspace().join("audit"))
}
