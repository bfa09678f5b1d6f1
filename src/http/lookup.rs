//! Names of hosts to addresses, by the system's resolver.
//!
//! The resolver blocks its thread for as long as a name server is silent, ten seconds and more, and cannot be stopped; whoever waited
//! may be gone by then. The threads are those that files are written on. So a name is looked up once for all who wait for it, and few
//! names at a time: a dead uplink does not stop what needs none.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{Semaphore, watch};

use crate::base::blocking;

/// Names that are looked up at the same time; each holds one of the process's sixteen threads for blocking work.
const NAMES_AT_ONCE: usize = 4;
/// Names that may wait for their look-up: more than a configuration has; whoever can name hosts must not fill the memory with them.
const NAMES_WAITING_MAX: usize = 64;

/// The addresses, or why there are none.
pub(super) type Found = Result<Arc<[IpAddr]>, Arc<str>>;
/// Asks the system; blocks.
type Resolve = fn(&str) -> io::Result<Vec<IpAddr>>;

/// The look-ups of one client.
pub(super) struct Lookups {
    resolve: Resolve,
    places: Arc<Semaphore>,
    /// By name; the value comes when the resolver has answered.
    running: Mutex<HashMap<String, watch::Receiver<Option<Found>>>>,
}

impl Default for Lookups {
    fn default() -> Self {
        Self::by(|host| Ok((host, 0).to_socket_addrs()?.map(|address| address.ip()).collect()))
    }
}

impl Lookups {
    fn by(resolve: Resolve) -> Self {
        Self { resolve, places: Arc::new(Semaphore::new(NAMES_AT_ONCE)), running: Mutex::default() }
    }

    /// The addresses of a host, in the resolver's order; an address is its own. May be dropped at any time.
    pub(super) async fn find(self: &Arc<Self>, host: &str) -> Found {
        if let Ok(address) = host.parse() {
            return Ok(Arc::new([address]));
        }
        let mut answer = self.begin(host)?;
        let found = answer.wait_for(Option::is_some).await;
        found.ok().and_then(|found| found.clone()).unwrap_or_else(|| Err("the look-up did not come to its end".into()))
    }

    /// The look-up of this name that is under way, or a new one.
    fn begin(self: &Arc<Self>, host: &str) -> Result<watch::Receiver<Option<Found>>, Arc<str>> {
        let mut running = self.running();
        if let Some(answer) = running.get(host) {
            return Ok(answer.clone());
        }
        if running.len() >= NAMES_WAITING_MAX {
            return Err("too many names wait to be looked up".into());
        }
        let (tell, answer) = watch::channel(None);
        running.insert(host.to_owned(), answer.clone());
        drop(running);
        let (lookups, name) = (self.clone(), host.to_owned());
        // Ends with the resolver. Of its own: the next who asks is to find it, whoever began it and is gone.
        tokio::spawn(async move {
            let place = lookups.places.clone().acquire_owned().await;
            let (resolve, host) = (lookups.resolve, name.clone());
            let found = blocking::spawn(move || {
                let found = resolve(&host);
                drop(place);
                found
            });
            let found: Found = match found.await {
                Ok(Ok(addresses)) => Ok(addresses.into()),
                Ok(Err(error)) => Err(error.to_string().into()),
                Err(lost) => Err(lost.to_string().into()),
            };
            lookups.running().remove(&name);
            tell.send_replace(Some(found));
        });
        Ok(answer)
    }

    fn running(&self) -> MutexGuard<'_, HashMap<String, watch::Receiver<Option<Found>>>> {
        self.running.lock().unwrap_or_else(|e| e.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Condvar;
    use std::time::Duration;

    use super::*;

    /// How often the resolver was asked for a dead name, and whether name servers answer again.
    static DEAD: (Mutex<(usize, bool)>, Condvar) = (Mutex::new((0, false)), Condvar::new());

    fn resolve(host: &str) -> io::Result<Vec<IpAddr>> {
        if host.starts_with("dead") {
            let mut state = DEAD.0.lock().unwrap();
            state.0 += 1;
            DEAD.1.notify_all();
            drop(DEAD.1.wait_while(state, |state| !state.1).unwrap());
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(vec!["192.0.2.7".parse().unwrap()])
    }

    /// Name servers answer again, whatever becomes of the test: a thread that waits would keep the process.
    struct Answers;

    impl Drop for Answers {
        fn drop(&mut self) {
            DEAD.0.lock().unwrap_or_else(|e| e.into_inner()).1 = true;
            DEAD.1.notify_all();
        }
    }

    #[test]
    fn silent_name_servers_hold_a_few_threads_and_no_more() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().max_blocking_threads(NAMES_AT_ONCE + 1).build().unwrap();
        runtime.block_on(async {
            let answers = Answers;
            let lookups = Arc::new(Lookups::by(resolve));
            assert_eq!(lookups.find("alive").await.unwrap().len(), 1);
            // Thirty runs ask for one dead name, others for more of them than there are places.
            let names = (0..30).map(|_| "dead".to_owned()).chain((0..NAMES_AT_ONCE + 2).map(|n| format!("dead-{n}")));
            let waiting: Vec<_> = names
                .map(|name| {
                    let lookups = lookups.clone();
                    tokio::spawn(async move { lookups.find(&name).await })
                })
                .collect();
            while DEAD.0.lock().unwrap().0 < NAMES_AT_ONCE {
                tokio::task::yield_now().await;
            }
            // There is a thread left for the store, and addresses need none.
            let store = blocking::spawn(|| DEAD.0.lock().unwrap().0);
            let asked = tokio::time::timeout(Duration::from_secs(10), store).await;
            assert_eq!(asked.expect("a thread is left"), Ok(NAMES_AT_ONCE));
            assert_eq!(*lookups.find("::1").await.unwrap(), ["::1".parse::<IpAddr>().unwrap()]);
            for n in 0.. {
                // Whoever waits may go; the name stays until it is answered.
                let place = lookups.begin(&format!("dead-more-{n}"));
                if place.is_err() {
                    break;
                }
                assert!(n < NAMES_WAITING_MAX, "there is an end of waiting names");
            }
            drop(answers);
            for found in waiting {
                found.await.unwrap().unwrap_err();
            }
            assert_eq!(lookups.find("alive").await.unwrap().len(), 1);
        });
    }
}
