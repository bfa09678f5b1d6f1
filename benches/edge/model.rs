//! A model server (OpenAI's chat completions, streamed) whose pieces say when they left. It waits until all that were expected have asked,
//! and ends when all have all pieces, so that neither beginning nor end of one disturbs the pieces of another.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Barrier, Semaphore};
use tokio::time::sleep;

/// What it sends.
#[derive(Clone, Copy)]
pub(crate) struct Speech {
    /// Answers at a time.
    pub(crate) streams: usize,
    /// Pieces of each.
    pub(crate) pieces: usize,
    /// Between two of them.
    pub(crate) every: Duration,
}

/// The server.
pub(crate) struct Model {
    /// `ADDR:PORT`.
    pub(crate) address: String,
    /// Its base URL.
    pub(crate) base: String,
    /// One permit lets one answer begin.
    go: Semaphore,
    /// Told by each that waits for it.
    asked: Semaphore,
    ended: Barrier,
    count: AtomicUsize,
    speech: Speech,
    /// Times are counted from here.
    epoch: Instant,
}

impl Model {
    /// Serves on the runtime that this is called in.
    pub(crate) async fn start(speech: Speech) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let model = Arc::new(Self {
            base: format!("http://{address}/v1"),
            address,
            go: Semaphore::new(0),
            asked: Semaphore::new(0),
            ended: Barrier::new(speech.streams),
            count: AtomicUsize::default(),
            speech,
            epoch: Instant::now(),
        });
        let serving = model.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let model = serving.clone();
                tokio::spawn(async move { model.answer(socket).await });
            }
        });
        model
    }

    /// What tells the product to use it.
    pub(crate) fn settings(base: &str) -> Vec<(&str, &str)> {
        vec![("OXIOS_ENGINE__DEFAULT_MODEL", "openai/scripted"), ("OXIOS_ENGINE__BASE_URL", base), ("OPENAI_API_KEY", "none")]
    }

    /// Answers this many at once, whoever asks.
    pub(crate) fn answer_at_once(&self, count: usize) {
        self.go.add_permits(count);
    }

    /// Waits until all have asked, and lets them have their answers.
    pub(crate) async fn speak(&self) {
        let streams = self.speech.streams;
        self.asked.acquire_many(u32::try_from(streams).unwrap()).await.unwrap().forget();
        self.go.add_permits(streams);
    }

    /// Milliseconds since each of the pieces in this text left.
    pub(crate) fn ages(&self, text: &str) -> Vec<f64> {
        let now = self.epoch.elapsed();
        let marks = text.split('<').skip(1).filter_map(|rest| rest.split_once('>')?.0.parse().ok());
        marks.map(|nanos| now.saturating_sub(Duration::from_nanos(nanos)).as_secs_f64() * 1e3).collect()
    }

    async fn answer(&self, socket: TcpStream) -> Option<()> {
        socket.set_nodelay(true).ok()?;
        let mut socket = BufReader::new(socket);
        let mut length = 0;
        loop {
            let mut line = String::new();
            socket.read_line(&mut line).await.ok()?;
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
            if line.trim().is_empty() {
                break;
            }
        }
        socket.read_exact(&mut vec![0; length]).await.ok()?;
        self.asked.add_permits(1);
        self.go.acquire().await.ok()?.forget();
        // Not all at the same moment.
        let place = self.count.fetch_add(1, Ordering::Relaxed) % self.speech.streams;
        sleep(self.speech.every * u32::try_from(place).ok()? / u32::try_from(self.speech.streams).ok()?).await;
        socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n").await.ok()?;
        let mut ticks = tokio::time::interval(self.speech.every);
        for _ in 0..self.speech.pieces {
            ticks.tick().await;
            let mark = self.epoch.elapsed().as_nanos();
            let event = format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"<{mark}> \"}}}}]}}\n\n");
            socket.write_all(event.as_bytes()).await.ok()?;
        }
        ticks.tick().await;
        self.ended.wait().await;
        let end = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":8}}\n\ndata: [DONE]\n\n";
        socket.write_all(end.as_bytes()).await.ok()
    }
}
