//! From a path to its route: matchit over the one table.

use hyper::Method;
use hyper::header::HeaderValue;

use crate::api::Params;
use crate::api::routes::Route;
use crate::http::error::{ErrorStatus, HttpError};
use crate::wire::path::{BadPath, RelPath, decode_rest, decode_segment};

/// Finds routes; built once from the table.
pub struct Router {
    paths: matchit::Router<Path>,
}

struct Path {
    routes: Vec<&'static Route>,
    /// Names of its `{parameters}`, in their order; `*` before one that takes the rest of the path: `*path` is one of files, any other a text.
    names: Vec<&'static str>,
    /// What a 405 says (RFC 9110 §10.2.1).
    allow: String,
}

/// What a path leads to.
pub enum Found<'r> {
    /// A route.
    Route(&'static Route, Values<'r>),
    /// The path exists, this method does not; the value of `Allow`.
    OtherMethod(&'r str),
    /// No such path.
    Nothing,
}

/// The raw values of a path's parameters.
pub struct Values<'r> {
    names: &'r [&'static str],
    raw: Vec<&'r str>,
}

impl Values<'_> {
    /// Decodes each once.
    ///
    /// # Errors
    /// 400 for a segment that is no plain name; 403 for `..` in a path, which wants to leave its root.
    pub fn decode(&self) -> Result<Params, HttpError> {
        let decode = |(name, raw): (&&'static str, &&str)| {
            let (name, value) = match name.strip_prefix('*') {
                Some("path") => ("path", RelPath::from_request(raw).map(|path| path.as_str().to_owned())),
                Some(name) => (name, decode_rest(raw)),
                None => (*name, decode_segment(raw)),
            };
            match value {
                Ok(value) => Ok((name, value)),
                Err(BadPath::Leaves) => Err(HttpError::new(ErrorStatus::Forbidden, "path_leaves", "the path leads out of its directory")),
                Err(BadPath::Malformed) => Err(HttpError::bad_request(format!("path parameter `{name}` is not well formed"))),
            }
        };
        self.names.iter().zip(&self.raw).map(decode).collect::<Result<_, _>>().map(Params)
    }
}

impl Router {
    /// From the table.
    ///
    /// # Errors
    /// Two rows that mean the same path, in words.
    pub fn new(table: &'static [Route]) -> Result<Self, String> {
        let mut by_path: Vec<(&'static str, Path)> = Vec::new();
        for route in table {
            let at = by_path.iter().position(|(path, _)| *path == route.path);
            match at.and_then(|at| by_path.get_mut(at)) {
                Some((_, path)) if path.routes.iter().any(|r| r.method == route.method) => {
                    return Err(format!("{} {} is in the table twice", route.method, route.path));
                }
                Some((_, path)) => path.routes.push(route),
                None => by_path.push((route.path, Path { routes: vec![route], names: names(route.path), allow: String::new() })),
            }
        }
        let mut paths = matchit::Router::new();
        for (template, mut path) in by_path {
            path.allow = allow(&path.routes);
            paths.insert(template, path).map_err(|e| format!("{template}: {e}"))?;
        }
        Ok(Self { paths })
    }

    /// What this method of this raw path leads to. HEAD is answered wherever GET is.
    pub fn find<'r>(&'r self, method: &Method, path: &'r str) -> Found<'r> {
        let Ok(found) = self.paths.at(path) else { return Found::Nothing };
        let wanted = if *method == Method::HEAD { &Method::GET } else { method };
        match found.value.routes.iter().find(|route| route.method == *wanted) {
            Some(route) => {
                let raw = found.params.iter().map(|(_, value)| value).collect();
                Found::Route(route, Values { names: &found.value.names, raw })
            }
            None => Found::OtherMethod(&found.value.allow),
        }
    }
}

/// The value of `Allow`.
pub fn allow_value(allow: &str) -> HeaderValue {
    HeaderValue::from_str(allow).unwrap_or(HeaderValue::from_static(""))
}

fn allow(routes: &[&'static Route]) -> String {
    let mut methods: Vec<&str> = routes.iter().map(|route| route.method.as_str()).collect();
    if methods.contains(&"GET") {
        methods.push("HEAD");
    }
    methods.join(", ")
}

fn names(template: &'static str) -> Vec<&'static str> {
    template.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::routes::ROUTES;

    fn find(method: Method, path: &str) -> String {
        let router = Router::new(ROUTES).unwrap();
        match router.find(&method, path) {
            Found::Route(route, values) => match values.decode() {
                Ok(params) => format!("{} {:?}", route.path, params.0),
                Err(e) => e.status.code().as_u16().to_string(),
            },
            Found::OtherMethod(allow) => format!("405 {allow}"),
            Found::Nothing => "404".to_owned(),
        }
    }

    #[test]
    fn paths_lead_to_their_rows() {
        for (method, path, leads_to) in [
            (Method::GET, "/health", "/health []"),
            (Method::HEAD, "/health", "/health []"),
            (Method::POST, "/health", "405 GET, HEAD"),
            (Method::DELETE, "/api/sessions/x", r#"/api/sessions/{id} [("id", "x")]"#),
            (Method::PUT, "/api/sessions/x", "405 GET, PATCH, DELETE, HEAD"),
            (Method::POST, "/api/sessions/prune", "/api/sessions/prune []"),
            (Method::GET, "/api/sessions/%41%20", r#"/api/sessions/{id} [("id", "A ")]"#),
            (Method::GET, "/api/sessions/a%2fb", "400"),
            (Method::GET, "/v1/models/openai/gpt", r#"/v1/models/{*model} [("model", "openai/gpt")]"#),
            (Method::GET, "/v1/models/openai%2Fgpt%20x", r#"/v1/models/{*model} [("model", "openai/gpt x")]"#),
            (Method::GET, "/v1/models/../x", r#"/v1/models/{*model} [("model", "../x")]"#),
            (Method::GET, "/v1/models/a%0ab", "400"),
            (Method::GET, "/api/workspace/file/a/b%2fc", "400"),
            (Method::GET, "/api/workspace/file/../c", "403"),
            (Method::GET, "/api/sessions/a/b", "404"),
            (Method::GET, "/api/sessions/", "404"),
            (Method::GET, "/health/", "404"),
            (Method::GET, "//health", "404"),
            (Method::GET, "/HEALTH", "404"),
        ] {
            assert_eq!(find(method.clone(), path), leads_to, "{method} {path}");
        }
    }

    #[test]
    fn every_row_is_found() {
        let router = Router::new(ROUTES).unwrap();
        for route in ROUTES {
            let path = route.path.split('/').map(|part| if part.starts_with('{') { "x" } else { part }).collect::<Vec<_>>().join("/");
            assert!(matches!(router.find(route.method, &path), Found::Route(found, _) if std::ptr::eq(found, route)), "{}", route.path);
        }
    }
}
