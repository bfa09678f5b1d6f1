//! Phase Evaluate: mechanical, then semantic, then (where configured) by further judges.

use serde_json::{Value, json};

use crate::llm::request::Schema;
use crate::orchestrator::structured::{object, texts};
use crate::orchestrator::{schema as json_schema, tools};
use crate::rooms::seeds::{Criterion, Judgement, Seed};

/// Notes of a judge that are kept, in characters.
const NOTES_CHARS_MAX: usize = 2000;

/// What can be seen without understanding: there is a result, it is no stray tool call, and it has the shape that was asked
/// for. `Some` is a failure.
pub(crate) fn mechanical(seed: &Seed, result: &str) -> Option<Judgement> {
    let fails =
        |notes: &str| Some(Judgement { judge: "mechanical".into(), passed: false, score: 0.0, notes: notes.into(), criteria: Vec::new() });
    if result.trim().is_empty() {
        return fails("there is no result");
    }
    let stray =
        object(result).is_some_and(|o| o.get("name").and_then(Value::as_str).is_some_and(tools::known) && o.contains_key("arguments"));
    if stray && result.trim_start().starts_with('{') {
        return fails("the result is a tool call written as text");
    }
    if let Some(schema) = &seed.output_schema {
        let Some(value) = object(result) else { return fails("the result is no JSON object") };
        if let Err(problem) = json_schema::check(schema, &Value::Object(value)) {
            return fails(&format!("the result does not fit its schema: {problem}"));
        }
    }
    None
}

/// A judge's answer; `None` if it is none. Passing needs the judge's word, the score, and no criterion named as not met.
pub(crate) fn read(text: &str, judge: &str, least: f64) -> Option<Judgement> {
    let object = object(text)?;
    let said = object.get("passed").and_then(Value::as_bool)?;
    let score = object.get("score").and_then(Value::as_f64).filter(|s| (0.0..=1.0).contains(s))?;
    let notes = object.get("notes").and_then(Value::as_str).unwrap_or_default().chars().take(NOTES_CHARS_MAX).collect();
    let criteria: Vec<Criterion> = match object.get("criteria") {
        Some(Value::Array(items)) => items
            .iter()
            .filter_map(|item| {
                Some(Criterion { criterion: texts(item.get("criterion")).into_iter().next()?, met: item.get("met")?.as_bool()? })
            })
            .collect(),
        _ => Vec::new(),
    };
    let passed = said && score >= least && criteria.iter().all(|c| c.met);
    Some(Judgement { judge: judge.to_owned(), passed, score, notes, criteria })
}

/// Several judgements as one: more than half must pass; the score is their mean. `None` where there is none.
pub(crate) fn consensus(judged: &[Judgement]) -> Option<(bool, f64)> {
    if judged.is_empty() {
        return None;
    }
    let passed = judged.iter().filter(|j| j.passed).count();
    let score = judged.iter().map(|j| j.score).sum::<f64>() / judged.len() as f64;
    Some((passed * 2 > judged.len(), score))
}

/// What was wrong, for the repair: the notes of those that did not pass, and the criteria that were not met.
pub(crate) fn complaints(judged: &[Judgement]) -> String {
    let mut lines: Vec<String> = Vec::new();
    for judgement in judged.iter().filter(|j| !j.passed) {
        lines.extend((!judgement.notes.is_empty()).then(|| judgement.notes.clone()));
        lines.extend(judgement.criteria.iter().filter(|c| !c.met).map(|c| format!("not met: {}", c.criterion)));
    }
    lines.join("\n")
}

/// What a judge's answer must look like.
pub(crate) fn schema() -> Schema {
    let criterion = json!({
        "type": "object",
        "properties": {"criterion": {"type": "string"}, "met": {"type": "boolean"}},
        "required": ["criterion", "met"],
        "additionalProperties": false,
    });
    Schema {
        name: "evaluation".into(),
        schema: json!({
            "type": "object",
            "properties": {
                "passed": {"type": "boolean"}, "score": {"type": "number"}, "notes": {"type": "string"},
                "criteria": {"type": "array", "items": criterion},
            },
            "required": ["passed", "score", "notes", "criteria"],
            "additionalProperties": false,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_judgement_needs_word_score_and_criteria() {
        for (text, passed) in [
            (r#"{"passed":true,"score":0.8,"notes":"","criteria":[]}"#, Some(true)),
            (r#"{"passed":true,"score":0.79}"#, Some(false)),
            (r#"{"passed":false,"score":1}"#, Some(false)),
            (r#"{"passed":true,"score":1,"criteria":[{"criterion":"a","met":false}]}"#, Some(false)),
            ("```json\n{\"passed\":true,\"score\":1}\n```", Some(true)),
            (r#"{"passed":true,"score":7}"#, None),
            (r#"{"passed":"yes","score":1}"#, None),
            (r#"{"score":1}"#, None),
            ("it is fine", None),
        ] {
            assert_eq!(read(text, "m", 0.8).map(|j| j.passed), passed, "{text}");
        }
    }

    #[test]
    fn more_than_half_must_pass() {
        let one = |passed, score| Judgement { judge: "j".into(), passed, score, notes: "n".into(), criteria: vec![] };
        assert_eq!(consensus(&[]), None);
        assert_eq!(consensus(&[one(true, 1.0)]), Some((true, 1.0)));
        assert_eq!(consensus(&[one(true, 1.0), one(false, 0.5)]), Some((false, 0.75)));
        assert_eq!(consensus(&[one(true, 1.0), one(false, 0.5), one(true, 0.9)]).map(|c| c.0), Some(true));
        assert_eq!(complaints(&[one(true, 1.0), one(false, 0.5)]), "n");
    }
}
