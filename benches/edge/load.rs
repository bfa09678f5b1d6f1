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

/// Sends `count` requests over each of `connections`, one at a time; every answer must be a 200.
pub(crate) fn run(address: &str, request: &[u8], connections: usize, count: u64) -> Load {
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| {
                let mut connection = Connection::open(address);
                for _ in 0..count {
                    connection.exchange(request);
                }
            });
        }
    });
    Load { requests: count * connections as u64, wall: begin.elapsed() }
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
        socket.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self { socket, buffer: Vec::new() })
    }

    /// Sends one request and reads one answer with a Content-Length, which must be a 200; returns the body.
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
            assert!(head.starts_with("http/1.1 200"), "{}", String::from_utf8_lossy(&self.buffer));
            let length: usize = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().trim().parse().unwrap();
            if self.buffer.len() >= end + length {
                return Ok(self.buffer[end..end + length].to_vec());
            }
        }
    }
}
