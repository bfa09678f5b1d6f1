//! Who may what: every row of the route table with every kind of credential, over every transport, compared with what the row says.
//! There is no second list here: what is expected is worked out from the row.

use oxios_edge::api::routes::{Access, Entry, ROUTES, Route};
use oxios_edge::middleware::auth::Scope;
use serde_json::{Value, json};

use crate::support::client::{Ask, Client, Streaming};
use crate::support::server::{Server, Setup};
use crate::support::ws::{Ws, handshake};

/// What a caller meets.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Gate {
    Open,
    Unauthorized,
    Forbidden,
    /// 403 of the origin check, before any credential is looked at.
    Foreign,
}

/// How a credential is shown.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Bearer,
    Ticket,
    Token,
    Cookie,
}

/// The page that a browser says it comes from.
#[derive(Clone, Copy, PartialEq)]
enum Page {
    Unsaid,
    Ours,
    Other(&'static str),
}

const OTHER_PAGES: [&str; 3] = ["http://evil.example", "null", "http://127.0.0.1:1"];

/// What the row says of a credential: whose scopes it has, or none where nothing stands behind it.
fn wanted(row: &Route, way: Way, page: Page, scopes: Option<&[Scope]>) -> Gate {
    let acts = row.method != "GET" || row.entry == Entry::Socket;
    if acts && matches!(page, Page::Other(_)) {
        return Gate::Foreign;
    }
    let counts = match way {
        Way::Bearer => true,
        Way::Ticket => row.entry != Entry::Header,
        // The tests come by loopback.
        Way::Token => row.entry == Entry::Socket,
        Way::Cookie => page == Page::Ours || page == Page::Unsaid && !acts,
    };
    match (row.access, scopes.filter(|_| counts)) {
        (Access::Public, _) | (Access::Key, Some(_)) => Gate::Open,
        (_, None) => Gate::Unauthorized,
        (Access::Scopes(needed), Some(scopes)) if needed.iter().all(|scope| scopes.contains(scope)) => Gate::Open,
        (Access::Scopes(_), Some(_)) => Gate::Forbidden,
    }
}

/// Everything that a walk needs.
struct Walk {
    server: Server,
    ours: String,
    session: String,
}

impl Walk {
    async fn new(setup: Setup) -> Self {
        let server = setup.env("OXIOS_SECURITY__RATE_LIMIT_PER_MINUTE", "0").start();
        let said = server.client().post("/api/chat", &json!({"content": "hello"})).await.expect(200).json();
        let ours = format!("http://{}", server.address.host());
        Self { session: said["session_id"].as_str().unwrap().to_owned(), ours, server }
    }

    /// A request that fails for its body or for what it names where it is let in: nothing is to happen but the check. What only
    /// reads a session reads a real one, so that streams begin.
    fn ask(&self, row: &Route, query: &str) -> Ask {
        let parts = row.path.split('/').map(|part| match part {
            "{id}" if row.method == "GET" && row.path.starts_with("/api/sessions/") => &self.session,
            "{id}" => "67e55044-10b1-426f-9247-bb680e5fe0c8",
            part if part.starts_with("{*") => "some/file.txt",
            part if part.starts_with('{') => "name",
            part => part,
        });
        let target = format!("{}{query}", parts.collect::<Vec<_>>().join("/"));
        match (row.entry, row.takes) {
            (Entry::Socket, _) => handshake(&target),
            (_, "") => Ask::new(row.method.as_str(), target),
            _ => Ask::new(row.method.as_str(), target).header("content-type", "text/nothing").body(b"?".to_vec()),
        }
    }

    fn from(&self, ask: Ask, page: Page) -> Ask {
        match page {
            Page::Unsaid => ask,
            Page::Ours => ask.header("origin", self.ours.as_str()),
            Page::Other(origin) => ask.header("origin", origin),
        }
    }

    /// A new key: its id and its text.
    async fn key(&self, scopes: &[Scope]) -> (String, String) {
        let names: Vec<_> = scopes.iter().map(|scope| scope.name()).collect();
        let made = self.server.client().post("/api/keys", &json!({"name": "x", "scopes": names})).await.expect(201).json();
        (made["id"].as_str().unwrap().to_owned(), made["key"].as_str().unwrap().to_owned())
    }

    /// A browser's cookie that stands for this key.
    async fn cookie(&self, key: &str) -> String {
        let login = self.server.stranger().post("/api/login", &json!({"key": key})).await.expect(200);
        login.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
    }

    /// `?ticket=…` of this key.
    async fn ticket(&self, key: &str) -> String {
        let answer = self.server.stranger().with_key(Some(key)).post_empty("/api/chat/ticket").await.expect(200).json();
        format!("?ticket={}", answer["ticket"].as_str().unwrap())
    }
}

/// What the answer says; and where a stream was to begin, that it began.
fn met(row: &Route, answer: &Streaming) -> Gate {
    match answer.status {
        401 | 429 => Gate::Unauthorized,
        403 if answer.header("www-authenticate").is_some_and(|challenge| challenge.contains("insufficient_scope")) => Gate::Forbidden,
        403 => Gate::Foreign,
        status => {
            if row.entry == Entry::Socket {
                assert_eq!(status, 101, "{}", row.path);
            } else if row.answers.1 == "text/event-stream" {
                assert_eq!(status, 200, "{}", row.path);
                assert_eq!(answer.header("content-type"), Some("text/event-stream"), "{}", row.path);
            }
            Gate::Open
        }
    }
}

async fn meets(row: &Route, client: &Client, ask: Ask, wanted: Gate, what: &str) {
    // Streams never end; their head says enough.
    let answer = client.open(ask).await;
    assert_eq!(
        answer.header("access-control-allow-origin"),
        None,
        "{} {}, {what}: no page of another origin may read it",
        row.method,
        row.path
    );
    assert_eq!(met(row, &answer), wanted, "{} {}, {what}: {}", row.method, row.path, answer.status);
}

/// THREATS 3, 4, 5, 6: nothing but a good credential opens a row that is not public, whatever it looks like and wherever it is put.
#[tokio::test]
async fn no_row_opens_to_none_wrong_revoked_expired_or_used_credentials() {
    let walk = Walk::new(Setup::new()).await;
    let (admin, stranger) = (walk.server.client(), walk.server.stranger());
    let (revoked_id, revoked) = walk.key(&Scope::ALL).await;
    let (expired_id, expired) = walk.key(&Scope::ALL).await;
    let (_, good) = walk.key(&Scope::ALL).await;
    let revoked_cookie = walk.cookie(&revoked).await;
    let revoked_ticket = walk.ticket(&revoked).await;
    let code = stranger.with_key(Some(&revoked)).post_empty("/api/login/code").await.expect(200).json()["code"].clone();
    admin.delete(&format!("/api/keys/{revoked_id}")).await.expect(200);
    // Rotated without overlap it has expired at once.
    admin.post_empty(&format!("/api/keys/{expired_id}/rotate")).await.expect(201);
    let ended_cookie = walk.cookie(&good).await;
    let logout = Ask::new("POST", "/api/logout").header("cookie", ended_cookie.as_str()).header("origin", walk.ours.as_str());
    stranger.send(logout.body(Vec::new())).await.expect(200);
    let used_ticket = walk.ticket(&good).await;
    assert_eq!(stranger.open(Ask::new("GET", format!("/api/events{used_ticket}"))).await.status, 200);
    let bearer = |key: &str| format!("Bearer {key}");
    stranger.forbid(&good);

    for row in ROUTES {
        let closed = wanted(row, Way::Bearer, Page::Unsaid, None);
        let plain = || walk.ask(row, "");
        let cookie = |value: &str| walk.from(plain().header("cookie", value), Page::Ours);
        for (what, ask) in [
            ("an empty one", plain().header("authorization", "Bearer ")),
            ("a wrong key", plain().header("authorization", "Bearer oxk_wrong")),
            ("a revoked key", plain().header("authorization", bearer(&revoked))),
            ("an expired key", plain().header("authorization", bearer(&expired))),
            ("a good key in another scheme", plain().header("authorization", format!("Basic {good}"))),
            ("a good key and a wrong one", plain().header("authorization", bearer(&good)).header("authorization", "Bearer oxk_wrong")),
            ("a good key in other fields", plain().header("x-api-key", good.as_str()).header("x-authorization", bearer(&good))),
            ("a proxy's word for it", plain().header("x-forwarded-user", "admin").header("x-forwarded-for", "127.0.0.1")),
            ("a wrong ticket", walk.ask(row, "?ticket=0123456789abcdef")),
            ("a used ticket", walk.ask(row, &used_ticket)),
            ("a ticket of a revoked key", walk.ask(row, &revoked_ticket)),
            ("a wrong token", walk.ask(row, "?token=oxk_wrong")),
            ("a revoked key as token", walk.ask(row, &format!("?token={revoked}"))),
            ("a key under another name", walk.ask(row, &format!("?key={good}&access_token={good}"))),
            ("a wrong cookie", cookie("oxios=admin")),
            ("a key as cookie", cookie(&format!("oxios={good}"))),
            ("a cookie that was logged out", cookie(&ended_cookie)),
            ("a cookie of a revoked key", cookie(&revoked_cookie)),
        ] {
            meets(row, &stranger, ask, closed, what).await;
        }
        let none = stranger.open(plain()).await;
        assert!(closed == Gate::Open || none.status == 401, "{} {}, none: {}, and it is never counted", row.method, row.path, none.status);
        if row.method == "GET" && row.entry == Entry::Header {
            meets(row, &stranger, Ask::new("HEAD", row.path.replace(['{', '}', '*'], "")), closed, "HEAD").await;
        }
    }
    stranger.post("/api/login", &json!({"code": code})).await;
    let answer = stranger.post("/api/login", &json!({"code": code})).await;
    assert!(matches!(answer.status, 401 | 429), "a code of a revoked key: {}", answer.status);
    // After hundreds of wrong ones of this peer a good one still passes.
    stranger.with_key(Some(&good)).get("/api/sessions").await.expect(200);
}

/// THREATS 1, 3, 4, 5: what a good credential opens is what its row says, whichever way it comes in and whichever page sends it.
#[tokio::test]
async fn every_scope_opens_the_rows_that_name_it_and_no_other_by_key_ticket_token_and_cookie() {
    let walk = Walk::new(Setup::new()).await;
    let stranger = walk.server.stranger();
    let mut kinds: Vec<Vec<Scope>> = Scope::ALL.iter().map(|scope| vec![*scope]).collect();
    // Rows that name two need both; all together open everything.
    kinds.extend(ROUTES.iter().filter_map(|row| match row.access {
        Access::Scopes(several @ [_, _, ..]) => Some(several.to_vec()),
        _ => None,
    }));
    kinds.push(Scope::ALL.to_vec());
    kinds.dedup();
    let pages: Vec<Page> = [Page::Unsaid, Page::Ours].into_iter().chain(OTHER_PAGES.map(Page::Other)).collect();
    for scopes in &kinds {
        let (_, key) = walk.key(scopes).await;
        let client = stranger.with_key(Some(&key));
        for row in ROUTES {
            let name = |way: &str| format!("{way} with {scopes:?}");
            let should = |way, page| wanted(row, way, page, Some(scopes));
            for page in &pages {
                let ask = walk.from(walk.ask(row, ""), *page);
                meets(row, &client, ask, should(Way::Bearer, *page), &name("key")).await;
            }
            if row.method == "GET" && row.entry == Entry::Header {
                let ask = Ask::new("HEAD", row.path.replace("{id}", &walk.session).replace(['{', '}', '*'], ""));
                meets(row, &client, ask, should(Way::Bearer, Page::Unsaid), &name("HEAD, key")).await;
            }
            let ticket = walk.ticket(&key).await;
            meets(row, &stranger, walk.ask(row, &ticket), should(Way::Ticket, Page::Unsaid), &name("ticket")).await;
            let token = walk.ask(row, &format!("?token={key}"));
            meets(row, &stranger, token, should(Way::Token, Page::Unsaid), &name("token")).await;
            let mut cookie = walk.cookie(&key).await;
            for page in &pages {
                let ask = walk.from(walk.ask(row, "").header("cookie", cookie.as_str()), *page);
                meets(row, &stranger, ask, should(Way::Cookie, *page), &name("cookie")).await;
                if row.path == "/api/logout" {
                    cookie = walk.cookie(&key).await;
                }
            }
            // The browser itself says that another site asks.
            let ask = walk.ask(row, "").header("cookie", cookie.as_str()).header("sec-fetch-site", "cross-site");
            let closed = wanted(row, Way::Cookie, Page::Unsaid, None);
            meets(row, &stranger, ask, closed, &name("cookie, cross-site")).await;
        }
    }
}

/// THREATS 3: without authentication every row is open to whoever is at the machine, and still to no page of another origin.
#[tokio::test]
async fn switched_off_authentication_opens_all_rows_and_no_foreign_page_gets_in() {
    let walk = Walk::new(Setup::new().env("OXIOS_SECURITY__AUTH_ENABLED", "false")).await;
    let stranger = walk.server.stranger();
    for row in ROUTES {
        for page in [Page::Unsaid, Page::Ours, Page::Other(OTHER_PAGES[0])] {
            let ask = walk.from(walk.ask(row, ""), page);
            meets(row, &stranger, ask, wanted(row, Way::Bearer, page, Some(&Scope::ALL)), "authentication is off").await;
        }
    }
}

/// The row that does over HTTP what a frame or a tool does.
fn row(method: &str, path: &str) -> &'static Route {
    ROUTES.iter().find(|row| row.method == method && row.path == path).unwrap()
}

/// THREATS 4: a frame needs what the row needs that does the same over HTTP.
#[tokio::test]
async fn a_socket_refuses_what_its_row_over_http_refuses() {
    let walk = Walk::new(Setup::new()).await;
    let frames = [
        (json!({"type": "message", "content": "hello"}), row("POST", "/api/chat")),
        (json!({"type": "resume", "session_id": walk.session}), row("GET", "/api/sessions/{id}/events")),
        (json!({"type": "cancel", "id": walk.session}), row("POST", "/api/chat/{id}/cancel")),
    ];
    for scope in Scope::ALL {
        let scopes = [Scope::Chat, scope];
        let (_, key) = walk.key(&scopes).await;
        for (frame, row) in &frames {
            let mut socket = Ws::chat(&walk.server.stranger().with_key(Some(&key))).await;
            socket.send(frame).await;
            let answer = socket.json().await;
            let gate = if answer["code"] == "scope" { Gate::Forbidden } else { Gate::Open };
            assert_eq!(gate, wanted(row, Way::Bearer, Page::Unsaid, Some(&scopes)), "{frame} with {scopes:?}: {answer}");
        }
    }
}

/// THREATS 4: a tool of `/mcp` needs what the row needs that does the same.
#[tokio::test]
async fn a_tool_refuses_what_its_row_over_http_refuses() {
    let walk = Walk::new(Setup::new()).await;
    let tools = [
        ("ask", json!({"content": "hello"}), row("POST", "/api/chat")),
        ("search_memory", json!({"query": "x"}), row("POST", "/api/memory/search")),
        ("list_sessions", json!({}), row("GET", "/api/sessions")),
    ];
    for scope in Scope::ALL {
        let (_, key) = walk.key(&[scope]).await;
        let client = walk.server.stranger().with_key(Some(&key));
        let call = async |method: &str, params: Value| {
            client.post("/mcp", &json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})).await.expect(200).json()
        };
        let offered = call("tools/list", json!({})).await["result"]["tools"].to_string();
        for (name, arguments, row) in &tools {
            let open = wanted(row, Way::Bearer, Page::Unsaid, Some(&[scope])) == Gate::Open;
            assert_eq!(offered.contains(&format!("\"{name}\"")), open, "{name} with {scope:?}");
            let answer = call("tools/call", json!({"name": name, "arguments": arguments})).await;
            assert_eq!(answer["result"]["isError"], json!(!open), "{name} with {scope:?}: {answer}");
        }
        let known = call("tools/list", json!({})).await["result"]["tools"].as_array().unwrap().len();
        assert!(known <= tools.len(), "a tool that this test does not know");
    }
    let all = walk.server.client().post("/mcp", &json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})).await.expect(200).json();
    assert_eq!(all["result"]["tools"].as_array().unwrap().len(), tools.len(), "a tool that this test does not know");
}
