//! Under a supervisor such as systemd, without its library: readiness, reloads, the watchdog (sd_notify(3)), sockets that it has
//! opened (sd_listen_fds(3)), and keys that it hands over as files (systemd.exec(5), LoadCredential=).

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

use crate::support::client::Address;
use crate::support::scripted::{Gate, Reply, Scripted};
use crate::support::server::{BINARY, Server, Setup, TempDir, command};
use crate::support::supervisor::Supervisor;

fn micros() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1000
}

/// Reads until the watchdog is fed.
async fn fed(supervisor: &Supervisor) {
    while supervisor.hears().await != "WATCHDOG=1" {}
}

#[tokio::test]
async fn a_supervisor_hears_of_the_start_of_reloads_and_of_the_end() {
    for supervisor in [Supervisor::at_a_path(), Supervisor::abstractly()] {
        let model = Scripted::start();
        let gate = Gate::new();
        model.next(Reply::text(&["one "]).wait(&gate).say("two"));
        let mut server = Setup::new().openai(&model).supervised(&supervisor, None).start();
        let address = std::fs::read_to_string(server.home().join("address")).unwrap();
        let serving = format!("READY=1\nSTATUS=serving at {}", address.trim());
        assert_eq!(supervisor.hears().await, serving);

        for (config, after) in [
            ("[session]\nttl_hours = 31\n", serving.clone()),
            ("[session]\nttl_hours = \"canary\"\n", format!("{serving}; config.toml is refused, see the log")),
            ("[session]\nttl_hours = 32\n", serving.clone()),
        ] {
            std::fs::write(server.home().join("config.toml"), config).unwrap();
            let before = micros();
            server.signal(Signal::HUP);
            let begins = supervisor.hears().await;
            let at: i64 = begins.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap_or_else(|| panic!("{begins}")).parse().unwrap();
            assert!((before..=micros()).contains(&at), "{before} {at}");
            assert_eq!(supervisor.hears().await, after);
        }
        let shown = server.client().get("/api/config").await.expect(200).json();
        assert_eq!(shown["session"]["ttl_hours"], 32, "READY comes when the new configuration is in force");

        let client = server.client();
        let answer = tokio::spawn(async move { client.post("/api/chat", &json!({"content": "hi"})).await });
        model.request(1).await;
        server.signal(Signal::TERM);
        assert_eq!(supervisor.hears().await, "STOPPING=1\nSTATUS=answers that run are finished");
        gate.open();
        assert_eq!(answer.await.unwrap().expect(200).json()["reply"], "one two");
        assert!(server.wait().await.success());
    }
}

#[tokio::test]
async fn a_supervisor_that_cannot_be_told_does_not_keep_the_gateway_from_working() {
    for name in ["/nowhere/at/all", "vsock:2:1"] {
        let server = Setup::new().env("NOTIFY_SOCKET", name).start();
        server.client().get("/health").await.expect(200);
        assert!(server.log().contains("supervisor"), "{}", server.log());
    }
}

#[tokio::test]
async fn the_watchdog_is_fed_while_the_server_answers_itself_and_not_while_it_does_not() {
    let dir = TempDir::new();
    let (path, aside) = (dir.path().join("socket"), dir.path().join("aside"));
    let supervisor = Supervisor::at_a_path();
    let place = format!("unix:{}", path.display());
    let mut server = Setup::new().listen(&place).supervised(&supervisor, Some(Duration::from_secs(2))).start();
    assert_eq!(supervisor.hears().await, format!("READY=1\nSTATUS=serving at {place}"));
    fed(&supervisor).await;
    fed(&supervisor).await;
    // From here on its address leads to somebody who takes connections and says nothing.
    std::fs::rename(&path, &aside).unwrap();
    let deaf = UnixListener::bind(&path).unwrap();
    while !supervisor.hears().await.starts_with("STATUS=not well: ") {}
    for _ in 0..3 {
        let heard = supervisor.hears().await;
        assert!(heard.starts_with("STATUS=not well: "), "while it hangs nothing is fed: {heard}");
    }
    std::fs::rename(&aside, &path).unwrap();
    drop(deaf);
    fed(&supervisor).await;
    server.signal(Signal::TERM);
    while supervisor.hears_news().await != "STOPPING=1\nSTATUS=answers that run are finished" {}
    assert!(server.wait().await.success());
}

#[tokio::test]
async fn a_watchdog_of_another_process_is_not_fed() {
    let supervisor = Supervisor::at_a_path();
    let mut server = Setup::new().supervised(&supervisor, None).env("WATCHDOG_USEC", "20000").env("WATCHDOG_PID", "1").start();
    assert!(supervisor.hears().await.starts_with("READY=1"));
    for _ in 0..5 {
        server.client().get("/api/sessions").await.expect(200);
        server.signal(Signal::HUP);
        assert!(supervisor.hears().await.starts_with("RELOADING=1"));
        assert!(supervisor.hears().await.starts_with("READY=1"));
    }
    server.signal(Signal::TERM);
    assert!(supervisor.hears().await.starts_with("STOPPING=1"));
    assert!(server.wait().await.success());
}

/// What `<home>/address` holds.
fn address(server: &Server) -> String {
    std::fs::read_to_string(server.home().join("address")).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_client_that_came_before_the_server_is_answered_on_the_socket_that_was_handed_over() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let mut early = TcpStream::connect(at).unwrap();
    write!(early, "GET /health HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n\r\n").unwrap();
    let mut server = Setup::new().handed(listener.try_clone().unwrap()).config("[gateway]\nport = 1\nhost = \"192.0.2.1\"").start();
    let mut said = String::new();
    early.read_to_string(&mut said).unwrap();
    assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
    assert_eq!(address(&server), format!("http://{at}"));
    assert!(command(server.home()).arg("healthcheck").status().unwrap().success());
    server.client().get("/api/sessions").await.expect(200);
    // The next one takes over where this one stopped; who comes between waits.
    assert!(server.stop().await.success());
    let mut between = TcpStream::connect(at).unwrap();
    write!(between, "GET /health HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n\r\n").unwrap();
    server.restart();
    said.clear();
    between.read_to_string(&mut said).unwrap();
    assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
}

#[tokio::test]
async fn a_unix_socket_that_was_handed_over_is_served_and_its_file_left_to_who_made_it() {
    let dir = TempDir::new();
    let path = dir.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let mut server = Setup::new().handed(listener).start();
    assert_eq!(address(&server), format!("unix:{}", path.display()));
    assert!(matches!(&server.address, Address::Unix(at) if *at == path));
    server.client().get("/api/sessions").await.expect(200);
    assert!(server.stop().await.success());
    assert!(path.exists());
}

/// `serve` with these as descriptors 3 and 4, and these variables.
fn started_with(three: Option<OwnedFd>, variables: &str, args: &[&str]) -> Output {
    let home = TempDir::new();
    let script = if three.is_some() { "exec 3<&0 4<&0 0</dev/null" } else { "exec 3<&- 4<&-" };
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{script} && {variables} exec \"$0\" serve \"$@\""), BINARY]).args(args);
    shell.env("OXIOS_HOME", home.path());
    shell.stdin(three.map_or_else(Stdio::null, Stdio::from)).output().unwrap()
}

#[test]
fn what_cannot_be_served_on_is_refused_and_says_what_to_change() {
    let one = "export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web;";
    let listener = || Some(OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap()));
    let (pair, _kept) = UnixStream::pair().unwrap();
    for (three, variables, args, expected) in [
        (
            Some(UdpSocket::bind("127.0.0.1:0").unwrap().into()),
            one,
            &[][..],
            "descriptor 3, \"web\") is no stream socket; use ListenStream=",
        ),
        (Some(pair.into()), one, &[], "Use Accept=no"),
        (Some(std::fs::File::open("/dev/null").unwrap().into()), one, &[], "is no socket"),
        (None, one, &[], "LISTEN_FDS promises descriptor 3"),
        (listener(), "export LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=web:more;", &[], "2 sockets were handed over, \"web:more\""),
        (listener(), "export LISTEN_PID=$$ LISTEN_FDS=many;", &[], "LISTEN_FDS: \"many\" is no number"),
        (listener(), one, &["--listen", "127.0.0.1:0"], "leave one of them"),
    ] {
        let output = started_with(three, variables, args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(expected), "{expected:?} is not in {said:?}");
    }
}

#[tokio::test]
async fn sockets_that_were_meant_for_a_parent_are_let_alone() {
    let server = Setup::new().env("LISTEN_FDS", "1").env("LISTEN_PID", "1").start();
    server.client().get("/health").await.expect(200);
}

/// A directory with these credentials.
fn credentials(files: &[(&str, &str)]) -> TempDir {
    let dir = TempDir::new();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
    }
    dir
}

const HANDED: &str = "sk-canary-handed-over-7f";

#[tokio::test]
async fn the_key_of_a_model_comes_from_a_credential_and_a_variable_goes_before_it() {
    let dir = credentials(&[("openai_api_key", &format!("{HANDED}\n")), ("else", "x"), ("anthropic_api_key", HANDED)]);
    let path = dir.path().to_str().unwrap();
    for (setup, header, expected) in [
        (Setup::new().env("OXIOS_ENGINE__DEFAULT_MODEL", "openai/scripted"), "authorization", format!("Bearer {HANDED}")),
        (Setup::new().env("OXIOS_ENGINE__DEFAULT_MODEL", "anthropic/scripted"), "x-api-key", HANDED.to_owned()),
        (
            Setup::new().env("OXIOS_ENGINE__DEFAULT_MODEL", "openai/scripted").env("OPENAI_API_KEY", "sk-typed"),
            "authorization",
            "Bearer sk-typed".to_owned(),
        ),
        (
            Setup::new().config("[engine]\ndefault_model = \"openai/scripted\"\napi_key = \"sk-in-the-file\""),
            "authorization",
            format!("Bearer {HANDED}"),
        ),
        (
            Setup::new().env("OXIOS_ENGINE__DEFAULT_MODEL", "openai/scripted").env("OXIOS_ENGINE__API_KEY", "sk-ours"),
            "authorization",
            "Bearer sk-ours".to_owned(),
        ),
    ] {
        let model = Scripted::start();
        model.always(Reply::text(&["fine"]));
        let url = format!("http://{}/v1", model.address());
        let server = setup.env("OXIOS_ENGINE__BASE_URL", url).env("CREDENTIALS_DIRECTORY", path).start();
        server.canary(HANDED);
        let client = server.client();
        client.forbid(HANDED);
        client.post("/api/chat", &json!({"content": "hi"})).await;
        let seen = model.request(1).await;
        assert_eq!(seen.header(header), Some(expected.as_str()));
        client.get("/api/config").await.expect(200);
    }
}

#[test]
fn a_credential_chooses_the_model_and_config_show_says_whence() {
    let dir = credentials(&[("openai_api_key", HANDED)]);
    let home = TempDir::new();
    let shown = command(home.path()).env("CREDENTIALS_DIRECTORY", dir.path()).args(["config", "show"]).output().unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("*** from credential openai_api_key") && shown.contains("credential openai_api_key is set"), "{shown}");
    assert!(!shown.contains(HANDED));
}

#[test]
fn a_credential_that_is_no_key_keeps_the_server_from_starting_and_is_not_shown() {
    let dir = credentials(&[("openai_api_key", HANDED), ("anthropic_api_key", "two\nlines-canary")]);
    let open = dir.path().join("openai_api_key");
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o444)).unwrap();
    let home = TempDir::new();
    let output = command(home.path()).env("CREDENTIALS_DIRECTORY", dir.path()).arg("serve").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("openai_api_key: is open to others (mode 0444)") && said.contains("anthropic_api_key: holds no key"), "{said}");
    assert!(!said.contains("canary"), "{said}");
}

#[tokio::test]
async fn what_is_between_the_supervisor_and_the_server_does_not_reach_tool_servers() {
    let dir = credentials(&[("openai_api_key", HANDED)]);
    let seen = dir.path().join("seen");
    let script = "(env; ls -l /proc/self/fd) >\"$1.part\"; mv \"$1.part\" \"$1\"";
    let config =
        format!("[mcp.servers.spy]\ncommand = \"sh\"\nargs = [\"-c\", {script:?}, \"sh\", {:?}]\ntrust = true\n", seen.to_str().unwrap());
    let supervisor = Supervisor::at_a_path();
    let model = Scripted::start();
    model.always(Reply::text(&["fine"]));
    let listener = UnixListener::bind(dir.path().join("socket")).unwrap();
    let server = Setup::new()
        .openai(&model)
        .config(&config)
        .handed(listener)
        .supervised(&supervisor, Some(Duration::from_secs(60)))
        .env("LISTEN_FDNAMES", "web")
        .env("CREDENTIALS_DIRECTORY", dir.path().to_str().unwrap())
        .start_in(Arc::new(TempDir::new()));
    server.client().post("/api/chat", &json!({"content": "hi"})).await.expect(200);
    let seen = std::fs::read_to_string(&seen).expect("the tool server was started");
    assert!(seen.contains("PATH="), "{seen}");
    for word in ["NOTIFY_SOCKET", "WATCHDOG", "LISTEN_", "CREDENTIALS_DIRECTORY", "canary", "socket:["] {
        assert!(!seen.contains(word), "{word} reaches tool servers: {seen}");
    }
}
