//! Phase Evolve: a failed evaluation makes a child of the specification with the smallest repair.

use serde_json::{Value, json};

use crate::llm::request::Schema;
use crate::orchestrator::seed::{self, Draft};
use crate::orchestrator::structured::object;
use crate::rooms::seeds::Seed;

/// A repair, in characters.
const REPAIR_CHARS_MAX: usize = 2000;

/// A model's answer as the child; `None` if it is none.
pub(crate) fn read(text: &str, parent: &Seed) -> Option<Draft> {
    let object = object(text)?;
    let repair: String = object.get("repair").and_then(Value::as_str)?.trim().chars().take(REPAIR_CHARS_MAX).collect();
    if repair.is_empty() {
        return None;
    }
    Some(Draft::read(&object)?.child_of(parent, repair))
}

/// The child where no model could write it: the same task, with what was wrong as the repair.
pub(crate) fn plain(parent: &Seed, complaints: &str) -> Draft {
    let repair = match complaints.trim() {
        "" => "the result was not good enough; go through every criterion".to_owned(),
        said => said.chars().take(REPAIR_CHARS_MAX).collect(),
    };
    Draft::of_goal(&parent.goal).child_of(parent, repair)
}

/// What the model's answer must look like.
pub(crate) fn schema() -> Schema {
    Schema { name: "evolution".into(), schema: seed::shape(json!({"repair": {"type": "string"}})) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{MessageId, OwnerId, SeedId, SessionId};
    use crate::base::time::Timestamp;

    #[test]
    fn the_child_keeps_what_is_not_named() {
        let parent = Seed {
            id: SeedId::derived(&[1; 32]),
            owner: OwnerId::derived(&[1; 32]),
            session_id: SessionId::derived(&[1; 32]),
            forks: Vec::new(),
            message_id: MessageId::derived(&[1; 32]),
            goal: "g".into(),
            constraints: vec!["c".into()],
            acceptance_criteria: vec!["a".into()],
            ontology: vec![],
            created_at: Timestamp::default(),
            generation: 1,
            parent_seed_id: None,
            original_request: None,
            output_schema: None,
            repair: None,
        };
        let child = read(r#"{"goal":"g2","acceptance_criteria":["b"],"repair":"more"}"#, &parent).unwrap();
        assert_eq!((child.generation, child.parent), (2, Some(parent.id)));
        assert_eq!(
            (child.goal.as_str(), &child.constraints, &child.acceptance_criteria),
            ("g2", &parent.constraints, &vec!["b".to_owned()])
        );
        assert_eq!(read(r#"{"goal":"g2"}"#, &parent), None);
        assert_eq!(plain(&parent, "x is missing").repair.as_deref(), Some("x is missing"));
    }
}
