//! Child processes under measurement: the product's binary and the baseline, with what the kernel says of them.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Runs instead of the binary that was built with the benches; it is the product as it is shipped, without what tests add to crates.
const BINARY: &str = "OXIOS_BINARY";

/// The product's binary.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os(BINARY).map_or_else(|| env!("CARGO_BIN_EXE_oxios-edge").into(), PathBuf::from)
}

/// The bare hyper server: an example of this package.
pub(crate) const BARE_HYPER: &str = "bare_hyper";
/// The same routes on axum: an example of this package.
const AXUM: &str = "axum";

/// The program of a server to compare with. All are built with the first that is asked for: with the profile and the features of this
/// bench, into the directory where it lies itself.
pub(crate) fn beside(name: &str) -> PathBuf {
    static DIR: LazyLock<PathBuf> = LazyLock::new(|| {
        // <target>/<profile>/deps/<this program>
        let this = std::env::current_exe().unwrap();
        let profile = this.ancestors().nth(2).unwrap();
        let features = [("archives", cfg!(feature = "archives")), ("landlock", cfg!(feature = "landlock")), ("tls", cfg!(feature = "tls"))];
        let features: Vec<&str> = features.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--locked", "--quiet", "--example", BARE_HYPER, "--example", AXUM]);
        cargo.args(["--no-default-features", "--features", &features.join(",")]);
        cargo.arg("--target-dir").arg(profile.parent().unwrap()).current_dir(env!("CARGO_MANIFEST_DIR"));
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        assert!(cargo.status().unwrap().success(), "the servers to compare with could not be built");
        profile.join("examples")
    });
    DIR.join(name)
}

/// A server process; killed when dropped.
pub(crate) struct Server {
    child: Child,
    meter: Meter,
    /// `ADDR:PORT` it listens on.
    pub(crate) address: String,
    /// Its first key; the baselines have none.
    token: Option<String>,
    /// Its home, where that goes with it.
    home: Option<PathBuf>,
}

impl Server {
    /// The product on a fresh home with the offline model and these settings on top.
    pub(crate) fn product(env: &[(&str, &str)]) -> Self {
        let home = scratch("home");
        let mut server = Self::product_at(&home, env);
        server.home = Some(home);
        server
    }

    /// The product on this home, which stays.
    pub(crate) fn product_at(home: &Path, env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(binary());
        command.args(["serve", "--listen", "127.0.0.1:0", "--home"]).arg(home).env_clear();
        // So many that it only counts.
        command.env("OXIOS_SECURITY__RATE_LIMIT_PER_MINUTE", "1000000").envs(env.iter().copied());
        let mut server = Self::start(command);
        server.token = std::fs::read_to_string(home.join("token")).ok().map(|text| text.trim().to_owned());
        server
    }

    /// The bare hyper server.
    pub(crate) fn baseline() -> Self {
        Self::start(Command::new(beside(BARE_HYPER)))
    }

    /// The same routes on axum.
    pub(crate) fn peer() -> Self {
        Self::start(Command::new(beside(AXUM)))
    }

    /// Passes bytes on to `ADDR:PORT` and back.
    pub(crate) fn forwarder(to: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([crate::forward::ARGUMENT, to]);
        Self::start(command)
    }

    fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap_or_else(|| panic!("no address in {line:?}")).to_owned();
        Self { meter: Meter::of(child.id()), child, address, token: None, home: None }
    }

    /// The first key; the baselines have none.
    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Ends it as a service manager does: what it keeps for its next start is written.
    pub(crate) fn stop(mut self) {
        rustix::process::kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it does nothing any more, so that what it has begun is not counted with what comes.
    pub(crate) fn rest(&self) {
        let mut before = self.cpu();
        loop {
            std::thread::sleep(Duration::from_millis(200));
            let now = self.cpu();
            if now == before {
                return;
            }
            before = now;
        }
    }

    /// User and system time used so far, all threads.
    pub(crate) fn cpu(&self) -> Duration {
        self.meter.read()
    }

    /// `VmHWM` counts from now on.
    pub(crate) fn forget_peak(&self) {
        // proc(5): 5 resets the peak resident set size.
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").unwrap();
    }

    /// Descriptors that are open now.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// A field of `/proc/<pid>/status` in kB, such as `VmRSS`.
    pub(crate) fn status_kb(&self, field: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(home) = &self.home {
            let _ = std::fs::remove_dir_all(home);
        }
    }
}

/// The machine in two parts, as if server and load had one each: what starts inside [`Parts::server`] runs on the first half of the
/// cores, this thread and what it starts on the others, until this is dropped. With one core, all share it.
pub(crate) struct Parts {
    all: CpuSet,
    server: CpuSet,
    load: CpuSet,
}

impl Parts {
    /// From here on this thread is on the load's part.
    pub(crate) fn divide() -> Self {
        let all = sched_getaffinity(None).unwrap();
        let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core)).collect();
        let of = |cores: &[usize]| {
            let mut set = CpuSet::new();
            cores.iter().for_each(|core| set.set(*core));
            set
        };
        let (server, load) = cores.split_at(cores.len() / 2);
        let parts = if server.is_empty() { Self { all, server: all, load: all } } else { Self { all, server: of(server), load: of(load) } };
        sched_setaffinity(None, &parts.load).unwrap();
        parts
    }

    /// Starts a server on its part.
    pub(crate) fn server(&self, start: impl FnOnce() -> Server) -> Server {
        sched_setaffinity(None, &self.server).unwrap();
        let server = start();
        sched_setaffinity(None, &self.load).unwrap();
        server
    }

    /// In words.
    pub(crate) fn told(&self) -> String {
        if self.server == self.load {
            return "server and load share one core".to_owned();
        }
        format!("{} core(s) for the server, {} for the load", self.server.count(), self.load.count())
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        let _ = sched_setaffinity(None, &self.all);
    }
}

/// This thread goes before whatever shares its cores, as if it had a machine of its own, until this is dropped; what it starts does not.
/// Only root may have that. Without it a client waits up to a time slice, some 3 ms, for the processes beside it.
pub(crate) struct Ahead(bool);

impl Ahead {
    /// From here on, where it is allowed.
    pub(crate) fn of_others() -> Self {
        Self(chrt(&["--reset-on-fork", "--rr", "--pid", "1"]))
    }

    /// In words.
    pub(crate) fn told(&self) -> &'static str {
        if self.0 { "the client goes before them on its core" } else { "the client waits for them on its core, too: not root" }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        if self.0 {
            chrt(&["--other", "--pid", "0"]);
        }
    }
}

fn chrt(how: &[&str]) -> bool {
    let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
    Command::new("chrt").args(how).arg(thread).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// The CPU time of a process. The ticks of its `stat` are 10 ms; `schedstat` of each thread counts nanoseconds, but goes with the thread:
/// what one had used when it was last seen still counts.
pub(crate) struct Meter {
    process: u32,
    seen: Mutex<HashMap<OsString, u64>>,
}

impl Meter {
    pub(crate) fn of(process: u32) -> Self {
        Self { process, seen: Mutex::default() }
    }

    /// User and system time so far, all threads.
    pub(crate) fn read(&self) -> Duration {
        let mut seen = self.seen.lock().unwrap();
        for task in std::fs::read_dir(format!("/proc/{}/task", self.process)).unwrap().flatten() {
            // It may have ended since.
            let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            if let Some(nanos) = text.split(' ').next().and_then(|first| first.parse().ok()) {
                seen.insert(task.file_name(), nanos);
            }
        }
        Duration::from_nanos(seen.values().sum())
    }
}

/// A fresh directory for one bench.
pub(crate) fn scratch(name: &str) -> PathBuf {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let n = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("oxios-bench-{}-{n}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).unwrap();
    path
}
