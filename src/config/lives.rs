//! The settings that rooms hold, in one place: each room reads its own through a [`Live`], a change swaps them all.

use std::sync::Arc;

use super::Settings;
use crate::base::live::Live;
use crate::base::log;
use crate::base::random::Random;
use crate::base::time::Clock;
use crate::http::client::Client;
use crate::llm::{self, Engine, LlmError};
use crate::store::audit::Audit;
use crate::store::sessions::Sessions;
use crate::{api, gateway, middleware, orchestrator, rooms};

/// What an engine is made with, besides its settings.
#[derive(Clone)]
pub struct Maker {
    /// The one outgoing client.
    pub client: Client,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
}

impl Maker {
    /// An engine of these settings; opens nothing.
    ///
    /// # Errors
    /// What is wrong with a model's name, address or key, in public words.
    pub fn engine(&self, settings: llm::Settings) -> Result<Engine, LlmError> {
        Engine::new(settings, self.client.clone(), self.clock.clone(), self.random.clone())
    }
}

/// The default engine and the judges.
pub(super) type Engines = (Engine, Vec<Engine>);

/// Every room's settings; `app` hands the parts to the rooms.
#[derive(Clone)]
pub struct Lives {
    /// The models; calls under way keep the engine they began with.
    pub engine: Arc<Live<Engine>>,
    /// Further judges.
    pub judges: Arc<Live<Vec<Engine>>>,
    /// What is remembered.
    pub memory: Arc<Live<rooms::memory::Settings>>,
    /// What skills may require of the configuration.
    pub skills: Arc<Live<rooms::skills::Settings>>,
    /// The web page.
    pub site: Arc<Live<rooms::site::Settings>>,
    /// Tool servers.
    pub mcp: Arc<Live<rooms::mcp::Settings>>,
    /// Budgets; a run keeps those it began with.
    pub orchestrator: Arc<Live<orchestrator::Settings>>,
    /// Lanes and deadlines.
    pub gateway: Arc<Live<gateway::Settings>>,
    /// What the routes need to know.
    pub api: Arc<Live<api::Settings>>,
    /// What every request is checked against.
    pub checks: Arc<Live<middleware::settings::Settings>>,
    sessions: Arc<Sessions>,
    audit: Arc<Audit>,
    maker: Maker,
}

impl Lives {
    /// The settings of the start.
    ///
    /// # Errors
    /// An engine cannot be made.
    pub fn new(settings: &Settings, sessions: Arc<Sessions>, audit: Arc<Audit>, maker: Maker) -> Result<Self, LlmError> {
        let (engine, judges) = engines(settings, &maker)?;
        Ok(Self {
            engine: Arc::new(Live::new(engine)),
            judges: Arc::new(Live::new(judges)),
            memory: live(&settings.memory),
            skills: live(&settings.skills),
            site: live(&settings.site),
            mcp: live(&settings.mcp),
            orchestrator: live(&settings.orchestrator),
            gateway: live(&settings.gateway),
            api: live(&settings.api),
            checks: live(&settings.checks),
            sessions,
            audit,
            maker,
        })
    }

    /// The engines of new settings; what can be wrong with them comes to light here.
    ///
    /// # Errors
    /// As [`Lives::new`].
    pub(super) fn prepare(&self, settings: &Settings) -> Result<Engines, LlmError> {
        engines(settings, &self.maker)
    }

    /// Puts new settings in force.
    pub(super) fn put(&self, settings: &Settings, (engine, judges): Engines) {
        self.engine.store(engine);
        self.judges.store(judges);
        self.memory.store(settings.memory.clone());
        self.skills.store(settings.skills.clone());
        self.site.store(settings.site.clone());
        self.mcp.store(settings.mcp.clone());
        self.orchestrator.store(settings.orchestrator.clone());
        self.gateway.store(settings.gateway.clone());
        self.audit.set(settings.audit.clone());
        self.api.store(settings.api.clone());
        self.checks.store(settings.checks.clone());
        self.sessions.set(settings.sessions.clone());
        let (format, level) = settings.log;
        log::configure(format, level);
    }

    /// Makes engines like those in force.
    pub fn maker(&self) -> &Maker {
        &self.maker
    }
}

fn live<T: Clone>(settings: &T) -> Arc<Live<T>> {
    Arc::new(Live::new(settings.clone()))
}

fn engines(settings: &Settings, maker: &Maker) -> Result<Engines, LlmError> {
    let judges = settings.judges.iter().cloned().map(|judge| maker.engine(judge)).collect::<Result<_, _>>()?;
    Ok((maker.engine(settings.engine.clone())?, judges))
}
