//! Accepts and serves connections. Slow clients are disconnected, idle ones make room for others, and none can delay the
//! shutdown.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::select;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};
use tower::ServiceExt;

use super::connection_handle::ConnectionHandle;
use super::open_connections::OpenConnections;
use super::paced::PacedStream;
use super::page::with_headers;
use crate::resources::is_shortage;

/// Maximum size of a request's head, in bytes: what an unauthenticated client can make us keep in memory.
const MAX_HEAD: usize = 16 << 10;
/// Pause in accepting if the system lacks resources and no connection can be closed.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

/// Time-outs and capacity of a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionLimits {
    /// Time for the head of a request to arrive; and for its body to arrive and its answer to be read, not counting the time
    /// that their bytes take at the minimum rate.
    pub(crate) client_timeout: Duration,
    /// Time for active requests to finish when the server stops.
    pub(crate) stop_timeout: Duration,
    /// Maximum number of connections. A new one replaces an idle one, or waits if there is none.
    pub(crate) max_connections: usize,
}

/// Serves until `stopped` completes. Connections that are still open after the time-out end with the runtime.
pub(crate) async fn serve(listener: TcpListener, router: Router, limits: ConnectionLimits, stopped: impl Future) {
    let connections = OpenConnections::new(limits.max_connections);
    let graceful = GracefulShutdown::new();
    let mut stopped = pin!(stopped);
    loop {
        let (stream, address) = select! {
            _ = &mut stopped => break,
            accepted = accept(&listener, &connections) => accepted,
        };
        select! {
            _ = &mut stopped => break,
            () = connections.make_room() => {}
        }
        // On failure, answers are only slower.
        let _ = stream.set_nodelay(true);
        let handle = ConnectionHandle::new(address, connections.changed());
        let stream = PacedStream::new(stream, handle.clone(), limits.client_timeout);
        connections.start(
            handle.clone(),
            serve_connection(stream, handle, router.clone(), limits.client_timeout, graceful.watcher()),
        );
    }
    // Accept no more connections.
    drop(listener);
    let _ = timeout(limits.stop_timeout, graceful.shutdown()).await;
}

/// Accepts the next client. If the system lacks resources for it, closes idle connections.
async fn accept(listener: &TcpListener, connections: &Arc<OpenConnections>) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            // That client has disconnected.
            Err(error) if is_client_error(&error) => {}
            // Let the closed connection's task end.
            Err(error) if is_shortage(&error) && connections.evict_one() => yield_now().await,
            Err(_) => sleep(SHORTAGE_PAUSE).await,
        }
    }
}

fn is_client_error(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionRefused
            | ErrorKind::Interrupted
    )
}

/// Answers the requests of one client until the server shuts down.
async fn serve_connection(
    stream: PacedStream,
    handle: ConnectionHandle,
    router: Router,
    timeout: Duration,
    watcher: Watcher,
) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let call = handle.begin_request();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(handle.clone()));
        let answer = router.clone().oneshot(request);
        async move {
            let answer = answer.await;
            drop(call);
            answer.map(with_headers)
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(timeout).max_buf_size(MAX_HEAD);
    // Errors of a connection are the client's.
    let _ = watcher.watch(http.serve_connection(TokioIo::new(stream), service)).await;
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream as Client;
    use std::thread::{self, JoinHandle};
    use std::time::Instant;

    use axum::routing::{get, post};
    use tokio::runtime::Builder;
    use tokio::sync::oneshot;

    use super::*;

    const LIMITS: ConnectionLimits = ConnectionLimits {
        client_timeout: Duration::from_millis(100),
        stop_timeout: Duration::from_millis(50),
        max_connections: 1,
    };

    /// More than the system takes for a client that does not read.
    const LONG: usize = 64 << 20;

    /// Another client of the same server.
    fn another(client: &Client) -> Client {
        let another = Client::connect(client.peer_addr().unwrap()).unwrap();
        another.set_read_timeout(client.read_timeout().unwrap()).unwrap();
        another
    }

    /// Stops the server when it is dropped.
    type Stop = oneshot::Sender<()>;

    /// A server that answers what it is sent, and a client that gives a test up rather than wait for ever.
    fn start(limits: ConnectionLimits) -> (Client, Stop, JoinHandle<()>) {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let client = Client::connect(listener.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let held = |ConnectInfo(connection): ConnectInfo<ConnectionHandle>| async move {
            let _pause = connection.pause_timeout();
            sleep(3 * LIMITS.client_timeout).await;
            "held"
        };
        let long = get(|| async { "x".repeat(LONG) });
        let router =
            Router::new().route("/held", get(held)).route("/long", long).fallback(post(|body: String| async { body }));
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || runtime.block_on(serve(listener, router, limits, stopped)));
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
        let (mut client, _stop, _) = start(LIMITS);
        assert!(is_closed(&mut client));
    }

    #[test]
    fn a_client_that_trickles_is_left() {
        let (mut client, _stop, _) = start(LIMITS);
        client.set_read_timeout(Some(LIMITS.client_timeout / 10)).unwrap();
        client.write_all(b"POST / HTTP/1.1\r\nX-Long: ").unwrap();
        let start = Instant::now();
        // Each turn waits a tenth of the time-out for an answer, and then sends a little more.
        while !is_closed(&mut client) && client.write_all(b"b").is_ok() {
            assert!(start.elapsed() < Duration::from_secs(10));
        }
    }

    #[test]
    fn a_client_beyond_the_last_place_gets_that_of_one_that_is_idle() {
        let (mut silent, _stop, _) = start(ConnectionLimits { client_timeout: Duration::from_secs(30), ..LIMITS });
        let mut next = another(&silent);
        next.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").unwrap();
        read_until(&mut next, "hello");
        assert!(is_closed(&mut silent));
        // It is idle itself now, though it was answered.
        let mut last = another(&next);
        last.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").unwrap();
        read_until(&mut last, "hello");
        assert!(is_closed(&mut next));
    }

    #[test]
    fn a_client_beyond_the_last_place_waits_where_all_are_busy() {
        let (mut busy, _stop, _) = start(ConnectionLimits { client_timeout: Duration::from_secs(30), ..LIMITS });
        busy.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").unwrap();
        read_until(&mut busy, "100 Continue\r\n\r\n");
        let mut next = another(&busy);
        next.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").unwrap();
        next.set_read_timeout(Some(LIMITS.client_timeout)).unwrap();
        assert_eq!(next.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        busy.write_all(b"hello").unwrap();
        read_until(&mut busy, "hello");
        next.set_read_timeout(busy.read_timeout().unwrap()).unwrap();
        read_until(&mut next, "hello");
    }

    #[test]
    fn a_client_that_takes_its_answer_in_drops_is_left() {
        let (mut client, _stop, _) = start(LIMITS);
        client.write_all(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let started = Instant::now();
        let (mut buffer, mut read) = ([0; 100], 0);
        // What the system has taken for it is not kept either.
        let ended = loop {
            match client.read(&mut buffer) {
                Ok(more) => read += more,
                Err(error) => break error,
            }
            assert!(started.elapsed() < Duration::from_secs(60), "{read} bytes were taken, and there are more");
            thread::sleep(Duration::from_millis(1));
        };
        assert_eq!(ended.kind(), ErrorKind::ConnectionReset);
    }

    #[test]
    fn a_client_that_sends_slowly_but_steadily_is_kept() {
        // On a busy machine, a pause may be several times what was asked for.
        const LIMITS: ConnectionLimits =
            ConnectionLimits { client_timeout: Duration::from_millis(500), ..super::tests::LIMITS };
        let (mut client, _stop, _) = start(LIMITS);
        client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n").unwrap();
        let started = Instant::now();
        for _ in 0..20 {
            client.write_all(&[b'x'; 1000]).unwrap();
            thread::sleep(LIMITS.client_timeout / 5);
        }
        read_until(&mut client, "xxx");
        assert!(started.elapsed() > 3 * LIMITS.client_timeout);
    }

    #[test]
    fn every_answer_tells_browsers_to_do_nothing_with_it() {
        let (first, _stop, _) = start(ConnectionLimits { max_connections: 10, ..LIMITS });
        for (request, status) in [
            ("GET /held HTTP/1.1\r\nHost: a\r\n\r\n", "200"),
            ("PUT / HTTP/1.1\r\nHost: a\r\n\r\n", "405"),
            ("nonsense\r\n\r\n", "400"),
            (&format!("GET / HTTP/1.1\r\nX-Long: {}\r\n\r\n", "x".repeat(MAX_HEAD)), "431"),
        ] {
            let mut client = another(&first);
            // The answer may come before the end of the request.
            let _ = client.write_all(request.as_bytes());
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\n") && answer.len() < 2000 {
                let mut byte = [0];
                client.read_exact(&mut byte).unwrap();
                answer.push(byte[0]);
            }
            let answer = String::from_utf8(answer).unwrap().to_lowercase();
            assert!(answer.starts_with(&format!("http/1.1 {status} ")), "{answer}");
            for header in [
                "x-content-type-options: nosniff",
                "cache-control: no-store",
                "content-security-policy: default-src 'none'",
            ] {
                assert_eq!(answer.matches(header).count(), 1, "{header} in {answer}");
            }
        }
    }

    #[test]
    fn a_busy_client_is_kept() {
        let (mut client, _stop, _) = start(LIMITS);
        let start = Instant::now();
        while start.elapsed() < 3 * LIMITS.client_timeout {
            client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").unwrap();
            read_until(&mut client, "hello");
        }
    }

    #[test]
    fn a_client_whose_call_is_held_is_kept() {
        let (mut client, _stop, _) = start(LIMITS);
        client.write_all(b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        read_until(&mut client, "held");
        assert!(is_closed(&mut client), "and then it is as any other");
    }

    #[test]
    fn a_client_that_hangs_does_not_hold_up_the_end() {
        let (mut client, stop, thread) = start(ConnectionLimits { client_timeout: Duration::from_secs(30), ..LIMITS });
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
