//! Ports for servers whose port must be known in advance or be used again.

use std::net::TcpStream;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range of outgoing connections and of port 0, so that the port of a stopped server does not become another
/// test's.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

/// Returns a port on which nobody listens; this process returns it only once.
pub(crate) fn free_port() -> u16 {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(fastrand::u16(..)));
    let mut ports = (0..COUNT).map(|_| FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT);
    // Binding it to check would keep it busy if another test forks at that moment.
    ports.find(|port| TcpStream::connect(("127.0.0.1", *port)).is_err()).expect("all ports are taken")
}
