//! `skill list`, `skill install`, `skill enable`, `skill disable`, `skill remove`: on the home's files, also while a gateway runs
//! on it, which sees the change at its next look.

use std::path::Path;
use std::sync::Arc;

use super::args::Parsed;
use super::output::{Failure, harmless, print};
use super::{as_owner, flags, home};
use crate::base::live::Live;
use crate::config::{Config, Env, settings};
use crate::rooms::skills::{Skill, SkillError, Skills, Source, Status};
use crate::sys::disk::RealDisk;

/// Lists the skills with their state, and what is wrong or missing.
pub(super) fn list(parsed: &Parsed, env: &Env) -> Result<(), Failure> {
    let home = home(parsed, env)?;
    // Before the first start there are those that come with the program.
    let at = if home.exists() { as_owner(&home)? } else { home };
    let skills = at_home(&at, parsed, env)?.list();
    if parsed.has("json") {
        let text = serde_json::to_string(&skills).map_err(|e| Failure::failed(e.to_string()))?;
        print(format_args!("{text}\n"));
        return Ok(());
    }
    print(format_args!("{:<11}  {:<9}  {:<24}  WHAT\n", "STATE", "SOURCE", "NAME"));
    for skill in skills {
        print(format_args!("{}\n", line(&skill)));
    }
    Ok(())
}

/// Installs a SKILL.md or an archive whose digest is given.
pub(super) fn install(parsed: &Parsed, env: &Env) -> Result<(), Failure> {
    let file = word(parsed, "skill install: name one file, a SKILL.md or an archive")?;
    let Some(digest) = parsed.value("sha256") else {
        let why =
            "skill install: --sha256 HEX is needed: the digest that whoever gave you the file told you (`sha256sum` shows a file's own)";
        return Err(Failure::usage(why));
    };
    // From where we are now; the home may be another place to be.
    let path = std::path::absolute(file).map_err(|e| Failure::failed(format!("{file}: {e}")))?;
    std::fs::metadata(&path).map_err(|e| Failure::failed(format!("{file}: {e}")))?;
    let name = open(parsed, env)?.install(&path, digest).map_err(failed)?;
    print(format_args!("installed {name}; it is disabled: read it, then `oxios-edge skill enable {name}`\n"));
    Ok(())
}

/// Switches a skill on.
pub(super) fn enable(parsed: &Parsed, env: &Env) -> Result<(), Failure> {
    switch(parsed, env, true)
}

/// Switches a skill off.
pub(super) fn disable(parsed: &Parsed, env: &Env) -> Result<(), Failure> {
    switch(parsed, env, false)
}

/// Removes an installed or own skill with its files.
pub(super) fn remove(parsed: &Parsed, env: &Env) -> Result<(), Failure> {
    let name = word(parsed, "skill remove: name one skill; `oxios-edge skill list` shows them")?;
    open(parsed, env)?.remove(name).map_err(failed)?;
    print(format_args!("removed {}\n", harmless(name)));
    Ok(())
}

fn switch(parsed: &Parsed, env: &Env, on: bool) -> Result<(), Failure> {
    let name = word(parsed, "name one skill; `oxios-edge skill list` shows them")?;
    open(parsed, env)?.enable(name, on).map_err(failed)?;
    print(format_args!("{} {}\n", if on { "enabled" } else { "disabled" }, harmless(name)));
    Ok(())
}

fn open(parsed: &Parsed, env: &Env) -> Result<Skills, Failure> {
    at_home(&as_owner(&home(parsed, env)?)?, parsed, env)
}

fn at_home(home: &Path, parsed: &Parsed, env: &Env) -> Result<Skills, Failure> {
    let settings = settings(&Config::load(home, env, &flags(parsed)?)?);
    Ok(Skills::open(settings.workspace.join("skills"), Arc::new(RealDisk), Arc::new(Live::new(settings.skills))))
}

fn word<'a>(parsed: &'a Parsed, usage: &str) -> Result<&'a str, Failure> {
    match parsed.words.as_slice() {
        [word] => Ok(word),
        _ => Err(Failure::usage(usage.to_owned())),
    }
}

fn failed(error: SkillError) -> Failure {
    Failure::failed(error.to_string())
}

fn line(skill: &Skill) -> String {
    let state = match skill.status {
        Status::Ready => "ready",
        Status::NeedsSetup => "needs setup",
        Status::Disabled => "disabled",
    };
    let source = match skill.source {
        Source::Bundled => "bundled",
        Source::Managed => "installed",
        Source::Workspace => "own",
    };
    let missing = &skill.missing;
    let missing: Vec<&str> =
        missing.bins.iter().chain(&missing.any_bins).chain(&missing.env).chain(&missing.config).map(String::as_str).collect();
    let what = match (&skill.problem, missing.as_slice()) {
        (Some(problem), _) => problem.clone(),
        (None, []) => skill.description.clone(),
        (None, missing) => format!("needs {}", missing.join(", ")),
    };
    harmless(&format!("{state:<11}  {source:<9}  {:<24}  {}", skill.name, what.split_whitespace().collect::<Vec<_>>().join(" ")))
}
