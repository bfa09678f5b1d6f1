//! `serve`: the gateway, until a signal.

use std::path::Path;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::args::Parsed;
use super::banner::Banner;
use super::output::{Failure, tell, try_print};
use super::reach::quoted;
use super::setup;
use super::{load, login_code, sandbox};
use crate::app;
use crate::base::cancel::{self, Canceller, Why};
use crate::base::log;
use crate::config::{Config, Env, settings};
use crate::http::listener::{Bound, Listen, Listener};
use crate::sys::handed::Handed;
use crate::sys::landlock;
use crate::sys::notify::Supervisor;
use crate::sys::owner;

/// Worker threads at most: the work is waiting, and every thread costs memory.
const WORKERS_MAX: usize = 4;
/// Threads for blocking file operations at most; each file operation is short.
const BLOCKING_MAX: usize = 16;
/// How long an idle thread for file operations is kept.
const BLOCKING_KEPT: Duration = Duration::from_secs(5);
/// Stack of a thread: enough for the deepest JSON we accept, small enough for boards that count it.
const STACK_BYTES: usize = 1024 * 1024;

/// Serves until SIGTERM or SIGINT, drains, returns.
pub(super) fn run(parsed: &Parsed, env: &Env) -> Result<(), Failure> {
    let config = load(parsed, env)?;
    if let Ok(Some(user)) = owner::other(config.home()) {
        return Err(anothers(config.home(), user));
    }
    let listen = setup::listen(parsed, &config)?;
    // Before anything opens files: their numbers are what these are known by.
    let handed = Handed::find(env, std::process::id()).map_err(Failure::usage)?;
    if handed.is_some() && parsed.value("listen").is_some() {
        return Err(Failure::usage("--listen is given, and a socket was handed over (LISTEN_FDS), too; leave one of them"));
    }
    let (format, level) = settings(&config).log;
    log::configure(format, level);
    log::panics_without_content();
    for note in config.notes() {
        log::warn("config", format_args!("{note}"));
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let bound = match handed {
        Some(handed) => Bound::handed(handed),
        None => Bound::to(&listen).map_err(|e| not_bound(&listen, &e))?,
    };
    // Before there are threads, which would stay outside, and before anything of a stranger is read; behind all that is only opened
    // at the start.
    let sandbox = sandbox::enter(&config, env, &bound)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.min(WORKERS_MAX))
        .max_blocking_threads(BLOCKING_MAX)
        .thread_keep_alive(BLOCKING_KEPT)
        .thread_stack_size(STACK_BYTES)
        .thread_name("oxios")
        .enable_all()
        .build()
        .map_err(|e| Failure::failed(format!("the runtime does not start: {e}")))?;
    let result = runtime.block_on(serve(&config, bound, sandbox, env));
    // Everything that matters is on disk when `app::serve` returns; what still blocks may be left behind.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn serve(config: &Config, bound: Bound, sandbox: landlock::State, env: &Env) -> Result<(), Failure> {
    // Signals are caught before anything is written, so that a start that is interrupted ends in order too. A socket file that stays
    // behind is replaced by the next start.
    let signals = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
    let [Ok(terminate), Ok(interrupt)] = signals else { return Err(Failure::failed("signals cannot be caught")) };
    let (canceller, shutdown) = cancel::pair();
    // Ends with the process; it owns the side that stops.
    tokio::spawn(stop_on_signal(canceller, terminate, interrupt));

    let mut setup = app::Setup::new(config);
    setup.sandbox = sandbox;
    // Who cannot be told does not keep the gateway from working.
    setup.supervisor = Supervisor::find(env, std::process::id()).unwrap_or_else(|why| {
        log::warn("supervisor", format_args!("it is told nothing: {why}"));
        Supervisor::default()
    });
    let reload = setup.reload.clone();
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return Err(Failure::failed("signals cannot be caught")) };
    // Ends with the process.
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            reload.notify_one();
        }
    });

    let first = !config.home().join("token").exists();
    let listener = Listener::new(bound).map_err(|e| Failure::failed(format!("the listening socket: {e}")))?;
    let choice = config.model();
    let auth = config.yes("security.auth_enabled");
    let ready = |address: &str| {
        if log::format() == log::Format::Pretty {
            let program = program();
            let banner =
                Banner { address, home: config.home(), model: &choice.model, because: &choice.because, auth, first, program: &program };
            tell(format_args!("{banner}"));
        } else {
            log::info(
                "serve",
                format_args!("ready at {address}, home {}, model {} ({})", config.home().display(), choice.model, choice.because),
            );
        }
        // A full disk behind it must not keep the server from serving.
        if let Err(error) = try_print(format_args!("listening on {address}\n")) {
            log::warn("serve", format_args!("standard output: {error}"));
        }
        // Where a person reads along. Into a file or a pipe no code is written: it is as good as the key for five minutes.
        if auth && std::io::IsTerminal::is_terminal(&std::io::stderr()) {
            let (config, env) = (config.clone(), env.clone());
            tokio::spawn(async move {
                if let Some(link) = login_code::first_link(&config, &env).await {
                    tell(format_args!(
                        "Open the page, logged in (once, within five minutes; later ones: oxios-edge login-code):\n  {link}"
                    ));
                }
            });
        }
    };
    app::serve(setup, listener, shutdown, ready).await.map_err(|e| Failure::failed(e.to_string()))
}

/// How this program was called: by a path (from a build folder, say), or by its name through the search path.
fn program() -> String {
    let called = std::env::args_os().next().and_then(|called| called.into_string().ok());
    called.filter(|called| called.contains('/')).map_or_else(|| "oxios-edge".to_owned(), |called| quoted(&called))
}

/// The first signal drains, the second one ends the process.
async fn stop_on_signal(canceller: Canceller, mut terminate: Signal, mut interrupt: Signal) {
    next(&mut terminate, &mut interrupt).await;
    log::info("serve", format_args!("stopping: running answers may finish; a second signal stops at once"));
    canceller.cancel(Why::Shutdown);
    next(&mut terminate, &mut interrupt).await;
    log::warn("serve", format_args!("stopped at once by a second signal"));
    std::process::exit(1);
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// SECURITY: links that this user put there would lead root's hand elsewhere, and what root made, that user's own server could not read.
fn anothers(home: &Path, user: u32) -> Failure {
    let (at, word) = (home.display(), quoted(&home.display().to_string()));
    Failure::failed(format!(
        "{at} is user {user}'s, and root does not serve there\n  Start it as that user, or make it root's: chown -R 0 {word}"
    ))
}

fn not_bound(listen: &Listen, e: &std::io::Error) -> Failure {
    let place = match listen {
        Listen::Tcp(address) => address.to_string(),
        Listen::Unix(path) => format!("unix:{}", path.display()),
    };
    let hint = match e.kind() {
        std::io::ErrorKind::AddrInUse => {
            "something listens there already; stop it, or choose another place: --listen 127.0.0.1:0 (any free port)"
        }
        std::io::ErrorKind::PermissionDenied => "ports below 1024 and foreign directories need rights; choose another place with --listen",
        std::io::ErrorKind::AddrNotAvailable => "this machine does not have that address; see gateway.host",
        _ => "choose another place with --listen",
    };
    Failure::failed(format!("cannot listen on {place}: {e}\n  {hint}"))
}
