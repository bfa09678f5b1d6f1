//! Listening: TCP or a Unix socket, admission before accept, drain with a deadline.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

#[cfg(any(test, feature = "fuzzing"))]
use tokio::io::DuplexStream;
use tokio::net::{TcpListener, UnixListener};
#[cfg(any(test, feature = "fuzzing"))]
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::base::cancel::Cancel;
use crate::base::limits::{CONNECTIONS_MAX, DESCRIPTORS_KEPT, STRANGERS_MAX, STRANGERS_PER_PEER_MAX};
use crate::base::log;
use crate::http::connection::{self, Service};
use crate::http::crowd::{Caps, Crowd};
use crate::http::line::Line;
use crate::http::peer::Peer;
use crate::http::proxies::TrustedProxies;
use crate::http::socket::Socket;
use crate::sys;
use crate::sys::handed::Handed;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// An address; port 0 picks a free one.
    Tcp(SocketAddr),
    /// A socket file (0600); one that nobody answers on is replaced.
    Unix(PathBuf),
}

impl Listen {
    /// `ADDR:PORT` or `unix:/path`.
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("unix:") {
            Some("") => None,
            Some(path) => Some(Self::Unix(path.into())),
            None => text.parse().ok().map(Self::Tcp),
        }
    }
}

/// Limits on connections.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Open connections in all (`gateway.max_connections`).
    pub connections_max: usize,
    /// Those of them that have not authenticated.
    pub strangers_max: usize,
    /// Strangers of one peer.
    pub strangers_per_peer_max: usize,
    /// Peers that the line above does not count (`gateway.trusted_proxies`).
    pub trusted_proxies: TrustedProxies,
    /// Requests that run when the server stops get this long, and those that wait for something longer as long as that.
    pub drain: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connections_max: CONNECTIONS_MAX,
            strangers_max: STRANGERS_MAX,
            strangers_per_peer_max: STRANGERS_PER_PEER_MAX,
            trusted_proxies: TrustedProxies::default(),
            drain: Duration::from_secs(30),
        }
    }
}

impl Settings {
    /// As many connections as descriptors allow, with a warning where that is fewer than wished.
    fn caps(&self, descriptors: Option<u64>) -> Caps {
        let descriptors = descriptors.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        // A very low limit is shared in halves.
        let allowed = descriptors.saturating_sub(DESCRIPTORS_KEPT).max(descriptors / 2);
        let all = self.connections_max.min(allowed).max(1);
        if all < self.connections_max {
            let wished = self.connections_max;
            log::warn("http", format_args!("{descriptors} descriptors allow {all} connections, not {wished}; raise the limit (ulimit -n)"));
        }
        Caps { all, strangers: self.strangers_max.clamp(1, all), strangers_per_peer: self.strangers_per_peer_max.max(1) }
    }
}

/// Waits after an accept that failed for want of descriptors or memory, so that the loop does not spin.
const BACK_OFF: Duration = Duration::from_millis(100);
/// A failure to accept comes ten times a second or more; this often it is logged.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);
/// Connections that the kernel keeps for us while we are busy or full. Whoever finds its queue full tries again after a second, which is
/// longer than it takes to come through a queue of this length.
const BACKLOG: u32 = 4096;

/// After connections have left, the heap is trimmed this much later, so at most that often.
const TRIM_AFTER: Duration = Duration::from_secs(5);

/// A bound socket; connections wait in the kernel until it is served.
pub struct Listener {
    socket: Bound,
    address: String,
}

enum Bound {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        /// Removed when the listener goes; none where it is another's.
        _file: Option<SocketFile>,
    },
    /// What accepting gives.
    #[cfg(any(test, feature = "fuzzing"))]
    Memory(mpsc::Receiver<Dialled>),
}

/// The end of a pipe in memory and who is said to hold the other one, or why there is none.
#[cfg(any(test, feature = "fuzzing"))]
type Dialled = io::Result<(DuplexStream, Peer)>;

/// Connects to a listener in memory.
#[cfg(any(test, feature = "fuzzing"))]
pub type Dial = mpsc::Sender<Dialled>;

/// A socket's name in the file system.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Binds. Needs a running tokio runtime. A Unix socket file that nobody answers on is replaced.
    pub fn bind(listen: &Listen) -> io::Result<Self> {
        match listen {
            Listen::Tcp(at) => {
                let socket = if at.is_ipv6() { tokio::net::TcpSocket::new_v6()? } else { tokio::net::TcpSocket::new_v4()? };
                // A restart does not wait for the kernel to forget old connections.
                socket.set_reuseaddr(true)?;
                socket.bind(*at)?;
                let listener = socket.listen(BACKLOG)?;
                let address = format!("http://{}", listener.local_addr()?);
                Ok(Self { socket: Bound::Tcp(listener), address })
            }
            Listen::Unix(path) => {
                let listener = bind_unix(path)?;
                let address = format!("unix:{}", path.display());
                Ok(Self { socket: Bound::Unix { listener, _file: Some(SocketFile(path.clone())) }, address })
            }
        }
    }

    /// Serves on a socket that somebody else has opened, and keeps open. Needs a running tokio runtime.
    pub fn adopt(handed: Handed) -> io::Result<Self> {
        match handed {
            Handed::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                let address = format!("http://{}", listener.local_addr()?);
                Ok(Self { socket: Bound::Tcp(TcpListener::from_std(listener)?), address })
            }
            Handed::Unix(listener) => {
                listener.set_nonblocking(true)?;
                let name = listener.local_addr()?;
                let address = format!("unix:{}", name.as_pathname().unwrap_or(Path::new("")).display());
                Ok(Self { socket: Bound::Unix { listener: UnixListener::from_std(listener)?, _file: None }, address })
            }
        }
    }

    /// A listener without a socket: what is sent to it is a connection. The whole house can stand on it, without a network.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn memory() -> (Self, Dial) {
        let (dial, connections) = mpsc::channel(1);
        (Self { socket: Bound::Memory(connections), address: "memory".to_owned() }, dial)
    }

    /// `http://127.0.0.1:4200` with the real port, or `unix:/path`.
    pub fn address(&self) -> &str {
        &self.address
    }

    async fn accept(&mut self) -> io::Result<(Socket, Peer)> {
        match &mut self.socket {
            Bound::Tcp(listener) => {
                let (socket, from) = listener.accept().await?;
                // Small frames of a stream leave at once. What fails from here on fails for this one connection, which is gone.
                let at = socket.set_nodelay(true).and_then(|()| socket.local_addr()).map_err(|_| io::ErrorKind::ConnectionAborted)?;
                Ok((Socket::Tcp(socket), Peer::Tcp { from, at }))
            }
            Bound::Unix { listener, .. } => {
                let (socket, _) = listener.accept().await?;
                Ok((Socket::Unix(socket), Peer::Unix))
            }
            #[cfg(any(test, feature = "fuzzing"))]
            Bound::Memory(connections) => match connections.recv().await {
                Some(dialled) => dialled.map(|(socket, peer)| (Socket::Memory(socket), peer)),
                // Nobody can connect any more; the server goes on until it is stopped.
                None => std::future::pending().await,
            },
        }
    }
}

/// An answer that was cut at the end of the drain is still told within this time.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// How a server ends, in two steps.
#[derive(Clone)]
pub struct Stop {
    /// Every connection gets the answer that it waits for; one that comes now gets one answer: that nothing more is taken on.
    pub draining: Cancel,
    /// What runs is done: nobody is let in any more.
    pub drained: Cancel,
}

/// Accepts and serves until `stop.drained`. Requests that run then get what is left of `settings.drain` since `stop.draining`, and
/// [`LAST_WORDS`] at least; after that they are cut off. Streams end by themselves when they see that all is drained.
pub async fn serve(listener: Listener, settings: Settings, service: Arc<dyn Service>, stop: Stop) {
    let crowd = Crowd::new(settings.caps(sys::limits::raise_descriptors()));
    tokio::select! {
        () = accept_until(listener, settings, service, stop, &crowd) => {}
        () = trim(&crowd) => {}
    }
}

/// Gives back what connections have left behind, for ever; sleeps while nobody leaves.
async fn trim(crowd: &Crowd) {
    loop {
        crowd.left().await;
        tokio::time::sleep(TRIM_AFTER).await;
        sys::os::trim_heap();
    }
}

async fn accept_until(mut listener: Listener, settings: Settings, service: Arc<dyn Service>, stop: Stop, crowd: &Arc<Crowd>) {
    // One task a connection; each ends with its connection, or when the set is dropped.
    let mut connections = JoinSet::new();
    let mut complaint = Complaint::default();
    let Stop { draining, drained } = stop;
    let mut overdue = std::pin::pin!(async {
        draining.cancelled().await;
        let by = Instant::now() + settings.drain;
        drained.cancelled().await;
        tokio::time::sleep_until(by.max(Instant::now() + LAST_WORDS)).await;
    });
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            biased;
            _ = drained.cancelled() => break,
            // Never here: it ends behind the line above. Its time begins here.
            () = &mut overdue => break,
            accepted = async { crowd.room().await; listener.accept().await } => accepted,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                rest(&error, crowd, &mut complaint).await;
                continue;
            }
        };
        let trusted = settings.trusted_proxies.trusts(peer);
        let seat = crowd.admit((!trusted).then(|| peer.key()));
        let id = seat.id();
        let task = connections.spawn(connection::run(socket, Line::new(peer, seat), service.clone(), draining.clone()));
        crowd.served_by(id, task);
    }
    drop(listener);
    tokio::select! {
        biased;
        () = crowd.empty() => {}
        () = overdue => log::warn("http", format_args!("drain: the deadline has passed; open connections are cut off")),
    }
    connections.shutdown().await;
}

/// After an accept that failed: a connection that died in the queue is no reason to wait; a lack of descriptors is. Whoever leaves
/// meanwhile gives one back; where nobody does, the oldest stranger has to. (Not at once: accepting fails for want of a descriptor
/// where nobody waits, too, and who has just come in could never say who he is.)
async fn rest(error: &io::Error, crowd: &Crowd, complaint: &mut Complaint) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, NotConnected};
    if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted | NotConnected) {
        return;
    }
    if let Some(before) = complaint.is_due() {
        log::warn("http", format_args!("accept failed ({error}); strangers are shown out until it works ({before} times unsaid before)"));
    }
    if tokio::time::timeout(BACK_OFF, crowd.left()).await.is_err() {
        crowd.make_room();
    }
}

/// What goes wrong again and again is logged at once, then at most once in [`COMPLAIN_EVERY`].
#[derive(Debug, Default)]
struct Complaint {
    last: Option<Instant>,
    unsaid: u64,
}

impl Complaint {
    /// Now is a time to say it, with how often it was not said before.
    fn is_due(&mut self) -> Option<u64> {
        if self.last.is_some_and(|last| last.elapsed() < COMPLAIN_EVERY) {
            self.unsaid += 1;
            return None;
        }
        self.last = Some(Instant::now());
        Some(std::mem::take(&mut self.unsaid))
    }
}

fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    // The file is born 0600: between bind and chmod somebody could slip in. The mask is the process's; nothing else
    // makes files while we start to listen.
    let mask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let bound = UnixListener::bind(path).or_else(|error| {
        // What is left of a process that was killed: a socket on which nobody answers.
        let stale = error.kind() == io::ErrorKind::AddrInUse
            && std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket())
            && std::os::unix::net::UnixStream::connect(path).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused);
        if !stale {
            return Err(error);
        }
        std::fs::remove_file(path)?;
        UnixListener::bind(path)
    });
    rustix::process::umask(mask);
    bound
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::base::cancel::{self, Why};
    use crate::http::error::HttpError;
    use crate::http::{Body, Response};

    #[test]
    fn where_to_listen() {
        assert_eq!(Listen::parse("127.0.0.1:0"), Some(Listen::Tcp(([127, 0, 0, 1], 0).into())));
        assert_eq!(Listen::parse("unix:/run/x"), Some(Listen::Unix("/run/x".into())));
        for bad in ["", "unix:", "4200", "localhost:4200", "127.0.0.1"] {
            assert_eq!(Listen::parse(bad), None, "{bad}");
        }
    }

    /// Answers every request with nothing.
    struct Mute;

    impl Service for Mute {
        fn call(self: Arc<Self>, _: connection::Request, _: Arc<Line>) -> Pin<Box<dyn Future<Output = Response> + Send>> {
            Box::pin(async { Response::new(Body::empty()) })
        }
        fn refuse(&self, _: &Line, error: HttpError) -> Response {
            error.into_response()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_descriptors_it_neither_ends_nor_spins_and_serves_again() {
        let (listener, dial) = Listener::memory();
        let (canceller, stop) = cancel::pair();
        let stop = Stop { draining: stop.clone(), drained: stop };
        let server = tokio::spawn(serve(listener, Settings::default(), Arc::new(Mute), stop));
        let begin = Instant::now();
        for n in 0..100 {
            // EMFILE, ENFILE, ENOBUFS, ENOMEM.
            let error = io::Error::from_raw_os_error([24, 23, 105, 12][n % 4]);
            dial.send(Err(error)).await.unwrap();
        }
        // A connection that died in the queue is no reason to wait.
        for _ in 0..1000 {
            dial.send(Err(io::ErrorKind::ConnectionAborted.into())).await.unwrap();
        }
        assert_eq!(begin.elapsed(), BACK_OFF * 100);
        let (mut client, theirs) = tokio::io::duplex(1024);
        assert!(dial.send(Ok((theirs, Peer::Unix))).await.is_ok());
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut said = String::new();
        client.read_to_string(&mut said).await.unwrap();
        assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
        canceller.cancel(Why::Shutdown);
        server.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn without_descriptors_the_oldest_stranger_has_a_moment_to_say_who_he_is() {
        let (listener, dial) = Listener::memory();
        let (_canceller, stop) = cancel::pair();
        let stop = Stop { draining: stop.clone(), drained: stop };
        tokio::spawn(serve(listener, Settings::default(), Arc::new(Mute), stop));
        let (mut oldest, theirs) = tokio::io::duplex(1024);
        assert!(dial.send(Ok((theirs, Peer::Unix))).await.is_ok());
        let begin = Instant::now();
        dial.send(Err(io::Error::from_raw_os_error(24))).await.unwrap();
        assert_eq!(oldest.read(&mut [0; 1]).await.unwrap(), 0, "it was shown out");
        assert_eq!(begin.elapsed(), BACK_OFF);
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_wrong_again_and_again_is_logged_at_a_bounded_rate() {
        let mut complaint = Complaint::default();
        let mut said = Vec::new();
        for n in 0..250 {
            if let Some(before) = complaint.is_due() {
                said.push((n, before));
            }
            tokio::time::advance(BACK_OFF).await;
        }
        assert_eq!(said, [(0, 0), (100, 99), (200, 99)]);
    }

    #[test]
    fn descriptors_bound_connections() {
        let all = |n| Settings::default().caps(n).all;
        assert_eq!((all(None), all(Some(1 << 20)), all(Some(1024)), all(Some(100))), (4096, 4096, 896, 50));
    }
}
