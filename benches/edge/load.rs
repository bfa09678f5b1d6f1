//! A small load generator: keep-alive connections that send one request after the other, on threads of their own.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// What a load measured.
pub(crate) struct Load {
    /// Requests answered.
    pub(crate) requests: u64,
    /// Wall time.
    pub(crate) wall: Duration,
    /// Of each request, in microseconds.
    pub(crate) micros: Vec<f64>,
}

/// The bytes of one request.
pub(crate) fn request(method: &str, path: &str, token: Option<&str>, body: &str) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
    if let Some(token) = token {
        text += &format!("Authorization: Bearer {token}\r\n");
    }
    if !body.is_empty() {
        text += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    }
    (text + "\r\n" + body).into_bytes()
}

/// Sends `count` requests over each of `connections`, one at a time; every answer must be a good one.
pub(crate) fn run(address: &str, request: &[u8], connections: usize, count: u64) -> Load {
    run_with(connections, count, || {
        let mut connection = Connection::open(address);
        move || drop(connection.exchange(request))
    })
}

/// The same with whatever else is asked and answered: `open` makes one client, which is called `count` times.
pub(crate) fn run_with<C: FnMut()>(clients: usize, count: u64, open: impl Fn() -> C + Sync) -> Load {
    let begin = Instant::now();
    let one = || {
        let mut client = open();
        let time = |_| {
            let begin = Instant::now();
            client();
            begin.elapsed().as_secs_f64() * 1e6
        };
        (0..count).map(time).collect::<Vec<_>>()
    };
    let micros = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(one)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    Load { requests: count * clients as u64, wall: begin.elapsed(), micros }
}

/// One keep-alive connection.
pub(crate) struct Connection {
    socket: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects to `ADDR:PORT`.
    pub(crate) fn open(address: &str) -> Self {
        Self::try_open(address).unwrap()
    }

    /// As [`Self::open`]; an error where nobody answers.
    pub(crate) fn try_open(address: &str) -> io::Result<Self> {
        let socket = TcpStream::connect_timeout(&address.parse().unwrap(), Duration::from_secs(10))?;
        socket.set_nodelay(true)?;
        // What is asked here may make the server read a long conversation, in a build that is not optimised.
        socket.set_read_timeout(Some(Duration::from_secs(300)))?;
        Ok(Self { socket, buffer: Vec::new() })
    }

    /// The socket alone, once everything is read.
    pub(crate) fn into_socket(self) -> TcpStream {
        self.socket
    }

    /// Sends one request and reads the head of its answer, no more: what follows is for whoever takes the socket.
    pub(crate) fn head(&mut self, request: &[u8]) -> String {
        self.socket.write_all(request).unwrap();
        self.buffer.clear();
        let mut byte = [0];
        while !self.buffer.ends_with(b"\r\n\r\n") {
            self.socket.read_exact(&mut byte).unwrap();
            self.buffer.extend_from_slice(&byte);
        }
        String::from_utf8_lossy(&self.buffer).into_owned()
    }

    /// The same for what has no end (streams, upgrades), with the status that it must have.
    pub(crate) fn begin(mut self, request: &[u8], status: &str) -> TcpStream {
        let head = self.head(request);
        assert!(head.split(' ').nth(1) == Some(status), "{head}");
        self.socket
    }

    /// Sends one request and reads one answer with a Content-Length, which must be 2xx or 304; returns the body.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> Vec<u8> {
        self.try_exchange(request).unwrap()
    }

    /// As [`Self::exchange`]; an error where the connection ends.
    pub(crate) fn try_exchange(&mut self, request: &[u8]) -> io::Result<Vec<u8>> {
        self.socket.write_all(request)?;
        self.buffer.clear();
        let mut chunk = [0; 16 * 1024];
        loop {
            let n = self.socket.read(&mut chunk)?;
            if n == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "connection closed within an answer"));
            }
            self.buffer.extend_from_slice(&chunk[..n]);
            let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4) else { continue };
            let head = String::from_utf8_lossy(&self.buffer[..end]).to_ascii_lowercase();
            let fresh = head.starts_with("http/1.1 304");
            assert!(fresh || head.starts_with("http/1.1 2"), "{}", String::from_utf8_lossy(&self.buffer));
            // What has not changed has no body, whatever is said of its length.
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).filter(|_| !fresh);
            let length: usize = length.map_or(0, |text| text.trim().parse().unwrap());
            if self.buffer.len() >= end + length {
                return Ok(self.buffer[end..end + length].to_vec());
            }
        }
    }
}
