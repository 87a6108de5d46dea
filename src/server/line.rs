//! What a call and the connection it came on know of each other: where it comes from, that the one waits, that the other
//! is to be broken on purpose or may be closed.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The end of a connection, instead of whatever would be sent on it next.
#[derive(Debug, Clone, Copy)]
pub(super) enum Break {
    /// It is closed, as by a program that ended.
    Close,
    /// It is reset, as by a machine that lost it.
    Reset,
}

/// A connection, for a call that came on it.
#[derive(Debug, Clone)]
pub(super) struct Line(Arc<State>);

#[derive(Debug)]
struct State {
    address: SocketAddr,
    broken: OnceLock<Break>,
    held: AtomicUsize,
    phase: Mutex<Phase>,
    /// Since when the request that is worked on may be lost.
    given_up: Mutex<Option<Instant>>,
    /// How many requests have begun on it, and how many answers.
    turns: AtomicU64,
    is_trusted: AtomicBool,
    /// Told whenever it becomes idle.
    idle: Arc<Notify>,
}

/// What a connection is doing.
#[derive(Debug, Clone, Copy)]
enum Phase {
    /// No whole head of a request has come since then.
    Idle(Instant),
    /// A request is read and worked on.
    Called,
    /// Its answer is sent.
    Answered,
}

impl Line {
    /// The line to `address`. `idle` is told whenever nothing is being done for it.
    pub(super) fn new(address: SocketAddr, idle: Arc<Notify>) -> Self {
        Self(Arc::new(State {
            address,
            broken: OnceLock::new(),
            held: AtomicUsize::new(0),
            phase: Mutex::new(Phase::Idle(Instant::now())),
            given_up: Mutex::default(),
            turns: AtomicU64::new(0),
            is_trusted: AtomicBool::new(false),
            idle,
        }))
    }

    /// Who is at the other end.
    pub(super) fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// Nothing more is sent on it.
    pub(super) fn break_off(&self, how: Break) {
        // Where it is broken already, it stays so.
        let _ = self.0.broken.set(how);
    }

    /// Until the hold is dropped, nothing happens on it, and it is kept.
    pub(super) fn hold(&self) -> Hold {
        self.0.held.fetch_add(1, Ordering::Relaxed);
        Hold(self.clone())
    }

    pub(super) fn is_held(&self) -> bool {
        self.0.held.load(Ordering::Relaxed) > 0
    }

    /// A request has begun. It lasts until what is returned is dropped.
    pub(super) fn begin(&self) -> Call {
        *self.given_up() = None;
        *self.phase() = Phase::Called;
        self.0.turns.fetch_add(1, Ordering::Relaxed);
        Call(self.clone())
    }

    /// How many requests and answers have begun.
    pub(super) fn turns(&self) -> u64 {
        self.0.turns.load(Ordering::Relaxed)
    }

    /// Nothing is left to be sent, and nothing came: where no request is worked on, it is idle. Whether it is.
    pub(super) fn rests(&self) -> bool {
        let mut phase = self.phase();
        match *phase {
            Phase::Idle(_) => true,
            Phase::Called => false,
            Phase::Answered => {
                *phase = Phase::Idle(Instant::now());
                self.0.idle.notify_one();
                true
            }
        }
    }

    /// The request that is worked on is a stranger's: it may be lost where the connection's place is needed.
    pub(super) fn give_up(&self) {
        self.given_up().get_or_insert_with(Instant::now);
        self.0.idle.notify_one();
    }

    /// Whether no request is worked on, and no answer sent.
    pub(super) fn is_idle(&self) -> bool {
        matches!(*self.phase(), Phase::Idle(_))
    }

    /// Since when it may be closed for another, if it may: it is idle, or given up.
    pub(super) fn closable_since(&self) -> Option<Instant> {
        if let Phase::Idle(since) = *self.phase() { Some(since) } else { *self.given_up() }
    }

    /// Its client may call: it has shown the key, where there is one.
    pub(super) fn trust(&self) {
        self.0.is_trusted.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_trusted(&self) -> bool {
        self.0.is_trusted.load(Ordering::Relaxed)
    }

    fn given_up(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.given_up.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.0.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is worked on.
pub(super) struct Call(Line);

impl Drop for Call {
    fn drop(&mut self) {
        *self.0.phase() = Phase::Answered;
        self.0.0.turns.fetch_add(1, Ordering::Relaxed);
    }
}

/// A call that waits.
pub(super) struct Hold(Line);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.0.held.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The stream of a line.
pub(super) struct Breakable {
    stream: TcpStream,
    line: Line,
}

impl Breakable {
    pub(super) fn new(stream: TcpStream, line: Line) -> Self {
        Self { stream, line }
    }

    pub(super) fn line(&self) -> &Line {
        &self.line
    }

    /// What was sent and not taken is forgotten when the stream is dropped: the system would keep it as long as the client
    /// takes a little.
    pub(super) fn forget_unsent(&self) {
        // Where that cannot be, it ends with the client.
        let _ = self.stream.set_zero_linger();
    }

    /// Fails where the line is broken. The stream is dropped for it, and so closed.
    fn check(&self) -> io::Result<()> {
        match self.line.0.broken.get() {
            None => return Ok(()),
            Some(Break::Close) => {}
            Some(Break::Reset) => self.stream.set_zero_linger()?,
        }
        Err(io::ErrorKind::ConnectionAborted.into())
    }
}

impl AsyncRead for Breakable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Breakable {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
