//! HTTP server for the embedded TaskManager and the status endpoint, with time-outs for slow clients, and the frame of
//! their pages.
//!
//! Each server has a thread with a runtime; large calls of the TaskManager use a second one.

mod accept_loop;
mod connection_handle;
mod open_connections;
mod paced;
pub(crate) mod page;

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};

use axum::http::{HeaderMap, header};
use tokio::runtime;
use tokio::sync::oneshot;

pub(crate) use accept_loop::{ConnectionLimits, serve};
pub(crate) use connection_handle::{Break, ConnectionHandle};

/// Why a server could not be started.
#[derive(Debug)]
pub(crate) enum StartError {
    /// The address is in use.
    AddressInUse(SocketAddr),
    /// The system does not allow listening on the address.
    AddressUnusable { address: SocketAddr, source: io::Error },
    /// The system cannot create the thread or the runtime.
    Thread(io::Error),
}

/// A bound socket that is not served yet.
pub(crate) struct HttpListener {
    socket: TcpListener,
    address: SocketAddr,
}

/// A running server. Dropping it stops it.
pub(crate) struct RunningServer {
    /// `None` once it is stopped.
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl HttpListener {
    pub(crate) fn bind(address: SocketAddr) -> Result<Self, StartError> {
        let bind = || -> io::Result<_> {
            let socket = TcpListener::bind(address)?;
            socket.set_nonblocking(true)?;
            let address = socket.local_addr()?;
            Ok(Self { socket, address })
        };
        bind().map_err(|source| match source.kind() {
            ErrorKind::AddrInUse => StartError::AddressInUse(address),
            _ => StartError::AddressUnusable { address, source },
        })
    }

    /// Returns the address it listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts a thread that runs the future returned by `run`, usually [`serve`]. Its second argument completes when the
    /// server has to stop.
    pub(crate) fn start<F: Future<Output = ()>>(
        self,
        name: &str,
        run: impl FnOnce(tokio::net::TcpListener, oneshot::Receiver<()>) -> F + Send + 'static,
    ) -> Result<RunningServer, StartError> {
        let start = || -> io::Result<_> {
            let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
            let listener = {
                let _context = runtime.enter();
                tokio::net::TcpListener::from_std(self.socket)?
            };
            let (stop, stopped) = oneshot::channel();
            let thread =
                thread::Builder::new().name(name.to_owned()).spawn(move || runtime.block_on(run(listener, stopped)))?;
            Ok(RunningServer { running: Some((stop, thread)) })
        };
        start().map_err(StartError::Thread)
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            drop(stop);
            // If the thread panicked, there is nothing to stop.
            let _ = thread.join();
        }
    }
}

/// Whether the `Host` of a request is localhost or a loopback address. If not, it may be a DNS rebinding attack by a web
/// page.
pub(crate) fn names_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else {
        return true; // HTTP/1.0, which no browser speaks
    };
    let host = host.to_str().unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}
