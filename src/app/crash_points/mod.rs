//! Every crash point: the house runs a script of everything that writes, on a disk in memory that keeps a moment of every call.
//! For every call the next process is started on what a kill leaves before, within and behind it, and on what a power cut
//! leaves, and has to say what a plain model says: acknowledged means there, in order, once; a number that a reader saw means
//! what it meant; nothing needs a hand, and the start never fails.
//!
//! The script runs once. What the call leaves is taken from its moment, so that its work is not done again for each.

mod check;
mod conversations;
mod house;
mod ledger;
mod rooms;
mod runs;
mod script;
mod skills;
mod talk;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::base::time::{Clock, ManualClock, Timestamp};
use crate::store::testing::conversation::Stop;
use crate::store::testing::dice;
use crate::sys::memory_disk::{MemoryDisk, Moment};
use check::{Check, Looked};
use ledger::Ledger;

/// How a process ends at a call.
#[derive(Debug, Clone, Copy)]
enum End {
    /// Killed behind it.
    Killed,
    /// Killed within it, with so many bytes of its write there.
    Within(usize),
    /// The power was cut behind it: all that was not durable is gone.
    PowerCut,
    /// The same, and of what was not durable some is there, by this seed.
    PowerCutBy(u64),
}

/// The script and its moments.
struct Recorded {
    ledger: Ledger,
    moments: Vec<Moment>,
    /// The time when it ended.
    end: Timestamp,
}

impl Recorded {
    async fn new() -> Self {
        let (disk, clock) = (MemoryDisk::default(), Arc::new(ManualClock::at(Timestamp::from_millis(1_800_000_000_000))));
        disk.record();
        let ledger = script::run(&disk, &clock).await;
        Self { ledger, moments: disk.take_moments(), end: clock.now() }
    }

    /// Every way to end at every call.
    fn ends(&self) -> Vec<(usize, End)> {
        let mut ends = Vec::new();
        for (k, moment) in self.moments.iter().enumerate() {
            let bytes = moment.written();
            // A byte of it, half of it, all but a byte: in turns.
            let part = [1, bytes / 2, bytes.saturating_sub(1)][k % 3];
            let within = (k > 0 && (1..bytes).contains(&part)).then_some(End::Within(part));
            ends.extend(within.into_iter().chain([End::Killed, End::PowerCut, End::PowerCutBy(k as u64)]).map(|end| (k, end)));
        }
        ends
    }

    /// What such an end leaves; `None` where it is what the call before left, and nothing was answered since.
    fn left(&self, k: usize, end: End) -> Option<(MemoryDisk, Stop)> {
        let (moment, before) = (&self.moments[k], k.checked_sub(1).map(|k| &self.moments[k]));
        let power_cut = matches!(end, End::PowerCut | End::PowerCutBy(_));
        let behind = |k: usize| Stop { ended: k + 1, begun: k + 1, power_cut };
        let anew = |left: MemoryDisk, before: Option<MemoryDisk>| {
            let known =
                before.is_some_and(|before| before.same_files(&left) && self.ledger.facts(behind(k - 1)) == self.ledger.facts(behind(k)));
            (!known).then_some((left, behind(k)))
        };
        match end {
            End::Killed => anew(moment.killed(), before.map(Moment::killed)),
            End::PowerCut => anew(moment.power_cut(), before.map(Moment::power_cut)),
            End::PowerCutBy(seed) => {
                let left = moment.power_cut_by(&mut dice(seed));
                (!left.same_files(&moment.power_cut())).then_some((left, behind(k)))
            }
            End::Within(bytes) => Some((moment.killed_within(before?, bytes)?, Stop { ended: k, begun: k + 1, power_cut })),
        }
    }

    /// Starts the next process behind this end, and for some of the ends another one behind a power cut; tells how often.
    async fn check(&self, k: usize, end: End, looked: &Looked) -> Result<usize, String> {
        let Some((disk, at)) = self.left(k, end) else { return Ok(0) };
        let (ledger, mut seen) = (&self.ledger, BTreeMap::new());
        Check { disk: &disk, at, ledger, end: self.end, looked }.run(1000, &mut seen).await?;
        if !k.is_multiple_of(12) || at.power_cut {
            return Ok(1);
        }
        let (disk, at) = (disk.power_cut(), Stop { power_cut: true, ..at });
        let again = Check { disk: &disk, at, ledger, end: self.end, looked };
        again.run(1001, &mut seen).await.map_err(|e| format!("and then a power cut: {e}"))?;
        Ok(2)
    }
}

#[tokio::test]
async fn every_crash_point_leaves_what_was_acknowledged_and_needs_no_hand() {
    let recorded = Recorded::new().await;
    let ends = recorded.ends();
    let (next, checked, wrong) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(Vec::new()));
    let (started, looked) = (Instant::now(), Looked::default());
    let work = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        while let Some((k, end)) = ends.get(next.fetch_add(1, Relaxed)) {
            match runtime.block_on(recorded.check(*k, *end, &looked)) {
                Ok(n) => drop(checked.fetch_add(n, Relaxed)),
                Err(what) => wrong.lock().unwrap().push(format!("{end:?} at call {k} ({}): {what}", recorded.moments[*k].what)),
            }
        }
    };
    std::thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(work))));
    let (calls, checked, wrong) = (recorded.moments.len(), checked.into_inner(), wrong.into_inner().unwrap());
    #[expect(clippy::print_stdout, reason = "a test's output")]
    {
        println!("measured crash points: {checked} starts behind {calls} calls in {:?}", started.elapsed());
    }
    assert!(wrong.is_empty(), "{} of the ends left something wrong:\n{}", wrong.len(), wrong[..wrong.len().min(60)].join("\n"));
    assert!(calls >= 200 && checked >= 2 * calls, "{checked} starts behind {calls} calls");
}
