//! The server as a child process, and what is done to it: killed, stopped, frozen, its disk filled, its clock turned.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::watch;

use crate::Dice;

/// Room of the home, where it has a file system of its own.
const DISK_MIB: u64 = 64;
/// Lines of the log that are shown where it does not start.
const LOG_LINES: usize = 20;
/// How long a start or a stop may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// By then a load should be forgotten.
const REST: Duration = Duration::from_secs(10);
/// What memory may be above where it was, within [`REST`] of the end of a load.
const GROWTH_KIB: u64 = 4 * 1024;
/// Descriptors that may be open besides: a connection that is just being closed, a file that is just being written.
const GROWTH_DESCRIPTORS: u64 = 4;

/// The server and its surroundings.
pub struct World {
    home: PathBuf,
    mounted: bool,
    faketime: Option<PathBuf>,
    model: String,
    /// Where it listens; `None` while it is down.
    address: watch::Sender<Option<String>>,
    child: tokio::sync::Mutex<Option<Child>>,
    keys: Mutex<Vec<String>>,
    panics: Arc<Mutex<Vec<String>>>,
    /// The last lines of the log, for when it does not start.
    log: Arc<Mutex<VecDeque<String>>>,
}

/// Resident memory in KiB and open descriptors.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    resident: u64,
    descriptors: u64,
}

impl World {
    /// A new home with a running server.
    pub async fn start(model: &str) -> Self {
        let home = std::env::temp_dir().join(format!("oxios-chaos-{}", std::process::id()));
        std::fs::create_dir_all(&home).unwrap();
        let mount = ["-t", "tmpfs", "-o", &format!("size={DISK_MIB}m,mode=0700"), "tmpfs"];
        let mounted = Command::new("mount").args(mount).arg(&home).output().is_ok_and(|out| out.status.success());
        let faketime = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten().find_map(|dir| {
            let library = dir.path().join("faketime/libfaketime.so.1");
            library.exists().then_some(library)
        });
        if !mounted {
            println!("SKIPPED full disk: no file system can be mounted here");
        }
        if faketime.is_none() {
            println!("SKIPPED clock jumps: libfaketime is not installed");
        }
        let world = Self {
            home,
            mounted,
            faketime,
            model: model.to_owned(),
            address: watch::Sender::new(None),
            child: tokio::sync::Mutex::new(None),
            keys: Mutex::default(),
            panics: Arc::default(),
            log: Arc::default(),
        };
        world.turn_clock(0);
        world.up().await;
        world
    }

    /// Where the server listens, as soon as it does.
    pub async fn address(&self) -> String {
        let mut address = self.address.subscribe();
        let up = tokio::time::timeout(PATIENCE, address.wait_for(Option::is_some)).await.expect("the server never comes up");
        up.unwrap().clone().unwrap()
    }
    /// The key of a client.
    pub fn key(&self, client: u64) -> String {
        let keys = self.keys.lock().unwrap();
        keys[client as usize % keys.len()].clone()
    }
    /// The key that the server made.
    pub fn first_key(&self) -> String {
        std::fs::read_to_string(self.home.join("token")).unwrap().trim().to_owned()
    }
    /// One more key for clients.
    pub fn add_key(&self, key: String) {
        self.keys.lock().unwrap().push(key);
    }

    /// Something bad; its name.
    pub async fn disturb(&self, dice: &mut Dice) -> &'static str {
        match dice.below(100) {
            0..=39 => {
                self.kill().await;
                "killed and started again"
            }
            40..=54 => {
                self.signal(Signal::TERM).await;
                self.down().await;
                self.up().await;
                "stopped and started again"
            }
            55..=64 => {
                self.signal(Signal::STOP).await;
                tokio::time::sleep(Duration::from_millis(dice.below(1500))).await;
                self.signal(Signal::CONT).await;
                "frozen for a while"
            }
            65..=79 if self.mounted => {
                self.fill_disk();
                tokio::time::sleep(Duration::from_millis(500 + dice.below(2000))).await;
                if dice.below(2) == 0 {
                    self.kill().await;
                }
                let _ = std::fs::remove_file(self.home.join("filler"));
                "disk filled up"
            }
            _ if self.faketime.is_some() => {
                let hours = dice.below(200) as i64 - 100;
                self.turn_clock(hours * 3600);
                "clock turned"
            }
            _ => "left alone",
        }
    }

    /// Everything is as it should be again, in a fresh process.
    pub async fn settle(&self) {
        let _ = std::fs::remove_file(self.home.join("filler"));
        self.turn_clock(0);
        self.kill().await;
    }

    /// kill −9, and a new start.
    pub async fn kill(&self) {
        self.signal(Signal::KILL).await;
        self.down().await;
        self.up().await;
    }

    /// What the process uses ten seconds after a load.
    pub async fn usage_at_rest(&self) -> Usage {
        tokio::time::sleep(REST).await;
        self.usage()
    }

    /// What the process uses now.
    pub fn usage(&self) -> Usage {
        let pid = self.child.try_lock().ok().and_then(|child| child.as_ref().map(Child::id)).unwrap();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let resident = status.lines().find_map(|l| l.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.trim().parse().ok()).unwrap();
        Usage { resident, descriptors: std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64 }
    }

    /// Memory and descriptors come back to where they were.
    pub async fn back_to(&self, before: Usage) -> Vec<String> {
        let until = Instant::now() + REST;
        loop {
            let now = self.usage();
            let fine = now.resident <= before.resident + GROWTH_KIB && now.descriptors <= before.descriptors + GROWTH_DESCRIPTORS;
            if fine || Instant::now() > until {
                println!("{:<44}{:>8}", "memory after the first and second calm, KiB", format!("{} {}", before.resident, now.resident));
                println!("{:<44}{:>8}", "descriptors", format!("{} {}", before.descriptors, now.descriptors));
                return if fine { Vec::new() } else { vec![format!("{before:?} became {now:?}")] };
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// What the audit log's own check finds.
    pub fn audit(&self) -> Vec<String> {
        let out = self.command().args(["audit", "verify"]).output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        if out.status.success() { Vec::new() } else { vec![format!("audit verify: {said}")] }
    }

    /// Panics in any log.
    pub fn panics(&self) -> Vec<String> {
        self.panics.lock().unwrap().clone()
    }

    fn command(&self) -> Command {
        let binary = std::env::var_os("OXIOS_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_oxios-edge").into());
        let mut command = Command::new(binary);
        command.env_clear().env("OXIOS_HOME", &self.home).env("HOME", &self.home).stdin(Stdio::null());
        command
    }

    async fn up(&self) {
        let mut command = self.command();
        command.args(["serve", "--listen", "127.0.0.1:0"]);
        for (name, value) in [
            ("OXIOS_ENGINE__DEFAULT_MODEL", "openai/chaos"),
            ("OXIOS_ENGINE__BASE_URL", &format!("http://{}/v1", self.model)),
            ("OXIOS_ENGINE__STALL_TIMEOUT_SECS", "2"),
            ("OXIOS_ENGINE__FIRST_BYTE_TIMEOUT_SECS", "5"),
            ("OXIOS_SECURITY__RATE_LIMIT_PER_MINUTE", "0"),
            ("OXIOS_SECURITY__MAX_EXECUTION_TIME_SECS", "20"),
            ("OXIOS_GATEWAY__DRAIN_SECS", "1"),
        ] {
            command.env(name, value);
        }
        if let Some(library) = &self.faketime {
            command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", self.clock_file()).env("FAKETIME_NO_CACHE", "1");
            // The clock's file is read again and again, and lies outside.
            command.env("OXIOS_SECURITY__LANDLOCK", "off");
            command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1");
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let stdout = tokio::process::ChildStdout::from_std(child.stdout.take().unwrap()).unwrap();
        let mut lines = BufReader::new(stdout).lines();
        let (panics, log) = (self.panics.clone(), self.log.clone());
        std::thread::spawn(move || {
            for line in std::io::BufRead::lines(std::io::BufReader::new(stderr)).map_while(Result::ok) {
                if line.contains("panicked at") {
                    panics.lock().unwrap().push(line.clone());
                }
                let mut log = log.lock().unwrap();
                log.push_back(line);
                if log.len() > LOG_LINES {
                    log.pop_front();
                }
            }
        });
        let started = tokio::time::timeout(PATIENCE, async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if let Some(address) = line.strip_prefix("listening on http://") {
                    return address.to_owned();
                }
            }
            panic!("the server does not start: {:?}\n{:#?}", child.wait(), self.log.lock().unwrap());
        });
        let address = started.await.expect("the server does not start in time");
        *self.child.lock().await = Some(child);
        self.address.send_replace(Some(address));
    }

    async fn down(&self) {
        self.address.send_replace(None);
        let Some(mut child) = self.child.lock().await.take() else { return };
        let ended = tokio::time::timeout(PATIENCE, tokio::task::spawn_blocking(move || child.wait()));
        ended.await.expect("the server does not stop").unwrap().unwrap();
    }

    async fn signal(&self, signal: Signal) {
        if let Some(child) = self.child.lock().await.as_ref() {
            let _ = kill_process(Pid::from_child(child), signal);
        }
    }

    fn fill_disk(&self) {
        let Ok(mut file) = std::fs::File::create(self.home.join("filler")) else { return };
        while std::io::Write::write_all(&mut file, &[0; 64 * 1024]).is_ok() {}
    }

    fn clock_file(&self) -> PathBuf {
        std::env::temp_dir().join(format!("oxios-chaos-{}.clock", std::process::id()))
    }

    /// So many seconds beside the true time, from now on.
    fn turn_clock(&self, seconds: i64) {
        // In one step: the server reads it at any moment.
        let new = self.clock_file().with_extension("new");
        std::fs::write(&new, format!("{seconds:+}")).unwrap();
        std::fs::rename(&new, self.clock_file()).unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.get_mut().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_file(self.clock_file());
        if self.mounted {
            let _ = Command::new("umount").arg("-l").arg(Path::new(&self.home)).output();
        }
        let _ = std::fs::remove_dir_all(&self.home);
    }
}
