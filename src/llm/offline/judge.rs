//! Judging by words, and repairing what the judgement missed.

use std::collections::HashSet;

use serde_json::json;

use crate::llm::offline::found::meaning;
use crate::llm::offline::work::{DO_AGAIN, GO_THROUGH, Spec};
use crate::llm::offline::{Reply, turn};
use crate::llm::request::Request;
use crate::wire::words;

/// Judges a result mechanically: `{"passed","score","notes","criteria"}`.
pub(super) fn evaluate(request: &Request) -> Reply {
    let (said, _) = turn(request);
    let (spec, result) = said.split_once("\nResult:\n").unwrap_or((said, ""));
    let spec = Spec::read(spec);
    let said: HashSet<String> = all_words(result);
    let criteria: Vec<_> = spec.criteria.iter().map(|criterion| (criterion, met(criterion, result, &said))).collect();
    let failed: Vec<&str> = result.lines().filter_map(|line| line.strip_prefix("Failed: ")).collect();
    let nothing = spec.criteria.is_empty() && result.lines().any(|line| line.starts_with("Nothing found about"));
    let count = criteria.iter().filter(|(_, met)| *met).count();
    let mut score = if criteria.is_empty() { 1.0 } else { count as f64 / criteria.len() as f64 };
    if !failed.is_empty() || nothing {
        score *= 0.5;
    }
    let mut notes = vec!["Judged by words only (offline model).".to_owned()];
    if nothing {
        notes.push("Something was looked for and not found.".to_owned());
    }
    // The repair reads these lines: the step is what stands before the reason.
    notes.extend(failed.iter().map(|step| format!("failed: {}", step.split(" (").next().unwrap_or_default())));
    let criteria: Vec<_> = criteria.iter().map(|(criterion, met)| json!({"criterion": criterion, "met": met})).collect();
    let passed = score == 1.0;
    Reply::say(json!({"passed": passed, "score": score, "notes": notes.join("\n"), "criteria": criteria}).to_string())
}

/// Repairs a specification: the next attempt goes through what was not met, and does again what failed.
pub(super) fn evolve(request: &Request) -> Reply {
    let (said, _) = turn(request);
    let said = said.split_once("\nResult:\n").map_or(said, |(before, _)| before);
    let (spec, wrong) = said.split_once("\nWhat is wrong:\n").unwrap_or((said, ""));
    let spec = Spec::read(spec);
    // What an earlier repair named stays named: else it would be missing again.
    let (mut through, mut again) = (spec.go_through, Vec::new());
    for line in wrong.lines() {
        if let Some(criterion) = line.strip_prefix("not met: ").filter(|c| without(c).is_none() && !through.iter().any(|t| t == c)) {
            through.push(criterion.to_owned());
        } else if let Some(step) = line.strip_prefix("failed: ") {
            again.push(step.to_owned());
        }
    }
    let mut repair = Vec::new();
    if !through.is_empty() {
        repair.push(format!("{GO_THROUGH}{}", through.join("; ")));
    }
    if !again.is_empty() {
        repair.push(format!("{DO_AGAIN}{}", again.join("; ")));
    }
    if repair.is_empty() {
        repair.push("I know no repair for this; the same once more.".to_owned());
    }
    let (goal, constraints, criteria) = (spec.goal, spec.constraints, spec.criteria);
    let seed =
        json!({"goal": goal, "constraints": constraints, "acceptance_criteria": criteria, "ontology": [], "repair": repair.join("\n")});
    Reply::say(seed.to_string())
}

/// A criterion's first word that only says that the rest is to occur.
const SAYING: [&str; 8] = ["mentions", "names", "says", "contains", "includes", "lists", "shows", "has"];

/// The rule of the module's head: all words and every quotation occur; for `without …` none of the words does.
fn met(criterion: &str, result: &str, said: &HashSet<String>) -> bool {
    if let Some(rest) = without(criterion) {
        return !meaning(rest).iter().any(|word| said.contains(word));
    }
    let criterion = match criterion.trim().split_once(' ') {
        Some((first, rest)) if SAYING.iter().any(|word| first.eq_ignore_ascii_case(word)) => rest,
        _ => criterion,
    };
    let mut quoted = criterion.split('"').skip(1).step_by(2);
    quoted.all(|text| result.contains(text)) && meaning(criterion).iter().all(|word| said.contains(word))
}

/// What must not occur, for a criterion that says so.
fn without(criterion: &str) -> Option<&str> {
    let (first, rest) = criterion.trim().split_once(' ')?;
    ["without", "no", "not"].iter().any(|word| first.eq_ignore_ascii_case(word)).then_some(rest)
}

fn all_words(text: &str) -> HashSet<String> {
    let mut all = HashSet::new();
    words::each(text, |word| {
        all.insert(word.to_owned());
    });
    all
}
