//! What a run does, as a table: inputs on the left, actions on the right.

use super::*;
use crate::base::ids::{MessageId, OwnerId, SeedId, SessionId};
use crate::base::time::Timestamp;
use crate::llm::request::Usage;
use crate::orchestrator::Settings;
use crate::rooms::seeds::Seed;

fn rules() -> Rules {
    Rules::new(&Settings { max_model_calls: 12, ..Settings::default() }, 0)
}

fn text(t: &str) -> Input {
    Input::Text(t.into())
}
fn call(name: &str, arguments: &str) -> Input {
    Input::Call(ToolCall { id: String::new(), name: name.into(), arguments: arguments.into() })
}
fn ended() -> Input {
    Input::Ended(Ended { finish: Finish::Stop, model: "m".into(), usage: Usage { input_tokens: 10, output_tokens: 5 }, millis: 1 })
}
fn tool(content: &str) -> Input {
    Input::Tool { outcome: ToolOutcome::Ok, content: content.into() }
}
fn judged(passed: bool, score: f64) -> Input {
    text(&format!("{{\"passed\":{passed},\"score\":{score},\"notes\":\"n\",\"criteria\":[]}}"))
}

/// What a run does, as words; usage and checkpoints, which follow every call, are left out.
struct Play {
    state: State,
    rules: Rules,
    log: Vec<String>,
    seeds: u8,
    /// The specification that the end names.
    answered: Option<SeedId>,
}

impl Play {
    fn new(rules: Rules) -> Self {
        let state = State { message: "msg".into(), request: "msg".into(), ..State::default() };
        let mut play = Self { state, rules, log: Vec::new(), seeds: 0, answered: None };
        play.give(Input::Begin);
        play
    }

    fn give(&mut self, input: Input) -> &mut Self {
        let actions = step(&mut self.state, input, &self.rules);
        let waits = actions.iter().filter(|a| matches!(a, Action::Ask(_) | Action::Run(_) | Action::Write(_) | Action::End(..)));
        assert!(waits.count() <= 1, "{actions:?}");
        for action in actions {
            let line = match action {
                Action::Record(Body::Phase { phase, state: PhaseState::Started, .. }) => format!("+{phase:?}"),
                Action::Record(Body::Phase { phase, verdict, .. }) => format!("-{phase:?}:{}", verdict.unwrap_or_default()),
                Action::Record(_) => continue,
                Action::Show(t) => format!("show {t}"),
                Action::Draft(t) => format!("draft {t}"),
                Action::Evaluated(passed, _) => format!("evaluated {passed:?}"),
                Action::EvolutionMax => "max".into(),
                Action::Ask(ask) => match (ask.tools, ask.verdicts) {
                    (true, true) => "ask verdicts".into(),
                    (true, false) => "ask tools".into(),
                    _ => "ask plain".into(),
                },
                Action::Run(call) => format!("run {} {}", call.id, call.name),
                Action::Write(draft) => {
                    self.log.push(format!("write {} g{}", draft.goal, draft.generation));
                    self.seeds += 1;
                    let seed = seed_of(self.seeds, draft);
                    self.give(Input::Seeded(Box::new(seed)));
                    continue;
                }
                Action::End(kind, ending) => {
                    assert_eq!(ending.text, self.state.answer);
                    self.answered = ending.seed_id;
                    let code = ending.error.map(|p| format!(" {}", p.code)).unwrap_or_default();
                    format!("end {kind:?} {:?} {:?}{code}", ending.phase, ending.evaluation_passed)
                }
            };
            self.log.push(line);
        }
        self
    }

    fn all(&mut self, inputs: impl IntoIterator<Item = Input>) -> &mut Self {
        for input in inputs {
            self.give(input);
        }
        self
    }
}

fn seed_of(n: u8, draft: Draft) -> Seed {
    Seed {
        id: SeedId::derived(&[n; 32]),
        owner: OwnerId::derived(&[1; 32]),
        session_id: SessionId::derived(&[1; 32]),
        forks: Vec::new(),
        message_id: MessageId::derived(&[1; 32]),
        goal: draft.goal,
        constraints: draft.constraints,
        acceptance_criteria: draft.acceptance_criteria,
        ontology: draft.ontology,
        created_at: Timestamp::default(),
        generation: draft.generation,
        parent_seed_id: draft.parent,
        original_request: None,
        output_schema: draft.output_schema,
        repair: draft.repair,
    }
}

fn check(inputs: Vec<Input>, expected: &[&str]) {
    let mut play = Play::new(rules());
    play.all(inputs);
    assert_eq!(play.log, expected);
    // Whatever follows the end changes nothing.
    play.all([text("late"), ended(), Input::Stopped(Why::Asked)]);
    assert_eq!(play.log.len(), expected.len());
}

const TASK: &str = r#"{"goal":"g","acceptance_criteria":["a"]}"#;

#[test]
fn a_conversation_needs_one_call() {
    check(
        vec![text("Hel"), text("lo"), ended()],
        &["+Interview", "ask verdicts", "show Hel", "show lo", "-Interview:conversation", "end Done Interview None"],
    );
}

#[test]
fn a_tool_in_a_conversation_is_run_and_told() {
    check(
        vec![text("Look."), call("list_files", ""), call("nonsense", "{\"cut"), ended(), tool("a"), tool("b"), text("One."), ended()],
        &[
            "+Interview",
            "ask verdicts",
            "show Look.",
            "run call_1 list_files",
            "run call_2 nonsense",
            "ask tools",
            "show \n\n",
            "show One.",
            "-Interview:conversation",
            "end Done Interview None",
        ],
    );
}

#[test]
fn after_the_first_visible_token_it_is_a_conversation() {
    check(
        vec![text("Sure."), call("start_task", TASK), ended()],
        &["+Interview", "ask verdicts", "show Sure.", "-Interview:conversation", "end Done Interview None"],
    );
    check(
        vec![text("Look."), call("list_files", ""), ended(), tool("x"), text(TASK), ended()],
        &[
            "+Interview",
            "ask verdicts",
            "show Look.",
            "run call_1 list_files",
            "ask tools",
            "-Interview:conversation",
            "end Done Interview None",
        ],
    );
}

#[test]
fn a_task_passes_through_all_phases() {
    for verdict in [call("start_task", TASK), text(TASK), text(&format!("<think>hm</think>```json\n{TASK}\n```"))] {
        check(
            vec![verdict, ended(), text("Do"), text("ne"), ended(), judged(true, 0.9), ended()],
            &[
                "+Interview",
                "ask verdicts",
                "-Interview:task",
                "+Seed",
                "write g g0",
                "-Seed:direct",
                "+Execute",
                "ask tools",
                "draft Do",
                "draft ne",
                "-Execute:result",
                "+Evaluate",
                "ask plain",
                "evaluated Some(true)",
                "-Evaluate:passed",
                "show Done",
                "end Done Evaluate Some(true)",
            ],
        );
    }
}

#[test]
fn a_task_without_criteria_but_with_conditions_is_written_by_the_model() {
    let vague = r#"{"goal":"g","constraints":["c"]}"#;
    let mut play = Play::new(rules());
    play.all([call("start_task", vague), ended(), text("nonsense"), ended(), text("again"), ended()]);
    assert_eq!(play.log[3..], ["+Seed", "ask plain", "ask plain", "write g g0", "-Seed:degraded", "+Execute", "ask tools"]);
    let mut play = Play::new(rules());
    play.all([call("start_task", vague), ended(), text(r#"{"goal":"better","acceptance_criteria":["x"]}"#), ended()]);
    assert_eq!(play.log[3..], ["+Seed", "ask plain", "write better g0", "-Seed:written", "+Execute", "ask tools"]);
    assert_eq!(play.state.seed.as_ref().unwrap().constraints, ["c"]);
}

#[test]
fn unclear_requests_are_asked_about_and_not_for_ever() {
    let ask = r#"{"questions":["a?","b?","c?","d?"]}"#;
    check(
        vec![call("ask_user", ask), ended()],
        &["+Interview", "ask verdicts", "show Before I start:\n1. a?\n2. b?\n3. c?", "-Interview:unclear", "end Done Interview None"],
    );
    let mut play = Play::new(rules());
    play.state.rounds = interview::ROUNDS_MAX;
    play.all([call("ask_user", ask), ended()]);
    assert!(play.log.contains(&"write msg g0".to_owned()), "{:?}", play.log);
    let mut play = Play::new(rules());
    play.all([call("start_task", r#"{"goal":"g","goal_clarity":0.1}"#), ended()]);
    assert_eq!(play.log.last().unwrap(), "end Done Interview None");
    assert!(play.state.answer.ends_with('?'));
}

#[test]
fn a_failed_attempt_evolves_and_the_best_is_kept() {
    let evolved = r#"{"goal":"g2","repair":"r"}"#;
    let mut play = Play::new(Rules { evolutions: 1, ..rules() });
    play.all([call("start_task", TASK), ended(), text("one"), ended(), judged(false, 0.6), ended()]);
    play.all([text(evolved), ended(), text("two"), ended(), judged(false, 0.3), ended()]);
    assert_eq!(
        play.log[7..],
        [
            "ask tools",
            "draft one",
            "-Execute:result",
            "+Evaluate",
            "ask plain",
            "evaluated Some(false)",
            "-Evaluate:failed",
            "+Evolve",
            "ask plain",
            "write g2 g1",
            "-Evolve:repaired",
            "+Execute",
            "ask tools",
            "draft two",
            "-Execute:result",
            "+Evaluate",
            "ask plain",
            "evaluated Some(false)",
            "-Evaluate:failed",
            "max",
            "show one",
            "end Done Evolve Some(false)",
        ]
    );
}

#[test]
fn the_end_names_the_specification_that_its_text_is_a_result_of() {
    let (root, child) = (SeedId::derived(&[1; 32]), SeedId::derived(&[2; 32]));
    for (score, then, stopped, text_of, named) in [
        (0.6, (false, 0.3), false, "one", root),
        (0.3, (false, 0.6), false, "two", child),
        (0.6, (true, 0.5), false, "two", child),
        // What was said before a stop is the best so far, too.
        (0.6, (false, 0.3), true, "one", root),
    ] {
        let mut play = Play::new(Rules { evolutions: if stopped { 2 } else { 1 }, score: 0.5, ..rules() });
        play.all([call("start_task", TASK), ended(), text("one"), ended(), judged(false, score), ended()]);
        play.all([text(r#"{"goal":"g2","repair":"r"}"#), ended(), text("two"), ended(), judged(then.0, then.1), ended()]);
        if stopped {
            play.give(Input::Stopped(Why::Asked));
        }
        assert!(play.log.last().unwrap().starts_with("end"), "{:?}", play.log);
        assert_eq!((play.state.answer.as_str(), play.answered), (text_of, Some(named)), "{score} {then:?}");
    }
    // A state that an earlier version parked does not know.
    let mut play = Play::new(Rules { evolutions: 1, ..rules() });
    play.all([call("start_task", TASK), ended(), text("one"), ended(), judged(false, 0.6), ended()]);
    play.all([text(r#"{"goal":"g2","repair":"r"}"#), ended()]);
    play.state.best.as_mut().unwrap().seed = None;
    play.give(Input::Stopped(Why::Asked));
    assert_eq!(play.answered, Some(child));
}

#[test]
fn nonsense_judges_degrade_after_one_repair() {
    check(
        vec![call("start_task", TASK), ended(), text("Done"), ended(), text("fine!"), ended(), text("really"), ended()],
        &[
            "+Interview",
            "ask verdicts",
            "-Interview:task",
            "+Seed",
            "write g g0",
            "-Seed:direct",
            "+Execute",
            "ask tools",
            "draft Done",
            "-Execute:result",
            "+Evaluate",
            "ask plain",
            "ask plain",
            "evaluated None",
            "show Done",
            "-Evaluate:degraded",
            "end Done Evaluate None",
        ],
    );
}

#[test]
fn judges_beside_the_model_make_a_majority() {
    let mut play = Play::new(Rules { judges: 2, evolutions: 0, ..rules() });
    play.all([call("start_task", TASK), ended(), text("x"), ended()]);
    play.all([judged(false, 0.2), ended(), judged(true, 0.9), ended(), text("no JSON"), ended(), judged(true, 1.0), ended()]);
    assert_eq!(play.log.last().unwrap(), "end Done Evaluate Some(true)");
    assert_eq!(play.state.judged.len(), 3);
}

#[test]
fn a_refusal_is_told_and_not_asked_for_again() {
    let mut play = Play::new(rules());
    play.all([call("start_task", TASK), ended(), call("write_file", "{}"), ended()]);
    play.all([
        Input::Tool { outcome: ToolOutcome::Refused, content: "no".into() },
        text("Then not."),
        ended(),
        judged(false, 0.1),
        ended(),
    ]);
    assert_eq!(play.log.last().unwrap(), "end Done Evaluate Some(false)");
    assert_eq!(play.log.iter().filter(|l| *l == "+Evolve").count(), 0);
}

#[test]
fn empty_answers_end_with_words_and_endless_tools_with_a_failure() {
    check(
        vec![ended(), ended()],
        &["+Interview", "ask verdicts", "ask plain", &format!("show {NO_ANSWER}"), "-Interview:degraded", "end Done Interview None"],
    );
    for tools in [["list_files", "list_files"], ["no_such", "start_task"]] {
        let mut play = Play::new(rules());
        let mut calls = 0;
        while !play.log.last().unwrap().starts_with("end") {
            calls += 1;
            assert!(calls < 20);
            play.all(tools.map(|name| call(name, "{}")));
            play.give(ended());
            while play.state.running.is_some() {
                play.give(tool("x"));
            }
        }
        assert!(play.state.spent.calls <= 12);
        assert_eq!(play.log.last().unwrap(), "end Failed Interview None exhausted");
    }
    // Within a task as well.
    let mut play = Play::new(rules());
    play.all([call("start_task", TASK), ended()]);
    for _ in 0..40 {
        play.all([call("list_files", "{}"), ended()]);
        while play.state.running.is_some() {
            play.give(tool("x"));
        }
    }
    assert_eq!(play.log.last().unwrap(), "end Failed Evaluate Some(false) exhausted");
    assert!(play.state.spent.calls <= 12);
}

#[test]
fn tokens_are_a_budget_too() {
    let mut play = Play::new(Rules { tokens: 16, ..rules() });
    play.all([call("list_files", ""), ended(), tool("x"), call("list_files", ""), ended()]);
    assert_eq!(
        play.log[2..],
        ["run call_1 list_files", "ask plain", "-Interview:exhausted", "end Failed Interview None exhausted"].map(str::to_owned)
    );
}

#[test]
fn failures_and_stops_keep_what_was_said() {
    let failed = || Input::Failed(Failure::Other("broken".into()));
    check(
        vec![text("half"), failed()],
        &["+Interview", "ask verdicts", "show half", "-Interview:failed", "end Failed Interview None model"],
    );
    for (why, end) in [
        (Why::Asked, "end Cancelled Interview None cancelled"),
        (Why::Replaced, "end Cancelled Interview None cancelled"),
        (Why::Deleted, "end Cancelled Interview None cancelled"),
        (Why::Deadline, "end Failed Interview None deadline"),
        (Why::Shutdown, "end Interrupted Interview None interrupted"),
    ] {
        let mut play = Play::new(rules());
        play.all([text("half"), Input::Stopped(why)]);
        assert_eq!((play.log.last().unwrap().as_str(), play.state.answer.as_str()), (end, "half"));
    }
    let mut play = Play::new(rules());
    play.all([call("start_task", TASK), ended(), text("half a"), failed()]);
    assert_eq!(play.log[8..], ["draft half a", "show half a", "-Execute:failed", "end Failed Execute None model"]);
    // A judge that cannot be reached costs its judgement, not the result.
    let mut play = Play::new(rules());
    play.all([call("start_task", TASK), ended(), text("all"), ended(), failed()]);
    assert_eq!(play.log.last().unwrap(), "end Done Evaluate None");
    assert_eq!(play.state.answer, "all");
}

/// A key's budget that is used up on the way ends the run with its own word, unless there is something to show.
#[test]
fn a_call_that_is_not_paid_for_ends_the_run_and_keeps_what_there_is() {
    let unpaid = || Input::Failed(Failure::Unpaid("token_budget", "used up".into()));
    check(vec![unpaid()], &["+Interview", "ask verdicts", "-Interview:failed", "end Failed Interview None token_budget"]);
    let mut play = Play::new(rules());
    play.all([call("start_task", TASK), ended(), unpaid()]);
    assert_eq!(play.log.last().unwrap(), "end Failed Execute None token_budget");
    let mut play = Play::new(rules());
    play.all([call("start_task", TASK), ended(), text("all"), ended(), unpaid()]);
    assert_eq!((play.log.last().unwrap().as_str(), play.state.answer.as_str()), ("end Done Evaluate None", "all"));
    let mut play = Play::new(rules());
    play.all([call("start_task", TASK), ended(), text("best"), ended(), judged(false, 0.5), ended(), unpaid()]);
    assert_eq!((play.log.last().unwrap().as_str(), play.state.answer.as_str()), ("end Done Evolve Some(false)", "best"));
}

#[test]
fn a_conversation_that_does_not_fit_is_tried_with_less() {
    let long = || Input::Failed(Failure::TooLong("too long".into()));
    let mut play = Play::new(rules());
    play.all([long(), long(), long()]);
    assert_eq!(play.log[1..], ["ask verdicts", "ask verdicts", "ask verdicts", "-Interview:failed", "end Failed Interview None model"]);
    assert_eq!(play.state.shrunk, 2);
}

#[test]
fn tool_calls_in_text_are_run() {
    let mut play = Play::new(rules());
    play.all([text(r#"{"name":"read_file","arguments":{"path":"a"}}"#), ended()]);
    assert_eq!(play.log.last().unwrap(), "run call_1 read_file");
    assert_eq!(play.state.running.as_ref().unwrap().arguments, r#"{"path":"a"}"#);
}

#[test]
fn arguments_that_are_no_json_do_not_go_back() {
    let mut play = Play::new(rules());
    play.all([call("read_file", "{\"path\": \"a"), ended()]);
    let Message::Assistant { calls, .. } = &play.state.transcript[0] else { panic!() };
    assert_eq!(calls[0].arguments, "{}");
    assert_eq!(play.state.running.as_ref().unwrap().arguments, "{\"path\": \"a");
}

#[test]
fn the_state_survives_its_checkpoint() {
    let mut play = Play::new(rules());
    play.all([call("start_task", TASK), ended(), text("one"), call("write_file", "{}"), ended()]);
    let value = serde_json::to_value(&play.state).unwrap();
    play.state = serde_json::from_value(value.clone()).unwrap();
    assert_eq!(serde_json::to_value(&play.state).unwrap(), value);
    play.all([tool("wrote"), text("Done"), ended(), judged(true, 1.0), ended()]);
    assert_eq!(play.log.last().unwrap(), "end Done Evaluate Some(true)");
}

/// A model's answers in any order end the run within its budget, with one end and the shown text as its text.
#[test]
fn any_order_of_answers_ends() {
    let pieces: Vec<fn() -> Input> = vec![
        || text("words "),
        || text("{"),
        || text(TASK),
        || text("<think>"),
        || call("start_task", TASK),
        || call("ask_user", "{}"),
        || call("list_files", "{}"),
        || judged(false, 0.5),
        || Input::Failed(Failure::TooLong("t".into())),
    ];
    let mut seed = 1_u64;
    for _ in 0..500 {
        let mut play = Play::new(rules());
        let mut inputs = 0;
        while !play.log.last().unwrap().starts_with("end") {
            inputs += 1;
            assert!(inputs < 400, "{:?}", play.log);
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let pick = (seed >> 33) as usize % (pieces.len() + 2);
            if play.state.running.is_some() {
                play.give(tool("x"));
            } else if let Some(piece) = pieces.get(pick) {
                play.give(piece());
            } else {
                play.give(ended());
            }
        }
        let shown: String = play.log.iter().filter_map(|l| l.strip_prefix("show ")).collect();
        assert_eq!(shown, play.state.answer);
        assert!(play.state.spent.calls <= 12);
        let opened = play.log.iter().filter(|l| l.starts_with('+')).count();
        assert_eq!(opened, play.log.iter().filter(|l| l.starts_with('-')).count(), "every phase that began ended: {:?}", play.log);
    }
}
