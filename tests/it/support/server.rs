//! The real binary as a child process with a home of its own.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use super::client::{Address, Client};
use super::scripted::Scripted;
use super::supervisor::Supervisor;

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_oxios-edge");

/// How long the server may take to start or to stop before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// The model server's key in tests: it must never show anywhere.
pub const MODEL_KEY: &str = "sk-model-canary-5b1d9c0e";

/// A directory that goes with its owner.
pub struct TempDir(PathBuf);

impl TempDir {
    /// A new empty directory.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("oxios-it-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(&path).unwrap();
        Self(path)
    }
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A command of the binary with a clean environment.
pub fn command(home: &Path) -> Command {
    within(Command::new(BINARY), home)
}

fn within(mut command: Command, home: &Path) -> Command {
    command.env_clear().env("OXIOS_HOME", home).env("HOME", home).stdin(Stdio::null());
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

/// How a server is to be started.
#[derive(Clone, Default)]
pub struct Setup {
    env: Vec<(String, String)>,
    config: String,
    listen: Option<String>,
    /// Soft and hard limit.
    descriptors: Option<(u32, u32)>,
    /// A socket that the server gets instead of `--listen`.
    handed: Option<Arc<OwnedFd>>,
    /// `WATCHDOG_PID` is the server's.
    watched: bool,
}

impl Setup {
    /// The offline model, a free port of 127.0.0.1.
    pub fn new() -> Self {
        Self::default()
    }
    /// One environment variable.
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }
    /// Lines of `config.toml`.
    pub fn config(mut self, toml: &str) -> Self {
        self.config += toml;
        self.config += "\n";
        self
    }
    /// Not shut in: a change that leads to another port is felt at once.
    pub fn in_the_open(self) -> Self {
        self.env("OXIOS_SECURITY__LANDLOCK", "off")
    }
    /// Another `--listen`.
    pub fn listen(mut self, address: &str) -> Self {
        self.listen = Some(address.to_owned());
        self
    }
    /// Limits on open descriptors, soft and hard, that it starts with.
    pub fn descriptors(mut self, soft: u32, hard: u32) -> Self {
        self.descriptors = Some((soft, hard));
        self
    }
    /// It gets this socket as descriptor 3, by systemd's rules for activation.
    pub fn handed(mut self, socket: impl Into<OwnedFd>) -> Self {
        self.handed = Some(Arc::new(socket.into()));
        self
    }
    /// `supervisor` is told how it goes; silence for `watchdog` means death.
    pub fn supervised(mut self, supervisor: &Supervisor, watchdog: Option<Duration>) -> Self {
        if let Some(watchdog) = watchdog {
            self = self.env("WATCHDOG_USEC", watchdog.as_micros().to_string());
            self.watched = true;
        }
        self.env("NOTIFY_SOCKET", supervisor.name())
    }
    /// The scripted server as an OpenAI-compatible model.
    pub fn openai(self, model: &Scripted) -> Self {
        self.env("OXIOS_ENGINE__DEFAULT_MODEL", "openai/scripted")
            .env("OXIOS_ENGINE__BASE_URL", format!("http://{}/v1", model.address()))
            .env("OPENAI_API_KEY", MODEL_KEY)
    }
    /// The scripted server as an Anthropic model.
    pub fn anthropic(self, model: &Scripted) -> Self {
        self.env("OXIOS_ENGINE__DEFAULT_MODEL", "anthropic/scripted")
            .env("OXIOS_ENGINE__BASE_URL", format!("http://{}/v1", model.address()))
            .env("ANTHROPIC_API_KEY", MODEL_KEY)
    }
    /// Starts it in a new home.
    pub fn start(self) -> Server {
        self.start_in(Arc::new(TempDir::new()))
    }
    /// Starts it in this home.
    pub fn start_in(self, home: Arc<TempDir>) -> Server {
        if !self.config.is_empty() {
            std::fs::write(home.path().join("config.toml"), &self.config).unwrap();
        }
        Server::spawn(self, home)
    }
}

/// A running server. Dropping it kills it and looks through its log for secrets and panics.
pub struct Server {
    setup: Setup,
    home: Arc<TempDir>,
    child: Child,
    /// Where it listens.
    pub address: Address,
    log: Arc<Mutex<Vec<u8>>>,
    stdout: Arc<Mutex<String>>,
    /// Standard output was closed: the process has ended.
    ended: tokio::sync::watch::Receiver<bool>,
    key: String,
    canaries: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn spawn(setup: Setup, home: Arc<TempDir>) -> Self {
        // What only a shell can arrange before the server has its process.
        let mut prelude = String::new();
        if let Some((soft, hard)) = setup.descriptors {
            prelude += &format!("ulimit -Sn {soft} && ulimit -Hn {hard} && ");
        }
        if setup.watched {
            prelude += "export WATCHDOG_PID=$$ && ";
        }
        if setup.handed.is_some() {
            prelude += "exec 3<&0 0</dev/null && export LISTEN_PID=$$ LISTEN_FDS=1 && ";
        }
        let mut command = if prelude.is_empty() {
            command(home.path())
        } else {
            let mut shell = within(Command::new("sh"), home.path());
            shell.args(["-c", &format!("{prelude}exec \"$0\" \"$@\""), BINARY]);
            shell
        };
        command.arg("serve");
        match &setup.handed {
            Some(socket) => _ = command.stdin(Stdio::from(socket.try_clone().unwrap())),
            None => _ = command.args(["--listen", setup.listen.as_deref().unwrap_or("127.0.0.1:0")]),
        }
        for (name, value) in &setup.env {
            command.env(name, value);
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let stdout = Arc::new(Mutex::new(String::new()));
        let mut stderr = child.stderr.take().unwrap();
        let into = log.clone();
        // Both readers end with the child's pipes.
        let logged = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = stderr.read(&mut buffer) {
                into.lock().unwrap().extend_from_slice(&buffer[..read]);
            }
        });
        let (sender, lines) = mpsc::channel();
        let (over, ended) = tokio::sync::watch::channel(false);
        let (out, printed) = (BufReader::new(child.stdout.take().unwrap()), stdout.clone());
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                {
                    let mut printed = printed.lock().unwrap();
                    *printed += &line;
                    *printed += "\n";
                }
                let _ = sender.send(line);
            }
            over.send_replace(true);
        });
        let address = loop {
            match lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    if let Some(url) = line.strip_prefix("listening on ") {
                        break match (url.trim().strip_prefix("http://"), url.trim().strip_prefix("unix:")) {
                            (Some(addr), _) => Address::Tcp(addr.trim_end_matches('/').to_owned()),
                            (_, Some(path)) => Address::Unix(path.into()),
                            _ => panic!("what is {line:?}?"),
                        };
                    }
                }
                Err(_) => {
                    let _ = child.kill();
                    let status = child.wait();
                    let _ = logged.join();
                    let log = String::from_utf8_lossy(&log.lock().unwrap()).into_owned();
                    panic!("no `listening on` line; {status:?}; printed {:?}; log:\n{log}", stdout.lock().unwrap());
                }
            }
        };
        let key = std::fs::read_to_string(home.path().join("token")).unwrap_or_default().trim().to_owned();
        let canaries = Arc::new(Mutex::new(vec![MODEL_KEY.to_owned()]));
        if !key.is_empty() {
            canaries.lock().unwrap().push(key.clone());
        }
        Self { setup, home, child, address, log, stdout, ended, key, canaries }
    }

    /// A client with the first key.
    pub fn client(&self) -> Client {
        let client = self.stranger().with_key(Some(&self.key));
        assert!(!self.key.is_empty(), "there is a key from the first start, in <home>/token");
        client
    }
    /// A client without a key.
    pub fn stranger(&self) -> Client {
        let client = Client::new(self.address.clone(), None);
        client.forbid(MODEL_KEY);
        client
    }
    /// The first key.
    pub fn key(&self) -> &str {
        &self.key
    }
    /// The home.
    pub fn home(&self) -> &Path {
        self.home.path()
    }
    /// The home's directory itself, to start another server in it later.
    pub fn home_dir(&self) -> Arc<TempDir> {
        self.home.clone()
    }
    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
    /// This text must not be in the log when the server ends.
    pub fn canary(&self, text: &str) {
        self.canaries.lock().unwrap().push(text.to_owned());
    }
    /// What it has logged so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&self.log.lock().unwrap()).into_owned()
    }
    /// What it has printed so far.
    pub fn printed(&self) -> String {
        self.stdout.lock().unwrap().clone()
    }
    /// `<home>/workspace/sessions/<name>`.
    pub fn session_file(&self, name: &str) -> PathBuf {
        self.home().join("workspace/sessions").join(name)
    }

    /// kill −9, and waits for the body.
    pub fn kill9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }
    /// SIGTERM, and waits for the end.
    pub async fn stop(&mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.wait().await
    }
    /// Waits for the end of the process.
    pub async fn wait(&mut self) -> ExitStatus {
        let mut ended = self.ended.clone();
        let wait = ended.wait_for(|ended| *ended);
        let _ended = tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("no end in {PATIENCE:?}; log:\n{}", self.log()));
        self.child.wait().unwrap()
    }
    /// Starts it again with the same setup in the same home; the old process must be gone or is killed.
    pub fn restart(&mut self) {
        let setup = self.setup.clone();
        self.restart_as(setup);
    }
    /// As [`Self::restart`], with another setup.
    pub fn restart_as(&mut self, setup: Setup) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.look_through_log();
        let next = Self::spawn(setup, self.home.clone());
        let canaries = self.canaries.clone();
        *self = next;
        self.canaries = canaries;
    }

    fn look_through_log(&self) {
        if std::thread::panicking() {
            return;
        }
        let all = self.log() + &self.printed();
        for canary in self.canaries.lock().unwrap().iter() {
            assert!(!all.contains(canary.as_str()), "{canary:?} is in the log:\n{all}");
        }
        assert!(!all.contains("panicked at"), "a panic is in the log:\n{all}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the server\n{}", self.log());
        }
        self.look_through_log();
    }
}
