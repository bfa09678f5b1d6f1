//! Floor 9: builds the house floor by floor, runs it until it is told to stop, and drains it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use crate::api::App;
use crate::base::blocking;
use crate::base::cancel::{self, Cancel, Why};
use crate::base::limits::PLAIN_CALLS_MAX;
use crate::base::live::Live;
use crate::base::log;
use crate::base::metrics::Metrics;
use crate::base::random::SystemRandom;
use crate::base::time::SystemClock;
use crate::config::{Config, Lives, Maker, Running, Settings};
use crate::cron::Cron;
use crate::events::Events;
use crate::gateway::{Gateway, GatewayParts};
use crate::http::client::{Client, ClientSettings};
use crate::http::listener::Listener;
use crate::middleware::auth::Doorkeeper;
use crate::middleware::logins::Logins;
use crate::middleware::settings as checks;
use crate::middleware::tickets::Tickets;
use crate::orchestrator::{Orchestrator, Parts};
use crate::rooms::agents::Agents;
use crate::rooms::approvals::Approvals;
use crate::rooms::mcp::Mcp;
use crate::rooms::memory::Memory;
use crate::rooms::personas::Personas;
use crate::rooms::seeds::Seeds;
use crate::rooms::site::Site;
use crate::rooms::skills::Skills;
use crate::rooms::spaces::Spaces;
use crate::rooms::workspace::owners::Workspaces;
use crate::store::audit::{Audit, Event, On, What, Who};
use crate::store::home::{Home, Seams};
use crate::store::keys::{Books, Keys};
use crate::store::sessions::{Found, Sessions};
use crate::sys::counted_disk::CountedDisk;
use crate::sys::delayed_disk::DelayedDisk;
use crate::sys::disk::RealDisk;
use crate::sys::landlock;
use crate::sys::notify::Supervisor;
use crate::{api, config, pipeline};

/// A changed configuration is felt after this time at most.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What the house is built from.
#[derive(Clone)]
pub struct Setup {
    /// The directory of everything.
    pub home: PathBuf,
    /// What is configured; the server may change it.
    pub config: Config,
    /// What of it the start uses, room by room.
    pub settings: Settings,
    /// Disk, time and randomness.
    pub seams: Seams,
    /// Told when the configuration's file is to be looked at (SIGHUP); it is looked at by itself, too.
    pub reload: Arc<Notify>,
    /// Whom to tell how it goes; nobody, unless it is set.
    pub supervisor: Supervisor,
    /// Whether the process was shut in.
    pub sandbox: landlock::State,
}

impl Setup {
    /// What a configuration says, with the system's disk, clock and random source.
    pub fn new(config: &Config) -> Self {
        Self {
            home: config.home().to_owned(),
            config: config.clone(),
            settings: config::settings(config),
            seams: Seams { disk: Arc::new(RealDisk), clock: Arc::new(SystemClock::new()), random: Arc::new(SystemRandom::new()) },
            reload: Arc::new(Notify::new()),
            supervisor: Supervisor::default(),
            sandbox: landlock::State::Off("nobody asked for it".to_owned()),
        }
    }
}

/// Why the house did not stand. The text says what to do.
#[derive(Debug)]
pub struct AppError(String);

impl fmt::Display for AppError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AppError {}

/// Builds the house, calls `ready` with the address once it is open, serves until `shutdown`, drains, and writes down what
/// only memory knew. Nothing that an earlier process left is repaired before `ready`.
///
/// # Errors
/// The home, its keys or the engine's settings cannot be used.
pub async fn serve(setup: Setup, listener: Listener, shutdown: Cancel, ready: impl FnOnce(&str)) -> Result<(), AppError> {
    let limits = setup.settings.connections.clone();
    let drain = setup.settings.drain;
    let (end_streams, streams_end) = cancel::pair();
    let (reload, supervisor) = (setup.reload.clone(), setup.supervisor.clone());
    let sync_every = Duration::from_secs(setup.settings.sessions.sync_secs);
    let Built { app, checks, running, delayed } = build(setup, shutdown.clone(), streams_end)?;
    let app = Arc::new(app);

    let address = listener.address().to_owned();
    if let Err(error) = app.home.write_address(&address) {
        // Only `ask` and `healthcheck` look for it. On a full disk its owner must be able to look, and to delete.
        log::warn("app", format_args!("the address is not in the home, so that `ask` does not find this server: {error}"));
    }
    // Before anybody is told: who looks at once finds the log.
    app.audit.note(Event::of_server(What::Started));
    ready(&address);
    supervisor.ready(format_args!("serving at {address}"));

    let (stop, stopped) = cancel::pair();
    let background = background(&app, &stopped);
    let watch = tokio::spawn(watch(app.clone(), running, (reload, supervisor.clone(), address.clone()), stopped.clone()));
    let (disk, home) = (app.home.seams().disk.clone(), app.home.path().to_owned());
    let settled = delayed.clone().map(|delayed| tokio::spawn(settling::keep_settling(delayed, sync_every, stopped.clone())));
    let feed = tokio::spawn(watchdog::keep_feeding(supervisor.clone(), address, disk, home, stopped.clone()));
    let drained = async {
        shutdown.cancelled().await;
        supervisor.stopping(format_args!("answers that run are finished"));
        app.gateway.drain(drain).await;
        // Only now: whoever watches a running answer sees its end.
        end_streams.cancel(Why::Shutdown);
    };
    tokio::join!(pipeline::serve(listener, app.clone(), checks, limits), drained);

    stop.cancel(Why::Shutdown);
    for task in background.into_iter().chain([watch, feed]).chain(settled) {
        if let Err(error) = task.await {
            log::error("app", format_args!("a background task did not end well: {error}"));
        }
    }
    app.mcp.close().await;
    app.sessions.close().await;
    app.audit.note(Event::of_server(What::Stopped));
    app.audit.close().await;
    let (agents, books) = (app.agents.clone(), app.books.clone());
    let written = blocking::spawn(move || {
        agents.flush();
        books.close()
    });
    match written.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => log::warn("app", format_args!("token budgets: what was set aside counts as used: {error}")),
        Err(error) => log::error("app", format_args!("the list of agents was not written: {error}")),
    }
    if let Some(delayed) = delayed {
        settling::settle(&delayed).await;
    }
    app.home.clear_address();
    Ok(())
}

/// The house, and what serving it takes besides.
struct Built {
    app: App,
    checks: Arc<Live<checks::Settings>>,
    running: Arc<Running>,
    /// Where syncs are put off.
    delayed: Option<Arc<DelayedDisk>>,
}

/// From the ground up; nothing runs yet.
fn build(setup: Setup, shutdown: Cancel, drained: Cancel) -> Result<Built, AppError> {
    let Setup { home, config, settings, mut seams, reload: _, supervisor: _, sandbox } = setup;
    let metrics = Metrics::new(api::routes::ROUTES.len());
    seams.disk = Arc::new(CountedDisk::new(seams.disk, metrics.clone()));
    let delayed = (settings.sessions.sync_secs > 0).then(|| {
        let dirs = ["sessions", "audit"].map(|dir| settings.workspace.join(dir)).into();
        Arc::new(DelayedDisk::new(seams.disk.clone(), dirs))
    });
    if let Some(delayed) = &delayed {
        seams.disk = delayed.clone();
    }
    let (clock, random) = (seams.clock.clone(), seams.random.clone());
    let said = |error: &dyn fmt::Display| AppError(error.to_string());

    let home = Home::open(&home, Some(&settings.workspace), seams.clone()).map_err(|e| said(&e))?;
    let keys = Keys::open(&home).map_err(|e| said(&e))?;
    if let Some(key) = &settings.checks.extra_key {
        keys.accept_also(key);
    }
    let keys = Arc::new(keys);
    let books = Books::open(home.path(), seams.clone(), keys.clone(), metrics.clone()).map_err(|e| said(&e))?;
    let sessions = Sessions::open(&home, keys.first_owner(), settings.sessions.clone());
    let client = Client::new(ClientSettings::default());
    let maker = Maker { client: client.clone(), clock: clock.clone(), random: random.clone() };
    let audit = Audit::open(&home, Arc::new(Live::new(settings.audit.clone())), metrics.clone()).map_err(|e| said(&e))?;
    let lives = Lives::new(&settings, sessions.clone(), audit.clone(), maker).map_err(|e| AppError(e.public))?;
    let events = Events::new(clock.clone(), random.clone());

    let at = home.workspace();
    let agents = Agents::open(at.to_owned(), seams.clone());
    let approvals = Arc::new(Approvals::open(at.join("approvals"), seams.clone()));
    let memory = Arc::new(Memory::open(at.join("memory"), seams.clone(), lives.memory.clone(), client.clone()));
    let skills = Arc::new(Skills::open(at.join("skills"), seams.disk.clone(), lives.skills.clone()));
    let logins = Arc::new(Logins::open(home.path().join("logins.json"), seams.disk.clone()));
    let site = Arc::new(Site::new(seams.disk.clone(), home.path(), at, lives.site.clone()));
    let personas = Arc::new(Personas::open(at.join("personas"), seams.clone()));
    let spaces = Arc::new(Spaces::open(at.join("spaces"), seams.clone()));
    let seeds = Arc::new(Seeds::open(at, seams.clone()));
    let workspaces = Arc::new(Workspaces::open(at, keys.first_owner(), seams.clone()).map_err(|e| said(&e))?);

    let mcp = Arc::new(Mcp::new(lives.mcp.clone(), client.clone(), clock.clone()));
    let runner = Arc::new(Orchestrator::new(Parts {
        engine: lives.engine.clone(),
        judges: lives.judges.clone(),
        agents: agents.clone(),
        mcp: mcp.clone(),
        workspaces: workspaces.clone(),
        memory: memory.clone(),
        personas: personas.clone(),
        spaces: spaces.clone(),
        skills: skills.clone(),
        approvals: approvals.clone(),
        seeds: seeds.clone(),
        events: events.clone(),
        clock: clock.clone(),
        random: random.clone(),
        audit: audit.clone(),
        settings: lives.orchestrator.clone(),
    }));
    let gateway = Gateway::new(GatewayParts {
        agents: agents.clone(),
        home: home.clone(),
        sessions: sessions.clone(),
        approvals: approvals.clone(),
        seeds: seeds.clone(),
        personas: personas.clone(),
        spaces: spaces.clone(),
        events: events.clone(),
        runner,
        clock: clock.clone(),
        random: random.clone(),
        audit: audit.clone(),
        books: books.clone(),
        settings: lives.gateway.clone(),
    });
    let cron = Arc::new(Cron::open(at.join("cron"), seams.clone(), gateway.clone(), sessions.clone(), spaces.clone()));
    let running = Arc::new(Running::new(config, lives.clone(), seams.disk.clone(), &sandbox));
    let app = App {
        home,
        audit,
        metrics,
        keys,
        books,
        sessions,
        gateway,
        cron,
        mcp,
        agents,
        seeds,
        approvals,
        events,
        memory,
        site,
        personas,
        skills,
        spaces,
        workspaces,
        tickets: Arc::new(Tickets::new()),
        logins,
        doorkeeper: Arc::new(Doorkeeper::new()),
        started: clock.monotonic(),
        clock,
        random,
        base_path: settings.api.base_path,
        sandbox,
        settings: lives.api.clone(),
        configuration: running.clone(),
        engine: lives.engine.clone(),
        plain_calls: Arc::new(tokio::sync::Semaphore::new(PLAIN_CALLS_MAX)),
        shutdown,
        drained,
    };
    Ok(Built { app, checks: lives.checks, running, delayed })
}

/// Looks at the configuration's file every other second, and at once when told to; then the supervisor hears of it. What was changed
/// there and among the keys by others than this server is in the audit log then.
async fn watch(app: Arc<App>, running: Arc<Running>, told: (Arc<Notify>, Supervisor, String), stop: Cancel) {
    let (reload, supervisor, address) = told;
    while let Ok(told) = stop.guard(tokio::time::timeout(LOOK_EVERY, reload.notified())).await {
        if told.is_ok() {
            supervisor.reloading();
        }
        let running = running.clone();
        // A panic there is in the log already; the next look is another one.
        let look = blocking::spawn(move || running.reload()).await.unwrap_or_default();
        if look.changed {
            app.audit.note(Event::of_server(What::Configuration));
        }
        note_keys(&app).await;
        match (told, look.good) {
            (Ok(()), true) => supervisor.ready(format_args!("serving at {address}")),
            (Ok(()), false) => supervisor.ready(format_args!("serving at {address}; config.toml is refused, see the log")),
            (Err(_), _) => {}
        }
    }
    note_keys(&app).await;
}

async fn note_keys(app: &App) {
    let keys = app.keys.clone();
    for (key, owner) in blocking::spawn(move || keys.changed_beside()).await.unwrap_or_default() {
        let who = Who { owner: Some(owner), key: None };
        app.audit.note(Event { who, on: Some(On::id(key.as_bytes())), ..Event::of_server(What::Key) });
    }
}

/// What goes on beside the requests; all of it ends with `stop`.
fn background(app: &Arc<App>, stop: &Cancel) -> [tokio::task::JoinHandle<()>; 10] {
    // From the sweep, which finds runs that wait, to the gateway, which answers for them. Ends with the sweep.
    let (found, mut swept) = mpsc::unbounded_channel::<Found>();
    let gateway = app.gateway.clone();
    let adopt = tokio::spawn(async move {
        while let Some(found) = swept.recv().await {
            match found {
                Found::Waiting { session_id, owner, .. } => drop(gateway.adopt_session(session_id, owner).await),
                Found::Through => gateway.has_looked(),
            }
        }
    });
    let (sessions, gateway, cancel) = (app.sessions.clone(), app.gateway.clone(), stop.clone());
    let sweep = tokio::spawn(async move {
        let tell = |message| {
            // The other end lives as long as this one.
            let _ = found.send(message);
        };
        sessions.sweep(tell, &*gateway, &cancel).await;
    });
    let (gateway, cancel) = (app.gateway.clone(), stop.clone());
    let resume = tokio::spawn(async move {
        // A start that is stopped at once need not have looked at every open question.
        let look = async {
            gateway.resume_parked().await;
            gateway.settle_agents().await;
        };
        let _ = cancel.guard(look).await;
    });
    let expire = tokio::spawn(app.gateway.clone().keep_expiring(stop.clone()));
    // Ends when the index is made; whoever needs it earlier makes it.
    let memory = app.memory.clone();
    tokio::task::spawn_blocking(move || memory.warm());
    // While the house is drained nothing new is sent: what falls due then was missed.
    let scheduled = tokio::spawn(app.cron.clone().keep_running(app.shutdown.clone()));
    let (audit, cancel) = (app.audit.clone(), stop.clone());
    let recorded = tokio::spawn(async move { audit.keep(cancel).await });
    let tools = tokio::spawn(app.mcp.clone().keep_tidy(stop.clone()));
    let budgets = tokio::spawn(app.books.clone().keep_exact(stop.clone()));
    let page = tokio::spawn(app.site.clone().keep_current(stop.clone()));
    let (home, cancel) = (app.home.clone(), stop.clone());
    let room = tokio::spawn(async move { home.keep_room(&cancel).await });
    [adopt, sweep, resume, expire, scheduled, recorded, tools, budgets, page, room]
}

mod settling;
mod watchdog;

#[cfg(test)]
mod crash_points;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::client::{Outgoing, Target};
    use crate::http::listener::Listen;
    use crate::sys::disk::Disk;
    use crate::sys::fault_disk::FaultDisk;
    use crate::wire::url::Url;
    use hyper::Method;
    use serde_json::{Value, json};

    /// The whole house in this process.
    struct Running {
        address: String,
        token: String,
        stop: cancel::Canceller,
        task: tokio::task::JoinHandle<Result<(), AppError>>,
    }

    async fn start(home: &std::path::Path) -> Running {
        start_on(home, Arc::new(RealDisk)).await
    }

    async fn start_on(home: &std::path::Path, disk: Arc<dyn Disk>) -> Running {
        let listener = Listener::bind(&Listen::Tcp("127.0.0.1:0".parse().unwrap())).unwrap();
        let (stop, shutdown) = cancel::pair();
        let (tell, told) = tokio::sync::oneshot::channel();
        let mut setup = Setup::new(&Config::from_text(home, "", &Default::default(), &[]).unwrap());
        setup.settings.drain = Duration::from_secs(5);
        setup.seams.disk = disk;
        let task = tokio::spawn(serve(setup, listener, shutdown, move |address| tell.send(address.to_owned()).unwrap()));
        let Ok(address) = told.await else { panic!("{}", task.await.unwrap().unwrap_err()) };
        let token = std::fs::read_to_string(home.join("token")).unwrap().trim().to_owned();
        Running { address, token, stop, task }
    }

    impl Running {
        async fn call(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
            let outgoing = Outgoing {
                target: Target::Url(Url::parse(&self.address).unwrap()),
                method,
                path_and_query: path.to_owned(),
                headers: vec![
                    (hyper::header::AUTHORIZATION, format!("Bearer {}", self.token).parse().unwrap()),
                    (hyper::header::CONTENT_TYPE, "application/json".parse().unwrap()),
                ],
                body: if body.is_null() { Default::default() } else { body.to_string().into() },
                connect: Duration::from_secs(5),
                first_byte: Duration::from_secs(20),
                between: Duration::from_secs(20),
            };
            let incoming = Client::new(ClientSettings::default()).send(outgoing).await.unwrap();
            let status = incoming.status.as_u16();
            let bytes = incoming.collect(1 << 20).await.unwrap();
            (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
        }

        async fn end(self) {
            self.stop.cancel(Why::Shutdown);
            self.task.await.unwrap().unwrap();
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_message_goes_in_an_answer_comes_out_and_is_found_after_a_restart() {
        let home = std::env::temp_dir().join(format!("oxios-app-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&home);
        let house = start(&home).await;
        assert_eq!(std::fs::read_to_string(home.join("address")).unwrap().trim(), house.address);
        let (status, answer) = house.call(Method::POST, "/api/chat", json!({"content": "hello"})).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!((&answer["echo"], &answer["phase"]), (&json!("hello"), &json!("Interview")));
        let (reply, session) = (answer["reply"].as_str().unwrap().to_owned(), answer["session_id"].as_str().unwrap().to_owned());
        assert!(!reply.is_empty());
        let (status, asked) = house.call(Method::POST, "/api/chat", json!({"content": "write a.md: text", "session_id": session})).await;
        assert_eq!((status, &asked["status"]), (202, &json!("approval_required")), "{asked}");
        let approval = asked["approval"]["id"].as_str().unwrap().to_owned();
        house.end().await;
        assert!(!home.join("address").exists());

        let house = start(&home).await;
        let (status, approved) = house.call(Method::POST, &format!("/api/approvals/{approval}/approve"), Value::Null).await;
        assert_eq!((status, &approved["status"]), (200, &json!("approved")));
        let events = format!("/api/sessions/{session}/events?until=idle");
        assert_eq!(house.call(Method::GET, &events, Value::Null).await.0, 200);
        assert_eq!(std::fs::read_to_string(home.join("workspace/files/a.md")).unwrap().trim(), "text");
        let (_, detail) = house.call(Method::GET, &format!("/api/sessions/{session}"), Value::Null).await;
        assert_eq!(detail["agent_responses"][0]["content"], reply);
        assert_eq!(detail["user_messages"].as_array().unwrap().len(), 2);
        let (status, gone) = house.call(Method::DELETE, &format!("/api/sessions/{session}"), Value::Null).await;
        assert_eq!((status, &gone["status"]), (200, &json!("deleted")));
        assert_eq!(house.call(Method::GET, &format!("/api/sessions/{session}"), Value::Null).await.0, 404);
        house.end().await;
        let _ = std::fs::remove_dir_all(&home);
    }

    /// Who has no room left must be able to look, and to delete.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_full_disk_does_not_keep_the_house_from_starting() {
        let home = std::env::temp_dir().join(format!("oxios-app-full-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&home);
        let house = start(&home).await;
        let (_, answer) = house.call(Method::POST, "/api/chat", json!({"content": "hello"})).await;
        let session = answer["session_id"].as_str().unwrap().to_owned();
        house.end().await;
        let disk = FaultDisk::new();
        disk.set_budget(Some(0));
        disk.set_free(Some(0));
        let house = start_on(&home, Arc::new(disk.clone())).await;
        let (status, detail) = house.call(Method::GET, &format!("/api/sessions/{session}"), Value::Null).await;
        assert_eq!((status, &detail["user_messages"][0]["content"]), (200, &json!("hello")));
        assert_eq!(house.call(Method::POST, "/api/chat", json!({"content": "more"})).await.0, 507);
        disk.set_budget(None);
        house.end().await;
        let _ = std::fs::remove_dir_all(&home);
    }
}
