//! The one outgoing HTTP/1.1 client: over TCP, a Unix socket, or TLS. One connection a call; dropping the answer closes it.
//!
//! No task is spawned but for looking up a name: whoever waits for the answer also drives the connection, so there is nothing left to
//! stop when the answer is dropped. No redirects, no proxies, no compression, no cookies.

use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::Arc;
#[cfg(feature = "tls")]
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout, timeout_at};

use crate::http::lookup::Lookups;
use crate::wire::url::{Scheme, Url};

/// What all calls of a client have in common.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// The `User-Agent` field.
    pub user_agent: String,
    /// Most bytes of an answer's status line and headers (at least 8 KiB), also the size of the read buffer.
    pub head_bytes_max: usize,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self { user_agent: concat!("oxios-edge/", env!("CARGO_PKG_VERSION")).to_owned(), head_bytes_max: 64 * 1024 }
    }
}

/// The client; cheap to clone.
#[derive(Clone)]
pub struct Client {
    settings: Arc<ClientSettings>,
    lookups: Arc<Lookups>,
    /// Keys and roots for TLS, made at the first `https` call: an offline box never pays for them. Shared by all clones.
    #[cfg(feature = "tls")]
    tls: Arc<OnceLock<Arc<rustls::ClientConfig>>>,
}

/// Where a request goes.
#[derive(Debug, Clone)]
pub enum Target {
    /// To the host of a URL (its path is not used).
    Url(Url),
    /// To a socket on this machine.
    Unix {
        /// The socket's file.
        path: PathBuf,
        /// What stands in `Host`.
        host: String,
    },
}

/// One request.
#[derive(Debug)]
pub struct Outgoing {
    /// Where to.
    pub target: Target,
    /// Its method.
    pub method: Method,
    /// Path and query, percent-encoded.
    pub path_and_query: String,
    /// Fields besides `Host`, `User-Agent`, `Connection` and the framing. Mark secrets as sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body; empty for none.
    pub body: Bytes,
    /// Time to resolve, connect and agree on keys.
    pub connect: Duration,
    /// Time from the request's start to the answer's head.
    pub first_byte: Duration,
    /// Time between two pieces of the answer.
    pub between: Duration,
}

/// Where a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The request cannot be sent at all (a bad path, TLS not compiled in).
    Request,
    /// The name has no address.
    Resolve,
    /// No connection, or not in time.
    Connect,
    /// No common keys, or a certificate that is not good.
    Tls,
    /// Connected, but no answer in time.
    FirstByteTimeout,
    /// The answer stopped coming.
    StallTimeout,
    /// The connection broke, or what came is no HTTP.
    Broken,
    /// The head or the body is larger than allowed.
    TooLarge,
    /// The server points elsewhere; redirects are not followed.
    Redirected,
}

/// A failed call. `Display` is the public text: it names the host and what to do, never a path, header or body.
#[derive(Debug, Clone)]
pub struct ClientError {
    /// Where it failed.
    pub stage: Stage,
    /// A sentence for the user.
    pub public: String,
    /// The cause, for the log; no content either.
    pub private: String,
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.public)
    }
}

impl std::error::Error for ClientError {}

/// An answer whose head has come. Dropping it closes the connection.
pub struct Incoming {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: HeaderMap,
    body: hyper::body::Incoming,
    /// The connection, driven by [`Incoming::chunk`]; gone once it has ended by itself.
    connection: Option<Connection>,
    /// When the next piece must be here. A point in time, not a span, so that a dropped and repeated `chunk` does not extend it.
    due: Instant,
    between: Duration,
    peer: String,
}

type Connection = Pin<Box<http1::Connection<TokioIo<Box<dyn Stream>>, Full<Bytes>>>>;

/// What bytes travel over.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Client {
    /// A client; opens nothing.
    pub fn new(settings: ClientSettings) -> Self {
        Self {
            settings: Arc::new(settings),
            lookups: Arc::default(),
            #[cfg(feature = "tls")]
            tls: Arc::default(),
        }
    }

    /// Sends a request and waits for the answer's head. Status codes are not errors, but redirects are.
    pub async fn send(&self, outgoing: Outgoing) -> Result<Incoming, ClientError> {
        let Outgoing { target, method, path_and_query, headers, body, connect, first_byte, between } = outgoing;
        let (peer, host) = match &target {
            Target::Url(url) => (url.origin(), url.authority()),
            Target::Unix { path, host } => (format!("unix:{}", path.display()), host.clone()),
        };
        let request =
            self.request(method, &path_and_query, &host, headers, body).map_err(|what| error(Stage::Request, &peer, what, what))?;
        let stream = match timeout(connect, self.open(&target, &peer, connect)).await {
            Ok(stream) => stream?,
            Err(_) => return Err(error(Stage::Connect, &peer, &format!("no connection within {} s", connect.as_secs_f32()), "timed out")),
        };
        // hyper refuses (by panic) a buffer below 8 KiB.
        let size = self.settings.head_bytes_max.max(8192);
        let handshake = http1::Builder::new().max_buf_size(size).handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|e| broken(&peer, &e))?;
        let mut connection = Some(Box::pin(connection));
        let answer = timeout(first_byte, drive(&mut connection, sender.send_request(request))).await;
        let answer = match answer {
            Ok(answer) => answer.map_err(|e| broken(&peer, &e))?,
            Err(_) => {
                let text = format!("no answer within {} s", first_byte.as_secs_f32());
                return Err(error(Stage::FirstByteTimeout, &peer, &text, "timed out"));
            }
        };
        let (head, body) = answer.into_parts();
        if head.status.is_redirection() && head.status != StatusCode::NOT_MODIFIED {
            // SECURITY: following would send the key and the prompt to a server that nobody configured. Where it leads is the other
            // server's word, and none of the log's.
            let text = format!("it redirects (HTTP {}), which is not followed: configure the final address", head.status.as_u16());
            return Err(error(Stage::Redirected, &peer, &text, "redirect"));
        }
        Ok(Incoming { status: head.status, headers: head.headers, body, connection, due: Instant::now() + between, between, peer })
    }

    fn request(
        &self,
        method: Method,
        path_and_query: &str,
        host: &str,
        headers: Vec<(HeaderName, HeaderValue)>,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, &'static str> {
        if !path_and_query.starts_with('/') {
            return Err("the path of a request begins with /");
        }
        let uri: Uri = path_and_query.parse().map_err(|_| "the path of the request is malformed")?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        let fields = request.headers_mut();
        fields.extend(headers);
        fields.insert(header::HOST, HeaderValue::from_str(host).map_err(|_| "the host is malformed")?);
        fields.insert(header::USER_AGENT, HeaderValue::from_str(&self.settings.user_agent).map_err(|_| "the user agent is malformed")?);
        // RFC 9112 §9.6: one request a connection; the server need not keep it open behind the answer.
        fields.insert(header::CONNECTION, HeaderValue::from_static("close"));
        Ok(request)
    }

    async fn open(&self, target: &Target, peer: &str, within: Duration) -> Result<Box<dyn Stream>, ClientError> {
        let url = match target {
            Target::Unix { path, .. } => {
                let stream = UnixStream::connect(path).await;
                return Ok(Box::new(stream.map_err(|e| error(Stage::Connect, peer, &reason(&e), &e.to_string()))?));
            }
            Target::Url(url) => url,
        };
        if url.scheme() == Scheme::Https && cfg!(not(feature = "tls")) {
            return Err(error(
                Stage::Request,
                peer,
                "this build speaks no TLS (feature `tls` is off); use http:// or another build",
                "no tls",
            ));
        }
        let stream = connect_tcp(&self.lookups, url, peer, within).await?;
        match url.scheme() {
            Scheme::Http => Ok(Box::new(stream)),
            #[cfg(feature = "tls")]
            Scheme::Https => self.secure(url, peer, stream).await,
            #[cfg(not(feature = "tls"))]
            Scheme::Https => Err(error(Stage::Request, peer, "this build speaks no TLS", "no tls")),
        }
    }

    #[cfg(feature = "tls")]
    async fn secure(&self, url: &Url, peer: &str, stream: TcpStream) -> Result<Box<dyn Stream>, ClientError> {
        use rustls::pki_types::ServerName;
        let failed = |cause: &str| error(Stage::Tls, peer, &format!("no secure connection ({cause})"), cause);
        let name = ServerName::try_from(url.host().to_owned()).map_err(|_| failed("the host is no name a certificate can have"))?;
        let config = match self.tls.get() {
            Some(config) => config.clone(),
            None => {
                let made = tls_config().map_err(|e| failed(&e.to_string()))?;
                self.tls.get_or_init(|| made).clone()
            }
        };
        let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await;
        Ok(Box::new(stream.map_err(|e| failed(&e.to_string()))?))
    }
}

impl Incoming {
    /// The next piece of the body, `None` at its end. May be dropped and called again without losing anything.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            let frame = timeout_at(self.due, drive(&mut self.connection, self.body.frame())).await;
            let Ok(frame) = frame else {
                let text = format!("nothing more came for {} s", self.between.as_secs_f32());
                return Err(error(Stage::StallTimeout, &self.peer, &text, "timed out"));
            };
            match frame {
                None => return Ok(None),
                Some(Err(e)) => return Err(broken(&self.peer, &e)),
                Some(Ok(frame)) => {
                    self.due = Instant::now() + self.between;
                    // Trailers say nothing to us.
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// The whole body, at most `max` bytes; more is `TooLarge`.
    pub async fn collect(mut self, max: usize) -> Result<Vec<u8>, ClientError> {
        let mut all = Vec::new();
        while let Some(piece) = self.chunk().await? {
            if all.len() + piece.len() > max {
                return Err(error(Stage::TooLarge, &self.peer, &format!("the answer is larger than {max} bytes"), "body cap"));
            }
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }
}

/// Polls the connection beside a future that waits for something from it. When the connection ends, the future learns it
/// through hyper's own channel, with the cause.
async fn drive<T>(connection: &mut Option<Connection>, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    poll_fn(|cx| {
        if connection.as_mut().is_some_and(|running| running.as_mut().poll(cx).is_ready()) {
            *connection = None;
        }
        future.as_mut().poll(cx)
    })
    .await
}

/// Tries the host's addresses in turn, each with its share of the time, so that a dead IPv6 route does not eat it all.
async fn connect_tcp(lookups: &Arc<Lookups>, url: &Url, peer: &str, within: Duration) -> Result<TcpStream, ClientError> {
    let end = Instant::now() + within;
    let found = lookups.find(url.host()).await;
    let found = found.map_err(|e| error(Stage::Resolve, peer, "the host name has no address", &e))?;
    let addresses: Vec<_> = found.iter().take(8).map(|address| SocketAddr::new(*address, url.port())).collect();
    let mut last = error(Stage::Resolve, peer, "the host name has no address", "empty answer");
    for (tried, address) in addresses.iter().enumerate() {
        let left = u32::try_from(addresses.len() - tried).unwrap_or(1);
        let share = end.saturating_duration_since(Instant::now()) / left;
        last = match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Best effort: small requests should not wait for Nagle's algorithm.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(e)) => error(Stage::Connect, peer, &reason(&e), &e.to_string()),
            Err(_) => error(Stage::Connect, peer, "it does not answer", "connect timed out"),
        };
    }
    Err(last)
}

#[cfg(feature = "tls")]
fn tls_config() -> Result<Arc<rustls::ClientConfig>, rustls::Error> {
    let mut roots = rustls::RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    // The provider is named, not taken from the process: no other crate can change it.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn reason(e: &std::io::Error) -> String {
    match e.kind() {
        std::io::ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
        std::io::ErrorKind::NotFound => "there is no such socket".to_owned(),
        // By the rights of a socket file, by a firewall, or because the process has shut itself in (`sys::landlock`).
        std::io::ErrorKind::PermissionDenied => "this process may not connect there; where a sandbox keeps it to the ports that it \
            was started with (see /api/status), set the address and restart"
            .to_owned(),
        _ => format!("no connection ({e})"),
    }
}

fn error(stage: Stage, peer: &str, public: &str, private: &str) -> ClientError {
    ClientError { stage, public: format!("{peer}: {public}"), private: format!("{peer}: {stage:?}: {private}") }
}

fn broken(peer: &str, e: &hyper::Error) -> ClientError {
    let (stage, public) = if e.is_parse_too_large() {
        (Stage::TooLarge, "the head of its answer is too large")
    } else if e.is_parse() {
        (Stage::Broken, "what answers there does not speak HTTP/1.1")
    } else {
        (Stage::Broken, "the connection broke")
    };
    // hyper's texts name the step that failed, never bytes of the message.
    let cause = std::error::Error::source(e).map(|c| format!(": {c}")).unwrap_or_default();
    error(stage, peer, public, &format!("{e}{cause}"))
}

#[cfg(test)]
mod tests;
