//! `doctor`: tries everything that a gateway needs, and says what to do where something is wrong.

mod sandbox;
mod tool_servers;

use std::io::{ErrorKind, IsTerminal, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::{Method, StatusCode};

use super::args::Parsed;
use super::output::{Failure, harmless, print, tell};
use super::reach::{Place, Reach};
use super::{home, load, setup, small_runtime};
use crate::base::cancel;
use crate::base::log;
use crate::base::random::SystemRandom;
use crate::base::time::{Clock, SystemClock, Timestamp};
use crate::config::settings as rooms;
use crate::config::{Config, Env, Provider};
use crate::http::client::{Client, ClientSettings};
use crate::http::listener::{Bound, Listen};
use crate::llm::{Engine, Kind};
use crate::sys::owner;

/// Less than this and the gateway refuses messages (507).
const SPACE_NEEDED: u64 = 1024 * 1024;
/// Less than this will soon be too little.
const SPACE_GOOD: u64 = 64 * 1024 * 1024;
/// A device that takes longer for one durable write makes every message wait.
const SYNC_SLOW: Duration = Duration::from_millis(500);
/// 2025-01-01: a clock before it was never set.
const CLOCK_FLOOR_MILLIS: u64 = 1_735_689_600_000;
/// For the gateway's own answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a check found.
enum Found {
    Ok(String),
    Warn(String, String),
    Fail(String, String),
}

/// Runs every check; fails if one failed.
pub(super) fn run(parsed: &Parsed, env: &Env) -> Result<(), Failure> {
    // What is found is told once, in the report.
    log::configure(log::format(), log::Level::Error);
    let home = home(parsed, env)?;
    let mut report = Report { failed: 0, warned: 0 };
    let config = match load(parsed, env) {
        Ok(config) => config,
        Err(failure) => {
            report.line("config", Found::Fail(failure.text.clone(), "correct it; `oxios-edge config table` lists every key".to_owned()));
            return Err(Failure { code: failure.code, text: "the rest was not tried".to_owned() });
        }
    };
    report.line("config", settings(&config));
    report.line("home", directory(&home));
    let workspace = config.workspace();
    let device = |dir: &Path| std::fs::metadata(nearest_directory(dir)).ok().map(|meta| meta.dev());
    let elsewhere = (device(&home) != device(&workspace)).then_some(workspace.as_path());
    for place in [Some(home.as_path()), elsewhere].into_iter().flatten() {
        let at = elsewhere.map(|_| place);
        report.line("disk", told_of(disk(place), at));
        report.line("space", told_of(space(place), at));
    }
    for name in ["token", "keys.json", "secret", "audit.key"] {
        if let Some(found) = private(&home, name) {
            report.line(name, found);
        }
    }
    report.line("clock", clock(&home));
    if let Some(found) = kept(&config) {
        report.line("sessions", found);
    }
    let runtime = small_runtime()?;
    report.line("port", runtime.block_on(port(parsed, &config, env)));
    report.line("model", runtime.block_on(model(&config)));
    report.line("sandbox", runtime.block_on(sandbox::look(&config, env)));
    for found in runtime.block_on(tool_servers::all(&config)) {
        report.line("tools", found);
    }
    match report {
        Report { failed: 0, warned: 0 } => {
            print(format_args!("all is well\n"));
            Ok(())
        }
        Report { failed: 0, warned } => {
            print(format_args!("it works; {warned} to look at\n"));
            Ok(())
        }
        Report { failed, .. } => Err(Failure::failed(format!("{failed} failed"))),
    }
}

struct Report {
    failed: usize,
    warned: usize,
}

impl Report {
    fn line(&mut self, name: &str, found: Found) {
        let (word, text, advice) = match found {
            Found::Ok(text) => ("ok", text, None),
            Found::Warn(text, advice) => ("warn", text, Some(advice)),
            Found::Fail(text, advice) => ("FAIL", text, Some(advice)),
        };
        self.failed += usize::from(word == "FAIL");
        self.warned += usize::from(word == "warn");
        let text = harmless(&text).replace('\n', "\n                 ");
        print(format_args!("{word:<4}  {name:<10} {text}\n"));
        if let Some(advice) = advice {
            print(format_args!("                 -> {advice}\n"));
        }
    }
}

/// Of which place, where there is more than one.
fn told_of(found: Found, place: Option<&Path>) -> Found {
    let Some(place) = place else { return found };
    let named = |text: String| format!("{}: {text}", place.display());
    match found {
        Found::Ok(text) => Found::Ok(named(text)),
        Found::Warn(text, advice) => Found::Warn(named(text), advice),
        Found::Fail(text, advice) => Found::Fail(named(text), advice),
    }
}

fn settings(config: &Config) -> Found {
    let file = config.home().join(crate::config::FILE_NAME);
    let text = if file.exists() { format!("{} is fine", file.display()) } else { "no config.toml; defaults and environment".to_owned() };
    match config.notes() {
        [] => Found::Ok(text),
        notes => Found::Warn(text, notes.join("; ")),
    }
}

fn directory(home: &Path) -> Found {
    match std::fs::metadata(home) {
        Ok(meta) if !meta.is_dir() => {
            Found::Fail(format!("{} is no directory", home.display()), "move it away, or choose another home with --home".to_owned())
        }
        Ok(meta) => {
            let mode = meta.mode() & 0o777;
            let me = rustix::process::geteuid().as_raw();
            if meta.uid() != me && me != 0 {
                let text = format!("{} belongs to user {}, we are {me}", home.display(), meta.uid());
                return Found::Fail(text, "run as its owner, or choose another home with --home".to_owned());
            }
            if mode & 0o077 != 0 {
                let text = format!("{} can be opened by others (mode {mode:04o})", home.display());
                return Found::Warn(text, format!("chmod 700 {}", super::reach::quoted(&home.display().to_string())));
            }
            Found::Ok(format!("{} (mode {mode:04o})", home.display()))
        }
        Err(e) if e.kind() == ErrorKind::NotFound => Found::Ok(format!("{} will be made at the first start", home.display())),
        Err(e) => Found::Fail(format!("{}: {e}", home.display()), "choose another home with --home, or correct its rights".to_owned()),
    }
}

/// The home, or what is there of the way to it.
fn nearest_directory(home: &Path) -> &Path {
    home.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"))
}

/// Writes, makes durable, reads back, removes.
fn disk(home: &Path) -> Found {
    let directory = nearest_directory(home);
    let path = directory.join(format!(".oxios-doctor-{}", std::process::id()));
    let begun = Instant::now();
    let tried = (|| {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(&[0x5a; 4096])?;
        file.sync_all()?;
        std::fs::read(&path)
    })();
    let took = begun.elapsed();
    // Also after a failure: nothing of ours stays.
    let _ = std::fs::remove_file(&path);
    let millis = took.as_millis();
    match tried {
        Ok(bytes) if bytes.len() == 4096 && bytes.iter().all(|b| *b == 0x5a) && took < SYNC_SLOW => {
            Found::Ok(format!("written, synced and read back in {millis} ms"))
        }
        Ok(bytes) if bytes.len() == 4096 && bytes.iter().all(|b| *b == 0x5a) => {
            Found::Warn(format!("a durable write takes {millis} ms"), "each message waits for one; a better card or disk helps".to_owned())
        }
        Ok(_) => Found::Fail(
            "what was written is not what is read".to_owned(),
            "replace this disk or card; do not keep anything on it".to_owned(),
        ),
        Err(e) => Found::Fail(
            format!("nothing can be written to {}: {e}", directory.display()),
            "free space, remount it writable, or choose another home with --home".to_owned(),
        ),
    }
}

fn space(home: &Path) -> Found {
    match rustix::fs::statvfs(nearest_directory(home)) {
        Err(e) => Found::Warn(format!("free space cannot be read: {e}"), "look with df".to_owned()),
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let text = format!("{} MiB free", free / (1024 * 1024));
            match free {
                n if n < SPACE_NEEDED => Found::Fail(text, "free some: below 1 MiB new messages are refused".to_owned()),
                n if n < SPACE_GOOD => {
                    Found::Warn(text, "free some soon, or let old sessions be deleted: session.ttl_hours, session.max_sessions".to_owned())
                }
                _ => Found::Ok(text),
            }
        }
    }
}

/// A file that nobody else may read; nothing where it does not exist yet.
fn private(home: &Path, name: &str) -> Option<Found> {
    let path = home.join(name);
    match std::fs::symlink_metadata(&path) {
        Ok(meta) if meta.mode() & 0o077 != 0 => Some(Found::Fail(
            format!("{} can be read by others (mode {:04o})", path.display(), meta.mode() & 0o777),
            format!(
                "chmod 600 {}; if others use this machine, make a new key and revoke the old one",
                super::reach::quoted(&path.display().to_string())
            ),
        )),
        Ok(meta) => Some(Found::Ok(format!("{} (mode {:04o})", path.display(), meta.mode() & 0o777))),
        Err(_) => None,
    }
}

fn clock(home: &Path) -> Found {
    let now = SystemClock::new().now();
    // The newest time the gateway has seen; its first word, so that the file may hold more.
    let seen = owner::read(home, "clock").ok();
    let seen = seen.as_deref().and_then(|text| text.split_whitespace().next()).and_then(Timestamp::parse);
    if now.millis() < CLOCK_FLOOR_MILLIS {
        return Found::Fail(
            format!("it says {now}: it was never set"),
            "set it (NTP, or date -s); until then pruning by age pauses and TLS fails".to_owned(),
        );
    }
    match seen {
        Some(seen) if now < seen => Found::Warn(
            format!("it says {now}, but the gateway has seen {seen}"),
            "set it (NTP, or date -s); pruning by age pauses meanwhile".to_owned(),
        ),
        _ => Found::Ok(now.to_string()),
    }
}

/// Session files that were set aside because they match nothing.
fn kept(config: &Config) -> Option<Found> {
    let directory = config.workspace().join("sessions");
    let mut names: Vec<String> = std::fs::read_dir(&directory)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.contains(".json.kept-") || name.contains(".log.bad"))
        .collect();
    names.sort();
    let first = names.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => None,
        n => Some(Found::Warn(
            format!("{n} set aside in {}: {first}{}", directory.display(), if n > 3 { ", …" } else { "" }),
            "they were edited by hand or damaged; look at them, then delete them".to_owned(),
        )),
    }
}

/// Free, or held by the gateway of this home.
async fn port(parsed: &Parsed, config: &Config, env: &Env) -> Found {
    let listen = match setup::listen(parsed, config) {
        Ok(listen) => listen,
        Err(failure) => return Found::Fail(failure.text, "correct it".to_owned()),
    };
    if let Ok(mut reach) = Reach::find(config.home(), env) {
        reach.token = None;
        if let Ok((StatusCode::OK, _)) = reach.call(Method::GET, "/health", None, PATIENCE).await {
            return Found::Ok(format!("the gateway of this home runs at {}", reach.place));
        }
    }
    let place = match &listen {
        Listen::Tcp(address) => address.to_string(),
        Listen::Unix(path) => Place::Unix(path.clone()).to_string(),
    };
    // As a start does, and let go of at once.
    match Bound::to(&listen) {
        Ok(_) => Found::Ok(format!("{place} is free")),
        Err(e) => Found::Fail(format!("{place}: {e}"), unbound(&listen, e.kind()).to_owned()),
    }
}

fn unbound(listen: &Listen, kind: ErrorKind) -> &'static str {
    match (listen, kind) {
        (Listen::Tcp(_), ErrorKind::AddrInUse) => "another program holds it: stop that, or set gateway.port, or serve --listen 127.0.0.1:0",
        (Listen::Tcp(_), ErrorKind::PermissionDenied) => "ports below 1024 need rights; set gateway.port",
        (Listen::Tcp(_), _) => "correct gateway.host and gateway.port",
        (Listen::Unix(_), ErrorKind::AddrInUse) => {
            "something is there already, and it is not the gateway of this home; remove it, or choose another path"
        }
        (Listen::Unix(_), _) => "make its directory, or choose another path",
    }
}

/// Really asks the model.
async fn model(config: &Config) -> Found {
    let choice = config.model();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let client = Client::new(ClientSettings::default());
    let engine = match Engine::new(rooms::engine(config), client, clock, Arc::new(SystemRandom::new())) {
        Ok(engine) => engine,
        Err(e) => return Found::Fail(e.public, "correct the engine section".to_owned()),
    };
    if engine.is_offline() {
        let text = format!("offline, built in ({})", choice.because);
        return match choice.because.starts_with("engine.") {
            true => Found::Ok(text),
            false => Found::Ok(format!(
                "{text}\nfor a real one set OPENAI_API_KEY, ANTHROPIC_API_KEY, or OPENAI_BASE_URL=http://127.0.0.1:8080/v1"
            )),
        };
    }
    if std::io::stderr().is_terminal() {
        let patience = config.whole("engine.first_byte_timeout_secs");
        tell(format_args!("      asking {}, which may take up to {patience} s …", choice.model));
    }
    // Nobody stops it: the time-outs of the engine do.
    let (_canceller, cancel) = cancel::pair();
    match engine.probe(&cancel).await {
        // A server with one model (llama.cpp) answers to any name: what it lists tells a slip of the pen.
        Ok(probe) if probe.answered && (probe.listed || probe.models.is_empty()) => {
            Found::Ok(format!("{} at {} answered in {} ms ({})", probe.model, probe.address, probe.took.as_millis(), choice.because))
        }
        Ok(probe) if !probe.answered => Found::Fail(
            format!("{} at {} began an answer and did not end it", probe.model, probe.address),
            "look at the model server's own log".to_owned(),
        ),
        Ok(probe) => {
            let list = probe.models.iter().take(10).cloned().collect::<Vec<_>>().join(", ");
            Found::Warn(
                format!("{} answers, but does not list {}", probe.address, probe.model),
                if list.is_empty() {
                    "check engine.default_model".to_owned()
                } else {
                    format!("set engine.default_model to one of: {}", harmless(&list))
                },
            )
        }
        Err(e) => {
            let address = config.base_url(Provider::of(&choice.model)).map(|url| format!(" at {url}")).unwrap_or_default();
            Found::Fail(
                format!("{}\n(asked for {}{address}, because {})", e.public, choice.model, choice.because),
                advice(&e.kind).to_owned(),
            )
        }
    }
}

fn advice(kind: &Kind) -> &'static str {
    match kind {
        Kind::Unreachable => "start the model's server, or correct engine.base_url (with its version segment: http://127.0.0.1:8080/v1)",
        Kind::Refused => "correct the key: OPENAI_API_KEY, ANTHROPIC_API_KEY or engine.api_key",
        Kind::NotFound(_) => "correct engine.default_model, or engine.base_url (with its version segment: …/v1)",
        Kind::RateLimited => "wait, or look at the account's limits",
        Kind::Stalled => "the server is overloaded, or engine.first_byte_timeout_secs is too short for it",
        _ => "look at the model server's own log",
    }
}
