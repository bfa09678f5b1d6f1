//! The sandbox: what a server that is shut in still does, what it no longer can, and who is told. Without the feature, or on a kernel
//! without Landlock, only that it is said.

use std::fs;
use std::io::ErrorKind::PermissionDenied;
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use oxios_edge::config::{Config, Env, sandbox};
use oxios_edge::sys::landlock;
use serde_json::{Value, json};

use crate::support::client::{Ask, Client};
use crate::support::scripted::{Reply, Scripted};
use crate::support::server::{Setup, TempDir, command};

/// The version of Landlock that this build and this kernel share. A build without it is tried by the first test only.
fn version() -> Option<u32> {
    let said = |why: &String| {
        if cfg!(feature = "landlock") {
            println!("SKIPPED landlock: {why}");
        }
    };
    landlock::version().inspect_err(said).ok()
}

async fn told(client: &Client) -> Value {
    client.get("/api/status").await.expect(200).json()["landlock"].clone()
}

async fn put(client: &Client, body: Value) -> Value {
    client.send(Ask::new("PUT", "/api/config").json(&body)).await.expect(200).json()
}

fn port(address: &str) -> u16 {
    address.rsplit(':').next().unwrap().parse().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn check(home: &Path, env: &[(&str, &str)]) -> Output {
    command(home).args(["config", "check"]).envs(env.iter().copied()).output().unwrap()
}

fn doctor(home: &Path, env: &[(&str, &str)]) -> Output {
    command(home).args(["doctor", "--listen", "127.0.0.1:0"]).envs(env.iter().copied()).output().unwrap()
}

#[tokio::test]
async fn it_is_said_whether_there_is_a_sandbox() {
    let server = Setup::new().start();
    let landlock = told(&server.client()).await;
    let own = port(&server.address.host());
    match landlock::version() {
        Ok(version) => {
            let ports = if version < 4 { Value::Null } else { json!([own]) };
            assert_eq!((&landlock["state"], &landlock["abi"], &landlock["files"]), (&json!("on"), &json!(version), &json!(true)));
            assert_eq!(landlock["ports"], ports);
        }
        Err(why) => assert_eq!(landlock, json!({"state": "off", "because": why, "files": false})),
    }
    let output = doctor(server.home(), &[]);
    assert!(output.status.success() && said(&output).contains("sandbox"), "{}", said(&output));
    let state = landlock["state"].as_str().unwrap();
    assert!(said(&output).contains(&format!("the gateway of this home: {state}")), "{}", said(&output));
}

#[tokio::test]
async fn a_server_that_is_shut_in_does_its_whole_job() {
    if version().is_none() {
        return;
    }
    let model = Scripted::start();
    let mut server = Setup::new().openai(&model).env("OXIOS_SECURITY__LANDLOCK", "required").start();
    for restarted in [false, true] {
        let client = server.client();
        model.next(Reply::text(&["from the model"]));
        let said = client.post("/api/chat", &json!({"content": "hello"})).await.expect(200).json();
        assert_eq!(said["reply"], "from the model");
        let session = said["session_id"].as_str().unwrap();
        client.get(&format!("/api/sessions/{session}")).await.expect(200);
        assert_eq!(client.get("/api/sessions").await.expect(200).json()["total"], 1 + usize::from(restarted));
        model.phase("interview", Reply::tool("start_task", &json!({"goal": "Write", "constraints": [], "acceptance_criteria": []})));
        model.phase("execute", Reply::tool("write_file", &json!({"path": "deep/a.md", "content": "x"})));
        let asked = client.post("/api/chat", &json!({"content": "write it", "session_id": session})).await.expect(202).json();
        model.always(Reply::text(&["written"]));
        client.post_empty(&format!("/api/approvals/{}/approve", asked["approval"]["id"].as_str().unwrap())).await.expect(200);
        client.sse(&format!("/api/sessions/{session}/events?until=idle")).await.rest().await;
        assert_eq!(fs::read_to_string(server.home().join("workspace/files/deep/a.md")).unwrap().trim(), "x");

        client.post("/api/memory", &json!({"content": "the router is in the attic"})).await.expect(200);
        assert_ne!(client.post("/api/memory/search", &json!({"query": "router"})).await.expect(200).json()["count"], 0);
        let name = format!("skill-{restarted}");
        client.post("/api/skills", &json!({"name": name, "description": "d", "content": "c"})).await.expect(200);
        client.post_empty(&format!("/api/skills/{name}/disable")).await.expect(200);
        client.delete(&format!("/api/skills/{name}")).await.expect(200);
        let zoned = json!({"name": name, "schedule": "@daily", "content": "x", "time_zone": "Europe/Lisbon"});
        if Path::new("/usr/share/zoneinfo/Europe/Lisbon").exists() {
            client.post("/api/cron-jobs", &zoned).await.expect(201);
        }
        let changed = put(&client, json!({"session": {"ttl_hours": 70 + usize::from(restarted)}})).await;
        assert_eq!(changed["restart_required"], json!([]));
        client.post("/api/keys", &json!({"name": name, "scopes": ["read"]})).await.expect(201);
        let metrics = client.get("/metrics").await.expect(200).text();
        for of in ["resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"] {
            let line = metrics.lines().find(|line| line.contains(of) && !line.starts_with('#')).unwrap();
            assert!(!line.ends_with(" 0"), "{line}");
        }
        let audited = command(server.home()).args(["audit", "verify"]).output().unwrap();
        assert!(audited.status.success(), "{audited:?}");

        // Every thread is in it, and none gains rights by a program that it starts.
        let threads: Vec<_> = fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap().flatten().collect();
        assert!(threads.len() > 1);
        for thread in threads {
            let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
            assert!(status.is_empty() || status.contains("NoNewPrivs:\t1"), "{status}");
        }
        if !restarted {
            assert!(server.stop().await.success());
            server.restart();
        }
    }
}

/// The server opens its configuration by its name. Only the kernel stands between it and where that leads by now.
#[tokio::test]
async fn a_configuration_that_becomes_a_way_out_is_not_read() {
    if version().is_none() {
        return;
    }
    for (landlock, hours) in [("required", 1), ("off", 77)] {
        let elsewhere = TempDir::new();
        fs::write(elsewhere.path().join("secret"), "[session]\nttl_hours = 77\n").unwrap();
        let server = Setup::new().config("[session]\nttl_hours = 1").env("OXIOS_SECURITY__LANDLOCK", landlock).start();
        let config = server.home().join("config.toml");
        fs::remove_file(&config).unwrap();
        symlink(elsewhere.path().join("secret"), &config).unwrap();
        server.signal(rustix::process::Signal::HUP);
        let mut log = server.log();
        while !log.contains("config.toml cannot be read") && !log.contains("config.toml was read again") {
            tokio::task::yield_now().await;
            log = server.log();
        }
        let shown = server.client().get("/api/config").await.expect(200).json();
        assert_eq!(shown["session"]["ttl_hours"], hours, "{landlock}: {log}");
    }
}

#[tokio::test]
async fn a_change_that_leads_out_waits_for_a_restart_and_says_so() {
    if version().is_none_or(|version| version < 4) {
        return;
    }
    let (one, other) = (Scripted::start(), Scripted::start());
    one.always(Reply::text(&["from one"]));
    other.always(Reply::text(&["from the other"]));
    let home = Arc::new(TempDir::new());
    let at = |model: &Scripted| format!("http://{}/v1", model.address());
    let text = format!("[engine]\ndefault_model = \"openai/scripted\"\nbase_url = \"{}\"", at(&one));
    fs::write(home.path().join("config.toml"), text).unwrap();
    let mut server = Setup::new().start_in(home);
    let client = server.client();
    let reply = async |client: &Client| client.post("/api/chat", &json!({"content": "hello"})).await.expect(200).json()["reply"].clone();
    let mut ports = [port(one.address()), port(&server.address.host())];
    ports.sort_unstable();
    assert_eq!(told(&client).await["ports"], json!(ports));

    let changed = put(&client, json!({"engine": {"base_url": at(&other), "max_tokens": 99}, "session": {"ttl_hours": 7}})).await;
    assert_eq!(changed["restart_required"], json!(["engine.base_url", "engine.max_tokens"]));
    assert_eq!(reply(&client).await, "from one");
    let shown = client.get("/api/config").await.expect(200).json();
    assert_eq!((&shown["session"]["ttl_hours"], &shown["restart_required"]), (&json!(7), &changed["restart_required"]));
    // What speaks of the engine speaks of the one that answers.
    assert_eq!(client.get("/api/engine/config").await.expect(200).json()["base_url"], json!(at(&one)));
    let providers = client.get("/api/engine/providers").await.expect(200).json()["providers"].clone();
    let openai = providers.as_array().unwrap().iter().find(|provider| provider["name"] == "openai").unwrap();
    assert_eq!((&openai["base_url"], &openai["active"]), (&json!(at(&one)), &json!(true)));
    // A program as a tool server waits, too; an address at a port that is open does not.
    let tools = json!({"mcp": {"servers": {
        "program": {"command": "/bin/true"},
        "near": {"url": format!("http://{}/mcp", one.address())},
    }}});
    let waiting = put(&client, tools).await["restart_required"].clone();
    assert_eq!(waiting, json!(["engine.base_url", "engine.max_tokens", "mcp.servers.program"]));
    let servers = client.get("/api/mcp/servers").await.expect(200).text();
    assert!(servers.contains("near") && !servers.contains("program"), "{servers}");
    // What is taken back waits no more.
    let back = put(&client, json!({"mcp": {"servers": {"program": null}}, "engine": {"base_url": at(&one)}})).await;
    assert_eq!(back["restart_required"], json!([]));
    assert_eq!(one.seen().last().unwrap().body["max_tokens"], 2048);
    assert_eq!(reply(&client).await, "from one");
    assert_eq!(one.seen().last().unwrap().body["max_tokens"], 99);

    put(&client, json!({"engine": {"base_url": at(&other)}})).await;
    server.restart();
    let client = server.client();
    assert_eq!(reply(&client).await, "from the other");
    assert_eq!(client.get("/api/config").await.expect(200).json()["restart_required"], json!([]));
}

/// `PUT /api/engine/model` keeps what it has tried.
#[tokio::test]
async fn a_model_that_cannot_be_tried_is_not_kept_and_the_answer_says_why() {
    if version().is_none_or(|version| version < 4) {
        return;
    }
    let server = Setup::new().start();
    let ask = Ask::new("PUT", "/api/engine/model").json(&json!({"model": "openai/scripted"}));
    let refused = server.client().send(ask).await.expect(409).error();
    assert!(refused.contains("security.landlock") && refused.contains("restart"), "{refused}");
    assert_eq!(server.client().get("/api/engine/config").await.expect(200).json()["default_model"], "offline");
    // Nor is a provider asked that this process does not reach.
    let key = json!({"provider": "anthropic", "api_key": "sk-ant"});
    for refused in [
        server.client().get("/api/engine/models?provider=openai").await.expect(409),
        server.client().post("/api/engine/validate-key", &key).await.expect(409),
    ] {
        assert!(refused.error().contains("security.landlock"));
    }
}

#[tokio::test]
async fn it_is_off_where_a_tool_server_is_a_program_or_its_owner_says_so() {
    let tool = "[mcp.servers.files]\ncommand = \"/bin/true\"";
    for (setup, because) in [
        (Setup::new().config(tool), "mcp.servers.files starts a program"),
        (Setup::new().env("OXIOS_SECURITY__LANDLOCK", "off"), "security.landlock is off"),
    ] {
        let server = setup.start();
        let landlock = told(&server.client()).await;
        assert_eq!(landlock["state"], "off");
        assert!(landlock["because"].as_str().unwrap().starts_with(because), "{landlock}");
        let logged = server.log().contains(&format!("sandbox: off: {because}"));
        assert_eq!(logged, cfg!(feature = "landlock"), "a build without it says so only where it is asked: {}", server.log());
        let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
        assert!(status.contains("NoNewPrivs:\t0"), "{status}");
    }
    let (home, required) = (TempDir::new(), ("OXIOS_SECURITY__LANDLOCK", "required"));
    fs::write(home.path().join("config.toml"), tool).unwrap();
    let output = command(home.path()).args(["serve", "--listen", "127.0.0.1:0"]).env(required.0, required.1).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("security.landlock is required") && said(&output).contains("mcp.servers.files"), "{}", said(&output));
    let output = doctor(home.path(), &[required]);
    assert!(!output.status.success() && said(&output).contains("FAIL  sandbox"), "{}", said(&output));
    let output = check(home.path(), &[required]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("mcp.servers.files"), "{}", said(&output));
}

/// Else the next start would be the one that says it, at night, after a power cut.
#[tokio::test]
async fn no_change_is_taken_that_a_server_could_not_start_with() {
    let server = Setup::new().config("[session]\nttl_hours = 1").start();
    let (client, path) = (server.client(), server.home().join("config.toml"));
    let before = fs::read_to_string(&path).unwrap();
    let wanted = json!({"security": {"landlock": "required"}, "mcp": {"servers": {"prog": {"command": "/bin/true"}}}});
    let refused = client.send(Ask::new("PUT", "/api/config").json(&wanted)).await.expect(400).error();
    assert!(refused.contains("security.landlock") && refused.contains("mcp.servers.prog"), "{refused}");
    assert_eq!(fs::read_to_string(&path).unwrap(), before);
    let edited = "[session]\nttl_hours = 2\n[security]\nlandlock = \"required\"\n[mcp.servers.prog]\ncommand = \"/bin/true\"\n";
    fs::write(&path, edited).unwrap();
    server.signal(rustix::process::Signal::HUP);
    while !server.log().contains("mcp.servers.prog starts a program, which would be shut in with the server; the old configuration") {
        tokio::task::yield_now().await;
    }
    assert_eq!(client.get("/api/config").await.expect(200).json()["session"]["ttl_hours"], 1);
}

/// What the system's C library answers where the kernel has no Landlock, by a library that is loaded before it.
fn no_landlock(dir: &Path) -> Option<PathBuf> {
    const SHIM: &str = r#"
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <errno.h>
        #include <stdarg.h>
        long syscall(long number, ...) {
            long a[6];
            va_list list;
            va_start(list, number);
            for (int i = 0; i < 6; i++) a[i] = va_arg(list, long);
            va_end(list);
            if (number >= 444 && number <= 446) { errno = ENOSYS; return -1; }
            long (*next)(long, ...) = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
            return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
        }"#;
    let (source, library) = (dir.join("shim.c"), dir.join("shim.so"));
    fs::write(&source, SHIM).unwrap();
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).arg("-ldl").status();
    built.is_ok_and(|status| status.success()).then_some(library)
}

#[tokio::test]
async fn on_a_kernel_without_it_a_server_starts_unless_it_is_required() {
    if version().is_none() {
        return;
    }
    let dir = TempDir::new();
    let Some(library) = no_landlock(dir.path()) else { return println!("SKIPPED landlock: no C compiler makes a library") };
    let library = library.to_str().unwrap();
    let server = Setup::new().env("LD_PRELOAD", library).start();
    let ask = Ask::new("PUT", "/api/config").json(&json!({"security": {"landlock": "required"}}));
    assert!(server.client().send(ask).await.expect(400).error().contains("the kernel has no Landlock"));
    let landlock = told(&server.client()).await;
    assert_eq!(landlock["state"], "off");
    assert!(landlock["because"].as_str().unwrap().starts_with("the kernel has no Landlock"), "{landlock}");
    let home = TempDir::new();
    let output = command(home.path())
        .args(["serve", "--listen", "127.0.0.1:0"])
        .env("LD_PRELOAD", library)
        .env("OXIOS_SECURITY__LANDLOCK", "required")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("the kernel has no Landlock"), "{}", said(&output));
    assert!(!home.path().join("token").exists());
    let output = check(home.path(), &[("LD_PRELOAD", library), ("OXIOS_SECURITY__LANDLOCK", "required")]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
}

/// The product's own rules, without the product's own care: what a stranger's code in the process could do.
#[test]
fn code_in_a_process_that_is_shut_in_reaches_nothing_else() {
    let Some(version) = version() else { return };
    let (home, elsewhere) = (TempDir::new(), TempDir::new());
    fs::write(elsewhere.path().join("secret"), "secret").unwrap();
    let [model, other] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let (model_at, other_at) = (model.local_addr().unwrap(), other.local_addr().unwrap());
    let text = format!("[engine]\ndefault_model = \"openai/a\"\nbase_url = \"http://localhost:{}/v1\"\n", model_at.port());
    let config = Config::from_text(home.path(), &text, &Env::new(), &[]).unwrap();
    fs::create_dir(home.path().join("workspace")).unwrap();
    let (inside, outside) = (home.path().to_owned(), elsewhere.path().to_owned());
    // The test's other threads are not in it.
    let shut = std::thread::spawn(move || {
        assert!(landlock::shut_in(&sandbox::rules(&config, &Env::new(), None, None), version).unwrap().is_on());
        fs::write(inside.join("workspace/a"), "a").unwrap();
        fs::rename(inside.join("workspace/a"), inside.join("b")).unwrap();
        let denied = |e: std::io::Error| assert_eq!(e.kind(), PermissionDenied, "{e}");
        for path in [outside.join("secret"), "/etc/passwd".into(), "/etc/shadow".into(), "/proc/self/environ".into(), "/dev/zero".into()] {
            denied(fs::read(&path).unwrap_err());
        }
        denied(fs::write(outside.join("new"), "").unwrap_err());
        denied(fs::remove_file(outside.join("secret")).unwrap_err());
        denied(fs::read_dir("/").map(|_| ()).unwrap_err());
        denied(Command::new("/bin/sh").status().unwrap_err());
        assert_eq!(("localhost", 1).to_socket_addrs().unwrap().next().unwrap().port(), 1, "names are still looked up");
        TcpStream::connect(model_at).unwrap();
        if version >= 4 {
            denied(TcpStream::connect(other_at).unwrap_err());
            denied(TcpListener::bind("127.0.0.1:0").map(|_| ()).unwrap_err());
        }
    });
    shut.join().unwrap();
    assert_eq!(fs::read_to_string(elsewhere.path().join("secret")).unwrap(), "secret");
    drop(other);
}

/// Home, workspace and configuration may be links, the socket and the page lie elsewhere.
#[tokio::test]
async fn what_lies_elsewhere_by_its_owners_will_is_reached() {
    let (real, run) = (TempDir::new(), TempDir::new());
    for dir in ["home", "files", "etc", "www"] {
        fs::create_dir(real.path().join(dir)).unwrap();
    }
    let within = |name: &str| real.path().join(name);
    let page = within("www/page");
    fs::write(within("etc/ox.toml"), format!("[web]\ndist = \"{}\"\n[session]\nttl_hours = 1\n", page.display())).unwrap();
    let home = Arc::new(TempDir::new());
    let link = |to: &str, name: &str| symlink(within(to), home.path().join(name)).unwrap();
    link("etc/ox.toml", "config.toml");
    link("files", "workspace");
    let socket = run.path().join("socket");
    let mut server = Setup::new().listen(&format!("unix:{}", socket.display())).start_in(home);
    let client = server.client();
    client.post("/api/chat", &json!({"content": "hello"})).await.expect(200);
    assert!(within("files/sessions").is_dir());
    assert_eq!(put(&client, json!({"session": {"ttl_hours": 9}})).await["restart_required"], json!([]));
    assert!(fs::read_to_string(within("etc/ox.toml")).unwrap().contains("ttl_hours = 9"));
    // A build is made beside the old one and takes its place.
    for text in ["first", "second"] {
        let _ = fs::remove_dir_all(&page);
        fs::create_dir(within("www/new")).unwrap();
        fs::write(within("www/new/index.html"), text).unwrap();
        fs::rename(within("www/new"), &page).unwrap();
        assert_eq!(client.get("/").await.expect(200).text(), text);
    }
    assert!(server.stop().await.success());
    assert!(!socket.exists());
}
