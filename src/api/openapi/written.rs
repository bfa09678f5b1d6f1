//! How the OpenAPI document is made; see `openapi.rs`. For tests only: the server carries the finished document.

use std::collections::{BTreeMap, BTreeSet};

use hyper::Method;
use serde_json::{Map, Value, json};

use crate::api::mcp::VERSIONS;
use crate::api::routes::{Access, Entry, ROUTES, RateClass, Route};
use crate::api::shapes::{LINE_OR_NOTHING, Shapes};
use crate::base::limits::{LABEL_BYTES_MAX, NAME_BYTES_MAX, PAGE_DEFAULT, PAGE_MAX, SEARCH_CHARS_MAX, SKILL_NAME_CHARS_MAX};

/// Answers of single rows besides what every row of their kind may answer: status, shape or media type.
const MORE: &[(&str, &str, u16, &str)] = &[
    ("GET", "/health/ready", 503, "Ready"),
    ("POST", "/api/chat", 202, "ChatPending"),
    ("POST", "/api/chat", 502, "Error"),
    ("POST", "/api/chat", 504, "Error"),
    ("POST", "/api/cron-jobs", 404, "Error"),
    ("GET", "/api/engine/models", 409, "Error"),
    ("GET", "/api/engine/models", 502, "Error"),
    ("PUT", "/api/engine/model", 502, "Error"),
    ("PUT", "/api/engine/api-key", 502, "Error"),
    ("POST", "/api/engine/validate-key", 502, "Error"),
    ("POST", "/mcp", 202, ""),
    ("GET", "/api/workspace/file/{*path}", 409, "Error"),
    ("POST", "/v1/chat/completions", 502, "OpenAiError"),
    ("POST", "/v1/chat/completions", 504, "OpenAiError"),
];

/// Media types in which single rows answer besides what their row says.
const ALSO: &[(&str, &str)] =
    &[("/v1/chat/completions", "text/event-stream"), ("/api/sessions/{id}/export", "text/markdown; charset=utf-8")];

/// Rows without an id in their path that may find something missing: what the body or the query names.
const MISSING: &[&str] =
    &["/api/chat", "/api/cron-jobs", "/api/personas/active", "/api/spaces/merge", "/api/workspace/tree", "/v1/chat/completions"];

/// Rows whose own errors have no body (API A1).
const SILENT: &[(&str, &str)] =
    &[("DELETE", "/api/sessions/{id}"), ("POST", "/api/approvals/{id}/approve"), ("POST", "/api/approvals/{id}/reject")];

/// Rows whose body may be left out.
const OPTIONAL: &[&str] = &["Empty", "NewFile", "Rotation", "SessionFork"];

/// Fields of an answer's head that tell what to do next: name, text. `x-request-id` is told once, in the document's description.
const FIELDS: &[(&str, &str)] = &[
    ("ETag", "Which version of it this is, for If-Match and If-None-Match."),
    (
        "RateLimit",
        "`\"default\";r=0;t=10`: what is left (r), and in how many seconds there is more (t). Where the rate of requests is met.",
    ),
    ("RateLimit-Policy", "`\"default\";q=600;w=60`: so many requests (q) in so many seconds (w). Where the rate of requests is met."),
    ("Retry-After", "In how many seconds it is worth another try; absent where waiting is of no use."),
    ("Upgrade", "`websocket`."),
    ("WWW-Authenticate", "`Bearer`, and what is wrong with the credential (RFC 6750 §3)."),
];

/// Refusals: status, text, whether there is `{"error"}` with it where the row is neither silent nor OpenAI's.
const REFUSALS: &[(u16, &str, bool)] = &[
    (400, "Something in the request is malformed; the text names it.", true),
    (401, "No credential, or a wrong one; WWW-Authenticate says why.", false),
    (403, "The Origin may not call, the key has not the scope, or the path leads out of the workspace.", true),
    (404, "There is none of this id, or it is another owner's.", true),
    (408, "The body did not come.", true),
    (409, "What is there now does not allow it.", true),
    (412, "If-Match or If-None-Match names something else than is there.", true),
    (413, "The body, or a text in it, is larger than this route takes.", true),
    (414, "The request target has more than 8 KiB.", true),
    (415, "The body must be JSON.", true),
    (421, "The Host is not one of this server's.", true),
    (422, "The body is JSON of another shape; the text names the field.", true),
    (426, "Only a WebSocket upgrade is answered here.", true),
    (
        429,
        "From a peer's 11th wrong credential within a minute (a right one passes), or too many requests of this key; without a body. Too many messages that wait; with one. See Retry-After.",
        false,
    ),
    (500, "Our fault; the log has it under the request's id.", true),
    (503, "Too much waits, or the server stops; see Retry-After.", true),
    (507, "The disk is full.", true),
];

/// The document. `config` is the schema of what `PUT /api/config` takes: its keys are known above.
///
/// One line for each path and shape, so that a change is seen; no other white space, so that little goes over the wire.
pub(crate) fn written(config: Value) -> String {
    let lines = |all: Map<String, Value>| {
        let lines: Vec<_> = all.iter().map(|(name, value)| format!("{}:{value}", Value::from(name.as_str()))).collect();
        lines.join(",\n")
    };
    let mut shapes = Shapes::all();
    assert!(shapes.insert("ConfigChange".into(), config).is_some(), "a row takes it");
    shapes.insert(
        "Error".into(),
        json!({"type": "object", "description": "What went wrong, and what to do.", "required": ["error"], "additionalProperties": false,
            "properties": {"error": {"type": "string", "description": "For people."}}}),
    );
    let inner = json!({"type": "object", "required": ["message", "type", "param", "code"], "additionalProperties": false, "properties": {
        "message": {"type": "string", "description": "For people."},
        "type": {"enum": ["authentication_error", "permission_error", "rate_limit_error", "server_error", "invalid_request_error"]},
        "param": {"type": ["string", "null"], "description": "The field that is at fault."},
        "code": {"type": "string", "description": "One word; stable."}}});
    shapes.insert(
        "OpenAiError".into(),
        json!({"type": "object", "description": "What went wrong, as OpenAI's clients read it.", "required": ["error"],
            "additionalProperties": false, "properties": {"error": inner}}),
    );
    shapes.insert(
        "ServerSentEvent".into(),
        json!({"type": "object", "description": "One of the events of the stream, as its reader gets it.", "required": ["data"], "properties": {
            "data": {"type": "string", "description": "A JSON object; on /v1 `[DONE]` at the end."},
            "id": {"type": "string", "description": "Its place, for Last-Event-ID; not on /v1."}}}),
    );
    let info = json!({"title": "oxios-edge", "version": env!("CARGO_PKG_VERSION"),
        "description": "An AI agent behind HTTP. Refusals come in one order: 421 Host, 403 Origin, 401 or 429 credential, 404 or 405, 403 scope, 429 rate, 413, 415, 400, 422. What is no good HTTP is 400, 414 or 431 before that, whatever it asks for. Every answer has x-request-id, which the server's log has too; 405 has Allow. Lengths of texts are limited in UTF-8 bytes; maxLength is that number, which says the same of ASCII."});
    let schemes = json!({
        "key": {"type": "http", "scheme": "bearer", "description": "An API key; the first one is in <home>/token."},
        "cookie": {"type": "apiKey", "in": "cookie", "name": "oxios",
            "description": "From POST /api/login; counts only with what the server's own page asks, which Origin tells."},
        "ticket": {"type": "apiKey", "in": "query", "name": "ticket", "description": "From POST /api/chat/ticket; works once."},
        "token": {"type": "apiKey", "in": "query", "name": "token",
            "description": "An API key, for what can set no header; from whom it is taken, `security.query_token` says."}});
    let mut shared = Shared::default();
    let paths = paths(&mut shared);
    let refusals: Map<String, Value> = shared.refusals.into_iter().map(|refusal| (refusal.name(), refusal.answer())).collect();
    format!(
        "{{\"openapi\":\"3.1.0\",\"info\":{info},\"paths\":{{\n{}\n}},\"components\":{{\"securitySchemes\":{schemes},\n\"parameters\":{{\n{}\n}},\n\"headers\":{},\n\"responses\":{},\n\"schemas\":{{\n{}\n}}}}}}\n",
        lines(paths),
        lines(shared.parameters),
        fields(),
        Value::Object(refusals),
        lines(shapes)
    )
}

/// What several operations have in common and point to.
#[derive(Default)]
struct Shared {
    refusals: BTreeSet<Refusal>,
    parameters: Map<String, Value>,
}

impl Shared {
    /// Points to this parameter.
    fn parameter(&mut self, key: &str, parameter: Value) -> Value {
        let known = self.parameters.entry(key).or_insert_with(|| parameter.clone());
        assert_eq!(*known, parameter, "two parameters are called {key}");
        json!({"$ref": format!("#/components/parameters/{key}")})
    }
}

fn fields() -> Value {
    let schema = |name| if name == "Retry-After" { json!({"type": "integer", "minimum": 1}) } else { json!({"type": "string"}) };
    FIELDS
        .iter()
        .map(|(name, says)| ((*name).to_owned(), json!({"description": says, "schema": schema(*name)})))
        .collect::<Map<_, _>>()
        .into()
}

/// Points to fields that an answer may have.
fn with_fields(answer: &mut Value, names: &[&str]) {
    for name in names {
        assert!(FIELDS.iter().any(|(known, _)| known == name), "what is the field {name}?");
        answer["headers"][*name] = json!({"$ref": format!("#/components/headers/{name}")});
    }
}

/// A refusal in the form of its row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Refusal {
    status: u16,
    form: Form,
}

/// What a row's refusals look like.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    Own,
    Silent,
    OpenAi,
}

impl Refusal {
    fn name(self) -> String {
        match self.form {
            Form::Own => self.status.to_string(),
            Form::Silent => format!("{}-silent", self.status),
            Form::OpenAi => format!("{}-openai", self.status),
        }
    }

    fn answer(self) -> Value {
        let (_, says, told) = REFUSALS.iter().find(|(status, ..)| *status == self.status).unwrap();
        let mut answer = json!({"description": says});
        with_fields(
            &mut answer,
            match self.status {
                401 => &["WWW-Authenticate"],
                426 => &["Upgrade"],
                429 => &["Retry-After", "RateLimit", "RateLimit-Policy"],
                503 | 507 => &["Retry-After"],
                _ => &[],
            },
        );
        match self.form {
            Form::Own if *told => answer["content"] = content("Error"),
            Form::Own | Form::Silent => {}
            Form::OpenAi => answer["content"] = content("OpenAiError"),
        }
        answer
    }
}

fn paths(shared: &mut Shared) -> Map<String, Value> {
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for row in ROUTES {
        let path = row.path.replace("{*", "{");
        paths.entry(path).or_default().insert(row.method.as_str().to_lowercase(), operation(row, shared));
    }
    paths.into_iter().map(|(path, operations)| (path, Value::Object(operations))).collect()
}

fn operation(row: &Route, shared: &mut Shared) -> Value {
    let words: Vec<_> = row.path.split(['/', '{', '}', '*', '-', '.']).filter(|word| !word.is_empty()).collect();
    let area = words.iter().find(|word| **word != "api").unwrap_or(&"system");
    let mut operation = json!({
        "operationId": format!("{}_{}", row.method.as_str().to_lowercase(), words.join("_")),
        "tags": [area],
        "summary": row.summary,
        "responses": responses(row, &mut shared.refusals),
        "security": security(row),
    });
    if let Access::Scopes(scopes) = row.access {
        let names: Vec<_> = scopes.iter().map(|scope| format!("`{}`", scope.name())).collect();
        let what = if let [_] = scopes { "scope" } else { "scopes" };
        operation["description"] = format!("Needs a key with the {what} {}.", names.join(" and ")).into();
    }
    let parameters = in_path(row.path).chain(in_query(row)).chain(in_head(row));
    let parameters: Vec<Value> = parameters.map(|(key, parameter)| shared.parameter(key, parameter)).collect();
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if !row.takes.is_empty() {
        operation["requestBody"] = json!({"required": !OPTIONAL.contains(&row.takes), "content": content(row.takes),
            "description": format!("At most {} bytes.", row.body_max)});
    }
    operation
}

fn security(row: &Route) -> Value {
    match (row.access, row.entry) {
        (Access::Public, _) => json!([]),
        (_, Entry::Header) => json!([{"key": []}, {"cookie": []}]),
        (_, Entry::Ticket) => json!([{"key": []}, {"cookie": []}, {"ticket": []}]),
        (_, Entry::Socket) => json!([{"key": []}, {"cookie": []}, {"ticket": []}, {"token": []}]),
    }
}

/// Parameters of a path, each with the key that it has among those of all rows.
fn in_path(path: &'static str) -> impl Iterator<Item = (&'static str, Value)> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).map(move |name| {
        let id = || json!({"$ref": "#/components/schemas/Id"});
        let (key, schema, says) = match name {
            "*path" => (
                "path",
                // As other clients encode it: a slash in one value is no slash of a path.
                json!({"type": "string", "minLength": 1, "maxLength": NAME_BYTES_MAX, "pattern": r"^(?!\.{1,2}$)[^/\\\x00-\x1F\x7F-\x9F]+$"}),
                "A name, or names of directories and a name, joined by slashes that are not encoded; each has at most 255 bytes.",
            ),
            "*model" => {
                ("model", json!({"type": "string", "minLength": 1, "pattern": LINE_OR_NOTHING}), "Slashes in it may be encoded or not.")
            }
            "name" if path.starts_with("/api/skills/") => (
                "skill",
                json!({"type": "string", "minLength": 1, "maxLength": SKILL_NAME_CHARS_MAX, "pattern": "^[A-Za-z0-9_-]+$"}),
                "The skill's name.",
            ),
            "name" => ("memory", id(), "The memory's name, which is its id."),
            _ => ("id", id(), "Its id."),
        };
        (key, json!({"name": name.trim_start_matches('*'), "in": "path", "required": true, "schema": schema, "description": says}))
    })
}

/// Fields of the request's head that the row heeds.
fn in_head(row: &Route) -> impl Iterator<Item = (&'static str, Value)> {
    row.heeds.iter().map(|name| {
        let text = || json!({"type": "string"});
        let label = || json!({"type": "string", "maxLength": LABEL_BYTES_MAX, "pattern": "^[!-~]([ -~]*[!-~])?$"});
        let (key, schema, says) = match *name {
            "Idempotency-Key" if row.path.starts_with("/v1/") => (
                "Idempotency-Key-v1",
                label(),
                "With model `oxios`: the same key and body find the first run instead of making another one; the body's `idempotency_key` does the same. A plain model refuses it: nothing is kept that a retry could find.",
            ),
            "Idempotency-Key" => (
                *name,
                label(),
                "The same key and body find the first run instead of making another one; the body's `idempotency_key` does the same.",
            ),
            "Prefer" => (
                *name,
                json!({"type": "string", "examples": ["respond-async"]}),
                "`respond-async`: 202 at once, and the session's events tell the answer.",
            ),
            "Last-Event-ID" if row.query.contains(&"after") => (
                "Last-Event-ID-seq",
                json!({"type": "string", "pattern": "^[0-9]{0,19}$"}),
                "The seq of the last event that came; counts instead of `after`.",
            ),
            "Last-Event-ID" => {
                (*name, text(), "The id of the last event that came; where it is no longer known, a `resync` event says so.")
            }
            "If-Match" => (*name, text(), "ETags, or `*`: 412 where none of them is there."),
            "If-None-Match" if *row.method == Method::GET => ("If-None-Match-GET", text(), "ETags: 304 where one of them is there."),
            "If-None-Match" => (*name, text(), "ETags, or `*`: 412 where one of them is there."),
            "MCP-Protocol-Version" => (*name, json!({"enum": VERSIONS}), "The version that was agreed on."),
            other => panic!("what is the field {other}?"),
        };
        (key, json!({"name": name, "in": "header", "required": false, "schema": schema, "description": says}))
    })
}

fn in_query(row: &Route) -> impl Iterator<Item = (&'static str, Value)> {
    row.query.iter().map(|name| {
        let (schema, says) = match *name {
            "ticket" => (json!({"type": "string"}), "Instead of Authorization: from POST /api/chat/ticket; works once.".to_owned()),
            "token" => (
                json!({"type": "string"}),
                "Instead of Authorization: a key. From whom it is taken, `security.query_token` says; at first from the machine itself only.".to_owned(),
            ),
            "page" => (json!({"type": "integer", "minimum": 0, "maximum": u64::MAX, "default": 1}), "Which page, from 1.".to_owned()),
            "limit" => (
                json!({"type": "integer", "minimum": 0, "maximum": u64::MAX, "default": PAGE_DEFAULT}),
                format!("Items on a page; above {PAGE_MAX} is {PAGE_MAX}."),
            ),
            "after" => (json!({"type": "integer", "minimum": 0, "maximum": u64::MAX}), "Only what came after this seq.".to_owned()),
            "until" => (json!({"enum": ["done", "idle"]}), "When the stream ends by itself.".to_owned()),
            "format" => (json!({"enum": ["json", "markdown"], "default": "json"}), "How it is written.".to_owned()),
            "provider" => {
                (json!({"enum": ["offline", "openai", "anthropic"]}), "Whose; the default model's where it is absent.".to_owned())
            }
            "space_id" => (json!({"$ref": "#/components/schemas/Id"}), "Only those of this space.".to_owned()),
            "q" => (json!({"type": "string", "maxLength": SEARCH_CHARS_MAX}), "Words; each must begin one of theirs.".to_owned()),
            "head" => (
                json!({"type": "string", "pattern": "^([0-9]{1,19}:[0-9a-f]{64})?$"}),
                "A record and its hash that were noted before, as `n:hash`.".to_owned(),
            ),
            "dir" => (json!({"type": "string"}), "A directory; the topmost one where it is absent.".to_owned()),
            "what" => (json!({"type": "string"}), "Only actions that begin so, as `message` or `POST /api/chat`.".to_owned()),
            "key" => (json!({"type": "string"}), "Only what came with this key, by its id or how that begins.".to_owned()),
            "on" => (json!({"type": "string"}), "Only what was done to this: an id or how it begins, or a name.".to_owned()),
            "outcome" => (json!({"type": "string"}), "Only what ended so, as `done`, `200` or `2`.".to_owned()),
            other => panic!("what is the query parameter {other}?"),
        };
        (*name, json!({"name": name, "in": "query", "required": false, "schema": schema, "description": says}))
    })
}

/// Every success and refusal that the row can answer with, by API A1.
fn responses(row: &Route, refusals: &mut BTreeSet<Refusal>) -> Value {
    let mut all: BTreeMap<u16, Value> = BTreeMap::new();
    let acts = row.method != Method::GET;
    let openai = row.path.starts_with("/v1/");
    let silent = SILENT.contains(&(row.method.as_str(), row.path));
    let mut refuse = |status: u16, own: bool| {
        let form = match (openai, silent && own) {
            (true, _) => Form::OpenAi,
            (_, true) => Form::Silent,
            _ => Form::Own,
        };
        let refusal = Refusal { status, form };
        refusals.insert(refusal);
        all.insert(status, json!({"$ref": format!("#/components/responses/{}", refusal.name())}));
    };
    refuse(413, false);
    refuse(421, false);
    refuse(500, true);
    // A query that is not well formed is refused everywhere.
    refuse(400, true);
    if row.entry == Entry::Socket {
        refuse(426, false);
    }
    if acts || row.entry == Entry::Socket || matches!(row.access, Access::Scopes(_)) {
        refuse(403, false);
    }
    if row.class == RateClass::Counted {
        refuse(429, false);
    }
    if row.access != Access::Public || row.path == "/api/login" {
        refuse(401, false);
    }
    if row.path.contains('{') || !row.query.is_empty() {
        refuse(414, false);
    }
    if row.path.contains('{') || acts && MISSING.contains(&row.path) || row.path == "/api/workspace/tree" {
        refuse(404, true);
    }
    if !row.takes.is_empty() && !row.takes.contains('/') {
        refuse(415, false);
        // OpenAI and JSON-RPC know no 422.
        if !openai && row.path != "/mcp" {
            refuse(422, false);
        }
    }
    // RFC 9110 §13.
    if row.heeds.contains(&"If-Match") {
        refuse(412, true);
    }
    if acts && row.access != Access::Public {
        refuse(409, true);
        refuse(507, false);
    }
    if acts {
        refuse(408, false);
        refuse(503, false);
    }
    for (method, path, status, shape) in MORE {
        if row.method.as_str() == *method && row.path == *path {
            all.insert(*status, answer(row, shape));
        }
    }
    let (status, shape) = row.answers;
    let mut success = answer(row, shape);
    if !acts && row.heeds.contains(&"If-None-Match") {
        with_fields(&mut success, &["ETag"]);
        let mut known = json!({"description": "The version that If-None-Match names is the newest."});
        with_fields(&mut known, &["ETag"]);
        all.insert(304, known);
    }
    for (_, media) in ALSO.iter().filter(|(path, _)| *path == row.path) {
        success["content"][*media] = content(media)[*media].take();
    }
    all.insert(status, success);
    all.into_iter().map(|(status, answer)| (status.to_string(), answer)).collect::<Map<_, _>>().into()
}

fn answer(row: &Route, shape: &str) -> Value {
    let mut answer = json!({"description": row.summary});
    if !shape.is_empty() {
        answer["content"] = content(shape);
    }
    answer
}

/// A shape by name, or bytes of a media type.
fn content(shape: &str) -> Value {
    if shape == "*/*" {
        // Bytes, whatever they are.
        json!({shape: {}})
    } else if shape == "text/event-stream" {
        json!({shape: {"schema": {"$ref": "#/components/schemas/ServerSentEvent"}}})
    } else if shape == "application/json" {
        // This very document.
        json!({shape: {"schema": {"type": "object", "required": ["openapi", "info", "paths", "components"]}}})
    } else if shape.contains('/') {
        json!({shape: {"schema": {"type": "string"}}})
    } else {
        json!({"application/json": {"schema": {"$ref": format!("#/components/schemas/{shape}")}}})
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let document: Value = serde_json::from_str(super::DOCUMENT).unwrap();
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

/// What a row heeds and how it is entered is told of it, and of no other.
#[test]
fn fields_and_credentials_of_a_request_are_told() {
    let document: Value = serde_json::from_str(super::DOCUMENT).unwrap();
    for row in ROUTES {
        let operation = &document["paths"][row.path.replace("{*", "{")][row.method.as_str().to_lowercase()];
        let all = operation["parameters"].as_array().into_iter().flatten();
        let all: Vec<_> = all.map(|one| document.pointer(&one["$ref"].as_str().unwrap()[1..]).unwrap()).collect();
        let named =
            |place: &str| -> Vec<&str> { all.iter().filter(|one| one["in"] == place).map(|one| one["name"].as_str().unwrap()).collect() };
        let place = format!("{} {}", row.method, row.path);
        assert_eq!((named("header"), named("query")), (row.heeds.to_vec(), row.query.to_vec()), "{place}");
        assert_eq!(row.query.contains(&"ticket"), row.entry != Entry::Header, "{place}");
        assert_eq!(row.query.contains(&"token"), row.entry == Entry::Socket, "{place}");
    }
    let of = |status: &str| document["components"]["responses"][status]["headers"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(of("429"), ["RateLimit", "RateLimit-Policy", "Retry-After"]);
    assert_eq!((of("401"), of("503")), (vec!["WWW-Authenticate".to_owned()], vec!["Retry-After".to_owned()]));
    let own = &document["paths"]["/api/openapi.json"]["get"]["responses"]["200"]["content"]["application/json"]["schema"];
    assert!(
        own["type"] == "object" && own["required"].as_array().unwrap().iter().all(|part| document.get(part.as_str().unwrap()).is_some())
    );
}
