//! `backup` and `restore`, through the binary: while the server works, what was acknowledged is in it; what is not as it was written
//! is refused; nothing half done is left.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::server::{BINARY, Server, Setup, TempDir, command};
use crate::support::small_disk::SmallDisk;

fn run(home: &Path, args: &[&str]) -> Output {
    command(home).args(args).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn fine(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", text(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn refused(output: &Output, code: i32, why: &str) {
    let told = text(output);
    assert!(output.status.code() == Some(code) && told.contains(why), "{code} and {why:?}: {told}");
}

fn head(printed: &str) -> &str {
    printed.lines().find_map(|line| line.strip_prefix("head ")).unwrap_or_else(|| panic!("a head in {printed}"))
}

/// What was sent in each session, in order, and how much of it was acknowledged.
type Said = Arc<Mutex<BTreeMap<String, (Vec<String>, usize)>>>;

/// Talks in one session, one message behind the other, until told to stop.
async fn talk(client: Client, n: usize, said: Said, stop: Arc<AtomicBool>) {
    let first = client.post("/api/chat", &json!({"content": format!("{n} begins")})).await.expect(200).json();
    let session = first["session_id"].as_str().unwrap().to_owned();
    said.lock().unwrap().insert(session.clone(), (vec![format!("{n} begins")], 1));
    for turn in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let content = if turn % 5 == 4 { format!("remember {n} said {turn}") } else { format!("{n} says {turn}") };
        said.lock().unwrap().get_mut(&session).unwrap().0.push(content.clone());
        client.post("/api/chat", &json!({"content": content, "session_id": session})).await.expect(200);
        said.lock().unwrap().get_mut(&session).unwrap().1 += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_before_a_backup_began_is_in_the_home_that_it_makes() {
    let server = Setup::new().env("OXIOS_SECURITY__RATE_LIMIT_PER_MINUTE", "0").start();
    let client = server.client();
    let asked = client.post("/api/chat", &json!({"content": "write notes/kept.md: it was allowed"})).await.expect(202).json();
    client.post("/api/chat", &json!({"content": "task say hi; list files criteria: names the kettle; says hi"})).await.expect(200);
    client.post("/api/keys", &json!({"name": "other", "scopes": ["read"]})).await.expect(201);
    let (said, stop) = (Said::default(), Arc::new(AtomicBool::new(false)));
    let talkers: Vec<_> = (0..4).map(|n| tokio::spawn(talk(server.client(), n, said.clone(), stop.clone()))).collect();
    let files = TempDir::new();
    let mut made = Vec::new();
    for round in 0..4 {
        // Backups begin at different places of the talk.
        while said.lock().unwrap().values().map(|(_, acknowledged)| acknowledged).sum::<usize>() < 10 + 15 * round {
            tokio::task::yield_now().await;
        }
        let before = said.lock().unwrap().clone();
        let (home, file) = (server.home_dir(), files.path().join(format!("{round}.tar")));
        let at = file.clone();
        let printed = tokio::task::spawn_blocking(move || fine(&run(home.path(), &["backup", at.to_str().unwrap()]))).await.unwrap();
        made.push((file, printed, before));
    }
    stop.store(true, Ordering::Relaxed);
    for talker in talkers {
        talker.await.unwrap();
    }
    let all = said.lock().unwrap().clone();
    for (file, printed, before) in made {
        assert!(printed.contains("read back and verified") && printed.contains("secrets"), "{printed}");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let home = Arc::new(TempDir::new());
        let told = fine(&run(home.path(), &["restore", file.to_str().unwrap(), "--dry-run"]));
        assert!(told.contains("nothing was written") && head(&told) == head(&printed), "{told}");
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
        fine(&run(home.path(), &["restore", file.to_str().unwrap()]));
        let whole = fine(&run(home.path(), &["audit", "verify", "--head", head(&printed)]));
        assert!(whole.contains("which was noted"), "{whole}");

        let again = Setup::new().env("OXIOS_SECURITY__RATE_LIMIT_PER_MINUTE", "0").start_in(home.clone());
        let client = again.client();
        assert_eq!(again.key(), server.key());
        for (session, (_, acknowledged)) in &before {
            let detail = client.get(&format!("/api/sessions/{session}")).await.expect(200).json();
            let texts = |list: &str, field: &str| -> Vec<String> {
                detail[list].as_array().unwrap().iter().map(|item| item[field].as_str().unwrap_or("done").to_owned()).collect()
            };
            let messages = texts("user_messages", "content");
            assert!(messages.len() >= *acknowledged, "{acknowledged} were acknowledged: {messages:?}");
            assert_eq!(messages, all[session].0[..messages.len()], "in order, and once");
            // Every answer that was acknowledged is whole; behind it at most one was under way.
            let outcomes = texts("agent_responses", "outcome");
            assert!(outcomes.iter().take(*acknowledged).all(|outcome| outcome == "done"), "{outcomes:?}");
            let next = client.post("/api/chat", &json!({"content": "goes on", "session_id": session})).await.expect(200).json();
            assert!(next["reply"].is_string());
        }
        // The question that was open is still open, and bound to what it shows.
        let id = asked["approval"]["id"].as_str().unwrap();
        client.post_empty(&format!("/api/approvals/{id}/approve")).await.expect(200);
        let session = asked["session_id"].as_str().unwrap();
        client.get(&format!("/api/sessions/{session}/events?until=idle")).await.expect(200);
        assert_eq!(std::fs::read_to_string(home.path().join("workspace/files/notes/kept.md")).unwrap(), "it was allowed");
        assert_eq!(client.get("/api/keys").await.expect(200).json()["items"].as_array().unwrap().len(), 2);
        let verified = client.get(&format!("/api/audit/verify?head={}", head(&printed))).await.expect(200).json();
        assert_eq!(verified["valid"], true, "{verified}");
        let seeds: Value = client.get("/api/seeds").await.expect(200).json();
        assert!(!seeds["items"].as_array().or(seeds.as_array()).unwrap().is_empty(), "{seeds}");
    }
}

#[tokio::test]
async fn a_backup_is_new_and_lies_outside_and_a_home_is_not_written_over() {
    let server = Setup::new().start();
    server.client().post("/api/chat", &json!({"content": "hello"})).await.expect(200);
    let (home, files) = (server.home(), TempDir::new());
    let file = files.path().join("b.tar");
    let file = file.to_str().unwrap();
    for inside in [home.join("b.tar"), home.join("workspace/files/b.tar")] {
        refused(&run(home, &["backup", inside.to_str().unwrap()]), 2, "which it holds");
    }
    refused(&run(home, &["backup"]), 2, "name one file");
    refused(&run(home, &["backup", "/nowhere/b.tar"]), 1, "/nowhere");
    refused(&run(home, &["backup", files.path().to_str().unwrap()]), 2, "no file");
    refused(&run(TempDir::new().path(), &["backup", file]), 1, "no server has been started");
    let first = fine(&run(home, &["backup", file]));
    refused(&run(home, &["backup", file]), 1, "--replace");
    assert_ne!(fine(&run(home, &["backup", file, "--replace"])), first);
    assert_eq!(std::fs::read_dir(files.path()).unwrap().count(), 1, "nothing is left beside it");

    refused(&run(home, &["restore", file]), 1, "stop it first");
    let told = fine(&run(home, &["restore", file, "--dry-run"]));
    assert!(told.contains("it would be refused") && told.contains("stop it first"), "{told}");
    let other = TempDir::new();
    std::fs::write(other.path().join("mine"), "x").unwrap();
    refused(&run(other.path(), &["restore", file]), 1, "Move it away");
    assert_eq!(std::fs::read_dir(other.path()).unwrap().count(), 1);
    let new = other.path().join("deep/new");
    assert!(fine(&run(&new, &["restore", file])).contains("to start it"));
    for (path, mode) in [("", 0o700), ("keys.json", 0o600), ("workspace", 0o700), ("workspace/sessions", 0o700)] {
        assert_eq!(std::fs::metadata(new.join(path)).unwrap().permissions().mode() & 0o777, mode, "{path}");
    }
}

#[tokio::test]
async fn a_file_that_is_not_as_it_was_written_is_refused_and_nothing_is_written() {
    let mut server = Setup::new().config("[gateway]\nmax_waiting = 7").start();
    server.client().post("/api/chat", &json!({"content": "hello"})).await.expect(200);
    server.stop().await;
    let files = TempDir::new();
    let (good, bad, new) = (files.path().join("good.tar"), files.path().join("bad.tar"), files.path().join("new"));
    fine(&run(server.home(), &["backup", good.to_str().unwrap()]));
    let whole = std::fs::read(&good).unwrap();
    let at = |what: &[u8]| whole.windows(what.len()).position(|bytes| bytes == what).unwrap();
    let changed = |at: usize, to: u8| {
        let mut bytes = whole.clone();
        bytes[at] = to;
        bytes
    };
    for (bytes, why) in [
        (whole[..whole.len() / 2].to_vec(), "damaged"),
        (whole[..whole.len() - 512].to_vec(), "damaged"),
        (changed(at(b"max_waiting"), b'M'), "home/config.toml"),
        (changed(at(b"\"oxios_backup\":1") + 15, b'2'), "newer version"),
        (b"something else\n".to_vec(), "no backup"),
    ] {
        std::fs::write(&bad, bytes).unwrap();
        for more in [&["--dry-run"][..], &["--anyway"]] {
            let args = [&["restore", bad.to_str().unwrap()], more].concat();
            refused(&run(&new, &args), 1, why);
        }
        assert!(!new.exists());
        assert_eq!(std::fs::read_dir(files.path()).unwrap().count(), 2, "nothing is left");
    }
    refused(&run(&new, &["restore", files.path().join("none").to_str().unwrap()]), 1, "none");

    // Whole, and not what the server would take.
    std::fs::write(server.home().join("config.toml"), "[gateway]\nport = \"none\"\n").unwrap();
    let log = server.home().join("workspace/audit/1.log");
    let edited = std::fs::read_to_string(&log).unwrap().replacen("200", "201", 1);
    std::fs::write(&log, edited).unwrap();
    refused(&run(server.home(), &["backup", bad.to_str().unwrap(), "--replace"]), 2, "gateway.port");
    std::fs::write(server.home().join("config.toml"), "").unwrap();
    let made = run(server.home(), &["backup", bad.to_str().unwrap(), "--replace"]);
    assert!(made.status.success() && text(&made).contains("WRONG in the home: audit log"), "{}", text(&made));
    for args in [&["--dry-run"][..], &[]] {
        refused(&run(&new, &[&["restore", bad.to_str().unwrap()], args].concat()), 1, "was edited");
        assert!(!new.exists());
    }
    fine(&run(&new, &["restore", bad.to_str().unwrap(), "--anyway"]));
    assert!(new.join("keys.json").exists());
}

#[tokio::test]
async fn a_full_disk_is_told_and_nothing_is_left_on_it() {
    let (server, small) = (Setup::new().start(), TempDir::new());
    let Some(_mounted) = SmallDisk::mount(small.path(), "1m") else {
        println!("SKIPPED a_full_disk_is_told: no file system can be mounted here");
        return;
    };
    std::fs::write(server.home().join("workspace/files/big.bin"), vec![7; 3 * 1024 * 1024]).unwrap();
    let on_small = small.path().join("b.tar");
    refused(&run(server.home(), &["backup", on_small.to_str().unwrap()]), 1, "no space");
    assert_eq!(std::fs::read_dir(small.path()).unwrap().count(), 0);
    let files = TempDir::new();
    let file = files.path().join("b.tar");
    fine(&run(server.home(), &["backup", file.to_str().unwrap()]));
    refused(&run(&small.path().join("home"), &["restore", file.to_str().unwrap()]), 1, "no space");
    assert_eq!(std::fs::read_dir(small.path()).unwrap().count(), 0);
    // The directory that is mounted cannot be exchanged.
    std::fs::remove_file(server.home().join("workspace/files/big.bin")).unwrap();
    fine(&run(server.home(), &["backup", file.to_str().unwrap(), "--replace"]));
    refused(&run(small.path(), &["restore", file.to_str().unwrap()]), 1, "mount point");
    assert_eq!(std::fs::read_dir(small.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_workspace_outside_of_the_home_goes_where_it_is_told() {
    let (place, home) = (TempDir::new(), Arc::new(TempDir::new()));
    let workspace = place.path().join("ws");
    let server = Setup::new().config(&format!("[kernel]\nworkspace = {workspace:?}")).start_in(home.clone());
    let session = server.client().post("/api/chat", &json!({"content": "hello"})).await.expect(200).json()["session_id"].clone();
    let file = place.path().join("b.tar");
    refused(&run(home.path(), &["backup", workspace.join("b.tar").to_str().unwrap()]), 2, "which it holds");
    fine(&run(home.path(), &["backup", file.to_str().unwrap()]));
    drop(server);
    let whole = std::fs::read(&file).unwrap();
    std::fs::remove_dir_all(&workspace).unwrap();
    for _ in 0..2 {
        refused(&run(home.path(), &["backup", file.to_str().unwrap(), "--replace"]), 1, "is its disk mounted?");
        assert!(std::fs::read(&file).unwrap() == whole, "the last good one is still there");
        // A mount point without its disk.
        std::fs::create_dir_all(&workspace).unwrap();
    }
    let new = Arc::new(TempDir::new());
    refused(&run(new.path(), &["restore", file.to_str().unwrap()]), 2, "--workspace DIR");
    fine(&run(new.path(), &["restore", file.to_str().unwrap(), "--workspace", workspace.to_str().unwrap()]));
    assert!(!workspace.join("lock").exists());
    let again = Setup::new().start_in(new);
    again.client().get(&format!("/api/sessions/{}", session.as_str().unwrap())).await.expect(200);
}

/// A backup that has written something and waits for the lock of the skills, which is held until that is dropped.
fn begun(mut backup: Command, server: &Server, into: &Path) -> (Child, File) {
    let skills = server.home().join("workspace/skills");
    std::fs::create_dir_all(&skills).unwrap();
    std::fs::write(server.home().join("workspace/files/big.bin"), vec![7; 1024 * 1024]).unwrap();
    let lock = File::create(skills.join(".lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let child = backup.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while std::fs::read_dir(into).unwrap().all(|entry| entry.unwrap().metadata().map_or(0, |meta| meta.len()) < 1024 * 1024) {
        std::thread::yield_now();
    }
    (child, lock)
}

#[test]
fn what_a_killed_backup_left_goes_with_the_next_one_there() {
    let (server, files) = (Setup::new().start(), TempDir::new());
    let to = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
    let mut backup = command(server.home());
    backup.args(["backup", &to("first.tar")]);
    let (mut child, lock) = begun(backup, &server, files.path());
    // One that is being written stays.
    let other = Setup::new().start();
    fine(&run(other.home(), &["backup", &to("other.tar")]));
    assert_eq!(std::fs::read_dir(files.path()).unwrap().count(), 2);
    child.kill().unwrap();
    child.wait().unwrap();
    drop(lock);
    fine(&run(server.home(), &["backup", &to("second.tar")]));
    let mut names: Vec<_> = std::fs::read_dir(files.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["other.tar", "second.tar"]);
}

#[test]
fn a_backup_that_shall_outlive_its_terminal_does() {
    let (server, files) = (Setup::new().start(), TempDir::new());
    let file = files.path().join("b.tar");
    let mut backup = Command::new("sh");
    let script = format!("trap '' HUP; exec {BINARY} backup {}", file.display());
    backup.env_clear().env("OXIOS_HOME", server.home()).args(["-c", &script]);
    let (child, lock) = begun(backup, &server, files.path());
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    drop(lock);
    fine(&child.wait_with_output().unwrap());
    assert!(file.exists());
}

/// The home of a service lies where only root gets, and what that service put there leads root no further than the service itself.
#[test]
fn root_backs_up_the_home_of_another_user_as_that_user() {
    use std::os::unix::fs::{MetadataExt, chown, symlink};
    let (server, roots) = (Setup::new().start(), TempDir::new());
    let (home, out) = (roots.path().join("service"), roots.path().join("out"));
    std::fs::create_dir(&out).unwrap();
    let file = out.join("b.tar");
    let backup = |args: &[&str]| run(&home, &[&["backup", file.to_str().unwrap()], args].concat());
    fine(&run(server.home(), &["backup", file.to_str().unwrap()]));
    fine(&run(&home, &["restore", file.to_str().unwrap()]));
    std::fs::create_dir(home.join("elsewhere")).unwrap();
    std::fs::write(home.join("elsewhere/own.toml"), "[gateway]\nmax_waiting = 7\n").unwrap();
    symlink("elsewhere/own.toml", home.join("config.toml")).unwrap();
    let mut open = vec![home.clone()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        if chown(&path, Some(54_321), Some(54_321)).is_err() {
            println!("SKIPPED root_backs_up_the_home: nothing can be given to another user here");
            return;
        }
    }
    let made = backup(&["--replace"]);
    let said = fine(&made);
    assert!(text(&made).contains("as that user") && said.contains(home.to_str().unwrap()), "{}", text(&made));
    assert_eq!((std::fs::metadata(&file).unwrap().uid(), std::fs::metadata(&file).unwrap().mode() & 0o777), (0, 0o600));
    let whole = std::fs::read(&file).unwrap();
    assert!(whole.windows(15).any(|bytes| bytes == b"max_waiting = 7"), "that user's own links are followed");

    std::fs::write(out.join("roots"), "only root reads this").unwrap();
    std::fs::create_dir(out.join("sessions")).unwrap();
    symlink(out.join("roots"), home.join("budgets.json")).unwrap();
    refused(&backup(&["--replace"]), 1, "Permission denied");
    std::fs::remove_file(home.join("budgets.json")).unwrap();
    std::fs::write(home.join("elsewhere/own.toml"), format!("[kernel]\nworkspace = {out:?}\n")).unwrap();
    refused(&backup(&["--replace"]), 1, "Permission denied");
    assert!(std::fs::read(&file).unwrap() == whole, "the last good one is still there");
    assert_eq!(std::fs::read_dir(out).unwrap().count(), 3, "nothing is left");
}
