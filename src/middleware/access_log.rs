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
    started: Duration,
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
        let micros = self.clock.monotonic().saturating_sub(entry.started).as_micros();
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
    fn line(&mut self, format: Format, now: Timestamp, entry: &Entry, micros: u128) {
        let (second, millis) = (now.millis() / 1000, now.millis() % 1000);
        if self.second != second || self.second_text.is_empty() {
            self.second = second;
            // `2026-11-23T06:43:55`, without fraction and zone.
            self.second_text = Timestamp::from_millis(second * 1000).to_string();
            self.second_text.truncate(19);
        }
        let (id, key) = (uuid(entry.request_id.as_bytes()), entry.key.map(|key| uuid(key.as_bytes())));
        let (id, key) = (text(&id), key.as_ref().map(text));
        let Entry { method, route, status, bytes, code, complete, .. } = entry;
        let (time, out) = (&self.second_text, &mut self.bytes);
        // Writing to a vector cannot fail.
        let _ = match format {
            Format::Pretty => write!(out, "{time}.{millis:03}Z {status} {method} {route} {bytes}B {micros}us id={id}"),
            Format::Json => write!(
                out,
                "{{\"level\":\"info\",\"area\":\"http\",\"time\":\"{time}.{millis:03}Z\",\"status\":{status},\"method\":\"{method}\",\"route\":\"{route}\",\"bytes\":{bytes},\"micros\":{micros},\"request_id\":\"{id}\""
            ),
        };
        let json = format == Format::Json;
        let _ = match (json, entry.peer) {
            (false, Some(peer)) => write!(out, " peer={peer}"),
            (false, None) => write!(out, " peer=unix"),
            (true, Some(peer)) => write!(out, ",\"peer\":\"{peer}\""),
            (true, None) => write!(out, ",\"peer\":\"unix\""),
        };
        if let Some(key) = key {
            let _ = if json { write!(out, ",\"key_id\":\"{key}\"") } else { write!(out, " key={key}") };
        }
        if !code.is_empty() {
            let _ = if json { write!(out, ",\"error\":\"{code}\"") } else { write!(out, " error={code}") };
        }
        if !complete {
            let _ = if json { write!(out, ",\"gone\":true") } else { write!(out, " gone") };
        }
        out.extend_from_slice(if json { b"}\n" } else { b"\n" });
    }
}

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

fn uuid(bytes: &[u8; 16]) -> [u8; 36] {
    let mut text = [0; 36];
    uuid::Uuid::from_bytes(*bytes).hyphenated().encode_lower(&mut text);
    text
}

fn text(bytes: &[u8; 36]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
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
