//! Listening: TCP or a Unix socket, admission before accept, drain with a deadline.

use std::io;
use std::sync::Arc;
use std::time::Duration;

#[cfg(any(test, feature = "fuzzing"))]
use tokio::io::DuplexStream;
use tokio::net::{TcpListener, UnixListener};
#[cfg(any(test, feature = "fuzzing"))]
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use crate::base::limits::{CONNECTIONS_MAX, DESCRIPTORS_KEPT, STRANGERS_MAX, STRANGERS_PER_PEER_MAX};
use crate::base::log;
use crate::http::bound::SocketFile;
pub use crate::http::bound::{Bound, Listen};
pub use crate::http::connection::Stop;
use crate::http::connection::{self, Service};
use crate::http::crowd::{Caps, Crowd};
use crate::http::line::Line;
use crate::http::peer::Peer;
use crate::http::proxies::TrustedProxies;
use crate::http::socket::Socket;
use crate::sys;
use crate::sys::handed::Handed;

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

/// After the start, and after connections have left, memory is trimmed this much later, so at most that often.
const TRIM_AFTER: Duration = Duration::from_secs(5);

/// A bound socket; connections wait in the kernel until it is served.
pub struct Listener {
    socket: Source,
    address: String,
}

enum Source {
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

impl Listener {
    /// Binds and is ready. Needs a running tokio runtime.
    pub fn bind(listen: &Listen) -> io::Result<Self> {
        Self::new(Bound::to(listen)?)
    }

    /// Serves on a bound socket. Needs a running tokio runtime.
    pub fn new(bound: Bound) -> io::Result<Self> {
        let address = bound.address()?;
        let socket = match bound.into_parts() {
            (Handed::Tcp(listener), _) => {
                listener.set_nonblocking(true)?;
                Source::Tcp(TcpListener::from_std(listener)?)
            }
            (Handed::Unix(listener), file) => {
                listener.set_nonblocking(true)?;
                Source::Unix { listener: UnixListener::from_std(listener)?, _file: file }
            }
        };
        Ok(Self { socket, address })
    }

    /// A listener without a socket: what is sent to it is a connection. The whole house can stand on it, without a network.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn memory() -> (Self, Dial) {
        let (dial, connections) = mpsc::channel(1);
        (Self { socket: Source::Memory(connections), address: "memory".to_owned() }, dial)
    }

    /// `http://127.0.0.1:4200` with the real port, or `unix:/path`.
    pub fn address(&self) -> &str {
        &self.address
    }

    async fn accept(&mut self) -> io::Result<(Socket, Peer)> {
        match &mut self.socket {
            Source::Tcp(listener) => {
                let (socket, from) = listener.accept().await?;
                // Small frames of a stream leave at once. What fails from here on fails for this one connection, which is gone.
                let at = socket.set_nodelay(true).and_then(|()| socket.local_addr()).map_err(|_| io::ErrorKind::ConnectionAborted)?;
                Ok((Socket::Tcp(socket), Peer::Tcp { from, at }))
            }
            Source::Unix { listener, .. } => {
                let (socket, _) = listener.accept().await?;
                Ok((Socket::Unix(socket), Peer::Unix))
            }
            #[cfg(any(test, feature = "fuzzing"))]
            Source::Memory(connections) => match connections.recv().await {
                Some(dialled) => dialled.map(|(socket, peer)| (Socket::Memory(socket), peer)),
                // Nobody can connect any more; the server goes on until it is stopped.
                None => std::future::pending().await,
            },
        }
    }
}

/// An answer that was cut at the end of the drain is still told within this time.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Accepts and serves until `stop.drained`. Requests that run then get what is left of `settings.drain` since `stop.draining`, and
/// [`LAST_WORDS`] at least; after that they are cut off. Streams end by themselves when they see that all is drained.
pub async fn serve(listener: Listener, settings: Settings, service: Arc<dyn Service>, stop: Stop) {
    let crowd = Crowd::new(settings.caps(sys::limits::raise_descriptors()));
    // Tasks of their own: whoever drives the runtime is no worker of it, and each connection that it lets in would wake one.
    let mut tasks = JoinSet::new();
    let turnstile = crowd.turnstile().clone();
    tasks.spawn(async move { turnstile.turn().await });
    tasks.spawn(accept_until(listener, settings, service, stop, crowd.clone()));
    let ended = tokio::select! {
        ended = tasks.join_next() => ended,
        () = trim(&crowd) => None,
    };
    // A server that accepts nobody any more must not go on as if it did.
    if let Some(Ok(panic)) = ended.and_then(Result::err).map(JoinError::try_into_panic) {
        std::panic::resume_unwind(panic);
    }
}

/// Gives back what the start and then connections have left behind, for ever; sleeps while nobody leaves.
async fn trim(crowd: &Crowd) {
    loop {
        tokio::time::sleep(TRIM_AFTER).await;
        sys::os::trim_heap();
        sys::os::trim_code();
        crowd.left().await;
    }
}

async fn accept_until(mut listener: Listener, settings: Settings, service: Arc<dyn Service>, stop: Stop, crowd: Arc<Crowd>) {
    // One task a connection; each ends with its connection, or when the set is dropped.
    let mut connections = JoinSet::new();
    let mut complaint = Complaint::default();
    let mut overdue = std::pin::pin!(async {
        stop.draining.cancelled().await;
        let by = Instant::now() + settings.drain;
        stop.drained.cancelled().await;
        tokio::time::sleep_until(by.max(Instant::now() + LAST_WORDS)).await;
    });
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.drained.cancelled() => break,
            // Never here: it ends behind the line above. Its time begins here.
            () = &mut overdue => break,
            // What is left of a task goes with this, not only when the next connection comes.
            Some(_) = connections.join_next() => continue,
            accepted = async { crowd.room().await; listener.accept().await } => accepted,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                rest(&error, &crowd, &mut complaint).await;
                continue;
            }
        };
        let trusted = settings.trusted_proxies.trusts(peer);
        let seat = crowd.admit((!trusted).then(|| peer.key()));
        let id = seat.id();
        let task = connections.spawn(connection::run(socket, Line::new(peer, seat), service.clone(), stop.clone()));
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

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::base::cancel::{self, Why};
    use crate::base::limits::STRANGERS_A_TURN;
    use crate::http::error::HttpError;
    use crate::http::{Body, Response, ws};

    /// Answers every request with nothing, and knows whoever asks for `/known`.
    struct Mute;

    impl Service for Mute {
        fn call(self: Arc<Self>, request: connection::Request, line: Arc<Line>) -> Pin<Box<dyn Future<Output = Response> + Send>> {
            if request.uri().path() == "/known" {
                line.known();
            }
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

    /// What lies there to be read, without waiting for more.
    async fn there(client: &mut DuplexStream) -> usize {
        futures_util::future::poll_immediate(pin!(client.read(&mut [0; 4096]))).await.map_or(0, |read| read.unwrap_or(0))
    }

    #[tokio::test(start_paused = true)]
    async fn in_a_crowd_who_is_known_waits_for_a_few_strangers_only() {
        const STRANGERS: usize = 150;
        let (listener, dial) = Listener::memory();
        let (_canceller, stop) = cancel::pair();
        let stop = Stop { draining: stop.clone(), drained: stop };
        let settings = Settings { strangers_max: 200, strangers_per_peer_max: 200, ..Settings::default() };
        tokio::spawn(serve(listener, settings, Arc::new(Mute), stop));
        let mut clients = Vec::new();
        for _ in 0..=STRANGERS {
            let (client, theirs) = tokio::io::duplex(1024);
            assert!(dial.send(Ok((theirs, Peer::Unix))).await.is_ok());
            clients.push(client);
        }
        let mut known = clients.pop().unwrap();
        known.write_all(b"GET /known HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        assert!(known.read(&mut [0; 1024]).await.unwrap() > 0);
        // All in one moment, who is known behind the others. (Unconstrained, or the runtime would make it several moments.)
        tokio::task::unconstrained(async {
            for stranger in &mut clients {
                stranger.write_all(b"no request\r\n\r\n").await.unwrap();
            }
            known.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            let (mut served, mut before) = (0, None);
            for _ in 0..1000 {
                tokio::task::yield_now().await;
                for stranger in &mut clients {
                    served += usize::from(there(stranger).await > 0);
                }
                if before.is_none() && there(&mut known).await > 0 {
                    before = Some(served);
                }
            }
            assert_eq!(served, STRANGERS, "each is served, once");
            assert!(before.is_some_and(|before| before <= 3 * STRANGERS_A_TURN), "{before:?} strangers were served first");
        })
        .await;
    }

    /// One key held every place for ever, with a word now and then, also after it was revoked.
    #[tokio::test(start_paused = true)]
    async fn a_house_full_of_the_known_lets_a_newcomer_in_and_the_longest_idle_go() {
        let (listener, dial) = Listener::memory();
        let (_canceller, stop) = cancel::pair();
        let stop = Stop { draining: stop.clone(), drained: stop };
        tokio::spawn(serve(listener, Settings { connections_max: 20, ..Settings::default() }, Arc::new(Mute), stop));
        let mut clients = Vec::new();
        for _ in 0..25 {
            let (mut client, theirs) = tokio::io::duplex(1024);
            assert!(dial.send(Ok((theirs, Peer::Unix))).await.is_ok());
            client.write_all(b"GET /known HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            assert!(client.read(&mut [0; 1024]).await.unwrap() > 0, "client {} is answered", clients.len());
            clients.push(client);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for (n, client) in clients.iter_mut().enumerate() {
            let heard = futures_util::future::poll_immediate(pin!(client.read(&mut [0; 1]))).await;
            assert_eq!(matches!(heard, Some(Ok(0))), n < 7, "client {n}");
        }
    }

    /// Answers every request with a WebSocket, also for whoever is no stranger any more.
    struct Sockets;

    impl Service for Sockets {
        fn call(self: Arc<Self>, request: connection::Request, line: Arc<Line>) -> Pin<Box<dyn Future<Output = Response> + Send>> {
            line.known();
            let (mut head, _) = request.into_parts();
            let listens = |mut socket: ws::Socket| async move { while socket.recv().await.is_ok() {} };
            let opened = ws::upgrade(&head.headers, head.extensions.remove(), ws::Options::default(), listens);
            Box::pin(async { opened.unwrap_or_else(HttpError::into_response) })
        }
        fn refuse(&self, _: &Line, error: HttpError) -> Response {
            error.into_response()
        }
    }

    /// One key's WebSockets took the last places, too: they speak in tasks of their own, and those were not ended.
    #[tokio::test(start_paused = true)]
    async fn a_house_full_of_websockets_lets_a_newcomer_in() {
        let (listener, dial) = Listener::memory();
        let (_canceller, stop) = cancel::pair();
        let stop = Stop { draining: stop.clone(), drained: stop };
        tokio::spawn(serve(listener, Settings { connections_max: 5, ..Settings::default() }, Arc::new(Sockets), stop));
        let begun = Instant::now();
        let mut clients = Vec::new();
        for _ in 0..12 {
            let (mut client, theirs) = tokio::io::duplex(1024);
            assert!(dial.send(Ok((theirs, Peer::Unix))).await.is_ok());
            let handshake = "GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
                             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
            client.write_all(handshake.as_bytes()).await.unwrap();
            assert!(client.read(&mut [0; 1024]).await.unwrap() > 0);
            assert_eq!(begun.elapsed(), Duration::ZERO, "client {} had to wait", clients.len());
            clients.push(client);
        }
        let mut there = Vec::new();
        for (n, client) in clients.iter_mut().enumerate() {
            if futures_util::future::poll_immediate(pin!(client.read(&mut [0; 1]))).await.is_none() {
                there.push(n);
            }
        }
        assert_eq!(there, [0, 1, 2, 11], "those who are known stay, and of the others who came last");
    }

    /// An error whose text cannot be had.
    #[derive(Debug)]
    struct Unspeakable;

    impl std::fmt::Display for Unspeakable {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("unspeakable");
        }
    }

    impl std::error::Error for Unspeakable {}

    #[test]
    fn a_server_whose_accepting_has_failed_does_not_go_on() {
        // What is not logged has no need of its text.
        let _alone = log::alone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (listener, dial) = Listener::memory();
            let (_canceller, stop) = cancel::pair();
            let stop = Stop { draining: stop.clone(), drained: stop };
            let server = tokio::spawn(serve(listener, Settings::default(), Arc::new(Mute), stop));
            dial.send(Err(io::Error::other(Unspeakable))).await.unwrap();
            let ended = tokio::time::timeout(Duration::from_secs(60), server).await.expect("it went on, deaf");
            assert!(ended.is_err_and(|error| error.is_panic()));
        });
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
