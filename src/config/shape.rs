//! What `PUT /api/config` takes, as a JSON schema made from the table of keys; and the OpenAPI document, which it belongs to. For
//! tests only: the server carries the finished document.

use serde_json::{Map, Value as Json, json};

use super::json::HIDDEN;
use super::keys::{KEYS, Key};
use super::value::Kind;
use crate::api::openapi::{DOCUMENT, written::written};

/// The sections, each an object of its keys; what is not named stays.
fn change() -> Json {
    let mut sections: Map<String, Json> = Map::new();
    let mut server = Map::new();
    for key in KEYS {
        if key.is_free() {
            server.insert(key.name().to_owned(), shape(key));
        } else {
            let section = sections.entry(key.section()).or_insert_with(|| object(Map::new()));
            section["properties"][key.name()] = shape(key);
        }
    }
    // GET and PUT tell these, so they may come back.
    sections["engine"]["properties"]["api_key_set"] = json!({"description": "Read only; ignored."});
    sections.insert("restart_required".to_owned(), json!({"description": "Read only; ignored."}));
    let name = r"^(?!.*__)[A-Za-z0-9_-]{0,31}[A-Za-z0-9-]$";
    let mut server = object(server);
    server["type"] = json!(["object", "null"]);
    let servers = json!({"type": "object", "description": "By name; null takes one out.", "patternProperties": {name: server}, "additionalProperties": false});
    sections.insert("mcp".to_owned(), object(Map::from_iter([("servers".to_owned(), servers)])));
    let mut all = object(sections);
    all["description"] = "Sections of the configuration, each an object of its keys. What is not named stays; null takes a key out of the file. Some keys are checked further.".into();
    all
}

fn object(properties: Map<String, Json>) -> Json {
    json!({"type": "object", "properties": properties, "additionalProperties": false})
}

fn shape(key: &Key) -> Json {
    let text = || json!({"type": "string", "pattern": r"^[^\x00\n\r]+$"});
    let mut shape = match key.kind {
        Kind::Text => text(),
        Kind::Whole(min, max) => json!({"type": "integer", "minimum": min, "maximum": max}),
        Kind::Decimal(min, max) => json!({"type": "number", "minimum": min, "maximum": max}),
        Kind::Bool => json!({"type": "boolean"}),
        Kind::OneOf(words) => json!({"type": "string", "enum": words}),
        Kind::List => json!({"type": "array", "items": text()}),
        Kind::Secrets => json!({"type": "object", "additionalProperties": text()}),
    };
    shape = json!({"anyOf": [shape, {"type": "null"}]});
    let secret = if key.secret { format!(" `{HIDDEN}` keeps what is there.") } else { String::new() };
    shape["description"] = format!("{}{secret}", key.meaning).into();
    shape
}

#[test]
fn openapi_is_what_the_table_the_types_and_the_keys_say() {
    let written = written(change());
    if std::env::var_os("REWRITE").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/api/openapi.json"), &written).unwrap();
    } else {
        assert!(DOCUMENT == written, "src/api/openapi.json is behind; run REWRITE=1 cargo test --lib openapi");
    }
}
