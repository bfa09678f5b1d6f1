//! Laws over the route table: each holds for every row, so a new row cannot forget it.

use std::collections::BTreeMap;

use oxios_edge::api::routes::{Access, Entry, ROUTES, Route};

use crate::support::client::Ask;
use crate::support::server::{Server, Setup, command};

fn server() -> Server {
    Setup::new().env("OXIOS_SECURITY__RATE_LIMIT_PER_MINUTE", "0").start()
}

/// The row's path with something plausible for each parameter.
fn target(route: &Route) -> String {
    let parts = route.path.split('/').map(|part| match part {
        "{id}" => "67e55044-10b1-426f-9247-bb680e5fe0c8",
        part if part.starts_with("{*") => "some/file.txt",
        part if part.starts_with('{') => "name",
        part => part,
    });
    parts.collect::<Vec<_>>().join("/")
}

fn methods_by_path() -> BTreeMap<&'static str, Vec<String>> {
    let mut by_path: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for route in ROUTES {
        by_path.entry(route.path).or_default().push(route.method.to_string());
    }
    by_path
}

#[test]
fn the_table_holds_what_the_contract_promises() {
    for (method, path) in [
        ("GET", "/health"),
        ("GET", "/health/ready"),
        ("GET", "/api/status"),
        ("POST", "/api/chat"),
        ("GET", "/api/chat/stream"),
        ("POST", "/api/chat/ticket"),
        ("POST", "/api/chat/{id}/cancel"),
        ("GET", "/api/events"),
        ("GET", "/api/sessions"),
        ("GET", "/api/sessions/{id}"),
        ("DELETE", "/api/sessions/{id}"),
        ("GET", "/api/sessions/{id}/events"),
        ("POST", "/api/sessions/prune"),
        ("GET", "/api/approvals"),
        ("POST", "/api/approvals/{id}/approve"),
        ("POST", "/api/approvals/{id}/reject"),
    ] {
        assert!(ROUTES.iter().any(|r| r.method == method && r.path == path), "{method} {path} is in the table");
    }
    let public: Vec<_> = ROUTES.iter().filter(|r| r.access == Access::Public).map(|r| r.path).collect();
    assert_eq!(public, ["/health", "/health/ready", "/api/login", "/api/login"], "what is open to everybody is written here, too");
}

#[tokio::test]
async fn without_a_key_only_public_rows_answer() {
    let server = server();
    let stranger = server.stranger();
    for route in ROUTES {
        let public = route.access == Access::Public;
        for ask in [
            Ask::new(route.method.as_str(), target(route)),
            Ask::new(route.method.as_str(), target(route)).header("authorization", "Bearer "),
            Ask::new(route.method.as_str(), target(route)).header("authorization", "Basic YWRtaW46YWRtaW4="),
            Ask::new(route.method.as_str(), target(route)).header("cookie", "oxios=admin"),
            Ask::new(route.method.as_str(), target(route)).body(b"{".repeat(route.body_max + 1)),
        ] {
            let answer = stranger.send(ask).await;
            if public {
                assert!(matches!(answer.status, 200 | 413 | 415 | 503), "{} {}: {}", route.method, route.path, answer.status);
            } else {
                // From the 11th wrong one within a minute on it is 429.
                assert!(matches!(answer.status, 401 | 429), "{} {}: {}", route.method, route.path, answer.status);
                let bare =
                    if route.path.starts_with("/v1") { answer.is_openai() || route.method == "HEAD" } else { answer.body.is_empty() };
                assert!(bare, "{} {}: {}", route.method, route.path, answer.text());
            }
        }
    }
}

#[tokio::test]
async fn another_method_is_405_and_names_the_right_ones() {
    let server = server();
    let client = server.client();
    for (path, methods) in methods_by_path() {
        let route = ROUTES.iter().find(|r| r.path == path).unwrap();
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW"] {
            let known = methods.iter().any(|m| m == method) || (method == "HEAD" && methods.iter().any(|m| m == "GET"));
            // A literal path wins over a parameter: `/api/sessions/prune` has its own row.
            if known {
                continue;
            }
            let answer = client.send(Ask::new(method, target(route))).await;
            assert_eq!(answer.status, 405, "{method} {path}: {}", answer.text());
            let allow: Vec<String> = answer.header("allow").unwrap().split(',').map(|m| m.trim().to_owned()).collect();
            for method in &methods {
                assert!(allow.contains(method), "{path} allows {method}, and says {allow:?}");
            }
            assert!(!allow.iter().any(|m| m == method), "{path} does not allow {method}, and says {allow:?}");
            if route.access != Access::Public {
                server.stranger().send(Ask::new(method, target(route))).await.expect(401);
            }
        }
    }
}

#[tokio::test]
async fn a_body_over_the_rows_limit_is_413() {
    let server = server();
    let client = server.client();
    for route in ROUTES {
        let over = b" ".repeat(route.body_max + 1);
        let ask = Ask::new(route.method.as_str(), target(route)).header("content-type", "application/json");
        let answer = client.send(ask.clone().body(over.clone())).await;
        assert_eq!(answer.status, 413, "{} {}: {}", route.method, route.path, answer.text());
        // Without a length beforehand it is the bytes that count.
        let mut chunked = format!("{:x}\r\n", over.len()).into_bytes();
        chunked.extend(&over);
        chunked.extend(b"\r\n0\r\n\r\n");
        let answer = client.send(ask.header("transfer-encoding", "chunked").body(chunked)).await;
        assert_eq!(answer.status, 413, "{} {} chunked: {}", route.method, route.path, answer.text());
    }
}

#[tokio::test]
async fn head_is_wherever_get_is_and_has_no_body() {
    let server = server();
    let client = server.client();
    for route in ROUTES.iter().filter(|r| r.method == "GET" && r.entry == Entry::Header) {
        let get = client.get(&target(route)).await;
        let head = client.send(Ask::new("HEAD", target(route))).await;
        assert_eq!(get.status, head.status, "{}", route.path);
        assert_eq!(get.header("content-type"), head.header("content-type"), "{}", route.path);
    }
}

#[tokio::test]
async fn the_last_page_that_a_number_can_name_is_empty() {
    let server = server();
    let client = server.client();
    client.post("/api/chat", &serde_json::json!({"content": "hello"})).await.expect(200);
    for route in ROUTES.iter().filter(|r| r.query.contains(&"page")) {
        for more in ["", "&limit=500", "&limit=18446744073709551615", "&q=hello"] {
            let page = client.get(&format!("{}?page=18446744073709551615{more}", route.path)).await.expect(200).json();
            assert_eq!(page["items"], serde_json::json!([]), "{} {more}", route.path);
        }
    }
}

#[tokio::test]
async fn an_unknown_path_under_api_needs_a_key_before_it_is_404() {
    let server = server();
    for target in
        ["/api", "/api/", "/api/nothing", "/api/chat/", "/api/sessions/67e55044-10b1-426f-9247-bb680e5fe0c8/nothing", "/api/../health"]
    {
        for method in ["GET", "POST", "DELETE"] {
            server.stranger().send(Ask::new(method, target)).await.expect(401);
            let answer = server.client().send(Ask::new(method, target)).await.expect(404);
            assert!(!answer.error().is_empty());
        }
    }
}

#[test]
fn the_command_line_prints_every_row() {
    let home = crate::support::server::TempDir::new();
    let output = command(home.path()).arg("routes").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    for route in ROUTES {
        let line = text.lines().find(|line| line.split_whitespace().any(|w| w == route.path) && line.contains(route.method.as_str()));
        let line = line.unwrap_or_else(|| panic!("{} {} is not in\n{text}", route.method, route.path));
        assert!(line.contains(route.summary), "{line}");
    }
}

/// It was taken, whatever it was, and what stood in it did nothing.
#[tokio::test]
async fn a_row_of_ours_that_takes_nothing_says_so_of_a_body_with_something_in_it() {
    let server = server();
    let client = server.client();
    let ask = |route: &Route, media: &str, body: &str| {
        Ask::new(route.method.as_str(), target(route)).header("content-type", media).body(body.as_bytes().to_vec())
    };
    let ours: Vec<_> = ROUTES.iter().filter(|route| route.takes == "Empty").collect();
    for path in [
        "/api/chat/ticket",
        "/api/chat/{id}/cancel",
        "/api/memory/{name}",
        "/api/personas/{id}",
        "/api/spaces/{id}",
        "/api/spaces/{id}/activate",
        "/api/spaces/{id}/archive",
        "/api/spaces/{id}/restore",
        "/api/cron-jobs/{id}",
        "/api/cron-jobs/{id}/trigger",
        "/api/keys/{id}",
        "/api/login/code",
        "/api/logout",
        "/api/audit/export",
    ] {
        assert!(ours.iter().any(|route| route.path == path), "{path}");
    }
    for route in ours {
        for (media, body, status) in [
            ("application/json", "{not json", 400),
            ("text/plain", "{}", 415),
            ("application/json", r#"{"content":"other"}"#, 422),
            ("application/json", "[]", 422),
        ] {
            let answer = client.send(ask(route, media, body)).await;
            assert_eq!(answer.status, status, "{} {} {body}: {}", route.method, route.path, answer.text());
            assert!(!answer.error().is_empty());
        }
        for (media, body) in [("application/json", "{}"), ("application/x-www-form-urlencoded", "")] {
            let answer = client.send(ask(route, media, body)).await;
            assert!(matches!(answer.status, 200 | 400 | 404), "{} {} {body}: {}", route.method, route.path, answer.text());
        }
    }
    // What the contract's part A has ignores what it does not know.
    let prune = ROUTES.iter().find(|route| route.path == "/api/sessions/prune").unwrap();
    client.send(ask(prune, "text/plain", "{not json")).await.expect(200);
}
