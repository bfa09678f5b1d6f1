//! Specifications of tasks (API A6): list, detail, and what each repair of one came to.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::api::{self, App, Call, blocking};
use crate::base::ids::SeedId;
use crate::base::time::Timestamp;
use crate::http::Response;
use crate::http::error::HttpError;
use crate::rooms::seeds::{Evaluation, Seed};

/// A specification, in short.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct SeedItem {
    /// Its id.
    id: SeedId,
    /// What is to be reached.
    goal: String,
    /// How many things must be kept to.
    constraints_count: usize,
    /// When it was written.
    created_at: Timestamp,
}

/// A specification.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct SeedDetail {
    /// Its id.
    id: SeedId,
    /// What is to be reached.
    goal: String,
    /// What must be kept to.
    constraints: Vec<String>,
    /// How one knows that it is reached.
    acceptance_criteria: Vec<String>,
    /// The things it speaks of.
    ontology: Vec<Thing>,
    /// When it was written.
    created_at: Timestamp,
    /// 0 for the first, one more for each repair.
    generation: u32,
    /// The specification that it repairs.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_seed_id: Option<SeedId>,
    /// What the user said.
    #[serde(skip_serializing_if = "Option::is_none")]
    original_request: Option<String>,
    /// JSON schema of the result, where the result is data.
    #[serde(skip_serializing_if = "Option::is_none")]
    output_schema: Option<Value>,
}

/// A thing that a specification speaks of.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Thing {
    /// Its name.
    name: String,
    /// What kind of thing.
    entity_type: String,
    /// What it is.
    description: String,
}

/// One step of a lineage.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct SeedStep {
    /// The specification.
    id: SeedId,
    /// 0 for the root.
    generation: u32,
    /// What is to be reached.
    goal: String,
    /// The step before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_id: Option<SeedId>,
    /// How well it was met, 0 to 1; absent where nobody could judge or it was not judged yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f64>,
    /// It was met well enough; absent as `score`.
    #[serde(skip_serializing_if = "Option::is_none")]
    passed: Option<bool>,
}

#[cfg(test)]
pub(super) fn shapes(all: &mut api::shapes::Shapes) {
    all.answers::<api::Listed<SeedItem>>("SeedPage");
    all.answers::<SeedDetail>("SeedDetail");
    all.answers::<Vec<SeedStep>>("SeedEvolution");
}

/// `GET /api/seeds`: newest first.
pub(crate) async fn list(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (owner, page) = (call.caller()?.owner(), call.page()?);
    let (seeds, total) = blocking(move || app.seeds.list(owner, page.skip(), page.limit)).await?;
    let item =
        |seed: Seed| SeedItem { id: seed.id, goal: seed.goal, constraints_count: seed.constraints.len(), created_at: seed.created_at };
    api::json(&page.part(seeds.into_iter().map(item).collect(), total))
}

/// `GET /api/seeds/{id}`.
pub(crate) async fn detail(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (owner, id) = (call.caller()?.owner(), id(&call)?);
    let seed = blocking(move || app.seeds.find(owner, id)).await?;
    let thing =
        |thing: crate::rooms::seeds::Thing| Thing { name: thing.name, entity_type: thing.entity_type, description: thing.description };
    api::json(&SeedDetail {
        id: seed.id,
        goal: seed.goal,
        constraints: seed.constraints,
        acceptance_criteria: seed.acceptance_criteria,
        ontology: seed.ontology.into_iter().map(thing).collect(),
        created_at: seed.created_at,
        generation: seed.generation,
        parent_seed_id: seed.parent_seed_id,
        original_request: seed.original_request,
        output_schema: seed.output_schema,
    })
}

/// `GET /api/seeds/{id}/evolution`: the lineage of any of its members, root first.
pub(crate) async fn evolution(app: Arc<App>, call: Call) -> Result<Response, HttpError> {
    let (owner, id) = (call.caller()?.owner(), id(&call)?);
    let lineage = blocking(move || app.seeds.lineage(owner, id)).await?;
    let step = |(seed, evaluation): (Seed, Option<Evaluation>)| SeedStep {
        id: seed.id,
        generation: seed.generation,
        goal: seed.goal,
        parent_id: seed.parent_seed_id,
        score: evaluation.as_ref().and_then(|evaluation| evaluation.score),
        passed: evaluation.as_ref().and_then(|evaluation| evaluation.passed),
    };
    api::json(&lineage.into_iter().map(step).collect::<Vec<_>>())
}

fn id(call: &Call) -> Result<SeedId, HttpError> {
    SeedId::parse(call.param("id")).map_err(|_| HttpError::bad_request("id: expected a UUID in lower case"))
}
