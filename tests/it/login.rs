//! Login of browsers: a cookie for a key or a one-time code.

use serde_json::json;

use crate::support::client::{Answer, Ask, Client};
use crate::support::server::{Server, Setup, command};
use crate::support::sse::Sse;

fn cookie(answer: &Answer) -> String {
    answer.header("set-cookie").expect("a cookie").split(';').next().unwrap().to_owned()
}

/// A page of the server's own origin with this cookie.
struct Page {
    client: Client,
    cookie: String,
}

impl Page {
    fn new(server: &Server, answer: &Answer) -> Self {
        Self { client: server.stranger(), cookie: cookie(answer) }
    }
    fn ask(&self, method: &str, target: &str) -> Ask {
        let origin = format!("http://{}", self.client.address.host());
        Ask::new(method, target).header("cookie", format!("theme=dark; {}", self.cookie)).header("origin", origin)
    }
    async fn send(&self, method: &str, target: &str) -> Answer {
        self.client.send(self.ask(method, target)).await
    }
}

#[tokio::test]
async fn a_browser_logs_in_with_a_key_and_out_again() {
    let mut server = Setup::new().start();
    let answer = server.stranger().with_key(None).post("/api/login", &json!({"key": server.key()})).await.expect(200);
    assert!(answer.json()["expires_at"].is_string());
    let field = answer.header("set-cookie").unwrap().to_owned();
    for part in ["; HttpOnly", "; SameSite=Strict", "; Path=/", "; Max-Age="] {
        assert!(field.contains(part), "{field}");
    }
    assert!(!field.contains("Secure") && !field.contains("Domain"), "it came by plain HTTP: {field}");
    let page = Page::new(&server, &answer);
    server.canary(page.cookie.split_once('=').unwrap().1);
    page.send("GET", "/api/status").await.expect(200);
    let said = page.client.send(page.ask("POST", "/api/chat").json(&json!({"content": "hello"}))).await.expect(200).json();
    let session = said["session_id"].as_str().unwrap().to_owned();
    server.client().get(&format!("/api/sessions/{session}")).await.expect(200);
    // The log of the session as EventSource reads it: same origin, no Origin field, no header of its own.
    let events = format!("/api/sessions/{session}/events?until=done");
    let ask = Ask::new("GET", events).header("cookie", page.cookie.clone()).header("sec-fetch-site", "same-origin");
    page.client.send(ask).await.expect(200);
    let out = page.send("POST", "/api/logout").await.expect(200);
    assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"));
    page.send("GET", "/api/status").await.expect(401);
    // A login outlives the process: an open page goes on by itself.
    let page = Page::new(&server, &server.stranger().post("/api/login", &json!({"key": server.key()})).await.expect(200));
    page.send("GET", "/api/status").await.expect(200);
    server.restart();
    Page { client: server.stranger(), cookie: page.cookie }.send("GET", "/api/status").await.expect(200);
}

/// THREATS 6: what became of the key counts.
#[tokio::test]
async fn a_cookie_dies_with_its_key_and_its_streams_too() {
    let server = Setup::new().start();
    let made = server.client().post("/api/keys", &json!({"name": "x", "scopes": ["read"]})).await.expect(201).json();
    let page = Page::new(&server, &server.stranger().post("/api/login", &json!({"key": made["key"]})).await.expect(200));
    page.send("GET", "/api/sessions").await.expect(200);
    page.send("POST", "/api/sessions/prune").await.expect(403);
    let mut stream = Sse::new(page.client.open(page.ask("GET", "/api/events")).await);
    server.client().delete(&format!("/api/keys/{}", made["id"].as_str().unwrap())).await.expect(200);
    while stream.next().await.is_some() {}
    page.send("GET", "/api/sessions").await.expect(401);
}

/// THREATS 6: whoever logs out at a strange machine leaves nothing there that still listens; other browsers with the same key, and the
/// key itself, go on.
#[tokio::test]
async fn what_a_browser_has_open_ends_with_its_login() {
    let server = Setup::new().start();
    let log_in = async || Page::new(&server, &server.stranger().post("/api/login", &json!({"key": server.key()})).await.expect(200));
    let (page, other) = (log_in().await, log_in().await);
    let stream = async |page: &Page| Sse::new(page.client.open(page.ask("GET", "/api/events")).await);
    let (mut own, mut others, mut keys) = (stream(&page).await, stream(&other).await, server.client().sse("/api/events").await);
    // Tickets that it asked for are its own: one is used before the end, one after.
    let ticket = async || page.send("POST", "/api/chat/ticket").await.expect(200).json()["ticket"].as_str().unwrap().to_owned();
    let (used, late) = (ticket().await, ticket().await);
    let mut by_ticket = Sse::new(server.stranger().open(Ask::new("GET", format!("/api/events?ticket={used}"))).await);
    let code = page.send("POST", "/api/login/code").await.expect(200).json()["code"].clone();
    page.send("POST", "/api/logout").await.expect(200);
    for stream in [&mut own, &mut by_ticket] {
        while stream.next().await.is_some() {}
    }
    server.stranger().get(&format!("/api/events?ticket={late}")).await.expect(401);
    server.stranger().post("/api/login", &json!({"code": code})).await.expect(401);
    server.client().post("/api/chat", &json!({"content": "hello"})).await.expect(200);
    for stream in [&mut others, &mut keys] {
        stream.until(|event| event["type"] == "agent_stopped").await;
    }
}

#[tokio::test]
async fn a_printed_code_logs_in_once() {
    let server = Setup::new().start();
    let output = command(server.home()).arg("login-code").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    let code = printed.trim();
    server.canary(code);
    let answer = server.stranger().post("/api/login", &json!({"code": code})).await.expect(200);
    Page::new(&server, &answer).send("GET", "/api/status").await.expect(200);
    server.stranger().post("/api/login", &json!({"code": code})).await.expect(401);
    server.stranger().post("/api/login", &json!({"key": code})).await.expect(401);
}

/// THREATS 10: guessing is limited for each peer, here too; a good key always passes.
#[tokio::test]
async fn wrong_logins_are_limited_and_a_right_one_passes() {
    let server = Setup::new().start();
    let stranger = server.stranger();
    for (body, status) in
        [(json!({}), 422), (json!({"key": "a", "code": "b"}), 422), (json!({"key": 1}), 422), (json!({"key": "a", "name": "b"}), 422)]
    {
        stranger.post("/api/login", &body).await.expect(status).error();
    }
    for n in 0..12 {
        let answer = stranger.post("/api/login", &json!({"key": "oxk_guess"})).await;
        assert_eq!(answer.status, if n < 10 { 401 } else { 429 }, "guess {n}");
    }
    stranger.post("/api/login", &json!({"key": server.key()})).await.expect(200);
    let ask = Ask::new("POST", "/api/login").header("origin", "http://evil.example").json(&json!({"key": server.key()}));
    stranger.send(ask).await.expect(403);
}

#[tokio::test]
async fn behind_a_proxy_with_tls_the_cookie_is_secure() {
    let server = Setup::new().config("[gateway]\ntrusted_proxies = [\"127.0.0.1\"]\n").start();
    let ask = Ask::new("POST", "/api/login").header("x-forwarded-proto", "https").json(&json!({"key": server.key()}));
    let answer = server.stranger().send(ask).await.expect(200);
    assert!(answer.header("set-cookie").unwrap().ends_with("; Secure"));
}
