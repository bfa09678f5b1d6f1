//! The supervisor's watchdog is fed by evidence: the server has just answered itself over its own socket, and the disk an easy
//! question. A process that only has a timer left is not alive.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::base::blocking;
use crate::base::cancel::Cancel;
use crate::base::limits::HEALTH_BYTES_MAX;
use crate::base::log;
use crate::http::client::{Client, ClientSettings, Outgoing};
use crate::http::place::Place;
use crate::sys::disk::Disk;
use crate::sys::notify::Supervisor;

/// Of the time that the supervisor waits: sd_watchdog_enabled(3) recommends to feed twice in it.
const EVERY: u32 = 2;
/// Of that time, how long one probe may take; so there is room for a second one before it is over.
const PATIENCE: u32 = 5;
/// Of that time, the pause behind a probe that failed at once.
const PAUSE: u32 = 20;

/// Feeds the supervisor's watchdog until `stop`, where it has one.
pub(super) async fn keep_feeding(supervisor: Supervisor, address: String, disk: Arc<dyn Disk>, home: PathBuf, stop: Cancel) {
    let Some(period) = supervisor.watchdog() else { return };
    let Some(place) = Place::parse(&address) else {
        return log::error("watchdog", format_args!("{address} cannot be called; the watchdog is not fed"));
    };
    let probe = Arc::new(Probe { client: Client::new(ClientSettings::default()), place, disk, home, looking: AtomicBool::new(false) });
    let patience = period / PATIENCE;
    let tell = |told: Told<'_>| match told {
        Told::Alive => supervisor.alive(),
        Told::Sick(why) => {
            log::warn("watchdog", format_args!("not fed: {why}"));
            supervisor.status(format_args!("not well: {why}"));
        }
        Told::Recovered => supervisor.status(format_args!("serving at {address} again")),
    };
    // It ends in the middle of a probe, too: the server that would answer is going.
    let _ = stop.guard(feed(period, || probe.clone().run(patience), tell)).await;
}

/// What the supervisor hears.
enum Told<'a> {
    /// The probe succeeded.
    Alive,
    /// It failed.
    Sick(&'a str),
    /// It succeeds again.
    Recovered,
}

/// Probes for ever, twice in a period, and tells what came of it. A probe that takes longer than its share of the period has failed.
async fn feed<F: Future<Output = Result<(), String>>>(period: Duration, probe: impl Fn() -> F, tell: impl Fn(Told<'_>)) {
    let mut sick = false;
    loop {
        let begun = Instant::now();
        let found = timeout(period / PATIENCE, probe()).await;
        match found.unwrap_or_else(|_| Err(format!("no answer within {} s", (period / PATIENCE).as_secs_f32()))) {
            Ok(()) => {
                if std::mem::take(&mut sick) {
                    tell(Told::Recovered);
                }
                tell(Told::Alive);
                sleep_until(begun + period / EVERY).await;
            }
            Err(why) => {
                sick = true;
                tell(Told::Sick(&why));
                sleep(period / PAUSE).await;
            }
        }
    }
}

/// What is tried.
struct Probe {
    client: Client,
    place: Place,
    disk: Arc<dyn Disk>,
    home: PathBuf,
    /// A look at the disk is under way; where one hangs, no second one joins it.
    looking: AtomicBool,
}

impl Probe {
    async fn run(self: Arc<Self>, patience: Duration) -> Result<(), String> {
        tokio::try_join!(self.answers(patience), self.disk_moves()).map(|_| ())
    }

    /// `GET /health` over a new connection, as a stranger.
    async fn answers(&self, patience: Duration) -> Result<(), String> {
        let outgoing = Outgoing {
            target: self.place.target().map_err(|e| e.to_string())?,
            method: Method::GET,
            path_and_query: "/health".to_owned(),
            headers: Vec::new(),
            body: Bytes::new(),
            connect: patience,
            first_byte: patience,
            between: patience,
        };
        let answer = self.client.send(outgoing).await.map_err(|e| e.public)?;
        if answer.status != StatusCode::OK {
            return Err(format!("it answers {}", answer.status.as_u16()));
        }
        answer.collect(HEALTH_BYTES_MAX).await.map(|_| ()).map_err(|e| e.public)
    }

    /// The threads that the store works on take work, and the home's file system answers.
    async fn disk_moves(self: &Arc<Self>) -> Result<(), String> {
        if self.looking.swap(true, Ordering::Relaxed) {
            return Err("the disk has not answered yet".to_owned());
        }
        let probe = self.clone();
        let looked = blocking::spawn(move || {
            let looked = probe.disk.stat(&probe.home);
            probe.looking.store(false, Ordering::Relaxed);
            looked
        });
        match looked.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(format!("the home cannot be looked at: {error}")),
            Err(lost) => Err(lost.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicU32;

    use super::*;

    const PERIOD: Duration = Duration::from_secs(20);

    /// Runs for so long; says at which second what was told.
    async fn told_within<F: Future<Output = Result<(), String>>>(seconds: u64, probe: impl Fn() -> F) -> Vec<(u64, &'static str)> {
        let begin = Instant::now();
        let told = Mutex::new(Vec::new());
        let tell = |what: Told<'_>| {
            let word = match what {
                Told::Alive => "alive",
                Told::Sick(_) => "sick",
                Told::Recovered => "again",
            };
            told.lock().unwrap().push((begin.elapsed().as_secs(), word));
        };
        let _ = timeout(Duration::from_secs(seconds), feed(PERIOD, probe, tell)).await;
        told.into_inner().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_fed_twice_in_its_period_while_the_probe_is_answered() {
        let probe = || async {
            sleep(Duration::from_secs(2)).await;
            Ok(())
        };
        assert_eq!(told_within(35, probe).await, [(2, "alive"), (12, "alive"), (22, "alive"), (32, "alive")]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_hangs_stops_the_feeding_and_one_that_failed_once_does_not_cost_the_period() {
        // The second probe hangs: the third is early enough, 15 s after the first.
        let count = AtomicU32::new(0);
        let probe = || async { if count.fetch_add(1, Ordering::Relaxed) == 1 { std::future::pending().await } else { Ok(()) } };
        assert_eq!(told_within(20, probe).await, [(0, "alive"), (14, "sick"), (15, "again"), (15, "alive")]);
        // For ever: nothing more is fed.
        let count = AtomicU32::new(0);
        let probe = || async { if count.fetch_add(1, Ordering::Relaxed) > 0 { std::future::pending().await } else { Ok(()) } };
        let told = told_within(600, probe).await;
        assert!(told.len() > 100 && told[1..].iter().all(|(_, word)| *word == "sick"), "{told:?}");
    }

    /// A server that answers everything so.
    async fn answering(reply: &'static str) -> Place {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = Place::Tcp(listener.local_addr().unwrap());
        // Ends with the test's runtime.
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let _ = socket.read(&mut [0; 1024]).await;
                let _ = socket.write_all(reply.as_bytes()).await;
            }
        });
        place
    }

    fn probe(place: Place, disk: Arc<dyn Disk>) -> Arc<Probe> {
        let client = Client::new(ClientSettings::default());
        Arc::new(Probe { client, place, disk, home: std::env::temp_dir(), looking: AtomicBool::new(false) })
    }

    #[tokio::test]
    async fn only_an_answer_of_health_counts() {
        let patience = Duration::from_secs(20);
        for (reply, good) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", true),
            ("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", false),
            ("HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{}", false),
            ("no HTTP\r\n\r\n", false),
        ] {
            let probe = probe(answering(reply).await, Arc::new(crate::sys::disk::RealDisk));
            assert_eq!(probe.run(patience).await.is_ok(), good, "{reply}");
        }
    }

    #[tokio::test]
    async fn a_look_at_the_disk_that_hangs_is_not_joined_by_another() {
        let place = answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        let probe = probe(place, Arc::new(crate::sys::disk::RealDisk));
        probe.looking.store(true, Ordering::Relaxed);
        let patience = Duration::from_secs(20);
        assert_eq!(probe.clone().run(patience).await.unwrap_err(), "the disk has not answered yet");
        probe.looking.store(false, Ordering::Relaxed);
        assert_eq!(probe.clone().run(patience).await, Ok(()));
        assert!(!probe.looking.load(Ordering::Relaxed), "the next look may begin");
    }
}
