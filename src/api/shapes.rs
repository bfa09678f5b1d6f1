//! What requests and replies look like, by the names that rows of the route table use. Each api file adds its own; the OpenAPI
//! document is made from them. For tests only: the server carries the finished document.

use std::collections::BTreeMap;

use schemars::generate::{Contract, SchemaGenerator, SchemaSettings};
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use crate::api::routes::ROUTES;
use crate::api::{
    Empty, agents, approvals, audit, chat, config, cron_jobs, engine, keys, login, mcp, mcp_servers, memory, metrics, personas, seeds,
    session_change, session_fork, session_import, sessions, skills, spaces, system, tickets, v1, workspace,
};
use crate::base::ids::PATTERN;

/// A text that is not blank.
pub(super) const SAID: &str = r"\S";
/// One line that is not blank.
pub(super) const LINE: &str = r"^[^\x00-\x1F\x7F-\x9F]*[^\s\x00-\x1F\x7F-\x9F][^\x00-\x1F\x7F-\x9F]*$";
/// One line, or nothing.
pub(super) const LINE_OR_NOTHING: &str = r"^[^\x00-\x1F\x7F-\x9F]*$";
/// A path in the workspace.
pub(super) const PATH: &str = r"^[^\x00]+$";
/// A kind of memory.
pub(super) const MEMORY_TYPE: &str = "^(fact|episode|knowledge)$";

/// The id of something, or nothing.
pub(super) fn id_or_nothing() -> String {
    format!("^$|{PATTERN}")
}

/// Schemas of all named types.
pub(super) struct Shapes {
    /// A field with a default may be left out of a request, and is always in a reply.
    requests: SchemaGenerator,
    replies: SchemaGenerator,
    named: BTreeMap<&'static str, Schema>,
}

impl Shapes {
    /// A body that a row takes.
    pub(super) fn takes<T: JsonSchema>(&mut self, name: &'static str) {
        let schema = self.requests.subschema_for::<T>();
        self.name(name, schema);
    }

    /// A body that a row answers.
    pub(super) fn answers<T: JsonSchema>(&mut self, name: &'static str) {
        let schema = self.replies.subschema_for::<T>();
        self.name(name, schema);
    }

    fn name(&mut self, name: &'static str, schema: Schema) {
        assert!(self.named.insert(name, schema).is_none(), "two shapes are named {name}");
    }

    /// Of every file.
    pub(super) fn all() -> Map<String, Value> {
        let generator = |contract| {
            let mut settings = SchemaSettings::draft2020_12();
            settings.definitions_path = "/components/schemas".into();
            // What JSON's readers here take of whole numbers, where a type says nothing narrower.
            settings.transforms.push(Box::new(RecursiveTransform(bounded)));
            settings.contract = contract;
            settings.into_generator()
        };
        let mut all = Self { requests: generator(Contract::Deserialize), replies: generator(Contract::Serialize), named: BTreeMap::new() };
        for add in [
            agents::shapes,
            approvals::shapes,
            audit::shapes,
            chat::shapes,
            config::shapes,
            cron_jobs::shapes,
            engine::shapes,
            keys::shapes,
            login::shapes,
            mcp::shapes,
            mcp_servers::shapes,
            memory::shapes,
            metrics::shapes,
            personas::shapes,
            seeds::shapes,
            session_change::shapes,
            session_fork::shapes,
            session_import::shapes,
            sessions::shapes,
            skills::shapes,
            spaces::shapes,
            system::shapes,
            tickets::shapes,
            v1::shapes,
            workspace::shapes,
        ] {
            add(&mut all);
        }
        all.takes::<Empty>(Empty::NAME);
        all.finish()
    }

    fn finish(mut self) -> Map<String, Value> {
        let mut schemas = Map::new();
        for (name, schema) in self.requests.take_definitions(true).into_iter().chain(self.replies.take_definitions(true)) {
            let other = schemas.insert(name.clone(), schema.clone());
            assert!(other.is_none_or(|other| other == schema), "{name} looks different in requests and in replies; make it two types");
        }
        for (name, schema) in self.named {
            // A type may be called as its row calls it, or otherwise (a list of things has no name of its own).
            if schema.as_value() != &json!({"$ref": format!("#/components/schemas/{name}")}) {
                let other = schemas.insert(name.to_owned(), schema.to_value());
                assert!(other.is_none(), "{name} is the name of a type and of another shape");
            }
        }
        schemas
    }
}

fn bounded(schema: &mut Schema) {
    // Says nothing that "may be left out" does not, and is no value of some types.
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
    let most = match schema.get("format").and_then(Value::as_str) {
        Some("uint64" | "uint") => u64::MAX,
        Some("uint32") => u64::from(u32::MAX),
        _ => return,
    };
    schema.as_object_mut().map(|schema| schema.entry("maximum").or_insert(most.into()));
}

#[test]
fn every_row_names_shapes_that_exist() {
    let shapes = Shapes::all();
    let unknown = ROUTES.iter().flat_map(|row| [row.takes, row.answers.1].map(|name| (row, name)));
    let unknown = unknown.filter(|(_, name)| !name.is_empty() && !name.contains('/') && !shapes.contains_key(*name));
    let unknown: Vec<_> = unknown.map(|(row, name)| format!("{} {}: {name}", row.method, row.path)).collect();
    assert!(unknown.is_empty(), "add them in `shapes` of their file: {unknown:#?}");
}
