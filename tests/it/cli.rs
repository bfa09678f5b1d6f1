//! The command line, through the binary (CONVENTIONS).

use std::io::{BufRead, BufReader, Read};
use std::process::{Output, Stdio};

use crate::support::scripted::{Gate, Reply, Scripted};
use crate::support::server::{Server, Setup, TempDir, command};

fn run(home: &std::path::Path, args: &[&str]) -> Output {
    command(home).args(args).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[tokio::test]
async fn serve_prints_the_address_the_key_file_and_a_curl_line_that_works() {
    let server = Setup::new().start();
    server.client().get("/health").await.expect(200);
    let said = server.printed() + &server.log();
    let token = server.home().join("token");
    assert!(said.contains(token.to_str().unwrap()), "the path of the key file is printed: {said}");
    assert!(!said.contains(server.key()), "the key is not");
    assert_eq!(server.printed().lines().filter(|l| l.starts_with("listening on http://127.0.0.1:")).count(), 1);
    let address = std::fs::read_to_string(server.home().join("address")).unwrap();
    assert!(address.contains(&server.address.host()), "{address}");
    let curl = said.lines().find_map(|l| l.find("curl ").map(|at| l[at..].to_owned())).unwrap_or_else(|| panic!("a curl line in {said}"));
    let output = std::process::Command::new("bash").args(["-c", &curl]).output().unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{curl}: {e}: {output:?}"));
    assert!(answer["reply"].is_string(), "{curl}: {answer}");
}

#[test]
fn ask_streams_an_answer_and_finds_the_server_by_its_address_file() {
    let server = Setup::new().start();
    let output = run(server.home(), &["ask", "Hello there"]);
    assert!(output.status.success(), "{output:?}");
    assert!(!output.stdout.is_empty());
    assert!(!text(&output).contains(server.key()));
    drop(server);
    let home = TempDir::new();
    let output = run(home.path(), &["ask", "hello"]);
    assert_eq!(output.status.code(), Some(1), "nobody runs there: {output:?}");
    assert!(text(&output).contains("serve"), "it says what to do: {}", text(&output));
}

#[tokio::test]
async fn ask_shows_pieces_as_they_come_and_ctrl_c_cancels_the_run() {
    let model = Scripted::start();
    let gate = Gate::new();
    model.next(Reply::text(&["first words"]).wait(&gate));
    let server = Setup::new().openai(&model).start();
    let mut child = command(server.home()).args(["ask", "go on"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    // The pipe stays open: who closes it is gone, and that cancels nothing.
    let (child, seen, _out) = tokio::task::spawn_blocking(move || {
        let mut seen = Vec::new();
        let mut byte = [0; 64];
        while !String::from_utf8_lossy(&seen).contains("first words") {
            let read = out.read(&mut byte).unwrap();
            assert!(read > 0, "ask ended early: {seen:?}");
            seen.extend_from_slice(&byte[..read]);
        }
        (child, seen, out)
    })
    .await
    .unwrap();
    assert!(String::from_utf8_lossy(&seen).contains("first words"));
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    model.request(1).await.cut().await;
    let mut child = child;
    let status = tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
    assert!(!status.success(), "a cancelled answer is not a whole one");
    let list = server.client().get("/api/sessions").await.expect(200).json();
    let session = list["items"][0]["id"].as_str().unwrap().to_owned();
    let detail = server.client().get(&format!("/api/sessions/{session}")).await.expect(200).json();
    assert_eq!(detail["agent_responses"][0]["outcome"], "cancelled", "the run, not only the reader");
    assert_eq!(detail["agent_responses"][0]["content"], "first words");
}

#[test]
fn healthcheck_tells_by_its_exit_code() {
    let mut server = Setup::new().start();
    assert_eq!(run(server.home(), &["healthcheck"]).status.code(), Some(0));
    let home = server.home_dir();
    server.kill9();
    assert_eq!(run(home.path(), &["healthcheck"]).status.code(), Some(1), "the address file of a dead server is no health");
    assert_eq!(run(TempDir::new().path(), &["healthcheck"]).status.code(), Some(1));
}

#[test]
fn keys_are_made_listed_and_revoked() {
    let server: Server = Setup::new().start();
    let output = run(server.home(), &["key", "create", "--scopes", "read", "reader"]);
    assert!(output.status.success(), "{output:?}");
    let key = String::from_utf8_lossy(&output.stdout).split_whitespace().find(|w| w.len() >= 40).expect("a key").to_owned();
    let list = text(&run(server.home(), &["key", "list"]));
    assert!(list.contains("reader") && !list.contains(&key), "{list}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = server.stranger().with_key(Some(&key));
    runtime.block_on(async {
        client.get("/api/sessions").await.expect(200);
        client.post("/api/chat", &serde_json::json!({"content": "may I?"})).await.expect(403).error();
    });
    let line = list.lines().find(|l| l.contains("reader")).unwrap();
    let id = line.split_whitespace().find(|w| uuid::Uuid::try_parse(w).is_ok()).unwrap_or_else(|| panic!("an id in {line}"));
    assert!(run(server.home(), &["key", "revoke", id]).status.success());
    runtime.block_on(async {
        client.get("/api/sessions").await.expect(401);
    });
}

#[test]
fn configuration_is_checked_and_shown_without_its_secrets() {
    let home = TempDir::new();
    std::fs::write(home.path().join("config.toml"), "[engine]\napi_key = \"sk-config-canary\"\n[gateway]\nport = 4300\n").unwrap();
    let shown = text(&run(home.path(), &["config", "show"]));
    assert!(shown.contains("4300") && shown.contains("gateway.port"), "{shown}");
    assert!(!shown.contains("sk-config-canary") && shown.contains("***"), "{shown}");
    assert_eq!(run(home.path(), &["config", "check"]).status.code(), Some(0));
    std::fs::write(home.path().join("config.toml"), "[gateway]\nprot = 4300\nmax_concurrent = 0\n").unwrap();
    let output = run(home.path(), &["config", "check"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = text(&output);
    assert!(said.contains("gateway.prot") && said.contains("gateway.port") && said.contains("gateway.max_concurrent"), "{said}");
    assert_eq!(run(home.path(), &["serve", "--listen", "127.0.0.1:0"]).status.code(), Some(2), "the start says the same");
}

#[test]
fn wrong_usage_is_2_and_says_how() {
    let home = TempDir::new();
    for args in [&["nonsense"][..], &["serve", "--nonsense"], &["ask"], &["key", "nonsense"], &["serve", "--listen", "nonsense"]] {
        let output = run(home.path(), args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
        assert!(!text(&output).trim().is_empty() && output.stdout.is_empty(), "{args:?}: {output:?}");
    }
    let help = run(home.path(), &["--help"]);
    assert!(help.status.success());
    for word in ["serve", "ask", "key", "routes", "healthcheck", "config", "doctor"] {
        assert!(text(&help).contains(word), "{word} in the help");
    }
    let version = run(home.path(), &["--version"]);
    assert!(text(&version).contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn doctor_says_what_to_do() {
    let home = TempDir::new();
    let output = run(home.path(), &["doctor"]);
    let said = text(&output);
    for word in ["model", "disk", "clock", "port"] {
        assert!(said.to_lowercase().contains(word), "{word} in {said}");
    }
    // A model that is not there is named, with what to do.
    let output = command(home.path())
        .args(["doctor"])
        .env("OXIOS_ENGINE__DEFAULT_MODEL", "openai/x")
        .env("OXIOS_ENGINE__BASE_URL", "http://127.0.0.1:9/v1")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output).contains("127.0.0.1:9"), "{}", text(&output));
}

/// What would keep a server from starting is no "all is well".
#[test]
fn doctor_finds_what_keeps_a_server_from_starting() {
    use std::os::unix::fs::PermissionsExt;
    let mut server = Setup::new().start();
    let home = server.home_dir();
    server.kill9();
    let at = |name: &str| home.path().join(name);
    let place = |name: &str| format!("unix:{}", at(name).display());
    let (key, socket) = (at("audit.key"), at("socket"));
    let look = |listen: &str, found: &str| {
        let output = run(home.path(), &["doctor", "--listen", listen]);
        let line = text(&output).lines().find(|line| line.contains(found)).map(str::to_owned);
        let line = line.unwrap_or_else(|| panic!("{found} in {}", text(&output)));
        (output.status.code(), line.split(' ').next().unwrap().to_owned())
    };
    let (fine, wrong) = ((Some(0), "ok".to_owned()), (Some(1), "FAIL".to_owned()));
    assert_eq!(look(&place("socket"), "is free"), fine);
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert_eq!(look(&place("socket"), "is free"), fine, "nobody answers there any more");
    assert!(!socket.exists(), "nothing of it stays");
    assert_eq!(look(&place("none/socket"), "none/socket"), wrong);
    assert_eq!(look(&place("token/socket"), "token/socket"), wrong);
    assert_eq!(look(&place("token"), "unix:"), wrong, "something else is there");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(look(&place("socket"), "audit.key"), wrong);
    let started = run(home.path(), &["serve", "--listen", "127.0.0.1:0"]);
    assert!(!started.status.success() && text(&started).contains("audit.key"), "it does: {}", text(&started));
}

/// A list of models proves nothing: the model is asked to say something.
#[test]
fn doctor_asks_the_model_for_real() {
    for (reply, status, word) in [(Reply::text(&["ok"]), 0, "answered in"), (Reply::status(500, "no"), 1, "FAIL")] {
        let (home, model) = (TempDir::new(), Scripted::start());
        model.always(reply);
        let output = command(home.path())
            .args(["doctor", "--listen", "127.0.0.1:0"])
            .env("OXIOS_ENGINE__DEFAULT_MODEL", "openai/scripted")
            .env("OXIOS_ENGINE__BASE_URL", format!("http://{}/v1", model.address()))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(status), "{}", text(&output));
        assert!(text(&output).contains(word) && text(&output).contains("scripted"), "{}", text(&output));
    }
}

/// `serve` is the default command, and the home is made by it.
#[test]
fn without_a_command_it_serves() {
    let home = TempDir::new();
    let mut child = command(home.path()).env("OXIOS_GATEWAY__PORT", "0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let line = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .find(|l| l.starts_with("listening on http://127.0.0.1:"));
    let _ = child.kill();
    let _ = child.wait();
    assert!(line.is_some());
    assert!(home.path().join("token").exists());
}

/// A user beside root.
const SOMEBODY: u32 = 54_321;

/// A home that is somebody else's; none where nothing can be given away here.
fn somebodys(test: &str) -> Option<TempDir> {
    let home = TempDir::new();
    if std::os::unix::fs::chown(home.path(), Some(SOMEBODY), Some(SOMEBODY)).is_err() {
        println!("SKIPPED {test}: nothing can be given to another user here");
        return None;
    }
    Some(home)
}

/// A skill's file that everybody can read, and its digest.
fn skill(dir: &TempDir) -> (String, String) {
    use std::os::unix::fs::PermissionsExt;
    let (file, words) = (dir.path().join("SKILL.md"), "---\nname: tidy\ndescription: Tidies up.\n---\nPut things away.\n");
    std::fs::write(&file, words).unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    (file.to_str().unwrap().to_owned(), oxios_edge::base::digest::hex(&oxios_edge::base::digest::sha256(words.as_bytes())))
}

/// A server that has a user of its own reads what root's commands made in its home.
#[test]
fn what_root_makes_in_the_home_of_another_user_is_that_users() {
    use std::os::unix::fs::MetadataExt;
    let Some(home) = somebodys("what_root_makes") else { return };
    let dir = TempDir::new();
    let (file, digest) = skill(&dir);
    for args in [
        &["key", "create", "another"][..],
        &["key", "list"],
        &["skill", "install", &file, "--sha256", &digest],
        &["skill", "enable", "tidy"],
    ] {
        let output = run(home.path(), args);
        assert!(output.status.success(), "{args:?}: {}", text(&output));
        assert!(text(&output).contains("as that user"), "it is said: {}", text(&output));
    }
    let (mut dirs, mut seen) = (vec![home.path().to_owned()], Vec::new());
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let (path, meta) = entry.map(|entry| (entry.path(), entry.metadata().unwrap())).unwrap();
            seen.push((path.strip_prefix(home.path()).unwrap().display().to_string(), meta.uid()));
            if meta.is_dir() {
                dirs.push(path);
            }
        }
    }
    assert!(seen.iter().all(|(_, user)| *user == SOMEBODY), "{seen:?}");
    for name in ["token", "keys.json", "workspace/skills/.managed/tidy/SKILL.md", "workspace/skills/.choices.json"] {
        assert!(seen.iter().any(|(path, _)| path == name), "{name} in {seen:?}");
    }
}

/// Nor does anything that this user put there move root's hand elsewhere, or make it start a program.
#[test]
fn the_home_of_another_user_leads_root_nowhere() {
    use std::os::unix::fs::{MetadataExt, chown, symlink};
    let Some(home) = somebodys("the_home_of_another_user") else { return };
    let (roots, dir) = (TempDir::new(), TempDir::new());
    let (file, digest) = skill(&dir);
    std::fs::create_dir(roots.path().join("tidy")).unwrap();
    std::fs::write(roots.path().join("tidy/kept"), "kept").unwrap();
    let skills = home.path().join("workspace/skills");
    std::fs::create_dir_all(&skills).unwrap();
    symlink(roots.path(), skills.join(".managed")).unwrap();
    symlink(roots.path().join("nologin"), home.path().join("keys.lock")).unwrap();
    let started = roots.path().join("started");
    let program = format!("[mcp.servers.x]\ncommand = \"touch\"\nargs = [\"{}\"]\n", started.display());
    std::fs::write(home.path().join("config.toml"), program).unwrap();
    for path in [home.path().join("workspace"), skills, home.path().join("config.toml")] {
        chown(path, Some(SOMEBODY), Some(SOMEBODY)).unwrap();
    }
    let refused = run(home.path(), &["skill", "install", &file, "--sha256", &digest]);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert_eq!(run(home.path(), &["key", "create", "x"]).status.code(), Some(1));
    let looked = run(home.path(), &["doctor"]);
    assert!(text(&looked).contains("root does not start it"), "{}", text(&looked));
    let roots_own = roots.path().join("tidy/kept");
    symlink(&roots_own, home.path().join("lock")).unwrap();
    let served = run(home.path(), &["serve", "--listen", "127.0.0.1:0"]);
    assert!(served.status.code() == Some(1) && text(&served).contains("root does not serve there"), "{}", text(&served));
    let backup = roots.path().join("tidy/backup.tar");
    let other = Setup::new().start();
    assert!(run(other.home(), &["backup", backup.to_str().unwrap()]).status.success());
    let restored = run(home.path(), &["restore", backup.to_str().unwrap()]);
    assert!(restored.status.code() == Some(1) && text(&restored).contains("not empty"), "{}", text(&restored));
    std::fs::remove_file(backup).unwrap();
    assert_eq!(std::fs::read(roots_own).unwrap(), b"kept");
    assert_eq!(std::fs::metadata(roots.path().join("tidy")).unwrap().uid(), 0);
    assert_eq!(std::fs::read_dir(roots.path().join("tidy")).unwrap().count(), 1, "nothing else came there");
    assert_eq!(std::fs::read_dir(roots.path()).unwrap().count(), 1);
}

/// Holds a lock as a server does.
fn locked(path: &std::path::Path) -> std::fs::File {
    let file = std::fs::File::create(path).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    file
}

/// What a caller says first.
fn first_words(listener: std::net::TcpListener) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
    })
}

/// Whoever owns a home may let it say that root's key is its own, and that it is wanted elsewhere.
#[test]
fn roots_key_goes_to_no_gateway_of_another_user() {
    use std::os::unix::fs::{chown, symlink};
    let Some(home) = somebodys("roots_key_goes_to") else { return };
    let (roots, listener) = (TempDir::new(), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    std::fs::write(roots.path().join("token"), "roots-own-key").unwrap();
    let token = home.path().join("token");
    symlink(roots.path().join("token"), &token).unwrap();
    let address = home.path().join("address");
    std::fs::write(&address, format!("http://{}\n", listener.local_addr().unwrap())).unwrap();
    chown(address, Some(SOMEBODY), Some(SOMEBODY)).unwrap();
    let _held = locked(&home.path().join("lock"));
    let again = listener.try_clone().unwrap();
    let heard = first_words(listener);
    assert!(!run(home.path(), &["ask", "hello"]).status.success());
    let heard = heard.join().unwrap();
    assert!(heard.contains("/api/chat/stream") && !heard.contains("roots-own-key"), "{heard}");
    // That user's own is sent.
    std::fs::remove_file(&token).unwrap();
    std::fs::write(&token, "that-users-key").unwrap();
    chown(&token, Some(SOMEBODY), Some(SOMEBODY)).unwrap();
    let heard = first_words(again);
    assert!(!run(home.path(), &["ask", "hello"]).status.success());
    assert!(heard.join().unwrap().contains("that-users-key"));
}

/// An address that a killed server left may be anybody's by now.
#[test]
fn the_address_of_a_killed_server_is_not_believed() {
    let mut server = Setup::new().start();
    let home = server.home_dir();
    server.kill9();
    let address = std::fs::read_to_string(home.path().join("address")).unwrap();
    let there = address.trim().strip_prefix("http://").unwrap();
    let listener = std::net::TcpListener::bind(there).unwrap();
    listener.set_nonblocking(true).unwrap();
    for args in [&["ask", "hello"][..], &["login-code"], &["healthcheck"]] {
        let output = run(home.path(), args);
        assert!(output.status.code() == Some(1) && text(&output).contains("no gateway runs"), "{args:?}: {}", text(&output));
    }
    assert!(text(&run(home.path(), &["doctor"])).contains("model"), "it goes on");
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "nobody was asked there");
    drop(listener);
    // The next one begins without it.
    let mut child =
        command(home.path()).args(["serve", "--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let line = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok).find(|line| line.starts_with("listening on "));
    let now = std::fs::read_to_string(home.path().join("address")).unwrap();
    assert_eq!(line.as_deref().and_then(|line| line.strip_prefix("listening on ")), Some(now.trim()));
    let _ = child.kill();
    let _ = child.wait();
}

/// Who mistypes a path makes no home, and hears what is wrong.
#[test]
fn commands_that_only_look_make_nothing() {
    let dir = TempDir::new();
    for args in [
        &["key", "list"][..],
        &["key", "revoke", "67e55044-10b1-426f-9247-bb680e5fe0c8"],
        &["key", "rotate", "67e55044-10b1-426f-9247-bb680e5fe0c8"],
    ] {
        let output = run(dir.path(), args);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {}", text(&output));
        assert!(text(&output).contains("no keys in that home"), "{}", text(&output));
    }
    let nowhere = dir.path().join("typo");
    assert!(run(&nowhere, &["skill", "list"]).status.success(), "those of the program");
    for args in [&["key", "list"][..], &["skill", "disable", "write-skill"]] {
        let output = run(&nowhere, args);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {}", text(&output));
        assert!(text(&output).contains("there is no home"), "{}", text(&output));
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// Half a file is not taken for a whole one, and a full disk behind the log keeps nobody from serving.
#[tokio::test]
async fn an_output_that_cannot_be_written_is_told() {
    let home = TempDir::new();
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = command(home.path()).arg("openapi").stdout(full()).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("No space left"), "{}", text(&output));
    let mut serve = command(home.path());
    let mut child = serve.args(["serve", "--listen", "127.0.0.1:0"]).stdout(full()).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(log.any(|line| line.contains("standard output: No space left")));
    assert_eq!(run(home.path(), &["healthcheck"]).status.code(), Some(0), "it serves all the same");
    let _ = child.kill();
    let _ = child.wait();
}
