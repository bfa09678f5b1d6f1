//! A supervisor as systemd is one: a datagram socket that the server tells how it goes (sd_notify(3)).

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::server::TempDir;

/// How long a message may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// The supervisor's end.
pub struct Supervisor {
    name: String,
    ear: tokio::net::UnixDatagram,
    _dir: Option<TempDir>,
}

impl Supervisor {
    /// At a path.
    pub fn at_a_path() -> Self {
        let dir = TempDir::new();
        let path = dir.path().join("notify");
        Self::new(path.display().to_string(), UnixDatagram::bind(&path).unwrap(), Some(dir))
    }
    /// At a name that is in no file system.
    pub fn abstractly() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("oxios-it-notify-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        Self::new(format!("@{name}"), socket, None)
    }

    fn new(name: String, socket: UnixDatagram, dir: Option<TempDir>) -> Self {
        socket.set_nonblocking(true).unwrap();
        Self { name, ear: tokio::net::UnixDatagram::from_std(socket).unwrap(), _dir: dir }
    }

    /// What `NOTIFY_SOCKET` is.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The next message.
    pub async fn hears(&self) -> String {
        let mut bytes = [0; 4096];
        let got = tokio::time::timeout(PATIENCE, self.ear.recv(&mut bytes)).await.expect("the server says something").unwrap();
        String::from_utf8(bytes[..got].to_vec()).unwrap()
    }

    /// The next message that is no feeding of the watchdog.
    pub async fn hears_news(&self) -> String {
        loop {
            let heard = self.hears().await;
            if heard != "WATCHDOG=1" {
                return heard;
            }
        }
    }
}
