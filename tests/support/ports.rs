//! Ports for what has to listen on one that is known before, or on the same one again.

use std::net::TcpStream;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the ports that systems give to outgoing connections and to whoever binds port 0: while a server is down, its
/// port must not become another test's.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

/// A port that nobody listens on, and that this process hands out once.
pub(crate) fn free_port() -> u16 {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(fastrand::u16(..)));
    let mut ports = (0..COUNT).map(|_| FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT);
    // To listen there for a moment would keep it busy for longer, if another test forks in that moment.
    ports.find(|port| TcpStream::connect(("127.0.0.1", *port)).is_err()).expect("all ports are taken")
}
