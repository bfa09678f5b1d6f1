//! An HTTP/1.1 client over a raw socket. Every response that passes through it is checked for everything that must hold for
//! every response: request id, date, allowed headers, the shape of errors, and that no secret is in it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::sse::{Sse, find};

/// How long a test waits for anything before it fails. A bound for failures, never a pause.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Response headers the product may send. Whoever adds one adds it here and thinks about what it gives away.
const ALLOWED: &[&str] = &[
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "access-control-max-age",
    "allow",
    "cache-control",
    "connection",
    "content-disposition",
    "content-encoding",
    "content-length",
    "content-security-policy",
    "content-type",
    "cross-origin-opener-policy",
    "cross-origin-resource-policy",
    "date",
    "etag",
    "idempotency-replayed",
    "location",
    "ratelimit",
    "ratelimit-policy",
    "referrer-policy",
    "retry-after",
    "sec-websocket-accept",
    "sec-websocket-version",
    "set-cookie",
    "transfer-encoding",
    "upgrade",
    "vary",
    "www-authenticate",
    "x-accel-buffering",
    "x-content-type-options",
    "x-frame-options",
    "x-request-id",
];

/// A socket of either kind.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Where the server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `host:port`.
    Tcp(String),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// A new connection.
    pub async fn connect(&self) -> Box<dyn Stream> {
        match self {
            Self::Tcp(addr) => {
                let stream = TcpStream::connect(addr).await.unwrap_or_else(|e| panic!("connect to {addr}: {e}"));
                stream.set_nodelay(true).unwrap();
                Box::new(stream)
            }
            Self::Unix(path) => Box::new(UnixStream::connect(path).await.unwrap_or_else(|e| panic!("connect to {path:?}: {e}"))),
        }
    }
    /// What goes into `Host`.
    pub fn host(&self) -> String {
        match self {
            Self::Tcp(addr) => addr.clone(),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }
}

/// A request in the making.
#[derive(Debug, Clone)]
pub struct Ask {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
    authorized: bool,
}

impl Ask {
    /// Method and request target.
    pub fn new(method: &str, target: impl Into<String>) -> Self {
        Self { method: method.to_owned(), target: target.into(), headers: Vec::new(), body: None, authorized: true }
    }
    /// One more header.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
    /// A JSON body with its media type.
    pub fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json").body(body.to_string().into_bytes())
    }
    /// A body without a media type.
    pub fn body(mut self, body: Vec<u8>) -> Self {
        self.body = Some(body);
        self
    }
    /// Without the client's key.
    pub fn stranger(mut self) -> Self {
        self.authorized = false;
        self
    }
}

/// Talks to one server; one connection a request.
#[derive(Clone)]
pub struct Client {
    /// Where the server is.
    pub address: Address,
    key: Option<String>,
    /// Texts that must never be in a response.
    secrets: Arc<Mutex<Vec<String>>>,
}

/// A response with its whole body.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Header names in lower case, in order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("body of {} is no JSON ({e}): {}", self.status, self.text()))
    }
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
    /// Fails unless the status is this one; for chains.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "status; headers {:?}, body {}", self.headers, self.text());
        self
    }
    /// An error in OpenAI's shape, as `/v1` answers.
    pub fn is_openai(&self) -> bool {
        let error = serde_json::from_slice::<Value>(&self.body).map(|body| body["error"].clone()).unwrap_or_default();
        ["message", "type", "param", "code"].iter().all(|key| error.get(key).is_some())
    }
    /// The text of `{"error":…}`.
    #[track_caller]
    pub fn error(&self) -> String {
        let error = self.json()["error"].clone();
        let text = if self.is_openai() { &error["message"] } else { &error };
        text.as_str().unwrap_or_else(|| panic!("no error text in {}", self.text())).to_owned()
    }
}

impl Client {
    /// A client that presents `key` (if any).
    pub fn new(address: Address, key: Option<String>) -> Self {
        let secrets = key.iter().cloned().collect();
        Self { address, key, secrets: Arc::new(Mutex::new(secrets)) }
    }
    /// The same server and the same secrets to look for, another key or none.
    pub fn with_key(&self, key: Option<&str>) -> Self {
        if let Some(key) = key {
            self.forbid(key);
        }
        Self { address: self.address.clone(), key: key.map(str::to_owned), secrets: self.secrets.clone() }
    }
    /// The key it presents.
    pub fn key(&self) -> &str {
        self.key.as_deref().expect("this client has a key")
    }
    /// The key it presents, where it does.
    pub fn key_if_any(&self) -> Option<&str> {
        self.key.as_deref()
    }
    /// From now on this text must not be in any response.
    pub fn forbid(&self, secret: &str) {
        self.secrets.lock().unwrap().push(secret.to_owned());
    }

    /// GET.
    pub async fn get(&self, target: &str) -> Answer {
        self.send(Ask::new("GET", target)).await
    }
    /// POST of JSON.
    pub async fn post(&self, target: &str, body: &Value) -> Answer {
        self.send(Ask::new("POST", target).json(body)).await
    }
    /// POST without a body.
    pub async fn post_empty(&self, target: &str) -> Answer {
        self.send(Ask::new("POST", target).body(Vec::new())).await
    }
    /// DELETE.
    pub async fn delete(&self, target: &str) -> Answer {
        self.send(Ask::new("DELETE", target)).await
    }
    /// An event stream.
    pub async fn sse(&self, target: &str) -> Sse {
        Sse::new(self.open(Ask::new("GET", target).header("accept", "text/event-stream")).await)
    }
    /// An event stream that goes on behind an id.
    pub async fn sse_after(&self, target: &str, last_event_id: &str) -> Sse {
        Sse::new(self.open(Ask::new("GET", target).header("last-event-id", last_event_id)).await)
    }

    /// Sends a request, reads and checks the whole answer.
    pub async fn send(&self, ask: Ask) -> Answer {
        let head = ask.method == "HEAD";
        let mut streaming = self.open(ask).await;
        let mut body = Vec::new();
        if !head {
            while let Some(bytes) = streaming.chunk().await {
                body.extend_from_slice(&bytes);
            }
        }
        let answer = Answer { status: streaming.status, headers: streaming.headers, body };
        self.check(&answer, head);
        answer
    }

    /// Sends a request and reads the head of the answer; the head is checked, the body may go on for ever.
    pub async fn open(&self, ask: Ask) -> Streaming {
        let stream = self.address.connect().await;
        let head = self.head(&ask);
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(ask.body.as_deref().unwrap_or_default());
        let (mut reader, mut writer) = tokio::io::split(stream);
        // An early refusal may close the socket while a large body is still on its way: reading and writing go side by side.
        let writing = tokio::spawn(async move {
            let _ = writer.write_all(&bytes).await;
            let _ = writer.flush().await;
            writer
        });
        let what = format!("{} {}", ask.method, ask.target);
        let (status, headers, left) = read_head(&mut reader, &what).await;
        self.check_head(&what, status, &headers);
        let framing = Framing::of(status, &headers, ask.method == "HEAD");
        Streaming { status, headers, reader: Box::new(reader), left, framing, writing: Some(writing), secrets: self.secrets.clone(), what }
    }

    fn head(&self, ask: &Ask) -> String {
        let mut head = format!("{} {} HTTP/1.1\r\n", ask.method, ask.target);
        let has = |name: &str| ask.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        if !has("host") {
            head += &format!("host: {}\r\n", self.address.host());
        }
        if let (true, Some(key), false) = (ask.authorized, &self.key, has("authorization")) {
            head += &format!("authorization: Bearer {key}\r\n");
        }
        if let (Some(body), false) = (&ask.body, has("content-length") || has("transfer-encoding")) {
            head += &format!("content-length: {}\r\n", body.len());
        }
        for (name, value) in &ask.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head + "\r\n"
    }

    /// What must hold for the head of every response.
    pub fn check_head(&self, what: &str, status: u16, headers: &[(String, String)]) {
        let all = |name: &str| headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect::<Vec<_>>();
        for (name, value) in headers {
            assert!(ALLOWED.contains(&name.as_str()), "{what}: {status} has the header {name}: {value}, which is not on the list");
            self.no_secret(what, value);
        }
        let ids = all("x-request-id");
        assert_eq!(ids.len(), 1, "{what}: {status} must have one x-request-id: {headers:?}");
        assert!(uuid::Uuid::try_parse(ids[0]).is_ok(), "{what}: x-request-id {:?} is no UUID", ids[0]);
        let dates = all("date");
        assert_eq!(dates.len(), 1, "{what}: {status} must have one date: {headers:?}");
        assert!(httpdate::parse_http_date(dates[0]).is_ok(), "{what}: date {:?}", dates[0]);
        assert!(all("content-length").len() <= 1 && all("content-type").len() <= 1, "{what}: doubled header in {headers:?}");
        if status == 401 {
            let challenge = all("www-authenticate");
            assert!(challenge.len() == 1 && challenge[0].starts_with("Bearer"), "{what}: 401 needs one Bearer challenge: {headers:?}");
        }
        if status == 405 {
            assert_eq!(all("allow").len(), 1, "{what}: 405 needs Allow: {headers:?}");
        }
    }

    /// What must hold for the body of every response.
    fn check(&self, answer: &Answer, head: bool) {
        let what = format!("status {}", answer.status);
        self.no_secret(&what, &answer.text());
        let media = answer.header("content-type").unwrap_or_default();
        if head {
            return;
        }
        if media.starts_with("application/json") && !answer.body.is_empty() {
            answer.json();
        }
        if answer.status == 401 && !answer.is_openai() {
            assert!(answer.body.is_empty(), "401 has an empty body, not {}", answer.text());
        }
        // `/health/ready` answers 503 with the same body as 200.
        let readiness = answer.status == 503 && answer.body.starts_with(b"{\"status\"");
        if answer.status >= 400 && !answer.body.is_empty() && !readiness {
            assert!(media.starts_with("application/json"), "{what}: an error is JSON, not {media:?}: {}", answer.text());
            let json = answer.json();
            let object = json.as_object().unwrap_or_else(|| panic!("{what}: {json} is no object"));
            assert!(object.len() == 1 && object.contains_key("error"), "{what}: an error body has the one key `error`: {json}");
            let text = if answer.is_openai() { &json["error"]["message"] } else { &json["error"] };
            let text = text.as_str().unwrap_or_else(|| panic!("{what}: error is a text: {json}"));
            assert!(!text.trim().is_empty(), "{what}: an error says something");
            for internal in ["panicked", "src/", ".rs:", "Os {", "os error", "Error {", "RUST_BACKTRACE"] {
                assert!(!text.contains(internal), "{what}: internal text in {text:?}");
            }
        }
    }

    fn no_secret(&self, what: &str, text: &str) {
        for secret in self.secrets.lock().unwrap().iter() {
            assert!(!text.contains(secret.as_str()), "{what}: a secret is in the response: {text}");
        }
    }
}

#[derive(Debug)]
enum Framing {
    /// Bytes still to come.
    Length(u64),
    Chunked,
    /// Upgraded or closed by the end of the connection.
    ToEnd,
    Over,
}

impl Framing {
    fn of(status: u16, headers: &[(String, String)], head: bool) -> Self {
        let value = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        if head || status == 204 || status == 304 {
            return Self::Over;
        }
        if status == 101 {
            return Self::ToEnd;
        }
        if let Some(coding) = value("transfer-encoding") {
            assert_eq!(coding, "chunked");
            assert!(value("content-length").is_none(), "both framings at once");
            return Self::Chunked;
        }
        match value("content-length") {
            Some(n) => Self::Length(n.parse().expect("content-length is a number")),
            None => Self::ToEnd,
        }
    }
}

/// A response whose body is read piece by piece.
pub struct Streaming {
    /// Status code.
    pub status: u16,
    /// Header names in lower case, in order.
    pub headers: Vec<(String, String)>,
    reader: Box<dyn AsyncRead + Send + Unpin>,
    /// Read, not yet consumed.
    left: Vec<u8>,
    framing: Framing,
    /// Gives back the writing half (it keeps the connection open in the direction to the server).
    writing: Option<tokio::task::JoinHandle<tokio::io::WriteHalf<Box<dyn Stream>>>>,
    secrets: Arc<Mutex<Vec<String>>>,
    what: String,
}

impl Streaming {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The next bytes of the body without their framing; `None` at its proper end. A torn body fails the test.
    pub async fn chunk(&mut self) -> Option<Vec<u8>> {
        let chunk = self.try_chunk().await.unwrap_or_else(|e| panic!("{}: the body was cut: {e}", self.what));
        if let Some(bytes) = &chunk {
            let text = String::from_utf8_lossy(bytes);
            for secret in self.secrets.lock().unwrap().iter() {
                assert!(!text.contains(secret.as_str()), "{}: a secret is in the stream: {text}", self.what);
            }
        }
        chunk
    }

    /// As [`Self::chunk`], but a torn body is an error the test may expect (the server was killed).
    pub async fn try_chunk(&mut self) -> Result<Option<Vec<u8>>, String> {
        loop {
            match &mut self.framing {
                Framing::Over => return Ok(None),
                Framing::Length(0) => {
                    self.framing = Framing::Over;
                    return Ok(None);
                }
                Framing::Length(n) if !self.left.is_empty() => {
                    let take = self.left.len().min(usize::try_from(*n).unwrap());
                    *n -= take as u64;
                    return Ok(Some(self.left.drain(..take).collect()));
                }
                Framing::ToEnd if !self.left.is_empty() => return Ok(Some(std::mem::take(&mut self.left))),
                Framing::Chunked => {
                    if let Some(end) = find(&self.left, b"\r\n") {
                        let line = String::from_utf8_lossy(&self.left[..end]).into_owned();
                        let size = usize::from_str_radix(line.split(';').next().unwrap_or("").trim(), 16)
                            .map_err(|_| format!("bad chunk size {line:?}"))?;
                        if self.left.len() >= end + 2 + size + 2 {
                            assert_eq!(&self.left[end + 2 + size..end + 4 + size], b"\r\n", "a chunk ends with CRLF");
                            let data = self.left[end + 2..end + 2 + size].to_vec();
                            self.left.drain(..end + 4 + size);
                            if size == 0 {
                                self.framing = Framing::Over;
                                return Ok(None);
                            }
                            return Ok(Some(data));
                        }
                    }
                }
                _ => {}
            }
            let mut buffer = [0; 16 * 1024];
            let read = tokio::time::timeout(PATIENCE, self.reader.read(&mut buffer))
                .await
                .map_err(|_| format!("nothing came for {PATIENCE:?}"))?
                .map_err(|e| e.to_string())?;
            if read == 0 {
                return match self.framing {
                    Framing::ToEnd => Ok(None),
                    _ => Err("end of connection within the body".to_owned()),
                };
            }
            self.left.extend_from_slice(&buffer[..read]);
        }
    }

    /// The raw socket after an upgrade, with what was read beyond the head.
    pub async fn into_socket(mut self) -> (Box<dyn AsyncRead + Send + Unpin>, tokio::io::WriteHalf<Box<dyn Stream>>, Vec<u8>) {
        let writer = self.writing.take().unwrap().await.unwrap();
        (self.reader, writer, self.left)
    }
}

/// Reads up to the blank line: status, headers in lower case, bytes behind it.
pub async fn read_head(reader: &mut (impl AsyncRead + Unpin), what: &str) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = find(&bytes, b"\r\n\r\n") {
            let left = bytes.split_off(end + 4);
            let text = String::from_utf8(bytes).expect("a response head is ASCII");
            let (status, headers) = parse_head(&text);
            // RFC 9110 §15.2: an interim response is followed by the final one.
            if status == 100 {
                bytes = left;
                continue;
            }
            return (status, headers, left);
        }
        let mut buffer = [0; 4096];
        let read =
            tokio::time::timeout(PATIENCE, reader.read(&mut buffer)).await.unwrap_or_else(|_| panic!("{what}: no answer in {PATIENCE:?}"));
        let read = read.unwrap_or_else(|e| panic!("{what}: reading the head: {e}"));
        assert!(read > 0, "{what}: the connection ended before the head of the response; got {:?}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&buffer[..read]);
    }
}

/// Status line and fields of a response head.
pub fn parse_head(text: &str) -> (u16, Vec<(String, String)>) {
    let mut lines = text.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let mut words = status_line.splitn(3, ' ');
    assert_eq!(words.next(), Some("HTTP/1.1"), "status line {status_line:?}");
    let status = words.next().and_then(|w| w.parse().ok()).unwrap_or_else(|| panic!("status line {status_line:?}"));
    let headers = lines
        .filter(|line| !line.is_empty())
        .map(|line| {
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("header line {line:?}"));
            (name.to_ascii_lowercase(), value.trim().to_owned())
        })
        .collect();
    (status, headers)
}
