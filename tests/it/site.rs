//! The web page: how it is served, and what replaces it.

use std::io::Read;

use serde_json::json;

use crate::support::client::{Answer, Ask};
use crate::support::server::{Server, Setup};

fn unzipped(answer: &Answer) -> Vec<u8> {
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&answer.body[..]).read_to_end(&mut plain).unwrap();
    plain
}

async fn get(server: &Server, target: &str) -> Answer {
    server.stranger().send(Ask::new("GET", target)).await
}

async fn zipped(server: &Server, target: &str) -> Answer {
    server.stranger().send(Ask::new("GET", target).header("accept-encoding", "br, gzip")).await
}

fn put(server: &Server, path: &str, text: &str) {
    let path = server.home().join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

#[tokio::test]
async fn whoever_opens_the_address_gets_the_page_without_a_key() {
    let server = Setup::new().start();
    let page = get(&server, "/").await.expect(200);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(page.text().contains("<base href=\"./\">"), "{}", page.text());
    for place in ["/index.html", "/anything", "/?x=1", "/%7Eme", "/health/"] {
        assert!(get(&server, place).await.expect(200).text().contains("assets/app.js"), "{place}");
    }
    let script = get(&server, "/assets/app.js").await.expect(200);
    assert_eq!(script.header("content-type"), Some("text/javascript; charset=utf-8"));
    get(&server, "/assets/nothing.js").await.expect(404).error();
    let head = server.stranger().send(Ask::new("HEAD", "/")).await.expect(200);
    assert!(head.body.is_empty() && head.header("etag") == page.header("etag"));
    assert_eq!(server.stranger().post("/", &json!({})).await.expect(405).header("allow"), Some("GET, HEAD"));
    // An API path is never answered with the page.
    for path in ["/api/nothing", "/api", "/v1/nothing"] {
        server.stranger().get(path).await.expect(401);
        assert!(!server.client().get(path).await.expect(404).text().contains("<html"), "{path}");
    }
}

/// From a deep address the page's files are found by a way up, which holds behind a proxy that put something in front, too.
#[tokio::test]
async fn a_deep_address_gives_the_page_with_the_way_to_its_files() {
    let server = Setup::new().start();
    let (page, deep) = (get(&server, "/x").await, zipped(&server, "/some/place/deep").await.expect(200));
    assert!(deep.text().contains("<base href=\"../../\">"), "{}", deep.text());
    assert_ne!(page.header("etag"), deep.header("etag"), "other bytes have another validator");
    let ask = Ask::new("GET", "/some/place/deep").header("if-none-match", deep.header("etag").unwrap());
    server.stranger().send(ask).await.expect(304);
}

#[tokio::test]
async fn the_policy_allows_no_code_but_the_pages_own_files() {
    let server = Setup::new().start();
    for target in ["/", "/assets/app.js", "/deep/place"] {
        let page = get(&server, target).await.expect(200);
        let policy = page.header("content-security-policy").unwrap().to_owned();
        for part in ["default-src 'none'", "script-src 'self';", "style-src 'self';", "connect-src 'self';", "frame-ancestors 'none'"] {
            assert!(policy.contains(part), "{target}: {policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
    }
}

#[tokio::test]
async fn who_has_the_page_already_gets_a_line_and_who_takes_gzip_gets_less() {
    let server = Setup::new().start();
    for target in ["/", "/assets/app.js", "/assets/style.css"] {
        let (plain, small) = (get(&server, target).await.expect(200), zipped(&server, target).await.expect(200));
        assert_eq!(plain.header("content-encoding"), None);
        assert_eq!(plain.header("vary"), Some("accept-encoding"));
        if target != "/" {
            assert_eq!(small.header("content-encoding"), Some("gzip"), "{target}");
            assert_eq!(unzipped(&small), plain.body);
            assert_ne!(small.header("etag"), plain.header("etag"), "strong validators differ with the bytes");
            let refused = Ask::new("GET", target).header("accept-encoding", "gzip;q=0");
            assert_eq!(server.stranger().send(refused).await.body, plain.body);
        }
        for (answer, encoding) in [(&plain, "identity"), (&small, "gzip")] {
            let tag = answer.header("etag").unwrap();
            assert!(tag.starts_with('"'), "strong: {tag}");
            let ask = |known: &str| Ask::new("GET", target).header("accept-encoding", encoding).header("if-none-match", known);
            let same = server.stranger().send(ask(&format!("\"other\", {tag}"))).await.expect(304);
            assert!(same.body.is_empty() && same.header("etag") == Some(tag));
            assert_eq!(same.header("cache-control"), Some("no-cache"));
            server.stranger().send(ask("\"other\"")).await.expect(200);
        }
    }
}

/// API A9: own pages replace the embedded one, and a new build is there without a restart.
#[tokio::test]
async fn a_directory_with_a_page_replaces_it_at_once() {
    let server = Setup::new().start();
    let ours = get(&server, "/").await;
    put(&server, "workspace/web/dist/index.html", "<!doctype html>of the workspace");
    put(&server, "workspace/web/dist/assets/one.js", "let one = 1;");
    let page = get(&server, "/any/where").await.expect(200);
    assert_eq!(page.text(), "<!doctype html>of the workspace");
    assert!(
        page.header("content-security-policy").unwrap().contains("script-src")
            || page.header("content-security-policy").unwrap().contains("default-src 'self'")
    );
    assert_eq!(get(&server, "/assets/one.js").await.expect(200).text(), "let one = 1;");
    get(&server, "/assets/app.js").await.expect(404);
    put(&server, "web/dist/index.html", "<!doctype html>of the home");
    assert_eq!(get(&server, "/").await.text(), "<!doctype html>of the home");
    // The same length and, as builds do, perhaps the same time: the validator is of the content.
    let before = get(&server, "/").await;
    put(&server, "web/dist/index.html", "<!doctype html>of the moon");
    let ask = Ask::new("GET", "/").header("if-none-match", before.header("etag").unwrap());
    assert_eq!(server.stranger().send(ask).await.expect(200).text(), "<!doctype html>of the moon");
    // Named by the configuration, live.
    put(&server, "mine/index.html", "<!doctype html>mine");
    server.client().send(Ask::new("PUT", "/api/config").json(&json!({"web": {"dist": "mine"}}))).await.expect(200);
    assert_eq!(get(&server, "/").await.text(), "<!doctype html>mine");
    let large = "x".repeat(3 << 20);
    put(&server, "mine/assets/large.js", &large);
    let answer = get(&server, "/assets/large.js").await.expect(200);
    assert_eq!(answer.text(), large);
    let ask = Ask::new("GET", "/assets/large.js").header("if-none-match", answer.header("etag").unwrap());
    server.stranger().send(ask).await.expect(304);
    for dir in ["mine", "web", "workspace/web"] {
        std::fs::remove_dir_all(server.home().join(dir)).unwrap();
    }
    assert_eq!(get(&server, "/").await.text(), ours.text());
}

/// THREATS 18.
#[tokio::test]
async fn no_path_leads_out_of_the_pages_directory() {
    let server = Setup::new().start();
    put(&server, "web/dist/index.html", "<!doctype html>page");
    put(&server, "web/secret.txt", "secret");
    std::os::unix::fs::symlink(server.home().join("token"), server.home().join("web/dist/token.txt")).unwrap();
    std::os::unix::fs::symlink(server.home(), server.home().join("web/dist/home")).unwrap();
    for path in [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/x/../../secret.txt",
        "/..%2fsecret.txt",
        "/..%5csecret.txt",
        "//etc/passwd",
        "/token.txt",
        "/home/token",
        "/assets/../../secret.txt",
        "/index.html%00.txt",
    ] {
        let answer = get(&server, path).await;
        let text = answer.text();
        assert!(matches!(answer.status, 200 | 400 | 403 | 404), "{path}: {}", answer.status);
        assert!(answer.status != 200 || text == "<!doctype html>page", "{path}: {text}");
    }
}

#[tokio::test]
async fn beneath_a_base_path_everything_works_with_and_without_it() {
    let server = Setup::new().config("[gateway]\nbase_path = \"/agents/ox\"").start();
    // From each of them, also without it (a proxy took it away, or there is none), what the page loads and asks is beneath it.
    for target in ["/agents/ox/", "/agents/ox/a/b", "/", "/a/b/c"] {
        let page = get(&server, target).await.expect(200);
        assert!(page.text().contains("<base href=\"/agents/ox/\">"), "{target}: {}", page.text());
        let ask = Ask::new("GET", target).header("if-none-match", page.header("etag").unwrap());
        server.stranger().send(ask).await.expect(304);
    }
    assert_eq!(get(&server, "/agents/ox").await.expect(308).header("location"), Some("/agents/ox/"));
    get(&server, "/agents/ox/assets/app.js").await.expect(200);
    get(&server, "/agents/ox/health").await.expect(200);
    server.stranger().get("/agents/ox/api/status").await.expect(401);
    server.client().get("/agents/ox/api/status").await.expect(200);
    server.client().get("/agents/ox/api/nothing").await.expect(404);
    // A proxy may take it away, and `ask` and `healthcheck` do not know it.
    get(&server, "/assets/app.js").await.expect(200);
    server.client().get("/api/status").await.expect(200);
    let answer = server.stranger().post("/agents/ox/api/login", &json!({"key": server.key()})).await.expect(200);
    let cookie = answer.header("set-cookie").unwrap();
    assert!(cookie.contains("; Path=/agents/ox/;"), "other programs behind the proxy do not get it: {cookie}");
}

/// Whoever decides elsewhere than in the conversation sees exactly what would happen, too.
#[tokio::test]
async fn one_question_is_shown_with_what_would_happen() {
    let server = Setup::new().start();
    let asked = server.client().post("/api/chat", &json!({"content": "write a.md: text"})).await.expect(202).json();
    let id = asked["approval"]["id"].as_str().unwrap();
    let shown = server.client().get(&format!("/api/approvals/{id}")).await.expect(200).json();
    assert_eq!((&shown["shown"], &shown["digest"]), (&asked["approval"]["shown"], &asked["approval"]["digest"]));
    assert_eq!(shown["shown"]["content"], "text");
    // Why is told in short; what would happen is not cut.
    let long = "long ".repeat(400);
    let asked = server.client().post("/api/chat", &json!({"content": format!("write b.md: {long}end")})).await.expect(202).json();
    let reason = asked["approval"]["reason"].as_str().unwrap();
    assert!(reason.chars().count() == 300 && reason.starts_with("write b.md: long") && reason.ends_with('…'), "{reason}");
    assert_eq!(asked["approval"]["shown"]["content"], format!("{long}end"));
    let other = server.client().post("/api/keys", &json!({"name": "x", "scopes": ["read"], "owner": "new"})).await.expect(201).json();
    let other = server.stranger().with_key(other["key"].as_str());
    other.get(&format!("/api/approvals/{id}")).await.expect(404);
}

/// A first visit asks whether it is one, and gets no error for it.
#[tokio::test]
async fn a_browser_may_ask_whether_it_is_logged_in() {
    let server = Setup::new().start();
    let state = server.stranger().get("/api/login").await.expect(200).json();
    assert_eq!(state, json!({"logged_in": false, "scopes": []}));
    let key = server.client().post("/api/keys", &json!({"name": "x", "scopes": ["read", "chat"]})).await.expect(201).json();
    let answer = server.stranger().post("/api/login", &json!({"key": key["key"]})).await.expect(200);
    let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let ask = |cookie: String| Ask::new("GET", "/api/login").header("cookie", cookie).header("sec-fetch-site", "same-origin");
    let state = server.stranger().send(ask(cookie)).await.expect(200).json();
    assert_eq!(state, json!({"logged_in": true, "scopes": ["read", "chat"]}));
    let state = server.stranger().send(ask("oxios=guess".into())).await.expect(200).json();
    assert_eq!(state["logged_in"], false);
    let open = Setup::new().env("OXIOS_SECURITY__AUTH_ENABLED", "false").start();
    assert_eq!(open.stranger().get("/api/login").await.expect(200).json()["logged_in"], true);
}

/// API A9: a page from the net comes by command or by itself, each only with its digest.
#[cfg(feature = "archives")]
mod fetched {
    use std::io::Write;
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use oxios_edge::base::digest::{hex, sha256};

    use super::*;
    use crate::support::server::command;

    /// Serves this archive to whoever asks for `/page.tgz`; counts them.
    fn serve(archive: Vec<u8>) -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (url, asked) = (format!("http://{}/page.tgz", listener.local_addr().unwrap()), Arc::new(AtomicUsize::new(0)));
        let count = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                    head.push(byte[0]);
                }
                count.fetch_add(1, Ordering::SeqCst);
                let there = head.starts_with(b"GET /page.tgz ");
                let (status, body) = if there { ("200 OK", &archive[..]) } else { ("404 Not Found", &b"none"[..]) };
                let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                let _ = stream.write_all(body);
            }
        });
        (url, asked)
    }

    fn archive(page: &str) -> (Vec<u8>, String) {
        let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default()));
        let mut header = tar::Header::new_gnu();
        header.set_size(page.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, "dist/index.html", page.as_bytes()).unwrap();
        let bytes = tar.into_inner().unwrap().finish().unwrap();
        let digest = hex(&sha256(&bytes));
        (bytes, digest)
    }

    #[tokio::test]
    async fn a_command_fetches_a_page_with_its_digest_and_no_other() {
        let server = Setup::new().start();
        let (bytes, digest) = archive("<!doctype html>fetched");
        let (url, _) = serve(bytes);
        let fetch =
            |url: &str, digest: &str| command(server.home()).args(["web", "fetch", "--url", url, "--sha256", digest]).output().unwrap();
        let ours = get(&server, "/").await.text();
        for (url, digest, why) in [
            (url.as_str(), "00".repeat(32).as_str(), "SHA-256"),
            (&url.replace("page", "other"), &digest, "404"),
            ("http://127.0.0.1:1/page.tgz", &digest, "nothing was changed"),
        ] {
            let refused = fetch(url, digest);
            assert_eq!(refused.status.code(), Some(1));
            assert!(String::from_utf8_lossy(&refused.stderr).contains(why), "{why}: {refused:?}");
        }
        assert_eq!(fetch(&url, "12").status.code(), Some(2));
        assert_eq!(get(&server, "/").await.text(), ours);
        let done = fetch(&url, &digest);
        assert!(done.status.success(), "{done:?}");
        assert_eq!(get(&server, "/").await.expect(200).text(), "<!doctype html>fetched");
    }

    #[tokio::test]
    async fn a_page_comes_by_itself_only_where_the_configuration_names_it() {
        let (bytes, digest) = archive("<!doctype html>by itself");
        let (url, asked) = serve(bytes);
        let mut server = Setup::new().in_the_open().start();
        let said = server.client().send(Ask::new("PUT", "/api/config").json(&json!({"web": {"auto_update": url}}))).await;
        assert!(said.expect(400).text().contains("sha256:"));
        assert_eq!(asked.load(Ordering::SeqCst), 0);
        let wanted = json!({"web": {"auto_update": format!("{url} sha256:{digest}")}});
        server.client().send(Ask::new("PUT", "/api/config").json(&wanted)).await.expect(200);
        let comes = async {
            while get(&server, "/").await.text() != "<!doctype html>by itself" {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), comes).await.unwrap();
        assert!(server.stop().await.success());
        server.restart();
        assert_eq!(get(&server, "/").await.text(), "<!doctype html>by itself");
        assert!(server.stop().await.success());
        assert_eq!(asked.load(Ordering::SeqCst), 1, "what is there is not fetched again");
    }
}
