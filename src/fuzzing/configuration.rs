//! The configuration: a file as its owner wrote it, and a change that comes in by the API.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::runtime::Builder;

use crate::api::config::Configuration;
use crate::base::ids::OwnerId;
use crate::base::limits::JSON_DEPTH_MAX;
use crate::base::log::{self, Format, Level};
use crate::base::metrics::Metrics;
use crate::config::{Config, FILE_NAME, Lives, Maker, Running, settings};
use crate::fuzzing::exchange::{find, text};
use crate::fuzzing::house::{directory, seams};
use crate::http::client::{Client, ClientSettings};
use crate::store::audit::Audit;
use crate::store::home::{Home, Seams};
use crate::store::sessions::{self, Sessions};
use crate::sys::landlock::State;
use crate::wire::json;

struct Place {
    seams: Seams,
    sessions: Arc<Sessions>,
    audit: Arc<Audit>,
    dir: PathBuf,
}

thread_local! {
    static PLACE: RefCell<Place> = RefCell::new(Place::new());
}

impl Place {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap_or_else(|e| panic!("{e}"));
        let (dir, seams) = (directory(), seams(&runtime, 0));
        let home = Home::open(&dir, None, seams.clone()).unwrap_or_else(|e| panic!("{e}"));
        let sessions = Sessions::open(&home, OwnerId::derived(&[7; 32]), sessions::Settings::default());
        let audit = Audit::open(&home, Arc::default(), Metrics::new(0)).unwrap_or_else(|e| panic!("{e}"));
        Self { seams, sessions, audit, dir }
    }
    fn running(&self, config: &Config) -> Option<Running> {
        let maker =
            Maker { client: Client::new(ClientSettings::default()), clock: self.seams.clock.clone(), random: self.seams.random.clone() };
        // A model's address or name may be wrong in ways that only the model's own room knows.
        let lives = Lives::new(&settings(config), self.sessions.clone(), self.audit.clone(), maker).ok()?;
        Some(Running::new(config.clone(), lives, self.seams.disk.clone(), &State::Off(String::new())))
    }
    fn file(&self) -> String {
        fs::read_to_string(self.dir.join(FILE_NAME)).unwrap_or_default()
    }
    fn load(&self, text: &str) -> Option<Config> {
        Config::from_text(&self.dir, text, &BTreeMap::new(), &[]).ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// TOML, then a line `=put=`, then JSON. What loads is shown as something that loads and means the same. What is refused changes
/// nothing; what is accepted is what is found: in force, in the file, after a restart, with the owner's comments and without
/// a change of what was not named; and putting back what is shown changes nothing.
pub(super) fn configuration(data: &[u8]) {
    let at = find(data, b"\n=put=\n");
    let (file, put) = at.map_or((data, &b""[..]), |at| (&data[..at], &data[at + 7..]));
    let Ok(file) = std::str::from_utf8(file) else { return };
    PLACE.with_borrow(|place| {
        let Some(config) = place.load(file) else { return };
        let again = place.load(&config.show()).unwrap_or_else(|| panic!("what is shown does not load: {}", config.show()));
        assert_eq!(values(&again.show()), values(&config.show()));
        let Ok(wanted) = json::parse::<Map<String, Value>>(put, JSON_DEPTH_MAX) else { return };
        fs::write(place.dir.join(FILE_NAME), file).unwrap_or_else(|e| panic!("{e}"));
        if let Some(running) = place.running(&config) {
            change(place, &running, file, &wanted);
        }
        // A change of `logging` is felt by the whole process.
        log::configure(Format::Pretty, Level::Error);
    });
}

fn change(place: &Place, running: &Running, file: &str, wanted: &Map<String, Value>) {
    let before = running.show();
    let refused = running.change(wanted).is_err();
    let (after, written) = (running.show(), place.file());
    if refused {
        assert_eq!((&after, &*written), (&before, file), "refused, and yet changed");
        return;
    }
    let loaded = place.load(&written).unwrap_or_else(|| panic!("what was written does not load: {written:?}"));
    // What waits for a restart is a matter of this process.
    let shown = |running: &Running| without(&running.show(), "restart_required");
    let restarted = place.running(&loaded).unwrap_or_else(|| panic!("what was written does not start: {written:?}"));
    assert_eq!(shown(&restarted), shown(running), "another one after a restart: {written:?}");
    for comment in comments(file) {
        assert!(written.contains(comment) || removes(wanted), "{comment:?} went away: {written:?}");
    }
    let (was, is) = (leaves(&Value::Object(before)), leaves(&Value::Object(after.clone())));
    for (path, value) in &is {
        let named = wanted.get(path.split('.').next().unwrap_or_default()).is_some();
        // The model decides which address and key are in force.
        let follows = path.starts_with("engine.") && wanted.contains_key("engine") || path == "restart_required";
        assert!(named || follows || was.get(path) == Some(value), "{path} was not named and changed");
    }
    for (path, value) in leaves(&Value::Object(without(wanted, "restart_required"))) {
        let said = is.get(&path).unwrap_or(&Value::Null);
        let stands_for = value.is_null() || value == "" || value == "***" || *said == "***" || path == "engine.api_key_set";
        let number = value.as_f64().zip(said.as_f64()).is_some_and(|(a, b)| a == b);
        assert!(stands_for || *said == value || number, "{path} is {said} and was to be {value}");
    }
    // Shown, sent back, and nothing is another.
    let back = running.change(&after);
    assert!(back.is_ok(), "what is shown is refused: {after:?}");
    assert_eq!(text(place.file().as_bytes()), text(written.as_bytes()), "what is shown changes the file");
    assert_eq!(running.show(), after);
}

/// Lines without the comments that say where a value comes from.
fn values(shown: &str) -> Vec<String> {
    shown.lines().filter(|line| !line.starts_with('#')).filter_map(|line| Some(line.rsplit_once(" # ")?.0.trim_end().to_owned())).collect()
}

/// Whole lines that are comments; in a text of several lines they may be no comments.
fn comments(file: &str) -> Vec<&str> {
    let doubtful = file.contains("\"\"\"") || file.contains("'''");
    file.lines().map(str::trim).filter(|line| line.starts_with('#') && !doubtful).collect()
}

/// A server or a key is taken out, and what is said of it may go with it.
fn removes(wanted: &Map<String, Value>) -> bool {
    leaves(&Value::Object(wanted.clone())).values().any(|value| value.is_null() || value == "")
}

fn without(map: &Map<String, Value>, name: &str) -> Map<String, Value> {
    let mut map = map.clone();
    map.remove(name);
    map
}

/// Every value that is no object, by its dotted path.
fn leaves(value: &Value) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    let Value::Object(fields) = value else { return all };
    for (name, value) in fields {
        match value {
            Value::Object(_) => all.extend(leaves(value).into_iter().map(|(path, value)| (format!("{name}.{path}"), value))),
            value => drop(all.insert(name.clone(), value.clone())),
        }
    }
    all
}
