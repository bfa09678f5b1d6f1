//! Floor 10: the command line. One file a command; `args.rs` is the table of them all.

mod args;
mod ask;
mod audit;
mod backup;
mod banner;
mod config;
mod doctor;
mod healthcheck;
mod key;
mod login_code;
mod output;
mod progress;
mod reach;
mod restore;
mod routes;
mod sandbox;
mod screen;
mod serve;
mod setup;
mod skill;
mod socket;
mod terminal;
mod unit;
mod web;

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use args::{Invocation, Parsed};
use output::{Failure, print, tell};

use crate::config::{self as configuration, Config, Env, Flag};
use crate::http::listener::Listen;
use crate::sys::owner::become_owner;

/// Runs the command that the arguments (without the program's name) ask for. 0 fine, 1 failed, 2 wrong usage or configuration.
pub fn main(args: impl IntoIterator<Item = OsString>, env: Env) -> ExitCode {
    match run(args, &env) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.text.is_empty() {
                tell(format_args!("oxios-edge: {}", failure.text));
            }
            ExitCode::from(failure.code)
        }
    }
}

fn run(args: impl IntoIterator<Item = OsString>, env: &Env) -> Result<(), Failure> {
    let args: Vec<String> =
        args.into_iter().map(OsString::into_string).collect::<Result<_, _>>().map_err(|_| Failure::usage("an argument is no UTF-8"))?;
    let parsed = match args::parse(&args).map_err(Failure::usage)? {
        Invocation::Help(words) => {
            print(format_args!("{}", args::help(&words)));
            return Ok(());
        }
        Invocation::Run(parsed) => parsed,
    };
    match parsed.command.name {
        "serve" => serve::run(&parsed, env),
        "ask" => ask::run(&parsed, env),
        "key create" => key::create(&parsed, env),
        "key list" => key::list(&parsed, env),
        "key revoke" => key::revoke(&parsed, env),
        "key rotate" => key::rotate(&parsed, env),
        "login-code" => login_code::run(&parsed, env),
        "audit verify" => audit::verify(&parsed, env),
        "audit export" => audit::export(&parsed, env),
        "audit explain" => audit::explain(&parsed, env),
        "audit key" => audit::key(&parsed, env),
        "backup" => backup::run(&parsed, env),
        "restore" => restore::run(&parsed, env),
        "openapi" => {
            print(format_args!("{}", crate::api::openapi::DOCUMENT));
            Ok(())
        }
        "routes" => routes::run(&parsed),
        "healthcheck" => healthcheck::run(&parsed, env),
        "unit" => unit::run(&parsed),
        "config show" => config::show(&parsed, env),
        "config check" => config::check(&parsed, env),
        "config default" => config::default(),
        "config table" => config::table(),
        "skill list" => skill::list(&parsed, env),
        "skill install" => skill::install(&parsed, env),
        "skill enable" => skill::enable(&parsed, env),
        "skill disable" => skill::disable(&parsed, env),
        "skill remove" => skill::remove(&parsed, env),
        "web fetch" => web::fetch(&parsed, env),
        "doctor" => doctor::run(&parsed, env),
        "version" => {
            print(format_args!("oxios-edge {}\n", env!("CARGO_PKG_VERSION")));
            Ok(())
        }
        other => Err(Failure::usage(format!("`{other}` has no implementation"))),
    }
}

/// The home that the command is about.
fn home(parsed: &Parsed, env: &Env) -> Result<PathBuf, Failure> {
    Ok(configuration::home(parsed.value("home"), env)?)
}

/// The home to work in. Root's command is its owner's from now on, where that is somebody else.
fn as_owner(home: &Path) -> Result<PathBuf, Failure> {
    let (at, user) = become_owner(home).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Failure::failed(format!("there is no home at {} yet; `oxios-edge serve` makes it", home.display())),
        ErrorKind::PermissionDenied => Failure::failed(format!("{}: {error}; run this as its owner", home.display())),
        _ => Failure::failed(format!("{}: {error}", home.display())),
    })?;
    if let Some(user) = user {
        tell(format_args!("{} is user {user}'s; this is done as that user", home.display()));
    }
    Ok(at)
}

/// The configuration with what the command line sets: `--listen`, `--model`, `--set`.
fn load(parsed: &Parsed, env: &Env) -> Result<Config, Failure> {
    Ok(Config::load(&home(parsed, env)?, env, &flags(parsed)?)?)
}

fn flags(parsed: &Parsed) -> Result<Vec<Flag>, Failure> {
    let mut flags = Vec::new();
    for text in parsed.values("set") {
        let (path, value) = text.split_once('=').ok_or_else(|| Failure::usage(format!("--set {text}: write --set KEY=VALUE")))?;
        flags.push(Flag { path: path.trim().to_owned(), text: value.to_owned(), name: "--set".to_owned() });
    }
    if let Some(model) = parsed.value("model") {
        flags.push(Flag { path: "engine.default_model".to_owned(), text: model.to_owned(), name: "--model".to_owned() });
    }
    // So that who looks at the configuration sees where the server listens, and what a change of it would come to. A socket file has no
    // key; what is no place is refused where it is used.
    if let Some(Listen::Tcp(at)) = parsed.value("listen").and_then(setup::place) {
        for (path, text) in [("gateway.host", at.ip().to_string()), ("gateway.port", at.port().to_string())] {
            flags.push(Flag { path: path.to_owned(), text, name: "--listen".to_owned() });
        }
    }
    Ok(flags)
}

/// A runtime of one thread, for commands that make a few calls.
fn small_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()
        .map_err(|e| Failure::failed(format!("the runtime does not start: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// README.md holds generated parts, each between `<!-- NAME -->` and `<!-- /NAME -->`. `REWRITE=1 cargo test --lib readme`
    /// renews them; without it they must be true.
    #[test]
    fn the_readme_tells_the_truth() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
        let Ok(mut readme) = std::fs::read_to_string(path) else { return };
        let parts =
            [("keys", configuration::table()), ("routes", routes::table()), ("commands", format!("```text\n{}```\n", args::help("")))];
        for (name, text) in parts {
            let (open, close) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
            let from = readme.find(&open).unwrap_or_else(|| panic!("README.md has no `{}`", open.trim())) + open.len();
            let to = from + readme[from..].find(&close).unwrap_or_else(|| panic!("README.md has no `{close}`"));
            if std::env::var_os("REWRITE").is_some() {
                readme.replace_range(from..to, &text);
                std::fs::write(path, &readme).unwrap();
            } else {
                assert_eq!(&readme[from..to], text, "README.md is behind; run REWRITE=1 cargo test --lib readme");
            }
        }
    }

    /// A key that nothing reads would only pretend.
    #[test]
    fn every_key_is_used() {
        let sources = [
            include_str!("setup.rs"),
            include_str!("../config/settings.rs"),
            include_str!("../config/mod.rs"),
            include_str!("../config/engine.rs"),
            include_str!("serve.rs"),
            include_str!("../config/sandbox.rs"),
        ];
        let code: Vec<&str> = sources.iter().map(|source| source.split("mod tests").next().unwrap_or_default()).collect();
        for key in configuration::KEYS {
            let quoted = if key.is_free() { format!("path(\"{}\")", key.name()) } else { format!("\"{}\"", key.path) };
            assert!(code.iter().any(|source| source.contains(&quoted)), "nothing reads {}", key.path);
        }
    }
}
