//! The configuration of a running server: shown, changed, read again; every change reaches the rooms through their [`Lives`].

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Map, Value as Json, json};
use toml_edit::{DocumentMut, Item};

use super::json::{HIDDEN, Wish, toml, wishes};
use super::keys::{KEYS, Key};
use super::needs::{ENGINE, Need, needs, of_server};
use super::sandbox::hindrance;
use super::value::{Kind, Value};
use super::{Config, FILE_NAME, Lives, Origin, Provider, edit, settings};
use crate::api::config::{Changed, ConfigKey, Configuration, EngineProvider, Refused};
use crate::base::limits::CONFIG_BYTES_MAX;
use crate::base::log;
use crate::llm::Engine;
use crate::llm::engine::{ANTHROPIC_URL, OPENAI_URL};
use crate::store::atomic::{Durable, replace};
use crate::sys::disk::{Disk, read_whole, refusal};
use crate::sys::landlock;

/// The configuration in force, and everything that a change touches.
pub struct Running {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    lives: Lives,
    /// What the process started with: keys that need a restart still have these values.
    started: Config,
    /// What the sandbox lets through besides the home; none where the process is not shut in.
    allowed: Option<BTreeSet<Need>>,
    /// Whether it holds ports.
    holds_ports: bool,
    /// Guards the file and what is in force; held for a whole change, so that changes take turns. Taken by requests' blocking
    /// threads and by the watch.
    state: Mutex<State>,
}

struct State {
    /// What file, environment and flags say.
    config: Config,
    /// What of it is in force; the rest needs a restart.
    force: Config,
    /// The file as it was last looked at.
    seen: Seen,
    /// What was seen is what is in force.
    good: bool,
    /// A change took others' edit of the file along before a look had found it; the next look tells of it.
    beside: bool,
}

/// The file, as a look found it.
#[derive(PartialEq, Eq)]
enum Seen {
    Text(String),
    /// There is no file, which is as good as an empty one.
    Nothing,
    /// Not UTF-8.
    NoText,
    Unreadable(std::io::ErrorKind),
}

impl Seen {
    fn is(&self, text: &str) -> bool {
        match self {
            Self::Text(seen) => seen == text,
            Self::Nothing => text.is_empty(),
            Self::NoText | Self::Unreadable(_) => false,
        }
    }
}

fn look_at(disk: &dyn Disk, path: &Path) -> Seen {
    match read_whole(disk, path, CONFIG_BYTES_MAX) {
        Ok(bytes) => String::from_utf8(bytes).map_or(Seen::NoText, Seen::Text),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Seen::Nothing,
        Err(e) => Seen::Unreadable(e.kind()),
    }
}

/// What a look at the file found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Look {
    /// What the file says is in force.
    pub good: bool,
    /// By others than this server, since the last look.
    pub changed: bool,
}

/// What a change comes to, before anything is written.
struct Plan {
    /// The file as it was read for this.
    read: String,
    text: String,
    config: Config,
    overridden: Vec<String>,
}

impl Running {
    /// The configuration that the process started with, and whether it was shut in.
    pub fn new(started: Config, lives: Lives, disk: Arc<dyn Disk>, sandbox: &landlock::State) -> Self {
        let path = started.home().join(FILE_NAME);
        // A mounted or linked file is changed where it lies.
        let path = std::fs::canonicalize(&path).unwrap_or(path);
        let seen = look_at(&*disk, &path);
        let state = Mutex::new(State { config: started.clone(), force: started.clone(), seen, good: true, beside: false });
        let allowed = sandbox.is_on().then(|| needs(&started).into_iter().map(|(_, need)| need).collect());
        let holds_ports = !matches!(sandbox, landlock::State::On { ports: None, .. });
        Self { path, disk, lives, started, allowed, holds_ports, state }
    }

    /// Looks at the file; where it is another one than last time, puts it in force, or says in the log why not. Blocks, for as long as
    /// it takes to read the file. Its time and size would not tell: two edits within a tick of the file system's clock can leave them
    /// as they were.
    pub fn reload(&self) -> Look {
        let mut state = self.state();
        let changed = self.look(&mut state) | std::mem::take(&mut state.beside);
        Look { good: state.good, changed }
    }

    /// Whether another configuration is in force now.
    fn look(&self, state: &mut State) -> bool {
        let seen = look_at(&*self.disk, &self.path);
        if seen == state.seen {
            return false;
        }
        // Also where it is refused: it is named once, not every time that it is looked at.
        state.seen = seen;
        state.good = false;
        let text = match &state.seen {
            Seen::Text(text) => text.clone(),
            Seen::Nothing => String::new(),
            Seen::NoText => {
                log::error("config", format_args!("config.toml is no UTF-8; the old configuration stays"));
                return false;
            }
            Seen::Unreadable(kind) => {
                log::warn("config", format_args!("config.toml cannot be read ({kind}); the old configuration stays"));
                return false;
            }
        };
        let config = match state.config.reread(&text) {
            Ok(config) => config,
            Err(error) => {
                for problem in error.problems {
                    log::error("config", format_args!("{}: {}; the old configuration stays", problem.place, problem.text));
                }
                return false;
            }
        };
        if let Some(why) = hindrance(&config) {
            log::error("config", format_args!("{why}; the old configuration stays"));
            return false;
        }
        let force = self.in_force(&config, &state.force);
        let rooms = settings(&force);
        match self.lives.prepare(&rooms) {
            Ok(made) => self.lives.put(&rooms, made),
            Err(error) => {
                log::error("config", format_args!("{}; the old configuration stays", error.public));
                return false;
            }
        }
        let waiting = config.differing(&force);
        (state.config, state.force, state.good) = (config, force, true);
        log::info("config", format_args!("config.toml was read again and is in force"));
        if !waiting.is_empty() {
            log::warn("config", format_args!("these changes need a restart: {}", waiting.join(", ")));
        }
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// What of a configuration can be in force without a restart.
    fn in_force(&self, config: &Config, now: &Config) -> Config {
        let mut force = config.clone();
        force.take_started(&self.started);
        match self.allowed(&force) {
            Some(allowed) => force.within(&allowed, now),
            None => force,
        }
    }

    /// What may be needed; none where anything may.
    fn allowed(&self, config: &Config) -> Option<BTreeSet<Need>> {
        let mut allowed = self.allowed.clone()?;
        if !self.holds_ports {
            allowed.extend(needs(config).into_iter().map(|(_, need)| need).filter(|need| matches!(need, Need::Port(_))));
        }
        Some(allowed)
    }

    /// What a change comes to.
    fn plan(&self, now: &Config, wanted: &Map<String, Json>) -> Result<Plan, Refused> {
        let bytes = match read_whole(&*self.disk, &self.path, CONFIG_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(Refused::Failed(format!("config.toml cannot be read: {e}"))),
        };
        let read = String::from_utf8(bytes).map_err(|_| Refused::Conflict("config.toml is no UTF-8; mend it first".to_owned()))?;
        // SECURITY: places and expectations only; a problem never quotes a secret.
        let base = now.reread(&read).map_err(|e| Refused::Conflict(format!("config.toml is broken; mend it first: {}", one_line(&e))))?;
        let (form, bare) = edit::Form::of(&read);
        let document: DocumentMut = bare.parse().map_err(|_| Refused::Conflict("config.toml is no TOML; mend it first".to_owned()))?;

        let mut problems = Vec::new();
        let mut overridden = Vec::new();
        let mut edits: Vec<(String, Option<toml_edit::Value>)> = Vec::new();
        for wish in wishes(wanted, &mut problems) {
            match wish {
                Wish::NoServer(name) => edits.push((format!("mcp.servers.{name}"), None)),
                Wish::Key(key, path, value) => match decide(&base, key, &path, value) {
                    Err(problem) => problems.push(format!("{path}: {problem}")),
                    Ok(_) if is_overridden(&base, &path) => overridden.push(path),
                    Ok(None) => {}
                    Ok(Some(edit)) => edits.push((path, edit)),
                },
            }
        }
        if !problems.is_empty() {
            return Err(Refused::Bad(problems.join("; ")));
        }
        let with = |edits: &[(String, Option<toml_edit::Value>)]| {
            let mut document = document.clone();
            for (path, edit) in edits {
                match edit {
                    Some(value) => edit::set(&mut document, path, value.clone()),
                    None => edit::remove(&mut document, path),
                }
            }
            // What changes nothing is no reason to write.
            let text = if edits.is_empty() { read.clone() } else { form.give(&document.to_string()) };
            let config = base.reread(&text).map_err(|e| Refused::Bad(what_is_wrong(&e)))?;
            match hindrance(&config) {
                Some(why) => Err(Refused::Bad(why)),
                None => Ok((text, config)),
            }
        };
        let (text, config) = with(&edits)?;
        // A provider's own variable goes before the file, which shows only once the provider is known.
        let hidden: Vec<String> =
            edits.iter().filter(|(path, edit)| edit.is_some() && config.outdone(path).is_some()).map(|(path, _)| path.clone()).collect();
        if hidden.is_empty() {
            return Ok(Plan { read, text, config, overridden });
        }
        edits.retain(|(path, _)| !hidden.contains(path));
        overridden.extend(hidden);
        let (text, config) = with(&edits)?;
        Ok(Plan { read, text, config, overridden })
    }
}

impl Configuration for Running {
    fn show(&self) -> Map<String, Json> {
        let state = self.state();
        let mut all = state.config.json();
        all.insert("restart_required".to_owned(), json!(state.config.differing(&state.force)));
        all
    }

    fn change(&self, wanted: &Map<String, Json>) -> Result<Changed, Refused> {
        let mut state = self.state();
        let Plan { read, text, config, overridden } = self.plan(&state.config, wanted)?;
        let force = self.in_force(&config, &state.force);
        let rooms = settings(&force);
        let made = self.lives.prepare(&rooms).map_err(|e| Refused::Bad(e.public))?;
        if text != read {
            replace(&*self.disk, &self.path, text.as_bytes(), Durable::Yes).map_err(|e| {
                if let Some(why) = refusal(&e) {
                    Refused::DiskFull(why)
                } else {
                    Refused::Failed(format!("config.toml cannot be written: {e}"))
                }
            })?;
        }
        state.beside |= !(state.good && state.seen.is(&read));
        if !state.seen.is(&text) {
            state.seen = Seen::Text(text);
        }
        state.good = true;
        self.lives.put(&rooms, made);
        let restart_required = config.differing(&force);
        (state.config, state.force) = (config, force);
        Ok(Changed { status: "updated", restart_required, overridden_by_env: overridden })
    }

    fn keys(&self) -> Vec<ConfigKey> {
        let now = self.state().config.clone();
        KEYS.iter().map(|key| described(&now, key)).collect()
    }

    fn engine_with(&self, wanted: &Map<String, Json>) -> Result<Engine, Refused> {
        let (now, force) = {
            let state = self.state();
            (state.config.clone(), state.force.clone())
        };
        let plan = self.plan(&now, wanted)?;
        let new = self.in_force(&plan.config, &force);
        if let Some(path) = plan.overridden.first() {
            let by = match plan.config.origin_at(path) {
                Some(Origin::Flag(name)) => format!("on the command line ({name})"),
                Some(Origin::Env(name)) => format!("by the environment ({name})"),
                _ => "by the environment".to_owned(),
            };
            return Err(Refused::Conflict(format!("{path} is set {by}; change it there and restart")));
        }
        if !plan.config.agrees(&new, ENGINE) {
            return Err(out_of_reach());
        }
        self.lives.maker().engine(settings(&new).engine).map_err(|e| Refused::Bad(e.public))
    }

    fn provider_engine(&self, provider: &str, api_key: Option<&str>) -> Result<Engine, Refused> {
        let mut rooms = settings(&self.state().force).engine;
        let model = match provider {
            "offline" => "offline".to_owned(),
            "openai" | "anthropic" if rooms.default_model.starts_with(&format!("{provider}/")) => rooms.default_model.clone(),
            "openai" | "anthropic" => format!("{provider}/auto"),
            _ => return Err(Refused::Bad("provider: expected offline, openai or anthropic".to_owned())),
        };
        if model != rooms.default_model {
            rooms.base_url.clear();
            rooms.api_key = Default::default();
        }
        if let Some(key) = api_key {
            rooms.api_key = crate::base::secret::Secret::new(key);
            rooms.openai.api_key = rooms.api_key.clone();
            rooms.anthropic.api_key = rooms.api_key.clone();
        }
        rooms.default_model = model;
        rooms.fallback_models.clear();
        let asked = rooms.address_of_default();
        let beyond = |need: &Need| match (&self.allowed, need) {
            (None, _) => false,
            (Some(_), Need::Port(_)) if !self.holds_ports => false,
            (Some(allowed), need) => !allowed.contains(need),
        };
        if asked.iter().flat_map(of_server).any(|need| beyond(&need)) {
            return Err(out_of_reach());
        }
        self.lives.maker().engine(rooms).map_err(|e| Refused::Bad(e.public))
    }

    fn engine(&self) -> Map<String, Json> {
        match self.state().force.json().remove("engine") {
            Some(Json::Object(engine)) => engine,
            _ => Map::new(),
        }
    }

    fn providers(&self) -> Vec<EngineProvider> {
        let config = self.state().force.clone();
        let chosen = Provider::of(&config.model().model);
        let named = |name: &'static str, provider: Provider, own: &str| {
            let key_set = config.api_key(provider).is_some();
            let address = config.base_url(provider);
            EngineProvider {
                name,
                configured: provider == Provider::Offline || key_set || address.is_some(),
                active: provider == chosen,
                api_key_set: key_set,
                base_url: if provider == Provider::Offline { None } else { Some(address.unwrap_or_else(|| own.to_owned())) },
            }
        };
        vec![
            named("offline", Provider::Offline, ""),
            named("openai", Provider::OpenAi, OPENAI_URL),
            named("anthropic", Provider::Anthropic, ANTHROPIC_URL),
        ]
    }
}

/// SECURITY: said here, before it is tried; from the kernel it would come as one more server that cannot be reached.
fn out_of_reach() -> Refused {
    Refused::Conflict(
        "the sandbox that this process is in (security.landlock) does not let it reach that model, so it cannot be asked; \
         set it with PUT /api/config or in config.toml, and restart"
            .to_owned(),
    )
}

/// A key for whoever may change it.
fn described(now: &Config, key: &'static Key) -> ConfigKey {
    let (kind, words, bounds): (_, &'static [&'static str], _) = match key.kind {
        Kind::Text => ("text", &[], None),
        Kind::Whole(min, max) => ("whole", &[], Some([min as f64, max as f64])),
        Kind::Decimal(min, max) => ("decimal", &[], Some([min, max])),
        Kind::Bool => ("bool", &[], None),
        Kind::OneOf(words) => ("word", words, None),
        Kind::List => ("list", &[], None),
        Kind::Secrets => ("secrets", &[], None),
    };
    let set_by = match now.origin_at(key.path) {
        Some(Origin::Env(name) | Origin::Flag(name)) => Some(name.to_string()),
        _ => None,
    };
    let Key { path, meaning, default, secret, live, .. } = key;
    ConfigKey { path, meaning, kind, words, bounds, default, secret: *secret, live: *live, set_by }
}

/// What a wish comes to: nothing, or a value to set (or, without one, to take out).
fn decide(now: &Config, key: &'static Key, path: &str, wanted: &Json) -> Result<Option<Option<toml_edit::Value>>, String> {
    let old = now.value_at(path);
    let unset = wanted.is_null() || (key.kind == Kind::Text && wanted.as_str() == Some(""));
    if unset {
        return Ok(matches!(now.origin_at(path), Some(Origin::File(_))).then_some(None));
    }
    if key.secret && wanted.as_str() == Some(HIDDEN) {
        return Ok(None);
    }
    let mut wanted = wanted.clone();
    if let (Kind::Secrets, Json::Object(table)) = (key.kind, &mut wanted) {
        let had = if let Value::Secrets(had) = old { had.clone() } else { Default::default() };
        for (name, value) in table.iter_mut().filter(|(_, value)| value.as_str() == Some(HIDDEN)) {
            let secret = had.get(name).ok_or("`***` stands for a value that is not there")?;
            *value = json!(secret.reveal());
        }
    }
    let value = toml(&wanted).ok_or_else(|| format!("expected {}", key.type_name()))?;
    let new = Value::from_toml(key, &Item::Value(value.clone()))?;
    let same = if key.secret { &new == old } else { now.shown(path, old) == now.shown(path, &new) };
    Ok((!same).then_some(Some(value)))
}

/// The environment or a flag sets the key.
fn is_overridden(now: &Config, path: &str) -> bool {
    matches!(now.origin_at(path), Some(Origin::Env(_) | Origin::Flag(_)))
}

/// Without the places: they are lines of a file that there will not be.
fn what_is_wrong(error: &super::ConfigError) -> String {
    error.problems.iter().map(|p| p.text.as_str()).collect::<Vec<_>>().join("; ")
}

fn one_line(error: &super::ConfigError) -> String {
    error.problems.iter().map(|p| format!("{}: {}", p.place.rsplit('/').next().unwrap_or_default(), p.text)).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::metrics::Metrics;
    use crate::config::{Env, Maker};
    use crate::http::client::{Client, ClientSettings};
    use crate::store::audit::Audit;
    use crate::store::sessions::Sessions;
    use crate::store::testing::Bench;

    /// A running configuration whose file nobody looks at but the test.
    struct Place {
        running: Running,
        file: PathBuf,
        _bench: Bench,
    }

    impl Place {
        fn new(text: &str) -> Self {
            let bench = Bench::new();
            let home = bench.home();
            let file = home.path().join(FILE_NAME);
            std::fs::write(&file, text).unwrap();
            let config = Config::load(home.path(), &Env::new(), &[]).unwrap();
            let maker = Maker { client: Client::new(ClientSettings::default()), clock: bench.clock.clone(), random: bench.random.clone() };
            let sessions = Sessions::open(&home, bench.owner(), Default::default());
            let audit = Audit::open(&home, Arc::default(), Metrics::new(0)).unwrap();
            let lives = Lives::new(&settings(&config), sessions, audit, maker).unwrap();
            let running = Running::new(config, lives, bench.seams().disk, &landlock::State::Off(String::new()));
            Self { running, file, _bench: bench }
        }
        fn edit(&self, text: &str) {
            std::fs::write(&self.file, text).unwrap();
        }
        fn put(&self, wanted: Json) {
            self.running.change(wanted.as_object().unwrap()).unwrap();
        }
        fn text(&self) -> String {
            std::fs::read_to_string(&self.file).unwrap()
        }
    }

    const ONE: &str = "[session]\nttl_hours = 1\n";
    const TWO: &str = "[session]\nttl_hours = 2\n";

    #[test]
    fn what_takes_back_an_edit_that_no_look_has_found_is_written() {
        let place = Place::new(ONE);
        place.edit(TWO);
        place.put(json!({"session": {"ttl_hours": 1}}));
        assert_eq!(place.text(), ONE);
        assert_eq!(place.running.show()["session"]["ttl_hours"], 1);
        assert!(place.running.reload().good);
        assert_eq!(place.running.show()["session"]["ttl_hours"], 1);
    }

    #[test]
    fn an_edit_that_a_change_took_along_is_told_of_once() {
        for wanted in [json!({"memory": {"max_recall": 3}}), json!({})] {
            let place = Place::new(ONE);
            place.edit(TWO);
            place.put(wanted);
            assert_eq!(place.running.show()["session"]["ttl_hours"], 2);
            assert_eq!(place.running.reload(), Look { good: true, changed: true });
            assert_eq!(place.running.reload(), Look { good: true, changed: false });
            place.put(json!({"session": {"max_sessions": 7}}));
            assert!(!place.running.reload().changed, "the server's own changes are recorded where they are asked for");
        }
    }
}
