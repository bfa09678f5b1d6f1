//! Where strangers are many, they are served a few at a time, and whoever else is ready comes in between. Without it a client that
//! is known would stand in one queue with hundreds of them, at each step of its request.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;

use crate::base::limits::STRANGERS_A_TURN;

/// Hands out passes: one lets a stranger's task run once.
#[derive(Default)]
pub(super) struct Turnstile {
    /// Taken for moments, by strangers only.
    queue: Mutex<Queue>,
    /// Somebody took a pass or waits for one.
    asked: Notify,
}

#[derive(Default)]
struct Queue {
    /// Left of this turn.
    passes: usize,
    /// First come, first served.
    waiting: VecDeque<(Pass, Waker)>,
}

/// True as soon as it is handed out. Nobody wants it any more when only the queue holds it.
type Pass = Arc<AtomicBool>;

impl Turnstile {
    /// Hands out passes for ever; sleeps while nobody asks for one.
    pub(super) async fn turn(&self) {
        loop {
            self.asked.notified().await;
            loop {
                // Behind all who are ready now, and after a look at the sockets.
                tokio::task::yield_now().await;
                if !self.hand_out() {
                    break;
                }
            }
        }
    }

    /// The passes of one turn; false where nobody wanted any.
    fn hand_out(&self) -> bool {
        let mut wakers = Vec::with_capacity(STRANGERS_A_TURN);
        {
            let mut queue = self.queue();
            queue.passes = STRANGERS_A_TURN;
            while queue.passes > 0 {
                let Some((pass, waker)) = queue.waiting.pop_front() else { break };
                if Arc::strong_count(&pass) > 1 {
                    pass.store(true, Ordering::Relaxed);
                    queue.passes -= 1;
                    wakers.push(waker);
                }
            }
        }
        let wanted = !wakers.is_empty();
        wakers.into_iter().for_each(Waker::wake);
        wanted
    }

    /// None: go. Else the pass to wait for; `waker` is woken with it.
    fn ask(&self, waker: &Waker) -> Option<Pass> {
        let mut queue = self.queue();
        let pass = match queue.passes.checked_sub(1) {
            Some(left) => {
                queue.passes = left;
                None
            }
            None => {
                let pass = Pass::default();
                queue.waiting.push_back((pass.clone(), waker.clone()));
                Some(pass)
            }
        };
        drop(queue);
        self.asked.notify_one();
        pass
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// Somebody who may have to wait for a pass; one for each task.
pub(super) struct Visitor {
    turnstile: Arc<Turnstile>,
    waiting: Option<Pass>,
}

impl Visitor {
    pub(super) fn new(turnstile: Arc<Turnstile>) -> Self {
        Self { turnstile, waiting: None }
    }

    /// Ready when the task may run: at once, or with a pass where it `must` have one. It is one task from its beginning to its end, so
    /// that who is woken stays the same.
    pub(super) fn poll_turn(&mut self, must: bool, cx: &mut Context<'_>) -> Poll<()> {
        self.waiting = match self.waiting.take() {
            Some(pass) if pass.load(Ordering::Relaxed) => None,
            Some(pass) => Some(pass),
            None if must => self.turnstile.ask(cx.waker()),
            None => None,
        };
        if self.waiting.is_some() { Poll::Pending } else { Poll::Ready(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::sync::atomic::AtomicUsize;
    use std::task::ready;

    use super::*;

    /// Needs a pass whenever it runs, or never.
    async fn visit(turnstile: Arc<Turnstile>, must: bool, runs: Arc<AtomicUsize>) {
        let (mut visitor, mut inner) = (Visitor::new(turnstile), pin!(busy(runs)));
        poll_fn(|cx| {
            ready!(visitor.poll_turn(must, cx));
            inner.as_mut().poll(cx)
        })
        .await;
    }

    /// Is always ready for more.
    async fn busy(runs: Arc<AtomicUsize>) {
        loop {
            runs.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn who_is_known_waits_for_a_few_strangers_only() {
        for must in [true, false] {
            let (turnstile, runs) = (Arc::new(Turnstile::default()), Arc::new(AtomicUsize::new(0)));
            let mut tasks = tokio::task::JoinSet::new();
            for _ in 0..300 {
                tasks.spawn(visit(turnstile.clone(), must, runs.clone()));
            }
            let turning = turnstile.clone();
            tasks.spawn(async move { turning.turn().await });
            let mut most = 0;
            for _ in 0..1000 {
                let before = runs.load(Ordering::Relaxed);
                tokio::task::yield_now().await;
                most = most.max(runs.load(Ordering::Relaxed) - before);
            }
            let all = runs.load(Ordering::Relaxed);
            if must {
                assert!(most <= 2 * STRANGERS_A_TURN, "{most} strangers were served between two steps");
                assert!(all >= 500 * STRANGERS_A_TURN, "but served they are: {all} times");
            } else {
                assert!(most > 3 * STRANGERS_A_TURN, "this is what it is there for: {most}");
            }
        }
    }

    #[tokio::test]
    async fn every_stranger_comes_to_its_turn_and_who_is_gone_holds_up_nobody() {
        let turnstile = Arc::new(Turnstile::default());
        let runs: Vec<_> = (0..100).map(|_| Arc::new(AtomicUsize::new(0))).collect();
        let mut tasks: Vec<_> = runs.iter().map(|runs| tokio::spawn(visit(turnstile.clone(), true, runs.clone()))).collect();
        let turning = turnstile.clone();
        tasks.push(tokio::spawn(async move { turning.turn().await }));
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        for gone in &tasks[..90] {
            gone.abort();
        }
        for _ in 0..40 {
            tokio::task::yield_now().await;
        }
        let before: Vec<_> = runs.iter().map(|runs| runs.load(Ordering::Relaxed)).collect();
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
        let more: Vec<_> = runs.iter().zip(before).map(|(runs, before)| runs.load(Ordering::Relaxed) - before).collect();
        assert!(more[..90].iter().all(|more| *more == 0), "{more:?}");
        assert!(more[90..].iter().all(|more| *more >= 50), "{more:?}");
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}
