//! Workspace files over a socket: what is written is read, also after a restart; no path leaves the directory (API A7).

use serde_json::{Value, json};

use crate::support::client::Ask;
use crate::support::server::Setup;

fn file(path: &str) -> String {
    format!("/api/workspace/file/{path}")
}

#[tokio::test]
async fn a_file_is_written_listed_read_and_deleted_also_after_a_restart() {
    let mut server = Setup::new().start();
    let client = server.client();
    let put = client.send(Ask::new("PUT", file("notes/a%20b.md")).body(b"# hi\n".to_vec())).await.expect(200);
    assert!(put.body.is_empty());
    let made = client.post(&file("notes/sub"), &json!({"is_dir": true})).await.expect(200).json();
    assert_eq!(made, json!({"status": "created", "path": "notes/sub"}));
    assert_eq!(client.send(Ask::new("POST", file("notes/empty.txt"))).await.expect(200).json()["path"], "notes/empty.txt");
    client.send(Ask::new("POST", file("notes/empty.txt"))).await.expect(409).error();

    server.restart();
    let client = server.client();
    let tree = client.get("/api/workspace/tree?dir=notes").await.expect(200).json();
    assert_eq!(
        tree,
        json!([
            {"name": "sub", "is_dir": true, "size": 0},
            {"name": "a b.md", "is_dir": false, "size": 5},
            {"name": "empty.txt", "is_dir": false, "size": 0}
        ])
    );
    let read = client.get(&file("notes/a%20b.md")).await.expect(200);
    assert_eq!(read.body, b"# hi\n");
    assert_eq!(read.header("content-type"), Some("text/markdown; charset=utf-8"));
    assert_eq!(read.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(read.header("content-security-policy"), Some("sandbox"));
    let tag = read.header("etag").unwrap().to_owned();
    client.send(Ask::new("GET", file("notes/a%20b.md")).header("if-none-match", tag)).await.expect(304);
    let gone = client.send(Ask::new("DELETE", file("notes/a%20b.md"))).await.expect(200).json();
    assert_eq!(gone, json!({"status": "deleted", "path": "notes/a b.md"}));
    client.get(&file("notes/a%20b.md")).await.expect(404).error();
    client.send(Ask::new("DELETE", file("notes"))).await.expect(409).error();
}

#[tokio::test]
async fn a_large_file_is_sent_in_pieces_and_a_larger_body_is_refused() {
    let server = Setup::new().start();
    let client = server.client();
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(server.home().join("workspace/files/large.bin"), &large).unwrap();
    let read = client.get(&file("large.bin")).await.expect(200);
    assert!(read.body == large);
    assert_eq!(read.header("content-length"), Some("3000000"));
    client.send(Ask::new("PUT", file("x")).body(vec![b'x'; 1024 * 1024])).await.expect(200);
    client.send(Ask::new("PUT", file("x")).body(vec![b'x'; 1024 * 1024 + 1])).await.expect(413).error();
}

#[tokio::test]
async fn a_directory_that_is_put_in_the_place_of_the_files_is_what_is_used_from_then_on() {
    let server = Setup::new().start();
    let client = server.client();
    let workspace = server.home().join("workspace");
    let (files, old) = (workspace.join("files"), workspace.join("old"));
    let put = |name: &str, text: &str| Ask::new("PUT", file(name)).body(text.as_bytes().to_vec());
    client.send(put("a.txt", "before")).await.expect(200);
    // A backup takes its place.
    std::fs::create_dir(workspace.join("backup")).unwrap();
    std::fs::write(workspace.join("backup/b.txt"), "restored").unwrap();
    std::fs::rename(&files, &old).unwrap();
    std::fs::rename(workspace.join("backup"), &files).unwrap();
    assert_eq!(client.get(&file("b.txt")).await.expect(200).body, b"restored");
    client.get(&file("a.txt")).await.expect(404);
    client.send(put("c.txt", "after")).await.expect(200);
    assert!(files.join("c.txt").exists() && !old.join("c.txt").exists());
    // It is gone, then an empty one is there, then only a way to it.
    std::fs::remove_dir_all(&files).unwrap();
    assert_eq!(client.get("/api/workspace/tree").await.expect(200).json(), json!([]));
    client.send(put("d/e.txt", "anew")).await.expect(200);
    assert_eq!(std::fs::read(files.join("d/e.txt")).unwrap(), b"anew");
    std::fs::remove_dir_all(&files).unwrap();
    std::os::unix::fs::symlink(&old, &files).unwrap();
    assert_eq!(client.get(&file("a.txt")).await.expect(200).body, b"before");
    // And so does the agent.
    let told = client.post("/api/chat", &json!({"content": "read a.txt"})).await.expect(200).json();
    assert!(told["reply"].as_str().unwrap().contains("before"), "{told}");
}

/// THREATS 18.
#[tokio::test]
async fn no_path_leaves_the_workspace() {
    let server = Setup::new().start();
    let client = server.client();
    let files = server.home().join("workspace/files");
    std::os::unix::fs::symlink(server.home(), files.join("out")).unwrap();
    std::os::unix::fs::symlink(server.home().join("token"), files.join("key")).unwrap();
    for (path, status) in [
        ("..%2ftoken", 400),
        ("%2e%2e/token", 403),
        ("a/../../token", 403),
        ("a%5cb", 400),
        ("a%00b", 400),
        ("out/token", 403),
        ("key", 403),
        ("a//b", 400),
        ("none", 404),
    ] {
        client.get(&file(path)).await.expect(status);
        if status != 404 {
            client.send(Ask::new("PUT", file(path)).body(b"x".to_vec())).await.expect(status);
            // A link itself lies in the workspace and may be removed; what it points to is not touched.
            let deleted = if path == "key" { 200 } else { status };
            client.send(Ask::new("DELETE", file(path))).await.expect(deleted);
        }
    }
    for (dir, status) in [("..", 403), ("out", 403), ("none", 404), ("%00", 400)] {
        client.get(&format!("/api/workspace/tree?dir={dir}")).await.expect(status);
    }
    assert!(server.home().join("token").exists());
    let top = client.get("/api/workspace/tree").await.expect(200).json();
    assert_eq!(top, Value::Array(vec![]), "links are not shown");
}

/// RFC 9110 §13: nobody writes over what they have not seen.
#[tokio::test]
async fn a_change_that_goes_out_from_something_else_is_refused() {
    let server = Setup::new().start();
    let client = server.client();
    let put = |text: &str, name: &'static str, value: &str| {
        client.send(Ask::new("PUT", file("a.md")).body(text.as_bytes().to_vec()).header(name, value.to_owned()))
    };
    put("one", "if-match", "*").await.expect(412).error();
    put("one", "if-none-match", "*").await.expect(200);
    put("two", "if-none-match", "*").await.expect(412).error();
    let tag = client.get(&file("a.md")).await.expect(200).header("etag").unwrap().to_owned();
    put("three", "if-match", &format!("\"x\", {tag}")).await.expect(200);
    put("four", "if-match", &tag).await.expect(412).error();
    let read = client.get(&file("a.md")).await.expect(200);
    assert_eq!(read.body, b"three");
    let tag = read.header("etag").unwrap().to_owned();
    put("five", "if-match", &format!("W/{tag}")).await.expect(412).error();
    // Each line of a field counts.
    client.send(Ask::new("GET", file("a.md")).header("if-none-match", "\"x\"").header("if-none-match", tag.clone())).await.expect(304);
    client.send(Ask::new("DELETE", file("a.md")).header("if-match", "\"x\"")).await.expect(412).error();
    client.send(Ask::new("DELETE", file("a.md")).header("if-match", tag)).await.expect(200);
}
