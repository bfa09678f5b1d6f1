//! The types that routes read their JSON bodies into, by the names of the route table: what a fuzzer tries to confuse.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::{
    Empty, chat, cron_jobs, engine, keys, login, memory, personas, session_change, session_fork, session_import, skills, spaces, v1,
    workspace,
};
use crate::base::limits::{IMPORT_VALUES_MAX, JSON_DEPTH_MAX};
use crate::wire::json::{self, BadJson};

/// Reads a body as a route does and forgets it.
pub(crate) type Read = fn(&[u8]) -> Result<(), BadJson>;

/// All of them.
pub(crate) const BODIES: &[(&str, Read)] = &[
    ("ChatCompletionRequest", read::<v1::completions::ChatCompletionRequest>),
    ("ChatRequest", read::<chat::Said>),
    ("ConfigChange", read::<Value>),
    ("CronJobChange", read::<cron_jobs::CronJobChange>),
    (Empty::NAME, read::<Empty>),
    ("KeyToTry", read::<engine::KeyToTry>),
    ("LoginRequest", read::<login::LoginRequest>),
    ("MemoryChange", read::<memory::MemoryChange>),
    ("MemoryQuery", read::<memory::MemoryQuery>),
    ("NewCronJob", read::<cron_jobs::NewCronJob>),
    ("NewEngineKey", read::<engine::NewEngineKey>),
    ("NewFile", read::<workspace::NewFile>),
    ("NewKey", read::<keys::NewKey>),
    ("NewMemory", read::<memory::NewMemory>),
    ("NewModel", read::<engine::NewModel>),
    ("NewSkill", read::<skills::NewSkill>),
    ("PersonaChoice", read::<personas::PersonaChoice>),
    ("PersonaText", read::<personas::PersonaText>),
    ("Rotation", read::<keys::Rotation>),
    ("SessionChange", read::<session_change::SessionChange>),
    ("SessionFork", read::<session_fork::SessionFork>),
    ("SessionImport", |body| json::parse_within::<session_import::SessionImport>(body, JSON_DEPTH_MAX, IMPORT_VALUES_MAX).map(drop)),
    ("SpaceChange", read::<spaces::SpaceChange>),
    ("SpaceMerge", read::<spaces::SpaceMerge>),
    ("SpaceText", read::<spaces::SpaceText>),
];

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<(), BadJson> {
    json::parse::<T>(body, JSON_DEPTH_MAX).map(drop)
}

#[test]
fn every_row_that_takes_json_is_here() {
    // A message of MCP is read by `wire::json_rpc`, which has a target of its own; `*/*` is no JSON.
    let mut taken: Vec<_> =
        crate::api::routes::ROUTES.iter().map(|row| row.takes).filter(|name| !["", "*/*", "McpMessage"].contains(name)).collect();
    taken.sort_unstable();
    taken.dedup();
    assert_eq!(taken, BODIES.iter().map(|(name, _)| *name).collect::<Vec<_>>());
}
