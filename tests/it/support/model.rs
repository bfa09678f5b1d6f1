//! llama.cpp's own server with a real model (`tests/real_model.py`), started once for all tests that need it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use super::client::{Address, Client};

/// What `tests/run` has installed.
pub fn cache() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/.cache")
}

/// Says that a test did not run because something is not installed. Under `tests/run` that is a failure.
pub fn skip(test: &str, what: &str) {
    assert!(std::env::var_os("OXIOS_TESTS_NEED_ALL").is_none(), "{what} is missing, and tests/run installs it");
    println!("SKIPPED {test}: {what} is missing; `tests/run` installs it");
    eprintln!("SKIPPED {test}: {what} is missing; `tests/run` installs it");
}

/// The interpreter with our packages, where it is installed.
pub fn python() -> Option<PathBuf> {
    let python = cache().join("venv/bin/python");
    python.exists().then_some(python)
}

/// A running llama.cpp server; it ends with this value, or with the test process.
pub struct RealModel {
    child: Child,
    /// `host:port`.
    pub address: String,
}

impl RealModel {
    /// Starts one; `None` where it is not installed.
    pub fn start() -> Option<Self> {
        let installed =
            std::fs::read_dir(cache().join("venv/lib")).ok()?.flatten().any(|d| d.path().join("site-packages/xllamacpp").exists());
        if !installed {
            return None;
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real_model.py");
        let mut child =
            Command::new(python()?).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
        let lines = BufReader::new(child.stdout.take()?).lines();
        let address = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("model on http://").map(str::to_owned));
        let Some(address) = address else { panic!("the model server did not start: {:?}", child.wait()) };
        Some(Self { child, address })
    }
    /// The one for all tests of this process.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<RealModel>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref()
    }
    /// Talks to it directly (unchecked: it is not our server).
    pub async fn slots(&self) -> serde_json::Value {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut socket = Client::new(Address::Tcp(self.address.clone()), None).address.connect().await;
        socket.write_all(format!("GET /slots HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.address).as_bytes()).await.unwrap();
        let mut all = String::new();
        socket.read_to_string(&mut all).await.unwrap();
        let body = all.split_once("\r\n\r\n").unwrap().1;
        let body = &body[body.find(['[', '{']).unwrap()..=body.rfind([']', '}']).unwrap()];
        serde_json::from_str(body).unwrap()
    }
    /// Slots that are generating now.
    pub async fn busy(&self) -> usize {
        self.slots().await.as_array().unwrap().iter().filter(|slot| slot["is_processing"] == true).count()
    }
    /// kill −9.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for RealModel {
    fn drop(&mut self) {
        self.kill();
    }
}
