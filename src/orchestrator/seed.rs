//! Phase Seed: from a verdict, or a model's answer, to a specification.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::base::ids::SeedId;
use crate::llm::request::Schema;
use crate::orchestrator::structured::{goal, texts};
use crate::rooms::seeds::{Seed, Thing};

/// A longer goal without criteria is no simple task: a model writes its specification. In bytes.
const SIMPLE_GOAL_BYTES_MAX: usize = 400;
/// Things of an ontology that are kept.
const THINGS_MAX: usize = 30;
/// A goal, in characters; a message may be long, a goal is what is left of it.
const GOAL_CHARS_MAX: usize = 4000;

/// A specification without id and time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Draft {
    /// What is to be reached.
    pub(crate) goal: String,
    /// What must be kept to.
    pub(crate) constraints: Vec<String>,
    /// How one knows that it is reached.
    pub(crate) acceptance_criteria: Vec<String>,
    /// The things it speaks of.
    pub(crate) ontology: Vec<Thing>,
    /// JSON schema of the result, where the result is data.
    pub(crate) output_schema: Option<Value>,
    /// 0 for the first.
    pub(crate) generation: u32,
    /// What it repairs.
    pub(crate) parent: Option<SeedId>,
    /// What is repaired.
    pub(crate) repair: Option<String>,
}

impl Draft {
    /// From the arguments of `start_task` or a model's specification; `None` without a goal.
    pub(crate) fn read(object: &Map<String, Value>) -> Option<Self> {
        Some(Self {
            goal: goal(object)?.chars().take(GOAL_CHARS_MAX).collect(),
            constraints: texts(object.get("constraints")),
            acceptance_criteria: texts(object.get("acceptance_criteria")),
            ontology: things(object.get("ontology")),
            output_schema: object.get("output_schema").filter(|schema| schema.as_object().is_some_and(|o| !o.is_empty())).cloned(),
            ..Self::default()
        })
    }

    /// A task whose goal is all there is.
    pub(crate) fn of_goal(goal: &str) -> Self {
        Self { goal: goal.chars().take(GOAL_CHARS_MAX).collect(), ..Self::default() }
    }

    /// It is a specification as it stands: it has criteria, or it is short and without conditions.
    pub(crate) fn is_simple(&self) -> bool {
        !self.acceptance_criteria.is_empty() || (self.constraints.is_empty() && self.goal.len() <= SIMPLE_GOAL_BYTES_MAX)
    }

    /// The child of a specification: what is missing in it stays as it was.
    pub(crate) fn child_of(mut self, parent: &Seed, repair: String) -> Self {
        let keep = |new: &mut Vec<String>, old: &Vec<String>| {
            if new.is_empty() {
                new.clone_from(old);
            }
        };
        keep(&mut self.constraints, &parent.constraints);
        keep(&mut self.acceptance_criteria, &parent.acceptance_criteria);
        if self.ontology.is_empty() {
            self.ontology.clone_from(&parent.ontology);
        }
        Self {
            output_schema: parent.output_schema.clone(),
            generation: parent.generation + 1,
            parent: Some(parent.id),
            repair: Some(repair),
            ..self
        }
    }
}

/// A specification as a model reads it. The offline model reads it too: the words before the colons are fixed.
pub(crate) fn text(seed: &Seed) -> String {
    let mut text = format!("Goal: {}\n", seed.goal);
    let mut list = |title: &str, items: &[String]| {
        if !items.is_empty() {
            text.push_str(title);
            items.iter().for_each(|item| {
                text.push_str("\n- ");
                text.push_str(item);
            });
            text.push('\n');
        }
    };
    list("Constraints:", &seed.constraints);
    list("Acceptance criteria:", &seed.acceptance_criteria);
    let things: Vec<String> = seed.ontology.iter().map(|t| format!("{} ({}): {}", t.name, t.entity_type, t.description)).collect();
    list("Things:", &things);
    if let Some(schema) = &seed.output_schema {
        text.push_str(&format!("The result is JSON of this schema: {schema}\n"));
    }
    if let Some(repair) = &seed.repair {
        text.push_str(&format!("Repair: {repair}\n"));
    }
    text
}

/// What the model's answer must look like.
pub(crate) fn schema() -> Schema {
    Schema { name: "seed".into(), schema: shape(json!({})) }
}

/// The shape of a specification, with further properties.
pub(crate) fn shape(more: Value) -> Value {
    let list = json!({"type": "array", "items": {"type": "string"}});
    let thing = json!({
        "type": "object",
        "properties": {"name": {"type": "string"}, "entity_type": {"type": "string"}, "description": {"type": "string"}},
        "required": ["name", "entity_type", "description"],
        "additionalProperties": false,
    });
    let mut properties = json!({
        "goal": {"type": "string"}, "constraints": list, "acceptance_criteria": list, "ontology": {"type": "array", "items": thing},
    });
    let mut required = vec!["goal", "constraints", "acceptance_criteria", "ontology"];
    if let (Value::Object(all), Value::Object(more)) = (&mut properties, &more) {
        for (name, value) in more {
            all.insert(name.clone(), value.clone());
            required.push(name);
        }
    }
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn things(value: Option<&Value>) -> Vec<Thing> {
    let Some(Value::Array(items)) = value else { return Vec::new() };
    let field = |item: &Value, name: &str| texts(item.get(name)).into_iter().next().unwrap_or_default();
    items
        .iter()
        .map(|item| Thing { name: field(item, "name"), entity_type: field(item, "entity_type"), description: field(item, "description") })
        .filter(|thing| !thing.name.is_empty())
        .take(THINGS_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(value: Value) -> Option<Draft> {
        Draft::read(value.as_object().unwrap())
    }

    #[test]
    fn what_models_write_is_read_leniently() {
        let full = draft(json!({
            "goal": " g ", "constraints": "one", "acceptance_criteria": ["a", 7, ""],
            "ontology": [{"name": "n", "entity_type": "t"}, {"entity_type": "nameless"}, 3],
        }))
        .unwrap();
        assert_eq!(
            (full.goal.as_str(), &full.constraints[..], &full.acceptance_criteria[..]),
            ("g", &["one".to_owned()][..], &["a".to_owned()][..])
        );
        assert_eq!(full.ontology.len(), 1);
        assert_eq!(draft(json!({"goal": ""})), None);
        assert_eq!(draft(json!({"constraints": []})), None);
    }

    #[test]
    fn simple_tasks_need_no_model() {
        assert!(draft(json!({"goal": "short"})).unwrap().is_simple());
        assert!(draft(json!({"goal": "x".repeat(500), "acceptance_criteria": ["a"]})).unwrap().is_simple());
        assert!(!draft(json!({"goal": "x".repeat(500)})).unwrap().is_simple());
        assert!(!draft(json!({"goal": "short", "constraints": ["c"]})).unwrap().is_simple());
    }
}
