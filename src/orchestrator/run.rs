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
use crate::base::limits::{JSON_DEPTH_MAX, RESULT_BYTES_MAX, RESULT_INLINE_BYTES_MAX};
use crate::base::log;
use crate::base::text::beginning;
use crate::events::Kind;
use crate::llm::error::Kind as LlmKind;
use crate::llm::request::{Event, Finish, Tally, ToolCall};
use crate::llm::{Engine, LlmError};
use crate::orchestrator::backdrop::Backdrop;
use crate::orchestrator::budget::Rules;
use crate::orchestrator::foreign;
use crate::orchestrator::group;
use crate::orchestrator::history::Exchange;
use crate::orchestrator::join::Joiner;
use crate::orchestrator::prompt::{Ground, Own, request};
use crate::orchestrator::recorded::UNRECORDED;
use crate::orchestrator::seed::Draft;
use crate::orchestrator::state::{Action, Ask, Ended, Failure, Input, Stage, State};
use crate::orchestrator::step::step;
use crate::orchestrator::tools::{self, Reach, Shown, Tool};
use crate::orchestrator::{EndKind, Job, Outcome, Parts, Settings};
use crate::rooms::seeds::{Evaluation, Seed};
use crate::rooms::workspace::Workspace;
use crate::store::StoreError;
use crate::store::audit::What;
use crate::store::keys::Reservation;
use crate::store::record::{Body, Ending, PhaseState, Problem, ToolOutcome};
use crate::wire::json;

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
    engine: Arc<Engine>,
    judges: Arc<Vec<Engine>>,
    cancel: Cancel,
    joiner: Joiner,
    /// Fires at the deadline. Moved when a parked run goes on.
    deadline: Pin<Box<Sleep>>,
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
enum Last {
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

    /// Stops it.
    pub(crate) fn cancel(&self) -> &Cancel {
        &self.cancel
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
    async fn feed(&mut self, input: Input) -> Result<Last, StoreError> {
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

    async fn flush(&mut self) -> Result<(), StoreError> {
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

    // --- model calls ---

    /// One model call from its request to its end. The pieces of its text go through `step` as they come.
    async fn ask(&mut self, ask: Ask) -> Result<Input, StoreError> {
        let engine = self.engine_of(ask.stage);
        let engine = match &engine {
            Asked::Model(engine) => engine.as_ref(),
            Asked::Judge(judges, n) => match judges.get(*n) {
                Some(engine) => engine,
                None => return Ok(Input::Failed(Failure::Other("there is no such judge".into()))),
            },
        };
        let ground = Ground {
            history: &self.history,
            context: engine.context_tokens(),
            memory: self.memory_on(),
            own: &self.own,
            backdrop: &self.backdrop,
            group: self.rules.group,
        };
        let request = request(&self.state, ask, &ground);
        // Once a stage: they are the same from call to call.
        if ask.tools && self.state.turns == 1 {
            let all = self.backdrop.offered(ask.stage == Stage::Execute && self.state.may_ask()).count();
            let told = request.tools.iter().filter(|tool| self.backdrop.find(&tool.name).is_some()).count();
            if told < all {
                log::info(
                    "run",
                    format_args!("of {all} tools of other servers {told} are offered: engine.context_tokens has no room for more"),
                );
            }
        }
        let mut tally = Tally::new(&request);
        let mut reserved = match self.reserve(engine.tokens_at_most(&request)).await {
            Ok(reserved) => reserved,
            Err(input) => return Ok(input),
        };
        let began = self.parts.clock.monotonic();
        let mut counted = self.counts_call(engine.model_name());
        let mut call = engine.call(request, &self.cancel);
        let mut finish = None;
        loop {
            reserved.used(tally.usage().total());
            let due = self.joiner.due(self.parts.clock.monotonic());
            let event = tokio::select! {
                biased;
                why = self.cancel.cancelled() => return Ok(Input::Stopped(why)),
                () = self.deadline.as_mut() => return Ok(Input::Stopped(Why::Deadline)),
                () = async { sleep(due.unwrap_or_default()).await }, if due.is_some_and(|d| !d.is_zero()) => {
                    self.flush().await?;
                    continue;
                }
                event = call.next() => event,
            };
            counted.piece(self.parts.clock.monotonic());
            if let Ok(Some(event)) = &event {
                tally.saw(event);
            }
            let input = match event {
                Ok(Some(Event::Text(text))) => Input::Text(text),
                Ok(Some(Event::Call(call))) => Input::Call(call),
                Ok(Some(Event::Usage(_) | Event::Logprobs(_))) => continue,
                Ok(Some(Event::Finish(why))) => {
                    finish = Some(why);
                    continue;
                }
                Ok(None) => break,
                Err(error) => {
                    counted.failed();
                    reserved.used(tally.failed(&error).total());
                    return Ok(Input::Failed(self.failure(error)));
                }
            };
            self.feed(input).await?;
            if self.joiner.due(self.parts.clock.monotonic()).is_some_and(|due| due.is_zero()) {
                self.flush().await?;
            }
        }
        self.note_time();
        let millis = u64::try_from(self.parts.clock.monotonic().saturating_sub(began).as_millis()).unwrap_or(u64::MAX);
        let used = tally.usage();
        counted.done(used.input_tokens, used.output_tokens);
        let finish = finish.unwrap_or(Finish::Stop);
        Ok(Input::Ended(Ended { finish, model: call.model().to_owned(), usage: used, millis }))
    }

    /// Tokens of the key's budget for one model call; the input is what came instead of them.
    async fn reserve(&mut self, tokens: u64) -> Result<Reservation, Input> {
        tokio::select! {
            biased;
            why = self.cancel.cancelled() => Err(Input::Stopped(why)),
            () = self.deadline.as_mut() => Err(Input::Stopped(Why::Deadline)),
            reserved = self.job.purse.reserve(tokens) => reserved.map_err(|refused| {
                log::warn("run", format_args!("message {}: {}", self.job.message_id, refused.private()));
                Input::Failed(Failure::Unpaid(refused.code(), refused.to_string()))
            }),
        }
    }

    fn engine_of(&self, stage: Stage) -> Asked {
        match stage {
            Stage::Evaluate(n) if n > 0 => Asked::Judge(self.judges.clone(), n - 1),
            _ => Asked::Model(self.engine.clone()),
        }
    }

    pub(crate) fn context_tokens(&self) -> u32 {
        self.engine.context_tokens()
    }

    pub(crate) fn history_bytes(&self) -> usize {
        self.engine.history_bytes()
    }

    fn failure(&self, error: LlmError) -> Failure {
        match error.kind {
            LlmKind::Cancelled(why) => Failure::Stopped(why),
            kind => {
                log::warn("run", format_args!("message {}: {}", self.job.message_id, error.private));
                if kind == LlmKind::ContextTooLong { Failure::TooLong(error.public) } else { Failure::Other(error.public) }
            }
        }
    }

    // --- tools ---

    /// A tool call: run at once, or a question to a person.
    async fn tool(&mut self, call: ToolCall) -> Result<Next, StoreError> {
        if call.name == group::SPLIT && group::may_split(&self.state, &self.rules) {
            return Box::pin(self.split(&call)).await;
        }
        if let Some((theirs, risky)) = self.backdrop.find(&call.name).map(|tool| (tool.theirs.clone(), tool.risky)) {
            return Box::pin(self.foreign_tool(&call, &theirs, risky)).await;
        }
        let Some(tool) = tools::find(&call.name).filter(|tool| tool.usable(self.memory_on())) else {
            let task = self.state.may_ask();
            let names: Vec<_> =
                tools::offered(task, self.memory_on()).into_iter().chain(self.backdrop.offered(task)).map(|t| t.name).collect();
            return self
                .refuse(&call, ToolOutcome::Error, format!("there is no tool `{}`; there are: {}", call.name, names.join(", ")))
                .await;
        };
        if tool.is_risky() && !self.state.may_ask() {
            return self.refuse(&call, ToolOutcome::Error, self.not_here(&call.name)).await;
        }
        let arguments = match tool.arguments(&call.arguments) {
            Ok(arguments) => arguments,
            Err(problem) => return self.refuse(&call, ToolOutcome::Error, problem).await,
        };
        if tool.is_risky() {
            return match self.look(tool, arguments).await {
                Ok(Ok(shown)) => Box::pin(self.park(&call, shown)).await,
                Ok(Err(problem)) => self.refuse(&call, ToolOutcome::Error, problem).await,
                Err(input) => Ok(Next::Input(input)),
            };
        }
        self.append(vec![called(&call, Value::Object(arguments.clone()), false)]).await?;
        if self.parts.audit.admit().is_err() {
            return self.tool_said(&call.id, ToolOutcome::Error, UNRECORDED.to_owned()).await;
        }
        // Recorded also where the run is stopped while it works.
        let mut recorded = self.records(What::Tool(tool.name));
        let work = tool.run(self.reach.clone(), arguments);
        let said = tokio::select! {
            biased;
            why = self.cancel.cancelled() => return Ok(Next::Input(Input::Stopped(why))),
            () = self.deadline.as_mut() => return Ok(Next::Input(Input::Stopped(Why::Deadline))),
            said = work => said,
        };
        recorded.done(said.is_ok());
        match (call.name.as_str(), &said) {
            ("remember", Ok(_)) => self.publish(Kind::MemoryStored, []),
            ("recall", Ok(_)) => self.publish(Kind::MemoryRecalled, []),
            _ => {}
        }
        let outcome = if said.is_ok() { ToolOutcome::Ok } else { ToolOutcome::Error };
        self.tool_said(&call.id, outcome, said.unwrap_or_else(|text| text)).await
    }

    /// What a risky tool would do; the input is what came instead.
    pub(crate) async fn look(&mut self, tool: &Tool, arguments: Map<String, Value>) -> Result<Result<Shown, String>, Input> {
        tokio::select! {
            biased;
            why = self.cancel.cancelled() => Err(Input::Stopped(why)),
            () = self.deadline.as_mut() => Err(Input::Stopped(Why::Deadline)),
            shown = tool.show(self.reach.clone(), arguments) => Ok(shown),
        }
    }

    /// Why a risky tool is not for this run, or not yet.
    fn not_here(&self, name: &str) -> String {
        match self.state.member {
            Some(_) => {
                format!("`{name}` is not for a member of a group; write down what should be done with it, and it will be done later")
            }
            None => format!("`{name}` works within a task only; call start_task if the user wants this done"),
        }
    }

    /// A call of another server's tool: made at once, or a question to a person.
    async fn foreign_tool(&mut self, call: &ToolCall, theirs: &str, risky: bool) -> Result<Next, StoreError> {
        if risky && !self.state.may_ask() {
            return self.refuse(call, ToolOutcome::Error, self.not_here(&call.name)).await;
        }
        match foreign::arguments(&call.arguments) {
            Ok(arguments) if risky => Box::pin(self.park(call, foreign::shown(&call.name, theirs, &arguments))).await,
            Ok(arguments) => Box::pin(self.call_foreign(call, theirs, arguments, false)).await,
            Err(problem) => self.refuse(call, ToolOutcome::Error, problem).await,
        }
    }

    /// A call that is not carried out: call and answer go into the log together.
    pub(crate) async fn refuse(&mut self, call: &ToolCall, outcome: ToolOutcome, text: String) -> Result<Next, StoreError> {
        let arguments = json::parse(call.arguments.as_bytes(), JSON_DEPTH_MAX)
            .unwrap_or_else(|_| Value::String(call.arguments.chars().take(2000).collect()));
        let record = called(call, arguments, false);
        let result = Body::ToolResult { call_id: call.id.clone(), outcome, content: text.clone(), blob: None };
        self.append(vec![record, result]).await?;
        Ok(Next::Input(Input::Tool { outcome, content: text }))
    }

    /// A tool's answer goes into the log (a large one into its own file) and to the model.
    pub(crate) async fn tool_said(&mut self, call_id: &str, outcome: ToolOutcome, mut text: String) -> Result<Next, StoreError> {
        if text.len() > RESULT_BYTES_MAX {
            text.truncate(beginning(&text, RESULT_BYTES_MAX).len());
            text.push_str("\n[cut here]");
        }
        let (content, blob) = if text.len() > RESULT_INLINE_BYTES_MAX {
            let blob = self.job.session.put_blob(text.clone().into_bytes()).await?;
            (beginning(&text, RESULT_INLINE_BYTES_MAX).to_owned(), Some(blob))
        } else {
            (text.clone(), None)
        };
        self.append(vec![Body::ToolResult { call_id: call_id.to_owned(), outcome, content, blob }]).await?;
        Ok(Next::Input(Input::Tool { outcome, content: text }))
    }

    // --- seeds ---

    async fn write_seed(&mut self, draft: Draft) -> Seed {
        let seed = Seed {
            id: SeedId::random(&*self.parts.random),
            owner: self.job.owner,
            session_id: self.job.session.id(),
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

    // --- events ---

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

    fn memory_on(&self) -> bool {
        self.parts.memory.settings().enabled
    }
}

/// Who is asked.
enum Asked {
    Model(Arc<Engine>),
    Judge(Arc<Vec<Engine>>, usize),
}

/// The record of a call.
pub(crate) fn called(call: &ToolCall, arguments: Value, risky: bool) -> Body {
    Body::ToolCall { call_id: call.id.clone(), name: call.name.clone(), arguments, risky, agent_id: None }
}

/// Runs what blocks on a thread that may; a panic there is an error here. It goes on when the caller stops waiting.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, String> {
    blocking::spawn(work).await.unwrap_or_else(|_| Err("it failed inside".to_owned()))
}
