//! The access log: one line a request with the route's template, never the raw path, query, or any content.
//!
//! Lines are written together: 8 KiB or 100 ms, errors of ours at once.

use std::io::Write;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::Method;
use tokio::sync::Notify;

use crate::base::ids::{KeyId, RequestId};
use crate::base::limits::ACCESS_LOG_BATCH_BYTES;
use crate::base::log::{self, Format, Level};
use crate::base::time::{Clock, Timestamp};

/// Lines wait at most this long.
const BATCH_TIME: Duration = Duration::from_millis(100);

/// Where lines go.
pub struct AccessLog {
    clock: Arc<dyn Clock>,
    /// Lines that wait; taken by every request for one append.
    batch: Mutex<Batch>,
    /// Wakes [`AccessLog::run`] when the first line of a batch waits.
    begun: Notify,
    out: Mutex<Box<dyn Write + Send>>,
}

#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    /// The second that `second_text` stands for: most lines share it with the one before.
    second: u64,
    second_text: String,
}

/// What is known of one request; written when dropped, so that one whose client vanished is written too.
pub struct Entry {
    log: Arc<AccessLog>,
    request_id: RequestId,
    /// When the request began, monotonic.
    pub started: Duration,
    method: &'static str,
    /// Whom it comes from: the other end, or the client that a trusted proxy names. None for the Unix socket.
    pub peer: Option<IpAddr>,
    /// The route's template; `-` where none was reached.
    pub route: &'static str,
    /// The key that was shown, once it is known to be good.
    pub key: Option<KeyId>,
    /// The status; 0 while there is no answer.
    pub status: u16,
    /// A word for an error.
    pub code: &'static str,
    /// Bytes of the body that left.
    pub bytes: u64,
    /// The answer was sent to its end.
    pub complete: bool,
}

impl Entry {
    /// Time since the request began.
    pub fn age(&self) -> Duration {
        self.log.clock.monotonic().saturating_sub(self.started)
    }
}

impl AccessLog {
    /// To standard error.
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Self::to(Box::new(std::io::stderr()), clock)
    }

    fn to(out: Box<dyn Write + Send>, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, batch: Mutex::default(), begun: Notify::new(), out: Mutex::new(out) })
    }

    /// A request has begun.
    pub fn begin(self: &Arc<Self>, request_id: RequestId, method: &Method, peer: Option<IpAddr>) -> Entry {
        Entry {
            log: self.clone(),
            request_id,
            started: self.clock.monotonic(),
            method: name(method),
            peer,
            route: "-",
            key: None,
            status: 0,
            code: "",
            bytes: 0,
            complete: false,
        }
    }

    /// Writes batches in time, for ever. Costs nothing while there are no requests.
    pub async fn run(&self) {
        loop {
            self.begun.notified().await;
            tokio::time::sleep(BATCH_TIME).await;
            self.flush();
        }
    }

    /// Writes what waits.
    pub fn flush(&self) {
        // Held while the batch is taken out, so that batches keep their order.
        let mut out = self.out.lock().unwrap_or_else(|e| e.into_inner());
        let bytes = std::mem::take(&mut self.batch.lock().unwrap_or_else(|e| e.into_inner()).bytes);
        // Nobody can be told that standard error is gone.
        let _ = out.write_all(&bytes);
    }

    fn add(&self, entry: &Entry) {
        let micros = u64::try_from(entry.age().as_micros()).unwrap_or(u64::MAX);
        let now = self.clock.now();
        let (first, full) = {
            let mut batch = self.batch.lock().unwrap_or_else(|e| e.into_inner());
            let first = batch.bytes.is_empty();
            if batch.bytes.capacity() == 0 {
                batch.bytes.reserve(ACCESS_LOG_BATCH_BYTES + 512);
            }
            batch.line(log::format(), now, entry, micros);
            (first, batch.bytes.len() >= ACCESS_LOG_BATCH_BYTES)
        };
        if full || entry.status >= 500 {
            self.flush();
        } else if first {
            self.begun.notify_one();
        }
    }
}

impl Batch {
    fn line(&mut self, format: Format, now: Timestamp, entry: &Entry, micros: u64) {
        let (second, millis) = (now.millis() / 1000, now.millis() % 1000);
        if self.second != second || self.second_text.is_empty() {
            self.second = second;
            // `2026-11-23T06:43:55`, without fraction and zone.
            self.second_text = Timestamp::from_millis(second * 1000).to_string();
            self.second_text.truncate(19);
        }
        let words = match format {
            Format::Pretty => &PRETTY,
            Format::Json => &JSON,
        };
        text(&mut self.bytes, words.time);
        text(&mut self.bytes, &self.second_text);
        let out = &mut self.bytes;
        text(out, ".");
        number(out, millis, 3);
        text(out, words.status);
        number(out, entry.status.into(), 1);
        text(out, words.method);
        text(out, entry.method);
        text(out, words.route);
        text(out, entry.route);
        text(out, words.bytes);
        number(out, entry.bytes, 1);
        text(out, words.micros);
        number(out, micros, 1);
        text(out, words.id);
        uuid(out, entry.request_id.as_bytes());
        text(out, words.peer);
        match entry.peer {
            None => text(out, "unix"),
            Some(IpAddr::V4(ip)) => {
                for (at, octet) in ip.octets().into_iter().enumerate() {
                    text(out, if at == 0 { "" } else { "." });
                    number(out, octet.into(), 1);
                }
            }
            // Writing to a vector cannot fail.
            Some(ip) => drop(write!(out, "{ip}")),
        }
        if let Some(key) = entry.key {
            text(out, words.key);
            uuid(out, key.as_bytes());
        }
        if !entry.code.is_empty() {
            text(out, words.error);
            text(out, entry.code);
        }
        text(out, if entry.complete { words.end } else { words.gone });
    }
}

/// What stands before each value of a line; they come in the same order in both forms.
struct Words {
    time: &'static str,
    status: &'static str,
    method: &'static str,
    route: &'static str,
    bytes: &'static str,
    micros: &'static str,
    id: &'static str,
    peer: &'static str,
    key: &'static str,
    error: &'static str,
    /// The end of a line whose client had gone.
    gone: &'static str,
    end: &'static str,
}

static PRETTY: Words = Words {
    time: "",
    status: "Z ",
    method: " ",
    route: " ",
    bytes: " ",
    micros: "B ",
    id: "us id=",
    peer: " peer=",
    key: " key=",
    error: " error=",
    gone: " gone\n",
    end: "\n",
};

static JSON: Words = Words {
    time: "{\"level\":\"info\",\"area\":\"http\",\"time\":\"",
    status: "Z\",\"status\":",
    method: ",\"method\":\"",
    route: "\",\"route\":\"",
    bytes: "\",\"bytes\":",
    micros: ",\"micros\":",
    id: ",\"request_id\":\"",
    peer: "\",\"peer\":\"",
    key: "\",\"key_id\":\"",
    error: "\",\"error\":\"",
    gone: "\",\"gone\":true}\n",
    end: "\"}\n",
};

impl Drop for Entry {
    fn drop(&mut self) {
        if log::enabled(Level::Info) || (self.status >= 500 && log::enabled(Level::Error)) {
            self.log.add(self);
        }
    }
}

/// A method is what a client sent: only known ones are named.
fn name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// In decimal, with so many digits at least. A line has up to eight numbers: by `write!` they took a tenth of a request's instructions.
fn number(out: &mut Vec<u8>, number: u64, digits_min: usize) {
    let (mut digits, mut rest, mut at) = ([b'0'; 20], number, 20);
    for digit in digits.iter_mut().rev() {
        *digit += (rest % 10) as u8;
        (rest, at) = (rest / 10, at - 1);
        if rest == 0 && digits_min <= 20 - at {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
}

fn uuid(out: &mut Vec<u8>, bytes: &[u8; 16]) {
    out.extend_from_slice(uuid::Uuid::from_bytes(*bytes).hyphenated().encode_lower(&mut [0; 36]).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::ManualClock;

    #[derive(Clone, Default)]
    struct Out(Arc<Mutex<Vec<u8>>>);
    impl Write for Out {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn log() -> (Arc<AccessLog>, Out, Arc<ManualClock>) {
        let (out, clock) = (Out::default(), Arc::new(ManualClock::at(Timestamp::from_millis(1_795_416_235_123))));
        (AccessLog::to(Box::new(out.clone()), clock.clone()), out, clock)
    }

    fn entry(log: &Arc<AccessLog>) -> Entry {
        log.begin(RequestId::derived(&[1; 32]), &Method::GET, Some([10, 0, 0, 9].into()))
    }

    #[test]
    fn lines_wait_for_each_other_and_errors_do_not() {
        let _alone = log::alone();
        let (log, out, _) = log();
        drop(entry(&log));
        assert!(out.0.lock().unwrap().is_empty());
        let mut failed = entry(&log);
        failed.status = 500;
        drop(failed);
        assert_eq!(out.0.lock().unwrap().iter().filter(|b| **b == b'\n').count(), 2);
        for _ in 0..1000 {
            drop(entry(&log));
        }
        assert!(out.0.lock().unwrap().len() > 50_000 && log.batch.lock().unwrap().bytes.len() < ACCESS_LOG_BATCH_BYTES);
    }

    #[test]
    fn numbers_are_written_as_everywhere() {
        for n in [0, 7, 10, 99, 100, 1000, 65_535, u64::MAX] {
            let mut out = Vec::new();
            number(&mut out, n, 1);
            number(&mut out, n, 3);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{n}{n:03}"));
        }
    }

    #[test]
    fn whoever_fails_or_goes_is_named_as_well() {
        let _alone = log::alone();
        let (log, _, clock) = log();
        for peer in [None, Some("2001:db8::1"), Some("127.0.0.1")] {
            let mut entry = entry(&log);
            (entry.status, entry.code, entry.peer) = (404, "not_found", peer.map(|ip| ip.parse().unwrap()));
            let mut batch = Batch::default();
            batch.line(Format::Pretty, clock.now(), &entry, 0);
            batch.line(Format::Json, clock.now(), &entry, 0);
            let text = String::from_utf8(batch.bytes).unwrap();
            let (pretty, json) = text.split_once('\n').unwrap();
            let peer = peer.unwrap_or("unix");
            assert!(pretty.ends_with(&format!(" peer={peer} error=not_found gone")), "{pretty}");
            let json: serde_json::Value = serde_json::from_str(json).unwrap();
            assert_eq!((&json["peer"], &json["error"], &json["gone"]), (&peer.into(), &"not_found".into(), &true.into()));
        }
    }

    #[test]
    fn both_forms_say_the_same() {
        let _alone = log::alone();
        let (log, _, clock) = log();
        let mut entry = entry(&log);
        (entry.status, entry.route, entry.bytes, entry.complete) = (200, "/api/sessions/{id}", 12, true);
        entry.key = Some(KeyId::derived(&[2; 32]));
        let mut batch = Batch::default();
        batch.line(Format::Pretty, clock.now(), &entry, 345);
        batch.line(Format::Json, clock.now(), &entry, 345);
        let text = String::from_utf8(batch.bytes).unwrap();
        let (pretty, json) = text.split_once('\n').unwrap();
        assert_eq!(
            pretty,
            "2026-11-23T06:43:55.123Z 200 GET /api/sessions/{id} 12B 345us id=01010101-0101-8101-8101-010101010101 peer=10.0.0.9 key=02020202-0202-8202-8202-020202020202"
        );
        let json: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(json["peer"], "10.0.0.9");
        assert_eq!((&json["route"], &json["micros"], &json["status"]), (&"/api/sessions/{id}".into(), &345.into(), &200.into()));
    }
}
