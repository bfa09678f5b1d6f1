//! The OpenAPI 3.1 document: what the route table and the named types say, written down. A test makes it from them and compares;
//! `REWRITE=1 cargo test --lib openapi` writes it anew. The server only hands it out.

use std::sync::Arc;

use hyper::header::{self, HeaderValue};

use crate::api::{App, Call};
use crate::http::error::HttpError;
use crate::http::{Body, Response};

/// The document.
pub const DOCUMENT: &str = include_str!("openapi.json");

/// `GET /api/openapi.json`.
pub(crate) async fn document(_app: Arc<App>, _call: Call) -> Result<Response, HttpError> {
    let mut response = Response::new(Body::full(DOCUMENT));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use hyper::Method;
    use serde_json::{Map, Value, json};

    use crate::api::routes::{Access, Entry, ROUTES, RateClass, Route};
    use crate::api::shapes::Shapes;

    /// Answers of single rows besides what every row of their kind may answer: status, shape.
    const MORE: &[(&str, &str, u16, &str)] = &[
        ("GET", "/health/ready", 503, "Ready"),
        ("POST", "/api/chat", 202, "ChatWaits"),
        ("POST", "/api/chat", 404, "Error"),
        ("POST", "/api/chat", 502, "Error"),
        ("POST", "/api/chat", 504, "Error"),
    ];

    /// Rows whose own errors have no body (API A1).
    const SILENT: &[(&str, &str)] =
        &[("DELETE", "/api/sessions/{id}"), ("POST", "/api/approvals/{id}/approve"), ("POST", "/api/approvals/{id}/reject")];

    /// Refusals: name in the document, text, whether there is `{"error"}` with it.
    const REFUSALS: &[(&str, &str, bool)] = &[
        ("400", "Something in the request is malformed; the text names it.", true),
        ("400-silent", "Something in the request is malformed; the text names it.", false),
        ("401", "No credential, or a wrong one; WWW-Authenticate says why.", false),
        ("403", "The Origin may not call, or the key has not the scope.", true),
        ("404", "There is none of this id, or it is another owner's.", true),
        ("404-silent", "There is none of this id, or it is another owner's.", false),
        ("408", "The body did not come.", true),
        ("409", "What is there now does not allow it.", true),
        ("409-silent", "What is there now does not allow it.", false),
        ("413", "The body is larger than this route takes.", true),
        ("415", "The body must be JSON.", true),
        ("421", "The Host is not one of this server's.", true),
        ("422", "The body is JSON of another shape; the text names the field.", true),
        ("426", "Only a WebSocket upgrade is answered here.", true),
        ("429", "Too many requests, wrong credentials, or messages that wait; see Retry-After.", false),
        ("500", "Our fault; the log has it under the request's id.", true),
        ("500-silent", "Our fault; the log has it under the request's id.", false),
        ("503", "Too much waits, or the server stops; see Retry-After.", true),
        ("507", "The disk is full.", true),
    ];

    /// One line for each path and shape, so that a change is seen; no other white space, so that little goes over the wire.
    fn written() -> String {
        let lines = |all: Map<String, Value>| {
            let lines: Vec<_> = all.iter().map(|(name, value)| format!("{}:{value}", Value::from(name.as_str()))).collect();
            lines.join(",\n")
        };
        let mut shapes = Shapes::all();
        shapes.insert(
            "Error".into(),
            json!({"type": "object", "description": "What went wrong, and what to do.", "required": ["error"], "additionalProperties": false,
                "properties": {"error": {"type": "string", "description": "For people."}}}),
        );
        let info = json!({"title": "oxios-edge", "version": env!("CARGO_PKG_VERSION"),
            "description": "An AI agent behind HTTP. Refusals come in one order: 421 Host, 403 Origin, 401 or 429 credential, 404 or 405, 403 scope, 429 rate, 413, 415, 400, 422."});
        let refusals: Map<String, Value> = REFUSALS
            .iter()
            .map(|(name, says, told)| {
                let mut answer = json!({"description": says});
                if *told {
                    answer["content"] = content("Error");
                }
                ((*name).to_owned(), answer)
            })
            .collect();
        let refusals = Value::Object(refusals);
        let schemes = json!({
            "key": {"type": "http", "scheme": "bearer", "description": "An API key; the first one is in <home>/token."},
            "cookie": {"type": "apiKey", "in": "cookie", "name": "oxios",
                "description": "From POST /api/login; counts only with what the server's own page asks, which Origin tells."},
            "ticket": {"type": "apiKey", "in": "query", "name": "ticket", "description": "From POST /api/chat/ticket; works once."}});
        format!(
            "{{\"openapi\":\"3.1.0\",\"info\":{info},\"paths\":{{\n{}\n}},\"components\":{{\"securitySchemes\":{schemes},\n\"responses\":{refusals},\n\"schemas\":{{\n{}\n}}}}}}\n",
            lines(paths()),
            lines(shapes)
        )
    }

    fn paths() -> Map<String, Value> {
        let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
        for row in ROUTES {
            let path = row.path.replace("{*", "{");
            paths.entry(path).or_default().insert(row.method.as_str().to_lowercase(), operation(row));
        }
        paths.into_iter().map(|(path, operations)| (path, Value::Object(operations))).collect()
    }

    fn operation(row: &Route) -> Value {
        let words: Vec<_> = row.path.split(['/', '{', '}', '*', '-', '.']).filter(|word| !word.is_empty()).collect();
        let area = words.iter().find(|word| **word != "api").unwrap_or(&"system");
        let mut operation = json!({
            "operationId": format!("{}_{}", row.method.as_str().to_lowercase(), words.join("_")),
            "tags": [area],
            "summary": row.summary,
            "responses": responses(row),
            "security": security(row),
        });
        if let Access::Scope(scope) = row.access {
            operation["description"] = format!("Needs a key with the scope `{}`.", scope.name()).into();
        }
        let parameters: Vec<Value> = in_path(row.path).chain(in_query(row)).collect();
        if !parameters.is_empty() {
            operation["parameters"] = parameters.into();
        }
        if !row.takes.is_empty() {
            // What may be left out is said by a type whose every field may.
            let required = row.takes != "Rotation";
            operation["requestBody"] = json!({"required": required, "content": content(row.takes),
                "description": format!("At most {} bytes.", row.body_max)});
        }
        operation
    }

    fn security(row: &Route) -> Value {
        match (row.access, row.entry) {
            (Access::Public, _) => json!([]),
            (_, Entry::Header) => json!([{"key": []}, {"cookie": []}]),
            (_, Entry::Ticket | Entry::Socket) => json!([{"key": []}, {"cookie": []}, {"ticket": []}]),
        }
    }

    fn in_path(path: &'static str) -> impl Iterator<Item = Value> {
        path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).map(move |name| {
            let (name, schema) = match name {
                "id" => ("id", json!({"type": "string", "format": "uuid"})),
                name if path.starts_with("/api/memory/") => (name, json!({"type": "string", "format": "uuid"})),
                name => {
                    (name.trim_start_matches('*'), json!({"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[a-z0-9-]+$"}))
                }
            };
            json!({"name": name, "in": "path", "required": true, "schema": schema})
        })
    }

    fn in_query(row: &Route) -> impl Iterator<Item = Value> {
        // Credentials are told by `security`.
        row.query.iter().filter(|name| !matches!(**name, "ticket" | "token")).map(|name| {
            let (schema, says) = match *name {
                "page" => (json!({"type": "integer", "minimum": 0, "maximum": 1_000_000_000, "default": 1}), "Which page, from 1."),
                "limit" => (
                    json!({"type": "integer", "minimum": 0, "maximum": 1_000_000_000, "default": 50}),
                    "Items on a page; above 500 is 500.",
                ),
                "after" => (json!({"type": "integer", "minimum": 0, "maximum": 1_000_000_000}), "Only what came after this place."),
                "until" => (json!({"type": "string", "enum": ["done", "idle"]}), "When the stream ends by itself."),
                "format" => (json!({"type": "string"}), "How it is written."),
                _ => (json!({"type": "string"}), "See the summary."),
            };
            json!({"name": name, "in": "query", "required": false, "schema": schema, "description": says})
        })
    }

    /// Every success and refusal that the row can answer with, by API A1.
    fn responses(row: &Route) -> Value {
        let mut all: BTreeMap<u16, Value> = BTreeMap::new();
        let acts = row.method != Method::GET;
        let silent = SILENT.contains(&(row.method.as_str(), row.path));
        let mut refusal = |status: u16, silent: bool| {
            let name = if silent { format!("{status}-silent") } else { status.to_string() };
            all.insert(status, json!({"$ref": format!("#/components/responses/{name}")}));
        };
        refusal(413, false);
        refusal(421, false);
        refusal(500, silent);
        if row.entry == Entry::Socket {
            refusal(426, false);
        }
        if acts || row.entry == Entry::Socket || matches!(row.access, Access::Scope(_)) {
            refusal(403, false);
        }
        if row.class == RateClass::Counted {
            refusal(429, false);
        }
        if row.access != Access::Public || row.path == "/api/login" {
            refusal(401, false);
        }
        // A query that is not well formed is refused everywhere.
        refusal(400, silent);
        if row.path.contains('{') {
            refusal(404, silent);
        }
        if !row.takes.is_empty() && !row.takes.contains('/') {
            refusal(415, false);
            refusal(422, false);
        }
        if acts && row.access != Access::Public {
            refusal(409, silent);
            refusal(507, false);
        }
        if acts {
            refusal(408, false);
            refusal(503, false);
        }
        for (method, path, status, shape) in MORE {
            if row.method.as_str() == *method && row.path == *path {
                all.insert(*status, json!({"description": row.summary, "content": content(shape)}));
            }
        }
        let (status, shape) = row.answers;
        let mut success = json!({"description": row.summary});
        if !shape.is_empty() {
            success["content"] = content(shape);
        }
        all.insert(status, success);
        all.into_iter().map(|(status, answer)| (status.to_string(), answer)).collect::<Map<_, _>>().into()
    }

    /// A shape by name, or bytes of a media type.
    fn content(shape: &str) -> Value {
        if shape.contains('/') {
            json!({shape: {"schema": {"type": "string"}}})
        } else {
            json!({"application/json": {"schema": {"$ref": format!("#/components/schemas/{shape}")}}})
        }
    }

    #[test]
    fn openapi_is_what_the_table_and_the_types_say() {
        let written = written();
        if std::env::var_os("REWRITE").is_some() {
            std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/api/openapi.json"), &written).unwrap();
        } else {
            assert!(super::DOCUMENT == written, "src/api/openapi.json is behind; run REWRITE=1 cargo test --lib openapi");
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document: Value = serde_json::from_str(&written()).unwrap();
        let text = document.to_string();
        for rest in text.split("\"$ref\":\"#").skip(1) {
            let place = rest.split('"').next().unwrap();
            assert!(document.pointer(place).is_some(), "{place}");
        }
        for row in ROUTES {
            let operation = &document["paths"][row.path.replace("{*", "{")][row.method.as_str().to_lowercase()];
            assert!(operation["responses"][row.answers.0.to_string()].is_object(), "{} {}", row.method, row.path);
        }
    }
}
