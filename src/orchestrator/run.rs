//! One run: carries out what `step` decides, and tells it what came of it. Everything that waits can be stopped: by the
//! canceller or by the deadline, whose clock stands still while the run is parked.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use crate::base::blocking;
use crate::base::cancel::{Cancel, Why};
use crate::base::ids::SeedId;
use crate::base::log;
use crate::events::Kind;
use crate::llm::Engine;
use crate::llm::request::ToolCall;
use crate::orchestrator::backdrop::Backdrop;
use crate::orchestrator::budget::Rules;
use crate::orchestrator::group;
use crate::orchestrator::history::Exchange;
use crate::orchestrator::join::Joiner;
use crate::orchestrator::prompt::Own;
use crate::orchestrator::seed::Draft;
use crate::orchestrator::state::{Action, Ask, Input, Stage, State};
use crate::orchestrator::step::step;
use crate::orchestrator::tools::Reach;
use crate::orchestrator::{EndKind, Job, Outcome, Parts, Settings};
use crate::rooms::seeds::{Evaluation, Seed};
use crate::rooms::workspace::Workspace;
use crate::store::StoreError;
use crate::store::record::{Body, Ending, PhaseState, Problem};

/// One run under way.
pub(crate) struct Run<'a> {
    pub(crate) parts: &'a Parts,
    pub(crate) job: &'a Job,
    pub(crate) settings: Arc<Settings>,
    pub(crate) rules: Rules,
    pub(crate) reach: Reach,
    pub(crate) state: State,
    pub(crate) history: Vec<Exchange>,
    /// The session's persona and space.
    pub(crate) own: Own,
    /// Skills, and tools of other servers.
    pub(crate) backdrop: Backdrop,
    pub(crate) engine: Arc<Engine>,
    pub(crate) judges: Arc<Vec<Engine>>,
    pub(crate) cancel: Cancel,
    pub(crate) joiner: Joiner,
    /// Fires at the deadline. Moved when a parked run goes on.
    pub(crate) deadline: Pin<Box<Sleep>>,
    /// Monotonic time at which this stretch began, and the milliseconds that were spent before it.
    began: (Duration, u64),
}

/// What comes next.
pub(crate) enum Next {
    Input(Input),
    Left(Outcome),
}

/// How a stretch of a run came to its end.
pub(crate) enum Gone {
    /// With this terminal record, which is not written yet.
    Ended(EndKind, Ending),
    /// Without one.
    Left(Outcome),
}

/// The last of a list of actions: the one that takes time.
pub(crate) enum Last {
    Wait,
    Ask(Ask),
    Run(ToolCall),
    Write(Draft),
    End(EndKind, Ending),
}

impl<'a> Run<'a> {
    pub(crate) fn new(parts: &'a Parts, job: &'a Job, workspace: Arc<Workspace>, cancel: Cancel) -> Self {
        let settings = parts.settings.load();
        let judges = parts.judges.load();
        Self {
            parts,
            job,
            rules: Rules::new(&settings, judges.len()),
            deadline: Box::pin(sleep(settings.max_execution)),
            settings,
            reach: Reach { owner: job.owner, workspace, memory: parts.memory.clone(), skills: parts.skills.clone() },
            state: State::default(),
            history: Vec::new(),
            own: Own::default(),
            backdrop: Backdrop::default(),
            engine: parts.engine.load(),
            judges,
            cancel,
            joiner: Joiner::default(),
            began: (parts.clock.monotonic(), 0),
        }
    }

    /// A member of this run's group: it stands on the same ground, ends at the same deadline, whenever its turn comes, and has its own
    /// state, rules and canceller. Its job is its own, too, with its agent's id.
    pub(crate) fn member<'b>(&self, job: &'b Job, state: State, rules: Rules, cancel: Cancel) -> Run<'b>
    where
        'a: 'b,
    {
        Run {
            parts: self.parts,
            job,
            settings: self.settings.clone(),
            deadline: Box::pin(sleep_until(self.deadline())),
            rules,
            reach: self.reach.clone(),
            state,
            history: self.history.clone(),
            own: self.own.clone(),
            backdrop: self.backdrop.clone(),
            engine: self.engine.clone(),
            judges: self.judges.clone(),
            cancel,
            joiner: Joiner::default(),
            began: (self.parts.clock.monotonic(), 0),
        }
    }

    /// Goes on until the run ends or parks.
    pub(crate) async fn go(&mut self, first: Next) -> Result<Gone, StoreError> {
        let mut next = first;
        loop {
            let input = match next {
                Next::Input(input) => input,
                Next::Left(outcome) => return Ok(Gone::Left(outcome)),
            };
            let last = self.feed(input).await?;
            self.flush().await?;
            next = match last {
                Last::Wait => Next::Input(Input::Broken(Problem::internal("the run lost its way; please send the message again"))),
                // Boxed, here and below: futures within futures, each moved into the next, are what fills a small stack.
                Last::Ask(ask) => Next::Input(Box::pin(self.ask(ask)).await?),
                Last::Run(call) => Box::pin(self.tool(call)).await?,
                Last::Write(draft) => Next::Input(Input::Seeded(Box::new(self.write_seed(draft).await))),
                Last::End(kind, ending) => return Ok(Gone::Ended(kind, ending)),
            };
        }
    }

    /// The state is taken from a checkpoint: time goes on from what was spent then.
    pub(crate) fn go_on_from(&mut self, state: State) {
        self.began = (self.parts.clock.monotonic(), state.spent.millis);
        self.deadline.as_mut().reset(Instant::now() + self.rules.left(&state.spent));
        self.state = state;
    }

    /// When it has to be over.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline.deadline()
    }

    /// Comes at the deadline.
    pub(crate) async fn until_deadline(&mut self) {
        self.deadline.as_mut().await;
    }

    /// Why it is to stop, if it is.
    pub(crate) fn told_to_stop(&self) -> Option<Why> {
        self.cancel.why()
    }

    /// Active time so far goes into the state.
    pub(crate) fn note_time(&mut self) {
        let (since, before) = self.began;
        let active = self.parts.clock.monotonic().saturating_sub(since);
        self.state.spent.millis = before.saturating_add(u64::try_from(active.as_millis()).unwrap_or(u64::MAX));
    }

    /// Ends a run whose own work failed (a panic, a full disk): what was said stays.
    pub(crate) async fn end_broken(&mut self, problem: Problem) -> Result<Outcome, StoreError> {
        // What waits was not accepted by the log, or belongs to a step that did not finish.
        self.joiner = Joiner::default();
        self.state.hold = Default::default();
        match self.feed(Input::Broken(problem.clone())).await? {
            Last::End(kind, ending) => self.end(kind, ending).await,
            _ => {
                let ending =
                    Ending { text: self.state.answer.clone(), phase: self.state.reached, error: Some(problem), ..Ending::default() };
                self.end(EndKind::Failed, ending).await
            }
        }
    }

    /// One step, and all of its actions but the last.
    pub(crate) async fn feed(&mut self, input: Input) -> Result<Last, StoreError> {
        let mut last = Last::Wait;
        for action in step(&mut self.state, input, &self.rules) {
            match action {
                Action::Record(body) => {
                    self.tell(&body);
                    self.joiner.push(body);
                }
                Action::Show(text) => self.joiner.push(Body::Token { text }),
                Action::Draft(text) => self.joiner.push(Body::Draft { text, attempt: self.state.attempt }),
                Action::Evaluated(passed, score) => self.keep_evaluation(passed, score).await,
                Action::EvolutionMax => self.publish(Kind::EvolutionMaxReached, [("attempts", (self.state.attempt + 1).into())]),
                Action::Ask(ask) => last = Last::Ask(ask),
                Action::Run(call) => last = Last::Run(call),
                Action::Write(draft) => last = Last::Write(draft),
                Action::End(kind, ending) => last = Last::End(kind, ending),
            }
        }
        Ok(last)
    }

    pub(crate) async fn append(&mut self, bodies: Vec<Body>) -> Result<(), StoreError> {
        bodies.into_iter().for_each(|body| self.joiner.push(body));
        self.flush().await
    }

    pub(crate) async fn flush(&mut self) -> Result<(), StoreError> {
        let mut bodies = self.joiner.take(self.parts.clock.monotonic());
        if self.state.member.is_some() {
            bodies = bodies.into_iter().filter_map(|body| group::of_member(body, self.job.agent_id)).collect();
        }
        if bodies.is_empty() {
            return Ok(());
        }
        self.job.session.append(self.job.message_id, bodies).await.map(drop)
    }

    pub(crate) async fn end(&mut self, kind: EndKind, ending: Ending) -> Result<Outcome, StoreError> {
        let bytes = ending.text.len();
        let body = match kind {
            EndKind::Done => Body::Done(ending),
            EndKind::Failed => Body::Failed(ending),
            EndKind::Cancelled => Body::Cancelled(ending),
            EndKind::Interrupted => Body::Interrupted(ending),
        };
        self.append(vec![body]).await?;
        self.publish(Kind::AgentOutput, [("bytes", bytes.into())]);
        Ok(Outcome::Ended(kind))
    }

    async fn write_seed(&mut self, draft: Draft) -> Seed {
        let seed = Seed {
            id: SeedId::random(&*self.parts.random),
            owner: self.job.owner,
            session_id: self.job.session.id(),
            forks: Vec::new(),
            message_id: self.job.message_id,
            goal: draft.goal,
            constraints: draft.constraints,
            acceptance_criteria: draft.acceptance_criteria,
            ontology: draft.ontology,
            created_at: self.parts.clock.now(),
            generation: draft.generation,
            parent_seed_id: draft.parent,
            original_request: Some(self.state.request.clone()),
            output_schema: draft.output_schema,
            repair: draft.repair,
        };
        let (room, kept) = (self.parts.seeds.clone(), seed.clone());
        // The run works from its own copy: a seed that could not be kept costs the record of it, not the answer.
        if let Err(e) = blocking(move || room.save(&kept).map_err(|e| e.to_string())).await {
            log::warn("run", format_args!("seed {} was not kept: {e}", seed.id));
        }
        self.parts.agents.seeded(self.job.agent_id, seed.id);
        self.publish(Kind::SeedCreated, [("seed_id", seed.id.to_string().into()), ("generation", seed.generation.into())]);
        seed
    }

    async fn keep_evaluation(&mut self, passed: Option<bool>, score: Option<f64>) {
        let Some(seed_id) = self.state.seed.as_ref().map(|seed| seed.id) else { return };
        let judges = self.state.judged.clone();
        let evaluation = Evaluation { seed_id, owner: self.job.owner, passed, score, judges, created_at: self.parts.clock.now() };
        let room = self.parts.seeds.clone();
        if let Err(e) = blocking(move || room.save_evaluation(&evaluation).map_err(|e| e.to_string())).await {
            log::warn("run", format_args!("the evaluation of seed {seed_id} was not kept: {e}"));
        }
        let fields = [("seed_id", seed_id.to_string().into()), ("passed", passed.into()), ("score", score.into())];
        self.publish(Kind::EvaluationComplete, fields);
    }

    /// What a record means to the bus.
    fn tell(&self, body: &Body) {
        let Body::Phase { phase, state, verdict, score, .. } = body else { return };
        let name = serde_json::to_value(phase).unwrap_or_default();
        if *state == PhaseState::Started {
            self.publish(Kind::PhaseStarted, [("phase", name)]);
            if self.state.stage == Stage::Evolve {
                self.publish(Kind::EvolutionStarted, [("attempt", (self.state.attempt + 1).into())]);
            }
        } else {
            self.publish(Kind::PhaseCompleted, [("phase", name), ("verdict", verdict.clone().into()), ("score", (*score).into())]);
        }
    }

    pub(crate) fn publish<const N: usize>(&self, kind: Kind, more: [(&str, Value); N]) {
        let mut fields = Map::new();
        fields.insert("session_id".into(), self.job.session.id().to_string().into());
        fields.insert("message_id".into(), self.job.message_id.to_string().into());
        fields.insert("agent_id".into(), self.job.agent_id.to_string().into());
        fields.extend(more.into_iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.to_owned(), value)));
        self.parts.events.publish(self.job.owner, kind, fields);
    }

    pub(crate) fn memory_on(&self) -> bool {
        self.parts.memory.settings().enabled
    }
}

/// Runs what blocks on a thread that may; a panic there is an error here. It goes on when the caller stops waiting.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, String> {
    blocking::spawn(work).await.unwrap_or_else(|_| Err("it failed inside".to_owned()))
}
