//! One connection's socket with its time limits: header time, idle time, and time without progress while writing.
//!
//! hyper's own header timer counts an idle connection's waiting as header time and cannot answer 408, so the clock is
//! here, below hyper: the state of the connection is known from what passes through. Bytes that are no request never
//! reach a service; what hyper would answer to them (empty, without a request id) is replaced by the service's answer.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::AbortHandle;
use tokio::time::{Instant, Sleep};

use crate::base::limits::{STRANGER_REQUEST_EVERY_MS, STRANGER_REQUESTS_AT_ONCE};
use crate::http::connection::Service;
use crate::http::crowd::Seat;
use crate::http::error::{ErrorStatus, HttpError};
use crate::http::peer::Peer;
use crate::http::socket::Socket;
use crate::http::turnstile::Visitor;

/// From the first byte of a request to the end of its head; for the first request from accept on.
pub const HEADER_TIME: Duration = Duration::from_secs(10);
/// A connection that waits for its next request.
pub const IDLE_TIME: Duration = Duration::from_secs(75);
/// A peer that takes nothing while we have something to send.
pub const WRITE_TIME: Duration = Duration::from_secs(30);
/// Whoever is known shows it again within this time, or the next answer is the last one: a key that was revoked keeps no place by
/// asking for what needs none.
const KNOWN_TIME: Duration = Duration::from_secs(75);
/// After the last answer unread input is taken in for this long: closing on it would reset the answer away.
const LINGER_TIME: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 256 * 1024;
/// So much of it in one go; then whoever else is ready comes.
const LINGER_BYTES_AT_ONCE: usize = 32 * 1024;

/// Where a connection stands. Written by its own task only (service, body and socket all live in it).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// Accepted; nothing has come.
    New,
    /// A request's head is on its way.
    Head,
    /// A request is being answered.
    Busy,
    /// The answer is made; its last bytes may still wait for the peer.
    Ending,
    /// Between requests.
    Idle,
    /// Upgraded: another protocol keeps its own time.
    Open,
}

/// What socket, service and answer of one connection share.
pub struct Line {
    peer: Peer,
    /// Its place among all connections.
    seat: Seat,
    phase: AtomicU8,
    linger: AtomicBool,
    /// Bytes have come since the last request, or the last look.
    heard: AtomicBool,
    /// Where hyper leaves the socket: a request asked for another protocol and did not get it.
    declined: Mutex<Option<OnUpgrade>>,
    born: Instant,
    /// A stranger's requests are paid for up to this time, in ms since `born`.
    paid: AtomicU64,
    /// When it was last [`Line::known`], in ms since `born`.
    shown: AtomicU64,
}

/// What a request has to let pass before it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing.
    Now,
    /// Whoever else is ready.
    AfterOthers,
    /// Time.
    At(Instant),
}

impl Line {
    pub(super) fn new(peer: Peer, seat: Seat) -> Arc<Self> {
        Arc::new(Self {
            peer,
            seat,
            phase: AtomicU8::new(Phase::New as u8),
            linger: AtomicBool::new(false),
            heard: AtomicBool::new(false),
            declined: Mutex::default(),
            born: Instant::now(),
            paid: AtomicU64::new(0),
            shown: AtomicU64::new(0),
        })
    }

    /// Its task runs.
    pub(super) fn begun(&self) {
        self.seat.seen();
    }

    pub(super) fn visitor(&self) -> Visitor {
        self.seat.visitor()
    }

    /// Each of its steps needs a pass: it is a stranger's, and there are many of them.
    pub(super) fn needs_pass(&self) -> bool {
        self.seat.is_stranger() && self.seat.is_crowded()
    }

    /// When it is the turn of a request that has come. Who is known is answered at once. A stranger who sends many in one go, ears
    /// shut, lets others come between any two of them; and while it is crowded there is a rate.
    pub(super) fn turn(&self) -> Turn {
        let heard = self.heard.swap(false, Ordering::Relaxed);
        if !self.seat.is_stranger() {
            return Turn::Now;
        }
        if self.seat.is_crowded() {
            let now = self.now();
            let paid = self.paid.load(Ordering::Relaxed).max(now);
            self.paid.store(paid.saturating_add(STRANGER_REQUEST_EVERY_MS), Ordering::Relaxed);
            let from = paid.saturating_sub((STRANGER_REQUESTS_AT_ONCE - 1) * STRANGER_REQUEST_EVERY_MS);
            if from > now {
                return Turn::At(self.born + Duration::from_millis(from));
            }
        }
        if heard { Turn::Now } else { Turn::AfterOthers }
    }

    /// The other end.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// A request on this connection was authenticated: it is no stranger any more, where there is room for one more who is known.
    pub fn known(&self) {
        self.seat.known();
        self.shown.store(self.now(), Ordering::Relaxed);
    }

    /// It was [`Self::known`] before.
    pub fn is_known(&self) -> bool {
        !self.seat.is_stranger()
    }

    /// It was known, and neither a request that came at `begun` (see [`Self::now`]) nor those of some time before it have shown so.
    pub(super) fn is_known_no_more(&self, begun: u64) -> bool {
        let since = begun.saturating_sub(self.shown.load(Ordering::Relaxed));
        self.is_known() && Duration::from_millis(since) > KNOWN_TIME
    }

    /// In ms since it was accepted.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The server says that it closes, whatever more may come.
    pub(super) fn linger(&self) {
        self.linger.store(true, Ordering::Relaxed);
    }

    pub(super) fn busy(&self) {
        self.seat.busy();
        self.set(Phase::Busy);
    }

    /// It is new, or a request's head is on its way.
    pub(super) fn awaits_request(&self) -> bool {
        matches!(self.phase(), Phase::New | Phase::Head)
    }

    pub(super) fn answered(&self) {
        if self.phase() == Phase::Busy {
            self.set(Phase::Ending);
        }
    }

    /// The answer to a request that asked for another protocol was another one.
    pub(super) fn declined(&self, on: OnUpgrade) {
        *self.declined.lock().unwrap_or_else(|e| e.into_inner()) = Some(on);
    }

    /// Where the socket is, once hyper has done with it.
    pub(super) fn left_at(&self) -> Option<OnUpgrade> {
        self.declined.lock().unwrap_or_else(|e| e.into_inner()).take()
    }

    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::New,
            1 => Phase::Head,
            2 => Phase::Busy,
            3 => Phase::Ending,
            4 => Phase::Idle,
            _ => Phase::Open,
        }
    }

    fn set(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }
}

/// The socket below hyper (and below WebSockets after an upgrade).
pub(super) struct Guarded {
    socket: Socket,
    line: Arc<Line>,
    /// Answers bytes that are no request; gone after an upgrade.
    service: Option<Arc<dyn Service>>,
    /// One timer for whichever limit comes first. It may fire early: the deadlines below decide.
    timer: Pin<Box<Sleep>>,
    /// The phase that `read_by` belongs to.
    timed: Phase,
    read_by: Option<Instant>,
    write_by: Option<Instant>,
    /// The request line of the head that is on its way has ended.
    line_ended: bool,
    ended: Ended,
    /// What the peer has not taken yet of a refusal.
    owed: Vec<u8>,
    lingered: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    No,
    /// The peer has closed its side.
    ByPeer,
    /// Time ran out, or a refusal was sent: hyper gets an end of file.
    ByUs,
}

impl Guarded {
    pub(super) fn new(socket: Socket, line: Arc<Line>, service: Arc<dyn Service>) -> Self {
        let header_by = Instant::now() + HEADER_TIME;
        Self {
            socket,
            line,
            service: Some(service),
            timer: Box::pin(tokio::time::sleep_until(header_by)),
            timed: Phase::New,
            read_by: Some(header_by),
            write_by: None,
            line_ended: false,
            ended: Ended::No,
            owed: Vec::new(),
            lingered: 0,
        }
    }

    /// What hyper hands over, with what it has read already.
    pub(super) fn handed_over(upgraded: Upgraded) -> Option<(Self, Bytes)> {
        let parts = upgraded.downcast::<TokioIo<Self>>().ok()?;
        Some((parts.io.into_inner(), parts.read_buf))
    }

    /// The connection speaks another protocol from now on, which keeps its own time for reading, in this task.
    pub(super) fn opened(&mut self, task: AbortHandle) {
        self.line.seat.opened(task);
        self.line.set(Phase::Open);
        self.service = None;
    }

    /// Bytes have come since the last look.
    pub(super) fn has_heard(&self) -> bool {
        self.line.heard.swap(false, Ordering::Relaxed)
    }

    /// Closing waits shortly for unread input to end.
    pub(super) fn linger(&self) {
        self.line.linger();
    }

    /// `deadline` has passed; if not, the task is woken then (or earlier).
    fn is_over(&mut self, deadline: Instant, cx: &mut Context<'_>) -> bool {
        loop {
            if self.timer.deadline() > deadline {
                self.timer.as_mut().reset(deadline);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return false;
            }
            if Instant::now() >= deadline {
                return true;
            }
            self.timer.as_mut().reset(deadline);
        }
    }

    /// Nothing came: is the time for it over?
    fn is_read_over(&mut self, cx: &mut Context<'_>) -> bool {
        let phase = self.line.phase();
        if phase != self.timed {
            // A new connection's header time goes on when its first byte comes.
            if !(self.timed == Phase::New && phase == Phase::Head) {
                self.read_by = match phase {
                    Phase::Head => Some(Instant::now() + HEADER_TIME),
                    // Its time is set where it begins.
                    Phase::Idle => self.read_by,
                    Phase::New | Phase::Busy | Phase::Ending | Phase::Open => None,
                };
            }
            self.timed = phase;
        }
        self.read_by.is_some_and(|deadline| self.is_over(deadline, cx))
    }

    /// Bytes came: which part of a request are they?
    fn on_read(&mut self, bytes: &[u8]) {
        self.line.heard.store(true, Ordering::Relaxed);
        match self.line.phase() {
            _ if bytes.is_empty() => self.ended = Ended::ByPeer,
            Phase::New | Phase::Idle => {
                self.line.set(Phase::Head);
                self.line_ended = bytes.contains(&b'\n');
            }
            Phase::Head => self.line_ended |= bytes.contains(&b'\n'),
            Phase::Busy | Phase::Ending | Phase::Open => {}
        }
    }

    /// hyper answers by itself: no request of this connection waits for an answer.
    fn is_refusal(&self) -> bool {
        self.service.is_some() && matches!(self.line.phase(), Phase::New | Phase::Head | Phase::Idle)
    }

    /// Sends the service's answer to bytes that are no request; hyper gets an end of file when it is sent.
    fn refuse(&mut self, cx: &mut Context<'_>, error: HttpError) {
        if self.ended != Ended::ByUs {
            self.ended = Ended::ByUs;
            self.line.linger();
            if let Some(service) = &self.service {
                self.owed = super::connection::encode(service.refuse(&self.line, error.closing()));
                // What does not fit, or goes wrong, is met again by hyper's next call.
                let _ = self.poll_owed(cx);
            }
        }
    }

    /// Ready when nothing of a refusal is left to send. Answers before it may fill the socket's buffer: half a refusal is none.
    fn poll_owed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.owed.is_empty() {
            let result = Pin::new(&mut self.socket).poll_write(cx, &self.owed);
            self.wrote(&result, cx)?;
            match ready!(result)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                taken => drop(self.owed.drain(..taken)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// What hyper was about to say, in our words.
    fn translate(&self, answer: &[u8]) -> HttpError {
        match answer.get(9..12) {
            Some(b"414") => too_long(),
            // hyper counts the request line as header bytes.
            Some(b"431") if !self.line_ended => too_long(),
            Some(b"431") => too_many_fields(),
            _ => HttpError::new(ErrorStatus::BadRequest, "malformed", "not a well-formed HTTP/1.1 request"),
        }
    }

    fn wrote(&mut self, result: &Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Result<(), io::Error> {
        match result {
            Poll::Ready(_) => self.write_by = None,
            Poll::Pending => {
                let deadline = *self.write_by.get_or_insert_with(|| Instant::now() + WRITE_TIME);
                if self.is_over(deadline, cx) {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
        }
        Ok(())
    }
}

/// 414 for a target over [`crate::base::limits::TARGET_BYTES_MAX`].
pub(super) fn too_long() -> HttpError {
    HttpError::new(ErrorStatus::UriTooLong, "target_too_long", "the request target is limited to 8 KiB").closing()
}

/// 431 for more fields than [`crate::base::limits::HEADER_FIELDS_MAX`], or longer ones than [`crate::base::limits::HEADER_BYTES_MAX`].
pub(super) fn too_many_fields() -> HttpError {
    let public = "header fields are limited to 64 and 16 KiB in all";
    HttpError::new(ErrorStatus::HeaderFieldsTooLarge, "headers_too_large", public).closing()
}

impl AsyncRead for Guarded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.ended == Ended::ByUs {
            return this.poll_owed(cx);
        }
        let before = buf.filled().len();
        match Pin::new(&mut this.socket).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                this.on_read(buf.filled().get(before..).unwrap_or_default());
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending if this.is_read_over(cx) => {
                if this.line.phase() == Phase::Head {
                    this.refuse(cx, HttpError::new(ErrorStatus::RequestTimeout, "header_time", "the request head took longer than 10 s"));
                }
                this.ended = Ended::ByUs;
                this.poll_owed(cx)
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.is_refusal() {
            let error = this.translate(buf);
            this.refuse(cx, error);
            return Poll::Ready(Ok(buf.len()));
        }
        let result = Pin::new(&mut this.socket).poll_write(cx, buf);
        this.wrote(&result, cx)?;
        result
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.is_refusal() {
            let error = this.translate(bufs.first().map(|b| &**b).unwrap_or_default());
            this.refuse(cx, error);
            return Poll::Ready(Ok(bufs.iter().map(|b| b.len()).sum()));
        }
        let result = Pin::new(&mut this.socket).poll_write_vectored(cx, bufs);
        this.wrote(&result, cx)?;
        result
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes when it has nothing left to write.
        if self.line.phase() == Phase::Ending {
            self.line.set(Phase::Idle);
            let now = Instant::now();
            self.line.seat.rests(now);
            (self.timed, self.read_by) = (Phase::Idle, Some(now + IDLE_TIME));
            // hyper has asked for input before this moment and will not ask again until it is woken: by this timer.
            let _ = self.is_over(now + IDLE_TIME, cx);
        }
        ready!(self.poll_owed(cx))?;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(this.poll_owed(cx))?;
        ready!(Pin::new(&mut this.socket).poll_shutdown(cx))?;
        if !this.line.linger.load(Ordering::Relaxed) || this.ended == Ended::ByPeer {
            return Poll::Ready(Ok(()));
        }
        // RFC 9112 §9.6: close in stages, or a reset may take the answer away before the client has read it.
        let deadline = *this.write_by.get_or_insert_with(|| Instant::now() + LINGER_TIME);
        let mut scratch = [0; 4096];
        let pause = this.lingered + LINGER_BYTES_AT_ONCE;
        loop {
            if this.lingered >= pause {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let mut buf = ReadBuf::new(&mut scratch);
            match Pin::new(&mut this.socket).poll_read(cx, &mut buf) {
                Poll::Pending if this.is_over(deadline, cx) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => {
                    this.lingered += buf.filled().len();
                    if buf.filled().is_empty() || this.lingered > LINGER_BYTES_MAX {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }
}
