//! Skills over HTTP (API A7), on the command line, and before the model.

use serde_json::{Value, json};

use crate::support::client::{Ask, Client};
use crate::support::scripted::{Reply, Scripted};
use crate::support::server::{Server, Setup, TempDir, command};

fn put(server: &Server, name: &str, text: &str) {
    let dir = server.home().join("workspace/skills").join(name);
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("SKILL.md"), text).unwrap();
}

async fn skill(client: &Client, name: &str) -> Value {
    client.get(&format!("/api/skills/{name}")).await.expect(200).json()
}

#[tokio::test]
async fn a_skill_is_made_shown_switched_off_and_deleted_with_restarts_between() {
    let mut server = Setup::new().start();
    let client = server.client();
    let new = json!({"name": "water", "description": "When the garden: is watered", "content": "# Watering\nAt dawn.\n", "unknown": 1});
    assert_eq!(client.post("/api/skills", &new).await.expect(200).json(), json!({"status": "created", "name": "water"}));
    server.restart();
    let client = server.client();
    let shown = skill(&client, "water").await;
    for key in [
        "name",
        "description",
        "author",
        "version",
        "emoji",
        "homepage",
        "source",
        "bundled",
        "status",
        "eligible",
        "always",
        "user_invocable",
        "file_path",
        "requirements",
        "missing",
        "os",
        "install",
        "config_checks",
        "format",
    ] {
        assert!(shown.get(key).is_some(), "{key} in {shown}");
    }
    for part in ["requirements", "missing"] {
        assert_eq!(shown[part], json!({"bins": [], "anyBins": [], "env": [], "config": []}));
    }
    assert_eq!((&shown["source"], &shown["status"], &shown["format"]), (&json!("workspace"), &json!("ready"), &json!("agent_skills")));
    assert_eq!(shown["description"], new["description"]);
    let content = client.get("/api/skills/water/content").await.expect(200).json();
    assert_eq!(content, json!({"name": "water", "content": "# Watering\nAt dawn.\n"}));
    let off = client.post_empty("/api/skills/water/disable").await.expect(200).json();
    assert_eq!(off, json!({"status": "disabled", "name": "water"}));
    client.post_empty("/api/skills/write-skill/disable").await.expect(200);

    server.restart();
    let client = server.client();
    assert_eq!(skill(&client, "water").await["status"], "disabled");
    assert_eq!(skill(&client, "write-skill").await["status"], "disabled");
    let list = client.get("/api/skills?limit=2").await.expect(200).json();
    assert_eq!((&list["total"], list["items"].as_array().unwrap().len()), (&json!(4), 2), "{list}");
    let on = client.post_empty("/api/skills/water/enable").await.expect(200).json();
    assert_eq!(on, json!({"status": "enabled", "name": "water"}));
    assert_eq!(skill(&client, "water").await["status"], "ready");
    let gone = client.delete("/api/skills/water").await.expect(200).json();
    assert_eq!(gone, json!({"status": "deleted", "name": "water"}));
    server.restart();
    let client = server.client();
    client.get("/api/skills/water").await.expect(404);
    client.delete("/api/skills/water").await.expect(404);
    client.post_empty("/api/skills/water/enable").await.expect(404);
    client.get("/api/skills/water/content").await.expect(404);
    assert!(!server.home().join("workspace/skills/water").exists());
}

#[tokio::test]
async fn hostile_names_and_sizes_have_documented_refusals() {
    let server = Setup::new().start();
    let client = server.client();
    let made = |name: &str| json!({"name": name, "description": "d", "content": "x"});
    for name in ["", "..", ".managed", "a/b", "/etc", "a\\b", "a\0b", "ä", "a b", "write-skill", &"n".repeat(65)] {
        let answer = client.post("/api/skills", &made(name)).await.expect(400);
        assert!(!answer.error().is_empty());
    }
    // What the content says of itself has to be true, and what it does not say is kept from the request.
    for (content, status) in [("---\nname: evil\n---\nx", 400), ("---\na: b: c\n---\nx", 400), ("---\nversion: 3\n---\nx", 200)] {
        client.post("/api/skills", &json!({"name": "said", "description": "from the request", "content": content})).await.expect(status);
    }
    let said = client.get("/api/skills/said").await.expect(200).json();
    assert_eq!(
        (&said["description"], &said["version"], &said["status"]),
        (&json!("from the request"), &json!("3"), &json!("ready")),
        "{said}"
    );
    let long = json!({"name": "long", "description": "d", "content": "x".repeat(64 * 1024 + 1)});
    client.post("/api/skills", &long).await.expect(413);
    client.post("/api/skills", &json!({"name": "a", "description": " "})).await.expect(400);
    client.post("/api/skills", &json!({"name": "a"})).await.expect(422);
    client.post("/api/skills", &made("once")).await.expect(200);
    client.post("/api/skills", &made("once")).await.expect(400);
    client.delete("/api/skills/write-skill").await.expect(403);
    for path in ["%2e%2e", "..%2f..%2fsecret", ".choices.json", ".managed", "%00", "once%2fSKILL.md"] {
        let answer = client.get(&format!("/api/skills/{path}")).await;
        assert!(matches!(answer.status, 400 | 404), "{path}: {}", answer.status);
    }
    // A link is no way out.
    let skills = server.home().join("workspace/skills");
    std::os::unix::fs::symlink(server.home(), skills.join("out")).unwrap();
    std::fs::create_dir(skills.join("link")).unwrap();
    std::os::unix::fs::symlink(server.home().join("token"), skills.join("link/SKILL.md")).unwrap();
    for name in ["out", "link"] {
        client.get(&format!("/api/skills/{name}")).await.expect(404);
        client.get(&format!("/api/skills/{name}/content")).await.expect(404);
    }
}

#[tokio::test]
async fn what_lies_on_the_disk_is_seen_at_once_and_a_broken_one_hides_nothing() {
    let server = Setup::new().env("SKILL_TEST_ENV", "set").start();
    let client = server.client();
    put(
        &server,
        "claw",
        "---\nname: claw\ndescription: d\nmetadata: {\"openclaw\": {\"emoji\": \"🦞\", \"requires\": {\"bins\": [\"sh\", \"no-such-bin\"], \"env\": [\"SKILL_TEST_ENV\", \"NOT_SET_ENV\"], \"config\": [\"a.b\"]}, \"install\": [{\"kind\": \"brew\", \"label\": \"l\", \"bins\": [\"x\"]}]}}\n---\nbody",
    );
    put(&server, "code", "---\nname: code\ndescription: d\nallowed-tools: Read\n---\nbody");
    put(&server, "bomb", "---\nname: bomb\ndescription: d\na: &a [x, x]\nb: [*a, *a]\n---\nbody");
    put(&server, "none", "no front matter at all");
    put(&server, "write-skill", "---\nname: write-skill\ndescription: mine\n---\nmine");
    let claw = skill(&client, "claw").await;
    assert_eq!((&claw["format"], &claw["status"], &claw["emoji"]), (&json!("openclaw"), &json!("needs_setup"), &json!("🦞")), "{claw}");
    assert_eq!(claw["missing"], json!({"bins": ["no-such-bin"], "anyBins": [], "env": ["NOT_SET_ENV"], "config": ["a.b"]}));
    assert_eq!(claw["config_checks"], json!([{"path": "a.b", "satisfied": false}]));
    assert_eq!(claw["install"], json!([{"kind": "brew", "label": "l", "bins": ["x"]}]));
    assert_eq!(skill(&client, "code").await["format"], "claude_code");
    assert!(skill(&client, "bomb").await["problem"].is_string());
    let none = skill(&client, "none").await;
    assert_eq!((&none["status"], none["problem"].is_string()), (&json!("needs_setup"), true), "{none}");
    assert_eq!(skill(&client, "write-skill").await["source"], "workspace");
    put(&server, "code", "---\nname: code\ndescription: another one\n---\nbody");
    assert_eq!(skill(&client, "code").await["description"], "another one");
    std::fs::remove_dir_all(server.home().join("workspace/skills/write-skill")).unwrap();
    assert_eq!(skill(&client, "write-skill").await["source"], "bundled");
    assert_eq!(client.get("/api/skills").await.expect(200).json()["total"], 7);
}

#[tokio::test]
async fn a_skill_that_would_not_be_listed_is_not_taken() {
    let server = Setup::new().start();
    let client = server.client();
    for n in 0..500 {
        put(&server, &format!("s{n}"), "---\nname: s\ndescription: d\n---\nx");
    }
    assert_eq!(client.get("/api/skills?limit=1").await.expect(200).json()["total"], 503, "the bundled ones, too");
    let new = json!({"name": "more", "description": "d"});
    let refused = client.post("/api/skills", &new).await.expect(409);
    assert!(refused.error().contains("delete one"), "{}", refused.error());
    client.delete("/api/skills/s7").await.expect(200);
    client.post("/api/skills", &new).await.expect(200);
    assert_eq!(client.get("/api/skills?limit=1").await.expect(200).json()["total"], 503);
}

#[tokio::test]
async fn a_required_key_of_the_configuration_counts_as_soon_as_it_is_set() {
    let server = Setup::new().in_the_open().start();
    let client = server.client();
    put(
        &server,
        "needs",
        "---\nname: needs\ndescription: d\nrequires: {config: [session.ttl_hours, mcp.servers.files, memory.enabled, channels.x]}\n---\nx",
    );
    put(&server, "soon", "---\nname: soon\ndescription: d\nrequires: {config: [session.ttl_hours]}\n---\nx");
    let checks = |satisfied: [bool; 4]| {
        let paths = ["session.ttl_hours", "mcp.servers.files", "memory.enabled", "channels.x"];
        let checks: Vec<_> = paths.iter().zip(satisfied).map(|(path, is)| json!({"path": path, "satisfied": is})).collect();
        json!(checks)
    };
    let config = async |change: Value| client.send(Ask::new("PUT", "/api/config").json(&change)).await.expect(200);
    let needs = skill(&client, "needs").await;
    assert_eq!((&needs["config_checks"], &needs["status"]), (&checks([false, false, true, false]), &json!("needs_setup")));
    assert_eq!(needs["missing"]["config"], json!(["session.ttl_hours", "mcp.servers.files", "channels.x"]));
    assert_eq!(skill(&client, "soon").await["status"], "needs_setup");

    config(json!({"session": {"ttl_hours": 72}, "mcp": {"servers": {"files": {"command": "x"}}}, "memory": {"enabled": false}})).await;
    assert_eq!(skill(&client, "needs").await["config_checks"], checks([true, true, false, false]));
    let soon = skill(&client, "soon").await;
    assert_eq!((&soon["status"], &soon["missing"]["config"]), (&json!("ready"), &json!([])));
    let listed = command(server.home()).args(["skill", "list"]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.lines().any(|line| line.starts_with("ready") && line.contains(" soon ")), "{listed}");
    assert!(listed.lines().any(|line| line.contains(" needs ") && line.contains("needs memory.enabled, channels.x")), "{listed}");

    config(json!({"session": {"ttl_hours": 0}, "mcp": {"servers": {"files": {"enabled": false}}}})).await;
    assert_eq!(skill(&client, "needs").await["config_checks"], checks([false; 4]));
    assert_eq!(skill(&client, "soon").await["status"], "needs_setup");
}

#[tokio::test]
async fn the_model_sees_ready_skills_by_name_and_loads_one() {
    let model = Scripted::start();
    let server = Setup::new().openai(&model).start();
    let client = server.client();
    put(&server, "water", "---\nname: water\ndescription: Watering the garden\n---\nSECRET-STEP: at dawn");
    std::fs::write(server.home().join("workspace/skills/water/pumps.md"), "PUMP-LIST").unwrap();
    put(&server, "needy", "---\nname: needy\ndescription: Never ready\nrequires: {bins: [no-such-bin]}\n---\nHIDDEN");
    put(&server, "off", "---\nname: off\ndescription: Switched off\n---\nHIDDEN");
    client.post_empty("/api/skills/off/disable").await.expect(200);
    model.next(Reply::new().call("a", "list_skills", &json!({})).call("b", "read_skill", &json!({"name": "water"})));
    model.next(
        Reply::new()
            .call("c", "read_skill", &json!({"name": "water/pumps.md"}))
            .call("d", "read_skill", &json!({"name": "off"}))
            .call("e", "read_skill", &json!({"name": "needy"}))
            .call("f", "read_skill", &json!({"name": "water/../../../secret"})),
    );
    model.next(Reply::text(&["watered"]));
    let answer = client.post("/api/chat", &json!({"content": "how is it watered?"})).await.expect(200).json();
    assert_eq!(answer["reply"], "watered", "{answer}");
    let second = model.request(2).await.body.to_string();
    assert!(second.contains("water: Watering the garden") && second.contains("SECRET-STEP"), "{second}");
    assert!(!second.contains("Never ready") && !second.contains("Switched off"), "{second}");
    let third = model.request(3).await.body.to_string();
    assert!(third.contains("PUMP-LIST") && !third.contains("HIDDEN"), "{third}");
}

#[tokio::test]
async fn an_install_needs_its_digest_and_is_disabled_until_enabled() {
    let server = Setup::new().start();
    let client = server.client();
    let from = TempDir::new();
    let file = from.path().join("SKILL.md");
    let text = "---\nname: imported\ndescription: From elsewhere\n---\nDo this.\n";
    std::fs::write(&file, text).unwrap();
    let run = |args: &[&str]| command(server.home()).args(args).output().unwrap();
    let path = file.to_str().unwrap();
    assert_eq!(run(&["skill", "install", path]).status.code(), Some(2), "no digest");
    assert_eq!(run(&["skill", "install", path, "--sha256", &"0".repeat(64)]).status.code(), Some(1));
    client.get("/api/skills/imported").await.expect(404);
    let digest = oxios_edge::base::digest::hex(&oxios_edge::base::digest::sha256(text.as_bytes()));
    let done = run(&["skill", "install", path, "--sha256", &digest]);
    assert!(done.status.success(), "{done:?}");
    let shown = skill(&client, "imported").await;
    assert_eq!((&shown["source"], &shown["status"], &shown["sha256"]), (&json!("managed"), &json!("disabled"), &json!(digest)));
    assert!(run(&["skill", "enable", "imported"]).status.success());
    assert_eq!(skill(&client, "imported").await["status"], "ready", "a running gateway sees what the command line did");
    client.post_empty("/api/skills/imported/disable").await.expect(200);
    let listed = run(&["skill", "list"]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.lines().any(|line| line.starts_with("disabled") && line.contains("imported")), "{listed}");
    assert!(run(&["skill", "remove", "imported"]).status.success());
    client.get("/api/skills/imported").await.expect(404);
    assert_eq!(run(&["skill", "remove", "write-skill"]).status.code(), Some(1));
}

/// What is in an archive is tested where it is read (`wire/archive.rs`, `rooms/skills`): that takes no second build of these tests.
#[cfg(not(feature = "archives"))]
#[tokio::test]
async fn a_build_that_reads_no_archives_says_so_and_installs_nothing() {
    let server = Setup::new().start();
    let from = TempDir::new();
    let archive = from.path().join("skill.tar.gz");
    std::fs::write(&archive, [0x1f, 0x8b, 8, 0]).unwrap();
    let digest = oxios_edge::base::digest::hex(&oxios_edge::base::digest::sha256(&[0x1f, 0x8b, 8, 0]));
    let refused = command(server.home()).args(["skill", "install", archive.to_str().unwrap(), "--sha256", &digest]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && said.contains("this build reads no archives"), "{said}");
    assert!(said.contains("cargo build --release --features archives"), "{said}");
    assert_eq!(server.client().get("/api/skills").await.expect(200).json()["total"], 3, "the bundled ones");
}
