//! The one outgoing HTTP/1.1 client: over TCP, a Unix socket, or TLS. One connection a call; dropping the answer closes it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};

use crate::wire::url::Url;

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
    settings: ClientSettings,
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
}

impl Client {
    /// A client; opens nothing.
    pub fn new(settings: ClientSettings) -> Self {
        Self { settings }
    }
    /// Sends a request and waits for the answer's head. Status codes are not errors, but redirects are.
    pub async fn send(&self, _outgoing: Outgoing) -> Result<Incoming, ClientError> {
        let _ = &self.settings;
        todo!()
    }
}

impl Incoming {
    /// The next piece of the body, `None` at its end. May be dropped and called again without losing anything.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        todo!()
    }
    /// The whole body, at most `max` bytes; more is `TooLarge`.
    pub async fn collect(self, _max: usize) -> Result<Vec<u8>, ClientError> {
        todo!()
    }
}
