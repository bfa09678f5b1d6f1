//! The whole house on a disk in memory, and everything of it that has a name and a value.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ledger::Ledger;
use crate::api::App;
use crate::app::{Setup, build};
use crate::base::cancel;
use crate::base::digest::{hex, sha256};
use crate::base::ids::OwnerId;
use crate::base::time::ManualClock;
use crate::config::Config;
use crate::rooms::skills::Source;
use crate::rooms::spaces::Space;
use crate::store::home::Seams;
use crate::store::keys::KeyRecord;
use crate::store::tail::{Step, Tail};
use crate::store::testing::Seeded;
use crate::sys::disk::read_whole;
use crate::sys::memory_disk::MemoryDisk;

/// A path that is on no real disk.
pub(super) const HOME: &str = "/in-memory";

/// The whole house; nothing of it runs by itself.
pub(super) struct House {
    pub(super) app: App,
    pub(super) disk: MemoryDisk,
    pub(super) owner: OwnerId,
    _stop: [cancel::Canceller; 2],
}

impl House {
    /// Starts on what is on the disk.
    pub(super) fn start(disk: &MemoryDisk, clock: &Arc<ManualClock>, seed: u64) -> Result<Self, String> {
        let home = Path::new(HOME);
        let text = read_whole(disk, &home.join("config.toml"), 1 << 20).unwrap_or_default();
        let config = Config::from_text(home, &String::from_utf8(text).map_err(|e| e.to_string())?, &Default::default(), &[]);
        let mut setup = Setup::new(&config.map_err(|e| e.to_string())?);
        setup.seams = Seams { disk: Arc::new(disk.clone()), clock: clock.clone(), random: Arc::new(Seeded::new(seed)) };
        let ((stop, shutdown), (end, drained)) = (cancel::pair(), cancel::pair());
        let app = build(setup, shutdown, drained).map_err(|e| e.to_string())?.app;
        let owner = app.keys.first_owner();
        Ok(Self { app, disk: disk.clone(), owner, _stop: [stop, end] })
    }
    /// Writes down what only memory knows, as the end of `serve` does.
    pub(super) async fn close(self) {
        self.app.sessions.close().await;
        self.app.audit.close().await;
        self.app.agents.flush();
        let home = self.app.home.clone();
        drop(self);
        // Runs that have ended let go of it, and with it of the lock, in a moment.
        let began = Instant::now();
        while Arc::strong_count(&home) > 1 {
            assert!(began.elapsed() < Duration::from_secs(30), "somebody still holds the home");
            tokio::task::yield_now().await;
        }
    }
    /// The key in the token file.
    pub(super) fn token_record(&self) -> Result<KeyRecord, String> {
        let token = read_whole(&self.disk, self.app.keys.token_path(), 256).map_err(|e| format!("the token file: {e}"))?;
        self.app.keys.find(String::from_utf8_lossy(&token).trim()).ok_or("the key in the token file is unknown".to_owned())
    }
    /// Records in the audit log.
    pub(super) fn audit_n(&self) -> u64 {
        self.app.audit.head().split(':').next().unwrap().parse().unwrap()
    }

    /// Everything that has a name and a value.
    pub(super) fn things(&self, ledger: &Ledger) -> Result<BTreeMap<String, String>, String> {
        let (app, owner, mut all) = (&self.app, self.owner, BTreeMap::new());
        let token = self.token_record()?;
        if !token.is_valid(app.clock.now()) {
            return Err("the key in the token file does not work".to_owned());
        }
        all.insert("token".to_owned(), token.id.to_string());
        all.insert("first owner".to_owned(), owner.to_string());
        for key in app.keys.list_all() {
            all.insert(format!("key/{}", key.id), if key.revoked { "revoked" } else { "good" }.to_owned());
        }
        for entry in app.memory.list(owner, 0, 1000).unwrap().0 {
            all.insert(format!("memory/{}", entry.id), entry.content);
        }
        for persona in app.personas.list(owner).unwrap() {
            all.insert(format!("persona/{}", persona.id), persona.name);
        }
        all.extend(app.personas.active(owner).unwrap().map(|persona| ("persona".to_owned(), persona.id.to_string())));
        for space in app.spaces.list(owner).unwrap() {
            all.insert(format!("space/{}", space.id), of_space(&space));
        }
        all.extend(app.spaces.current(owner).unwrap().map(|space| ("space".to_owned(), space.id.to_string())));
        for job in app.cron.list(owner).unwrap() {
            all.insert(format!("cron/{}", job.id), format!("{} {}", job.name, job.enabled));
        }
        for approval in app.approvals.list(owner).unwrap() {
            // Those of runs are put right from their sessions' logs.
            let name = format!("approval/{}", approval.id);
            if ledger.knows(&name) {
                all.insert(name, format!("{:?}", approval.status));
            }
        }
        for skill in app.skills.list().into_iter().filter(|skill| skill.source != Source::Bundled) {
            let content = app.skills.content(&skill.name).unwrap();
            all.insert(format!("skill/{}", skill.name), format!("{:?} {}", skill.status, content.trim()));
            if let Some(digest) = skill.sha256 {
                let whole = Path::new(HOME).join("workspace").join(&skill.file_path);
                let whole = read_whole(&self.disk, &whole, 1 << 20).unwrap();
                if digest != hex(&sha256(&whole)) {
                    return Err(format!("the digest of {} is another one's", skill.name));
                }
            }
        }
        let files = app.workspaces.of(owner).unwrap();
        let mut dirs = vec![String::new()];
        while let Some(dir) = dirs.pop() {
            for item in files.list(&dir).unwrap().0 {
                let path = if dir.is_empty() { item.name } else { format!("{dir}/{}", item.name) };
                if item.is_dir {
                    dirs.push(path);
                } else {
                    let text = String::from_utf8(files.read(&path, 1 << 20).unwrap().0).unwrap();
                    all.insert(format!("file/{path}"), text);
                }
            }
        }
        all.insert("memory.max_recall".to_owned(), app.configuration.show()["memory"]["max_recall"].to_string());
        Ok(all)
    }
}

pub(super) fn of_space(space: &Space) -> String {
    format!("{} {:?} {:?} {}", space.name, space.status, space.merged_into, space.context)
}

pub(super) async fn read_on(tail: &mut Tail) -> Vec<String> {
    let mut out = Vec::new();
    while !tail.caught_up() {
        match tail.next().await.unwrap() {
            Step::Record(entry) => out.push(String::from_utf8(entry.json.to_vec()).unwrap()),
            Step::Resync { .. } | Step::Deleted => panic!("a reader from the start is not lost"),
        }
    }
    out
}
