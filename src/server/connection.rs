//! Connections, served with patience: one on which nothing gets done is closed, and none holds up the end.

use std::future::IntoFuture;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::line::{Breakable, Line};

/// How long the server waits for clients.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For each part of a request.
    pub(super) client: Duration,
    /// For requests in flight, once it is asked to stop.
    pub(super) stop: Duration,
    /// How many clients may be connected; further ones wait until one goes or is left.
    pub(super) connections: usize,
}

/// Serves until `stopped` is over. Connections that are still open then end with the runtime.
pub(super) async fn serve(listener: TcpListener, router: Router, patience: Patience, stopped: impl Future) {
    let (drain, drained) = oneshot::channel::<()>();
    let places = Arc::new(Semaphore::new(patience.connections));
    let listener = PatientListener { listener, patience: patience.client, places };
    let service = router.into_make_service_with_connect_info::<Line>();
    let serve = axum::serve(listener, service).with_graceful_shutdown(async {
        let _ = drained.await;
    });
    let serving = tokio::spawn(serve.into_future());
    stopped.await;
    drop(drain);
    let _ = timeout(patience.stop, serving).await;
}

/// Accepts connections that are closed after `patience` without progress.
pub(super) struct PatientListener {
    listener: TcpListener,
    patience: Duration,
    places: Arc<Semaphore>,
}

impl Listener for PatientListener {
    type Io = Patient;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        // It is never closed, so that there is a place in the end.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.listener).await;
        // Where the system refuses, answers are slower and as right.
        let _ = stream.set_nodelay(true);
        (Patient { _place: place, ..Patient::new(Breakable::new(stream), self.patience) }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A stream with a deadline for whatever happens next: a request must begin, be sent whole and answered, and its
/// answer be taken, each within `patience`. Bytes that trickle in do not put the deadline off; a call that waits does.
pub(super) struct Patient {
    stream: Breakable,
    patience: Duration,
    deadline: Pin<Box<Sleep>>,
    /// The last thing that happened was an answer: what comes in now begins a request.
    answered: bool,
    /// Free again when the stream is dropped.
    _place: Option<OwnedSemaphorePermit>,
}

impl Patient {
    fn new(stream: Breakable, patience: Duration) -> Self {
        Self { stream, patience, deadline: Box::pin(sleep(patience)), answered: true, _place: None }
    }

    pub(super) fn line(&self) -> &Line {
        self.stream.line()
    }

    fn start_again(&mut self, answered: bool) {
        self.answered = answered;
        self.deadline.as_mut().reset(Instant::now() + self.patience);
    }

    /// What to say where the stream is not ready.
    fn pending<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        while self.deadline.as_mut().poll(context).is_ready() {
            if !self.line().is_held() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.start_again(self.answered);
        }
        Poll::Pending
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        match Pin::new(&mut this.stream).poll_read(context, buffer) {
            Poll::Ready(result) => {
                if this.answered {
                    this.start_again(false);
                }
                Poll::Ready(result)
            }
            Poll::Pending => this.pending(context),
        }
    }
}

impl Patient {
    fn written(&mut self, context: &mut Context<'_>, poll: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if poll.is_pending() {
            return self.pending(context);
        }
        self.start_again(true);
        poll
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.written(context, poll)
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream as Client;
    use std::thread::{self, JoinHandle};
    use std::time::Instant;

    use axum::extract::ConnectInfo;
    use axum::routing::{get, post};
    use tokio::runtime::Builder;

    use super::*;

    const PATIENCE: Patience =
        Patience { client: Duration::from_millis(100), stop: Duration::from_millis(50), connections: 1 };

    /// Stops the server when it is dropped.
    type Stop = oneshot::Sender<()>;

    /// A server that answers what it is sent, and a client that gives a test up rather than wait for ever.
    fn start(patience: Patience) -> (Client, Stop, JoinHandle<()>) {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let client = Client::connect(listener.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let held = |ConnectInfo(line): ConnectInfo<Line>| async move {
            let _hold = line.hold();
            sleep(3 * PATIENCE.client).await;
            "held"
        };
        let router = Router::new().route("/held", get(held)).fallback(post(|body: String| async { body }));
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || runtime.block_on(serve(listener, router, patience, stopped)));
        (client, stop, thread)
    }

    /// Reads until `end` has come.
    fn read_until(client: &mut Client, end: &str) {
        let mut answer = Vec::new();
        while !answer.ends_with(end.as_bytes()) {
            let mut buffer = [0; 512];
            let count = client.read(&mut buffer).unwrap();
            assert_ne!(count, 0, "closed after {}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&buffer[..count]);
        }
    }

    /// Reads until the server closes the connection.
    fn is_closed(client: &mut Client) -> bool {
        match client.read_to_end(&mut Vec::new()) {
            Ok(_) => true,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    #[test]
    fn a_silent_client_is_left() {
        let (mut client, _stop, _) = start(PATIENCE);
        assert!(is_closed(&mut client));
    }

    #[test]
    fn a_client_that_trickles_is_left() {
        let (mut client, _stop, _) = start(PATIENCE);
        client.set_read_timeout(Some(PATIENCE.client / 10)).unwrap();
        client.write_all(b"POST / HTTP/1.1\r\nX-Long: ").unwrap();
        let start = Instant::now();
        // Each turn waits a tenth of the patience for an answer, and then sends a little more.
        while !is_closed(&mut client) && client.write_all(b"b").is_ok() {
            assert!(start.elapsed() < Duration::from_secs(10));
        }
    }

    #[test]
    fn a_client_beyond_the_last_place_waits_for_one() {
        let begun = Instant::now();
        let (silent, _stop, _) = start(PATIENCE);
        let mut next = Client::connect(silent.peer_addr().unwrap()).unwrap();
        next.set_read_timeout(silent.read_timeout().unwrap()).unwrap();
        next.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").unwrap();
        read_until(&mut next, "hello");
        assert!(begun.elapsed() >= PATIENCE.client, "the silent one was left first");
    }

    #[test]
    fn a_busy_client_is_kept() {
        let (mut client, _stop, _) = start(PATIENCE);
        let start = Instant::now();
        while start.elapsed() < 3 * PATIENCE.client {
            client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").unwrap();
            read_until(&mut client, "hello");
        }
    }

    #[test]
    fn a_client_whose_call_is_held_is_kept() {
        let (mut client, _stop, _) = start(PATIENCE);
        client.write_all(b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        read_until(&mut client, "held");
        assert!(is_closed(&mut client), "and then it is as any other");
    }

    #[test]
    fn a_client_that_hangs_does_not_hold_up_the_end() {
        let (mut client, stop, thread) = start(Patience { client: Duration::from_secs(30), ..PATIENCE });
        client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").unwrap();
        // Now the request is in flight, and its body never comes.
        read_until(&mut client, "100 Continue\r\n\r\n");
        let start = Instant::now();
        drop(stop);
        thread.join().unwrap();
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        assert!(is_closed(&mut client));
    }
}
