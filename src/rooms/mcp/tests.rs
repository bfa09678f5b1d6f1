//! Programs that behave well and badly, as Python scripts; nothing sleeps.

use std::path::PathBuf;

use super::*;
use crate::base::cancel;
use crate::base::time::ManualClock;
use crate::http::client::ClientSettings;

const WELL: &str = r#"
import sys, json, os
def say(m): sys.stdout.write(json.dumps(m) + "\n"); sys.stdout.flush()
print("a greeting that is no message", flush=True)
for line in sys.stdin:
    m = json.loads(line)
    if m.get("method") == "initialize":
        say({"jsonrpc": "2.0", "id": "q", "method": "roots/list"})
        say({"jsonrpc": "2.0", "id": m["id"], "result": {"protocolVersion": "2025-06-18", "capabilities": {}}})
    elif m.get("id") == "q":
        refused = m["error"]["code"]
    elif m.get("method") == "ping":
        say({"jsonrpc": "2.0", "id": m["id"], "result": {}})
    elif m.get("method") == "tools/list":
        page = m["params"].get("cursor")
        r = {"tools": [{"name": "echo" if page is None else "env", "inputSchema": {"type": "object"}}]}
        if page is None: r["nextCursor"] = "2"
        say({"jsonrpc": "2.0", "id": m["id"], "result": r})
    elif m.get("method") == "tools/call":
        a = m["params"]["arguments"]
        if a.get("do") == "crash": os._exit(3)
        if a.get("do") == "hang": open("hang", "w").close(); continue
        if a.get("do") == "deaf": open("deaf", "w").close(); open("pipe").readline(); continue
        if a.get("do") == "huge": say({"jsonrpc": "2.0", "id": m["id"], "result": "x" * 2000000}); continue
        if a.get("do") == "refuse": say({"jsonrpc": "2.0", "id": m["id"], "error": {"code": -1, "message": "no"}}); continue
        if m["params"]["name"] == "env": a = {"env": sorted(os.environ), "refused": refused, "cwd": os.getcwd(), "pid": os.getpid()}
        say({"jsonrpc": "2.0", "id": m["id"], "result": {"content": [{"type": "text", "text": json.dumps(a)}]}})
"#;

fn mcp(script: &str, timeout: Duration) -> (Mcp, Arc<ManualClock>) {
    let transport = Transport::Stdio {
        command: "python3".into(),
        args: vec!["-c".into(), script.into()],
        env: [("GIVEN".to_owned(), crate::base::secret::Secret::new("x"))].into(),
    };
    let server = ServerSettings { transport, enabled: true, timeout, trust: false };
    let clock = Arc::new(ManualClock::default());
    let settings = Arc::new(Live::new(Settings { servers: [("s".to_owned(), server)].into() }));
    let mut mcp = Mcp::new(settings, Client::new(ClientSettings::default()), clock.clone());
    mcp.ground =
        Arc::new(Ground { client: Client::new(ClientSettings::default()), clock: clock.clone(), grace: Duration::from_millis(500) });
    (mcp, clock)
}

/// The owner of this number, with files of its own.
struct Someone(OwnerId, PathBuf);

impl Someone {
    fn new(test: &str, number: u8) -> Self {
        let dir = std::env::temp_dir().join(format!("oxios-mcp-{test}-{number}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(OwnerId::derived(&[number; 32]), dir.canonicalize().unwrap())
    }
    fn whose(&self) -> Whose<'_> {
        Whose { owner: self.0, files: &self.1 }
    }
}

impl Drop for Someone {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.1);
    }
}

fn args(what: &str) -> Map<String, Value> {
    [("do".to_owned(), what.into())].into_iter().collect()
}

const LONG: Duration = Duration::from_secs(30);

#[tokio::test]
async fn tools_are_listed_by_page_and_called() {
    let one = Someone::new("listed", 1);
    let (mcp, _) = mcp(WELL, LONG);
    let (_stop, cancel) = cancel::pair();
    assert_eq!(mcp.status(one.0)[0].state, State::NotStarted);
    let names: Vec<_> = mcp.offered(one.whose(), LONG, &cancel).await.into_iter().map(|tool| (tool.name, tool.risky)).collect();
    assert_eq!(names, [("s__echo".to_owned(), true), ("s__env".to_owned(), true)]);
    assert_eq!(mcp.call(one.whose(), ("s__echo", "echo"), args("$(id)"), &cancel).await.unwrap(), r#"{"do": "$(id)"}"#);
    let env: Value = serde_json::from_str(&mcp.call(one.whose(), ("s__env", "env"), Map::new(), &cancel).await.unwrap()).unwrap();
    assert_eq!(env["refused"], -32601, "what a server asks is refused");
    let names: Vec<_> = env["env"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(names.contains(&"GIVEN") && !names.iter().any(|name| name.starts_with("CARGO")), "{names:?}");
    assert_eq!(env["cwd"].as_str(), one.1.to_str());
    assert!(mcp.call(one.whose(), ("s__echo", "echo"), args("refuse"), &cancel).await.unwrap_err().ends_with("refused: no"));
    assert!(
        mcp.call(one.whose(), ("s__nothing", "nothing"), Map::new(), &cancel).await.is_err()
            && mcp.call(one.whose(), ("other", "other"), Map::new(), &cancel).await.is_err()
    );
    assert_eq!(mcp.status(one.0)[0].state, State::Running);
    mcp.close().await;
    assert_eq!(mcp.status(one.0)[0].state, State::NotStarted);
}

#[tokio::test]
async fn a_crash_is_told_and_started_again_with_a_growing_wait() {
    let one = Someone::new("crash", 1);
    let (mcp, clock) = mcp(WELL, LONG);
    let (_stop, cancel) = cancel::pair();
    for _ in 0..2 {
        let said = mcp.call(one.whose(), ("s__echo", "echo"), args("crash"), &cancel).await.unwrap_err();
        assert!(said.contains("ended before it answered"), "{said}");
    }
    let said = mcp.call(one.whose(), ("s__echo", "echo"), args("fine"), &cancel).await.unwrap_err();
    assert!(said.contains("ended too often"), "{said}");
    assert_eq!(mcp.status(one.0)[0].state, State::Failed);
    clock.advance(Duration::from_secs(2));
    assert!(mcp.call(one.whose(), ("s__echo", "echo"), args("fine"), &cancel).await.is_ok());
}

#[tokio::test]
async fn a_huge_message_ends_the_server_and_a_cancel_the_call() {
    let one = Someone::new("huge", 1);
    let (mcp, _) = mcp(WELL, LONG);
    let (stop, cancel) = cancel::pair();
    assert!(mcp.call(one.whose(), ("s__echo", "echo"), args("huge"), &cancel).await.unwrap_err().contains("ended"));
    let hung = mcp.call(one.whose(), ("s__echo", "echo"), args("hang"), &cancel);
    stop.cancel(cancel::Why::Asked);
    assert_eq!(hung.await, Err("it was stopped".to_owned()));
}

#[tokio::test]
async fn silence_and_programs_that_are_none() {
    let one = Someone::new("silence", 1);
    let (mcp, _) = mcp("import sys\nfor line in sys.stdin: print('{}')", Duration::from_millis(300));
    let (_stop, cancel) = cancel::pair();
    assert!(mcp.offered(one.whose(), LONG, &cancel).await.is_empty());
    assert_eq!(mcp.status(one.0)[0].problem.as_deref(), Some("it did not answer in time"));
    let transport = Transport::Stdio { command: "/nowhere/at-all".into(), args: vec![], env: BTreeMap::new() };
    let server = ServerSettings { transport, enabled: true, timeout: LONG, trust: true };
    mcp.settings.store(Settings {
        servers: [("s".to_owned(), server.clone()), ("off".to_owned(), ServerSettings { enabled: false, ..server })].into(),
    });
    assert!(mcp.offered(one.whose(), LONG, &cancel).await.is_empty());
    let status = mcp.status(one.0);
    assert_eq!((status[0].state, status[1].state), (State::Disabled, State::Failed));
    assert!(status[1].problem.as_deref().unwrap().contains("cannot be started"));
}

async fn works_in(mcp: &Mcp, someone: &Someone, cancel: &Cancel) -> Value {
    let env = mcp.call(someone.whose(), ("s__env", "env"), Map::new(), cancel).await.unwrap();
    serde_json::from_str::<Value>(&env).unwrap()["cwd"].clone()
}

#[tokio::test]
async fn every_owner_has_a_server_of_its_own_in_its_own_files() {
    let (mcp, _) = mcp(WELL, LONG);
    let (_stop, cancel) = cancel::pair();
    let (one, other) = (Someone::new("own", 1), Someone::new("own", 2));
    assert_eq!(works_in(&mcp, &one, &cancel).await, json!(one.1));
    assert_eq!((mcp.status(one.0)[0].state, mcp.status(other.0)[0].state), (State::Running, State::NotStarted));
    assert!(mcp.status(other.0)[0].tools.is_empty());
    assert_eq!(works_in(&mcp, &other, &cancel).await, json!(other.1));
    // What ends one is nothing to the other.
    mcp.call(one.whose(), ("s__echo", "echo"), args("crash"), &cancel).await.unwrap_err();
    assert_eq!((mcp.status(one.0)[0].state, mcp.status(other.0)[0].state), (State::Failed, State::Running));
    mcp.close().await;
    assert_eq!((mcp.status(one.0)[0].state, mcp.status(other.0)[0].state), (State::NotStarted, State::NotStarted));
}

#[tokio::test]
async fn a_server_that_nobody_uses_is_ended_and_started_again_when_it_is_needed() {
    let (mcp, clock) = mcp(WELL, LONG);
    let (_stop, cancel) = cancel::pair();
    let one = Someone::new("idle", 1);
    assert_eq!(mcp.offered(one.whose(), LONG, &cancel).await.len(), 2);
    clock.advance(Duration::from_secs(599));
    mcp.tidy();
    assert_eq!(mcp.status(one.0)[0].state, State::Running);
    clock.advance(Duration::from_secs(1));
    mcp.tidy();
    assert_eq!(mcp.status(one.0)[0].state, State::NotStarted);
    assert_eq!(works_in(&mcp, &one, &cancel).await, json!(one.1), "as if it had never been away");
    // One whose settings have changed ends, too.
    mcp.settings.store(Settings::default());
    mcp.tidy();
    assert!(mcp.pool.empty().is_empty());
}

/// Notes its start in a file, then says nothing before it is let go on: by a line in a pipe.
const SLOW: &str = r#"
open("starts", "a").write("x")
open("pipe").readline()
"#;

#[tokio::test]
async fn a_slow_server_hides_no_other_and_is_there_for_a_later_run() {
    let (mcp, _) = mcp(&format!("{SLOW}{WELL}"), LONG);
    let (_stop, cancel) = cancel::pair();
    let one = Someone::new("slow", 1);
    let mut settings = Settings::clone(&mcp.settings.load());
    let fast = Transport::Stdio { command: "python3".into(), args: vec!["-c".into(), WELL.into()], env: BTreeMap::new() };
    settings.servers.insert("fast".to_owned(), ServerSettings { transport: fast, enabled: true, timeout: LONG, trust: false });
    mcp.settings.store(settings);
    let pipe = one.1.join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    // As long as it takes the fast one.
    while mcp.offered(one.whose(), Duration::from_millis(50), &cancel).await.len() < 2 {}
    let offered = mcp.offered(one.whose(), Duration::from_millis(50), &cancel).await;
    assert!(offered.iter().all(|tool| tool.name.starts_with("fast__")), "{offered:?}");
    let go_on = tokio::task::spawn_blocking(move || std::fs::write(pipe, "go\n").unwrap());
    assert_eq!(mcp.offered(one.whose(), LONG, &cancel).await.len(), 4);
    go_on.await.unwrap();
    assert_eq!(std::fs::read_to_string(one.1.join("starts")).unwrap(), "x", "it was started once");
    mcp.close().await;
}

#[tokio::test]
async fn the_end_does_not_wait_for_a_start() {
    let (mcp, _) = mcp("import sys\nsys.stdin.read()", Duration::from_secs(3600));
    let (_stop, cancel) = cancel::pair();
    let one = Someone::new("end", 1);
    assert!(mcp.offered(one.whose(), Duration::ZERO, &cancel).await.is_empty());
    tokio::time::timeout(LONG, mcp.close()).await.expect("it ends at once");
}

/// Says that its tools have changed before it answers to `change`, and is asked for them three times: it has one, gives none, has two, of
/// which the new one takes the name of the old one. It answers with the tool and how often it was asked.
const CHANGES: &str = r#"
import sys, json
def say(m): sys.stdout.write(json.dumps({"jsonrpc": "2.0", **m}) + "\n"); sys.stdout.flush()
lists = 0
for line in sys.stdin:
    m = json.loads(line)
    if m.get("method") == "initialize": say({"id": m["id"], "result": {"protocolVersion": "2025-06-18", "capabilities": {}}})
    elif m.get("method") == "tools/list":
        lists += 1
        if lists == 2: say({"id": m["id"], "error": {"code": -1, "message": "no"}}); continue
        say({"id": m["id"], "result": {"tools": [{"name": name} for name in (["a b"] if lists == 1 else ["a/b", "a b"])]}})
    elif m.get("method") == "tools/call":
        if m["params"]["arguments"].get("do") == "change": say({"method": "notifications/tools/list_changed"})
        say({"id": m["id"], "result": {"content": [{"type": "text", "text": m["params"]["name"] + " " + str(lists)}]}})
"#;

#[tokio::test]
async fn tools_that_have_changed_and_are_not_told_leave_the_known_ones_as_they_are() {
    let one = Someone::new("changes", 1);
    let (mcp, clock) = mcp(CHANGES, LONG);
    let (_stop, cancel) = cancel::pair();
    let call = |name: &'static str, what: &'static str| mcp.call(one.whose(), (name, "a b"), args(what), &cancel);
    let names = async || mcp.offered(one.whose(), LONG, &cancel).await.into_iter().map(|tool| tool.name).collect::<Vec<_>>();
    let status = || mcp.status(one.0).remove(0);
    assert_eq!(call("s__a_b", "change").await.unwrap(), "a b 1");
    assert_eq!(call("s__a_b", "fine").await.unwrap(), "a b 2", "it does not say which, and is called all the same");
    assert_eq!((call("s__a_b", "fine").await.unwrap().as_str(), names().await), ("a b 2", vec!["s__a_b".to_owned()]), "not asked again");
    assert_eq!((status().state, status().problem.is_some()), (State::Running, true));
    clock.advance(Duration::from_secs(1));
    assert_eq!(names().await, ["s__a_b", "s__a_b_2"]);
    assert_eq!((status().state, status().problem), (State::Running, None));
    // A person has decided on the tool that its server calls `a b`.
    let said = call("s__a_b", "fine").await.unwrap_err();
    assert!(said.contains("is another tool now"), "{said}");
    assert_eq!(call("s__a_b_2", "fine").await.unwrap(), "a b 3");
    mcp.close().await;
}

/// What the program says of itself.
async fn pid(mcp: &Mcp, someone: &Someone, cancel: &Cancel) -> Value {
    let env = mcp.call(someone.whose(), ("s__env", "env"), Map::new(), cancel).await.unwrap();
    serde_json::from_str::<Value>(&env).unwrap()["pid"].clone()
}

/// Calls it, and stops the call once the program works on it.
async fn stopped(mcp: &Mcp, someone: &Someone, what: &str) {
    let (stop, cancel) = cancel::pair();
    let begun = async {
        while !someone.1.join(what).exists() {
            tokio::task::yield_now().await;
        }
        stop.cancel(cancel::Why::Asked);
    };
    let (said, ()) = tokio::join!(mcp.call(someone.whose(), ("s__echo", "echo"), args(what), &cancel), begun);
    assert_eq!(said, Err("it was stopped".to_owned()));
}

/// A stopped call ends a program that goes on with it, and no other one.
#[tokio::test]
async fn a_program_that_does_not_hear_that_its_call_was_stopped_is_ended() {
    let one = Someone::new("deaf", 1);
    let (mcp, _) = mcp(WELL, LONG);
    let (_stop, cancel) = cancel::pair();
    let first = pid(&mcp, &one, &cancel).await;
    stopped(&mcp, &one, "hang").await;
    assert_eq!(pid(&mcp, &one, &cancel).await, first, "it has left the call alone, and answers");
    let pipe = one.1.join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    stopped(&mcp, &one, "deaf").await;
    let next = tokio::time::timeout(LONG / 2, pid(&mcp, &one, &cancel)).await.expect("nobody waits for a call that was stopped");
    assert_ne!(next, first);
    assert!(!Path::new(&format!("/proc/{first}")).exists() || is_zombie(&first));
    mcp.close().await;
}

fn is_zombie(pid: &Value) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

/// What is switched off or taken out of the configuration ends at once, not when it is next looked for idle ones.
#[tokio::test]
async fn a_server_that_is_no_longer_configured_ends_at_once() {
    let one = Someone::new("off", 1);
    let (mcp, _) = mcp(WELL, LONG);
    let mcp = Arc::new(mcp);
    let (stop, cancel) = cancel::pair();
    let tidy = tokio::spawn(mcp.clone().keep_tidy(cancel.clone()));
    let configured = Settings::clone(&mcp.settings.load());
    let off = |settings: &ServerSettings| ServerSettings { enabled: false, ..settings.clone() };
    let disabled = Settings { servers: configured.servers.iter().map(|(name, settings)| (name.clone(), off(settings))).collect() };
    for after in [disabled, Settings::default()] {
        mcp.settings.store(configured.clone());
        let pid = pid(&mcp, &one, &cancel).await;
        mcp.settings.store(after);
        let gone = async {
            while Path::new(&format!("/proc/{pid}")).exists() && !is_zombie(&pid) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG / 2, gone).await.expect("it ends with its configuration");
    }
    stop.cancel(cancel::Why::Shutdown);
    tidy.await.unwrap();
}
