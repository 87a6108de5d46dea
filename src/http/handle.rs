//! What a request and the connection on which it came know of each other: where it comes from, that the request waits,
//! that the connection is to be broken on purpose or may be closed.

use parking_lot::{Mutex, MutexGuard};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;
use tokio::time::Instant;

/// The end of a connection, instead of whatever would be sent on it next.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Break {
    /// It is closed, as by a program that ended.
    Close,
    /// It is reset, as by a machine that lost it.
    Reset,
}

/// A connection, as a request that came on it sees it.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionHandle(Arc<Connection>);

#[derive(Debug)]
struct Connection {
    address: SocketAddr,
    broken: OnceLock<Break>,
    held: AtomicUsize,
    stage: Mutex<Stage>,
    /// Since when the request that is worked on may be lost.
    given_up: Mutex<Option<Instant>>,
    /// How many requests and answers have begun on it.
    begun: AtomicU64,
    is_trusted: AtomicBool,
    /// Told whenever it becomes idle.
    idle: Arc<Notify>,
}

/// What a connection is doing.
#[derive(Debug, Clone, Copy)]
enum Stage {
    /// No whole head of a request has come since then.
    Idle(Instant),
    /// A request is read and worked on.
    Called,
    /// Its answer is sent.
    Answered,
}

impl ConnectionHandle {
    /// The connection from `address`. `idle` is told whenever it becomes idle.
    pub(super) fn new(address: SocketAddr, idle: Arc<Notify>) -> Self {
        Self(Arc::new(Connection {
            address,
            broken: OnceLock::new(),
            held: AtomicUsize::new(0),
            stage: Mutex::new(Stage::Idle(Instant::now())),
            given_up: Mutex::default(),
            begun: AtomicU64::new(0),
            is_trusted: AtomicBool::new(false),
            idle,
        }))
    }

    /// Who is at the other end.
    pub(crate) fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// Ends the connection as soon as something is to be sent on it.
    pub(crate) fn break_off(&self, how: Break) {
        // The first one counts.
        let _ = self.0.broken.set(how);
    }

    pub(super) fn broken(&self) -> Option<Break> {
        self.0.broken.get().copied()
    }

    /// Until the hold is dropped, nothing happens on it, and it is kept.
    pub(crate) fn hold(&self) -> Hold {
        self.0.held.fetch_add(1, Ordering::Relaxed);
        Hold(self.clone())
    }

    pub(super) fn is_held(&self) -> bool {
        self.0.held.load(Ordering::Relaxed) > 0
    }

    /// A request has begun. It lasts until what is returned is dropped.
    pub(super) fn begin(&self) -> Call {
        *self.given_up() = None;
        *self.stage() = Stage::Called;
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        Call(self.clone())
    }

    /// How many requests and answers have begun.
    pub(super) fn begun(&self) -> u64 {
        self.0.begun.load(Ordering::Relaxed)
    }

    /// Nothing is left to be sent, and nothing came: where no request is worked on, it is idle. Whether it is.
    pub(super) fn rests(&self) -> bool {
        let mut stage = self.stage();
        match *stage {
            Stage::Idle(_) => true,
            Stage::Called => false,
            Stage::Answered => {
                *stage = Stage::Idle(Instant::now());
                self.0.idle.notify_one();
                true
            }
        }
    }

    /// The request that is worked on is a stranger's: it may be lost where the connection's place is needed.
    pub(crate) fn give_up(&self) {
        self.given_up().get_or_insert_with(Instant::now);
        self.0.idle.notify_one();
    }

    /// Whether no request is worked on, and no answer sent.
    pub(super) fn is_idle(&self) -> bool {
        matches!(*self.stage(), Stage::Idle(_))
    }

    /// Since when it may be closed for another, if it may: it is idle, or given up.
    pub(super) fn closable_since(&self) -> Option<Instant> {
        if let Stage::Idle(since) = *self.stage() { Some(since) } else { *self.given_up() }
    }

    /// Its client may call: it has shown the key, where there is one.
    pub(crate) fn trust(&self) {
        self.0.is_trusted.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_trusted(&self) -> bool {
        self.0.is_trusted.load(Ordering::Relaxed)
    }

    fn given_up(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.given_up.lock()
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.0.stage.lock()
    }
}

/// A request that is worked on.
pub(super) struct Call(ConnectionHandle);

impl Drop for Call {
    fn drop(&mut self) {
        *self.0.stage() = Stage::Answered;
        self.0.0.begun.fetch_add(1, Ordering::Relaxed);
    }
}

/// A call that waits.
pub(crate) struct Hold(ConnectionHandle);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.0.held.fetch_sub(1, Ordering::Relaxed);
    }
}
