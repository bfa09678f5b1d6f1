//! Phase Interview: is it a conversation, a clear task, or unclear?

use serde_json::{Map, Value, json};

use crate::llm::request::ToolSpec;
use crate::orchestrator::structured::QUESTIONS_MAX;

/// A task is ready at this ambiguity or less.
const READY: f64 = 0.2;
/// After so many rounds of questions the work begins with what is known.
pub(crate) const ROUNDS_MAX: u32 = 3;

/// Ambiguity = 1 − (0.4·goal + 0.3·constraints + 0.3·success criteria), each clarity 0 to 1. What the model did not rate is
/// clear: it chose to start. `Err` holds what to ask, the least clear first.
pub(crate) fn ready(arguments: &Map<String, Value>) -> Result<(), Vec<String>> {
    let clarity = |name: &str| arguments.get(name).and_then(Value::as_f64).map_or(1.0, |c| c.clamp(0.0, 1.0));
    let mut parts = [
        (clarity("goal_clarity"), 0.4, "What exactly should be there in the end?"),
        (clarity("constraint_clarity"), 0.3, "What has to be kept to, or left alone?"),
        (clarity("criteria_clarity"), 0.3, "How will you know that it is done well?"),
    ];
    let ambiguity = 1.0 - parts.iter().map(|(clarity, weight, _)| clarity * weight).sum::<f64>();
    // Half a millionth is below what three rated decimals can mean, and above what their sum loses.
    if ambiguity <= READY + 5e-7 {
        return Ok(());
    }
    parts.sort_by(|a, b| (a.0).total_cmp(&b.0));
    Err(parts.iter().filter(|(clarity, ..)| *clarity < 1.0).take(QUESTIONS_MAX).map(|(.., question)| (*question).to_owned()).collect())
}

/// Questions as the user sees them.
pub(crate) fn questions_text(questions: &[String]) -> String {
    match questions {
        [one] => one.clone(),
        many => {
            let lines: Vec<String> = many.iter().enumerate().map(|(n, q)| format!("{}. {q}", n + 1)).collect();
            format!("Before I start:\n{}", lines.join("\n"))
        }
    }
}

/// The original request and the answers so far as one text.
pub(crate) fn joined(original: &str, rounds: &[(String, String)]) -> String {
    rounds.iter().fold(original.to_owned(), |text, (questions, answer)| {
        format!("{text}\n\n[You asked:]\n{questions}\n[The user answered:]\n{answer}")
    })
}

/// The verdicts as tools; `ask_user` only while there is something left to ask.
pub(crate) fn verdict_tools(rounds: u32) -> Vec<ToolSpec> {
    let list = json!({"type": "array", "items": {"type": "string"}});
    let clarity = json!({"type": "number", "minimum": 0, "maximum": 1});
    let mut tools = vec![ToolSpec {
        name: "start_task".into(),
        description: "The message is a clear task: something is to be made, changed or worked out in steps. Starts the work on it. \
                      Not for talk and questions: answer those."
            .into(),
        parameters: json!({
            "type": "object",
            "properties": {
                "goal": {"type": "string", "description": "what is to be reached, complete in itself"},
                "constraints": list.clone(),
                "acceptance_criteria": list.clone(),
                "goal_clarity": clarity.clone(), "constraint_clarity": clarity.clone(), "criteria_clarity": clarity,
            },
            "required": ["goal"],
        }),
    }];
    if rounds < ROUNDS_MAX {
        tools.push(ToolSpec {
            name: "ask_user".into(),
            description: "The message is a task that is too unclear to begin. Asks the user at most three short questions.".into(),
            parameters: json!({
                "type": "object",
                "properties": {"questions": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": QUESTIONS_MAX}},
                "required": ["questions"],
            }),
        });
    }
    tools
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ambiguity_is_weighed_as_designed() {
        for (goal, constraints, criteria, asked) in [
            (1.0, 1.0, 1.0, 0),
            (0.5, 1.0, 1.0, 0), // 0.2
            (0.49, 1.0, 1.0, 1),
            (0.8, 0.8, 0.8, 0), // 0.2
            (0.79, 0.8, 0.8, 3),
            (1.0, 0.0, 1.0, 1),
            (1.0, 0.5, 0.5, 2),
            (0.0, 0.0, 0.0, 3),
        ] {
            let arguments = json!({"goal_clarity": goal, "constraint_clarity": constraints, "criteria_clarity": criteria});
            let asked_for = ready(arguments.as_object().unwrap()).map_or_else(|q| q.len(), |()| 0);
            assert_eq!(asked_for, asked, "{goal} {constraints} {criteria}");
        }
        assert_eq!(ready(&Map::new()), Ok(()));
    }
}
